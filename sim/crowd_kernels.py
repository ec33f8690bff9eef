"""Whom a ray meets first, of many players, without looking at those who stand elsewhere.

Players are sorted by counting into square cells of the plane, each into all cells that its boxes may reach into (at
most four); a ray then visits the cells it crosses, nearest first, and ends where the next cell begins behind the best
hit. The walk is that of Amanatides and Woo, "A Fast Voxel Traversal Algorithm for Ray Tracing" (1987), clipped to the
frame. The answer is the same, to the bit, as that of a loop over all players, which took 215 µs where this takes 67 µs
(33 rays, 200 players, sorting included) and 3.9 ms where this takes 0.38 ms (166 rays, 1,000 players).

CROWD is (frame, shape, start, rows): frame float64 (4,) lowest x and y [m], side of a cell [m], cells to the metre;
shape int64 (2,) columns and lines, both 0 when nobody is there; start int32 (CELLS_MAX + 1,) first entry of each cell;
rows int32 (ENTRIES_PER_PLAYER · players,) the players' rows, ascending within a cell.
"""

from math import sqrt
from typing import TypeAlias

from sim.arrays import F64, I32, I64, Bool
from sim.hitbox_kernels import BODY_WIDTH, PART_NONE, body_hit
from sim.jit import kernel

__all__ = ["CELLS_MAX", "CROWD_TYPE", "ENTRIES_PER_PLAYER", "CrowdArrays", "first_body", "gather_crowd"]

CROWD_TYPE = "Tuple((f8[::1], i8[::1], i4[::1], i4[::1]))"
CrowdArrays: TypeAlias = tuple[F64, I64, I32, I32]

LINES_MAX = 64
CELLS_MAX = LINES_MAX * LINES_MAX
ENTRIES_PER_PLAYER = 4
SIDE_LEAST = 2.0  # [m]
MARGIN = 0.01  # [m] by which entries reach farther than boxes, far beyond any rounding of the walk
FLAT = 1e-12  # a unit ray slower than this along an axis stays in its line of cells for any range allowed


@kernel(counted=False)
def _cell(value: float, low: float, scale: float, count: int) -> int:
    """Line of cells in which a coordinate lies, the outermost for what is outside."""
    place = (value - low) * scale
    # Compared before it becomes a whole number, so that no value, NaN neither, can leave the frame.
    return min(int(place), count - 1) if 0.0 < place < LINES_MAX else (count - 1 if place >= LINES_MAX else 0)


@kernel(counted=False)
def _lay_frame(feet: F64, height: F64, targets: Bool, frame: F64, shape: I64) -> tuple[int, float]:
    """Choose the cells; returns how many players there are and how far their boxes reach sideways [m]."""
    low_x = low_y = float("inf")
    high_x = high_y = -float("inf")
    tallest, count = 0.0, 0
    for row in range(targets.shape[0]):
        if not targets[row]:
            continue
        low_x, high_x = min(low_x, feet[row, 0]), max(high_x, feet[row, 0])
        low_y, high_y = min(low_y, feet[row, 1]), max(high_y, feet[row, 1])
        tallest = max(tallest, height[row])
        count += 1
    reach = BODY_WIDTH * tallest + MARGIN
    shape[0], shape[1] = 0, 0
    if count == 0:
        return 0, reach
    # About two cells to a player where they are spread evenly.
    lines = min(4 + int(sqrt(2.0 * count)), LINES_MAX - 1)
    extent = max(high_x - low_x, high_y - low_y) + 2.0 * reach
    # Wider than a body by a half, so that no body reaches into three lines.
    side = max(SIDE_LEAST, 3.0 * reach, extent / lines)
    frame[0], frame[1], frame[2], frame[3] = low_x - reach, low_y - reach, side, 1.0 / side
    shape[0] = 1 + _cell(high_x + reach, frame[0], frame[3], LINES_MAX)
    shape[1] = 1 + _cell(high_y + reach, frame[1], frame[3], LINES_MAX)
    return count, reach


@kernel(f"(f8[:,::1], f8[::1], b1[::1], {CROWD_TYPE})", counted=False)
def gather_crowd(feet: F64, height: F64, targets: Bool, crowd: CrowdArrays) -> int:
    """Sort all players who can be hit into cells.

    Args:
        feet: Feet of all players [m], shape (n, 3).
        height: Heights of their bodies [m], shape (n,).
        targets: Who can be hit, shape (n,).
        crowd: Filled.

    Returns:
        How many can be hit.
    """
    frame, shape, start, rows = crowd
    count, reach = _lay_frame(feet, height, targets, frame, shape)
    columns, lines = shape[0], shape[1]
    low_x, low_y, scale = frame[0], frame[1], frame[3]
    for cell in range(columns * lines + 1):
        start[cell] = 0
    # First how many entries each cell has, one place on; then the entries, which carries every count to its end.
    for writing in range(2):
        for row in range(targets.shape[0]):
            if not targets[row]:
                continue
            x, y = feet[row, 0], feet[row, 1]
            first_column = _cell(x - reach, low_x, scale, columns)
            last_column = min(_cell(x + reach, low_x, scale, columns), first_column + 1)
            first_line = _cell(y - reach, low_y, scale, lines)
            last_line = min(_cell(y + reach, low_y, scale, lines), first_line + 1)
            for line in range(first_line, last_line + 1):
                for cell in range(line * columns + first_column, line * columns + last_column + 1):
                    if writing == 1:
                        rows[start[cell + 1]] = row
                    start[cell + 1] += 1
        if writing == 0:
            total = 0
            for cell in range(1, columns * lines + 1):
                here = start[cell]
                start[cell] = total
                total += here
    return count


@kernel(counted=False)
def _clip(
    frame: F64, shape: I64, origin: tuple[float, float, float], ray: tuple[float, float, float], reach: float
) -> tuple[float, float]:
    """The part of a ray that is above the frame, as distances; empty where first > last."""
    first, last = 0.0, reach
    for axis in range(2):
        low = frame[axis] - origin[axis]
        high = low + frame[2] * shape[axis]
        if abs(ray[axis]) < FLAT:
            if low > 0.0 or high < 0.0:
                return 1.0, 0.0
            continue
        a, b = low / ray[axis], high / ray[axis]
        first, last = max(first, min(a, b)), min(last, max(a, b))
    return first, last


@kernel(counted=False)
def _cell_body(
    crowd: CrowdArrays,
    cell: int,
    origin: tuple[float, float, float],
    ray: tuple[float, float, float],
    shooter: int,
    bodies: tuple[F64, F64],
    found: tuple[float, int, int],
) -> tuple[float, int, int]:
    """The nearer of what was found and the players of one cell; of equally near ones the lowest row."""
    start, rows = crowd[2], crowd[3]
    feet, height = bodies
    best, who, where = found
    for entry in range(start[cell], start[cell + 1]):
        row = int(rows[entry])
        if row == shooter or row == who:
            continue
        t, part = body_hit(origin, ray, (feet[row, 0], feet[row, 1], feet[row, 2]), height[row])
        if t < best or (t == best and 0 <= row < who):
            best, who, where = t, row, part
    return best, who, where


@kernel(counted=False)
def first_body(
    crowd: CrowdArrays,
    origin: tuple[float, float, float],
    ray: tuple[float, float, float],
    reach: float,
    shooter: int,
    feet: F64,
    height: F64,
) -> tuple[float, int, int]:
    """Nearest player along a ray.

    Args:
        crowd: Made by `gather_crowd` of the same feet and heights.
        origin: Where the ray begins [m].
        ray: Its direction, of length 1.
        reach: How far it goes [m].
        shooter: Row of a player it does not hit, -1 for none.
        feet: Feet of all players [m], shape (n, 3).
        height: Heights of their bodies [m], shape (n,).

    Returns:
        (distance [m], row, part); (reach, -1, PART_NONE) for a miss. Ties go to the lowest row.
    """
    frame, shape = crowd[0], crowd[1]
    found = (reach, -1, PART_NONE)
    columns, lines = shape[0], shape[1]
    if columns == 0:
        return found
    at, last = _clip(frame, shape, origin, ray, reach)
    if not at <= last:
        return found
    side, scale = frame[2], frame[3]
    column = _cell(origin[0] + ray[0] * at, frame[0], scale, columns)
    line = _cell(origin[1] + ray[1] * at, frame[1], scale, lines)
    east, north = (1 if ray[0] > 0.0 else 0), (1 if ray[1] > 0.0 else 0)
    next_x = next_y = every_x = every_y = float("inf")
    if abs(ray[0]) >= FLAT:
        every_x = side / abs(ray[0])
        next_x = (frame[0] + (column + east) * side - origin[0]) / ray[0]
    if abs(ray[1]) >= FLAT:
        every_y = side / abs(ray[1])
        next_y = (frame[1] + (line + north) * side - origin[1]) / ray[1]
    bodies = (feet, height)
    while 0 <= column < columns and 0 <= line < lines:
        found = _cell_body(crowd, line * columns + column, origin, ray, shooter, bodies, found)
        if min(next_x, next_y) > min(found[0], last):
            break
        if next_x < next_y:
            column += 2 * east - 1
            next_x += every_x
        else:
            line += 2 * north - 1
            next_y += every_y
    return found
