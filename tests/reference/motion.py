"""Naive twins for motion: what free running, braking and flying come to on paper."""

import math

__all__ = ["braking_distance", "jump_apex", "jump_seconds"]


def jump_apex(jump_speed: float, gravity: float) -> float:
    """Height of a jump [m]."""
    return jump_speed**2 / (2.0 * gravity)


def jump_seconds(jump_speed: float, gravity: float) -> float:
    """Time from take-off to landing on the same level [s]."""
    return 2.0 * jump_speed / gravity


def braking_distance(speed: float, *, friction: float, stop_speed: float) -> float:
    """Way to a stop [m] in continuous time: v' = −friction · max(v, stop_speed)."""
    if speed <= stop_speed:
        return speed**2 / (2.0 * friction * stop_speed)
    seconds = math.log(speed / stop_speed) / friction
    return speed / friction * (1.0 - math.exp(-friction * seconds)) + stop_speed / (2.0 * friction)
