"""What clients say: decoded, limited per second, and handed on."""

import pytest

from net.messages import MessageCodec
from server.actions import MESSAGES_PER_SECOND_MAX, TOLD_MAX, ActionGate
from server.game import load_game
from server.sessions import Sessions
from sim.commands import Action, Commands

GAME = load_game("arena")
CODEC = MessageCodec.to_server(GAME.actions, GAME.messages)
TICK_HZ = 60


@pytest.fixture
def gate() -> ActionGate:
    return ActionGate(GAME, clients=TOLD_MAX, tick_hz=TICK_HZ)


@pytest.fixture
def sessions() -> Sessions:
    made = Sessions(clients=TOLD_MAX, players=8)
    made.row[0], made.entity[0] = 3, 77
    return made


def test_an_action_becomes_a_command_of_its_player(gate: ActionGate, sessions: Sessions) -> None:
    gate.hear(0, CODEC.encode("choose_team", 2), 5, sessions)
    commands = Commands(8)
    sessions.fill(commands)
    assert commands.actions == [Action(77, GAME.action("choose_team"), (2,))]


def test_more_than_a_second_allows_is_refused_until_the_next(gate: ActionGate, sessions: Sessions) -> None:
    for _ in range(MESSAGES_PER_SECOND_MAX + 3):
        gate.hear(0, CODEC.encode("say", "again"), 5, sessions)
    assert (len(gate.take_told()), gate.refused) == (MESSAGES_PER_SECOND_MAX, 3)
    gate.hear(0, CODEC.encode("say", "later"), 5 + TICK_HZ, sessions)
    assert gate.take_told() == [("say", (77, "later"))]
    assert gate.take_told() == []


def test_a_new_client_in_the_slot_begins_afresh(gate: ActionGate, sessions: Sessions) -> None:
    for _ in range(MESSAGES_PER_SECOND_MAX):
        gate.hear(0, CODEC.encode("say", "mine"), 5, sessions)
    gate.reset(0)
    gate.hear(0, CODEC.encode("say", "theirs"), 5, sessions)
    assert gate.refused == 0


def test_the_messages_of_a_tick_are_bounded(gate: ActionGate, sessions: Sessions) -> None:
    for client in range(TOLD_MAX):
        sessions.row[client] = client
        for _ in range(2):
            gate.hear(client, CODEC.encode("say", "all at once"), 5, sessions)
    assert (len(gate.take_told()), gate.refused) == (TOLD_MAX, TOLD_MAX)


@pytest.mark.parametrize(
    "payload", [b"", b"\x02", b"\x02\x92\x00\x09", b"\x02\x91\x7f", b"\x01\x92\x00\x01", b"\x02\xc1"]
)
def test_what_is_not_as_declared_is_counted_and_does_nothing(
    gate: ActionGate, sessions: Sessions, payload: bytes
) -> None:
    gate.hear(0, payload, 5, sessions)
    assert (gate.malformed, gate.take_told()) == (1, [])
    commands = Commands(8)
    sessions.fill(commands)
    assert commands.actions == []


def test_only_who_plays_is_passed_on(gate: ActionGate, sessions: Sessions) -> None:
    gate.hear(1, CODEC.encode("say", "from nowhere"), 5, sessions)
    assert (gate.take_told(), gate.refused) == ([], 1)


def test_a_rate_is_kept_until_it_is_taken_the_newest_of_each_client(gate: ActionGate, sessions: Sessions) -> None:
    gate.hear(0, CODEC.encode("rate", 10), 5, sessions)
    gate.hear(1, CODEC.encode("rate", 20), 5, sessions)
    gate.hear(0, CODEC.encode("rate", 65_535), 5, sessions)
    assert gate.take_rates() == {0: 65_535, 1: 20}
    assert gate.take_rates() == {}


def test_rates_are_limited_per_second_and_forgotten_with_the_client(gate: ActionGate, sessions: Sessions) -> None:
    for rate in range(MESSAGES_PER_SECOND_MAX + 2):
        gate.hear(0, CODEC.encode("rate", rate), 5, sessions)
    assert gate.refused == 2
    assert gate.take_rates() == {0: MESSAGES_PER_SECOND_MAX - 1}
    gate.hear(0, CODEC.encode("rate", 1), 5 + TICK_HZ, sessions)
    gate.reset(0)
    assert gate.take_rates() == {}


def test_the_newest_wish_to_watch_is_kept_and_too_many_are_refused(gate: ActionGate, sessions: Sessions) -> None:
    for entity in range(MESSAGES_PER_SECOND_MAX + 3):
        gate.hear(0, CODEC.encode("watch", entity), 5, sessions)
    assert gate.take_watches() == {0: MESSAGES_PER_SECOND_MAX - 1}
    assert gate.refused == 3
    gate.hear(0, CODEC.encode("watch", 9), 5 + TICK_HZ, sessions)
    gate.reset(0)
    assert gate.take_watches() == {}
