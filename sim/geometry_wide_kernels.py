"""Turning the binary tree into the eight-wide one that queries walk.

Which binary nodes become wide nodes and leaves is chosen by dynamic programming over the least expected cost, as in
Ylitie, Karras and Laine, "Efficient Incoherent Ray Traversal on GPUs Through Compressed Wide BVHs" (HPG 2017), 3.1.
The layout of what is written here stands at the top of `sim.geometry_kernels`.
"""

import numpy as np

from sim.arrays import F32, F64, I32, I64, U8
from sim.jit import LANES, kernel, local_i64

__all__ = ["LEAF_WORDS", "NODE_WORDS", "ROUND_OUT", "collapse_choices", "fill_leaves", "stop_promises", "write_wide"]

NODE_WORDS = 64  # of float32: one wide node is four cache lines
LEAF_WORDS = 9 * LANES  # of float64
# Cost of testing a leaf's triangles, in units of testing a wide node's boxes. 1.2 took up to 60 % longer (any hit on
# wrackdm17: 0.127 against 0.080 µs a ray); 3 and 5 changed nothing.
LEAF_COST = 2.0
ROUND_OUT = 1.2e-7  # relative; more than float64 to float32 rounds, twice over


@kernel(counted=False)
def _half_area(bounds: F64, node: int) -> float:
    x = bounds[node, 3] - bounds[node, 0]
    y = bounds[node, 4] - bounds[node, 1]
    z = bounds[node, 5] - bounds[node, 2]
    area: float = x * y + y * z + z * x
    return area


@kernel("(f8[:,::1], i4[:,::1], i4[::1], i8, f4[:,::1], u1[:,::1])", counted=False)
def collapse_choices(bounds: F64, ranges: I32, children: I32, nodes: int, costs: F32, choices: U8) -> None:
    """For every binary node and every number of slots from 1 to 8, the cheapest way to stand in that many slots.

    Args:
        bounds: Node boxes [m], shape (2n, 6).
        ranges: First place and count of each node's triangles, shape (2n, 2).
        children: First child of each node or −1, shape (2n,).
        nodes: How many nodes there are.
        costs: Output: expected costs, column i is for i + 1 slots, shape (2n, 8).
        choices: Output, shape (2n, 8). Column 0: 0 makes a leaf, k a wide node with k of its slots for the first child.
            Column i > 0: 0 leaves slots unused, k gives k slots to the first child and the others to the second.
    """
    for node in range(nodes - 1, -1, -1):
        area = _half_area(bounds, node)
        child = children[node]
        leaf = area * LEAF_COST if ranges[node, 1] <= LANES else np.inf
        costs[node, 0], choices[node, 0] = leaf, 0
        for slots in range(LANES, 0, -1):
            best, split = np.inf, 0
            if child >= 0:
                limit = LANES if slots == 1 else slots
                for left in range(1, limit):
                    cost = costs[child, left - 1] + costs[child + 1, limit - left - 1]
                    if cost < best:
                        best, split = cost, left
            if slots > 1:
                costs[node, slots - 1], choices[node, slots - 1] = best, split
            elif best + area < leaf:
                costs[node, 0], choices[node, 0] = best + area, split
        for slots in range(1, LANES):
            if costs[node, slots - 1] <= costs[node, slots]:
                costs[node, slots], choices[node, slots] = costs[node, slots - 1], 0


@kernel(counted=False)
def _doubled_area(corners: F64, triangle: int) -> float:
    """Twice the area of a triangle [m²]."""
    ux, uy, uz = (
        corners[triangle, 3] - corners[triangle, 0],
        corners[triangle, 4] - corners[triangle, 1],
        corners[triangle, 5] - corners[triangle, 2],
    )
    vx, vy, vz = (
        corners[triangle, 6] - corners[triangle, 0],
        corners[triangle, 7] - corners[triangle, 1],
        corners[triangle, 8] - corners[triangle, 2],
    )
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    doubled: float = np.sqrt(x * x + y * y + z * z)
    return doubled


@kernel("(f8[:,::1], i4[::1], f8[:,::1], i4[:,::1], i4[::1], i8, f4[:,::1], f4[::1])", counted=False)
def stop_promises(
    corners: F64, order: I32, bounds: F64, ranges: I32, children: I32, nodes: int, costs: F32, promises: F32
) -> None:
    """How likely each node stops a ray that enters it, over what searching it costs.

    A random line through a convex body meets a flat piece inside it with the ratio of their mean projections: half the
    triangle's area over a quarter of the body's surface. Boxes inside a box are taken as independent. A search for any
    hit in this order visits 3 to 7 % fewer nodes than in the order of areas.

    Args:
        corners: Corners of each triangle [m], shape (n, 9).
        order, bounds, ranges, children: Of `build_binary`.
        nodes: How many nodes there are.
        costs: Of `collapse_choices`.
        promises: Output, shape (2n,).
    """
    for node in range(nodes - 1, -1, -1):
        half_area, child = _half_area(bounds, node), children[node]
        promises[node] = 1.0
        if child < 0 and half_area > 0.0:
            promises[node] = min(_doubled_area(corners, order[ranges[node, 0]]) / 2.0 / half_area, 1.0)
        elif half_area > 0.0:
            left = promises[child] * _half_area(bounds, child) / half_area
            right = promises[child + 1] * _half_area(bounds, child + 1) / half_area
            promises[node] = 1.0 - (1.0 - left) * (1.0 - right)
    for node in range(nodes):
        half_area = _half_area(bounds, node)
        promises[node] /= costs[node, 0] / half_area if half_area > 0.0 else LEAF_COST


@kernel(counted=False)
def _slots_of(node: int, children: I32, choices: U8, found: I64, pending: I64) -> int:
    """The binary nodes that stand in the slots of the wide node made of `node`; returns how many."""
    child, left = children[node], int(choices[node, 0])
    if child < 0 or left == 0:
        found[0] = node
        return 1
    pending[0], pending[1], pending[2], pending[3] = child, left, child + 1, LANES - left
    waiting, count = 2, 0
    while waiting > 0:
        waiting -= 1
        current, slots = pending[2 * waiting], pending[2 * waiting + 1]
        while slots > 1 and choices[current, slots - 1] == 0:
            slots -= 1
        if slots == 1:
            found[count] = current
            count += 1
            continue
        left = int(choices[current, slots - 1])
        pending[2 * waiting], pending[2 * waiting + 1] = children[current], left
        pending[2 * waiting + 2], pending[2 * waiting + 3] = children[current] + 1, slots - left
        waiting += 2
    return count


@kernel(counted=False)
def _best_first(found: I64, count: int, promises: F32) -> None:
    """Sort slots by falling promise: a search for any hit takes them in this order."""
    for unsorted in range(1, count):
        node, place = found[unsorted], unsorted
        while place > 0 and promises[found[place - 1]] < promises[node]:
            found[place] = found[place - 1]
            place -= 1
        found[place] = node


@kernel(counted=False)
def _write_box(nodes: F32, base: int, slot: int, bounds: F64, node: int) -> None:
    for axis in range(3):
        low, high = np.inf, -np.inf
        if node >= 0:
            low, high = bounds[node, axis], bounds[node, 3 + axis]
            low -= abs(low) * ROUND_OUT
            high += abs(high) * ROUND_OUT
        nodes[base + 2 * LANES * axis + slot] = low
        nodes[base + 2 * LANES * axis + LANES + slot] = high


@kernel("(f8[:,::1], i4[::1], u1[:,::1], f4[::1], f4[::1], i4[::1], i4[::1], i4[::1])", counted=False)
def write_wide(
    bounds: F64, children: I32, choices: U8, promises: F32, nodes: F32, links: I32, leaf_nodes: I32, pending: I32
) -> tuple[int, int]:
    """Write the wide nodes, in the order in which a walk that turns to the first slot first meets them.

    Args:
        bounds: Binary node boxes [m], shape (2n, 6).
        children: First child of each binary node or −1, shape (2n,).
        choices: Of `collapse_choices`.
        promises: Of `stop_promises`; the slots of a node stand in falling order of it.
        nodes: Output, float32, zeros.
        links: The same memory as `nodes`, seen as int32.
        leaf_nodes: Output: the binary node of each leaf.
        pending: Scratch, shape (2n + 16,).

    Returns:
        How many wide nodes and how many leaves there are.
    """
    found, spare = local_i64(8), local_i64(32)
    pending[0], pending[1] = 0, -1
    waiting, wide, leaves = 1, 0, 0
    while waiting > 0:
        waiting -= 1
        node, parent_word = pending[2 * waiting], pending[2 * waiting + 1]
        base = wide * NODE_WORDS
        if parent_word >= 0:
            links[parent_word] = wide
        wide += 1
        count = _slots_of(node, children, choices, found, spare)
        _best_first(found, count, promises)
        for slot in range(LANES - 1, -1, -1):
            child = found[slot] if slot < count else -1
            _write_box(nodes, base, slot, bounds, child)
            word = base + 6 * LANES + slot
            links[word] = 0
            if child < 0:
                continue
            if choices[child, 0] == 0:
                leaf_nodes[leaves] = child
                links[word] = -1 - leaves
                leaves += 1
            else:
                pending[2 * waiting], pending[2 * waiting + 1] = child, word
                waiting += 1
    return wide, leaves


@kernel("(f8[:,::1], i4[::1], i4[:,::1], i4[::1], i8, f8[::1], i4[::1])", counted=False)
def fill_leaves(
    corners: F64, order: I32, ranges: I32, leaf_nodes: I32, count: int, leaves: F64, leaf_triangles: I32
) -> None:
    """Copy each leaf's triangles side by side; empty lanes hold NaN, which no test accepts, and triangle −1."""
    for leaf in range(count):
        node = leaf_nodes[leaf]
        for lane in range(LANES):
            triangle = order[ranges[node, 0] + lane] if lane < ranges[node, 1] else -1
            leaf_triangles[leaf * LANES + lane] = triangle
            for which in range(9):
                value = corners[triangle, which] if triangle >= 0 else np.nan
                leaves[leaf * LEAF_WORDS + which * LANES + lane] = value
