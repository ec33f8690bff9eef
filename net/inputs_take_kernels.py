"""Kernels behind `net.inputs` that make a tick: of every client's ring of inputs one input, received or extrapolated.

Layouts and rows stand in `net.inputs_kernels`.
"""

import math

from net.claims_kernels import NO_CLAIM
from net.inputs_kernels import (
    APPLIED,
    CHANGES,
    CLAIM,
    COUNT_ABSENT,
    COUNT_EXTRAPOLATED,
    COUNT_VIEW_CAPPED,
    FIELDS,
    INPUTS_TYPE,
    JITTER,
    LATE_RATE,
    MISSING,
    NEWEST,
    RAISED,
    RECEIVED,
    RING_TICKS,
    SURPLUS,
    TARGET,
    WINDOW,
    Inputs,
)
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, Bool
from sim.jit import kernel

__all__ = ["take_inputs"]

BUTTONS_HELD = 0x06  # CROUCH and WALK: how a player stands, kept for as long as its inputs are missing
LATE_GAIN = 1.0 / 128.0
LATE_LIMIT = 0.01  # two late inputs within about 90 ticks, or one in a bad spell, raise the target
RAISE_MARGIN = 0.75  # ticks by which the need must differ from the target before it counts
SURPLUS_MIN = 1.25  # ticks every input of a whole window must have been early before the target goes down
SAFETY_TICKS = 1.0  # one lost packet, or the dead band of the client's clock


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
    f"(i8, i4[::1], Tuple((i8, i8, i8, i8)), Tuple((i8, i8, i8)), {INPUTS_TYPE}, i4[:,::1], i8[:,::1], f8[:,::1],"
    " i8[:,::1], Tuple((b1[::1], u2[::1], i1[::1], i1[::1], u2[::1], i2[::1], u1[::1], u2[::1])))"
)
def take_inputs(
    tick: int, rows: I32, patience: tuple[int, int, int, int], windows: tuple[int, int, int], inputs: Inputs,
    last: I32, numbers: I64, rates: F64, counters: I64,
    columns: tuple[Bool, U16, I8, I8, U16, I16, U8, U16],
) -> None:  # fmt: skip
    """Give each client's player its input for one tick, received or extrapolated.

    Args:
        tick: The tick about to be made; called once for each, in order.
        rows: Row of each client's player in `columns`, −1 for none; int32 (clients,).
        patience: Ticks buttons are repeated, ticks until movement is nothing, ticks until a client counts as absent;
            cap on rewinding [1/256 tick].
        windows: Ticks of surplus before a target goes down, ticks between raises, greatest target.
        inputs: The rings, as for `decode_commands`.
        last: The input each client's player had last and the age of what it saw, int32 (clients, 7).
        numbers: As for `decode_commands`.
        rates: As for `decode_commands`.
        counters: As for `decode_commands`.
        columns: has_input, buttons, move_forward, move_right, yaw, pitch, weapon and rewind by player row, written only
            where a client has ever sent an input.
    """
    ring, ring_tick, claims, ages = inputs
    has_input, buttons, forward, right, yaw, pitch, weapon, rewind = columns
    hold_ticks, still_ticks, absent_ticks, cap = patience
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
            last[client, FIELDS] = ages[client, slot]
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
        rewind[row] = min(last[client, FIELDS], cap)
        counters[COUNT_VIEW_CAPPED, client] += 1 if last[client, FIELDS] > cap else 0
