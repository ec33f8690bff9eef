"""Decoding the records of net/records_kernels.py, where the layout is, from a string of bits in bytes.

A reader is one bit position in `data`, which ends with at least `PADDING` bytes of zeros that are not part of the
string: what is read past the end is zero and moves the position past it, which the caller checks once per record. A
position never leads the window out of `data`, whatever was read. What no encoder writes gives `BAD_POSITION`.
"""

import numpy as np

from net.bits_kernels import BAD_POSITION, unfold, wrap
from net.records_kernels import (
    ANGLE_A,
    ANGLE_B,
    BITS,
    CODE,
    COUNT,
    ESCAPE,
    ESCAPE_BITS,
    FIRST_ANGLE,
    FULL_WIDTH_BITS,
    GENERATION_BITS,
    GENERATION_ORDER,
    LEVEL_BITS,
    MOTION_FIELDS,
    OTHER_COUNT,
    OTHERS,
    POSITION_XY,
    POSITION_Z,
    SCALE,
    SECOND_ANGLE,
    SELF,
    SHAPE_SELF,
    SIGNED,
    SINGLE,
    SLOT_BITS,
    VELOCITY_X,
    VELOCITY_Y,
    VELOCITY_Z,
    ZONE_BITS,
    ZONE_ORDER,
    Codec,
    bit_width,
    expected_velocity,
    reckoned_order,
    shape_code,
)
from sim.arrays import I32, U8
from sim.jit import kernel, llvm_function, lowest_bit

__all__ = ["PADDING", "decode_delta", "decode_full", "read_bits", "window"]

PADDING = 8
READ_MASK = 255


def _load_plain(data: U8, at: int) -> int:
    return int.from_bytes(data[at : at + 8].tobytes(), "little", signed=True)


# Eight loads of a byte, each with numba's test for a negative index, took four times as long.
LOAD_LLVM = """
define weak_odr i64 @hitreg_load64(ptr %data, i64 %at) alwaysinline {
  %from = getelementptr i8, ptr %data, i64 %at
  %word = load i64, ptr %from, align 1
  ret i64 %word
}
"""

_load = llvm_function("hitreg_load64", LOAD_LLVM, _load_plain, returns="i8")


@kernel(counted=False, merge=True)
def window(data: U8, position: int) -> int:
    """At least 57 bits from bit `position` on, in the low bits; what is above them is undefined."""
    return int(_load(data, min(position >> 3, data.shape[0] - PADDING)) >> (position & 7))


@kernel(counted=False, merge=True)
def read_bits(data: U8, position: int, count: int) -> int:
    """The `count` ≤ 57 bits at bit `position`."""
    return window(data, position) & ((1 << count) - 1)


@kernel(counted=False, merge=True)
def _get_symbol(data: U8, position: int, code: int, reading: U8) -> tuple[int, int]:
    """A symbol, and the position after its word."""
    entry = int(np.int64(reading[np.uint64(code), np.uint64(window(data, position) & READ_MASK)]))
    return entry >> 4, position + (entry & 15)


@kernel(counted=False, merge=True)
def _get_number(data: U8, position: int, code: int, bits: int, reading: U8) -> tuple[int, int]:
    """A folded number of at most `bits` bits, and the position after it."""
    bitstring = window(data, position)
    entry = int(np.int64(reading[np.uint64(code), np.uint64(bitstring & READ_MASK)]))
    width, length = entry >> 4, entry & 15
    bitstring >>= length
    if width == ESCAPE:
        width += bitstring & ((1 << ESCAPE_BITS) - 1)
        bitstring >>= ESCAPE_BITS
        length += ESCAPE_BITS
    if width > bits:
        return 0, BAD_POSITION
    # No branch for the width 0, which nobody could foresee: it cost more than all else here.
    every = (1 << width) - 1
    rest = every >> 1
    return (every ^ rest) | (bitstring & rest), position + length + width - int(width > 0)


@kernel(counted=False, merge=True)
def _held(value: int, bits: int) -> int:
    """A signed value modulo 2^bits."""
    spare = 64 - bits
    return value << spare >> spare


@kernel(counted=False, merge=True)
def _carried(baseline: I32, axis: int, now: int, age: int, scale: int) -> int:
    """The position on `axis`, carried on with the mean of the baseline's velocity and the one that is known now."""
    start = int(np.int64(baseline[3 + axis]))
    return int(np.int64(baseline[axis])) + (((start + now) * age * scale + 65536) >> 17)


@kernel(counted=False, merge=True)
def _get_motion(
    data: U8, position: int, shape: int, baseline: I32, age: int, place: tuple[int, int], codec: Codec, fields: I32
) -> int:
    """Read velocity and position, as far as `shape` has them, into `fields`; place = (reckoning row, order)."""
    table, numbers, _, _, reading = codec
    row, order = place
    x, y, z = 0, 0, 0
    if shape & 1:
        fast = order >> 1
        x, position = _get_number(data, position, VELOCITY_X + fast, table[3, BITS], reading)
        first = min(bit_width(x), ESCAPE)
        y, position = _get_number(data, position, VELOCITY_Y + 2 * first + fast, table[4, BITS], reading)
        first = max(first, min(bit_width(y), ESCAPE))
        z, position = _get_number(data, position, VELOCITY_Z + 2 * first + fast, table[5, BITS], reading)
    vx = _held(expected_velocity(baseline, age, 0, row, order, codec) + unfold(x), table[3, BITS])
    vy = _held(expected_velocity(baseline, age, 1, row, order, codec) + unfold(y), table[4, BITS])
    vz = _held(expected_velocity(baseline, age, 2, row, order, codec) + unfold(z), table[5, BITS])
    fields[3], fields[4], fields[5] = vx, vy, vz
    x, y, z = min(bit_width(x), ESCAPE), min(bit_width(y), ESCAPE), min(bit_width(z), ESCAPE)
    if shape & 2:
        x, position = _get_number(data, position, POSITION_XY + x, table[0, BITS], reading)
        y, position = _get_number(data, position, POSITION_XY + y, table[1, BITS], reading)
        z, position = _get_number(data, position, POSITION_Z + z, table[2, BITS], reading)
    else:
        x, y, z = 0, 0, 0
    scale = numbers[SCALE] if order > 0 else 0
    fields[0] = _held(_carried(baseline, 0, vx, age, scale) + unfold(x), table[0, BITS])
    fields[1] = _held(_carried(baseline, 1, vy, age, scale) + unfold(y), table[1, BITS])
    fields[2] = _held(_carried(baseline, 2, vz, age, scale) + unfold(z), table[2, BITS])
    return position


@kernel(counted=False, merge=True)
def _get_angles(data: U8, position: int, codec: Codec, fields: I32) -> int:
    table, numbers, _, _, reading = codec
    first, second = numbers[FIRST_ANGLE], numbers[SECOND_ANGLE]
    if first < 0:
        return BAD_POSITION
    value, position = _get_number(data, position, ANGLE_A, table[first, BITS], reading)
    fields[first] = wrap(int(np.int64(fields[first])) + unfold(value), table[first, BITS], table[first, SIGNED])
    if second >= 0:
        code = ANGLE_B + min(bit_width(value), ESCAPE)
        value, position = _get_number(data, position, code, table[second, BITS], reading)
        value = int(np.int64(fields[second])) + unfold(value)
        fields[second] = wrap(value, table[second, BITS], table[second, SIGNED])
    return position


@kernel(counted=False, merge=True)
def _get_others(data: U8, position: int, level: int, codec: Codec, fields: I32) -> int:
    table, numbers, _, _, reading = codec
    count = int(np.int64(numbers[OTHER_COUNT + level]))
    only, position = _get_symbol(data, position, SINGLE, reading)
    mask = 1 << only
    if only == ESCAPE:
        mask = read_bits(data, position, count)
        position += count
    elif only >= count:
        return BAD_POSITION
    while mask != 0:
        f = numbers[OTHERS + int(lowest_bit(mask))]
        mask &= mask - 1
        bits = table[f, BITS]
        if table[f, CODE] < 0:
            value = read_bits(data, position, bits)
            position += bits
        else:
            value, position = _get_number(data, position, table[f, CODE], bits, reading)
            value = int(np.int64(fields[f])) + unfold(value)
        fields[f] = wrap(value, bits, table[f, SIGNED])
    return position


@kernel(counted=False, merge=True)
def decode_delta(data: U8, position: int, baseline: I32, age: int, level: int, codec: Codec, fields: I32) -> int:
    """Read the body of a record against `baseline` at bit `position` into `fields`; the position after it.

    The position is past the end where the record is cut short or malformed; `fields` is then of no meaning.
    """
    code, row, order = SHAPE_SELF, 0, 0
    if level != SELF:
        row, order = reckoned_order(baseline, codec)
        code = shape_code(baseline, age, order, codec)
    shape, position = _get_symbol(data, position, code, codec[4])
    for f in range(np.uint64(fields.shape[0])):
        fields[f] = baseline[f]
    if level != SELF:
        position = _get_motion(data, position, shape, baseline, age, (row, order), codec, fields)
    if shape & 4:
        position = _get_angles(data, position, codec, fields)
    if shape & 8:
        position = _get_others(data, position, level, codec, fields)
    return position


@kernel(counted=False, merge=True)
def _get_golomb(data: U8, position: int, order: int, bits: int) -> tuple[int, int]:
    """A value of at most `bits` ≤ 28 bits in exp-Golomb code of `order`, and the position after it."""
    zeros = int(lowest_bit(window(data, position) | 1 << (bits + 1)))
    low = zeros + order
    if low > bits:
        return 0, BAD_POSITION
    position += zeros + 1
    value = read_bits(data, position, low) + (1 << low) - (1 << order)
    if value >> bits != 0:
        return 0, BAD_POSITION
    return value, position + low


@kernel(counted=False, merge=True)
def decode_full(data: U8, position: int, codec: Codec, fields: I32) -> tuple[int, np.uint64, int]:
    """Read the body of a record without baseline at bit `position` into `fields`: the position after it, id, level.

    The position is past the end where the record is cut short or malformed; `fields` is then of no meaning.
    """
    table, numbers = codec[0], codec[1]
    slot = read_bits(data, position, SLOT_BITS)
    generation, position = _get_golomb(data, position + SLOT_BITS, GENERATION_ORDER, GENERATION_BITS)
    zone, position = _get_golomb(data, position, ZONE_ORDER, ZONE_BITS)
    level = read_bits(data, position, LEVEL_BITS)
    position += LEVEL_BITS
    for f in range(np.uint64(fields.shape[0])):
        fields[f] = 0
    if level != SELF:
        for axis in range(3):
            bits = table[axis, BITS]
            fields[axis] = wrap(read_bits(data, position, bits), bits, 1)
            position += bits
        width = read_bits(data, position, FULL_WIDTH_BITS)
        position += FULL_WIDTH_BITS
        for axis in range(3, MOTION_FIELDS):
            if width > table[axis, BITS]:
                return BAD_POSITION, np.uint64(0), 0
            fields[axis] = unfold(read_bits(data, position, width))
            position += width
    told = int(np.int64(numbers[COUNT + level])) - MOTION_FIELDS
    mask = read_bits(data, position, told)
    position += told
    while mask != 0:
        f = MOTION_FIELDS + int(lowest_bit(mask))
        mask &= mask - 1
        bits = table[f, BITS]
        fields[f] = wrap(read_bits(data, position, bits), bits, table[f, SIGNED])
        position += bits
    low = np.uint64((generation << SLOT_BITS) | slot)
    return position, low | (np.uint64(zone) << np.uint64(52)), level
