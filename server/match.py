"""What a recording holds of a match: its header, and commands and state hashes in blocks of ticks.

A block, little endian, nothing aligned; K ticks, R rows of the players' table that hold an input in one of them:

    u16        format of the block, 2
    u16        K, 1..`BLOCK_TICKS_MAX`
    u32        R
    u32        bytes of the discrete commands
    i64        first tick
    u32[R]     the rows, ascending
    u64[K]     state hash after each tick
    bits[K*R]  whether a row holds an input, tick by tick, highest bit first
    u8[K*R]    low, then high bytes of each column of `sim.commands.WIDE`, tick by tick: the difference d from the tick
               before (0 before the first), modulo 65536, as 2d, or -2d - 1 where it is negative
    u8[K*R]    of each column of `NARROW` but the last: the difference, modulo 256
    msgpack    discrete commands: [tick - first, joins, leaves, actions] of each tick that has some; a join is
               [ticket, name, team], a leave the entity, an action [entity, kind, values]

Where there is no input, the value before goes on. Integers throughout: what is decoded is what was recorded, bit for
bit. Zstandard, which compresses the chunk around a block, is left to find what repeats; docs/adr/0014-recording.md has
what other orders and predictions took.
"""

import itertools
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import msgpack
import numpy as np

from server.errors import MatchError
from sim.arrays import U8, U16, U32, U64, AnyArray, Bool
from sim.commands import DISCRETE_MAX, NAME_BYTES_MAX, NARROW, WIDE, Action, Commands, Join, Leave
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
BLOCK_FORMAT = 2
BLOCK_TICKS_MAX = 256
DISCRETE_BYTES_MAX = 16 << 20
TEXT_MAX = 1024  # of a header's field
VALUES = len(NARROW) - 1  # the last of `NARROW` says whether there is an input, and is kept as a bit
ENTRY_BYTES = 2 * len(WIDE) + VALUES  # of one input

_HEAD = struct.Struct("<HHIIq")


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


class CommandTape:
    """The commands and state hashes of up to `ticks_max` consecutive ticks, in preallocated columns.

    Attributes:
        first_tick: Tick of the first entry.
        count: How many ticks it holds.
        wide, narrow: The columns of `WIDE` and `NARROW`, shapes (columns, ticks_max, capacity), uint16 and uint8.
        has_input: The last of `narrow`, as bool.
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
        self.wide: U16 = np.zeros((len(WIDE), ticks_max, capacity), np.uint16)
        self.narrow: U8 = np.zeros((len(NARROW), ticks_max, capacity), np.uint8)
        self.has_input: Bool = self.narrow[VALUES].view(np.bool_)
        self.hashes: U64 = np.zeros(ticks_max, np.uint64)
        self.discrete: list[tuple[int, list[Any], list[Any], list[Any]]] = []
        # Views of each tick's rows, made once: slicing takes longer than copying.
        self._targets: list[tuple[AnyArray, AnyArray]] = [
            (self.wide[:, at], self.narrow[:, at]) for at in range(ticks_max)
        ]

    @property
    def full(self) -> bool:
        """Whether there is no room for another tick."""
        return self.count >= self.ticks_max

    def append(self, tick: int, commands: Commands, state_hash: int) -> None:
        """Copy what entered one tick; the ticks must be consecutive.

        Args:
            tick: Its number.
            commands: What entered it, of the tape's capacity.
            state_hash: Of the world after it.

        Raises:
            MatchError: The tape is full, or the tick is not the next one.
        """
        at = self.count
        if at == 0:
            self.first_tick = tick
        if at >= self.ticks_max or tick != self.first_tick + at:
            raise MatchError(f"tick {tick} does not fit after {at} of {self.ticks_max} ticks from {self.first_tick}")
        wide, narrow = self._targets[at]
        np.copyto(wide, commands.wide)
        np.copyto(narrow, commands.narrow)
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


def _carry(columns: AnyArray, has: Bool) -> None:
    """Let values without an input, in columns of shape (columns, ticks, rows), be those before them, or 0."""
    last = np.where(has, np.arange(len(has))[:, None], -1)
    np.maximum.accumulate(last, axis=0, out=last)
    known = np.take_along_axis(columns, np.maximum(last, 0)[None], axis=1)
    columns[:] = np.where(last < 0, columns.dtype.type(0), known)


def _differences(columns: AnyArray) -> AnyArray:
    """Differences along the ticks of columns of shape (columns, ticks, rows), modulo their width."""
    left = columns.copy()
    left[:, 1:] -= columns[:, :-1]
    return left


def encode_block(tape: CommandTape) -> bytes:
    """The bytes of a tape's ticks, as described at the top.

    Raises:
        MatchError: The tape is empty.
    """
    count = tape.count
    if count == 0:
        raise MatchError("a block of no ticks cannot be encoded")
    rows: U32 = np.flatnonzero(tape.has_input[:count].any(axis=0)).astype(np.uint32)
    has = tape.has_input[:count, rows]
    wide, narrow = tape.wide[:, :count, rows], tape.narrow[:VALUES, :count, rows]
    if not has.all():
        _carry(wide, has)
        _carry(narrow, has)
    wide, narrow = _differences(wide), _differences(narrow)
    zigzag = (wide << np.uint16(1)) ^ (np.uint16(0) - (wide >> np.uint16(15)))
    planes = np.stack((zigzag & np.uint16(255), zigzag >> np.uint16(8)), axis=1).astype(np.uint8)
    discrete = msgpack.packb(tape.discrete)
    head = _HEAD.pack(BLOCK_FORMAT, count, len(rows), len(discrete), tape.first_tick)
    bits = np.packbits(has.reshape(-1))
    parts = (rows, tape.hashes[:count], bits, planes, narrow)
    return b"".join((head, *(part.tobytes() for part in parts), discrete))


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
        kind, count, rows, discrete, first = _HEAD.unpack_from(data)
        if kind != BLOCK_FORMAT:
            raise MatchError(f"block of commands: format {kind}; this build reads {BLOCK_FORMAT}")
        wanted = _HEAD.size + 4 * rows + 8 * count + (rows * count + 7) // 8 + rows * count * ENTRY_BYTES + discrete
        sized = 1 <= count <= BLOCK_TICKS_MAX and rows <= capacity and discrete <= DISCRETE_BYTES_MAX
        if not sized or len(data) != wanted or first < 0:
            raise MatchError(
                f"block of commands from tick {first}: {count} ticks, {rows} rows of {capacity} and {discrete} bytes "
                f"do not fit its {len(data)} bytes; it is damaged, or of another game"
            )
        self.capacity = capacity
        self.first_tick, self.tick_count = first, count
        self._at = _HEAD.size
        chosen: U32 = self._take(data, "<u4", (rows,))
        if rows and (int(chosen[-1]) >= capacity or bool((chosen[1:] <= chosen[:-1]).any())):
            raise MatchError(f"block of commands from tick {first}: its rows do not ascend within {capacity}")
        self._hashes: list[int] = self._take(data, "<u8", (count,)).tolist()
        self._decode(data, chosen)
        self._actions = actions
        self._discrete = self._unpack(data[self._at :])

    def _take(self, data: bytes, dtype: str, shape: tuple[int, ...]) -> AnyArray:
        values = np.frombuffer(data, dtype, int(np.prod(shape)), self._at)
        self._at += values.nbytes
        return values.reshape(shape)

    def _decode(self, data: bytes, chosen: U32) -> None:
        """Fill dense columns of shape (ticks, rows up to the last with an input)."""
        count, rows = self.tick_count, len(chosen)
        width = self._width = int(chosen[-1]) + 1 if rows else 0
        packed: U8 = self._take(data, "u1", ((rows * count + 7) // 8,))
        planes = self._take(data, "u1", (len(WIDE), 2, count, rows))
        narrow = self._take(data, "u1", (VALUES, count, rows))
        zigzag = planes[:, 0] | planes[:, 1].astype(np.uint16) << np.uint16(8)
        wide = (zigzag >> np.uint16(1)) ^ (np.uint16(0) - (zigzag & np.uint16(1)))
        # By tick, as `Commands` has them: a tick is then taken over in two pieces.
        # Players mostly have the first rows, all of them: a slice is written in a tenth of the time of a list of rows.
        where: Any = slice(0, rows) if width == rows else chosen
        dense_wide: U16 = np.zeros((count, len(WIDE), width), np.uint16)
        dense_wide[:, :, where] = wide.transpose(1, 0, 2)
        dense: U8 = np.zeros((count, len(NARROW), width), np.uint8)
        dense[:, :VALUES, where] = narrow.transpose(1, 0, 2)
        dense[:, VALUES, where] = np.unpackbits(packed, count=rows * count).reshape(count, rows)
        # Sums of the differences: tick upon tick takes a third of the time of `np.cumsum` along the ticks.
        for columns in (dense_wide, dense[:, :VALUES]):
            for before, now in itertools.pairwise(columns):
                np.add(before, now, out=now)
        self._ticks = list(zip(dense_wide, dense, strict=True))
        self._filled: Commands | None = None

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
        if commands is not self._filled:
            if commands.capacity != self.capacity:
                raise MatchError(f"commands for {commands.capacity} players; the block was decoded for {self.capacity}")
            self._filled = commands
            self._targets = commands.wide[:, : self._width], commands.narrow[:, : self._width]
        commands.clear()
        wide, narrow = self._ticks[at]
        np.copyto(self._targets[0], wide)
        np.copyto(self._targets[1], narrow)
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
