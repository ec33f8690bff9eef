"""How bots think: over all bots of a process in one call, from what a client knows and nothing more.

A bot decides a few times a second, in staggered groups, and moves its hands at every tick:

    decide   where am I (cell) · is the goal reached or out of reach · which way on · am I stuck · whom do I see
             (nearest opponents, a few rays) · which weapon · how well am I aiming by now
    act      turn towards the target's predicted place, or the way, with an error that shrinks while the target is
             kept · run, strafe, jump · pull the trigger in bursts · hold FIRE while dead, to live again

Tuples that kernels take:

    world   geometry · navigation · sine table · weapon table (sim.weapons_kernels) · weapon preference f8 (w, 3) for
            near, middle and far · goal fields i4 (g, cells) · goal worth f8 (g,) · item weapon i8 (items,) ·
            item rounds f8 (items,) · rounds at the start of a life f8 (w,)
    own     position f8 (n, 3) [m] · velocity f8 (n, 3) · flags u2 · health f8 · alive u1 · team i8 · tick i8 ·
            moment at which others are shown f8 [ticks]
    seen    entity ids u8 (n, slots) · state ticks i4 (n, slots) · fields i4 (n, slots, fields)
    memory  whole numbers i8 (n, MEMORY_WORDS) · numbers f8 (n, MEMORY_NUMBERS) · rounds thought left f8 (n, w)
    hands   buttons u2 · forward i1 · right i1 · yaw u2 · pitch i2 · weapon u1

Angles are in 65536ths of a turn. Only + − × ÷ sqrt and the sine table, so that a seed gives the same match everywhere.
"""

from math import sqrt
from typing import TypeAlias

from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U64
from sim.commands import Button
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit
from sim.jit import kernel, local_i64
from sim.motion_kernels import ON_GROUND
from sim.navigation_kernels import DROP, FAR, JUMP, NAVIGATION_TYPE, NONE, NavigationArrays, ahead, locate
from sim.rng import random_unit
from sim.trig_kernels import cosine, sine
from sim.weapons_kernels import EYE, W_GRAVITY, W_INTERVAL, W_MAGAZINE, W_RANGE, W_SPEED
from sim.worldmap import SHOT_MASK

__all__ = [
    "DEATHS",
    "FIGURES",
    "HEARD",
    "KILLS",
    "LAYOUT_WORDS",
    "MEMORY_NUMBERS",
    "MEMORY_WORDS",
    "OWN_ID",
    "hear",
    "think",
]

WORLD_TYPE = (
    f"Tuple(({GEOMETRY_TYPE}, {NAVIGATION_TYPE}, f8[::1], f8[:,::1], f8[:,::1], i4[:,::1], f8[::1], i8[::1], f8[::1], "
    "f8[::1]))"
)
OWN_TYPE = "Tuple((f8[:,::1], f8[:,::1], u2[::1], f8[::1], u1[::1], i8[::1], i8[::1], f8[::1]))"
SEEN_TYPE = "Tuple((u8[:,::1], i4[:,::1], i4[:,:,::1]))"
MEMORY_TYPE = "Tuple((i8[:,::1], f8[:,::1], f8[:,::1]))"
HANDS_TYPE = "Tuple((u2[::1], i1[::1], i1[::1], u2[::1], i2[::1], u1[::1]))"
World: TypeAlias = tuple[GeometryArrays, NavigationArrays, F64, F64, F64, I32, F64, I64, F64, F64]
Own: TypeAlias = tuple[F64, F64, U16, F64, U8, I64, I64, F64]
Seen: TypeAlias = tuple[U64, I32, I32]
Memory: TypeAlias = tuple[I64, F64, F64]
Hands: TypeAlias = tuple[U16, I8, I8, U16, I16, U8]

# Whole numbers that a bot remembers.
(
    GOAL, GOAL_UNTIL, WAY, LINK, TARGET, TARGET_SINCE, VISIBLE, STRAFE, STRAFE_UNTIL, MARK_TICK, ESCAPE_UNTIL,
    ESCAPE_YAW, BURST_UNTIL, PAUSE_UNTIL, WEAPON, OWNED, LIVED, HOP, FLUNG, SPENT, HEARD, KILLS, DEATHS, OWN_ID, TURN,
) = range(25)  # fmt: skip
MEMORY_WORDS = 25
YAW, PITCH, ERROR_YAW, ERROR_PITCH, MARK_X, MARK_Y, MARK_Z = range(7)
MEMORY_NUMBERS = 7
# Where in a row of fields, and which kinds: −1 where the game has none.
F_KIND, F_ALIVE, F_TEAM, F_AVAILABLE, F_ITEM, KIND_PLAYER, KIND_PICKUP = range(7)
LAYOUT_WORDS = 7
# Figures: ticks a second, ticks between decisions, skill 0 … 1, steps of position [m] and velocity [m/s], seed, and
# whether they shoot (1) or not (0).
HZ, EVERY, SKILL, POSITION_STEP, VELOCITY_STEP, SEED, ARMED = range(7)
FIGURES = 7

STREAM = 4  # `sim.rng.RNG_STREAMS["bots"]`
JUMP_KEY, FIRE_KEY, RELOAD_KEY = int(Button.JUMP), int(Button.FIRE), int(Button.RELOAD)
BODY = 1.4  # [m]
AIM_AT = 0.6  # of the body's height: the middle of the torso
FEET_AT = 0.15  # for weapons with a blast
SIGHT_M = 120.0
BEHIND_M = 9.0  # steps are heard that far
RAYS = 3  # per decision
DEGREE = 182.04
ANGLE_PER_RADIAN = 10430.378350470453
STUCK_S, ESCAPE_S, GIVE_UP_S = 0.6, 1.3, 4.0
GOAL_S = 20.0
BEFORE_S = 0.1  # how far before its last state
PREDICT_S = 0.4  # how far ahead of its last state a target is thought to have moved
FLUNG_SPEED = 7.5  # [m/s] upwards: no jump is that fast, a pad is
DEEP_M = 2.0


@kernel(counted=False)
def _random(figures: F64, tick: int, row: int, draw: int) -> float:
    drawn: float = random_unit(int(figures[SEED]), STREAM, tick, row, draw)
    return drawn


@kernel(counted=False)
def _wrap(angle: float) -> float:
    """An angle between half a turn back and half a turn on."""
    while angle > 32768.0:
        angle -= 65536.0
    while angle < -32768.0:
        angle += 65536.0
    return angle


@kernel(counted=False)
def _bearing(x: float, y: float) -> float:
    """The angle of (x, y), within a fifth of a unit; 0 for the zero vector.

    Abramowitz and Stegun 1964, 4.4.49 (Hastings): two searches of the sine table per tick, as `sim.trig_kernels` has
    it for what clients must reproduce, were a quarter of what a bot costs to act.
    """
    steep = abs(y) > abs(x)
    long, short = (abs(y), abs(x)) if steep else (abs(x), abs(y))
    if not long > 0.0:
        return 0.0
    t = short / long
    u = t * t
    angle = t * (0.9998660 + u * (-0.3302995 + u * (0.1801410 + u * (-0.0851330 + u * 0.0208351)))) * ANGLE_PER_RADIAN
    angle = 16384.0 - angle if steep else angle
    angle = 32768.0 - angle if x < 0.0 else angle
    return -angle if y < 0.0 else angle


@kernel(counted=False)
def _place(seen: Seen, row: int, slot: int, moment: float, figures: F64, axis: int, later_s: float) -> float:
    """Where along an axis an entity is `later_s` after a moment, if it goes on as it was last known to [m].

    The moment is that which its client shows, since shots are judged by that; it lies a little before the newest state
    or after it, and what is between two states is near enough to the line through the newer.
    """
    state_tick, fields = seen[1], seen[2]
    age = min(max((moment - state_tick[row, slot]) / figures[HZ], -BEFORE_S), PREDICT_S) + later_s
    speed = fields[row, slot, 3 + axis] * figures[VELOCITY_STEP]
    place: float = fields[row, slot, axis] * figures[POSITION_STEP] + speed * age
    return place


@kernel(counted=False)
def _opponent(seen: Seen, row: int, slot: int, team: int, layout: I64) -> bool:
    """Whether a slot holds a living player of another team."""
    if seen[0][row, slot] == 0 or seen[2][row, slot, layout[F_KIND]] != layout[KIND_PLAYER]:
        return False
    if layout[F_ALIVE] >= 0 and seen[2][row, slot, layout[F_ALIVE]] == 0:
        return False
    return team == 0 or layout[F_TEAM] < 0 or seen[2][row, slot, layout[F_TEAM]] != team


@kernel(counted=False)
def _sees(world: World, own: Own, seen: Seen, row: int, slot: int, figures: F64) -> bool:
    """Whether nothing stands between a bot's eye and the torso of a player."""
    x, y, z, moment = own[0][row, 0], own[0][row, 1], own[0][row, 2] + EYE * BODY, own[7][row]
    dx = _place(seen, row, slot, moment, figures, 0, 0.0) - x
    dy = _place(seen, row, slot, moment, figures, 1, 0.0) - y
    dz = _place(seen, row, slot, moment, figures, 2, 0.0) + AIM_AT * BODY - z
    return not any_hit(world[0], x, y, z, dx, dy, dz, 1.0, SHOT_MASK)


@kernel(counted=False)
def _look_around(world: World, own: Own, seen: Seen, memory: Memory, row: int, layout: I64, figures: F64) -> None:
    """Choose the nearest opponent that can be seen; the present one is given up reluctantly."""
    minds, tick = memory[0], own[6][row]
    ahead_x = cosine(world[2], int(memory[1][row, YAW]))
    ahead_y = sine(world[2], int(memory[1][row, YAW]))
    nearest = local_i64(RAYS)
    nearest[:] = -1
    distances = (1e18, 1e18, 1e18)
    for slot in range(seen[0].shape[1]):
        if not _opponent(seen, row, slot, own[5][row], layout):
            continue
        dx = seen[2][row, slot, 0] * figures[POSITION_STEP] - own[0][row, 0]
        dy = seen[2][row, slot, 1] * figures[POSITION_STEP] - own[0][row, 1]
        dz = seen[2][row, slot, 2] * figures[POSITION_STEP] - own[0][row, 2]
        square = dx * dx + dy * dy + dz * dz
        if square > SIGHT_M * SIGHT_M or (square > BEHIND_M * BEHIND_M and dx * ahead_x + dy * ahead_y < 0.0):
            continue
        if slot == minds[row, TARGET]:
            square *= 0.5
        a, b, c = distances
        if square < a:
            distances = (square, a, b)
            nearest[2], nearest[1], nearest[0] = nearest[1], nearest[0], slot
        elif square < b:
            distances = (a, square, b)
            nearest[2], nearest[1] = nearest[1], slot
        elif square < c:
            distances = (a, b, square)
            nearest[2] = slot
    minds[row, VISIBLE] = 0
    for k in range(RAYS):
        slot = nearest[k]
        if slot >= 0 and _sees(world, own, seen, row, slot, figures):
            if slot != minds[row, TARGET]:
                _acquire(memory, row, slot, tick, figures)
            minds[row, VISIBLE] = 1
            return
    if tick - minds[row, TARGET_SINCE] > 2 * int(figures[HZ]):
        minds[row, TARGET] = -1


@kernel(counted=False)
def _acquire(memory: Memory, row: int, slot: int, tick: int, figures: F64) -> None:
    """Take a new target: the aim is off at first."""
    memory[0][row, TARGET], memory[0][row, TARGET_SINCE] = slot, tick
    wild = 14.0 * DEGREE * (1.2 - figures[SKILL])
    memory[1][row, ERROR_YAW] = (2.0 * _random(figures, tick, row, 10) - 1.0) * wild
    memory[1][row, ERROR_PITCH] = (2.0 * _random(figures, tick, row, 11) - 1.0) * 0.4 * wild


@kernel(counted=False)
def _settle(memory: Memory, row: int, tick: int, figures: F64) -> None:
    """The error shrinks with time, down to a tremble."""
    keep = max(0.0, 1.0 - (2.0 + 4.0 * figures[SKILL]) * figures[EVERY] / figures[HZ])
    tremble = 2.2 * DEGREE * (1.1 - figures[SKILL])
    numbers = memory[1]
    numbers[row, ERROR_YAW] = numbers[row, ERROR_YAW] * keep + (2.0 * _random(figures, tick, row, 12) - 1.0) * tremble
    numbers[row, ERROR_PITCH] = (
        numbers[row, ERROR_PITCH] * keep + (2.0 * _random(figures, tick, row, 13) - 1.0) * 0.4 * tremble
    )


@kernel(counted=False)
def _choose_goal(world: World, memory: Memory, row: int, cell: int, tick: int, figures: F64) -> None:
    """Of a few goals at random the one that is worth most for its distance."""
    fields, worth = world[5], world[6]
    best = -1.0
    memory[0][row, GOAL] = -1
    for draw in range(5):
        goal = int(_random(figures, tick, row, 20 + draw) * len(worth))
        distance = fields[goal, cell]
        # Near things first, but not the one the bot stands on.
        if distance >= FAR or distance <= 10:
            continue
        value = worth[goal] / (60.0 + distance)
        if value > best:
            best = value
            memory[0][row, GOAL] = goal
    memory[0][row, GOAL_UNTIL] = tick + int(GOAL_S * figures[HZ])


@kernel(counted=False)
def _footing(world: World, x: float, y: float, z: float) -> bool:
    """Whether one can stand at a place, or a step above or below it."""
    cell = locate(world[1], x, y, z, 0)
    return cell >= 0 and abs(world[1][3][cell, 2] - z) < 0.8


@kernel(counted=False)
def _find_way(world: World, own: Own, memory: Memory, row: int, figures: F64) -> None:
    """Where to go next: a cell a few links down the field of the goal."""
    minds, tick = memory[0], own[6][row]
    x, y, z = own[0][row, 0], own[0][row, 1], own[0][row, 2]
    cell = locate(world[1], x, y, z, 1)
    if cell < 0:
        cell = locate(world[1], x, y, z, 4)
    if cell < 0:
        minds[row, WAY], minds[row, LINK] = -1, NONE
        return
    goal = minds[row, GOAL]
    if goal < 0 or tick >= minds[row, GOAL_UNTIL] or not 10 < world[5][goal, cell] < FAR:
        _choose_goal(world, memory, row, cell, tick, figures)
        goal = minds[row, GOAL]
    if goal < 0:
        minds[row, WAY], minds[row, LINK] = cell, NONE
        return
    way, link = ahead(world[1], world[5][goal], cell, 3)
    place = world[1][3][way]
    # Not across the corner of a pit.
    if not _footing(world, 0.5 * (x + place[0]), 0.5 * (y + place[1]), 0.5 * (z + place[2])):
        way, link = ahead(world[1], world[5][goal], cell, 1)
    minds[row, WAY], minds[row, LINK] = way, link


@kernel(counted=False)
def _get_unstuck(world: World, own: Own, memory: Memory, row: int, figures: F64) -> None:
    """Whoever does not get on hops, then runs some other way, then wants something else."""
    minds, numbers, tick = memory[0], memory[1], own[6][row]
    dx = own[0][row, 0] - numbers[row, MARK_X]
    dy = own[0][row, 1] - numbers[row, MARK_Y]
    dz = own[0][row, 2] - numbers[row, MARK_Z]
    if dx * dx + dy * dy + dz * dz > 0.64:
        numbers[row, MARK_X], numbers[row, MARK_Y], numbers[row, MARK_Z] = (
            own[0][row, 0],
            own[0][row, 1],
            own[0][row, 2],
        )
        minds[row, MARK_TICK] = tick
        return
    waited = (tick - minds[row, MARK_TICK]) / figures[HZ]
    if waited > STUCK_S:
        minds[row, HOP] = 1
    if waited > ESCAPE_S and tick >= minds[row, ESCAPE_UNTIL]:
        yaw = int(_random(figures, tick, row, 30) * 65536.0)
        x, y = own[0][row, 0] + 1.5 * cosine(world[2], yaw), own[0][row, 1] + 1.5 * sine(world[2], yaw)
        if _footing(world, x, y, own[0][row, 2]):
            minds[row, ESCAPE_UNTIL], minds[row, ESCAPE_YAW] = tick + int(0.45 * figures[HZ]), yaw
    if waited > GIVE_UP_S:
        minds[row, GOAL], minds[row, MARK_TICK] = -1, tick


@kernel(counted=False)
def _take_stock(world: World, own: Own, seen: Seen, memory: Memory, row: int, layout: I64, figures: F64) -> None:
    """Weapons and rounds that lie underfoot are thought to be taken; the server tells of neither."""
    if layout[F_ITEM] < 0 or layout[KIND_PICKUP] < 0:
        return
    for slot in range(seen[0].shape[1]):
        if seen[0][row, slot] == 0 or seen[2][row, slot, layout[F_KIND]] != layout[KIND_PICKUP]:
            continue
        if layout[F_AVAILABLE] >= 0 and seen[2][row, slot, layout[F_AVAILABLE]] == 0:
            continue
        dx = seen[2][row, slot, 0] * figures[POSITION_STEP] - own[0][row, 0]
        dy = seen[2][row, slot, 1] * figures[POSITION_STEP] - own[0][row, 1]
        dz = seen[2][row, slot, 2] * figures[POSITION_STEP] - own[0][row, 2]
        item = seen[2][row, slot, layout[F_ITEM]]
        if dx * dx + dy * dy + dz * dz > 1.3 * 1.3 or item >= len(world[7]):
            continue
        weapon = world[7][item]
        if weapon == 0:
            continue
        if weapon > 0:
            memory[0][row, OWNED] |= 1 << weapon
        weapon = abs(weapon)
        memory[2][row, weapon] = max(memory[2][row, weapon], world[8][item])


@kernel(counted=False)
def _choose_weapon(world: World, own: Own, seen: Seen, memory: Memory, row: int, figures: F64) -> None:
    """The best weapon for the distance among those that are thought to be owned and loaded."""
    minds, target = memory[0], memory[0][row, TARGET]
    band = 1
    if target >= 0:
        dx = seen[2][row, target, 0] * figures[POSITION_STEP] - own[0][row, 0]
        dy = seen[2][row, target, 1] * figures[POSITION_STEP] - own[0][row, 1]
        square = dx * dx + dy * dy
        band = 0 if square < 49.0 else (1 if square < 324.0 else 2)
    best, choice = 0.0, 1
    for weapon in range(1, len(world[3])):
        if (minds[row, OWNED] >> weapon) & 1 == 0 or memory[2][row, weapon] < 1.0:
            continue
        value = world[4][weapon, band] + (1.0 if weapon == minds[row, WEAPON] else 0.0)
        if value > best:
            best, choice = value, weapon
    if choice != minds[row, WEAPON]:
        minds[row, WEAPON], minds[row, SPENT] = choice, 0


@kernel(counted=False)
def _mind_the_edge(world: World, own: Own, memory: Memory, row: int) -> None:
    """Strafe only where there is footing, else the other way, else not at all."""
    minds, yaw = memory[0], int(memory[1][row, YAW])
    right_x, right_y = sine(world[2], yaw), -cosine(world[2], yaw)
    for _ in range(2):
        side = 1.2 * minds[row, STRAFE]
        if _footing(world, own[0][row, 0] + side * right_x, own[0][row, 1] + side * right_y, own[0][row, 2]):
            return
        minds[row, STRAFE] = -minds[row, STRAFE]
    minds[row, STRAFE] = 0


@kernel(counted=False)
def _decide(world: World, own: Own, seen: Seen, memory: Memory, row: int, layout: I64, figures: F64) -> None:
    """Decide anew: where to go and what to look at by turns, so that each is decided half as often.

    Both at every decision took 3.3 µs per bot and tick, by turns 2.1.
    """
    minds, tick, hz = memory[0], own[6][row], figures[HZ]
    minds[row, HOP] = 0
    minds[row, TURN] ^= 1
    if minds[row, TURN] == 1:
        _find_way(world, own, memory, row, figures)
        _get_unstuck(world, own, memory, row, figures)
    else:
        _look_around(world, own, seen, memory, row, layout, figures)
        _take_stock(world, own, seen, memory, row, layout, figures)
    _settle(memory, row, tick, figures)
    _choose_weapon(world, own, seen, memory, row, figures)
    if tick >= minds[row, STRAFE_UNTIL]:
        minds[row, STRAFE] = int(3.0 * _random(figures, tick, row, 40)) - 1
        minds[row, STRAFE_UNTIL] = tick + int((0.3 + 0.9 * _random(figures, tick, row, 41)) * hz)
    if minds[row, VISIBLE] == 1:
        if minds[row, STRAFE] != 0:
            _mind_the_edge(world, own, memory, row)
        if _random(figures, tick, row, 42) < 0.02:
            minds[row, HOP] = 1
        if tick >= minds[row, PAUSE_UNTIL]:
            minds[row, BURST_UNTIL] = tick + int((0.5 + 0.9 * _random(figures, tick, row, 43)) * hz)
            pause = int((0.1 + 0.4 * _random(figures, tick, row, 44)) * hz)
            minds[row, PAUSE_UNTIL] = minds[row, BURST_UNTIL] + pause


@kernel(counted=False)
def _turn(memory: Memory, row: int, yaw: float, pitch: float, figures: F64) -> None:
    """Turn towards an angle, fast when far off, never faster than two turns a second."""
    numbers = memory[1]
    gain = min(1.0, (10.0 + 8.0 * figures[SKILL]) / figures[HZ])
    most = 2.0 * 65536.0 / figures[HZ]
    step = _wrap(yaw - numbers[row, YAW]) * gain
    numbers[row, YAW] = _wrap(numbers[row, YAW] + min(max(step, -most), most))
    step = (pitch - numbers[row, PITCH]) * gain
    numbers[row, PITCH] = min(max(numbers[row, PITCH] + min(max(step, -most), most), -16000.0), 16000.0)


@kernel(counted=False)
def _aim(world: World, own: Own, seen: Seen, memory: Memory, row: int, figures: F64) -> bool:
    """Turn towards the target, ahead of it for what flies; whether a shot now is likely to hit."""
    minds, numbers = memory[0], memory[1]
    slot, moment, weapon = minds[row, TARGET], own[7][row], minds[row, WEAPON]
    x, y, z = own[0][row, 0], own[0][row, 1], own[0][row, 2] + EYE * BODY
    speed = world[3][weapon, W_SPEED]
    gravity, blast = world[3][weapon, W_GRAVITY], speed > 0.0 and speed < 40.0
    part = FEET_AT if blast else AIM_AT
    dx = _place(seen, row, slot, moment, figures, 0, 0.0) - x
    dy = _place(seen, row, slot, moment, figures, 1, 0.0) - y
    dz = _place(seen, row, slot, moment, figures, 2, 0.0) + part * BODY - z
    distance = sqrt(dx * dx + dy * dy + dz * dz)
    if speed > 0.0:
        flight = distance / speed
        dx = _place(seen, row, slot, moment, figures, 0, flight) - x
        dy = _place(seen, row, slot, moment, figures, 1, flight) - y
        dz += 0.5 * gravity * flight * flight
    flat = sqrt(dx * dx + dy * dy)
    yaw, pitch = _bearing(dx, dy), _bearing(flat, dz)
    _turn(memory, row, yaw + numbers[row, ERROR_YAW], pitch + numbers[row, ERROR_PITCH], figures)
    off = abs(_wrap(yaw - numbers[row, YAW])) + abs(pitch - numbers[row, PITCH])
    fits = off < 1.5 * DEGREE + ANGLE_PER_RADIAN * 0.5 / max(distance, 0.5)
    return fits and distance < world[3][weapon, W_RANGE] and not (blast and distance < 3.5)


@kernel(counted=False)
def _run(world: World, own: Own, memory: Memory, row: int, hands: Hands) -> int:
    """Set the feet; returns buttons."""
    minds, tick, table = memory[0], own[6][row], world[2]
    grounded = own[2][row] & ON_GROUND != 0
    minds[row, FLUNG] = int(not grounded and (minds[row, FLUNG] == 1 or own[1][row, 2] > FLUNG_SPEED))
    way = minds[row, WAY]
    dx, dy, buttons = 0.0, 0.0, 0
    if tick < minds[row, ESCAPE_UNTIL]:
        dx, dy = cosine(table, minds[row, ESCAPE_YAW]), sine(table, minds[row, ESCAPE_YAW])
    elif way >= 0:
        dx, dy = world[1][3][way, 0] - own[0][row, 0], world[1][3][way, 1] - own[0][row, 1]
    length = sqrt(dx * dx + dy * dy)
    if length > 0.05:
        dx, dy = dx / length, dy / length
    # A flight is over where the pad says it is: hands off.
    if length <= 0.05 or minds[row, FLUNG] == 1:
        dx, dy = 0.0, 0.0
    ahead_x, ahead_y = cosine(table, int(memory[1][row, YAW])), sine(table, int(memory[1][row, YAW]))
    forward, right = dx * ahead_x + dy * ahead_y, dx * ahead_y - dy * ahead_x
    if minds[row, VISIBLE] == 1 and minds[row, LINK] != JUMP and minds[row, FLUNG] == 0:
        right += 0.9 * minds[row, STRAFE]
    largest = max(abs(forward), abs(right), 1.0)
    # Who runs over the edge of a deep fall lands far beyond what is below it.
    if minds[row, LINK] == DROP and way >= 0 and world[1][3][way, 2] < own[0][row, 2] - DEEP_M:
        largest *= 4.0
    hands[1][row], hands[2][row] = int(127.0 * forward / largest), int(127.0 * right / largest)
    climbs = minds[row, LINK] == JUMP and length < 1.6
    # A key that is held jumps once: every other tick it is let go.
    if grounded and (climbs or minds[row, HOP] == 1) and tick & 1 == 0:
        buttons |= JUMP_KEY
    return buttons


@kernel(counted=False)
def _act(world: World, own: Own, seen: Seen, memory: Memory, row: int, figures: F64, hands: Hands) -> None:
    minds, numbers, tick = memory[0], memory[1], own[6][row]
    weapon = minds[row, WEAPON]
    buttons, target = 0, minds[row, TARGET]
    if target >= 0 and seen[0][row, target] != 0:
        likely = _aim(world, own, seen, memory, row, figures)
        reaction = int((0.4 - 0.3 * figures[SKILL]) * figures[HZ])
        ready = minds[row, VISIBLE] == 1 and tick - minds[row, TARGET_SINCE] >= reaction
        if likely and ready and figures[ARMED] > 0.0 and tick < minds[row, BURST_UNTIL]:
            buttons |= FIRE_KEY
            memory[2][row, weapon] -= 1.0 / (figures[HZ] * max(world[3][weapon, W_INTERVAL], 0.02))
            minds[row, SPENT] += 1
    else:
        way = minds[row, WAY]
        if way >= 0:
            dx, dy = world[1][3][way, 0] - own[0][row, 0], world[1][3][way, 1] - own[0][row, 1]
            if dx * dx + dy * dy > 0.3:
                _turn(memory, row, _bearing(dx, dy), 0.0, figures)
        # Reload in peace, once more than half a magazine may be gone.
        spent = minds[row, SPENT] / (figures[HZ] * max(world[3][weapon, W_INTERVAL], 0.02))
        if world[3][weapon, W_MAGAZINE] > 0.0 and spent > 0.5 * world[3][weapon, W_MAGAZINE]:
            buttons |= RELOAD_KEY
            minds[row, SPENT] = 0
    buttons |= _run(world, own, memory, row, hands)
    hands[0][row] = buttons
    hands[3][row] = int(numbers[row, YAW]) & 65535
    hands[4][row] = int(numbers[row, PITCH])
    hands[5][row] = weapon


@kernel(counted=False)
def _wait(own: Own, memory: Memory, row: int, hands: Hands) -> None:
    """Dead: hold FIRE, and remember nothing of this life."""
    minds, tick = memory[0], own[6][row]
    # Deaths are seen, not heard: in a crowd the event may not find room in any snapshot.
    minds[row, DEATHS] += minds[row, LIVED]
    minds[row, LIVED] = 0
    minds[row, GOAL], minds[row, TARGET], minds[row, WAY] = -1, -1, -1
    minds[row, VISIBLE], minds[row, HOP], minds[row, SPENT] = 0, 0, 0
    minds[row, MARK_TICK], minds[row, ESCAPE_UNTIL] = tick, 0
    hands[0][row] = FIRE_KEY
    hands[1][row], hands[2][row] = 0, 0
    hands[5][row] = 0


@kernel(counted=False)
def _begin_life(world: World, memory: Memory, row: int) -> None:
    """A new life begins with what the game gives."""
    memory[0][row, LIVED], memory[0][row, OWNED], memory[0][row, WEAPON] = 1, 0, 1
    for weapon in range(len(world[9])):
        memory[2][row, weapon] = world[9][weapon]
        if world[9][weapon] > 0.0:
            memory[0][row, OWNED] |= 1 << weapon


@kernel(f"(u1[::1], {WORLD_TYPE}, {OWN_TYPE}, {SEEN_TYPE}, i8[::1], f8[::1], {MEMORY_TYPE}, {HANDS_TYPE})")
def think(due: U8, world: World, own: Own, seen: Seen, layout: I64, figures: F64, memory: Memory, hands: Hands) -> int:
    """Give every bot that is due its next input.

    Args:
        due: Which bots, shape (n,).
        world: What all bots share, see the top of this file; so are the other tuples.
        own: The state of each bot's own player, as its client predicts it; the tick is that of the input.
        seen: What its client knows of others.
        layout: Where in the fields what stands.
        figures: See `FIGURES`.
        memory: Updated.
        hands: The inputs.

    Returns:
        How many of them decided anew.
    """
    decided, every = 0, int(figures[EVERY])
    for row in range(len(due)):
        if due[row] == 0:
            continue
        if own[4][row] == 0:
            _wait(own, memory, row, hands)
            continue
        fresh = memory[0][row, LIVED] == 0
        if fresh:
            _begin_life(world, memory, row)
            memory[0][row, TURN] = 0  # a way first
        if fresh or (own[6][row] + row) % every == 0:
            _decide(world, own, seen, memory, row, layout, figures)
            decided += 1
        _act(world, own, seen, memory, row, figures, hands)
    return decided


@kernel("(i8[:], i8[:,:], u8[:,:], u8[:,:], i8, i8[:,::1])")
def hear(count: I64, kind: I64, actor: U64, target: U64, kill: int, minds: I64) -> int:
    """Take note of the events that came since the last call: whom one killed.

    Args:
        count: Events each client has received, shape (n,).
        kind: Ring of the newest, shape (n, ring); so are actor and target.
        actor: Entities that caused them.
        target: Entities they happened to.
        kill: Number of the kind of event that is a kill.
        minds: Whole numbers that bots remember; updated.

    Returns:
        How many events were overwritten before they were read.
    """
    ring, lost = kind.shape[1], 0
    for row in range(len(count)):
        first = max(minds[row, HEARD], count[row] - ring)
        lost += first - minds[row, HEARD] if count[row] >= minds[row, HEARD] else 0
        for number in range(first, count[row]):
            k = number % ring
            if kind[row, k] == kill and minds[row, OWN_ID] != 0:
                killer, killed = int(actor[row, k]), int(target[row, k])
                if killer == minds[row, OWN_ID] and killed != killer:
                    minds[row, KILLS] += 1
        minds[row, HEARD] = count[row]
    return lost
