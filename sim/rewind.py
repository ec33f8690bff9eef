"""The pose history: where everyone was, for at least the last second, at any moment between two ticks.

It is a memory of the world (`sim.pipeline.Access.memory`): captured and restored with it, as far back as shots may ask,
but no part of the state hash, since it follows from hashed states.

The moment of a shot is the tick that is being made less the shooter's rewind, `Intent.rewind` capped at
`World.rewind_max`. Who can be hit then: who lives now, has lived since, and at the pose of that moment.
"""

import math
from dataclasses import dataclass

import numpy as np

from sim.arrays import F64, I16, I64, U16, U64, AnyArray, Bool
from sim.commands import REWIND_STEPS
from sim.rewind_kernels import PITCH, SINCE, YAW, HistoryArrays, pose_at, write_poses

__all__ = ["HISTORY_S", "PoseHistory", "Poses", "history_depth", "whole_ticks_back"]

HISTORY_S = 1.0
"""What the history holds at least."""


def history_depth(tick_hz: int) -> int:
    """Ticks of a ring that holds `HISTORY_S` and the tick at each end of it: a power of two."""
    return 1 << math.ceil(math.log2(tick_hz * HISTORY_S + 2))


def whole_ticks_back(rewind: int) -> int:
    """How many ticks before its own the tick at or before a moment lies, as kernels reckon with `ticks_back`.

    Python would have that one compiled in the first tick with a shot.
    """
    return -(-rewind // REWIND_STEPS)


@dataclass(frozen=True, slots=True)
class Poses:
    """All players at a moment.

    Attributes:
        there: Who could be hit and still can, shape (n,), bool; the other rows are 0.
        feet: Feet [m], shape (n, 3), float64.
        height: Heights of the bodies [m], shape (n,), float64.
        yaw: View directions, shape (n,), uint16.
        pitch: View elevations, shape (n,), int16.
    """

    there: Bool
    feet: F64
    height: F64
    yaw: U16
    pitch: I16


class PoseHistory:
    """A ring of poses over ticks.

    Attributes:
        arrays: As kernels take them, of type `sim.rewind_kernels.HISTORY_TYPE`.
        depth: How many ticks the ring has room for.
        kept_ticks: How many ticks a capture keeps.
        tick: The last tick written, 0 for none.
        first: The first tick written since the world began or was restored; before it there is nothing.
    """

    def __init__(self, capacity: int, *, tick_hz: int, kept_ticks: int) -> None:
        self.depth = history_depth(tick_hz)
        self.kept_ticks = min(kept_ticks, self.depth)
        feet = np.zeros((self.depth, capacity, 3))
        shape = (self.depth, capacity)
        self.arrays: HistoryArrays = (
            feet, np.zeros(shape), np.zeros(shape, np.uint16), np.zeros(shape, np.int16), np.zeros(shape, np.uint16),
            np.zeros(shape, np.uint64), np.zeros(capacity, np.int64),
        )  # fmt: skip
        self.tick = 0
        self.first = 1

    def record(self, tick: int, ids: U64, alive: Bool, born: I64, poses: tuple[F64, F64, U16, I16, U16]) -> int:
        """Keep the poses of a tick; see `sim.rewind_kernels.write_poses`.

        Returns:
            How many can be hit.
        """
        self.tick = tick
        self.first = max(self.first, tick - self.depth + 1)
        return int(write_poses(self.arrays, tick, ids, alive, born, poses))

    def views(self, tick: int, rows: int) -> list[AnyArray]:
        """What a capture at a tick keeps, and a restore fills again: the last ticks of the first rows."""
        slots = [(tick - back) % self.depth for back in range(self.kept_ticks)]
        return [self.arrays[SINCE][:rows], *(column[slot, :rows] for slot in slots for column in self.arrays[:SINCE])]

    def clear(self) -> None:
        """Forget everything, before a restore."""
        for column in self.arrays:
            column[...] = 0

    def restored(self, tick: int) -> None:
        """Take what was filled in as the poses up to a tick."""
        self.tick = tick
        self.first = max(tick - self.kept_ticks + 1, 1)

    def holds(self, rewind: int) -> bool:
        """Whether the moment `rewind` steps before the last tick is in the history."""
        return rewind >= 0 and self.tick - whole_ticks_back(rewind) >= self.first

    def pose(self, row: int, rewind: int = 0) -> tuple[tuple[float, float, float], float] | None:
        """Feet and height [m] of a player at a moment, exactly as shots are judged by them; None if it was not there.

        Args:
            row: Which player.
            rewind: Steps of 1/`REWIND_STEPS` tick before the last tick.
        """
        if not self.holds(rewind):
            return None
        there, feet, height = pose_at(self.arrays, row, (self.tick, rewind))
        return (feet, height) if there else None

    def poses(self, rewind: int = 0) -> Poses:
        """All players at a moment, for those who look at one; shots read the ring themselves.

        Args:
            rewind: Steps of 1/`REWIND_STEPS` tick before the last tick.
        """
        count = len(self.arrays[SINCE])
        there, feet, height = np.zeros(count, np.bool_), np.zeros((count, 3)), np.zeros(count)
        for row in range(count):
            found = self.pose(row, rewind)
            if found is not None:
                there[row], feet[row], height[row] = True, found[0], found[1]
        back = whole_ticks_back(rewind)
        here, after = (self.tick - back) % self.depth, (self.tick - max(back - 1, 0)) % self.depth
        part = (REWIND_STEPS * back - rewind) / REWIND_STEPS
        turn = (self.arrays[YAW][after] - self.arrays[YAW][here]).astype(np.int16)
        lift = self.arrays[PITCH][after].astype(np.float64) - self.arrays[PITCH][here]
        yaw = (self.arrays[YAW][here] + np.rint(turn * part).astype(np.int64)).astype(np.uint16)
        pitch = (self.arrays[PITCH][here] + np.rint(lift * part)).astype(np.int16)
        yaw[~there], pitch[~there] = 0, 0
        return Poses(there, feet, height, yaw, pitch)
