"""The replay window of 256 sequences as a ring of bits (STANDARD.md, "Replay Protection").

It lives in the words of a connection (`net.packets_kernels`): the newest sequence, then 256 bits in four words; the
bit of sequence s is s mod 256. The reference implementation keeps 256 whole sequences, 2 KB; here the window and all
else that a packet touches lie in two cache lines.
"""

import numpy as np

from sim.arrays import U64
from sim.jit import kernel

__all__ = ["NEWEST_AT", "WINDOW_AT", "replay_mark", "replay_reset", "replay_seen"]

NEWEST_AT = 4
WINDOW_AT = 5

_WINDOW = np.uint64(256)
_LOW_BYTE = np.uint64(255)
_LOW_SIX = np.uint64(63)
_SIX = np.uint64(6)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


@kernel(counted=False)
def replay_reset(words: U64, row: int) -> None:
    """Forget all sequences of a connection."""
    for word in range(NEWEST_AT, WINDOW_AT + 4):
        words[row, word] = _ZERO


@kernel(counted=False)
def replay_seen(words: U64, row: int, sequence: np.uint64) -> bool:
    """Whether a sequence was received before or is 256 or more behind the newest; moves nothing."""
    newest = words[row, NEWEST_AT]
    if sequence > newest:
        return False
    # By subtraction, which cannot wrap here: sequence + 256 would for sequences near 2**64.
    if newest - sequence >= _WINDOW:
        return True
    bit = sequence & _LOW_BYTE
    return bool((words[row, WINDOW_AT + np.int64(bit >> _SIX)] >> (bit & _LOW_SIX)) & _ONE)


@kernel(counted=False)
def replay_mark(words: U64, row: int, sequence: np.uint64) -> None:
    """Remember a sequence that passed `replay_seen` and whose packet was authentic."""
    newest = words[row, NEWEST_AT]
    if sequence > newest:
        if sequence - newest >= _WINDOW:
            replay_reset(words, row)
        else:
            for step in range(np.int64(1), np.int64(sequence - newest)):
                passed = (newest + np.uint64(step)) & _LOW_BYTE
                words[row, WINDOW_AT + np.int64(passed >> _SIX)] &= ~(_ONE << (passed & _LOW_SIX))
        words[row, NEWEST_AT] = sequence
    bit = sequence & _LOW_BYTE
    words[row, WINDOW_AT + np.int64(bit >> _SIX)] |= _ONE << (bit & _LOW_SIX)
