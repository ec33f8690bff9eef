"""Where two builds part on one recording: the first tick, the value, and the system that made it.

Each build plays the recorded commands in a process of its own, started in its own checkout (`tools.replay_probe`); this
process only compares what they tell. The other build needs to know nothing of recordings.
"""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

import tools.replay_probe
from server.replay_state import Difference, first_difference
from server.replay_tape import Tape
from sim.arrays import AnyArray
from sim.commands import Commands
from tools.errors import ToolsError
from tools.replay_probe import COMMAND_COLUMNS, receive, send

__all__ = ["Build", "BuildsReport", "bisect_builds"]

TICKS_PER_CALL = 128
STOP_S = 10.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BuildsReport:
    """What came of playing one recording in two builds.

    Attributes:
        builds: Their source digests.
        ticks: How many ticks both made alike.
        tick: The first tick after which they differ; -1 where they never do.
        difference: The first value that differs after it; the first side is this build.
        system: The system after which it first differs; empty if the builds' systems cannot be paired.
    """

    builds: tuple[str, str]
    ticks: int
    tick: int
    difference: Difference | None
    system: str

    def lines(self) -> list[str]:
        """What a person should know, a line each."""
        head = f"builds {self.builds[0]} and {self.builds[1]}"
        if self.tick < 0:
            return [f"{head}: the same state after each of {self.ticks} ticks"]
        lines = [f"{head}: {self.ticks} ticks alike", f"tick {self.tick}: {self.difference or 'hashes differ'}"]
        return [*lines, f"first differs {self.system}"] if self.system else lines


class Build:
    """A checkout's build in a process of its own. Use as a context manager."""

    def __init__(self, checkout: Path, *, threads: int = 1) -> None:
        """Start it.

        Args:
            checkout: Directory with its packages; its own virtual environment is used where it has one.
            threads: For its kernels.

        Raises:
            ToolsError: It holds no such packages, or cannot be started.
        """
        self.checkout = checkout
        self._threads = threads
        if not (checkout / "sim" / "world.py").is_file():
            raise ToolsError(f"--other {checkout}: no checkout: it holds no sim/world.py")
        own = checkout / ".venv" / "bin" / "python"
        environment = {**os.environ, "PYTHONPATH": str(checkout), "NUMBA_NUM_THREADS": str(max(2, threads))}
        source = inspect.getsource(tools.replay_probe)
        try:
            self._process = subprocess.Popen(
                [str(own) if own.is_file() else sys.executable, "-c", source],
                cwd=checkout, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise ToolsError(f"--other {checkout}: its Python cannot be started: {error.strerror}") from error

    def ask(self, *request: Any) -> Any:
        """What the build answers.

        Raises:
            ToolsError: It says that something went wrong, or has ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            send(self._process.stdin, request)
            reply = receive(self._process.stdout)
        except OSError:
            reply = None
        if reply is None:
            raise ToolsError(
                f"build in {self.checkout}: ended while it was asked to {request[0]}; see its last words above"
            )
        if not reply[0]:
            raise ToolsError(f"build in {self.checkout}: {request[0]}: {reply[1]}")
        return reply[1]

    def open(self, tape: Tape, map_source: str) -> dict[str, Any]:
        """Make the world of a recording and bring it to the recording's begin."""
        header = tape.header
        match = {
            "game": header.game, "map": map_source, "tick_hz": header.tick_hz, "seed": header.seed,
            "zone": header.zone, "max_rewind_ms": header.max_rewind_ms, "threads": self._threads,
        }  # fmt: skip
        told: dict[str, Any] = self.ask("open", match)
        # An empty world needs no key frame, and so no layout that both builds share.
        self.ask("begin", tape.key_frame(tape.first_tick) if tape.first_tick else None)
        return told

    def values(self, table: str, column: str) -> AnyArray | None:
        """A column of its present state; None where it has no such column."""
        found = self.ask("values", table, column)
        return None if found is None else np.frombuffer(found[2], np.dtype(found[0])).reshape(found[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _packed(commands: Commands) -> list[Any]:
    """Commands as `tools.replay_probe` takes them."""
    slots = np.flatnonzero(commands.has_input).astype(np.uint32)
    return [
        slots.tobytes(),
        {name: getattr(commands, name)[slots].tobytes() for name in COMMAND_COLUMNS},
        [(entry.ticket, entry.name, entry.team) for entry in commands.joins],
        [entry.entity for entry in commands.leaves],
        [(entry.entity, entry.kind, entry.values) for entry in commands.actions],
    ]


def _calls(tape: Tape) -> Iterator[tuple[int, list[Any]]]:
    """The commands of the first span, so many ticks at a time: (first tick, commands)."""
    span = tape.spans[0]
    commands = Commands(tape.header.players_capacity)
    for first in range(span.first + 1, span.last + 1, TICKS_PER_CALL):
        ticks = []
        for tick in range(first, min(first + TICKS_PER_CALL, span.last + 1)):
            tape.commands_of(tick, commands)
            ticks.append(_packed(commands))
        yield first, ticks


def bisect_builds(
    tape: Tape, map_source: str, own: Build, other: Build, *, progress: Progress | None = None
) -> BuildsReport:
    """Play a recording's commands in two builds until their states differ.

    Args:
        tape: The recording, of any build; what can be played of it without a gap is.
        map_source: The map, as both builds can load it.
        own: This build.
        other: The other.
        progress: Told (ticks, ticks in all) now and then.

    Raises:
        ToolsError: A build cannot play it.
    """
    told = [build.open(tape, map_source) for build in (own, other)]
    builds = (str(told[0]["build"]), str(told[1]["build"]))
    done = 0
    for first, ticks in _calls(tape):
        hashes = [build.ask("play", ticks) for build in (own, other)]
        for number, (one, two) in enumerate(zip(*hashes, strict=True)):
            if one != two:
                system = _system(own, other, number, [told[0]["stages"], told[1]["stages"]])
                return BuildsReport(builds, done + number, first + number, _difference(own, other), system)
        done += len(ticks)
        if progress is not None:
            progress(done, tape.spans[0].last - tape.spans[0].first)
    return BuildsReport(builds, done, -1, None, "")


def _system(own: Build, other: Build, number: int, stages: list[list[str]]) -> str:
    """Both make the tick again, system by system; where they first part."""
    one, two = (build.ask("detail", number) for build in (own, other))
    if stages[0] != stages[1]:
        return ""
    for place, (mine, theirs) in enumerate(zip(one, two, strict=False)):
        known = {(table, column): digest for table, column, digest in theirs}
        for table, column, digest in mine:
            if known.get((table, column)) != digest:
                where = "before the tick" if place == 0 else f"after system {stages[0][place - 1]}"
                return f"{where}, in table {table}, column {column}"
    return ""


def _difference(own: Build, other: Build) -> Difference | None:
    """The first value in which the present states differ."""
    names = [[(table, column) for table, column, _ in build.ask("columns")] for build in (own, other)]
    states = [
        {key: array for key in keys if (array := build.values(*key)) is not None}
        for build, keys in zip((own, other), names, strict=True)
    ]
    return first_difference(*states)
