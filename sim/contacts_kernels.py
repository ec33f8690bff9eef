"""Gathering bounding spheres and splitting pairs by kind."""

from math import sqrt

from sim.arrays import F64, I32, I64, Bool
from sim.jit import kernel

__all__ = ["gather_spheres", "split_pairs"]


JUMP_M = 8.0  # farther than this in a tick is a teleport, not a way


@kernel("(b1[::1], f8[:,::1], f8[:,::1], f8, f8[:,::1], f8[::1], b1[::1])")
def gather_spheres(
    present: Bool, previous: F64, position: F64, radius: float, out_position: F64, out_radius: F64, out_active: Bool
) -> None:
    """Bound the way of each present thing in this tick by a sphere.

    Args:
        present: Which rows take part.
        previous: Where each was before the tick [m]; the position itself for things that do not move by themselves.
        position: Where it is [m]. Things stand on their positions: the sphere's centre is `radius` above.
        radius: Radius of the sphere around a thing at rest [m].
        out_position: Centres [m].
        out_radius: Radii [m].
        out_active: Copy of `present`.
    """
    for row in range(present.shape[0]):
        out_active[row] = present[row]
        if not present[row]:
            continue
        x, y = previous[row, 0] - position[row, 0], previous[row, 1] - position[row, 1]
        z = previous[row, 2] - position[row, 2]
        way = sqrt(x * x + y * y + z * z)
        half = 0.5 if way <= JUMP_M else 0.0
        out_position[row, 0] = position[row, 0] + half * x
        out_position[row, 1] = position[row, 1] + half * y
        out_position[row, 2] = position[row, 2] + half * z + radius
        out_radius[row] = radius + half * way


@kernel("(i4[:,::1], i8[::1], UniTuple(i8, 2), UniTuple(i8, 2), i4[:,::1])")
def split_pairs(pairs: I32, kind: I64, kinds: tuple[int, int], bases: tuple[int, int], out_pairs: I32) -> int:
    """Copy the pairs of two kinds, in order, as rows of their tables; returns how many."""
    count = 0
    for index in range(pairs.shape[0]):
        a, b = pairs[index, 0], pairs[index, 1]
        if kind[a] != kinds[0]:
            a, b = b, a
        if kind[a] == kinds[0] and kind[b] == kinds[1]:
            out_pairs[count, 0] = a - bases[0]
            out_pairs[count, 1] = b - bases[1]
            count += 1
    return count
