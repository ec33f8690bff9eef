"""One snapshot for every client that is due: records encoded once and shared, packets put together in one call.

Payload layout: net/snapshots.py. State per client: interest slots and the ring of packets sent
(server/relevance_kernels.py). A packet in flight remembers which slots it carried; its acknowledgement moves the
baselines of just these to its tick, and frees the slots it told the client to leave.
"""

import numpy as np

from net.snapshots_kernels import encode_delta, encode_event, encode_full
from server.relevance_kernels import (
    DESPAWNED,
    FREE,
    LEAVING,
    LIVE,
    NO_BASELINE,
    SENT_TYPE,
    SLOTS_TYPE,
    Sent,
    Slots,
)
from sim.arrays import F64, I16, I32, I64, U8, U16, U32, U64
from sim.jit import kernel

__all__ = ["COUNTERS", "EVENT_BYTES_MAX", "RECORD_BYTES_MAX", "acknowledge", "assemble", "commit", "push_events"]

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
)
SNAPSHOTS, PAYLOAD, RECORDS, FULL, ENCODED, DEFERRED, AT_REST, ARENA_FULL = 2, 3, 4, 5, 6, 7, 8, 9
LEAVES, EVENTS_SENT, EVENTS_DEFERRED, EVENTS_LOST, ACKS, ACKS_UNKNOWN = 10, 11, 12, 13, 14, 15

RECORD_BYTES_MAX = 384  # 32 fields of 65 bits at worst, id and masks
EVENT_BYTES_MAX = 96
EVENT_AGE_MAX = 63
EVENTS_PER_SNAPSHOT = 255
HEADER = 16
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
# events, a ring: bytes, length, tick, actor, target, position; state: events pushed so far
EVENTS_TYPE = "Tuple((u1[:,::1], i4[::1], i4[::1], u8[::1], u8[::1], f8[:,::1], i8[::1]))"
Events = tuple[U8, I32, I32, U64, U64, F64, I64]
# clients: active, interval [ticks], byte budget, own entity, view point, sequence of the next snapshot, tick of the
# last, next event
CLIENTS_TYPE = "Tuple((u1[::1], i4[::1], i4[::1], u8[::1], f8[:,::1], i4[::1], i4[::1], i8[::1]))"
Clients = tuple[U8, I32, I32, U64, F64, I32, I32, I64]
# heads: input tick, lead, target lead, owner section, owner bytes
HEADS_TYPE = "Tuple((u4[::1], i2[::1], u1[::1], u1[:,::1], u1[::1]))"
Heads = tuple[U32, I16, U8, U8, U8]
# draft of one packet: slot, offset, length per candidate record; sort keys; leaves; events
DRAFT_TYPE = "Tuple((i4[::1], i4[::1], i4[::1], i8[::1], u1[::1], u1[::1]))"
Draft = tuple[I32, I32, I32, I64, U8, U8]
# out: payloads, lengths
OUT_TYPE = "Tuple((u1[:,::1], i4[::1]))"
Out = tuple[U8, I32]


@kernel(f"(i8, u8[::1], i4[:,::1], {WORLD_TYPE})")
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


@kernel(f"(i8, u2[::1], u8[::1], u8[::1], f8[:,::1], f8[:,::1], i8[::1], UniTuple(f8, 2), {EVENTS_TYPE})")
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
    ring = events[1].shape[0]
    for i in range(kind.shape[0]):
        k = events[6][0] % ring
        ids = (actor[i], target[i])
        number, amount = int(np.int64(kind[i])), int(np.int64(value[i]))
        events[1][k] = encode_event(number, ids, position[i], vector[i], amount, scale, events[0][k])
        events[2][k] = tick
        events[3][k] = actor[i]
        events[4][k] = target[i]
        events[5][k, 0], events[5][k, 1], events[5][k, 2] = position[i, 0], position[i, 1], position[i, 2]
        events[6][0] += 1


@kernel(counted=False)
def _promote(client: int, row: int, slots: Slots, sent: Sent) -> None:
    """Take note that the packet in ring row `row` has arrived."""
    _, _, state, baseline, _, _ = slots
    tick = sent[1][client, row]
    for word in range(2):
        carried, left = sent[2][client, row, word], sent[3][client, row, word]
        for i in range(64):
            slot = 64 * word + i
            bit = np.uint64(1) << np.uint64(i)
            if carried & bit != np.uint64(0) and baseline[client, slot] < tick:
                baseline[client, slot] = tick
            if left & bit != np.uint64(0) and state[client, slot] >= LEAVING:
                state[client, slot] = FREE


@kernel(counted=False)
def _acknowledge_one(client: int, sequence: int, clients: Clients, slots: Slots, sent: Sent) -> int:
    """Promote one acknowledged packet: 1, or 0 if it is known already or too old, or −1 if it was never sent."""
    behind = (clients[5][client] - 1 - sequence) & 0xFFFF
    if behind >= 0x8000 or clients[6][client] < 0:
        return -1
    row = sequence % sent[0].shape[1]
    if behind >= sent[0].shape[1] or sent[0][client, row] != sequence:
        return 0
    sent[0][client, row] = -1
    _promote(client, row, slots, sent)
    return 1


@kernel(f"(i4[::1], i4[::1], u4[::1], {CLIENTS_TYPE}, {SLOTS_TYPE}, {SENT_TYPE}, i8[::1])")
def acknowledge(
    client: I32, sequence: I32, mask: U32, clients: Clients, slots: Slots, sent: Sent, counters: I64
) -> int:
    """Take the acknowledgements of many commands; how many packets were acknowledged for the first time."""
    fresh = 0
    for i in range(client.shape[0]):
        c, newest, bits = int(np.int64(client[i])), int(np.int64(sequence[i])), int(np.int64(mask[i]))
        result = _acknowledge_one(c, newest, clients, slots, sent)
        if result < 0:
            counters[ACKS_UNKNOWN] += 1
            continue
        fresh += result
        older = newest
        while bits != 0:
            older = (older - 1) & 0xFFFF
            if bits & 1:
                fresh += max(_acknowledge_one(c, older, clients, slots, sent), 0)
            bits >>= 1
    counters[ACKS] += fresh
    return fresh


@kernel(counted=False)
def _record(tick: int, age: int, entity: int, world: World, records: Records, counters: I64) -> int:
    """The arena place (offset << 9 | length) of a record, encoded now if no client needed it before; −1: no room."""
    table, arena, cache, state = records
    entry = cache[age, entity]
    if entry >> (OFFSET_BITS + LENGTH_BITS) != tick or state[3] == 0:
        offset = state[0]
        if offset + RECORD_BYTES_MAX > arena.shape[0]:
            counters[ARENA_FULL] += 1
            return -1
        history = world[2]
        ring = history.shape[0]
        current = history[tick % ring, entity]
        if age == 0:
            end = encode_full(current, world[0][entity], table, arena, offset)
        else:
            end = encode_delta(current, history[(tick - age) % ring, entity], age, table, state[1], arena, offset)
        state[0] = end
        counters[ENCODED] += 1
        entry = (tick << OFFSET_BITS | offset) << LENGTH_BITS | (end - offset)
        cache[age, entity] = entry
    return int(entry & ((1 << (OFFSET_BITS + LENGTH_BITS)) - 1))


@kernel(counted=False)
def _age(tick: int, baseline: int, row_tick: I32) -> int:
    """The age of a baseline that both sides still hold, or 0."""
    age = tick - baseline
    if baseline == NO_BASELINE or age >= row_tick.shape[0] or row_tick[baseline % row_tick.shape[0]] != baseline:
        return 0
    return age


@kernel(counted=False)
def _draft(
    client: int, tick: int, elapsed: int, slots: Slots, world: World, records: Records, draft: Draft, counters: I64
) -> tuple[int, int, int]:
    """List what this client needs now: how many records, their bytes, how many leaves."""
    entity, identity, state, baseline, priority, weight = slots
    known, changed, _, row_tick = world
    count, total, leaves = 0, 0, 0
    for slot in range(SLOT_COUNT):
        if state[client, slot] == LIVE:
            e = int(np.int64(entity[client, slot]))
            if known[e] != identity[client, slot]:
                state[client, slot] = DESPAWNED
            else:
                base = int(np.int64(baseline[client, slot]))
                age = _age(tick, base, row_tick)
                if 0 < age < records[3][2] and changed[e] <= base:
                    priority[client, slot] = 0  # at rest since what the client acknowledged: nothing to say
                    counters[AT_REST] += 1
                    continue
                gained = int(np.int64(priority[client, slot])) + int(np.int64(weight[client, slot])) * elapsed
                priority[client, slot] = min(gained, PRIORITY_MAX)
                place = _record(tick, age, e, world, records, counters)
                if place >= 0:
                    draft[0][count] = slot
                    draft[1][count] = place >> LENGTH_BITS
                    draft[2][count] = place & ((1 << LENGTH_BITS) - 1)
                    total += draft[2][count]
                    counters[FULL] += 1 if age == 0 else 0
                    count += 1
        if state[client, slot] >= LEAVING:
            draft[4][leaves] = slot | (128 if state[client, slot] == DESPAWNED else 0)
            leaves += 1
    return count, total, leaves


@kernel(counted=False)
def _choose(client: int, count: int, room: int, slots: Slots, draft: Draft) -> int:
    """Drop (length 0) the records that do not fit, the least urgent first; the bytes of those that stay.

    In descending order of priority, then ascending of slot, each that still fits is taken, so the most urgent is
    always taken. One that is passed over gains its weight every tick until it is the most urgent.
    """
    keys = draft[3]
    for i in range(count):  # insertion sort: at most 128 keys, and only where the budget binds
        key = int(np.int64(slots[4][client, draft[0][i]])) << 8 | (127 - i)
        j = i
        while j > 0 and keys[j - 1] < key:
            keys[j] = keys[j - 1]
            j -= 1
        keys[j] = key
    used = 0
    for k in range(count):
        i = 127 - int(keys[k] & 255)
        if used + draft[2][i] <= room:
            used += draft[2][i]
        else:
            draft[2][i] = 0
    return used


@kernel(counted=False)
def _gather_events(
    client: int, tick: int, room: int, range_2: float, clients: Clients, events: Events, draft: Draft, counters: I64
) -> tuple[int, int]:
    """Copy the events this client is to hear of since its last snapshot: how many, and their bytes.

    What does not fit waits for the next snapshot, in order; what waited longer than 63 ticks, or was overwritten in
    the ring, is lost and counted.
    """
    data, length, when, actor, target, position, state = events
    own, view, cursor = clients[3][client], clients[4][client], clients[7]
    ring = length.shape[0]
    if state[0] - cursor[client] > ring:
        counters[EVENTS_LOST] += state[0] - ring - cursor[client]
        cursor[client] = state[0] - ring
    count, used = 0, 0
    for number in range(cursor[client], state[0]):
        k = number % ring
        age = tick - int(np.int64(when[k]))
        dx = position[k, 0] - view[0]
        dy = position[k, 1] - view[1]
        dz = position[k, 2] - view[2]
        mine = own != np.uint64(0) and (actor[k] == own or target[k] == own)
        if mine or dx * dx + dy * dy + dz * dz <= range_2:
            if age > EVENT_AGE_MAX:
                counters[EVENTS_LOST] += 1
            elif used + length[k] > room or count == EVENTS_PER_SNAPSHOT:
                counters[EVENTS_DEFERRED] += 1
                return count, used
            else:
                for i in range(length[k]):
                    draft[5][used + i] = data[k, i]
                draft[5][used] = age
                used += length[k]
                count += 1
        cursor[client] = number + 1
    return count, used


@kernel(counted=False)
def _put_head(client: int, tick: int, sequence: int, heads: Heads, out: U8) -> int:
    """Write header and owner section; the byte after them."""
    input_tick, lead, target_lead, owner, owner_bytes = heads
    acknowledged = int(np.int64(input_tick[client]))
    early = int(np.int64(lead[client]))
    out[0] = 1
    out[1] = 0
    out[2] = sequence & 255
    out[3] = sequence >> 8
    for i in range(4):
        out[4 + i] = tick >> (8 * i) & 255
        out[8 + i] = acknowledged >> (8 * i) & 255
    out[12] = early & 255
    out[13] = early >> 8 & 255
    out[14] = target_lead[client]
    out[15] = owner_bytes[client]
    for i in range(int(np.int64(owner_bytes[client]))):
        out[HEADER + i] = owner[client, i]
    return HEADER + int(np.int64(owner_bytes[client]))


@kernel(counted=False)
def _put_records(
    client: int, row: int, count: int, arena: U8, out: U8, at: int, slots: Slots, sent: Sent, draft: Draft
) -> int:
    """Write the bitmap and the chosen records, and remember them as carried; the byte after them."""
    last = -1
    for i in range(count):
        if draft[2][i] > 0:
            last = int(np.int64(draft[0][i]))
    size = (last + 8) >> 3
    bitmap = at + 1
    out[at] = size
    for i in range(size):
        out[bitmap + i] = 0
    at = bitmap + size
    for i in range(count):
        length = int(np.int64(draft[2][i]))
        if length == 0:
            continue
        slot, offset = int(np.int64(draft[0][i])), int(np.int64(draft[1][i]))
        out[bitmap + (slot >> 3)] |= 1 << (slot & 7)
        sent[2][client, row, slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
        slots[4][client, slot] = 0
        for j in range(length):
            out[at + j] = arena[offset + j]
        at += length
    return at


@kernel(counted=False)
def _put_leaves(client: int, row: int, leaves: int, out: U8, at: int, sent: Sent, draft: Draft) -> int:
    """Write the leave list, and remember it as carried; the byte after it."""
    out[at] = leaves
    for i in range(leaves):
        slot = int(np.int64(draft[4][i])) & 127
        out[at + 1 + i] = draft[4][i]
        sent[3][client, row, slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
    return at + 1 + leaves


@kernel(counted=False)
def _open_row(client: int, tick: int, sequence: int, sent: Sent) -> int:
    """Make room in the ring of packets sent; the row. Its former packet, if not acknowledged by now, is given up."""
    row = sequence % sent[0].shape[1]
    sent[0][client, row] = sequence
    sent[1][client, row] = tick
    for word in range(2):
        sent[2][client, row, word] = 0
        sent[3][client, row, word] = 0
    return int(row)


@kernel(counted=False)
def _assemble_one(
    client: int,
    tick: int,
    options: tuple[float, float],
    clients: Clients,
    heads: Heads,
    interest: tuple[Slots, Sent],
    world: World,
    records: Records,
    events: Events,
    draft: Draft,
    out: U8,
    counters: I64,
) -> int:
    """Write one client's snapshot; its length."""
    slots, sent = interest
    sequence = int(np.int64(clients[5][client]))
    elapsed = max(1, tick - int(np.int64(clients[6][client]))) if clients[6][client] >= 0 else 1
    row = _open_row(client, tick, sequence, sent)
    count, total, leaves = _draft(client, tick, elapsed, slots, world, records, draft, counters)
    at = _put_leaves(client, row, leaves, out, _put_head(client, tick, sequence, heads, out), sent, draft)
    room = int(np.int64(clients[2][client])) - at - 2 - BITMAP
    most = min(int(np.int64(options[1])), room - RECORD_BYTES_MAX)
    heard, event_bytes = _gather_events(client, tick, most, options[0], clients, events, draft, counters)
    chosen = count
    if total > room - event_bytes:
        _choose(client, count, room - event_bytes, slots, draft)
        chosen = 0
        for i in range(count):
            chosen += 1 if draft[2][i] > 0 else 0
        counters[DEFERRED] += count - chosen
    at = _put_records(client, row, count, records[1], out, at, slots, sent, draft)
    out[at] = heard
    at += 1
    for i in range(event_bytes):
        out[at + i] = draft[5][i]
    clients[5][client] = (sequence + 1) & 0xFFFF
    clients[6][client] = tick
    counters[RECORDS] += chosen
    counters[LEAVES] += leaves
    counters[EVENTS_SENT] += heard
    return at + event_bytes


@kernel(
    f"(i8, UniTuple(f8, 2), {CLIENTS_TYPE}, {HEADS_TYPE}, Tuple(({SLOTS_TYPE}, {SENT_TYPE})), {WORLD_TYPE},"
    f" {RECORDS_TYPE}, {EVENTS_TYPE}, {DRAFT_TYPE}, {OUT_TYPE}, i8[::1])"
)
def assemble(
    tick: int,
    options: tuple[float, float],
    clients: Clients,
    heads: Heads,
    interest: tuple[Slots, Sent],
    world: World,
    records: Records,
    events: Events,
    draft: Draft,
    out: Out,
    counters: I64,
) -> int:
    """Write the snapshot of each active client with (client + tick) mod interval = 0; how many. Length 0: not due.

    options: squared range of events [m²], most bytes of events per snapshot.
    """
    active, interval = clients[0], clients[1]
    payload, length = out
    records[3][0] = 0
    written = 0
    for client in range(active.shape[0]):
        length[client] = 0
        if active[client] == 0 or (client + tick) % interval[client] != 0:
            continue
        length[client] = _assemble_one(
            client, tick, options, clients, heads, interest, world, records, events, draft, payload[client], counters
        )
        counters[PAYLOAD] += length[client]
        written += 1
    counters[SNAPSHOTS] += written
    return written
