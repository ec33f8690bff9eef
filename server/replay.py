"""A recorded match, played again: any tick of it by key frame and re-simulation, beside what the recording says.

    replay = Replay.open(path)
    replay.seek(1200)             # nearest key frame, then steps
    while replay.step():
        assert replay.actual_hash == replay.expected_hash

`tick` T means the world at the end of tick T; `step` makes T + 1 from the recorded commands. A key frame of tick K is
the state at the end of K, so a recording can be played from its first key frame to its last block of commands. Where
blocks are missing (a damaged file) it falls into spans, each from a key frame to the gap; `step` goes on to the next.
Chunks are read when they are needed, so damage may be found on the way: what is damaged is then left out of `spans` and
`key_frames`, with a line in `problems`.
"""

import bisect
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import msgpack
import numpy as np

from persistence.errors import PersistenceError
from persistence.recording import Chunk, ChunkKind, RecordingReader
from server.errors import MapError, ReplayError, ServerError, WrongBuildError
from server.game import load_game
from server.maps import load_geometry, load_map
from server.match import CommandBlock, MatchHeader, kernel_digest
from sim.commands import Commands
from sim.errors import SimError
from sim.jit import cache_root
from sim.pipeline import Probe
from sim.snapshot import layout_hash, restore, state_hash
from sim.world import World
from sim.worldmap import WorldMap

__all__ = ["Event", "MapLoader", "Note", "Replay", "Span", "find_map"]

MapLoader = Callable[[str], WorldMap]
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


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the tick last made; the meaning of `vector` and `value` is the kind's own."""

    tick: int
    kind: str
    actor: int
    target: int
    position: tuple[float, float, float]
    vector: tuple[float, float, float]
    value: int


def find_map(header: MatchHeader, load: MapLoader = load_map) -> WorldMap:
    """The map that a match was played on, on whatever machine: where the header says, or by its name in the cache.

    Args:
        header: Of the recording.
        load: Loads a map from a source.

    Raises:
        MapError: No map of that content is found.
    """
    sources = [header.map_source]
    fetched = cache_root().parent.glob(f"openarena/*/maps/{Path(header.map_name).name}.bsp")
    sources += [str(path) for path in sorted(fetched)]
    problems = []
    for source in sources:
        try:
            found = load(source)
        except MapError as error:
            problems.append(str(error))
            continue
        if found.content_hash() == header.map_hash:
            return found
        problems.append(f"{source} is another map, {found.content_hash()}")
    remedy = f"the match was played on {header.map_hash}: {problems[0]}; put the same file there"
    raise MapError(header.map_source, "map", header.map_name, remedy)


class _DamagedError(ReplayError):
    """A chunk that had to be left out while it was needed."""


class Replay:
    """One recording and a world that plays it.

    Attributes:
        path: The file.
        header: What was played: game, map, seed, build.
        world: The world at the end of `tick`.
        tick: The tick last made, or that of the key frame last restored.
        made: Whether it was made here, so that its events and commands are at hand.
        commands: What entered that tick; empty right after a key frame was restored.
        spans: What can be played, in order; at least one.
        key_frames: Ticks of the key frames that can be read, ascending.
        problems: What is wrong with the file, a line each; empty where it is whole.
        complete: Whether the recording was closed in order.
    """

    def __init__(self, path: Path, reader: RecordingReader, header: MatchHeader, world: World) -> None:
        self.path, self.header, self.world = path, header, world
        self._reader = reader
        self.problems: list[str] = list(reader.problems)
        self.complete = reader.complete
        self.commands = Commands(world.players.capacity)
        self._blocks = sorted(self._chunks(ChunkKind.COMMANDS), key=lambda chunk: chunk.first_tick)
        self._frames = {chunk.first_tick: chunk for chunk in self._chunks(ChunkKind.KEYFRAME)}
        self._settle()
        self._decoded: dict[int, CommandBlock] = {}
        self._hash: int | None = None
        self._expected: int | None = None
        self.tick, self.made = -1, False
        self._begin()

    @classmethod
    def open(
        cls, path: Path, *, any_build: bool = False, load: MapLoader = load_map, world: World | None = None
    ) -> Self:
        """The recording of a file, ready to be played from its first tick.

        Args:
            path: The file.
            any_build: Whether a build may play it that differs from the one that recorded it.
            load: Loads maps from their sources.
            world: A world to play it in, in place of a new one: of another replay of the same match.

        Raises:
            ReplayError: The file cannot be read, or holds nothing that can be played.
            WrongBuildError: Another build recorded it.
            GameError, MapError: Its game or map is not to be had here.
        """
        reader, header = read_header(path)
        if not any_build:
            check_build(path, header)
        if world is None:
            world = make_world(header, load)
        if layout_hash(world) != header.layout_hash:
            raise WrongBuildError(
                f"{path}: its state has the layout {header.layout_hash}, this build's is {layout_hash(world)}: "
                "play it with the build that recorded it"
            )
        return cls(path, reader, header, world)

    @property
    def first_tick(self) -> int:
        """The first tick whose state is known."""
        return self.spans[0].first

    @property
    def last_tick(self) -> int:
        """The last tick that can be played."""
        return self.spans[-1].last

    @property
    def expected_hash(self) -> int | None:
        """The state hash that was recorded for `tick`; None where there is none, as at the first key frame."""
        if self._expected is None:
            self._expected = self.hash_of(self.tick)
        return self._expected

    @property
    def actual_hash(self) -> int:
        """The state hash of the world as it was played here."""
        if self._hash is None:
            self._hash = state_hash(self.world)
        return self._hash

    def seek(self, tick: int) -> None:
        """Go to the end of `tick`, from the nearest key frame before it or from where the replay is.

        Raises:
            ReplayError: The tick is not in the recording, or in a part of it that cannot be read.
        """
        while True:
            span = self._span_of(tick)
            start = self.key_frames[bisect.bisect_right(self.key_frames, tick) - 1]
            try:
                if not (span.first <= self.tick <= tick and start <= self.tick):
                    self._restore(start)
                while self.tick < tick:
                    self._advance(None)
            except _DamagedError:
                continue  # what is damaged is left out now; try from what remains
            return

    def make(self, tick: int) -> None:
        """Go to the end of `tick` by making it, so that its events and commands are at hand.

        At the first tick of a span there is nothing to make it from: then this is `seek`.
        """
        if tick > self._span_of(tick).first:
            self.seek(tick - 1)
            if self._span_of(tick).first < tick:
                self.step()
        self.seek(tick)

    def step(self, probe: Probe | None = None) -> bool:
        """Make the next tick, or go on to the next span where commands are missing.

        Args:
            probe: As for `World.step`.

        Returns:
            False at the end of the recording; nothing has changed. After going on to another span `made` is False.
        """
        end = next((span.last for span in self.spans if span.first <= self.tick <= span.last), self.tick)
        try:
            if self.tick < end:
                self._advance(probe)
                return True
        except _DamagedError:
            pass  # the rest of the span is left out now
        return self._next_span()

    def restore_frame(self, tick: int) -> None:
        """Put the key frame of `tick` in place of the world's state.

        Raises:
            ReplayError: There is no such key frame, or it cannot be restored.
        """
        self._restore(tick)

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
        return None if self._block_of(tick) is None else self._block(tick).state_hash(tick)

    def events(self) -> list[Event]:
        """The events of `tick`, in order; none where it was not made here but restored from a key frame."""
        events, names = self.world.events, self.world.game.events
        return [
            Event(
                self.tick,
                names[int(events.kind[index])],
                int(events.actor[index]),
                int(events.target[index]),
                _point(events.position[index]),
                _point(events.vector[index]),
                int(events.value[index]),
            )
            for index in range(events.count)
        ]

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
        chunk = self._block_of(tick)
        if chunk is None:
            raise ReplayError(f"{self.path}: holds no commands of tick {tick}")
        known = self._decoded.get(chunk.first_tick)
        if known is None:
            try:
                known = CommandBlock(self._read(chunk), self.commands.capacity)
                if (known.first_tick, known.tick_count) != (chunk.first_tick, chunk.tick_count):
                    raise ReplayError(f"{chunk} holds other ticks, from {known.first_tick} on")
            except (ServerError, SimError) as error:
                self._blocks.remove(chunk)
                raise self._left_out(chunk, error) from error
            while len(self._decoded) >= BLOCKS_KEPT:
                del self._decoded[next(iter(self._decoded))]
            self._decoded[chunk.first_tick] = known
        return known

    def _settle(self) -> None:
        """Work out what can be played with the chunks that are left."""
        self.key_frames = tuple(sorted(self._frames))
        self.spans = _spans(self.key_frames, self._blocks)
        self._block_starts = [chunk.first_tick for chunk in self._blocks]
        if not self.spans:
            raise ReplayError(f"{self.path}: holds no key frame that can be read, so nothing can be played")

    def _left_out(self, chunk: Chunk, error: Exception) -> "_DamagedError":
        """Go on without a chunk; the error that says so."""
        text = str(error).removeprefix(f"{self.path}: ")
        self.problems.append(text if str(chunk) in text else f"{chunk}: {text}")
        self.complete = False
        self._settle()
        return _DamagedError(f"{self.path}: {self.problems[-1]}")

    def _begin(self) -> None:
        """Restore the first key frame that can be."""
        while self.tick < 0:
            with contextlib.suppress(_DamagedError):
                self._restore(self.spans[0].first)

    def _next_span(self) -> bool:
        """Go to the first span after `tick`, if there is one that can be begun."""
        while following := [span.first for span in self.spans if span.first > self.tick]:
            with contextlib.suppress(_DamagedError):
                self._restore(following[0])
                return True
        return False

    def _advance(self, probe: Probe | None) -> None:
        self.commands_of(self.tick + 1, self.commands)
        self.world.step(self.commands, probe)
        self.tick, self.made = self.world.tick, True
        self._hash = self._expected = None

    def _restore(self, tick: int) -> None:
        content = self.key_frame(tick)
        try:
            restore(self.world, content)
            if self.world.tick != tick:
                raise ReplayError(f"holds the state of tick {self.world.tick}")
        except (SimError, ReplayError) as error:
            raise self._left_out(self._frames.pop(tick), error) from error
        self.commands.clear()
        self.tick, self.made = tick, False
        self._hash = self._expected = None


def read_header(path: Path) -> tuple[RecordingReader, MatchHeader]:
    """The opened file and its header.

    Raises:
        ReplayError: There is no such file, or it is no recording that this build understands.
    """
    try:
        reader = RecordingReader(path)
        return reader, MatchHeader.from_dict(reader.header)
    except (PersistenceError, ServerError) as error:
        text = str(error)
        raise ReplayError(text if str(path) in text else f"{path}: {text}") from error


def check_build(path: Path, header: MatchHeader) -> None:
    """Make sure that the sources of the simulation are those that recorded a match.

    Raises:
        WrongBuildError: They are not; both digests are named.
    """
    own = kernel_digest(load_game(header.game))
    if header.kernel_digest != own:
        raise WrongBuildError(
            f"{path}: recorded by build {header.kernel_digest} ({header.server_version}), this is build {own}: "
            "play it with that build, or with --any-build to see what differs"
        )


def make_world(header: MatchHeader, load: MapLoader = load_map) -> World:
    """An empty world as the recorded one was at its start.

    Raises:
        GameError, MapError: Its game or map is not to be had here.
        ReplayError: The header asks for what no world can be.
    """
    game, world_map = load_game(header.game), find_map(header, load)
    try:
        return World(
            game, world_map, load_geometry(world_map), tick_hz=header.tick_hz, seed=header.seed, zone=header.zone,
            max_rewind_ms=header.max_rewind_ms,
        )  # fmt: skip
    except SimError as error:
        raise ReplayError(f"the recorded world cannot be made: {error}") from error


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


def _point(row: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    x, y, z = row.tolist()
    return x, y, z
