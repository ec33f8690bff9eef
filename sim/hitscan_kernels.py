"""Rays of a tick: every pellet and every sweep of all players in one call, each judged at its own moment.

JUDGED is what a tick's judgement was, and stays until the next tick that has shots:

    PELLETS  i4 (pellets, 6)  shooter row, weapon, rewind [1/REWIND_STEPS tick], first strike, strikes, walls passed
    WAYS     f8 (pellets, 8)  origin x y z [m], direction x y z, distance to the wall that would have stopped it or the
                              weapon's range, distance at which it ended [m]
    STRIKES  i4 (strikes, 4)  pellet, victim row, part, walls passed before
    BLOWS    f8 (strikes, 2)  distance [m], damage in points
    COUNTS   i8 (3,)          pellets judged, strikes, pellets and strikes left out since the world began

Whom a ray meets is asked of a crowd (`sim.crowd_kernels`), what stops it of `sim.occlusion_kernels`.
"""

from math import sqrt
from typing import Final, TypeAlias

from sim.arrays import F64, I16, I32, I64, U8, U16
from sim.crowd_kernels import CROWD_TYPE, CrowdArrays, first_body
from sim.hitbox_kernels import PART_HEAD, PART_LEGS
from sim.jit import kernel
from sim.occlusion_kernels import OCCLUDERS_TYPE, OccluderArrays, first_wall
from sim.rewind_kernels import HISTORY_TYPE, HistoryArrays
from sim.rng import random_unit
from sim.trig_kernels import direction
from sim.weapons_kernels import (
    EYE,
    W_DAMAGE,
    W_FALLOFF_FROM,
    W_FALLOFF_LEAST,
    W_FALLOFF_TO,
    W_HEAD,
    W_KIND,
    W_LEGS,
    W_PELLETS,
    W_RANGE,
    W_SPREAD,
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
Vector: TypeAlias = tuple[float, float, float]
Scene: TypeAlias = tuple[OccluderArrays, HistoryArrays, CrowdArrays]
SCENE_TYPE = f"Tuple(({OCCLUDERS_TYPE}, {HISTORY_TYPE}, {CROWD_TYPE}))"

RNG_SPREAD = 1


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
def _strike(
    judged: JudgedArrays, pellet: int, victim: tuple[int, int], walls: int, distance: float, damage: float
) -> None:
    """Note that a pellet met a player (row, part), or count it as left out."""
    strikes, blows, counts = judged[STRIKES], judged[BLOWS], judged[COUNTS]
    index = counts[1]
    if index >= strikes.shape[0]:
        counts[2] += 1
        return
    strikes[index, 0], strikes[index, 1], strikes[index, 2], strikes[index, 3] = pellet, victim[0], victim[1], walls
    blows[index, 0], blows[index, 1] = distance, damage
    counts[1] = index + 1


@kernel(counted=False)
def _fire_ray(
    scene: Scene, figures: F64, moment: tuple[int, int], shooter: int, way: tuple[Vector, Vector], judged: JudgedArrays
) -> None:
    """Judge one pellet along (origin, ray)."""
    occluders, history, crowd = scene
    origin, ray = way
    pellet = judged[COUNTS][0]
    wall, _ = first_wall(occluders, moment, origin, ray, figures[W_RANGE])
    t, victim, part = first_body(crowd, history, moment, origin, ray, wall, (shooter, -1, -1, -1))
    if victim >= 0:
        damage = figures[W_DAMAGE] * part_factor(figures, part) * _falloff(figures, t)
        _strike(judged, pellet, (victim, part), 0, t, damage)
    ways = judged[WAYS]
    for axis in range(3):
        ways[pellet, axis], ways[pellet, 3 + axis] = origin[axis], ray[axis]
    ways[pellet, 6], ways[pellet, 7] = wall, t


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
    """Judge every pellet of every hitscan shot of a tick against the world and all players at the shooter's moment.

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
    pellets, counts = judged[PELLETS], judged[COUNTS]
    counts[0], counts[1] = 0, 0
    fired = 0
    for index in range(shot_count):
        shooter = int(shots[index, 0])
        weapon = int(shooters[0][shooter])
        figures = table[weapon]
        if int(figures[W_KIND]) != WeaponKind.HITSCAN:
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
            pellets[pellet, 3], pellets[pellet, 5] = counts[1], 0
            _fire_ray(scene, figures, (key[1], rewind), shooter, (origin, ray), judged)
            pellets[pellet, 4] = counts[1] - pellets[pellet, 3]
            counts[0] = pellet + 1
    return fired
