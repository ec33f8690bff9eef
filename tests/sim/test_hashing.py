"""The state hash tells any change of any byte."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.arrays import I64
from sim.hashing import hash_bytes, hash_columns, hash_spans


@given(st.binary(min_size=1, max_size=100), st.data())
def test_any_changed_bit_and_any_length_changes_the_hash(data: bytes, draw: st.DataObject) -> None:
    position = draw.draw(st.integers(0, len(data) * 8 - 1))
    changed = bytearray(data)
    changed[position // 8] ^= 1 << position % 8
    hashes = {
        hash_bytes(np.frombuffer(content, np.uint8).copy())
        for content in (data, bytes(changed), data + b"\0", data[:-1])
    }
    assert len(hashes) == 4


def test_the_hash_is_the_same_in_every_process() -> None:
    assert hash_bytes(np.arange(77, dtype=np.uint8)) == 4772439669050683228


def test_swapped_lanes_change_the_hash() -> None:
    words = np.arange(16, dtype=np.uint64)
    swapped = words.copy()
    swapped[[0, 4]] = swapped[[4, 0]]
    other = words.copy()
    other[[0, 1]] = other[[1, 0]]
    assert len({hash_bytes(array.view(np.uint8)) for array in (words, swapped, other)}) == 3


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 7), st.integers(0, 3)), max_size=5), st.integers(0, 2**63))
def test_spans_anywhere_in_memory_hash_as_their_bytes_do(pieces: list[tuple[int, int, int]], seed: int) -> None:
    memory = np.arange(1000, dtype=np.uint32).astype(np.uint8)
    rows = np.array([1, 0, 3, 5], np.int64)
    spans: I64 = np.array(
        [(memory.ctypes.data + 100 * n + shift, size, place) for n, (size, shift, place) in enumerate(pieces)], np.int64
    ).reshape(-1, 3)
    expected = seed
    for number, (size, shift, place) in enumerate(pieces):
        begin = 100 * number + shift
        expected = hash_bytes(memory[begin : begin + size * int(rows[place])].copy(), expected)
    assert int(hash_spans(spans, rows, np.uint64(seed))) == expected


def test_columns_hash_in_order() -> None:
    one, other = np.arange(9.0), np.arange(5, dtype=np.int8)
    assert hash_columns([one, other]) == hash_bytes(other.view(np.uint8), hash_bytes(one.view(np.uint8)))
    assert hash_columns([other, one]) != hash_columns([one, other])
    assert hash_columns([], 7) == 7
