"""The record codec of a field table: code tables made from the shipped model, and what kernels take of them.

The model (`record_model.npz`, made by `python -m tools.codec_train`) counts how often each symbol was used for each
code of net/records_kernels.py in scripted matches, with the steps and widths named below. It is fitted to a table's own
steps by moving widths up or down by whole bits, so that any game's components get good codes without training. All of
it is integer arithmetic: two sides with the same table make the same codes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import frexp
from pathlib import Path

import numpy as np

from net.errors import NetError
from net.prefix_codes import code_lengths, read_table, write_table
from net.records_kernels import (
    ANGLE_A,
    ANGLE_B,
    CODES,
    ESCAPE,
    MOTION_FIELDS,
    NARROW,
    NARROW_BITS_MAX,
    POSITION_XY,
    RAW_BITS_MAX,
    RECKONING_COLUMNS,
    SHAPE_SELF,
    SINGLE,
    SYMBOLS,
    VELOCITY_X,
    VELOCITY_Y,
    VELOCITY_Z,
    WIDE,
    Codec,
)
from sim.arrays import I64

__all__ = ["MODEL_FILE", "SINGLE_WIDTHS", "Reckoning", "RecordFields", "build_codec", "build_lengths", "trained_counts"]

MODEL_FILE = Path(__file__).with_name("record_model.npz")
TRAINED_POSITION_STEP, TRAINED_VELOCITY_STEP = 1 / 128, 1 / 64  # of the matches that were counted
TRAINED_ANGLE_BITS = (12, 11)
SLOW_WIDTH = 6  # speeds are told apart from a folded velocity of this width on: 1 m/s in the trained step
ACCELERATION_MAX = 1 << 38  # times 63² it stays below 2^50
CONTEXTS = 16
# How likely fields change alone depends on their width: up to 1 bit, raw, narrow, wide. In the model, symbols 0 to 3 of
# SINGLE count all changes of a field of that class, and symbol 15 those of several fields at once.
SINGLE_WIDTHS = (1, RAW_BITS_MAX, NARROW_BITS_MAX, 32)


@dataclass(frozen=True, slots=True)
class Reckoning:
    """How entities of one kind go on from a state (dead reckoning, IEEE 1278.1; net/records_kernels.py).

    Attributes:
        order: 0 stays, 1 goes on, 2 accelerates while the condition holds (and else goes on).
        acceleration: Per axis, in position units per tick and tick, times 65,536.
        field, mask, value: The condition of order 2: state[field] & mask == value.
    """

    order: int = 1
    acceleration: tuple[int, int, int] = (0, 0, 0)
    field: int = 0
    mask: int = 0
    value: int = 0


@dataclass(frozen=True, slots=True)
class RecordFields:
    """What the codec needs to know of a table.

    Attributes:
        bits, signed: Per field, in wire order.
        count: Fields of levels 0, 1, 2 and SELF.
        steps: Of position and velocity.
        angles: Index of up to two angles.
        kind: Index of the field with the entity's kind, −1: none.
        scale: Position units per velocity unit and tick, times 65,536.
    """

    bits: tuple[int, ...]
    signed: tuple[bool, ...]
    count: tuple[int, int, int, int]
    steps: tuple[float, float]
    angles: tuple[int, ...]
    kind: int
    scale: int

    @property
    def others(self) -> list[int]:
        """The fields that are neither motion nor angles."""
        return [f for f in range(MOTION_FIELDS, len(self.bits)) if f not in self.angles]


@cache
def trained_counts() -> I64:
    """How often each symbol was used for each code, shape (CODES, 16), int64; not to be changed."""
    with np.load(MODEL_FILE) as file:
        counts: I64 = file["counts"].astype(np.int64)
    return counts


def _doublings(step: float, trained: float) -> int:
    """By how many bits numbers of this step are wider than trained, rounded."""
    mantissa, exponent = frexp(trained / step)
    return exponent if mantissa >= 0.75 else exponent - 1  # within 0.75 and 1.5 times: the same


def _moved(width: int, by: int) -> int:
    return 0 if width == 0 else min(max(width + by, 1), ESCAPE)


def _fitted(first: int, contexts: int, *, stride: int, context_by: int, symbol_by: int, bits: int) -> I64:
    """Codes `first` on, one per width of context and `stride` of each, moved to other steps and held to `bits`."""
    counts = trained_counts()
    result: I64 = np.zeros((contexts * stride, SYMBOLS), np.int64)
    for row in range(contexts * stride):
        width, rest = divmod(row, stride)
        source = counts[first + _moved(width, -context_by) * stride + rest]
        for symbol in range(SYMBOLS):
            result[row, _moved(symbol, symbol_by)] += source[symbol] * 64
        result[row, : min(bits, ESCAPE) + 1] += 1
        result[row, min(bits, ESCAPE) + 1 :] = 0
    return result


def _singles(fields: RecordFields) -> I64:
    """Counts of the code that tells which other field changed alone."""
    trained, result = trained_counts()[SINGLE], np.zeros(SYMBOLS, np.int64)
    for i, f in enumerate(fields.others[:ESCAPE]):
        if f != fields.kind:
            place = next(k for k, width in enumerate(SINGLE_WIDTHS) if fields.bits[f] <= width)
            result[i] = trained[place] * 64
        result[i] += 1
    result[ESCAPE] = trained[ESCAPE] * 64 + 1
    return result


def _shapes(fields: RecordFields) -> I64:
    """Counts of the shape codes, the last one being that of SELF, without shapes that cannot be."""
    counts = trained_counts()
    result: I64 = np.concatenate([counts[:VELOCITY_X], counts[SHAPE_SELF : SHAPE_SELF + 1]]) * 64 + 1
    for shape in range(SYMBOLS):
        if (shape & 4 and not fields.angles) or (shape & 8 and not fields.others):
            result[:, shape] = 0
    result[-1, [shape for shape in range(SYMBOLS) if shape & 3]] = 0
    result[-1, 8] += 1  # a code needs two words
    return result


@cache
def build_lengths(fields: RecordFields) -> tuple[tuple[int, ...], ...]:
    """The word lengths of every code, by number and symbol; 0: the symbol cannot be."""
    bits, counts = fields.bits, np.zeros((CODES, SYMBOLS), np.int64)
    far, fast = _doublings(fields.steps[0], TRAINED_POSITION_STEP), _doublings(fields.steps[1], TRAINED_VELOCITY_STEP)
    shapes = _shapes(fields)
    counts[:VELOCITY_X], counts[SHAPE_SELF] = shapes[:-1], shapes[-1]
    velocity, position = max(bits[3:MOTION_FIELDS]), max(bits[:3])
    options = {"context_by": fast, "symbol_by": fast, "bits": velocity}
    counts[VELOCITY_X:VELOCITY_Y] = _fitted(VELOCITY_X, 1, stride=2, **options)
    counts[VELOCITY_Y:VELOCITY_Z] = _fitted(VELOCITY_Y, CONTEXTS, stride=2, **options)
    counts[VELOCITY_Z:POSITION_XY] = _fitted(VELOCITY_Z, CONTEXTS, stride=2, **options)
    options = {"context_by": fast, "symbol_by": far, "bits": position}
    counts[POSITION_XY:ANGLE_A] = np.concatenate(
        [_fitted(POSITION_XY + CONTEXTS * i, CONTEXTS, stride=1, **options) for i in range(2)]
    )
    angles = [bits[f] for f in fields.angles] + [1, 1]
    first, second = angles[0] - TRAINED_ANGLE_BITS[0], angles[1] - TRAINED_ANGLE_BITS[1]
    counts[ANGLE_A:ANGLE_B] = _fitted(ANGLE_A, 1, stride=1, context_by=0, symbol_by=first, bits=angles[0])
    counts[ANGLE_B:NARROW] = _fitted(ANGLE_B, CONTEXTS, stride=1, context_by=first, symbol_by=second, bits=angles[1])
    for code, most in ((NARROW, NARROW_BITS_MAX), (WIDE, 32)):
        counts[code] = _fitted(code, 1, stride=1, context_by=0, symbol_by=0, bits=most)[0]
    counts[SINGLE] = _singles(fields)
    return tuple(tuple(code_lengths(row.tolist())) for row in counts)


def _reckoning_rows(fields: RecordFields, reckoning: Sequence[Reckoning]) -> I64:
    """The kernels' table, one row per kind.

    Raises:
        NetError: A number is out of its limits.
    """
    rows: I64 = np.zeros((max(len(reckoning), 1), RECKONING_COLUMNS), np.int64)
    rows[:, 0] = 1
    for kind, entry in enumerate(reckoning):
        where = f"reckoning of kind {kind}"
        if entry.order not in {0, 1, 2} or not 0 <= entry.field < len(fields.bits):
            raise NetError(f"{where}: order {entry.order}, field {entry.field}: give it order 0 to 2 and a field")
        if max(abs(value) for value in entry.acceleration) > ACCELERATION_MAX:
            raise NetError(f"{where}: acceleration {entry.acceleration}: at most {ACCELERATION_MAX} per axis")
        speedup = [(2 * 65536 * value + fields.scale) // (2 * max(fields.scale, 1)) for value in entry.acceleration]
        if max(abs(value) for value in speedup) > ACCELERATION_MAX:
            raise NetError(f"{where}: acceleration {entry.acceleration} is too much for velocities of this step")
        rows[kind] = [entry.order, *entry.acceleration, *speedup, entry.field, entry.mask, entry.value]
    return rows


def build_codec(fields: RecordFields, reckoning: Sequence[Reckoning]) -> Codec:
    """What kernels take; layout in net/records_kernels.py.

    Args:
        fields: The table.
        reckoning: Of each kind by number; kinds beyond it go on as the last, and by order 1 where it is empty.

    Raises:
        NetError: A reckoning is out of its limits, or predictions could exceed 2^53.
    """
    if (1 << (max(fields.bits[3:MOTION_FIELDS]) + 6)) * fields.scale >= 1 << 52:
        raise NetError(
            f"fields: velocity of {max(fields.bits[3:MOTION_FIELDS])} bits times {fields.scale} exceeds what every"
            " client can compute; give it fewer bits or a smaller step"
        )
    lengths = build_lengths(fields)
    rows: I64 = np.zeros((len(fields.bits), 3), np.int64)
    for f, bits in enumerate(fields.bits):
        code = -1 if bits <= RAW_BITS_MAX else NARROW if bits <= NARROW_BITS_MAX else WIDE
        rows[f] = bits, int(fields.signed[f]), code
    others = fields.others
    slow = SLOW_WIDTH + _doublings(fields.steps[1], TRAINED_VELOCITY_STEP)
    angles = [*fields.angles, -1, -1][:2]
    held = [sum(f < count for f in others) for count in fields.count]
    numbers: I64 = np.array([fields.scale, *fields.count, fields.kind, *angles, slow, *held, *others, 0], np.int64)
    writing = np.stack([write_table(row, symbols=SYMBOLS) for row in lengths])
    reading = np.stack([read_table(row) for row in lengths])
    return rows, numbers, _reckoning_rows(fields, reckoning), writing, reading
