"""What the per-packet paths of host and clients share: replay window and sealing on rows of columns (`net.plain`)."""

import numpy as np

from net.packets import Kind, ReplayWindow, seal_packet
from net.packets_kernels import LAST_SEND, SEND_KEY_AT, SEND_SEQUENCE, DatagramArrays
from net.replay_kernels import NEWEST_AT, WINDOW_AT
from net.tokens import VERSION_INFO
from sim.arrays import I64, U8, U64

__all__ = ["Window", "emit", "keep_alive_body", "protocol_id_of", "store"]

_RING = 256
_PROTOCOL_AT = len(VERSION_INFO)


class Window(ReplayWindow):
    """The replay window of one row of words: one integer, bit s mod 256 for sequence s."""

    def __init__(self, words: U64, row: int) -> None:
        self._row = words[row, NEWEST_AT : WINDOW_AT + 4]
        self.newest = int(self._row[0])

    def seen(self, sequence: int) -> bool:
        """Whether a sequence was received before, or is too old to tell."""
        if sequence > self.newest:
            return False
        return self.newest - sequence >= _RING or bool(self._bits() >> sequence % _RING & 1)

    def mark(self, sequence: int) -> None:
        """Remember a sequence whose packet was authentic."""
        bits = self._bits()
        if sequence - self.newest >= _RING:
            bits = 0
        for passed in range(self.newest + 1, min(sequence, self.newest + _RING)):
            bits &= ~(1 << passed % _RING)
        self.newest = max(self.newest, sequence)
        bits |= 1 << sequence % _RING
        self._row[0] = self.newest
        self._row[1:] = np.frombuffer(bits.to_bytes(_RING // 8, "little"), dtype=np.uint64)

    def _bits(self) -> int:
        return int.from_bytes(self._row[1:].tobytes(), "little")


def protocol_id_of(scratch: U8) -> int:
    """The protocol id that an endpoint's scratch begins with."""
    return int.from_bytes(scratch[_PROTOCOL_AT : _PROTOCOL_AT + 8].tobytes(), "little")


def emit(
    words: U64, keys: U8, times: I64, slot: int, outgoing: DatagramArrays, at: int, kind: Kind, body: bytes, now: int,
    scratch: U8,
) -> None:  # fmt: skip
    """Seal one packet of a connection into a row, under its next sequence."""
    data, lengths, address = outgoing
    sequence, key = int(words[slot, SEND_SEQUENCE]), keys[slot, SEND_KEY_AT:].tobytes()
    packet = seal_packet(kind, body, sequence=sequence, key=key, protocol_id=protocol_id_of(scratch))
    data[at, : len(packet)] = np.frombuffer(packet, dtype=np.uint8)
    lengths[at] = len(packet)
    address[at] = words[slot, :3]
    words[slot, SEND_SEQUENCE] = (sequence + 1) % 2**64
    times[slot, LAST_SEND] = now


def keep_alive_body(index: int, clients_max: int) -> bytes:
    """What a keep-alive says: a client's index and the number of slots."""
    return index.to_bytes(4, "little") + clients_max.to_bytes(4, "little")


def store(data: U8, row: int, at: int, plain: bytes) -> None:
    """Write bytes into a row."""
    data[row, at : at + len(plain)] = np.frombuffer(plain, dtype=np.uint8)
