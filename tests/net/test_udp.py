import socket
import time
from collections.abc import Iterator

import numpy as np
import pytest

from net.address import Address, parse_address
from net.connection import ClientGroup
from net.datagrams import DATAGRAM_BYTES, Datagrams
from net.errors import SocketError
from net.host import Host
from net.udp import BATCHED, ServerSocket, SocketGroup
from tests.net.virtual import KEY, MS, PROTOCOL, SECOND, UNIX_S, token

WAIT_NS = 60 * SECOND  # far beyond what a busy machine takes: loopback delivers nearly always at once
BINDINGS = ["127.0.0.1:0", "[::1]:0", "[::]:0"]


@pytest.fixture(params=[True, False], ids=["batched", "plain"])
def batched(request: pytest.FixtureRequest) -> bool:
    if request.param and not BATCHED:
        pytest.fail("this machine has no recvmmsg, so that the path of the server is not tested")
    return bool(request.param)


@pytest.fixture
def server(batched: bool) -> Iterator[ServerSocket]:
    with ServerSocket("127.0.0.1:0", batched=batched) as opened:
        yield opened


def rounds() -> Iterator[None]:
    """Begin another round until the time-out: what has been sent may be under way for a moment."""
    end = time.monotonic_ns() + WAIT_NS
    while time.monotonic_ns() < end:
        yield
        time.sleep(0.0005)


def receive(target: ServerSocket | SocketGroup, count: int, *, capacity: int = 64) -> list[tuple[bytes, Address, int]]:
    """Receive until `count` datagrams have come; a failure takes the time-out."""
    arena, result = Datagrams(capacity), []
    for _ in rounds():
        target.receive(arena)
        result += [(arena.datagram(row), arena.address_at(row), int(arena.peer[row])) for row in range(arena.count)]
        if len(result) >= count:
            break
    return result


def target_of(bound: ServerSocket) -> Address:
    """Where to send to reach a socket that is bound to every address."""
    return parse_address(f"127.0.0.1:{bound.address.port}") if int(bound.address.ip) == 0 else bound.address


@pytest.mark.parametrize("binding", BINDINGS)
def test_batches_travel_both_ways(binding: str, batched: bool) -> None:
    with ServerSocket(binding, batched=batched) as server, SocketGroup(10, batched=batched) as clients:
        batch = Datagrams(40)
        for index in range(40):
            batch.append(bytes([index]) * (1 + index * 30), target_of(server), peer=index % 10)
        clients.send(batch)
        assert batch.count == 0
        got = receive(server, 40)
        assert sorted(data for data, _, _ in got) == [bytes([index]) * (1 + index * 30) for index in range(40)]
        assert len({address for _, address, _ in got}) == 10
        for data, address, _ in got:
            batch.append(b"re:" + data, address)
        server.send(batch)
        back = receive(clients, 40)
        assert sorted((data[3], peer) for data, _, peer in back) == [(index, index % 10) for index in range(40)]
        assert {address for _, address, _ in back} == {target_of(server)}
        counts = server.statistics()
        assert counts["received"] == counts["sent"] == 40
        assert counts["sent_bytes"] == counts["received_bytes"] + 3 * 40
        assert counts["dropped_kernel"] == 0


def test_dual_stack_socket_knows_ipv4_peers_by_their_ipv4_address(batched: bool) -> None:
    with ServerSocket("[::]:0", batched=batched) as server, SocketGroup(1, batched=batched) as clients:
        batch = Datagrams(1)
        batch.append(b"hello", target_of(server), peer=0)
        clients.send(batch)
        ((_, address, _),) = receive(server, 1)
        assert str(address.ip) == "127.0.0.1"


def test_empty_datagram_does_not_stop_the_drain(server: ServerSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for data in (b"first", b"", b"", b"last"):
            sender.sendto(data, ("127.0.0.1", server.address.port))
        assert [data for data, _, _ in receive(server, 4)] == [b"first", b"", b"", b"last"]


def test_oversize_datagram_is_dropped_and_counted(server: ServerSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for size in (DATAGRAM_BYTES, DATAGRAM_BYTES + 1, 9000, 3):
            sender.sendto(bytes(size), ("127.0.0.1", server.address.port))
        arena = Datagrams(8)
        lengths: list[int] = []
        while len(lengths) < 4 and server.wait(WAIT_NS):
            server.receive(arena)
            lengths += arena.length[: arena.count].tolist()
    assert lengths == [DATAGRAM_BYTES, -1, -1, 3]
    assert server.statistics()["dropped_oversize"] == 2


def test_full_arena_leaves_the_rest_for_the_next_call(server: ServerSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for index in range(600):
            sender.sendto(index.to_bytes(2, "little"), ("127.0.0.1", server.address.port))
        arena, counts = Datagrams(250), [0]
        for _ in rounds():
            counts.append(server.receive(arena))
            if sum(counts) >= 600:
                break
        assert max(counts) == 250
        assert sum(counts) == 600
        assert server.receive(arena) == 0


def test_flood_beyond_the_systems_buffer_is_counted_and_does_not_stop_the_drain(batched: bool) -> None:
    with (
        ServerSocket("127.0.0.1:0", buffer_bytes=1 << 16, batched=batched) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        target, sent = ("127.0.0.1", server.address.port), 3000
        for index in range(sent):
            sender.sendto(bytes(index % 3 * 600), target)  # empty ones, middling ones, long ones
        arena, got = Datagrams(64), 0
        for _ in rounds():
            while server.receive(arena, SECOND):
                got += arena.count
            counts = server.statistics()
            if got + counts["dropped_kernel"] >= sent:
                break
        assert 0 < got == counts["received"] < sent
        assert counts["dropped_kernel"] == sent - got
        sender.sendto(b"still there?", target)
        assert [data for data, _, _ in receive(server, 1)] == [b"still there?"]


@pytest.mark.parametrize("size", [0, 1, DATAGRAM_BYTES + 1])
def test_arena_full_of_rubbish_lets_the_next_one_through(server: ServerSocket, size: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(150):
            sender.sendto(bytes(size), ("127.0.0.1", server.address.port))
        sender.sendto(b"news", ("127.0.0.1", server.address.port))
    arena, last = Datagrams(50), b""
    calls = 0
    for _ in rounds():
        if server.receive(arena, SECOND) > 0:
            calls, last = calls + 1, arena.datagram(arena.count - 1)
        if last == b"news":
            break
    assert calls >= 4
    host = Host(
        protocol_id=PROTOCOL, private_key=KEY, addresses=[server.address], clients_max=1, now_ns=0, unix_ns=0, batch=50
    )  # fmt: skip
    assert host.receive(arena, SECOND) == 0


def test_receive_of_nothing_returns_at_once(server: ServerSocket) -> None:
    arena = Datagrams(4)
    arena.count = 3
    assert server.receive(arena) == arena.count == 0
    assert not server.wait(0)


def test_arrival_is_when_the_system_got_the_datagram_not_when_it_is_read(server: ServerSocket, batched: bool) -> None:
    with SocketGroup(1, batched=batched) as clients, ServerSocket("127.0.0.1:0") as silent:
        out, arena, replies = Datagrams(1), Datagrams(4), Datagrams(4)
        before = time.monotonic_ns()
        out.append(b"up", server.address, peer=0)
        clients.send(out)
        assert server.wait(WAIT_NS)
        there = time.monotonic_ns()
        silent.wait(40 * MS)
        now = time.monotonic_ns()
        assert server.receive(arena, now) == 1
        stall = time.monotonic_ns() - now  # of this process between reading the clock and reading the socket
        if batched:
            assert before - stall - MS <= arena.received_ns[0] <= there + MS
        else:
            assert arena.received_ns[0] == now
        out.append(b"down", arena.address_at(0))
        server.send(out)
        silent.wait(20 * MS)
        for _ in rounds():
            later = time.monotonic_ns()
            if clients.receive(replies, later):
                break
        assert replies.count == 1
        stall = time.monotonic_ns() - later
        assert (now - stall < replies.received_ns[0] < later) if batched else (replies.received_ns[0] == later)


def test_arrivals_stay_within_a_second_before_the_callers_clock(server: ServerSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            sender.sendto(b"x", ("127.0.0.1", server.address.port))
    arena, stamps = Datagrams(4), []
    for _ in rounds():
        stamps += arena.received_ns[: server.receive(arena, 5 * SECOND)].tolist()
        if len(stamps) >= 3:
            break
    assert len(stamps) == 3
    assert all(4 * SECOND <= stamp <= 5 * SECOND for stamp in stamps)
    assert stamps == sorted(stamps)


def test_unreachable_family_is_dropped_and_the_rest_sent(server: ServerSocket, batched: bool) -> None:
    with ServerSocket("127.0.0.1:0", batched=batched) as other:
        batch = Datagrams(3)
        batch.append(b"a", other.address)
        batch.append(b"b", parse_address("[2001:db8::1]:9"))
        batch.append(b"c", other.address)
        server.send(batch)
        assert [data for data, _, _ in receive(other, 2)] == [b"a", b"c"]
        assert server.statistics()["dropped_unroutable"] == 1


def test_datagram_that_cannot_be_sent_does_not_stop_the_rest(server: ServerSocket, batched: bool) -> None:
    with ServerSocket("127.0.0.1:0", batched=batched) as other:
        batch = Datagrams(3)
        batch.append(b"a", other.address)
        batch.append(b"b", parse_address("127.0.0.1:0"))  # port 0 is refused by the system
        batch.append(b"c", other.address)
        server.send(batch)
        assert [data for data, _, _ in receive(other, 2)] == [b"a", b"c"]
        assert server.statistics()["dropped_send_errors"] == 1


def test_group_survives_a_server_that_is_gone(batched: bool) -> None:
    with ServerSocket("127.0.0.1:0") as gone:
        address = gone.address
    with SocketGroup(1, batched=batched) as clients, ServerSocket("127.0.0.1:0", batched=batched) as server:
        batch, arena = Datagrams(4), Datagrams(4)
        for _ in rounds():
            batch.append(b"anyone?", address, peer=0)
            clients.send(batch)
            clients.receive(arena)
            counts = clients.statistics()
            if counts["receive_errors"] + counts["dropped_send_errors"] >= 1:
                break
        assert counts["receive_errors"] + counts["dropped_send_errors"] >= 1
        batch.append(b"moved", server.address, peer=0)
        clients.send(batch)
        assert [data for data, _, _ in receive(server, 1)] == [b"moved"]


def test_group_ignores_peers_it_does_not_have(batched: bool) -> None:
    with SocketGroup(2, batched=batched) as clients, ServerSocket("127.0.0.1:0", batched=batched) as server:
        batch = Datagrams(4)
        for peer in (-1, 2, 2**31 - 1, 1):
            batch.append(b"x", server.address, peer=peer)
        clients.send(batch)
        assert clients.statistics()["dropped_unroutable"] == 3
        assert len(receive(server, 1)) == 1


def test_group_with_a_full_arena_is_fair(batched: bool) -> None:
    with SocketGroup(4, batched=batched) as clients, ServerSocket("127.0.0.1:0", batched=batched) as server:
        batch = Datagrams(16)
        for peer in range(4):
            batch.append(b"hello", server.address, peer=peer)
        clients.send(batch)
        for _, address, _ in receive(server, 4):
            batch.append(b"a", address)
            batch.append(b"b", address)
        server.send(batch)
        arena, peers = Datagrams(2), []
        for _ in rounds():
            clients.receive(arena)
            peers += arena.peer[: arena.count].tolist()
            if len(peers) >= 8:
                break
        assert sorted(peers) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_port_in_use_says_which_and_what_to_do(server: ServerSocket) -> None:
    with pytest.raises(SocketError, match=rf"cannot bind UDP {server.address}: the port is in use; .*another port"):
        ServerSocket(server.address)


def test_foreign_address_says_what_to_do() -> None:
    with pytest.raises(SocketError, match=r"cannot bind UDP 192\.0\.2\.1:0: this machine has no such address; use"):
        ServerSocket("192.0.2.1:0")


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_group_of_an_impossible_size_is_refused(count: int) -> None:
    with pytest.raises(SocketError, match=f"count is {count}"):
        SocketGroup(count)


def test_fifty_clients_play_over_loopback(batched: bool) -> None:
    with ServerSocket("127.0.0.1:0", batched=batched) as server, SocketGroup(50, batched=batched) as sockets:
        now = 1_000 * SECOND
        host = Host(
            protocol_id=PROTOCOL,
            private_key=KEY,
            addresses=[server.address],
            clients_max=64,
            now_ns=now,
            unix_ns=UNIX_S * SECOND,
        )
        group = ClientGroup(50, protocol_id=PROTOCOL)
        for client in range(50):
            group.connect(client, token(client + 1, addresses=[server.address]), now)
        arena = Datagrams(512)
        everyone = np.arange(50, dtype=np.int32)
        buffer = np.arange(250, dtype=np.uint8).repeat(2)
        offsets, lengths = np.arange(50, dtype=np.int64) * 10, np.full(50, 10, dtype=np.int32)
        up: dict[int, bytes] = {}
        down: dict[int, bytes] = {}
        for _ in range(400):
            now += 20 * MS
            if len(up) == len(down) == 50:
                break
            if group.statistics()["connected"] == 50:
                group.send(everyone, buffer, offsets, lengths, now)
            group.advance(now)
            sockets.send(group.outgoing)
            server.receive(arena)
            host.receive(arena, now)
            payloads = host.payloads
            for index in range(payloads.count):
                up[int(host.client_id[payloads.client[index]])] = payloads.payload(index)
            count = payloads.count
            host.send(payloads.client[:count], payloads.buffer, payloads.offset[:count], payloads.length[:count], now)
            host.tick(now)
            server.send(host.outgoing)
            sockets.receive(arena)
            group.receive(arena, now)
            for index in range(group.payloads.count):
                down[int(group.payloads.client[index])] = group.payloads.payload(index)
        expected = {client: buffer[client * 10 : client * 10 + 10].tobytes() for client in range(50)}
        assert up == {client + 1: data for client, data in expected.items()}
        assert down == expected, "the echo reached each client under its own keys"
