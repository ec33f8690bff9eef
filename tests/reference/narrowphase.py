"""Naive twin of the sweeps: distance by nested search, time of impact by bisection on a convex function."""

import numpy as np

from sim.arrays import F64

__all__ = ["capsule_distance", "point_triangle_distance", "sweep_time"]


def point_triangle_distance(points: F64, corners: F64) -> F64:
    """Distance of points (n, 3) to one triangle (3, 3), by trying its inside and its three edges."""
    a, b, c = corners
    best = np.full(len(points), np.inf)
    for p, q in ((a, b), (b, c), (c, a)):
        edge = q - p
        length = edge @ edge
        s = np.clip((points - p) @ edge / length, 0.0, 1.0) if length > 0 else np.zeros(len(points))
        best = np.minimum(best, np.linalg.norm(points - p - s[:, None] * edge, axis=1))
    basis = np.stack([b - a, c - a], axis=1)
    if np.linalg.norm(np.cross(b - a, c - a)) > 1e-12:
        share = np.linalg.solve(basis.T @ basis, basis.T @ (points - a).T)
        inside = (share[0] >= 0) & (share[1] >= 0) & (share.sum(axis=0) <= 1)
        off = np.linalg.norm(points - a - (basis @ share).T, axis=1)
        best = np.where(inside, np.minimum(best, off), best)
    return best


def capsule_distance(base: F64, axis: F64, corners: F64) -> float:
    """Distance from a capsule's segment to a triangle: convex along the segment, so a narrowing search finds it."""
    low, high = 0.0, 1.0
    for _ in range(7):
        s = np.linspace(low, high, 17)
        d = point_triangle_distance(base + s[:, None] * axis, corners)
        i = int(d.argmin())
        low, high = s[max(0, i - 1)], s[min(16, i + 1)]
    return float(d.min())


def sweep_time(base: F64, displacement: F64, axis: F64, radius: float, corners: F64) -> float | None:
    """First share of the displacement at which the distance is the radius; None for a miss.

    The distance between two convex bodies, one moving straight, is a convex function of time: its minimum is
    narrowed down first, then the crossing before it is bisected.
    """

    def distance(t: float) -> float:
        return capsule_distance(base + t * displacement, axis, corners)

    low, high = 0.0, 1.0
    for _ in range(8):
        times = np.linspace(low, high, 9)
        values = [distance(t) for t in times]
        i = int(np.argmin(values))
        low, high = times[max(0, i - 1)], times[min(8, i + 1)]
    nearest = times[i]
    if values[i] >= radius:
        return None
    before, after = 0.0, float(nearest)
    if distance(before) <= radius:
        return 0.0
    for _ in range(40):
        middle = (before + after) / 2
        before, after = (middle, after) if distance(middle) > radius else (before, middle)
    return after
