"""Every layout of bytes on the wire, declared once as data: for the protocol's document, its id, tools and tests.

A `Layout` is a run of fields, little endian, one after the other and without padding. Kernels hold the offsets they
use as constants, because that is what compiles well; tests/net/test_schema.py holds those constants, and what the
kernels read and write, against the layouts here. Layouts that depend on the game (the fields of records, the owner
section, messages) are declared where the game is: `net.snapshots.FieldTable`, `net.owner.OwnerLayout`, `sim.schema`.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from net.errors import NetError

__all__ = ["LAYOUTS", "Group", "Layout", "Rest", "Size", "WireField", "describe_layouts", "layout"]

_FORMATS = {
    "u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i8": "<b", "i16": "<h", "i32": "<i", "f64": "<d",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes that an earlier field tells: ((its value >> shift) & mask) · times."""

    field: str
    shift: int = 0
    mask: int = 0xFFFFFFFF
    times: int = 1

    def __str__(self) -> str:
        """As the document writes it."""
        text = self.field if self.shift == 0 else f"{self.field} >> {self.shift}"
        text = text if self.mask == 0xFFFFFFFF else f"({text} & {self.mask})"
        return text if self.times == 1 else f"{self.times} × {text}"


@dataclass(frozen=True, slots=True)
class Rest:
    """All bytes to the end, but for the last `but`."""

    but: int = 0

    def __str__(self) -> str:
        """As the document writes it."""
        return "the rest" if self.but == 0 else f"the rest but {self.but}"


@dataclass(frozen=True, slots=True)
class WireField:
    """One field.

    Attributes:
        name: Lower-case snake case.
        type: `u8` to `u64`, `i8` to `i32`, `f64`; `bytes`; or `addresses`, a list of `address` layouts.
        doc: What it means.
        size: Of `bytes`: how many; of `addresses`: the field that tells how many there are.
        optional: When it is left out; empty for never.
    """

    name: str
    type: str
    doc: str = ""
    size: int | Size | Rest = 0
    optional: str = ""

    @property
    def bytes_fixed(self) -> int | None:
        """Its length where that is always the same, else None."""
        if self.optional:
            return None
        if self.type in _FORMATS:
            return struct.calcsize(_FORMATS[self.type])
        return self.size if self.type == "bytes" and isinstance(self.size, int) else None


class Layout:
    """A run of fields.

    Attributes:
        name: Unique among `LAYOUTS`.
        fields: In their order on the wire.
        doc: What it is.
        size: Bytes where no field varies in length, else None.
        offsets: Where each field stands that is behind fields of fixed length only.
    """

    def __init__(self, name: str, fields: Sequence[WireField], *, doc: str = "") -> None:
        """Lays the fields out.

        Raises:
            NetError: A name stands twice, or a type is unknown.
        """
        self.name, self.fields, self.doc = name, tuple(fields), doc
        self.offsets: dict[str, int] = {}
        at: int | None = 0
        for field in self.fields:
            known = field.type in _FORMATS or field.type in {"bytes", "addresses"}
            if not known or any(field.name == other.name for other in self.fields if other is not field):
                raise NetError(f"layout {name!r}, field {field.name!r}: unknown type {field.type!r}, or a name twice")
            if at is not None:
                self.offsets[field.name] = at
                fixed = field.bytes_fixed
                at = at + fixed if fixed is not None else None
        self.size = at

    def pack(self, **values: int | float | bytes) -> bytes:
        """The bytes of one.

        Args:
            values: By field; one that is left out is 0, empty, or where optional not there.

        Raises:
            NetError: A value has no field, does not fit its type, or has the wrong length.
        """
        unknown = set(values) - {field.name for field in self.fields}
        if unknown:
            raise NetError(f"layout {self.name!r}: no field {', '.join(sorted(unknown))}")
        return b"".join(
            self._pack(field, values.get(field.name))
            for field in self.fields
            if field.name in values or not field.optional
        )

    def _pack(self, field: WireField, value: float | bytes | None) -> bytes:
        where = f"layout {self.name!r}, field {field.name!r}"
        if field.type in _FORMATS:
            try:
                return struct.pack(_FORMATS[field.type], 0 if value is None else value)
            except struct.error as error:
                raise NetError(f"{where}: {value!r} is not a {field.type}: {error}") from error
        fixed = field.bytes_fixed
        content = bytes(fixed or 0) if value is None else value
        if not isinstance(content, bytes) or (fixed is not None and len(content) != fixed):
            raise NetError(f"{where}: {value!r:.60} is not {field.size} bytes")
        return content

    def unpack(
        self, data: bytes, at: int = 0, *, without: Sequence[str] = ()
    ) -> tuple[dict[str, int | bytes], int] | None:
        """One read from bytes: its values by field and the offset behind it; None where it is cut short.

        Args:
            data: The bytes.
            at: Where it begins.
            without: Optional fields that are not there.
        """
        values: dict[str, int | bytes] = {}
        for field in self.fields:
            if field.name in without and field.optional:
                continue
            if field.type in _FORMATS:
                end = at + struct.calcsize(_FORMATS[field.type])
                if end > len(data):
                    return None
                (values[field.name],) = struct.unpack_from(_FORMATS[field.type], data, at)
            else:
                end = _end(field, values, data, at)
                if not at <= end <= len(data):
                    return None
                values[field.name] = data[at:end]
            at = end
        return values, at

    def describe(self) -> str:
        """One canonical line; two layouts are the same on the wire if and only if their lines are."""
        fields = ", ".join(
            f"{field.name}:{field.type}"
            + (f"[{field.size}]" if field.type not in _FORMATS else "")
            + (f" unless {field.optional}" if field.optional else "")
            for field in self.fields
        )
        return f"{self.name}({fields})"


def _end(field: WireField, values: Mapping[str, int | bytes], data: bytes, at: int) -> int:
    """Where a field of bytes or addresses that begins at `at` ends."""
    if isinstance(field.size, Rest):
        return len(data) - field.size.but
    if isinstance(field.size, int):
        return at + field.size
    if field.size.field not in values:  # it was left out, so the content runs to the end
        return len(data)
    told = values[field.size.field]
    assert isinstance(told, int)
    count = (told >> field.size.shift & field.size.mask) * field.size.times
    if field.type == "bytes":
        return at + count
    for _ in range(count):
        if at >= len(data):
            return len(data) + 1
        at += {1: 7, 2: 19}.get(data[at], len(data) + 1)
    return at


@dataclass(frozen=True, slots=True)
class Group:
    """Layouts that belong together."""

    name: str
    layouts: tuple[Layout, ...]


_F = WireField
_HEAD = _F("head", "u8", "bits 0–3 kind, bit 4 MORE (RELIABLE only), bits 5 and 6 zero, bit 7 LAST")
_LENGTH = _F("length", "u16", "bytes of content", optional="LAST is set")


def _section(name: str, fields: Sequence[WireField], content: str, doc: str) -> Layout:
    whole = (_HEAD, *fields, _LENGTH, _F("content", "bytes", content, Size("length")))
    return Layout(name, whole, doc=doc)


NETCODE = Group(
    "netcode 1.02",
    (
        Layout(
            "address IPv4",
            (_F("type", "u8", "1"), _F("ip", "bytes", "in the order they are written", 4), _F("port", "u16")),
        ),
        Layout(
            "address IPv6",
            (_F("type", "u8", "2"), _F("ip", "bytes", "eight u16 groups, each low byte first", 16), _F("port", "u16")),
        ),
        Layout(
            "private token",
            (
                _F("client_id", "u64", "unique to the client"),
                _F("timeout_s", "i32", "silence after which a side gives up; ≤ 0: never"),
                _F("address_count", "u32", "1 to 32"),
                _F("addresses", "addresses", "of the servers", Size("address_count")),
                _F("client_to_server_key", "bytes", "", 32),
                _F("server_to_client_key", "bytes", "", 32),
                _F("user_data", "bytes", "team wished for u8, then the player's name in UTF-8, ≤ 32 bytes", 256),
                _F("zeros", "bytes", "to 1,008 bytes", Rest()),
            ),
            doc="Sealed it has 1,024 bytes; a client never sees inside.",
        ),
        Layout(
            "connect token",
            (
                _F("version", "bytes", '"NETCODE 1.02" and a zero byte', 13),
                _F("protocol_id", "u64", "see below"),
                _F("create_unix_s", "u64"),
                _F("expire_unix_s", "u64"),
                _F("nonce", "bytes", "of the private token", 24),
                _F("private", "bytes", "private token, sealed", 1024),
                _F("timeout_s", "i32", "as in the private token"),
                _F("address_count", "u32", "1 to 32"),
                _F("addresses", "addresses", "where to connect, tried in this order", Size("address_count")),
                _F("client_to_server_key", "bytes", "the client seals with it", 32),
                _F("server_to_client_key", "bytes", "the client opens with it", 32),
                _F("zeros", "bytes", "to 2,048 bytes", Rest()),
            ),
        ),
        Layout(
            "challenge token",
            (
                _F("client_id", "u64"),
                _F("user_data", "bytes", "", 256),
                _F("zeros", "bytes", "to 284 bytes", 20),
            ),
            doc="Sealed by the server for itself, 300 bytes; a client only returns it.",
        ),
        Layout(
            "request",
            (
                _F("type", "u8", "0"),
                _F("version", "bytes", '"NETCODE 1.02" and a zero byte', 13),
                _F("protocol_id", "u64"),
                _F("expire_unix_s", "u64"),
                _F("nonce", "bytes", "", 24),
                _F("private", "bytes", "private token, sealed", 1024),
            ),
        ),
        Layout(
            "sealed packet",
            (
                _F("prefix", "u8", "bits 0–3 type 1 to 6, bits 4–7 length of the sequence, 1 to 8"),
                _F("sequence", "bytes", "low byte first, high zero bytes left out", Size("prefix", shift=4)),
                _F("body", "bytes", "sealed", Rest(16)),
                _F("mac", "bytes", "", 16),
            ),
        ),
        Layout("body of denied", (), doc="Type 1. Empty."),
        Layout(
            "body of challenge and response",
            (
                _F("challenge_sequence", "u64", "nonce of the challenge token"),
                _F("challenge", "bytes", "challenge token, sealed", 300),
            ),
            doc="Types 2 and 3.",
        ),
        Layout(
            "body of keep-alive",
            (_F("client_index", "u32", "slot of the client"), _F("clients_max", "u32", "slots of the server")),
            doc="Type 4. From a client both are 0.",
        ),
        Layout("body of payload", (_F("packet", "bytes", "9 to 1,200 bytes: see below", Rest()),), doc="Type 5."),
        Layout("body of disconnect", (), doc="Type 6. Empty."),
    ),
)

PACKETS = Group(
    "packets",
    (
        Layout(
            "packet header",
            (
                _F("sequence", "u16", "of this packet: +1 per packet sent to this peer, from 0"),
                _F("ack", "u16", "newest packet sequence received; 0xFFFF with mask 0 before the first"),
                _F("ack_mask", "u32", "bit i: sequence ack − 1 − i was received as well"),
                _F("ack_delay", "u8", "age of the packet `ack` when this one was composed, in ¼ ms; 255: older"),
            ),
        ),
        _section("PLAIN section", (), "an application payload", "Kind 1. Unreliable."),
        _section(
            "SEQUENCED section",
            (_F("number", "u16", "of the message in its direction"),),
            "an application payload",
            "Kind 2. Unreliable; one not newer than the newest delivered is dropped.",
        ),
        _section(
            "RELIABLE section",
            (_F("item", "u16", "number of the item in the stream, from 0"),),
            "1 to 1,024 bytes of a message",
            "Kind 3. MORE: the message goes on in the next item.",
        ),
        _section(
            "CHUNK section",
            (_F("block", "u16", "number of the block"), _F("index", "u16", "of the chunk in it")),
            "1,024 bytes of the block; what is left for the last",
            "Kind 4.",
        ),
        _section(
            "CLOSE section",
            (_F("code", "u8", "why the connection ends (`net.closing.CloseCode`)"),),
            "UTF-8 text for the player, ≤ 200 bytes",
            "Kind 5. From the server.",
        ),
    ),
)

_TYPE = "u8"
PAYLOADS = Group(
    "application payloads",
    (
        Layout(
            "COMMAND",
            (
                _F("type", _TYPE, "1"),
                _F(
                    "count",
                    "u8",
                    "bits 0–3: inputs, 1 to 8; bit 5: there is a view; bit 6: a claim; bit 7: the acknowledgement "
                    "holds; bit 4 is 0",
                ),
                _F("snapshot", "u16", "sequence of the newest snapshot decoded"),
                _F("snapshot_mask", "u32", "bit i: snapshot sequence − 1 − i was decoded as well"),
                _F("tick", "u32", "of the newest input"),
                _F("inputs", "bytes", "newest first, of consecutive ticks", Size("count", mask=15, times=9)),
                _F("claim", "u16", "hash of what was predicted for `tick`", optional="bit 6 of count is clear"),
                _F(
                    "view",
                    "u16",
                    "how far before `tick` the others are shown [1/256 tick]; 65,535: nothing is",
                    optional="bit 5 of count is clear",
                ),
            ),
        ),
        Layout(
            "input",
            (
                _F("buttons", "u16", "JUMP 1, CROUCH 2, WALK 4, FIRE 8, ALT_FIRE 16, RELOAD 32, USE 64"),
                _F("move_forward", "i8", "−127 to 127"),
                _F("move_right", "i8", "−127 to 127"),
                _F("yaw", "u16", "65,536 = one turn"),
                _F("pitch", "i16", "same unit, −16,383 to 16,383"),
                _F("weapon", "u8", "wished for"),
            ),
        ),
        Layout(
            "SNAPSHOT header",
            (
                _F("type", _TYPE, "1"),
                _F("flags", "u8", "1 owner, 2 leaves, 4 zone, 8 events: that section follows, in this order"),
                _F("sequence", "u16", "of the snapshot; own numbers, not those of packets"),
                _F("tick", "u32", "whose state this is"),
                _F("input_age", "u8", "ticks since the newest input of this client that a tick has read; 255: no news"),
                _F("lead", "i16", "how early the newest command came, 1/16 tick; −32,768: none came"),
                _F("target_lead", "u8", "how early commands should come [ticks]"),
            ),
        ),
        Layout("owner", (_F("count", "u8", "1 to 128"), _F("owner", "bytes", "owner section", Size("count")))),
        Layout(
            "leave list",
            (_F("count", "u8", "≥ 1"), _F("slots", "bytes", "a slot in 7 bits; bit 7: it is gone", Size("count"))),
        ),
        Layout("zone", (_F("count", "u16", "≥ 1"), _F("content", "bytes", "what everybody is told", Size("count")))),
        Layout("event list", (_F("count", "u8", "≥ 1"), _F("events", "bytes", "", Rest()))),
        Layout(
            "records",
            (
                _F("count", "u8", "≤ 16; 0: the payload ends here"),
                _F("bitmap", "bytes", "bit i of byte j: a record for slot 8 j + i; the last is not 0", Size("count")),
                _F("age", "u8", "A, what most records have, 0 to 63"),
                _F("bits", "bytes", "one string of bits", Rest()),
            ),
        ),
        Layout(
            "event",
            (
                _F("age", "u8", "ticks before the snapshot, ≤ 63"),
                _F("parts", "u8", "1 actor, 2 target, 4 vector, 8 value"),
                _F("numbers", "bytes", "LEB128", Rest()),
            ),
        ),
        Layout("MESSAGE", (_F("type", _TYPE, "2"), _F("message", "bytes", "msgpack", Rest()))),
        Layout(
            "BLOCK OFFER",
            (
                _F("type", _TYPE, "3"),
                _F("block", "u16", "number of the block, chosen by the sender"),
                _F("size", "u32", "bytes, ≤ 16 MB"),
                _F("tag", "u32", "what it is, to the application"),
                _F("format", "u8", "0"),
                _F("digest", "bytes", "BLAKE2b of the content", 16),
            ),
        ),
        Layout(
            "BLOCK ANSWER",
            (
                _F("type", _TYPE, "4"),
                _F("block", "u16"),
                _F("answer", "u8", "0 go ahead, otherwise why not; also later, to end a transfer"),
            ),
        ),
        Layout("BLOCK CANCEL", (_F("type", _TYPE, "5"), _F("block", "u16"))),
    ),
)

LAYOUTS = (NETCODE, PACKETS, PAYLOADS)
"""Everything, in the order of a connection's life."""


def layout(name: str) -> Layout:
    """A layout by its name.

    Raises:
        NetError: There is none.
    """
    for group in LAYOUTS:
        for entry in group.layouts:
            if entry.name == name:
                return entry
    raise NetError(f"layout {name!r}: not declared; see net.schema.LAYOUTS")


def describe_layouts() -> str:
    """All layouts in canonical text, a line each: a part of the protocol id."""
    return "\n".join(entry.describe() for group in LAYOUTS for entry in group.layouts)
