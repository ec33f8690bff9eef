"""The broadphase finds exactly the pairs that brute force finds, in any world."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

from sim.arrays import F64, I64, Bool
from sim.broadphase import Broadphase, BroadphaseError
from tests.reference.broadphase import naive_pairs, takes_part

CAPACITY = 512
BROAD = {2: Broadphase(CAPACITY, dimensions=2, pairs_max=200_000), 3: Broadphase(CAPACITY, pairs_max=200_000)}


def in_order(pairs: object) -> I64:
    rows = np.asarray(pairs, np.int64).reshape(-1, 2)
    return rows[np.lexsort((rows[:, 1], rows[:, 0]))]


def check(positions: F64, radii: F64, active: Bool | None = None) -> int:
    broad = BROAD[positions.shape[1]]
    mask = np.ones(len(radii), np.bool_) if active is None else active
    broad.build(positions, radii, active)
    wanted = naive_pairs(positions, radii, mask)
    np.testing.assert_array_equal(in_order(broad.pairs()), wanted)
    assert broad.count == int(takes_part(positions, radii, mask).sum())
    assert broad.refused == int(mask.sum()) - broad.count
    return len(wanted)


def spread(random: np.random.Generator, dimensions: int, shape: str, count: int) -> F64:
    """Point sets that have broken grids before."""
    unit = random.uniform(-1.0, 1.0, (count, dimensions))
    if shape == "even":
        return unit * 10.0
    if shape == "point":
        return np.full((count, dimensions), float(unit[0, 0]) * 100.0)
    if shape == "line":
        return np.outer(unit[:, 0] * 200.0, unit[0])
    if shape == "lattice":
        return np.round(unit * 4.0)
    if shape == "towns":
        return unit * 3.0 + random.integers(-2, 3, (count, dimensions)) * 7_001.7
    if shape == "outlier":
        unit[0] = 1e9
        return unit * np.where(np.arange(count) == 0, 1.0, 5.0)[:, None]
    return unit * 10.0 ** random.uniform(-3.0, 8.0, (count, 1))


SHAPES = ("even", "point", "line", "lattice", "towns", "outlier", "decades")
SIZES = ("same", "zero", "near", "octaves", "boss")


def sizes(random: np.random.Generator, kind: str, count: int) -> F64:
    if kind == "same":
        return np.full(count, 0.5)
    if kind == "zero":
        return np.zeros(count)
    if kind == "near":
        return random.uniform(0.3, 0.5, count)
    radii = 10.0 ** random.uniform(-2.0, 1.0 if kind == "octaves" else -0.5, count)
    if kind == "boss":
        radii[: min(2, count)] = 100.0
    return np.asarray(radii, np.float64)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SIZES)
def test_pairs_are_those_of_brute_force(dimensions: int, shape: str, kind: str) -> None:
    random = np.random.default_rng([dimensions, SHAPES.index(shape), SIZES.index(kind)])
    for count in (1, 2, 7, 60, 300):
        check(spread(random, dimensions, shape, count), sizes(random, kind, count))


COORDINATES = st.one_of(
    st.integers(-6, 6).map(float),
    st.floats(-50.0, 50.0, width=32),
    st.sampled_from([1e9, -1e9, 2e9, 0.1, 1e5, float("nan"), float("inf"), -float("inf"), 1e-300]),
)
RADII = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 0.05, 10.0, 100.0, 1e9, -1.0, float("nan"), float("inf"), 1e-200]),
    st.floats(0.0, 4.0, width=32),
)
THINGS = st.lists(st.tuples(COORDINATES, COORDINATES, COORDINATES, RADII, st.booleans()), max_size=40)


@settings(max_examples=150, deadline=None)
@given(things=THINGS, dimensions=st.sampled_from([2, 3]))
def test_any_set_of_things_agrees_with_brute_force(
    things: list[tuple[float, float, float, float, bool]], dimensions: int
) -> None:
    table = np.array([thing[:4] for thing in things], np.float64).reshape(-1, 4)
    active = np.array([thing[4] for thing in things], np.bool_)
    check(np.ascontiguousarray(table[:, :dimensions]), np.ascontiguousarray(table[:, 3]), active)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_pairs_are_those_of_a_kd_tree_for_many_things(dimensions: int) -> None:
    random = np.random.default_rng(7)
    count = 20_000
    positions = random.uniform(-300.0 if dimensions == 2 else -60.0, 50.0, (count, dimensions))
    broad = Broadphase(count, dimensions=dimensions)
    broad.build(positions, np.full(count, 0.75))
    wanted = cKDTree(positions).query_pairs(1.5, output_type="ndarray")
    np.testing.assert_array_equal(in_order(broad.pairs()), in_order(wanted))
    assert broad.pair_count > count // 10


def test_two_dimensions_ignore_the_third_column() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 1e6], [0.0, 9.0, 0.0]])
    broad = Broadphase(3, dimensions=2)
    broad.build(positions, np.full(3, 0.25))
    assert broad.pairs().tolist() == [[0, 1]]


def test_touching_counts_and_a_hair_more_does_not() -> None:
    for gap, wanted in ((1.0, 1), (np.nextafter(1.0, 2.0), 0)):
        broad = Broadphase(2)
        broad.build(np.array([[0.0, 0.0, 0.0], [gap, 0.0, 0.0]]), np.full(2, 0.5))
        assert len(broad.pairs()) == wanted


def test_more_pairs_than_room_are_counted_and_nothing_is_written_beyond() -> None:
    full = Broadphase(40, pairs_max=2_000)
    tight = Broadphase(40, pairs_max=101)
    positions = np.zeros((40, 3))
    for broad in (full, tight):
        broad.build(positions, np.ones(40))
    kept = tight.pairs()
    assert kept.shape == (101, 2)
    assert tight.pair_count == 780
    assert tight.pairs_dropped == 679
    np.testing.assert_array_equal(kept, full.pairs()[:101])
    assert full.pairs_dropped == 0


def test_order_is_a_function_of_the_things_alone() -> None:
    random = np.random.default_rng(3)
    positions = random.uniform(-5.0, 5.0, (400, 3))
    radii = sizes(random, "octaves", 400)
    fresh, used = Broadphase(400, pairs_max=50_000), Broadphase(CAPACITY, pairs_max=50_000)
    used.build(positions[::-1].copy() * 900.0, radii)
    used.pairs()
    fresh.build(positions, radii)
    used.build(positions, radii)
    np.testing.assert_array_equal(fresh.pairs(), used.pairs())


def test_nothing_in_gives_nothing_out() -> None:
    broad = Broadphase(4)
    assert broad.pairs().shape == (0, 2)
    assert broad.build(np.zeros((0, 3)), np.zeros(0)) == 0
    assert broad.build(np.zeros((2, 3)), np.ones(2), np.zeros(2, np.bool_)) == 0
    assert broad.pairs().shape == (0, 2)


def test_arrays_that_do_not_fit_are_refused_by_name() -> None:
    broad = Broadphase(4)
    good = np.zeros((2, 3))
    with pytest.raises(BroadphaseError, match="positions: float32"):
        broad.build(good.astype(np.float32), np.ones(2))
    with pytest.raises(BroadphaseError, match="positions: shape"):
        broad.build(np.zeros((5, 3)), np.ones(5))
    with pytest.raises(BroadphaseError, match="positions: shape"):
        broad.build(np.zeros((2, 2)), np.ones(2))
    with pytest.raises(BroadphaseError, match="radii"):
        broad.build(good, np.ones(3))
    with pytest.raises(BroadphaseError, match="radii"):
        broad.build(good, np.ones(4)[::2])
    with pytest.raises(BroadphaseError, match="active"):
        broad.build(good, np.ones(2), np.ones(3, np.bool_))


@pytest.mark.parametrize(
    "options", [{"capacity": 0}, {"capacity": 8, "dimensions": 4}, {"capacity": 8, "pairs_max": 0}]
)
def test_options_out_of_range_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(BroadphaseError, match=r"choose"):
        Broadphase(**options)
