"""Where a body can get to on foot: cells flooded from the spawn points by the body itself, and distance fields.

A cell is a place where a standing body fits with its feet at the middle of a column of a square lattice; a column may
hold several cells, one above the other. The flood tries the eight neighbours of each cell with the very sweeps that
motion uses (`sim.slide_kernels`), so that slopes, steps, ceilings and the width of doors are those of the game, and
nothing is found that cannot be reached. Recast (Mononen, "Recast Navigation", 2009) voxelises triangles, erodes and
partitions instead: faster for a whole world, but it finds roofs as well and rounds every clearance to the lattice.

Links of a cell: columns 0–7 are the neighbours in the order of `DX`, `DY`; column 8 is where a jump pad or teleporter
takes a body. Kinds: WALK, DROP (one way), JUMP (rises by more than a step), FLIGHT (column 8), PENDING (column 8:
stands in a trigger whose end is not known yet). Costs are in fifths of the lattice's pitch, 1 to 255.

Node arrays, grouped in a tuple (`NODES_TYPE`), n rows of capacity:

    column i4 (n,) · z f8 (n,) feet [m] · next i4 (n,) the next cell of the same column, −1 at the end ·
    links i4 (n, 9) cell or −1 · kinds u1 (n, 9) · costs u1 (n, 9)

Lattice figures, f8: 0 x and 1 y of the corner [m], 2 pitch [m], 3 columns along x, 4 along y, 5 deepest drop [m],
6 highest jump [m]. State, i8: 0 cells, 1 cells expanded, 2 cells refused for want of room, 3 places with more
triangles than `CANDIDATES_MAX`, which count as walls.

Distance fields: Dijkstra 1959 with the circular buckets of Dial 1969 (CACM algorithm 360), since costs are small.
"""

from typing import TypeAlias

from sim.arrays import F64, I32, I64, U8
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit, gather_box
from sim.jit import kernel, local_i64
from sim.motion_kernels import CANDIDATES_MAX, MASK
from sim.narrowphase_kernels import CORNERS_SIZE, HIT_SIZE, RAY_SIZE
from sim.slide_kernels import BODY_SIZE, RADIUS, STANDING, STEP, find_ground, sweep_body
from sim.worldmap import Contents

__all__ = [
    "COST_MAX",
    "DROP",
    "FAR",
    "FIGURES",
    "FLIGHT",
    "JUMP",
    "LINKS",
    "NAVIGATION_TYPE",
    "NODES_TYPE",
    "NONE",
    "PENDING",
    "PROBE_SCRATCH",
    "STATE_WORDS",
    "WALK",
    "NavigationArrays",
    "NodeArrays",
    "ahead",
    "distance_field",
    "flood",
    "locate",
    "locate_all",
    "pending_cells",
    "reverse_links",
    "seed_cells",
]

NODES_TYPE = "Tuple((i4[::1], f8[::1], i4[::1], i4[:,::1], u1[:,::1], u1[:,::1]))"
NAVIGATION_TYPE = "Tuple((f8[::1], i4[::1], i4[::1], f8[:,::1], i4[:,::1], u1[:,::1], u1[:,::1]))"
PLACE_TYPE = f"Tuple(({GEOMETRY_TYPE}, f8[:,::1], f8[::1], f8[:,::1], f8[:,::1]))"
NodeArrays: TypeAlias = tuple[I32, F64, I32, I32, U8, U8]
NavigationArrays: TypeAlias = tuple[F64, I32, I32, F64, I32, U8, U8]  # figures heads next position links kinds costs
PlaceArrays: TypeAlias = tuple[GeometryArrays, F64, F64, F64, F64]  # geometry surfaces parameters triggers hurts

LINKS, FIGURES, STATE_WORDS = 9, 7, 4
NONE, WALK, DROP, JUMP, FLIGHT, PENDING = range(6)
DX = (1, 1, 0, -1, -1, -1, 0, 1)
DY = (0, 1, 1, 1, 0, -1, -1, -1)
COUNT, EXPANDED, REFUSED, CROWDED = range(4)
COST_STRAIGHT, COST_DIAGONAL, COST_JUMP, COST_MAX = 5, 7, 12, 255
DROP_COST = 8.0  # per metre: who falls deep does not choose where to land
FAR = 1 << 30  # distance of a cell from which there is no way
BUCKETS = 256
SAME_CELL = 0.3  # [m]; cells of a column are at least a body apart, feet differ by rounding only
HIT_AT = BODY_SIZE + RAY_SIZE + CORNERS_SIZE
PROBE_SCRATCH = HIT_AT + HIT_SIZE
BLOCKED, GROUNDED, AIRBORNE = range(3)
CLEAR = 1e-3  # [m] kept from a ceiling
DEEP_LIQUID = 8.0  # [m]; a lava surface that far above the feet still means that they are under it
BURNS = int(Contents.LAVA | Contents.SLIME)


@kernel(counted=False)
def _inside(boxes: F64, x: float, y: float, z: float, radius: float, height: float) -> bool:
    """Whether a body touches any of the boxes, as motion decides it."""
    for k in range(len(boxes)):
        beside = boxes[k, 0] > x + radius or boxes[k, 3] < x - radius
        beside = beside or boxes[k, 1] > y + radius or boxes[k, 4] < y - radius
        if not (beside or boxes[k, 2] > z + height or boxes[k, 5] < z):
            return True
    return False


@kernel(counted=False)
def _gather(place: PlaceArrays, x: float, y: float, z: float, flat: float, down: float, up: float, out: I32) -> int:
    """Triangles around a body that moves by up to `flat`, `down` and `up` [m]; −1 where there are too many."""
    parameters = place[2]
    side = flat + parameters[RADIUS] + 0.05
    top = z + up + parameters[STANDING] + 0.05
    count = gather_box(
        place[0], x - side, y - side, z - down - 0.05, x + side, y + side, top, MASK, out
    )  # fmt: skip
    return count if count <= len(out) else -1


@kernel(counted=False)
def _step(
    place: PlaceArrays, near: I32, count: int, dx: float, dy: float, lift: float, reach: float, scratch: F64
) -> int:
    """Lift the body, move it level and set it down on what is at most `reach` [m] below where it began."""
    surfaces, parameters = place[1], place[2]
    body, ray = scratch[:BODY_SIZE], scratch[BODY_SIZE : BODY_SIZE + RAY_SIZE]
    corners, hit = scratch[BODY_SIZE + RAY_SIZE : HIT_AT], scratch[HIT_AT:PROBE_SCRATCH]
    radius, begun = parameters[RADIUS], body[2]
    if lift > 0.0:
        sweep_body(surfaces, near, count, body, 0.0, 0.0, lift, radius, ray, corners, hit)
        body[2] += max(0.0, hit[0] * lift - CLEAR)
    if sweep_body(surfaces, near, count, body, dx, dy, 0.0, radius, ray, corners, hit) >= 0:
        return BLOCKED
    body[0] += dx
    body[1] += dy
    if find_ground(
        surfaces, near, count, body, body[2] - begun + reach, parameters, ray, corners, hit
    ):  # fmt: skip
        return GROUNDED
    body[2] = begun
    return AIRBORNE


@kernel(counted=False)
def _set_body(place: PlaceArrays, x: float, y: float, z: float, scratch: F64) -> None:
    scratch[:BODY_SIZE] = 0.0
    scratch[0], scratch[1], scratch[2], scratch[9] = x, y, z, place[2][STANDING]


@kernel(counted=False)
def _walk(
    place: PlaceArrays, near: I32, count: int, start: tuple[float, float, float], dx: float, dy: float, scratch: F64
) -> int:
    """Walk a body from `start` by (dx, dy), in two halves so that the steepest slope is no step; what it ended on."""
    step = place[2][STEP]
    _set_body(place, start[0], start[1], start[2], scratch)
    state = _step(place, near, count, 0.5 * dx, 0.5 * dy, step, step, scratch)
    if state == BLOCKED:
        return BLOCKED
    # Off the edge it goes on level; what it lands on is looked for below the end.
    return _step(place, near, count, 0.5 * dx, 0.5 * dy, step if state == GROUNDED else 0.0, step, scratch)


@kernel(counted=False)
def _cell_at(
    place: PlaceArrays, figures: F64, heads: I32, nodes: NodeArrays, state: I64, x: float, y: float, z: float
) -> int:
    """The cell of a body that stands at the middle of a column; a new one where there is none yet; −1: refused."""
    ix, iy = int((x - figures[0]) / figures[2]), int((y - figures[1]) / figures[2])
    if not (0 <= ix < figures[3] and 0 <= iy < figures[4]):
        return -1
    column = iy * int(figures[3]) + ix
    last, cell = -1, int(heads[column])
    while cell >= 0:
        if abs(nodes[1][cell] - z) < SAME_CELL:
            return cell
        last, cell = cell, int(nodes[2][cell])
    if _inside(place[4], x, y, z, place[2][RADIUS], place[2][STANDING]):
        return -1
    if any_hit(place[0], x, y, z + 0.1, 0.0, 0.0, 1.0, DEEP_LIQUID, BURNS):
        return -1
    cell = int(state[COUNT])
    if cell >= len(nodes[0]):
        state[REFUSED] += 1
        return -1
    state[COUNT] = cell + 1
    nodes[0][cell], nodes[1][cell], nodes[2][cell] = column, z, -1
    for k in range(LINKS):
        nodes[3][cell, k] = -1
        nodes[4][cell, k] = NONE
        nodes[5][cell, k] = 0
    if last < 0:
        heads[column] = cell
    else:
        nodes[2][last] = cell
    return cell


@kernel(counted=False)
def _fall(place: PlaceArrays, depth: float, near: I32, state: I64, scratch: F64) -> bool:
    """Let the body in the scratch fall onto ground that it can stand on, at most `depth` [m] below."""
    count = _gather(place, scratch[0], scratch[1], scratch[2], 0.0, depth, 0.0, near)
    if count < 0:
        state[CROWDED] += 1
        return False
    body, ray = scratch[:BODY_SIZE], scratch[BODY_SIZE : BODY_SIZE + RAY_SIZE]
    corners, hit = scratch[BODY_SIZE + RAY_SIZE : HIT_AT], scratch[HIT_AT:PROBE_SCRATCH]
    return find_ground(place[1], near, count, body, depth, place[2], ray, corners, hit)


@kernel(counted=False)
def _way(
    place: PlaceArrays, figures: F64, near: I32, count: int, start: tuple[float, float, float], dx: float, dy: float,
    state: I64, scratch: F64,
) -> int:  # fmt: skip
    """How a body gets from `start` by (dx, dy): the kind of the link; it then stands in the scratch."""
    ended = _walk(place, near, count, start, dx, dy, scratch)
    if ended == GROUNDED:
        return WALK
    if ended == AIRBORNE:
        # Other triangles than those near are gathered, into the second half.
        return DROP if _fall(place, figures[5], near[count:], state, scratch) else NONE
    _set_body(place, start[0], start[1], start[2], scratch)
    if figures[6] > 0.0 and _step(place, near, count, dx, dy, figures[6], 0.0, scratch) == GROUNDED:
        return JUMP
    return NONE


@kernel(counted=False)
def _cost(kind: int, direction: int, fall: float) -> int:
    """Cost of a link, in fifths of the pitch."""
    cost = COST_DIAGONAL if direction & 1 else COST_STRAIGHT
    if kind == JUMP:
        cost += COST_JUMP
    if kind == DROP:
        cost += int(DROP_COST * fall)
    return min(cost, COST_MAX)


@kernel(f"({PLACE_TYPE}, f8[::1], i4[::1], {NODES_TYPE}, i8[::1], i4[::1], f8[::1])")
def flood(place: PlaceArrays, figures: F64, heads: I32, nodes: NodeArrays, state: I64, near: I32, scratch: F64) -> None:
    """Expand every cell not yet expanded, and those found on the way, in the order they are found.

    Args:
        place: Geometry, surfaces, motion parameters, boxes of triggers that carry a body away, of those that hurt.
        figures: Of the lattice, see the top of this file.
        heads: First cell of each column, −1 for none; updated.
        nodes: The cells; updated.
        state: Counters; updated.
        near: Scratch for triangle numbers.
        scratch: PROBE_SCRATCH long.
    """
    parameters, pitch, columns = place[2], figures[2], int(figures[3])
    while state[EXPANDED] < state[COUNT]:
        cell = int(state[EXPANDED])
        state[EXPANDED] += 1
        iy, ix = divmod(int(nodes[0][cell]), columns)
        x, y, z = figures[0] + (ix + 0.5) * pitch, figures[1] + (iy + 0.5) * pitch, nodes[1][cell]
        if _inside(place[3], x, y, z, parameters[RADIUS], parameters[STANDING]):
            nodes[4][cell, 8] = PENDING
            continue
        rise = max(2.0 * parameters[STEP], figures[6])
        count = _gather(place, x, y, z, pitch, 3.0 * parameters[STEP], rise, near[:CANDIDATES_MAX])
        if count < 0:
            state[CROWDED] += 1
            continue
        for k in range(8):
            dx, dy = pitch * DX[k], pitch * DY[k]
            kind = _way(place, figures, near, count, (x, y, z), dx, dy, state, scratch)
            if kind == NONE:
                continue
            other = _cell_at(place, figures, heads, nodes, state, x + dx, y + dy, scratch[2])
            if other >= 0:
                nodes[3][cell, k], nodes[4][cell, k] = other, kind
                nodes[5][cell, k] = _cost(kind, k, z - scratch[2])


@kernel(f"({PLACE_TYPE}, f8[::1], f8[:,::1], i4[::1], {NODES_TYPE}, i8[::1], i4[::1], f8[::1], i4[::1])")
def seed_cells(
    place: PlaceArrays, figures: F64, points: F64, heads: I32, nodes: NodeArrays, state: I64, near: I32, scratch: F64,
    out_cells: I32,
) -> None:  # fmt: skip
    """The cell that a body at each point walks to first: of the nearest columns that it can walk to the middle of.

    Args:
        place: As for `flood`; so are figures, heads, nodes, state, near and scratch.
        points: Feet [m], shape (n, 3).
        out_cells: Cell of each, −1 where the body cannot stand or move.
    """
    pitch = figures[2]
    for row in range(len(points)):
        x, y, z = points[row, 0], points[row, 1], points[row, 2]
        out_cells[row] = -1
        _set_body(place, x, y, z, scratch)
        count = _gather(place, x, y, z, 2.0 * pitch, 3.0 * place[2][STEP], place[2][STEP], near[:CANDIDATES_MAX])
        if count < 0:
            state[CROWDED] += 1
            continue
        best = 1e9
        for k in range(9):
            ix = int((x - figures[0]) / pitch) + (DX[k] if k < 8 else 0)
            iy = int((y - figures[1]) / pitch) + (DY[k] if k < 8 else 0)
            dx, dy = figures[0] + (ix + 0.5) * pitch - x, figures[1] + (iy + 0.5) * pitch - y
            if dx * dx + dy * dy >= best or _walk(place, near, count, (x, y, z), dx, dy, scratch) != GROUNDED:
                continue
            cell = _cell_at(place, figures, heads, nodes, state, x + dx, y + dy, scratch[2])
            if cell >= 0:
                best, out_cells[row] = dx * dx + dy * dy, cell


@kernel(f"({NODES_TYPE}, i8, i4[::1])")
def pending_cells(nodes: NodeArrays, count: int, out_cells: I32) -> int:
    """List the cells whose trigger has not been followed yet, and mark them as followed; how many."""
    found = 0
    for cell in range(count):
        if nodes[4][cell, 8] == PENDING:
            nodes[4][cell, 8] = NONE
            out_cells[found] = cell
            found += 1
    return found


@kernel("(i4[:,::1], u1[:,::1], i4[::1], i4[::1], u1[::1])")
def reverse_links(links: I32, costs: U8, out_start: I32, out_from: I32, out_cost: U8) -> None:
    """The links by the cell they lead to, as compressed rows.

    Args:
        links: Shape (n, 9), −1 for none.
        costs: Shape (n, 9).
        out_start: Where the row of each cell begins, shape (n + 1,).
        out_from: The cells the links come from, ascending within a row; as many as there are links.
        out_cost: Their costs.
    """
    count = len(links)
    out_start[:] = 0
    for cell in range(count):
        for k in range(LINKS):
            if links[cell, k] >= 0:
                out_start[links[cell, k] + 1] += 1
    for cell in range(count):
        out_start[cell + 1] += out_start[cell]
    # Filling moves each start to the end of its row, which is the start of the next: shifted back afterwards.
    for cell in range(count):
        for k in range(LINKS):
            other = links[cell, k]
            if other >= 0:
                out_from[out_start[other]] = cell
                out_cost[out_start[other]] = costs[cell, k]
                out_start[other] += 1
    for cell in range(count, 0, -1):
        out_start[cell] = out_start[cell - 1]
    out_start[0] = 0


@kernel("(i8, i4[::1], i4[::1], u1[::1], i4[::1], i4[::1], i4[::1])")
def distance_field(
    goal: int, start: I32, origin: I32, cost: U8, entry_cell: I32, entry_next: I32, out_distance: I32
) -> None:
    """The cost of the cheapest way from every cell to the goal; `FAR` where there is none.

    Args:
        goal: A cell.
        start: From `reverse_links`; so are origin and cost.
        entry_cell: Scratch, one more than there are links.
        entry_next: Likewise.
        out_distance: Shape (n,), int32.
    """
    heads = local_i64(256)
    heads[:] = -1
    out_distance[:] = FAR
    out_distance[goal] = 0
    entry_cell[0], entry_next[0], heads[0] = goal, -1, 0
    entries, waiting, distance = 1, 1, 0
    while waiting > 0:
        bucket = distance & (BUCKETS - 1)
        while heads[bucket] >= 0:
            entry = heads[bucket]
            heads[bucket] = entry_next[entry]
            waiting -= 1
            cell = entry_cell[entry]
            if out_distance[cell] != distance:
                continue  # a cheaper way was found since
            for k in range(start[cell], start[cell + 1]):
                through = distance + int(cost[k])
                if through < out_distance[origin[k]]:
                    out_distance[origin[k]] = through
                    # Each link improves at most one entry, since a cell is settled once.
                    entry_cell[entries] = origin[k]
                    entry_next[entries] = heads[through & (BUCKETS - 1)]
                    heads[through & (BUCKETS - 1)] = entries
                    entries += 1
                    waiting += 1
        distance += 1


@kernel(counted=False)
def locate(navigation: NavigationArrays, x: float, y: float, z: float, reach: int) -> int:
    """The cell nearest to feet at a place, within `reach` columns; below counts more than above; −1: none.

    A body in the air belongs to the cell it will fall on.
    """
    figures, heads, following, position = navigation[0], navigation[1], navigation[2], navigation[3]
    ix, iy = int((x - figures[0]) / figures[2]), int((y - figures[1]) / figures[2])
    columns, rows = int(figures[3]), int(figures[4])
    best, best_cell = 1e18, -1
    for j in range(max(0, iy - reach), min(rows, iy + reach + 1)):
        for i in range(max(0, ix - reach), min(columns, ix + reach + 1)):
            cell = int(heads[j * columns + i])
            while cell >= 0:
                dx, dy, dz = position[cell, 0] - x, position[cell, 1] - y, position[cell, 2] - z
                # A cell above the reach of a step is on another floor, one below may be fallen on.
                badness = dx * dx + dy * dy + (16.0 * dz * dz if dz > 0.6 else dz * dz)
                if badness < best:
                    best, best_cell = badness, cell
                cell = int(following[cell])
    return best_cell


@kernel(f"({NAVIGATION_TYPE}, f8[:,::1], i8, i4[::1])")
def locate_all(navigation: NavigationArrays, points: F64, reach: int, out_cells: I32) -> None:
    """`locate` for every row of `points`, feet [m], shape (n, 3)."""
    for row in range(len(points)):
        out_cells[row] = locate(navigation, points[row, 0], points[row, 1], points[row, 2], reach)


@kernel(counted=False)
def ahead(navigation: NavigationArrays, field: I32, cell: int, steps: int) -> tuple[int, int]:
    """Follow a distance field downhill: (cell, kind of the first link).

    Up to `steps` links are followed, so that a walker cuts the corners of the lattice; the way ends early at a link
    that is not WALK, since it must be taken where it is.

    Args:
        navigation: The cells.
        field: Distance of every cell, from `distance_field`.
        cell: Where to begin.
        steps: At least 1.

    Returns:
        The cell to make for, and how the first link is taken; (cell, NONE) at the goal or where no way leads.
    """
    links, kinds, costs = navigation[4], navigation[5], navigation[6]
    first = NONE
    for number in range(steps):
        best, column = FAR, -1
        for k in range(LINKS):
            other = links[cell, k]
            if other >= 0 and field[other] + int(costs[cell, k]) < best:
                best, column = field[other] + int(costs[cell, k]), k
        if column < 0 or field[cell] == 0:
            break
        kind = int(kinds[cell, column])
        if number == 0:
            first = kind
        elif kind != WALK:
            break
        cell = int(links[cell, column])
        if kind != WALK:
            break
    return cell, first
