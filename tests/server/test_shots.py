"""One shot of a recording is explained by what was judged, to the centimetre, and the explanation adds up."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from server.errors import ReplayError
from server.event_notes import EventNotes
from server.recorder_notes import LATER_COLUMNS, NETWORK_COLUMNS
from server.replay import Event, Replay, events_of
from server.shots import TARGETS_MAX, Shot, explain, explain_at, judgement, shots_of_tick
from server.shots_plate import PLATE_SIZE, _Frame, shot_plate
from server.shots_rays import HITBOXES, pass_hitbox
from sim.commands import REWIND_STEPS, Button, Commands, Join
from sim.components import Look, Motion, Vitals
from sim.games.arena.components import Arms
from sim.games.arena.rules import ARMOURY
from sim.hitbox_kernels import body_hit
from sim.world import World
from tests.server.recorded_script import record_script
from tests.sim.arena import arena_world

PARTS = ("", "head", "torso", "legs")
numbers = st.floats(-6.0, 6.0, allow_nan=False, width=32)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(numbers, numbers, numbers), st.tuples(numbers, numbers, numbers), st.sampled_from((1.0, 1.4)),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_boxes_are_those_that_shots_are_judged_by(
    origin: tuple[float, float, float], at: tuple[float, float, float], height: float, up: float
) -> None:
    target = (at[0] * 0.05, at[1] * 0.05, up * height)
    way = tuple(b - a for a, b in zip(origin, target, strict=True))
    length = math.hypot(*way)
    if length < 1e-3:
        return
    ray = (way[0] / length, way[1] / length, way[2] / length)
    distance, part = body_hit(origin, ray, (0.0, 0.0, 0.0), height, 0.0)
    passed = [pass_hitbox(origin, ray, 100.0, (0.0, 0.0, 0.0), height, box) for box in HITBOXES]
    entered = [passage for passage in passed if passage.enters_m is not None]
    first = min(entered, key=lambda passage: passage.enters_m or 0.0, default=None)
    assert (first is None) == (part == 0) or min(abs(passage.miss_m) for passage in passed) < 1e-6
    if first is not None and part:
        assert first.enters_m == pytest.approx(distance, abs=1e-6)


def test_a_ray_beside_a_box_misses_it_by_the_distance_to_its_surface() -> None:
    head, torso, legs = (
        pass_hitbox((0.0, 1.0, 1.2), (1.0, 0.0, 0.0), 50.0, (10.0, 0.0, 0.0), 1.4, b) for b in HITBOXES
    )
    assert head.miss_m == pytest.approx(math.hypot(1.0, 1.2 - 0.89 * 1.4) - 0.11 * 1.4)
    assert torso.miss_m == pytest.approx(math.hypot(1.0, 1.2 - 0.66 * 1.4) - 0.19 * 1.4)
    assert legs.miss_m == pytest.approx(math.hypot(1.0, 1.2 - 0.42 * 1.4) - 0.14 * 1.4)
    assert head.along_m == torso.along_m == pytest.approx(10.0)
    assert head.enters_m is None
    through = pass_hitbox((0.0, 0.0, 0.8), (1.0, 0.0, 0.0), 50.0, (10.0, 0.0, 0.0), 1.4, HITBOXES[1])
    assert through.miss_m == pytest.approx(-0.19 * 1.4)
    assert through.enters_m == pytest.approx(10.0 - 0.19 * 1.4)
    short = pass_hitbox((0.0, 0.0, 0.8), (1.0, 0.0, 0.0), 5.0, (10.0, 0.0, 0.0), 1.4, HITBOXES[1])
    assert short.enters_m is None
    assert short.miss_m == pytest.approx(5.0 - 0.19 * 1.4)


class Duel:
    """Two players who face each other in the open; the second walks across, the first fires a railgun."""

    def __init__(self) -> None:
        self.world: World = arena_world()
        self.commands = Commands(self.world.players.capacity)
        self.commands.add(Join(1, "Ann", 1))
        self.commands.add(Join(2, "Bob", 2))
        self.step()
        self.step()
        players = self.world.players
        self.motion, self.look = players[Motion], players[Look]
        self.ids = players.ids[:2].tolist()
        players[Arms].owned[0] |= 1 << ARMOURY.number("railgun")
        players[Arms].reserve[0, ARMOURY.number("railgun")] = 10
        for _ in range(60):
            self.place(0.0)
            self.aim(0.0)
            self.step()

    def place(self, side: float) -> None:
        """Put Ann at the origin of a free lane, and Bob 6 m in front of her and so far aside."""
        base = np.array(self.world.map.spawns[0].position)
        self.motion.position[0] = base
        self.motion.position[1] = base + np.array([6.0, side, 0.0])
        self.motion.velocity[:2] = 0.0

    def aim(self, side: float, *, fire: bool = False, rewind: int = 0, up: float = 0.9) -> None:
        self.commands.clear()
        yaw = math.atan2(side, 6.0)
        pitch = math.atan2(up - 0.857 * 1.4, math.hypot(6.0, side))
        self.commands.set_input(
            0, yaw=round(yaw * 32768 / math.pi), pitch=round(pitch * 32768 / math.pi), rewind=rewind,
            weapon=ARMOURY.number("railgun"), buttons=int(Button.FIRE) if fire else 0,
        )  # fmt: skip
        self.commands.set_input(1)

    def step(self) -> None:
        self.world.step(self.commands)

    def shots(self) -> list[Shot]:
        return shots_of_tick(self.world, events_of(self.world), dict(zip(self.ids, ("Ann", "Bob"), strict=True)))

    def shoot_at_where_he_was(self, ticks: int) -> Shot:
        """Bob goes aside by a metre in a tick; so many ticks later Ann fires at where he stood before it."""
        self.place(0.0)
        self.aim(0.0)
        self.step()
        for _ in range(ticks):
            self.place(1.0)
            self.aim(0.0)
            self.step()
        self.place(1.0)
        self.aim(0.0, fire=True, rewind=(ticks + 1) * REWIND_STEPS)
        self.step()
        (shot,) = self.shots()
        return shot


@pytest.fixture(scope="module")
def duel() -> Duel:
    return Duel()


def test_a_rewound_hit_tells_what_was_seen_and_what_the_present_would_have_made_of_it(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    shot = duel.shoot_at_where_he_was(4)
    assert (shot.name, shot.weapon, shot.rewind) == ("Ann", "railgun", 5 * REWIND_STEPS)
    assert shot.moment == shot.tick - 5
    (target,) = shot.targets
    (strike,) = shot.ray.strikes
    assert (target.name, strike.entity, strike.part) == ("Bob", duel.ids[1], "torso")
    assert strike.distance_m == pytest.approx(target.passages[1].enters_m, abs=1e-6)
    assert target.nearest.miss_m < 0.0
    assert target.feet_now[1] - target.feet[1] == pytest.approx(1.0, abs=0.05)
    assert min(passage.miss_m for passage in target.passages_now) > 0.5
    text = "\n".join(shot.lines())
    assert "83.3 ms ago (5.00 ticks), cap 200 ms" in text
    assert "torso HIT after 5." in text
    assert "would miss it by 7" in text
    assert f"hit Bob's torso for {strike.damage:.4g}" in shot.verdict()
    assert shot.damage == strike.damage > 0.0


def test_the_same_shot_without_rewind_misses_by_as_much_as_it_says(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    duel.place(1.0)
    duel.aim(0.0, fire=True)
    duel.step()
    (shot,) = duel.shots()
    assert shot.rewind == 0
    (target,) = shot.targets
    assert target.passages == target.passages_now
    assert target.nearest.box == "torso"
    assert 0.6 < target.nearest.miss_m < 0.8
    assert "nearest was Bob's torso, by 7" in shot.verdict()
    assert "no rewind" in "\n".join(shot.lines())


def test_a_wall_before_a_player_is_the_reason(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    duel.place(0.0)
    below = duel.motion.position[1].copy()
    duel.motion.position[1, 2] -= 40.0
    duel.commands.clear()
    duel.commands.set_input(
        0, pitch=round(-math.atan2(40.0 + 0.3, 6.0) * 32768 / math.pi), buttons=int(Button.FIRE),
        weapon=ARMOURY.number("railgun"),
    )  # fmt: skip
    duel.step()
    (shot,) = duel.shots()
    duel.motion.position[1] = below
    assert shot.ray.is_wall
    assert shot.ray.wall_m < 10.0
    if shot.targets:
        assert shot.targets[0].behind_wall
    assert "wall" in shot.verdict()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def rewind(world: World, commands: Commands) -> None:
        commands.rewind[:] = (world.tick * 37) % 3600  # up to the cap and beyond it
        position, rows = world.players[Motion].position, world.players.live_slots
        for row in rows[::2].tolist():  # every other one aims at the nearest
            away = position[rows] - position[row]
            reach = np.where(rows == row, np.inf, np.hypot(away[:, 0], away[:, 1]))
            x, y, z = away[int(np.argmin(reach))]
            commands.yaw[row] = round(math.atan2(y, x) * 32768 / math.pi) & 0xFFFF
            commands.pitch[row] = round(math.atan2(z - 0.3, float(reach.min())) * 32768 / math.pi)
            commands.buttons[row] |= Button.FIRE

    return record_script(tmp_path_factory.mktemp("shots") / "match.hitrec", ticks=240, change=rewind)


def all_shots(replay: Replay) -> list[tuple[int, Event]]:
    found = []
    replay.seek(replay.first_tick)
    while replay.step():
        found += [(replay.tick, event) for event in replay.events() if event.kind == "shot"]
    return found


def test_shots_are_numbered_from_one_in_the_order_of_events(recorded: Path) -> None:
    replay = Replay.open(recorded)
    fired = all_shots(replay)
    assert len(fired) > 30
    for number in (1, 2, len(fired) // 2, len(fired)):
        shot = explain(replay, number)
        tick, event = fired[number - 1]
        assert (shot.number, shot.tick, shot.entity) == (number, tick, event.actor)
        assert shot.ray.origin == event.position or len(shot.pellets) > 1
    with pytest.raises(ReplayError, match=f"the recording holds {len(fired)} shots; choose 1 to {len(fired)}"):
        explain(replay, len(fired) + 1)
    with pytest.raises(ReplayError, match="numbered from 1"):
        explain(replay, 0)


def test_every_explanation_agrees_with_what_was_judged(recorded: Path) -> None:
    replay = Replay.open(recorded)
    seen = {"hit": 0, "miss": 0, "rewound": 0, "pellets": 0}
    for tick in sorted({tick for tick, _ in all_shots(replay)})[:60]:
        shots = explain_at(replay, tick)
        judged = judgement(replay.world)
        assert sum(len(shot.pellets) for shot in shots) == len(judged.pellets)
        assert sum(len(pellet.strikes) for shot in shots for pellet in shot.pellets) == len(judged.strikes)
        for shot in shots:
            seen["rewound"] += shot.rewind > 0
            seen["pellets"] += len(shot.pellets) > 1
            check(shot, seen)
    assert min(seen.values()) > 0, seen


def check(shot: Shot, seen: dict[str, int]) -> None:
    assert len(shot.targets) <= TARGETS_MAX
    targets = {target.entity: target for target in shot.targets}
    seen["hit" if shot.ray.strikes else "miss"] += 1
    for strike in shot.ray.strikes:
        passage = next(entry for entry in targets[strike.entity].passages if entry.box == strike.part)
        assert passage.enters_m == pytest.approx(strike.distance_m, abs=1e-6)
    for target in shot.targets:
        entered = [passage.enters_m for passage in target.passages if passage.enters_m is not None]
        if entered and target.entity not in {strike.entity for strike in shot.ray.strikes}:
            # What stood in the ray's way and was not hit was behind something that was.
            assert min(entered) > shot.ray.end_m - 1e-6
    document = json.loads(json.dumps(shot.to_dict()))
    assert document["text"] == shot.lines()
    assert document["verdict"] == shot.verdict()


def test_by_tick_and_player_only_that_players_shots_are_told(recorded: Path) -> None:
    replay = Replay.open(recorded)
    tick, event = all_shots(replay)[5]
    shots = explain_at(replay, tick, event.actor)
    assert {shot.entity for shot in shots} == {event.actor}
    quiet = next(t for t in range(1, 240) if t not in {at for at, _ in all_shots(replay)})
    with pytest.raises(ReplayError, match=f"tick {quiet}: no shot that anybody fired in it"):
        explain_at(replay, quiet)


def test_notes_of_shots_find_the_tick_without_playing_all(tmp_path: Path) -> None:
    path = record_script(tmp_path / "plain.hitrec", ticks=120)
    replay = Replay.open(path)
    gathered = EventNotes(replay.world)
    notes: list[tuple[int, str, dict[str, Any]]] = []
    while replay.step():
        gathered.take()
        if replay.tick % 60 == 0 and (values := gathered.note()) is not None:
            notes.append((replay.tick, "events", values))
    entity = all_shots(replay)[-1][1].actor
    notes.append((119, "refusal", {"entity": entity, "reason": "view_past", "claimed": 30.0, "allowed": 12.0}))
    noted = Replay.open(record_script(tmp_path / "noted.hitrec", ticks=120, notes=notes))
    count = len(all_shots(replay))
    for number in (1, count // 2, count):
        shot = explain(noted, number)
        assert shot.tick == explain(replay, number).tick
        assert explain_at(noted, shot.tick, shot.entity)[0].number <= number
    if explain(noted, count).tick >= 119:
        assert "was refused (view_past)" in "\n".join(explain(noted, count).lines())


def test_the_shooters_connection_is_told_from_the_newest_note_before(tmp_path: Path) -> None:
    def network(rtt_ms: int, *, older: bool = False) -> dict[str, bytes]:
        values = dict.fromkeys(NETWORK_COLUMNS, 1) | {"rtt_ms": rtt_ms, "loss": 250, "entity": entity, "lead": 3 * 128}
        return {
            name: np.array([values[name]], dtype).tobytes()
            for name, dtype in NETWORK_COLUMNS.items()
            if not older or name not in LATER_COLUMNS
        }

    replay = Replay.open(record_script(tmp_path / "plain.hitrec", ticks=120))
    tick, event = all_shots(replay)[-1]
    entity = event.actor
    notes: list[tuple[int, str, dict[str, Any]]] = [(1, "network", network(20)), (tick, "network", network(60))]
    noted = Replay.open(record_script(tmp_path / "noted.hitrec", ticks=120, notes=notes))
    shot = explain_at(noted, tick, entity)[0]
    assert (shot.network["rtt_ms"], shot.network["loss"]) == (60.0, 0.025)
    assert "round trip 60 ms ± 1 ms, 2.5 % lost" in "\n".join(shot.lines())
    assert explain_at(replay, tick, entity)[0].network == {}
    notes[1] = (tick, "network", network(60, older=True))
    old = explain_at(Replay.open(record_script(tmp_path / "old.hitrec", ticks=120, notes=notes)), tick, entity)[0]
    assert (old.network["rtt_ms"], old.lead_ms, old.interpolation_ms, old.rewind_words()) == (60.0, None, None, "")


def test_a_rewind_is_told_by_its_parts(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    shot = duel.shoot_at_where_he_was(4)  # 83.3 ms
    known = replace(shot, network={"rtt_ms": 40.0, "jitter_ms": 3.0, "loss": 0.0, "lead": 256.0, "view": 1280.0})
    assert known.lead_ms == pytest.approx(1000.0 / 60)
    assert known.interpolation_ms == pytest.approx(shot.rewind_ms - 40.0 - 1000.0 / 60)
    words = "round trip 40 ms + lead of inputs 17 ms + interpolation 27 ms"
    assert known.rewind_words() == words
    assert f"  saw      these are {words}" in known.lines()
    assert known.to_dict()["interpolation_ms"] == known.interpolation_ms
    late = replace(known, network=known.network | {"rtt_ms": 90.0})
    assert late.rewind_words() == "round trip 90 ms + lead of inputs 17 ms - dead reckoning 23 ms"
    capped = replace(known, rewind_max=shot.rewind, network=known.network | {"view": 5.0 * 256 + 768.0})
    assert "which is the cap, and 50 ms less than it was shown" in "\n".join(capped.lines())
    without = replace(known, network={})
    assert shot_plate(known, duel.world.map) != shot_plate(without, duel.world.map)
    assert replace(known, rewind=0).rewind_words() == ""


def test_a_game_without_a_judgement_says_so() -> None:
    bare = SimpleNamespace(services={}, game=SimpleNamespace(name="bare"))
    with pytest.raises(ReplayError, match="game 'bare': keeps no judgement"):
        judgement(cast(World, bare))


def test_the_dead_and_the_shooter_are_no_targets(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    duel.world.players[Vitals].alive[1] = False
    duel.place(0.0)
    duel.aim(0.0, fire=True)
    duel.step()
    (shot,) = duel.shots()
    duel.world.players[Vitals].alive[1] = True
    assert shot.targets == ()
    assert "passed nobody" in shot.verdict()


def test_a_picture_shows_bodies_where_they_were_judged_and_where_they_are(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    shot = duel.shoot_at_where_he_was(4)
    with Image.open(io.BytesIO(shot_plate(shot, duel.world.map))) as picture:
        assert picture.size == PLATE_SIZE
        moved = np.asarray(picture.convert("RGB")).astype(np.int64)
    still = replace(shot, targets=tuple(replace(t, feet_now=t.feet, height_now=t.height) for t in shot.targets))
    with Image.open(io.BytesIO(shot_plate(still, duel.world.map))) as picture:
        unmoved = np.asarray(picture.convert("RGB")).astype(np.int64)
    assert np.abs(moved - unmoved).max(axis=2).astype(bool).sum() > 500  # the ghosts
    for colour in ((110, 231, 200), (242, 193, 78)):
        assert (np.abs(moved - colour).max(axis=2) < 30).sum() > 200
    nobody = replace(shot, targets=(), pellets=tuple(replace(pellet, strikes=()) for pellet in shot.pellets))
    assert shot_plate(nobody, duel.world.map).startswith(b"\x89PNG")


def test_walls_are_drawn_where_the_plane_of_the_picture_cuts_them(duel: Duel) -> None:
    duel.world.players[Arms].cooldown_s[0] = 0.0
    duel.place(0.0)
    duel.aim(0.0, fire=True, up=1.2)
    duel.step()
    (shot,) = duel.shots()
    frame = _Frame(shot)
    lines = frame.cut(duel.world.map, 1)
    assert np.abs(lines[:, :, 1]).max() < 1e-9
    # The ray ends where one of these lines crosses it.
    below, above = lines[:, :, 2].min(axis=1), lines[:, :, 2].max(axis=1)
    ends = np.abs(lines[(below <= 0.0) & (above >= 0.0)][:, :, 0] - shot.ray.wall_m).min()
    assert shot.ray.is_wall
    assert ends < 0.3
