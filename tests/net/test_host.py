import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.address import parse_address
from net.connection import ClientState
from net.datagrams import Datagrams
from net.errors import NetError
from net.host import DisconnectReason, Host
from net.host_table_kernels import table_edit
from net.packets import Drop, Kind
from tests.net.virtual import (
    KEY,
    MS,
    PROTOCOL,
    SECOND,
    SERVER,
    START_NS,
    UNIX_S,
    Wire,
    captured,
    client_address,
    connected_wire,
    drops,
    give,
    kind_of,
    one,
    request,
    token,
)


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


def test_payloads_carry_the_arrival_of_their_datagrams() -> None:
    wire = connected_wire()
    wire.run(0.2)  # until the host has heard its client
    now = wire.now_ns
    stamps, expected = [now - 7 * MS, 0, now + SECOND, now], [now - 7 * MS, now, now, now]
    for index in range(4):
        wire.client_send(0, b"up %d" % index)
        wire.host_send(0, b"down %d" % index)
    for outgoing, side in ((wire.group.outgoing, wire.host), (wire.host.outgoing, wire.group)):
        batch = Datagrams(8)
        assert outgoing.count == 4
        for index, stamp in enumerate(stamps):
            sender = client_address(0) if side is wire.host else SERVER
            batch.append(outgoing.datagram(index), sender, peer=0, received_ns=stamp)
        assert side.receive(batch, now) == 4
        assert side.payloads.received_ns[:4].tolist() == expected
