"""Where the playable space of a map is: columns of free space that connect with its spawn points.

Pictures use it to look through roofs: a surface is shown if the space in front of it can be reached.
"""

from dataclasses import dataclass

import numpy as np

from server.maps.columns_kernels import column_hits, column_spans, flood_spans
from sim.arrays import F32, F64, I32, I64, U8, Bool
from sim.worldmap import Contents, TriggerKind, WorldMap

__all__ = ["Columns", "crossings", "cut_columns"]

CELLS_MAX = 6_000_000
CROSSINGS_MAX = 60_000_000
THIN_M = 0.4
CLEARANCE_M = 0.9  # lower than a crouching player
OPEN_TOP_M = 60.0  # free space above the highest triangle
SEED_ABOVE_M = 0.6
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
        reached: 1 where a span connects with a spawn point.
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

    def top_reached(self) -> I64:
        """The highest reached span of each cell, −1 where there is none, shape (height, width)."""
        best = np.full(self.width * self.height, -1, dtype=np.int64)
        cell = np.repeat(np.arange(len(best)), np.diff(self.start))
        spans = np.flatnonzero(self.reached)[::-1]
        best[cell[spans]] = spans  # the last write wins, which is the first span, the highest
        return best.reshape(self.height, self.width)

    def holds(self, points: F64, *, slack: float = 0.25) -> Bool:
        """Whether each point [m], shape (n, 3), lies in reached free space, up to `slack` metres in height."""
        cell = np.floor((points[:, :2] - self.low) / self.cell_m).astype(np.int64)
        valid = ((cell >= 0) & (cell < [self.width, self.height])).all(axis=1)
        number = np.where(valid, cell[:, 1] * self.width + cell[:, 0], 0)
        first, end = self.start[number], self.start[number + 1]
        inside = np.zeros(len(points), dtype=bool)
        for step in range(int((end - first).max(initial=0))):
            span = np.minimum(first + step, len(self.floor) - 1)
            fits = (self.floor[span] - slack <= points[:, 2]) & (points[:, 2] <= self.ceiling[span] + slack)
            inside |= fits & (first + step < end) & (self.reached[span] != 0)
        return inside & valid


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


def _seed_points(world: WorldMap) -> F64:
    """Points that are free for certain: where players appear, arrive, or pick things up."""
    points = [spawn.position for spawn in world.spawns]
    points += [item.position for item in world.items]
    points += [trigger.vector for trigger in world.triggers if trigger.kind == TriggerKind.TELEPORT]
    return np.array(points, dtype=np.float64) + np.array([0.0, 0.0, SEED_ABOVE_M])


def cut_columns(world: WorldMap, *, cell_m: float, margin_m: float = 1.0) -> Columns:
    """The free space of a map in columns.

    Args:
        world: The map.
        cell_m: Side of a cell [m]; made larger where there would be too many cells or crossings.
        margin_m: Empty border [m].
    """
    triangles = world.triangles[world.contents & int(Contents.SOLID) != 0]
    owners = np.flatnonzero(world.contents & int(Contents.SOLID) != 0).astype(np.int32)
    if not len(triangles):
        triangles, owners = world.triangles, np.arange(len(world.triangles), dtype=np.int32)
    low3, high3 = world.bounds
    low = low3[:2] - margin_m - OFF_GRID * cell_m
    size = high3[:2] + margin_m - low
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
    top = np.float32(high3[2] + OPEN_TOP_M)
    count = column_spans(start, z, which, top, np.float32(THIN_M), span_start, floor, ceiling, owner)
    floor, ceiling, owner = floor[:count].copy(), ceiling[:count].copy(), owners[owner[:count]]
    columns = Columns(low, cell_m, width, height, span_start, floor, ceiling, owner, np.zeros(count, np.uint8))
    _flood(columns, _seed_points(world))
    return columns


def _flood(columns: Columns, seeds: F64) -> None:
    """Mark what connects with the seeds; everything where no seed lies in free space."""
    stack = np.empty(2 * len(columns.floor) + 2 * len(seeds), np.int32)
    found = 0
    for x, y, z in seeds:
        column, row = int((x - columns.low[0]) // columns.cell_m), int((y - columns.low[1]) // columns.cell_m)
        if not (0 <= column < columns.width and 0 <= row < columns.height):
            continue
        cell = row * columns.width + column
        for span in range(int(columns.start[cell]), int(columns.start[cell + 1])):
            inside = columns.floor[span] - 1.0 <= z <= columns.ceiling[span]
            if inside and not columns.reached[span]:
                columns.reached[span] = 1
                stack[2 * found : 2 * found + 2] = cell, span
                found += 1
    if not found:
        columns.reached[:] = 1
        return
    flood_spans(
        columns.start, columns.floor, columns.ceiling, columns.width, np.float32(CLEARANCE_M), stack, found,
        columns.reached,
    )  # fmt: skip
