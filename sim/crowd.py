"""The players whom shots can hit, sorted once a tick so that a ray looks only at those near its way.

A crowd belongs to the poses it was gathered from: a rewind gathers another from the poses of the past.
"""

import numpy as np

from sim.arrays import F64, Bool
from sim.crowd_kernels import CELLS_MAX, ENTRIES_PER_PLAYER, CrowdArrays, gather_crowd

__all__ = ["Crowd"]


class Crowd:
    """Cells over the players of one moment.

    Attributes:
        arrays: As kernels take them, of type `sim.crowd_kernels.CROWD_TYPE`.
        count: How many players it holds.
    """

    def __init__(self, players: int) -> None:
        self.arrays: CrowdArrays = (
            np.zeros(4),
            np.zeros(2, np.int64),
            np.zeros(CELLS_MAX + 1, np.int32),
            np.zeros(ENTRIES_PER_PLAYER * players, np.int32),
        )
        self.count = 0

    def gather(self, feet: F64, height: F64, targets: Bool) -> None:
        """Hold the players of `targets`, shape (players,), at `feet` [m] (players, 3) with bodies of `height` [m]."""
        self.count = int(gather_crowd(feet, height, targets, self.arrays))
