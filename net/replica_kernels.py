"""Decoding a batch of snapshots into the replicas of a group of clients, whole or not at all.

Layout: net/snapshots.py. State per client and slot is a ring of the states received, one row per snapshot
(row = sequence mod ring), because any of them may be the baseline of a later record.
"""

import numpy as np

from net.bits_kernels import BAD_POSITION
from net.snapshots_kernels import AGE_MASK, decode_delta, decode_event, decode_full
from sim.arrays import F64, I32, I64, U8, U16, U32, U64
from sim.jit import kernel

__all__ = [
    "ACCEPTED",
    "BAD_BASELINE",
    "EVENTS_TYPE",
    "HEADS_TYPE",
    "MALFORMED",
    "SCRATCH_TYPE",
    "STALE",
    "STATES_TYPE",
    "WRONG_TYPE",
    "interpolate",
    "receive",
]

ACCEPTED, STALE, WRONG_TYPE, MALFORMED, BAD_BASELINE = 0, 1, 2, 3, 4
HEADER, OWNER_MAX = 16, 128
EMPTY = -1  # tick of a row that holds no snapshot, or of a slot that holds no entity

# heads: sequence (−1: none yet), acknowledged mask, tick, input tick, lead, target lead, owner, owner bytes
HEADS_TYPE = "Tuple((i4[::1], u4[::1], i4[::1], i8[::1], i4[::1], i4[::1], u1[:,::1], i4[::1]))"
Heads = tuple[I32, U32, I32, I64, I32, I32, U8, I32]
# states: entity id, tick, fields, ring of fields, rows that hold a state of this slot's entity, tick of each row
STATES_TYPE = "Tuple((u8[:,::1], i4[:,::1], i4[:,:,::1], i4[:,:,:,::1], u8[:,::1], i4[:,::1]))"
States = tuple[U64, I32, I32, I32, U64, I32]
# events: ring of tick, kind, actor, target, position, vector, value; received so far
EVENTS_TYPE = "Tuple((i4[:,::1], u2[:,::1], u8[:,::1], u8[:,::1], f8[:,:,::1], f8[:,:,::1], i8[:,::1], i8[::1]))"
Events = tuple[I32, U16, U64, U64, F64, F64, I64, I64]
# scratch: fields and id per record, slot per record, and event position and vector
SCRATCH_TYPE = "Tuple((i4[:,::1], u8[::1], i4[::1], f8[::1], f8[::1]))"
Scratch = tuple[I32, U64, I32, F64, F64]


@kernel(counted=False)
def _u16(data: U8, at: int) -> int:
    return int(np.int64(data[at])) | int(np.int64(data[at + 1])) << 8


@kernel(counted=False)
def _u32(data: U8, at: int) -> int:
    return _u16(data, at) | _u16(data, at + 2) << 16


@kernel(counted=False)
def _baseline_row(client: int, slot: int, tick: int, states: States) -> int:
    """The ring row with the state of this slot's entity at `tick`, or −1."""
    valid = states[4][client, slot]
    ticks = states[5][client]
    for row in range(ticks.shape[0]):
        if ticks[row] == tick and (valid >> np.uint64(row)) & np.uint64(1) != np.uint64(0):
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
    client: int,
    slot: int,
    tick: int,
    data: U8,
    spot: tuple[int, int, int],
    states: States,
    table: I64,
    velocity_scale: int,
    index: int,
    scratch: Scratch,
) -> tuple[int, int]:
    """Decode the record at spot = (byte, end, leave list) into scratch row `index`: the byte after it, and why not."""
    at, end, leaves = spot
    if at >= end or slot >= states[0].shape[1]:
        return BAD_POSITION, MALFORMED
    age = int(np.int64(data[at])) & AGE_MASK
    fields = scratch[0][index]
    scratch[2][index] = slot
    if age == 0:
        after, identity = decode_full(data, at, end, table, fields)
        if identity == np.uint64(0):
            return BAD_POSITION, MALFORMED
        scratch[1][index] = identity
    else:
        row = _baseline_row(client, slot, tick - age, states)
        if row < 0 or _left(slot, data, leaves) != 0:
            return BAD_POSITION, BAD_BASELINE
        after = decode_delta(data, at, end, states[3][client, row, slot], table, velocity_scale, fields)
        scratch[1][index] = states[0][client, slot]
    return after, MALFORMED


@kernel(counted=False)
def _records(
    client: int,
    tick: int,
    data: U8,
    spot: tuple[int, int, int],
    states: States,
    table: I64,
    velocity_scale: int,
    scratch: Scratch,
) -> tuple[int, int, int]:
    """Decode the bitmap and its records at spot = (byte, end, leave list): the byte after them, how many, why not."""
    at, end, leaves = spot
    count, reason = 0, MALFORMED
    if at >= end or int(np.int64(data[at])) > 16 or at + 1 + int(np.int64(data[at])) > end:
        return BAD_POSITION, 0, MALFORMED
    bitmap, bytes_ = at + 1, int(np.int64(data[at]))
    at = bitmap + bytes_
    for slot in range(8 * bytes_):
        if int(np.int64(data[bitmap + (slot >> 3)])) >> (slot & 7) & 1 == 0:
            continue
        at, reason = _record(client, slot, tick, data, (at, end, leaves), states, table, velocity_scale, count, scratch)
        if at > end:
            return BAD_POSITION, 0, reason
        count += 1
    return at, count, reason


@kernel(counted=False)
def _events_end(data: U8, at: int, end: int, scale: tuple[float, float], scratch: Scratch) -> int:
    """The byte after the event list at byte `at`, beyond the end where it is malformed."""
    if at >= end:
        return BAD_POSITION
    count = int(np.int64(data[at]))
    at += 1
    for _ in range(count):
        at, _age, _kind, _actor, _target, _value = decode_event(data, at, end, scale, scratch[3], scratch[4])
        if at > end:
            return BAD_POSITION
    return at


@kernel(counted=False)
def _keep_events(
    client: int, tick: int, data: U8, at: int, end: int, scale: tuple[float, float], events: Events
) -> None:
    """Append the event list at byte `at`, which is known to be sound, to the client's ring; the oldest give way."""
    ring = events[0].shape[1]
    count = int(np.int64(data[at]))
    at += 1
    for _ in range(count):
        k = events[7][client] % ring
        at, age, kind, actor, target, value = decode_event(
            data, at, end, scale, events[4][client, k], events[5][client, k]
        )
        events[0][client, k] = tick - age
        events[1][client, k] = kind
        events[2][client, k] = actor
        events[3][client, k] = target
        events[6][client, k] = value
        events[7][client] += 1


@kernel(counted=False)
def _keep_head(client: int, data: U8, heads: Heads) -> None:
    """Take over header and owner section, and note the sequence for acknowledgement."""
    sequence, mask, tick, input_tick, lead, target_lead, owner, owner_bytes = heads
    new = _u16(data, 2)
    ahead = 0 if sequence[client] < 0 else (new - int(np.int64(sequence[client]))) & 0xFFFF
    acknowledged = 0
    if 0 < ahead <= 32:
        acknowledged = (int(np.int64(mask[client])) << ahead | 1 << (ahead - 1)) & 0xFFFFFFFF
    mask[client] = acknowledged
    sequence[client] = new
    tick[client] = _u32(data, 4)
    input_tick[client] = _u32(data, 8)
    lead[client] = (_u16(data, 12) ^ 0x8000) - 0x8000
    target_lead[client] = int(np.int64(data[14]))
    owner_bytes[client] = int(np.int64(data[15]))
    for i in range(int(np.int64(data[15]))):
        owner[client, i] = data[HEADER + i]


@kernel(counted=False)
def _keep_states(client: int, row: int, tick: int, count: int, leaves: U8, states: States, scratch: Scratch) -> None:
    """Open ring row `row` for this snapshot, empty the slots that are left, and store the decoded records."""
    identity, newest, fields, ring, valid, row_tick = states
    bit = np.uint64(1) << np.uint64(row)
    row_tick[client, row] = tick
    for slot in range(identity.shape[1]):
        valid[client, slot] &= ~bit
    for i in range(leaves.shape[0]):
        slot = int(np.int64(leaves[i])) & 127
        identity[client, slot] = 0
        newest[client, slot] = EMPTY
        valid[client, slot] = 0
    for i in range(count):
        slot = int(np.int64(scratch[2][i]))
        if identity[client, slot] != scratch[1][i]:
            identity[client, slot] = scratch[1][i]
            valid[client, slot] = 0
        valid[client, slot] |= bit
        newest[client, slot] = tick
        for f in range(fields.shape[2]):
            fields[client, slot, f] = scratch[0][i, f]
            ring[client, row, slot, f] = scratch[0][i, f]


@kernel(counted=False)
def _head_fault(client: int, data: U8, end: int, heads: Heads) -> int:
    """Why this snapshot is not to be read further, or `ACCEPTED`."""
    if end < HEADER + 3:
        return MALFORMED
    if data[0] != 1:
        return WRONG_TYPE
    tick = _u32(data, 4)
    if data[1] != 0 or data[15] > OWNER_MAX or tick == 0 or tick > 0x7FFFFFFF:
        return MALFORMED
    if heads[0][client] >= 0:
        ahead = (_u16(data, 2) - int(np.int64(heads[0][client]))) & 0xFFFF
        if ahead == 0 or ahead >= 0x8000:
            return STALE
        if tick <= int(np.int64(heads[2][client])):
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
    fault = _head_fault(client, data, end, heads)
    if fault != ACCEPTED:
        return fault
    tick = _u32(data, 4)
    leaves = HEADER + int(np.int64(data[15]))
    after_leaves = _leaves_end(data, leaves, end, states[0].shape[1])
    if after_leaves > end:
        return MALFORMED
    spot = (after_leaves, end, leaves)
    after, count, reason = _records(client, tick, data, spot, states, table, velocity_scale, scratch)
    if after > end:
        return reason
    if _events_end(data, after, end, scale, scratch) != end:
        return MALFORMED
    row = _u16(data, 2) % states[5].shape[1]
    _keep_head(client, data, heads)
    left = data[leaves + 1 : after_leaves]
    _keep_states(client, row, tick, count, left, states, scratch)
    _keep_events(client, tick, data, after, end, scale, events)
    return ACCEPTED


@kernel(
    f"(i4[::1], u1[:,::1], i4[::1], {HEADS_TYPE}, {STATES_TYPE}, {EVENTS_TYPE}, i8[:,::1], i8,"
    f" UniTuple(f8, 2), {SCRATCH_TYPE}, i8[::1], i4[::1])"
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


@kernel(f"(f8[::1], {STATES_TYPE}, UniTuple(f8, 4), f8[:,:,::1], u1[:,::1], f8[::1])")
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
