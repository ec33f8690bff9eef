"""The quantised history of all entities, and from when on a client's own reckoning is good enough.

`history[tick mod ring, entity]` holds the fields of the last ticks; those of a tick lie together, because most
entities are looked at in the same few ticks: now, the tick before, and the one that most clients acknowledged last.

Dead reckoning (IEEE 1278.1, annex E): a client goes on with what it was told last, and is told anew only where that
would be off by more than a bound. What it was told last differs from client to client, so the question is put once
per entity and not per client: from which tick on would every state, extrapolated to now, be within the bounds? That
tick is `STEADY`; whoever has been told of a state since needs nothing. It never goes back, so the work is bounded by
the ring, and whoever starts and stops in turns is not taken for steady. An entity that has rested for `REST_TICKS` is
told exactly.

Fields without a bound are exact: `EXACT` of a level is the last tick at which one of its fields changed.
"""

import numpy as np

from net.records_kernels import CODEC_TYPE, Codec, expected_position, reckoned_order
from server.slots import CHANGED, EXACT, LEVELS, NEVER, SPAWNED, STEADY, WORLD_TYPE, World
from sim.arrays import I32, I64, U64
from sim.jit import kernel

__all__ = ["REST_TICKS", "commit"]

MOTION_FIELDS = 6
REST_TICKS = 8


@kernel(counted=False, merge=True)
def _apart(a: int, b: int, bits: int, wraps: int) -> int:
    """The distance of two values, the short way round if they wrap."""
    away = abs(a - b)
    if wraps != 0:
        away &= (1 << bits) - 1
        away = min(away, (1 << bits) - away)
    return away


@kernel(counted=False, merge=True)
def _inside(now: I32, then: I32, age: int, bounds: I64, last: int, codec: Codec) -> bool:
    """Whether the state `then`, `age` ticks ago, reckoned to now is within the bounds of all fields that have one.

    last: Behind the last of these fields.
    """
    row, order = reckoned_order(then, codec)
    for axis in range(3):
        if abs(now[axis] - expected_position(then, age, axis, row, order, codec)) > bounds[axis, 0]:
            return False
    for f in range(MOTION_FIELDS, last):
        if bounds[f, 0] > 0 and _apart(now[f], then[f], bounds[f, 1], bounds[f, 2]) > bounds[f, 0]:
            return False
    return True


@kernel(counted=False, merge=True)
def _compare(tick: int, now: I32, before: I32, bounds: I64, mark: I32) -> None:
    """Note what changed since the tick before."""
    different = 0
    for f in range(now.shape[0]):
        if now[f] != before[f]:
            different = 1
            if f >= MOTION_FIELDS and bounds[f, 0] == 0:
                for level in range(bounds[f, 3], LEVELS):
                    mark[EXACT + level] = tick
    if different != 0 or (now[3] | now[4] | now[5]) != 0:
        mark[CHANGED] = tick


@kernel(counted=False)
def _bounded(bounds: I64) -> int:
    """Behind the last field that has a bound."""
    last = MOTION_FIELDS
    for f in range(MOTION_FIELDS, bounds.shape[0]):
        if bounds[f, 0] > 0:
            last = f + 1
    return last


@kernel(counted=False, merge=True)
def _reckon(tick: int, i: int, history: I32, mark: I32, bounds: I64, last: int, codec: Codec) -> None:
    """Find from which tick on every state, reckoned to now, is within the bounds."""
    ring = history.shape[0]
    now = history[tick & (ring - 1), i]
    low = max(int(np.int64(mark[STEADY])), tick - ring + 1)
    rest = int(np.int64(mark[CHANGED]))
    if tick - rest >= REST_TICKS:
        mark[STEADY] = max(low, rest)
        return
    then = min(tick, rest) - 1  # since `rest` every state has been this one, and has not moved
    while then >= low and _inside(now, history[then & (ring - 1), i], tick - then, bounds, last, codec):
        then -= 1
    mark[STEADY] = max(low, then + 1)


@kernel(f"(i8, u8[::1], i4[:,::1], {WORLD_TYPE}, i8[:,::1], {CODEC_TYPE}, i4[::1])", counted=False)
def commit(tick: int, identity: U64, staged: I32, world: World, bounds: I64, codec: Codec, fresh: I32) -> int:
    """Store the quantised state of this tick and note what changed; how many entities are new, listed in `fresh`.

    bounds: bound [steps], bits, whether it wraps, level; per field.
    """
    known, marks, history, state = world
    follows = state[0] == tick - 1
    if not follows:
        state[1] = tick
    state[0] = tick
    last, ring = _bounded(bounds), history.shape[0]
    count = 0
    for i in range(identity.shape[0]):
        same = known[i] == identity[i]
        known[i] = identity[i]
        if identity[i] == np.uint64(0):
            marks[i, SPAWNED] = NEVER
            continue
        now = history[tick & (ring - 1), i]
        for f in range(now.shape[0]):
            now[f] = staged[i, f]
        if same and follows:
            _compare(tick, now, history[(tick - 1) & (ring - 1), i], bounds, marks[i])
            _reckon(tick, i, history, marks[i], bounds, last, codec)
            continue
        for m in range(CHANGED, EXACT + LEVELS):
            marks[i, m] = tick
        if not same:
            marks[i, SPAWNED] = tick
            fresh[count] = i
            count += 1
    return count
