"""Kernels that cut a map into upright columns and find the free space in each.

The vertical runs of free space are Recast's span heightfield (Mononen 2009) read from surfaces instead of voxels: going
down a column, a surface seen from below and then one seen from above bound a free span.
"""

from math import floor, sqrt

from sim.arrays import F32, F64, I32, I64, U8
from sim.jit import kernel

__all__ = ["column_hits", "column_spans", "flood_spans", "sky_light"]

FLAT = 1e-12
STEPS_PER_M = 256.0  # heights are rounded to this, so that faces that touch are at one height


@kernel("(f8[:,::1], i4[:,::1], i8, i8, i8, i8[::1], f4[::1], i4[::1])")
def column_hits(
    vertices: F64, triangles: I32, width: int, height: int, fill: int, cursor: I64, z: F32, which: I32
) -> int:
    """Every crossing of a triangle with the upright line through the middle of a cell.

    Args:
        vertices: x, y in cells and z in metres, shape (n, 3).
        triangles: Vertex indices, shape (m, 3).
        width: Cells along x.
        height: Cells along y; cell (x, y) has number y · width + x.
        fill: 0 only counts.
        cursor: In and out: crossings of each cell are added to it; with `fill`, the next place in `z` and `which`.
        z: Out: heights.
        which: Out: triangle + 1, negative where its underside is seen from above.

    Returns:
        Crossings found.
    """
    found = 0
    for triangle in range(triangles.shape[0]):
        a, b, c = triangles[triangle, 0], triangles[triangle, 1], triangles[triangle, 2]
        ax, ay, az = vertices[a, 0], vertices[a, 1], vertices[a, 2]
        bx, by, bz = vertices[b, 0] - ax, vertices[b, 1] - ay, vertices[b, 2] - az
        cx, cy, cz = vertices[c, 0] - ax, vertices[c, 1] - ay, vertices[c, 2] - az
        area = bx * cy - by * cx
        if abs(area) < FLAT:
            continue
        x_low, x_high = min(0.0, bx, cx) + ax - 0.5, max(0.0, bx, cx) + ax - 0.5
        y_low, y_high = min(0.0, by, cy) + ay - 0.5, max(0.0, by, cy) + ay - 0.5
        for y in range(max(0, int(y_low)), min(height - 1, int(y_high)) + 1):
            py = y + 0.5 - ay
            for x in range(max(0, int(x_low)), min(width - 1, int(x_high)) + 1):
                px = x + 0.5 - ax
                u, v = (px * cy - py * cx) / area, (bx * py - by * px) / area
                if u < 0.0 or v < 0.0 or u + v > 1.0:
                    continue
                found += 1
                cell = y * width + x
                if fill != 0:
                    z[cursor[cell]] = floor((az + u * bz + v * cz) * STEPS_PER_M + 0.5) / STEPS_PER_M
                    which[cursor[cell]] = triangle + 1 if area > 0.0 else -triangle - 1
                cursor[cell] += 1
    return found


@kernel
def _sort_down(z: F32, which: I32, first: int, end: int) -> None:
    """Order one column's crossings from high to low; of equal heights the lesser `which`, so undersides before tops.

    A brush that stands on another then leaves a span of no height between them; the other way about, all of the brush
    would seem free.
    """
    for index in range(first + 1, end):
        height, owner = z[index], which[index]
        place = index
        while place > first and (z[place - 1] < height or (z[place - 1] == height and which[place - 1] > owner)):
            z[place], which[place] = z[place - 1], which[place - 1]
            place -= 1
        z[place], which[place] = height, owner


@kernel("(i8[::1], f4[::1], i4[::1], f4, f4, i8[::1], f4[::1], f4[::1], i4[::1])")
def column_spans(
    start: I64,
    z: F32,
    which: I32,
    top: float,
    thin: float,
    span_start: I64,
    floor: F32,
    ceiling: F32,
    owner: I32,
) -> int:
    """The free spans of every column, from high to low.

    Args:
        start: First crossing of each cell, and one end, shape (cells + 1,).
        z: Heights; sorted in place.
        which: As of `column_hits`; sorted in place.
        top: Ceiling of the topmost span.
        thin: Spans lower than this are left out.
        span_start: Out: first span of each cell, and one end.
        floor: Out: lower end of each span.
        ceiling: Out: upper end.
        owner: Out: triangle at the lower end.

    Returns:
        Number of spans.
    """
    count = 0
    for cell in range(start.shape[0] - 1):
        span_start[cell] = count
        _sort_down(z, which, start[cell], start[cell + 1])
        above = top
        opened = True
        for index in range(start[cell], start[cell + 1]):
            if which[index] < 0:
                above = z[index]
                opened = True
            elif opened:
                opened = False
                if above - z[index] >= thin:
                    floor[count], ceiling[count], owner[count] = z[index], above, which[index] - 1
                    count += 1
    span_start[start.shape[0] - 1] = count
    return count


@kernel("(i8[::1], f4[::1], f4[::1], u1[::1], i8, f4, f4, i4[::1], i8, u1[::1])")
def flood_spans(
    span_start: I64,
    floor: F32,
    ceiling: F32,
    steep: U8,
    width: int,
    clearance: float,
    rise: float,
    stack: I32,
    seeds: int,
    reached: U8,
) -> int:
    """Mark all free spans that connect with the seeds through openings at least `clearance` high.

    Args:
        span_start: As of `column_spans`.
        floor: Lower end of each span.
        ceiling: Upper end.
        steep: 1 where the floor of a span cannot be climbed.
        width: Cells along x.
        clearance: Least height of the opening between neighbours [m].
        rise: How much higher the floor of a neighbour may be [m]; lower by any amount is fine.
        stack: In: the seeds as pairs (cell, span). Scratch. Shape (2 · spans + 2 · seeds,).
        seeds: Number of seeds on the stack.
        reached: In and out: 1 for spans that are reached; the seeds already are.

    Returns:
        Number of spans that were reached.
    """
    cells = span_start.shape[0] - 1
    depth, count = seeds, 0
    while depth > 0:
        depth -= 1
        cell, span = stack[2 * depth], stack[2 * depth + 1]
        count += 1
        column = cell % width
        for side in range(4):
            if (side == 0 and column == 0) or (side == 1 and column == width - 1):
                continue
            beside = cell + (-1 if side == 0 else 1 if side == 1 else -width if side == 2 else width)
            if beside < 0 or beside >= cells:
                continue
            for other in range(span_start[beside], span_start[beside + 1]):
                opening = min(ceiling[span], ceiling[other]) - max(floor[span], floor[other])
                up = floor[other] - floor[span]
                climbs = up <= rise and (up <= 0.0 or steep[other] == 0)
                if reached[other] == 0 and opening >= clearance and climbs:
                    reached[other] = 1
                    stack[2 * depth], stack[2 * depth + 1] = beside, other
                    depth += 1
    return count


@kernel("(f4[:,::1], i4[:,:,::1], f4[:,::1], f4[:,::1])")
def sky_light(height: F32, offset: I32, weight: F32, out: F32) -> int:
    """How much of the sky each cell sees past its surroundings, from 1 (all) to 0.

    The mean over directions of 1 − sin(elevation of the horizon), which is how horizon-based ambient occlusion
    (Bavoil and Sainz 2008) reduces on a height field.

    Args:
        height: Heights [m].
        offset: Cells to look at, (row, column) apart, shape (directions, steps, 2).
        weight: What a metre of height counts there, shape (directions, steps).
        out: Out: light, same shape as `height`.

    Returns:
        Number of cells that see less than all of the sky.
    """
    rows, columns = height.shape
    directions, steps = weight.shape
    shaded = 0
    for row in range(rows):
        for column in range(columns):
            here, total = height[row, column], 0.0
            for direction in range(directions):
                steepest = 0.0
                for step in range(steps):
                    y, x = row + offset[direction, step, 0], column + offset[direction, step, 1]
                    if 0 <= x < columns and 0 <= y < rows:
                        slope = (height[y, x] - here) * weight[direction, step]
                        steepest = slope if slope > steepest else steepest
                if steepest > 0.0:
                    total += steepest / sqrt(1.0 + steepest * steepest)
            out[row, column] = 1.0 - total / directions
            shaded += 1 if total > 0.0 else 0
    return shaded
