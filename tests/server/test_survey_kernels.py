"""Vectors against their specification in Python: any slots, marks and masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from server import survey_kernels as kernels
from server.slots import MARKS, NEVER, OWNER_MARK, SLOT_COUNT, SPAWNED, TEAM_MARK
from server.survey_kernels import ASKED, LANES, SURVEYED, fetch_ahead, fetch_state, promote_slots, stamp_slots, survey
from sim.arrays import I32, I64, U8
from sim.jit import kernel

ROWS, RING, TICK = 40, 8, 100
Rows = tuple[I32, I32, I32, I32, U8, U8, U8]


@kernel(counted=False)
def _survey(rows: Rows, marks: I32, cache: I64, asked: I64, spans: I32, masks: I64) -> int:
    entity, baseline, born, sent, state, level, told = rows
    fetch_ahead(entity, baseline, born, sent, state, level, told, 1, asked[kernels.ASK_BLOCKS])
    fetch_state(marks, 0, MARKS)
    return int(survey(entity, baseline, born, sent, state, level, told, marks, cache, asked, spans[0], spans[1], masks))


@kernel(counted=False)
def _stamp(row: I32, tick: int, mask: I64) -> None:
    stamp_slots(row, tick, mask[0], mask[1])


@kernel(counted=False)
def _promote(baseline: I32, born: I32, tick: int, mask: I64) -> None:
    promote_slots(baseline, born, tick, mask[0], mask[1])


def _ticks(random: np.random.Generator, size: int | tuple[int, int]) -> I32:
    return random.choice(np.array([-1, *range(TICK - 10, TICK + 1)], dtype=np.int32), size)


def _client(random: np.random.Generator, blocks: int) -> Rows:
    """A client's slots: most are LIVE and told."""
    entity = random.integers(-1, ROWS, SLOT_COUNT).astype(np.int32)
    state = random.choice(np.array([0, 1, 1, 1, 1, 1, 1, 2, 3, 4], dtype=np.uint8), SLOT_COUNT)
    state[LANES * blocks :] = 0
    level = random.choice(np.array([0, 0, 0, 0, 1, 1, 2, 3], dtype=np.uint8), SLOT_COUNT)
    told = (random.random(SLOT_COUNT) < 0.9).astype(np.uint8)
    baseline, born, sent = _ticks(random, SLOT_COUNT), _ticks(random, SLOT_COUNT), _ticks(random, SLOT_COUNT)
    return entity, baseline, born, sent, state, level, told


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), blocks=st.integers(0, SLOT_COUNT // LANES), shared=st.booleans())
def test_a_survey_in_vectors_says_what_its_specification_says(seed: int, blocks: int, shared: bool) -> None:
    random = np.random.default_rng(seed)
    rows = _client(random, blocks)
    marks = _ticks(random, (ROWS, MARKS))
    marks[random.random(ROWS) < 0.1, SPAWNED] = NEVER
    marks[:, OWNER_MARK], marks[:, TEAM_MARK] = random.integers(-1, 4, ROWS), random.integers(0, 3, ROWS)
    stamps = np.where(random.random((2, RING, ROWS)) < 0.7, TICK, TICK - 1).astype(np.int64)
    cache: I64 = np.zeros((2 * RING * ROWS, 2), dtype=np.int64)
    cache[:, 0] = stamps.ravel() << 33 | random.integers(0, 1 << 33, 2 * RING * ROWS)
    cache[random.random(len(cache)) < 0.2, 0] = -1
    team, own = int(random.integers(0, 3)), int(random.integers(-1, ROWS))
    asked: I64 = np.array(
        [TICK, TICK - RING + 1, 6, 4, TICK if shared else -1, own, 2, team if team else -1, RING, ROWS, blocks],
        dtype=np.int64,
    )
    assert len(asked) == ASKED
    spans: I32 = np.zeros((2, SLOT_COUNT), dtype=np.int32)
    masks: I64 = np.full(SURVEYED, -1, dtype=np.int64)
    passed = _survey(rows, marks, cache.reshape(-1), asked, spans, masks)
    twin_spans, twin_masks = spans.copy(), np.zeros(SURVEYED, dtype=np.int64)
    twin_spans[:] = -1
    twin = kernels._survey_plain(*rows, marks, cache.reshape(-1), asked, twin_spans[0], twin_spans[1], twin_masks)
    assert passed == twin
    np.testing.assert_array_equal(masks, twin_masks)
    named = twin_spans[0] >= 0
    np.testing.assert_array_equal(spans[:, named], twin_spans[:, named])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), empty=st.sampled_from([0, 1, 2, 3]))
def test_masks_name_the_slots_that_are_written(seed: int, empty: int) -> None:
    random = np.random.default_rng(seed)
    mask: I64 = random.integers(-(1 << 63), (1 << 63) - 1, 2, dtype=np.int64)
    mask[[half for half in range(2) if empty >> half & 1]] = 0
    row, baseline, born = (_ticks(random, SLOT_COUNT) for _ in range(3))
    named = np.unpackbits(mask.view(np.uint8), bitorder="little").astype(bool)
    stamped = row.copy()
    _stamp(stamped, 7, mask)
    np.testing.assert_array_equal(stamped, np.where(named, 7, row))
    raised = baseline.copy()
    _promote(raised, born, TICK - 3, mask)
    due = named & (born <= TICK - 3)
    np.testing.assert_array_equal(raised, np.where(due, np.maximum(baseline, TICK - 3), baseline))


def test_marks_of_an_entity_are_as_many_as_lanes() -> None:
    assert MARKS == LANES and SLOT_COUNT % LANES == 0
