"""Zone-wide state on the server: writing sections, and what became of them.

A *stamp* says when a word changed: tick << 20 | rank of its row, so that changes of all rows have one order. The rank
turns with the tick: where more changes in every tick than sections carry, each row comes first now and then.

State of the zone, one tuple (`STATE_TYPE`):

    ids        u8[rows]             occupants, as last committed
    words      i4[words, rows]      their words, as last committed
    stamps     i8[words + 1, rows]  of each word, the last of the occupant itself; 0: never

What clients have, one tuple (`CLIENTS_TYPE`); times are stamps:

    told       i8[clients, 4]       the TOLD_ columns below
    sequence   i4[clients, 64]      snapshots that carried a section, at sequence mod 64; −1: settled
    carried    i8[clients, 64, 2]   up to which stamp each told, and in which series

What is done once per tick for all rows or clients is numpy's, in `server.zone_state`: as kernels it took five seconds
more to compile.
"""

from typing import Final

import numpy as np

from net.bits_kernels import put_bits
from net.zone_kernels import (
    FRESH_BITS,
    LAYOUT_TYPE,
    SLOT_BITS,
    TAG_BITS,
    TAG_MASK,
    ZoneTables,
)
from sim.arrays import I32, I64, U8, U32, U64
from sim.jit import kernel

__all__ = [
    "BEHIND",
    "CLIENTS_TYPE",
    "KNOWN",
    "NOT_TOLD",
    "SENT_RING",
    "SERIES",
    "STATE_TYPE",
    "TOLD",
    "TOLD_COLUMNS",
    "Clients",
    "State",
    "acknowledge_sections",
    "write_section",
]

SENT_RING: Final = 64
ACKED_MAX: Final = 32  # snapshots that a mask speaks of, besides the newest

TOLD: Final = 0  # everything up to here was sent; NOT_TOLD: nothing is sent
KNOWN: Final = 1  # everything up to here was acknowledged
SERIES: Final = 2  # grows when something was lost: what was sent before does not count any more
BEHIND: Final = 3  # 1: so much has changed that a block is cheaper
TOLD_COLUMNS: Final = 4
NOT_TOLD: Final = -1

State = tuple[U64, I32, I64]
STATE_TYPE = "Tuple((u8[::1], i4[:,::1], i8[:,::1]))"
Clients = tuple[I64, I32, I64]
CLIENTS_TYPE = "Tuple((i8[:,::1], i4[:,::1], i8[:,:,::1]))"


@kernel(counted=False)
def _list_entry(row: int, base: int, state: State, layout: ZoneTables, parts: I64) -> tuple[int, int]:
    """List a row's entry as values and their widths, in `parts`; how many there are, and their bits."""
    table, _, row_bits = layout
    ids, words, stamps = state
    count = words.shape[0]
    fresh = stamps[count, row] > base
    high = int(np.int64(ids[row] >> np.uint64(SLOT_BITS)))
    parts[0, 0], parts[0, 1] = 1 | row << 1 | int(fresh) << (row_bits + 1), row_bits + 2
    if fresh and ids[row] == np.uint64(0):
        parts[1, 0], parts[1, 1] = 0, 1
        return 2, row_bits + 3
    if fresh:
        parts[1, 0], parts[1, 1] = 1 | high << 1, FRESH_BITS
    else:
        parts[1, 0], parts[1, 1] = high & TAG_MASK, TAG_BITS
    mask, listed, bits = 0, 3, parts[0, 1] + parts[1, 1] + count
    for w in range(count):
        if (fresh and words[w, row] != 0) or (not fresh and stamps[w, row] > base):
            mask |= 1 << w
            parts[listed, 0] = int(np.int64(words[w, row])) & ((1 << table[w, 0]) - 1)
            parts[listed, 1] = table[w, 0]
            bits += table[w, 0]
            listed += 1
    parts[2, 0], parts[2, 1] = mask, count
    return listed, bits


@kernel(f"(i8, i8, i8[::1], i8, {STATE_TYPE}, {LAYOUT_TYPE}, i8[:,::1], u1[::1], i8[::1])", counted=False)
def write_section(
    base: int, budget: int, rows: I64, at: int, state: State, layout: ZoneTables, parts: I64, arena: U8, out: I64
) -> int:
    """Write the section of rows that changed after a stamp, in their order, as many as fit; how many do.

    Args:
        base: What the client was told.
        budget: Most bytes.
        rows: Those that changed since.
        at: Where in the arena the section begins.
        state: As last committed.
        layout: Of rows and words.
        parts: Scratch: value and width of each part of an entry, (words + 3, 2).
        arena: Where it goes.
        out: The byte behind it.
    """
    room, word, fill, written = 8 * budget - 1, 0, 0, 0
    for index in range(rows.shape[0]):
        listed, bits = _list_entry(rows[index], base, state, layout, parts)
        if bits > room:
            break
        room -= bits
        for i in range(listed):
            at, word, fill = put_bits(arena, at, word, fill, parts[i, 0], parts[i, 1])
        written += 1
    # The last bit, 0, ends the section; it may need a byte of its own.
    arena[at] = np.uint8(word)
    out[0] = at + 1
    return written


@kernel(f"(i4[::1], i4[::1], u4[::1], {CLIENTS_TYPE}, i8[::1])", counted=False)
def acknowledge_sections(client: I32, sequence: I32, mask: U32, clients: Clients, lost: I64) -> int:
    """Settle the snapshots up to each acknowledged one, oldest first; how many sections arrived, and were `lost`.

    A client takes snapshots in ascending order only, so one that is older than its newest and not in the mask is lost:
    it is told again from what it is known to have, and what is under way does not count any more.
    """
    told, sent, carried = clients
    fresh = 0
    for i in range(client.shape[0]):
        c, newest = int(np.int64(client[i])), int(np.int64(sequence[i]))
        if newest < 0 or told[c, TOLD] == NOT_TOLD:
            continue
        bits = 1 | int(np.int64(mask[i])) << 1
        for back in range(SENT_RING - 1, -1, -1):
            number = (newest - back) & 0xFFFF
            place = number % SENT_RING
            if sent[c, place] != number:
                continue
            sent[c, place] = -1
            if carried[c, place, 1] != told[c, SERIES]:
                continue
            if back <= ACKED_MAX and bits >> back & 1:
                told[c, KNOWN] = max(told[c, KNOWN], carried[c, place, 0])
                fresh += 1
            else:
                told[c, TOLD] = told[c, KNOWN]
                told[c, SERIES] += 1
                lost[0] += 1
    return fresh
