"""A map seen at a slant from above, traced through its hierarchy, with roofs and near walls cut away.

A ray goes on through whatever bounds no space near a walkable floor: from outside it passes a roof or an outer wall and
stops at the floor and the far walls of the rooms behind. Then a few short rays from each point tell how open it is
(ambient occlusion, Zhukov et al. 1998), which makes corners and steps readable.
"""

import math
from dataclasses import dataclass

import numpy as np

from server.maps.columns import Columns, cut_columns
from server.maps.shading import BACKGROUND, height_colours, lambert
from sim.arrays import F32, F64, I64, U8, Bool
from sim.geometry import Geometry
from sim.worldmap import Contents, WorldMap

__all__ = ["Camera", "Picture", "aim_camera", "perspective"]

FIELD_OF_VIEW = math.radians(28.0)
YAW, ELEVATION = math.radians(60.0), math.radians(48.0)
CELL_M = 0.25
SURFACES_MAX = 32  # what a ray passes before it gives up
HEADROOM_M = 3.2  # walls are cut this far above the floor
CUT_REACH_M = 1.6  # rock is shown as cut up to here from a floor
CAP_STEPS = 24
CAP = (44.0, 50.0, 60.0)
NUDGE_M = 0.12  # from a surface into the space before it
AMBIENT_RAYS, AMBIENT_M = 6, 2.0
GOLDEN = 2.399963229728653  # radians: successive turns spread evenly (Vogel 1979)
LIQUID = int(Contents.WATER | Contents.LAVA | Contents.SLIME)
LIQUID_COLOURS = ((Contents.WATER, (64, 128, 200)), (Contents.SLIME, (96, 168, 40)), (Contents.LAVA, (240, 96, 24)))


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera: position [m], and unit vectors of the view, the picture's right and its top."""

    position: F64
    forward: F64
    right: F64
    up: F64
    width: int
    height: int

    @property
    def scale(self) -> float:
        """Half the picture's height at a distance of one metre."""
        return math.tan(FIELD_OF_VIEW / 2.0)

    def rays(self) -> F64:
        """Unit directions through all pixels, row by row from the top, shape (width · height, 3)."""
        x = (np.arange(self.width) + 0.5 - self.width / 2.0) * (2.0 * self.scale / self.height)
        y = (self.height / 2.0 - np.arange(self.height) - 0.5) * (2.0 * self.scale / self.height)
        rays = self.forward + x[None, :, None] * self.right + y[:, None, None] * self.up
        rays = rays.reshape(-1, 3)
        return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True), dtype=np.float64)

    def project(self, points: F64) -> F64:
        """Pixel column, pixel row and distance along the view [m] of points, shape (n, 3)."""
        offset = points - self.position
        depth = offset @ self.forward
        per_metre = self.height / (2.0 * self.scale * np.maximum(depth, 1e-6))
        column = self.width / 2.0 + (offset @ self.right) * per_metre
        row = self.height / 2.0 - (offset @ self.up) * per_metre
        return np.column_stack([column, row, depth])


@dataclass(frozen=True, slots=True)
class Picture:
    """An RGB picture, shape (height, width, 3), and how far each pixel sees [m], shape (height, width)."""

    image: U8
    distance: F64
    camera: Camera


def aim_camera(points: F64, *, width: int, height: int) -> Camera:
    """A camera that sees all points [m], shape (n, 3), from the south-west above, as close as they fit."""
    forward = np.array([math.cos(ELEVATION) * math.cos(YAW), math.cos(ELEVATION) * math.sin(YAW), -math.sin(ELEVATION)])
    right = np.array([math.sin(YAW), -math.cos(YAW), 0.0])
    up = np.cross(right, forward)
    scale_y = math.tan(FIELD_OF_VIEW / 2.0)
    scale_x = scale_y * width / height
    x, y, z = points @ right, points @ up, points @ forward
    middle_x, middle_y, distance = 0.0, 0.0, 0.0
    for _ in range(12):  # nearer points reach farther out; a few rounds centre what is seen
        distance = 1.04 * float((np.maximum(np.abs(x - middle_x) / scale_x, np.abs(y - middle_y) / scale_y) - z).max())
        depth = z + distance
        left, rightmost = float(((x - middle_x) / depth).min()), float(((x - middle_x) / depth).max())
        lowest, highest = float(((y - middle_y) / depth).min()), float(((y - middle_y) / depth).max())
        middle_x += (left + rightmost) / 2.0 * float(depth.mean())
        middle_y += (lowest + highest) / 2.0 * float(depth.mean())
    distance = 1.06 * float((np.maximum(np.abs(x - middle_x) / scale_x, np.abs(y - middle_y) / scale_y) - z).max())
    position = right * middle_x + up * middle_y - forward * distance
    return Camera(position, forward, right, up, width, height)


def _normals(world: WorldMap) -> F64:
    corner = world.vertices[world.triangles]
    normal = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    return np.asarray(normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-300), dtype=np.float64)


def _caps(columns: Columns, cut: F32, start: F64, end: F64) -> F64:
    """Where straight ways through rock first dip below the cut, as a share of each way; NaN where they do not.

    Args:
        columns: The map's columns.
        cut: `Columns.cut_height`.
        start: Where each way enters the rock [m], shape (n, 3).
        end: Where it leaves it.
    """
    share = np.full(len(start), np.nan)
    walkable = (columns.top(columns.walked) >= 0).ravel()
    for step in range(CAP_STEPS, -1, -1):
        part = step / CAP_STEPS
        point = start + part * (end - start)
        cell, valid = columns.cell_of(point)
        under = valid & ~walkable[cell] & (point[:, 2] <= cut.ravel()[cell])
        share[under] = part
    return share


@dataclass(frozen=True, slots=True)
class _Trace:
    """What each pixel shows: distance [m] (infinity: nothing), triangle, and whether it is a cut through rock."""

    distance: F64
    triangle: I64
    cap: Bool


def _trace(world: WorldMap, geometry: Geometry, columns: Columns, camera: Camera, normals: F64) -> _Trace:
    """Follow every pixel's ray through all that hides the rooms."""
    cut = columns.cut_height(headroom_m=HEADROOM_M, reach_m=CUT_REACH_M)
    rays = camera.rays()
    seen = _Trace(np.full(len(rays), np.inf), np.full(len(rays), -1, dtype=np.int64), np.zeros(len(rays), dtype=bool))
    travelled = np.zeros(len(rays))
    entered, last = np.full(len(rays), np.nan), np.full(len(rays), np.nan)  # where rock began; the surface before
    active = np.arange(len(rays))
    for _ in range(SURFACES_MAX):
        if not len(active):
            break
        origin = camera.position + rays[active] * travelled[active, None]
        step, triangle = geometry.closest_hit(origin, rays[active], mask=int(Contents.SOLID) | LIQUID)
        hit = triangle >= 0
        active, ray, normal = active[hit], rays[active[hit]], normals[triangle[hit]]
        contents, triangle = world.contents[triangle[hit]], triangle[hit].astype(np.int64)
        travelled[active] += step[hit]
        point = camera.position + ray * travelled[active, None]
        rock = contents & int(Contents.SOLID) != 0
        facing = (normal * ray).sum(axis=1) < 0.0
        # Of two faces that touch, the one that leads in may have been passed with the other: then rock began there.
        inside = np.where(np.isnan(entered[active]) & rock & ~facing, last[active], entered[active])
        share = _caps(columns, cut, camera.position + ray * inside[:, None], point)
        capped = ~np.isnan(share)
        usual = np.where(rock, contents & int(Contents.SKY) == 0, normal[:, 2] > 0.5)
        shown = facing & usual & columns.shows(point + normal * NUDGE_M, cut, headroom_m=HEADROOM_M)
        shown &= ~capped
        seen.distance[active[shown]] = travelled[active[shown]]
        seen.distance[active[capped]] = (inside + share * (travelled[active] - inside))[capped]
        seen.triangle[active] = np.where(shown | capped, triangle, -1)
        seen.cap[active] = capped
        into_rock = facing & rock & (contents & int(Contents.SKY) == 0)
        entered[active] = np.where(into_rock, travelled[active], np.where(rock, np.nan, entered[active]))
        last[active] = travelled[active]
        travelled[active] += 1e-4
        active = active[~(shown | capped)]
    return seen


def _floor_points(world: WorldMap, columns: Columns) -> F64:
    """The highest walkable floor of every column that has one, or any floor where none is walkable, shape (n, 3)."""
    for chosen in (columns.walked, columns.reached, np.ones(len(columns.floor), np.uint8)):
        span = columns.top(chosen)
        shown = (span >= 0) & (world.contents[columns.owner[np.maximum(span, 0)]] & int(Contents.SKY) == 0)
        if shown.any():
            break
    row, column = np.nonzero(shown)
    xy = columns.low + (np.column_stack([column, row]) + 0.5) * columns.cell_m
    return np.column_stack([xy, columns.floor[span[shown]].astype(np.float64)])


def _openness(geometry: Geometry, points: F64, normals: F64, pixels: I64, width: int) -> F64:
    """Share of short rays from each point that meet nothing, from 0 to 1."""
    helper = np.where(np.abs(normals[:, 2:3]) < 0.9, [[0.0, 0.0, 1.0]], [[1.0, 0.0, 0.0]])
    tangent = np.cross(helper, normals)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    other = np.cross(normals, tangent)
    # Neighbouring pixels use turned sets of rays, and a 4 × 4 mean joins 16 of them.
    turn = ((pixels % width) % 4 + 4 * ((pixels // width) % 4)) * (GOLDEN / 3.0)
    free = np.zeros(len(points))
    start = points + normals * 0.02
    for ray in range(AMBIENT_RAYS):
        rise = math.sqrt((ray + 0.5) / AMBIENT_RAYS)
        angle = turn + ray * GOLDEN
        flat = np.cos(angle)[:, None] * tangent + np.sin(angle)[:, None] * other
        target = start + (flat * math.sqrt(1.0 - rise * rise) + normals * rise) * AMBIENT_M
        free += ~geometry.any_hit(start, target, mask=int(Contents.SOLID))
    return free / AMBIENT_RAYS


def _smooth(field: F64, valid: Bool, depth: F64) -> F64:
    """A 4 × 4 mean over pixels that see about as far."""
    total, weight = np.zeros_like(field), np.zeros_like(field)
    rows, columns = field.shape
    padded = np.pad(field, 2, mode="edge"), np.pad(valid, 2, mode="edge"), np.pad(depth, 2, mode="edge")
    for dy in range(4):
        for dx in range(4):
            part = slice(dy, dy + rows), slice(dx, dx + columns)
            with np.errstate(invalid="ignore"):
                near = padded[1][part] & (np.abs(padded[2][part] - depth) < 0.004 * depth + 0.1)
            total += np.where(near, padded[0][part], 0.0)
            weight += near
    return np.asarray(np.where(weight > 0, total / np.maximum(weight, 1.0), field), dtype=np.float64)


def perspective(world: WorldMap, geometry: Geometry, *, width: int = 1280, height: int = 800) -> Picture:
    """The map at a slant from above.

    Args:
        world: The map.
        geometry: Its hierarchy.
        width: Pixels.
        height: Pixels.
    """
    extent = float((world.bounds[1] - world.bounds[0])[:2].max())
    columns = cut_columns(world, cell_m=max(CELL_M, extent / 1024.0))
    points = _floor_points(world, columns)
    low_z, high_z = (float(value) for value in np.percentile(points[:, 2], [1.0, 99.0]))
    lift = np.array([0.0, 0.0, HEADROOM_M])
    camera = aim_camera(np.concatenate([points - lift, points + lift]), width=width, height=height)
    normals = _normals(world)
    trace = _trace(world, geometry, columns, camera, normals)
    distance, seen = trace.distance, trace.triangle
    pixels = np.flatnonzero(seen >= 0)
    points = camera.position + camera.rays()[pixels] * distance[pixels, None]
    facing = np.where(trace.cap[pixels, None], [[0.0, 0.0, 1.0]], normals[seen[pixels]])
    shape = (height, width)
    openness = np.ones(height * width)
    openness[pixels] = _openness(geometry, points, facing, pixels, width)
    openness = _smooth(openness.reshape(shape), (seen >= 0).reshape(shape), distance.reshape(shape)).ravel()
    colour = height_colours(points[:, 2], low_z, max(high_z, low_z + 2.0))
    upright = np.abs(facing[:, 2:3]) < 0.3
    colour = np.where(upright, colour * 0.55 + np.array([60.0, 62.0, 66.0]), colour)  # walls are greyer than floors
    for bit, tint in LIQUID_COLOURS:
        wet = (world.contents[seen[pixels]] & int(bit) != 0)[:, None]
        colour = np.where(wet, np.array(tint, dtype=np.float64), colour)
    light = lambert(facing) * (0.3 + 0.7 * openness[pixels]) * 1.08
    light[trace.cap[pixels]] = 1.0
    colour[trace.cap[pixels]] = CAP
    image = np.tile(np.array(BACKGROUND, dtype=np.float64), (height * width, 1))
    image[pixels] = colour * light[:, None]
    picture = image.reshape(height, width, 3).clip(0.0, 255.0).round().astype(np.uint8)
    return Picture(picture, distance.reshape(shape), camera)
