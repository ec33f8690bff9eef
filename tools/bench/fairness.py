"""Fairness: whether shots hit what their players saw, and how much sooner who comes round a corner sees who waits.

`0 ms` and the others: of 100 shots by clients that aim perfectly at what they are shown (`tools.fairness`), how many
hit. Targets strafe, jump and crouch; the network is the shooters', both ways together. `rewind` is how far before its
tick a shot was judged, on average; `without rewind` the same shots, judged in the present, which is the reference.
`corner, …`: the peeker's advantage (`tools.corner`), both players at that round trip.
"""

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from net.simulator import NetworkProfile
from server.kernels import MODULES, prepare
from tools.bench.harness import Row, row
from tools.corner import open_corner
from tools.fairness import HitFigures, open_range

__all__ = ["run"]

NETWORKS = {
    "0 ms": None,
    "150 ms ± 40 ms, 5 % loss": NetworkProfile(latency_ms=75.0, spread_ms=20.0, loss=0.05),
    "150 ms, queues of 20 ms on average each way, 5 % loss": NetworkProfile(latency_ms=55.0, jitter_ms=20.0, loss=0.05),
}
ROUND_TRIPS_MS = (0, 50, 100, 150)
PAIRS, PEEKS = 8, 4
SETTLE_S, SECONDS = 7.0, 14.0
WITHOUT = "without rewind"


def _ready() -> None:
    """Load what clients need before the server seals what it uses: both are in this process."""
    prepare(modules=(*MODULES, "tools.bots"))


def _hits(name: str, *, rewinds: bool) -> HitFigures:
    _ready()
    with open_range(PAIRS, network=NETWORKS[name], rewinds=rewinds) as place:
        place.play(SETTLE_S)
        return place.measure(SECONDS)


def _advantage_ms(round_trip_ms: int) -> float:
    _ready()
    network = NetworkProfile(latency_ms=round_trip_ms / 2.0)
    with open_corner(network=network, holder_network=network) as corner:
        corner.play(SETTLE_S)
        return float(corner.peeks(PEEKS).mean())


def run(data: Sequence[Path]) -> list[Row]:
    """Hit rates on three networks, and the advantage at four round trips; each server has a process of its own."""
    del data
    rows = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for name in NETWORKS:
            seen = pool.submit(_hits, name, rewinds=True).result()
            present = pool.submit(_hits, name, rewinds=False).result()
            rows += [
                row(name, seen.percent, unit="% hits", reference=WITHOUT, reference_value=present.percent,
                    larger_is_better=True),
                row(f"{name}: rewind", seen.rewind_ms, unit="ms"),
            ]  # fmt: skip
        rows += [
            row(f"corner, {round_trip_ms} ms", pool.submit(_advantage_ms, round_trip_ms).result(), unit="ms sooner")
            for round_trip_ms in ROUND_TRIPS_MS
        ]
    return rows
