"""The crowd finds the same first body as a loop over all players."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64
from sim.crowd import Crowd
from sim.crowd_kernels import first_body
from tests.reference.arena import first_body as first_body_of_all


def unit(vector: F64) -> tuple[float, float, float]:
    length = float(np.linalg.norm(vector))
    return float(vector[0]) / length, float(vector[1]) / length, float(vector[2]) / length


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), players=st.integers(0, 60), spread=st.sampled_from([0.5, 8.0, 60.0, 3000.0]),
    flat=st.booleans(),
)  # fmt: skip
def test_the_first_body_is_the_same_as_by_trying_all(seed: int, players: int, spread: float, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    feet = rng.uniform(-1.0, 1.0, (players + 4, 3)) * (spread, spread, min(spread, 10.0))
    feet[: players // 4] = feet[players // 4 : 2 * (players // 4)]  # some stand in the same place: ties
    if flat:
        feet[:, 0] = np.round(feet[:, 0])
    height = rng.choice([1.0, 1.4, 2.5], players + 4)
    targets = rng.random(players + 4) < 0.8
    targets[players:] = False
    crowd = Crowd(players + 4)
    crowd.gather(feet, height, targets)
    assert crowd.count == targets.sum()
    for _ in range(20):
        aimed = rng.integers(0, players + 4)
        origin = (feet[rng.integers(0, players + 4)] + rng.normal(0.0, 1.0, 3)) * rng.choice([1.0, 1.0, 4.0])
        way = feet[aimed] + (0.0, 0.0, rng.uniform(0.0, 1.4)) - origin
        way = rng.choice([way, way * (1.0, 0.0, 0.0), way * (0.0, 1.0, 1e-3), way * (0.0, 0.0, 1.0)])
        if np.linalg.norm(way) < 1e-3:
            continue
        start = (float(origin[0]), float(origin[1]), float(origin[2]))
        reach, shooter = float(rng.choice([0.4, 20.0, 1e4])), int(rng.integers(-1, players + 4))
        found = first_body(crowd.arrays, start, unit(way), reach, shooter, feet, height)
        assert found == first_body_of_all(start, unit(way), reach, shooter, feet, height, targets)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
def test_impossible_places_harm_nobody_else(wrong: float) -> None:
    feet = np.array([[0.0, 0, 0], [wrong, wrong, 0], [5.0, 0, 0]])
    height = np.full(3, 1.4)
    crowd = Crowd(3)
    crowd.gather(feet, height, np.ones(3, np.bool_))
    assert crowd.count == 3
    if np.isnan(wrong):
        assert first_body(crowd.arrays, (1.0, 0.0, 0.8), (1.0, 0.0, 0.0), 50.0, -1, feet, height)[1] == 2


def test_an_empty_crowd_is_never_hit() -> None:
    crowd = Crowd(2)
    feet, height = np.zeros((2, 3)), np.full(2, 1.4)
    crowd.gather(feet, height, np.zeros(2, np.bool_))
    assert first_body(crowd.arrays, (-3.0, 0.0, 0.8), (1.0, 0.0, 0.0), 50.0, -1, feet, height) == (50.0, -1, 0)
