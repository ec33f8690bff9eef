"""Spawning, decay of health, power-ups and taking of items, over all players at once."""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I16, I32, I64, U8, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays, emit
from sim.jit import kernel
from sim.rng import random_unit
from sim.weapons_kernels import W_MAGAZINE, W_ROUNDS

__all__ = [
    "ITEM_COLUMNS",
    "LIVES_TYPE",
    "TAKER_TYPE",
    "LifeArrays",
    "TakerArrays",
    "begin_lives",
    "find_ready",
    "tend_items",
]

RNG_SPAWN = 2
CANDIDATES = 8  # spawn points that are compared; all of them would cost players × spawns × players
I_RESPAWN, I_HEALTH, I_ARMOUR, I_WEAPON, I_ROUNDS, I_GIVES, I_POWER, I_POWER_S = range(8)
ITEM_COLUMNS = 8
POWER_QUAD, POWER_REGENERATION, POWER_SUIT = 1, 2, 3
BUTTON_FIRE = 8
STANDS_M = 1.0  # a spawn point with somebody this near is occupied

TAKER_TYPE = (
    "Tuple((u8[::1], b1[::1], f8[::1], f8[::1], u2[::1], i2[:,::1], i2[:,::1], f8[::1], f8[::1], f8[::1], u1[::1]))"
)
TakerArrays: TypeAlias = tuple[U64, Bool, F64, F64, U16, I16, I16, F64, F64, F64, U8]
LIVES_TYPE = (
    "Tuple((u8[::1], b1[::1], u1[::1], i8[::1], f8[::1], f8[::1], f8[:,::1], f8[:,::1], u2[::1], i2[::1], u2[::1], "
    "f8[:,::1], u2[::1], i2[:,::1], i2[:,::1], f8[::1], f8[::1], u1[::1], f8[::1], f8[::1], f8[::1]))"
)
"""Ids, who lives, teams, first ticks of lives, health, armour; positions, velocities, yaw, pitch, stance flags, ground
normals; weapons owned, rounds loaded and in reserve, cool-downs, reloads, weapons in hand; times left of quad,
regeneration and battle suit."""
LifeArrays: TypeAlias = tuple[
    U64, Bool, U8, I64, F64, F64, F64, F64, U16, I16, U16, F64, U16, I16, I16, F64, F64, U8, F64, F64, F64
]


@kernel(counted=False)
def _nearest(
    spawns: F64, point: int, team: int, players: tuple[F64, Bool, U8], friends_too: int, enough: float
) -> float:
    """Square of the distance from a spawn point to the nearest opponent, or to anybody who stands on it [m²].

    Or any distance that is not above `enough`, as soon as it is found: then the point is no better than another.
    """
    position, alive, teams = players
    nearest = 1e18
    for row in range(alive.shape[0]):
        if not alive[row]:
            continue
        x, y = position[row, 0] - spawns[point, 0], position[row, 1] - spawns[point, 1]
        z = position[row, 2] - spawns[point, 2]
        square = x * x + y * y + z * z
        opponent = friends_too == 1 or teams[row] != team
        # A place on which anybody stands is the worst, friend or not.
        if square < nearest and (opponent or square < STANDS_M * STANDS_M):
            nearest = square
            if nearest <= enough:
                break
    return nearest


@kernel(counted=False)
def _choose_spawn(
    spawns: F64, spawn_teams: U8, team: int, players: tuple[F64, Bool, U8], key: tuple[int, int, int], friends_too: int
) -> int:
    """The spawn point, of some chosen at random, whose nearest opponent is farthest away.

    Args:
        spawns: Positions [m], shape (n, 3).
        spawn_teams: Team of each point, 0 for any.
        team: Team of who spawns.
        players: Feet of all players [m], who is alive, teams.
        key: (seed, tick, player) of the random stream.
        friends_too: 1 where team mates count as opponents.

    Returns:
        Number of the point.
    """
    best, best_distance = -1, -1.0
    for draw in range(4 * CANDIDATES):
        point = int(random_unit(key[0], RNG_SPAWN, key[1], key[2], draw) * spawns.shape[0])
        if draw >= CANDIDATES and best >= 0:
            break
        if spawn_teams[point] != 0 and spawn_teams[point] != team and draw < 3 * CANDIDATES:
            continue
        distance = _nearest(spawns, point, team, players, friends_too, best_distance)
        if distance > best_distance:
            best, best_distance = point, distance
    if best_distance >= STANDS_M * STANDS_M:
        return best
    # All that were drawn are occupied, which is rare: look at every point, first at those of the team.
    for strangers in range(2):
        for point in range(spawns.shape[0]):
            if (spawn_teams[point] != 0 and spawn_teams[point] != team) != (strangers == 1):
                continue
            distance = _nearest(spawns, point, team, players, friends_too, best_distance)
            if distance > best_distance:
                best, best_distance = point, distance
        if best_distance >= STANDS_M * STANDS_M:
            break
    return max(best, 0)


@kernel(
    f"(i4[::1], Tuple((f8[:,::1], u2[::1], u1[::1])), {LIVES_TYPE}, i2[:,::1], f8, UniTuple(i8, 3), {EVENTS_TYPE}, i8)",
    counted=False,
)
def begin_lives(
    rows: I32,
    spawns: tuple[F64, U16, U8],
    lives: LifeArrays,
    start: I16,
    health: float,
    key: tuple[int, int, int],
    events: EventArrays,
    spawned: int,
) -> None:
    """Bring players to life one after the other, each at the best spawn point there is then.

    Args:
        rows: Of whom.
        spawns: Spawn points: positions [m] (n, 3), yaw, team, 0 for any.
        lives: See `LIVES_TYPE`; rows behind the last one in use may be left out.
        start: What a life begins with: weapon, rounds loaded, rounds in reserve, shape (n, 3). The first is in hand.
        health: Points that it begins with.
        key: (seed, tick, 1 where team mates count as opponents).
        events: Receives position = where for each.
        spawned: Number of that event.
    """
    (
        ids, alive, team, born, points, armour, position, velocity, yaw, pitch, flags, ground, owned, loaded, reserve,
        cooldown_s, reloading_s, weapon, quad_s, regeneration_s, suit_s,
    ) = lives  # fmt: skip
    others = (position, alive, team)
    for index in range(rows.shape[0]):
        row = int(rows[index])
        point = _choose_spawn(spawns[0], spawns[2], int(team[row]), others, (key[0], key[1], row), key[2])
        for axis in range(3):
            position[row, axis], velocity[row, axis], ground[row, axis] = spawns[0][point, axis], 0.0, 0.0
        yaw[row], pitch[row], flags[row] = spawns[1][point], 0, 0
        alive[row], born[row], points[row], armour[row] = True, key[1], health, 0.0
        cooldown_s[row], reloading_s[row] = 0.0, 0.0
        quad_s[row], regeneration_s[row], suit_s[row] = 0.0, 0.0, 0.0
        for number in range(loaded.shape[1]):
            loaded[row, number], reserve[row, number] = 0, 0
        held = 0
        for entry in range(start.shape[0]):
            number = int(start[entry, 0])
            held |= 1 << number
            loaded[row, number], reserve[row, number] = start[entry, 1], start[entry, 2]
        owned[row], weapon[row] = held, np.uint8(start[0, 0])
        at = (position[row, 0], position[row, 1], position[row, 2])
        emit(events, spawned, ids[row], np.uint64(0), at, (0.0, 0.0, 0.0), 0)


@kernel(
    "(b1[::1], b1[::1], u2[::1], Tuple((b1[::1], u2[::1], u2[::1])), f8[::1], UniTuple(f8, 2), i4[::1])", counted=False
)
def find_ready(
    live: Bool,
    alive: Bool,
    owned: U16,
    buttons: tuple[Bool, U16, U16],
    respawn_s: F64,
    figures: tuple[float, float],
    out_rows: I32,
) -> int:
    """Count down the time of the dead and list whose new life begins.

    It begins at once for who has never lived (and so owns nothing), with FIRE once the time is over, and without it
    after as long again.

    Args:
        live: Rows that hold a player.
        alive: Who lives.
        owned: Weapons owned, as bits.
        buttons: Who gave an input for this tick, its `Button` bits, and those that stand where none came.
        respawn_s: Time left [s], updated.
        figures: (dt, time from death to a new life) [s].
        out_rows: Receives the rows, ascending.

    Returns:
        How many there are.
    """
    dt, wait = figures
    has_input, given, standing = buttons
    count = 0
    for row in range(live.shape[0]):
        if alive[row] or not live[row]:
            continue
        respawn_s[row] -= dt
        held = given[row] if has_input[row] else standing[row]
        asks = (held & BUTTON_FIRE) != 0
        if owned[row] == 0 or respawn_s[row] <= 1e-9 - wait or (asks and respawn_s[row] <= 1e-9):
            out_rows[count] = row
            count += 1
    return count


@kernel(counted=False)
def _decay(taker: TakerArrays, dt: float, limits: tuple[float, float, float]) -> None:
    """Let health and armour above the full amount fall by a point a second, power-ups run out, regeneration heal."""
    _, alive, health, armour, _, _, _, quad, regeneration, suit, active = taker
    full, most, heals = limits
    powers = (quad, regeneration, suit)
    for row in range(alive.shape[0]):
        active[row] = 0
        if not alive[row]:
            quad[row], regeneration[row], suit[row] = 0.0, 0.0, 0.0
            continue
        if regeneration[row] > 0.0:
            health[row] = min(health[row] + heals * min(dt, regeneration[row]), most)
        elif health[row] > full:
            health[row] = max(health[row] - dt, full)
        if armour[row] > full:
            armour[row] = max(armour[row] - dt, full)
        for power in range(3):
            powers[power][row] = max(powers[power][row] - dt, 0.0)
            if powers[power][row] > 0.0:
                active[row] |= 1 << power


@kernel(counted=False)
def _take(row: int, item: F64, amount: int, limits: tuple[float, float, float], table: F64, taker: TakerArrays) -> bool:
    """Give an item to one player; False if it would be of no use to it."""
    _, _, health, armour, owned, loaded, reserve, quad, regeneration, suit, _ = taker
    used = False
    gives_health = float(amount) if amount > 0 and item[I_HEALTH] > 0.0 else item[I_HEALTH]
    gives_armour = float(amount) if amount > 0 and item[I_ARMOUR] > 0.0 else item[I_ARMOUR]
    # Small and great items (5 and 100 points) go beyond the full amount, as everywhere in the genre.
    full, most, _ = limits
    health_limit = most if gives_health == 5.0 or gives_health == 100.0 else full
    if gives_health > 0.0 and health[row] < health_limit:
        health[row] = min(health[row] + gives_health, health_limit)
        used = True
    if gives_armour > 0.0 and armour[row] < most:
        armour[row] = min(armour[row] + gives_armour, most)
        used = True
    weapon = int(item[I_WEAPON])
    if weapon > 0:
        limit = int(table[weapon, W_ROUNDS])
        bit = np.uint16(1 << weapon)
        new = item[I_GIVES] > 0.0 and owned[row] & bit == 0
        if new:
            owned[row] |= bit
            loaded[row, weapon] = int(table[weapon, W_MAGAZINE])
            used = True
        if reserve[row, weapon] < limit:
            reserve[row, weapon] = min(int(reserve[row, weapon]) + int(item[I_ROUNDS]), limit)
            used = True
    power = int(item[I_POWER])
    if power == POWER_QUAD:
        quad[row] += item[I_POWER_S]
    elif power == POWER_REGENERATION:
        regeneration[row] += item[I_POWER_S]
    elif power == POWER_SUIT:
        suit[row] += item[I_POWER_S]
    return used or power > 0


@kernel(
    f"(i4[:,::1], f8[:,::1], f8[:,::1], Tuple((u1[::1], i4[::1], b1[::1], f8[::1], f8[:,::1])), {TAKER_TYPE}, f8, "
    f"UniTuple(f8, 3), {EVENTS_TYPE}, i8)",
    counted=False,
)
def tend_items(
    touches: I32,
    items: F64,
    table: F64,
    pickups: tuple[U8, I32, Bool, F64, F64],
    taker: TakerArrays,
    dt: float,
    limits: tuple[float, float, float],
    events: EventArrays,
    pickup_event: int,
) -> int:
    """Let items return, give touched ones to players in the order of the touches, each to one; then decay and powers.

    Args:
        touches: (player row, pickup row), int32.
        items: One row per item, columns `I_*`.
        table: Weapon table.
        pickups: Columns item, amount, available, away_s, position of the pickups; updated.
        taker: Columns id, alive, health, armour, owned, loaded, reserve, quad, regeneration, battle suit, bits of the
            power-ups that are running; updated.
        dt: Length of the tick [s].
        limits: Full and greatest points of health and armour, and points that regeneration gives in a second.
        events: Receives position = where, value = item for each that is taken.
        pickup_event: Its number.

    Returns:
        How many items were taken.
    """
    item_of, amount, available, away_s, position = pickups
    for pickup in range(away_s.shape[0]):
        away_s[pickup] = max(away_s[pickup] - dt, 0.0)
        available[pickup] = away_s[pickup] <= 1e-9
    taken = 0
    for index in range(touches.shape[0]):
        row, pickup = int(touches[index, 0]), int(touches[index, 1])
        if not available[pickup] or not taker[1][row]:
            continue
        number = int(item_of[pickup])
        if not _take(row, items[number], int(amount[pickup]), limits, table, taker):
            continue
        available[pickup] = False
        away_s[pickup] = items[number, I_RESPAWN]
        at = (position[pickup, 0], position[pickup, 1], position[pickup, 2])
        emit(events, pickup_event, taker[0][row], np.uint64(0), at, (0.0, 0.0, 0.0), number)
        taken += 1
    _decay(taker, dt, limits)
    return taken
