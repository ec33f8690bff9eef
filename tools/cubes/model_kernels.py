"""What a cube will do, as integers: prediction, contexts and tokens that both coders and both sides share.

State. A row is eight int32: index of the largest quaternion component, the other three in 9 bits each, x, y, z in
1/512 m, interacting. A record is predicted from three rows that the receiver has acknowledged, six frames apart: b (the
baseline), a before it, c before that. With v = b − a and e = v − (a − c), the position is foreseen at

    b + v + (A·e + B·v) / 64 + C,     A, B, C by regime (PULL, DRAG, PUSH)

where the regime says whether the cube flies freely (its last second difference was that of gravity), or else whether it
is above 0.39 m, is interacting, and moved steadily. The orientation goes on turning as it did: for unit quaternions
2·(qb·qa)·qb − qa is the same rotation once more (Shoemake 1985, doubling on the sphere), damped by TURN. The
coefficients are least absolute deviations over both published sets; each set alone gives nearly the same.

Only +, −, ×, shifts and an exact square root are used, so that any language foresees the same.

Tokens. A residual r is a token and some plain bits: |r| < 8 has a token of its own with its sign; above, the token
holds the bit length, the bit below the first, and the sign ("hybrid integers", as in JPEG XL, ISO/IEC 18181-1 section
C.2.6).

A symbol is one int64: its raw context, the token from bit 15, the number of plain bits from bit 22, their value from
bit 27.

Contexts. Every token has a raw context: how wrong the last prediction was, how fast the cube is, how large the
residuals already coded in this record are. `maps` folds the raw contexts to few codes.
"""

import numpy as np

from sim.arrays import I32, I64
from sim.jit import kernel

__all__ = [
    "COLUMNS",
    "CONTEXTS",
    "COUNT_AT",
    "ESCAPE",
    "FEATURES",
    "FIELDS",
    "FIRST",
    "F_ERROR",
    "F_INTERACTING",
    "F_POSITION",
    "F_QUATERNION",
    "GAP_CONTEXT",
    "LISTED",
    "PLAIN_AT",
    "SYMBOLS",
    "TOKEN_AT",
    "TOKEN_SHIFT",
    "UNCHANGED",
    "bucket",
    "choice_context",
    "context_q",
    "context_x",
    "context_y",
    "context_z",
    "foresee",
    "foresee_rest",
    "foresee_small",
    "largest_of",
    "plain_count",
    "residual_of",
    "symbol_of",
]

COLUMNS = 8
SYMBOLS = 96  # tokens of one code, at most
UNCHANGED, ESCAPE, TOKEN_SHIFT = 0, 1, 2  # of the first token; its residuals come after them
LISTED = 4  # history class of a cube that nothing foretold to change

# Raw contexts of each field, and where each field's begin.
FIELDS = ("x", "y", "z", "q0", "q1", "q2", "choice", "gap")
CONTEXTS = (3000, 3000, 2700, 2700, 3000, 3000, 27, 2)
FIRST = tuple(int(value) for value in np.concatenate([[0], np.cumsum(CONTEXTS)]))
_X, _Y, _Z, _Q0, _Q1, _Q2, _CHOICE, GAP_CONTEXT = FIRST[:8]

# Features of a record, in one int64 scratch row.
F_POSITION, F_QUATERNION, F_AHEAD, F_SECOND, F_ERROR, F_SPEED, F_TURN_ERROR, F_TURN, F_MARGIN, F_REGIME = (
    0, 3, 7, 8, 9, 10, 11, 12, 13, 14,
)  # fmt: skip
F_INTERACTING, F_KIND = 15, 16
FEATURES = 32
_OLD = 20  # older quaternions: 20 to 23 and 24 to 27

GRAVITY = 102  # second difference over six frames at 20 m/s², in 1/512 m
HIGH = 200
STEADY = 6
FLYING = 8

# By regime 4·high + 2·interacting + steady, and 8 = flying freely; in 64ths, PUSH in 1/512 m.
PULL_XY = np.array([6, -10, 8, -6, 8, -14, 41, 0, 0], np.int64)
DRAG_XY = np.array([-22, -48, -15, -29, -6, -32, -2, 0, 0], np.int64)
PULL_Z = np.array([4, -14, 13, -15, 29, -10, 34, -10, 0], np.int64)
DRAG_Z = np.array([-56, -50, -46, -35, -42, -45, -10, -14, 0], np.int64)
PUSH_Z = np.array([0, 0, 2, 0, -2, 0, -1, 0, -GRAVITY], np.int64)
TURN = np.array([28, 27, 46, 38, 50, 30, 64, 64, 64], np.int64)

UNIT_BITS = 14  # a unit quaternion is 2^14 long
TO_UNIT, FROM_UNIT = 23216, 23125  # 2^10·2^14 / (511·√2), and 2^20·511·√2 / (2·2^14)
BUCKETS = np.array([int(value).bit_length() for value in range(512)], np.int64)

TOKEN_AT, COUNT_AT, PLAIN_AT = 15, 22, 27
NEAR = 256  # residuals whose symbols are looked up


def _symbol(residual: int) -> int:
    """A residual's symbol, without its context."""
    size, sign = abs(residual), int(residual < 0)
    if size < 8:
        return (2 * size - 1 + sign if size else 0) << TOKEN_AT
    length = size.bit_length()
    token, plain = 15 + 4 * (length - 4) + 2 * (size >> (length - 2) & 1) + sign, size & ((1 << (length - 2)) - 1)
    return token << TOKEN_AT | (length - 2) << COUNT_AT | plain << PLAIN_AT


NEAR_SYMBOLS = np.array([_symbol(residual) for residual in range(-NEAR, NEAR)], np.int64)


@kernel(counted=False, merge=True)
def bucket(value: int) -> int:
    """Bit length of a value ≥ 0, at most 9."""
    return int(BUCKETS[min(value, 511)])


@kernel(counted=False)
def far_symbol(residual: int) -> int:
    """The symbol of a residual of `NEAR` and more, of at most 24 bits, without its context."""
    size = abs(residual)
    length = 8
    while size >> length != 0:
        length += 1
    token = 15 + 4 * (length - 4) + 2 * ((size >> (length - 2)) & 1) + (1 if residual < 0 else 0)
    plain = size & ((1 << (length - 2)) - 1)
    return token << TOKEN_AT | (length - 2) << COUNT_AT | plain << PLAIN_AT


@kernel(counted=False, merge=True)
def symbol_of(residual: int) -> int:
    """The symbol of a residual of at most 24 bits, without its context."""
    if -NEAR <= residual < NEAR:
        return int(NEAR_SYMBOLS[residual + NEAR])
    return int(far_symbol(residual))


@kernel(counted=False, merge=True)
def plain_count(token: int) -> int:
    """How many plain bits follow a token."""
    return 0 if token < 15 else ((token - 15) >> 2) + 2


@kernel(counted=False, merge=True)
def residual_of(token: int, plain: int) -> int:
    """The residual of a token and its plain bits: the inverse of `symbol_of`."""
    if token < 15:
        size = (token + 1) >> 1
        return -size if token > 0 and token & 1 == 0 else size
    code = token - 15
    size = ((2 + ((code >> 1) & 1)) << ((code >> 2) + 2)) + plain
    return -size if code & 1 else size


@kernel(counted=False, merge=True)
def unpack(rows: I32, cube: int, out: I64, at: int) -> None:
    """Write the quaternion of a cube's row, 2^14 long, to out[at:at + 4]."""
    largest = int(rows[cube, 0]) & 3
    rest = 1 << (2 * UNIT_BITS)
    for column in range(3):
        value = ((2 * int(rows[cube, 1 + column]) - 511) * TO_UNIT + 512) >> 10
        out[at + column + (1 if column >= largest else 0)] = value
        rest -= value * value
    out[at + largest] = int(np.sqrt(float(max(rest, 0))))


@kernel(counted=False, merge=True)
def continue_turn(now: int, before: int, keep: int, out: I64, at: int) -> int:
    """Write the quaternion one turn after out[now:], `keep` 64ths of the last turn; how large that turn was.

    The quaternion at out[before:] is turned to the near half of the sphere.
    """
    dot = 0
    for axis in range(4):
        dot += out[now + axis] * out[before + axis]
    sign = 1 if dot >= 0 else -1
    dot *= sign
    size = 0
    for axis in range(4):
        here, then = out[now + axis], sign * out[before + axis]
        size += abs(here - then)
        step = ((2 * dot * here + (1 << (2 * UNIT_BITS - 1))) >> (2 * UNIT_BITS)) - then - here
        out[at + axis] = here + ((keep * step + 32) >> 6)
    return int((size * FROM_UNIT) >> 20)


@kernel(counted=False, merge=True)
def foresee_small(feature: I64, at: int, sign: int, axis: int) -> int:
    """Component `axis` of the quaternion at feature[at:], with its sign or the other, as 9 bits."""
    return int(max(0, min(511, (sign * feature[at + axis] * FROM_UNIT + (1023 << 18)) >> 20)))


@kernel(counted=False, merge=True)
def turn_error(rows: I32, cube: int, feature: I64, at: int) -> int:
    """How far the quaternion foreseen at feature[at:] was from what the cube's row became, in steps of 1/511."""
    largest = int(rows[cube, 0]) & 3
    sign = 1 if feature[at + largest] >= 0 else -1
    error = 0
    for column in range(3):
        axis = column + (1 if column >= largest else 0)
        error += abs(int(rows[cube, 1 + column]) - foresee_small(feature, at, sign, axis))
    return error


@kernel(counted=False, merge=True)
def small_change(b: I32, a: I32, c: I32, cube: int) -> int:
    """How much the last change of the small components differed from the one before it, in steps of 1/511."""
    error = 0
    for column in range(1, 4):
        error += abs(int(b[cube, column]) - 2 * int(a[cube, column]) + int(c[cube, column]))
    return error


@kernel(counted=False, merge=True)
def rank_components(feature: I64) -> int:
    """Find the two largest components of the foreseen quaternion; by how many steps they differ."""
    first, second = np.int64(-1), np.int64(-1)
    ahead, other = 0, 0
    for axis in range(4):
        size = abs(feature[F_QUATERNION + axis])
        if size > first:
            second, other = first, ahead
            first, ahead = size, axis
        elif size > second:
            second, other = size, axis
    feature[F_AHEAD], feature[F_SECOND] = ahead, other
    return int(((first - second) * FROM_UNIT) >> 20)


@kernel(counted=False, merge=True)
def foresee_turn(b: I32, a: I32, c: I32, cube: int, feature: I64) -> None:
    """Fill in the quaternion features of a cube that moved: foreseen, largest components, last error, last turn."""
    unpack(b, cube, feature, F_QUATERNION)
    unpack(a, cube, feature, _OLD)
    if b[cube, 0] == a[cube, 0] and a[cube, 0] == c[cube, 0]:
        error = small_change(b, a, c, cube)  # nearly the same, at a tenth of the work
    else:
        unpack(c, cube, feature, _OLD + 4)
        # The last turn as foreseen then, written over c's quaternion, which nothing needs after it.
        continue_turn(_OLD, _OLD + 4, 64, feature, _OLD + 4)
        error = turn_error(b, cube, feature, _OLD + 4)
    regime = feature[F_REGIME]
    if regime != FLYING:
        regime = (regime & 6) | (1 if error <= STEADY else 0)
    turn = continue_turn(F_QUATERNION, _OLD, int(TURN[regime]), feature, F_QUATERNION)
    margin = rank_components(feature)
    feature[F_MARGIN] = 0 if margin > 16 + turn else (1 if margin > 4 + (turn >> 2) else 2)
    feature[F_TURN_ERROR], feature[F_TURN] = min(8, bucket(error)), min(8, bucket(turn))
    if feature[F_SPEED] == 0:
        feature[F_SPEED] = min(1, feature[F_TURN])  # a cube that only turns is told from one at rest


@kernel(counted=False, merge=True)
def foresee_rest(b: I32, cube: int, feature: I64) -> None:
    """Fill in the foreseen quaternion of a cube that did not move in the last step: where it is."""
    unpack(b, cube, feature, F_QUATERNION)
    rank_components(feature)


@kernel(counted=False, merge=True)
def foresee(b: I32, a: I32, c: I32, cube: int, history: int, feature: I64) -> None:
    """Fill in the features of a record from three acknowledged frames, the quaternion's only if it moved last."""
    change_x = int(b[cube, 4]) - 2 * int(a[cube, 4]) + int(c[cube, 4])
    change_y = int(b[cube, 5]) - 2 * int(a[cube, 5]) + int(c[cube, 5])
    change_z = int(b[cube, 6]) - 2 * int(a[cube, 6]) + int(c[cube, 6])
    x, y, z = int(b[cube, 4]), int(b[cube, 5]), int(b[cube, 6])
    speed_x, speed_y, speed_z = x - int(a[cube, 4]), y - int(a[cube, 5]), z - int(a[cube, 6])
    flying = abs(change_z + GRAVITY) <= 3
    wrong = abs(change_x) + abs(change_y) + (abs(change_z + GRAVITY) if flying else abs(change_z))
    interacting = int(b[cube, 7]) & 1
    regime = (4 if z > HIGH else 0) + 2 * interacting + (1 if wrong <= STEADY else 0)
    if flying:
        regime = FLYING
    pull, drag = PULL_XY[regime], DRAG_XY[regime]
    feature[F_POSITION] = x + speed_x + ((pull * change_x + drag * speed_x + 32) >> 6)
    feature[F_POSITION + 1] = y + speed_y + ((pull * change_y + drag * speed_y + 32) >> 6)
    pull, drag = PULL_Z[regime], DRAG_Z[regime]
    feature[F_POSITION + 2] = z + speed_z + ((pull * change_z + drag * speed_z + 32) >> 6) + PUSH_Z[regime]
    feature[F_ERROR] = bucket(wrong)
    feature[F_SPEED] = bucket(abs(speed_x) + abs(speed_y) + abs(speed_z))
    feature[F_REGIME], feature[F_INTERACTING] = regime, interacting
    feature[F_KIND] = 2 if flying else interacting
    if history < 2:
        foresee_turn(b, a, c, cube, feature)
    else:
        feature[F_MARGIN], feature[F_TURN] = 0, 0
        feature[F_TURN_ERROR] = 1 if history == 2 else 0


@kernel(counted=False, merge=True)
def largest_of(choice: int, feature: I64) -> int:
    """Which component a choice means: 0 the largest foreseen, 1 the second largest, 2 and 3 the others in order."""
    ahead, second = feature[F_AHEAD], feature[F_SECOND]
    if choice == 0:
        return int(ahead)
    if choice == 1:
        return int(second)
    low = 0
    while low == ahead or low == second:
        low += 1
    return int(low if choice == 2 else 6 - ahead - second - low)


@kernel(counted=False, merge=True)
def context_x(feature: I64, history: int) -> int:
    """Raw context of the first token; `history` 0..3 says when the cube last changed, `LISTED` that it had not."""
    context = (history * 2 + (feature[F_INTERACTING] & 1)) * 10 + feature[F_ERROR]
    return int(_X + (context * 10 + feature[F_SPEED]) * 3 + feature[F_MARGIN])


@kernel(counted=False, merge=True)
def context_y(feature: I64, coded: int) -> int:
    """Raw context of y, given the size of x's residual."""
    context = (feature[F_KIND] * 10 + feature[F_ERROR]) * 10 + feature[F_SPEED]
    return int(_Y + context * 10 + bucket(coded))


@kernel(counted=False, merge=True)
def context_z(feature: I64, coded: int) -> int:
    """Raw context of z, given the size of the residuals before it."""
    context = (feature[F_ERROR] * 10 + bucket(coded)) * 9 + feature[F_REGIME]
    return int(_Z + context * 3 + (feature[F_SPEED] >> 2))


@kernel(counted=False, merge=True)
def context_q(feature: I64, column: int, moved: int, coded: int) -> int:
    """Raw context of small component 0..2, given the size of the position's residuals and of those before it."""
    if column == 0:
        context = (feature[F_KIND] * 9 + feature[F_TURN_ERROR]) * 9 + feature[F_TURN]
        return int(_Q0 + context * 10 + bucket(moved))
    first = _Q1 if column == 1 else _Q2
    context = (feature[F_KIND] * 10 + feature[F_TURN_ERROR]) * 10 + bucket(coded)
    return int(first + context * 10 + bucket(moved))


@kernel(counted=False, merge=True)
def choice_context(feature: I64) -> int:
    """Raw context of which component is the largest, and whether `interacting` flips, where either is not foreseen."""
    return int(_CHOICE + feature[F_TURN] * 3 + feature[F_MARGIN])
