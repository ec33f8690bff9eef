"""Kernels that ask a built grid: what is near a point, nearest to it, in a box, or first on a ray.

`sim.broadphase_kernels` has the layout of `grid`. The single forms (`near`, `nearest`, `boxed`, `first_on_ray`) are
for kernels in the middle of a tick, the `_batch` forms are behind `sim.broadphase.Broadphase`. In a 2-D grid z is
ignored. A question that makes no sense (NaN, a negative radius, a box inside out) finds nothing.

Answers do not depend on the grid: they are in total order (distance and slot, or slot alone), and where there are more
than fit, the first of that order are kept and the count tells how many there were. The bounded selection is a binary
heap (Williams, 1964) with the last of the order on top.
"""

import numpy as np

from sim.arrays import F64, I32, I64
from sim.broadphase_kernels import (
    GRID_TYPE,
    HEADER_DIMENSIONS,
    HEADER_ITEMS,
    HEADER_LEVELS,
    LANES,
    LEVEL_COUNT,
    LEVEL_FIRST,
    Grid,
    Point,
    cell_box,
    row_span,
)
from sim.jit import kernel

__all__ = [
    "boxed",
    "boxed_batch",
    "first_on_ray",
    "near",
    "near_batch",
    "nearest",
    "nearest_batch",
    "ray_batch",
]

BY_REACH = 0  # spheres that touch a sphere
BY_CENTRE = 1  # centres within a sphere
BY_BOX = 2  # spheres that touch a box


@kernel
def _sink(keys: F64, slots: I32, parent: int, count: int) -> None:
    """Restores the heap [0, count) below `parent`, whose entry may come before those under it.

    One function without helpers: a call that takes arrays costs more than a whole level of the heap.
    """
    key = keys[parent]
    slot = slots[parent]
    while True:
        child = 2 * parent + 1
        if child >= count:
            break
        right = child + 1
        if right < count and (
            keys[right] > keys[child] or (keys[right] == keys[child] and slots[right] > slots[child])
        ):
            child = right
        if keys[child] < key or (keys[child] == key and slots[child] < slot):
            break
        keys[parent] = keys[child]
        slots[parent] = slots[child]
        parent = child
    keys[parent] = key
    slots[parent] = slot


@kernel
def _heapify(keys: F64, slots: I32, count: int) -> None:
    """Makes a heap of the entries [0, count), by Floyd's method."""
    for parent in range(count // 2 - 1, -1, -1):
        _sink(keys, slots, parent, count)


@kernel
def _finish(keys: F64, slots: I32, found: int) -> None:
    """Sorts the selection in ascending order; unused places become infinite, of slot -1."""
    limit = keys.shape[0]
    kept = min(found, limit)
    if found < limit:
        _heapify(keys, slots, kept)
    for last in range(kept - 1, 0, -1):
        key = keys[last]
        slot = slots[last]
        keys[last] = keys[0]
        slots[last] = slots[0]
        keys[0] = key
        slots[0] = slot
        _sink(keys, slots, 0, last)
    for index in range(kept, limit):
        keys[index] = np.inf
        slots[index] = -1


@kernel
def _gap(value: float, low: float, high: float) -> float:
    """How far a value is outside an interval."""
    return max(low - value, 0.0, value - high)


@kernel
def _select_span(
    items: F64,
    names: I32,
    kind: int,
    first: int,
    last: int,
    low: Point,
    high: Point,
    reach: float,
    keys: F64,
    slots: I32,
    found: int,
) -> int:
    """Offers those of the things [first, last) that pass the test of `kind`; `names` are their slots.

    For points `low` and `high` are the same, so that one measure of distance serves all three kinds. The selection is
    a plain list until it is full, and a heap from then on.
    """
    limit = keys.shape[0]
    for place in range(first, last):
        dx = _gap(items[0, place], low[0], high[0])
        dy = _gap(items[1, place], low[1], high[1])
        dz = _gap(items[2, place], low[2], high[2])
        apart = (dx * dx + dy * dy) + dz * dz
        touch = reach if kind == BY_CENTRE else reach + items[3, place]
        if apart <= touch * touch:
            slot = names[place]
            key = float(slot) if kind == BY_BOX else apart
            if found < limit:
                keys[found] = key
                slots[found] = slot
                if found + 1 == limit:
                    _heapify(keys, slots, limit)
            elif key < keys[0] or (key == keys[0] and slot < slots[0]):
                keys[0] = key
                slots[0] = slot
                _sink(keys, slots, 0, limit)
            found += 1
    return found


@kernel
def _select(grid: Grid, kind: int, low: Point, high: Point, reach: float, box: I64, keys: F64, slots: I32) -> int:
    """Offers all things that pass the test of `kind`; `_finish` puts the selection in order.

    Returns:
        How many passed.
    """
    if grid[0][HEADER_DIMENSIONS] == 2:
        low = (low[0], low[1], 0.0)
        high = (high[0], high[1], 0.0)
    found = 0
    # Written so that NaN fails it.
    if not (reach >= 0.0 and low[0] <= high[0] and low[1] <= high[1] and low[2] <= high[2]):
        return found
    if kind != BY_BOX and not abs(low[0]) + abs(low[1]) + abs(low[2]) < np.inf:
        return found
    outer_low = (low[0] - reach, low[1] - reach, low[2] - reach)
    outer_high = (high[0] + reach, high[1] + reach, high[2] + reach)
    for level in range(grid[0][HEADER_LEVELS]):
        cell_box(grid, level, outer_low, outer_high, box)
        for slab in range(box[3]):
            for row in range(box[2]):
                first, last, rest = row_span(grid, level, box, slab, row)
                while first < last or rest > 0:
                    found = _select_span(grid[5], grid[6], kind, first, last, low, high, reach, keys, slots, found)
                    first = grid[1][level, LEVEL_FIRST]
                    last = first + rest
                    rest = 0
    return found


@kernel
def near(grid: Grid, point: Point, radius: float, box: I64, distances: F64, slots: I32) -> int:
    """Writes the things whose spheres overlap or touch a sphere, nearest centre first, then lowest slot.

    Args:
        grid: A built grid.
        point: Centre of the sphere [m].
        radius: Its radius [m].
        box: Scratch, shape (8,), int64.
        distances: Written: distances from centre to centre [m], shape (limit,); infinite where there is none.
        slots: Written: slots, shape (limit,); -1 where there is none.

    Returns:
        How many there are; where that is more than `limit`, the nearest were written.
    """
    found = _select(grid, BY_REACH, point, point, radius, box, distances, slots)
    _finish(distances, slots, found)
    for index in range(min(found, distances.shape[0])):
        distances[index] = np.sqrt(distances[index])
    return found


@kernel
def boxed(grid: Grid, low: Point, high: Point, box: I64, keys: F64, slots: I32) -> int:
    """Writes the things whose spheres overlap or touch an axis-aligned box, lowest slot first.

    Returns:
        How many there are; where that is more than there is room for, those of the lowest slots were written.
    """
    found = _select(grid, BY_BOX, low, high, 0.0, box, keys, slots)
    _finish(keys, slots, found)
    return found


@kernel
def nearest(grid: Grid, point: Point, radius: float, box: I64, distances: F64, slots: I32) -> int:
    """Writes the things whose centres are nearest to a point, within `radius`; of equally near ones the lowest slots.

    Searches spheres of doubling size, and stops at the first that holds enough.

    Args:
        grid: A built grid.
        point: Where [m].
        radius: Farthest centre that counts [m]; may be infinite.
        box: Scratch, shape (8,), int64.
        distances: Written: distances of the centres [m], shape (limit,); infinite where there is none.
        slots: Written: slots, shape (limit,); -1 where there is none.

    Returns:
        How many were written.
    """
    header = grid[0]
    sizes = grid[2]
    bounds = grid[3]
    limit = distances.shape[0]
    found = 0
    if header[HEADER_ITEMS] > 0 and radius >= 0.0 and limit > 0:
        closest = 0.0
        farthest = 0.0
        for axis in range(header[HEADER_DIMENSIONS]):
            closest = max(closest, _gap(point[axis], bounds[axis], bounds[axis + 3]))
            farthest += max(abs(point[axis] - bounds[axis]), abs(point[axis] - bounds[axis + 3]))
        # The sum over the axes is at least the distance of the farthest corner. NaN ends here too.
        stop = min(radius, farthest * 1.0001)
        reach = min(stop, closest * 1.0001 + sizes[0, 0])
        while True:
            found = _select(grid, BY_CENTRE, point, point, reach, box, distances, slots)
            # Written so that NaN ends it.
            if found >= limit or not reach < stop:
                break
            reach = min(2.0 * reach, stop)
    _finish(distances, slots, found)
    kept = int(min(found, limit))
    for index in range(kept):
        distances[index] = np.sqrt(distances[index])
    return kept


@kernel
def _ray_span(
    grid: Grid, first: int, last: int, origin: Point, way: Point, ignored: int, best: float, best_slot: int
) -> tuple[float, int]:
    """The nearer of the best hit so far and the hits of the things [first, last).

    A sphere is met where the line's nearest point to its centre is inside it; measuring from there, and not from the
    origin, keeps the precision of far hits (Haines et al., "Precision Improvements for Ray/Sphere Intersection", 2019).
    """
    items = grid[5]
    for place in range(first, last):
        mx = origin[0] - items[0, place]
        my = origin[1] - items[1, place]
        mz = origin[2] - items[2, place]
        r = items[3, place]
        along = (mx * way[0] + my * way[1]) + mz * way[2]
        inside = (mx * mx + my * my) + mz * mz <= r * r
        if along > 0.0 and not inside:
            continue
        px = mx - along * way[0]
        py = my - along * way[1]
        pz = mz - along * way[2]
        left = r * r - ((px * px + py * py) + pz * pz)
        if left < 0.0 and not inside:
            continue
        distance = 0.0 if inside else max(0.0, -along - np.sqrt(left))
        slot = grid[6][place]
        nearer = distance < best or (distance == best and (best_slot < 0 or slot < best_slot))
        if nearer and slot != ignored:
            best = distance
            best_slot = slot
    return best, best_slot


@kernel
def _ray_box(
    grid: Grid, level: int, origin: Point, way: Point, ignored: int, box: I64, best: float, best_slot: int
) -> tuple[float, int]:
    """The nearer of the best hit so far and the hits of the things in the rows of `box`."""
    for slab in range(box[3]):
        for row in range(box[2]):
            first, last, rest = row_span(grid, level, box, slab, row)
            while first < last or rest > 0:
                best, best_slot = _ray_span(grid, first, last, origin, way, ignored, best, best_slot)
                first = grid[1][level, LEVEL_FIRST]
                last = first + rest
                rest = 0
    return best, best_slot


@kernel
def _clip(grid: Grid, level: int, origin: Point, way: Point, limit: float) -> tuple[float, float]:
    """The part of a ray in which it may meet things of a level, as distances; empty where first > last."""
    bounds = grid[3]
    first = 0.0
    last = limit
    for axis in range(grid[0][HEADER_DIMENSIONS]):
        widest = grid[2][level, 2]
        margin = widest + (abs(bounds[axis]) + abs(bounds[axis + 3]) + abs(origin[axis]) + widest) * 2.0**-40 + 1e-9
        low = bounds[axis] - margin - origin[axis]
        high = bounds[axis + 3] + margin - origin[axis]
        if way[axis] == 0.0:
            if low > 0.0 or high < 0.0:
                return 1.0, 0.0
            continue
        enter = low / way[axis]
        leave = high / way[axis]
        first = max(first, min(enter, leave))
        last = min(last, max(enter, leave))
    return first, last


@kernel
def _ray_level(
    grid: Grid, level: int, origin: Point, way: Point, ignored: int, box: I64, best: float, best_slot: int
) -> tuple[float, int]:
    """The nearer of the best hit so far and the hits in one level, walked in steps of about a row."""
    at, last = _clip(grid, level, origin, way, best)
    if not at <= last:
        return best, best_slot
    across = max(abs(way[1]), abs(way[2]))
    step = last - at
    if across * step > grid[2][level, 0]:
        step = grid[2][level, 0] / across
    # A step looks at about nine rows; where that is dearer than reading every thing, one step reads every thing.
    if (last - at) * 9.0 * LANES > step * (grid[1][level, LEVEL_COUNT] + LANES):
        step = last - at
    while at <= min(last, best):
        to = min(at + step, last)
        margin = (abs(origin[0]) + abs(origin[1]) + abs(origin[2]) + to) * 2.0**-48
        a = (origin[0] + way[0] * at, origin[1] + way[1] * at, origin[2] + way[2] * at)
        b = (origin[0] + way[0] * to, origin[1] + way[1] * to, origin[2] + way[2] * to)
        low = (min(a[0], b[0]) - margin, min(a[1], b[1]) - margin, min(a[2], b[2]) - margin)
        high = (max(a[0], b[0]) + margin, max(a[1], b[1]) + margin, max(a[2], b[2]) + margin)
        cell_box(grid, level, low, high, box)
        best, best_slot = _ray_box(grid, level, origin, way, ignored, box, best, best_slot)
        if to >= last:
            break
        at = to
    return best, best_slot


@kernel
def first_on_ray(
    grid: Grid, origin: Point, direction: Point, reach: float, ignored: int, box: I64
) -> tuple[float, int]:
    """The first sphere that a ray meets; of equally near ones that of the lowest slot.

    Args:
        grid: A built grid.
        origin: Where the ray starts [m]; inside a sphere the distance is 0.
        direction: Where it goes, of any length but zero.
        reach: How far it goes [m]; may be infinite.
        ignored: A slot that is not met, such as that of the shooter; -1 for none.
        box: Scratch, shape (8,), int64.

    Returns:
        Distance [m] and slot; infinite and -1 where the ray meets none.
    """
    if grid[0][HEADER_DIMENSIONS] == 2:
        origin = (origin[0], origin[1], 0.0)
        direction = (direction[0], direction[1], 0.0)
    x, y, z = direction
    length = np.sqrt((x * x + y * y) + z * z)
    best = reach
    best_slot = -1
    # Written so that NaN and infinity fail it.
    if reach >= 0.0 and 0.0 < length < np.inf and abs(origin[0]) + abs(origin[1]) + abs(origin[2]) < np.inf:
        way = (x / length, y / length, z / length)
        for level in range(grid[0][HEADER_LEVELS]):
            best, best_slot = _ray_level(grid, level, origin, way, ignored, box, best, best_slot)
    if best_slot < 0:
        return np.inf, -1
    return best, best_slot


@kernel(f"({GRID_TYPE}, f8[:,::1], f8[::1], i8[::1], f8[:,::1], i4[:,::1], i4[::1])")
def near_batch(grid: Grid, points: F64, radii: F64, box: I64, distances: F64, slots: I32, counts: I32) -> None:
    """`near` for each of `points`, shape (queries, 3); outputs have a row per query."""
    for query in range(points.shape[0]):
        point = (points[query, 0], points[query, 1], points[query, 2])
        counts[query] = near(grid, point, radii[query], box, distances[query], slots[query])


@kernel(f"({GRID_TYPE}, f8[:,::1], f8[::1], i8[::1], f8[:,::1], i4[:,::1], i4[::1])")
def nearest_batch(grid: Grid, points: F64, radii: F64, box: I64, distances: F64, slots: I32, counts: I32) -> None:
    """`nearest` for each of `points`, shape (queries, 3); outputs have a row per query."""
    for query in range(points.shape[0]):
        point = (points[query, 0], points[query, 1], points[query, 2])
        counts[query] = nearest(grid, point, radii[query], box, distances[query], slots[query])


@kernel(f"({GRID_TYPE}, f8[:,::1], f8[:,::1], i8[::1], f8[:,::1], i4[:,::1], i4[::1])")
def boxed_batch(grid: Grid, low: F64, high: F64, box: I64, keys: F64, slots: I32, counts: I32) -> None:
    """`boxed` for each of the boxes, corners of shape (queries, 3); outputs have a row per query."""
    for query in range(low.shape[0]):
        low_point = (low[query, 0], low[query, 1], low[query, 2])
        high_point = (high[query, 0], high[query, 1], high[query, 2])
        counts[query] = boxed(grid, low_point, high_point, box, keys[query], slots[query])


@kernel(f"({GRID_TYPE}, f8[:,::1], f8[:,::1], f8[::1], i4[::1], i8[::1], f8[::1], i4[::1])")
def ray_batch(
    grid: Grid,
    origins: F64,
    directions: F64,
    reaches: F64,
    ignored: I32,
    box: I64,
    distances: F64,
    slots: I32,
) -> None:
    """`first_on_ray` for each ray, origins and directions of shape (rays, 3); outputs have an entry per ray."""
    for ray in range(origins.shape[0]):
        origin = (origins[ray, 0], origins[ray, 1], origins[ray, 2])
        direction = (directions[ray, 0], directions[ray, 1], directions[ray, 2])
        distances[ray], slots[ray] = first_on_ray(grid, origin, direction, reaches[ray], ignored[ray], box)
