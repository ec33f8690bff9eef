"""Worlds of the arena for tests."""

from collections.abc import Callable
from pathlib import Path

from server.game import load_game
from server.maps import load_geometry, load_map
from sim.games.arena import declare
from sim.games.arena.rules import ArenaRules
from sim.plugin import Registration
from sim.world import World
from tools.script import play_script


def arena_world(
    *, tick_hz: int = 60, seed: int = 1, rules: ArenaRules | None = None, source: str | Path = "arena"
) -> World:
    world_map = load_map(source)
    if rules is None:
        game = load_game("arena")
    else:
        registration = Registration("arena")
        declare(registration, rules)
        game = registration.freeze()
    return World(game, world_map, load_geometry(world_map), tick_hz=tick_hz, seed=seed)


def play(world: World, *, players: int, ticks: int, after: Callable[[], None] | None = None) -> None:
    for _ in play_script(world, players=players, ticks=ticks, step=world.step):
        if after is not None:
            after()
