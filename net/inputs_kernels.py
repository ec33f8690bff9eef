"""Kernels behind `net.inputs`: COMMAND payloads into rings of inputs. One input per tick: `net.inputs_take_kernels`.

COMMAND, client → server (little endian; one netcode payload each, 21..88 bytes, the length is exact):

| offset | type | field |
|---|---|---|
| 0 | u8 | 1 (`PAYLOAD_COMMAND`) |
| 1 | u8 | bits 0..3: number of inputs, 1..8; bit 5: view; bit 6: claim; bit 7: the two acknowledgement fields hold |
| 2 | u16 | sequence of the newest snapshot received |
| 4 | u32 | bit i: snapshot sequence − 1 − i was received as well |
| 8 | u32 | tick of the newest input |
| 12 | 9 × n | inputs, newest first, of consecutive ticks going back |
| 12 + 9 n | u16 | only where bit 6 is set: the claim for the newest input's tick (`net.claims`) |
| then | u16 | only where bit 5 is set: how far before the newest input's tick the others were shown [1/256 tick] |

An input of 9 bytes: buttons u16 (JUMP 1, CROUCH 2, WALK 4, FIRE 8, ALT_FIRE 16, RELOAD 32, USE 64), move_forward i8,
move_right i8 (−127..127), yaw u16 (65536 = one turn), pitch i16 (same unit, −16383..16383), weapon u8.

Only the newest input has a claim. One for each of the (usually three) inputs of a command would cost 4 bytes more at
every tick, and would spare one owner section where a command was lost and its input came in time all the same.

The view (`net.moments_kernels`; 65535: nothing is shown) holds for the older inputs of a command as well: what is shown
moves on by a tick per tick, within the 3 % of the client's clock and the 4 % (12 % where no snapshots come) of its
playback. For an input that comes only as a copy, usually one tick back, that is less than 1/6 tick. One view for each
of three inputs would cost 4 bytes more.

The input of tick T is what the step that makes tick T reads; so the state a snapshot of tick T carries is the state
after the input of tick T, and a client compares it with what it predicted for T.

A ring holds, per client, the inputs of 64 consecutive ticks at most: tick T stands at T mod 64, tagged with T.
"""

import math
from typing import TypeAlias

import numpy as np

from net.claims_kernels import NO_CLAIM
from net.moments_kernels import (
    CLAIMED,
    FINE,
    NO_VIEW,
    OTHER,
    PATH_RTT,
    RECENT,
    VIEWS,
    judge_view,
    note_need,
)
from sim.arrays import F64, I32, I64, U8, U16, U32
from sim.jit import kernel

__all__ = [
    "ACK_FLAG",
    "ACK_NEWEST",
    "ACK_TICK",
    "APPLIED",
    "CHANGES",
    "CLAIM",
    "CLAIM_BYTES",
    "CLAIM_FLAG",
    "COMMAND_BYTES_MAX",
    "COMMAND_HEADER_BYTES",
    "COUNTERS",
    "COUNT_ABSENT",
    "COUNT_EXTRAPOLATED",
    "COUNT_VIEW_CAPPED",
    "FIELDS",
    "INPUTS_MAX",
    "INPUTS_TYPE",
    "INPUT_BYTES",
    "JITTER",
    "LATE_RATE",
    "LEAD_MEAN",
    "LEAD_NONE",
    "LEAD_Q4",
    "MISSING",
    "NEWEST",
    "NUMBERS",
    "PAYLOAD_COMMAND",
    "PAYLOAD_MESSAGE",
    "PITCH_MAX",
    "RAISED",
    "RATES",
    "RECEIVED",
    "RING_TICKS",
    "RTT",
    "RTT_VARIATION",
    "SENT_RING",
    "SURPLUS",
    "TARGET",
    "VIEW_BYTES",
    "VIEW_FLAG",
    "WINDOW",
    "Inputs",
    "decode_commands",
    "get_i8",
    "get_i16",
    "get_u16",
    "get_u32",
    "note_sent",
    "reset_rows",
]

PAYLOAD_COMMAND = 1
PAYLOAD_MESSAGE = 2
COMMAND_HEADER_BYTES = 12
INPUT_BYTES = 9
INPUTS_MAX = 8
CLAIM_BYTES = 2
VIEW_BYTES = 2
COMMAND_BYTES_MAX = COMMAND_HEADER_BYTES + INPUTS_MAX * INPUT_BYTES + CLAIM_BYTES + VIEW_BYTES
ACK_FLAG = 0x80
CLAIM_FLAG = 0x40
VIEW_FLAG = 0x20
PITCH_MAX = 16383
MOVE_MAX = 127
BUTTONS_KNOWN = 0x7F

RING_TICKS = 64
SENT_RING = 64
FIELDS = 6  # of an input in a ring: buttons, move_forward, move_right, yaw, pitch, weapon
LEAD_NONE = -32768  # lead_q4 of a client from which no command came since its last snapshot
LEAD_CLIP = 2000.0  # ticks, so that lead_q4 fits 16 bits

# The rings of inputs; moment of a batch; rows of numbers that are measured: see `decode_commands`.
INPUTS_TYPE = "Tuple((i4[:,:,::1], i8[:,::1], i4[:,::1], i4[:,::1]))"
Inputs: TypeAlias = tuple[I32, I64, I32, I32]
MOMENT_TYPE = "Tuple((i8, f8, f8, i8, i8, i8, UniTuple(f8, 4)))"
Moment: TypeAlias = tuple[int, float, float, int, int, int, tuple[float, float, float, float]]
RATES_TYPE = "UniTuple(f8[:,::1], 2)"
Rates: TypeAlias = tuple[F64, F64]

# Rows of `numbers`, int64 (NUMBERS, clients).
NEWEST = 0  # tick of the newest input received, −1 before the first
APPLIED = 1  # newest received input that a tick has read, 0 before the first
MISSING = 2  # ticks in a row that had to do without
ACK_NEWEST = 3  # newest snapshot sequence acknowledged, −1 before the first
RECEIVED = 4  # commands since the last tick
TARGET = 5  # how early the newest command should come [ticks]
WINDOW = 6  # tick at which the present surplus window began
RAISED = 7  # tick of the last raise for lateness
SAMPLES = 8  # arrivals measured, for quick first averages
LEAD_Q4 = 9  # how early the last command came [1/16 tick], or LEAD_NONE
CHANGES = 10  # how often the target changed
CLAIM = 11  # what the client claims to have predicted for the tick taken last, or NO_CLAIM
ACK_TICK = 12  # tick of the newest snapshot acknowledged, −1 before the first
NUMBERS = 13

# Rows of `rates`, float64 (RATES, clients).
RTT = 0  # smoothed round trip [ns], 0 before the first sample
RTT_VARIATION = 1  # its mean deviation [ns]
LEAD_LAST = 2  # how early the last command came [ticks]
LEAD_MEAN = 3
JITTER = 4  # variance of the one-way delay [ticks²]
LATE_RATE = 5  # share of ticks without an input, over about LATE_TICKS
SURPLUS = 6  # least earliness of any input in the present window [ticks]
RATES = 7

# Rows of `counters`, int64 (COUNTERS, clients); `net.inputs.InputCount` names them for metrics.
COUNT_COMMANDS = 0
COUNT_INPUTS = 1
COUNT_DUPLICATE = 2
COUNT_LATE = 3
COUNT_FUTURE = 4
COUNT_CLAMPED = 5
COUNT_EXTRAPOLATED = 6
COUNT_ABSENT = 7
COUNT_BAD_LENGTH = 8
COUNT_BAD_HEADER = 9
COUNT_FLOOD = 10
COUNT_UNKNOWN_TYPE = 11
COUNT_MESSAGE_OVERFLOW = 12
COUNT_VIEW_FUTURE = 13
COUNT_VIEW_PAST = 14
COUNT_VIEW_JUMP = 15
COUNT_VIEW_CAPPED = 16
COUNTERS = 17

JITTER_GAIN = 1.0 / 256.0  # with 1/64 the target changed every 8 s at a steady 25 ms of jitter
LEAD_GAIN = 1.0 / 32.0


@kernel(counted=False)
def get_u16(data: U8, at: int) -> int:
    """Unsigned 16-bit integer, low byte first."""
    return int(data[at]) | (int(data[at + 1]) << 8)


@kernel(counted=False)
def get_u32(data: U8, at: int) -> int:
    """Unsigned 32-bit integer, low byte first."""
    return get_u16(data, at) | (get_u16(data, at + 2) << 16)


@kernel(counted=False)
def get_i8(data: U8, at: int) -> int:
    """Signed 8-bit integer."""
    return (int(data[at]) ^ 0x80) - 0x80


@kernel(counted=False)
def get_i16(data: U8, at: int) -> int:
    """Signed 16-bit integer, low byte first."""
    return (get_u16(data, at) ^ 0x8000) - 0x8000


@kernel(counted=False, merge=True)
def _read_input(data: U8, at: int, ring: I32, client: int, slot: int) -> int:
    """Read an input into its place in a ring, brought into range; returns 1 if a value had to be changed for that."""
    buttons = get_u16(data, at)
    forward = get_i8(data, at + 2)
    right = get_i8(data, at + 3)
    pitch = get_i16(data, at + 6)
    known = buttons & BUTTONS_KNOWN
    kept = min(max(pitch, -PITCH_MAX), PITCH_MAX)
    ring[client, slot, 0] = known
    ring[client, slot, 1] = max(forward, -MOVE_MAX)
    ring[client, slot, 2] = max(right, -MOVE_MAX)
    ring[client, slot, 3] = get_u16(data, at + 4)
    ring[client, slot, 4] = kept
    ring[client, slot, 5] = int(data[at + 8])
    changed = buttons != known or forward < -MOVE_MAX or right < -MOVE_MAX or pitch != kept
    return 1 if changed else 0


@kernel(counted=False, merge=True)
def _note_lead(client: int, lead: float, numbers: I64, rates: F64) -> None:
    """Measure how early a command came.

    Jitter is the variance of the delay, from differences of neighbours in order of arrival as in RFC 3550 (6.4.1), so
    that a client's slow clock correction does not pass for jitter; squares instead of magnitudes because 3σ is wanted.
    A difference is clipped to 4σ + 2 ticks: one jump of the client's clock must not look like seconds of bad network.
    """
    lead = min(max(lead, -LEAD_CLIP), LEAD_CLIP)
    if numbers[SAMPLES, client] == 0:
        rates[LEAD_MEAN, client] = lead
    else:
        difference = abs(lead - rates[LEAD_LAST, client])
        difference = min(difference, 4.0 * math.sqrt(rates[JITTER, client]) + 2.0)
        gain = max(JITTER_GAIN, 1.0 / (8.0 + numbers[SAMPLES, client]))
        rates[JITTER, client] += gain * (0.5 * difference * difference - rates[JITTER, client])
        rates[LEAD_MEAN, client] += LEAD_GAIN * (lead - rates[LEAD_MEAN, client])
    rates[LEAD_LAST, client] = lead
    numbers[SAMPLES, client] += 1
    numbers[LEAD_Q4, client] = math.floor(lead * 16.0)


@kernel(counted=False)
def _early(arrival: int, when: Moment) -> float:
    """How long before the step of the next tick something came [ticks]."""
    return (when[1] + float(when[3] - arrival)) / when[2]


@kernel(counted=False, merge=True)
def _note_age(
    client: int, sequence: int, before: int, arrival: int, when: Moment, sent: I64, rates: F64, views: F64
) -> None:
    """Learn how late a client has its snapshots, as one after that of tick `before` is acknowledged."""
    trip, path = rates[RTT, client], views[PATH_RTT, client]
    trip = min(trip, path) if path > 0.0 else trip
    earlier = (sequence - 1) & (SENT_RING - 1)
    interval = 1.0
    if sent[client, earlier, 0] == (sequence - 1) & 0xFFFF:
        interval = max(1.0, float(sent[client, sequence & (SENT_RING - 1), 2] - sent[client, earlier, 2]))
    # The last command before this one, which did without that snapshot, was made a tick earlier.
    need = when[0] - _early(arrival, when) - 1.0 - before
    passed = float(sent[client, sequence & (SENT_RING - 1), 2] - before)
    trip = (trip + 4.0 * rates[RTT_VARIATION, client]) / when[2]
    note_need(client, need, passed, trip, interval, when[6], views)


@kernel(counted=False, merge=True)
def _note_ack(client: int, sequence: int, arrival: int, when: Moment, sent: I64, numbers: I64, rates: Rates) -> None:
    """Measure the round trip from the first acknowledgement of a snapshot, smoothed as in RFC 6298, section 2."""
    newest = numbers[ACK_NEWEST, client]
    if newest >= 0 and not 0 < ((sequence - newest) & 0xFFFF) < 0x8000:
        return
    slot = sequence & (SENT_RING - 1)
    if sent[client, slot, 0] != sequence:
        return  # never sent, or too long ago: replication counts false acknowledgements
    before = numbers[ACK_TICK, client] if newest >= 0 else sent[client, slot, 2]
    numbers[ACK_NEWEST, client] = sequence
    numbers[ACK_TICK, client] = sent[client, slot, 2]
    trips = rates[0]
    sample = float(arrival - sent[client, slot, 1])
    if sample >= 0.0:
        if trips[RTT, client] == 0.0:
            trips[RTT, client] = sample
            trips[RTT_VARIATION, client] = 0.5 * sample
        else:
            trips[RTT_VARIATION, client] += 0.25 * (abs(trips[RTT, client] - sample) - trips[RTT_VARIATION, client])
            trips[RTT, client] += 0.125 * (sample - trips[RTT, client])
    _note_age(client, sequence, before, arrival, when, sent, trips, rates[1])


@kernel(counted=False, merge=True)
def _store_inputs(
    arena: U8, at: int, count: int, told: tuple[int, int], client: int, newest: int, when: Moment, early: float,
    inputs: Inputs, rates: F64, counters: I64,
) -> None:  # fmt: skip
    """Put the inputs of one command into the client's ring, those that are neither late, far ahead nor known.

    What is `told` with them, claim and age, joins the newest even where a later command, overtaking, has brought that.
    """
    ring, ring_tick, claims, ages = inputs
    tick, future_max = when[0], when[4]
    claim, age = told
    for index in range(count):
        wanted = newest - index
        slot = wanted & (RING_TICKS - 1)
        lead = wanted - tick + early
        if wanted < tick:
            # Redundant copies of what was applied long ago are no fault; only one never seen is late.
            if wanted < 0 or ring_tick[client, slot] >= wanted:
                counters[COUNT_DUPLICATE, client] += 1
            else:
                counters[COUNT_LATE, client] += 1
                ring_tick[client, slot] = wanted
                rates[SURPLUS, client] = min(rates[SURPLUS, client], lead)
        elif wanted > tick + future_max:
            counters[COUNT_FUTURE, client] += 1
        elif ring_tick[client, slot] == wanted:
            counters[COUNT_DUPLICATE, client] += 1
            if index == 0:
                claims[client, slot] = claim if claim != NO_CLAIM else claims[client, slot]
                ages[client, slot] = age
        else:
            ring_tick[client, slot] = wanted
            ages[client, slot] = age
            claims[client, slot] = claim if index == 0 else NO_CLAIM
            counters[COUNT_CLAMPED, client] += _read_input(arena, at + index * INPUT_BYTES, ring, client, slot)
            counters[COUNT_INPUTS, client] += 1
            rates[SURPLUS, client] = min(rates[SURPLUS, client], lead)


@kernel(counted=False)
def _refusal(arena: U8, at: int, length: int, client: int, flood_max: int, numbers: I64) -> int:
    """The counter row of what is wrong with a payload that says it is a COMMAND, or −1 if nothing is."""
    if length < COMMAND_HEADER_BYTES + INPUT_BYTES:
        return COUNT_BAD_LENGTH
    header = int(arena[at + 1])
    count = header & 0x0F
    if header & 0x10 or count < 1 or count > INPUTS_MAX:
        return COUNT_BAD_HEADER
    told = (CLAIM_BYTES if header & CLAIM_FLAG else 0) + (VIEW_BYTES if header & VIEW_FLAG else 0)
    if length != COMMAND_HEADER_BYTES + count * INPUT_BYTES + told:
        return COUNT_BAD_LENGTH
    if numbers[RECEIVED, client] >= flood_max:
        return COUNT_FLOOD
    return -1


@kernel(counted=False, merge=True)
def _judge(
    client: int, view: int, newest: int, early: float, when: Moment, numbers: I64, rates: Rates, counters: I64
) -> int:
    """The age at which the inputs of a command are judged [1/256 tick]; what is wrong with its claim is counted."""
    lead = newest - when[0] + early
    if newest < when[0] or newest > when[0] + when[4]:
        return 0  # none of its inputs will be taken
    age, verdict = judge_view(
        client, newest, view, lead, rates[0][LEAD_MEAN, client], numbers[ACK_TICK, client], when[6], rates[1]
    )  # fmt: skip
    if verdict != FINE:
        counters[COUNT_VIEW_FUTURE + verdict, client] += 1
    return age


@kernel(counted=False, merge=True)
def _take_command(
    arena: U8, at: int, length: int, client: int, arrival: int, when: Moment, inputs: Inputs, sent: I64, numbers: I64,
    rates: Rates, counters: I64,
) -> None:  # fmt: skip
    """Take in one well-formed command: lead, acknowledgement, view, inputs."""
    header, newest, early = int(arena[at + 1]), get_u32(arena, at + 8), _early(arrival, when)
    _note_lead(client, newest - when[0] + early, numbers, rates[0])
    if newest <= when[0] + when[4]:
        numbers[NEWEST, client] = max(numbers[NEWEST, client], newest)
    # Before the view is judged: a client shows what it acknowledges.
    if header & ACK_FLAG:
        _note_ack(client, get_u16(arena, at + 2), arrival, when, sent, numbers, rates)
    end = at + length
    view = NO_VIEW
    if header & VIEW_FLAG:
        end -= VIEW_BYTES
        view = get_u16(arena, end)
    claim = get_u16(arena, end - CLAIM_BYTES) if header & CLAIM_FLAG else NO_CLAIM
    age = _judge(client, view, newest, early, when, numbers, rates, counters)
    _store_inputs(
        arena, at + COMMAND_HEADER_BYTES, header & 0x0F, (claim, age), client, newest, when, early, inputs, rates[0],
        counters,
    )  # fmt: skip


@kernel(
    f"(u1[::1], Tuple((i4[::1], i8[::1], i4[::1], i8[::1])), i8, {MOMENT_TYPE}, {INPUTS_TYPE}, i8[:,:,::1],"
    f" i8[:,::1], {RATES_TYPE}, i8[:,::1], Tuple((i4[::1], i4[::1], u4[::1])), i4[::1], i8[::1])",
    counted=False,
)
def decode_commands(
    arena: U8, payloads: tuple[I32, I64, I32, I64], count: int, moment: Moment, inputs: Inputs, sent: I64,
    numbers: I64, rates: Rates, counters: I64, acks: tuple[I32, I32, U32], messages: I32, made: I64,
) -> None:  # fmt: skip
    """Sort payloads: commands into the rings, acknowledgements and messages into lists.

    Args:
        arena: Bytes the payloads lie in.
        payloads: Client, offset, length and arrival [ns] of each; an arrival of 0 or later than now is now.
        count: How many.
        moment: Tick to be made next; how long before its step this is [ns]; a tick's length [ns]; now [ns]; how far
            ahead an input may be [ticks]; commands a client may send in a tick; options of `net.moments_kernels`.
        inputs: `ring`, int32 (clients, 64, 6); the tick at each place, int64 (clients, 64); its claim or `NO_CLAIM`
            and the age of what its player saw [1/256 tick], int32 (clients, 64).
        sent: Sequence, time [ns] and tick of the last snapshots sent, int64 (clients, 64, 3).
        numbers: Rows as named above.
        rates: Rows as named above; rows of `net.moments_kernels`.
        counters: Rows as named above.
        acks: Client, sequence and mask of each acknowledgement; as long as the payloads can be many.
        messages: Indices of the payloads that are messages; what does not fit is dropped and counted.
        made: Number of acknowledgements, number of messages.
    """
    now = moment[3]
    clients, offsets, lengths, received = payloads
    ring = inputs[0]
    ack_client, ack_sequence, ack_mask = acks
    made[0] = 0
    made[1] = 0
    for index in range(count):
        client, at, length = int(clients[index]), int(offsets[index]), int(lengths[index])
        if client < 0 or client >= ring.shape[0] or at < 0 or length < 0 or at + length > arena.shape[0]:
            continue  # our own caller's mistake; the face has checked the whole batch
        kind = int(arena[at]) if length > 0 else 0
        if kind == PAYLOAD_MESSAGE:
            if made[1] < messages.shape[0]:
                messages[made[1]] = index
                made[1] += 1
            else:
                counters[COUNT_MESSAGE_OVERFLOW, client] += 1
            continue
        reason = _refusal(arena, at, length, client, moment[5], numbers)
        if kind != PAYLOAD_COMMAND:
            reason = COUNT_UNKNOWN_TYPE
        if reason >= 0:
            counters[reason, client] += 1
            continue
        numbers[RECEIVED, client] += 1
        counters[COUNT_COMMANDS, client] += 1
        arrival = min(received[index], now) if received[index] != 0 else now
        _take_command(arena, at, length, client, arrival, moment, inputs, sent, numbers, rates, counters)
        if int(arena[at + 1]) & ACK_FLAG and made[0] < ack_client.shape[0]:
            ack_client[made[0]] = client
            ack_sequence[made[0]] = get_u16(arena, at + 2)
            ack_mask[made[0]] = get_u32(arena, at + 4)
            made[0] += 1


@kernel("(i4[::1], u2[::1], i8, i8, i8, i8[:,:,::1], i8[:,::1])")
def note_sent(clients: I32, sequences: U16, count: int, now: int, tick: int, sent: I64, numbers: I64) -> None:
    """Remember when snapshots were sent, for the round trip, and that their leads have been reported.

    Args:
        clients: Client of each snapshot, int32.
        sequences: Its sequence, uint16.
        count: How many.
        now: Time of sending [ns].
        tick: What they tell of.
        sent: Sequence, time and tick by sequence mod 64, int64 (clients, 64, 3).
        numbers: Rows as named above.
    """
    for index in range(count):
        client = clients[index]
        if client < 0 or client >= sent.shape[0]:
            continue
        sequence = int(sequences[index])
        sent[client, sequence & (SENT_RING - 1), 0] = sequence
        sent[client, sequence & (SENT_RING - 1), 1] = now
        sent[client, sequence & (SENT_RING - 1), 2] = tick
        numbers[LEAD_Q4, client] = LEAD_NONE


@kernel(f"(i4[::1], i8, i8, i8[:,::1], i4[:,::1], i8[:,:,::1], i8[:,::1], {RATES_TYPE}, i8[:,::1])")
def reset_rows(
    clients: I32, tick: int, target: int, ring_tick: I64, last: I32, sent: I64, numbers: I64, rates: Rates,
    counters: I64,
) -> None:  # fmt: skip
    """Make the rows of clients as new: nothing received, nothing sent, the first target."""
    for client in clients:
        for place in range(RING_TICKS):
            ring_tick[client, place] = -1
        for field in range(FIELDS + 1):
            last[client, field] = 0
        for place in range(SENT_RING):
            sent[client, place, 0] = -1
        for row in range(NUMBERS):
            numbers[row, client] = 0
        for row in range(RATES):
            rates[0][row, client] = 0.0
        for row in range(VIEWS):
            rates[1][row, client] = 0.0
        for row in (RECENT, OTHER, CLAIMED):
            rates[1][row, client] = -1.0
        for row in range(COUNTERS):
            counters[row, client] = 0
        numbers[NEWEST, client] = -1
        numbers[ACK_NEWEST, client] = -1
        numbers[ACK_TICK, client] = -1
        numbers[CLAIM, client] = NO_CLAIM
        numbers[TARGET, client] = target
        numbers[WINDOW, client] = tick
        numbers[RAISED, client] = tick
        numbers[LEAD_Q4, client] = LEAD_NONE
        rates[0][JITTER, client] = 0.25
        rates[0][SURPLUS, client] = np.inf
