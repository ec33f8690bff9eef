from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.snapshots import FieldSpec, FieldTable
from net.snapshots_kernels import (
    decode_delta,
    decode_event,
    decode_full,
    encode_delta,
    encode_event,
    encode_full,
    quantise_scalars,
    quantise_vectors,
)
from tests.reference.snapshots import delta_record, full_record

MOTION = [FieldSpec(f"p{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"] + [
    FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"
]
TABLE = FieldTable(
    [
        *MOTION,
        FieldSpec("yaw", 16, signed=False),
        FieldSpec("pitch", 16, signed=True),
        FieldSpec("health", 10, signed=False),
        FieldSpec("weapon", 4, signed=False),
        FieldSpec("wide", 32, signed=True),
        FieldSpec("bit", 1, signed=False),
    ],
    tick_hz=60,
)


def value_of(field: FieldSpec) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (field.bits - 1)), 2 ** (field.bits - 1) - 1) if field.signed else (0, 2**field.bits - 1)
    near = st.integers(max(low, -40), min(high, 40))
    return st.one_of(near, st.integers(low, high), st.sampled_from([low, high]))


STATES = st.tuples(*(value_of(field) for field in TABLE.fields)).map(list)
IDS = st.tuples(st.integers(0, 4095), st.integers(0, 2**28 - 1), st.integers(0, 2**24 - 1)).map(
    lambda parts: parts[0] << 52 | parts[1] << 24 | parts[2]
)


def row(values: list[int]) -> Any:
    return np.array(values, dtype=np.int32)


@settings(max_examples=300, deadline=None)
@given(STATES, STATES, st.integers(1, 63), st.booleans())
def test_delta_record_is_the_written_layout_and_decodes_to_the_same_state(
    current: list[int], baseline: list[int], age: int, same: bool
) -> None:
    if same:  # most fields rarely change: without this hypothesis would hardly ever try it
        current = [*current[:3], *baseline[3:]]
    out = np.zeros(400, dtype=np.uint8)
    end = encode_delta(row(current), row(baseline), age, TABLE.table, TABLE.velocity_scale, out, 0)
    assert out[:end].tobytes() == delta_record(current, baseline, age, TABLE)
    fields = np.zeros(len(TABLE), dtype=np.int32)
    assert decode_delta(out, 0, end, row(baseline), TABLE.table, TABLE.velocity_scale, fields) == end
    assert fields.tolist() == current


@settings(max_examples=200, deadline=None)
@given(STATES, IDS)
def test_full_record_is_the_written_layout_and_decodes_to_the_same_state(current: list[int], entity: int) -> None:
    out = np.zeros(400, dtype=np.uint8)
    end = encode_full(row(current), np.uint64(entity), TABLE.table, out, 0)
    assert out[:end].tobytes() == full_record(current, entity, TABLE)
    fields = np.zeros(len(TABLE), dtype=np.int32)
    after, identity = decode_full(out, 0, end, TABLE.table, fields)
    assert (after, int(identity), fields.tolist()) == (end, entity, current)


@settings(max_examples=200, deadline=None)
@given(STATES, STATES, st.integers(1, 63), st.data())
def test_a_record_cut_short_is_told_by_its_position(
    current: list[int], baseline: list[int], age: int, data: st.DataObject
) -> None:
    out = np.zeros(400, dtype=np.uint8)
    fields = np.zeros(len(TABLE), dtype=np.int32)
    end = encode_delta(row(current), row(baseline), age, TABLE.table, TABLE.velocity_scale, out, 0)
    cut = data.draw(st.integers(1, end)) - 1
    if cut > 0:
        assert decode_delta(out, 0, cut, row(baseline), TABLE.table, TABLE.velocity_scale, fields) > cut
    end = encode_full(row(current), np.uint64(5), TABLE.table, out, 0)
    cut = data.draw(st.integers(2, end)) - 1
    assert decode_full(out, 0, cut, TABLE.table, fields)[0] > cut


def test_a_coasting_entity_costs_one_byte() -> None:
    baseline = [1000, -2000, 300, 512, -256, 64, *[7] * 5, 1]
    scale = TABLE.velocity_scale
    current = [baseline[i] + (baseline[3 + i] * 6 * scale + 32768) // 65536 for i in range(3)] + baseline[3:]
    out = np.zeros(400, dtype=np.uint8)
    assert encode_delta(row(current), row(baseline), 6, TABLE.table, scale, out, 0) == 1


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 65535),
    IDS,
    IDS,
    st.lists(st.integers(-(2**20), 2**20), min_size=6, max_size=6),
    st.integers(-(2**61), 2**61),
)
def test_an_event_decodes_to_the_same_values(
    kind: int, actor: int, target: int, numbers: list[int], value: int
) -> None:
    position, vector = np.array(numbers[:3]) / 64.0, np.array(numbers[3:]) / 256.0
    out = np.zeros(96, dtype=np.uint8)
    ids = (np.uint64(actor), np.uint64(target))
    end = encode_event(kind, ids, position, vector, value, (64.0, 256.0), out)
    read_position, read_vector = np.zeros(3), np.ones(3)
    read = decode_event(out, 0, end, (64.0, 256.0), read_position, read_vector)
    assert [int(number) for number in read] == [end, 0, kind, actor, target, value]
    assert read_position.tolist() == position.tolist()
    assert read_vector.tolist() == vector.tolist()
    assert decode_event(out, 0, end - 1, (64.0, 256.0), read_position, read_vector)[0] > end - 1


def test_quantisation_rounds_to_nearest_and_saturates() -> None:
    fields = np.zeros((4, len(TABLE)), dtype=np.int32)
    values = np.array([[1.0, -1.0, 0.0], [0.0011, -0.0011, 0.0], [1e9, -1e9, np.nan], [2.5, 0.0, 0.0]])
    assert quantise_vectors(values, 512.0, 0, TABLE.table, fields) == 2
    high = 2**23 - 1
    assert fields[:, :3].tolist() == [[512, -512, 0], [1, -1, 0], [high, -high, 0], [1280, 0, 0]]
    health = np.array([0.0, 99.6, 5000.0, -3.0])
    assert quantise_scalars(health, 1.0, 8, TABLE.table, fields) == 2
    assert fields[:, 8].tolist() == [0, 100, 1023, 0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (MOTION[:5], "5 given"),
        ([*MOTION, FieldSpec("x", 33, signed=False)], "x has 33 bits"),
        ([*MOTION, FieldSpec("x", 8, signed=False, step=0.0)], "x has step 0.0"),
        ([*MOTION, FieldSpec("x", 8, signed=False, order=40)], "x has order 40"),
        ([FieldSpec("px", 24, signed=False), *MOTION[1:]], "must be signed"),
        ([*MOTION[:3], *(FieldSpec(f"v{a}", 14, signed=True, step=100.0) for a in "xyz")], "velocity step"),
    ],
)
def test_a_table_the_layout_cannot_carry_is_refused(fields: list[FieldSpec], message: str) -> None:
    with pytest.raises(NetError, match=message):
        FieldTable(fields, tick_hz=60)


def test_an_unknown_field_is_named() -> None:
    assert TABLE.index("health") == 8
    with pytest.raises(NetError, match="'armour'"):
        TABLE.index("armour")
