"""Recording of matches while they are played: one file per match, from the tick before somebody joins.

In the tick, `Recorder.record` hashes the state and copies what entered into preallocated columns; once a second these
are handed to a thread that does the rest (`server.recorder_thread`). Every so often, and at each begin, a key frame
(`sim.snapshot.capture`) goes along. The queue to the thread is bounded: where the thread cannot keep up, the file is
closed and another begun when there is room again, which is counted.

When files begin and end:

    begin   somebody joins, and no file is open; with the key frame of at most a second before
            a match starts (the game's event `match_started`), or the file has run for its maximum: without a gap
            after a failure or an overflow, as soon as that is possible and anybody plays
    end     at the above, when nobody has been in the zone for `EMPTY_S`, and when the server stops

So an idle server writes nothing. A match that starts within `MATCH_S_MIN` of its file's begin goes on in that file.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from server.config import ServerConfig
from server.errors import ServerError
from server.match import CommandTape, MatchHeader, kernel_digest
from server.recorder_notes import NoteSource
from server.recorder_thread import Block, Close, Job, KeyFrame, NoteEntry, Open, RecorderStats, RecordingThread
from server.retention import Retention
from sim.commands import Commands
from sim.snapshot import capture, layout_hash, state_hash
from sim.world import World

__all__ = ["NOTES_PER_SECOND_MAX", "Recorder", "RecorderLimits", "match_header", "open_recorder"]

NOTES_PER_SECOND_MAX = 1024  # more are dropped and counted
EMPTY_S = 10
MATCH_S_MIN = 2
RETRY_S = 60
SPARE_TAPES = 2


@dataclass(frozen=True, slots=True)
class RecorderLimits:
    """How recordings are cut and kept.

    Attributes:
        minutes_max: Length of one file; then another goes on.
        retention: What is kept in the directory.
        seconds_waiting_max: Seconds of ticks that may wait for the thread.
    """

    minutes_max: float = 60.0
    retention: Retention = field(default_factory=Retention)
    seconds_waiting_max: int = 16


def open_directory(directory: Path) -> None:
    """Make a directory for recordings where there is none.

    Raises:
        ServerError: It cannot be made or written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServerError(
            f"record_dir = {directory}: cannot be made: {error.strerror}; give another directory, or none to record "
            "nothing"
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ServerError(
            f"record_dir = {directory}: cannot be written; give another directory, or none to record nothing"
        )


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"recording: {line}\n")


class Recorder:
    """Records one world.

    Attributes:
        stages: Names of the stages that notes of the kind `stages` time.
        sources: What has something to note each second, by kind of note.
        roster: Asked for the notes that say who is there, where a file begins while somebody is: kind and values.
    """

    def __init__(
        self,
        world: World,
        header: MatchHeader,
        directory: Path,
        *,
        unix_ns: Callable[[], int],
        limits: RecorderLimits | None = None,
        warn: Callable[[str], None] = _to_stderr,
    ) -> None:
        """Ready to record from the world's next tick on.

        Args:
            world: Which.
            header: Of its matches; `started_unix_ns` is set for each file.
            directory: Where to; made where there is none.
            unix_ns: Time of day [ns since 1970].
            limits: How recordings are cut and kept.
            warn: Told one line, from another thread, when recording stops.

        Raises:
            ServerError: The directory cannot be made or written.
        """
        open_directory(directory)
        limits = limits or RecorderLimits()
        self._world, self._header, self._unix_ns = world, header, unix_ns
        self.stages: tuple[str, ...] = ()
        self._hz = world.tick_hz
        self._keyframe_ticks = header.keyframe_ticks
        self._ticks_max = max(self._hz, round(limits.minutes_max * 60 * self._hz))
        seconds = limits.seconds_waiting_max
        self._thread = RecordingThread(
            directory, limits.retention, jobs_max=2 * seconds, unix_ns=unix_ns, warn=warn
        )  # fmt: skip
        for _ in range(2 * seconds + SPARE_TAPES):
            self._thread.free.append(CommandTape(world.players.capacity, ticks_max=self._hz))
        self._tape = self._thread.free.pop()
        self.sources: dict[str, NoteSource] = {}
        self.roster: Callable[[], list[tuple[str, dict[str, Any]]]] = list
        self._notes: list[NoteEntry] = []
        events = world.game.events
        self._match_started = events.index("match_started") if "match_started" in events else -1
        self._is_open = self._has_lost = False
        self._begin_tick = self._key_tick = self._peopled_tick = world.tick
        self._retry_tick = 0
        self._present: list[NoteEntry] = []
        self._state = capture(world)

    @property
    def stats(self) -> RecorderStats:
        """What became of recordings so far."""
        return self._thread.stats

    @property
    def path(self) -> Path | None:
        """The file that is being written, or was last."""
        return self._thread.path

    @property
    def recording(self) -> bool:
        """Whether a file is open."""
        return self._is_open

    def note(self, kind: str, /, **values: Any) -> None:
        """Add to the story what the commands do not tell; dated with the last tick made.

        Args:
            kind: Of the note.
            values: What msgpack can hold.
        """
        if len(self._notes) >= NOTES_PER_SECOND_MAX:
            self.stats.notes_dropped += 1
            return
        self._notes.append((self._world.tick, kind, values))

    def record(self, commands: Commands) -> None:
        """Take in the tick that the world has just made of `commands`; never waits, and never raises for a disk."""
        world, tape = self._world, self._tape
        tape.append(world.tick, commands, state_hash(world))
        for source in self.sources.values():
            source.take()
        if world.players.live_count or commands.joins:
            self._peopled_tick = world.tick
        events = world.events
        starts = self._match_started >= 0 and self._match_started in events.kind[: events.count].tolist()
        if starts and world.tick - self._begin_tick >= MATCH_S_MIN * self._hz:
            self._turn("match started")
        elif tape.full:
            self._turn("")

    def _turn(self, cut: str) -> None:
        """Hand over what was taken in, and see whether a file begins, goes on or ends."""
        world = self._world
        for kind, source in self.sources.items():
            values = source.note()
            if values is not None:
                self._notes.append((world.tick, kind, values))
        notes, self._notes = self._notes, []
        if self._thread.failed:
            self._thread.failed = False
            self._is_open = False
            self._thread.offer(Close())
            self._retry_tick = world.tick + RETRY_S * self._hz
        # Whose presence began within these ticks is in them; a file begins with the state before.
        peopled = self._peopled_tick >= self._tape.first_tick and world.tick >= self._retry_tick
        if self._has_lost:
            self._has_lost = not self._offer(Close([(world.tick, "end", {"reason": "overflow"})]))
        elif not self._is_open and peopled:
            self._open(self._begin_tick, "match started" if cut else "somebody plays")
        if self._is_open:
            self._go_on(notes, cut)
        else:
            self._tape.clear()
            self._rest()

    def _rest(self) -> None:
        """Keep the state that a file would begin with."""
        world = self._world
        self._begin_tick, self._state = world.tick, capture(world)
        present = self.roster() if world.players.live_count else []
        self._present = [(world.tick, kind, values) for kind, values in present]

    def _open(self, tick: int, reason: str) -> None:
        """Begin a file with the state kept of a tick."""
        begin: NoteEntry = (
            tick, "begin", {"reason": reason, "stages": list(self.stages), "events": list(self._world.game.events)}
        )  # fmt: skip
        state, self._state = self._state, b""
        started = self._unix_ns() - (self._world.tick - tick) * 10**9 // self._hz
        header = replace(self._header, started_unix_ns=started)
        self._is_open = self._offer(Open(header, tick, state, [begin, *self._present]))
        self._begin_tick = self._key_tick = tick

    def _go_on(self, notes: list[NoteEntry], cut: str) -> None:
        world = self._world
        tick = world.tick
        if not self._offer(Block(self._tape, notes)):
            self._tape.clear()
            self._rest()
            return
        self._tape = self._thread.free.pop()
        empty = tick - self._peopled_tick >= EMPTY_S * self._hz
        over = cut or ("length" if tick - self._begin_tick >= self._ticks_max else "nobody is left" if empty else "")
        if over:
            self._offer(Close([(tick, "end", {"reason": over})]))
            self._is_open = False
            self._rest()
            if not empty and not self._has_lost:
                self._open(tick, over)
        elif tick - self._key_tick >= self._keyframe_ticks:
            self._key_tick = tick
            self._offer(KeyFrame(tick, capture(world)))

    def _offer(self, job: Job) -> bool:
        """Hand over a job; where there is no room, the file is given up, and closed once there is."""
        if self._thread.offer(job):
            return True
        self.stats.overflows += not self._has_lost
        self._has_lost, self._is_open = True, False
        return False

    def release(self) -> None:
        """Let the thread work on what it was handed: the tick is over."""
        self._thread.release()

    def close(self) -> None:
        """Write what is left and close the file; again is harmless."""
        jobs: list[Job] = []
        if self._is_open:
            self._is_open = False
            if self._tape.count:
                jobs.append(Block(self._tape, self._notes))
            jobs.append(Close([(self._world.tick, "end", {"reason": "the server stopped"})]))
        self._thread.stop(*jobs)

    def drain(self) -> None:
        """Wait until all that was handed over is written; for tests and tools."""
        self._thread.drain()


def _server_version() -> str:
    """Of this package, as it is installed."""
    try:
        return version("hitreg")
    except PackageNotFoundError:
        return "unknown"


def match_header(config: ServerConfig, world: World) -> MatchHeader:
    """The header of recordings of a world, but the time at which each begins."""
    return MatchHeader(
        game=config.game,
        game_version=world.game.version,
        layout_hash=layout_hash(world),
        kernel_digest=kernel_digest(world.game),
        map_source=config.map,
        map_name=world.map.name,
        map_hash=world.map.content_hash(),
        tick_hz=world.tick_hz,
        seed=world.seed,
        zone=world.zone,
        max_rewind_ms=world.max_rewind_ms,
        keyframe_ticks=max(1, round(config.record_keyframe_s * world.tick_hz)),
        players_capacity=world.players.capacity,
        server_version=_server_version(),
        started_unix_ns=0,
    )


def open_recorder(config: ServerConfig, world: World, *, unix_ns: Callable[[], int]) -> Recorder:
    """A recorder as configured.

    Args:
        config: Its settings `record_…`; `record_dir` is not empty.
        world: What is recorded.
        unix_ns: Time of day [ns since 1970].

    Raises:
        ServerError: The directory cannot be made or written.
    """
    try:
        directory = Path(config.record_dir).expanduser()
    except RuntimeError as error:
        raise ServerError(f"record_dir = {config.record_dir}: {error}; give a whole path") from error
    retention = Retention(keep_bytes=round(config.record_keep_gb * 1e9), keep_days=config.record_keep_days)
    limits = RecorderLimits(minutes_max=config.record_max_minutes, retention=retention)
    return Recorder(world, match_header(config, world), directory, unix_ns=unix_ns, limits=limits)
