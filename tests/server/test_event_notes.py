"""Events of a second as a note: what is read back is what happened, in order, and what does not fit is counted."""

from types import SimpleNamespace
from typing import Any, cast

import msgpack
import pytest

from server.event_notes import EventNotes, read_events
from sim.events import Events
from sim.world import World

NAMES = ("joined", "left", "refused", "spawned", "shot", "blast", "kill", "match_started")
SHOT, BLAST, KILL, STARTED = 4, 5, 6, 7
ENTITY = 7 << 52


class FakeWorld(SimpleNamespace):
    """What `EventNotes` looks at of a world."""

    def __init__(self, tick: int = 0) -> None:
        super().__init__(tick=tick, events=Events(64), game=SimpleNamespace(events=NAMES))

    def make(self, *happened: tuple[int, int, int, int]) -> None:
        """A tick in which events of (kind, actor, target, value) happen."""
        self.tick += 1
        self.events.clear()
        for kind, actor, target, value in happened:
            self.events.emit(kind, actor=actor, target=target, value=value)


def notes_of(world: FakeWorld, **options: int) -> EventNotes:
    return EventNotes(cast("World", world), **options)


def test_what_is_read_is_what_happened_in_order() -> None:
    world = FakeWorld(tick=5000)
    notes = notes_of(world)
    ticks = [
        [(SHOT, ENTITY + 1, 0, 3), (SHOT, ENTITY + 2, 0, 1), (KILL, ENTITY + 1, ENTITY + 2, 25)],
        [],
        [(BLAST, ENTITY + 1, 0, 9), (SHOT, ENTITY + 1, 0, 3), (KILL, 0, ENTITY + 1, -1), (STARTED, 0, 0, 0)],
    ]
    for happened in ticks:
        world.make(*happened)
        notes.take()
    values = msgpack.unpackb(msgpack.packb(notes.note()))
    assert [column.tolist() for column in read_events(values, "shot") or ()] == [
        [5001, 5001, 5003], [ENTITY + 1, ENTITY + 2, ENTITY + 1], [0, 0, 0], [3, 1, 3],
    ]  # fmt: skip
    assert [column.tolist() for column in read_events(values, "kill") or ()] == [
        [5001, 5003], [ENTITY + 1, 0], [ENTITY + 2, ENTITY + 1], [25, -1],
    ]  # fmt: skip
    assert [column.tolist() for column in read_events(values, "match_started") or ()] == [[5003], [0], [0], [0]]
    assert [len(column) for column in read_events(values, "match_ended") or ()] == [0, 0, 0, 0]
    assert notes.note() is None


def test_each_note_tells_only_of_what_came_after_the_last() -> None:
    world = FakeWorld()
    notes = notes_of(world)
    for second in range(3):
        for _ in range(60):
            world.make((SHOT, second + 1, 0, 0))
            notes.take()
        found = read_events(notes.note() or {}, "shot")
        assert found is not None
        assert found[0].tolist() == list(range(second * 60 + 1, second * 60 + 61))
        assert set(found[1].tolist()) == {second + 1}


def test_what_does_not_fit_is_counted() -> None:
    world = FakeWorld()
    notes = notes_of(world, events_max=5)
    for _ in range(3):
        world.make(*[(SHOT, 1, 0, 0)] * 3)
        notes.take()
    values = notes.note() or {}
    assert values["left_out"] == 4
    found = read_events(values, "shot")
    assert found is not None
    assert found[0].tolist() == [1, 1, 1, 2, 2]
    world.make((SHOT, 1, 0, 0))
    notes.take()
    assert "left_out" not in (notes.note() or {})
    assert notes.left_out == 4


def whole_note() -> dict[str, Any]:
    world = FakeWorld()
    notes = notes_of(world)
    world.make((SHOT, 1, 0, 0), (KILL, 1, 2, 0))
    notes.take()
    return notes.note() or {}


@pytest.mark.parametrize(
    "damage",
    [
        {"who": b"123"},
        {"who": b""},
        {"first": "now"},
        {"shot": {"tick": b"12", "actor": b"", "value": b""}},
        {"shot": {"tick": b"1"}},
        {"shot": 7},
        {"shot": {"tick": b"\0\0", "actor": b"\xff\xff", "value": b"\0\0\0\0"}},
        {"shot": {"tick": b"\0\0", "actor": b"\0\0", "target": b"\0\0\0\0", "value": b"\0\0\0\0"}},
    ],
)
def test_a_malformed_note_is_none(damage: dict[str, Any]) -> None:
    assert read_events(whole_note(), "shot") is not None
    assert read_events(whole_note() | damage, "shot") is None


def test_a_game_without_such_events_has_no_notes() -> None:
    world = FakeWorld()
    world.game = SimpleNamespace(events=("joined", "left"))
    notes = notes_of(world)
    world.make((0, 1, 0, 0))
    notes.take()
    assert notes.note() is None
