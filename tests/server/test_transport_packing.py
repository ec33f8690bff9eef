"""Reliable messages on their way to clients: packed for those who take it, plain for the others."""

import pytest

from net.client import ClientCount
from net.dictionaries import PayloadClass, shipped_dictionaries
from tests.server.played import joined, play, playing

MESSAGE, SNAPSHOT = PayloadClass.MESSAGE, PayloadClass.SNAPSHOT
LINE = "they come from the left, take the armour and hold the red base, attack their flag now"


def test_chat_is_packed_for_those_who_said_that_they_take_it() -> None:
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        before = server.transport.packer.packed[MESSAGE]
        assert clients.tell(0, "say", LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE), (1, LINE)]
        assert server.transport.packer.packed[MESSAGE] == before + 1, "once for both"
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] > 0
        assert server.transport.statistics()["packed_message"] == server.transport.packer.packed[MESSAGE]


def test_who_said_nothing_is_sent_plain_messages() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        assert clients.tell(0, "say", LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE), (1, LINE)]
        assert not any(server.transport.packer.packed.values())


def test_who_has_no_dictionary_is_sent_nothing_that_needs_one() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        client = int(clients.connections.client_index[0])
        server.transport.agree(client, (1, 2, 3))
        clients.tell(0, "say", LINE + LINE)
        play(server, clients, 30)
        assert sorted(clients.heard) == [(0, LINE + LINE), (1, LINE + LINE)]
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] == counts["compressed_zstd_dictionary"] == 0
        assert counts["compressed_lz4"] == sum(server.transport.packer.packed.values()) > 0


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
        assert not any(server.transport.packer.packed.values())


def test_where_there_is_no_group_left_no_dictionary_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.transport.GROUPS_MAX", 1)
    with playing(1, with_zone=True) as (server, clients):
        joined(server, clients)
        assert clients.tell(0, "say", LINE + LINE)
        play(server, clients, 30)
        assert clients.heard == [(0, LINE + LINE)]
        counts = server.transport.compressor.counts()
        assert counts["compressed_lz4_dictionary"] == counts["compressed_zstd_dictionary"] == 0
        assert counts["compressed_lz4"] == sum(server.transport.packer.packed.values()) > 0


def test_snapshots_are_packed_and_taken_like_any_others() -> None:
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        client = int(clients.connections.client_index[1])
        server.transport._group[client] = -1  # as if it had not said that it takes them
        before, told = server.transport.packer.packed[SNAPSHOT], clients.clients.counters[ClientCount.SNAPSHOTS].copy()
        clients.wishes = {"buttons": 1}  # shots fill the lists of events
        play(server, clients, 120)
        assert server.transport.packer.packed[SNAPSHOT] > before
        gained = clients.clients.counters[ClientCount.SNAPSHOTS] - told
        assert gained[0] >= gained[1] - 1 > 50
        assert not clients.clients.counters[ClientCount.MALFORMED].any()


def test_where_many_snapshots_are_due_they_travel_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.transport.SNAPSHOTS_PACKED_MAX", 0)
    with playing(2, with_zone=True) as (server, clients):
        joined(server, clients)
        assert server.transport.packer.packed[SNAPSHOT] == 0
