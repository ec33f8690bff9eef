"""Quantisation, and events to bytes and back. The layout stands at the top of net/snapshots.py."""

import numpy as np

from net.bits_kernels import BAD_POSITION, fold, get_varint, put_varint, unfold
from sim.arrays import F64, I32, I64, U8
from sim.jit import kernel

__all__ = [
    "AGE_BITS",
    "AGE_MASK",
    "decode_event",
    "encode_event",
    "quantise_scalars",
    "quantise_vectors",
]

BITS, SIGNED = 0, 1  # columns of a field table
AGE_BITS = 6
AGE_MASK = (1 << AGE_BITS) - 1
SLOT_BITS = 24  # of an entity id; then 28 of generation, 12 of zone
GENERATION_BITS = 28
ZONE_BITS = 12

HAS_ACTOR, HAS_TARGET, HAS_VECTOR, HAS_VALUE = 1, 2, 4, 8
EVENT_LIMIT = (1 << 31) - 1  # of a quantised coordinate
EVENT_VALUE_LIMIT = (1 << 62) - 1


@kernel(counted=False)
def _put_id(out: U8, at: int, identity: np.uint64) -> int:
    low = int(np.int64(identity & np.uint64((1 << 52) - 1)))
    at = put_varint(out, at, low & ((1 << SLOT_BITS) - 1))
    at = put_varint(out, at, low >> SLOT_BITS)
    return put_varint(out, at, int(np.int64(identity >> np.uint64(52))))


@kernel(counted=False)
def _get_id(data: U8, at: int, end: int) -> tuple[np.uint64, int]:
    slot, at = get_varint(data, at, end)
    generation, at = get_varint(data, at, end)
    zone, at = get_varint(data, at, end)
    if slot >> SLOT_BITS != 0 or generation >> GENERATION_BITS != 0 or zone >> ZONE_BITS != 0:
        return np.uint64(0), BAD_POSITION
    return np.uint64((generation << SLOT_BITS) | slot) | (np.uint64(zone) << np.uint64(52)), at


@kernel(counted=False)
def _round(value: float, scale: float, limit: int) -> int:
    """`value`·`scale` rounded half up and held within ±`limit`; not-a-number becomes 0."""
    scaled = value * scale
    if scaled >= limit:
        return limit
    if scaled <= -limit:
        return -limit
    if np.isnan(scaled):
        return 0
    return int(np.floor(scaled + 0.5))


@kernel(counted=False)
def encode_event(
    kind: int,
    ids: tuple[np.uint64, np.uint64],
    position: F64,
    vector: F64,
    value: int,
    scale: tuple[float, float],
    out: U8,
) -> int:
    """Write an event at the start of `out`, its age left 0; how many bytes."""
    zero = np.uint64(0)
    flags = 0
    if ids[0] != zero:
        flags |= HAS_ACTOR
    if ids[1] != zero:
        flags |= HAS_TARGET
    if vector[0] != 0.0 or vector[1] != 0.0 or vector[2] != 0.0:
        flags |= HAS_VECTOR
    if value != 0:
        flags |= HAS_VALUE
    out[0] = 0
    out[1] = flags
    at = put_varint(out, 2, int(np.int64(kind)))
    for axis in range(3):
        at = put_varint(out, at, fold(_round(position[axis], scale[0], EVENT_LIMIT)))
    if flags & HAS_ACTOR:
        at = _put_id(out, at, ids[0])
    if flags & HAS_TARGET:
        at = _put_id(out, at, ids[1])
    if flags & HAS_VECTOR:
        for axis in range(3):
            at = put_varint(out, at, fold(_round(vector[axis], scale[1], EVENT_LIMIT)))
    if flags & HAS_VALUE:
        at = put_varint(out, at, fold(min(max(value, -EVENT_VALUE_LIMIT), EVENT_VALUE_LIMIT)))
    return at


@kernel(counted=False)
def _get_vector(data: U8, at: int, end: int, scale: float, out: F64) -> int:
    for axis in range(3):
        value, at = get_varint(data, at, end)
        out[axis] = unfold(value) / scale
    return at


@kernel(counted=False)
def decode_event(
    data: U8, at: int, end: int, scale: tuple[float, float], position: F64, vector: F64
) -> tuple[int, int, int, np.uint64, np.uint64, int]:
    """Read an event at byte `at` of data[:end]: the byte after it, age, kind, actor, target, value.

    The position is past `end` where the event is cut short or malformed.
    """
    zero = np.uint64(0)
    actor, target, value = zero, zero, 0
    if at + 2 > end:
        return BAD_POSITION, 0, 0, zero, zero, 0
    age, flags = int(np.int64(data[at])), int(np.int64(data[at + 1]))
    kind, at = get_varint(data, at + 2, end)
    at = _get_vector(data, at, end, scale[0], position)
    if flags & HAS_ACTOR:
        actor, at = _get_id(data, at, end)
    if flags & HAS_TARGET:
        target, at = _get_id(data, at, end)
    vector[0], vector[1], vector[2] = 0.0, 0.0, 0.0
    if flags & HAS_VECTOR:
        at = _get_vector(data, at, end, scale[1], vector)
    if flags & HAS_VALUE:
        value, at = get_varint(data, at, end)
        value = unfold(value)
    if kind > 65535 or flags > 15 or age > AGE_MASK:
        at = BAD_POSITION
    return at, age, kind, actor, target, value


@kernel("(f8[:,::1], f8, i8, i8[:,::1], i4[:,::1])")
def quantise_vectors(values: F64, scale: float, first: int, table: I64, fields: I32) -> int:
    """Round the rows of `values` (n, 3), times `scale`, into fields[:, first:first + 3]; how many were clamped."""
    clamped = 0
    for axis in range(3):
        f = first + axis
        high = (1 << (table[f, BITS] - table[f, SIGNED])) - 1
        low = -high if table[f, SIGNED] != 0 else 0
        for i in range(values.shape[0]):
            value = _round(values[i, axis], scale, 1 << 40)
            if value < low or value > high:
                clamped += 1
            fields[i, f] = min(max(value, low), high)
    return clamped


@kernel("(f8[::1], f8, i8, i8[:,::1], i4[:,::1])")
def quantise_scalars(values: F64, scale: float, field: int, table: I64, fields: I32) -> int:
    """Round `values` (n,), times `scale`, into fields[:, field]; how many were clamped."""
    high = (1 << (table[field, BITS] - table[field, SIGNED])) - 1
    low = -high if table[field, SIGNED] != 0 else 0
    clamped = 0
    for i in range(values.shape[0]):
        value = _round(values[i], scale, 1 << 40)
        if value < low or value > high:
            clamped += 1
        fields[i, field] = min(max(value, low), high)
    return clamped
