"""Values of map entities, which are key/value strings: read leniently, as the engine does, but never not finite."""

import math
from collections.abc import Mapping

import numpy as np

from sim.arrays import F64

__all__ = ["flags", "number", "vector"]

NUMBER_MAX = 1e6


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= NUMBER_MAX else None


def number(entity: Mapping[str, str], key: str, default: float) -> float:
    """The value of `key`, or `default` where it is missing or no usable number."""
    value = _finite(entity.get(key, ""))
    return default if value is None else value


def flags(entity: Mapping[str, str]) -> int:
    """The `spawnflags` bits."""
    return int(number(entity, "spawnflags", 0.0))


def vector(entity: Mapping[str, str], key: str) -> F64:
    """The three numbers of `key`, shape (3,); zeros where it is missing or unusable."""
    values = [_finite(text) for text in entity.get(key, "").split()[:3]]
    if len(values) != 3 or any(value is None for value in values):
        return np.zeros(3)
    return np.array(values, dtype=np.float64)
