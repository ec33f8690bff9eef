"""Declarations that could not work are refused where they stand."""

from typing import Any

import numpy as np
import pytest

from sim.errors import DeclarationError
from sim.plugin import Registration
from sim.schema import ActionSpec, Column, Component, Direction, Field, FieldType, MessageSpec, Wire, column


def test_a_component_needs_a_good_name_and_a_column() -> None:
    with pytest.raises(DeclarationError, match="'Bad Name'"):
        type("Bad", (Component,), {"x": column(np.int32)}, name="Bad Name")
    with pytest.raises(DeclarationError, match="declares no column"):
        type("Empty", (Component,), {}, name="empty")


def test_a_column_without_a_table_says_so() -> None:
    class Lone(Component, name="lone"):
        """A component that is in no table."""

        x = column(np.int32)

    assert Lone.x.dtype == np.int32
    with pytest.raises(AttributeError, match="not in a table"):
        Lone.x.__get__(object.__new__(Lone), Lone)


@pytest.mark.parametrize(
    "options", [{"bits": 0}, {"bits": 33}, {"bits": 8, "step": 0.0}, {"bits": 8, "role": "colour"}]
)
def test_impossible_quantisation_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(DeclarationError, match="bits must be"):
        Wire(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_layout_text_changes_with_every_property_of_a_column() -> None:
    variants: list[Column[Any]] = [
        column(np.int32),
        column(np.int64),
        column(np.int32, shape=(2,)),
        column(np.int32, unit="m"),
        column(np.int32, default=1),
        column(np.int32, wire=Wire(bits=3)),
        column(np.int32, persist=True),
    ]
    for variant in variants:
        variant.__set_name__(Component, "x")
    assert len({variant.describe() for variant in variants}) == len(variants)


def test_fields_accept_only_what_is_within_their_bounds() -> None:
    number = Field("n", FieldType.INTEGER, -1, 4)
    assert [number.accepts(value) for value in (-1, 4, 5, -2, True, "1", 1.0)] == [True, True, *[False] * 5]
    text = Field("t", FieldType.TEXT, high=3)
    assert [text.accepts(value) for value in ("abc", "é", "ééé", b"abc")] == [True, True, False, False]
    data = Field("b", FieldType.BYTES, high=2)
    assert [data.accepts(value) for value in (b"ab", b"abc", "ab")] == [True, False, False]
    entity = Field("e", FieldType.ENTITY)
    assert [entity.accepts(value) for value in (0, 2**64 - 1, 2**64, -1)] == [True, True, False, False]


def test_messages_and_actions_check_their_fields() -> None:
    twice = (Field("a", FieldType.INTEGER), Field("a", FieldType.INTEGER))
    with pytest.raises(DeclarationError, match="name of its own"):
        MessageSpec("say", twice)
    with pytest.raises(DeclarationError, match=r"high must be 1\.\.1024"):
        MessageSpec("say", (Field("text", FieldType.TEXT, high=5000),))
    with pytest.raises(DeclarationError, match="per_second_max 0"):
        ActionSpec("buy", (), per_second_max=0)


def test_floats_and_lists_accept_only_what_is_within_their_bounds() -> None:
    share = Field("f", FieldType.FLOAT, -0.5, 1)
    values = (-0.5, 1, 1.0, 1.01, float("nan"), float("inf"), True, "1")
    assert [share.accepts(value) for value in values] == [True, True, True, *[False] * 5]
    numbers = Field("l", FieldType.LIST, 1, 2, items=Field("n", FieldType.INTEGER, 0, 9))
    listed = ((0,), (9, 9), (), (1, 1, 1), (10,), ("1",), [1], 1, ((1,),))
    assert [numbers.accepts(value) for value in listed] == [True, True, *[False] * 7]


NUMBER = Field("n", FieldType.INTEGER, 0, 9)


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        (Field("l", FieldType.LIST, 0, 3), r"needs items=Field"),
        (Field("n", FieldType.INTEGER, 0, 3, items=NUMBER), r"needs items=Field"),
        (Field("l", FieldType.LIST, 0, 3, items=Field("m", FieldType.LIST, 0, 3, items=NUMBER)), "deeper than 2"),
        (Field("l", FieldType.LIST, 0, 257, items=NUMBER), r"high must be 1\.\.256 items"),
        (Field("l", FieldType.LIST, 0, 3, items=Field("t", FieldType.TEXT)), "'l' items: high must be"),
        (Field("n", FieldType.INTEGER, 0, 2**64), "beyond what integer can hold"),
        (Field("n", FieldType.INTEGER, -(2**63) - 1, 0), "beyond what integer can hold"),
        (Field("n", FieldType.INTEGER, 0.5, 2), "must be integers for integer"),
        (Field("n", FieldType.FLOAT, float("nan"), 2), "low above high"),
        (Field("t", FieldType.TEXT, -1, 2), "beyond what text can hold"),
        (Field("sender", FieldType.INTEGER), "the server adds it"),
    ],
    ids=lambda value: value.describe() if isinstance(value, Field) else "",
)
def test_fields_that_could_not_be_kept_are_refused(field: Field, problem: str) -> None:
    with pytest.raises(DeclarationError, match=problem):
        MessageSpec("say", (field,))


def test_only_what_goes_both_ways_gets_a_sender() -> None:
    fields = (NUMBER,)
    assert [field.name for field in MessageSpec("say", fields).fields_to_client] == ["sender", "n"]
    assert MessageSpec("say", fields, direction=Direction.TO_CLIENT).fields_to_client == fields
    assert ActionSpec("do", fields).direction is Direction.TO_SERVER


def test_the_canonical_text_tells_messages_apart_but_not_their_documentation() -> None:
    variants = [
        MessageSpec("say", (NUMBER,)),
        MessageSpec("say", (Field("n", FieldType.INTEGER, 0, 8),)),
        MessageSpec("say", (Field("m", FieldType.INTEGER, 0, 9),)),
        MessageSpec("say", (Field("n", FieldType.FLOAT, 0, 9),)),
        MessageSpec("say", (NUMBER,), direction=Direction.TO_CLIENT),
    ]
    assert len({spec.describe() for spec in variants}) == len(variants)
    assert MessageSpec("say", (NUMBER,), doc="words").describe() == variants[0].describe()
    assert ActionSpec("say", (NUMBER,)).describe() != ActionSpec("say", (NUMBER,), per_second_max=6).describe()


def test_a_message_that_nobody_would_hear_is_refused() -> None:
    registration = Registration("toy")
    with pytest.raises(DeclarationError, match="declare an action"):
        registration.message(MessageSpec("whisper", (), direction=Direction.TO_SERVER))
    registration.message(MessageSpec("say", ()))
    with pytest.raises(DeclarationError, match="declares message 'say' twice"):
        registration.message(MessageSpec("say", ()))
