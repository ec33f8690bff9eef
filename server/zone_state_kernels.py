"""Zone-wide state on the server: what changed when, sections of it, and what became of them.

A *stamp* says when a word changed: tick << 20 | rank of its row, so that changes of all rows have one order. The rank
turns with the tick: where more changes in every tick than sections carry, each row comes first now and then.

State of the zone, one tuple (`STATE_TYPE`):

    ids        u8[rows]             occupants, as last committed
    words      i4[words, rows]      their words, as last committed
    stamps     i8[words + 1, rows]  of each word, the last of the occupant itself; 0: never
    newest     i8[rows]             the greatest stamp of each row
    links      i4[rows + 1, 2]      rows by descending `newest`, doubly linked; the last one is the list's own

What clients have, one tuple (`CLIENTS_TYPE`); times are stamps:

    told       i8[clients, 4]       the TOLD_ columns below
    sequence   i4[clients, 64]      snapshots that carried a section, at sequence mod 64; −1: settled
    carried    i8[clients, 64, 2]   up to which stamp each told, and in which series
"""

from typing import Final

import numpy as np

from net.bits_kernels import bit_length, put_bits, put_golomb
from net.zone_kernels import (
    COUNT_ORDER,
    GENERATION_BITS,
    GENERATION_ORDER,
    LAYOUT_TYPE,
    SLOT_BITS,
    TAG_BITS,
    TAG_MASK,
    ZONE_ORDER,
    ZoneTables,
)
from sim.arrays import I32, I64, U8, U32, U64
from sim.jit import kernel

__all__ = [
    "BEHIND",
    "CACHED",
    "CANDIDATES_MAX",
    "COUNTERS",
    "END",
    "KNOWN",
    "NOT_TOLD",
    "SENT_RING",
    "SERIES",
    "STAMP_BITS",
    "TOLD",
    "TOLD_COLUMNS",
    "acknowledge_sections",
    "commit_words",
    "note_sections",
    "write_sections",
]

STAMP_BITS: Final = 20
END: Final = (1 << STAMP_BITS) - 1  # behind every rank
RANK_STEP: Final = 40_503  # how far ranks turn per tick; odd and large, so that neighbouring ticks begin far apart
SENT_RING: Final = 64
ACKED_MAX: Final = 32  # snapshots that a mask speaks of, besides the newest

TOLD: Final = 0  # everything up to here was sent; NOT_TOLD: nothing is sent
KNOWN: Final = 1  # everything up to here was acknowledged
SERIES: Final = 2  # grows when something was lost: what was sent before does not count any more
BEHIND: Final = 3  # 1: so much has changed that a block is cheaper
TOLD_COLUMNS: Final = 4
NOT_TOLD: Final = -1

CANDIDATES_MAX: Final = 4096  # rows that one section chooses from; beyond, the client is `BEHIND`
WALKED_MAX: Final = 65_536  # rows looked at in a tick, for all clients together
CACHED: Final = 64  # sections of a tick that are shared

COUNTERS = ("sections", "sections_encoded", "sections_cut", "sections_lost", "sections_deferred", "clients_behind")
C_SECTIONS, C_ENCODED, C_CUT, C_LOST, C_DEFERRED, C_BEHIND = range(6)

State = tuple[U64, I32, I64, I64, I32]
STATE_TYPE = "Tuple((u8[::1], i4[:,::1], i8[:,::1], i8[::1], i4[:,::1]))"
Clients = tuple[I64, I32, I64]
CLIENTS_TYPE = "Tuple((i8[:,::1], i4[:,::1], i8[:,:,::1]))"
Heap = tuple[I64, I32]
HEAP_TYPE = "Tuple((i8[::1], i4[::1]))"


@kernel(counted=False)
def _to_front(row: int, links: I32) -> None:
    """Make a row the first of the list; its links are −1 where it is not in it yet."""
    end = links.shape[0] - 1
    before, behind = links[row, 0], links[row, 1]
    if before >= 0:
        links[before, 1] = behind
        links[behind, 0] = before
    first = links[end, 1]
    links[row, 0] = end
    links[row, 1] = first
    links[first, 0] = row
    links[end, 1] = row


@kernel(f"(i8, u8[::1], i4[:,::1], {STATE_TYPE}, u1[::1])", counted=False)
def commit_words(tick: int, ids: U64, words: I32, state: State, dirty: U8) -> int:
    """Stamp what differs from the last commit, and keep it; how many rows do. `dirty` is scratch, one a row."""
    old_ids, old, stamps, newest, links = state
    rows = ids.shape[0]
    for row in range(rows):
        dirty[row] = np.uint8(ids[row] != old_ids[row])
    for w in range(words.shape[0]):
        for row in range(rows):
            dirty[row] |= np.uint8(words[w, row] != old[w, row])
    changed = 0
    for row in range(rows):
        if dirty[row] == 0 or (ids[row] == np.uint64(0) and old_ids[row] == np.uint64(0)):
            continue  # what columns hold where nobody is, nobody is told
        changed += 1
        stamp = tick << STAMP_BITS | (row + tick * RANK_STEP) % rows
        if ids[row] != old_ids[row]:
            old_ids[row] = ids[row]
            stamps[:, row] = stamp
        for w in range(words.shape[0]):
            if words[w, row] != old[w, row]:
                old[w, row] = words[w, row]
                stamps[w, row] = stamp
        newest[row] = stamp
        _to_front(row, links)
    return changed


@kernel(counted=False)
def _golomb_bits(value: int, order: int) -> int:
    """The length of a value in exp-Golomb code."""
    return 2 * bit_length(value + (1 << order)) - 1 - order


@kernel(counted=False)
def _sift_down(heap: Heap, at: int, count: int) -> None:
    """Restore the order of a heap whose least key is first, from one place down."""
    keys, rows = heap
    while True:
        least = at
        for child in (2 * at + 1, 2 * at + 2):
            if child < count and keys[child] < keys[least]:
                least = child
        if least == at:
            return
        key, row = keys[at], rows[at]
        keys[at], rows[at] = keys[least], rows[least]
        keys[least], rows[least] = key, row
        at = least


@kernel(counted=False)
def _entry_mask(row: int, base: int, state: State) -> int:
    """Which words of a row a section tells beyond a stamp."""
    ids, words, stamps, _, _ = state
    count = words.shape[0]
    fresh = stamps[count, row] > base
    mask = 0
    if fresh and ids[row] == np.uint64(0):
        return 0
    for w in range(count):
        if (fresh and words[w, row] != 0) or (not fresh and stamps[w, row] > base):
            mask |= 1 << w
    return mask


@kernel(counted=False)
def _entry_bits(row: int, base: int, mask: int, state: State, layout: ZoneTables) -> int:
    """Bits of a row's entry."""
    table, _, row_bits = layout
    ids, words, stamps, _, _ = state
    count = words.shape[0]
    bits: int = row_bits + 1 + count
    if stamps[count, row] > base:
        bits += 1
        if ids[row] == np.uint64(0):
            return row_bits + 2
        generation = int(np.int64(ids[row] >> np.uint64(SLOT_BITS))) & ((1 << GENERATION_BITS) - 1)
        zone = int(np.int64(ids[row] >> np.uint64(SLOT_BITS + GENERATION_BITS)))
        bits += _golomb_bits(generation, GENERATION_ORDER) + _golomb_bits(zone, ZONE_ORDER)
    else:
        bits += TAG_BITS
    for w in range(count):
        if mask >> w & 1:
            bits += table[w, 0]
    return bits


@kernel(counted=False)
def _put_entry(
    out: U8, writer: tuple[int, int, int], row: int, base: int, state: State, layout: ZoneTables
) -> tuple[int, int, int]:
    """Write a row's entry; the writer's new state."""
    table, _, row_bits = layout
    ids, words, stamps, _, _ = state
    count = words.shape[0]
    fresh = stamps[count, row] > base
    generation = int(np.int64(ids[row] >> np.uint64(SLOT_BITS))) & ((1 << GENERATION_BITS) - 1)
    at, word, fill = put_bits(out, writer[0], writer[1], writer[2], row | int(fresh) << row_bits, row_bits + 1)
    if not fresh:
        at, word, fill = put_bits(out, at, word, fill, generation & TAG_MASK, TAG_BITS)
    else:
        living = ids[row] != np.uint64(0)
        at, word, fill = put_bits(out, at, word, fill, int(living), 1)
        if not living:
            return at, word, fill
        zone = int(np.int64(ids[row] >> np.uint64(SLOT_BITS + GENERATION_BITS)))
        at, word, fill = put_golomb(out, at, word, fill, generation, GENERATION_ORDER)
        at, word, fill = put_golomb(out, at, word, fill, zone, ZONE_ORDER)
    mask = _entry_mask(row, base, state)
    at, word, fill = put_bits(out, at, word, fill, mask, count)
    for w in range(count):
        if mask >> w & 1:
            value = int(np.int64(words[w, row])) & ((1 << table[w, 0]) - 1)
            at, word, fill = put_bits(out, at, word, fill, value, table[w, 0])
    return at, word, fill


@kernel(counted=False)
def _gather(base: int, state: State, heap: Heap) -> int:
    """The rows that changed after a stamp, each with the least of its stamps beyond it; −1: too many."""
    stamps, newest, links = state[2], state[3], state[4]
    keys, rows = heap
    end = links.shape[0] - 1
    found = 0
    row = int(np.int64(links[end, 1]))
    # Rows of one tick stand in the list by their number, not by their rank.
    while row != end and newest[row] >> STAMP_BITS >= base >> STAMP_BITS:
        if newest[row] <= base:
            row = int(np.int64(links[row, 1]))
            continue
        if found == keys.shape[0]:
            return -1
        least = newest[row]
        for w in range(stamps.shape[0]):
            if base < stamps[w, row] < least:
                least = stamps[w, row]
        keys[found] = least
        rows[found] = row
        found += 1
        row = int(np.int64(links[row, 1]))
    return found


@kernel(counted=False)
def _write_one(
    base: int, upto: int, budget: int, found: int, at: int, state: State, layout: ZoneTables, heap: Heap, arena: U8
) -> tuple[int, int]:
    """Write the section of the rows gathered, the oldest changes first; the byte behind it and how far it tells."""
    keys, rows = heap
    for i in range(found // 2 - 1, -1, -1):
        _sift_down(heap, i, found)
    used, fitting, left = _golomb_bits(found, COUNT_ORDER), 0, found
    while left > 0:
        row = int(np.int64(rows[0]))
        bits = _entry_bits(row, base, _entry_mask(row, base, state), state, layout)
        if used + bits > 8 * budget:
            upto = keys[0] - 1
            break
        used += bits
        fitting += 1
        left -= 1
        # The heap gives its place up to the row that was taken, so that the rows taken end up behind it.
        key = keys[0]
        keys[0], rows[0] = keys[left], rows[left]
        keys[left], rows[left] = key, np.int32(row)
        _sift_down(heap, 0, left)
    at, word, fill = put_golomb(arena, at, 0, 0, fitting, COUNT_ORDER)
    for i in range(found - 1, found - 1 - fitting, -1):
        at, word, fill = _put_entry(arena, (at, word, fill), int(np.int64(rows[i])), base, state, layout)
    if fill > 0:
        arena[at] = np.uint8(word)
        at += 1
    return at, upto


@kernel(
    f"(i8, i8, i4[::1], i8[:,::1], {STATE_TYPE}, {LAYOUT_TYPE}, {HEAP_TYPE}, i8[:,::1], u1[::1], i8[:,::1], i8[::1])",
    counted=False,
)
def write_sections(
    tick: int, budget: int, due: I32, told: I64, state: State, layout: ZoneTables, heap: Heap, cache: I64,
    arena: U8, out: I64, counters: I64,
) -> int:  # fmt: skip
    """Write a section for every client that is due and lacks something; the bytes of the arena that are used.

    Args:
        tick: Now.
        budget: Most bytes of a section.
        due: Clients whose snapshot is written in this tick.
        told: Of the clients.
        state: As of this tick.
        layout: Of rows and words.
        heap: Scratch, `CANDIDATES_MAX` long.
        cache: Scratch, (CACHED, 4): base, offset, length and upto of the sections of this tick.
        arena: Where sections go; room for one per client.
        out: Offset, length and upto of each client's section, (clients, 3); length 0: none.
        counters: By `COUNTERS`.
    """
    newest, links = state[3], state[4]
    latest = int(np.int64(links[links.shape[0] - 1, 1]))
    last = newest[latest] | END if latest < newest.shape[0] else 0
    now = tick << STAMP_BITS | END
    cached, at, walked = 0, 0, 0
    # Who is served first turns with the tick, so that the limit on rows looked at meets everyone alike.
    count = due.shape[0]
    first = tick * RANK_STEP % max(count, 1)
    for i in range(count):
        c = int(np.int64(due[(first + i) % count]))
        out[c, 1] = 0
        base = told[c, TOLD]
        if base == NOT_TOLD or told[c, BEHIND] != 0:
            continue
        if last <= base:
            told[c, TOLD] = now
            continue
        k = 0
        while k < cached and cache[k, 0] != base:
            k += 1
        if k == cached:
            if walked >= WALKED_MAX or at + budget > arena.shape[0]:
                counters[C_DEFERRED] += 1
                continue
            found = _gather(base, state, heap)
            walked += found if found >= 0 else CANDIDATES_MAX
            if found < 0:
                told[c, BEHIND] = 1
                counters[C_BEHIND] += 1
                continue
            if found == 0:
                told[c, TOLD] = now
                continue
            k = min(k, CACHED - 1)
            behind, upto = _write_one(base, now, budget, found, at, state, layout, heap, arena)
            cache[k, 0], cache[k, 1], cache[k, 2], cache[k, 3] = base, at, behind - at, upto
            cached = k + 1
            at = behind
            counters[C_ENCODED] += 1
            counters[C_CUT] += int(upto != now)
        out[c, 0], out[c, 1], out[c, 2] = cache[k, 1], cache[k, 2], cache[k, 3]
    return at


@kernel(counted=False)
def _lose(client: int, told: I64, counters: I64) -> None:
    """Begin again behind what is known: what is under way does not count any more."""
    told[client, TOLD] = told[client, KNOWN]
    told[client, SERIES] += 1
    counters[C_LOST] += 1


@kernel(f"(i4[::1], i4[::1], i8[:,::1], {CLIENTS_TYPE}, i8[::1])", counted=False)
def note_sections(client: I32, sequence: I32, sections: I64, clients: Clients, counters: I64) -> None:
    """Remember which snapshots carry the sections that were written; those of length 0 were not sent."""
    told, sent, carried = clients
    for i in range(client.shape[0]):
        c, number = int(np.int64(client[i])), int(np.int64(sequence[i])) & 0xFFFF
        if sections[c, 1] == 0 or told[c, TOLD] == NOT_TOLD:
            continue
        place = number % SENT_RING
        if sent[c, place] >= 0 and carried[c, place, 1] == told[c, SERIES]:
            _lose(c, told, counters)  # never settled in 64 snapshots; what is sent now repeats from what is known
            sent[c, place] = -1
            continue
        counters[C_SECTIONS] += 1
        told[c, TOLD] = sections[c, 2]
        sent[c, place] = np.int32(number)
        carried[c, place, 0], carried[c, place, 1] = sections[c, 2], told[c, SERIES]


@kernel(f"(i4[::1], i4[::1], u4[::1], {CLIENTS_TYPE}, i8[::1])", counted=False)
def acknowledge_sections(client: I32, sequence: I32, mask: U32, clients: Clients, counters: I64) -> int:
    """Settle the snapshots up to each acknowledged one, oldest first; how many sections arrived.

    A client takes snapshots in ascending order only, so one that is older than its newest and not in the mask is lost.
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
                _lose(c, told, counters)
    return fresh
