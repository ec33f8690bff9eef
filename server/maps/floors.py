"""Floors under points, found in plain numpy: importing a map must not depend on the hierarchy that is built from it."""

import numpy as np

from sim.arrays import F64, I32
from sim.worldmap import MOVEMENT_MASK, Contents

__all__ = ["FloorFinder"]

UP_MIN = 0.05  # steeper triangles are no floor at all


class FloorFinder:
    """Looks straight down for the nearest triangle that stops movement.

    Args:
        vertices: Positions [m], shape (n, 3).
        triangles: Indices, shape (m, 3).
        contents: `Contents` bits, shape (m,).
    """

    def __init__(self, vertices: F64, triangles: I32, contents: np.ndarray[tuple[int], np.dtype[np.uint16]]) -> None:
        solid = (contents & MOVEMENT_MASK != 0) & (contents & int(Contents.SKY) == 0)
        corner = vertices[triangles[solid]]
        normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
        up = normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
        floor = up > UP_MIN
        self._corner = corner[floor]
        self._normal = normal[floor]
        flat = self._corner[:, :, :2]
        self._low, self._high = flat.min(axis=1) - 1e-9, flat.max(axis=1) + 1e-9

    def below(self, point: F64, *, reach: float) -> float | None:
        """Height of the highest floor at most `reach` metres under `point`, or None."""
        xy = point[:2]
        near = np.flatnonzero(((self._low <= xy) & (xy <= self._high)).all(axis=1))
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
