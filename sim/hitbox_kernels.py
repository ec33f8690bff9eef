"""A player's hitboxes, and where a ray meets them.

They stand upright on the feet and scale with the height h of the body: legs, a capsule of radius 0.14 h around
(0.14 h … 0.42 h); torso, a capsule of radius 0.19 h around (0.50 h … 0.66 h); head, a sphere of radius 0.11 h at
0.89 h.
The first box along the ray is hit; of equally near ones the head, then the torso.

Ray against capsule: Inigo Quilez, "Intersectors" (capsule), reduced to a vertical axis; against sphere: Ericson,
Real-Time Collision Detection, 5.3.2.
"""

from math import sqrt
from typing import TypeAlias

from sim.jit import kernel

__all__ = ["BODY_WIDTH", "PART_HEAD", "PART_LEGS", "PART_NONE", "PART_TORSO", "body_hit"]

Vector: TypeAlias = tuple[float, float, float]

PART_NONE, PART_HEAD, PART_TORSO, PART_LEGS = range(4)
BODY_WIDTH = 0.19  # no box reaches farther from the axis of a body than this part of its height


@kernel
def _ray_sphere(ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, r: float) -> float:
    """Distance along a unit ray to a sphere round the zero point; infinity for a miss, 0 from inside."""
    c = ox * ox + oy * oy + oz * oz - r * r
    if c <= 0.0:
        return 0.0
    b = ox * dx + oy * dy + oz * dz
    h = b * b - c
    if b > 0.0 or h < 0.0:
        return float("inf")
    return -b - sqrt(h)


@kernel
def _ray_capsule(
    ox: float, oy: float, oz: float, dx: float, dy: float, dz: float, low: float, high: float, r: float
) -> float:
    """Distance along a unit ray to the capsule of radius r around the z axis from low to high."""
    near = min(max(oz, low), high)
    if ox * ox + oy * oy + (oz - near) * (oz - near) <= r * r:
        return 0.0
    a = dx * dx + dy * dy
    b = ox * dx + oy * dy
    c = ox * ox + oy * oy - r * r
    h = b * b - a * c
    if h < 0.0:
        return float("inf")
    if a > 1e-18:
        t = (-b - sqrt(h)) / a
        z = oz + t * dz
        if t >= 0.0 and low <= z <= high:
            return t
    lower = _ray_sphere(ox, oy, oz - low, dx, dy, dz, r)
    upper = _ray_sphere(ox, oy, oz - high, dx, dy, dz, r)
    return min(lower, upper)


@kernel
def body_hit(origin: Vector, ray: Vector, feet: Vector, height: float, grow: float) -> tuple[float, int]:
    """First hitbox of one player along a unit ray: (distance [m], part); (infinity, PART_NONE) for a miss.

    With boxes that `grow` [m] on all sides, the ray is the way of a sphere of that radius.
    """
    ox, oy, oz = origin[0] - feet[0], origin[1] - feet[1], origin[2] - feet[2]
    dx, dy, dz = ray
    middle = 0.5 * height
    if _ray_sphere(ox, oy, oz - middle, dx, dy, dz, 0.55 * height + grow) == float("inf"):
        return float("inf"), PART_NONE
    best = _ray_sphere(ox, oy, oz - 0.89 * height, dx, dy, dz, 0.11 * height + grow)
    part = PART_HEAD if best < float("inf") else PART_NONE
    torso = _ray_capsule(ox, oy, oz, dx, dy, dz, 0.50 * height, 0.66 * height, 0.19 * height + grow)
    if torso < best:
        best, part = torso, PART_TORSO
    legs = _ray_capsule(ox, oy, oz, dx, dy, dz, 0.14 * height, 0.42 * height, 0.14 * height + grow)
    if legs < best:
        best, part = legs, PART_LEGS
    return best, part
