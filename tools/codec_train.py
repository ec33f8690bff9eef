"""Training the model of the record codec: how often each symbol of each code is used in scripted matches.

    python -m tools.codec_train [FILE]

writes `net/record_model.npz` (or FILE) anew from matches of the arena that are told to clients as a server tells them:
every record that a client got, with the baseline it rested on. Contexts that hardly occurred lean on their neighbours.
What `net.records` calls trained steps and widths are those of the arena's table; whoever changes those, or the layout
of a record, trains anew. The protocol id changes with it.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from net.records import MODEL_FILE, SINGLE_WIDTHS
from net.records_kernels import (
    ANGLE_A,
    ANGLE_B,
    CODES,
    ESCAPE,
    NARROW,
    NARROW_BITS_MAX,
    POSITION_XY,
    POSITION_Z,
    RAW_BITS_MAX,
    SELF,
    SHAPE_SELF,
    SINGLE,
    SPEED_BASE,
    SYMBOLS,
    VELOCITY_X,
    VELOCITY_Y,
    VELOCITY_Z,
    WIDE,
)
from net.snapshots import FieldTable
from sim.arrays import F64, I32, I64, Bool
from tools.match import ScriptedMatch

__all__ = ["count_symbols", "observe", "smoothed"]

MATCHES = ((1, 64, 40.0), (2, 24, 40.0))  # seed, players, seconds
HISTORY_TICKS = 64
WEIGHT_MAX = 100_000  # of one code: lengths do not change beyond
CONTEXT_GROUPS = ((VELOCITY_Y, 16, 2), (VELOCITY_Z, 16, 2), (POSITION_XY, 16, 1), (POSITION_Z, 16, 1), (ANGLE_B, 16, 1))
Records = tuple[I64, I64, I64, I64]
"""Age and level of each record, shape (n,); its state and its baseline's, shape (n, fields); int64."""


def observe(match: ScriptedMatch, ticks: int) -> Iterator[Records]:
    """The records with a baseline that clients got in each tick.

    Args:
        match: A fresh match.
        ticks: How long.
    """
    group, history = match.group, dict[int, I32]()
    for tick in match.play(ticks):
        history[tick] = match.replication.fields.copy()
        history.pop(tick - HISTORY_TICKS, None)
        client, slot = np.nonzero((group.state_tick == tick) & (group.entity_id != 0) & (group.record_age > 0))
        if not len(client):
            continue
        age = group.record_age[client, slot].astype(np.int64)
        row = (group.entity_id[client, slot] & np.uint64((1 << 24) - 1)).astype(np.int64)
        baseline = np.stack([history[tick - a][r] for a, r in zip(age.tolist(), row.tolist(), strict=True)])
        level = group.level[client, slot].astype(np.int64)
        yield age, level, group.fields[client, slot].astype(np.int64), baseline.astype(np.int64)


def _width(values: I64) -> I64:
    """Bits that whole numbers below 2^53 need."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _folded(difference: I64, bits: int) -> I64:
    """Differences modulo 2^bits, folded."""
    half = 1 << (bits - 1)
    small = (difference + half) % (1 << bits) - half
    return np.where(small >= 0, 2 * small, -2 * small - 1)


def _motion_widths(table: FieldTable, age: I64, now: I64, then: I64) -> tuple[I64, I64, Bool]:
    """Widths of the residuals of velocity and position, shape (n, 3), and where order 2 holds."""
    numbers, reckoning = table.codec[1], table.codec[2]
    kind = then[:, table.parts.kind] if table.parts.kind >= 0 else np.zeros(len(age), np.int64)
    rows = reckoning[np.minimum(kind, len(reckoning) - 1)]
    held = np.take_along_axis(then, rows[:, 7:8], axis=1)[:, 0] & rows[:, 8]
    fast = (rows[:, 0] == 2) & (held == rows[:, 9])
    scale = np.where(rows[:, 0] > 0, numbers[0], 0)
    velocity, position = np.zeros((len(age), 3), np.int64), np.zeros((len(age), 3), np.int64)
    for axis in range(3):
        gained = np.where(fast, (rows[:, 4 + axis] * age + 32768) >> 16, 0)
        start, speed = then[:, 3 + axis], now[:, 3 + axis]
        velocity[:, axis] = _width(_folded(speed - start - gained, table.fields[3 + axis].bits))
        way = ((start + speed) * age * scale + 65536) >> 17
        position[:, axis] = _width(_folded(now[:, axis] - then[:, axis] - way, table.fields[axis].bits))
    return velocity, position, fast


def _shape_codes(table: FieldTable, age: I64, then: I64, fast: Bool) -> I64:
    """The code of each record's shape."""
    widest = _width(np.maximum(2 * then[:, 3:6], -2 * then[:, 3:6] - 1).max(1))
    speed = np.where(widest == 0, 0, np.clip(widest - int(table.codec[1][SPEED_BASE]), 1, 4))
    aged = (age > 4).astype(np.int64) + (age > 8) + (age > 16)
    return (aged * 5 + speed) * 2 + fast


def _count_others(table: FieldTable, changed: Bool, now: I64, then: I64, counts: F64) -> None:
    """Count what is told of fields that are neither motion nor angles."""
    alone = changed.sum(1) == 1
    classes = [
        next(k for k, most in enumerate(SINGLE_WIDTHS) if table.fields[f].bits <= most) for f in table.parts.others
    ]
    for i, f in enumerate(table.parts.others):
        bits, here = table.fields[f].bits, changed[:, i]
        if f != table.parts.kind:
            counts[SINGLE, classes[i]] += (here & alone).sum() / classes.count(classes[i])
        if bits > RAW_BITS_MAX:
            widths = _width(_folded(now[:, f] - then[:, f], bits)[here])
            np.add.at(counts[NARROW if bits <= NARROW_BITS_MAX else WIDE], np.minimum(widths, ESCAPE), 1.0)
    counts[SINGLE, ESCAPE] += (changed.sum(1) > 1).sum()


def count_symbols(table: FieldTable, records: Records) -> F64:
    """How often each symbol of each code is written for these records, shape (CODES, 16).

    Of the code `SINGLE` it counts classes of fields instead, as net/records.py says.
    """
    age, level, now, then = records
    counts = np.zeros((CODES, SYMBOLS))
    velocity, position, fast = _motion_widths(table, age, now, then)
    others = table.parts.others
    changed = (now[:, others] != then[:, others]) & (np.array(others) < np.array(table.count)[level][:, None])
    turned = (now[:, table.angles] != then[:, table.angles]).any(1)
    own = level == SELF
    velocity[own], position[own] = 0, 0
    shape = velocity.any(1) + 2 * position.any(1) + 4 * turned + 8 * changed.any(1)

    def add(code: I64 | int, symbol: I64, where: Bool) -> None:
        place = np.broadcast_to(np.asarray(code), symbol.shape)[where]
        np.add.at(counts, (place, np.minimum(symbol, ESCAPE)[where]), 1.0)

    add(np.where(own, SHAPE_SELF, _shape_codes(table, age, then, fast)), shape, np.ones(len(age), bool))
    x, y, z = np.minimum(velocity, ESCAPE).T
    fast_code, moves, strays = fast.astype(np.int64), (shape & 1) > 0, (shape & 2) > 0
    add(VELOCITY_X + fast_code, x, moves)
    add(VELOCITY_Y + 2 * x + fast_code, y, moves)
    add(VELOCITY_Z + 2 * np.maximum(x, y) + fast_code, z, moves)
    for axis, width in enumerate((x, y, z)):
        add((POSITION_XY if axis < 2 else POSITION_Z) + width, position[:, axis], strays)
    first, second = table.angles
    widths = [_width(_folded(now[:, f] - then[:, f], table.fields[f].bits)) for f in (first, second)]
    add(ANGLE_A, widths[0], turned)
    add(ANGLE_B + np.minimum(widths[0], ESCAPE), widths[1], turned)
    _count_others(table, changed, now, then, counts)
    return counts


def smoothed(counts: F64) -> I32:
    """Counts in which rare contexts lean on their neighbours, held to a greatest weight each; int32."""
    result = counts.copy()
    shapes = result[:VELOCITY_X].reshape(4, 5, 2, SYMBOLS)
    overall = shapes.sum((0, 1, 2)) + 1e-9
    ages = shapes.sum(0, keepdims=True) + 20.0 * overall / overall.sum()
    shapes += 20.0 * ages / ages.sum(-1, keepdims=True)
    for first, contexts, stride in CONTEXT_GROUPS:
        group = result[first : first + contexts * stride]
        total = group.sum(0) + 1e-9
        group += 8.0 * total / total.sum()
    result *= 16.0
    total = result.sum(1, keepdims=True) + 1e-9
    held: I32 = np.ceil(result / total * np.minimum(total, WEIGHT_MAX) - 1e-3).astype(np.int32)
    return held


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write."""
    given = sys.argv[1:] if arguments is None else arguments
    target = Path(given[0]) if given else MODEL_FILE
    counts = np.zeros((CODES, SYMBOLS))
    for seed, players, seconds in MATCHES:
        match = ScriptedMatch(players, seed=seed)
        for records in observe(match, round(seconds * 60)):
            counts += count_symbols(match.replication.table, records)
    np.savez_compressed(target, counts=smoothed(counts))
    sys.stdout.write(
        f"{target}: {int(counts[:VELOCITY_X].sum()):,} records of entities, {target.stat().st_size:,} bytes\n"
    )


if __name__ == "__main__":
    main()
