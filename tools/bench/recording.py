"""Recording a match: what it takes on disk, and what it takes of the tick.

A server records while 64 bots fight on a real map through a simulated broadband network, each side a process of its
own. All figures come from the recording itself: its size, all included (key frames, hashes, notes, index), and the
times of the stage `record`, which it notes each second. Reference for the size: the inputs as they lie in memory, 11
bytes per player and tick. The stage is given as a share of the time that a tick has, and of the time that the tick
took; `key frame` is the longest time of the stage in seconds with a key frame, and the capture alone is measured at
two sizes of a scripted match.
"""

import os
import re
import signal
import subprocess
import sys
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
from server.game import load_game
from server.maps import load_geometry
from server.match import MatchHeader
from server.recorder_notes import read_stages
from sim.snapshot import capture, state_hash
from tools.bench.harness import Row, median_us, row
from tools.errors import ToolsError
from tools.maps import open_map
from tools.script import play_script

__all__ = ["RecordingFigures", "read_figures", "run"]

PLAYERS, TICK_HZ = 64, 60
SECONDS = 60.0
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
        keyframe_us: Longest time of the stage in each second with a key frame.
    """

    player_hours: float = 0.0
    bytes_by_kind: dict[str, int] = field(default_factory=dict)
    file_bytes: int = 0
    record_us: float = 0.0
    tick_us: float = 0.0
    keyframe_us: list[float] = field(default_factory=list)


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
        keyframes = {chunk.first_tick for chunk in reader.of_kind(ChunkKind.KEYFRAME)}
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
                # The stage is noted before it ends: a key frame's time is in the second after it.
                if chunk.first_tick - 1 in keyframes:
                    figures.keyframe_us.append(float(stages[1][record]) / 1e3)
    if times:
        figures.record_us, figures.tick_us = (np.mean(times, axis=0) / 1e3).tolist()
    return figures


def _start(*arguments: str, directory: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tools.cli", *arguments]
    environment = {**os.environ, "HITREG_RECORD_DIR": str(directory)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)


def _card(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:
        found = re.match(r"card:\s+(\S+)", line)
        if found:
            return found[1]
    raise ToolsError("bench recording: the server did not start; run `hitreg serve` to see why")


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
    server = _start(
        "serve", "--no-edge", "--feed", feed, "--map", MAP, "--tick-hz", str(TICK_HZ), directory=directory
    )  # fmt: skip
    swarm = None
    try:
        card = _card(server)
        swarm = _start(
            "bots", "--count", str(PLAYERS), "--card", card, "--network", NETWORK, "--quiet", directory=directory
        )  # fmt: skip
        _wait_for_file(directory)
        time.sleep(seconds)
    finally:
        for process in (server, swarm):
            if process is not None:
                process.send_signal(signal.SIGTERM)
                process.wait(30.0)
    return max(directory.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_size)


def _capture_rows() -> list[Row]:
    rows = []
    for players, source in CAPTURED:
        world_map = open_map(source)
        config = ServerConfig(tick_hz=TICK_HZ)
        world = build_world(config, load_game("arena"), world_map, load_geometry(world_map))
        for _ in play_script(world, players=players, ticks=players // 4 + TICK_HZ, step=world.step):
            pass
        times = median_us({"capture": partial(capture, world), "hash": partial(state_hash, world)}, rounds=51)
        rows.append(row(f"{players:,} players capture of a key frame", times["capture"]))
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
    budget_us = 1e6 / TICK_HZ
    return [
        row(
            size, found.file_bytes / found.player_hours / 1e6, unit="MB per player-hour", reference="raw inputs",
            reference_value=raw,
        ),
        *parts,
        row(f"{size} of the tick's time", 100 * found.record_us / budget_us, unit="%"),
        row(f"{size} of what the tick takes", 100 * found.record_us / found.tick_us, unit="%"),
        row(f"{size} per tick", found.record_us),
        row(f"{size} longest with a key frame", float(np.median(found.keyframe_us or [0.0]))),
        *_capture_rows(),
    ]  # fmt: skip
