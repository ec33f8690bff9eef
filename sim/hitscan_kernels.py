"""Rays of a tick: every pellet and every sweep of all players in one call, each judged at its own moment.

JUDGED is what a tick's judgement was, and stays until the next tick that has shots:

    PELLETS  i4 (pellets, 6)  shooter row, weapon, rewind [1/REWIND_STEPS tick], first strike, strikes, walls passed
    WAYS     f8 (pellets, 8)  origin x y z [m], direction x y z, distance to the wall that would have stopped it or the
                              weapon's range, distance at which it ended [m]
    STRIKES  i4 (strikes, 4)  pellet, victim row, part, walls passed before
    BLOWS    f8 (strikes, 2)  distance [m], damage in points
    COUNTS   i8 (3,)          pellets judged, strikes, pellets and strikes left out since the world began

A pellet goes through walls as long as its weapon's penetration lasts, and through as many players as its `bodies` says.
"""

from math import sqrt
from typing import Final, TypeAlias

from sim.arrays import F64, I16, I32, I64, U8, U16
from sim.hitbox_kernels import PART_HEAD, PART_LEGS
from sim.jit import kernel
from sim.rewind_kernels import pose_at
from sim.rng import random_unit
from sim.trace_kernels import SCENE_TYPE, Scene, Vector, along, trace
from sim.trig_kernels import direction
from sim.weapons_kernels import (
    EYE,
    W_BODIES,
    W_DAMAGE,
    W_FALLOFF_FROM,
    W_FALLOFF_LEAST,
    W_FALLOFF_TO,
    W_HEAD,
    W_KEEPS,
    W_KIND,
    W_LEGS,
    W_PELLETS,
    W_PENETRATION,
    W_RANGE,
    W_SPREAD,
    W_SWEEP,
    WeaponKind,
)

__all__ = [
    "BLOWS", "COUNTS", "JUDGED_TYPE", "PELLETS", "STRIKES", "WAYS", "JudgedArrays", "hitscan_batch", "part_factor",
]  # fmt: skip

PELLETS: Final = 0
WAYS: Final = 1
STRIKES: Final = 2
BLOWS: Final = 3
COUNTS: Final = 4
JUDGED_TYPE = "Tuple((i4[:,::1], f8[:,::1], i4[:,::1], f8[:,::1], i8[::1]))"
JudgedArrays: TypeAlias = tuple[I32, F64, I32, F64, I64]
RNG_SPREAD = 1
WALLS_MAX = 4  # that one pellet goes through
THINNEST_M = 1e-3  # walls closer together count as one; a ray goes on so far behind a wall
SWEPT_MAX = 3  # players whom a melee strike tries, those behind a corner included


@kernel
def _spread(ray: Vector, spread: float, key: tuple[int, int, int], draw: int) -> Vector:
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


@kernel(counted=False)
def part_factor(figures: F64, part: int) -> float:
    """What a hit in a part of the body counts, of the weapon's damage."""
    if part == PART_HEAD:
        return float(figures[W_HEAD])
    return float(figures[W_LEGS]) if part == PART_LEGS else 1.0


@kernel(counted=False)
def _strike(judged: JudgedArrays, victim: tuple[int, int], walls: int, distance: float, damage: float) -> None:
    """Note that the present pellet met a player (row, part), or count it as left out."""
    strikes, blows, counts = judged[STRIKES], judged[BLOWS], judged[COUNTS]
    index = counts[1]
    if index >= strikes.shape[0]:
        counts[2] += 1
        return
    strikes[index, 0], strikes[index, 1], strikes[index, 2], strikes[index, 3] = counts[0], victim[0], victim[1], walls
    blows[index, 0], blows[index, 1] = distance, damage
    counts[1] = index + 1


@kernel(inline=True)
def _depth(scene: Scene, moment: tuple[int, int], surface: Vector, ray: Vector, most: float) -> float:
    """Thickness of a wall [m], found by a ray back from behind it; -1 if it is thicker than `most`.

    A sheet without thickness cannot be told from the front of a thick wall, and counts as one.
    """
    behind, back = along(surface, ray, most), (-ray[0], -ray[1], -ray[2])
    free, found, _, _, _ = trace(scene, moment, behind, back, max(most - THINNEST_M, 0.0), 0.0, (-1, -1, -1, -1))
    return most - free if found >= 0 else -1.0


@kernel(inline=True)
def _fire_ray(
    scene: Scene, figures: F64, moment: tuple[int, int], shooter: int, way: tuple[Vector, Vector], judged: JudgedArrays
) -> tuple[float, float, int]:
    """Judge one pellet along (origin, ray): (distance of the wall that stops it, where it ends [m], walls passed)."""
    origin, ray = way
    spared = (shooter, -1, -1, -1)
    at, keeps, left = 0.0, 1.0, figures[W_PENETRATION]
    walls, bodies = 0, 0
    wall = end = figures[W_RANGE]
    while at < figures[W_RANGE]:
        start = along(origin, ray, at)
        free, surface, t, victim, part = trace(scene, moment, start, ray, figures[W_RANGE] - at, 0.0, spared)
        wall, end = at + free, at + t
        if victim >= 0:
            damage = figures[W_DAMAGE] * part_factor(figures, part) * _falloff(figures, end) * keeps
            _strike(judged, (victim, part), walls, end, damage)
            bodies += 1
            if bodies >= figures[W_BODIES]:
                break
            spared = (shooter, victim, spared[1], spared[2])
            continue
        if surface < 0 or left <= 0.0 or walls == WALLS_MAX:
            break
        depth = _depth(scene, moment, along(start, ray, free), ray, left)
        if depth < 0.0:
            break
        at = wall + depth + THINNEST_M
        left -= depth
        keeps *= figures[W_KEEPS]
        walls += 1
    return wall, end, walls


@kernel(inline=True)
def _sweep(
    scene: Scene, figures: F64, moment: tuple[int, int], shooter: int, way: tuple[Vector, Vector], judged: JudgedArrays
) -> tuple[float, float, int]:
    """Judge a melee strike: a sphere swept along (origin, ray) until a wall; the nearest it reaches is hit.

    A sphere is wider than its way: whom it touches around a corner, with a wall between its middle and theirs, is safe.
    """
    origin, ray = way
    spared = (shooter, -1, -1, -1)
    wall = end = figures[W_RANGE]
    for _ in range(SWEPT_MAX):
        wall, _, end, victim, part = trace(scene, moment, origin, ray, figures[W_RANGE], figures[W_SWEEP], spared)
        if victim < 0:
            break
        at = along(origin, ray, end)
        _, feet, height = pose_at(scene[1], victim, moment)
        middle = min(max(at[2], feet[2] + 0.14 * height), feet[2] + 0.89 * height)
        x, y, z = feet[0] - at[0], feet[1] - at[1], middle - at[2]
        apart = max(sqrt(x * x + y * y + z * z), 1e-9)
        _, between, _, _, _ = trace(scene, moment, at, (x / apart, y / apart, z / apart), apart, 0.0, (-1, -1, -1, -1))
        if between < 0:
            _strike(judged, (victim, part), 0, end, figures[W_DAMAGE] * part_factor(figures, part))
            break
        spared = (shooter, victim, spared[1], spared[2])
        end = wall
    return wall, end, 0


@kernel(
    f"({SCENE_TYPE}, f8[:,::1], f8[::1], i4[:,::1], i8, Tuple((u1[::1], u2[::1])), "
    f"Tuple((f8[:,::1], f8[::1], u2[::1], i2[::1])), UniTuple(i8, 3), {JUDGED_TYPE})",
    counted=False,
)
def hitscan_batch(
    scene: Scene,
    table: F64,
    sine: F64,
    shots: I32,
    shot_count: int,
    shooters: tuple[U8, U16],
    poses: tuple[F64, F64, U16, I16],
    key: tuple[int, int, int],
    judged: JudgedArrays,
) -> int:
    """Judge every pellet and every melee strike of a tick against the world and all players at the shooter's moment.

    Args:
        scene: What stops rays; poses of the past; the crowd gathered from them for this tick.
        table: Weapon table.
        sine: Sine table.
        shots: (player, how many shots), int32.
        shot_count: Rows of `shots` that count.
        shooters: Weapon in hand and rewind of all players, shape (n,).
        poses: Of all players now, from where they shoot: feet [m] (n, 3), height [m], yaw, pitch.
        key: Seed and tick of the random streams; greatest rewind.
        judged: Filled.

    Returns:
        How many pellets were fired; those beyond the rows of `judged` are not judged, but counted.
    """
    feet, height, yaw, pitch = poses
    pellets, ways, counts = judged[PELLETS], judged[WAYS], judged[COUNTS]
    counts[0], counts[1] = 0, 0
    fired = 0
    for index in range(shot_count):
        shooter = int(shots[index, 0])
        weapon = int(shooters[0][shooter])
        figures = table[weapon]
        kind = int(figures[W_KIND])
        if kind != WeaponKind.HITSCAN and kind != WeaponKind.MELEE:
            continue
        rewind = min(int(shooters[1][shooter]), key[2])
        origin = (feet[shooter, 0], feet[shooter, 1], feet[shooter, 2] + EYE * height[shooter])
        aim = direction(sine, int(yaw[shooter]), int(pitch[shooter]))
        for draw in range(int(figures[W_PELLETS]) * int(shots[index, 1])):
            fired += 1
            pellet = counts[0]
            if pellet >= pellets.shape[0]:
                counts[2] += 1
                continue
            ray = _spread(aim, figures[W_SPREAD], (key[0], key[1], shooter), draw)
            pellets[pellet, 0], pellets[pellet, 1], pellets[pellet, 2] = shooter, weapon, rewind
            pellets[pellet, 3] = counts[1]
            moment, way = (key[1], rewind), (origin, ray)
            if kind == WeaponKind.MELEE:
                wall, end, walls = _sweep(scene, figures, moment, shooter, way, judged)
            else:
                wall, end, walls = _fire_ray(scene, figures, moment, shooter, way, judged)
            pellets[pellet, 4], pellets[pellet, 5] = counts[1] - pellets[pellet, 3], walls
            for axis in range(3):
                ways[pellet, axis], ways[pellet, 3 + axis] = origin[axis], ray[axis]
            ways[pellet, 6], ways[pellet, 7] = wall, end
            counts[0] = pellet + 1
    return fired
