"""A map from above with its roofs cut away: in each place the highest floor that players can walk on."""

import numpy as np

from server.maps.columns import Columns, crossings, cut_columns
from server.maps.columns_kernels import sky_light
from server.maps.shading import height_colours, lambert
from sim.arrays import F32, F64, I32, U8, Bool
from sim.worldmap import Contents, WorldMap

__all__ = ["topdown"]

WIDTH_MIN, WIDTH_MAX = 16, 4096
MARGIN_M = 1.5
SURVEY_CELLS = 256  # a coarse look finds what there is to see
WALL_M = 0.45  # width of the outline around reachable space
EDGE_M = 0.6  # a drop higher than this is outlined
LIQUIDS = (
    (Contents.WATER, (64, 128, 200), 0.55),
    (Contents.SLIME, (96, 168, 40), 0.7),
    (Contents.LAVA, (240, 96, 24), 0.8),
)
WALL = (14, 18, 25)
LEDGE = (74.0, 78.0, 84.0)
LIGHT_REACH_M = 3.0
HORIZON_DIRECTIONS, HORIZON_STEPS = 12, 8


def _drop(floor: F32) -> F32:
    """How far it goes down beside each pixel [m]; 0 at the border and beside nothing."""
    drop = np.zeros_like(floor)
    with np.errstate(invalid="ignore"):
        across, along = floor[:, 1:] - floor[:, :-1], floor[1:] - floor[:-1]
        np.fmax(drop[:, 1:], across, out=drop[:, 1:])
        np.fmax(drop[:, :-1], -across, out=drop[:, :-1])
        np.fmax(drop[1:], along, out=drop[1:])
        np.fmax(drop[:-1], -along, out=drop[:-1])
    return drop


def _grow(mask: Bool, pixels: int) -> Bool:
    """The mask and everything within `pixels` of it, round corners kept round."""
    from scipy.ndimage import distance_transform_edt

    return np.asarray(distance_transform_edt(~mask) <= pixels, dtype=bool)


def _liquid(world: WorldMap, columns: Columns, bit: int, floor: F32, ceiling: F32) -> Bool:
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


def _horizon(cell_m: float) -> tuple[I32, F32]:
    """Where to look for what hides the sky, and how much it counts: `offset` and `weight` of `sky_light`."""
    turns = np.arange(HORIZON_DIRECTIONS) * (2.0 * np.pi / HORIZON_DIRECTIONS)
    reach = max(LIGHT_REACH_M / cell_m, 1.0)
    step = np.unique(np.geomspace(1.0, reach, HORIZON_STEPS).round())
    offset = (np.stack([np.sin(turns), np.cos(turns)], axis=-1)[:, None, :] * step[:, None]).round()
    # Fades with distance, so that nothing ends in a visible ring.
    fade = (1.0 - step / (reach * 1.001)) / (step * cell_m)
    weight = np.tile(np.maximum(fade, 0.0), (HORIZON_DIRECTIONS, 1))
    return np.ascontiguousarray(offset.astype(np.int32)), weight.astype(np.float32)


def _light(world: WorldMap, surroundings: F32, owner: I32, cell_m: float) -> F32:
    """Brightness of each pixel: a soft lamp, and less of it beside walls and under steps."""
    corner = world.vertices[world.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300)
    bright = lambert(normal).astype(np.float32)[owner]
    seen = np.empty_like(surroundings)
    sky_light(surroundings, *_horizon(cell_m), seen)
    return np.asarray(bright * (0.3 + 0.7 * seen), dtype=np.float32)


def _shade(world: WorldMap, columns: Columns) -> tuple[F32, Bool]:
    """Colours 0 … 255, shape (height, width, 3), and where there is something; row 0 is south."""
    span, ledge = columns.top(columns.walked), columns.top(columns.reached)
    walked = span >= 0
    span = np.maximum(np.where(walked, span, ledge), 0)
    owner = columns.owner[span]
    ground = (walked | (ledge >= 0)) & (world.contents[owner] & int(Contents.SKY) == 0)
    floor = np.where(ground, columns.floor[span], np.float32(np.nan))
    if not ground.any():
        return np.zeros((*floor.shape, 3), np.float32), ground
    shown = floor[ground & walked] if (ground & walked).any() else floor[ground]
    low, high = (float(value) for value in np.percentile(shown, [1.0, 99.0]))
    high = max(high, low + 2.0)
    colour = height_colours(np.where(ground, floor, low), low, high).astype(np.float32)
    # Ledges and roofs that nobody can stand on are grey: they are there, but they are no floor.
    colour = np.where(walked[..., None], colour, np.float32(0.18) * colour + np.array(LEDGE, np.float32))
    # Rock stands above everything and shades what lies beside it; a void does not.
    surroundings = np.where(
        ground, floor, np.where(walked | (ledge >= 0), np.float32(low - 1.0), np.float32(high + 3.0))
    )
    colour *= _light(world, surroundings, owner, columns.cell_m)[..., None]
    edge = (_drop(floor) > EDGE_M)[..., None]
    colour = np.where(edge, colour + (255.0 - colour) * np.float32(0.3), colour)
    ceiling = columns.ceiling[span]
    for bit, tint, share in LIQUIDS:
        wet = _liquid(world, columns, int(bit), np.where(ground, floor, np.float32(np.inf)), ceiling)[..., None]
        colour = np.where(
            wet, colour * np.float32(1.0 - share) + np.array(tint, np.float32) * np.float32(share), colour
        )
    return colour, ground


def topdown(world: WorldMap, *, width_px: int = 1024) -> tuple[U8, F64, F64]:
    """The map from above, north (+Y) up, transparent where there is nothing but rock or void.

    Args:
        world: The map.
        width_px: Width of the picture; less where the map would need too much memory.

    Returns:
        The picture as RGBA, shape (height, width, 4), uint8, and the positions [m] of its south-west and north-east
        corners, shape (2,) each: the lower left corner of pixel (row, column) lies at
        low + (column, height − 1 − row) · (high − low) / (width, height).
    """
    width_px = min(max(width_px, WIDTH_MIN), WIDTH_MAX)
    extent = float((world.bounds[1] - world.bounds[0])[:2].max())
    window = cut_columns(world, cell_m=extent / SURVEY_CELLS).shown_window(world, margin_m=MARGIN_M)
    cell_m = float(window[1][0] - window[0][0]) / width_px
    columns = cut_columns(world, cell_m=cell_m, window=window)
    colour, ground = _shade(world, columns)
    wall = _grow(ground, max(1, round(WALL_M / columns.cell_m))) & ~ground
    colour = np.where(wall[..., None], np.array(WALL, dtype=np.float32), colour)
    image = np.empty((*ground.shape, 4), np.uint8)
    image[..., :3] = colour.clip(0.0, 255.0).round()
    image[..., 3] = (ground | wall) * np.uint8(255)
    size = np.array([columns.width, columns.height]) * columns.cell_m
    return np.ascontiguousarray(image[::-1]), columns.low.copy(), columns.low + size
