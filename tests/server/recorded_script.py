"""Recordings of scripted matches, made without a server: small, quick, and the same every time."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack

from persistence.recording import ChunkKind, RecordingWriter
from server.match import CommandTape, MatchHeader, encode_block, kernel_digest
from sim.commands import Commands
from sim.snapshot import capture, layout_hash, state_hash
from sim.world import World
from tests.sim.arena import arena_world
from tools.script import play_script

__all__ = ["match_header", "record_script"]

BLOCK_TICKS = 20


def match_header(world: World, *, keyframe_ticks: int, **other: Any) -> MatchHeader:
    """The header of a match on the built-in arena."""
    fields: dict[str, Any] = {
        "game": "arena", "game_version": world.game.version, "layout_hash": layout_hash(world),
        "kernel_digest": kernel_digest(world.game), "map_source": "arena", "map_name": world.map.name,
        "map_hash": world.map.content_hash(), "tick_hz": world.tick_hz, "seed": world.seed, "zone": world.zone,
        "max_rewind_ms": world.max_rewind_ms, "keyframe_ticks": keyframe_ticks,
        "players_capacity": world.players.capacity, "server_version": "0", "started_unix_ns": 0,
    }  # fmt: skip
    return MatchHeader(**(fields | other))


def record_script(
    path: Path,
    *,
    players: int = 6,
    ticks: int = 200,
    keyframe_ticks: int = 50,
    seed: int = 1,
    change: Callable[[World, Commands], None] | None = None,
    spoil_hash: int = -1,
    notes: list[tuple[int, str, dict[str, Any]]] | None = None,
    world: World | None = None,
    **header: Any,
) -> Path:
    """Record a scripted match on the built-in arena.

    Args:
        path: The file to make.
        players, ticks, seed: Of the match.
        keyframe_ticks: Ticks between key frames, the first of them at tick 0.
        change: May change commands before a tick, or the world behind the simulation's back.
        spoil_hash: Tick whose hash is recorded wrongly; -1: none.
        notes: Notes to write at the end.
        world: A world of another game to play in; `header` names the game then.
        header: Fields of the header to write otherwise.
    """
    world = world or arena_world(seed=seed)
    tape = CommandTape(world.players.capacity, ticks_max=BLOCK_TICKS)

    def step(commands: Commands) -> None:
        if change is not None:
            change(world, commands)
        world.step(commands)
        tape.append(world.tick, commands, state_hash(world) ^ int(world.tick == spoil_hash))

    with RecordingWriter(path, match_header(world, keyframe_ticks=keyframe_ticks, **header).to_dict()) as writer:
        writer.append(ChunkKind.KEYFRAME, 0, 0, capture(world))

        def flush() -> None:
            if tape.count:
                writer.append(ChunkKind.COMMANDS, tape.first_tick, tape.count, encode_block(tape))
                tape.clear()

        for _ in play_script(world, players=players, ticks=ticks, step=step):
            if tape.full:
                flush()
            if world.tick % keyframe_ticks == 0:
                writer.append(ChunkKind.KEYFRAME, world.tick, 0, capture(world))
        flush()
        if notes:
            writer.append(ChunkKind.NOTES, notes[0][0], notes[-1][0] - notes[0][0] + 1, msgpack.packb(notes))
    return path
