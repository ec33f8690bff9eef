"""The world as clients are told of it: which columns, quantised how, and each player's own raw state.

Every replicated entity has one row of integers: position and velocity, the number of its kind, then each further column
that some kind declares with `wire=`: those for everyone, then those for team mates, then those for owners, in the order
of declaration. Kinds without a column carry 0 there. A client is sent the fields up to its own level.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from net.owner import OwnerField, OwnerLayout
from net.records import Reckoning
from net.snapshots import FieldSpec, FieldTable
from net.snapshots_kernels import quantise_scalars, quantise_vectors
from server.errors import GameError
from server.replication import HIDDEN, Replication
from sim.arrays import F64, I32, U64, AnyArray
from sim.components import Look, Motion, Stance, Vitals
from sim.plugin import GameSpec, Kind
from sim.schema import Audience, Column
from sim.table import Table
from sim.world import World

__all__ = ["WireView", "field_table", "owner_columns", "owner_layout"]

OWNER_FIELDS = (
    OwnerField("position", "f8", 3),
    OwnerField("velocity", "f8", 3),
    OwnerField("ground_normal", "f8", 3),
    OwnerField("yaw", "u2"),
    OwnerField("pitch", "i2"),
    OwnerField("flags", "u2"),
)
"""What a client predicts of its own player, to the last bit; followed by `health` and `alive`."""


def owner_layout() -> OwnerLayout:
    """The owner section of every game: what motion needs, then health, armour and whether the player lives."""
    told = (OwnerField("health", "f8", 1, predicted=False), OwnerField("armour", "f8", 1, predicted=False))
    return OwnerLayout((*OWNER_FIELDS, *told, OwnerField("alive", "u1", 1, predicted=False)))


LEVELS = {Audience.EVERYONE: 0, Audience.TEAM: 1, Audience.OWNER: 2}


def _others(game: GameSpec) -> dict[str, Column[np.generic]]:
    """Further replicated columns by name, by audience, then in the order of declaration."""
    found: dict[str, Column[np.generic]] = {}
    for kind in game.kinds:
        for component in kind.components:
            for declared in component.columns.values():
                wire = declared.wire
                if not kind.replicated or wire is None or wire.role:
                    continue
                if wire.zone:  # told apart from these records (`server.zone_state`)
                    continue
                if declared.shape:
                    raise GameError(
                        f"game {game.name!r}: column {component.component_name}.{declared.name} has shape "
                        f"{declared.shape} and wire=: only position and velocity are vectors on the wire"
                    )
                found[f"{component.component_name}.{declared.name}"] = declared
    return dict(sorted(found.items(), key=_level_of))


def _level_of(item: tuple[str, Column[np.generic]]) -> int:
    wire = item[1].wire
    assert wire is not None
    return LEVELS[wire.audience]


def field_table(game: GameSpec, *, tick_hz: int) -> FieldTable:
    """The integers that are replicated of every entity of a game.

    Raises:
        GameError: A vector other than position and velocity is declared for the wire.
        NetError: There are too many columns.
    """
    position, velocity = Motion.position.wire, Motion.velocity.wire
    assert position is not None
    assert velocity is not None
    fields = [
        FieldSpec(f"{name}.{axis}", wire.bits, signed=True, step=wire.step, bound=wire.bound)
        for name, wire in (("position", position), ("velocity", velocity))
        for axis in "xyz"
    ]
    fields.append(FieldSpec("kind", max(len(game.kinds) - 1, 1).bit_length(), signed=False))
    for name, declared in _others(game).items():
        wire = declared.wire
        assert wire is not None
        fields.append(
            FieldSpec(
                name, wire.bits, signed=wire.signed, step=wire.step, level=LEVELS[wire.audience], bound=wire.bound,
                wraps=wire.wraps, angle=declared.unit.startswith("turn"),
            )
        )  # fmt: skip
    reckoning = [
        _reckoning(game, kind, [field.name for field in fields], position.step, tick_hz) for kind in game.kinds
    ]
    return FieldTable(fields, tick_hz=tick_hz, reckoning=reckoning)


def _reckoning(game: GameSpec, kind: Kind, names: Sequence[str], step: float, tick_hz: int) -> Reckoning:
    """How entities of a kind go on from a state."""
    falls = kind.falls
    if falls is None:
        return Reckoning()
    if falls.column not in names:
        raise GameError(
            f"game {game.name!r}: kind {kind.name!r} falls by {falls.column!r}, which no client is told of; give one of"
            f" {', '.join(names[7:])}"
        )
    gain = round(-falls.gravity / step / tick_hz**2 * 65536)
    return Reckoning(2, (0, 0, gain), names.index(falls.column), falls.mask, falls.value)


@dataclass(frozen=True, slots=True)
class _Copy:
    """One column on its way into the rows of one table."""

    table: Table
    source: AnyArray
    field: int
    step: float
    low: int
    high: int
    saturates: bool  # whether the column can hold what the field cannot


class WireView:
    """Copies the world's columns into `Replication`, quantised, once per tick that has snapshots."""

    def __init__(self, world: World, replication: Replication) -> None:
        self._world = world
        self._replication = replication
        self.position: F64 = np.zeros((world.slot_count, 3))
        self.ids: U64 = np.zeros(world.slot_count, np.uint64)
        self._copies: list[_Copy] = []
        self._told: list[Table] = []
        fields = replication.table
        replication.rule[:] = HIDDEN
        for number, kind in enumerate(world.game.kinds):
            table = world.tables[kind.name]
            if not kind.replicated or Motion not in table:
                continue
            rows = slice(table.slot_base, table.slot_base + table.capacity)
            replication.rule[rows] = 0
            replication.fields[rows, fields.index("kind")] = number
            self._told.append(table)
            for name in _others(world.game):
                component_name, _, column_name = name.partition(".")
                component = next((c for c in kind.components if c.component_name == component_name), None)
                if component is not None:
                    index = fields.index(name)
                    field = fields.fields[index]
                    low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, 0)
                    high = high or (1 << field.bits) - 1
                    source = getattr(table[component], column_name)
                    if source.dtype == np.bool_:
                        source = source.view(np.uint8)
                    saturates = _exceeds(source.dtype, field.step, low, high)
                    self._copies.append(_Copy(table, source, index, field.step, low, high, saturates))

    def take(self) -> None:
        """Quantise everything that is replicated, as of now."""
        fields, table_info = self._replication.fields, self._replication.table
        for table in self._told:
            base, count = table.slot_base, table.high_water
            rows = fields[base : base + count]
            motion = table[Motion]
            self.ids[base : base + count] = table.ids[:count]
            self.position[base : base + count] = motion.position[:count]
            scale = 1.0 / table_info.fields[0].step
            quantise_vectors(motion.position[:count], scale, 0, table_info.table, rows)
            scale = 1.0 / table_info.fields[3].step
            quantise_vectors(motion.velocity[:count], scale, 3, table_info.table, rows)
        for copy in self._copies:
            self._copy(copy, fields, table_info.table)
        for table in self._told:
            if Vitals in table:
                base, count = table.slot_base, table.high_water
                self._replication.team[base : base + count] = table[Vitals].team[:count]

    def _copy(self, copy: _Copy, fields: I32, widths: AnyArray) -> None:
        base, count = copy.table.slot_base, copy.table.high_water
        source = copy.source[:count]
        if source.dtype == np.float64:
            quantise_scalars(source, 1.0 / copy.step, copy.field, widths, fields[base : base + count])
            return
        column = fields[base : base + count, copy.field]
        if copy.step != 1.0:
            np.floor_divide(source, int(copy.step), out=column, casting="unsafe")
        elif copy.saturates and source.dtype.kind == "u":
            np.minimum(source, copy.high, out=column, casting="unsafe")
            return
        else:
            np.copyto(column, source, casting="unsafe")
        if copy.saturates:
            # np.clip takes 20 µs of these, most of them to see whether the bounds fit the type.
            np.minimum(column, copy.high, out=column)
            np.maximum(column, copy.low, out=column)


def _exceeds(dtype: np.dtype[Any], step: float, low: int, high: int) -> bool:
    """Whether a type of whole numbers, divided by a step, goes beyond some bounds."""
    if dtype.kind == "f":
        return False  # `quantise_scalars` sees to it
    limits = np.iinfo(dtype)
    return limits.min // int(step) < low or limits.max // int(step) > high


def owner_columns(world: World) -> dict[str, AnyArray]:
    """The arrays that owner sections are packed from, by field name."""
    table = world.players
    motion, look, stance, vitals = table[Motion], table[Look], table[Stance], table[Vitals]
    return {
        "position": motion.position,
        "velocity": motion.velocity,
        "ground_normal": stance.ground_normal,
        "yaw": look.yaw,
        "pitch": look.pitch,
        "flags": stance.flags,
        "health": vitals.health,
        "armour": vitals.armour,
        "alive": vitals.alive.view(np.uint8),
    }
