"""The oracle, and what it says of the server's sight stage on a map of four rooms."""

from dataclasses import replace

import numpy as np
import pytest

from server.maps.solids import Solids
from server.sight import sight_rules
from sim.geometry import Geometry
from sim.visibility import VisibilityMap
from sim.worldmap import WorldMap
from tests.sim.sightlines import bake_map, hall, make
from tools.sight_oracle import SightOracle, Verdict

PLAYERS, TICKS = 12, 240
Rooms = tuple[WorldMap, VisibilityMap, Geometry]


@pytest.fixture(scope="module")
def rooms() -> Rooms:
    """Four rooms of 10 × 10 m in a square, each with doors of 2 m to its two neighbours."""
    solids = Solids()
    hall(solids, 10.0, 10.0)
    for low, high in ((-10.0, -6.0), (-4.0, 4.0), (6.0, 10.0)):
        solids.box((-0.25, low, 0.0), (0.25, high, 3.0))
        solids.box((low, -0.25, 0.0), (high, 0.25, 3.0))
    places = [
        (x + dx, y + dy, 0.01) for x in (-5.0, 5.0) for y in (-5.0, 5.0) for dx in (-2.0, 2.0) for dy in (-2.0, 2.0)
    ]
    world = make(solids, places)
    return world, *bake_map(world)


def judged(rooms: Rooms, known: VisibilityMap | None = None, *, mode: str = "strict") -> Verdict:
    world, baked, sight = rooms
    oracle = SightOracle(world, known or baked, sight, players=PLAYERS, rules=sight_rules(mode))
    return oracle.judge(TICKS)


@pytest.mark.parametrize("mode", ["on", "strict"])
def test_nothing_visible_is_late_and_little_is_told_that_nobody_could_see(rooms: Rooms, mode: str) -> None:
    verdict = judged(rooms, mode=mode)
    assert verdict.pairs > 1000
    assert 0.1 * verdict.pairs < verdict.seen < 0.7 * verdict.pairs
    assert verdict.told < 0.8 * verdict.pairs
    assert verdict.late_now <= 0.002 * verdict.seen
    assert verdict.late <= 0.005 * verdict.seen
    if mode == "strict":
        assert verdict.unseeable <= 0.06 * verdict.pairs


def test_the_oracle_finds_what_is_told_without_need(rooms: Rooms) -> None:
    figures, cell_of, seen, _ = rooms[1].arrays
    everything = np.full_like(seen, ~np.uint64(0))
    verdict = judged(rooms, replace(rooms[1], arrays=(figures, cell_of, everything, everything)))
    assert verdict.told == verdict.pairs
    assert verdict.unseeable > 0.2 * verdict.pairs


def test_the_oracle_finds_what_is_told_late(rooms: Rooms) -> None:
    figures, cell_of, seen, grown = rooms[1].arrays
    verdict = judged(rooms, replace(rooms[1], arrays=(figures, cell_of, np.zeros_like(seen), np.zeros_like(grown))))
    assert verdict.late_now > 0.5 * verdict.seen
