"""Percentiles of tick and stage times over the last second, as the live feed carries them."""

import numpy as np

from server.livefeed import STAGE
from sim.arrays import AnyArray

__all__ = ["TimingWindow"]


class TimingWindow:
    """Keeps the stage times of the last `ticks` ticks and sums them up as p50 and p99.

    Args:
        stage_count: Stages per tick, at most STAGES_MAX.
        ticks: Length of the window; a second's worth is usual.
    """

    def __init__(self, stage_count: int, *, ticks: int) -> None:
        self._times = np.zeros((ticks, stage_count + 1), np.int64)
        self._count = 0
        self.stages: AnyArray = np.zeros(stage_count, STAGE)

    def record(self, stage_ns: AnyArray) -> None:
        """Take one tick's time per stage [ns]."""
        entry = self._times[self._count % len(self._times)]
        entry[:-1] = stage_ns
        entry[-1] = stage_ns.sum()
        self._count += 1
        self.stages["last_ns"] = stage_ns

    def summarise(self, metrics: AnyArray) -> None:
        """Work out the percentiles, into `stages` and `metrics`; some 50 µs, so once a second is enough."""
        filled = min(self._count, len(self._times))
        if filled == 0:
            return
        ordered = np.sort(self._times[:filled], axis=0)
        p50, p95, p99 = (ordered[min(filled - 1, filled * part // 100)] for part in (50, 95, 99))
        self.stages["p50_ns"] = p50[:-1]
        self.stages["p99_ns"] = p99[:-1]
        metrics["tick_p50_ns"], metrics["tick_p95_ns"], metrics["tick_p99_ns"] = p50[-1], p95[-1], p99[-1]
