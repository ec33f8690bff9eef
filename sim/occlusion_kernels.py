"""What stops a shot in the world: the one place that shots, projectiles and blasts ask.

OCCLUDERS is what stands in the way: the static geometry, and the movers with where they were (`sim.movers_kernels`).

Every question carries its moment, (tick, rewind in 1/REWIND_STEPS tick), for what does not stand still.
"""

from math import sqrt
from typing import TypeAlias

from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit, closest_hit
from sim.jit import kernel
from sim.movers_kernels import SCENE_TYPE, SceneArrays, hit_movers
from sim.worldmap import SHOT_MASK

__all__ = ["OCCLUDERS_TYPE", "OccluderArrays", "any_wall", "first_wall", "wall_normal"]

OCCLUDERS_TYPE = f"Tuple(({GEOMETRY_TYPE}, {SCENE_TYPE}))"
OccluderArrays: TypeAlias = tuple[GeometryArrays, SceneArrays]
Vector: TypeAlias = tuple[float, float, float]


@kernel(inline=True)
def first_wall(
    occluders: OccluderArrays, moment: tuple[int, int], origin: Vector, ray: Vector, reach: float
) -> tuple[float, int]:
    """Distance along a ray of length 1 to the first surface, and its number; (reach, -1) where there is none."""
    geometry, movers = occluders
    t, surface = closest_hit(geometry, origin[0], origin[1], origin[2], ray[0], ray[1], ray[2], reach, SHOT_MASK)
    if len(movers[1]) > 0:
        first, moving = hit_movers(
            movers, moment[0], moment[1], origin[0], origin[1], origin[2], ray[0], ray[1], ray[2], t, SHOT_MASK
        )
        if moving >= 0 and (surface < 0 or first < t):
            return first, moving
    return t, surface


@kernel(counted=False)
def any_wall(occluders: OccluderArrays, moment: tuple[int, int], origin: Vector, way: Vector) -> bool:
    """Whether anything stands between a point and the point `way` from it."""
    geometry, movers = occluders
    if any_hit(geometry, origin[0], origin[1], origin[2], way[0], way[1], way[2], 1.0, SHOT_MASK):
        return True
    if len(movers[1]) == 0:
        return False
    _, moving = hit_movers(
        movers, moment[0], moment[1], origin[0], origin[1], origin[2], way[0], way[1], way[2], 1.0, SHOT_MASK
    )
    return moving >= 0


@kernel(counted=False)
def wall_normal(occluders: OccluderArrays, surface: int, ray: Vector) -> Vector:
    """Unit normal of a surface that `first_wall` found, on the side the ray comes from."""
    a = occluders[0][0][surface]
    ux, uy, uz = a[3] - a[0], a[4] - a[1], a[5] - a[2]
    vx, vy, vz = a[6] - a[0], a[7] - a[1], a[8] - a[2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = sqrt(nx * nx + ny * ny + nz * nz)
    if length <= 1e-12:
        return -ray[0], -ray[1], -ray[2]
    side = -1.0 if nx * ray[0] + ny * ray[1] + nz * ray[2] > 0.0 else 1.0
    return side * nx / length, side * ny / length, side * nz / length
