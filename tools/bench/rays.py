"""Rays against real maps: line of sight and closest hit, next to Embree on the same rays.

10,000 rays between eye points over the floors of each map, in random order, in one batch call of each side, single
thread. Embree is given only the triangles that the mask selects, as float32; ours takes the whole map and the mask.
`data` may name map files; without it three OpenArena maps are fetched.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from server.maps import load_map
from sim.arrays import F64
from sim.geometry import Geometry
from sim.worldmap import SHOT_MASK, WorldMap
from tools.bench.harness import Row, median_us, row
from tools.errors import ToolsError
from tools.openarena import map_path

__all__ = ["MAPS", "eye_points", "run"]

MAPS = ("aggressor", "wrackdm17", "ctf_inyard")
RAYS = 10_000
EYE_HEIGHT_M = 1.2
SEED = 20_251
TRIES_MAX = 200


def eye_points(world: WorldMap, geometry: Geometry, count: int, rng: np.random.Generator) -> F64:
    """Points at eye height over random floors, with free space from the floor up.

    Raises:
        ToolsError: The map has next to no floor.
    """
    low, high = world.bounds
    corners = geometry.corners.reshape(-1, 3, 3)
    up = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] > 0.0
    found = np.empty((0, 3))
    for _ in range(TRIES_MAX):
        start = rng.uniform(low, high, (count, 3))
        t, triangle = geometry.closest_hit(start, np.tile([0.0, 0.0, -1.0], (count, 1)), mask=SHOT_MASK)
        standing = (triangle >= 0) & up[triangle]
        eyes = start[standing]
        eyes[:, 2] += EYE_HEIGHT_M - t[standing]
        feet = eyes - [0.0, 0.0, EYE_HEIGHT_M - 0.01]
        found = np.concatenate([found, eyes[~geometry.any_hit(feet, eyes, mask=SHOT_MASK)]])
        if len(found) >= count:
            return found[:count]
    raise ToolsError(f"map {world.name}: no floor to put rays over; name another map with --data")


def _embree(geometry: Geometry) -> Any:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene

    chosen = geometry.corners[geometry.contents & SHOT_MASK != 0]
    scene = EmbreeScene()
    TriangleMesh(scene, chosen.reshape(-1, 3, 3).astype(np.float32))
    return scene


def _cases(world: WorldMap) -> list[Row]:
    geometry = Geometry.build(world)
    rng = np.random.default_rng(SEED)
    origins = eye_points(world, geometry, RAYS, rng)
    targets = rng.permutation(origins)
    directions = rng.normal(size=(RAYS, 3))
    scene = _embree(geometry)
    start, between, along = (np.float32(values) for values in (origins, targets - origins, directions))
    reach = np.ones(RAYS, np.float32)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"any-hit {world.name}": (
            lambda: geometry.any_hit(origins, targets, mask=SHOT_MASK),
            lambda: scene.run(start, between, dists=reach, query="OCCLUDED"),
        ),
        f"closest {world.name}": (
            lambda: geometry.closest_hit(origins, directions, mask=SHOT_MASK),
            lambda: scene.run(start, along, query="INTERSECT"),
        ),
    }
    rows = []
    for case, (ours, theirs) in pairs.items():
        times = median_us({"hitreg": ours, "embreex": theirs}, rounds=15)
        per_ray = {name: value / RAYS for name, value in times.items()}
        rows.append(
            row(case, per_ray["hitreg"], unit="µs/ray", reference="embreex", reference_value=per_ray["embreex"])
        )
    return rows


def run(data: Sequence[Path]) -> list[Row]:
    """Any-hit and closest-hit time per ray on each map."""
    paths = list(data) or [map_path(name) for name in MAPS]
    return [entry for path in paths for entry in _cases(load_map(path))]
