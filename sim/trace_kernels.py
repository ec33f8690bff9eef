"""What a ray meets first at its moment: a wall and whoever stands before it.

SCENE is (occluders, history, crowd): what stops rays (`sim.occlusion_kernels`), poses of the past
(`sim.rewind_kernels`) and the crowd gathered from them for this tick (`sim.crowd_kernels`).

The world is asked first: it bounds how far the crowd must be searched.
"""

from typing import TypeAlias

from sim.crowd_kernels import CROWD_TYPE, CrowdArrays, first_body
from sim.jit import kernel
from sim.occlusion_kernels import OCCLUDERS_TYPE, OccluderArrays, first_wall
from sim.rewind_kernels import HISTORY_TYPE, HistoryArrays

__all__ = ["SCENE_TYPE", "Met", "Scene", "Vector", "along", "trace"]

SCENE_TYPE = f"Tuple(({OCCLUDERS_TYPE}, {HISTORY_TYPE}, {CROWD_TYPE}))"
Scene: TypeAlias = tuple[OccluderArrays, HistoryArrays, CrowdArrays]
Vector: TypeAlias = tuple[float, float, float]
Met: TypeAlias = tuple[float, int, float, int, int]


@kernel(counted=False, merge=True)
def along(origin: Vector, ray: Vector, t: float) -> Vector:
    """The point of a ray at a distance."""
    return origin[0] + ray[0] * t, origin[1] + ray[1] * t, origin[2] + ray[2] * t


@kernel(counted=False)
def trace(
    scene: Scene,
    moment: tuple[int, int],
    origin: Vector,
    ray: Vector,
    reach: float,
    grow: float,
    spared: tuple[int, int, int, int],
) -> Met:
    """The first wall and the first player before it.

    Kernels call it in several places: the compiler makes it once, where it would copy the hierarchy's walk into each.

    Args:
        scene: Where.
        moment: (tick, rewind in 1/`REWIND_STEPS` tick).
        origin: Where the ray begins [m].
        ray: Its direction, of length 1.
        reach: How far it goes [m].
        grow: Radius of the sphere swept along it, for players; walls meet its middle [m].
        spared: Rows of players it does not hit, -1 for none.

    Returns:
        Distance of the wall or `reach` [m]; its surface or -1; distance of the player or of the wall; its row or -1;
        its part.
    """
    occluders, history, crowd = scene
    free, surface = first_wall(occluders, moment, origin, ray, reach)
    t, victim, part = first_body(crowd, history, moment, origin, ray, free, grow, spared)
    return free, surface, t, victim, part
