"""Plays commands in the build in whose directory it is started, and tells what the state is, tick by tick.

`tools.replay_builds` hands this file's text to the interpreter of another checkout (`python -c`), so it may use of
this project only what every build has: `server.game`, `server.maps`, `sim.world`, `sim.commands` and `sim.snapshot`.
State is hashed here and not by the build's own hash, which another build may do otherwise.

Messages either way are msgpack behind their length as a little-endian u32, on stdin and stdout:

    open {game, map, tick_hz, seed, zone, max_rewind_ms, threads}  -> {build, layout, stages}
    begin key-frame-or-nil                                         -> tick
    play [commands, …]        from where it is; remembers the state -> [hash of the state after each tick]
    detail n                  the n-th of the last play, again      -> [[[table, column, hash], …] after each system]
    columns                   of the present state                  -> [[table, column, hash], …]
    values table column       of the present state                  -> [dtype, shape, bytes] or nil

A reply is [1, what is said above] or [0, one line that says what went wrong].
"""

import hashlib
import inspect
import os
import sys
from typing import IO, Any

import msgpack
import numpy as np

__all__ = ["COMMAND_COLUMNS", "MESSAGE_BYTES_MAX", "Probe", "receive", "send", "serve"]

MESSAGE_BYTES_MAX = 1 << 28
COMMAND_COLUMNS = ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon", "rewind")


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message."""
    packed = msgpack.packb(message)
    stream.write(len(packed).to_bytes(4, "little") + packed)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message; None at the end of the stream or where it is too long."""
    head = stream.read(4)
    if len(head) < 4 or int.from_bytes(head, "little") > MESSAGE_BYTES_MAX:
        return None
    return msgpack.unpackb(stream.read(int.from_bytes(head, "little")), strict_map_key=False)


class Probe:
    """One world of this build and what is asked of it."""

    def __init__(self) -> None:
        self.world: Any = None
        self._saved = b""
        self._played: list[Any] = []

    def open(self, match: dict[str, Any]) -> dict[str, Any]:
        """Make the world of a match."""
        from server.game import load_game
        from server.maps import load_geometry, load_map
        from sim.jit import set_threads, source_digest
        from sim.snapshot import layout_hash
        from sim.world import World

        game, world_map = load_game(match["game"]), load_map(match["map"])
        known = inspect.signature(World).parameters
        options = {name: match[name] for name in ("tick_hz", "seed", "zone", "max_rewind_ms") if name in known}
        set_threads(match["threads"])
        self.world = World(game, world_map, load_geometry(world_map), **options)
        modules = sorted({system.bind.__module__ for system in game.systems})
        return {
            "build": source_digest("sim.world", "sim.snapshot", "sim.systems", *modules),
            "layout": layout_hash(self.world),
            "stages": list(self.world.pipeline.stages),
        }

    def begin(self, key_frame: bytes | None) -> int:
        """Restore a state, or go on with the empty world that `open` made."""
        from sim.snapshot import restore

        if key_frame is not None:
            restore(self.world, key_frame)
        return int(self.world.tick)

    def play(self, ticks: list[Any]) -> list[bytes]:
        """Make ticks; the state before them is kept for `detail`."""
        from sim.snapshot import capture

        self._saved, self._played = capture(self.world), ticks
        hashes = []
        for entry in ticks:
            self.world.step(self._commands(entry))
            digest = hashlib.blake2b(digest_size=8)
            for table, column, array in self._columns():
                digest.update(f"{table}.{column}:{len(array)}".encode() + array.tobytes())
            hashes.append(digest.digest())
        return hashes

    def detail(self, number: int) -> list[list[list[Any]]]:
        """Make the last played ticks again up to one, and look after each system of that one."""
        from sim.snapshot import restore

        restore(self.world, self._saved)
        for entry in self._played[:number]:
            self.world.step(self._commands(entry))
        trail: list[list[list[Any]]] = [self.columns()]
        self.world.step(self._commands(self._played[number]), lambda _: trail.append(self.columns()))
        return trail

    def values(self, table: str, column: str) -> list[Any] | None:
        """One column of the present state."""
        for known_table, known_column, array in self._columns():
            if (known_table, known_column) == (table, column):
                return [array.dtype.str, list(array.shape), array.tobytes()]
        return None

    def columns(self) -> list[list[Any]]:
        """All columns of the present state, hashed."""
        return [
            [table, column, hashlib.blake2b(array.tobytes(), digest_size=8).digest()]
            for table, column, array in self._columns()
        ]

    def _columns(self) -> list[tuple[str, str, Any]]:
        """All columns of the state, book-keeping last."""
        found, last = [], []
        for name, table in self.world.tables.items():
            most = table.high_water
            found.append((name, "id", table.ids[:most]))
            for kind, component in table.components.items():
                found += [
                    (name, f"{kind.component_name}.{column}", getattr(component, column)[:most])
                    for column in kind.columns
                ]
            last += [(name, "generation", table.generation[:most]), (name, "free_queue", table.free_queue)]
        return [*found, *last]

    def _commands(self, entry: Any) -> Any:
        from sim.commands import Action, Commands, Join, Leave

        slots, columns, joins, leaves, actions = entry
        commands = Commands(self.world.players.capacity)
        rows = np.frombuffer(slots, np.uint32)
        commands.has_input[rows] = True
        for name in COMMAND_COLUMNS:
            array = getattr(commands, name, None)
            if array is not None:
                array[rows] = np.frombuffer(columns[name], array.dtype)
        commands.joins.extend(Join(*join) for join in joins)
        commands.leaves.extend(Leave(leave) for leave in leaves)
        commands.actions.extend(Action(entity, kind, tuple(values)) for entity, kind, values in actions)
        return commands


def serve(requests: IO[bytes], replies: IO[bytes]) -> None:
    """Answer requests until the stream ends."""
    probe = Probe()
    while (request := receive(requests)) is not None:
        try:
            send(replies, [1, getattr(probe, request[0])(*request[1:])])
        except Exception as error:
            send(replies, [0, f"{type(error).__name__}: {' '.join(str(error).split())}"])


if __name__ == "__main__":
    # What the build itself prints must not come between the messages.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)
