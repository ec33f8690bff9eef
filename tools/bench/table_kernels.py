"""Loops over kernels that the server calls per datagram, so that a benchmark times them and not the calls into them."""

import numpy as np

from net.host_table_kernels import table_edit
from net.packets_kernels import parse_header
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = ["edit_all", "parse_all"]


@kernel("(i4[::1], u8[::1], u8[:,::1], u8[:,::1], i8[::1], i8)", counted=False)
def edit_all(table: I32, secret: U64, words: U64, probe: U64, order: I64, edit: int) -> int:
    """`table_edit` for every slot in an order; the number of slots that were found."""
    found = 0
    for index in range(order.shape[0]):
        slot = order[index]
        if edit == 0:
            for word in range(3):
                probe[0, word] = words[slot, word]
        found += 1 if table_edit(table, secret, words, probe, slot, edit) == slot else 0
    return found


@kernel("(u1[:,::1], i4[::1], i8)", counted=False)
def parse_all(data: U8, lengths: I32, allowed: int) -> int:
    """Read every header; the sum of what was read, so that nothing can be left out."""
    total = 0
    for index in range(data.shape[0]):
        reason, kind, header, sequence = parse_header(data, index, int(lengths[index]), allowed)
        if reason < 0:
            total += int(np.int64(sequence)) + kind + header
    return total
