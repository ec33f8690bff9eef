"""The broadphase written the slow way: every thing against every other."""

import numpy as np

from sim.arrays import F64, I64, Bool

__all__ = ["naive_pairs", "takes_part"]

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
