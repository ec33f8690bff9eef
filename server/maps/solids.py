"""Closed solids as triangles, for generated maps: boxes, ramps, stairs and columns, outward faces only."""

from dataclasses import dataclass, field

import numpy as np

from sim.arrays import F64, I32, U16
from sim.worldmap import Contents

__all__ = ["Solids"]

SOLID = int(Contents.SOLID)
DIAGONAL = 0.5**0.5
OCTAGON = (
    (1.0, 0.0), (DIAGONAL, DIAGONAL), (0.0, 1.0), (-DIAGONAL, DIAGONAL),
    (-1.0, 0.0), (-DIAGONAL, -DIAGONAL), (0.0, -1.0), (DIAGONAL, -DIAGONAL),
)  # fmt: skip

Point = tuple[float, float, float]


@dataclass
class Solids:
    """Collects solids; every face is counter-clockwise seen from outside.

    Attributes:
        offset: Added to every point [m].
        quarter_turns: Every point is first turned about the Z axis this many times a quarter.
    """

    offset: Point = (0.0, 0.0, 0.0)
    quarter_turns: int = 0
    _vertices: list[F64] = field(default_factory=list)
    _triangles: list[I32] = field(default_factory=list)
    _contents: list[U16] = field(default_factory=list)
    _count: int = 0

    def place(self, x: float, y: float, z: float) -> Point:
        """A point of the current frame in the map's."""
        for _ in range(self.quarter_turns % 4):
            x, y = -y, x
        return x + self.offset[0], y + self.offset[1], z + self.offset[2]

    def polygon(self, corners: list[Point], contents: int = SOLID) -> None:
        """One convex face, counter-clockwise from its open side."""
        points = np.array([self.place(*corner) for corner in corners])
        fan = np.array([[0, step, step + 1] for step in range(1, len(corners) - 1)], dtype=np.int32)
        self._vertices.append(points)
        self._triangles.append(fan + np.int32(self._count))
        self._contents.append(np.full(len(fan), contents, dtype=np.uint16))
        self._count += len(points)

    def prism(self, outline: list[tuple[float, float]], low: float, high: float, contents: int = SOLID) -> None:
        """An upright prism over a convex counter-clockwise outline."""
        self.polygon([(x, y, high) for x, y in outline], contents)
        self.polygon([(x, y, low) for x, y in reversed(outline)], contents)
        for (ax, ay), (bx, by) in zip(outline, outline[1:] + outline[:1], strict=True):
            self.polygon([(ax, ay, low), (bx, by, low), (bx, by, high), (ax, ay, high)], contents)

    def box(self, low: Point, high: Point, contents: int = SOLID) -> None:
        """An axis-aligned box."""
        outline = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
        self.prism(outline, low[2], high[2], contents)

    def column(self, x: float, y: float, radius: float, low: float, high: float) -> None:
        """An upright octagonal column."""
        self.prism([(x + radius * cos, y + radius * sin) for cos, sin in OCTAGON], low, high)

    def ramp(self, low: Point, high: Point) -> None:
        """A wedge that fills a box below the slope that rises along +X."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        self.polygon([(x0, y0, z0), (x1, y0, z1), (x1, y1, z1), (x0, y1, z0)])
        self.polygon([(x0, y1, z0), (x1, y1, z0), (x1, y0, z0), (x0, y0, z0)])
        self.polygon([(x1, y0, z0), (x1, y1, z0), (x1, y1, z1), (x1, y0, z1)])
        self.polygon([(x0, y0, z0), (x1, y0, z0), (x1, y0, z1)])
        self.polygon([(x0, y1, z0), (x1, y1, z1), (x1, y1, z0)])

    def stairs(self, low: Point, high: Point, steps: int) -> None:
        """Steps that fill a box and rise along +X; each is a box of its own."""
        (x0, y0, z0), (x1, y1, z1) = low, high
        run, rise = (x1 - x0) / steps, (z1 - z0) / steps
        for step in range(steps):
            left = x0 + step * run
            self.box((left, y0, z0), (left + run, y1, z0 + (step + 1) * rise))

    def mesh(self) -> tuple[F64, I32, U16]:
        """Vertices, triangles and contents of all solids."""
        return np.concatenate(self._vertices), np.concatenate(self._triangles), np.concatenate(self._contents)
