"""What a map is to the simulation: triangles with contents, spawn points, items, triggers and movers.

Importers (`server.maps`) make a `WorldMap` from files; the hierarchy over it is `sim.geometry.Geometry`.
Positions are metres, right-handed, Z up. Triangles are counter-clockwise seen from the open side.
"""

import enum
import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I32, U16, Bool

__all__ = [
    "MOVEMENT_MASK",
    "MOVING_MAX",
    "SHOT_MASK",
    "TRIANGLES_MAX",
    "Box",
    "Contents",
    "ItemPoint",
    "Mover",
    "MoverKind",
    "MoverMotion",
    "SpawnPoint",
    "Trigger",
    "TriggerKind",
    "WorldMap",
]

TRIANGLES_MAX = 4_000_000
MOVING_MAX = 256  # movers of a map that move; further ones stay in their resting place


class Contents(enum.IntFlag):
    """What a triangle is, as bits of the `contents` column."""

    SOLID = 1  # stops movement, shots and sight
    PLAYER_CLIP = 2  # stops movement only
    SHOT_CLIP = 4  # stops shots only
    WATER = 8
    LAVA = 16
    SLIME = 32
    SKY = 64  # together with SOLID: a shot vanishes without a mark
    MOVER = 128  # belongs to a brush model (door, lift); the mesh shows its resting place
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


class MoverKind(enum.IntEnum):
    """How a mover goes."""

    SLIDE = 1  # to its other end when touched, and back after a while: doors, lifts, buttons
    BOB = 2  # to and fro for ever, as the sine of time
    PATH = 3  # round and round through points


Box: TypeAlias = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class MoverMotion:
    """How a mover moves, without turning.

    Attributes:
        kind: See `MoverKind`.
        travel: SLIDE: from rest to the other end [m]; BOB: amplitude [m].
        seconds: SLIDE: from end to end; BOB: period.
        wait_s: SLIDE: stay at the other end; negative: for ever.
        phase: BOB: part of the period by which it is late, 0 to 1.
        damage: Points that it deals to whom it cannot push away.
        crushes: SLIDE: whether it waits for whoever is in its way to be gone, instead of turning back.
        holds: SLIDE: whether it stays at its other end while somebody stands on it.
        group: SLIDE: movers of the same number above 0 go together, as the wings of a door do.
        touch: SLIDE: a player who touches any of these boxes (low corner, high corner [m]) sets it going.
        path: PATH: (x, y, z [m] from rest, seconds of the way there, seconds to wait there) of each point in turn; the
            last leads back to the first, which is its resting place.
    """

    kind: MoverKind
    travel: tuple[float, float, float] = (0.0, 0.0, 0.0)
    seconds: float = 1.0
    wait_s: float = 0.0
    phase: float = 0.0
    damage: float = 0.0
    crushes: bool = False
    holds: bool = False
    group: int = 0
    touch: tuple[Box, ...] = ()
    path: tuple[tuple[float, float, float, float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Mover:
    """A brush model: `triangle_count` triangles from `triangle_first`, in their resting place.

    One without `motion` never moves.
    """

    classname: str
    triangle_first: int
    triangle_count: int
    properties: dict[str, str] = field(default_factory=dict)
    motion: MoverMotion | None = None


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

    @property
    def moving(self) -> tuple[Mover, ...]:
        """The movers that move, at most `MOVING_MAX`, in order; their triangles are no part of the static geometry."""
        return tuple(mover for mover in self.movers if mover.motion is not None)[:MOVING_MAX]

    @property
    def resting(self) -> Bool:
        """Which triangles never move, shape (triangle_count,), bool."""
        rests: Bool = np.ones(len(self.triangles), np.bool_)
        for mover in self.moving:
            rests[mover.triangle_first : mover.triangle_first + mover.triangle_count] = False
        return rests

    def content_hash(self) -> str:
        """32 hexadecimal digits that differ whenever anything in the map that the simulation can see differs."""
        digest = hashlib.blake2b(digest_size=16)
        for column in (self.vertices, self.triangles, self.contents):
            contiguous = np.ascontiguousarray(column)
            digest.update(repr((contiguous.dtype.str, contiguous.shape)).encode())
            digest.update(contiguous.tobytes())
        digest.update(repr((self.spawns, self.items, self.triggers, self.movers)).encode())
        return digest.hexdigest()
