"""A client of the game written from docs/protocol.md alone: plain Python, PyNaCl and msgpack, nothing of the project.

It is slow and simple on purpose. Tables that the document has (fields, owner section, numbers of messages) are read
from it. Whoever owns a client gives it datagrams and the time, and sends what is in its `outbox`.
"""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt, crypto_aead_chacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

VERSION = b"NETCODE 1.02\0"
DENIED, CHALLENGE, RESPONSE, KEEP_ALIVE, PAYLOAD, DISCONNECT = 1, 2, 3, 4, 5, 6
PLAIN, SEQUENCED, RELIABLE, CHUNK, CLOSE = 1, 2, 3, 4, 5
MORE, LAST = 16, 128
RETRY_NS = 100_000_000


class Document:
    """What the page has tables of."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        rows = re.findall(
            r"^\| \d+ \| `([a-z_.]+)` \| (\d+) \| (yes|no) \| (\S+) \| ([012]) \| (yes|no) \|$", self.text, re.M
        )
        self.fields = [(name, int(width), signed == "yes", int(level)) for name, width, signed, _, level, _ in rows]
        self.angles = [number for number, row in enumerate(rows) if row[5] == "yes"]
        self.others = [number for number in range(6, len(rows)) if number not in self.angles]
        self.scale = int(re.findall(r"S = ([\d,]+)", self.text)[-1].replace(",", ""))
        self.speed_base = int(re.findall(r"Speed base: (\d+)", self.text)[0])
        kinds = re.findall(
            r"^\| \d+ \| ([012]) \| (\S+ \S+ \S+) \| (\S+ \S+ \S+) \| (\d+) \| (\d+) \| (\d+) \|$", self.text, re.M
        )
        # Order; b by axis; field, mask and value of the condition. No a: a record's position needs order 1 and v.
        self.kinds = [(int(row[0]), list(map(int, row[2].split())), tuple(map(int, row[3:]))) for row in kinds]
        lengths = re.findall(r"\b[0-8]{16}\b", self.chapter("Fields of the arena"))
        self.codes = [self.words(list(map(int, row))) for row in lengths]
        owner = self.chapter("The owner section")
        self.owner = {
            name: (int(at), kind, int(count or 1))
            for at, kind, count, name in re.findall(r"^\| (\d+) \| (\w+)(?: × (\d+))? \| `(\w+)` \|", owner, re.M)
        }
        self.predicted_bytes = int(re.findall(r"^\| (\d+) \| .* \| no \|$", owner, re.M)[0])
        up, down = self.chapter("MESSAGE").split("To the client:")
        self.to_server = {name: int(number) for number, name in re.findall(r"^\| (\d+) \| `(\w+)`", up, re.M)}
        self.to_client = {int(number): name for number, name in re.findall(r"^\| (\d+) \| `(\w+)`", down, re.M)}

    @staticmethod
    def words(lengths: list[int]) -> dict[str, int]:
        """Symbols by their words."""
        found: dict[str, int] = {}
        word = ""
        for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
            word = f"{int(word, 2) + 1:0{len(word)}b}" if word else ""
            word = word.ljust(length, "0")
            found[word] = symbol
        return found

    def chapter(self, title: str) -> str:
        """The text under a heading."""
        return self.text.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


class Token:
    """A connect token, as far as a client reads it."""

    def __init__(self, data: bytes) -> None:
        assert len(data) == 2048 and data[:13] == VERSION
        self.protocol_id, self.create_s, self.expire_s = struct.unpack_from("<QQQ", data, 13)
        self.nonce, self.private = data[37:61], data[61:1085]
        self.timeout_s, count = struct.unpack_from("<iI", data, 1085)
        at = 1093
        self.addresses: list[tuple[str, int]] = []
        for _ in range(count):
            assert data[at] == 1, "this client knows IPv4 only"
            self.addresses.append(
                (".".join(map(str, data[at + 1 : at + 5])), struct.unpack_from("<H", data, at + 5)[0])
            )
            at += 7
        self.send_key, self.receive_key = data[at : at + 32], data[at + 32 : at + 64]

    def request(self) -> bytes:
        """The first packet."""
        return b"\0" + VERSION + struct.pack("<QQ", self.protocol_id, self.expire_s) + self.nonce + self.private

    def seal(self, kind: int, body: bytes, sequence: int) -> bytes:
        """A netcode packet."""
        number = sequence.to_bytes(8, "little").rstrip(b"\0") or b"\0"
        prefix = bytes([len(number) << 4 | kind])
        associated = VERSION + struct.pack("<Q", self.protocol_id) + prefix
        nonce = bytes(4) + struct.pack("<Q", sequence)
        sealed: bytes = crypto_aead_chacha20poly1305_ietf_encrypt(body, associated, nonce, self.send_key)
        return prefix + number + sealed

    def open(self, datagram: bytes, *, key: bytes) -> tuple[int, int, bytes] | None:
        """Type, sequence and body of a netcode packet, or None."""
        size = datagram[0] >> 4 if datagram else 0
        if not 1 <= size <= 8 or len(datagram) < 1 + size + 16:
            return None
        sequence = int.from_bytes(datagram[1 : 1 + size], "little")
        associated = VERSION + struct.pack("<Q", self.protocol_id) + datagram[:1]
        nonce = bytes(4) + struct.pack("<Q", sequence)
        try:
            body = crypto_aead_chacha20poly1305_ietf_decrypt(datagram[1 + size :], associated, nonce, key)
        except CryptoError:
            return None
        return datagram[0] & 15, sequence, body


def newer(a: int, b: int) -> bool:
    """Whether a is newer than b, by serial arithmetic of 16 bits."""
    return 0 < (a - b) % 65536 < 32768


def read_sections(packet: bytes) -> list[tuple[int, int, int, bytes]] | None:
    """(kind, head, number, content) of every section of a packet, or None where it is malformed."""
    found, at = [], 9
    while at < len(packet):
        head = packet[at]
        kind, numbers = head & 15, {PLAIN: 0, SEQUENCED: 2, RELIABLE: 2, CHUNK: 4, CLOSE: 1}.get(head & 15, -1)
        if numbers < 0 or head & 0x60 or (head & MORE and kind != RELIABLE):
            return None
        number = int.from_bytes(packet[at + 1 : at + 1 + numbers], "little")
        at += 1 + numbers
        if head & LAST:
            length = len(packet) - at
        else:
            length = int.from_bytes(packet[at : at + 2], "little")
            at += 2
        if at + length > len(packet) or length < 0 or (length == 0 and kind != CLOSE):
            return None
        found.append((kind, head, number, packet[at : at + length]))
        at += length
    return found if len(packet) >= 9 else None


class Reliable:
    """One connection's numbers: sequences, acknowledgements, the reliable stream in both directions."""

    def __init__(self) -> None:
        self.next_sequence = self.next_item = 0
        self.ack, self.mask, self.ack_at = 0xFFFF, 0, 0
        self.heard = False
        self.due: dict[int, bytes] = {}
        self.sent: dict[int, list[int]] = {}
        self.items: dict[int, bytes] = {}
        self.expected = 0
        self.stored: dict[int, tuple[bool, bytes]] = {}
        self.parts = b""

    def tell(self, message: bytes) -> None:
        """Queue a message of one item."""
        assert 1 <= len(message) <= 1024
        self.items[self.next_item] = self.due[self.next_item] = message
        self.next_item = (self.next_item + 1) % 65536

    def compose(self, payload: bytes, now_ns: int) -> bytes:
        """The next packet: an unreliable payload and the items that are due."""
        delay = min(255, (now_ns - self.ack_at) // 250_000) if self.heard else 255
        packet = struct.pack("<HHIB", self.next_sequence, self.ack, self.mask, delay)
        packet += struct.pack("<BH", PLAIN, len(payload)) + payload
        carried = []
        for item, content in sorted(self.due.items()):
            if len(packet) + 5 + len(content) <= 1200:
                packet += struct.pack("<BHH", RELIABLE, item, len(content)) + content
                carried.append(item)
        for item in carried:
            del self.due[item]
        self.sent[self.next_sequence] = carried
        self.next_sequence = (self.next_sequence + 1) % 65536
        return packet

    def receive(self, packet: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        """(kind, content) of what a packet delivers: payloads, whole messages, closings."""
        sections = read_sections(packet)
        if sections is None:
            return []
        sequence, ack, ack_mask = struct.unpack_from("<HHI", packet)
        if self.heard and not newer(sequence, self.ack):
            behind = (self.ack - sequence) % 65536
            if behind == 0 or behind > 32 or self.mask >> (behind - 1) & 1:
                return []
            self.mask |= 1 << (behind - 1)
        else:
            ahead = (sequence - self.ack) % 65536 if self.heard else 33
            self.mask = (self.mask << ahead | 1 << (ahead - 1)) & 0xFFFFFFFF if ahead <= 32 else 0
            self.ack, self.ack_at, self.heard = sequence, now_ns, True
        self._settle(ack, ack_mask)
        delivered: list[tuple[int, bytes]] = []
        for kind, head, number, content in sections:
            if kind == RELIABLE:
                if (number - self.expected) % 65536 < 64:
                    self.stored.setdefault(number, (bool(head & MORE), content))
            else:
                delivered.append((kind, content if kind != CLOSE else bytes([number]) + content))
        while self.expected in self.stored:
            more, content = self.stored.pop(self.expected)
            self.expected = (self.expected + 1) % 65536
            self.parts += content
            if not more:
                delivered.append((RELIABLE, self.parts))
                self.parts = b""
        return delivered

    def _settle(self, ack: int, mask: int) -> None:
        if ack == 0xFFFF and mask == 0 and ack not in self.sent:
            return
        acked = [ack] + [(ack - 1 - bit) % 65536 for bit in range(32) if mask >> bit & 1]
        for sequence in acked:
            for item in self.sent.pop(sequence, []):
                self.items.pop(item, None)
                self.due.pop(item, None)
        for sequence in [known for known in self.sent if (ack - known) % 65536 in range(3, 32768)]:
            self.due.update((item, self.items[item]) for item in self.sent.pop(sequence) if item in self.items)


class Bits:
    """Reads a bit stream."""

    def __init__(self, data: bytes) -> None:
        self.number, self.at, self.size = int.from_bytes(data, "little"), 0, 8 * len(data)

    def raw(self, count: int) -> int:
        """The next bits."""
        if self.at + count > self.size:
            raise ValueError("cut short")
        value = self.number >> self.at & ((1 << count) - 1)
        self.at += count
        return value

    def symbol(self, code: dict[str, int]) -> int:
        """The next symbol."""
        word = ""
        while word not in code:
            word += str(self.raw(1))
            if len(word) > 8:
                raise ValueError("no such word")
        return code[word]

    def folded(self, code: dict[str, int], width: int) -> int:
        """The next number, folded."""
        size = self.symbol(code)
        if size == 15:
            size += self.raw(5)
        if size > width:
            raise ValueError("wider than its field")
        return self.raw(size - 1) | 1 << (size - 1) if size else 0

    def golomb(self, order: int) -> int:
        """The next number in exp-Golomb code."""
        zeros = 0
        while self.raw(1) == 0:
            zeros += 1
        return self.raw(zeros + order) + (1 << zeros + order) - (1 << order)


def unfold(value: int) -> int:
    """0, 1, 2, 3, … become 0, −1, 1, −2, …."""
    return value >> 1 ^ -(value & 1)


def wrapped(value: int, width: int, *, signed: bool) -> int:
    """A sum, modulo the width of its field."""
    value %= 1 << width
    return value - (1 << width) if signed and value >> (width - 1) else value


@dataclass
class Snapshots:
    """Decodes snapshots."""

    document: Document
    sequence: int = -1
    mask: int = 0
    tick: int = 0
    input_tick: int = 0
    lead: int = -32768
    target_lead: int = 0
    owner: bytes = b""
    entities: dict[int, int] = field(default_factory=dict)
    values: dict[int, list[int]] = field(default_factory=dict)
    levels: dict[int, int] = field(default_factory=dict)
    events: list[tuple[int, int]] = field(default_factory=list)
    deltas: int = 0
    sections: int = 0
    _history: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def receive(self, data: bytes) -> bool:
        """Take a snapshot, whole or not at all."""
        flags, sequence, tick, input_age, lead, target = struct.unpack_from("<xBHIBhB", data)
        if self.sequence >= 0 and not newer(sequence, self.sequence):
            return False
        input_tick = self.input_tick if input_age == 255 else tick - input_age
        sections, at = self._sections(data, flags)
        owner, leaves = sections[0], sections[1]
        try:
            events, at = self._events(data, at, tick) if flags & 8 else ([], at)
            taken = self._records(data, at, tick)
        except (KeyError, ValueError):
            return False
        ahead = (sequence - self.sequence) % 65536 if self.sequence >= 0 else 33
        self.mask = (self.mask << ahead | 1 << (ahead - 1)) & 0xFFFFFFFF if ahead <= 32 else 0
        self.sequence, self.tick, self.input_tick, self.lead, self.target_lead = (
            sequence,
            tick,
            input_tick,
            lead,
            target,
        )
        self.sections += bool(owner)
        self.owner = owner or self.owner
        for leave in leaves:
            self._forget(leave & 127)
        for slot, entity, values, level in taken:
            if self.entities.get(slot) != entity or self.levels.get(slot) != level:
                self._forget(slot)
            self.entities[slot], self.values[slot], self.levels[slot] = entity, values, level
            self._history[slot, tick] = values
        self._history = {key: state for key, state in self._history.items() if key[1] >= tick - 63}
        self.events += events
        return True

    def _forget(self, slot: int) -> None:
        self.entities.pop(slot, None)
        self.values.pop(slot, None)
        self._history = {key: state for key, state in self._history.items() if key[0] != slot}

    @staticmethod
    def _sections(data: bytes, flags: int) -> tuple[list[bytes], int]:
        """Owner section, leave list and zone section; the byte behind them."""
        found, at = [], 12
        for flag, size in ((1, 1), (2, 1), (4, 2)):
            length = int.from_bytes(data[at : at + size], "little") if flags & flag else 0
            at += size if flags & flag else 0
            found.append(data[at : at + length])
            at += length
        return found, at

    def _records(self, data: bytes, at: int, tick: int) -> list[tuple[int, int, list[int], int]]:
        """(slot, entity, values, level) of each record."""
        size, found = data[at], []
        if not size:
            return []
        bitmap, common = data[at + 1 : at + 1 + size], data[at + 1 + size]
        bits = Bits(data[at + 2 + size :])
        for slot in range(8 * size):
            if bitmap[slot >> 3] >> (slot & 7) & 1:
                age = common if bits.raw(1) else bits.raw(6)
                if age == 0:
                    found.append((slot, *self._full(bits)))
                else:
                    level, base = self.levels[slot], self._history[slot, tick - age]
                    self.deltas += 1
                    found.append((slot, self.entities[slot], self._delta(bits, base, age, level), level))
        if bits.size - bits.at > 7 or bits.raw(bits.size - bits.at):
            raise ValueError("something behind the records")
        return found

    def _told(self, level: int) -> list[int]:
        return [number for number, field in enumerate(self.document.fields) if field[3] <= level]

    def _full(self, bits: Bits) -> tuple[int, list[int], int]:
        fields = self.document.fields
        low, generation, zone, level = bits.raw(24), bits.golomb(8), bits.golomb(4), bits.raw(2)
        values = [0] * len(fields)
        if level < 3:
            values[:3] = [wrapped(bits.raw(width), width, signed=True) for _, width, _, _ in fields[:3]]
            size = bits.raw(6)
            values[3:6] = [unfold(bits.raw(size)) for _ in range(3)]
        told = self._told(level)[6:]
        for number in [number for number in told if bits.raw(1)]:
            _, width, signed, _ = fields[number]
            values[number] = wrapped(bits.raw(width), width, signed=signed)
        return low | generation << 24 | zone << 52, values, level

    def _order(self, base: list[int]) -> tuple[int, list[int]]:
        kind = next(i for i, field in enumerate(self.document.fields) if field[0] == "kind")
        order, b, (number, mask, value) = self.document.kinds[min(base[kind], len(self.document.kinds) - 1)]
        return (1 if order == 2 and base[number] & mask != value else order), b

    def _delta(self, bits: Bits, base: list[int], age: int, level: int) -> list[int]:
        codes, fields, values = self.document.codes, self.document.fields, list(base)

        def add(number: int, code: int) -> int:
            folded = bits.folded(codes[code], fields[number][1])
            values[number] += unfold(folded)
            return min(folded.bit_length(), 15)

        if level == 3:
            shape = bits.symbol(codes[158])
        else:
            order, b = self._order(base)
            fast = int(order == 2)
            size = max((2 * v if v >= 0 else -2 * v - 1).bit_length() for v in base[3:6])
            j = min(max(size - self.document.speed_base, 1), 4) if size else 0
            i = 0 if age <= 4 else 1 if age <= 8 else 2 if age <= 16 else 3
            shape = bits.symbol(codes[(5 * i + j) * 2 + fast])
            widths = [0, 0, 0]
            if fast:
                values[3:6] = [base[3 + axis] + (b[axis] * age + 32768) // 65536 for axis in range(3)]
            if shape & 1:
                widths[0] = add(3, 40 + fast)
                widths[1] = add(4, 42 + 2 * widths[0] + fast)
                widths[2] = add(5, 74 + 2 * max(widths[:2]) + fast)
            for axis in range(3):
                values[3 + axis] = wrapped(values[3 + axis], fields[3 + axis][1], signed=True)
                if order:
                    speed = base[3 + axis] + values[3 + axis]
                    values[axis] += (speed * age * self.document.scale + 65536) // 131072
                if shape & 2:
                    add(axis, (106, 106, 122)[axis] + widths[axis])
        if shape & 4:
            width = 0
            for number, angle in enumerate(self.document.angles):
                width = add(angle, 139 + width if number else 138)
        if shape & 8:
            self._others(bits, values, add, level)
        return [wrapped(value, fields[n][1], signed=fields[n][2]) for n, value in enumerate(values)]

    def _others(self, bits: Bits, values: list[int], add: Callable[[int, int], int], level: int) -> None:
        others = [number for number in self.document.others if self.document.fields[number][3] <= level]
        which = bits.symbol(self.document.codes[157])
        changed = [others[which]] if which < 15 else [number for number in others if bits.raw(1)]
        for number in changed:
            width = self.document.fields[number][1]
            if width <= 4:
                values[number] = bits.raw(width)
            else:
                add(number, 155 if width <= 10 else 156)

    @staticmethod
    def _events(data: bytes, at: int, tick: int) -> tuple[list[tuple[int, int]], int]:
        """(tick, kind) of the events; the byte behind them."""
        found, count = [], data[at]
        at += 1
        for _ in range(count):
            age, parts = data[at], data[at + 1]
            at += 2
            numbers = []
            for _ in range(4 + 3 * bin(parts & 7).count("1") + (parts >> 3)):
                value = shift = 0
                while True:
                    byte, at = data[at], at + 1
                    value |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                numbers.append(value)
            found.append((tick - age, numbers[0]))
        return found, at


class DocumentClient:
    """A whole client. `outbox` holds the datagrams to be sent."""

    def __init__(self, token: bytes, document: Document) -> None:
        self.token, self.document = Token(token), document
        self.state = "requesting"
        self.outbox: list[bytes] = []
        self.messages: list[tuple[str, list[Any]]] = []
        self.closed: tuple[int, str] | None = None
        self.reliable, self.snapshots = Reliable(), Snapshots(document)
        self.index = -1
        self.tick = 0
        self.wish = (0, 0, 0, 0, 0, 0)
        self.predicts = False
        self._inputs: list[bytes] = []
        self._sequence, self._seen = 0, set[int]()
        self._challenge, self._sent_ns = b"", -RETRY_NS

    def _seal(self, kind: int, body: bytes) -> None:
        self.outbox.append(self.token.seal(kind, body, self._sequence))
        self._sequence += 1

    def say(self, name: str, *values: int | str) -> None:
        """Send a message, reliably."""
        self.reliable.tell(b"\2" + msgpack.packb([self.document.to_server[name], *values]))

    def leave(self) -> None:
        """Go, with ten disconnects."""
        for _ in range(10):
            self._seal(DISCONNECT, b"")
        self.state = "over"

    def advance(self, now_ns: int) -> None:
        """A tick has passed: send what is due."""
        if self.state == "connected":
            self._seal(PAYLOAD, self.reliable.compose(self._command(), now_ns))
        elif self.state in {"requesting", "responding"} and now_ns - self._sent_ns >= RETRY_NS:
            self._sent_ns = now_ns
            if self.state == "requesting":
                self.outbox.append(self.token.request())
            else:
                self._seal(RESPONSE, self._challenge)

    def _command(self) -> bytes:
        snapshots = self.snapshots
        self.tick += 1
        if snapshots.sequence >= 0 and not snapshots.tick < self.tick <= snapshots.tick + 30:
            self.tick = snapshots.tick + 6
        self._inputs = [struct.pack("<HbbHhB", *self.wish), *self._inputs][:3]
        sent = self._inputs[: max(1, min(3, self.tick))]
        flag = 128 if snapshots.sequence >= 0 else 0
        acknowledged = (max(0, snapshots.sequence), snapshots.mask)
        claim = self._claim()
        view = self._view()
        flag |= (64 if claim else 0) | (32 if view else 0)
        return struct.pack("<BBHII", 1, flag | len(sent), *acknowledged, self.tick) + b"".join(sent) + claim + view

    def _view(self) -> bytes:
        """What is shown is the newest snapshot, as it came."""
        if self.snapshots.sequence < 0:
            return b""
        return struct.pack("<H", min(max(self.tick - self.snapshots.tick, 0) * 256, 65535))

    def _claim(self) -> bytes:
        """That nothing has changed: the prediction of a client that knows no motion. Right for who stands still."""
        if not self.predicts or not self.snapshots.owner:
            return b""
        value = 2166136261
        for byte in self.snapshots.owner[: self.document.predicted_bytes]:
            value = (value ^ byte) * 16777619 % 2**32
        return struct.pack("<H", value >> 16 ^ value & 65535)

    def receive(self, datagram: bytes, now_ns: int) -> None:
        """Take a datagram."""
        opened = self.token.open(datagram, key=self.token.receive_key)
        if opened is None:
            return
        kind, sequence, body = opened
        if kind >= KEEP_ALIVE:
            if sequence in self._seen or sequence <= max(self._seen, default=0) - 256:
                return
            self._seen.add(sequence)
        if kind == DENIED and self.state in {"requesting", "responding"}:
            self.state = "denied"
        elif kind == CHALLENGE and self.state == "requesting":
            self.state, self._challenge, self._sent_ns = "responding", body, -RETRY_NS
        elif kind == KEEP_ALIVE and self.state == "responding":
            self.state = "connected"
            self.index = struct.unpack_from("<I", body)[0]
        elif kind == DISCONNECT and self.state == "connected":
            self.state = "over"
        elif kind == PAYLOAD and self.state == "connected":
            for section, content in self.reliable.receive(body, now_ns):
                self._take(section, content)

    def _take(self, section: int, content: bytes) -> None:
        if section == CLOSE:
            self.closed = content[0], content[1:].decode()
        elif content[0] == 1 and section == PLAIN:
            self.snapshots.receive(content)
        elif content[0] == 2:
            number, *values = msgpack.unpackb(content[1:])
            self.messages.append((self.document.to_client[number], values))

    def own(self, name: str) -> tuple[float, ...]:
        """A field of the owner section."""
        at, kind, count = self.document.owner[name]
        code = {"f64": "d", "u16": "H", "i16": "h", "u8": "B"}[kind]
        return struct.unpack_from(f"<{count}{code}", self.snapshots.owner, at)
