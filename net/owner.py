"""The owner section: the raw state of a client's own player, as the server has it, to the last bit.

Layout: the fields in the order of their table, each `count` numbers of its type, little endian, with nothing between;
at most 128 bytes (`net.snapshots.OWNER_BYTES_MAX`). The fields that the client predicts come first, so that comparing
prediction with authority is comparing the first `predicted_bytes` bytes. Server and client are given the same table.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from net.errors import NetError
from net.owner_kernels import gather_field, load_field, store_field
from net.snapshots import OWNER_BYTES_MAX
from sim.arrays import I32, I64, U8, AnyArray

__all__ = ["OwnerColumns", "OwnerField", "OwnerLayout"]


@dataclass(frozen=True, slots=True)
class OwnerField:
    """One column of the owner section.

    Attributes:
        name: Name of the column.
        dtype: Its numpy type, such as "f8", "u2" or "i2".
        count: Numbers per row; more than one makes a column of shape (n, count).
        predicted: Whether the client computes it too; otherwise it is taken as it comes.
    """

    name: str
    dtype: str
    count: int = 1
    predicted: bool = True

    @property
    def size(self) -> int:
        """Bytes per row."""
        return np.dtype(self.dtype).itemsize * self.count


class OwnerLayout:
    """Which columns an owner section holds, where.

    Attributes:
        fields: The table.
        offsets: Where each field begins, by name.
        size: Bytes of a section.
        predicted_bytes: Bytes of the fields that are predicted, at its beginning.
    """

    def __init__(self, fields: Sequence[OwnerField]) -> None:
        """Lays the fields out.

        Raises:
            NetError: No field or too many bytes; a name twice; a predicted field after one that is not.
        """
        self.fields = tuple(fields)
        self.offsets: dict[str, int] = {}
        self.size = 0
        self.predicted_bytes = 0
        for field in self.fields:
            if field.count < 1 or np.dtype(field.dtype).kind not in "fiub" or field.name in self.offsets:
                raise NetError(f"owner section, field {field.name!r}: give it one name, numbers and a count ≥ 1")
            if field.predicted and self.predicted_bytes < self.size:
                raise NetError(f"owner section, field {field.name!r}: predicted fields must come first")
            self.offsets[field.name] = self.size
            self.size += field.size
            self.predicted_bytes += field.size if field.predicted else 0
        if not 0 < self.size <= OWNER_BYTES_MAX:
            raise NetError(f"owner section: {self.size} bytes, allowed are 1 to {OWNER_BYTES_MAX}: use fewer fields")
        if sys.byteorder != "little":
            raise NetError("owner section: this machine is big endian, which is not supported")

    def allocate(self, rows: int) -> dict[str, AnyArray]:
        """New columns of zeros, by field name; (rows,) or (rows, count)."""
        return {
            field.name: np.zeros(rows if field.count == 1 else (rows, field.count), field.dtype)
            for field in self.fields
        }

    def bind(self, columns: Mapping[str, AnyArray]) -> "OwnerColumns":
        """Bind the layout to arrays that stay where they are.

        Args:
            columns: One C-contiguous array per field, of its type, (rows,) or (rows, count).

        Raises:
            NetError: A column is missing, or of another type, shape or memory layout.
        """
        return OwnerColumns(self, columns)


class OwnerColumns:
    """Columns seen as the bytes of owner sections. Values are copied as bytes, so that every bit arrives."""

    def __init__(self, layout: OwnerLayout, columns: Mapping[str, AnyArray]) -> None:
        self.layout = layout
        self._bytes: list[tuple[int, U8, bool]] = []
        rows = -1
        for field in layout.fields:
            array = columns.get(field.name)
            if array is None:
                raise NetError(f"owner section, field {field.name!r}: no such column")
            rows = array.shape[0] if rows < 0 else rows
            shape = (rows,) if field.count == 1 else (rows, field.count)
            if array.dtype != np.dtype(field.dtype) or array.shape != shape or not array.flags.c_contiguous:
                raise NetError(
                    f"owner section, field {field.name!r}: the column is {array.dtype} {array.shape}, "
                    f"expected C-contiguous {field.dtype} {shape}"
                )
            view = array.view(np.uint8).reshape(rows, field.size)
            self._bytes.append((layout.offsets[field.name], view, field.predicted))
        self.rows = rows

    def pack(self, rows: I32, out: U8, lengths: AnyArray) -> None:
        """Write the sections of chosen rows.

        Args:
            rows: Row of each section, −1 for none; int32 (m,).
            out: The sections, uint8 (m, ≥ size), C-contiguous.
            lengths: Bytes of each, 0 where the row is none; of any integer type, (m,).

        Raises:
            NetError: The arrays do not fit together.
        """
        if out.shape[0] < rows.shape[0] or out.shape[1] < self.layout.size or lengths.shape[0] < rows.shape[0]:
            raise NetError(f"owner section: {rows.shape[0]} rows of {self.layout.size} bytes do not fit {out.shape}")
        for offset, view, _ in self._bytes:
            gather_field(view, rows, offset, out)
        lengths[: rows.shape[0]] = np.where((rows >= 0) & (rows < self.rows), self.layout.size, 0)

    def unpack(self, sections: U8, active: U8, *, predicted: bool) -> None:
        """Set the columns from sections, row by row.

        Args:
            sections: Section of each row, uint8 (rows, ≥ size), C-contiguous.
            active: Which rows, uint8 (rows,).
            predicted: Which fields: those that are predicted or those that are not.
        """
        for offset, view, is_predicted in self._bytes:
            if is_predicted == predicted:
                load_field(sections, offset, active, view)

    def record(self, history: U8, ticks: I64, active: U8) -> None:
        """Write the predicted fields of active rows into a history by tick.

        Args:
            history: uint8 (rows, ring, ≥ predicted bytes), C-contiguous; ring is a power of two.
            ticks: Tick of each row, int64.
            active: Which rows, uint8.
        """
        for offset, view, is_predicted in self._bytes:
            if is_predicted:
                store_field(view, active, ticks, offset, history)
