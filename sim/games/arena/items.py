"""Pickups lie on the map, are taken on touch and come back; health decays; matches end and begin."""

from collections.abc import Callable

import numpy as np

from sim.components import Motion, Pickup, Vitals
from sim.contacts import Contacts
from sim.games.arena.components import Arms, Match, Powers, Score
from sim.games.arena.life_kernels import ITEM_COLUMNS, decay, take_items
from sim.games.arena.rules import ARMOURY, ITEM_NUMBERS, ITEMS, ArenaRules
from sim.pipeline import Access, Step, System

__all__ = ["match_system", "pickup_system"]

POWERS = ("", "quad", "regeneration", "battle_suit")


def pickup_system(rules: ArenaRules) -> System:
    """Items are taken by who touches them and return after their time; points above the full amount decay."""
    table = np.zeros((len(ITEMS), ITEM_COLUMNS))
    for number, item in enumerate(ITEMS):
        weapon = ARMOURY.number(item.weapon) if item.weapon else 0
        table[number] = (
            item.respawn_s, item.health, item.armour, weapon, item.rounds, item.gives_weapon,
            POWERS.index(item.power), item.power_s,
        )  # fmt: skip

    def bind(access: Access) -> Callable[[Step], None]:
        world = access.world
        players, pickups = access.slots("player"), access.spawner("pickup")
        lying, pickup = access.write("pickup", Motion), access.write("pickup", Pickup)
        vitals, arms = access.write("player", Vitals), access.write("player", Arms)
        powers = access.write("player", Powers)
        contacts = access.service(Contacts, lambda: Contacts(world))
        picked_up = access.event("picked_up")
        known = [point for point in world.map.items if point.kind in ITEM_NUMBERS]
        columns = (pickup.item, pickup.amount, pickup.available, pickup.away_s, lying.position)
        taker = (
            players.ids, vitals.alive, vitals.health, vitals.armour, arms.owned, arms.loaded, arms.reserve,
            powers.quad_s, powers.regeneration_s, powers.battle_suit_s,
        )  # fmt: skip
        timers = (powers.quad_s, powers.regeneration_s, powers.battle_suit_s)

        def lay_out() -> None:
            slots = pickups.allocate_many(min(len(known), pickups.capacity))
            for slot, point in zip(slots, known, strict=False):
                lying.position[slot] = point.position
                pickup.item[slot] = ITEM_NUMBERS[point.kind]
                pickup.amount[slot] = point.amount

        def run(step: Step) -> None:
            if step.tick == 1:
                lay_out()
            away = pickup.away_s
            away -= step.dt
            np.maximum(away, 0.0, out=away)
            np.less_equal(away, 1e-9, out=pickup.available)
            touches = contacts.touching("player", "pickup")
            take_items(
                touches, len(touches), table, ARMOURY.table, columns, taker, rules.health_most, step.events.arrays,
                picked_up,
            )  # fmt: skip
            figures = (step.dt, rules.health_full, rules.health_most, rules.regeneration_per_s)
            decay(vitals.alive, vitals.health, vitals.armour, timers, powers.active, figures)

        return run

    return System(
        "items",
        bind,
        writes=("pickup", Motion, Pickup, Vitals, Arms, Powers),
        emits=("picked_up",),
    )


def match_system(rules: ArenaRules) -> System:
    """Counts a match down; at its end scores are told and everything begins anew."""

    def bind(access: Access) -> Callable[[Step], None]:
        matches = access.spawner("match")
        match = access.write("match", Match)
        score, vitals = access.write("player", Score), access.write("player", Vitals)
        arms = access.write("player", Arms)
        started, ended = access.event("match_started"), access.event("match_ended")

        def begin(step: Step) -> None:
            match.left_s[0] = rules.match_s
            match.number[0] += 1
            match.team_points[0] = 0
            step.events.emit(started, value=int(match.number[0]))

        def over() -> bool:
            best = int(match.team_points[0].max()) if rules.teams else int(score.points.max())
            return bool(match.left_s[0] <= 1e-9) or (rules.points_to_win > 0 and best >= rules.points_to_win)

        def run(step: Step) -> None:
            if matches.live_count == 0:
                matches.allocate()
                begin(step)
                return
            match.left_s[0] -= step.dt
            if over():
                step.events.emit(ended, value=int(match.team_points[0].argmax()) if rules.teams else 0)
                score.points[:] = 0
                score.kills[:] = 0
                score.deaths[:] = 0
                vitals.alive[:] = False
                vitals.respawn_s[:] = 0.0
                arms.owned[:] = 0
                begin(step)

        return run

    return System(
        "match",
        bind,
        writes=("match", Match, Score, Vitals, Arms),
        emits=("match_started", "match_ended"),
    )
