"""What the shots of a tick were judged to be, kept readable after the tick."""

import numpy as np

from sim.arrays import F64, I32
from sim.hitscan_kernels import JudgedArrays

__all__ = ["Judgement"]


class Judgement:
    """Pellets of a tick and whom they met; the columns stand at the top of `sim.hitscan_kernels`.

    Attributes:
        arrays: As kernels take them, of type `sim.hitscan_kernels.JUDGED_TYPE`.
    """

    def __init__(self, pellets: int) -> None:
        self.arrays: JudgedArrays = (
            np.zeros((pellets, 6), np.int32),
            np.zeros((pellets, 8)),
            np.zeros((pellets, 4), np.int32),
            np.zeros((pellets, 2)),
            np.zeros(3, np.int64),
        )

    def clear(self) -> None:
        """Forget the last tick's."""
        self.arrays[4][:2] = 0

    @property
    def dropped(self) -> int:
        """Pellets and strikes for which there was no room, since the world began."""
        return int(self.arrays[4][2])

    @property
    def pellets(self) -> I32:
        """Shooter row, weapon, rewind, first strike, strikes and walls passed of each pellet."""
        return self.arrays[0][: self.arrays[4][0]]

    @property
    def ways(self) -> F64:
        """Origin, direction, distance of the wall and of the end of each pellet."""
        return self.arrays[1][: self.arrays[4][0]]

    @property
    def strikes(self) -> I32:
        """Pellet, victim row, part and walls passed of each strike."""
        return self.arrays[2][: self.arrays[4][1]]

    @property
    def blows(self) -> F64:
        """Distance and damage of each strike."""
        return self.arrays[3][: self.arrays[4][1]]
