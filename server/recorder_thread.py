"""The thread that encodes, compresses and writes recordings, so that the tick does none of it.

It takes jobs from one bounded queue in order: open a file, a key frame, a second of commands and notes, close. What
fails (a full disk, …) ends the file with one line to `warn`, is counted, and never reaches the tick: jobs until the
next `Open` are then dropped.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import gmtime, strftime
from typing import Any

import msgpack

from persistence.errors import PersistenceError
from persistence.recording import SUFFIX, ChunkKind, RecordingWriter
from server.errors import ServerError
from server.match import CommandTape, MatchHeader, encode_block
from server.retention import Retention, retire

__all__ = [
    "NOTE_BYTES_MAX",
    "Block",
    "Close",
    "Job",
    "KeyFrame",
    "NoteEntry",
    "Open",
    "RecorderStats",
    "RecordingThread",
]

NOTE_BYTES_MAX = 1 << 20
NOTES_BYTES_MAX = 4 << 20  # of one chunk
RETIRE_EVERY_BLOCKS = 60
NAMES_PER_SECOND_MAX = 100
NAME_CHARS_MAX = 40
STOP_S = 30.0
SLACK_S = 0.1  # after which a job is done although no tick has ended

NoteEntry = tuple[int, str, dict[str, Any]]
"""Tick, kind and values."""


@dataclass(slots=True)
class RecorderStats:
    """What became of recordings since the start; written by one side each, read by anyone.

    Attributes:
        files: Files opened.
        blocks: Blocks of commands written.
        bytes: Written to files that are closed.
        failures: Files that ended early since they could not be written.
        overflows: Files that ended early since the thread could not keep up.
        notes_dropped: Notes beyond what a second takes, or too large.
        removed: Recordings that made room.
    """

    files: int = 0
    blocks: int = 0
    bytes: int = 0
    failures: int = 0
    overflows: int = 0
    notes_dropped: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """Begin a file with a key frame."""

    header: MatchHeader
    tick: int
    state: bytes
    notes: list[NoteEntry] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """The state after a tick."""

    tick: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Ticks and what is noted of them; the tape goes back to `RecordingThread.free`."""

    tape: CommandTape
    notes: list[NoteEntry]


@dataclass(frozen=True, slots=True)
class Close:
    """End the file."""

    notes: list[NoteEntry] = field(default_factory=list)


Job = Open | KeyFrame | Block | Close


def _plain(text: str) -> str:
    """A text as a part of a file's name."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.") else "-" for letter in text)
    return kept.strip("-.")[-NAME_CHARS_MAX:].strip("-.") or "unnamed"


class RecordingThread:
    """Writes recordings into one directory.

    Attributes:
        free: Tapes that can be used again, the one used last at its end: it is still in the processor's cache.
        stats: What became of it all.
        failed: Whether the present file could not be written; reset by who opens the next.
        path: The present file, or the last one.
    """

    def __init__(
        self, directory: Path, retention: Retention, *, jobs_max: int, unix_ns: Callable[[], int],
        warn: Callable[[str], None],
    ) -> None:  # fmt: skip
        """Starts the thread.

        Args:
            directory: An existing directory.
            retention: What is kept in it.
            jobs_max: Jobs that may wait.
            unix_ns: Time of day [ns since 1970].
            warn: Told, from the thread, one line for each file that could not be written.
        """
        self.stats = RecorderStats()
        self.free: deque[CommandTape] = deque()
        self.failed = False
        self.path: Path | None = None
        self._directory, self._retention = directory, retention
        self._unix_ns, self._warn = unix_ns, warn
        self._jobs: queue.Queue[Job | None] = queue.Queue(jobs_max)
        self._slack = threading.Event()
        self._is_held = False
        self._writer: RecordingWriter | None = None
        self._thread = threading.Thread(target=self._run, name="hitreg-recorder", daemon=True)
        self._thread.start()

    def offer(self, job: Job) -> bool:
        """Hand over a job; False where the queue is full, and never a wait."""
        self._slack.clear()
        self._is_held = True
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        return True

    def release(self) -> None:
        """Let the thread work: the tick is over, and the interpreter free for a while."""
        if self._is_held:
            self._is_held = False
            self._slack.set()

    def stop(self, *jobs: Job) -> None:
        """Let all jobs be done, these last, for at most `STOP_S`, and end the thread; again is harmless."""
        if not self._thread.is_alive():
            return
        self.release()
        try:
            for job in (*jobs, None):
                self._jobs.put(job, timeout=STOP_S)
        except queue.Full:
            self._warn("the disk does not answer; the last seconds of the recording are lost")
            return
        self._thread.join(STOP_S)

    def drain(self) -> None:
        """Wait until all jobs handed over so far are done; for tests and tools, not for a tick."""
        self.release()
        self._jobs.join()

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            # Encoding takes a millisecond of the interpreter, which a tick under way would have to wait for.
            self._slack.wait(SLACK_S)
            try:
                if job is None:
                    self._close(Close())
                    return
                self._do(job)
            except (PersistenceError, ServerError, OSError, ValueError, TypeError) as error:
                self._fail(str(error))
            finally:
                self._jobs.task_done()

    def _do(self, job: Job) -> None:
        if isinstance(job, Open):
            self._open(job)
        elif isinstance(job, Close):
            self._close(job)
        elif isinstance(job, KeyFrame):
            if self._writer is not None:
                self._writer.append(ChunkKind.KEYFRAME, job.tick, 0, job.state)
        else:
            try:
                self._block(job)
            finally:
                job.tape.clear()
                self.free.append(job.tape)

    def _open(self, job: Open) -> None:
        self._close(Close())
        self._retire(self._unix_ns())
        self._directory.mkdir(parents=True, exist_ok=True)
        header = job.header
        began = strftime("%Y%m%dT%H%M%SZ", gmtime(header.started_unix_ns // 10**9))
        stem = f"{began}-{_plain(header.game)}-{_plain(header.map_name)}"
        for number in range(NAMES_PER_SECOND_MAX):
            path = self._directory / f"{stem}{f'-{number + 1}' if number else ''}{SUFFIX}"
            if not path.exists():
                break
        self._writer = RecordingWriter(path, header.to_dict())
        self.path = path
        self.stats.files += 1
        self._writer.append(ChunkKind.KEYFRAME, job.tick, 0, job.state)
        self._write_notes(job.tick, 0, job.notes)

    def _block(self, job: Block) -> None:
        if self._writer is None:
            return
        tape = job.tape
        self._writer.append(ChunkKind.COMMANDS, tape.first_tick, tape.count, encode_block(tape))
        self._write_notes(tape.first_tick, tape.count, job.notes)
        self.stats.blocks += 1
        if self.stats.blocks % RETIRE_EVERY_BLOCKS == 0:
            self._retire(self._unix_ns())

    def _write_notes(self, first_tick: int, count: int, notes: list[NoteEntry]) -> None:
        """Write what is noted, but what msgpack cannot hold or is too large."""
        packed, size = [], 0
        for note in notes:
            try:
                content = msgpack.packb(note)
            except (ValueError, TypeError, OverflowError):
                content = None
            if content is None or len(content) > NOTE_BYTES_MAX or size + len(content) > NOTES_BYTES_MAX:
                self.stats.notes_dropped += 1
                continue
            packed.append(content)
            size += len(content)
        if packed and self._writer is not None:
            head = msgpack.Packer().pack_array_header(len(packed))
            self._writer.append(ChunkKind.NOTES, first_tick, count, b"".join((head, *packed)))

    def _close(self, job: Close) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            self._write_notes(job.notes[0][0] if job.notes else 0, 0, job.notes)
        finally:
            self._writer = None
            try:
                writer.close()
            finally:
                self.stats.bytes += writer.bytes_written

    def _fail(self, reason: str) -> None:
        """End the file as well as can be, and say why once."""
        self.failed = True
        self.stats.failures += 1
        writer, self._writer = self._writer, None
        if writer is not None:
            # What made it fail is told below; the file is readable without its index.
            with contextlib.suppress(PersistenceError):
                writer.close()
            self.stats.bytes += writer.bytes_written
        self._warn(f"{reason}; recording stops here, the match goes on")

    def _retire(self, now_unix_ns: int) -> None:
        self.stats.removed += len(retire(self._directory, self._retention, now_unix_ns=now_unix_ns))
