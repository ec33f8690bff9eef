"""Who plays which entity: tickets, departures at every moment, and the queue's limit."""

from ipaddress import IPv4Address

import pytest

from net.address import Address
from net.host import Connected, Disconnected, DisconnectReason
from server.sessions import QUEUE_MAX, Sessions
from sim.commands import DISCRETE_MAX, Action, Commands, Join, Leave


def come(client: int, user_data: bytes = b"\x02Anna") -> Connected:
    return Connected(client, 1000 + client, user_data, Address(IPv4Address("127.0.0.1"), 4000))


def go(client: int, reason: DisconnectReason = DisconnectReason.BY_CLIENT) -> Disconnected:
    return Disconnected(client, 1000 + client, reason)


def filled(sessions: Sessions) -> list[Join | Leave | Action]:
    commands = Commands(8)
    sessions.fill(commands)
    return [*commands.joins, *commands.leaves, *commands.actions]


@pytest.fixture
def sessions() -> Sessions:
    return Sessions(clients=8, players=8)


def join(sessions: Sessions, client: int, *, entity: int, row: int) -> int:
    sessions.connect(come(client))
    (command,) = filled(sessions)
    assert isinstance(command, Join)
    return sessions.joined(command.ticket, entity, row)


def test_a_client_joins_with_the_name_and_team_of_its_token(sessions: Sessions) -> None:
    sessions.connect(come(3))
    sessions.connect(come(4, b""))
    first, second = filled(sessions)
    assert isinstance(first, Join)
    assert isinstance(second, Join)
    assert (first.name, first.team) == ("Anna", 2)
    assert (second.name, second.team) == ("player 4", 0)
    assert sessions.joined(first.ticket, 77, 5) == 3
    assert (sessions.row[3], sessions.entity[3], sessions.client_of_row[5]) == (5, 77, 3)
    assert (sessions.clients(), sessions.playing) == ([3], 1)


def test_a_name_that_is_no_utf8_still_joins(sessions: Sessions) -> None:
    sessions.connect(come(0, b"\x00\xff\xfe"))
    (command,) = filled(sessions)
    assert isinstance(command, Join)
    assert command.name == "��"


def test_a_departure_takes_the_entity_along_once(sessions: Sessions) -> None:
    join(sessions, 3, entity=77, row=5)
    sessions.disconnect(go(3), 100)
    sessions.disconnect(go(3), 100)
    assert filled(sessions) == [Leave(77)]
    assert (sessions.row[3], sessions.entity[3], sessions.client_of_row[5]) == (-1, 0, -1)


def test_who_leaves_before_joining_is_forgotten(sessions: Sessions) -> None:
    sessions.connect(come(3))
    sessions.connect(come(4))
    sessions.disconnect(go(3), 100)
    (command,) = filled(sessions)
    assert isinstance(command, Join)
    assert command.ticket & 0xFF == 4


def test_an_entity_that_comes_after_its_client_left_leaves_again(sessions: Sessions) -> None:
    sessions.connect(come(3))
    (command,) = filled(sessions)
    assert isinstance(command, Join)
    sessions.disconnect(go(3), 100)
    sessions.connect(come(3))
    assert sessions.joined(command.ticket, 77, 5) == -1
    assert sessions.row[3] == -1
    assert Leave(77) in filled(sessions)
    sessions.refuse(command.ticket)
    assert sessions.refused == []


def test_a_refused_join_is_remembered_for_whoever_disconnects_it(sessions: Sessions) -> None:
    sessions.connect(come(3))
    (command,) = filled(sessions)
    assert isinstance(command, Join)
    sessions.refuse(command.ticket)
    assert sessions.refused == [3]


def test_only_players_act(sessions: Sessions) -> None:
    assert not sessions.act(3, 0, (1,))
    assert sessions.dropped == 1
    join(sessions, 3, entity=77, row=5)
    assert sessions.act(3, 0, (1,))
    assert filled(sessions) == [Action(77, 0, (1,))]


def test_the_queue_is_bounded_but_a_departure_always_finds_room(sessions: Sessions) -> None:
    join(sessions, 3, entity=77, row=5)
    assert all(sessions.act(3, 0, (1,)) for _ in range(QUEUE_MAX))
    assert not sessions.act(3, 0, (1,))
    sessions.connect(come(4))
    assert (sessions.dropped, sessions.refused) == (2, [4])
    sessions.disconnect(go(3), 100)
    handed = 0
    while batch := filled(sessions):
        assert len(batch) <= DISCRETE_MAX
        handed += len(batch)
        last = batch
    assert handed == QUEUE_MAX + 1
    assert Leave(77) in last
