"""Kernels behind `net.client`: the inputs a client has made, the states it has predicted, its commands and corrections.

Inputs and predicted states stand in rings of 128 ticks per client: tick T at T mod 128, tagged with T. A state is the
predicted part of an owner section (`net.owner`), so that comparing it with the server's is comparing bytes.
"""

import math

from net.claims_kernels import claim_of
from net.client_kernels import (
    CONFIRM_TICK,
    CORRECTION_MAX,
    CORRECTION_SUM,
    COUNT_ADOPTED,
    COUNT_COMPARED,
    COUNT_CONFIRMED,
    COUNT_MISPREDICTED,
    COUNT_SNAPPED,
    LOSS,
    OWNER_TICK,
    PLACE,
    SENT,
    SHIFT,
    SNAPSHOT_TICK,
    TICK,
    UNSURE,
)
from net.inputs_kernels import (
    ACK_FLAG,
    CLAIM_BYTES,
    CLAIM_FLAG,
    COMMAND_HEADER_BYTES,
    FIELDS,
    INPUT_BYTES,
    INPUTS_MAX,
    PAYLOAD_COMMAND,
    VIEW_BYTES,
    VIEW_FLAG,
)
from net.moments_kernels import NO_VIEW, VIEW_STEPS
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U32, Bool
from sim.jit import kernel

__all__ = [
    "add_errors",
    "build_commands",
    "compare_owners",
    "load_inputs",
    "mark_history",
    "repeat_inputs",
    "store_inputs",
]


@kernel("(u1[::1], i8[::1], i8[:,::1])")
def mark_history(active: U8, ticks: I64, history_tick: I64) -> None:
    """Say that the active rows' histories hold their ticks."""
    for client in range(active.shape[0]):
        if active[client]:
            history_tick[client, ticks[client] & PLACE] = ticks[client]


@kernel(
    "(u1[::1], i8, i8[:,::1], f8[:,::1], Tuple((b1[::1], u2[::1], i1[::1], i1[::1], u2[::1], i2[::1], u1[::1])),"
    " i4[:,:,::1], Tuple((i8[:,::1], i8[:,::1], f8[:,::1])))"
)
def store_inputs(
    active: U8, now: int, numbers: I64, rates: F64, columns: tuple[Bool, U16, I8, I8, U16, I16, U8],
    ring: I32, stamps: tuple[I64, I64, F64],
) -> None:  # fmt: skip
    """Keep the inputs of the active clients as those of their next tick, and make it their newest."""
    _, buttons, forward, right, yaw, pitch, weapon = columns
    ring_tick, made_at, shift_at = stamps
    for client in range(active.shape[0]):
        if not active[client]:
            continue
        numbers[TICK, client] += 1
        place = numbers[TICK, client] & PLACE
        ring_tick[client, place] = numbers[TICK, client]
        made_at[client, place] = now
        shift_at[client, place] = rates[SHIFT, client]
        fields = ring[client, place]
        fields[0] = buttons[client]
        fields[1] = forward[client]
        fields[2] = right[client]
        fields[3] = yaw[client]
        fields[4] = pitch[client]
        fields[5] = weapon[client]


@kernel
def _to_columns(client: int, fields: I32, columns: tuple[Bool, U16, I8, I8, U16, I16, U8]) -> None:
    """One input from a ring to the columns."""
    has_input, buttons, forward, right, yaw, pitch, weapon = columns
    has_input[client] = True
    buttons[client] = fields[0]
    forward[client] = fields[1]
    right[client] = fields[2]
    yaw[client] = fields[3]
    pitch[client] = fields[4]
    weapon[client] = fields[5]


@kernel(
    "(u1[::1], i8[::1], i4[:,:,::1], i8[:,::1], Tuple((b1[::1], u2[::1], i1[::1], i1[::1], u2[::1], i2[::1], u1[::1])))"
)
def load_inputs(
    active: U8, ticks: I64, ring: I32, ring_tick: I64, columns: tuple[Bool, U16, I8, I8, U16, I16, U8]
) -> None:
    """Put the inputs of given ticks into the columns; where there is none, the column keeps what it has."""
    for client in range(active.shape[0]):
        place = ticks[client] & PLACE
        if active[client] and ring_tick[client, place] == ticks[client]:
            _to_columns(client, ring[client, place], columns)


@kernel(
    "(u1[::1], i8[:,::1], i4[:,:,::1], i8[:,::1], Tuple((b1[::1], u2[::1], i1[::1], i1[::1], u2[::1], i2[::1],"
    " u1[::1])))"
)
def repeat_inputs(
    active: U8, numbers: I64, ring: I32, ring_tick: I64, columns: tuple[Bool, U16, I8, I8, U16, I16, U8]
) -> None:
    """Put the newest input of each active client into the columns; before its first, a neutral one."""
    for client in range(active.shape[0]):
        if not active[client]:
            continue
        place = numbers[TICK, client] & PLACE
        if ring_tick[client, place] != numbers[TICK, client]:
            for field in range(FIELDS):
                ring[client, place, field] = 0
        _to_columns(client, ring[client, place], columns)


@kernel(counted=False)
def _confirm(
    client: int, predicted_bytes: int, history: U8, history_tick: I64, claims: I64, numbers: I64, counters: I64
) -> None:
    """Take the silence of a snapshot without owner section for what it is: the claim for its tick was right.

    A correction since may have replaced what was claimed. Then only a section can tell what holds: none is spared
    until one comes.
    """
    tick = numbers[CONFIRM_TICK, client]
    numbers[CONFIRM_TICK, client] = -1
    place = tick & PLACE
    if tick < 0 or claims[client, place] >> 16 != tick or history_tick[client, place] != tick:
        return
    counters[COUNT_COMPARED, client] += 1
    counters[COUNT_CONFIRMED, client] += 1
    if claims[client, place] & 0xFFFF != claim_of(history[client, place], predicted_bytes):
        numbers[UNSURE, client] = 1


@kernel(
    "(u1[:,::1], i8, Tuple((u1[:,:,::1], i8[:,::1], i8[:,::1])), u1[::1], i8[:,::1], i8[:,::1], u1[::1], u1[::1],"
    " i8[::1])"
)
def compare_owners(
    owner: U8, predicted_bytes: int, predicted: tuple[U8, I64, I64], predicts: U8, numbers: I64,
    counters: I64, fresh: U8, rewind: U8, cursor: I64,
) -> int:  # fmt: skip
    """Compare newly received owner sections with what was predicted for their tick, bit by bit.

    Args:
        owner: Newest section of each client.
        predicted_bytes: How much of it is predicted.
        predicted: Predicted states by tick modulo 128, uint8 (clients, 128, predicted bytes); the tick at each place,
            −1 for none; the claims sent, tick << 16 | claim, −1 for none, int64 (clients, 128).
        predicts: Which clients predict; the others take the section as their state.
        numbers: Rows as named in `net.client_kernels`; the sections are marked as compared.
        counters: Rows as named in `net.client_kernels`.
        fresh: Set where a section was compared.
        rewind: Set where the state must be taken from it.
        cursor: The tick that state is of; for clients that do not predict, their newest tick.

    Returns:
        How many must be rewound.
    """
    history, history_tick, claims = predicted
    count = 0
    for client in range(numbers.shape[1]):
        if numbers[CONFIRM_TICK, client] >= 0:
            _confirm(client, predicted_bytes, history, history_tick, claims, numbers, counters)
        fresh[client] = 0
        rewind[client] = 0
        tick = numbers[OWNER_TICK, client]
        cursor[client] = numbers[TICK, client]
        if tick < 0:
            continue
        numbers[OWNER_TICK, client] = -1
        fresh[client] = 1
        counters[COUNT_COMPARED, client] += 1
        if tick > numbers[TICK, client]:
            # The server is past us: nothing was predicted for this tick, nor will be.
            numbers[TICK, client] = tick
            cursor[client] = tick
        place = tick & PLACE
        if not predicts[client]:
            rewind[client] = 1
        elif history_tick[client, place] != tick:
            rewind[client] = 1
            cursor[client] = tick
            counters[COUNT_ADOPTED, client] += 1
        else:
            for byte in range(predicted_bytes):
                if owner[client, byte] != history[client, place, byte]:
                    rewind[client] = 1
                    cursor[client] = tick
                    counters[COUNT_MISPREDICTED, client] += 1
                    break
        count += rewind[client]
    return count


@kernel("(u1[::1], f8[:,::1], f8[:,::1], f8, f8[:,::1], f8[:,::1], f8[:,::1], i8[:,::1])")
def add_errors(
    active: U8, before: F64, after: F64, snap_m: float, previous: F64, error: F64, rates: F64, counters: I64
) -> None:
    """Keep what a correction moved as a visual error, so that what is shown does not jump; note how far it was.

    Args:
        active: Which clients were corrected.
        before: Positions before [m].
        after: Positions after [m].
        snap_m: A correction longer than this, such as a respawn, is shown at once. What several shorter ones leave
            to be shown in the end is never longer either: the rest is shown at once.
        previous: Positions a tick earlier [m], moved along with the correction.
        error: What is shown less what is, (clients, 3) [m].
        rates: Rows as named in `net.client_kernels`.
        counters: Likewise.
    """
    for client in range(active.shape[0]):
        if not active[client]:
            continue
        square = 0.0
        for axis in range(3):
            moved = before[client, axis] - after[client, axis]
            square += moved * moved
            error[client, axis] += moved
            previous[client, axis] -= moved
        distance = math.sqrt(square)
        if distance <= snap_m:
            rates[CORRECTION_SUM, client] += distance
            rates[CORRECTION_MAX, client] = max(rates[CORRECTION_MAX, client], distance)
            left = math.sqrt(error[client, 0] ** 2 + error[client, 1] ** 2 + error[client, 2] ** 2)
            if left > snap_m:
                for axis in range(3):
                    error[client, axis] *= snap_m / left
            continue
        counters[COUNT_SNAPPED, client] += 1
        for axis in range(3):
            error[client, axis] = 0.0
            previous[client, axis] = after[client, axis]


@kernel
def _redundancy(loss: float) -> int:
    """How many inputs a command repeats, so that about one in 10,000 never comes in time at this loss."""
    if loss < 0.01:
        return 3
    if loss < 0.05:
        return 4
    if loss < 0.12:
        return 5
    if loss < 0.2:
        return 6
    return INPUTS_MAX


@kernel
def _put(data: U8, at: int, size: int, value: int) -> None:
    """An integer of `size` bytes, low byte first, two's complement."""
    for byte in range(size):
        data[at + byte] = (value >> (8 * byte)) & 0xFF


@kernel(counted=False)
def _put_claim(
    client: int, predicted_bytes: int, predicted: tuple[U8, I64, I64], numbers: I64, row: U8, at: int
) -> int:
    """Write the claim for the newest tick where it was predicted; the byte after it."""
    history, history_tick, claims = predicted
    tick = numbers[TICK, client]
    place = tick & PLACE
    if history_tick[client, place] != tick or numbers[UNSURE, client]:
        return at
    claim = claim_of(history[client, place], predicted_bytes)
    claims[client, place] = tick << 16 | claim
    _put(row, at, CLAIM_BYTES, claim)
    row[1] |= CLAIM_FLAG
    return at + CLAIM_BYTES


@kernel(counted=False)
def _put_view(client: int, shown: tuple[F64, float], numbers: I64, row: U8, at: int) -> int:
    """Write how far before the newest tick the others are shown; the byte after it.

    What is shown later than the longest extrapolation stands still: of no moment.
    """
    moment, limit = shown
    tick = numbers[TICK, client]
    age = NO_VIEW
    if moment[client] <= numbers[SNAPSHOT_TICK, client] + limit:
        age = min(max(math.floor((tick - moment[client]) * VIEW_STEPS), 0), NO_VIEW)
    _put(row, at, VIEW_BYTES, age)
    row[1] |= VIEW_FLAG
    return at + VIEW_BYTES


@kernel(
    "(i4[::1], u4[::1], i8[:,::1], f8[:,::1], Tuple((i4[:,:,::1], i8[:,::1])), i8,"
    " Tuple((u1[:,:,::1], i8[:,::1], i8[:,::1])), Tuple((f8[::1], f8)), u1[::1], i4[::1], u1[:,::1], i4[::1])"
)
def build_commands(
    ack_sequence: I32, ack_mask: U32, numbers: I64, rates: F64, inputs: tuple[I32, I64], predicted_bytes: int,
    predicted: tuple[U8, I64, I64], shown: tuple[F64, float], predicts: U8, clients: I32, out: U8, lengths: I32,
) -> int:  # fmt: skip
    """Write a COMMAND for every client that has an input not yet sent.

    Args:
        ack_sequence: Newest snapshot each has taken, −1 for none.
        ack_mask: Those before it.
        numbers: Rows as named in `net.client_kernels`; the inputs are marked as sent.
        rates: Rows as named in `net.client_kernels`.
        inputs: Inputs made; the tick at each place.
        predicted_bytes: How much of an owner section is predicted; 0: nobody claims anything.
        predicted: As for `compare_owners`; the claims are noted.
        shown: The moment of the others that each client shows; the longest extrapolation [ticks].
        predicts: Which clients predict, and so claim.
        clients: Client of each command.
        out: Commands, one a row, uint8 (clients, ≥ 88).
        lengths: Their lengths.

    Returns:
        How many.
    """
    ring, ring_tick = inputs
    count = 0
    for client in range(numbers.shape[1]):
        newest = numbers[TICK, client]
        if newest <= numbers[SENT, client] or ring_tick[client, newest & PLACE] != newest:
            continue
        wanted = min(max(_redundancy(rates[LOSS, client]), newest - numbers[SENT, client]), INPUTS_MAX)
        row = out[count]
        at = COMMAND_HEADER_BYTES
        made = 0
        while made < wanted and ring_tick[client, (newest - made) & PLACE] == newest - made:
            fields = ring[client, (newest - made) & PLACE]
            _put(row, at, 2, fields[0])
            _put(row, at + 2, 1, fields[1])
            _put(row, at + 3, 1, fields[2])
            _put(row, at + 4, 2, fields[3])
            _put(row, at + 6, 2, fields[4])
            _put(row, at + 8, 1, fields[5])
            at += INPUT_BYTES
            made += 1
        acked = ack_sequence[client] >= 0
        row[0] = PAYLOAD_COMMAND
        row[1] = made | (ACK_FLAG if acked else 0)
        _put(row, 2, 2, ack_sequence[client] if acked else 0)
        _put(row, 4, 4, int(ack_mask[client]) if acked else 0)
        _put(row, 8, 4, newest)
        if predicts[client]:
            at = _put_claim(client, predicted_bytes, predicted, numbers, row, at)
        if numbers[SNAPSHOT_TICK, client] >= 0:
            at = _put_view(client, shown, numbers, row, at)
        clients[count] = client
        lengths[count] = at
        numbers[SENT, client] = newest
        count += 1
    return count
