"""What a view is judged to be is what a plain reading of the rules gives, whatever a client's clock does."""

import random

import numpy as np
import pytest

from net.inputs import InputQueues
from net.moments import EXTRAPOLATION_NS_MAX, FIRST_DELAY_NS, LAG_GAIN_NS, NO_VIEW, VIEW_STEPS
from net.moments_kernels import (
    BOUND,
    CLAIMED,
    ESTIMATE,
    FINE,
    FUTURE,
    GIVEN,
    JUMP,
    LAG,
    OTHER,
    PAST,
    RECENT,
    VIEWS,
    judge_view,
    note_need,
)
from sim.arrays import F64, I32
from sim.commands import Commands
from tests.net.play import TICK_HZ, TICK_NS, batch
from tests.reference.inputs import Fields, encode_command
from tests.reference.moments import ViewTwin

NAMES = {FINE: "", FUTURE: "future", PAST: "past", JUMP: "jump"}
OPTIONS = (
    FIRST_DELAY_NS / TICK_NS, LAG_GAIN_NS / TICK_NS, EXTRAPOLATION_NS_MAX / TICK_NS, 12.0,
)  # fmt: skip
COMMANDS = 900
EVERY = 2
RUN: Fields = (8, 120, -127, 40_000, -300, 2)
ROWS: I32 = np.zeros(1, np.int32)


class Liar:
    """A client whose clock, network and honesty are drawn from a seed; commands come one a tick or not at all."""

    def __init__(self, seed: int) -> None:
        self.dice = dice = random.Random(seed)
        self.trip = dice.uniform(0.5, 14.0)
        self.jitter = dice.choice((0.0, 0.5, 3.0))
        self.speed = dice.choice((1.0, 1.0, 0.97, 1.03, 0.5, 2.0))
        self.lie = dice.choice((0.0, 0.02, 0.2, 1.0))
        self.lead = dice.uniform(0.0, 4.0)
        self.clock = 0.0  # ahead of where it should be [ticks]
        self.lag = self.trip + 2.0 * EVERY

    def move(self) -> None:
        """Let a tick pass on the client's clock; now and then it jumps."""
        self.clock += self.speed - 1.0
        if self.dice.random() < 0.004:
            self.clock += self.dice.choice((-30.0, -7.0, -2.5, 2.5, 7.0, 30.0))
        if abs(self.clock) > 40.0:
            self.clock = 0.0  # it finds its place again

    def view(self, lead: float) -> int:
        """What it claims."""
        if self.dice.random() < self.lie:
            return self.dice.choice((0, 1, 255, 256, 3000, 65_533, 65_534, NO_VIEW, self.dice.randrange(65_536)))
        age = lead + self.lag + 0.3 * self.clock + self.dice.uniform(0.0, 1.0)
        return min(max(int(age * VIEW_STEPS), 0), NO_VIEW - 1)


def compare(views: F64, twin: ViewTwin) -> None:
    claim, estimate, bound, given = twin.seen
    assert views[CLAIMED, 0] == (-1.0 if claim is None else claim)
    assert (views[ESTIMATE, 0], views[BOUND, 0], views[GIVEN, 0]) == (estimate, bound, given)
    assert views[LAG, 0] == (twin.lag or 0.0)
    assert views[RECENT, 0] == (-1.0 if twin.recent is None else twin.recent)
    assert views[OTHER, 0] == (-1.0 if twin.stranger is None else twin.stranger)


@pytest.mark.parametrize("seed", range(60))
def test_every_verdict_and_every_age_is_the_twins(seed: int) -> None:
    client, twin = Liar(seed), ViewTwin(*OPTIONS)
    dice = client.dice
    views = np.zeros((VIEWS, 1))
    views[RECENT], views[OTHER] = -1.0, -1.0
    acked, mean, told = -1, client.lead, set()
    for tick in range(1000, 1000 + COMMANDS):
        client.move()
        if dice.random() < 0.1:
            continue  # lost
        lead = client.lead + client.clock + dice.uniform(-client.jitter, client.jitter)
        mean += 0.125 * (lead - mean)
        newest = max(tick + int(np.floor(lead)), tick)
        snapshot = int(tick - client.trip - dice.uniform(0.0, client.jitter)) // EVERY * EVERY
        if snapshot > acked and dice.random() < 0.9:
            before = acked if acked >= 0 else snapshot
            need, passed = tick - lead - 1.0 - before, float(snapshot - before)
            trip = client.trip + 4.0 * client.jitter
            note_need(0, need, passed, trip, float(EVERY), OPTIONS, views)
            twin.acknowledged(need, passed, trip, float(EVERY))
            acked = snapshot
        view = client.view(lead)
        age, verdict = judge_view(0, newest, view, lead, mean, acked, OPTIONS, views)
        assert (age, NAMES[verdict]) == twin.judged(newest, view, lead, mean, acked), (seed, tick)
        compare(views, twin)
        told.add(verdict)
    assert FINE in told


def test_the_seeds_find_every_verdict_and_every_way_to_it() -> None:
    found: dict[str, int] = dict.fromkeys(("", "future", "past", "jump", "settled", "capped", "silent"), 0)
    for seed in range(60):
        client, twin = Liar(seed), ViewTwin(*OPTIONS)
        acked = -1
        for tick in range(1000, 1000 + COMMANDS):
            client.move()
            lead = client.lead + client.clock
            snapshot = int(tick - client.trip) // EVERY * EVERY
            if snapshot > acked:
                before = acked if acked >= 0 else snapshot
                twin.acknowledged(tick - lead - 1.0 - before, float(snapshot - before), client.trip, float(EVERY))
                acked = snapshot
            before_times, view = twin.stranger_times, client.view(lead)
            age, wrong = twin.judged(max(tick + int(np.floor(lead)), tick), view, lead, client.lead, acked)
            found[wrong] += 1
            found["silent"] += view == NO_VIEW
            found["settled"] += before_times == 14 and twin.stranger is None and not wrong
            found["capped"] += age > OPTIONS[3] * VIEW_STEPS
    assert min(found.values()) > 0, found


def rewinds_from(tick: int, seed: int) -> list[tuple[int, float, float]]:
    """Play a client against whole queues from some tick on: rewind, claim and age given of each tick."""
    client = Liar(seed)
    queues, commands = InputQueues(1, tick_hz=TICK_HZ, max_rewind_ms=200), Commands(1)
    queues.reset(ROWS, tick=tick)
    found, since, trip = [], tick, int(client.trip) + 1
    for now_tick in range(tick + 1, tick + 500):
        client.move()
        lead = int(np.floor(client.lead + client.clock))
        newest = max(now_tick + lead, since)
        at = ((now_tick - since - trip) // EVERY * EVERY + since) // EVERY
        ack = (at & 0xFFFF, 0xFFFF_FFFF) if now_tick - since > trip + 2 * EVERY else None
        command = encode_command(newest, [RUN] * 3, ack, view=client.view(float(lead)))
        now = (now_tick - since + 10) * TICK_NS
        if client.dice.random() < 0.9:
            queues.receive(batch([(0, command)]), tick=now_tick, early_ns=0, now_ns=now)
        queues.take(now_tick, ROWS, commands)
        found.append((int(commands.rewind[0]), float(queues.view_claimed[0]), float(queues.view_given[0])))
        if now_tick % EVERY == 0:
            queues.note_sent(ROWS, np.array([now_tick // EVERY & 0xFFFF], np.uint16), 1, now, tick=now_tick)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_nothing_changes_where_sequences_wrap_or_ticks_are_large(seed: int) -> None:
    plain = rewinds_from(1000, seed)
    assert len({given for _, _, given in plain}) > 20
    for tick in (2 * 65_536 - 250, 2 * 3 * 65_536 - 100, (1 << 31) - 250 + 2, (1 << 32) - 1000):
        assert rewinds_from(tick, seed) == plain, tick
