"""Recording a match: what it takes on disk, and what it takes of the tick.

A server records while 64 bots fight on a real map through a simulated broadband network, each side a process of its
own. The size, all included (key frames, hashes, notes, index), is that of the file; reference are the inputs as they
lie in memory, 11 bytes per player and tick. The share of what a tick takes is that of the stage `record`, which the
file notes each second.

What a tick gives is measured in a scripted match in one process, in processor time, so that other programs on the
machine do not count: the mean over all ticks, key frames included, also as a share of the 16.7 ms that a tick has.
"""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgpack
import numpy as np

from persistence.recording import SUFFIX, ChunkKind, RecordingReader
from server.app import build_world
from server.config import ServerConfig
from server.event_notes import EventNotes
from server.game import load_game
from server.maps import load_geometry
from server.match import MatchHeader
from server.recorder import open_recorder
from server.recorder_notes import read_stages
from sim.snapshot import capture, state_hash
from tools.bench.harness import Row, median_us, row
from tools.bench.served import card_of, start_hitreg
from tools.errors import ToolsError
from tools.maps import open_map
from tools.processes import end_processes
from tools.script import play_script

__all__ = ["RecordingFigures", "read_figures", "run"]

PLAYERS, TICK_HZ = 64, 60
SECONDS = 60.0
SCRIPT_S = 60
SETTLE_S_MAX = 150.0
MAP = "openarena:oa_dm2"
NETWORK = "broadband"
RAW_BYTES = 11  # per player and tick: buttons, moves, yaw, pitch, weapon, rewind
CAPTURED = ((64, "arena"), (1000, "arena:240"))


@dataclass(slots=True)
class RecordingFigures:
    """What a recording says of itself.

    Attributes:
        player_hours: Time that players with a client were in it, together.
        bytes_by_kind: Of its chunks, by kind.
        file_bytes: Of all of it.
        record_us: Mean time of the stage `record` per tick.
        tick_us: Mean time of a tick.
    """

    player_hours: float = 0.0
    bytes_by_kind: dict[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    record_us: float = 0.0
    tick_us: float = 0.0


def read_figures(path: Path, *, players_min: int = 0) -> RecordingFigures:
    """What a recording says of its size and of its cost.

    Args:
        path: The recording.
        players_min: Times are taken from seconds with so many players only.
    """
    figures = RecordingFigures()
    times: list[tuple[float, float]] = []
    with RecordingReader(path) as reader:
        header = MatchHeader.from_dict(reader.header)
        figures.file_bytes = reader.size_bytes
        record = -1
        for chunk in reader.chunks:
            kind = chunk.kind.name.lower()
            figures.bytes_by_kind[kind] = figures.bytes_by_kind.get(kind, 0) + chunk.stored_bytes
            if chunk.kind is not ChunkKind.NOTES:
                continue
            notes = {note[1]: note[2] for note in msgpack.unpackb(reader.read(chunk))}
            if "begin" in notes:
                record = notes["begin"]["stages"].index("record")
            players = len(notes.get("network", {}).get("entity", b"")) // 8
            figures.player_hours += players * chunk.tick_count / header.tick_hz / 3600
            stages = read_stages(notes.get("stages", {}))
            if stages is not None and record >= 0 and players >= players_min:
                times.append((float(stages[0][record]), float(stages[0].sum())))
    if times:
        figures.record_us, figures.tick_us = (np.mean(times, axis=0) / 1e3).tolist()
    return figures


def _wait_for_file(directory: Path) -> None:
    deadline = time.monotonic() + SETTLE_S_MAX
    while not list(directory.glob(f"*{SUFFIX}")):
        if time.monotonic() > deadline:
            raise ToolsError(
                f"bench recording: no recording was begun in {SETTLE_S_MAX:g} s; are the kernels prepared?"
            )
        time.sleep(0.5)


def _record(directory: Path, *, seconds: float) -> Path:
    """Record a match of bots; the file."""
    feed = f"bench-{os.getpid()}"
    server = start_hitreg(
        "serve", "--no-edge", "--feed", feed, "--map", MAP, "--tick-hz", str(TICK_HZ), HITREG_RECORD_DIR=str(directory)
    )  # fmt: skip
    swarm = None
    try:
        card = card_of(server, "recording")
        swarm = start_hitreg(
            "bots", "--count", str(PLAYERS), "--card", card, "--network", NETWORK, "--quiet",
            HITREG_RECORD_DIR=str(directory),
        )  # fmt: skip
        _wait_for_file(directory)
        time.sleep(seconds)
    finally:
        end_processes(server, swarm)
    return max(directory.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_size)


def _tick_times(directory: Path) -> tuple[list[float], list[float]]:
    """Processor time of recording each tick of a scripted match [µs], and of those with a key frame."""
    world_map = open_map("arena")
    config = ServerConfig(tick_hz=TICK_HZ, record_dir=str(directory))
    world = build_world(config, load_game("arena"), world_map, load_geometry(world_map))
    recorder = open_recorder(config, world, unix_ns=time.time_ns)
    recorder.sources["events"] = EventNotes(world)
    times: list[float] = []
    try:
        for commands in play_script(world, players=PLAYERS, ticks=SCRIPT_S * TICK_HZ, step=world.step):
            start = time.thread_time_ns()
            recorder.record(commands)
            times.append((time.thread_time_ns() - start) / 1e3)
            if world.tick % TICK_HZ == 0:
                recorder.drain()
    finally:
        recorder.close()
    every = round(config.record_keyframe_s * TICK_HZ)
    return times[TICK_HZ:], times[every - 1 :: every]


def _tick_rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as directory:
        times, keyframes = _tick_times(Path(directory))
    mean, size = float(np.mean(times)), f"{PLAYERS} players {TICK_HZ} Hz"
    return [
        row(f"{size} of the tick's time", 100 * mean * TICK_HZ / 1e6, unit="%"),
        row(f"{size} per tick", mean),
        row(f"{size} tick with a key frame", float(np.median(keyframes))),
    ]


def _state_rows() -> list[Row]:
    rows = []
    for players, source in CAPTURED:
        world_map = open_map(source)
        world = build_world(ServerConfig(tick_hz=TICK_HZ), load_game("arena"), world_map, load_geometry(world_map))
        for _ in play_script(world, players=players, ticks=players // 4 + TICK_HZ, step=world.step):
            pass
        times = median_us({"capture": partial(capture, world), "hash": partial(state_hash, world)}, rounds=51)
        rows.append(row(f"{players:,} players capture", times["capture"]))
        rows.append(row(f"{players:,} players state hash", times["hash"]))
    return rows


def run(_: Sequence[Path]) -> list[Row]:
    """Record a match and read what it says."""
    with tempfile.TemporaryDirectory() as directory:
        path = _record(Path(directory), seconds=SECONDS)
        found = read_figures(path, players_min=PLAYERS)
    if not found.player_hours or not found.record_us:
        raise ToolsError(f"bench recording: not all of {PLAYERS} bots came; run `hitreg serve` and `hitreg bots`")
    size = f"{PLAYERS} players {TICK_HZ} Hz"
    raw = RAW_BYTES * TICK_HZ * 3600 / 1e6
    parts = [
        row(f"{size} of it {kind}", stored / found.player_hours / 1e6, unit="MB per player-hour")
        for kind, stored in sorted(found.bytes_by_kind.items())
    ]
    return [
        row(
            size, found.file_bytes / found.player_hours / 1e6, unit="MB per player-hour", reference="raw inputs",
            reference_value=raw,
        ),
        *parts,
        row(f"{size} of what a tick takes", 100 * found.record_us / found.tick_us, unit="%"),
        *_tick_rows(),
        *_state_rows(),
    ]  # fmt: skip
