"""Records are the strings of bits that the documentation describes, for any table, and give back any state."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.records import Reckoning
from net.records_kernels import (
    CODEC_TYPE,
    RECORD_BITS_MAX,
    RECORD_WORDS_MAX,
    SELF,
    Codec,
    append_bits,
    encode_delta,
    encode_full,
    expected,
)
from net.snapshots import FieldSpec, FieldTable
from sim.arrays import I32, I64
from sim.jit import kernel
from tests.reference.records import RecordTwin

MOTION = [FieldSpec(f"p{axis}", 22, signed=True, step=1 / 128) for axis in "xyz"] + [
    FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"
]
TABLE = FieldTable(
    [
        *MOTION,
        FieldSpec("kind", 2, signed=False),
        FieldSpec("yaw", 12, signed=False, wraps=True, angle=True),
        FieldSpec("pitch", 11, signed=True, angle=True),
        FieldSpec("flags", 9, signed=False),
        FieldSpec("alive", 1, signed=False),
        FieldSpec("points", 12, signed=True),
        FieldSpec("armour", 9, signed=False, level=1),
        FieldSpec("ammo", 32, signed=True, level=2),
    ],
    tick_hz=60,
    reckoning=(Reckoning(2, (0, 0, -46603), field=9, mask=1, value=0), Reckoning(), Reckoning(0)),
)
BARE = FieldTable([FieldSpec("p", 32, signed=True)] * 3 + [FieldSpec("v", 8, signed=True)] * 3, tick_hz=60)
WIDE = FieldTable(
    [*(FieldSpec(f"p{a}", 32, signed=True, step=1 / 1024) for a in "xyz")]
    + [*(FieldSpec(f"v{a}", 24, signed=True, step=1 / 512) for a in "xyz")]
    + [FieldSpec("turn", 16, signed=False, wraps=True, angle=True)]
    + [FieldSpec(f"f{i}", 32, signed=bool(i % 2), level=i // 10) for i in range(25)],
    tick_hz=30,
)
TABLES = [TABLE, BARE, WIDE]
TWINS = [RecordTwin(table) for table in TABLES]


@kernel(f"(i4[::1], i4[::1], i8, i8, {CODEC_TYPE}, i8[::1], i8)", counted=False)
def delta(current: I32, baseline: I32, age: int, level: int, codec: Codec, out: I64, at: int) -> int:
    """An entry point for the test."""
    return encode_delta(current, baseline, age, level, codec, out, at)


@kernel(f"(i4[::1], u8, i8, {CODEC_TYPE}, i8[::1], i8)", counted=False)
def full(current: I32, identity: np.uint64, level: int, codec: Codec, out: I64, at: int) -> int:
    """An entry point for the test."""
    return encode_full(current, identity, level, codec, out, at)


@kernel(f"(i4[::1], i8, i8, {CODEC_TYPE})", counted=False)
def reckoned(baseline: I32, age: int, axis: int, codec: Codec) -> int:
    """An entry point for the test."""
    return expected(baseline, age, axis, codec)


@kernel("(i8[::1], i8[::1], i8[::1])", counted=False)
def joined(values: I64, counts: I64, out: I64) -> int:
    """The bits of a string that all values are appended to."""
    at, word, fill = 0, 0, 0
    for i in range(values.shape[0]):
        at, word, fill = append_bits(out, at, word, fill, values[i], counts[i])
    out[at] = word
    return at * 64 + fill


def value_of(field: FieldSpec) -> st.SearchStrategy[int]:
    """Any value of the field, often a small one."""
    low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
    return st.one_of(st.integers(max(low, -3), min(high, 3)), st.integers(low, high))


def state_of(table: FieldTable) -> st.SearchStrategy[list[int]]:
    """Any state of the table."""
    return st.tuples(*(value_of(field) for field in table.fields)).map(list)


@st.composite
def changes(draw: st.DrawFn) -> tuple[int, list[int], list[int], int, int]:
    """A table's number, a state, its baseline, their distance and a level."""
    which = draw(st.integers(0, len(TABLES) - 1))
    baseline, other = draw(state_of(TABLES[which])), draw(state_of(TABLES[which]))
    same = draw(st.lists(st.booleans(), min_size=len(other), max_size=len(other)))
    current = [b if keep else o for b, o, keep in zip(baseline, other, same, strict=True)]
    return which, current, baseline, draw(st.integers(1, 63)), draw(st.integers(0, SELF))


def string(words: I64, at: int, bits: int) -> str:
    """A string of bits, checked to have nothing but zeros behind it in its last word."""
    used = words[at : at + bits // 64 + 1]
    text = "".join(f"{int(word) & (1 << 64) - 1:064b}"[::-1] for word in used)
    assert "1" not in text[bits:]
    return text[:bits]


def row(values: Sequence[int]) -> I32:
    """As kernels take it."""
    return np.array(values, np.int64).astype(np.int32)


@settings(max_examples=400, deadline=None)
@given(changes())
def test_a_delta_is_the_documented_string(case: tuple[int, list[int], list[int], int, int]) -> None:
    which, current, baseline, age, level = case
    out = np.full(2 + RECORD_WORDS_MAX, -1, np.int64)
    bits = delta(row(current), row(baseline), age, level, TABLES[which].codec, out, 1)
    assert bits <= RECORD_BITS_MAX
    assert string(out, 1, bits) == TWINS[which].delta(current, baseline, age, level)
    assert out[0] == out[-1] == -1, "written outside its place"


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 2**64 - 1), st.integers(0, SELF))
def test_a_full_state_is_the_documented_string(data: st.DataObject, entity: int, level: int) -> None:
    which = data.draw(st.integers(0, len(TABLES) - 1))
    current = data.draw(state_of(TABLES[which]))
    out = np.full(2 + RECORD_WORDS_MAX, -1, np.int64)
    bits = full(row(current), np.uint64(entity), level, TABLES[which].codec, out, 1)
    assert bits <= RECORD_BITS_MAX
    assert string(out, 1, bits) == TWINS[which].full(current, entity, level)
    assert out[0] == out[-1] == -1, "written outside its place"


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 63))
def test_reckoning_agrees_with_rational_arithmetic(data: st.DataObject, age: int) -> None:
    which = data.draw(st.integers(0, len(TABLES) - 1))
    baseline = data.draw(state_of(TABLES[which]))
    for axis in range(6):
        assert reckoned(row(baseline), age, axis, TABLES[which].codec) == TWINS[which].expected(baseline, age, axis)


def test_a_body_in_free_fall_changes_nothing_but_its_shape() -> None:
    flying = [0, 0, 1000, 64, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    landed = [*flying[:9], 1, *flying[10:]]
    for baseline, differs in ((flying, False), (landed, True)):
        now = [reckoned(row(flying), 8, axis, TABLE.codec) for axis in range(6)] + baseline[6:]
        out = np.zeros(RECORD_WORDS_MAX, np.int64)
        assert (delta(row(now), row(baseline), 8, 0, TABLE.codec, out, 0) > 8) is differs


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 64)), max_size=40))
def test_appended_bits_follow_each_other(pairs: list[tuple[int, int]]) -> None:
    pairs = [(value & (1 << count) - 1, count) for value, count in pairs]
    values = np.array([value for value, _ in pairs], np.uint64).view(np.int64)
    counts = np.array([count for _, count in pairs], np.int64)
    out = np.zeros(48, np.int64)
    bits = joined(values, counts, out)
    assert string(out, 0, bits) == "".join(f"{value:0{count}b}"[::-1] for value, count in pairs)


def test_levels_tell_only_their_fields() -> None:
    baseline = [0] * 9 + [1] + [0] * (len(TABLE) - 10)
    armed = [*baseline[:-2], 7, 9]
    lengths = []
    for level in range(4):
        out = np.zeros(RECORD_WORDS_MAX, np.int64)
        lengths.append(delta(row(armed), row(baseline), 4, level, TABLE.codec, out, 0))
    assert TABLE.count == (12, 13, 14, 14)
    assert lengths[0] < 8 < lengths[1] < lengths[2]


def test_two_tables_have_one_digest_only_where_records_are_the_same() -> None:
    again = FieldTable(TABLE.fields, tick_hz=60, reckoning=TABLE.reckoning)
    assert again.digest() == TABLE.digest()
    digests = {
        TABLE.digest(),
        FieldTable(TABLE.fields, tick_hz=30, reckoning=TABLE.reckoning).digest(),
        FieldTable(TABLE.fields, tick_hz=60).digest(),
        FieldTable(TABLE.fields[:-1], tick_hz=60, reckoning=TABLE.reckoning).digest(),
    }
    assert len(digests) == 4


@pytest.mark.parametrize(
    ("fields", "reckoning", "message"),
    [
        ([*MOTION, FieldSpec("a", 8, signed=False, level=1), FieldSpec("b", 8, signed=False)], (), "must not go down"),
        ([*MOTION[:5], FieldSpec("vz", 14, signed=True, step=1 / 64, level=1)], (), "must not go down"),
        ([*MOTION, FieldSpec("a", 8, signed=False, level=3)], (), "a has level 3"),
        ([*MOTION, FieldSpec("a", 8, signed=False, bound=-1.0)], (), "bound -1.0"),
        (MOTION, (Reckoning(3),), "order 3"),
        (MOTION, (Reckoning(2, field=6),), "field 6"),
        (MOTION, (Reckoning(2, (0, 0, 1 << 39)),), "acceleration"),
        ([*MOTION[:3], *(FieldSpec(f"v{a}", 32, signed=True) for a in "xyz")], (), "exceeds what every"),
    ],
)
def test_what_records_cannot_carry_is_refused(
    fields: list[FieldSpec], reckoning: tuple[Reckoning, ...], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        FieldTable(fields, tick_hz=60, reckoning=reckoning)
