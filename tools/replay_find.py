"""Finding kills, hits, shots, joins, leaves, refusals, disconnects and notes in a recorded match, by player and time.

What the recorder noted (refusals, disconnects, and the kills and shots of each second) is read from the notes, which
takes no time and suits every build; what the simulation makes beside (hits, joins, …) is found by playing again.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.event_notes import NOTED, read_events
from server.replay import Event, Replay
from server.replay_tape import Note, Tape
from server.replay_words import EventWords, clock_text, note_line, noted_names, player_names, present_names
from sim.plugin import GameSpec
from tools.errors import ToolsError

__all__ = ["EVENT_WORDS", "NOTE_WORDS", "Found", "find", "find_noted", "noted"]

EVENT_WORDS = {
    "kills": "kill", "hits": "hit", "shots": "shot", "blasts": "blast", "pickups": "picked_up", "spawns": "spawned",
    "joins": "joined", "leaves": "left",
}  # fmt: skip
NOTE_WORDS = {"refusals": "refusal", "disconnects": "disconnect", "connects": "connect", "flags": "flag"}
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """One happening.

    Attributes:
        tick, time: When.
        what: Kind of the event or note.
        who, whom: Names of the actor and the target; empty for none.
        entities: Their ids; 0 for none.
        text: One line that tells it.
        number: Of a shot, what `hitreg replay shot` calls it; else 0.
    """

    tick: int
    time: str
    what: str
    who: str
    whom: str
    entities: tuple[int, int]
    text: str
    number: int


class _Player:
    """Tells whether somebody is the player who is asked for: by name, by part of a name, or by id."""

    def __init__(self, text: str, words: EventWords) -> None:
        self._text = text.casefold()
        self._names = words.names
        try:
            self._id = int(text, 0)
        except ValueError:
            self._id = -1

    def is_one(self, entity: int) -> bool:
        return bool(entity) and (entity == self._id or self._text in self._names.get(entity, "").casefold())

    def in_event(self, event: Event) -> bool:
        return not self._text or self.is_one(event.actor) or self.is_one(event.target)

    def in_note(self, note: Note) -> bool:
        if not self._text:
            return True
        entity, name = note.values.get("entity"), note.values.get("name")
        if isinstance(entity, int) and self.is_one(entity):
            return True
        return isinstance(name, str) and self._text in name.casefold()


def noted(tape: Tape, what: str) -> bool:
    """Whether a recording's notes tell of this kind, so that nothing needs to be played."""
    if what == "notes" or what in NOTE_WORDS:
        return True
    return EVENT_WORDS.get(what, what) in NOTED and any(note.kind == "events" for note in tape.notes())


def find_noted(tape: Tape, game: GameSpec, *, what: str, player: str = "", first: int, last: int) -> Iterator[Found]:
    """What of a kind that is `noted` happened from tick `first` to `last`, in order; arguments as of `find`."""
    words = EventWords(game, noted_names(tape))
    wanted = _Player(player, words)
    hz = tape.header.tick_hz
    if what == "notes" or what in NOTE_WORDS:
        for note in tape.notes(first, last):
            if (what == "notes" or NOTE_WORDS[what] == note.kind) and wanted.in_note(note):
                yield _noted(note, hz, words)
        return
    for number, event in enumerate(_noted_events(tape, EVENT_WORDS.get(what, what)), start=1):
        if first <= event.tick <= last and wanted.in_event(event):
            yield _happened(event, hz, words, number if event.kind == "shot" else 0)


def _noted_events(tape: Tape, kind: str) -> Iterator[Event]:
    for note in tape.notes():
        columns = read_events(note.values, kind) if note.kind == "events" else None
        if columns is not None:
            for tick, actor, target, value in zip(*(column.tolist() for column in columns), strict=True):
                yield Event(tick, kind, actor, target, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), value)


def find(
    replay: Replay, *, what: str, player: str = "", first: int, last: int, progress: Progress | None = None
) -> Iterator[Found]:
    """What of a kind happened from tick `first` to `last`, in order, found by playing the stretch again.

    Args:
        replay: It is moved about.
        what: One of `EVENT_WORDS`, or the kind of an event of the game.
        player: Name, part of a name, or entity id of who took part; empty for everyone.
        first, last: Ticks, both included.
        progress: Told (ticks played, ticks in all) now and then.

    Raises:
        ToolsError: There is no such kind.
        ReplayError: The recording cannot be played there.
    """
    words = EventWords(replay.world.game, player_names(replay))
    wanted = _Player(player, words)
    kind = EVENT_WORDS.get(what, what)
    if kind not in replay.world.game.events:
        known = [*EVENT_WORDS, *NOTE_WORDS, "notes"]
        raise ToolsError(f"find {what}: not known; choose one of {', '.join(known)}, or an event of the game")
    for event in _events(replay, words, kind, (first, last), progress):
        if wanted.in_event(event):
            yield _happened(event, replay.header.tick_hz, words, 0)


def _events(
    replay: Replay, words: EventWords, kind: str, ticks: tuple[int, int], progress: Progress | None
) -> Iterator[Event]:
    """The events of a kind while the stretch is played; players who join on the way get their names."""
    number, done = replay.world.game.event(kind), 0
    joined = replay.world.game.event("joined")
    total = max(1, ticks[1] - ticks[0] + 1)
    for span in replay.spans:
        low, high = max(ticks[0], span.first + 1), min(ticks[1], span.last)
        if low > high:
            continue
        replay.seek(low - 1)
        words.names.update(present_names(replay))
        while replay.tick < high:
            replay.step()
            done += 1
            if progress is not None and done % 256 == 0:
                progress(done, total)
            events = replay.world.events
            kinds = events.kind[: events.count]
            if (kinds == joined).any():
                tickets = {join.ticket: join.name for join in replay.commands.joins}
                for event in replay.events():
                    if event.kind == "joined" and event.value in tickets:
                        words.names[event.actor] = tickets[event.value]
            if (kinds == number).any():
                yield from (event for event in replay.events() if event.kind == kind)


def _happened(event: Event, hz: int, words: EventWords, number: int) -> Found:
    who = words.who(event.actor) if event.actor else ""
    whom = words.who(event.target) if event.target else ""
    text = words.line(event) + (f"  (shot {number})" if number else "")
    return Found(
        event.tick, clock_text(event.tick, hz), event.kind, who, whom, (event.actor, event.target), text, number
    )


def _noted(note: Note, hz: int, words: EventWords) -> Found:
    entity = note.values.get("entity", 0)
    entity = entity if isinstance(entity, int) else 0
    who = words.who(entity) if entity else str(note.values.get("name", ""))
    return Found(note.tick, clock_text(note.tick, hz), note.kind, who, "", (entity, 0), note_line(note), 0)
