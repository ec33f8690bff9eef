"""The broadphase written the slow way: every thing against every other."""

import numpy as np

from sim.arrays import F64, I64, Bool

__all__ = ["naive_boxed", "naive_near", "naive_nearest", "naive_pairs", "naive_ray", "takes_part"]

LIMIT_M = 1e9


def takes_part(positions: F64, radii: F64, active: Bool) -> Bool:
    """Which things are active and make sense."""
    sound = np.isfinite(positions).all(axis=1) & (np.abs(positions) <= LIMIT_M).all(axis=1)
    with np.errstate(invalid="ignore"):
        return active & sound & (radii >= 0) & (radii <= LIMIT_M)


def naive_pairs(positions: F64, radii: F64, active: Bool) -> I64:
    """All pairs of overlapping or touching spheres, sorted, shape (pairs, 2), int64."""
    slots = np.flatnonzero(takes_part(positions, radii, active))
    found: list[tuple[int, int]] = []
    for row, first in enumerate(slots):
        others = slots[row + 1 :]
        apart = positions[others] - positions[first]
        squared = apart[:, 0] * apart[:, 0] + apart[:, 1] * apart[:, 1]
        if positions.shape[1] == 3:
            squared = squared + apart[:, 2] * apart[:, 2]
        reach = radii[others] + radii[first]
        found.extend((int(first), int(second)) for second in others[squared <= reach * reach])
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _apart(positions: F64, low: F64, high: F64) -> F64:
    """Squared distances of points from a box."""
    gap = np.maximum(np.maximum(low - positions, positions - high), 0.0)
    squared = gap[:, 0] * gap[:, 0] + gap[:, 1] * gap[:, 1]
    if gap.shape[1] == 3:
        squared = squared + gap[:, 2] * gap[:, 2]
    return np.asarray(squared, np.float64)


def naive_near(positions: F64, radii: F64, slots: I64, point: F64, radius: float) -> list[tuple[float, int]]:
    """(distance, slot) of the spheres among `slots` that touch a sphere, in order."""
    squared = _apart(positions[slots], point, point)
    hit = squared <= (radius + radii[slots]) ** 2
    return sorted(zip(np.sqrt(squared[hit]).tolist(), slots[hit].tolist(), strict=True))


def naive_nearest(positions: F64, slots: I64, point: F64, radius: float, k: int) -> list[tuple[float, int]]:
    """(distance, slot) of the k nearest centres among `slots` within a radius, in order."""
    squared = _apart(positions[slots], point, point)
    hit = squared <= radius * radius
    return sorted(zip(np.sqrt(squared[hit]).tolist(), slots[hit].tolist(), strict=True))[:k]


def naive_boxed(positions: F64, radii: F64, slots: I64, low: F64, high: F64) -> list[int]:
    """Those of `slots` whose spheres touch a box, in order."""
    hit = _apart(positions[slots], low, high) <= radii[slots] * radii[slots]
    return [int(slot) for slot in slots[hit]]


def naive_ray(positions: F64, radii: F64, slots: I64, origin: F64, direction: F64, reach: float) -> tuple[float, int]:
    """(distance, slot) of the first sphere among `slots` on a ray, by the quadratic formula in extended precision."""
    long = direction.astype(np.longdouble)
    way = long / np.sqrt(np.sum(long * long))
    best = (np.inf, -1)
    for slot in slots:
        apart = origin.astype(np.longdouble) - positions[slot]
        half = np.sum(apart * way)
        rest = np.sum(apart * apart) - np.longdouble(radii[slot]) ** 2
        root = half * half - rest
        if rest <= 0:
            distance = 0.0
        elif half > 0 or root < 0:
            continue
        else:
            distance = float(-half - np.sqrt(root))
        if distance <= reach and distance < best[0]:
            best = (distance, int(slot))
    return best
