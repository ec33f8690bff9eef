"""The static world as the simulation queries it: a hierarchy over a map's triangles, built once.

    geometry = Geometry.build(world_map)
    t, triangle = geometry.closest_hit(origins, directions, mask=SHOT_MASK)

Kernels take `geometry.arrays` (declared as `GEOMETRY_TYPE`) and call `closest_hit`, `any_hit` and `gather_box` of
`sim.geometry_kernels` themselves. To save: `to_arrays()` gives plain numpy arrays, which `from_arrays()` checks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F64, I32, U16, AnyArray, Bool
from sim.errors import SimError
from sim.geometry_build_kernels import build_binary, triangle_boxes
from sim.geometry_kernels import GeometryArrays, any_hit_batch, closest_hit_batch, gather_box_single
from sim.worldmap import TRIANGLES_MAX, WorldMap

__all__ = ["COORDINATE_MAX", "FORMAT", "Geometry", "GeometryError"]

FORMAT = 1  # raised whenever the saved arrays change their meaning
COORDINATE_MAX = 1e6  # [m]
LEAF_MAX = 4


class GeometryError(SimError):
    """A map or a saved geometry cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Ray and box queries against the triangles of one map. Immutable; every thread may query it.

    Attributes:
        map_hash: `WorldMap.content_hash()` of the map it was built from.
        arrays: What kernels take, of type `GEOMETRY_TYPE`.
    """

    map_hash: str
    arrays: GeometryArrays

    @classmethod
    def build(cls, world: WorldMap) -> "Geometry":
        """The hierarchy of a map; the same map gives the same arrays on every machine.

        Raises:
            GeometryError: The map has no triangles, too many, or coordinates that are not finite or too large.
        """
        vertices = np.ascontiguousarray(world.vertices, np.float64)
        triangles = np.ascontiguousarray(world.triangles, np.int32)
        contents = np.array(world.contents, np.uint16)
        _check_map(world.name, vertices, triangles, contents)
        count = len(triangles)
        corners, boxes = np.empty((count, 9)), np.empty((count, 6))
        triangle_boxes(vertices, triangles, corners, boxes)
        order, spare = np.empty(count, np.int32), np.empty(count, np.int32)
        bounds, links = np.empty((2 * count, 6)), np.empty((2 * count, 2), np.int32)
        nodes = build_binary(boxes, LEAF_MAX, order, bounds, links, spare)
        arrays = (corners, contents, bounds[:nodes].copy(), links[:nodes].copy(), order)
        return cls(world.content_hash(), arrays)

    @property
    def corners(self) -> F64:
        """Corners of each triangle [m], shape (n, 9): x y z of the first, of the second, of the third."""
        return self.arrays[0]

    @property
    def contents(self) -> U16:
        """`Contents` bits of each triangle, shape (n,)."""
        return self.arrays[1]

    def closest_hit(
        self, origins: ArrayLike, directions: ArrayLike, *, mask: int, t_max: ArrayLike = np.inf
    ) -> tuple[F64, I32]:
        """The nearest triangle along each ray; of equally near ones the lowest number.

        Args:
            origins: Positions [m], shape (n, 3).
            directions: Directions of any length, shape (n, 3). A zero or NaN direction hits nothing.
            mask: `Contents` bits, any of which a triangle must have.
            t_max: Farthest t in lengths of the direction, one or one per ray.

        Returns:
            (t, triangle), shapes (n,), float64 and int32; where nothing is hit, t is t_max and triangle −1.
        """
        start, along = _points(origins, "origins"), _points(directions, "directions")
        _same_length(start, along, "directions")
        limit = np.ascontiguousarray(np.broadcast_to(np.asarray(t_max, np.float64), len(start)))
        t, triangle = np.empty(len(start)), np.empty(len(start), np.int32)
        closest_hit_batch(self.arrays, start, along, limit, mask, t, triangle)
        return t, triangle

    def any_hit(self, origins: ArrayLike, targets: ArrayLike, *, mask: int) -> Bool:
        """Whether something stands between each origin and its target, both ends included.

        Args:
            origins: Positions [m], shape (n, 3).
            targets: Positions [m], shape (n, 3).
            mask: `Contents` bits, any of which a triangle must have.

        Returns:
            Shape (n,), bool.
        """
        start, end = _points(origins, "origins"), _points(targets, "targets")
        _same_length(start, end, "targets")
        hit = np.empty(len(start), np.bool_)
        any_hit_batch(self.arrays, start, end, mask, hit)
        return hit

    def gather_box(self, low: ArrayLike, high: ArrayLike, *, mask: int) -> I32:
        """Numbers of all triangles whose own box touches or overlaps the box from `low` to `high` [m], ascending."""
        low_corner = np.ascontiguousarray(np.asarray(low, np.float64).reshape(3))
        high_corner = np.ascontiguousarray(np.asarray(high, np.float64).reshape(3))
        found = np.empty(len(self.corners), np.int32)
        count = gather_box_single(self.arrays, low_corner, high_corner, mask, found)
        return np.sort(found[:count])

    def to_arrays(self) -> dict[str, AnyArray]:
        """Plain arrays that `from_arrays` takes back; they say which map and which format they are of."""
        corners, contents, bounds, links, order = self.arrays
        header = np.frombuffer(f"{FORMAT}:{self.map_hash}".encode(), np.uint8)
        return {
            "header": header, "corners": corners, "contents": contents,
            "bounds": bounds, "links": links, "order": order,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, saved: Mapping[str, AnyArray], *, map_hash: str) -> "Geometry":
        """The geometry that `to_arrays` saved.

        Args:
            saved: The arrays.
            map_hash: `content_hash()` of the map they must have been built from.

        Raises:
            GeometryError: An array is missing or malformed, or they are of another map or format.
        """
        header = _saved(saved, "header", np.uint8, 1).tobytes().decode("ascii", "replace")
        if header != f"{FORMAT}:{map_hash}":
            raise GeometryError(
                f"saved geometry is of {header!r}, needed is {FORMAT}:{map_hash}; build it again from the map"
            )
        corners = _saved(saved, "corners", np.float64, 2, 9)
        contents = _saved(saved, "contents", np.uint16, 1)
        bounds = _saved(saved, "bounds", np.float64, 2, 6)
        links = _saved(saved, "links", np.int32, 2, 2)
        order = _saved(saved, "order", np.int32, 1)
        return cls(map_hash, (corners, contents, bounds, links, order))


def _check_map(name: str, vertices: F64, triangles: I32, contents: U16) -> None:
    count = len(triangles)
    if not 1 <= count <= TRIANGLES_MAX:
        raise GeometryError(f"map {name}: {count} triangles; a geometry needs from 1 to {TRIANGLES_MAX}")
    if vertices.ndim != 2 or vertices.shape[1:] != (3,) or triangles.shape[1:] != (3,):
        raise GeometryError(f"map {name}: vertices and triangles must be of shape (n, 3)")
    if contents.shape != (count,):
        raise GeometryError(f"map {name}: contents must have one entry per triangle, not {contents.shape}")
    if triangles.min() < 0 or triangles.max() >= len(vertices):
        raise GeometryError(f"map {name}: a triangle refers to a vertex outside 0…{len(vertices) - 1}")
    if not (np.abs(vertices) <= COORDINATE_MAX).all():
        raise GeometryError(f"map {name}: a vertex is NaN or beyond ±{COORDINATE_MAX:.0f} m; rescale the map")


def _points(values: ArrayLike, name: str) -> F64:
    points = np.ascontiguousarray(np.asarray(values, np.float64))
    if points.ndim != 2 or points.shape[1] != 3:
        raise GeometryError(f"{name} must be of shape (n, 3), not {points.shape}")
    return points


def _same_length(first: F64, second: F64, name: str) -> None:
    if len(first) != len(second):
        raise GeometryError(f"{name} must be as many as the origins: {len(second)} against {len(first)}")


def _saved(saved: Mapping[str, AnyArray], name: str, dtype: type, ndim: int, columns: int = 0) -> AnyArray:
    array = saved.get(name)
    if array is None or array.dtype != dtype or array.ndim != ndim or (columns and array.shape[1] != columns):
        raise GeometryError(f"saved geometry: {name} is missing or malformed; build it again from the map")
    return np.ascontiguousarray(array)
