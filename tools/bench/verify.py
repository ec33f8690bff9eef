"""Verifying a recording against real time: a match of 64 bots at 60 Hz, on one core.

The match is recorded by a real server beforehand. What is measured is all that `hitreg replay verify` does for a tick:
decode its commands, make it, hash the state, compare. The time of a tick is the least of several passes over the match,
since other work on the machine only ever adds.
"""

import gc
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from server.kernels import prepare
from server.replay import Replay
from sim.jit import set_threads
from tools.bench.harness import Row, row
from tools.errors import ToolsError
from tools.golden_record import BotParty, record_apart
from tools.maps import open_map

__all__ = ["run"]

PLAYERS = 64
SECONDS = 30.0
WARM_S = 5
PASSES = 5
MODULES = ("sim.games.arena",)
MAPS = ("arena", "openarena:oa_dm2")


def _ticks(replay: Replay) -> list[float]:
    """Time that each tick of the match takes to verify [s], once all players are in."""
    replay.seek(replay.first_tick + WARM_S * replay.header.tick_hz)
    times = []
    while replay.tick < replay.last_tick:
        begun = time.perf_counter()
        replay.step()
        same = replay.expected_hash == replay.actual_hash
        times.append(time.perf_counter() - begun)
        if not same:
            raise ToolsError(f"bench verify: tick {replay.tick} did not come out again")
    return times


def _measure(path: Path) -> tuple[float, float]:
    """How many times faster than real time, and microseconds a tick."""
    replay = Replay.open(path, load=open_map)
    gc.disable()
    try:
        passes = [_ticks(replay) for _ in range(PASSES)]
    finally:
        gc.enable()
    mean = sum(min(times) for times in zip(*passes, strict=True)) / len(passes[0])
    return 1.0 / (mean * replay.header.tick_hz), mean * 1e6


def run(data: Sequence[Path]) -> list[Row]:
    """Rows for a match on the built-in arena and on a real map, or for the recordings given."""
    prepare(modules=MODULES)
    set_threads(1)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        recorded = [(path.name, path) for path in data]
        for number, source in enumerate(() if data else MAPS):
            home = Path(scratch) / str(number)
            home.mkdir()
            parties = [BotParty(PLAYERS, network="broadband")]
            recorded.append(
                (f"64 players 60 Hz, {source}", record_apart(home, map_source=source, parties=parties, seconds=SECONDS))
            )
        for case, path in recorded:
            times, tick_us = _measure(path)
            rows.append(
                row(case, times, unit="× real time", reference="real time", reference_value=1.0, larger_is_better=True)
            )
            rows.append(row(f"{case}: a tick", tick_us))
    return rows
