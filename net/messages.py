"""Named messages between client and server: bounded, checked against their declaration, never trusted.

A payload is u8 2, then msgpack: an array of the message's number and its field values, in the declared order. Every
kind of field has one form: integers and entities as msgpack integers, floats as floats (whole floats also as integers
where they are received), text as str, bytes as bin, lists as arrays of scalars. So nothing is deeper than two arrays,
and a payload with maps, extensions, nil, booleans or deeper arrays is refused before anything of it is built.

Both sides number the messages alike, from the declarations that the protocol id covers:

    0 …                       the core's (`CORE_MESSAGES`); numbers below `GAME_NUMBERS` are reserved for them
    GAME_NUMBERS …            the game's actions, in the order of declaration
    GAME_NUMBERS + actions …  the game's messages, in the order of declaration

What a client sends of a message that goes both ways is passed on to clients with its sender's entity in front of the
fields, so that nobody speaks for another. A message is at most `sim.schema.MESSAGE_BYTES` long; the largest that its
declaration allows was checked there, so `encode` never fails for a size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgpack

from net.dictionaries import DICTIONARIES_MAX
from net.errors import NetError
from net.inputs_kernels import PAYLOAD_MESSAGE
from net.moments import REWIND_MS_MAX
from sim.schema import (
    MESSAGE_BYTES,
    ActionSpec,
    Delivery,
    Direction,
    Field,
    FieldType,
    MessageSpec,
    Value,
)

__all__ = ["CORE_MESSAGES", "GAME_NUMBERS", "Message", "MessageCodec", "MessageForm", "message_forms"]

GAME_NUMBERS = 16
DEPTH_MAX = 2
ITEMS_MAX = 256  # of any array in a message
U64_MAX = 2**64 - 1

CORE_MESSAGES = (
    MessageSpec(
        "welcome",
        (
            Field("session", FieldType.INTEGER, 0, U64_MAX, doc="names this session; the same after a resume"),
            Field("resumed", FieldType.INTEGER, 0, 1, doc="1 where a session goes on that was there before"),
            Field("entity", FieldType.ENTITY, doc="the client's own player"),
            Field("tick", FieldType.INTEGER, 0, 2**31 - 1, doc="the tick in which it entered the world"),
            Field(
                "max_rewind_ms",
                FieldType.INTEGER,
                0,
                REWIND_MS_MAX,
                doc="how far in the past shots are judged at most: show nothing older",
            ),
        ),
        direction=Direction.TO_CLIENT,
        doc="the client plays from now on",
    ),
    MessageSpec(
        "notice",
        (Field("text", FieldType.TEXT, 1, 200),),
        direction=Direction.TO_CLIENT,
        doc="a line of the server for its player to read",
    ),
    MessageSpec(
        "abilities",
        (
            Field(
                "dictionaries",
                FieldType.LIST,
                0,
                DICTIONARIES_MAX,
                items=Field("id", FieldType.INTEGER, 0, U64_MAX),
                doc="ids of the dictionaries that it has",
            ),
        ),
        direction=Direction.TO_SERVER,
        doc="once, on connecting, from a client that takes zone-wide state and packed messages; others get neither",
    ),
    MessageSpec(
        "rate",
        (
            Field(
                "per_second",
                FieldType.INTEGER,
                0,
                65_535,
                doc="snapshots; brought into 1 … the server's `snapshot_hz`, and down to whole ticks between two",
            ),
        ),
        direction=Direction.TO_SERVER,
        doc="how often the client wants snapshots at most; until it says so, as often as the server sends them",
    ),
    MessageSpec(
        "watch",
        (Field("entity", FieldType.ENTITY, doc="a living player, of the own team while it plays; 0: nobody"),),
        direction=Direction.TO_SERVER,
        doc="from the dead and from who only watches: whom to follow",
    ),
    MessageSpec(
        "watching",
        (
            Field("entity", FieldType.ENTITY, doc="through whose eyes; with mode 2 the own player, with 4 nobody"),
            Field("mode", FieldType.INTEGER, 0, 4, doc="0 own, 1 killcam, 2 place of death, 3 follow, 4 fixed camera"),
        ),
        direction=Direction.TO_CLIENT,
        doc="from where the client sees, whenever that changes: it is told of what can be seen from there",
    ),
)
"""Of the server itself, before any game's. Why a connection ends is told by the CLOSE section of a packet instead."""


class _Spec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...
    @property
    def delivery(self) -> Delivery: ...


@dataclass(frozen=True, slots=True)
class MessageForm:
    """A message as it travels one way: its number and all its fields, that of the sender included."""

    number: int
    name: str
    fields: tuple[Field, ...]
    delivery: Delivery
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `kind` is its number; the values are as declared."""

    kind: int
    name: str
    values: tuple[Value, ...]


def message_forms(
    actions: Sequence[ActionSpec], messages: Sequence[MessageSpec], direction: Direction
) -> tuple[MessageForm, ...]:
    """Every message that travels one way, the core's first, by ascending number.

    Args:
        actions: The game's.
        messages: The game's.
        direction: `TO_SERVER` or `TO_CLIENT`.

    Raises:
        NetError: A name stands twice, or is one of the core's.
    """
    numbered: list[tuple[int, MessageSpec | ActionSpec]] = list(enumerate(CORE_MESSAGES))
    numbered += list(enumerate([*actions, *messages], GAME_NUMBERS))
    names = [spec.name for _, spec in numbered]
    for name in names:
        if names.count(name) > 1:
            core = name in {spec.name for spec in CORE_MESSAGES}
            raise NetError(f"message {name!r}: declared twice{', once by the core' if core else ''}; rename one")
    forms = []
    for number, spec in numbered:
        if spec.direction in {direction, Direction.BOTH}:
            to_client = isinstance(spec, MessageSpec) and direction is Direction.TO_CLIENT
            fields = spec.fields_to_client if to_client and isinstance(spec, MessageSpec) else spec.fields
            forms.append(MessageForm(number, spec.name, fields, spec.delivery, spec.doc))
    return tuple(forms)


class MessageCodec:
    """Messages of one direction, to payloads and back.

    Attributes:
        forms: Every message of it, by number.
        dropped: Payloads that were malformed, or not as declared.
    """

    def __init__(self, specs: Sequence[_Spec]) -> None:
        """Takes the list of messages, the same on both sides; what is not a `MessageForm` is numbered from 0.

        Raises:
            NetError: A name stands twice.
        """
        forms = [
            spec if isinstance(spec, MessageForm) else MessageForm(number, spec.name, spec.fields, spec.delivery)
            for number, spec in enumerate(specs)
        ]
        self.forms: Mapping[int, MessageForm] = {form.number: form for form in forms}
        self._by_name = {form.name: form for form in forms}
        if len(self._by_name) != len(forms) or len(self.forms) != len(forms):
            raise NetError("messages: a name or number stands twice in the list")
        # Not what the declarations allow: another library's msgpack may write numbers and lengths longer than needed.
        self._bytes_max = max((MESSAGE_BYTES[form.delivery] for form in forms), default=0)
        self.dropped = 0

    @classmethod
    def to_server(cls, actions: Sequence[ActionSpec], messages: Sequence[MessageSpec]) -> "MessageCodec":
        """Of what clients send in a game with these actions and messages.

        Raises:
            NetError: A name stands twice, or is one of the core's.
        """
        return cls(message_forms(actions, messages, Direction.TO_SERVER))

    @classmethod
    def to_client(cls, actions: Sequence[ActionSpec], messages: Sequence[MessageSpec]) -> "MessageCodec":
        """Of what the server sends in a game with these actions and messages.

        Raises:
            NetError: A name stands twice, or is one of the core's.
        """
        return cls(message_forms(actions, messages, Direction.TO_CLIENT))

    def form(self, name: str) -> MessageForm:
        """A message by its name: its number, its fields and how it is to be delivered.

        Raises:
            NetError: No such message in this direction.
        """
        form = self._by_name.get(name)
        if form is None:
            raise NetError(f"message {name!r}: not declared; there are {', '.join(self._by_name) or 'none'}")
        return form

    def encode(self, name: str, *values: Value) -> bytes:
        """The payload of a message.

        Raises:
            NetError: No such message, or a value is not as declared.
        """
        form = self.form(name)
        if len(values) != len(form.fields):
            raise NetError(f"message {name!r}: {len(values)} values for {len(form.fields)} fields")
        for field, value in zip(form.fields, values, strict=True):
            if not field.accepts(value):
                raise NetError(
                    f"message {name!r}, field {field.name!r}: {value!r:.80} is not {field.type}, or out of bounds"
                )
        settled = [_settled(field, value) for field, value in zip(form.fields, values, strict=True)]
        try:
            payload: bytes = bytes([PAYLOAD_MESSAGE]) + msgpack.packb([form.number, *settled])
        except UnicodeEncodeError as error:
            raise NetError(f"message {name!r}: a text is not valid UTF-8: {error}") from error
        return payload

    def decode(self, payload: bytes) -> Message | None:
        """A message off the wire, or None for bytes that are none, which are counted and dropped."""
        message = self._decode(payload)
        if message is None:
            self.dropped += 1
        return message

    def _decode(self, payload: bytes) -> Message | None:
        if not 2 <= len(payload) <= self._bytes_max or payload[0] != PAYLOAD_MESSAGE or not _is_plain(payload):
            return None
        most = len(payload)
        try:
            content = msgpack.unpackb(
                payload[1:], use_list=False, raw=False, strict_map_key=True, max_str_len=most, max_bin_len=most,
                max_array_len=ITEMS_MAX, max_map_len=0, max_ext_len=0,
            )  # fmt: skip
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        if not isinstance(content, tuple) or not content or type(content[0]) is not int:
            return None
        form, values = self.forms.get(content[0]), content[1:]
        if form is None or len(values) != len(form.fields) or len(payload) > MESSAGE_BYTES[form.delivery]:
            return None
        if not all(field.accepts(value) for field, value in zip(form.fields, values, strict=True)):
            return None
        settled = tuple(_settled(field, value) for field, value in zip(form.fields, values, strict=True))
        return Message(form.number, form.name, settled)


def _settled(field: Field, value: Value) -> Value:
    """An accepted value in the one form that its type has: floats are floats."""
    if field.type is FieldType.FLOAT and isinstance(value, int):
        return float(value)
    if field.items is not None and field.items.type is FieldType.FLOAT and isinstance(value, tuple):
        return tuple(float(item) for item in value)
    return value


# The first byte of a msgpack value: bytes behind it that say the length, and bytes of a value of fixed size.
_LENGTHS = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xC4: 1, 0xC5: 2, 0xC6: 4}
_FIXED = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8}


def _array(payload: bytes, at: int) -> tuple[int, int]:
    """The count of the array at a byte and the byte behind its head; a count of -1 where there is no array."""
    head = payload[at]
    if 0x90 <= head <= 0x9F:
        return head & 15, at + 1
    if head == 0xDC and at + 3 <= len(payload):
        return int.from_bytes(payload[at + 1 : at + 3], "big"), at + 3
    return -1, at


def _is_plain(payload: bytes) -> bool:
    """Whether a payload is one array of scalars and arrays of scalars, whole and with nothing behind it.

    Looks at heads only (the msgpack specification's table of formats), so that a bomb costs nothing.
    """
    open_arrays: list[int] = []
    at, size = 1, len(payload)
    while at < size:
        count, behind = _array(payload, at)
        if count >= 0:
            if len(open_arrays) == DEPTH_MAX or count > ITEMS_MAX:
                return False
            open_arrays.append(count)
            at = behind
        else:
            if not open_arrays:
                return False
            at = _scalar_end(payload, at)
            open_arrays[-1] -= 1
        while open_arrays and open_arrays[-1] == 0:
            open_arrays.pop()
            if open_arrays:
                open_arrays[-1] -= 1
        if not open_arrays:
            return at == size
    return False


def _scalar_end(payload: bytes, at: int) -> int:
    """The byte behind the scalar at a byte; behind everything where it is none, or cut short."""
    head = payload[at]
    if head <= 0x7F or head >= 0xE0:
        return at + 1
    if 0xA0 <= head <= 0xBF:
        return at + 1 + (head & 31)
    if head in _FIXED:
        return at + 1 + _FIXED[head]
    width = _LENGTHS.get(head, 0)
    if width == 0 or at + 1 + width > len(payload):
        return len(payload) + 1
    return at + 1 + width + int.from_bytes(payload[at + 1 : at + 1 + width], "big")
