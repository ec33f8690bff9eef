"""A picture of a map's visibility: how much each place sees, and what is seen from one of them."""

import numpy as np

from sim.arrays import F32, F64, I64, U8
from sim.visibility import VisibilityMap

__all__ = ["visibility_plate"]

BACKGROUND = (14, 18, 25)
GROUND = (52, 58, 68)
RING = (150, 96, 44)
SEEN = (250, 214, 96)
EYE = (64, 220, 255)
# From what sees little to what sees much: dark blue, teal, green, yellow, as in Matplotlib's viridis, by eye.
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
EDGE_PX = 8
EYE_PX = 3


def _columns(place: F64, pitch: float) -> tuple[I64, I64, int, int]:
    """Row (north up) and column of the picture for each voxel, and the picture's height and width, in voxels."""
    grid = np.floor((place[:, :2] - place[:, :2].min(axis=0)) / pitch + 0.5).astype(np.int64)
    width, height = (int(value) + 1 for value in grid.max(axis=0))
    return height - 1 - grid[:, 1], grid[:, 0], height, width


def _most(values: F32, row: I64, column: I64, height: int, width: int) -> F32:
    """The greatest value of each column of voxels, −1 where there is none."""
    picture: F32 = np.full((height, width), -1.0, np.float32)
    np.maximum.at(picture, (row, column), values)
    return picture


def _ramp(value: F32) -> F32:
    """Colours of values 0 … 1, shape (…, 3)."""
    at = np.clip(value, 0.0, 1.0) * (len(RAMP) - 1)
    stops = np.array(RAMP, np.float32)
    low = np.minimum(at.astype(np.int64), len(RAMP) - 2)
    share = (at - low)[..., None].astype(np.float32)
    colours: F32 = stops[low] * (1.0 - share) + stops[low + 1] * share
    return colours


def visibility_plate(known: VisibilityMap, eye: F64, *, width_px: int = 1600) -> U8:
    """Two views from above, north up: on the left how much each place sees, on the right what one eye sees.

    In each place the voxel that sees most is shown on the left, brighter for more. On the right yellow is what the
    eye's cell sees, brown what only neighbours of it, or neighbours of what they see, do: what rays are for.

    Args:
        known: The map's visibility.
        eye: Where it is seen from [m], shape (3,); where no cell is known, the nearest known one.
        width_px: Width of the picture, about.

    Returns:
        RGB, shape (height, width, 3), uint8.
    """
    cell, place = known.voxels()
    row, column, height, width = _columns(place, known.pitch_m)
    nearest = int(((place - eye) ** 2).sum(axis=1).argmin())
    from_cell = int(known.cells(eye)[0])
    if from_cell < 0:
        from_cell = int(cell[nearest])
    volume = np.bincount(cell, minlength=len(known)).astype(np.float64)
    share = (known.seen() @ volume / volume.sum()).astype(np.float32)
    most = _most(share[cell], row, column, height, width)
    left = np.where(
        most[..., None] < 0.0, np.array(BACKGROUND, np.float32), _ramp(most / max(float(share.max()), 1e-9))
    )
    state = known.seen()[from_cell].astype(np.float32) + known.grown()[from_cell]
    level = _most(state[cell], row, column, height, width).astype(np.int64) + 1
    right = np.array([BACKGROUND, GROUND, RING, SEEN], np.float32)[level]
    r, c = int(row[nearest]), int(column[nearest])
    scale = max(1, (width_px - 3 * EDGE_PX) // (2 * width))
    picture: U8 = np.empty((height * scale + 2 * EDGE_PX, 2 * width * scale + 3 * EDGE_PX, 3), np.uint8)
    picture[:] = BACKGROUND
    for number, part in enumerate((left, right)):
        x = EDGE_PX + number * (width * scale + EDGE_PX)
        large = part.round().astype(np.uint8).repeat(scale, axis=0).repeat(scale, axis=1)
        picture[EDGE_PX : EDGE_PX + height * scale, x : x + width * scale] = large
        y0, x0 = EDGE_PX + r * scale + scale // 2, x + c * scale + scale // 2
        picture[max(0, y0 - EYE_PX) : y0 + EYE_PX + 1, max(0, x0 - EYE_PX) : x0 + EYE_PX + 1] = EYE
    return picture
