"""Appending events from inside kernels."""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I64, U16, U64
from sim.jit import kernel

__all__ = ["EVENTS_TYPE", "EventArrays", "emit"]

EVENTS_TYPE = "Tuple((u2[::1], u8[::1], u8[::1], f8[:,::1], f8[:,::1], i8[::1], i8[::1]))"
EventArrays: TypeAlias = tuple[U16, U64, U64, F64, F64, I64, I64]

COUNT, DROPPED = 0, 1


@kernel(f"({EVENTS_TYPE}, i8, u8, u8, UniTuple(f8, 3), UniTuple(f8, 3), i8)")
def emit(
    events: EventArrays,
    kind: int,
    actor: np.uint64,
    target: np.uint64,
    position: tuple[float, float, float],
    vector: tuple[float, float, float],
    value: int,
) -> None:
    """Append one event to `Events.arrays`, or count it as dropped where there is no room."""
    kinds, actors, targets, positions, vectors, values, counters = events
    index = counters[COUNT]
    if index >= kinds.shape[0]:
        counters[DROPPED] += 1
        return
    kinds[index] = kind
    actors[index] = actor
    targets[index] = target
    for axis in range(3):
        positions[index, axis] = position[axis]
        vectors[index, axis] = vector[axis]
    values[index] = value
    counters[COUNT] = index + 1
