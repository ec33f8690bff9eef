"""The past is what it was, to the bit; shots are judged by it and by nothing else."""

import numpy as np
import pytest

from sim.arrays import F64
from sim.commands import REWIND_STEPS, Button, Join
from sim.components import Motion, Stance
from sim.errors import DeclarationError, SnapshotError
from sim.games.arena.rules import ArenaRules
from sim.geometry import Geometry
from sim.hitscan import Judgement
from sim.motion_kernels import TELEPORTED
from sim.rewind import PoseHistory, history_depth, whole_ticks_back
from sim.rewind_kernels import ticks_back
from sim.snapshot import capture, restore, state_hash
from sim.weapons import NoShot
from sim.worldmap import Trigger, TriggerKind
from tests.sim.arena_match import HZ, TORSO_Z, Arena
from tests.sim.boxes import box, floor, world_of
from tools.bench.rewind import NumpyJudge, Range

Kept = dict[int, tuple[F64, F64, list[int], list[int], list[int]]]
RULES = ArenaRules(spawn_health=100.0, respawn_s=0.2)


def history_of(arena: Arena) -> PoseHistory:
    found = arena.world.memories[PoseHistory]
    assert isinstance(found, PoseHistory)
    return found


def restless(hz: int = 60) -> Arena:
    """Players who walk, crouch, are teleported, die, come back and leave, so that slots are reused."""
    gate = Trigger(TriggerKind.TELEPORT, (3.0, -30.0, 0.0), (4.0, 30.0, 2.0), vector=(-12.0, 3.0, 0.0), yaw=9000)
    lava = Trigger(TriggerKind.HURT, (-30.0, 14.0, -1.0), (30.0, 30.0, 2.0), amount=400.0)
    arena = Arena(hz=hz, rules=RULES, triggers=(gate, lava))
    for team in (1, 2, 1, 2, 1):
        arena.place(arena.join(team=team), 2.0 * team, 2.0, 0.0)
    return arena


def stir(arena: Arena, rng: np.random.Generator) -> None:
    for slot in arena.world.players.live_slots.tolist():
        if slot not in arena.held or rng.random() < 0.1:
            arena.held[slot] = {
                "buttons": int(rng.choice([0, 0, Button.CROUCH, Button.JUMP, Button.FIRE])),
                "move_forward": 127, "move_right": int(rng.integers(-127, 128)), "yaw": int(rng.integers(0, 65536)),
                "rewind": int(rng.integers(0, 65536)) if rng.random() < 0.2 else int(rng.integers(0, 3072)),
            }  # fmt: skip
    if rng.random() < 0.02:
        gone = int(rng.choice(arena.world.players.live_slots))
        arena.leave(gone)
        arena.held.pop(gone, None)
    if arena.world.players.live_count < 5:
        arena.commands.add(Join(7, "another"))


def keep(arena: Arena, kept: Kept) -> None:
    """What the world was when its shots were judged; who dies in the tick stood until then."""
    players, heights = arena.world.players, np.where(arena.world.players[Stance].flags & 2, 1.0, 1.4)
    died = [
        players.find(event.target) for event in arena.log if event.kind == "kill" and event.tick == arena.world.tick
    ]
    alive = arena.vitals.alive.copy()
    alive[[slot for slot in died if slot >= 0]] = True
    ids = np.where(alive, players.ids, 0).tolist()
    flags = (players[Stance].flags & TELEPORTED).tolist()
    kept[arena.world.tick] = (arena.motion.position.copy(), heights, ids, arena.vitals.born.tolist(), flags)


def expected(kept: Kept, tick: int, row: int, rewind: int) -> tuple[tuple[float, ...], float] | None:
    back = -(-rewind // REWIND_STEPS)
    feet, height, ids, _, flags = kept[tick - back]
    _, _, now_ids, born, _ = kept[tick]
    if ids[row] == 0 or ids[row] != now_ids[row] or tick - back < born[row]:
        return None
    part = (REWIND_STEPS * back - rewind) / REWIND_STEPS
    if part == 0.0:
        return tuple(feet[row].tolist()), float(height[row])
    after, tall, _, _, turned = kept[tick - back + 1]
    if turned[row] != flags[row]:
        return tuple(feet[row].tolist()), float(height[row])
    at = [a + (b - a) * part for a, b in zip(feet[row].tolist(), after[row].tolist(), strict=True)]
    return tuple(at), float(height[row] + (tall[row] - height[row]) * part)


@pytest.mark.parametrize("hz", HZ)
def test_every_moment_of_the_last_second_is_what_the_world_was(hz: int) -> None:
    arena, rng, kept = restless(hz), np.random.default_rng(hz), Kept()
    history, compared, absent = history_of(arena), 0, 0
    for _ in range(4 * hz):
        stir(arena, rng)
        arena.tick()
        keep(arena, kept)
        if arena.world.tick % 7 or min(kept) + hz > arena.world.tick:
            continue
        for back in range(hz + 1):
            for rewind in (REWIND_STEPS * back, max(REWIND_STEPS * back - int(rng.integers(1, 256)), 0)):
                for row in range(arena.world.players.high_water):
                    found = history.pose(row, rewind)
                    assert found == expected(kept, arena.world.tick, row, rewind), (row, rewind)
                    compared, absent = compared + (found is not None), absent + (found is None)
    flags = np.array([entry[4] for entry in kept.values()])
    assert compared > 1000
    assert absent > 50
    assert np.ptp(flags, axis=0).any()  # somebody went through the gate
    assert history.poses(0).feet[history.poses(0).there].any()


def test_a_restored_world_has_the_past_that_its_shots_may_ask_for_and_the_same_future() -> None:
    arena, other, rng = restless(), restless(), np.random.default_rng(4)
    for _ in range(90):
        stir(arena, rng)
        arena.tick()
    data = capture(arena.world)
    restore(other.world, data)
    assert capture(other.world) == data
    for rewind in range(0, arena.world.rewind_max + 1, 37):
        for row in range(arena.world.players.high_water):
            assert history_of(other).pose(row, rewind) == history_of(arena).pose(row, rewind)
    assert not history_of(other).holds(REWIND_STEPS * (arena.world.rewind_ticks_max + 1))
    other.held.update(arena.held)
    for _ in range(40):
        for slot in arena.world.players.live_slots.tolist():
            arena.aim(slot, (0.0, 5.0, 0.0))
            arena.held[slot] |= {"rewind": 2999, "move_forward": 90}
        other.held = {slot: dict(wish) for slot, wish in arena.held.items()}
        assert arena.tick() == other.tick()
        assert state_hash(other.world) == state_hash(arena.world)


def test_a_capture_for_another_rewind_is_refused() -> None:
    arena = restless()
    world = arena.world
    other = type(world)(world.game, world.map, world.geometry, max_rewind_ms=150)
    with pytest.raises(SnapshotError, match="layout"):
        restore(other, capture(world))


@pytest.mark.parametrize("wrong", [-1, 1001])
def test_a_rewind_out_of_range_is_refused_by_name(wrong: int) -> None:
    arena = restless()
    with pytest.raises(DeclarationError, match="max_rewind_ms"):
        type(arena.world)(arena.world.game, arena.world.map, arena.world.geometry, max_rewind_ms=wrong)


def passing(hz: int = 60, *, speed: float = 6.0, ticks: int = 40) -> tuple[Arena, int, int]:
    """A shooter at the origin, and a victim who was carried sideways along y at x = 5, tick by tick."""
    arena = Arena(hz=hz, rules=RULES)
    shooter, victim = arena.join(team=1), arena.join(team=2)
    arena.place(shooter, 0.0, 0.0, 0.0, fixed=True)
    arena.arm(shooter, "railgun", reserve=30)
    for tick in range(ticks):
        arena.places[victim] = (5.0, speed * (tick - ticks) / hz, 0.0)
        arena.tick()
    return arena, shooter, victim


def fire_at(arena: Arena, shooter: int, at: tuple[float, float, float], rewind: int) -> list[int]:
    arena.arms.cooldown_s[shooter] = 0.0
    arena.aim(shooter, at)
    arena.held[shooter]["rewind"] = rewind
    arena.tick()
    arena.held[shooter] = {"buttons": 0}
    return [int(row) for row in arena.world.services[Judgement].strikes[:, 1]]


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize("steps", [0, 256, 700, 1024])
def test_a_shot_hits_where_its_shooter_saw_the_victim_and_only_there(hz: int, steps: int) -> None:
    arena, shooter, victim = passing(hz, speed=20.0)
    place = arena.places[victim]
    arena.places[victim] = (5.0, place[1] + 20.0 / hz, 0.0)
    seen = arena.places[victim][1] - 20.0 / hz * steps / REWIND_STEPS
    assert steps <= arena.world.rewind_max
    assert fire_at(arena, shooter, (5.0, seen, TORSO_Z), steps) == [victim]
    ways = arena.world.services[Judgement].ways[0]
    assert ways[0] == 0.0
    arena, shooter, victim = passing(hz, speed=20.0)
    arena.places[victim] = (5.0, place[1] + 20.0 / hz, 0.0)
    assert fire_at(arena, shooter, (5.0, seen + 0.6, TORSO_Z), steps) == []


def test_no_shot_reaches_farther_back_than_the_cap() -> None:
    arena, shooter, victim = passing(60, speed=6.0)
    now = arena.places[victim][1]
    # At 60 Hz and 200 ms a shot goes back twelve ticks: the victim, at rest since, has been at `now` for them.
    for _ in range(12):
        arena.tick()
    assert fire_at(arena, shooter, (5.0, now - 0.55, TORSO_Z), 65535) == []
    arena, shooter, victim = passing(60, speed=6.0)
    for _ in range(5):
        arena.tick()
    assert fire_at(arena, shooter, (5.0, now - 0.55, TORSO_Z), 65535) == [victim]


def test_judging_the_past_moves_nobody() -> None:
    arena, shooter, victim = passing(60, speed=20.0)
    place = arena.places.pop(victim)
    before = arena.motion.position.copy()
    arena.vitals.health[victim] = 1e4
    assert fire_at(arena, shooter, (5.0, place[1] - 20.0 / 60 * 4, TORSO_Z), 5 * 256) == [victim]
    assert arena.motion.position[victim].tolist() == before[victim].tolist()


def test_who_died_and_lives_again_is_not_hit_in_its_former_life() -> None:
    arena, shooter, victim = passing(60, speed=0.0)
    arena.places.pop(victim)
    for lives in (True, False):
        arena.vitals.born[victim] = arena.world.tick - (20 if lives else 2)
        arena.place(victim, -20.0, 9.0, 0.0)
        assert fire_at(arena, shooter, (5.0, 0.0, TORSO_Z), 5 * 256) == ([victim] if lives else [])
        arena.vitals.health[victim] = 100.0
        arena.vitals.alive[victim] = True
        for _ in range(8):
            arena.place(victim, 5.0, 0.0, 0.0)
            arena.tick()


def test_who_took_the_slot_of_one_who_left_is_not_hit_in_its_place() -> None:
    arena, shooter, victim = passing(60, speed=0.0)
    history = history_of(arena)
    ids = history.arrays[5]
    ids[:, victim] += np.uint64(1 << 24)  # the former occupant's
    assert history.pose(victim, 0) is not None
    arena.tick()
    assert fire_at(arena, shooter, (5.0, 0.0, TORSO_Z), 5 * 256) == []
    assert fire_at(arena, shooter, (5.0, 0.0, TORSO_Z), 0) == [victim]


@pytest.mark.parametrize("shooters", [1, 40])
def test_all_shots_in_one_call_are_judged_as_one_at_a_time(shooters: int) -> None:
    walls = [box((x, y, 0.0), (x + 0.5, y + 3.0, 2.5)) for x in (-8.0, 0.0, 7.0) for y in (-9.0, -2.0, 5.0)]
    geometry = Geometry.build(world_of(floor(30.0), *walls))
    eyes = np.random.default_rng(3).uniform((-12.0, -12.0, 1.2), (12.0, 12.0, 1.2), (60, 3))
    spot = Range(geometry, eyes, shooters=shooters, far=9)
    assert spot.judge() == shooters
    judged, found = spot.judged, []
    for pellet in range(shooters):
        first, count = judged.pellets[pellet, 3:5]
        hit = (
            (*judged.strikes[first, 1:3].tolist(), judged.blows[first, 0]) if count else (-1, 0, judged.ways[pellet, 7])
        )
        found.append(hit)
    theirs = NumpyJudge(spot).judge()
    assert [hit[:2] for hit in found] == [hit[:2] for hit in theirs]
    assert [hit[2] for hit in found] == pytest.approx([hit[2] for hit in theirs], abs=1e-9)
    assert shooters == 1 or sum(hit[0] >= 0 for hit in found) > 10


@pytest.mark.parametrize(("hz", "depth"), [(20, 32), (60, 64), (128, 256)])
def test_the_ring_holds_a_second_and_its_ends(hz: int, depth: int) -> None:
    assert history_depth(hz) == depth >= hz + 2


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize(("steps", "made_up"), [(0, 0), (300, 300), (512, 512), (65535, None)])
def test_a_projectile_makes_up_for_its_shooters_rewind_within_100_ms(hz: int, steps: int, made_up: int | None) -> None:
    arena = Arena(hz=hz, rules=RULES)
    shooter = arena.join()
    arena.place(shooter, 0.0, 0.0, 0.0, fixed=True)
    arena.arm(shooter, "plasma", reserve=5)
    arena.aim(shooter, (20.0, 0.0, 1.2))
    arena.held[shooter]["rewind"] = steps
    arena.tick()
    behind = 0.1 * hz * REWIND_STEPS // 1 if made_up is None else min(made_up, 0.1 * hz * REWIND_STEPS)
    flight = arena.world.table("projectile")
    slot = int(flight.live_slots[0])
    flown = flight[Motion].position[slot, 0] - 0.1
    assert flown == pytest.approx(50.0 / hz * (1.0 + behind / REWIND_STEPS), rel=1e-4)
    assert arena.flying.left_s[slot] == pytest.approx(10.0 - (1.0 + behind / REWIND_STEPS) / hz)
    before = flight[Motion].position[slot, 0]
    arena.tick()
    assert flight[Motion].position[slot, 0] - before == pytest.approx(50.0 / hz, rel=1e-4)


@pytest.mark.parametrize("crossed", [1, 2, 3])
def test_each_step_of_catching_up_meets_the_poses_of_its_own_time(crossed: int) -> None:
    # Plasma flies 50 / 60 m a tick: five ticks behind, it passes x = 2.9 in the step that is two ticks before this one.
    arena, shooter, victim = passing(60, speed=0.0)
    arena.arm(shooter, "plasma", reserve=5)
    for back in range(6, -1, -1):
        arena.places[victim] = (2.9, 0.0 if back == crossed else -5.0, 0.0)
        if back:
            arena.tick()
    arena.aim(shooter, (20.0, 0.0, 1.199))
    arena.held[shooter]["rewind"] = 5 * REWIND_STEPS
    mine = arena.id_of(victim)
    struck = [event for event in arena.tick() if event.kind == "hit" and event.target == mine]
    assert len(struck) == (1 if crossed == 2 else 0)


def test_a_projectile_that_ends_while_it_catches_up_bursts_in_its_first_tick() -> None:
    arena = Arena(rules=RULES, parts=(box((2.0, -5.0, 0.0), (3.0, 5.0, 4.0)),))
    shooter = arena.join()
    arena.place(shooter, 0.0, 0.0, 0.0, fixed=True)
    arena.arm(shooter, "rocket_launcher", reserve=5)
    arena.aim(shooter, (20.0, 0.0, 1.2))
    arena.held[shooter]["rewind"] = 6 * REWIND_STEPS
    assert "blast" in {event.kind for event in arena.tick()}
    assert arena.world.table("projectile").live_count == 0


def test_a_refused_trigger_is_told_with_its_reason() -> None:
    arena = Arena(rules=RULES)
    slot = arena.join()
    arena.arm(slot, "railgun", reserve=5)
    told = []
    for buttons in (8, 0, 8, 8, 0, 8):
        arena.held[slot] = {"buttons": buttons}
        told += [(e.kind, e.actor, e.value) for e in arena.tick() if e.kind in {"shot", "no_shot"}]
    mine = arena.id_of(slot)
    assert told == [("shot", mine, 6), ("no_shot", mine, NoShot.RATE), ("no_shot", mine, NoShot.RATE)]
    assert next(event for event in arena.world.game.event_specs if event.name == "no_shot").range_m == 0.0


def test_python_and_kernels_agree_how_many_ticks_back_a_moment_lies() -> None:
    moments = range(3 * REWIND_STEPS + 1)
    assert [whole_ticks_back(rewind) for rewind in moments] == [ticks_back(rewind) for rewind in moments]
