"""Projectiles and blasts of a tick, all in one call each.

A projectile that is `behind` by steps of 1/REWIND_STEPS tick, launched at the moment that its shooter saw, first makes
up for them: tick by tick, each step against the world and the poses of its own moment, the first at the shooter's.
Unreal Tournament (2014) lets projectiles catch up likewise, but past the present poses.
"""

from math import sqrt

from sim.arrays import F64, I32, U8, U16, Bool
from sim.commands import REWIND_STEPS
from sim.hitbox_kernels import PART_NONE
from sim.jit import kernel
from sim.occlusion_kernels import OCCLUDERS_TYPE, OccluderArrays, any_wall, wall_normal
from sim.trace_kernels import SCENE_TYPE, Scene, trace
from sim.weapons_kernels import HIT_NOTHING, HIT_WORLD, W_BOUNCE, W_GRAVITY

__all__ = ["blast_batch", "projectiles_fly"]

BOUNCES_MAX = 4
REST_SPEED = 0.5  # [m/s] below which a bouncing projectile lies still


@kernel(inline=True)
def _fly_one(
    scene: Scene,
    figures: F64,
    row: int,
    owner: int,
    position: F64,
    velocity: F64,
    dt: float,
    moment: tuple[int, int],
) -> tuple[int, int]:
    """Fly one projectile for dt; returns (victim row, HIT_WORLD, or HIT_NOTHING while it flies; part)."""
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
        _, surface, t, victim, part = trace(scene, moment, at, ray, length, 0.0, (owner, -1, -1, -1))
        step = left * min(t / length, 1.0)
        ended = victim >= 0 or surface >= 0
        # It stops a little before the wall, so that its blast is not behind it.
        moved = max(t - 0.02, 0.0) if surface >= 0 and victim < 0 else t
        for axis in range(3):
            position[row, axis] += ray[axis] * moved
        velocity[row, 2] -= figures[W_GRAVITY] * step
        if victim >= 0:
            return victim, part
        if not ended:
            return HIT_NOTHING, PART_NONE
        if figures[W_BOUNCE] <= 0.0:
            return HIT_WORLD, PART_NONE
        normal = wall_normal(scene[0], surface, ray)
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
    f"({SCENE_TYPE}, f8[:,::1], i4[::1], u1[::1], i4[::1], f8[:,::1], f8[:,::1], f8[::1], u2[::1], f8, i8, i4[:,::1])",
    counted=False,
)
def projectiles_fly(
    scene: Scene,
    table: F64,
    slots: I32,
    weapon: U8,
    owner_rows: I32,
    position: F64,
    velocity: F64,
    left_s: F64,
    behind: U16,
    dt: float,
    tick: int,
    out_ends: I32,
) -> int:
    """Fly all projectiles for one tick and what they are behind, against the world and all players.

    Args:
        scene: What stops them; poses of the past; the crowd gathered from them for this tick.
        table: Weapon table.
        slots: Live projectiles, ascending, int32.
        weapon: Weapon of each projectile slot.
        owner_rows: Row of the player who fired each projectile slot, whom it does not hit; -1 for none.
        position: Positions [m], shape (capacity, 3); updated.
        velocity: Velocities [m/s], shape (capacity, 3); updated.
        left_s: Time to live [s]; updated.
        behind: How far before this tick each was launched [1/`REWIND_STEPS` tick]; made up for, and set to 0.
        dt: Length of the tick [s].
        tick: The tick that is being made.
        out_ends: Receives (slot, victim row or HIT_WORLD or HIT_NOTHING, part) of each that ended, int32.

    Returns:
        How many ended. One with HIT_NOTHING ran out of time.
    """
    count = 0
    for index in range(slots.shape[0]):
        slot = int(slots[index])
        figures = table[int(weapon[slot])]
        owner = int(owner_rows[slot])
        rewind = int(behind[slot])
        behind[slot] = 0
        while True:
            time = dt * min(rewind, REWIND_STEPS) / REWIND_STEPS if rewind > 0 else dt
            victim, part = _fly_one(
                scene, figures, slot, owner, position, velocity, min(time, left_s[slot]), (tick, rewind)
            )
            left_s[slot] -= time
            if rewind == 0 or victim != HIT_NOTHING or left_s[slot] <= 1e-9:
                break
            rewind = max(rewind - REWIND_STEPS, 0)
        if victim == HIT_NOTHING and left_s[slot] > 1e-9:
            continue
        out_ends[count, 0], out_ends[count, 1], out_ends[count, 2] = slot, victim, part
        count += 1
    return count


@kernel(f"({OCCLUDERS_TYPE}, f8[:,::1], f8[:,::1], i8, Tuple((f8[:,::1], f8[::1], b1[::1])), i8, i4[:,::1], f8[:,::1])")
def blast_batch(
    occluders: OccluderArrays,
    centres: F64,
    figures: F64,
    blast_count: int,
    poses: tuple[F64, F64, Bool],
    tick: int,
    out_hits: I32,
    out_amounts: F64,
) -> int:
    """Damage of explosions to every player within reach that is not behind a wall.

    Args:
        occluders: What stands in the way of a blast.
        centres: Where [m], shape (at least blast_count, 3).
        figures: Radius [m] and damage at the centre, shape (same, 2).
        blast_count: How many explosions.
        poses: Of all players: feet [m] (n, 3), height [m], who can be hit.
        tick: The tick that is being made.
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
                any_wall(occluders, (tick, 0), (cx, cy, cz), (x, y, middle))
                and any_wall(occluders, (tick, 0), (cx, cy, cz), (x, y, feet[row, 2] + 0.1 - cz))
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
