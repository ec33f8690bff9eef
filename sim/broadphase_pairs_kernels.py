"""Kernels that sweep a built grid for all pairs of things whose spheres overlap or touch.

`sim.broadphase_kernels` has the layout of `grid` and the order of the things in it. Two things overlap where

    (dx·dx + dy·dy) + dz·dz <= (radius + radius)²

in float64, in this order of operations, whatever the path by which the two were brought together.
"""

from sim.arrays import F64, I32, I64
from sim.broadphase_kernels import (
    BOX_ALL,
    BOX_EMPTY,
    GRID_TYPE,
    HEADER_DIMENSIONS,
    HEADER_LEVELS,
    LANES,
    LEVEL_BASE,
    LEVEL_CELLS,
    LEVEL_COUNT,
    LEVEL_FIRST,
    LEVEL_SLAB,
    LEVEL_WIDTH,
    Grid,
    cell_box,
    row_span,
)
from sim.jit import kernel

__all__ = ["find_pairs"]


@kernel
def _emit_span(place: int, first: int, last: int, items: F64, slots: I32, pairs: I32, found: int) -> int:
    """Appends the pairs of the thing at `place` with the things [first, last) that overlap it.

    Returns:
        `found` and the number of pairs of this span.
    """
    room = pairs.shape[0] - LANES
    x = items[0, place]
    y = items[1, place]
    z = items[2, place]
    r = items[3, place]
    slot = slots[place]
    for other in range(first, last):
        dx = items[0, other] - x
        dy = items[1, other] - y
        dz = items[2, other] - z
        reach = items[3, other] + r
        at = min(found, room)
        pairs[at, 0] = min(slot, slots[other])
        pairs[at, 1] = max(slot, slots[other])
        found += (dx * dx + dy * dy) + dz * dz <= reach * reach
    return found


@kernel
def _emit_wrapped(grid: Grid, level: int, place: int, offsets: I64, rows: int, pairs: I32, found: int) -> int:
    """As the spans of `_sweep_level`, for a thing so near the end of the table that its neighbours wrap around."""
    _, levels, _, _, start, items, slots, cells = grid
    base = levels[level, LEVEL_BASE]
    count = levels[level, LEVEL_CELLS]
    cell = cells[place]
    found = _emit_span(place, place + 1, start[cell + 1], items, slots, pairs, found)
    near = base + (cell - base + 1) % count
    found = _emit_span(place, start[near], start[near + 1], items, slots, pairs, found)
    for row in range(rows):
        for step in range(-1, 2):
            near = base + (cell - base + offsets[row] + step) % count
            found = _emit_span(place, start[near], start[near + 1], items, slots, pairs, found)
    return found


@kernel
def _sweep_level(grid: Grid, level: int, offsets: I64, pairs: I32, found: int) -> int:
    """Appends the pairs within one level."""
    header, levels, _, _, start, items, slots, cells = grid
    width = levels[level, LEVEL_WIDTH]
    slab = levels[level, LEVEL_SLAB]
    rows = 1
    offsets[0] = width
    reach = width + 2
    if header[HEADER_DIMENSIONS] == 3:
        rows = 4
        offsets[1] = slab - width
        offsets[2] = slab
        offsets[3] = slab + width
        reach = slab + width + 2
    end = levels[level, LEVEL_BASE] + levels[level, LEVEL_CELLS] - reach
    first = levels[level, LEVEL_FIRST]
    for place in range(first, first + levels[level, LEVEL_COUNT]):
        cell = cells[place]
        if cell > end:
            found = _emit_wrapped(grid, level, place, offsets, rows, pairs, found)
            continue
        found = _emit_span(place, place + 1, start[cell + 2], items, slots, pairs, found)
        for row in range(rows):
            near = cell + offsets[row]
            found = _emit_span(place, start[near - 1], start[near + 2], items, slots, pairs, found)
    return found


@kernel
def _emit_finer(grid: Grid, level: int, place: int, box: I64, pairs: I32, found: int) -> int:
    """Appends the pairs of one thing with the things of a finer level."""
    _, levels, _, _, _, items, slots, _ = grid
    x = items[0, place]
    y = items[1, place]
    z = items[2, place]
    r = items[3, place]
    first = levels[level, LEVEL_FIRST]
    kind = cell_box(grid, level, (x - r, y - r, z - r), (x + r, y + r, z + r), box)
    if kind == BOX_ALL:
        return _emit_span(place, first, first + levels[level, LEVEL_COUNT], items, slots, pairs, found)
    if kind == BOX_EMPTY:
        return found
    for slab in range(box[3]):
        for row in range(box[2]):
            address = box[0] + row * levels[level, LEVEL_WIDTH] + slab * levels[level, LEVEL_SLAB]
            begin, end, rest = row_span(grid, level, address, box[1])
            found = _emit_span(place, begin, end, items, slots, pairs, found)
            if rest > 0:
                found = _emit_span(place, first, first + rest, items, slots, pairs, found)
    return found


@kernel(f"({GRID_TYPE}, i8[::1], i4[:,::1])")
def find_pairs(grid: Grid, scratch: I64, pairs: I32) -> int:
    """Writes all pairs of things that overlap or touch, each once, the lower slot first.

    Args:
        grid: A built grid.
        scratch: Shape (8,), int64.
        pairs: Shape (capacity + LANES, 2), int32. The rows from `capacity` on are scratch.

    Returns:
        How many pairs there are. Where that is more than `capacity`, the first `capacity` are written.
    """
    header, levels, _, _, _, _, _, _ = grid
    found = 0
    for level in range(header[HEADER_LEVELS]):
        found = _sweep_level(grid, level, scratch, pairs, found)
        if level == 0:
            continue
        first = levels[level, LEVEL_FIRST]
        for place in range(first, first + levels[level, LEVEL_COUNT]):
            for finer in range(level):
                found = _emit_finer(grid, finer, place, scratch, pairs, found)
    return found
