"""Rows of integers as byte planes of columns: the layout that compressors do best on, for joins and key frames.

Layout, little endian:

    u8   version, 1
    u8   columns k, 1 to 64
    u32  rows n
    k ×  u8 form: bits 0–2 planes p, 0 to 4; bit 3: differences; bit 4: it has a base; others 0
    i32  base of each column that has one, one after the other; the others have 0
    for each column its p planes of n bytes each, the lowest bytes first

A column is n numbers u of p bytes, of which plane j holds byte j. Plain: value = base + u. Differences: each value is
that of the row above (the first: base) plus u, unfolded (zigzag: 0, −1, 1, −2, …). Both modulo 2^32. A column of one
value has no planes.

Neighbouring rows are neighbouring slots of an entity table, so identifiers and columns that many entities share differ
little; positions and angles do not, and stay plain. Columns apart by byte is what Parquet calls BYTE_STREAM_SPLIT, and
Blosc shuffling.
"""

import struct

import numpy as np

from net.columns_kernels import BASE, DIFFERENCE, FORM, PLAN_COLUMNS, PLANES, join_planes, plan_columns, split_planes
from net.errors import NetError
from sim.arrays import I32, I64, U8

__all__ = ["COLUMNS_MAX", "ROWS_MAX", "pack_columns", "unpack_columns"]

COLUMNS_MAX = 64
ROWS_MAX = 1 << 20
VERSION = 1
_HEAD = struct.Struct("<BBI")
_PLANES_MASK, _DIFFERENCES_BIT, _BASE_BIT = 7, 8, 16
_PLANES_MAX = 4


def pack_columns(rows: I32, *, differences: bool = True) -> bytes:
    """Rows as byte planes; `unpack_columns` gives back exactly these.

    Args:
        rows: Shape (n, k), int32, n up to `ROWS_MAX`, k from 1 to `COLUMNS_MAX`.
        differences: Whether columns may be told as differences between rows, where their bytes have less entropy.

    Raises:
        NetError: The array has another type or shape.
    """
    if rows.ndim != 2 or rows.dtype != np.int32 or not 1 <= rows.shape[1] <= COLUMNS_MAX or len(rows) > ROWS_MAX:
        raise NetError(
            f"columns: rows are {rows.dtype} {rows.shape}; give int32 (n ≤ {ROWS_MAX:,}, k from 1 to {COLUMNS_MAX})"
        )
    count, width = rows.shape
    columns = np.ascontiguousarray(rows.T)
    plan: I64 = np.zeros((width, PLAN_COLUMNS), np.int64)
    planes = plan_columns(columns, int(differences), np.zeros(256, np.int64), plan) if count else 0
    based = plan[:, BASE] != 0
    form = plan[:, PLANES] | np.where(plan[:, FORM] == DIFFERENCE, _DIFFERENCES_BIT, 0) | np.where(based, _BASE_BIT, 0)
    bases = plan[based, BASE].astype("<i4")
    out: U8 = np.empty(planes * count, np.uint8)
    if planes:
        split_planes(columns, plan, out)
    return b"".join(
        (_HEAD.pack(VERSION, width, count), form.astype(np.uint8).tobytes(), bases.tobytes(), out.tobytes())
    )


def unpack_columns(data: bytes, *, columns: int, rows_max: int) -> I32 | None:
    """The rows that were packed, shape (n, columns), int32; None for bytes that are none.

    Bytes off the wire never raise, and nothing is allocated before their length was found to fit. A column without
    planes takes one byte whatever the number of rows, so it is `rows_max` that bounds what a sender can ask for.

    Args:
        data: What `pack_columns` made, or anything.
        columns: How many the rows must have.
        rows_max: More rows than these are refused.
    """
    if len(data) < _HEAD.size:
        return None
    version, width, count = _HEAD.unpack_from(data)
    if version != VERSION or width != columns or not 1 <= width <= COLUMNS_MAX or count > min(rows_max, ROWS_MAX):
        return None
    form = np.frombuffer(data[_HEAD.size : _HEAD.size + width], np.uint8).astype(np.int64)
    if len(form) < width or int(form.max()) >= 2 * _BASE_BIT or int((form & _PLANES_MASK).max()) > _PLANES_MAX:
        return None
    based = form & _BASE_BIT != 0
    behind = _HEAD.size + width + 4 * int(based.sum())
    if len(data) != behind + count * int((form & _PLANES_MASK).sum()):
        return None
    plan: I64 = np.zeros((width, PLAN_COLUMNS), np.int64)
    plan[:, PLANES] = form & _PLANES_MASK
    plan[:, FORM] = np.where(form & _DIFFERENCES_BIT, DIFFERENCE, 0)
    plan[based, BASE] = np.frombuffer(data[_HEAD.size + width : behind], "<i4")
    # A view of bytes is read-only, which is another type to the kernel.
    planes: U8 = np.frombuffer(data, np.uint8, offset=behind).copy()
    out: I32 = np.empty((width, count), np.int32)
    join_planes(planes, plan, out)
    return np.ascontiguousarray(out.T)
