"""Which entities each client is told of: the nearest within range, with hysteresis, in at most 128 interest slots.

Entities are counted into square cells in the XY plane (counting sort, rebuilt for each tick that refreshes anyone),
and a client looks only at the cells its range touches. Interest slots are as the ghosts of Tribes (Frohnmayer and
Gift 2000): small, reused numbers, left and freed only by acknowledgement.
"""

import numpy as np

from sim.arrays import F64, I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "ACTIVE",
    "AT_ONCE",
    "BASELINE",
    "BUDGET",
    "BY_RANGE",
    "CELLS_TYPE",
    "CHOICE_TYPE",
    "CLIENT_COLUMNS",
    "COUNT_RELEVANT_CUT",
    "COUNT_SLOTS_FULL",
    "DESPAWNED",
    "ENTITIES_TYPE",
    "ENTITY",
    "EVERYONE",
    "FREE",
    "HIDDEN",
    "INPUT_TICK",
    "INTERVAL",
    "LAST_TICK",
    "LEAD",
    "LEAVING",
    "LIVE",
    "NEXT_EVENT",
    "NEXT_OWN_EVENT",
    "NEXT_SEQUENCE",
    "NO_BASELINE",
    "OWNER_BYTES",
    "OWNER_ONLY",
    "PRIORITY",
    "SENT_TYPE",
    "SEQUENCE",
    "SLOTS_TYPE",
    "SLOT_COLUMNS",
    "STATE",
    "TARGET_LEAD",
    "TICK",
    "VIEWERS_TYPE",
    "WEIGHT",
    "Sent",
    "Slots",
    "build_cells",
    "clear_carried",
    "refresh",
]

BY_RANGE, EVERYONE, OWNER_ONLY, HIDDEN = 0, 1, 2, 3  # rule of an entity
FREE, LIVE, LEAVING, DESPAWNED = 0, 1, 2, 3  # state of a slot
NO_BASELINE = -1
COUNT_SLOTS_FULL, COUNT_RELEVANT_CUT = 0, 1  # counters
SLOT_COUNT = 128
INDEX_BITS = 24
NEAR_M = 8.0  # up to about here distance hardly lowers the weight
WEIGHT_MIN = 128  # the greatest is 255 · 16: with 1 in its place unimportant entities waited over 200 ticks
HELD_SHARE = 0.64  # squared distance of an entity already held counts this much when there are too many

# slots: columns below; entity id
SLOTS_TYPE = "Tuple((i4[:,:,::1], u8[:,::1]))"
Slots = tuple[I32, U64]
ENTITY, STATE, BASELINE, PRIORITY, WEIGHT = 0, 1, 2, 3, 4
SLOT_COLUMNS = 5
# sent packets, a ring per client: sequence (−1: none outstanding) and tick; slots with a record, two words of a bit
# set, and slots left, two words
SENT_TYPE = "Tuple((i4[:,:,::1], u8[:,:,::1]))"
Sent = tuple[I32, U64]
SEQUENCE, TICK = 0, 1
# clients: columns below
ACTIVE, AT_ONCE, INTERVAL, BUDGET, NEXT_SEQUENCE, LAST_TICK, NEXT_EVENT = 0, 1, 2, 3, 4, 5, 6
INPUT_TICK, LEAD, TARGET_LEAD, OWNER_BYTES, NEXT_OWN_EVENT = 7, 8, 9, 10, 11
CLIENT_COLUMNS = 12
# cells: start of each cell and the end, entities by cell, entities for everyone or owners, cell of each entity
CELLS_TYPE = "Tuple((i4[::1], i4[::1], i4[::1], i4[::1]))"
Cells = tuple[I32, I32, I32, I32]
# choice: slot + 1 of each entity that this client holds (all 0 between clients), keys, which slots are kept
CHOICE_TYPE = "Tuple((i4[::1], i8[::1], u1[::1]))"
Choice = tuple[I32, I64, U8]
# viewers: client columns, view point, own entity
VIEWERS_TYPE = "Tuple((i8[:,::1], f8[:,::1], u8[::1]))"
Viewers = tuple[I64, F64, U64]
# entities: id, position, rule, client that owns it, importance
ENTITIES_TYPE = "Tuple((u8[::1], f8[:,::1], u1[::1], i4[::1], u1[::1]))"
Entities = tuple[U64, F64, U8, I32, U8]
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
    identity, position, rule, _, _ = entities
    start, item, other, cell_of = cells
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
            item[start[cell_of[i]]] = i
    return others


@kernel(counted=False)
def _key(entity: int, distance_2: float) -> int:
    """Sort key: squared distance [1/64 m²], then entity, so that no two are equal."""
    return int(min(distance_2 * 64.0, 5e11)) << INDEX_BITS | entity


@kernel(counted=False)
def _near(
    view: F64,
    own: np.uint64,
    range_2: tuple[float, float],
    entities: Entities,
    cells: Cells,
    frame: F64,
    choice: Choice,
) -> int:
    """Collect the keys of all entities within range; how many. Held ones may be farther, and count as nearer."""
    identity, position = entities[0], entities[1]
    start, item = cells[0], cells[1]
    slot_of, keys = choice[0], choice[1]
    side = int(np.int64(frame[3]))
    reach = np.sqrt(range_2[1])
    left = _column(view[0] - reach, frame[0], frame[2], side)
    right = _column(view[0] + reach, frame[0], frame[2], side)
    low = _column(view[1] - reach, frame[1], frame[2], side)
    high = _column(view[1] + reach, frame[1], frame[2], side)
    count = 0
    for row in range(low, high + 1):  # the cells of a row are one run of items
        for at in range(start[row * side + left], start[row * side + right + 1]):
            entity = int(np.int64(item[at]))
            dx = position[entity, 0] - view[0]
            dy = position[entity, 1] - view[1]
            dz = position[entity, 2] - view[2]
            distance_2 = dx * dx + dy * dy + dz * dz
            held = slot_of[entity] > 0
            if distance_2 <= range_2[1 if held else 0] and identity[entity] != own:
                keys[count] = _key(entity, distance_2 * HELD_SHARE if held else distance_2)
                count += 1
    return count


@kernel(counted=False)
def _ruled(
    client: int, own: np.uint64, others: int, entities: Entities, cells: Cells, count: int, choice: Choice
) -> int:
    """Add the entities for everyone, and those for their owner where it is this client, as if at no distance."""
    identity, _, rule, owner, _ = entities
    for i in range(others):
        entity = int(np.int64(cells[2][i]))
        if identity[entity] == own or (rule[entity] == OWNER_ONLY and owner[entity] != client):
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
def clear_carried(slot: int, carried: U64) -> None:
    """Forget that any packet in flight carried this slot: their acknowledgement says nothing of its next entity."""
    word, keep = slot >> 6, ~(np.uint64(1) << np.uint64(slot & 63))
    for row in range(carried.shape[0]):
        carried[row, word] &= keep
        carried[row, 2 + word] &= keep


@kernel(counted=False)
def _note_held(identity: U64, slot: I32, held: U64, slot_of: I32, keep: U8) -> None:
    """Fill in which slot holds each entity that still lives, the leaving ones included."""
    for i in range(SLOT_COUNT):
        keep[i] = 0
        entity = slot[ENTITY, i]
        if LIVE <= slot[STATE, i] <= LEAVING and identity[entity] == held[i]:
            slot_of[entity] = i + 1


@kernel(counted=False)
def _weight(key: int, importance: int) -> int:
    """Priority gained per tick: importance over distance, within a range of 1 to 32 so that none starves."""
    distance = np.sqrt((key >> INDEX_BITS) / 64.0)
    return max(WEIGHT_MIN, int(importance * 16.0 * NEAR_M / (NEAR_M + distance)))


@kernel(counted=False)
def _assign(count: int, entities: Entities, slot: I32, held: U64, carried: U64, choice: Choice, counters: I64) -> None:
    """Keep, revive or give a slot for each chosen key; every other live slot begins to leave."""
    slot_of, keys, keep = choice
    identity, importance = entities[0], entities[4]
    free = 0
    for i in range(count):
        entity = int(np.int64(keys[i] & ((1 << INDEX_BITS) - 1)))
        place = int(np.int64(slot_of[entity])) - 1
        if place < 0:
            while free < SLOT_COUNT and slot[STATE, free] != FREE:
                free += 1
            if free == SLOT_COUNT:
                counters[COUNT_SLOTS_FULL] += 1
                continue
            place = free
        if slot[STATE, place] != LIVE:
            # A slot that was leaving is revived with nothing acknowledged: whether the client has already
            # emptied it cannot be known, and a full record is right in both cases.
            clear_carried(place, carried)
            slot[ENTITY, place] = entity
            slot[STATE, place] = LIVE
            slot[BASELINE, place] = NO_BASELINE
            slot[PRIORITY, place] = 0
            held[place] = identity[entity]
        keep[place] = 1
        slot[WEIGHT, place] = _weight(int(np.int64(keys[i])), int(np.int64(importance[entity])))
    for place in range(SLOT_COUNT):
        entity = int(np.int64(slot[ENTITY, place]))
        if slot[STATE, place] != FREE:
            slot_of[entity] = 0
        if slot[STATE, place] == LIVE and keep[place] == 0:
            slot[STATE, place] = DESPAWNED if identity[entity] != held[place] else LEAVING


@kernel(
    f"(i8, i8, i8, UniTuple(f8, 2), i8, {VIEWERS_TYPE}, {ENTITIES_TYPE}, {CELLS_TYPE}, f8[::1], {CHOICE_TYPE},"
    f" Tuple(({SLOTS_TYPE}, {SENT_TYPE})), i8[::1])",
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
    interest: tuple[Slots, Sent],
    counters: I64,
) -> int:
    """Choose anew for each client whose turn it is: those with (client + tick) mod period = 0, and new ones.

    range_2: squared range to enter and to stay [m²]. Returns how many clients were refreshed.
    """
    clients, view, own = viewers
    slots, held = interest[0]
    carried = interest[1][1]
    refreshed = 0
    for client in range(clients.shape[0]):
        turn = clients[client, AT_ONCE] != 0 or (client + tick) % period == 0
        if clients[client, ACTIVE] == 0 or not turn:
            continue
        clients[client, AT_ONCE] = 0
        refreshed += 1
        _note_held(entities[0], slots[client], held[client], choice[0], choice[2])
        count = _near(view[client], own[client], range_2, entities, cells, frame, choice)
        count = _ruled(client, own[client], others, entities, cells, count, choice)
        if count > limit:
            counters[COUNT_RELEVANT_CUT] += count - limit
            _smallest_first(choice[1], count, limit)
            count = limit
        _assign(count, entities, slots[client], held[client], carried[client], choice, counters)
    return refreshed
