"""Kernels behind `server.refusals`: what is refused is counted by reason and client, and the first of it is kept.

BOOKS is (counts i8 (reasons, clients + 1), totals i8 (reasons), numbers i8 (ring, E_NUMBERS), amounts f8 (ring, 2),
state i8 (2), budget i8 (clients + 1, 3)). The last client stands for players that no client plays. `numbers` and
`amounts` are a ring of evidence: the entry with number n (from 0) stands at n % ring, and overwrites what was there.
`state` holds how many entries were ever written, and how many were not. `budget` says, by client, in which second
entries were last written, how many in that second, and how many were left out since the last entry.

A client that does a thousand wrong things a second is counted a thousand times, and fills `EVIDENCE_PER_SECOND`
entries; the next entry of it says how many there were in between.
"""

from math import sqrt
from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, I64, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays
from sim.jit import kernel
from sim.motion_kernels import TELEPORTED

__all__ = [
    "BOOKS_TYPE",
    "EVIDENCE_PER_SECOND",
    "E_CLIENT",
    "E_COUNT",
    "E_ENTITY",
    "E_LEFT_OUT",
    "E_NUMBERS",
    "E_REASON",
    "E_TICK",
    "HALF_TURN",
    "PLACE_AMOUNTS",
    "PLACE_NUMBERS",
    "VIEW_NUMBERS",
    "BookArrays",
    "check_motion",
    "gather_counts",
    "hear_refusals",
    "limit_turns",
]

BOOKS_TYPE = "Tuple((i8[:,::1], i8[::1], i8[:,::1], f8[:,::1], i8[::1], i8[:,::1]))"
BookArrays: TypeAlias = tuple[I64, I64, I64, F64, I64, I64]
EVIDENCE_PER_SECOND = 4
E_TICK, E_CLIENT, E_ENTITY, E_REASON, E_COUNT, E_LEFT_OUT = range(6)
E_NUMBERS = 6
WRITTEN, LEFT_OUT = range(2)
WINDOW, USED, MISSED = range(3)

# What is remembered of a player row's view, int64 (rows, VIEW_NUMBERS).
V_ENTITY, V_ALIVE, V_TELEPORTED, V_YAW, V_PITCH, V_TICK, V_FREE_UNTIL = range(7)
VIEW_NUMBERS = 7
# What is remembered of where a player row was, int64 (rows, PLACE_NUMBERS) and float64 (rows, PLACE_AMOUNTS).
P_ENTITY, P_ALIVE, P_TELEPORTED = range(3)
PLACE_NUMBERS = 3
PLACE_AMOUNTS = 4  # x y z [m], speed [m/s]

HALF_TURN = 32768
DEGREES = 360.0 / 65536.0
SLOT_MASK = (1 << 24) - 1


@kernel(counted=False)
def _refuse(
    books: BookArrays, when: tuple[int, int], client: int, entity: np.int64, reason: int, count: int, claimed: float,
    allowed: float,
) -> None:  # fmt: skip
    """Count a refusal and keep it as evidence, if this second of the client has room; `when`: tick, second."""
    counts, totals, numbers, amounts, state, budget = books
    row = client if 0 <= client < counts.shape[1] - 1 else counts.shape[1] - 1
    counts[reason, row] += count
    totals[reason] += count
    mine = budget[row]
    if mine[WINDOW] != when[1]:
        mine[WINDOW], mine[USED] = when[1], 0
    if mine[USED] >= EVIDENCE_PER_SECOND:
        mine[MISSED] += count
        state[LEFT_OUT] += count
        return
    mine[USED] += 1
    place = state[WRITTEN] % numbers.shape[0]
    state[WRITTEN] += 1
    entry = numbers[place]
    entry[E_TICK], entry[E_CLIENT], entry[E_ENTITY] = when[0], client, entity
    entry[E_REASON], entry[E_COUNT], entry[E_LEFT_OUT] = reason, count, mine[MISSED]
    mine[MISSED] = 0
    amounts[place, 0], amounts[place, 1] = claimed, allowed


@kernel(counted=False)
def _turn(now: int, wish: int, most: int) -> int:
    """The view nearest to the wish that `most` allows, from `now`; all in 65536ths of a turn."""
    way = ((wish - now + HALF_TURN) & 0xFFFF) - HALF_TURN
    if abs(way) <= most:
        return wish
    return now + (most if way > 0 else -most)


@kernel(counted=False)
def _may_turn(row: int, tick: int, patience: int, players: tuple[U64, Bool, U16], view: I64) -> int:
    """What is remembered of a row, brought up to date; 0: it may look anywhere, 1: only as far as it can turn."""
    ids, alive, flags = players
    entity, teleported = np.int64(ids[row]), np.int64(flags[row]) & TELEPORTED
    mine = view[row]
    fresh = mine[V_ENTITY] != entity
    if fresh or (alive[row] and mine[V_ALIVE] == 0) or teleported != mine[V_TELEPORTED]:
        mine[V_FREE_UNTIL] = tick + patience
    mine[V_ENTITY], mine[V_ALIVE], mine[V_TELEPORTED] = entity, np.int64(alive[row]), teleported
    return 0 if fresh or not alive[row] else 1


@kernel(
    f"(i8, UniTuple(i8, 4), Tuple((b1[::1], u2[::1], i2[::1])), Tuple((u8[::1], b1[::1], u2[::1])), "
    f"Tuple((i4[::1], i8[::1])), i8[:,::1], {BOOKS_TYPE})"
)
def limit_turns(
    tick: int, figures: tuple[int, int, int, int], columns: tuple[Bool, U16, I16], players: tuple[U64, Bool, U16],
    routes: tuple[I32, I64], view: I64, books: BookArrays,
) -> int:  # fmt: skip
    """Let no view turn faster than a hand can: one that does goes as far as it may, and on towards the wish later.

    What may be turned at once grows with the ticks since the last input that came: the inputs lost in between turned
    too. A new life and a teleport set the view, which a client learns of later: within a while after either it may turn
    anywhere, once. The dead look where they like.

    Args:
        tick: The tick about to be made.
        figures: Most turn per tick [turn/65536], number of the second, ticks for the free turn, number of the reason.
        columns: has_input, yaw, pitch by player row; the views are corrected in place.
        players: Ids, who is alive, stance flags by row, as the last tick left them.
        routes: Client of each row, −1 for none; newest input that a tick has read, by client.
        view: Remembered by row (`V_*`), int64; updated.
        books: See above; updated.

    Returns:
        How many views were held back.
    """
    has_input, yaw, pitch = columns
    client_of_row, input_tick = routes
    held = 0
    for row in range(has_input.shape[0]):
        if not has_input[row]:
            continue
        mine, client = view[row], int(client_of_row[row])
        limited = _may_turn(row, tick, figures[2], players, view)
        wish_yaw, wish_pitch = int(yaw[row]), int(pitch[row])
        came = 0 <= client < input_tick.shape[0] and input_tick[client] == tick
        if limited:
            most = min(HALF_TURN, figures[0] * max(1, tick - mine[V_TICK]))
            to_yaw, to_pitch = _turn(mine[V_YAW], wish_yaw, most), wish_pitch
            if abs(wish_pitch - mine[V_PITCH]) > most:
                to_pitch = mine[V_PITCH] + (most if wish_pitch > mine[V_PITCH] else -most)
            if to_yaw != wish_yaw or to_pitch != wish_pitch:
                if tick <= mine[V_FREE_UNTIL]:
                    mine[V_FREE_UNTIL] = 0
                else:
                    way = abs(((wish_yaw - mine[V_YAW] + HALF_TURN) & 0xFFFF) - HALF_TURN)
                    way = max(way, abs(wish_pitch - mine[V_PITCH]))
                    when = (tick, figures[1])
                    _refuse(books, when, client, mine[V_ENTITY], figures[3], 1, way * DEGREES, most * DEGREES)
                    wish_yaw, wish_pitch = to_yaw & 0xFFFF, to_pitch
                    yaw[row], pitch[row] = wish_yaw, wish_pitch
                    held += 1
        if came or wish_yaw != mine[V_YAW] or wish_pitch != mine[V_PITCH]:
            mine[V_TICK] = tick
        mine[V_YAW], mine[V_PITCH] = wish_yaw, wish_pitch
    return held


@kernel(f"(UniTuple(i8, 2), i8[:,::1], i8[:,::1], f8[:,::1], UniTuple(f8[::1], 4), u8[::1], {BOOKS_TYPE})")
def gather_counts(
    when: tuple[int, int], counters: I64, before: I64, figures: F64, views: tuple[F64, F64, F64, F64], entity: U64,
    books: BookArrays,
) -> None:  # fmt: skip
    """Take over what counters of clients have grown by since the last call.

    Args:
        when: Tick, number of the second.
        counters: By kind and client.
        before: What they were, of the same shape; updated. A counter that fell was made new.
        figures: By kind: number of the reason or −1, what is allowed, what each counted thing is beyond that (0: only
            known to be more), and 1 to 3 where `views` say what is claimed, and in that place what is allowed; else 0.
        views: By client: what its last command claimed, and what was derived, possible and given [ticks].
        entity: Entity of each client, 0 for none.
        books: See above; updated.
    """
    for kind in range(counters.shape[0]):
        reason = int(figures[kind, 0])
        if reason < 0:
            continue
        for client in range(counters.shape[1]):
            count = counters[kind, client] - before[kind, client]
            if count == 0:
                continue
            before[kind, client] = counters[kind, client]
            count = counters[kind, client] if count < 0 else count
            if count > 0:
                allowed = figures[kind, 1]
                claimed = allowed + figures[kind, 2] * count
                from_view = int(figures[kind, 3])
                if from_view > 0:
                    claimed, allowed = views[0][client], views[from_view][client]
                _refuse(books, when, client, np.int64(entity[client]), reason, count, claimed, allowed)


@kernel(f"(UniTuple(i8, 4), {EVENTS_TYPE}, i8[::1], i4[::1], {BOOKS_TYPE})")
def hear_refusals(
    figures: tuple[int, int, int, int], events: EventArrays, reasons: I64, client_of_row: I32, books: BookArrays
) -> None:
    """Take over what the game refused in this tick: the actor's client, by the event's value.

    Args:
        figures: Tick, number of the second, number of the event, first global slot of the players.
        events: Of the tick.
        reasons: Number of the reason by the event's value; values beyond are not refusals.
        client_of_row: Client of each row, −1 for none.
        books: See above; updated.
    """
    kind, actor, _, _, _, value, counters = events
    for index in range(counters[0]):
        if np.int64(kind[index]) != figures[2] or not 0 <= value[index] < reasons.shape[0]:
            continue
        row = (np.int64(actor[index]) & SLOT_MASK) - figures[3]
        if 0 <= row < client_of_row.shape[0] and reasons[value[index]] >= 0:
            _refuse(
                books, (figures[0], figures[1]), int(client_of_row[row]), np.int64(actor[index]),
                reasons[value[index]], 1, 1.0, 0.0,
            )  # fmt: skip


@kernel(
    f"(UniTuple(i8, 3), UniTuple(f8, 3), Tuple((u8[::1], b1[::1], u2[::1])), f8[:,::1], f8[:,::1], i4[::1], "
    f"i8[:,::1], f8[:,::1], {BOOKS_TYPE})"
)
def check_motion(
    when: tuple[int, int, int], figures: tuple[float, float, float], players: tuple[U64, Bool, U16], position: F64,
    velocity: F64, client_of_row: I32, known: I64, place: F64, books: BookArrays,
) -> int:  # fmt: skip
    """Tell of players who went farther in a tick than their speed, and what may push them, allows.

    Args:
        when: Tick, number of the second, number of the reason.
        figures: Length of a tick [s], what may come on top of the speed within a tick [m/s], and to the way [m].
        players: Ids, who is alive, stance flags by row.
        position: Feet [m].
        velocity: [m/s]
        client_of_row: Client of each row, −1 for none.
        known: Remembered by row (`P_*`), int64; updated.
        place: Where each was and its speed, float64; updated.
        books: See above; updated.

    Returns:
        How many there were.
    """
    ids, alive, flags = players
    found = 0
    for row in range(alive.shape[0]):
        if not alive[row]:
            known[row, P_ALIVE] = 0
            continue
        x, y, z = position[row, 0], position[row, 1], position[row, 2]
        speed = sqrt(velocity[row, 0] ** 2 + velocity[row, 1] ** 2 + velocity[row, 2] ** 2)
        entity, teleported = np.int64(ids[row]), np.int64(flags[row]) & TELEPORTED
        mine, was = known[row], place[row]
        if mine[P_ALIVE] == 1 and mine[P_ENTITY] == entity and mine[P_TELEPORTED] == teleported:
            way = sqrt((x - was[0]) ** 2 + (y - was[1]) ** 2 + (z - was[2]) ** 2)
            most = (max(speed, was[3]) + figures[1]) * figures[0] + figures[2]
            # Written so that a place that is not a number is told of, too.
            if not way <= most:
                _refuse(books, (when[0], when[1]), int(client_of_row[row]), entity, when[2], 1, way, most)
                found += 1
        mine[P_ENTITY], mine[P_ALIVE], mine[P_TELEPORTED] = entity, 1, teleported
        was[0], was[1], was[2], was[3] = x, y, z, speed
    return found
