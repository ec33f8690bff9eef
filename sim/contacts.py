"""Who touches whom, over all kinds of things, once a tick.

`Contacts` gathers the things of several tables into one set of bounding spheres, runs the broadphase over it and
splits the pairs by kind, so that a system asks `touching("player", "pickup")` and gets rows of
those two tables; `met` leaves only those whose spheres truly met on their ways, whatever the length of a tick. Pairs
are those of the moment of `update`; later systems of the tick may look at them, but not rely on the things having
stayed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim.arrays import F64, I32, Bool
from sim.broadphase import Broadphase
from sim.components import Motion
from sim.contacts_kernels import ThingArrays, gather_spheres, split_pairs

if TYPE_CHECKING:
    from sim.world import World

__all__ = ["Contacts"]

PAIRS_PER_SLOT_MAX = 16  # more are dropped and counted, as `sim.broadphase` documents


class Contacts:
    """The broadphase of one world and its pairs by kind.

    Attributes:
        broadphase: Rebuilt by `update`, over `things`.
        things: What takes part, as `sim.contacts_kernels` describes it; those of the last `update` come first.
    """

    def __init__(self, world: "World") -> None:
        count = world.slot_count
        self.things: ThingArrays = (
            np.zeros((count, 3)), np.zeros(count), np.zeros((count, 3)), np.zeros(count), np.zeros(count, np.int32),
            np.zeros(count, np.int32),
        )  # fmt: skip
        self.broadphase = Broadphase(count, pairs_max=PAIRS_PER_SLOT_MAX * count)
        self._tables = list(world.tables.items())
        self._number = {name: number for number, name in enumerate(world.tables)}
        self._pairs: I32 = np.zeros((0, 2), np.int32)
        self._split: I32 = np.zeros((PAIRS_PER_SLOT_MAX * count, 2), np.int32)

    def update(self, radii: Mapping[str, float], present: Mapping[str, Bool], previous: Mapping[str, F64]) -> None:
        """Find all pairs whose ways in this tick may have met.

        Args:
            radii: Radius of the bounding sphere of a thing at rest, by table [m]; it stands on the position.
            present: Which slots take part, by table, where that is not simply the live ones.
            previous: Positions before the tick, by table, of things that move [m].
        """
        count = 0
        for number, (name, table) in enumerate(self._tables):  # so that the order of pairs is that of global slots
            if name in radii:
                rows, position = table.high_water, table[Motion].position
                count = gather_spheres(
                    present.get(name, table.live)[:rows], previous.get(name, position)[:rows], position[:rows],
                    radii[name], number, count, self.things,
                )  # fmt: skip
        self.broadphase.take(self.things[0][:count], self.things[1][:count])
        self._pairs = self.broadphase.pairs()

    def touching(self, first: str, second: str) -> I32:
        """Pairs of rows, shape (n, 2), int32: of `first` and of `second`; valid until asked again.

        Pairs within one table have the lower row first.
        """
        return self._split_by(first, second, 0)

    def met(self, first: str, second: str) -> I32:
        """Of `touching`, those whose spheres at rest touched at some moment of the tick, both moving evenly.

        So who passes a thing within a tick has met it, and who is fast reaches no farther to the sides than who is
        slow. Valid until `touching` or this is asked again.
        """
        return self._split_by(first, second, 1)

    def _split_by(self, first: str, second: str, truly: int) -> I32:
        kinds = (self._number[first], self._number[second])
        return self._split[: split_pairs(self._pairs, kinds, truly, self.things, self._split)]
