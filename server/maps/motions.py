"""How the brush models of Quake III maps move (after id Software's g_mover.c), in the simulation's terms.

| classname | moves as | keys |
|---|---|---|
| func_door | SLIDE | angle, angles, speed (400), wait (2; −1: for ever), lip (8), dmg (2), team, spawnflags 1 and 4 |
| func_plat | SLIDE, stays up under a rider | speed (200), wait (1), height, lip (8), dmg (2) |
| func_button | SLIDE | angle, angles, speed (40), wait (1), lip (4) |
| func_bobbing | BOB | height (32), speed (4: seconds a period), phase (0), spawnflags 1 X, 2 Y, dmg (2) |
| func_train | PATH | speed (100), target, dmg (2); of its path_corners: target, speed, wait |

A door that nothing targets opens for whoever is near; one with a `targetname` for whoever touches the button or
`trigger_multiple` that targets it. What would have to be shot (`health`) opens by touch. Trains go from the start.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from server.maps.fields import flags, number, vector
from server.maps.units import METRES_PER_UNIT
from sim.arrays import F64
from sim.worldmap import Box, MoverKind, MoverMotion

__all__ = ["Model", "motions"]

Entity = Mapping[str, str]
Model = tuple[Entity, F64, F64, F64]
"""A brush model: its entity, low and high corner at rest and its way to the other end, all in source units."""

CRUSHER = 4
AXIS_X, AXIS_Y = 1, 2
SPEED = {"func_door": 400.0, "func_plat": 200.0, "func_button": 40.0}
WAIT = {"func_door": 2.0, "func_plat": 1.0, "func_button": 1.0}
DOOR_REACH, TOUCH_REACH, HAND_REACH = 120.0, 1.0, 4.0  # [units]
PLAT_INSET, PLAT_ABOVE = 33.0, 8.0
PATH_MAX = 256  # corners of a path
BOXES_MAX = 32  # of one mover
SPEED_LEAST = 1.0  # [units/s]
TRIGGERS = ("trigger_multiple", "trigger_once")


def motions(
    models: Sequence[Model], triggers: Sequence[tuple[Entity, F64, F64]], entities: Sequence[Entity]
) -> list[MoverMotion | None]:
    """How each model moves; None for one that does not, or not as anything above.

    Args:
        models: The solid brush models.
        triggers: Entities with a brush model that is not solid, and its low and high corner [units].
        entities: All of the map.
    """
    teams: dict[str, int] = {}
    wings: dict[int, tuple[F64, F64]] = {}
    groups = []
    for entity, low, high, _ in models:
        team = entity.get("team", "")
        group = teams.setdefault(team, len(teams) + 1) if team and entity.get("classname") == "func_door" else 0
        if group:
            known = wings.get(group, (low, high))
            wings[group] = np.minimum(known[0], low), np.maximum(known[1], high)
        groups.append(group)
    hands = _hands(models, triggers)
    moved: list[MoverMotion | None] = []
    for (entity, low, high, way), group in zip(models, groups, strict=True):
        kind = entity.get("classname", "")
        if kind in SPEED and way.any():
            moved.append(_slide(entity, way, _touch(entity, low, high, wings.get(group), hands), group))
        elif kind == "func_bobbing":
            moved.append(_bob(entity))
        else:
            moved.append(_path(entity, entities) if kind == "func_train" else None)
    return _together(moved)


def _together(moved: list[MoverMotion | None]) -> list[MoverMotion | None]:
    """What nobody could ever set going stays at rest; of a group, everything goes where one can be set going."""
    going = {entry.group for entry in moved if entry is not None and entry.touch and entry.group}
    return [
        None if entry is None or (entry.kind is MoverKind.SLIDE and not entry.touch and entry.group not in going)
        else entry
        for entry in moved
    ]  # fmt: skip


def _box(low: F64, high: F64) -> Box:
    corners = [round(float(value) * METRES_PER_UNIT, 9) for value in (*low, *high)]
    return corners[0], corners[1], corners[2], corners[3], corners[4], corners[5]


def _triple(values: F64) -> tuple[float, float, float]:
    x, y, z = (round(float(value) * METRES_PER_UNIT, 9) + 0.0 for value in values)
    return x, y, z


def _hands(models: Sequence[Model], triggers: Sequence[tuple[Entity, F64, F64]]) -> dict[str, list[Box]]:
    """By target: where a player sets off what is called so."""
    hands: dict[str, list[Box]] = {}
    for entity, low, high, _ in models:
        if entity.get("classname") == "func_button" and entity.get("target"):
            hands.setdefault(entity["target"], []).append(_box(low - HAND_REACH, high + HAND_REACH))
    for entity, low, high in triggers:
        if entity.get("classname") in TRIGGERS and entity.get("target"):
            hands.setdefault(entity["target"], []).append(_box(low - TOUCH_REACH, high + TOUCH_REACH))
    return hands


def _touch(
    entity: Entity, low: F64, high: F64, wings: tuple[F64, F64] | None, hands: Mapping[str, list[Box]]
) -> tuple[Box, ...]:
    """The boxes that set a model going."""
    kind = entity.get("classname", "")
    if kind == "func_button":
        return (_box(low - HAND_REACH, high + HAND_REACH),)
    named = entity.get("targetname", "")
    if named:
        return tuple(hands.get(named, ())[:BOXES_MAX])
    if kind == "func_plat":
        inset = np.array([PLAT_INSET, PLAT_INSET, 0.0])
        inset = np.minimum(inset, (high - low) / 2.0 - 1.0) * (1.0, 1.0, 0.0)
        above = high - inset
        above[2] = high[2] + PLAT_ABOVE
        return (_box(low + inset, above),)
    low, high = wings or (low, high)
    reach = np.zeros(3)
    reach[int(np.argmin(high - low))] = DOOR_REACH
    return (_box(low - reach, high + reach),)


def _slide(entity: Entity, way: F64, touch: tuple[Box, ...], group: int) -> MoverMotion:
    kind = entity.get("classname", "")
    speed = number(entity, "speed", 0.0)
    speed = speed if speed >= SPEED_LEAST else SPEED[kind]
    wait = number(entity, "wait", 0.0) or WAIT[kind]
    return MoverMotion(
        MoverKind.SLIDE, _triple(way), seconds=float(np.linalg.norm(way)) / speed, wait_s=wait,
        damage=max(0.0, number(entity, "dmg", 2.0)) if kind != "func_button" else 0.0,
        crushes=kind == "func_door" and bool(flags(entity) & CRUSHER), holds=kind == "func_plat", group=group,
        touch=touch,
    )  # fmt: skip


def _bob(entity: Entity) -> MoverMotion | None:
    height = number(entity, "height", 0.0) or 32.0
    axis = 0 if flags(entity) & AXIS_X else 1 if flags(entity) & AXIS_Y else 2
    way = np.zeros(3)
    way[axis] = height
    seconds = number(entity, "speed", 0.0) or 4.0
    phase = number(entity, "phase", 0.0) % 1.0
    damage = max(0.0, number(entity, "dmg", 2.0))
    return MoverMotion(MoverKind.BOB, _triple(way), seconds=max(abs(seconds), 0.1), phase=phase, damage=damage)


def _path(entity: Entity, entities: Sequence[Entity]) -> MoverMotion | None:
    """Round the path corners that lead back to the first; a path that does not is not followed."""
    corners = {
        other["targetname"]: other
        for other in reversed(entities)
        if other.get("classname") == "path_corner" and other.get("targetname")
    }
    speed = number(entity, "speed", 0.0)
    speed = speed if speed >= SPEED_LEAST else 100.0
    first = corners.get(entity.get("target", ""))
    here, points = first, []
    for _ in range(PATH_MAX):
        following = None if here is None else corners.get(here.get("target", ""))
        if first is None or here is None or following is None:
            return None
        # The speed that a corner names is that of the way which begins there.
        own = number(here, "speed", 0.0)
        begin, end = vector(here, "origin"), vector(following, "origin")
        seconds = float(np.linalg.norm(end - begin)) / (own if own >= SPEED_LEAST else speed)
        wait = max(0.0, number(following, "wait", 0.0))
        points.append((*_triple(end - vector(first, "origin")), max(seconds, 1e-3), wait))
        here = following
        if here is first:
            damage = max(0.0, number(entity, "dmg", 2.0))
            return MoverMotion(MoverKind.PATH, path=tuple(points), damage=damage)
    return None
