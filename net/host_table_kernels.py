"""The table by which a datagram finds its slot: open addressing, linear probing, keyed by address and port.

Entries are slot + 1, or 0 for none; the keys stand in the words of the slots (`net.packets_kernels`). The size is a
power of two, at least four times the slots. The hash has a secret seed, so that nobody can choose addresses that fall
together.
"""

import numpy as np

from sim.arrays import I32, U64
from sim.jit import kernel

__all__ = ["find_slot", "home_of", "insert_slot", "remove_slot", "table_edit"]

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MIX = np.uint64(0x9E3779B1)
_FOLD = np.uint64(29)


@kernel(counted=False)
def home_of(secret: U64, mask: int, address: U64, row: int) -> int:
    """The table index at which the probe for an address starts.

    A seeded multiply-fold hash; its factors have 32 bits, so that nothing overflows in plain Python either.
    """
    state: np.uint64 = secret[0]
    for index in range(3):
        word = address[row, index]
        state = ((state ^ word) & _LOW) * _MIX
        state ^= state >> _FOLD
        state = ((state ^ (word >> _HALF)) & _LOW) * _MIX
        state ^= state >> _FOLD
    state = ((state ^ secret[1]) & _LOW) * _MIX
    return int(np.int64((state ^ (state >> _FOLD)) & np.uint64(mask)))


@kernel(counted=False)
def find_slot(table: I32, secret: U64, words: U64, address: U64, row: int) -> int:
    """The slot of an address, or -1. The table is at most a quarter full, so probes stay short."""
    mask = table.shape[0] - 1
    at = home_of(secret, mask, address, row)
    while table[at] != 0:
        slot = int(table[at]) - 1
        if (
            words[slot, 1] == address[row, 1]
            and words[slot, 2] == address[row, 2]
            and words[slot, 0] == address[row, 0]
        ):
            return slot
        at = (at + 1) & mask
    return -1


@kernel(counted=False)
def remove_slot(table: I32, secret: U64, words: U64, slot: int) -> None:
    """Take a slot out, closing the gap by moving later entries back (Knuth, volume 3, 6.4 R), without tombstones."""
    mask = table.shape[0] - 1
    at = home_of(secret, mask, words, slot)
    while table[at] != slot + 1:
        if table[at] == 0:
            return
        at = (at + 1) & mask
    gap = at
    at = (at + 1) & mask
    while table[at] != 0:
        home = home_of(secret, mask, words, int(table[at]) - 1)
        if ((at - home) & mask) >= ((at - gap) & mask):
            table[gap] = table[at]
            gap = at
        at = (at + 1) & mask
    table[gap] = 0


@kernel(counted=False)
def insert_slot(table: I32, secret: U64, words: U64, slot: int) -> None:
    """Put a slot in, whose address is not there."""
    mask = table.shape[0] - 1
    at = home_of(secret, mask, words, slot)
    while table[at] != 0:
        at = (at + 1) & mask
    table[at] = slot + 1


@kernel("(i4[::1], u8[::1], u8[:,::1], u8[:,::1], i8, i8)", counted=False)
def table_edit(table: I32, secret: U64, words: U64, address: U64, slot: int, edit: int) -> int:
    """Find an address, insert a slot, or remove one; one entry point, because each costs compile time.

    Args:
        table: Shape (size,), int32; `secret` seeds its hash, `words` holds the slots' addresses.
        address: Shape (1, 3); what to find where `edit` is 0.
        slot: What to insert where `edit` is 1, or remove where it is -1, by the address in its words. An address must
            not be inserted twice; removing what is not there changes nothing.

    Returns:
        The slot found, or -1.
    """
    if edit == 0:
        return find_slot(table, secret, words, address, 0)
    if edit < 0:
        remove_slot(table, secret, words, slot)
        return -1
    insert_slot(table, secret, words, slot)
    return -1
