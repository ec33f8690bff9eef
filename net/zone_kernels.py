"""Sections of zone-wide state: their numbers, and how they are read. The layout stands at the top of net/zone.py."""

from typing import Final

import numpy as np

from net.bits_kernels import get_bits
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "FRESH_BITS",
    "GENERATION_BITS",
    "LAYOUT_TYPE",
    "MALFORMED",
    "SLOT_BITS",
    "TAG_BITS",
    "TAG_MASK",
    "TAKEN",
    "WORDS_MAX",
    "ZONE_BITS",
    "ZoneTables",
    "apply_sections",
]

WORDS_MAX: Final = 48  # of a row: a mask of them is read in one piece
TAKEN: Final = 0
MALFORMED: Final = 1
TAG_BITS: Final = 4  # of the generation, beside words: whose they are
TAG_MASK: Final = (1 << TAG_BITS) - 1

SLOT_BITS: Final = 24
GENERATION_BITS: Final = 28
ZONE_BITS: Final = 12
GENERATION_MASK: Final = (1 << GENERATION_BITS) - 1
FRESH_BITS: Final = 1 + GENERATION_BITS + ZONE_BITS  # whether there is an occupant, and its id without the slot

ZoneTables = tuple[I64, I64, int]
"""Width and sign of each word, shape (words, 2), int64; global slot of each row, int64; bits of a row's number."""
LAYOUT_TYPE = "Tuple((i8[:,::1], i8[::1], i8))"
_REPLICA_TYPE = "Tuple((u8[:,::1], i4[:,:,::1]))"


@kernel(counted=False)
def _read_section(data: U8, start: int, size: int, layout: ZoneTables, write: int, ids: U64, words: I32) -> int:
    """Read a whole section, into one client's rows if `write`; TAKEN or why it is none.

    Few reads in loops, as each place that reads bits takes a second to compile.
    """
    table, slots, row_bits = layout
    count, end = table.shape[0], start + size
    at, last = start * 8, end * 8
    while True:
        head = get_bits(data, at, row_bits + 2, end)
        if head & 1 == 0:
            at += 1
            break
        row, fresh = (head >> 1) & ((1 << row_bits) - 1), head >> (row_bits + 1)
        at += row_bits + 2
        if row >= slots.shape[0] or at > last:
            return MALFORMED
        name = get_bits(data, at, FRESH_BITS if fresh else TAG_BITS, end)
        if fresh:
            high = name >> 1
            gone = name & 1 == 0
            at += 1 if gone else FRESH_BITS
            if not gone and high & GENERATION_MASK == 0:
                return MALFORMED
            if write != 0:
                ids[row] = np.uint64(0) if gone else np.uint64(slots[row]) | np.uint64(high) << np.uint64(SLOT_BITS)
                for w in range(count):
                    words[row, w] = 0
            if gone:
                continue
        else:
            at += TAG_BITS
        # Of a row whose occupant is another one here, words are passed over.
        held = int(np.int64(ids[row] >> np.uint64(SLOT_BITS)))
        keep = write != 0 and (fresh != 0 or (ids[row] != np.uint64(0) and held & TAG_MASK == name))
        mask = get_bits(data, at, count, end)
        at += count
        for w in range(count):
            if mask >> w & 1:
                bits = table[w, 0]
                value = get_bits(data, at, bits, end)
                at += bits
                if table[w, 1] != 0 and value >> (bits - 1) != 0:
                    value -= 1 << bits
                if keep:
                    words[row, w] = np.int32(value)
        if at > last:
            return MALFORMED
    return TAKEN if at <= last and last - at < 8 else MALFORMED


@kernel(f"(i4[::1], u1[:,::1], i4[::1], i4[::1], {LAYOUT_TYPE}, {_REPLICA_TYPE}, i4[::1])", counted=False)
def apply_sections(
    client: I32, payload: U8, start: I32, length: I32, layout: ZoneTables, replica: tuple[U64, I32], outcome: I32
) -> None:
    """Apply sections whole or not at all; `outcome` says which. Rows of length 0 carry none."""
    for i in range(client.shape[0]):
        outcome[i] = TAKEN
        size = int(np.int64(length[i]))
        if size <= 0:
            continue
        c, at = int(np.int64(client[i])), int(np.int64(start[i]))
        ids, words = replica[0][c], replica[1][c]
        outcome[i] = _read_section(payload[i], at, size, layout, 0, ids, words)
        if outcome[i] == TAKEN:
            _read_section(payload[i], at, size, layout, 1, ids, words)
