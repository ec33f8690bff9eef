"""Build plus all pairs through the face, against scipy's cKDTree on the same points; and queries.

`1k 2-D` and the like: spheres of equal size, spread evenly so that each has about four neighbours. The reference is
what a tick would do without the broadphase: `cKDTree(points).query_pairs(diameter, output_type="ndarray")`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sim.arrays import F64
from sim.broadphase import Broadphase, Neighbours
from tools.bench.harness import Row, median_us, row

__all__ = ["run"]

NEIGHBOURS = 4.0
RADIUS_M = 0.5
SEED = 20
SIZES = ((1_000, "1k", 31), (10_000, "10k", 11), (100_000, "100k", 5))


def _points(count: int, dimensions: int) -> F64:
    """Evenly spread points [m] that have NEIGHBOURS others within one diameter, on average, away from the borders."""
    ball = math.pi if dimensions == 2 else 4.0 / 3.0 * math.pi
    side = (count * ball * (2.0 * RADIUS_M) ** dimensions / NEIGHBOURS) ** (1.0 / dimensions)
    return np.random.default_rng(SEED).uniform(-side / 2.0, side / 2.0, (count, dimensions))


def _tick(broad: Broadphase, positions: F64, radii: F64) -> Callable[[], int]:
    def tick() -> int:
        broad.build(positions, radii)
        return len(broad.pairs())

    return tick


def _even(count: int, name: str, rounds: int, dimensions: int) -> Row:
    from scipy.spatial import cKDTree

    points = _points(count, dimensions)
    tick = _tick(Broadphase(count, dimensions=dimensions), points, np.full(count, RADIUS_M))

    def reference() -> int:
        return len(cKDTree(points).query_pairs(2.0 * RADIUS_M, output_type="ndarray"))

    if tick() != reference():
        raise RuntimeError(f"{name} {dimensions}-D: the broadphase and cKDTree disagree")
    times = median_us({"ours": tick, "reference": reference}, rounds=rounds)
    return row(
        f"{name} {dimensions}-D",
        times["ours"],
        reference="scipy cKDTree build + query_pairs",
        reference_value=times["reference"],
    )


def _mixed() -> Row:
    """10,000 things from 0.1 m to 20 m across, and one of 200 m, in a square kilometre."""
    random = np.random.default_rng(SEED)
    positions = random.uniform(0.0, 1_000.0, (10_000, 3)) * (1.0, 1.0, 0.02)
    radii = np.where(random.random(10_000) < 0.02, random.uniform(2.0, 10.0, 10_000), 0.375)
    radii[::3] = 0.05
    radii[0] = 100.0
    tick = _tick(Broadphase(10_000), positions, radii)
    return row("10k mixed", median_us({"ours": tick}, rounds=21)["ours"])


def _towns() -> Row:
    """10,000 players in five crowds, kilometres apart."""
    random = np.random.default_rng(SEED)
    centres = np.array([[0, 0], [9e3, 0], [0, 7e3], [8e3, 8e3], [-6e3, 3e3]])
    positions = np.zeros((10_000, 3))
    positions[:, :2] = centres[np.arange(10_000) % 5] + random.normal(0.0, 25.0, (10_000, 2))
    tick = _tick(Broadphase(10_000), positions, np.full(10_000, 0.375))
    return row("10k towns", median_us({"ours": tick}, rounds=21)["ours"])


def _queries() -> list[Row]:
    """1,000 queries of each kind against 10,000 things in 3-D; the references are cKDTree's batch calls."""
    from scipy.spatial import cKDTree

    points = _points(10_000, 3)
    radii = np.full(len(points), RADIUS_M)
    broad, tree = Broadphase(len(points)), cKDTree(points)
    broad.build(points, radii)
    random = np.random.default_rng(SEED + 1)
    where = points[:1_000] + random.uniform(-1.0, 1.0, (1_000, 3))
    reach, endless, nobody = np.full(1_000, 2.0), np.full(1_000, np.inf), np.full(1_000, -1, np.int32)
    out, eight = Neighbours.room(1_000, 128), Neighbours.room(1_000, 8)
    ways, distances, slots = random.normal(0.0, 1.0, (1_000, 3)), np.zeros(1_000), np.zeros(1_000, np.int32)
    times = median_us(
        {
            "near": lambda: broad.near(where, reach, out),
            "near tree": lambda: tree.query_ball_point(where, 2.0 + RADIUS_M, return_sorted=False),
            "nearest": lambda: broad.nearest(where, endless, eight),
            "nearest tree": lambda: tree.query(where, 8),
            "boxed": lambda: broad.boxed(where - 2.0, where + 2.0, out),
            "cast": lambda: broad.cast(where, ways, endless, nobody, distances=distances, slots=slots),
        },
        rounds=9,
    )
    return [
        row("1k near", times["near"], reference="query_ball_point", reference_value=times["near tree"]),
        row("1k nearest 8", times["nearest"], reference="cKDTree.query", reference_value=times["nearest tree"]),
        row("1k boxed", times["boxed"]),
        row("1k cast", times["cast"]),
    ]


def run(data: Sequence[Path]) -> list[Row]:
    """Measure; `data` is not used."""
    del data
    rows = [_even(count, name, rounds, dimensions) for dimensions in (2, 3) for count, name, rounds in SIZES]
    return [*rows, _mixed(), _towns(), *_queries()]
