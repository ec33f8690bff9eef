"""`hitreg replay`: look at recorded matches, verify them, compare them, search them, and take them apart.

A recording is named by its path or by a part of its file name among those kept (setting `record_dir`); without a name
the newest is meant. Moments are ticks (`1234`) or times (`12:34.567`).
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from persistence.errors import PersistenceError
from server.errors import ServerError
from server.match import MatchHeader
from server.replay import Replay
from server.replay_tape import Tape
from server.replay_words import EventWords, clock_text, parse_moment, player_names
from sim.errors import SimError
from tools.errors import ToolsError
from tools.maps import OPENARENA, open_map
from tools.openarena import map_path
from tools.replay_files import find_recording, recordings, recordings_directory

if TYPE_CHECKING:
    from tools.replay_find import Found

__all__ = ["app"]

app = typer.Typer(help="Look at recorded matches, verify, compare and search them.", no_args_is_help=True)

DIFFERS = 1
FileArgument = Annotated[str | None, typer.Argument(help="A recording, or a part of its name; else the newest.")]
DirectoryOption = Annotated[Path | None, typer.Option("--dir", help="Where recordings are kept.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AnyBuildOption = Annotated[bool, typer.Option("--any-build", help="Play it even if another build recorded it.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=64, help="Threads for kernels; results never depend on it.")]
FromOption = Annotated[str | None, typer.Option("--from", help="From this tick or time on.")]
ToOption = Annotated[str | None, typer.Option("--to", help="Up to this tick or time.")]


def _or_exit(work: Callable[[], int | None]) -> None:
    """Run a command; what is wrong with its input becomes one line on stderr and exit code 2."""
    try:
        code = work()
    except (ServerError, SimError, PersistenceError, ToolsError) as error:
        typer.echo(f"hitreg replay: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error
    if code:
        raise typer.Exit(code)


@contextlib.contextmanager
def _bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal's stderr while a recording is played."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=max(1, total))


def _opened(text: str | None, directory: Path | None, *, any_build: bool = False, threads: int = 1) -> Replay:
    """The replay of the recording that is meant; its problems are told on stderr."""
    from sim.jit import set_threads

    path = find_recording(text, directory)
    replay = Replay.open(path, any_build=any_build, load=open_map)
    try:
        set_threads(threads)
    except ValueError as error:
        raise ToolsError(f"--threads {threads}: {error}; choose fewer") from error
    _tell_problems(path, replay.problems)
    return replay


def _tell_problems(path: Path, problems: list[str]) -> None:
    for problem in problems:
        typer.echo(f"{path.name}: {problem}", err=True)


def _range(replay: Tape, first: str | None, last: str | None) -> tuple[int, int]:
    """The ticks of --from and --to, within the recording."""
    hz = replay.header.tick_hz
    low = replay.first_tick if first is None else parse_moment(first, hz)
    high = replay.last_tick if last is None else parse_moment(last, hz)
    if low > high:
        raise ToolsError(f"--from {first} --to {last}: the end is before the begin")
    if low > replay.last_tick or high < replay.first_tick:
        raise ToolsError(
            f"--from {first} --to {last}: the recording holds ticks {replay.first_tick} to {replay.last_tick}"
        )
    return max(low, replay.first_tick), min(high, replay.last_tick)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


@app.command("list")
def list_recordings(directory: DirectoryOption = None) -> None:
    """List the recordings kept, the newest first."""

    def work() -> None:
        from tools.replay_info import brief

        home = recordings_directory(directory)
        kept = recordings(home)
        for path in kept:
            typer.echo(brief(path))
        if not kept:
            typer.echo(f"no recordings in {home}", err=True)

    _or_exit(work)


@app.command("info")
def info(file: FileArgument = None, *, directory: DirectoryOption = None, as_json: JsonOption = False) -> None:
    """Print what a recording holds: header, ticks, players, chunks, and what is wrong with it."""

    def work() -> None:
        from tools.replay_info import facts

        found = facts(find_recording(file, directory))
        if as_json:
            _print_json(found)
            return
        for name, value in found.items():
            if isinstance(value, dict):
                shown = ", ".join(f"{key} {count:,}" for key, count in value.items())
            elif isinstance(value, list):
                shown = "; ".join(value) or "none"
            else:
                shown = f"{value:,}" if name == "bytes" else str(value)
            typer.echo(f"{name:20} {shown}")

    _or_exit(work)


@app.command("verify")
def verify_recording(
    file: FileArgument = None,
    *,
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
    from_key_frames: Annotated[
        bool, typer.Option("--from-key-frames", help="Restore every key frame, and play from it to the next.")
    ] = False,
    threads: ThreadsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Play a recording again and compare every state hash; exit code 1 if something differs."""

    def work() -> int:
        from server.replay_verify import verify

        replay = _opened(file, directory, any_build=any_build, threads=threads)
        told = len(replay.problems)
        with _bar("verifying") as progress:
            verdict = verify(replay, each_key_frame=from_key_frames, progress=progress)
        _tell_problems(replay.path, replay.problems[told:])
        if as_json:
            _print_json({"file": str(replay.path), **verdict.to_dict()})
        elif verdict.mismatch is not None:
            typer.echo("\n".join(f"{replay.path.name}: {line}" for line in verdict.mismatch.lines()))
        else:
            length = clock_text(verdict.last_tick - verdict.first_tick, replay.header.tick_hz)
            typer.echo(
                f"{replay.path.name}: {verdict.ticks} ticks ({length}) and {verdict.key_frames} key frames came out "
                f"again, bit for bit{'' if replay.complete else '; the file itself is not whole'}"
            )
        return 0 if verdict.same else DIFFERS

    _or_exit(work)


@app.command("diff")
def diff(
    first: Annotated[str, typer.Argument(help="A recording.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    *,
    directory: DirectoryOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two recordings: header, commands and states; exit code 1 if they differ."""
    _or_exit(lambda: _compare(first, second, directory, as_json=as_json, header=True))


def _compare(first: str, second: str, directory: Path | None, *, as_json: bool, header: bool) -> int:
    from tools.replay_compare import compare

    one, other = (_opened(name, directory, any_build=True) for name in (first, second))
    with _bar("comparing") as progress:
        found = compare(one, other, progress=progress)
    if as_json:
        _print_json(dataclasses.asdict(found) | {"same": found.same})
        return 0 if found.same else DIFFERS
    for line in found.header if header else ():
        typer.echo(f"header {line}")
    low, high = found.ticks
    typer.echo(f"ticks {low} to {high} are in both" if low <= high else "no tick is in both")
    if found.commands is not None:
        typer.echo(str(found.commands))
    for line in found.state.lines() if found.state is not None else ():
        typer.echo(line)
    if found.same and low <= high:
        typer.echo("commands and states are the same")
    return 0 if found.same else DIFFERS


@app.command("bisect")
def bisect(
    file: Annotated[str, typer.Argument(help="A recording.")],
    second: Annotated[str | None, typer.Argument(help="Another recording.")] = None,
    *,
    other: Annotated[Path | None, typer.Option(help="A checkout of another build, to play FILE in.")] = None,
    directory: DirectoryOption = None,
    threads: ThreadsOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Find the first tick, value and system in which two recordings or two builds part; exit code 1 if they do."""

    def work() -> int:
        if (second is None) == (other is None):
            raise ToolsError("bisect: give a second recording, or --other and the checkout of another build")
        if second is not None:
            return _compare(file, second, directory, as_json=as_json, header=False)
        return _bisect_builds(find_recording(file, directory), Path(str(other)), threads, as_json=as_json)

    _or_exit(work)


def _bisect_builds(path: Path, checkout: Path, threads: int, *, as_json: bool) -> int:
    import tools
    from tools.replay_builds import Build, bisect_builds

    own = Path(str(tools.__file__)).resolve().parent.parent
    with contextlib.ExitStack() as stack:
        tape = stack.enter_context(Tape.read(path))
        mine = stack.enter_context(Build(own, threads=threads))
        theirs = stack.enter_context(Build(checkout.resolve(), threads=threads))
        progress = stack.enter_context(_bar("playing in both builds"))
        report = bisect_builds(tape, _plain_map(tape.header), mine, theirs, progress=progress)
    if as_json:
        _print_json(dataclasses.asdict(report))
    else:
        typer.echo("\n".join(report.lines()))
    return 0 if report.tick < 0 else DIFFERS


def _plain_map(header: MatchHeader) -> str:
    """The source of a recording's map as every build can load it."""
    source = header.map_source
    if source.startswith(OPENARENA):
        return str(map_path(source.removeprefix(OPENARENA)))
    return str(Path(source).resolve()) if Path(source).is_file() else source


@app.command("find")
def find_happenings(
    what: Annotated[str, typer.Argument(help="kills, hits, shots, joins, leaves, refusals, disconnects, notes, ….")],
    file: FileArgument = None,
    *,
    player: Annotated[str, typer.Option(help="Only with this player: a name, a part of one, or an entity id.")] = "",
    first: FromOption = None,
    last: ToOption = None,
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print what happened, by kind, player and time."""

    def work() -> None:
        found = []
        for entry in _found(find_recording(file, directory), what, player, (first, last), any_build=any_build):
            if as_json:
                found.append(dataclasses.asdict(entry))
            else:
                typer.echo(f"{entry.tick:>8} {entry.time}  {entry.text}")
        if as_json:
            _print_json(found)

    _or_exit(work)


def _found(
    path: Path, what: str, player: str, moments: tuple[str | None, str | None], *, any_build: bool
) -> Iterator["Found"]:
    from server.game import load_game
    from tools.replay_find import find, find_noted, noted

    with Tape.read(path) as tape:
        low, high = _range(tape, *moments)
        if noted(tape, what):
            _tell_problems(path, tape.problems)
            game = load_game(tape.header.game)
            yield from find_noted(tape, game, what=what, player=player, first=low, last=high)
            return
    replay = _opened(str(path), None, any_build=any_build)
    with _bar("searching") as progress:
        yield from find(replay, what=what, player=player, first=low, last=high, progress=progress)


@app.command("export")
def export(
    file: FileArgument = None,
    *,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A .parquet or .csv file for columns.")] = None,
    columns: Annotated[
        str, typer.Option(help="TABLE.COMPONENT.COLUMN, TABLE.COMPONENT or TABLE, separated by commas.")
    ] = "player.motion,player.look,player.vitals",
    events: Annotated[Path | None, typer.Option(help="A .msgpack or .csv file for events.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Every so many ticks.")] = 1,
    first: FromOption = None,
    last: ToOption = None,
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
) -> None:
    """Write columns as Parquet or CSV, and events as MessagePack or CSV."""

    def work() -> None:
        from tools.replay_export import export_columns, export_events

        if output is None and events is None:
            raise ToolsError("export: give --output for columns, --events for events, or both")
        replay = _opened(file, directory, any_build=any_build)
        low, high = _range(replay, first, last)
        with _bar("exporting") as progress:
            if output is not None:
                names = [name.strip() for name in columns.split(",") if name.strip()]
                rows = export_columns(replay, output, names, first=low, last=high, every=every, progress=progress)
                typer.echo(f"{output}: {rows:,} rows")
            if events is not None:
                count = export_events(replay, events, first=low, last=high, progress=progress)
                typer.echo(f"{events}: {count:,} events")

    _or_exit(work)


AtOption = Annotated[str | None, typer.Option("--at", help="The tick or time to begin at.")]
PrintOption = Annotated[bool, typer.Option("--print", help="Print the tick as text instead of opening the page.")]
FollowOption = Annotated[str, typer.Option(help="Only this player: a name, a part of one, or an entity id.")]
TablesOption = Annotated[str, typer.Option(help="Which tables to print, separated by commas; all if not given.")]
ColumnsOption = Annotated[str, typer.Option(help="Which columns, as COMPONENT.COLUMN; all if not given.")]


@app.command("step")
def step(
    file: FileArgument = None,
    *,
    at: AtOption = None,
    as_text: PrintOption = False,
    follow: FollowOption = "",
    table: TablesOption = "",
    columns: ColumnsOption = "",
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
) -> None:
    """Step through a recording on a page in the terminal: tables, columns, commands and events of each tick."""
    _or_exit(lambda: _show(file, at, follow, table, columns, directory, as_text=as_text, any_build=any_build))


@app.command("goto")
def goto(
    moment: Annotated[str, typer.Argument(help="A tick such as 1234, or a time such as 12:34.567.")],
    file: FileArgument = None,
    *,
    as_text: PrintOption = False,
    follow: FollowOption = "",
    table: TablesOption = "",
    columns: ColumnsOption = "",
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
) -> None:
    """Open the page in the terminal at a tick or time."""
    _or_exit(lambda: _show(file, moment, follow, table, columns, directory, as_text=as_text, any_build=any_build))


def _show(
    file: str | None,
    at: str | None,
    follow: str,
    table: str,
    columns: str,
    directory: Path | None,
    *,
    as_text: bool,
    any_build: bool,
) -> None:
    from tools.replay_text import find_player, tick_text

    replay = _opened(file, directory, any_build=any_build)
    replay.make(replay.first_tick if at is None else parse_moment(at, replay.header.tick_hz))
    words = EventWords(replay.world.game, player_names(replay))
    entity = find_player(follow, words) if follow else 0
    if as_text or not sys.stdout.isatty():
        tables, wanted = ([part for part in text.split(",") if part] for text in (table, columns))
        typer.echo(tick_text(replay, words, tables=tables, columns=wanted, follow=entity))
        return
    from tools.replay_tui import ReplayPage

    ReplayPage(replay, words, follow=entity).run()


@app.command("shot")
def shot(
    file: Annotated[str, typer.Argument(help="A recording, or a part of its name.")],
    number: Annotated[int | None, typer.Argument(help="Number of the shot in the recording, from 1.")] = None,
    *,
    tick: Annotated[str | None, typer.Option(help="The shots of this tick or time, in place of a number.")] = None,
    player: Annotated[str, typer.Option(help="Only of this player: name, part of a name, or entity.")] = "",
    picture: Annotated[Path | None, typer.Option(help="Draw it into this PNG file, too.")] = None,
    directory: DirectoryOption = None,
    any_build: AnyBuildOption = False,
    as_json: JsonOption = False,
) -> None:
    """Explain a shot: what the shooter saw, every hitbox then and now, the deciding ray, and the verdict."""

    def work() -> None:
        from tools.replay_shot import explained_shots, write_plate

        replay = _opened(file, directory, any_build=any_build)
        shots = explained_shots(replay, number=number, at=tick, player=player)
        if picture is not None:
            write_plate(shots, replay, picture)
        if as_json:
            _print_json([entry.to_dict() for entry in shots])
        else:
            typer.echo("\n\n".join("\n".join(entry.lines()) for entry in shots))

    _or_exit(work)


@app.command("bless")
def bless(
    files: Annotated[list[Path] | None, typer.Argument(help="Golden matches; else all of the project.")] = None,
    *,
    record: Annotated[bool, typer.Option("--record", help="Play the golden matches anew instead.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 after a change.")] = False,
) -> None:
    """Accept what this build does: play the golden matches and write down their new hashes, saying what changed."""

    def work() -> int:
        from tools.golden import bless_match, golden_files, record_golden

        if record:
            for path in record_golden(files or golden_files(), tell=typer.echo):
                typer.echo(f"{path.name}: recorded anew, {path.stat().st_size:,} bytes")
            return 0
        changed = False
        for path in files or golden_files():
            found = bless_match(path, write=not check)
            changed |= found.changed
            typer.echo("\n".join(f"{path.name}: {line}" for line in found.lines()))
        return DIFFERS if check and changed else 0

    _or_exit(work)
