"""How players move: a capsule that runs, jumps, crouches, steps and slides through a map.

    motion = Motion(geometry, world_map)
    motion.move(position, velocity, ground_normal, yaw, pitch, flags, inputs, active=active, dt=1 / 60)

The controller is in the tradition of Quake III (bg_pmove.c) and Source; a client that runs `Motion` on its own slot
predicts it bit for bit. Players against players are `sim.separation`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from sim.arrays import F64, AnyArray, Bool
from sim.errors import SimError
from sim.geometry import Geometry
from sim.geometry_kernels import GeometryArrays
from sim.motion_kernels import (
    CANDIDATES_MAX,
    SCRATCH_COLUMNS,
    SCRATCH_ROWS,
    TRIGGER_SIZE,
    InputColumns,
    StateColumns,
    WorldArrays,
    move_players,
)
from sim.narrowphase import surfaces_of
from sim.trig import SINE_TABLE
from sim.worldmap import Trigger, TriggerKind

if TYPE_CHECKING:
    from sim.movers import MoverSet

__all__ = ["CHUNKS", "TICK_SECONDS_MAX", "Motion", "MotionError", "MotionParameters", "trigger_rows"]

CHUNKS = 16  # players are divided in at most this many parts for threads to take
CHUNK_ROWS = 32  # rows of a part at least: each has scratch of its own, which is cold; 16 parts of 4 took 20 µs more
TICK_SECONDS_MAX = 0.25


class MotionError(SimError):
    """A parameter of motion or a column is not usable."""


@dataclass(frozen=True, slots=True)
class MotionParameters:
    """What a player's body can do. Lengths in metres, times in seconds."""

    radius: float = 0.375
    height_standing: float = 1.4
    height_crouched: float = 1.0
    run_speed: float = 8.0
    walk_scale: float = 0.5
    crouch_scale: float = 0.5
    gravity: float = 20.0
    jump_speed: float = 6.75
    friction: float = 6.0  # [1/s]
    stop_speed: float = 2.5  # below this speed friction is as strong as at it
    ground_acceleration: float = 10.0  # [1/s], times the speed wished for
    air_acceleration: float = 1.0  # [1/s]
    step_height: float = 0.45
    walkable_normal_z: float = 0.7  # ground up to 45.57° can be walked on
    speed_max: float = 75.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise MotionError(f"motion parameter {name} is {value}; it must be a finite number of at least 0")
        if self.radius <= 0.01 or self.speed_max <= 0.0:
            raise MotionError(f"motion parameters radius {self.radius} and speed_max {self.speed_max} must be positive")
        if not 2.0 * self.radius <= self.height_crouched <= self.height_standing:
            raise MotionError(
                f"heights {self.height_crouched} (crouched) and {self.height_standing} (standing) must ascend and be "
                f"at least twice the radius {self.radius}"
            )
        if not 0.05 <= self.walkable_normal_z < 1.0:
            raise MotionError(f"motion parameter walkable_normal_z is {self.walkable_normal_z}; take 0.05 to 0.99")

    def vector(self) -> F64:
        """The parameters as kernels take them: float64, in the order of the fields."""
        return np.array([getattr(self, field.name) for field in fields(self)], np.float64)


def trigger_rows(triggers: Sequence[Trigger]) -> F64:
    """The triggers that motion obeys (push and teleport) as rows: kind, low, high, vector, yaw."""
    kept = [t for t in triggers if t.kind in {TriggerKind.PUSH, TriggerKind.TELEPORT}]
    rows = np.zeros((len(kept), TRIGGER_SIZE))
    for row, trigger in zip(rows, kept, strict=True):
        row[:] = [int(trigger.kind), *trigger.low, *trigger.high, *trigger.vector, trigger.yaw]
    return rows


class Motion:
    """Moves players through one map. Owns its scratch: one call at a time.

    Attributes:
        parameters: What the bodies can do.
        vector: The same, as kernels take it.
        world: What kernels take besides: surfaces, triggers, sine table, and where movers are: at rest until a
            `sim.movers.Movers` moves them.
        geometry: `Geometry.arrays`.
    """

    def __init__(
        self,
        geometry: Geometry,
        triggers: Sequence[Trigger] = (),
        parameters: MotionParameters | None = None,
        *,
        movers: "MoverSet | None" = None,
    ) -> None:
        self.parameters = parameters or MotionParameters()
        self.vector = self.parameters.vector()
        self.geometry: GeometryArrays = geometry.arrays
        bounds = np.zeros((0, 6)) if movers is None else movers.bounds.copy()
        runs = np.zeros((0, 2), np.int32) if movers is None else movers.runs
        self.world: WorldArrays = (surfaces_of(geometry), trigger_rows(triggers), SINE_TABLE, bounds, runs)
        self._checked: tuple[StateColumns | None, InputColumns | None, Bool | None] = (None, None, None)
        self._candidates = np.empty((CHUNKS, CANDIDATES_MAX), np.int32)
        self._scratch = np.zeros((CHUNKS, SCRATCH_ROWS, SCRATCH_COLUMNS))
        self._parts = self._candidates, self._scratch

    def move(self, state: StateColumns, inputs: InputColumns, *, active: Bool, dt: float) -> None:
        """Move every active player by its input for one tick; state is changed in place.

        Args:
            state: (position [m] (n, 3), velocity [m/s] (n, 3), ground_normal (n, 3), yaw, pitch, flags): the feet of
                each, C-contiguous, dtypes float64 ×3, uint16, int16, uint16. A player put somewhere else must get
                flags without ON_GROUND.
            inputs: (buttons, move_forward, move_right, yaw, pitch), dtypes uint16, int8, int8, uint16, int16.
            active: Which slots to move, shape (n,), bool.
            dt: Length of the tick [s].

        Raises:
            MotionError: A column has another shape or dtype, or dt is out of range.
        """
        count = len(active)
        if not 0.0 < dt <= TICK_SECONDS_MAX:
            raise MotionError(f"dt is {dt} s; take a tick of up to {TICK_SECONDS_MAX} s")
        # The same tuples hold the same arrays: 13 µs a tick were spent on looking at them again.
        if not (state is self._checked[0] and inputs is self._checked[1] and active is self._checked[2]):
            _check(count, [("position", state[0], np.float64, (3,)), ("velocity", state[1], np.float64, (3,))])
            _check(count, [("ground_normal", state[2], np.float64, (3,)), ("yaw", state[3], np.uint16, ())])
            _check(count, [("pitch", state[4], np.int16, ()), ("flags", state[5], np.uint16, ())])
            _check(count, [("buttons", inputs[0], np.uint16, ()), ("move_forward", inputs[1], np.int8, ())])
            _check(count, [("move_right", inputs[2], np.int8, ()), ("input yaw", inputs[3], np.uint16, ())])
            _check(count, [("input pitch", inputs[4], np.int16, ()), ("active", active, np.bool_, ())])
            self._checked = (state, inputs, active)
            parts = min(CHUNKS, -(-max(count, 1) // CHUNK_ROWS))
            self._parts = self._candidates[:parts], self._scratch[:parts]
        move_players(state, inputs, active, dt, self.vector, self.geometry, self.world, *self._parts)


def _check(count: int, columns: Sequence[tuple[str, AnyArray, type, tuple[int, ...]]]) -> None:
    for name, column, dtype, shape in columns:
        if column.dtype != dtype or column.shape != (count, *shape) or not column.flags.c_contiguous:
            raise MotionError(
                f"column {name} is {column.dtype} {column.shape}; it must be C-contiguous {np.dtype(dtype)} "
                f"{(count, *shape)}"
            )
