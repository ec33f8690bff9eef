"""Poses of the past: writing them tick by tick, and reading them at any moment between two ticks.

HISTORY is a ring over ticks; the row of tick t is t & (depth − 1), the depth a power of two:

    FEET    f8 (depth, n, 3)  feet [m]
    HEIGHT  f8 (depth, n)     height of the body [m]
    YAW     u2 (depth, n)     view direction
    PITCH   i2 (depth, n)     view elevation
    FLAGS   u2 (depth, n)     stance flags of `sim.motion_kernels`
    IDS     u8 (depth, n)     id of who could be hit, 0 for none; then the rest of the row is 0, too
    SINCE   i8 (n,)           first tick of each player's present life

A moment is (tick, rewind): `rewind` steps of 1/REWIND_STEPS tick before the tick that is being made. What a player was
at a moment is a straight line between the two ticks around it, except over a teleport: nobody ever was in between, and
until the later tick it stood where it stood. Interpolated poses of the past to judge shots by: Bernier, "Latency
Compensating Methods in Client/Server In-game Protocol Design and Optimization" (2001).
"""

from typing import Final, TypeAlias

import numpy as np

from sim.arrays import F64, I16, I64, U16, U64, Bool
from sim.commands import REWIND_STEPS
from sim.jit import kernel
from sim.motion_kernels import TELEPORTED

__all__ = [
    "FEET",
    "FLAGS",
    "HEIGHT",
    "HISTORY_TYPE",
    "IDS",
    "JUMP_M",
    "PITCH",
    "SINCE",
    "YAW",
    "HistoryArrays",
    "pose_at",
    "ticks_back",
    "write_poses",
]

FEET: Final = 0
HEIGHT: Final = 1
YAW: Final = 2
PITCH: Final = 3
FLAGS: Final = 4
IDS: Final = 5
SINCE: Final = 6
HISTORY_TYPE = (
    "Tuple((Array(f8, 3, 'C'), Array(f8, 2, 'C'), Array(u2, 2, 'C'), Array(i2, 2, 'C'), Array(u2, 2, 'C'), "
    "Array(u8, 2, 'C'), Array(i8, 1, 'C')))"
)
HistoryArrays: TypeAlias = tuple[F64, F64, U16, I16, U16, U64, I64]

JUMP_M = 8.0  # farther than this in a tick is a jump even if no flag tells of it
STEP = 1.0 / REWIND_STEPS


@kernel(f"({HISTORY_TYPE}, i8, u8[::1], b1[::1], i8[::1], Tuple((f8[:,::1], f8[::1], u2[::1], i2[::1], u2[::1])))")
def write_poses(
    history: HistoryArrays, tick: int, ids: U64, alive: Bool, born: I64, poses: tuple[F64, F64, U16, I16, U16]
) -> int:
    """Keep the poses of a tick.

    Args:
        history: Where; the oldest tick is overwritten.
        tick: Which tick.
        ids: Of all players, shape (n,).
        alive: Who can be hit, shape (n,).
        born: First tick of each player's present life, shape (n,).
        poses: Feet [m] (n, 3), height [m], yaw, pitch, stance flags.

    Returns:
        How many can be hit.
    """
    slot = tick & (history[FEET].shape[0] - 1)
    feet, height, yaw = history[FEET][slot], history[HEIGHT][slot], history[YAW][slot]
    pitch, flags, kept = history[PITCH][slot], history[FLAGS][slot], history[IDS][slot]
    since = history[SINCE]
    # Behind the last row in use there is nothing to write, unless somebody was there when the ring was here last.
    last = alive.shape[0]
    while last > 0 and ids[last - 1] == 0 and kept[last - 1] == 0:
        last -= 1
    for row in range(np.uint64(alive.shape[0])):
        since[row] = born[row]
    count = 0
    for row in range(np.uint64(last)):
        lives = alive[row]
        kept[row] = ids[row] if lives else np.uint64(0)
        # Zero where nobody is: equal worlds then keep equal memories.
        feet[row, 0] = poses[0][row, 0] if lives else 0.0
        feet[row, 1] = poses[0][row, 1] if lives else 0.0
        feet[row, 2] = poses[0][row, 2] if lives else 0.0
        height[row] = poses[1][row] if lives else 0.0
        yaw[row] = poses[2][row] if lives else np.uint16(0)
        pitch[row] = poses[3][row] if lives else np.int16(0)
        flags[row] = poses[4][row] if lives else np.uint16(0)
        count += 1 if lives else 0
    return count


@kernel(counted=False, merge=True)
def ticks_back(rewind: int) -> int:
    """How many ticks before its own the tick at or before a moment lies."""
    return (rewind + REWIND_STEPS - 1) // REWIND_STEPS


@kernel(counted=False)
def pose_at(
    history: HistoryArrays, row: int, moment: tuple[int, int]
) -> tuple[bool, tuple[float, float, float], float]:
    """Where one player was at a moment.

    Args:
        history: Poses, those of the moment's tick among them.
        row: Which player.
        moment: (tick, rewind in 1/`REWIND_STEPS` tick).

    Returns:
        Whether the one who can be hit at the tick could be at the moment, in the same life; its feet; its height [m].
    """
    feet, height, ids = history[FEET], history[HEIGHT], history[IDS]
    mask = feet.shape[0] - 1
    back = ticks_back(moment[1])
    first = moment[0] - back
    here = first & mask
    occupant = ids[here, row]
    if occupant == 0 or occupant != ids[moment[0] & mask, row] or first < history[SINCE][row]:
        return False, (0.0, 0.0, 0.0), 0.0
    x, y, z, h = feet[here, row, 0], feet[here, row, 1], feet[here, row, 2], height[here, row]
    part = (REWIND_STEPS * back - moment[1]) * STEP
    if part > 0.0:
        there = (first + 1) & mask
        dx, dy, dz = feet[there, row, 0] - x, feet[there, row, 1] - y, feet[there, row, 2] - z
        turned = (int(history[FLAGS][here, row]) ^ int(history[FLAGS][there, row])) & TELEPORTED
        if turned == 0 and dx * dx + dy * dy + dz * dz <= JUMP_M * JUMP_M:
            return True, (x + dx * part, y + dy * part, z + dz * part), h + (height[there, row] - h) * part
    return True, (x, y, z), h
