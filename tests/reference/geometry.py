"""Naive twins of the geometry queries: every ray against every triangle, in numpy."""

import numpy as np

from sim.arrays import F64, I32, U16, Bool

__all__ = ["any_hit", "closest_hit", "gather_box", "ray_triangles"]

EDGE_ON = 1e-9


def ray_triangles(corners: F64, origin: F64, direction: F64) -> F64:
    """t of one ray for each triangle, NaN where it misses: the watertight test, whole columns at a time."""
    size = np.abs(direction)
    miss = np.full(len(corners), np.nan)
    if not (0.0 < size.sum() < 1e300 and (np.abs(origin) <= 1e15).all()):
        return miss
    axis = int(size.argmax())
    kx, ky = (axis + 1) % 3, (axis + 2) % 3
    sx, sy = direction[kx] / direction[axis], direction[ky] / direction[axis]
    local = corners.reshape(-1, 3, 3) - origin
    z = local[:, :, axis]
    x, y = local[:, :, kx] - sx * z, local[:, :, ky] - sy * z
    u = x[:, 2] * y[:, 1] - y[:, 2] * x[:, 1]
    v = x[:, 0] * y[:, 2] - y[:, 0] * x[:, 2]
    w = x[:, 1] * y[:, 0] - y[:, 1] * x[:, 0]
    determinant = u + v + w
    extent = (
        np.abs(x[:, 2] * y[:, 1]) + np.abs(y[:, 2] * x[:, 1]) + np.abs(x[:, 0] * y[:, 2])
        + np.abs(y[:, 0] * x[:, 2]) + np.abs(x[:, 1] * y[:, 0]) + np.abs(y[:, 1] * x[:, 0])
    )  # fmt: skip
    one_side = ((u >= 0) & (v >= 0) & (w >= 0)) | ((u <= 0) & (v <= 0) & (w <= 0))
    inside = one_side & (np.abs(determinant) > EDGE_ON * extent)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        t = (u * z[:, 0] + v * z[:, 1] + w * z[:, 2]) / determinant / direction[axis]
    return np.where(inside & (t >= 0.0), t, np.nan)


def closest_hit(
    corners: F64, contents: U16, origin: F64, direction: F64, *, t_max: float, mask: int
) -> tuple[float, int]:
    """The least t, and of equal ones the lowest triangle; (t_max, −1) for none."""
    t = ray_triangles(corners, origin, direction)
    t = np.where((t <= t_max) & (contents & mask != 0), t, np.inf)
    if not np.isfinite(t).any():
        return t_max, -1
    return float(t.min()), int(t.argmin())


def any_hit(corners: F64, contents: U16, origin: F64, target: F64, *, mask: int) -> bool:
    """Whether any triangle stands between two points."""
    return closest_hit(corners, contents, origin, target - origin, t_max=1.0, mask=mask)[1] >= 0


def gather_box(corners: F64, contents: U16, low: F64, high: F64, *, mask: int) -> I32:
    """Triangles whose box touches the box, ascending."""
    points = corners.reshape(-1, 3, 3)
    touching: Bool = ((points.min(axis=1) <= high) & (points.max(axis=1) >= low)).all(axis=1)
    return np.flatnonzero(touching & (contents & mask != 0)).astype(np.int32)
