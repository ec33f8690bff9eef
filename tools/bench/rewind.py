"""Shots judged in the past on a real map, next to the same judgement one shot at a time in numpy.

Players stand, walk and crouch on the floors of a map; everyone shoots once, at somebody near it as it was up to 200 ms
ago, at a moment between ticks. Ours is what the tick does: the crowd gathered over the window, and one call for all
shots. The reference takes one shot after the other, and all players at once in numpy: poses interpolated, rays against
the three hitboxes, the nearest before the wall; the wall it is told by our own hierarchy, one ray at a time.

`1,000 shots` is 1,000 of them against 1,000 players; `20 shots` is a tick of a match of 64. `cost against players`
is the cost of the same 1,000 shots with 1,000 more players 300 m away over the cost without them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.maps import load_map
from sim.arrays import F64, I32
from sim.crowd import Crowd
from sim.geometry import Geometry
from sim.hitbox_kernels import PART_HEAD, PART_LEGS, PART_NONE, PART_TORSO
from sim.hitscan import Judgement
from sim.hitscan_kernels import hitscan_batch
from sim.occlusion import static_occluders
from sim.rewind import PoseHistory
from sim.rewind_kernels import ticks_back
from sim.trig import ANGLE_PER_RADIAN, SINE_TABLE, view_direction
from sim.weapons import Armoury, WeaponSpec
from sim.weapons_kernels import EYE
from sim.worldmap import SHOT_MASK
from tools.bench.harness import Row, median_us, row
from tools.bench.rays import EYE_HEIGHT_M, eye_points
from tools.openarena import map_path

__all__ = ["NumpyJudge", "Range", "run"]

MAP = "aggressor"
TICK_HZ = 60
TICK = 100
REWIND_MAX = 200 * TICK_HZ * 256 // 1000
TICKS = -(-REWIND_MAX // 256)
FAR_M = 300.0
SEED = 20_261


class Range:
    """Players who have moved for a second, and shots of this tick at where others were.

    Attributes:
        history: Where they were.
        shots: (shooter, 1) of each shot.
        yaw, pitch: Views of all players.
        rewind: Of all players [1/256 tick].
    """

    def __init__(self, geometry: Geometry, eyes: F64, *, shooters: int, far: int = 0) -> None:
        rng = np.random.default_rng(SEED)
        near = len(eyes)
        count = near + far
        self.geometry, self.count = geometry, count
        feet = np.concatenate([eyes, eyes[rng.integers(0, near, far)] + (FAR_M, FAR_M, 0.0)]) - (0, 0, EYE_HEIGHT_M)
        self.history = PoseHistory(count, tick_hz=TICK_HZ, kept_ticks=TICKS + 1)
        velocity = rng.normal(0.0, 4.0, (count, 3)) * (1.0, 1.0, 0.1)
        height = np.where(rng.random(count) < 0.2, 1.0, 1.4)
        ids, alive = np.arange(1, count + 1, dtype=np.uint64), np.ones(count, np.bool_)
        looks = (np.zeros(count, np.uint16), np.zeros(count, np.int16), np.zeros(count, np.uint16))
        for tick in range(TICK - TICK_HZ, TICK + 1):
            feet = feet + velocity / TICK_HZ * (rng.random((count, 1)) < 0.9)
            height = np.where(rng.random(count) < 0.02, 2.4 - height, height)
            self.history.record(tick, ids, alive, np.zeros(count, np.int64), (feet, height, *looks))
        self.feet, self.height = feet, height
        self.shots: I32 = np.stack([np.arange(shooters), np.ones(shooters)], 1).astype(np.int32)
        self.rewind = rng.integers(0, REWIND_MAX + 1, count).astype(np.uint16)
        self.yaw, self.pitch = np.zeros(count, np.uint16), np.zeros(count, np.int16)
        for shooter in range(shooters):
            self._aim(shooter, near, rng)
        self.armoury = Armoury([WeaponSpec("rail", 100, 1.5)])
        self.weapon = np.ones(count, np.uint8)
        self.judged, self.crowd = Judgement(shooters), Crowd(count)
        self.scene = (static_occluders(geometry), self.history.arrays, self.crowd.arrays)

    def eye(self, shooter: int) -> F64:
        """From where a player shoots [m]."""
        return np.asarray(self.feet[shooter] + (0.0, 0.0, EYE * self.height[shooter]))

    def _aim(self, shooter: int, near: int, rng: np.random.Generator) -> None:
        """Look at the nearest of a few others where it was, or a little beside it."""
        others = rng.integers(0, near, 12)
        others = others[others != shooter]
        seen = [(self.history.pose(int(other), int(self.rewind[shooter])), other) for other in others]
        ways = [np.add(pose[0], (0.0, 0.0, 0.7 * pose[1])) - self.eye(shooter) for pose, _ in seen if pose is not None]
        x, y, z = min(ways, key=lambda way: float(np.linalg.norm(way))) + rng.normal(0.0, 0.15, 3)
        self.yaw[shooter] = round(np.arctan2(y, x) * ANGLE_PER_RADIAN) & 0xFFFF
        self.pitch[shooter] = round(np.arctan2(z, np.hypot(x, y)) * ANGLE_PER_RADIAN)

    def judge(self) -> int:
        """Judge all shots as a tick does."""
        rows = self.shots[:, 0]
        self.crowd.gather(self.history, int(ticks_back(int(self.rewind[rows].max()))))
        poses = (self.feet, self.height, self.yaw, self.pitch)
        return int(
            hitscan_batch(
                self.scene, self.armoury.table, SINE_TABLE, self.shots, len(self.shots), (self.weapon, self.rewind),
                poses, (SEED, TICK, REWIND_MAX), self.judged.arrays,
            )
        )  # fmt: skip


def _spheres(away: F64, ray: F64, radius: F64) -> F64:
    """Distance along a ray to spheres; infinity for a miss, 0 from inside. `away`: from their middles to the origin."""
    c = (away * away).sum(1) - radius * radius
    b = away @ ray
    h = b * b - c
    with np.errstate(invalid="ignore"):
        t = np.where((b > 0.0) | (h < 0.0), np.inf, -b - np.sqrt(h))
    return np.where(c <= 0.0, 0.0, t)


def _capsules(away: F64, ray: F64, low: F64, high: F64, radius: F64) -> F64:
    """Distance along a ray to upright capsules; `away`: from the feet to the origin."""
    near = np.clip(away[:, 2], low, high)
    flat = away[:, 0] ** 2 + away[:, 1] ** 2
    inside = flat + (away[:, 2] - near) ** 2 <= radius * radius
    a = ray[0] * ray[0] + ray[1] * ray[1]
    b = away[:, 0] * ray[0] + away[:, 1] * ray[1]
    h = b * b - a * (flat - radius * radius)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = (-b - np.sqrt(h)) / a
    z = away[:, 2] + t * ray[2]
    side = (h >= 0.0) & (a > 1e-18) & (t >= 0.0) & (low <= z) & (z <= high)
    axis = np.array([0.0, 0.0, 1.0])
    caps = np.minimum(
        _spheres(away - low[:, None] * axis, ray, radius), _spheres(away - high[:, None] * axis, ray, radius)
    )
    found = np.where(side, t, np.where(h < 0.0, np.inf, caps))
    return np.where(inside, 0.0, found)


class NumpyJudge:
    """Judges one shot at a time, all players at once."""

    def __init__(self, spot: Range) -> None:
        self._spot = spot

    def shot(self, shooter: int) -> tuple[int, int, float]:
        """Row of whom a shot hits or -1, the part, and how far it goes [m]."""
        spot = self._spot
        eye = spot.eye(shooter)
        ray = np.array(view_direction(int(spot.yaw[shooter]), int(spot.pitch[shooter])))
        wall, _ = spot.geometry.closest_hit(eye[None], ray[None], t_max=np.array([200.0]), mask=SHOT_MASK)
        feet, height, *_ = spot.history.arrays
        rewind = int(spot.rewind[shooter])
        back = -(-rewind // 256)
        here, there = (TICK - back) % len(feet), (TICK - max(back - 1, 0)) % len(feet)
        part = (256 * back - rewind) / 256
        at = feet[here] + (feet[there] - feet[here]) * part
        tall = height[here] + (height[there] - height[here]) * part
        away = eye - at
        head = _spheres(away - tall[:, None] * (0.0, 0.0, 0.89), ray, 0.11 * tall)
        torso = _capsules(away, ray, 0.50 * tall, 0.66 * tall, 0.19 * tall)
        legs = _capsules(away, ray, 0.14 * tall, 0.42 * tall, 0.14 * tall)
        first = np.minimum(np.minimum(head, torso), legs)
        first[shooter] = np.inf
        victim = int(np.argmin(first))
        if not first[victim] < wall[0]:
            return -1, PART_NONE, float(wall[0])
        boxes = ((head, PART_HEAD), (torso, PART_TORSO), (legs, PART_LEGS))
        return victim, next(number for box, number in boxes if box[victim] == first[victim]), float(first[victim])

    def judge(self) -> list[tuple[int, int, float]]:
        """Judge all shots."""
        return [self.shot(int(shooter)) for shooter in self._spot.shots[:, 0]]


def run(data: Sequence[Path]) -> list[Row]:
    """Time per shot, and what players far away cost."""
    world = load_map(data[0] if data else map_path(MAP))
    geometry = Geometry.build(world)
    eyes = eye_points(world, geometry, 1000, np.random.default_rng(SEED))
    rows = []
    for shots, players in ((1000, 1000), (20, 64)):
        spot = Range(geometry, eyes[:players], shooters=shots)
        times = median_us({"hitreg": spot.judge, "numpy": NumpyJudge(spot).judge}, rounds=9)
        each = {name: value / shots for name, value in times.items()}
        case = f"{shots:,} shots, {players:,} players, {world.name}"
        rows.append(row(case, each["hitreg"], unit="µs/shot", reference="numpy", reference_value=each["numpy"]))
    alone = Range(geometry, eyes, shooters=1000)
    crowded = Range(geometry, eyes, shooters=1000, far=1000)
    times = median_us({"near": alone.judge, "near and far": crowded.judge}, rounds=41)
    rows.append(row("cost against players, 1,000 more far away", times["near and far"] / times["near"], unit="×"))
    return rows
