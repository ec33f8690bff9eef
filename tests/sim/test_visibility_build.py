"""Baking hides nothing that can be seen, walls separate however thin, and what was saved comes back or is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.maps.solids import Solids
from sim.arrays import F64, AnyArray
from sim.geometry import Geometry
from sim.navigation import Navigation
from sim.navigation_kernels import WALK
from sim.visibility import VisibilityError, VisibilityMap, pack_rows, sight_world, unpack_rows
from sim.visibility_build import BakeOptions, _grown, _neighbours
from sim.worldmap import Contents, WorldMap
from tests.reference.visibility import body_points, grow, sees
from tests.sim.sightlines import COARSE, EYE, HIGH_M, bake_map, corner, hall, make, same

MIDDLE = np.array([0.0, 0.0, 0.84])  # of a body, above its feet
LEFT, RIGHT = (-6.0, 1.0, 0.01), (6.0, 1.0, 0.01)


def rooms(*, gap: float, thick: float = 0.05) -> WorldMap:
    """Two rooms, x < 0 and x > 0, and a thin wall between them with a gap of some width at y = 0."""
    solids = Solids()
    hall(solids, 8.0, 6.0)
    for low, high in ((-6.0, -gap / 2), (gap / 2, 6.0)):
        solids.box((-thick / 2, low, 0.0), (thick / 2, high, HIGH_M))
    return make(solids, [LEFT, RIGHT])


def sides(known: VisibilityMap) -> tuple[AnyArray, AnyArray]:
    cell, place = known.voxels()
    return np.unique(cell[place[:, 0] < -0.25]), np.unique(cell[place[:, 0] > 0.25])


def test_a_thin_wall_without_a_gap_separates_two_rooms_entirely() -> None:
    known, _ = bake_map(rooms(gap=0.0))
    left, right = sides(known)
    assert len(left) > 20 and len(right) > 20 and not set(left) & set(right)
    grown = known.grown()
    assert not grown[np.ix_(left, right)].any()
    assert known.seen()[np.ix_(left, left)].all()


def test_a_gap_lets_some_cells_see_some() -> None:
    known, sight = bake_map(rooms(gap=1.5))
    left, right = sides(known)
    seen = known.seen()[np.ix_(left, right)]
    assert 0.05 < seen.mean() < 0.95
    ahead, aside = known.cells([[-6.0, 0.0, 1.2], [6.0, 0.0, 1.2]]), known.cells([[-1.0, 5.0, 1.2], [1.0, 5.0, 1.2]])
    assert known.seen()[ahead[0], ahead[1]] and not known.grown()[aside[0], aside[1]]
    assert not sight.any_hit([[-6.0, 0.0, 1.2]], [[6.0, 0.0, 1.2]], mask=int(Contents.SOLID))[0]


def test_doors_stop_no_sight_wherever_they_stand() -> None:
    solids, door = Solids(), Solids()
    hall(solids, 8.0, 6.0)
    solids.box((-0.1, -6.0, 0.0), (0.1, -1.0, HIGH_M))
    solids.box((-0.1, 1.0, 0.0), (0.1, 6.0, HIGH_M))
    door.box((-0.1, -1.0, 0.0), (0.1, 1.0, HIGH_M))
    world = make(solids, [LEFT, RIGHT], door)
    known, sight = bake_map(world)
    ends = known.cells([[-6.0, 0.0, 1.2], [6.0, 0.0, 1.2]])
    assert known.seen()[ends[0], ends[1]]
    assert len(sight.corners) == len(world.triangles) - 12


def test_a_map_of_nothing_solid_is_refused() -> None:
    world = corner()
    clip = WorldMap("clip", world.vertices, world.triangles, np.full_like(world.contents, 2), world.spawns)
    with pytest.raises(VisibilityError, match=r"map clip: none of its .* is solid"):
        sight_world(clip)


SIDE = st.integers(1, 4)
boxes = st.lists(
    st.tuples(st.integers(-7, 5), st.integers(-5, 3), SIDE, SIDE, st.sampled_from([0.8, 3.0])), min_size=2, max_size=7
)


@settings(max_examples=12)
@given(boxes, st.integers(0, 1 << 20))
def test_next_to_nothing_that_can_be_seen_is_hidden_by_cells(
    parts: list[tuple[int, int, int, int, float]], seed: int
) -> None:
    """Among boxes with slits between them a line of sight may be missed by every ray: one in a thousand is allowed."""
    solids = Solids()
    hall(solids, 8.0, 6.0)
    for x, y, wide, deep, high in parts:
        if not (x <= -7 <= x + wide and y <= -5 <= y + deep):  # the corner where the spawn point is stays free
            solids.box((x + 0.31, y + 0.17, 0.0), (x + wide + 0.03, y + deep - 0.12, high))
    world = make(solids, [(-7.4, -5.4, 0.01)])
    known, sight = bake_map(world)
    eyes, feet = _walked(Navigation.build(Geometry.build(world), world), np.random.default_rng(seed))
    eyes += EYE
    here, there = known.cells(eyes), known.cells(feet + MIDDLE)
    both = (here >= 0) & (there >= 0)
    hidden, seen = both & (known.grown()[here, there] == 0), sees(sight, eyes, feet)
    assert (seen & hidden).sum() <= 0.001 * seen.sum()
    assert both.mean() > 0.9


def _walked(navigation: Navigation, rng: np.random.Generator) -> tuple[F64, F64]:
    """Feet of two bodies anywhere on ways that are walked, 4,000 times, shape (4000, 3) each."""
    cell, column = np.nonzero(navigation.kinds == WALK)
    way = rng.integers(len(cell), size=(2, 4000))
    start, end = navigation.position[cell[way]], navigation.position[navigation.links[cell[way], column[way]]]
    feet = start + (end - start) * rng.random((2, 4000, 1))
    return feet[0], feet[1]


def test_growing_joins_the_rows_of_neighbours_on_both_sides() -> None:
    rng = np.random.default_rng(3)
    for count in (3, 65, 90):
        seen = (rng.random((count, count)) < 0.02).astype(np.uint8)
        seen |= seen.T | np.eye(count, dtype=np.uint8)
        one, two = rng.integers(count, size=(2, count))
        pairs = sorted(
            {(int(a), int(b)) for a, b in [*zip(one, two, strict=True), *zip(two, one, strict=True)] if a != b}
        )
        near = np.array([b for _, b in pairs], np.int32)
        start = np.searchsorted([a for a, _ in pairs], np.arange(count + 1)).astype(np.int32)
        grown = unpack_rows(_grown(seen, start, near), count)
        assert np.array_equal(grown, grow(seen, start, near)) and np.array_equal(grown, grown.T)
        assert grown.sum() > seen.sum()


def test_neighbours_are_a_stride_away_and_round_no_corner() -> None:
    # Five cells in a row of blocks, linked one to the next, and a sixth beside the third that no link leads to.
    blocks = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0], [3, 1, 0], [2, 1, 0]])
    links = np.full((6, 3), -1, np.int32)
    links[[0, 1, 2, 3], [0, 0, 0, 1]] = [1, 2, 3, 4]
    start, near = _neighbours(np.arange(6, dtype=np.int32), links, blocks)
    assert [near[start[cell] : start[cell + 1]].tolist() for cell in range(6)] == [
        [1],
        [0, 2],
        [1, 3, 4],
        [2, 4],
        [2, 3],
        [],
    ]


def test_the_same_map_gives_the_same_and_more_rays_find_more() -> None:
    world = rooms(gap=0.5)
    first, again = bake_map(world)[0], bake_map(world)[0]
    assert same(first, again)
    more = bake_map(world, BakeOptions(rays=16, ring_rays=512, points=24, reach_m=1.5))[0]
    assert more.seen().sum() > first.seen().sum() and more.grown().sum() >= first.grown().sum()


def test_blocks_grow_until_the_cells_fit() -> None:
    world = rooms(gap=1.0)
    fine = len(bake_map(world)[0])
    few = bake_map(world, BakeOptions(rays=8, ring_rays=8, cells_max=40))[0]
    assert len(few) <= 40 < fine
    with pytest.raises(VisibilityError, match="bake option rays is 0; give it 1 to 4096"):
        BakeOptions(rays=0)


def test_bits_are_packed_and_unpacked() -> None:
    seen = np.random.default_rng(1).integers(0, 2, (70, 70)).astype(np.uint8)
    rows = pack_rows(seen)
    assert rows.shape == (70, 2) and np.array_equal(unpack_rows(rows, 70), seen)
    assert int(rows[3, 1]) >> 5 & 1 == seen[3, 69]


@pytest.fixture(scope="module")
def known() -> VisibilityMap:
    return bake_map(corner(), COARSE)[0]


def test_what_is_saved_comes_back(known: VisibilityMap) -> None:
    back = VisibilityMap.from_arrays(known.to_arrays(), map_hash=known.map_hash)
    assert same(known, back)


def test_what_is_of_another_map_or_format_or_damaged_is_refused(known: VisibilityMap) -> None:
    saved = known.to_arrays()
    with pytest.raises(VisibilityError, match="needed is 1:other; bake it again"):
        VisibilityMap.from_arrays(saved, map_hash="other")
    for name in saved:
        for damaged in (None, saved[name][:-1], saved[name].astype(np.complex64)):
            arrays = {key: value for key, value in saved.items() if key != name}
            if damaged is not None:
                arrays[name] = damaged
            with pytest.raises(VisibilityError, match="bake it again"):
                VisibilityMap.from_arrays(arrays, map_hash=known.map_hash)
    for name, place, value in (
        ("figures", 3, 0.0), ("figures", 4, 1e9), ("figures", 0, np.nan), ("figures", 5, 2.5), ("voxels", -1, 1 << 30),
        ("voxels", 0, -1), ("cells", 0, len(known)), ("cells", 0, -1), ("grown", (0, 0), 0),
    ):  # fmt: skip
        arrays = {key: array.copy() for key, array in saved.items()}
        arrays[name][place] = value
        with pytest.raises(VisibilityError, match="do not fit together"):
            VisibilityMap.from_arrays(arrays, map_hash=known.map_hash)


def test_points_over_a_body_are_within_it() -> None:
    points = body_points(np.zeros((1, 3)), np.array([[3.0, 4.0, 1.0]]))
    away = points[0] - [3.0, 4.0, 1.0]
    assert np.hypot(away[:, 0], away[:, 1]).max() == pytest.approx(0.375 * 0.98)
    assert 0.0 < away[:, 2].min() < away[:, 2].max() < 1.4
