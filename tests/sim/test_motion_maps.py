"""Random walks on real maps: nobody ends up inside of anything, nor on the other side of it."""

from pathlib import Path

import numpy as np
import pytest

from server.maps import load_map
from sim.motion_kernels import STUCK, TELEPORTED
from sim.worldmap import MOVEMENT_MASK, WorldMap
from tests.sim.boxes import Walker
from tests.sim.test_motion import depth_of, wander

PLAYERS = 48
STRETCHES = 40
STRETCH_TICKS = 8
CHEST_M = 0.7


def on_spawns(world: WorldMap, *, hz: float) -> Walker:
    walker = Walker(world, hz=hz, count=PLAYERS)
    walker.position[:] = [world.spawns[i % len(world.spawns)].position for i in range(PLAYERS)]
    return walker


def walk_and_check(world: WorldMap, *, hz: float, seed: int) -> None:
    walker = on_spawns(world, hz=hz)
    rng = np.random.default_rng(seed)
    low, high = world.bounds
    chest = np.array([0.0, 0.0, CHEST_M])
    travelled = 0.0
    for stretch in range(STRETCHES):
        for tick in range(STRETCH_TICKS):
            before, flags = walker.position.copy(), walker.flags.copy()
            wander(walker, rng, 1, first=stretch * STRETCH_TICKS + tick)
            stayed = (walker.flags ^ flags) & TELEPORTED == 0
            way = walker.position - before
            travelled += float(np.linalg.norm(way[stayed], axis=1).sum())
            # A body is wider than the corner its centre's chord can cut in one tick.
            crossed = walker.geometry.any_hit(before + chest, walker.position + chest, mask=MOVEMENT_MASK)
            assert not (crossed & stayed).any()
        assert np.isfinite(walker.position).all()
        assert not (walker.flags & STUCK).any()
        assert (walker.position[:, :2] > low[:2]).all()
        assert (walker.position[:, :2] < high[:2]).all()
        assert depth_of(walker, world) < 1e-5
    assert travelled > PLAYERS * 5.0


@pytest.mark.parametrize("hz", [60, 128])
def test_random_walks_on_the_built_in_arena(hz: int) -> None:
    walk_and_check(load_map("arena"), hz=hz, seed=hz)


@pytest.mark.parametrize("name", ["oa_dm1", "aggressor", "oa_ctf2", "wrackdm17", "am_galmevish", "oa_minia"])
def test_random_walks_on_real_maps(openarena: Path, name: str) -> None:
    walk_and_check(load_map(openarena / f"{name}.bsp"), hz=60, seed=7)
