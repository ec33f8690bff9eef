"""Naive twin of `net.moments_kernels` for one client: what the top of that file says, step by step, in plain words."""

from dataclasses import dataclass, field
from fractions import Fraction

NOTHING_SHOWN = 65535
QUANTILE = 0.98
SETTLED_AFTER = 64  # snapshots
PATIENCE = 15  # claims


@dataclass
class ViewTwin:
    """What a server knows of one client's view, in ticks.

    Attributes:
        first_delay, gain, extrapolation, cap: The options of `net.moments_kernels.note_need`.
        lag: None before the first acknowledgement.
        recent: The client's recent age, None for none.
        stranger: Another age that it claims now, and how often in a row.
        last_claim: Newest input tick of a claim.
        seen: What the last command came to: claim, estimate, bound, age given.
    """

    first_delay: float
    gain: float
    extrapolation: float
    cap: float
    lag: float | None = None
    heard: int = 0
    short_in_a_row: int = 0
    recent: float | None = None
    stranger: float | None = None
    stranger_times: int = 0
    last_claim: float = 0.0
    seen: tuple[float | None, float, float, float] = field(default=(None, 0.0, 0.0, 0.0))

    def acknowledged(self, need: float, passed: float, trip: float, interval: float) -> None:
        """A newer snapshot is acknowledged."""
        most = trip + 3.0 * interval + 1.0
        need = most if need > most else need
        need = 0.0 if need < 0.0 else need
        if self.lag is None:
            self.lag = need + self.first_delay
            return
        gain = self.gain
        if self.heard < SETTLED_AFTER:
            self.heard += 1
            gain = gain * 8.0
        missing = need - self.lag
        if missing > 0.0:
            self.short_in_a_row += 1
            step = QUANTILE * gain
            if self.short_in_a_row >= 2:
                step = step + 0.25 * missing
            self.lag = self.lag + step
        else:
            self.short_in_a_row = 0
            snapshots = passed / interval if passed > interval else 1.0
            self.lag = self.lag - (1.0 - QUANTILE) * gain * snapshots
            self.lag = max(self.lag, 1.0)

    def judged(self, newest: int, view: int, lead: float, mean_lead: float, acked: int) -> tuple[int, str]:
        """The age [1/256 tick] that a command is given, and what is wrong with its claim, "" for nothing."""
        claim = None if view == NOTHING_SHOWN else view / 256
        if acked < 0 or self.lag is None:
            self.seen = (claim, 0.0, 0.0, 0.0)
            return 0, ""
        bound = self._bound(lead, mean_lead)
        least = self._least(newest, lead, acked)
        estimate = lead + self.lag
        estimate = least if estimate < least else estimate
        estimate = bound if estimate > bound else estimate
        wrong, age = "", claim
        if claim is not None:
            elapsed = newest - self.last_claim
            if claim < least:
                wrong = "future"
            elif claim > bound:
                wrong = "past"
            elif not self._goes_on(claim, elapsed):
                wrong = "jump"
            if newest > self.last_claim:
                self.last_claim = float(newest)
        if age is None or wrong:
            known = self.recent
            age = known if known is not None and least <= known <= bound else estimate
        self.seen = (claim, estimate, bound, age)
        return min(int(Fraction(age) * 256), NOTHING_SHOWN - 1), wrong

    def _bound(self, lead: float, mean_lead: float) -> float:
        assert self.lag is not None
        delayed = mean_lead - lead
        delayed = 0.0 if delayed < 0.0 else 6.0 if delayed > 6.0 else delayed
        room = 2.5 if self.heard >= SETTLED_AFTER else 2.5 + self.first_delay
        bound = lead + delayed + self.lag + room
        return bound if bound > 0.0 else 0.0

    def _least(self, newest: int, lead: float, acked: int) -> float:
        """The age of the latest moment that it can know, or that the cap asks of it."""
        known, present = acked + self.extrapolation, newest - lead
        latest = (known if known < present else present) + 0.5
        latest = max(latest, newest - self.cap)
        return newest - latest if newest > latest else 0.0

    def _goes_on(self, claim: float, elapsed: float) -> bool:
        """Whether a claim goes on from the ones before, or has been held for long enough."""
        time = 0.0 if elapsed < 0.0 else 15.0 if elapsed > 15.0 else elapsed
        follow = 0.2 * time
        if self.recent is None or self.heard < SETTLED_AFTER:
            self.recent = claim
        elif abs(claim - self.recent) <= 2.0 + follow:
            change = claim - self.recent
            change = -follow if change < -follow else follow if change > follow else change
            self.recent = self.recent + change
        else:
            if self.stranger is None or abs(claim - self.stranger) > 2.0:
                self.stranger, self.stranger_times = claim, 0
            elif elapsed > 0.0:
                self.stranger_times += 1
            if self.stranger_times < PATIENCE:
                return False
            self.recent = claim
        self.stranger = None
        return True
