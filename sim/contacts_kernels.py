"""Gathering bounding spheres and splitting pairs by kind.

THINGS is a tuple of columns over all things that take part, kind by kind and row by row: centres of their bounding
spheres f8 (n, 3) [m], radii f8 (n,) [m], their ways in this tick f8 (n, 3) [m], radii at rest f8 (n,) [m], numbers of
their kinds i4 (n,), and their rows in the tables of these i4 (n,). Who does not take part has no place in it: of some
3,600 slots of an arena a tenth is in use, and looking at them all took 40 µs a tick.
"""

from math import sqrt
from typing import TypeAlias

from sim.arrays import F64, I32, Bool
from sim.jit import kernel

__all__ = ["THINGS_TYPE", "ThingArrays", "gather_spheres", "split_pairs"]

THINGS_TYPE = "Tuple((f8[:,::1], f8[::1], f8[:,::1], f8[::1], i4[::1], i4[::1]))"
ThingArrays: TypeAlias = tuple[F64, F64, F64, F64, I32, I32]

JUMP_M = 8.0  # farther than this in a tick is a teleport, not a way


@kernel(f"(b1[::1], f8[:,::1], f8[:,::1], f8, i8, i8, {THINGS_TYPE})", counted=False)
def gather_spheres(
    present: Bool, previous: F64, position: F64, radius: float, number: int, count: int, things: ThingArrays
) -> int:
    """Append the present rows of a kind, each with a sphere that bounds its way in this tick.

    Args:
        present: Which rows take part.
        previous: Where each was before the tick [m]; the position itself for things that do not move by themselves.
        position: Where it is [m]. Things stand on their positions: the sphere's centre is `radius` above.
        radius: Radius of the sphere around a thing at rest [m].
        number: Number of the kind.
        count: How many things there are already.
        things: See the top of this file. The way of a teleport is zero.

    Returns:
        How many there are then.
    """
    centre, bound, ways, rest, kind, rows = things
    for row in range(present.shape[0]):
        if not present[row]:
            continue
        x, y = previous[row, 0] - position[row, 0], previous[row, 1] - position[row, 1]
        z = previous[row, 2] - position[row, 2]
        way = sqrt(x * x + y * y + z * z)
        half = 0.5 if way <= JUMP_M else 0.0
        ways[count, 0], ways[count, 1], ways[count, 2] = -2.0 * half * x, -2.0 * half * y, -2.0 * half * z
        rest[count] = radius
        centre[count, 0] = position[row, 0] + half * x
        centre[count, 1] = position[row, 1] + half * y
        centre[count, 2] = position[row, 2] + half * z + radius
        bound[count] = radius + half * way
        kind[count], rows[count] = number, row
        count += 1
    return count


@kernel(counted=False)
def _meet(things: ThingArrays, a: int, b: int) -> bool:
    """Whether the spheres at rest of two things touched while each went its way evenly.

    The nearest point of the segment of their relative way (Ericson, Real-Time Collision Detection, 5.1.2) against the
    sum of the radii.
    """
    middle, _, way, rest, _, _ = things
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
    return bool(nearest <= reach * reach)


@kernel(f"(i4[:,::1], UniTuple(i8, 2), i8, {THINGS_TYPE}, i4[:,::1])", counted=False)
def split_pairs(pairs: I32, kinds: tuple[int, int], truly: int, things: ThingArrays, out_pairs: I32) -> int:
    """List the pairs of two kinds, in order, as rows of their tables; returns how many.

    Args:
        pairs: Places in `things`, the lower first.
        kinds: Numbers of the kinds.
        truly: 1: only those who truly met on their ways; 0: all.
        things: See the top of this file.
        out_pairs: Receives the rows: of the first kind and of the second.
    """
    kind, rows = things[4], things[5]
    count = 0
    for index in range(pairs.shape[0]):
        a, b = int(pairs[index, 0]), int(pairs[index, 1])
        if kind[a] != kinds[0]:
            a, b = b, a
        if kind[a] == kinds[0] and kind[b] == kinds[1] and (truly == 0 or _meet(things, a, b)):
            out_pairs[count, 0], out_pairs[count, 1] = rows[a], rows[b]
            count += 1
    return count
