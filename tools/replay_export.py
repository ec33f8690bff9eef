"""Columns of a recorded match as Parquet or CSV, and its events as MessagePack or CSV, in bounded memory.

A table of columns has a row per live entity and exported tick: `tick`, `time_s`, `slot`, `id`, then the columns, those
of several numbers as one each (`motion.position_x`, `_y`, `_z`; other lengths by number). A Parquet file is written in
row groups of `ROWS_PER_GROUP`. Events in MessagePack are one map after another (read them with `msgpack.Unpacker`).
"""

import contextlib
import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgpack
import numpy as np

from server.replay import Event, Replay
from sim.arrays import AnyArray
from sim.table import Table
from tools.errors import ToolsError
from tools.replay_text import column_names, find_column

__all__ = ["ROWS_PER_GROUP", "export_columns", "export_events"]

ROWS_PER_GROUP = 65_536
AXES = ("x", "y", "z")
EVENT_FIELDS = (
    "tick", "time_s", "kind", "actor", "target", "position_x", "position_y", "position_z", "vector_x", "vector_y",
    "vector_z", "value",
)  # fmt: skip
Progress = Callable[[int, int], None]


class _Sink(Protocol):
    """Takes tables of columns of one length."""

    def write(self, columns: dict[str, AnyArray]) -> None: ...

    def close(self) -> None: ...


class _Csv:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._begun = False

    def write(self, columns: dict[str, AnyArray]) -> None:
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows(zip(*(array.tolist() for array in columns.values()), strict=True))

    def close(self) -> None:
        self._file.close()


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise ToolsError(
                f"--output {path}: Parquet needs pyarrow: install hitreg[export], or give a file that ends in .csv"
            ) from error
        self._pa, self._parquet, self._path = pa, parquet, path
        self._writer: Any = None

    def write(self, columns: dict[str, AnyArray]) -> None:
        table = self._pa.table({name: self._pa.array(array) for name, array in columns.items()})
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(str(self._path), table.schema, compression="zstd")
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Grouped:
    """Collects small tables into groups of rows for a sink; a context manager that removes what it could not finish."""

    def __init__(self, path: Path) -> None:
        makers: dict[str, Callable[[Path], _Sink]] = {".csv": _Csv, ".parquet": _Parquet}
        if path.suffix.lower() not in makers:
            raise ToolsError(f"--output {path}: must end in {' or '.join(makers)}")
        self._path = path
        try:
            path.open("ab").close()
            self._sink = makers[path.suffix.lower()](path)
        except OSError as error:
            raise ToolsError(f"--output {path}: {error.strerror}; give a file that can be written") from error
        self._parts: list[dict[str, AnyArray]] = []
        self._rows = 0
        self.rows = 0

    def write(self, columns: dict[str, AnyArray], rows: int) -> None:
        self._parts.append(columns)
        self._rows += rows
        self.rows += rows
        if self._rows >= ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._parts:
            names = self._parts[0]
            self._sink.write({name: np.concatenate([part[name] for part in self._parts]) for name in names})
        self._parts, self._rows = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._sink.close()
        except OSError as problem:
            raise ToolsError(f"--output {self._path}: {problem.strerror or problem}") from problem
        finally:
            if kind is not None:
                with contextlib.suppress(OSError):
                    self._path.unlink()


def _chosen(replay: Replay, wanted: Sequence[str]) -> tuple[Table, list[str]]:
    """The table and its columns that names such as `player.motion.position`, `player.motion` or `player` ask for."""
    tables = replay.world.tables
    named = [name.partition(".") for name in wanted]
    first = named[0][0]
    if any(table != first for table, _, _ in named):
        raise ToolsError(f"--columns {','.join(wanted)}: of one table at a time; make a file for each")
    if first not in tables:
        raise ToolsError(f"--columns {wanted[0]}: there is no table {first!r}; there are {', '.join(tables)}")
    known = column_names(tables[first])
    chosen: list[str] = []
    for _, _, rest in named:
        found = [name for name in known if not rest or name == rest or name.startswith(f"{rest}.")]
        if not found:
            raise ToolsError(f"--columns {first}.{rest}: {first} has no such column; it has {', '.join(known)}")
        chosen += [name for name in found if name not in chosen]
    return tables[first], chosen


def _flat(name: str, array: AnyArray, slots: AnyArray) -> Iterator[tuple[str, AnyArray]]:
    """A column's rows as columns of one number each; text as one column of bytes."""
    rows = array[slots]
    if name.endswith(".text"):
        yield name, np.array([row.tobytes().rstrip(b"\0").decode("utf-8", "replace") for row in rows], np.str_)
    elif rows.ndim == 1:
        yield name, rows
    else:
        flat = rows.reshape(len(rows), math.prod(array.shape[1:]))
        for index in range(flat.shape[1]):
            suffix = AXES[index] if flat.shape[1] == len(AXES) else str(index)
            yield f"{name}_{suffix}", np.ascontiguousarray(flat[:, index])


def export_columns(
    replay: Replay,
    output: Path,
    columns: Sequence[str],
    *,
    first: int,
    last: int,
    every: int = 1,
    progress: Progress | None = None,
) -> int:
    """Write columns of the live entities of one table, every so many ticks.

    Args:
        replay: It is moved about.
        output: A .parquet or .csv file.
        columns: `table.component.column`, `table.component` or `table`; all of one table.
        first, last: Ticks, both included.
        every: Every so many ticks, counted from `first`.
        progress: Told (ticks done, ticks in all) now and then.

    Returns:
        How many rows were written.

    Raises:
        ToolsError: A column is unknown, or the file cannot be written.
    """
    table, chosen = _chosen(replay, columns)
    arrays = [(name, found) for name in chosen if (found := find_column(table, name)) is not None]
    hz = replay.header.tick_hz
    with _Grouped(output) as target:
        for span in replay.spans:
            begin = first + -(-max(0, span.first - first) // every) * every
            for tick in range(begin, min(last, span.last) + 1, every):
                replay.seek(tick)
                slots = table.live_slots
                count = len(slots)
                rows: dict[str, AnyArray] = {
                    "tick": np.full(count, tick, np.int64),
                    "time_s": np.full(count, tick / hz),
                    "slot": slots.astype(np.int32),
                    "id": table.ids[slots],
                }
                for name, array in arrays:
                    rows.update(_flat(name, array, slots))
                target.write(rows, count)
                if progress is not None:
                    progress(tick - first, last - first)
    return target.rows


def _event_row(event: Event, hz: int) -> tuple[Any, ...]:
    return (
        event.tick, event.tick / hz, event.kind, event.actor, event.target, *event.position, *event.vector, event.value
    )  # fmt: skip


def _events(replay: Replay, first: int, last: int, progress: Progress | None) -> Iterator[Event]:
    for span in replay.spans:
        low, high = max(first, span.first + 1), min(last, span.last)
        if low > high:
            continue
        replay.seek(low - 1)
        while replay.tick < high:
            replay.step()
            if replay.world.events.count:
                yield from replay.events()
            if progress is not None and replay.tick % 256 == 0:
                progress(replay.tick - first, last - first)


def export_events(replay: Replay, output: Path, *, first: int, last: int, progress: Progress | None = None) -> int:
    """Write all events from tick `first` to `last` as .msgpack or .csv.

    Returns:
        How many events were written.

    Raises:
        ToolsError: The file cannot be written, or its name ends otherwise.
    """
    hz, count = replay.header.tick_hz, 0
    if output.suffix.lower() not in (".msgpack", ".csv"):
        raise ToolsError(f"--events {output}: must end in .msgpack or .csv")
    try:
        if output.suffix.lower() == ".csv":
            with output.open("w", newline="", encoding="utf-8") as text:
                writer = csv.writer(text)
                writer.writerow(EVENT_FIELDS)
                for event in _events(replay, first, last, progress):
                    writer.writerow(_event_row(event, hz))
                    count += 1
            return count
        with output.open("wb") as binary:
            for event in _events(replay, first, last, progress):
                binary.write(msgpack.packb(dict(zip(EVENT_FIELDS, _event_row(event, hz), strict=True))))
                count += 1
    except OSError as error:
        raise ToolsError(f"--events {output}: {error.strerror}; give a file that can be written") from error
    return count
