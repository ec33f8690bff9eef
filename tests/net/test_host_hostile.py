import random
from typing import Any

import pytest

from net.address import parse_address
from net.connection import ClientState
from net.datagrams import Datagrams
from net.packets import REQUEST_BYTES, Kind
from tests.net.virtual import (
    KEY,
    MS,
    PROTOCOL,
    SECOND,
    SERVER,
    UNIX_S,
    Wire,
    captured,
    client_address,
    connected_wire,
    drops,
    give,
    kind_of,
    request,
    token,
)
from tests.reference import packets as reference

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


def test_requests_beyond_the_budget_of_a_tick_are_dropped() -> None:
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
    assert drops(wire) == {"HANDSHAKE_BUDGET": 1}


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


def test_copies_of_one_token_do_not_keep_others_out() -> None:
    wire = Wire(1, clients_max=8, handshakes_max=8)
    flood, honest = request(wire, 1), request(wire, 2)
    batch = Datagrams(200)
    for copy in range(150):
        batch.append(flood, parse_address(f"198.51.100.9:{1_000 + copy}"))
    batch.append(honest, client_address(0))
    wire.host.receive(batch, wire.now_ns)
    assert wire.host.statistics()["pending"] == 2
    assert drops(wire) == {"HANDSHAKE_BUDGET": 149}


def test_copies_of_one_response_do_not_keep_others_out() -> None:
    wire = Wire(2, clients_max=8, handshakes_max=4)
    for client in range(2):
        wire.group.connect(client, token(client), wire.now_ns)
    wire.lose = lambda way, datagram: way == "up" and kind_of(datagram) == Kind.RESPONSE
    wire.run(0.05)
    first, second = captured(wire, "up", Kind.RESPONSE)[:2]
    batch = Datagrams(200)
    for _ in range(150):
        batch.append(first, client_address(0))
    batch.append(second, client_address(1))
    wire.host.receive(batch, wire.now_ns)
    assert wire.host.connected_clients().tolist() == [0, 1]
    assert drops(wire) == {"HANDSHAKE_BUDGET": 149}


def test_the_budget_is_of_a_tick_however_many_batches_it_takes() -> None:
    wire = Wire(1, clients_max=16, handshakes_max=3)
    for client_id in range(5):
        give(wire, request(wire, client_id), address=client_address(client_id))
    assert wire.host.statistics()["pending"] == 3
    assert drops(wire) == {"HANDSHAKE_BUDGET": 2}
    wire.host.tick(wire.now_ns)
    give(wire, request(wire, 7), address=client_address(7))
    assert wire.host.statistics()["pending"] == 4


def test_a_storm_of_requests_does_not_keep_responses_from_connecting() -> None:
    wire = Wire(4, clients_max=64, handshakes_max=4)
    for client in range(4):
        wire.group.connect(client, token(client), wire.now_ns)
    wire.lose = lambda way, datagram: way == "up" and kind_of(datagram) == Kind.RESPONSE
    wire.run(0.05)
    responses = captured(wire, "up", Kind.RESPONSE)[:4]
    wire.host.tick(wire.now_ns)
    for client_id in range(100, 120):
        give(wire, request(wire, client_id), address=client_address(client_id))
    for client, response in enumerate(responses):
        give(wire, response, address=client_address(client))
    assert wire.host.connected_clients().tolist() == [0, 1, 2, 3]


def test_copies_of_consumed_tokens_cost_none_of_the_budget() -> None:
    wire = Wire(4, clients_max=16, handshakes_max=4, takeover=True)
    wire.connect(seconds=0.3)
    assert wire.all_connected()
    wire.host.tick(wire.now_ns)
    before = drops(wire).get("TOKEN_REUSED", 0)
    for copy in range(40):
        used = captured(wire, "up", Kind.REQUEST)[copy % 4]
        give(wire, used, address=client_address(100 + copy))
    give(wire, request(wire, 77), address=client_address(50))
    assert drops(wire)["TOKEN_REUSED"] == before + 40
    assert wire.host.statistics()["pending"] == 1


def test_a_flood_of_forged_tokens_is_decrypted_only_up_to_a_bound() -> None:
    wire = Wire(1, clients_max=8, handshakes_max=8)
    forged = bytearray(request(wire, 1))
    batch = Datagrams(400)
    for copy in range(300):
        forged[-1] = copy & 255
        forged[100 + copy] ^= 1
        batch.append(bytes(forged), parse_address(f"198.51.100.9:{1_000 + copy}"))
    wire.host.receive(batch, wire.now_ns)
    assert drops(wire) == {"TOKEN_NOT_AUTHENTIC": 256, "HANDSHAKE_BUDGET": 44}
    wire.host.tick(wire.now_ns)
    give(wire, request(wire, 2), address=client_address(0))
    assert wire.host.statistics()["pending"] == 1
