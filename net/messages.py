"""Named messages between client and server: bounded, checked against their declaration, never trusted.

A payload is u8 2, then msgpack: an array of the message's number in the game's list and its field values, in the
declared order; at most `MESSAGE_BYTES_MAX` bytes in all. Both sides are given the same list of specifications
(`sim.schema.MessageSpec` and `ActionSpec` alike: a name and bounded fields).

They are unreliable: one message is one payload packet, lost with it. Channels that repeat until acknowledged go
between `encode` and the connection without a change of this format.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgpack

from net.errors import NetError
from net.inputs_kernels import PAYLOAD_MESSAGE
from sim.schema import Field

__all__ = ["MESSAGE_BYTES_MAX", "Message", "MessageCodec"]

MESSAGE_BYTES_MAX = 1100


class _Spec(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def fields(self) -> tuple[Field, ...]: ...


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `kind` is its number in the list; the values are as declared."""

    kind: int
    name: str
    values: tuple[int | str | bytes, ...]


class MessageCodec:
    """Messages of one direction, to payloads and back.

    Attributes:
        dropped: Payloads that were malformed, or not as declared.
    """

    def __init__(self, specs: Sequence[_Spec]) -> None:
        """Takes the list of messages, the same on both sides.

        Raises:
            NetError: A name stands twice.
        """
        self._specs = tuple(specs)
        self._kinds = {spec.name: kind for kind, spec in enumerate(self._specs)}
        if len(self._kinds) != len(self._specs):
            raise NetError("messages: a name stands twice in the list")
        self.dropped = 0

    def encode(self, name: str, *values: int | str | bytes) -> bytes:
        """The payload of a message.

        Raises:
            NetError: No such message, a value is not as declared, or the whole is too long.
        """
        kind = self._kinds.get(name)
        if kind is None:
            raise NetError(f"message {name!r}: not declared; there are {', '.join(self._kinds) or 'none'}")
        fields = self._specs[kind].fields
        if len(values) != len(fields):
            raise NetError(f"message {name!r}: {len(values)} values for {len(fields)} fields")
        for field, value in zip(fields, values, strict=True):
            if not field.accepts(value):
                raise NetError(
                    f"message {name!r}, field {field.name!r}: {value!r:.80} is not {field.type}, or out of bounds"
                )
        try:
            payload: bytes = bytes([PAYLOAD_MESSAGE]) + msgpack.packb([kind, *values])
        except UnicodeEncodeError as error:
            raise NetError(f"message {name!r}: a text is not valid UTF-8: {error}") from error
        if len(payload) > MESSAGE_BYTES_MAX:
            raise NetError(f"message {name!r}: {len(payload)} bytes, at most {MESSAGE_BYTES_MAX}")
        return payload

    def decode(self, payload: bytes) -> Message | None:
        """A message off the wire, or None for bytes that are none, which are counted and dropped."""
        message = self._decode(payload)
        if message is None:
            self.dropped += 1
        return message

    def _decode(self, payload: bytes) -> Message | None:
        if not 2 <= len(payload) <= MESSAGE_BYTES_MAX or payload[0] != PAYLOAD_MESSAGE:
            return None
        try:
            content = msgpack.unpackb(payload[1:], use_list=False, max_map_len=0, max_ext_len=0)
        except (ValueError, TypeError, msgpack.UnpackException):
            return None
        if not isinstance(content, tuple) or not content or type(content[0]) is not int:
            return None
        kind, values = content[0], content[1:]
        if not 0 <= kind < len(self._specs) or len(values) != len(self._specs[kind].fields):
            return None
        spec = self._specs[kind]
        if not all(field.accepts(value) for field, value in zip(spec.fields, values, strict=True)):
            return None
        return Message(kind, spec.name, values)
