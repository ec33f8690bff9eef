"""Collects triangles from an importer and makes the one clean mesh a `WorldMap` holds."""

import numpy as np

from server.errors import MapError
from server.maps.limits import COORDINATE_M_MAX, VERTICES_MAX
from sim.arrays import F64, I32, I64, U16
from sim.worldmap import TRIANGLES_MAX, Mover, MoverMotion

__all__ = ["MeshBuilder"]

WELD_M = 1e-4  # vertices closer than this are one; a Quake unit is 0.025 m
GRID_M = 0.025 / 8.0  # coordinates within SNAP_M of an eighth of a Quake unit are put on it: clipping is off by 1e-12
SNAP_M = 2e-5
AREA_MIN_M2 = 1e-8  # a smaller triangle has no usable normal


class MeshBuilder:
    """Triangles of one map: parts are added, `mesh` welds them, and movers keep their runs of triangles."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._vertices: list[F64] = []
        self._triangles: list[I32] = []
        self._contents: list[U16] = []
        self._vertex_count = 0
        self._triangle_count = 0
        self._runs: list[tuple[str, int, int, dict[str, str], MoverMotion | None]] = []

    @property
    def vertices_left(self) -> int:
        """How many more vertices the limits allow."""
        return VERTICES_MAX - self._vertex_count

    def add(self, vertices: F64, triangles: I32, contents: U16) -> None:
        """Add a part.

        Args:
            vertices: Positions [m], shape (n, 3).
            triangles: Indices into `vertices`, shape (m, 3).
            contents: `Contents` bits, shape (m,).

        Raises:
            MapError: The limits are exceeded or a coordinate is not finite or too far out.
        """
        if self._vertex_count + len(vertices) > VERTICES_MAX:
            total = self._vertex_count + len(vertices)
            raise MapError(self.source, "vertices", total, f"at most {VERTICES_MAX} are allowed; simplify the map")
        if self._triangle_count + len(triangles) > TRIANGLES_MAX:
            total = self._triangle_count + len(triangles)
            raise MapError(self.source, "triangles", total, f"at most {TRIANGLES_MAX} are allowed; simplify the map")
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(vertices) <= COORDINATE_M_MAX).all(axis=1)
        if wrong.any():
            value = vertices[np.flatnonzero(wrong)[0]].tolist()
            raise MapError(
                self.source, "vertex position", value, f"must be finite and within {COORDINATE_M_MAX:g} m of the origin"
            )
        self._vertices.append(vertices)
        self._triangles.append((triangles.astype(np.int64) + self._vertex_count).astype(np.int32))
        self._contents.append(contents.astype(np.uint16))
        self._vertex_count += len(vertices)
        self._triangle_count += len(triangles)

    def mark_mover(
        self, classname: str, first: int, count: int, properties: dict[str, str], motion: MoverMotion | None
    ) -> None:
        """Declare `count` of the triangles added, from `first` on, to be one mover."""
        self._runs.append((classname, first, count, properties, motion))

    @property
    def triangle_count(self) -> int:
        """Triangles added so far."""
        return self._triangle_count

    def mesh(self) -> tuple[F64, I32, U16, tuple[Mover, ...]]:
        """The welded mesh: no degenerate triangle, no unused vertex.

        Raises:
            MapError: No triangle is left.
        """
        if not self._triangle_count:
            raise MapError(self.source, "triangles", 0, "a map needs something to stand on")
        vertices, remap = _weld(np.concatenate(self._vertices))
        triangles = remap[np.concatenate(self._triangles)]
        corner = vertices[triangles]
        area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1) / 2.0
        good = area > AREA_MIN_M2
        if not good.any():
            raise MapError(self.source, "triangles with an area", 0, "a map needs something to stand on")
        contents = np.ascontiguousarray(np.concatenate(self._contents)[good])
        before = np.concatenate([[0], np.cumsum(good)])
        movers = tuple(
            Mover(name, int(before[first]), int(before[first + count] - before[first]), properties, motion)
            for name, first, count, properties, motion in self._runs
            if before[first + count] > before[first]
        )
        used, index = np.unique(triangles[good], return_inverse=True)
        return (
            np.ascontiguousarray(vertices[used]),
            np.ascontiguousarray(index.reshape(-1, 3).astype(np.int32)),
            contents,
            movers,
        )


def _weld(vertices: F64) -> tuple[F64, I64]:
    """Merge vertices of the same cell of `WELD_M`; the first one's place is kept. Returns places and new indices."""
    grid = np.round(vertices / GRID_M) * GRID_M
    snapped = np.where(np.abs(grid - vertices) < SNAP_M, grid, vertices) + 0.0  # + 0.0: no negative zeros
    cell = np.round(snapped / WELD_M).astype(np.int64)
    order = np.lexsort((cell[:, 2], cell[:, 1], cell[:, 0]))  # stable, so the first vertex of a cell leads it
    ranked = cell[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    group = np.cumsum(fresh) - 1
    remap = np.empty(len(order), dtype=np.int64)
    remap[order] = group
    return snapped[order[fresh]], remap
