"""The hierarchy answers exactly as a test of every triangle does."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64, I32, U16, AnyArray
from sim.geometry import Geometry, GeometryError
from sim.geometry_kernels import GEOMETRY_TYPE, LEAF_TRIANGLES, GeometryArrays, blocking_leaf, gather_box_single
from sim.jit import kernel
from sim.worldmap import Contents, SpawnPoint, WorldMap
from tests.reference import geometry as naive

SOLID, WATER = int(Contents.SOLID), int(Contents.WATER)


def world_of(vertices: F64, triangles: I32, contents: U16 | None = None) -> WorldMap:
    if contents is None:
        contents = np.full(len(triangles), SOLID, np.uint16)
    return WorldMap("test", vertices, triangles, contents, (SpawnPoint((0.0, 0.0, 0.0), 0),))


def soup(seed: int, count: int, *, size: float = 2.0, spread: float = 20.0, shift: float = 0.0) -> WorldMap:
    """Random triangles, some without area, some twice the same, some axis-aligned; two kinds of contents."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(-spread, spread, (count, 1, 3)) + shift
    points = middle + rng.uniform(-size, size, (count, 3, 3))
    thin = rng.random(count) < 0.05
    points[thin, 2] = points[thin, 1]
    flat = rng.random(count) < 0.3
    points[flat, :, 2] = np.round(points[flat, :1, 2])
    twins = rng.integers(0, count, count // 10)
    points[twins] = points[(twins * 7) % count]
    contents = np.where(rng.random(count) < 0.2, WATER, SOLID).astype(np.uint16)
    return world_of(points.reshape(-1, 3), np.arange(3 * count, dtype=np.int32).reshape(-1, 3), contents)


def box_room(size: float = 1.0) -> WorldMap:
    """The unit cube's surface, each face as a fan of four triangles around its middle."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    middles: list[F64] = []
    triangles: list[tuple[int, int, int]] = []
    for axis in range(3):
        for side in (0, 1):
            face = [i for i in range(8) if corners[i, axis] == side]
            ring = [face[0], face[1], face[3], face[2]]
            middle = 8 + len(middles)
            middles.append(corners[face].mean(axis=0))
            triangles += [(ring[k], ring[(k + 1) % 4], middle) for k in range(4)]
    vertices = np.concatenate([corners, np.array(middles)]) * size
    return world_of(vertices, np.array(triangles, np.int32))


def assert_same_as_naive(geometry: Geometry, origins: F64, directions: F64, t_max: float, mask: int) -> int:
    t, triangle = geometry.closest_hit(origins, directions, t_max=t_max, mask=mask)
    for ray in range(len(origins)):
        expected = naive.closest_hit(
            geometry.corners, geometry.contents, origins[ray], directions[ray], t_max=t_max, mask=mask
        )
        assert (t[ray], triangle[ray]) == expected
    return int((triangle >= 0).sum())


@pytest.mark.parametrize("shift", [0.0, 3000.0, 900_000.0])
def test_closest_hit_agrees_with_every_triangle_tested(shift: float) -> None:
    geometry = Geometry.build(soup(1, 700, size=6.0, shift=shift))
    rng = np.random.default_rng(2)
    origins = rng.uniform(-25, 25, (300, 3)) + shift
    directions = rng.normal(size=(300, 3))
    directions[:60] = np.eye(3)[rng.integers(0, 3, 60)] * rng.choice([-1.0, 1.0], (60, 1))
    directions[60:90, 2] = 0.0
    directions[90:100] *= 1e-12
    directions[100:110] *= 1e12
    assert assert_same_as_naive(geometry, origins, directions, np.inf, SOLID) > 100
    assert assert_same_as_naive(geometry, origins, directions, 7.5, WATER) > 2


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    spread=st.sampled_from([0.0, 1.0, 50.0]),
    grid=st.booleans(),
)
def test_small_soups_on_a_coarse_grid_agree(seed: int, count: int, spread: float, grid: bool) -> None:
    """On a grid, rays meet corners, edges and planes exactly, so that ties are the rule."""
    world = soup(seed, count, spread=spread)
    if grid:
        world = dataclasses.replace(world, vertices=np.round(world.vertices))
    geometry = Geometry.build(world)
    rng = np.random.default_rng(seed + 1)
    origins, targets = np.round(rng.uniform(-spread - 2, spread + 2, (2, 30, 3)))
    assert_same_as_naive(geometry, origins, targets - origins, 1.0, SOLID | WATER)
    hit = geometry.any_hit(origins, targets, mask=SOLID)
    for ray in range(30):
        expected = naive.any_hit(geometry.corners, geometry.contents, origins[ray], targets[ray], mask=SOLID)
        assert hit[ray] == expected


def test_any_hit_sees_both_ends_and_the_mask() -> None:
    wall = np.array([[1.0, -5, -5], [1.0, 5, -5], [1.0, 0, 9]])
    world = world_of(wall, np.array([[0, 1, 2]], np.int32), np.array([WATER], np.uint16))
    geometry = Geometry.build(world)
    origins = np.array([[0.0, 0, 0], [0.0, 0, 0], [0.0, 0, 0], [1.0, 0, 0], [2.0, 0, 0]])
    targets = np.array([[2.0, 0, 0], [1.0, 0, 0], [0.999, 0, 0], [0.0, 0, 0], [1.001, 0, 0]])
    assert geometry.any_hit(origins, targets, mask=WATER).tolist() == [True, True, False, True, False]
    assert not geometry.any_hit(origins, targets, mask=SOLID).any()


@kernel("(" + GEOMETRY_TYPE + ", f8[::1], f8[::1], i8, i8)")
def guessed_leaf(geometry: GeometryArrays, origin: F64, along: F64, mask: int, guess: int) -> int:
    return blocking_leaf(geometry, origin[0], origin[1], origin[2], along[0], along[1], along[2], 1.0, mask, guess)


def test_a_guess_changes_no_answer_and_a_right_one_is_kept() -> None:
    geometry = Geometry.build(soup(11, 300, size=5.0))
    rng = np.random.default_rng(12)
    origins, targets = rng.uniform(-20, 20, (2, 60, 3))
    leaves = len(geometry.arrays[LEAF_TRIANGLES]) // 8
    for origin, along in zip(origins, targets - origins, strict=True):
        right = guessed_leaf(geometry.arrays, origin, along, SOLID, -1)
        assert guessed_leaf(geometry.arrays, origin, along, SOLID, right) == right
        for guess in rng.integers(0, leaves, 3):
            assert (guessed_leaf(geometry.arrays, origin, along, SOLID, guess) >= 0) == (right >= 0)


def test_rays_through_edges_and_corners_do_not_leak() -> None:
    """From inside a closed box, rays aimed at its corners and along its edges must all stop at its surface."""
    world = box_room(1.7)
    geometry = Geometry.build(world)
    rng = np.random.default_rng(5)
    inside = rng.uniform(0.2, 1.5, (4000, 3))
    pairs = world.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    edge = pairs[rng.integers(0, len(pairs), 4000)]
    along = rng.random((4000, 1)) * (rng.random((4000, 1)) < 0.8)
    aims = world.vertices[edge[:, 0]] * (1 - along) + world.vertices[edge[:, 1]] * along
    t, triangle = geometry.closest_hit(inside, aims - inside, mask=SOLID)
    assert (triangle >= 0).all()
    assert np.abs(t - 1.0).max() < 1e-9


def test_equal_distances_give_the_lowest_triangle() -> None:
    wall = np.array([[5.0, -9, -9], [5.0, 9, -9], [5.0, 0, 9]])
    copies = np.tile(np.arange(3, dtype=np.int32), (100, 1))
    contents = np.full(100, SOLID, np.uint16)
    contents[:37] = WATER
    geometry = Geometry.build(world_of(wall, copies, contents))
    t, triangle = geometry.closest_hit(np.zeros((1, 3)), np.array([[1.0, 0, 0]]), mask=SOLID)
    assert (t[0], triangle[0]) == (5.0, 37)


def test_degenerate_triangles_and_rays_hit_nothing() -> None:
    points = np.array([[1.0, 0, 0], [1.0, 1, 0], [1.0, 2, 0]])
    geometry = Geometry.build(world_of(points, np.array([[0, 1, 2], [0, 0, 0], [1, 1, 2]], np.int32)))
    bad = np.array([[0.0, 0, 0], [np.nan, 1, 0], [np.inf, 0, 0], [1.0, 0, -np.inf], [1.0, 1.0, 0.0]])
    t, triangle = geometry.closest_hit(np.zeros((5, 3)), bad, mask=SOLID, t_max=3.0)
    assert (triangle == -1).all()
    assert (t == 3.0).all()
    solid = Geometry.build(box_room())
    far = np.array([[np.nan, 0, 0], [np.inf, 0, 0], [1e300, 0.5, 0.5], [0.5, 0.5, -1e18]])
    assert (solid.closest_hit(far, np.full((4, 3), 0.5) - far, mask=SOLID)[1] == -1).all()
    nothing = solid.closest_hit(np.full((2, 3), 0.5), np.ones((2, 3)), mask=SOLID, t_max=[np.nan, -1.0])[1]
    assert (nothing == -1).all()


def test_gather_box_finds_exactly_the_triangles_whose_box_touches() -> None:
    geometry = Geometry.build(soup(7, 900))
    rng = np.random.default_rng(8)
    for _ in range(60):
        low = np.round(rng.uniform(-20, 20, 3), 1)
        high = low + rng.uniform(0, 6, 3) * (rng.random(3) < 0.8)
        expected = naive.gather_box(geometry.corners, geometry.contents, low, high, mask=SOLID)
        assert geometry.gather_box(low, high, mask=SOLID).tolist() == expected.tolist()


def test_gather_box_counts_what_does_not_fit_and_writes_nothing_beyond() -> None:
    geometry = Geometry.build(soup(7, 900))
    whole = np.full(3, -100.0), np.full(3, 100.0)
    out = np.full(50, -7, np.int32)
    count = gather_box_single(geometry.arrays, *whole, SOLID, out[:40])
    assert count == int((geometry.contents == SOLID).sum())
    assert (out[:40] >= 0).all()
    assert (out[40:] == -7).all()


def test_touching_boxes_count_and_nan_boxes_find_nothing() -> None:
    geometry = Geometry.build(box_room())
    assert len(geometry.gather_box([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], mask=SOLID)) == 6
    assert len(geometry.gather_box([np.nan] * 3, [np.nan] * 3, mask=SOLID)) == 0


def test_deep_input_stays_within_the_stack() -> None:
    """Sizes that halve again and again make the heuristic peel off one triangle a level."""
    scale = 0.5 ** np.arange(400.0) * 1e5
    points = np.array([[0.0, 0, 0], [1.0, 0, 0.1], [0.0, 1, 0.2]])[None] * scale[:, None, None]
    geometry = Geometry.build(world_of(points.reshape(-1, 3), np.arange(1200, dtype=np.int32).reshape(-1, 3)))
    assert_same_as_naive(geometry, np.array([[1e-9, 1e-9, 5.0]]), np.array([[0.0, 0, -1]]), np.inf, SOLID)


def assert_same_arrays(first: Geometry, second: Geometry) -> None:
    arrays: list[tuple[AnyArray, AnyArray]] = list(zip(first.arrays, second.arrays, strict=True))
    for one, other in arrays:
        assert one.dtype == other.dtype
        assert one.tobytes() == other.tobytes()


def test_saved_arrays_give_the_same_geometry_back() -> None:
    world = soup(3, 200)
    geometry = Geometry.build(world)
    again = Geometry.from_arrays(geometry.to_arrays(), map_hash=world.content_hash())
    assert_same_arrays(geometry, again)
    assert_same_arrays(geometry, Geometry.build(soup(3, 200)))


def test_saved_arrays_of_another_map_or_malformed_are_refused() -> None:
    world = soup(3, 50)
    saved = Geometry.build(world).to_arrays()
    with pytest.raises(GeometryError, match="build it again"):
        Geometry.from_arrays(saved, map_hash=soup(4, 50).content_hash())
    for name in saved:
        broken = {**saved, name: saved[name].astype(np.complex64)}
        missing = {key: value for key, value in saved.items() if key != name}
        for bad in (broken, missing):
            with pytest.raises(GeometryError, match=name):
                Geometry.from_arrays(bad, map_hash=world.content_hash())


def test_unusable_maps_are_refused_with_the_reason() -> None:
    good = box_room()
    far = good.vertices.copy()
    far[3, 1] = np.nan
    for change, message in (
        ({"triangles": np.empty((0, 3), np.int32), "contents": np.empty(0, np.uint16)}, "0 triangles"),
        ({"triangles": good.triangles + 3}, "outside"),
        ({"vertices": far}, "NaN"),
        ({"vertices": good.vertices * 1e9}, "rescale"),
        ({"contents": good.contents[1:]}, "one entry per triangle"),
    ):
        with pytest.raises(GeometryError, match=message):
            Geometry.build(dataclasses.replace(good, **change))


def test_malformed_ray_arrays_are_refused() -> None:
    geometry = Geometry.build(box_room())
    with pytest.raises(GeometryError, match="origins"):
        geometry.any_hit(np.zeros(3), np.zeros((1, 3)), mask=SOLID)
    with pytest.raises(GeometryError, match="directions"):
        geometry.closest_hit(np.zeros((2, 3)), np.zeros((1, 3)), mask=SOLID)
