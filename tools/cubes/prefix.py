"""Prefix codes: the best lengths within a limit, the canonical words of lengths, and the tree of the words."""

import numpy as np

from sim.arrays import F64, U8

__all__ = ["LENGTH_MAX", "code_lengths", "tree_edges", "words_of"]

LENGTH_MAX = 15


def code_lengths(weights: F64, limit: int = LENGTH_MAX) -> U8:
    """Lengths of the optimal prefix code of at most `limit` bits; 0 for symbols without weight.

    Package-merge: Larmore and Hirschberg 1990.

    Args:
        weights: How often each symbol occurs, shape (n,); zero where it cannot.
        limit: Longest word [bits].
    """
    used = np.flatnonzero(weights > 0)
    lengths = np.zeros(len(weights), np.uint8)
    if len(used) == 1:
        lengths[used] = 1
        return lengths
    leaves = sorted((float(weights[symbol]), (int(symbol),)) for symbol in used)
    row: list[tuple[float, tuple[int, ...]]] = []
    for _ in range(limit):
        pairs = [
            (row[i][0] + row[i + 1][0], row[i][1] + row[i + 1][1]) for i in range(0, len(row) - 1, 2)
        ]  # fmt: skip
        row = sorted(leaves + pairs)
    for _, symbols in row[: 2 * len(used) - 2]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def words_of(lengths: U8) -> list[int]:
    """The canonical words of code lengths, first bit highest."""
    words = [0] * len(lengths)
    word, last = 0, 0
    for length, symbol in sorted((int(length), symbol) for symbol, length in enumerate(lengths) if length):
        word <<= length - last
        words[symbol], last = word, length
        word += 1
    return words


def tree_edges(lengths: U8) -> list[tuple[int, int, int, int]]:
    """The tree of the canonical words, along the word of each symbol in turn: symbol, node, bit, and where that leads.

    Nodes are numbered from the root, 0, as they are first met. An edge leads to a node, or to ~symbol.
    """
    edges = []
    nodes = {(0, 0): 0}
    for symbol, word in enumerate(words_of(lengths)):
        length = int(lengths[symbol])
        for depth in range(length):
            left = length - depth
            child = ~symbol if left == 1 else nodes.setdefault((depth + 1, word >> (left - 1)), len(nodes))
            edges.append((symbol, nodes[depth, word >> left], (word >> (left - 1)) & 1, child))
    return edges
