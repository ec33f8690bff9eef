"""Mangled datagrams by the batch, made with numpy from datagrams that are kept: see `tools.fuzz`."""

import numpy as np

from net.address import parse_address
from net.datagrams import DATAGRAM_BYTES, Datagrams
from sim.arrays import I32, I64, U8, U64, Bool
from tools.errors import ToolsError

__all__ = ["Mangler"]

KEPT = 512  # datagrams on a shelf; newer ones take the place of random older ones
WAYS = 10  # of mangling, the last of which leaves a datagram as it is
FRINGES = np.array([0, 1, 127, 128, 254, 255], np.uint8)
NOBODY = ("198.51.100.1:1", "[2001:db8::1]:1")


class Mangler:
    """Keeps datagrams on shelves and makes mangled ones of them, a batch at a time, as many from each shelf.

    Attributes:
        counts: Datagrams kept on each shelf.
    """

    def __init__(self, seed: int, *, shelves: int = 1) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._data: U8 = np.zeros((shelves * KEPT, DATAGRAM_BYTES), np.uint8)
        self._length: I32 = np.zeros(shelves * KEPT, np.int32)
        self._address: U64 = np.zeros((shelves * KEPT, 3), np.uint64)
        self.counts: I64 = np.zeros(shelves, np.int64)

    def keep(self, data: U8, length: I32, address: U64, *, shelf: int = 0) -> None:
        """Remember datagrams, before they are opened in place.

        Args:
            data: Shape (n, bytes), uint8; at most `KEPT` rows.
            length: Shape (n,), int32.
            address: Shape (n, 3), uint64.
            shelf: Where; a full one gives up random older ones.
        """
        held = int(self.counts[shelf])
        new = min(len(length), KEPT - held)
        at = np.concatenate([np.arange(held, held + new), self._rng.integers(KEPT, size=len(length) - new)])
        self.counts[shelf] += new
        at += shelf * KEPT
        self._data[at, : data.shape[1]] = data
        self._length[at] = length
        self._address[at] = address

    def _choose(self, count: int) -> I64:
        """Rows of kept datagrams."""
        filled = np.flatnonzero(self.counts)
        shelf = filled[self._rng.integers(len(filled), size=count)]
        chosen: I64 = shelf * KEPT + self._rng.integers(self.counts[shelf])
        return chosen

    def bytes_of(self, count: int, *, to: Datagrams) -> None:
        """Fill a batch with `count` mangled datagrams, from addresses of all kinds, in a random order.

        Raises:
            ToolsError: Nothing was kept, or the batch has no room.
        """
        if not self.counts.any() or count > to.capacity:
            raise ToolsError(f"fuzz: {self.counts.sum()} datagrams kept, {count} wanted, room for {to.capacity}")
        source = self._choose(count)
        data, length = to.data[:count], to.length[:count]
        np.take(self._data, source, axis=0, out=data)
        np.take(self._length, source, out=length)
        to.count = count
        self.mangle(data, length)
        to.address[:count] = self._addresses(source)
        to.peer[:count] = -1
        to.received_ns[:count] = 0

    def mangle(self, data: U8, length: I32, *, most: int = DATAGRAM_BYTES) -> None:
        """Mangle rows in place, each in one of ten ways, the last of which leaves it as it is.

        Args:
            data: Shape (n, bytes), uint8.
            length: Shape (n,), int32.
            most: No row gets longer than this.
        """
        rng, count = self._rng, len(length)
        way = rng.integers(WAYS, size=count)
        self._flip(data, length, way <= 2)
        rows = np.flatnonzero(way == 3)
        length[rows] = rng.integers(0, length[rows] + 1)
        self._extend(data, length, np.flatnonzero(way == 4), most)
        rows = np.flatnonzero(way == 5)  # the head: type, sequence
        data[rows, 0] = rng.integers(256, size=len(rows))
        rows = np.flatnonzero(way == 6)
        at = rng.integers(0, 12, size=len(rows))
        data[rows, at] = rng.choice(FRINGES, size=len(rows))
        self._splice(data, length, np.flatnonzero(way == 7), most)
        self._noise(data, length, np.flatnonzero(way == 8), most)

    def _flip(self, data: U8, length: I32, chosen: Bool) -> None:
        """Flip a bit of each chosen row, of half of them a few more."""
        rows = np.flatnonzero(chosen & (length > 0))
        for _ in range(4):
            at = self._rng.integers(0, length[rows])
            data[rows, at] ^= (1 << self._rng.integers(8, size=len(rows))).astype(np.uint8)
            rows = rows[self._rng.random(len(rows)) < 0.5]

    def _extend(self, data: U8, length: I32, rows: I64, most: int) -> None:
        more = self._rng.integers(1, 65, size=len(rows))
        longer = np.minimum(length[rows] + more, most)
        tail = np.minimum(length[rows][:, None] + np.arange(64), most - 1)
        data[rows[:, None], tail] = self._rng.integers(256, size=tail.shape, dtype=np.uint8)
        length[rows] = longer

    def _splice(self, data: U8, length: I32, rows: I64, most: int) -> None:
        """The front of one and the back of another."""
        other = self._choose(len(rows))
        cut = self._rng.integers(0, length[rows] + 1)
        width = data.shape[1]
        behind = np.arange(width) >= cut[:, None]
        data[rows] = np.where(behind, self._data[other][:, :width], data[rows])
        length[rows] = np.minimum(np.maximum(self._length[other], cut), most)

    def _noise(self, data: U8, length: I32, rows: I64, most: int) -> None:
        length[rows] = np.minimum(self._rng.integers(0, 64, size=len(rows)) ** 2 // 3, most)
        data[rows] = self._rng.integers(256, size=(len(rows), data.shape[1]), dtype=np.uint8)
        data[rows, 0] = self._rng.integers(7, size=len(rows)) | self._rng.integers(10, size=len(rows)) << 4

    def _addresses(self, source: I64) -> U64:
        """Half from where they came, a quarter from other players, the others from nobody, IPv4 and IPv6."""
        rng, count = self._rng, len(source)
        address = self._address[source]
        kind = rng.integers(8, size=count)
        rows = np.flatnonzero((kind == 4) | (kind == 5))
        address[rows] = self._address[self._choose(len(rows))]
        for number, sample in enumerate(NOBODY):
            rows = np.flatnonzero(kind == 6 + number)
            address[rows] = parse_address(sample).row()
            # The last bytes of the address, which in IPv4 are all there are, and the port.
            address[rows, 1] ^= rng.integers(2**16, size=len(rows)).astype(np.uint64) << np.uint64(48)
            address[rows, 2] ^= rng.integers(2**12, size=len(rows)).astype(np.uint64)
        return address
