"""Frames of cubes: read from a file, or made from a seed.

A file is a numpy archive with `state`, int32 of shape (frames, cubes, 8): index of the largest quaternion component
(0 to 3), the other three (0 to 511), x and y in 1/512 m (18 bits, signed), z (14 bits), interacting (0 or 1).
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from sim.arrays import F64, I32, I64
from tools.cubes.codec import HIGH, LOW, check_frames
from tools.cubes.model_kernels import COLUMNS
from tools.errors import ToolsError

__all__ = ["generate_cubes", "load_cubes"]

CUBES = 901
TICK_S = 1 / 60
GRAVITY = 20.0
HALF_M = 0.2
REACH_M = 3.0
UP = np.array([0.0, 0.0, 4.0])  # of a kick [m/s]


def load_cubes(path: Path) -> I32:
    """The frames of a file, int32, shape (frames, cubes, 8), C-contiguous.

    Raises:
        ToolsError: The file is not such an archive, or a value is out of its range.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            state = np.asarray(stored["state"])
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise ToolsError(f"{path}: no frames of cubes ({error}); give a .npz file with the array `state`") from error
    check_frames(str(path), state)
    return np.ascontiguousarray(state, np.int32)


def _pack(position: F64, quaternion: F64, interacting: F64) -> I32:
    """One frame as rows of eight."""
    largest = np.abs(quaternion).argmax(1)
    rows = np.arange(len(largest))
    turned = quaternion * np.where(quaternion[rows, largest] < 0, -1.0, 1.0)[:, None]
    small = np.stack([turned[rows, axis + (axis >= largest)] for axis in range(3)], axis=1)
    frame: I64 = np.zeros((len(largest), COLUMNS), np.int64)
    frame[:, 0] = largest
    frame[:, 1:4] = np.rint((small * np.sqrt(2.0) + 1.0) / 2.0 * 511)
    frame[:, 4:7] = np.rint(position * 512)
    frame[:, 7] = interacting
    return np.clip(frame, LOW, HIGH).astype(np.int32)


def _turn(quaternion: F64, spin: F64) -> F64:
    """Orientations (x, y, z, w) after one tick of turning at `spin` [rad/s]."""
    step = np.concatenate([spin * (TICK_S / 2), np.zeros((len(spin), 1))], axis=1)
    (ax, ay, az, aw), (bx, by, bz, bw) = step.T, quaternion.T
    grown = quaternion + np.stack(
        [
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
            aw * bw - ax * bx - ay * by - az * bz,
        ],
        axis=1,
    )
    return np.asarray(grown / np.linalg.norm(grown, axis=1, keepdims=True))


def generate_cubes(seed: int, frames: int, cubes: int = CUBES) -> I32:
    """Frames of cubes that fly, bounce, slide and come to rest as a large one (cube 0) kicks those near it about.

    Points with a spin rather than rigid bodies: gravity, restitution 0.4, friction on the ground for speed and spin,
    and kicks whose strength and direction are random. It stands in where no recorded data is at hand; figures for
    choosing a codec come from recorded data.

    Args:
        seed: Equal seeds give equal frames.
        frames: How many frames at 60 Hz.
        cubes: How many cubes, the large one among them.

    Returns:
        Shape (frames, cubes, 8), as in a file.
    """
    random = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(cubes)))
    grid = np.stack(np.divmod(np.arange(cubes), side), axis=1) * 0.6 - side * 0.3
    position: F64 = np.concatenate([grid, np.full((cubes, 1), HALF_M)], axis=1)
    velocity, spin = np.zeros((cubes, 3)), np.zeros((cubes, 3))
    quaternion: F64 = np.tile([0.0, 0.0, 0.0, 1.0], (cubes, 1))
    interacting = np.zeros(cubes)
    made = np.zeros((frames, cubes, COLUMNS), np.int32)
    heading = 0.0
    for frame in range(frames):
        made[frame] = _pack(position, quaternion, interacting)
        heading += random.normal(0.0, 0.1)
        velocity[0, :2] = 4.0 * np.cos(heading), 4.0 * np.sin(heading)
        velocity[0, :2] -= 0.2 * position[0, :2]
        near = np.linalg.norm(position - position[0], axis=1) < REACH_M
        near[0] = False
        interacting[:] = near
        kicked = near & (random.random(cubes) < 0.02)
        count = int(kicked.sum())
        velocity[kicked] += random.normal(0.0, 2.0, (count, 3)) + UP
        spin[kicked] += random.normal(0.0, 4.0, (count, 3))
        velocity[:, 2] -= GRAVITY * TICK_S
        position += velocity * TICK_S
        landed = position[:, 2] < HALF_M
        position[landed, 2] = HALF_M
        velocity[landed, 2] *= -0.4
        velocity[landed, :2] *= 0.93
        spin[landed] *= 0.9
        still = landed & (np.abs(velocity).sum(1) < 0.4) & (np.abs(spin).sum(1) < 0.2)
        velocity[still], spin[still] = 0.0, 0.0
        quaternion = _turn(quaternion, spin)
    return made
