"""Whom a ray meets first, of many players, each where it was at the ray's own moment.

Every player is sorted by counting into the square cells of the plane that its boxes reach into at any tick of a window,
so that one gathering serves rays of all moments in it. Cells are found by a hash of their place: the plane has no
frame, and players far away neither widen the cells nor lengthen any ray's list. A ray visits the cells it crosses,
nearest first, and ends where the next cell begins behind the best hit. The walk is that of Amanatides and Woo, "A Fast
Voxel Traversal Algorithm for Ray Tracing" (1987). The answer is the same, to the bit, as that of a loop
over all players.

CROWD is (start, rows, seen, bounds, frame, counts): start int32 (cells + 1,) first entry of each cell; rows int32
((ENTRIES_PER_PLAYER + 1) · players,) the players' rows, ascending within a cell, and at the end those of who were in
too many cells (who went through a teleport), whom every ray tries; seen int64 (players,) the last ray that tried each;
bounds float64 (players, 8) what each was within over the window: low and high x, low and high y, low and high z, then a
disc around it: radius; frame float64 (4,) the lowest and highest x, lowest and highest y of all [m]; counts int64 (4,)
who can be hit, how many of them every ray tries, rays so far, cells in use less one: a power of two less one, by how
many rows are in use.
"""

from math import sqrt
from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I32, I64
from sim.hitbox_kernels import BODY_WIDTH, PART_NONE, body_hit
from sim.jit import kernel
from sim.rewind_kernels import FEET, HEIGHT, HISTORY_TYPE, IDS, SINCE, HistoryArrays, pose_at

__all__ = ["CELLS_PER_PLAYER", "CROWD_TYPE", "ENTRIES_PER_PLAYER", "CrowdArrays", "first_body", "gather_crowd"]

CROWD_TYPE = "Tuple((i4[::1], i4[::1], i8[::1], f8[:,::1], f8[::1], i8[::1]))"
CrowdArrays: TypeAlias = tuple[I32, I32, I64, F64, F64, I64]
Vector: TypeAlias = tuple[float, float, float]

CELLS_PER_PLAYER = 4
ENTRIES_PER_PLAYER = 9  # three cells by three: who runs at 15 m/s through a window of half a second
SIDE = 3.0  # [m]
SCALE = 1.0 / SIDE
MARGIN = 0.01  # [m] by which entries reach farther than boxes, far beyond any rounding of the walk
FLAT = 1e-12  # a unit ray slower than this along an axis stays in its line of cells for any range allowed
CELLS_CROSSED_MAX = 60_000  # by a ray of the greatest range, 1e5 m
PLACE_MAX = 1e8  # [m]; whoever is farther out, or nowhere, is in no cell
WIDE = -1
LINES = 1 << 26  # beyond every line of cells: to round down by cutting off


@kernel(counted=False, merge=True)
def _line(value: float) -> int:
    """Line of cells in which a coordinate lies."""
    return int(value * SCALE + LINES) - LINES


@kernel(counted=False, merge=True)
def _cell(column: int, line: int, mask: int) -> int:
    """Place of a cell in the table: neighbours, and cells far apart, come to lie anywhere."""
    mixed = column * 0x9E3779B1 ^ line * 0x85EBCA77
    return ((mixed >> 15) ^ mixed) & mask


@kernel(inline=True)
def _bound(history: HistoryArrays, tick: int, ticks: int, grow: float, bounds: F64) -> int:
    """Find what each player's boxes were within from `ticks` ticks ago on; returns behind which row nobody is.

    Tick by tick, as they lie in memory: player by player took three times as long.
    """
    feet, height, since = history[FEET], history[HEIGHT], history[SINCE]
    mask = feet.shape[0] - 1
    now = np.uint64(tick & mask)
    # Behind the last row that can be hit nobody looks: a match of 64 fills a sixteenth of the table.
    last: int = height.shape[1]
    while last > 0 and history[IDS][now, last - 1] == 0:
        last -= 1
    count = np.uint64(last)
    for row in range(count):
        x, y, z, tall = feet[now, row, 0], feet[now, row, 1], feet[now, row, 2], height[now, row]
        bounds[row, 0], bounds[row, 2], bounds[row, 4] = x, y, z
        bounds[row, 1], bounds[row, 3], bounds[row, 5], bounds[row, 6] = x, y, z + tall, tall
    for past in range(max(tick - ticks, 0), tick):
        slot = np.uint64(past & mask)
        for row in range(count):
            if past >= since[row]:
                x, y, z, tall = feet[slot, row, 0], feet[slot, row, 1], feet[slot, row, 2], height[slot, row]
                top = z + tall
                bounds[row, 0] = x if x < bounds[row, 0] else bounds[row, 0]
                bounds[row, 1] = x if x > bounds[row, 1] else bounds[row, 1]
                bounds[row, 2] = y if y < bounds[row, 2] else bounds[row, 2]
                bounds[row, 3] = y if y > bounds[row, 3] else bounds[row, 3]
                bounds[row, 4] = z if z < bounds[row, 4] else bounds[row, 4]
                bounds[row, 5] = top if top > bounds[row, 5] else bounds[row, 5]
                bounds[row, 6] = tall if tall > bounds[row, 6] else bounds[row, 6]
    for row in range(count):
        reach = BODY_WIDTH * bounds[row, 6] + grow + MARGIN
        for axis in range(3):
            bounds[row, 2 * axis] -= reach
            bounds[row, 2 * axis + 1] += reach
        x, y = bounds[row, 1] - bounds[row, 0], bounds[row, 3] - bounds[row, 2]
        bounds[row, 6] = 0.5 * sqrt(x * x + y * y)
    return last


@kernel(counted=False)
def _place(crowd: CrowdArrays, row: int, out_lines: I32) -> None:
    """Find a player's lines of cells (first and last column, first and last line) and count its entries."""
    start, rows, _, bounds, frame, counts = crowd
    low_x, high_x, low_y, high_y = bounds[row, 0], bounds[row, 1], bounds[row, 2], bounds[row, 3]
    inside = low_x > -PLACE_MAX and high_x < PLACE_MAX and low_y > -PLACE_MAX and high_y < PLACE_MAX
    entries = 0
    if inside:
        frame[0], frame[1] = min(frame[0], low_x), max(frame[1], high_x)
        frame[2], frame[3] = min(frame[2], low_y), max(frame[3], high_y)
        out_lines[row, 0], out_lines[row, 1] = _line(low_x), _line(high_x)
        out_lines[row, 2], out_lines[row, 3] = _line(low_y), _line(high_y)
        entries = (out_lines[row, 1] - out_lines[row, 0] + 1) * (out_lines[row, 3] - out_lines[row, 2] + 1)
    counts[0] += 1
    if not 0 < entries <= ENTRIES_PER_PLAYER:
        counts[1] += 1
        rows[rows.shape[0] - counts[1]] = row
        out_lines[row, 0], out_lines[row, 1] = 1, WIDE  # no cell
        return
    for column in range(out_lines[row, 0], out_lines[row, 1] + 1):
        for line in range(out_lines[row, 2], out_lines[row, 3] + 1):
            start[_cell(column, line, counts[3]) + 1] += 1


@kernel(f"({HISTORY_TYPE}, i8, i8, f8, i4[:,::1], {CROWD_TYPE})", counted=False)
def gather_crowd(history: HistoryArrays, tick: int, ticks: int, grow: float, lines: I32, crowd: CrowdArrays) -> int:
    """Sort all players who can be hit into cells.

    Args:
        history: Poses; who has an id at `tick` can be hit.
        tick: The tick that is being made.
        ticks: How many ticks before it rays may ask for.
        grow: Radius of the widest ray [m].
        lines: Scratch, int32, shape (players, 4).
        crowd: Filled.

    Returns:
        How many can be hit.
    """
    start, rows, _, bounds, frame, counts = crowd
    counts[0], counts[1] = 0, 0
    frame[0], frame[1], frame[2], frame[3] = np.inf, -np.inf, np.inf, -np.inf
    ids = history[IDS][tick & (history[FEET].shape[0] - 1)]
    last = _bound(history, tick, ticks, grow, bounds)
    mask = start.shape[0] - 2
    while mask >= 2 * CELLS_PER_PLAYER * last and mask > 1:
        mask >>= 1
    counts[3] = mask
    for cell in range(np.uint64(mask + 2)):
        start[cell] = 0
    for row in range(last):
        if ids[row] != 0:
            _place(crowd, row, lines)
    total = 0
    for cell in range(1, mask + 2):
        here = start[cell]
        start[cell] = total
        total += here
    # Writing carries every count, which stands one place on, to its end.
    for row in range(last):
        if ids[row] == 0 or lines[row, 1] < lines[row, 0]:
            continue
        for column in range(lines[row, 0], lines[row, 1] + 1):
            for line in range(lines[row, 2], lines[row, 3] + 1):
                cell = _cell(column, line, mask) + 1
                rows[start[cell]] = row
                start[cell] += 1
    return int(counts[0])


@kernel(counted=False, merge=True)
def _passes(bounds: F64, row: int, origin: Vector, ray: Vector, flat: float, best: float) -> bool:
    """Whether a ray, of length `flat` over the plane, may meet what a player was within nearer than `best`.

    Without it every candidate's pose was interpolated, and a shot took 18 µs among 1,000 players where it takes 2.
    """
    radius = bounds[row, 6]
    x = 0.5 * (bounds[row, 0] + bounds[row, 1]) - origin[0]
    y = 0.5 * (bounds[row, 2] + bounds[row, 3]) - origin[1]
    if abs(x * ray[1] - y * ray[0]) > radius * flat:
        return False
    if flat < 1e-6:
        return True
    middle, half = (x * ray[0] + y * ray[1]) / (flat * flat), radius / flat
    low, high = middle - half, middle + half
    if high < 0.0 or low > best:
        return False
    one, two = origin[2] + ray[2] * low, origin[2] + ray[2] * high
    return not (min(one, two) > bounds[row, 5] or max(one, two) < bounds[row, 4])


@kernel(counted=False, merge=True)
def _clip(frame: F64, origin: Vector, ray: Vector, reach: float) -> tuple[float, float]:
    """The part of a ray that is above the frame, as distances; empty where first > last."""
    first, last = 0.0, reach
    for axis in range(2):
        low, high = frame[2 * axis] - origin[axis], frame[2 * axis + 1] - origin[axis]
        if abs(ray[axis]) < FLAT:
            if not low <= 0.0 <= high:
                return 1.0, 0.0
            continue
        a, b = low / ray[axis], high / ray[axis]
        first, last = max(first, min(a, b)), min(last, max(a, b))
    return first, last


@kernel(counted=False, merge=True)
def _spare(seen: I64, stamp: int, row: int) -> None:
    """Let a ray take a player as tried."""
    if row >= 0:
        seen[row] = stamp


@kernel(counted=False)
def first_body(
    crowd: CrowdArrays,
    history: HistoryArrays,
    moment: tuple[int, int],
    origin: Vector,
    ray: Vector,
    reach: float,
    grow: float,
    spared: tuple[int, int, int, int],
) -> tuple[float, int, int]:
    """Nearest player along a ray, each where it was at a moment.

    Args:
        crowd: Made by `gather_crowd` of the same history at the moment's tick, for at least as many ticks back.
        history: Poses.
        moment: (tick, rewind in 1/`REWIND_STEPS` tick).
        origin: Where the ray begins [m].
        ray: Its direction, of length 1.
        reach: How far it goes [m].
        grow: Its radius [m]: that of a sphere that is swept along it.
        spared: Rows of players it does not hit, -1 for none.

    Returns:
        (distance [m], row, part); (reach, -1, PART_NONE) for a miss. Ties go to the lowest row.
    """
    start, rows, seen, bounds, frame, counts = crowd
    counts[2] += 1
    stamp = counts[2]
    one, two, three, four = spared
    _spare(seen, stamp, one)
    _spare(seen, stamp, two)
    _spare(seen, stamp, three)
    _spare(seen, stamp, four)
    best, who, where = reach, -1, PART_NONE
    at, last = _clip(frame, origin, ray, reach)
    mask = counts[3]
    flat = sqrt(ray[0] * ray[0] + ray[1] * ray[1])
    column, line = _line(origin[0] + ray[0] * at), _line(origin[1] + ray[1] * at)
    east, north = (1 if ray[0] > 0.0 else 0), (1 if ray[1] > 0.0 else 0)
    next_x = next_y = every_x = every_y = np.inf
    if abs(ray[0]) >= FLAT:
        every_x = SIDE / abs(ray[0])
        next_x = ((column + east) * SIDE - origin[0]) / ray[0]
    if abs(ray[1]) >= FLAT:
        every_y = SIDE / abs(ray[1])
        next_y = ((line + north) * SIDE - origin[1]) / ray[1]
    # First those who are in no cell, then cell by cell.
    entry, end = rows.shape[0] - counts[1], rows.shape[0]
    for _ in range(CELLS_CROSSED_MAX):
        for index in range(np.uint64(entry), np.uint64(end)):
            row = int(rows[index])
            if seen[row] == stamp:
                continue
            seen[row] = stamp
            if not _passes(bounds, row, origin, ray, flat, best):
                continue
            there, feet, height = pose_at(history, row, moment)
            if there:
                t, part = body_hit(origin, ray, feet, height, grow)
                if t < best or (t == best and 0 <= row < who):
                    best, who, where = t, row, part
        if not at <= min(best, last):
            break
        cell = _cell(column, line, mask)
        entry, end = start[cell], start[cell + 1]
        if next_x < next_y:
            column += 2 * east - 1
            at = next_x
            next_x += every_x
        else:
            line += 2 * north - 1
            at = next_y
            next_y += every_y
    return best, who, where
