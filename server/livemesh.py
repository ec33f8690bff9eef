"""The map as spectators see it: what the page's pictures are made of."""

from dataclasses import dataclass

import numpy as np

from sim.arrays import F32, I64, U32
from sim.worldmap import Contents, WorldMap

__all__ = ["MESH_TRIANGLES_MAX", "LiveMesh", "floor_levels", "live_mesh", "mover_runs"]

MESH_TRIANGLES_MAX = 1_000_000
FLOOR_GAP_M = 2.0
MOVERS = 4  # the last class


@dataclass(frozen=True, slots=True, eq=False)
class LiveMesh:
    """Triangles to look at, sorted by class: solid, water, lava, slime, mover; of movers, those that rest come first.

    Attributes:
        vertices: Positions [m], shape (vertex_count, 3), float32.
        triangles: Vertex indices, shape (triangle_count, 3), uint32.
        class_counts: Triangles per class, shape (5,), uint32.
    """

    vertices: F32
    triangles: U32
    class_counts: U32

    def to_bytes(self) -> bytes:
        """`HRM1`, u32 vertex_count, u32 triangle_count, u32[5] class_counts, f32 vertices, u32 triangles."""
        counts = np.array([len(self.vertices), len(self.triangles)], "<u4")
        parts = (
            counts,
            self.class_counts.astype("<u4"),
            self.vertices.astype("<f4"),
            self.triangles.astype("<u4"),
        )
        return b"HRM1" + b"".join(part.tobytes() for part in parts)


def live_mesh(world: WorldMap) -> LiveMesh | None:
    """What is visible of a map: no sky, no clip brushes; None above MESH_TRIANGLES_MAX triangles."""
    chosen, kind = _visible(world)
    if len(chosen) > MESH_TRIANGLES_MAX:
        return None
    used, corners = np.unique(world.triangles[chosen], return_inverse=True)
    return LiveMesh(
        world.vertices[used].astype(np.float32),
        corners.reshape(-1, 3).astype(np.uint32),
        np.bincount(np.minimum(kind, MOVERS), minlength=5).astype(np.uint32),
    )


def mover_runs(world: WorldMap) -> tuple[tuple[int, int], ...]:
    """Where in the mesh the triangles of each mover that moves are: the first, and how many."""
    if not world.moving:
        return ()
    _, kind = _visible(world)
    numbers = MOVERS + 1 + np.arange(len(world.moving))
    first, end = np.searchsorted(kind, numbers), np.searchsorted(kind, numbers, side="right")
    return tuple(zip(first.tolist(), (end - first).tolist(), strict=True))


def _visible(world: WorldMap) -> tuple[I64, I64]:
    """Triangles to look at, in the order of the mesh, and the class of each; movers that move have one each."""
    contents = world.contents
    visible = (contents & int(Contents.SKY)) == 0
    substance = Contents.SOLID | Contents.WATER | Contents.LAVA | Contents.SLIME | Contents.MOVER
    visible &= (contents & int(substance)) != 0
    chosen = np.flatnonzero(visible)
    kind = np.zeros(len(contents), np.int64)
    for number, bit in enumerate((Contents.WATER, Contents.LAVA, Contents.SLIME, Contents.MOVER), start=1):
        kind[(contents & int(bit)) != 0] = number
    for number, mover in enumerate(world.moving):
        kind[mover.triangle_first : mover.triangle_first + mover.triangle_count] = MOVERS + 1 + number
    order = np.argsort(kind[chosen], kind="stable")
    return chosen[order], kind[chosen[order]]


def floor_levels(world: WorldMap) -> tuple[float, ...]:
    """Heights at which people play [m], ascending: those of spawn points and items, 2 m apart at least."""
    heights = sorted([spawn.position[2] for spawn in world.spawns] + [item.position[2] for item in world.items])
    levels: list[float] = []
    for height in heights:
        if not levels or height - levels[-1] >= FLOOR_GAP_M:
            levels.append(height)
    return tuple(levels)
