"""A small game for the tests of the core: players that drift, and sparks that they spawn."""

from collections.abc import Callable

import numpy as np

from sim.commands import Commands
from sim.geometry import Geometry
from sim.pipeline import Access, Step, System, chain
from sim.plugin import Registration
from sim.schema import ActionSpec, Component, Field, FieldType, column
from sim.world import World
from sim.worldmap import SpawnPoint, WorldMap


class Drift(Component, name="drift"):
    """A position and a velocity."""

    position = column(np.float64, shape=(3,), unit="m")
    velocity = column(np.float64, shape=(3,), unit="m/s", default=1.0)


class Purse(Component, name="purse"):
    """Something to count."""

    coins = column(np.int64, default=5)


def bind_enter(access: Access) -> Callable[[Step], None]:
    players = access.spawner("player")
    joined = access.event("joined")

    def run(step: Step) -> None:
        for leave in step.commands.leaves:
            slot = players.find(leave.entity)
            if slot >= 0:
                players.free(slot)
        for join in step.commands.joins:
            slot = players.allocate()
            step.events.emit(joined, actor=players.id_of(slot), value=join.ticket)

    return run


def bind_drift(access: Access) -> Callable[[Step], None]:
    players = access.slots("player")
    drift = access.write("player", Drift)

    def run(step: Step) -> None:
        slots = players.live_slots
        forward = step.commands.move_forward[slots] * step.commands.has_input[slots]
        drift.velocity[slots, 0] = forward
        drift.position[slots] += drift.velocity[slots] * step.dt

    return run


def bind_spend(access: Access) -> Callable[[Step], None]:
    players = access.slots("player")
    purse = access.write("player", Purse)
    sparks = access.spawner("spark")

    def run(step: Step) -> None:
        for action in step.commands.actions:
            slot = players.find(action.entity)
            if slot >= 0 and purse.coins[slot] > 0:
                purse.coins[slot] -= 1
                sparks.allocate()

    return run


ENTER = System("enter", bind_enter, writes=("player",), emits=("joined",))
DRIFT = System("drift", bind_drift, writes=(Drift,))
SPEND = System("spend", bind_spend, writes=(Purse, "spark"))


def declare(registration: Registration) -> None:
    registration.kind("player", Drift, Purse, capacity=8, controlled=True)
    registration.kind("spark", Drift, capacity=3)
    registration.action(ActionSpec("spend", (Field("amount", FieldType.INTEGER, 1, 9),)))
    registration.system(*chain(ENTER, DRIFT, SPEND))


def floor_map() -> WorldMap:
    corners = np.array([[-50.0, -50, 0], [50, -50, 0], [50, 50, 0], [-50, 50, 0]])
    triangles = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    return WorldMap("floor", corners, triangles, np.ones(2, np.uint16), (SpawnPoint((0.0, 0.0, 0.0), 0),))


def toy_world(*, seed: int = 1, tick_hz: int = 60, declare_game: Callable[[Registration], None] = declare) -> World:
    registration = Registration("toy")
    declare_game(registration)
    world_map = floor_map()
    return World(registration.freeze(), world_map, Geometry.build(world_map), tick_hz=tick_hz, seed=seed)


def commands_for(world: World) -> Commands:
    return Commands(world.players.capacity)
