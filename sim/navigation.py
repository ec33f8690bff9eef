"""Where players can walk on a map, and how to get anywhere: cells, links between them, and distance fields.

    navigation = Navigation.build(geometry, world_map)
    goals = navigation.locate([item.position for item in world_map.items])
    fields = navigation.fields(goals)                       # (goals, cells); a walker goes downhill

Cells are flooded from the spawn points with the body and the sweeps of `sim.motion`, so they are what players can
reach and nothing else (`sim.navigation_kernels` says how). Many walkers share few fields: a step of a walker is a look
at the links of its cell, and no path is ever searched for one walker. Built once per map; `to_arrays` and `from_arrays`
keep it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F64, I32, U8, AnyArray
from sim.errors import SimError
from sim.geometry import Geometry
from sim.motion import Motion, MotionParameters
from sim.motion_kernels import CANDIDATES_MAX, ON_GROUND
from sim.narrowphase import surfaces_of
from sim.navigation_kernels import (
    COST_MAX,
    FIGURES,
    FLIGHT,
    LINKS,
    PROBE_SCRATCH,
    STATE_WORDS,
    NavigationArrays,
    NodeArrays,
    distance_field,
    flood,
    locate_all,
    pending_cells,
    reverse_links,
    seed_cells,
)
from sim.worldmap import Trigger, TriggerKind, WorldMap

__all__ = ["CELLS_MAX", "FORMAT", "Navigation", "NavigationError", "NavigationOptions"]

FORMAT = 1  # raised whenever the saved arrays change their meaning
CELLS_MAX = 1 << 20
COLUMNS_MAX = 1 << 26
FLIGHT_TICK_S = 1.0 / 60.0
FLIGHT_TICKS_MAX = 300  # a flight of more than five seconds leads nowhere
ROUNDS_MAX = 64  # of flooding and following triggers; what only later rounds would reach stays unreached
COST_PER_COLUMN = 5


class NavigationError(SimError):
    """A map or a saved navigation cannot be used."""


@dataclass(frozen=True, slots=True)
class NavigationOptions:
    """How finely and how far the world is explored.

    Attributes:
        cell_m: Pitch of the lattice [m]. Gaps that are wider than the body by less than this may be missed.
        drop_m: Deepest fall that is taken [m].
        jump_m: Highest obstacle that is jumped on [m]; 0: none.
        cells_max: Cells kept; those farthest from the spawn points are left out, and counted in `refused`.
    """

    cell_m: float = 0.5
    drop_m: float = 14.0
    jump_m: float = 1.0
    cells_max: int = CELLS_MAX

    def __post_init__(self) -> None:
        limits = {
            "cell_m": (0.2, 4.0), "drop_m": (0.0, 100.0), "jump_m": (0.0, 5.0), "cells_max": (1, CELLS_MAX),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise NavigationError(f"navigation option {name} is {value}; give it {low} to {high}")


@dataclass(frozen=True, slots=True, eq=False)
class Navigation:
    """Cells, links and regions of one map. Immutable; every thread may query it.

    Attributes:
        map_hash: `WorldMap.content_hash()` of the map it was built from.
        arrays: What kernels take, of type `NAVIGATION_TYPE`.
        region: Number of the region of each cell, 0 the largest, shape (n,), int32: within a region there is a way
            from every cell to every other.
        refused: Cells that did not fit.
    """

    map_hash: str
    arrays: NavigationArrays
    region: I32
    refused: int
    _reversed: tuple[I32, I32, U8]

    @classmethod
    def build(
        cls,
        geometry: Geometry,
        world: WorldMap,
        *,
        parameters: MotionParameters | None = None,
        options: NavigationOptions | None = None,
    ) -> "Navigation":
        """Explore a map from its spawn points; the same map gives the same cells on every machine.

        Raises:
            NavigationError: The map is too large for the pitch, or nobody can walk from any of its spawn points.
        """
        builder = _Builder(geometry, world, parameters or MotionParameters(), options or NavigationOptions())
        return builder.run(world)

    @property
    def position(self) -> F64:
        """Feet of a body in each cell [m], shape (n, 3), float64."""
        return self.arrays[3]

    @property
    def links(self) -> I32:
        """The cells that each leads to, −1 for none, shape (n, 9), int32."""
        return self.arrays[4]

    @property
    def kinds(self) -> U8:
        """How each link is taken, shape (n, 9), uint8: NONE, WALK, DROP, JUMP, FLIGHT of the kernels."""
        return self.arrays[5]

    def __len__(self) -> int:
        return len(self.arrays[3])

    def locate(self, points: ArrayLike, *, reach_m: float = 1.5) -> I32:
        """The cell nearest to each point, −1 where there is none within `reach_m` level.

        Args:
            points: Feet, or things that lie about [m], shape (n, 3).
            reach_m: How far to look, level [m].
        """
        places = np.ascontiguousarray(np.asarray(points, np.float64).reshape(-1, 3))
        cells = np.empty(len(places), np.int32)
        locate_all(self.arrays, places, max(1, round(reach_m / float(self.arrays[0][2]))), cells)
        return cells

    def fields(self, goals: ArrayLike) -> I32:
        """Distance of every cell to each goal, in fifths of the pitch, `FAR` where no way leads there.

        Args:
            goals: Cells, shape (k,).

        Returns:
            Shape (k, n), int32.

        Raises:
            NavigationError: A goal is not a cell.
        """
        cells = np.asarray(goals, np.int64).reshape(-1)
        if cells.size and not (cells.min() >= 0 and cells.max() < len(self)):
            raise NavigationError(f"a goal is not a cell from 0 to {len(self) - 1}")
        start, origin, cost = self._reversed
        distance = np.empty((len(cells), len(self)), np.int32)
        entry_cell, entry_next = np.empty(len(origin) + 1, np.int32), np.empty(len(origin) + 1, np.int32)
        for row, goal in enumerate(cells.tolist()):
            distance_field(goal, start, origin, cost, entry_cell, entry_next, distance[row])
        return distance

    def to_arrays(self) -> dict[str, AnyArray]:
        """Plain arrays that `from_arrays` takes back; they say which map and which format they are of."""
        figures, heads, following, position, links, kinds, costs = self.arrays
        header = np.frombuffer(f"{FORMAT}:{self.map_hash}:{self.refused}".encode(), np.uint8)
        return {
            "header": header, "figures": figures, "heads": heads, "following": following, "position": position,
            "links": links, "kinds": kinds, "costs": costs, "region": self.region,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, saved: Mapping[str, AnyArray], *, map_hash: str) -> "Navigation":
        """The navigation that `to_arrays` saved.

        Raises:
            NavigationError: An array is missing or malformed, or they are of another map or format.
        """
        header = _saved(saved, "header", np.uint8, 1).tobytes().decode("ascii", "replace")
        prefix, _, refused = header.rpartition(":")
        if prefix != f"{FORMAT}:{map_hash}" or not refused.isdecimal():
            raise NavigationError(
                f"saved navigation is of {header!r}, needed is {FORMAT}:{map_hash}; build it again from the map"
            )
        figures, heads = _saved(saved, "figures", np.float64, 1), _saved(saved, "heads", np.int32, 1)
        position, links = _saved(saved, "position", np.float64, 2, 3), _saved(saved, "links", np.int32, 2, LINKS)
        kinds, costs = _saved(saved, "kinds", np.uint8, 2, LINKS), _saved(saved, "costs", np.uint8, 2, LINKS)
        following, region = _saved(saved, "following", np.int32, 1), _saved(saved, "region", np.int32, 1)
        count = len(position)
        chain = np.concatenate([heads, following])
        sound = (
            len(links) == len(kinds) == len(costs) == len(region) == len(following) == count > 0
            and len(figures) == FIGURES
            and figures[3] * figures[4] == len(heads)
            and -1 <= links.min() <= links.max() < count
            and bool(np.isfinite(position).all())
            # Every cell is in exactly one chain, so that no chain runs in a circle.
            and np.array_equal(np.sort(chain[chain >= 0]), np.arange(count))
            and bool((following < 0).any())
            and bool((following[following >= 0] > np.flatnonzero(following >= 0)).all())
        )
        if not sound:
            raise NavigationError("saved navigation: its arrays do not fit together; build it again from the map")
        arrays = (figures, heads, following, position, links, kinds, costs)
        return cls(map_hash, arrays, region, int(refused), _reverse(links, costs))


class _Builder:
    """What exploring needs: the lattice, room for cells, and a body."""

    def __init__(
        self, geometry: Geometry, world: WorldMap, parameters: MotionParameters, options: NavigationOptions
    ) -> None:
        low, high = world.bounds
        pitch = options.cell_m
        across = np.ceil((high[:2] - low[:2]) / pitch).astype(np.int64) + 2
        columns = int(across[0]) * int(across[1])
        if columns > COLUMNS_MAX:
            raise NavigationError(
                f"map {world.name}: {columns} columns of {pitch} m, at most {COLUMNS_MAX}; choose a greater cell_m"
            )
        self.options = options
        self.figures: F64 = np.array(
            [low[0] - pitch, low[1] - pitch, pitch, across[0], across[1], options.drop_m, options.jump_m], np.float64
        )
        self.heads: I32 = np.full(columns, -1, np.int32)
        # Twice as many cells as columns: two floors everywhere. Pages are committed as cells are found.
        room = min(options.cells_max, 2 * columns + 64)
        self.nodes: NodeArrays = (
            np.zeros(room, np.int32), np.zeros(room), np.zeros(room, np.int32), np.zeros((room, LINKS), np.int32),
            np.zeros((room, LINKS), np.uint8), np.zeros((room, LINKS), np.uint8),
        )  # fmt: skip
        self.state = np.zeros(STATE_WORDS, np.int64)
        self.motion = Motion(geometry, world.triggers, parameters)
        carry = [entry for entry in world.triggers if entry.kind in {TriggerKind.PUSH, TriggerKind.TELEPORT}]
        hurt = [entry for entry in world.triggers if entry.kind is TriggerKind.HURT]
        self.place = (
            geometry.arrays, surfaces_of(geometry), self.motion.vector, _boxes(carry), _boxes(hurt)
        )  # fmt: skip
        self.near: I32 = np.zeros(2 * CANDIDATES_MAX, np.int32)
        self.scratch: F64 = np.zeros(PROBE_SCRATCH)
        self.map_hash = geometry.map_hash

    def run(self, world: WorldMap) -> Navigation:
        """Flood, follow the triggers met, and flood again from where they lead."""
        spawns = np.array([spawn.position for spawn in world.spawns], np.float64).reshape(-1, 3)
        self._seed(spawns)
        if self.state[0] == 0:
            raise NavigationError(
                f"map {world.name}: nobody can walk from any of its {len(spawns)} spawn points; move them into the open"
            )
        for _ in range(ROUNDS_MAX):
            flood(self.place, self.figures, self.heads, self.nodes, self.state, self.near, self.scratch)
            cells: I32 = np.zeros(int(self.state[0]), np.int32)
            count = pending_cells(self.nodes, len(cells), cells)
            if not count:
                break
            self._follow(cells[:count])
        return self._finish()

    def _seed(self, points: F64) -> I32:
        cells: I32 = np.full(len(points), -1, np.int32)
        seed_cells(
            self.place, self.figures, points, self.heads, self.nodes, self.state, self.near, self.scratch, cells
        )  # fmt: skip
        return cells

    def _positions(self, cells: I32) -> F64:
        column, z = self.nodes[0][cells], self.nodes[1][cells]
        across = int(self.figures[3])
        x = self.figures[0] + (column % across + 0.5) * self.figures[2]
        y = self.figures[1] + (column // across + 0.5) * self.figures[2]
        return np.ascontiguousarray(np.stack([x, y, z], axis=1))

    def _follow(self, cells: I32) -> None:
        """Let bodies stand in the triggers and do nothing until they stand on ground again: that is where they lead."""
        count = len(cells)
        position = self._positions(cells)
        velocity, normal = np.zeros((count, 3)), np.zeros((count, 3))
        yaw, pitch, flags = np.zeros(count, np.uint16), np.zeros(count, np.int16), np.zeros(count, np.uint16)
        state = (position, velocity, normal, yaw, pitch, flags)
        idle = (np.zeros(count, np.uint16), np.zeros(count, np.int8), np.zeros(count, np.int8), yaw, pitch)
        ticks = np.zeros(count, np.int64)
        flying = np.ones(count, np.bool_)
        start = position.copy()
        for _ in range(FLIGHT_TICKS_MAX):
            self.motion.move(state, idle, active=flying, dt=FLIGHT_TICK_S)
            ticks += flying
            away = np.abs(position - start).max(axis=1) > self.options.cell_m
            flying &= ~(((flags & ON_GROUND) != 0) & away)
            if not flying.any():
                break
        landed = self._seed(np.ascontiguousarray(position[~flying]))
        ends = np.full(count, -1, np.int32)
        ends[~flying] = landed
        ends[ends == cells] = -1
        _, _, _, links, kinds, costs = self.nodes
        speed = self.motion.parameters.run_speed
        cost = np.ceil(ticks * FLIGHT_TICK_S * speed / self.options.cell_m * COST_PER_COLUMN)
        links[cells, LINKS - 1] = ends
        kinds[cells, LINKS - 1] = np.where(ends >= 0, FLIGHT, 0)
        costs[cells, LINKS - 1] = np.where(ends >= 0, np.clip(cost, 1, COST_MAX), 0)

    def _finish(self) -> Navigation:
        count = int(self.state[0])
        position = self._positions(np.arange(count, dtype=np.int32))
        _, _, following, links, kinds, costs = self.nodes
        following, links, kinds, costs = (
            following[:count].copy(), links[:count].copy(), kinds[:count].copy(), costs[:count].copy(),
        )  # fmt: skip
        arrays = (self.figures, self.heads, following, position, links, kinds, costs)
        return Navigation(
            self.map_hash, arrays, _regions(links), int(self.state[2]), _reverse(links, costs)
        )  # fmt: skip


def _boxes(triggers: list[Trigger]) -> F64:
    return np.array([(*entry.low, *entry.high) for entry in triggers], np.float64).reshape(-1, 6)


def _reverse(links: I32, costs: U8) -> tuple[I32, I32, U8]:
    total = int(np.count_nonzero(links >= 0))
    start, origin, cost = np.empty(len(links) + 1, np.int32), np.empty(total, np.int32), np.empty(total, np.uint8)
    reverse_links(links, costs, start, origin, cost)
    return start, origin, cost


def _regions(links: I32) -> I32:
    """Strongly connected components, numbered by descending size, of equal ones that of the lowest cell first."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count = len(links)
    cell, column = np.nonzero(links >= 0)
    graph = csr_array((np.ones(len(cell), np.int8), (cell, links[cell, column])), shape=(count, count))
    _, label = connected_components(graph, directed=True, connection="strong")
    _, first, inverse, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(first), np.int32)
    rank[np.lexsort((first, -size))] = np.arange(len(first))
    region: I32 = rank[inverse].astype(np.int32)
    return region


def _saved(saved: Mapping[str, AnyArray], name: str, dtype: type, ndim: int, columns: int = 0) -> AnyArray:
    array = saved.get(name)
    if array is None or array.dtype != dtype or array.ndim != ndim or (columns and array.shape[1] != columns):
        raise NavigationError(f"saved navigation: {name} is missing or malformed; build it again from the map")
    return np.ascontiguousarray(array)
