"""What it costs to move a thousand players through real maps for one tick, on one thread.

The players start at the spawn points, spread out for three seconds, and then run, strafe, turn, jump, crouch and take
stairs by inputs drawn once from a fixed seed; a fifth of them stand still, as they do in a match.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from server.maps import load_map
from sim.arrays import AnyArray
from sim.geometry import Geometry
from sim.jit import set_threads
from sim.motion import Motion
from sim.motion_kernels import BUTTON_CROUCH, BUTTON_JUMP, BUTTON_WALK
from sim.worldmap import WorldMap
from tools.bench.harness import Row, median_us, row
from tools.openarena import map_path

__all__ = ["Crowd", "run"]

MAPS = ("oa_dm1", "aggressor", "oa_ctf2")
PLAYERS = 1000
HZ = 60
SETTLE_TICKS = 180
SCRIPT_TICKS = 64
LIMIT_US = 4.0


class Crowd:
    """Players on a map with scripted inputs; `tick` moves them all once."""

    def __init__(self, world: WorldMap, *, players: int = PLAYERS, hz: int = HZ, seed: int = 1) -> None:
        rng = np.random.default_rng(seed)
        self.motion = Motion(Geometry.build(world), world.triggers)
        spawns = [world.spawns[i % len(world.spawns)] for i in range(players)]
        self.position = np.array([spawn.position for spawn in spawns])
        self.velocity, self.ground = np.zeros((players, 3)), np.zeros((players, 3))
        self.yaw, self.pitch = np.zeros(players, np.uint16), np.zeros(players, np.int16)
        self.flags, self.active = np.zeros(players, np.uint16), np.ones(players, np.bool_)
        self.dt, self.done = 1.0 / hz, 0
        self.script = [self._inputs(rng, players) for _ in range(SCRIPT_TICKS)]

    def _inputs(self, rng: np.random.Generator, players: int) -> tuple[AnyArray, ...]:
        """One set of inputs, held for a third of a second."""
        still = rng.random(players) < 0.2
        forward = np.where(still, 0, rng.choice([127, 127, 127, 0, -127], players)).astype(np.int8)
        right = np.where(still, 0, rng.choice([0, 0, 127, -127], players)).astype(np.int8)
        buttons = np.where(rng.random(players) < 0.25, BUTTON_JUMP, 0) | np.where(
            rng.random(players) < 0.05, BUTTON_CROUCH, 0
        )
        buttons |= np.where(rng.random(players) < 0.1, BUTTON_WALK, 0)
        yaw = rng.integers(0, 65536, players).astype(np.uint16)
        return buttons.astype(np.uint16), forward, right, yaw, np.zeros(players, np.int16)

    def tick(self) -> None:
        """Move everybody by the next input of the script."""
        inputs = self.script[self.done // (HZ // 3) % SCRIPT_TICKS]
        self.done += 1
        state = (self.position, self.velocity, self.ground, self.yaw, self.pitch, self.flags)
        self.motion.move(state, inputs, active=self.active, dt=self.dt)  # type: ignore[arg-type]  # a list of rows


def run(data: Sequence[Path]) -> list[Row]:
    """µs per player-tick on each map; `data` may name other maps."""
    set_threads(1)
    rows = []
    for source in [*data] or [map_path(name) for name in MAPS]:
        world = load_map(source)
        crowd = Crowd(world)
        for _ in range(SETTLE_TICKS):
            crowd.tick()
        us = median_us({"move": crowd.tick}, rounds=121)["move"]
        rows.append(row(f"1,000 players {world.name}", us / PLAYERS, reference="limit", reference_value=LIMIT_US))
    return rows
