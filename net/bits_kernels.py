"""Bit streams: values of a few bits, written least significant bit first into bytes.

Layout. Bit i of a stream is bit (i mod 8) of byte (i div 8). A value of n bits is written low bit first, so that
a stream is one long little-endian integer. Two codes stand on it:

- raw: n bits;
- exp-Golomb of order k (Teuhola 1978): for u ≥ 0 let v = u + 2^k and n = bit length of v; written are n−1−k zeros,
  a one, then the low n−1 bits of v. Small values are short: k+1 bits for u < 2^k.

Signed values are folded first: 0, −1, 1, −2, … become 0, 1, 2, 3, … (zigzag).

A writer is (at, word, fill): `fill` < 8 pending bits in `word`, the next byte goes to `at`. A reader is one bit
position. A reader never touches a byte at or after `end`: what lies there reads as zero and moves the position past
the end, which the caller checks once per record.
"""

import numpy as np

from sim.arrays import U8
from sim.jit import kernel

__all__ = [
    "BAD_POSITION",
    "bit_length",
    "fold",
    "get_bits",
    "get_varint",
    "put_bits",
    "put_golomb",
    "put_varint",
    "unfold",
    "wrap",
]

BAD_POSITION = 1 << 40  # a bit or byte position no buffer has: what was read is malformed


@kernel(counted=False)
def bit_length(value: int) -> int:
    """How many bits `value` ≥ 0 needs; 0 for 0."""
    length = 0
    while value > 0:
        value >>= 1
        length += 1
    return length


@kernel(counted=False)
def fold(value: int) -> int:
    """Zigzag: 0, −1, 1, −2, … become 0, 1, 2, 3, …."""
    return (value << 1) ^ (value >> 63)


@kernel(counted=False)
def unfold(value: int) -> int:
    """The inverse of `fold`."""
    return (value >> 1) ^ -(value & 1)


@kernel(counted=False)
def wrap(value: int, bits: int, signed: int) -> int:
    """`value` modulo 2^bits, in [0, 2^bits) or, where `signed`, in [−2^(bits−1), 2^(bits−1))."""
    value &= (1 << bits) - 1
    if signed != 0 and value >> (bits - 1) != 0:
        value -= 1 << bits
    return value


@kernel(counted=False)
def put_bits(out: U8, at: int, word: int, fill: int, value: int, count: int) -> tuple[int, int, int]:
    """Append the low `count` ≤ 48 bits of `value`, which has no bit above them; the writer's new state."""
    word |= value << fill
    fill += count
    while fill >= 8:
        out[at] = word & 255
        at += 1
        word >>= 8
        fill -= 8
    return at, word, fill


@kernel(counted=False)
def put_golomb(out: U8, at: int, word: int, fill: int, value: int, order: int) -> tuple[int, int, int]:
    """Append 0 ≤ `value` < 2^33 in exp-Golomb code of `order` ≤ 16; the writer's new state."""
    shifted = value + (1 << order)
    low = bit_length(shifted) - 1
    zeros = low - order
    at, word, fill = put_bits(out, at, word, fill, 1 << zeros, zeros + 1)
    return put_bits(out, at, word, fill, shifted - (1 << low), low)


@kernel(counted=False)
def get_bits(data: U8, position: int, count: int, end: int) -> int:
    """The `count` ≤ 48 bits at bit `position` of data[:end]; bits past the end are zero."""
    byte = position >> 3
    word = 0
    for i in range(max(0, min(7, end - byte))):
        word |= int(np.int64(data[byte + i])) << (8 * i)
    return (word >> (position & 7)) & ((1 << count) - 1)


@kernel(counted=False)
def put_varint(out: U8, at: int, value: int) -> int:
    """Write `value` ≥ 0 in base 128, least significant group first (LEB128), at byte `at`; the byte after it."""
    while value >= 128:
        out[at] = (value & 127) | 128
        at += 1
        value >>= 7
    out[at] = value
    return at + 1


@kernel(counted=False)
def get_varint(data: U8, at: int, end: int) -> tuple[int, int]:
    """A LEB128 value below 2^63 at byte `at` of data[:end], and the byte after it.

    The position is `BAD_POSITION` where the value is cut short or longer than nine bytes.
    """
    if at < end and data[np.uint64(at)] < 128:  # most are; an unsigned index need not be tested for its sign
        return int(np.int64(data[np.uint64(at)])), at + 1
    value = 0
    for i in range(9):
        if at >= end:
            return 0, BAD_POSITION
        byte = int(np.int64(data[np.uint64(at)]))
        at += 1
        value |= (byte & 127) << (7 * i)
        if byte < 128:
            return value, at
    return 0, BAD_POSITION
