"""Changing weapons and letting projectiles go, over all players at once."""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, U8, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays, emit
from sim.jit import kernel
from sim.trig_kernels import direction
from sim.weapons_kernels import EYE, W_CATCH_UP, W_KIND, W_LIFE, W_SPEED, WeaponKind

__all__ = ["FLIGHT_TYPE", "FlightArrays", "change_weapons", "launch", "list_launches", "tell_refusals"]

CHANGE_S = 0.25  # from one weapon to the first shot of another
AHEAD_M = 0.1  # where a projectile begins, before the eye; the body's own width keeps walls away from there

FLIGHT_TYPE = "Tuple((u8[::1], u1[::1], u1[::1], f8[::1], u2[::1], f8[:,::1], f8[:,::1]))"
FlightArrays: TypeAlias = tuple[U64, U8, U8, F64, U16, F64, F64]


@kernel("(b1[::1], u1[::1], u2[::1], i8, u1[::1], f8[::1], f8[::1])", counted=False)
def change_weapons(
    alive: Bool, wish: U8, owned: U16, weapon_count: int, weapon: U8, reloading_s: F64, cooldown_s: F64
) -> None:
    """Put the weapon that each living player wishes for into its hand, if it owns it; a reload begun is lost."""
    for row in range(alive.shape[0]):
        number = int(wish[row])
        if not alive[row] or number == int(weapon[row]) or number == 0 or number >= weapon_count:
            continue
        if (int(owned[row]) >> number) & 1 == 0:
            continue
        weapon[row] = number
        reloading_s[row] = 0.0
        cooldown_s[row] = max(cooldown_s[row], CHANGE_S)


@kernel("(f8[:,::1], u1[::1], i4[:,::1], i8, i4[::1])", counted=False)
def list_launches(table: F64, weapon: U8, shots: I32, shot_count: int, out_rows: I32) -> int:
    """List the player of every projectile that is fired, in the order of the shots.

    Returns:
        How many there are; those beyond the places of `out_rows` are not listed.
    """
    count = 0
    for index in range(shot_count):
        row = int(shots[index, 0])
        if int(table[int(weapon[row]), W_KIND]) != WeaponKind.PROJECTILE:
            continue
        for _ in range(int(shots[index, 1])):
            if count < out_rows.shape[0]:
                out_rows[count] = row
            count += 1
    return count


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
