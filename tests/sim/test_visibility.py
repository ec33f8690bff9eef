"""What viewers are told of: what cells settle costs no ray, what they leave open is asked, and no peek is told late."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.maps.solids import Solids
from sim.geometry import Geometry
from sim.visibility import Visibility, VisibilityError, VisibilityMap, VisibilityRules, sight_world
from sim.visibility_kernels import (
    DOUBTED,
    HIDDEN_BY_CELLS,
    HIDDEN_BY_RAYS,
    NOBODY,
    SEEN_BY_CELLS,
    SEEN_BY_RAYS,
)
from tests.reference.visibility import sees
from tests.sim.sightlines import EYE, HIGH_M, Pairs, bake_map, blind, corner, hall, make

Sights = tuple[VisibilityMap, Geometry]
BOTH = [VisibilityRules(), VisibilityRules(strict=True)]
HZ = 60
LATENCY_TICKS = 9  # 150 ms
MIDDLE = np.array([0.0, 0.0, 0.84])


@pytest.fixture(scope="module")
def bent() -> Sights:
    return bake_map(corner())


@pytest.fixture(scope="module")
def walled() -> Geometry:
    """A hall with a wall across it at x = 0, all of whose sight is left to rays."""
    solids = Solids()
    hall(solids, 20.0, 20.0)
    solids.box((-0.2, -20.0, 0.0), (0.2, 20.0, HIGH_M))
    return Geometry.build(sight_world(make(solids, [(-6.0, 0.0, 0.01)])))


NEAR, BESIDE, BEHIND = (-6.0, 0.0, 0.01), (-6.0, 4.0, 0.01), (6.0, 0.0, 0.01)


@pytest.mark.parametrize("rules", BOTH)
def test_what_cells_settle_costs_no_ray(bent: Sights, rules: VisibilityRules) -> None:
    pairs = Pairs(*bent, [(-6.0, -6.0, 0.01), (-6.0, -2.0, 0.01), (-1.0, 11.0, 0.01), (11.0, -1.0, 0.01)], rules=rules)
    found = pairs.ask(3)
    assert found[0].tolist() == [NOBODY, SEEN_BY_CELLS, SEEN_BY_CELLS, SEEN_BY_CELLS]
    assert found[2, 3] == found[3, 2] == HIDDEN_BY_CELLS
    counts = pairs.visibility.counts
    assert counts["rays"] == 0 and counts["hidden_by_cells"] == 6 and counts["seen_by_cells"] == 30
    assert np.array_equal(found, found.T)


@settings(max_examples=10)
@given(seed=st.integers(0, 1 << 20))
def test_cells_answer_as_the_map_says_for_bodies_at_rest(bent: Sights, seed: int) -> None:
    known = bent[0]
    rng = np.random.default_rng(seed)
    feet = np.concatenate([rng.uniform(-11.5, 11.5, (24, 2)), np.full((24, 1), 0.01)], axis=1)
    found = Pairs(*bent, feet).ask()
    eye, body = known.cells(feet + EYE), known.cells(feet + MIDDLE)
    for viewer in range(24):
        for other in range(24):
            if viewer == other:
                continue
            if eye[viewer] < 0 or body[other] < 0:
                continue  # points beside them are looked up then
            seen = known.seen()[eye[viewer], body[other]] != 0
            grown = known.grown()[eye[viewer], body[other]] != 0
            assert (found[viewer, other] == SEEN_BY_CELLS) == seen
            assert (found[viewer, other] == HIDDEN_BY_CELLS) == (not grown)


def _first_told_and_seen(bent: Sights, rules: VisibilityRules, path: np.ndarray, still: tuple[float, ...]) -> list[int]:
    """Ticks of the first telling and the first sight, of the one who runs along the path and of the other."""
    pairs = Pairs(*bent, [path[0], still], rules=rules)
    first = [-1, -1, -1, -1]
    for tick, place in enumerate(path):
        pairs.velocity[0] = (path[min(tick + 1, len(path) - 1)] - path[max(tick - 1, 0)]) * (HZ / 2)
        pairs.feet[0] = place
        found = pairs.ask()
        sight = sees(bent[1], pairs.feet + EYE, pairs.feet[::-1])
        for which, event in enumerate((found[0, 1] >= DOUBTED, sight[0], found[1, 0] >= DOUBTED, sight[1])):
            if event and first[which] < 0:
                first[which] = tick
    return first


@pytest.mark.parametrize("rules", BOTH)
@pytest.mark.parametrize("along", [0.6, 1.5, 4.0])
@pytest.mark.parametrize("away", [1.0, 3.0, 9.0])
def test_a_peek_round_a_corner_at_full_speed_is_told_a_latency_before_the_first_sight(
    bent: Sights, rules: VisibilityRules, along: float, away: float
) -> None:
    ticks = np.arange(0, 140)
    path = np.stack([np.full(140, -along), 11.0 - ticks * (8.0 / HZ), np.full(140, 0.01)], axis=1)
    still = (away, -0.5, 0.01)
    told, seen, told_back, seen_back = _first_told_and_seen(bent, rules, path, still)
    assert seen >= LATENCY_TICKS and seen_back >= LATENCY_TICKS  # it begins out of sight
    assert 0 <= told <= seen - LATENCY_TICKS
    assert 0 <= told_back <= seen_back - LATENCY_TICKS


def test_far_from_the_corner_the_other_is_not_told_of(bent: Sights) -> None:
    found = Pairs(*bent, [(-1.5, 11.0, 0.01), (9.0, -0.5, 0.01)], rules=VisibilityRules(strict=True)).ask(30)
    assert (found < DOUBTED).all()


def test_strict_rules_tell_of_nothing_without_a_free_ray(walled: Geometry) -> None:
    pairs = Pairs(blind(), walled, [NEAR, BESIDE, BEHIND], rules=VisibilityRules(strict=True))
    first = pairs.ask()
    assert first[0].tolist() == [NOBODY, SEEN_BY_RAYS, HIDDEN_BY_RAYS]
    for _ in range(40):
        assert pairs.ask()[2, :2].tolist() == [HIDDEN_BY_RAYS] * 2
    assert pairs.visibility.counts["unknown_cell"] == 41 * 6


def test_other_rules_tell_until_a_whole_round_of_rays_was_stopped(walled: Geometry) -> None:
    rules = VisibilityRules(round=10, burst=3, rays=8, proof_ticks=6)
    pairs = Pairs(blind(), walled, [NEAR, BEHIND], rules=rules)
    assert [int(pairs.ask()[0, 1]) for _ in range(3)] == [DOUBTED] * 3
    assert [int(pairs.ask()[0, 1]) for _ in range(30)] == [HIDDEN_BY_RAYS] * 30
    never = Pairs(blind(), walled, [NEAR, BEHIND], rules=VisibilityRules(rays=0))
    assert (never.ask(40)[[0, 1], [1, 0]] == DOUBTED).all() and never.visibility.counts["rays"] == 0


def test_rays_are_kept_to_the_budget_and_everybody_gets_a_turn(walled: Geometry) -> None:
    behind = [(6.0, 0.4 * k, 0.01) for k in range(20)]
    rules = VisibilityRules(rays=7, burst=3, round=5, proof_ticks=60)
    pairs = Pairs(blind(), walled, [NEAR, *behind], rules=rules)
    pairs.due = np.zeros(1, np.int32)
    before = 0
    for _ in range(40):
        pairs.ask()
        spent = pairs.visibility.counts["rays"] - before
        before += spent
        assert spent <= 7
    assert (pairs.ask()[0, 1:] == HIDDEN_BY_RAYS).all()


def test_a_free_ray_is_remembered_and_then_not(walled: Geometry) -> None:
    pairs = Pairs(blind(), walled, [NEAR, BESIDE], rules=VisibilityRules(strict=True, memory_ticks=5, confirm_ticks=2))
    pairs.ask(4)
    pairs.feet[1] = BEHIND
    told = [bool(pairs.ask()[0, 1] >= DOUBTED) for _ in range(12)]
    assert told[:3] == [True] * 3 and not any(told[5:])
    pairs.feet[1] = BESIDE
    assert pairs.ask(24)[0, 1] == SEEN_BY_RAYS


def test_confirming_a_free_ray_takes_one_ray_now_and_then(walled: Geometry) -> None:
    pairs = Pairs(blind(), walled, [NEAR, BESIDE], rules=VisibilityRules(memory_ticks=12, confirm_ticks=6))
    pairs.ask(71)
    # One at the beginning and one in seven ticks from then on, for each of the two.
    assert pairs.visibility.counts["rays"] == 2 * (1 + 70 // 7)


def test_another_body_in_a_slot_or_row_is_looked_at_anew(walled: Geometry) -> None:
    rules = VisibilityRules(strict=True, memory_ticks=600, confirm_ticks=600)
    pairs = Pairs(blind(), walled, [NEAR, BESIDE, BEHIND], rules=rules)
    pairs.ask()
    pairs.candidates[0] = [-1, 2, -1]
    found = pairs.ask()
    assert found[0].tolist() == [NOBODY, HIDDEN_BY_RAYS, NOBODY]
    pairs.feet[1] = BEHIND
    assert pairs.ask()[2, 1] >= DOUBTED  # both behind the wall now
    pairs.identity[1] = 77
    pairs.feet[1] = BESIDE
    assert pairs.ask()[2, 1] == HIDDEN_BY_RAYS
    pairs.identity[1] = 0
    assert pairs.ask()[2, 1] == NOBODY


def test_a_forgotten_viewer_begins_anew(walled: Geometry) -> None:
    pairs = Pairs(blind(), walled, [NEAR, BESIDE], rules=VisibilityRules(strict=True, memory_ticks=600, rays=1))
    pairs.ask()
    pairs.feet[1] = BEHIND
    assert pairs.ask()[0, 1] == SEEN_BY_RAYS
    pairs.visibility.forget(0)
    assert pairs.visibility.found[0, 1] == NOBODY
    assert pairs.ask()[0].tolist() == [NOBODY, HIDDEN_BY_RAYS]
    with pytest.raises(VisibilityError, match="viewer 2 is not one of 0 to 1"):
        pairs.visibility.forget(2)


def test_small_things_are_left_to_rays(bent: Sights) -> None:
    pairs = Pairs(*bent, [(-6.0, -6.0, 0.01), (-6.0, 6.0, 0.01)])
    pairs.size[1] = 0.1, 0.1
    found = pairs.ask()
    assert found[0, 1] == SEEN_BY_RAYS and found[1, 0] == SEEN_BY_CELLS


def test_only_the_viewers_that_are_due_are_decided_for(bent: Sights) -> None:
    pairs = Pairs(*bent, [(-6.0, -6.0, 0.01), (-6.0, 6.0, 0.01)])
    pairs.due = np.array([1], np.int32)
    found = pairs.ask()
    assert found.tolist() == [[NOBODY, NOBODY], [SEEN_BY_CELLS, NOBODY]]
    pairs.due = np.zeros(0, np.int32)
    assert np.array_equal(pairs.ask(), found)


def test_viewers_without_a_body_or_off_the_map_see_by_rays(walled: Geometry, bent: Sights) -> None:
    pairs = Pairs(blind(), walled, [NEAR, BESIDE, BEHIND], rules=VisibilityRules(strict=True))
    pairs.own[:] = -1
    assert (pairs.ask(9)[0] >= DOUBTED).tolist() == [False, True, False]
    lost = Pairs(
        *bent, [(-6.0, -6.0, 0.01), (np.nan, 6.0, 0.01), (1e9, -1e9, 1e30)], rules=VisibilityRules(strict=True)
    )
    lost.candidates[0] = [-1, 1, 99]
    lost.candidates[1] = [0, -7, 2]
    lost.velocity[0] = np.inf
    found = lost.ask(5)
    assert found[0, 2] == found[1, 1] == NOBODY


def test_the_same_inputs_give_the_same_in_any_order_of_viewers(bent: Sights) -> None:
    rng = np.random.default_rng(8)
    feet = np.concatenate([rng.uniform(-11.5, 11.5, (40, 2)), np.full((40, 1), 0.01)], axis=1)
    runs = [Pairs(*bent, feet, rules=VisibilityRules(strict=True)) for _ in range(2)]
    runs[1].due = runs[1].due[::-1].copy()
    for _ in range(20):
        move = rng.uniform(-0.1, 0.1, (40, 3)) * [1.0, 1.0, 0.0]
        found = []
        for pairs in runs:
            pairs.feet += move
            pairs.velocity[:] = move * HZ
            found.append(pairs.ask())
        assert np.array_equal(found[0], found[1])
    assert runs[0].visibility.counts == runs[1].visibility.counts
    assert {HIDDEN_BY_CELLS, SEEN_BY_CELLS} < set(np.unique(found[0]))


def test_what_does_not_fit_is_refused_in_one_line(bent: Sights) -> None:
    with pytest.raises(VisibilityError, match="visibility slots is 0; give it 1 to 1024"):
        Visibility(*bent, viewers=1, slots=0, bodies=1)
    with pytest.raises(VisibilityError, match="visibility rule round is 999; give it 1 to 255"):
        VisibilityRules(round=999)
    pairs = Pairs(*bent, [(-6.0, -6.0, 0.01), (-6.0, 6.0, 0.01)])
    pairs.ask()
    for name, value, told in (
        ("velocity", np.zeros((2, 2)), r"velocity is float64 \(2, 2\); it must be float64 \(2, 3\)"),
        ("identity", np.zeros(2, np.int64), "identity is int64"),
        ("feet", np.zeros((3, 3)), "3 bodies, at most 2"),
        ("horizon", np.zeros(3), "horizon is float64"),
        ("candidates", np.zeros((2, 2), np.int64), "candidates is int64"),
        ("due", np.array([2], np.int32), "due holds a viewer that is not one of 0 to 1"),
        ("own", np.array([0, 2], np.int32), "own is 2 for some viewer, but there are 2 bodies"),
    ):
        kept = getattr(pairs, name)
        setattr(pairs, name, value)
        with pytest.raises(VisibilityError, match=told):
            pairs.ask()
        setattr(pairs, name, kept)
