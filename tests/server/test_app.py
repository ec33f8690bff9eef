"""A whole server over loopback: joining, moving, predicting, being told, leaving, and what is refused."""

import gc
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

from net.client import ClientCount
from net.closing import CloseCode
from net.connection import ClientState
from net.errors import NetError
from net.records_kernels import SELF
from server.app import Server
from server.config import ServerConfig
from server.errors import ServerError
from sim.components import Motion, Vitals
from tests.server.played import Clients, joined, play, playing


def test_a_lone_player_moves_by_its_inputs_and_is_predicted_to_the_last_bit() -> None:
    with playing(1) as (server, clients):
        joined(server, clients)
        motion = server.world.players[Motion]
        row = int(server.sessions.row[server.sessions.clients()[0]])
        start = motion.position[row].copy()
        before = clients.clients.counters.copy()
        way = 0.0
        for turn in range(12):
            clients.wishes = {"move_forward": 127, "yaw": turn * 5000, "buttons": turn % 2, "move_right": 40}
            play(server, clients, 15)
            way += float(np.linalg.norm(motion.position[row] - start))
            start = motion.position[row].copy()
        happened = (clients.clients.counters - before)[:, 0]
        assert way > 5.0
        assert happened[ClientCount.COMPARED] > 60
        assert happened[ClientCount.MISPREDICTED] == 0
        assert happened[ClientCount.LATE_INPUTS] == 0
        # It said what it predicted, so it was hardly ever told: only while it is not known to know of its health.
        assert happened[ClientCount.CONFIRMED] > 0.7 * happened[ClientCount.COMPARED]
        assert server.frame.claims.counts()["owner_corrected"] < 5
        assert clients.clients.tick[0] > server.world.tick - 2


def test_snapshots_hold_the_quantised_state_of_their_tick() -> None:
    with playing(3) as (server, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127, "yaw": 9000}
        states: dict[int, dict[int, list[int]]] = {}
        compared = 0
        for _ in range(40):
            play(server, clients, 1)
            ids, fields = server.frame._view.ids, server.replication.fields
            states[server.world.tick] = {int(ids[slot]): fields[slot].tolist() for slot in np.flatnonzero(ids)}
            for client, slot in np.argwhere(clients.replicas.entity_id != 0):
                told_at = int(clients.replicas.state_tick[client, slot])
                if told_at in states:
                    entity = int(clients.replicas.entity_id[client, slot])
                    level = int(clients.replicas.level[client, slot])
                    known = slice(6 if level == SELF else 0, server.replication.table.count[level])
                    assert clients.replicas.fields[client, slot][known].tolist() == states[told_at][entity][known]
                    compared += 1
        assert compared > 200
        others = set(clients.replicas.entity_id[0].tolist()) & set(server.sessions.entity.tolist()) - {0}
        assert len(others) >= 2


def test_who_disconnects_leaves_the_world_and_the_eyes_of_others() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        own = clients.connections.client_index[0]
        entity = server.sessions.entity[own]
        clients.leave(0, server.clock.now_ns())
        clients.flush()
        play(server, clients, 30)
        assert server.sessions.playing == 1
        assert server.world.players.find(int(entity)) == -1
        assert entity not in clients.replicas.entity_id[1]
        clients.connect(0)
        play(server, clients, 40)
        assert server.sessions.playing == 2


def test_who_falls_silent_leaves_after_the_time_out() -> None:
    with playing(1, client_timeout_s=1, resume_s=0) as (server, clients):
        joined(server, clients)
        for _ in range(90):
            server.clock.now += 1_000_000_000 // 60  # type: ignore[attr-defined]  # the clock is the test's
            server.frame.run(server.clock.now_ns())
        assert server.sessions.playing == 0
        assert server.world.players.live_count == 0


def silent(server: Server, ticks: int) -> None:
    """Ticks of the server in which nothing reaches or leaves the clients."""
    for _ in range(ticks):
        server.clock.now += 1_000_000_000 // 60  # type: ignore[attr-defined]  # the clock is the test's
        server.frame.run(server.clock.now_ns())


def test_who_was_lost_goes_on_with_the_same_player_after_a_time_out() -> None:
    with playing(1, client_timeout_s=1) as (server, clients):
        joined(server, clients)
        row, entity = int(server.sessions.row[0]), int(server.sessions.entity[0])
        server.world.players[Vitals].health[row] = 61.0
        silent(server, 90)
        assert (server.sessions.playing, server.sessions.away) == (0, 1)
        assert server.world.players.live_count == 1
        play(server, clients, 150)
        assert (server.sessions.playing, server.sessions.away, server.sessions.resumes) == (1, 0, 1)
        back = int(clients.connections.client_index[0])
        assert (int(server.sessions.row[back]), int(server.sessions.entity[back])) == (row, entity)
        assert server.world.players[Vitals].health[row] <= 61.0  # no new life
        first, second = (values for _, values in clients.welcomes)
        assert (first[0], first[2]) == (second[0], second[2])
        assert (first[1], second[1]) == (0, 1)
        assert clients.clients.tick[0] > server.world.tick - 2  # and plays


def test_who_comes_from_another_address_takes_its_player_over_at_once() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        entity = int(server.sessions.entity[clients.connections.client_index[0]])
        elsewhere = Clients(server, 1)
        try:
            elsewhere.connect(0)
            for _ in range(40):
                play(server, clients, 1)
                elsewhere.frame(server.clock.now_ns())
            assert server.sessions.playing == 2
            assert int(server.sessions.entity[elsewhere.connections.client_index[0]]) == entity
            assert elsewhere.welcomes[0][1][1:3] == (1, entity)
            assert server.world.players.live_count == 2
        finally:
            elsewhere.sockets.close()


def test_whose_address_changes_goes_on_with_the_same_player_and_a_fresh_token() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        entities = server.sessions.entity[clients.connections.client_index].tolist()
        clients.sockets.rebind(0)
        play(server, clients, 180)  # two seconds of silence, and a handshake
        assert clients.rejoins == 1
        assert server.sessions.entity[clients.connections.client_index].tolist() == entities
        assert (server.sessions.resumes, server.sessions.playing, server.sessions.away) == (1, 2, 0)
        assert clients.clients.tick[0] > server.world.tick - 2


def test_who_does_not_come_back_in_time_leaves() -> None:
    with playing(1, client_timeout_s=1, resume_s=1) as (server, clients):
        joined(server, clients)
        silent(server, 90)
        assert server.world.players.live_count == 1
        silent(server, 60)
        assert (server.sessions.away, server.world.players.live_count) == (0, 0)


def test_who_is_sent_away_learns_why_and_stays_away() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        server.transport.kick(int(clients.connections.client_index[0]), CloseCode.KICKED, "no walking on walls")
        play(server, clients, 60)
        assert clients.kicked == {0: "no walking on walls"}
        assert (clients.connected, server.sessions.playing, server.sessions.away) == (1, 1, 0)
        play(server, clients, 600)
        assert clients.connected == 1


def test_who_takes_less_than_it_is_told_is_sent_away_and_holds_nobody_up() -> None:
    with playing(2, client_timeout_s=30) as (server, clients):
        joined(server, clients)
        slow, fast = (int(clients.connections.client_index[client]) for client in (0, 1))
        clients.sockets.rebind(0)
        clients.leave(0, server.clock.now_ns())  # without a word: its farewell comes from a port that nobody knows
        clients.flush()
        for number in range(200):
            server.transport.tell([slow], "notice", f"{number} {'x' * 180}")
        server.transport.tell([fast], "say", 7, "on it goes")
        play(server, clients, 60)
        assert server.transport.untold > 0
        assert clients.heard == [(1, "on it goes")]
        play(server, clients, 300)
        assert server.transport.kicks == 1
        assert server.host.connected_clients().tolist() == [fast]
        assert (server.sessions.playing, server.sessions.away) == (1, 0)


def test_a_block_arrives_whole_beside_a_match_that_goes_on() -> None:
    content = np.random.default_rng(4).bytes(150_000)
    with playing(2) as (server, clients):
        joined(server, clients)
        client = int(clients.connections.client_index[1])
        server.transport.send_block(client, content, tag=7, now_ns=server.clock.now_ns())
        seen = clients.clients.counters[ClientCount.SNAPSHOTS].copy()
        received = []
        for _ in range(600):
            play(server, clients, 1)
            received += clients.blocks.take_received()
            if received:
                break
        assert [(block.peer, block.tag, block.content) for block in received] == [(1, 7, content)]
        ticks = int((clients.clients.counters[ClientCount.SNAPSHOTS] - seen)[0])
        told = clients.clients.counters[ClientCount.SNAPSHOTS] - seen
        assert told[1] >= told[0] - 2 > 0
        assert ticks > 5


def test_who_comes_and_goes_within_one_tick_leaves_nothing_behind() -> None:
    with playing(1) as (server, clients):
        clients.connect(0)
        for _ in range(20):
            play(server, clients, 1)
            if clients.connections.state[0] == ClientState.RESPONDING:
                break
        # Its response lies in the server's buffer. What fills the rest of a batch lets its farewell be read after it,
        # in the same tick; it need not wait for the server's word to send one.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            for _ in range(300):
                other.sendto(b"x", ("127.0.0.1", server.socket.address.port))
        clients.connections.state[0] = ClientState.CONNECTED
        clients.connections.disconnect(0, server.clock.now_ns())
        clients.flush()
        for _ in range(3):
            server.clock.now += 1_000_000_000 // 60  # type: ignore[attr-defined]  # the clock is the test's
            server.frame.run(server.clock.now_ns())
        assert server.host.connected_clients().size == 0
        assert server.world.players.live_count == 0


def test_a_full_zone_refuses_by_disconnecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.games.arena.PLAYERS_MAX", 2)
    with playing(3) as (server, clients):
        for client in range(3):
            clients.connect(client)
        play(server, clients, 60)
        assert (server.sessions.playing, clients.connected) == (2, 2)
        assert list(clients.kicked.values()) == ["the zone is full"]


def test_actions_are_checked_limited_and_counted_and_chat_is_passed_on() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        gate = server.frame.gate
        me = int(clients.connections.client_index[0])
        clients.tell(0, "say", "hello")
        clients.tell(0, "choose_team", 2)
        clients.tell(0, "choose_team", 1)
        clients.endpoint.tell(0, b"\x02\x93\x01\xff\xff")
        clients.endpoint.tell(0, bytes([2, 0x92, 0, 99]))
        clients.flush()
        play(server, clients, 5)
        assert sorted(clients.heard) == [(0, "hello"), (1, "hello")]
        assert server.world.players[Vitals].team[server.sessions.row[me]] == 2
        assert (gate.refused, gate.malformed) == (1, 2)


def test_a_frame_of_a_warm_server_keeps_no_memory() -> None:
    """Python's blocks must not grow with ticks; a leak of one object per tick would show as 300."""
    with playing(16) as (server, clients):
        joined(server, clients)
        clients.wishes = {"yaw": 100}
        play(server, clients, 60)
        gc.collect()
        gc.disable()
        try:
            play(server, clients, 300)  # the interpreter's free lists, which the collector emptied, fill again
            before = sys.getallocatedblocks()
            play(server, clients, 300)
            grown = sys.getallocatedblocks() - before
        finally:
            gc.enable()
        assert grown < 64


def test_a_feed_name_or_port_that_is_taken_leaves_nothing_half_started(tmp_path: Path) -> None:
    with playing(1) as (server, _):
        port = server.socket.address.port
        with pytest.raises(NetError, match=str(port)), playing(1, port=port):
            pass
    bad = tmp_path / "key"
    bad.write_text("zz")
    with pytest.raises(NetError, match="not hexadecimal"), playing(1, private_key_file=str(bad)):
        pass
    with pytest.raises(ServerError, match=r"threads = 64"):
        Server(ServerConfig(threads=64, feed="never"))


def test_closing_tells_the_clients_and_is_harmless_again() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        card = server.card_file
        assert card is not None
        assert card.stat().st_mode & 0o777 == 0o600
        server.close()
        server.close()
        clients.receive(server.clock.now_ns())
        clients.connections.advance(server.clock.now_ns())
        assert clients.connections.state.tolist() == [ClientState.DISCONNECTED] * 2
        assert not card.exists()
