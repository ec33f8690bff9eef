"""A host and a group of clients wired together without sockets, under a virtual clock."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from net.address import Address, parse_address
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.host import Host
from net.packets import Drop, Kind
from net.tokens import issue_token
from sim.arrays import I32, I64, U8

__all__ = [
    "KEY",
    "MS",
    "PROTOCOL",
    "SECOND",
    "SERVER",
    "START_NS",
    "UNIX_S",
    "Wire",
    "captured",
    "client_address",
    "connected_wire",
    "drops",
    "give",
    "kind_of",
    "one",
    "request",
    "token",
]

PROTOCOL = 0x1122334455667788
KEY = bytes(range(32))
SERVER = parse_address("203.0.113.7:40000")
MS = 1_000_000
SECOND = 1_000 * MS
START_NS = 5_000 * SECOND
UNIX_S = 1_700_000_000


def client_address(client: int) -> Address:
    """Where client i of a group sends from."""
    return parse_address(f"10.{client >> 16 & 255}.{client >> 8 & 255}.{client & 255}:{50_000 + client % 1000}")


def token(
    client_id: int, *, addresses: Sequence[Address] = (SERVER,), now_unix_s: int = UNIX_S, **options: Any
) -> bytes:
    """A token for the host of these tests."""
    keywords: dict[str, Any] = {
        "protocol_id": PROTOCOL,
        "private_key": KEY,
        "client_id": client_id,
        "addresses": addresses,
        "now_unix_s": now_unix_s,
        "expire_s": 30,
        "timeout_s": 5,
    }
    return issue_token(**(keywords | options))


class Wire:
    """Carries datagrams between a host and a group; `lose(direction, datagram)` says which are lost."""

    def __init__(
        self,
        clients: int,
        *,
        clients_max: int | None = None,
        now_ns: int = START_NS,
        place: Callable[[int], Address] = client_address,
        **options: Any,
    ) -> None:
        keywords: dict[str, Any] = {
            "protocol_id": PROTOCOL,
            "private_key": KEY,
            "addresses": [SERVER],
            "clients_max": clients_max or clients,
            "now_ns": now_ns,
            "unix_ns": UNIX_S * SECOND,
        }
        self.now_ns = now_ns
        self.host = Host(**(keywords | options))
        self.group = ClientGroup(clients, protocol_id=PROTOCOL)
        self.lose: Callable[[str, bytes], bool] = lambda _direction, _datagram: False
        self.sent: list[tuple[str, bytes]] = []
        self.server_words = {SERVER.words()}
        self.places = [place(client) for client in range(clients)]
        self._client_of = {address.words(): client for client, address in enumerate(self.places)}
        self.to_server = Datagrams(16 * clients + 256)
        self.to_clients = Datagrams(16 * clients + 1024)
        self.server_payloads: list[tuple[int, bytes]] = []
        self.client_payloads: list[tuple[int, bytes]] = []

    def _carry_up(self) -> None:
        out = self.group.outgoing
        for row in range(out.count):
            datagram = out.datagram(row)
            self.sent.append(("up", datagram))
            words = (int(out.address[row, 0]), int(out.address[row, 1]), int(out.address[row, 2]))
            if words in self.server_words and not self.lose("up", datagram):
                self.to_server.append(datagram, self.places[int(out.peer[row])])
        out.clear()

    def _carry_down(self) -> None:
        out = self.host.outgoing
        for row in range(out.count):
            datagram = out.datagram(row)
            self.sent.append(("down", datagram))
            words = (int(out.address[row, 0]), int(out.address[row, 1]), int(out.address[row, 2]))
            if words in self._client_of and not self.lose("down", datagram):
                self.to_clients.append(datagram, SERVER, peer=self._client_of[words])
        out.clear()

    def step(self, elapsed_ns: int = 10 * MS) -> None:
        """Let time pass, and carry everything both ways once."""
        self.now_ns += elapsed_ns
        self.group.advance(self.now_ns)
        self._carry_up()
        self.host.receive(self.to_server, self.now_ns)
        payloads = self.host.payloads
        self.server_payloads += [(int(payloads.client[i]), payloads.payload(i)) for i in range(payloads.count)]
        self.to_server.clear()
        self.host.tick(self.now_ns)
        self._carry_down()
        self.group.receive(self.to_clients, self.now_ns)
        payloads = self.group.payloads
        self.client_payloads += [(int(payloads.client[i]), payloads.payload(i)) for i in range(payloads.count)]
        self.to_clients.clear()

    def run(self, seconds: float, elapsed_ns: int = 10 * MS) -> None:
        """Step for a while."""
        for _ in range(round(seconds * SECOND / elapsed_ns)):
            self.step(elapsed_ns)

    def connect(self, *, first_id: int = 1000, seconds: float = 0.1) -> None:
        """Give every client a token and let them connect."""
        for client in range(self.group.count):
            self.group.connect(client, token(first_id + client), self.now_ns)
        self.run(seconds)

    def client_send(self, client: int, payload: bytes) -> None:
        """Queue a payload at a client."""
        self.group.send(*one(client, payload), self.now_ns)

    def host_send(self, client: int, payload: bytes) -> None:
        """Queue a payload at the host."""
        self.host.send(*one(client, payload), self.now_ns)

    def all_connected(self) -> bool:
        """Whether every client of the group is connected."""
        return bool((self.group.state == ClientState.CONNECTED).all())


def one(client: int, payload: bytes) -> tuple[I32, U8, I64, I32]:
    """One payload as the arrays that `send` takes."""
    return (
        np.array([client], dtype=np.int32),
        np.frombuffer(payload, dtype=np.uint8),
        np.array([0], dtype=np.int64),
        np.array([len(payload)], dtype=np.int32),
    )


def kind_of(datagram: bytes) -> int:
    """The type of a packet."""
    return datagram[0] & 15


def drops(wire: Wire) -> dict[str, int]:
    """The host's drops by reason, without zeros."""
    return {reason.name: int(wire.host.drops[reason]) for reason in Drop if wire.host.drops[reason]}


def give(wire: Wire, *datagrams: bytes, address: Address | None = None) -> None:
    """Hand datagrams to the host as if they came from client 0, or from an address."""
    batch = Datagrams(max(1, len(datagrams)))
    for datagram in datagrams:
        assert batch.append(datagram, address or client_address(0))
    wire.host.receive(batch, wire.now_ns)


def captured(wire: Wire, direction: str, kind: Kind) -> list[bytes]:
    """Datagrams of one type that went one way."""
    return [datagram for way, datagram in wire.sent if way == direction and kind_of(datagram) == kind]


def connected_wire(clients: int = 1, **options: Any) -> Wire:
    """A wire whose clients are connected, with counters at zero."""
    wire = Wire(clients, **options)
    wire.connect()
    assert wire.all_connected()
    wire.sent.clear()
    wire.host.drops[:] = 0
    return wire


def request(wire: Wire, client_id: int, **options: Any) -> bytes:
    """A connection request with a token of its own."""
    wire.group.connect(0, token(client_id, **options), wire.now_ns)
    wire.group.advance(wire.now_ns)
    datagram = wire.group.outgoing.datagram(0)
    wire.group.outgoing.clear()
    return datagram
