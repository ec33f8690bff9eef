"""Naive twin of `net.inputs` for one client: dictionaries and struct, no ring, no kernel."""

import struct

from net.inputs import FLOOD_COMMANDS_MAX, FUTURE_TICKS_MAX, InputCount

Fields = tuple[int, int, int, int, int, int]


def encode_input(fields: Fields) -> bytes:
    """The 9 bytes of one input."""
    return struct.pack("<HbbHhB", *fields)


def encode_command(
    newest: int,
    inputs: list[Fields],
    ack: tuple[int, int] | None = None,
    claim: int | None = None,
    view: int | None = None,
) -> bytes:
    """A COMMAND payload; inputs newest first."""
    sequence, mask = ack if ack is not None else (0, 0)
    flag = (0x80 if ack is not None else 0) | (0x40 if claim is not None else 0) | (0x20 if view is not None else 0)
    header = struct.pack("<BBHII", 1, flag | len(inputs), sequence, mask, newest)
    last = b"".join(struct.pack("<H", value) for value in (claim, view) if value is not None)
    return header + b"".join(encode_input(fields) for fields in inputs) + last


def decode_input(data: bytes) -> tuple[Fields, bool]:
    """An input in range, and whether it had to be changed for that."""
    buttons, forward, right, yaw, pitch, weapon = struct.unpack("<HbbHhB", data)
    fields = (buttons & 0x7F, max(forward, -127), max(right, -127), yaw, max(-16383, min(16383, pitch)), weapon)
    return fields, fields != (buttons, forward, right, yaw, pitch, weapon)


def shrink(value: int, left: int) -> int:
    """Movement of a missing input: one equal part less, towards zero."""
    size = abs(value) * left // (left + 1)
    return size if value > 0 else -size


class ReferenceQueue:
    """One client's inputs."""

    def __init__(self, hold: int, still: int, absent: int) -> None:
        self.hold, self.still, self.absent = hold, still, absent
        self.known: dict[int, Fields | None] = {}
        self.counts = dict.fromkeys(InputCount, 0)
        self.last: Fields = (0, 0, 0, 0, 0, 0)
        self.newest = -1
        self.applied = 0
        self.missing = 0
        self.commands = 0
        self.acks: list[tuple[int, int]] = []
        self.claims: dict[int, int] = {}
        self.claim = -1

    def receive(self, payload: bytes, tick: int) -> None:
        if len(payload) == 0 or payload[0] != 1:
            self.counts[InputCount.UNKNOWN_TYPE] += 1
            return
        if len(payload) < 21:
            self.counts[InputCount.BAD_LENGTH] += 1
            return
        count = payload[1] & 15
        if payload[1] & 0x10 or not 1 <= count <= 8:
            self.counts[InputCount.BAD_HEADER] += 1
            return
        size = 12 + 9 * count
        if len(payload) != size + 2 * (payload[1] >> 6 & 1) + 2 * (payload[1] >> 5 & 1):
            self.counts[InputCount.BAD_LENGTH] += 1
            return
        if self.commands >= FLOOD_COMMANDS_MAX:
            self.counts[InputCount.FLOOD] += 1
            return
        self.commands += 1
        self.counts[InputCount.COMMANDS] += 1
        sequence, mask, newest = struct.unpack_from("<HII", payload, 2)
        if newest <= tick + FUTURE_TICKS_MAX:
            self.newest = max(self.newest, newest)
        for index in range(count):
            self._store(newest - index, payload[12 + 9 * index : 21 + 9 * index], tick)
        if payload[1] & 0x40 and tick <= newest <= tick + FUTURE_TICKS_MAX:
            self.claims[newest] = struct.unpack_from("<H", payload, size)[0]
        if payload[1] & 0x80:
            self.acks.append((sequence, mask))

    def _store(self, wanted: int, data: bytes, tick: int) -> None:
        if wanted < tick:
            # What a later tick at the same place has overwritten cannot be told from a copy.
            forgotten = any(other > wanted and (other - wanted) % 64 == 0 for other in self.known)
            if wanted < 0 or wanted in self.known or forgotten:
                self.counts[InputCount.DUPLICATE] += 1
            else:
                self.counts[InputCount.LATE] += 1
                self.known[wanted] = None
        elif wanted > tick + FUTURE_TICKS_MAX:
            self.counts[InputCount.FUTURE] += 1
        elif wanted in self.known:
            self.counts[InputCount.DUPLICATE] += 1
        else:
            self.known[wanted], changed = decode_input(data)
            self.counts[InputCount.CLAMPED] += changed
            self.counts[InputCount.INPUTS] += 1

    def take(self, tick: int) -> Fields | None:
        self.commands, self.claim = 0, -1
        if self.newest < 0:
            return None
        fields = self.known.get(tick)
        if fields is not None:
            self.claim = self.claims.get(tick, -1)
            self.last, self.applied, self.missing = fields, tick, 0
            return self.last
        self.missing += 1
        buttons, forward, right, yaw, pitch, weapon = self.last
        if self.missing > self.hold:
            buttons &= 6
        left = max(0, self.still - self.missing)
        self.last = (buttons, shrink(forward, left), shrink(right, left), yaw, pitch, weapon)
        known = self.missing <= self.absent and self.applied > 0
        self.counts[InputCount.EXTRAPOLATED if known else InputCount.ABSENT] += 1
        return self.last
