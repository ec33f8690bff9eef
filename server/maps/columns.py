"""Where the playable space of a map is: columns of free space that connect with its spawn points.

Pictures use it to look through roofs: a surface is shown if the space in front of it can be reached.
"""

from dataclasses import dataclass

import numpy as np

from server.maps.columns_kernels import column_hits, column_spans, flood_spans
from server.maps.units import GRAVITY
from sim.arrays import F32, F64, I32, I64, U8, Bool
from sim.worldmap import Contents, Trigger, TriggerKind, WorldMap

__all__ = ["Columns", "crossings", "cut_columns"]

CELLS_MAX = 6_000_000
CROSSINGS_MAX = 60_000_000
MARGIN_M = 1.0
THIN_M = 0.4
CLEARANCE_M = 0.9  # lower than a crouching player
JUMP_M = 1.2  # a default player jumps 1.14 m
NO_LIMIT = 1e9
WALKABLE_UP = 0.7
OPEN_TOP_M = 60.0  # free space above the highest triangle
SEED_ABOVE_M = 0.6
SLACK_M = 0.25
OFF_GRID = 0.137  # of a cell: map coordinates are round, so that cell middles at round ones would lie on edges


@dataclass(frozen=True, slots=True)
class Columns:
    """Free spans of a grid of columns. Spans of a column stand from high to low.

    Attributes:
        low: Corner of cell (0, 0) [m], shape (2,).
        cell_m: Side of a cell [m].
        width: Cells along x.
        height: Cells along y.
        start: First span of each cell, and one end, shape (width · height + 1,).
        floor: Lower end of each span [m].
        ceiling: Upper end [m].
        owner: Number in the map of the triangle at the lower end.
        reached: 1 where a span's space connects with a spawn point's.
        walked: 1 where a player can get from a spawn point on foot, by jumping, falling, jump pads and teleporters.
    """

    low: F64
    cell_m: float
    width: int
    height: int
    start: I64
    floor: F32
    ceiling: F32
    owner: I32
    reached: U8
    walked: U8

    def top(self, chosen: U8) -> I64:
        """The highest span of each cell with a mark in `chosen`, −1 where there is none, shape (height, width)."""
        best = np.full(self.width * self.height, -1, dtype=np.int64)
        cell = np.repeat(np.arange(len(best)), np.diff(self.start))
        spans = np.flatnonzero(chosen)[::-1]
        best[cell[spans]] = spans  # the last write wins, which is the first span, the highest
        return best.reshape(self.height, self.width)

    def shown_window(self, world: WorldMap, *, margin_m: float) -> tuple[F64, F64]:
        """South-west and north-east corner [m] of all reached floors that are not sky, with a margin."""
        span = self.top(self.reached)
        shown = (span >= 0) & (world.contents[self.owner[np.maximum(span, 0)]] & int(Contents.SKY) == 0)
        if not shown.any():
            shown[:] = True
        rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
        first, last = np.array([columns[0], rows[0]]), np.array([columns[-1] + 1, rows[-1] + 1])
        return self.low + first * self.cell_m - margin_m, self.low + last * self.cell_m + margin_m

    def cut_height(self, *, headroom_m: float, reach_m: float) -> F32:
        """Where to cut what stands beside walkable floors [m], shape (height, width); −infinity far from any.

        It is `headroom_m` above the highest walkable floor, or that floor's ceiling where it is lower, up to `reach_m`
        away.
        """
        from scipy.ndimage import maximum_filter

        span = self.top(self.walked)
        index = np.maximum(span, 0)
        own = np.minimum(self.floor[index] + np.float32(headroom_m), self.ceiling[index])
        own = np.where(span >= 0, own, np.float32(-np.inf))
        cells = 2 * max(1, round(reach_m / self.cell_m)) + 1
        return np.asarray(maximum_filter(own, size=cells), dtype=np.float32)

    def cell_of(self, points: F64) -> tuple[I64, Bool]:
        """The number of the cell that each point [m] lies in, and whether there is one."""
        cell = (points[:, :2] - self.low) / self.cell_m
        inside = np.asarray(((cell >= 0.0) & (cell < [self.width, self.height])).all(axis=1))  # false for NaN
        column, row = np.where(inside[:, None], cell, 0.0).astype(np.int64).T
        return row * self.width + column, inside

    def shows(self, points: F64, cut: F32, *, headroom_m: float) -> Bool:
        """Whether each point [m], shape (n, 3), lies in space worth showing.

        That is the space over a floor that players walk on, up to `headroom_m` or to `cut` (see `cut_height`),
        whichever is higher, and where a column has none, reached space below `cut`: low walls, but no roof.
        """
        number, valid = self.cell_of(points)
        first, end = self.start[number], self.start[number + 1]
        below_cut = points[:, 2] <= cut.ravel()[number]
        near, ledge, foot = (np.zeros(len(points), dtype=bool) for _ in range(3))
        for step in range(int((end - first).max(initial=0))):
            span = np.minimum(first + step, len(self.floor) - 1)
            here = first + step < end
            above = (self.floor[span] - SLACK_M <= points[:, 2]) & (points[:, 2] <= self.ceiling[span] + SLACK_M)
            walked = here & (self.walked[span] != 0)
            foot |= walked
            near |= walked & above & (below_cut | (points[:, 2] <= self.floor[span] + headroom_m))
            ledge |= here & above & (self.reached[span] != 0)
        return (near | (ledge & ~foot & below_cut)) & valid


def _on_grid(vertices: F64, low: F64, cell_m: float) -> F64:
    """Vertices with x, y in cells and z in metres."""
    return np.ascontiguousarray(np.column_stack([(vertices[:, :2] - low) / cell_m, vertices[:, 2]]))


def _cross(grid: F64, triangles: I32, width: int, height: int) -> tuple[I64, F32, I32]:
    count = np.zeros(width * height, dtype=np.int64)
    nothing = np.empty(0, np.float32), np.empty(0, np.int32)
    total = column_hits(grid, triangles, width, height, 0, count, *nothing)
    start = np.concatenate([[0], np.cumsum(count)])
    z, which = np.empty(total, np.float32), np.empty(total, np.int32)
    column_hits(grid, triangles, width, height, 1, start[:-1].copy(), z, which)
    return start, z, which


def crossings(vertices: F64, triangles: I32, columns: Columns) -> tuple[I64, F32, I32]:
    """Where triangles cross the middles of columns, cell by cell: first of each cell (and one end), heights, owners."""
    grid = _on_grid(vertices, columns.low, columns.cell_m)
    return _cross(grid, triangles, columns.width, columns.height)


def _apex(trigger: Trigger) -> tuple[float, float, float]:
    """The highest point that a jump pad throws to."""
    time = trigger.vector[2] / GRAVITY
    x, y, z = ((low + high) / 2.0 for low, high in zip(trigger.low, trigger.high, strict=True))
    return x + trigger.vector[0] * time, y + trigger.vector[1] * time, z + trigger.vector[2] * time / 2.0


def _seed_points(world: WorldMap) -> F64:
    """Points that are free for certain: where players appear, arrive, or pick things up."""
    points = [spawn.position for spawn in world.spawns]
    points += [item.position for item in world.items]
    for trigger in world.triggers:
        if trigger.kind == TriggerKind.TELEPORT:
            points.append(trigger.vector)
        elif trigger.kind == TriggerKind.PUSH and trigger.vector[2] > 0.0:
            points.append(_apex(trigger))
    lift = np.array([0.0, 0.0, SEED_ABOVE_M])
    return np.asarray(np.array(points, dtype=np.float64) + lift, dtype=np.float64)


def cut_columns(world: WorldMap, *, cell_m: float, window: tuple[F64, F64] | None = None) -> Columns:
    """The free space of a map in columns.

    Args:
        world: The map.
        cell_m: Side of a cell [m]; made larger where there would be too many cells or crossings.
        window: South-west and north-east corner [m], shape (2,) each, of what is looked at; None: all of it.
    """
    triangles = world.triangles[world.contents & int(Contents.SOLID) != 0]
    owners = np.flatnonzero(world.contents & int(Contents.SOLID) != 0).astype(np.int32)
    if not len(triangles):
        triangles, owners = world.triangles, np.arange(len(world.triangles), dtype=np.int32)
    low3, high3 = world.bounds
    wanted_low, wanted_high = (low3[:2] - MARGIN_M, high3[:2] + MARGIN_M) if window is None else window
    low = wanted_low - OFF_GRID * cell_m
    size = wanted_high - low
    cell_m = max(cell_m, float(np.sqrt(size[0] * size[1] / CELLS_MAX)))
    while True:
        width, height = (max(1, int(np.ceil(side / cell_m))) for side in size)
        grid = _on_grid(world.vertices, low, cell_m)
        corner = np.abs(np.diff(grid[triangles][:, [0, 1, 2, 0], :2], axis=1)).max(axis=1)
        if float((corner[:, 0] + 1.0) @ (corner[:, 1] + 1.0)) <= 16 * CROSSINGS_MAX:
            break
        cell_m *= 2.0
    start, z, which = _cross(grid, np.ascontiguousarray(triangles), width, height)
    spans = max(1, int((which > 0).sum()))
    span_start = np.empty(width * height + 1, np.int64)
    floor, ceiling = np.empty(spans, np.float32), np.empty(spans, np.float32)
    owner = np.empty(spans, np.int32)
    top = float(high3[2]) + OPEN_TOP_M
    count = column_spans(start, z, which, top, THIN_M, span_start, floor, ceiling, owner)
    floor, ceiling, owner = floor[:count].copy(), ceiling[:count].copy(), owners[owner[:count]]
    marks = np.zeros(count, np.uint8), np.zeros(count, np.uint8)
    columns = Columns(low, cell_m, width, height, span_start, floor, ceiling, owner, *marks)
    seeds = _seed_spans(columns, _seed_points(world))
    corner = world.vertices[world.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    steep = (normal[:, 2] < WALKABLE_UP * np.linalg.norm(normal, axis=1))[owner].astype(np.uint8)
    _flood(columns, seeds, steep * np.uint8(0), NO_LIMIT, columns.reached)
    _flood(columns, seeds, steep, JUMP_M, columns.walked)
    return columns


def _seed_spans(columns: Columns, points: F64) -> I32:
    """(cell, span) of the free spans that hold the points, shape (n, 2); a point may stand a little in the floor."""
    found: dict[int, int] = {}
    for x, y, z in points:
        column, row = int((x - columns.low[0]) // columns.cell_m), int((y - columns.low[1]) // columns.cell_m)
        if not (0 <= column < columns.width and 0 <= row < columns.height):
            continue
        cell = row * columns.width + column
        for span in range(int(columns.start[cell]), int(columns.start[cell + 1])):
            if columns.floor[span] - 1.0 <= z <= columns.ceiling[span]:
                found[span] = cell
                break
    return np.array([(cell, span) for span, cell in found.items()], dtype=np.int32).reshape(-1, 2)


def _flood(columns: Columns, seeds: I32, steep: U8, rise: float, reached: U8) -> None:
    """Mark what connects with the seeds; everything where no seed lies in free space."""
    if not len(seeds):
        reached[:] = 1
        return
    stack = np.empty(2 * len(columns.floor) + 2 * len(seeds), np.int32)
    stack[: seeds.size] = seeds.ravel()
    reached[seeds[:, 1]] = 1
    flood_spans(
        columns.start, columns.floor, columns.ceiling, steep, columns.width, CLEARANCE_M, rise,
        stack, len(seeds), reached,
    )  # fmt: skip
