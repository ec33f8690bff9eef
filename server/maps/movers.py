"""Where the brush models of Quake III maps rest, and where they travel (after id Software's g_mover.c)."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from server.maps.fields import flags, number, vector
from sim.arrays import F64

__all__ = ["SOLID_MODELS", "rest_offset", "travel"]

SOLID_MODELS = frozenset(
    {
        "func_bobbing",
        "func_breakable",
        "func_button",
        "func_door",
        "func_door_rotating",
        "func_pendulum",
        "func_plat",
        "func_rotating",
        "func_static",
        "func_train",
        "func_wall",
    }
)
START_OPEN = 1
LIP = {"func_door": 8.0, "func_plat": 8.0, "func_button": 4.0}
ANGLE_UP, ANGLE_DOWN = -1.0, -2.0

Entity = Mapping[str, str]


def move_direction(entity: Entity) -> F64:
    """The unit vector of an entity's `angle` or `angles`; −1 is up and −2 is down."""
    yaw, pitch = number(entity, "angle", 0.0), 0.0
    if "angles" in entity:
        pitch, yaw, _ = vector(entity, "angles")
    elif yaw == ANGLE_UP:
        return np.array([0.0, 0.0, 1.0])
    elif yaw == ANGLE_DOWN:
        return np.array([0.0, 0.0, -1.0])
    turn, tilt = math.radians(yaw), math.radians(pitch)
    direction = [math.cos(tilt) * math.cos(turn), math.cos(tilt) * math.sin(turn), -math.sin(tilt)]
    return np.round(np.array(direction), 12) + 0.0


def _stroke(entity: Entity, low: F64, high: F64) -> F64:
    """From the place a model was drawn in to its other end [units]; zero where it does not slide."""
    kind = entity.get("classname", "")
    size = high - low
    if kind in ("func_door", "func_button"):
        direction = move_direction(entity)
        length = float(np.abs(direction) @ size) - number(entity, "lip", LIP[kind])
        return direction * max(0.0, length)
    if kind == "func_plat":
        height = number(entity, "height", 0.0) or size[2] - number(entity, "lip", LIP[kind])
        return np.array([0.0, 0.0, -height])
    return np.zeros(3)


def _first_corner(entity: Entity, entities: Sequence[Entity]) -> F64 | None:
    wanted = entity.get("target", "")
    for other in entities:
        if wanted and other.get("classname") == "path_corner" and other.get("targetname") == wanted:
            return vector(other, "origin")
    return None


def rest_offset(entity: Entity, entities: Sequence[Entity], low: F64, high: F64) -> F64:
    """How far a model rests from where it was drawn [units].

    A lift is drawn raised and rests lowered; a door marked START_OPEN rests open; a train stands with its origin, which
    its origin brush gives it, on its first path corner.
    """
    kind = entity.get("classname", "")
    if kind == "func_plat" or (kind == "func_door" and flags(entity) & START_OPEN):
        return _stroke(entity, low, high)
    corner = _first_corner(entity, entities) if kind == "func_train" else None
    return np.zeros(3) if corner is None else corner - vector(entity, "origin")


def travel(entity: Entity, low: F64, high: F64) -> F64:
    """From the resting place to the other end of a door's, lift's or button's way [units]."""
    stroke = _stroke(entity, low, high)
    kind = entity.get("classname", "")
    if kind == "func_plat" or (kind == "func_door" and flags(entity) & START_OPEN):
        return -stroke
    return stroke
