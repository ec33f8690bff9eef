"""Declarations that could not work are refused where they stand."""

from typing import Any

import numpy as np
import pytest

from sim.errors import DeclarationError
from sim.schema import ActionSpec, Column, Component, Field, FieldType, MessageSpec, Wire, column


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
