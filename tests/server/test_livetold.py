"""Who pages ask for, and what they get: places, leases and messages, over real files."""

import secrets
from collections.abc import Iterator
from itertools import pairwise

import pytest

import net.snapshots
import server.livetold
from server.livefeed import FeedError
from server.livetold import (
    ASK_S,
    KEY,
    MESSAGE_BYTES_MAX,
    RING,
    SLOT,
    TOLD,
    WATCHED_MAX,
    AskBoard,
    ToldWriter,
    told_path,
)

SECOND = 1_000_000_000


def test_sizes_are_those_of_snapshots() -> None:
    assert server.livetold.PAYLOAD_BYTES == net.snapshots.PAYLOAD_BYTES
    assert server.livetold.FIELDS_MAX == net.snapshots.FIELDS_MAX


@pytest.fixture
def name() -> str:
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
def writer(name: str) -> Iterator[ToldWriter]:
    made = ToldWriter(name, started_ns=7)
    yield made
    made.close()


def test_records_lie_as_the_page_reads_them() -> None:
    assert (TOLD.itemsize, SLOT.itemsize, KEY.itemsize) == (160, 16, 16)
    fields = TOLD.fields
    assert fields is not None
    places = [fields[key][1] for key in ("entity", "rtt_ms", "budget", "mode", "told", "field_count", "snapshot_tick")]
    assert places == [16, 48, 68, 86, 100, 106, 112]


def test_who_is_asked_for_is_heard_of_until_nobody_asks_any_more(name: str, writer: ToldWriter) -> None:
    assert writer.asked(5 * SECOND) == [0] * WATCHED_MAX
    board = AskBoard(name, started_ns=7)
    assert board.ask([41, 42], 1.0) == {41, 42}
    assert set(writer.asked(6 * SECOND)) == {0, 41, 42}
    assert board.ask([42], 2.0) == {42}
    assert set(writer.asked(7 * SECOND)) == {0, 42}
    assert set(writer.asked(7 * SECOND + int(ASK_S * SECOND) - 1)) == {0, 42}
    assert set(writer.asked(7 * SECOND + int(ASK_S * SECOND))) == {0}
    board.ask([42], 9.0)
    assert set(writer.asked(11 * SECOND)) == {0, 42}


def test_of_more_players_than_places_the_last_are_refused_until_a_place_is_free(name: str, writer: ToldWriter) -> None:
    board = AskBoard(name, started_ns=7)
    wanted = list(range(100, 100 + WATCHED_MAX + 2))
    assert board.ask(wanted, 1.0) == set(wanted[:WATCHED_MAX])
    assert set(writer.asked(SECOND)) == set(wanted[:WATCHED_MAX])
    assert board.ask(wanted[2:], 1.5) == set(wanted[2:])


def test_two_edges_share_the_places(name: str, writer: ToldWriter) -> None:
    first, second = AskBoard(name, started_ns=7), AskBoard(name, started_ns=7)
    first.ask([1, 2, 3], 1.0)
    assert second.ask([4], 1.1) == {4}
    assert first.ask([1, 2, 3], 1.5) == {1, 2, 3}
    assert set(writer.asked(SECOND)) == {0, 1, 2, 3, 4}
    others = list(range(10, 10 + WATCHED_MAX))
    assert len(second.ask(others, 1.6)) == WATCHED_MAX - 3  # its own place is free again
    assert {1, 2, 3} <= set(writer.asked(SECOND))
    assert second.ask(others, 1.7 + ASK_S) == set(others)  # the first has fallen silent


def test_messages_come_once_and_in_order_and_those_overwritten_are_missed(name: str, writer: ToldWriter) -> None:
    writer.publish(b"before")
    board = AskBoard(name, started_ns=7)
    assert board.take() == []
    writer.publish(b"one")
    writer.publish(bytes(MESSAGE_BYTES_MAX))
    assert board.take() == [b"one", bytes(MESSAGE_BYTES_MAX)]
    assert board.take() == []
    for number in range(3 * RING):
        writer.publish(number.to_bytes(2, "little"))
    taken = [int.from_bytes(message, "little") for message in board.take()]
    assert taken[-1] == 3 * RING - 1
    assert len(taken) == RING - 1
    assert all(b == a + 1 for a, b in pairwise(taken))


def test_a_message_that_is_being_written_is_not_taken(name: str, writer: ToldWriter) -> None:
    board = AskBoard(name, started_ns=7)
    writer.publish(b"whole")
    writer.publish(b"torn")
    writer._words[2][0] = 2 * 2 + 1
    assert board.take() == [b"whole"]
    assert board.torn == 1


def test_a_file_of_another_run_or_none_is_refused(name: str, writer: ToldWriter) -> None:
    with pytest.raises(FeedError, match="not of this run"):
        AskBoard(name, started_ns=8)
    writer.close()
    assert not told_path(name).exists()
    with pytest.raises(FeedError, match="restart the server"):
        AskBoard(name, started_ns=7)
