"""The record layout of net/snapshots.py as plain strings of bits: the naive twin of the codec."""

from collections.abc import Sequence

from net.snapshots import FieldTable

__all__ = ["delta_record", "full_record", "predicted"]


def raw(value: int, bits: int) -> str:
    """`bits` bits, low bit first."""
    return "".join(str(value >> i & 1) for i in range(bits))


def golomb(value: int, order: int) -> str:
    """Exp-Golomb: zeros, a one, the low bits of value + 2^order."""
    shifted = value + (1 << order)
    low = shifted.bit_length() - 1
    return "0" * (low - order) + "1" + raw(shifted - (1 << low), low)


def folded(difference: int, bits: int) -> int:
    """Zigzag of the difference modulo 2^bits."""
    half = 1 << (bits - 1)
    small = (difference + half) % (1 << bits) - half
    return 2 * small if small >= 0 else -2 * small - 1


def packed(stream: str) -> bytes:
    """The bits as whole bytes."""
    stream += "0" * (-len(stream) % 8)
    return bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8))


def group(residuals: Sequence[int]) -> str:
    """Three folded residuals with one order."""
    order = min(max(max(residuals).bit_length() - 2, 0), 7)
    return raw(order, 3) + "".join(golomb(value, order) for value in residuals)


def predicted(baseline: Sequence[int], age: int, table: FieldTable) -> list[int]:
    """Position `age` ticks after the baseline, by exact rational arithmetic."""
    return [baseline[i] + (baseline[3 + i] * age * table.velocity_scale + 32768) // 65536 for i in range(3)]


def delta_record(current: Sequence[int], baseline: Sequence[int], age: int, table: FieldTable) -> bytes:
    """The record of `current` against `baseline`."""
    bits, orders = table.table[:, 0].tolist(), table.table[:, 2].tolist()
    expected = predicted(baseline, age, table) + list(baseline[3:])
    residual = [folded(current[f] - expected[f], bits[f]) for f in range(len(bits))]
    moved, turned, others = any(residual[:3]), any(residual[3:6]), any(residual[6:])
    stream = raw(age, 6) + str(int(moved)) + str(int(turned or others))
    if moved:
        stream += group(residual[:3])
    if turned or others:
        stream += "1" + group(residual[3:6]) if turned else "0"
        stream += "".join(str(int(value != 0)) for value in residual[6:])
        for f in range(6, len(bits)):
            if residual[f]:
                stream += raw(residual[f], bits[f]) if orders[f] >= bits[f] else golomb(residual[f], orders[f])
    return packed(stream)


def full_record(current: Sequence[int], entity_id: int, table: FieldTable) -> bytes:
    """The record that needs no baseline."""
    stream = raw(0, 8) + raw(entity_id & 0xFFFFFF, 24)
    stream += golomb(entity_id >> 24 & 0xFFFFFFF, 8) + golomb(entity_id >> 52, 4)
    for value, bits in zip(current, table.table[:, 0].tolist(), strict=True):
        stream += raw(value % (1 << bits), bits)
    return packed(stream)
