"""What pages see of a running server: the world as records of the live feed, with figures, a few times a second."""

from dataclasses import replace

import numpy as np

from server.aim import Measure
from server.livefeed import FeedInfo, LiveFeedWriter
from server.livemesh import live_mesh
from server.liverows import LiveNames, LiveRows, live_info
from server.livetimes import TimingWindow
from server.loop import LoopStats
from server.maps.picture import map_picture
from server.refusals import Reason
from server.slots import COUNTS, HIDDEN_SLOT, LIVE, STATE
from server.told import ToldFeed, WatchParts
from sim.arrays import I64, AnyArray
from sim.world import World

__all__ = ["Watch", "WatchParts", "feed_info"]

PICTURE_WIDTH_PX = 1024


def feed_info(
    world: World, stages: tuple[str, ...], *, records: dict[str, object] | None = None
) -> tuple[FeedInfo, bytes]:
    """What stays the same, and the picture of the map from above as PNG; `records` as `FieldTable.describe` has it."""
    picture = map_picture(world.map, width_px=PICTURE_WIDTH_PX)
    low, high = ((float(corner[0]), float(corner[1])) for corner in (picture.low, picture.high))
    extra = {
        "reasons": ",".join(reason.label for reason in Reason),
        "measures": ",".join(measure.label for measure in Measure),
    }
    info = live_info(world, stages, records=records)
    return replace(info, picture_low=low, picture_high=high, extra=info.extra | extra), picture.png


class Watch:
    """Fills and publishes the frames of one live feed.

    Attributes:
        times: Percentiles of the stages.
        told: What chosen clients are told.
        second_at: Tick of each second in which what is told once a second is worked out: one that publishes no frame,
            where there is such a one, and far from those at the end of a second, in which recordings are handed over.
    """

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
        self.second_at = (world.tick_hz // 2 // self._every * self._every + 1) % world.tick_hz
        self._rows = LiveRows(world)
        self._truncated = 0
        self._names = LiveNames(world)
        self._bytes_out: I64 = np.zeros(parts.transport.host.clients_max, np.int64)
        self._counters: I64 = parts.replication.counters.copy()
        self._rays = 0

    def tick(self, tick: int, stage_ns: I64, stats: LoopStats) -> None:
        """Take in one tick; every few of them, publish a frame. `stage_ns` are the times of the tick before."""
        self.times.record(stage_ns)
        lengths = self._parts.replication.length
        self._bytes_out += lengths
        self.told.tick(tick)
        self._rows.take_events()
        if tick % self._parts.world.tick_hz == self.second_at:
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
        self._rows.player["bytes_out"][rows[playing]] = self._bytes_out[playing]
        ping = np.minimum(self._parts.transport.endpoint.rtt_ns[playing] / 1e6, 65535.0)
        self._rows.player["ping_ms"][rows[playing]] = ping.astype(np.uint16)
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
        names = self._names.renewed()
        if names is not None:
            self.writer.set_names(names)

    def _publish(self, tick: int, stats: LoopStats) -> None:
        self._network(stats)
        wall_ns = self._parts.clock.unix_ns()
        self.told.publish(tick, wall_ns)
        self.writer.telling["watched"] = self.told.watched
        if self._parts.refusals is not None:
            totals = self._parts.refusals.totals
            self.writer.refused[: len(totals)] = totals
        if self._parts.aim is not None:
            flags = self._parts.aim.counts
            self.writer.flagged[: len(flags)] = flags
        self.writer.publish(
            tick=tick,
            wall_ns=wall_ns,
            players=self._rows.players(),
            projectiles=self._rows.projectiles(),
            pickups=self._rows.pickups(),
            events=self._rows.events,
            stages=self.times.stages,
            movers=self._rows.movers(),
        )
        self._rows.clear_events()

    def _network(self, stats: LoopStats) -> None:
        metrics, parts = self.writer.metrics, self._parts
        counts = parts.transport.socket.statistics()
        metrics["truncated"] += self._rows.truncated - self._truncated
        self._truncated = self._rows.truncated
        metrics["tick_ns"] = self.times.stages["last_ns"].sum()
        metrics["connected"] = parts.sessions.playing
        metrics["overruns"] = stats.overruns
        metrics["bytes_in"], metrics["bytes_out"] = counts["received_bytes"], counts["sent_bytes"]
        metrics["packets_in"], metrics["packets_out"] = counts["received"], counts["sent"]
        metrics["drops"] = int(parts.transport.host.drops.sum()) + counts.get("dropped_kernel", 0)
