"""10,000 connected clients, each sending ten reliable messages a second: memory and processor time of the server.

Memory: resident bytes of the server's process when all are connected and talking, less those before its host, endpoint
and arenas were made, by connection; the kernel's socket buffers are not part of it. Processor time: of the thread that
receives, opens, acknowledges, delivers, answers each message with another, composes, seals and sends, at 30 Hz; for
1,000 clients at ten messages a second, from the messages that were delivered: `messages delivered` says how many a
second that was on a machine whose cores the clients share.

References: figures published for a connection server, 10 KB per connection and 180 mCPU per 1,000 clients.
"""

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from net.address import parse_address
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.endpoint import Endpoint
from net.host import Host
from net.tokens import issue_token
from net.udp import ServerSocket, SocketGroup
from sim.arrays import I32, I64, U8
from sim.jit import set_threads
from sim.schema import Delivery
from tools.bench.harness import Row, row
from tools.errors import ToolsError

__all__ = ["run"]

CLIENTS, WARM_CLIENTS = 10_000, 64
PER_SECOND = 10
MESSAGE_BYTES = 48
TICK_HZ, CLIENT_HZ = 30, 20
MEASURE_S, START_S = 10.0, 120.0
BATCH, CLIENT_BATCH = 2048, 4096
CONNECTS_PER_FRAME = 25
PROTOCOL, KEY = 0xBE7C, bytes(32)
NS = 1_000_000_000
REFERENCE = "published"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


class _Server:
    """Host and endpoint of the measured server; answers every message with one of the same length."""

    def __init__(self, clients: int) -> None:
        now = time.monotonic_ns()
        self.before = _resident_bytes()
        self.socket = ServerSocket("127.0.0.1:0", buffer_bytes=16 << 20)
        self.host = Host(
            protocol_id=PROTOCOL, private_key=KEY, addresses=[self.socket.address], clients_max=clients, now_ns=now,
            unix_ns=time.time_ns(), batch=BATCH, handshakes_max=256,
        )  # fmt: skip
        self.endpoint = Endpoint(clients, batch=BATCH)
        self.arena = Datagrams(BATCH)
        self.delivered = 0
        self._nothing: tuple[I32, U8, I64, I32] = (
            np.zeros(0, np.int32), np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int32),
        )  # fmt: skip

    def tick(self) -> None:
        """One tick."""
        now = time.monotonic_ns()
        while self.socket.receive(self.arena, now):
            self.host.receive(self.arena, now)
            for come in self.host.take_connected():
                self.endpoint.open([come.client], now)
            self.endpoint.receive(self.host.payloads, now)
            told = self.endpoint.messages
            self.delivered += told.count
            self.endpoint.tell_batch(
                told.client[: told.count], told.buffer, told.offset[: told.count], told.length[: told.count],
                Delivery.RELIABLE,
            )  # fmt: skip
            if self.arena.count < self.arena.capacity:
                break
        for gone in self.host.take_disconnected():
            self.endpoint.reset([gone.client])
        self.endpoint.compose(*self._nothing, now)
        self.host.send(*self.endpoint.outgoing(), now)
        self.host.tick(now)
        self.socket.send(self.host.outgoing)


def _ticks(seconds: float) -> Iterator[None]:
    """One turn per tick, at its time, for some seconds."""
    due = time.monotonic_ns()
    end = due + round(seconds * NS)
    while due < end:
        time.sleep(max(0.0, (due - time.monotonic_ns()) / NS))
        yield
        due = max(due + NS // TICK_HZ, time.monotonic_ns() - NS // TICK_HZ)


@contextlib.contextmanager
def _clients(address: str, count: int) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "-m", __name__, address, str(count)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _talking(count: int) -> Iterator[_Server]:
    """A server on which all clients are connected and have talked for some seconds."""
    server = _Server(count)
    with server.socket, _clients(str(server.socket.address), count) as process:
        deadline = time.monotonic() + START_S
        while server.host.statistics()["clients"] < count:
            if time.monotonic() > deadline or process.poll() is not None:
                raise ToolsError(f"bench connections: {count:,} clients did not connect; raise `ulimit -n` to 20000")
            for _ in _ticks(0.5):
                server.tick()
        for _ in _ticks(3.0):
            server.tick()
        yield server


def _measure() -> list[Row]:
    with _talking(WARM_CLIENTS):
        pass  # loads the kernels, whose code is no part of a connection's memory
    with _talking(CLIENTS) as server:
        delivered, start, cpu = server.delivered, time.monotonic_ns(), time.thread_time_ns()
        for _ in _ticks(MEASURE_S):
            server.tick()
        seconds = (time.monotonic_ns() - start) / NS
        spent, delivered = (time.thread_time_ns() - cpu) / NS, server.delivered - delivered
        memory = (_resident_bytes() - server.before) / CLIENTS
        still = server.host.statistics()["clients"]
    name = f"{CLIENTS:,} connected clients"
    return [
        row(f"{name}, memory of each", memory / 1e3, unit="KB", reference=REFERENCE, reference_value=10.0),
        row(
            f"{name}, processor per 1,000", 1e6 * spent / delivered * PER_SECOND, unit="mCPU", reference=REFERENCE,
            reference_value=180.0,
        ),
        row(f"{name}, messages delivered", delivered / seconds / CLIENTS, unit="/s each"),
        row(f"{name}, still connected", still, unit=""),
    ]  # fmt: skip


def run(_data: Sequence[Path]) -> list[Row]:
    """One server, clients beside it."""
    return _measure()


def _play(address: str, count: int) -> None:
    """The clients' process: connect all, then send and acknowledge until it is ended."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 64:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 64), hard))
    set_threads(1)
    server = parse_address(address)
    group, endpoint = ClientGroup(count, protocol_id=PROTOCOL, batch=CLIENT_BATCH), Endpoint(count, batch=CLIENT_BATCH)
    sockets, arena = SocketGroup(count), Datagrams(CLIENT_BATCH)
    message: U8 = np.full(MESSAGE_BYTES, 7, np.uint8)
    nothing = np.zeros(0, np.int32), message, np.zeros(0, np.int64), np.zeros(0, np.int32)
    asked, turn, turns, parent = 0, 0, CLIENT_HZ // PER_SECOND, os.getppid()
    due = time.monotonic_ns()
    while os.getppid() == parent:
        time.sleep(max(0.0, (due - time.monotonic_ns()) / NS))
        now = time.monotonic_ns()
        due = max(due + NS // CLIENT_HZ, now - NS // CLIENT_HZ)
        for client in range(asked, min(count, asked + CONNECTS_PER_FRAME)):
            token = issue_token(
                protocol_id=PROTOCOL, private_key=KEY, client_id=client + 1, addresses=[server],
                now_unix_s=int(time.time()), expire_s=600,
            )  # fmt: skip
            group.connect(client, token, now)
            asked = client + 1
        while sockets.receive(arena, now):
            group.receive(arena, now)
            changed = group.take_changes()
            endpoint.open(changed[group.state[changed] == ClientState.CONNECTED].astype(np.int32), now)
            endpoint.receive(group.payloads, now)
            if arena.count < arena.capacity:
                break
        mine = np.arange(turn, count, turns, dtype=np.int32)
        mine = mine[group.state[mine] == ClientState.CONNECTED]
        zeros: I64 = np.zeros(len(mine), np.int64)
        endpoint.tell_batch(mine, message, zeros, np.full(len(mine), MESSAGE_BYTES, np.int32), Delivery.RELIABLE)
        endpoint.compose(*nothing, now)
        group.send(*endpoint.outgoing(), now)
        group.advance(now)
        sockets.send(group.outgoing)
        turn = (turn + 1) % turns


if __name__ == "__main__":
    _play(sys.argv[1], int(sys.argv[2]))
