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

from net.records_kernels import (
    CODEC_TYPE,
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
    OWN_HEARD,
    OWN_READ,
    OWN_ROW,
    OWNER_BYTES,
    READ,
    SENT,
    SENT_TYPE,
    SEQUENCE,
    SLOTS_TYPE,
    SPAWNED,
    STATE,
    STEADY,
    TARGET_LEAD,
    TICK,
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
RECORDS_TYPE = f"Tuple(({CODEC_TYPE}, i8[::1], i8[:,::1], i8[::1]))"
Records = tuple[Codec, I64, I64, I64]
# ties: of each entity the client that owns it and its team, of each client its team
TIES_TYPE = "Tuple((i4[::1], u1[::1], u1[::1]))"
Ties = tuple[I32, U8, U8]
# draft of one packet: columns below; the words of its records, and the same memory as bytes
DRAFT_TYPE = "Tuple((i8[:,::1], i8[::1], u1[::1]))"
Draft = tuple[I64, I64, U8]
PLACE, AGE, BITS, FIRST, OFFSET, ORDER, PRIORITY = 0, 1, 2, 3, 4, 5, 6
DRAFT_COLUMNS = 7
# out: payloads, lengths
OUT_TYPE = "Tuple((u1[:,::1], i4[::1]))"
Out = tuple[U8, I32]


@kernel(counted=False)
def _promote(c: int, tick: int, slots: Slots, carried: I64) -> None:
    """Take note that the packet of `tick` that carried these slots has arrived."""
    columns = slots[0]
    born, baseline, entity, state = columns[BORN, c], columns[BASELINE, c], columns[ENTITY, c], slots[1][STATE, c]
    for word in range(2):
        updated, left = carried[word], carried[2 + word]
        while updated != 0:
            place = 64 * word + lowest_bit(updated)
            updated &= updated - 1
            if born[place] <= tick and baseline[place] < tick:
                baseline[place] = tick
        while left != 0:
            place = 64 * word + lowest_bit(left)
            left &= left - 1
            if state[place] >= LEAVING and born[place] <= tick:
                state[place] = HIDDEN_SLOT if entity[place] >= 0 and state[place] == LEAVING else FREE
                baseline[place] = NO_BASELINE


@kernel(counted=False)
def _acknowledge_one(sequence: int, c: int, client: I64, slots: Slots, sent: Sent) -> int:
    """Promote one acknowledged packet: 1, or 0 if it is known already or too old, or −1 if it was never sent."""
    packet, carried = sent[0][c], sent[1][c]
    behind = (client[NEXT_SEQUENCE] - 1 - sequence) & 0xFFFF
    if behind >= 0x8000 or client[LAST_TICK] < 0:
        return -1
    row = sequence % packet.shape[1]
    if behind >= packet.shape[1] or packet[SEQUENCE, row] != sequence:
        return 0
    packet[SEQUENCE, row] = -1
    tick = int(np.int64(packet[TICK, row]))
    client[ACKED_TICK] = max(client[ACKED_TICK], tick)
    _promote(c, tick, slots, carried[row])
    return 1


@kernel(f"(i4[::1], i4[::1], u4[::1], i8[:,::1], {SLOTS_TYPE}, {SENT_TYPE}, i8[::1])", counted=False)
def acknowledge(client: I32, sequence: I32, mask: U32, clients: I64, slots: Slots, sent: Sent, counters: I64) -> int:
    """Take the acknowledgements of many commands; how many packets were acknowledged for the first time."""
    fresh = 0
    for i in range(client.shape[0]):
        c, older = int(np.int64(client[i])), int(np.int64(sequence[i]))
        row = clients[c]
        bits = 1 | int(np.int64(mask[i])) << 1  # bit 0 is the newest itself
        while bits != 0:
            if bits & 1:
                result = _acknowledge_one(older, c, row, slots, sent)
                if result < 0:
                    counters[ACKS_UNKNOWN] += 1
                    break
                fresh += result
            older = (older - 1) & 0xFFFF
            bits >>= 1
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
def _make_record(
    age: int, level: int, tick: int, entity: int, world: World, records: Records, entry: I64, counters: I64
) -> int:
    """Encode a record, and note it in its cache entry; its bits and place as an entry has them, −1: no room."""
    arena, state = records[1], records[3]
    offset = state[0]
    if offset + RECORD_WORDS_MAX > arena.shape[0]:
        counters[ARENA_FULL] += 1
        return -1
    bits = _encode(age, level, tick, entity, world, records)
    counters[ENCODED] += 1
    found = (((tick & STAMP_MASK) << ENTRY_OFFSET) | offset) << ENTRY_BITS | bits
    if level < SHARED_LEVELS and state[2] != 0:
        entry[0] = found
        entry[1] = arena[offset]
    return int(found & PLACE_MASK)


@kernel(counted=False, merge=True)
def _follow(state: int, told: int, row: int, spawned: int, born: int) -> int:
    """What a slot's state becomes with what happened to its entity and what the client may be told."""
    if row >= 0 and spawned > born:
        return FREE if state == HIDDEN_SLOT else DESPAWNED
    if told == 0:
        return LEAVING if state == LIVE else state
    # Whether a client that was to leave has done so cannot be known: it is told in full, which is right in both cases.
    return LIVE if row >= 0 and (state == HIDDEN_SLOT or state == LEAVING) else state


@kernel(counted=False)
def _enter(tick: int, c: int, place: int, state: int, slots: Slots) -> None:
    """Let a slot come into another state at `tick`."""
    columns, flags = slots
    if state == FREE or state == DESPAWNED:
        columns[ENTITY, c, place] = -1
    columns[BASELINE, c, place], columns[BORN, c, place], columns[SENT, c, place] = NO_BASELINE, tick, NO_BASELINE
    flags[STATE, c, place] = state


@kernel(counted=False, merge=True)
def _level(c: int, row: int, own_row: int, team: int, owner: I32, teams: U8) -> int:
    """As whom a client is told of an entity."""
    if own_row == row:
        return SELF_LEVEL
    if owner[row] == c:
        return OWNER_LEVEL
    if team != 0 and teams[row] == team:
        return TEAM_LEVEL
    return PUBLIC_LEVEL


@kernel(counted=False, merge=True)
def _quiet(tick: int, baseline: int, last: int, flight: int, renewal: int, since: int) -> int:
    """Why nothing needs to be said to who acknowledged `baseline` and was told last at `last`: a counter, or 0.

    since: Tick from which on every state is good enough.
    """
    if baseline >= since and tick - baseline < renewal:
        return AS_RECKONED
    if last > baseline and last >= since and tick - last <= flight:
        return UNDER_WAY
    return 0


@kernel(counted=False, merge=True)
def _draft(
    tick: int, c: int, client: I64, slots: Slots, world: World, records: Records, ties: Ties, draft: I64, counters: I64
) -> tuple[int, int, int]:
    """List the records this client needs now: how many, their bits with ages, and how many slots it is to leave."""
    known, marks, ring, broken = world[0], world[1], world[2].shape[1], world[3][1]
    flags, cache, state = slots[1], records[2], records[3]
    entity, baselines, born, sent = slots[0][ENTITY, c], slots[0][BASELINE, c], slots[0][BORN, c], slots[0][SENT, c]
    states, levels, told = flags[STATE, c], flags[LEVEL, c], flags[TOLD, c]
    owner, teams, team = ties[0], ties[1], int(np.int64(ties[2][c]))
    oldest = max(broken, tick - ring + 1)
    renewal, stamp = state[1], tick & STAMP_MASK
    flight = min(tick - client[ACKED_TICK] + IN_FLIGHT_TICKS, renewal) if client[ACKED_TICK] > 0 else 0
    own_row = client[OWN_ROW]
    count, total, leaves = 0, 0, 0
    for place in range(client[TOP]):
        was = int(np.int64(states[place]))
        if was == FREE:
            continue
        row = int(np.int64(entity[place]))
        may = 1 if row == own_row else int(np.int64(told[place]))
        now = _follow(was, may, row, marks[max(row, 0), SPAWNED], born[place])
        if now != was:
            _enter(tick, c, place, now, slots)
        if now != LIVE:
            leaves += 1 if now >= LEAVING else 0
            continue
        level = _level(c, row, own_row, team, owner, teams)
        if level != levels[place]:
            levels[place] = level
            _enter(tick, c, place, LIVE, slots)
        baseline = baselines[place] if baselines[place] >= oldest else NO_BASELINE
        last = sent[place]
        since = marks[row, EXACT + min(level, OWNER_LEVEL)]
        if level != SELF_LEVEL:
            since = max(since, marks[row, STEADY])
        why = _quiet(tick, baseline, last, flight, renewal, since)
        if why != 0:
            counters[AT_REST if why == AS_RECKONED and marks[row, CHANGED] <= baseline else why] += 1
            continue
        age = tick - baseline if baseline != NO_BASELINE else 0
        at = (min(level, SHARED_LEVELS - 1) * ring + age) * known.shape[0] + row
        found = cache[at, 0]
        if found >> (ENTRY_BITS + ENTRY_OFFSET) != stamp or level >= SHARED_LEVELS or state[2] == 0:
            found = _make_record(age, level, tick, row, world, records, cache[at], counters)
            if found < 0:
                continue
        found &= PLACE_MASK
        draft[PLACE, count], draft[AGE, count], draft[BITS, count] = place, age, found & BITS_MASK
        draft[OFFSET, count] = found >> ENTRY_BITS
        draft[FIRST, count] = records[1][found >> ENTRY_BITS]
        total += (found & BITS_MASK) + 1 + AGE_BITS
        counters[FULL] += 1 if age == 0 else 0
        count += 1
    return count, total, leaves


@kernel(counted=False)
def _choose(tick: int, c: int, count: int, room: int, slots: Slots, draft: I64) -> int:
    """Drop (0 bits) the records that do not fit, the least urgent first; how many stay.

    Urgency is weight times view factor times ticks since the slot was sent last. In descending order of it, then
    ascending of slot, each that still fits is taken, so the most urgent is always taken: one that is passed over gains
    on the others every tick until it is the most urgent.
    """
    columns, factor = slots[0], slots[1][FACTOR]
    for i in range(count):  # insertion sort: at most 128, and only where the budget binds
        place = draft[PLACE, i]
        last = int(np.int64(columns[SENT, c, place]))
        waited = min(tick - last, WAITED_MAX) if last >= 0 else NEW_TICKS
        priority = int(np.int64(columns[WEIGHT, c, place])) * max(int(np.int64(factor[c, place])), 1) * waited
        draft[PRIORITY, i] = priority
        j = i
        while j > 0 and draft[PRIORITY, draft[ORDER, j - 1]] < priority:
            draft[ORDER, j] = draft[ORDER, j - 1]
            j -= 1
        draft[ORDER, j] = i
    used, chosen = 0, 0
    for k in range(count):
        i = draft[ORDER, k]
        size = draft[BITS, i] + 1 + AGE_BITS
        if used + size <= room:
            used += size
            chosen += 1
        else:
            draft[BITS, i] = 0
    return chosen


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
    for i in range(length):
        out[HEADER + 1 + i] = owner[i]
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
    for i in range(length):
        out[at + 2 + i] = zone[client[ZONE_OFFSET] + i]
    return int(at + 2 + length)


@kernel(counted=False, merge=True)
def _put_bitmap(count: int, draft: I64, carried: I64, out: U8, at: int) -> int:
    """Write which slots have a record, and remember them as carried; the byte after it."""
    last = -1
    for i in range(count):
        if draft[BITS, i] > 0:
            place = draft[PLACE, i]
            carried[place >> 6] |= 1 << (place & 63)
            last = place
    size = (last + 8) >> 3
    out[at] = size
    for j in range(size):
        out[at + 1 + j] = carried[j >> 3] >> (8 * (j & 7)) & 255
    return int(at + 1 + size)


@kernel(counted=False, merge=True)
def _put_records(tick: int, common: int, count: int, arena: I64, draft: Draft, sent: I32, out: U8, at: int) -> int:
    """Write the common age and the chosen records as one string of bits; the byte after it."""
    table, words, octets = draft
    out[at] = common
    to, word, fill = 0, 0, 0
    for i in range(count):
        bits = table[BITS, i]
        if bits == 0:
            continue
        sent[table[PLACE, i]] = tick
        prefix, width = (1, 1) if table[AGE, i] == common else (table[AGE, i] << 1, 1 + AGE_BITS)
        if bits + width <= 64:
            to, word, fill = append_bits(words, to, word, fill, prefix | table[FIRST, i] << width, bits + width)
            continue
        to, word, fill = append_bits(words, to, word, fill, prefix, width)
        source = table[OFFSET, i]
        while bits > 0:
            to, word, fill = append_bits(words, to, word, fill, arena[source], min(bits, 64))
            source += 1
            bits -= 64
    words[to] = word
    size = 8 * to + ((fill + 7) >> 3)
    for j in range(size):
        out[at + 1 + j] = octets[j]
    return int(at + 1 + size)


@kernel(counted=False, merge=True)
def _open_row(tick: int, sequence: int, packet: I32, carried: I64) -> int:
    """Make room in the ring of packets sent; the row. Its former packet, if not acknowledged by now, is given up."""
    row = sequence % packet.shape[1]
    packet[SEQUENCE, row] = sequence
    packet[TICK, row] = tick
    for word in range(4):
        carried[row, word] = 0
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
    records: tuple[Records, Ties],
    events: Events,
    draft: Draft,
    out: U8,
    counters: I64,
) -> int:
    """Write the snapshot of client `c`; its length. owner: section of each client, and the zone's sections."""
    client, (slots, sent) = hearers[0][c], interest
    sequence = int(np.int64(client[NEXT_SEQUENCE]))
    carried = sent[1][c, _open_row(tick, sequence, sent[0][c], sent[1][c])]
    count, total, leaves = _draft(tick, c, client, slots, world, records[0], records[1], draft[0], counters)
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
    chosen, room = count, 8 * (limit - at - RECORDS_HEAD)
    if total > room:
        chosen = _choose(tick, c, count, room, slots, draft[0])
        counters[DEFERRED] += count - chosen
    at = _put_bitmap(count, draft[0], carried, out, at)
    if chosen > 0:
        age = tick - client[ACKED_TICK]
        common = int(age) if age < 1 << AGE_BITS and client[ACKED_TICK] > 0 else 0
        before = at
        at = _put_records(tick, common, count, records[0][1], draft, slots[0][SENT, c], out, at)
        counters[RECORD_BYTES_SENT] += at - before
    client[NEXT_SEQUENCE] = (sequence + 1) & 0xFFFF
    client[LAST_TICK] = tick
    counters[RECORDS] += chosen
    return at


@kernel(
    f"(i8, i8, {HEARERS_TYPE}, Tuple((u1[:,::1], u1[::1])), Tuple(({SLOTS_TYPE}, {SENT_TYPE})), {WORLD_TYPE},"
    f" Tuple(({RECORDS_TYPE}, {TIES_TYPE})), {EVENTS_TYPE}, {DRAFT_TYPE}, {OUT_TYPE}, i8[::1])",
    counted=False,
)
def assemble(
    tick: int,
    event_bytes: int,
    hearers: Hearers,
    owner: tuple[U8, U8],
    interest: tuple[Slots, Sent],
    world: World,
    records: tuple[Records, Ties],
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
