"""Visibility on a real map: whole ticks for a thousand viewers, against rays between all pairs.

Walkers run about the map at full speed, along ways that players can go. Each is told of the 64 nearest others, and
decided for at every other tick, as for snapshots at half the tick rate: a row is the mean time of a tick, in which all
bodies are placed and half of the viewers refreshed. The reference asks one ray from each viewer's eye to the chest of
every other (all 999,000 pairs), with the same kernel as `rays`; a second one asks only the candidates of that tick.
Accuracy rows count, over candidates drawn from the whole map, what was not told of though a dense set of rays sees
some part of it 150 ms later, and how many pairs are hidden. Rows of the stage are of a match of 64 players told
through `server.sight`, judged by `tools.sight_oracle`. `data` may name a map file; without it OpenArena maps are
fetched.
"""

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from server.maps import load_geometry, load_map
from server.maps.visibility import load_visibility
from server.maps.walkways import load_navigation
from server.sight import sight_rules
from sim.arrays import F64, I32, U8, Bool
from sim.geometry import Geometry
from sim.navigation import Navigation
from sim.navigation_kernels import FLIGHT
from sim.visibility import Visibility, VisibilityMap, VisibilityRules
from sim.visibility_kernels import DOUBTED, SIGHT_MASK
from sim.worldmap import WorldMap
from tools.bench.harness import Row, row
from tools.openarena import map_path
from tools.sight_oracle import SightOracle

__all__ = ["Crowd", "run"]

MAP, OTHER_MAP = "oa_dm2", "aggressor"
VIEWERS, SLOTS = 1000, 64
TICK_HZ = 60
INTERVAL = 2
WARM_TICKS, MEASURED_TICKS = 60, 120
NEAREST_TICKS = 6  # 10 Hz
REFERENCE_ROUNDS = 5
GOALS = 24
SPEED = 8.0  # [m/s]
EYE, CHEST = np.array([0.0, 0.0, 1.2]), np.array([0.0, 0.0, 0.9])  # [m] above the feet
HORIZON_S = 0.35  # a round trip of 150 ms, and 200 ms
LATE_TICKS = 9
STAGED_PLAYERS, STAGED_TICKS = 64, 400
JUDGED_VIEWERS, JUDGED_TICKS, JUDGED_EVERY = 200, 200, 5
HEIGHTS, SIDES = (0.03, 0.35, 0.7, 1.05, 1.37), (-0.36, 0.0, 0.36)  # [m] of a body, where it is looked at


class Crowd:
    """Seeded runners over a map's cells, each going downhill on the distance field of some goal."""

    def __init__(self, navigation: Navigation, count: int) -> None:
        self.navigation = navigation
        self.random = np.random.default_rng(4)
        cells = np.flatnonzero(navigation.region == 0)
        self.target = self.random.choice(cells, count)
        self.fields = navigation.fields(self.random.choice(cells, GOALS)).astype(np.int64)
        self.goal = self.random.integers(0, GOALS, count)
        self.feet: F64 = navigation.position[self.target].copy()
        self.velocity: F64 = np.zeros((count, 3))

    def step(self) -> None:
        """One tick."""
        position, links = self.navigation.position, self.navigation.links
        away = position[self.target] - self.feet
        arrived = np.flatnonzero(np.hypot(away[:, 0], away[:, 1]) < SPEED / TICK_HZ)
        cell, field = self.target[arrived], self.fields[self.goal[arrived]]
        through = np.take_along_axis(field, np.maximum(links[cell], 0), axis=1)
        afoot = (links[cell] >= 0) & (self.navigation.kinds[cell] != FLIGHT)
        through = np.where(afoot, through + self.navigation.arrays[6][cell], 1 << 40)
        best = through.argmin(axis=1)
        # Nobody flies: a teleporter is foreseen by nothing, and is not what is measured.
        there = (field[np.arange(len(arrived)), cell] == 0) | ~afoot.any(axis=1)
        self.target[arrived] = np.where(there, cell, links[cell, best])
        elsewhere = there | (self.random.random(len(arrived)) < 0.02)
        self.goal[arrived[elsewhere]] = self.random.integers(0, GOALS, int(elsewhere.sum()))
        away = position[self.target] - self.feet
        distance = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
        move = away * np.minimum(1.0, SPEED / TICK_HZ / distance)[:, None]
        self.feet += move
        self.velocity = move * TICK_HZ


def _nearest(feet: F64, held: I32) -> None:
    """Let each row hold the nearest others; who stays keeps the column."""
    away = ((feet[:, None, :] - feet[None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(away, np.inf)
    wanted = np.argpartition(away, held.shape[1], axis=1)[:, : held.shape[1]]
    for viewer in range(len(feet)):
        stays = np.isin(held[viewer], wanted[viewer])
        held[viewer, ~stays] = np.setdiff1d(wanted[viewer], held[viewer])


class Scene:
    """A crowd and what it takes to decide what each of it sees."""

    def __init__(self, known: VisibilityMap, sight: Geometry, crowd: Crowd, rules: VisibilityRules) -> None:
        count = len(crowd.feet)
        self.crowd, self.sight = crowd, sight
        self.visibility = Visibility(known, sight, viewers=count, slots=SLOTS, bodies=count, rules=rules)
        self.size = np.tile([0.375, 1.4], (count, 1))
        self.identity = np.arange(1, count + 1, dtype=np.uint64)
        self.own = np.arange(count, dtype=np.int32)
        self.horizon = np.full(count, HORIZON_S)
        self.candidates = np.full((count, SLOTS), -1, np.int32)
        self.due = [np.arange(turn, count, INTERVAL, dtype=np.int32) for turn in range(INTERVAL)]

    def tick(self, tick: int) -> U8:
        """Place everybody and decide for those whose turn it is."""
        crowd = self.crowd
        self.visibility.place(
            feet=crowd.feet, velocity=crowd.velocity, size=self.size, identity=self.identity, tick=tick
        )  # fmt: skip
        return self.visibility.refresh(
            eyes=crowd.feet + EYE, horizon=self.horizon, own=self.own, candidates=self.candidates,
            due=self.due[tick % INTERVAL], tick=tick,
        )  # fmt: skip


def _rays_ms(sight: Geometry, feet: F64, viewer: I32, other: I32) -> float:
    """Median time of one ray for each pair, in one batch."""
    eyes = np.ascontiguousarray(feet[viewer] + EYE)
    chests = np.ascontiguousarray(feet[other] + CHEST)
    times = []
    for _ in range(REFERENCE_ROUNDS):
        begun = perf_counter_ns()
        sight.any_hit(eyes, chests, mask=SIGHT_MASK)
        times.append((perf_counter_ns() - begun) / 1e6)
    return float(np.median(times))


def _timed(known: VisibilityMap, sight: Geometry, navigation: Navigation, name: str) -> list[Row]:
    """The rows of time: reference and ticks in turn, so that a slow moment of the machine meets both."""
    rows = []
    everybody = np.arange(VIEWERS, dtype=np.int32)
    pairs = np.repeat(everybody, VIEWERS), np.tile(everybody, VIEWERS)
    apart = pairs[0] != pairs[1]
    for mode, rules in (("", VisibilityRules()), (", strict", VisibilityRules(strict=True))):
        scene = Scene(known, sight, Crowd(navigation, VIEWERS), rules)
        times = []
        for tick in range(WARM_TICKS + MEASURED_TICKS):
            scene.crowd.step()
            if tick % NEAREST_TICKS == 0:
                _nearest(scene.crowd.feet, scene.candidates)
            begun = perf_counter_ns()
            scene.tick(tick)
            times.append((perf_counter_ns() - begun) / 1e6)
        spent = float(np.median(times[WARM_TICKS:]))
        feet = scene.crowd.feet
        all_pairs = _rays_ms(sight, feet, pairs[0][apart], pairs[1][apart])
        few = scene.due[0]
        asked = _rays_ms(sight, feet, np.repeat(few, SLOTS), scene.candidates[few].reshape(-1))
        case = f"1,000 viewers, whole tick{mode} {name}"
        rows.append(row(case, spent, unit="ms", reference="all-pairs rays", reference_value=all_pairs))
        rows.append(row(f"{case}, next to", spent, unit="ms", reference="rays to candidates", reference_value=asked))
    return rows


def _looks(sight: Geometry, eyes: F64, feet: F64) -> Bool:
    """Whether any ray of a dense set from each eye reaches the body at each place."""
    away = feet - eyes
    level = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-9)
    across = np.stack([-away[:, 1] / level, away[:, 0] / level, np.zeros(len(feet))], axis=1)
    found = np.zeros(len(eyes), np.bool_)
    for height in HEIGHTS:
        for side in SIDES:
            left = np.flatnonzero(~found)
            point = feet[left] + across[left] * side + [0.0, 0.0, height]
            found[left] = ~sight.any_hit(eyes[left], point, mask=SIGHT_MASK)
    return found


def _judged(known: VisibilityMap, sight: Geometry, navigation: Navigation, name: str) -> list[Row]:
    """The rows of accuracy."""
    rows = []
    for mode, rules in (("", VisibilityRules()), (", strict", VisibilityRules(strict=True))):
        scene = Scene(known, sight, Crowd(navigation, JUDGED_VIEWERS), rules)
        for number in range(JUDGED_VIEWERS):
            others = np.delete(scene.own, number)
            scene.candidates[number] = scene.crowd.random.choice(others, SLOTS, replace=False)
        viewer, other = np.repeat(scene.own, SLOTS), scene.candidates.reshape(-1)
        told: list[Bool] = []
        sums = np.zeros(4)
        for tick in range(JUDGED_TICKS):
            scene.crowd.step()
            told.append(scene.tick(tick).reshape(-1) >= DOUBTED)
            if tick < WARM_TICKS or tick % JUDGED_EVERY:
                continue
            feet = scene.crowd.feet
            seen = _looks(sight, feet[viewer] + EYE, feet[other])
            sums += seen.sum(), (seen & ~told[-1 - LATE_TICKS]).sum(), (~told[-1]).sum(), len(seen)
        prefix = f"{JUDGED_VIEWERS} viewers{mode} {name}: "
        rows += [
            row(prefix + "seen but told late", 100.0 * sums[1] / sums[0], unit="% of seen"),
            row(prefix + "hidden", 100.0 * sums[2] / sums[3], unit="% of pairs", reference="not seen now",
                reference_value=100.0 * (1.0 - sums[0] / sums[3]), larger_is_better=True),
        ]  # fmt: skip
    return rows


def _staged(world: WorldMap, known: VisibilityMap, sight: Geometry) -> list[Row]:
    """The rows of the server's stage."""
    rows = []
    for mode in ("on", "strict"):
        oracle = SightOracle(world, known, sight, players=STAGED_PLAYERS, rules=sight_rules(mode))
        verdict = oracle.judge(STAGED_TICKS)
        case = f"{STAGED_PLAYERS} players through the stage, {mode} {world.name}: "
        seen, pairs = max(verdict.seen, 1), max(verdict.pairs, 1)
        rows += [
            row(case + "seen but not told", 100.0 * verdict.late_now / seen, unit="% of seen"),
            row(case + "seen but told late", 100.0 * verdict.late / seen, unit="% of seen"),
            row(case + "told but unseeable", 100.0 * verdict.unseeable / pairs, unit="% of pairs",
                reference="everything told", reference_value=100.0 * (1.0 - verdict.seen / pairs)),
        ]  # fmt: skip
    return rows


def run(data: Sequence[Path]) -> list[Row]:
    """Time per tick, and how often it is wrong."""
    world = load_map(data[0] if data else map_path(MAP))
    known, sight = load_visibility(world)
    navigation = load_navigation(world, load_geometry(world))
    rows = [*_timed(known, sight, navigation, world.name), *_judged(known, sight, navigation, world.name)]
    rows += _staged(world, known, sight)
    if not data:
        other = load_map(map_path(OTHER_MAP))
        rows += _staged(other, *load_visibility(other))
    return rows
