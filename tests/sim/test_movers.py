"""Doors and lifts: where they are, whom they carry, push and wait for, and what a client makes of them."""

from dataclasses import replace

import numpy as np
import pytest

from sim.arrays import F64, AnyArray
from sim.geometry import Geometry
from sim.motion import Motion
from sim.motion_kernels import BUTTON_JUMP, ON_GROUND, STUCK
from sim.movers import Movers, MoverSet
from sim.movers_kernels import TurnArrays
from sim.narrowphase import Narrowphase
from sim.worldmap import MOVEMENT_MASK, SHOT_MASK, Mover, MoverKind, MoverMotion, WorldMap
from tests.sim.boxes import box, floor, world_of

HZ = 60
LIFT = MoverMotion(
    MoverKind.SLIDE, (0.0, 0.0, 3.0), seconds=1.0, wait_s=0.5, damage=4.0, holds=True,
    touch=((2.3, -0.7, -0.2, 3.7, 0.7, 0.2),),
)  # fmt: skip
DOOR = MoverMotion(
    MoverKind.SLIDE, (0.0, 2.0, 0.0), seconds=0.5, wait_s=0.5, damage=7.0, touch=((-5.0, -1.0, 0.0, -1.0, 1.0, 2.0),)
)
LIFT_BOX = box((2.0, -1.0, -0.3), (4.0, 1.0, 0.0))
DOOR_BOX = box((-3.2, -1.0, 0.05), (-3.0, 1.0, 3.0))
PIT = [
    box((-60, -60, -1), (2, 60, 0)), box((4, -60, -1), (60, 60, 0)), box((2, 1, -1), (4, 60, 0)),
    box((2, -60, -1), (4, -1, 0)), floor(z=-0.5),
]  # fmt: skip


def world_with(*movers: tuple[F64, MoverMotion], parts: list[F64] | None = None) -> WorldMap:
    fixed = PIT if parts is None else parts
    world = world_of(*fixed, *(triangles for triangles, _ in movers))
    first, made = sum(len(part) for part in fixed), []
    for triangles, motion in movers:
        made.append(Mover("func_test", first, len(triangles), {}, motion))
        first += len(triangles)
    return replace(world, movers=tuple(made))


class Stage:
    """Players among movers, on the server's side."""

    def __init__(self, world: WorldMap, *at: tuple[float, float, float], hz: int = HZ) -> None:
        self.geometry = Geometry.build(world)
        self.set = MoverSet(world, self.geometry, tick_hz=hz)
        self.motion = Motion(self.geometry, movers=self.set)
        count, self.dt, self.tick = len(at), 1.0 / hz, 0
        self.movers = Movers(self.set, self.motion, players=count)
        many = max(1, self.set.count)
        self.turns: TurnArrays = (np.zeros(many, np.uint8), np.zeros(many, np.int32), np.zeros(many, np.int32))
        self.set.begin(self.turns)
        self.position = np.array(at, np.float64).reshape(-1, 3)
        self.velocity, self.normal = np.zeros((count, 3)), np.zeros((count, 3))
        self.yaw, self.pitch = np.zeros(count, np.uint16), np.zeros(count, np.int16)
        self.flags, self.active = np.zeros(count, np.uint16), np.ones(count, np.bool_)
        self.buttons, self.forward = np.zeros(count, np.uint16), np.zeros(count, np.int8)
        self.crush = np.zeros(count)
        self.state = (self.position, self.velocity, self.normal, self.yaw, self.pitch, self.flags)

    @property
    def columns(self) -> list[AnyArray]:
        return [*self.turns, *self.state]

    @property
    def offsets(self) -> F64:
        return self.movers.offsets

    def move(self) -> None:
        side = np.zeros(len(self.active), np.int8)
        inputs = (self.buttons, self.forward, side, self.yaw.copy(), self.pitch.copy())
        self.motion.move(self.state, inputs, active=self.active, dt=self.dt)

    def step(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.tick += 1
            self.movers.step(
                self.turns, self.tick, self.state, active=self.active, dt=self.dt, out_crush=self.crush
            )  # fmt: skip
            self.move()

    def follow(self) -> None:
        self.tick += 1
        self.movers.follow(self.turns, self.tick, self.state, active=self.active, dt=self.dt)
        self.move()

    def depth(self) -> float:
        """How deep the worst player is in the map or in a mover."""
        corners = self.geometry.corners.copy()
        for mover, offset in zip(self.set.movers, self.offsets, strict=True):
            rows = slice(mover.triangle_first, mover.triangle_first + mover.triangle_count)
            corners[rows] += np.tile(offset, 3)
        count = len(corners)
        world = world_of(corners.reshape(-1, 3, 3))
        assert len(world.triangles) == count
        bases = self.position + np.array([0.0, 0.0, 0.375])
        sweeps = Narrowphase(Geometry.build(world)).capsules(
            bases, (0, 0, 0), axes=(0, 0, 0.65), radii=0.375, mask=MOVEMENT_MASK
        )
        return float(sweeps.depth.max())


def test_triangles_of_movers_are_no_part_of_the_static_geometry() -> None:
    world = world_with((DOOR_BOX, DOOR))
    geometry = Geometry.build(world)
    ray = ([[-6.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    assert geometry.closest_hit(*ray, mask=SHOT_MASK, t_max=10.0)[1][0] == -1
    still = replace(world, movers=(replace(world.movers[0], motion=None),))
    t, _ = Geometry.build(still).closest_hit(*ray, mask=SHOT_MASK, t_max=10.0)
    assert t[0] == pytest.approx(2.8)


@pytest.mark.parametrize("hz", [20, 60, 128])
def test_a_lift_takes_its_rider_up_waits_and_comes_down(hz: int) -> None:
    stage = Stage(world_with((LIFT_BOX, LIFT)), (3.0, 0.0, 0.0), hz=hz)
    for _ in range(hz):
        stage.step()
        assert stage.position[0, 2] == pytest.approx(stage.offsets[0, 2], abs=1e-9)
        assert stage.flags[0] & ON_GROUND
    assert stage.offsets[0, 2] == 3.0
    stage.step(3 * hz)  # it stays up while somebody stands on it
    assert stage.offsets[0, 2] == 3.0
    stage.position[0] = (20.0, 0.0, 0.0)
    stage.step(hz // 2 + 2)
    assert 0.0 < stage.offsets[0, 2] < 3.0
    stage.step(hz)
    assert (stage.offsets[0] == 0.0).all()


def test_a_rider_is_taken_down_without_losing_the_ground() -> None:
    stage = Stage(world_with((LIFT_BOX, replace(LIFT, holds=False, touch=LIFT.touch[:1]))), (3.0, 0.0, 0.0))
    stage.step(HZ + 40)
    assert stage.offsets[0, 2] < 3.0
    while stage.offsets[0, 2] > 0.5:
        stage.step()
        assert stage.position[0, 2] == pytest.approx(stage.offsets[0, 2], abs=1e-9)
        assert stage.flags[0] & ON_GROUND


def test_a_door_opens_for_who_comes_near_and_closes_behind_him() -> None:
    stage = Stage(world_with((DOOR_BOX, DOOR)), (-8.0, 0.0, 0.0))
    stage.step(10)
    assert not stage.offsets.any()
    stage.forward[0] = 127
    stage.step(HZ)
    assert stage.position[0, 0] > -3.0
    stage.step(2 * HZ)
    assert not stage.offsets.any()


def test_a_closed_door_stops_players() -> None:
    stage = Stage(world_with((DOOR_BOX, replace(DOOR, touch=((50.0, 0.0, 0.0, 51.0, 1.0, 1.0),)))), (-8.0, 0.0, 0.0))
    stage.forward[0] = 127
    stage.step(2 * HZ)
    assert stage.position[0, 0] == pytest.approx(-3.2 - 0.375, abs=1e-6)
    assert stage.depth() < 1e-6


def test_a_door_pushes_who_stands_in_its_way_and_never_into_it() -> None:
    stage = Stage(world_with((DOOR_BOX, DOOR)), (-3.1, 1.6, 0.0), (-4.5, 0.0, 0.0))
    for _ in range(40):
        stage.step()
        assert stage.depth() < 1e-5
    assert stage.offsets[0, 1] == 2.0
    assert stage.position[0, 1] == pytest.approx(3.0 + 0.375, abs=1e-3)
    assert not stage.crush.any()


def test_a_door_that_meets_somebody_against_a_wall_turns_back_and_hurts_him_once() -> None:
    wall = box((-5.0, 2.1, 0.0), (-1.0, 3.0, 3.0))
    world = world_with((DOOR_BOX, DOOR), parts=[*PIT, wall])
    stage = Stage(world, (-3.1, 1.5, 0.0), (-4.5, 0.0, 0.0))
    stage.step(5)
    stage.position[1] = (30.0, 0.0, 0.0)
    stage.active[1] = False
    stage.step(55)
    assert stage.crush[0] == 7.0
    assert (stage.offsets == 0.0).all()
    assert stage.position[0, 1] > 1.375
    assert stage.depth() < 2.1e-3


def test_a_crusher_waits_and_goes_on_hurting() -> None:
    wall = box((-5.0, 2.1, 0.0), (-1.0, 3.0, 3.0))
    world = world_with((DOOR_BOX, replace(DOOR, crushes=True)), parts=[*PIT, wall])
    stage = Stage(world, (-3.1, 1.5, 0.0), (-4.5, 0.0, 0.0))
    stage.step(HZ)
    stuck = stage.offsets.copy()
    assert 0.0 < stuck[0, 1] < 2.0
    before = stage.crush[0]
    stage.step(HZ)
    assert (stage.offsets == stuck).all()
    assert stage.crush[0] - before == pytest.approx(7.0 * 20.0)  # twenty times a second
    stage.active[0] = False
    stage.step(HZ // 2)
    assert stage.offsets[0, 1] == 2.0


def test_a_lift_that_comes_down_on_somebody_goes_up_again() -> None:
    lift = box((2.0, -1.0, 2.0), (4.0, 1.0, 2.3))
    sinks = replace(LIFT, travel=(0.0, 0.0, -2.0), holds=False, touch=((9.0, -1.0, 0.0, 10.0, 1.0, 1.0),))
    stage = Stage(world_with((lift, sinks), parts=[floor()]), (3.0, 0.0, 0.0), (9.5, 0.0, 0.0))
    stage.step(3)
    stage.active[1] = False
    stage.step(40)
    assert stage.crush[0] == 4.0
    stage.step(40)
    assert (stage.offsets == 0.0).all()
    assert stage.depth() < 1e-6


def test_wings_of_a_door_go_together() -> None:
    other = replace(DOOR, travel=(0.0, -2.0, 0.0), touch=(), group=3)
    wing = box((-3.2, -3.0, 0.05), (-3.0, -1.0, 3.0))
    world = world_with((DOOR_BOX, replace(DOOR, group=3)), (wing, other), parts=[*PIT])
    stage = Stage(world, (-4.5, 0.0, 0.0))
    stage.step(12)
    assert stage.offsets[0, 1] == -stage.offsets[1, 1] > 0.0


def test_where_one_wing_is_blocked_both_stay_and_turn_back() -> None:
    wall = box((-5.0, 2.1, 0.0), (-1.0, 3.0, 3.0))
    wing = box((-3.2, -3.0, 0.05), (-3.0, -1.0, 3.0))
    other = replace(DOOR, travel=(0.0, -2.0, 0.0), touch=(), group=3)
    world = world_with((wing, other), (DOOR_BOX, replace(DOOR, group=3)), parts=[*PIT, wall])
    stage = Stage(world, (-3.1, 1.5, 0.0), (-4.5, 0.0, 0.0), (-3.1, -3.4, 0.0))
    for tick in range(60):
        stage.step()
        stage.active[1] = tick < 3
        assert stage.offsets[0, 1] == -stage.offsets[1, 1]
        assert stage.depth() < 2.1e-3
    assert stage.crush[0] == 7.0
    assert stage.crush[2] == 0.0


def test_what_bobs_goes_as_the_sine_of_time() -> None:
    bob = MoverMotion(MoverKind.BOB, (0.0, 0.0, 1.5), seconds=2.0, phase=0.25)
    stage = Stage(world_with((box((9.0, -1.0, 3.0), (11.0, 1.0, 3.5)), bob)), (0.0, 0.0, 0.0))
    for tick in range(1, 3 * HZ):
        stage.step()
        expected = 1.5 * np.sin(2.0 * np.pi * (tick / (2 * HZ) - 0.25))
        assert stage.offsets[0, 2] == pytest.approx(expected, abs=2e-4)


def test_a_train_goes_round_its_path_and_takes_along_who_stands_on_it() -> None:
    path = ((4.0, 0.0, 0.0, 1.0, 0.5), (4.0, 4.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 2.0, 0.0))
    train = MoverMotion(MoverKind.PATH, path=path)
    stage = Stage(world_with((box((9.0, -1.0, 0.5), (11.0, 1.0, 1.0)), train)), (10.0, 0.0, 1.0))
    stage.step(2)
    off = stage.position[0] - stage.offsets[0]
    for ticks, expected in ((28, (2, 0)), (30, (4, 0)), (30, (4, 0)), (30, (4, 2)), (30, (4, 4)), (60, (2, 2))):
        stage.step(ticks)
        assert stage.offsets[0, :2] == pytest.approx(expected, abs=1e-12)
        assert stage.position[0] - stage.offsets[0] == pytest.approx(off, abs=1e-6)
    stage.step(60)
    assert (stage.offsets[0] == 0.0).all()  # and round again
    assert stage.flags[0] & ON_GROUND


def test_a_wall_holds_a_rider_back_while_what_carries_him_goes_on() -> None:
    train = MoverMotion(MoverKind.PATH, path=((4.0, 0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0, 0.0)))
    wall = box((11.0, -2.0, 1.1), (12.0, 2.0, 4.0))
    world = world_with((box((8.0, -1.0, 0.5), (11.0, 1.0, 1.0)), train), parts=[floor(), wall])
    stage = Stage(world, (10.0, 0.0, 1.0))
    stage.step(HZ)
    assert stage.offsets[0, 0] == pytest.approx(4.0)
    assert stage.position[0, 0] == pytest.approx(11.0 - 0.375, abs=1e-3)
    assert not stage.crush.any()


def test_a_client_that_knows_the_turns_predicts_bit_for_bit() -> None:
    world = world_with((LIFT_BOX, LIFT), (DOOR_BOX, DOOR))
    server, client = Stage(world, (3.0, 0.3, 0.0), (-4.5, 0.2, 0.0)), Stage(world, (3.0, 0.3, 0.0), (-4.5, 0.2, 0.0))
    server.step(2)  # both have turned
    for mine, theirs in zip(client.columns, server.columns, strict=True):
        mine[:] = theirs
    client.tick = server.tick
    for tick in range(50):
        for stage in (server, client):
            stage.forward[:] = (0, 40 if tick < 20 else -40)
            stage.buttons[:] = BUTTON_JUMP if tick % 17 == 5 else 0
        server.step()
        client.follow()
        for mine, theirs in zip(client.columns[3:], server.columns[3:], strict=True):
            assert mine.tobytes() == theirs.tobytes(), tick
    assert server.position[0, 2] > 2.0


def test_nobody_is_stuck_or_inside_anything_while_a_crowd_plays_with_movers() -> None:
    bob = MoverMotion(MoverKind.BOB, (0.0, 0.0, 0.8), seconds=2.0)
    world = world_with((LIFT_BOX, replace(LIFT, holds=False)), (DOOR_BOX, DOOR), (box((5, 3, 0.2), (7, 5, 0.6)), bob))
    rng = np.random.default_rng(7)
    places = [(float(x), float(y), 0.0) for x, y in rng.uniform(-6, 8, (40, 2)) if not 4 < x < 8 or not 2 < y < 6]
    stage = Stage(world, *places)
    for tick in range(5 * HZ):
        if tick % 20 == 0:
            stage.forward[:] = rng.integers(-127, 128, len(places))
            stage.yaw[:] = rng.integers(0, 65536, len(places))
            stage.buttons[:] = rng.integers(0, 4, len(places))
        stage.step()
        if tick % 15 == 0:
            assert stage.depth() < 3e-3, tick
        assert not (stage.flags & STUCK).any(), tick
