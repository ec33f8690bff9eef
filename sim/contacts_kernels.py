"""Gathering bounding spheres and splitting pairs by kind."""

from math import sqrt

from sim.arrays import F64, I32, I64, Bool
from sim.jit import kernel

__all__ = ["gather_spheres", "keep_met", "split_pairs"]


JUMP_M = 8.0  # farther than this in a tick is a teleport, not a way


@kernel("(b1[::1], f8[:,::1], f8[:,::1], f8, f8[:,::1], f8[::1], b1[::1], f8[:,::1], f8[::1])")
def gather_spheres(
    present: Bool,
    previous: F64,
    position: F64,
    radius: float,
    out_position: F64,
    out_radius: F64,
    out_active: Bool,
    out_way: F64,
    out_rest: F64,
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
        out_way: From the start of the way to its end [m], zero for a teleport.
        out_rest: Radii at rest [m].
    """
    for row in range(present.shape[0]):
        out_active[row] = present[row]
        if not present[row]:
            continue
        x, y = previous[row, 0] - position[row, 0], previous[row, 1] - position[row, 1]
        z = previous[row, 2] - position[row, 2]
        way = sqrt(x * x + y * y + z * z)
        half = 0.5 if way <= JUMP_M else 0.0
        out_way[row, 0], out_way[row, 1], out_way[row, 2] = -2.0 * half * x, -2.0 * half * y, -2.0 * half * z
        out_rest[row] = radius
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


@kernel("(i4[:,::1], UniTuple(i8, 2), f8[:,::1], f8[:,::1], f8[::1])")
def keep_met(pairs: I32, bases: tuple[int, int], middle: F64, way: F64, rest: F64) -> int:
    """Keep the pairs whose spheres touched while each went its way evenly; returns how many, moved to the front.

    The nearest point of the segment of their relative way (Ericson, Real-Time Collision Detection, 5.1.2) against the
    sum of the radii.
    """
    count = 0
    for index in range(pairs.shape[0]):
        a, b = pairs[index, 0] + bases[0], pairs[index, 1] + bases[1]
        square = along = apart = 0.0
        for axis in range(3):
            speed = way[b, axis] - way[a, axis]
            start = middle[b, axis] - middle[a, axis] - 0.5 * speed
            square += speed * speed
            along -= speed * start
            apart += start * start
        moment = min(max(along / square, 0.0), 1.0) if square > 0.0 else 0.0
        nearest = apart - 2.0 * moment * along + moment * moment * square
        reach = rest[a] + rest[b]
        if nearest <= reach * reach:
            pairs[count, 0], pairs[count, 1] = pairs[index, 0], pairs[index, 1]
            count += 1
    return count
