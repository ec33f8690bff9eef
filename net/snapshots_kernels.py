"""Records of one entity and of one event, to bytes and back. The layouts stand at the top of net/snapshots.py."""

import numpy as np

from net.bits_kernels import (
    BAD_POSITION,
    bit_length,
    fold,
    get_bits,
    get_golomb,
    get_varint,
    put_bits,
    put_golomb,
    put_varint,
    unfold,
    wrap,
)
from sim.arrays import F64, I32, I64, U8
from sim.jit import kernel

__all__ = [
    "AGE_BITS",
    "AGE_MASK",
    "MOTION_FIELDS",
    "decode_delta",
    "decode_event",
    "decode_full",
    "encode_delta",
    "encode_event",
    "encode_full",
    "predict",
    "quantise_scalars",
    "quantise_vectors",
]

BITS, SIGNED, ORDER = 0, 1, 2  # columns of a field table
AGE_BITS = 6
AGE_MASK = (1 << AGE_BITS) - 1
MOTION_FIELDS = 6  # position x, y, z and velocity x, y, z come first
ORDER_BITS = 3  # of the order chosen for a group of three
SLOT_BITS = 24  # of an entity id; then 28 of generation, 12 of zone
GENERATION_BITS = 28
ZONE_BITS = 12
GENERATION_ORDER = 8
ZONE_ORDER = 4

HAS_ACTOR, HAS_TARGET, HAS_VECTOR, HAS_VALUE = 1, 2, 4, 8
EVENT_LIMIT = (1 << 31) - 1  # of a quantised coordinate
EVENT_VALUE_LIMIT = (1 << 62) - 1


@kernel(counted=False)
def predict(position: int, velocity: int, age: int, velocity_scale: int) -> int:
    """Where an axis should be `age` ticks later, in integers: position + velocity·age, rounded to nearest, ties up.

    First-order dead reckoning (IEEE 1278.1, DRM F-P-W). `velocity_scale` is position units per velocity unit and
    tick, times 65,536.
    """
    return position + ((velocity * age * velocity_scale + 32768) >> 16)


@kernel(counted=False)
def _put_group(residual: tuple[int, int, int], out: U8, at: int, word: int, fill: int) -> tuple[int, int, int]:
    """Append three folded residuals with one code order that suits the largest."""
    largest = max(residual[0], residual[1], residual[2])
    order = min(max(bit_length(largest) - 2, 0), (1 << ORDER_BITS) - 1)
    at, word, fill = put_bits(out, at, word, fill, order, ORDER_BITS)
    at, word, fill = put_golomb(out, at, word, fill, residual[0], order)
    at, word, fill = put_golomb(out, at, word, fill, residual[1], order)
    return put_golomb(out, at, word, fill, residual[2], order)


@kernel(counted=False)
def _residual(current: int, expected: int, bits: int) -> int:
    """The folded difference, modulo 2^bits."""
    return fold(wrap(current - expected, bits, 1))


@kernel(counted=False)
def _put_others(
    current: I32, baseline: I32, mask: int, table: I64, out: U8, at: int, word: int, fill: int
) -> tuple[int, int, int]:
    """Append the change mask of the fields after the motion and the residual of each that changed."""
    fields = table.shape[0]
    at, word, fill = put_bits(out, at, word, fill, mask, fields - MOTION_FIELDS)
    for f in range(MOTION_FIELDS, fields):
        if mask >> (f - MOTION_FIELDS) & 1:
            bits = table[f, BITS]
            residual = _residual(int(np.int64(current[f])), int(np.int64(baseline[f])), bits)
            if table[f, ORDER] >= bits:
                at, word, fill = put_bits(out, at, word, fill, residual, bits)
            else:
                at, word, fill = put_golomb(out, at, word, fill, residual, table[f, ORDER])
    return at, word, fill


@kernel(counted=False)
def _moved(current: I32, baseline: I32, axis: int, age: int, table: I64, velocity_scale: int) -> int:
    """How far the position on one axis is from where the baseline's velocity would have it."""
    start, speed = int(np.int64(baseline[axis])), int(np.int64(baseline[axis + 3]))
    return _residual(int(np.int64(current[axis])), predict(start, speed, age, velocity_scale), table[axis, BITS])


@kernel(counted=False)
def encode_delta(current: I32, baseline: I32, age: int, table: I64, velocity_scale: int, out: U8, at: int) -> int:
    """Write the record of `current` against `baseline`, `age` ticks older; the byte after it."""
    p0 = _moved(current, baseline, 0, age, table, velocity_scale)
    p1 = _moved(current, baseline, 1, age, table, velocity_scale)
    p2 = _moved(current, baseline, 2, age, table, velocity_scale)
    v0 = _residual(int(np.int64(current[3])), int(np.int64(baseline[3])), table[3, BITS])
    v1 = _residual(int(np.int64(current[4])), int(np.int64(baseline[4])), table[4, BITS])
    v2 = _residual(int(np.int64(current[5])), int(np.int64(baseline[5])), table[5, BITS])
    mask = 0
    for f in range(MOTION_FIELDS, table.shape[0]):
        if current[f] != baseline[f]:
            mask |= 1 << (f - MOTION_FIELDS)
    turned = v0 | v1 | v2
    moved = p0 | p1 | p2
    head = age
    if moved != 0:
        head |= 64
    if turned != 0 or mask != 0:
        head |= 128
    out[at] = head
    at, word, fill = at + 1, 0, 0
    if moved != 0:
        at, word, fill = _put_group((p0, p1, p2), out, at, word, fill)
    if head & 128 != 0:
        at, word, fill = put_bits(out, at, word, fill, min(turned, 1), 1)
        if turned != 0:
            at, word, fill = _put_group((v0, v1, v2), out, at, word, fill)
        at, word, fill = _put_others(current, baseline, mask, table, out, at, word, fill)
    if fill > 0:
        out[at] = word
        at += 1
    return at


@kernel(counted=False)
def encode_full(current: I32, identity: np.uint64, table: I64, out: U8, at: int) -> int:
    """Write the record that needs no baseline; the byte after it."""
    low = int(np.int64(identity & np.uint64((1 << 52) - 1)))
    zone = int(np.int64(identity >> np.uint64(52)))
    out[at] = 0
    at, word, fill = put_bits(out, at + 1, 0, 0, low & ((1 << SLOT_BITS) - 1), SLOT_BITS)
    at, word, fill = put_golomb(out, at, word, fill, low >> SLOT_BITS, GENERATION_ORDER)
    at, word, fill = put_golomb(out, at, word, fill, zone, ZONE_ORDER)
    for f in range(table.shape[0]):
        bits = table[f, BITS]
        at, word, fill = put_bits(out, at, word, fill, int(np.int64(current[f])) & ((1 << bits) - 1), bits)
    if fill > 0:
        out[at] = word
        at += 1
    return at


@kernel(counted=False)
def decode_full(data: U8, at: int, end: int, table: I64, fields: I32) -> tuple[int, np.uint64]:
    """Read a record without baseline at byte `at` of data[:end] into `fields`: the byte after it, and the id.

    The position is past `end` where the record is cut short or malformed; `fields` is then of no meaning.
    """
    position = (at + 1) * 8
    slot = get_bits(data, position, SLOT_BITS, end)
    generation, position = get_golomb(data, position + SLOT_BITS, GENERATION_ORDER, end)
    zone, position = get_golomb(data, position, ZONE_ORDER, end)
    if generation >> GENERATION_BITS != 0 or zone >> ZONE_BITS != 0 or int(np.int64(data[at])) != 0:
        position = BAD_POSITION
    for f in range(table.shape[0]):
        bits = table[f, BITS]
        fields[f] = wrap(get_bits(data, position, bits, end), bits, table[f, SIGNED])
        position += bits
    low = np.uint64((generation << SLOT_BITS) | slot)
    return (position + 7) >> 3, low | (np.uint64(zone) << np.uint64(52))


@kernel(counted=False)
def _get_group(
    data: U8, position: int, end: int, first: int, expected: tuple[int, int, int], table: I64, fields: I32
) -> int:
    """Read three residuals on top of `expected` into fields[first:first + 3]; the position after them."""
    order = get_bits(data, position, ORDER_BITS, end)
    position += ORDER_BITS
    for i in range(3):
        f = first + i
        value, position = get_golomb(data, position, order, end)
        fields[f] = wrap(expected[i] + unfold(value), table[f, BITS], table[f, SIGNED])
    return position


@kernel(counted=False)
def _get_others(data: U8, position: int, end: int, table: I64, fields: I32) -> int:
    """Read the change mask and the residuals of the fields after the motion; the position after them."""
    count = table.shape[0] - MOTION_FIELDS
    mask = get_bits(data, position, count, end)
    position += count
    for f in range(MOTION_FIELDS, table.shape[0]):
        if mask >> (f - MOTION_FIELDS) & 1:
            bits = table[f, BITS]
            if table[f, ORDER] >= bits:
                value = get_bits(data, position, bits, end)
                position += bits
            else:
                value, position = get_golomb(data, position, table[f, ORDER], end)
            fields[f] = wrap(int(np.int64(fields[f])) + unfold(value), bits, table[f, SIGNED])
    return position


@kernel(counted=False)
def decode_delta(data: U8, at: int, end: int, baseline: I32, table: I64, velocity_scale: int, fields: I32) -> int:
    """Read a record against `baseline` at byte `at` < `end` of data[:end] into `fields`; the byte after it.

    The position is past `end` where the record is cut short or malformed; `fields` is then of no meaning.
    """
    head = int(np.int64(data[at]))
    age = head & AGE_MASK
    position = (at + 1) * 8
    for f in range(table.shape[0]):
        fields[f] = baseline[f]
    expected = (
        predict(int(np.int64(baseline[0])), int(np.int64(baseline[3])), age, velocity_scale),
        predict(int(np.int64(baseline[1])), int(np.int64(baseline[4])), age, velocity_scale),
        predict(int(np.int64(baseline[2])), int(np.int64(baseline[5])), age, velocity_scale),
    )
    for f in range(3):
        fields[f] = wrap(expected[f], table[f, BITS], table[f, SIGNED])
    if head & 64 != 0:
        position = _get_group(data, position, end, 0, expected, table, fields)
    if head & 128 != 0:
        turned = get_bits(data, position, 1, end)
        position += 1
        if turned != 0:
            velocity = (int(np.int64(baseline[3])), int(np.int64(baseline[4])), int(np.int64(baseline[5])))
            position = _get_group(data, position, end, 3, velocity, table, fields)
        position = _get_others(data, position, end, table, fields)
    return (position + 7) >> 3


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
    vector[:] = 0.0
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
