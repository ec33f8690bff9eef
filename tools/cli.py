"""The `hitreg` command. Wrong input ends with one line on stderr and exit code 2."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from net.errors import NetError
from net.simulator import PROFILES
from server.errors import ServerError
from sim.errors import SimError
from tools.dictionary import app as dictionary_app
from tools.errors import ToolsError
from tools.maps import OPENARENA
from tools.maps import app as map_app
from tools.netem import netem
from tools.openarena import map_path
from tools.processes import end_processes
from tools.replay import app as replay_app
from tools.token import app as token_app

__all__ = ["app", "main"]

ResultT = TypeVar("ResultT")

app = typer.Typer(help="An authoritative FPS and MMO simulation server.", no_args_is_help=True, add_completion=False)
app.add_typer(dictionary_app, name="dictionary")
app.add_typer(map_app, name="map")
app.add_typer(replay_app, name="replay")
app.add_typer(token_app, name="token")

# Typer carries a copy of click within itself; the base of its errors is reached through the one that typer exports.
CLICK_ERROR: type[Exception] = typer.BadParameter.__mro__[2]
CODE_INTERRUPTED = 130
BOTS_DEFAULT = 24
BOT_MODULES = ("tools.bots",)  # what else holds kernels
BOTS_STOP_S = 10.0
ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings (docs/config.md).")]
GameOption = Annotated[str | None, typer.Option(help="An installed game, or package.module:function.")]
MapOption = Annotated[str | None, typer.Option("--map", help="arena, openarena:NAME, or a map file.")]
TickOption = Annotated[int | None, typer.Option(help="Ticks per second, 20 to 128.")]
PortOption = Annotated[int | None, typer.Option(help="UDP port of the game; 0 for any free one.")]
EdgePortOption = Annotated[int | None, typer.Option(help="TCP port of the page; 0 for any free one.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of every random stream.")]
FeedOption = Annotated[
    str | None, typer.Option(help="Name of the live feed; servers on one machine need different ones.")
]
SecondsOption = Annotated[float | None, typer.Option(help="Stop after so long; without it, on Ctrl-C.")]


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"hitreg: {' '.join(str(error).split())}", err=True)
    return typer.Exit(2)


def _checked(work: Callable[[], ResultT]) -> ResultT:
    """The result of `work`, or one line and exit code 2."""
    try:
        return work()
    except (ServerError, NetError, SimError, ToolsError) as error:
        raise _fail(error) from error


def _make_server(file: Path | None, overrides: dict[str, Any]) -> Any:
    """A server that is ready to run, with a bar while kernels are compiled. OpenArena's maps are found by name."""
    from server.app import Server
    from server.config import load_config

    config = load_config(file, overrides)
    if config.map.startswith(OPENARENA):
        config = config.model_copy(update={"map": str(map_path(config.map.removeprefix(OPENARENA)))})
    with _progress() as tell:
        return Server(config, progress=tell)


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """A bar on a terminal while kernels are compiled or loaded."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    console = Console(stderr=True)
    plain = not console.is_terminal  # an empty bar would leave an empty line there
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True, disable=plain) as bar:
        task = bar.add_task("preparing kernels", total=None)

        def tell(done: int, total: int, name: str) -> None:
            bar.update(task, completed=done, total=total, description=f"preparing kernels: {name.rpartition('.')[2]}")

        yield tell


def _stop_on_signals(server: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())


@app.command()
def serve(
    config: ConfigOption = None,
    game: GameOption = None,
    map_source: MapOption = None,
    tick_hz: TickOption = None,
    port: PortOption = None,
    seed: SeedOption = None,
    feed: FeedOption = None,
    edge: Annotated[bool, typer.Option("--edge/--no-edge", help="Serve the page too.")] = True,
    edge_port: EdgePortOption = None,
    seconds: SecondsOption = None,
) -> None:
    """Run a zone server, with its page, until Ctrl-C."""

    def start() -> Any:
        given = {"game": game, "map": map_source, "tick_hz": tick_hz, "port": port, "seed": seed, "feed": feed}
        return _make_server(config, given | {"edge_port": edge_port})

    server = _checked(start)
    with server:
        _stop_on_signals(server)
        if edge:
            typer.echo(f"watch:  {_checked(server.start_edge)}")
        typer.echo(f"game:   {server.card.address} (UDP)")
        typer.echo(f"card:   {server.card_file}")
        server.run(ticks=None if seconds is None else max(1, round(seconds * server.config.tick_hz)))
        _tell_end(server)


def _tell_end(server: Any) -> None:
    stats = server.loop.stats
    typer.echo(f"made {stats.ticks} ticks, {stats.overruns} late, {stats.skipped} given up")


@app.command()
def run(
    config: ConfigOption = None,
    game: GameOption = None,
    map_source: MapOption = None,
    bots: Annotated[int, typer.Option(min=0, max=1000, help="How many bots play.")] = BOTS_DEFAULT,
    tick_hz: TickOption = None,
    seed: SeedOption = None,
    feed: FeedOption = None,
    edge_port: EdgePortOption = None,
    seconds: SecondsOption = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Run a server with bots and print the address of the page to watch."""

    def start() -> Any:
        given = {"game": game, "map": map_source, "tick_hz": tick_hz, "seed": seed, "feed": feed}
        return _make_server(config, given | {"edge_port": edge_port})

    server = _checked(start)
    with server:
        _stop_on_signals(server)
        address = _checked(server.start_edge)
        swarm = _start_bots(server.card_file, bots)
        typer.echo(f"watch the match: {address}")
        if open_page:
            webbrowser.open(address)
        try:
            server.run(ticks=None if seconds is None else max(1, round(seconds * server.config.tick_hz)))
        finally:
            end_processes(swarm, within_s=BOTS_STOP_S)
        _tell_end(server)


def _start_bots(card: Path, count: int) -> "subprocess.Popen[bytes] | None":
    """Bots in a process of their own, so that they play from outside as anybody would."""
    if count == 0:
        return None
    command = [sys.executable, "-m", "tools.cli", "bots", "--count", str(count), "--card", str(card), "--quiet"]
    # A session of their own: Ctrl-C reaches the server alone, which then stops them in order.
    return subprocess.Popen([*command, "--parent-pid", str(os.getpid())], start_new_session=True)


@app.command()
def bots(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = BOTS_DEFAULT,
    card: Annotated[Path | None, typer.Option(help="The server's card, as `hitreg serve` prints it.")] = None,
    feed: Annotated[str, typer.Option(help="Name of the feed of the server to join.")] = "main",
    seconds: SecondsOption = None,
    seed: Annotated[int, typer.Option(help="Seed of what the bots do.")] = 1,
    network: Annotated[
        str, typer.Option(help="Play through a bad network: broadband, wifi, bad-wifi, mobile, satellite, …")
    ] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing while they play.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the statistics as JSON at the end.")] = False,
    parent_pid: Annotated[int, typer.Option(hidden=True, help="Stop when this is no longer the parent.")] = 0,
) -> None:
    """Let bots join a running server over UDP and play."""
    stopping: list[int] = []

    def stopped() -> bool:
        return bool(stopping) or (parent_pid != 0 and os.getppid() != parent_pid)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: stopping.append(caught))
    from server.tickets import card_path
    from tools.bots import run_bots

    path = card or card_path(feed)
    echo = (lambda _: None) if quiet else typer.echo
    _checked(
        lambda: run_bots(
            path,
            count,
            seconds=seconds or 0.0,
            seed=seed,
            network=network,
            json_output=as_json,
            echo=echo,
            stopped=stopped,
        )
    )


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="Which benchmark; `all` for every one, `list` for their names.")],
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the rows as JSON to a file; - for stdout.")
    ] = None,
    data: Annotated[
        list[Path] | None, typer.Option("--data", help="Data files, for benchmarks that take them.")
    ] = None,
) -> None:
    """Measure something against its reference, and print a table."""
    from tools.bench.runner import bench_names, run_bench

    if name == "list":
        typer.echo("\n".join(bench_names()))
        return

    def measure() -> list[dict[str, Any]]:
        found = []
        for each in bench_names() if name == "all" else [name]:
            found.append(run_bench(each, data or []))
            if json_file != "-":
                _print_rows(found[-1])
        return found

    to_file = json_file is not None and json_file != "-"
    if to_file:
        _checked(lambda: _writable(Path(str(json_file))))
    documents = _checked(measure)
    text = json.dumps(documents[0] if len(documents) == 1 else documents, ensure_ascii=False, indent=1)
    if to_file:
        Path(str(json_file)).write_text(text + "\n", encoding="utf-8")
    elif json_file is not None:
        typer.echo(text)


def _writable(path: Path) -> None:
    """Make sure that a file can be written before the work that fills it.

    Raises:
        ToolsError: It cannot.
    """
    try:
        path.open("a").close()
    except OSError as error:
        raise ToolsError(f"--json {path}: {error.strerror}; give a file in a directory you may write") from error


def _print_rows(document: dict[str, Any]) -> None:
    table = Table(title=f"bench {document['bench']} — {document['machine']['cpu']}")
    for column in ("case", "value", "unit", "reference", "reference value", "ratio"):
        left = column in {"case", "unit", "reference"}
        table.add_column(column, justify="left" if left else "right", no_wrap=True)
    for entry in document["rows"]:
        reference = "" if entry["reference_value"] is None else f"{entry['reference_value']:.2f}"
        ratio = "" if entry["ratio"] is None else f"{entry['ratio']:.2f}×"
        table.add_row(entry["case"], f"{entry['value']:.2f}", entry["unit"], entry["reference"], reference, ratio)
    # Off a terminal the table is as wide as it needs to be, so that a log keeps whole lines.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


@app.command("netem")
def in_bad_network(
    profile: Annotated[str, typer.Argument(help=f"One of {', '.join(PROFILES)}.")],
    command: Annotated[list[str], typer.Argument(help="What to run, behind --.")],
) -> None:
    """Run a command in a network namespace of its own, whose loopback is a bad network."""
    raise typer.Exit(_checked(lambda: netem(profile, command)))


@app.command("hash")
def state_hash_of_script(
    map_source: Annotated[str, typer.Option("--map", help="arena, openarena:NAME, or a map file.")] = "arena",
    game: Annotated[str, typer.Option(help="An installed game, or package.module:function.")] = "arena",
    ticks: Annotated[int, typer.Option(min=1, help="How long.")] = 300,
    players: Annotated[int, typer.Option(min=0, help="How many.")] = 32,
    tick_hz: Annotated[int, typer.Option(help="Ticks per second.")] = 60,
    seed: Annotated[int, typer.Option(help="Seed of the world.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads for kernels; the hash never depends on it.")] = 1,
) -> None:
    """Play a scripted match without a network and print the state hash of its end."""
    from server.config import load_config
    from server.game import load_game
    from server.maps import load_geometry
    from sim.jit import set_threads
    from sim.snapshot import state_hash
    from tools.maps import open_map
    from tools.script import play_script

    def play() -> str:
        from server.app import build_world

        config = load_config(None, {"game": game, "tick_hz": tick_hz, "seed": seed, "threads": threads})
        world_map = open_map(map_source)
        world = build_world(config, load_game(game), world_map, load_geometry(world_map))
        try:
            set_threads(config.threads)
        except ValueError as error:
            raise ToolsError(f"--threads {threads}: {error}; choose 1 to {os.cpu_count()}") from error
        for _ in play_script(world, players=players, ticks=ticks, step=world.step):
            pass
        return f"{state_hash(world):016x}"

    typer.echo(_checked(play))


@app.command("prepare")
def prepare_kernels() -> None:
    """Compile all kernels now, on every core, so that the next start finds them in the cache."""
    import time

    from server.kernels import MODULES, prepare

    start = time.monotonic()
    with _progress() as tell:
        compiled = prepare(tell, (*MODULES, *BOT_MODULES))
    typer.echo(f"{compiled} kernels compiled in {time.monotonic() - start:.0f} s")


@app.command()
def doctor() -> None:
    """Say what this machine lacks, and how to mend it; exit code 1 if something needed is missing."""
    from tools.doctor import examine

    findings = examine()
    table = Table("what", "state", "remedy")
    for finding in findings:
        mark = "ok" if finding.ok else ("missing" if finding.needed else "optional")
        table.add_row(finding.what, f"{mark}: {finding.detail}", "" if finding.ok else finding.remedy)
    Console().print(table)
    if any(finding.needed and not finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command("fuzz")
def fuzz_command(
    packets: Annotated[int, typer.Option(min=1, help="How many mangled packets.")] = 10_000_000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed mangles the same way.")] = 1,
    seconds: SecondsOption = None,
) -> None:
    """Flood a server core with mangled packets, and check that nothing gives."""
    from tools.fuzz import fuzz

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("mangled packets", total=packets)
        report = _checked(
            lambda: fuzz(
                packets=packets,
                seed=seed,
                seconds_max=seconds or float("inf"),
                progress=lambda done: bar.update(task, completed=done),
            )
        )
    table = Table("what became of them", "count")
    table.columns[1].justify = "right"
    for name, count in report.counts.items():
        table.add_row(name, f"{count:,}")
    Console().print(table)
    replies, reply_bytes = report.replies
    typer.echo(f"{report.packets:,} packets, {report.us_per_packet:.2f} µs each; seed {seed}")
    typer.echo(f"{replies:,} replies to the unauthenticated, {reply_bytes:,} bytes")
    typer.echo(f"{report.genuine:,} messages of genuine clients, all of them in order")


@app.command("protocol")
def show_protocol(
    config: ConfigOption = None,
    game: GameOption = None,
    world_map: MapOption = None,
    tick_hz: TickOption = None,
    feed: Annotated[str | None, typer.Option(help="Compare with the running server of this feed.")] = None,
    *,
    text: Annotated[bool, typer.Option("--text", help="Print the text that the id is the digest of.")] = False,
) -> None:
    """Print the protocol id of a game on a map, what it is made of, and what differs from a running server."""
    overrides = {"game": game, "map": world_map, "tick_hz": tick_hz}
    _checked(lambda: _tell_protocol(config, overrides, feed=feed, text=text))


def _tell_protocol(config: Path | None, overrides: dict[str, Any], *, feed: str | None, text: bool) -> None:
    from server.config import load_config
    from server.game import load_game
    from server.maps import load_map
    from server.tickets import (
        card_path,
        describe_protocol,
        explain_mismatch,
        part_digests,
        protocol_id,
        protocol_parts,
        read_card,
    )

    card = read_card(card_path(feed)) if feed else None
    settings = load_config(config, overrides)
    name = settings.map
    source = str(map_path(name.removeprefix(OPENARENA))) if name.startswith(OPENARENA) else name
    game, map_hash = load_game(settings.game), load_map(source).content_hash()
    parts = protocol_parts(game, tick_hz=settings.tick_hz, map_hash=map_hash)
    if text:
        typer.echo(describe_protocol(parts), nl=False)
        return
    own = protocol_id(game, tick_hz=settings.tick_hz, map_hash=map_hash)
    typer.echo(f"protocol id: {own:#018x}")
    for part, digest in part_digests(parts).items():
        typer.echo(f"{part}: {digest}")
    if card is not None:
        told = explain_mismatch(card, part_digests(parts)) or "the same as here"
        typer.echo(f"server at {card.address}, {card.protocol_id:#018x}: {told}")


@app.command("config")
def show_config(config: ConfigOption = None) -> None:
    """Print the settings in force, as TOML, with what each means."""
    from server.config import ServerConfig, load_config

    settings = _checked(lambda: load_config(config))
    for name, field in ServerConfig.model_fields.items():
        value = getattr(settings, name)
        typer.echo(f"{name} = {json.dumps(value)}  # {field.description}")


def main() -> None:
    """Entry point of the `hitreg` command; a wrong option is one line, too."""
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(2, len(os.sched_getaffinity(0)))))
    try:
        code = app(prog_name="hitreg", standalone_mode=False)
    except typer.Abort:
        code = CODE_INTERRUPTED
    except CLICK_ERROR as error:
        code = _tell_usage(error)
    sys.exit(code if isinstance(code, int) else 0)


def _tell_usage(error: Any) -> int:
    """Print what is wrong with an option as one line, or the help where nothing was asked for; the exit code."""
    context = getattr(error, "ctx", None)
    where = "hitreg" if context is None else context.command_path
    text = error.format_message()
    if type(error).__name__ != "NoArgsIsHelpError":
        text = f"{where}: {' '.join(text.split())} (see {where} --help)"
    typer.echo(text, err=True)
    return 2


if __name__ == "__main__":
    main()
