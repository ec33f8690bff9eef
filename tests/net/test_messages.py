"""Named messages arrive as declared, or not at all."""

from unittest.mock import patch

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.messages import CORE_MESSAGES, GAME_NUMBERS, Message, MessageCodec, MessageForm, message_forms
from sim.errors import DeclarationError
from sim.schema import (
    MESSAGE_BYTES,
    ActionSpec,
    Delivery,
    Direction,
    Field,
    FieldType,
    MessageSpec,
    Value,
    message_bytes_max,
)
from tests.strategies import field_values, message_values

NUMBERS = Field("numbers", FieldType.LIST, 0, 20, items=Field("n", FieldType.INTEGER, -5, 300))
SPECS = (
    MessageSpec("chat", (Field("text", FieldType.TEXT, 0, 900), Field("channel", FieldType.INTEGER, 0, 3))),
    MessageSpec("ready", ()),
    MessageSpec("blob", (Field("data", FieldType.BYTES, 0, 1024), Field("more", FieldType.BYTES, 0, 1024))),
    MessageSpec("look", (Field("at", FieldType.ENTITY),)),
    MessageSpec("aim", (Field("x", FieldType.FLOAT, -1, 1), NUMBERS), delivery=Delivery.SEQUENCED),
)
ACTIONS = (ActionSpec("spend", (Field("amount", FieldType.INTEGER, 1, 9),)),)


def codec() -> MessageCodec:
    return MessageCodec(SPECS)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_encoded_is_decoded_and_no_longer_than_declared(data: st.DataObject) -> None:
    both = codec()
    form = data.draw(st.sampled_from([*both.forms.values()]))
    values = data.draw(message_values(form))
    payload = both.encode(form.name, *values)
    assert payload[0] == 2 and len(payload) <= message_bytes_max(form.fields) <= MESSAGE_BYTES[form.delivery]
    assert both.decode(payload) == Message(form.number, form.name, values)


BOUNDARIES = [
    Field("f", FieldType.INTEGER, low, high)
    for low, high in ((0, 127), (0, 128), (0, 255), (0, 256), (0, 65536), (0, 2**32), (0, 2**64 - 1), (-33, 0))
]
BOUNDARIES += [Field("f", FieldType.INTEGER, low, 0) for low in (-32, -128, -129, -32769, -(2**31) - 1, -(2**63))]
BOUNDARIES += [Field("f", kind, 0, high) for kind in (FieldType.TEXT, FieldType.BYTES) for high in (31, 32, 255, 256)]
BOUNDARIES += [Field("f", FieldType.LIST, 0, count, items=BOUNDARIES[1]) for count in (15, 16, 256)]


@pytest.mark.parametrize("field", BOUNDARIES, ids=Field.describe)
def test_the_size_that_bounds_are_checked_by_is_the_true_one(field: Field) -> None:
    largest: dict[FieldType, list[Value]] = {
        FieldType.INTEGER: [int(field.low), int(field.high)],
        FieldType.TEXT: ["x" * int(field.high)] if field.type is FieldType.TEXT else [],
        FieldType.BYTES: [b"x" * int(field.high)] if field.type is FieldType.BYTES else [],
        FieldType.LIST: [(128,) * int(field.high)] if field.type is FieldType.LIST else [],
    }
    assert max(len(msgpack.packb(value)) for value in largest[field.type]) == field.bytes_max()


def test_messages_without_fields_and_with_64_bit_ids_pass() -> None:
    assert codec().decode(codec().encode("ready")) == Message(1, "ready", ())
    assert codec().decode(codec().encode("look", 2**64 - 1)) == Message(3, "look", (2**64 - 1,))


def test_whole_floats_may_come_as_integers() -> None:
    expected = Message(4, "aim", (1.0, (7,)))
    assert codec().decode(b"\x02" + msgpack.packb([4, 1, [7]])) == expected
    decoded = codec().decode(codec().encode("aim", 1, (7,)))
    assert decoded == expected and isinstance(decoded.values[0], float)


def test_longer_forms_of_numbers_and_lengths_are_understood() -> None:
    assert codec().decode(b"\x02\xdc\x00\x03\xcd\x00\x00\xda\x00\x02hi\xd3" + bytes(7) + b"\x03") == Message(
        0, "chat", ("hi", 3)
    )


def test_longer_forms_do_not_stretch_what_a_delivery_carries() -> None:
    dots = Field("dots", FieldType.LIST, 0, 256, items=Field("dot", FieldType.INTEGER, 0, 3))
    head, wide = b"\x02\x92\x00\xdc\x00", b"\xd3" + bytes(8)
    for delivery, most in ((Delivery.RELIABLE, 200), (Delivery.UNRELIABLE, 113)):
        receiver = MessageCodec((MessageSpec("draw", (dots,), delivery=delivery), MessageSpec("large", ())))
        assert receiver.decode(head + bytes([most]) + wide * most) == Message(0, "draw", ((0,) * most,))
    assert receiver.decode(head + bytes([114]) + wide * 114) is None, "1,032 bytes"


@pytest.mark.parametrize(
    ("name", "values", "problem"),
    [
        ("shout", (), "not declared"),
        ("chat", ("hello",), "1 values for 2"),
        ("chat", ("hello", 4), "'channel'"),
        ("chat", (5, 0), "'text'"),
        ("look", (-1,), "'at'"),
        ("chat", ("\ud800", 0), "UTF-8"),
        ("blob", (b"x" * 1025, b""), "'data'"),
        ("aim", (float("nan"), ()), "'x'"),
        ("aim", (float("inf"), ()), "'x'"),
        ("aim", (0.5, (301,)), "'numbers'"),
        ("aim", (0.5, (0,) * 21), "'numbers'"),
    ],
)
def test_local_misuse_raises(name: str, values: tuple[Value, ...], problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        codec().encode(name, *values)


def test_a_name_declared_twice_is_refused() -> None:
    with pytest.raises(NetError, match="twice"):
        MessageCodec((SPECS[1], SPECS[1]))
    with pytest.raises(NetError, match="'ready': declared twice; rename one"):
        MessageCodec.to_server((), (SPECS[1], SPECS[1]))
    with pytest.raises(NetError, match="'welcome': declared twice, once by the core"):
        MessageCodec.to_client((), (MessageSpec("welcome", ()),))


def test_a_message_that_could_outgrow_its_delivery_is_refused_where_it_is_declared() -> None:
    two = (Field("text", FieldType.TEXT, 0, 1024), Field("more", FieldType.TEXT, 0, 20))
    with pytest.raises(DeclarationError, match=r"up to 1064 bytes as declared, UNRELIABLE carries 1024.*RELIABLE"):
        MessageSpec("say", two, delivery=Delivery.UNRELIABLE)
    texts = tuple(Field(f"t{index}", FieldType.TEXT, 0, 1024) for index in range(8))
    with pytest.raises(DeclarationError, match="up to 8232 bytes as declared, RELIABLE carries 8192"):
        MessageSpec("book", texts)
    MessageSpec("book", texts[:7])


def test_both_directions_number_alike_and_tell_who_spoke() -> None:
    up, down = MessageCodec.to_server(ACTIONS, SPECS), MessageCodec.to_client(ACTIONS, SPECS)
    assert [form.name for form in down.forms.values()][:2] == ["welcome", "notice"]
    assert next(form.name for form in up.forms.values()) == CORE_MESSAGES[2].name == "abilities"
    assert up.form("spend").number == GAME_NUMBERS
    assert up.form("chat").number == down.form("chat").number == GAME_NUMBERS + 1
    assert [field.name for field in down.form("chat").fields] == ["sender", "text", "channel"]
    assert [field.name for field in up.form("chat").fields] == ["text", "channel"]
    with pytest.raises(NetError, match="'spend': not declared"):
        down.form("spend")
    assert up.decode(down.encode("notice", "hello")) is None, "clients cannot give notice"
    assert up.decode(down.encode("chat", 77, "I am 77", 0)) is None, "nor speak for another"


def test_one_way_messages_go_one_way_only() -> None:
    specs = (
        MessageSpec("score", (), direction=Direction.TO_CLIENT),
        MessageSpec("wave", (), direction=Direction.TO_SERVER),
    )
    up, down = (message_forms((), specs, way) for way in (Direction.TO_SERVER, Direction.TO_CLIENT))
    assert [form.name for form in up] == ["abilities", "rate", "watch", "wave"]
    assert [form.name for form in down] == ["welcome", "notice", "watching", "score"]
    assert [form.number for form in up] == [2, 3, 4, GAME_NUMBERS + 1]


HOSTILE = (
    b"",
    b"\x02",
    b"\x01" + msgpack.packb([1]),
    b"\x02" + msgpack.packb([1, 2]),
    b"\x02" + msgpack.packb([-1]),
    b"\x02" + msgpack.packb([5]),
    b"\x02" + msgpack.packb([True]),
    b"\x02" + msgpack.packb([1.0]),
    b"\x02" + msgpack.packb([None]),
    b"\x02" + msgpack.packb([0, "hi", True]),
    b"\x02" + msgpack.packb([0, "hi", None]),
    b"\x02" + msgpack.packb([0, "hi", 2**63]),
    b"\x02" + msgpack.packb([0, b"hi", 1]),
    b"\x02" + msgpack.packb([0, "x" * 901, 1]),
    b"\x02" + msgpack.packb([0, ["hi"], 1]),
    b"\x02" + msgpack.packb({0: 1}),
    b"\x02" + msgpack.packb([{}]),
    b"\x02" + msgpack.packb(1),
    b"\x02" + msgpack.packb([1]) + b"\0",
    b"\x02" + msgpack.packb([1])[:-1],
    b"\x02" + msgpack.packb([0, msgpack.Timestamp(1), 1]),
    b"\x02" + msgpack.packb([4, float("nan"), []]),
    b"\x02" + msgpack.packb([4, 1e300, []]),
    b"\x02" + msgpack.packb([4, 0.5, [[1]]]),
    b"\x02" + msgpack.packb([4, 0.5, [1.0]]),
    b"\x02" + msgpack.packb([4, 0.5, [0] * 21]),
    b"\x02" + msgpack.packb([4, 0.5, [0] * 400]),
    b"\x02" + msgpack.packb([4, 2**80 * 1.0, []]),
    b"\x02\x91" * 500,
    b"\x02" + b"\x91" * 1099,
    b"\x02" + b"\x91" * 8191,
    b"\x02\xdd\xff\xff\xff\xff",
    b"\x02\xdc\xff\xff",
    b"\x02\xdc\xff",
    b"\x02\x93\x00\xdb\xff\xff\xff\xff",
    b"\x02\x93\x00\xdb\xff",
    b"\x02\x93\x00\xa2\xff\xfe\x00",
    b"\x02" + msgpack.packb([2, b"x" * 1000, b"y" * 1200]),
    b"\x02" + msgpack.packb([2, b"x" * 8192, b""]),
    b"\x02" + msgpack.packb([4, 0.5, [], b"x" * 1024]),
)


@pytest.mark.parametrize("payload", HOSTILE)
def test_hostile_bytes_are_counted_and_dropped(payload: bytes) -> None:
    receiver = codec()
    assert receiver.decode(payload) is None
    assert receiver.dropped == 1


BOMBS = (
    b"\x02" + b"\x91" * 1000,
    b"\x02\x91\x91\x91\x01",
    b"\x02\xdc\x01\x01" + bytes(257),
    b"\x02\x91\xdc\x01\x01" + bytes(257),
    b"\x02\x80",
    b"\x02\x92\x00\xc7\x05\x01hello",
)


@pytest.mark.parametrize("payload", BOMBS)
def test_bombs_are_refused_before_anything_of_them_is_built(payload: bytes) -> None:
    with patch("net.messages.msgpack.unpackb", side_effect=AssertionError("built")):
        assert codec().decode(payload) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_random_bytes_never_raise(content: bytes, as_array: bool) -> None:
    receiver = codec()
    message = receiver.decode(b"\x02\x93" + content if as_array else b"\x02" + content)
    assert (message is None) == (receiver.dropped == 1)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mangled_messages_are_as_declared_or_dropped(data: st.DataObject) -> None:
    receiver = codec()
    form: MessageForm = data.draw(st.sampled_from([*receiver.forms.values()]))
    payload = bytearray(receiver.encode(form.name, *data.draw(message_values(form))))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    message = receiver.decode(bytes(payload[: data.draw(st.integers(0, len(payload)))]))
    if message is not None:
        fields = receiver.forms[message.kind].fields
        assert all(field.accepts(value) for field, value in zip(fields, message.values, strict=True))
        assert receiver.decode(receiver.encode(message.name, *message.values)) == message


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_strategies_draw_what_fields_accept(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from([field for spec in SPECS for field in spec.fields]))
    assert field.accepts(data.draw(field_values(field)))
