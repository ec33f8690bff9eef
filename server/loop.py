"""The fixed tick: drift-free, and never a spiral of death.

Tick n is due at `start + n / tick_hz`, worked out in whole nanoseconds from n, so that no error adds up. A tick that is
late is made at once, and up to `catch_up_max` ticks follow without a pause; if the schedule is still behind then, the
missing time is given up: the whole schedule moves by whole ticks, which are counted as `skipped`. Simulated time then
lags real time, which clients follow through the ticks in their snapshots; the world itself never skips a tick number.

The garbage collector is frozen after start and switched off; it runs only in the slack before a tick that has more
than `COLLECT_SLACK_NS` of it, young objects every second or so, everything rarely.
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Clock", "LoopStats", "SystemClock", "TickLoop"]

NS = 1_000_000_000
COLLECT_SLACK_NS = 4_000_000
COLLECT_EVERY_NS = NS
COLLECT_ALL_EVERY = 60  # young collections


class Clock(Protocol):
    """Where the loop takes the time from, and how it waits."""

    def now_ns(self) -> int:
        """Monotonic time [ns]."""

    def unix_ns(self) -> int:
        """Time of day [ns since 1970]."""

    def sleep_until(self, moment_ns: int) -> None:
        """Return at a monotonic time, or a little later."""


class SystemClock:
    """The machine's clocks: the only place where the server reads them."""

    def now_ns(self) -> int:
        """Monotonic time [ns]."""
        return time.monotonic_ns()

    def unix_ns(self) -> int:
        """Time of day [ns since 1970]."""
        return time.time_ns()

    def sleep_until(self, moment_ns: int) -> None:
        """Return at a monotonic time, or a little later."""
        left = moment_ns - time.monotonic_ns()
        if left > 0:
            time.sleep(left / NS)


@dataclass(slots=True)
class LoopStats:
    """Totals since the loop began.

    Attributes:
        ticks: Ticks made.
        overruns: Ticks that began later than one tick length after they were due.
        skipped: Ticks' worth of time given up.
        late_ns_max: Latest start of a tick [ns] since it was last read and cleared.
    """

    ticks: int = 0
    overruns: int = 0
    skipped: int = 0
    late_ns_max: int = 0


class TickLoop:
    """Calls `tick(now_ns)` at a fixed rate until told to stop."""

    def __init__(self, tick: Callable[[int], None], *, tick_hz: int, catch_up_max: int, clock: Clock) -> None:
        self._tick = tick
        self._hz = tick_hz
        self._catch_up_max = catch_up_max
        self._clock = clock
        self._start_ns = 0
        self._due = 0
        self._stopping = False
        self._collected_ns = 0
        self._collections = 0
        self.stats = LoopStats()

    def due_ns(self, number: int) -> int:
        """When tick `number` of the present schedule is due, monotonic [ns]."""
        return self._start_ns + number * NS // self._hz

    def stop(self) -> None:
        """End the loop after the tick that is being made; may be called from a signal handler."""
        self._stopping = True

    def run(self, *, ticks: int | None = None) -> None:
        """Make ticks until `stop`, or until `ticks` have been made."""
        gc.collect()
        gc.freeze()
        gc.disable()
        # Only now: what is collected after a start takes a tenth of a second, and the first ticks would be late.
        self._start_ns = self._collected_ns = self._clock.now_ns()
        self._due = 0
        try:
            while not self._stopping and (ticks is None or self.stats.ticks < ticks):
                self._one()
        finally:
            gc.enable()
            gc.unfreeze()

    def _one(self) -> None:
        due = self.due_ns(self._due)
        self._collect(due)
        self._clock.sleep_until(due)
        now = self._clock.now_ns()
        late = now - due
        length = NS // self._hz
        if late > length:
            self.stats.overruns += 1
            behind = late // length
            if behind > self._catch_up_max:
                self.stats.skipped += behind - self._catch_up_max
                self._start_ns += (behind - self._catch_up_max) * NS // self._hz
        self.stats.late_ns_max = max(self.stats.late_ns_max, late)
        self._tick(now)
        self.stats.ticks += 1
        self._due += 1
        if self._due == self._hz:
            # A whole second has passed: begin the count again, so that numbers stay small.
            self._start_ns += NS
            self._due = 0

    def _collect(self, due_ns: int) -> None:
        """Collect garbage where there is time before the next tick."""
        now = self._clock.now_ns()
        if due_ns - now < COLLECT_SLACK_NS or now - self._collected_ns < COLLECT_EVERY_NS:
            return
        self._collections += 1
        gc.collect(1 if self._collections % COLLECT_ALL_EVERY else 2)
        self._collected_ns = now
