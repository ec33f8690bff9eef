"""Joining, teams, names, spawning and the course of a match in the arena."""

import math

import numpy as np
import pytest

from sim.commands import Button, Join
from sim.components import Motion
from sim.games.arena.components import Name
from sim.games.arena.rules import ArenaRules
from sim.worldmap import ItemPoint, SpawnPoint
from tests.sim.arena_match import FAR, HZ, Arena, team_spawns


def test_joining_tells_the_ticket_and_a_new_player_lives_at_once() -> None:
    arena = Arena()
    arena.commands.add(Join(41, "anna"))
    kinds = {event.kind: event for event in arena.tick()}
    assert kinds["joined"].value == 41
    slot = arena.world.players.slot_of(kinds["joined"].actor)
    assert kinds["spawned"].actor == kinds["joined"].actor
    assert arena.vitals.alive[slot]
    assert arena.vitals.health[slot] == 100.0
    assert arena.world.players[Name].text[slot].tobytes().rstrip(b"\0") == b"anna"


def test_names_are_cut_to_whole_characters() -> None:
    arena = Arena()
    slot = arena.join(name="x" + "é" * 20)
    text = arena.world.players[Name].text[slot].tobytes().rstrip(b"\0")
    assert text.decode() == "x" + "é" * 15


def test_leaving_frees_the_place_and_a_stale_leave_is_nothing() -> None:
    arena = Arena()
    slot = arena.join()
    entity = arena.id_of(slot)
    arena.leave(slot)
    assert [(event.kind, event.actor) for event in arena.tick()] == [("left", entity)]
    arena.commands.leaves.append(type("Gone", (), {"entity": entity})())
    assert arena.tick() == []
    assert arena.world.players.live_count == 0


def test_a_full_arena_refuses_with_the_ticket_until_somebody_leaves() -> None:
    arena = Arena(rules=ArenaRules(teams=0))
    players = arena.world.players
    players.allocate_many(players.capacity)
    arena.commands.add(Join(9, "late"))
    refused = [event for event in arena.tick() if event.kind == "refused"]
    assert [event.value for event in refused] == [9]
    arena.leave(3)
    arena.commands.add(Join(10, "later"))
    happened = arena.tick()
    assert [event.value for event in happened if event.kind == "joined"] == [10]
    assert players.live_count == players.capacity


@pytest.mark.parametrize("teams", [2, 3, 4])
def test_players_without_a_wish_fill_the_smallest_team(teams: int) -> None:
    arena = Arena(rules=ArenaRules(teams=teams))
    for number in range(3 * teams):
        arena.commands.add(Join(number, "p"))
    arena.tick()
    counts = np.bincount(arena.vitals.team[arena.world.players.live_slots], minlength=teams + 1)
    assert counts.tolist() == [0] + [3] * teams


def test_a_wished_team_is_given_if_it_exists() -> None:
    arena = Arena()
    assert [int(arena.vitals.team[arena.join(team=2)]) for _ in range(3)] == [2, 2, 2]
    assert arena.vitals.team[arena.join(team=3)] == 1
    assert Arena(rules=ArenaRules(teams=0)).join(team=2) == 0


def test_changing_teams_costs_the_life_but_choosing_the_own_team_does_not() -> None:
    arena = Arena()
    slot = arena.join(team=1)
    arena.choose_team(slot, 1)
    arena.tick()
    assert arena.vitals.alive[slot]
    arena.choose_team(slot, 2)
    arena.tick()
    assert (arena.vitals.alive[slot], arena.vitals.team[slot], arena.score.deaths[slot]) == (False, 2, 1)
    assert arena.score.points[slot] == 0
    waited = arena.vitals.respawn_s[slot]
    arena.choose_team(slot, 1)
    arena.tick()
    assert arena.vitals.respawn_s[slot] < waited
    assert arena.score.deaths[slot] == 1


def test_a_team_that_does_not_exist_cannot_be_chosen() -> None:
    arena = Arena()
    slot = arena.join(team=1)
    for team in (3, 4):
        arena.choose_team(slot, team)
    arena.tick()
    assert (arena.vitals.alive[slot], arena.vitals.team[slot]) == (True, 1)


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize(("buttons", "seconds"), [(int(Button.FIRE), 1.5), (0, 3.0)])
def test_a_new_life_begins_with_fire_after_the_time_and_without_after_twice_that(
    hz: int, buttons: int, seconds: float
) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.place(slot, 0.0, 0.0, -100.0)
    arena.tick()
    assert not arena.vitals.alive[slot]
    arena.held[slot] = {"buttons": buttons}
    assert abs(arena.until("spawned", within=4.0) - seconds) <= 1.0 / hz
    assert arena.vitals.health[slot] == 100.0


def test_a_button_that_came_once_stands_and_one_that_never_came_does_not() -> None:
    arena = Arena()
    slot, other = arena.join(), arena.join()
    arena.place(slot, 0.0, 0.0, -100.0)
    arena.place(other, 1.0, 0.0, -100.0)
    arena.held[slot] = {"buttons": int(Button.FIRE)}
    arena.tick()
    del arena.held[slot]
    arena.commands.buttons[other] = int(Button.FIRE)  # what an earlier tick left in the row counts for nothing
    arena.run(1.6)
    assert (arena.vitals.alive[slot], arena.vitals.alive[other]) == (True, False)


def test_team_spawns_are_for_their_team() -> None:
    spawns = team_spawns(1, 2, 1, 2, 1, 2)
    arena = Arena(spawns=spawns)
    for team in (1, 2, 1, 2):
        place = arena.motion.position[arena.join(team=team)]
        nearest = min(spawns, key=lambda point: math.dist(point.position, place))
        assert nearest.team == team


def test_spawning_is_away_from_opponents() -> None:
    chosen = []
    for seed in range(6):
        arena = Arena(seed=seed)
        enemy = arena.join(team=1)
        arena.place(enemy, 20.0, 0.0, 0.0)
        chosen.append(arena.motion.position[arena.join(team=2), 0])
    assert max(chosen) <= 0.1  # never the point beside the enemy at x = 25


def test_nobody_spawns_inside_another_while_a_point_is_free() -> None:
    spawns = tuple(SpawnPoint((3.0 * (n % 6) - 8.0, 3.0 * (n // 6) - 8.0, 0.0), 0) for n in range(36))
    arena = Arena(spawns=spawns)
    for number in range(36):
        arena.commands.add(Join(number, "p"))
    arena.tick()
    feet = arena.motion.position[arena.world.players.live_slots]
    gaps = np.linalg.norm(feet[:, None] - feet[None], axis=2) + 99.0 * np.eye(36)
    assert gaps.min() > 2.9


def test_with_every_point_taken_players_still_come_to_life_and_are_parted() -> None:
    arena = Arena(spawns=FAR[:1])
    slots = [arena.join() for _ in range(3)]
    arena.run(0.5)
    assert arena.vitals.alive[slots].all()
    feet = arena.motion.position[slots]
    assert min(math.dist(feet[a], feet[b]) for a in range(3) for b in range(a)) > 0.7


@pytest.mark.parametrize("hz", HZ)
def test_a_match_ends_by_time_and_everything_begins_anew(hz: int) -> None:
    arena = Arena(hz=hz, rules=ArenaRules(match_s=2.0), items=(ItemPoint("quad", (20.0, 20.0, 0.0)),))
    slot, other = arena.join(team=1), arena.join(team=2)
    arena.match.team_points[0, 2], arena.score.points[slot], arena.score.kills[other] = 3, -2, 3
    arena.arm(slot, "rocket_launcher", reserve=5)
    arena.held[slot] = {"buttons": int(Button.FIRE), "pitch": 12000}
    arena.pickup.away_s[0] = 60.0
    arena.until("match_ended", within=3.0)
    # The first tick lays the match out and does not count.
    assert abs(arena.seconds - 2.0) <= 2.0 / hz
    ended = next(event for event in arena.log if event.kind == "match_ended")
    assert ended.value == 2
    assert arena.match.team_points[0].tolist() == [0] * 5
    assert [int(arena.score.points[s]) for s in (slot, other)] == [0, 0]
    assert arena.vitals.alive[[slot, other]].all()
    assert arena.arms.weapon[slot] == 1
    assert arena.world.table("projectile").live_count == 0
    assert arena.pickup.away_s[0] == 0.0
    assert [event.value for event in arena.log if event.kind == "match_started"] == [1, 2]


@pytest.mark.parametrize("teams", [0, 4])
def test_a_match_ends_by_points_and_names_the_winner(teams: int) -> None:
    arena = Arena(rules=ArenaRules(teams=teams, points_to_win=1, spawn_health=100.0))
    pair = (4, 1) if teams else (0, 0)
    shooter, _ = arena.duel("railgun", teams=pair)
    arena.until("match_ended", within=4.0)
    ended = next(event for event in arena.log if event.kind == "match_ended")
    assert (ended.actor, ended.value) == ((0, 4) if teams else (arena.id_of(shooter), 1))


def test_projectiles_and_players_of_a_new_match_do_not_move_by_the_old() -> None:
    arena = Arena(rules=ArenaRules(match_s=1.0))
    slot = arena.join()
    arena.motion.velocity[slot] = (30.0, 0.0, 30.0)
    arena.until("match_ended", within=2.0)
    assert np.abs(arena.world.players[Motion].velocity[slot]).max() < 1.0


@pytest.mark.parametrize("teams", [0, 2])
def test_who_chooses_no_team_watches_until_it_chooses_one(teams: int) -> None:
    arena = Arena(rules=ArenaRules(teams=teams, match_s=8.0))
    slot, other = arena.join(team=1), arena.join(team=2)
    arena.held[slot] = {"buttons": int(Button.FIRE)}
    arena.choose_team(slot, 0)
    arena.run(10.0)  # a new match begins in between
    assert not arena.vitals.alive[slot]
    assert arena.vitals.team[slot] == 0
    assert arena.vitals.alive[other]
    arena.choose_team(slot, 2)
    arena.run(2.0)
    assert arena.vitals.alive[slot]
    assert arena.vitals.team[slot] == min(teams, 2)


def test_who_watches_from_the_beginning_never_lives() -> None:
    arena = Arena()
    slot = arena.join()
    arena.choose_team(slot, 0)
    assert all(happening.kind != "spawned" for happening in arena.run(6.0))
    assert arena.score.deaths[slot] == 1


def test_choosing_a_team_while_dead_neither_shortens_nor_lengthens_the_wait() -> None:
    arena = Arena()
    slot = arena.join(team=1)
    arena.choose_team(slot, 2)
    arena.run(1.0)
    left = arena.vitals.respawn_s[slot]
    arena.choose_team(slot, 1)
    arena.tick()
    assert arena.vitals.respawn_s[slot] < left
