"""Movers among players: what sets them going, whom they carry, push and wait for.

After id Software's g_mover.c (G_MoverPush, Touch_DoorTrigger, Blocked_Door), with sweeps in place of its trial and
error: a body's way relative to the mover is swept against the mover, and what remains of it is the push. Whoever stands
on a mover goes with it as far as the map lets it. A mover that cannot push somebody out of its way stays where it was
in this tick, with all others of its group, and turns back (or waits, if it crushes or does not turn); everybody is put
back to where they were.

A client calls the same kernel for its own player with `authority` 0: then nothing turns, and who is in the way stays.
"""

from math import sqrt
from typing import Final, TypeAlias

from sim.arrays import F64, I32, Bool
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays
from sim.jit import kernel
from sim.motion_kernels import CROUCHING, MASK, NUDGED, ON_GROUND, STATE_TYPE, WORLD_TYPE, StateColumns, WorldArrays
from sim.movers_kernels import (
    M_BOX,
    M_BOXES,
    M_CRUSHES,
    M_DAMAGE,
    M_HOLDS,
    M_KIND,
    M_LEADER,
    M_TICKS,
    M_TRIANGLE,
    M_TRIANGLES,
    M_WAIT,
    SLIDE,
    SPEC_TYPE,
    TURNS_TYPE,
    SpecArrays,
    TurnArrays,
    gather_near,
    list_mover,
    locate_movers,
    move_rows,
    progress,
    put_mover,
)
from sim.slide_kernels import CROUCHED, RADIUS, STANDING, sweep_body

__all__ = ["PLACES_TYPE", "SCRATCH_TYPE", "PlaceArrays", "PushScratch", "push_movers", "turn_movers"]

PLACES_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[:,::1]))"  # offsets before and after the tick, and as `put_movers` left
SCRATCH_TYPE = "Tuple((i4[:,::1], f8[:,::1], f8[:,::1], i4[::1]))"  # triangles, rows of motion, positions, slots
PlaceArrays: TypeAlias = tuple[F64, F64, F64]
PushScratch: TypeAlias = tuple[I32, F64, F64, I32]

UNTOUCHED, PUSHED, BLOCKED = range(3)
MARGIN: Final = 0.05  # [m]
RIDE: Final = 0.02  # [m]; who has a mover this close below its feet stands on it
ROUNDS: Final = 4
CLOSE: Final = 1e-9  # [m]
SQUEEZE: Final = 2e-3  # [m]; who is deeper than that in a mover is in its way
FAR_AWAY: Final = 1e30
BLOCKED_HZ: Final = 20.0  # a mover that waits deals its damage so often, as in Quake III's server frames


@kernel(counted=False)
def _height(state: StateColumns, slot: int, parameters: F64) -> float:
    height: float = parameters[CROUCHED] if state[5][slot] & CROUCHING else parameters[STANDING]
    return height


@kernel(counted=False)
def _in_box(box: F64, state: StateColumns, slot: int, radius: float, height: float) -> bool:
    """Whether a player's box touches a box of six numbers."""
    x, y, z = state[0][slot, 0], state[0][slot, 1], state[0][slot, 2]
    if box[0] > x + radius or box[3] < x - radius or box[1] > y + radius or box[4] < y - radius:
        return False
    return bool(box[2] <= z + height and box[5] >= z)


@kernel(counted=False)
def _touched(spec: SpecArrays, k: int, state: StateColumns, active: Bool, parameters: F64) -> bool:
    """Whether any player is where it sets a mover going."""
    figures, boxes = spec[0], spec[1]
    first = int(figures[k, M_BOX])
    for box in range(first, first + int(figures[k, M_BOXES])):
        for slot in range(len(active)):
            if active[slot] and _in_box(boxes[box], state, slot, parameters[RADIUS], _height(state, slot, parameters)):
                return True
    return False


@kernel(counted=False)
def _held(bounds: F64, state: StateColumns, active: Bool, radius: float) -> bool:
    """Whether any player stands on a mover, which has these bounds."""
    for slot in range(len(active)):
        if active[slot] and abs(state[0][slot, 2] - bounds[5]) < MARGIN and state[5][slot] & ON_GROUND:
            x, y = state[0][slot, 0], state[0][slot, 1]
            if bounds[0] - radius < x < bounds[3] + radius and bounds[1] - radius < y < bounds[4] + radius:
                return True
    return False


@kernel(f"({SPEC_TYPE}, {TURNS_TYPE}, i8, {STATE_TYPE}, b1[::1], f8[::1], {WORLD_TYPE}, {PLACES_TYPE})", counted=False)
def turn_movers(
    spec: SpecArrays, turns: TurnArrays, tick: int, state: StateColumns, active: Bool, parameters: F64,
    world: WorldArrays, places: PlaceArrays,
) -> None:  # fmt: skip
    """Let whatever slides turn where it is touched or its time is over, before it moves in `tick`.

    Args:
        spec: See `sim.movers_kernels`.
        turns: Columns, changed in place.
        tick: The tick that is being made.
        state: Columns of the players, as after the tick before.
        active: Which of them count, shape (n,).
        parameters: `MotionParameters.vector()`.
        world: See `sim.motion_kernels`; the movers' rows and bounds become those of after the tick before.
        places: Offsets before and after the tick, and where the rows are; all are written.
    """
    before, after, placed = places
    locate_movers(spec, turns, tick - 1, before)
    move_rows(spec, before, placed, world[0], world[3])
    _turn(spec, turns, tick, state, active, parameters, world[3])
    locate_movers(spec, turns, tick, after)


@kernel(counted=False)
def _turn(
    spec: SpecArrays, turns: TurnArrays, tick: int, state: StateColumns, active: Bool, parameters: F64, bounds: F64
) -> None:
    """`turn_movers`, of movers whose bounds are those of after the tick before."""
    figures = spec[0]
    opens, since, until = turns
    for leader in range(len(opens)):
        if int(figures[leader, M_KIND]) != SLIDE or int(figures[leader, M_LEADER]) != leader:
            continue
        touched, held = False, False
        for k in range(leader, len(opens)):
            if int(figures[k, M_LEADER]) == leader:
                touched = touched or _touched(spec, k, state, active, parameters)
                if figures[k, M_HOLDS] > 0.0:
                    held = held or _held(bounds[k], state, active, parameters[RADIUS])
        for k in range(leader, len(opens)):
            if int(figures[k, M_LEADER]) != leader:
                continue
            whole = int(figures[k, M_TICKS])
            come = progress(figures, k, int(opens[k]), int(since[k]), tick - 1)
            if not opens[k]:
                if touched:
                    opens[k], since[k], until[k] = 1, tick - 1 - come, 0
            elif come >= whole:
                wait = int(figures[k, M_WAIT])
                if until[k] == 0 or touched or held:
                    until[k] = tick + max(wait, 0)
                elif wait >= 0 and tick >= until[k]:
                    opens[k], since[k], until[k] = 0, tick - 1, 0


@kernel(counted=False)
def _slide_push(
    surfaces: F64, candidates: I32, count: int, body: F64, x: float, y: float, z: float, radius: float,
    ray: F64, corners: F64, hit: F64,
) -> None:  # fmt: skip
    """Move a body, sliding along what it meets, in at most three directions."""
    for _ in range(3):
        met = sweep_body(surfaces, candidates, count, body, x, y, z, radius, ray, corners, hit)
        body[0] += hit[0] * x
        body[1] += hit[0] * y
        body[2] += hit[0] * z
        if met < 0:
            return
        left = 1.0 - hit[0]
        into = left * (x * hit[1] + y * hit[2] + z * hit[3])
        x, y, z = left * x - into * hit[1], left * y - into * hit[2], left * z - into * hit[3]


@kernel(counted=False)
def _rides(
    surfaces: F64, near: I32, near_count: int, others: I32, count: int, body: F64, radius: float,
    ray: F64, corners: F64, hit: F64,
) -> bool:  # fmt: skip
    """Whether what is below a body's feet is the mover, or the mover as well as something that rests."""
    if sweep_body(surfaces, near, near_count, body, 0.0, 0.0, -RIDE, radius, ray, corners, hit) < 0:
        return False
    mover = hit[0]
    sweep_body(surfaces, others, count, body, 0.0, 0.0, -RIDE, radius, ray, corners, hit)
    return bool(mover <= hit[0] + MARGIN)


@kernel(counted=False)
def _push_one(
    slot: int, k: int, dx: float, dy: float, dz: float, state: StateColumns, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, spec: SpecArrays, scratch: PushScratch,
) -> int:  # fmt: skip
    """Carry and push one player by one mover, whose rows are still those of before it moved by (dx, dy, dz).

    Returns:
        UNTOUCHED, PUSHED, or BLOCKED: it cannot give way, and is where it was.
    """
    surfaces, radius = world[0], parameters[RADIUS]
    near, others = scratch[0][0], scratch[0][1]
    rows = scratch[1]
    body, ray, corners, hit = rows[0], rows[1], rows[2], rows[3]
    for axis in range(3):
        body[axis] = state[0][slot, axis]
    px, py, pz = body[0], body[1], body[2]
    body[9] = _height(state, slot, parameters)
    way = sqrt(dx * dx + dy * dy + dz * dz)
    reach, over = radius + way + MARGIN, body[9] + way + MARGIN
    near_count = list_mover(
        surfaces, int(spec[0][k, M_TRIANGLE]), int(spec[0][k, M_TRIANGLES]),
        px - reach, py - reach, pz - way - MARGIN, px + reach, py + reach, pz + over, MASK, near, 0,
    )  # fmt: skip
    if near_count == 0 or near_count > len(near):
        return UNTOUCHED
    # Room for sliding along what is met.
    reach, over = reach + way, over + way
    count = gather_near(
        geometry, surfaces, world[3], world[4],
        px - reach, py - reach, pz - 2.0 * way - MARGIN, px + reach, py + reach, pz + over, MASK, others,
    )  # fmt: skip
    if count > len(others):
        return UNTOUCHED
    if state[5][slot] & ON_GROUND and _rides(
        surfaces, near, near_count, others, count, body, radius, ray, corners, hit
    ):
        sweep_body(surfaces, others, count, body, dx, dy, dz, radius, ray, corners, hit)
        body[0] += hit[0] * dx
        body[1] += hit[0] * dy
        body[2] += hit[0] * dz
    deep = 0.0
    for _ in range(ROUNDS):
        # The way relative to the mover, from where the body was.
        x, y, z = body[0] - px - dx, body[1] - py - dy, body[2] - pz - dz
        nx, ny, nz = body[0], body[1], body[2]
        body[0], body[1], body[2] = px, py, pz
        met = sweep_body(surfaces, near, near_count, body, x, y, z, radius, ray, corners, hit)
        body[0], body[1], body[2] = nx, ny, nz
        deep = 0.0
        if met >= 0:
            deep = -(1.0 - hit[0]) * (x * hit[1] + y * hit[2] + z * hit[3])
        if deep <= CLOSE:
            break
        x, y, z = deep * hit[1], deep * hit[2], deep * hit[3]
        _slide_push(surfaces, others, count, body, x, y, z, radius, ray, corners, hit)
    if deep > SQUEEZE:
        return BLOCKED
    if body[0] == px and body[1] == py and body[2] == pz:
        return UNTOUCHED
    for axis in range(3):
        state[0][slot, axis] = body[axis]
    state[5][slot] |= NUDGED
    return PUSHED


@kernel(counted=False)
def _hold(figures: F64, turns: TurnArrays, k: int, tick: int) -> None:
    """Let a mover be at the end of `tick` where it was before, and turn back if it is one that does."""
    opens, since, until = turns
    if int(figures[k, M_KIND]) != SLIDE or figures[k, M_CRUSHES] > 0.0:
        since[k] += 1
        return
    come = progress(figures, k, int(opens[k]), int(since[k]), tick - 1)
    until[k] = 0
    if opens[k]:
        opens[k], since[k] = 0, tick - (int(figures[k, M_TICKS]) - come)
    else:
        opens[k], since[k] = 1, tick - come


@kernel(counted=False)
def _push_group(
    leader: int, state: StateColumns, active: Bool, parameters: F64, geometry: GeometryArrays, world: WorldArrays,
    spec: SpecArrays, places: PlaceArrays, scratch: PushScratch, authority: int,
) -> int:  # fmt: skip
    """Push everybody out of one group's way; the slot of the first who cannot give way, −1 for none."""
    figures, bounds = spec[0], world[3]
    before, after, placed = places
    saved, slots = scratch[2], scratch[3]
    kept, blocker = 0, -1
    for k in range(leader, len(after)):
        if int(figures[k, M_LEADER]) == leader:
            # Nobody is kept from giving way by the mover itself, nor by another of its group.
            bounds[k, 0], bounds[k, 3] = FAR_AWAY, -FAR_AWAY
    for k in range(leader, len(after)):
        if int(figures[k, M_LEADER]) != leader or blocker >= 0:
            continue
        dx, dy, dz = after[k, 0] - before[k, 0], after[k, 1] - before[k, 1], after[k, 2] - before[k, 2]
        if dx == 0.0 and dy == 0.0 and dz == 0.0:
            continue
        for slot in range(len(active)):
            if not active[slot] or not _within(figures, k, before, after, state, slot, parameters):
                continue
            x, y, z = state[0][slot, 0], state[0][slot, 1], state[0][slot, 2]
            outcome = _push_one(slot, k, dx, dy, dz, state, parameters, geometry, world, spec, scratch)
            if outcome == BLOCKED and authority:
                blocker = slot
                break
            if outcome == PUSHED and kept < len(slots):
                saved[kept, 0], saved[kept, 1], saved[kept, 2] = x, y, z
                slots[kept] = slot
                kept += 1
    if blocker >= 0:
        for entry in range(kept - 1, -1, -1):  # the first one kept of a slot is the oldest
            for axis in range(3):
                state[0][slots[entry], axis] = saved[entry, axis]
    for k in range(leader, len(after)):
        if int(figures[k, M_LEADER]) == leader:
            if blocker >= 0:
                for axis in range(3):
                    after[k, axis] = before[k, axis]
            put_mover(spec, k, after[k, 0], after[k, 1], after[k, 2], world[0], bounds)
            for axis in range(3):
                placed[k, axis] = after[k, axis]
    return blocker


@kernel(counted=False)
def _within(figures: F64, k: int, before: F64, after: F64, state: StateColumns, slot: int, parameters: F64) -> bool:
    """Whether a player is near enough to a mover's way for it to matter."""
    for axis in range(3):
        at = state[0][slot, axis]
        low = at - (MARGIN if axis == 2 else parameters[RADIUS] + MARGIN)
        high = at + (parameters[STANDING] if axis == 2 else parameters[RADIUS]) + MARGIN
        if figures[k, 10 + axis] + min(before[k, axis], after[k, axis]) > high:
            return False
        if figures[k, 13 + axis] + max(before[k, axis], after[k, axis]) < low:
            return False
    return True


@kernel(
    f"(i8, f8, {STATE_TYPE}, b1[::1], f8[::1], {GEOMETRY_TYPE}, {WORLD_TYPE}, {SPEC_TYPE}, {TURNS_TYPE}, "
    f"{PLACES_TYPE}, {SCRATCH_TYPE}, f8[::1])",
    counted=False,
)
def push_movers(
    tick: int, dt: float, state: StateColumns, active: Bool, parameters: F64, geometry: GeometryArrays,
    world: WorldArrays, spec: SpecArrays, turns: TurnArrays, places: PlaceArrays, scratch: PushScratch,
    out_crush: F64,
) -> None:  # fmt: skip
    """Move all movers from where they were to where they are to be in a tick, and players with them.

    Args:
        tick: The tick that is being made; below 0: on behalf of a client (see the top of this file).
        dt: Length of the tick [s].
        state: Columns of the players, changed in place.
        active: Which of them count, shape (n,).
        parameters: `MotionParameters.vector()`.
        geometry: What rests.
        world: See `sim.motion_kernels`; the movers' rows and bounds are those of before, and become those of after.
        spec: See `sim.movers_kernels`.
        turns: Columns; where a mover was blocked, changed in place.
        places: Offsets before and after the tick, and where the rows are; changed in place.
        scratch: Two rows of triangle numbers, rows of `sim.motion_kernels`, positions (p, 3) and slots (p,) to undo.
        out_crush: Damage is added for each slot that was in the way [points].
    """
    figures = spec[0]
    count = len(figures)
    for leader in range(count):
        if int(figures[leader, M_LEADER]) != leader:
            continue
        moves = False
        for k in range(leader, count):
            if int(figures[k, M_LEADER]) == leader:
                for axis in range(3):
                    moves = moves or places[0][k, axis] != places[1][k, axis]
        if not moves:
            continue
        blocker = _push_group(leader, state, active, parameters, geometry, world, spec, places, scratch, int(tick >= 0))
        if blocker < 0:
            continue
        for k in range(leader, count):
            if int(figures[k, M_LEADER]) == leader:
                _hold(figures, turns, k, tick)
        waits = int(figures[leader, M_KIND]) != SLIDE or figures[leader, M_CRUSHES] > 0.0
        out_crush[blocker] += figures[leader, M_DAMAGE] * (BLOCKED_HZ * dt if waits else 1.0)
