"""A 64-bit hash of arrays at memory speed, the same on every machine of one byte order.

Four independent lanes of multiply-and-rotate over 64-bit words, folded at the end, in the manner of xxHash64 (Yann
Collet's specification, https://github.com/Cyan4973/xxHash): strong enough to tell a changed bit, made for no adversary.
"""

from collections.abc import Iterable

import numpy as np

from sim.arrays import U8, U64, AnyArray
from sim.jit import kernel

__all__ = ["hash_bytes", "hash_columns"]

PRIME_1 = np.uint64(0x9E3779B185EBCA87)
PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
PRIME_3 = np.uint64(0x165667B19E3779F9)
PRIME_4 = np.uint64(0x85EBCA77C2B2AE63)
ROTATE_UP = np.uint64(31)
ROTATE_DOWN = np.uint64(33)


@kernel
def _mix(lane: np.uint64, word: np.uint64) -> np.uint64:
    lane = lane + word * PRIME_2
    lane = (lane << ROTATE_UP) | (lane >> ROTATE_DOWN)
    return lane * PRIME_1


@kernel("(u8[::1], u1[::1], u8)")
def hash_words(words: U64, tail: U8, seed: np.uint64) -> np.uint64:
    """Hash of 64-bit words and of fewer than eight bytes after them, continued from `seed`."""
    a = seed + PRIME_1 + PRIME_2
    b = seed + PRIME_2
    c = seed + np.uint64(0)
    d = seed - PRIME_1
    whole = words.shape[0] // 4 * 4
    for index in range(0, whole, 4):
        a = _mix(a, words[index])
        b = _mix(b, words[index + 1])
        c = _mix(c, words[index + 2])
        d = _mix(d, words[index + 3])
    total = _mix(_mix(_mix(_mix(seed, a), b), c), d)
    for index in range(whole, words.shape[0]):
        total = _mix(total, words[index])
    for index in range(tail.shape[0]):
        total = _mix(total, np.uint64(tail[index]) + PRIME_3)
    total ^= np.uint64(words.shape[0]) * np.uint64(8) + np.uint64(tail.shape[0])
    total ^= total >> ROTATE_DOWN
    total *= PRIME_4
    return total ^ (total >> np.uint64(29))


def hash_bytes(data: U8, seed: int = 0) -> int:
    """Hash of contiguous bytes, continued from the hash of what came before."""
    whole = data.size // 8 * 8
    return int(hash_words(data[:whole].view(np.uint64), data[whole:], np.uint64(seed)))


def hash_columns(columns: Iterable[AnyArray], seed: int = 0) -> int:
    """Hash of the bytes of several contiguous arrays, in order."""
    total = seed
    for array in columns:
        total = hash_bytes(array.reshape(-1).view(np.uint8), total)
    return total
