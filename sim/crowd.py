"""The players whom shots can hit, sorted once a tick so that a ray looks only at those near its way, at its moment."""

import numpy as np

from sim.arrays import I32
from sim.crowd_kernels import CELLS_PER_PLAYER, ENTRIES_PER_PLAYER, CrowdArrays, gather_crowd
from sim.rewind import PoseHistory

__all__ = ["Crowd"]


class Crowd:
    """Cells over the players of a window of time.

    Attributes:
        arrays: As kernels take them, of type `sim.crowd_kernels.CROWD_TYPE`.
        count: How many players it holds.
    """

    def __init__(self, players: int) -> None:
        cells = 1 << (CELLS_PER_PLAYER * players - 1).bit_length()
        self.arrays: CrowdArrays = (
            np.zeros(cells + 1, np.int32),
            np.zeros((ENTRIES_PER_PLAYER + 1) * players, np.int32),
            np.zeros(players, np.int64),
            np.zeros((players, 8)),
            np.zeros(4),
            np.zeros(4, np.int64),
        )
        self._lines: I32 = np.zeros((players, 4), np.int32)
        self.count = 0

    def gather(self, history: PoseHistory, ticks: int = 0, *, grow: float = 0.0) -> None:
        """Hold who can be hit at the last tick of a history, for rays of moments up to so many ticks before it.

        Args:
            history: Where they were.
            ticks: How far back rays ask.
            grow: Radius of the widest ray [m].
        """
        self.count = int(gather_crowd(history.arrays, history.tick, ticks, grow, self._lines, self.arrays))
