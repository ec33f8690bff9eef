"""The sine table from integers alone: Machin's π and Taylor's sine in fixed point, rounded once to float64."""

from fractions import Fraction

__all__ = ["quarter_wave"]

BITS = 160  # fixed-point fraction bits; a float64 has 53


def _arctangent_of_inverse(n: int) -> int:
    """arctan(1/n) in fixed point (Gregory's series)."""
    power = (1 << BITS) // n
    total, k = power, 1
    while power:
        power //= -n * n
        k += 2
        total += power // k
    return total


def quarter_wave(steps: int) -> list[float]:
    """sin(π/2 · i/steps) for i = 0 … steps, each the nearest float64."""
    pi = 4 * (4 * _arctangent_of_inverse(5) - _arctangent_of_inverse(239))
    values = []
    for i in range(steps + 1):
        x = pi * i // (2 * steps)
        square = x * x >> BITS
        term, total, k, sign = x, x, 1, -1
        while term:
            term = (term * square >> BITS) // ((k + 1) * (k + 2))
            total += sign * term
            sign = -sign
            k += 2
        values.append(float(Fraction(total, 1 << BITS)))
    return values
