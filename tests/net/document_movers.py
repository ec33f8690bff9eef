"""Where doors and lifts are, written from the chapter Movers of docs/protocol.md alone: plain Python."""

from fractions import Fraction
from typing import Any

PI = Fraction(3141592653589793238462643383279502884197169399375105820974944592307816406286209, 10**78)


def mover_offset(
    motion: dict[str, Any], opens: int, since: int, tick: int, rate: int
) -> tuple[float, float, float]:  # fmt: skip
    """How far from its resting place a mover of the map's `meta` is at the end of a tick [m]."""

    def ticks(seconds: float) -> int:
        return min(max(round(seconds * rate), 1), 16_777_216)

    x, y, z = motion["travel"]
    if motion["kind"] == 1:
        whole = ticks(motion["seconds"])
        come = min(max(tick - since, 0), whole)
        part = (come if opens == 1 else whole - come) / whole
        return part * x, part * y, part * z
    if motion["kind"] == 2:
        whole = ticks(motion["seconds"])
        angle = ((tick - since) % whole * 65536 // whole - round(motion["phase"] * 65536) % 65536) % 65536
        part = sine(angle)
        return part * x, part * y, part * z
    here = tuple(motion["path"][-1][:3])
    legs: list[tuple[int, tuple[float, ...], tuple[float, ...]]] = []
    for px, py, pz, seconds, wait in motion["path"]:
        legs.append((ticks(seconds), here, (px, py, pz)))
        here = (px, py, pz)
        if wait > 0:
            legs.append((ticks(wait), here, here))
    now = (tick - since) % sum(leg[0] for leg in legs)
    begin = 0
    for lasts, start, end in legs:
        if now < begin + lasts:
            part = (now - begin) / lasts
            ox, oy, oz = (f + part * (t - f) for f, t in zip(start, end, strict=True))
            return ox, oy, oz
        begin += lasts
    raise ValueError("a round without legs")


def sine(angle: int) -> float:
    """The binary64 nearest to the sine of an angle [1/65536 turn], by its series in fractions."""
    quadrant, within = divmod(angle, 16384)
    x = PI * (within if quadrant % 2 == 0 else 16384 - within) / 32768
    term, total, power = x, x, 1
    while abs(term) > Fraction(1, 10**40):
        term = -term * x * x / ((power + 1) * (power + 2))
        term = Fraction(round(term * 10**60), 10**60)
        total, power = total + term, power + 2
    return float(total if quadrant < 2 else -total)
