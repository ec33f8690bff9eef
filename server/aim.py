"""Statistics of how players aim, to be looked at by people: it flags for review, and does nothing else.

Five measures, each told apart by weapon where that matters:

| measure | of one player | suspicious |
|---|---|---|
| HEADSHOTS | share of hits that were in the head, by weapon | high |
| REACTION | median time from when a target came in view, with nothing before it, until it was fired at and hit | low |
| TRIGGER | share of bursts that hit and began in the 50 ms in which the aim came onto the target | high |
| SNAP | median turn of the view in the 50 ms before | high |
| FOLLOWS | share of looks in which the view went with somebody behind a wall | high |

Times are those on the shooter's screen: targets are taken where the shooter saw them. REACTION, TRIGGER and SNAP look
at the first hit of somebody who was not hit lately, back from where the burst of fire began; TRIGGER only where that
hit was the burst's first: firing while sweeping the view says nothing of when the aim came onto whom it meets.

A player's figure is compared with those of all players who have enough samples: the modified z-score of Iglewicz and
Hoaglin (How to Detect and Handle Outliers, 1993), distance from the median over 1.4826 MAD, which outliers themselves
do not move (Rousseeuw and Croux, 1993). To the spread of the population the sampling error of a share is added, so
that a short lucky streak is none; and there is a least spread, so that a population of equals flags nobody for a
trifle. A flag takes all of: enough samples, `PLAYERS_MIN` players to compare with, a score above `SCORE_MIN`, a figure
that is extraordinary by itself (`MEASURES`), and that at `HOLD` evaluations in a row.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from server.aim_kernels import FOLLOWS, LAST, REACTION, RING, SNAP, TRIGGER, WEAPONS, AimState, note_hits, watch_walls
from sim.arrays import F64, I32, I64, AnyArray
from sim.components import Vitals
from sim.rewind import PoseHistory
from sim.systems import Intent
from sim.world import World

__all__ = [
    "AGAIN_S",
    "FLAGS_MAX",
    "HOLD",
    "LANES",
    "MEASURES",
    "PLAYERS_MIN",
    "SCORE_MIN",
    "AimMonitor",
    "Flag",
    "Gate",
    "Measure",
    "robust_scores",
]

EVALUATE_S = 5.0
HOLD = 3  # evaluations in a row
SCORE_MIN = 4.5  # Iglewicz and Hoaglin take 3.5; there are five measures, and many evaluations
PLAYERS_MIN = 8
FLAGS_MAX = 256  # kept; the oldest go first, all are counted
AGAIN_S = 60  # until the same of a player is flagged again
LOOKS_PER_S = 5.0
PAIRS_PER_TICK_MAX = 4096  # of a viewer and a player; beyond it, viewers are looked at more rarely
LOOK_BACKS_PER_TICK_MAX = 2  # from hits; more of a tick are left out, and counted


class Measure(enum.IntEnum):
    """What is measured; see the module."""

    HEADSHOTS = 0
    REACTION = 1
    TRIGGER = 2
    SNAP = 3
    FOLLOWS = 4

    @property
    def label(self) -> str:
        """As notes, pages and metrics have it."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Gate:
    """When a figure can be flagged at all.

    Attributes:
        samples: How many it must rest on.
        extraordinary: Beyond which figure; the unit is the measure's.
        high: Whether greater ones are suspicious, or smaller ones.
        spread: Least standard deviation of the population, on the scale of the scores.
        offset: Times and angles are compared as log(offset + figure); 0: as they are.
    """

    samples: int
    extraordinary: float
    high: bool
    spread: float
    offset: float = 0.0


MEASURES = {
    Measure.HEADSHOTS: Gate(40, 0.5, high=True, spread=0.07),
    Measure.REACTION: Gate(12, 160.0, high=False, spread=0.2, offset=20.0),
    Measure.TRIGGER: Gate(12, 0.5, high=True, spread=0.08),
    Measure.SNAP: Gate(12, 10.0, high=True, spread=0.35, offset=1.0),
    Measure.FOLLOWS: Gate(60, 0.05, high=True, spread=0.01),
}
LANES = WEAPONS + len(Measure) - 1  # comparisons: HEADSHOTS by weapon, then the others
RINGS = {Measure.REACTION: REACTION, Measure.SNAP: SNAP}
SHARES = {Measure.TRIGGER: TRIGGER, Measure.FOLLOWS: FOLLOWS}


@dataclass(frozen=True, slots=True)
class Flag:
    """A player whose aim should be looked at.

    Attributes:
        tick: When.
        client: Whose, −1 if nobody plays it any more.
        entity: Its entity.
        measure: What is extraordinary.
        weapon: Number of the weapon, −1 where it does not matter.
        value: The player's figure (share, ms or °).
        usual: The median of all.
        score: The modified z-score.
        samples: What the figure rests on.
        players: With how many it was compared.
    """

    tick: int
    client: int
    entity: int
    measure: Measure
    weapon: int
    value: float
    usual: float
    score: float
    samples: int
    players: int

    def note(self) -> dict[str, object]:
        """As the values of a recording's note of the kind `flag`."""
        return {
            "client": self.client, "entity": self.entity, "measure": self.measure.label, "weapon": self.weapon,
            "value": round(self.value, 4), "usual": round(self.usual, 4), "score": round(self.score, 2),
            "samples": self.samples, "players": self.players,
        }  # fmt: skip


def robust_scores(figures: F64, error: F64, *, spread_min: float) -> F64:
    """Modified z-scores: how many standard deviations each figure is above the median, outliers not counted.

    Args:
        figures: One per player.
        error: Standard error of each.
        spread_min: Least standard deviation that the population is taken to have.
    """
    away = figures - np.median(figures)
    spread = 1.4826 * float(np.median(np.abs(away)))
    if spread == 0.0:  # more than half are equal: the mean deviation tells more (Iglewicz and Hoaglin)
        spread = 1.2533 * float(np.abs(away).mean())
    scores: F64 = away / np.sqrt(max(spread, spread_min) ** 2 + error**2)
    return scores


class AimMonitor:
    """Watches the players of one world.

    Attributes:
        active: Whether the game tells enough to be watched: events `shot` and `hit`, and poses of the past.
        flags: The newest, oldest first.
        counts: Flags so far by `Measure`, int64.
        left_out: Hits that were not looked back from, since there were too many in a tick.
    """

    def __init__(self, world: World, *, evaluate_s: float = EVALUATE_S) -> None:
        self._every = max(LANES, round(evaluate_s * world.tick_hz))
        self._world, self._hz = world, world.tick_hz
        players = world.players
        rows = players.capacity
        history, events = world.memories.get(PoseHistory), world.game.events
        self._history = history if isinstance(history, PoseHistory) else None
        self.active = self._history is not None and {"shot", "hit"} <= set(events) and Intent in players
        self._kinds = (events.index("shot"), events.index("hit")) if self.active else (-1, -1)
        self._state: AimState = (
            np.zeros((rows, LAST), np.int64), np.zeros((rows, WEAPONS, 2), np.int64), np.zeros((rows, 2, RING)),
            np.zeros((rows, 2), np.int64), np.zeros((rows, 2, 2), np.int64),
        )  # fmt: skip
        self._team = players[Vitals].team
        self._rewind = players[Intent].rewind if self.active else np.zeros(rows, np.uint16)
        self._row = 0
        self._held: I64 = np.zeros((LANES, rows), np.int64)
        self._evidence: I64 = np.zeros((LANES, rows), np.int64)  # samples at the last evaluation
        self._flagged: dict[tuple[int, int], tuple[int, int]] = {}  # entity and tick, by lane and row
        self.flags: deque[Flag] = deque(maxlen=FLAGS_MAX)
        self._fresh: list[Flag] = []
        self.counts: I64 = np.zeros(len(Measure), np.int64)
        self.left_out = 0

    def take(self, tick: int, client_of_row: I32) -> None:
        """Learn from the tick just made; every few seconds, see whose aim stands out.

        Args:
            tick: Which.
            client_of_row: `Sessions.client_of_row`.
        """
        history, world = self._history, self._world
        if not self.active or history is None:
            return
        players, rewind, geometry = world.players, self._rewind, world.geometry.arrays
        if world.events.count:
            places = (tick, history.first, *self._kinds, players.slot_base, LOOK_BACKS_PER_TICK_MAX)
            self.left_out += note_hits(
                places, float(self._hz), world.events.arrays, rewind, history.arrays, geometry, self._state
            )
        rows = int(players.high_water)
        if rows:
            count = min(math.ceil(rows * LOOKS_PER_S / self._hz), max(1, PAIRS_PER_TICK_MAX // rows))
            self._row = watch_walls(
                (tick, history.first, self._row, count), float(self._hz), rewind, self._team[:rows],
                history.arrays, geometry, self._state,
            )  # fmt: skip
        lane = tick % self._every
        if lane < LANES:  # one comparison a tick: all in one would take milliseconds of it
            self._compare(tick, lane, client_of_row)

    def take_flags(self) -> list[Flag]:
        """Flags since the last call, oldest first."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def report(self) -> dict[str, int]:
        """Flags so far by label of the measure, for status and metrics."""
        return {measure.label: int(self.counts[measure]) for measure in Measure}

    def figures(self, measure: Measure, weapon: int = -1) -> tuple[F64, I64]:
        """Each row's figure of a measure, and how many samples it rests on; NaN where there are none."""
        _, hits, samples, taken, shares = self._state
        if measure is Measure.HEADSHOTS:
            return _share(hits[:, weapon, 1], hits[:, weapon, 0]), hits[:, weapon, 0]
        if measure in SHARES:
            share = shares[:, SHARES[measure]]
            return _share(share[:, 1], share[:, 0]), share[:, 0]
        ring = RINGS[measure]
        counts = taken[:, ring]
        figures: F64 = np.full(len(counts), np.nan)
        enough = np.flatnonzero(counts >= MEASURES[measure].samples)
        for count in np.unique(np.minimum(counts[enough], RING)).tolist():
            rows = enough[np.minimum(counts[enough], RING) == count]
            figures[rows] = np.median(samples[rows, ring, :count], axis=1)
        return figures, counts

    def _compare(self, tick: int, lane: int, client_of_row: I32) -> None:
        """Compare all players by one measure, and of one weapon where that matters."""
        present = self._world.players.live & (self._state[0][:, 0] == self._world.players.ids.view(np.int64))
        measure = Measure.HEADSHOTS if lane < WEAPONS else Measure(lane - WEAPONS + 1)
        weapon = lane if lane < WEAPONS else -1
        gate = MEASURES[measure]
        figures, samples = self.figures(measure, weapon)
        rows = np.flatnonzero(present & (samples >= gate.samples))
        self._held[lane, ~np.isin(np.arange(len(samples)), rows)] = 0
        if len(rows) < PLAYERS_MIN:
            self._held[lane] = 0
            return
        mine = figures[rows]
        usual = float(np.median(mine))
        if gate.offset:
            scores = robust_scores(np.log(gate.offset + mine), np.zeros(len(mine)), spread_min=gate.spread)
        else:
            error = np.sqrt(max(usual * (1.0 - usual), 0.02) / samples[rows])
            scores = robust_scores(mine, error, spread_min=gate.spread)
        sign = 1.0 if gate.high else -1.0
        strange = (sign * scores > SCORE_MIN) & (sign * (mine - gate.extraordinary) > 0.0)
        news = samples[rows] != self._evidence[lane, rows]
        # What stands out and has nothing new to it neither counts again, nor is forgiven.
        held = self._held[lane, rows]
        self._held[lane, rows] = np.where(strange, held + news, 0)
        self._evidence[lane, rows] = samples[rows]
        for place in np.flatnonzero(strange & (self._held[lane, rows] >= HOLD)).tolist():
            row = int(rows[place])
            flag = Flag(
                tick, int(client_of_row[row]), int(self._world.players.ids[row]), measure, weapon,
                float(mine[place]), usual, float(sign * scores[place]), int(samples[row]), len(rows),
            )  # fmt: skip
            self._raise(flag, lane, row)

    def _raise(self, flag: Flag, lane: int, row: int) -> None:
        """Keep a flag, unless the same was raised a moment ago."""
        entity, tick = self._flagged.get((lane, row), (0, 0))
        if entity == flag.entity and flag.tick - tick < AGAIN_S * self._hz:
            return
        self._flagged[lane, row] = (flag.entity, flag.tick)
        self.counts[flag.measure] += 1
        self.flags.append(flag)
        self._fresh = [*self._fresh[-FLAGS_MAX:], flag]


def _share(part: AnyArray, whole: AnyArray) -> F64:
    share: F64 = np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
    return share
