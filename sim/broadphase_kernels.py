"""Kernels of the broadphase: a counting-sort grid by size class, swept by rows.

Source. Uniform grid with counting sort as in Green, "Particle Simulation using CUDA" (2010); size classes as the
hierarchical grid of Ericson, "Real-Time Collision Detection" (2005), section 7.2; what is ours is the row span, the
torus that stands in for hashing, and the refinement by occupancy. docs/adr/0003-broadphase.md has the measurements.

Layout. Things are grouped in levels: the largest diameter in a level is at most twice the smallest, except in the
lowest, which takes everything smaller than the spacing of the crowd. A level has its own cells, at least as large as
its largest diameter, so that two of its things that touch are in the same or in neighbouring cells. Cell (ix, iy, iz)
has the address

    base + (ix + width·iy + slab·iz) mod cells          slab = width·height, cells = slab·depth

Cells next to each other in x are next to each other in memory, so three cells of a row are one span of the sorted
things: a thing meets its forward neighbours in 1 + 1 spans in 2-D and 1 + 4 in 3-D, instead of 4 and 13 cells. Where
the whole extent fits in the budget of cells, there is one empty column, row and slab more than needed and nothing
wraps. Where it does not (a town in an empty country), the cells wrap around: things that are far apart share a cell
and are told apart by the exact test, and since the address is linear and each side at least 3, no pair is met twice.

`grid` is one tuple of arrays (GRID_TYPE):

    header  int64 (8,)         see the HEADER_ names
    levels  int64 (16, 8)      see the LEVEL_ names
    sizes   float64 (16, 4)    cell side [m], 1 / cell side, largest radius [m], side above which refining helps [m]
    bounds  float64 (6,)       lowest and highest centre [m]
    start   int32 (2·capacity + 1026,)  first sorted thing of each cell
    items   float64 (4, capacity + 8)   x, y, z, radius [m] in the order of cells; z is 0 in 2-D
    slots   int32 (capacity + 8,)       slot of each sorted thing
    cells   int32 (capacity + 8,)       cell of each sorted thing

Order. Things are sorted by (level, cell, slot), which is a function of positions, radii and the active mask alone.
"""

import numpy as np

from sim.arrays import F64, I32, I64, U8, Bool
from sim.jit import kernel

__all__ = [
    "CELLS_EXTRA",
    "CELLS_PER_ITEM",
    "CLASSES",
    "GRID_TYPE",
    "HEADER_CELLS",
    "HEADER_DIMENSIONS",
    "HEADER_ITEMS",
    "HEADER_LEVELS",
    "HEADER_REFUSED",
    "HEADER_ROUNDS",
    "LANES",
    "LEVELS_MAX",
    "LEVEL_BASE",
    "LEVEL_CELLS",
    "LEVEL_COUNT",
    "LEVEL_DEPTH",
    "LEVEL_FIRST",
    "LEVEL_HEIGHT",
    "LEVEL_SLAB",
    "LEVEL_WIDTH",
    "LIMIT_M",
    "WORK_TYPE",
    "Grid",
    "Point",
    "Work",
    "build",
    "cell_box",
    "row_span",
]

Grid = tuple[I64, I64, F64, F64, I32, F64, I32, I32]
Point = tuple[float, float, float]
Work = tuple[I32, U8, I64, F64, I64]
GRID_TYPE = "Tuple((i8[::1], i8[:,::1], f8[:,::1], f8[::1], i4[::1], f8[:,::1], i4[::1], i4[::1]))"
WORK_TYPE = "Tuple((i4[::1], u1[::1], i8[::1], f8[::1], i8[::1]))"

HEADER_DIMENSIONS = 0
HEADER_LEVELS = 1
HEADER_ITEMS = 2
HEADER_REFUSED = 3  # active, but not finite, out of range, or of negative radius
HEADER_CELLS = 4
HEADER_ROUNDS = 5  # how often the plan was refined

BOX_ALL = -1

LEVEL_BASE = 0
LEVEL_WIDTH = 1
LEVEL_SLAB = 2
LEVEL_CELLS = 3
LEVEL_FIRST = 4
LEVEL_COUNT = 5
LEVEL_HEIGHT = 6
LEVEL_DEPTH = 7

LEVELS_MAX = 16
CLASSES = 128  # of radius, four to an octave, from 2^-10 m up
CLASS_NONE = 255
CLASS_SHIFT = 50  # keeps the exponent and two bits of the mantissa
CLASS_FIRST = 1013 << 2
LIMIT_M = 1e9  # farther, or larger, is refused
CELL_MIN_M = 1e-3
CELLS_PER_ITEM = 2
CELLS_PER_LEVEL = 64
CELLS_EXTRA = LEVELS_MAX * CELLS_PER_LEVEL + 2
LANES = 8
ROUNDS_MAX = 4
CROWDED = 16.0  # mean number of things in a thing's cell above which finer cells are tried


@kernel
def _measure(positions: F64, radii: F64, active: Bool, grid: Grid, work: Work) -> int:
    """Writes the bounds of all things that take part, and their one class where they differ little in size.

    Returns:
        How many take part.
    """
    bounds = grid[3]
    classes = work[1]
    flat = grid[0][HEADER_DIMENSIONS] == 2
    low_x = low_y = low_z = least = np.inf
    high_x = high_y = high_z = most = -np.inf
    refused = 0
    count = 0
    for slot in range(positions.shape[0]):
        classes[slot] = CLASS_NONE
        if not active[slot]:
            continue
        x = positions[slot, 0]
        y = positions[slot, 1]
        z = 0.0 if flat else positions[slot, 2]
        r = radii[slot]
        # Written so that NaN fails it.
        if not (abs(x) <= LIMIT_M and abs(y) <= LIMIT_M and abs(z) <= LIMIT_M and 0.0 <= r <= LIMIT_M):
            refused += 1
            continue
        low_x = min(low_x, x)
        low_y = min(low_y, y)
        low_z = min(low_z, z)
        least = min(least, r)
        high_x = max(high_x, x)
        high_y = max(high_y, y)
        high_z = max(high_z, z)
        most = max(most, r)
        classes[slot] = 0
        count += 1
    bounds[0] = low_x
    bounds[1] = low_y
    bounds[2] = low_z
    bounds[3] = high_x
    bounds[4] = high_y
    bounds[5] = high_z
    work[2][:] = 0
    work[3][:] = 0.0
    work[2][0] = count
    work[3][0] = most
    grid[0][HEADER_ITEMS] = count
    grid[0][HEADER_REFUSED] = refused
    if most > 2.0 * least:
        _classify(radii, work)
    return count


@kernel
def _classify(radii: F64, work: Work) -> None:
    """Writes the class of each thing that takes part, and count and largest radius of each class."""
    classes = work[1]
    class_count = work[2]
    class_max = work[3]
    bits = radii.view(np.int64)
    class_count[0] = 0
    class_max[0] = 0.0
    for slot in range(radii.shape[0]):
        if classes[slot] == CLASS_NONE:
            continue
        size_class = min(max((bits[slot] >> CLASS_SHIFT) - CLASS_FIRST, 0), CLASSES - 1)
        classes[slot] = size_class
        class_count[size_class] += 1
        class_max[size_class] = max(class_max[size_class], radii[slot])


@kernel
def _cells_needed(bounds: F64, dimensions: int, size: float) -> float:
    """Cells of side `size` that cover the bounds, with one empty column, row and slab more."""
    inverse = 1.0 / size
    cells = 1.0
    for axis in range(dimensions):
        cells *= np.floor((bounds[axis + 3] - bounds[axis]) * inverse) + 2.0
    return cells


@kernel
def _fit_size(bounds: F64, dimensions: int, least: float, budget: float) -> float:
    """The smallest side, of a coarse series from `least` up, whose cells are within the budget."""
    size = least
    if _cells_needed(bounds, dimensions, size) <= budget:
        return size
    while _cells_needed(bounds, dimensions, size * 2.0) > budget:
        size *= 2.0
    while _cells_needed(bounds, dimensions, size) > budget:
        size *= 1.0625
    return size


@kernel
def _lay_out(grid: Grid, level: int, size: float, budget: int) -> None:
    """Sets one level's cell size and its sides, wrapped around where they would not be within the budget."""
    header = grid[0]
    levels = grid[1]
    sizes = grid[2]
    bounds = grid[3]
    dimensions = header[HEADER_DIMENSIONS]
    sizes[level, 0] = size
    sizes[level, 1] = 1.0 / size
    width = np.floor((bounds[3] - bounds[0]) * sizes[level, 1]) + 2.0
    height = np.floor((bounds[4] - bounds[1]) * sizes[level, 1]) + 2.0
    depth = np.floor((bounds[5] - bounds[2]) * sizes[level, 1]) + 2.0 if dimensions == 3 else 1.0
    while width * height * depth > budget:
        if width >= height and width >= depth:
            width = max(3.0, np.floor(width * 0.75))
        elif height >= depth:
            height = max(3.0, np.floor(height * 0.75))
        else:
            depth = max(3.0, np.floor(depth * 0.75))
        if width * height * depth <= budget:
            width = max(width, 3.0)
            height = max(height, 3.0)
            depth = max(depth, 3.0) if dimensions == 3 else 1.0
    levels[level, LEVEL_WIDTH] = int(width)
    levels[level, LEVEL_HEIGHT] = int(height)
    levels[level, LEVEL_DEPTH] = int(depth)
    levels[level, LEVEL_SLAB] = int(width * height)
    levels[level, LEVEL_CELLS] = int(width * height * depth)


@kernel
def _plan(grid: Grid, work: Work, shrink: float) -> None:
    """Groups the classes in levels and lays out each level's cells.

    `shrink` below 1 makes cells finer than an even spread of the things would want.
    """
    header = grid[0]
    levels = grid[1]
    sizes = grid[2]
    bounds = grid[3]
    class_count = work[2]
    class_max = work[3]
    class_level = work[4]
    dimensions = header[HEADER_DIMENSIONS]
    extent = max(bounds[3] - bounds[0], bounds[4] - bounds[1], bounds[5] - bounds[2])
    slack = CELL_MIN_M + extent * 2.0**-49
    budget = float(CELLS_PER_ITEM * header[HEADER_ITEMS] + CELLS_PER_LEVEL)
    spacing = _fit_size(bounds, dimensions, slack, budget) * shrink
    level = -1
    limit = -1.0
    for size_class in range(CLASSES):
        if class_count[size_class] == 0:
            continue
        diameter = 2.0 * class_max[size_class]
        if level < 0 or (diameter > limit and level < LEVELS_MAX - 1):
            level += 1
            levels[level, LEVEL_COUNT] = 0
            limit = max(2.0 * diameter, spacing) if level == 0 else 2.0 * diameter
            sizes[level, 3] = 2.5 * diameter + slack if level == 0 else np.inf
        class_level[size_class] = level
        levels[level, LEVEL_COUNT] += class_count[size_class]
        sizes[level, 2] = class_max[size_class]
    header[HEADER_LEVELS] = level + 1
    base = 0
    for level in range(header[HEADER_LEVELS]):
        # Rounding may part two things at exactly the largest diameter by a little more than a cell: hence the slack.
        least = 2.0 * sizes[level, 2] * (1.0 + 2.0**-40) + slack
        level_budget = CELLS_PER_ITEM * levels[level, LEVEL_COUNT] + CELLS_PER_LEVEL
        size = _fit_size(bounds, dimensions, least, float(level_budget))
        sizes[level, 3] = min(sizes[level, 3], 1.25 * least)
        _lay_out(grid, level, max(least, size * shrink), level_budget)
        levels[level, LEVEL_BASE] = base
        base += levels[level, LEVEL_CELLS]
    header[HEADER_CELLS] = base


@kernel
def _count(positions: F64, grid: Grid, work: Work) -> None:
    """Writes each thing's cell, and how many things each cell has into `start`, two places on."""
    levels = grid[1]
    start = grid[4]
    cells = work[0]
    classes = work[1]
    x0 = grid[3][0]
    y0 = grid[3][1]
    z0 = grid[3][2]
    flat = grid[0][HEADER_DIMENSIONS] == 2
    start[: grid[0][HEADER_CELLS] + 2] = 0
    latest = -1
    inverse = 0.0
    base = width = slab = count = 0
    for slot in range(positions.shape[0]):
        if classes[slot] == CLASS_NONE:
            continue
        level = work[4][classes[slot]]
        # Most worlds have one level: its numbers stay in registers.
        if level != latest:
            latest = level
            inverse = grid[2][level, 1]
            base = levels[level, LEVEL_BASE]
            width = levels[level, LEVEL_WIDTH]
            slab = levels[level, LEVEL_SLAB]
            count = levels[level, LEVEL_CELLS]
        # Centres are not below the lowest, so that truncation is the floor.
        cell = int((positions[slot, 0] - x0) * inverse) + int((positions[slot, 1] - y0) * inverse) * width
        if not flat:
            cell += int((positions[slot, 2] - z0) * inverse) * slab
        if cell >= count:
            cell %= count
        cells[slot] = cell + base
        start[cell + base + 2] += 1


@kernel
def _prefix(grid: Grid) -> float:
    """Turns counts into first places, one place on; tells how crowded the cells that can be refined are.

    Returns:
        The largest, over the levels with cells larger than their things need, of the mean number of things that
        share a thing's cell.
    """
    header = grid[0]
    levels = grid[1]
    sizes = grid[2]
    start = grid[4]
    worst = 0.0
    total = 0
    for level in range(header[HEADER_LEVELS]):
        levels[level, LEVEL_FIRST] = total
        squares = 0
        base = levels[level, LEVEL_BASE]
        for cell in range(base + 2, base + 2 + levels[level, LEVEL_CELLS]):
            count = int(start[cell])
            squares += count * count
            total += count
            start[cell] = total
        crowd = squares / levels[level, LEVEL_COUNT]
        if sizes[level, 0] > sizes[level, 3]:
            worst = max(worst, crowd)
    return worst


@kernel
def _place(positions: F64, radii: F64, grid: Grid, work: Work) -> None:
    """Sorts: slots by cell, then the things' coordinates gathered in that order.

    Scattering the slots alone and gathering the rest afterwards keeps the random writes within the second-level cache.
    """
    header = grid[0]
    start = grid[4]
    items = grid[5]
    slots = grid[6]
    sorted_cells = grid[7]
    cells = work[0]
    classes = work[1]
    for slot in range(positions.shape[0]):
        if classes[slot] == CLASS_NONE:
            continue
        place = start[cells[slot] + 1]
        start[cells[slot] + 1] = place + 1
        slots[place] = slot
    flat = header[HEADER_DIMENSIONS] == 2
    for place in range(header[HEADER_ITEMS]):
        slot = slots[place]
        items[0, place] = positions[slot, 0]
        items[1, place] = positions[slot, 1]
        items[2, place] = 0.0 if flat else positions[slot, 2]
        items[3, place] = radii[slot]
        sorted_cells[place] = cells[slot]


@kernel(f"(f8[:,::1], f8[::1], b1[::1], {GRID_TYPE}, {WORK_TYPE})")
def build(positions: F64, radii: F64, active: Bool, grid: Grid, work: Work) -> int:
    """Sorts all active things into the grid.

    Args:
        positions: Centres [m], shape (count, 2 or 3), float64.
        radii: Radii [m], shape (count,), float64.
        active: Which slots take part, shape (count,).
        grid: The grid to write; `header[HEADER_DIMENSIONS]` is set.
        work: Scratch: cell and class per slot; count, largest radius and level per class.

    Returns:
        How many things are in the grid.
    """
    header = grid[0]
    header[HEADER_LEVELS] = 0
    header[HEADER_CELLS] = 0
    header[HEADER_ROUNDS] = 0
    count = _measure(positions, radii, active, grid, work)
    if count == 0:
        return 0
    shrink = 1.0
    _plan(grid, work, shrink)
    _count(positions, grid, work)
    crowd = _prefix(grid)
    before = np.inf
    while crowd > CROWDED and crowd < 0.75 * before and header[HEADER_ROUNDS] < ROUNDS_MAX:
        before = crowd
        header[HEADER_ROUNDS] += 1
        shrink /= np.sqrt(crowd * 0.5)
        _plan(grid, work, shrink)
        _count(positions, grid, work)
        crowd = _prefix(grid)
    _place(positions, radii, grid, work)
    return count


@kernel
def cell_box(grid: Grid, level: int, low: Point, high: Point, box: I64) -> None:
    """Writes which cells of a level can hold the centres of things that touch an axis-aligned box.

    Args:
        grid: A built grid.
        level: Which level.
        low: Lowest corner [m].
        high: Highest corner [m].
        box: Written, for `row_span`: address of the first cell, neither wrapped nor based, and the numbers of cells
            along x, of rows and of slabs. No slabs: nothing can touch. Where reading every thing of the level is
            cheaper, or the cells would wrap onto themselves: one row of BOX_ALL cells.
    """
    levels = grid[1]
    bounds = grid[3]
    widest = grid[2][level, 2] * (1.0 + 2.0**-40)
    inverse = grid[2][level, 1]
    box[0] = 0
    box[3] = 1
    stride = 1
    for axis in range(grid[0][HEADER_DIMENSIONS]):
        # No centre is beyond LIMIT_M, and infinity would spoil the sums.
        lower = min(max(low[axis], -4.0 * LIMIT_M), 4.0 * LIMIT_M)
        upper = min(max(high[axis], -4.0 * LIMIT_M), 4.0 * LIMIT_M)
        # The second term outweighs the rounding of these sums and of the exact test.
        margin = widest + (abs(lower) + abs(upper) + widest) * 2.0**-48 + 1e-100
        first = max(lower - margin, bounds[axis])
        last = min(upper + margin, bounds[axis + 3])
        if not first <= last:
            box[3] = 0
            return
        cell = int((first - bounds[axis]) * inverse)
        box[axis + 1] = int((last - bounds[axis]) * inverse) - cell + 1
        box[0] += cell * stride
        stride = levels[level, LEVEL_WIDTH] if axis == 0 else levels[level, LEVEL_SLAB]
    wraps = (
        box[1] > levels[level, LEVEL_WIDTH]
        or box[2] > levels[level, LEVEL_HEIGHT]
        or box[3] > levels[level, LEVEL_DEPTH]
    )
    # A row costs about as much as LANES things read one after the other.
    if wraps or box[2] * box[3] * LANES > levels[level, LEVEL_COUNT] + LANES:
        box[1] = BOX_ALL
        box[2] = 1
        box[3] = 1


@kernel
def row_span(grid: Grid, level: int, box: I64, slab: int, row: int) -> tuple[int, int, int]:
    """The things in one row of the cells that `cell_box` found.

    Returns:
        First and last + 1 in the sorted things, and how many things more follow from the level's first thing on,
        where the row wraps around.
    """
    levels = grid[1]
    start = grid[4]
    origin = levels[level, LEVEL_FIRST]
    if box[1] == BOX_ALL:
        return origin, origin + levels[level, LEVEL_COUNT], 0
    base = levels[level, LEVEL_BASE]
    cells = levels[level, LEVEL_CELLS]
    address = box[0] + row * levels[level, LEVEL_WIDTH] + slab * levels[level, LEVEL_SLAB]
    if address >= cells:
        address %= cells
    end = address + box[1]
    if end <= cells:
        return int(start[base + address]), int(start[base + end]), 0
    return int(start[base + address]), int(start[base + cells]), start[base + end - cells] - origin
