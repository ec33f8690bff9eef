"""A recorded match, played again: any tick of it by key frame and re-simulation, beside what the recording says.

    replay = Replay.open(path)
    replay.seek(1200)             # nearest key frame, then steps
    while replay.step():
        assert replay.actual_hash == replay.expected_hash

`tick` T means the world at the end of tick T; `step` makes T + 1 from the recorded commands. A key frame of tick K is
the state at the end of K, so a recording can be played from its first key frame to its last block of commands. Where
blocks are missing (a damaged file) it falls into spans, each from a key frame to the gap; `step` goes on to the next.
"""

import bisect
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from persistence.recording import RecordingReader
from server.errors import MapError, ReplayError, WrongBuildError
from server.game import load_game
from server.maps import load_geometry, load_map
from server.match import MatchHeader, kernel_digest
from server.replay_tape import DamagedError, Note, Span, Tape, read_header
from sim.commands import Commands
from sim.errors import SimError
from sim.jit import cache_root
from sim.pipeline import Probe
from sim.snapshot import capture, layout_hash, restore, state_hash
from sim.world import World
from sim.worldmap import WorldMap

__all__ = ["Event", "MapLoader", "Note", "Replay", "Span", "check_build", "events_of", "find_map", "make_world"]

MapLoader = Callable[[str], WorldMap]


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


def find_map(header: MatchHeader, load: MapLoader = load_map, *, any_map: bool = False) -> WorldMap:
    """The map that a match was played on, on whatever machine: where the header says, or by its name in the cache.

    Args:
        header: Of the recording.
        load: Loads a map from a source.
        any_map: Take the first map found, whatever its content.

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
        if any_map or found.content_hash() == header.map_hash:
            return found
        problems.append(f"{source} is another map, {found.content_hash()}")
    remedy = f"the match was played on {header.map_hash}: {problems[0]}; put the same file there"
    raise MapError(header.map_source, "map", header.map_name, remedy)


class Replay(Tape):
    """One recording and a world that plays it; what it holds is `Tape`'s.

    Attributes:
        world: The world at the end of `tick`.
        tick: The tick last made, or that of the key frame last restored.
        made: Whether it was made here, so that its events and commands are at hand.
        commands: What entered that tick; empty right after a key frame was restored.
    """

    def __init__(
        self, path: Path, reader: RecordingReader, header: MatchHeader, world: World, *, blank: bool = False
    ) -> None:
        super().__init__(path, reader, header)
        self.world = world
        if world.players.capacity != header.players_capacity:
            raise WrongBuildError(
                f"{path}: commands of {header.players_capacity} players, this build's game has room for "
                f"{world.players.capacity}"
            )
        self._blank = b""
        if blank:
            self._begin_blank()
        self.commands = Commands(world.players.capacity)
        self._hash: int | None = None
        self._expected: int | None = None
        self.tick, self.made = -1, False
        self._begin()

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        any_build: bool = False,
        blank: bool = False,
        load: MapLoader = load_map,
        world: World | None = None,
    ) -> Self:
        """The recording of a file, ready to be played from its first tick.

        Args:
            path: The file.
            any_build: Whether a build may play it that differs from the one that recorded it.
            blank: Begin with an empty world in place of the first key frame, and use no other: for a recording from
                tick 0 on, in a build whose state has another layout.
            load: Loads maps from their sources.
            world: A world to play it in, in place of a new one: of another replay of the same match.

        Raises:
            ReplayError: The file cannot be read, or holds nothing that can be played.
            WrongBuildError: Another build recorded it.
            GameError, MapError: Its game or map is not to be had here.
        """
        reader, header = read_header(path)
        try:
            if not any_build:
                check_build(path, header)
            if world is None:
                world = make_world(header, load)
            if not blank and layout_hash(world) != header.layout_hash:
                raise WrongBuildError(
                    f"{path}: its state has the layout {header.layout_hash}, this build's is {layout_hash(world)}: "
                    "play it with the build that recorded it"
                )
            return cls(path, reader, header, world, blank=blank)
        except BaseException:
            reader.close()
            raise

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
            except DamagedError:
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
        except DamagedError:
            pass  # the rest of the span is left out now
        return self._next_span()

    def restore_frame(self, tick: int) -> None:
        """Put the key frame of `tick` in place of the world's state.

        Raises:
            ReplayError: There is no such key frame, or it cannot be restored.
        """
        self._restore(tick)

    def key_frame(self, tick: int) -> bytes:
        """As `Tape.key_frame`; of tick 0 the empty world's where the replay begins blank."""
        return self._blank if tick == 0 and self._blank else super().key_frame(tick)

    def events(self) -> list[Event]:
        """The events of `tick`, in order; none where it was not made here but restored from a key frame."""
        return events_of(self.world)

    def _begin_blank(self) -> None:
        """Let an empty world be the only key frame."""
        if self.first_tick != 0:
            raise ReplayError(f"{self.path}: begins at tick {self.first_tick}: only tick 0 begins with an empty world")
        self._blank = capture(self.world)
        self._frames = {0: self._frames[0]}
        self._settle()

    def _begin(self) -> None:
        """Restore the first key frame that can be."""
        while self.tick < 0:
            with contextlib.suppress(DamagedError):
                self._restore(self.spans[0].first)

    def _next_span(self) -> bool:
        """Go to the first span after `tick`, if there is one that can be begun."""
        while following := [span.first for span in self.spans if span.first > self.tick]:
            with contextlib.suppress(DamagedError):
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


def make_world(header: MatchHeader, load: MapLoader = load_map, *, any_map: bool = False) -> World:
    """An empty world as the recorded one was at its start; with `any_map`, even if the map's content is another now.

    Raises:
        GameError, MapError: Its game or map is not to be had here.
        ReplayError: The header asks for what no world can be.
    """
    game, world_map = load_game(header.game), find_map(header, load, any_map=any_map)
    try:
        return World(
            game, world_map, load_geometry(world_map), tick_hz=header.tick_hz, seed=header.seed, zone=header.zone,
            max_rewind_ms=header.max_rewind_ms,
        )  # fmt: skip
    except SimError as error:
        raise ReplayError(f"the recorded world cannot be made: {error}") from error


def events_of(world: World) -> list[Event]:
    """The events of the tick that a world has just made, in order."""
    events, names = world.events, world.game.events
    return [
        Event(
            world.tick,
            names[int(events.kind[index])],
            int(events.actor[index]),
            int(events.target[index]),
            _point(events.position[index]),
            _point(events.vector[index]),
            int(events.value[index]),
        )
        for index in range(events.count)
    ]


def _point(row: np.ndarray[Any, Any]) -> tuple[float, float, float]:
    x, y, z = row.tolist()
    return x, y, z
