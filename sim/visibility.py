"""What a player could see: which cells of a map see each other, and per tick which candidates each viewer may know.

    sight = Geometry.build(sight_world(world))          # server.maps.visibility keeps both beside the map
    known = bake(world, sight, navigation)              # sim.visibility_build
    visibility = Visibility(known, sight, viewers=1000, slots=128, bodies=4096)
    ...
    visibility.place(feet=…, velocity=…, size=…, identity=…, tick=tick)                   # once per tick
    found = visibility.refresh(eyes=…, horizon=…, own=…, candidates=…, due=due, tick=tick)
    told = found[due] >= DOUBTED

How a replication stage calls it: `place` after the step, with the columns of the entity tables as they are; then
`refresh` with the clients that get a snapshot in this tick as `due` and the entities of their interest slots as
`candidates`. What is not told of leaves as if it had gone out of range. A slot must keep its column as long as it keeps
its entity, because the memory of a pair is in that column; a slot that changes its entity forgets by itself. `horizon`
of a client is its round trip, plus 0.2 s: what it is told of then was decided on where everybody may be when it
arrives. A dead camera or spectator has no body of its own (`own` −1) and is led by nothing. Sounds and effects of a
hidden entity are sent without its identity and place, or not at all.

`VisibilityMap.to_arrays` gives: header u1, `FORMAT:map hash` · figures f8 (7,) of the voxels · voxels i4 (k,), numbers
of those in free space, ascending · cells i2 (k,), the cell of each · seen, grown u8 (n, words), see
`sim.visibility_kernels`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F64, I16, I32, I64, U8, U64, AnyArray
from sim.errors import SimError
from sim.geometry import Geometry
from sim.geometry_kernels import closest_hit_batch
from sim.visibility_kernels import (
    ALONG,
    BODY_MIDDLE,
    BURST,
    CONFIRM_TICKS,
    COUNTS,
    DIRECTIONS,
    DOUBTED,
    HIDDEN_BY_CELLS,
    HIDDEN_BY_RAYS,
    MEMORY_TICKS,
    NEVER,
    PROOF_TICKS,
    RAYS,
    RAYS_CAST,
    ROUND,
    RULES,
    SEEN_BY_CELLS,
    SEEN_BY_RAYS,
    SIGHT_MASK,
    SMALL_M,
    STRICT,
    UNKNOWN_CELL,
    WITHIN_M,
    Bodies,
    MapArrays,
    Memory,
    Probes,
    Queue,
    Rays,
    Ways,
    aim_rays,
    cast_rays,
    cells_at,
    list_ways,
    sort_views,
)
from sim.worldmap import Contents, WorldMap

__all__ = [
    "CELLS_MAX",
    "FORMAT",
    "VOXELS_MAX",
    "Visibility",
    "VisibilityError",
    "VisibilityMap",
    "VisibilityRules",
    "pack_rows",
    "sight_world",
    "unpack_rows",
]

FORMAT = 1  # raised whenever the saved arrays change their meaning
CELLS_MAX = 8192
VOXELS_MAX = 1 << 24
SAMPLES: Final = 64
HERE: F64 = np.zeros((1, 3))
NEAR: F64 = WITHIN_M * np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0, 0, -1], [0, 0, 1]], np.float64
)
"""Where the cell of a body's point is looked up [m]: there, and beside it where the body surely is, too."""
VIEWERS_MAX, SLOTS_MAX, BODIES_MAX = 1 << 16, 1024, 1 << 20
WAYS_MAX = 8192  # probed at once; those of further bodies wait for their turn
RAYS_MAX = 16384  # cast at once; pairs beyond come first in the next round
PAIRS_MAX = 16384  # that get rays in a refresh; others stay as they are, and come first the next time
SHARES: Final = (1, 3, 8)  # rays for each pair in the first rounds; the last one goes on
COUNTERS: Final = {
    "hidden_by_cells": HIDDEN_BY_CELLS, "hidden_by_rays": HIDDEN_BY_RAYS, "doubted": DOUBTED,
    "seen_by_rays": SEEN_BY_RAYS, "seen_by_cells": SEEN_BY_CELLS, "unknown_cell": UNKNOWN_CELL, "rays": RAYS_CAST,
}  # fmt: skip


class VisibilityError(SimError):
    """A map's visibility cannot be used, or what is asked of it does not fit."""


def sight_world(world: WorldMap) -> WorldMap:
    """The part of a map that stops sight for good: what is solid, without doors and lifts, which may be elsewhere.

    Raises:
        VisibilityError: Nothing of the map is solid.
    """
    keep = (world.contents & int(Contents.SOLID) != 0) & (world.contents & int(Contents.MOVER) == 0)
    if not keep.any():
        raise VisibilityError(f"map {world.name}: none of its {len(keep)} triangles is solid; nothing stops sight")
    return replace(
        world, triangles=np.ascontiguousarray(world.triangles[keep]), contents=world.contents[keep], items=(),
        triggers=(), movers=(), entities=(),
    )  # fmt: skip


def pack_rows(seen: U8) -> U64:
    """Bit sets of the rows of a square matrix of 0 and 1, cell c in bit c % 64 of word c // 64, shape (n, words)."""
    padded: U8 = np.zeros((len(seen), -(-seen.shape[1] // 64) * 64), np.uint8)
    padded[:, : seen.shape[1]] = seen
    words: U64 = np.packbits(padded, axis=1, bitorder="little").view("<u8").astype(np.uint64, copy=False)
    return words


def unpack_rows(rows: U64, count: int) -> U8:
    """The opposite of `pack_rows`, shape (n, count)."""
    return np.unpackbits(rows.astype("<u8", copy=False).view(np.uint8), axis=1, count=count, bitorder="little")


@dataclass(frozen=True, slots=True, eq=False)
class VisibilityMap:
    """Which cells of a map see each other. Immutable; every thread may query it.

    Attributes:
        map_hash: `WorldMap.content_hash()` of the map it was made from.
        arrays: What kernels take: MAP of `sim.visibility_kernels`.
    """

    map_hash: str
    arrays: MapArrays

    def __len__(self) -> int:
        return len(self.arrays[2])

    @property
    def pitch_m(self) -> float:
        """Side of a voxel [m]."""
        return float(self.arrays[0][3])

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in self.arrays)

    def seen(self) -> U8:
        """1 where a cell sees a cell, shape (n, n)."""
        return unpack_rows(self.arrays[2], len(self))

    def grown(self) -> U8:
        """1 where a cell or a neighbour of it sees a cell or a neighbour of that, shape (n, n)."""
        return unpack_rows(self.arrays[3], len(self))

    def cells(self, points: ArrayLike) -> I32:
        """The cell that each point [m], shape (n, 3), lies in; −1 where none is known."""
        places = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        found = np.empty((len(places), 1), np.int32)
        cells_at(self.arrays, places, HERE, found, 0)
        return found[:, 0]

    def voxels(self) -> tuple[I32, F64]:
        """The known voxels' cells, shape (k,), and middles [m], shape (k, 3)."""
        figures, cell_of = self.arrays[0], self.arrays[1]
        number = np.flatnonzero(cell_of >= 0)
        nx, ny = int(figures[4]), int(figures[5])
        place = np.stack([number % nx, number // nx % ny, number // (nx * ny)], axis=1)
        middle: F64 = figures[:3] + (place + 0.5) * figures[3]
        return cell_of[number].astype(np.int32), middle

    def to_arrays(self) -> dict[str, AnyArray]:
        """Plain arrays that `from_arrays` takes back; they say which map and which format they are of."""
        figures, cell_of, seen, grown = self.arrays
        voxels = np.flatnonzero(cell_of >= 0)
        header = np.frombuffer(f"{FORMAT}:{self.map_hash}".encode(), np.uint8)
        return {
            "header": header, "figures": figures, "voxels": voxels.astype(np.int32), "cells": cell_of[voxels],
            "seen": seen, "grown": grown,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, saved: Mapping[str, AnyArray], *, map_hash: str) -> "VisibilityMap":
        """The visibility that `to_arrays` saved.

        Args:
            saved: The arrays.
            map_hash: `content_hash()` of the map they must have been made from.

        Raises:
            VisibilityError: An array is missing or malformed, or they are of another map or format.
        """
        header = _saved(saved, "header", np.uint8, 1).tobytes().decode("ascii", "replace")
        if header != f"{FORMAT}:{map_hash}":
            raise VisibilityError(
                f"saved visibility is of {header!r}, needed is {FORMAT}:{map_hash}; bake it again from the map"
            )
        figures, voxels = _saved(saved, "figures", np.float64, 1), _saved(saved, "voxels", np.int32, 1)
        cells = _saved(saved, "cells", np.int16, 1)
        seen, grown = _saved(saved, "seen", np.uint64, 2), _saved(saved, "grown", np.uint64, 2)
        _check_saved(figures, voxels, cells, seen, grown)
        cell_of: I16 = np.full(int(figures[4:7].prod()), -1, np.int16)
        cell_of[voxels] = cells
        return cls(map_hash, (figures, cell_of, seen, grown))


def _check_saved(figures: F64, voxels: I32, cells: I16, seen: U64, grown: U64) -> None:
    """Raises VisibilityError where looking anything up would leave the arrays."""
    count = len(seen)
    lattice = len(figures) == 7 and bool(np.isfinite(figures).all()) and float(figures[3]) > 0.0
    lattice = lattice and bool((figures[4:7] >= 1.0).all()) and bool((figures[4:7] % 1.0 == 0.0).all())
    sound = (
        lattice
        and float(figures[4:7].prod()) <= VOXELS_MAX
        and 0 < count <= CELLS_MAX
        and seen.shape == grown.shape == (count, -(-count // 64))
        and len(voxels) == len(cells) > 0
        and bool((np.diff(voxels) > 0).all())
        and int(voxels[0]) >= 0
        and int(voxels[-1]) < figures[4:7].prod()
        and int(cells.min()) >= 0
        and int(cells.max()) < count
        and not bool((seen & ~grown).any())
    )
    if not sound:
        raise VisibilityError("saved visibility: its arrays do not fit together; bake it again from the map")


def _saved(saved: Mapping[str, AnyArray], name: str, dtype: type, ndim: int) -> AnyArray:
    array = saved.get(name)
    if array is None or array.dtype != dtype or array.ndim != ndim:
        raise VisibilityError(f"saved visibility: {name} is missing or malformed; bake it again from the map")
    return np.ascontiguousarray(array)


@dataclass(frozen=True, slots=True)
class VisibilityRules:
    """What happens to pairs that the cells leave open.

    Attributes:
        strict: Whether such a pair is hidden until a ray was free, rather than told of until a round of rays was
            stopped. Strict tells less to who sees through walls; the other is never late.
        lead_s: How far ahead bodies are looked for in the cells [s].
        rays: Most rays per viewer and refresh; what is not asked stays as it is and comes first the next time.
        burst: Most rays for one pair at once.
        round: Rays that must be stopped in a row before a pair counts as hidden.
        memory_ticks: How long a free ray is remembered.
        confirm_ticks: How old it is when it is asked for again.
        proof_ticks: How long a whole round of stopped rays is believed.
    """

    strict: bool = False
    lead_s: float = 0.35
    rays: int = 24
    burst: int = 12
    round: int = 24
    memory_ticks: int = 12
    confirm_ticks: int = 6
    proof_ticks: int = 12

    def __post_init__(self) -> None:
        limits = {
            "lead_s": (0.0, 2.0), "rays": (0, 4096), "burst": (1, 255), "round": (1, 255), "memory_ticks": (1, 6000),
            "confirm_ticks": (0, 6000), "proof_ticks": (1, 6000),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise VisibilityError(f"visibility rule {name} is {value}; give it {low} to {high}")

    def vector(self) -> I64:
        """The rules as kernels take them."""
        rules: I64 = np.zeros(RULES, np.int64)
        rules[[STRICT, RAYS, BURST, ROUND]] = int(self.strict), self.rays, self.burst, self.round
        rules[[MEMORY_TICKS, CONFIRM_TICKS, PROOF_TICKS]] = self.memory_ticks, self.confirm_ticks, self.proof_ticks
        return rules


def _samples() -> F64:
    """What rays are aimed from and at: every other one plain, the rest a low-discrepancy sequence over what may be.

    The sequence is R6 of Roberts ("The Unreasonable Effectiveness of Quasirandom Sequences", 2018).
    """
    root = 1.0
    for _ in range(64):
        root = float((1.0 + root) ** (1.0 / 7.0))
    number = np.arange(1, SAMPLES + 1)[:, None]
    u = (0.5 + number * root ** -np.arange(1.0, 7.0)) % 1.0
    table: F64 = np.empty((SAMPLES, 6))
    table[:, [0, 2]] = np.floor(u[:, [0, 2]] * (DIRECTIONS + 1)) - 1.0
    table[:, [1, 3]] = np.sqrt(u[:, [1, 3]])
    table[:, 4] = 0.03 + 0.95 * u[:, 4]
    table[:, 5] = (2.0 * u[:, 5] - 1.0) * 0.97
    # A quarter from where the eye is to where the body is, a quarter with both going on as they do.
    table[0::4, [0, 2]] = -1.0
    table[2::4, [0, 2]] = ALONG
    table[0, 4:], table[2, 4:], table[4, 4:] = (0.8, 0.0), (0.8, 0.0), (0.06, 0.0)
    return table


class Visibility:
    """Decides per tick what viewers may be told of. Everything is allocated here, nothing later.

    Args:
        known: Visibility of the map's cells.
        sight: Geometry of the map's `sight_world`.
        viewers: Most viewers; their numbers are rows.
        slots: Candidates per viewer.
        bodies: Most bodies; their numbers are rows.
        rules: What happens to pairs that the cells leave open.

    Attributes:
        found: What each pair was last found to be, shape (viewers, slots), uint8: `NOBODY` and the following of
            `sim.visibility_kernels`. From `DOUBTED` on it is told of.

    Raises:
        VisibilityError: A size is out of range.
    """

    def __init__(
        self, known: VisibilityMap, sight: Geometry, *, viewers: int, slots: int, bodies: int,
        rules: VisibilityRules | None = None,
    ) -> None:  # fmt: skip
        limits = {"viewers": (viewers, VIEWERS_MAX), "slots": (slots, SLOTS_MAX), "bodies": (bodies, BODIES_MAX)}
        for name, (value, high) in limits.items():
            if not 1 <= value <= high:
                raise VisibilityError(f"visibility {name} is {value}; give it 1 to {high}")
        self.map, self.sight = known, sight
        self.rules = rules or VisibilityRules()
        self.found: U8 = np.zeros((viewers, slots), np.uint8)
        self._settings = (self.rules.vector(), _samples())
        self._shares = _shares(self.rules.burst)
        self._memory: Memory = (
            np.zeros((viewers, slots), np.uint64), np.zeros((viewers, slots, 3), np.int32),
            np.zeros((viewers, slots, 3), np.uint8), np.zeros(viewers, np.int32),
        )  # fmt: skip
        self._free: F64 = np.zeros((bodies, DIRECTIONS))
        self._probes: Probes = (np.zeros(bodies, np.uint64), np.full((bodies, 2), NEVER, np.int32))
        self._ways: Ways = (
            np.zeros((WAYS_MAX, 2), np.int32), np.zeros((WAYS_MAX, 3)), np.zeros((WAYS_MAX, 3)), np.zeros(WAYS_MAX),
            np.zeros(WAYS_MAX),
        )  # fmt: skip
        self._cells: I32 = np.full((bodies, 2), -1, np.int32)
        self._wanted: I32 = np.full(bodies, NEVER, np.int32)
        self._bodies: Bodies = self._rows(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0, np.uint64))
        self._places: I32 = np.full((viewers, 2), -1, np.int32)
        self._found_t: F64 = np.zeros(WAYS_MAX)
        self._triangles: I32 = np.zeros(WAYS_MAX, np.int32)
        words = known.arrays[2].shape[1]
        self._queue: Queue = (
            np.zeros((2, words), np.uint64), np.zeros((3, slots), np.int32), np.zeros((PAIRS_MAX, 5), np.int32),
            np.full(viewers, self.rules.rays, np.int32), np.zeros(2, np.int64),
        )  # fmt: skip
        self._rays: Rays = (
            np.zeros((RAYS_MAX, 2), np.int32), np.zeros((RAYS_MAX, 3)), np.zeros((RAYS_MAX, 3)),
            np.zeros(RAYS_MAX, np.int32),
        )  # fmt: skip
        self._counts: I64 = np.zeros(COUNTS, np.int64)

    @property
    def counts(self) -> dict[str, int]:
        """Pairs by what they were found to be, pairs whose cell is unknown, and rays, since the beginning."""
        return {name: int(self._counts[place]) for name, place in COUNTERS.items()}

    @property
    def rays_cast(self) -> I32:
        """Rays of each viewer when it was last decided for, shape (viewers,), int32."""
        return self.rules.rays - self._queue[3]

    def forget(self, viewers: int | I32) -> None:
        """Let nothing be remembered of a viewer or several, as when another client takes its row.

        Raises:
            VisibilityError: There is no such viewer.
        """
        rows = np.atleast_1d(viewers)
        wrong = rows[(rows < 0) | (rows >= len(self.found))]
        if len(wrong):
            raise VisibilityError(f"viewer {wrong[0]} is not one of 0 to {len(self.found) - 1}")
        self._memory[0][rows] = 0
        self.found[rows] = 0

    def place(self, *, feet: F64, velocity: F64, size: F64, identity: U64, tick: int) -> None:
        """Take where all bodies are; the arrays are read by `refresh` too, and must not change in between.

        Args:
            feet: Positions [m], shape (b, 3).
            velocity: Shape (b, 3) [m/s].
            size: Radius and height [m], shape (b, 2).
            identity: Shape (b,), uint64, 0 where there is no body; another number is another body.
            tick: Now; less than 2³⁰.

        Raises:
            VisibilityError: An array has another shape or type, or there are more bodies than there is room for.
        """
        count = len(feet)
        if not count <= len(self._probes[0]):
            raise VisibilityError(f"{count} bodies, at most {len(self._probes[0])}; give a greater `bodies`")
        _fits("feet", feet, np.float64, (count, 3))
        _fits("velocity", velocity, np.float64, (count, 3))
        _fits("size", size, np.float64, (count, 2))
        _fits("identity", identity, np.uint64, (count,))
        self._bodies = self._rows(feet, velocity, size, identity)
        self._probe_ways(tick)
        middle = feet + size[:, 1:] * [0.0, 0.0, BODY_MIDDLE]
        cells = self._bodies[5]
        cells_at(self.map.arrays, middle, NEAR, cells, 0)
        ahead = np.minimum(self._free[:count, ALONG, None], self.rules.lead_s) * velocity
        cells_at(self.map.arrays, middle + ahead, HERE, cells, 1)
        cells[(identity == 0) | (size[:, 0] < SMALL_M)] = -1

    def refresh(self, *, eyes: F64, horizon: F64, own: I32, candidates: I32, due: I32, tick: int) -> U8:
        """Decide for each candidate of the viewers that are due; `place` must have been called for this tick.

        Args:
            eyes: Positions [m], shape (viewers, 3).
            horizon: How far each viewer is led [s], shape (viewers,).
            own: The body of each viewer, −1 for none, shape (viewers,), int32.
            candidates: Bodies that each viewer may be told of, −1 for none, shape (viewers, slots), int32. Numbers out
                of range count as none.
            due: Rows of viewers, int32.
            tick: Now.

        Returns:
            `found`.

        Raises:
            VisibilityError: An array has another shape or type, or a viewer or a viewer's body does not exist.
        """
        viewers = len(self.found)
        _fits("eyes", eyes, np.float64, (viewers, 3))
        _fits("horizon", horizon, np.float64, (viewers,))
        _fits("own", own, np.int32, (viewers,))
        _fits("candidates", candidates, np.int32, self.found.shape)
        _fits("due", due, np.int32, (len(due),))
        if len(due) and not 0 <= due.min() <= due.max() < viewers:
            raise VisibilityError(f"due holds a viewer that is not one of 0 to {viewers - 1}")
        if not own.max() < len(self._bodies[3]):
            raise VisibilityError(f"own is {own.max()} for some viewer, but there are {len(self._bodies[3])} bodies")
        self._place_viewers(eyes, horizon, own, due)
        viewing, out = (eyes, horizon, own, self._places), (self.found, self._counts)
        sort_views(
            self.map.arrays, self._bodies, viewing, due, candidates, tick, self._settings, self._memory, self._queue,
            out,
        )  # fmt: skip
        for share in self._shares:
            count = aim_rays(
                self._bodies, viewing, share, tick, self._settings, self._memory, self._queue, self._rays, out
            )
            if count == 0:
                break
            cast_rays(self.sight.arrays, count, self._rays)
        return self.found

    def _rows(self, feet: F64, velocity: F64, size: F64, identity: U64) -> Bodies:
        """The bodies as kernels take them."""
        count = len(feet)
        return feet, velocity, size, identity, self._free[:count], self._cells[:count], self._wanted[:count]

    def _probe_ways(self, tick: int) -> None:
        """Find how far bodies are free to go."""
        count = list_ways(self._bodies, tick, self._probes, self._ways)
        if count:
            which, origins, directions, farthest, kept = self._ways
            rays = (origins[:count], directions[:count], farthest[:count])
            closest_hit_batch(self.sight.arrays, *rays, SIGHT_MASK, self._found_t, self._triangles)
            self._free[which[:count, 0], which[:count, 1]] = np.maximum(self._found_t[:count] - kept[:count], 0.0)

    def _place_viewers(self, eyes: F64, horizon: F64, own: I32, due: I32) -> None:
        """Find the cells of the eyes that are due, now and after their horizon; without a body they stay."""
        places: I32 = np.empty((len(due), 2), np.int32)
        eye, body = eyes[due], own[due]
        cells_at(self.map.arrays, eye, NEAR, places, 0)
        led = np.flatnonzero(body >= 0)
        rows = body[led]
        eye[led] += np.minimum(self._free[rows, ALONG], horizon[due[led]])[:, None] * self._bodies[1][rows]
        cells_at(self.map.arrays, eye, HERE, places, 1)
        self._places[due] = places


def _shares(burst: int) -> tuple[int, ...]:
    """How many rays each pair gets in each round, together `burst`; the 0 at the end judges the last round."""
    shares: list[int] = []
    while sum(shares) < burst:
        shares.append(min(SHARES[min(len(shares), len(SHARES) - 1)], burst - sum(shares)))
    return (*shares, 0)


def _fits(name: str, array: AnyArray, dtype: type, shape: tuple[int, ...]) -> None:
    if array.dtype != dtype or array.shape != shape or not array.flags.c_contiguous:
        raise VisibilityError(
            f"{name} is {array.dtype} {array.shape}; it must be {np.dtype(dtype)} {shape}, C-contiguous"
        )
