"""One snapshot for every client that is due: records encoded once and shared, packets put together in one call.

Payload layout: net/snapshots.py. State per client: interest slots and the ring of packets sent
(server/relevance_kernels.py). A packet in flight remembers which slots it carried; its acknowledgement moves the
baselines of just these to its tick, and frees the slots it told the client to leave.
"""

import numpy as np

from net.snapshots_kernels import encode_delta, encode_event, encode_full
from server.relevance_kernels import (
    ACTIVE,
    BASELINE,
    BUDGET,
    DESPAWNED,
    ENTITY,
    FREE,
    INPUT_TICK,
    INTERVAL,
    LAST_TICK,
    LEAD,
    LEAVING,
    LIVE,
    NEXT_EVENT,
    NEXT_OWN_EVENT,
    NEXT_SEQUENCE,
    NO_BASELINE,
    OWNER_BYTES,
    PRIORITY,
    SENT_TYPE,
    SEQUENCE,
    SLOTS_TYPE,
    STATE,
    TARGET_LEAD,
    TICK,
    WEIGHT,
    Sent,
    Slots,
)
from sim.arrays import F64, I32, I64, U8, U16, U32, U64
from sim.jit import kernel

__all__ = [
    "BUDGET_MIN",
    "COUNTERS",
    "EVENT_BYTES_MAX",
    "RECORD_BYTES_MAX",
    "acknowledge",
    "assemble",
    "commit",
    "push_events",
]

# counters 0 and 1 are counted in server/relevance_kernels.py
COUNTERS = (
    "slots_full",
    "relevant_cut",
    "snapshots",
    "payload_bytes",
    "records_sent",
    "records_full",
    "records_encoded",
    "records_deferred",
    "records_at_rest",
    "arena_full",
    "leaves_sent",
    "events_sent",
    "events_deferred",
    "events_lost",
    "acks",
    "acks_unknown",
    "snapshots_held",
)
SNAPSHOTS, PAYLOAD, RECORDS, FULL, ENCODED, DEFERRED, AT_REST, ARENA_FULL = 2, 3, 4, 5, 6, 7, 8, 9
LEAVES, EVENTS_SENT, EVENTS_DEFERRED, EVENTS_LOST, ACKS, ACKS_UNKNOWN, HELD = 10, 11, 12, 13, 14, 15, 16

RECORD_BYTES_MAX = 384  # 32 fields of 65 bits at worst, id and masks
EVENT_BYTES_MAX = 96
EVENT_AGE_MAX = 63
EVENTS_PER_SNAPSHOT = 255
HEADER = 16
OWNER_MAX = 128
BUDGET_MIN = 768  # header, owner, all leaves, bitmap and the largest record always fit
PAYLOAD_MAX = 1200
BITMAP = 16
SLOT_COUNT = 128
PRIORITY_MAX = 1 << 30
LENGTH_BITS, OFFSET_BITS = 9, 22  # of a cache entry: tick, offset, length

# world: entity id, tick of last change, history of fields, tick of each history row
WORLD_TYPE = "Tuple((u8[::1], i4[::1], i4[:,:,::1], i4[::1]))"
World = tuple[U64, I32, I32, I32]
# records: field table, arena, cache by (age, entity), state: arena bytes used, velocity scale, age at which a resting
# entity's baseline is renewed, whether records are shared
RECORDS_TYPE = "Tuple((i8[:,::1], u1[::1], i8[:,::1], i8[::1]))"
Records = tuple[I64, U8, I64, I64]
# events, a ring: bytes; length and tick; actor and target; position; state: events pushed so far
EVENTS_TYPE = "Tuple((u1[:,::1], i4[:,::1], u8[:,::1], f8[:,::1], i8[::1]))"
Events = tuple[U8, I32, U64, F64, I64]
# viewers: client columns, own entity, view point, owner section
VIEWERS_TYPE = "Tuple((i8[:,::1], u8[::1], f8[:,::1], u1[:,::1]))"
Viewers = tuple[I64, U64, F64, U8]
# draft of one packet: slot, arena offset and length per candidate record, and their order; bytes of events
DRAFT_TYPE = "Tuple((i4[:,::1], u1[::1]))"
Draft = tuple[I32, U8]
SLOT, OFFSET, LENGTH, ORDER = 0, 1, 2, 3
# out: payloads, lengths
OUT_TYPE = "Tuple((u1[:,::1], i4[::1]))"
Out = tuple[U8, I32]


@kernel(f"(i8, u8[::1], i4[:,::1], {WORLD_TYPE})", counted=False)
def commit(tick: int, identity: U64, staged: I32, world: World) -> int:
    """Store the quantised state of this tick, and note which entities changed or move; how many did."""
    known, changed, history, row_tick = world
    ring = history.shape[0]
    row = tick % ring
    before = history[(tick - 1) % ring]
    follows = row_tick[(tick - 1) % ring] == tick - 1
    now = history[row]
    row_tick[row] = tick
    count = 0
    for i in range(identity.shape[0]):
        same = follows and known[i] == identity[i]
        if identity[i] != np.uint64(0):
            moving = staged[i, 3] | staged[i, 4] | staged[i, 5]
            for f in range(staged.shape[1]):
                moving |= staged[i, f] ^ before[i, f]
                now[i, f] = staged[i, f]
            if moving != 0 or not same:
                changed[i] = tick
                count += 1
        known[i] = identity[i]
    return count


@kernel(
    f"(i8, u2[::1], u8[::1], u8[::1], f8[:,::1], f8[:,::1], i8[::1], UniTuple(f8, 2), {EVENTS_TYPE})", counted=False
)
def push_events(
    tick: int,
    kind: U16,
    actor: U64,
    target: U64,
    position: F64,
    vector: F64,
    value: I64,
    scale: tuple[float, float],
    events: Events,
) -> None:
    """Encode the events of this tick once for all clients into the ring; the oldest give way."""
    data, measure, party, place, state = events
    ring = measure.shape[0]
    for i in range(kind.shape[0]):
        k = state[0] % ring
        number, amount = int(np.int64(kind[i])), int(np.int64(value[i]))
        ids = (actor[i], target[i])
        measure[k, 0] = encode_event(number, ids, position[i], vector[i], amount, scale, data[k])
        measure[k, 1] = tick
        party[k, 0], party[k, 1] = actor[i], target[i]
        place[k, 0], place[k, 1], place[k, 2] = position[i, 0], position[i, 1], position[i, 2]
        state[0] += 1


@kernel(counted=False)
def _promote(slot: I32, carried: U64, tick: int) -> None:
    """Take note that the packet of `tick` that carried these has arrived."""
    for word in range(2):
        updated, left = carried[word], carried[2 + word]
        for i in range(64):
            place, shift = 64 * word + i, np.uint64(i)
            if (updated >> shift) & np.uint64(1) != np.uint64(0) and slot[BASELINE, place] < tick:
                slot[BASELINE, place] = tick
            if (left >> shift) & np.uint64(1) != np.uint64(0) and slot[STATE, place] >= LEAVING:
                slot[STATE, place] = FREE


@kernel(counted=False)
def _acknowledge_one(sequence: int, client: I64, slot: I32, packet: I32, carried: U64) -> int:
    """Promote one acknowledged packet: 1, or 0 if it is known already or too old, or −1 if it was never sent."""
    behind = (client[NEXT_SEQUENCE] - 1 - sequence) & 0xFFFF
    if behind >= 0x8000 or client[LAST_TICK] < 0:
        return -1
    row = sequence % packet.shape[1]
    if behind >= packet.shape[1] or packet[SEQUENCE, row] != sequence:
        return 0
    packet[SEQUENCE, row] = -1
    _promote(slot, carried[row], int(np.int64(packet[TICK, row])))
    return 1


@kernel(f"(i4[::1], i4[::1], u4[::1], i8[:,::1], {SLOTS_TYPE}, {SENT_TYPE}, i8[::1])", counted=False)
def acknowledge(client: I32, sequence: I32, mask: U32, clients: I64, slots: Slots, sent: Sent, counters: I64) -> int:
    """Take the acknowledgements of many commands; how many packets were acknowledged for the first time."""
    fresh = 0
    for i in range(client.shape[0]):
        c, older = int(np.int64(client[i])), int(np.int64(sequence[i]))
        row, slot, packet, carried = clients[c], slots[0][c], sent[0][c], sent[1][c]
        bits = 1 | int(np.int64(mask[i])) << 1  # bit 0 is the newest itself
        while bits != 0:
            if bits & 1:
                result = _acknowledge_one(older, row, slot, packet, carried)
                if result < 0:
                    counters[ACKS_UNKNOWN] += 1
                    break
                fresh += result
            older = (older - 1) & 0xFFFF
            bits >>= 1
    counters[ACKS] += fresh
    return fresh


@kernel(counted=False)
def _encode(age: int, tick: int, entity: int, world: World, records: Records) -> int:
    """Encode a record at the end of the arena; the byte after it."""
    table, arena, _, state = records
    history = world[2]
    ring = history.shape[0]
    current = history[tick % ring, entity]
    if age == 0:
        return encode_full(current, world[0][entity], table, arena, state[0])
    return encode_delta(current, history[(tick - age) % ring, entity], age, table, state[1], arena, state[0])


@kernel(counted=False)
def _age(tick: int, baseline: int, row_tick: I32) -> int:
    """The age of a baseline that both sides still hold, or 0."""
    ring = row_tick.shape[0]
    age = tick - baseline
    if baseline == NO_BASELINE or age >= ring or row_tick[baseline % ring] != baseline:
        return 0
    return age


@kernel(counted=False)
def _record(age: int, tick: int, entity: int, world: World, records: Records, counters: I64) -> int:
    """The arena place (offset << 9 | length) of a record, encoded now if no client needed it before; −1: no room."""
    arena, cache, state = records[1], records[2], records[3]
    entry = int(np.int64(cache[age, entity]))
    if entry >> (OFFSET_BITS + LENGTH_BITS) != tick or state[3] == 0:
        offset = state[0]
        if offset + RECORD_BYTES_MAX > arena.shape[0]:
            counters[ARENA_FULL] += 1
            return -1
        state[0] = _encode(age, tick, entity, world, records)
        counters[ENCODED] += 1
        entry = (tick << OFFSET_BITS | offset) << LENGTH_BITS | (state[0] - offset)
        cache[age, entity] = entry
    return entry & ((1 << (OFFSET_BITS + LENGTH_BITS)) - 1)


@kernel(counted=False)
def _draft(
    tick: int, elapsed: int, slot: I32, held: U64, world: World, records: Records, draft: I32, counters: I64
) -> tuple[int, int]:
    """List the records this client needs now: how many, and their bytes. What is gone from the world must leave."""
    known, changed, _, row_tick = world
    renewal = records[3][2]
    count, total = 0, 0
    for place in range(SLOT_COUNT):
        if slot[STATE, place] != LIVE:
            continue
        entity, baseline = int(np.int64(slot[ENTITY, place])), int(np.int64(slot[BASELINE, place]))
        if known[entity] != held[place]:
            slot[STATE, place] = DESPAWNED
            continue
        age = _age(tick, baseline, row_tick)
        if 0 < age < renewal and changed[entity] <= baseline:
            slot[PRIORITY, place] = 0  # at rest since what the client acknowledged: nothing to say
            counters[AT_REST] += 1
            continue
        slot[PRIORITY, place] = min(slot[PRIORITY, place] + slot[WEIGHT, place] * elapsed, PRIORITY_MAX)
        found = _record(age, tick, entity, world, records, counters)
        if found >= 0:
            draft[SLOT, count] = place
            draft[OFFSET, count] = found >> LENGTH_BITS
            draft[LENGTH, count] = found & ((1 << LENGTH_BITS) - 1)
            total += found & ((1 << LENGTH_BITS) - 1)
            counters[FULL] += 1 if age == 0 else 0
            count += 1
    return count, total


@kernel(counted=False)
def _choose(count: int, room: int, slot: I32, draft: I32) -> int:
    """Drop (length 0) the records that do not fit, the least urgent first; how many stay.

    In descending order of priority, then ascending of slot, each that still fits is taken, so the most urgent is
    always taken. One that is passed over gains its weight every tick until it is the most urgent.
    """
    for i in range(count):  # insertion sort: at most 128, and only where the budget binds
        priority = slot[PRIORITY, draft[SLOT, i]]
        j = i
        while j > 0 and slot[PRIORITY, draft[SLOT, draft[ORDER, j - 1]]] < priority:
            draft[ORDER, j] = draft[ORDER, j - 1]
            j -= 1
        draft[ORDER, j] = i
    used, chosen = 0, 0
    for k in range(count):
        i = draft[ORDER, k]
        if used + draft[LENGTH, i] <= room:
            used += draft[LENGTH, i]
            chosen += 1
        else:
            draft[LENGTH, i] = 0
    return chosen


@kernel(counted=False)
def _concerns(own: np.uint64, party: U64, k: int) -> bool:
    """Whether an event was caused by, or happened to, the client's own entity."""
    return bool(own != np.uint64(0) and (party[k, 0] == own or party[k, 1] == own))


@kernel(counted=False)
def _put_event(k: int, age: int, events: Events, out: U8, used: int) -> int:
    """Copy one encoded event behind the others, with its age; the byte after it."""
    length = int(np.int64(events[1][k, 0]))
    for i in range(length):
        out[used + i] = events[0][k, i]
    out[used] = age
    return used + length


@kernel(counted=False)
def _gather_own(
    tick: int, room: int, client: I64, own: np.uint64, events: Events, out: U8, counters: I64
) -> tuple[int, int]:
    """The events that concern the client's own entity go first, whatever else happens: how many, and their bytes."""
    _, measure, party, _, state = events
    count, used = 0, 0
    for number in range(max(client[NEXT_OWN_EVENT], state[0] - measure.shape[0]), state[0]):
        k = number % measure.shape[0]
        age = tick - measure[k, 1]
        if _concerns(own, party, k) and age <= EVENT_AGE_MAX:
            if used + measure[k, 0] > room or count == EVENTS_PER_SNAPSHOT:
                counters[EVENTS_DEFERRED] += 1
                return count, used
            used = _put_event(k, age, events, out, used)
            count += 1
        client[NEXT_OWN_EVENT] = number + 1
    return count, used


@kernel(counted=False)
def _gather_events(
    tick: int,
    room: int,
    range_2: float,
    client: I64,
    own: np.uint64,
    view: F64,
    events: Events,
    out: U8,
    counters: I64,
) -> tuple[int, int]:
    """Copy the events this client is to hear of since its last snapshot: how many, and their bytes.

    Those that concern it go first. What does not fit waits for the next snapshot, in order; what waited longer than
    63 ticks, or was overwritten in the ring, is lost and counted.
    """
    _, measure, party, position, state = events
    ring = measure.shape[0]
    count, used = _gather_own(tick, room, client, own, events, out, counters)
    if state[0] - client[NEXT_EVENT] > ring:
        counters[EVENTS_LOST] += state[0] - ring - client[NEXT_EVENT]
        client[NEXT_EVENT] = state[0] - ring
    for number in range(client[NEXT_EVENT], state[0]):
        k = number % ring
        age = tick - measure[k, 1]
        dx = position[k, 0] - view[0]
        dy = position[k, 1] - view[1]
        dz = position[k, 2] - view[2]
        if dx * dx + dy * dy + dz * dz <= range_2 and not _concerns(own, party, k):
            if age > EVENT_AGE_MAX:
                counters[EVENTS_LOST] += 1
            elif used + measure[k, 0] > room or count == EVENTS_PER_SNAPSHOT:
                counters[EVENTS_DEFERRED] += 1
                return count, used
            else:
                used = _put_event(k, age, events, out, used)
                count += 1
        client[NEXT_EVENT] = number + 1
    return count, used


@kernel(counted=False)
def _put_head(tick: int, client: I64, owner: U8, out: U8) -> int:
    """Write header and owner section; the byte after them."""
    out[0] = 1
    out[1] = 0
    out[2] = client[NEXT_SEQUENCE] & 255
    out[3] = client[NEXT_SEQUENCE] >> 8
    for i in range(4):
        out[4 + i] = tick >> (8 * i) & 255
        out[8 + i] = client[INPUT_TICK] >> (8 * i) & 255
    out[12] = client[LEAD] & 255
    out[13] = client[LEAD] >> 8 & 255
    out[14] = client[TARGET_LEAD] & 255
    length = min(max(int(np.int64(client[OWNER_BYTES])), 0), OWNER_MAX)
    out[15] = length
    for i in range(length):
        out[HEADER + i] = owner[i]
    return HEADER + length


@kernel(counted=False)
def _put_leaves(slot: I32, carried: U64, out: U8, at: int) -> int:
    """Write the list of slots to leave, and remember it as carried; the byte after it."""
    count = 0
    for place in range(SLOT_COUNT):
        if slot[STATE, place] >= LEAVING:
            out[at + 1 + count] = place | (128 if slot[STATE, place] == DESPAWNED else 0)
            carried[2 + (place >> 6)] |= np.uint64(1) << np.uint64(place & 63)
            count += 1
    out[at] = count
    return at + 1 + count


@kernel(counted=False)
def _put_records(count: int, arena: U8, out: U8, at: int, slot: I32, carried: U64, draft: I32) -> int:
    """Write the bitmap and the chosen records, and remember them as carried; the byte after them."""
    last = -1
    for i in range(count):
        if draft[LENGTH, i] > 0:
            last = int(np.int64(draft[SLOT, i]))
    size = (last + 8) >> 3
    bitmap = at + 1
    out[at] = size
    for i in range(size):
        out[bitmap + i] = 0
    at = bitmap + size
    for i in range(count):
        length, offset, place = draft[LENGTH, i], draft[OFFSET, i], draft[SLOT, i]
        if length > 0:
            out[bitmap + (place >> 3)] |= 1 << (place & 7)
            carried[place >> 6] |= np.uint64(1) << np.uint64(place & 63)
            slot[PRIORITY, place] = 0
            for j in range(length):
                out[at + j] = arena[offset + j]
            at += length
    return at


@kernel(counted=False)
def _open_row(tick: int, sequence: int, packet: I32, carried: U64) -> int:
    """Make room in the ring of packets sent; the row. Its former packet, if not acknowledged by now, is given up."""
    row = sequence % packet.shape[1]
    packet[SEQUENCE, row] = sequence
    packet[TICK, row] = tick
    for word in range(4):
        carried[row, word] = 0
    return int(row)


@kernel(counted=False)
def _assemble_one(
    c: int,
    tick: int,
    options: tuple[float, float],
    viewers: Viewers,
    interest: tuple[Slots, Sent],
    world: World,
    records: Records,
    events: Events,
    draft: Draft,
    out: U8,
    counters: I64,
) -> int:
    """Write the snapshot of client `c`; its length."""
    client, slot, packet = viewers[0][c], interest[0][0][c], interest[1][0][c]
    sequence, last = int(np.int64(client[NEXT_SEQUENCE])), int(np.int64(client[LAST_TICK]))
    carried = interest[1][1][c, _open_row(tick, sequence, packet, interest[1][1][c])]
    elapsed = max(1, tick - last) if last >= 0 else 1
    count, total = _draft(tick, elapsed, slot, interest[0][1][c], world, records, draft[0], counters)
    head = _put_head(tick, client, viewers[3][c], out)
    at = _put_leaves(slot, carried, out, head)
    counters[LEAVES] += at - head - 1
    room = min(max(int(np.int64(client[BUDGET])), BUDGET_MIN), PAYLOAD_MAX) - at - 2 - BITMAP
    most = min(int(np.int64(options[1])), room - RECORD_BYTES_MAX)
    heard, event_bytes = _gather_events(
        tick, most, options[0], client, viewers[1][c], viewers[2][c], events, draft[1], counters
    )
    chosen = count
    if total > room - event_bytes:
        chosen = _choose(count, room - event_bytes, slot, draft[0])
        counters[DEFERRED] += count - chosen
    at = _put_records(count, records[1], out, at, slot, carried, draft[0])
    out[at] = heard
    at += 1
    for i in range(event_bytes):
        out[at + i] = draft[1][i]
    client[NEXT_SEQUENCE] = (sequence + 1) & 0xFFFF
    client[LAST_TICK] = tick
    counters[RECORDS] += chosen
    counters[EVENTS_SENT] += heard
    return at + event_bytes


@kernel(
    f"(i8, UniTuple(f8, 2), {VIEWERS_TYPE}, Tuple(({SLOTS_TYPE}, {SENT_TYPE})), {WORLD_TYPE},"
    f" {RECORDS_TYPE}, {EVENTS_TYPE}, {DRAFT_TYPE}, {OUT_TYPE}, i8[::1])",
    counted=False,
)
def assemble(
    tick: int,
    options: tuple[float, float],
    viewers: Viewers,
    interest: tuple[Slots, Sent],
    world: World,
    records: Records,
    events: Events,
    draft: Draft,
    out: Out,
    counters: I64,
) -> int:
    """Write the snapshot of each active client with (client + tick) mod interval = 0; how many. Length 0: not due.

    A client whose budget is 0 or less goes without this one.

    options: squared range of events [m²], most bytes of events per snapshot.
    """
    clients = viewers[0]
    payload, length = out
    records[3][0] = 0
    written = 0
    for c in range(clients.shape[0]):
        length[c] = 0
        if clients[c, ACTIVE] == 0 or (c + tick) % max(clients[c, INTERVAL], 1) != 0:
            continue
        if clients[c, BUDGET] <= 0:
            counters[HELD] += 1
            continue
        length[c] = _assemble_one(
            c, tick, options, viewers, interest, world, records, events, draft, payload[c], counters
        )
        counters[PAYLOAD] += length[c]
        written += 1
    counters[SNAPSHOTS] += written
    return written
