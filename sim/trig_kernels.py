"""Sines, directions and bearings of whole-number angles, inside kernels.

Angles are whole numbers, 65536 to a turn, of any sign and size: only the lowest 16 bits count. The table is the first
quarter wave, 16385 float64; the other three are its mirror images, so that sin² and symmetry hold bit for bit.
"""

from math import sqrt

from sim.arrays import F64
from sim.jit import kernel

__all__ = ["bearing", "cosine", "direction", "sine"]

QUARTER = 16384


@kernel(counted=False)
def sine(table: F64, angle: int) -> float:
    """The sine of an angle, correctly rounded."""
    within = angle & (QUARTER - 1)
    quadrant = (angle >> 14) & 3
    value: float = table[within] if quadrant & 1 == 0 else table[QUARTER - within]
    return value if quadrant < 2 else -value


@kernel(counted=False)
def cosine(table: F64, angle: int) -> float:
    """The cosine of an angle, correctly rounded."""
    return sine(table, angle + QUARTER)


@kernel(counted=False)
def direction(table: F64, yaw: int, pitch: int) -> tuple[float, float, float]:
    """The unit vector of a view: yaw counter-clockwise from +X, pitch up."""
    flat = cosine(table, pitch)
    return flat * cosine(table, yaw), flat * sine(table, yaw), sine(table, pitch)


@kernel(counted=False)
def bearing(table: F64, x: float, y: float) -> int:
    """The yaw (0 to 65535) whose direction is within one unit of (x, y), found without an arc tangent.

    The table is searched by halving for the angle whose sine is |y| over the length. The zero vector has bearing 0.
    """
    length = sqrt(x * x + y * y)
    if not length > 0.0:
        return 0
    # The smaller component decides: near a sine of 1 the table is too flat to search.
    steep = abs(y) > abs(x)
    wanted = (abs(x) if steep else abs(y)) / length
    low, high = 0, QUARTER
    while high - low > 1:
        middle = (low + high) >> 1
        if table[middle] <= wanted:
            low = middle
        else:
            high = middle
    if wanted - table[low] > table[high] - wanted:
        low = high
    angle = QUARTER - low if steep else low
    if x < 0.0:
        angle = 2 * QUARTER - angle
    if y < 0.0:
        angle = -angle
    return angle & 65535
