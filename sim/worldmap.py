"""What a map is to the simulation: triangles with contents, spawn points, items, triggers and movers.

Importers (`server.maps`) make a `WorldMap` from files; the hierarchy over it is `sim.geometry.Geometry`.
Positions are metres, right-handed, Z up. Triangles are counter-clockwise seen from the open side.
"""

import enum
import hashlib
from dataclasses import dataclass, field

import numpy as np

from sim.arrays import F64, I32, U16

__all__ = [
    "MOVEMENT_MASK",
    "SHOT_MASK",
    "TRIANGLES_MAX",
    "Contents",
    "ItemPoint",
    "Mover",
    "SpawnPoint",
    "Trigger",
    "TriggerKind",
    "WorldMap",
]

TRIANGLES_MAX = 4_000_000


class Contents(enum.IntFlag):
    """What a triangle is, as bits of the `contents` column."""

    SOLID = 1  # stops movement, shots and sight
    PLAYER_CLIP = 2  # stops movement only
    SHOT_CLIP = 4  # stops shots only
    WATER = 8
    LAVA = 16
    SLIME = 32
    SKY = 64  # together with SOLID: a shot vanishes without a mark
    MOVER = 128  # belongs to a brush model (door, lift) in its resting place
    SLICK = 256  # no friction


MOVEMENT_MASK = int(Contents.SOLID | Contents.PLAYER_CLIP)
SHOT_MASK = int(Contents.SOLID | Contents.SHOT_CLIP)


@dataclass(frozen=True, slots=True)
class SpawnPoint:
    """Where a player may appear. `position` is where its feet stand [m]; `team` 0 is any team."""

    position: tuple[float, float, float]
    yaw: int  # uint16 angle, 65536 = one turn, counter-clockwise from +X
    team: int = 0


@dataclass(frozen=True, slots=True)
class ItemPoint:
    """A pickup's place: `kind` is the engine-neutral name (`health`, `armour`, `rocket_launcher`, …)."""

    kind: str
    position: tuple[float, float, float]
    amount: int = 0  # 0: the game's own default


class TriggerKind(enum.IntEnum):
    """What touching a trigger box does."""

    PUSH = 1  # `vector` becomes the velocity [m/s]
    TELEPORT = 2  # `vector` becomes the position of the feet [m], `yaw` the view direction
    HURT = 3  # `amount` damage per second


@dataclass(frozen=True, slots=True)
class Trigger:
    """An axis-aligned box that acts on players inside it."""

    kind: TriggerKind
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    vector: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: int = 0
    amount: float = 0.0


@dataclass(frozen=True, slots=True)
class Mover:
    """A brush model: `triangle_count` triangles from `triangle_first`, in their resting place."""

    classname: str
    triangle_first: int
    triangle_count: int
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class WorldMap:
    """One static world.

    Attributes:
        name: Short name, `[a-z0-9_-]+`.
        vertices: Positions [m], shape (vertex_count, 3), float64, finite.
        triangles: Vertex indices, shape (triangle_count, 3), int32.
        contents: `Contents` bits, shape (triangle_count,), uint16.
        spawns: At least one.
        entities: Every entity of the source file as key/value pairs, for tools and games.
    """

    name: str
    vertices: F64
    triangles: I32
    contents: U16
    spawns: tuple[SpawnPoint, ...]
    items: tuple[ItemPoint, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    movers: tuple[Mover, ...] = ()
    entities: tuple[dict[str, str], ...] = ()

    @property
    def bounds(self) -> tuple[F64, F64]:
        """Lowest and highest corner [m], each shape (3,)."""
        return self.vertices.min(axis=0), self.vertices.max(axis=0)

    def content_hash(self) -> str:
        """32 hexadecimal digits that differ whenever anything in the map that the simulation can see differs."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (self.vertices, self.triangles, self.contents):
            contiguous = np.ascontiguousarray(column)
            digest.update(repr((contiguous.dtype.str, contiguous.shape)).encode())
            digest.update(contiguous.tobytes())
        digest.update(repr((self.spawns, self.items, self.triggers, self.movers)).encode())
        return digest.hexdigest()
