"""What a recording holds of a match: its header, and commands and state hashes in blocks of ticks.

A block, little endian, nothing aligned; K ticks, R rows of the players' table that hold an input in one of them:

    u16        format of the block, 1
    u16        K, 1..`BLOCK_TICKS_MAX`
    u32        R
    u32        bytes of the discrete commands
    i64        first tick
    7 bytes    how each column was predicted, in the order of `COLUMNS`: 0 not at all, 1 by the tick before, 2 by the
               line through the two ticks before; what came before the block is 0
    u32[R]     the rows, ascending
    u64[K]     state hash after each tick
    bits[R*K]  whether a row holds an input, row by row, highest bit first
    planes     per column (R, K) differences from the prediction, row by row; of 16-bit columns all low bytes, then all
               high ones, of the zigzag code 2d or -2d - 1; where there is no input, the value before goes on
    msgpack    discrete commands: [tick - first, joins, leaves, actions] of each tick that has some; a join is
               [ticket, name, team], a leave the entity, an action [entity, kind, values]

Row by row and byte plane by byte plane, since Zstandard, which compresses the chunk around it, then finds the runs: a
second of 64 bots that fight is a third smaller than tick by tick. Integers throughout: what is decoded is what was
recorded, bit for bit.
"""

import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgpack
import numpy as np

from server.errors import MatchError
from sim.arrays import U8, U16, U32, U64, AnyArray, Bool
from sim.commands import DISCRETE_MAX, NAME_BYTES_MAX, Action, Commands, Join, Leave
from sim.jit import source_digest
from sim.plugin import GameSpec
from sim.schema import ActionSpec

__all__ = [
    "BLOCK_TICKS_MAX",
    "MATCH_FORMAT",
    "CommandBlock",
    "CommandTape",
    "MatchHeader",
    "encode_block",
    "kernel_digest",
]

MATCH_FORMAT = 1
BLOCK_FORMAT = 1
BLOCK_TICKS_MAX = 256
DISCRETE_BYTES_MAX = 16 << 20
TEXT_MAX = 1024  # of a header's field
COLUMNS = ("buttons", "yaw", "pitch", "rewind", "move_forward", "move_right", "weapon")
WIDE = 4  # columns of 16 bits; the others have 8

_HEAD = struct.Struct("<HHIIq7s")


def kernel_digest(game: GameSpec) -> str:
    """Digest of all sources that decide what a world of this game does: equal if and only if the sources are."""
    modules = {system.bind.__module__ for system in game.systems}
    return source_digest("sim.world", "sim.snapshot", "sim.systems", *modules)


@dataclass(frozen=True, slots=True)
class MatchHeader:
    """What a match was: enough to build its world again, and to tell whether this build is the one that made it.

    Attributes:
        game: As the configuration has it.
        game_version: Of the game package.
        layout_hash: `sim.snapshot.layout_hash` of the world.
        kernel_digest: `kernel_digest` of the game.
        map_source: The map as the configuration has it.
        map_name: What the map calls itself.
        map_hash: `WorldMap.content_hash`.
        tick_hz: Ticks per second.
        seed: Of the world.
        zone: Its number.
        max_rewind_ms: Cap of the rewind that the world was made with [ms].
        keyframe_ticks: Ticks from one key frame to the next.
        players_capacity: Rows of the players' table, `Commands.capacity`.
        server_version: Of this package.
        started_unix_ns: When the first tick was made [ns since 1970].
        format: Of header, blocks and notes.
    """

    game: str
    game_version: str
    layout_hash: str
    kernel_digest: str
    map_source: str
    map_name: str
    map_hash: str
    tick_hz: int
    seed: int
    zone: int
    max_rewind_ms: int
    keyframe_ticks: int
    players_capacity: int
    server_version: str
    started_unix_ns: int
    format: int = MATCH_FORMAT

    def to_dict(self) -> dict[str, Any]:
        """The fields by name, as a recording's header keeps them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "MatchHeader":
        """The header from a recording's.

        Raises:
            MatchError: It is of another format, or a field is missing, of another type or out of range.
        """
        if content.get("format") != MATCH_FORMAT:
            shown = str(content.get("format"))[:TEXT_MAX]
            raise MatchError(
                f"recorded match: format = {shown}: this build reads {MATCH_FORMAT}; use the build that made it"
            )
        values: dict[str, Any] = {}
        for field in fields(cls):
            value = content.get(field.name)
            low, high = _BOUNDS.get(field.name, (0, 2**63 - 1))
            if field.type is str:
                fits = isinstance(value, str) and len(value) <= TEXT_MAX
            else:
                fits = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
            if not fits:
                expected = "a text" if field.type is str else f"an integer from {low} to {high}"
                raise MatchError(
                    f"recorded match: {field.name} = {str(value)[:80]!r}: must be {expected}; the header is damaged, "
                    "or of another program"
                )
            values[field.name] = value
        return cls(**values)


_BOUNDS = {
    "tick_hz": (1, 1000),
    "zone": (0, 4095),
    "max_rewind_ms": (0, 60_000),
    "keyframe_ticks": (1, 1 << 20),
    "players_capacity": (1, 1 << 24),
}


def _columns(commands: Commands) -> tuple[AnyArray, ...]:
    """The columns of commands in the order of `COLUMNS`."""
    return (
        commands.buttons, commands.yaw, commands.pitch, commands.rewind,
        commands.move_forward, commands.move_right, commands.weapon,
    )  # fmt: skip


class CommandTape:
    """The commands and state hashes of up to `ticks_max` consecutive ticks, in preallocated columns.

    Attributes:
        first_tick: Tick of the first entry.
        count: How many ticks it holds.
        has_input, columns: As in `Commands`, shape (ticks_max, capacity); columns by name.
        hashes: State hash after each tick, shape (ticks_max,), uint64.
        discrete: (tick - first, joins, leaves, actions) of the ticks that have some.
    """

    def __init__(self, capacity: int, *, ticks_max: int) -> None:
        """Makes room.

        Raises:
            MatchError: More ticks than a block holds.
        """
        if not 1 <= ticks_max <= BLOCK_TICKS_MAX:
            raise MatchError(f"a block of {ticks_max} ticks: must hold 1 to {BLOCK_TICKS_MAX}")
        self.capacity, self.ticks_max = capacity, ticks_max
        self.first_tick = 0
        self.count = 0
        like = Commands(0)
        self.has_input: Bool = np.zeros((ticks_max, capacity), np.bool_)
        self.columns: dict[str, AnyArray] = {
            name: np.zeros((ticks_max, capacity), getattr(like, name).dtype) for name in COLUMNS
        }
        self.hashes: U64 = np.zeros(ticks_max, np.uint64)
        self.discrete: list[tuple[int, list[Any], list[Any], list[Any]]] = []
        self._targets = list(self.columns.values())

    @property
    def full(self) -> bool:
        """Whether there is no room for another tick."""
        return self.count >= self.ticks_max

    def append(self, tick: int, commands: Commands, state_hash: int, *, rows: int = -1) -> None:
        """Copy what entered one tick; the ticks must be consecutive.

        Args:
            tick: Its number.
            commands: What entered it.
            state_hash: Of the world after it.
            rows: How many rows of the table may hold inputs; all unless given.

        Raises:
            MatchError: The tape is full, or the tick is not the next one.
        """
        at = self.count
        if at == 0:
            self.first_tick = tick
        if at >= self.ticks_max or tick != self.first_tick + at:
            raise MatchError(f"tick {tick} does not fit after {at} of {self.ticks_max} ticks from {self.first_tick}")
        rows = self.capacity if rows < 0 else rows
        self.has_input[at, rows:] = False
        self.has_input[at, :rows] = commands.has_input[:rows]
        for target, source in zip(self._targets, _columns(commands), strict=True):
            target[at, :rows] = source[:rows]
        self.hashes[at] = state_hash
        if commands.joins or commands.leaves or commands.actions:
            self.discrete.append(
                (
                    at,
                    [(entry.ticket, entry.name, entry.team) for entry in commands.joins],
                    [entry.entity for entry in commands.leaves],
                    [(entry.entity, entry.kind, entry.values) for entry in commands.actions],
                )
            )
        self.count += 1

    def clear(self) -> None:
        """Make ready for other ticks."""
        self.count = 0
        self.discrete = []


def _carried(values: AnyArray, has: Bool) -> AnyArray:
    """Values along the last axis, those without an input replaced by the last before them, or 0."""
    last = np.where(has, np.arange(has.shape[1]), -1)
    np.maximum.accumulate(last, axis=1, out=last)
    return np.where(last < 0, values.dtype.type(0), np.take_along_axis(values, np.maximum(last, 0), axis=1))


def _differences(values: AnyArray, order: int) -> AnyArray:
    """What is left of unsigned values along the last axis after prediction, modulo their width."""
    for _ in range(order):
        values = np.concatenate((values[:, :1], values[:, 1:] - values[:, :-1]), axis=1)
    return values


def _zigzag(values: U16) -> U16:
    return (values << np.uint16(1)) ^ (np.uint16(0) - (values >> np.uint16(15)))


def _unzigzag(values: U16) -> U16:
    return (values >> np.uint16(1)) ^ (np.uint16(0) - (values & np.uint16(1)))


def _planes(values: AnyArray, *, wide: bool) -> tuple[int, bytes]:
    """Order of prediction and bytes of a column, whichever takes fewest bits by a glance at the sizes."""
    best: tuple[float, int, AnyArray] = (np.inf, 0, values)
    for order in range(3):
        left = _differences(values, order)
        left = _zigzag(left) if wide else left
        # What an entropy coder will make of it, near enough: a number takes its length in bits, a byte that is not
        # predicted the same whatever it is.
        cost = float(np.log2(left.astype(np.float32) + 1.0).sum()) if wide else float(np.count_nonzero(left))
        if cost < best[0]:
            best = (cost, order, left)
    _, order, left = best
    if not wide:
        return order, left.tobytes()
    return order, (left & np.uint16(255)).astype(np.uint8).tobytes() + (left >> np.uint16(8)).astype(np.uint8).tobytes()


def encode_block(tape: CommandTape) -> bytes:
    """The bytes of a tape's ticks, as described at the top.

    Raises:
        MatchError: The tape is empty.
    """
    count = tape.count
    if count == 0:
        raise MatchError("a block of no ticks cannot be encoded")
    rows: U32 = np.flatnonzero(tape.has_input[:count].any(axis=0)).astype(np.uint32)
    has = np.ascontiguousarray(tape.has_input[:count, rows].T)
    whole = bool(has.all())
    orders, planes = bytearray(), []
    for number, name in enumerate(COLUMNS):
        values = np.ascontiguousarray(tape.columns[name][:count, rows].T)
        values = values.view(np.uint16 if number < WIDE else np.uint8)
        order, content = _planes(values if whole else _carried(values, has), wide=number < WIDE)
        orders.append(order)
        planes.append(content)
    discrete = msgpack.packb(tape.discrete)
    head = _HEAD.pack(BLOCK_FORMAT, count, len(rows), len(discrete), tape.first_tick, bytes(orders))
    bits = np.packbits(has.reshape(-1)).tobytes()
    return b"".join((head, rows.tobytes(), tape.hashes[:count].tobytes(), bits, *planes, discrete))


def _restored(left: AnyArray, order: int) -> AnyArray:
    """The values of a column from what was left of them."""
    for _ in range(order):
        left = np.cumsum(left, axis=1, dtype=left.dtype)
    return left


def _entity(value: object) -> int:
    """An entity's id, or ValueError."""
    if not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ValueError(f"entity {value!r}")
    return value


def _join(ticket: object, name: object, team: object) -> Join:
    """A join, or ValueError."""
    if not isinstance(ticket, int) or not 0 <= ticket < 1 << 63:
        raise ValueError(f"ticket {ticket!r}")
    if not isinstance(name, str) or len(name) > NAME_BYTES_MAX or not isinstance(team, int) or not 0 <= team <= 255:
        raise ValueError(f"name {name!r} of team {team!r}")
    return Join(ticket, name, team)


class CommandBlock:
    """The ticks of one block, decoded at once.

    Attributes:
        first_tick: Its first tick.
        tick_count: How many it holds.
    """

    first_tick: int
    tick_count: int

    def __init__(self, data: bytes, capacity: int, *, actions: Sequence[ActionSpec] | None = None) -> None:
        """Decodes a block.

        Args:
            data: As `encode_block` made it.
            capacity: Rows of the players' table.
            actions: Those of the game, against which recorded ones are checked; None: only their form is.

        Raises:
            MatchError: The bytes are no block, or of a larger table; nothing larger than a block was allocated.
        """
        if len(data) < _HEAD.size:
            raise MatchError(f"these {len(data)} bytes are no block of commands")
        kind, count, rows, discrete, first, orders = _HEAD.unpack_from(data)
        if kind != BLOCK_FORMAT:
            raise MatchError(f"block of commands: format {kind}; this build reads {BLOCK_FORMAT}")
        bits = (rows * count + 7) // 8
        wanted = _HEAD.size + 4 * rows + 8 * count + bits + rows * count * (2 * WIDE + len(COLUMNS) - WIDE) + discrete
        sized = 1 <= count <= BLOCK_TICKS_MAX and rows <= capacity and discrete <= DISCRETE_BYTES_MAX
        if not sized or len(data) != wanted or first < 0 or max(orders) > 2:
            raise MatchError(
                f"block of commands from tick {first}: {count} ticks, {rows} rows of {capacity} and {discrete} bytes "
                f"do not fit its {len(data)} bytes; it is damaged, or of another game"
            )
        self.capacity = capacity
        self.first_tick, self.tick_count = first, count
        self._at = _HEAD.size
        chosen: U32 = self._take(data, np.dtype("<u4"), rows)
        if rows and (int(chosen[-1]) >= capacity or bool((chosen[1:] <= chosen[:-1]).any())):
            raise MatchError(f"block of commands from tick {first}: its rows do not ascend within {capacity}")
        self._hashes: list[int] = self._take(data, np.dtype("<u8"), count).tolist()
        self._decode(data, chosen, orders)
        self._actions = actions
        self._discrete = self._unpack(data[self._at :])

    def _take(self, data: bytes, dtype: np.dtype[Any], count: int) -> AnyArray:
        values = np.frombuffer(data, dtype, count, self._at)
        self._at += values.nbytes
        return values

    def _decode(self, data: bytes, chosen: U32, orders: bytes) -> None:
        """Fill dense columns of shape (ticks, rows up to the last with an input)."""
        count, rows = self.tick_count, len(chosen)
        width = int(chosen[-1]) + 1 if rows else 0
        packed: U8 = self._take(data, np.dtype("u1"), (rows * count + 7) // 8)
        has = np.unpackbits(packed, count=rows * count).reshape(rows, count)
        self._width = width
        self._has: Bool = np.zeros((count, width), np.bool_)
        self._has[:, chosen] = has.T
        like = Commands(0)
        self._columns: list[AnyArray] = []
        for number, name in enumerate(COLUMNS):
            left = self._take(data, np.dtype("u1"), rows * count).reshape(rows, count)
            if number < WIDE:
                high = self._take(data, np.dtype("u1"), rows * count).reshape(rows, count)
                left = _unzigzag(left | high.astype(np.uint16) << np.uint16(8))
            dense = np.zeros((count, width), getattr(like, name).dtype)
            dense[:, chosen] = _restored(left, orders[number]).T.view(dense.dtype)
            self._columns.append(dense)

    def _unpack(self, content: bytes) -> dict[int, tuple[list[Join], list[Leave], list[Action]]]:
        """The discrete commands by tick within the block."""
        found: dict[int, tuple[list[Join], list[Leave], list[Action]]] = {}
        try:
            for at, joins, leaves, actions in msgpack.unpackb(content, use_list=False):
                if not 0 <= at < self.tick_count or at in found:
                    raise ValueError(f"tick {at} of {self.tick_count}")
                if len(joins) + len(leaves) + len(actions) > DISCRETE_MAX:
                    raise ValueError(f"more than {DISCRETE_MAX} in a tick")
                found[at] = (
                    [_join(*entry) for entry in joins],
                    [Leave(_entity(entry)) for entry in leaves],
                    [self._action(*entry) for entry in actions],
                )
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise MatchError(
                f"block of commands from tick {self.first_tick}: joins, leaves and actions are damaged: {error}"
            ) from error
        return found

    def _action(self, entity: object, kind: object, values: object) -> Action:
        if not isinstance(kind, int) or not isinstance(values, tuple) or not 0 <= kind <= 0xFFFF:
            raise ValueError(f"action {kind!r}")
        if self._actions is not None:
            fields = self._actions[kind].fields if kind < len(self._actions) else None
            if fields is None or len(fields) != len(values):
                raise ValueError(f"action {kind} with {len(values)} values is not one of the game's")
            for entry, value in zip(fields, values, strict=True):
                if not entry.accepts(value):
                    raise ValueError(f"action {kind}: {entry.name} is out of its bounds")
        return Action(_entity(entity), kind, values)

    def _index(self, tick: int) -> int:
        at: int = tick - self.first_tick
        if not 0 <= at < self.tick_count:
            raise MatchError(
                f"tick {tick}: the block holds {self.first_tick} to {self.first_tick + self.tick_count - 1}"
            )
        return at

    def fill(self, tick: int, commands: Commands) -> None:
        """Let `commands` be what entered one tick; rows without an input keep their values.

        Raises:
            MatchError: The tick is of another block, or the commands of another table.
        """
        at = self._index(tick)
        if commands.capacity != self.capacity:
            raise MatchError(f"commands for {commands.capacity} players; the block was decoded for {self.capacity}")
        commands.clear()
        width = self._width
        commands.has_input[:width] = self._has[at]
        for target, column in zip(_columns(commands), self._columns, strict=True):
            target[:width] = column[at]
        entered = self._discrete.get(at)
        if entered is not None:
            commands.joins.extend(entered[0])
            commands.leaves.extend(entered[1])
            commands.actions.extend(entered[2])

    def state_hash(self, tick: int) -> int:
        """Hash of the world's state after a tick of the block.

        Raises:
            MatchError: The tick is of another block.
        """
        return self._hashes[self._index(tick)]
