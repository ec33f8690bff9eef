"""Movers on real maps: they open, carry, and stick nobody; the same with one and two threads."""

from pathlib import Path

import numpy as np
import pytest

from server.game import load_game
from server.maps import load_geometry, load_map
from sim.commands import Commands
from sim.components import Motion, Stance, Vitals
from sim.jit import set_threads
from sim.motion_kernels import ON_GROUND, STUCK
from sim.movers import Movers, Turn
from sim.snapshot import state_hash
from sim.world import World
from sim.worldmap import MoverKind
from tools.script import play_script


def real_world(openarena: Path, name: str) -> World:
    world_map = load_map(openarena / f"{name}.bsp")
    return World(load_game("arena"), world_map, load_geometry(world_map), seed=3)


@pytest.mark.parametrize("name", ["oa_dm2", "fan"])
def test_a_crowd_sets_doors_and_lifts_going_and_sticks_in_nothing(openarena: Path, name: str) -> None:
    world = real_world(openarena, name)
    players, turn = world.players, world.table("mover")[Turn]
    opened = np.zeros(len(turn.opens), np.bool_)
    for _ in play_script(world, players=32, ticks=400, step=world.step):
        opened |= turn.opens != 0
        assert not (players[Vitals].alive & (players[Stance].flags & STUCK != 0)).any()
    assert np.count_nonzero(opened) > 5


def test_who_steps_onto_a_real_lift_is_taken_up(openarena: Path) -> None:
    world = real_world(openarena, "oa_dm2")
    for _ in play_script(world, players=1, ticks=30, step=world.step):
        pass
    lifts = [n for n, mover in enumerate(world.map.moving) if mover.classname == "func_plat"]
    motion, stance, vitals = world.players[Motion], world.players[Stance], world.players[Vitals]
    movers = world.services[Movers]
    idle = Commands(world.players.capacity)
    idle.set_input(0)
    assert len(lifts) == 2
    for number in lifts:
        mover = world.map.moving[number]
        assert mover.motion is not None
        rise = mover.motion.travel[2]
        x0, y0, _, x1, y1, top = mover.motion.touch[0]
        vitals.alive[0], vitals.health[0] = True, 100.0
        motion.position[0], motion.velocity[0] = ((x0 + x1) / 2, (y0 + y1) / 2, top - 0.2), 0.0
        stance.flags[0] = 0
        start = motion.position[0, 2]
        for _ in range(round(2.5 * rise / 5.0 * 60)):
            world.step(idle)
        assert movers.offsets[number, 2] == pytest.approx(rise)
        assert motion.position[0, 2] == pytest.approx(start + rise, abs=0.05)
        assert stance.flags[0] & ON_GROUND


def test_two_threads_make_the_same_match_with_movers_as_one(openarena: Path) -> None:
    hashes = []
    for threads in (1, 2):
        set_threads(threads)
        world = real_world(openarena, "oa_dm2")
        for _ in play_script(world, players=24, ticks=240, step=world.step):
            pass
        assert any(mover.motion and mover.motion.kind is MoverKind.PATH for mover in world.map.moving)
        hashes.append(state_hash(world))
    set_threads(1)
    assert hashes[0] == hashes[1]
