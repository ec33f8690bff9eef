"""Who touches whom, over all kinds of things, once a tick.

`Contacts` gathers the things of several tables into one set of bounding spheres (rows = global slots), runs the
broadphase over it and splits the pairs by kind, so that a system asks `touching("player", "pickup")` and gets rows of
those two tables; `met` leaves only those whose spheres truly met on their ways, whatever the length of a tick. Pairs
are those of the moment of `update`; later systems of the tick may look at them, but not rely on the things having
stayed.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sim.arrays import F64, I32, I64, Bool
from sim.broadphase import Broadphase
from sim.components import Motion
from sim.contacts_kernels import gather_spheres, keep_met, split_pairs

if TYPE_CHECKING:
    from sim.world import World

__all__ = ["Contacts"]

PAIRS_PER_SLOT_MAX = 16  # more are dropped and counted, as `sim.broadphase` documents


class Contacts:
    """The broadphase of one world and its pairs by kind.

    Attributes:
        broadphase: Rebuilt by `update`; ask it for what is near.
        position: Centres of the spheres [m], shape (slot_count, 3).
        radius: Radii [m], shape (slot_count,).
        active: Which global slots take part.
    """

    def __init__(self, world: "World") -> None:
        self._world = world
        count = world.slot_count
        self.position: F64 = np.zeros((count, 3))
        self.radius: F64 = np.zeros(count)
        self.active: Bool = np.zeros(count, np.bool_)
        self.broadphase = Broadphase(count, pairs_max=PAIRS_PER_SLOT_MAX * count)
        self._kind: I64 = np.zeros(count, np.int64)
        self._base = {name: table.slot_base for name, table in world.tables.items()}
        self._number = {name: number for number, name in enumerate(world.tables)}
        for name, table in world.tables.items():
            self._kind[table.slot_base : table.slot_base + table.capacity] = self._number[name]
        self._pairs: I32 = np.zeros((0, 2), np.int32)
        self._split: I32 = np.zeros((PAIRS_PER_SLOT_MAX * count, 2), np.int32)
        self._way: F64 = np.zeros((count, 3))
        self._rest: F64 = np.zeros(count)

    def update(self, radii: Mapping[str, float], present: Mapping[str, Bool], previous: Mapping[str, F64]) -> None:
        """Find all pairs whose ways in this tick may have met.

        Args:
            radii: Radius of the bounding sphere of a thing at rest, by table [m]; it stands on the position.
            present: Which slots take part, by table, where that is not simply the live ones.
            previous: Positions before the tick, by table, of things that move [m].
        """
        for name, radius in radii.items():
            table = self._world.tables[name]
            rows = slice(table.slot_base, table.slot_base + table.capacity)
            gather_spheres(
                present.get(name, table.live), previous.get(name, table[Motion].position), table[Motion].position,
                radius, self.position[rows], self.radius[rows], self.active[rows],
                self._way[rows], self._rest[rows],
            )  # fmt: skip
        self.broadphase.build(self.position, self.radius, self.active)
        self._pairs = self.broadphase.pairs()

    def touching(self, first: str, second: str) -> I32:
        """Pairs of rows, shape (n, 2), int32: of `first` and of `second`; valid until asked again.

        Pairs within one table have the lower row first.
        """
        kinds = (self._number[first], self._number[second])
        bases = (self._base[first], self._base[second])
        count = split_pairs(self._pairs, self._kind, kinds, bases, self._split)
        return self._split[:count]

    def met(self, first: str, second: str) -> I32:
        """Of `touching`, those whose spheres at rest touched at some moment of the tick, both moving evenly.

        So who passes a thing within a tick has met it, and who is fast reaches no farther to the sides than who is
        slow. Valid until `touching` or this is asked again.
        """
        pairs = self.touching(first, second)
        bases = (self._base[first], self._base[second])
        return pairs[: keep_met(pairs, bases, self.position, self._way, self._rest)]
