"""The whole server: real processes, real sockets, bots that play a match on a real map.

A server and a swarm of bots run as processes of their own. Once all bots play, the server's processor time (user and
system, from /proc) is taken over `SECONDS`, divided by players and ticks made. Beside it stand the tick's percentiles
as the server itself measures them, and the ticks that were late. With both on two cores the bots take part of the
machine, which processor time does not count.

Reference: 118 µs per player-tick, the lower end of what an open-source Quake III server takes with 32 to 64 players.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server.livereader import LiveFeedReader, LiveFrame
from tools.bench.harness import Row, row
from tools.bench.served import card_of, start_hitreg
from tools.errors import ToolsError
from tools.processes import end_processes

__all__ = ["MatchFigures", "run", "run_match"]

CASES = ((200, "openarena:oa_dm2"), (1000, "arena:240"))  # players, map
TICK_HZ = 60
SECONDS = 12.0
SETTLE_SECONDS_MAX = 120.0
REFERENCE = "Quake III server, published"
REFERENCE_US = 118.0


def _processor_s(pid: int) -> float:
    """User and system time of a process [s]."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _frame(reader: LiveFeedReader) -> LiveFrame:
    while True:
        content = reader.read(reader.newest)
        if content is not None:
            return LiveFrame.from_bytes(content)
        time.sleep(0.05)


def _settle(reader: LiveFeedReader, players: int) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while int(_frame(reader).head["metrics"]["connected"]) < players:
        if time.monotonic() > deadline:
            raise ToolsError(f"bench frame: not all of {players} bots came in {SETTLE_SECONDS_MAX:g} s")
        time.sleep(0.5)
    time.sleep(3.0)


@dataclass(frozen=True, slots=True)
class MatchFigures:
    """What a match cost, per tick and player where that makes sense."""

    cpu_us: float
    tick_p50_us: float
    tick_p99_us: float
    late: int
    ticks: int
    kbps_out: float


def run_match(map_source: str, players: int, *, seconds: float) -> MatchFigures:
    """Measure a server that plays with bots, each a process of its own.

    Args:
        map_source: As `hitreg serve --map` takes it.
        players: How many bots.
        seconds: How long it is measured, once all of them play.

    Raises:
        ToolsError: The server did not start, or not all bots came.
    """
    with tempfile.TemporaryDirectory() as recordings:
        return _measure(map_source, players, seconds=seconds, recordings=recordings)


def _measure(map_source: str, players: int, *, seconds: float, recordings: str) -> MatchFigures:
    """The same, recorded into a directory, as matches are."""
    feed = f"bench-{os.getpid()}"
    arguments = ("--no-edge", "--feed", feed, "--map", map_source, "--tick-hz", str(TICK_HZ))
    server = start_hitreg("serve", *arguments, HITREG_RECORD_DIR=recordings)
    swarm = None
    try:
        card = card_of(server, "frame")
        reader = LiveFeedReader(feed)
        swarm = start_hitreg("bots", "--count", str(players), "--card", card, "--quiet")
        _settle(reader, players)
        before, first = _processor_s(server.pid), _frame(reader)
        time.sleep(seconds)
        after, last = _processor_s(server.pid), _frame(reader)
    finally:
        end_processes(swarm, server)
    ticks = int(last.head["tick"]) - int(first.head["tick"])
    figures, start = last.head["metrics"], first.head["metrics"]
    return MatchFigures(
        cpu_us=(after - before) / (players * ticks) * 1e6,
        tick_p50_us=int(figures["tick_p50_ns"]) / 1e3,
        tick_p99_us=int(figures["tick_p99_ns"]) / 1e3,
        late=int(figures["overruns"]) - int(start["overruns"]),
        ticks=ticks,
        kbps_out=(int(figures["bytes_out"]) - int(start["bytes_out"])) / seconds / players * 8 / 1000,
    )


def _rows(players: int, map_source: str) -> list[Row]:
    found = run_match(map_source, players, seconds=SECONDS)
    return [
        row(f"{players:,} bots", found.cpu_us, reference=REFERENCE, reference_value=REFERENCE_US),
        row(f"{players:,} bots tick p50", found.tick_p50_us),
        row(f"{players:,} bots tick p99", found.tick_p99_us),
        row(f"{players:,} bots late ticks", found.late, unit=f"of {found.ticks}"),
        row(f"{players:,} bots sent to each", found.kbps_out, unit="kbit/s"),
    ]


def run(_: Sequence[Path]) -> list[Row]:
    """Measure every case."""
    return [entry for players, map_source in CASES for entry in _rows(players, map_source)]
