"""One snapshot for every client that is due: records encoded once and shared, packets put together in one call.

Payload layout: net/snapshots.py; slots, packets in flight and columns: server/slots.py. A packet in flight remembers
which slots it carried; its acknowledgement moves the baselines of just these to its tick, and frees the slots it told
the client to leave.

A record depends on entity, level, baseline tick and tick, so it is encoded when the first client needs it. Cache entry
by (level, baseline mod ring, entity): tick, place in the arena and length, and beside it the first 64 bits of the
record, which mostly is all of it: then a record costs one cache line and one shift.

A slot is passed over while nothing needs to be said (server/history_kernels.py): because the client's own reckoning
from what it acknowledged is good enough; or from what was sent last, as long as that may still be under way.
"""

import numpy as np

from net.bytes_kernels import copy_bytes
from net.records_kernels import (
    CODEC_TYPE,
    LOW_63,
    RECORD_BITS_MAX,
    RECORD_WORDS_MAX,
    Codec,
    append_bits,
    encode_delta,
    encode_full,
)
from server.hearing_kernels import EVENTS_TYPE, HEARERS_TYPE, Events, Hearers, gather_events
from server.slots import (
    ACKED_TICK,
    ACTIVE,
    BASELINE,
    BITSET_WORDS,
    BORN,
    BUDGET,
    CHANGED,
    COUNTS,
    DESPAWNED,
    ENTITY,
    EXACT,
    FACTOR,
    FREE,
    HIDDEN_SLOT,
    INPUT_TICK,
    INTERVAL,
    LAST_TICK,
    LEAD,
    LEAVING,
    LEVEL,
    LIVE,
    NEXT_SEQUENCE,
    NO_BASELINE,
    OUTSTANDING,
    OWN_HEARD,
    OWN_READ,
    OWN_ROW,
    OWNER_BYTES,
    OWNER_MARK,
    READ,
    SENT,
    SENT_TYPE,
    SLOTS_TYPE,
    SPAWNED,
    STATE,
    STEADY,
    TARGET_LEAD,
    TEAM_MARK,
    TOLD,
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
from sim.arrays import I32, I64, U8, U32
from sim.jit import kernel, lowest_bit

__all__ = ["BUDGET_MIN", "DRAFT_COLUMNS", "HAS_ZONE", "SHARED_LEVELS", "acknowledge", "assemble"]

(
    SNAPSHOTS, PAYLOAD, RECORDS, FULL, ENCODED, DEFERRED, AT_REST, AS_RECKONED, UNDER_WAY, ARENA_FULL, LEAVES, ACKS,
    ACKS_UNKNOWN, HELD, RECORD_BYTES_SENT, ZONE_DEFERRED,
) = (
    COUNTS[name]
    for name in (
        "snapshots", "payload_bytes", "records_sent", "records_full", "records_encoded", "records_deferred",
        "records_at_rest", "records_steady", "records_in_flight", "arena_full", "leaves_sent", "acks", "acks_unknown",
        "snapshots_held", "record_bytes", "zone_deferred",
    )
)  # fmt: skip
PUBLIC_LEVEL, TEAM_LEVEL, OWNER_LEVEL, SELF_LEVEL = 0, 1, 2, 3
SHARED_LEVELS = 2  # of these levels records are cached: the others have one reader
HAS_OWNER, HAS_LEAVES, HAS_ZONE, HAS_EVENTS = 1, 2, 4, 8  # flags of a snapshot
HEADER = 12
OWNER_MAX = 128
LEAVES_MAX = 1 + 128
RECORD_BYTES = (RECORD_BITS_MAX + 7 + 7) // 8  # with its age
RECORDS_HEAD = 18  # bitmap with its length, and the common age
BUDGET_MIN = 768  # header, owner section, all leaves and the largest record always fit
PAYLOAD_MAX = 1200
AGE_BITS = 6
NEW_TICKS = 64  # what an entity that was never sent counts as having waited
WAITED_MAX = 1 << 20
IN_FLIGHT_TICKS = 2  # beyond the age of the newest acknowledgement, before what was sent counts as lost
ENTRY_BITS, ENTRY_OFFSET = 11, 22  # of a cache entry, from the lowest bit; then 30 bits of the tick
BITS_MASK, PLACE_MASK, STAMP_MASK = (1 << 11) - 1, (1 << 33) - 1, (1 << 30) - 1

# records: codec; arena of words; cache by (level, age, entity), an entry and the first word each; state: words used,
# age at which an unchanged baseline is renewed, whether records are shared
RECORDS_TYPE = f"Tuple(({CODEC_TYPE}, i8[::1], i8[::1], i8[::1]))"
Records = tuple[Codec, I64, I64, I64]
# draft of one packet: per record its slot and where it ends in the string, and an order; the words of the string, and
# the same memory as bytes; urgency of each, and then whether it is kept; words of what is kept
DRAFT_TYPE = "Tuple((i4[:,::1], i8[::1], u1[::1], i8[::1], i8[::1]))"
Draft = tuple[I32, I64, U8, I64, I64]
PLACE, END, ORDER = 0, 1, 2
DRAFT_COLUMNS = 3
# out: payloads, lengths
OUT_TYPE = "Tuple((u1[:,::1], i4[::1]))"
Out = tuple[U8, I32]


@kernel(counted=False, merge=True)
def _promote(c: int, tick: int, slots: Slots, carried: I64) -> None:
    """Take note that the packet of `tick` that carried these slots has arrived."""
    columns, state = slots[0], slots[1][STATE, c]
    born, baseline, entity = columns[BORN, c], columns[BASELINE, c], columns[ENTITY, c]
    for word in range(2):
        updated, left = carried[word], carried[2 + word]
        while updated != 0:
            place = np.uint64(64 * word + lowest_bit(updated))
            updated &= updated - 1
            if born[place] <= tick:
                baseline[place] = max(baseline[place], np.int32(tick))
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
def _encode(age: int, level: int, tick: int, entity: int, world: World, records: Records) -> int:
    """Encode a record at the end of the arena; its bits. The arena has room."""
    codec, arena, _, state = records
    rows = world[2][entity]
    current, at = rows[tick % rows.shape[0]], state[0]
    if age == 0:
        bits = encode_full(current, world[0][entity], level, codec, arena, at)
    else:
        bits = encode_delta(current, rows[(tick - age) % rows.shape[0]], age, level, codec, arena, at)
    state[0] = at + (bits + 63) // 64
    return bits


@kernel(counted=False)
def _enter(tick: int, c: int, place: int, state: int, slots: Slots) -> None:
    """Let a slot come into another state at `tick`."""
    columns, flags = slots
    if state == FREE or state == DESPAWNED:
        columns[ENTITY, c, place] = -1
    columns[BASELINE, c, place], columns[BORN, c, place], columns[SENT, c, place] = NO_BASELINE, tick, NO_BASELINE
    flags[STATE, c, place] = state


@kernel(counted=False)
def _turn(tick: int, c: int, place: int, own_row: int, slots: Slots, marks: I32) -> int:
    """Bring a slot's state up to date with its entity and with what the client may be told; the state."""
    columns, flags = slots
    state, row = int(np.int64(flags[STATE, c, place])), int(np.int64(columns[ENTITY, c, place]))
    now = state
    if row >= 0 and marks[row, SPAWNED] > columns[BORN, c, place]:
        now = FREE if state == HIDDEN_SLOT else DESPAWNED
    elif flags[TOLD, c, place] == 0 and row != own_row:
        now = LEAVING if state == LIVE else state
    elif row >= 0 and (state == HIDDEN_SLOT or state == LEAVING):
        # Whether a client that was to leave has done so cannot be known: told in full, it is right in both cases.
        now = LIVE
    if now != state:
        _enter(tick, c, place, now, slots)
    return now


@kernel(counted=False)
def _make_record(
    age: int, level: int, tick: int, entity: int, world: World, records: Records, at: int, counters: I64
) -> int:
    """Encode a record, and note it in the cache at `at`; its bits and place as a cache entry has them, −1: no room."""
    arena, cache, state = records[1], records[2], records[3]
    offset = state[0]
    if offset + RECORD_WORDS_MAX > arena.shape[0]:
        counters[ARENA_FULL] += 1
        return -1
    bits = _encode(age, level, tick, entity, world, records)
    counters[ENCODED] += 1
    found = (((tick & STAMP_MASK) << ENTRY_OFFSET) | offset) << ENTRY_BITS | bits
    if level < SHARED_LEVELS and state[2] != 0:
        cache[at] = found
        cache[at + 1] = arena[offset]
    return int(found & PLACE_MASK)


@kernel(counted=False, merge=True)
def _append_long(
    found: int, prefix: int, width: int, arena: I64, words: I64, to: int, word: int, fill: int
) -> tuple[int, int, int]:
    """Append a record that does not fit into one word together with its age; the writer's new state."""
    to, word, fill = append_bits(words, to, word, fill, prefix, width)
    source, bits = found >> ENTRY_BITS, found & BITS_MASK
    while bits > 0:
        to, word, fill = append_bits(words, to, word, fill, arena[source], min(bits, 64))
        source += 1
        bits -= 64
    return to, word, fill


@kernel(counted=False, merge=True)
def _level(c: int, own_row: int, team: int, row: int, owner: int, its_team: int) -> int:
    """As whom a client is told of an entity."""
    if row == own_row:
        return SELF_LEVEL
    if owner == c:
        return OWNER_LEVEL
    return TEAM_LEVEL if team != 0 and its_team == team else PUBLIC_LEVEL


@kernel(counted=False, merge=True)
def _write_string(
    tick: int, c: int, client: I64, slots: Slots, world: World, records: Records, team: int, draft: Draft, counters: I64
) -> tuple[int, int, int]:
    """Write every record this client needs now as one string of bits, as if there were room for all.

    Indices that come from memory are unsigned: of a signed one each access asks whether it counts from the end.

    Returns:
        How many records, the bits of the string, and how many slots the client is to leave.
    """
    marks, ring, rows = world[1], world[2].shape[1], world[0].shape[0]
    arena, cache, state = records[1], records[2], records[3]
    entity, baselines, born, sent = slots[0][ENTITY, c], slots[0][BASELINE, c], slots[0][BORN, c], slots[0][SENT, c]
    states, levels, told = slots[1][STATE, c], slots[1][LEVEL, c], slots[1][TOLD, c]
    spans, words = draft[0], draft[1]
    oldest, renewal, stamp = max(world[3][1], tick - ring + 1), state[1], tick & STAMP_MASK
    acked, own_row = client[ACKED_TICK], client[OWN_ROW]
    flight = min(tick - acked + IN_FLIGHT_TICKS, renewal) if acked > 0 else 0
    common = _common_age(tick, acked)
    count, leaves, full, reckoned, resting, flying = 0, 0, 0, 0, 0, 0
    to, word, fill = 0, 0, 0
    for place in range(client[TOP]):
        was = states[place]
        if was == FREE:
            continue
        number = int(np.int64(entity[place]))
        row = np.uint64(max(number, 0))
        if was != LIVE or told[place] == 0 or marks[row, SPAWNED] > born[place]:
            now = _turn(tick, c, place, own_row, slots, marks)
            if now != LIVE:
                leaves += 1 if now >= LEAVING else 0
                continue
        level = _level(c, own_row, team, number, marks[row, OWNER_MARK], marks[row, TEAM_MARK])
        if level != levels[place]:
            levels[place] = level
            _enter(tick, c, place, LIVE, slots)
        since = marks[row, np.uint64(EXACT + min(level, OWNER_LEVEL))]
        if level != SELF_LEVEL:
            since = max(since, marks[row, STEADY])
        baseline, last = baselines[place], sent[place]
        if baseline >= since and tick - baseline < renewal:
            resting += 1 if marks[row, CHANGED] <= baseline else 0
            reckoned += 1
            continue
        if last > baseline and last >= since and tick - last <= flight:
            flying += 1
            continue
        age = tick - baseline if baseline >= oldest else 0
        entry = 2 * ((min(level, SHARED_LEVELS - 1) * ring + age) * rows + number)
        at = np.uint64(entry)
        found = cache[at]
        if found >> (ENTRY_BITS + ENTRY_OFFSET) != stamp or level >= SHARED_LEVELS or state[2] == 0:
            found = _make_record(age, level, tick, number, world, records, entry, counters)
            if found < 0:
                continue
        prefix, width = (1, 1) if age == common else (age << 1, 1 + AGE_BITS)
        if (found & BITS_MASK) + width <= 64:
            first = cache[at + np.uint64(1)] if level < SHARED_LEVELS and state[2] != 0 else arena[found >> ENTRY_BITS]
            to, word, fill = append_bits(words, to, word, fill, prefix | first << width, (found & BITS_MASK) + width)
        else:
            to, word, fill = _append_long(found & PLACE_MASK, prefix, width, arena, words, to, word, fill)
        full += 1 if age == 0 else 0
        spans[PLACE, count] = place
        spans[END, count] = 64 * to + fill
        count += 1
    words[to] = word
    counters[FULL] += full
    counters[AT_REST] += resting
    counters[AS_RECKONED] += reckoned - resting
    counters[UNDER_WAY] += flying
    return count, 64 * to + fill, leaves


@kernel(counted=False, merge=True)
def _common_age(tick: int, acked: int) -> int:
    """The age that most records have: that of the newest snapshot acknowledged; 0 if there is none."""
    return tick - acked if acked > 0 and tick - acked < 1 << AGE_BITS else 0


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
def _compact(count: int, spans: I32, kept: I64, words: I64, packed: I64) -> tuple[int, int]:
    """Move the records kept to the front of the string, and of the spans: how many, and their bits."""
    to, word, fill, start, chosen = 0, 0, 0, 0, 0
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
        if kept[i] != 0:
            spans[PLACE, chosen], spans[END, chosen] = spans[PLACE, i], 64 * to + fill
            chosen += 1
        start = end
    packed[to] = word
    for i in range(to + 1):
        words[i] = packed[i]
    return chosen, 64 * to + fill


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
def _put_records(
    tick: int, common: int, count: int, bits: int, draft: Draft, carried: I64, sent: I32, out: U8, at: int
) -> int:
    """Write which slots have a record, the common age and the string; note them as carried. The byte after it."""
    spans, octets = draft[0], draft[2]
    low, high = 0, 0
    for i in range(count):
        place = int(np.int64(spans[PLACE, i]))
        sent[np.uint64(place)] = tick
        low |= 1 << place if place < 64 else 0
        high |= 1 << (place - 64) if place >= 64 else 0
    carried[0], carried[1] = low, high
    size = (spans[PLACE, count - 1] + 8) >> 3 if count > 0 else 0
    out[at] = size
    for j in range(size):
        out[at + 1 + j] = carried[j >> 3] >> (8 * (j & 7)) & 255
    at += 1 + size
    if count == 0:
        return at
    out[at] = common
    copy_bytes(out, at + 1, octets, 0, (bits + 7) >> 3)
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
    c: int,
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
    """Write the snapshot of client `c`; its length.

    owner: section of each client, and the zone's sections. records: with the team of each client.
    """
    client, (slots, sent) = hearers[0][c], interest
    sequence = int(np.int64(client[NEXT_SEQUENCE]))
    carried = sent[1][c, _open_row(c, tick, client, sent)]
    team = int(np.int64(records[1][c]))
    count, bits, leaves = _write_string(tick, c, client, slots, world, records[0], team, draft, counters)
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
        counters[DEFERRED] += count - _choose(tick, c, count, room, slots, draft[0], draft[3])
        count, bits = _compact(count, draft[0], draft[3], draft[1], draft[4])
    before = at
    common = _common_age(tick, client[ACKED_TICK])
    at = _put_records(tick, common, count, bits, draft, carried, slots[0][SENT, c], out, at)
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
    written = 0
    for c in range(clients.shape[0]):
        length[c] = 0
        if clients[c, ACTIVE] == 0 or (c + tick) % max(clients[c, INTERVAL], 1) != 0:
            continue
        if clients[c, BUDGET] <= 0:
            counters[HELD] += 1
            continue
        length[c] = _assemble_one(
            c, tick, event_bytes, hearers, owner, interest, world, records, events, draft, payload[c], counters
        )
        counters[PAYLOAD] += length[c]
        written += 1
    counters[SNAPSHOTS] += written
    return written
