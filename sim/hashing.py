"""A 64-bit hash of memory at memory speed, the same on every little-endian machine.

Four independent lanes of multiply-and-rotate over 64-bit words, folded at the end, in the manner of xxHash64 (Yann
Collet's specification, https://github.com/Cyan4973/xxHash): strong enough to tell a changed bit, made for no adversary.

The kernel reads where it is told to, by address: a world is some seventy columns, and a call per column took 190 µs
where one call over a table of their addresses takes 8.
"""

import ctypes
from collections.abc import Iterable

import numpy as np

from sim.arrays import I64, U8, AnyArray
from sim.jit import kernel, llvm_function

__all__ = ["hash_bytes", "hash_columns", "hash_spans"]

PRIME_1 = np.uint64(0x9E3779B185EBCA87)
PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
PRIME_3 = np.uint64(0x165667B19E3779F9)
PRIME_4 = np.uint64(0x85EBCA77C2B2AE63)
ROTATE_UP = np.uint64(31)
ROTATE_DOWN = np.uint64(33)
WORD_BYTES = 8

READ_LLVM = """
define weak_odr i64 @hitreg_read_word(i64 %address) alwaysinline {
  %pointer = inttoptr i64 %address to ptr
  %word = load i64, ptr %pointer, align 1
  ret i64 %word
}
"""
BYTE_LLVM = """
define weak_odr i64 @hitreg_read_byte(i64 %address) alwaysinline {
  %pointer = inttoptr i64 %address to ptr
  %byte = load i8, ptr %pointer, align 1
  %word = zext i8 %byte to i64
  ret i64 %word
}
"""


def _word_plain(address: np.int64) -> int:
    return ctypes.c_uint64.from_address(int(address)).value


def _byte_plain(address: np.int64) -> int:
    return ctypes.c_uint8.from_address(int(address)).value


# Words anywhere in memory, aligned or not.
_word = llvm_function("hitreg_read_word", READ_LLVM, _word_plain, returns="u8")
_byte = llvm_function("hitreg_read_byte", BYTE_LLVM, _byte_plain, returns="u8")


@kernel(merge=True)
def _mix(lane: np.uint64, word: np.uint64) -> np.uint64:
    lane = lane + word * PRIME_2
    lane = (lane << ROTATE_UP) | (lane >> ROTATE_DOWN)
    return lane * PRIME_1


@kernel(counted=False)
def _hash_span(address: np.int64, size: np.int64, seed: np.uint64) -> np.uint64:
    """Hash of the words at an address and of fewer than eight bytes after them, continued from `seed`."""
    a = seed + PRIME_1 + PRIME_2
    b = seed + PRIME_2
    c = seed
    d = seed - PRIME_1
    words = size // 8
    whole = words // 4 * 4
    at = address
    for _ in range(words // 4):
        a = _mix(a, np.uint64(_word(at)))
        b = _mix(b, np.uint64(_word(at + 8)))
        c = _mix(c, np.uint64(_word(at + 16)))
        d = _mix(d, np.uint64(_word(at + 24)))
        at += 32
    total = _mix(_mix(_mix(_mix(seed, a), b), c), d)
    for _ in range(words - whole):
        total = _mix(total, np.uint64(_word(at)))
        at += 8
    for _ in range(size - words * 8):
        total = _mix(total, np.uint64(_byte(at)) + PRIME_3)
        at += 1
    total ^= np.uint64(size)
    total ^= total >> ROTATE_DOWN
    total *= PRIME_4
    return total ^ (total >> np.uint64(29))


@kernel("(i8[:,::1], i8[::1], u8)", counted=False)
def hash_spans(spans: I64, rows: I64, seed: np.uint64) -> np.uint64:
    """Hash of many pieces of memory, in order.

    Args:
        spans: Address, bytes per row and place in `rows` of each, shape (n, 3), int64. Who calls keeps the memory.
        rows: How many rows there are, by place, int64.
        seed: The hash of what came before.
    """
    total = seed
    for number in range(spans.shape[0]):
        total = _hash_span(spans[number, 0], spans[number, 1] * rows[spans[number, 2]], total)
    return total


_ONE: I64 = np.ones(1, np.int64)


def hash_bytes(data: U8, seed: int = 0) -> int:
    """Hash of contiguous bytes, continued from the hash of what came before."""
    return hash_columns([data], seed)


def hash_columns(columns: Iterable[AnyArray], seed: int = 0) -> int:
    """Hash of the bytes of several contiguous arrays, in order."""
    held = list(columns)
    spans: I64 = np.array([(array.ctypes.data, array.nbytes, 0) for array in held], np.int64).reshape(-1, 3)
    return int(hash_spans(spans, _ONE, np.uint64(seed)))
