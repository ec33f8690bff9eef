"""The string of bits against its specification in Python: any records, ages and masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from net.records_kernels import RECORD_BITS_MAX, RECORD_WORDS_MAX
from server.join_kernels import AGE, DRAFT_COLUMNS, END, ENTRY, ENTRY_BITS, JOINED_MASK, PLACE, _join_plain, join
from server.slots import SLOT_COUNT
from sim.arrays import I32, I64
from sim.jit import kernel


@kernel(counted=False)
def _join(cache: I64, arena: I64, words: I64, spans: I32, mask: I64, common: int) -> int:
    return int(join(cache, arena, words, spans, mask[0], mask[1], common))


def _records(random: np.random.Generator, lengths: I64) -> tuple[I64, I64]:
    """Records of random bits: the cache, and the arena they lie in one behind the other."""
    arena: I64 = np.zeros(len(lengths) * RECORD_WORDS_MAX, dtype=np.int64)
    cache: I64 = np.zeros((len(lengths), 2), dtype=np.int64)
    offset = 0
    for number, bits in enumerate(lengths.tolist()):
        body = int.from_bytes(random.bytes(RECORD_WORDS_MAX * 8), "little") & (1 << bits) - 1
        size = (bits + 63) // 64
        arena[offset : offset + size] = np.frombuffer(body.to_bytes(8 * size, "little"), dtype=np.int64)
        cache[number] = 77 << 33 | offset << ENTRY_BITS | bits, arena[offset]
        offset += size
    return cache.reshape(-1), arena


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), longest=st.sampled_from([20, 70, 200, RECORD_BITS_MAX]), share=st.floats(0, 1))
def test_records_lie_one_behind_the_other_with_their_ages(seed: int, longest: int, share: float) -> None:
    random = np.random.default_rng(seed)
    cache, arena = _records(random, random.integers(1, longest + 1, SLOT_COUNT))
    spans: I32 = np.zeros((DRAFT_COLUMNS, SLOT_COUNT), dtype=np.int32)
    spans[ENTRY], spans[AGE] = random.permutation(SLOT_COUNT), random.choice([0, 6, 6, 6, 63], SLOT_COUNT)
    mask: I64 = np.packbits(random.random(SLOT_COUNT) < share, bitorder="little").view(np.int64)
    words: I64 = np.full(SLOT_COUNT * (RECORD_WORDS_MAX + 1) + 1, -1, dtype=np.int64)
    twin_words, twin_spans = words.copy(), spans.copy()
    joined = _join(cache, arena, words, spans, mask, 6)
    twin = _join_plain(cache, arena, twin_words, twin_spans, int(mask[0]), int(mask[1]), 6)
    assert joined == twin
    count = joined & JOINED_MASK
    np.testing.assert_array_equal(spans[[PLACE, END], :count], twin_spans[[PLACE, END], :count])
    used = (int(spans[END, count - 1]) if count else 0) // 64 + 1
    np.testing.assert_array_equal(words[:used], twin_words[:used])
