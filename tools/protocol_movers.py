"""The chapter of docs/protocol.md on doors, lifts and other movers, with examples to check a client by."""

from sim.trig import SINE_TABLE
from sim.worldmap import MOVING_MAX, MoverKind, MoverMotion

__all__ = ["EXAMPLES", "EXAMPLE_HZ", "examples", "mover_offset", "movers_chapter"]

EXAMPLE_HZ = 60
TICKS_MAX = 1 << 24

MOVERS = f"""\
Snapshots never say where a door is: that follows from its row of the zone-wide state and the tick alone, to the last
bit. The kind `mover` has a row for each mover that moves, in the order of the map; nothing of it is in the records.

**Which movers there are.** The map says; a client has the same file. Its `meta` is JSON, and its `movers` are the
brush models. Those whose `motion` is not null move, at most the first {MOVING_MAX}: the n-th of them, from 0, has row
n of the kind. A client needs of a motion: `kind` ({", ".join(f"{kind.value} {kind.name}" for kind in MoverKind)}),
`travel` (x, y, z) [m], `seconds`, `phase` and `path`, a list of (x, y, z, seconds, wait_s). A mover's triangles, from
`triangle_first` on, are in the map where it rests.

**Ticks.** A duration of s seconds is round(s · rate) ticks, halves to the even number, within 1 and {TICKS_MAX:,}. The
*whole* W of a motion is the ticks of its `seconds`; of a PATH that of its round, see below.

**The offset.** Of a row a client knows two words: `turn.opens` and `turn.since`. At the end of tick T the mover is
*offset* metres from where it rests. All is computed in binary64, in the order written, and `mod` is never negative:

- SLIDE: come = T − since, within 0 and W. n = come where `opens` is 1, else W − come. s = n / W.
  The offset is (s · travel.x, s · travel.y, s · travel.z).
- BOB: n = (T − since) mod W. P = round(phase · 65,536) mod 65,536, halves to the even number. The angle is
  A = (floor(n · 65,536 / W) − P) mod 65,536, and s = sin(2π · A / 65,536), each rounded to the nearest binary64: a
  table of the first quarter, 16,385 entries, whose mirror images are the others. The offset is s · travel.
- PATH: its *legs* follow one upon the other from tick 0 on. For each point of `path`, beginning from the last one:
  one leg from the point before to it of the ticks of its `seconds`; then, where `wait_s` is above 0, one that stays
  there of the ticks of `wait_s`. W is the sum. n = (T − since) mod W lies in the leg that begins at b ≤ n < b + d, from
  f to t; s = (n − b) / d, and the offset is f + s · (t − f), by axis.

**When it changes.** The server decides when a mover turns, and says so by a new `opens` and `since`; `since` may lie
before the present tick, for a mover that turns on its way. A client that predicts its own player makes tick N with the
offsets of N − 1 and N by the newest row that it knows: it is wrong for the few ticks until it hears of a turn, and then
corrects itself as after any other surprise. To show the others at moment m, between two ticks, it takes the straight
line between the offsets of the tick before and the tick after: so do shots, which are judged against movers where their
shooter saw them. Before a row is known the mover rests.

Examples at {EXAMPLE_HZ} ticks a second; offsets are the shortest decimals that name their binary64."""

LIFT = MoverMotion(MoverKind.SLIDE, (0.0, 0.0, 3.1), seconds=0.6, wait_s=1.0)
FLOAT = MoverMotion(MoverKind.BOB, (0.0, 0.8, 0.25), seconds=3.7, phase=0.3)
TRAIN = MoverMotion(
    MoverKind.PATH, path=((4.0, 0.0, 0.0, 1.3, 0.0), (4.0, 2.7, 0.5, 0.9, 0.41), (0.0, 0.0, 0.0, 2.0, 1.0))
)
EXAMPLES: tuple[tuple[str, MoverMotion, tuple[tuple[int, int, int], ...]], ...] = (
    ("SLIDE, travel (0, 0, 3.1), seconds 0.6", LIFT, ((0, -36, 5), (1, 100, 107), (1, 100, 500), (0, 130, 141))),
    ("BOB, travel (0, 0.8, 0.25), seconds 3.7, phase 0.3", FLOAT, ((0, 0, 1), (0, 0, 100), (0, 0, 123_457))),
    (
        "PATH, (4, 0, 0, 1.3, 0), (4, 2.7, 0.5, 0.9, 0.41), (0, 0, 0, 2, 1)", TRAIN,
        ((0, 0, 1), (0, 0, 77), (0, 0, 100), (0, 0, 140), (0, 0, 200), (0, 0, 300), (0, 0, 100_003)),
    ),
)  # fmt: skip
"""Motions in words, and rows with ticks: opens, since, tick."""


def _ticks(seconds: float, tick_hz: int) -> int:
    return min(max(round(seconds * tick_hz), 1), TICKS_MAX)


def mover_offset(motion: MoverMotion, row: tuple[int, int], tick: int, *, tick_hz: int) -> tuple[float, float, float]:
    """Where a mover is at the end of a tick, as the chapter says; the simulation's own is `sim.movers_kernels`.

    Args:
        motion: As the map has it.
        row: The words `turn.opens` and `turn.since`.
        tick: Which tick.
        tick_hz: Ticks a second.
    """
    opens, since = row
    x, y, z = motion.travel
    if motion.kind is MoverKind.PATH:
        return _on_path(motion, tick - since, tick_hz)
    whole = _ticks(motion.seconds, tick_hz)
    if motion.kind is MoverKind.SLIDE:
        come = min(max(tick - since, 0), whole)
        share = (come if opens else whole - come) / whole
    else:
        angle = ((tick - since) % whole * 65536 // whole - round(motion.phase * 65536) % 65536) % 65536
        within, quadrant = angle % 16384, angle // 16384
        size = float(SINE_TABLE[within if quadrant % 2 == 0 else 16384 - within])
        share = size if quadrant < 2 else -size
    return share * x, share * y, share * z


def _on_path(motion: MoverMotion, passed: int, tick_hz: int) -> tuple[float, float, float]:
    legs = []
    here = motion.path[-1][:3]
    for x, y, z, seconds, wait_s in motion.path:
        legs.append((_ticks(seconds, tick_hz), here, (x, y, z)))
        here = (x, y, z)
        if wait_s > 0.0:
            legs.append((_ticks(wait_s, tick_hz), here, here))
    left = passed % sum(ticks for ticks, _, _ in legs)
    for ticks, begin, end in legs:
        if left < ticks:
            share = left / ticks
            x, y, z = (a + share * (b - a) for a, b in zip(begin, end, strict=True))
            return x, y, z
        left -= ticks
    raise AssertionError("a round is the sum of its legs")


def examples() -> list[tuple[str, int, int, int, tuple[float, float, float]]]:
    """Motion in words, opens, since, tick and offset of each example."""
    return [
        (words, opens, since, tick, mover_offset(motion, (opens, since), tick, tick_hz=EXAMPLE_HZ))
        for words, motion, rows in EXAMPLES
        for opens, since, tick in rows
    ]


def movers_chapter() -> list[str]:
    """How a client knows where movers are, with the table of examples."""
    lines = ["| motion | opens | since | tick | offset x | y | z |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {words} | {opens} | {since} | {tick} | {x!r} | {y!r} | {z!r} |"
        for words, opens, since, tick, (x, y, z) in examples()
    ]
    return [MOVERS, "\n".join(lines)]
