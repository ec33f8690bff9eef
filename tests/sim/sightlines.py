"""Small maps of boxes for tests of visibility, and a driver that decides tick by tick."""

import numpy as np
from numpy.typing import ArrayLike

from server.maps.builder import MeshBuilder
from server.maps.solids import Solids
from sim.arrays import F64, U8
from sim.geometry import Geometry
from sim.navigation import Navigation
from sim.visibility import Visibility, VisibilityMap, VisibilityRules, sight_world
from sim.visibility_build import BakeOptions, bake
from sim.worldmap import Contents, SpawnPoint, WorldMap

__all__ = ["COARSE", "EYE", "Pairs", "bake_map", "blind", "corner", "hall", "make", "same"]

COARSE = BakeOptions(rays=16, ring_rays=64, points=24, reach_m=1.5)  # small maps need few rays
EYE = np.array([0.0, 0.0, 1.2])
HIGH_M = 3.0
Spot = tuple[float, float, float]


def hall(solids: Solids, half_x: float, half_y: float) -> None:
    """Floor, ceiling and four walls around a hall about the origin."""
    solids.box((-half_x - 1, -half_y - 1, -1.0), (half_x + 1, half_y + 1, 0.0))
    solids.box((-half_x - 1, -half_y - 1, HIGH_M), (half_x + 1, half_y + 1, HIGH_M + 1))
    for sign in (-1.0, 1.0):
        x, y = sorted((sign * half_x, sign * (half_x + 1))), sorted((sign * half_y, sign * (half_y + 1)))
        solids.box((x[0], -half_y, 0.0), (x[1], half_y, HIGH_M))
        solids.box((-half_x, y[0], 0.0), (half_x, y[1], HIGH_M))


def make(solids: Solids, spawns: list[Spot], doors: Solids | None = None) -> WorldMap:
    """A map of solids, and of doors that may stand open."""
    builder = MeshBuilder("sightlines")
    builder.add(*solids.mesh())
    if doors is not None:
        vertices, triangles, contents = doors.mesh()
        builder.add(vertices, triangles, contents | np.uint16(Contents.MOVER))
    vertices, triangles, contents, _ = builder.mesh()
    return WorldMap("sightlines", vertices, triangles, contents, tuple(SpawnPoint(spot, 0) for spot in spawns))


def corner() -> WorldMap:
    """A hall of 24 × 24 m whose quarter x > 0, y > 0 is rock: two arms round a corner at the origin."""
    solids = Solids()
    hall(solids, 12.0, 12.0)
    solids.box((0.0, 0.0, 0.0), (12.0, 12.0, HIGH_M))
    return make(solids, [(-6.0, -6.0, 0.01)])


def bake_map(world: WorldMap, options: BakeOptions = COARSE) -> tuple[VisibilityMap, Geometry]:
    """A map's visibility, and what stops sight on it."""
    sight = Geometry.build(sight_world(world))
    return bake(world, sight, Navigation.build(Geometry.build(world), world), options=options), sight


def blind() -> VisibilityMap:
    """A map that knows nothing: all is left to rays."""
    figures = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    rows = np.ones((1, 1), np.uint64)
    return VisibilityMap("blind", (figures, np.full(1, -1, np.int16), rows, rows.copy()))


def same(one: VisibilityMap, two: VisibilityMap) -> bool:
    """Whether two maps hold the same arrays of the same types."""
    return all(
        np.array_equal(one.arrays[k], two.arrays[k]) and one.arrays[k].dtype == two.arrays[k].dtype for k in range(4)
    )


class Pairs:
    """Bodies that are all viewers of all bodies: `ask` places them and decides for everybody."""

    def __init__(
        self, known: VisibilityMap, sight: Geometry, feet: ArrayLike, *, rules: VisibilityRules | None = None,
        horizon: float = 0.35,
    ) -> None:  # fmt: skip
        self.feet: F64 = np.array(feet, np.float64).reshape(-1, 3)
        count = len(self.feet)
        self.velocity, self.size = np.zeros((count, 3)), np.tile([0.375, 1.4], (count, 1))
        self.identity = np.arange(1, count + 1, dtype=np.uint64)
        self.own, self.due = np.arange(count, dtype=np.int32), np.arange(count, dtype=np.int32)
        self.horizon = np.full(count, horizon)
        self.candidates = np.tile(np.arange(count, dtype=np.int32), (count, 1))
        np.fill_diagonal(self.candidates, -1)
        self.visibility = Visibility(known, sight, viewers=count, slots=count, bodies=count, rules=rules)
        self.tick = 0

    def ask(self, ticks: int = 1) -> U8:
        """What each pair is found to be after that many ticks."""
        for _ in range(ticks):
            self.visibility.place(
                feet=self.feet, velocity=self.velocity, size=self.size, identity=self.identity, tick=self.tick
            )
            found = self.visibility.refresh(
                eyes=self.feet + EYE, horizon=self.horizon, own=self.own, candidates=self.candidates, due=self.due,
                tick=self.tick,
            )  # fmt: skip
            self.tick += 1
        return found.copy()
