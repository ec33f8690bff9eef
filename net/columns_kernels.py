"""Columns of int32 to byte planes and back. The layout stands at the top of net/columns.py."""

import math

import numpy as np

from net.bits_kernels import bit_length
from sim.arrays import I32, I64, U8
from sim.jit import kernel

__all__ = ["BASE", "DIFFERENCE", "FORM", "PLANES", "PLAN_COLUMNS", "join_planes", "plan_columns", "split_planes"]

PLANES, FORM, BASE = 0, 1, 2  # of a plan
PLAN_COLUMNS = 3
DIFFERENCE = 1  # the form of a column that holds differences; 0: plain
LOW_32 = 0xFFFFFFFF
# Rows of a column that are looked at to choose its form. Joins of 4,000 entities of the arena, with zstd 3: 40,032
# bytes with 256 rows, packed in 532 µs; 40,019 with 1,024, in 946 µs; 40,352 without differences. Comparing summed bit
# lengths instead of the entropy of bytes chose differences where plain planes compress better: 41,266.
SAMPLE_ROWS = 256


@kernel(counted=False)
def _zigzag(difference: int) -> int:
    """A difference of two int32, modulo 2^32, with small magnitudes as small numbers."""
    low = difference & LOW_32
    return ((low << 1) ^ (LOW_32 if low >> 31 else 0)) & LOW_32


@kernel(counted=False)
def _planes_bits(column: I32, least: int, form: int, seen: I64) -> float:
    """Bits of entropy, order 0, of the four planes of a sample of the column's rows in a form; `seen` is scratch."""
    step = max(1, column.shape[0] // SAMPLE_ROWS)
    bits = 0.0
    for shift in range(0, 32, 8):
        seen[:] = 0
        count = 0
        for i in range(1, column.shape[0], step):
            value = int(np.int64(column[i])) - least
            if form == DIFFERENCE:
                value = _zigzag(int(np.int64(column[i])) - int(np.int64(column[i - 1])))
            seen[value >> shift & 0xFF] += 1
            count += 1
        for byte in range(256):
            if seen[byte] > 0:
                bits -= seen[byte] * math.log2(seen[byte] / count)
    return bits


@kernel("(i4[:,::1], i8, i8[::1], i8[:,::1])")
def plan_columns(columns: I32, differences: int, seen: I64, plan: I64) -> int:
    """Choose for each column the form of less entropy; how many planes there are in all. `seen` has 256 numbers."""
    count = columns.shape[1]
    total = 0
    for c in range(columns.shape[0]):
        least = int(np.int64(columns[c, 0]))
        for i in range(count):
            least = min(least, int(np.int64(columns[c, i])))
        chosen = False
        if differences != 0:
            plain = _planes_bits(columns[c], least, 0, seen)
            chosen = _planes_bits(columns[c], least, DIFFERENCE, seen) < plain
        used = 0
        if chosen:
            for i in range(1, count):
                used |= _zigzag(int(np.int64(columns[c, i])) - int(np.int64(columns[c, i - 1])))
        else:
            for i in range(count):
                used |= int(np.int64(columns[c, i])) - least
        plan[c, FORM] = DIFFERENCE if chosen else 0
        plan[c, BASE] = columns[c, 0] if chosen else least
        plan[c, PLANES] = (bit_length(used) + 7) // 8
        total += plan[c, PLANES]
    return total


@kernel("(i4[:,::1], i8[:,::1], u1[::1])")
def split_planes(columns: I32, plan: I64, out: U8) -> int:
    """Write the planes of all columns, one after the other; their bytes."""
    count = columns.shape[1]
    at = 0
    for c in range(columns.shape[0]):
        base = plan[c, BASE]
        for p in range(plan[c, PLANES]):
            shift = 8 * p
            if plan[c, FORM] == DIFFERENCE:
                before = base
                for i in range(count):
                    value = int(np.int64(columns[c, i]))
                    out[at + i] = _zigzag(value - before) >> shift & 0xFF
                    before = value
            else:
                for i in range(count):
                    out[at + i] = (int(np.int64(columns[c, i])) - base) >> shift & 0xFF
            at += count
    return at


@kernel("(u1[::1], i8[:,::1], i4[:,::1])")
def join_planes(planes: U8, plan: I64, out: I32) -> int:
    """Read the planes of all columns; their bytes. Any bytes give some numbers: lengths were checked before."""
    count = out.shape[1]
    at = 0
    for c in range(out.shape[0]):
        base = plan[c, BASE]
        value = base
        for i in range(count):
            number = 0
            for p in range(plan[c, PLANES]):
                number |= int(np.int64(planes[at + p * count + i])) << 8 * p
            if plan[c, FORM] == DIFFERENCE:
                value += number >> 1 ^ -(number & 1)
            else:
                value = base + number
            # Wraps modulo 2^32 as the sender's subtraction did.
            out[c, i] = ((value + 0x80000000) & LOW_32) - 0x80000000
        at += count * plan[c, PLANES]
    return at
