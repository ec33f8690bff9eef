"""50,000 hostile datagrams a second, one kind after the other, while 500 players play: what each does to the tick.

Value and reference: 99th percentile of the tick, with and without junk, in windows by turns (`tools.bench.rig`), the
median of the windows. In the windows without, the same datagrams go to a socket that nobody reads: so what is compared
is what they do to the server, and not what their sender takes of a shared machine. Beside it the server's processor
time per hostile datagram: the difference of the median ticks'. The kinds stand in
`tools.load.JUNK`: noise, empty and short datagrams, well-formed packets of strangers, forged packets from players'
own addresses, and requests with forged, expired, foreign and used tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tools.bench.harness import Row, row
from tools.bench.rig import Rig, Window
from tools.load import JUNK

__all__ = ["run"]

PLAYERS, TICK_HZ = 500, 60
JUNK_HZ = 50_000
WINDOW_S, TURNS = 2.0, 5


def _rows(kind: str, rig: Rig) -> list[Row]:
    quiet: list[Window] = []
    loud: list[Window] = []
    for _ in range(TURNS):
        rig.command(f"waste {kind} {JUNK_HZ}")
        quiet.append(rig.window(WINDOW_S))
        rig.command(f"junk {kind} {JUNK_HZ}")
        loud.append(rig.window(WINDOW_S))
    rig.command(f"junk {kind} 0")
    p99, p99_quiet = (
        median(float(np.percentile(window.took_us, 99)) for window in windows) for windows in (loud, quiet)
    )
    ticks = len(loud[0].cpu_us)
    cpu, cpu_quiet = (
        float(np.median(np.concatenate([window.cpu_us for window in windows]))) for windows in (loud, quiet)
    )
    arrived = (
        float(np.mean([window.received for window in loud]) - np.mean([window.received for window in quiet])) / ticks
    )
    return [
        row(f"{kind}, tick p99", p99, reference="without", reference_value=p99_quiet),
        row(f"{kind}, CPU per datagram", (cpu - cpu_quiet) / max(1.0, arrived)),
    ]


def run(_data: Sequence[Path]) -> list[Row]:
    """Every kind, and how many players were lost over all."""
    with Rig(PLAYERS, tick_hz=TICK_HZ) as rig:
        rows = [entry for kind in JUNK for entry in _rows(kind, rig)]
        end = rig.command("report")
    return [*rows, row("players lost", PLAYERS - end["connected"] + end["rejoins"], unit="")]
