"""What the arena's batch kernels do, one thing at a time."""

import numpy as np

from sim.arrays import F64, Bool
from sim.hitbox_kernels import body_hit

GOLDEN = 1.618033988749895
Vector = tuple[float, float, float]


def first_body(
    origin: Vector, ray: Vector, reach: float, shooter: int, feet: F64, height: F64, targets: Bool
) -> tuple[float, int, int]:
    """Nearest player along a ray by trying all of them: (distance, row, part)."""
    best = (reach, -1, 0)
    for row in range(len(targets)):
        if not targets[row] or row == shooter:
            continue
        t, part = body_hit(origin, ray, (feet[row, 0], feet[row, 1], feet[row, 2]), height[row], 0.0)
        if t < best[0]:
            best = (t, row, part)
    return best


def gaps(first: tuple[F64, F64, F64], second: tuple[F64, F64, F64]) -> F64:
    """By how much all pairs of two sets of spheres (starts (n, 3), ends (n, 3), radii (n,)) miss each other at the
    nearest moment of their even motion, shape (n, m), by golden-section search; negative where they overlap."""
    start = second[0][None] - first[0][:, None]
    way = second[1][None] - first[1][:, None] - start

    def apart(t: F64) -> F64:
        return np.asarray(np.linalg.norm(start + t[..., None] * way, axis=2))

    low, high = np.zeros(start.shape[:2]), np.ones(start.shape[:2])
    for _ in range(60):
        one, two = high - (high - low) / GOLDEN, low + (high - low) / GOLDEN
        left = apart(one) < apart(two)
        low, high = np.where(left, low, one), np.where(left, two, high)
    nearest = np.minimum(np.minimum(apart(low), apart(low * 0.0)), apart(low * 0.0 + 1.0))
    return np.asarray(nearest - first[2][:, None] - second[2][None])
