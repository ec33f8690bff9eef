"""Which entities each client is told of: the nearest within range, with hysteresis, in at most 128 interest slots.

Entities are counted into square cells in the XY plane (counting sort, rebuilt for each tick that refreshes anyone),
and a client looks only at the cells its range touches; places are copied in the order of the cells, so that a row of
cells is read in one run. Between two refreshes of a client what has come to life near it is offered to it at once, so
that a rocket is seen when it is fired. Slots: server/slots.py.

In a crowd a client need not look as far as its range: if there are more entities than it may be told of within a
quarter more than the farthest of the last time, the nearest are among them. (With 1,000 players on 240 m a refresh
looked at 600 entities and took 17 µs.)
"""

import numpy as np

from server.slots import (
    ACTIVE,
    AT_ONCE,
    BASELINE,
    BORN,
    BY_RANGE,
    COUNTS,
    DESPAWNED,
    ENTITY,
    FACTOR,
    FREE,
    HIDDEN,
    HIDDEN_SLOT,
    LEAVING,
    LEVEL,
    LIVE,
    NO_BASELINE,
    OWN_ROW,
    OWNER_ONLY,
    REACH,
    SENT,
    SLOT_COUNT,
    SLOTS_TYPE,
    SPAWNED,
    STATE,
    TOLD,
    TOP,
    WEIGHT,
    Slots,
)
from sim.arrays import F64, I32, I64, U8, U64
from sim.jit import kernel

__all__ = ["CELLS_TYPE", "CHOICE_TYPE", "ENTITIES_TYPE", "VIEWERS_TYPE", "build_cells", "offer", "refresh"]

SLOTS_FULL, RELEVANT_CUT = COUNTS["slots_full"], COUNTS["relevant_cut"]
INDEX_BITS = 24
NEAR_M = 8.0  # up to about here distance hardly lowers the weight
WEIGHT_MIN = 128  # the greatest is 255 · 16: with 1 in its place unimportant entities waited over 200 ticks
HELD_SHARE = 0.64  # squared distance of an entity already held counts this much when there are too many

# cells: start of each cell and the end, entities by cell, entities for everyone or owners, cell of each entity, places
# of the entities by cell
CELLS_TYPE = "Tuple((i4[::1], i4[::1], i4[::1], i4[::1], f8[:,::1]))"
Cells = tuple[I32, I32, I32, I32, F64]
# choice: slot + 1 of each entity that this client holds (all 0 between clients), keys, which slots are kept
CHOICE_TYPE = "Tuple((i4[::1], i8[::1], u1[::1]))"
Choice = tuple[I32, I64, U8]
# viewers: client columns, view point
VIEWERS_TYPE = "Tuple((i8[:,::1], f8[:,::1]))"
Viewers = tuple[I64, F64]
# entities: id, position, rule, client that owns it, importance, marks
ENTITIES_TYPE = "Tuple((u8[::1], f8[:,::1], u1[::1], i4[::1], u1[::1], i4[:,::1]))"
Entities = tuple[U64, F64, U8, I32, U8, I32]
# frame of the cells, f8[4]: origin x and y [m], size [m], cells a side


@kernel(counted=False)
def _column(value: float, origin: float, size: float, side: int) -> int:
    """The row or column of cells that `value` lies in, held within the frame."""
    at = (value - origin) / size
    if not at > 0.0:
        return 0
    return int(at) if at < side else side - 1


@kernel(f"({ENTITIES_TYPE}, f8, {CELLS_TYPE}, f8[::1])", counted=False)
def build_cells(entities: Entities, range_m: float, cells: Cells, frame: F64) -> int:
    """Sort the entities that are seen by range into square cells, frame[3] a side; list the others. How many others."""
    identity, position, rule, _, _, _ = entities
    start, item, other, cell_of, place = cells
    zero = np.uint64(0)
    low_x, low_y, high_x, high_y = np.inf, np.inf, -np.inf, -np.inf
    others = 0
    side = int(np.int64(frame[3]))
    for i in range(identity.shape[0]):
        if identity[i] == zero:
            continue
        if rule[i] == BY_RANGE:
            low_x, high_x = min(low_x, position[i, 0]), max(high_x, position[i, 0])
            low_y, high_y = min(low_y, position[i, 1]), max(high_y, position[i, 1])
        elif rule[i] != HIDDEN:
            other[others] = i
            others += 1
    if low_x > high_x:
        low_x, low_y, high_x, high_y = 0.0, 0.0, 0.0, 0.0
    frame[0], frame[1] = low_x, low_y
    frame[2] = max(range_m / 4, (high_x - low_x) / side, (high_y - low_y) / side)
    start[:] = 0
    for i in range(identity.shape[0]):
        cell_of[i] = -1
        if identity[i] != zero and rule[i] == BY_RANGE:
            column = _column(position[i, 0], low_x, frame[2], side)
            cell_of[i] = column + side * _column(position[i, 1], low_y, frame[2], side)
            start[cell_of[i]] += 1
    for cell in range(side * side):
        start[cell + 1] += start[cell]
    for i in range(identity.shape[0] - 1, -1, -1):
        if cell_of[i] >= 0:  # from the back, each cell's end moves down to its start: no second table of cursors
            start[cell_of[i]] -= 1
            at = start[cell_of[i]]
            item[at] = i
            place[at, 0], place[at, 1], place[at, 2] = position[i, 0], position[i, 1], position[i, 2]
    return others


@kernel(counted=False)
def _key(entity: int, distance_2: float) -> int:
    """Sort key: squared distance [1/64 m²], then entity, so that no two are equal."""
    return int(min(distance_2 * 64.0, 5e11)) << INDEX_BITS | entity


@kernel(counted=False)
def _near(view: F64, own_row: int, range_2: tuple[float, float], cells: Cells, frame: F64, choice: Choice) -> int:
    """Collect the keys of all entities within range; how many. Held ones may be farther, and count as nearer."""
    start, item, place = cells[0], cells[1], cells[4]
    slot_of, keys = choice[0], choice[1]
    side = int(np.int64(frame[3]))
    reach = np.sqrt(range_2[1])
    left = _column(view[0] - reach, frame[0], frame[2], side)
    right = _column(view[0] + reach, frame[0], frame[2], side)
    low = _column(view[1] - reach, frame[1], frame[2], side)
    high = _column(view[1] + reach, frame[1], frame[2], side)
    count = 0
    enter_2, exit_2 = range_2
    for row in range(low, high + 1):  # the cells of a row are one run of items
        first, last = start[row * side + left], start[row * side + right + 1]
        for at in range(np.uint64(first), np.uint64(last)):
            dx = place[at, 0] - view[0]
            dy = place[at, 1] - view[1]
            dz = place[at, 2] - view[2]
            distance_2 = dx * dx + dy * dy + dz * dz
            entity = int(np.int64(item[at]))
            held = slot_of[np.uint64(entity)] > 0
            # Half of them are within range, at random: each is written, and the next one over it unless it counts.
            keys[np.uint64(count)] = _key(entity, distance_2 * HELD_SHARE if held else distance_2)
            near = (distance_2 <= (exit_2 if held else enter_2)) & (distance_2 <= exit_2) & (entity != own_row)
            count += int(near)
    return count


@kernel(counted=False)
def _ruled(client: int, own_row: int, others: int, entities: Entities, cells: Cells, count: int, choice: Choice) -> int:
    """Add the client's own entity, those for everyone, and those it owns, as if at no distance."""
    identity, _, rule, owner, _, _ = entities
    if own_row >= 0 and identity[own_row] != np.uint64(0) and rule[own_row] != HIDDEN:
        choice[1][count] = _key(own_row, 0.0)
        count += 1
    for i in range(others):
        entity = int(np.int64(cells[2][i]))
        if entity == own_row or (rule[entity] == OWNER_ONLY and owner[entity] != client):
            continue
        choice[1][count] = _key(entity, 0.0)
        count += 1
    return count


@kernel(counted=False)
def _smallest_first(keys: I64, count: int, wanted: int) -> None:
    """Reorder keys[:count], all different, so that the `wanted` smallest come first (Hoare's selection, 1961)."""
    low, high = 0, count - 1
    while low < high:
        a, b, c = keys[low], keys[(low + high) >> 1], keys[high]
        pivot = max(min(a, b), min(max(a, b), c))
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            return


@kernel(counted=False)
def _reach_cm(count: int, keys: I64) -> int:
    """A quarter more than the farthest of the chosen can be away [cm]."""
    farthest = 0
    for i in range(count):
        farthest = max(farthest, keys[i])
    return int(125.0 * np.sqrt((farthest >> INDEX_BITS) / 64.0 / HELD_SHARE)) + 100


@kernel(counted=False)
def _note_held(marks: I32, client: I64, c: int, slots: Slots, choice: Choice) -> None:
    """Fill in which slot holds each entity that still lives, those included that the client is to leave."""
    entity, born = slots[0][ENTITY, c], slots[0][BORN, c]
    for place in range(client[TOP]):
        choice[2][place] = 0
        row = entity[place]
        if row >= 0 and marks[row, SPAWNED] <= born[place]:
            choice[0][row] = place + 1


@kernel(counted=False)
def _weight(key: int, importance: int) -> int:
    """Priority gained per tick: importance over distance, within a range of 1 to 32 so that none starves."""
    distance = np.sqrt((key >> INDEX_BITS) / 64.0)
    return max(WEIGHT_MIN, int(importance * 16.0 * NEAR_M / (NEAR_M + distance)))


@kernel(counted=False)
def _take(tick: int, c: int, place: int, entity: int, slots: Slots) -> None:
    """Let a free slot hold an entity, of which the client knows nothing yet."""
    columns, flags = slots
    columns[ENTITY, c, place] = entity
    columns[BASELINE, c, place], columns[BORN, c, place], columns[SENT, c, place] = NO_BASELINE, tick, NO_BASELINE
    flags[STATE, c, place], flags[LEVEL, c, place] = HIDDEN_SLOT, 0
    flags[TOLD, c, place], flags[FACTOR, c, place] = 1, 16


@kernel(counted=False)
def _assign(tick: int, c: int, client: I64, count: int, entities: Entities, slots: Slots, choice: Choice) -> int:
    """Keep or give a slot for each chosen key, and let the others go; how many found no free slot."""
    slot_of, keys, keep = choice
    importance = entities[4]
    state, entity_of, weight = slots[1][STATE, c], slots[0][ENTITY, c], slots[0][WEIGHT, c]
    free, refused, top = 0, 0, int(np.int64(client[TOP]))
    for i in range(count):
        entity = int(np.int64(keys[i] & ((1 << INDEX_BITS) - 1)))
        place = int(np.int64(slot_of[entity])) - 1
        if place < 0:
            while free < SLOT_COUNT and state[free] != FREE:
                free += 1
            if free == SLOT_COUNT:
                refused += 1
                continue
            place = free
            _take(tick, c, place, entity, slots)
        keep[place] = 1
        weight[place] = _weight(int(np.int64(keys[i])), int(np.int64(importance[entity])))
        client[TOP] = max(client[TOP], place + 1)
    for place in range(top):
        if entity_of[place] >= 0:
            slot_of[entity_of[place]] = 0
        if keep[place] == 0 and state[place] != FREE:
            _let_go(tick, place, entities[5], state, entity_of, slots[0][BORN, c])
    while client[TOP] > 0 and state[client[TOP] - 1] == FREE:
        client[TOP] -= 1
    return refused


@kernel(counted=False)
def _let_go(tick: int, place: int, marks: I32, state: U8, entity_of: I32, born: I32) -> None:
    """Have the client empty a slot whose entity it is not to be told of any more, if it holds anything there."""
    row = entity_of[place]
    entity_of[place] = -1
    if state[place] == HIDDEN_SLOT:
        state[place] = FREE
    elif state[place] == LIVE:
        state[place] = LEAVING if marks[row, SPAWNED] <= born[place] else DESPAWNED
        born[place] = tick


@kernel(
    f"(i8, i8, i8, UniTuple(f8, 2), i8, {VIEWERS_TYPE}, {ENTITIES_TYPE}, {CELLS_TYPE}, f8[::1], {CHOICE_TYPE},"
    f" {SLOTS_TYPE}, i8[::1])",
    counted=False,
)
def refresh(
    tick: int,
    period: int,
    limit: int,
    range_2: tuple[float, float],
    others: int,
    viewers: Viewers,
    entities: Entities,
    cells: Cells,
    frame: F64,
    choice: Choice,
    slots: Slots,
    counters: I64,
) -> int:
    """Choose anew for each client whose turn it is: those with (client + tick) mod period = 0, and new ones.

    range_2: squared range to enter and to stay [m²]. Returns how many clients were refreshed.
    """
    clients, view = viewers
    refreshed = 0
    for c in range(clients.shape[0]):
        turn = clients[c, AT_ONCE] != 0 or (c + tick) % period == 0
        if clients[c, ACTIVE] == 0 or not turn:
            continue
        clients[c, AT_ONCE] = 0
        refreshed += 1
        own_row = int(np.int64(clients[c, OWN_ROW]))
        _note_held(entities[5], clients[c], c, slots, choice)
        reach_2 = (clients[c, REACH] / 100.0) ** 2 if clients[c, REACH] > 0 else range_2[1]
        near = _near(view[c], own_row, (min(range_2[0], reach_2), min(range_2[1], reach_2)), cells, frame, choice)
        count = _ruled(c, own_row, others, entities, cells, near, choice)
        if count <= limit and reach_2 < range_2[1]:
            near = _near(view[c], own_row, range_2, cells, frame, choice)
            count = _ruled(c, own_row, others, entities, cells, near, choice)
        clients[c, REACH] = 0
        if count > limit:
            counters[RELEVANT_CUT] += count - limit
            _smallest_first(choice[1], count, limit)
            count = limit
            clients[c, REACH] = _reach_cm(count, choice[1])
        counters[SLOTS_FULL] += _assign(tick, c, clients[c], count, entities, slots, choice)
    return refreshed


@kernel(
    f"(i8, i8, f8, {VIEWERS_TYPE}, {ENTITIES_TYPE}, {SLOTS_TYPE}, i4[::1], i8[::1])",
    counted=False,
)
def offer(
    tick: int, fresh: int, enter_2: float, viewers: Viewers, entities: Entities, slots: Slots, rows: I32, counters: I64
) -> int:
    """Give what has come to life (rows[:fresh]) a slot with each client that it is within range of; how many slots."""
    clients, view = viewers
    _, position, rule, _, importance, _ = entities
    given = 0
    for i in range(fresh):
        row = int(np.int64(rows[i]))
        if rule[row] != BY_RANGE:
            continue
        for c in range(clients.shape[0]):
            dx = position[row, 0] - view[c, 0]
            dy = position[row, 1] - view[c, 1]
            dz = position[row, 2] - view[c, 2]
            distance_2 = dx * dx + dy * dy + dz * dz
            # Who is to choose anew in this tick anyway finds it then.
            if (
                distance_2 > enter_2
                or clients[c, ACTIVE] == 0
                or clients[c, AT_ONCE] != 0
                or clients[c, OWN_ROW] == row
            ):
                continue
            state = slots[1][STATE, c]
            place = 0
            while place < SLOT_COUNT and state[place] != FREE:
                place += 1
            if place == SLOT_COUNT:
                counters[SLOTS_FULL] += 1
                continue
            _take(tick, c, place, row, slots)
            slots[0][WEIGHT, c, place] = _weight(_key(row, distance_2), int(np.int64(importance[row])))
            clients[c, TOP] = max(clients[c, TOP], place + 1)
            given += 1
    return given
