"""Damage, death, score and ammunition in the arena, through whole ticks."""

import numpy as np
import pytest

from sim.commands import Button
from sim.components import Motion
from sim.games.arena.combat import Combat
from sim.games.arena.combat_kernels import find_owners
from sim.games.arena.rules import ARMOURY, ArenaRules
from sim.worldmap import Trigger, TriggerKind
from tests.sim.arena_match import HZ, TORSO_Z, Arena, Happening

HEAD_Z, LEGS_Z = 1.25, 0.25
FULL = ArenaRules(spawn_health=100.0)


def first(happened: list[Happening], kind: str) -> Happening:
    return next(event for event in happened if event.kind == kind)


@pytest.mark.parametrize(("z", "points", "part"), [(HEAD_Z, 14.0, 1), (TORSO_Z, 7.0, 2), (LEGS_Z, 5.25, 3)])
def test_a_hit_counts_by_the_part_and_is_told(z: float, points: float, part: int) -> None:
    arena = Arena()
    shooter, victim = arena.duel("machinegun", z=z)
    happened = arena.tick()
    assert arena.vitals.health[victim] == pytest.approx(100.0 - points)
    hit, shot = first(happened, "hit"), first(happened, "shot")
    assert (hit.actor, hit.target, hit.value) == (arena.id_of(shooter), arena.id_of(victim), int(points) * 8 + part)
    assert (shot.actor, shot.target, shot.value) == (hit.actor, hit.target, 1)


def test_armour_takes_its_part_until_it_is_gone() -> None:
    arena = Arena()
    _, victim = arena.duel("railgun")
    arena.vitals.health[victim] = 200.0
    arena.vitals.armour[victim] = 50.0
    arena.tick()
    assert arena.vitals.armour[victim] == 0.0
    assert arena.vitals.health[victim] == pytest.approx(150.0, abs=0.1)
    arena.vitals.health[victim], arena.vitals.armour[victim] = 90.0, 100.0
    arena.run(1.5)
    assert arena.vitals.armour[victim] == pytest.approx(34.0)
    assert arena.vitals.health[victim] == pytest.approx(56.0)


def test_quad_multiplies_and_the_battle_suit_halves() -> None:
    arena = Arena()
    shooter, victim = arena.duel("machinegun")
    arena.powers.quad_s[shooter] = 5.0
    arena.tick()
    assert arena.vitals.health[victim] == pytest.approx(79.0)
    arena.powers.battle_suit_s[victim] = 5.0
    arena.run(0.1)
    assert arena.vitals.health[victim] == pytest.approx(68.5)


@pytest.mark.parametrize(("fraction", "health"), [(0.0, 100.0), (0.25, 98.25), (1.0, 93.0)])
def test_friendly_fire_is_what_the_rules_say(fraction: float, health: float) -> None:
    arena = Arena(rules=ArenaRules(spawn_health=100.0, friendly_fire=fraction))
    _, victim = arena.duel("machinegun", teams=(1, 1))
    arena.tick()
    assert arena.vitals.health[victim] == pytest.approx(health)


def test_without_teams_everybody_is_an_opponent() -> None:
    arena = Arena(rules=ArenaRules(spawn_health=100.0, teams=0))
    _, victim = arena.duel("machinegun")
    arena.tick()
    assert arena.vitals.health[victim] == pytest.approx(93.0)


def test_own_rockets_hurt_half_and_lift() -> None:
    arena = Arena()
    slot = arena.join()
    arena.place(slot, 0.0, 0.0, 0.0)
    arena.arm(slot, "rocket_launcher", reserve=1)
    arena.aim(slot, (0.4, 0.0, 0.0))
    arena.tick(12)
    health = float(arena.vitals.health[slot])
    assert 50.0 <= health < 75.0
    assert arena.motion.velocity[slot, 2] > 1.0 or arena.motion.position[slot, 2] > 0.3
    assert arena.score.points[slot] == 0


def test_a_kill_scores_for_the_killer_and_its_team_and_is_told() -> None:
    arena = Arena()
    shooter, victim = arena.duel("railgun")
    arena.arms.reserve[shooter] = 1
    happened = arena.tick()
    kill = first(happened, "kill")
    assert (kill.actor, kill.target) == (arena.id_of(shooter), arena.id_of(victim))
    assert kill.value == ARMOURY.number("railgun") * 8 + 2
    assert not arena.vitals.alive[victim]
    score = arena.score
    assert (score.points[shooter], score.kills[shooter], score.deaths[victim]) == (1, 1, 1)
    assert arena.match.team_points[0].tolist() == [0, 1, 0, 0, 0]


def test_killing_a_team_mate_costs_a_point() -> None:
    arena = Arena(rules=ArenaRules(spawn_health=100.0, friendly_fire=1.0))
    shooter, victim = arena.duel("railgun", teams=(2, 2))
    arena.tick()
    assert (arena.score.points[shooter], arena.score.kills[shooter], arena.score.deaths[victim]) == (-1, 0, 1)
    assert arena.match.team_points[0, 2] == -1


def test_dying_by_the_own_rocket_costs_a_point() -> None:
    arena = Arena()
    slot = arena.join(team=1)
    arena.vitals.health[slot] = 5.0
    arena.place(slot, 0.0, 0.0, 0.0)
    arena.arm(slot, "rocket_launcher", reserve=1)
    arena.aim(slot, (0.4, 0.0, 0.0))
    arena.until("kill", within=0.5)
    assert (arena.score.points[slot], arena.score.kills[slot], arena.score.deaths[slot]) == (-1, 0, 1)


def test_falling_into_the_void_kills_in_one_tick_and_costs_a_point() -> None:
    arena = Arena()
    slot = arena.join(team=2)
    arena.vitals.armour[slot] = 200.0
    arena.place(slot, 0.0, 0.0, -21.5)
    kill = first(arena.tick(), "kill")
    assert (kill.actor, kill.target) == (0, arena.id_of(slot))
    assert (arena.score.points[slot], arena.match.team_points[0, 2]) == (-1, -1)


@pytest.mark.parametrize("hz", HZ)
def test_a_hurting_place_kills_after_the_same_time_at_any_rate(hz: int) -> None:
    hurt = Trigger(TriggerKind.HURT, (-30.0, -5.0, -1.0), (30.0, 30.0, 2.0), amount=80.0)
    arena = Arena(hz=hz, triggers=(hurt,))
    slot = arena.join()
    arena.vitals.armour[slot] = 50.0  # of no use against the world
    health = float(arena.vitals.health[slot])
    assert abs(arena.until("kill", within=3.0) - health / 80.0) <= 1.0 / hz + 1e-9
    assert not any(event.kind == "hit" for event in arena.log)


def test_who_is_dead_already_is_not_killed_twice_in_a_tick() -> None:
    arena = Arena()
    shooter, victim = arena.duel("railgun")
    second = arena.join(team=1)
    arena.place(second, 2.5, 2.5, 0.0, fixed=True)
    arena.arm(second, "railgun", reserve=5)
    arena.aim(second, (2.5, 0.0, TORSO_Z))
    arena.vitals.health[victim], arena.vitals.alive[victim] = 100.0, True
    arena.arms.cooldown_s[[shooter, second]] = 0.0
    before = int(arena.score.kills.sum()), int(arena.score.deaths.sum())
    happened = arena.tick()
    assert [event.kind for event in happened].count("shot") == 2
    assert [event.kind for event in happened].count("kill") == 1
    assert (arena.score.kills.sum(), arena.score.deaths.sum()) == (before[0] + 1, before[1] + 1)


def test_two_who_shoot_each_other_in_one_tick_both_die() -> None:
    arena = Arena()
    one, two = arena.duel("railgun")
    arena.arm(two, "railgun", reserve=5)
    arena.aim(two, (0.0, 0.0, TORSO_Z))
    arena.tick()
    assert not arena.vitals.alive[[one, two]].any()
    assert arena.score.kills[[one, two]].tolist() == [1, 1]


@pytest.mark.parametrize("weapon", ARMOURY.names[1:])
def test_each_weapon_kills_in_the_same_time_at_any_rate(weapon: str) -> None:
    times = {}
    for hz in HZ:
        arena = Arena(hz=hz, rules=ArenaRules(spawn_health=100.0, self_damage=0.0))
        arena.duel(weapon, distance=1.0 if weapon == "gauntlet" else 2.5)
        times[hz] = arena.until("kill", within=4.0)
    for hz in HZ:
        assert abs(times[hz] - times[128]) <= 1.0 / hz + 1.0 / 128 + 1e-9, times


def test_a_hit_pushes_along_the_shot() -> None:
    arena = Arena()
    _, victim = arena.duel("machinegun")
    arena.tick()
    assert arena.motion.velocity[victim, 0] > 0.1


@pytest.mark.parametrize("hz", HZ)
def test_rounds_go_and_an_empty_magazine_is_reloaded_from_the_reserve(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.arm(slot, "machinegun", loaded=5, reserve=7)
    arena.held[slot] = {"buttons": int(Button.FIRE)}
    arena.run(0.45)
    assert arena.arms.loaded[slot, 1] == 0
    assert sum(event.kind == "shot" for event in arena.log) == 5
    arena.run(1.2)
    assert (arena.arms.loaded[slot, 1], arena.arms.reserve[slot, 1]) == (0, 7)
    arena.run(0.45 + 1.0)
    assert sum(event.kind == "shot" for event in arena.log) == 12
    assert (arena.arms.loaded[slot, 1], arena.arms.reserve[slot, 1]) == (0, 0)
    assert not any(event.kind == "shot" for event in arena.run(1.0))


@pytest.mark.parametrize("hz", HZ)
def test_reloading_on_wish_takes_its_time_and_keeps_all_rounds(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.arm(slot, "machinegun", loaded=10, reserve=20)
    arena.held[slot] = {"buttons": int(Button.RELOAD)}
    arena.tick()
    arena.held[slot] = {"buttons": int(Button.FIRE)}
    assert abs(arena.until("shot", within=2.0) - 1.6) <= 1.0 / hz + 1e-9
    assert arena.arms.loaded[slot, 1] + arena.arms.reserve[slot, 1] == 29


@pytest.mark.parametrize("hz", HZ)
def test_a_changed_weapon_fires_after_a_moment_and_one_not_owned_is_not_taken(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.held[slot] = {"weapon": ARMOURY.number("bfg"), "buttons": 0}
    arena.tick()
    assert arena.arms.weapon[slot] == 1
    arena.held[slot] = {"weapon": 200, "buttons": 0}
    arena.tick()
    assert arena.arms.weapon[slot] == 1
    arena.held[slot] = {"weapon": 2, "buttons": int(Button.FIRE)}
    assert abs(arena.until("shot", within=1.0) - 0.25) <= 1.0 / hz + 1e-9
    assert first(arena.log, "shot").value == 2


def test_a_new_life_begins_with_the_first_weapons_only() -> None:
    arena = Arena()
    slot = arena.join()
    arena.arm(slot, "bfg", reserve=5)
    arena.powers.quad_s[slot] = 20.0
    arena.place(slot, 0.0, 0.0, -100.0)
    arena.until("spawned", within=4.0)
    assert arena.arms.owned[slot] == 0b110 | 1 << ARMOURY.number("gauntlet")
    assert (arena.arms.weapon[slot], arena.arms.loaded[slot, 1], arena.arms.reserve[slot, 1]) == (1, 40, 80)
    assert arena.arms.reserve[slot, ARMOURY.number("bfg")] == 0
    assert arena.powers.quad_s[slot] == 0.0


@pytest.mark.parametrize(("team", "hurt"), [(2, True), (1, False)])
def test_a_rocket_outlives_its_owner_without_scoring_and_spares_former_mates(team: int, hurt: bool) -> None:
    arena = Arena()
    shooter, victim = arena.duel("rocket_launcher", distance=8.0, teams=(1, team))
    arena.tick()
    del arena.held[shooter], arena.places[shooter]
    arena.leave(shooter)
    arena.vitals.health[victim] = 60.0
    happened = arena.run(0.5)
    assert any(event.kind == "blast" and event.actor == 0 for event in happened)
    assert bool(arena.vitals.alive[victim]) is not hurt
    assert (arena.score.points[victim], arena.score.deaths[victim]) == (0, int(hurt))
    assert arena.match.team_points[0].tolist() == [0] * 5


def test_a_player_in_the_place_of_one_who_left_does_not_get_its_kills() -> None:
    arena = Arena()
    shooter, victim = arena.duel("rocket_launcher", distance=8.0)
    arena.tick()
    del arena.held[shooter], arena.places[shooter]
    arena.leave(shooter)
    arena.tick()
    players = arena.world.players
    players.free_head = (players.free_head - 1) % players.capacity  # the very slot is given out next
    players.free_queue[players.free_head], players.free_queue[(players.free_head - 2) % players.capacity] = (
        shooter,
        1000,
    )
    newcomer = arena.join(team=1)
    arena.run(0.5)
    assert not arena.vitals.alive[victim]
    assert arena.score.points[newcomer] == 0


def test_projectiles_without_room_are_counted() -> None:
    arena = Arena()
    shooter, _ = arena.duel("rocket_launcher")
    table = arena.world.table("projectile")
    arena.held[shooter] = {}
    slots = table.allocate_many(table.capacity)
    table[Motion].position[slots] = (0.0, 50.0, 20.0)
    arena.flying.left_s[slots], arena.flying.weapon[slots] = 9.0, ARMOURY.number("rocket_launcher")
    arena.aim(shooter, (2.5, 0.0, TORSO_Z))
    arena.tick()
    combat = arena.world.services[Combat]
    assert combat.projectiles_dropped == 1
    arena.flying.left_s[slots] = 1e-3
    arena.held[shooter] = {}
    arena.tick()
    assert table.live_count == 0
    assert combat.counters[2] == table.capacity - 1024  # blasts beyond the room for them


def test_a_player_out_of_reach_of_a_blast_feels_nothing() -> None:
    arena = Arena()
    shooter, victim = arena.duel("rocket_launcher", distance=9.0, z=0.0)
    arena.aim(shooter, (5.0, 0.0, 0.0))
    arena.run(0.4)
    assert any(event.kind == "blast" for event in arena.log)
    assert arena.vitals.health[victim] == 100.0
    assert np.abs(arena.motion.velocity[victim]).max() < 0.5


def test_owners_of_projectiles_are_found_as_the_table_resolves_them() -> None:
    arena = Arena()
    players = arena.world.players
    rows = [arena.join() for _ in range(4)]
    gone, kept = players.id_of(rows[1]), players.id_of(rows[2])
    arena.leave(rows[1])
    arena.tick()
    owners = np.array([kept, gone, 0, kept ^ 1 << 30, 1 << 23, players.id_of(rows[3])], np.uint64)
    slots = np.array([0, 1, 2, 3, 4, 5], np.int32)
    found = np.full(6, -7, np.int32)
    find_owners(slots, owners, players.ids, players.slot_base, found)
    assert found.tolist() == players.resolve(owners).tolist()
    assert found.tolist() == [rows[2], -1, -1, -1, -1, rows[3]]
