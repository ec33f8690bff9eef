"""The schedule: drift-free, bounded catch-up, counted."""

import gc
from itertools import pairwise

import pytest

from server.loop import TickLoop

MS = 1_000_000


class FakeClock:
    """Virtual time that advances only by sleeping and by the work of ticks."""

    def __init__(self) -> None:
        self.now = 5_000_000_000

    def now_ns(self) -> int:
        return self.now

    def unix_ns(self) -> int:
        return self.now

    def sleep_until(self, moment_ns: int) -> None:
        self.now = max(self.now, moment_ns)


def run(tick_hz: int, work_ns: dict[int, int], *, ticks: int, catch_up_max: int = 4) -> tuple[TickLoop, list[int]]:
    clock = FakeClock()
    starts: list[int] = []

    def tick(now_ns: int) -> None:
        starts.append(now_ns - 5_000_000_000)
        clock.now += work_ns.get(len(starts) - 1, MS)

    loop = TickLoop(tick, tick_hz=tick_hz, catch_up_max=catch_up_max, clock=clock)
    loop.run(ticks=ticks)
    return loop, starts


@pytest.mark.parametrize("tick_hz", [20, 60, 128])
def test_no_error_adds_up_over_an_hour(tick_hz: int) -> None:
    _, starts = run(tick_hz, {}, ticks=tick_hz * 3600 + 1)
    assert starts[-1] == 3600 * 1_000_000_000
    assert max(abs(start - n * 1_000_000_000 / tick_hz) for n, start in enumerate(starts)) < 1.0


def test_after_a_short_overrun_ticks_catch_up_without_a_pause() -> None:
    loop, starts = run(50, {3: 50 * MS}, ticks=10)
    assert starts == [n * 20 * MS for n in range(4)] + [110 * MS, 111 * MS] + [n * 20 * MS for n in range(6, 10)]
    assert (loop.stats.overruns, loop.stats.skipped) == (1, 0)


def test_after_a_long_stall_time_is_given_up_and_counted() -> None:
    loop, starts = run(50, {3: 1000 * MS}, ticks=13)
    assert loop.stats.skipped == 45
    assert loop.stats.ticks == 13
    # After at most catch_up_max ticks in a row the rhythm is back.
    assert [b - a for a, b in zip(starts[-4:], starts[-3:], strict=False)] == [20 * MS] * 3


def test_a_permanent_overload_neither_stops_nor_spirals() -> None:
    loop, starts = run(50, dict.fromkeys(range(200), 30 * MS), ticks=200)
    assert [b - a for a, b in pairwise(starts)] == [30 * MS] * 199
    assert loop.stats.ticks == 200
    # 200 ticks took 6 s; at 50 Hz 300 were due, of which about 100 were given up.
    assert 90 <= loop.stats.skipped <= 100


def test_collecting_garbage_before_the_first_tick_makes_none_late(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()

    def collect(_generation: int = 2) -> int:
        clock.now += 200 * MS
        return 0

    monkeypatch.setattr(gc, "collect", collect)
    loop = TickLoop(lambda _: None, tick_hz=60, catch_up_max=4, clock=clock)
    loop.run(ticks=3)
    assert (loop.stats.ticks, loop.stats.overruns, loop.stats.skipped) == (3, 0, 0)


def test_stopping_ends_after_the_present_tick_and_restores_the_collector() -> None:
    clock = FakeClock()
    made: list[int] = []

    def tick(now_ns: int) -> None:
        made.append(now_ns)
        assert not gc.isenabled()
        if len(made) == 3:
            loop.stop()

    loop = TickLoop(tick, tick_hz=60, catch_up_max=4, clock=clock)
    loop.run()
    assert len(made) == 3
    assert gc.isenabled()
