"""When a payload goes through the compressor, and when it travels as it is: by class, and by what lately paid.

A packed payload is u8 `PAYLOAD_PACKED` (a reliable message) or `PAYLOAD_PACKED_SNAPSHOT`, then what `net.compression`
made of the whole payload (its own type byte included). It is sent where it is shorter; so what does not shrink costs
nothing, not even a byte. Only what clients are sent is packed, and only for those who said that they take it
(`abilities`).
"""

import enum
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np

from net.compression import Compressor
from net.datagrams import Payloads
from net.dictionaries import PayloadClass
from net.snapshots import PAYLOAD_BYTES
from sim.schema import MESSAGE_BYTES, Delivery

__all__ = [
    "MODES",
    "PAYLOAD_PACKED",
    "PAYLOAD_PACKED_SNAPSHOT",
    "Mode",
    "Packer",
    "SnapshotUnpacker",
    "unpack_message",
]

PAYLOAD_PACKED: Final = 6  # 2 is a message, 3 to 5 are the controls of blocks
PAYLOAD_PACKED_SNAPSHOT: Final = 7
TRIES = 16  # payloads that a class's gain is an average of
SAVED_MIN = 1 / 32  # of the bytes; a class that saves less rests
REST = 64  # payloads that go as they are before a resting class tries one
LARGE_BYTES = 256  # payloads from here on are judged for themselves: they repeat within


class Mode(enum.Enum):
    """What is done with the payloads of a class."""

    NEVER = "never"
    ADAPTIVE = "adaptive"
    ALWAYS = "always"


MODES: Mapping[PayloadClass, Mode] = {
    PayloadClass.SNAPSHOT: Mode.ADAPTIVE,
    PayloadClass.MESSAGE: Mode.ADAPTIVE,
    PayloadClass.JOIN: Mode.ALWAYS,
    PayloadClass.BULK: Mode.ALWAYS,
}
"""Decided by measurement: docs/compression.md."""


class Packer:
    """Packs payloads where it pays; for one thread.

    Attributes:
        compressor: What compresses.
        packed: Payloads that became shorter, by class.
        rested: Payloads that were not tried, since their class saves too little.
    """

    def __init__(self, compressor: Compressor, *, modes: Mapping[PayloadClass, Mode] = MODES) -> None:
        self.compressor, self._modes = compressor, modes
        self.packed = dict.fromkeys(PayloadClass, 0)
        self.rested = 0
        # By class, large or not, dictionary or not: at most 16. Hopeful at first.
        self._gain: dict[tuple[PayloadClass, bool, bool], float] = {}
        self._resting: dict[tuple[PayloadClass, bool, bool], int] = {}

    def pack(self, payload: bytes, kind: PayloadClass, *, agreed: Collection[int] = ()) -> bytes | None:
        """A payload packed, or None where it should travel as it is.

        Args:
            payload: The whole of it, with its type byte.
            kind: Its class: a snapshot, or else a message.
            agreed: Ids of the dictionaries that the receiver has too.
        """
        mode, group = self._modes[kind], (kind, len(payload) >= LARGE_BYTES, bool(agreed))
        if mode is Mode.NEVER or len(payload) < self.compressor.limits.policies[kind].floor_bytes:
            return None
        if mode is Mode.ADAPTIVE and self._rests(group):
            self.rested += 1
            return None
        data = self.compressor.compress(payload, kind, agreed=agreed)
        saved = max(0, len(payload) - len(data) - 1)
        gain = self._gain.get(group, 1.0)
        self._gain[group] = gain + (saved / len(payload) - gain) / TRIES
        if not saved:
            return None
        self.packed[kind] += 1
        return bytes([PAYLOAD_PACKED_SNAPSHOT if kind is PayloadClass.SNAPSHOT else PAYLOAD_PACKED]) + data

    def _rests(self, group: tuple[PayloadClass, bool, bool]) -> bool:
        """Whether payloads of a group are left as they are now; every `REST`th is tried all the same."""
        if self._gain.get(group, 1.0) >= SAVED_MIN:
            return False
        left = self._resting.get(group, REST)
        self._resting[group] = left - 1 if left else REST
        return left > 0


def unpack_message(payload: bytes, compressor: Compressor) -> bytes | None:
    """The message payload of a packed one, or the payload itself where it is none; None for bytes that are neither.

    What is refused is counted by reason in the compressor; no more than the largest message is ever made.
    """
    if not payload or payload[0] != PAYLOAD_PACKED:
        return payload
    return compressor.decompress(memoryview(payload)[1:], size_max=MESSAGE_BYTES[Delivery.RELIABLE])


class SnapshotUnpacker:
    """Takes packed snapshots out of batches and makes batches of what they hold; nothing that is refused raises.

    Where plain and packed snapshots of a client come in one batch, the packed ones are read last; one that is older
    than a plain one is dropped then, as any that was overtaken.

    Attributes:
        payloads: The snapshots unpacked by the last `take`, in an arena of their own.
    """

    def __init__(self, compressor: Compressor, *, batch: int) -> None:
        self._compressor = compressor
        self.payloads = Payloads(batch)
        # zeros: pages stay unmapped until they are written.
        self.payloads.buffer = np.zeros(batch * PAYLOAD_BYTES, np.uint8)

    def take(self, payloads: Payloads) -> int:
        """Move the packed snapshots out of a batch, unpacked, to `payloads` of this; how many there are.

        Args:
            payloads: At most as many as this was made for; shortened.
        """
        made = self.payloads
        made.count = 0
        count = payloads.count
        packed = payloads.buffer[payloads.offset[:count]] == PAYLOAD_PACKED_SNAPSHOT
        if not packed.any():
            return 0
        at = 0
        for row in np.flatnonzero(packed).tolist():
            data = memoryview(payloads.payload(row))[1:]
            plain = self._compressor.decompress(data, size_max=PAYLOAD_BYTES)
            if not plain:
                continue
            made.buffer[at : at + len(plain)] = np.frombuffer(plain, np.uint8)
            place, made.count = made.count, made.count + 1
            made.client[place], made.received_ns[place] = payloads.client[row], payloads.received_ns[row]
            made.offset[place], made.length[place] = at, len(plain)
            at += len(plain)
        rest = np.flatnonzero(~packed)
        for column in (payloads.client, payloads.offset, payloads.length, payloads.received_ns):
            column[: len(rest)] = column[rest]
        payloads.count = len(rest)
        return made.count
