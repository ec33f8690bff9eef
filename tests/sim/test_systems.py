"""Inputs, heights and contacts as systems of a game."""

import numpy as np
import pytest

from sim.motion_kernels import CROUCHING
from sim.systems import Intent, body_heights
from tests.sim.arena_match import HZ, Arena


def test_an_input_stands_until_the_next_comes() -> None:
    arena = Arena()
    slot = arena.join()
    intent = arena.world.players[Intent]
    arena.held[slot] = {"move_forward": 100, "move_right": -7, "buttons": 2, "yaw": 12345, "pitch": -50, "weapon": 2}
    arena.tick()
    del arena.held[slot]
    arena.commands.move_forward[slot] = 1  # of no tick
    arena.tick(3)
    assert (intent.move_forward[slot], intent.move_right[slot], intent.buttons[slot]) == (100, -7, 2)
    assert (arena.look.yaw[slot], arena.look.pitch[slot], intent.weapon[slot]) == (12345, -50, 2)
    arena.held[slot] = {"yaw": 1}
    arena.tick()
    assert (intent.move_forward[slot], intent.buttons[slot], arena.look.yaw[slot]) == (0, 0, 1)


def test_a_new_occupant_inherits_no_input() -> None:
    arena = Arena()
    slot = arena.join()
    arena.held[slot] = {"move_forward": 127, "buttons": 8}
    arena.tick()
    del arena.held[slot]
    arena.leave(slot)
    arena.tick()
    assert arena.world.players[Intent].move_forward[slot] == 0
    assert arena.world.players[Intent].buttons[slot] == 0


def test_an_input_for_a_row_that_nobody_ever_had_changes_nothing() -> None:
    arena = Arena()
    arena.join()
    beyond = arena.world.players.high_water + 3
    arena.commands.set_input(beyond, move_forward=9, buttons=8)
    arena.tick()
    assert arena.world.players[Intent].move_forward[beyond] == 0
    assert arena.world.players[Intent].buttons[beyond] == 0


def test_heights_follow_the_stance() -> None:
    height = np.zeros(3)
    body_heights(np.array([0, CROUCHING, 1 | CROUCHING], np.uint16), height)
    assert height.tolist() == [1.4, 1.0, 1.0]


@pytest.mark.parametrize("hz", HZ)
def test_running_goes_as_far_at_any_rate_and_the_dead_stand_still(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.place(slot, 0.0, 0.0, 0.0)
    arena.held[slot] = {"move_forward": 127}
    arena.run(1.0)
    assert arena.motion.position[slot, 0] == pytest.approx(7.4, abs=0.5)
    arena.vitals.alive[slot] = False
    arena.vitals.respawn_s[slot] = 9.0
    before = arena.motion.position[slot].copy()
    arena.tick(3)
    assert (arena.motion.position[slot] == before).all()


@pytest.mark.parametrize("hz", HZ)
def test_players_who_run_into_each_other_are_parted(hz: int) -> None:
    arena = Arena(hz=hz)
    one, two = arena.join(), arena.join()
    arena.place(one, -2.0, 0.0, 0.0)
    arena.place(two, 2.0, 0.0, 0.0)
    arena.held[one] = {"move_forward": 127, "yaw": 0}
    arena.held[two] = {"move_forward": 127, "yaw": 32768}
    for _ in range(hz):
        arena.tick()
        assert arena.motion.position[two, 0] - arena.motion.position[one, 0] > 0.7
