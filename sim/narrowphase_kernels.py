"""Swept spheres and capsules against triangles, exactly and in one step each.

A capsule is a segment from `base` to `base + axis` with a radius; a zero axis makes it a sphere. Sweeping it against a
triangle is a ray, the path of the base, against the triangle extruded by −axis and rounded by the radius (Ericson,
"Real-Time Collision Detection", sections 5.5.6 and 5.5.7). That solid is convex, so the ray enters it once, through
one of its features: 2 triangles, 3 parallelograms, 9 edges (cylinders), 6 corners (spheres). The entry is the
smallest time over all of them; where a face is entered inside its outline no other feature can be earlier.

Arrays used here, all float64:

    surfaces (triangle, 20)  0:6 box low x y z, high x y z · 6:9 unit normal (zero if degenerate) · 9:18 corners ·
                             18 offset of the plane along the normal · 19 `Contents` bits
    ray      (13,)           0:3 base · 3:6 displacement · 6:9 axis · 9 radius · 10 slowest approach that counts ·
                             11 displacement² · 12 axis²
    hit      (32,)           0 time in [0, 1] · 1:4 normal, from the surface to the capsule · 4 depth of the deepest
                             overlap at the start · 5:8 direction out of it · 8 its triangle · 9:32 scratch
    corners  (18,)           the six corners of the extruded triangle, relative to the base

An overlap of up to CONTACT is touching: it stops what approaches and lets slide what does not.

What is tried first decides the cost. Insides of triangles come first: they are cheap, and a floor or wall met there
leaves of most rims nothing to do. Of ten triangles near a walking player three rims had to be tried before that order
and before boxes were told apart by distance rather than by overlap (which lets go of all that is level with the soles).
"""

from math import sqrt

from sim.arrays import F64, I32, U16
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, gather_box
from sim.jit import kernel

__all__ = [
    "CONTACT",
    "CORNERS_SIZE",
    "HIT_SIZE",
    "RAY_SIZE",
    "SURFACE_SIZE",
    "box_gap",
    "nearest",
    "prepare_surfaces",
    "set_ray",
    "sweep_batch",
    "sweep_candidates",
]

CONTACT = 1e-7  # [m]
APPROACH = 1e-12  # of the displacement: slower than this is sliding, not approaching
SURFACE_SIZE, RAY_SIZE, HIT_SIZE, CORNERS_SIZE = 20, 13, 32, 18
EDGE_FROM = (0, 1, 2, 3, 4, 5, 3, 4, 5)
EDGE_TO = (1, 2, 0, 4, 5, 3, 0, 1, 2)
NONE = -1
LATER_AT, LATER_MAX = 9, HIT_SIZE - 9
MISSED, MET, OPEN = range(3)


@kernel("(f8[:,::1], u2[::1], f8[:,::1])")
def prepare_surfaces(corners: F64, contents: U16, out_surfaces: F64) -> None:
    """Write a row per triangle (see the top of this file) from its corners, shape (n, 9), and contents."""
    for k in range(len(corners)):
        row = out_surfaces[k]
        for i in range(9):
            row[9 + i] = corners[k, i]
        for i in range(3):
            a, b, c = row[9 + i], row[12 + i], row[15 + i]
            row[i] = min(a, b, c)
            row[3 + i] = max(a, b, c)
        ux, uy, uz = row[12] - row[9], row[13] - row[10], row[14] - row[11]
        vx, vy, vz = row[15] - row[9], row[16] - row[10], row[17] - row[11]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = sqrt(nx * nx + ny * ny + nz * nz)
        extent = max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz)
        # A sliver has no trustworthy normal; its edges and corners stand for it.
        scale = 1.0 / length if length > 1e-12 * extent else 0.0
        row[6], row[7], row[8] = nx * scale, ny * scale, nz * scale
        row[18] = row[6] * row[9] + row[7] * row[10] + row[8] * row[11]
        row[19] = contents[k]


@kernel(counted=False)
def set_ray(
    ray: F64,
    base: tuple[float, float, float],
    displacement: tuple[float, float, float],
    axis: tuple[float, float, float],
    radius: float,
) -> None:
    """Describe one sweep."""
    for i in range(3):
        ray[i] = base[i]
        ray[3 + i] = displacement[i]
        ray[6 + i] = axis[i]
    square = ray[3] * ray[3] + ray[4] * ray[4] + ray[5] * ray[5]
    ray[9] = radius
    ray[10] = APPROACH * sqrt(square)
    ray[11] = square
    ray[12] = ray[6] * ray[6] + ray[7] * ray[7] + ray[8] * ray[8]


@kernel(counted=False)
def sweep_candidates(surfaces: F64, candidates: I32, count: int, ray: F64, corners: F64, hit: F64) -> int:
    """The first triangle of a list that the capsule meets on its way; of equally early ones the lowest number.

    Args:
        surfaces: Every triangle.
        candidates: Triangle numbers; any list that holds all triangles near the path gives the same answer.
        count: How many of them.
        ray: The sweep, from `set_ray`. A zero displacement only reports overlaps.
        corners: Scratch.
        hit: Output; the time is 1 where nothing is met.

    Returns:
        The triangle, or −1.
    """
    hit[0], hit[4] = 1.0, 0.0
    lx, hx = ray[0] + min(0.0, ray[3]) + min(0.0, ray[6]), ray[0] + max(0.0, ray[3]) + max(0.0, ray[6])
    ly, hy = ray[1] + min(0.0, ray[4]) + min(0.0, ray[7]), ray[1] + max(0.0, ray[4]) + max(0.0, ray[7])
    lz, hz = ray[2] + min(0.0, ray[5]) + min(0.0, ray[8]), ray[2] + max(0.0, ray[5]) + max(0.0, ray[8])
    near = (ray[9] - CONTACT) * (ray[9] - CONTACT)
    best = NONE
    later = 0
    for place in range(count):
        k = candidates[place]
        x = max(0.0, surfaces[k, 0] - hx, lx - surfaces[k, 3])
        y = max(0.0, surfaces[k, 1] - hy, ly - surfaces[k, 4])
        z = max(0.0, surfaces[k, 2] - hz, lz - surfaces[k, 5])
        if x * x + y * y + z * z >= near:
            continue
        found = _sweep_face(surfaces, k, best, ray, hit)
        if found == MET:
            best = k
        elif found == OPEN and later < LATER_MAX:
            hit[LATER_AT + later] = k
            later += 1
        elif found == OPEN and _sweep_rim(surfaces, k, best, ray, corners, hit):
            best = k
    for place in range(later):
        k = int(hit[LATER_AT + place])
        if _comes_near(surfaces, k, ray, hit[0]) and _sweep_rim(surfaces, k, best, ray, corners, hit):
            best = k
    return best


@kernel(counted=False)
def _earlier(time: float, triangle: int, best: int, hit: F64) -> bool:
    """Whether a hit is to replace the best one so far."""
    return time < hit[0] or (time == hit[0] and (best < 0 or triangle < best))


@kernel(counted=False)
def _sweep_face(surfaces: F64, k: int, best: int, ray: F64, hit: F64) -> int:
    """Meet a triangle's inside: MET and `hit` written, MISSED whatever its rim does, or OPEN: look at the rim."""
    nx, ny, nz = surfaces[k, 6], surfaces[k, 7], surfaces[k, 8]
    base = nx * ray[0] + ny * ray[1] + nz * ray[2] - surfaces[k, 18]
    rise = nx * ray[6] + ny * ray[7] + nz * ray[8]
    speed = nx * ray[3] + ny * ray[4] + nz * ray[5]
    if base + base + rise < 0.0:  # seen from the back: look from there
        nx, ny, nz, base, rise, speed = -nx, -ny, -nz, -base, -rise, -speed
    gap = min(base, base + rise) - ray[9]
    if gap < -CONTACT:
        return OPEN
    if speed >= -ray[10]:
        return MISSED
    time = max(0.0, gap / -speed)
    if not _earlier(time, k, best, hit):
        return MISSED
    if not _on_triangle(surfaces, k, (nx, ny, nz), time, 1.0 if rise < 0.0 else 0.0, ray):
        return OPEN
    hit[0], hit[1], hit[2], hit[3] = time, nx, ny, nz
    return MET


@kernel(counted=False)
def _sweep_rim(surfaces: F64, k: int, best: int, ray: F64, corners: F64, hit: F64) -> bool:
    """Meet the rest of a triangle: its extruded sides, edges and corners; also finds overlap at the start.

    Returns:
        Whether it is met earlier than what `hit` had, which is then written.
    """
    _extrude(surfaces, k, ray, corners)
    if _comes_near(surfaces, k, ray, 0.0):
        x, y, z, distance = _apart_from(surfaces, k, ray, corners)
        if ray[9] - distance > CONTACT:
            return _from_inside(x, y, z, ray[9] - distance, k, best, ray, hit)
    side = _sweep_sides(k, best, ray, corners, hit)
    if side != 0:
        return side > 0
    edge = _sweep_edges(k, best, ray, corners, hit)
    return _sweep_corners(k, k if edge else best, ray, corners, hit) or edge


@kernel(counted=False)
def _comes_near(surfaces: F64, k: int, ray: F64, time: float) -> bool:
    """Whether the box of the capsule's segment, swept up to a time, comes within a radius of the triangle's box."""
    square = 0.0
    for i in range(3):
        way = time * ray[3 + i]
        low = ray[i] + min(0.0, way) + min(0.0, ray[6 + i])
        high = ray[i] + max(0.0, way) + max(0.0, ray[6 + i])
        off = max(0.0, surfaces[k, i] - high, low - surfaces[k, 3 + i])
        square += off * off
    return bool(square < (ray[9] - CONTACT) * (ray[9] - CONTACT))


@kernel(counted=False)
def _extrude(surfaces: F64, k: int, ray: F64, corners: F64) -> None:
    """The triangle and its copy moved by −axis, relative to the base."""
    for i in range(3):
        for j in range(3):
            value = surfaces[k, 9 + 3 * i + j] - ray[j]
            corners[3 * i + j] = value
            corners[9 + 3 * i + j] = value - ray[6 + j]


@kernel(counted=False)
def _on_triangle(surfaces: F64, k: int, normal: tuple[float, float, float], time: float, top: float, ray: F64) -> bool:
    """Whether the capsule's end, at the time its plane distance is the radius, is above the triangle's inside."""
    nx, ny, nz = normal
    x = ray[0] + time * ray[3] + top * ray[6]
    y = ray[1] + time * ray[4] + top * ray[7]
    z = ray[2] + time * ray[5] + top * ray[8]
    return _above(
        nx, ny, nz,
        (surfaces[k, 9] - x, surfaces[k, 10] - y, surfaces[k, 11] - z),
        (surfaces[k, 12] - x, surfaces[k, 13] - y, surfaces[k, 14] - z),
        (surfaces[k, 15] - x, surfaces[k, 16] - y, surfaces[k, 17] - z),
    )  # fmt: skip


@kernel(counted=False)
def _above(
    nx: float, ny: float, nz: float,
    a: tuple[float, float, float], b: tuple[float, float, float], c: tuple[float, float, float],
) -> bool:  # fmt: skip
    """Whether the origin is over the inside or the outline of a triangle, whichever way round it is."""
    u = nx * (a[1] * b[2] - a[2] * b[1]) + ny * (a[2] * b[0] - a[0] * b[2]) + nz * (a[0] * b[1] - a[1] * b[0])
    v = nx * (b[1] * c[2] - b[2] * c[1]) + ny * (b[2] * c[0] - b[0] * c[2]) + nz * (b[0] * c[1] - b[1] * c[0])
    w = nx * (c[1] * a[2] - c[2] * a[1]) + ny * (c[2] * a[0] - c[0] * a[2]) + nz * (c[0] * a[1] - c[1] * a[0])
    return (u >= 0.0 and v >= 0.0 and w >= 0.0) or (u <= 0.0 and v <= 0.0 and w <= 0.0)


@kernel(counted=False)
def _from_inside(
    x: float, y: float, z: float, depth: float, k: int, best: int, ray: F64, hit: F64
) -> bool:  # fmt: skip
    """Record an overlap at the start; it is a hit at time 0 if the capsule moves farther in."""
    if depth > hit[4] or (depth == hit[4] and k < hit[8]):
        hit[4], hit[5], hit[6], hit[7], hit[8] = depth, x, y, z, k
    if x * ray[3] + y * ray[4] + z * ray[5] >= -ray[10] or not _earlier(0.0, k, best, hit):
        return False
    hit[0], hit[1], hit[2], hit[3] = 0.0, x, y, z
    return True


@kernel(counted=False)
def _sweep_sides(k: int, best: int, ray: F64, corners: F64, hit: F64) -> int:
    """Entry through the parallelograms swept by the triangle's edges.

    Returns:
        1 where one is entered, earlier than `hit`, which is written; −1 where nothing of this triangle can be met
        earlier than `hit`; 0 where other features must be looked at.
    """
    ax, ay, az, radius = ray[6], ray[7], ray[8], ray[9]
    for i in range(3):
        p, q, o = 3 * i, 3 * EDGE_TO[i], 3 * EDGE_TO[EDGE_TO[i]]
        px, py, pz = corners[p], corners[p + 1], corners[p + 2]
        ex, ey, ez = corners[q] - px, corners[q + 1] - py, corners[q + 2] - pz
        mx, my, mz = ey * az - ez * ay, ez * ax - ex * az, ex * ay - ey * ax
        square = mx * mx + my * my + mz * mz
        if square <= 1e-20 * ray[12] * (ex * ex + ey * ey + ez * ez):
            continue
        length = sqrt(square)
        mx, my, mz = mx / length, my / length, mz / length
        offset = mx * px + my * py + mz * pz
        inward = mx * corners[o] + my * corners[o + 1] + mz * corners[o + 2] - offset
        flat = abs(inward) < 1e-9  # a triangle along the axis: both sides of it face outward
        if (flat and offset > 0.0) or (not flat and inward > 0.0):
            mx, my, mz, offset = -mx, -my, -mz, -offset
        gap = -offset - radius
        if gap < -CONTACT:
            continue
        speed = mx * ray[3] + my * ray[4] + mz * ray[5]
        if speed >= -ray[10]:
            return -1
        time = max(0.0, gap / -speed)
        if not _earlier(time, k, best, hit):
            return -1
        x = time * ray[3] - px - radius * mx
        y = time * ray[4] - py - radius * my
        z = time * ray[5] - pz - radius * mz
        # The foot of the normal is u·edge − w·axis from the corner; crossing with one finds the other's share.
        sx, sy, sz = ey * az - ez * ay, ez * ax - ex * az, ex * ay - ey * ax
        u = sx * (y * az - z * ay) + sy * (z * ax - x * az) + sz * (x * ay - y * ax)
        w = -(sx * (ey * z - ez * y) + sy * (ez * x - ex * z) + sz * (ex * y - ey * x))
        if 0.0 <= u <= square and 0.0 <= w <= square:
            hit[0], hit[1], hit[2], hit[3] = time, mx, my, mz
            return 1
    return 0


@kernel(counted=False)
def _sweep_edges(k: int, best: int, ray: F64, corners: F64, hit: F64) -> bool:
    """Entry through the nine edges' cylinders (Ericson 5.3.7); True where `hit` was improved."""
    dx, dy, dz, radius = ray[3], ray[4], ray[5], ray[9]
    improved = False
    for i in range(9):
        p = 3 * EDGE_FROM[i]
        q = 3 * EDGE_TO[i]
        px, py, pz = corners[p], corners[p + 1], corners[p + 2]
        ex, ey, ez = corners[q] - px, corners[q + 1] - py, corners[q + 2] - pz
        ee = ex * ex + ey * ey + ez * ez
        de = dx * ex + dy * ey + dz * ez
        we = -(px * ex + py * ey + pz * ez)
        half = -ee * (px * dx + py * dy + pz * dz) - de * we
        if half >= -ee * radius * ray[10]:
            continue
        rest = ee * (px * px + py * py + pz * pz - radius * radius) - we * we
        time = 0.0
        if rest > 0.0:
            root = half * half - (ee * ray[11] - de * de) * rest
            if root <= 0.0:
                continue
            time = rest / (sqrt(root) - half)
        if not _earlier(time, k, best, hit):
            continue
        along = we + time * de
        if along < 0.0 or along > ee:
            continue
        along = along / ee
        if _set_normal(time * dx - px - along * ex, time * dy - py - along * ey, time * dz - pz - along * ez, hit):
            hit[0] = time
            best = k
            improved = True
    return improved


@kernel(counted=False)
def _sweep_corners(k: int, best: int, ray: F64, corners: F64, hit: F64) -> bool:
    """Entry through the six corners' spheres (Ericson 5.3.2); True where `hit` was improved."""
    dx, dy, dz, radius = ray[3], ray[4], ray[5], ray[9]
    improved = False
    for i in range(6):
        px, py, pz = corners[3 * i], corners[3 * i + 1], corners[3 * i + 2]
        half = -(px * dx + py * dy + pz * dz)
        if half >= -radius * ray[10]:
            continue
        rest = px * px + py * py + pz * pz - radius * radius
        time = 0.0
        if rest > 0.0:
            root = half * half - ray[11] * rest
            if root <= 0.0:
                continue
            time = rest / (sqrt(root) - half)
        if not _earlier(time, k, best, hit):
            continue
        if _set_normal(time * dx - px, time * dy - py, time * dz - pz, hit):
            hit[0] = time
            best = k
            improved = True
    return improved


@kernel(counted=False)
def _set_normal(x: float, y: float, z: float, hit: F64) -> bool:
    """Make the normal of `hit` from a vector; False, and nothing done, for a zero vector."""
    length = sqrt(x * x + y * y + z * z)
    if not length > 0.0:
        return False
    hit[1], hit[2], hit[3] = x / length, y / length, z / length
    return True


@kernel(counted=False)
def _apart_from(surfaces: F64, k: int, ray: F64, corners: F64) -> tuple[float, float, float, float]:
    """(direction from the triangle to the capsule, distance to the capsule's segment) at the start.

    Where the segment itself is in the triangle: out along the normal, and minus how far it reaches through.
    """
    nx, ny, nz = surfaces[k, 6], surfaces[k, 7], surfaces[k, 8]
    base = nx * ray[0] + ny * ray[1] + nz * ray[2] - surfaces[k, 18]
    rise = nx * ray[6] + ny * ray[7] + nz * ray[8]
    if base + base + rise < 0.0:
        nx, ny, nz, base, rise = -nx, -ny, -nz, -base, -rise
    x, y, z = _apart(nx, ny, nz, base, rise, ray, corners)
    distance = sqrt(x * x + y * y + z * z)
    if distance > 1e-9:
        return x / distance, y / distance, z / distance, distance
    return nx, ny, nz, min(0.0, base, base + rise)


@kernel(counted=False)
def _apart(
    nx: float, ny: float, nz: float, base: float, rise: float, ray: F64, corners: F64
) -> tuple[float, float, float]:
    """The shortest vector from the triangle to the capsule's segment; zero where they cross (Ericson 5.1.9)."""
    a = (corners[0], corners[1], corners[2])
    b = (corners[3], corners[4], corners[5])
    c = (corners[6], corners[7], corners[8])
    end = base + rise
    if min(base, end) <= 0.0 <= max(base, end):
        s = base / (base - end) if base != end else 0.0
        sx, sy, sz = s * ray[6], s * ray[7], s * ray[8]
        if nx * nx + ny * ny + nz * nz > 0.0 and _above(
            nx, ny, nz,
            (a[0] - sx, a[1] - sy, a[2] - sz), (b[0] - sx, b[1] - sy, b[2] - sz), (c[0] - sx, c[1] - sy, c[2] - sz),
        ):  # fmt: skip
            return 0.0, 0.0, 0.0
    best = 1e300
    x, y, z = 0.0, 0.0, 0.0
    if nx * nx + ny * ny + nz * nz > 0.0:
        if _above(nx, ny, nz, a, b, c):
            best, x, y, z = base * base, base * nx, base * ny, base * nz
        if end * end < best and _above(
            nx, ny, nz,
            (corners[9], corners[10], corners[11]),
            (corners[12], corners[13], corners[14]),
            (corners[15], corners[16], corners[17]),
        ):  # fmt: skip
            best, x, y, z = end * end, end * nx, end * ny, end * nz
    for i in range(3):
        ux, uy, uz = _segments_apart(ray, corners, 3 * i, 3 * EDGE_TO[i])
        square = ux * ux + uy * uy + uz * uz
        if square < best:
            best, x, y, z = square, ux, uy, uz
    return x, y, z


@kernel(counted=False)
def _segments_apart(ray: F64, corners: F64, p: int, q: int) -> tuple[float, float, float]:
    """The shortest vector from the edge between two corners to the capsule's segment (Ericson 5.1.9)."""
    ax, ay, az = ray[6], ray[7], ray[8]
    px, py, pz = corners[p], corners[p + 1], corners[p + 2]
    ex, ey, ez = corners[q] - px, corners[q + 1] - py, corners[q + 2] - pz
    aa = ray[12]
    ee = ex * ex + ey * ey + ez * ez
    f = -(ex * px + ey * py + ez * pz)
    c = -(ax * px + ay * py + az * pz)
    b = ax * ex + ay * ey + az * ez
    s = 0.0
    if aa > 0.0:
        spread = aa * ee - b * b
        if spread > 1e-18 * aa * ee:
            s = min(1.0, max(0.0, (b * f - c * ee) / spread))
    t = (b * s + f) / ee if ee > 0.0 else 0.0
    if t < 0.0 or t > 1.0 or ee == 0.0:
        t = min(1.0, max(0.0, t))
        s = min(1.0, max(0.0, (b * t - c) / aa)) if aa > 0.0 else 0.0
    return s * ax - px - t * ex, s * ay - py - t * ey, s * az - pz - t * ez


@kernel(counted=False)
def nearest(surfaces: F64, k: int, ray: F64, corners: F64) -> tuple[float, float, float, float]:
    """(direction from the triangle to the capsule, distance between triangle and capsule) at the start of a sweep."""
    _extrude(surfaces, k, ray, corners)
    x, y, z, distance = _apart_from(surfaces, k, ray, corners)
    return x, y, z, distance - ray[9]


@kernel(counted=False)
def box_gap(surfaces: F64, k: int, ray: F64) -> float:
    """A lower bound of the distance from the capsule at the start of a sweep to a triangle, along the worst axis."""
    gap: float = -ray[9]
    for i in range(3):
        low = ray[i] + min(0.0, ray[6 + i])
        high = ray[i] + max(0.0, ray[6 + i])
        gap = max(gap, surfaces[k, i] - high - ray[9], low - surfaces[k, 3 + i] - ray[9])
    return gap


@kernel(f"({GEOMETRY_TYPE}, f8[:,::1], i8, f8[:,::1], i4[::1], f8[:,::1], i4[::1], f8[:,::1])")
def sweep_batch(
    geometry: GeometryArrays, surfaces: F64, mask: int, sweeps: F64,
    scratch_triangles: I32, scratch: F64, out_triangle: I32, out_hit: F64,
) -> int:  # fmt: skip
    """Sweep many capsules against the world.

    Args:
        geometry: `Geometry.arrays`.
        surfaces: From `prepare_surfaces`.
        mask: `Contents` bits, any of which a triangle must have.
        sweeps: Base, displacement, axis and radius of each, shape (n, 10).
        scratch_triangles: As long as there are triangles, so that no list overflows.
        scratch: Shape (2, CORNERS_SIZE).
        out_triangle: First triangle met, or −1; shape (n,).
        out_hit: Time, normal, depth, direction out; shape (n, HIT_SIZE).

    Returns:
        How many sweeps met something.
    """
    ray, corners = scratch[0], scratch[1]
    met = 0
    for i in range(len(sweeps)):
        s = sweeps[i]
        set_ray(ray, (s[0], s[1], s[2]), (s[3], s[4], s[5]), (s[6], s[7], s[8]), s[9])
        reach = s[9] + 2.0 * CONTACT
        count = gather_box(
            geometry,
            s[0] + min(0.0, s[3]) + min(0.0, s[6]) - reach,
            s[1] + min(0.0, s[4]) + min(0.0, s[7]) - reach,
            s[2] + min(0.0, s[5]) + min(0.0, s[8]) - reach,
            s[0] + max(0.0, s[3]) + max(0.0, s[6]) + reach,
            s[1] + max(0.0, s[4]) + max(0.0, s[7]) + reach,
            s[2] + max(0.0, s[5]) + max(0.0, s[8]) + reach,
            mask, scratch_triangles,
        )  # fmt: skip
        for column in range(HIT_SIZE):
            out_hit[i, column] = 0.0
        out_triangle[i] = sweep_candidates(surfaces, scratch_triangles, count, ray, corners, out_hit[i])
        met += out_triangle[i] >= 0
    return met
