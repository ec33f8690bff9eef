"""Movers: doors, lifts and whatever else of a map goes to and fro, with the players it carries and pushes.

    movers = MoverSet(world_map, geometry, tick_hz=60)          # what can move, and how; the same for all
    motion = Motion(geometry, world_map.triggers, movers=movers)
    Movers(movers, motion, players=64).step(turns, tick, state, active=alive)   # before motion.move of the tick

The state of a mover is a row of `Turn`: whether it goes away from its resting place, and since when. Where it is in any
tick follows from that (`sim.movers_kernels`). A client that is told the rows, which is seldom, moves the same movers by
itself: `Movers.follow`.
"""

import numpy as np

from sim.arrays import F64, I32, Bool
from sim.errors import SimError
from sim.geometry import Geometry, build_forest
from sim.motion import Motion as MotionKernel
from sim.motion_kernels import CANDIDATES_MAX, SCRATCH_COLUMNS, SCRATCH_ROWS, StateColumns
from sim.movers_kernels import FIGURES, SpecArrays, TurnArrays, place_movers, put_movers
from sim.movers_push_kernels import PlaceArrays, PushScratch, push_movers, turn_movers
from sim.narrowphase_kernels import SURFACE_SIZE, prepare_surfaces
from sim.pipeline import Access
from sim.schema import Component, Wire, column
from sim.trig import SINE_TABLE
from sim.worldmap import Box, Mover, MoverKind, MoverMotion, WorldMap

__all__ = ["Crush", "MoverError", "MoverSet", "Movers", "Turn", "mover_service"]

TICKS_MAX = 1 << 24
"""Longest stroke, wait, period or round [ticks]; what is longer is cut to it."""
LEG_COLUMNS = 8


class MoverError(SimError):
    """A mover of a map cannot be used."""


class Turn(Component, name="turn"):
    """How a mover goes: away from its resting place or back to it, since a tick; `until` when it turns by itself.

    Rows are in the order of `WorldMap.moving`. Everybody is told, wherever they are: it seldom changes.
    """

    opens = column(np.uint8, wire=Wire(bits=1, zone=True), bounds=(0, 1))
    since = column(np.int32, unit="tick", wire=Wire(bits=32, signed=True, zone=True))
    until = column(np.int32, unit="tick")


class Crush:
    """Damage that movers did in this tick to who was in their way [points], by player row; float64."""

    def __init__(self, players: int) -> None:
        self.amount: F64 = np.zeros(players)


class MoverSet:
    """The movers of one map at one tick rate. Immutable.

    Attributes:
        movers: As the map has them.
        count: How many.
        spec: What kernels take; see `sim.movers_kernels`.
        bounds: At rest [m], shape (count, 6).
        runs: First triangle and how many of each, shape (count, 2), int32.
        forest: A hierarchy over the triangles of each, at rest.
    """

    def __init__(self, world: WorldMap, geometry: Geometry, *, tick_hz: int) -> None:
        """Prepare the movers of a map.

        Raises:
            MoverError: A duration is not a positive number, or a path has no point.
        """
        self.movers: tuple[Mover, ...] = world.moving
        self.count = len(self.movers)
        runs = [(mover.triangle_first, mover.triangle_count) for mover in self.movers]
        self.runs: I32 = np.array(runs, np.int32).reshape(-1, 2)
        self.forest, roots = build_forest(geometry, runs)
        rows = np.concatenate([np.arange(first, first + count) for first, count in runs] or [np.zeros(0, np.int64)])
        rest: F64 = np.empty((len(rows), SURFACE_SIZE))
        prepare_surfaces(
            np.ascontiguousarray(geometry.corners[rows]), np.ascontiguousarray(geometry.contents[rows]), rest
        )  # fmt: skip
        figures: F64 = np.zeros((self.count, FIGURES))
        boxes: list[Box] = []
        legs: list[list[float]] = []
        leaders: dict[int, int] = {}
        at = 0
        for number, (mover, (first, count)) in enumerate(zip(self.movers, runs, strict=True)):
            motion = mover.motion
            assert motion is not None  # what `WorldMap.moving` chose
            own_legs = _legs(world.name, motion, tick_hz)
            low, high = rest[at : at + count, 0:3].min(axis=0), rest[at : at + count, 3:6].max(axis=0)
            leader = leaders.setdefault(motion.group, number) if motion.group > 0 else number
            figures[number] = (
                motion.kind, *motion.travel, _whole_ticks(world.name, motion, own_legs, tick_hz),
                _ticks(motion.wait_s, tick_hz) if motion.wait_s >= 0.0 else -1, round(motion.phase * 65536.0) % 65536,
                motion.damage, motion.crushes, motion.holds, *low, *high, len(boxes), len(motion.touch), len(legs),
                len(own_legs), first, count, at, leader, roots[number],
            )  # fmt: skip
            boxes.extend(motion.touch)
            legs.extend(own_legs)
            at += count
        self.spec: SpecArrays = (
            figures, np.array(boxes, np.float64).reshape(-1, 6), np.array(legs, np.float64).reshape(-1, LEG_COLUMNS),
            rest, SINE_TABLE,
        )  # fmt: skip
        self.bounds: F64 = np.ascontiguousarray(figures[:, 10:16])

    def begin(self, turns: TurnArrays) -> None:
        """Let all movers rest, or begin, as at tick 0."""
        opens, since, until = turns
        opens[: self.count], until[: self.count] = 0, 0
        slides = self.spec[0][:, 0] == MoverKind.SLIDE
        since[: self.count] = np.where(slides, -self.spec[0][:, 4], 0)

    def offsets(self, turns: TurnArrays, tick: int, out_offsets: F64) -> None:
        """Where all movers are at a tick: their way from rest [m], shape (count, 3)."""
        place_movers(self.spec, turns, tick, out_offsets)


def _ticks(seconds: float, tick_hz: int) -> int:
    return int(min(max(round(seconds * tick_hz), 1), TICKS_MAX))


def _whole_ticks(name: str, motion: MoverMotion, legs: list[list[float]], tick_hz: int) -> int:
    if motion.kind is MoverKind.PATH:
        return int(legs[-1][0] + legs[-1][1])
    if not motion.seconds > 0.0:
        raise MoverError(f"map {name}: a mover takes {motion.seconds} s; mend its speed in the map")
    return _ticks(motion.seconds, tick_hz)


def _legs(name: str, motion: MoverMotion, tick_hz: int) -> list[list[float]]:
    """The ways and the waits of a PATH, one after the other."""
    if motion.kind is not MoverKind.PATH:
        return []
    if not motion.path:
        raise MoverError(f"map {name}: a mover follows a path without points; mend it in the map")
    legs: list[list[float]] = []
    begin, here = 0, motion.path[-1][:3]
    for x, y, z, seconds, wait_s in motion.path:
        ticks = _ticks(seconds, tick_hz)
        legs.append([begin, ticks, *here, x, y, z])
        begin, here = begin + ticks, (x, y, z)
        if wait_s > 0.0:
            ticks = _ticks(wait_s, tick_hz)
            legs.append([begin, ticks, *here, *here])
            begin += ticks
    return legs


class Movers:
    """Moves the movers of one `Motion`. Owns its scratch: one call at a time.

    Attributes:
        set: What can move.
        offsets: Where each was at the end of the last tick made or followed [m from rest], shape (count, 3).
    """

    def __init__(self, movers: MoverSet, motion: MotionKernel, *, players: int) -> None:
        self.set = movers
        self._motion = motion
        self._before: F64 = np.zeros((movers.count, 3))
        self.offsets: F64 = np.zeros((movers.count, 3))
        self._placed: F64 = np.zeros((movers.count, 3))
        self._places: PlaceArrays = (self._before, self.offsets, self._placed)
        self._turns: TurnArrays | None = None
        self._crush: F64 = np.zeros(players)
        room = 2 * players + 64
        self._scratch: PushScratch = (
            np.zeros((2, CANDIDATES_MAX), np.int32), np.zeros((SCRATCH_ROWS, SCRATCH_COLUMNS)),
            np.zeros((room, 3)), np.zeros(room, np.int32),
        )  # fmt: skip

    def step(
        self, turns: TurnArrays, tick: int, state: StateColumns, *, active: Bool, dt: float, out_crush: F64
    ) -> None:
        """Make one tick of all movers, right before `Motion.move` of that tick.

        Args:
            turns: Columns `opens`, `since`, `until` of at least as many rows as there are movers; changed in place.
            tick: The tick that is being made.
            state: As `Motion.move` takes it; positions and flags are changed.
            active: Which players there are, shape (n,), bool.
            dt: Length of the tick [s].
            out_crush: Damage to who was in the way is added [points], shape (n,).
        """
        rows, motion = self._rows(turns), self._motion
        turn_movers(self.set.spec, rows, tick, state, active, motion.vector, motion.world, self._places)
        self._push(rows, tick, state, active, dt, out_crush)

    def follow(self, turns: TurnArrays, tick: int, state: StateColumns, *, active: Bool, dt: float) -> None:
        """Move all movers as a client that was told `turns` reckons they do, and the active players with them.

        Bit for bit as `step`, unless a mover turns in this very tick. Arguments as there; `turns` are not changed.
        """
        rows = self._rows(turns)
        self.set.offsets(rows, tick - 1, self._before)
        self._put(self._before)
        self.set.offsets(rows, tick, self.offsets)
        self._push(rows, -1, state, active, dt, self._crush)

    def place(self, turns: TurnArrays, tick: int) -> None:
        """Put the movers where they are at a tick, without regard to anybody."""
        self.set.offsets(self._rows(turns), tick, self.offsets)
        self._put(self.offsets)

    def _rows(self, turns: TurnArrays) -> TurnArrays:
        """The first rows of the columns; views of the same columns are made once."""
        if turns is not self._turns:
            count = self.set.count
            self._turns, self._first = turns, (turns[0][:count], turns[1][:count], turns[2][:count])
        return self._first

    def _put(self, offsets: F64) -> None:
        put_movers(self.set.spec, offsets, self._placed, self._motion.world[0], self._motion.world[3])

    def _push(
        self, rows: TurnArrays, authority: int, state: StateColumns, active: Bool, dt: float, out_crush: F64
    ) -> None:
        motion = self._motion
        push_movers(
            authority, dt, state, active, motion.vector, motion.geometry, motion.world, self.set.spec, rows,
            self._places, self._scratch, out_crush,
        )  # fmt: skip


def mover_service(access: Access) -> MoverSet:
    """The movers of the world's map, the same for all systems."""
    world = access.world
    return access.service(MoverSet, lambda: MoverSet(world.map, world.geometry, tick_hz=world.tick_hz))
