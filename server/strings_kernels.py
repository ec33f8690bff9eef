"""The records of one snapshot: which slots need one, and all of them as one string of bits.

A record depends on entity, level, baseline tick and tick, so it is encoded when the first client needs it. Cache entry
by (level, baseline mod ring, entity): tick, place in the arena and length, and beside it the first 64 bits of the
record, which mostly is all of it: then a record costs one cache line and one shift.

A slot is passed over while nothing needs to be said (server/history_kernels.py): because the client's own reckoning
from what it acknowledged is good enough; or from what was sent last, as long as that may still be under way. A survey
(server/survey_kernels.py) finds that out for the usual slots, `_look` for the others.
"""

import numpy as np

from net.records_kernels import (
    CODEC_TYPE,
    RECORD_WORDS_MAX,
    Codec,
    encode_delta,
    encode_full,
)
from server.join_kernels import (
    AGE,
    AGE_BITS,
    ENTRY,
    ENTRY_BITS,
    ENTRY_OFFSET,
    JOINED_BITS,
    JOINED_FULL,
    JOINED_MASK,
    join,
)
from server.slots import (
    ACKED_TICK,
    BASELINE,
    BORN,
    CHANGED,
    COUNTS,
    DESPAWNED,
    ENTITY,
    EXACT,
    FREE,
    HIDDEN_SLOT,
    LEAVING,
    LEVEL,
    LIVE,
    NO_BASELINE,
    OWN_ROW,
    OWNER_MARK,
    SENT,
    SPAWNED,
    STATE,
    STEADY,
    TEAM_MARK,
    TOLD,
    TOP,
    Slots,
    World,
)
from server.survey_kernels import (
    ASK_BLOCKS,
    ASK_CLIENT,
    ASK_FLIGHT,
    ASK_OLDEST,
    ASK_OWN_ROW,
    ASK_RENEWAL,
    ASK_RING,
    ASK_ROWS,
    ASK_STAMP,
    ASK_TEAM,
    ASK_TICK,
    COUNT_BITS,
    COUNT_MASK,
    LANES,
    NEEDED,
    ODD,
    STALE,
    SURVEYED,
    fetch_ahead,
    fetch_state,
    survey,
)
from sim.arrays import I32, I64, U8
from sim.jit import kernel, local_i64, lowest_bit

__all__ = [
    "DRAFT_TYPE", "RECORDS_TYPE", "SHARED_LEVELS", "Draft", "Records", "ask", "common_age", "write_string",
]  # fmt: skip

FULL, ENCODED, AT_REST, AS_RECKONED, UNDER_WAY, ARENA_FULL = (
    COUNTS[name]
    for name in (
        "records_full", "records_encoded", "records_at_rest", "records_steady", "records_in_flight", "arena_full",
    )
)  # fmt: skip
PUBLIC_LEVEL, TEAM_LEVEL, OWNER_LEVEL, SELF_LEVEL = 0, 1, 2, 3
SHARED_LEVELS = 2  # of these levels records are cached: the others have one reader
IN_FLIGHT_TICKS = 2  # beyond the age of the newest acknowledgement, before what was sent counts as lost
STAMP_MASK = (1 << 30) - 1  # of a tick in a cache entry

# records: codec; arena of words; cache by (level, age, entity), an entry and the first word each; state: words used,
# age at which an unchanged baseline is renewed, whether records are shared
RECORDS_TYPE = f"Tuple(({CODEC_TYPE}, i8[::1], i8[::1], i8[::1]))"
Records = tuple[Codec, I64, I64, I64]
# draft of one packet: per record its slot and where it ends in the string, and an order; the words of the string, and
# the same memory as bytes; urgency of each, and then whether it is kept; words of what is kept
DRAFT_TYPE = "Tuple((i4[:,::1], i8[::1], u1[::1], i8[::1], i8[::1]))"
Draft = tuple[I32, I64, U8, I64, I64]
NOTHING, LEAVES_SLOT, RECKONED, RESTS, FLIES = -1, -2, -3, -4, -5  # about a slot of which no record is due
VERDICTS = 5
TALLIES = SURVEYED + VERDICTS  # words of a survey: its masks, then how often each of these was said


@kernel(counted=False, merge=True)
def common_age(tick: int, acked: int) -> int:
    """The age that most records have: that of the newest snapshot acknowledged; 0 if there is none."""
    return tick - acked if acked > 0 and tick - acked < 1 << AGE_BITS else 0


@kernel(counted=False)
def _encode(age: int, level: int, tick: int, entity: int, world: World, records: Records) -> int:
    """Encode a record at the end of the arena; its bits. The arena has room."""
    codec, arena, _, state = records
    history, at = world[2], state[0]
    ring = history.shape[0]
    current = history[tick & (ring - 1), entity]
    if age == 0:
        bits = encode_full(current, world[0][entity], level, codec, arena, at)
    else:
        bits = encode_delta(current, history[(tick - age) & (ring - 1), entity], age, level, codec, arena, at)
    state[0] = at + (bits + 63) // 64
    return bits


@kernel(counted=False)
def _enter(tick: int, c: int, place: int, state: int, slots: Slots) -> None:
    """Let a slot come into another state at `tick`."""
    columns, flags = slots
    if state == FREE or state == DESPAWNED:
        columns[ENTITY, c, place] = -1
    columns[BASELINE, c, place], columns[BORN, c, place], columns[SENT, c, place] = NO_BASELINE, tick, NO_BASELINE
    flags[STATE, c, place] = state


@kernel(counted=False)
def _turn(tick: int, c: int, place: int, own_row: int, slots: Slots, marks: I32) -> int:
    """Bring a slot's state up to date with its entity and with what the client may be told; the state."""
    columns, flags = slots
    state, row = int(np.int64(flags[STATE, c, place])), int(np.int64(columns[ENTITY, c, place]))
    now = state
    if row >= 0 and marks[row, SPAWNED] > columns[BORN, c, place]:
        now = FREE if state == HIDDEN_SLOT else DESPAWNED
    elif flags[TOLD, c, place] == 0 and row != own_row:
        now = LEAVING if state == LIVE else state
    elif row >= 0 and (state == HIDDEN_SLOT or state == LEAVING):
        # Whether a client that was to leave has done so cannot be known: told in full, it is right in both cases.
        now = LIVE
    if now != state:
        _enter(tick, c, place, now, slots)
    return now


@kernel(counted=False)
def _make_record(
    age: int, level: int, tick: int, entity: int, world: World, records: Records, at: int, counters: I64
) -> bool:
    """Encode a record, and note it in the cache at `at`; whether there was room for it."""
    arena, cache, offset = records[1], records[2], records[3][0]
    if offset + RECORD_WORDS_MAX > arena.shape[0]:
        counters[ARENA_FULL] += 1
        return False
    bits = _encode(age, level, tick, entity, world, records)
    counters[ENCODED] += 1
    cache[at] = (((tick & STAMP_MASK) << ENTRY_OFFSET) | offset) << ENTRY_BITS | bits
    cache[at + 1] = arena[offset]
    return True


@kernel(counted=False, merge=True)
def _level(c: int, own_row: int, team: int, row: int, owner: int, its_team: int) -> int:
    """As whom a client is told of an entity."""
    if row == own_row:
        return SELF_LEVEL
    if owner == c:
        return OWNER_LEVEL
    return TEAM_LEVEL if team != 0 and its_team == team else PUBLIC_LEVEL


@kernel(counted=False, merge=True)
def _look(place: int, slots: Slots, world: World, asked: I64, spans: I32) -> int:
    """Decide about one slot, as a survey does about the usual ones.

    Returns:
        Level of the record that is due, its age and place in the cache being in `spans`, or what is below `NOTHING`.
    """
    columns, flags, marks = slots[0], slots[1], world[1]
    tick, c, own_row = asked[ASK_TICK], asked[ASK_CLIENT], asked[ASK_OWN_ROW]
    now = _turn(tick, c, place, own_row, slots, marks)
    if now != LIVE:
        return LEAVES_SLOT if now >= LEAVING else NOTHING
    row = int(np.int64(columns[ENTITY, c, place]))
    level = _level(c, own_row, asked[ASK_TEAM], row, marks[row, OWNER_MARK], marks[row, TEAM_MARK])
    if level != flags[LEVEL, c, place]:
        flags[LEVEL, c, place] = level
        _enter(tick, c, place, LIVE, slots)
    since = marks[row, EXACT + min(level, OWNER_LEVEL)]
    if level != SELF_LEVEL:
        since = max(since, marks[row, STEADY])
    baseline, last = columns[BASELINE, c, place], columns[SENT, c, place]
    if baseline >= since and tick - baseline < asked[ASK_RENEWAL]:
        return RESTS if marks[row, CHANGED] <= baseline else RECKONED
    if last > baseline and last >= since and tick - last <= asked[ASK_FLIGHT]:
        return FLIES
    age = tick - baseline if baseline >= asked[ASK_OLDEST] else 0
    spans[AGE, place] = age
    spans[ENTRY, place] = (min(level, SHARED_LEVELS - 1) * asked[ASK_RING] + age) * asked[ASK_ROWS] + row
    return level


@kernel(counted=False, merge=True)
def ask(tick: int, c: int, client: I64, world: World, records: Records, team: int, asked: I64) -> None:
    """Put together what a survey is to know."""
    ring, state, acked = world[2].shape[0], records[3], client[ACKED_TICK]
    asked[ASK_TICK], asked[ASK_CLIENT], asked[ASK_OWN_ROW] = tick, c, client[OWN_ROW]
    asked[ASK_TEAM] = team if team != 0 else -1
    asked[ASK_RING], asked[ASK_ROWS] = ring, world[0].shape[0]
    asked[ASK_OLDEST], asked[ASK_RENEWAL] = max(world[3][1], tick - ring + 1), state[1]
    asked[ASK_FLIGHT] = min(tick - acked + IN_FLIGHT_TICKS, state[1]) if acked > 0 else 0
    asked[ASK_STAMP] = tick & STAMP_MASK if state[2] != 0 else -1
    asked[ASK_BLOCKS] = (client[TOP] + LANES - 1) // LANES


@kernel(counted=False, merge=True)
def _survey(c: int, ahead: int, slots: Slots, world: World, cache: I64, asked: I64, draft: Draft, masks: I64) -> int:
    """Survey the slots of a client, and have those of the client `ahead` rows farther on fetched."""
    columns, flags, spans = slots[0], slots[1], draft[0]
    entity, baseline, born, sent = columns[ENTITY, c], columns[BASELINE, c], columns[BORN, c], columns[SENT, c]
    state, level, told = flags[STATE, c], flags[LEVEL, c], flags[TOLD, c]
    passed = survey(
        entity, baseline, born, sent, state, level, told, world[1], cache, asked, spans[ENTRY], spans[AGE], masks
    )
    fetch_ahead(entity, baseline, born, sent, state, level, told, ahead, asked[ASK_BLOCKS])
    history, tick = world[2], asked[ASK_TICK]
    ring, rows, fields = history.shape
    for half in range(2):
        stale = masks[STALE + half]
        while stale != 0:
            place = np.uint64(64 * half + lowest_bit(stale))
            stale &= stale - 1
            row, then = int(np.int64(entity[place])), tick - int(np.int64(spans[AGE, place]))
            fetch_state(history, ((tick & (ring - 1)) * rows + row) * fields, fields)
            fetch_state(history, ((then & (ring - 1)) * rows + row) * fields, fields)
    return int(passed)


@kernel(counted=False, merge=True)
def _fill_in(asked: I64, slots: Slots, world: World, records: Records, spans: I32, masks: I64, counters: I64) -> None:
    """Look at the odd slots, and encode the records that are not in the cache yet.

    Then `masks` names all that are to be written, and `spans` where they are. What is not shared goes behind the cache.
    One loop for both halves of the masks: of two LLVM makes two, and then calls the encoder instead of merging it.
    """
    cache, tick, c = records[2], asked[ASK_TICK], asked[ASK_CLIENT]
    levels, entity = slots[1][LEVEL, c], slots[0][ENTITY, c]
    own = SHARED_LEVELS * asked[ASK_RING] * asked[ASK_ROWS]
    half, pending = 0, masks[ODD] | masks[STALE]
    while half < 2:
        if pending == 0:
            half += 1
            pending = masks[ODD + 1] | masks[STALE + 1] if half == 1 else 0
            continue
        lowest = pending & -pending
        place = np.uint64(64 * half + lowest_bit(pending))
        pending ^= lowest
        if masks[ODD + half] & lowest != 0:
            verdict = _look(int(np.int64(place)), slots, world, asked, spans)
            if verdict < 0:
                masks[SURVEYED - 1 - verdict] += 1
                continue
            masks[NEEDED + half] |= lowest
        level = int(np.int64(levels[place]))
        if level >= SHARED_LEVELS or asked[ASK_STAMP] < 0:
            spans[ENTRY, place] = own + int(np.int64(place))
        at = 2 * int(np.int64(spans[ENTRY, place]))
        if at < 2 * own and cache[np.uint64(at)] >> (ENTRY_BITS + ENTRY_OFFSET) == asked[ASK_STAMP]:
            continue
        age, row = int(np.int64(spans[AGE, place])), int(np.int64(entity[place]))
        if not _make_record(age, level, tick, row, world, records, at, counters):
            masks[NEEDED + half] ^= lowest


@kernel(counted=False, merge=True)
def write_string(
    asked: I64,
    common: int,
    ahead: int,
    slots: Slots,
    world: World,
    records: Records,
    draft: Draft,
    carried: I64,
    counters: I64,
) -> tuple[int, int, int]:
    """Write every record this client needs now as one string of bits, as if there were room for all.

    Args:
        asked: See `ask`.
        common: See `common_age`.
        ahead: By how many rows the next client follows.
        carried: Receives the mask of the slots that have a record.

    Returns:
        How many records, the bits of the string, and how many slots the client is to leave.
    """
    masks = local_i64(TALLIES)
    for verdict in range(VERDICTS):
        masks[SURVEYED + verdict] = 0
    passed = _survey(int(asked[ASK_CLIENT]), ahead, slots, world, records[2], asked, draft, masks)
    _fill_in(asked, slots, world, records, draft[0], masks, counters)
    low, high = masks[NEEDED], masks[NEEDED + 1]
    joined = join(records[2], records[1], draft[1], draft[0], low, high, common)
    carried[0], carried[1] = low, high
    _count_passed(passed, masks, counters)
    counters[FULL] += joined >> JOINED_FULL & JOINED_MASK
    return joined & JOINED_MASK, joined >> JOINED_BITS, masks[SURVEYED - 1 - LEAVES_SLOT]


@kernel(counted=False, merge=True)
def _count_passed(passed: int, masks: I64, counters: I64) -> None:
    """Count the slots that a survey passed over, and those that `_look` did."""
    reckoned, resting = passed & COUNT_MASK, passed >> COUNT_BITS & COUNT_MASK
    counters[AT_REST] += resting + masks[SURVEYED - 1 - RESTS]
    counters[AS_RECKONED] += reckoned - resting + masks[SURVEYED - 1 - RECKONED]
    counters[UNDER_WAY] += (passed >> 2 * COUNT_BITS) + masks[SURVEYED - 1 - FLIES]
