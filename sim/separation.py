"""Keeps players out of each other after they have moved, symmetrically and without pushing anybody through a wall."""

import numpy as np

from sim.arrays import F64, I32, Bool
from sim.motion import Motion
from sim.motion_kernels import CANDIDATES_MAX, SCRATCH_COLUMNS, SCRATCH_ROWS, StateColumns
from sim.separation_kernels import separate_players

__all__ = ["MEETINGS_MAX", "Separation"]

MEETINGS_MAX = 65_536  # pairs that meet in one tick; beyond it the last ones wait for the next tick, counted


class Separation:
    """Parts players that met. Owns its scratch: one call at a time.

    Attributes:
        overflow: Pairs left as they were, since the start, because more than `meetings_max` met in one tick.
    """

    def __init__(self, motion: Motion, *, meetings_max: int = MEETINGS_MAX) -> None:
        self._motion = motion
        self._keys = np.empty(meetings_max, np.int64)
        self._candidates = np.empty(CANDIDATES_MAX, np.int32)
        self._scratch = np.zeros((SCRATCH_ROWS, SCRATCH_COLUMNS))
        self.overflow = 0

    def separate(self, state: StateColumns, previous: F64, *, active: Bool, pairs: I32, pair_count: int) -> int:
        """Part every pair that met during the tick; call it once, right after `Motion.move`.

        Args:
            state: The columns that `Motion.move` took; positions, velocities, ground and flags are changed.
            previous: Positions before that call [m], shape (n, 3), float64.
            active: Which slots take part, shape (n,), bool.
            pairs: Slots whose ways may have come within two radii of each other, each pair once, in any order; shape
                (m, 2), int32. From the broadphase, with bounds that hold both positions of a player.
            pair_count: How many rows are filled.

        Returns:
            How many pairs met.
        """
        motion = self._motion
        met = separate_players(
            state, previous, active, pairs, pair_count, motion.vector, motion.geometry, motion.world,
            self._keys, self._candidates, self._scratch,
        )  # fmt: skip
        self.overflow += max(0, met - len(self._keys))
        return int(met)
