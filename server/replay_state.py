"""Where two states of a world differ: the table, the column, the slot, the element and both values.

A state is looked at as a mapping from (table, column) to rows up to the table's high-water mark. Beside the components'
columns, called `component.column`, each table has `id`, `generation`, `free_queue`, and the numbers `high_water`,
`free_head` and `live_count` as columns of one row. Values are compared by their bits, so that -0.0 differs from 0.0 and
a NaN from none but another NaN, as it is with state hashes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np

from sim.arrays import AnyArray
from sim.hashing import hash_bytes
from sim.world import World

__all__ = [
    "BOOKKEEPING",
    "Difference",
    "StateColumns",
    "StateKey",
    "changed_keys",
    "copy_columns",
    "fingerprints",
    "first_difference",
    "state_columns",
]

StateKey: TypeAlias = tuple[str, str]
StateColumns: TypeAlias = dict[StateKey, AnyArray]

BOOKKEEPING = ("generation", "free_queue", "high_water", "free_head", "live_count")
"""What a table holds beside its rows' ids and components; compared last, as it tells a reader the least."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that two states do not share.

    Attributes:
        table: Name of the table.
        column: `component.column`, `id`, or a name of `BOOKKEEPING`.
        slot: Row within the table; -1 where one state lacks the column.
        element: Number of the value within the row, in C order; -1 for rows of one number.
        first: The value in the first state, as text that tells every bit.
        second: The same in the second.
        values: How many values differ in all columns together.
    """

    table: str
    column: str
    slot: int
    element: int
    first: str
    second: str
    values: int

    def __str__(self) -> str:
        """One line for a person."""
        where = f"table {self.table}, column {self.column}"
        if self.slot >= 0:
            where += f", slot {self.slot}" + (f", element {self.element}" if self.element >= 0 else "")
        more = f" ({self.values} values differ in all)" if self.values > 1 else ""
        return f"{where}: {self.first} ≠ {self.second}{more}"

    def to_dict(self) -> dict[str, object]:
        """The same as plain values, for JSON."""
        return asdict(self)


def state_columns(world: World) -> StateColumns:
    """All columns of a world's tables as views of the live arrays, valid until the world changes."""
    columns: StateColumns = {}
    for table in world.tables.values():
        most = table.high_water
        columns[table.name, "id"] = table.ids[:most]
        for kind, component in table.components.items():
            for name in kind.columns:
                columns[table.name, f"{kind.component_name}.{name}"] = getattr(component, name)[:most]
    for table in world.tables.values():
        columns[table.name, "generation"] = table.generation[: table.high_water]
        columns[table.name, "free_queue"] = table.free_queue
        for number in BOOKKEEPING[2:]:
            columns[table.name, number] = np.array([getattr(table, number)], np.int64)
    return columns


def copy_columns(columns: Mapping[StateKey, AnyArray]) -> StateColumns:
    """The same state, kept while the world goes on."""
    return {key: array.copy() for key, array in columns.items()}


def fingerprints(columns: Mapping[StateKey, AnyArray]) -> dict[StateKey, int]:
    """A 64-bit hash of each column."""
    return {
        key: hash_bytes(np.ascontiguousarray(array).reshape(-1).view(np.uint8), len(array))
        for key, array in columns.items()
    }


def changed_keys(first: Mapping[StateKey, int], second: Mapping[StateKey, int]) -> list[StateKey]:
    """Columns whose fingerprints differ, or that only one side has, in the order of the first."""
    both = [key for key, value in first.items() if second.get(key) != value]
    return both + [key for key in second if key not in first]


def first_difference(first: Mapping[StateKey, AnyArray], second: Mapping[StateKey, AnyArray]) -> Difference | None:
    """The first value that differs, table by table and slot by slot; None where the states are the same.

    Args:
        first: Of `state_columns`, from one world or build.
        second: From the other.
    """
    found: Difference | None = None
    total = 0
    for key in [*first, *(key for key in second if key not in first)]:
        one, other = first.get(key), second.get(key)
        if one is None or other is None or one.dtype != other.dtype or one.shape[1:] != other.shape[1:]:
            total += 1
            found = found or Difference(*key, -1, -1, _shape_text(one), _shape_text(other), 0)
            continue
        different = _different(one, other)
        if different.any():
            total += int(different.sum())
            found = found or _describe(key, one, other, different)
    if found is None:
        return None
    return Difference(found.table, found.column, found.slot, found.element, found.first, found.second, total)


def _shape_text(array: AnyArray | None) -> str:
    return "no such column" if array is None else f"{array.dtype} {array.shape[1:]}"


def _different(one: AnyArray, other: AnyArray) -> AnyArray:
    """Which values of the rows that both have differ in a bit, shape (rows, values per row)."""
    rows = min(len(one), len(other))
    width = one.dtype.itemsize
    first, second = (np.ascontiguousarray(array[:rows]).reshape(-1).view(np.uint8) for array in (one, other))
    values = int(np.prod(one.shape[1:], dtype=np.int64))
    differs: AnyArray = (first != second).reshape(rows, values, width).any(axis=2)
    return differs


def _describe(key: StateKey, one: AnyArray, other: AnyArray, different: AnyArray) -> Difference:
    slot, element = (int(index) for index in np.argwhere(different)[0])
    values = [array[slot].reshape(-1)[element] for array in (one, other)]
    first, second = (_exact(value) for value in values)
    if first == second:  # NaNs of different bits
        first, second = (f"{first} ({value.tobytes()[::-1].hex()})" for value in values)
    return Difference(*key, slot, element if one.ndim > 1 else -1, first, second, 0)


def _exact(value: AnyArray) -> str:
    """A number so that reading it gives the same bits again; ids in hexadecimal."""
    plain = value.item()
    return f"{plain:#x}" if value.dtype == np.uint64 else repr(plain)
