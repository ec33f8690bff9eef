"""There is no limit of 256 clients: ten thousand connect, play, are replaced and leave, in virtual time."""

import numpy as np

from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.host import DisconnectReason, Host
from sim.arrays import I32, I64, U8, U64
from tests.net.virtual import KEY, MS, PROTOCOL, SECOND, SERVER, START_NS, UNIX_S, client_address, token

MANY = 10_000


class Crowd:
    """Ten thousand clients and their host; datagrams are carried as whole arrays."""

    def __init__(self) -> None:
        self.now = START_NS
        self.host = Host(
            protocol_id=PROTOCOL,
            private_key=KEY,
            addresses=[SERVER],
            clients_max=MANY + 1,
            now_ns=self.now,
            unix_ns=UNIX_S * SECOND,
            batch=2 * MANY,
            handshakes_max=MANY,
            takeover=True,
        )
        self.group = ClientGroup(MANY, protocol_id=PROTOCOL, batch=3 * MANY)
        self.places: U64 = np.array([client_address(client).words() for client in range(MANY)], dtype=np.uint64)
        self._order = np.argsort(self.places[:, 1] ^ self.places[:, 2])
        self._sorted = (self.places[:, 1] ^ self.places[:, 2])[self._order]
        self.up, self.down = Datagrams(2 * MANY), Datagrams(3 * MANY)

    def step(self) -> None:
        """Carry everything both ways once."""
        self.now += 100 * MS
        self.group.advance(self.now)
        out, count = self.group.outgoing, self.group.outgoing.count
        self.up.data[:count], self.up.length[:count] = out.data[:count], out.length[:count]
        self.up.address[:count], self.up.count = self.places[out.peer[:count]], count
        out.clear()
        self.host.receive(self.up, self.now)
        self.host.tick(self.now)
        out, count = self.host.outgoing, self.host.outgoing.count
        self.down.data[:count], self.down.length[:count] = out.data[:count], out.length[:count]
        self.down.address[:count], self.down.count = SERVER.words(), count
        keys = out.address[:count, 1] ^ out.address[:count, 2]
        self.down.peer[:count] = self._order[np.searchsorted(self._sorted, keys)]
        out.clear()
        self.group.receive(self.down, self.now)


def test_ten_thousand_clients_connect_play_and_leave() -> None:
    crowd = Crowd()
    host, group = crowd.host, crowd.group
    assert len(np.unique(crowd.places[:, 1] ^ crowd.places[:, 2])) == MANY
    for client in range(MANY):
        group.connect(client, token(client), crowd.now)
    for _ in range(3):
        crowd.step()
    assert (group.state == ClientState.CONNECTED).all()
    assert len(host.take_connected()) == MANY
    assert len(np.unique(group.client_index)) == MANY

    everyone: I32 = np.arange(MANY, dtype=np.int32)
    content: I32 = np.arange(MANY, dtype=np.int32) * 7 + 3
    buffer: U8 = content.view(np.uint8)
    offsets: I64 = np.arange(MANY, dtype=np.int64) * 4
    lengths: I32 = np.full(MANY, 4, dtype=np.int32)
    group.send(everyone, buffer, offsets, lengths, crowd.now)
    crowd.step()
    payloads = host.payloads
    assert payloads.count == MANY
    heard = np.array([int.from_bytes(payloads.payload(index), "little") for index in range(MANY)])
    assert np.array_equal(heard, host.client_id[payloads.client[:MANY]].astype(np.int64) * 7 + 3)
    host.send(payloads.client[:MANY], payloads.buffer, payloads.offset[:MANY], payloads.length[:MANY], crowd.now)
    crowd.step()
    echoed = group.payloads
    assert echoed.count == MANY
    back = np.array([int.from_bytes(echoed.payload(index), "little") for index in range(MANY)])
    assert np.array_equal(back, content[echoed.client[:MANY]])

    for client in range(3):
        group.connect(client, token(client), crowd.now)
    for _ in range(4):
        crowd.step()
        for event in host.take_disconnected():
            assert event.reason == DisconnectReason.REPLACED
    assert (group.state == ClientState.CONNECTED).all()
    assert sum(event.replaces >= 0 for event in host.take_connected()) == 3

    for client in range(0, MANY, 2):
        group.disconnect(client, crowd.now)
        if group.outgoing.count > MANY:
            crowd.step()
    crowd.step()
    assert len(host.connected_clients()) == MANY // 2
    assert host.disconnect_all(crowd.now) == MANY // 2
    assert host.outgoing.count >= 4 * MANY // 2, "each is told, though there is no room for ten packets to each"
    crowd.step()
    group.advance(crowd.now)
    assert (group.state[1::2] == ClientState.DISCONNECTED).all()
    crowd.now += 6 * SECOND
    host.tick(crowd.now)
    assert host.statistics()["pending"] == host.statistics()["addresses"] == 0
    assert not host._table.any()
