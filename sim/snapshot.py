"""Capture, restore and hash a whole world, and tell whether two builds have the same layout.

A capture is msgpack: format, layout hash, tick, seed, per table its occupied range, generations, queue of free
slots and the columns' bytes up to the high-water mark, and what the memories keep of former ticks. Rows above it hold
defaults, as do freed rows, so equal worlds give equal captures and hashes.
"""

import hashlib
from typing import Any

import msgpack
import numpy as np

from sim.arrays import AnyArray
from sim.errors import SnapshotError
from sim.hashing import hash_bytes, hash_columns
from sim.table import Table
from sim.world import World

__all__ = ["CAPTURE_BYTES_MAX", "capture", "layout_hash", "restore", "state_hash"]

CAPTURE_FORMAT = 2
CAPTURE_BYTES_MAX = 1 << 30


def layout_hash(world: World) -> str:
    """32 hexadecimal digits of all that gives bytes their meaning: kinds, columns, events, actions, tick rate."""
    lines = [table.describe() for table in world.tables.values()]
    game = world.game
    lines += [f"{game.name} {game.version} {world.tick_hz} Hz", repr(game.events), repr(game.actions)]
    lines += [",".join(system.name for system in game.systems)]
    lines += [f"{kind.__name__} for {world.max_rewind_ms} ms" for kind in world.memories]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _bookkeeping(table: Table, high_water: int) -> list[AnyArray]:
    return [table.ids[:high_water], table.generation[:high_water], table.free_queue]


def state_hash(world: World) -> int:
    """64-bit hash of tick, seed and all tables; equal worlds have equal hashes, on every machine and thread count."""
    total = hash_bytes(np.array([world.tick, world.seed], np.int64).view(np.uint8))
    for table in world.tables.values():
        numbers = np.array([table.high_water, table.free_head, table.live_count], np.int64)
        total = hash_columns([numbers, *_bookkeeping(table, table.high_water)], total)
        for kind, component in table.components.items():
            total = hash_columns((getattr(component, name)[: table.high_water] for name in kind.columns), total)
    return total


def capture(world: World) -> bytes:
    """The whole state as bytes, from which `restore` makes the same state in a world of the same layout."""
    tables = []
    for table in world.tables.values():
        columns = [
            getattr(component, name)[: table.high_water].tobytes()
            for kind, component in table.components.items()
            for name in kind.columns
        ]
        numbers = (table.high_water, table.free_head, table.live_count)
        tables.append((numbers, [array.tobytes() for array in _bookkeeping(table, table.high_water)], columns))
    rows = world.players.high_water
    memories = [[view.tobytes() for view in memory.views(world.tick, rows)] for memory in world.memories.values()]
    packed: bytes = msgpack.packb([CAPTURE_FORMAT, layout_hash(world), world.tick, world.seed, tables, memories])
    return packed


def restore(world: World, data: bytes) -> None:
    """Put a captured state in place of the world's own.

    Raises:
        SnapshotError: The bytes are no capture, or of another layout or seed; the world is as it was.
    """
    if len(data) > CAPTURE_BYTES_MAX:
        raise SnapshotError(f"a captured state of {len(data)} bytes is beyond the maximum of {CAPTURE_BYTES_MAX}")
    try:
        kind, layout, tick, seed, tables, memories = msgpack.unpackb(data)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise SnapshotError(f"these {len(data)} bytes are no captured state: {error}") from error
    if kind != CAPTURE_FORMAT or layout != layout_hash(world) or seed != world.seed:
        raise SnapshotError(
            f"the captured state has format {kind}, layout {layout}, seed {seed}; this world has {CAPTURE_FORMAT}, "
            f"{layout_hash(world)}, {world.seed}: restore it with the build and game that made it"
        )
    checked = [_checked(table, content) for table, content in zip(world.tables.values(), tables, strict=True)]
    rows = checked[list(world.tables.values()).index(world.players)][0][0]
    _check_memories(world, tick, rows, memories)
    for table, (numbers, arrays) in zip(world.tables.values(), checked, strict=True):
        _put(table, numbers, arrays)
    for memory, contents in zip(world.memories.values(), memories, strict=True):
        memory.clear()
        for view, content in zip(memory.views(tick, rows), contents, strict=True):
            view[...] = np.frombuffer(content, view.dtype).reshape(view.shape)
        memory.restored(tick)
    world.tick = tick
    world.events.clear()


def _targets(table: Table, high_water: int) -> list[AnyArray]:
    arrays = _bookkeeping(table, high_water)
    for kind, component in table.components.items():
        arrays += [getattr(component, name)[:high_water] for name in kind.columns]
    return arrays


def _checked(table: Table, content: Any) -> tuple[tuple[int, int, int], list[bytes]]:
    """The content of one table, its sizes proven before anything is written."""
    try:
        (high_water, free_head, live_count), bookkeeping, columns = content
        arrays = [*bookkeeping, *columns]
        sizes = [array.nbytes for array in _targets(table, high_water)]
        fits = 0 <= live_count <= high_water <= table.capacity and 0 <= free_head < table.capacity
        if not fits or sizes != [len(array) for array in arrays]:
            raise SnapshotError(f"table {table.name!r}: the captured columns do not have the sizes of this layout")
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"table {table.name!r}: the captured content is malformed: {error}") from error
    return (high_water, free_head, live_count), arrays


def _check_memories(world: World, tick: Any, rows: int, memories: Any) -> None:
    """Refuse memories of other sizes than this world's, before anything is written."""
    if not isinstance(tick, int) or not 0 <= tick < 1 << 62:
        raise SnapshotError(f"the captured tick {tick!r} is out of range")
    try:
        found = [[len(content) for content in contents] for contents in memories]
    except TypeError as error:
        raise SnapshotError(f"the captured memories are malformed: {error}") from error
    if found != [[view.nbytes for view in memory.views(tick, rows)] for memory in world.memories.values()]:
        raise SnapshotError("the captured memories do not have the sizes of this layout")


def _put(table: Table, numbers: tuple[int, int, int], arrays: list[bytes]) -> None:
    rows = max(table.high_water, numbers[0])
    for kind, component in table.components.items():
        for name, declared in kind.columns.items():
            getattr(component, name)[:rows] = declared.default
    table.ids[:rows] = 0
    table.generation[:rows] = 1
    for target, content in zip(_targets(table, numbers[0]), arrays, strict=True):
        target[...] = np.frombuffer(content, target.dtype).reshape(target.shape)
    table.high_water, table.free_head, table.live_count = numbers
    table.live[:] = table.ids != 0
    table.touch()
