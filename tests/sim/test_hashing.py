"""The state hash tells any change of any byte."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sim.hashing import hash_bytes


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
