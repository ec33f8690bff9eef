"""Naive twins of visibility: sight by many rays between all parts of a body, and growing by neighbours one by one."""

import numpy as np

from sim.arrays import F64, I32, U8, Bool
from sim.geometry import Geometry
from sim.worldmap import Contents

__all__ = ["body_points", "could_see", "grow", "sees"]

HEIGHTS = (0.02, 0.2, 0.4, 0.6, 0.8, 0.98)  # of the body's height
SIDES = (-0.98, -0.5, 0.0, 0.5, 0.98)  # of its radius


def body_points(eye: F64, feet: F64, radius: float = 0.375, height: float = 1.4) -> F64:
    """Points over the outline of a body as seen from an eye, shape (n, 30, 3)."""
    away = feet - eye
    level = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-9)
    across = np.stack([-away[:, 1] / level, away[:, 0] / level, np.zeros(len(feet))], axis=1)
    points = [feet + [0.0, 0.0, up * height] + across * (side * radius) for up in HEIGHTS for side in SIDES]
    found: F64 = np.stack(points, axis=1)
    return found


def sees(sight: Geometry, eye: F64, feet: F64) -> Bool:
    """Whether any ray from each eye, shape (n, 3), to any point over the body at each place is free, shape (n,)."""
    points = body_points(eye, feet)
    found = np.zeros(len(eye), np.bool_)
    for k in range(points.shape[1]):
        open_pairs = np.flatnonzero(~found)
        hit = sight.any_hit(eye[open_pairs], points[open_pairs, k], mask=int(Contents.SOLID))
        found[open_pairs] = ~hit
    return found


def could_see(sight: Geometry, eye: F64, feet: F64, reach_m: float, rounds: int, seed: int = 1) -> Bool:
    """Whether a free ray is found when both may first go up to `reach_m` any level way that nothing blocks.

    Args:
        sight: What stops sight.
        eye, feet: Shape (n, 3) [m].
        reach_m: How far both may go.
        rounds: Rays per pair; more find more.
        seed: Of where they go.
    """
    rng = np.random.default_rng(seed)
    found = sees(sight, eye, feet)
    for _ in range(rounds):
        left = np.flatnonzero(~found)
        if not len(left):
            break
        ends = []
        for start in (eye[left], feet[left] + [0.0, 0.0, 0.7]):
            turn, far = rng.uniform(0.0, 2.0 * np.pi, len(left)), reach_m * np.sqrt(rng.random(len(left)))
            way = np.stack([np.cos(turn), np.sin(turn), np.zeros(len(left))], axis=1)
            t, _ = sight.closest_hit(start, way, mask=int(Contents.SOLID), t_max=far + 0.3)
            ends.append(start + way * np.maximum(np.minimum(t - 0.3, far), 0.0)[:, None])
        ends[1][:, 2] += rng.uniform(-0.65, 0.65, len(left))
        found[left] = ~sight.any_hit(ends[0], ends[1], mask=int(Contents.SOLID))
    return found


def grow(seen: U8, start: I32, near: I32) -> U8:
    """A pair of cells sees each other, or any neighbour of the one any neighbour of the other."""
    count = len(seen)
    around = [[cell, *near[start[cell] : start[cell + 1]].tolist()] for cell in range(count)]
    grown: U8 = np.zeros((count, count), np.uint8)
    for a in range(count):
        for b in range(count):
            grown[a, b] = max(int(seen[i, j]) for i in around[a] for j in around[b])
    return grown
