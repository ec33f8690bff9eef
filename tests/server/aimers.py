"""Players who fight on the arena as people do, and some who cheat: for what tells them apart.

People see an enemy, take their time, turn towards it with an error that wanders, and hold the trigger once they are
about there. The aimbot looks at the nearest head in sight at once and fires; the trigger bot moves its hands as people
do, but fires only when the aim crosses a body, and at once; the wall tracker looks at the nearest enemy whether it can
see it or not, and otherwise plays as people do.
"""

import enum

import numpy as np

from sim.arrays import F64, I64, AnyArray, Bool
from sim.commands import Button, Commands, Join
from sim.components import Motion, Stance, Vitals
from sim.games.arena.components import Arms
from sim.world import World
from sim.worldmap import SHOT_MASK

__all__ = ["Aimers", "Style"]

EYE, MIDDLE, HEAD = 0.857 * 1.4, 0.6 * 1.4, 0.89 * 1.4
TURN = 65536 / (2.0 * np.pi)
LOOK_EVERY = 4  # ticks between looks at who is in sight
SCATTER_TICKS, PLACES = 150, 8


class Style(enum.IntEnum):
    """How somebody plays."""

    HONEST = 0
    AIMBOT = 1
    TRIGGER = 2
    TRACKER = 3


class Aimers:
    """`len(styles)` players of a world, in its rows from 0 on."""

    def __init__(self, world: World, styles: list[Style], *, seed: int) -> None:
        self.world, self.count = world, len(styles)
        self.style = np.array(styles)
        self.random = np.random.default_rng(seed)
        self.commands = Commands(world.players.capacity)
        draw = self.random.uniform
        self.slow: F64 = draw(0.16, 0.32, self.count)  # from seeing to turning [s]
        self.gain: F64 = draw(0.12, 0.3, self.count)  # of the way per tick
        self.shaky: F64 = draw(0.8, 2.5, self.count)  # error [°]
        self.error: F64 = np.zeros((self.count, 2))
        self.yaw: F64 = draw(-np.pi, np.pi, self.count)
        self.pitch: F64 = np.zeros(self.count)
        self.way: F64 = self.yaw.copy()
        self.target: I64 = np.full(self.count, -1, np.int64)
        self.since: I64 = np.zeros(self.count, np.int64)
        self.rest: I64 = np.zeros(self.count, np.int64)
        self.strafe: F64 = np.zeros(self.count)
        self.sees: Bool = np.zeros((self.count, self.count), np.bool_)
        for number in range(self.count):
            self.commands.add(Join(number, f"{Style(styles[number]).name.lower()} {number}", 1 + number % 2))
        world.step(self.commands)
        self.commands.clear()
        world.step(self.commands)

    def play(self, ticks: int) -> "Aimers":
        """Make so many ticks; yields nothing, but `watch` is called after each."""
        for _ in range(ticks):
            if self.world.tick % SCATTER_TICKS == 0:
                self._scatter()
            self._think()
            self.world.step(self.commands)
            self.watch()
        return self

    def _scatter(self) -> None:
        """Put everybody somewhere near the middle, so that nobody has to be looked for."""
        spawns = np.array([point.position for point in self.world.map.spawns])
        middle = np.argsort(np.linalg.norm(spawns[:, :2] - spawns[:, :2].mean(axis=0), axis=1))[:PLACES]
        at = spawns[self.random.choice(middle, self.count)]
        at[:, :2] += self.random.uniform(-1.0, 1.0, (self.count, 2))
        at[:, 2] += 0.1
        self.world.players[Motion].position[: self.count] = at
        self.world.players[Stance].flags[: self.count] = 0
        self.since[:] = self.world.tick

    def watch(self) -> None:
        """To be replaced: called after each tick."""

    def _angles(self, height: AnyArray | float) -> tuple[F64, F64, F64]:
        """Yaw, pitch and distance from everyone's eye to everyone's feet and so much above: rows look, columns are."""
        at = self.world.players[Motion].position[: self.count]
        way = at[None, :, :] - at[:, None, :]
        flat = np.hypot(way[..., 0], way[..., 1])
        up = way[..., 2] + height - EYE
        return np.arctan2(way[..., 1], way[..., 0]), np.arctan2(up, np.maximum(flat, 1e-6)), np.hypot(flat, up)

    def _look(self, yaw: F64, distance: F64, enemy: Bool) -> None:
        """Who is in sight of whom: within the view, with nothing between the eyes and the other's middle."""
        at = self.world.players[Motion].position[: self.count]
        off = np.abs((yaw - self.yaw[:, None] + np.pi) % (2 * np.pi) - np.pi)
        rows, others = np.nonzero(enemy & (distance < 40.0) & (off < 0.9))
        eye, middle = at[rows] + [0.0, 0.0, EYE], at[others] + [0.0, 0.0, MIDDLE]
        self.sees[:] = False
        if len(rows):
            self.sees[rows, others] = ~self.world.geometry.any_hit(eye, middle, mask=SHOT_MASK)

    def _think(self) -> None:
        world, count, tick = self.world, self.count, self.world.tick + 1
        vitals, arms = world.players[Vitals], world.players[Arms]
        arms.reserve[:count] = 100
        alive, team = vitals.alive[:count], vitals.team[:count]
        enemy = alive[:, None] & alive[None, :] & (team[:, None] != team[None, :])
        yaw, pitch, distance = self._angles(MIDDLE)
        if tick % LOOK_EVERY == 0:
            self._look(yaw, distance, enemy)
        sees = self.sees & enemy
        nearest = np.where(sees, distance, np.inf)
        chosen = np.where(sees.any(axis=1), nearest.argmin(axis=1), -1)
        self.since[chosen != self.target] = tick
        self.target = chosen
        rows = np.arange(count)
        shot, wish_yaw, wish_pitch = self._people(tick, chosen, (yaw, pitch, distance), rows)
        self._cheat(tick, enemy, (yaw, pitch, distance), (shot, wish_yaw, wish_pitch))
        self._hands(tick, alive, shot)

    def _people(self, tick: int, chosen: I64, angles: tuple[F64, F64, F64], rows: AnyArray) -> tuple[Bool, F64, F64]:
        """Turn as people do; whether they fire, and where they want to look."""
        yaw, pitch, distance = angles
        busy = chosen >= 0
        ready = busy & ((tick - self.since) / 60.0 > self.slow)
        self.error += self.random.normal(0.0, 0.35, self.error.shape) * np.radians(self.shaky)[:, None]
        self.error *= 0.94
        whom = np.maximum(chosen, 0)
        wish_yaw = np.where(ready, yaw[rows, whom] + self.error[:, 0], np.where(busy, self.yaw, self.way))
        wish_pitch = np.where(ready, pitch[rows, whom] + self.error[:, 1], np.where(busy, self.pitch, 0.0))
        off = (wish_yaw - self.yaw + np.pi) % (2 * np.pi) - np.pi
        gain = np.where(ready, self.gain, 0.08)
        self.yaw += np.clip(gain * off, -0.25, 0.25)
        self.pitch += np.clip(gain * (wish_pitch - self.pitch), -0.2, 0.2)
        miss = np.hypot(self.yaw - yaw[rows, whom], self.pitch - pitch[rows, whom])
        miss = np.abs((miss + np.pi) % (2 * np.pi) - np.pi)
        near = np.arctan2(1.0, distance[rows, whom])
        return ready & (miss < near), wish_yaw, wish_pitch

    def _cheat(self, tick: int, enemy: Bool, angles: tuple[F64, F64, F64], hands: tuple[Bool, F64, F64]) -> None:
        """What cheaters do instead."""
        yaw, pitch, distance = angles
        shot = hands[0]
        head_yaw, head_pitch, _ = self._angles(HEAD)
        for row in np.flatnonzero(self.style != Style.HONEST).tolist():
            style, whom = self.style[row], int(self.target[row])
            if style == Style.AIMBOT and whom >= 0:
                self.yaw[row], self.pitch[row] = head_yaw[row, whom], head_pitch[row, whom]
                shot[row] = True
            elif style == Style.TRIGGER:
                shot[row] = False
                for other in np.flatnonzero(enemy[row] & self.sees[row]).tolist():
                    off = abs((self.yaw[row] - yaw[row, other] + np.pi) % (2 * np.pi) - np.pi)
                    aside = np.tan(np.hypot(min(off, 1.0), self.pitch[row] - pitch[row, other])) * distance[row, other]
                    if aside < 0.3 and tick >= self.rest[row]:
                        shot[row] = True
                        self.rest[row] = tick + 24
            elif style == Style.TRACKER and whom < 0 and enemy[row].any():
                other = int(np.where(enemy[row], distance[row], np.inf).argmin())
                off = (yaw[row, other] - self.yaw[row] + np.pi) % (2 * np.pi) - np.pi
                self.yaw[row] += np.clip(off, -0.3, 0.3)
                self.pitch[row] = pitch[row, other]

    def _hands(self, tick: int, alive: Bool, shot: Bool) -> None:
        """Move about, and write the commands."""
        motion = self.world.players[Motion]
        stuck = np.hypot(motion.velocity[: self.count, 0], motion.velocity[: self.count, 1]) < 1.0
        change = (self.random.random(self.count) < 1 / 90) | (stuck & (self.random.random(self.count) < 0.1))
        self.way[change] += self.random.uniform(-2.2, 2.2, self.count)[change]
        turn = self.random.random(self.count) < 1 / 40
        self.strafe[turn] = self.random.choice([-127.0, 0.0, 127.0], self.count)[turn]
        commands = self.commands
        commands.clear()
        rows = slice(0, self.count)
        # Feet go where they want, whatever the eyes do.
        off = self.way - self.yaw
        forward, right = np.cos(off) * 127, -np.sin(off) * 127 + self.strafe * 0.5
        commands.has_input[rows] = True
        commands.move_forward[rows] = np.clip(forward, -127, 127)
        commands.move_right[rows] = np.clip(right, -127, 127)
        commands.yaw[rows] = np.round(self.yaw * TURN).astype(np.int64) & 0xFFFF
        commands.pitch[rows] = np.clip(self.pitch * TURN, -16000, 16000)
        commands.weapon[rows] = 1
        commands.buttons[rows] = np.where(shot | ~alive, int(Button.FIRE), 0)
        commands.rewind[rows] = 0
        # Whoever is dead has to let go of the trigger and press it again.
        commands.buttons[rows][~alive] = int(Button.FIRE) * (tick % 2)
