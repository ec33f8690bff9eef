"""Players in motion: one tick of one player, the same bits on the server and in a client that predicts.

In the order of Quake III's PmoveSingle (bg_pmove.c): crouch, jump, friction and acceleration (PM_Friction,
PM_Accelerate), slide and step, look for ground, triggers. Only + − × ÷ sqrt on float64 and the sine table.

Columns, grouped in tuples (`STATE_TYPE`, `INPUT_TYPE`, `WORLD_TYPE`):

    state   position f8 (n,3) feet [m] · velocity f8 (n,3) [m/s] · ground_normal f8 (n,3), zero in the air ·
            yaw u2 (n,) · pitch i2 (n,) · flags u2 (n,), bits below
    inputs  buttons u2 (n,) · move_forward i1 (n,) · move_right i1 (n,) · yaw u2 (n,) · pitch i2 (n,)
    world   surfaces f8 (t,20) · triggers f8 (m,11): kind, low, high, vector, yaw · sine table f8 (16385,) ·
            movers' bounds f8 (k,6), and their runs of triangles i4 (k,2): see `sim.movers_kernels.gather_near`

Flags: ON_GROUND 1 · CROUCHING 2 · JUMP_HELD 4 · ON_SLICK 8 · TELEPORTED 16 (toggles each time: nobody may interpolate
across a change) · and, true of the last tick only: JUMPED 32 · LANDED 64 · PUSHED 128 · STUCK 256 (inside the map, or
more than CANDIDATES_MAX triangles near, or not finite; it did not move) · NUDGED 512 (set when something else moved it:
ground is looked for again).

What one caller alone calls is merged into it: a call that passes these tuples on copies some two hundred words, which
was a seventh of the time in the open. Remembering the triangles near each player from tick to tick gained nothing: in
boxes 0.5 m larger than needed they have to be found anew every fourth tick, and looking through them takes as long as
asking the hierarchy again (150 against 152 µs for 57 players on oa_dm2).

The equations of motion are integrated in steps of at most 1/120 s whatever the tick is, and distances by the
trapezoid rule, so that run speed, stopping distance and jumps do not depend on the tick rate.
"""

from math import sqrt
from typing import TypeAlias

from sim.arrays import F64, I8, I16, I32, U16, Bool
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays
from sim.jit import kernel, prange
from sim.movers_kernels import gather_near
from sim.narrowphase_kernels import CORNERS_SIZE, HIT_SIZE, RAY_SIZE
from sim.slide_kernels import (
    AIR_ACCELERATION,
    BLOCKED,
    BODY_SIZE,
    CROUCH_SCALE,
    CROUCHED,
    EMBEDDED,
    FRICTION,
    GRAVITY,
    GROUND_ACCELERATION,
    JUMP,
    PLANES_SIZE,
    PROBE,
    RADIUS,
    RUN,
    SPEED_MAX,
    STANDING,
    STEP,
    STOP_SPEED,
    WALK_SCALE,
    depenetrate,
    find_ground,
    step_slide,
    sweep_body,
)
from sim.trig_kernels import cosine, sine
from sim.worldmap import MOVEMENT_MASK, Contents, TriggerKind

__all__ = [
    "BUTTON_CROUCH",
    "BUTTON_JUMP",
    "BUTTON_WALK",
    "CANDIDATES_MAX",
    "CROUCHING",
    "INPUT_TYPE",
    "JUMPED",
    "JUMP_HELD",
    "LANDED",
    "MASK",
    "NUDGED",
    "ON_GROUND",
    "ON_SLICK",
    "PUSHED",
    "SCRATCH_COLUMNS",
    "SCRATCH_ROWS",
    "STATE_TYPE",
    "STUCK",
    "TELEPORTED",
    "TRIGGER_SIZE",
    "WORLD_TYPE",
    "InputColumns",
    "StateColumns",
    "WorldArrays",
    "move_player",
    "move_players",
]

STATE_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[:,::1], u2[::1], i2[::1], u2[::1]))"
INPUT_TYPE = "Tuple((u2[::1], i1[::1], i1[::1], u2[::1], i2[::1]))"
WORLD_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[::1], f8[:,::1], i4[:,::1]))"
StateColumns: TypeAlias = tuple[F64, F64, F64, U16, I16, U16]
InputColumns: TypeAlias = tuple[U16, I8, I8, U16, I16]
WorldArrays: TypeAlias = tuple[F64, F64, F64, F64, I32]

ON_GROUND, CROUCHING, JUMP_HELD, ON_SLICK, TELEPORTED = 1, 2, 4, 8, 16
JUMPED, LANDED, PUSHED, STUCK, NUDGED = 32, 64, 128, 256, 512
LASTING = ON_GROUND | CROUCHING | JUMP_HELD | ON_SLICK | TELEPORTED
BUTTON_JUMP, BUTTON_CROUCH, BUTTON_WALK = 1, 2, 4

CANDIDATES_MAX = 2048  # triangles near one player; beyond it the player stays where it is, with STUCK set
TRIGGER_SIZE = 11
SUBSTEP_RATE = 120.0  # [1/s]
PITCH_MAX = 16383
STAND_STILL = 0.02  # [m/s]
MARGIN = 0.05  # [m]; the box in which triangles are gathered is that much larger than the way
PUSH_OUT_MAX = 1.0  # [m]
WEDGED = 1e-5  # [m] per tick
SLICK, PUSH, TELEPORT = int(Contents.SLICK), int(TriggerKind.PUSH), int(TriggerKind.TELEPORT)
MASK = MOVEMENT_MASK
SCRATCH_ROWS = 6  # body, ray, corners, hit, planes; the last is for sim.separation_kernels
SCRATCH_COLUMNS = 32  # whole cache lines, so that two threads never share one
assert max(BODY_SIZE, RAY_SIZE, CORNERS_SIZE, HIT_SIZE, PLANES_SIZE) <= SCRATCH_COLUMNS


@kernel(counted=False)
def _wish(inputs: InputColumns, slot: int, flags: int, parameters: F64, table: F64) -> tuple[float, float, float]:
    """(unit direction x y, speed [m/s]) the player asks for, level."""
    forward = max(-127, inputs[1][slot]) / 127.0
    right = max(-127, inputs[2][slot]) / 127.0
    size = sqrt(forward * forward + right * right)
    if size == 0.0:
        return 1.0, 0.0, 0.0
    yaw = int(inputs[3][slot])
    ahead_x, ahead_y = cosine(table, yaw), sine(table, yaw)
    x = (forward * ahead_x + right * ahead_y) / size
    y = (forward * ahead_y - right * ahead_x) / size
    speed = parameters[RUN] * min(1.0, size)
    if flags & CROUCHING:
        speed *= parameters[CROUCH_SCALE]
    elif inputs[0][slot] & BUTTON_WALK:
        speed *= parameters[WALK_SCALE]
    return x, y, speed


@kernel(counted=False)
def _accelerate(body: F64, x: float, y: float, z: float, speed: float, gain: float) -> None:
    """Add speed along a direction, up to `speed` along it (PM_Accelerate)."""
    missing = speed - (body[3] * x + body[4] * y + body[5] * z)
    if missing > 0.0:
        gain = min(missing, gain)
        body[3] += gain * x
        body[4] += gain * y
        body[5] += gain * z


@kernel(counted=False)
def _rub(body: F64, parameters: F64, h: float) -> None:
    """Lose speed to the ground (PM_Friction)."""
    speed = sqrt(body[3] * body[3] + body[4] * body[4] + body[5] * body[5])
    if speed < STAND_STILL:
        body[3], body[4], body[5] = 0.0, 0.0, 0.0
        return
    loss = max(speed, parameters[STOP_SPEED]) * parameters[FRICTION] * h
    kept = max(0.0, speed - loss) / speed
    body[3] *= kept
    body[4] *= kept
    body[5] *= kept


@kernel(counted=False)
def _add_mean(body: F64, ox: float, oy: float, oz: float, share: float) -> None:
    """Count one substep's mean velocity, of before and after, into the tick's."""
    body[6] += 0.5 * share * (ox + body[3])
    body[7] += 0.5 * share * (oy + body[4])
    body[8] += 0.5 * share * (oz + body[5])


@kernel(counted=False)
def _walk(body: F64, x: float, y: float, speed: float, dt: float, slick: bool, parameters: F64) -> None:
    """Velocity on the ground after `dt`, and its mean: along the ground, with friction."""
    nx, ny, nz = body[10], body[11], body[12]
    before = sqrt(body[3] * body[3] + body[4] * body[4] + body[5] * body[5])
    into = body[3] * nx + body[4] * ny + body[5] * nz
    body[3] -= into * nx
    body[4] -= into * ny
    body[5] -= into * nz
    after = sqrt(body[3] * body[3] + body[4] * body[4] + body[5] * body[5])
    if after > 1e-9:  # neither faster nor slower for going up or down
        for axis in range(3, 6):
            body[axis] *= before / after
    # The wish, laid on the ground.
    z = -nz * (x * nx + y * ny)
    x, y = x - nx * (x * nx + y * ny), y - ny * (x * nx + y * ny)
    length = sqrt(x * x + y * y + z * z)
    steps = int(dt * SUBSTEP_RATE + 0.999999)
    h = dt / steps
    gain = (parameters[AIR_ACCELERATION] if slick else parameters[GROUND_ACCELERATION]) * h * speed
    body[6], body[7], body[8] = 0.0, 0.0, 0.0
    for _ in range(steps):
        ox, oy, oz = body[3], body[4], body[5]
        if not slick:
            _rub(body, parameters, h)
        if length > 0.0:
            _accelerate(body, x / length, y / length, z / length, speed, gain)
        _add_mean(body, ox, oy, oz, 1.0 / steps)


@kernel(counted=False)
def _fly(body: F64, x: float, y: float, speed: float, dt: float, parameters: F64) -> None:
    """Velocity in the air after `dt`, and its mean: gravity and a little control."""
    steps = int(dt * SUBSTEP_RATE + 0.999999)
    h = dt / steps
    gain = parameters[AIR_ACCELERATION] * h * speed
    body[6], body[7], body[8] = 0.0, 0.0, 0.0
    for _ in range(steps):
        ox, oy, oz = body[3], body[4], body[5]
        _accelerate(body, x, y, 0.0, speed, gain)
        body[5] -= parameters[GRAVITY] * h
        _add_mean(body, ox, oy, oz, 1.0 / steps)


@kernel(counted=False)
def _limit(body: F64, at: int, speed_max: float) -> None:
    """No velocity is above the terminal speed."""
    square = body[at] * body[at] + body[at + 1] * body[at + 1] + body[at + 2] * body[at + 2]
    if square > speed_max * speed_max:
        scale = speed_max / sqrt(square)
        for axis in range(at, at + 3):
            body[axis] *= scale


@kernel(counted=False, merge=True)
def _gather(
    geometry: GeometryArrays, world: WorldArrays, body: F64, parameters: F64, way: float, candidates: I32
) -> int:
    """Every triangle that a body can meet within `way` [m] in any direction, steps and standing up included."""
    flat = way + parameters[RADIUS]
    low = way + parameters[STEP]
    return gather_near(
        geometry, world[0], world[3], world[4],
        body[0] - flat, body[1] - flat, body[2] - low,
        body[0] + flat, body[1] + flat, body[2] + low + parameters[STANDING],
        MASK, candidates,
    )  # fmt: skip


@kernel(counted=False, merge=True)
def _press_triggers(triggers: F64, table: F64, body: F64, radius: float, flags: int) -> tuple[int, int]:
    """Let jump pads and teleporters act on a body that touches their box; (flags, new yaw or −1)."""
    for k in range(len(triggers)):
        if triggers[k, 1] > body[0] + radius or triggers[k, 4] < body[0] - radius:
            continue
        if triggers[k, 2] > body[1] + radius or triggers[k, 5] < body[1] - radius:
            continue
        if triggers[k, 3] > body[2] + body[9] or triggers[k, 6] < body[2]:
            continue
        if triggers[k, 0] == PUSH:
            body[3], body[4], body[5] = triggers[k, 7], triggers[k, 8], triggers[k, 9]
            body[10], body[11], body[12] = 0.0, 0.0, 0.0
            return (flags & ~ON_GROUND) | PUSHED, -1
        if triggers[k, 0] == TELEPORT:
            yaw = int(triggers[k, 10])
            speed = sqrt(body[3] * body[3] + body[4] * body[4])
            body[0], body[1], body[2] = triggers[k, 7], triggers[k, 8], triggers[k, 9]
            body[3], body[4], body[5] = speed * cosine(table, yaw), speed * sine(table, yaw), 0.0
            body[10], body[11], body[12] = 0.0, 0.0, 0.0
            return (flags & ~ON_GROUND) ^ TELEPORTED, yaw
    return flags, -1


@kernel(counted=False, merge=True)
def _load(state: StateColumns, slot: int, parameters: F64, body: F64) -> bool:
    """Take a player's state into a body; False where a number is not finite."""
    total = 0.0
    for axis in range(3):
        body[axis] = state[0][slot, axis]
        body[3 + axis] = state[1][slot, axis]
        body[10 + axis] = state[2][slot, axis]
        total += abs(body[axis]) + abs(body[3 + axis]) + abs(body[10 + axis])
    body[9] = parameters[CROUCHED] if state[5][slot] & CROUCHING else parameters[STANDING]
    return total < 1e9


@kernel(counted=False, merge=True)
def _store(state: StateColumns, slot: int, body: F64, flags: int) -> None:
    """Put a body back into a player's state."""
    for axis in range(3):
        state[0][slot, axis] = body[axis]
        state[1][slot, axis] = body[3 + axis]
        state[2][slot, axis] = body[10 + axis]
    state[5][slot] = flags


@kernel(counted=False, merge=True)
def _set_velocity(
    body: F64, inputs: InputColumns, slot: int, flags: int, dt: float, parameters: F64, table: F64
) -> int:
    """Jump, rub, accelerate, fall: both velocities of the tick, from the input. Returns the flags."""
    buttons = inputs[0][slot]
    if buttons & BUTTON_JUMP == 0:
        flags &= ~JUMP_HELD
    elif flags & ON_GROUND and flags & JUMP_HELD == 0:
        body[5] = max(0.0, body[5]) + parameters[JUMP]
        body[10], body[11], body[12] = 0.0, 0.0, 0.0
        flags = (flags & ~ON_GROUND) | JUMP_HELD | JUMPED
    x, y, speed = _wish(inputs, slot, flags, parameters, table)
    if flags & ON_GROUND:
        _walk(body, x, y, speed, dt, flags & ON_SLICK != 0, parameters)
    else:
        _fly(body, x, y, speed, dt, parameters)
    _limit(body, 3, parameters[SPEED_MAX])
    _limit(body, 6, parameters[SPEED_MAX])
    return flags


@kernel(counted=False, merge=True)
def _land(
    flags: int, met: int, moved: float, surfaces: F64, candidates: I32, count: int, body: F64, parameters: F64,
    ray: F64, corners: F64, hit: F64,
) -> int:  # fmt: skip
    """Find what the body stands on after its move; returns the flags."""
    walked = flags & ON_GROUND != 0
    slick = flags & ON_SLICK
    flags &= ~(ON_GROUND | ON_SLICK)
    if flags & JUMPED:
        return flags | slick
    reach = PROBE + (parameters[STEP] if walked else 0.0)
    if find_ground(surfaces, candidates, count, body, reach, parameters, ray, corners, hit):
        flags |= ON_GROUND
        if not walked:
            flags |= LANDED
        if int(body[13]) & SLICK:
            flags |= ON_SLICK
        into = body[3] * body[10] + body[4] * body[11] + body[5] * body[12]
        if into < 0.0:
            for axis in range(3):
                body[3 + axis] -= into * body[10 + axis]
    elif met == BLOCKED and moved < WEDGED * WEDGED and abs(body[3]) + abs(body[4]) + abs(body[5]) < STAND_STILL:
        # Held between slopes that are each too steep to stand on: without ground it could never jump out.
        body[10], body[11], body[12] = 0.0, 0.0, 1.0
        flags |= ON_GROUND
    return flags


@kernel(counted=False)
def _free(
    geometry: GeometryArrays, world: WorldArrays, body: F64, parameters: F64, way: float, candidates: I32,
    ray: F64, corners: F64, hit: F64,
) -> int:  # fmt: skip
    """Push an embedded body out and gather again around its new place; −1 where that fails."""
    x, y, z = body[0], body[1], body[2]
    count = _gather(geometry, world, body, parameters, PUSH_OUT_MAX, candidates)
    if count > len(candidates):
        return -1
    free = depenetrate(world[0], candidates, count, body, parameters[RADIUS], ray, corners, hit)
    dx, dy, dz = body[0] - x, body[1] - y, body[2] - z
    if not free or dx * dx + dy * dy + dz * dz > 0.25 * PUSH_OUT_MAX * PUSH_OUT_MAX:
        body[0], body[1], body[2] = x, y, z
        return -1
    count = _gather(geometry, world, body, parameters, way, candidates)
    return count if count <= len(candidates) else -1


@kernel(counted=False, merge=True)
def _travel(
    flags: int, buttons: int, dt: float, parameters: F64, geometry: GeometryArrays, world: WorldArrays,
    candidates: I32, body: F64, ray: F64, corners: F64, hit: F64, planes: F64,
) -> int:  # fmt: skip
    """Move a body through the world by its mean velocity; returns the flags."""
    surfaces = world[0]
    way = sqrt(body[6] * body[6] + body[7] * body[7] + body[8] * body[8]) * dt * 1.01 + MARGIN
    count = _gather(geometry, world, body, parameters, way, candidates)
    if count > len(candidates):
        return flags | STUCK
    if flags & CROUCHING and buttons & BUTTON_CROUCH == 0:
        rise = parameters[STANDING] - parameters[CROUCHED]
        if sweep_body(
            surfaces, candidates, count, body, 0.0, 0.0, rise, parameters[RADIUS], ray, corners, hit
        ) < 0:  # fmt: skip
            flags &= ~CROUCHING
            body[9] = parameters[STANDING]
    x, y, z = body[0], body[1], body[2]
    met = step_slide(surfaces, candidates, count, body, dt, parameters, ray, corners, hit, planes)
    if met == EMBEDDED:
        count = _free(geometry, world, body, parameters, way, candidates, ray, corners, hit)
        if count < 0:
            return flags | STUCK
        met = step_slide(surfaces, candidates, count, body, dt, parameters, ray, corners, hit, planes)
    moved = (body[0] - x) * (body[0] - x) + (body[1] - y) * (body[1] - y) + (body[2] - z) * (body[2] - z)
    return _land(flags, met, moved, surfaces, candidates, count, body, parameters, ray, corners, hit)


@kernel(counted=False, merge=True)
def move_player(
    slot: int, state: StateColumns, inputs: InputColumns, dt: float, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, candidates: I32, scratch: F64,
) -> None:  # fmt: skip
    """Move one player by one input.

    Args:
        slot: Row of the columns.
        state: Columns, changed in place.
        inputs: Columns.
        dt: Length of the tick [s], above 0.
        parameters: `MotionParameters.vector()`.
        geometry: `Geometry.arrays`.
        world: Surfaces, triggers, sine table, movers.
        candidates: Scratch for triangle numbers.
        scratch: Scratch, shape (SCRATCH_ROWS, SCRATCH_COLUMNS).
    """
    body, ray, corners, hit, planes = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    buttons = inputs[0][slot]
    state[3][slot] = inputs[3][slot]
    state[4][slot] = min(PITCH_MAX, max(-PITCH_MAX, inputs[4][slot]))
    nudged = state[5][slot] & NUDGED != 0
    flags = int(state[5][slot]) & LASTING
    if not _load(state, slot, parameters, body):
        state[5][slot] = flags | STUCK
        return
    if buttons & BUTTON_CROUCH:
        flags |= CROUCHING
        body[9] = parameters[CROUCHED]
    flags = _set_velocity(body, inputs, slot, flags, dt, parameters, world[2])
    moving = abs(body[6]) + abs(body[7]) + abs(body[8]) + abs(body[3]) + abs(body[4]) + abs(body[5]) > 0.0
    rising = flags & CROUCHING != 0 and buttons & BUTTON_CROUCH == 0
    if moving or rising or nudged or flags & ON_GROUND == 0:
        flags = _travel(flags, buttons, dt, parameters, geometry, world, candidates, body, ray, corners, hit, planes)
        flags, yaw = _press_triggers(world[1], world[2], body, parameters[RADIUS], flags)
        if yaw >= 0:
            state[3][slot] = yaw
        _limit(body, 3, parameters[SPEED_MAX])
    _store(state, slot, body, flags)


@kernel(counted=False, merge=True)
def _move_chunk(
    chunk: int, chunks: int, state: StateColumns, inputs: InputColumns, active: Bool, dt: float, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, candidates: I32, scratch: F64,
) -> None:  # fmt: skip
    """Move the active players of one part of the slots."""
    triangles, rows = candidates[chunk], scratch[chunk]
    for slot in range(len(active) * chunk // chunks, len(active) * (chunk + 1) // chunks):
        if active[slot]:
            move_player(slot, state, inputs, dt, parameters, geometry, world, triangles, rows)


@kernel(
    f"({STATE_TYPE}, {INPUT_TYPE}, b1[::1], f8, f8[::1], {GEOMETRY_TYPE}, {WORLD_TYPE}, i4[:,::1], f8[:,:,::1])",
    parallel=True,
)
def move_players(
    state: StateColumns, inputs: InputColumns, active: Bool, dt: float, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, candidates: I32, scratch: F64,
) -> None:  # fmt: skip
    """Move every active player by its input; each by itself, so that the number of threads never matters.

    Args:
        state: Columns, changed in place.
        inputs: Columns.
        active: Which slots to move, shape (n,).
        dt: Length of the tick [s], above 0.
        parameters: `MotionParameters.vector()`.
        geometry: `Geometry.arrays`.
        world: Surfaces, triggers, sine table, movers.
        candidates: Scratch, a row for each chunk of players that one thread does at a time.
        scratch: Scratch, shape (chunks, SCRATCH_ROWS, SCRATCH_COLUMNS).
    """
    chunks = len(candidates)
    for chunk in prange(chunks):
        _move_chunk(chunk, chunks, state, inputs, active, dt, parameters, geometry, world, candidates, scratch)
