import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from net.columns import COLUMNS_MAX, pack_columns, unpack_columns
from net.errors import NetError
from sim.arrays import I32, AnyArray
from tests.reference.columns import packed, unpacked

EDGES = st.sampled_from([-(2**31), 2**31 - 1, 0, -1, 1, 255, 256, 65536])
VALUES = st.one_of(EDGES, st.integers(-300, 300), st.integers(-(2**31), 2**31 - 1))
ROWS = arrays(np.int32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=VALUES)


def rows_of(*columns: list[int]) -> I32:
    return np.ascontiguousarray(np.array(columns, np.int64).T.astype(np.int32))


@settings(max_examples=200, deadline=None)
@given(ROWS, st.booleans())
def test_any_rows_come_back_and_lie_as_the_layout_says(rows: I32, differences: bool) -> None:
    data = pack_columns(rows, differences=differences)
    found = unpack_columns(data, columns=rows.shape[1], rows_max=len(rows))
    assert found is not None
    assert found.dtype == np.int32
    assert found.tolist() == rows.tolist() == unpacked(data)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.data())
def test_another_implementation_may_choose_other_forms(rows: I32, data: st.DataObject) -> None:
    forms = data.draw(st.lists(st.booleans(), min_size=rows.shape[1], max_size=rows.shape[1]))
    made = packed(rows.tolist(), forms)
    found = unpack_columns(made, columns=rows.shape[1], rows_max=len(rows))
    assert found is not None
    assert found.tolist() == rows.tolist()


def test_the_form_is_chosen_by_what_the_column_is_like() -> None:
    count = 300
    random = np.random.default_rng(5)
    ids, noise = list(range(1000, 1000 + 3 * count, 3)), random.integers(-9000, 9000, count).tolist()
    data = pack_columns(rows_of(ids, noise, [7] * count, [0] * count))
    assert [form & 15 for form in data[6:10]] == [8 | 1, 2, 0, 0]
    assert len(data) == 6 + 4 + 4 * 3 + count * 3, "a column of one value has no planes, and of zeros no base"
    plain = pack_columns(rows_of(ids, noise, [7] * count, [0] * count), differences=False)
    assert [form & 15 for form in plain[6:10]] == [2, 2, 0, 0]


def test_no_rows_are_fine() -> None:
    data = pack_columns(np.zeros((0, 3), np.int32))
    found = unpack_columns(data, columns=3, rows_max=0)
    assert found is not None
    assert found.shape == (0, 3)


@pytest.mark.parametrize(
    "rows",
    [np.zeros(4, np.int32), np.zeros((2, 2)), np.zeros((2, 0), np.int32), np.zeros((2, COLUMNS_MAX + 1), np.int32)],
    ids=["one dimension", "floats", "no columns", "too many columns"],
)
def test_what_is_not_rows_of_int32_is_refused(rows: AnyArray) -> None:
    with pytest.raises(NetError, match=r"columns: rows are .*; give int32"):
        pack_columns(rows)


GOOD = packed([[1, 5], [300, 5], [70, 5]], [False, False])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD[:5],
        GOOD[:7],
        GOOD[:-1],
        GOOD + b"\0",
        b"\2" + GOOD[1:],
        GOOD[:1] + b"\3" + GOOD[2:],
        GOOD[:6] + bytes([GOOD[6] | 32]) + GOOD[7:],
        GOOD[:6] + bytes([16 | 5]) + GOOD[7:],
        GOOD[:2] + (2**32 - 1).to_bytes(4, "little") + GOOD[6:],
    ],
    ids=["empty", "head", "forms", "short", "long", "version", "columns", "bit", "planes", "rows"],
)
def test_bytes_that_are_no_columns_give_none(data: bytes) -> None:
    assert unpack_columns(GOOD, columns=2, rows_max=3) is not None
    assert unpack_columns(data, columns=2, rows_max=1 << 19) is None


def test_more_rows_than_allowed_are_refused_whatever_they_weigh() -> None:
    """A column without planes takes a byte for any number of rows: the number itself must be held against the limit."""
    data = bytes([1, 2]) + (100_000).to_bytes(4, "little") + bytes([0, 0])
    assert unpack_columns(data, columns=2, rows_max=99_999) is None
    found = unpack_columns(data, columns=2, rows_max=100_000)
    assert found is not None
    assert not found.any()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=80), st.binary(max_size=60).map(lambda tail: GOOD[:8] + tail)))
def test_hostile_bytes_never_raise(data: bytes) -> None:
    found = unpack_columns(data, columns=2, rows_max=64)
    assert found is None or found.tolist() == (unpacked(data) if len(found) else [])
