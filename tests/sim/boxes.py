"""Small worlds of boxes and ramps for tests of motion, and a driver that walks one player through them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F64
from sim.geometry import Geometry
from sim.motion import Motion, MotionParameters
from sim.worldmap import SpawnPoint, Trigger, WorldMap

__all__ = ["Walker", "box", "floor", "ramp", "world_of"]

FACES = ((0, 2, 1), (1, 2, 3), (4, 5, 6), (5, 7, 6), (0, 1, 4), (1, 5, 4), (2, 6, 3), (3, 6, 7), (0, 4, 2), (2, 4, 6))
FACES_X = ((1, 3, 5), (3, 7, 5))


def box(low: ArrayLike, high: ArrayLike) -> F64:
    """The 12 triangles of a box, shape (12, 3, 3)."""
    ends = np.array([low, high], np.float64)
    corners = np.array([[ends[i & 1, 0], ends[i >> 1 & 1, 1], ends[i >> 2, 2]] for i in range(8)])
    faces: F64 = corners[np.array(FACES + FACES_X)]
    return faces


def floor(size: float = 60.0, z: float = 0.0) -> F64:
    """A slab whose top is at z."""
    return box((-size, -size, z - 1.0), (size, size, z))


def ramp(x: float, length: float, rise: float, width: float = 20.0) -> F64:
    """A wedge that rises from (x, 0) to (x + length, rise), with a platform behind it."""
    a, b = (x, -width, 0.0), (x, width, 0.0)
    c, d = (x + length, -width, rise), (x + length, width, rise)
    slope = np.array([[a, c, b], [b, c, d]])
    return np.concatenate([slope, box((x + length, -width, rise - 1.0), (x + length + 30.0, width, rise))])


def world_of(*parts: F64, triggers: tuple[Trigger, ...] = (), contents: int = 1) -> WorldMap:
    """A map of triangles."""
    triangles = np.concatenate(parts)
    count = len(triangles)
    return WorldMap(
        "test", triangles.reshape(-1, 3).copy(), np.arange(3 * count, dtype=np.int32).reshape(-1, 3),
        np.full(count, contents, np.uint16), (SpawnPoint((0.0, 0.0, 0.0), 0),), triggers=triggers,
    )  # fmt: skip


class Walker:
    """Players in a small world, each tick given the same or separate inputs."""

    def __init__(
        self, world: WorldMap, *, at: Sequence[float] = (0.0, 0.0, 0.0), hz: float = 60.0, count: int = 1,
        parameters: MotionParameters | None = None,
    ) -> None:  # fmt: skip
        self.geometry = Geometry.build(world)
        self.motion = Motion(self.geometry, world.triggers, parameters)
        self.dt, self.hz = 1.0 / hz, hz
        self.position = np.tile(np.asarray(at, np.float64), (count, 1))
        self.velocity, self.ground = np.zeros((count, 3)), np.zeros((count, 3))
        self.yaw, self.pitch = np.zeros(count, np.uint16), np.zeros(count, np.int16)
        self.flags, self.active = np.zeros(count, np.uint16), np.ones(count, np.bool_)
        self.buttons, self.forward = np.zeros(count, np.uint16), np.zeros(count, np.int8)
        self.right, self.look = np.zeros(count, np.int8), np.zeros(count, np.uint16)
        self.tilt = np.zeros(count, np.int16)

    def tick(self, *, buttons: int = 0, forward: int = 0, right: int = 0, yaw: int = 0) -> None:
        self.buttons[:], self.forward[:], self.right[:], self.look[:] = buttons, forward, right, yaw
        self.step()

    def step(self) -> None:
        state = (self.position, self.velocity, self.ground, self.yaw, self.pitch, self.flags)
        inputs = (self.buttons, self.forward, self.right, self.look, self.tilt)
        self.motion.move(state, inputs, active=self.active, dt=self.dt)

    def run(self, seconds: float, *, buttons: int = 0, forward: int = 0, right: int = 0, yaw: int = 0) -> None:
        for _ in range(round(seconds * self.hz)):
            self.tick(buttons=buttons, forward=forward, right=right, yaw=yaw)

    @property
    def feet(self) -> F64:
        feet: F64 = self.position[0]
        return feet
