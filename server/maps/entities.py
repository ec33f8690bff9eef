"""Entities of Quake III maps: spawn points, items, jump pads, teleporters and hazards, in engine-neutral terms."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from server.errors import MapError
from server.maps.bsp_file import BspFile
from server.maps.fields import flags, number, vector
from server.maps.floors import FloorFinder
from server.maps.limits import (
    ENTITIES_MAX,
    ENTITY_KEYS_MAX,
    ITEMS_MAX,
    MOVERS_MAX,
    SPAWNS_MAX,
    TRIGGERS_MAX,
)
from server.maps.movers import SOLID_MODELS, move_direction
from server.maps.spawning import generate_spawns
from server.maps.units import GRAVITY, METRES_PER_UNIT, PLAYER_FEET_UNITS, yaw_from_degrees
from sim.arrays import F64, I32, U16
from sim.worldmap import ItemPoint, SpawnPoint, Trigger, TriggerKind

__all__ = ["ITEM_KINDS", "brush_entities", "parse_entities", "place_entities"]

Entity = Mapping[str, str]

TOKENS = re.compile(r'[{}]|"([^"\n]*)"|//[^\n]*|[^\s{}"]+|"')

SPAWN_TEAMS = {
    "info_player_deathmatch": 0,
    "info_player_start": 0,
    "info_player_dd": 0,
    "team_CTF_redplayer": 1,
    "team_CTF_redspawn": 1,
    "team_CTF_blueplayer": 2,
    "team_CTF_bluespawn": 2,
}
ITEM_KINDS: dict[str, tuple[str, int]] = {
    "item_health_small": ("health", 5),
    "item_health": ("health", 25),
    "item_health_large": ("health", 50),
    "item_health_mega": ("health", 100),
    "item_armor_shard": ("armour", 5),
    "item_armor_combat": ("armour", 50),
    "item_armor_body": ("armour", 100),
    "weapon_machinegun": ("machinegun", 0),
    "weapon_shotgun": ("shotgun", 0),
    "weapon_grenadelauncher": ("grenade_launcher", 0),
    "weapon_rocketlauncher": ("rocket_launcher", 0),
    "weapon_lightning": ("lightning", 0),
    "weapon_railgun": ("railgun", 0),
    "weapon_plasmagun": ("plasma", 0),
    "weapon_bfg": ("bfg", 0),
    "ammo_bullets": ("ammo_machinegun", 0),
    "ammo_shells": ("ammo_shotgun", 0),
    "ammo_grenades": ("ammo_grenade_launcher", 0),
    "ammo_rockets": ("ammo_rocket_launcher", 0),
    "ammo_lightning": ("ammo_lightning", 0),
    "ammo_slugs": ("ammo_railgun", 0),
    "ammo_cells": ("ammo_plasma", 0),
    "ammo_bfg": ("ammo_bfg", 0),
    "item_quad": ("quad", 0),
    "item_haste": ("haste", 0),
    "item_invis": ("invisibility", 0),
    "item_regen": ("regeneration", 0),
    "item_flight": ("flight", 0),
    "item_enviro": ("battle_suit", 0),
    "team_CTF_redflag": ("flag_red", 0),
    "team_CTF_blueflag": ("flag_blue", 0),
}
SUSPENDED = 1  # spawnflag of items that do not fall to the floor
ITEM_HALF_UNITS = 15.0  # an item's centre lies this far above the floor
ITEM_FALL_UNITS = 4096.0
SPAWN_FALL_UNITS = 256.0
HURT_START_OFF, HURT_SLOW = 1, 16
HURT_FAST_PER_SECOND = 10.0  # a fast trigger hurts once per server frame of 0.1 s
PUSH_SPEED = 1000.0
TRIGGER_MARGIN_UNITS = 1.0  # the engine spreads model bounds by one unit


def parse_entities(text: str, source: str) -> list[dict[str, str]]:
    """The entity lump as dictionaries; a key given twice keeps its last value.

    Raises:
        MapError: Unbalanced braces, a key without a value, or too many entities or keys.
    """
    entities: list[dict[str, str]] = []
    current: dict[str, str] | None = None
    key: str | None = None
    for match in TOKENS.finditer(text):
        word = match.group(0)
        if word.startswith("//"):
            continue
        if word == "{" and current is None:
            current = {}
        elif word == "}" and current is not None and key is None:
            entities.append(current)
            current = None
        elif match.group(1) is not None and current is not None:
            if key is None:
                key = match.group(1)
            else:
                current[key] = match.group(1)
                key = None
        else:
            raise MapError(source, f"entity {len(entities)}", word, 'expected { "key" "value" … }; damaged file')
        if len(entities) > ENTITIES_MAX or (current is not None and len(current) > ENTITY_KEYS_MAX):
            raise MapError(
                source, "entities", len(entities), f"at most {ENTITIES_MAX} of {ENTITY_KEYS_MAX} keys are allowed"
            )
    if current is not None:
        raise MapError(source, f"entity {len(entities)}", "no closing brace", "the entity lump is cut short")
    return entities


def brush_entities(
    entities: Sequence[dict[str, str]], bsp: BspFile, *, solid: bool
) -> Iterator[tuple[dict[str, str], int, F64]]:
    """Entities with a brush model, its number and their origin [units]; the solid kinds, or all the others.

    Raises:
        MapError: A model number is out of range, or there are too many movers.
    """
    found = 0
    for entity in entities:
        name = entity.get("model", "")
        if not name.startswith("*") or (entity.get("classname", "") in SOLID_MODELS) != solid:
            continue
        model = int(name[1:]) if name[1:].isascii() and name[1:].isdecimal() and len(name) < 9 else 0
        if not 0 < model < len(bsp.models):
            raise MapError(bsp.source, "entity model", name, f"brush models are *1 … *{len(bsp.models) - 1}")
        found += 1
        if found > MOVERS_MAX:
            raise MapError(bsp.source, "brush model entities", found, f"at most {MOVERS_MAX} are allowed")
        yield entity, model, vector(entity, "origin")


def _tuple(values: F64) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _feet(origin: F64, floors: FloorFinder) -> tuple[float, float, float]:
    """Where the feet of a player whose Quake origin is `origin` [units] stand [m]: on the floor below, if any."""
    place = origin * METRES_PER_UNIT
    floor = floors.below(place, reach=SPAWN_FALL_UNITS * METRES_PER_UNIT)
    height = place[2] - PLAYER_FEET_UNITS * METRES_PER_UNIT if floor is None else floor
    return float(place[0]), float(place[1]), float(height)


def _spawns(entities: Sequence[Entity], floors: FloorFinder) -> list[SpawnPoint]:
    spawns = []
    for entity in entities:
        team = SPAWN_TEAMS.get(entity.get("classname", ""))
        if team is not None and "origin" in entity:
            yaw = yaw_from_degrees(number(entity, "angle", 0.0))
            spawns.append(SpawnPoint(_feet(vector(entity, "origin"), floors), yaw, team))
    return spawns


def _items(entities: Sequence[Entity], floors: FloorFinder) -> list[ItemPoint]:
    items = []
    for entity in entities:
        kind = ITEM_KINDS.get(entity.get("classname", ""))
        if kind is None or "origin" not in entity:
            continue
        place = vector(entity, "origin") * METRES_PER_UNIT
        if not flags(entity) & SUSPENDED:
            floor = floors.below(place, reach=ITEM_FALL_UNITS * METRES_PER_UNIT)
            place[2] = place[2] if floor is None else floor + ITEM_HALF_UNITS * METRES_PER_UNIT
        amount = kind[1] or int(np.clip(number(entity, "count", 0.0), 0, 999))
        items.append(ItemPoint(kind[0], _tuple(place), amount))
    return items


def launch_velocity(start: F64, apex: F64) -> F64 | None:
    """The velocity [m/s] that takes a body from `start` to its highest point `apex` [m]; None where it is not higher.

    After AimAtTarget in id Software's g_trigger.c.
    """
    height = float(apex[2] - start[2])
    if height <= 0.0:
        return None
    time = math.sqrt(height / (0.5 * GRAVITY))
    return np.array([(apex[0] - start[0]) / time, (apex[1] - start[1]) / time, time * GRAVITY])


class _Triggers:
    """Turns trigger entities into boxes, following their targets."""

    def __init__(self, entities: Sequence[Entity], floors: FloorFinder) -> None:
        self._floors = floors
        self._targets: dict[str, Entity] = {}
        for entity in entities:
            if entity.get("targetname"):
                self._targets.setdefault(entity["targetname"], entity)

    def make(self, entity: Entity, low: F64, high: F64) -> Trigger | None:
        """The trigger of one entity with the box `low` … `high` [m], or None where it does nothing we know."""
        target = self._targets.get(entity.get("target", ""))
        kind = entity.get("classname", "")
        if kind == "trigger_hurt" and not flags(entity) & HURT_START_OFF:
            rate = 1.0 if flags(entity) & HURT_SLOW else HURT_FAST_PER_SECOND
            return Trigger(TriggerKind.HURT, _tuple(low), _tuple(high), amount=number(entity, "dmg", 5.0) * rate)
        if target is None:
            return None
        if kind == "trigger_push":
            aim = launch_velocity((low + high) / 2.0, vector(target, "origin") * METRES_PER_UNIT)
            return self._push(aim, low, high)
        if kind == "trigger_teleport":
            return self._teleport(target, low, high)
        if kind == "trigger_multiple" and target.get("classname") == "target_push":
            return self._push(self._target_push(target), low, high)
        if kind == "trigger_multiple" and target.get("classname") == "target_teleporter":
            exit_point = self._targets.get(target.get("target", ""))
            return None if exit_point is None else self._teleport(exit_point, low, high)
        return None

    def _target_push(self, entity: Entity) -> F64 | None:
        aim = self._targets.get(entity.get("target", ""))
        if aim is None:
            return move_direction(entity) * number(entity, "speed", PUSH_SPEED) * METRES_PER_UNIT
        start, apex = vector(entity, "origin"), vector(aim, "origin")
        return launch_velocity(start * METRES_PER_UNIT, apex * METRES_PER_UNIT)

    @staticmethod
    def _push(velocity: F64 | None, low: F64, high: F64) -> Trigger | None:
        if velocity is None:
            return None
        return Trigger(TriggerKind.PUSH, _tuple(low), _tuple(high), vector=_tuple(velocity))

    def _teleport(self, target: Entity, low: F64, high: F64) -> Trigger:
        feet = _feet(vector(target, "origin"), self._floors)
        yaw = yaw_from_degrees(number(target, "angle", 0.0))
        return Trigger(TriggerKind.TELEPORT, _tuple(low), _tuple(high), vector=feet, yaw=yaw)


def _trigger_list(entities: Sequence[dict[str, str]], bsp: BspFile, floors: FloorFinder) -> list[Trigger]:
    maker = _Triggers(entities, floors)
    triggers = []
    for entity, model, origin in brush_entities(entities, bsp, solid=False):
        low = (bsp.models["low"][model] - TRIGGER_MARGIN_UNITS + origin) * METRES_PER_UNIT
        high = (bsp.models["high"][model] + TRIGGER_MARGIN_UNITS + origin) * METRES_PER_UNIT
        trigger = maker.make(entity, np.minimum(low, high), np.maximum(low, high))
        if trigger is not None:
            triggers.append(trigger)
    return triggers


def place_entities(
    entities: Sequence[dict[str, str]], bsp: BspFile, vertices: F64, triangles: I32, contents: U16
) -> tuple[tuple[SpawnPoint, ...], tuple[ItemPoint, ...], tuple[Trigger, ...]]:
    """Spawn points (made up on walkable floor where the map has none), items and triggers.

    Raises:
        MapError: More of a kind than the limits allow, or no place to spawn.
    """
    floors = FloorFinder(vertices, triangles, contents)
    for column, limit in ((SPAWN_TEAMS, SPAWNS_MAX), (ITEM_KINDS, ITEMS_MAX)):
        count = sum(entity.get("classname", "") in column for entity in entities)
        if count > limit:
            raise MapError(bsp.source, "spawn points" if column is SPAWN_TEAMS else "items", count, f"at most {limit}")
    triggers = _trigger_list(entities, bsp, floors)
    if len(triggers) > TRIGGERS_MAX:
        raise MapError(bsp.source, "triggers", len(triggers), f"at most {TRIGGERS_MAX} are allowed")
    spawns = _spawns(entities, floors) or generate_spawns(vertices, triangles, contents, source=bsp.source)
    return tuple(spawns), tuple(_items(entities, floors)), tuple(triggers)
