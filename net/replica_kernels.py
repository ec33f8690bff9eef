"""Decoding a batch of snapshots into the replicas of a group of clients, whole or not at all.

Layout: net/snapshots.py. State per client and slot is a ring of the states received, one row per snapshot
(row = sequence mod ring), because any of them may be the baseline of a later record. A row holds the slots side by
side: most records of a snapshot rest on the same older one, so both are walked in order.
"""

import numpy as np

from net.bits_kernels import BAD_POSITION
from net.bytes_kernels import copy_bytes
from net.records_decode_kernels import PADDING, decode_delta, decode_full, read_bits
from net.records_kernels import CODEC_TYPE, POSITION_GAIN, SCALE, Codec, reckoned_order
from net.snapshots_kernels import AGE_BITS, decode_event
from sim.arrays import F64, I32, I64, U8, U32, U64
from sim.jit import kernel, local_i64, lowest_bit

__all__ = [
    "ACCEPTED",
    "BAD_BASELINE",
    "EVENT_COUNT",
    "HEAD_COLUMNS",
    "INPUT_TICK",
    "LEAD",
    "MALFORMED",
    "OWNER_BYTES",
    "STALE",
    "TARGET_LEAD",
    "TICK",
    "WRONG_TYPE",
    "Events",
    "Heads",
    "Scratch",
    "States",
    "interpolate",
    "receive",
]

ACCEPTED, STALE, WRONG_TYPE, MALFORMED, BAD_BASELINE = 0, 1, 2, 3, 4
HAS_OWNER, HAS_LEAVES, HAS_ZONE, HAS_EVENTS = 1, 2, 4, 8  # flags of a snapshot
FLAGS_MAX = 15
ROWS = 66
LEFT = 64  # of the rows by age: two words with the slots that are left, whose baselines are gone
HEADER, PAYLOAD_MAX, OWNER_MAX, BITMAP_MAX, AGES = 12, 1200, 128, 16, 64
NO_INPUT = 255
EMPTY = -1  # tick of a row that holds no snapshot, or of a slot that holds no entity

# heads: sequence (−1: none yet); acknowledged mask; columns below; owner section
HEADS_TYPE = "Tuple((i4[::1], u4[::1], i8[:,::1], u1[:,::1]))"
Heads = tuple[I32, U32, I64, U8]
TICK, INPUT_TICK, LEAD, TARGET_LEAD, OWNER_BYTES, EVENT_COUNT = 0, 1, 2, 3, 4, 5
HEAD_COLUMNS = 6
# states: entity id, tick, fields, ring of fields, rows that hold a state of this slot's entity, tick of each row,
# level, age of the newest record
STATES_TYPE = "Tuple((u8[:,::1], i4[:,::1], i4[:,:,::1], i4[:,:,:,::1], u8[:,::1], i4[:,::1], u1[:,::1], u1[:,::1]))"
States = tuple[U64, I32, I32, I32, U64, I32, U8, U8]
# events, a ring: tick, kind, value; actor, target; position, vector
EVENTS_TYPE = "Tuple((i8[:,:,::1], u8[:,:,::1], f8[:,:,:,::1]))"
Events = tuple[I64, U64, F64]
# scratch: fields and id per record; slot, level, age per record; event position and vector; bits of the records
SCRATCH_TYPE = "Tuple((i4[:,::1], u8[::1], i4[:,::1], f8[:,::1], u1[::1]))"
Scratch = tuple[I32, U64, I32, F64, U8]
# results: outcome per snapshot; where its zone section begins, and its bytes
RESULTS_TYPE = "Tuple((i4[::1], i4[:,::1]))"
Results = tuple[I32, I32]
# what the records of one client are decoded against: entity ids, ring of fields, rows held, levels
Bases = tuple[U64, I32, U64, U8]
# bytes at which the sections begin: owner, leaves, zone, events, records
Sections = tuple[int, int, int, int, int]
BAD_SECTIONS = (0, 0, 0, 0, 0)


@kernel(counted=False)
def _u16(data: U8, at: int) -> int:
    return int(np.int64(data[at])) | int(np.int64(data[at + 1])) << 8


@kernel(counted=False)
def _u32(data: U8, at: int) -> int:
    return _u16(data, at) | _u16(data, at + 2) << 16


@kernel(counted=False)
def _events_end(data: U8, at: int, end: int, scale: tuple[float, float], place: F64) -> int:
    """The byte after the event list at byte `at`, beyond the end where it is malformed."""
    if at >= end:
        return BAD_POSITION
    count = int(np.int64(data[at]))
    at += 1
    for _ in range(count):
        at, _age, _kind, _actor, _target, _value = decode_event(data, at, end, scale, place[0], place[1])
        if at > end:
            return BAD_POSITION
    return at


@kernel(counted=False)
def _keep_events(
    tick: int,
    data: U8,
    spot: tuple[int, int],
    scale: tuple[float, float],
    head: I64,
    number: I64,
    party: U64,
    place: F64,
) -> None:
    """Append the sound event list at spot = (byte, end) to a client's ring; the oldest give way."""
    at, end = spot
    count = int(np.int64(data[at]))
    at += 1
    for _ in range(count):
        k = head[EVENT_COUNT] % number.shape[0]
        at, age, kind, actor, target, value = decode_event(data, at, end, scale, place[k, 0], place[k, 1])
        number[k, 0], number[k, 1], number[k, 2] = tick - age, kind, value
        party[k, 0], party[k, 1] = actor, target
        head[EVENT_COUNT] += 1


@kernel(counted=False)
def _take_leaves(data: U8, at: int, states: States, client: int) -> None:
    """Empty the slots that the leave list at byte `at` names."""
    for i in range(int(np.int64(data[at]))):
        slot = int(np.int64(data[at + 1 + i])) & 127
        states[0][client, slot] = 0
        states[1][client, slot] = EMPTY
        states[4][client, slot] = 0


@kernel(counted=False, merge=True)
def _sections(data: U8, end: int, slots: int, scale: tuple[float, float], place: F64) -> Sections:
    """Where the sections begin, or `BAD_SECTIONS` where one is malformed. All but the records end where they say."""
    flags, at = int(np.int64(data[1])), HEADER
    owner = at
    if flags & HAS_OWNER:
        if at >= end or data[at] == 0 or data[at] > OWNER_MAX:
            return BAD_SECTIONS
        at += 1 + int(np.int64(data[at]))
    leaves = at
    if flags & HAS_LEAVES:
        if at >= end or data[at] == 0 or at + 1 + int(np.int64(data[at])) > end:
            return BAD_SECTIONS
        for i in range(int(np.int64(data[at]))):
            if int(np.int64(data[at + 1 + i])) & 127 >= slots:
                return BAD_SECTIONS
        at += 1 + int(np.int64(data[at]))
    zone = at
    if flags & HAS_ZONE:
        if at + 2 > end or _u16(data, at) == 0:
            return BAD_SECTIONS
        at += 2 + _u16(data, at)
    events = at
    if flags & HAS_EVENTS:
        if at >= end or data[at] == 0:
            return BAD_SECTIONS
        at = _events_end(data, at, end, scale, place)
    if at >= end:
        return BAD_SECTIONS
    return owner, leaves, zone, events, at


@kernel(counted=False, merge=True)
def _ages(tick: int, row_tick: I32, rows: I64) -> None:
    """For each age below 64 the ring row of the snapshot so old, or −1; then no slot that is left."""
    for age in range(AGES):
        rows[age] = -1
    for row in range(row_tick.shape[0]):
        age = tick - int(np.int64(row_tick[row]))
        if row_tick[row] != EMPTY and 0 < age < AGES:
            rows[age] = row
    rows[LEFT] = rows[LEFT + 1] = 0


@kernel(counted=False, merge=True)
def _record(
    slot: int, position: int, common: int, rows: I64, bases: Bases, codec: Codec, scratch: Scratch, count: int
) -> tuple[int, int]:
    """Decode the record of `slot` at bit `position` as number `count` of scratch: the position after it, why not."""
    identity, ring, valid, level = bases
    fields, bits, age = scratch[0][count], scratch[4], common
    prefix = read_bits(bits, position, 1 + AGE_BITS)
    if prefix & 1 == 0:
        age = prefix >> 1
        position += AGE_BITS
    position += 1
    scratch[2][count, 2] = age
    if age == 0:
        position, entity, told = decode_full(bits, position, codec, fields)
        scratch[1][count] = entity
        scratch[2][count, 1] = told
        return position if entity != np.uint64(0) else BAD_POSITION, MALFORMED
    row = rows[age]
    if row < 0 or (rows[LEFT + (slot >> 6)] >> (slot & 63)) & 1 != 0:
        return BAD_POSITION, BAD_BASELINE
    if (valid[slot] >> np.uint64(row)) & np.uint64(1) == np.uint64(0):
        return BAD_POSITION, BAD_BASELINE
    scratch[1][count] = identity[slot]
    told = int(np.int64(level[slot]))
    scratch[2][count, 1] = told
    return decode_delta(bits, position, ring[row, slot], age, told, codec, fields), MALFORMED


@kernel(counted=False, merge=True)
def _records(data: U8, at: int, end: int, rows: I64, bases: Bases, codec: Codec, scratch: Scratch) -> tuple[int, int]:
    """Decode the records section at byte `at` into scratch: how many, −1 where it is refused, and why."""
    size = int(np.int64(data[at]))
    if size == 0:
        return (0 if at + 1 == end else -1), MALFORMED
    first = at + 2 + size
    if size > BITMAP_MAX or first > end or data[at + size] == 0 or data[first - 1] >= AGES:
        return -1, MALFORMED
    bits, common = scratch[4], int(np.int64(data[first - 1]))
    copy_bytes(bits, 0, data, first, end - first)
    for i in range(PADDING):
        bits[end - first + i] = 0
    position, limit, count = 0, (end - first) * 8, 0
    for byte in range(size):
        named = int(np.int64(data[at + 1 + byte]))
        while named != 0:
            slot = 8 * byte + int(lowest_bit(named))
            named &= named - 1
            if slot >= bases[0].shape[0] or position >= limit:
                return -1, MALFORMED
            position, reason = _record(slot, position, common, rows, bases, codec, scratch, count)
            if position > limit:
                return -1, reason
            scratch[2][count, 0] = slot
            count += 1
    if limit - position >= 8 or read_bits(bits, position, 8) != 0:
        return -1, MALFORMED
    return count, ACCEPTED


@kernel(counted=False)
def _head_fault(data: U8, end: int, sequence: int, last: int) -> int:
    """Why this snapshot is not to be read further, or `ACCEPTED`; `sequence` and tick `last` are the newest taken."""
    if end < HEADER + 1 or end > PAYLOAD_MAX:
        return MALFORMED
    if data[0] != 1:
        return WRONG_TYPE
    tick = _u32(data, 4)
    if data[1] > FLAGS_MAX or tick == 0 or tick > 0x7FFFFFFF:
        return MALFORMED
    if sequence >= 0:
        ahead = (_u16(data, 2) - sequence) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            return STALE
        if tick <= last:
            return MALFORMED
    return ACCEPTED


@kernel(counted=False)
def _acknowledged(newest: int, new: int, mask: int) -> int:
    """The mask of earlier snapshots taken, once `new` is the newest."""
    ahead = 0 if newest < 0 else (new - newest) & 0xFFFF
    return (mask << ahead | 1 << (ahead - 1)) & 0xFFFFFFFF if 0 < ahead <= 32 else 0


@kernel(counted=False)
def _keep_head(data: U8, at: int, head: I64, owner: U8) -> None:
    """Take over the header and the owner section at byte `at`."""
    tick = _u32(data, 4)
    head[TICK] = tick
    if data[8] != NO_INPUT:
        head[INPUT_TICK] = tick - int(np.int64(data[8]))
    head[LEAD] = (_u16(data, 9) ^ 0x8000) - 0x8000
    head[TARGET_LEAD] = data[11]
    head[OWNER_BYTES] = 0
    if data[1] & HAS_OWNER:
        head[OWNER_BYTES] = data[at]
        copy_bytes(owner, 0, data, at + 1, int(np.int64(data[at])))


@kernel(counted=False, merge=True)
def _keep_states(client: int, row: int, tick: int, count: int, states: States, scratch: Scratch) -> None:
    """Open ring row `row` for this snapshot, and store the decoded records."""
    identity, newest, fields = states[0][client], states[1][client], states[2][client]
    level, age = states[6][client], states[7][client]
    ring, valid = states[3][client, row], states[4][client]
    bit = np.uint64(1) << np.uint64(row)
    states[5][client, row] = tick
    for every in range(np.uint64(valid.shape[0])):
        valid[every] &= ~bit
    for i in range(count):
        slot = int(np.int64(scratch[2][i, 0]))
        if identity[slot] != scratch[1][i] or level[slot] != scratch[2][i, 1]:
            identity[slot] = scratch[1][i]
            level[slot] = scratch[2][i, 1]
            valid[slot] = 0
        valid[slot] |= bit
        newest[slot] = tick
        age[slot] = scratch[2][i, 2]
        record, shown, kept = scratch[0][i], fields[slot], ring[slot]
        for f in range(np.uint64(fields.shape[1])):  # with signed indices this is no copy of words
            shown[f] = record[f]
            kept[f] = record[f]


@kernel(counted=False)
def _mark_left(data: U8, at: int, rows: I64) -> None:
    """Note the slots that the leave list at byte `at` names."""
    for i in range(int(np.int64(data[at]))):
        slot = int(np.int64(data[at + 1 + i])) & 127
        rows[LEFT + (slot >> 6)] |= 1 << (slot & 63)


@kernel(counted=False)
def _receive_one(
    client: int,
    data: U8,
    end: int,
    heads: Heads,
    states: States,
    events: Events,
    codec: Codec,
    scale: tuple[float, float],
    scratch: Scratch,
    zone: I32,
) -> int:
    """Check and decode all of one snapshot, and only then apply it; `ACCEPTED` or the reason why not."""
    sequence, mask, head, owner = heads
    fault = _head_fault(data, end, int(np.int64(sequence[client])), int(np.int64(head[client, TICK])))
    if fault != ACCEPTED:
        return fault
    tick, new, flags = _u32(data, 4), _u16(data, 2), int(np.int64(data[1]))
    sections = _sections(data, end, states[0].shape[1], scale, scratch[3])
    if sections[4] == 0:
        return MALFORMED
    rows = local_i64(ROWS)
    _ages(tick, states[5][client], rows)
    if flags & HAS_LEAVES:
        _mark_left(data, sections[1], rows)
    bases = (states[0][client], states[3][client], states[4][client], states[6][client])
    count, reason = _records(data, sections[4], end, rows, bases, codec, scratch)
    if count < 0:
        return reason
    mask[client] = _acknowledged(int(np.int64(sequence[client])), new, int(np.int64(mask[client])))
    sequence[client] = new
    _keep_head(data, sections[0], head[client], owner[client])
    if flags & HAS_LEAVES:
        _take_leaves(data, sections[1], states, client)
    _keep_states(client, new % states[5].shape[1], tick, count, states, scratch)
    if flags & HAS_ZONE:
        zone[0], zone[1] = sections[2] + 2, _u16(data, sections[2])
    if flags & HAS_EVENTS:
        number, party, place = events[0][client], events[1][client], events[2][client]
        _keep_events(tick, data, (sections[3], sections[4]), scale, head[client], number, party, place)
    return ACCEPTED


@kernel(
    f"(i4[::1], u1[:,::1], i4[::1], {HEADS_TYPE}, {STATES_TYPE}, {EVENTS_TYPE}, {CODEC_TYPE},"
    f" UniTuple(f8, 2), {SCRATCH_TYPE}, i8[::1], {RESULTS_TYPE})",
    counted=False,
)
def receive(
    client: I32,
    payload: U8,
    length: I32,
    heads: Heads,
    states: States,
    events: Events,
    codec: Codec,
    scale: tuple[float, float],
    scratch: Scratch,
    counters: I64,
    results: Results,
) -> int:
    """Take payload[i, :length[i]] for client[i], in this order; how many were accepted. Counts outcomes by reason."""
    outcome, zone = results
    accepted = 0
    for i in range(client.shape[0]):
        zone[i, 0], zone[i, 1] = 0, 0
        result = _receive_one(
            int(np.int64(client[i])),
            payload[i],
            int(np.int64(length[i])),
            heads,
            states,
            events,
            codec,
            scale,
            scratch,
            zone[i],
        )
        outcome[i] = result
        counters[result] += 1
        if result == ACCEPTED:
            accepted += 1
    return accepted


@kernel(counted=False)
def _extrapolate(client: int, slot: int, row: int, ticks: float, states: States, codec: Codec, out: F64) -> None:
    """Position `ticks` after the state in `row`, in position units: on the parabola by which the server reckons."""
    fields = states[3][client, row, slot]
    kind, order = reckoned_order(fields, codec)
    for axis in range(3):
        gain = 0.5 * codec[2][kind, POSITION_GAIN + axis] * ticks * ticks if order == 2 else 0.0
        way = fields[3 + axis] * codec[1][SCALE] * ticks if order > 0 else 0.0
        out[axis] = fields[axis] + (way + gain) / 65536.0


@kernel(counted=False)
def _newest(row_tick: I32) -> float:
    """Tick of the newest snapshot kept; −1 for none."""
    newest = EMPTY
    for row in range(row_tick.shape[0]):
        newest = max(newest, int(np.int64(row_tick[row])))
    return float(newest)


@kernel(counted=False)
def _surrounding(client: int, slot: int, moment: float, states: States) -> tuple[int, int]:
    """Rows of the newest state not after `moment` and of the oldest after it; −1 where there is none."""
    valid, ticks = states[4][client, slot], states[5][client]
    before, after = -1, -1
    for row in range(ticks.shape[0]):
        if (valid >> np.uint64(row)) & np.uint64(1) == np.uint64(0):
            continue
        if ticks[row] <= moment:
            if before < 0 or ticks[row] > ticks[before]:
                before = row
        elif after < 0 or ticks[row] < ticks[after]:
            after = row
    return before, after


@kernel(f"(f8[::1], {STATES_TYPE}, UniTuple(f8, 3), {CODEC_TYPE}, f8[:,:,::1], u1[:,::1], f8[::1])", counted=False)
def interpolate(
    moment: F64, states: States, options: tuple[float, float, float], codec: Codec, position: F64, shown: U8, spare: F64
) -> int:
    """Where each entity is at client's `moment` [ticks]: between the states around it, else dead reckoned.

    options: position step [m], limit of extrapolation after the newest snapshot [ticks], longest gap to interpolate
    over [ticks] — of an entity that goes on as reckoned nothing is sent, so that before its next state it is reckoned
    from the last one, however old, and not drawn out.
    """
    step, limit, gap_max = options
    count = 0
    for client in range(moment.shape[0]):
        now = min(moment[client], _newest(states[5][client]) + limit)
        for slot in range(states[0].shape[1]):
            shown[client, slot] = 0
            if states[0][client, slot] == np.uint64(0):
                continue
            before, after = _surrounding(client, slot, now, states)
            out = position[client, slot]
            if before < 0 and after < 0:
                for axis in range(3):
                    out[axis] = states[2][client, slot, axis]
            elif before < 0:
                continue  # it has not come yet at this moment
            else:
                start = float(states[5][client, before])
                _extrapolate(client, slot, before, now - start, states, codec, out)
                if after >= 0:
                    finish = float(states[5][client, after])
                    begin = max(start, finish - gap_max)
                    part = min(max((now - begin) / (finish - begin), 0.0), 1.0)
                    _extrapolate(client, slot, before, begin - start, states, codec, spare)
                    for axis in range(3):
                        there = float(states[3][client, after, slot, axis])
                        if now > begin:
                            out[axis] = spare[axis] + (there - spare[axis]) * part
            for axis in range(3):
                out[axis] *= step
            shown[client, slot] = 1
            count += 1
    return count
