"""Floors under points, found in plain numpy: importing a map must not depend on the hierarchy that is built from it."""

import numpy as np

from sim.arrays import F64, I32, I64, U16
from sim.worldmap import MOVEMENT_MASK, Contents

__all__ = ["FloorFinder", "TriangleGrid"]

GRID_SIDE_MAX = 1024
CELLS_PER_TRIANGLE_MAX = 64
UP_MIN = 0.05  # steeper triangles are no floor at all


class TriangleGrid:
    """Finds triangles near a place without looking at all of them; big ones are kept in a list of their own.

    Args:
        low: Lowest x, y of each triangle [m], shape (n, 2).
        high: Highest x, y.
    """

    def __init__(self, low: F64, high: F64) -> None:
        self._origin = low.min(axis=0) if len(low) else np.zeros(2)
        extent = float((high.max(axis=0) - self._origin).max()) if len(low) else 1.0
        self._side = int(np.clip(np.sqrt(len(low)), 1, GRID_SIDE_MAX))
        self._cell = max(extent / self._side, 1e-6) * 1.000001
        first, last = self._cells(low), self._cells(high)
        wide = last - first + 1
        count = wide[:, 0] * wide[:, 1]
        self._big = np.flatnonzero(count > CELLS_PER_TRIANGLE_MAX)
        small = np.flatnonzero(count <= CELLS_PER_TRIANGLE_MAX)
        owner = np.repeat(small, count[small])
        step = np.arange(len(owner)) - np.repeat(np.cumsum(count[small]) - count[small], count[small])
        cell = first[owner] + np.column_stack([step % wide[owner, 0], step // wide[owner, 0]])
        number = cell[:, 1] * self._side + cell[:, 0]
        order = np.argsort(number, kind="stable")
        self._owner = owner[order]
        self._start = np.searchsorted(number[order], np.arange(self._side * self._side + 1))

    def _cells(self, points: F64) -> I64:
        cell = np.floor((points - self._origin) / self._cell)
        return np.asarray(np.clip(cell, 0, self._side - 1), dtype=np.int64)

    def near(self, low: F64, high: F64) -> I64:
        """Triangles that may touch the box from `low` to `high` [m], shape (2,) each; some more than once."""
        (x0, y0), (x1, y1) = self._cells(low), self._cells(high)
        rows = [
            self._owner[self._start[y * self._side + x0] : self._start[y * self._side + x1 + 1]]
            for y in range(y0, y1 + 1)
        ]
        return np.concatenate([self._big, *rows])


class FloorFinder:
    """Looks straight down for the nearest triangle that stops movement.

    Args:
        vertices: Positions [m], shape (n, 3).
        triangles: Indices, shape (m, 3).
        contents: `Contents` bits, shape (m,).
    """

    def __init__(self, vertices: F64, triangles: I32, contents: U16) -> None:
        solid = (contents & MOVEMENT_MASK != 0) & (contents & int(Contents.SKY) == 0)
        corner = vertices[triangles[solid]]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        up = normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
        floor = up > UP_MIN
        self._corner = corner[floor]
        self._normal = normal[floor]
        flat = self._corner[:, :, :2]
        self._grid = TriangleGrid(flat.min(axis=1) - 1e-9, flat.max(axis=1) + 1e-9)

    def below(self, point: F64, *, reach: float) -> float | None:
        """Height of the highest floor at most `reach` metres under `point`, or None."""
        xy = point[:2]
        near = self._grid.near(xy, xy)
        if not near.size:
            return None
        corner, normal = self._corner[near], self._normal[near]
        edge = np.roll(corner, -1, axis=1)[:, :, :2] - corner[:, :, :2]
        to_point = xy - corner[:, :, :2]
        side = edge[:, :, 0] * to_point[:, :, 1] - edge[:, :, 1] * to_point[:, :, 0]
        inside = (side >= -1e-9).all(axis=1)
        offset = ((xy - corner[:, 0, :2]) * normal[:, :2]).sum(axis=1) / normal[:, 2]
        height = corner[:, 0, 2] - offset
        fits = height[inside & (height <= point[2]) & (height >= point[2] - reach)]
        return float(fits.max()) if fits.size else None
