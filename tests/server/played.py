"""A whole server and clients in one process, over loopback sockets and a clock that the test moves."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import numpy as np

from net.client import GameClients
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.messages import MessageCodec
from net.replica import ReplicaGroup
from net.udp import SocketGroup
from server.app import Server
from server.config import ServerConfig
from server.wire import field_table, owner_layout
from sim.motion import Motion
from tools.bots import MotionPredictor

TICK_HZ = 60
TICK_NS = 1_000_000_000 // TICK_HZ


class HandClock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_000_000_000
        self._unix = time.time_ns()

    def now_ns(self) -> int:
        return self.now

    def unix_ns(self) -> int:
        return self._unix + self.now

    def sleep_until(self, moment_ns: int) -> None:
        self.now = max(self.now, moment_ns)


class Clients:
    """`count` clients of a server, each with what it predicts and what it was told."""

    def __init__(self, server: Server, count: int) -> None:
        self.server, self.count = server, count
        world = server.world
        self.codec = MessageCodec.to_server(world.game.actions, world.game.messages)
        self.told = MessageCodec.to_client(world.game.actions, world.game.messages)
        self.heard: list[tuple[int, str]] = []
        predictor = MotionPredictor(Motion(world.geometry, world.map.triggers), tick_hz=TICK_HZ, bots=count)
        self.replicas = ReplicaGroup(count, field_table(world.game, tick_hz=TICK_HZ))
        self.game = GameClients(
            count, owner_layout(), tick_hz=TICK_HZ, replicas=self.replicas, predictor=predictor, batch_max=256
        )
        self.connections = ClientGroup(count, protocol_id=server.card.protocol_id, batch=256)
        self.sockets = SocketGroup(count)
        self._datagrams = Datagrams(256)
        self.wishes: dict[str, int] = {}

    def connect(self, client: int, *, team: int = 0) -> None:
        token = self.server.card.token(1000 + client, name=f"Player {client}", team=team)
        self.connections.connect(client, token, self.server.clock.now_ns())

    def say(self, client: int, payload: bytes) -> None:
        data = np.frombuffer(payload, np.uint8).copy()
        one = np.array([len(payload)], np.int32)
        now = self.server.clock.now_ns()
        self.connections.send(np.array([client], np.int32), data, np.zeros(1, np.int64), one, now)

    def receive(self, now_ns: int) -> None:
        while self.sockets.receive(self._datagrams, now_ns):
            self.connections.receive(self._datagrams, now_ns)
            payloads = self.connections.payloads
            self.game.receive(payloads, now_ns)
            for index in self.game.messages[: self.game.message_count]:
                message = self.told.decode(payloads.payload(int(index)))
                assert message is not None
                self.heard.append((int(payloads.client[index]), str(message.values[1])))

    def frame(self, now_ns: int) -> None:
        self.receive(now_ns)
        names = ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon")
        while self.game.advance(now_ns):
            self.game.set_inputs(**{name: np.full(self.count, self.wishes.get(name, 0)) for name in names})
        count, game = self.game.commands(), self.game
        self.connections.send(
            game.command_clients[:count], game.command_bytes, game.command_offsets[:count],
            game.command_lengths[:count], now_ns,
        )  # fmt: skip
        self.connections.advance(now_ns)
        self.flush()

    def flush(self) -> None:
        self.sockets.send(self.connections.outgoing)

    @property
    def connected(self) -> int:
        return int(np.count_nonzero(self.connections.state == ClientState.CONNECTED))


@contextmanager
def playing(count: int, **settings: object) -> Iterator[tuple[Server, Clients]]:
    """A server without a feed and with clients, none of them connected yet.

    Kernels are neither warmed up nor sealed: other tests of this process call them with types of their own.
    """
    config = ServerConfig.model_validate(
        {"feed": f"played-{time.monotonic_ns()}", "feed_hz": 0, "clients_max": 64} | settings
    )
    with patch("server.app.prepare", return_value=0), patch("server.app.seal"):
        server = Server(config, clock=HandClock())
    with server:
        clients = Clients(server, count)
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
