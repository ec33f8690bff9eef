"""Kernels behind `net.owner`: columns, seen as bytes, into owner sections and back."""

from net.bytes_kernels import copy_bytes
from sim.arrays import I32, I64, U8
from sim.jit import kernel

__all__ = ["gather_field", "load_field", "store_field"]


@kernel("(u1[:,::1], i4[::1], i8, u1[:,::1])")
def gather_field(column: U8, rows: I32, offset: int, out: U8) -> None:
    """Copy one field of chosen rows into sections.

    Args:
        column: The field's bytes, uint8 (table rows, size).
        rows: Row of each section; others than 0..table rows − 1 are left out.
        offset: Where the field begins in a section.
        out: Sections, uint8 (≥ rows, ≥ offset + size).
    """
    for index in range(rows.shape[0]):
        row = rows[index]
        if row < 0 or row >= column.shape[0]:
            continue
        copy_bytes(out[index], offset, column[row], 0, column.shape[1])


@kernel("(u1[:,::1], i8, u1[::1], u1[:,::1])")
def load_field(sections: U8, offset: int, active: U8, column: U8) -> None:
    """Copy one field of the active rows out of their sections."""
    for row in range(column.shape[0]):
        if active[row]:
            copy_bytes(column[row], 0, sections[row], offset, column.shape[1])


@kernel("(u1[:,::1], u1[::1], i8[::1], i8, u1[:,:,::1])")
def store_field(column: U8, active: U8, ticks: I64, offset: int, history: U8) -> None:
    """Copy one field of the active rows into their history, at their tick modulo its length (a power of two)."""
    for row in range(column.shape[0]):
        if active[row]:
            place = ticks[row] & (history.shape[1] - 1)
            copy_bytes(history[row, place], offset, column[row], 0, column.shape[1])
