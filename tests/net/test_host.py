import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.address import Address, parse_address
from net.connection import ClientState
from net.datagrams import Datagrams
from net.errors import NetError
from net.host import DisconnectReason, Host
from net.host_kernels import table_edit
from net.packets import REQUEST_BYTES, Drop, Kind
from tests.net.virtual import (
    KEY,
    MS,
    PROTOCOL,
    SECOND,
    SERVER,
    START_NS,
    UNIX_S,
    Wire,
    client_address,
    one,
    token,
)
from tests.reference import packets as reference


def kind_of(datagram: bytes) -> int:
    return datagram[0] & 15


def drops(wire: Wire) -> dict[str, int]:
    return {reason.name: int(wire.host.drops[reason]) for reason in Drop if wire.host.drops[reason]}


def give(wire: Wire, *datagrams: bytes, address: Address | None = None) -> None:
    """Hand datagrams to the host as if they came from client 0, or from an address."""
    batch = Datagrams(max(1, len(datagrams)))
    for datagram in datagrams:
        assert batch.append(datagram, address or client_address(0))
    wire.host.receive(batch, wire.now_ns)


def captured(wire: Wire, direction: str, kind: Kind) -> list[bytes]:
    return [datagram for way, datagram in wire.sent if way == direction and kind_of(datagram) == kind]


def connected_wire(clients: int = 1, **options: Any) -> Wire:
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


def test_clients_connect_and_exchange_payloads() -> None:
    wire = Wire(5)
    for client in range(5):
        wire.group.connect(client, token(900 + client, user_data=b"name %d" % client), wire.now_ns)
    wire.run(0.05)
    assert wire.all_connected()
    events = wire.host.take_connected()
    assert sorted(event.client_id for event in events) == [900, 901, 902, 903, 904]
    for event in events:
        client = event.client_id - 900
        assert wire.group.client_index[client] == event.client
        assert event.user_data == (b"name %d" % client).ljust(256, b"\0")
        assert event.address == client_address(client)
        assert wire.host.client_id[event.client] == event.client_id
    for client in range(5):
        wire.client_send(client, b"up %d" % client)
        wire.host_send(int(wire.group.client_index[client]), b"down %d" % client)
    wire.step()
    assert {(int(np.flatnonzero(wire.group.client_index == slot)[0]), data) for slot, data in wire.server_payloads} == {
        (client, b"up %d" % client) for client in range(5)
    }
    assert sorted(wire.client_payloads) == [(client, b"down %d" % client) for client in range(5)]


@pytest.mark.parametrize(
    ("way", "kind"),
    [("up", Kind.REQUEST), ("down", Kind.CHALLENGE), ("up", Kind.RESPONSE), ("down", Kind.KEEP_ALIVE)],
)
def test_handshake_survives_the_loss_of_each_packet(way: str, kind: Kind) -> None:
    wire = Wire(1)
    lost: list[bytes] = []

    def lose(direction: str, datagram: bytes) -> bool:
        if direction == way and kind_of(datagram) == kind and len(lost) < 3:
            lost.append(datagram)
            return True
        return False

    wire.lose = lose
    wire.connect(seconds=0.2)
    assert not wire.all_connected()
    wire.run(0.5)
    assert wire.all_connected()
    assert len(lost) == 3
    assert len(wire.host.take_connected()) == 1


def test_handshake_repeats_at_ten_hertz() -> None:
    wire = Wire(1)
    wire.lose = lambda way, _datagram: way == "up"
    wire.connect(seconds=2)
    assert 19 <= len(captured(wire, "up", Kind.REQUEST)) <= 21


def test_payloads_before_the_client_is_heard_follow_a_keep_alive() -> None:
    wire = Wire(1)
    wire.group.connect(0, token(1), wire.now_ns)
    wire.lose = lambda way, datagram: way == "down" and kind_of(datagram) == Kind.KEEP_ALIVE
    wire.run(0.05)
    assert wire.group.state[0] == ClientState.RESPONDING
    assert wire.host.connected_clients().tolist() == [0]
    wire.lose = lambda _way, _datagram: False
    wire.host_send(0, b"early")
    wire.step()
    assert wire.client_payloads == [(0, b"early")]
    wire.client_send(0, b"heard")
    wire.step()
    before = len(wire.sent)
    wire.host_send(0, b"later")
    wire.step()
    assert [kind_of(datagram) for way, datagram in wire.sent[before:] if way == "down"] == [Kind.PAYLOAD]


def test_silence_is_filled_with_keep_alives_at_ten_hertz() -> None:
    wire = connected_wire()
    wire.run(2)
    assert 19 <= len(captured(wire, "up", Kind.KEEP_ALIVE)) <= 21
    assert 19 <= len(captured(wire, "down", Kind.KEEP_ALIVE)) <= 21
    wire.sent.clear()
    for _ in range(50):
        wire.client_send(0, b"x")
        wire.host_send(0, b"y")
        wire.step(20 * MS)
    assert not captured(wire, "up", Kind.KEEP_ALIVE)
    assert not captured(wire, "down", Kind.KEEP_ALIVE)


def test_silence_beyond_the_time_out_ends_both_sides() -> None:
    wire = connected_wire()
    wire.host.take_connected()
    wire.lose = lambda _way, _datagram: True
    wire.run(4.9)
    assert wire.all_connected()
    wire.run(0.3)
    assert wire.group.state[0] == ClientState.TIMED_OUT
    events = wire.host.take_disconnected()
    assert [(event.client, event.client_id, event.reason) for event in events] == [
        (0, 1000, DisconnectReason.TIMED_OUT)
    ]


def test_negative_time_out_never_ends() -> None:
    wire = Wire(1)
    wire.group.connect(0, token(1, timeout_s=-1, expire_s=300), wire.now_ns)
    wire.run(0.1)
    wire.lose = lambda _way, _datagram: True
    wire.run(500, elapsed_ns=SECOND)
    assert wire.all_connected()
    assert wire.host.connected_clients().tolist() == [0]


def test_client_leaves_with_ten_packets_of_which_one_is_enough() -> None:
    wire = connected_wire(2)
    wire.host.take_connected()
    seen: list[bytes] = []

    def lose(_way: str, datagram: bytes) -> bool:
        if kind_of(datagram) == Kind.DISCONNECT:
            seen.append(datagram)
            return len(seen) != 7
        return False

    wire.lose = lose
    assert wire.group.disconnect(1, wire.now_ns)
    assert not wire.group.disconnect(1, wire.now_ns)
    wire.step()
    assert len(seen) == len(set(seen)) == 10
    (event,) = wire.host.take_disconnected()
    assert (event.client_id, event.reason) == (1001, DisconnectReason.BY_CLIENT)
    assert wire.host.connected_clients().tolist() == [1 - event.client]


def test_host_disconnects_with_ten_packets_of_which_one_is_enough() -> None:
    wire = connected_wire(2)
    seen: list[bytes] = []

    def lose(_way: str, datagram: bytes) -> bool:
        if kind_of(datagram) == Kind.DISCONNECT:
            seen.append(datagram)
            return len(seen) != 10
        return False

    wire.lose = lose
    assert wire.host.disconnect(0, wire.now_ns, detail="kicked")
    assert not wire.host.disconnect(0, wire.now_ns)
    assert not wire.host.disconnect(-1, wire.now_ns)
    assert not wire.host.disconnect(2, wire.now_ns)
    wire.run(0.02)
    assert len(seen) == 10
    (event,) = wire.host.take_disconnected()
    assert (event.reason, event.detail) == (DisconnectReason.BY_SERVER, "kicked")
    assert sorted(wire.group.state.tolist()) == [ClientState.DISCONNECTED, ClientState.CONNECTED]


def test_disconnect_all_tells_everyone() -> None:
    wire = connected_wire(4)
    assert wire.host.disconnect_all(wire.now_ns) == 4
    wire.run(0.02)
    assert (wire.group.state == ClientState.DISCONNECTED).all()


def test_full_server_denies() -> None:
    wire = Wire(3, clients_max=2)
    wire.connect(seconds=0.5)
    assert sorted(wire.group.state.tolist()) == [ClientState.DENIED, ClientState.CONNECTED, ClientState.CONNECTED]
    assert drops(wire) == {"SERVER_FULL": 1}


def test_slot_is_used_again_only_after_its_event_was_taken() -> None:
    wire = Wire(2, clients_max=1)
    wire.group.connect(0, token(1), wire.now_ns)
    wire.run(0.1)
    wire.group.disconnect(0, wire.now_ns)
    wire.step()
    wire.group.connect(1, token(2), wire.now_ns)
    wire.run(0.1)
    assert wire.group.state[1] == ClientState.DENIED
    assert len(wire.host.take_disconnected()) == 1
    wire.group.connect(1, token(3), wire.now_ns)
    wire.run(0.1)
    assert wire.group.state[1] == ClientState.CONNECTED
    wire.host_send(0, b"for the new one")
    wire.step()
    assert wire.client_payloads == [(1, b"for the new one")]


def test_client_tries_the_next_server_of_its_token() -> None:
    elsewhere = parse_address("[2001:db8::5]:1")
    wire = Wire(1)
    wire.group.connect(0, token(1, addresses=[elsewhere, SERVER], timeout_s=2), wire.now_ns)
    wire.run(1.5)
    assert wire.group.server_address(0) == elsewhere
    wire.run(1.0)
    assert wire.group.server_address(0) == SERVER
    assert wire.all_connected()


def test_denied_client_tries_the_next_server() -> None:
    wire = Wire(2, clients_max=1)
    wire.group.connect(0, token(1), wire.now_ns)
    wire.run(0.1)
    other = parse_address("198.51.100.1:7")
    wire.group.connect(1, token(2, addresses=[SERVER, other]), wire.now_ns)
    wire.run(0.1)
    assert wire.group.state[1] == ClientState.REQUESTING
    assert wire.group.server_address(1) == other


@pytest.mark.parametrize(
    ("lost", "state"),
    [(Kind.REQUEST, ClientState.REQUEST_TIMED_OUT), (Kind.RESPONSE, ClientState.RESPONSE_TIMED_OUT)],
)
def test_unanswered_client_gives_up(lost: Kind, state: ClientState) -> None:
    wire = Wire(1)
    wire.lose = lambda _way, datagram: kind_of(datagram) == lost
    wire.connect(seconds=4.9)
    assert wire.group.state[0] > ClientState.DISCONNECTED
    wire.run(0.5)
    assert wire.group.state[0] == state
    assert wire.group.take_changes().tolist() == [0]
    assert wire.group.take_changes().tolist() == []


def test_client_gives_up_when_its_token_expires() -> None:
    wire = Wire(1)
    wire.lose = lambda _way, _datagram: True
    wire.group.connect(0, token(1, expire_s=3), wire.now_ns)
    wire.run(3.1)
    assert wire.group.state[0] == ClientState.TOKEN_EXPIRED


def test_pending_handshake_is_forgotten_after_its_time_out() -> None:
    wire = Wire(1)
    give(wire, request(wire, 1))
    assert wire.host.statistics()["pending"] == 1
    wire.host.tick(wire.now_ns + 4 * SECOND)
    assert wire.host.statistics()["pending"] == 1
    wire.host.tick(wire.now_ns + 6 * SECOND)
    assert wire.host.statistics()["pending"] == 0


# -- hostile requests ---------------------------------------------------------------------------------------------


def test_every_name_of_the_server_is_accepted() -> None:
    wire = Wire(1, addresses=[parse_address("10.0.0.9:1"), SERVER])
    wire.connect()
    assert wire.all_connected()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"protocol_id": PROTOCOL + 1}, "WRONG_PROTOCOL"),
        ({"private_key": bytes(32)}, "TOKEN_NOT_AUTHENTIC"),
        ({"now_unix_s": UNIX_S - 30}, "TOKEN_EXPIRED"),
        ({"expire_s": 86_401}, "TOKEN_TOO_FAR"),
        ({"expire_s": -1}, "TOKEN_TOO_FAR"),
        ({"addresses": [parse_address("203.0.113.7:40001")]}, "WRONG_SERVER"),
    ],
)
def test_foreign_and_expired_tokens_are_dropped_without_an_answer(options: dict[str, Any], reason: str) -> None:
    wire = Wire(1)
    wire.group.protocol_id = int(str(options.get("protocol_id", PROTOCOL)))
    give(wire, request(wire, 1, **options))
    assert drops(wire) == {reason: 1}
    assert wire.host.outgoing.count == 0
    assert wire.host.statistics()["pending"] == wire.host.statistics()["tokens_remembered"] == 0


def test_token_expires_as_time_passes() -> None:
    wire = Wire(1)
    datagram = request(wire, 1, expire_s=30)
    wire.now_ns += 30 * SECOND
    give(wire, datagram)
    assert drops(wire) == {"TOKEN_EXPIRED": 1}


def test_request_with_any_byte_changed_is_dropped() -> None:
    wire = Wire(1)
    datagram = request(wire, 1)
    for at in range(len(datagram)):
        changed = bytearray(datagram)
        changed[at] ^= 1 << at % 8
        give(wire, bytes(changed))
    assert wire.host.outgoing.count == 0
    counted = drops(wire)
    assert sum(counted.values()) == REQUEST_BYTES
    assert counted["WRONG_VERSION"] == 13
    assert counted["WRONG_PROTOCOL"] == 8


def test_request_of_another_length_is_dropped() -> None:
    wire = Wire(1)
    datagram = request(wire, 1)
    for size in range(REQUEST_BYTES):
        give(wire, datagram[:size])
    give(wire, datagram + b"\0")
    assert drops(wire) == {"EMPTY": 1, "TOO_SHORT": REQUEST_BYTES - 1, "TOO_LONG": 1}
    assert wire.host.outgoing.count == 0


def malformed(plain_change: bytes) -> bytes:
    """A request whose private token is authentic but not well formed."""
    nonce, expire = bytes(range(24)), UNIX_S + 30
    private = reference._xseal(
        plain_change.ljust(1008, b"\0"),
        b"NETCODE 1.02\0" + PROTOCOL.to_bytes(8, "little") + expire.to_bytes(8, "little"),
        nonce,
        KEY,
    )
    head = b"\0NETCODE 1.02\0" + PROTOCOL.to_bytes(8, "little") + expire.to_bytes(8, "little")
    return head + nonce + private


@pytest.mark.parametrize("count", [0, 33, 2**32 - 1])
def test_authentic_but_malformed_token_is_dropped(count: int) -> None:
    wire = Wire(1)
    give(wire, malformed(bytes(12) + count.to_bytes(4, "little") + b"\1" * 300))
    give(wire, malformed(bytes(12) + (1).to_bytes(4, "little") + b"\3" * 300))
    assert drops(wire) == {"TOKEN_MALFORMED": 2}


def test_token_from_a_second_address_is_refused() -> None:
    wire = Wire(1)
    datagram = request(wire, 1)
    give(wire, datagram)
    give(wire, datagram)
    assert wire.host.outgoing.count == 2, "the same address may repeat itself"
    give(wire, datagram, address=parse_address("198.51.100.9:50000"))
    assert drops(wire) == {"TOKEN_REUSED": 1}
    assert wire.host.outgoing.count == 2


def test_token_is_consumed_when_its_client_gets_a_slot() -> None:
    wire = Wire(1)
    used = token(1)
    wire.group.connect(0, used, wire.now_ns)
    wire.run(0.1)
    assert wire.all_connected()
    wire.group.disconnect(0, wire.now_ns)
    wire.step()
    wire.host.take_disconnected()
    wire.host.drops[:] = 0
    wire.group.connect(0, used, wire.now_ns)
    wire.step()
    assert drops(wire) == {"TOKEN_REUSED": 1}
    assert wire.host.outgoing.count == 0


def test_connected_address_and_client_id_are_refused() -> None:
    wire = connected_wire()
    give(wire, request(wire, 2))
    assert drops(wire) == {"ADDRESS_CONNECTED": 1}
    give(wire, request(wire, 1000), address=parse_address("198.51.100.9:50000"))
    assert drops(wire) == {"ADDRESS_CONNECTED": 1, "CLIENT_ID_CONNECTED": 1}


def test_full_history_refuses_new_tokens_and_forgets_expired_ones() -> None:
    wire = Wire(1, history_max=3)
    for client_id in range(4):
        give(wire, request(wire, client_id, expire_s=30), address=client_address(client_id))
    assert drops(wire) == {"HISTORY_FULL": 1}
    assert wire.host.statistics()["tokens_remembered"] == 3
    wire.now_ns += 31 * SECOND
    give(wire, request(wire, 9, now_unix_s=UNIX_S + 31), address=client_address(9))
    assert wire.host.statistics()["tokens_remembered"] == 1
    assert drops(wire) == {"HISTORY_FULL": 1}


def test_full_pending_table_drops_requests() -> None:
    wire = Wire(1, pending_max=2)
    for client_id in range(3):
        give(wire, request(wire, client_id), address=client_address(client_id))
    assert drops(wire) == {"PENDING_FULL": 1}
    assert wire.host.outgoing.count == 2


def test_requests_beyond_the_budget_of_a_batch_are_dropped() -> None:
    wire = Wire(40, handshakes_max=8)
    for client in range(40):
        wire.group.connect(client, token(client), wire.now_ns)
    wire.step()
    assert drops(wire) == {"HANDSHAKE_BUDGET": 32}
    wire.run(2)
    assert wire.all_connected()


def test_answers_to_unauthenticated_bytes_are_smaller_than_those() -> None:
    wire = Wire(2, clients_max=1)
    give(wire, request(wire, 1))
    assert 0 < wire.host.outgoing.length[0] < REQUEST_BYTES // 3


def test_challenge_of_another_client_does_not_connect() -> None:
    wire = Wire(2)
    for client in range(2):
        wire.group.connect(client, token(client), wire.now_ns)
    wire.lose = lambda way, datagram: way == "up" and kind_of(datagram) == Kind.RESPONSE
    wire.step()
    wire.step()
    wire.lose = lambda _way, _datagram: False
    # Client 0 answers, under its own keys, with the challenge that client 1 got.
    wire.group._handshake[0, REQUEST_BYTES:] = wire.group._handshake[1, REQUEST_BYTES:]
    wire.run(0.3)
    assert wire.group.state.tolist() == [ClientState.RESPONDING, ClientState.CONNECTED]
    assert drops(wire)["CHALLENGE_NOT_AUTHENTIC"] > 0


def test_two_responses_in_one_batch_connect_once() -> None:
    wire = Wire(1)
    wire.group.connect(0, token(1), wire.now_ns)
    wire.step()
    wire.lose = lambda way, _datagram: way == "up"
    wire.step()
    (response,) = captured(wire, "up", Kind.RESPONSE)
    give(wire, response, response)
    assert len(wire.host.take_connected()) == 1
    assert drops(wire) == {"WRONG_STATE": 1}


# -- hostile packets of connected clients -------------------------------------------------------------------------


def test_replayed_packets_are_dropped() -> None:
    wire = connected_wire()
    for index in range(20):
        wire.client_send(0, b"%d" % index)
        wire.step()
    wire.server_payloads.clear()
    packets = [datagram for way, datagram in wire.sent if way == "up"]
    give(wire, *packets)
    assert drops(wire) == {"REPLAYED": len(packets)}
    assert wire.host.payloads.count == 0


def test_reordered_packets_arrive_within_the_window() -> None:
    wire = connected_wire()
    wire.lose = lambda way, _datagram: way == "up"
    for index in range(300):
        wire.client_send(0, index.to_bytes(2, "little"))
        wire.step(MS)
    packets = captured(wire, "up", Kind.PAYLOAD)
    random.Random(4).shuffle(packets)
    newest = max(packets, key=lambda datagram: int.from_bytes(datagram[1 : 1 + (datagram[0] >> 4)], "little"))
    packets.remove(newest)
    give(wire, newest, *packets)
    payloads = wire.host.payloads
    assert sorted(int.from_bytes(payloads.payload(i), "little") for i in range(payloads.count)) == list(range(44, 300))
    assert drops(wire) == {"REPLAYED": 44}


def test_changed_packets_are_dropped_and_move_nothing() -> None:
    wire = connected_wire()
    wire.lose = lambda way, _datagram: way == "up"
    wire.client_send(0, b"genuine payload")
    wire.step()
    (datagram,) = captured(wire, "up", Kind.PAYLOAD)
    for at in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[at] ^= 1 << bit
            give(wire, bytes(changed))
            assert wire.host.payloads.count == 0
    for size in range(len(datagram)):
        give(wire, datagram[:size])
        assert wire.host.payloads.count == 0
    assert sum(drops(wire).values()) == len(datagram) * 9
    give(wire, datagram, address=client_address(77))
    assert drops(wire)["UNKNOWN_ADDRESS"] == 1
    give(wire, datagram)
    assert wire.host.payloads.payload(0) == b"genuine payload"


def test_junk_never_raises_and_is_all_counted() -> None:
    wire = connected_wire(2)
    rng = random.Random(11)
    batch = Datagrams(2000)
    for index in range(2000):
        junk = bytearray(rng.randbytes(rng.choice([0, 1, 17, 18, 25, 26, 60, 333, 1078, 1280])))
        if junk and rng.random() < 0.5:
            junk[0] = rng.choice([0, 0x11, 0x13, 0x14, 0x15, 0x16, 0x85, 0x96])
        batch.append(bytes(junk), client_address(index % 4))
    wire.host.receive(batch, wire.now_ns)
    assert sum(drops(wire).values()) == 2000
    assert wire.host.payloads.count == 0
    wire.run(0.3)
    assert wire.all_connected()


def test_client_drops_hostile_packets() -> None:
    wire = connected_wire()
    wire.lose = lambda way, _datagram: way == "down"
    wire.host_send(0, b"genuine")
    wire.step()
    datagram = captured(wire, "down", Kind.PAYLOAD)[0]
    batch = Datagrams(len(datagram) + 4)
    for at in range(len(datagram)):
        changed = bytearray(datagram)
        changed[at] ^= 0x10
        batch.append(bytes(changed), SERVER, peer=0)
    batch.append(datagram, client_address(9), peer=0)
    batch.append(datagram, SERVER, peer=-1)
    batch.append(datagram, SERVER, peer=1)
    assert wire.group.receive(batch, wire.now_ns) == 0
    assert int(wire.group.drops.sum()) == len(datagram) + 3
    batch.clear()
    batch.append(datagram, SERVER, peer=0)
    batch.append(datagram, SERVER, peer=0)
    assert wire.group.receive(batch, wire.now_ns) == 1, "the copy is a replay"
    assert wire.group.payloads.payload(0) == b"genuine"


def test_rows_dropped_by_the_socket_are_skipped() -> None:
    wire = connected_wire()
    batch = Datagrams(1)
    batch.append(b"x" * 50, client_address(0))
    batch.length[0] = -1
    wire.host.receive(batch, wire.now_ns)
    assert drops(wire) == {}


# -- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "offset", "length", "reason"),
    [
        (-1, 0, 5, "SEND_NOT_CONNECTED"),
        (1, 0, 5, "SEND_NOT_CONNECTED"),
        (2**31 - 1, 0, 5, "SEND_NOT_CONNECTED"),
        (0, 0, 0, "SEND_WRONG_SIZE"),
        (0, 0, -1, "SEND_WRONG_SIZE"),
        (0, 0, 1201, "SEND_WRONG_SIZE"),
        (0, -1, 5, "SEND_WRONG_SIZE"),
        (0, 1496, 5, "SEND_WRONG_SIZE"),
        (0, 2**62, 5, "SEND_WRONG_SIZE"),
    ],
)
def test_payload_out_of_range_is_dropped_and_counted(client: int, offset: int, length: int, reason: str) -> None:
    wire = connected_wire(1, clients_max=2)
    arrays = (
        np.array([client], dtype=np.int32),
        np.zeros(1500, dtype=np.uint8),
        np.array([offset], dtype=np.int64),
        np.array([length], dtype=np.int32),
    )
    assert wire.host.send(*arrays, wire.now_ns) == 0
    assert drops(wire) == {reason: 1}
    assert wire.group.send(*arrays, wire.now_ns) == 0
    assert int(wire.group.drops[Drop[reason]]) == 1


def test_longest_payload_passes() -> None:
    wire = connected_wire()
    payload = random.Random(1).randbytes(1200)
    wire.client_send(0, payload)
    wire.host_send(0, payload)
    wire.step()
    assert wire.server_payloads == wire.client_payloads == [(0, payload)]


def test_full_outgoing_arena_drops_and_counts() -> None:
    wire = connected_wire()
    capacity = wire.host.outgoing.capacity
    client, buffer, offset, length = one(0, b"x")
    repeat = np.repeat
    many = (repeat(client, capacity + 5), buffer, repeat(offset, capacity + 5), repeat(length, capacity + 5))
    assert wire.host.send(*many, wire.now_ns) == capacity
    wire.host.disconnect(0, wire.now_ns)
    assert wire.host.outgoing.count == capacity
    assert drops(wire)["OUTGOING_FULL"] >= 5


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"clients_max": 0}, "clients_max is 0; choose 1 to"),
        ({"clients_max": 10**9}, "clients_max is"),
        ({"private_key": b"short"}, "private_key has 5 bytes"),
        ({"addresses": []}, "addresses is empty"),
    ],
)
def test_host_that_cannot_work_says_why(options: dict[str, Any], reason: str) -> None:
    keywords: dict[str, Any] = {
        "protocol_id": 1,
        "private_key": KEY,
        "addresses": [SERVER],
        "clients_max": 4,
        "now_ns": 0,
        "unix_ns": 0,
    }
    with pytest.raises(NetError, match=reason):
        Host(**(keywords | options))


def test_batch_larger_than_made_for_is_refused() -> None:
    wire = Wire(1, batch=2)
    batch = Datagrams(3)
    for _ in range(3):
        batch.append(b"x" * 20, client_address(0))
    with pytest.raises(NetError, match="3 datagrams at once; made for batch=2"):
        wire.host.receive(batch, wire.now_ns)


def test_no_nonce_repeats_after_a_restart_within_the_life_of_a_token() -> None:
    used, packets = token(1, expire_s=30), []
    for restart in range(2):
        wire = Wire(1, unix_ns=(UNIX_S + 5 * restart) * SECOND)
        wire.group.connect(0, used, wire.now_ns)
        wire.run(0.1)
        assert wire.all_connected()
        for _ in range(50):
            wire.host_send(0, b"same key")
            wire.step(MS)
        packets.append([datagram for way, datagram in wire.sent if way == "down"])
    keyed = [{datagram[1 : 1 + (datagram[0] >> 4)] for datagram in sent} for sent in packets]
    assert all(len(nonces) == len(sent) for nonces, sent in zip(keyed, packets, strict=True))
    assert not keyed[0] & keyed[1]


def test_client_that_uses_its_token_again_goes_on_with_its_sequences() -> None:
    wire = connected_wire()
    before = int(wire.group._words[0, 3])
    again = token(1)
    wire.group.connect(0, again, wire.now_ns)
    assert int(wire.group._words[0, 3]) == 0 < before
    wire.group._words[0, 3] = 7
    wire.group.connect(0, again, wire.now_ns)
    assert int(wire.group._words[0, 3]) == 7


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=200), st.integers(0, 2**64 - 1))
def test_address_table_equals_a_dictionary(edits: list[tuple[int, bool]], seed: int) -> None:
    rng = random.Random(seed)
    pool = [[rng.choice([0, 1, rng.getrandbits(64)]) for _ in range(3)] for _ in range(31)]
    table, secret = np.zeros(32, dtype=np.int32), np.array([seed, seed ^ 0x55], dtype=np.uint64)
    words, probe = np.zeros((31, 9), dtype=np.uint64), np.zeros((1, 3), dtype=np.uint64)
    words[:, :3] = pool
    expected: dict[tuple[int, ...], int] = {}
    for slot, insert in edits:
        key = tuple(pool[slot])
        if insert and key not in expected:
            expected[key] = slot
            table_edit(table, secret, words, probe, slot, 1)
        elif not insert and expected.get(key) == slot:
            del expected[key]
            table_edit(table, secret, words, probe, slot, -1)
        elif not insert and key not in expected:
            table_edit(table, secret, words, probe, slot, -1)
    for candidate in pool:
        probe[0] = candidate
        assert table_edit(table, secret, words, probe, 0, 0) == expected.get(tuple(candidate), -1)
    assert np.count_nonzero(table) == len(expected)


def test_ten_thousand_clients_fit() -> None:
    host = Host(
        protocol_id=PROTOCOL,
        private_key=KEY,
        addresses=[SERVER],
        clients_max=10_000,
        now_ns=START_NS,
        unix_ns=UNIX_S * SECOND,
    )
    host.tick(START_NS + SECOND)
    assert host.connected_clients().size == 0


def test_same_traffic_gives_the_same_bytes() -> None:
    def play() -> list[tuple[str, bytes]]:
        rng = random.Random(5)
        wire = Wire(3, entropy=rng.randbytes)
        for client in range(3):
            wire.group.connect(client, token(client, entropy=rng.randbytes), wire.now_ns)
        wire.run(0.3)
        return wire.sent

    assert play() == play()
