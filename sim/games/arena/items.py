"""Pickups lie on the map, are taken on touch and come back; health decays; matches end and begin."""

from collections.abc import Callable

import numpy as np

from sim.components import Motion, Pickup, Vitals
from sim.contacts import Contacts
from sim.games.arena.components import Arms, Match, Powers, Score
from sim.games.arena.life_kernels import ITEM_COLUMNS, tend_items
from sim.games.arena.rules import ARMOURY, ITEM_NUMBERS, ITEMS, ArenaRules
from sim.pipeline import Access, Step, System
from sim.table import Used

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
        columns = Used(
            pickups,
            lambda rows: (
                pickup.item[:rows], pickup.amount[:rows], pickup.available[:rows], pickup.away_s[:rows],
                lying.position[:rows],
            ),
        )  # fmt: skip
        takers = Used(
            players,
            lambda rows: (
                players.ids[:rows], vitals.alive[:rows], vitals.health[:rows], vitals.armour[:rows],
                arms.owned[:rows], arms.loaded[:rows], arms.reserve[:rows], powers.quad_s[:rows],
                powers.regeneration_s[:rows], powers.battle_suit_s[:rows], powers.active[:rows],
            ),
        )  # fmt: skip
        limits = (rules.health_full, rules.health_most, rules.regeneration_per_s)

        def lay_out() -> None:
            slots = pickups.allocate_many(min(len(known), pickups.capacity))
            for slot, point in zip(slots, known, strict=False):
                lying.position[slot] = point.position
                pickup.item[slot] = ITEM_NUMBERS[point.kind]
                pickup.amount[slot] = point.amount

        def run(step: Step) -> None:
            if step.tick == 1:
                lay_out()
            tend_items(
                contacts.met("player", "pickup"), table, ARMOURY.table, columns(), takers(), step.dt, limits,
                step.events.arrays, picked_up,
            )  # fmt: skip

        return run

    return System(
        "items",
        bind,
        writes=("pickup", Motion, Pickup, Vitals, Arms, Powers),
        emits=("picked_up",),
    )


def match_system(rules: ArenaRules) -> System:
    """Counts a match down; at its end the winner is told and everything begins anew: lives, scores, shots, items.

    The event `match_ended` has the winning team as its value; without teams the winner as its actor and its points.
    """

    def bind(access: Access) -> Callable[[Step], None]:
        matches, players = access.spawner("match"), access.slots("player")
        match = access.write("match", Match)
        score, vitals = access.write("player", Score), access.write("player", Vitals)
        arms, pickup = access.write("player", Arms), access.write("pickup", Pickup)
        projectiles = access.spawner("projectile")
        started, ended = access.event("match_started"), access.event("match_ended")

        def begin(step: Step) -> None:
            match.left_s[0] = rules.match_s
            match.number[0] += 1
            match.team_points[0] = 0
            step.events.emit(started, value=int(match.number[0]))

        def over(left_s: float) -> bool:
            if left_s <= 1e-9 or rules.points_to_win == 0:
                return left_s <= 1e-9
            best = match.team_points[0].max() if rules.teams else score.points.max()
            return int(best) >= rules.points_to_win

        def tell_end(step: Step) -> None:
            # Ties go to the lowest team or row.
            slots = players.live_slots
            if rules.teams:
                step.events.emit(ended, value=1 + int(match.team_points[0, 1 : rules.teams + 1].argmax()))
            elif len(slots):
                best = int(slots[score.points[slots].argmax()])
                step.events.emit(ended, actor=players.id_of(best), value=int(score.points[best]))
            else:
                step.events.emit(ended)

        def reset() -> None:
            for column in (score.points, score.kills, score.deaths, arms.owned):
                column[:] = 0
            vitals.alive[:] = False
            watching = np.isinf(vitals.respawn_s)  # they go on
            vitals.respawn_s[~watching], arms.owned[watching] = 0.0, 1
            pickup.away_s[:] = 0.0
            projectiles.free_many(projectiles.live_slots.copy())

        def run(step: Step) -> None:
            if matches.live_count == 0:
                matches.allocate()
                begin(step)
                return
            left_s = float(match.left_s[0]) - step.dt
            match.left_s[0] = left_s
            if over(left_s):
                tell_end(step)
                reset()
                begin(step)

        return run

    return System(
        "match",
        bind,
        writes=("match", "projectile", Match, Score, Vitals, Arms, Pickup),
        emits=("match_started", "match_ended"),
    )
