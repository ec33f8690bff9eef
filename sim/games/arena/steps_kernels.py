"""Footsteps, jumps and landings: which feet touch the ground in a tick, over all players at once.

A step is heard for every `STRIDE_M` that a player runs on the ground. Who crouches or walks is not heard, which is what
walking is for. Whoever stands still and sets off again is heard after half a stride, so that nobody sneaks by stopping
short of a whole one: the half is the least that a start costs.
"""

from typing import Final

import numpy as np

from sim.arrays import F64, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays, emit
from sim.jit import kernel
from sim.motion_kernels import BUTTON_WALK, CROUCHING, JUMPED, LANDED, ON_GROUND

__all__ = ["STRIDE_M", "take_steps"]

STRIDE_M: Final = 2.4
STANDS_MPS: Final = 1.0  # who is slower than this stands


@kernel(
    f"(Tuple((u8[::1], b1[::1], u2[::1], u2[::1], f8[:,::1], f8[:,::1])), f8, UniTuple(i8, 3), f8[::1], {EVENTS_TYPE})",
    counted=False,
)
def take_steps(
    players: tuple[U64, Bool, U16, U16, F64, F64],
    dt: float,
    kinds: tuple[int, int, int],
    walked_m: F64,
    events: EventArrays,
) -> None:
    """Let everybody walk on by one tick.

    Args:
        players: Ids, who lives, stance flags, buttons, positions [m], velocities [m/s].
        dt: Length of the tick [s].
        kinds: Numbers of the events of a jump, a step and a landing.
        walked_m: How far each has come since its last step [m], updated.
        events: Receives actor and position of each.
    """
    ids, alive, flags, buttons, position, velocity = players
    for row in range(alive.shape[0]):
        if ids[row] == 0:
            continue  # rows that nobody has keep their defaults, as captures rely on
        if not alive[row]:
            walked_m[row] = 0.5 * STRIDE_M
            continue
        kind = -1
        quiet = flags[row] & CROUCHING != 0 or buttons[row] & BUTTON_WALK != 0
        if flags[row] & JUMPED != 0:
            kind = kinds[0]
        elif flags[row] & LANDED != 0 and not quiet:
            kind = kinds[2]
        elif flags[row] & ON_GROUND != 0:
            x, y = velocity[row, 0], velocity[row, 1]
            speed = np.sqrt(x * x + y * y)
            if speed < STANDS_MPS:
                walked_m[row] = 0.5 * STRIDE_M
            elif not quiet:
                walked_m[row] += speed * dt
                if walked_m[row] >= STRIDE_M:
                    # At most one a tick: whoever is that fast slides rather than steps.
                    walked_m[row] = min(walked_m[row] - STRIDE_M, STRIDE_M)
                    kind = kinds[1]
        if kind >= 0:
            at = (position[row, 0], position[row, 1], position[row, 2])
            emit(events, kind, ids[row], np.uint64(0), at, (0.0, 0.0, 0.0), 0)
