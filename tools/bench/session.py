"""Sessions by address: add, get and remove 10,000 of them, in batches, as the host's kernels do per datagram.

Value: nanoseconds per session, median of interleaved rounds, of the open-addressing table that `Host.receive` asks for
every datagram. Beside it `connect`: a whole handshake on the server (request, challenge, response, keep-alive: four
AEAD passes, token history, events), which is what adding a session takes in all. Reference: figures published for a
session table in Go, with a lock.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from net.address import parse_address
from net.connection import RETRY_NS, ClientGroup, ClientState
from net.datagrams import Datagrams
from net.host import Host
from net.packets_kernels import WORDS
from net.tokens import issue_token
from sim.arrays import I32, I64, U64
from tools.bench.harness import Row, median_us, row
from tools.bench.table_kernels import edit_all

__all__ = ["run"]

SESSIONS = 10_000
PUBLISHED_NS = {"add": 2500.0, "get": 600.0, "remove": 1000.0}
REFERENCE = "session table in Go, published"
HANDSHAKES, BATCH = 512, 64
PROTOCOL, KEY = 0xBE7C, bytes(32)
SERVER = parse_address("192.0.2.1:40000")


def _table_rows() -> list[Row]:
    random = np.random.default_rng(11)
    words: U64 = np.zeros((SESSIONS, WORDS), np.uint64)
    words[:, 1] = np.uint64(0xFFFF0000) | random.permutation(1 << 20)[:SESSIONS].astype(np.uint64) << np.uint64(32)
    words[:, 2] = random.integers(1024, 65_536, SESSIONS, dtype=np.uint64)
    table: I32 = np.zeros(1 << (4 * SESSIONS - 1).bit_length(), np.int32)
    secret: U64 = random.integers(0, 1 << 63, 2, dtype=np.uint64)
    probe: U64 = np.zeros((1, 3), np.uint64)
    order: I64 = random.permutation(SESSIONS)

    def edit(kind: int) -> int:
        return int(edit_all(table, secret, words, probe, order, kind))

    def get() -> None:
        assert edit(0) == SESSIONS

    # One round is add, get, remove, so that the table is empty again for the next.
    functions = {"add": lambda: edit(1), "get": get, "remove": lambda: edit(-1)}
    times = median_us(functions, rounds=15)
    assert not table.any()
    return [
        row(name, us * 1e3 / SESSIONS, unit="ns", reference=REFERENCE, reference_value=PUBLISHED_NS[name])
        for name, us in times.items()
    ]


def _handshake_us() -> float:
    """Time of the server for one client from request to slot [µs], in batches of 64 datagrams."""
    now, unix_s = 10**12, 10**9
    host = Host(
        protocol_id=PROTOCOL, private_key=KEY, addresses=[SERVER], clients_max=HANDSHAKES, now_ns=now,
        unix_ns=unix_s * 10**9, handshakes_max=HANDSHAKES,
    )  # fmt: skip
    clients, batch, spent_ns = ClientGroup(HANDSHAKES, protocol_id=PROTOCOL), Datagrams(BATCH), 0
    homes = [parse_address(f"10.0.{client >> 8}.{client & 255}:4000").row() for client in range(HANDSHAKES)]
    for client in range(HANDSHAKES):
        token = issue_token(
            protocol_id=PROTOCOL, private_key=KEY, client_id=client + 1, addresses=[SERVER], now_unix_s=unix_s
        )
        clients.connect(client, token, now)
    while (clients.state != ClientState.CONNECTED).any():
        now += RETRY_NS
        clients.advance(now)
        out = clients.outgoing
        for first in range(0, out.count, BATCH):
            batch.clear()
            for at in range(first, min(first + BATCH, out.count)):
                batch.append(out.datagram(at), homes[out.peer[at]])
            start = time.thread_time_ns()
            host.receive(batch, now)
            spent_ns += time.thread_time_ns() - start
        out.clear()
        peers = {home.tobytes(): client for client, home in enumerate(homes)}
        for at in range(host.outgoing.count):
            host.outgoing.peer[at] = peers[host.outgoing.address[at].tobytes()]
            host.outgoing.address[at] = SERVER.row()
        clients.receive(host.outgoing, now)
        host.outgoing.clear()
        host.tick(now)
    return spent_ns / 1e3 / HANDSHAKES


def run(_data: Sequence[Path]) -> list[Row]:
    """Add, get and remove in batches; and a whole handshake."""
    return [*_table_rows(), row("connect, whole handshake", median(_handshake_us() for _ in range(5)))]
