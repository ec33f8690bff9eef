"""Queries against the triangle hierarchy: closest hit, any hit, triangles near a box.

A geometry is one tuple of arrays, `GEOMETRY_TYPE`, made by `sim.geometry.Geometry`:

    CORNERS   f8 (triangle, 9)  corners a, b, c of each triangle [m], x y z x y z x y z, in the map's order
    CONTENTS  u2 (triangle,)    `Contents` bits
    BOUNDS    f8 (node, 6)      box of each node [m]: low x y z, high x y z
    LINKS     i4 (node, 2)      inner node: its two children; leaf: −1 − first place in ORDER, and how many
    ORDER     i4 (triangle,)    triangle numbers, leaf by leaf

The triangle test is the watertight one of Woop, Benthin and Wald ("Watertight Ray/Triangle Intersection", JCGT 2013) in
float64: corners are translated and sheared into ray space once each, and the sign of an edge function is right or zero
for both triangles that share the edge, so a ray through an edge or a corner cannot slip between them.
Both sides of a triangle are hit. The answer never depends on the order of traversal: of equal t the lowest triangle
number wins, and boxes are widened by more than the rounding error of their test.
"""

from typing import Final, TypeAlias

from sim.arrays import F64, I32, U16, Bool
from sim.jit import kernel, local_i64

__all__ = [
    "CONTENTS",
    "CORNERS",
    "GEOMETRY_TYPE",
    "RANGE_MAX",
    "GeometryArrays",
    "any_hit",
    "any_hit_batch",
    "closest_hit",
    "closest_hit_batch",
    "corner",
    "gather_box",
    "gather_box_single",
]

CORNERS: Final = 0
CONTENTS: Final = 1
BOUNDS: Final = 2
LINKS: Final = 3
ORDER: Final = 4
GEOMETRY_TYPE = "Tuple((f8[:,::1], u2[::1], f8[:,::1], i4[:,::1], i4[::1]))"
GeometryArrays: TypeAlias = tuple[F64, U16, F64, I32, I32]

RANGE_MAX = 1e15  # rays from farther away than this [m] hit nothing
STACK = 64
EDGE_ON = 1e-10  # a triangle seen this much from its edge (projected area over its extent) is not hit
BOX_SLACK = 1e-9


@kernel
def corner(geometry: GeometryArrays, triangle: int, which: int) -> tuple[float, float, float]:
    """Corner 0, 1 or 2 of a triangle [m]."""
    corners = geometry[CORNERS]
    column = 3 * which
    return corners[triangle, column], corners[triangle, column + 1], corners[triangle, column + 2]


@kernel
def _triangle_hit(
    corners: F64, triangle: int, origin: tuple[float, float, float], shear: tuple[float, float], axis: int
) -> float:
    """Distance along `axis` from the origin to the triangle, NaN for a miss."""
    kx = axis + 1 if axis < 2 else 0
    ky = axis - 1 if axis > 0 else 2
    sx, sy = shear
    az = corners[triangle, axis] - origin[axis]
    bz = corners[triangle, 3 + axis] - origin[axis]
    cz = corners[triangle, 6 + axis] - origin[axis]
    ax = (corners[triangle, kx] - origin[kx]) - sx * az
    ay = (corners[triangle, ky] - origin[ky]) - sy * az
    bx = (corners[triangle, 3 + kx] - origin[kx]) - sx * bz
    by = (corners[triangle, 3 + ky] - origin[ky]) - sy * bz
    cx = (corners[triangle, 6 + kx] - origin[kx]) - sx * cz
    cy = (corners[triangle, 6 + ky] - origin[ky]) - sy * cz
    u = cx * by - cy * bx
    v = ax * cy - ay * cx
    w = bx * ay - by * ax
    if (u < 0.0 or v < 0.0 or w < 0.0) and (u > 0.0 or v > 0.0 or w > 0.0):
        return float("nan")
    determinant = u + v + w
    extent = abs(cx * by) + abs(cy * bx) + abs(ax * cy) + abs(ay * cx) + abs(bx * ay) + abs(by * ax)
    if not abs(determinant) > EDGE_ON * extent:
        return float("nan")
    distance: float = (u * az + v * bz + w * cz) / determinant
    return distance


@kernel
def _main_axis(dx: float, dy: float, dz: float) -> int:
    """The axis along which the direction is longest; of equal ones the first; −1 for no usable direction."""
    x, y, z = abs(dx), abs(dy), abs(dz)
    if not (0.0 < x + y + z < 1e300):
        return -1
    if x >= y and x >= z:
        return 0
    return 1 if y >= z else 2


@kernel
def _enters_box(
    bounds: F64,
    node: int,
    origin: tuple[float, float, float],
    inverse: tuple[float, float, float],
    t_max: float,
) -> float:
    """Where the ray enters a node's box, a little early; −1 for a miss."""
    near, far = 0.0, t_max
    for axis in range(3):
        pad = BOX_SLACK * (1.0 + abs(origin[axis]))
        first = (bounds[node, axis] - pad - origin[axis]) * inverse[axis]
        second = (bounds[node, 3 + axis] + pad - origin[axis]) * inverse[axis]
        if first > second:
            first, second = second, first
        near = first if first > near else near
        far = second if second < far else far
    near *= 1.0 - BOX_SLACK
    return near if near <= far * (1.0 + BOX_SLACK) else -1.0


@kernel
def _inverse(component: float) -> float:
    """1 / component, with a zero taken as a very small number so that no box test meets NaN."""
    if abs(component) < 1e-150:
        return 1e150
    return 1.0 / component


@kernel
def _usable(ox: float, oy: float, oz: float, t_max: float) -> bool:
    return abs(ox) <= RANGE_MAX and abs(oy) <= RANGE_MAX and abs(oz) <= RANGE_MAX and t_max >= 0.0


@kernel
def closest_hit(
    geometry: GeometryArrays,
    ox: float, oy: float, oz: float,
    dx: float, dy: float, dz: float,
    t_max: float, mask: int,
) -> tuple[float, int]:  # fmt: skip
    """The nearest triangle with any bit of `mask` at origin + t·direction, 0 ≤ t ≤ t_max.

    Args:
        geometry: `Geometry.arrays`.
        ox, oy, oz: Origin [m].
        dx, dy, dz: Direction, of any length.
        t_max: Farthest t, in lengths of the direction; infinity is fine.
        mask: `Contents` bits.

    Returns:
        (t, triangle); (t_max, −1) where nothing is hit, and for NaN, zero directions and origins beyond `RANGE_MAX`.
    """
    return _traverse(geometry, (ox, oy, oz), (dx, dy, dz), t_max, mask, 0)


@kernel
def any_hit(
    geometry: GeometryArrays,
    ox: float, oy: float, oz: float,
    dx: float, dy: float, dz: float,
    t_max: float, mask: int,
) -> bool:  # fmt: skip
    """Whether `closest_hit` would hit anything, found sooner."""
    return _traverse(geometry, (ox, oy, oz), (dx, dy, dz), t_max, mask, 1)[1] >= 0


@kernel
def _traverse(
    geometry: GeometryArrays,
    origin: tuple[float, float, float],
    direction: tuple[float, float, float],
    t_max: float,
    mask: int,
    first: int,
) -> tuple[float, int]:
    """`closest_hit`, or with `first` some hit."""
    corners, contents, bounds = geometry[CORNERS], geometry[CONTENTS], geometry[BOUNDS]
    links, order = geometry[LINKS], geometry[ORDER]
    best, winner = t_max, -1
    axis = _main_axis(direction[0], direction[1], direction[2])
    if axis < 0 or not _usable(origin[0], origin[1], origin[2], t_max):
        return best, winner
    along = direction[axis]
    kx = axis + 1 if axis < 2 else 0
    ky = axis - 1 if axis > 0 else 2
    shear = (direction[kx] / along, direction[ky] / along)
    inverse = (_inverse(direction[0]), _inverse(direction[1]), _inverse(direction[2]))
    stack = local_i64(STACK)
    stack[0] = 0
    depth = 1
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if _enters_box(bounds, node, origin, inverse, best) < 0.0:
            continue
        left, right = links[node, 0], links[node, 1]
        if left >= 0:
            if _enters_box(bounds, left, origin, inverse, best) > _enters_box(bounds, right, origin, inverse, best):
                left, right = right, left
            stack[depth] = right
            stack[depth + 1] = left
            depth += 2
            continue
        for place in range(-1 - left, -1 - left + right):
            triangle = order[place]
            if contents[triangle] & mask == 0:
                continue
            t = _triangle_hit(corners, triangle, origin, shear, axis) / along
            if t >= 0.0 and (t < best or (t == best and (triangle < winner or winner < 0))):
                best, winner = t, triangle
                if first:
                    return best, winner
    return best, winner


@kernel
def gather_box(
    geometry: GeometryArrays,
    lx: float, ly: float, lz: float,
    hx: float, hy: float, hz: float,
    mask: int, out_triangles: I32,
) -> int:  # fmt: skip
    """Find every triangle with any bit of `mask` whose own bounding box touches or overlaps the box.

    Args:
        geometry: `Geometry.arrays`.
        lx, ly, lz: Low corner [m].
        hx, hy, hz: High corner [m].
        mask: `Contents` bits.
        out_triangles: Output, int32: the triangles, each once, in an order fixed by the map.

    Returns:
        How many there are, which may exceed len(out_triangles): the rest were counted but not written.
    """
    corners, contents, bounds = geometry[CORNERS], geometry[CONTENTS], geometry[BOUNDS]
    links, order = geometry[LINKS], geometry[ORDER]
    low, high = (lx, ly, lz), (hx, hy, hz)
    if not (lx <= hx and ly <= hy and lz <= hz):
        return 0
    stack = local_i64(STACK)
    stack[0] = 0
    depth = 1
    count = 0
    while depth > 0:
        depth -= 1
        node = stack[depth]
        if not _boxes_touch(bounds, node, low, high):
            continue
        left, right = links[node, 0], links[node, 1]
        if left >= 0:
            stack[depth] = right
            stack[depth + 1] = left
            depth += 2
            continue
        for place in range(-1 - left, -1 - left + right):
            triangle = order[place]
            if contents[triangle] & mask != 0 and _triangle_touches(corners, triangle, low, high):
                if count < len(out_triangles):
                    out_triangles[count] = triangle
                count += 1
    return count


@kernel
def _boxes_touch(bounds: F64, node: int, low: tuple[float, float, float], high: tuple[float, float, float]) -> bool:
    touching = True
    for axis in range(3):
        touching &= bounds[node, axis] <= high[axis] and bounds[node, 3 + axis] >= low[axis]
    return touching


@kernel
def _triangle_touches(
    corners: F64, triangle: int, low: tuple[float, float, float], high: tuple[float, float, float]
) -> bool:
    for axis in range(3):
        a, b, c = corners[triangle, axis], corners[triangle, 3 + axis], corners[triangle, 6 + axis]
        if not (min(a, b, c) <= high[axis] and max(a, b, c) >= low[axis]):
            return False
    return True


@kernel(f"({GEOMETRY_TYPE}, f8[:,::1], f8[:,::1], f8[::1], i8, f8[::1], i4[::1])")
def closest_hit_batch(
    geometry: GeometryArrays,
    origins: F64,
    directions: F64,
    t_max: F64,
    mask: int,
    out_t: F64,
    out_triangle: I32,
) -> None:
    """`closest_hit` of many rays, shape (n, 3) each."""
    for ray in range(len(origins)):
        out_t[ray], out_triangle[ray] = closest_hit(
            geometry,
            origins[ray, 0], origins[ray, 1], origins[ray, 2],
            directions[ray, 0], directions[ray, 1], directions[ray, 2],
            t_max[ray], mask,
        )  # fmt: skip


@kernel(f"({GEOMETRY_TYPE}, f8[:,::1], f8[:,::1], i8, b1[::1])")
def any_hit_batch(geometry: GeometryArrays, origins: F64, targets: F64, mask: int, out_hit: Bool) -> None:
    """Whether anything stands between each origin and its target, ends included."""
    for ray in range(len(origins)):
        out_hit[ray] = any_hit(
            geometry,
            origins[ray, 0], origins[ray, 1], origins[ray, 2],
            targets[ray, 0] - origins[ray, 0],
            targets[ray, 1] - origins[ray, 1],
            targets[ray, 2] - origins[ray, 2],
            1.0, mask,
        )  # fmt: skip


@kernel(f"({GEOMETRY_TYPE}, f8[::1], f8[::1], i8, i4[::1])")
def gather_box_single(geometry: GeometryArrays, low: F64, high: F64, mask: int, out_triangles: I32) -> int:
    """`gather_box` for callers outside kernels."""
    return gather_box(geometry, low[0], low[1], low[2], high[0], high[1], high[2], mask, out_triangles)
