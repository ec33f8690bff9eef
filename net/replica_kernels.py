"""Decoding a batch of snapshots into the replicas of a group of clients, whole or not at all.

Layout: net/snapshots.py. State per client and slot is a ring of the states received, one row per snapshot
(row = sequence mod ring), because any of them may be the baseline of a later record.
"""

import numpy as np

from net.bits_kernels import BAD_POSITION
from net.snapshots_kernels import AGE_MASK, decode_delta, decode_event, decode_full
from sim.arrays import F64, I32, I64, U8, U32, U64
from sim.jit import kernel

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
HEADER, OWNER_MAX, BITMAP_MAX = 16, 128, 16
EMPTY = -1  # tick of a row that holds no snapshot, or of a slot that holds no entity

# heads: sequence (−1: none yet); acknowledged mask; columns below; owner section
HEADS_TYPE = "Tuple((i4[::1], u4[::1], i8[:,::1], u1[:,::1]))"
Heads = tuple[I32, U32, I64, U8]
TICK, INPUT_TICK, LEAD, TARGET_LEAD, OWNER_BYTES, EVENT_COUNT = 0, 1, 2, 3, 4, 5
HEAD_COLUMNS = 6
# states: entity id, tick, fields, ring of fields, rows that hold a state of this slot's entity, tick of each row
STATES_TYPE = "Tuple((u8[:,::1], i4[:,::1], i4[:,:,::1], i4[:,:,:,::1], u8[:,::1], i4[:,::1]))"
States = tuple[U64, I32, I32, I32, U64, I32]
# events, a ring: tick, kind, value; actor, target; position, vector
EVENTS_TYPE = "Tuple((i8[:,:,::1], u8[:,:,::1], f8[:,:,:,::1]))"
Events = tuple[I64, U64, F64]
# scratch: fields and id per record, slot per record, event position and vector
SCRATCH_TYPE = "Tuple((i4[:,::1], u8[::1], i4[::1], f8[:,::1]))"
Scratch = tuple[I32, U64, I32, F64]
# what the records of one client are decoded against: entity ids, ring of fields, rows held, tick of each row
Bases = tuple[U64, I32, U64, I32]


@kernel(counted=False)
def _u16(data: U8, at: int) -> int:
    return int(np.int64(data[at])) | int(np.int64(data[at + 1])) << 8


@kernel(counted=False)
def _u32(data: U8, at: int) -> int:
    return _u16(data, at) | _u16(data, at + 2) << 16


@kernel(counted=False)
def _baseline_row(tick: int, valid: np.uint64, row_tick: I32) -> int:
    """The ring row among `valid` with the state at `tick`, or −1."""
    for row in range(row_tick.shape[0]):
        if row_tick[row] == tick and (valid >> np.uint64(row)) & np.uint64(1) != np.uint64(0):
            return row
    return -1


@kernel(counted=False)
def _left(slot: int, data: U8, at: int) -> int:
    """Whether the leave list at byte `at` names `slot`."""
    for i in range(int(np.int64(data[at]))):
        if int(np.int64(data[at + 1 + i])) & 127 == slot:
            return 1
    return 0


@kernel(counted=False)
def _record(
    slot: int,
    tick: int,
    data: U8,
    spot: tuple[int, int, int],
    bases: Bases,
    table: I64,
    velocity_scale: int,
    fields: I32,
) -> tuple[int, np.uint64, int]:
    """Decode the record at spot = (byte, end, leave list) into `fields`: the byte after it, the id, and why not."""
    at, end, leaves = spot
    identity, ring, valid, row_tick = bases
    if at >= end or slot >= identity.shape[0]:
        return BAD_POSITION, np.uint64(0), MALFORMED
    age = int(np.int64(data[at])) & AGE_MASK
    if age == 0:
        after, entity = decode_full(data, at, end, table, fields)
        if entity == np.uint64(0):
            after = BAD_POSITION
        return after, entity, MALFORMED
    row = _baseline_row(tick - age, valid[slot], row_tick)
    if row < 0 or _left(slot, data, leaves) != 0:
        return BAD_POSITION, np.uint64(0), BAD_BASELINE
    after = decode_delta(data, at, end, ring[row, slot], table, velocity_scale, fields)
    return after, identity[slot], MALFORMED


@kernel(counted=False)
def _records(
    tick: int,
    data: U8,
    spot: tuple[int, int, int],
    bases: Bases,
    table: I64,
    velocity_scale: int,
    scratch: Scratch,
) -> tuple[int, int, int]:
    """Decode the bitmap and its records at spot = (byte, end, leave list): the byte after them, how many, why not."""
    at, end, leaves = spot
    count = 0
    if at >= end or int(np.int64(data[at])) > BITMAP_MAX or at + 1 + int(np.int64(data[at])) > end:
        return BAD_POSITION, 0, MALFORMED
    bitmap, size = at + 1, int(np.int64(data[at]))
    at = bitmap + size
    for slot in range(8 * size):
        if int(np.int64(data[bitmap + (slot >> 3)])) >> (slot & 7) & 1 == 0:
            continue
        spot = (at, end, leaves)
        at, entity, reason = _record(slot, tick, data, spot, bases, table, velocity_scale, scratch[0][count])
        if at > end:
            return BAD_POSITION, 0, reason
        scratch[1][count] = entity
        scratch[2][count] = slot
        count += 1
    return at, count, ACCEPTED


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
def _acknowledged(newest: int, new: int, mask: int) -> int:
    """The mask of earlier snapshots taken, once `new` is the newest."""
    ahead = 0 if newest < 0 else (new - newest) & 0xFFFF
    return (mask << ahead | 1 << (ahead - 1)) & 0xFFFFFFFF if 0 < ahead <= 32 else 0


@kernel(counted=False)
def _keep_head(data: U8, head: I64, owner: U8) -> None:
    """Take over header and owner section."""
    head[TICK] = _u32(data, 4)
    head[INPUT_TICK] = _u32(data, 8)
    head[LEAD] = (_u16(data, 12) ^ 0x8000) - 0x8000
    head[TARGET_LEAD] = data[14]
    head[OWNER_BYTES] = data[15]
    for i in range(int(np.int64(data[15]))):
        owner[i] = data[HEADER + i]


@kernel(counted=False)
def _keep_states(client: int, row: int, tick: int, count: int, leaves: U8, states: States, scratch: Scratch) -> None:
    """Open ring row `row` for this snapshot, empty the slots that are left, and store the decoded records."""
    identity, newest, fields = states[0][client], states[1][client], states[2][client]
    ring, valid = states[3][client, row], states[4][client]
    bit = np.uint64(1) << np.uint64(row)
    states[5][client, row] = tick
    for slot in range(identity.shape[0]):
        valid[slot] &= ~bit
    for i in range(leaves.shape[0]):
        slot = int(np.int64(leaves[i])) & 127
        identity[slot] = 0
        newest[slot] = EMPTY
        valid[slot] = 0
    for i in range(count):
        slot = int(np.int64(scratch[2][i]))
        if identity[slot] != scratch[1][i]:
            identity[slot] = scratch[1][i]
            valid[slot] = 0
        valid[slot] |= bit
        newest[slot] = tick
        for f in range(fields.shape[1]):
            fields[slot, f] = scratch[0][i, f]
            ring[slot, f] = scratch[0][i, f]


@kernel(counted=False)
def _head_fault(data: U8, end: int, sequence: int, last: int) -> int:
    """Why this snapshot is not to be read further, or `ACCEPTED`; `sequence` and tick `last` are the newest taken."""
    if end < HEADER + 3:
        return MALFORMED
    if data[0] != 1:
        return WRONG_TYPE
    tick = _u32(data, 4)
    if data[1] != 0 or data[15] > OWNER_MAX or tick == 0 or tick > 0x7FFFFFFF:
        return MALFORMED
    if sequence >= 0:
        ahead = (_u16(data, 2) - sequence) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            return STALE
        if tick <= last:
            return MALFORMED
    return ACCEPTED


@kernel(counted=False)
def _leaves_end(data: U8, at: int, end: int, slots: int) -> int:
    """The byte after the leave list at byte `at`, beyond the end where it is malformed."""
    if at >= end or at + 1 + int(np.int64(data[at])) > end:
        return BAD_POSITION
    for i in range(int(np.int64(data[at]))):
        if int(np.int64(data[at + 1 + i])) & 127 >= slots:
            return BAD_POSITION
    return at + 1 + int(np.int64(data[at]))


@kernel(counted=False)
def _receive_one(
    client: int,
    data: U8,
    end: int,
    heads: Heads,
    states: States,
    events: Events,
    table: I64,
    velocity_scale: int,
    scale: tuple[float, float],
    scratch: Scratch,
) -> int:
    """Check and decode all of one snapshot, and only then apply it; `ACCEPTED` or the reason why not."""
    sequence, mask, head, owner = heads
    fault = _head_fault(data, end, int(np.int64(sequence[client])), int(np.int64(head[client, TICK])))
    if fault != ACCEPTED:
        return fault
    tick, new = _u32(data, 4), _u16(data, 2)
    leaves = HEADER + int(np.int64(data[15]))
    after_leaves = _leaves_end(data, leaves, end, states[0].shape[1])
    if after_leaves > end:
        return MALFORMED
    bases = (states[0][client], states[3][client], states[4][client], states[5][client])
    spot = (after_leaves, end, leaves)
    after, count, reason = _records(tick, data, spot, bases, table, velocity_scale, scratch)
    if after > end:
        return reason
    if _events_end(data, after, end, scale, scratch[3]) != end:
        return MALFORMED
    mask[client] = _acknowledged(int(np.int64(sequence[client])), new, int(np.int64(mask[client])))
    sequence[client] = new
    _keep_head(data, head[client], owner[client])
    left = data[leaves + 1 : after_leaves]
    _keep_states(client, new % states[5].shape[1], tick, count, left, states, scratch)
    number, party, place = events[0][client], events[1][client], events[2][client]
    _keep_events(tick, data, (after, end), scale, head[client], number, party, place)
    return ACCEPTED


@kernel(
    f"(i4[::1], u1[:,::1], i4[::1], {HEADS_TYPE}, {STATES_TYPE}, {EVENTS_TYPE}, i8[:,::1], i8,"
    f" UniTuple(f8, 2), {SCRATCH_TYPE}, i8[::1], i4[::1])",
    counted=False,
)
def receive(
    client: I32,
    payload: U8,
    length: I32,
    heads: Heads,
    states: States,
    events: Events,
    table: I64,
    velocity_scale: int,
    scale: tuple[float, float],
    scratch: Scratch,
    counters: I64,
    outcome: I32,
) -> int:
    """Take payload[i, :length[i]] for client[i], in this order; how many were accepted. Counts outcomes by reason."""
    accepted = 0
    for i in range(client.shape[0]):
        result = _receive_one(
            int(np.int64(client[i])),
            payload[i],
            int(np.int64(length[i])),
            heads,
            states,
            events,
            table,
            velocity_scale,
            scale,
            scratch,
        )
        outcome[i] = result
        counters[result] += 1
        if result == ACCEPTED:
            accepted += 1
    return accepted


@kernel(counted=False)
def _extrapolate(client: int, slot: int, row: int, ticks: float, states: States, per_tick: float, out: F64) -> None:
    """Position `ticks` after the state in `row`, in position units."""
    fields = states[3][client, row, slot]
    for axis in range(3):
        out[axis] = fields[axis] + fields[3 + axis] * per_tick * ticks


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


@kernel(f"(f8[::1], {STATES_TYPE}, UniTuple(f8, 4), f8[:,:,::1], u1[:,::1], f8[::1])", counted=False)
def interpolate(
    moment: F64, states: States, options: tuple[float, float, float, float], position: F64, shown: U8, spare: F64
) -> int:
    """Where each entity is at client's `moment` [ticks]: between the states around it, else dead reckoned.

    options: position step [m], velocity steps a tick, limit of extrapolation [ticks], longest gap to interpolate
    over [ticks] — an entity that rested sends nothing, so before its next state it is held, not drawn out.
    """
    step, per_tick, limit, gap_max = options
    count = 0
    for client in range(moment.shape[0]):
        now = moment[client]
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
                _extrapolate(client, slot, before, min(now - start, limit), states, per_tick, out)
                if after >= 0:
                    finish = float(states[5][client, after])
                    begin = max(start, finish - gap_max)
                    part = min(max((now - begin) / (finish - begin), 0.0), 1.0)
                    _extrapolate(client, slot, before, min(begin - start, limit), states, per_tick, spare)
                    for axis in range(3):
                        there = float(states[3][client, after, slot, axis])
                        if now > begin:
                            out[axis] = spare[axis] + (there - spare[axis]) * part
            for axis in range(3):
                out[axis] *= step
            shown[client, slot] = 1
            count += 1
    return count
