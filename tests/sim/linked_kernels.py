"""Kernels to try out linking with: a helper that can raise, an entry point on it, and an entry point on that."""

from sim.arrays import I64
from sim.jit import kernel

__all__ = ["halved", "halves", "twice"]


@kernel
def halved(value: int) -> int:
    """Half of an even number."""
    if value & 1:
        raise ValueError("odd")
    return value >> 1


@kernel("(i8[::1],)")
def halves(values: I64) -> int:
    """The sum of the halves."""
    total = 0
    for i in range(values.shape[0]):
        total += halved(values[i])
    return total


@kernel("(i8[::1],)")
def twice(values: I64) -> int:
    """Twice the sum of the halves."""
    return 2 * halves(values)
