"""What a recording holds: its header, ticks, players, chunks and bytes, without playing it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from persistence.errors import PersistenceError
from persistence.recording import ChunkKind, RecordingReader, is_being_written
from server.errors import ServerError
from server.game import load_game
from server.match import CommandBlock, MatchHeader, kernel_digest
from server.replay_tape import read_header
from server.replay_words import clock_text
from sim.commands import Commands

__all__ = ["brief", "facts"]

MB = 1e6
SECONDS_PER_HOUR = 3600.0


def _ticks(reader: RecordingReader) -> tuple[int, int]:
    """First known tick and last tick with commands."""
    frames = [chunk.first_tick for chunk in reader.chunks if chunk.kind == ChunkKind.KEYFRAME]
    blocks = [chunk for chunk in reader.chunks if chunk.kind == ChunkKind.COMMANDS]
    first = min(frames, default=min((chunk.first_tick for chunk in blocks), default=0))
    last = max((chunk.first_tick + chunk.tick_count - 1 for chunk in blocks), default=first)
    return first, max(first, last)


def _players(reader: RecordingReader, header: MatchHeader, problems: list[str]) -> tuple[int, int, float]:
    """Most players in a tick, joins, and player hours by their inputs."""
    commands = Commands(header.players_capacity)
    most = joins = inputs = 0
    for chunk in reader.chunks:
        if chunk.kind != ChunkKind.COMMANDS:
            continue
        try:
            block = CommandBlock(reader.read(chunk), header.players_capacity)
        except (PersistenceError, ServerError) as error:
            problems.append(f"{chunk}: {error}")
            continue
        for tick in range(block.first_tick, block.first_tick + block.tick_count):
            block.fill(tick, commands)
            here = int(np.count_nonzero(commands.has_input))
            most, inputs, joins = max(most, here), inputs + here, joins + len(commands.joins)
    return most, joins, inputs / header.tick_hz / SECONDS_PER_HOUR


def _build_state(header: MatchHeader) -> str:
    try:
        own = kernel_digest(load_game(header.game))
    except ServerError as error:
        return str(error)
    return "this build" if own == header.kernel_digest else f"another build; this one is {own}"


def facts(path: Path) -> dict[str, Any]:
    """What a recording holds, as plain values.

    Raises:
        ReplayError: It is no recording that can be read.
    """
    reader, header = read_header(path)
    with reader:
        problems = list(reader.problems)
        first, last = _ticks(reader)
        most, joins, hours = _players(reader, header, problems)
    chunks = {kind: [chunk for chunk in reader.chunks if chunk.kind == kind] for kind in ChunkKind}
    stored = {kind.name.lower(): sum(chunk.stored_bytes for chunk in held) for kind, held in chunks.items()}
    size = path.stat().st_size
    return {
        "file": str(path),
        "bytes": size,
        "complete": reader.complete and not problems,
        "being_written": is_being_written(path),
        "problems": problems,
        **{name: value for name, value in header.to_dict().items() if name != "started_unix_ns"},
        "started": datetime.fromtimestamp(header.started_unix_ns / 1e9, UTC).isoformat(timespec="seconds"),
        "build": _build_state(header),
        "first_tick": first,
        "last_tick": last,
        "length": clock_text(last - first, header.tick_hz),
        "players_most": most,
        "joins": joins,
        "player_hours": round(hours, 4),
        "mb_per_player_hour": round(size / MB / hours, 3) if hours else None,
        "chunks": {kind.name.lower(): len(held) for kind, held in chunks.items()},
        "chunk_bytes": stored,
    }


def brief(path: Path) -> str:
    """One line about a recording, for lists; what is wrong with it where it cannot be read."""
    try:
        reader, header = read_header(path)
    except ServerError as error:
        return f"{path.name}  {error}"
    with reader:
        first, last = _ticks(reader)
    state = "" if reader.complete else "  being written" if is_being_written(path) else "  incomplete"
    begun = datetime.fromtimestamp(header.started_unix_ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M")
    size = path.stat().st_size / MB
    length = clock_text(last - first, header.tick_hz)
    return f"{path.name}  {begun}  {length}  {header.game} on {header.map_name}  {size:.2f} MB{state}"
