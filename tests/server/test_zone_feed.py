"""A whole server and its clients: names and scores reach everyone who asks, wherever they play."""

import numpy as np

from net.party import Party
from net.zone import JOIN_TAG
from net.zone_replica import ZoneReplica
from server.app import Server
from sim.games.arena.components import Score
from tests.server.played import Clients, joined, play, playing


def zone_of(clients: Clients) -> ZoneReplica:
    assert clients.zone is not None
    return clients.zone


def agree(server: Server, clients: Clients, client: int) -> bool:
    """Whether a client knows exactly what the server would tell everyone."""
    zone = zone_of(clients)
    ids, words = server.frame.zone.state.occupied()
    return np.array_equal(zone.ids[client], ids) and np.array_equal(zone.words[client], words)


def entity_of(server: Server, row: int) -> int:
    return int(server.world.players.ids[row])


def test_names_and_scores_of_everyone_are_known_after_joining() -> None:
    with playing(3, with_zone=True) as (server, clients):
        joined(server, clients)
        play(server, clients, 30)
        assert all(agree(server, clients, client) for client in range(3))
        zone = zone_of(clients)
        known = sorted(zone.text(0, "name.text", int(entity)) for entity in zone.ids[0] if entity)
        assert known == ["Player 0", "Player 1", "Player 2"]
        assert server.frame.zone.joins.statistics()["joins_delivered"] == 3


def test_scores_that_change_reach_everyone_and_then_nothing_more_is_sent() -> None:
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        play(server, clients, 30)
        score = server.world.players[Score]
        score.points[0], score.kills[1] = -5, 7
        before = server.frame.zone.state.counts()["sections"]
        play(server, clients, 30)
        assert all(agree(server, clients, client) for client in range(2))
        zone = zone_of(clients)
        assert zone.values(1, "score.points")[zone.layout.row_of(entity_of(server, 0))] == -5
        assert zone.values(0, "score.kills")[zone.layout.row_of(entity_of(server, 1))] == 7
        assert server.frame.zone.state.counts()["sections"] == before + 2


def test_a_player_who_comes_later_is_told_to_those_who_are_there() -> None:
    with playing(2, with_zone=True) as (server, clients):
        clients.connect(0)
        play(server, clients, 60)
        assert agree(server, clients, 0)
        clients.connect(1)
        play(server, clients, 60)
        assert agree(server, clients, 0)
        assert agree(server, clients, 1)
        clients.leave(1, server.clock.now_ns())
        clients.flush()
        play(server, clients, 60)
        assert agree(server, clients, 0)
        assert int(np.count_nonzero(zone_of(clients).ids[0])) == 1


def test_who_does_not_ask_is_sent_neither_block_nor_section() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        server.world.players[Score].points[0] = 9
        play(server, clients, 30)
        assert server.frame.zone.joins.statistics()["join_blocks_built"] == 0
        assert server.frame.zone.state.counts()["sections"] == 0
        assert clients.blocks.take_received() == []


def test_asking_again_is_refused_and_counted() -> None:
    with playing(1, with_zone=True) as (server, clients):
        joined(server, clients)
        play(server, clients, 30)
        assert clients.tell(0, "abilities", (1, 2, 3))
        play(server, clients, 30)
        assert server.frame.gate.refused == 1
        assert server.frame.zone.joins.statistics()["joins_delivered"] == 1
        assert agree(server, clients, 0)


def test_a_client_that_refuses_its_block_is_left_alone_after_some_attempts() -> None:
    with playing(1, with_zone=True) as (server, clients):
        limits = clients.blocks.limits
        object.__setattr__(limits, "receive_bytes", 0)
        try:
            joined(server, clients)
            play(server, clients, 120)
        finally:
            object.__setattr__(limits, "receive_bytes", 16 << 20)
        assert server.frame.zone.joins.statistics()["joins_failed"] == 1
        assert server.frame.zone.joins.statistics()["joins_waiting"] == 0
        assert server.frame.zone.state.told().tolist() == []
        assert server.sessions.playing == 1


def test_a_client_that_comes_back_is_brought_up_to_date_anew() -> None:
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        play(server, clients, 30)
        clients.sockets.rebind(0)
        play(server, clients, 20)
        server.world.players[Score].deaths[1] = 3
        play(server, clients, 400)
        assert clients.rejoins == 1
        assert agree(server, clients, 0)
        assert agree(server, clients, 1)


def test_blocks_that_are_no_joins_are_dropped_and_counted() -> None:
    with playing(1, with_zone=True) as (server, clients):
        joined(server, clients)
        play(server, clients, 30)
        server.transport.send_block(0, b"something else", tag=JOIN_TAG + 1, now_ns=server.clock.now_ns())
        server.transport.send_block(0, b"no join", tag=JOIN_TAG, now_ns=server.clock.now_ns())
        play(server, clients, 60)
        assert isinstance(clients, Party)
        assert clients.blocks_dropped == 1
        assert zone_of(clients).blocks_refused == 1
        assert agree(server, clients, 0)
