"""The static world as the simulation queries it: a hierarchy over a map's triangles, built once.

    geometry = Geometry.build(world_map)
    t, triangle = geometry.closest_hit(origins, directions, mask=SHOT_MASK)

Kernels take `geometry.arrays` (declared as `GEOMETRY_TYPE`) and call `closest_hit`, `any_hit` and `gather_box` of
`sim.geometry_kernels` themselves. To save: `to_arrays()` gives plain numpy arrays, which `from_arrays()` checks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F32, F64, I32, U16, AnyArray, Bool
from sim.errors import SimError
from sim.geometry_build_kernels import build_binary, triangle_boxes
from sim.geometry_kernels import GeometryArrays, any_hit_batch, closest_hit_batch, gather_box_single
from sim.geometry_wide_kernels import (
    LEAF_WORDS,
    NODE_WORDS,
    ROUND_OUT,
    collapse_choices,
    fill_leaves,
    stop_promises,
    write_wide,
)
from sim.jit import LANES
from sim.worldmap import TRIANGLES_MAX, WorldMap

__all__ = ["COORDINATE_MAX", "FORMAT", "Geometry", "GeometryError", "build_forest"]

FORMAT = 5  # raised whenever the saved arrays change their meaning
COORDINATE_MAX = 1e6  # [m]
EXTENT_WORD = 56  # of the first node: the largest coordinate
LINE_BYTES = 64


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
        """The hierarchy of all that never moves on a map; the same map gives the same arrays on every machine.

        `corners` and `contents` hold every triangle, the movers' in their resting place, which no query finds: those
        are `sim.movers`.

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
        resting = np.flatnonzero(world.resting).astype(np.int32)
        if len(resting) == 0:
            raise GeometryError(
                f"map {world.name}: all of its {count} triangles move; a map needs something that rests"
            )
        return cls(world.content_hash(), _assemble(corners, contents, *_hierarchy(corners, boxes, resting)))

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
        header = np.frombuffer(f"{FORMAT}:{self.map_hash}".encode(), np.uint8)
        corners, contents, nodes, _, leaves, leaf_triangles = self.arrays
        return {
            "header": header, "corners": corners, "contents": contents,
            "nodes": nodes, "leaves": leaves, "leaf_triangles": leaf_triangles,
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
        nodes = _saved(saved, "nodes", np.float32, 1)
        leaves = _saved(saved, "leaves", np.float64, 1)
        leaf_triangles = _saved(saved, "leaf_triangles", np.int32, 1)
        _check_saved(len(corners), len(contents), nodes, leaves, leaf_triangles)
        return cls(map_hash, _assemble(corners, contents, nodes, leaves, leaf_triangles))


def _hierarchy(corners: F64, boxes: F64, chosen: I32) -> tuple[F32, F64, I32]:
    """Nodes, leaves and leaf triangles over the chosen triangles, as `sim.geometry_kernels` lays them out."""
    count = len(chosen)
    if count < len(corners):
        corners, boxes = np.ascontiguousarray(corners[chosen]), np.ascontiguousarray(boxes[chosen])
    order, spare, children = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(2 * count, np.int32)
    bounds, ranges = np.empty((2 * count, 6)), np.empty((2 * count, 2), np.int32)
    made = build_binary(boxes, order, bounds, ranges, children, spare)
    costs, choices = np.empty((2 * count, LANES), np.float32), np.empty((2 * count, LANES), np.uint8)
    collapse_choices(bounds, ranges, children, made, costs, choices)
    promises = np.empty(2 * count, np.float32)
    stop_promises(corners, order, bounds, ranges, children, made, costs, promises)
    # As many nodes and leaves as there could be; the system commits only the pages that are written.
    nodes, leaf_nodes = np.zeros(count * NODE_WORDS, np.float32), np.empty(count, np.int32)
    pending = np.empty(4 * count + 64, np.int32)
    wide, leaf_count = write_wide(bounds, children, choices, promises, nodes, nodes.view(np.int32), leaf_nodes, pending)
    leaves, leaf_triangles = np.empty(leaf_count * LEAF_WORDS), np.empty(leaf_count * LANES, np.int32)
    fill_leaves(corners, order, ranges, leaf_nodes, leaf_count, leaves, leaf_triangles)
    nodes = nodes[: wide * NODE_WORDS]
    nodes[EXTENT_WORD] = np.abs(boxes).max() * (1.0 + ROUND_OUT)
    return nodes, leaves, np.where(leaf_triangles >= 0, chosen[leaf_triangles], np.int32(-1)).astype(np.int32)


def build_forest(geometry: Geometry, runs: Sequence[tuple[int, int]]) -> tuple[GeometryArrays, list[int]]:
    """A hierarchy for each run of triangles of a geometry, all in one, for `sim.geometry_kernels.closest_hit_below`.

    Args:
        geometry: Whose triangles; they keep their numbers.
        runs: First triangle and how many, at least one.

    Returns:
        The arrays, and the root of each run's hierarchy.
    """
    corners, contents = geometry.corners, geometry.contents
    boxes = np.concatenate([corners.reshape(-1, 3, 3).min(axis=1), corners.reshape(-1, 3, 3).max(axis=1)], axis=1)
    nodes, leaves, triangles, roots = [np.empty(0, np.float32)], [np.empty(0)], [np.empty(0, np.int32)], []
    node_base, leaf_base, extent = 0, 0, 0.0
    for first, count in runs:
        tree, tree_leaves, numbers = _hierarchy(corners, boxes, np.arange(first, first + count, dtype=np.int32))
        links = tree.view(np.int32).reshape(-1, NODE_WORDS)[:, 48:56]
        links[...] = np.where(links >= 0, links + node_base, links - leaf_base)
        extent = max(extent, float(tree[EXTENT_WORD]))
        roots.append(node_base)
        nodes.append(tree)
        leaves.append(tree_leaves)
        triangles.append(numbers)
        node_base += len(tree) // NODE_WORDS
        leaf_base += len(numbers) // LANES
    together = np.concatenate(nodes)
    if roots:
        together[EXTENT_WORD] = extent
    return _assemble(corners, contents, together, np.concatenate(leaves), np.concatenate(triangles)), roots


def _aligned(array: AnyArray) -> AnyArray:
    """A read-only copy that starts on a cache line, so that no vector load of a kernel crosses two."""
    memory = np.empty(array.nbytes + LINE_BYTES, np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    copy: AnyArray = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def _assemble(corners: F64, contents: U16, nodes: F32, leaves: F64, leaf_triangles: I32) -> GeometryArrays:
    nodes = _aligned(nodes)
    return corners, contents, nodes, nodes.view(np.int32), _aligned(leaves), _aligned(leaf_triangles)


def _check_saved(triangles: int, contents: int, nodes: F32, leaves: F64, leaf_triangles: I32) -> None:
    """Raises GeometryError where following the links would leave the arrays."""
    links = nodes.view(np.int32)[: len(nodes) // NODE_WORDS * NODE_WORDS].reshape(-1, NODE_WORDS)[:, 48:56]
    leaf_count = len(leaves) // LEAF_WORDS
    sound = (
        triangles == contents
        and len(nodes) == links.shape[0] * NODE_WORDS > 0
        and len(leaves) == leaf_count * LEAF_WORDS > 0
        and len(leaf_triangles) == leaf_count * LANES
        and -leaf_count <= links.min() <= links.max() < len(links)
        and -1 <= leaf_triangles.min() <= leaf_triangles.max() < triangles
    )
    if not sound:
        raise GeometryError("saved geometry: its arrays do not fit together; build it again from the map")


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
