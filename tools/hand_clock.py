"""A clock for `server.app.Server` that is moved by hand, for whoever plays a server and clients in one process."""

import time

__all__ = ["HandClock"]

HALF_AN_HOUR_NS = 1_800_000_000_000


class HandClock:
    """Time stands still until it is moved.

    Attributes:
        now: The present [ns]; write it.
    """

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now = now_ns

    def now_ns(self) -> int:
        """The present."""
        return self.now

    def unix_ns(self) -> int:
        """Half an hour ahead: tokens are made by the machine's clock, which runs on while this one stands."""
        return time.time_ns() + HALF_AN_HOUR_NS

    def sleep_until(self, moment_ns: int) -> None:
        """Jump there."""
        self.now = max(self.now, moment_ns)
