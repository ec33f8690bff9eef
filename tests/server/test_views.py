"""From where clients see: alive, dead, through a killer's eyes, following, and only watching."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from server.views import CAMERA, CHANGES_MAX, DEAD, FOLLOW, KILLCAM, OWN, Views
from server.views_kernels import renew_views
from sim.components import Motion
from sim.games.arena.rules import ArenaRules
from sim.motion_kernels import CROUCHING
from sim.weapons_kernels import EYE
from tests.reference.views import Body, Wish, sight_of
from tests.sim.arena_match import Arena

STANDING = EYE * 1.4


@dataclass
class Watched:
    """An arena whose players are clients of the same number."""

    arena: Arena
    killcam_s: float = 1.0
    told: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        capacity = self.arena.world.players.capacity
        self.row = np.full(8, -1, np.int32)
        self.client_of_row = np.full(capacity, -1, np.int32)
        self.views = Views(
            self.arena.world, row=self.row, client_of_row=self.client_of_row, killcam_s=self.killcam_s
        )  # fmt: skip

    def join(self, team: int = 0) -> int:
        slot = self.arena.join(team=team)
        self.row[slot] = self.client_of_row[slot] = slot
        self.views.reset(slot)
        self.told += self.views.update()
        return slot

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.arena.tick()
            self.told += self.views.update()

    def sees_from(self, client: int) -> list[float]:
        return [float(value) for value in self.views.eye[client]]

    def eyes_of(self, slot: int) -> list[float]:
        x, y, z = self.arena.motion.position[slot].tolist()
        return [x, y, z + STANDING]

    def kill(self, shooter: int, victim: int) -> None:
        self.arena.place(shooter, 0.0, 0.0, 0.0, fixed=True)
        self.arena.place(victim, 2.5, 0.0, 0.0, fixed=True)
        self.arena.arm(shooter, "railgun", reserve=10)
        self.arena.aim(shooter, (2.5, 0.0, 0.8))
        self.arena.vitals.health[victim] = 1.0
        while self.arena.vitals.alive[victim]:
            self.tick()
        self.arena.held[shooter] = {"buttons": 0}


def make(*, killcam_s: float = 1.0, rules: ArenaRules | None = None) -> Watched:
    return Watched(Arena(rules=rules or ArenaRules(spawn_health=100.0, respawn_s=2.0)), killcam_s)


def test_who_lives_sees_through_its_own_eyes_and_is_told_so_once() -> None:
    match = make()
    slot = match.join(team=1)
    match.tick(5)
    assert match.views.mode[slot] == OWN
    assert match.views.body[slot] == match.arena.world.players.slot_base + slot
    assert match.sees_from(slot) == pytest.approx(match.eyes_of(slot))
    assert match.told == [(slot, match.arena.id_of(slot), OWN)]


def test_the_dead_see_through_their_killers_eyes_and_then_from_where_they_died() -> None:
    match = make(killcam_s=0.5)
    killer, victim = match.join(team=1), match.join(team=2)
    match.kill(killer, victim)
    match.told.clear()
    assert match.views.mode[victim] == KILLCAM
    assert match.views.watched[victim] == match.arena.id_of(killer)
    assert match.views.body[victim] == match.views.body[killer]
    assert match.sees_from(victim) == pytest.approx(match.eyes_of(killer))
    match.tick(29)
    assert match.views.mode[victim] == KILLCAM
    match.tick(1)
    assert match.views.mode[victim] == DEAD
    assert match.views.body[victim] == -1
    assert match.sees_from(victim) == pytest.approx(match.eyes_of(victim))
    assert match.told == [(victim, match.arena.id_of(victim), DEAD)]


def test_a_killcam_ends_with_the_killers_life_and_with_the_next_own_one() -> None:
    match = make(killcam_s=20.0)
    killer, victim = match.join(team=1), match.join(team=2)
    match.kill(killer, victim)
    match.arena.choose_team(killer, 0)
    match.tick()
    assert match.views.mode[victim] == DEAD
    match.tick(300)
    assert match.views.mode[victim] == OWN


def test_without_a_killcam_death_shows_the_place_of_death() -> None:
    match = make(killcam_s=0.0)
    killer, victim = match.join(team=1), match.join(team=2)
    match.kill(killer, victim)
    assert match.views.mode[victim] == DEAD


def test_the_dead_follow_their_own_team_alone() -> None:
    match = make(killcam_s=0.0)
    killer, victim, friend = match.join(team=1), match.join(team=2), match.join(team=2)
    assert not match.views.watch(victim, match.arena.id_of(friend))  # alive
    match.kill(killer, victim)
    assert match.views.watch(victim, match.arena.id_of(friend))
    assert not match.views.watch(victim, match.arena.id_of(killer))
    match.tick()
    assert match.views.mode[victim] == FOLLOW
    assert match.views.watched[victim] == match.arena.id_of(friend)
    assert match.sees_from(victim) == pytest.approx(match.eyes_of(friend))
    assert match.views.watch(victim, 0)
    match.tick()
    assert match.views.mode[victim] == DEAD
    assert match.views.refused == 2


def test_whoever_changes_sides_is_no_longer_followed() -> None:
    match = make(killcam_s=0.0, rules=ArenaRules(spawn_health=100.0, respawn_s=9.0))
    killer, victim, friend = match.join(team=1), match.join(team=2), match.join(team=2)
    match.kill(killer, victim)
    assert match.views.watch(victim, match.arena.id_of(friend))
    match.tick()
    match.arena.vitals.team[friend] = 1
    match.tick()
    assert match.views.mode[victim] == DEAD


@pytest.mark.parametrize("entity", [1, 2**64 - 1, 7 << 52, -1])
def test_nothing_off_the_wire_can_be_followed_but_a_living_player(entity: int) -> None:
    match = make()
    slot = match.join()
    match.arena.choose_team(slot, 0)
    match.tick()
    assert not match.views.watch(slot, entity & (2**64 - 1))
    assert not match.views.watch(slot, match.arena.id_of(slot))  # itself, who does not live
    assert not match.views.watch(7, 0)  # a client that plays nobody
    assert match.views.refused == 3


@pytest.mark.parametrize("teams", [0, 2])
def test_who_only_watches_has_a_camera_or_anybodys_eyes(teams: int) -> None:
    match = make(rules=ArenaRules(spawn_health=100.0, teams=teams))
    watcher, one, two = match.join(), match.join(team=1), match.join(team=2)
    match.arena.choose_team(watcher, 0)
    match.tick()
    assert match.views.mode[watcher] == CAMERA
    assert (match.views.body[watcher], match.views.watched[watcher]) == (-1, 0)
    spawn = match.arena.world.map.spawns[0].position
    assert match.sees_from(watcher) == pytest.approx([spawn[0], spawn[1], spawn[2] + 1.2])
    for target in (one, two):
        assert match.views.watch(watcher, match.arena.id_of(target))
        match.tick()
        assert match.views.body[watcher] == match.views.body[target]
        assert match.views.mode[watcher] == FOLLOW
    match.arena.leave(two)
    match.tick()
    assert match.views.mode[watcher] == CAMERA


def test_without_teams_the_dead_follow_nobody() -> None:
    match = make(killcam_s=0.0, rules=ArenaRules(spawn_health=100.0, teams=0, respawn_s=2.0))
    killer, victim, third = match.join(), match.join(), match.join()
    match.kill(killer, victim)
    assert not match.views.watch(victim, match.arena.id_of(third))


def test_a_client_that_is_made_new_follows_nobody_and_is_told_again() -> None:
    match = make()
    watcher, other = match.join(), match.join()
    match.arena.choose_team(watcher, 0)
    match.tick()
    assert match.views.watch(watcher, match.arena.id_of(other))
    match.tick()
    match.told.clear()
    match.views.reset(watcher)
    match.tick()
    assert match.told == [(watcher, 0, CAMERA)]


def test_many_changes_at_once_are_told_over_ticks() -> None:
    arena = Arena()
    clients = CHANGES_MAX + 10
    row, client_of_row = np.arange(clients, dtype=np.int32), np.full(arena.world.players.capacity, -1, np.int32)
    arena.world.players.allocate_many(clients)
    arena.world.players[Motion].position[:clients] = 1.0
    views = Views(arena.world, row=row, client_of_row=client_of_row, killcam_s=0.0)
    assert [len(views.update()) for _ in range(3)] == [CHANGES_MAX, 10, 0]


def test_views_are_those_of_a_look_at_one_client_after_another() -> None:
    random = np.random.default_rng(11)
    players, clients, tick, base = 40, 64, 100, 7
    for _ in range(60):
        row = np.where(random.random(clients) < 0.8, random.integers(0, players, clients), -1).astype(np.int32)
        ids = random.integers(1, 1 << 60, players).astype(np.uint64)
        alive, team = random.random(players) < 0.5, random.integers(0, 3, players).astype(np.uint8)
        respawn = np.where(random.random(players) < 0.4, np.inf, 1.0)
        flags = np.where(random.random(players) < 0.3, CROUCHING, 0).astype(np.uint16)
        yaw, feet = random.integers(0, 65536, players).astype(np.uint16), random.random((players, 3))
        target = random.integers(-1, players, clients).astype(np.int32)
        known = np.where(random.random(clients) < 0.9, ids[np.maximum(target, 0)], 5).astype(np.uint64)
        until = np.where(random.random(clients) < 0.5, random.integers(tick - 9, tick + 9, clients), 0)
        bodies = [
            Body(*each) for each in zip(ids.tolist(), alive.tolist(), team.tolist(), respawn.tolist(), strict=True)
        ]
        wishes = [Wish(*each) for each in zip(target.tolist(), known.tolist(), until.tolist(), strict=True)]
        expected = [sight_of(int(own), wish, bodies, tick) for own, wish in zip(row, wishes, strict=True)]
        eye, camera, told = np.zeros((clients, 3)), np.array([1.0, 2.0, 3.0]), np.zeros(clients, np.uint64)
        body, watched, mode = np.zeros(clients, np.int32), np.zeros(clients, np.uint64), np.zeros(clients, np.uint8)
        look, changed = np.zeros(clients, np.uint16), np.zeros(CHANGES_MAX, np.int32)
        count = renew_views(
            tick, base, (1.4, 1.0), camera, row, (ids, alive, team, respawn, yaw, flags, feet),
            (target, known, until), (eye, look, body, watched, mode), (np.zeros(clients, np.uint8), told), changed,
        )  # fmt: skip
        assert mode.tolist() == [sight.mode for sight in expected]
        assert watched.tolist() == [sight.watched for sight in expected]
        assert body.tolist() == [sight.row + base if sight.row >= 0 else -1 for sight in expected]
        assert (target >= 0).tolist() == [sight.mode in (FOLLOW, KILLCAM) for sight in expected]
        assert changed[:count].tolist() == [c for c in range(clients) if row[c] >= 0 and (watched[c] or mode[c])]
        for client, sight in enumerate(expected):
            if sight.mode == CAMERA:
                assert eye[client].tolist() == camera.tolist()
            elif row[client] >= 0:
                at = sight.row if sight.row >= 0 else int(row[client])
                height = EYE * (1.0 if flags[at] & CROUCHING else 1.4)
                assert np.allclose(eye[client] - feet[at], [0.0, 0.0, height])
                assert look[client] == yaw[at]
