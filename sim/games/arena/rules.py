"""The arena's figures: weapons, items and times, in one place.

Weapons follow the proportions of arena shooters of the Quake III kind, in metres at 40 units to the metre. The
machinegun shoots through thin walls, the railgun through players; new weapons come last, so that numbers stay.
"""

from dataclasses import dataclass

from sim.weapons import Armoury, WeaponSpec

__all__ = ["ARMOURY", "ITEMS", "ITEM_NUMBERS", "START_WEAPONS", "ArenaRules", "Item"]

ARMOURY = Armoury(
    [
        WeaponSpec(
            "machinegun", 7, 0.1, spread=0.018, falloff_from_m=25, falloff_to_m=80, falloff_least=0.6,
            penetration_m=0.2, penetration_factor=0.5, magazine=40, reload_s=1.6, rounds_max=240,
        ),
        WeaponSpec(
            "shotgun", 9, 1.0, pellets=11, spread=0.09, range_m=60, falloff_from_m=8, falloff_to_m=30,
            falloff_least=0.3, head=1.5, magazine=8, reload_s=2.2, rounds_max=48,
        ),
        WeaponSpec(
            "grenade_launcher", 100, 0.8, speed=17.5, gravity=20.0, bounce=0.65, life_s=2.5, radius_m=0.1,
            head=1.0, legs=1.0, blast_m=3.75, blast_damage=100, rounds_max=30,
        ),
        WeaponSpec(
            "rocket_launcher", 100, 0.8, speed=22.5, life_s=15.0, radius_m=0.1, head=1.0, legs=1.0,
            blast_m=3.0, blast_damage=100, rounds_max=50,
        ),
        WeaponSpec("lightning", 8, 0.05, range_m=19.2, head=1.0, legs=1.0, rounds_max=200),
        WeaponSpec("railgun", 100, 1.5, head=1.5, legs=1.0, knockback=0.04, rounds_max=30, bodies=4),
        WeaponSpec(
            "plasma", 20, 0.1, speed=50.0, life_s=10.0, radius_m=0.05, head=1.0, legs=1.0, blast_m=0.5,
            blast_damage=15, rounds_max=200,
        ),
        WeaponSpec(
            "bfg", 100, 0.2, speed=50.0, life_s=10.0, radius_m=0.2, head=1.0, legs=1.0, blast_m=3.0,
            blast_damage=100, rounds_max=40,
        ),
        WeaponSpec("gauntlet", 50, 0.4, range_m=1.3, sweep_m=0.25, head=1.0, legs=1.0, rounds_max=-1),
    ]
)  # fmt: skip

START_WEAPONS = (("machinegun", 40, 80), ("shotgun", 8, 8), ("gauntlet", 0, 0))
"""What a player comes to life with: weapon, rounds loaded, rounds in reserve. The first is in hand."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something to pick up: `weapon` or `power` names what it gives, beside points of health and armour."""

    kind: str
    respawn_s: float
    health: int = 0
    armour: int = 0
    weapon: str = ""
    rounds: int = 0
    gives_weapon: bool = False
    power: str = ""
    power_s: float = 0.0


def _weapon_items() -> list[Item]:
    rounds = {
        "machinegun": 50, "shotgun": 10, "grenade_launcher": 10, "rocket_launcher": 10, "lightning": 100,
        "railgun": 10, "plasma": 50, "bfg": 20,
    }  # fmt: skip
    weapons = [Item(name, 5.0, weapon=name, rounds=count, gives_weapon=True) for name, count in rounds.items()]
    ammunition = [Item(f"ammo_{name}", 40.0, weapon=name, rounds=count) for name, count in rounds.items()]
    return weapons + ammunition


ITEMS: tuple[Item, ...] = (
    Item("health", 35.0, health=25),
    Item("armour", 25.0, armour=50),
    *_weapon_items(),
    Item("quad", 120.0, power="quad", power_s=30.0),
    Item("regeneration", 120.0, power="regeneration", power_s=30.0),
    Item("battle_suit", 120.0, power="battle_suit", power_s=30.0),
)
ITEM_NUMBERS = {item.kind: number for number, item in enumerate(ITEMS)}


@dataclass(frozen=True, slots=True)
class ArenaRules:
    """How a match is played.

    Attributes:
        teams: 0: everyone for themselves; 2 to 4: that many teams.
        friendly_fire: Fraction of damage that team mates take from each other.
        self_damage: Fraction of damage from one's own blasts.
        spawn_health: Points at the start of a life; decays to `health_full`.
        health_full: Points that health and armour decay to, one point a second.
        health_most: Most points of health or armour.
        respawn_s: Time from death until a new life may begin; it begins when FIRE is held, or after as long again.
        match_s: Length of a match.
        points_to_win: Points of a player (or team) that end the match; 0: only time does.
        armour_absorbs: Fraction of damage that armour takes.
        fall_safe_m: Height below the map at which a player dies.
    """

    teams: int = 2
    friendly_fire: float = 0.0
    self_damage: float = 0.5
    spawn_health: float = 125.0
    health_full: float = 100.0
    health_most: float = 200.0
    respawn_s: float = 1.5
    match_s: float = 900.0
    points_to_win: int = 0
    armour_absorbs: float = 0.66
    fall_safe_m: float = 20.0
    quad_factor: float = 3.0
    suit_factor: float = 0.5
    regeneration_per_s: float = 15.0
