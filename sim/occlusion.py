"""What stops shots: the map, and its movers where they were when the shooter saw them.

walls = occluders(access)          # of a world, for kernels that call `sim.occlusion_kernels`
walls = static_occluders(geometry)     # of a map whose movers rest
"""

import numpy as np

from sim.arrays import F64, AnyArray
from sim.geometry import Geometry, build_forest
from sim.movers import MoverSet, mover_service
from sim.movers_kernels import FIGURES, SceneArrays
from sim.occlusion_kernels import OccluderArrays
from sim.pipeline import Access
from sim.rewind import history_depth

__all__ = ["MoverHistory", "mover_history", "occluders", "static_occluders"]


class MoverHistory:
    """Where the movers of a world were in each of the last ticks; a memory of the world, like the poses of players.

    Attributes:
        offsets: Ways from rest [m], shape (depth, movers, 3); that of tick t is at t % depth.
        kept_ticks: How many ticks a capture keeps.
    """

    def __init__(self, movers: MoverSet, *, tick_hz: int, kept_ticks: int) -> None:
        depth = history_depth(tick_hz)
        self.offsets: F64 = np.zeros((depth, movers.count, 3))
        self.kept_ticks = min(kept_ticks, depth)
        self._set = movers

    @property
    def occluders(self) -> SceneArrays:
        """The movers as kernels take them, of type `sim.movers_kernels.SCENE_TYPE`."""
        return self._set.forest, self._set.spec[0], self.offsets

    def record(self, tick: int, offsets: F64) -> None:
        """Keep where the movers are at the end of a tick."""
        self.offsets[tick % len(self.offsets)] = offsets

    def at(self, tick: int) -> F64:
        """Where the movers were in one of the last ticks [m from rest], shape (movers, 3)."""
        offsets: F64 = self.offsets[tick % len(self.offsets)]
        return offsets

    def views(self, tick: int, rows: int) -> list[AnyArray]:
        """What a capture at a tick keeps, and a restore fills again: the last ticks."""
        del rows  # it does not matter how many players there are
        return [self.offsets[(tick - back) % len(self.offsets)] for back in range(self.kept_ticks)]

    def clear(self) -> None:
        """Forget everything, before a restore."""
        self.offsets[...] = 0.0

    def restored(self, tick: int) -> None:
        """Nothing to do: where a mover was stands in its place for the tick."""


def mover_history(access: Access) -> MoverHistory:
    """The history that `sim.systems.mover_system` writes."""
    world, movers = access.world, mover_service(access)
    return access.memory(
        MoverHistory,
        lambda: MoverHistory(movers, tick_hz=world.tick_hz, kept_ticks=world.rewind_ticks_max + 2),
    )


def occluders(access: Access) -> OccluderArrays:
    """What stops shots in a world, at any moment of its last second."""
    return access.world.geometry.arrays, mover_history(access).occluders


def static_occluders(geometry: Geometry) -> OccluderArrays:
    """What stops shots on a map of which nothing moves."""
    forest, _ = build_forest(geometry, [])
    return geometry.arrays, (forest, np.zeros((0, FIGURES)), np.zeros((1, 0, 3)))
