"""glTF, GLB and OBJ models as `WorldMap`s, read by trimesh; Y up becomes Z up, one model unit is one metre."""

import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import MapError
from server.maps.builder import MeshBuilder
from server.maps.floors import FloorFinder
from server.maps.gltf_check import SpawnNode, heading_degrees, read_gltf_header, side_files, spawn_nodes
from server.maps.limits import COORDINATE_M_MAX, SPAWNS_MAX
from server.maps.spawning import generate_spawns
from server.maps.units import slug, yaw_from_degrees
from sim.arrays import F64
from sim.worldmap import Contents, SpawnPoint, WorldMap

__all__ = ["import_mesh"]

SPAWN_DROP_M = 4.0  # a spawn node this far above a floor stands on it
OBJ_BYTES_MAX = 128 << 20
TEAMS = {"spawn_red": 1, "spawn_blue": 2}


def to_z_up(points: F64) -> F64:
    """Positions with Y up as positions with Z up: a quarter turn about X."""
    return np.column_stack([points[:, 0], -points[:, 2], points[:, 1]])


def _load_scene(data: bytes, kind: str, files: Mapping[str, bytes], source: str) -> Any:
    """A trimesh scene. Whatever trimesh raises on a file means that the file is damaged."""
    import trimesh

    if kind == "obj":
        options = {"skip_materials": True, "split_objects": True, "group_material": False}
    else:
        options = {"skip_materials": True}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return trimesh.load_scene(
                io.BytesIO(data), file_type=kind, resolver=dict(files), allow_remote=False, process=False, **options
            )
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        raise MapError(source, f"{kind} content", detail, "cannot be read; export the model again") from error


def _parts(scene: Any, source: str) -> Iterator[tuple[str, F64, Any]]:
    """(node name, vertices in the world, triangles) of every mesh instance of a scene."""
    for node in sorted(scene.graph.nodes_geometry):
        transform, name = scene.graph[node]
        geometry = scene.geometry.get(name)
        faces = getattr(geometry, "faces", None)
        if faces is None or not len(faces):
            continue
        vertices = np.asarray(geometry.vertices, dtype=np.float64)
        faces = np.asarray(faces, dtype=np.int64)
        if int(faces.min()) < 0 or int(faces.max()) >= len(vertices):
            raise MapError(source, f"triangles of {name!r}", int(faces.max()), f"must be 0 … {len(vertices) - 1}")
        matrix = np.asarray(transform, dtype=np.float64)
        with np.errstate(all="ignore"):
            placed = vertices @ matrix[:3, :3].T + matrix[:3, 3]
            mirrored = np.linalg.det(matrix[:3, :3]) < 0.0
        yield str(node), placed, faces[:, ::-1] if mirrored else faces


def _is_spawn(name: str) -> bool:
    return name.lower().startswith("spawn")


def _spawn(name: str, place: F64, degrees: float, floors: FloorFinder, source: str) -> SpawnPoint:
    if not (np.abs(place) <= COORDINATE_M_MAX).all():
        raise MapError(source, f"spawn {name!r}", place.tolist(), f"must be within {COORDINATE_M_MAX:g} m")
    floor = floors.below(place + np.array([0.0, 0.0, 0.1]), reach=SPAWN_DROP_M)
    height = float(place[2]) if floor is None else floor
    team = next((number for prefix, number in TEAMS.items() if name.lower().startswith(prefix)), 0)
    return SpawnPoint((float(place[0]), float(place[1]), height), yaw_from_degrees(degrees), team)


def import_mesh(path: Path, data: bytes, *, kind: str) -> WorldMap:
    """The model in a glTF, GLB or OBJ file.

    Every triangle is solid. Spawn points are nodes (glTF) or objects (OBJ) whose names start with `spawn`, `spawn_red`
    or `spawn_blue`; their own meshes are left out. Without any, places on walkable floor are made up.

    Args:
        path: Where the file is: glTF buffers beside it are read.
        data: The file's content.
        kind: `gltf`, `glb` or `obj`.

    Raises:
        MapError: The file is damaged, hostile, or has nothing to stand on.
    """
    source = str(path)
    files: dict[str, bytes] = {}
    marks: list[SpawnNode] = []
    if kind == "obj":
        if len(data) > OBJ_BYTES_MAX:
            raise MapError(source, "file size", len(data), f"at most {OBJ_BYTES_MAX} bytes of OBJ are read")
    else:
        document = read_gltf_header(data, source, binary=kind == "glb")
        files = side_files(document, path)
        marks = spawn_nodes(document, source)
    builder = MeshBuilder(source)
    boxes: list[tuple[str, F64]] = []
    for name, vertices, faces in _parts(_load_scene(data, kind, files, source), source):
        if _is_spawn(name):
            low, high = vertices.min(axis=0), vertices.max(axis=0)
            boxes.append((name, np.array([(low[0] + high[0]) / 2.0, low[1], (low[2] + high[2]) / 2.0])))
            continue
        if len(vertices) > builder.vertices_left:
            raise MapError(source, "vertices", len(vertices), "too many; simplify the model")
        builder.add(to_z_up(vertices), faces.astype(np.int32), np.full(len(faces), int(Contents.SOLID), np.uint16))
    mesh_vertices, triangles, contents, _ = builder.mesh()
    floors = FloorFinder(mesh_vertices, triangles, contents)
    if kind == "obj":
        spawns = [_spawn(name, to_z_up(place[None])[0], 0.0, floors, source) for name, place in boxes]
    else:
        spawns = [
            _spawn(name, to_z_up(world[None, :3, 3])[0], heading_degrees(world), floors, source)
            for name, world in marks
        ]
    if len(spawns) > SPAWNS_MAX:
        raise MapError(source, "spawn nodes", len(spawns), f"at most {SPAWNS_MAX} are allowed")
    spawns = spawns or generate_spawns(mesh_vertices, triangles, contents, source=source)
    return WorldMap(slug(path.stem), mesh_vertices, triangles, contents, tuple(spawns))
