"""Reading frames back, in either way; the formats stand in describe_kernels.py and coder_kernels.py.

`quick[code, next 8 bits]` is length·128 + token where the word ends within them, or ~node where the tree goes on.
"""

from sim.arrays import I16, I32, I64, U8, U16, U32
from sim.jit import kernel, lowest_bit
from tools.cubes.coder_kernels import FULL, TABLES, TOP, learn
from tools.cubes.describe_kernels import (
    BASELINE,
    FRAMES,
    MISSING,
    SCRATCH,
    WORD,
    feel,
    foretold,
    history_of,
    mark_changes,
    mood_class,
    oldest,
)
from tools.cubes.model_kernels import (
    COLUMNS,
    ESCAPE,
    F_INTERACTING,
    F_POSITION,
    F_QUATERNION,
    GAP_CONTEXT,
    LISTED,
    TOKEN_SHIFT,
    UNCHANGED,
    choice_context,
    context_q,
    context_x,
    context_y,
    context_z,
    foresee,
    foresee_rest,
    foresee_small,
    largest_of,
    plain_count,
    residual_of,
)

__all__ = ["QUICK", "decode_frame"]

FAR = 1 << 17  # a coordinate that no sender sends, and no prediction overflows with
QUICK = 8  # bits that are looked up at once
PENDING, FILL, AT, RANGED = 0, 1, 2, 3  # of a reader; a range coder's are its value, range and bytes read
Coder = tuple[I16, I32, I16, I16]


@kernel(counted=False, merge=True)
def refill_words(words: U32, state: I64) -> None:
    """Take in one word where fewer than 32 bits are pending; zeros after the end."""
    if state[FILL] < 32:
        if state[AT] < words.shape[0]:
            state[PENDING] |= int(words[state[AT]]) << state[FILL]
        state[AT] += 1
        state[FILL] += 32


@kernel(counted=False, merge=True)
def refill_range(data: U8, state: I64) -> None:
    """Take in bytes until the range is at least 2^24 again."""
    while state[FILL] < TOP:
        byte = int(data[state[AT]]) if state[AT] < data.shape[0] else 0
        state[PENDING] = state[PENDING] << 8 | byte
        state[FILL] <<= 8
        state[AT] += 1


@kernel(counted=False, merge=True)
def within(value: int, low: int, high: int) -> int:
    """The nearest number of a range, so that hostile bytes make no state that a sender could not have."""
    return min(max(value, low), high)


@kernel(counted=False)
def get_plain(count: int, words: U32, data: U8, state: I64) -> int:
    """Read `count` ≤ 31 plain bits."""
    if state[RANGED] == 0:
        refill_words(words, state)
        value = state[PENDING] & ((1 << count) - 1)
        state[PENDING] >>= count
        state[FILL] -= count
        return int(value)
    value = 0
    while count > 0:
        part = min(count, 8)
        count -= part
        size = state[FILL] >> part
        digit = min(state[PENDING] // size, (1 << part) - 1)
        state[PENDING] -= digit * size
        state[FILL] = size
        value = value << part | digit
        refill_range(data, state)
    return int(value)


@kernel(counted=False, merge=True)
def get_coded_bit(chances: U16, row: int, node: int, data: U8, state: I64) -> int:
    """Read a bit from the range coder, and learn from it."""
    bound = (state[FILL] >> 16) * int(chances[row, node])
    bit = 0
    if state[PENDING] >= bound:
        bit = 1
        state[PENDING] -= bound
        state[FILL] -= bound
    else:
        state[FILL] = bound
    learn(chances, row, node, bit)
    refill_range(data, state)
    return bit


@kernel(counted=False)
def get_token(
    context: int, mood: int, tables: Coder, chances: U16, words: U32, data: U8, state: I64
) -> int:  # fmt: skip
    """Read a token of a raw context."""
    maps, codes, tree, quick = tables
    code = int(maps[context])
    node = 0
    if state[RANGED] == 0:
        refill_words(words, state)
        found = int(quick[code, state[PENDING] & ((1 << QUICK) - 1)])
        if found >= 0:
            state[PENDING] >>= found >> 7
            state[FILL] -= found >> 7
            return found & 127
        node = ~found
        state[PENDING] >>= QUICK
        state[FILL] -= QUICK
        while node >= 0:
            node = int(tree[code, 2 * node + (state[PENDING] & 1)])
            state[PENDING] >>= 1
            state[FILL] -= 1
        return ~node
    row = mood * codes.shape[0] + code
    while node >= 0:
        node = int(tree[code, 2 * node + get_coded_bit(chances, row, node, data, state)])
    return ~node


@kernel(counted=False)
def get_residual(
    context: int, mood: int, tables: Coder, chances: U16, words: U32, data: U8, state: I64
) -> int:  # fmt: skip
    """Read a residual of a raw context."""
    token = get_token(context, mood, tables, chances, words, data, state)
    if token < 15:
        return int(residual_of(token, 0))
    return int(residual_of(token, get_plain(plain_count(token), words, data, state)))


@kernel(counted=False)
def decode_rest(
    now: I32, cube: int, token: int, mood: int, feature: I64, tables: Coder, chances: U16, words: U32,
    data: U8, state: I64,
) -> int:  # fmt: skip
    """Read what follows the first token, whose x it holds, into the cube's row; how far its position was off."""
    plain = get_plain(plain_count(token), words, data, state) if token >= 15 else 0
    x = residual_of(token, plain)
    y = get_residual(context_y(feature, abs(x)), mood, tables, chances, words, data, state)
    z = get_residual(context_z(feature, abs(x) + abs(y)), mood, tables, chances, words, data, state)
    now[cube, 4] = within(feature[F_POSITION] + x, -FAR, FAR)
    now[cube, 5] = within(feature[F_POSITION + 1] + y, -FAR, FAR)
    now[cube, 6] = within(feature[F_POSITION + 2] + z, -FAR, FAR)
    moved = abs(x) + abs(y) + abs(z)
    largest = int(now[cube, 0])
    sign = 1 if feature[F_QUATERNION + largest] >= 0 else -1
    coded = 0
    for column in range(3):
        axis = column + (1 if column >= largest else 0)
        residual = get_residual(
            context_q(feature, column, moved, coded), mood, tables, chances, words, data, state
        )  # fmt: skip
        now[cube, 1 + column] = within(foresee_small(feature, F_QUATERNION, sign, axis) + residual, 0, 511)
        coded += abs(residual)
    return int(moved)


@kernel(counted=False)
def decode_record(
    frames: I32, frame: int, cube: int, history: int, mood: int,
    feature: I64, tables: Coder, chances: U16, words: U32, data: U8, state: I64,
) -> int:  # fmt: skip
    """Read one record into frames[frame, cube]; how far its position was off, `MISSING` where it did not change."""
    before = frame - BASELINE
    foresee(frames[before], frames[before - BASELINE], frames[oldest(frame)], cube, history, feature)
    context = context_x(feature, history)
    token = get_token(context, mood, tables, chances, words, data, state)
    if token == UNCHANGED:
        return MISSING
    if history >= 2:
        foresee_rest(frames[before], cube, feature)
    now = frames[frame]
    choice = 0
    if token == ESCAPE:
        choice = get_token(choice_context(feature), mood, tables, chances, words, data, state) & 7
        token = get_token(context, mood, tables, chances, words, data, state)
    now[cube, 0] = largest_of(choice & 3, feature)
    now[cube, 7] = feature[F_INTERACTING] ^ (choice >> 2)
    token = max(token - TOKEN_SHIFT, 0)
    return int(decode_rest(now, cube, token, mood, feature, tables, chances, words, data, state))


@kernel(counted=False)
def start_read(data: U8, ranged: int, state: I64) -> None:
    """Begin to read at the first byte, in either way."""
    state[PENDING], state[FILL], state[AT], state[RANGED] = 0, 0, 0, ranged
    if ranged != 0:
        state[FILL] = 1  # of which four bytes make the whole range
        for _ in range(4):
            byte = int(data[state[AT]]) if state[AT] < data.shape[0] else 0
            state[PENDING] = state[PENDING] << 8 | byte
            state[AT] += 1
        state[FILL] = FULL


@kernel(f"({FRAMES}, {TABLES}, {SCRATCH}, u2[:,::1], u4[::1], u1[::1], i8)", counted=False)
def decode_frame(
    frames: I32, wide: I64, frame: int, bits: I64, tables: Coder, scratch: tuple[I64, I64, I64, I64], chances: U16,
    words: U32, data: U8, ranged: int,
) -> int:  # fmt: skip
    """Read a frame into frames[frame], mark its changes, and learn from it; how many records there were.

    `words` and `data` hold the same bytes, `ranged` is 1 where the range coder wrote them. Whatever the bytes are,
    nothing outside the arrays is touched.
    """
    state, _, _, feature = scratch
    start_read(data, ranged, state)
    before, cubes = frame - BASELINE, frames.shape[1]
    for cube in range(cubes):
        for column in range(COLUMNS):
            frames[frame, cube, column] = frames[before, cube, column]
    mood, count = 0, 0
    for word in range(bits.shape[1]):
        left = foretold(bits, frame, word)
        while left != 0:
            place = lowest_bit(left)
            left &= left - 1
            cube, history = word * WORD + place, history_of(bits, frame, word, place)
            moved = decode_record(
                frames, frame, cube, history, mood_class(mood), feature, tables, chances, words, data, state
            )
            mood = feel(mood, moved, feature) if moved != MISSING else mood
            count += 1
    further = get_residual(GAP_CONTEXT, mood_class(mood), tables, chances, words, data, state)
    cube = -1
    for _ in range(min(further, cubes)):
        cube += 1 + get_residual(GAP_CONTEXT + 1, mood_class(mood), tables, chances, words, data, state)
        if cube < 0 or cube >= cubes:
            break
        moved = decode_record(
            frames, frame, cube, LISTED, mood_class(mood), feature, tables, chances, words, data, state
        )
        mood = feel(mood, moved, feature) if moved != MISSING else mood
        count += 1
    mark_changes(wide, frame, before, bits)
    return count
