"""The replay window of 256 sequences as a ring of bits (STANDARD.md, "Replay Protection").

Per connection: `newest` (uint64) and 256 bits (uint64[4]); the bit of sequence s is s mod 256. The reference
implementation keeps 256 whole sequences, 2 KB; 40 bytes keep the window of a connection in one cache line.
"""

import numpy as np

from sim.arrays import U64
from sim.jit import kernel

__all__ = ["replay_mark", "replay_seen"]

_WINDOW = np.uint64(256)
_LOW_BYTE = np.uint64(255)
_LOW_SIX = np.uint64(63)
_SIX = np.uint64(6)
_ONE = np.uint64(1)


@kernel
def replay_seen(newest: U64, window: U64, row: int, sequence: np.uint64) -> bool:
    """Whether a sequence was received before or is 256 or more behind the newest; moves nothing."""
    if sequence > newest[row]:
        return False
    # By subtraction, which cannot wrap here: sequence + 256 would for sequences near 2**64.
    if newest[row] - sequence >= _WINDOW:
        return True
    bit = sequence & _LOW_BYTE
    return bool((window[row, np.int64(bit >> _SIX)] >> (bit & _LOW_SIX)) & _ONE)


@kernel
def replay_mark(newest: U64, window: U64, row: int, sequence: np.uint64) -> None:
    """Remember a sequence that passed `replay_seen` and whose packet was authentic."""
    if sequence > newest[row]:
        ahead = sequence - newest[row]
        if ahead >= _WINDOW:
            for word in range(4):
                window[row, word] = np.uint64(0)
        else:
            for step in range(np.int64(1), np.int64(ahead)):
                passed = (newest[row] + np.uint64(step)) & _LOW_BYTE
                window[row, np.int64(passed >> _SIX)] &= ~(_ONE << (passed & _LOW_SIX))
        newest[row] = sequence
    bit = sequence & _LOW_BYTE
    window[row, np.int64(bit >> _SIX)] |= _ONE << (bit & _LOW_SIX)
