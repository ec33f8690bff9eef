"""Scale and angles of Quake maps in this project's units."""

import math

import numpy as np

from sim.arrays import F64

__all__ = ["GRAVITY", "METRES_PER_UNIT", "PLAYER_FEET_UNITS", "metres", "slug", "yaw_from_degrees"]

METRES_PER_UNIT = 1.0 / 40.0  # 18-unit steps become 0.45 m
PLAYER_FEET_UNITS = 24.0  # a Quake player's origin stands this far above its feet
GRAVITY = 20.0  # [m/s²], Quake's 800 units/s²
NAME_CHARACTERS_MAX = 64


def metres(units: F64) -> F64:
    """Source units [1/40 m] as metres."""
    return np.asarray(units, dtype=np.float64) * METRES_PER_UNIT


def yaw_from_degrees(degrees: float) -> int:
    """A counter-clockwise angle as uint16, 65536 to a turn; 0 where it is not finite."""
    return round((degrees % 360.0) / 360.0 * 65536.0) % 65536 if math.isfinite(degrees) else 0


def slug(name: str) -> str:
    """A map's short name, `[a-z0-9_-]+`, from a file's stem."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name)
    return kept.lower()[:NAME_CHARACTERS_MAX] or "map"
