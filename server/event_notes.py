"""Shots and kills of each second as notes of a recording, so that a time line needs no second simulation.

A note of kind `events` holds, for the ticks after the note before it up to its own:

    first     int           tick that offsets count from
    who       bytes         u64[]: entities that occur, each once
    KIND      {column: bytes}, for every kind of `NOTED` that occurred, in the order in which they happened:
        tick    u16[]       offset from `first`
        actor   u16[]       place in `who`
        target  u16[]       likewise; only where the kind has targets
        value   i32[]       as in the event
    left_out  int           events for which there was no room; absent where there are none

All little endian. The n-th `shot` of all notes is shot n of `hitreg replay shot`, counted from 1, as long as nothing
was left out.
"""

from typing import Any

import numpy as np

from sim.arrays import I32, I64, U16, U64, AnyArray, Bool
from sim.world import World

__all__ = ["NOTED", "EventNotes", "read_events"]

NOTED = ("shot", "kill", "match_started", "match_ended")
EVENTS_PER_NOTE_MAX = 16_384  # a second of 1,000 players that all hold the trigger of a fast weapon
_COLUMNS = {"tick": "<u2", "actor": "<u2", "target": "<u2", "value": "<i4"}


class EventNotes:
    """Gathers the events of a world that are worth a note.

    Attributes:
        left_out: Events for which there was no room, in all.
    """

    def __init__(self, world: World, *, events_max: int = EVENTS_PER_NOTE_MAX) -> None:
        """Begin after the tick that the world has made."""
        self._world = world
        names = world.game.events
        self._wanted: Bool = np.zeros(max(1, len(names)), np.bool_)
        self._names = {names.index(name): name for name in NOTED if name in names}
        self._wanted[list(self._names)] = True
        self._kind: U16 = np.zeros(events_max, np.uint16)
        self._tick: I64 = np.zeros(events_max, np.int64)
        self._actor: U64 = np.zeros(events_max, np.uint64)
        self._target: U64 = np.zeros(events_max, np.uint64)
        self._value: I64 = np.zeros(events_max, np.int64)
        self._count = 0
        self._first = world.tick
        self._lost = 0
        self.left_out = 0

    def take(self) -> None:
        """Keep what is worth it of the tick just made; beyond the room there is, events are counted only."""
        events = self._world.events
        count, at = events.count, self._count
        if not count:
            return
        if at + count > len(self._kind):
            self._sift()
            self._take_chosen()
            return
        # All at once, and chosen among once a second: choosing each tick took three times as long.
        end = self._count = at + count
        self._tick[at:end] = self._world.tick
        self._kind[at:end] = events.kind[:count]
        self._actor[at:end] = events.actor[:count]
        self._target[at:end] = events.target[:count]
        self._value[at:end] = events.value[:count]

    def _take_chosen(self) -> None:
        """Take in a tick for which there may be no room."""
        events, at = self._world.events, self._count
        chosen = np.flatnonzero(self._wanted[events.kind[: events.count]])
        self._lost += max(0, at + len(chosen) - len(self._kind))
        chosen = chosen[: len(self._kind) - at]
        end = self._count = at + len(chosen)
        self._kind[at:end] = events.kind[chosen]
        self._tick[at:end] = self._world.tick
        self._actor[at:end], self._target[at:end] = events.actor[chosen], events.target[chosen]
        self._value[at:end] = events.value[chosen]

    def _sift(self) -> None:
        """Drop what is not worth a note of what was taken in."""
        chosen = np.flatnonzero(self._wanted[self._kind[: self._count]])
        for column in (self._kind, self._tick, self._actor, self._target, self._value):
            column[: len(chosen)] = column[chosen]
        self._count = len(chosen)

    def note(self) -> dict[str, Any] | None:
        """The values of a note about all that was kept since the last; None where nothing was."""
        self._sift()
        count, self._count = self._count, 0
        first, self._first = self._first, self._world.tick
        self.left_out += self._lost
        lost, self._lost = self._lost, 0
        if not count and not lost:
            return None
        kinds = self._kind[:count]
        both = np.concatenate((self._actor[:count], self._target[:count]))
        who, places = np.unique(both, return_inverse=True)
        columns: dict[str, AnyArray] = {
            "tick": self._tick[:count] - first,
            "actor": places[:count],
            "target": places[count:],
            "value": self._value[:count].astype(np.int32),
        }
        values: dict[str, Any] = {"first": first, "who": who.astype("<u8").tobytes()}
        for kind in np.unique(kinds).tolist():
            chosen = kinds == kind
            targeted = bool(self._target[:count][chosen].any())
            values[self._names[kind]] = {
                name: columns[name][chosen].astype(dtype).tobytes()
                for name, dtype in _COLUMNS.items()
                if name != "target" or targeted
            }
        if lost:
            values["left_out"] = lost
        return values


def read_events(values: dict[str, Any], kind: str) -> tuple[I64, U64, U64, I32] | None:
    """Ticks, actors, targets and values of one kind of events in a note, or None where the note is malformed.

    Args:
        values: Of a note of kind `events`.
        kind: One of `NOTED`.

    Returns:
        Equally long columns, empty where the note has none of this kind; targets are 0 where there are none.
    """
    try:
        columns = values.get(kind) or dict.fromkeys(_COLUMNS, b"")
        who = np.concatenate((np.frombuffer(values["who"], "<u8"), np.zeros(1, np.uint64)))
        ticks = np.frombuffer(columns["tick"], "<u2").astype(np.int64) + int(values["first"])
        actors = who[np.frombuffer(columns["actor"], "<u2")]
        targets = _of(who, columns, len(ticks))
        amounts = np.frombuffer(columns["value"], "<i4").astype(np.int32)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError):
        return None
    if not len(ticks) == len(actors) == len(targets) == len(amounts):
        return None
    return ticks, actors, targets, amounts


def _of(who: AnyArray, columns: dict[str, bytes], count: int) -> U64:
    if "target" not in columns:
        return np.zeros(count, np.uint64)
    found: U64 = who[np.frombuffer(columns["target"], "<u2")]
    return found
