"""Which cubes of a frame need a record, and each record as symbols that either coder writes.

A frame, in either way:

    a record of every cube that changed within the last three steps of six frames (its first token may be UNCHANGED),
    in order of index; then the number of further cubes that changed, and for each how many indices it is after the one
    before it, less one, and its record.

A record: the first token (UNCHANGED, ESCAPE, or the token of x plus TOKEN_SHIFT); after ESCAPE the choice (4 if
`interacting` flips, plus 0 where the foreseen largest component is the largest, 1 the second largest, 2 and 3 the
others in order of axis) and the token of x plus TOKEN_SHIFT; tokens of y, z and the three small components. Each token
is followed by its plain bits.

`bits[f mod RING]` marks the cubes whose row of frame f differs from that of f − 6, WORD cubes to an int64.
"""

from sim.arrays import I32, I64
from sim.jit import kernel, lowest_bit
from tools.cubes.model_kernels import (
    ESCAPE,
    F_ERROR,
    F_INTERACTING,
    F_POSITION,
    F_QUATERNION,
    GAP_CONTEXT,
    LISTED,
    TOKEN_AT,
    TOKEN_SHIFT,
    UNCHANGED,
    bucket,
    choice_context,
    context_q,
    context_x,
    context_y,
    context_z,
    foresee,
    foresee_rest,
    foresee_small,
    largest_of,
    symbol_of,
)

__all__ = [
    "BASELINE",
    "FRAMES",
    "MISSING",
    "MOODS",
    "RING",
    "SCRATCH",
    "SYMBOLS_MAX",
    "WORD",
    "describe_frame",
    "feel",
    "foretold",
    "history_of",
    "mark_changes",
    "mood_class",
    "oldest",
]

BASELINE = 6
RING = 32
WORD = 32
ROW = 4  # int64 of a cube
TOGETHER = 8
SYMBOLS_MAX = 9  # of one record: first token twice, choice, five more, and its index
MOODS = 3
QUIET, LOUD = -16, 8  # where moods part; see `feel`
MISSING = -1

FRAMES = "i4[:,:,::1], i8[:,::1], i8, i8[:,::1]"
SCRATCH = "Tuple((i8[::1], i8[::1], i8[::1], i8[::1]))"  # cubes, ends, symbols, features


@kernel(counted=False, merge=True)
def differs(now: I64, before: I64, start: int, count: int) -> int:
    """Not zero where now[start:start + count] and `before` there differ."""
    mine, other = now[start : start + count], before[start : start + count]
    found = 0
    for i in range(count):
        found |= mine[i] ^ other[i]
    return found


@kernel("(i8[:,::1], i8, i8, i8[:,::1])", counted=False)
def mark_changes(wide: I64, now: int, before: int, bits: I64) -> None:
    """Mark in `bits` the cubes whose rows of two frames, each ROW int64 of a row of `wide`, differ.

    Most cubes rest, so eight are looked at together first: 256 bytes that the compiler compares in a few vectors.
    """
    mine, other = wide[now], wide[before]
    count = wide.shape[1] // ROW
    marks = bits[now & (RING - 1)]
    marks[:] = 0
    for first in range(0, count, TOGETHER):
        last = min(first + TOGETHER, count)
        if last - first == TOGETHER and differs(mine, other, first * ROW, TOGETHER * ROW) == 0:
            continue
        for cube in range(first, last):
            if differs(mine, other, cube * ROW, ROW) != 0:
                marks[cube // WORD] |= 1 << (cube % WORD)


@kernel(counted=False, merge=True)
def foretold(bits: I64, frame: int, word: int) -> int:
    """Which cubes of a word changed within the last three steps."""
    recent = bits[(frame - BASELINE) & (RING - 1), word] | bits[(frame - 2 * BASELINE) & (RING - 1), word]
    return int(recent | bits[(frame - 3 * BASELINE) & (RING - 1), word])


@kernel(counted=False, merge=True)
def history_of(bits: I64, frame: int, word: int, place: int) -> int:
    """0 if a cube changed in both of the last two steps, 1 in the last only, 2 in the one before only, 3 neither."""
    last = (bits[(frame - BASELINE) & (RING - 1), word] >> place) & 1
    before = (bits[(frame - 2 * BASELINE) & (RING - 1), word] >> place) & 1
    return int(3 - before - 2 * last)


@kernel(counted=False, merge=True)
def oldest(frame: int) -> int:
    """Which frame serves as the third: eighteen before, or twelve before where there is none."""
    return frame - 3 * BASELINE if frame >= 3 * BASELINE else frame - 2 * BASELINE


@kernel(counted=False, merge=True)
def feel(mood: int, moved: int, feature: I64) -> int:
    """How much livelier than foreseen the frame's records are, in 1/16 bits, after one more of them."""
    return int((3 * mood + 16 * (bucket(moved) - feature[F_ERROR])) >> 2)


@kernel(counted=False, merge=True)
def mood_class(mood: int) -> int:
    """0 where records surprise less than foreseen, 1 where as much, 2 where more."""
    return 0 if mood < QUIET else (1 if mood < LOUD else 2)


@kernel(counted=False, merge=True)
def describe_turn(now: I32, cube: int, moved: int, feature: I64, symbols: I64, at: int) -> int:
    """Append the symbols of the three small components; where the next goes."""
    largest = int(now[cube, 0]) & 3
    sign = 1 if feature[F_QUATERNION + largest] >= 0 else -1
    coded = 0
    for column in range(3):
        axis = column + (1 if column >= largest else 0)
        residual = int(now[cube, 1 + column]) - foresee_small(feature, F_QUATERNION, sign, axis)
        symbols[at + column] = symbol_of(residual) | context_q(feature, column, moved, coded)
        coded += abs(residual)
    return at + 3


@kernel(counted=False, merge=True)
def describe(now: I32, cube: int, context: int, feature: I64, symbols: I64, at: int) -> tuple[int, int]:
    """Append the symbols of a record that changed; where the next goes, and how far its position was off."""
    choice = 0
    while largest_of(choice, feature) != (int(now[cube, 0]) & 3):
        choice += 1
    choice += 4 if int(now[cube, 7]) != feature[F_INTERACTING] else 0
    if choice != 0:
        symbols[at] = context | ESCAPE << TOKEN_AT
        symbols[at + 1] = choice_context(feature) | choice << TOKEN_AT
        at += 2
    x = int(now[cube, 4]) - feature[F_POSITION]
    y = int(now[cube, 5]) - feature[F_POSITION + 1]
    z = int(now[cube, 6]) - feature[F_POSITION + 2]
    symbols[at] = (symbol_of(x) + (TOKEN_SHIFT << TOKEN_AT)) | context
    symbols[at + 1] = symbol_of(y) | context_y(feature, abs(x))
    symbols[at + 2] = symbol_of(z) | context_z(feature, abs(x) + abs(y))
    moved = abs(x) + abs(y) + abs(z)
    return describe_turn(now, cube, moved, feature, symbols, at + 3), moved


@kernel(counted=False, merge=True)
def describe_one(
    frames: I32, frame: int, cube: int, history: int, changed: int, feature: I64, symbols: I64, at: int
) -> tuple[int, int]:
    """Append one record's symbols; where the next goes, and how far its position was off (`MISSING`: unchanged)."""
    before = frame - BASELINE
    foresee(frames[before], frames[before - BASELINE], frames[oldest(frame)], cube, history, feature)
    context = context_x(feature, history)
    if changed == 0:
        symbols[at] = context | UNCHANGED << TOKEN_AT
        return at + 1, MISSING
    if history >= 2:
        foresee_rest(frames[before], cube, feature)
    return describe(frames[frame], cube, context, feature, symbols, at)


@kernel(f"({FRAMES}, {SCRATCH}, i8[::1])", counted=False)
def describe_frame(
    frames: I32, wide: I64, frame: int, bits: I64, scratch: tuple[I64, I64, I64, I64], moods: I64
) -> tuple[int, int]:
    """Describe every record of a frame as symbols.

    Record i is of cube cubes[i] and has symbols[ends[i − 1]:ends[i]], from 0 for the first; those of further cubes
    begin with the index difference, and the first of them with their number before it, which stands there even if it is
    zero. `moods[i]` is what the records before it make expect.

    Returns:
        How many records there are, and how many of them were foretold.
    """
    cubes, ends, symbols, feature = scratch
    mark_changes(wide, frame, frame - BASELINE, bits)
    count, at, mood = 0, 0, 0
    now = frame & (RING - 1)
    for word in range(bits.shape[1]):
        left = foretold(bits, frame, word)
        while left != 0:
            place = lowest_bit(left)
            left &= left - 1
            changed = (bits[now, word] >> place) & 1
            cubes[count], moods[count] = word * WORD + place, mood_class(mood)
            history = history_of(bits, frame, word, place)
            at, moved = describe_one(frames, frame, cubes[count], history, changed, feature, symbols, at)
            if moved != MISSING:
                mood = feel(mood, moved, feature)
            ends[count] = at
            count += 1
    known = count
    moods[known] = mood_class(mood)
    at += 1  # the number of further cubes is known after them
    last = -1
    for word in range(bits.shape[1]):
        left = bits[now, word] & ~foretold(bits, frame, word)
        while left != 0:
            cube = word * WORD + lowest_bit(left)
            left &= left - 1
            cubes[count], moods[count] = cube, mood_class(mood)
            symbols[at] = symbol_of(cube - last - 1) | (GAP_CONTEXT + 1)
            last = cube
            at, moved = describe_one(frames, frame, cube, LISTED, 1, feature, symbols, at + 1)
            mood = feel(mood, moved, feature)
            ends[count] = at
            count += 1
    symbols[ends[known - 1] if known > 0 else 0] = symbol_of(count - known) | GAP_CONTEXT
    return count, known
