"""Weapons as data, and the batch calls that judge their shots.

A weapon is a `WeaponSpec`; an armoury numbers them (0 is no weapon) and lays their figures out as one float64 table for
the kernels of `sim.weapons_kernels`. Times are seconds and speeds metres per second, never ticks: rates of fire carry
the unused part of a tick over to the next, so that the same trigger pull gives the same shots at any tick rate.

What the shots meet is judged at the moment that their shooter saw: see `sim.hitscan_kernels` and `sim.flight_kernels`.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.arrays import F64
from sim.errors import DeclarationError
from sim.weapons_kernels import (
    BODIES_MAX,
    REFUSED_AMMO,
    REFUSED_RATE,
    REFUSED_RELOAD,
    SWEEP_M_MAX,
    WEAPON_COLUMNS,
    WeaponKind,
)

__all__ = ["WEAPONS_MAX", "Armoury", "NoShot", "WeaponSpec"]

WEAPONS_MAX = 16


class NoShot(enum.IntEnum):
    """Why a weapon refuses a newly pressed trigger. Holding it while the weapon is busy is no refusal."""

    RATE = REFUSED_RATE
    AMMO = REFUSED_AMMO
    RELOAD = REFUSED_RELOAD


@dataclass(frozen=True, slots=True)
class WeaponSpec:
    """The figures of one weapon. A weapon with a `speed` lets projectiles fly, one with a `sweep_m` strikes, any other
    shoots rays.

    Attributes:
        damage: Points per pellet or direct hit, before hitbox and falloff.
        interval_s: Time between shots.
        pellets: Rays per shot.
        spread: Radius of the cone at one metre.
        range_m: How far a ray reaches.
        falloff_from_m: Distance up to which damage is whole.
        falloff_to_m: Distance from which damage is `falloff_least` of the whole.
        falloff_least: Fraction of damage at long range.
        head: Factor for hits in the head.
        legs: Factor for hits in the legs.
        knockback: Speed given per point of damage [m/s].
        magazine: Rounds before a reload; 0: fed from the reserve without reloading.
        reload_s: Time of a reload.
        rounds_max: Greatest reserve; -1: needs no ammunition.
        speed: Speed of the projectile; 0: hitscan.
        gravity: Downward acceleration of the projectile [m/s²].
        bounce: Fraction of speed kept in a bounce; 0: ends at the first touch of the world.
        life_s: Time after which a projectile ends (explodes, if it has a blast).
        radius_m: Radius of the projectile.
        blast_m: Radius of the explosion; 0: none.
        blast_damage: Points at the centre of the explosion, falling linearly to the edge.
        penetration_m: Thickness of walls that a ray goes through, all that it meets together; 0: none.
        penetration_factor: What each wall leaves of the damage.
        bodies: How many players a ray strikes, with the whole damage each, before it ends.
        sweep_m: Radius of a melee weapon's sphere, swept from the eye over `range_m`; 0: not melee.
        catch_up_ms: How much of its shooter's rewind a projectile makes up for at most: it flies the way that it would
            have flown since the moment that its shooter saw, past the poses of that time. Beyond 100 ms it would appear
            too far on its way to be dodged.
    """

    name: str
    damage: float
    interval_s: float
    pellets: int = 1
    spread: float = 0.0
    range_m: float = 200.0
    falloff_from_m: float = 1e9
    falloff_to_m: float = 1e9
    falloff_least: float = 1.0
    head: float = 2.0
    legs: float = 0.75
    knockback: float = 0.05
    magazine: int = 0
    reload_s: float = 0.0
    rounds_max: int = 100
    speed: float = 0.0
    gravity: float = 0.0
    bounce: float = 0.0
    life_s: float = 5.0
    radius_m: float = 0.0
    blast_m: float = 0.0
    blast_damage: float = 0.0
    penetration_m: float = 0.0
    penetration_factor: float = 1.0
    bodies: int = 1
    sweep_m: float = 0.0
    catch_up_ms: float = 100.0

    def check(self) -> None:
        """Refuse figures that no kernel could follow.

        Raises:
            DeclarationError: One is out of range; the message names it.
        """
        bounds = {
            "damage": (0.0, 1e4), "interval_s": (0.02, 60.0), "pellets": (1, 32), "spread": (0.0, 1.0),
            "range_m": (0.1, 1e5), "falloff_least": (0.0, 1.0), "magazine": (0, 1000), "rounds_max": (-1, 10000),
            "speed": (0.0, 1000.0), "bounce": (0.0, 0.95), "life_s": (0.05, 60.0), "radius_m": (0.0, 2.0),
            "blast_m": (0.0, 50.0), "reload_s": (0.0, 60.0), "penetration_m": (0.0, 5.0),
            "penetration_factor": (0.0, 1.0), "bodies": (1, BODIES_MAX), "sweep_m": (0.0, SWEEP_M_MAX),
            "catch_up_ms": (0.0, 1000.0),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise DeclarationError(f"weapon {self.name!r}: {name} is {value}, must be {low} to {high}")
        if self.falloff_from_m > self.falloff_to_m:
            raise DeclarationError(f"weapon {self.name!r}: falloff_from_m is beyond falloff_to_m")
        if self.speed > 0.0 and self.sweep_m > 0.0:
            raise DeclarationError(f"weapon {self.name!r}: has a speed and a sweep_m; it can only fly or strike")


class Armoury:
    """Numbered weapons. Number 0 is bare hands: it never fires.

    Attributes:
        names: By number.
        table: The figures, shape (weapon_count, WEAPON_COLUMNS), float64, in the order of `sim.weapons_kernels`.
    """

    def __init__(self, specs: Sequence[WeaponSpec]) -> None:
        if len(specs) >= WEAPONS_MAX:
            raise DeclarationError(f"{len(specs)} weapons: at most {WEAPONS_MAX - 1}")
        self.specs = tuple(specs)
        self.names = ("none", *(spec.name for spec in specs))
        self.table: F64 = np.zeros((len(specs) + 1, WEAPON_COLUMNS))
        for number, spec in enumerate(specs, start=1):
            spec.check()
            kind = WeaponKind.MELEE if spec.sweep_m > 0.0 else WeaponKind.HITSCAN
            kind = WeaponKind.PROJECTILE if spec.speed > 0.0 else kind
            self.table[number] = (
                kind, spec.damage, spec.interval_s, spec.pellets, spec.spread, spec.range_m, spec.falloff_from_m,
                spec.falloff_to_m, spec.falloff_least, spec.head, spec.legs, spec.knockback, spec.magazine,
                spec.reload_s, spec.rounds_max, spec.speed, spec.gravity, spec.bounce, spec.life_s, spec.radius_m,
                spec.blast_m, spec.blast_damage, spec.penetration_m, spec.penetration_factor, spec.bodies,
                spec.sweep_m, spec.catch_up_ms,
            )  # fmt: skip

    def number(self, name: str) -> int:
        """Number of a weapon.

        Raises:
            DeclarationError: There is none of that name.
        """
        if name not in self.names:
            raise DeclarationError(f"no weapon is called {name!r}; there are {', '.join(self.names)}")
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)
