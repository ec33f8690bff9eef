"""Building the hierarchy: a binary tree by binned surface-area heuristic, over the boxes of the triangles.

Source: Wald, "On fast Construction of SAH-based Bounding Volume Hierarchies" (2007). The result depends on nothing but
the triangles: bins, ties and the order inside a leaf are fixed.
"""

import numpy as np

from sim.arrays import F64, I32, I64
from sim.jit import kernel

__all__ = ["BINS", "DEPTH_MAX", "build_binary", "triangle_boxes"]

BINS = 16
DEPTH_SAH = (
    36  # deeper nodes are halved by count, which bounds the depth by DEPTH_SAH + log2(TRIANGLES_MAX) < DEPTH_MAX
)
DEPTH_MAX = 60


@kernel("(f8[:,::1], i4[:,::1], f8[:,::1], f8[:,::1])", counted=False)
def triangle_boxes(vertices: F64, triangles: I32, out_corners: F64, out_boxes: F64) -> None:
    """Corners (n, 9) and boxes (n, 6: low x y z, high x y z) of triangles."""
    for triangle in range(len(triangles)):
        for axis in range(3):
            low, high = np.inf, -np.inf
            for which in range(3):
                value = vertices[triangles[triangle, which], axis]
                out_corners[triangle, 3 * which + axis] = value
                low, high = min(low, value), max(high, value)
            out_boxes[triangle, axis] = low
            out_boxes[triangle, 3 + axis] = high


@kernel(counted=False)
def _clear_box(boxes: F64, row: int) -> None:
    for axis in range(3):
        boxes[row, axis] = np.inf
        boxes[row, 3 + axis] = -np.inf


@kernel(counted=False)
def _grow_box(boxes: F64, row: int, others: F64, other: int) -> None:
    """Make a box hold another one too."""
    for axis in range(3):
        boxes[row, axis] = min(boxes[row, axis], others[other, axis])
        boxes[row, 3 + axis] = max(boxes[row, 3 + axis], others[other, 3 + axis])


@kernel(counted=False)
def _half_area(boxes: F64, row: int) -> float:
    x, y, z = boxes[row, 3] - boxes[row, 0], boxes[row, 4] - boxes[row, 1], boxes[row, 5] - boxes[row, 2]
    return x * y + y * z + z * x if x >= 0.0 else 0.0


@kernel(counted=False)
def _bin_of(boxes: F64, triangle: int, axis: int, low: float, scale: float) -> int:
    """Which bin the middle of a box falls into."""
    return min(int((boxes[triangle, axis] + boxes[triangle, 3 + axis] - low) * scale), BINS - 1)


@kernel(counted=False)
def _fill_bins(boxes: F64, order: I32, first: int, count: int, middle: F64, counts: I64, bins: F64) -> None:
    """Count the triangles of each bin of each axis, and grow the bins' boxes; `middle` bounds the doubled middles."""
    for axis in range(3):
        for row in range(axis * BINS, axis * BINS + BINS):
            counts[row] = 0
            _clear_box(bins, row)
        width = middle[3 + axis] - middle[axis]
        if not width > 0.0:
            continue
        scale = BINS / width
        for place in range(first, first + count):
            triangle = order[place]
            row = axis * BINS + _bin_of(boxes, triangle, axis, middle[axis], scale)
            counts[row] += 1
            _grow_box(bins, row, boxes, triangle)


@kernel(counted=False)
def _best_split(counts: I64, bins: F64, middle: F64, count: int, right_area: F64) -> tuple[int, int]:
    """The axis and the last bin of the left side with the least area-weighted count; axis −1 where none divides.

    The last row of `bins` is scratch.
    """
    best_axis, best_bin, best_cost = -1, -1, np.inf
    box = 3 * BINS
    for axis in range(3):
        if not middle[3 + axis] > middle[axis]:
            continue
        row = axis * BINS
        _clear_box(bins, box)
        for which in range(BINS - 1, 0, -1):
            _grow_box(bins, box, bins, row + which)
            right_area[which] = _half_area(bins, box)
        _clear_box(bins, box)
        left = 0
        for which in range(BINS - 1):
            _grow_box(bins, box, bins, row + which)
            left += counts[row + which]
            if not 0 < left < count:
                continue
            cost = _half_area(bins, box) * left + right_area[which + 1] * (count - left)
            if cost < best_cost:
                best_axis, best_bin, best_cost = axis, which, cost
    return best_axis, best_bin


@kernel(counted=False)
def _partition(
    boxes: F64, order: I32, spare: I32, first: int, count: int, middle: F64, axis: int, last_left: int
) -> int:
    """Divide a range of `order` stably at a bin boundary; returns how many went left."""
    scale = BINS / (middle[3 + axis] - middle[axis])
    left, right = 0, 0
    for place in range(first, first + count):
        triangle = order[place]
        if _bin_of(boxes, triangle, axis, middle[axis], scale) <= last_left:
            order[first + left] = triangle
            left += 1
        else:
            spare[right] = triangle
            right += 1
    for place in range(right):
        order[first + left + place] = spare[place]
    return left


@kernel(counted=False)
def _range_bounds(boxes: F64, order: I32, first: int, count: int, bounds: F64, node: int, middle: F64) -> None:
    """The box of a range of triangles, and the box of their doubled middles."""
    _clear_box(bounds, node)
    for axis in range(3):
        middle[axis] = np.inf
        middle[3 + axis] = -np.inf
    for place in range(first, first + count):
        triangle = order[place]
        _grow_box(bounds, node, boxes, triangle)
        for axis in range(3):
            value = boxes[triangle, axis] + boxes[triangle, 3 + axis]
            middle[axis] = min(middle[axis], value)
            middle[3 + axis] = max(middle[3 + axis], value)


@kernel("(f8[:,::1], i4[::1], f8[:,::1], i4[:,::1], i4[::1], i4[::1])")
def build_binary(boxes: F64, order: I32, bounds: F64, ranges: I32, children: I32, spare: I32) -> int:
    """Build the tree down to single triangles; a node's children stand side by side and after it, the root is node 0.

    Args:
        boxes: Triangle boxes [m], shape (n, 6), n ≥ 1.
        order: Output: triangle numbers, leaf by leaf, shape (n,).
        bounds: Output: node boxes [m], shape (2n, 6).
        ranges: Output: first place in `order` and count of each node's triangles, shape (2n, 2).
        children: Output: first child of each node, −1 for a leaf, shape (2n,).
        spare: Scratch, shape (n,).

    Returns:
        The number of nodes.
    """
    counts = np.empty(3 * BINS, np.int64)  # a build may allocate: it runs once, before the first tick
    bins = np.empty((3 * BINS + 1, 6), np.float64)
    middle, right_area = np.empty(6), np.empty(BINS)
    depths = np.empty(2 * len(boxes), np.uint8)
    for triangle in range(len(boxes)):
        order[triangle] = triangle
    ranges[0, 0], ranges[0, 1], depths[0] = 0, len(boxes), 0
    node, nodes = 0, 1
    while node < nodes:
        first, count = ranges[node, 0], ranges[node, 1]
        _range_bounds(boxes, order, first, count, bounds, node, middle)
        children[node] = -1
        if count > 1:
            axis, last_left = -1, -1
            if depths[node] < DEPTH_SAH:
                _fill_bins(boxes, order, first, count, middle, counts, bins)
                axis, last_left = _best_split(counts, bins, middle, count, right_area)
            left = count // 2
            if axis >= 0:
                left = _partition(boxes, order, spare, first, count, middle, axis, last_left)
            children[node] = nodes
            ranges[nodes, 0], ranges[nodes, 1] = first, left
            ranges[nodes + 1, 0], ranges[nodes + 1, 1] = first + left, count - left
            depths[nodes] = depths[nodes + 1] = depths[node] + 1
            nodes += 2
        node += 1
    return nodes
