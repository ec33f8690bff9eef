"""The crowd finds the same first body as a loop over all players, at every moment of its window."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64, I16, U16
from sim.crowd import Crowd
from sim.crowd_kernels import first_body
from sim.rewind import PoseHistory
from tests.reference.arena import first_body as first_body_of_all

TICKS = 9
NOBODY = (-1, -1, -1, -1)


def unit(vector: F64) -> tuple[float, float, float]:
    length = float(np.linalg.norm(vector))
    return float(vector[0]) / length, float(vector[1]) / length, float(vector[2]) / length


def looks(count: int) -> tuple[U16, I16, U16]:
    return np.zeros(count, np.uint16), np.zeros(count, np.int16), np.zeros(count, np.uint16)


def wander(seed: int, players: int, spread: float, *, flat: bool) -> PoseHistory:
    """Players who walk, and some who are carried far away in a tick, over `TICKS` ticks."""
    rng = np.random.default_rng(seed)
    feet = rng.uniform(-1.0, 1.0, (players, 3)) * (spread, spread, min(spread, 10.0))
    feet[: players // 4] = feet[players // 4 : 2 * (players // 4)]  # some stand in the same place: ties
    height = rng.choice([1.0, 1.4, 2.5], players)
    history = PoseHistory(players, tick_hz=60, kept_ticks=TICKS)
    alive, ids = rng.random(players) < 0.8, np.arange(1, players + 1, dtype=np.uint64)
    born = rng.integers(0, TICKS, players)
    for tick in range(1, TICKS + 1):
        feet = feet + rng.normal(0.0, 0.2, feet.shape) * (rng.random((players, 1)) < 0.7)
        feet[rng.random(players) < 0.03] *= -1.0
        if flat:
            feet[:, 0] = np.round(feet[:, 0])
        history.record(tick, ids, alive, born, (feet, height, *looks(players)))
    return history


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32), players=st.integers(1, 60), spread=st.sampled_from([0.5, 8.0, 60.0, 3000.0]),
    flat=st.booleans(),
)  # fmt: skip
def test_the_first_body_is_the_same_as_by_trying_all(seed: int, players: int, spread: float, flat: bool) -> None:
    rng = np.random.default_rng(seed)
    history, crowd = wander(seed, players, spread, flat=flat), Crowd(players)
    crowd.gather(history, TICKS - 1)
    now = history.poses()
    assert crowd.count == now.there.sum()
    for _ in range(20):
        rewind = int(rng.choice([0, 256, 700, 256 * (TICKS - 1), int(rng.integers(0, 256 * (TICKS - 1)))]))
        then = history.poses(rewind)
        aimed = rng.integers(0, players)
        origin = (then.feet[rng.integers(0, players)] + rng.normal(0.0, 1.0, 3)) * rng.choice([1.0, 1.0, 4.0])
        way = then.feet[aimed] + (0.0, 0.0, rng.uniform(0.0, 1.4)) - origin
        way = rng.choice([way, way * (1.0, 0.0, 0.0), way * (0.0, 1.0, 1e-3), way * (0.0, 0.0, 1.0)])
        if np.linalg.norm(way) < 1e-3:
            continue
        start = (float(origin[0]), float(origin[1]), float(origin[2]))
        reach, shooter = float(rng.choice([0.4, 20.0, 1e4])), int(rng.integers(-1, players))
        found = first_body(
            crowd.arrays, history.arrays, (TICKS, rewind), start, unit(way), reach, 0.0, (shooter, -1, -1, -1)
        )
        assert found == first_body_of_all(start, unit(way), reach, shooter, then.feet, then.height, then.there)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1e300])
def test_impossible_places_harm_nobody_else(wrong: float) -> None:
    feet = np.array([[0.0, 0, 0], [wrong, wrong, 0], [5.0, 0, 0]])
    history, crowd = PoseHistory(3, tick_hz=60, kept_ticks=2), Crowd(3)
    everyone = (np.arange(1, 4, dtype=np.uint64), np.ones(3, np.bool_), np.zeros(3, np.int64))
    history.record(1, *everyone, (feet, np.full(3, 1.4), *looks(3)))
    crowd.gather(history)
    assert crowd.count == 3
    if np.isnan(wrong):
        ray = ((1.0, 0.0, 0.8), (1.0, 0.0, 0.0))
        assert first_body(crowd.arrays, history.arrays, (1, 0), *ray, 50.0, 0.0, NOBODY)[1] == 2


def test_an_empty_crowd_is_never_hit() -> None:
    history, crowd = PoseHistory(2, tick_hz=60, kept_ticks=2), Crowd(2)
    crowd.gather(history)
    ray = ((-3.0, 0.0, 0.8), (1.0, 0.0, 0.0))
    assert first_body(crowd.arrays, history.arrays, (0, 0), *ray, 50.0, 0.0, NOBODY) == (50.0, -1, 0)
