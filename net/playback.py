"""Playback: which moment of the world each client shows, so that others move smoothly however their snapshots come.

The others are shown a little in the past, between two snapshots (Bernier 2001, "Latency Compensating Methods"). How
far: as little as the path allows, measured from when snapshots come (`net.playback_kernels`). It grows within a few
snapshots and shrinks over tens of seconds; the moment never jumps for it, but time runs up to `STRETCH` faster or
slower, which nobody sees (slower still where nothing but dead reckoning is left to be shown, or where the server itself
is slow). Only an error beyond `JUMP_NS`, as after a pause, is made good at once.

The server judges shots by what was shown, but at most `max_rewind_ms` before the tick of the input. So nothing older is
shown: beyond that, what is shown is later than the path allows, and dead reckoned for so long (`cap_ticks`).

Where snapshots fail to come nevertheless, what is shown is dead reckoned, first order as in IEEE 1278.1, for at most
`limit_ticks`: give it to `net.replica.ReplicaGroup.view` with the moment. Then everything stands.
"""

import numpy as np

from net.errors import NetError
from net.moments import EXTRAPOLATION_NS_MAX, FIRST_DELAY_NS, LAG_GAIN_NS
from net.playback_kernels import (
    CAPPED,
    EXTRAPOLATED,
    FRAMES,
    JITTER,
    JUMPS,
    LAG,
    NEWEST,
    NUMBERS,
    PATH,
    RATES,
    SHOWN,
    follow_snapshots,
)
from sim.arrays import F64, I64

__all__ = ["DELAY_NS_MAX", "JUMP_NS", "STRETCH", "UNCAPPED", "Playback"]

DELAY_NS_MAX = 500_000_000  # behind the mean arrival; what needs more is extrapolated
JUMP_NS = 250_000_000
STRETCH = 0.04  # of the tick rate
UNCAPPED = 1e9  # ticks: no cap


class Playback:
    """The moments that N clients show. Nothing is allocated after construction.

    Attributes:
        moment: What is shown, in ticks of the server, for `ReplicaGroup.view`; float64 (clients,). Never goes back
            but in a jump. Commands say how far before their tick it is, and shots are judged by it.
        cap_ticks: How far before a client's input it may be at most [ticks], `UNCAPPED` until the server has said;
            float64 (clients,), may be written.
        capped: Frames that showed a later moment for that than the path would need, int64 (clients,).
        limit_ticks: Longest extrapolation [ticks].
        frames: Frames shown since the first snapshot, int64 (clients,).
        extrapolated: Of these, showing a moment later than the newest snapshot, int64 (clients,).
        jumps: Errors too large for stretching time, int64 (clients,).
    """

    def __init__(self, clients: int, *, tick_hz: int) -> None:
        """Makes room for `clients` clients.

        Raises:
            NetError: A number is not positive.
        """
        if clients < 1 or tick_hz < 1:
            raise NetError(f"playback: {clients} clients, {tick_hz} Hz: each must be at least 1")
        self.clients, self.tick_ns = clients, 1e9 / tick_hz
        self.limit_ticks = EXTRAPOLATION_NS_MAX / self.tick_ns
        ticks = [value / self.tick_ns for value in (FIRST_DELAY_NS, LAG_GAIN_NS, JUMP_NS, DELAY_NS_MAX)]
        self._options = (ticks[0], ticks[1], ticks[2], ticks[3], STRETCH)
        self._numbers: I64 = np.zeros((NUMBERS, clients), np.int64)
        self._numbers[NEWEST] = -1
        self._rates: F64 = np.zeros((RATES, clients))
        self.moment: F64 = self._rates[SHOWN]
        self.cap_ticks: F64 = np.full(clients, UNCAPPED)
        self._no_clock: F64 = np.full(clients, -UNCAPPED)
        self.frames: I64 = self._numbers[FRAMES]
        self.extrapolated: I64 = self._numbers[EXTRAPOLATED]
        self.jumps: I64 = self._numbers[JUMPS]
        self.capped: I64 = self._numbers[CAPPED]
        self._began_ns = self._now_ns = -1

    def follow(self, snapshot_tick: I64, now_ns: int, clock: F64 | None = None) -> None:
        """Move on to the present; once per frame, after its snapshots were received.

        Args:
            snapshot_tick: Tick of each client's newest snapshot, −1 before the first; int64 (clients,), C-contiguous.
            now_ns: The present, monotonic. A call at the same time again does nothing.
            clock: Each client's clock: at tick N it makes the input of N; float64 (clients,). None: no cap.

        Raises:
            NetError: There is not one tick per client.
        """
        if snapshot_tick.shape != (self.clients,):
            raise NetError(f"playback: {snapshot_tick.shape} ticks for {self.clients} clients")
        if self._began_ns < 0:
            self._began_ns = self._now_ns = now_ns
        elif now_ns <= self._now_ns:
            return
        time, elapsed = (now_ns - self._began_ns) / self.tick_ns, (now_ns - self._now_ns) / self.tick_ns
        self._now_ns = now_ns
        caps = (self._no_clock if clock is None else clock, self.cap_ticks)
        follow_snapshots(time, elapsed, self._options, snapshot_tick, caps, self._numbers, self._rates)

    def delay_ns(self) -> F64:
        """How far behind the mean arrival of snapshots each client shows the world [ns]; new, float64 (clients,)."""
        time = (self._now_ns - self._began_ns) / self.tick_ns
        delay: F64 = (time - self._rates[PATH] - self.moment) * self.tick_ns
        return delay

    def wanted_delay_ns(self) -> F64:
        """What `delay_ns` is on its way to, at up to `STRETCH` of the passing time; new, float64 (clients,)."""
        delay: F64 = (self._rates[LAG] - self._rates[PATH]) * self.tick_ns
        return delay

    def jitter_ns(self) -> F64:
        """Standard deviation of how long snapshots take, as a frame sees it [ns]; new, float64 (clients,)."""
        jitter: F64 = np.sqrt(self._rates[JITTER]) * self.tick_ns
        return jitter

    def statistics(self) -> dict[str, float]:
        """Means over the clients that have had a snapshot, and totals, for bots' reports."""
        shown = self._numbers[NEWEST] >= 0
        totals = {
            "frames_shown": float(self.frames.sum()),
            "frames_extrapolated": float(self.extrapolated.sum()),
            "frames_capped": float(self.capped.sum()),
            "playback_jumps": float(self.jumps.sum()),
        }
        if not shown.any():
            return totals
        return totals | {
            "playback_delay_ms": float(self.delay_ns()[shown].mean()) / 1e6,
            "playback_jitter_ms": float(self.jitter_ns()[shown].mean()) / 1e6,
        }
