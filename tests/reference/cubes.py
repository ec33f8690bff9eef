"""Naive twins of the cubes benchmark: sizes of exp-Golomb frames, and bit strings as text."""

from sim.arrays import I32, I64

__all__ = ["golomb_frame_bytes", "string_text"]


def _golomb_bits(value: int, order: int) -> int:
    return 2 * (value + (1 << order)).bit_length() - 1 - order


def _signed_bits(value: int, order: int) -> int:
    return _golomb_bits(2 * value if value >= 0 else -2 * value - 1, order)


def golomb_frame_bytes(now: I32, b: I32, a: I32) -> int:
    """Size of a frame as `tools.cubes.golomb_kernels` describes it, counted field by field."""
    rows = [tuple(tuple(int(value) for value in part[cube]) for part in (now, b, a)) for cube in range(len(now))]
    changed = [cube for cube, (new, old, _) in enumerate(rows) if new != old]
    bits = _golomb_bits(len(changed), 5)
    for cube, last in zip(changed, [-1, *changed], strict=False):
        new, old, older = rows[cube]
        bits += _golomb_bits(cube - last - 1, 0) + 1 + 1
        if new[0] != old[0]:
            bits += 2 + 27
        for column in range(1, 7):
            if column < 4 and new[0] != old[0]:
                continue
            linear = column >= 4 or older[0] == old[0]
            ahead = 2 * old[column] - older[column] if linear else old[column]
            bits += _signed_bits(new[column] - ahead, 4 if column >= 4 else 3)
    return -(-bits // 8)


def string_text(words: I64, bits: int) -> str:
    """A string of bits, first bit first, as a text of zeros and ones."""
    return "".join(str(int(words[place // 32]) >> (place % 32) & 1) for place in range(bits))
