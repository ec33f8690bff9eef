"""A scripted match: players that do everything, from numbers drawn by counter, so that it is the same everywhere.

Golden tests, the determinism command and benchmarks of the bare simulation use it; bots over UDP are `tools.bots`.
"""

from collections.abc import Callable, Iterator

import numpy as np

from sim.arrays import F64
from sim.commands import Button, Commands, Join
from sim.rng import stream_number, uniform
from sim.world import World

__all__ = ["Script", "play_script", "script_inputs"]

CHANGE_S = 0.4  # players change their minds this often, whatever the tick rate
DRAWS = 8
COLUMNS = ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon", "rewind")
HOLD = (Button.FIRE, Button.FIRE, Button.FIRE, Button.JUMP, Button.CROUCH, Button.WALK, Button.RELOAD, Button(0))


def script_inputs(world: World, commands: Commands, draws: F64) -> None:
    """Let every live player do something for the next tick, by its slot and the time."""
    moment = _moment(world)
    for slot in world.players.live_slots:
        _decide(world, moment, int(slot), commands, draws)


def _moment(world: World) -> int:
    """How often players have changed their minds before the next tick."""
    return int((world.tick + 1) * world.dt / CHANGE_S)


def _decide(world: World, moment: int, slot: int, commands: Commands, draws: F64) -> None:
    uniform(world.seed, stream_number("bots"), moment, slot, draws)
    wild = draws[1] < 0.2
    commands.set_input(
        slot,
        buttons=int(HOLD[int(draws[0] * len(HOLD))] | (Button.FIRE if draws[1] < 0.5 else Button(0))),
        move_forward=127 if draws[2] < 0.7 else int(draws[2] * 255) - 127,
        move_right=int(draws[3] * 255) - 127,
        yaw=int((draws[4] if wild else draws[4] * 0.1 + slot / 7.0) * 65536),
        pitch=int(draws[5] * 3000) - 1500,
        weapon=int(draws[6] * 6),
    )


class Script:
    """The inputs of `script_inputs`, worked out only when players change their minds.

    For 64 players at 60 Hz that takes 0.08 ms a tick in place of 0.47 ms.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._moves = Commands(world.players.capacity)
        self._draws = np.zeros(DRAWS)
        self._moment = -1

    def fill(self, commands: Commands) -> None:
        """Let every live player do something for the next tick."""
        world, moves = self._world, self._moves
        moment = _moment(world)
        if moment != self._moment:
            self._moment = moment
            moves.clear()
        live = world.players.live_slots
        for slot in live[~moves.has_input[live]]:
            _decide(world, moment, int(slot), moves, self._draws)
        for name in COLUMNS:
            getattr(commands, name)[live] = getattr(moves, name)[live]
        commands.has_input[live] = True


def play_script(world: World, *, players: int, ticks: int, step: Callable[[Commands], None]) -> Iterator[Commands]:
    """Let `players` join and play for `ticks` ticks; yields the commands after each tick.

    Args:
        world: A fresh world.
        players: How many join, some each tick.
        ticks: How long.
        step: Makes a tick: `world.step`, or `world.audit`.
    """
    commands = Commands(world.players.capacity)
    script = Script(world)
    for tick in range(ticks):
        commands.clear()
        for number in range(tick * 4, min(tick * 4 + 4, players)):
            commands.add(Join(number, f"player {number}"))
        script.fill(commands)
        step(commands)
        yield commands
