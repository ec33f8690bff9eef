"""The owner section carries chosen columns to the last bit."""

import numpy as np
import pytest

from net.errors import NetError
from net.owner import OwnerField, OwnerLayout
from sim.arrays import I32, I64, U8, AnyArray

FIELDS = (OwnerField("place", "f8", 3), OwnerField("mark", "u2"), OwnerField("told", "i4", predicted=False))
LAYOUT = OwnerLayout(FIELDS)


def columns(rows: int) -> dict[str, AnyArray]:
    random = np.random.default_rng(1)
    return {
        # Any bits: infinities, NaNs with payloads and both zeros among them.
        "place": random.integers(0, 2**64, (rows, 3), dtype=np.uint64).view(np.float64),
        "mark": random.integers(0, 2**16, rows).astype(np.uint16),
        "told": random.integers(-(2**31), 2**31, rows).astype(np.int32),
    }


def test_sections_are_the_fields_bytes_in_order() -> None:
    source = columns(5)
    rows: I32 = np.array([3, -1, 0, 9], np.int32)
    out: U8 = np.full((4, 40), 0xEE, np.uint8)
    lengths: U8 = np.full(4, 99, np.uint8)
    LAYOUT.bind(source).pack(rows, out, lengths)
    assert lengths.tolist() == [30, 0, 30, 0]
    for index, row in ((0, 3), (2, 0)):
        expected = b"".join(source[field.name][row].tobytes() for field in FIELDS)
        assert out[index, :30].tobytes() == expected
        assert (out[index, 30:] == 0xEE).all()
    assert LAYOUT.size == 30 and LAYOUT.predicted_bytes == 26


def test_unpacking_restores_every_bit_of_the_active_rows_only() -> None:
    source, target = columns(6), LAYOUT.allocate(6)
    sections: U8 = np.zeros((6, 128), np.uint8)
    LAYOUT.bind(source).pack(np.arange(6, dtype=np.int32), sections, np.zeros(6, np.int32))
    active: U8 = np.array([1, 0, 1, 1, 0, 1], np.uint8)
    bound = LAYOUT.bind(target)
    bound.unpack(sections, active, predicted=True)
    assert not target["told"].any()
    bound.unpack(sections, active, predicted=False)
    for name, array in target.items():
        chosen = active.astype(bool)
        assert array[chosen].tobytes() == source[name][chosen].tobytes()
        assert not array[~chosen].any()


def test_history_is_written_at_the_tick_of_each_row() -> None:
    source = columns(2)
    history: U8 = np.zeros((2, 8, 26), np.uint8)
    ticks: I64 = np.array([13, 8], np.int64)
    LAYOUT.bind(source).record(history, ticks, np.ones(2, np.uint8))
    for row, place in ((0, 5), (1, 0)):
        assert history[row, place].tobytes() == source["place"][row].tobytes() + source["mark"][row].tobytes()
        history[row, place] = 0
    assert not history.any()


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ([], "0 bytes"),
        ([OwnerField("big", "f8", 17)], "136 bytes"),
        ([OwnerField("a", "f8"), OwnerField("a", "f8")], "one name"),
        ([OwnerField("a", "f8", 0)], "count"),
        ([OwnerField("a", "O")], "numbers"),
        ([OwnerField("a", "f8", predicted=False), OwnerField("b", "f8")], "must come first"),
    ],
)
def test_impossible_layouts_are_refused(fields: list[OwnerField], problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        OwnerLayout(fields)


def test_columns_that_do_not_fit_are_refused() -> None:
    good = columns(4)
    for name, wrong in (
        ("mark", None),
        ("mark", good["mark"].astype(np.int16)),
        ("mark", np.zeros(3, np.uint16)),
        ("place", np.zeros((3, 4)).T),
    ):
        broken = {key: value for key, value in {**good, name: wrong}.items() if value is not None}
        with pytest.raises(NetError, match=name):
            LAYOUT.bind(broken)
    with pytest.raises(NetError, match="do not fit"):
        LAYOUT.bind(good).pack(np.zeros(2, np.int32), np.zeros((2, 29), np.uint8), np.zeros(2, np.int32))
