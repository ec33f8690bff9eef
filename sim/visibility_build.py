"""Working out which cells of a map see each other: `bake`, once per map.

Apart from `sim.visibility`, so that a server that finds a finished map never loads these kernels.
"""

from dataclasses import dataclass

import numpy as np

from sim.arrays import F64, I16, I32, I64, U8, U64
from sim.geometry import Geometry
from sim.navigation import Navigation
from sim.visibility import CELLS_MAX, VOXELS_MAX, VisibilityError, VisibilityMap, pack_rows, unpack_rows
from sim.visibility_bake_kernels import cell_rays, flood_voxels, grow_rows, join_voxels, link_voxels, seed_voxels
from sim.worldmap import WorldMap

__all__ = ["BakeOptions", "bake"]

SEED_HEIGHTS_M = (0.2, 0.7, 1.2)  # above the feet; a standing body fills them
STEPS_MAX = 255
PART_MIN = 6  # voxels
OFF_MIDDLE = 0.35  # of a voxel's side


@dataclass(frozen=True, slots=True)
class BakeOptions:
    """How finely a map's visibility is worked out.

    Attributes:
        block_m: Side of the blocks that cells are made of [m]; it grows until there are at most `cells_max` cells.
        cells_max: Most cells.
        reach_m: How far from where players stand space is looked at [m]: what is in the air beyond is left to rays.
        points: Points of each cell that rays start from, at most.
        rays: Rays between two cells before they count as hidden.
        ring_rays: As many more between cells that are hidden but whose neighbours see each other: there the narrow
            gaps are (Nirenstein and Blake sample adaptively likewise).
    """

    block_m: float = 2.0
    cells_max: int = 2048
    reach_m: float = 4.0
    points: int = 64
    rays: int = 32
    ring_rays: int = 128

    def __post_init__(self) -> None:
        limits = {
            "block_m": (0.5, 64.0), "cells_max": (16, CELLS_MAX), "reach_m": (0.0, 64.0), "points": (1, 4096),
            "rays": (1, 4096), "ring_rays": (0, 4096),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise VisibilityError(f"bake option {name} is {value}; give it {low} to {high}")


def bake(
    world: WorldMap, sight: Geometry, navigation: Navigation, *, options: BakeOptions | None = None
) -> VisibilityMap:
    """What can be seen from where on a map; the same map gives the same on every machine.

    Args:
        world: The map.
        sight: Geometry of its `sight_world`.
        navigation: Where players can walk on it.
        options: How finely.

    Raises:
        VisibilityError: The map falls into more separate places than there may be cells.
    """
    options = options or BakeOptions()
    figures = _lattice(navigation, options)
    item_of, items, anchors, links = _voxels(sight, navigation, figures, options)
    cell, blocks = _cells(figures, items, links, options)
    start, points = _points(cell, links, anchors, options.points)
    near_start, near = _neighbours(cell, links, blocks)
    count = len(blocks)
    seen: U8 = np.eye(count, dtype=np.uint8)
    cell_rays(sight.arrays, start, points, options.rays, np.ones_like(seen), seen)
    grown = _grown(seen, near_start, near)
    if options.ring_rays:
        cell_rays(sight.arrays, start, points, options.ring_rays, unpack_rows(grown, count), seen)
        grown = _grown(seen, near_start, near)
    cell_of: I16 = np.full(len(item_of), -1, np.int16)
    cell_of[items] = cell
    return VisibilityMap(world.content_hash(), (figures, cell_of, pack_rows(seen), grown))


def _lattice(navigation: Navigation, options: BakeOptions) -> F64:
    """Figures of the voxels, whose columns stand on those of the navigation; coarser where there are too many."""
    x, y, pitch, across, along = (float(value) for value in navigation.arrays[0][:5])
    low = float(navigation.position[:, 2].min()) - pitch
    high = float(navigation.position[:, 2].max()) + SEED_HEIGHTS_M[-1] + options.reach_m
    extent = np.array([across * pitch, along * pitch, high - low])
    size = np.ceil(extent / pitch) + 1.0
    while size.prod() > VOXELS_MAX:
        pitch *= 2.0
        size = np.ceil(extent / pitch) + 1.0
    return np.array([x, y, low, pitch, *size])


def _voxels(sight: Geometry, navigation: Navigation, figures: F64, options: BakeOptions) -> tuple[I32, I32, F64, I32]:
    """The number of each voxel's item or −1, the voxels found, their anchors and links."""
    heights = np.array([[0.0, 0.0, height] for height in SEED_HEIGHTS_M])
    seeds = (navigation.position[:, None, :] + heights).reshape(-1, 3)
    total = int(figures[4:7].prod())
    item_of: I32 = np.full(total, -1, np.int32)
    # Room for all voxels; the system commits only the pages that are written.
    items, depths, anchors = np.empty(total, np.int32), np.empty(total, np.uint8), np.empty((total, 3))
    reach = min(STEPS_MAX, round(options.reach_m / float(figures[3])))
    count = seed_voxels(figures, seeds, item_of, items, depths, anchors)
    # Through the middles first: a voxel that a thin wall parts belongs to the side where its middle is. Then what is
    # left, where a body's middle may be beside walls and on slopes.
    for off in (0.0, OFF_MIDDLE * float(figures[3])):
        count = flood_voxels(sight.arrays, figures, reach, off, count, item_of, items, depths, anchors)
    items, anchors = items[:count].copy(), anchors[:count].copy()
    links: I32 = np.empty((count, 3), np.int32)
    link_voxels(sight.arrays, figures, item_of, items, anchors, links)
    return item_of, items, anchors, links


def _cells(figures: F64, items: I32, links: I32, options: BakeOptions) -> tuple[I32, I64]:
    """The cell of each item, and the block of each cell, shape (n, 3)."""
    size: I64 = figures[4:7].astype(np.int64)
    place: I64 = np.stack([items % size[0], items // size[0] % size[1], items // (size[0] * size[1])], axis=1)
    side = max(1, round(options.block_m / float(figures[3])))
    parent: I32 = np.empty(len(items), np.int32)
    while True:
        block = place // side
        number = block[:, 0] + size[0] * (block[:, 1] + size[1] * block[:, 2])
        join_voxels(number.astype(np.int32), links, parent)
        roots, cell = np.unique(_absorb(parent, links), return_inverse=True)
        if len(roots) <= options.cells_max:
            return cell.astype(np.int32), block[roots]
        if side > size.max():
            raise VisibilityError(
                f"the map has {len(roots)} separate places, at most {options.cells_max} cells are allowed; "
                "give a greater cells_max"
            )
        side += max(1, side // 8)


def _absorb(root: I32, links: I32) -> I32:
    """Give parts of a few voxels to the largest part beside them: niches would otherwise be half of all cells."""
    size = np.bincount(root)
    item, axis = np.nonzero(links >= 0)
    one, two = root[item], root[links[item, axis]]
    one, two = np.concatenate([one, two]), np.concatenate([two, one])
    small = (size[one] < PART_MIN) & (size[two] >= PART_MIN)
    one, two = one[small], two[small]
    order = np.lexsort((-two, size[two], one))  # the last of each is the largest, of equal ones the lowest
    into: I32 = np.arange(len(size), dtype=np.int32)
    into[one[order]] = two[order]
    absorbed: I32 = into[root]
    return absorbed


def _points(cell: I32, links: I32, anchors: F64, points_max: int) -> tuple[I32, F64]:
    """Up to `points_max` anchors of each cell, evenly spread: where each cell's begin, and all.

    Those of voxels beside the cell count too: a body whose middle is in the cell reaches into them.
    """
    item, axis = np.nonzero(links >= 0)
    other = links[item, axis].astype(np.int64)
    owner = np.concatenate([cell, cell[item], cell[other]]).astype(np.int64)
    held = np.concatenate([np.arange(len(cell)), other, item])
    pairs = np.unique(owner * len(cell) + held)
    owner, held = pairs // len(cell), pairs % len(cell)
    size = np.bincount(owner)
    first = np.cumsum(size) - size
    kept = np.minimum(size, points_max)
    start = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    within = np.arange(start[-1]) - np.repeat(start[:-1], kept)
    pick = np.repeat(first, kept) + within * np.repeat(size, kept) // np.repeat(kept, kept)
    return start, np.ascontiguousarray(anchors[held[pick]])


def _neighbours(cell: I32, links: I32, blocks: I64) -> tuple[I32, I32]:
    """Cells at most one block away on every axis and three links away: where a stride may lead, round no corner."""
    from scipy.sparse import csr_array

    count = len(blocks)
    item, axis = np.nonzero(links >= 0)
    one, two = cell[item], cell[links[item, axis]]
    step = csr_array((np.ones(len(one), np.int32), (one, two)), shape=(count, count))
    step = step + step.T + csr_array((np.ones(count, np.int32), (np.arange(count), np.arange(count))))
    step.data[:] = 1
    wide = (step @ step @ step).tocoo()
    rows, columns = wide.coords
    close = (np.abs(blocks[rows] - blocks[columns]).max(axis=1) <= 1) & (rows != columns)
    rows, columns = rows[close], columns[close]
    order = np.lexsort((columns, rows))
    start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=count))]).astype(np.int32)
    return start, columns[order].astype(np.int32)


def _grown(seen: U8, near_start: I32, near: I32) -> U64:
    """What the neighbours of each cell see of the neighbours of every other; the relation is symmetric."""
    rows = pack_rows(seen)
    once: U64 = np.empty_like(rows)
    grow_rows(near_start, near, rows, once)
    turned = pack_rows(np.ascontiguousarray(unpack_rows(once, len(seen)).T))
    grow_rows(near_start, near, turned, once)
    return once
