"""Every map of the OpenArena package imports, and collides as it is drawn."""

from pathlib import Path

import numpy as np
import pytest

from server.maps import load_map
from server.maps.bsp_file import FACE_PATCH, FACE_POLYGON, BspFile, read_bsp
from sim.arrays import F64, I64
from sim.worldmap import Contents, TriggerKind, WorldMap

pytestmark = pytest.mark.slow

RAYS = 1000
NEAR_M = 0.05
# These maps draw solid-looking grates and banners that the engine lets everything through, or hold invisible walls.
LOOSE = {"suspended": 0.55, "am_galmevish": 0.9, "ctf_gate1": 0.93, "ps37ctf": 0.96, "oasago2": 0.97}


def drawn_polygons(bsp: BspFile) -> tuple[F64, I64]:
    """Triangles of the world's drawn flat faces with a solid shader [m]: an account apart from the brushes."""
    world = bsp.models[0]
    vertices, triangles, count = [], [], 0
    for face in bsp.faces[world["face_first"] : world["face_first"] + world["face_count"]]:
        if face["type"] != FACE_POLYGON or not bsp.shaders["contents"][face["shader"]] & 1:
            continue
        first, length = int(face["vertex_first"]), int(face["vertex_count"])
        vertices.append(bsp.vertices["position"][first : first + length] / 40.0)
        start = int(face["index_first"])
        triangles.append(bsp.indices[start : start + int(face["index_count"])].reshape(-1, 3).astype(np.int64) + count)
        count += length
    return np.concatenate(vertices).astype(np.float64), np.concatenate(triangles)


def distances(vertices: F64, triangles: np.ndarray, origins: F64, directions: F64) -> F64:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    scene = EmbreeScene()
    TriangleMesh(scene, vertices[triangles].astype(np.float32))
    found = scene.run(origins.astype(np.float32), directions.astype(np.float32), query="DISTANCE")
    return np.asarray(found, dtype=np.float64)


def rays(world: WorldMap) -> tuple[F64, F64]:
    """Origins at the eyes of players at the spawn points, and even directions."""
    random = np.random.default_rng(7)
    places = np.array([spawn.position for spawn in world.spawns]) + np.array([0.0, 0.0, 1.2])
    directions = random.normal(size=(RAYS, 3))
    return places[random.integers(0, len(places), RAYS)], directions / np.linalg.norm(directions, axis=1, keepdims=True)


def inside_brushes(bsp: BspFile, points: F64) -> np.ndarray:
    """Whether each point [m] lies in a solid brush of the world, by the planes themselves."""
    inside = np.zeros(len(points), dtype=bool)
    first, count = int(bsp.models["brush_first"][0]), int(bsp.models["brush_count"][0])
    for brush in bsp.brushes[first : first + count]:
        if bsp.shaders["contents"][brush["shader"]] & 0x10001:
            side = bsp.sides["plane"][brush["side_first"] : brush["side_first"] + brush["side_count"]]
            normal, distance = bsp.planes["normal"][side], bsp.planes["distance"][side]
            inside |= (points * 40.0 @ normal.T < distance - 0.5).all(axis=1)
    return inside


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One case per group of maps, so that a failure names few; the package is only needed when a test runs."""
    if "group" in metafunc.fixturenames:
        metafunc.parametrize("group", range(5))


def test_every_map_imports_and_collides_as_it_is_drawn(openarena: Path, group: int) -> None:
    paths = sorted(openarena.glob("*.bsp"))
    assert len(paths) == 50
    for path in paths[group::5]:
        world = load_map(path, cache=False)
        bsp = read_bsp(path.read_bytes(), path.name)
        solid = (world.contents & int(Contents.SOLID) != 0) & (world.contents & int(Contents.MOVER) == 0)
        origins, directions = rays(world)
        ours = distances(world.vertices, world.triangles[solid], origins, directions)
        assert (ours < 1e4).all(), f"{path.stem}: a ray left the map"
        # Curves are compared nowhere here: rays that meet one, or a drawn curve's hole, are left out by distance.
        drawn = distances(*drawn_polygons(bsp), origins, directions)
        curved = (bsp.faces["type"] == FACE_PATCH).any()
        agree = np.abs(ours - drawn) < NEAR_M
        judged = agree | (ours > drawn) if curved else np.ones(RAYS, dtype=bool)
        share = agree[judged].mean()
        assert share >= LOOSE.get(path.stem, 0.98), f"{path.stem}: {share:.3f} of the rays agree"


def test_spawn_points_lie_in_free_space(openarena: Path) -> None:
    stuck, total = 0, 0
    for path in sorted(openarena.glob("*.bsp"))[::4]:
        world = load_map(path)
        bsp = read_bsp(path.read_bytes(), path.name)
        places = np.array([spawn.position for spawn in world.spawns])
        heads = inside_brushes(bsp, places + np.array([0.0, 0.0, 0.7]))
        stuck, total = stuck + int(heads.sum()), total + len(heads)
        assert not heads.all(), path.stem
    assert total > 200 and stuck <= total // 200, f"{stuck} of {total} spawn points are in solid rock"


def test_entities_of_the_package_become_items_and_triggers(openarena: Path) -> None:
    worlds = [load_map(path) for path in sorted(openarena.glob("*.bsp"))]
    kinds = {item.kind for world in worlds for item in world.items}
    assert {"rocket_launcher", "railgun", "health", "armour", "quad", "flag_red", "ammo_plasma"} <= kinds
    triggers = [trigger for world in worlds for trigger in world.triggers]
    assert sum(trigger.kind == TriggerKind.PUSH for trigger in triggers) > 200
    assert sum(trigger.kind == TriggerKind.TELEPORT for trigger in triggers) > 80
    for trigger in triggers:
        assert all(low < high for low, high in zip(trigger.low, trigger.high, strict=True))
        if trigger.kind == TriggerKind.PUSH:
            assert np.isfinite(trigger.vector).all() and 0.0 < trigger.vector[2] < 80.0
    assert sum(len(world.movers) for world in worlds) > 120
    assert all(world.spawns for world in worlds)
