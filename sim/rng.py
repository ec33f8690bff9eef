"""Counter-based random streams: the same (seed, system, tick, entity, draw) always gives the same number.

Philox-4x32 with ten rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Only
32-bit multiplication and exclusive or, so any language can draw the same numbers, in any order, without state.
"""

import numpy as np

from sim.arrays import F64
from sim.jit import kernel

__all__ = ["RNG_STREAMS", "random_unit", "stream_number", "uniform"]

MULTIPLIER_0 = np.uint64(0xD2511F53)
MULTIPLIER_1 = np.uint64(0xCD9E8D57)
WEYL_0 = np.uint64(0x9E3779B9)
WEYL_1 = np.uint64(0xBB67AE85)
LOW_32 = np.uint64(0xFFFFFFFF)
SHIFT_32 = np.uint64(32)
ROUNDS = 10
UNIT = 1.0 / 9007199254740992.0  # 2**-53

RNG_STREAMS = {"spread": 1, "spawn": 2, "loot": 3, "bots": 4, "match": 5}
"""Numbers of the named streams; games add theirs from 64 on."""


def stream_number(name: str) -> int:
    """Number of a named stream.

    Raises:
        KeyError: There is no such stream.
    """
    return RNG_STREAMS[name]


@kernel
def random_unit(seed: int, stream: int, tick: int, entity: int, draw: int) -> float:
    """A float64 in [0, 1), uniform over multiples of 2**-53.

    Args:
        seed: Seed of the world, 64 bits.
        stream: Number of the system's stream.
        tick: Tick.
        entity: Global slot of the entity.
        draw: How many numbers this (stream, tick, entity) has drawn before.
    """
    key_0 = np.uint64(seed) & LOW_32
    key_1 = np.uint64(seed) >> SHIFT_32
    c0 = np.uint64(tick) & LOW_32
    c1 = np.uint64(entity) & LOW_32
    c2 = np.uint64(stream) & LOW_32
    c3 = np.uint64(draw) & LOW_32
    for _ in range(ROUNDS):
        product_0 = MULTIPLIER_0 * c0
        product_1 = MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (
            (product_1 >> SHIFT_32) ^ c1 ^ key_0,
            product_1 & LOW_32,
            (product_0 >> SHIFT_32) ^ c3 ^ key_1,
            product_0 & LOW_32,
        )
        key_0 = (key_0 + WEYL_0) & LOW_32
        key_1 = (key_1 + WEYL_1) & LOW_32
    bits = (c0 << np.uint64(21)) ^ (c1 >> np.uint64(11))
    return float(bits & np.uint64(0x1FFFFFFFFFFFFF)) * UNIT


@kernel("(i8, i8, i8, i8, f8[::1])")
def uniform(seed: int, stream: int, tick: int, entity: int, out: F64) -> None:
    """Fill `out` with the draws 0, 1, … of one (stream, tick, entity)."""
    for draw in range(out.shape[0]):
        out[draw] = random_unit(seed, stream, tick, entity, draw)
