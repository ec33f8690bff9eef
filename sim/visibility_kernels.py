"""Which candidates each viewer may be told of: what the map's cells settle, and rays for the rest, with memory.

A pair of a viewer and a candidate is first looked up in the map (`VisibilityMap`). Where a player in the viewer's cell
can see something in the candidate's cell, the pair is told of at once: both are a stride away from where they would see
each other. Where not even the neighbours of the two cells see each other, it is hidden at once. Both are asked for
where the two are, and for where they will be if they go on as they do. Between the two answers lies a narrow ring, and
what the map does not know; these are asked of rays, a few per viewer and tick.

A ray goes from where the viewer's eye could be within its horizon (its latency and what it is to be led by) to where a
part of the candidate's body could be, so that a peek round a corner is foreseen. A free ray is remembered for a while.
So is a proof, a whole round of rays that were all stopped. Without either the pair is in doubt: told of, unless rules
are strict.

Bodies may lead along ten directions: eight level ones, their own velocity, and up (a jump). How far each is free is
found by a ray of its own when it is first asked for, and shared by all pairs for a few ticks.

The kernels of the tick list rays, `cast_rays` casts them in batches, and they judge the answers. With a traversal in
each of three places these kernels took 17 s to compile, with one but many small helpers 14 s (each helper is compiled
by itself and again in whatever calls it); like this 7 s, of which casting takes 2.

    MAP      figures f8 (7,): low corner x y z [m], pitch [m], voxels along x, y, z · cell of each voxel i2, −1 none ·
             seen u8 (n, words): a bit for each cell that a cell sees · grown u8 (n, words): the same, or neighbours of
             the two do
    BODIES   feet f8 (b, 3) [m] · velocity f8 (b, 3) [m/s] · radius and height f8 (b, 2) [m] · identity u8 (b,), 0 none
             · free way f8 (b, 10) [m], along the velocity [s] · cell now and ahead i4 (b, 2), −1 unknown · tick when
             rays were last asked of it i4 (b,)
    PROBES   identity that is known u8 (b,) · tick of the last probe along the velocity, of the other ways i4 (b, 2)
    WAYS     body and direction i4 (w, 2) · origin f8 (w, 3) · direction f8 (w, 3) · farthest f8 (w,), and what is kept
             from walls f8 (w,), both in lengths of the direction
    VIEWERS  eye f8 (v, 3) [m] · horizon f8 (v,) [s] · own body i4 (v,), −1 none · cell now and ahead i4 (v, 2)
    MEMORY   identity u8 (v, s), 0 none · columns i4 (v, s, 3): tick of the last free ray, of the last proof, leaf that
             stopped the last ray · bytes u1 (v, s, 3): next sample, sample that was free last, rays stopped in a row ·
             cursor i4 (v,)
    QUEUE    rows u8 (2, words): seen and grown, of the viewer · slots i4 (3, s): fresh, to be confirmed, open · pairs
             i4 (p, 5): viewer, slot, body, rays it may still have, 1 before the sample that was free last · rays left
             i4 (v,) · how many pairs and rays i8 (2,)
    RAYS     pair and sample i4 (r, 2) · origin f8 (r, 3) · target f8 (r, 3) · leaf that stopped it i4 (r,), −1 none;
             before it is cast, the leaf that stopped the pair's last one
    SAMPLES  f8 (n, 6): viewer's direction (−1 none) and share of the way, candidate's likewise, height and side of the
             body aimed at, as shares of its size
    RULES    i8 (7,), see the names below

The idea of answering from cells first and of rays with memory for the rest is that of Valorant's fog of war (Riot
Games, "Demolishing Wallhacks with VALORANT's Fog of War", 2020).
"""

from typing import Final, TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, I64, U8, U64
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, blocking_leaf
from sim.jit import kernel, local_i64
from sim.worldmap import Contents

__all__ = [
    "ALONG",
    "BODY_MIDDLE",
    "BURST",
    "CONFIRM_TICKS",
    "COUNTS",
    "DIRECTIONS",
    "DOUBTED",
    "HIDDEN_BY_CELLS",
    "HIDDEN_BY_RAYS",
    "MEMORY_TICKS",
    "NEVER",
    "NOBODY",
    "PROOF_TICKS",
    "RAYS",
    "RAYS_CAST",
    "RISE_MAX_M",
    "ROUND",
    "RULES",
    "RUN_SPEED",
    "SEEN_BY_CELLS",
    "SEEN_BY_RAYS",
    "SIGHT_MASK",
    "SMALL_M",
    "STRICT",
    "UNKNOWN_CELL",
    "WITHIN_M",
    "Bodies",
    "MapArrays",
    "Memory",
    "Probes",
    "Queue",
    "Rays",
    "Viewers",
    "Ways",
    "aim_rays",
    "cast_rays",
    "cells_at",
    "list_ways",
    "sort_views",
    "voxel_at",
]

MAP_TYPE = "Tuple((f8[::1], i2[::1], u8[:,::1], u8[:,::1]))"
BODIES_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[:,::1], u8[::1], f8[:,::1], i4[:,::1], i4[::1]))"
PROBES_TYPE = "Tuple((u8[::1], i4[:,::1]))"
WAYS_TYPE = "Tuple((i4[:,::1], f8[:,::1], f8[:,::1], f8[::1], f8[::1]))"
VIEWERS_TYPE = "Tuple((f8[:,::1], f8[::1], i4[::1], i4[:,::1]))"
MEMORY_TYPE = "Tuple((u8[:,::1], i4[:,:,::1], u1[:,:,::1], i4[::1]))"
QUEUE_TYPE = "Tuple((u8[:,::1], i4[:,::1], i4[:,::1], i4[::1], i8[::1]))"
RAYS_TYPE = "Tuple((i4[:,::1], f8[:,::1], f8[:,::1], i4[::1]))"
SETTINGS_TYPE = "Tuple((i8[::1], f8[:,::1]))"
OUT_TYPE = "Tuple((u1[:,::1], i8[::1]))"
MapArrays: TypeAlias = tuple[F64, I16, U64, U64]
Bodies: TypeAlias = tuple[F64, F64, F64, U64, F64, I32, I32]
Probes: TypeAlias = tuple[U64, I32]
Ways: TypeAlias = tuple[I32, F64, F64, F64, F64]
Viewers: TypeAlias = tuple[F64, F64, I32, I32]
Memory: TypeAlias = tuple[U64, I32, U8, I32]
Queue: TypeAlias = tuple[U64, I32, I32, I32, I64]
Rays: TypeAlias = tuple[I32, F64, F64, I32]

SIGHT_MASK: Final = int(Contents.SOLID)
DIRECTIONS, LEVEL_WAYS, ALONG, UP = 10, 8, 8, 9
WAY_X: Final = (1.0, 0.7071067811865476, 0.0, -0.7071067811865476, -1.0, -0.7071067811865476, 0.0, 0.7071067811865476)
WAY_Y: Final = (0.0, 0.7071067811865476, 1.0, 0.7071067811865476, 0.0, -0.7071067811865476, -1.0, -0.7071067811865476)
STRICT, RAYS, BURST, MEMORY_TICKS, CONFIRM_TICKS, ROUND, PROOF_TICKS, RULES = range(8)
# What a pair is found to be, told of from DOUBTED on; each is also the place of its counter, RAYS_CAST and UNKNOWN_CELL
# are two more.
NOBODY, HIDDEN_BY_CELLS, HIDDEN_BY_RAYS, DOUBTED, SEEN_BY_RAYS, SEEN_BY_CELLS, UNKNOWN_CELL, RAYS_CAST, COUNTS = range(
    9
)
SEEN_AT, PROVEN_AT, LEAF = 0, 1, 2
NEXT, BEST, STOPPED = 0, 1, 2
VIEWER, SLOT, BODY, QUOTA, AGAIN = range(5)
PAIRS_LISTED, RAYS_LISTED = 0, 1
NEVER: Final = -(1 << 30)
RUN_SPEED: Final = 8.0  # [m/s], of somebody who turns where nobody expected it
WAY_MAX_M: Final = 4.0
RISE_MAX_M: Final = 1.1
ALONG_MAX_S: Final = 0.75
WAY_TICKS: Final = 8  # how long the way that a body goes is believed
TURN_TICKS: Final = 16  # likewise, of the ways that it could turn to
WANTED_TICKS: Final = 8  # how long the ways of a body are kept known after rays were last asked of it
KEPT_M: Final = 0.3  # from walls, along a way: less than a body's radius
WITHIN_M: Final = 0.3  # likewise
BODY_MIDDLE: Final = 0.6  # of the height: above steps
SMALL_M: Final = 0.3  # what is thinner gets closer to walls than voxels tell apart: it is left to rays
CONFIRM_RAYS: Final = 2


@kernel(counted=False)
def voxel_at(figures: F64, x: float, y: float, z: float) -> int:
    """Number of the voxel that a point lies in, −1 outside the lattice and for NaN."""
    pitch = figures[3]
    ix, iy, iz = (x - figures[0]) / pitch, (y - figures[1]) / pitch, (z - figures[2]) / pitch
    if not (0.0 <= ix < figures[4] and 0.0 <= iy < figures[5] and 0.0 <= iz < figures[6]):
        return -1
    return int(ix) + int(figures[4]) * (int(iy) + int(figures[5]) * int(iz))


@kernel(f"({MAP_TYPE}, f8[:,::1], f8[:,::1], i4[:,::1], i8)", counted=False)
def cells_at(world: MapArrays, points: F64, offsets: F64, out_cells: I32, column: int) -> None:
    """The cell of each point [m], or of the first point beside it that has one; −1 where the map knows none.

    Args:
        world: The map's visibility.
        points: Shape (n, 3).
        offsets: What is added to a point until a cell is found [m], shape (m, 3); the first is usually zero.
        out_cells: Written, shape (n, columns).
        column: Which column of it.
    """
    figures, cell_of = world[0], world[1]
    for row in range(len(points)):
        cell, number = -1, 0
        while cell < 0 and number < len(offsets):
            x, y = points[row, 0] + offsets[number, 0], points[row, 1] + offsets[number, 1]
            voxel = voxel_at(figures, x, y, points[row, 2] + offsets[number, 2])
            if voxel >= 0:
                cell = int(cell_of[voxel])
            number += 1
        out_cells[row, column] = cell


@kernel(f"({BODIES_TYPE}, i8, {PROBES_TYPE}, {WAYS_TYPE})", counted=False)
def list_ways(bodies: Bodies, tick: int, probes: Probes, ways: Ways) -> int:
    """Forget what is known of rows that hold another body than before, and list the ways to be probed.

    All bodies are probed along their velocity, those that rays were asked of any way; by turns, lest all who came in
    one tick are probed in one tick for ever. Beyond the room for them the others stay as they are until their turn.

    Args:
        bodies: See the top of this file; wanted ticks and free ways are updated.
        tick: Now.
        probes: Updated.
        ways: Filled.

    Returns:
        How many are listed.
    """
    feet, velocity, size, identity, free, _, wanted = bodies
    known, probed_at = probes
    which, origins, directions, farthest, kept = ways
    count = 0
    for row in range(len(identity)):
        if known[row] != identity[row]:
            known[row], wanted[row] = identity[row], NEVER
            probed_at[row, 0], probed_at[row, 1] = NEVER, NEVER
            for k in range(DIRECTIONS):
                free[row, k] = 0.0
        if identity[row] == np.uint64(0) or size[row, 0] < SMALL_M or count + DIRECTIONS > len(which):
            continue
        along = (row + tick) % WAY_TICKS == 0 or tick - probed_at[row, 0] > WAY_TICKS
        turn = (row + tick) % TURN_TICKS == 0 or tick - probed_at[row, 1] > TURN_TICKS
        turn = turn and tick - wanted[row] <= WANTED_TICKS
        for k in range(DIRECTIONS):
            if not (along if k == ALONG else turn):
                continue
            probed_at[row, 0 if k == ALONG else 1] = tick
            dx, dy, dz, length, longest, spared = 0.0, 0.0, 1.0, 1.0, RISE_MAX_M, KEPT_M
            if k == ALONG:
                dx, dy, dz, longest = velocity[row, 0], velocity[row, 1], velocity[row, 2], ALONG_MAX_S
                length = max(np.sqrt(dx * dx + dy * dy + dz * dz), 0.01)
            elif k == UP:
                spared = (1.0 - BODY_MIDDLE) * size[row, 1]  # it is the head that meets a ceiling
            else:
                dx, dy, dz, longest = WAY_X[k], WAY_Y[k], 0.0, WAY_MAX_M
            which[count, 0], which[count, 1] = row, k
            origins[count, 0], origins[count, 1] = feet[row, 0], feet[row, 1]
            origins[count, 2] = feet[row, 2] + BODY_MIDDLE * size[row, 1]
            directions[count, 0], directions[count, 1], directions[count, 2] = dx, dy, dz
            kept[count] = spared / length
            farthest[count] = longest + kept[count]
            count += 1
    return count


@kernel(inline=True)
def _by_cells(rows: U64, now: int, ahead: int) -> int:
    """What the map's cells say of a pair: SEEN_BY_CELLS, HIDDEN_BY_CELLS, or DOUBTED where they leave it open."""
    seen, grown = np.uint64(0), np.uint64(0)
    if now >= 0:
        seen = rows[0, now >> 6] >> np.uint64(now & 63)
        grown = rows[1, now >> 6] >> np.uint64(now & 63)
        if ahead >= 0:
            seen |= rows[0, ahead >> 6] >> np.uint64(ahead & 63)
            grown |= rows[1, ahead >> 6] >> np.uint64(ahead & 63)
    else:
        grown = np.uint64(1)
    if seen & np.uint64(1) != np.uint64(0):
        return SEEN_BY_CELLS
    return DOUBTED if grown & np.uint64(1) != np.uint64(0) else HIDDEN_BY_CELLS


@kernel(counted=False)
def _sort_slots(
    viewer: int, candidates: I32, identities: U64, cells: I32, tick: int, rules: I64, memory: Memory, queue: Queue,
    lengths: I64, out: tuple[U8, I64],
) -> None:  # fmt: skip
    """Settle what cells and memory settle for one viewer, and list the slots that rays are for."""
    who, columns, small, _ = memory
    rows, lists = queue[0], queue[1]
    found, counts = out
    unknown = HIDDEN_BY_RAYS if rules[STRICT] != 0 else DOUBTED
    for slot in range(candidates.shape[1]):
        entity = int(candidates[viewer, slot])
        if not 0 <= entity < len(identities) or identities[entity] == np.uint64(0):
            found[viewer, slot], who[viewer, slot] = NOBODY, 0
            continue
        identity = identities[entity]
        state = _by_cells(rows, int(cells[entity, 0]), int(cells[entity, 1]))
        if state != DOUBTED:
            who[viewer, slot] = identity if state == SEEN_BY_CELLS else np.uint64(0)
            # Remembered like a free ray, for when the pair is left to rays.
            columns[viewer, slot, SEEN_AT], columns[viewer, slot, PROVEN_AT] = tick, NEVER
            small[viewer, slot, STOPPED] = 0
        else:
            counts[UNKNOWN_CELL] += cells[entity, 0] < 0
            which, state = 2, unknown
            if who[viewer, slot] != identity:
                which = 0
                who[viewer, slot] = identity
                columns[viewer, slot, SEEN_AT], columns[viewer, slot, PROVEN_AT] = NEVER, NEVER
                columns[viewer, slot, LEAF] = -1
                small[viewer, slot, NEXT], small[viewer, slot, BEST], small[viewer, slot, STOPPED] = 0, 0, 0
            else:
                age, proof = tick - columns[viewer, slot, SEEN_AT], tick - columns[viewer, slot, PROVEN_AT]
                if age <= rules[MEMORY_TICKS]:
                    which, state = 1, SEEN_BY_RAYS
                elif proof <= rules[PROOF_TICKS]:
                    state = HIDDEN_BY_RAYS
                if age <= rules[CONFIRM_TICKS] or not (2 * proof >= rules[PROOF_TICKS] or rules[STRICT] != 0):
                    which = -1
            if which >= 0:
                lists[which, lengths[which]] = slot
                lengths[which] += 1
        found[viewer, slot] = state
        counts[state] += 1


@kernel(
    f"({MAP_TYPE}, {BODIES_TYPE}, {VIEWERS_TYPE}, i4[::1], i4[:,::1], i8, {SETTINGS_TYPE}, {MEMORY_TYPE}, "
    f"{QUEUE_TYPE}, {OUT_TYPE})",
    counted=False,
)
def sort_views(
    world: MapArrays, bodies: Bodies, viewers: Viewers, due: I32, candidates: I32, tick: int,
    settings: tuple[I64, F64], memory: Memory, queue: Queue, out: tuple[U8, I64],
) -> int:  # fmt: skip
    """Decide what cells and memory settle for each candidate of each viewer that is due, and list what rays are for.

    Of a viewer's pairs the new ones come first, then those whose last free ray is getting old, then those still open,
    round robin; as many as there are rays for.

    Args:
        world, bodies, viewers: See the top of this file.
        due: Viewers to decide for.
        candidates: Bodies that each viewer may be told of, −1 for none, shape (v, s).
        tick: Now.
        settings: Rules and samples.
        memory: Updated.
        queue: Filled with the pairs that are to get rays.
        out: What each pair is found to be, shape (v, s), rows of `due` only; counters, added to.

    Returns:
        How many pairs are to get rays.
    """
    rules, places, wanted, lengths = settings[0], viewers[3], bodies[6], local_i64(3)
    rows, lists, pairs, left, numbers = queue
    listed = 0
    for at in range(len(due)):
        viewer, own = int(due[at]), int(viewers[2][due[at]])
        here, there = int(places[viewer, 0]), int(places[viewer, 1])
        there = here if there < 0 else there
        for word in range(rows.shape[1]):
            # Where the map does not know a viewer's place, nothing is seen by cells, and nothing hidden.
            rows[0, word], rows[1, word] = np.uint64(0), ~np.uint64(0)
            if here >= 0:
                rows[0, word] = world[2][here, word] | world[2][there, word]
                rows[1, word] = world[3][here, word] | world[3][there, word]
        lengths[0], lengths[1], lengths[2] = 0, 0, 0
        _sort_slots(viewer, candidates, bodies[3], bodies[5], tick, rules, memory, queue, lengths, out)
        fresh, some, open_count, cursor = lengths[0], lengths[0] + lengths[1], lengths[2], int(memory[3][viewer])
        left[viewer] = rules[RAYS]
        share = max(1, min(rules[BURST], (rules[RAYS] - some) // max(1, open_count)))
        for number in range(min(rules[RAYS], len(pairs) - listed, some + open_count)):
            slot, quota = int(lists[0, number]), rules[BURST]
            if number >= some:
                slot, quota = int(lists[2, (cursor + number - some) % open_count]), share
                memory[3][viewer] = (cursor + number - some + 1) % open_count
            elif number >= fresh:
                slot, quota = int(lists[1, number - fresh]), CONFIRM_RAYS
            body = int(candidates[viewer, slot])
            pairs[listed, VIEWER], pairs[listed, SLOT], pairs[listed, BODY] = viewer, slot, body
            pairs[listed, QUOTA] = quota
            pairs[listed, AGAIN] = tick - memory[1][viewer, slot, SEEN_AT] <= rules[MEMORY_TICKS]
            wanted[body] = tick
            if own >= 0:
                wanted[own] = tick
            listed += 1
    numbers[PAIRS_LISTED], numbers[RAYS_LISTED] = listed, 0
    return listed


@kernel(counted=False)
def _judge(tick: int, settings: tuple[I64, F64], memory: Memory, queue: Queue, rays: Rays, out: tuple[U8, I64]) -> None:
    """Take the answers of the last round."""
    rules, samples = settings
    found, counts = out
    for ray in range(queue[4][RAYS_LISTED]):
        pair = queue[2][rays[0][ray, 0]]
        if pair[QUOTA] <= 0:
            continue  # a ray before it was free
        viewer, slot = pair[VIEWER], pair[SLOT]
        columns, small = memory[1][viewer, slot], memory[2][viewer, slot]
        now = DOUBTED
        if rays[3][ray] < 0:
            columns[SEEN_AT], columns[PROVEN_AT] = tick, NEVER
            small[BEST], small[STOPPED] = rays[0][ray, 1], 0
            pair[QUOTA], now = 0, SEEN_BY_RAYS
        else:
            pair[QUOTA] -= 1
            columns[LEAF] = rays[3][ray]
            if pair[AGAIN] != 0:
                pair[AGAIN] = 0
                continue
            small[NEXT] = (int(small[NEXT]) + 1) % len(samples)
            small[STOPPED] += 1
            if small[STOPPED] >= rules[ROUND]:
                columns[PROVEN_AT], small[STOPPED] = tick, 0
                now = HIDDEN_BY_RAYS
        before = int(found[viewer, slot])
        if now == SEEN_BY_RAYS or (now == HIDDEN_BY_RAYS and before == DOUBTED):
            counts[before] -= 1
            counts[now] += 1
            found[viewer, slot] = now


@kernel(counted=False)
def _aim(bodies: Bodies, eye: F64, horizon: float, own: int, row: int, sample: F64, origin: F64, target: F64) -> None:
    """Write one ray, from where an eye could be to where part of a body could be."""
    feet, velocity, size, _, free, _, _ = bodies
    for axis in range(3):
        origin[axis], target[axis] = eye[axis], feet[row, axis]
    for end in range(2):
        body, k, place = (own, int(sample[0]), origin) if end == 0 else (row, int(sample[2]), target)
        if body < 0 or k < 0:
            continue
        share = sample[1 + 2 * end]
        if k == ALONG:
            way = min(horizon, free[body, k]) * share
            for axis in range(3):
                place[axis] += velocity[body, axis] * way
        elif k == UP:
            place[2] += min(RISE_MAX_M, free[body, k]) * share
        else:
            way = min(horizon * RUN_SPEED, free[body, k]) * share
            place[0] += WAY_X[k] * way
            place[1] += WAY_Y[k] * way
    dx, dy = target[0] - origin[0], target[1] - origin[1]
    level = np.sqrt(dx * dx + dy * dy)
    if level > 1e-6:
        side = sample[5] * size[row, 0] / level
        target[0] -= dy * side
        target[1] += dx * side
    target[2] += sample[4] * size[row, 1]


@kernel(
    f"({BODIES_TYPE}, {VIEWERS_TYPE}, i8, i8, {SETTINGS_TYPE}, {MEMORY_TYPE}, {QUEUE_TYPE}, {RAYS_TYPE}, {OUT_TYPE})",
    counted=False,
)
def aim_rays(
    bodies: Bodies, viewers: Viewers, most: int, tick: int, settings: tuple[I64, F64], memory: Memory, queue: Queue,
    rays: Rays, out: tuple[U8, I64],
) -> int:  # fmt: skip
    """Judge the rays of the last round, and list those of the next.

    Every pair gets a ray in the first round, and more in the next ones while none was free, up to its viewer's budget:
    of many new pairs each is looked at before any is looked at closely.

    Args:
        bodies, viewers: See the top of this file.
        most: Rays for one pair in this round; 0 ends the rounds.
        tick: Now.
        settings: Rules and samples.
        memory: Updated.
        queue: The pairs, updated.
        rays: Judged, then filled anew.
        out: As for `sort_views`.

    Returns:
        How many rays are to be cast.
    """
    samples, pairs, left, numbers = settings[1], queue[2], queue[3], queue[4]
    _judge(tick, settings, memory, queue, rays, out)
    ray = 0
    for number in range(numbers[PAIRS_LISTED] if most > 0 else 0):
        pair = pairs[number]
        viewer, row = int(pair[VIEWER]), int(pair[BODY])
        small = memory[2][viewer, pair[SLOT]]
        count = max(0, min(most, int(pair[QUOTA]), int(left[viewer]), len(rays[3]) - ray))
        left[viewer] -= count
        for k in range(count):
            # First the sample that was free last: most pairs that see each other go on doing so.
            which = (int(small[NEXT]) + k - int(pair[AGAIN])) % len(samples)
            if k == 0 and pair[AGAIN] != 0:
                which = int(small[BEST])
            rays[0][ray, 0], rays[0][ray, 1] = number, which
            rays[3][ray] = memory[1][viewer, pair[SLOT], LEAF]
            eye, horizon, own = viewers[0][viewer], viewers[1][viewer], int(viewers[2][viewer])
            _aim(bodies, eye, horizon, own, row, samples[which], rays[1][ray], rays[2][ray])
            ray += 1
    numbers[RAYS_LISTED] = ray
    out[1][RAYS_CAST] += ray
    return ray


@kernel(f"({GEOMETRY_TYPE}, i8, {RAYS_TYPE})", counted=False)
def cast_rays(geometry: GeometryArrays, count: int, rays: Rays) -> None:
    """Find what stops each of the first `count` rays.

    First the leaf is tried that stopped the pair's last ray: without it, pairs that stay hidden cost twice the time.
    """
    _, origins, targets, leaves = rays
    for ray in range(count):
        x, y, z = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        leaves[ray] = blocking_leaf(
            geometry, x, y, z, targets[ray, 0] - x, targets[ray, 1] - y, targets[ray, 2] - z, 1.0, SIGHT_MASK,
            int(leaves[ray]),
        )  # fmt: skip
