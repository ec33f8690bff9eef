"""A match that needs no server: players walk between the map's points of interest, shoot, die and score."""

import numpy as np

from server.livefeed import (
    EVENT,
    PICKUP,
    PLAYER,
    PROJECTILE,
    STAGE,
    FeedInfo,
    LiveEvent,
    LiveFeedWriter,
    LiveFlag,
    TeamInfo,
)
from server.livemesh import floor_levels, live_mesh
from sim.arrays import AnyArray
from sim.worldmap import WorldMap

STAGES = (
    "receive",
    "commands",
    "motion",
    "broadphase",
    "contacts",
    "weapons",
    "hits",
    "rules",
    "interest",
    "encode",
    "send",
)
WEAPONS = ("gauntlet", "machine gun", "shotgun", "rocket launcher", "rail gun")
TEAMS = (TeamInfo("red", "#ff6b6b"), TeamInfo("blue", "#5aa9ff"))
SPEED = 8.0


class SyntheticMatch:
    """`count` players on `world`; the same seed gives the same match.

    Attributes:
        still: Whether nobody moves and nothing happens for now.
    """

    def __init__(self, world: WorldMap, count: int, *, seed: int = 1, tick_rate: int = 60) -> None:
        self.world = world
        self.random = np.random.default_rng(seed)
        points = [spawn.position for spawn in world.spawns] + [item.position for item in world.items]
        self.points = np.array(points, np.float64)
        self.tick_rate = tick_rate
        self.tick = 0
        self.players: AnyArray = np.zeros(count, PLAYER)
        self.players["id"] = (np.uint64(7) << np.uint64(52)) + np.arange(count, dtype=np.uint64) + np.uint64(1)
        self.players["name"] = np.arange(count)
        self.players["team"] = np.arange(count) % len(TEAMS)
        self.players["position"] = self.points[self.random.integers(0, len(points), count)]
        self.players["health"] = self.random.integers(15, 101, count)
        self.players["armour"] = self.random.integers(0, 101, count) * (self.random.random(count) < 0.4)
        self.players["flags"] = LiveFlag.ALIVE | LiveFlag.ON_GROUND | LiveFlag.BOT
        self.players["ping_ms"] = self.random.integers(8, 90, count)
        self.players["weapon"] = self.random.integers(0, len(WEAPONS), count)
        self.goals = self.points[self.random.integers(0, len(points), count)]
        self.dead_until = np.zeros(count)
        self.projectiles: AnyArray = np.zeros(min(12, count), PROJECTILE)
        self.projectiles["id"] = np.arange(len(self.projectiles)) + 1
        self.pickups: AnyArray = np.zeros(len(world.items), PICKUP)
        kinds = self.kinds()
        for row, item in zip(self.pickups, world.items, strict=True):
            row["position"], row["kind"], row["available"] = item.position, kinds.index(item.kind), 1
        self.still = False
        self.names = [f"Bot {number:02d}" for number in range(count)]

    def kinds(self) -> list[str]:
        """Kinds of pickups on the map."""
        return sorted({item.kind for item in self.world.items})

    def info(self) -> FeedInfo:
        """What stays the same."""
        low, high = self.world.bounds
        return FeedInfo(
            game="arena team deathmatch",
            map_name=self.world.name,
            extra={"reasons": "fire_rate,turn,flood", "measures": "headshots,follows"},
            tick_rate=self.tick_rate,
            bounds_low=(float(low[0]), float(low[1]), float(low[2])),
            bounds_high=(float(high[0]), float(high[1]), float(high[2])),
            stages=STAGES,
            weapons=WEAPONS,
            projectiles=("rocket",),
            pickups=tuple(self.kinds()),
            teams=TEAMS,
            floors=floor_levels(self.world),
        )

    def writer(self, name: str, *, now_ns: int) -> LiveFeedWriter:
        """A feed of this match."""
        writer = LiveFeedWriter(name, self.info(), now_ns=now_ns, mesh=live_mesh(self.world))
        writer.set_names(self.names)
        return writer

    def step(self, seconds: float) -> list[tuple[int, int, int, int, AnyArray, AnyArray]]:
        """Move everybody; returns the events as (kind, value, actor, target, position, end)."""
        players = self.players
        away = self.goals - players["position"]
        distance = np.linalg.norm(away, axis=1)
        arrived = distance < SPEED * seconds
        self.goals[arrived] = self.points[self.random.integers(0, len(self.points), int(arrived.sum()))]
        alive = (players["flags"] & LiveFlag.ALIVE) != 0
        velocity = np.where(alive[:, None], away / np.maximum(distance, 0.01)[:, None] * SPEED, 0.0)
        players["velocity"] = velocity
        players["position"] += (velocity * seconds).astype(np.float32)
        turn = (np.arctan2(velocity[:, 1], velocity[:, 0]) / (2 * np.pi) * 65536).astype(np.int64)
        delta = (turn - players["yaw"].astype(np.int64) + 32768) % 65536 - 32768
        players["yaw"] = ((players["yaw"].astype(np.int64) + delta * min(1.0, seconds * 6)) % 65536).astype(np.uint16)
        players["bytes_out"] = 18_000 + self.random.integers(0, 4000, len(players))
        self.projectiles["position"] += self.projectiles["position"] * 0 + np.float32(14 * seconds)
        lost = self.random.random(len(self.projectiles)) < seconds
        self.projectiles["position"][lost] = self.points[self.random.integers(0, len(self.points), int(lost.sum()))]
        self._revive(seconds)
        return self._fight(alive, seconds)

    def _revive(self, seconds: float) -> None:
        players = self.players
        back = ((players["flags"] & LiveFlag.ALIVE) == 0) & (self.dead_until <= self.tick)
        players["flags"][back] |= LiveFlag.ALIVE
        players["health"][back] = 100
        players["position"][back] = self.points[self.random.integers(0, len(self.points), int(back.sum()))]
        self.pickups["available"] |= (self.random.random(len(self.pickups)) < seconds / 4).astype(np.uint8)

    def _fight(self, alive: AnyArray, seconds: float) -> list[tuple[int, int, int, int, AnyArray, AnyArray]]:
        players = self.players
        events = []
        for shooter in np.flatnonzero(alive & (self.random.random(len(players)) < seconds * 0.8)):
            enemies = np.flatnonzero(alive & (players["team"] != players["team"][shooter]))
            if not len(enemies):
                continue
            reach = np.linalg.norm(players["position"][enemies] - players["position"][shooter], axis=1)
            target = int(enemies[np.argmin(reach)])
            start, end = players["position"][shooter] + [0, 0, 0.9], players["position"][target] + [0, 0, 0.8]
            ids = int(players["id"][shooter]), int(players["id"][target])
            events.append((LiveEvent.SHOT, int(players["weapon"][shooter]), *ids, start, end))
            if players["weapon"][shooter] == 3:
                events.append((LiveEvent.EXPLOSION, 3000, *ids, end, end))
            damage = int(self.random.integers(6, 30))
            events.append((LiveEvent.HIT, damage, *ids, end, end))
            players["health"][target] -= damage
            if players["health"][target] <= 0 and alive[target]:
                alive[target] = False
                players["flags"][target] &= ~LiveFlag.ALIVE & 255
                players["deaths"][target] += 1
                players["kills"][shooter] += 1
                players["score"][shooter] += 1
                self.dead_until[target] = self.tick + 2 * self.tick_rate
                head = 256 * int(self.random.random() < 0.3)
                events.append((LiveEvent.KILL, int(players["weapon"][shooter]) + head, *ids, end, end))
        return events

    def publish(self, writer: LiveFeedWriter, *, seconds: float, wall_ns: int) -> None:
        """One step, and one frame of it."""
        self.tick += round(seconds * self.tick_rate)
        happened = [] if self.still else self.step(seconds)
        if self.still:
            self.players["velocity"] = 0.0
        events: AnyArray = np.zeros(len(happened), EVENT)
        for row, (kind, value, actor, target, position, end) in zip(events, happened, strict=True):
            row["kind"], row["value"], row["actor"], row["target"] = kind, value, actor, target
            row["position"], row["end"] = position, end
        stages: AnyArray = np.zeros(len(STAGES), STAGE)
        typical = np.array([90, 40, 620, 120, 260, 140, 310, 80, 220, 480, 350]) * 1000.0
        stages["last_ns"] = typical * self.random.uniform(0.8, 1.5, len(STAGES))
        stages["p50_ns"], stages["p99_ns"] = typical, typical * 1.7
        metrics = writer.metrics
        metrics["tick_ns"] = stages["last_ns"].sum()
        metrics["tick_p50_ns"], metrics["tick_p95_ns"], metrics["tick_p99_ns"] = 2_750_000, 3_400_000, 4_600_000
        metrics["connected"] = len(self.players)
        metrics["bytes_out"] += int(len(self.players) * 18_000 * seconds)
        metrics["bytes_in"] += int(len(self.players) * 3_000 * seconds)
        metrics["packets_out"] += int(len(self.players) * 60 * seconds)
        metrics["packets_in"] += int(len(self.players) * 60 * seconds)
        writer.publish(
            tick=self.tick,
            wall_ns=wall_ns,
            players=self.players,
            projectiles=self.projectiles,
            pickups=self.pickups,
            events=events,
            stages=stages,
        )
