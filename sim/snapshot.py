"""Capture, restore and hash a whole world, and tell whether two builds have the same layout.

A capture is msgpack: format, layout hash, tick, seed, per table its occupied range, generations, queue of free
slots and the columns' bytes up to the high-water mark, and what the memories keep of former ticks. Rows above it hold
defaults, as do freed rows, so equal worlds give equal captures and hashes.
"""

import hashlib
import struct
from typing import Any

import msgpack
import numpy as np

from sim.arrays import I64, AnyArray, Bool
from sim.errors import SnapshotError
from sim.hashing import hash_spans
from sim.plugin import Kind
from sim.schema import VALUE_MAX
from sim.table import GENERATION_MAX, NO_ENTITY, Table
from sim.world import World

__all__ = ["CAPTURE_BYTES_MAX", "capture", "layout_hash", "restore", "state_hash"]

CAPTURE_FORMAT = 2
SEED = np.uint64(0)  # of the hash
CAPTURE_BYTES_MAX = 1 << 30


class _Layout:
    """What follows from a world's layout alone, made once for each: its hash, and where all its columns are.

    Columns never move: they are made with their table and written in place.
    """

    def __init__(self, world: World) -> None:
        self.tables = list(world.tables.values())
        self.digest = _layout_digest(world)
        # Tick and seed, then per table its numbers: hashed in this order, each before what it belongs to. The first of
        # a table says how many of its rows count; the last of all is the one row of what has no rows.
        self._numbers: I64 = np.ones(3 + 3 * len(self.tables), np.int64)
        self._pack = struct.Struct(f"={2 + 3 * len(self.tables)}q").pack_into
        self._held: list[AnyArray] = []
        spans = [self._span(self._numbers[:2])]
        for number, table in enumerate(self.tables):
            place = 2 + 3 * number
            spans.append(self._span(self._numbers[place : place + 3]))
            spans += [self._span(array, place) for array in (table.ids, table.generation)]
            spans.append(self._span(table.free_queue))
            for kind, component in table.components.items():
                spans += [self._span(getattr(component, name), place) for name in kind.columns]
        self._spans: I64 = np.array(spans, np.int64)

    def _span(self, array: AnyArray, place: int = -1) -> tuple[int, int, int]:
        """Address and bytes of a whole array, or, for the columns of a table, of one row; where its rows are told."""
        assert array.flags.c_contiguous
        self._held.append(array)
        if place < 0:
            return array.ctypes.data, array.nbytes, len(self._numbers) - 1
        return array.ctypes.data, array.nbytes // len(array), place

    def state_hash(self, world: World) -> int:
        values = [world.tick, world.seed]
        for table in self.tables:
            values += (table.high_water, table.free_head, table.live_count)
        self._pack(self._numbers.data, 0, *values)
        return int(hash_spans(self._spans, self._numbers, SEED))


def _layout(world: World) -> _Layout:
    found = world.services.get(_Layout)
    if not isinstance(found, _Layout):
        found = world.services[_Layout] = _Layout(world)
    return found


def _layout_digest(world: World) -> str:
    lines = [table.describe() for table in world.tables.values()]
    game = world.game
    lines += [f"{game.name} {game.version} {world.tick_hz} Hz", repr(game.events), repr(game.actions)]
    lines += [",".join(system.name for system in game.systems)]
    lines += [f"{kind.__name__} for {world.max_rewind_ms} ms" for kind in world.memories]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def layout_hash(world: World) -> str:
    """32 hexadecimal digits of all that gives bytes their meaning: kinds, columns, events, actions, tick rate."""
    return _layout(world).digest


def _bookkeeping(table: Table, high_water: int) -> list[AnyArray]:
    return [table.ids[:high_water], table.generation[:high_water], table.free_queue]


def state_hash(world: World) -> int:
    """64-bit hash of tick, seed and all tables; equal worlds have equal hashes, on every machine and thread count.

    One call of a kernel, which reads the columns where they are: 8 µs for 64 players.
    """
    return _layout(world).state_hash(world)


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
    checked = [
        _checked(table, kind, content)
        for table, kind, content in zip(world.tables.values(), world.game.kinds, _entries(tables, world), strict=True)
    ]
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


def _entries(tables: Any, world: World) -> list[Any]:
    if not isinstance(tables, list) or len(tables) != len(world.tables):
        raise SnapshotError(f"the captured state does not have {len(world.tables)} tables, as this world has")
    return tables


def _targets(table: Table, high_water: int) -> list[AnyArray]:
    arrays = _bookkeeping(table, high_water)
    for kind, component in table.components.items():
        arrays += [getattr(component, name)[:high_water] for name in kind.columns]
    return arrays


def _checked(table: Table, kind: Kind, content: Any) -> tuple[tuple[int, int, int], list[bytes]]:
    """The content of one table, its sizes proven before anything is written."""
    try:
        (high_water, free_head, live_count), bookkeeping, columns = content
        arrays = [*bookkeeping, *columns]
        if not all(type(number) is int for number in (high_water, free_head, live_count)):
            raise TypeError(f"{high_water!r}, {free_head!r} and {live_count!r} must be whole numbers")
        sizes = [array.nbytes for array in _targets(table, high_water)]
        fits = 0 <= live_count <= high_water <= table.capacity and 0 <= free_head < table.capacity
        if not fits or sizes != [len(array) for array in arrays]:
            raise SnapshotError(f"table {table.name!r}: the captured columns do not have the sizes of this layout")
    except (ValueError, TypeError) as error:
        raise SnapshotError(f"table {table.name!r}: the captured content is malformed: {error}") from error
    _check_slots(table, (high_water, free_head, live_count), arrays)
    _check_values(table, kind, high_water, columns)
    return (high_water, free_head, live_count), arrays


def _check_slots(table: Table, numbers: tuple[int, int, int], arrays: list[bytes]) -> None:
    """Refuse ids, and a queue of free slots, that no table can come to hold: kernels index by them."""
    high_water, free_head, live_count = numbers
    ids, generation = np.frombuffer(arrays[0], np.uint64), np.frombuffer(arrays[1], np.uint32)
    queue = np.frombuffer(arrays[2], np.int32)
    given = table.ids_of(np.arange(high_water), generation)
    occupied = np.zeros(table.capacity, np.bool_)
    occupied[:high_water] = ids != NO_ENTITY
    free = queue[(free_head + np.arange(table.capacity - live_count)) % table.capacity]
    right = (ids == given) | (ids == NO_ENTITY)
    known = (generation >= 1) & (generation <= GENERATION_MAX)
    if not right.all() or not known.all() or not np.array_equal(np.sort(free), np.flatnonzero(~occupied)):
        raise SnapshotError(f"table {table.name!r}: the captured ids and free slots contradict each other")


def _check_values(table: Table, kind: Kind, high_water: int, contents: list[bytes]) -> None:
    """Refuse values that no tick can leave in a column: kernels index by them, and loop over them."""
    names = [(component, name) for component in table.components for name in component.columns]
    for (component, name), content in zip(names, contents, strict=True):
        low, high = kind.bounds_of(component, name)
        values = _plain(np.frombuffer(content, component.columns[name].dtype))
        wrong = _outside(values, low, high)
        if wrong.any():
            at = int(wrong.argmax())
            slot, column = at * high_water // len(values), f"{component.component_name}.{name}"
            raise SnapshotError(
                f"table {table.name!r}: column {column} of slot {slot} holds {values[at]}; must be {low:g} to {high:g}"
            )


def _plain(values: AnyArray) -> AnyArray:
    """Truth values as the bytes that they are, which can be any."""
    return values.view(np.uint8) if values.dtype == np.bool_ else values


def _outside(values: AnyArray, low: float, high: float) -> Bool:
    """Which values are not within bounds: NaN is not."""
    wrong: Bool = ~((values >= low) & (values <= high))
    return wrong


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
    for memory, contents in zip(world.memories.values(), memories, strict=True):
        for number, (view, content) in enumerate(zip(memory.views(tick, rows), contents, strict=True)):
            values = np.frombuffer(content, view.dtype)
            wrong = _outside(values, -VALUE_MAX, VALUE_MAX) if view.dtype.kind == "f" else np.zeros(0, np.bool_)
            if wrong.any():
                raise SnapshotError(
                    f"memory {type(memory).__name__}: part {number}, value {int(wrong.argmax())}, holds "
                    f"{values[int(wrong.argmax())]}; must be {-VALUE_MAX:g} to {VALUE_MAX:g}"
                )


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
