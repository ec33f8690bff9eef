"""Records of one entity as strings of bits: the layout, the prediction, and the encoder.

A record's body is a string of bits, first bit lowest. It depends on entity, level, age and tick only, so that it is
made once and shifted into every packet that carries it (`append_bits`).

Full state (age 0): 24 bits slot, exp-Golomb(8) generation and exp-Golomb(4) zone of the entity id; 2 bits level;
unless the level is SELF: the position raw, then 6 bits c and three velocities of c bits each, folded; then a bit for
each further field that the level has, set where it is not 0, and each of those raw.

Delta (age 1 to 63) against the baseline, the state of this slot in the snapshot `age` ticks older:

    shape     symbol: 1 velocity, 2 position, 4 an angle, 8 another field differs from what is foreseen. A SELF record
              has its own code, without 1 and 2
    velocity  if shape & 1: three numbers, against `expected`
    position  if shape & 2: three numbers, against the baseline's position carried on with the mean of its velocity and
              the new one. Trapezoids leave half the residual that the baseline's velocity alone leaves
    angles    if shape & 4: two numbers (one where a table has one angle), against the baseline
    others    if shape & 8: a symbol; below 15: the one field that changed, in the order of the others; 15: as many bits
              as the level has others follow, set where one changed. Then each change: the new value raw where the field
              has up to 4 bits, else a number against the baseline

A number is a difference modulo the field's width, folded, and written as the symbol of its width w in bits: 0 to 14, or
15 and 5 bits of w − 15; then the w − 1 bits below its highest. Each symbol's prefix code (net/prefix_codes.py, words of
at most 8 bits) is chosen by what both sides know:

    shape     age (up to 4, 8, 16, more) × largest speed of the baseline × whether the kind accelerates now
    velocity  x: whether it accelerates; y: that and the width of x; z: that and the greater width of x and y
    position  the width of the same axis' velocity; x and y share their codes
    angles    first: one; second: the width of the first
    others    which: one; a number: one for fields of 5 to 10 bits, one for wider ones

`expected` is dead reckoning of order 0, 1 or 2 (IEEE 1278.1) in integers. With position p and velocity v of the
baseline, age t, velocity scale s (position units per velocity unit and tick, times 65,536) and acceleration a, b
(position and velocity units per tick and tick, times 65,536), // being division rounded down:

    order 1   p + (v·t·s + 32768) // 65536;  v
    order 2   p + (v·t·s + (a·t·t) // 2 + 32768) // 65536;  v + (b·t + 32768) // 65536

Order 0 leaves both. The position in a delta is p + ((v + v′)·t·s + 65536) // 131072, with v′ the new velocity; p where
the order is 0. Nothing exceeds 2^53, so that numbers of JavaScript are exact; results are modulo the field's width.
"""

import numpy as np

from net.bits_kernels import fold, wrap
from sim.arrays import I32, I64, U8
from sim.jit import kernel, llvm_function, local_i64, lowest_bit

__all__ = [
    "ANGLE_A",
    "ANGLE_B",
    "BITS",
    "CODE",
    "CODEC_TYPE",
    "CODES",
    "COUNT",
    "ESCAPE",
    "ESCAPE_BITS",
    "FIRST_ANGLE",
    "FULL_WIDTH_BITS",
    "GENERATION_BITS",
    "GENERATION_ORDER",
    "LEVEL_BITS",
    "MOTION_FIELDS",
    "NARROW",
    "NARROW_BITS_MAX",
    "OTHERS",
    "OTHER_COUNT",
    "POSITION_XY",
    "POSITION_Z",
    "RAW_BITS_MAX",
    "RECKONING_COLUMNS",
    "RECORD_BITS_MAX",
    "RECORD_WORDS_MAX",
    "SCALE",
    "SECOND_ANGLE",
    "SELF",
    "SHAPE",
    "SHAPE_SELF",
    "SIGNED",
    "SINGLE",
    "SLOT_BITS",
    "SPEED_BASE",
    "SYMBOLS",
    "VELOCITY_X",
    "VELOCITY_Y",
    "VELOCITY_Z",
    "WIDE",
    "ZONE_BITS",
    "ZONE_ORDER",
    "Codec",
    "append_bits",
    "bit_width",
    "encode_delta",
    "encode_full",
    "expected",
    "expected_position",
    "expected_velocity",
    "reckoned_order",
    "shape_code",
]

MOTION_FIELDS = 6  # position x, y, z and velocity x, y, z come first
SELF = 3  # level: the client's own entity, whose motion travels in the owner section
SLOT_BITS, GENERATION_BITS, ZONE_BITS = 24, 28, 12  # of an entity id
GENERATION_ORDER, ZONE_ORDER = 8, 4
LEVEL_BITS = 2
FULL_WIDTH_BITS = 6
SYMBOLS = 16
ESCAPE = 15  # symbol of a width of 15 or more, and of several other fields
ESCAPE_BITS = 5
RAW_BITS_MAX, NARROW_BITS_MAX = 4, 10  # fields up to this wide are written raw; as `NARROW` numbers; others as `WIDE`

# 32 fields of 44 bits, with shape, mask and symbols; a full state: id 73, level 2, 32 fields of 33 bits.
RECORD_BITS_MAX = 1472
RECORD_WORDS_MAX = 24

# codes by number: what the symbol is of, and how many codes there are for the contexts
SHAPE = 0  # 4 ages × 5 speeds × 2
VELOCITY_X = 40  # × 2
VELOCITY_Y = 42  # 16 widths × 2
VELOCITY_Z = 74  # 16 widths × 2
POSITION_XY = 106  # 16 widths
POSITION_Z = 122  # 16 widths
ANGLE_A = 138
ANGLE_B = 139  # 16 widths
NARROW, WIDE, SINGLE, SHAPE_SELF = 155, 156, 157, 158
CODES = 159

# codec: fields (columns below); numbers (below); reckoning by kind (columns below); words to write by code and symbol
# (length·65536 + word), symbols to read by code and next 8 bits (symbol·16 + length)
CODEC_TYPE = "Tuple((i8[:,::1], i8[::1], i8[:,::1], i4[:,::1], u1[:,::1]))"
Codec = tuple[I64, I64, I64, I32, U8]
BITS, SIGNED, CODE = 0, 1, 2  # of a field; code −1: raw
# numbers: velocity scale; fields of each level; index of the kind, −1 none; the angles' indices, −1 none; width of the
# slowest speed; others of each level; then the indices of the others
SCALE, COUNT, KIND, FIRST_ANGLE, SECOND_ANGLE, SPEED_BASE, OTHER_COUNT, OTHERS = 0, 1, 5, 6, 7, 8, 9, 13
# reckoning: order; acceleration of x, y, z, in position and in velocity units; the condition of order 2
ORDER, POSITION_GAIN, VELOCITY_GAIN, CONDITION_FIELD, CONDITION_MASK, CONDITION_VALUE = 0, 1, 4, 7, 8, 9
RECKONING_COLUMNS = 10
LOW_63 = (1 << 63) - 1
Writer = tuple[int, int, int]  # word to fill next, pending bits, how many


def _width_plain(value: int) -> int:
    return int(value).bit_length()


WIDTH_LLVM = """
declare i64 @llvm.ctlz.i64(i64, i1)
define weak_odr i64 @hitreg_bit_width(i64 %value) alwaysinline {
  %zeros = call i64 @llvm.ctlz.i64(i64 %value, i1 false)
  %width = sub i64 64, %zeros
  ret i64 %width
}
"""

# `bit_width(value)`: how many bits `value` ≥ 0 needs; 0 for 0.
bit_width = llvm_function("hitreg_bit_width", WIDTH_LLVM, _width_plain, returns="i8")


@kernel(counted=False, merge=True)
def append_bits(out: I64, at: int, word: int, fill: int, value: int, count: int) -> Writer:
    """Append `count` ≤ 64 bits, above which `value` has none, to a string in words; the writer's new state.

    The writer is (at, word, fill): `fill` < 64 pending bits in `word`, which goes to out[at] once it is full.
    """
    word |= value << fill
    total = fill + count
    # Whether a word is full cannot be foretold: it is stored in any case, and the choice is no branch.
    out[np.uint64(at)] = word
    full = total >> 6
    rest = ((value >> 1) & LOW_63) >> (63 - fill)
    return at + full, rest if full != 0 else word, total & 63


@kernel(counted=False, merge=True)
def reckoned_order(baseline: I32, codec: Codec) -> tuple[int, int]:
    """The row of `reckoning` for the baseline's kind, and the order that holds for its state."""
    numbers, reckoning = codec[1], codec[2]
    row = 0
    if numbers[KIND] >= 0:
        row = min(int(np.int64(baseline[numbers[KIND]])), reckoning.shape[0] - 1)
    order = int(np.int64(reckoning[row, ORDER]))
    if order == 2:
        held = int(np.int64(baseline[reckoning[row, CONDITION_FIELD]])) & reckoning[row, CONDITION_MASK]
        if held != reckoning[row, CONDITION_VALUE]:
            order = 1
    return row, order


@kernel(counted=False, merge=True)
def expected_velocity(baseline: I32, age: int, axis: int, row: int, order: int, codec: Codec) -> int:
    """Where dead reckoning has the velocity on `axis`, which may exceed the field; row and order: `reckoned_order`."""
    velocity = int(np.int64(baseline[3 + axis]))
    if order == 2:
        velocity += (codec[2][row, VELOCITY_GAIN + axis] * age + 32768) >> 16
    return velocity


@kernel(counted=False, merge=True)
def expected_position(baseline: I32, age: int, axis: int, row: int, order: int, codec: Codec) -> int:
    """Where dead reckoning has the position on `axis`, which may exceed the field; row and order: `reckoned_order`."""
    moved = 32768
    if order >= 1:
        moved += int(np.int64(baseline[3 + axis])) * age * codec[1][SCALE]
    if order == 2:
        moved += (codec[2][row, POSITION_GAIN + axis] * age * age) >> 1
    return int(np.int64(baseline[axis])) + (moved >> 16)


@kernel(counted=False)
def expected(baseline: I32, age: int, axis: int, codec: Codec) -> int:
    """Where dead reckoning has field `axis` (0–2 position, 3–5 velocity) `age` ticks after the baseline, as a field."""
    row, order = reckoned_order(baseline, codec)
    if axis >= 3:
        return wrap(expected_velocity(baseline, age, axis - 3, row, order, codec), codec[0][axis, BITS], 1)
    return wrap(expected_position(baseline, age, axis, row, order, codec), codec[0][axis, BITS], 1)


@kernel(counted=False, merge=True)
def shape_code(baseline: I32, age: int, order: int, codec: Codec) -> int:
    """The code of a delta's first symbol."""
    x, y, z = int(np.int64(baseline[3])), int(np.int64(baseline[4])), int(np.int64(baseline[5]))
    bits = fold(x) | fold(y) | fold(z)
    speed = min(max(bit_width(bits) - codec[1][SPEED_BASE], 1), 4) if bits != 0 else 0
    aged = int(age > 4) + int(age > 8) + int(age > 16)
    return SHAPE + (aged * 5 + speed) * 2 + (order >> 1)


@kernel(counted=False)
def _put_number(folded: int, code: int, words: I32, out: I64, at: int, word: int, fill: int) -> Writer:
    """Append the symbol of a number's width, and its bits below the highest."""
    width = bit_width(folded)
    entry = int(np.int64(words[code, min(width, ESCAPE)]))
    value, count = entry & 0xFFFF, entry >> 16
    if width >= ESCAPE:
        value |= (width - ESCAPE) << count
        count += ESCAPE_BITS
    value |= (folded & (((1 << width) - 1) >> 1)) << count
    count += width - int(width > 0)
    return append_bits(out, at, word, fill, value, count)


@kernel(counted=False)
def _residual(current: int, foreseen: int, bits: int) -> int:
    """The difference modulo 2^bits, folded."""
    spare = 64 - bits
    return fold((current - foreseen) << spare >> spare)


@kernel(counted=False, merge=True)
def _put_motion(shape: int, order: int, residual: I64, codec: Codec, out: I64, at: int, word: int, fill: int) -> Writer:
    """Append the residuals of velocity and position that `shape` names."""
    words = codec[3]
    fast = order >> 1
    if shape & 1:
        width = bit_width(residual[3])
        at, word, fill = _put_number(residual[3], VELOCITY_X + fast, words, out, at, word, fill)
        code = VELOCITY_Y + 2 * min(width, ESCAPE) + fast
        at, word, fill = _put_number(residual[4], code, words, out, at, word, fill)
        code = VELOCITY_Z + 2 * min(max(width, bit_width(residual[4])), ESCAPE) + fast
        at, word, fill = _put_number(residual[5], code, words, out, at, word, fill)
    if shape & 2:
        for axis in range(3):
            code = (POSITION_XY if axis < 2 else POSITION_Z) + min(bit_width(residual[3 + axis]), ESCAPE)
            at, word, fill = _put_number(residual[axis], code, words, out, at, word, fill)
    return at, word, fill


@kernel(counted=False, merge=True)
def _motion(current: I32, baseline: I32, age: int, row: int, order: int, codec: Codec, residual: I64) -> int:
    """The residuals of position and velocity, and which of them differ: 1 velocity, 2 position."""
    fields, scale = codec[0], codec[1][SCALE]
    moved, turned = 0, 0
    for axis in range(3):
        start = int(np.int64(baseline[3 + axis]))
        now = int(np.int64(current[3 + axis]))
        foreseen = expected_velocity(baseline, age, axis, row, order, codec)
        residual[3 + axis] = _residual(now, foreseen, fields[3 + axis, BITS])
        way = ((start + now) * age * scale + 65536) >> 17 if order > 0 else 0
        foreseen = int(np.int64(baseline[axis])) + way
        residual[axis] = _residual(int(np.int64(current[axis])), foreseen, fields[axis, BITS])
        turned |= residual[3 + axis]
        moved |= residual[axis]
    return int(turned != 0) + 2 * int(moved != 0)


@kernel(counted=False, merge=True)
def _put_angles(current: I32, baseline: I32, codec: Codec, out: I64, at: int, word: int, fill: int) -> Writer:
    fields, numbers, _, words, _ = codec
    first, second = numbers[FIRST_ANGLE], numbers[SECOND_ANGLE]
    value = _residual(int(np.int64(current[first])), int(np.int64(baseline[first])), fields[first, BITS])
    at, word, fill = _put_number(value, ANGLE_A, words, out, at, word, fill)
    if second >= 0:
        code = ANGLE_B + min(bit_width(value), ESCAPE)
        value = _residual(int(np.int64(current[second])), int(np.int64(baseline[second])), fields[second, BITS])
        at, word, fill = _put_number(value, code, words, out, at, word, fill)
    return at, word, fill


@kernel(counted=False, merge=True)
def _put_others(
    current: I32, baseline: I32, mask: int, count: int, codec: Codec, out: I64, at: int, word: int, fill: int
) -> Writer:
    """Append which of the first `count` other fields changed, and each of those."""
    fields, numbers, _, words, _ = codec
    only = int(lowest_bit(mask))
    alone = mask & (mask - 1) == 0 and only < ESCAPE
    entry = int(np.int64(words[SINGLE, only if alone else ESCAPE]))
    at, word, fill = append_bits(out, at, word, fill, entry & 0xFFFF, entry >> 16)
    if not alone:
        at, word, fill = append_bits(out, at, word, fill, mask, count)
    while mask != 0:
        f = numbers[OTHERS + int(lowest_bit(mask))]
        mask &= mask - 1
        bits, value = fields[f, BITS], int(np.int64(current[f]))
        if fields[f, CODE] < 0:
            at, word, fill = append_bits(out, at, word, fill, value & ((1 << bits) - 1), bits)
        else:
            value = _residual(value, int(np.int64(baseline[f])), bits)
            at, word, fill = _put_number(value, fields[f, CODE], words, out, at, word, fill)
    return at, word, fill


@kernel(counted=False, merge=True)
def _changes(current: I32, baseline: I32, level: int, numbers: I64) -> tuple[int, int]:
    """A bit for each of the level's other fields that changed, and whether an angle did."""
    mask, turned = 0, 0
    for f in range(np.uint64(MOTION_FIELDS), np.uint64(numbers[COUNT + level])):
        mask |= int(current[f] != baseline[f]) << int(np.int64(f) - MOTION_FIELDS)
    for k in range(SECOND_ANGLE, FIRST_ANGLE - 1, -1):  # the angles' bits are taken out, the higher one first
        place = int(np.int64(numbers[k])) - MOTION_FIELDS
        if place >= 0:
            turned |= mask >> place & 1
            mask = (mask & ((1 << place) - 1)) | mask >> (place + 1) << place
    return mask, turned


@kernel(counted=False)
def encode_delta(current: I32, baseline: I32, age: int, level: int, codec: Codec, out: I64, at: int) -> int:
    """Write the body of `current` against `baseline`, `age` ticks older, from out[at] on; how many bits.

    Unused high bits of the last word are 0.
    """
    numbers, residual = codec[1], local_i64(MOTION_FIELDS)
    begin, word, fill = at, 0, 0
    shape, order, code = 0, 0, SHAPE_SELF
    if level != SELF:
        row, order = reckoned_order(baseline, codec)
        code = shape_code(baseline, age, order, codec)
        shape = _motion(current, baseline, age, row, order, codec, residual)
    mask, turned = _changes(current, baseline, level, numbers)
    shape |= 4 * turned + 8 * int(mask != 0)
    entry = int(np.int64(codec[3][code, shape]))
    at, word, fill = append_bits(out, at, word, fill, entry & 0xFFFF, entry >> 16)
    if shape & 3:
        at, word, fill = _put_motion(shape, order, residual, codec, out, at, word, fill)
    if shape & 4:
        at, word, fill = _put_angles(current, baseline, codec, out, at, word, fill)
    if shape & 8:
        count = int(np.int64(numbers[OTHER_COUNT + level]))
        at, word, fill = _put_others(current, baseline, mask, count, codec, out, at, word, fill)
    out[at] = word
    return (at - begin) * 64 + fill


@kernel(counted=False)
def _put_golomb(value: int, order: int, out: I64, at: int, word: int, fill: int) -> Writer:
    """Append 0 ≤ `value` < 2^28 in exp-Golomb code of `order`: zeros, a one, the bits below the highest."""
    shifted = value + (1 << order)
    low = bit_width(shifted) - 1
    zeros = low - order
    at, word, fill = append_bits(out, at, word, fill, 1 << zeros, zeros + 1)
    return append_bits(out, at, word, fill, shifted - (1 << low), low)


@kernel(counted=False)
def encode_full(current: I32, identity: np.uint64, level: int, codec: Codec, out: I64, at: int) -> int:
    """Write the body that needs no baseline from out[at] on; how many bits. Unused high bits are 0."""
    fields, numbers = codec[0], codec[1]
    low = int(np.int64(identity & np.uint64((1 << 52) - 1)))
    zone = int(np.int64(identity >> np.uint64(52)))
    begin, word, fill = at, 0, 0
    at, word, fill = append_bits(out, at, word, fill, low & ((1 << SLOT_BITS) - 1), SLOT_BITS)
    at, word, fill = _put_golomb(low >> SLOT_BITS, GENERATION_ORDER, out, at, word, fill)
    at, word, fill = _put_golomb(zone, ZONE_ORDER, out, at, word, fill)
    at, word, fill = append_bits(out, at, word, fill, level, LEVEL_BITS)
    if level != SELF:
        speed = 0
        for axis in range(3):
            bits = fields[axis, BITS]
            value = int(np.int64(current[axis])) & ((1 << bits) - 1)
            at, word, fill = append_bits(out, at, word, fill, value, bits)
            speed |= fold(int(np.int64(current[3 + axis])))
        width = bit_width(speed)
        at, word, fill = append_bits(out, at, word, fill, width, FULL_WIDTH_BITS)
        for axis in range(3):
            at, word, fill = append_bits(out, at, word, fill, fold(int(np.int64(current[3 + axis]))), width)
    last = int(np.int64(numbers[COUNT + level]))
    mask = 0
    for f in range(MOTION_FIELDS, last):
        if current[f] != 0:
            mask |= 1 << (f - MOTION_FIELDS)
    at, word, fill = append_bits(out, at, word, fill, mask, last - MOTION_FIELDS)
    for f in range(MOTION_FIELDS, last):
        if current[f] != 0:
            bits = fields[f, BITS]
            value = int(np.int64(current[f])) & ((1 << bits) - 1)
            at, word, fill = append_bits(out, at, word, fill, value, bits)
    out[at] = word
    return (at - begin) * 64 + fill
