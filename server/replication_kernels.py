"""One snapshot for every client that is due: records encoded once and shared, packets put together in one call.

Payload layout: net/snapshots.py; slots, packets in flight and columns: server/slots.py. A packet in flight remembers
which slots it carried; its acknowledgement moves the baselines of just these to its tick, and frees the slots it told
the client to leave.
"""

import numpy as np

from net.bytes_kernels import copy_bytes
from net.records_kernels import (
    LOW_63,
    RECORD_BITS_MAX,
    append_bits,
    bit_width,
)
from server.hearing_kernels import EVENTS_TYPE, HEARERS_TYPE, Events, Hearers, gather_events
from server.join_kernels import END, ORDER, PLACE
from server.slots import (
    ACKED_TICK,
    ACTIVE,
    BASELINE,
    BITSET_WORDS,
    BORN,
    BUDGET,
    COUNTS,
    DESPAWNED,
    ENTITY,
    FACTOR,
    FREE,
    HIDDEN_SLOT,
    INPUT_TICK,
    INTERVAL,
    LAST_TICK,
    LEAD,
    LEAVING,
    NEXT_SEQUENCE,
    NO_BASELINE,
    OUTSTANDING,
    OWN_HEARD,
    OWN_READ,
    OWNER_BYTES,
    READ,
    SENT,
    SENT_TYPE,
    SLOTS_TYPE,
    STATE,
    TARGET_LEAD,
    TOP,
    WEIGHT,
    WORLD_TYPE,
    WRITTEN,
    ZONE_BYTES,
    ZONE_OFFSET,
    Sent,
    Slots,
    World,
)
from server.strings_kernels import (
    DRAFT_TYPE,
    RECORDS_TYPE,
    Draft,
    Records,
    ask,
    common_age,
    write_string,
)
from server.survey_kernels import (
    ASKED,
    promote_slots,
    stamp_slots,
)
from sim.arrays import I32, I64, U8, U32
from sim.jit import kernel, local_i64, lowest_bit

__all__ = ["BUDGET_MIN", "HAS_ZONE", "acknowledge", "assemble"]

(
    SNAPSHOTS, PAYLOAD, RECORDS, DEFERRED, LEAVES, ACKS, ACKS_UNKNOWN, HELD, RECORD_BYTES_SENT, ZONE_DEFERRED,
) = (
    COUNTS[name]
    for name in (
        "snapshots", "payload_bytes", "records_sent", "records_deferred", "leaves_sent", "acks", "acks_unknown",
        "snapshots_held", "record_bytes", "zone_deferred",
    )
)  # fmt: skip
HAS_OWNER, HAS_LEAVES, HAS_ZONE, HAS_EVENTS = 1, 2, 4, 8  # flags of a snapshot
HEADER = 12
OWNER_MAX = 128
LEAVES_MAX = 1 + 128
RECORD_BYTES = (RECORD_BITS_MAX + 7 + 7) // 8  # with its age
RECORDS_HEAD = 18  # bitmap with its length, and the common age
BUDGET_MIN = 768  # header, owner section, all leaves and the largest record always fit
PAYLOAD_MAX = 1200
NEW_TICKS = 64  # what an entity that was never sent counts as having waited
WAITED_MAX = 1 << 20
# out: payloads, lengths
OUT_TYPE = "Tuple((u1[:,::1], i4[::1]))"
Out = tuple[U8, I32]


@kernel(counted=False, merge=True)
def _promote(c: int, tick: int, slots: Slots, carried: I64) -> None:
    """Take note that the packet of `tick` that carried these slots has arrived."""
    columns, state = slots[0], slots[1][STATE, c]
    born, baseline, entity = columns[BORN, c], columns[BASELINE, c], columns[ENTITY, c]
    promote_slots(baseline, born, tick, carried[0], carried[1])
    for word in range(2):
        left = carried[2 + word]
        while left != 0:
            place = np.uint64(64 * word + lowest_bit(left))
            left &= left - 1
            if state[place] >= LEAVING and born[place] <= tick:
                state[place] = HIDDEN_SLOT if entity[place] >= 0 and state[place] == LEAVING else FREE
                baseline[place] = NO_BASELINE


@kernel(f"(i4[::1], i4[::1], u4[::1], i8[:,::1], {SLOTS_TYPE}, {SENT_TYPE}, i8[::1])", counted=False)
def acknowledge(client: I32, sequence: I32, mask: U32, clients: I64, slots: Slots, sent: Sent, counters: I64) -> int:
    """Take the acknowledgements of many commands; how many packets were acknowledged for the first time."""
    ticks, carried = sent
    ring = ticks.shape[1]
    fresh = 0
    for i in range(client.shape[0]):
        c = int(np.int64(client[i]))
        row = clients[c]
        newest = row[NEXT_SEQUENCE] - 1
        behind = (newest - int(np.int64(sequence[i]))) & 0xFFFF
        if behind >= 0x8000 or row[LAST_TICK] < 0:
            counters[ACKS_UNKNOWN] += 1
            continue
        if behind >= ring:
            continue
        named = (1 | int(np.int64(mask[i])) << 1) << behind & row[OUTSTANDING]
        row[OUTSTANDING] ^= named
        while named != 0:
            place = (newest - lowest_bit(named)) & (ring - 1)
            named &= named - 1
            tick = int(np.int64(ticks[c, place]))
            row[ACKED_TICK] = max(row[ACKED_TICK], tick)
            _promote(c, tick, slots, carried[c, place])
            fresh += 1
    counters[ACKS] += fresh
    return fresh


@kernel(counted=False)
def _choose(tick: int, c: int, count: int, room: int, slots: Slots, spans: I32, priority: I64) -> int:
    """Mark (`ORDER` −1) the records that do not fit, the least urgent first; how many stay.

    Urgency is weight times view factor times ticks since the slot was sent last. In descending order of it, then
    ascending of slot, each that still fits is taken, so the most urgent is always taken: one that is passed over gains
    on the others every tick until it is the most urgent.
    """
    columns, factor = slots[0], slots[1][FACTOR]
    for i in range(count):  # insertion sort: at most 128, and only where the budget binds
        place = spans[PLACE, i]
        last = int(np.int64(columns[SENT, c, place]))
        waited = min(tick - last, WAITED_MAX) if last >= 0 else NEW_TICKS
        priority[i] = int(np.int64(columns[WEIGHT, c, place])) * max(int(np.int64(factor[c, place])), 1) * waited
        j = i
        while j > 0 and priority[spans[ORDER, j - 1]] < priority[i]:
            spans[ORDER, j] = spans[ORDER, j - 1]
            j -= 1
        spans[ORDER, j] = i
    used, chosen = 0, 0
    for k in range(count):
        i = int(np.int64(spans[ORDER, k]))
        size = spans[END, i] - (spans[END, i - 1] if i > 0 else 0)
        priority[i] = 0
        if used + size <= room:
            used += size
            chosen += 1
            priority[i] = 1
    return chosen


@kernel(counted=False)
def _compact(count: int, spans: I32, kept: I64, words: I64, packed: I64, carried: I64) -> int:
    """Move the records kept to the front of the string, and forget the others: how many bits are left."""
    to, word, fill, start = 0, 0, 0, 0
    for i in range(count):
        end = int(np.int64(spans[END, i]))
        at = start
        while kept[i] != 0 and at < end:
            size, shift = min(64, end - at), at & 63
            value = words[at >> 6] if shift == 0 else (words[at >> 6] >> 1 & LOW_63) >> (shift - 1)
            if shift + size > 64:
                value |= words[(at >> 6) + 1] << (64 - shift)
            if size < 64:
                value &= (1 << size) - 1
            to, word, fill = append_bits(packed, to, word, fill, value, size)
            at += size
        if kept[i] == 0:
            place = int(np.int64(spans[PLACE, i]))
            carried[place >> 6] &= ~(1 << (place & 63))
        start = end
    packed[to] = word
    for i in range(to + 1):
        words[i] = packed[i]
    return 64 * to + fill


@kernel(counted=False, merge=True)
def _put_head(tick: int, client: I64, owner: U8, out: U8) -> int:
    """Write header and owner section; the byte after them."""
    applied = tick - client[INPUT_TICK]
    out[0] = 1
    out[1] = 0
    out[2] = client[NEXT_SEQUENCE] & 255
    out[3] = client[NEXT_SEQUENCE] >> 8
    for i in range(4):
        out[4 + i] = tick >> (8 * i) & 255
    out[8] = applied if 0 <= applied < 255 else 255
    out[9] = client[LEAD] & 255
    out[10] = client[LEAD] >> 8 & 255
    out[11] = client[TARGET_LEAD] & 255
    length = min(max(client[OWNER_BYTES], 0), OWNER_MAX)
    if length == 0:
        return HEADER
    out[1] = HAS_OWNER
    out[HEADER] = length
    copy_bytes(out, HEADER + 1, owner, 0, length)
    return int(HEADER + 1 + length)


@kernel(counted=False)
def _put_leaves(c: int, client: I64, slots: Slots, carried: I64, out: U8, at: int) -> int:
    """Write the list of slots to leave, and remember it as carried; the byte after it."""
    count = 0
    for place in range(client[TOP]):
        state = slots[1][STATE, c, place]
        if state >= LEAVING:
            out[at + 1 + count] = place | (128 if state == DESPAWNED else 0)
            carried[2 + (place >> 6)] |= 1 << (place & 63)
            count += 1
    out[1] |= HAS_LEAVES
    out[at] = count
    return at + 1 + count


@kernel(counted=False, merge=True)
def _put_zone(client: I64, zone: U8, room: int, out: U8, at: int, counters: I64) -> int:
    """Write the section of zone-wide state, if it fits; the byte after it."""
    length = client[ZONE_BYTES]
    if length <= 0:
        return at
    if length + 2 > room:
        counters[ZONE_DEFERRED] += 1
        return at
    out[1] |= HAS_ZONE
    out[at] = length & 255
    out[at + 1] = length >> 8
    copy_bytes(out, at + 2, zone, client[ZONE_OFFSET], length)
    return int(at + 2 + length)


@kernel(counted=False, merge=True)
def _put_records(common: int, bits: int, draft: Draft, carried: I64, out: U8, at: int) -> int:
    """Write which slots have a record, the common age and the string. The byte after it."""
    low, high = bit_width(carried[0]), bit_width(carried[1])
    size = (64 + high if high > 0 else low) + 7 >> 3
    out[at] = size
    for j in range(size):
        out[at + 1 + j] = carried[j >> 3] >> (8 * (j & 7)) & 255
    at += 1 + size
    if size == 0:
        return at
    out[at] = common
    copy_bytes(out, at + 1, draft[2], 0, (bits + 7) >> 3)
    return int(at + 1 + ((bits + 7) >> 3))


@kernel(counted=False, merge=True)
def _open_row(c: int, tick: int, client: I64, sent: Sent) -> int:
    """Make room in the ring of packets sent; the row. Its former packet, if not acknowledged by now, is given up."""
    ticks, carried = sent
    row = client[NEXT_SEQUENCE] & (ticks.shape[1] - 1)
    client[OUTSTANDING] = client[OUTSTANDING] << 1 | 1
    ticks[c, row] = tick
    for word in range(BITSET_WORDS):
        carried[c, row, word] = 0
    return int(row)


@kernel(counted=False, merge=True)
def _assemble_one(
    whose: tuple[int, int],
    tick: int,
    event_bytes: int,
    hearers: Hearers,
    owner: tuple[U8, U8],
    interest: tuple[Slots, Sent],
    world: World,
    records: tuple[Records, U8],
    events: Events,
    draft: Draft,
    out: U8,
    counters: I64,
) -> int:
    """Write the snapshot of a client; its length.

    whose: Client, and by how many rows the next one follows. owner: Section of each client, and the zone's sections.
    records: With the team of each client.
    """
    c, ahead = whose
    client, (slots, sent) = hearers[0][c], interest
    sequence = int(np.int64(client[NEXT_SEQUENCE]))
    carried = sent[1][c, _open_row(c, tick, client, sent)]
    team = int(np.int64(records[1][c]))
    common, asked = common_age(tick, client[ACKED_TICK]), local_i64(ASKED)
    ask(tick, c, client, world, records[0], team, asked)
    count, bits, leaves = write_string(asked, common, ahead, slots, world, records[0], draft, carried, counters)
    at = _put_head(tick, client, owner[0][c], out)
    if leaves > 0:
        at = _put_leaves(c, client, slots, carried, out, at)
        counters[LEAVES] += leaves
    limit = min(max(client[BUDGET], BUDGET_MIN), PAYLOAD_MAX)
    at = _put_zone(client, owner[1], limit - at - RECORDS_HEAD - RECORD_BYTES, out, at, counters)
    room = min(event_bytes, limit - at - 1 - RECORDS_HEAD - RECORD_BYTES)
    if client[READ] != client[WRITTEN] or client[OWN_READ] != client[OWN_HEARD]:
        heard, after = gather_events(tick, c, room, hearers, slots, world[0], events, out, at + 1, counters)
        if heard > 0:
            out[1] |= HAS_EVENTS
            out[at] = heard
            at = after
    room = 8 * (limit - at - RECORDS_HEAD)
    if bits > room:
        chosen = _choose(tick, c, count, room, slots, draft[0], draft[3])
        bits = _compact(count, draft[0], draft[3], draft[1], draft[4], carried)
        counters[DEFERRED] += count - chosen
        count = chosen
    before = at
    at = _put_records(common, bits, draft, carried, out, at)
    stamp_slots(slots[0][SENT, c], tick, carried[0], carried[1])
    counters[RECORD_BYTES_SENT] += at - before
    client[NEXT_SEQUENCE] = (sequence + 1) & 0xFFFF
    client[LAST_TICK] = tick
    counters[RECORDS] += count
    return at


@kernel(
    f"(i8, i8, {HEARERS_TYPE}, Tuple((u1[:,::1], u1[::1])), Tuple(({SLOTS_TYPE}, {SENT_TYPE})), {WORLD_TYPE},"
    f" Tuple(({RECORDS_TYPE}, u1[::1])), {EVENTS_TYPE}, {DRAFT_TYPE}, {OUT_TYPE}, i8[::1])",
    counted=False,
)
def assemble(
    tick: int,
    event_bytes: int,
    hearers: Hearers,
    owner: tuple[U8, U8],
    interest: tuple[Slots, Sent],
    world: World,
    records: tuple[Records, U8],
    events: Events,
    draft: Draft,
    out: Out,
    counters: I64,
) -> int:
    """Write the snapshot of each active client with (client + tick) mod interval = 0; how many. Length 0: not due.

    A client whose budget is 0 or less goes without this one. event_bytes: most bytes of events per snapshot.
    """
    clients = hearers[0]
    payload, length = out
    records[0][3][0] = 0
    written, before = 0, -1
    for c in range(clients.shape[0] + 1):  # one behind, so that the next one's rows can be fetched
        if c < clients.shape[0]:
            length[c] = 0
            if clients[c, ACTIVE] == 0 or (c + tick) % max(clients[c, INTERVAL], 1) != 0:
                continue
            if clients[c, BUDGET] <= 0:
                counters[HELD] += 1
                continue
        if before >= 0:
            size = _assemble_one(
                (before, c - before), tick, event_bytes, hearers, owner, interest, world, records, events, draft,
                payload[before], counters,
            )  # fmt: skip
            length[before] = size
            counters[PAYLOAD] += size
            written += 1
        before = c
    counters[SNAPSHOTS] += written
    return written
