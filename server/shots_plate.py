"""A picture of one explained shot: from the side, from above, and along the ray.

All three are parallel projections in the frame of the deciding ray: along it, to its right and up. Walls are where the
plane of the picture cuts the map, so what is drawn as a line is exactly what the ray could have met there. Bodies are
drawn where they were judged, and as ghosts where they are in the tick of the shot; so are doors and lifts.
"""

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from server.shots import Shot, Target
from server.shots_rays import HITBOXES, Passage
from server.shots_walls import MoverPlace, shifted_corners
from sim.arrays import F64
from sim.worldmap import WorldMap

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["PLATE_SIZE", "shot_plate"]

PLATE_SIZE = (1440, 960)
FINE = 2  # drawn so much larger, then reduced: smooth edges
MARGIN, TITLE = 16, 76
BACKGROUND, PANEL, GRID = (13, 17, 23), (19, 25, 34), (30, 39, 51)
INK, DIM, WALL = (230, 236, 244), (139, 152, 169), (120, 134, 152)
RAY, HIT = (110, 231, 200), (255, 255, 255)
COLOURS = {"head": (255, 107, 94), "torso": (242, 193, 78), "legs": (94, 160, 255)}
GHOST = (160, 174, 192)
SCOPE_M = 1.1  # half the height of the view along the ray, at least
BEYOND_M = 2.0  # drawn beyond the end of the ray


class _Panel:
    """A part of the picture with a scale of its own: metres to pixels, first to the right, second up."""

    def __init__(self, size: tuple[int, int], low: tuple[float, float], per_metre: float) -> None:
        from PIL import Image, ImageDraw

        self.size = (size[0] * FINE, size[1] * FINE)
        self.image = Image.new("RGB", self.size, PANEL)
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self._low, self._per_metre = low, per_metre * FINE
        step = 1.0 if per_metre > 24 else 5.0
        for axis, extent in enumerate(self.size):
            count = int(extent / (self._per_metre * step)) + 2
            first = math.ceil(low[axis] / step)
            for number in range(first, first + count):
                at = (number * step - low[axis]) * self._per_metre
                line = (
                    [at, 0, at, self.size[1]] if axis == 0 else [0, self.size[1] - at, self.size[0], self.size[1] - at]
                )
                self.draw.line(line, fill=GRID, width=1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a point [m]."""
        return (x - self._low[0]) * self._per_metre, self.size[1] - (y - self._low[1]) * self._per_metre

    def line(self, points: Sequence[tuple[float, float]], colour: tuple[int, ...], width: float = 2.0) -> None:
        self.draw.line([self.at(*point) for point in points], fill=colour, width=round(width * FINE))

    def dashes(self, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, ...]) -> None:
        """A broken line."""
        length = math.dist(start, end)
        count = min(400, max(1, round(length * self._per_metre / (10 * FINE))))
        for number in range(count):
            a, b = number / count, (number + 0.5) / count
            part = [(start[0] + (end[0] - start[0]) * s, start[1] + (end[1] - start[1]) * s) for s in (a, b)]
            self.line(part, colour, 1.2)

    def capsule(
        self, a: tuple[float, float], b: tuple[float, float], radius: float, fill: tuple[int, ...] | None,
        outline: tuple[int, ...],
    ) -> None:  # fmt: skip
        """The outline of a capsule between two points [m]."""
        angle = math.atan2(b[1] - a[1], b[0] - a[0])
        rim = []
        for centre, begin in ((b, angle - math.pi / 2), (a, angle + math.pi / 2)):
            for number in range(25):
                turn = begin + number * math.pi / 24
                rim.append(self.at(centre[0] + radius * math.cos(turn), centre[1] + radius * math.sin(turn)))
        if fill is not None:
            self.draw.polygon(rim, fill=fill)
        self.draw.line([*rim, rim[0]], fill=outline, width=round(1.6 * FINE), joint="curve")

    def text(
        self, x: float, y: float, words: str, colour: tuple[int, ...] = INK, *, size: int = 14, anchor: str = "lm"
    ) -> None:
        """Words at a point [m], kept within the panel."""
        font = _font(size * FINE)
        px, py = self.at(x, y)
        left, top, right, bottom = self.draw.textbbox((px, py), words, font=font, anchor=anchor)
        px += max(4 * FINE - left, 0) - max(right - self.size[0] + 4 * FINE, 0)
        py += max(4 * FINE - top, 0) - max(bottom - self.size[1] + 4 * FINE, 0)
        self.draw.text((px, py), words, font=font, anchor=anchor, fill=colour, stroke_width=2 * FINE, stroke_fill=PANEL)

    def caption(self, words: str) -> None:
        """What the panel shows, in its corner."""
        self.draw.text((10 * FINE, 8 * FINE), words, font=_font(14 * FINE), fill=DIM)
        metre = self._per_metre
        x, y = self.size[0] - metre - 12 * FINE, 16 * FINE
        self.draw.line([x, y, x + metre, y], fill=DIM, width=2 * FINE)
        self.draw.text((x - 6 * FINE, y), "1 m", font=_font(12 * FINE), fill=DIM, anchor="rm")


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


class _Frame:
    """Coordinates by the ray: along it, to its right, up."""

    def __init__(self, shot: Shot) -> None:
        self.origin: F64 = np.array(shot.ray.origin)
        along: F64 = np.array(shot.ray.direction)
        level = np.array([along[1], -along[0], 0.0])
        size = float(np.linalg.norm(level))
        right = level / size if size > 1e-6 else np.array([1.0, 0.0, 0.0])
        self.axes: F64 = np.stack([along, right, np.cross(right, along)])

    def of(self, point: Sequence[float] | F64) -> tuple[float, float, float]:
        """A point of the world in these coordinates [m]."""
        x, y, z = (self.axes @ (np.asarray(point, np.float64) - self.origin)).tolist()
        return x, y, z

    def cut(self, world: WorldMap, normal: int, movers: Sequence[MoverPlace] = ()) -> F64:
        """Where the plane through the ray with this axis as its normal cuts what stops shots: shape (n, 2, 3) [m].

        Args:
            world: The map; its movers rest where nothing else is said of them.
            normal: Axis of this frame.
            movers: Where they stood by the moment of the shot.
        """
        return self._cut(shifted_corners(world, [(place.number - 1, place.offset) for place in movers]), normal)

    def cut_now(self, world: WorldMap, normal: int, movers: Sequence[MoverPlace]) -> F64:
        """As `cut`, of those movers alone that stand elsewhere in the tick of the shot, there."""
        moved = [(place.number - 1, place.offset_now) for place in movers if place.moved]
        return self._cut(shifted_corners(world, moved, others=False), normal)

    def _cut(self, points: F64, normal: int) -> F64:
        corners = (points - self.origin) @ self.axes.T
        side = corners[:, :, normal]
        crossing = corners[(side.min(axis=1) <= 0.0) & (side.max(axis=1) > 0.0)]
        if not len(crossing):
            return np.zeros((0, 2, 3))
        after = np.roll(crossing, -1, axis=1)
        here, there = crossing[:, :, normal], after[:, :, normal]
        cuts = (here > 0.0) != (there > 0.0)
        share = np.where(cuts, here / np.where(cuts, here - there, 1.0), 0.0)[:, :, None]
        points = crossing + (after - crossing) * share
        # Every triangle that crosses the plane does so with exactly two of its edges.
        return np.asarray(points[cuts].reshape(-1, 2, 3), np.float64)


def _body(panel: _Panel, frame: _Frame, target: Target, axes: tuple[int, int], *, now: bool) -> None:
    """One player's boxes, where they were judged or where they are now."""
    feet, height = (target.feet_now, target.height_now) if now else (target.feet, target.height)
    for box in reversed(HITBOXES):
        ends = [frame.of((feet[0], feet[1], feet[2] + part * height)) for part in (box.low, box.high)]
        a, b = ((end[axes[0]], end[axes[1]]) for end in ends)
        colour = GHOST if now else COLOURS[box.name]
        fill = None if now else (*colour, 70)
        panel.capsule(a, b, box.radius * height, fill, (*colour, 120 if now else 255))


def _name(panel: _Panel, frame: _Frame, target: Target, axes: tuple[int, int], *, moved: bool) -> None:
    """Who it is, and which of its two places is now, each on the side where the other is not."""
    then = frame.of((target.feet[0], target.feet[1], target.feet[2] + 0.55 * target.height))
    now = frame.of((target.feet_now[0], target.feet_now[1], target.feet_now[2] + 0.55 * target.height_now))
    upright = axes[1] == 2
    reach = 0.62 * target.height if upright else 0.28 * target.height
    sign = 1.0 if upright or then[axes[1]] >= now[axes[1]] else -1.0
    anchor = "mb" if sign > 0.0 else "mt"
    panel.text(then[axes[0]], then[axes[1]] + sign * reach, target.name, anchor=anchor, size=15)
    apart = math.hypot(now[axes[0]] - then[axes[0]], now[axes[1]] - then[axes[1]])
    if moved and apart > reach / 2.0:
        other = "mt" if sign > 0.0 else "mb"
        panel.text(now[axes[0]], now[axes[1]] - sign * reach, "now", GHOST, anchor=other, size=12)


def _parts(shot: Shot) -> str:
    words = shot.rewind_words()
    return f" = {words}" if words else ""


def _wall(shot: Shot) -> str:
    return "wall" if shot.ray.mover is None else shot.ray.mover.name


def _moved(target: Target) -> bool:
    return math.dist(target.feet, target.feet_now) > 0.05


def _length(shot: Shot) -> float:
    """How much of the ray is shown [m]."""
    ends = [shot.ray.end_m if shot.ray.is_wall or shot.ray.strikes else 0.0]
    ends += [target.nearest.along_m for target in shot.targets[:3]]
    return max(4.0, min(max(ends), 400.0)) + BEYOND_M


def _lane(shot: Shot, frame: _Frame, world: WorldMap, size: tuple[int, int], axes: tuple[int, int]) -> "Image":
    """The ray from beside: along it to the right, and the other axis up."""
    length = _length(shot)
    per_metre = size[0] / (length + 1.5)
    half = size[1] / per_metre / 2.0
    panel = _Panel(size, (-1.0, -half), per_metre)
    for start, end in frame.cut_now(world, 3 - axes[1], shot.movers).tolist():
        panel.line([(start[0], start[axes[1]]), (end[0], end[axes[1]])], (*GHOST, 120), 1.6)
    for start, end in frame.cut(world, 3 - axes[1], shot.movers).tolist():
        panel.line([(start[0], start[axes[1]]), (end[0], end[axes[1]])], WALL, 2.0)
    for target in shot.targets:
        if _moved(target):
            _body(panel, frame, target, axes, now=True)
        _body(panel, frame, target, axes, now=False)
    end = min(shot.ray.end_m, length)
    for number, pellet in enumerate(shot.pellets):
        if number != shot.decider:
            tip = frame.of(pellet.at(min(pellet.end_m, length)))
            panel.line([(0.0, 0.0), (tip[0], tip[axes[1]])], (*RAY, 60), 1.0)
    panel.line([(0.0, 0.0), (end, 0.0)], RAY, 2.0)
    if end < length:
        panel.dashes((end, 0.0), (length, 0.0), (*RAY, 130))
    panel.capsule((0.0, 0.0), (0.0, 0.0), 5.0 / per_metre, RAY, RAY)
    panel.text(0.1, 12.0 / per_metre, shot.name, RAY, anchor="lb")
    for strike in shot.ray.strikes:
        panel.capsule((strike.distance_m, 0.0), (strike.distance_m, 0.0), 4.0 / per_metre, HIT, HIT)
    if shot.ray.is_wall and shot.ray.wall_m <= length:
        panel.line([(shot.ray.wall_m, -0.3), (shot.ray.wall_m, 0.3)], HIT, 2.0)
        panel.text(shot.ray.wall_m, -0.45, f"{_wall(shot)} {shot.ray.wall_m:.2f} m", DIM, anchor="mt", size=13)
    for target in shot.targets:
        _name(panel, frame, target, axes, moved=_moved(target))
    panel.caption("from the side" if axes[1] == 2 else "from above, right of the ray at the bottom")
    return panel.image


def _label(passage: Passage, shot: Shot, target: Target) -> str:
    for strike in shot.ray.strikes:
        if strike.entity == target.entity and strike.part == passage.box:
            return f"{passage.box} HIT, {strike.damage:.4g} points"
    if passage.miss_m <= 0.0:
        return f"{passage.box} in line"
    return f"{passage.box} missed by {passage.miss_m * 100.0:.1f} cm"


def _scope(shot: Shot, frame: _Frame, size: tuple[int, int]) -> "Image":
    """What lies along the ray: the nearest player, then and now, with the ray as a cross in the middle."""
    target = shot.targets[0] if shot.targets else None
    reach = SCOPE_M
    if target is not None:
        for feet in (target.feet, target.feet_now) if math.dist(target.feet, target.feet_now) < 4.0 else (target.feet,):
            for part in (0.0, 1.0):
                point = frame.of((feet[0], feet[1], feet[2] + part * target.height))
                reach = max(reach, abs(point[2]) + 0.3, (abs(point[1]) + 0.6) * size[1] / size[0])
    per_metre = size[1] / (2.0 * reach)
    panel = _Panel(size, (-size[0] / per_metre / 2.0, -reach), per_metre)
    if target is not None:
        if _moved(target):
            _body(panel, frame, target, (1, 2), now=True)
        _body(panel, frame, target, (1, 2), now=False)
    cross = 14.0 / per_metre
    panel.line([(-cross, 0.0), (cross, 0.0)], RAY, 2.0)
    panel.line([(0.0, -cross), (0.0, cross)], RAY, 2.0)
    edge = -size[0] / per_metre / 2.0 + 12.0 / per_metre
    for line, (words, colour) in enumerate(_legend(shot, target)):
        panel.text(edge, -reach + (14.0 + 19.0 * line) / per_metre, words, colour, size=14)
    panel.caption("along the ray" + (f": {target.name}" if target is not None else ""))
    return panel.image


def _legend(shot: Shot, target: Target | None) -> list[tuple[str, tuple[int, ...]]]:
    """Lines at the foot of the view along the ray, from the bottom up."""
    if target is None:
        return [("nobody near", DIM)]
    lines: list[tuple[str, tuple[int, ...]]] = []
    if _moved(target):
        near = min(target.passages_now, key=lambda passage: passage.miss_m)
        fate = f"would meet the {near.box}" if near.miss_m <= 0.0 else f"would miss by {near.miss_m * 100.0:.0f} cm"
        lines.append((f"now: the ray {fate}", GHOST))
    if target.behind_wall:
        lines.append(("behind a wall", DIM))
    lines += [(_label(passage, shot, target), COLOURS[passage.box]) for passage in reversed(target.passages)]
    return lines


def shot_plate(shot: Shot, world: WorldMap) -> bytes:
    """The picture as PNG, `PLATE_SIZE` pixels.

    Args:
        shot: Explained.
        world: The map that it was fired on.
    """
    from PIL import Image, ImageDraw

    width, height = PLATE_SIZE
    frame = _Frame(shot)
    wide = width - 2 * MARGIN
    upper = round((height - TITLE - 3 * MARGIN) * 0.46)
    lower, half = height - TITLE - 3 * MARGIN - upper, (wide - MARGIN) // 2
    image = Image.new("RGB", PLATE_SIZE, BACKGROUND)
    parts = (
        (_lane(shot, frame, world, (wide, upper), (0, 2)), (MARGIN, TITLE + MARGIN)),
        (_lane_above(shot, frame, world, (half, lower)), (MARGIN, TITLE + 2 * MARGIN + upper)),
        (_scope(shot, frame, (half, lower)), (2 * MARGIN + half, TITLE + 2 * MARGIN + upper)),
    )
    for part, at in parts:
        small = part.resize((part.width // FINE, part.height // FINE), Image.Resampling.LANCZOS)
        image.paste(small, at)
    draw = ImageDraw.Draw(image)
    number = f"shot {shot.number}   " if shot.number else ""
    draw.text((MARGIN, 14), f"{number}{shot.name}, {shot.weapon}: {shot.verdict()}", font=_font(21), fill=INK)
    saw = f"{shot.rewind_ms:.1f} ms before tick {shot.tick} (moment {shot.moment:.2f}, cap {shot.cap_ms:.4g} ms)"
    key = "   coloured: where it was judged   grey: where it is now" if shot.rewind else ""
    draw.text((MARGIN, 46), f"judged {saw}{_parts(shot)}{key}", font=_font(15), fill=DIM)
    packed = io.BytesIO()
    image.save(packed, "PNG")
    return packed.getvalue()


def _lane_above(shot: Shot, frame: _Frame, world: WorldMap, size: tuple[int, int]) -> "Image":
    """From above: the axis to the right of the ray points down, as on a map turned along the ray."""
    return _lane(shot, _Flipped(frame), world, size, (0, 1))


class _Flipped(_Frame):
    """The same frame with the axis to the right turned to the left, so that it is drawn downwards."""

    def __init__(self, frame: _Frame) -> None:
        self.origin = frame.origin
        self.axes = frame.axes * np.array([[1.0], [-1.0], [1.0]])
