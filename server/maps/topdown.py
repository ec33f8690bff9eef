"""A map from above with its roofs cut away: the highest floor of each place that can be reached from the spawn points."""

import numpy as np

from server.maps.columns import Columns, crossings, cut_columns
from server.maps.shading import height_colours, lambert
from sim.arrays import F64, U8, Bool
from sim.worldmap import Contents, WorldMap

__all__ = ["topdown"]

WIDTH_MIN, WIDTH_MAX = 16, 4096
OVERSAMPLING = 2
MARGIN_M = 1.0
WALL_M = 0.45  # width of the outline around reachable space
EDGE_M = 0.6  # a drop higher than this is outlined
LIQUIDS = (
    (Contents.WATER, (64, 128, 200), 0.55),
    (Contents.SLIME, (96, 168, 40), 0.7),
    (Contents.LAVA, (240, 96, 24), 0.8),
)
WALL = (14, 18, 25)


def _shift(field: F64, dx: int, dy: int) -> F64:
    """The field moved by whole pixels, its border repeated."""
    padded = np.pad(field, ((max(dy, 0), max(-dy, 0)), (max(dx, 0), max(-dx, 0))), mode="edge")
    height, width = field.shape
    top, left = max(-dy, 0), max(-dx, 0)
    return padded[top : top + height, left : left + width]


def _occlusion(height: F64, cell_m: float) -> F64:
    """How much of the sky each pixel misses, 0 … 1, from the slope to its surroundings in eight directions."""
    total = np.zeros_like(height)
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (-1, 1), (-1, -1), (1, -1)):
        steepest = np.zeros_like(height)
        for reach_m in (0.4, 0.9, 1.8):
            step = max(1, round(reach_m / cell_m))
            distance = step * cell_m * (dx * dx + dy * dy) ** 0.5
            steepest = np.maximum(steepest, (_shift(height, dx * step, dy * step) - height) / distance)
        total += steepest / np.sqrt(1.0 + steepest * steepest)  # sine of the horizon's elevation
    return total / 8.0


def _grow(mask: Bool, pixels: int) -> Bool:
    """The mask and everything within `pixels` of it (octagonal)."""
    grown = mask.astype(np.float64)
    for step in range(pixels):
        wide = np.maximum(np.maximum(_shift(grown, 1, 0), _shift(grown, -1, 0)), grown)
        tall = np.maximum(_shift(grown, 0, 1), _shift(grown, 0, -1))
        grown = np.maximum(wide, tall)
        if step % 2:
            grown = np.maximum(np.maximum(_shift(wide, 0, 1), _shift(wide, 0, -1)), grown)
    return grown > 0.5


def _liquid(world: WorldMap, columns: Columns, bit: int, floor: F64, ceiling: F64) -> Bool:
    """Where the surface of a liquid lies between the shown floor and its ceiling."""
    triangles = np.ascontiguousarray(world.triangles[world.contents & bit != 0])
    if not len(triangles):
        return np.zeros(floor.shape, dtype=bool)
    start, z, which = crossings(world.vertices, triangles, columns)
    cell = np.repeat(np.arange(floor.size), np.diff(start))
    above = (which > 0) & (z > floor.ravel()[cell] + 0.05) & (z <= ceiling.ravel()[cell] + 0.05)
    wet = np.zeros(floor.size, dtype=bool)
    wet[cell[above]] = True
    return wet.reshape(floor.shape)


def _shade(world: WorldMap, columns: Columns) -> tuple[F64, Bool]:
    """Colours 0 … 255, shape (height, width, 3), and where there is a floor; row 0 is south."""
    span = columns.top_reached()
    owner = columns.owner[np.maximum(span, 0)]
    ground = (span >= 0) & (world.contents[owner] & int(Contents.SKY) == 0)
    floor = np.where(ground, columns.floor[np.maximum(span, 0)], np.nan).astype(np.float64)
    ceiling = columns.ceiling[np.maximum(span, 0)].astype(np.float64)
    if not ground.any():
        return np.zeros((*floor.shape, 3)), ground
    low, high = np.nanpercentile(floor, [1.0, 99.0])
    corner = world.vertices[world.triangles[owner]]
    normal = np.cross(corner[..., 1, :] - corner[..., 0, :], corner[..., 2, :] - corner[..., 0, :])
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-300)
    wall_top = float(high) + 3.0
    # A void beside a floor is a drop, not a wall: only solid rock darkens its surroundings.
    rock = span < 0
    solid = np.where(ground, floor, np.where(rock, wall_top, float(low)))
    light = lambert(normal) * (
        1.0 - 0.75 * _occlusion(np.minimum(solid, np.where(ground, floor, wall_top)), columns.cell_m)
    )
    colour = height_colours(np.where(ground, floor, low), float(low), max(float(high), float(low) + 2.0))
    colour *= light[..., None]
    drop = np.zeros(floor.shape)
    for dx, dy in ((1, 0), (0, 1), (-1, 0), (0, -1)):
        drop = np.maximum(drop, np.nan_to_num(floor - _shift(floor, dx, dy), nan=0.0))
    colour = np.where((drop > EDGE_M)[..., None], colour + (255.0 - colour) * 0.35, colour)
    for bit, tint, share in LIQUIDS:
        wet = _liquid(world, columns, int(bit), np.where(ground, floor, np.inf), ceiling)
        colour = np.where(wet[..., None], colour * (1.0 - share) + np.array(tint) * share, colour)
    return colour, ground


def topdown(world: WorldMap, *, width_px: int = 1024) -> tuple[U8, F64, F64]:
    """The map from above, north (+Y) up, transparent where nobody can be.

    Args:
        world: The map.
        width_px: Width of the picture; less where the map would need too much memory.

    Returns:
        The picture as RGBA, shape (height, width, 4), uint8, and the positions [m] of its south-west and north-east
        corners, shape (2,) each: pixel (row, column) is at low + (column, height − 1 − row) · (high − low) / size.
    """
    width_px = min(max(width_px, WIDTH_MIN), WIDTH_MAX)
    low, high = world.bounds
    cell_m = float(high[0] - low[0] + 2.0 * MARGIN_M) / (width_px * OVERSAMPLING)
    columns = cut_columns(world, cell_m=cell_m, margin_m=MARGIN_M)
    colour, ground = _shade(world, columns)
    wall = _grow(ground, max(1, round(WALL_M / columns.cell_m))) & ~ground
    alpha = (ground | wall).astype(np.float64)
    colour = np.where(wall[..., None], np.array(WALL, dtype=np.float64), colour)
    rows, cols = columns.height // OVERSAMPLING, columns.width // OVERSAMPLING
    trim = (slice(0, rows * OVERSAMPLING), slice(0, cols * OVERSAMPLING))
    blocks = (rows, OVERSAMPLING, cols, OVERSAMPLING)
    cover = alpha[trim].reshape(blocks).mean(axis=(1, 3))
    paint = (colour * alpha[..., None])[trim].reshape(*blocks, 3).mean(axis=(1, 3))
    paint /= np.maximum(cover, 1e-9)[..., None]
    image = np.dstack([paint, cover * 255.0]).clip(0.0, 255.0).round().astype(np.uint8)[::-1]
    size = np.array([cols, rows]) * OVERSAMPLING * columns.cell_m
    return np.ascontiguousarray(image), columns.low.copy(), columns.low + size
