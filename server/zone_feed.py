"""Zone-wide state as a frame drives it: from the columns of the world into snapshots and join blocks.

A tick, in this order: `acknowledge` and `hear` as clients speak, `leave` as they come and go, `take` after the step,
`write` before snapshots are written, `settle` after, `sent` before packets are made.
"""

from collections.abc import Sequence

import numpy as np

from net.compression import Compressor
from server.replication_kernels import HAS_ZONE
from server.transport import Transport
from server.zone_join import ZoneJoins
from server.zone_state import ZoneState, ZoneView, zone_layout
from sim.arrays import I32, I64, U8, U32, AnyArray
from sim.world import World

__all__ = ["ZoneFeed"]


class ZoneFeed:
    """What every client of the zone knows, told to those who asked for it.

    Attributes:
        state: The state and what each client has of it.
        joins: Newcomers.
    """

    def __init__(self, world: World, transport: Transport, compressor: Compressor, *, clients: int) -> None:
        self.state = ZoneState(zone_layout(world.game), clients=clients)
        self.joins = ZoneJoins(self.state, transport, compressor)
        self._view = ZoneView(world, self.state)

    def hear(self, client: int, dictionaries: Sequence[int]) -> None:
        """A client said that it takes zone-wide state, and which dictionaries it has."""
        self.joins.ask(client, dictionaries)

    def leave(self, client: int) -> None:
        """Forget a client: as it comes, and as it goes."""
        self.joins.leave(client)

    def acknowledge(self, client: I32, sequence: I32, mask: U32) -> None:
        """Take the acknowledgements of a batch of commands, as `Replication.acknowledge` does."""
        self.state.acknowledge(client, sequence, mask)

    def take(self, tick: int) -> None:
        """Make the zone-wide columns of the world the state of a tick."""
        self._view.take()
        self.state.commit(tick)

    def write(self, tick: int, offset: I64, length: I64) -> U8:
        """Write the sections of a tick, for `Replication.encode` to put into snapshots.

        Args:
            tick: Of the last `take`.
            offset: Where each client's section begins in what is returned, shape (clients,), int64.
            length: Its bytes, 0: none.
        """
        arena, begin, size = self.state.sections(tick, self.state.told())
        np.copyto(offset, begin)
        np.copyto(length, size)
        return arena

    def settle(self, payload: U8, length: I32) -> None:
        """Take note which sections found no room, or no snapshot: they were not sent.

        Args:
            payload: The snapshots, a row per client, uint8.
            length: Their bytes, 0: none.
        """
        lengths = self.state.lengths
        # Of the others' payloads nothing is read: each stands in a line of memory of its own.
        given = np.flatnonzero(lengths)
        lengths[given[(length[given] == 0) | (payload[given, 1] & HAS_ZONE == 0)]] = 0

    def sent(self, client: I32, sequence: AnyArray, now_ns: int) -> None:
        """Remember what snapshots carry, and offer blocks to newcomers.

        Args:
            client: Those who are sent a snapshot in this tick, int32.
            sequence: Of that snapshot.
            now_ns: Monotonic time.
        """
        self.state.note(client, sequence)
        self.joins.advance(now_ns)
