"""Damage as a bounded queue, filled by shots, blasts and the world, emptied once a tick in order.

DAMAGE is (who, amounts, counters): `who` int32 (attacker, victim row, weapon, part); `amounts` float64 (points,
direction x y z, at x y z); `counters` int64 (filled, dropped as the queue was full, blasts dropped). The attacker is
the row of a player, FROM_WORLD, or FROM_GONE − team for one of that team who has left the match since the shot.

FLYING is the tuple of columns of projectiles (weapon u1, team u1, row of the owner or -1 i4, position f8 (n, 3),
velocity f8 (n, 3)).

PLAYERS is the tuple of columns that damage changes: (ids u8, alive b1, health f8, armour f8, team u1,
velocity f8 (n, 3), position f8 (n, 3), points i4, kills i4, deaths i4, respawn_s f8, quad_s f8, suit_s f8,
stance flags u2).

RULES is a float64 vector in the order of the `R_*` numbers.
"""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I32, I64, U8, U16, U64, Bool
from sim.events_kernels import EVENTS_TYPE, EventArrays, emit
from sim.hitscan_kernels import JUDGED_TYPE, JudgedArrays, part_factor
from sim.jit import kernel
from sim.motion_kernels import ON_GROUND
from sim.table import SLOT_BITS
from sim.weapons_kernels import W_BLAST, W_BLAST_DAMAGE, W_DAMAGE, W_KNOCKBACK, W_PELLETS

__all__ = [
    "DAMAGE_TYPE",
    "FLYING_TYPE",
    "PLAYERS_TYPE",
    "RULES_COUNT",
    "DamageArrays",
    "FlyingArrays",
    "PlayerArrays",
    "apply_damage",
    "collect_ends",
    "find_owners",
    "queue_blasts",
    "queue_hits",
    "queue_world",
]

DAMAGE_TYPE = "Tuple((i4[:,::1], f8[:,::1], i8[::1]))"
DamageArrays: TypeAlias = tuple[I32, F64, I64]
FLYING_TYPE = "Tuple((u1[::1], u1[::1], i4[::1], f8[:,::1], f8[:,::1]))"
FlyingArrays: TypeAlias = tuple[U8, U8, I32, F64, F64]
PLAYERS_TYPE = (
    "Tuple((u8[::1], b1[::1], f8[::1], f8[::1], u1[::1], f8[:,::1], f8[:,::1], i4[::1], i4[::1], i4[::1], f8[::1], "
    "f8[::1], f8[::1], u2[::1]))"
)
PlayerArrays: TypeAlias = tuple[U64, Bool, F64, F64, U8, F64, F64, I32, I32, I32, F64, F64, F64, U16]
R_FRIENDLY, R_SELF, R_ABSORBS, R_RESPAWN, R_QUAD, R_SUIT, R_TEAMS = range(7)
RULES_COUNT = 7
FROM_WORLD = -1
FROM_GONE = -2
LIFT = 1.0  # [m/s] of upward push from which a player leaves the ground
POINTS_MAX = 2000
SLOT_MASK = np.uint64((1 << SLOT_BITS) - 1)


@kernel
def _push(
    damage: DamageArrays,
    attacker: int,
    victim: int,
    weapon: int,
    part: int,
    points: float,
    ray: tuple[float, float, float],
    at: tuple[float, float, float],
) -> None:
    """Append one entry, or count it as dropped."""
    who, amounts, counters = damage
    index = counters[0]
    if index >= who.shape[0]:
        counters[1] += 1
        return
    who[index, 0], who[index, 1], who[index, 2], who[index, 3] = attacker, victim, weapon, part
    amounts[index, 0] = points
    for axis in range(3):
        amounts[index, 1 + axis] = ray[axis]
        amounts[index, 4 + axis] = at[axis]
    counters[0] = index + 1


@kernel(f"(f8[:,::1], {JUDGED_TYPE}, u8[::1], {DAMAGE_TYPE}, {EVENTS_TYPE}, i8)", counted=False)
def queue_hits(
    table: F64, judged: JudgedArrays, ids: U64, damage: DamageArrays, events: EventArrays, shot_event: int
) -> None:
    """Queue the damage of judged pellets, and tell of every shot: position = muzzle, vector = end, value = weapon.

    Of a shot of many pellets the first one's end is told: who hears of a shotgun needs one event, not eleven.
    """
    pellets, ways, strikes, blows, counts = judged
    left = 0
    for index in range(counts[0]):
        shooter, weapon, first = int(pellets[index, 0]), int(pellets[index, 1]), int(pellets[index, 3])
        start = (ways[index, 0], ways[index, 1], ways[index, 2])
        ray = (ways[index, 3], ways[index, 4], ways[index, 5])
        if left == 0 or pellets[index - 1, 0] != shooter:
            left = int(table[weapon, W_PELLETS])
            far = ways[index, 7]
            end = (start[0] + ray[0] * far, start[1] + ray[1] * far, start[2] + ray[2] * far)
            target = ids[strikes[first, 1]] if pellets[index, 4] > 0 else np.uint64(0)
            emit(events, shot_event, ids[shooter], target, start, end, weapon)
        left -= 1
        for strike in range(first, first + pellets[index, 4]):
            t = blows[strike, 0]
            at = (start[0] + ray[0] * t, start[1] + ray[1] * t, start[2] + ray[2] * t)
            victim, part = int(strikes[strike, 1]), int(strikes[strike, 2])
            _push(damage, shooter, victim, weapon, part, blows[strike, 1], ray, at)


@kernel("(i4[::1], u8[::1], u8[::1], i8, i4[::1])", counted=False)
def find_owners(slots: I32, owner: U64, ids: U64, slot_base: int, out_rows: I32) -> None:
    """Write the rows of the players who own projectiles, -1 for who has left.

    Args:
        slots: Of the projectiles.
        owner: Ids of their owners, by slot.
        ids: Of all players.
        slot_base: Of the players' table.
        out_rows: Receives the rows, by slot.
    """
    for index in range(slots.shape[0]):
        slot = slots[index]
        row = int(owner[slot] & SLOT_MASK) - slot_base
        held = owner[slot] != 0 and 0 <= row < ids.shape[0] and ids[row] == owner[slot]
        out_rows[slot] = row if held else -1


@kernel(
    f"(i4[:,::1], i8, f8[:,::1], {FLYING_TYPE}, u8[::1], {DAMAGE_TYPE}, {EVENTS_TYPE}, i8, f8[:,::1], f8[:,::1], "
    "i4[:,::1])"
)
def collect_ends(
    ends: I32,
    count: int,
    table: F64,
    flying: FlyingArrays,
    ids: U64,
    damage: DamageArrays,
    events: EventArrays,
    blast_event: int,
    out_centres: F64,
    out_figures: F64,
    out_owners: I32,
) -> int:
    """Queue the direct hits of projectiles that ended and list their blasts.

    Returns:
        How many blasts there are: centres (n, 3), (radius, damage) (n, 2) and (attacker, weapon, victim row) (n, 3).
        Those beyond the rows of `out_centres` are left out and counted.
    """
    weapon, team, owner_rows, position, velocity = flying
    blasts = 0
    for index in range(count):
        slot, victim, part = ends[index, 0], ends[index, 1], int(ends[index, 2])
        number = int(weapon[slot])
        figures = table[number]
        at = (position[slot, 0], position[slot, 1], position[slot, 2])
        owner = int(owner_rows[slot])
        attacker = owner if owner >= 0 else FROM_GONE - int(team[slot])
        if victim >= 0:
            vx, vy, vz = velocity[slot, 0], velocity[slot, 1], velocity[slot, 2]
            speed = max(np.sqrt(vx * vx + vy * vy + vz * vz), 1e-9)
            ray = (vx / speed, vy / speed, vz / speed)
            _push(damage, attacker, victim, number, part, figures[W_DAMAGE] * part_factor(figures, part), ray, at)
        if figures[W_BLAST] > 0.0 and blasts == out_centres.shape[0]:
            damage[2][2] += 1
        elif figures[W_BLAST] > 0.0:
            for axis in range(3):
                out_centres[blasts, axis] = at[axis]
            out_figures[blasts, 0], out_figures[blasts, 1] = figures[W_BLAST], figures[W_BLAST_DAMAGE]
            out_owners[blasts, 0], out_owners[blasts, 1], out_owners[blasts, 2] = attacker, number, victim
            blasts += 1
        actor = ids[owner] if owner >= 0 else np.uint64(0)
        emit(events, blast_event, actor, np.uint64(0), at, (figures[W_BLAST], 0.0, 0.0), number)
    return blasts


@kernel(f"(i4[:,::1], f8[:,::1], i8, i4[:,::1], f8[:,::1], {DAMAGE_TYPE})")
def queue_blasts(hits: I32, amounts: F64, count: int, owners: I32, centres: F64, damage: DamageArrays) -> None:
    """Queue the damage of blasts, but not to whom the projectile itself hit: that one has had the whole."""
    for index in range(count):
        blast, victim = hits[index, 0], hits[index, 1]
        if victim == owners[blast, 2]:
            continue
        ray = (amounts[index, 1], amounts[index, 2], amounts[index, 3])
        at = (centres[blast, 0], centres[blast, 1], centres[blast, 2])
        _push(damage, owners[blast, 0], victim, int(owners[blast, 1]), 0, amounts[index, 0], ray, at)


@kernel(f"(b1[::1], f8[:,::1], f8, f8[:,::1], f8[::1], f8[::1], f8, {DAMAGE_TYPE})")
def queue_world(
    alive: Bool, position: F64, void_z: float, boxes: F64, rates: F64, crush: F64, dt: float, damage: DamageArrays
) -> int:
    """Queue what the world does: death below the map, what movers did, damage per second in hurt boxes.

    Boxes are low x y z, high x y z; `crush` is by row [points].

    Returns:
        How many entries the queue has then, whoever made them.
    """
    up = (0.0, 0.0, 0.0)
    for row in range(alive.shape[0]):
        if not alive[row]:
            continue
        at = (position[row, 0], position[row, 1], position[row, 2])
        if at[2] < void_z:
            _push(damage, FROM_WORLD, row, 0, 0, 1e6, up, at)
            continue
        if crush[row] > 0.0:
            _push(damage, FROM_WORLD, row, 0, 0, crush[row], up, at)
        for box in range(boxes.shape[0]):
            inside = boxes[box, 0] <= at[0] <= boxes[box, 3] and boxes[box, 1] <= at[1] <= boxes[box, 4]
            if inside and boxes[box, 2] - 1.0 <= at[2] <= boxes[box, 5]:
                _push(damage, FROM_WORLD, row, 0, 0, rates[box] * dt, up, at)
    return int(damage[2][0])


@kernel
def _share(attacker: int, victim: int, team: U8, rules: F64) -> float:
    """Fraction of the damage that the rules let through."""
    if attacker == FROM_WORLD:
        return 1.0
    if attacker == victim:
        return float(rules[R_SELF])
    side = int(team[attacker]) if attacker >= 0 else FROM_GONE - attacker
    if rules[R_TEAMS] > 0.0 and side == team[victim]:
        return float(rules[R_FRIENDLY])
    return 1.0


@kernel
def _kill(attacker: int, victim: int, players: PlayerArrays, team_points: I32, rules: F64) -> None:
    """Book a death: a kill scores one, of a team mate or of oneself it costs one. Who has left scores nothing."""
    _, alive, _, _, team, _, _, points, kills, deaths, respawn_s, _, _, _ = players
    alive[victim] = False
    respawn_s[victim] = rules[R_RESPAWN]
    deaths[victim] += 1
    if attacker <= FROM_GONE:
        return
    by_own_hand = attacker == FROM_WORLD or attacker == victim
    booked = victim if by_own_hand else attacker
    mate = rules[R_TEAMS] > 0.0 and team[booked] == team[victim]
    gain = -1 if by_own_hand or mate else 1
    kills[booked] += max(gain, 0)
    points[booked] = min(max(points[booked] + gain, -POINTS_MAX), POINTS_MAX)
    if team[booked] < team_points.shape[0]:
        team_points[team[booked]] += gain


@kernel(f"({DAMAGE_TYPE}, f8[:,::1], f8[::1], {PLAYERS_TYPE}, i4[::1], {EVENTS_TYPE}, UniTuple(i8, 2))")
def apply_damage(
    damage: DamageArrays,
    table: F64,
    rules: F64,
    players: PlayerArrays,
    team_points: I32,
    events: EventArrays,
    kinds: tuple[int, int],
) -> int:
    """Empty the queue in order: armour first, then health, knock-back, death and score.

    Args:
        damage: The queue; empty afterwards.
        table: Weapon table.
        rules: The `R_*` figures.
        players: Columns of the players, updated.
        team_points: Points by team, updated.
        events: Receives a hit (value = points × 8 + part) for each entry and a kill (value = weapon × 8 + part) for
            each death; position = where it hit, vector = its direction.
        kinds: Numbers of the hit and the kill event.

    Returns:
        How many died.
    """
    who, amounts, counters = damage
    ids, alive, health, armour, _, velocity, _, _, _, _, _, quad_s, suit_s, flags = players
    deaths = 0
    for index in range(counters[0]):
        attacker, victim = int(who[index, 0]), int(who[index, 1])
        weapon, part = int(who[index, 2]), int(who[index, 3])
        if not alive[victim]:
            continue
        points = amounts[index, 0] * _share(attacker, victim, players[4], rules)
        if attacker >= 0 and quad_s[attacker] > 0.0:
            points *= rules[R_QUAD]
        if suit_s[victim] > 0.0 and attacker != FROM_WORLD:
            points *= rules[R_SUIT]
        ray = (amounts[index, 1], amounts[index, 2], amounts[index, 3])
        at = (amounts[index, 4], amounts[index, 5], amounts[index, 6])
        kick = min(amounts[index, 0], 200.0) * table[weapon, W_KNOCKBACK]
        for axis in range(3):
            velocity[victim, axis] += kick * ray[axis]
        if kick * ray[2] > LIFT:
            # Who is on the ground is held to it by motion, and would not leave it.
            flags[victim] &= np.uint16(0xFFFF ^ ON_GROUND)
        if points <= 0.0:
            continue
        saved = min(armour[victim], points * rules[R_ABSORBS]) if attacker != FROM_WORLD else 0.0
        armour[victim] -= saved
        health[victim] -= points - saved
        actor = ids[attacker] if attacker >= 0 else np.uint64(0)
        if attacker != FROM_WORLD:
            emit(events, kinds[0], actor, ids[victim], at, ray, int(min(points, 4000.0)) * 8 + part)
        if health[victim] <= 0.0:
            _kill(attacker, victim, players, team_points, rules)
            emit(events, kinds[1], actor, ids[victim], at, ray, weapon * 8 + part)
            deaths += 1
    counters[0] = 0
    return deaths
