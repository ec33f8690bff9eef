"""What pages see of a match: the world's columns as records of the live feed, a few times a second.

Columns and events are found by name (`score.kills`, `shot`, …), so that a game that uses the usual names is watched
without a line of its own; what a game does not have is shown as nothing.
"""

import numpy as np

from server.livefeed import EVENT, PICKUP, PLAYER, PROJECTILE, FeedInfo, LiveEvent, LiveFeedWriter, LiveFlag, TeamInfo
from server.livefeed import EVENTS_MAX as FEED_EVENTS_MAX
from server.livemesh import floor_levels, live_mesh
from server.livetimes import TimingWindow
from server.loop import LoopStats
from server.maps.picture import map_picture
from server.slots import COUNTS, HIDDEN_SLOT, LIVE, STATE
from server.told import ToldFeed, WatchParts
from sim.arrays import I64, AnyArray
from sim.components import Look, Motion, Projectile, Stance, Vitals
from sim.components import Pickup as PickupComponent
from sim.motion_kernels import CROUCHING, ON_GROUND
from sim.table import Table
from sim.world import World

__all__ = ["Watch", "WatchParts", "feed_info"]

PICTURE_WIDTH_PX = 1024
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


def _column(table: Table, name: str) -> AnyArray | None:
    """A column by `component.column`, or None where the kind has none."""
    component_name, _, column_name = name.partition(".")
    for kind, component in table.components.items():
        if kind.component_name == component_name and column_name in kind.columns:
            found: AnyArray = getattr(component, column_name)
            return found
    return None


def feed_info(
    world: World, stages: tuple[str, ...], *, records: dict[str, object] | None = None
) -> tuple[FeedInfo, bytes]:
    """What stays the same, and the picture of the map from above as PNG; `records` as `FieldTable.describe` has it."""
    picture = map_picture(world.map, width_px=PICTURE_WIDTH_PX)
    settings = dict(world.game.settings)
    names = {key: tuple(filter(None, settings.get(key, "").split(","))) for key in ("weapons", "items", "teams")}
    teams = names["teams"] or ("everyone",)
    bounds_low, bounds_high = (tuple(float(v) for v in corner) for corner in world.map.bounds)
    info = FeedInfo(
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
        records=records or {},
        picture_low=(float(picture.low[0]), float(picture.low[1])),
        picture_high=(float(picture.high[0]), float(picture.high[1])),
    )
    return info, picture.png


class Watch:
    """Fills and publishes the frames of one live feed."""

    def __init__(self, name: str, parts: WatchParts, stages: tuple[str, ...], *, feed_hz: int) -> None:
        self._parts = parts
        world = parts.world
        info, picture = feed_info(world, stages, records=parts.replication.table.describe())
        started_ns = parts.clock.unix_ns()
        self.told = ToldFeed(name, parts, started_ns=started_ns)
        try:
            self.writer = LiveFeedWriter(name, info, now_ns=started_ns, picture_png=picture, mesh=live_mesh(world.map))
        except BaseException:
            self.told.close()
            raise
        self.times = TimingWindow(len(stages), ticks=world.tick_hz)
        self._every = max(1, round(world.tick_hz / feed_hz))
        self._players = np.zeros(world.players.capacity, PLAYER)
        self._players["name"] = np.arange(world.players.capacity)
        self._projectiles = np.zeros(self._capacity("projectile"), PROJECTILE)
        self._pickups = np.zeros(self._capacity("pickup"), PICKUP)
        self._events = np.zeros(FEED_EVENTS_MAX, EVENT)
        self._event_count = 0
        self._kinds: I64 = np.full(256, 0, np.int64)
        for event, live in EVENT_NAMES.items():
            if event in world.game.events:
                self._kinds[world.game.event(event)] = live
        players = world.players
        columns = (("kills", "score.kills"), ("deaths", "score.deaths"), ("score", "score.points"))
        self._extra = [(field, _column(players, name)) for field, name in (*columns, ("weapon", "arms.weapon"))]
        self._names: list[str] = []
        self._bytes_out: I64 = np.zeros(parts.transport.host.clients_max, np.int64)
        self._counters: I64 = parts.replication.counters.copy()
        self._rays = 0

    def _capacity(self, kind: str) -> int:
        return self._parts.world.tables[kind].capacity if kind in self._parts.world.tables else 0

    def tick(self, tick: int, stage_ns: I64, stats: LoopStats) -> None:
        """Take in one tick; every few of them, publish a frame. `stage_ns` are the times of the tick before."""
        self.times.record(stage_ns)
        lengths = self._parts.replication.length
        self._bytes_out += lengths
        self.told.tick(tick)
        self._note_events()
        if tick % self._parts.world.tick_hz == 0:
            self._each_second()
        if tick % self._every == 0:
            self._publish(tick, stats)

    def close(self) -> None:
        """End the feed."""
        self.told.close()
        self.writer.close()

    def _each_second(self) -> None:
        self.times.summarise(self.writer.metrics)
        rows = self._parts.sessions.row
        playing = rows >= 0
        self._players["bytes_out"][rows[playing]] = self._bytes_out[playing]
        ping = np.minimum(self._parts.transport.endpoint.rtt_ns[playing] / 1e6, 65535.0)
        self._players["ping_ms"][rows[playing]] = ping.astype(np.uint16)
        self._sum_up(playing)
        self._bytes_out[:] = 0
        self._tell_names()

    def _sum_up(self, playing: AnyArray) -> None:
        """What all clients were told in the last second."""
        telling, replication = self.writer.telling, self._parts.replication
        counters = replication.counters - self._counters
        self._counters[:] = replication.counters
        count = {name: int(counters[number]) for name, number in COUNTS.items()}
        told = self._bytes_out[playing]
        if len(told):
            telling["p50_Bps"], telling["p95_Bps"] = np.percentile(told, (50, 95), method="higher")
            telling["max_Bps"] = told.max()
            telling["snapshot_hz"] = (self._parts.world.tick_hz / replication.interval[playing]).mean()
        snapshots = max(count["snapshots"], 1)
        telling["records"], telling["events"] = count["records_sent"] / snapshots, count["events_sent"] / snapshots
        parts = {name: count[f"records_{name}"] for name in ("sent", "at_rest", "steady", "in_flight", "deferred")}
        pairs = max(sum(parts.values()), 1)
        for name, part in parts.items():
            telling[name] = part / pairs
        states = replication._slots[1][STATE]
        telling["told_pairs"], telling["hidden_pairs"] = ((states == state).sum() for state in (LIVE, HIDDEN_SLOT))
        sight = self._parts.sight
        if sight is None:
            telling["rays"] = -1
            return
        rays = sight.counts["rays"]
        telling["rays"] = (rays - self._rays) / self._parts.world.tick_hz
        self._rays = rays

    def _tell_names(self) -> None:
        text = _column(self._parts.world.players, "name.text")
        if text is None:
            return
        live = self._parts.world.players.live
        packed = text.tobytes()
        width = text.shape[1]
        names = [
            packed[row * width : (row + 1) * width].rstrip(b"\0").decode("utf-8", "replace") if live[row] else ""
            for row in range(int(self._parts.world.players.high_water))
        ]
        if names != self._names:
            self._names = names
            self.writer.set_names(names)

    def _note_events(self) -> None:
        """Keep this tick's events for the next frame; more than fit are cut off and counted."""
        events = self._parts.world.events
        kinds = self._kinds[events.kind[: events.count]]
        chosen = np.flatnonzero(kinds)
        room = FEED_EVENTS_MAX - self._event_count
        self.writer.metrics["truncated"] += max(0, len(chosen) - room)
        chosen = chosen[:room]
        if len(chosen) == 0:
            return
        rows = self._events[self._event_count : self._event_count + len(chosen)]
        rows["kind"] = kinds[chosen]
        rows["actor"], rows["target"] = events.actor[chosen], events.target[chosen]
        rows["position"], rows["end"] = events.position[chosen], events.vector[chosen]
        value = events.value[chosen]
        with_part = (rows["kind"] == LiveEvent.HIT) | (rows["kind"] == LiveEvent.KILL)
        head = (value % 8 == HEAD) & (rows["kind"] == LiveEvent.KILL)
        rows["value"] = np.where(with_part, value // 8 + 256 * head, value)
        blast = rows["kind"] == LiveEvent.EXPLOSION
        rows["value"][blast] = (events.vector[chosen][blast, 0] * 1000).astype(np.int32)
        self._event_count += len(chosen)

    def _publish(self, tick: int, stats: LoopStats) -> None:
        self._network(stats)
        wall_ns = self._parts.clock.unix_ns()
        self.told.publish(tick, wall_ns)
        self.writer.telling["watched"] = self.told.watched
        self.writer.publish(
            tick=tick,
            wall_ns=wall_ns,
            players=self._fill_players(),
            projectiles=self._fill_projectiles(),
            pickups=self._fill_pickups(),
            events=self._events[: self._event_count],
            stages=self.times.stages,
        )
        self._event_count = 0

    def _network(self, stats: LoopStats) -> None:
        metrics, parts = self.writer.metrics, self._parts
        counts = parts.transport.socket.statistics()
        metrics["tick_ns"] = self.times.stages["last_ns"].sum()
        metrics["connected"] = parts.sessions.playing
        metrics["overruns"] = stats.overruns
        metrics["bytes_in"], metrics["bytes_out"] = counts["received_bytes"], counts["sent_bytes"]
        metrics["packets_in"], metrics["packets_out"] = counts["received"], counts["sent"]
        metrics["drops"] = int(parts.transport.host.drops.sum()) + counts.get("dropped_kernel", 0)

    def _fill_players(self) -> AnyArray:
        table = self._parts.world.players
        slots = table.live_slots
        motion, look, stance, vitals = table[Motion], table[Look], table[Stance], table[Vitals]
        rows = self._players
        rows["id"][slots] = table.ids[slots]
        rows["position"][slots], rows["velocity"][slots] = motion.position[slots], motion.velocity[slots]
        rows["yaw"][slots], rows["pitch"][slots] = look.yaw[slots], look.pitch[slots]
        rows["health"][slots] = np.ceil(vitals.health[slots])
        rows["armour"][slots] = np.ceil(vitals.armour[slots])
        rows["team"][slots] = vitals.team[slots]
        flags = vitals.alive[slots] * LiveFlag.ALIVE
        flags = flags + ((stance.flags[slots] & CROUCHING) != 0) * LiveFlag.CROUCHED
        rows["flags"][slots] = flags + ((stance.flags[slots] & ON_GROUND) != 0) * LiveFlag.ON_GROUND
        for field, column in self._extra:
            if column is not None:
                rows[field][slots] = column[slots]
        return rows[slots]

    def _fill_projectiles(self) -> AnyArray | None:
        if not len(self._projectiles):
            return None
        table = self._parts.world.tables["projectile"]
        slots = table.live_slots
        rows = self._projectiles[: len(slots)]
        rows["id"], rows["position"] = table.ids[slots], table[Motion].position[slots]
        rows["kind"] = table[Projectile].weapon[slots]
        return rows

    def _fill_pickups(self) -> AnyArray | None:
        if not len(self._pickups):
            return None
        table = self._parts.world.tables["pickup"]
        slots = table.live_slots
        rows = self._pickups[: len(slots)]
        rows["position"] = table[Motion].position[slots]
        rows["kind"] = table[PickupComponent].item[slots]
        rows["available"] = table[PickupComponent].available[slots]
        return rows
