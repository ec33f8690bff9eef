"""Reliable messages on their way to clients: packed for those who take it, plain for the others."""

import pytest

from net.dictionaries import shipped_dictionaries
from tests.server.played import joined, play, playing

LINE = "they come from the left, take the armour and hold the red base, attack their flag now"


def test_chat_is_packed_for_those_who_said_that_they_take_it() -> None:
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        before = server.transport.packer.packed
        assert clients.tell(0, "say", LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE), (1, LINE)]
        assert server.transport.packer.packed == before + 1, "once for both"
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] > 0
        assert server.transport.statistics()["messages_packed"] == server.transport.packer.packed


def test_who_said_nothing_is_sent_plain_messages() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        assert clients.tell(0, "say", LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE), (1, LINE)]
        assert server.transport.packer.packed == 0


def test_who_has_no_dictionary_is_sent_nothing_that_needs_one() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        client = int(clients.connections.client_index[0])
        server.transport.agree(client, (1, 2, 3))
        clients.tell(0, "say", LINE + LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE + LINE), (1, LINE + LINE)]
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] == 0
        assert counts["compressed_lz4"] == server.transport.packer.packed


def test_a_newcomer_in_the_same_place_begins_without_agreement() -> None:
    with playing(1) as (server, clients):
        joined(server, clients)
        client = int(clients.connections.client_index[0])
        server.transport.agree(client, [dictionary.id for dictionary in shipped_dictionaries()])
        clients.leave(0, server.clock.now_ns())
        clients.flush()
        play(server, clients, 60)
        clients.connect(0)
        play(server, clients, 60)
        clients.tell(0, "say", LINE)
        play(server, clients, 30)
        assert clients.heard == [(0, LINE)]
        assert server.transport.packer.packed == 0


def test_where_there_is_no_group_left_no_dictionary_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.transport.GROUPS_MAX", 1)
    with playing(1, with_zone=True) as (server, clients):
        joined(server, clients)
        assert clients.tell(0, "say", LINE + LINE)
        play(server, clients, 30)
        assert clients.heard == [(0, LINE + LINE)]
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] == 0
        assert counts["compressed_lz4"] == server.transport.packer.packed == 1
