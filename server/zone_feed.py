"""Zone-wide state as a frame drives it: from the columns of the world into snapshots and join blocks.

A tick, in this order: `acknowledge` and `hear` as clients speak, `leave` as they come and go, `take` after the step,
`reserve` before snapshots are written, `attach` after, `sent` before packets are made.
"""

from collections.abc import Sequence

import numpy as np

from net.compression import Compressor
from net.endpoint_kernels import PLAIN_BYTES_MAX
from server.replication_kernels import BUDGET_MIN
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
        self._told: I32 = np.zeros(0, np.int32)

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

    def reserve(self, tick: int, budget: I64) -> None:
        """Write the sections of a tick, and keep room for them in snapshots.

        Args:
            tick: Of the last `take`.
            budget: Bytes of each client's snapshot, shape (clients,), int64; 0: none. Lowered where there is a section.
        """
        self._told = self.state.told()
        _, _, length = self.state.sections(tick, self._told)
        room = np.maximum(budget - length - 1, BUDGET_MIN)
        np.copyto(budget, room, where=(length > 0) & (budget > 0))

    def attach(self, payload: U8, length: I32) -> None:
        """Put the sections behind the snapshots that were written.

        Args:
            payload: The snapshots, a row per client, uint8.
            length: Their bytes; grows by what is attached.
        """
        self.state.attach(self._told, payload, length, most=PLAIN_BYTES_MAX)

    def sent(self, client: I32, sequence: AnyArray, now_ns: int) -> None:
        """Remember what snapshots carry, and offer blocks to newcomers.

        Args:
            client: Those who are sent a snapshot in this tick, int32.
            sequence: Of that snapshot.
            now_ns: Monotonic time.
        """
        self.state.note(client, sequence)
        self.joins.advance(now_ns)
