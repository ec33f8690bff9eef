"""`replicate`: snapshots for many clients, records shared among them, against encoding every record per client.

The crowd walks about a square so large that each client is told of about 64 entities within 30 m. Acknowledgements
come six ticks late, as over a round trip of 100 ms at 60 Hz. A row is the processor time of `refresh` and `encode`
together per client-snapshot (not the clock's: a tick of milliseconds is longer than a slice of a busy machine). The
reference is the same work with the cache of records switched off, so that each client's records are encoded anew.
Further rows say how large a snapshot is and what its parts cost.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

from net.snapshots import FieldSpec, FieldTable
from server.replication import Replication, ReplicationLimits
from sim.arrays import F64, U64
from tools.bench.harness import Row, row

__all__ = ["run"]

TICK_HZ = 60
LATE_TICKS = 6
WARM_TICKS = 40
MEASURED_TICKS = 120
CROWD = (200, 1000)
RANGE_M = 30.0
RELEVANT = 64


def crowd_table() -> FieldTable:
    """The fields of a player in a shooter."""
    motion = [FieldSpec(f"position.{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"]
    motion += [FieldSpec(f"velocity.{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    others = [("yaw", 16), ("pitch", 16), ("health", 10), ("weapon", 4), ("flags", 8), ("team", 3)]
    return FieldTable([*motion, *(FieldSpec(name, bits, signed=False) for name, bits in others)], tick_hz=TICK_HZ)


class Crowd:
    """Seeded walkers: a new direction now and then, a turn of the head at every tick, a wound at times."""

    def __init__(self, count: int) -> None:
        self.random = np.random.default_rng(3)
        self.side_m = float(np.sqrt(count / (RELEVANT / (np.pi * RANGE_M**2))))
        self.position: F64 = self.random.uniform(0.0, self.side_m, (count, 3))
        self.position[:, 2] = 0.0
        self.velocity: F64 = np.zeros((count, 3))
        self.ids: U64 = np.arange(count, dtype=np.uint64) | np.uint64(1 << 24)

    def step(self, server: Replication, tick: int) -> None:
        """Move, and commit the quantised state."""
        count = len(self.ids)
        turning = self.random.random(count) < 0.05
        heading = self.random.uniform(0.0, 2 * np.pi, count)
        self.velocity[turning, 0] = 8.0 * np.cos(heading[turning])
        self.velocity[turning, 1] = 8.0 * np.sin(heading[turning])
        self.position += self.velocity / TICK_HZ
        outside = (self.position < 0.0) | (self.position > self.side_m)
        self.velocity[outside] *= -1.0
        server.quantise_vectors("position.x", self.position)
        server.quantise_vectors("velocity.x", self.velocity)
        server.fields[:, 6] = (server.fields[:, 6] + self.random.integers(-300, 300, count)) & 0xFFFF
        wounded = self.random.random(count) < 0.01
        server.fields[wounded, 8] = self.random.integers(0, 200, int(wounded.sum()))
        server.commit(tick, self.ids)


class Match:
    """A server with as many clients as walkers, each following its own."""

    def __init__(self, count: int, *, shared: bool) -> None:
        limits = ReplicationLimits(
            relevant=RELEVANT, range_enter_m=RANGE_M, range_exit_m=RANGE_M * 1.1, interval_ticks=2
        )
        self.server = Replication(crowd_table(), clients=count, entities=count, limits=limits, share_records=shared)
        self.crowd = Crowd(count)
        for client in range(count):
            self.server.join(client, own_id=int(self.crowd.ids[client]))
        self.flying: list[
            tuple[int, np.ndarray[tuple[int], np.dtype[np.intp]], np.ndarray[tuple[int], np.dtype[np.uint8]]]
        ] = []
        self.us: dict[str, list[float]] = {"refresh": [], "encode": [], "acknowledge": []}

    def tick(self, tick: int) -> None:
        """One tick; its stages are timed."""
        server = self.server
        self.crowd.step(server, tick)
        server.view[:] = self.crowd.position
        start = time.thread_time_ns()
        while self.flying and self.flying[0][0] <= tick:
            _, due, heads = self.flying.pop(0)
            sequence = heads[:, 2].astype(np.int32) | heads[:, 3].astype(np.int32) << 8
            server.acknowledge(due.astype(np.int32), sequence, np.full(len(due), 0xFFFFFFFF, np.uint32))
        acknowledged = time.thread_time_ns()
        server.refresh(tick, self.crowd.position)
        refreshed = time.thread_time_ns()
        written = server.encode(tick)
        encoded = time.thread_time_ns()
        due = np.flatnonzero(server.length)
        self.flying.append((tick + LATE_TICKS, due, server.payload[due, :16]))
        for name, value in zip(
            self.us, (refreshed - acknowledged, encoded - refreshed, acknowledged - start), strict=True
        ):
            self.us[name].append(value / 1e3 / max(written, 1))


def measure(count: int) -> list[Row]:
    """The rows of one crowd; the two ways take turns tick by tick."""
    shared, alone = Match(count, shared=True), Match(count, shared=False)
    for tick in range(1, WARM_TICKS + MEASURED_TICKS + 1):
        if tick == WARM_TICKS + 1:
            before = shared.server.counts()
            for match in (shared, alone):
                for values in match.us.values():
                    values.clear()
        shared.tick(tick)
        alone.tick(tick)
    after = shared.server.counts()
    counted = {name: after[name] - before[name] for name in after}
    ours, theirs = (sum(median(match.us[name]) for name in ("refresh", "encode")) for match in (shared, alone))
    label = f"{count:,} clients"
    rows = [row(label, ours, reference="encoding per client", reference_value=theirs)]
    rows += [row(f"{label}, {name}", median(values)) for name, values in shared.us.items()]
    per_snapshot = (
        ("bytes a snapshot", "payload_bytes", "B"),
        ("records a snapshot", "records_sent", "records"),
        ("encoded a snapshot", "records_encoded", "records"),
    )
    rows += [
        row(f"{label}, {name}", counted[key] / counted["snapshots"], unit=unit) for name, key, unit in per_snapshot
    ]
    return rows


def run(_data: Sequence[Path]) -> list[Row]:
    """Measure each crowd."""
    return [entry for count in CROWD for entry in measure(count)]
