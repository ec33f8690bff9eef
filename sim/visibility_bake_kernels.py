"""What can be seen from where, worked out once per map: voxels of free space, cells made of them, rays between cells.

Free space is flooded from places where players stand, voxel by voxel. Every voxel that is reached has an anchor: a
point in it with a free straight way from the anchor it was reached from, so that nothing behind a wall is ever taken
for open, however thin the wall. Cells are the connected parts of blocks of voxels. Two cells see each other when any
ray between any of their anchors is free.

From-region visibility by sampling, made safe by growing the result by one cell on both sides: Nirenstein and Blake
("Hardware Accelerated Visibility Preprocessing using Adaptive Sampling", EGSR 2004) sample likewise; Teller and
Séquin's exact portals (SIGGRAPH 1991, the `vis` of Quake) need a tree of convex cells that only BSP maps have.

Lattice figures, f8: 0–2 low corner [m], 3 pitch [m], 4–6 voxels along x, y, z. A voxel's number is
ix + nx · (iy + ny · iz).
"""

from typing import Final

from sim.arrays import F64, I32, U8, U64
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit, blocking_leaf
from sim.jit import kernel
from sim.visibility_kernels import SIGHT_MASK, voxel_at

__all__ = ["cell_rays", "flood_voxels", "grow_rows", "join_voxels", "link_voxels", "seed_voxels"]

STEP_X: Final = (1, -1, 0, 0, 0, 0)
STEP_Y: Final = (0, 0, 1, -1, 0, 0)
STEP_Z: Final = (0, 0, 0, 0, 1, -1)


@kernel(counted=False)
def _free(geometry: GeometryArrays, anchors: F64, item: int, x: float, y: float, z: float) -> bool:
    """Whether nothing stands between the anchor of an item and a point."""
    ax, ay, az = anchors[item, 0], anchors[item, 1], anchors[item, 2]
    return not any_hit(geometry, ax, ay, az, x - ax, y - ay, z - az, 1.0, SIGHT_MASK)


@kernel("(f8[::1], f8[:,::1], i4[::1], i4[::1], u1[::1], f8[:,::1])", counted=False)
def seed_voxels(figures: F64, seeds: F64, item_of: I32, items: I32, depths: U8, anchors: F64) -> int:
    """Begin with the voxels of points in free space [m], shape (n, 3); other arguments as for `flood_voxels`."""
    count = 0
    for row in range(len(seeds)):
        voxel = voxel_at(figures, seeds[row, 0], seeds[row, 1], seeds[row, 2])
        if voxel >= 0 and item_of[voxel] < 0:
            anchors[count, 0], anchors[count, 1], anchors[count, 2] = seeds[row, 0], seeds[row, 1], seeds[row, 2]
            item_of[voxel], items[count], depths[count] = count, voxel, 0
            count += 1
    return count


@kernel(counted=False)
def _reach(geometry: GeometryArrays, anchors: F64, item: int, middle: tuple[float, float, float], off: float) -> int:
    """Which point of a voxel can be reached from an anchor: 0 its middle, 1 to 8 towards a corner; −1: none."""
    x, y, z = middle
    for number in range(9 if off > 0.0 else 1):
        bits = number - 1
        dx = 0.0 if number == 0 else off if bits & 1 else -off
        dy = 0.0 if number == 0 else off if bits & 2 else -off
        dz = 0.0 if number == 0 else off if bits & 4 else -off
        if _free(geometry, anchors, item, x + dx, y + dy, z + dz):
            return number
    return -1


@kernel(f"({GEOMETRY_TYPE}, f8[::1], i8, f8, i8, i4[::1], i4[::1], u1[::1], f8[:,::1])", counted=False)
def flood_voxels(
    geometry: GeometryArrays, figures: F64, reach: int, off: float, count: int,
    item_of: I32, items: I32, depths: U8, anchors: F64,
) -> int:  # fmt: skip
    """Find the voxels of free space within `reach` steps of those found so far.

    Args:
        geometry: What stops sight.
        figures: Of the lattice.
        reach: Steps from the seeds, at most 255.
        off: How far off its middle a voxel may be entered [m]; 0: through the middle only.
        count: Voxels found so far.
        item_of: A number for each voxel of the lattice, −1 for those not found; updated.
        items: The voxels found; updated, with room for all.
        depths: Steps from the seeds; updated.
        anchors: A free point in each [m], shape (capacity, 3); updated.

    Returns:
        How many voxels have been found.
    """
    nx, ny, nz = int(figures[4]), int(figures[5]), int(figures[6])
    pitch, item = figures[3], 0
    while item < count:
        depth = int(depths[item]) + 1
        rest, ix = divmod(int(items[item]), nx)
        iz, iy = divmod(rest, ny)
        for k in range(6):
            jx, jy, jz = ix + STEP_X[k], iy + STEP_Y[k], iz + STEP_Z[k]
            if depth > reach or not (0 <= jx < nx and 0 <= jy < ny and 0 <= jz < nz):
                continue
            voxel = jx + nx * (jy + ny * jz)
            if item_of[voxel] >= 0:
                continue
            x, y, z = figures[0] + (jx + 0.5) * pitch, figures[1] + (jy + 0.5) * pitch, figures[2] + (jz + 0.5) * pitch
            number = _reach(geometry, anchors, item, (x, y, z), off)
            if number < 0:
                continue
            bits = number - 1
            anchors[count, 0] = x if number == 0 else x + off if bits & 1 else x - off
            anchors[count, 1] = y if number == 0 else y + off if bits & 2 else y - off
            anchors[count, 2] = z if number == 0 else z + off if bits & 4 else z - off
            item_of[voxel], items[count], depths[count] = count, voxel, depth
            count += 1
        item += 1
    return count


@kernel(f"({GEOMETRY_TYPE}, f8[::1], i4[::1], i4[::1], f8[:,::1], i4[:,::1])", counted=False)
def link_voxels(geometry: GeometryArrays, figures: F64, item_of: I32, items: I32, anchors: F64, links: I32) -> None:
    """Which of its neighbours towards +x, +y and +z each item sees from anchor to anchor; −1 for none.

    Args:
        geometry, figures, item_of, anchors: As for `flood_voxels`.
        items: The voxels found, shape (n,).
        links: Output: items, shape (n, 3).
    """
    nx, ny, nz = int(figures[4]), int(figures[5]), int(figures[6])
    for item in range(len(items)):
        rest, ix = divmod(int(items[item]), nx)
        iz, iy = divmod(rest, ny)
        for axis in range(3):
            links[item, axis] = -1
            jx, jy, jz = ix + (axis == 0), iy + (axis == 1), iz + (axis == 2)
            if jx >= nx or jy >= ny or jz >= nz:
                continue
            other = item_of[jx + nx * (jy + ny * jz)]
            if other >= 0 and _free(geometry, anchors, item, anchors[other, 0], anchors[other, 1], anchors[other, 2]):
                links[item, axis] = other


@kernel("(i4[::1], i4[:,::1], i4[::1])", counted=False)
def join_voxels(block: I32, links: I32, parent: I32) -> None:
    """Give linked items of the same block the same root: the lowest item of each connected part.

    Args:
        block: Number of the block of each item, shape (n,).
        links: Of `link_voxels`.
        parent: Output: the root of each item (union by lowest number, Galler and Fischer 1964).
    """
    for item in range(len(block)):
        parent[item] = item
    for item in range(len(block)):
        for axis in range(3):
            other = int(links[item, axis])
            if other < 0 or block[other] != block[item]:
                continue
            one = item
            while parent[one] != one:
                parent[one] = parent[parent[one]]
                one = int(parent[one])
            while parent[other] != other:
                parent[other] = parent[parent[other]]
                other = int(parent[other])
            parent[max(one, other)] = min(one, other)
    for item in range(len(block)):  # a root is lower than what hangs on it, so one pass is enough
        parent[item] = parent[parent[item]]


@kernel(f"({GEOMETRY_TYPE}, i4[::1], f8[:,::1], i8, u1[:,::1], u1[:,::1])", counted=False)
def cell_rays(geometry: GeometryArrays, start: I32, points: F64, rays: int, asked: U8, seen: U8) -> int:
    """Which cells see each other: any free ray of at most `rays` between their points.

    The leaf that stopped the last ray is tried first: between the same two cells it stops the next one often.

    Args:
        geometry: What stops sight.
        start: First point of each cell and the end, shape (n + 1,).
        points: Points of free space by cell [m].
        rays: Rays between two cells before they count as hidden.
        asked: Which pairs to look at, those with a < b, shape (n, n).
        seen: Set to 1 where cells see each other, shape (n, n), symmetric.

    Returns:
        How many rays were cast.
    """
    cast = 0
    for a in range(len(seen)):
        first, size = int(start[a]), int(start[a + 1] - start[a])
        for b in range(a + 1, len(seen)):
            if asked[a, b] == 0 or seen[a, b] != 0:
                continue
            other, others = int(start[b]), int(start[b + 1] - start[b])
            state, leaf = (a * 40503 + b * 69069 + rays) & 0x7FFFFFFF, -1
            for _ in range(rays):
                # A linear congruence; its high bits choose the points.
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                i = first + ((state >> 8) & 0xFFFF) % size
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                j = other + ((state >> 8) & 0xFFFF) % others
                x, y, z = points[i, 0], points[i, 1], points[i, 2]
                dx, dy, dz = points[j, 0] - x, points[j, 1] - y, points[j, 2] - z
                leaf = blocking_leaf(geometry, x, y, z, dx, dy, dz, 1.0, SIGHT_MASK, leaf)
                cast += 1
                if leaf < 0:
                    seen[a, b] = 1
                    seen[b, a] = 1
                    break
    return cast


@kernel("(i4[::1], i4[::1], u8[:,::1], u8[:,::1])", counted=False)
def grow_rows(start: I32, near: I32, rows: U64, grown: U64) -> None:
    """Join the row of each cell with those of its neighbours.

    Args:
        start: First neighbour of each cell and the end, shape (n + 1,).
        near: Neighbours by cell.
        rows: Bit sets, shape (n, words), uint64.
        grown: Output, likewise.
    """
    for cell in range(len(rows)):
        for word in range(rows.shape[1]):
            grown[cell, word] = rows[cell, word]
        for k in range(start[cell], start[cell + 1]):
            for word in range(rows.shape[1]):
                grown[cell, word] |= rows[near[k], word]
