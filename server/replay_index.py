"""What the time line and the graphs of the replay page show: gathered from a recording's notes, without simulating.

Everything is bounded; what is beyond a bound, or malformed, is left out and counted in `left_out`.
"""

import bisect
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from server.event_notes import read_events
from server.recorder_notes import read_network, read_stages
from server.replay_tape import Note
from server.replay_wire import Binary
from sim.arrays import I64, U64, AnyArray
from sim.commands import REWIND_STEPS

__all__ = ["MARKS_MAX", "NETWORK_ROWS_MAX", "PLAYERS_MAX", "SECONDS_MAX", "SHOTS_MAX", "ReplayIndex"]

MARKS_MAX = 20_000  # of each kind
SHOTS_MAX = 2_000_000
PLAYERS_MAX = 16_384
SECONDS_MAX = 36_000  # of stage times
STAGES_MAX = 64
NETWORK_ROWS_MAX = 4_000_000  # an hour of 1,000 players
FIGURES_MAX = 20_000  # of one player's connection, as a page is told
TEXT_CHARS_MAX = 200


class ReplayIndex:
    """Marks and shots of one recording.

    Attributes:
        entities: Who occurs, by the row that marks name them with.
        names: Their names, where a note tells them.
        marks: By kind, rows of [tick, actor row, target row, value or text]; row -1 stands for nobody.
        left_out: What was beyond a bound, or malformed.
    """

    def __init__(self, notes: Iterable[Note]) -> None:
        """Go through the notes once."""
        self.entities: list[int] = []
        self.names: dict[int, str] = {}
        self.marks: dict[str, list[list[Any]]] = {}
        self.left_out = 0
        self._row: dict[int, int] = {}
        self._shots: list[tuple[I64, U64]] = []
        self._shot_count = 0
        self._stage_names: list[str] = []
        self._stage_ticks: list[int] = []
        self._stage_us: list[list[float]] = []
        self._network_ticks: list[int] = []
        self._network: list[dict[str, AnyArray]] = []
        self._network_rows = 0
        takers: dict[str, Callable[[Note], object]] = {
            "events": self._events,
            "begin": self._begin,
            "present": self._named,
            "connect": self._connect,
            "disconnect": self._disconnect,
            "refusal": self._refusal,
            "flag": self._flag,
            "network": self._take_network,
            "stages": self._take_stages,
        }
        for note in notes:
            if note.kind not in takers:
                continue
            try:
                takers[note.kind](note)
            except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError):
                self.left_out += 1

    def row(self, entity: int) -> int:
        """The row of an entity among `entities`; -1 for nobody, and beyond the bound."""
        if entity == 0:
            return -1
        known = self._row.get(entity)
        if known is None:
            if len(self.entities) >= PLAYERS_MAX:
                self.left_out += 1
                return -1
            known = self._row[entity] = len(self.entities)
            self.entities.append(entity)
        return known

    def mark(self, kind: str, tick: int, actor: int = 0, target: int = 0, value: int | str = 0) -> None:
        """Add a mark to the time line."""
        rows = self.marks.setdefault(kind, [])
        if len(rows) >= MARKS_MAX:
            self.left_out += 1
            return
        shown = value[:TEXT_CHARS_MAX] if isinstance(value, str) else value
        rows.append([tick, self.row(actor), self.row(target), shown])

    def _events(self, note: Note) -> None:
        self.left_out += int(note.values.get("left_out", 0))
        for kind in ("kill", "match_started", "match_ended"):
            found = read_events(note.values, kind)
            if found is None:
                self.left_out += 1
                continue
            for tick, actor, target, value in zip(*(column.tolist() for column in found), strict=True):
                self.mark(kind, tick, actor, target, value)
        shots = read_events(note.values, "shot")
        if shots is None:
            self.left_out += 1
            return
        room = SHOTS_MAX - self._shot_count
        self.left_out += max(0, len(shots[0]) - room)
        self._shots.append((shots[0][:room], shots[1][:room]))
        self._shot_count += min(room, len(shots[0]))

    def _named(self, note: Note) -> int:
        """The entity that a note is about; its name is remembered."""
        entity = int(note.values["entity"])
        name = note.values.get("name")
        if isinstance(name, str) and name and self.row(entity) >= 0:
            self.names[entity] = name[:TEXT_CHARS_MAX]
        return entity

    def _begin(self, note: Note) -> None:
        self._stage_names = [str(name)[:TEXT_CHARS_MAX] for name in list(note.values.get("stages", ()))[:STAGES_MAX]]

    def _connect(self, note: Note) -> None:
        self.mark("join", note.tick, self._named(note), 0, "again" if note.values.get("resumed") else "")

    def _disconnect(self, note: Note) -> None:
        self.mark("leave", note.tick, self._named(note), 0, str(note.values.get("reason", "")))

    def _refusal(self, note: Note) -> None:
        values = note.values
        text = str(values["reason"])
        if "claimed" in values:
            text += f", wanted {values['claimed']:g}, allowed {values['allowed']:g}"
        self.mark("refusal", note.tick, int(values["entity"]), 0, text)

    def _flag(self, note: Note) -> None:
        told = {name: value for name, value in note.values.items() if name not in {"entity", "client", "name"}}
        self.mark("flag", note.tick, self._named(note), 0, ", ".join(f"{key} {value}" for key, value in told.items()))

    def _take_network(self, note: Note) -> None:
        columns = read_network(note.values)
        if columns is None or self._network_rows + len(columns["entity"]) > NETWORK_ROWS_MAX:
            self.left_out += 1
            return
        self._network_ticks.append(note.tick)
        self._network.append(columns)
        self._network_rows += len(columns["entity"])

    def _take_stages(self, note: Note) -> None:
        found = read_stages(note.values)
        if found is None or len(self._stage_ticks) >= SECONDS_MAX or len(found[0]) != len(self._stage_names):
            self.left_out += 1
            return
        self._stage_ticks.append(note.tick)
        self._stage_us.append([round(value / 1000, 1) for value in found[0].tolist()])

    def connection(self, entity: int, *, tick_hz: int) -> dict[str, Any]:
        """One player's connection second by second: the text message `network`; layout in `server.replay_wire`."""
        ticks: list[int] = []
        rows: list[tuple[float, ...]] = []
        for tick, columns in zip(self._network_ticks, self._network, strict=True):
            for at in np.flatnonzero(columns["entity"] == np.uint64(entity))[:1].tolist():
                ticks.append(tick)
                delay = int(columns["rewind"][at]) * 1000 / (REWIND_STEPS * tick_hz)
                figures = (columns["rtt_ms"][at], round(delay, 1), columns["kbps_out"][at], columns["loss"][at] / 100)
                rows.append(tuple(float(value) for value in figures))
        every = max(1, -(-len(ticks) // FIGURES_MAX))
        chosen = rows[::every]
        names = ("rtt", "delay", "kbps", "loss")
        return {
            "type": "network",
            "entity": str(entity),
            "ticks": ticks[::every],
            **{name: [row[number] for row in chosen] for number, name in enumerate(names)},
        }

    def figures(self, tick: int) -> dict[str, AnyArray] | None:
        """The columns of the network's note about the second that `tick` lies in, or None."""
        at = bisect.bisect_left(self._network_ticks, tick)
        return self._network[at] if at < len(self._network) else None

    def _stages(self) -> dict[str, Any] | None:
        if not self._stage_ticks:
            return None
        parts = [list(part) for part in zip(*self._stage_us, strict=True)]
        return {"names": self._stage_names, "ticks": self._stage_ticks, "us": parts}

    def document(self) -> dict[str, Any]:
        """The text message `index`; layout in `server.replay_wire`."""
        return {
            "type": "index",
            "players": [[str(entity), self.names.get(entity, "")] for entity in self.entities],
            "marks": self.marks,
            "shots": self._shot_count,
            "stages": self._stages(),
            "left_out": self.left_out,
        }

    def shots(self) -> bytes:
        """The binary message SHOTS; before `document`, which then names everyone who fired."""
        ticks: I64 = np.concatenate([ticks for ticks, _ in self._shots]) if self._shots else np.zeros(0, np.int64)
        actors: U64 = np.concatenate([who for _, who in self._shots]) if self._shots else np.zeros(0, np.uint64)
        who, places = np.unique(actors, return_inverse=True)
        rows = np.array([self.row(entity) & 0xFFFF for entity in who.tolist()], np.uint16)
        head = np.array([Binary.SHOTS, 0], "<u2").tobytes() + len(ticks).to_bytes(4, "little")
        return head + ticks.astype("<u4").tobytes() + rows[places].astype("<u2").tobytes()
