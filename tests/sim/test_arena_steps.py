"""Who runs is heard once a stride; who walks, crouches, stands or flies is not."""

import math

import numpy as np
import pytest

from sim.arrays import F64
from sim.commands import Button
from sim.errors import DeclarationError
from sim.events import Events
from sim.games.arena.steps_kernels import STRIDE_M, take_steps
from sim.motion_kernels import ON_GROUND
from sim.plugin import CORE_EVENTS, EVERYWHERE_M, Registration
from tests.sim.arena_match import HZ, Arena

RUN, STEP, JUMPED, LANDED = {"move_forward": 127}, "step", "jumped", "landed"


def heard(arena: Arena, seconds: float, kind: str) -> int:
    return sum(happening.kind == kind for happening in arena.run(seconds))


@pytest.mark.parametrize("hz", HZ)
def test_a_runner_is_heard_once_a_stride(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.held[slot] = RUN
    arena.run(0.5)
    before = arena.motion.position[slot].copy()
    steps = heard(arena, 3.0, STEP)
    way = float(np.linalg.norm(arena.motion.position[slot] - before))
    assert way > 20.0
    assert abs(steps - way / STRIDE_M) <= 1.0


@pytest.mark.parametrize("button", [Button.WALK, Button.CROUCH])
def test_who_walks_or_crouches_is_not_heard(button: Button) -> None:
    arena = Arena()
    slot = arena.join()
    arena.run(0.5)
    arena.held[slot] = {**RUN, "buttons": int(button)}
    before = arena.motion.position[slot].copy()
    assert heard(arena, 3.0, STEP) == 0
    assert float(np.linalg.norm(arena.motion.position[slot] - before)) > 5.0


def test_setting_off_costs_a_step_after_half_a_stride() -> None:
    arena = Arena()
    slot = arena.join()
    arena.run(0.5)
    for _ in range(3):
        arena.held[slot] = RUN
        before = arena.motion.position[slot].copy()
        arena.until(STEP, within=1.0)
        way = float(np.linalg.norm(arena.motion.position[slot] - before))
        assert 0.4 * STRIDE_M < way < 0.7 * STRIDE_M
        arena.held[slot] = {"move_forward": 0}
        arena.run(1.0)


def test_a_jump_and_its_landing_are_heard_and_no_step_between() -> None:
    arena = Arena()
    slot = arena.join()
    arena.held[slot] = RUN
    arena.run(1.0)
    arena.held[slot] = {**RUN, "buttons": int(Button.JUMP)}
    kinds = [happening.kind for happening in arena.run(0.9) if happening.kind in {STEP, JUMPED, LANDED}]
    assert kinds[kinds.index(JUMPED) + 1] == LANDED


def test_the_dead_are_not_heard() -> None:
    events, walked = Events(), np.array([STRIDE_M - 0.01, STRIDE_M - 0.01])
    ground = np.full(2, ON_GROUND, np.uint16)
    position: F64 = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    players = (
        np.array([7, 9], np.uint64), np.array([False, True]), ground, np.zeros(2, np.uint16), position,
        np.full((2, 3), 4.0),
    )  # fmt: skip
    take_steps(players, 1 / 60, (1, 2, 3), walked, events.arrays)
    assert events.count == 1
    assert (events.kind[0], events.actor[0], events.target[0]) == (2, 9, 0)
    assert events.position[0].tolist() == [4.0, 5.0, 6.0]
    assert walked[0] == STRIDE_M / 2
    assert math.isclose(walked[1], math.sqrt(32.0) / 60 - 0.01)


def test_every_event_says_who_hears_of_it() -> None:
    specs = {spec.name: spec for spec in Arena().world.game.event_specs}
    assert tuple(specs) == Arena().world.game.events
    assert all(specs[name].public and specs[name].range_m == EVERYWHERE_M for name in (*CORE_EVENTS, "kill"))
    assert all(specs[name].sound and specs[name].implied for name in (JUMPED, STEP, LANDED))
    assert specs["shot"].sound
    assert not specs["shot"].implied
    assert not specs["hit"].sound


@pytest.mark.parametrize("range_m", [-1.0, 2e5, math.nan])
def test_a_range_out_of_range_is_refused_by_name(range_m: float) -> None:
    with pytest.raises(DeclarationError, match="event 'boom': range_m is"):
        Registration("toy").event("boom", range_m=range_m)
