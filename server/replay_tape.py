"""What a recording of a match holds, without playing it: commands, hashes, key frames and notes by tick.

Chunks are read when they are needed, so damage may be found on the way: what is damaged is then left out of `spans` and
`key_frames`, with a line in `problems`.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack

from persistence.errors import PersistenceError
from persistence.recording import Chunk, ChunkKind, RecordingReader
from server.errors import ReplayError, ServerError
from server.match import CommandBlock, MatchHeader
from sim.commands import Commands
from sim.errors import SimError

__all__ = ["DamagedError", "Note", "Span", "Tape", "read_header"]

BLOCKS_KEPT = 4  # decoded blocks of commands, a few seconds each
NOTES_MAX = 1 << 20  # of one recording; more are left out, with a line in `problems`


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks that can be played one after the other: the state is known from `first` on, commands up to `last`."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Note:
    """What the recorder wrote down beside the commands."""

    tick: int
    kind: str
    values: dict[str, Any]


class DamagedError(ReplayError):
    """A chunk that had to be left out while it was needed."""


class MissingError(ReplayError):
    """A tick whose commands the recording does not hold."""


class Tape:
    """One recording, opened.

    Attributes:
        path: The file.
        header: What was played: game, map, seed, build.
        spans: What can be played, in order; at least one.
        key_frames: Ticks of the key frames that can be read, ascending.
        problems: What is wrong with the file, a line each; empty where it is whole.
        complete: Whether the recording was closed in order and nothing is known to be damaged.
    """

    def __init__(self, path: Path, reader: RecordingReader, header: MatchHeader) -> None:
        """Takes over an opened file.

        Raises:
            ReplayError: It holds nothing that can be played.
        """
        self.path, self.header = path, header
        self._reader = reader
        self.problems: list[str] = list(reader.problems)
        self.complete = reader.complete
        self._blocks = sorted(self._chunks(ChunkKind.COMMANDS), key=lambda chunk: chunk.first_tick)
        self._frames = {chunk.first_tick: chunk for chunk in self._chunks(ChunkKind.KEYFRAME)}
        self._decoded: dict[int, CommandBlock] = {}
        self._latest: CommandBlock | None = None
        self._settle()

    @classmethod
    def read(cls, path: Path) -> "Tape":
        """The recording of a file, for what needs no world.

        Raises:
            ReplayError: The file cannot be read, or holds nothing that can be played.
        """
        reader, header = read_header(path)
        try:
            return Tape(path, reader, header)
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Close the file; again is harmless."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def first_tick(self) -> int:
        """The first tick whose state is known."""
        return self.spans[0].first

    @property
    def last_tick(self) -> int:
        """The last tick that can be played."""
        return self.spans[-1].last

    def key_frame(self, tick: int) -> bytes:
        """The key frame of `tick` as `sim.snapshot.capture` made it.

        Raises:
            ReplayError: There is none, or it cannot be read.
        """
        if tick not in self._frames:
            raise ReplayError(f"{self.path}: has no key frame of tick {tick}; it has {_listed(self.key_frames)}")
        try:
            return self._read(self._frames[tick])
        except ReplayError as error:
            raise self._left_out(self._frames.pop(tick), error) from error

    def commands_of(self, tick: int, commands: Commands) -> None:
        """Fill in what entered `tick`.

        Raises:
            ReplayError: The recording does not hold it, or it cannot be read.
        """
        self._block(tick).fill(tick, commands)

    def hash_of(self, tick: int) -> int | None:
        """The state hash recorded for a tick, or None where there is none.

        Raises:
            ReplayError: It cannot be read.
        """
        try:
            return self._block(tick).state_hash(tick)
        except MissingError:
            return None

    def notes(self, first: int | None = None, last: int | None = None) -> list[Note]:
        """What the recorder noted from tick `first` to `last`, both included, in the order of ticks."""
        low = bisect.bisect_left(self._note_ticks, first) if first is not None else 0
        high = bisect.bisect_right(self._note_ticks, last) if last is not None else len(self._notes)
        return self._notes[low:high]

    @cached_property
    def _notes(self) -> list[Note]:
        found: list[Note] = []
        for chunk in self._chunks(ChunkKind.NOTES):
            try:
                entries = msgpack.unpackb(self._read(chunk), strict_map_key=False)
                found += [Note(int(tick), str(kind), dict(values)) for tick, kind, values in entries]
            except (ReplayError, ValueError, TypeError, msgpack.UnpackException) as error:
                self.problems.append(f"notes from tick {chunk.first_tick} on cannot be read: {error}")
            if len(found) > NOTES_MAX:
                self.problems.append(
                    f"more than {NOTES_MAX} notes: those from tick {found[NOTES_MAX].tick} on are left out"
                )
                break
        return sorted(found[:NOTES_MAX], key=lambda note: note.tick)

    @cached_property
    def _note_ticks(self) -> list[int]:
        return [note.tick for note in self._notes]

    def _chunks(self, kind: ChunkKind) -> list[Chunk]:
        return [chunk for chunk in self._reader.chunks if chunk.kind == kind]

    def _read(self, chunk: Chunk) -> bytes:
        try:
            return self._reader.read(chunk)
        except PersistenceError as error:
            raise ReplayError(f"{self.path}: {error}") from error

    def _span_of(self, tick: int) -> Span:
        for span in self.spans:
            if span.first <= tick <= span.last:
                return span
        held = ", ".join(f"{span.first} … {span.last}" for span in self.spans)
        raise ReplayError(f"{self.path}: tick {tick} cannot be played: choose one of {held}")

    def _block_of(self, tick: int) -> Chunk | None:
        number = bisect.bisect_right(self._block_starts, tick) - 1
        if number < 0 or tick >= self._blocks[number].first_tick + self._blocks[number].tick_count:
            return None
        return self._blocks[number]

    def _block(self, tick: int) -> CommandBlock:
        latest = self._latest
        if latest is not None and latest.first_tick <= tick < latest.first_tick + latest.tick_count:
            return latest
        chunk = self._block_of(tick)
        if chunk is None:
            raise MissingError(f"{self.path}: holds no commands of tick {tick}")
        known = self._decoded.get(chunk.first_tick)
        if known is None:
            try:
                known = CommandBlock(self._read(chunk), self.header.players_capacity)
                if (known.first_tick, known.tick_count) != (chunk.first_tick, chunk.tick_count):
                    raise ReplayError(f"{chunk} holds other ticks, from {known.first_tick} on")
            except (ServerError, SimError) as error:
                self._blocks.remove(chunk)
                raise self._left_out(chunk, error) from error
            while len(self._decoded) >= BLOCKS_KEPT:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[chunk.first_tick] = known
        self._latest = known
        return known

    def _settle(self) -> None:
        """Work out what can be played with the chunks that are left."""
        self.key_frames = tuple(sorted(self._frames))
        self.spans = _spans(self.key_frames, self._blocks)
        self._block_starts = [chunk.first_tick for chunk in self._blocks]
        if not self.spans:
            raise ReplayError(f"{self.path}: holds no key frame that can be read, so nothing can be played")

    def _left_out(self, chunk: Chunk, error: Exception) -> DamagedError:
        """Go on without a chunk; the error that says so."""
        text = str(error).removeprefix(f"{self.path}: ")
        self.problems.append(text if str(chunk) in text else f"{chunk}: {text}")
        self.complete = False
        self._settle()
        return DamagedError(f"{self.path}: {self.problems[-1]}")


def read_header(path: Path) -> tuple[RecordingReader, MatchHeader]:
    """The opened file and its header.

    Raises:
        ReplayError: There is no such file, or it is no recording that this build understands.
    """
    try:
        reader = RecordingReader(path)
    except PersistenceError as error:
        raise ReplayError(str(error)) from error
    try:
        return reader, MatchHeader.from_dict(reader.header)
    except ServerError as error:
        reader.close()
        raise ReplayError(f"{path}: {error}") from error


def _spans(frames: Sequence[int], blocks: Sequence[Chunk]) -> tuple[Span, ...]:
    """What can be played from each key frame on without a gap, overlapping parts joined."""
    spans: list[Span] = []
    ends: list[tuple[int, int]] = []  # runs of ticks with commands: first, last
    for chunk in blocks:
        last = chunk.first_tick + chunk.tick_count - 1
        if ends and chunk.first_tick <= ends[-1][1] + 1:
            ends[-1] = (ends[-1][0], max(last, ends[-1][1]))
        else:
            ends.append((chunk.first_tick, last))
    for frame in frames:
        if spans and frame <= spans[-1].last:
            continue
        run = next((last for first, last in ends if first <= frame + 1 <= last), frame)
        spans.append(Span(frame, run))
    return tuple(spans)


def _listed(ticks: Sequence[int]) -> str:
    shown = ", ".join(str(tick) for tick in ticks[:8])
    return f"{shown}, …" if len(ticks) > 8 else shown or "none"
