"""Prefix codes are the best within their limit, canonical, and read back by table."""

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.errors import NetError
from net.prefix_codes import READ_BITS, canonical_words, code_lengths, read_table, write_table

COUNTS = st.lists(st.integers(0, 10**6), min_size=2, max_size=16).filter(lambda counts: sum(map(bool, counts)) > 1)


def huffman_cost(counts: list[int]) -> int:
    """Bits that the best code without a limit takes (Huffman 1952)."""
    heap = [count for count in counts if count]
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        cost += merged
        heapq.heappush(heap, merged)
    return cost


@given(COUNTS)
def test_lengths_without_a_limit_cost_what_huffman_costs(counts: list[int]) -> None:
    lengths = code_lengths(counts, limit=32)
    assert sum(map(int.__mul__, counts, lengths)) == huffman_cost(counts)


@given(COUNTS)
def test_lengths_are_limited_complete_and_only_of_what_occurs(counts: list[int]) -> None:
    lengths = code_lengths(counts)
    assert max(lengths) <= READ_BITS
    assert sum(1 << (READ_BITS - length) for length in lengths if length) == 1 << READ_BITS
    assert [length > 0 for length in lengths] == [count > 0 for count in counts]


@given(COUNTS, st.integers(0, 2**20))
def test_what_is_written_is_read_whatever_follows(counts: list[int], behind: int) -> None:
    lengths = code_lengths(counts)
    writing, reading = write_table(lengths, symbols=16), read_table(lengths)
    for symbol, length in enumerate(lengths):
        if length:
            bits = (int(writing[symbol]) & 0xFFFF) | behind << length
            assert int(reading[bits & (1 << READ_BITS) - 1]) == symbol << 4 | length


def test_words_count_up_by_length_and_symbol() -> None:
    assert canonical_words([2, 0, 1, 3, 3]) == [0b10, 0, 0b0, 0b110, 0b111]


def test_one_symbol_alone_has_one_bit() -> None:
    assert code_lengths([0, 7, 0]) == [0, 1, 0]


@pytest.mark.parametrize("counts", [[0, 0], [1] * 257])
def test_what_no_code_can_tell_apart_is_refused(counts: list[int]) -> None:
    with pytest.raises(NetError, match="symbols occur"):
        code_lengths(counts)
