"""Doors and lifts as clients know them: where they reckon each to be in any tick, from what the zone told them."""

import numpy as np

from net.zone_replica import ZoneReplica
from sim.arrays import Bool
from sim.motion import Motion
from sim.motion_kernels import StateColumns
from sim.movers import Movers, MoverSet, Turn
from sim.movers_kernels import TurnArrays

__all__ = ["ToldMovers"]

KIND = "mover"


class ToldMovers:
    """The movers of a map for many clients in one process, which all take what the first of them was told.

    All are told within a tick or two of each other; sorting clients by what each knows would cost more than it gains.
    """

    def __init__(self, movers: MoverSet, motion: Motion, zone: ZoneReplica | None, *, clients: int) -> None:
        """Take movers that `motion` was made with.

        Args:
            movers: Of the map, at the server's tick rate.
            motion: Whose movers move.
            zone: What clients know; None: all movers are taken to rest.
            clients: How many.
        """
        self._set, self._zone = movers, zone
        self._movers = Movers(movers, motion, players=clients)
        count = max(1, movers.count)
        self._turns: TurnArrays = (np.zeros(count, np.uint8), np.zeros(count, np.int32), np.zeros(count, np.int32))
        movers.begin(self._turns)
        self._first = -1
        row = 0
        for kind in () if zone is None else zone.layout.kinds:
            if kind.name == KIND:
                self._first = row
            row += kind.count

    @property
    def count(self) -> int:
        """How many movers there are."""
        return self._set.count

    def learn(self) -> None:
        """Take over what the first client that has joined was told."""
        zone, first, count = self._zone, self._first, self._set.count
        if zone is None or first < 0 or not count:
            return
        joined = np.flatnonzero(zone.joined >= 0)
        if len(joined) == 0 or not zone.ids[joined[0], first]:
            return
        words = zone.words[joined[0], first : first + count]
        name = Turn.component_name
        self._turns[0][:count] = words[:, zone.layout.place(f"{name}.opens")[0]]
        self._turns[1][:count] = words[:, zone.layout.place(f"{name}.since")[0]]

    def move(self, tick: int, state: StateColumns, active: Bool, dt: float) -> None:
        """Move the movers to a tick, and the active clients' players with them, right before `Motion.move`."""
        self._movers.follow(self._turns, tick, state, active=active, dt=dt)
