"""The layout of net/columns.py with plain lists: the naive twin of its kernels."""

from collections.abc import Sequence

__all__ = ["packed", "unpacked"]


def signed(value: int) -> int:
    """An int32 from the low 32 bits."""
    return (value + 2**31) % 2**32 - 2**31


def zigzag(difference: int) -> int:
    """A difference modulo 2^32, small magnitudes first."""
    small = signed(difference)
    return 2 * small if small >= 0 else -2 * small - 1


def packed(rows: Sequence[Sequence[int]], differences: Sequence[bool]) -> bytes:
    """Rows as planes, each column in the form that is asked for."""
    forms, bases, planes = bytearray(), b"", b""
    for column, different in zip(zip(*rows, strict=True), differences, strict=True):
        base = column[0] if different else min(column)
        above = [base, *column[:-1]]
        numbers = [zigzag(v - a) for v, a in zip(column, above, strict=True)] if different else []
        numbers = numbers or [value - base for value in column]
        width = (max(numbers).bit_length() + 7) // 8
        forms.append(width | 8 * different | 16 * (base != 0))
        bases += base.to_bytes(4, "little", signed=True) if base else b""
        planes += b"".join(bytes(number >> 8 * p & 255 for number in numbers) for p in range(width))
    return bytes([1, len(rows[0])]) + len(rows).to_bytes(4, "little") + bytes(forms) + bases + planes


def unpacked(data: bytes) -> list[list[int]]:
    """The rows of well-formed planes."""
    width, count = data[1], int.from_bytes(data[2:6], "little")
    forms, at = data[6 : 6 + width], 6 + width
    bases = []
    for form in forms:
        bases.append(int.from_bytes(data[at : at + 4], "little", signed=True) if form & 16 else 0)
        at += 4 if form & 16 else 0
    columns = []
    for form, base in zip(forms, bases, strict=True):
        planes = [data[at + p * count : at + (p + 1) * count] for p in range(form & 7)]
        at += count * (form & 7)
        column, value = [], base
        for i in range(count):
            number = sum(plane[i] << 8 * p for p, plane in enumerate(planes))
            value = value + (number >> 1 if number % 2 == 0 else -(number >> 1) - 1) if form & 8 else base + number
            column.append(signed(value))
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]
