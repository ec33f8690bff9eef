"""How a ray passes a player's hitboxes, box by box: for explanations, which ask of every box by how much it was missed.

The boxes are those of `sim.hitbox_kernels`, which judges shots and stops at the first; tests hold both to the same
answers. Closest points of two segments: Ericson, Real-Time Collision Detection, 5.1.9. Ray against capsule: Quilez,
"Intersectors".
"""

import math
from dataclasses import dataclass

__all__ = ["HITBOXES", "Hitbox", "Passage", "pass_hitbox"]

Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Hitbox:
    """A capsule round the vertical axis of a body; figures are parts of the body's height."""

    name: str
    low: float
    high: float
    radius: float


HITBOXES = (
    Hitbox("head", 0.89, 0.89, 0.11),
    Hitbox("torso", 0.50, 0.66, 0.19),
    Hitbox("legs", 0.14, 0.42, 0.14),
)


@dataclass(frozen=True, slots=True)
class Passage:
    """How a ray passes a box.

    Attributes:
        box: Its name.
        miss_m: Distance of the ray from the box's surface [m]; negative: it goes that deep into the box.
        along_m: How far along the ray it is nearest to the box's axis [m].
        enters_m: Where it enters the box [m], None for a miss.
    """

    box: str
    miss_m: float
    along_m: float
    enters_m: float | None


def pass_hitbox(origin: Vector, ray: Vector, reach: float, feet: Vector, height: float, box: Hitbox) -> Passage:
    """How the ray from `origin` along the unit vector `ray`, `reach` metres long, passes one box of a body.

    Args:
        origin: Where it begins [m].
        ray: Its direction, of length 1.
        reach: Its length [m].
        feet: Of the body [m].
        height: Of the body [m].
        box: Which box.
    """
    low, radius = feet[2] + box.low * height, box.radius * height
    axis = (box.high - box.low) * height
    offset = (origin[0] - feet[0], origin[1] - feet[1], origin[2] - low)
    along, up = _closest(offset, ray, reach, axis)
    away = math.dist(
        (offset[0] + along * ray[0], offset[1] + along * ray[1], offset[2] + along * ray[2]), (0.0, 0.0, up)
    )
    enters = _enter(offset, ray, axis, radius) if away <= radius else None
    if enters is not None and enters > reach:
        enters = None
    return Passage(box.name, away - radius, along, enters)


def _closest(offset: Vector, ray: Vector, reach: float, axis: float) -> tuple[float, float]:
    """Where a ray and the z axis from 0 to `axis` are nearest to each other: along the ray, along the axis."""
    flat = 1.0 - ray[2] * ray[2]
    ahead = -(offset[0] * ray[0] + offset[1] * ray[1] + offset[2] * ray[2])  # nearest to the zero point
    along = min(max((ahead + ray[2] * offset[2]) / flat, 0.0), reach) if flat > 1e-12 else 0.0
    up = min(max(offset[2] + along * ray[2], 0.0), axis)
    along = min(max(ahead + up * ray[2], 0.0), reach)
    return along, min(max(offset[2] + along * ray[2], 0.0), axis)


def _enter(offset: Vector, ray: Vector, axis: float, radius: float) -> float | None:
    """Where a ray enters a capsule round the z axis from 0 to `axis`, 0 from inside; None for a miss."""
    near = min(max(offset[2], 0.0), axis)
    if math.dist(offset, (0.0, 0.0, near)) <= radius:
        return 0.0
    a = ray[0] * ray[0] + ray[1] * ray[1]
    b = offset[0] * ray[0] + offset[1] * ray[1]
    h = b * b - a * (offset[0] ** 2 + offset[1] ** 2 - radius * radius)
    if a > 1e-18 and h >= 0.0:
        t = (-b - math.sqrt(h)) / a
        if t >= 0.0 and 0.0 <= offset[2] + t * ray[2] <= axis:
            return t
    ends = [t for t in (_enter_ball(offset, ray, z, radius) for z in (0.0, axis)) if t is not None]
    return min(ends) if ends else None


def _enter_ball(offset: Vector, ray: Vector, z: float, radius: float) -> float | None:
    x, y, up = offset[0], offset[1], offset[2] - z
    b = x * ray[0] + y * ray[1] + up * ray[2]
    h = b * b - (x * x + y * y + up * up - radius * radius)
    return -b - math.sqrt(h) if b <= 0.0 <= h else None
