"""Hitboxes by brute force: march along the ray in small steps and look which box the point is in."""

import math

Vector = tuple[float, float, float]


def _capsule_distance(point: Vector, low: float, high: float) -> float:
    z = min(max(point[2], low), high)
    return math.dist(point, (0.0, 0.0, z))


def part_at(point: Vector, height: float, grow: float = 0.0) -> int:
    """0 none, 1 head, 2 torso, 3 legs; point relative to the feet."""
    if math.dist(point, (0.0, 0.0, 0.89 * height)) <= 0.11 * height + grow:
        return 1
    if _capsule_distance(point, 0.50 * height, 0.66 * height) <= 0.19 * height + grow:
        return 2
    if _capsule_distance(point, 0.14 * height, 0.42 * height) <= 0.14 * height + grow:
        return 3
    return 0


def march(
    origin: Vector, ray: Vector, height: float, *, reach: float, step: float, grow: float = 0.0
) -> tuple[float, int]:
    """First distance at which the ray is inside a box, and which; (infinity, 0) for a miss."""
    t = 0.0
    while t <= reach:
        point = (origin[0] + ray[0] * t, origin[1] + ray[1] * t, origin[2] + ray[2] * t)
        part = part_at(point, height, grow)
        if part:
            return t, part
        t += step
    return math.inf, 0


def damage_falloff(distance: float, start: float, end: float, least: float) -> float:
    if distance <= start:
        return 1.0
    if distance >= end:
        return least
    return 1.0 - (1.0 - least) * (distance - start) / (end - start)
