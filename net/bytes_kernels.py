"""Copying runs of bytes within kernels."""

import numpy as np

from sim.arrays import U8
from sim.jit import kernel

__all__ = ["copy_bytes"]


@kernel(counted=False)
def copy_bytes(target: U8, to: int, source: U8, start: int, count: int) -> None:
    """Copy `count` bytes of `source` from `start` on to `target` at `to`; both are known to be within.

    Indices are unsigned: for signed ones every access asks whether it counts from the end, and no loop becomes a copy
    of words. Sections of 24 bytes of 1,000 clients took 43 µs so, and 30 µs by slices; this takes 5.
    """
    first, other = np.uint64(start), np.uint64(to)
    for byte in range(np.uint64(max(count, 0))):
        target[other + byte] = source[first + byte]
