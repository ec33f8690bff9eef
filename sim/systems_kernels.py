"""Taking over the inputs of a tick, and the heights of bodies."""

import numpy as np

from sim.arrays import F64, I8, I16, U8, U16
from sim.jit import kernel
from sim.motion_kernels import CROUCHING

__all__ = ["fill_heights", "take_inputs"]


@kernel("(u2[:,::1], u1[:,::1], Tuple((u2[::1], u2[::1], i2[::1], u2[::1], i1[::1], i1[::1], u1[::1])))", counted=False)
def take_inputs(wide: U16, narrow: U8, columns: tuple[U16, U16, I16, U16, I8, I8, U8]) -> None:
    """Let the columns be what `Commands.wide` and `.narrow` hold, in the rows that have an input.

    Args:
        wide: Buttons, yaw, pitch and rewind.
        narrow: Moves forward and right, weapon, and whether there is an input.
        columns: The same without the last, of as many rows as are looked at.
    """
    buttons, yaw, pitch, rewind, forward, right, weapon = columns
    for row in range(np.uint64(buttons.shape[0])):
        if narrow[3, row] != 0:
            buttons[row], yaw[row], rewind[row] = wide[0, row], wide[1, row], wide[3, row]
            pitch[row] = np.int16(wide[2, row])
            forward[row], right[row] = np.int8(narrow[0, row]), np.int8(narrow[1, row])
            weapon[row] = narrow[2, row]


@kernel("(u2[::1], UniTuple(f8, 2), f8[::1])", counted=False)
def fill_heights(flags: U16, heights: tuple[float, float], out_height: F64) -> None:
    """Heights of bodies [m] from stance flags; `heights` are those of who stands and of who crouches."""
    for row in range(np.uint64(flags.shape[0])):
        out_height[row] = heights[1] if flags[row] & CROUCHING else heights[0]
