"""A client that lost its connection comes back before the server has noticed, and nobody else can use that."""

import random

import numpy as np
import pytest

from net.address import Address
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.host import DisconnectReason
from net.packets import Kind
from tests.net.virtual import (
    MS,
    PROTOCOL,
    SECOND,
    SERVER,
    Wire,
    client_address,
    connected_wire,
    drops,
    give,
    kind_of,
    one,
    token,
)


class Rival:
    """A client of its own, with a fresh token, whose packets are handed over one by one."""

    def __init__(self, wire: Wire, client_id: int, *, address: Address | None = None) -> None:
        self.wire, self.address = wire, address or client_address(0)
        self.group = ClientGroup(1, protocol_id=PROTOCOL)
        self.token = token(client_id)
        self.group.connect(0, self.token, wire.now_ns)
        self.payloads: list[bytes] = []

    def packet(self) -> bytes:
        """What it sends next."""
        self.wire.now_ns += 100 * MS
        self.group.advance(self.wire.now_ns)
        datagram = self.group.outgoing.datagram(0)
        self.group.outgoing.clear()
        return datagram

    def send(self) -> bytes:
        """Send it, and take in all that the host has for its address."""
        datagram = self.packet()
        give(self.wire, datagram, address=self.address)
        self.hear()
        return datagram

    def hear(self) -> None:
        """Take in all that the host has for its address; the rest is lost."""
        out, batch = self.wire.host.outgoing, Datagrams(64)
        for row in range(out.count):
            if out.address_at(row) == self.address:
                batch.append(out.datagram(row), SERVER, peer=0)
        out.clear()
        for _ in range(self.group.receive(batch, self.wire.now_ns)):
            self.payloads += [self.group.payloads.payload(row) for row in range(self.group.payloads.count)]

    def state(self) -> ClientState:
        return ClientState(int(self.group.state[0]))


def columns(wire: Wire, slot: int) -> bytes:
    """Everything the host keeps of a connected slot."""
    host = wire.host
    return b"".join(
        column[slot].tobytes() for column in (host.state, host.confirmed, host._words, host._keys, host._times)
    )


def play(wire: Wire, client: int) -> None:
    """Payloads pass both ways."""
    slot = int(wire.group.client_index[client])
    wire.server_payloads.clear()
    wire.client_payloads.clear()
    wire.client_send(client, b"up")
    wire.host_send(slot, b"down")
    wire.step()
    assert wire.server_payloads == [(slot, b"up")]
    assert wire.client_payloads == [(client, b"down")]


def test_from_another_address_the_old_connection_is_replaced() -> None:
    wire = Wire(2, clients_max=4, takeover=True)
    wire.group.connect(0, token(7), wire.now_ns)
    wire.run(0.1)
    (first,) = wire.host.take_connected()
    wire.group.connect(1, token(7, user_data=b"again"), wire.now_ns)
    wire.run(0.1)
    (second,) = wire.host.take_connected()
    (gone,) = wire.host.take_disconnected()
    assert (first.replaces, second.replaces, gone.client) == (-1, first.client, first.client)
    assert second.client != first.client and second.user_data[:5] == b"again"
    assert (gone.client_id, gone.reason) == (7, DisconnectReason.REPLACED)
    assert wire.host.connected_clients().tolist() == [second.client]
    assert wire.group.state.tolist() == [ClientState.DISCONNECTED, ClientState.CONNECTED]
    ended = [datagram for way, datagram in wire.sent if way == "down" and kind_of(datagram) == Kind.DISCONNECT]
    assert len(ended) == 10
    play(wire, 1)


def test_from_the_same_socket_a_fresh_token_connects_again() -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    for turn in range(5):
        old = int(wire.group.client_index[0])
        wire.host.take_connected()
        wire.group.connect(0, token(1000), wire.now_ns)
        wire.run(0.4)
        (come,) = wire.host.take_connected()
        (gone,) = wire.host.take_disconnected()
        assert (come.replaces, gone.client, gone.reason) == (old, old, DisconnectReason.REPLACED)
        assert wire.group.state[0] == ClientState.CONNECTED, turn
        play(wire, 0)
    assert wire.host.statistics()["pending"] == 0


def test_without_takeover_the_standard_holds() -> None:
    wire = connected_wire(1, clients_max=4)
    same, other = Rival(wire, 1000), Rival(wire, 1000, address=client_address(5))
    same.send()
    other.send()
    assert drops(wire) == {"ADDRESS_CONNECTED": 1, "CLIENT_ID_CONNECTED": 1}
    play(wire, 0)


def test_nothing_of_the_old_connection_changes_before_the_response() -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    before = columns(wire, 0)
    rival = Rival(wire, 1000)
    rival.send()
    assert rival.state() == ClientState.RESPONDING
    assert columns(wire, 0) == before
    play(wire, 0)  # through the same address, under the old keys
    rival.send()
    assert rival.state() == ClientState.CONNECTED
    assert wire.host.connected_clients().tolist() == [1]


def test_requests_that_are_not_its_own_leave_a_connection_alone() -> None:
    wire = Wire(1, clients_max=4, takeover=True)
    wire.connect()
    used = [datagram for way, datagram in wire.sent if way == "up" and kind_of(datagram) == Kind.REQUEST]
    responses = [datagram for way, datagram in wire.sent if way == "up" and kind_of(datagram) == Kind.RESPONSE]
    before, random_ = columns(wire, 0), random.Random(3)
    wire.host.drops[:] = 0
    give(wire, *used, *responses)
    assert drops(wire) == {"TOKEN_REUSED": len(used), "WRONG_STATE": len(responses)}
    stranger = Rival(wire, 2000)
    stranger.send()
    fresh = Rival(wire, 1000).packet()
    for _ in range(200):
        forged = bytearray(fresh)
        forged[random_.randrange(22, len(forged))] ^= 1 << random_.randrange(8)
        give(wire, bytes(forged))
    counted = drops(wire)
    assert counted["ADDRESS_CONNECTED"] == 1
    assert counted["TOKEN_NOT_AUTHENTIC"] + counted.get("TOKEN_TOO_FAR", 0) + counted.get("TOKEN_EXPIRED", 0) == 200
    assert wire.host.statistics()["pending"] == 0
    assert columns(wire, 0) == before
    play(wire, 0)


def test_forged_responses_do_not_end_a_connection_that_has_a_rival() -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    rival = Rival(wire, 1000)
    rival.send()
    before, response = columns(wire, 0), rival.packet()
    for at in range(len(response)):
        forged = bytearray(response)
        forged[at] ^= 1 << at % 8
        give(wire, bytes(forged))
    assert columns(wire, 0) == before
    assert wire.host.connected_clients().tolist() == [0]
    give(wire, response)
    assert wire.host.connected_clients().tolist() == [1]


@pytest.mark.parametrize("end", ["disconnect", "kick", "silence"])
def test_when_the_old_connection_ends_first_the_handshake_goes_on(end: str) -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    rival = Rival(wire, 1000)
    if end == "silence":
        wire.now_ns += 4 * SECOND + 900 * MS
    rival.send()
    if end == "disconnect":
        wire.group.disconnect(0, wire.now_ns)
        give(wire, wire.group.outgoing.datagram(0))
    elif end == "kick":
        wire.host.disconnect(0, wire.now_ns)
    else:
        wire.now_ns += 200 * MS
        wire.host.tick(wire.now_ns)
    assert wire.host.connected_clients().size == 0
    assert wire.host.statistics()["pending"] == 1
    rival.hear()
    rival.send()
    assert rival.state() == ClientState.CONNECTED
    (_, come) = wire.host.take_connected()
    assert come.replaces == -1


def test_a_rival_that_never_answers_goes_and_leaves_no_trace() -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    Rival(wire, 1000).send()
    for _ in range(60):
        wire.step(100 * MS)
    assert wire.host.statistics()["pending"] == 0
    assert not wire.host._rival.any()
    play(wire, 0)


def test_on_a_full_server_the_slot_is_kept_for_its_client() -> None:
    wire = Wire(3, clients_max=1, takeover=True)
    wire.group.connect(0, token(7), wire.now_ns)
    wire.run(0.1)
    wire.host.take_connected()
    wire.group.connect(1, token(7), wire.now_ns)
    wire.run(0.3)
    assert wire.host.connected_clients().size == 0, "its slot is not given anew before the event was taken"
    wire.group.connect(2, token(8), wire.now_ns)
    (gone,) = wire.host.take_disconnected()
    wire.run(0.3)
    (come,) = wire.host.take_connected()
    assert (gone.reason, come.client, come.client_id, come.replaces) == (DisconnectReason.REPLACED, 0, 7, 0)
    assert wire.group.state.tolist()[1:] == [ClientState.CONNECTED, ClientState.DENIED]
    play(wire, 1)


@pytest.mark.parametrize("taken", [True, False])
def test_a_kept_slot_is_given_back_when_its_client_stays_away(taken: bool) -> None:
    wire = Wire(3, clients_max=1, takeover=True)
    wire.group.connect(0, token(7), wire.now_ns)
    wire.run(0.1)
    wire.lose = lambda way, datagram: way == "up" and kind_of(datagram) == Kind.RESPONSE
    wire.group.connect(1, token(7), wire.now_ns)
    wire.step()
    wire.lose = lambda _way, _datagram: False
    wire.step(100 * MS)
    wire.lose = lambda way, _datagram: way == "up"
    assert wire.host.connected_clients().size == 0
    if taken:
        assert len(wire.host.take_disconnected()) == 1
    wire.run(6.0)
    wire.lose = lambda _way, _datagram: False
    wire.host.take_disconnected()
    wire.group.connect(2, token(8), wire.now_ns)
    wire.run(0.1)
    assert wire.group.state[2] == ClientState.CONNECTED


def test_a_response_counts_only_for_the_token_it_was_made_with() -> None:
    wire = Wire(1, clients_max=4)
    first, second = Rival(wire, 7), Rival(wire, 7)
    first.send()
    # In one batch: a request with another token from the same address, then the response to the first challenge.
    give(wire, second.packet(), first.packet())
    assert wire.host.connected_clients().size == 0
    assert drops(wire) == {"WRONG_STATE": 1}
    second.hear()
    second.send()
    assert second.state() == ClientState.CONNECTED


def test_of_two_who_come_back_at_once_the_last_stays() -> None:
    wire = connected_wire(1, clients_max=4, takeover=True)
    rivals = [Rival(wire, 1000, address=client_address(index)) for index in (0, 5, 6)]
    for rival in rivals:
        rival.send()
    for rival in rivals:
        rival.send()
        assert rival.state() == ClientState.CONNECTED
    assert wire.host.connected_clients().size == 1
    assert [event.reason for event in wire.host.take_disconnected()] == [DisconnectReason.REPLACED] * 3
    wire.host.send(*one(int(wire.host.connected_clients()[0]), b"you"), wire.now_ns)
    rivals[2].hear()
    assert rivals[2].payloads == [b"you"]
    assert np.count_nonzero(wire.host._table) == 1
