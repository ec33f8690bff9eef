"""Named messages arrive as declared, or not at all."""

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.messages import MESSAGE_BYTES_MAX, Message, MessageCodec
from sim.schema import Field, FieldType, MessageSpec

SPECS = (
    MessageSpec("chat", (Field("text", FieldType.TEXT, 0, 900), Field("channel", FieldType.INTEGER, 0, 3))),
    MessageSpec("ready", ()),
    MessageSpec("blob", (Field("data", FieldType.BYTES, 0, 1024), Field("more", FieldType.BYTES, 0, 1024))),
    MessageSpec("look", (Field("at", FieldType.ENTITY),)),
)


def codec() -> MessageCodec:
    return MessageCodec(SPECS)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=200), st.integers(0, 3))
def test_what_is_encoded_is_decoded(text: str, channel: int) -> None:
    payload = codec().encode("chat", text, channel)
    assert payload[0] == 2 and len(payload) <= MESSAGE_BYTES_MAX
    assert codec().decode(payload) == Message(0, "chat", (text, channel))


def test_messages_without_fields_and_with_64_bit_ids_pass() -> None:
    assert codec().decode(codec().encode("ready")) == Message(1, "ready", ())
    assert codec().decode(codec().encode("look", 2**64 - 1)) == Message(3, "look", (2**64 - 1,))


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("shout", (), "not declared"),
        ("chat", ("hello",), "1 values for 2"),
        ("chat", ("hello", 4), "'channel'"),
        ("chat", (5, 0), "'text'"),
        ("look", (-1,), "'at'"),
        ("chat", ("\ud800", 0), "UTF-8"),
        ("blob", (b"x" * 1000, b"y" * 200), "at most 1100"),
    ],
)
def test_local_misuse_raises(name: str, values: tuple[int | str | bytes, ...], problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        codec().encode(name, *values)


def test_a_name_declared_twice_is_refused() -> None:
    with pytest.raises(NetError, match="twice"):
        MessageCodec((SPECS[1], SPECS[1]))


HOSTILE = (
    b"",
    b"\x02",
    b"\x01" + msgpack.packb([1]),
    b"\x02" + msgpack.packb([1, 2]),
    b"\x02" + msgpack.packb([-1]),
    b"\x02" + msgpack.packb([4]),
    b"\x02" + msgpack.packb([True]),
    b"\x02" + msgpack.packb([1.0]),
    b"\x02" + msgpack.packb([0, "hi", True]),
    b"\x02" + msgpack.packb([0, "hi", 2**63]),
    b"\x02" + msgpack.packb([0, b"hi", 1]),
    b"\x02" + msgpack.packb([0, "x" * 901, 1]),
    b"\x02" + msgpack.packb([0, ["hi"], 1]),
    b"\x02" + msgpack.packb({0: 1}),
    b"\x02" + msgpack.packb(1),
    b"\x02" + msgpack.packb([1]) + b"\0",
    b"\x02" + msgpack.packb([1])[:-1],
    b"\x02" + msgpack.packb([0, msgpack.Timestamp(1), 1]),
    b"\x02\x91" * 500,
    b"\x02" + b"\x91" * 1099,
    b"\x02\xdd\xff\xff\xff\xff",
    b"\x02\x93\x00\xdb\xff\xff\xff\xff",
    b"\x02\x93\x00\xa2\xff\xfe\x00",
    b"\x02" + msgpack.packb([2, b"x" * 1000, b"y" * 200]),
)


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_bytes_are_counted_and_dropped(payload: bytes) -> None:
    receiver = codec()
    assert receiver.decode(payload) is None
    assert receiver.dropped == 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=64))
def test_random_bytes_never_raise(content: bytes) -> None:
    receiver = codec()
    message = receiver.decode(b"\x02" + content)
    assert (message is None) == (receiver.dropped == 1)
