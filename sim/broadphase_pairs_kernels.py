"""Kernels that sweep a built grid for all pairs of things whose spheres overlap or touch.

`sim.broadphase_kernels` has the layout of `grid` and the order of the things in it. Two things overlap where

    (dx·dx + dy·dy) + dz·dz <= (radius + radius)²

in float64, in this order of operations, whatever the path by which the two were brought together.
"""

import numpy as np

from sim.arrays import F64, I32, I64
from sim.broadphase_kernels import (
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
from sim.jit import kernel, llvm_function

__all__ = ["find_pairs"]


def _emit_plain(
    items: F64,
    _stride: int,
    slots: I32,
    first: int,
    last: int,
    x: float,
    y: float,
    z: float,
    r: float,
    slot: int,
    pairs: I32,
    room: int,
    found: int,
) -> int:
    """Appends the pairs of one thing with those of the things [first, last) that overlap it.

    LANES things are read and LANES rows of `pairs` written from `min(found, room)` on, even where the span is empty
    or ends in between: the arrays have room for it, and empty spans come at random, so that asking costs more than
    eight lanes. The lower slot is not put first here, where most lanes hold no pair, but at the end, for the pairs
    alone. `_stride` is the length of a row of `items`.

    Returns:
        `found` and the number of pairs of this span.
    """
    for other in range(first, last):
        dx = items[0, other] - x
        dy = items[1, other] - y
        dz = items[2, other] - z
        reach = items[3, other] + r
        if (dx * dx + dy * dy) + dz * dz <= reach * reach:
            at = min(found, room)
            pairs[at, 0] = slots[other]
            pairs[at, 1] = slot
            found += 1
    return found


def _splat(kind: str, name: str) -> str:
    """LLVM assembly that copies the argument `name` to all lanes, as `name`.all."""
    return f"""
  %{name}.one = insertelement <8 x {kind}> poison, {kind} %{name}, i32 0
  %{name}.all = shufflevector <8 x {kind}> %{name}.one, <8 x {kind}> poison, <8 x i32> zeroinitializer"""


def _load(name: str, row: int) -> str:
    """LLVM assembly that loads LANES things' values of one row of `items`, as `name`.them."""
    return f"""
  %{name}.row = mul i64 %stride, {row}
  %{name}.index = add i64 %{name}.row, %at
  %{name}.at = getelementptr double, ptr %items, i64 %{name}.index
  %{name}.them = load <8 x double>, ptr %{name}.at, align 8"""


EMIT_LLVM = f"""
declare <8 x i64> @llvm.experimental.vector.compress.v8i64(<8 x i64>, <8 x i1>, <8 x i64>)
declare i64 @llvm.smin.i64(i64, i64)
declare i8 @llvm.ctpop.i8(i8)

define weak_odr i64 @hitreg_emit(ptr %items, i64 %stride, ptr %slots, i64 %first, i64 %last,
    double %x, double %y, double %z, double %r, i64 %slot.wide, ptr %pairs, i64 %room, i64 %found) alwaysinline {{
  {_splat("double", "x")} {_splat("double", "y")} {_splat("double", "z")} {_splat("double", "r")}
  %slot = shl i64 %slot.wide, 32
  {_splat("i64", "slot")}
  br label %lanes
lanes:
  %at = phi i64 [ %first, %0 ], [ %next, %lanes ]
  %so.far = phi i64 [ %found, %0 ], [ %sum, %lanes ]
  %left = sub i64 %last, %at
  {_splat("i64", "left")}
  %within = icmp sgt <8 x i64> %left.all, <i64 0, i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7>
  {_load("x", 0)} {_load("y", 1)} {_load("z", 2)} {_load("r", 3)}
  %dx = fsub <8 x double> %x.them, %x.all
  %dy = fsub <8 x double> %y.them, %y.all
  %dz = fsub <8 x double> %z.them, %z.all
  %reach = fadd <8 x double> %r.them, %r.all
  %xx = fmul <8 x double> %dx, %dx
  %yy = fmul <8 x double> %dy, %dy
  %zz = fmul <8 x double> %dz, %dz
  %xy = fadd <8 x double> %xx, %yy
  %apart = fadd <8 x double> %xy, %zz
  %limit = fmul <8 x double> %reach, %reach
  %close = fcmp ole <8 x double> %apart, %limit
  %hit = and <8 x i1> %close, %within
  %slots.at = getelementptr i32, ptr %slots, i64 %at
  %slots.them = load <8 x i32>, ptr %slots.at, align 4
  %slots.wide = zext <8 x i32> %slots.them to <8 x i64>
  %both = or <8 x i64> %slots.wide, %slot.all
  %packed = call <8 x i64> @llvm.experimental.vector.compress.v8i64(
      <8 x i64> %both, <8 x i1> %hit, <8 x i64> poison)
  %place = call i64 @llvm.smin.i64(i64 %so.far, i64 %room)
  %place.at = getelementptr i64, ptr %pairs, i64 %place
  store <8 x i64> %packed, ptr %place.at, align 4
  %bits = bitcast <8 x i1> %hit to i8
  %ones = call i8 @llvm.ctpop.i8(i8 %bits)
  %count = zext i8 %ones to i64
  %sum = add i64 %so.far, %count
  %next = add i64 %at, 8
  %more = icmp slt i64 %next, %last
  br i1 %more, label %lanes, label %done
done:
  ret i64 %sum
}}
"""

_emit = llvm_function("hitreg_emit", EMIT_LLVM, _emit_plain, returns="i8")


@kernel
def _emit_span(place: int, first: int, last: int, items: F64, slots: I32, pairs: I32, found: int) -> int:
    """Appends the pairs of the thing at `place` with the things [first, last) that overlap it.

    Returns:
        `found` and the number of pairs of this span.
    """
    x = items[0, place]
    y = items[1, place]
    z = items[2, place]
    r = items[3, place]
    stride = items.shape[1]
    room = pairs.shape[0] - LANES
    return _emit(items, stride, slots, first, last, x, y, z, r, slots[place], pairs, room, found)


@kernel
def _emit_wrapped(grid: Grid, level: int, place: int, offsets: I64, rows: int, pairs: I32, found: int) -> int:
    """As the spans of `_sweep_level`, for a thing so near the end of the table that its neighbours wrap around."""
    start = grid[4]
    base = grid[1][level, LEVEL_BASE]
    count = grid[1][level, LEVEL_CELLS]
    cell = grid[7][place] - base
    for row in range(rows):
        for step in range(0 if row == 0 else -1, 2):
            near = base + (cell + offsets[row] + step) % count
            first = place + 1 if row == 0 and step == 0 else int(start[near])
            found = _emit_span(place, first, start[near + 1], grid[5], grid[6], pairs, found)
    return found


@kernel
def _sweep_level(grid: Grid, level: int, offsets: I64, pairs: I32, found: int) -> int:
    """Appends the pairs within one level."""
    levels = grid[1]
    start = grid[4]
    items = grid[5]
    slots = grid[6]
    stride = items.shape[1]
    room = pairs.shape[0] - LANES
    width = levels[level, LEVEL_WIDTH]
    slab = levels[level, LEVEL_SLAB]
    offsets[0] = 0
    offsets[1] = width
    offsets[2] = slab - width
    offsets[3] = slab
    offsets[4] = slab + width
    deep = grid[0][HEADER_DIMENSIONS] == 3
    rows = 5 if deep else 2
    end = levels[level, LEVEL_BASE] + levels[level, LEVEL_CELLS] - (offsets[rows - 1] + 2)
    begin = levels[level, LEVEL_FIRST]
    for place in range(begin, begin + levels[level, LEVEL_COUNT]):
        cell = int(grid[7][place])
        if cell > end:
            found = _emit_wrapped(grid, level, place, offsets, rows, pairs, found)
            continue
        x = items[0, place]
        y = items[1, place]
        z = items[2, place]
        r = items[3, place]
        slot = slots[place]
        # Unsigned indices spare the test for negative ones; with the rows written out, what does not change stays in
        # registers.
        last = start[np.uint64(cell + 2)]
        found = _emit(items, stride, slots, place + 1, last, x, y, z, r, slot, pairs, room, found)
        first = start[np.uint64(cell + width - 1)]
        last = start[np.uint64(cell + width + 2)]
        found = _emit(items, stride, slots, first, last, x, y, z, r, slot, pairs, room, found)
        if deep:
            near = cell + slab - width
            first = start[np.uint64(near - 1)]
            last = start[np.uint64(near + 2)]
            found = _emit(items, stride, slots, first, last, x, y, z, r, slot, pairs, room, found)
            near = cell + slab
            first = start[np.uint64(near - 1)]
            last = start[np.uint64(near + 2)]
            found = _emit(items, stride, slots, first, last, x, y, z, r, slot, pairs, room, found)
            near = cell + slab + width
            first = start[np.uint64(near - 1)]
            last = start[np.uint64(near + 2)]
            found = _emit(items, stride, slots, first, last, x, y, z, r, slot, pairs, room, found)
    return found


@kernel
def _emit_finer(grid: Grid, level: int, place: int, box: I64, pairs: I32, found: int) -> int:
    """Appends the pairs of one thing with the things of a finer level."""
    items = grid[5]
    x = items[0, place]
    y = items[1, place]
    z = items[2, place]
    r = items[3, place]
    cell_box(grid, level, (x - r, y - r, z - r), (x + r, y + r, z + r), box)
    for slab in range(box[3]):
        for row in range(box[2]):
            first, last, rest = row_span(grid, level, box, slab, row)
            found = _emit_span(place, first, last, items, grid[6], pairs, found)
            if rest > 0:
                first = grid[1][level, LEVEL_FIRST]
                found = _emit_span(place, first, first + rest, items, grid[6], pairs, found)
    return found


@kernel
def _put_lower_first(pairs: I32, count: int) -> None:
    """Orders the two slots of each pair."""
    for index in range(count):
        first = pairs[index, 0]
        second = pairs[index, 1]
        pairs[index, 0] = min(first, second)
        pairs[index, 1] = max(first, second)


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
    header = grid[0]
    levels = grid[1]
    found = 0
    for level in range(header[HEADER_LEVELS]):
        found = _sweep_level(grid, level, scratch, pairs, found)
        if level == 0:
            continue
        first = levels[level, LEVEL_FIRST]
        for place in range(first, first + levels[level, LEVEL_COUNT]):
            for finer in range(level):
                found = _emit_finer(grid, finer, place, scratch, pairs, found)
    _put_lower_first(pairs, min(found, pairs.shape[0] - LANES))
    return found
