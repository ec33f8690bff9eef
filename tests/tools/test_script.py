"""The scripted match, and that a tick of the bare world keeps no memory."""

import gc
import sys

import numpy as np

from server.app import build_world
from server.config import ServerConfig
from server.game import load_game
from server.maps import load_geometry, load_map
from sim.commands import Commands
from sim.snapshot import state_hash
from sim.world import World
from tools.script import COLUMNS, DRAWS, play_script, script_inputs


def arena() -> World:
    world_map = load_map("arena")
    return build_world(ServerConfig(), load_game("arena"), world_map, load_geometry(world_map))


def test_the_script_is_the_same_twice_and_lets_everyone_join() -> None:
    hashes = []
    for _ in range(2):
        world = arena()
        for _ in play_script(world, players=12, ticks=60, step=world.step):
            pass
        assert world.players.live_count == 12
        hashes.append(state_hash(world))
    assert hashes[0] == hashes[1]


def test_what_players_hold_is_what_they_would_decide_anew_each_tick() -> None:
    world, anew, draws = arena(), Commands(arena().players.capacity), np.zeros(DRAWS)

    def step(commands: Commands) -> None:
        anew.clear()
        script_inputs(world, anew, draws)
        assert commands.has_input.tolist() == anew.has_input.tolist()
        for name in COLUMNS:
            held, decided = getattr(commands, name), getattr(anew, name)
            assert np.array_equal(held[anew.has_input], decided[anew.has_input]), name
        world.step(commands)

    for _ in play_script(world, players=12, ticks=120, step=step):
        pass
    assert world.players.live_count == 12


def test_every_system_writes_only_what_it_declares() -> None:
    world = arena()
    for _ in play_script(world, players=8, ticks=90, step=world.audit):
        pass
    assert world.tick == 90


def test_a_tick_of_a_warm_world_keeps_no_memory() -> None:
    """Python's blocks must not grow with ticks, without the collector's help: one object per tick would be 300."""
    world = arena()
    gc.collect()
    gc.disable()
    try:
        ticks = play_script(world, players=16, ticks=701, step=world.step)
        counts = [sys.getallocatedblocks() for _ in ticks if world.tick in {401, 701}]
    finally:
        gc.enable()
    assert counts[1] - counts[0] < 64
