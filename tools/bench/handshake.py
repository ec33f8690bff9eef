"""A storm of 2,000 connects a second while 500 players play: what it does to the tick.

Value and reference: 99th percentile of the tick, with and without the storm, in windows by turns (`tools.bench.rig`),
the median of the windows.
Every newcomer goes through the whole handshake, gets a slot and leaves again at once. Beside it: newcomers let in per
second, and processor time of the server for each.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tools.bench.harness import Row, row
from tools.bench.rig import Rig, Window

__all__ = ["run"]

PLAYERS, TICK_HZ = 500, 60
STORM_HZ = 2_000
WINDOW_S, TURNS = 2.0, 9


def run(_data: Sequence[Path]) -> list[Row]:
    """The storm, by turns with quiet."""
    quiet: list[Window] = []
    stormy: list[Window] = []
    with Rig(PLAYERS, tick_hz=TICK_HZ) as rig:
        begun = rig.command("report")["stormed"]
        for _ in range(TURNS):
            rig.command("storm 0")
            quiet.append(rig.window(WINDOW_S))
            rig.command(f"storm {STORM_HZ}")
            stormy.append(rig.window(WINDOW_S))
        end = rig.command("storm 0")
    joined = end["stormed"] - begun
    spent = sum(float(window.cpu_us.sum()) for window in stormy) - sum(float(window.cpu_us.sum()) for window in quiet)
    p99, p99_quiet = (
        median(float(np.percentile(window.took_us, 99)) for window in windows) for windows in (stormy, quiet)
    )
    return [
        row(f"{PLAYERS} players, tick p99", p99, reference="without the storm", reference_value=p99_quiet),
        row(f"{PLAYERS} players, newcomers let in", joined / (TURNS * WINDOW_S), unit="/s"),
        row(f"{PLAYERS} players, server CPU per newcomer", spent / max(1.0, joined)),
        row(f"{PLAYERS} players, players lost", PLAYERS - end["connected"] + end["rejoins"], unit=""),
    ]
