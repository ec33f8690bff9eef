"""The reference: linear prediction, residuals in exp-Golomb codes of fixed order, nothing learnt.

A frame is the number of changed cubes and for each: how many indices it is after the one before, less one (order 0);
one bit whether the largest component is another, then its index (2 bits) and the small components plain (27 bits); else
the small components' residuals against b + (b − a), or against b where the largest component changed from a to b (order
`TURN_ORDER`); the residuals of x, y, z against b + (b − a) (order `MOVE_ORDER`); one bit whether `interacting` flips.
"""

from net.bits_kernels import fold, put_bits, put_golomb
from sim.arrays import I32, I64, U8
from sim.jit import kernel
from tools.cubes.describe_kernels import BASELINE

__all__ = ["golomb_frames"]

MOVE_ORDER, TURN_ORDER = 4, 3


@kernel(counted=False)
def put_turn(
    frames: I32, frame: int, cube: int, out: U8, at: int, word: int, fill: int
) -> tuple[int, int, int]:  # fmt: skip
    """Append the orientation of a changed cube; the writer's new state."""
    now, b, a = frames[frame], frames[frame - BASELINE], frames[frame - 2 * BASELINE]
    if now[cube, 0] != b[cube, 0]:
        at, word, fill = put_bits(out, at, word, fill, 1 | int(now[cube, 0]) << 1, 3)
        for column in range(1, 4):
            at, word, fill = put_bits(out, at, word, fill, int(now[cube, column]), 9)
        return at, word, fill
    at, word, fill = put_bits(out, at, word, fill, 0, 1)
    keep = 1 if a[cube, 0] == b[cube, 0] else 0
    for column in range(1, 4):
        here = int(b[cube, column])
        residual = int(now[cube, column]) - here - keep * (here - int(a[cube, column]))
        at, word, fill = put_golomb(out, at, word, fill, fold(residual), TURN_ORDER)
    return at, word, fill


@kernel(counted=False)
def golomb_frame(frames: I32, wide: I64, frame: int, changed: I64, out: U8) -> int:
    """Write one frame; its size in bytes."""
    before = frame - BASELINE
    count = 0
    for cube in range(frames.shape[1]):
        other = (wide[frame, cube, 0] ^ wide[before, cube, 0]) | (wide[frame, cube, 1] ^ wide[before, cube, 1])
        other |= (wide[frame, cube, 2] ^ wide[before, cube, 2]) | (wide[frame, cube, 3] ^ wide[before, cube, 3])
        changed[count] = cube
        count += 1 if other != 0 else 0
    at, word, fill = put_golomb(out, 0, 0, 0, count, 5)
    last = -1
    for index in range(count):
        cube = changed[index]
        at, word, fill = put_golomb(out, at, word, fill, cube - last - 1, 0)
        last = cube
        at, word, fill = put_turn(frames, frame, cube, out, at, word, fill)
        for column in range(4, 7):
            here = int(frames[before, cube, column])
            ahead = 2 * here - int(frames[before - BASELINE, cube, column])
            residual = int(frames[frame, cube, column]) - ahead
            at, word, fill = put_golomb(out, at, word, fill, fold(residual), MOVE_ORDER)
        flips = 1 if frames[frame, cube, 7] != frames[before, cube, 7] else 0
        at, word, fill = put_bits(out, at, word, fill, flips, 1)
    out[at] = word & 255
    return int(at + (1 if fill > 0 else 0))


@kernel("(i4[:,:,::1], i8[:,:,::1], i8[::1], u1[::1])", counted=False)
def golomb_frames(frames: I32, wide: I64, changed: I64, out: U8) -> int:
    """Write every frame from the twelfth on, each over the one before; the sum of their sizes in bytes."""
    total = 0
    for frame in range(2 * BASELINE, frames.shape[0]):
        total += golomb_frame(frames, wide, frame, changed, out)
    return total
