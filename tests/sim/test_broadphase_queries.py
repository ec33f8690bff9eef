"""Queries on the built grid find exactly what reading every thing finds, in any world."""

import numpy as np
import pytest

from sim.arrays import F64, I64
from sim.broadphase import Broadphase, BroadphaseError, Neighbours
from tests.reference.broadphase import naive_boxed, naive_near, naive_nearest, naive_ray, takes_part
from tests.sim.test_broadphase import SHAPES, SIZES, sizes, spread

COUNT = 250
QUERIES = 24


def world(dimensions: int, shape: str, kind: str) -> tuple[Broadphase, F64, F64, I64, np.random.Generator]:
    random = np.random.default_rng([77, dimensions, SHAPES.index(shape), SIZES.index(kind)])
    positions = spread(random, dimensions, shape, COUNT)
    radii = sizes(random, kind, COUNT)
    radii[3] = np.nan
    active = random.random(COUNT) < 0.9
    broad = Broadphase(COUNT, dimensions=dimensions)
    broad.build(positions, radii, active)
    return broad, positions, radii, np.flatnonzero(takes_part(positions, radii, active)), random


def probes(random: np.random.Generator, positions: F64) -> F64:
    """Query points with three columns: at things, near things, and far from all."""
    dimensions = positions.shape[1]
    points = np.full((QUERIES, 3), 123.0)
    points[:, :dimensions] = positions[random.integers(0, COUNT, QUERIES)]
    points[8:16, :dimensions] += random.uniform(-3.0, 3.0, (8, dimensions))
    points[16:, :dimensions] += random.uniform(-1.0, 1.0, (8, dimensions)) * 10.0 ** np.arange(8.0)[:, None]
    return points


WORLDS = pytest.mark.parametrize(
    ("dimensions", "shape", "kind"),
    [(dimensions, shape, kind) for dimensions in (2, 3) for shape in SHAPES for kind in ("same", "octaves", "boss")],
)


@WORLDS
def test_near_nearest_and_boxed_are_those_of_brute_force(dimensions: int, shape: str, kind: str) -> None:
    broad, positions, radii, slots, random = world(dimensions, shape, kind)
    points = probes(random, positions)
    reach = np.where(np.arange(QUERIES) % 5 == 0, 0.0, 10.0 ** random.uniform(-1.0, 2.0, QUERIES))
    out = Neighbours.room(QUERIES + 1, COUNT)
    broad.near(points, reach, out)
    for query in range(QUERIES):
        wanted = naive_near(positions, radii, slots, points[query, :dimensions], reach[query])
        count = out.counts[query]
        assert out.slots[query, :count].tolist() == [slot for _, slot in wanted]
        assert out.distances[query, :count].tolist() == [distance for distance, _ in wanted]
        assert (out.slots[query, count:] == -1).all()
    few = Neighbours.room(QUERIES, 7)
    limits = np.where(np.arange(QUERIES) % 3 == 0, np.inf, reach)
    broad.nearest(points, limits, few)
    for query in range(QUERIES):
        wanted = naive_nearest(positions, slots, points[query, :dimensions], limits[query], 7)
        assert few.slots[query, : few.counts[query]].tolist() == [slot for _, slot in wanted]
        assert np.isinf(few.distances[query, len(wanted) :]).all()
    low, high = points - reach[:, None], points + 2.0 * reach[:, None]
    broad.boxed(low, high, out)
    for query in range(QUERIES):
        wanted_slots = naive_boxed(positions, radii, slots, low[query, :dimensions], high[query, :dimensions])
        assert out.slots[query, : out.counts[query]].tolist() == wanted_slots


@WORLDS
def test_rays_meet_what_brute_force_meets(dimensions: int, shape: str, kind: str) -> None:
    broad, positions, radii, slots, random = world(dimensions, shape, kind)
    origins = probes(random, positions)
    directions = random.normal(0.0, 1.0, (QUERIES, 3))
    directions[:12, :dimensions] = positions[random.integers(0, COUNT, 12)] - origins[:12, :dimensions]
    directions[12:15] = [[-2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [1.0, 0.0, 0.5]]
    directions[np.all(directions[:, :dimensions] == 0.0, axis=1), 0] = 1.0
    reaches = np.where(np.arange(QUERIES) % 2 == 0, np.inf, 60.0)
    distances, found = np.zeros(QUERIES), np.zeros(QUERIES, np.int32)
    broad.cast(origins, directions, reaches, np.full(QUERIES, -1, np.int32), distances=distances, slots=found)
    for ray in range(QUERIES):
        origin, direction = origins[ray, :dimensions], directions[ray, :dimensions]
        wanted, slot = naive_ray(positions, radii, slots, origin, direction, reaches[ray])
        if found[ray] != slot:
            # A graze, or two equally near within rounding: the spheres differ, the distances must not.
            either = [s for s in (slot, int(found[ray])) if s >= 0]
            assert all(graze(positions[s], radii[s], origin, direction) < 1e-6 for s in either) or (
                len(either) == 2 and abs(wanted - distances[ray]) <= 1e-6 * (1.0 + wanted)
            )
        elif slot >= 0:
            assert abs(wanted - distances[ray]) <= 1e-6 * (1.0 + wanted)


def graze(centre: F64, radius: float, origin: F64, direction: F64) -> float:
    """How far a line passes from a sphere's surface, relative to the sizes involved."""
    way = direction / np.sqrt(np.sum(direction * direction))
    apart = centre - origin
    along = float(np.sum(apart * way))
    passes = float(np.sqrt(np.sum((apart - along * way) ** 2)))
    return abs(passes - radius) / (1.0 + abs(along))


def test_ties_go_to_the_lowest_slot() -> None:
    broad = Broadphase(6)
    around = [[4.0, 0, 0], [0, 4.0, 0], [4.0, 0, 0], [0, -4.0, 0], [-4.0, 0, 0], [0, 0, 4.0]]
    broad.build(np.array(around), np.ones(6))
    out = Neighbours.room(1, 3)
    assert broad.nearest(np.zeros((1, 3)), np.full(1, np.inf), out).tolist() == [[0, 1, 2]]
    assert broad.near(np.zeros((1, 3)), np.full(1, 3.0), out).tolist() == [[0, 1, 2]]
    assert out.counts[0] == 6
    distances, slots = np.zeros(2), np.zeros(2, np.int32)
    ahead = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    ignored = np.array([-1, 0], np.int32)
    broad.cast(np.zeros((2, 3)), ahead, np.full(2, 9.0), ignored, distances=distances, slots=slots)
    assert slots.tolist() == [0, 2]
    assert distances.tolist() == [3.0, 3.0]


def test_more_answers_than_room_keep_the_first_of_their_order_and_show_the_count() -> None:
    positions = np.zeros((100, 3))
    positions[:, 0] = np.arange(100.0)[::-1]
    broad = Broadphase(100)
    broad.build(positions, np.full(100, 0.1))
    out = Neighbours.room(1, 4)
    assert broad.near(np.zeros((1, 3)), np.full(1, 50.0), out).tolist() == [[99, 98, 97, 96]]
    assert out.counts[0] == 51
    assert broad.boxed(np.full((1, 3), -1.0), np.full((1, 3), 50.0), out).tolist() == [[49, 50, 51, 52]]
    assert out.counts[0] == 51


def test_a_ray_stops_at_its_reach_and_starts_inside_at_distance_zero() -> None:
    broad = Broadphase(1)
    broad.build(np.array([[10.0, 0.0, 0.0]]), np.ones(1))
    origins = np.array([[0.0, 0, 0], [0.0, 0, 0], [10.5, 0, 0], [12.0, 0, 0], [0.0, 0, 0]])
    directions = np.array([[5.0, 0, 0], [5.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0]])
    distances, slots = np.zeros(5), np.zeros(5, np.int32)
    reaches = np.array([8.9, 9.0, 5.0, 5.0, 5.0])
    broad.cast(origins, directions, reaches, np.full(5, -1, np.int32), distances=distances, slots=slots)
    assert slots.tolist() == [-1, 0, 0, -1, -1]
    assert distances.tolist() == [np.inf, 9.0, 0.0, np.inf, np.inf]


def test_questions_that_make_no_sense_find_nothing() -> None:
    broad = Broadphase(2)
    broad.build(np.zeros((2, 3)), np.ones(2))
    out = Neighbours.room(4, 2)
    points = np.array([[np.nan, 0, 0], [0, 0, 0], [0, 0, 0], [np.inf, 0, 0]])
    radii = np.array([1.0, -1.0, np.nan, 5.0])
    for query in (broad.near, broad.nearest):
        query(points, radii, out)
        assert out.counts.tolist() == [0, 0, 0, 0]
        assert (out.slots == -1).all()
    broad.boxed(np.ones((1, 3)), -np.ones((1, 3)), out)
    assert out.counts[0] == 0
    distances, slots = np.zeros(2), np.zeros(2, np.int32)
    rays = np.array([[np.nan, 1.0, 0], [np.inf, 0.0, 0.0]])
    nobody = np.full(2, -1, np.int32)
    broad.cast(np.zeros((2, 3)), rays, np.ones(2), nobody, distances=distances, slots=slots)
    assert slots.tolist() == [-1, -1]


def test_an_empty_grid_answers_every_query() -> None:
    broad = Broadphase(2)
    broad.build(np.zeros((0, 3)), np.zeros(0))
    out = Neighbours.room(1, 2)
    for query in (broad.near, broad.nearest):
        assert query(np.zeros((1, 3)), np.full(1, np.inf), out).tolist() == [[-1, -1]]
    assert broad.boxed(np.full((1, 3), -np.inf), np.full((1, 3), np.inf), out).tolist() == [[-1, -1]]


def test_queries_that_do_not_fit_are_refused_by_name() -> None:
    broad = Broadphase(2)
    out = Neighbours.room(2, 2)
    with pytest.raises(BroadphaseError, match="points"):
        broad.near(np.zeros((1, 2)), np.ones(1), out)
    with pytest.raises(BroadphaseError, match="radii"):
        broad.nearest(np.zeros((2, 3)), np.ones(1), out)
    with pytest.raises(BroadphaseError, match="make room for 3"):
        broad.boxed(np.zeros((3, 3)), np.zeros((3, 3)), out)
    one, slot = np.zeros((1, 3)), np.zeros(1, np.int32)
    with pytest.raises(BroadphaseError, match="ignored"):
        broad.cast(one, one, np.ones(1), np.zeros(2, np.int32), distances=np.zeros(1), slots=slot)
    with pytest.raises(BroadphaseError, match="room"):
        Neighbours.room(0, 4)
