"""Players against players: nobody walks through anybody, nobody is pushed through a wall.

Runs after every player has moved by itself. The way of one player relative to the other during the tick is a ray
against a vertical capsule of both radii and both heights together (as in `sim.narrowphase_kernels`), so that two
who would have run through each other within one tick meet as well. Where it enters, the tangent plane there parts
the two: at the end of the tick both are pushed apart, half each, until the plane is kept, and lose the velocity
that went into it. Pushes are swept against the map; what one cannot give way, the other does. A player who stands on
another's head is carried.

Pairs that touch are put in ascending order first, so that the result does not depend on the order they come in.
"""

from math import sqrt

from sim.arrays import F64, I32, I64, Bool
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays
from sim.jit import kernel
from sim.motion_kernels import CROUCHING, MASK, NUDGED, ON_GROUND, STATE_TYPE, WORLD_TYPE, StateColumns, WorldArrays
from sim.movers_kernels import gather_near
from sim.slide_kernels import CROUCHED, FLAT, RADIUS, STANDING, sweep_body

__all__ = ["separate_players"]

ROUNDS = 2  # a crowd settles over ticks; more rounds in one tick gained nothing that can be seen
SLACK = 1e-9  # [m]
PUSH_MARGIN = 0.01  # [m]
SLIDES = 2  # directions of one push: off a wall, and no farther


@kernel(counted=False)
def _sift(keys: I64, root: int, count: int) -> None:
    """Restore a heap below one place."""
    while 2 * root + 1 < count:
        child = 2 * root + 1
        if child + 1 < count and keys[child + 1] > keys[child]:
            child += 1
        if keys[root] >= keys[child]:
            return
        keys[root], keys[child] = keys[child], keys[root]
        root = child


@kernel(counted=False)
def _sort(keys: I64, count: int) -> None:
    """Ascending order in place (heap sort: no scratch, no bad case)."""
    for root in range(count // 2 - 1, -1, -1):
        _sift(keys, root, count)
    for last in range(count - 1, 0, -1):
        keys[0], keys[last] = keys[last], keys[0]
        _sift(keys, 0, last)


@kernel(counted=False)
def _entry(start: F64, way: F64, low: float, high: float, reach: float) -> float:
    """When a point first comes within `reach` of the vertical segment from low to high; above 1 if it does not."""
    first = 2.0
    a = way[0] * way[0] + way[1] * way[1]
    b = start[0] * way[0] + start[1] * way[1]
    c = start[0] * start[0] + start[1] * start[1] - reach * reach
    root = b * b - a * c
    if c > 0.0 and b < 0.0 and root > 0.0:
        time = c / (sqrt(root) - b)
        if low <= start[2] + time * way[2] <= high:
            first = time
    a += way[2] * way[2]
    for side in range(2):
        z = start[2] - (low if side == 0 else high)
        half = b + z * way[2]
        rest = c + z * z
        root = half * half - a * rest
        if rest > 0.0 and half < 0.0 and root > 0.0:
            first = min(first, rest / (sqrt(root) - half))
    return first


@kernel(counted=False)
def _meeting(
    i: int, j: int, position: F64, previous: F64, low: float, high: float, reach: float, scratch: F64
) -> bool:  # fmt: skip
    """Whether two players touched during the tick; row 5 of scratch gets the direction from i to j and the depth."""
    start, way, out = scratch[0], scratch[1], scratch[5]
    for axis in range(3):
        start[axis] = previous[j, axis] - previous[i, axis]
        way[axis] = position[j, axis] - position[i, axis] - start[axis]
    z = min(high, max(low, start[2]))
    distance = sqrt(start[0] * start[0] + start[1] * start[1] + (start[2] - z) * (start[2] - z))
    time = 0.0
    if distance > reach + SLACK:
        time = _entry(start, way, low, high, reach)
        if time > 1.0:
            return False
        z = min(high, max(low, start[2] + time * way[2]))
    x, y, up = start[0] + time * way[0], start[1] + time * way[1], start[2] + time * way[2] - z
    length = sqrt(x * x + y * y + up * up)
    if length > 1e-6:
        out[0], out[1], out[2] = x / length, y / length, up / length
    else:  # in the very same place: the lower slot goes to −X
        out[0], out[1], out[2] = 1.0, 0.0, 0.0
    end = (start[0] + way[0]) * out[0] + (start[1] + way[1]) * out[1] + (start[2] + way[2] - z) * out[2]
    out[3] = reach - end
    return bool(out[3] > SLACK)


@kernel(counted=False)
def _height(state: StateColumns, slot: int, parameters: F64) -> float:
    height: float = parameters[CROUCHED] if state[5][slot] & CROUCHING else parameters[STANDING]
    return height


@kernel(counted=False)
def _touch(i: int, j: int, state: StateColumns, previous: F64, parameters: F64, scratch: F64) -> bool:
    """`_meeting` of two players with the heights they have."""
    low = 2.0 * parameters[RADIUS] - _height(state, j, parameters)
    high = _height(state, i, parameters) - 2.0 * parameters[RADIUS]
    return _meeting(i, j, state[0], previous, low, high, 2.0 * parameters[RADIUS], scratch)


@kernel(counted=False)
def _push(
    slot: int, x: float, y: float, z: float, way: float, state: StateColumns, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, candidates: I32, scratch: F64,
) -> float:  # fmt: skip
    """Push one player by `way` [m] along a direction, sliding along what the map has there; how far it came."""
    body, ray, corners, hit = scratch[0], scratch[1], scratch[2], scratch[3]
    for axis in range(3):
        body[axis] = state[0][slot, axis]
    body[9] = _height(state, slot, parameters)
    reach = parameters[RADIUS] + way + PUSH_MARGIN
    above = body[9] + way + PUSH_MARGIN
    surfaces = world[0]
    count = gather_near(
        geometry, surfaces, world[3], world[4],
        body[0] - reach, body[1] - reach, body[2] - way - PUSH_MARGIN,
        body[0] + reach, body[1] + reach, body[2] + above,
        MASK, candidates,
    )  # fmt: skip
    if count > len(candidates):
        return 0.0
    # Nobody is pushed into the floor: what is left of the push is level.
    dx, dy, dz = way * x, way * y, way * max(0.0, z)
    for _ in range(SLIDES):
        met = sweep_body(surfaces, candidates, count, body, dx, dy, dz, parameters[RADIUS], ray, corners, hit)
        body[0] += hit[0] * dx
        body[1] += hit[0] * dy
        body[2] += hit[0] * dz
        if met < 0:
            break
        left = 1.0 - hit[0]
        into = left * (dx * hit[1] + dy * hit[2] + dz * hit[3])
        dx, dy, dz = left * dx - into * hit[1], left * dy - into * hit[2], left * dz - into * hit[3]
    progress = 0.0
    for axis in range(3):
        progress += (body[axis] - state[0][slot, axis]) * (x if axis == 0 else y if axis == 1 else z)
        state[0][slot, axis] = body[axis]
    state[5][slot] |= NUDGED
    return progress


@kernel(counted=False)
def _slow(slot: int, x: float, y: float, z: float, velocity: F64) -> None:
    """Take from a velocity what goes along a direction."""
    into = velocity[slot, 0] * x + velocity[slot, 1] * y + velocity[slot, 2] * z
    if into > 0.0:
        velocity[slot, 0] -= into * x
        velocity[slot, 1] -= into * y
        velocity[slot, 2] -= into * z


@kernel(counted=False)
def _part(
    i: int, j: int, state: StateColumns, parameters: F64, geometry: GeometryArrays, world: WorldArrays,
    candidates: I32, scratch: F64,
) -> None:  # fmt: skip
    """Push two players apart along the direction and by the depth in scratch."""
    x, y, z, depth = scratch[5, 0], scratch[5, 1], scratch[5, 2], scratch[5, 3]
    _slow(i, x, y, z, state[1])
    _slow(j, -x, -y, -z, state[1])
    if abs(z) >= parameters[FLAT]:
        # One stands on the other's head and is carried straight up: the lower has a floor below it.
        upper = j if z > 0.0 else i
        state[5][upper] |= ON_GROUND
        state[2][upper, 0], state[2][upper, 1], state[2][upper, 2] = 0.0, 0.0, 1.0
        _push(upper, 0.0, 0.0, 1.0, depth / abs(z), state, parameters, geometry, world, candidates, scratch)
        return
    depth -= _push(i, -x, -y, -z, 0.5 * depth, state, parameters, geometry, world, candidates, scratch)
    depth -= _push(j, x, y, z, depth, state, parameters, geometry, world, candidates, scratch)
    if depth > SLACK:
        _push(i, -x, -y, -z, depth, state, parameters, geometry, world, candidates, scratch)


@kernel(
    f"({STATE_TYPE}, f8[:,::1], b1[::1], i4[:,::1], i8, f8[::1], {GEOMETRY_TYPE}, {WORLD_TYPE}, "
    "i8[::1], i4[::1], f8[:,::1])",
    counted=False,
)
def separate_players(
    state: StateColumns, previous: F64, active: Bool, pairs: I32, pair_count: int, parameters: F64,
    geometry: GeometryArrays, world: WorldArrays, keys: I64, candidates: I32, scratch: F64,
) -> int:  # fmt: skip
    """Part every pair of players that met during the tick.

    Args:
        state: Columns, changed in place.
        previous: Positions before the players moved [m], shape (n, 3).
        active: Which slots take part, shape (n,).
        pairs: Slots that may have met, each pair once, in any order; shape (m, 2).
        pair_count: How many of them are filled.
        parameters: `MotionParameters.vector()`.
        geometry: `Geometry.arrays`.
        world: As motion takes it.
        keys: Scratch for the pairs that meet.
        candidates: Scratch for triangle numbers.
        scratch: Shape (SCRATCH_ROWS, SCRATCH_COLUMNS) of `sim.motion_kernels`.

    Returns:
        How many pairs met. Where that exceeds len(keys), the last of `pairs` were left as they are this tick.
    """
    met = 0
    for p in range(pair_count):
        i, j = int(min(pairs[p, 0], pairs[p, 1])), int(max(pairs[p, 0], pairs[p, 1]))
        if i != j and active[i] and active[j] and _touch(i, j, state, previous, parameters, scratch):
            if met < len(keys):
                keys[met] = (i << 32) | j
            met += 1
    kept = min(met, len(keys))
    _sort(keys, kept)
    for _ in range(ROUNDS):
        for p in range(kept):
            i, j = int(keys[p] >> 32), int(keys[p] & 0xFFFFFFFF)
            if _touch(i, j, state, previous, parameters, scratch):
                _part(i, j, state, parameters, geometry, world, candidates, scratch)
    return met
