"""Kernels that turn convex brushes, given as planes, into polygons."""

from math import sqrt

from sim.arrays import F64, I64
from sim.jit import kernel

__all__ = ["brush_windings"]

HALF_SIZE = 2_097_152.0  # base polygon [source units]; what is left of it on an open brush lies beyond any limit
ON_EPSILON = 0.01  # a point this close to a plane lies on it (float32 planes are off by up to 0.001 units)
MERGE_EPSILON = 0.02
AREA_MIN = 0.02  # twice the area of a winding that is kept [square units]: bevel planes only touch the brush
SAME_NORMAL = 0.99999
SAME_DISTANCE = 0.01


@kernel
def _base_winding(planes: F64, plane: int, out: F64) -> None:
    """A square in the plane, counter-clockwise seen from the side its normal points to."""
    nx, ny, nz = planes[plane, 0], planes[plane, 1], planes[plane, 2]
    ux, uy, uz = 0.0, 0.0, 1.0
    if abs(nz) > abs(nx) and abs(nz) > abs(ny):
        ux, uz = 1.0, 0.0
    along = ux * nx + uy * ny + uz * nz
    ux, uy, uz = ux - along * nx, uy - along * ny, uz - along * nz
    length = sqrt(ux * ux + uy * uy + uz * uz)
    ux, uy, uz = ux / length * HALF_SIZE, uy / length * HALF_SIZE, uz / length * HALF_SIZE
    rx, ry, rz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
    distance = planes[plane, 3]
    for corner in range(4):
        side = 1.0 if corner in (1, 2) else -1.0
        up = 1.0 if corner >= 2 else -1.0
        out[corner, 0] = nx * distance + side * rx + up * ux
        out[corner, 1] = ny * distance + side * ry + up * uy
        out[corner, 2] = nz * distance + side * rz + up * uz


@kernel
def _clip(points: F64, count: int, planes: F64, plane: int, out: F64) -> int:
    """Keep the part of a polygon behind a plane (Sutherland and Hodgman 1974); the number of points left."""
    nx, ny, nz, distance = planes[plane, 0], planes[plane, 1], planes[plane, 2], planes[plane, 3]
    kept = 0
    last = count - 1
    before = points[last, 0] * nx + points[last, 1] * ny + points[last, 2] * nz - distance
    for index in range(count):
        here = points[index, 0] * nx + points[index, 1] * ny + points[index, 2] * nz - distance
        crossing = (before > ON_EPSILON and here < -ON_EPSILON) or (before < -ON_EPSILON and here > ON_EPSILON)
        if kept + 2 > out.shape[0]:
            return 0
        if crossing:
            share = before / (before - here)
            for axis in range(3):
                out[kept, axis] = points[last, axis] + share * (points[index, axis] - points[last, axis])
            kept += 1
        if here <= ON_EPSILON:
            for axis in range(3):
                out[kept, axis] = points[index, axis]
            kept += 1
        before = here
        last = index
    return kept


@kernel
def _near(points: F64, a: int, b: int) -> bool:
    dx = points[a, 0] - points[b, 0]
    dy = points[a, 1] - points[b, 1]
    dz = points[a, 2] - points[b, 2]
    return bool(dx * dx + dy * dy + dz * dz <= MERGE_EPSILON * MERGE_EPSILON)


@kernel
def _tidy(points: F64, count: int) -> int:
    """Merge points that coincide, in place; 0 where less than a triangle of some area is left."""
    kept = 0
    for index in range(count):
        if kept > 0 and (_near(points, index, kept - 1) or (index == count - 1 and _near(points, index, 0))):
            continue
        for axis in range(3):
            points[kept, axis] = points[index, axis]
        kept += 1
    ax, ay, az = 0.0, 0.0, 0.0
    for index in range(1, kept - 1):
        ux, uy, uz = points[index, 0] - points[0, 0], points[index, 1] - points[0, 1], points[index, 2] - points[0, 2]
        vx, vy, vz = (
            points[index + 1, 0] - points[0, 0],
            points[index + 1, 1] - points[0, 1],
            points[index + 1, 2] - points[0, 2],
        )
        ax, ay, az = ax + uy * vz - uz * vy, ay + uz * vx - ux * vz, az + ux * vy - uy * vx
    return kept if ax * ax + ay * ay + az * az > AREA_MIN * AREA_MIN else 0


@kernel
def _same_plane(planes: F64, a: int, b: int) -> bool:
    along = planes[a, 0] * planes[b, 0] + planes[a, 1] * planes[b, 1] + planes[a, 2] * planes[b, 2]
    return bool(along > SAME_NORMAL and abs(planes[a, 3] - planes[b, 3]) < SAME_DISTANCE)


@kernel("(f8[:,::1], i8[::1], i8[::1], i8[::1], f8[:,:,::1], f8[:,::1], i8[::1])")
def brush_windings(
    planes: F64,
    side_plane: I64,
    brush_first: I64,
    brush_count: I64,
    scratch: F64,
    points: F64,
    point_count: I64,
) -> int:
    """The polygon of every side of every brush: the part of its plane behind all other planes of the brush.

    Args:
        planes: Unit normal and distance, shape (n, 4), source units.
        side_plane: Plane of each side, shape (sides,).
        brush_first: First side of each brush.
        brush_count: Number of sides of each brush.
        scratch: Shape (2, sides of the largest brush + 8, 3).
        points: Out: corners of the windings one after the other, counter-clockwise from outside.
        point_count: Out: corners of each side's winding, 0 for bevels and duplicates, shape (sides,).

    Returns:
        Number of points written, or −1 where `points` is too short (impossible for convex brushes: a polyhedron
        of n faces has at most 3n − 6 edges).
    """
    total = 0
    for brush in range(brush_first.shape[0]):
        first = brush_first[brush]
        end = first + brush_count[brush]
        for side in range(first, end):
            _base_winding(planes, side_plane[side], scratch[0])
            count = 4
            current = 0
            for other in range(first, end):
                if other == side or count < 3:
                    continue
                if _same_plane(planes, side_plane[side], side_plane[other]):
                    if other < side:
                        count = 0
                    continue
                count = _clip(scratch[current], count, planes, side_plane[other], scratch[1 - current])
                current = 1 - current
            count = _tidy(scratch[current], count) if count >= 3 else 0
            point_count[side] = count
            if total + count > points.shape[0]:
                return -1
            for index in range(count):
                for axis in range(3):
                    points[total + index, axis] = scratch[current, index, axis]
            total += count
    return total
