"""Which clients hear of which events, and the events of one snapshot.

Each event is encoded once, in up to two versions: whole, and for those who are not told of its actor (or target): of a
sound without parties and with its place blurred to a lattice of `BLUR_M`, so that a footstep tells that someone walks
there and not where an enemy stands behind the wall; of a public event with its parties and without a place.

When it happens, its number is put into the ring of each client within its range; those of its actor and target have a
second ring, so that a crowd's noise never costs a client news of itself. The fuller the other ring, the nearer must be
what is put into it: with half of it free, within half the range. What does not fit into a snapshot waits, in order.
What finds no place, or waits longer than 63 ticks, is counted as lost.
"""

import numpy as np

from net.bytes_kernels import copy_bytes
from net.snapshots_kernels import encode_event
from server.slots import (
    ACTIVE,
    COUNTS,
    ENTITY,
    HEARD_MAX,
    LIVE,
    OWN_HEARD,
    OWN_READ,
    READ,
    STATE,
    TOP,
    WRITTEN,
    Slots,
)
from sim.arrays import F64, I32, I64, U8, U16, U64
from sim.jit import kernel

__all__ = [
    "EARS_TYPE",
    "EVENTS_TYPE",
    "EVENT_BYTES_MAX",
    "FEED_TYPE",
    "HEARERS_TYPE",
    "IMPLIED",
    "PUBLIC",
    "SOUND",
    "Events",
    "Hearers",
    "gather_events",
    "push_events",
]

EVENT_BYTES_MAX = 96
EVENT_AGE_MAX = 63
EVENTS_PER_SNAPSHOT = 255
BLUR_M = 4.0
ROW_MASK = (1 << 24) - 1  # of an entity id
SOUND, IMPLIED, PUBLIC = 1, 2, 4  # flags of a kind of event
SENT, DEFERRED, LOST, UNSEEN = (COUNTS[f"events_{name}"] for name in ("sent", "deferred", "lost", "hidden"))
WHOLE, VEILED, MOMENT, KIND_FLAGS = 0, 1, 2, 3  # columns of measure: bytes of both versions, tick, flags

# events, a ring: bytes, both versions; measure; actor and target; state: events pushed so far; spare: two vectors;
# by entity row, the number of the snapshot that told of it last, and at the end the number of the newest one
EVENTS_TYPE = "Tuple((u1[:,:,::1], i4[:,::1], u8[:,::1], i8[::1], f8[:,::1], i4[::1]))"
Events = tuple[U8, I32, U64, I64, F64, I32]
# hearers: client columns, view point, own entity, numbers of events that wait (clients, 2 rings, HEARD_MAX)
HEARERS_TYPE = "Tuple((i8[:,::1], f8[:,::1], u8[::1], i4[:,:,::1]))"
Hearers = tuple[I64, F64, U64, I32]
# ears, of those who hear now: x, y and z of each [m], and how open it is; which client it is; its own entity
EARS_TYPE = "Tuple((f8[:,::1], i8[::1], u8[::1]))"
Ears = tuple[F64, I64, U64]
NOBODY = np.uint64((1 << 64) - 1)  # no entity's id
# feed of one tick: kind, actor, target, position, vector, value
FEED_TYPE = "Tuple((u2[::1], u8[::1], u8[::1], f8[:,::1], f8[:,::1], i8[::1]))"
Feed = tuple[U16, U64, U64, F64, F64, I64]


@kernel(counted=False)
def _encode(i: int, k: int, tick: int, feed: Feed, flags: int, scale: tuple[float, float], events: Events) -> None:
    """Write both versions of event `i` of the feed into row `k` of the ring."""
    kind, actor, target, position, vector, value = feed
    data, measure, party, _, spare, _ = events
    number, amount = int(np.int64(kind[i])), int(np.int64(value[i]))
    ids = (actor[i], target[i])
    measure[k, WHOLE] = encode_event(number, ids, position[i], vector[i], amount, scale, data[k, 0])
    measure[k, VEILED], measure[k, MOMENT], measure[k, KIND_FLAGS] = 0, tick, flags
    spare[:] = 0.0
    if flags & SOUND and not flags & PUBLIC:
        ids = (np.uint64(0), np.uint64(0))
        for axis in range(3):
            spare[0, axis] = (np.floor(position[i, axis] / BLUR_M) + 0.5) * BLUR_M
    if flags & (SOUND | PUBLIC):
        measure[k, VEILED] = encode_event(number, ids, spare[0], spare[1], amount, scale, data[k, 1])
    party[k, 0], party[k, 1] = actor[i], target[i]


@kernel(counted=False, merge=True)
def _wait(number: int, ring: int, client: I64, waiting: I32, counters: I64) -> None:
    """Let an event wait for a client, in one of its two rings."""
    written, read = (OWN_HEARD, OWN_READ) if ring == 1 else (WRITTEN, READ)
    if client[written] - client[read] == HEARD_MAX:
        counters[LOST] += 1
        return
    waiting[ring, client[written] % HEARD_MAX] = number & 0x7FFFFFFF
    client[written] += 1


@kernel(
    f"(i8, {FEED_TYPE}, f8[::1], u1[::1], UniTuple(f8, 2), {HEARERS_TYPE}, {EARS_TYPE}, {EVENTS_TYPE}, i8[::1])",
    counted=False,
)
def push_events(
    tick: int,
    feed: Feed,
    range_2: F64,
    flags: U8,
    scale: tuple[float, float],
    hearers: Hearers,
    ears: Ears,
    events: Events,
    counters: I64,
) -> None:
    """Encode the events of this tick once for all clients, and let each hear of those that concern it.

    range_2, flags: per kind of event, squared range [m²] and `SOUND`, `IMPLIED`, `PUBLIC`.
    """
    kind, actor, target, position = feed[0], feed[1], feed[2], feed[3]
    count = _collect_ears(hearers, ears)
    for i in range(kind.shape[0]):
        number = events[3][0]
        events[3][0] += 1
        _encode(i, number % events[1].shape[0], tick, feed, int(np.int64(flags[kind[i]])), scale, events)
        _spread(number, actor[i], target[i], position[i], range_2[kind[i]], count, hearers, ears, counters)


@kernel(counted=False, merge=True)
def _openness(client: I64) -> float:
    """Of the squared range, how much counts for this client: the square of the free part of its ring."""
    free = (HEARD_MAX - client[WRITTEN] + client[READ]) / HEARD_MAX
    return float(free * free)


@kernel(counted=False)
def _collect_ears(hearers: Hearers, ears: Ears) -> int:
    """Put what decides about hearing side by side, for the active clients: how many. It is read once per event."""
    columns, view, own, _ = hearers
    places, clients, bodies = ears
    count = 0
    for c in range(columns.shape[0]):
        if columns[c, ACTIVE] != 0:
            places[0, count], places[1, count], places[2, count] = view[c, 0], view[c, 1], view[c, 2]
            places[3, count] = _openness(columns[c])
            clients[count] = c
            bodies[count] = own[c] if own[c] != np.uint64(0) else NOBODY
            count += 1
    return count


@kernel(counted=False)
def _spread(
    number: int, actor: np.uint64, target: np.uint64, place: F64, most: float, count: int, hearers: Hearers,
    ears: Ears, counters: I64,
) -> None:  # fmt: skip
    """Let an event wait for those it concerns, and those within its range; most: the range squared [m²]."""
    columns, waiting = hearers[0], hearers[3]
    xs, ys, zs, opens = ears[0][0], ears[0][1], ears[0][2], ears[0][3]
    clients, bodies = ears[1], ears[2]
    lost = 0
    for k in range(count):
        dx, dy, dz = place[0] - xs[k], place[1] - ys[k], place[2] - zs[k]
        distance_2 = dx * dx + dy * dy + dz * dz
        concerned = bodies[k] == actor or bodies[k] == target
        if not concerned and distance_2 > most * opens[k]:
            lost += 1 if distance_2 <= most else 0
            continue
        c = np.uint64(clients[k])
        _wait(number, 1 if concerned else 0, columns[c], waiting[c], counters)
        opens[k] = _openness(columns[c])
    counters[LOST] += lost


@kernel(counted=False)
def _note_told(top: int, c: int, slots: Slots, told: I32) -> int:
    """Mark the rows of the entities that client `c` is told of now with a number of this snapshot's own; the number."""
    state, held = slots[1][STATE, c], slots[0][ENTITY, c]
    told[-1] += 1
    for place in range(top):
        if state[place] == LIVE:
            told[held[place]] = told[-1]
    return int(told[-1])


@kernel(counted=False, merge=True)
def _told_of(entity: np.uint64, mark: int, told: I32, known: U64) -> bool:
    """Whether an entity is marked as told of."""
    row = np.uint64(entity & np.uint64(ROW_MASK))
    return bool(row < np.uint64(known.shape[0]) and known[row] == entity and told[row] == mark)


@kernel(counted=False, merge=True)
def _version(k: int, mark: int, own: np.uint64, told: I32, known: U64, events: Events) -> int:
    """Which version of an event a client may be told: 0 whole, 1 veiled, 2 none; 3: it finds out by itself."""
    zero = np.uint64(0)
    flags = events[1][k, KIND_FLAGS]
    whole = True
    for side in range(2):
        party = events[2][k, side]
        if party != zero and party != own and not _told_of(party, mark, told, known):
            whole = False
    if whole:
        return 3 if flags & IMPLIED and events[2][k, 0] != zero and events[2][k, 0] != own else 0
    return 1 if events[1][k, VEILED] > 0 else 2


@kernel(counted=False)
def gather_events(
    tick: int,
    c: int,
    room: int,
    hearers: Hearers,
    slots: Slots,
    known: U64,
    events: Events,
    out: U8,
    at: int,
    counters: I64,
) -> tuple[int, int]:
    """Write the events that wait for client `c`, own ones first, in at most `room` bytes: how many, the byte after."""
    client, own, waiting = hearers[0][c], hearers[2][c], hearers[3][c]
    data, measure, _, state, _, told = events
    end, count = at + room, 0
    mark = _note_told(int(np.int64(client[TOP])), c, slots, told)
    for ring in (1, 0):
        written, read = (OWN_HEARD, OWN_READ) if ring == 1 else (WRITTEN, READ)
        while client[read] < client[written]:
            number = int(np.int64(waiting[ring, client[read] % HEARD_MAX]))
            k = number % measure.shape[0]
            age = tick - measure[k, MOMENT]
            lost = (state[0] & 0x7FFFFFFF) - number > measure.shape[0] or age > EVENT_AGE_MAX
            version = 2 if lost else (0 if ring == 1 else _version(k, mark, own, told, known, events))
            if version <= 1:
                length = int(np.int64(measure[k, version]))
                if at + length > end or count == EVENTS_PER_SNAPSHOT:
                    counters[DEFERRED] += 1
                    break
                copy_bytes(out, at, data[k, version], 0, length)
                out[at] = age
                at += length
                count += 1
            elif version == 2:
                counters[LOST if lost else UNSEEN] += 1
            client[read] += 1
    counters[SENT] += count
    return count, at
