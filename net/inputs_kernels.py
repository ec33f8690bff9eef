"""Kernels behind `net.inputs`: COMMAND payloads into rings of inputs, and from the rings one input per tick.

COMMAND, client → server (little endian; one netcode payload each, 21..86 bytes, the length is exact):

| offset | type | field |
|---|---|---|
| 0 | u8 | 1 (`PAYLOAD_COMMAND`) |
| 1 | u8 | bits 0..3: number of inputs, 1..8; bit 6: there is a claim; bit 7: the two acknowledgement fields hold |
| 2 | u16 | sequence of the newest snapshot received |
| 4 | u32 | bit i: snapshot sequence − 1 − i was received as well |
| 8 | u32 | tick of the newest input |
| 12 | 9 × n | inputs, newest first, of consecutive ticks going back |
| 12 + 9 n | u16 | only where bit 6 is set: the claim for the newest input's tick (`net.claims`) |

An input of 9 bytes: buttons u16 (JUMP 1, CROUCH 2, WALK 4, FIRE 8, ALT_FIRE 16, RELOAD 32, USE 64), move_forward i8,
move_right i8 (−127..127), yaw u16 (65536 = one turn), pitch i16 (same unit, −16383..16383), weapon u8.

Only the newest input has a claim. One for each of the (usually three) inputs of a command would cost 4 bytes more at
every tick, and would spare one owner section where a command was lost and its input came in time all the same.

The input of tick T is what the step that makes tick T reads; so the state a snapshot of tick T carries is the state
after the input of tick T, and a client compares it with what it predicted for T.

A ring holds, per client, the inputs of 64 consecutive ticks at most: tick T stands at T mod 64, tagged with T.
"""

import math

import numpy as np

from net.claims_kernels import NO_CLAIM
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U32, Bool
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
    "FIELDS",
    "INPUTS_MAX",
    "INPUT_BYTES",
    "JITTER",
    "LATE_RATE",
    "LEAD_MEAN",
    "LEAD_NONE",
    "LEAD_Q4",
    "NEWEST",
    "NUMBERS",
    "PAYLOAD_COMMAND",
    "PAYLOAD_MESSAGE",
    "PITCH_MAX",
    "RATES",
    "RING_TICKS",
    "RTT",
    "RTT_VARIATION",
    "SENT_RING",
    "TARGET",
    "decode_commands",
    "get_i8",
    "get_i16",
    "get_u16",
    "get_u32",
    "note_sent",
    "read_input",
    "reset_rows",
    "take_inputs",
]

PAYLOAD_COMMAND = 1
PAYLOAD_MESSAGE = 2
COMMAND_HEADER_BYTES = 12
INPUT_BYTES = 9
INPUTS_MAX = 8
CLAIM_BYTES = 2
COMMAND_BYTES_MAX = COMMAND_HEADER_BYTES + INPUTS_MAX * INPUT_BYTES + CLAIM_BYTES
ACK_FLAG = 0x80
CLAIM_FLAG = 0x40
PITCH_MAX = 16383
MOVE_MAX = 127
BUTTONS_KNOWN = 0x7F
BUTTONS_HELD = 0x06  # CROUCH and WALK: how a player stands, kept for as long as its inputs are missing

RING_TICKS = 64
SENT_RING = 64
FIELDS = 6  # of an input in a ring: buttons, move_forward, move_right, yaw, pitch, weapon
LEAD_NONE = -32768  # lead_q4 of a client from which no command came since its last snapshot
LEAD_CLIP = 2000.0  # ticks, so that lead_q4 fits 16 bits

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
COUNTERS = 13

JITTER_GAIN = 1.0 / 256.0  # with 1/64 the target changed every 8 s at a steady 25 ms of jitter
LEAD_GAIN = 1.0 / 32.0
LATE_GAIN = 1.0 / 128.0
LATE_LIMIT = 0.01  # two late inputs within about 90 ticks, or one in a bad spell, raise the target
RAISE_MARGIN = 0.75  # ticks by which the need must differ from the target before it counts
SURPLUS_MIN = 1.25  # ticks every input of a whole window must have been early before the target goes down
SAFETY_TICKS = 1.0  # one lost packet, or the dead band of the client's clock


@kernel
def get_u16(data: U8, at: int) -> int:
    """Unsigned 16-bit integer, low byte first."""
    return int(data[at]) | (int(data[at + 1]) << 8)


@kernel
def get_u32(data: U8, at: int) -> int:
    """Unsigned 32-bit integer, low byte first."""
    return get_u16(data, at) | (get_u16(data, at + 2) << 16)


@kernel
def get_i8(data: U8, at: int) -> int:
    """Signed 8-bit integer."""
    return (int(data[at]) ^ 0x80) - 0x80


@kernel
def get_i16(data: U8, at: int) -> int:
    """Signed 16-bit integer, low byte first."""
    return (get_u16(data, at) ^ 0x8000) - 0x8000


@kernel
def read_input(data: U8, at: int, fields: I32) -> int:
    """Read an input into `fields`, brought into range; returns 1 if a value had to be changed for that."""
    buttons = get_u16(data, at)
    forward = get_i8(data, at + 2)
    right = get_i8(data, at + 3)
    pitch = get_i16(data, at + 6)
    fields[0] = buttons & BUTTONS_KNOWN
    fields[1] = max(forward, -MOVE_MAX)
    fields[2] = max(right, -MOVE_MAX)
    fields[3] = get_u16(data, at + 4)
    fields[4] = min(max(pitch, -PITCH_MAX), PITCH_MAX)
    fields[5] = int(data[at + 8])
    changed = buttons != fields[0] or forward != fields[1] or right != fields[2] or pitch != fields[4]
    return 1 if changed else 0


@kernel
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


@kernel
def _note_ack(client: int, sequence: int, now: int, sent: I64, numbers: I64, rates: F64) -> None:
    """Measure the round trip from the first acknowledgement of a snapshot, smoothed as in RFC 6298, section 2."""
    newest = numbers[ACK_NEWEST, client]
    if newest >= 0 and not 0 < ((sequence - newest) & 0xFFFF) < 0x8000:
        return
    slot = sequence & (SENT_RING - 1)
    if sent[client, slot, 0] != sequence:
        return  # never sent, or too long ago: replication counts false acknowledgements
    numbers[ACK_NEWEST, client] = sequence
    numbers[ACK_TICK, client] = sent[client, slot, 2]
    sample = float(now - sent[client, slot, 1])
    if sample < 0.0:
        return
    if rates[RTT, client] == 0.0:
        rates[RTT, client] = sample
        rates[RTT_VARIATION, client] = 0.5 * sample
        return
    rates[RTT_VARIATION, client] += 0.25 * (abs(rates[RTT, client] - sample) - rates[RTT_VARIATION, client])
    rates[RTT, client] += 0.125 * (sample - rates[RTT, client])


@kernel
def _store_inputs(
    arena: U8, at: int, count: int, claim: int, client: int, newest: int, tick: int, early: float, future_max: int,
    inputs: tuple[I32, I64, I32], rates: F64, counters: I64,
) -> None:  # fmt: skip
    """Put the inputs of one command into the client's ring, those that are neither late, far ahead nor known.

    The claim joins the newest input even where a later command, overtaking, has brought that already.
    """
    ring, ring_tick, claims = inputs
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
            if index == 0 and claim != NO_CLAIM:
                claims[client, slot] = claim
        else:
            ring_tick[client, slot] = wanted
            claims[client, slot] = claim if index == 0 else NO_CLAIM
            counters[COUNT_CLAMPED, client] += read_input(arena, at + index * INPUT_BYTES, ring[client, slot])
            counters[COUNT_INPUTS, client] += 1
            rates[SURPLUS, client] = min(rates[SURPLUS, client], lead)


@kernel
def _refusal(arena: U8, at: int, length: int, client: int, flood_max: int, numbers: I64) -> int:
    """The counter row of what is wrong with a payload that says it is a COMMAND, or −1 if nothing is."""
    if length < COMMAND_HEADER_BYTES + INPUT_BYTES:
        return COUNT_BAD_LENGTH
    header = int(arena[at + 1])
    count = header & 0x0F
    if header & 0x30 or count < 1 or count > INPUTS_MAX:
        return COUNT_BAD_HEADER
    if length != COMMAND_HEADER_BYTES + count * INPUT_BYTES + (CLAIM_BYTES if header & CLAIM_FLAG else 0):
        return COUNT_BAD_LENGTH
    if numbers[RECEIVED, client] >= flood_max:
        return COUNT_FLOOD
    return -1


@kernel(
    "(u1[::1], Tuple((i4[::1], i8[::1], i4[::1], i8[::1])), i8, Tuple((i8, f8, f8, i8, i8, i8)),"
    " Tuple((i4[:,:,::1], i8[:,::1], i4[:,::1])),"
    " i8[:,:,::1], i8[:,::1], f8[:,::1], i8[:,::1], Tuple((i4[::1], i4[::1], u4[::1])), i4[::1], i8[::1])"
)
def decode_commands(
    arena: U8, payloads: tuple[I32, I64, I32, I64], count: int, moment: tuple[int, float, float, int, int, int],
    inputs: tuple[I32, I64, I32], sent: I64, numbers: I64, rates: F64, counters: I64,
    acks: tuple[I32, I32, U32], messages: I32, made: I64,
) -> None:  # fmt: skip
    """Sort payloads: commands into the rings, acknowledgements and messages into lists.

    Args:
        arena: Bytes the payloads lie in.
        payloads: Client, offset, length and arrival [ns] of each; an arrival of 0 or later than now is now.
        count: How many.
        moment: Tick to be made next; how long before its step this is [ns]; a tick's length [ns]; now [ns]; how far
            ahead an input may be [ticks]; commands a client may send in a tick.
        inputs: `ring`, int32 (clients, 64, 6); the tick at each place, int64 (clients, 64); its claim or `NO_CLAIM`,
            int32 (clients, 64).
        sent: Sequence, time [ns] and tick of the last snapshots sent, int64 (clients, 64, 3).
        numbers: Rows as named above.
        rates: Rows as named above.
        counters: Rows as named above.
        acks: Client, sequence and mask of each acknowledgement; as long as the payloads can be many.
        messages: Indices of the payloads that are messages; what does not fit is dropped and counted.
        made: Number of acknowledgements, number of messages.
    """
    tick, early_ns, tick_ns, now, future_max, flood_max = moment
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
        reason = _refusal(arena, at, length, client, flood_max, numbers)
        if kind != PAYLOAD_COMMAND:
            reason = COUNT_UNKNOWN_TYPE
        if reason >= 0:
            counters[reason, client] += 1
            continue
        numbers[RECEIVED, client] += 1
        counters[COUNT_COMMANDS, client] += 1
        arrival = min(received[index], now) if received[index] != 0 else now
        early = (early_ns + float(now - arrival)) / tick_ns
        newest = get_u32(arena, at + 8)
        _note_lead(client, newest - tick + early, numbers, rates)
        if newest <= tick + future_max:
            numbers[NEWEST, client] = max(numbers[NEWEST, client], newest)
        claim = get_u16(arena, at + length - CLAIM_BYTES) if int(arena[at + 1]) & CLAIM_FLAG else NO_CLAIM
        _store_inputs(
            arena, at + COMMAND_HEADER_BYTES, int(arena[at + 1]) & 0x0F, claim, client, newest, tick, early,
            future_max, inputs, rates, counters,
        )  # fmt: skip
        if int(arena[at + 1]) & ACK_FLAG and made[0] < ack_client.shape[0]:
            sequence = get_u16(arena, at + 2)
            ack_client[made[0]] = client
            ack_sequence[made[0]] = sequence
            ack_mask[made[0]] = get_u32(arena, at + 4)
            made[0] += 1
            _note_ack(client, sequence, arrival, sent, numbers, rates)


@kernel
def _set_target(client: int, target: int, tick: int, target_max: int, numbers: I64, rates: F64) -> None:
    """Change a client's target and begin a new surplus window."""
    target = min(max(target, 1), target_max)
    if target != numbers[TARGET, client]:
        numbers[TARGET, client] = target
        numbers[CHANGES, client] += 1
    numbers[WINDOW, client] = tick
    rates[SURPLUS, client] = math.inf


@kernel
def _steer(client: int, tick: int, windows: tuple[int, int, int], numbers: I64, rates: F64) -> None:
    """Decide how early a client's commands should come: 3σ of its jitter and a tick of safety, changed rarely.

    Up at once, when the jitter has grown or inputs are late; down by one tick only after a whole window in which every
    input was early by more than `SURPLUS_MIN`. RTT/2 is not part of it: earliness is measured at arrival, so the way
    there is already in it, however lopsided the path (docs/adr/0004-run-ahead.md).
    """
    down_ticks, settle_ticks, target_max = windows
    if tick - numbers[RAISED, client] <= settle_ticks:
        # A raise takes a round trip and the slewing of the client's clock to show: until then, late inputs are the same
        # trouble still.
        rates[LATE_RATE, client] = 0.0
    need = 3.0 * math.sqrt(rates[JITTER, client]) + SAFETY_TICKS
    target = numbers[TARGET, client]
    if need > target + RAISE_MARGIN:
        _set_target(client, math.floor(need + 0.5), tick, target_max, numbers, rates)
    elif rates[LATE_RATE, client] > LATE_LIMIT:
        numbers[RAISED, client] = tick
        _set_target(client, target + 1, tick, target_max, numbers, rates)
    elif tick - numbers[WINDOW, client] >= down_ticks:
        surplus = rates[SURPLUS, client] > SURPLUS_MIN and need < target - RAISE_MARGIN
        _set_target(client, target - 1 if surplus else target, tick, target_max, numbers, rates)


@kernel
def _extrapolate(fields: I32, run: int, hold_ticks: int, still_ticks: int) -> None:
    """Make the `run`-th missing input from the last one that came, in place.

    Buttons are repeated as levels: a repeated level is never an edge, whereas letting go and pressing again when the
    next input comes would be a second jump. After `hold_ticks` all are let go but those that say how the player
    stands. Movement goes down in equal parts to nothing at `still_ticks`.
    """
    if run > hold_ticks:
        fields[0] &= BUTTONS_HELD
    if run >= still_ticks:
        fields[1] = 0
        fields[2] = 0
        return
    left = still_ticks - run
    for field in range(1, 3):
        fields[field] = (
            fields[field] * left // (left + 1) if fields[field] > 0 else -(-fields[field] * left // (left + 1))
        )


@kernel(
    "(i8, i4[::1], Tuple((i8, i8, i8)), Tuple((i8, i8, i8)), Tuple((i4[:,:,::1], i8[:,::1], i4[:,::1])), i4[:,::1],"
    " i8[:,::1], f8[:,::1], i8[:,::1],"
    " Tuple((b1[::1], u2[::1], i1[::1], i1[::1], u2[::1], i2[::1], u1[::1])))"
)
def take_inputs(
    tick: int, rows: I32, patience: tuple[int, int, int], windows: tuple[int, int, int], inputs: tuple[I32, I64, I32],
    last: I32, numbers: I64, rates: F64, counters: I64,
    columns: tuple[Bool, U16, I8, I8, U16, I16, U8],
) -> None:  # fmt: skip
    """Give each client's player its input for one tick, received or extrapolated.

    Args:
        tick: The tick about to be made; called once for each, in order.
        rows: Row of each client's player in `columns`, −1 for none; int32 (clients,).
        patience: Ticks buttons are repeated, ticks until movement is nothing, ticks until a client counts as absent.
        windows: Ticks of surplus before a target goes down, ticks between raises, greatest target.
        inputs: The rings, as for `decode_commands`.
        last: The input each client's player had last, int32 (clients, 6).
        numbers: As for `decode_commands`.
        rates: As for `decode_commands`.
        counters: As for `decode_commands`.
        columns: has_input, buttons, move_forward, move_right, yaw, pitch and weapon by player row, written only where
            a client has ever sent an input.
    """
    ring, ring_tick, claims = inputs
    has_input, buttons, forward, right, yaw, pitch, weapon = columns
    hold_ticks, still_ticks, absent_ticks = patience
    for client in range(rows.shape[0]):
        numbers[RECEIVED, client] = 0
        numbers[CLAIM, client] = NO_CLAIM
        row = rows[client]
        if row < 0 or row >= has_input.shape[0] or numbers[NEWEST, client] < 0:
            continue
        slot = tick & (RING_TICKS - 1)
        if ring_tick[client, slot] == tick:
            for field in range(FIELDS):
                last[client, field] = ring[client, slot, field]
            numbers[CLAIM, client] = claims[client, slot]
            numbers[APPLIED, client] = tick
            numbers[MISSING, client] = 0
            rates[LATE_RATE, client] -= LATE_GAIN * rates[LATE_RATE, client]
        else:
            numbers[MISSING, client] += 1
            run = numbers[MISSING, client]
            _extrapolate(last[client], run, hold_ticks, still_ticks)
            if run <= absent_ticks and numbers[APPLIED, client] > 0:
                counters[COUNT_EXTRAPOLATED, client] += 1
                rates[LATE_RATE, client] += LATE_GAIN * (1.0 - rates[LATE_RATE, client])
            else:
                counters[COUNT_ABSENT, client] += 1
        _steer(client, tick, windows, numbers, rates)
        has_input[row] = True
        buttons[row] = last[client, 0]
        forward[row] = last[client, 1]
        right[row] = last[client, 2]
        yaw[row] = last[client, 3]
        pitch[row] = last[client, 4]
        weapon[row] = last[client, 5]


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


@kernel("(i4[::1], i8, i8, i8[:,::1], i4[:,::1], i8[:,:,::1], i8[:,::1], f8[:,::1], i8[:,::1])")
def reset_rows(
    clients: I32, tick: int, target: int, ring_tick: I64, last: I32, sent: I64, numbers: I64, rates: F64, counters: I64
) -> None:
    """Make the rows of clients as new: nothing received, nothing sent, the first target."""
    for client in clients:
        for place in range(RING_TICKS):
            ring_tick[client, place] = -1
        for field in range(FIELDS):
            last[client, field] = 0
        for place in range(SENT_RING):
            sent[client, place, 0] = -1
        for row in range(NUMBERS):
            numbers[row, client] = 0
        for row in range(RATES):
            rates[row, client] = 0.0
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
        rates[JITTER, client] = 0.25
        rates[SURPLUS, client] = np.inf
