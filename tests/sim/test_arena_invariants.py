"""Random play in a crowded place: what must hold after every tick."""

import numpy as np
import pytest

from sim.games.arena.combat import Combat
from sim.games.arena.rules import ARMOURY, ITEMS, ArenaRules
from sim.hitscan import Judgement
from sim.weapons_kernels import W_MAGAZINE, W_ROUNDS
from sim.worldmap import ItemPoint, SpawnPoint, Trigger, TriggerKind
from tests.sim.arena_match import TORSO_Z, Arena
from tests.sim.boxes import box

PLAYERS = 10
SIZE = 9.0


def crowded(hz: int, seed: int, teams: int) -> Arena:
    items = tuple(
        ItemPoint(item.kind, (4.0 * (n % 5) - 8.0, 4.0 * (n // 5) - 8.0, 0.0)) for n, item in enumerate(ITEMS)
    )
    spawns = tuple(SpawnPoint((2.0 * n - 8.0, 7.0 * (-1) ** n, 0.0), 0) for n in range(9))
    hurt = Trigger(TriggerKind.HURT, (-2.0, -2.0, -1.0), (2.0, 2.0, 3.0), amount=20.0)
    rules = ArenaRules(teams=teams, friendly_fire=0.5, respawn_s=0.3)
    wall = box((-6.0, -0.3, 0.0), (-3.0, 0.3, 2.0))
    return Arena(hz=hz, rules=rules, seed=seed, spawns=spawns, items=items, triggers=(hurt,), parts=(wall,), size=SIZE)


def stir(arena: Arena, rng: np.random.Generator) -> None:
    """New wishes for some: half of them aim at somebody."""
    slots = arena.world.players.live_slots
    for slot in slots[rng.random(len(slots)) < 0.2]:
        other = int(rng.choice(slots))
        if other != slot:
            x, y, z = arena.motion.position[other]
            arena.aim(
                int(slot), (float(x), float(y), float(z) + TORSO_Z), buttons=int(rng.choice([8, 8, 8, 9, 10, 40]))
            )
        wish = arena.held.setdefault(int(slot), {"buttons": 0})
        wish["move_forward"] = int(rng.integers(-127, 128))
        wish["move_right"] = int(rng.integers(-127, 128))
        wish["weapon"] = int(rng.integers(0, len(ARMOURY) + 1))


def check(arena: Arena, rules_most: float) -> None:
    players = arena.world.players
    live = players.live
    vitals, arms, powers = arena.vitals, arena.arms, arena.powers
    for column in (arena.motion.position, arena.motion.velocity, vitals.health, vitals.armour, arms.cooldown_s):
        assert np.isfinite(column).all()
    assert (vitals.health[vitals.alive] > 0.0).all()
    assert (vitals.health <= rules_most).all()
    assert ((vitals.armour >= 0.0) & (vitals.armour <= rules_most)).all()
    assert not vitals.alive[~live].any()
    for column in (powers.quad_s, powers.regeneration_s, powers.battle_suit_s, arena.pickup.away_s, arms.reloading_s):
        assert (column >= 0.0).all()
    most_loaded, most_reserve = (np.maximum(ARMOURY.table[:, c], 0.0) for c in (W_MAGAZINE, W_ROUNDS))
    count = len(ARMOURY)
    assert ((arms.loaded[:, :count] >= 0) & (arms.loaded[:, :count] <= most_loaded)).all()
    assert ((arms.reserve[:, :count] >= 0) & (arms.reserve[:, :count] <= most_reserve)).all()
    assert arena.score.points[live].sum() == arena.match.team_points[0].sum()
    for table in arena.world.tables.values():
        assert table.live.sum() == table.live_count
    assert (
        arena.world.table("projectile")[type(arena.flying)].left_s[arena.world.table("projectile").live] > 0.0
    ).all()


@pytest.mark.parametrize(("hz", "seed", "teams"), [(20, 1, 2), (60, 5, 0), (60, 3, 4), (128, 4, 3)])
def test_random_play_keeps_the_books(hz: int, seed: int, teams: int) -> None:
    arena, rng = crowded(hz, seed, teams), np.random.default_rng(seed)
    for _ in range(PLAYERS):
        arena.join()
    ids = set(arena.world.players.ids[arena.world.players.live].tolist())
    begin = len(arena.log)
    for _ in range(max(4 * hz, 240)):
        stir(arena, rng)
        arena.tick()
        check(arena, 200.0)
    log = arena.log[begin:]
    deaths = sum(event.kind == "kill" for event in log)
    assert deaths > 3
    assert arena.score.deaths.sum() == deaths
    assert {event.actor for event in log} | {event.target for event in log} <= ids | {0}
    assert arena.score.kills.sum() == sum(
        event.kind == "kill" and event.actor not in (0, event.target) and not mates(arena, event.actor, event.target)
        for event in log
    )
    assert sum(event.kind == "picked_up" for event in log) > 5
    combat, judged = arena.world.services[Combat], arena.world.services[Judgement]
    assert (judged.dropped, combat.projectiles_dropped, arena.world.events.dropped) == (
        0,
        0,
        0,
    )
    assert combat.counters[1:].tolist() == [0, 0]


def mates(arena: Arena, one: int, two: int) -> bool:
    a, b = (int(arena.vitals.team[arena.world.players.find(entity)]) for entity in (one, two))
    return a == b != 0
