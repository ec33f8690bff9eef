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
    "ActionSpec",
    "Audience",
    "Column",
    "Component",
    "Field",
    "FieldType",
    "MessageSpec",
    "Wire",
    "column",
]

NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,31}")
FIELDS_MAX = 16
FIELD_BYTES_MAX = 1024

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
    """

    bits: int
    step: float = 1.0
    signed: bool = False
    role: str = ""
    audience: Audience = Audience.EVERYONE

    def __post_init__(self) -> None:
        """Refuses what no codec could carry."""
        if not 1 <= self.bits <= 32 or not self.step > 0.0 or self.role not in {"", "position", "velocity"}:
            raise DeclarationError(f"{self!r}: bits must be 1..32, step > 0, role '', 'position' or 'velocity'")


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
    ) -> None:
        self.dtype: np.dtype[ScalarT] = np.dtype(dtype)
        self.shape = shape
        self.unit = unit
        self.default = default
        self.wire = wire
        self.persist = persist

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


def column(
    dtype: type[ScalarT],
    *,
    shape: tuple[int, ...] = (),
    unit: str = "",
    default: float = 0,
    wire: Wire | None = None,
    persist: bool = False,
) -> Column[ScalarT]:
    """Declare a column of a component.

    Args:
        dtype: Scalar type of an element.
        shape: Shape of one row; () is one number per entity.
        unit: SI unit, for documentation and tools; "" for none.
        default: What a fresh row is filled with.
        wire: How it is sent to clients; None keeps it on the server.
        persist: Whether checkpoints of a character keep it.
    """
    return Column(dtype, shape=shape, unit=unit, default=default, wire=wire, persist=persist)


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
    TEXT = "text"
    BYTES = "bytes"
    ENTITY = "entity"


@dataclass(frozen=True, slots=True)
class Field:
    """One bounded field of a message or an action.

    Attributes:
        name: Lower-case snake case.
        type: What it holds; an entity is a 64-bit id.
        low: Least integer.
        high: Greatest integer, or for text and bytes the greatest encoded length.
    """

    name: str
    type: FieldType
    low: int = 0
    high: int = 2**31 - 1

    def accepts(self, value: object) -> bool:
        """Whether a decoded value is of the type and within the bounds."""
        if self.type is FieldType.INTEGER:
            return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high
        if self.type is FieldType.ENTITY:
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64
        if self.type is FieldType.TEXT:
            return isinstance(value, str) and len(value.encode("utf-8", "replace")) <= self.high
        return isinstance(value, bytes) and len(value) <= self.high


def _check_fields(owner: str, name: str, fields: tuple[Field, ...]) -> None:
    if not NAME_PATTERN.fullmatch(name):
        raise DeclarationError(f"{owner} name {name!r}: use lower-case snake case, at most 32 letters")
    if len(fields) > FIELDS_MAX or len({entry.name for entry in fields}) != len(fields):
        raise DeclarationError(f"{owner} {name!r}: at most {FIELDS_MAX} fields, each with a name of its own")
    for entry in fields:
        sized = entry.type in {FieldType.TEXT, FieldType.BYTES}
        if not NAME_PATTERN.fullmatch(entry.name) or entry.low > entry.high:
            raise DeclarationError(f"{owner} {name!r} field {entry.name!r}: bad name, or low above high")
        if sized and not 0 < entry.high <= FIELD_BYTES_MAX:
            raise DeclarationError(f"{owner} {name!r} field {entry.name!r}: high must be 1..{FIELD_BYTES_MAX} bytes")


@dataclass(frozen=True, slots=True)
class MessageSpec:
    """A message between server and client that does not change the world, such as a line of chat."""

    name: str
    fields: tuple[Field, ...]

    def __post_init__(self) -> None:
        """Checks names and bounds."""
        _check_fields("message", self.name, self.fields)


@dataclass(frozen=True, slots=True)
class ActionSpec:
    """A client's request that enters the world as a recorded command, such as a change of team.

    Attributes:
        per_second_max: How many a player may send; more are refused and counted.
    """

    name: str
    fields: tuple[Field, ...]
    per_second_max: int = 5

    def __post_init__(self) -> None:
        """Checks names and bounds."""
        _check_fields("action", self.name, self.fields)
        if not 1 <= self.per_second_max <= 1000:
            raise DeclarationError(f"action {self.name!r}: per_second_max {self.per_second_max} must be 1..1000")
