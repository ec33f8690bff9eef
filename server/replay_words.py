"""What happens in a recorded match, in words: times, players' names, events and notes as one line each.

Times count from tick 0 of the zone: tick 1 at 60 Hz ends at 00:00.017. They are read and written as `12:34.567`, and
a bare number is a tick.
"""

import re
from collections.abc import Mapping, Sequence

from server.errors import ReplayError
from server.liverows import live_names
from server.replay import Event, Replay
from server.replay_tape import Note, Tape
from sim.plugin import GameSpec

__all__ = ["EventWords", "clock_text", "note_line", "noted_names", "parse_moment", "player_names", "present_names"]

CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d{1,6})?)")
TICK_TEXT_MAX = 15
PARTS = ("body", "head", "torso", "legs")
VALUE_TEXT_MAX = 120


def clock_text(tick: int, tick_hz: int) -> str:
    """A tick as minutes, seconds and milliseconds: `12:34.567`."""
    ms = round(tick * 1000 / tick_hz)
    return f"{ms // 60_000:02d}:{ms % 60_000 // 1000:02d}.{ms % 1000:03d}"


def parse_moment(text: str, tick_hz: int) -> int:
    """The tick that a moment written as `1234`, `12:34.567` or `1:02:03` names; times go to the nearest tick.

    Raises:
        ReplayError: It is neither.
    """
    if text.isascii() and text.isdecimal() and len(text) <= TICK_TEXT_MAX:
        return int(text)
    found = CLOCK.fullmatch(text)
    if found is None:
        raise ReplayError(f"moment {text!r}: give a tick such as 1234, or a time such as 12:34.567")
    hours, minutes, seconds = int(found[1] or 0), int(found[2]), float(found[3])
    return round((hours * 3600 + minutes * 60 + seconds) * tick_hz)


def player_names(replay: Replay) -> dict[int, str]:
    """Names by entity: of everyone whose connection was noted, and of those in the world at the present tick."""
    return present_names(replay) | noted_names(replay)


def noted_names(tape: Tape) -> dict[int, str]:
    """Names by entity of everyone whose connection was noted."""
    names: dict[int, str] = {}
    for note in tape.notes():
        entity, name = note.values.get("entity"), note.values.get("name")
        if isinstance(entity, int) and isinstance(name, str) and entity and name:
            names[entity] = name
    return names


def present_names(replay: Replay) -> dict[int, str]:
    """Names by entity of the players who are in the world at the present tick."""
    players = replay.world.players
    return {players.id_of(slot): name for slot, name in enumerate(live_names(replay.world)) if name}


class EventWords:
    """Tells events of one game in words, with players by name.

    Attributes:
        names: Names by entity; may be added to.
    """

    def __init__(self, game: GameSpec, names: Mapping[int, str] | None = None) -> None:
        self.names: dict[int, str] = dict(names or {})
        self._weapons = tuple(filter(None, dict(game.settings).get("weapons", "").split(",")))
        self._items = tuple(filter(None, dict(game.settings).get("items", "").split(",")))

    def who(self, entity: int) -> str:
        """A player by name, anything else by its id; nobody is the world."""
        if entity == 0:
            return "the world"
        return self.names.get(entity, f"{entity:#x}")

    def value(self, event: Event) -> str:
        """What an event's value means, where its kind is one of the usual ones; else the number."""
        weapon, part = event.value // 8, PARTS[event.value % 8] if event.value % 8 < len(PARTS) else ""
        if event.kind == "kill":
            return f"{self._named(self._weapons, weapon)}, {part}"
        if event.kind == "hit":
            return f"{weapon} points, {part}"
        if event.kind in {"shot", "blast"}:
            return self._named(self._weapons, event.value)
        if event.kind == "picked_up":
            return self._named(self._items, event.value)
        return str(event.value) if event.value else ""

    def line(self, event: Event) -> str:
        """An event as one line without its time: `kill   Ann → Bob   railgun, head`."""
        text = f"{event.kind:<12} {self.who(event.actor)}"
        if event.target:
            text += f" → {self.who(event.target)}"
        value = self.value(event)
        return f"{text}  {value}".rstrip()

    @staticmethod
    def _named(names: Sequence[str], number: int) -> str:
        return names[number] if 0 <= number < len(names) else f"number {number}"


def note_line(note: Note) -> str:
    """A note as one line without its time: `refusal   client=3 reason=rate`; columns of bytes by their size."""
    parts = []
    for key, value in note.values.items():
        if isinstance(value, bytes):
            shown = f"<{len(value)} bytes>"
        elif isinstance(value, dict):
            shown = f"<{len(value)} columns>"
        else:
            shown = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f"{key}={shown if len(shown) <= VALUE_TEXT_MAX else shown[:VALUE_TEXT_MAX] + '…'}")
    return " ".join([f"{note.kind:<12}", *parts]).rstrip()
