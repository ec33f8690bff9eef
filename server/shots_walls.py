"""Which wall stopped a ray, and where the movers of the map stood when a shot was judged.

Nothing is judged here: where a ray ended is known, and which of the map's triangles is there is looked for again. The
offsets of movers are those that shots were judged by (`sim.occlusion.MoverHistory`), between two ticks on the straight
line as in `sim.movers_kernels.hit_movers`. Ray against triangle: Möller and Trumbore 1997.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.arrays import F64, Bool
from sim.commands import REWIND_STEPS
from sim.movers import MoverSet
from sim.occlusion import MoverHistory
from sim.world import World
from sim.worldmap import SHOT_MASK, WorldMap

__all__ = ["MoverPlace", "mover_met", "mover_places", "shifted_corners", "static_walls"]

Vector = tuple[float, float, float]
NEAR_M = 1e-3  # a surface so near to where a ray ended is what ended it
MOVED_M = 1e-3  # less is not said and not drawn


@dataclass(frozen=True, slots=True)
class MoverPlace:
    """Where a mover stood by the moment of a shot, and where it stands in the shot's tick.

    Attributes:
        number: Of the map's movers that move (`sim.worldmap.WorldMap.moving`), from 1.
        kind: What the map calls it, such as `func_door`.
        offset: Its way from its resting place then [m].
        offset_now: The same in the tick of the shot [m].
        low, high: Corners of its bounds in its resting place [m].
    """

    number: int
    kind: str
    offset: Vector
    offset_now: Vector
    low: Vector
    high: Vector

    @property
    def name(self) -> str:
        """As texts call it."""
        return f"mover {self.number} ({self.kind})"

    @property
    def moved(self) -> bool:
        """Whether it stood elsewhere then."""
        return max(abs(a - b) for a, b in zip(self.offset, self.offset_now, strict=True)) > MOVED_M

    def stood(self) -> str:
        """Where it stood then, and where it stands now."""
        then = "stood at rest" if max(map(abs, self.offset)) <= MOVED_M else f"stood {_way(self.offset)} from rest"
        return then + (f", now {_way(self.offset_now)}" if self.moved else "")


def _way(offset: Vector) -> str:
    return f"{float(np.linalg.norm(offset)):.2f} m (" + " ".join(f"{part:+.2f}" for part in offset) + ")"


def _vector(row: F64) -> Vector:
    x, y, z = row.tolist()
    return x, y, z


def mover_places(world: World, rewind: int) -> tuple[MoverPlace, ...]:
    """All movers of a world as they stood `rewind`/256 ticks before the last tick, in the order of the map."""
    history, movers = world.memories.get(MoverHistory), world.services.get(MoverSet)
    if not isinstance(history, MoverHistory) or not isinstance(movers, MoverSet) or not movers.count:
        return ()
    deepest = len(history.offsets) - 1
    whole, part = rewind // REWIND_STEPS, (rewind % REWIND_STEPS) / REWIND_STEPS
    later, earlier = (history.at(world.tick - min(back, deepest)) for back in (whole, whole + 1))
    then, now = later + part * (earlier - later), history.at(world.tick)
    return tuple(
        MoverPlace(
            number + 1, mover.classname, _vector(then[number]), _vector(now[number]),
            _vector(movers.bounds[number, :3]), _vector(movers.bounds[number, 3:]),
        )
        for number, mover in enumerate(movers.movers)
    )  # fmt: skip


def shifted_corners(world: WorldMap, places: Sequence[tuple[int, Vector]], *, others: bool = True) -> F64:
    """Corners of all triangles that stop shots [m], shape (n, 3, 3), movers where they are said to be.

    Args:
        world: The map.
        places: Index of a mover among `world.moving`, and its way from rest [m].
        others: Whether everything else is wanted as well.
    """
    corners = world.vertices[world.triangles]
    chosen = np.full(len(corners), others)
    moving = world.moving
    for index, offset in places:
        rows = slice(moving[index].triangle_first, moving[index].triangle_first + moving[index].triangle_count)
        corners[rows] += offset
        chosen[rows] = True
    found: F64 = corners[chosen & ((world.contents & np.uint32(SHOT_MASK)) != 0)]
    return found


def static_walls(world: World, ways: F64) -> Bool:
    """Whether something that never moves stands where rays ended at a wall, shape (n,), bool.

    Args:
        world: Where.
        ways: Rows of `sim.hitscan.Judgement.ways`: origin, direction, distance of the wall.
    """
    # From right before the wall: thin walls that were gone through before it are no answer.
    before = np.maximum(ways[:, 6] - NEAR_M, 0.0)
    origins = ways[:, :3] + before[:, None] * ways[:, 3:6]
    reach = ways[:, 6] - before + NEAR_M
    _, triangle = world.geometry.closest_hit(origins, np.ascontiguousarray(ways[:, 3:6]), mask=SHOT_MASK, t_max=reach)
    found: Bool = triangle >= 0
    return found


def mover_met(world: World, places: Sequence[MoverPlace], way: F64) -> MoverPlace | None:
    """The mover of which a surface is where a ray ended at a wall; None where there is none.

    Args:
        world: Where.
        places: Of the movers at the ray's moment.
        way: A row of `sim.hitscan.Judgement.ways`.
    """
    best, found = NEAR_M, None
    for place, mover in zip(places, world.map.moving, strict=False):
        rows = slice(mover.triangle_first, mover.triangle_first + mover.triangle_count)
        stops = (world.map.contents[rows] & np.uint32(SHOT_MASK)) != 0
        corners = world.map.vertices[world.map.triangles[rows][stops]] + np.array(place.offset)
        away = np.abs(_distances(corners, way[:3], way[3:6]) - way[6])
        if len(away) and float(away.min()) < best:
            best, found = float(away.min()), place
    return found


def _distances(corners: F64, origin: F64, ray: F64) -> F64:
    """How far along a ray triangles of shape (n, 3, 3) are, shape (n,); infinite where it passes them by."""
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    across = np.cross(ray, second)
    size = np.einsum("ij,ij->i", first, across)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = (origin - corners[:, 0]) / size[:, None]
        u = np.einsum("ij,ij->i", offset, across)
        turned = np.cross(offset, first)
        v, t = turned @ ray, np.einsum("ij,ij->i", turned, second)
        inside = (u >= -1e-9) & (v >= -1e-9) & (u + v <= 1.0 + 1e-9) & (t >= 0.0)
    found: F64 = np.where(inside, t, np.inf)
    return found
