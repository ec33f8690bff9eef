"""The table of weapons, and the triggers of all players of a tick in one call.

Weapon table: float64, one row per weapon, columns `W_*` in the order of `sim.weapons.WeaponSpec`. What the shots meet
is judged in `sim.hitscan_kernels` and `sim.flight_kernels`.

ARMS is the tuple of columns that triggers advance: (time to the next shot [s] f8 (n,), rest of a reload [s], 0 for
none, f8 (n,), whether FIRE was held in the last tick b1 (n,), rounds in the magazine and in reserve by player and
weapon i2 (n, w)).
"""

import enum
from typing import TypeAlias

from sim.arrays import F64, I16, I32, U8, U16, Bool
from sim.jit import kernel

__all__ = [
    "ARMS_TYPE",
    "BODIES_MAX",
    "SHOTS_PER_TICK_MAX",
    "SWEEP_M_MAX",
    "WEAPON_COLUMNS",
    "ArmsArrays",
    "WeaponKind",
    "triggers",
]


class WeaponKind(enum.IntEnum):
    """How a weapon reaches its target."""

    NONE = 0
    HITSCAN = 1
    PROJECTILE = 2
    MELEE = 3


(
    W_KIND, W_DAMAGE, W_INTERVAL, W_PELLETS, W_SPREAD, W_RANGE, W_FALLOFF_FROM, W_FALLOFF_TO, W_FALLOFF_LEAST, W_HEAD,
    W_LEGS, W_KNOCKBACK, W_MAGAZINE, W_RELOAD, W_ROUNDS, W_SPEED, W_GRAVITY, W_BOUNCE, W_LIFE, W_RADIUS, W_BLAST,
    W_BLAST_DAMAGE, W_PENETRATION, W_KEEPS, W_BODIES, W_SWEEP, W_CATCH_UP,
) = range(27)  # fmt: skip
WEAPON_COLUMNS = 27

HIT_WORLD = -1
HIT_NOTHING = -2

SHOTS_PER_TICK_MAX = 4  # of one player; reached only below 20 Hz or above the fastest allowed rate of fire
BODIES_MAX = 4  # players struck by one pellet
SWEEP_M_MAX = 1.0
REFUSED_RATE, REFUSED_AMMO, REFUSED_RELOAD = 1, 2, 3
EYE = 0.857  # eye height as a fraction of the body's height
BUTTON_FIRE = 8
BUTTON_RELOAD = 32


ARMS_TYPE = "Tuple((f8[::1], f8[::1], b1[::1], i2[:,::1], i2[:,::1]))"
ArmsArrays: TypeAlias = tuple[F64, F64, Bool, I16, I16]


@kernel
def _pull(
    table: F64, weapon: int, wants: bool, dt: float, row: int, cooldown: F64, reloading: F64, loaded: I16, reserve: I16
) -> int:
    """Advance one player's weapon by dt; returns how many shots leave it. `loaded` and `reserve` are its own rows."""
    figures = table[weapon]
    magazine = int(figures[W_MAGAZINE])
    endless = figures[W_ROUNDS] < 0.0
    cooldown[row] -= dt
    if reloading[row] > 0.0:
        reloading[row] -= dt
        if reloading[row] <= 1e-9:
            # What is left of the tick after the reload belongs to the next shot.
            cooldown[row] = max(cooldown[row], min(reloading[row], 0.0))
            reloading[row] = 0.0
            take = magazine - loaded[weapon]
            if not endless:
                take = min(take, int(reserve[weapon]))
                reserve[weapon] -= take
            loaded[weapon] += take
    shots = 0
    # A shot is due when the cool-down ends before this tick does; what is left of the tick goes on to the next shot.
    while cooldown[row] < -1e-9 and wants and reloading[row] == 0.0 and shots < SHOTS_PER_TICK_MAX:
        rounds = loaded[weapon] if magazine > 0 else reserve[weapon]
        if rounds <= 0 and not (endless and magazine == 0):
            break
        if magazine > 0:
            loaded[weapon] -= 1
        elif not endless:
            reserve[weapon] -= 1
        cooldown[row] = max(cooldown[row], -dt) + figures[W_INTERVAL]
        shots += 1
    if shots == 0:
        cooldown[row] = max(cooldown[row], 0.0)
    if magazine > 0 and reloading[row] == 0.0 and loaded[weapon] == 0 and (endless or reserve[weapon] > 0):
        reloading[row] = figures[W_RELOAD] + (cooldown[row] - figures[W_INTERVAL] if shots > 0 else 0.0)
    return shots


@kernel(counted=False)
def _refusal(table: F64, weapon: int, row: int, arms: ArmsArrays) -> int:
    """Why a weapon lets no shot go."""
    if arms[1][row] > 0.0:
        return REFUSED_RELOAD
    rounds = arms[3][row, weapon] if table[weapon, W_MAGAZINE] > 0.0 else arms[4][row, weapon]
    endless = table[weapon, W_ROUNDS] < 0.0 and table[weapon, W_MAGAZINE] == 0.0
    return REFUSED_AMMO if rounds <= 0 and not endless else REFUSED_RATE


@kernel(counted=False)
def triggers(
    table: F64, able: Bool, buttons: U16, weapon: U8, dt: float, arms: ArmsArrays, out_shots: I32, out_refusals: I32
) -> tuple[int, int]:
    """Advance every able player's weapon by one tick and list the shots that are fired, and those that are refused.

    Args:
        table: Weapon table.
        able: Who is alive and may fire, shape (n,).
        buttons: `Button` bits, shape (n,).
        weapon: Weapon in hand, shape (n,).
        dt: Length of the tick [s].
        arms: Updated.
        out_shots: Receives (player, how many shots), int32, at least n rows.
        out_refusals: Receives (player, `sim.weapons.NoShot`) of each newly pressed trigger without a shot, likewise.

    Returns:
        How many rows of `out_shots` and of `out_refusals` are filled, each in ascending order of players.
    """
    cooldown, reloading, pressed, loaded, reserve = arms
    count, refused = 0, 0
    for row in range(able.shape[0]):
        number = int(weapon[row])
        wants = (buttons[row] & BUTTON_FIRE) != 0
        fresh = wants and not pressed[row]
        pressed[row] = wants
        if not able[row] or number == 0 or number >= table.shape[0]:
            continue
        magazine = int(table[number, W_MAGAZINE])
        supplied = reserve[row, number] > 0 or table[number, W_ROUNDS] < 0.0
        if buttons[row] & BUTTON_RELOAD and reloading[row] == 0.0 and loaded[row, number] < magazine and supplied:
            reloading[row] = table[number, W_RELOAD]
        shots = _pull(table, number, wants, dt, row, cooldown, reloading, loaded[row], reserve[row])
        if shots > 0:
            out_shots[count, 0], out_shots[count, 1] = row, shots
            count += 1
        elif fresh:
            out_refusals[refused, 0], out_refusals[refused, 1] = row, _refusal(table, number, row, arms)
            refused += 1
    return count, refused
