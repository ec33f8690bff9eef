"""Kernels behind `net.client`: snapshots' headers and the clocks that follow from them, for N clients at once.

Clock. Each client has a position `CLOCK` in ticks, which runs at the tick rate; input N is made when it reaches N.
Corrections are summed in `SHIFT`. The server says how early a command came (the header's lead); less the shift under
which that command was made, this is how early it would have come without any correction: a constant of the path and
the two clocks, plus jitter. Its mean `OFFSET` can be averaged for as long as it takes, whatever has been corrected in
the meantime, so that the loop cannot oscillate (a Smith predictor). Wanted is OFFSET + SHIFT = target lead.
Small errors are slewed at `SLEW` of the tick rate, from half a tick on; large ones jump.
"""

import math

from net.bytes_kernels import copy_bytes
from net.inputs_kernels import (
    LEAD_NONE,
    PAYLOAD_MESSAGE,
    get_i16,
    get_u16,
    get_u32,
)
from sim.arrays import F64, I32, I64, U8, U32
from sim.jit import kernel

__all__ = [
    "CLOCK",
    "CONFIRM_TICK",
    "CORRECTION_MAX",
    "CORRECTION_SUM",
    "COUNTERS",
    "COUNT_ADOPTED",
    "COUNT_COMPARED",
    "COUNT_CONFIRMED",
    "COUNT_MISPREDICTED",
    "COUNT_SNAPPED",
    "ERROR_SUM",
    "HISTORY_TICKS",
    "INTERVAL",
    "LEAD",
    "LOSS",
    "NUMBERS",
    "OFFSET",
    "OWNER_TICK",
    "PAYLOAD_SNAPSHOT",
    "PLACE",
    "RATES",
    "RTT",
    "RUN_TICKS",
    "SENT",
    "SEQUENCE",
    "SERVER_INPUT_TICK",
    "SHIFT",
    "SNAPSHOT_TICK",
    "TARGET",
    "TICK",
    "UNSURE",
    "copy_rows",
    "find_due",
    "read_payloads",
    "run_clocks",
]

PAYLOAD_SNAPSHOT = 1
SNAPSHOT_HEADER_BYTES = 12
HAS_OWNER = 1  # flag of a snapshot
NO_INPUT = 255
HISTORY_TICKS = 128
PLACE = HISTORY_TICKS - 1

# Rows of `numbers`, int64 (NUMBERS, clients).
SEQUENCE = 0  # newest snapshot, −1 before the first
SNAPSHOT_TICK = 1  # its tick, −1 before the first
SERVER_INPUT_TICK = 2  # newest input of ours the server had applied then
TICK = 3  # newest tick an input was made for and predicted, −1 before the start
SENT = 4  # newest tick whose input was sent
TARGET = 5  # how early the server wants our commands [ticks]
SAMPLES = 6  # leads averaged
STRANGE = 7  # leads in a row that do not fit the average
OWNER_TICK = 8  # tick of an owner section not yet compared, −1 if none
SLEWING = 9  # −1, 0, 1
TRUSTED = 10  # leads of inputs before this tick are left out: made before a jump
ARRIVED = 11  # time of the newest snapshot [ns]
CONFIRM_TICK = 12  # tick of a snapshot without owner section that was not yet looked at, −1 if none
UNSURE = 13  # 1: what the server confirmed is not what is predicted now; no claims until a section comes
NUMBERS = 14

# Rows of `rates`, float64 (RATES, clients).
CLOCK = 0  # position in ticks
SHIFT = 1  # sum of corrections [ticks]
OFFSET = 2  # lead of an uncorrected clock [ticks]
RTT = 3  # smoothed round trip [ns], 0 before the first sample
LOSS = 4  # share of snapshots lost
LEAD = 5  # last lead reported [ticks]
ERROR_SUM = 6  # of what is shown less what is, over the ticks [m · ticks]
INTERVAL = 7  # mean time between snapshots [ns]
CORRECTION_SUM = 8  # of all mispredictions [m]
CORRECTION_MAX = 9  # [m]
RUN_TICKS = 10  # how long the clock has run [ticks]
RATES = 11

# Rows of `counters`, int64 (COUNTERS, clients); `net.client.ClientCount` names them.
COUNT_SNAPSHOTS = 0
COUNT_LOST = 1
COUNT_OLD = 2
COUNT_MALFORMED = 3
COUNT_MESSAGES_DROPPED = 4
COUNT_LATE_INPUTS = 5
COUNT_STRANGE_LEADS = 6
COUNT_JUMPS = 7
COUNT_FILLED = 8
COUNT_SKIPPED = 9
COUNT_MISPREDICTED = 10
COUNT_ADOPTED = 11
COUNT_REPLAYED = 12
COUNT_COMPARED = 13
COUNT_SNAPPED = 14
COUNT_CONFIRMED = 15
COUNTERS = 16

SLEW = 0.03  # of the tick rate
SLEW_FROM = 0.5  # ticks
SLEW_TO = 0.05
SETTLED_SAMPLES = 16
OFFSET_GAIN = 1.0 / 32.0
UNSETTLED_JUMP = 2.0  # ticks
STRANGE_TICKS = 12.0
STRANGE_RUN = 8
LOSS_GAIN = 1.0 / 64.0
CATCH_UP_TICKS = 3  # ticks due at once that are still asked for; more are filled by repeating the last input
FILL_TICKS_MAX = 64  # and beyond these, left out


@kernel
def _note_sequence(client: int, sequence: int, numbers: I64, rates: F64, counters: I64) -> bool:
    """Count losses by gaps; False for a snapshot older than one already read."""
    newest = numbers[SEQUENCE, client]
    ahead = ((sequence - newest) & 0xFFFF) if newest >= 0 else 1
    if ahead == 0 or ahead >= 0x8000:
        counters[COUNT_OLD, client] += 1
        if ahead != 0:
            # It had been taken for lost.
            counters[COUNT_LOST, client] -= 1
            rates[LOSS, client] = max(0.0, rates[LOSS, client] - LOSS_GAIN)
        return False
    numbers[SEQUENCE, client] = sequence
    counters[COUNT_SNAPSHOTS, client] += 1
    counters[COUNT_LOST, client] += ahead - 1
    for _ in range(min(ahead - 1, 64)):
        rates[LOSS, client] += LOSS_GAIN * (1.0 - rates[LOSS, client])
    rates[LOSS, client] -= LOSS_GAIN * rates[LOSS, client]
    return True


@kernel
def _note_ack(client: int, sequence: int, ack_sequence: I32, ack_mask: U32) -> None:
    """Move the acknowledgement window on to a newer snapshot."""
    newest = int(ack_sequence[client])
    ahead = (sequence - newest) & 0xFFFF
    mask = int(ack_mask[client])
    known = newest >= 0 and ahead <= 32
    mask = ((mask << ahead) | (1 << (ahead - 1))) & 0xFFFFFFFF if known else 0
    ack_sequence[client] = sequence
    ack_mask[client] = mask


@kernel
def _note_lead(client: int, tick: int, lead: float, moment: tuple[int, float], numbers: I64, rates: F64,
               counters: I64, ring_tick: I64, made_at: I64, shift_at: F64) -> None:  # fmt: skip
    """Average the clock offset and the round trip from the lead in a header."""
    now, tick_ns = moment
    rates[LEAD, client] = lead
    # A command that came in the tick before the snapshot's was for this tick; one that came earlier was for one before,
    # which matters only across a jump.
    reference = tick + math.floor(lead)
    place = reference & PLACE
    if reference < numbers[TRUSTED, client] or ring_tick[client, place] != reference:
        return
    sample = lead - shift_at[client, place]
    difference = sample - rates[OFFSET, client]
    if numbers[SAMPLES, client] == 0 or numbers[STRANGE, client] >= STRANGE_RUN:
        rates[OFFSET, client] = sample
        numbers[SAMPLES, client] = 1
        numbers[STRANGE, client] = 0
    elif abs(difference) > STRANGE_TICKS:
        numbers[STRANGE, client] += 1
        counters[COUNT_STRANGE_LEADS, client] += 1
    else:
        numbers[STRANGE, client] = 0
        numbers[SAMPLES, client] += 1
        rates[OFFSET, client] += max(OFFSET_GAIN, 1.0 / numbers[SAMPLES, client]) * difference
    if ring_tick[client, tick & PLACE] == tick:
        trip = max(0.0, now - made_at[client, tick & PLACE] - lead * tick_ns)
        rates[RTT, client] += (0.125 if rates[RTT, client] > 0.0 else 1.0) * (trip - rates[RTT, client])


@kernel
def _note_arrival(client: int, now: int, numbers: I64, rates: F64) -> None:
    """Average the time between snapshots."""
    if numbers[SNAPSHOT_TICK, client] >= 0:
        interval = float(now - numbers[ARRIVED, client])
        gain = 1.0 / 32.0 if rates[INTERVAL, client] > 0.0 else 1.0
        rates[INTERVAL, client] += gain * (interval - rates[INTERVAL, client])
    numbers[ARRIVED, client] = now


@kernel
def _begin(client: int, tick: int, ahead: float, numbers: I64, rates: F64) -> None:
    """Start a client's clock by its first snapshot."""
    numbers[TICK, client] = tick
    numbers[SENT, client] = tick
    numbers[TRUSTED, client] = tick + 1
    rates[CLOCK, client] = tick + ahead
    rates[SHIFT, client] = 0.0


@kernel
def _take_snapshot(
    arena: U8, at: int, client: int, moment: tuple[int, float], ahead: float, state: tuple[I64, F64, I64],
    stamps: tuple[I64, I64, F64], heads: tuple[U8, I32, U32],
) -> None:  # fmt: skip
    """Take in the head of a snapshot whose length has been checked; one that is not the newest is only counted."""
    numbers, rates, counters = state
    owner, ack_sequence, ack_mask = heads
    sequence, tick, input_age = get_u16(arena, at + 2), get_u32(arena, at + 4), int(arena[at + 8])
    if not _note_sequence(client, sequence, numbers, rates, counters):
        return
    _note_ack(client, sequence, ack_sequence, ack_mask)
    if numbers[TICK, client] < 0:
        _begin(client, tick, ahead, numbers, rates)
    elif tick > rates[CLOCK, client]:
        # Our clock has gone back or stood still: no lead can be measured of inputs for ticks that the server has made.
        _begin(client, tick, ahead, numbers, rates)
        numbers[SAMPLES, client] = 0
        counters[COUNT_JUMPS, client] += 1
    _note_arrival(client, moment[0], numbers, rates)
    applied = tick - input_age if input_age != NO_INPUT else numbers[SERVER_INPUT_TICK, client]
    if 0 < applied < tick:
        counters[COUNT_LATE_INPUTS, client] += 1
    numbers[SNAPSHOT_TICK, client] = tick
    numbers[SERVER_INPUT_TICK, client] = applied
    numbers[TARGET, client] = int(arena[at + 11])
    lead = get_i16(arena, at + 9)
    if lead != LEAD_NONE:
        _note_lead(client, tick, lead / 16.0, moment, numbers, rates, counters, stamps[0], stamps[1], stamps[2])
    if int(arena[at + 1]) & HAS_OWNER == 0:
        numbers[CONFIRM_TICK, client] = tick
    else:
        numbers[OWNER_TICK, client] = tick
        numbers[UNSURE, client] = 0
        size = int(arena[at + SNAPSHOT_HEADER_BYTES])
        copy_bytes(owner[client], 0, arena, at + SNAPSHOT_HEADER_BYTES + 1, size)


@kernel(
    "(u1[::1], Tuple((i4[::1], i8[::1], i4[::1])), i8, Tuple((i8, f8)), Tuple((i8, f8)), Tuple((i8[:,::1], f8[:,::1],"
    " i8[:,::1])), Tuple((i8[:,::1], i8[:,::1], f8[:,::1])), Tuple((u1[:,::1], i4[::1], u4[::1])), i4[::1], i4[::1],"
    " i8[::1])"
)
def read_payloads(
    arena: U8, payloads: tuple[I32, I64, I32], count: int, moment: tuple[int, float], options: tuple[int, float],
    state: tuple[I64, F64, I64], stamps: tuple[I64, I64, F64], heads: tuple[U8, I32, U32],
    snapshots: I32, messages: I32, made: I64,
) -> None:  # fmt: skip
    """Read the headers and owner sections of snapshots, and sort payloads by kind.

    Args:
        arena: Bytes the payloads lie in.
        payloads: Client, offset and length of each.
        count: How many.
        moment: Now [ns]; length of a tick [ns].
        options: Bytes of an owner section (one of another length is malformed; 0 = none); how far ahead of its first
            snapshot a clock begins [ticks].
        state: `numbers`, `rates`, `counters`.
        stamps: Tick, time [ns] and shift [ticks] of each input made, (clients, 128).
        heads: Newest owner section of each client; newest sequence read; bit i: sequence − 1 − i was read too.
        snapshots: Indices of the payloads that are snapshots.
        messages: Indices of the payloads that are messages.
        made: How many snapshots, how many messages.
    """
    counters = state[2]
    clients, offsets, lengths = payloads
    owner_bytes, ahead = options
    made[0] = 0
    made[1] = 0
    for index in range(count):
        client, at, length = int(clients[index]), int(offsets[index]), int(lengths[index])
        if client < 0 or client >= heads[0].shape[0] or at < 0 or length < 1 or at + length > arena.shape[0]:
            continue
        if arena[at] == PAYLOAD_MESSAGE:
            if made[1] < messages.shape[0]:
                messages[made[1]] = index
                made[1] += 1
            else:
                counters[COUNT_MESSAGES_DROPPED, client] += 1
            continue
        if arena[at] != PAYLOAD_SNAPSHOT or length <= SNAPSHOT_HEADER_BYTES:
            counters[COUNT_MALFORMED, client] += 1
            continue
        told = int(arena[at + 1]) & HAS_OWNER
        size = int(arena[at + SNAPSHOT_HEADER_BYTES])
        if told and (size != owner_bytes or SNAPSHOT_HEADER_BYTES + 1 + size > length):
            counters[COUNT_MALFORMED, client] += 1
            continue
        if made[0] < snapshots.shape[0]:
            snapshots[made[0]] = index
            made[0] += 1
        _take_snapshot(arena, at, client, moment, ahead, state, stamps, heads)


@kernel("(u1[::1], Tuple((i4[::1], i8[::1], i4[::1])), i4[::1], i8, i4[::1], u1[:,::1], i4[::1])")
def copy_rows(
    arena: U8, payloads: tuple[I32, I64, I32], chosen: I32, count: int, clients: I32, rows: U8, lengths: I32
) -> None:
    """Copy chosen payloads, one a row; what is longer than a row is cut off, and so malformed.

    Args:
        arena: Bytes the payloads lie in.
        payloads: Client, offset and length of each.
        chosen: Indices of payloads within the arena.
        count: How many.
        clients: Client of each row.
        rows: The rows, uint8 (≥ count, row bytes).
        lengths: Bytes of each.
    """
    for index in range(count):
        payload = chosen[index]
        at = payloads[1][payload]
        length = min(int(payloads[2][payload]), rows.shape[1])
        clients[index] = payloads[0][payload]
        lengths[index] = length
        copy_bytes(rows[index], 0, arena, at, length)


@kernel("(f8, f8, f8, i8[:,::1], f8[:,::1], i8[:,::1], f8[:,::1])")
def run_clocks(
    elapsed: float, jump: float, fade: float, numbers: I64, rates: F64, counters: I64, shown_off: F64
) -> None:  # fmt: skip
    """Let the clocks run, and correct them; let what is left of earlier corrections fade.

    Args:
        elapsed: Time since the last call [ticks].
        jump: Error from which a settled clock jumps [ticks].
        fade: What is left of a shown error after this time.
        numbers: Rows as named above.
        rates: Rows as named above.
        counters: Rows as named above.
        shown_off: What is shown of each client's own player less what is, (clients, 3) [m].
    """
    for client in range(numbers.shape[1]):
        if numbers[TICK, client] < 0:
            continue
        rates[CLOCK, client] += elapsed
        rates[RUN_TICKS, client] += elapsed
        square = 0.0
        for axis in range(3):
            shown_off[client, axis] *= fade
            square += shown_off[client, axis] * shown_off[client, axis]
        rates[ERROR_SUM, client] += math.sqrt(square) * elapsed
        if numbers[SAMPLES, client] == 0:
            continue
        error = numbers[TARGET, client] - (rates[OFFSET, client] + rates[SHIFT, client])
        limit = jump if numbers[SAMPLES, client] >= SETTLED_SAMPLES else min(UNSETTLED_JUMP, jump)
        if abs(error) > limit:
            rates[CLOCK, client] += error
            rates[SHIFT, client] += error
            # Going back, ticks already made are not made again: the next new one is the first with the new shift.
            numbers[TRUSTED, client] = max(numbers[TICK, client] + 1, math.floor(rates[CLOCK, client]) - 1)
            numbers[SLEWING, client] = 0
            counters[COUNT_JUMPS, client] += 1
            continue
        if abs(error) > SLEW_FROM:
            numbers[SLEWING, client] = 1 if error > 0.0 else -1
        elif error * numbers[SLEWING, client] <= SLEW_TO:
            numbers[SLEWING, client] = 0
        step = numbers[SLEWING, client] * SLEW * elapsed
        rates[CLOCK, client] += step
        rates[SHIFT, client] += step


@kernel("(i8[:,::1], f8[:,::1], i8[:,::1], u1[::1], u1[::1], i8[::1])")
def find_due(numbers: I64, rates: F64, counters: I64, due: U8, fill: U8, made: I64) -> None:
    """Find the clients whose next tick has come.

    Args:
        numbers: Rows as named above.
        rates: Rows as named above.
        counters: Rows as named above.
        due: Set where an input is wanted for tick TICK + 1, uint8.
        fill: Set where instead the last input is to be repeated, because several ticks are due at once, uint8.
        made: How many of each.
    """
    made[0] = 0
    made[1] = 0
    for client in range(numbers.shape[1]):
        due[client] = 0
        lag = math.floor(rates[CLOCK, client]) - numbers[TICK, client]
        if numbers[TICK, client] < 0 or lag < 1:
            fill[client] = 0
            continue
        if lag > FILL_TICKS_MAX:
            numbers[TICK, client] += lag - 1
            counters[COUNT_SKIPPED, client] += lag - 1
            lag = 1
        # Once filling, fill up to the present, rather than asking for the last few again and again.
        fill[client] = 1 if lag > CATCH_UP_TICKS or (fill[client] and lag > 1) else 0
        due[client] = 1 - fill[client]
        made[0] += due[client]
        made[1] += fill[client]
        counters[COUNT_FILLED, client] += fill[client]
