"""Finished map pictures: the views with spawn points, items and triggers marked, a legend and a scale bar."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from server.maps.perspective import perspective
from server.maps.shading import BACKGROUND, ITEM_COLOURS, SPAWN_COLOURS, TRIGGER_COLOURS, item_colour
from server.maps.topdown import topdown
from sim.arrays import F64, U8
from sim.geometry import Geometry
from sim.worldmap import TriggerKind, WorldMap

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["perspective_plate", "topdown_plate"]

INK = (236, 238, 242)
DIM = (150, 158, 170)
OUTLINE = (10, 12, 16)
BAND_PX = 84
TRIGGER_NAMES = {TriggerKind.PUSH: "jump pad", TriggerKind.TELEPORT: "teleporter", TriggerKind.HURT: "hazard"}
TEAM_NAMES = {0: "spawn", 1: "spawn, red", 2: "spawn, blue"}
HIDDEN_M = 0.6  # a marker this far behind what a pixel shows is hidden

Project = Callable[[F64], F64]  # points (n, 3) [m] to pixel column, row and whether they are visible


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _spawn_mark(draw: "ImageDraw", x: float, y: float, towards: tuple[float, float], team: int, size: float) -> None:
    """An arrow head that points where the player will look."""
    length = math.hypot(*towards) or 1.0
    dx, dy = towards[0] / length * size, towards[1] / length * size
    tip, left, right = (
        (x + 1.5 * dx, y + 1.5 * dy),
        (x - dx - 0.9 * dy, y - dy + 0.9 * dx),
        (
            x - dx + 0.9 * dy,
            y - dy - 0.9 * dx,
        ),
    )
    draw.polygon([tip, left, (x - 0.4 * dx, y - 0.4 * dy), right], fill=SPAWN_COLOURS.get(team, INK), outline=OUTLINE)


def _item_mark(draw: "ImageDraw", x: float, y: float, kind: str, size: float) -> None:
    """One shape and colour per group: a cross for health, a shield, a diamond for weapons, dots, stars, flags."""
    group, colour = item_colour(kind)
    if group == "health":
        arm = size * 0.4
        for low, high in (((-size, -arm), (size, arm)), ((-arm, -size), (arm, size))):
            draw.rectangle([x + low[0] - 1, y + low[1] - 1, x + high[0] + 1, y + high[1] + 1], fill=OUTLINE)
        for low, high in (((-size, -arm), (size, arm)), ((-arm, -size), (arm, size))):
            draw.rectangle([x + low[0], y + low[1], x + high[0], y + high[1]], fill=colour)
    elif group == "armour":
        shield = [(-1.0, -1.0), (1.0, -1.0), (1.0, 0.1), (0.0, 1.2), (-1.0, 0.1)]
        draw.polygon([(x + a * size, y + b * size) for a, b in shield], fill=colour, outline=OUTLINE)
    elif group == "ammo":
        draw.rectangle([x - size * 0.6, y - size * 0.6, x + size * 0.6, y + size * 0.6], fill=colour, outline=OUTLINE)
    elif group == "powerup":
        draw.ellipse([x - size * 1.2, y - size * 1.2, x + size * 1.2, y + size * 1.2], fill=colour, outline=OUTLINE)
    elif group.startswith("flag"):
        draw.line([x, y + size * 1.6, x, y - size * 1.8], fill=INK, width=2)
        draw.polygon(
            [(x, y - size * 1.8), (x + size * 1.8, y - size), (x, y - size * 0.2)], fill=colour, outline=OUTLINE
        )
    else:
        diamond = [(x, y - size * 1.3), (x + size * 1.3, y), (x, y + size * 1.3), (x - size * 1.3, y)]
        draw.polygon(diamond, fill=colour, outline=OUTLINE)


def _mark(draw: "ImageDraw", world: WorldMap, project: Project, size: float) -> None:
    """Triggers first, then items, then spawn points, so that what matters most lies on top."""
    for trigger in world.triggers:
        (x0, y0, z0), (x1, y1, _) = trigger.low, trigger.high
        corners = np.array([[x0, y0, z0], [x1, y0, z0], [x1, y1, z0], [x0, y1, z0]])
        if max(x1 - x0, y1 - y0) > 60.0:
            continue  # a hazard below the whole map would only hide it
        outline = project(corners)
        if outline[:, 2].any():
            points = [(float(x), float(y)) for x, y, _ in outline]
            draw.polygon(points, outline=TRIGGER_COLOURS[int(trigger.kind)], width=3)
    if world.items:
        for item, (x, y, seen) in zip(world.items, project(np.array([i.position for i in world.items])), strict=True):
            if seen:
                _item_mark(draw, float(x), float(y), item.kind, size)
    places = np.array([spawn.position for spawn in world.spawns])
    turns = np.array([spawn.yaw for spawn in world.spawns]) * (math.tau / 65536.0)
    ahead = places + np.column_stack([np.cos(turns), np.sin(turns), np.zeros(len(turns))])
    for spawn, (x, y, seen), (x1, y1, _) in zip(world.spawns, project(places), project(ahead), strict=True):
        if seen:
            _spawn_mark(draw, float(x), float(y), (float(x1 - x), float(y1 - y)), spawn.team, size)


def _legend(draw: "ImageDraw", world: WorldMap, place: tuple[int, int], right: int, size: float) -> None:
    """What the marks mean, only those that occur, in rows that fit."""
    x, y = place
    teams = sorted({spawn.team for spawn in world.spawns})
    groups = {item_colour(item.kind)[0]: item.kind for item in world.items}
    kinds = sorted({trigger.kind for trigger in world.triggers})
    entries = [
        *((TEAM_NAMES.get(team, f"spawn, team {team}"), _spawn_entry(draw, team, size)) for team in teams),
        *(
            (group.replace("_", " "), _item_entry(draw, groups[group], size))
            for group in ITEM_COLOURS
            if group in groups
        ),
        *((TRIGGER_NAMES[kind], _trigger_entry(draw, int(kind), size)) for kind in kinds),
    ]
    font = _font(14)
    for text, paint in entries:
        width = 26 + int(draw.textlength(text, font=font)) + 18
        if x + width > right:
            x, y = place[0], y + 24
        paint(x + 10.0, y + 9.0)
        draw.text((x + 24, y), text, fill=INK, font=font)
        x += width


def _spawn_entry(draw: "ImageDraw", team: int, size: float) -> Callable[[float, float], None]:
    return lambda x, y: _spawn_mark(draw, x, y, (1.0, 0.0), team, size)


def _item_entry(draw: "ImageDraw", kind: str, size: float) -> Callable[[float, float], None]:
    return lambda x, y: _item_mark(draw, x, y, kind, size)


def _trigger_entry(draw: "ImageDraw", kind: int, size: float) -> Callable[[float, float], None]:
    return lambda x, y: draw.rectangle([x - size, y - size, x + size, y + size], outline=TRIGGER_COLOURS[kind], width=3)


def _scale_bar(draw: "ImageDraw", right: int, y: int, px_per_m: float) -> None:
    """A bar of a round length, about an eighth of the picture."""
    wanted = right / 8.0 / px_per_m
    step = 10.0 ** math.floor(math.log10(wanted))
    metres = max(factor * step for factor in (1.0, 2.0, 5.0) if factor * step <= wanted)
    left = right - round(metres * px_per_m)
    draw.line([left, y, right, y], fill=INK, width=3)
    for x in (left, right):
        draw.line([x, y - 5, x, y + 5], fill=INK, width=3)
    draw.text(((left + right) / 2, y - 20), f"{metres:g} m", fill=INK, font=_font(14), anchor="mm")


def _summary(world: WorldMap) -> str:
    size = world.bounds[1] - world.bounds[0]
    return (
        f"{size[0]:.0f} x {size[1]:.0f} x {size[2]:.0f} m, {len(world.triangles):,} triangles, "
        f"{len(world.spawns)} spawn points, {len(world.items)} items"
    )


def _finish(picture: U8, world: WorldMap, project: Project, *, mark_px: float, px_per_m: float | None) -> U8:
    """The picture with marks, above a band with its name, legend and scale."""
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    plate = Image.new("RGB", (width, height + BAND_PX), BACKGROUND)
    plate.paste(Image.fromarray(picture), (0, 0))
    draw = ImageDraw.Draw(plate)
    _mark(draw, world, project, mark_px)
    draw.rectangle([0, height, width, height + BAND_PX], fill=(24, 29, 38))
    draw.text((16, height + 8), world.name, fill=INK, font=_font(22))
    name_px = int(draw.textlength(world.name, font=_font(22)))
    draw.text((32 + name_px, height + 15), _summary(world), fill=DIM, font=_font(14))
    _legend(draw, world, (16, height + 40), width - 16, 6.0)
    if px_per_m is not None:
        _scale_bar(draw, width - 20, height - 20, px_per_m)
    return np.asarray(plate, dtype=np.uint8)


def topdown_plate(world: WorldMap, *, width_px: int = 1600) -> U8:
    """The map from above with marks, legend and scale bar, RGB, shape (height, width, 3), uint8."""
    image, low, high = topdown(world, width_px=width_px)
    height, width = image.shape[:2]
    cover = image[..., 3:].astype(np.float64) / 255.0
    picture = (image[..., :3] * cover + np.array(BACKGROUND) * (1.0 - cover)).round().astype(np.uint8)
    per_metre = width / float(high[0] - low[0])

    def project(points: F64) -> F64:
        column, row = (points[:, 0] - low[0]) * per_metre, (high[1] - points[:, 1]) * per_metre
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return np.column_stack([column, row, inside])

    return _finish(picture, world, project, mark_px=max(5.0, min(9.0, 0.35 * per_metre)), px_per_m=per_metre)


def perspective_plate(world: WorldMap, geometry: Geometry, *, size_px: Sequence[int] = (1600, 1000)) -> U8:
    """The map at a slant with marks and legend, RGB, shape (height, width, 3), uint8."""
    view = perspective(world, geometry, width=size_px[0], height=size_px[1])

    def project(points: F64) -> F64:
        spot = view.camera.project(points)
        column, row = spot[:, 0].astype(np.int64), spot[:, 1].astype(np.int64)
        inside = (column >= 0) & (column < size_px[0]) & (row >= 0) & (row < size_px[1]) & (spot[:, 2] > 0.0)
        seen = view.distance[np.where(inside, row, 0), np.where(inside, column, 0)]
        reach = np.linalg.norm(points - view.camera.position, axis=1)
        return np.column_stack([spot[:, :2], inside & (reach <= seen + HIDDEN_M)])

    return _finish(view.image, world, project, mark_px=5.0, px_per_m=None)
