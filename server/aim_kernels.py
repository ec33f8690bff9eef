"""Kernels behind `server.aim`: what hits and views of players tell about who, or what, aims.

STATE is a tuple of columns by player row:

    last     i8 (rows, LAST)         entity; last shot, begin of its burst; weapon; whom it hit last, and when
    hits     i8 (rows, WEAPONS, 2)   hits by weapon, and how many of them in the head
    samples  f8 (rows, 2, RING)      REACTION [ms], SNAP [°]: the newest of each, a ring
    taken    i8 (rows, 2)            samples ever taken of each
    shares   i8 (rows, 2, 2)         TRIGGER: bursts that hit, and of them those begun as the aim came onto the target;
                                     FOLLOWS: looks at its view, and how often that went with somebody behind a wall

Rows of who has gone are cleared when another entity turns up in them.
"""

from math import acos, cos, pi, sin, sqrt
from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I64, U8, U16
from sim.commands import REWIND_STEPS
from sim.events_kernels import EVENTS_TYPE, EventArrays
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, any_hit
from sim.hitbox_kernels import PART_HEAD
from sim.jit import kernel
from sim.rewind_kernels import FEET, HEIGHT, HISTORY_TYPE, IDS, PITCH, YAW, HistoryArrays
from sim.weapons_kernels import EYE
from sim.worldmap import SHOT_MASK

__all__ = [
    "AIM_STATE_TYPE", "FOLLOWS", "LAST", "REACTION", "RING", "SNAP", "TRIGGER", "WEAPONS", "AimState", "note_hits",
    "watch_walls",
]  # fmt: skip

AIM_STATE_TYPE = "Tuple((i8[:,::1], Array(i8, 3, 'C'), Array(f8, 3, 'C'), i8[:,::1], Array(i8, 3, 'C')))"
AimState: TypeAlias = tuple[I64, I64, F64, I64, I64]
L_ENTITY, L_SHOT, L_BURST, L_WEAPON, L_TARGET, L_HIT = range(6)
LAST = 6
WEAPONS = 16
RING = 32
REACTION, SNAP = range(2)
TRIGGER, FOLLOWS = range(2)

SLOT_MASK = (1 << 24) - 1
RADIAN = 2.0 * pi / 65536.0
BODY_M = 0.3  # from the middle of a body, within which an aim is on it; a little more than a torso
MIDDLE = 0.6  # of a body's height
HALF_VIEW = 0.7  # cosine of 45°
BACK_S, STEP_S, BURST_S, ANEW_S, LEADS_S, TRIGGER_S = 0.5, 0.05, 0.3, 1.5, 0.3, 0.05
BACK_MAX = 128  # ticks
FOLLOW_COSINE = 0.9962  # 5°
MOVED_COSINE = 0.9903  # 8°
FOLLOW_S = 0.4
FOLLOW_M = 45.0
Vector: TypeAlias = tuple[float, float, float]


@kernel(counted=False)
def _view(history: HistoryArrays, slot: int, row: int) -> Vector:
    """Unit vector of a view."""
    yaw, pitch = history[YAW][slot, row] * RADIAN, history[PITCH][slot, row] * RADIAN
    return cos(pitch) * cos(yaw), cos(pitch) * sin(yaw), sin(pitch)


@kernel(counted=False)
def _way(
    history: HistoryArrays, slot: int, row: int, then: int, target: int, up: float
) -> tuple[Vector, Vector, float]:
    """From the eye of `row` at a tick to a target at another: where from, the way, how long it is [m]."""
    feet, height = history[FEET], history[HEIGHT]
    eye = (feet[slot, row, 0], feet[slot, row, 1], feet[slot, row, 2] + EYE * height[slot, row])
    x, y = feet[then, target, 0] - eye[0], feet[then, target, 1] - eye[1]
    z = feet[then, target, 2] + up * height[then, target] - eye[2]
    return eye, (x, y, z), max(sqrt(x * x + y * y + z * z), 1e-6)


@kernel(counted=False)
def _hidden(geometry: GeometryArrays, eye: Vector, way: Vector) -> bool:
    return any_hit(geometry, eye[0], eye[1], eye[2], way[0], way[1], way[2], 1.0, SHOT_MASK)


@kernel(counted=False)
def _sees(history: HistoryArrays, geometry: GeometryArrays, slot: int, row: int, then: int, target: int) -> bool:
    """Whether a player had another in view, with nothing between its eye and the other's middle or head."""
    view = _view(history, slot, row)
    for part in range(2):
        eye, way, length = _way(history, slot, row, then, target, MIDDLE + 0.3 * part)
        if view[0] * way[0] + view[1] * way[1] + view[2] * way[2] < HALF_VIEW * length:
            return False
        if not _hidden(geometry, eye, way):
            return True
    return False


@kernel(counted=False)
def _sample(state: AimState, row: int, measure: int, value: float) -> None:
    state[2][row, measure, state[3][row, measure] % RING] = value
    state[3][row, measure] += 1


@kernel(counted=False)
def _clear(state: AimState, row: int, entity: np.int64) -> None:
    """Forget whoever had this row before."""
    last, hits, _, taken, shares = state
    last[row, :] = 0
    last[row, L_ENTITY] = entity
    hits[row] = 0
    taken[row] = 0
    shares[row] = 0


@kernel(counted=False)
def _look_back(
    history: HistoryArrays, geometry: GeometryArrays, figures: tuple[int, int, float], pair: tuple[int, int],
    rewind: int, state: AimState,
) -> int:  # fmt: skip
    """Since when a target had been seen as it was engaged, and how far the view had turned.

    Returns:
        For how many ticks the aim had been on it; 0 where it was not, −1 where nothing is known.
    """
    tick, hz = figures[0], figures[2]
    row, target = pair
    mask = history[FEET].shape[0] - 1
    who, whom = history[IDS][tick & mask, row], history[IDS][(tick - rewind) & mask, target]
    most = min(int(BACK_S * hz), mask - rewind - int((LEADS_S + 0.05) * hz), tick - rewind - figures[1])
    every = max(1, int(STEP_S * hz))
    aimed, seen = -1, -1
    if who == 0 or whom == 0 or most <= every:
        return -1
    for back in range(most):
        slot, then = (tick - back) & mask, (tick - back - rewind) & mask
        here = history[IDS][slot, row] == who and history[IDS][then, target] == whom
        if aimed < 0:
            view = _view(history, slot, row)
            _, way, length = _way(history, slot, row, then, target, MIDDLE)
            along = view[0] * way[0] + view[1] * way[1] + view[2] * way[2]
            off = sqrt(max(length * length - along * along, 0.0))
            if not here or along <= 0.0 or off > BODY_M:
                aimed = back
        if seen < 0 and back % every == 0 and (not here or not _sees(history, geometry, slot, row, then, target)):
            seen = back
        if aimed >= 0 and seen >= 0:
            break
    if seen != 0:  # else it was not in view at all: hit by chance
        _sample(state, row, REACTION, 1000.0 / hz * (seen - every if seen > 0 else most))
        _sample(state, row, SNAP, _turned(history, (tick & mask, (tick - every) & mask), row))
    return aimed if aimed >= 0 else most


@kernel(counted=False)
def _turned(history: HistoryArrays, slots: tuple[int, int], row: int) -> float:
    """How far a view turned from one tick to another [°]."""
    a, b = _view(history, slots[0], row), _view(history, slots[1], row)
    return acos(min(1.0, max(-1.0, a[0] * b[0] + a[1] * b[1] + a[2] * b[2]))) * 180.0 / pi


@kernel(f"(UniTuple(i8, 6), f8, {EVENTS_TYPE}, u2[::1], {HISTORY_TYPE}, {GEOMETRY_TYPE}, {AIM_STATE_TYPE})")
def note_hits(
    figures: tuple[int, int, int, int, int, int], hz: float, events: EventArrays, rewind: U16, history: HistoryArrays,
    geometry: GeometryArrays, state: AimState,
) -> int:  # fmt: skip
    """Learn from the shots and hits of a tick.

    Args:
        figures: Tick; its first one in the history; numbers of the events `shot` and `hit`; first global slot of the
            players; from how many hits it may look back.
        hz: Ticks a second.
        events: Of the tick; of a shot the value is the weapon, of a hit it ends in the part of the body.
        rewind: `Intent.rewind` by row.
        history: Poses.
        geometry: The static world.
        state: See above; updated.

    Returns:
        From how many hits it did not look back, beyond those.
    """
    tick, first, shot, hit, base, budget = figures
    last, hits = state[0], state[1]
    kind, actor, target, _, _, value, counters = events
    left = budget
    for index in range(counters[0]):
        event = np.int64(kind[index])
        if event != shot and event != hit:
            continue
        entity = np.int64(actor[index])
        row = int(entity & SLOT_MASK) - base
        if row < 0 or row >= last.shape[0]:
            continue
        mine = last[row]
        if mine[L_ENTITY] != entity:
            _clear(state, row, entity)
        if event == shot:
            if tick - mine[L_SHOT] > int(BURST_S * hz):
                mine[L_BURST] = tick
            mine[L_SHOT] = tick
            mine[L_WEAPON] = min(max(value[index], 0), WEAPONS - 1)
            continue
        whom = np.int64(target[index])
        victim = int(whom & SLOT_MASK) - base
        if mine[L_SHOT] != tick or victim < 0 or victim >= last.shape[0] or victim == row:
            continue  # a projectile, or a hit of its own
        hits[row, mine[L_WEAPON], 0] += 1
        hits[row, mine[L_WEAPON], 1] += 1 if value[index] % 8 == PART_HEAD else 0
        begin = int(mine[L_BURST])
        leads = mine[L_HIT] < begin and tick - begin <= int(LEADS_S * hz)
        anew = mine[L_TARGET] != whom or tick - mine[L_HIT] > int(ANEW_S * hz)
        mine[L_TARGET], mine[L_HIT] = whom, tick
        if not anew:
            continue
        if left > 0:
            back = (int(rewind[row]) + REWIND_STEPS // 2) // REWIND_STEPS
            at = begin if leads else tick
            aimed = _look_back(history, geometry, (at, first, hz), (row, victim), back, state)
            # Of who goes on firing while turning to the next it says nothing when the aim came there.
            if leads and aimed >= 0:
                state[4][row, TRIGGER, 0] += 1
                state[4][row, TRIGGER, 1] += 1 if 0 < aimed <= int(TRIGGER_S * hz + 0.5) else 0
        left -= 1
    return max(0, -left)


@kernel
def _aims_at_hidden(
    history: HistoryArrays, geometry: GeometryArrays, slots: tuple[int, int], row: int, other: int, view: Vector
) -> bool:
    """Whether a view was at somebody behind a wall."""
    eye, way, length = _way(history, slots[0], row, slots[1], other, MIDDLE)
    if way[0] * view[0] + way[1] * view[1] + way[2] * view[2] < FOLLOW_COSINE * length:
        return False
    return _hidden(geometry, eye, way)


@kernel(counted=False)
def _follows(
    history: HistoryArrays, geometry: GeometryArrays, ticks: tuple[int, int], row: int, rewind: int, team: U8
) -> bool:
    """Whether a view went with somebody who moved behind a wall from one tick to another."""
    mask = history[FEET].shape[0] - 1
    ids = history[IDS]
    now, before = ticks[0] & mask, ticks[1] & mask
    now_then, before_then = (ticks[0] - rewind) & mask, (ticks[1] - rewind) & mask
    view, earlier = _view(history, now, row), _view(history, before, row)
    # Looking round makes for chance meetings: the view itself must have turned as well.
    if view[0] * earlier[0] + view[1] * earlier[1] + view[2] * earlier[2] > MOVED_COSINE:
        return False
    feet = history[FEET]
    x, y, z = feet[now, row, 0], feet[now, row, 1], feet[now, row, 2]
    for other in range(np.uint64(team.shape[0])):
        if ids[now_then, other] == 0 or np.int64(other) == row:
            continue
        dx, dy, dz = feet[now_then, other, 0] - x, feet[now_then, other, 1] - y, feet[now_then, other, 2] - z
        square = dx * dx + dy * dy + dz * dz
        along = dx * view[0] + dy * view[1] + dz * view[2]
        # A wide cone first, which costs no root: eyes and middles are within a body's height of feet.
        if square > FOLLOW_M * FOLLOW_M or along < 0.0 or along * along < 0.6 * square:
            continue
        if (team[other] == team[row] and team[row] != 0) or ids[now_then, other] != ids[before_then, other]:
            continue
        if _aims_at_hidden(history, geometry, (now, now_then), row, int(other), view) and _aims_at_hidden(
            history, geometry, (before, before_then), row, int(other), earlier
        ):
            return True
    return False


@kernel(f"(UniTuple(i8, 4), f8, u2[::1], u1[::1], {HISTORY_TYPE}, {GEOMETRY_TYPE}, {AIM_STATE_TYPE})")
def watch_walls(
    figures: tuple[int, int, int, int], hz: float, rewind: U16, team: U8, history: HistoryArrays,
    geometry: GeometryArrays, state: AimState,
) -> int:  # fmt: skip
    """Look at some players: whether their view follows somebody whom they cannot see.

    Args:
        figures: Tick, its first one in the history, first row, how many rows; they go round.
        hz: Ticks a second.
        rewind: `Intent.rewind` by row.
        team: By row, of the rows in use alone.
        history: Poses.
        geometry: The static world.
        state: See above; updated.

    Returns:
        The row to go on with.
    """
    tick, first, row, count = figures
    rows = team.shape[0]
    mask = history[FEET].shape[0] - 1
    before = tick - int(FOLLOW_S * hz)
    for _ in range(min(count, rows)):
        if row >= rows:
            row = 0
        entity = history[IDS][tick & mask, row]
        back = (int(rewind[row]) + REWIND_STEPS // 2) // REWIND_STEPS
        known = before - back >= first and tick - before + back < mask
        if entity != 0 and known and history[IDS][before & mask, row] == entity:
            if state[0][row, L_ENTITY] != np.int64(entity):
                _clear(state, row, np.int64(entity))
            state[4][row, FOLLOWS, 0] += 1
            if _follows(history, geometry, (tick, before), row, back, team):
                state[4][row, FOLLOWS, 1] += 1
        row += 1
    return row
