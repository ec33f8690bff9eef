"""How fast the replay page opens a long match: from the click to the first frame drawn, in headless Chromium.

The match is 30 minutes of 64 players, simulated once without sockets (two minutes or so, which it tells of) and kept in
the cache directory until the simulation's sources change; `--data FILE` takes another recording. Its page is opened by
the real edge with real workers, so that a jump goes to a key frame and simulates from there, at most 10 s of the match.
"""

import contextlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.app import build_world
from server.config import ServerConfig
from server.event_notes import EventNotes
from server.game import load_game
from server.maps import load_geometry, load_map
from server.match import kernel_digest
from server.recorder import open_recorder
from server.recorder_notes import NETWORK_COLUMNS
from sim.arrays import AnyArray
from sim.jit import cache_root
from sim.plugin import GameSpec
from sim.world import World
from tools.bench.harness import Row, row
from tools.bench.long_match import MINUTES
from tools.errors import ToolsError
from tools.processes import end_processes
from tools.script import play_script

__all__ = ["run"]

PLAYERS = 64
GAME = "tools.bench.long_match:thirty_minutes"
CASE = "64 players 30 min"
GOAL_MS = 3000.0
OPENINGS = 5
JUMPS = 15
WAIT_S = 180.0
READY_MS = 1500  # a worker that has been asked for works by then
REST_MS = 600
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-sync")


class _Connections:
    """Connections for everybody, since nobody has one here: so the notes are as large as in a real match."""

    def __init__(self, world: World) -> None:
        self._world = world

    def take(self) -> None:
        """Nothing happens between notes."""

    def note(self) -> dict[str, Any]:
        """Figures of everybody who is there."""
        table, tick = self._world.players, self._world.tick
        slots = table.live_slots
        figures: dict[str, AnyArray] = {name: np.zeros(len(slots)) for name in NETWORK_COLUMNS}
        figures["entity"] = table.ids[slots]
        figures["rtt_ms"] = 20 + (slots * 7 + tick) % 90
        figures["kbps_out"] = 150 + (slots + tick) % 60
        return {name: figures[name].astype(dtype).tobytes() for name, dtype in NETWORK_COLUMNS.items()}


def _tell(text: str) -> None:
    """Progress goes to standard error: a benchmark that says nothing for minutes is taken for stuck."""
    sys.stderr.write(f"bench replaypage: {text}\n")
    sys.stderr.flush()


def _make_match(directory: Path) -> Path:
    """Simulate and record the match, or find it from before; those of other builds are removed."""
    game = load_game(GAME)
    kept = directory / f"{kernel_digest(game)}-{GAME.replace(':', '.')}-{PLAYERS}"
    found = sorted(kept.glob("*.hitrec"))
    if found:
        return found[0]
    for other in directory.iterdir():
        shutil.rmtree(other, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=directory) as made:
        _play(game, Path(made))
        Path(made).rename(kept)
        Path(made).mkdir()  # for the end of the `with`
    return sorted(kept.glob("*.hitrec"))[0]


def _play(game: GameSpec, making: Path) -> None:
    _tell(f"playing {MINUTES} minutes of {PLAYERS} players, once for this build; kernels may have to be compiled first")
    config = ServerConfig(record_dir=str(making), game=GAME)
    world_map = load_map(config.map)
    world = build_world(config, game, world_map, load_geometry(world_map))
    with contextlib.closing(open_recorder(config, world, unix_ns=time.time_ns)) as recorder:
        recorder.sources |= {"events": EventNotes(world), "network": _Connections(world)}
        ticks, minute = MINUTES * 60 * config.tick_hz, 60 * config.tick_hz
        for commands in play_script(world, players=PLAYERS, ticks=ticks, step=world.step):
            recorder.record(commands)
            if world.tick % config.tick_hz == 0:
                recorder.drain()  # the match is made faster than its writer is meant to write
            if world.tick % (5 * minute) == 0:
                _tell(f"played {world.tick // minute} of {MINUTES} minutes")


@dataclass(frozen=True, slots=True)
class _Edge:
    """A running edge: its address, which ends with a slash, and its process."""

    url: str
    process: int


@contextlib.contextmanager
def _running_edge(directory: Path) -> Iterator[_Edge]:
    """An edge that shows the recordings of a directory."""
    command = [sys.executable, "-m", "server.edge", "--feed", "bench", "--port", "0", "--record-dir", str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield _Edge(process.stdout.readline().split()[1], process.pid)
        finally:
            end_processes(process)


@contextlib.contextmanager
def _page() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise ToolsError("bench replaypage: needs playwright; install the development requirements") from error
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise ToolsError("bench replaypage: Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(WAIT_S * 1000)
        yield page
        browser.close()


def _until(page: Any, condition: str) -> None:
    """Wait for a condition on the page, which its own policy lets nobody evaluate as text inside it."""
    deadline = time.monotonic() + WAIT_S
    while not page.evaluate(condition):
        if time.monotonic() > deadline:
            raise ToolsError(f"bench replaypage: the page does not get to {condition}")
        page.wait_for_timeout(5)


def _work_of_children(process: int) -> int:
    """Processor time that the children of a process have used so far, in the system's ticks."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) * (int(fields[1]) == process)
    return total


def _warm(page: Any, edge: _Edge) -> None:
    """The list, looked at until a worker has loaded its kernels: until the edge's children rest."""
    page.goto(f"{edge.url}replays")
    _until(page, "document.querySelectorAll('[data-testid=recording]').length > 0")
    page.wait_for_timeout(READY_MS)
    before = -1
    while (now := _work_of_children(edge.process)) != before:
        before = now
        page.wait_for_timeout(REST_MS)


def _open(page: Any, edge: _Edge) -> tuple[float, float]:
    """From the click to the first frame, and to the first frame with the map [ms]."""
    _warm(page, edge)
    page.locator("[data-testid=recording] a").first.click()
    _until(page, "hitreg.openMs !== null && hitreg.meshMs !== null")
    opened, drawn = page.evaluate("[hitreg.openMs, hitreg.meshMs]")
    return float(opened), float(drawn)


def _jumps(page: Any) -> list[float]:
    """Time from asking for a moment to seeing it [ms], all over the match that is open."""
    _until(page, "hitreg.index !== null")
    first, last = page.evaluate("[hitreg.first, hitreg.last]")
    times = []
    for number in range(JUMPS):
        tick = first + (number * 7919 + 3571) * 7 % (last - first)
        script = """(tick) => new Promise((done) => {
          const start = performance.now();
          hitreg.go(tick);
          const look = () => (hitreg.tick === tick ? done(performance.now() - start) : requestAnimationFrame(look));
          look();
        })"""
        times.append(float(page.evaluate(script, tick)))
    return times


def _cold(url: str) -> float:
    """From asking for the address of a moment in the middle to its first frame, worker's start included [ms]."""
    with _page() as page:
        page.goto(url)
        _until(page, "hitreg.openMs !== null")
        return float(page.evaluate("hitreg.firstMs"))


def run(data: Sequence[Path]) -> list[Row]:
    """Open, and jump about.

    Args:
        data: A recording, or nothing for the 30-minute match.

    Raises:
        ToolsError: There is no browser.
    """
    with _page():
        pass  # before minutes are spent on the match
    place = cache_root().parent / "bench-replaypage"
    place.mkdir(parents=True, exist_ok=True)
    path = data[0] if data else _make_match(place)
    case = CASE if not data else path.name
    with tempfile.TemporaryDirectory() as shown, _running_edge(Path(shown)) as edge:
        copy = Path(shown) / path.name
        shutil.copy(path, copy)
        _tell("opening its page, again and again")
        middle = f"{edge.url}replays?file={path.name}&tick={MINUTES * 60 * 30}"
        _cold(middle)  # kernels are compiled once, and the system's caches filled
        cold = statistics.median(_cold(middle) for _ in range(OPENINGS))
        with _page() as page:
            opened = [_open(page, edge) for _ in range(OPENINGS)]
            warm, drawn = (statistics.median(times) for times in zip(*opened, strict=True))
            jumps = _jumps(page)
    return [
        _against_goal(f"{case}, click to first frame", warm),
        _against_goal(f"{case}, click to first frame with the map", drawn),
        _against_goal(f"{case}, link to its middle, no worker ready", cold),
        row(f"{case}, jump to a moment, median", statistics.median(jumps), unit="ms"),
        row(f"{case}, jump to a moment, slowest of {JUMPS}", max(jumps), unit="ms"),
    ]


def _against_goal(case: str, value: float) -> Row:
    return row(case, value, unit="ms", reference="3 s", reference_value=GOAL_MS)
