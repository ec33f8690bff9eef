"""A shooting range in one process: a whole server, clients behind a simulated network, and a clock moved by hand.

What is asked is whether shots hit what their players saw. Shooters stand still and aim perfectly, at the middle of the
torso of a target as their own client shows it, and hold the trigger of a weapon without spread. Targets play like
players: they strafe about their shooter, change their minds several times a second, jump and crouch.

    with open_range(pairs=8, network=NetworkProfile(...)) as place:
        place.play(8.0)                    # clocks and delays settle
        figures = place.measure(20.0)

Server and clients take turns in steps of a quarter tick, so that a delay is not rounded to the frames of whoever waits
for it. Everything is drawn from the seed, except what the operating system does to datagrams on loopback: nothing.
"""

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from net.messages import MessageCodec
from net.party import Party
from net.replica import ReplicaGroup
from net.simulator import NetworkProfile
from server.app import Server
from server.config import ServerConfig
from server.maps.solids import Solids
from server.maps.store import write_map
from server.wire import field_table, owner_layout
from sim.arrays import F64, I32, I64, U64, Bool
from sim.commands import REWIND_STEPS, Button
from sim.components import Motion, Vitals
from sim.motion import Motion as MotionKernel
from sim.motion import MotionParameters
from sim.motion_kernels import CROUCHING
from sim.weapons_kernels import EYE
from sim.worldmap import SpawnPoint, WorldMap
from tools.bots import MotionPredictor
from tools.hand_clock import HandClock

__all__ = ["Clients", "HitFigures", "Range", "open_range", "range_map"]

TICK_HZ = 60
TICK_NS = 1_000_000_000 // TICK_HZ
STEPS = 4  # of a tick
LANE_M = 45.0
POST = np.array([0.0, 0.0, 0.1])
WEAPON = "lightning"
TORSO = 0.58  # of the body's height: the middle of the torso's capsule (`sim.hitbox_kernels`)
REACH_M = 18.0  # the weapon's is 19.2 m
NEAR_M, FAR_M = 6.0, 12.0  # where targets like to be
TURN = 65536.0 / (2.0 * math.pi)
STANDARD = MotionParameters()


class Clients(Party):
    """Some clients of a server in the same process.

    Attributes:
        replicas: What they are told of others.
        entity: Each client's own player, 0 before it plays; uint64.
    """

    def __init__(
        self, server: Server, count: int, *, first_id: int, team: int, network: NetworkProfile | None, seed: int
    ) -> None:
        world = server.world
        actions, messages = world.game.actions, world.game.messages
        self.replicas = ReplicaGroup(count, field_table(world.game, tick_hz=TICK_HZ))
        self.entity: U64 = np.zeros(count, np.uint64)
        super().__init__(
            count, protocol_id=server.card.protocol_id, layout=owner_layout(), tick_hz=TICK_HZ,
            token=lambda client: server.card.token(first_id + client, name=f"Player {first_id + client}", team=team),
            to_server=MessageCodec.to_server(actions, messages), to_client=MessageCodec.to_client(actions, messages),
            replicas=self.replicas, network=network, seed=seed,
            predictor=MotionPredictor(
                MotionKernel(world.geometry, world.map.triggers), tick_hz=TICK_HZ, bots=count
            ),
        )  # fmt: skip
        self._hands = {
            name: np.zeros(count, np.int64)
            for name in ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon")
        }

    def frame(self, now_ns: int, think: Callable[["Clients", dict[str, I64]], None]) -> None:
        """Receive, let `think(self, hands)` set the inputs wherever a tick is due, and send."""
        self.receive(now_ns)
        for client, message in self.take_messages():
            if message.name == "welcome":
                self.entity[client] = np.uint64(int(str(message.values[2])))
        while self.clients.advance(now_ns):
            think(self, self._hands)
            self.clients.set_inputs(**self._hands)
        self.send(now_ns)

    def shown(self, wanted: U64) -> tuple[F64, Bool, Bool]:
        """Where each client shows one entity now: feet [m] (clients, 3), whether crouched, whether shown at all."""
        replicas, playback = self.replicas, self.clients.playback
        position, visible = replicas.view(playback.moment, limit_ticks=playback.limit_ticks)
        match = (replicas.entity_id == wanted[:, None]) & (visible != 0)
        slot = match.argmax(axis=1)
        rows = np.arange(self.count)
        flags = [field.name for field in replicas.table.fields].index("stance.flags")
        crouched: Bool = (replicas.fields[rows, slot, flags] & CROUCHING) != 0
        feet: F64 = position[rows, slot].copy()
        return feet, crouched, match.any(axis=1)


@dataclass(frozen=True, slots=True)
class HitFigures:
    """What shooters did: shots, hits of the target aimed at, and how far they were rewound [ms]."""

    shots: int
    hits: int
    rewind_ms: float
    capped_share: float

    @property
    def percent(self) -> float:
        """Hits of a hundred shots."""
        return 100.0 * self.hits / max(1, self.shots)


def range_map(pairs: int) -> WorldMap:
    """A floor of grass for so many pairs, each out of reach of the others."""
    solids = Solids()
    length = LANE_M * (pairs + 1)
    solids.box((-LANE_M, -LANE_M, -1.0), (length, LANE_M, 0.0))
    for x, y in ((-LANE_M, 0.0), (length, 0.0)):
        solids.box((x - 0.5, y - LANE_M, 0.0), (x + 0.5, y + LANE_M, 8.0))
    vertices, triangles, contents = solids.mesh()
    spawns = tuple(SpawnPoint((lane * LANE_M + x, 0.0, 0.05), 0) for lane in range(pairs) for x in (0.0, 9.0))
    return WorldMap("range", vertices, triangles, contents, spawns)


class Strafing:
    """How targets move: they face their shooter, and do whatever comes to their minds."""

    def __init__(self, count: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._until: I64 = np.zeros(count, np.int64)
        self._wish: I64 = np.zeros((count, 2), np.int64)
        self._crouch_until: I64 = np.zeros(count, np.int64)

    def press(self, clients: Clients, posts: F64, hands: dict[str, I64]) -> None:
        """Set the hands of all."""
        random, tick = self._random, clients.clients.tick
        away = clients.clients.state["position"] - posts
        distance = np.hypot(away[:, 0], away[:, 1])
        new = tick >= self._until
        count = len(new)
        self._until = np.where(new, tick + random.integers(15, 54, count), self._until)
        drawn = random.integers(-1, 2, (count, 2)) * 127
        self._wish = np.where(new[:, None], drawn, self._wish)
        self._wish[:, 0] = np.where(distance > FAR_M, 127, np.where(distance < NEAR_M, -127, self._wish[:, 0]))
        ducks = random.random(count) < 0.006
        self._crouch_until = np.where(ducks, tick + random.integers(10, 40, count), self._crouch_until)
        jumps = random.random(count) < 0.015
        hands["buttons"][:] = np.where(jumps, int(Button.JUMP), 0) | np.where(
            tick < self._crouch_until, int(Button.CROUCH), 0
        )
        hands["yaw"][:] = np.round(np.arctan2(-away[:, 1], -away[:, 0]) * TURN).astype(np.int64) & 0xFFFF
        hands["move_forward"][:], hands["move_right"][:] = self._wish[:, 0], self._wish[:, 1]


class Range:
    """Pairs of a shooter and a target. Make it with `open_range`.

    Attributes:
        server: The server.
        shooters, targets: Its clients, as many of each.
    """

    def __init__(
        self, server: Server, pairs: int, *, network: NetworkProfile | None, target_network: NetworkProfile | None,
        seed: int,
    ) -> None:  # fmt: skip
        assert isinstance(server.clock, HandClock)
        self.server, self.clock, self.pairs = server, server.clock, pairs
        self.shooters = Clients(server, pairs, first_id=1000, team=1, network=network, seed=seed)
        self.targets = Clients(server, pairs, first_id=2000, team=2, network=target_network, seed=seed + 100)
        self._strafing = Strafing(pairs, seed)
        self._posts: F64 = POST + np.arange(pairs)[:, None] * np.array([LANE_M, 0.0, 0.0])
        self._weapon = dict(server.world.game.settings)["weapons"].split(",").index(WEAPON)
        self._shot = server.world.game.event("shot")
        self._step = 0
        self._shots = self._hits = 0
        self._rewinds: list[int] = []
        for group in (self.shooters, self.targets):
            for client in range(pairs):
                group.join(client, self.clock.now)
        self.play(2.0)
        self._take_places()

    def _rows(self, clients: Clients) -> I32:
        """The rows of clients' players in the server's table."""
        return np.array([self.server.world.players.slot_of(int(entity)) for entity in clients.entity], np.int32)

    def _take_places(self) -> None:
        players = self.server.world.players
        motion = players[Motion]
        motion.position[self._rows(self.shooters)] = self._posts
        motion.position[self._rows(self.targets)] = self._posts + np.array([9.0, 0.0, 0.0])
        motion.velocity[:] = 0.0

    def _provide(self) -> None:
        """Nobody dies, and no weapon runs dry."""
        from sim.games.arena.components import Arms

        players = self.server.world.players
        players[Vitals].health[:] = 100.0
        arms = players[Arms]
        arms.owned[:] |= np.uint16(1 << self._weapon)
        arms.reserve[:, self._weapon] = 100

    def play(self, seconds: float) -> None:
        """Let server and clients play."""
        for _ in range(round(seconds * TICK_HZ)):
            self._tick()

    def _tick(self) -> None:
        for step in range(STEPS):
            self.clock.now += TICK_NS // STEPS
            if step == 0:
                self._provide()
                self.server.frame.run(self.clock.now)
                self._count()
            for frame, clients, think in ((1, self.shooters, self._aim), (2, self.targets, self._run)):
                if step == frame:
                    clients.frame(self.clock.now, think)
                else:
                    clients.carry(self.clock.now)
                    clients.receive(self.clock.now)

    def _run(self, clients: Clients, hands: dict[str, I64]) -> None:
        self._strafing.press(clients, self._posts, hands)

    def _aim(self, clients: Clients, hands: dict[str, I64]) -> None:
        """Look at the middle of the torso as it is shown, from where our own player will stand."""
        feet, crouched, shown = clients.shown(self.targets.entity)
        height = np.where(crouched, STANDARD.height_crouched, STANDARD.height_standing)
        way = feet - clients.clients.state["position"]
        way[:, 2] += TORSO * height - EYE * STANDARD.height_standing
        hands["yaw"][:] = np.round(np.arctan2(way[:, 1], way[:, 0]) * TURN).astype(np.int64) & 0xFFFF
        hands["pitch"][:] = np.round(np.arctan2(way[:, 2], np.hypot(way[:, 0], way[:, 1])) * TURN)
        shoots = shown & (np.linalg.norm(way, axis=1) < REACH_M)
        hands["buttons"][:] = np.where(shoots, int(Button.FIRE), 0)
        hands["weapon"][:] = self._weapon

    def _count(self) -> None:
        """Take note of the shots of this tick, and of whom they met."""
        world = self.server.world
        events = world.events
        shot = np.flatnonzero(events.kind[: events.count] == self._shot)
        aimed = {int(a): int(b) for a, b in zip(self.shooters.entity, self.targets.entity, strict=True)}
        for index in shot.tolist():
            actor = int(events.actor[index])
            if actor in aimed:
                self._shots += 1
                self._hits += int(events.target[index]) == aimed[actor]
                self._rewinds.append(int(self.server.frame.commands.rewind[world.players.slot_of(actor)]))

    def measure(self, seconds: float) -> HitFigures:
        """Play, and count."""
        self._shots = self._hits = 0
        self._rewinds.clear()
        playback = self.shooters.clients.playback
        capped, frames = int(playback.capped.sum()), int(playback.frames.sum())
        self.play(seconds)
        rewind = float(np.mean(self._rewinds)) / REWIND_STEPS * 1e3 / TICK_HZ if self._rewinds else 0.0
        share = (int(playback.capped.sum()) - capped) / max(1, int(playback.frames.sum()) - frames)
        return HitFigures(self._shots, self._hits, rewind, share)

    def close(self) -> None:
        """Close the clients' sockets."""
        self.shooters.sockets.close()
        self.targets.sockets.close()


@contextlib.contextmanager
def open_server(world_map: WorldMap, make: Callable[..., Server] = Server, **settings: object) -> Iterator[Server]:
    """A server on a map that is made for it, with a clock moved by hand."""
    with tempfile.TemporaryDirectory(prefix="hitreg-") as directory:
        path = Path(directory) / f"{world_map.name}.npz"
        write_map(path, world_map)
        config = ServerConfig.model_validate(
            {"map": str(path), "feed": f"fair-{os.getpid()}-{time.monotonic_ns()}", "feed_hz": 0, "clients_max": 64,
             "visibility": "off", "record_dir": ""} | settings
        )  # fmt: skip
        with make(config, clock=HandClock()) as server:
            yield server


@contextlib.contextmanager
def open_range(
    pairs: int = 8,
    *,
    network: NetworkProfile | None = None,
    target_network: NetworkProfile | None = None,
    rewinds: bool = True,
    seed: int = 1,
    make: Callable[..., Server] = Server,
    **settings: object,
) -> Iterator[Range]:
    """A range with all players in their places.

    Args:
        pairs: Shooters, and as many targets.
        network: What shooters play through, each way; None: nothing.
        target_network: What targets play through.
        rewinds: Whether shots are judged by what was seen; else in the present, as without lag compensation.
        seed: Of all that is random.
        make: Makes the server; tests need kernels that are not sealed.
        settings: Of the server (`server.config`).
    """
    with open_server(range_map(pairs), make, **settings) as server:
        if not rewinds:
            server.world.rewind_max = 0  # clients go on as if: what they show is what they would show
        place = Range(server, pairs, network=network, target_network=target_network, seed=seed)
        try:
            yield place
        finally:
            place.close()
