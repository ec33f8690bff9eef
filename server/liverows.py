"""A world's columns and events as records of the live feed: what pages draw, of a match and of its recording alike.

Columns and events are found by name (`score.kills`, `shot`, …), so that a game that uses the usual names is watched
without a line of its own; what a game does not have is shown as nothing.
"""

import numpy as np

from server.livefeed import (
    EVENT,
    EVENTS_MAX,
    MOVER,
    PICKUP,
    PLAYER,
    PROJECTILE,
    FeedInfo,
    LiveEvent,
    LiveFlag,
    TeamInfo,
)
from server.livemesh import floor_levels, mover_runs
from sim.arrays import F64, I64, AnyArray
from sim.components import Look, Motion, Projectile, Stance, Vitals
from sim.components import Pickup as PickupComponent
from sim.motion_kernels import CROUCHING, ON_GROUND
from sim.movers import MoverSet, Turn
from sim.table import Table
from sim.world import World

__all__ = ["EVENT_NAMES", "LiveNames", "LiveRows", "live_info", "live_names"]

COLOURS = ("#9fb4c7", "#ff6b5e", "#5ea0ff", "#6fd67a", "#f2c14e")
EVENT_NAMES = {
    "shot": LiveEvent.SHOT,
    "hit": LiveEvent.HIT,
    "kill": LiveEvent.KILL,
    "blast": LiveEvent.EXPLOSION,
    "picked_up": LiveEvent.PICKUP,
    "spawned": LiveEvent.SPAWN,
    "joined": LiveEvent.JOIN,
    "left": LiveEvent.LEAVE,
}
HEAD = 1
BYTES_OF_PLAYER = np.dtype((np.void, PLAYER.itemsize))  # numpy copies records field by field, ten times slower


def _column(table: Table, name: str) -> AnyArray | None:
    """A column by `component.column`, or None where the kind has none."""
    component_name, _, column_name = name.partition(".")
    for kind, component in table.components.items():
        if kind.component_name == component_name and column_name in kind.columns:
            found: AnyArray = getattr(component, column_name)
            return found
    return None


def live_info(world: World, stages: tuple[str, ...], *, records: dict[str, object] | None = None) -> FeedInfo:
    """What stays the same for a world; `records` as `FieldTable.describe` has it."""
    settings = dict(world.game.settings)
    names = {key: tuple(filter(None, settings.get(key, "").split(","))) for key in ("weapons", "items", "teams")}
    teams = names["teams"] or ("everyone",)
    bounds_low, bounds_high = (tuple(float(v) for v in corner) for corner in world.map.bounds)
    return FeedInfo(
        game=world.game.name,
        map_name=world.map.name,
        tick_rate=world.tick_hz,
        bounds_low=(bounds_low[0], bounds_low[1], bounds_low[2]),
        bounds_high=(bounds_high[0], bounds_high[1], bounds_high[2]),
        stages=stages,
        weapons=names["weapons"],
        projectiles=names["weapons"],
        pickups=names["items"],
        teams=tuple(TeamInfo(name, COLOURS[number % len(COLOURS)]) for number, name in enumerate(teams)),
        floors=floor_levels(world.map),
        movers=mover_runs(world.map),
        records=records or {},
    )


def live_names(world: World) -> list[str]:
    """Names of the players by their slot, empty where there is none; nothing where the game keeps no names."""
    return _names_of(*_packed_names(world))


def _packed_names(world: World) -> tuple[bytes, int, bytes]:
    """The names as their column has them, bytes of each, and who is there: what `_names_of` takes."""
    table = world.players
    text, count = _column(table, "name.text"), int(table.high_water)
    if text is None:
        return b"", 0, b""
    return text[:count].tobytes(), text.shape[1], table.live[:count].tobytes()


def _names_of(packed: bytes, width: int, live: bytes) -> list[str]:
    return [
        packed[row * width : (row + 1) * width].rstrip(b"\0").decode("utf-8", "replace") if there else ""
        for row, there in enumerate(live)
    ]


class LiveNames:
    """Follows the names of the players in a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: tuple[bytes, int, bytes] = (b"", 0, b"")

    def renewed(self) -> list[str] | None:
        """As `live_names`; None where nothing has changed since the last call, which costs a hundredth."""
        packed = _packed_names(self._world)
        if packed == self._seen:
            return None
        self._seen = packed
        return _names_of(*packed)


class LiveRows:
    """Fills records of the live feed from one world.

    Attributes:
        player: PLAYER records by slot; `ping_ms` and `bytes_out` are the caller's to fill.
        truncated: Events for which there was no room, in all.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.player: AnyArray = np.zeros(world.players.capacity, PLAYER)
        self.player["name"] = np.arange(world.players.capacity)
        self.truncated = 0
        self._projectile: AnyArray = np.zeros(self._capacity("projectile"), PROJECTILE)
        self._pickup: AnyArray = np.zeros(self._capacity("pickup"), PICKUP)
        movers = world.services.get(MoverSet)
        self._movers = movers if isinstance(movers, MoverSet) and "mover" in world.tables else None
        count = self._movers.count if self._movers is not None else 0
        self._offsets: F64 = np.zeros((count, 3))
        self._mover: AnyArray = np.zeros(count, MOVER)
        self._event: AnyArray = np.zeros(EVENTS_MAX, EVENT)
        self._event_count = 0
        self._kinds: I64 = np.full(256, 0, np.int64)
        for event, live in EVENT_NAMES.items():
            if event in world.game.events:
                self._kinds[world.game.event(event)] = live
        columns = (("kills", "score.kills"), ("deaths", "score.deaths"), ("score", "score.points"))
        self._extra = [(field, _column(world.players, name)) for field, name in (*columns, ("weapon", "arms.weapon"))]

    def _capacity(self, kind: str) -> int:
        return self._world.tables[kind].capacity if kind in self._world.tables else 0

    def clear_events(self) -> None:
        """Forget the events taken so far."""
        self._event_count = 0

    def take_events(self) -> None:
        """Keep the events of the tick just made, after those kept before; more than fit are cut off and counted."""
        events = self._world.events
        kinds = self._kinds[events.kind[: events.count]]
        chosen = np.flatnonzero(kinds)
        room = EVENTS_MAX - self._event_count
        self.truncated += max(0, len(chosen) - room)
        chosen = chosen[:room]
        if len(chosen) == 0:
            return
        rows = self._event[self._event_count : self._event_count + len(chosen)]
        rows["kind"] = kinds[chosen]
        rows["tick"] = self._world.tick & 0xFFFF
        rows["actor"], rows["target"] = events.actor[chosen], events.target[chosen]
        rows["position"], rows["end"] = events.position[chosen], events.vector[chosen]
        value = events.value[chosen]
        with_part = (rows["kind"] == LiveEvent.HIT) | (rows["kind"] == LiveEvent.KILL)
        head = (value % 8 == HEAD) & (rows["kind"] == LiveEvent.KILL)
        rows["value"] = np.where(with_part, value // 8 + 256 * head, value)
        blast = rows["kind"] == LiveEvent.EXPLOSION
        rows["value"][blast] = (events.vector[chosen][blast, 0] * 1000).astype(np.int32)
        self._event_count += len(chosen)

    @property
    def events(self) -> AnyArray:
        """EVENT records of the events kept."""
        return self._event[: self._event_count]

    def players(self) -> AnyArray:
        """PLAYER records of those who live in the table now."""
        table = self._world.players
        slots, count = table.live_slots, int(table.high_water)
        motion, look, stance, vitals = table[Motion], table[Look], table[Stance], table[Vitals]
        # Whole stretches, those of free slots too: by the numbers of slots it took three times as long.
        rows = self.player[:count]
        rows["id"] = table.ids[:count]
        rows["position"], rows["velocity"] = motion.position[:count], motion.velocity[:count]
        rows["yaw"], rows["pitch"] = look.yaw[:count], look.pitch[:count]
        rows["health"] = np.ceil(vitals.health[:count])
        rows["armour"] = np.ceil(vitals.armour[:count])
        rows["team"] = vitals.team[:count]
        flags = vitals.alive[:count] * np.uint8(LiveFlag.ALIVE)
        flags |= ((stance.flags[:count] & CROUCHING) != 0) * np.uint8(LiveFlag.CROUCHED)
        flags |= ((stance.flags[:count] & ON_GROUND) != 0) * np.uint8(LiveFlag.ON_GROUND)
        rows["flags"] = flags
        for field, column in self._extra:
            if column is not None:
                rows[field] = column[:count]
        if len(slots) == count:
            return rows
        chosen: AnyArray = rows.view(BYTES_OF_PLAYER)[slots].view(PLAYER)
        return chosen

    def projectiles(self) -> AnyArray:
        """PROJECTILE records of what is in flight."""
        if not len(self._projectile):
            return self._projectile
        table = self._world.tables["projectile"]
        slots = table.live_slots
        rows = self._projectile[: len(slots)]
        rows["id"], rows["position"] = table.ids[slots], table[Motion].position[slots]
        rows["kind"] = table[Projectile].weapon[slots]
        return rows

    def pickups(self) -> AnyArray:
        """PICKUP records."""
        if not len(self._pickup):
            return self._pickup
        table = self._world.tables["pickup"]
        slots = table.live_slots
        rows = self._pickup[: len(slots)]
        rows["position"] = table[Motion].position[slots]
        rows["kind"] = table[PickupComponent].item[slots]
        rows["available"] = table[PickupComponent].available[slots]
        return rows

    def movers(self) -> AnyArray:
        """MOVER records: where doors and lifts are at the end of the last tick; none before the first."""
        if self._movers is None or not self._movers.count or not self._world.tick:
            return self._mover[:0]
        turn, count = self._world.tables["mover"][Turn], self._movers.count
        turns = (turn.opens[:count], turn.since[:count], turn.until[:count])
        self._movers.offsets(turns, self._world.tick, self._offsets)
        self._mover["offset"] = self._offsets
        return self._mover
