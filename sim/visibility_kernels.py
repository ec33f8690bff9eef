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

    MAP      figures f8 (7,): low corner x y z [m], pitch [m], voxels along x, y, z · cell of each voxel i2, −1 none ·
             seen u8 (n, words): a bit for each cell that a cell sees · grown u8 (n, words): the same, or neighbours of
             the two do
    BODIES   feet f8 (b, 3) [m] · velocity f8 (b, 3) [m/s] · radius and height f8 (b, 2) [m] · identity u8 (b,), 0 none
    PROBES   free way f8 (b, 10) [m], along the velocity [s] · tick of the probe i4 (b, 10) · cell now and ahead
             i4 (b, 2), −1 unknown · identity it was probed for u8 (b,)
    VIEWERS  eye f8 (v, 3) [m] · horizon f8 (v,) [s] · own body i4 (v,), −1 none
    MEMORY   identity u8 (v, s), 0 none · columns i4 (v, s, 3): tick of the last free ray, of the last proof, leaf that
             stopped the last ray · bytes u1 (v, s, 3): next sample, sample that was free last, rays stopped in a row ·
             cursor i4 (v,)
    SCRATCH  rows u8 (2, words): seen and grown, of the viewer · slots i4 (3, s): fresh, to be confirmed, open
    SAMPLES  f8 (n, 6): viewer's direction (−1 none) and share of the way, candidate's likewise, height and side of the
             body aimed at, as shares of its size
    RULES    i8 (7,), see the names below

The idea of answering from cells first and of rays with memory for the rest is that of Valorant's fog of war (Riot
Games, "Demolishing Wallhacks with VALORANT's Fog of War", 2020).
"""

from typing import Final, TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, I64, U8, U64
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, blocking_leaf, closest_hit
from sim.jit import kernel, local_i64
from sim.worldmap import Contents

__all__ = [
    "ALONG",
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
    "ROUND",
    "RULES",
    "SEEN_BY_CELLS",
    "SEEN_BY_RAYS",
    "SIGHT_MASK",
    "STRICT",
    "UNKNOWN_CELL",
    "Bodies",
    "MapArrays",
    "Memory",
    "Probes",
    "Scratch",
    "Viewers",
    "cells_at",
    "place_bodies",
    "refresh_views",
    "voxel_at",
]

MAP_TYPE = "Tuple((f8[::1], i2[::1], u8[:,::1], u8[:,::1]))"
BODIES_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[:,::1], u8[::1]))"
PROBES_TYPE = "Tuple((f8[:,::1], i4[:,::1], i4[:,::1], u8[::1]))"
VIEWERS_TYPE = "Tuple((f8[:,::1], f8[::1], i4[::1]))"
MEMORY_TYPE = "Tuple((u8[:,::1], i4[:,:,::1], u1[:,:,::1], i4[::1]))"
SCRATCH_TYPE = "Tuple((u8[:,::1], i4[:,::1]))"
SETTINGS_TYPE = "Tuple((i8[::1], f8[:,::1]))"
OUT_TYPE = "Tuple((u1[:,::1], i8[::1]))"
MapArrays: TypeAlias = tuple[F64, I16, U64, U64]
Bodies: TypeAlias = tuple[F64, F64, F64, U64]
Probes: TypeAlias = tuple[F64, I32, I32, U64]
Viewers: TypeAlias = tuple[F64, F64, I32]
Memory: TypeAlias = tuple[U64, I32, U8, I32]
Scratch: TypeAlias = tuple[U64, I32]

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
NEVER: Final = -(1 << 30)
RUN_SPEED: Final = 8.0  # [m/s], of somebody who turns where nobody expected it
WAY_MAX_M: Final = 4.0
RISE_MAX_M: Final = 1.1
ALONG_MAX_S: Final = 0.75
WAY_TICKS: Final = 8  # how long a probed way is believed
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


@kernel(counted=False)
def _cell_at(world: MapArrays, x: float, y: float, z: float) -> int:
    """The cell of a point, −1 where the map knows none."""
    voxel = voxel_at(world[0], x, y, z)
    return int(world[1][voxel]) if voxel >= 0 else -1


@kernel(counted=False)
def _cell_near(world: MapArrays, x: float, y: float, z: float) -> int:
    """The cell of a point of a body, or of a point beside it that is surely within the body, too; −1 for none."""
    cell = _cell_at(world, x, y, z)
    for k in range(0, LEVEL_WAYS, 2):
        if cell < 0:
            cell = _cell_at(world, x + WITHIN_M * WAY_X[k], y + WITHIN_M * WAY_Y[k], z)
    if cell < 0:
        cell = _cell_at(world, x, y, z - WITHIN_M)
    return cell if cell >= 0 else _cell_at(world, x, y, z + WITHIN_M)


@kernel(counted=False)
def _way(k: int, velocity: F64) -> tuple[float, float, float]:
    """The direction that a free way is measured along, of the length in which it is measured."""
    if k < LEVEL_WAYS:
        return WAY_X[k], WAY_Y[k], 0.0
    if k == ALONG:
        return velocity[0], velocity[1], velocity[2]
    return 0.0, 0.0, 1.0


@kernel(counted=False)
def _probe(geometry: GeometryArrays, x: float, y: float, z: float, velocity: F64, k: int, head: float) -> float:
    """How far a body may go along one direction before it meets a wall."""
    dx, dy, dz = _way(k, velocity)
    length = np.sqrt(dx * dx + dy * dy + dz * dz)
    if not 0.01 < length < 1e6:
        return 0.0
    longest = WAY_MAX_M if k < LEVEL_WAYS else ALONG_MAX_S if k == ALONG else RISE_MAX_M
    kept = (head if k == UP else KEPT_M) / length
    t, _ = closest_hit(geometry, x, y, z, dx, dy, dz, longest + kept, SIGHT_MASK)
    way: float = max(0.0, t - kept)
    return way


@kernel(counted=False)
def _lead(
    geometry: GeometryArrays, bodies: Bodies, probes: Probes, row: int, k: int, share: float, horizon: float, tick: int
) -> tuple[float, float, float]:
    """How far a body may have come after a share of the horizon, going one way [m]; an old way is probed again."""
    if k < 0 or row < 0:
        return 0.0, 0.0, 0.0
    feet, velocity, size, _ = bodies
    free, probed_at = probes[0], probes[1]
    if tick - probed_at[row, k] > WAY_TICKS:
        z, head = feet[row, 2] + BODY_MIDDLE * size[row, 1], (1.0 - BODY_MIDDLE) * size[row, 1]
        free[row, k] = _probe(geometry, feet[row, 0], feet[row, 1], z, velocity[row], k, head)
        probed_at[row, k] = tick
    dx, dy, dz = _way(k, velocity[row])
    reach = horizon if k == ALONG else horizon * RUN_SPEED if k < LEVEL_WAYS else RISE_MAX_M
    length = min(reach, free[row, k]) * share
    return dx * length, dy * length, dz * length


@kernel(f"({GEOMETRY_TYPE}, {MAP_TYPE}, {BODIES_TYPE}, f8, i8, {PROBES_TYPE})", counted=False)
def place_bodies(
    geometry: GeometryArrays, world: MapArrays, bodies: Bodies, horizon: float, tick: int, probes: Probes
) -> None:
    """Find the cells of all bodies, now and after the horizon, and forget the ways of those that are new.

    Args:
        geometry: What stops sight.
        world: The map's visibility.
        bodies: See the top of this file.
        horizon: How far ahead [s].
        tick: Now.
        probes: Updated.
    """
    feet, _, size, identity = bodies
    _, probed_at, cells, known = probes
    for row in range(len(identity)):
        cells[row, 0], cells[row, 1] = -1, -1
        if known[row] != identity[row]:
            known[row] = identity[row]
            for k in range(DIRECTIONS):
                probed_at[row, k] = NEVER
        if identity[row] == np.uint64(0) or size[row, 0] < SMALL_M:
            continue
        x, y, z = feet[row, 0], feet[row, 1], feet[row, 2] + BODY_MIDDLE * size[row, 1]
        cells[row, 0] = _cell_near(world, x, y, z)
        dx, dy, dz = _lead(geometry, bodies, probes, row, ALONG, 1.0, horizon, tick)
        cells[row, 1] = _cell_at(world, x + dx, y + dy, z + dz)


@kernel(counted=False)
def _sight(
    geometry: GeometryArrays, bodies: Bodies, probes: Probes, eye: F64, own: int, horizon: float, row: int,
    sample: F64, leaf: int, tick: int,
) -> int:  # fmt: skip
    """Cast one ray from where an eye could be to where part of a body could be: the leaf that stops it, −1 if free."""
    feet, size = bodies[0], bodies[2]
    ex, ey, ez = _lead(geometry, bodies, probes, own, int(sample[0]), sample[1], horizon, tick)
    ex, ey, ez = eye[0] + ex, eye[1] + ey, eye[2] + ez
    lx, ly, lz = _lead(geometry, bodies, probes, row, int(sample[2]), sample[3], horizon, tick)
    dx, dy, dz = feet[row, 0] + lx - ex, feet[row, 1] + ly - ey, feet[row, 2] + lz + sample[4] * size[row, 1] - ez
    level = np.sqrt(dx * dx + dy * dy)
    if level > 1e-6:
        side = sample[5] * size[row, 0] / level
        dx, dy = dx - dy * side, dy + dx * side
    return blocking_leaf(geometry, ex, ey, ez, dx, dy, dz, 1.0, SIGHT_MASK, leaf)


@kernel(counted=False)
def _ask(
    geometry: GeometryArrays, bodies: Bodies, probes: Probes, viewers: Viewers, viewer: int, row: int, slot: int,
    settings: tuple[I64, F64], memory: Memory, rays: int, tick: int,
) -> int:  # fmt: skip
    """Cast up to `rays` rays for one pair, ending with the first that is free; how many were cast."""
    rules, samples = settings
    columns, small = memory[1][viewer, slot], memory[2][viewer, slot]
    eye, horizon, own = viewers[0][viewer], viewers[1][viewer], int(viewers[2][viewer])
    for number in range(rays):
        # First the sample that was free last: most pairs that see each other go on doing so.
        again = number == 0 and tick - columns[SEEN_AT] <= rules[MEMORY_TICKS]
        which = int(small[BEST]) if again else int(small[NEXT])
        leaf = _sight(geometry, bodies, probes, eye, own, horizon, row, samples[which], int(columns[LEAF]), tick)
        if leaf < 0:
            columns[SEEN_AT], columns[PROVEN_AT] = tick, NEVER
            small[BEST], small[STOPPED] = which, 0
            return number + 1
        columns[LEAF] = leaf
        if again:
            continue
        small[NEXT] = which + 1 if which + 1 < len(samples) else 0
        stopped = int(small[STOPPED]) + 1
        if stopped >= rules[ROUND]:
            columns[PROVEN_AT], stopped = tick, 0
        small[STOPPED] = stopped
    return rays


@kernel(counted=False)
def _join_rows(
    geometry: GeometryArrays, world: MapArrays, bodies: Bodies, probes: Probes, viewers: Viewers, viewer: int,
    tick: int, rows: U64,
) -> bool:  # fmt: skip
    """Put together what can be seen from where the viewer is and is going; False where the map does not know."""
    eye, own = viewers[0][viewer], int(viewers[2][viewer])
    here = _cell_near(world, eye[0], eye[1], eye[2])
    if here < 0:
        return False
    dx, dy, dz = _lead(geometry, bodies, probes, own, ALONG, 1.0, viewers[1][viewer], tick)
    there = _cell_at(world, eye[0] + dx, eye[1] + dy, eye[2] + dz)
    if there < 0:
        there = here
    seen, grown = world[2], world[3]
    for word in range(rows.shape[1]):
        rows[0, word] = seen[here, word] | seen[there, word]
        rows[1, word] = grown[here, word] | grown[there, word]
    return True


@kernel(counted=False, merge=True)
def _bit(rows: U64, which: int, cell: int) -> bool:
    """Whether a bit set holds a cell; no set holds an unknown one."""
    if cell < 0:
        return False
    held: bool = (rows[which, cell >> 6] >> np.uint64(cell & 63)) & np.uint64(1) != np.uint64(0)
    return held


@kernel(counted=False, merge=True)
def _by_cells(rows: U64, known: bool, now: int, ahead: int) -> int:
    """What the map's cells say of a pair: SEEN_BY_CELLS, HIDDEN_BY_CELLS, or DOUBTED where they leave it open."""
    if not known or now < 0:
        return DOUBTED
    if _bit(rows, 0, now) or _bit(rows, 0, ahead):
        return SEEN_BY_CELLS
    return DOUBTED if _bit(rows, 1, now) or _bit(rows, 1, ahead) else HIDDEN_BY_CELLS


@kernel(counted=False, merge=True)
def _queue(
    slot: int, identity: np.uint64, tick: int, viewer: int, rules: I64, memory: Memory, lists: I32, lengths: I64
) -> None:
    """Put a slot that the cells leave open on the list of what it needs of rays, if anything."""
    who, columns, small = memory[0], memory[1], memory[2]
    which = 2
    if who[viewer, slot] != identity:
        which = 0
        who[viewer, slot] = identity
        columns[viewer, slot, SEEN_AT], columns[viewer, slot, PROVEN_AT] = NEVER, NEVER
        columns[viewer, slot, LEAF] = -1
        small[viewer, slot, NEXT], small[viewer, slot, BEST], small[viewer, slot, STOPPED] = 0, 0, 0
    else:
        age = tick - columns[viewer, slot, SEEN_AT]
        rested = 2 * (tick - columns[viewer, slot, PROVEN_AT]) >= rules[PROOF_TICKS]
        if age <= rules[CONFIRM_TICKS] or not (rested or rules[STRICT] != 0):
            return
        if age <= rules[MEMORY_TICKS]:
            which = 1
    lists[which, lengths[which]] = slot
    lengths[which] += 1


@kernel(counted=False)
def _sort_slots(
    candidates: I32, bodies: Bodies, cells: I32, known: bool, viewer: int, tick: int, rules: I64, memory: Memory,
    scratch: Scratch, lengths: I64, out: tuple[U8, I64],
) -> None:  # fmt: skip
    """Settle what the cells settle, and list the slots that rays are for."""
    who, columns, small, identities = memory[0], memory[1], memory[2], bodies[3]
    rows, lists = scratch
    found, counts = out
    lengths[0], lengths[1], lengths[2] = 0, 0, 0
    for slot in range(candidates.shape[1]):
        entity = int(candidates[viewer, slot])
        if not 0 <= entity < len(identities) or identities[entity] == np.uint64(0):
            found[viewer, slot], who[viewer, slot] = NOBODY, 0
            continue
        state = _by_cells(rows, known, int(cells[entity, 0]), int(cells[entity, 1]))
        found[viewer, slot] = state
        if state != DOUBTED:
            counts[state] += 1
            who[viewer, slot] = identities[entity] if state == SEEN_BY_CELLS else np.uint64(0)
            # Remembered like a free ray, for when the pair is left to rays.
            columns[viewer, slot, SEEN_AT], columns[viewer, slot, PROVEN_AT] = tick, NEVER
            small[viewer, slot, STOPPED] = 0
            continue
        if not known or cells[entity, 0] < 0:
            counts[UNKNOWN_CELL] += 1
        _queue(slot, identities[entity], tick, viewer, rules, memory, lists, lengths)


@kernel(counted=False)
def _settle(tick: int, viewer: int, rules: I64, memory: Memory, out: tuple[U8, I64]) -> None:
    """What each pair that the cells left open is found to be."""
    columns = memory[1]
    found, counts = out
    for slot in range(found.shape[1]):
        if found[viewer, slot] != DOUBTED:
            continue
        state = DOUBTED
        if tick - columns[viewer, slot, SEEN_AT] <= rules[MEMORY_TICKS]:
            state = SEEN_BY_RAYS
        elif rules[STRICT] != 0 or tick - columns[viewer, slot, PROVEN_AT] <= rules[PROOF_TICKS]:
            state = HIDDEN_BY_RAYS
        found[viewer, slot] = state
        counts[state] += 1


@kernel(
    f"({GEOMETRY_TYPE}, {MAP_TYPE}, {BODIES_TYPE}, {PROBES_TYPE}, {VIEWERS_TYPE}, i4[::1], i4[:,::1], i8, "
    f"{SETTINGS_TYPE}, {MEMORY_TYPE}, {SCRATCH_TYPE}, {OUT_TYPE})",
    counted=False,
)
def refresh_views(
    geometry: GeometryArrays, world: MapArrays, bodies: Bodies, probes: Probes, viewers: Viewers, due: I32,
    candidates: I32, tick: int, settings: tuple[I64, F64], memory: Memory, scratch: Scratch, out: tuple[U8, I64],
) -> None:  # fmt: skip
    """Decide for each candidate of each viewer that is due whether it may be told of.

    Rays go first to pairs that are new, then to those whose last free ray is getting old, then round robin to those
    still open, as many as `RAYS` allows per viewer.

    Args:
        geometry: What stops sight.
        world, bodies, probes, viewers: See the top of this file.
        due: Viewers to decide for.
        candidates: Bodies that each viewer may be told of, −1 for none, shape (v, s).
        tick: Now.
        settings: Rules and samples.
        memory: Updated.
        scratch: Overwritten.
        out: What each pair is found to be, shape (v, s), rows of `due` only; counters, added to.
    """
    rules, cells, lists, lengths = settings[0], probes[2], scratch[1], local_i64(3)
    for at in range(len(due)):
        viewer = int(due[at])
        known = _join_rows(geometry, world, bodies, probes, viewers, viewer, tick, scratch[0])
        _sort_slots(candidates, bodies, cells, known, viewer, tick, rules, memory, scratch, lengths, out)
        fresh, confirm, open_count = int(lengths[0]), int(lengths[1]), int(lengths[2])
        left, cursor = int(rules[RAYS]), int(memory[3][viewer])
        quota = 1
        for number in range(fresh + confirm + open_count):
            if left <= 0:
                break
            if number < fresh:
                slot, rays = int(lists[0, number]), int(rules[BURST])
            elif number < fresh + confirm:
                slot, rays = int(lists[1, number - fresh]), CONFIRM_RAYS
            else:
                if number == fresh + confirm:
                    quota = max(1, min(int(rules[BURST]), left // open_count))
                slot, rays = int(lists[2, (cursor + number - fresh - confirm) % open_count]), quota
                memory[3][viewer] = (cursor + number - fresh - confirm + 1) % open_count
            row = int(candidates[viewer, slot])
            left -= _ask(
                geometry, bodies, probes, viewers, viewer, row, slot, settings, memory, min(rays, left), tick
            )  # fmt: skip
        out[1][RAYS_CAST] += rules[RAYS] - left
        _settle(tick, viewer, rules, memory, out)


@kernel(f"({MAP_TYPE}, f8[:,::1], i4[::1])", counted=False)
def cells_at(world: MapArrays, points: F64, out_cells: I32) -> None:
    """The cell of each point [m], shape (n, 3); −1 where the map knows none."""
    for row in range(len(points)):
        out_cells[row] = _cell_at(world, points[row, 0], points[row, 1], points[row, 2])
