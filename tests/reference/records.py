"""The record layout of net/records_kernels.py as plain strings of bits: the naive twin of the codec."""

from collections.abc import Sequence
from fractions import Fraction
from math import floor

from net.snapshots import FieldTable

__all__ = ["RecordTwin"]

SELF = 3


def raw(value: int, bits: int) -> str:
    """`bits` bits, low bit first."""
    return "".join(str(value >> i & 1) for i in range(bits))


def golomb(value: int, order: int) -> str:
    """Exp-Golomb: zeros, a one, the low bits of value + 2^order."""
    shifted = value + (1 << order)
    low = shifted.bit_length() - 1
    return "0" * (low - order) + "1" + raw(shifted - (1 << low), low)


def words_of(lengths: Sequence[int]) -> dict[int, str]:
    """The canonical word of each symbol, first bit first: counted up from all zeros, by length and symbol."""
    words: dict[int, str] = {}
    value = Fraction(0)
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        words[symbol] = "".join(str(int(value * 2 ** (i + 1)) % 2) for i in range(length))
        value += Fraction(1, 2**length)
    return words


class RecordTwin:
    """Encodes and decodes records as the documentation says, from a table's description alone."""

    def __init__(self, table: FieldTable) -> None:
        schema = table.describe()
        self.fields: list[dict[str, int]] = schema["fields"]  # type: ignore[assignment]  # JSON has no types
        self.bits = [field["bits"] for field in self.fields]
        self.schema = schema
        self.count: list[int] = schema["count"]  # type: ignore[assignment]  # as above
        self.angles: list[int] = schema["angles"]  # type: ignore[assignment]  # as above
        lengths: list[list[int]] = schema["lengths"]  # type: ignore[assignment]  # as above
        self.words = [words_of(row) for row in lengths]
        self.others = [f for f in range(6, len(self.bits)) if f not in self.angles]

    def order(self, baseline: Sequence[int]) -> tuple[list[int], int]:
        """The reckoning of the baseline's kind, and the order that holds."""
        kind, rows = self.schema["kind"], self.schema["reckoning"]
        assert isinstance(kind, int)
        assert isinstance(rows, list)
        row: list[int] = rows[min(baseline[kind], len(rows) - 1) if kind >= 0 else 0]
        if row[0] == 2 and baseline[row[7]] & row[8] != row[9]:
            return row, 1
        return row, row[0]

    def difference(self, field: int, current: int, foreseen: int) -> int:
        """Folded, modulo the field's width."""
        size = 1 << self.bits[field]
        small = (current - foreseen + size // 2) % size - size // 2
        return 2 * small if small >= 0 else -2 * small - 1

    def wrapped(self, field: int, value: int) -> int:
        """The value as the field can hold it."""
        value %= 1 << self.bits[field]
        return (
            value - (1 << self.bits[field]) if self.fields[field]["signed"] and value >> self.bits[field] - 1 else value
        )

    def velocity(self, baseline: Sequence[int], age: int, axis: int) -> int:
        """Expected."""
        row, order = self.order(baseline)
        return baseline[3 + axis] + (floor(Fraction(row[4 + axis] * age, 65536) + Fraction(1, 2)) if order == 2 else 0)

    def expected(self, baseline: Sequence[int], age: int, axis: int) -> int:
        """Dead reckoning of one motion field, in exact rational arithmetic."""
        if axis >= 3:
            return self.wrapped(axis, self.velocity(baseline, age, axis - 3))
        row, order = self.order(baseline)
        scale = self.schema["scale"]
        assert isinstance(scale, int)
        way = baseline[3 + axis] * age * scale if order else 0
        if order == 2:
            way += floor(Fraction(row[1 + axis] * age * age, 2))
        return self.wrapped(axis, baseline[axis] + floor(Fraction(way, 65536) + Fraction(1, 2)))

    def carried(self, baseline: Sequence[int], velocity: Sequence[int], age: int, axis: int) -> int:
        """The baseline's position carried on with the mean of two velocities."""
        scale = self.schema["scale"]
        assert isinstance(scale, int)
        if self.order(baseline)[1] == 0:
            return baseline[axis]
        mean = Fraction(baseline[3 + axis] + velocity[axis], 2)
        return baseline[axis] + floor(mean * age * scale / 65536 + Fraction(1, 2))

    def number(self, folded: int, code: int) -> str:
        """A width and the bits below the highest."""
        width = folded.bit_length()
        text = self.words[code][min(width, 15)]
        if width >= 15:
            text += raw(width - 15, 5)
        return text + raw(folded, width)[: max(width - 1, 0)]

    def shape_code(self, baseline: Sequence[int], age: int) -> int:
        """The code of the first symbol."""
        base = self.schema["speed_base"]
        assert isinstance(base, int)
        widest = max((2 * v if v >= 0 else -2 * v - 1).bit_length() for v in baseline[3:6])
        speed = 0 if widest == 0 else min(max(widest - base, 1), 4)
        aged = sum(age > limit for limit in (4, 8, 16))
        return (aged * 5 + speed) * 2 + (1 if self.order(baseline)[1] == 2 else 0)

    def delta(self, current: Sequence[int], baseline: Sequence[int], age: int, level: int) -> str:
        """The body against a baseline."""
        fast = 1 if self.order(baseline)[1] == 2 else 0
        v = [self.difference(3 + i, current[3 + i], self.velocity(baseline, age, i)) for i in range(3)]
        p = [self.difference(i, current[i], self.carried(baseline, current[3:6], age, i)) for i in range(3)]
        a = [self.difference(f, current[f], baseline[f]) for f in self.angles]
        others = [f for f in self.others if f < self.count[level]]
        changed = [i for i, f in enumerate(others) if current[f] != baseline[f]]
        if level == SELF:
            v, p = [0] * 3, [0] * 3
        shape = any(v) + 2 * any(p) + 4 * any(a) + 8 * bool(changed)
        text = self.words[158 if level == SELF else self.shape_code(baseline, age)][shape]
        w = [value.bit_length() for value in v]
        if any(v):
            text += self.number(v[0], 40 + fast) + self.number(v[1], 42 + 2 * min(w[0], 15) + fast)
            text += self.number(v[2], 74 + 2 * min(max(w[:2]), 15) + fast)
        if any(p):
            text += "".join(self.number(p[i], (106, 106, 122)[i] + min(w[i], 15)) for i in range(3))
        if any(a):
            text += self.number(a[0], 138)
            text += self.number(a[1], 139 + min(a[0].bit_length(), 15)) if len(a) == 2 else ""
        if changed:
            alone = len(changed) == 1 and changed[0] < 15
            text += self.words[157][changed[0] if alone else 15]
            text += "" if alone else "".join(str(int(i in changed)) for i in range(len(others)))
        return text + "".join(self.change(others[i], current, baseline) for i in changed)

    def change(self, field: int, current: Sequence[int], baseline: Sequence[int]) -> str:
        """One of the other fields."""
        if self.bits[field] <= 4:
            return raw(current[field], self.bits[field])
        code = 155 if self.bits[field] <= 10 else 156
        return self.number(self.difference(field, current[field], baseline[field]), code)

    def full(self, current: Sequence[int], entity_id: int, level: int) -> str:
        """The body that needs no baseline."""
        text = raw(entity_id & 0xFFFFFF, 24) + golomb(entity_id >> 24 & 0xFFFFFFF, 8) + golomb(entity_id >> 52, 4)
        text += raw(level, 2)
        if level != SELF:
            folded = [2 * v if v >= 0 else -2 * v - 1 for v in current[3:6]]
            width = max(folded).bit_length()
            text += "".join(raw(current[i], self.bits[i]) for i in range(3)) + raw(width, 6)
            text += "".join(raw(value, width) for value in folded)
        told = range(6, self.count[level])
        text += "".join(str(int(current[f] != 0)) for f in told)
        return text + "".join(raw(current[f], self.bits[f]) for f in told if current[f])
