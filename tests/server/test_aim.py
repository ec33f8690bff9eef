"""Whose aim stands out is flagged for review, by what gives it away; nobody honest is, and no lucky streak."""

from dataclasses import replace

import numpy as np
import pytest

from server.aim import AGAIN_S, HOLD, LANES, MEASURES, PLAYERS_MIN, SCORE_MIN, AimMonitor, Flag, Measure, robust_scores
from server.aim_kernels import FOLLOWS, REACTION, SNAP, TRIGGER
from sim.arrays import I32
from sim.commands import Commands, Join
from sim.games.arena.rules import ArenaRules
from sim.world import World
from tests.server.aimers import Aimers, Style
from tests.sim.arena import arena_world

PEOPLE = 14
QUICK = ArenaRules(spawn_health=60.0, respawn_s=0.4)  # short fights, so that there are many


class Watched:
    """A match and its monitor, which looks every second."""

    def __init__(self, styles: list[Style], *, seed: int) -> None:
        self.world = arena_world(seed=seed, rules=QUICK)
        self.players = Aimers(self.world, styles, seed=seed)
        self.monitor = AimMonitor(self.world, evaluate_s=1.0)
        self.clients: I32 = np.arange(self.world.players.capacity, dtype=np.int32)
        self.flags: list[Flag] = []
        self.players.watch = self.watch  # type: ignore[method-assign]  # it is there to be replaced

    def watch(self) -> None:
        self.monitor.take(self.world.tick, self.clients)
        self.flags += self.monitor.take_flags()

    def flagged(self) -> dict[int, set[Measure]]:
        found: dict[int, set[Measure]] = {}
        for flag in self.flags:
            found.setdefault(flag.client, set()).add(flag.measure)
        return found


def test_each_cheater_is_flagged_by_what_gives_it_away_and_nobody_honest_is() -> None:
    cheats = [Style.AIMBOT, Style.TRIGGER, Style.TRACKER]
    match = Watched([Style.HONEST] * PEOPLE + cheats, seed=1)
    ways = {
        PEOPLE: {Measure.HEADSHOTS, Measure.REACTION, Measure.SNAP},
        PEOPLE + 1: {Measure.TRIGGER},
        PEOPLE + 2: {Measure.FOLLOWS},
    }
    for _ in range(20):
        match.players.play(300)
        found = match.flagged()
        if all(found.get(cheater, set()) & measures for cheater, measures in ways.items()):
            break
    assert set(found) == set(ways)
    for cheater, measures in ways.items():
        assert found[cheater] & measures
    for flag in match.flags:
        assert flag.score > SCORE_MIN
        assert flag.samples >= MEASURES[flag.measure].samples
        assert flag.entity == match.world.players.id_of(flag.client)
    assert sum(match.monitor.report().values()) == len(match.flags) == len(match.monitor.flags)


@pytest.mark.parametrize("seed", [2, 3, 4, 5, 6])
def test_among_honest_players_nobody_is_flagged(seed: int) -> None:
    match = Watched([Style.HONEST] * PEOPLE, seed=seed)
    match.players.play(1500)
    assert match.flags == []
    assert np.nanmax(match.monitor.figures(Measure.FOLLOWS)[0]) < 0.05


def test_scores_are_distances_from_the_median_that_outliers_do_not_move() -> None:
    plain = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])
    none = np.zeros(7)
    scores = robust_scores(plain, none, spread_min=1e-9)
    assert scores == pytest.approx(0.6745 * (plain - 4.0) / 2.0, rel=1e-3)
    far = robust_scores(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e6]), none, spread_min=1e-9)
    assert far[:6] == pytest.approx(scores[:6])
    equal = robust_scores(np.array([2.0] * 9 + [5.0]), np.zeros(10), spread_min=1e-9)
    assert equal[9] == pytest.approx(3.0 / (1.2533 * 0.3))
    assert robust_scores(np.full(5, 2.0), np.zeros(5), spread_min=0.1).tolist() == [0.0] * 5
    unsure = robust_scores(plain, np.full(7, 100.0), spread_min=1e-9)
    assert np.abs(unsure).max() < 0.1


class Made:
    """A monitor over players whose figures are written in by hand."""

    def __init__(self, players: int = 12) -> None:
        self.world: World = arena_world()
        commands = Commands(self.world.players.capacity)
        for number in range(players):
            commands.add(Join(number, str(number), 1))
        self.world.step(commands)
        self.monitor = AimMonitor(self.world)
        self.players, self.tick = players, 0
        self.clients: I32 = np.arange(self.world.players.capacity, dtype=np.int32)
        last, self.hits, self.samples, self.taken, self.shares = self.monitor._state
        last[:players, 0] = self.world.players.ids[:players].astype(np.int64)

    def headshots(self, row: int, heads: int, hits: int, weapon: int = 1) -> None:
        self.hits[row, weapon] = (hits, heads)

    def evaluate(self, times: int = 1, *, news: bool = True) -> list[Flag]:
        for _ in range(times):
            self.tick += 300
            for lane in range(LANES):
                self.monitor._compare(self.tick, lane, self.clients)
            if news:
                self.hits[: self.players, 1] *= 2
                self.taken += 1
                self.shares *= 2
        return self.monitor.take_flags()

    def usual(self) -> None:
        for row in range(self.players):
            self.headshots(row, 8 + row % 3, 50)


def test_a_share_of_heads_that_stays_extraordinary_is_flagged_once_a_minute() -> None:
    made = Made()
    made.usual()
    made.headshots(3, 40, 50)
    assert made.evaluate(HOLD - 1) == []
    (flag,) = made.evaluate()
    assert (flag.client, flag.measure, flag.weapon, flag.players) == (3, Measure.HEADSHOTS, 1, 12)
    assert flag.value == pytest.approx(0.8)
    assert flag.usual == pytest.approx(0.18, abs=0.02)
    note = flag.note()
    assert (note["measure"], note["entity"], note["samples"]) == ("headshots", flag.entity, flag.samples)
    assert made.evaluate(AGAIN_S // 5 - 1) == []
    assert len(made.evaluate(2)) == 1
    assert made.monitor.counts[Measure.HEADSHOTS] == 2


@pytest.mark.parametrize("case", ["few hits", "passes", "nothing new", "few players", "within the usual", "gone"])
def test_what_is_no_reason_for_a_flag(case: str) -> None:
    made = Made(PLAYERS_MIN - 1 if case == "few players" else 12)
    made.usual()
    made.headshots(3, 40, 50)
    if case == "few hits":
        made.headshots(3, 20, 20)
        for _ in range(6):
            assert made.evaluate(news=False) == []
    elif case == "passes":
        assert made.evaluate(HOLD - 1) == []
        made.headshots(3, 9, 200)
        assert made.evaluate(HOLD) == []
    elif case == "nothing new":
        assert made.evaluate(10, news=False) == []
    elif case == "within the usual":
        made.headshots(3, 25, 50)
        for row in range(12):
            made.headshots(row, 8 + 2 * row, 50)
        assert made.evaluate(5) == []
    elif case == "gone":
        made.world.players.free_many(np.array([3], np.int32))
        assert made.evaluate(5) == []
    else:
        assert made.evaluate(5) == []


def test_each_measure_flags_on_its_own_side_alone() -> None:
    made = Made()
    random = np.random.default_rng(5)
    made.samples[:12, REACTION] = random.normal(320.0, 40.0, (12, made.samples.shape[2]))
    made.samples[:12, SNAP] = random.normal(3.0, 0.5, (12, made.samples.shape[2]))
    made.taken[:12] = 100
    made.shares[:12, TRIGGER] = (50, 5)
    made.shares[:12, FOLLOWS] = (1000, 2)
    made.samples[0, REACTION], made.samples[1, REACTION] = 20.0, 2000.0
    made.samples[2, SNAP], made.samples[3, SNAP] = 40.0, 0.0
    made.shares[4, TRIGGER], made.shares[5, TRIGGER] = (50, 45), (50, 0)
    made.shares[6, FOLLOWS], made.shares[7, FOLLOWS] = (1000, 200), (1000, 0)
    found = {(flag.client, flag.measure) for flag in made.evaluate(HOLD)}
    assert found == {
        (0, Measure.REACTION), (2, Measure.SNAP), (4, Measure.TRIGGER), (6, Measure.FOLLOWS),
    }  # fmt: skip


def test_a_world_that_keeps_no_poses_is_not_watched() -> None:
    world = arena_world()
    world.memories.clear()
    monitor = AimMonitor(world)
    assert not monitor.active
    monitor.take(300, np.zeros(world.players.capacity, np.int32))
    assert monitor.take_flags() == []


def test_a_gate_says_how_much_it_takes() -> None:
    assert set(MEASURES) == set(Measure)
    for gate in MEASURES.values():
        assert gate.samples >= 12
        assert gate.spread > 0.0
        assert replace(gate) == gate
