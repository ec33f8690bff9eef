"""One shot explained: what its shooter saw, what it was judged by, how the ray passed every hitbox, and the verdict.

    replay = Replay.open(path)
    shot = explain(replay, 42)              # the 42nd `shot` event of the recording
    print("\\n".join(shot.lines()))         # the text; `shot.to_dict()` is the same as plain values

Nothing is judged here a second time: the match is played up to the shot's tick, and what the world judged in it is read
from `sim.hitscan.Judgement` and the pose history. Only what the judge had no reason to ask is computed beside it: by
how much each box of those near the ray was missed, then and at the poses of the tick itself. The command and the page
print the same lines.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from server.errors import ReplayError
from server.event_notes import read_events
from server.recorder_notes import read_network
from server.replay import Event, Replay
from server.replay_words import clock_text, player_names
from server.shots_rays import HITBOXES, Passage, pass_hitbox
from server.shots_walls import MoverPlace, mover_met, mover_places, static_walls
from sim.commands import REWIND_STEPS
from sim.components import Vitals
from sim.hitscan import Judgement
from sim.rewind import PoseHistory
from sim.world import World

__all__ = [
    "TARGETS_MAX",
    "Pellet",
    "Shot",
    "Strike",
    "Target",
    "explain",
    "explain_at",
    "judgement",
    "shots_of_tick",
]

TARGETS_MAX = 6  # players that are told of, those nearest to the ray first; whom it hit is among them always
PARTS = ("body", "head", "torso", "legs")
NEAR_M = 5.0  # whom the ray passed farther off is not told of
NETWORK_NOTE_S = 3.0  # a player's network figures are looked for in the notes of so long before the shot
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Strike:
    """A player whom a pellet met."""

    entity: int
    part: str
    distance_m: float
    damage: float  # judged, before armour and rules
    walls: int  # passed before


@dataclass(frozen=True, slots=True)
class Pellet:
    """One ray of a shot.

    Attributes:
        origin: Where it began [m].
        direction: Unit vector.
        wall_m: Where it met, or would have met, a wall, or how far the weapon reaches [m].
        is_wall: Whether it is a wall that stands there.
        end_m: Where it ended [m].
        walls: Thin walls that it went through.
        strikes: Whom it met, in order.
        mover: The door, lift or other mover that the wall is, as it stood then; None for what never moves.
    """

    origin: Vector
    direction: Vector
    wall_m: float
    is_wall: bool
    end_m: float
    walls: int
    strikes: tuple[Strike, ...]
    mover: MoverPlace | None = None

    @property
    def wall(self) -> str:
        """What stands where it met a wall, in words."""
        return "a wall" if self.mover is None else self.mover.name

    @property
    def end(self) -> Vector:
        """Where it ended [m]."""
        return self.at(self.end_m)

    def at(self, distance: float) -> Vector:
        """A point along it [m]."""
        (x, y, z), (dx, dy, dz) = self.origin, self.direction
        return x + dx * distance, y + dy * distance, z + dz * distance


@dataclass(frozen=True, slots=True)
class Target:
    """A player near the deciding ray.

    Attributes:
        entity, name, team: Who.
        feet, height: Where it was when the shot is judged, exactly as it was judged [m].
        passages: How the ray passed each of its boxes there.
        behind_wall: Whether a wall stood before the place where the ray was nearest.
        feet_now, height_now: Where it is in the tick of the shot [m].
        passages_now: How the ray passes its boxes there: what a shot without rewind would have met.
    """

    entity: int
    name: str
    team: int
    feet: Vector
    height: float
    passages: tuple[Passage, ...]
    behind_wall: bool
    feet_now: Vector
    height_now: float
    passages_now: tuple[Passage, ...]

    @property
    def nearest(self) -> Passage:
        """The box that the ray passed nearest to, or went deepest into."""
        return min(self.passages, key=lambda passage: passage.miss_m)


@dataclass(frozen=True, slots=True)
class Shot:
    """Everything about one shot.

    Attributes:
        number: Of the recording's `shot` events, from 1; 0: not counted.
        tick, tick_hz: When.
        entity, name: Who fired.
        weapon: With what.
        rewind: How far before the tick it was judged [1/256 tick]; `rewind_max` is the cap.
        pellets: Its rays.
        decider: Index of the ray that decided: of the greatest damage, else the one nearest to anybody.
        targets: Who was near the deciding ray.
        movers: All movers of the map, where they stood then and stand now.
        hits: What its shooter's victims took in this tick: entity, points, part; of all its shots in the tick.
        kills: Whom it killed in this tick.
        network: Figures noted of the shooter's connection within the second of the shot, by name
            (`server.recorder_notes`).
        refusals: Notes of refused claims of the shooter shortly before.
    """

    number: int
    tick: int
    tick_hz: int
    entity: int
    name: str
    weapon: str
    rewind: int
    rewind_max: int
    pellets: tuple[Pellet, ...]
    decider: int
    targets: tuple[Target, ...]
    movers: tuple[MoverPlace, ...] = ()
    hits: tuple[tuple[int, int, str], ...] = ()
    kills: tuple[int, ...] = ()
    network: dict[str, float] = field(default_factory=dict)
    refusals: tuple[dict[str, Any], ...] = ()

    @property
    def ray(self) -> Pellet:
        """The deciding ray."""
        return self.pellets[self.decider]

    @property
    def rewind_ms(self) -> float:
        """How far before the tick it was judged [ms]."""
        return self.rewind * 1000.0 / (REWIND_STEPS * self.tick_hz)

    @property
    def lead_ms(self) -> float | None:
        """How early the shooter's inputs came before their ticks [ms]; None where it was not noted."""
        lead = self.network.get("lead")
        return None if lead is None else lead * 1000.0 / (REWIND_STEPS * self.tick_hz)

    @property
    def interpolation_ms(self) -> float | None:
        """How far behind the newest it could know its shooter was shown the others [ms]; None where it was not noted.

        What remains of the rewind when the way there and back, and the lead of inputs, are taken off: the time between
        snapshots, and what its client holds back against jitter. Negative: they were dead reckoned by so much.
        """
        if self.lead_ms is None or not self.rewind:
            return None
        return self.rewind_ms - self.network["rtt_ms"] - self.lead_ms

    def rewind_words(self) -> str:
        """What the rewind consists of, "" where it was not noted."""
        if self.lead_ms is None or self.interpolation_ms is None:
            return ""
        late = self.interpolation_ms
        held = f"+ interpolation {late:.0f} ms" if late >= 0.0 else f"- dead reckoning {-late:.0f} ms"
        return f"round trip {self.network['rtt_ms']:.0f} ms + lead of inputs {self.lead_ms:.0f} ms {held}"

    @property
    def cap_ms(self) -> float:
        """How far before the tick any shot is judged at most [ms]."""
        return self.rewind_max * 1000.0 / (REWIND_STEPS * self.tick_hz)

    @property
    def moment(self) -> float:
        """The moment by which it was judged [ticks]."""
        return self.tick - self.rewind / REWIND_STEPS

    @property
    def damage(self) -> float:
        """What was judged of all its pellets, before armour and rules."""
        return sum(strike.damage for pellet in self.pellets for strike in pellet.strikes)

    def name_of(self, entity: int) -> str:
        """A target by name, or its id."""
        return next((target.name for target in self.targets if target.entity == entity), f"{entity:#x}")

    def verdict(self) -> str:
        """What became of it, in one sentence."""
        struck: dict[tuple[int, str], list[float]] = {}
        for pellet in self.pellets:
            for strike in pellet.strikes:
                struck.setdefault((strike.entity, strike.part), []).append(strike.damage)
        if struck:
            rays = len(self.pellets)
            told = [
                f"{self.name_of(entity)}'s {part} for {sum(damages):.4g}"
                + (f" with {len(damages)} of {rays} pellets" if rays > 1 else "")
                for (entity, part), damages in struck.items()
            ]
            return "hit " + ", ".join(told)
        return "missed: " + self._why_missed()

    def _why_missed(self) -> str:
        ray = self.ray
        wall = f"the ray ended at {ray.wall} after {ray.end_m:.2f} m" if ray.is_wall else "the ray met nothing"
        if not self.targets:
            return f"{wall}, and passed nobody within {NEAR_M:.0f} m"
        target = min(self.targets, key=lambda entry: entry.nearest.miss_m)
        near = target.nearest
        if target.behind_wall and near.miss_m <= 0.0:
            return f"{ray.wall} after {ray.wall_m:.2f} m stood before {target.name}, {near.along_m:.2f} m away"
        return f"{wall}; nearest was {target.name}'s {near.box}, by {_cm(near.miss_m)}"

    def lines(self) -> list[str]:
        """The explanation, a line each."""
        ray = self.ray
        where = clock_text(self.tick, self.tick_hz)
        head = f"shot {self.number}" if self.number else "shot"
        lines = [f"{head}   tick {self.tick} ({where})   {self.name} fires the {self.weapon}"]
        lines += [f"  saw      {text}" for text in self._view_lines()]
        wall = f"{ray.wall} after {ray.wall_m:.2f} m" if ray.is_wall else f"no wall within {ray.wall_m:.4g} m"
        through = f", {ray.walls} walls passed" if ray.walls else ""
        which = f", pellet {self.decider + 1} of {len(self.pellets)}" if len(self.pellets) > 1 else ""
        lines.append(f"  ray      from {_point(ray.origin)} towards {_point(ray.direction)}; {wall}{through}{which}")
        if ray.mover is not None:
            lines.append(f"  wall     {ray.mover.name} {ray.mover.stood()}")
        for target in self.targets:
            lines += self._target_lines(target)
        lines.append(f"  verdict  {self.verdict()}")
        taken = [f"{self.name_of(entity)} took {points} ({part})" for entity, points, part in self.hits]
        taken += [f"{self.name_of(entity)} died" for entity in self.kills]
        if taken:
            lines.append(f"  damage   {', '.join(taken)}")
        return lines

    def _view_lines(self) -> Iterable[str]:
        at_cap = f", which is the cap{self._beyond_cap()}" if self._is_capped else f", cap {self.cap_ms:.4g} ms"
        if self.rewind == 0:
            yield f"judged at the poses of this tick: no rewind (cap {self.cap_ms:.4g} ms)"
        else:
            yield (
                f"the others {self.rewind_ms:.1f} ms ago ({self.rewind / REWIND_STEPS:.2f} ticks){at_cap}: judged at "
                f"moment {self.moment:.2f}"
            )
        if words := self.rewind_words():
            yield f"these are {words}"
        if self.network:
            yield (
                f"connection: round trip {self.network['rtt_ms']:.0f} ms ± {self.network['jitter_ms']:.0f} ms, "
                f"{self.network['loss'] * 100.0:.1f} % lost"
            )
        for note in self.refusals:
            yield f"its claim {note.get('claimed')} was refused ({note.get('reason')}): allowed {note.get('allowed')}"

    @property
    def _is_capped(self) -> bool:
        return self.rewind >= self.rewind_max > 0

    def _beyond_cap(self) -> str:
        """What the client showed that is older than the cap, where that was noted."""
        beyond = self.network.get("view", 0.0) - self.rewind_max
        if beyond <= 0.0:
            return ""
        return f", and {beyond * 1000.0 / (REWIND_STEPS * self.tick_hz):.0f} ms less than it was shown"

    def _target_lines(self, target: Target) -> Iterable[str]:
        struck = {strike.part: strike for strike in self.ray.strikes if strike.entity == target.entity}
        behind = f", behind {'the wall' if self.ray.mover is None else self.ray.wall}" if target.behind_wall else ""
        yield f"  {target.name:<8} {target.nearest.along_m:.2f} m along the ray{behind}"
        yield f"    then   at {_point(target.feet)}: {_boxes(target.passages, struck)}"
        if self.rewind:
            way = float(np.linalg.norm(np.subtract(target.feet_now, target.feet)))
            near = min(target.passages_now, key=lambda passage: passage.miss_m)
            fate = f"would meet its {near.box}" if near.miss_m <= 0.0 else f"would miss it by {_cm(near.miss_m)}"
            yield f"    now    {way:.2f} m on, at {_point(target.feet_now)}: the ray {fate}"

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON; `text` holds the lines."""
        return asdict(self) | {
            "rewind_ms": self.rewind_ms,
            "interpolation_ms": self.interpolation_ms,
            "cap_ms": self.cap_ms,
            "moment": self.moment,
            "damage": self.damage,
            "verdict": self.verdict(),
            "text": self.lines(),
        }


def _cm(metres: float) -> str:
    return f"{metres * 100.0:.1f} cm" if metres < 1.0 else f"{metres:.2f} m"


def _point(point: Sequence[float]) -> str:
    return "(" + " ".join(f"{value:.2f}" for value in point) + ")"


def _boxes(passages: Iterable[Passage], struck: dict[str, Strike]) -> str:
    parts = []
    for passage in passages:
        if passage.box in struck:
            parts.append(f"{passage.box} HIT after {struck[passage.box].distance_m:.2f} m")
        elif passage.miss_m <= 0.0:
            parts.append(f"{passage.box} in line, {_cm(-passage.miss_m)} deep")
        else:
            parts.append(f"{passage.box} missed by {_cm(passage.miss_m)}")
    return ", ".join(parts)


def judgement(world: World) -> Judgement:
    """What the world's game judged in the last tick.

    Raises:
        ReplayError: The game keeps no judgement of its shots.
    """
    for service in world.services.values():
        found = service if isinstance(service, Judgement) else getattr(service, "judged", None)
        if isinstance(found, Judgement):
            return found
    raise ReplayError(f"game {world.game.name!r}: keeps no judgement of its shots (sim.hitscan.Judgement)")


def _history(world: World) -> PoseHistory:
    found = world.memories.get(PoseHistory)
    if not isinstance(found, PoseHistory):
        raise ReplayError(f"game {world.game.name!r}: keeps no poses of the past (sim.systems.pose_system)")
    return found


def _strikes(judged: Judgement, pellet: int, ids: Sequence[int]) -> tuple[Strike, ...]:
    first, count = int(judged.pellets[pellet, 3]), int(judged.pellets[pellet, 4])
    return tuple(
        Strike(ids[victim], PARTS[part], distance, damage, walls)
        for (_, victim, part, walls), (distance, damage) in zip(
            judged.strikes[first : first + count].tolist(), judged.blows[first : first + count].tolist(), strict=True
        )
    )


def _pellets(
    world: World, judged: Judgement, numbers: Sequence[int], movers: Sequence[MoverPlace]
) -> tuple[Pellet, ...]:
    ids = world.players.ids.tolist()
    ways = judged.ways[list(numbers)]
    made = []
    for number, way, is_static in zip(numbers, ways, static_walls(world, ways).tolist(), strict=True):
        ox, oy, oz, dx, dy, dz, wall_m, end_m = way.tolist()
        mover = None if is_static else mover_met(world, movers, way)
        walls, strikes = int(judged.pellets[number, 5]), _strikes(judged, number, ids)
        is_wall = is_static or mover is not None
        made.append(Pellet((ox, oy, oz), (dx, dy, dz), wall_m, is_wall, end_m, walls, strikes, mover))
    return tuple(made)


def _targets(world: World, shooter: int, ray: Pellet, rewind: int, names: dict[int, str]) -> tuple[Target, ...]:
    """Who was near a ray at its moment, the nearest first; whom it met before all others."""
    history, players = _history(world), world.players
    then, now = history.poses(rewind), history.poses(0)
    team = players[Vitals].team
    met = {strike.entity for strike in ray.strikes}
    found: list[tuple[bool, float, Target]] = []
    for row in np.flatnonzero(then.there & now.there).tolist():
        if row == shooter:
            continue
        entity = players.id_of(row)
        places = [(tuple(poses.feet[row].tolist()), float(poses.height[row])) for poses in (then, now)]
        reach = max(ray.wall_m, float(np.linalg.norm(np.subtract(places[0][0], ray.origin))) + 1.0)
        passages, passages_now = (
            tuple(pass_hitbox(ray.origin, ray.direction, reach, feet, height, box) for box in HITBOXES)
            for feet, height in places
        )
        nearest = min(passages, key=lambda passage: passage.miss_m)
        if entity not in met and (nearest.miss_m > NEAR_M or nearest.along_m <= 0.0):
            continue
        behind = entity not in met and ray.is_wall and nearest.along_m > ray.wall_m
        target = Target(
            entity, names.get(entity, f"{entity:#x}"), int(team[row]), *places[0], passages, behind, *places[1],
            passages_now,
        )  # fmt: skip
        found.append((entity not in met, nearest.miss_m, target))
    found.sort(key=lambda entry: (entry[0], entry[1], entry[2].entity))
    return tuple(target for _, _, target in found[:TARGETS_MAX])


def _decider(world: World, shooter: int, pellets: Sequence[Pellet], rewind: int) -> int:
    """The pellet of the greatest damage, else the one that came nearest to anybody."""
    damage = [sum(strike.damage for strike in pellet.strikes) for pellet in pellets]
    if max(damage) > 0.0 or len(pellets) == 1:
        return damage.index(max(damage))
    near = [_targets(world, shooter, pellet, rewind, {}) for pellet in pellets]
    misses = [targets[0].nearest.miss_m if targets else float("inf") for targets in near]
    return misses.index(min(misses))


def shots_of_tick(world: World, events: Sequence[Event], names: dict[int, str]) -> list[Shot]:
    """Every shot of the tick that the world has just made, in the order of its `shot` events; not numbered.

    Args:
        world: Just stepped.
        events: Of the tick.
        names: By entity.

    Raises:
        ReplayError: The game keeps no judgement, or no poses.
    """
    fired = [event for event in events if event.kind == "shot"]
    if not fired:
        return []
    judged = judgement(world)
    rows = judged.pellets[:, 0]
    weapons = dict(world.game.settings).get("weapons", "").split(",")
    made, used = [], dict.fromkeys((event.actor for event in fired), 0)
    for event in fired:
        row = world.players.find(event.actor)
        mine = np.flatnonzero(rows == row).tolist()
        each = len(mine) // max(1, sum(other.actor == event.actor for other in fired))
        numbers = mine[used[event.actor] : used[event.actor] + each]
        used[event.actor] += each
        if not numbers:
            raise ReplayError(f"tick {event.tick}: the shot of {event.actor:#x} was not judged: too many in one tick")
        rewind = int(judged.pellets[numbers[0], 2])
        movers = mover_places(world, rewind)
        pellets = _pellets(world, judged, numbers, movers)
        decider = _decider(world, row, pellets, rewind)
        named = weapons[event.value] if 0 <= event.value < len(weapons) else f"weapon {event.value}"
        hits = [e for e in events if e.kind == "hit" and e.actor == event.actor]
        kills = [e for e in events if e.kind == "kill" and e.actor == event.actor]
        made.append(
            Shot(
                number=0, tick=world.tick, tick_hz=world.tick_hz, entity=event.actor,
                name=names.get(event.actor, f"{event.actor:#x}"), weapon=named, rewind=rewind,
                rewind_max=world.rewind_max, pellets=pellets, decider=decider,
                targets=_targets(world, row, pellets[decider], rewind, names), movers=movers,
                hits=tuple((e.target, e.value // 8, PARTS[e.value % 8 & 3]) for e in hits),
                kills=tuple(e.target for e in kills),
            )
        )  # fmt: skip
    return made


def explain(replay: Replay, number: int) -> Shot:
    """The n-th shot of a recording, from 1, explained; the replay is then at its tick.

    Raises:
        ReplayError: There are not so many, or the recording cannot be played there.
    """
    if number < 1:
        raise ReplayError(f"shot {number}: shots are numbered from 1")
    tick, before = _find(replay, number)
    replay.make(tick)
    return _finished(replay, _shots_here(replay)[number - before - 1], number)


def explain_at(replay: Replay, tick: int, entity: int = 0) -> list[Shot]:
    """The shots of a tick explained, of everyone or of one player; the replay is then at that tick.

    Raises:
        ReplayError: Nobody, or not that player, fired in it; or the recording cannot be played there.
    """
    replay.make(tick)
    found = _shots_here(replay)
    chosen = [number for number, shot in enumerate(found) if entity in {0, shot.entity}]
    if not chosen:
        whose = f"{player_names(replay).get(entity, hex(entity))} fired" if entity else "anybody fired"
        near = _nearest_shots(replay, tick, entity)
        raise ReplayError(f"tick {tick}: no shot that {whose} in it{near}")
    before = _count_before(replay, tick)
    return [_finished(replay, found[place], before + place + 1 if before >= 0 else 0) for place in chosen]


def _shots_here(replay: Replay) -> list[Shot]:
    return shots_of_tick(replay.world, replay.events(), player_names(replay))


def _noted(replay: Replay) -> tuple[list[int], list[int], int]:
    """Ticks of all shots that notes tell of, who fired each, and the tick up to which they tell of all."""
    ticks: list[int] = []
    actors: list[int] = []
    told = replay.first_tick
    for note in replay.notes():
        if note.kind != "events":
            continue
        found = read_events(note.values, "shot")
        if found is None or note.values.get("left_out"):
            break
        ticks += found[0].tolist()
        actors += found[1].tolist()
        told = note.tick
    return ticks, actors, told


def _find(replay: Replay, number: int) -> tuple[int, int]:
    """The tick of a shot, and how many shots came before that tick: from notes, beyond them by playing on."""
    ticks, _, told = _noted(replay)
    if number <= len(ticks):
        return ticks[number - 1], ticks.index(ticks[number - 1])
    count = len(ticks)
    replay.seek(max(told, replay.first_tick))
    while replay.step():
        here = sum(event.kind == "shot" for event in replay.events())
        if count + here >= number:
            return replay.tick, count
        count += here
    raise ReplayError(f"shot {number}: the recording holds {count} shots; choose 1 to {count}")


def _count_before(replay: Replay, tick: int) -> int:
    """How many shots came before a tick; -1 where notes do not tell, and counting would mean to play all of it."""
    ticks, _, told = _noted(replay)
    return sum(other < tick for other in ticks) if tick <= told else -1


def _nearest_shots(replay: Replay, tick: int, entity: int) -> str:
    """Where else one could look."""
    ticks, actors, _ = _noted(replay)
    mine = [at for at, actor in zip(ticks, actors, strict=True) if entity in {0, actor}]
    if not mine:
        return ""
    return f"; the nearest is in tick {min(mine, key=lambda at: abs(at - tick))}"


def _finished(replay: Replay, shot: Shot, number: int) -> Shot:
    """With its number, and what the notes say of the shooter's connection."""
    since = shot.tick - round(NETWORK_NOTE_S * shot.tick_hz)
    network: dict[str, float] = {}
    refusals = []
    for note in replay.notes(since, shot.tick + shot.tick_hz):
        if note.kind == "network":
            network = _figures(note.values, shot.entity) or network
        elif note.kind == "refusal" and note.tick <= shot.tick and _is_claim(note.values, shot.entity):
            refusals.append(note.values)
    return replace(shot, number=number, network=network, refusals=tuple(refusals[-4:]))


def _is_claim(values: dict[str, Any], entity: int) -> bool:
    """Whether a refusal is one of a moment that this player claimed to have seen."""
    return values.get("entity") == entity and str(values.get("reason", "")).startswith("view")


def _figures(values: dict[str, Any], entity: int) -> dict[str, float]:
    """A player's figures in a note of kind `network` (docs/recording.md); none where it has none."""
    columns = read_network(values)
    if columns is None or not (columns["entity"] == entity).any():
        return {}
    rows = np.flatnonzero(columns["entity"] == entity)
    found = {name: float(column[rows[0]]) for name, column in columns.items() if name not in {"entity", "client"}}
    return found | {"loss": found["loss"] / 1e4}
