"""A batch of datagrams in one preallocated arena: what sockets fill and protocol cores read, and back.

Row i of `data` holds datagram i; `flat` is the same memory as one run of bytes, so that a payload is named by its
offset in it. A row is 1,280 bytes: the longest netcode 1.02 packet is 1,225, and 2,048 would place all rows in the
same few cache sets.
"""

import numpy as np

from net.address import ADDRESS_WORDS, Address, address_of
from net.errors import NetError
from sim.arrays import I32, I64, U8, U64

__all__ = ["DATAGRAM_BYTES", "DATAGRAM_DROPPED", "Datagrams", "Payloads"]

DATAGRAM_BYTES = 1280
DATAGRAM_DROPPED = -1  # a length: the socket has already counted and dropped this one


class Datagrams:
    """Up to `capacity` datagrams with their peers; nothing is allocated after construction.

    Attributes:
        data: Shape (capacity, 1280), uint8.
        flat: The same memory, shape (capacity × 1280,), uint8.
        length: Bytes of each datagram, or -1 for one already dropped; shape (capacity,), int32.
        address: The remote address of each (`net.address`), shape (capacity, 3), uint64.
        peer: For groups of sockets, which of them; otherwise -1. Shape (capacity,), int32.
        received_ns: Monotonic time at which each arrived at this machine [ns], 0 where nobody knows better than that it
            was before it is read; shape (capacity,), int64.
        count: How many rows are in use.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise NetError(f"datagrams: capacity is {capacity}; it must be at least 1")
        self.capacity = capacity
        # zeros, not empty: the pages stay unmapped until they are written.
        self.data: U8 = np.zeros((capacity, DATAGRAM_BYTES), dtype=np.uint8)
        self.flat: U8 = self.data.reshape(-1)
        self.length: I32 = np.zeros(capacity, dtype=np.int32)
        self.address: U64 = np.zeros((capacity, ADDRESS_WORDS), dtype=np.uint64)
        self.peer: I32 = np.full(capacity, -1, dtype=np.int32)
        self.received_ns: I64 = np.zeros(capacity, dtype=np.int64)
        self.count = 0

    def clear(self) -> None:
        """Forget all datagrams."""
        self.count = 0

    def append(self, datagram: bytes, address: Address | U64, *, peer: int = -1, received_ns: int = 0) -> bool:
        """Add one datagram; returns False, and adds nothing, where it does not fit."""
        if self.count == self.capacity or len(datagram) > DATAGRAM_BYTES:
            return False
        row = self.count
        self.data[row, : len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
        self.length[row] = len(datagram)
        self.address[row] = address.row() if isinstance(address, Address) else address
        self.peer[row] = peer
        self.received_ns[row] = received_ns
        self.count += 1
        return True

    def datagram(self, row: int) -> bytes:
        """A copy of one datagram's bytes."""
        return self.data[row, : self.length[row]].tobytes()

    def address_at(self, row: int) -> Address:
        """The remote address of one datagram."""
        return address_of(self.address[row])


class Payloads:
    """Payloads of one batch, in the order of arrival: `length[i]` bytes at `offset[i]` of `buffer`, from `client[i]`.

    Attributes:
        buffer: The arena they were received into; valid until it is received into again. Shape (bytes,), uint8.
        client: Client indices, shape (capacity,), int32; the first `count` are in use, here and below.
        offset: Shape (capacity,), int64.
        length: 1 to 1,200 bytes, shape (capacity,), int32.
        received_ns: Monotonic time at which the datagram of each arrived [ns], never later than the call that took the
            batch; 0, where somebody else filled this, stands for that call. Shape (capacity,), int64.
    """

    def __init__(self, capacity: int) -> None:
        self.count = 0
        self.buffer: U8 = np.zeros(0, dtype=np.uint8)
        self.client: I32 = np.zeros(capacity, dtype=np.int32)
        self.offset: I64 = np.zeros(capacity, dtype=np.int64)
        self.length: I32 = np.zeros(capacity, dtype=np.int32)
        self.received_ns: I64 = np.zeros(capacity, dtype=np.int64)

    def payload(self, index: int) -> bytes:
        """A copy of one payload."""
        return self.buffer[self.offset[index] : self.offset[index] + self.length[index]].tobytes()
