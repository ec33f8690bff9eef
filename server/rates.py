"""How often each client gets a snapshot: as often as it asks, the server allows and its path carries.

The server's `snapshot_hz` is the most. A client may ask for less with the message `rate`; whatever it says is brought
into range, and counted. Below that the rate follows congestion control (`server.rates_kernels`): halved within a
second where snapshots are held back, down to a quarter, and doubled again after calm seconds, later after each failure.
"""

import numpy as np

from server.errors import ServerError
from server.rates_kernels import FACTOR, HALVED, NUMBERS, RESTORED, adapt_rates, start_rates
from sim.arrays import I32, I64

__all__ = ["SnapshotRates"]


class SnapshotRates:
    """The intervals of all clients' snapshots.

    Attributes:
        asked: Ticks per snapshot that each client may have at best, int64 (clients,).
        factor: How many times rarer they come at present, 1, 2 or 4; int64 (clients,).
        clamped: Rates asked for that were out of range, so far.
    """

    def __init__(self, clients: int, *, tick_hz: int, interval_ticks: int) -> None:
        """Gives every client the server's rate.

        Args:
            clients: How many.
            tick_hz: Ticks per second.
            interval_ticks: Ticks per snapshot, at least.

        Raises:
            ServerError: A number is not positive.
        """
        if clients < 1 or tick_hz < 1 or interval_ticks < 1:
            raise ServerError(f"rates: {clients} clients, {tick_hz} Hz, every {interval_ticks} ticks: at least 1 each")
        self._tick_hz, self._least = tick_hz, interval_ticks
        self._most = max(tick_hz, interval_ticks)
        self.asked: I64 = np.full(clients, interval_ticks, np.int64)
        self._numbers: I64 = np.zeros((NUMBERS, clients), np.int64)
        self._totals: I64 = np.zeros(2, np.int64)
        self.factor: I64 = self._numbers[FACTOR]
        self.clamped = 0
        self.reset(np.arange(clients, dtype=np.int32))

    def reset(self, clients: I32) -> None:
        """Make clients new, as they connect; int32."""
        self.asked[clients] = self._least
        start_rates(clients, self._numbers)

    def ask(self, client: int, per_second: int) -> None:
        """Let a client have at most so many snapshots a second; what is out of range is brought into it.

        Args:
            client: Who asks.
            per_second: 1 up to the server's rate. In between the next lower rate that is whole ticks apart.
        """
        most = self._tick_hz // self._least
        bounded = min(max(per_second, 1), max(most, 1))
        self.clamped += bounded != per_second
        self.asked[client] = min(max(-(-self._tick_hz // bounded), self._least), self._most)

    def adapt(self, tick: int, rows: I32, *, budget: I64, length: I32, interval: I64) -> None:
        """Set the intervals of the snapshots to come; once per tick, after `Replication.encode`.

        Args:
            tick: The tick just made.
            rows: Player row of each client, −1 for none, int32 (clients,).
            budget: `Replication.budget`; length: `Replication.length`.
            interval: `Replication.interval`, set.
        """
        adapt_rates(
            tick, self._tick_hz, self._most, rows, self.asked, budget, length, interval, self._numbers, self._totals
        )

    def counts(self) -> dict[str, int]:
        """So far: `rates_halved`, `rates_restored`, `rates_clamped`; and `rates_reduced`, who has less now."""
        return {
            "rates_halved": int(self._totals[HALVED]),
            "rates_restored": int(self._totals[RESTORED]),
            "rates_clamped": self.clamped,
            "rates_reduced": int(np.count_nonzero(self.factor > 1)),
        }
