"""Sections of zone-wide state: decoding, and taking them out of snapshots. Layout: at the top of net/zone.py."""

from typing import Final

import numpy as np

from net.bits_kernels import BAD_POSITION, get_bits, get_golomb
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "COUNT_ORDER",
    "GENERATION_BITS",
    "GENERATION_ORDER",
    "LAYOUT_TYPE",
    "MALFORMED",
    "SLOT_BITS",
    "TAG_BITS",
    "TAG_MASK",
    "TAKEN",
    "WORDS_MAX",
    "ZONE_BITS",
    "ZONE_ORDER",
    "ZoneTables",
    "apply_sections",
]

COUNT_ORDER: Final = 3
GENERATION_ORDER: Final = 4
ZONE_ORDER: Final = 2
WORDS_MAX: Final = 48  # of a row: a mask of them is read in one piece
TAKEN: Final = 0
MALFORMED: Final = 1
TAG_BITS: Final = 4  # of the generation, beside words: whose they are
TAG_MASK: Final = (1 << TAG_BITS) - 1

SLOT_BITS: Final = 24
GENERATION_BITS: Final = 28
ZONE_BITS: Final = 12

ZoneTables = tuple[I64, I64, int]
"""Width and sign of each word, shape (words, 2), int64; global slot of each row, int64; bits of a row's number."""
LAYOUT_TYPE = "Tuple((i8[:,::1], i8[::1], i8))"
_REPLICA_TYPE = "Tuple((u8[:,::1], i4[:,:,::1]))"


@kernel(counted=False)
def _read_words(data: U8, at: int, end: int, table: I64, write: int, words: I32) -> int:
    """Read a mask and the words it names, into `words` if `write`; the position behind them."""
    count = table.shape[0]
    mask = get_bits(data, at, count, end)
    at += count
    for w in range(count):
        if mask >> w & 1:
            bits = table[w, 0]
            value = get_bits(data, at, bits, end)
            at += bits
            if table[w, 1] != 0 and value >> (bits - 1) != 0:
                value -= 1 << bits
            if write != 0:
                words[w] = np.int32(value)
    return at


@kernel(counted=False)
def _read_section(data: U8, start: int, size: int, layout: ZoneTables, write: int, ids: U64, words: I32) -> int:
    """Read a whole section, into one client's rows if `write`; TAKEN or why it is none."""
    table, slots, row_bits = layout
    end = start + size
    count, at = get_golomb(data, start * 8, COUNT_ORDER, end)
    if at == BAD_POSITION or count > slots.shape[0]:
        return MALFORMED
    for _ in range(count):
        row = get_bits(data, at, row_bits, end)
        fresh = get_bits(data, at + row_bits, 1, end)
        at += row_bits + 1
        if row >= slots.shape[0] or at > end * 8:
            return MALFORMED
        if fresh != 0:
            living = get_bits(data, at, 1, end)
            at += 1
            identity = np.uint64(0)
            if living != 0:
                generation, at = get_golomb(data, at, GENERATION_ORDER, end)
                zone, at = get_golomb(data, at, ZONE_ORDER, end)
                if generation >> GENERATION_BITS != 0 or zone >> ZONE_BITS != 0 or generation == 0:
                    return MALFORMED
                high = np.uint64(generation << SLOT_BITS) | np.uint64(zone) << np.uint64(SLOT_BITS + GENERATION_BITS)
                identity = high | np.uint64(slots[row])
            if write != 0:
                ids[row] = identity
                words[row, :] = 0
            if living == 0:
                continue
            mine = True
        else:
            held = ids[row]
            tag = int(np.int64(held >> np.uint64(SLOT_BITS))) & TAG_MASK
            mine = held != np.uint64(0) and get_bits(data, at, TAG_BITS, end) == tag
            at += TAG_BITS
        at = _read_words(data, at, end, table, int(write != 0 and mine), words[row])
        if at > end * 8:
            return MALFORMED
    return TAKEN if at <= end * 8 and end * 8 - at < 8 else MALFORMED


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
