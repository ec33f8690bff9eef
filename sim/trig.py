"""One sine table that every client ships, so that angles mean the same bits everywhere.

The C library's sin differs in the last bit between systems; a table does not. It holds sin(2π·i/65536) for
i = 0 … 16384, each the nearest float64 (tests/sim/test_trig.py proves every entry in integers).
Kernels take `SINE_TABLE` as an argument and call `sim.trig_kernels`.
"""

from pathlib import Path

import numpy as np

from sim.arrays import F64
from sim.trig_kernels import bearing, direction

__all__ = ["ANGLE_PER_RADIAN", "SINE_TABLE", "TURN", "view_direction", "yaw_towards"]

TURN = 65536
ANGLE_PER_RADIAN = 10430.378350470453  # for tools and tests; the simulation never converts

# Left writable: a read-only array is another type to a kernel.
SINE_TABLE: F64 = np.load(Path(__file__).with_name("sine_table.npy"))


def view_direction(yaw: int, pitch: int) -> tuple[float, float, float]:
    """The unit vector a player looks along; the same bits as in kernels.

    Args:
        yaw: uint16 angle, 0 = +X, counter-clockwise.
        pitch: Angle of the same unit, up positive, −16384 to 16384.
    """
    return direction(SINE_TABLE, yaw, pitch)


def yaw_towards(x: float, y: float) -> int:
    """The yaw that looks along (x, y), within one unit; 0 for the zero vector."""
    return bearing(SINE_TABLE, x, y)
