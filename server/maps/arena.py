"""The generated default map: a symmetrical deathmatch arena of boxes, ramps, stairs, columns and jump pads.

One court of 60 × 60 m is four times the same quarter, turned about its middle:

    middle    a terrace of 12 × 12 m at 3.6 m on four pillars, open below, with a dais that holds the best item
    axes      a ramp up to the terrace on each side, and beyond it a jump pad behind a wall
    corners   a keep of 10 × 10 m at 2.4 m with two flights of stairs, and on it a tower that only a jump pad reaches
    between   octagonal columns, crates and breast-high walls, so that no line of sight crosses the whole court

Larger arenas are several courts without walls between them, inside one outer wall.
"""

import numpy as np

from server.errors import MapError
from server.maps.builder import MeshBuilder
from server.maps.entities import launch_velocity
from server.maps.limits import SPAWNS_MAX
from server.maps.solids import Point, Solids
from server.maps.units import yaw_from_degrees
from sim.worldmap import Contents, ItemPoint, SpawnPoint, Trigger, TriggerKind, WorldMap

__all__ = ["ARENA_SIZE_MAX_M", "ARENA_SIZE_MIN_M", "COURT_M", "make_arena"]

COURT_M = 60.0
ARENA_SIZE_MIN_M = 60
ARENA_SIZE_MAX_M = 1_200  # 400 courts
SPAWNS_PER_COURT = 64
WALL_HEIGHT_M = 9.0
SKY_HEIGHT_M = 40.0
TERRACE_M, TERRACE_HALF_M = 3.6, 6.0
KEEP_M, KEEP_LOW_M, KEEP_HIGH_M = 2.4, 17.0, 27.0
TOWER_M, TOWER_LOW_M = 5.6, 22.0
PAD_HALF_M = 1.1
ITEM_HEIGHT_M = 0.375

# Feet of the spawn points of one quarter: 16, clear of everything that stands there.
QUARTER_SPAWNS: tuple[Point, ...] = (
    (15.5, 3.5, 0.0), (15.5, -3.5, 0.0), (22.0, 6.5, 0.0), (22.0, -6.5, 0.0), (28.3, 9.0, 0.0), (28.3, -9.0, 0.0),
    (9.5, 14.0, 0.0), (14.0, 9.5, 0.0), (12.5, 24.8, 0.0), (24.8, 12.5, 0.0), (19.0, 19.0, KEEP_M),
    (19.0, 25.0, KEEP_M), (25.0, 19.0, KEEP_M), (28.3, 28.3, 0.0), (28.3, 17.0, 0.0), (3.0, 3.0, 0.0),
)  # fmt: skip


def _quarter(solids: Solids) -> None:
    """What stands in one quarter of a court, drawn along +X and in the corner (+X, +Y)."""
    solids.box((3.6, 3.6, 0.0), (5.2, 5.2, TERRACE_M - 0.4))
    solids.ramp((-14.0, -2.0, 0.0), (-TERRACE_HALF_M, 2.0, TERRACE_M))
    # The terrace's parapet, with a gap for the ramp.
    solids.box((2.4, 5.7, TERRACE_M), (5.7, 6.0, TERRACE_M + 0.9))
    solids.box((-5.7, 5.7, TERRACE_M), (-2.4, 6.0, TERRACE_M + 0.9))
    solids.box((5.7, 5.7, TERRACE_M), (6.0, 6.0, TERRACE_M + 0.9))
    _keep(solids)
    # Jump pad on the axis, screened by a breast-high wall.
    solids.box((25.0 - PAD_HALF_M, -PAD_HALF_M, 0.0), (25.0 + PAD_HALF_M, PAD_HALF_M, 0.1))
    solids.box((18.6, -3.0, 0.0), (19.2, 3.0, 1.3))
    # Cover: a column, a low wall and crates on either side of the axis.
    solids.column(11.5, 11.5, 1.5, 0.0, 6.5)
    for side in (-1.0, 1.0):
        y = sorted((side * 8.0, side * 12.0))
        solids.box((21.0, y[0], 0.0), (21.5, y[1], 1.2))
        y = sorted((side * 5.6, side * 7.2))
        solids.box((11.0, y[0], 0.0), (12.6, y[1], 1.4))
    solids.box((12.6, 5.6, 0.0), (13.8, 6.8, 0.7))
    solids.box((11.2, 5.8, 1.4), (12.4, 7.0, 2.6))


def _keep(solids: Solids) -> None:
    """The corner keep with its stairs, parapets and tower."""
    low, high = KEEP_LOW_M, KEEP_HIGH_M
    solids.box((low, low, 0.0), (high, high, KEEP_M))
    solids.stairs((low - 4.8, 20.0, 0.0), (low, 23.0, KEEP_M), 8)
    solids.box((TOWER_LOW_M, TOWER_LOW_M, KEEP_M), (high, high, TOWER_M))
    solids.box((low, low, KEEP_M), (low + 0.4, 19.4, KEEP_M + 0.9))
    solids.box((low + 0.4, low, KEEP_M), (19.4, low + 0.4, KEEP_M + 0.9))
    solids.box((low, 23.6, KEEP_M), (low + 0.4, high, KEEP_M + 0.9))
    solids.box((23.6, low, KEEP_M), (high, low + 0.4, KEEP_M + 0.9))


def _second_flight(solids: Solids) -> None:
    """The keep's other stairs rise along +Y: drawn along +X in a frame turned back by a quarter."""
    frame = solids.quarter_turns
    solids.quarter_turns = frame + 1
    solids.stairs((KEEP_LOW_M - 4.8, -23.0, 0.0), (KEEP_LOW_M, -20.0, KEEP_M), 8)
    solids.quarter_turns = frame


def _court_entities(
    solids: Solids, spawns: list[SpawnPoint], items: list[ItemPoint], triggers: list[Trigger], spawn_count: int
) -> None:
    """Spawn points, items and jump pads of one court, quarter by quarter."""
    centre = solids.offset
    weapons = ("rocket_launcher", "plasma", "shotgun", "lightning")
    towers = ("railgun", "armour", "railgun", "health")
    for quarter in range(4):
        solids.quarter_turns = quarter
        for x, y, z in QUARTER_SPAWNS[: spawn_count // 4]:
            place = solids.place(x, y, z)
            degrees = float(np.degrees(np.arctan2(centre[1] - place[1], centre[0] - place[0])))
            spawns.append(SpawnPoint(place, yaw_from_degrees(degrees)))
        _pads(solids, triggers)
        for kind, amount, (x, y, z) in (
            (weapons[quarter], 0, (16.5, 0.0, 0.0)),
            (f"ammo_{weapons[quarter]}", 0, (22.5, 3.0, 0.0)),
            (towers[quarter], 0 if towers[quarter] == "railgun" else 100, (24.5, 24.5, TOWER_M)),
            ("grenade_launcher" if quarter % 2 else "machinegun", 0, (18.5, 22.0, KEEP_M)),
            ("ammo_machinegun", 0, (28.0, 14.5, 0.0)),
            ("armour", 50, (14.5, 14.5, 0.0)),
            ("health", 25, (22.8, 10.0, 0.0)),
            ("health", 25, (22.8, -10.0, 0.0)),
            ("health", 50, (0.0, 4.4, TERRACE_M)),
            *(("armour", 5, (8.0 + step, 18.0, 0.0)) for step in (0.0, 1.2, 2.4)),
            *(("health", 5, (18.0, 8.0 + step, 0.0)) for step in (0.0, 1.2, 2.4)),
        ):
            at = solids.place(x, y, z + ITEM_HEIGHT_M)
            items.append(ItemPoint(kind, at, amount))
    solids.quarter_turns = 0
    items.append(ItemPoint("quad", solids.place(0.0, 0.0, TERRACE_M + 0.3 + ITEM_HEIGHT_M)))


def _pads(solids: Solids, triggers: list[Trigger]) -> None:
    """The two jump pads of a quarter: from the axis to the terrace, and from the keep to its tower."""
    for (x, y, z), apex in (
        ((25.0, 0.0, 0.1), (13.0, 0.0, 9.5)),
        ((20.6, 20.6, KEEP_M + 0.1), (23.2, 23.2, TOWER_M + 2.2)),
    ):
        half = PAD_HALF_M if z < 1.0 else 0.8
        centre = solids.place(x, y, z + 0.4)
        velocity = launch_velocity(np.array(centre), np.array(solids.place(*apex)))
        if velocity is None:
            raise AssertionError("a jump pad's apex lies above it")
        low = (centre[0] - half, centre[1] - half, centre[2] - 0.4)
        high = (centre[0] + half, centre[1] + half, centre[2] + 0.4)
        vector = (float(velocity[0]), float(velocity[1]), float(velocity[2]))
        triggers.append(Trigger(TriggerKind.PUSH, low, high, vector=vector))


def _court(solids: Solids) -> None:
    """The solids of one court around `solids.offset`."""
    half = TERRACE_HALF_M
    solids.box((-half, -half, TERRACE_M - 0.4), (half, half, TERRACE_M))
    solids.box((-1.6, -1.6, TERRACE_M), (1.6, 1.6, TERRACE_M + 0.3))
    for quarter in range(4):
        solids.quarter_turns = quarter
        _quarter(solids)
        _second_flight(solids)
        solids.box((20.6 - 0.8, 20.6 - 0.8, KEEP_M), (20.6 + 0.8, 20.6 + 0.8, KEEP_M + 0.1))
    solids.quarter_turns = 0


def _shell(solids: Solids, half: float) -> None:
    """The floor, the outer wall, an invisible wall above it, and the sky."""
    clip, sky = int(Contents.PLAYER_CLIP), int(Contents.SOLID | Contents.SKY)
    outer = half + 1.0
    solids.box((-outer, -outer, -1.0), (outer, outer, 0.0))
    for quarter in range(4):
        solids.quarter_turns = quarter
        solids.box((half, -half, 0.0), (outer, outer, WALL_HEIGHT_M))
        solids.box((half, -half, WALL_HEIGHT_M), (outer, outer, SKY_HEIGHT_M), clip)
    solids.quarter_turns = 0
    solids.box((-outer, -outer, SKY_HEIGHT_M), (outer, outer, SKY_HEIGHT_M + 1.0), sky)


def make_arena(size_m: int = ARENA_SIZE_MIN_M) -> WorldMap:
    """The default arena, the same on every machine.

    Args:
        size_m: Side of the square inside the walls [m]; every full 60 m hold one more row of courts.

    Raises:
        MapError: `size_m` is out of range.
    """
    name = "arena" if size_m == ARENA_SIZE_MIN_M else f"arena-{size_m}"
    if not ARENA_SIZE_MIN_M <= size_m <= ARENA_SIZE_MAX_M:
        raise MapError("arena", "size", size_m, f"must be {ARENA_SIZE_MIN_M} … {ARENA_SIZE_MAX_M} metres")
    rows = int(size_m // COURT_M)
    pitch = size_m / rows
    spawn_count = min(SPAWNS_PER_COURT, SPAWNS_MAX // (rows * rows) // 4 * 4)
    shell, court = Solids(), Solids()
    _shell(shell, size_m / 2.0)
    _court(court)
    builder = MeshBuilder(name)
    builder.add(*shell.mesh())
    court_vertices, court_triangles, court_contents = court.mesh()
    spawns: list[SpawnPoint] = []
    items: list[ItemPoint] = []
    triggers: list[Trigger] = []
    for row in range(rows):
        for column in range(rows):
            x, y = (column + 0.5) * pitch - size_m / 2.0, (row + 0.5) * pitch - size_m / 2.0
            frame = Solids(offset=(x, y, 0.0))
            builder.add(court_vertices + np.array(frame.offset), court_triangles, court_contents)
            _court_entities(frame, spawns, items, triggers, spawn_count)
    vertices, triangles, contents, _ = builder.mesh()
    return WorldMap(name, vertices, triangles, contents, tuple(spawns), items=tuple(items), triggers=tuple(triggers))
