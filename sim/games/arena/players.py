"""Players enter, choose teams, come to life and leave."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np

from sim.commands import Join, Leave
from sim.components import Look, Motion, Stance, Vitals
from sim.games.arena.components import Arms, Name, Powers, Score
from sim.games.arena.life_kernels import LifeArrays, begin_lives, find_ready
from sim.games.arena.rules import ARMOURY, START_WEAPONS, ArenaRules
from sim.pipeline import Access, Step, System
from sim.schema import Value
from sim.systems import Intent
from sim.table import Used

__all__ = ["TEAM_MAX", "population_system", "spawn_system"]

NAME_BYTES = 32
TEAM_MAX = 4
NEVER_S = float("inf")  # until the next life of who only watches


def population_system(rules: ArenaRules) -> System:
    """Leaves, then joins, then changes of team, each in the order of the commands.

    Who joins without a team enters the one with the fewest players. Changing teams costs the life, but no points. Who
    chooses team 0 leaves the field and watches (its `respawn_s` is infinite) until it chooses a team again; where there
    are none, any number will do.
    """

    def bind(access: Access) -> Callable[[Step], None]:
        players = access.spawner("player")
        vitals = access.write("player", Vitals)
        score = access.write("player", Score)
        name, arms = access.write("player", Name), access.write("player", Arms)
        joined, left, refused = (access.event(kind) for kind in ("joined", "left", "refused"))
        choose_team = access.world.game.action("choose_team")

        def enter(step: Step, joins: Sequence[Join]) -> None:
            room = players.capacity - players.live_count
            counts = np.bincount(vitals.team[players.live_slots], minlength=rules.teams + 1)[1 : rules.teams + 1]
            for slot, join in zip(players.allocate_many(min(room, len(joins))).tolist(), joins, strict=False):
                # Whole characters only: a cut one would not be UTF-8.
                encoded = join.name.encode(errors="replace")[:NAME_BYTES].decode(errors="ignore").encode()
                name.text[slot, : len(encoded)] = np.frombuffer(encoded, np.uint8)
                if rules.teams:
                    team = join.team if 1 <= join.team <= rules.teams else int(np.argmin(counts)) + 1
                    vitals.team[slot] = team
                    counts[team - 1] += 1
                step.events.emit(joined, actor=players.id_of(slot), value=join.ticket)
            for join in joins[room:]:
                step.events.emit(refused, value=join.ticket)

        def leave(step: Step, leaves: Sequence[Leave]) -> None:
            slots = {slot: entry.entity for entry in leaves if (slot := players.find(entry.entity)) >= 0}
            players.free_many(np.array(list(slots), np.int32))
            for entity in slots.values():
                step.events.emit(left, actor=entity)

        def enlist(slot: int, team: int, wait_s: float) -> None:
            if vitals.alive[slot] or NEVER_S in (wait_s, vitals.respawn_s[slot]):
                vitals.respawn_s[slot] = wait_s
            if vitals.alive[slot]:
                vitals.alive[slot], vitals.health[slot] = False, 0.0
                score.deaths[slot] += 1
            # Who owns nothing has never lived, and would come to life at once even if it only wants to watch.
            vitals.team[slot], arms.owned[slot] = team, arms.owned[slot] | 1

        def act(kind: int, slot: int, values: tuple[Value, ...]) -> None:
            team = values[0] if kind == choose_team else -1
            watches = vitals.respawn_s[slot] == NEVER_S
            if not isinstance(team, int) or not (rules.teams or watches or team == 0):
                return
            if team == 0 and not watches:
                enlist(slot, 0, NEVER_S)
            elif team in range(1, (rules.teams or TEAM_MAX) + 1) and (watches or team != vitals.team[slot]):
                enlist(slot, team if rules.teams else 0, rules.respawn_s)

        def run(step: Step) -> None:
            if step.commands.leaves:
                leave(step, step.commands.leaves)
            if step.commands.joins:
                enter(step, step.commands.joins)
            for action in step.commands.actions:
                slot = players.find(action.entity)
                if slot >= 0:
                    act(action.kind, slot, action.values)

        return run

    return System(
        "population",
        bind,
        writes=("player", Vitals, Score, Name, Motion, Look, Stance, Arms, Powers),
        emits=("joined", "left", "refused"),
    )


def spawn_system(rules: ArenaRules) -> System:
    """Brings to life whoever has waited long enough, at the point farthest from opponents."""

    def bind(access: Access) -> Callable[[Step], None]:
        players = access.slots("player")
        vitals, motion = access.write("player", Vitals), access.write("player", Motion)
        look, stance = access.write("player", Look), access.write("player", Stance)
        arms, powers = access.write("player", Arms), access.write("player", Powers)
        world_map = access.world.map
        spawns = np.array([point.position for point in world_map.spawns], np.float64).reshape(-1, 3)
        spawn_yaw = np.array([point.yaw for point in world_map.spawns], np.uint16)
        spawn_team = np.array([point.team for point in world_map.spawns], np.uint8)
        spawned = access.event("spawned")
        free_for_all = int(rules.teams == 0)
        intent = access.read("player", Intent)
        points = (spawns, spawn_yaw, spawn_team)
        start = np.array([(ARMOURY.number(name), *rounds) for name, *rounds in START_WEAPONS], np.int16)
        found = np.zeros(players.capacity, np.int32)

        def life(rows: int) -> LifeArrays:
            columns = (
                players.ids, vitals.alive, vitals.team, vitals.born, vitals.health, vitals.armour, motion.position,
                motion.velocity, look.yaw, look.pitch, stance.flags, stance.ground_normal, arms.owned, arms.loaded,
                arms.reserve, arms.cooldown_s, arms.reloading_s, arms.weapon, powers.quad_s, powers.regeneration_s,
                powers.battle_suit_s,
            )  # fmt: skip
            return cast(LifeArrays, tuple(column[:rows] for column in columns))

        lives = Used(players, life)
        dead = Used(
            players, lambda rows: (players.live[:rows], vitals.alive[:rows], arms.owned[:rows], vitals.respawn_s[:rows])
        )

        def run(step: Step) -> None:
            live, alive, owned, respawn_s = dead()
            buttons = (step.commands.has_input, step.commands.buttons, intent.buttons)
            count = find_ready(live, alive, owned, buttons, respawn_s, (step.dt, rules.respawn_s), found)
            if count:
                key = (step.seed, step.tick, free_for_all)
                begin_lives(
                    found[:count], points, lives(), start, rules.spawn_health, key, step.events.arrays, spawned
                )  # fmt: skip

        return run

    return System(
        "spawn",
        bind,
        writes=(Vitals, Motion, Look, Stance, Arms, Powers),
        reads=(Intent,),
        emits=("spawned",),
    )
