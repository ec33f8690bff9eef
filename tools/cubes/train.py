"""Training the static tables: contexts folded to few codes, prefix code lengths, and the range coder's first chances.

    python -m tools.cubes.train FILE…

writes `tables.npz` beside this module from files that `data.py` describes, each counting as much as the others.
Contexts are folded per field by Lloyd's algorithm on distributions: a context joins the code in which its tokens take
the fewest bits, a code is the sum of its contexts (context quantisation: Wu, Chou, Xue 2000).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim.arrays import F64, I16, I32, I64, U8, U16
from tools.cubes.codec import FIRST_FRAME, TABLES_FILE, make_scratch
from tools.cubes.data import load_cubes
from tools.cubes.describe_kernels import BASELINE, MOODS, RING, WORD, describe_frame, mark_changes
from tools.cubes.model_kernels import CONTEXTS, FIELDS, FIRST, SYMBOLS, TOKEN_AT
from tools.cubes.prefix import code_lengths, tree_edges

__all__ = ["Tables", "list_symbols", "train_tables"]

Tables = tuple[I16, U8, U16]  # maps, code lengths, chances by mood and code

CODES = {"x": 32, "y": 16, "z": 16, "q0": 16, "q1": 16, "q2": 16, "choice": 6, "gap": 2}
ALPHABET = {"x": SYMBOLS, "y": SYMBOLS, "z": SYMBOLS, "q0": 39, "q1": 39, "q2": 39, "choice": 8, "gap": 44}
ROUNDS = 12
PARENT_WEIGHT = 4.0  # tokens' worth of the field's own distribution in every context
PRIOR_WEIGHT = 24.0  # tokens' worth of all moods in the chances of one
RARE = 0.02  # how often a token counts that never occurred


def fold_contexts(counts: F64, codes: int) -> tuple[I64, F64]:
    """Fold contexts of one field to at most `codes` distributions.

    Args:
        counts: How often each token occurred, shape (contexts, symbols).
        codes: How many distributions there may be.

    Returns:
        Code of each context, shape (contexts,), and the counts of each code, shape (codes, symbols).
    """
    total = counts.sum(0) + RARE
    prior = PARENT_WEIGHT * total / total.sum()
    smoothed = counts + prior
    share = smoothed / smoothed.sum(1, keepdims=True)
    middle = share @ np.arange(counts.shape[1])
    order = np.argsort(middle, kind="stable")
    weight = np.cumsum(counts.sum(1)[order] + 1e-6)
    code = np.zeros(len(counts), np.int64)
    code[order] = np.minimum((weight / weight[-1] * codes).astype(np.int64), codes - 1)
    for _ in range(ROUNDS):
        sums = np.zeros((codes, counts.shape[1]))
        np.add.at(sums, code, counts)
        sums += prior / 4
        cost = smoothed @ -np.log2(sums / sums.sum(1, keepdims=True)).T
        code = cost.argmin(1)
    sums = np.zeros((codes, counts.shape[1]))
    np.add.at(sums, code, counts)
    return code, sums + prior / 16


def node_chances(lengths: U8, counts: F64, parents: F64) -> F64:
    """How likely a 0 is at each node of a code's tree, shape (SYMBOLS,), nodes numbered as in the codec."""
    zeros, ones = np.zeros(SYMBOLS), np.zeros(SYMBOLS)
    mixed = counts + PRIOR_WEIGHT * parents / parents.sum()
    for symbol, node, bit, _ in tree_edges(lengths):
        (ones if bit else zeros)[node] += mixed[symbol]
    return np.asarray((zeros + 0.02) / (zeros + ones + 0.04))


def list_symbols(frames: I32) -> I32:
    """Mood, raw context and token of every symbol of a set of frames, shape (n, 3)."""
    cubes = frames.shape[1]
    wide, bits = frames.reshape(len(frames), -1).view(np.int64), np.zeros((RING, -(-cubes // WORD)), np.int64)
    scratch, moods = make_scratch(cubes), np.zeros(cubes + 1, np.int64)
    _, ends, symbols, _ = scratch
    parts: list[I32] = []
    for frame in range(BASELINE, FIRST_FRAME):
        mark_changes(wide, frame, frame - BASELINE, bits)
    for frame in range(FIRST_FRAME, len(frames)):
        count, known = describe_frame(frames, wide, frame, bits, scratch, moods)
        sizes = np.diff(ends[:count], prepend=0)
        total = int(sizes.sum()) + (1 if count == known else 0)
        listed = np.zeros((total, 3), np.int32)
        listed[:, 0] = np.append(np.repeat(moods[:count], sizes), moods[count])[:total]
        listed[:, 1] = symbols[:total] & ((1 << TOKEN_AT) - 1)
        listed[:, 2] = (symbols[:total] >> TOKEN_AT) & 127
        parts.append(listed)
    return np.concatenate(parts)


def train_tables(symbols: Sequence[I32]) -> Tables:
    """Tables from what `list_symbols` listed of each data set, each of the same weight."""
    counts = np.zeros((MOODS, FIRST[-1], SYMBOLS))
    for listed in symbols:
        found = np.zeros_like(counts)
        np.add.at(found, (listed[:, 0], listed[:, 1], listed[:, 2]), 1.0)
        counts += found * (1_000_000 / len(listed))
    maps: list[I64] = []
    lengths: list[U8] = []
    chances: list[F64] = []
    for field, first, contexts in zip(FIELDS, FIRST, CONTEXTS, strict=False):
        size = ALPHABET[field]
        here = counts[:, first : first + contexts, :size]
        code, sums = fold_contexts(here.sum(0), CODES[field])
        maps.append(code + sum(len(row) for row in lengths))
        lengths.append(np.zeros((CODES[field], SYMBOLS), np.uint8))
        chances.append(np.zeros((MOODS, CODES[field], SYMBOLS)))
        for index in range(CODES[field]):
            lengths[-1][index, :size] = code_lengths(sums[index])
            for mood in range(MOODS):
                mine = np.zeros(SYMBOLS)
                mine[:size] = here[mood, code == index].sum(0)
                parents = np.pad(sums[index], (0, SYMBOLS - size))
                chances[-1][mood, index] = node_chances(lengths[-1][index], mine, parents)
    odds = np.concatenate(chances, axis=1).reshape(-1, SYMBOLS)
    return (
        np.concatenate(maps).astype(np.int16),
        np.concatenate(lengths),
        np.clip(np.rint(odds * 65536), 64, 65472).astype(np.uint16),
    )


if __name__ == "__main__":
    trained = train_tables([list_symbols(load_cubes(Path(name))) for name in sys.argv[1:]])
    np.savez_compressed(TABLES_FILE, maps=trained[0], lengths=trained[1], chances=trained[2])
