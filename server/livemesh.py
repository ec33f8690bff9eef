"""The map as spectators see it: what the page's pictures are made of."""

from dataclasses import dataclass

import numpy as np

from sim.arrays import F32, U32
from sim.worldmap import Contents, WorldMap

__all__ = ["MESH_TRIANGLES_MAX", "LiveMesh", "floor_levels", "live_mesh"]

MESH_TRIANGLES_MAX = 1_000_000
FLOOR_GAP_M = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class LiveMesh:
    """Triangles to look at, sorted by class: solid, water, lava, slime, mover.

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
    contents = world.contents
    visible = (contents & int(Contents.SKY)) == 0
    substance = Contents.SOLID | Contents.WATER | Contents.LAVA | Contents.SLIME | Contents.MOVER
    visible &= (contents & int(substance)) != 0
    chosen = np.flatnonzero(visible)
    if len(chosen) > MESH_TRIANGLES_MAX:
        return None
    kind = np.zeros(len(chosen), np.int64)
    for number, bit in enumerate((Contents.WATER, Contents.LAVA, Contents.SLIME, Contents.MOVER), start=1):
        kind[(contents[chosen] & int(bit)) != 0] = number
    order = np.argsort(kind, kind="stable")
    used, corners = np.unique(world.triangles[chosen[order]], return_inverse=True)
    return LiveMesh(
        world.vertices[used].astype(np.float32),
        corners.reshape(-1, 3).astype(np.uint32),
        np.bincount(kind, minlength=5).astype(np.uint32),
    )


def floor_levels(world: WorldMap) -> tuple[float, ...]:
    """Heights at which people play [m], ascending: those of spawn points and items, 2 m apart at least."""
    heights = sorted([spawn.position[2] for spawn in world.spawns] + [item.position[2] for item in world.items])
    levels: list[float] = []
    for height in heights:
        if not levels or height - levels[-1] >= FLOOR_GAP_M:
            levels.append(height)
    return tuple(levels)
