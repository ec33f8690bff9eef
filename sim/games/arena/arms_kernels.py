"""Changing weapons and letting projectiles go, over all players at once."""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, U8, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays, emit
from sim.jit import kernel
from sim.trig_kernels import direction
from sim.weapons_kernels import (
    ARMS_TYPE,
    EYE,
    W_CATCH_UP,
    W_KIND,
    W_LIFE,
    W_SPEED,
    W_SWEEP,
    ArmsArrays,
    WeaponKind,
    triggers,
)

__all__ = ["FLIGHT_TYPE", "SHOOTERS_TYPE", "FlightArrays", "ShooterArrays", "launch", "pull_triggers", "tell_refusals"]

CHANGE_S = 0.25  # from one weapon to the first shot of another
AHEAD_M = 0.1  # where a projectile begins, before the eye; the body's own width keeps walls away from there

FLIGHT_TYPE = "Tuple((u8[::1], u1[::1], u1[::1], f8[::1], u2[::1], f8[:,::1], f8[:,::1]))"
FlightArrays: TypeAlias = tuple[U64, U8, U8, F64, U16, F64, F64]
SHOOTERS_TYPE = "Tuple((b1[::1], u1[::1], u2[::1], u2[::1], u1[::1], u2[::1]))"
"""Who lives, the weapon each wishes for, those it owns, its `Button` bits, the weapon in its hand, its rewind."""
ShooterArrays: TypeAlias = tuple[Bool, U8, U16, U16, U8, U16]


@kernel(counted=False)
def _change_weapons(shooters: ShooterArrays, weapon_count: int, arms: ArmsArrays) -> None:
    """Put the weapon that each living player wishes for into its hand, if it owns it; a reload begun is lost."""
    alive, wish, owned, _, weapon, _ = shooters
    cooldown_s, reloading_s = arms[0], arms[1]
    for row in range(alive.shape[0]):
        number = int(wish[row])
        if not alive[row] or number == int(weapon[row]) or number == 0 or number >= weapon_count:
            continue
        if (int(owned[row]) >> number) & 1 == 0:
            continue
        weapon[row] = number
        reloading_s[row] = 0.0
        cooldown_s[row] = max(cooldown_s[row], CHANGE_S)


@kernel(f"(f8[:,::1], {SHOOTERS_TYPE}, f8, {ARMS_TYPE}, i4[:,::1], i4[:,::1], i4[::1])", counted=False)
def pull_triggers(
    table: F64,
    shooters: ShooterArrays,
    dt: float,
    arms: ArmsArrays,
    out_shots: I32,
    out_refusals: I32,
    out_launches: I32,
) -> tuple[int, int, int, int, float]:
    """Change weapons, pull all triggers of a tick, and find what judging its shots needs.

    Args:
        table: Weapon table.
        shooters: See `SHOOTERS_TYPE`; the weapon in hand is changed.
        dt: Length of the tick [s].
        arms: Updated.
        out_shots, out_refusals: As for `sim.weapons_kernels.triggers`.
        out_launches: Receives the player of every projectile that is fired, in the order of the shots.

    Returns:
        How many shots there are; how many refusals; how many projectiles, of which those beyond the places of
        `out_launches` are not listed; the farthest rewind among the shots; the widest sweep of their weapons [m].
    """
    alive, _, _, buttons, weapon, rewind = shooters
    _change_weapons(shooters, table.shape[0], arms)
    count, refused = triggers(table, alive, buttons, weapon, dt, arms, out_shots, out_refusals)
    launches, farthest, widest = 0, 0, 0.0
    for index in range(count):
        row = int(out_shots[index, 0])
        number = int(weapon[row])
        farthest = max(farthest, int(rewind[row]))
        widest = max(widest, table[number, W_SWEEP])
        if int(table[number, W_KIND]) != WeaponKind.PROJECTILE:
            continue
        for _ in range(int(out_shots[index, 1])):
            if launches < out_launches.shape[0]:
                out_launches[launches] = row
            launches += 1
    return count, refused, launches, farthest, widest


@kernel(
    "(f8[:,::1], f8[::1], i4[::1], i4[::1], Tuple((u8[::1], u1[::1], u1[::1], u2[::1])), "
    f"Tuple((f8[:,::1], f8[::1], u2[::1], i2[::1])), UniTuple(f8, 2), {FLIGHT_TYPE})",
    counted=False,
)
def launch(
    table: F64,
    sine: F64,
    rows: I32,
    slots: I32,
    shooters: tuple[U64, U8, U8, U16],
    poses: tuple[F64, F64, U16, I16],
    limits: tuple[float, float],
    flight: FlightArrays,
) -> None:
    """Let one projectile fly from each shooter's eye.

    Args:
        table: Weapon table.
        sine: Sine table.
        rows: Rows of the shooters.
        slots: Projectile slots to fill, as many as there are at most rows.
        shooters: Id, weapon in hand, team and rewind of all players.
        poses: Of all players: feet [m] (n, 3), height [m], yaw, pitch.
        limits: Greatest rewind and steps of it in a millisecond [1/`REWIND_STEPS` tick].
        flight: Columns owner, weapon, team, left_s, how far behind, position and velocity of the projectiles.
    """
    ids, weapon, team, rewind = shooters
    feet, height, yaw, pitch = poses
    owner, kind, side, left_s, behind, position, velocity = flight
    for index in range(slots.shape[0]):
        row, slot = int(rows[index]), int(slots[index])
        number = int(weapon[row])
        aim = direction(sine, int(yaw[row]), int(pitch[row]))
        owner[slot], kind[slot], side[slot] = ids[row], np.uint8(number), team[row]
        left_s[slot] = table[number, W_LIFE]
        behind[slot] = int(min(float(rewind[row]), limits[0], table[number, W_CATCH_UP] * limits[1]))
        for axis in range(3):
            position[slot, axis] = feet[row, axis] + AHEAD_M * aim[axis]
            velocity[slot, axis] = aim[axis] * table[number, W_SPEED]
        position[slot, 2] += EYE * height[row]


@kernel(f"(i4[:,::1], i8, u8[::1], f8[:,::1], {EVENTS_TYPE}, i8)", counted=False)
def tell_refusals(refusals: I32, count: int, ids: U64, feet: F64, events: EventArrays, kind: int) -> None:
    """Tell who pressed the trigger in vain, at its feet: value = `sim.weapons.NoShot`."""
    for index in range(count):
        row = int(refusals[index, 0])
        at = (feet[row, 0], feet[row, 1], feet[row, 2])
        emit(events, kind, ids[row], np.uint64(0), at, (0.0, 0.0, 0.0), int(refusals[index, 1]))
