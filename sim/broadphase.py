"""All pairs of things that touch, and the things near a point, in a box or on a ray: rebuilt every tick.

    broad = Broadphase(capacity=4096)
    broad.build(position, radius, alive)
    for first, second in broad.pairs(): ...

Things are spheres (circles in 2-D); a capsule or box takes part by its bounding sphere. Touching counts. All arrays
are made once. `sim.broadphase_kernels` describes the grid; kernels that want to ask it in the middle of a tick take
`broad.grid` (type GRID_TYPE) and call the functions of `sim.broadphase_query_kernels`.

Limits. `capacity` things and `pairs_max` pairs. Pairs beyond are not written, but counted (`pairs_dropped`); which
ones are kept is a function of positions, radii and the active mask alone. Things whose position or radius is not
finite or exceeds 10⁹ m, or whose radius is negative, take no part and are counted (`refused`).
"""

from dataclasses import dataclass

import numpy as np

from sim.arrays import F64, I32, I64, AnyArray, Bool
from sim.broadphase_kernels import (
    CELLS_EXTRA,
    CELLS_PER_ITEM,
    CLASSES,
    HEADER_DIMENSIONS,
    HEADER_ITEMS,
    HEADER_REFUSED,
    LANES,
    LEVELS_MAX,
    Grid,
    Work,
    build,
)
from sim.broadphase_pairs_kernels import find_pairs
from sim.broadphase_query_kernels import boxed_batch, near_batch, nearest_batch, ray_batch
from sim.errors import SimError

__all__ = ["CAPACITY_MAX", "Broadphase", "BroadphaseError", "Neighbours"]

CAPACITY_MAX = 1 << 24
DIMENSIONS = (2, 3)


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """Room for the answers to a batch of queries, made once and written again and again.

    Attributes:
        slots: Slots, shape (queries, limit), int32; -1 where there is none.
        distances: Distances of the centres [m], shape (queries, limit), float64; infinite where there is none.
            After `Broadphase.boxed` it holds slots again.
        counts: How many things answer each query, shape (queries,), int32. A count above `limit` shows that the
            query overflowed: the first `limit` of its order were kept.
    """

    slots: I32
    distances: F64
    counts: I32

    @classmethod
    def room(cls, queries: int, limit: int) -> "Neighbours":
        """Room for `limit` answers to each of up to `queries` queries.

        Raises:
            BroadphaseError: Either is below 1.
        """
        if queries < 1 or limit < 1:
            raise BroadphaseError(f"room: {queries} queries of {limit} answers; both must be 1 or more")
        shape = (queries, limit)
        return cls(np.full(shape, -1, np.int32), np.full(shape, np.inf), np.zeros(queries, np.int32))


class BroadphaseError(SimError):
    """Arrays or options do not fit the broadphase they are given to."""


def _check(name: str, array: AnyArray, dtype: type, shape: tuple[int | None, ...]) -> None:
    """Refuses an array of another dtype or shape (None: any length), or one that is not C-contiguous."""
    has = array.shape
    exact = has == shape
    if not exact and len(shape) == len(has):
        exact = shape == tuple([None if want is None else size for want, size in zip(shape, has, strict=True)])
    if not exact or array.dtype.type is not dtype or not array.flags.c_contiguous or not array.dtype.isnative:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise BroadphaseError(
            f"{name}: {array.dtype} of shape {array.shape}; pass a C-contiguous {np.dtype(dtype)} of shape ({wanted})"
        )


class Broadphase:
    """A grid over up to `capacity` moving things, rebuilt from their positions each tick.

    Args:
        capacity: Most slots that `build` accepts, 1 to CAPACITY_MAX.
        dimensions: 3, or 2 to look at x and y only.
        pairs_max: Most pairs that `pairs` returns; eight per slot unless given.

    Raises:
        BroadphaseError: An option is out of range.
    """

    def __init__(self, capacity: int, *, dimensions: int = 3, pairs_max: int | None = None) -> None:
        if not 1 <= capacity <= CAPACITY_MAX:
            raise BroadphaseError(f"capacity: {capacity}; choose 1 to {CAPACITY_MAX}")
        if dimensions not in DIMENSIONS:
            raise BroadphaseError(f"dimensions: {dimensions}; choose 2 or 3")
        limit = 8 * capacity if pairs_max is None else pairs_max
        if not 1 <= limit <= 64 * CAPACITY_MAX:
            raise BroadphaseError(f"pairs_max: {limit}; choose 1 to {64 * CAPACITY_MAX}")
        self.capacity = capacity
        self.dimensions = dimensions
        self.pairs_max = limit
        self._header = np.zeros(8, np.int64)
        self._header[HEADER_DIMENSIONS] = dimensions
        self.grid: Grid = (
            self._header,
            np.zeros((LEVELS_MAX, 8), np.int64),
            np.zeros((LEVELS_MAX, 4), np.float64),
            np.zeros(6, np.float64),
            np.zeros(CELLS_PER_ITEM * capacity + CELLS_EXTRA, np.int32),
            np.zeros((4, capacity + LANES), np.float64),
            np.zeros(capacity + LANES, np.int32),
            np.zeros(capacity + LANES, np.int32),
        )
        self._work: Work = (
            np.zeros(capacity, np.int32),
            np.zeros(capacity, np.uint8),
            np.zeros(CLASSES, np.int64),
            np.zeros(CLASSES, np.float64),
            np.zeros(CLASSES, np.int64),
        )
        self._everything: Bool = np.ones(capacity, np.bool_)
        self._pairs: I32 = np.zeros((limit + LANES, 2), np.int32)
        self._scratch: I64 = np.zeros(8, np.int64)
        self._pair_count = 0

    @property
    def count(self) -> int:
        """How many things the last `build` took in."""
        return int(self._header[HEADER_ITEMS])

    @property
    def refused(self) -> int:
        """How many active things the last `build` left out because position or radius made no sense."""
        return int(self._header[HEADER_REFUSED])

    @property
    def pair_count(self) -> int:
        """How many pairs the last `pairs` found, whether there was room for them or not."""
        return self._pair_count

    @property
    def pairs_dropped(self) -> int:
        """How many pairs the last `pairs` found beyond `pairs_max`."""
        return max(0, self._pair_count - self.pairs_max)

    def build(self, positions: F64, radii: F64, active: Bool | None = None) -> int:
        """Take in all active things, forgetting those of before.

        Args:
            positions: Centres [m], shape (n, 3), or (n, 2) where `dimensions` is 2; n up to the capacity. Float64.
            radii: Radii [m], shape (n,), float64.
            active: Which slots take part, shape (n,), bool; all unless given.

        Returns:
            How many things were taken in.

        Raises:
            BroadphaseError: An array has the wrong dtype or shape, is not contiguous, or is longer than the capacity.
        """
        _check("positions", positions, np.float64, (None, None))
        slots, width = positions.shape
        if slots > self.capacity or not self.dimensions <= width <= 3:
            raise BroadphaseError(
                f"positions: shape {positions.shape}; pass at most {self.capacity} rows, {self.dimensions} to 3 wide"
            )
        _check("radii", radii, np.float64, (slots,))
        if active is None:
            active = self._everything[:slots]
        _check("active", active, np.bool_, (slots,))
        self._pair_count = 0
        return int(build(positions, radii, active, self.grid, self._work))

    def take(self, positions: F64, radii: F64) -> int:
        """`build` of arrays that the caller has made by the same rules, each tick: looking at them took 8 µs."""
        self._pair_count = 0
        return int(build(positions, radii, self._everything[: len(radii)], self.grid, self._work))

    def pairs(self) -> I32:
        """All pairs of things whose spheres overlap or touch, each once.

        Returns:
            Slots, shape (min(pair_count, pairs_max), 2), int32, the lower slot of a pair first. The order of pairs is
            a function of positions, radii and the active mask alone: by size level, cell and slot of the thing that
            met the other. A view, good until the next call.
        """
        self._pair_count = int(find_pairs(self.grid, self._scratch, self._pairs))
        return self._pairs[: min(self._pair_count, self.pairs_max)]

    def near(self, points: F64, radii: F64, out: Neighbours) -> I32:
        """The things whose spheres overlap or touch each query sphere, nearest centre first, then lowest slot.

        Args:
            points: Centres [m], shape (queries, 3), float64; z is ignored where `dimensions` is 2.
            radii: Radii [m], shape (queries,), float64.
            out: Where the answers go, one row per query.

        Returns:
            `out.slots` of these queries, shape (queries, limit).

        Raises:
            BroadphaseError: An array does not fit.
        """
        count = self._check_queries(points, radii, out)
        near_batch(self.grid, points, radii, self._scratch, out.distances, out.slots, out.counts)
        return out.slots[:count]

    def nearest(self, points: F64, radii: F64, out: Neighbours) -> I32:
        """The things whose centres are nearest to each point, nearest first, then lowest slot.

        Args:
            points: Where [m], shape (queries, 3), float64; z is ignored where `dimensions` is 2.
            radii: Farthest centre that counts [m], shape (queries,), float64; may be infinite.
            out: Where the answers go, one row per query; its `limit` is k, and `counts` never exceeds it.

        Returns:
            `out.slots` of these queries, shape (queries, limit).

        Raises:
            BroadphaseError: An array does not fit.
        """
        count = self._check_queries(points, radii, out)
        nearest_batch(self.grid, points, radii, self._scratch, out.distances, out.slots, out.counts)
        return out.slots[:count]

    def boxed(self, low: F64, high: F64, out: Neighbours) -> I32:
        """The things whose spheres overlap or touch each axis-aligned box, lowest slot first.

        Args:
            low: Lowest corners [m], shape (queries, 3), float64.
            high: Highest corners [m], shape (queries, 3), float64.
            out: Where the answers go, one row per query.

        Returns:
            `out.slots` of these queries, shape (queries, limit).

        Raises:
            BroadphaseError: An array does not fit.
        """
        _check("low", low, np.float64, (None, 3))
        _check("high", high, np.float64, low.shape)
        self._check_room(len(low), out)
        boxed_batch(self.grid, low, high, self._scratch, out.distances, out.slots, out.counts)
        return out.slots[: len(low)]

    def cast(self, origins: F64, directions: F64, reaches: F64, ignored: I32, *, distances: F64, slots: I32) -> None:
        """Writes the first sphere that each ray meets; of equally near ones that of the lowest slot.

        Args:
            origins: Where the rays start [m], shape (rays, 3), float64; inside a sphere the distance is 0.
            directions: Where they go, shape (rays, 3), float64, of any length but zero.
            reaches: How far they go [m], shape (rays,), float64; may be infinite.
            ignored: A slot that each ray passes through, such as its shooter's, shape (rays,), int32; -1 for none.
            distances: Written: distances [m], shape (rays,), float64; infinite where a ray meets nothing.
            slots: Written: slots, shape (rays,), int32; -1 where a ray meets nothing.

        Raises:
            BroadphaseError: An array does not fit.
        """
        _check("origins", origins, np.float64, (None, 3))
        rays = len(origins)
        _check("directions", directions, np.float64, (rays, 3))
        _check("reaches", reaches, np.float64, (rays,))
        _check("ignored", ignored, np.int32, (rays,))
        _check("distances", distances, np.float64, (rays,))
        _check("slots", slots, np.int32, (rays,))
        ray_batch(self.grid, origins, directions, reaches, ignored, self._scratch, distances, slots)

    def _check_queries(self, points: F64, radii: F64, out: Neighbours) -> int:
        """Refuses arrays that do not fit; returns how many queries there are."""
        _check("points", points, np.float64, (None, 3))
        _check("radii", radii, np.float64, (len(points),))
        self._check_room(len(points), out)
        return len(points)

    @staticmethod
    def _check_room(queries: int, out: Neighbours) -> None:
        """Refuses results with fewer rows than there are queries."""
        if queries > len(out.counts):
            raise BroadphaseError(f"out: room for {len(out.counts)} queries; make room for {queries}")
        _check("out.slots", out.slots, np.int32, (len(out.counts), None))
        _check("out.distances", out.distances, np.float64, out.slots.shape)
