"""Curved surfaces of Quake III maps: grids of 3 × 3 biquadratic Bézier patches, cut into triangles."""

import numpy as np

from sim.arrays import F64, I32

__all__ = ["tessellate"]

TOLERANCE_UNITS = 1.0  # a chord stays this close to its curve: 2.5 cm, a fiftieth of a player
SEGMENTS_MAX = 32


def _segments(control: F64) -> list[int]:
    """How many chords each span along the first axis of a control grid needs, shape (rows, columns, 3).

    A quadratic Bézier curve leaves the chords of n equal steps by at most |p0 − 2·p1 + p2| / (4·n²)
    (the second derivative is constant).
    """
    bend = np.linalg.norm(control[0:-2:2] - 2.0 * control[1:-1:2] + control[2::2], axis=-1).max(axis=1)
    wanted = np.ceil(np.sqrt(bend / (4.0 * TOLERANCE_UNITS)))
    return [int(count) for count in np.clip(wanted, 1, SEGMENTS_MAX)]


def _refine(control: F64) -> F64:
    """Points on the curves along the first axis, with shared ends kept once."""
    rows = [control[:1]]
    for span, count in enumerate(_segments(control)):
        share = (np.arange(1, count + 1) / count)[:, None, None]
        start, middle, end = control[2 * span], control[2 * span + 1], control[2 * span + 2]
        points = (1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end
        points[-1] = end  # exact, so that neighbours meet
        rows.append(points)
    return np.concatenate(rows)


def tessellate(control: F64, *, vertices_max: int) -> tuple[F64, I32]:
    """Triangles within `TOLERANCE_UNITS` of the patch.

    Args:
        control: Control points, shape (height, width, 3), both sides odd and at least 3.
        vertices_max: How many vertices there may be.

    Returns:
        Vertices, shape (n, 3), and triangles, shape (m, 3); degenerate triangles are left out. They are
        counter-clockwise seen from the side towards which (∂/∂column × ∂/∂row) points.

    Raises:
        ValueError: More than `vertices_max` vertices would be needed; checked before they are made.
    """
    rows = np.ascontiguousarray(_refine(control).swapaxes(0, 1))
    wanted = (1 + sum(_segments(rows))) * rows.shape[1]
    if wanted > vertices_max:
        raise ValueError(f"{wanted} vertices")
    grid = _refine(rows).swapaxes(0, 1)
    height, width = grid.shape[:2]
    vertices = np.ascontiguousarray(grid).reshape(-1, 3)
    number = np.arange(height * width, dtype=np.int32).reshape(height, width)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], 2).reshape(-1, 3)
    corner = vertices[triangles]
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    return vertices, np.ascontiguousarray(triangles[area > 1e-3])
