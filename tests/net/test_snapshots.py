import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.snapshots import FieldSpec, FieldTable
from net.snapshots_kernels import (
    decode_event,
    encode_event,
    quantise_scalars,
    quantise_vectors,
)

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


IDS = st.tuples(st.integers(0, 4095), st.integers(0, 2**28 - 1), st.integers(0, 2**24 - 1)).map(
    lambda parts: parts[0] << 52 | parts[1] << 24 | parts[2]
)


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
