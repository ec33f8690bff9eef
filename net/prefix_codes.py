"""Static prefix codes: the best word lengths within a limit, and the words that follow from the lengths alone.

Integers only, so that the same counts give the same code on every machine and in every language. A code with a single
symbol has one word of one bit. Words are canonical (Schwartz and Kallick 1964): symbols in order of (length, symbol)
get ascending words, each the word before it plus one, shifted left where the length grows. A word is written to a bit
string first bit first; since bit strings are filled from the low bit up, `write_table` keeps words reversed.
"""

from collections.abc import Sequence

import numpy as np

from net.errors import NetError
from sim.arrays import I32, U8

__all__ = ["READ_BITS", "canonical_words", "code_lengths", "read_table", "write_table"]

READ_BITS = 8  # longest word: a table to read by has 256 bytes, so that 159 of them nearly fit a first-level cache


def code_lengths(counts: Sequence[int], *, limit: int = READ_BITS) -> list[int]:
    """Lengths of the best prefix code of at most `limit` bits; 0 for symbols that never occur.

    Package-merge: Larmore and Hirschberg 1990. Of equal weights, the symbol comes before the package, the lower symbol
    before the higher.

    Args:
        counts: How often each symbol occurs, at least 0.
        limit: Longest word [bits].

    Raises:
        NetError: No symbol occurs, or more do than `limit` bits can tell apart.
    """
    used = [symbol for symbol, count in enumerate(counts) if count > 0]
    if not 1 <= len(used) <= 1 << limit:
        raise NetError(f"prefix code: {len(used)} symbols occur; give it 1 to {1 << limit}")
    lengths = [0] * len(counts)
    if len(used) == 1:
        lengths[used[0]] = 1
        return lengths
    leaves: list[tuple[int, int, int, tuple[int, ...]]]
    leaves = sorted((counts[symbol], 0, symbol, (symbol,)) for symbol in used)
    row = leaves
    for _ in range(limit - 1):
        pairs = [
            (row[i][0] + row[i + 1][0], 1, i, row[i][3] + row[i + 1][3]) for i in range(0, len(row) - 1, 2)
        ]  # fmt: skip
        row = sorted(leaves + pairs)
    for _, _, _, symbols in row[: 2 * len(used) - 2]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def canonical_words(lengths: Sequence[int]) -> list[int]:
    """The word of each symbol, first bit highest; 0 for symbols of length 0."""
    words = [0] * len(lengths)
    word, last = 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        word <<= length - last
        words[symbol], last = word, length
        word += 1
    return words


def _reversed(word: int, length: int) -> int:
    return int(f"{word:0{length}b}"[::-1], 2)


def write_table(lengths: Sequence[int], *, symbols: int) -> I32:
    """For each symbol its reversed word, plus its length times 65,536; shape (symbols,), int32; 0: it has no word."""
    table = np.zeros(symbols, np.int32)
    for symbol, word in enumerate(canonical_words(lengths)):
        if lengths[symbol]:
            table[symbol] = lengths[symbol] << 16 | _reversed(word, lengths[symbol])
    return table


def read_table(lengths: Sequence[int]) -> U8:
    """For each next `READ_BITS` bits the symbol times 16 plus its length, shape (256,), uint8.

    Symbols are below 16. Bits that begin with no word (a code of one symbol leaves some) give 0, a word of no bits.
    """
    table = np.zeros(1 << READ_BITS, np.uint8)
    for symbol, word in enumerate(canonical_words(lengths)):
        if lengths[symbol]:
            table[_reversed(word, lengths[symbol]) :: 1 << lengths[symbol]] = symbol << 4 | lengths[symbol]
    return table
