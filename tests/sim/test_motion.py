import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64
from sim.jit import set_threads
from sim.motion import Motion, MotionError, MotionParameters
from sim.motion_kernels import (
    BUTTON_CROUCH,
    BUTTON_JUMP,
    BUTTON_WALK,
    CROUCHING,
    LANDED,
    ON_GROUND,
    PUSHED,
    STUCK,
    TELEPORTED,
)
from sim.narrowphase import Narrowphase
from sim.worldmap import MOVEMENT_MASK, Contents, Trigger, TriggerKind, WorldMap
from tests.reference.motion import braking_distance, jump_apex, jump_seconds
from tests.sim.boxes import Walker, box, floor, ramp, world_of

RATES = (20, 60, 128)
AHEAD = 127
FLAT = world_of(floor())


def stairs(rise: float, *, steps: int = 8, tread: float = 0.6) -> list[F64]:
    return [box((2 + i * tread, -5, -0.5), (2 + steps * tread + 20, 5, (i + 1) * rise)) for i in range(steps)]


def settled(world: WorldMap, **options: object) -> Walker:
    walker = Walker(world, **options)  # type: ignore[arg-type]  # options of one test
    walker.run(0.2)
    assert walker.flags[0] & ON_GROUND
    return walker


def depth_of(walker: Walker, world: WorldMap) -> float:
    """How deep any player is in the map."""
    parameters = walker.motion.parameters
    low = walker.flags & CROUCHING != 0
    height = np.where(low, parameters.height_crouched, parameters.height_standing)
    axes = np.zeros((len(walker.position), 3))
    axes[:, 2] = height - 2 * parameters.radius
    bases = walker.position + np.array([0.0, 0.0, parameters.radius])
    sweeps = Narrowphase(walker.geometry)
    return float(
        sweeps.capsules(bases, (0.0, 0.0, 0.0), axes=axes, radii=parameters.radius, mask=MOVEMENT_MASK).depth.max()
    )


@pytest.mark.parametrize("hz", RATES)
def test_running_reaches_and_keeps_the_run_speed(hz: int) -> None:
    walker = settled(FLAT, hz=hz)
    walker.run(1.0, forward=AHEAD)
    start = walker.feet[0]
    walker.run(1.0, forward=AHEAD)
    assert walker.feet[0] - start == pytest.approx(8.0, abs=1e-9)
    assert walker.feet[2] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("hz", RATES)
def test_braking_distance_is_that_of_continuous_time(hz: int) -> None:
    walker = settled(FLAT, hz=hz)
    walker.run(1.0, forward=AHEAD)
    start = walker.feet[0]
    walker.run(1.5)
    expected = braking_distance(8.0, friction=6.0, stop_speed=2.5)
    assert abs(walker.feet[0] - start - expected) < 0.03
    assert not walker.velocity.any()


@pytest.mark.parametrize("hz", RATES)
def test_jump_is_as_high_and_long_as_on_paper(hz: int) -> None:
    walker = settled(FLAT, hz=hz)
    walker.run(1.0, forward=AHEAD)
    start, top, ticks = walker.feet[0], 0.0, 1
    walker.tick(buttons=BUTTON_JUMP, forward=AHEAD)
    while not walker.flags[0] & ON_GROUND:
        top = max(top, walker.feet[2])
        walker.tick(forward=AHEAD)
        ticks += 1
    assert walker.flags[0] & LANDED
    tick_seconds = 1.0 / hz
    assert abs(top - jump_apex(6.75, 20.0)) < 20.0 * tick_seconds**2 / 8 + 1e-9
    assert abs(ticks / hz - jump_seconds(6.75, 20.0)) <= tick_seconds
    assert abs(walker.feet[0] - start - 8.0 * jump_seconds(6.75, 20.0)) <= 8.0 * tick_seconds


def test_jump_needs_a_new_press() -> None:
    walker = settled(FLAT)
    walker.run(0.9, buttons=BUTTON_JUMP)
    assert walker.flags[0] & ON_GROUND
    walker.tick()
    walker.tick(buttons=BUTTON_JUMP)
    assert not walker.flags[0] & ON_GROUND


def test_walk_crouch_and_diagonals_have_their_speeds() -> None:
    for buttons, speed in [(BUTTON_WALK, 4.0), (BUTTON_CROUCH, 4.0), (0, 8.0)]:
        walker = settled(FLAT)
        walker.run(1.0, forward=AHEAD, right=AHEAD, buttons=buttons, yaw=5000)
        assert np.linalg.norm(walker.velocity[0]) == pytest.approx(speed, abs=1e-9)


def test_directions_follow_the_yaw() -> None:
    walker = settled(FLAT)
    walker.run(0.5, forward=AHEAD, yaw=16384)
    assert walker.feet[1] > 2.0
    assert abs(walker.feet[0]) < 1e-9
    walker = settled(FLAT)
    walker.run(0.5, right=AHEAD)
    assert walker.feet[1] < -2.0


@pytest.mark.parametrize("hz", RATES)
@pytest.mark.parametrize("rise", [0.2, 0.45, 0.46])
def test_stairs_are_climbed_up_to_the_step_height(hz: int, rise: float) -> None:
    world = world_of(floor(), *stairs(rise))
    walker = settled(world, hz=hz)
    walker.run(3.0, forward=AHEAD)
    if rise > 0.45:
        assert walker.feet[0] == pytest.approx(2.0 - 0.375, abs=1e-6)
        return
    assert walker.feet[2] == pytest.approx(8 * rise, abs=1e-9)
    assert depth_of(walker, world) < 1e-6
    in_air = 0
    for _ in range(3 * hz):  # and down again, never leaving the ground
        walker.tick(forward=-AHEAD)
        in_air += not walker.flags[0] & ON_GROUND
    assert walker.feet[2] == pytest.approx(0.0, abs=1e-9)
    assert in_air == 0


def test_a_step_is_climbed_from_a_standing_start() -> None:
    for hz in RATES:
        walker = settled(world_of(floor(), *stairs(0.45, steps=1)), at=(1.6, 0.0, 0.0), hz=hz)
        walker.run(1.0, forward=AHEAD)
        assert walker.feet[2] == pytest.approx(0.45, abs=1e-9)


@pytest.mark.parametrize("hz", RATES)
def test_slopes_are_walked_up_to_the_limit(hz: int) -> None:
    for degrees in (30.0, 45.4, 45.8, 60.0):
        walker = settled(world_of(floor(), ramp(2.0, 4.0, 4.0 * np.tan(np.radians(degrees)))), hz=hz)
        walker.run(2.0, forward=AHEAD)
        walker.run(1.5)
        if degrees < 45.57:
            assert walker.feet[0] > 7.0
        else:
            assert walker.feet[0] < 2.0
            assert walker.feet[2] < 0.05


def test_standing_on_a_slope_holds() -> None:
    walker = settled(world_of(floor(), ramp(2.0, 4.0, 3.5)), at=(4.0, 0.0, 2.05))
    walker.run(1.0)
    held = walker.feet.copy()
    walker.run(2.0)
    np.testing.assert_array_equal(walker.feet, held)


@pytest.mark.parametrize("hz", RATES)
def test_wall_at_an_angle_is_slid_along(hz: int) -> None:
    world = world_of(floor(), box((3.0, -50.0, 0.0), (3.1, 50.0, 4.0)))
    walker = settled(world, hz=hz)
    walker.run(3.0, forward=AHEAD, yaw=8192)
    assert walker.feet[0] == pytest.approx(3.0 - 0.375, abs=1e-4)
    assert walker.feet[1] > 12.0
    assert depth_of(walker, world) < 1e-6


def test_corner_and_wedge_hold_and_let_go() -> None:
    corner = [box((3.0, -50.0, 0.0), (4.0, 50.0, 4.0)), box((-50.0, 3.0, 0.0), (50.0, 4.0, 4.0))]
    for parts, trembling in [(corner, 1e-4), ([*corner, ramp(2.0, 3.0, 3.5)], 0.1)]:
        world = world_of(floor(), *parts)
        walker = settled(world)
        walker.run(2.0, forward=AHEAD, yaw=8192)
        before = walker.feet.copy()
        walker.run(1.0, forward=AHEAD, yaw=8192)
        assert np.abs(walker.feet - before).max() < trembling
        assert depth_of(walker, world) < 1e-6
        walker.run(1.0, forward=-AHEAD, yaw=8192)
        assert np.linalg.norm(walker.feet - before) > 3.0


def test_a_crevice_too_steep_to_stand_in_can_be_jumped_out_of() -> None:
    def slope(sign: float) -> F64:
        a, b = (0.0, -20.0, 0.0), (0.0, 20.0, 0.0)
        c, d = (sign * 2.0, -20.0, 4.0), (sign * 2.0, 20.0, 4.0)
        return np.array([[a, c, b], [b, c, d]])

    walker = Walker(world_of(slope(1.0), slope(-1.0), floor(z=-3.0)), at=(0.3, 0.0, 3.0))
    walker.run(2.0)
    assert walker.flags[0] & ON_GROUND
    low = walker.feet[2]
    walker.tick(buttons=BUTTON_JUMP)
    walker.run(0.2)
    assert walker.feet[2] > low + 0.5


@pytest.mark.parametrize("yaw", [0, 1234, 8192, 12000])
def test_nothing_tunnels_through_a_thin_wall_at_terminal_speed(yaw: int) -> None:
    wall = np.array([[(5.0, -90.0, -9.0), (5.0, 90.0, -9.0), (5.0, 0.0, 90.0)]])
    for hz in (20, 4):
        walker = settled(world_of(floor(), wall), hz=hz)
        walker.velocity[0] = 75.0 * np.array([np.cos(yaw * np.pi / 32768), np.sin(yaw * np.pi / 32768), 0.2])
        walker.flags[0] = 0
        for _ in range(2 * hz):
            walker.tick(forward=AHEAD, yaw=yaw)
            assert walker.feet[0] <= 5.0 - 0.375 + 1e-6


@pytest.mark.parametrize("hz", RATES)
def test_a_fall_of_30_m_takes_its_time_and_ends_on_the_floor(hz: int) -> None:
    walker = Walker(FLAT, at=(0.0, 0.0, 30.0), hz=hz)
    ticks = 0
    while not walker.flags[0] & ON_GROUND:
        walker.tick()
        ticks += 1
    assert abs(ticks / hz - np.sqrt(3.0)) <= 1.0 / hz
    assert walker.feet[2] == pytest.approx(0.0, abs=1e-9)
    assert not walker.velocity.any()


def test_terminal_speed_is_never_passed() -> None:
    walker = Walker(FLAT, at=(0.0, 0.0, 2000.0))
    for _ in range(600):
        walker.tick(forward=AHEAD)
        assert np.linalg.norm(walker.velocity[0]) <= 75.0 + 1e-9


def test_crouching_passes_below_110_cm_and_stands_up_only_behind() -> None:
    world = world_of(floor(), box((2.0, -20.0, 1.1), (6.0, 20.0, 3.0)))
    walker = settled(world)
    walker.run(1.0, forward=AHEAD)
    assert walker.feet[0] < 2.0
    walker.run(1.0, forward=AHEAD, buttons=BUTTON_CROUCH)
    assert 2.5 < walker.feet[0] < 6.0
    walker.run(0.5, forward=0)
    assert walker.flags[0] & CROUCHING
    assert depth_of(walker, world) < 1e-6
    walker.run(1.5, forward=AHEAD)
    assert walker.feet[0] > 6.5
    assert not walker.flags[0] & CROUCHING


def test_a_ledge_lower_than_a_step_is_followed_down_and_a_higher_one_fallen_off() -> None:
    for height, falls in [(0.4, False), (1.0, True)]:
        walker = settled(world_of(floor(), box((-9.0, -9.0, 0.0), (1.0, 9.0, height))), at=(0.0, 0.0, height))
        air = 0
        for _ in range(60):
            walker.tick(forward=AHEAD)
            air += not walker.flags[0] & ON_GROUND
        assert (air > 0) == falls
        assert walker.feet[2] == pytest.approx(0.0, abs=1e-9)


def test_slick_ground_does_not_brake() -> None:
    walker = settled(world_of(floor(), contents=int(Contents.SOLID | Contents.SLICK)))
    walker.velocity[0] = (5.0, 0.0, 0.0)
    walker.run(1.0)
    assert walker.velocity[0, 0] == pytest.approx(5.0)


def test_jump_pad_throws_and_teleporter_moves() -> None:
    pad = Trigger(TriggerKind.PUSH, (3.0, -1.0, 0.0), (4.0, 1.0, 0.2), vector=(0.0, 0.0, 12.0))
    gate = Trigger(TriggerKind.TELEPORT, (-9.0, -9.0, 3.0), (9.0, 9.0, 4.0), vector=(20.0, 20.0, 0.5), yaw=16384)
    walker = settled(world_of(floor(), triggers=(pad, gate)))
    seen = 0
    for _ in range(60):
        walker.tick(forward=AHEAD)
        seen |= int(walker.flags[0])
        if walker.flags[0] & TELEPORTED:
            break
    assert seen & PUSHED
    assert walker.feet.tolist() == [20.0, 20.0, 0.5]
    assert walker.yaw[0] == 16384
    assert walker.velocity[0, 1] > 1.0
    assert walker.velocity[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_a_player_put_inside_a_wall_is_let_out() -> None:
    world = world_of(floor(), box((1.0, -9.0, 0.0), (5.0, 9.0, 3.0)))
    walker = Walker(world, at=(0.8, 0.0, 0.01))
    walker.run(0.2)
    assert depth_of(walker, world) < 1e-6
    assert walker.feet[0] == pytest.approx(1.0 - 0.375, abs=1e-3)


def test_numbers_that_are_not_finite_stay_where_they_are() -> None:
    walker = Walker(FLAT, count=2)
    walker.position[1] = np.nan
    walker.run(0.2, forward=AHEAD)
    assert walker.flags[1] & STUCK
    assert np.isfinite(walker.position[0]).all()
    assert walker.position[0, 0] > 0.1


def test_inactive_players_do_not_move() -> None:
    walker = Walker(FLAT, count=2)
    walker.active[1] = False
    walker.run(0.5, forward=AHEAD)
    assert walker.position[1].tolist() == [0.0, 0.0, 0.0]


def playground() -> WorldMap:
    rng = np.random.default_rng(11)
    parts = [floor(), *stairs(0.3), ramp(-14.0, 3.0, 2.0, width=3.0) + np.array([0.0, 12.0, 0.0])]
    parts += [box((-30, y, 0), (30, y + 1, 5)) for y in (-31, 30)] + [
        box((x, -30, 0), (x + 1, 30, 5)) for x in (-31, 30)
    ]
    for _ in range(60):
        low = np.array([*rng.uniform(-28, 26, 2), rng.choice([0.0, 0.0, 1.05, 1.5])])
        parts.append(box(low, low + rng.uniform(0.2, 3.0, 3)))
    for _ in range(40):
        parts.append(rng.uniform(-28, 28, (1, 1, 3)) * [1, 1, 0.05] + rng.normal(size=(1, 3, 3)) * 1.5)
    return world_of(*parts)


def wander(walker: Walker, rng: np.random.Generator, ticks: int, *, first: int = 0) -> None:
    """Inputs that change a few times a second."""
    count = len(walker.position)
    for tick in range(first, first + ticks):
        if tick % 17 == 0:
            walker.buttons[:] = rng.integers(0, 8, count)
            walker.forward[:] = rng.choice([-127, 0, 60, 127, 127], count)
            walker.right[:] = rng.choice([-127, 0, 0, 127], count)
            walker.look[:] = rng.integers(0, 65536, count)
        walker.buttons ^= (rng.random(count) < 0.1).astype(np.uint16) * BUTTON_JUMP
        walker.step()


def crowd(world: WorldMap, *, hz: float, count: int, seed: int) -> Walker:
    rng = np.random.default_rng(seed)
    walker = Walker(world, hz=hz, count=count)
    walker.position[:] = np.column_stack([rng.uniform(-28, 28, (count, 2)), np.full(count, 8.0)])
    return walker


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([10, 20, 60, 128]))
def test_random_walks_stay_inside_and_outside_of_everything(seed: int, hz: int) -> None:
    world = playground()
    walker = crowd(world, hz=hz, count=40, seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(10):
        wander(walker, rng, 17)
        assert np.isfinite(walker.position).all()
        assert np.abs(walker.position[:, :2]).max() < 30.0
        assert walker.position[:, 2].min() > -1e-6
        assert depth_of(walker, world) < 1e-5


def walk_hash(threads: int) -> str:
    set_threads(threads)
    walker = crowd(playground(), hz=60, count=64, seed=5)
    wander(walker, np.random.default_rng(6), 240)
    set_threads(1)
    digest = hashlib.blake2b(digest_size=8)
    for column in (walker.position, walker.velocity, walker.ground, walker.flags, walker.yaw):
        digest.update(column.tobytes())
    return digest.hexdigest()


def test_threads_do_not_change_a_bit() -> None:
    assert walk_hash(1) == walk_hash(2)


def test_a_fixed_walk_keeps_its_golden_hash() -> None:
    golden = Path(__file__).parents[1] / "golden" / "motion.txt"
    assert walk_hash(1) == golden.read_text().strip()


@pytest.mark.parametrize(
    "change",
    [
        {"radius": 0.0},
        {"gravity": float("nan")},
        {"height_crouched": 0.5},
        {"walkable_normal_z": 1.0},
        {"friction": -1.0},
    ],
)
def test_unusable_parameters_are_refused_by_name(change: dict[str, float]) -> None:
    with pytest.raises(MotionError, match=next(iter(change)).split("_")[0]):
        MotionParameters(**change)


def test_wrong_columns_and_ticks_are_refused_by_name() -> None:
    walker = Walker(FLAT)
    walker.yaw = walker.yaw.astype(np.int32)
    with pytest.raises(MotionError, match="column yaw"):
        walker.step()
    walker = Walker(FLAT)
    walker.dt = 0.0
    with pytest.raises(MotionError, match="dt is 0"):
        walker.step()
    assert isinstance(walker.motion, Motion)
