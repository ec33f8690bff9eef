"""Which moment a client saw: honest clients are taken at their word, and no word whatsoever goes beyond the bounds."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.inputs import InputCount, InputQueues
from net.moments import NO_VIEW, REWIND_MS_MAX, VIEW_STEPS, rewind_steps
from sim.arrays import F64, I32
from sim.commands import REWIND_STEPS, Commands
from tests.net.play import FRAME_S, TICK_HZ, TICK_NS, Match, Path, batch
from tests.reference.inputs import Fields, encode_command

ROWS: I32 = np.zeros(1, np.int32)
RUN: Fields = (8, 120, -127, 40_000, -300, 2)
FAULTS = (InputCount.VIEW_FUTURE, InputCount.VIEW_PAST, InputCount.VIEW_JUMP)
CAP_TICKS = 12.0  # 200 ms
EVERY = 2  # ticks between snapshots
TRIP, LEAD = 6, 3  # ticks of the scripted client
HONEST = LEAD + TRIP + 3.0  # its age: what comes late by a snapshot's time can still be shown


class Script:
    """One client whose commands come `LEAD` ticks early, with acknowledgements a round trip old, and views as told."""

    def __init__(self, *, max_rewind_ms: int = REWIND_MS_MAX, ack_every: int = 1, path_rtt: float = 0.0) -> None:
        self.queues = InputQueues(1, tick_hz=TICK_HZ, max_rewind_ms=max_rewind_ms)
        self.commands = Commands(1)
        self.tick, self.ack_every, self.trip = 1000, ack_every, TRIP
        self.path: F64 | None = np.full(1, path_rtt * TICK_NS) if path_rtt else None
        self.rewinds: list[float] = []
        self.acks = True

    def play(self, ticks: int, view: Callable[[int], float | None] = lambda _: HONEST) -> list[float]:
        """Make ticks; returns by how many ticks each was rewound. A view of None: the command has none."""
        begin = len(self.rewinds)
        for _ in range(ticks):
            self.tick += 1
            now = self.tick * TICK_NS
            newest = self.tick + LEAD
            age = view(newest)
            snapshot = (self.tick - self.trip - 1) // (EVERY * self.ack_every) * EVERY * self.ack_every
            ack = (snapshot // EVERY & 0xFFFF, 0) if self.acks else None
            steps = None if age is None else min(max(int(age * VIEW_STEPS), 0), NO_VIEW)
            command = encode_command(newest, [RUN] * 3, ack, view=steps)
            self.queues.receive(batch([(0, command)]), tick=self.tick, early_ns=0, now_ns=now, path_rtt_ns=self.path)
            self.queues.take(self.tick, ROWS, self.commands)
            self.rewinds.append(float(self.commands.rewind[0]) / REWIND_STEPS)
            if self.tick % EVERY == 0:
                sequence = np.array([self.tick // EVERY & 0xFFFF], np.uint16)
                self.queues.note_sent(ROWS, sequence, 1, now, tick=self.tick)
        return self.rewinds[begin:]

    def count(self, *reasons: InputCount) -> int:
        return sum(int(self.queues.counters[reason, 0]) for reason in reasons)


class Watched(Match):
    """A match that compares each rewind with what the client showed as it made that input."""

    def __init__(self, count: int, *, up: Path, down: Path, seed: int, max_rewind_ms: int) -> None:
        super().__init__(count, up=up, down=down, seed=seed)
        self.queues = InputQueues(count, tick_hz=TICK_HZ, max_rewind_ms=max_rewind_ms)
        self.clients.playback.cap_ticks[:] = max_rewind_ms * 1e6 / self.clients.tick_ns
        self.moments: dict[tuple[int, int], float] = {}
        self.off: list[float] = []
        self.ages: list[float] = []
        self.rewinds: list[float] = []
        self.speed, self.wrong_since = 1.0, self.now

    def client_now(self) -> int:
        return self.wrong_since + int((self.now - self.wrong_since) * self.speed)

    def forget(self) -> None:
        """Begin to watch anew."""
        for kept in (self.off, self.ages, self.rewinds):
            kept.clear()

    def _press(self) -> None:
        super()._press()
        for client in range(self.count):
            self.moments[client, int(self.clients.tick[client])] = float(self.clients.playback.moment[client])

    def _step(self) -> None:
        super()._step()
        for client in range(self.count):
            self.rewinds.append(float(self.commands.rewind[client]) / REWIND_STEPS)
            shown = self.moments.get((client, self.tick))
            if shown is not None and self.queues.input_tick[client] == self.tick:
                self.ages.append(self.tick - shown)
                self.off.append(self.commands.rewind[client] / REWIND_STEPS - (self.tick - shown))

    def faults(self) -> list[int]:
        return [int(self.queues.counters[reason].sum()) for reason in FAULTS]


@pytest.mark.parametrize("max_rewind_ms", [200, REWIND_MS_MAX])
@pytest.mark.parametrize(
    ("up", "down"),
    [
        (Path(), Path()),
        (Path(20, 3, 0.01), Path(20, 3, 0.01)),
        (Path(75, 20, 0.05), Path(75, 20, 0.05)),
        (Path(20), Path(150)),
        (Path(50, 5, 0.2), Path(50, 5, 0.2)),
        (Path(5, 30, 0.1), Path(5, 30, 0.1)),
    ],
)
def test_honest_clients_are_judged_by_what_they_saw(up: Path, down: Path, max_rewind_ms: int) -> None:
    match = Watched(3, up=up, down=down, seed=5, max_rewind_ms=max_rewind_ms)
    match.run(3.0)
    match.forget()
    match.run(5.0)
    off = np.abs(match.off)
    assert len(off) > 600
    # What came only as a copy, with the view of a later input, may be off by the fraction of a frame.
    assert np.quantile(off, 0.94) < 0.02 and off.mean() < 0.02 and off.max() < 1.1
    assert match.faults() == [0, 0, 0]
    assert match.queues.counters[InputCount.VIEW_CAPPED].sum() == 0
    assert max(match.ages) <= max_rewind_ms * TICK_HZ / 1000


def test_a_client_further_away_than_the_cap_shows_no_older_moment() -> None:
    match = Watched(1, up=Path(100), down=Path(100), seed=1, max_rewind_ms=200)
    match.run(6.0)
    assert np.allclose(match.ages[-100:], CAP_TICKS, atol=1.0) and max(match.ages) <= CAP_TICKS
    assert match.clients.playback.moment[0] > match.clients.snapshot_tick[0], "it is dead reckoned"


def test_who_says_nothing_is_judged_by_what_acknowledgements_show() -> None:
    script = Script()
    script.play(600, lambda _: None)
    assert script.rewinds[-1] == pytest.approx(HONEST, abs=1.5)
    assert script.queues.view_claimed[0] == -1.0
    script.play(300, lambda _: NO_VIEW / VIEW_STEPS)
    assert script.rewinds[-1] == pytest.approx(HONEST, abs=1.5)
    assert script.count(*FAULTS) == 0


def test_what_was_never_acknowledged_was_never_seen() -> None:
    script = Script()
    script.acks = False
    assert set(script.play(100)) == {0.0}
    assert script.count(*FAULTS) == 0


def test_a_moment_in_the_future_is_replaced_and_counted() -> None:
    script = Script()
    script.play(200)
    assert script.rewinds[-1] == pytest.approx(HONEST, abs=0.01)
    before = script.rewinds[-1]
    assert script.play(10, lambda _: 0.0)[LEAD:] == [pytest.approx(before, abs=0.1)] * (10 - LEAD)
    assert script.count(InputCount.VIEW_FUTURE) == 10 and script.count(*FAULTS) == 10
    assert (script.queues.view_claimed[0], script.queues.view_given[0]) == (0.0, pytest.approx(before, abs=0.1))


def test_a_moment_that_no_latency_explains_is_replaced_and_counted() -> None:
    script = Script()
    script.play(300)
    assert max(script.play(30, lambda _: 40.0)) == pytest.approx(HONEST, abs=0.1)
    assert script.count(InputCount.VIEW_PAST) == 30 and script.count(*FAULTS) == 30
    # From the first claim on as well.
    liar = Script()
    liar.play(300, lambda _: 40.0)
    assert max(liar.rewinds[150:]) <= HONEST + 2.0
    assert liar.count(InputCount.VIEW_PAST) > 250


def test_withheld_acknowledgements_gain_three_snapshots_at_most() -> None:
    honest, slow = Script(), Script(ack_every=8)
    for script in (honest, slow):
        script.play(1200, lambda _: None)
    assert slow.rewinds[-1] > honest.rewinds[-1] + 3.0
    limit = LEAD + (TRIP + 8 * EVERY) + 3 * EVERY + 1  # by its own acknowledgements the path is that much longer
    assert max(slow.rewinds[600:]) < limit
    measured = Script(ack_every=8, path_rtt=TRIP + 1.0)
    measured.play(6000, lambda _: None)
    # The time between snapshots is that of those sent, not of those acknowledged.
    assert max(measured.rewinds[-60:]) <= LEAD + (TRIP + 1.0) + 3 * EVERY + 1.0 + 0.3


def test_the_moment_cannot_be_chosen_by_the_shot() -> None:
    script = Script()
    script.play(300)
    # Within the bounds, later than the client's own recent moments, for one shot in ten.
    rewinds = script.play(300, lambda newest: HONEST - (5.0 if newest % 10 == 0 else 0.0))
    assert min(rewinds) > HONEST - 0.1 and script.count(InputCount.VIEW_JUMP) == 30
    rewinds = script.play(300, lambda newest: HONEST - (5.0 if newest % 10 < 5 else 0.0))
    assert min(rewinds) > HONEST - 0.1 and script.count(InputCount.VIEW_JUMP) == 30 + 150


def test_saying_nothing_now_and_then_is_no_choice_either() -> None:
    script = Script()
    script.play(300, lambda _: HONEST - 3.5)
    rewinds = script.play(100, lambda newest: None if newest % 10 == 0 else HONEST - 3.5)
    assert max(rewinds) < HONEST - 3.0


def test_a_jump_that_lasts_is_believed() -> None:
    script = Script()
    script.play(300)
    rewinds = script.play(60, lambda _: HONEST - 5.0)
    assert rewinds[:15] == [pytest.approx(HONEST, abs=0.1)] * 15
    assert rewinds[25:] == [pytest.approx(HONEST - 5.0, abs=0.01)] * 35
    assert 10 <= script.count(InputCount.VIEW_JUMP) <= 16


def test_stretched_time_is_no_jump() -> None:
    script = Script()
    script.play(300)
    script.play(100, lambda newest: HONEST - 0.04 * min(newest - script.tick + 96, 96) + (newest % 3) * 0.6)
    script.play(60, lambda newest: HONEST - 6.0 + 0.12 * (newest % 60))
    assert script.count(InputCount.VIEW_FUTURE, InputCount.VIEW_PAST) == 0


def test_the_cap_cuts_what_is_true_and_counts_it() -> None:
    script = Script(max_rewind_ms=100)
    script.play(300)
    assert set(script.rewinds[-100:]) == {6.0}
    assert script.count(InputCount.VIEW_CAPPED) > 280 and script.count(*FAULTS) == 0
    script.play(100, lambda _: 6.0)
    assert script.count(InputCount.VIEW_FUTURE) == 0, "as late as the cap demands is no fault"
    none = Script(max_rewind_ms=0)
    assert set(none.play(100)) == {0.0}


def test_missing_inputs_keep_the_age_and_a_new_client_has_none() -> None:
    script = Script()
    script.play(300)
    for tick in range(script.tick + LEAD + 1, script.tick + 20):
        script.queues.take(tick, ROWS, script.commands)
        assert script.commands.rewind[0] == HONEST * REWIND_STEPS
    script.queues.reset(ROWS, tick=400)
    script.queues.receive(batch([(0, encode_command(400, [RUN], view=900))]), tick=400, early_ns=0, now_ns=1)
    script.queues.take(400, ROWS, script.commands)
    assert script.commands.rewind[0] == 0


CLAIMS = st.none() | st.integers(0, NO_VIEW) | st.integers(0, 20 * VIEW_STEPS)
STEPS = st.lists(
    st.tuples(st.integers(-3, 70), st.none() | st.integers(-40, 3), CLAIMS, st.floats(0.0, 1.0), st.booleans()),
    min_size=1, max_size=120,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(0, REWIND_MS_MAX))
def test_no_claim_whatsoever_goes_beyond_the_cap_or_what_was_derived(
    steps: list[tuple[int, int | None, int | None, float, bool]], max_rewind_ms: int
) -> None:
    script = Script(max_rewind_ms=max_rewind_ms)
    queues = script.queues
    cap = rewind_steps(max_rewind_ms, TICK_HZ)
    tick = 1000
    bounds: dict[int, int] = {}
    for ahead, ack, view, early, step in steps:
        newest = max(0, tick + ahead)
        told = None if ack is None else (tick // 2 + ack & 0xFFFF, 0)
        command = encode_command(newest, [RUN], told, view=view)
        now = tick * TICK_NS - int(early * TICK_NS)
        queues.receive(batch([(0, command)]), tick=tick, early_ns=int(early * TICK_NS), now_ns=now)
        if tick <= newest <= tick + 60:
            assert 0.0 <= queues.view_given[0] <= queues.view_bound[0] + 1e-9
            bounds[newest] = max(bounds.get(newest, 0), int(queues.view_bound[0] * VIEW_STEPS))
        if step:
            queues.take(tick, ROWS, script.commands)
            assert script.commands.rewind[0] <= cap
            if queues.input_tick[0] == tick:
                assert script.commands.rewind[0] <= bounds[tick]
            queues.note_sent(ROWS, np.array([tick // 2 & 0xFFFF], np.uint16), 1, tick * TICK_NS, tick=tick)
            tick += 1


@pytest.mark.parametrize("speed", [0.5, 0.97, 1.03, 2.0])
def test_a_client_whose_clock_runs_wrong_is_still_bounded(speed: float) -> None:
    match = Watched(2, up=Path(30, 3), down=Path(30, 3), seed=3, max_rewind_ms=200)
    match.run(3.0)
    match.forget()
    match.frame_ns = round(TICK_NS / speed)  # its frames come at the wrong rate: so do its inputs
    match.speed, match.wrong_since = speed, match.now
    match.run(4.0)
    assert max(match.rewinds) <= CAP_TICKS
    if speed == 1.03:  # as much as a client corrects unseen
        assert match.faults() == [0, 0, 0] and np.quantile(np.abs(match.off), 0.95) < 0.02
    if speed == 2.0:
        assert match.faults()[0] > 10, "it shows moments that have not come yet"
        assert np.median(match.rewinds) > 3.0, "and is judged by what it could have seen"


@pytest.mark.parametrize("jump_ms", [-400, -120, 120, 400])
def test_a_clients_clock_that_jumps_is_judged_by_what_it_showed_before_and_soon_after(jump_ms: int) -> None:
    match = Watched(1, up=Path(30), down=Path(30), seed=3, max_rewind_ms=200)
    match.run(3.0)
    before = match.rewinds[-1]
    match.forget()
    match.clients._rates[0] += jump_ms * 1e6 / TICK_NS  # row CLOCK: its next inputs are for other ticks
    match.run(FRAME_S * 12)
    assert max(match.rewinds) <= CAP_TICKS
    assert np.abs(np.array(match.rewinds) - before).max() < 2.0 and np.abs(match.off).max() < 1.1
    match.run(3.0)
    match.forget()
    match.run(1.0)
    assert np.abs(match.off).max() < 0.02


def test_local_misuse_raises() -> None:
    with pytest.raises(NetError, match="max_rewind_ms is 1001; give it 0 to 1000"):
        InputQueues(1, tick_hz=60, max_rewind_ms=1001)
