import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64
from sim.geometry import Geometry
from sim.narrowphase import Narrowphase, NarrowphaseError
from tests.reference.narrowphase import capsule_distance, sweep_time
from tests.sim.boxes import box, floor, world_of

RADIUS = 0.375


def sweeper(*parts: F64) -> Narrowphase:
    return Narrowphase(Geometry.build(world_of(*parts)))


def shape(rng: np.random.Generator, kind: int) -> F64:
    """A triangle: any, level, upright, on a coarse grid (many ties), or without area."""
    triangle = rng.normal(size=(3, 3))
    if kind == 1:
        triangle[:, 2] = triangle[0, 2]
    elif kind == 2:
        triangle[2, :2] = triangle[0, :2]
    elif kind == 3:
        triangle = np.round(triangle)
    elif kind == 4:
        triangle[2] = 2.0 * triangle[1] - triangle[0]
    return triangle


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.sampled_from(["sphere", "upright", "any"]))
def test_sweep_agrees_with_bisection(seed: int, kind: int, axis_kind: str) -> None:
    rng = np.random.default_rng(seed)
    triangle = shape(rng, kind)
    axis = {"sphere": np.zeros(3), "upright": np.array([0.0, 0.0, 0.65]), "any": rng.normal(size=3)}[axis_kind]
    base = rng.normal(size=3) * 1.5
    way = (triangle.T @ rng.dirichlet([1, 1, 1]) - base) * 1.5 + rng.normal(size=3) * 0.5
    result = sweeper(triangle[None]).capsules([base], [way], axes=axis, radii=RADIUS, mask=1)
    apart = capsule_distance(base, axis, triangle)
    if apart < RADIUS - 2e-7:
        if apart > 1e-3:
            assert abs(result.depth[0] - (RADIUS - apart)) < 1e-6
            freed = base + result.out[0] * result.depth[0]
            assert capsule_distance(freed, axis, triangle) > RADIUS - 1e-6
        else:
            assert result.depth[0] >= RADIUS - 1e-3
        return
    expected = sweep_time(base, way, axis, RADIUS, triangle)
    if expected is None:
        assert result.triangle[0] == -1
        assert result.time[0] == 1.0
        return
    time = result.time[0]
    touching = capsule_distance(base + time * way, axis, triangle)
    if result.triangle[0] == -1:  # a graze: the bisection found it by its last bit
        before = [capsule_distance(base + t * way, axis, triangle) for t in np.linspace(0, 1, 400)]
        assert min(before) > RADIUS - 1e-9
        return
    assert abs(touching - RADIUS) < 1e-8
    assert abs(time - expected) < 1e-5
    # The normal is the direction in which the distance grows fastest.
    outward = capsule_distance(base + time * way + 1e-5 * result.normal[0], axis, triangle)
    assert abs(outward - touching - 1e-5) < 1e-8


def test_first_of_many_triangles_is_met() -> None:
    rng = np.random.default_rng(3)
    soup = rng.uniform(-4, 4, (120, 1, 3)) + rng.normal(size=(120, 3, 3)) * 0.5
    sweeps = sweeper(soup)
    starts, ways = rng.uniform(-5, 5, (200, 3)), rng.normal(size=(200, 3)) * 4
    axis = np.array([0.0, 0.0, 0.65])
    together = sweeps.capsules(starts, ways, axes=axis, radii=0.2, mask=1)
    alone = [sweeper(triangle[None]).capsules(starts, ways, axes=axis, radii=0.2, mask=1) for triangle in soup]
    times = np.array([np.where(one.triangle == 0, one.time, 2.0) for one in alone])
    np.testing.assert_array_equal(together.time, np.minimum(times.min(axis=0), 1.0))
    met = together.triangle >= 0
    np.testing.assert_array_equal(together.triangle[met], times.argmin(axis=0)[met])
    np.testing.assert_array_equal(together.depth, np.max([one.depth for one in alone], axis=0))


def test_of_equally_early_triangles_the_lowest_number_wins() -> None:
    doubled = np.concatenate([floor(5.0), floor(5.0)])
    for order in (1, -1):
        result = sweeper(doubled[::order]).spheres([(1.0, 0.5, 2.0)], [(0.0, 0.0, -4.0)], radii=0.5, mask=1)
        tops = [k for k, t in enumerate(doubled[::order]) if (t[:, 2] == 0).all() and _over(t, 1.0, 0.5)]
        assert result.triangle[0] == min(tops)
        assert result.time[0] == 0.375
        assert result.normal[0].tolist() == [0.0, 0.0, 1.0]


def _over(triangle: F64, x: float, y: float) -> bool:
    sides = []
    for i in range(3):
        p, q = triangle[i], triangle[(i + 1) % 3]
        sides.append((q[0] - p[0]) * (y - p[1]) - (q[1] - p[1]) * (x - p[0]))
    return all(s >= 0 for s in sides) or all(s <= 0 for s in sides)


def test_touching_slides_and_stops_what_goes_in() -> None:
    sweeps = sweeper(floor(5.0))
    ways = [(1.0, 0.0, 0.0), (1.0, 0.0, 0.5), (1.0, 0.0, -0.01)]
    result = sweeps.capsules([(0.0, 0.0, 0.5)] * 3, ways, axes=(0, 0, 0.6), radii=0.5, mask=1)
    assert result.time.tolist() == [1.0, 1.0, 0.0]
    assert result.depth.tolist() == [0.0, 0.0, 0.0]


def test_contents_mask_selects() -> None:
    sweeps = sweeper(box((1, -1, -1), (2, 1, 1)))
    result = sweeps.spheres([(0.0, 0.0, 0.0)], [(3.0, 0.0, 0.0)], radii=0.25, mask=2)
    assert result.triangle[0] == -1


@pytest.mark.parametrize(
    ("bases", "radius"), [([(0.0, 0.0, np.nan)], 0.5), ([(0.0, 0.0)], 0.5), ([(0.0, 0.0, 0.0)], 0.0)]
)
def test_bad_sweeps_are_refused(bases: list[tuple[float, ...]], radius: float) -> None:
    with pytest.raises(NarrowphaseError):
        sweeper(floor()).spheres(bases, (0.0, 0.0, 1.0), radii=radius, mask=1)
