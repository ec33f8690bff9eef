import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64, I32
from sim.motion_kernels import CROUCHING, ON_GROUND
from sim.separation import Separation
from sim.worldmap import WorldMap
from tests.sim.boxes import Walker, box, floor, world_of

RADIUS = 0.375
AHEAD = 127


def all_pairs(count: int) -> I32:
    first, second = np.triu_indices(count, 1)
    return np.ascontiguousarray(np.column_stack([first, second]), np.int32)


class Match(Walker):
    """A walker whose players meet."""

    def __init__(self, world: WorldMap, places: F64, *, hz: float = 60.0, meetings_max: int = 4096) -> None:
        super().__init__(world, hz=hz, count=len(places))
        self.position[:] = places
        self.pairs = all_pairs(len(places))
        self.separation = Separation(self.motion, meetings_max=meetings_max)

    def part(self, previous: F64) -> int:
        state = (self.position, self.velocity, self.ground, self.yaw, self.pitch, self.flags)
        return self.separation.separate(
            state, previous, active=self.active, pairs=self.pairs, pair_count=len(self.pairs)
        )

    def step(self) -> None:
        previous = self.position.copy()
        super().step()
        self.part(previous)

    def least_distance(self) -> float:
        """Between the axes of any two players that overlap in height."""
        i, j = self.pairs.T
        height = np.where(self.flags & CROUCHING, 1.0, 1.4)
        z = self.position[j, 2] - self.position[i, 2]
        gap = np.maximum(0, np.maximum(z - (height[i] - 2 * RADIUS), -z - (height[j] - 2 * RADIUS)))
        flat = self.position[j, :2] - self.position[i, :2]
        return float(np.sqrt((flat**2).sum(axis=1) + gap**2).min())


@pytest.mark.parametrize("hz", [20, 60, 128])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_two_who_run_at_each_other_never_pass_through(hz: int, offset: float) -> None:
    match = Match(world_of(floor()), np.array([[-4.0, 0.0, 0.0], [4.0, offset, 0.0]]), hz=hz)
    match.look[1] = 32768
    match.forward[:] = AHEAD
    for _ in range(2 * hz):
        match.step()
        assert match.least_distance() > 2 * RADIUS - 0.02
    if offset == 0.0:
        assert match.position[0, 0] == pytest.approx(-RADIUS, abs=1e-6)
        assert match.position[1, 0] == pytest.approx(RADIUS, abs=1e-6)


def test_terminal_speed_does_not_tunnel_through_a_player() -> None:
    match = Match(world_of(floor()), np.array([[-2.0, 0.1, 5.0], [2.0, 0.0, 5.0]]), hz=20)
    match.velocity[:, 0] = [75.0, -75.0]
    match.step()
    assert match.position[0, 0] < match.position[1, 0]
    assert match.least_distance() > 2 * RADIUS - 1e-6


def test_overlapping_players_are_pushed_apart_by_equal_shares() -> None:
    match = Match(world_of(floor()), np.array([[0.0, 0.0, 0.0], [0.3, 0.0, 0.0]]))
    assert match.part(match.position.copy()) == 1
    np.testing.assert_allclose(match.position[:, 0], [0.15 - RADIUS, 0.15 + RADIUS], atol=1e-12)
    assert match.part(match.position.copy()) == 0


def test_players_in_the_very_same_place_part() -> None:
    match = Match(world_of(floor()), np.zeros((2, 3)))
    match.part(match.position.copy())
    assert match.least_distance() > 2 * RADIUS - 1e-9


def test_nobody_is_pushed_through_a_wall_and_the_other_gives_way() -> None:
    wall = box((1.0, -5.0, 0.0), (1.1, 5.0, 3.0))
    match = Match(world_of(floor(), wall), np.array([[1.0 - RADIUS, 0.0, 0.0], [0.4, 0.0, 0.0]]))
    match.part(match.position.copy())
    assert match.position[0, 0] <= 1.0 - RADIUS + 1e-9
    assert match.least_distance() > 2 * RADIUS - 1e-6


def test_a_head_can_be_stood_on_and_jumped_from() -> None:
    match = Match(world_of(floor()), np.array([[0.0, 0.0, 0.0], [0.05, 0.0, 3.0]]))
    for _ in range(90):
        match.step()
    assert match.position[0].tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert 1.3 < match.position[1, 2] < 1.45
    match.buttons[1] = 1
    top = 0.0
    for _ in range(30):
        match.step()
        top = max(top, match.position[1, 2])
    assert top > 2.3


def test_the_result_does_not_depend_on_the_order_of_the_pairs() -> None:
    rng = np.random.default_rng(2)
    places = np.column_stack([rng.uniform(-2, 2, (30, 2)), np.zeros(30)])
    results = []
    for order in ("as is", "reversed", "shuffled", "flipped"):
        match = Match(world_of(floor()), places)
        match.pairs = {
            "as is": match.pairs, "reversed": match.pairs[::-1].copy(),
            "shuffled": rng.permutation(match.pairs), "flipped": match.pairs[:, ::-1].copy(),
        }[order]  # fmt: skip
        match.part(places)
        results.append(match.position.tobytes())
    assert len(set(results)) == 1


def test_more_meetings_than_there_is_room_for_are_counted() -> None:
    match = Match(world_of(floor()), np.zeros((5, 3)), meetings_max=4)
    assert match.part(match.position.copy()) == 10
    assert match.separation.overflow == 6


def test_inactive_players_are_no_obstacle() -> None:
    match = Match(world_of(floor()), np.zeros((2, 3)))
    match.active[1] = False
    assert match.part(match.position.copy()) == 0


def test_who_is_pushed_off_a_ledge_falls() -> None:
    world = world_of(floor(), box((-5.0, -5.0, 0.0), (0.0, 5.0, 3.0)))
    match = Match(world, np.array([[-2.0, 0.0, 3.0], [-0.4, 0.0, 3.0]]))
    for _ in range(20):
        match.step()
    assert match.flags[1] & ON_GROUND
    match.forward[0] = AHEAD
    for _ in range(240):
        match.step()
    assert match.position[1, 2] < 1.0


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_crowd_in_a_pen_stays_in_it_and_out_of_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sides = [box((-6, y, 0), (6, y + 0.1, 4)) for y in (-5.1, 5.0)] + [
        box((x, -6, 0), (x + 0.1, 6, 4)) for x in (-5.1, 5.0)
    ]
    world = world_of(floor(), *sides)
    match = Match(world, np.column_stack([rng.uniform(-4.5, 4.5, (24, 2)), np.zeros(24)]))
    for _ in range(8):
        match.forward[:] = rng.choice([0, 127, 127], 24)
        match.buttons[:] = rng.integers(0, 4, 24)
        match.look[:] = rng.integers(0, 65536, 24)
        for _ in range(15):
            match.step()
        assert np.abs(match.position[:, :2]).max() <= 5.0 - RADIUS + 1e-6
        assert match.position[:, 2].min() > -1e-6
    match.forward[:] = 0
    match.buttons[:] = 0
    for _ in range(60):
        match.step()
    assert match.least_distance() > 2 * RADIUS - 0.02
