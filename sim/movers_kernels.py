"""Doors, lifts and other movers as kernels see them: where they are, what is near, what a ray meets.

A mover is a run of the map's triangles that is shifted, never turned. Where it is follows from two numbers (`opens`,
`since`) and the tick alone, so that a client that knows them knows the way of every mover to the last bit.

Figures of each mover, f8 (m, FIGURES):

    0 kind · 1:4 travel [m] · 4 ticks from end to end, or of a period, or of a round · 5 ticks to wait, −1 for ever ·
    6 phase [1/65536 turn] · 7 damage · 8 crushes · 9 holds · 10:16 bounds at rest, low and high [m] ·
    16 first box, 17 boxes · 18 first leg, 19 legs · 20 first triangle, 21 triangles · 22 first row of `rest` ·
    23 the first mover of its group · 24 root of its hierarchy

Tuples:

    SPEC    figures · boxes f8 (b, 6) that set movers going, low and high corner · legs f8 (l, 8): first tick in the
            round, ticks, from, to · rest f8 (r, 20): rows of `sim.narrowphase_kernels` at rest · sine table
    TURNS   opens u1 (m,) · since i4 (m,) · until i4 (m,)
    SCENE   hierarchies in one geometry (`GEOMETRY_TYPE`), each in its mover's resting place · figures f8 (m, FIGURES) ·
            offsets f8 (ring, m, 3) of the last ticks [m], that of tick t at t % ring

A SLIDE has come `tick − since` ticks from where it turned, within 0 and the ticks from end to end: away from its
resting place if it opens, else back to it. A BOB's or a PATH's time is `tick − since`.
"""

from typing import Final, TypeAlias

from sim.arrays import F64, I32, U8
from sim.commands import REWIND_STEPS
from sim.geometry_kernels import GEOMETRY_TYPE, GeometryArrays, closest_hit_below, gather_box
from sim.jit import kernel
from sim.trig_kernels import sine
from sim.worldmap import MoverKind

__all__ = [
    "FIGURES",
    "SCENE_TYPE",
    "SPEC_TYPE",
    "TURNS_TYPE",
    "SceneArrays",
    "SpecArrays",
    "TurnArrays",
    "gather_near",
    "hit_movers",
    "locate_movers",
    "move_rows",
    "place_movers",
    "progress",
    "put_movers",
]

FIGURES: Final = 25
(
    M_KIND, M_TRAVEL, _, _, M_TICKS, M_WAIT, M_PHASE, M_DAMAGE, M_CRUSHES, M_HOLDS, M_BOUNDS, _, _, _, _, _,
    M_BOX, M_BOXES, M_LEG, M_LEGS, M_TRIANGLE, M_TRIANGLES, M_REST, M_LEADER, M_ROOT,
) = range(FIGURES)  # fmt: skip
SLIDE, BOB = int(MoverKind.SLIDE), int(MoverKind.BOB)
SURFACE_WORDS: Final = 20

SPEC_TYPE = "Tuple((f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1], f8[::1]))"
TURNS_TYPE = "Tuple((u1[::1], i4[::1], i4[::1]))"
SCENE_TYPE = f"Tuple(({GEOMETRY_TYPE}, f8[:,::1], f8[:,:,::1]))"
SpecArrays: TypeAlias = tuple[F64, F64, F64, F64, F64]
TurnArrays: TypeAlias = tuple[U8, I32, I32]
SceneArrays: TypeAlias = tuple[GeometryArrays, F64, F64]


@kernel(counted=False)
def progress(figures: F64, k: int, opens: int, since: int, tick: int) -> int:
    """How many ticks a SLIDE is from its resting place at a tick."""
    whole = int(figures[k, M_TICKS])
    come = min(max(tick - since, 0), whole)
    return come if opens else whole - come


@kernel(counted=False)
def _offset(spec: SpecArrays, k: int, opens: int, since: int, tick: int) -> tuple[float, float, float]:
    """How far from its resting place a mover is at a tick [m]."""
    figures, _, legs, _, table = spec
    kind, whole = int(figures[k, M_KIND]), int(figures[k, M_TICKS])
    x, y, z = figures[k, M_TRAVEL], figures[k, M_TRAVEL + 1], figures[k, M_TRAVEL + 2]
    if kind == SLIDE:
        share = progress(figures, k, opens, since, tick) / whole
        return share * x, share * y, share * z
    now = (tick - since) % whole
    if kind == BOB:
        share = sine(table, (now * 65536 // whole - int(figures[k, M_PHASE])) & 65535)
        return share * x, share * y, share * z
    first = int(figures[k, M_LEG])
    for leg in range(first, first + int(figures[k, M_LEGS])):
        if now < legs[leg, 0] + legs[leg, 1]:
            share = (now - legs[leg, 0]) / legs[leg, 1]
            x, y, z = legs[leg, 2], legs[leg, 3], legs[leg, 4]
            return x + share * (legs[leg, 5] - x), y + share * (legs[leg, 6] - y), z + share * (legs[leg, 7] - z)
    return 0.0, 0.0, 0.0


@kernel(counted=False)
def locate_movers(spec: SpecArrays, turns: TurnArrays, tick: int, out_offsets: F64) -> None:
    """Where all movers are at a tick: their way from rest [m], shape (m, 3)."""
    for k in range(len(out_offsets)):
        opens, since = int(turns[0][k]), int(turns[1][k])
        out_offsets[k, 0], out_offsets[k, 1], out_offsets[k, 2] = _offset(spec, k, opens, since, tick)


@kernel(f"({SPEC_TYPE}, {TURNS_TYPE}, i8, f8[:,::1])", counted=False)
def place_movers(spec: SpecArrays, turns: TurnArrays, tick: int, out_offsets: F64) -> None:
    """`locate_movers` for callers outside kernels."""
    locate_movers(spec, turns, tick, out_offsets)


@kernel(counted=False)
def put_mover(spec: SpecArrays, k: int, x: float, y: float, z: float, surfaces: F64, bounds: F64) -> None:
    """Let the rows of one mover's triangles, and its bounds, be those of a place [m from rest]."""
    figures, rest = spec[0], spec[3]
    for side in range(0, 6, 3):
        bounds[k, side] = figures[k, M_BOUNDS + side] + x
        bounds[k, side + 1] = figures[k, M_BOUNDS + side + 1] + y
        bounds[k, side + 2] = figures[k, M_BOUNDS + side + 2] + z
    first, at = int(figures[k, M_TRIANGLE]), int(figures[k, M_REST])
    for i in range(int(figures[k, M_TRIANGLES])):
        row, own = surfaces[first + i], rest[at + i]
        for word in range(0, 18, 3):
            if word != 6:  # the normal
                row[word] = own[word] + x
                row[word + 1] = own[word + 1] + y
                row[word + 2] = own[word + 2] + z
        row[18] = own[18] + (own[6] * x + own[7] * y + own[8] * z)


@kernel(counted=False)
def move_rows(spec: SpecArrays, offsets: F64, placed: F64, surfaces: F64, bounds: F64) -> None:
    """`put_mover` of all that are not where they are to be; `placed` says where each is, and is updated."""
    for k in range(len(offsets)):
        x, y, z = offsets[k, 0], offsets[k, 1], offsets[k, 2]
        if placed[k, 0] != x or placed[k, 1] != y or placed[k, 2] != z:
            put_mover(spec, k, x, y, z, surfaces, bounds)
            placed[k, 0], placed[k, 1], placed[k, 2] = x, y, z


@kernel(f"({SPEC_TYPE}, f8[:,::1], f8[:,::1], f8[:,::1], f8[:,::1])", counted=False)
def put_movers(spec: SpecArrays, offsets: F64, placed: F64, surfaces: F64, bounds: F64) -> None:
    """`move_rows` for callers outside kernels."""
    move_rows(spec, offsets, placed, surfaces, bounds)


@kernel(counted=False)
def gather_near(
    geometry: GeometryArrays, surfaces: F64, bounds: F64, runs: I32,
    lx: float, ly: float, lz: float, hx: float, hy: float, hz: float,
    mask: int, out_triangles: I32,
) -> int:  # fmt: skip
    """`gather_box`, of what rests and of the movers where their rows and bounds say they are.

    Args:
        geometry: What rests.
        surfaces: Rows of all triangles.
        bounds: Of each mover [m], shape (m, 6): low and high corner. One that is inside out is passed over.
        runs: First triangle and how many of each mover, shape (m, 2).
        lx, ly, lz, hx, hy, hz: The box.
        mask: `Contents` bits.
        out_triangles: Output.
    """
    count = gather_box(geometry, lx, ly, lz, hx, hy, hz, mask, out_triangles)
    for k in range(len(bounds)):
        # One branch, which nearly always goes the same way, in place of six that nobody can guess.
        apart = (bounds[k, 0] > hx) | (bounds[k, 3] < lx) | (bounds[k, 1] > hy) | (bounds[k, 4] < ly)
        if apart | (bounds[k, 2] > hz) | (bounds[k, 5] < lz):
            continue
        count = list_mover(
            surfaces, int(runs[k, 0]), int(runs[k, 1]), lx, ly, lz, hx, hy, hz, mask, out_triangles, count
        )
    return count


@kernel(counted=False)
def list_mover(
    surfaces: F64, first: int, many: int, lx: float, ly: float, lz: float, hx: float, hy: float, hz: float,
    mask: int, out_triangles: I32, count: int,
) -> int:  # fmt: skip
    """Add a mover's triangles whose boxes touch a box to a list of `count`; how long it then is, as `gather_box`."""
    for triangle in range(first, first + many):
        row = surfaces[triangle]
        if row[0] > hx or row[3] < lx or row[1] > hy or row[4] < ly or row[2] > hz or row[5] < lz:
            continue
        if int(row[19]) & mask == 0:
            continue
        if count < len(out_triangles):
            out_triangles[count] = triangle
        count += 1
    return count


@kernel(counted=False)
def _apart(low: float, high: float, origin: float, way: float, t_max: float) -> bool:
    """Whether a ray passes by a slab of one axis, or is too short for it."""
    if low - SLACK <= origin <= high + SLACK:
        return False
    if way == 0.0:
        return True
    t = ((low - SLACK if origin < low else high + SLACK) - origin) / way
    return t < 0.0 or t > t_max


SLACK: Final = 1e-6  # [m]


@kernel(counted=False)
def hit_movers(
    scene: SceneArrays, tick: int, rewind: int,
    ox: float, oy: float, oz: float,
    dx: float, dy: float, dz: float,
    t_max: float, mask: int,
) -> tuple[float, int]:  # fmt: skip
    """The nearest triangle of a mover along a ray, of the movers as they were a while ago.

    Args:
        scene: See the top of this file.
        tick: The tick that is being made, whose offsets are written.
        rewind: How long before [1/REWIND_STEPS tick], at least 0; beyond the ring the oldest offsets stand. Between
            two ticks movers are on the straight line between their places.
        ox, oy, oz: Origin [m].
        dx, dy, dz: Direction, of any length.
        t_max: Farthest t, in lengths of the direction.
        mask: `Contents` bits.

    Returns:
        (t, the map's triangle); (t_max, −1) where nothing is hit. Where a mover hides in a wall, ties are the caller's:
        take the mover only if its t is less.
    """
    forest, figures, ring = scene
    best, winner = t_max, -1
    whole, part = rewind // REWIND_STEPS, (rewind % REWIND_STEPS) / REWIND_STEPS
    deepest = ring.shape[0] - 1
    later = (tick - min(whole, deepest)) % ring.shape[0]
    earlier = (tick - min(whole + 1, deepest)) % ring.shape[0]
    for k in range(figures.shape[0]):
        x, y, z = ring[later, k, 0], ring[later, k, 1], ring[later, k, 2]
        if part > 0.0:
            x += part * (ring[earlier, k, 0] - x)
            y += part * (ring[earlier, k, 1] - y)
            z += part * (ring[earlier, k, 2] - z)
        x, y, z = ox - x, oy - y, oz - z
        if (
            _apart(figures[k, M_BOUNDS], figures[k, M_BOUNDS + 3], x, dx, best)
            or _apart(figures[k, M_BOUNDS + 1], figures[k, M_BOUNDS + 4], y, dy, best)
            or _apart(figures[k, M_BOUNDS + 2], figures[k, M_BOUNDS + 5], z, dz, best)
        ):
            continue
        t, triangle = closest_hit_below(forest, x, y, z, dx, dy, dz, best, mask, int(figures[k, M_ROOT]))
        if triangle >= 0 and (winner < 0 or t < best):
            best, winner = t, triangle
    return best, winner
