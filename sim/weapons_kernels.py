"""Triggers, rays against hitboxes, projectiles and blasts, each over all players of a tick in one call.

Weapon table: float64, one row per weapon, columns `W_*` in the order of `sim.weapons.WeaponSpec`.

Whom a ray meets is asked of a crowd (`sim.crowd_kernels`) that was gathered from the poses which are passed in.
"""

import enum
from math import sqrt

from sim.arrays import F64, I16, I32, U8, U16, Bool
from sim.crowd_kernels import CROWD_TYPE, CrowdArrays, first_body
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit, closest_hit
from sim.hitbox_kernels import PART_HEAD, PART_LEGS, PART_NONE
from sim.jit import kernel
from sim.rng import random_unit
from sim.trig_kernels import direction
from sim.worldmap import SHOT_MASK

__all__ = [
    "SHOTS_PER_TICK_MAX",
    "WEAPON_COLUMNS",
    "WeaponKind",
    "blast_batch",
    "hitscan_batch",
    "projectiles_fly",
    "triggers",
]


class WeaponKind(enum.IntEnum):
    """How a weapon reaches its target."""

    NONE = 0
    HITSCAN = 1
    PROJECTILE = 2


(
    W_KIND, W_DAMAGE, W_INTERVAL, W_PELLETS, W_SPREAD, W_RANGE, W_FALLOFF_FROM, W_FALLOFF_TO, W_FALLOFF_LEAST, W_HEAD,
    W_LEGS, W_KNOCKBACK, W_MAGAZINE, W_RELOAD, W_ROUNDS, W_SPEED, W_GRAVITY, W_BOUNCE, W_LIFE, W_RADIUS, W_BLAST,
    W_BLAST_DAMAGE,
) = range(22)  # fmt: skip
WEAPON_COLUMNS = 22

HIT_WORLD = -1
HIT_NOTHING = -2

SHOTS_PER_TICK_MAX = 4  # of one player; reached only below 20 Hz or above the fastest allowed rate of fire
EYE = 0.857  # eye height as a fraction of the body's height
BUTTON_FIRE = 8
BUTTON_RELOAD = 32
RNG_SPREAD = 1
BOUNCES_MAX = 4
REST_SPEED = 0.5  # [m/s] below which a bouncing projectile lies still


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


@kernel("(f8[:,::1], b1[::1], u2[::1], u1[::1], f8, f8[::1], f8[::1], i2[:,::1], i2[:,::1], i4[:,::1])")
def triggers(
    table: F64,
    able: Bool,
    buttons: U16,
    weapon: U8,
    dt: float,
    cooldown: F64,
    reloading: F64,
    loaded: I16,
    reserve: I16,
    out_shots: I32,
) -> int:
    """Advance every able player's weapon by one tick and list the shots that are fired.

    Args:
        table: Weapon table.
        able: Who is alive and may fire, shape (n,).
        buttons: `Button` bits, shape (n,).
        weapon: Weapon in hand, shape (n,).
        dt: Length of the tick [s].
        cooldown: Time to the next shot [s], shape (n,); updated.
        reloading: Rest of a reload [s], 0 for none, shape (n,); updated.
        loaded: Rounds in the magazine by player and weapon, int16; updated.
        reserve: Rounds in reserve by player and weapon, int16; updated.
        out_shots: Receives (player, how many shots), int32, at least n rows.

    Returns:
        How many rows of `out_shots` are filled, in ascending order of players.
    """
    count = 0
    for row in range(able.shape[0]):
        number = int(weapon[row])
        if not able[row] or number == 0 or number >= table.shape[0]:
            continue
        magazine = int(table[number, W_MAGAZINE])
        supplied = reserve[row, number] > 0 or table[number, W_ROUNDS] < 0.0
        if buttons[row] & BUTTON_RELOAD and reloading[row] == 0.0 and loaded[row, number] < magazine and supplied:
            reloading[row] = table[number, W_RELOAD]
        wants = (buttons[row] & BUTTON_FIRE) != 0
        shots = _pull(table, number, wants, dt, row, cooldown, reloading, loaded[row], reserve[row])
        if shots > 0:
            out_shots[count, 0] = row
            out_shots[count, 1] = shots
            count += 1
    return count


@kernel
def _spread(
    ray: tuple[float, float, float], spread: float, key: tuple[int, int, int], draw: int
) -> tuple[float, float, float]:
    """A unit ray at random, evenly within the cone of `spread` metres at one metre around `ray`."""
    if spread <= 0.0:
        return ray
    seed, tick, entity = key
    u, v, k = 1.0, 1.0, 0
    # By rejection from the square: the disc without a sine. Sixteen failures have probability 2e-11.
    while u * u + v * v > 1.0 and k < 16:
        u = 2.0 * random_unit(seed, RNG_SPREAD, tick, entity, 64 * draw + 2 * k) - 1.0
        v = 2.0 * random_unit(seed, RNG_SPREAD, tick, entity, 64 * draw + 2 * k + 1) - 1.0
        k += 1
    dx, dy, dz = ray
    flat = sqrt(dx * dx + dy * dy)
    rx, ry = (dy / flat, -dx / flat) if flat > 1e-9 else (1.0, 0.0)
    ux, uy, uz = ry * dz, -rx * dz, rx * dy - ry * dx
    x = dx + spread * (u * rx + v * ux)
    y = dy + spread * (u * ry + v * uy)
    z = dz + spread * v * uz
    length = sqrt(x * x + y * y + z * z)
    return x / length, y / length, z / length


@kernel
def _falloff(figures: F64, distance: float) -> float:
    """Fraction of the damage at a distance."""
    start, end = figures[W_FALLOFF_FROM], figures[W_FALLOFF_TO]
    if distance <= start:
        return 1.0
    if distance >= end:
        return float(figures[W_FALLOFF_LEAST])
    return float(1.0 - (1.0 - figures[W_FALLOFF_LEAST]) * (distance - start) / (end - start))


@kernel(
    f"({GEOMETRY_TYPE}, f8[:,::1], f8[::1], i4[:,::1], i8, u1[::1], "
    f"Tuple((f8[:,::1], f8[::1], u2[::1], i2[::1])), {CROWD_TYPE}, Tuple((i8, i8)), i4[:,::1], f8[:,::1])"
)
def hitscan_batch(
    geometry: GeometryArrays,
    table: F64,
    sine: F64,
    shots: I32,
    shot_count: int,
    weapon: U8,
    poses: tuple[F64, F64, U16, I16],
    crowd: CrowdArrays,
    key: tuple[int, int],
    out_hits: I32,
    out_rays: F64,
) -> int:
    """Judge every pellet of every hitscan shot of a tick against the world and all players.

    Args:
        geometry: The static world.
        table: Weapon table.
        sine: Sine table.
        shots: (player, how many shots), int32.
        shot_count: Rows of `shots` that count.
        weapon: Weapon in hand, shape (n,).
        poses: Of all players: feet [m] (n, 3), height [m], yaw, pitch.
        crowd: Who can be hit, gathered from these poses.
        key: (seed, tick) of the random streams.
        out_hits: Receives (shooter, victim or HIT_WORLD or HIT_NOTHING, part, weapon) per pellet, int32.
        out_rays: Receives origin, end [m] and damage per pellet, float64, shape (same, 7).

    Returns:
        How many pellets were fired; those beyond the rows of `out_hits` are not judged.
    """
    feet, height, yaw, pitch = poses
    count = 0
    for index in range(shot_count):
        shooter = int(shots[index, 0])
        figures = table[int(weapon[shooter])]
        if int(figures[W_KIND]) != WeaponKind.HITSCAN:
            continue
        origin = (feet[shooter, 0], feet[shooter, 1], feet[shooter, 2] + EYE * height[shooter])
        aim = direction(sine, int(yaw[shooter]), int(pitch[shooter]))
        pellets = int(figures[W_PELLETS]) * int(shots[index, 1])
        for pellet in range(pellets):
            if count >= out_hits.shape[0]:
                count += 1
                continue
            ray = _spread(aim, figures[W_SPREAD], (key[0], key[1], shooter), pellet)
            wall, triangle = closest_hit(
                geometry, origin[0], origin[1], origin[2], ray[0], ray[1], ray[2], figures[W_RANGE], SHOT_MASK
            )
            reach = wall if triangle >= 0 else figures[W_RANGE]
            t, victim, part = first_body(crowd, origin, ray, reach, shooter, feet, height)
            damage = 0.0
            if victim >= 0:
                factor = figures[W_HEAD] if part == PART_HEAD else 1.0
                factor = figures[W_LEGS] if part == PART_LEGS else factor
                damage = figures[W_DAMAGE] * factor * _falloff(figures, t)
            elif triangle >= 0:
                victim = HIT_WORLD
            else:
                victim = HIT_NOTHING
            out_hits[count, 0], out_hits[count, 1] = shooter, victim
            out_hits[count, 2], out_hits[count, 3] = part, weapon[shooter]
            for axis in range(3):
                out_rays[count, axis] = origin[axis]
                out_rays[count, 3 + axis] = origin[axis] + ray[axis] * t
            out_rays[count, 6] = damage
            count += 1
    return count


@kernel
def _surface(geometry: GeometryArrays, triangle: int, ray: tuple[float, float, float]) -> tuple[float, float, float]:
    """Unit normal of a triangle, on the side the ray comes from."""
    a = geometry[0][triangle]
    ux, uy, uz = a[3] - a[0], a[4] - a[1], a[5] - a[2]
    vx, vy, vz = a[6] - a[0], a[7] - a[1], a[8] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = sqrt(nx * nx + ny * ny + nz * nz)
    if length <= 1e-12:
        return -ray[0], -ray[1], -ray[2]
    side = -1.0 if nx * ray[0] + ny * ray[1] + nz * ray[2] > 0.0 else 1.0
    return side * nx / length, side * ny / length, side * nz / length


@kernel
def _fly_one(
    geometry: GeometryArrays,
    figures: F64,
    row: int,
    owner: int,
    position: F64,
    velocity: F64,
    dt: float,
    poses: tuple[F64, F64],
    crowd: CrowdArrays,
) -> tuple[int, int]:
    """Fly one projectile for dt; returns (victim row, HIT_WORLD, or HIT_NOTHING while it flies; part)."""
    feet, height = poses
    left = dt
    for _ in range(BOUNCES_MAX):
        fall = 0.5 * figures[W_GRAVITY] * left * left
        mx, my = velocity[row, 0] * left, velocity[row, 1] * left
        mz = velocity[row, 2] * left - fall
        length = sqrt(mx * mx + my * my + mz * mz)
        if length <= 1e-9:
            return HIT_NOTHING, PART_NONE
        ray = (mx / length, my / length, mz / length)
        at = (position[row, 0], position[row, 1], position[row, 2])
        wall, triangle = closest_hit(geometry, at[0], at[1], at[2], ray[0], ray[1], ray[2], length, SHOT_MASK)
        reach = wall if triangle >= 0 else length
        t, victim, part = first_body(crowd, at, ray, reach, owner, feet, height)
        step = left * min(t / length, 1.0)
        ended = victim >= 0 or triangle >= 0
        # It stops a little before the wall, so that its blast is not behind it.
        moved = max(t - 0.02, 0.0) if triangle >= 0 and victim < 0 else t
        for axis in range(3):
            position[row, axis] += ray[axis] * moved
        velocity[row, 2] -= figures[W_GRAVITY] * step
        if victim >= 0:
            return victim, part
        if not ended:
            return HIT_NOTHING, PART_NONE
        if figures[W_BOUNCE] <= 0.0:
            return HIT_WORLD, PART_NONE
        normal = _surface(geometry, triangle, ray)
        into = velocity[row, 0] * normal[0] + velocity[row, 1] * normal[1] + velocity[row, 2] * normal[2]
        speed = 0.0
        for axis in range(3):
            velocity[row, axis] = figures[W_BOUNCE] * (velocity[row, axis] - 2.0 * into * normal[axis])
            speed += velocity[row, axis] * velocity[row, axis]
        if speed < REST_SPEED * REST_SPEED and normal[2] > 0.7:
            velocity[row, 0], velocity[row, 1], velocity[row, 2] = 0.0, 0.0, 0.0
            return HIT_NOTHING, PART_NONE
        left -= step
    return HIT_NOTHING, PART_NONE


@kernel(
    f"({GEOMETRY_TYPE}, f8[:,::1], i4[::1], u1[::1], i4[::1], f8[:,::1], f8[:,::1], f8[::1], f8, "
    f"Tuple((f8[:,::1], f8[::1])), {CROWD_TYPE}, i4[:,::1])"
)
def projectiles_fly(
    geometry: GeometryArrays,
    table: F64,
    slots: I32,
    weapon: U8,
    owner_rows: I32,
    position: F64,
    velocity: F64,
    left_s: F64,
    dt: float,
    poses: tuple[F64, F64],
    crowd: CrowdArrays,
    out_ends: I32,
) -> int:
    """Fly all projectiles for one tick, against the world and all players.

    Args:
        geometry: The static world.
        table: Weapon table.
        slots: Live projectiles, ascending, int32.
        weapon: Weapon of each projectile slot.
        owner_rows: Row of the player who fired each projectile slot, whom it does not hit; -1 for none.
        position: Positions [m], shape (capacity, 3); updated.
        velocity: Velocities [m/s], shape (capacity, 3); updated.
        left_s: Time to live [s]; updated.
        dt: Length of the tick [s].
        poses: Of all players: feet [m] (n, 3), height [m].
        crowd: Who can be hit, gathered from these poses.
        out_ends: Receives (slot, victim row or HIT_WORLD or HIT_NOTHING, part) of each that ended, int32.

    Returns:
        How many ended. One with HIT_NOTHING ran out of time.
    """
    count = 0
    for index in range(slots.shape[0]):
        slot = int(slots[index])
        figures = table[int(weapon[slot])]
        time = min(dt, left_s[slot])
        victim, part = _fly_one(geometry, figures, slot, int(owner_rows[slot]), position, velocity, time, poses, crowd)
        left_s[slot] -= dt
        if victim == HIT_NOTHING and left_s[slot] > 1e-9:
            continue
        out_ends[count, 0], out_ends[count, 1], out_ends[count, 2] = slot, victim, part
        count += 1
    return count


@kernel(f"({GEOMETRY_TYPE}, f8[:,::1], f8[:,::1], i8, Tuple((f8[:,::1], f8[::1], b1[::1])), i4[:,::1], f8[:,::1])")
def blast_batch(
    geometry: GeometryArrays,
    centres: F64,
    figures: F64,
    blast_count: int,
    poses: tuple[F64, F64, Bool],
    out_hits: I32,
    out_amounts: F64,
) -> int:
    """Damage of explosions to every player within reach that is not behind a wall.

    Args:
        geometry: The static world.
        centres: Where [m], shape (at least blast_count, 3).
        figures: Radius [m] and damage at the centre, shape (same, 2).
        blast_count: How many explosions.
        poses: Of all players: feet [m] (n, 3), height [m], who can be hit.
        out_hits: Receives (blast, player), int32.
        out_amounts: Receives damage and the unit direction away from the centre, float64, shape (same, 4).

    Returns:
        How many hits there are; those beyond the rows of `out_hits` are not written.
    """
    feet, height, targets = poses
    count = 0
    for blast in range(blast_count):
        cx, cy, cz = centres[blast, 0], centres[blast, 1], centres[blast, 2]
        radius = figures[blast, 0]
        for row in range(targets.shape[0]):
            if not targets[row]:
                continue
            x, y = feet[row, 0] - cx, feet[row, 1] - cy
            near = min(max(cz, feet[row, 2]), feet[row, 2] + height[row]) - cz
            distance = max(sqrt(x * x + y * y + near * near) - 0.25 * height[row], 0.0)
            middle = feet[row, 2] + 0.6 * height[row] - cz
            if distance >= radius or (
                any_hit(geometry, cx, cy, cz, x, y, middle, 1.0, SHOT_MASK)
                and any_hit(geometry, cx, cy, cz, x, y, feet[row, 2] + 0.1 - cz, 1.0, SHOT_MASK)
            ):
                continue
            if count < out_hits.shape[0]:
                length = max(sqrt(x * x + y * y + middle * middle), 1e-6)
                out_hits[count, 0], out_hits[count, 1] = blast, row
                out_amounts[count, 0] = figures[blast, 1] * (1.0 - distance / radius)
                out_amounts[count, 1] = x / length
                out_amounts[count, 2] = y / length
                out_amounts[count, 3] = middle / length
            count += 1
    return count
