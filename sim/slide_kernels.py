"""A capsule that slides, steps and finds its feet among triangles: what motion is made of.

After Quake III's bg_slidemove.c (PM_SlideMove, PM_StepSlideMove), Source's StepMove and StayOnGround for keeping the
better of two ways and for going down stairs, rewritten for a capsule and exact sweeps. A capsule differs from their
box in one thing: it meets the edge of a step with its round end, so that the normal there says nothing about whether
one can stand on the step. `find_support` therefore asks the surfaces that touch the capsule, too.

One body is a float64 vector:

    0:3 feet [m] · 3:6 velocity at the end of the tick [m/s] · 6:9 mean velocity during the tick [m/s] · 9 height [m] ·
    10:13 ground normal (zero in the air) · 13 `Contents` of the ground ·
    14 height above the feet of what carries it [m]

Both velocities are clipped by what is met: the mean one moves the body, the other is what it goes on with. That
keeps jumps and stops the same at every tick rate (Quake III does the same with its primal and end velocity).
"""

from math import sqrt

from sim.arrays import F64, I32
from sim.jit import kernel
from sim.narrowphase_kernels import box_gap, nearest, set_ray, sweep_candidates

__all__ = [
    "AIR_ACCELERATION",
    "BLOCKED",
    "BODY_SIZE",
    "CROUCHED",
    "CROUCH_SCALE",
    "EMBEDDED",
    "FLAT",
    "FREE",
    "FRICTION",
    "GRAVITY",
    "GROUND_ACCELERATION",
    "JUMP",
    "OVERLAP_MAX",
    "PARAMETERS_SIZE",
    "PLANES_SIZE",
    "PROBE",
    "RADIUS",
    "RUN",
    "SLID",
    "SPEED_MAX",
    "STANDING",
    "STEP",
    "STOP_SPEED",
    "WALK_SCALE",
    "depenetrate",
    "find_ground",
    "find_support",
    "slide",
    "step_slide",
    "sweep_body",
]

RADIUS, STANDING, CROUCHED, RUN, WALK_SCALE, CROUCH_SCALE, GRAVITY, JUMP, FRICTION, STOP_SPEED = range(10)
GROUND_ACCELERATION, AIR_ACCELERATION, STEP, FLAT, SPEED_MAX = range(10, 15)
PARAMETERS_SIZE = 15

BODY_SIZE = 15
PLANES_MAX = 8
PLANES_SIZE = 3 * PLANES_MAX
BUMPS_MAX = 4  # directions a body may take in one tick (Quake III's number)
OVERCLIP = 1.001  # a clipped velocity leaves the plane a little, so that rounding cannot press it in
NUDGE = 0.01  # [m/s], away from a plane that is met again
TOUCHING = 1e-4  # [m]; surfaces this near carry the body
EDGE_NORMAL_MIN = 0.02  # an edge carries a body that is at least this much above it
LEAVING = 0.25  # [m/s] (Quake III: 10 units/s)
PROBE = 0.01  # [m]; ground this far below the feet is stood on
STEP_SLACK = 1e-3  # [m]
OVERLAP_MAX = 1e-6  # [m]; deeper overlaps are resolved
FREE, SLID, BLOCKED, EMBEDDED = range(4)


@kernel(counted=False)
def sweep_body(
    surfaces: F64, candidates: I32, count: int, body: F64, dx: float, dy: float, dz: float, radius: float,
    ray: F64, corners: F64, hit: F64,
) -> int:  # fmt: skip
    """`sweep_candidates` for a standing body."""
    set_ray(
        ray, (body[0], body[1], body[2] + radius), (dx, dy, dz), (0.0, 0.0, body[9] - 2.0 * radius), radius
    )  # fmt: skip
    return sweep_candidates(surfaces, candidates, count, ray, corners, hit)


@kernel(counted=False)
def _clip(body: F64, at: int, nx: float, ny: float, nz: float) -> None:
    """Take out of a velocity what goes into a plane."""
    into = body[at] * nx + body[at + 1] * ny + body[at + 2] * nz
    if into < 0.0:
        into *= OVERCLIP
        body[at] -= into * nx
        body[at + 1] -= into * ny
        body[at + 2] -= into * nz


@kernel(counted=False)
def _into(body: F64, at: int, planes: F64, i: int) -> float:
    into: float = body[at] * planes[3 * i] + body[at + 1] * planes[3 * i + 1] + body[at + 2] * planes[3 * i + 2]
    return into


@kernel(counted=False)
def _along_crease(body: F64, at: int, planes: F64, i: int, j: int) -> None:
    """Leave of a velocity only what runs along the line where two planes meet."""
    i, j = 3 * i, 3 * j
    x = planes[i + 1] * planes[j + 2] - planes[i + 2] * planes[j + 1]
    y = planes[i + 2] * planes[j] - planes[i] * planes[j + 2]
    z = planes[i] * planes[j + 1] - planes[i + 1] * planes[j]
    square = x * x + y * y + z * z
    along = (body[at] * x + body[at + 1] * y + body[at + 2] * z) / square if square > 1e-12 else 0.0
    body[at], body[at + 1], body[at + 2] = along * x, along * y, along * z


@kernel(counted=False)
def _clip_to_planes(body: F64, planes: F64, count: int) -> None:
    """Turn both velocities along every plane met: one, the crease of two, or a stop in the corner of three.

    What to do is decided by the mean velocity and done to both.
    """
    for i in range(count):
        if _into(body, 6, planes, i) >= 0.0:
            continue
        mx, my, mz = body[6], body[7], body[8]
        ex, ey, ez = body[3], body[4], body[5]
        for at in range(3, 9, 3):
            _clip(body, at, planes[3 * i], planes[3 * i + 1], planes[3 * i + 2])
        for j in range(count):
            if j == i or _into(body, 6, planes, j) >= 0.0:
                continue
            for at in range(3, 9, 3):
                _clip(body, at, planes[3 * j], planes[3 * j + 1], planes[3 * j + 2])
            if _into(body, 6, planes, i) >= 0.0:
                continue
            body[6], body[7], body[8] = mx, my, mz
            body[3], body[4], body[5] = ex, ey, ez
            for at in range(3, 9, 3):
                _along_crease(body, at, planes, i, j)
            for third in range(count):
                if third not in (i, j) and _into(body, 6, planes, third) < 0.0:
                    for axis in range(3, 9):
                        body[axis] = 0.0
                    return
        return


@kernel(counted=False)
def _met_before(planes: F64, count: int, hit: F64) -> bool:
    """Whether a plane like the one just met is already on the list."""
    for i in range(count):
        if planes[3 * i] * hit[1] + planes[3 * i + 1] * hit[2] + planes[3 * i + 2] * hit[3] > 0.999:
            return True
    return False


@kernel(counted=False)
def slide(
    surfaces: F64, candidates: I32, count: int, body: F64, dt: float, parameters: F64,
    ray: F64, corners: F64, hit: F64, planes: F64,
) -> int:  # fmt: skip
    """Move by the mean velocity for `dt`, sliding along what is met, in at most BUMPS_MAX directions.

    Returns:
        FREE, SLID along ground one can walk on, BLOCKED by something steeper, or EMBEDDED in it already.
    """
    known = 0
    if body[12] > 0.0:
        planes[0], planes[1], planes[2] = body[10], body[11], body[12]
        known = 1
    speed = sqrt(body[6] * body[6] + body[7] * body[7] + body[8] * body[8])
    if speed > 0.0:  # never turn back against the way one came
        for axis in range(3):
            planes[3 * known + axis] = body[6 + axis] / speed
        known += 1
    met = FREE
    left = dt
    for _ in range(BUMPS_MAX):
        dx, dy, dz = body[6] * left, body[7] * left, body[8] * left
        if dx * dx + dy * dy + dz * dz < 1e-20:
            return met
        triangle = sweep_body(surfaces, candidates, count, body, dx, dy, dz, parameters[RADIUS], ray, corners, hit)
        if hit[4] > OVERLAP_MAX:
            return EMBEDDED
        time = hit[0]
        body[0] += time * dx
        body[1] += time * dy
        body[2] += time * dz
        if triangle < 0:
            return met
        left -= time * left
        met = max(met, SLID if hit[3] >= parameters[FLAT] else BLOCKED)
        if _met_before(planes, known, hit):
            for axis in range(3):
                body[3 + axis] += NUDGE * hit[1 + axis]
                body[6 + axis] += NUDGE * hit[1 + axis]
            _clip(body, 6, hit[1], hit[2], hit[3])
            _clip(body, 3, hit[1], hit[2], hit[3])
            continue
        for axis in range(3):
            planes[3 * known + axis] = hit[1 + axis]
        known += 1
        _clip_to_planes(body, planes, known)
    return met


@kernel(counted=False)
def step_slide(
    surfaces: F64, candidates: I32, count: int, body: F64, dt: float, parameters: F64,
    ray: F64, corners: F64, hit: F64, planes: F64,
) -> int:  # fmt: skip
    """`slide`; where something is in the way, also from a step's height above, and keep what comes farther.

    Returns:
        As `slide`, of the way that was taken.
    """
    x, y, z = body[0], body[1], body[2]
    ex, ey, ez, mx, my, mz = body[3], body[4], body[5], body[6], body[7], body[8]
    met = slide(surfaces, candidates, count, body, dt, parameters, ray, corners, hit, planes)
    if met != BLOCKED:
        return met
    low_x, low_y, low_z = body[0], body[1], body[2]
    low_ex, low_ey, low_ez, low_mx, low_my, low_mz = body[3], body[4], body[5], body[6], body[7], body[8]
    step, radius = parameters[STEP], parameters[RADIUS]
    body[0], body[1], body[2] = x, y, z
    body[3], body[4], body[5], body[6], body[7], body[8] = ex, ey, ez, mx, my, max(0.0, mz)
    sweep_body(surfaces, candidates, count, body, 0.0, 0.0, step, radius, ray, corners, hit)
    raised = hit[0] * step
    body[2] += raised
    above = slide(surfaces, candidates, count, body, dt, parameters, ray, corners, hit, planes)
    drop = body[2] - z
    triangle = sweep_body(surfaces, candidates, count, body, 0.0, 0.0, -drop, radius, ray, corners, hit)
    body[2] -= hit[0] * drop
    far = (body[0] - x) * (body[0] - x) + (body[1] - y) * (body[1] - y)
    near = (low_x - x) * (low_x - x) + (low_y - y) * (low_y - y)
    if far > near + 1e-12 and triangle >= 0 and raised > 0.0:
        carried = find_support(surfaces, candidates, count, body, triangle, parameters, ray, corners, hit)
        if carried and body[2] + body[14] <= z + step + STEP_SLACK:
            body[5] = low_ez if low_ez < 0.0 else 0.0
            return above
    body[0], body[1], body[2] = low_x, low_y, low_z
    body[3], body[4], body[5] = low_ex, low_ey, low_ez
    body[6], body[7], body[8] = low_mx, low_my, low_mz
    return met


@kernel(counted=False)
def find_support(
    surfaces: F64, candidates: I32, count: int, body: F64, triangle: int, parameters: F64,
    ray: F64, corners: F64, hit: F64,
) -> bool:  # fmt: skip
    """Whether a body that has come down onto `triangle` can stand there; sets its ground where it can.

    Either the normal of contact is flat enough, or some other surface that touches it has such a normal, or it
    hangs on the edge of a surface that is flat enough itself: the tread of a step.
    """
    flat, radius = parameters[FLAT], parameters[RADIUS]
    if hit[3] >= flat:
        body[10], body[11], body[12] = hit[1], hit[2], hit[3]
        body[13], body[14] = surfaces[triangle, 19], radius * (1.0 - hit[3])
        return True
    set_ray(ray, (body[0], body[1], body[2] + radius), (0.0, 0.0, 0.0), (0.0, 0.0, body[9] - 2.0 * radius), radius)
    best, best_z = -1, 0.0
    for place in range(count):
        k = candidates[place]
        if box_gap(surfaces, k, ray) > TOUCHING:
            continue
        x, y, z, distance = nearest(surfaces, k, ray, corners)
        if distance > TOUCHING or z < EDGE_NORMAL_MIN:
            continue
        face = surfaces[k, 6] * x + surfaces[k, 7] * y + surfaces[k, 8] * z
        face_z = surfaces[k, 8] if face >= 0.0 else -surfaces[k, 8]
        carrying = max(z, face_z)
        if carrying < flat or carrying < best_z or (carrying == best_z and best >= 0 and k > best):
            continue
        best, best_z = k, carrying
        if z >= flat:
            body[10], body[11], body[12] = x, y, z
        else:
            sign = 1.0 if face >= 0.0 else -1.0
            body[10], body[11], body[12] = sign * surfaces[k, 6], sign * surfaces[k, 7], sign * surfaces[k, 8]
        body[13], body[14] = surfaces[k, 19], radius * (1.0 - z)
    return best >= 0


@kernel(counted=False)
def find_ground(
    surfaces: F64, candidates: I32, count: int, body: F64, reach: float, parameters: F64,
    ray: F64, corners: F64, hit: F64,
) -> bool:  # fmt: skip
    """Set the body on ground within `reach` [m] below it, and its ground normal; False where there is none.

    A body that flies up and away from what is below it (thrown by a jump pad past an edge) is left in the air. One
    that walked is held to the ground even over the top of a ramp.
    """
    body[10], body[11], body[12] = 0.0, 0.0, 0.0
    radius = parameters[RADIUS]
    triangle = sweep_body(surfaces, candidates, count, body, 0.0, 0.0, -reach, radius, ray, corners, hit)
    if triangle < 0:
        return False
    if reach == PROBE and body[5] > LEAVING and body[3] * hit[1] + body[4] * hit[2] + body[5] * hit[3] > LEAVING:
        return False
    z = body[2]
    body[2] -= hit[0] * reach
    if find_support(surfaces, candidates, count, body, triangle, parameters, ray, corners, hit):
        return True
    body[2] = z
    return False


@kernel(counted=False)
def depenetrate(
    surfaces: F64, candidates: I32, count: int, body: F64, radius: float, ray: F64, corners: F64, hit: F64
) -> bool:
    """Push the body out of what it is embedded in, deepest first; False where it is still embedded after that."""
    for _ in range(8):
        sweep_body(surfaces, candidates, count, body, 0.0, 0.0, 0.0, radius, ray, corners, hit)
        if hit[4] <= OVERLAP_MAX:
            return True
        for axis in range(3):
            body[axis] += hit[4] * hit[5 + axis]
    return False
