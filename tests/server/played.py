"""A whole server and clients in one process, over loopback sockets and a clock that the test moves."""

import functools
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from net.messages import MessageCodec
from net.party import Party
from net.replica import ReplicaGroup
from net.zone_replica import ZoneReplica
from server.app import Server
from server.config import ServerConfig
from server.kernels import MODULES, prepare
from server.wire import field_table, owner_layout
from server.zone_state import zone_layout
from sim.jit import seal
from sim.motion import Motion
from sim.movers import MoverSet
from sim.schema import Value
from tools.bot_movers import ToldMovers
from tools.bots import MotionPredictor
from tools.hand_clock import HandClock

TICK_HZ = 60
SEALED = "HITREG_TEST_SEALED"
TICK_NS = 1_000_000_000 // TICK_HZ


class Clients(Party):
    """`count` clients of a server, each with what it predicts and what it was told."""

    def __init__(self, server: Server, count: int, *, with_zone: bool = False) -> None:
        self.server = server
        world = server.world
        actions, messages = world.game.actions, world.game.messages
        self.codec = MessageCodec.to_server(actions, messages)
        self.replicas = ReplicaGroup(count, field_table(world.game, tick_hz=TICK_HZ))
        self.heard: list[tuple[int, str]] = []
        self.welcomes: list[tuple[int, tuple[Value, ...]]] = []
        self.wishes: dict[str, int] = {}
        zone = ZoneReplica(count, zone_layout(world.game)) if with_zone else None
        movers = MoverSet(world.map, world.geometry, tick_hz=TICK_HZ)
        motion = Motion(world.geometry, world.map.triggers, movers=movers)
        told = ToldMovers(movers, motion, zone, clients=count)
        super().__init__(
            count, protocol_id=server.card.protocol_id, layout=owner_layout(), tick_hz=TICK_HZ, token=self._fresh,
            to_server=self.codec, to_client=MessageCodec.to_client(actions, messages), replicas=self.replicas,
            zone=zone, predictor=MotionPredictor(motion, tick_hz=TICK_HZ, bots=count, movers=told),
        )  # fmt: skip
        self.teams = [0] * count

    def _fresh(self, client: int) -> bytes:
        return self.server.card.token(1000 + client, name=f"Player {client}", team=self.teams[client])

    def connect(self, client: int, *, team: int = 0) -> None:
        self.teams[client] = team
        self.join(client, self.server.clock.now_ns())

    def frame(self, now_ns: int) -> None:
        self.receive(now_ns)
        for client, message in self.take_messages():
            if message.name == "say":
                self.heard.append((client, str(message.values[1])))
            elif message.name == "welcome":
                self.welcomes.append((client, message.values))
        names = ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon")
        while self.clients.advance(now_ns):
            self.clients.set_inputs(**{name: np.full(self.count, self.wishes.get(name, 0)) for name in names})
        self.send(now_ns)

    def flush(self) -> None:
        """Send what is outgoing now, without a frame."""
        self.sockets.send(self.connections.outgoing)


@functools.cache
def _seal_once() -> None:
    prepare(modules=(*MODULES, "tools.bots"))
    seal()


@contextmanager
def playing(count: int, *, with_zone: bool = False, **settings: object) -> Iterator[tuple[Server, Clients]]:
    """A server without a feed and with clients, none of them connected yet; `with_zone`: they ask for zone-wide state.

    Nothing goes by how long the machine takes: datagrams arrive when they are read, by the test's clock.

    Kernels are neither warmed up nor sealed: other tests of this process call them with types of their own. They are in
    a process of its own (`tests.server.test_sealed`), as in every server.
    """
    config = ServerConfig.model_validate(
        {"feed": f"played-{time.monotonic_ns()}", "feed_hz": 0, "clients_max": 64, "visibility": "off"}
        | {"record_dir": ""}
        | settings
    )
    if SEALED in os.environ:
        _seal_once()
    with patch("server.app.prepare", return_value=0), patch("server.app.seal"):
        server = Server(config, clock=HandClock())
    with server, patch("net.udp._stamp"):
        clients = Clients(server, count, with_zone=with_zone)
        try:
            yield server, clients
        finally:
            clients.sockets.close()


def play(server: Server, clients: Clients, ticks: int) -> None:
    """Let server and clients make so many ticks in turn."""
    clock = server.clock
    assert isinstance(clock, HandClock)
    for _ in range(ticks):
        clock.now += TICK_NS
        server.frame.run(clock.now)
        clients.frame(clock.now)


def joined(server: Server, clients: Clients) -> None:
    """Connect all clients and let them play for a moment."""
    for client in range(clients.count):
        clients.connect(client, team=1 + client % 2)
    play(server, clients, 60)
    assert server.sessions.playing == clients.count
