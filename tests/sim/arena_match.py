"""A small arena for tests: a floor, what stands and lies on it, and players who hold what they are told to hold."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.arrays import F64
from sim.commands import Action, Button, Commands, Join, Leave
from sim.components import Look, Motion, Pickup, Projectile, Vitals
from sim.games.arena import declare
from sim.games.arena.components import Arms, Match, Powers, Score
from sim.games.arena.rules import ARMOURY, ArenaRules
from sim.geometry import Geometry
from sim.plugin import Registration
from sim.trig import ANGLE_PER_RADIAN
from sim.world import World
from sim.worldmap import ItemPoint, SpawnPoint, Trigger
from tests.sim.boxes import floor, world_of

__all__ = ["FAR", "HZ", "TORSO_Z", "Arena", "Happening", "team_spawns"]

HZ = (20, 60, 128)
TORSO_Z = 0.8
EYE_Z = 0.857 * 1.4
FAR = (SpawnPoint((-25.0, 0.0, 0.0), 0), SpawnPoint((25.0, 0.0, 0.0), 32768), SpawnPoint((0.0, 25.0, 0.0), 49152))


@dataclass(frozen=True, slots=True)
class Happening:
    tick: int
    kind: str
    actor: int
    target: int
    value: int


def team_spawns(*teams: int) -> tuple[SpawnPoint, ...]:
    return tuple(SpawnPoint((8.0 * number - 20.0, 0.0, 0.0), 0, team) for number, team in enumerate(teams))


class Arena:
    def __init__(
        self, *, hz: int = 60, rules: ArenaRules | None = None, spawns: tuple[SpawnPoint, ...] = FAR, seed: int = 1,
        items: tuple[ItemPoint, ...] = (), triggers: tuple[Trigger, ...] = (), parts: Sequence[F64] = (),
        size: float = 60.0,
    ) -> None:  # fmt: skip
        registration = Registration("arena")
        declare(registration, rules or ArenaRules(spawn_health=100.0))
        world_map = replace(world_of(floor(size), *parts, triggers=triggers), spawns=spawns, items=items)
        self.world = World(registration.freeze(), world_map, Geometry.build(world_map), tick_hz=hz, seed=seed)
        self.commands = Commands(self.world.players.capacity)
        self.held: dict[int, dict[str, int]] = {}
        self.places: dict[int, tuple[float, float, float]] = {}
        self.log: list[Happening] = []
        players = self.world.players
        self.motion, self.look, self.vitals = players[Motion], players[Look], players[Vitals]
        self.arms, self.powers, self.score = players[Arms], players[Powers], players[Score]
        self.match = self.world.table("match")[Match]
        self.pickup, self.flying = self.world.table("pickup")[Pickup], self.world.table("projectile")[Projectile]

    @property
    def seconds(self) -> float:
        return self.world.tick / self.world.tick_hz

    def tick(self, count: int = 1) -> list[Happening]:
        """Make ticks; what happened in them."""
        begin = len(self.log)
        for _ in range(count):
            for slot, wish in self.held.items():
                self.commands.set_input(slot, **wish)
            for slot, place in self.places.items():
                self.motion.position[slot], self.motion.velocity[slot] = place, 0.0
            self.world.step(self.commands)
            self.commands.clear()
            events = self.world.events
            for n in range(events.count):
                kind = self.world.game.events[events.kind[n]]
                entry = (int(events.actor[n]), int(events.target[n]), int(events.value[n]))
                self.log.append(Happening(self.world.tick, kind, *entry))
        return self.log[begin:]

    def run(self, seconds: float) -> list[Happening]:
        return self.tick(round(seconds * self.world.tick_hz))

    def until(self, kind: str, *, within: float) -> float:
        """Time from now to the next such event."""
        start = self.world.tick
        while not any(event.kind == kind for event in self.tick()):
            assert self.world.tick - start < within * self.world.tick_hz, f"no {kind} within {within} s"
        return (self.world.tick - start) / self.world.tick_hz

    def join(self, *, team: int = 0, name: str = "someone") -> int:
        """Slot of a new player, who has come to life."""
        self.commands.add(Join(7, name, team))
        happened = self.tick()
        joined = [event.actor for event in happened if event.kind == "joined"]
        return self.world.players.slot_of(joined[0])

    def leave(self, slot: int) -> None:
        self.commands.add(Leave(self.id_of(slot)))

    def choose_team(self, slot: int, team: int) -> None:
        self.commands.add(Action(self.id_of(slot), self.world.game.action("choose_team"), (team,)))

    def id_of(self, slot: int) -> int:
        return self.world.players.id_of(slot)

    def place(self, slot: int, *at: float, fixed: bool = False) -> None:
        """Put a player somewhere at rest; `fixed` keeps it there."""
        self.motion.position[slot], self.motion.velocity[slot] = at, 0.0
        if fixed:
            self.places[slot] = (at[0], at[1], at[2])

    def arm(self, slot: int, weapon: str, *, loaded: int = 0, reserve: int = 0) -> None:
        number = ARMOURY.number(weapon)
        self.arms.owned[slot] |= np.uint16(1 << number)
        self.arms.weapon[slot] = number
        self.arms.loaded[slot, number], self.arms.reserve[slot, number] = loaded, reserve
        self.arms.cooldown_s[slot] = 0.0

    def aim(self, slot: int, at: tuple[float, float, float], *, buttons: int = int(Button.FIRE)) -> None:
        """Let a player hold buttons and look from where it stands at a point."""
        x, y, z = (a - p for a, p in zip(at, self.motion.position[slot], strict=True))
        yaw, pitch = math.atan2(y, x), math.atan2(z - EYE_Z, math.hypot(x, y))
        self.held[slot] = {
            "buttons": buttons, "yaw": round(yaw * ANGLE_PER_RADIAN), "pitch": round(pitch * ANGLE_PER_RADIAN),
        }  # fmt: skip

    def duel(
        self, weapon: str, *, distance: float = 2.5, teams: tuple[int, int] = (1, 2), z: float = TORSO_Z
    ) -> tuple[int, int]:
        """A shooter with a weapon, holding FIRE, and a victim fixed before it."""
        shooter, victim = self.join(team=teams[0]), self.join(team=teams[1])
        self.place(shooter, 0.0, 0.0, 0.0, fixed=True)
        self.place(victim, distance, 0.0, 0.0, fixed=True)
        figures = ARMOURY.specs[ARMOURY.number(weapon) - 1]
        self.arm(shooter, weapon, loaded=figures.magazine, reserve=min(figures.rounds_max, 50))
        self.aim(shooter, (distance, 0.0, z))
        return shooter, victim
