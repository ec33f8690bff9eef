"""Triggers, hitscan, projectiles, blasts and their damage, each one batch over the tick."""

from collections.abc import Callable

import numpy as np

from sim.arrays import F64, I32, I64, U16
from sim.commands import REWIND_STEPS
from sim.components import Look, Motion, Projectile, Stance, Vitals
from sim.crowd import Crowd
from sim.events import Events
from sim.flight_kernels import blast_batch, projectiles_fly
from sim.games.arena.arms_kernels import ShooterArrays, launch, pull_triggers, tell_refusals
from sim.games.arena.combat_kernels import (
    RULES_COUNT,
    DamageArrays,
    PlayerArrays,
    apply_damage,
    collect_ends,
    find_owners,
    queue_blasts,
    queue_hits,
    queue_world,
)
from sim.games.arena.components import Arms, Match, Powers, Score
from sim.games.arena.rules import ARMOURY, ArenaRules
from sim.hitscan import Judgement
from sim.hitscan_kernels import hitscan_batch
from sim.movers import Crush
from sim.occlusion import occluders
from sim.pipeline import Access, Step, System
from sim.rewind import whole_ticks_back
from sim.systems import Intent, body_height_service, pose_history
from sim.table import Used
from sim.trig import SINE_TABLE
from sim.weapons_kernels import SHOTS_PER_TICK_MAX, ArmsArrays
from sim.worldmap import TriggerKind

__all__ = ["Combat", "damage_system", "fire_system", "projectile_system"]

PELLETS_MAX = 8192  # per tick; more are not fired, and counted
DAMAGE_MAX = 8192  # entries per tick; more are dropped, and counted
BLASTS_MAX = 1024  # per tick; further projectiles end without one, and are counted


class Combat:
    """What the combat systems share within a tick: the damage queue and scratch arrays.

    Attributes:
        behind: How far before this tick each projectile was launched, until it flies [1/`REWIND_STEPS` tick].
        damage: See `sim.games.arena.combat_kernels`.
        height: Heights of the players' bodies [m], shape (players,).
        crowd: The living, where they were in the window of time that the shots of this tick ask for.
        gathered: Whether the crowd is that of this tick.
        projectiles_dropped: Projectiles for which the table had no room.
    """

    def __init__(self, players: int, projectiles: int, height: F64) -> None:
        self.damage: DamageArrays = (
            np.zeros((DAMAGE_MAX, 4), np.int32),
            np.zeros((DAMAGE_MAX, 7)),
            np.zeros(3, np.int64),
        )
        self.height = height
        self.shots: I32 = np.zeros((players, 2), np.int32)
        self.refusals: I32 = np.zeros((players, 2), np.int32)
        self.shot_count = 0
        self.launched: I32 = np.zeros(players * SHOTS_PER_TICK_MAX, np.int32)
        self.crowd = Crowd(players)
        self.gathered = False
        self.behind: U16 = np.zeros(projectiles, np.uint16)
        self.ends: I32 = np.zeros((projectiles, 3), np.int32)
        self.owner_rows: I32 = np.zeros(projectiles, np.int32)
        self.centres: F64 = np.zeros((BLASTS_MAX, 3))
        self.figures: F64 = np.zeros((BLASTS_MAX, 2))
        self.owners: I32 = np.zeros((BLASTS_MAX, 3), np.int32)
        self.blast_hits: I32 = np.zeros((DAMAGE_MAX, 2), np.int32)
        self.blast_amounts: F64 = np.zeros((DAMAGE_MAX, 4))
        self.projectiles_dropped = 0

    @property
    def counters(self) -> I64:
        """Entries in the damage queue; entries and blasts dropped since the world began."""
        return self.damage[2]


def _combat(access: Access) -> Combat:
    world, height = access.world, body_height_service(access).height
    return access.service(Combat, lambda: Combat(world.players.capacity, world.table("projectile").capacity, height))


def _judgement(access: Access) -> Judgement:
    return access.service(Judgement, lambda: Judgement(PELLETS_MAX))


def fire_system() -> System:
    """Weapon changes, reloads, cool-downs, and the shots of this tick: rays are judged, projectiles are spawned."""

    def bind(access: Access) -> Callable[[Step], None]:
        world = access.world
        players, projectiles = access.slots("player"), access.spawner("projectile")
        vitals, motion = access.read("player", Vitals), access.read("player", Motion)
        look, intent = access.read("player", Look), access.read("player", Intent)
        arms = access.write("player", Arms)
        flight, flying = access.write("projectile", Motion), access.write("projectile", Projectile)
        combat, judged = _combat(access), _judgement(access)
        shot, no_shot = access.event("shot"), access.event("no_shot")
        history, table = pose_history(access), ARMOURY.table
        scene = (occluders(access), history.arrays, combat.crowd.arrays)
        poses = (motion.position, combat.height, look.yaw, look.pitch)
        owners = (players.ids, arms.weapon, vitals.team, intent.rewind)
        flights = (
            flying.owner, flying.weapon, flying.team, flying.left_s, combat.behind, flight.position, flight.velocity,
        )  # fmt: skip
        aims = (arms.weapon, intent.rewind)
        limits = (float(world.rewind_max), world.tick_hz * REWIND_STEPS / 1000.0)

        def triggers(rows: int) -> tuple[ShooterArrays, ArmsArrays]:
            shooters = (
                vitals.alive[:rows], intent.weapon[:rows], arms.owned[:rows], intent.buttons[:rows],
                arms.weapon[:rows], intent.rewind[:rows],
            )  # fmt: skip
            return shooters, (
                arms.cooldown_s[:rows], arms.reloading_s[:rows], arms.pressed[:rows], arms.loaded[:rows],
                arms.reserve[:rows],
            )  # fmt: skip

        pulled = Used(players, triggers)

        def let_fly(wanted: int) -> None:
            count = min(wanted, projectiles.capacity - projectiles.live_count)
            combat.projectiles_dropped += wanted - count
            if count:
                slots = projectiles.allocate_many(count)
                launch(table, SINE_TABLE, combat.launched, slots, owners, poses, limits, flights)

        def run(step: Step) -> None:
            shooters, trigger = pulled()
            combat.gathered = False
            judged.clear()
            combat.shot_count, refused, launches, farthest, widest = pull_triggers(
                table, shooters, step.dt, trigger, combat.shots, combat.refusals, combat.launched
            )
            if refused:
                tell_refusals(combat.refusals, refused, players.ids, motion.position, step.events.arrays, no_shot)
            if combat.shot_count == 0:
                return
            combat.crowd.gather(history, whole_ticks_back(int(min(farthest, world.rewind_max))), grow=widest)
            combat.gathered = True
            hitscan_batch(
                scene, table, SINE_TABLE, combat.shots, combat.shot_count, aims, poses,
                (step.seed, step.tick, world.rewind_max), judged.arrays,
            )  # fmt: skip
            queue_hits(table, judged.arrays, players.ids, combat.damage, step.events.arrays, shot)
            if launches:
                let_fly(launches)

        return run

    return System(
        "fire",
        bind,
        reads=(Vitals, Look, Intent),
        writes=(Arms, "projectile", Motion, Projectile),
        emits=("shot", "no_shot"),
    )


def projectile_system() -> System:
    """Projectiles fly, bounce, hit and burst."""

    def bind(access: Access) -> Callable[[Step], None]:
        walls = occluders(access)
        players, projectiles = access.slots("player"), access.spawner("projectile")
        vitals, motion = access.read("player", Vitals), access.read("player", Motion)
        flight, flying = access.write("projectile", Motion), access.write("projectile", Projectile)
        combat, blast = _combat(access), access.event("blast")
        history = pose_history(access)
        scene = (walls, history.arrays, combat.crowd.arrays)
        table = ARMOURY.table
        flights = (flying.weapon, flying.team, combat.owner_rows, flight.position, flight.velocity)

        def end(events: Events, tick: int, count: int) -> None:
            poses = (motion.position, combat.height, vitals.alive)
            blasts = collect_ends(
                combat.ends, count, table, flights, players.ids, combat.damage, events.arrays, blast, combat.centres,
                combat.figures, combat.owners,
            )  # fmt: skip
            hits = blast_batch(
                walls, combat.centres, combat.figures, blasts, poses, tick, combat.blast_hits, combat.blast_amounts
            )
            kept = min(hits, DAMAGE_MAX)
            combat.counters[1] += hits - kept
            queue_blasts(combat.blast_hits, combat.blast_amounts, kept, combat.owners, combat.centres, combat.damage)
            projectiles.free_many(combat.ends[:count, 0].copy())

        def run(step: Step) -> None:
            slots = projectiles.live_slots
            if len(slots) == 0:
                return
            flown = slots.copy()
            find_owners(flown, flying.owner, players.ids, players.slot_base, combat.owner_rows)
            if not combat.gathered:
                combat.crowd.gather(history)
            count = projectiles_fly(
                scene, table, flown, flying.weapon, combat.owner_rows, flight.position, flight.velocity,
                flying.left_s, combat.behind, step.dt, step.tick, combat.ends,
            )  # fmt: skip
            if count:
                end(step.events, step.tick, count)

        return run

    return System(
        "projectiles",
        bind,
        reads=(Vitals,),
        writes=("projectile", Motion, Projectile),
        emits=("blast",),
    )


def damage_system(rules: ArenaRules) -> System:
    """What the world does to players, then the damage of the tick in the order it was dealt, deaths and scores."""
    figures = np.zeros(RULES_COUNT)
    figures[:] = (
        rules.friendly_fire, rules.self_damage, rules.armour_absorbs, rules.respawn_s, rules.quad_factor,
        rules.suit_factor, rules.teams,
    )  # fmt: skip

    def bind(access: Access) -> Callable[[Step], None]:
        world_map = access.world.map
        players = access.slots("player")
        vitals, motion = access.write("player", Vitals), access.write("player", Motion)
        score, powers = access.write("player", Score), access.read("player", Powers)
        stance = access.write("player", Stance)
        match = access.write("match", Match)
        combat = _combat(access)
        crush = access.service(Crush, lambda: Crush(players.capacity))
        kinds = (access.event("hit"), access.event("kill"))
        hurts = [trigger for trigger in world_map.triggers if trigger.kind is TriggerKind.HURT]
        boxes = np.array([(*entry.low, *entry.high) for entry in hurts], np.float64).reshape(-1, 6)
        rates = np.array([entry.amount for entry in hurts], np.float64)
        void_z = float(world_map.bounds[0][2]) - rules.fall_safe_m
        below = Used(players, lambda rows: (vitals.alive[:rows], motion.position[:rows], crush.amount[:rows]))
        columns: PlayerArrays = (
            players.ids, vitals.alive, vitals.health, vitals.armour, vitals.team, motion.velocity, motion.position,
            score.points, score.kills, score.deaths, vitals.respawn_s, powers.quad_s, powers.battle_suit_s,
            stance.flags,
        )  # fmt: skip

        def run(step: Step) -> None:
            alive, position, crushed = below()
            if queue_world(alive, position, void_z, boxes, rates, crushed, step.dt, combat.damage):
                apply_damage(
                    combat.damage, ARMOURY.table, figures, columns, match.team_points[0], step.events.arrays, kinds
                )

        return run

    return System(
        "damage",
        bind,
        reads=(Powers,),
        writes=(Vitals, Motion, Stance, Score, Match),
        emits=("hit", "kill"),
    )
