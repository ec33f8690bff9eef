"""Components, columns, messages and actions, each declared once.

A component is a class whose attributes are columns:

    class Motion(Component, name="motion"):
        position = column(np.float64, shape=(3,), unit="m", wire=Wire(bits=20, step=1 / 64))

The class is the key of a table (`table[Motion]`), and an instance of it holds that table's arrays, so that
`table[Motion].position` is an `NDArray[np.float64]` of shape (capacity, 3) to the type checker and at run time.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sim.errors import DeclarationError

__all__ = [
    "MESSAGE_BYTES",
    "VALUE_MAX",
    "ActionSpec",
    "Audience",
    "Column",
    "Component",
    "Delivery",
    "Direction",
    "Field",
    "FieldType",
    "MessageSpec",
    "Scalar",
    "Value",
    "Wire",
    "column",
    "message_bytes_max",
]

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
FIELDS_MAX = 16
FIELD_BYTES_MAX = 1024
LIST_ITEMS_MAX = 256
VALUE_MAX = 1e9
"""What a float column may hold at most, either way, unless it says otherwise: no kernel's integers overflow at that."""

ScalarT = TypeVar("ScalarT", bound=np.generic)


class Audience(enum.IntEnum):
    """Who is told of a column."""

    EVERYONE = 0
    OWNER = 1
    TEAM = 2


@dataclass(frozen=True, slots=True)
class Wire:
    """How a column is quantised for clients: `round(value / step)` in `bits` bits, saturating.

    Attributes:
        bits: 1 to 32.
        step: Size of one quantum, in the column's unit; 1 for integers.
        signed: Whether negative values occur.
        role: `position` and `velocity` columns take part in prediction; at most one of each per entity kind.
        audience: Who is told.
        bound: Error bound of dead reckoning (IEEE 1278.1), in the column's unit: clients are not told anew while what
            they reckon is off by no more. 0: they are told of every change.
        wraps: Whether the value goes round, as an angle does.
        zone: Whether every client of the zone knows it of every entity, wherever that is: names, scores, doors. Such a
            column may have any shape; it travels apart from positions (`net.zone`), and changes seldom.
    """

    bits: int
    step: float = 1.0
    signed: bool = False
    role: str = ""
    audience: Audience = Audience.EVERYONE
    bound: float = 0.0
    wraps: bool = False
    zone: bool = False

    def __post_init__(self) -> None:
        """Refuses what no codec could carry."""
        if not 1 <= self.bits <= 32 or not self.step > 0.0 or self.role not in {"", "position", "velocity"}:
            raise DeclarationError(f"{self!r}: bits must be 1..32, step > 0, role '', 'position' or 'velocity'")
        if not 0.0 <= self.bound < self.step * 2 ** (self.bits - 1):
            raise DeclarationError(f"{self!r}: bound must be 0 or more, and less than half of what the bits can hold")
        if self.zone and (self.role or self.audience is not Audience.EVERYONE):
            raise DeclarationError(f"{self!r}: zone=True is for everyone, and has no role")


class Column(Generic[ScalarT]):
    """The declaration of one column; on an instance of its component, the column's array."""

    name: str

    def __init__(
        self,
        dtype: type[ScalarT],
        *,
        shape: tuple[int, ...],
        unit: str,
        default: float,
        wire: Wire | None,
        persist: bool,
        bounds: tuple[float, float] | None,
    ) -> None:
        self.dtype: np.dtype[ScalarT] = np.dtype(dtype)
        self.shape = shape
        self.unit = unit
        self.default = default
        self.wire = wire
        self.persist = persist
        self.bounds = bounds or _widest(self.dtype)

    def __set_name__(self, owner: type, name: str) -> None:
        """Takes the attribute's name."""
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> "Column[ScalarT]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> NDArray[ScalarT]: ...
    def __get__(self, instance: object | None, owner: type) -> "Column[ScalarT] | NDArray[ScalarT]":
        """The declaration on the class. Instances hold their arrays themselves and never come here."""
        if instance is None:
            return self
        raise AttributeError(f"{owner.__name__}.{self.name} has no array: the component is not in a table")

    def describe(self) -> str:
        """One canonical line; two layouts are the same if and only if their lines are."""
        return f"{self.name}:{self.dtype.str}{self.shape} [{self.unit}] ={self.default!r} {self.wire!r} {self.persist}"


def _widest(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind in "iu":
        return int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    return (0, 1) if dtype.kind == "b" else (-VALUE_MAX, VALUE_MAX)


def column(
    dtype: type[ScalarT],
    *,
    shape: tuple[int, ...] = (),
    unit: str = "",
    default: float = 0,
    wire: Wire | None = None,
    persist: bool = False,
    bounds: tuple[float, float] | None = None,
) -> Column[ScalarT]:
    """Declare a column of a component.

    Args:
        dtype: Scalar type of an element.
        shape: Shape of one row; () is one number per entity.
        unit: SI unit, for documentation and tools; "" for none.
        default: What a fresh row is filled with.
        wire: How it is sent to clients; None keeps it on the server.
        persist: Whether checkpoints of a character keep it.
        bounds: Least and greatest value that any tick can leave in it; None: all integers of the type, floats up to
            `VALUE_MAX`. A captured state with another value is refused, so give them to whatever is used as an index.
            A game may narrow those of its kinds (`sim.plugin.Registration.kind`). No part of the layout.
    """
    return Column(dtype, shape=shape, unit=unit, default=default, wire=wire, persist=persist, bounds=bounds)


class Component:
    """Base of all components. Subclasses give a name and columns; instances hold one table's arrays."""

    component_name: ClassVar[str] = ""
    columns: ClassVar[Mapping[str, Column[Any]]] = {}

    def __init_subclass__(cls, *, name: str, **options: Any) -> None:
        """Collects the columns and checks the names.

        Raises:
            DeclarationError: A name is not lower-case snake case of at most 32 letters, or there is no column.
        """
        super().__init_subclass__(**options)
        if not NAME_PATTERN.fullmatch(name):
            raise DeclarationError(f"component name {name!r}: use lower-case snake case, at most 32 letters")
        cls.component_name = name
        cls.columns = {key: value for key, value in vars(cls).items() if isinstance(value, Column)}
        if not cls.columns:
            raise DeclarationError(f"component {name!r} declares no column: add one with column(dtype, …)")

    def __init__(self, capacity: int) -> None:
        for name, declared in self.columns.items():
            array = np.full((capacity, *declared.shape), declared.default, dtype=declared.dtype)
            self.__dict__[name] = array

    @classmethod
    def describe(cls) -> str:
        """One canonical text of the component's layout."""
        lines = "; ".join(declared.describe() for declared in cls.columns.values())
        return f"{cls.component_name}{{{lines}}}"


class FieldType(enum.StrEnum):
    """What a message field holds."""

    INTEGER = "integer"
    FLOAT = "float"
    TEXT = "text"
    BYTES = "bytes"
    ENTITY = "entity"
    LIST = "list"


class Delivery(enum.IntEnum):
    """How a message travels: may be lost; may be lost but never goes back; arrives once and in order."""

    UNRELIABLE = 1
    SEQUENCED = 2
    RELIABLE = 3


MESSAGE_BYTES = {Delivery.UNRELIABLE: 1024, Delivery.SEQUENCED: 1024, Delivery.RELIABLE: 8192}
"""The largest message by delivery: one packet, or several that arrive in order."""


class Direction(enum.StrEnum):
    """Who sends a message. What clients send as `BOTH` is passed on to clients with its sender's entity in front."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"
    BOTH = "both"


Scalar = int | float | str | bytes
Value = Scalar | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """One bounded field of a message or an action.

    Attributes:
        name: Lower-case snake case.
        type: What it holds; an entity is a 64-bit id, a list holds scalars of one declaration (`items`).
        low: Least number; for text and bytes the least encoded length, for a list the least count.
        high: Greatest number; for text and bytes the greatest encoded length, for a list the greatest count.
        items: What a list holds; None for everything else.
        doc: What it means, for docs/protocol.md; no part of the protocol id.
    """

    name: str
    type: FieldType
    low: float = 0
    high: float = 2**31 - 1
    items: "Field | None" = None
    doc: str = ""

    def accepts(self, value: object) -> bool:
        """Whether a value is of the type and within the bounds."""
        if self.type is FieldType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        if self.type is FieldType.FLOAT:
            return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high
        if self.type is FieldType.ENTITY:
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
        if self.type is FieldType.TEXT:
            return isinstance(value, str) and self.low <= len(value.encode("utf-8", "replace")) <= self.high
        if self.type is FieldType.BYTES:
            return isinstance(value, bytes) and self.low <= len(value) <= self.high
        items = self.items
        counted = isinstance(value, tuple) and self.low <= len(value) <= self.high
        return items is not None and isinstance(value, tuple) and counted and all(items.accepts(v) for v in value)

    def bytes_max(self) -> int:
        """The most bytes that a value takes in msgpack."""
        if self.type is FieldType.INTEGER:
            return max(_integer_bytes(int(self.low)), _integer_bytes(int(self.high)))
        if self.type in {FieldType.ENTITY, FieldType.FLOAT}:
            return 9
        high = int(self.high)
        if self.type is FieldType.TEXT:
            return high + (1 if high < 32 else 2 if high < 256 else 3)
        if self.type is FieldType.BYTES:
            return high + (2 if high < 256 else 3)
        assert self.items is not None
        return (1 if high < 16 else 3) + high * self.items.bytes_max()

    def describe(self) -> str:
        """One canonical text; two fields are the same on the wire if and only if their texts are."""
        if self.type is FieldType.ENTITY:
            return f"{self.name}:{self.type}"
        held = "" if self.items is None else f" of {self.items.describe()}"
        return f"{self.name}:{self.type} {self.low!r}..{self.high!r}{held}"


def _integer_bytes(value: int) -> int:
    """Bytes of an integer in msgpack, which takes the shortest form."""
    for size, low, high in ((1, -32, 127), (2, -(2**7), 2**8 - 1), (3, -(2**15), 2**16 - 1), (5, -(2**31), 2**32 - 1)):
        if low <= value <= high:
            return size
    return 9


def _check_bounds(where: str, entry: Field) -> None:
    """Refuse bounds that the type cannot have."""
    if not NAME_PATTERN.fullmatch(entry.name) or not entry.low <= entry.high:
        raise DeclarationError(f"{where}: bad name, or low above high")
    counted = entry.type in {FieldType.TEXT, FieldType.BYTES, FieldType.LIST}
    most = LIST_ITEMS_MAX if entry.type is FieldType.LIST else FIELD_BYTES_MAX
    if counted and not 0 < entry.high <= most:
        raise DeclarationError(f"{where}: high must be 1..{most} {'items' if most == LIST_ITEMS_MAX else 'bytes'}")
    whole = entry.type is not FieldType.FLOAT
    if whole and not (isinstance(entry.low, int) and isinstance(entry.high, int)):
        raise DeclarationError(f"{where}: low {entry.low!r} and high {entry.high!r} must be integers for {entry.type}")
    if not -(2**63) <= entry.low <= entry.high < 2**64 or (counted and entry.low < 0):
        raise DeclarationError(f"{where}: bounds {entry.low!r}..{entry.high!r} are beyond what {entry.type} can hold")


def _check_fields(owner: str, name: str, fields: tuple[Field, ...]) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise DeclarationError(f"{owner} name {name!r}: use lower-case snake case, at most 32 letters")
    if len(fields) > FIELDS_MAX or len({entry.name for entry in fields}) != len(fields):
        raise DeclarationError(f"{owner} {name!r}: at most {FIELDS_MAX} fields, each with a name of its own")
    for entry in fields:
        where = f"{owner} {name!r} field {entry.name!r}"
        _check_bounds(where, entry)
        if (entry.items is not None) != (entry.type is FieldType.LIST):
            raise DeclarationError(f"{where}: a list, and only a list, needs items=Field(…)")
        if entry.items is not None:
            if entry.items.type is FieldType.LIST:
                raise DeclarationError(f"{where}: a list of lists is deeper than 2; use two fields")
            _check_bounds(f"{where} items", entry.items)


def _check_size(owner: str, name: str, fields: tuple[Field, ...], delivery: Delivery) -> None:
    """Refuse a declaration whose largest message would not fit: then none ever fails for its size."""
    needed, most = message_bytes_max(fields), MESSAGE_BYTES[delivery]
    if needed > most:
        raise DeclarationError(
            f"{owner} {name!r}: up to {needed} bytes as declared, {delivery.name} carries {most}; lower the bounds of "
            f"its fields{'' if delivery is Delivery.RELIABLE else ', or declare it RELIABLE'}"
        )


def message_bytes_max(fields: tuple[Field, ...]) -> int:
    """The most bytes of a message with these fields: type byte, array head, number and values."""
    return 1 + 3 + 3 + sum(entry.bytes_max() for entry in fields)


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """A message between server and client that does not change the world, such as a line of chat.

    Attributes:
        name: Lower-case snake case.
        fields: Up to 16.
        delivery: How it travels.
        direction: Who sends it; what is sent both ways reaches clients with a field `sender`, an entity, in front.
        doc: What it means, for docs/protocol.md.
    """

    name: str
    fields: tuple[Field, ...]
    delivery: Delivery = Delivery.RELIABLE
    direction: Direction = Direction.BOTH
    doc: str = ""

    def __post_init__(self) -> None:
        """Checks names and bounds."""
        _check_fields("message", self.name, self.fields)
        if self.direction is Direction.BOTH and any(entry.name == SENDER.name for entry in self.fields):
            raise DeclarationError(f"message {self.name!r} field 'sender': the server adds it; choose another name")
        _check_size("message", self.name, self.fields_to_client, self.delivery)

    @property
    def fields_to_client(self) -> tuple[Field, ...]:
        """The fields as clients receive them."""
        return (SENDER, *self.fields) if self.direction is Direction.BOTH else self.fields

    def describe(self) -> str:
        """One canonical line, without documentation."""
        fields = ", ".join(entry.describe() for entry in self.fields)
        return f"message {self.name}({fields}) {self.delivery.name} {self.direction}"


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """A client's request that enters the world as a recorded command, such as a change of team.

    Attributes:
        name: Lower-case snake case.
        fields: Up to 16.
        per_second_max: How many a player may send; more are refused and counted.
        delivery: How it travels.
        doc: What it means, for docs/protocol.md.
    """

    name: str
    fields: tuple[Field, ...]
    per_second_max: int = 5
    delivery: Delivery = Delivery.RELIABLE
    doc: str = ""

    def __post_init__(self) -> None:
        """Checks names and bounds."""
        _check_fields("action", self.name, self.fields)
        if not 1 <= self.per_second_max <= 1000:
            raise DeclarationError(f"action {self.name!r}: per_second_max {self.per_second_max} must be 1..1000")
        _check_size("action", self.name, self.fields, self.delivery)

    @property
    def direction(self) -> Direction:
        """Clients ask, the server decides."""
        return Direction.TO_SERVER

    def describe(self) -> str:
        """One canonical line, without documentation."""
        fields = ", ".join(entry.describe() for entry in self.fields)
        return f"action {self.name}({fields}) {self.delivery.name} {self.per_second_max}/s"


SENDER = Field("sender", FieldType.ENTITY, doc="entity of the player who sent it, 0 for none")
