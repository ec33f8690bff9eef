"""Spawn points for maps that bring none: spread over the walkable floor, with room to stand, looking at open space."""

import math

import numpy as np

from server.errors import MapError
from server.maps.floors import FloorFinder, TriangleGrid
from server.maps.units import yaw_from_degrees
from sim.arrays import F64, I32, U16
from sim.worldmap import MOVEMENT_MASK, Contents, SpawnPoint

__all__ = ["SPAWNS_WANTED", "generate_spawns"]

SPAWNS_WANTED = 32
CANDIDATES = 512
WALKABLE_UP = 0.7  # cosine of the steepest walkable slope, Quake III's MIN_WALK_NORMAL
BODY_RADIUS_M = 0.45
BODY_HEIGHT_M = 1.5
RING = 8
LEVEL_TOLERANCE_M = 0.35


def _candidates(corner: F64, area: F64) -> F64:
    """Points spread evenly over triangles by area; a low-discrepancy sequence, so a map always gives the same ones."""
    edge = np.cumsum(area)
    step = (np.arange(CANDIDATES) + 0.5) / CANDIDATES
    chosen = np.searchsorted(edge, step * edge[-1]).clip(0, len(area) - 1)
    number = np.arange(1, CANDIDATES + 1)
    u, v = (number * 0.7548776662466927) % 1.0, (number * 0.5698402909980532) % 1.0  # R2 sequence (Roberts 2018)
    fold = u + v > 1.0
    u, v = np.where(fold, 1.0 - u, u), np.where(fold, 1.0 - v, v)
    a, b, c = corner[chosen, 0], corner[chosen, 1], corner[chosen, 2]
    points = a + u[:, None] * (b - a) + v[:, None] * (c - a)
    return np.asarray(points, dtype=np.float64)


def _room(point: F64, floors: FloorFinder, corner: F64, grid: TriangleGrid) -> bool:
    """Whether a body fits at `point`: even floor all around it and no triangle through it."""
    for turn in range(RING):
        angle = turn * math.tau / RING
        around = point + np.array([math.cos(angle), math.sin(angle), 0.0]) * BODY_RADIUS_M
        floor = floors.below(around + np.array([0.0, 0.0, LEVEL_TOLERANCE_M]), reach=2.0 * LEVEL_TOLERANCE_M)
        if floor is None:
            return False
    low = point + np.array([-BODY_RADIUS_M, -BODY_RADIUS_M, LEVEL_TOLERANCE_M])
    high = point + np.array([BODY_RADIUS_M, BODY_RADIUS_M, BODY_HEIGHT_M])
    near = corner[grid.near(low[:2], high[:2])]
    near = near[((near.min(axis=1) <= high) & (near.max(axis=1) >= low)).all(axis=1)]
    return not _any_overlap(near, (low + high) / 2.0, (high - low) / 2.0)


def _any_overlap(corner: F64, centre: F64, half: F64) -> bool:
    """Whether a box touches any triangle (separating axes, Akenine-Möller 2001)."""
    if not len(corner):
        return False
    local = corner - centre
    edges = np.roll(local, -1, axis=1) - local
    apart = np.zeros(len(local), dtype=bool)
    normal = np.cross(edges[:, 0], edges[:, 1])
    for axis in np.eye(3):
        crossed = np.cross(edges, axis)
        for side in range(3):
            span = np.einsum("nkc,nc->nk", local, crossed[:, side])
            reach = (np.abs(crossed[:, side]) * half).sum(axis=1)
            apart |= (span.min(axis=1) > reach) | (span.max(axis=1) < -reach)
    distance = np.abs((normal * local[:, 0]).sum(axis=1))
    apart |= distance > (np.abs(normal) * half).sum(axis=1)
    return bool((~apart).any())


def generate_spawns(
    vertices: F64, triangles: I32, contents: U16, *, source: str, wanted: int = SPAWNS_WANTED
) -> list[SpawnPoint]:
    """Up to `wanted` spawn points, as far from each other as the floor allows (farthest-point sampling, Gonzalez 1985).

    Raises:
        MapError: There is no floor to stand on.
    """
    solid = (contents & MOVEMENT_MASK != 0) & (contents & int(Contents.SKY) == 0)
    corner = vertices[triangles[solid]]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    area = np.linalg.norm(normal, axis=1)
    walkable = normal[:, 2] > WALKABLE_UP * area
    if not walkable.any():
        raise MapError(source, "walkable floor", 0, "nothing faces up (+Z); check the orientation of the triangles")
    floors = FloorFinder(vertices, triangles, contents)
    points = _candidates(corner[walkable], area[walkable])
    grid = TriangleGrid(corner[:, :, :2].min(axis=1), corner[:, :, :2].max(axis=1))
    free = np.array([_room(point, floors, corner, grid) for point in points])
    # Where nothing has room, the widest floor still gives a place: a game decides what to do about a tight map.
    points = points[free] if free.any() else points[:1]
    chosen = [int(np.argmin(np.linalg.norm(points - points.mean(axis=0), axis=1)))]
    distance = np.linalg.norm(points - points[chosen[0]], axis=1)
    while len(chosen) < min(wanted, len(points)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=1))
    middle = points[chosen].mean(axis=0)
    spawns = []
    for index in sorted(chosen):
        x, y, z = (float(value) for value in points[index])
        yaw = yaw_from_degrees(math.degrees(math.atan2(middle[1] - y, middle[0] - x)))
        spawns.append(SpawnPoint((x, y, z), yaw))
    return spawns
