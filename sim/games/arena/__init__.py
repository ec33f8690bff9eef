"""The arena: a deathmatch, alone or in teams, for players by the dozen or the thousand.

Everything is declared through `sim.plugin.Registration` and the public parts of `sim`, as any game would.
"""

from sim.components import Look, Motion, Pickup, Projectile, Stance, Vitals
from sim.games.arena.combat import damage_system, fire_system, projectile_system
from sim.games.arena.components import Arms, Gait, Match, Name, Powers, Score
from sim.games.arena.items import match_system, pickup_system
from sim.games.arena.players import TEAM_MAX, population_system, spawn_system
from sim.games.arena.rules import ARMOURY, ITEMS, ArenaRules
from sim.games.arena.steps import step_system
from sim.motion_kernels import ON_GROUND
from sim.movers import Turn
from sim.pipeline import chain
from sim.plugin import EVERYWHERE_M, Falls, Registration
from sim.schema import ActionSpec, Field, FieldType, MessageSpec
from sim.systems import Intent, contact_systems, input_system, motion_system, mover_system, pose_system
from sim.worldmap import MOVING_MAX

__all__ = ["declare", "free_for_all", "game"]

PLAYERS_MAX = 1024
PROJECTILES_MAX = 2048
PICKUPS_MAX = 512


def declare_events(registration: Registration) -> None:
    """Declare what happens in the arena, and who hears of it."""
    registration.event("spawned")
    registration.event("shot", "blast", range_m=120.0, sound=True)
    registration.event("hit", range_m=60.0)
    registration.event("kill", range_m=EVERYWHERE_M, public=True)
    registration.event("picked_up", range_m=25.0, sound=True)
    registration.event("match_started", "match_ended", range_m=EVERYWHERE_M, public=True)
    registration.event("jumped", "step", "landed", range_m=30.0, sound=True, implied=True)
    registration.event("no_shot", range_m=0.0)


def declare(registration: Registration, rules: ArenaRules) -> None:
    """Declare the arena with the given rules."""
    weapons, teams = (0, len(ARMOURY) - 1), (0, TEAM_MAX)
    registration.kind(
        "player", Motion, Look, Stance, Intent, Vitals, Arms, Powers, Score, Name, Gait,
        capacity=PLAYERS_MAX, controlled=True, falls=Falls(20.0, "stance.flags", ON_GROUND, 0),
        bounds={"arms.weapon": weapons, "vitals.team": teams},
    )  # fmt: skip
    grenades = Falls(20.0, "projectile.weapon", 31, ARMOURY.number("grenade_launcher"))
    registration.kind(
        "projectile", Motion, Projectile, capacity=PROJECTILES_MAX, falls=grenades,
        bounds={"projectile.weapon": weapons, "projectile.team": teams},
    )  # fmt: skip
    registration.kind("pickup", Motion, Pickup, capacity=PICKUPS_MAX, bounds={"pickup.item": (0, len(ITEMS) - 1)})
    registration.kind("match", Match, capacity=1, replicated=False)
    registration.kind("mover", Turn, capacity=MOVING_MAX)
    declare_events(registration)
    team = Field("team", FieldType.INTEGER, 0, TEAM_MAX, doc="1 red, 2 blue, 3 green, 4 gold; 0: none, to watch")
    registration.action(ActionSpec("choose_team", (team,), per_second_max=1, doc="play for another team"))
    text = Field("text", FieldType.TEXT, high=200)
    registration.message(MessageSpec("say", (text,), doc="a line of chat, passed on to everyone"))
    registration.setting("weapons", ",".join(ARMOURY.names))
    registration.setting("items", ",".join(item.kind for item in ITEMS))
    registration.setting("teams", ",".join(("everyone", "red", "blue", "green", "gold")[: rules.teams + 1]))
    registration.system(
        *chain(
            match_system(rules),
            population_system(rules),
            spawn_system(rules),
            input_system(),
            mover_system(),
            motion_system(),
            *contact_systems({"player": 0.75, "pickup": 0.5}),
            step_system(),
            pose_system(),
            pickup_system(rules),
            fire_system(),
            projectile_system(),
            damage_system(rules),
        )
    )


def game(registration: Registration) -> None:
    """Two teams."""
    declare(registration, ArenaRules())


def free_for_all(registration: Registration) -> None:
    """Everyone for themselves."""
    declare(registration, ArenaRules(teams=0))
