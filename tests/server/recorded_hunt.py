"""Small recorded matches without sockets: everyone hunts the nearest, through the real recorder."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.app import build_world
from server.config import ServerConfig
from server.event_notes import EventNotes
from server.game import load_game
from server.maps import load_geometry, load_map
from server.recorder import open_recorder
from server.recorder_notes import NETWORK_COLUMNS
from sim.commands import Button, Commands, Join
from sim.components import Motion
from sim.world import World

__all__ = ["NOW_NS", "STAGES", "Recorded", "name_of", "record_match"]

NOW_NS = 1_700_000_000_000_000_000
GAME = "sim.games.arena:free_for_all"
STAGES = ("receive", "motion", "fire", "send")


class SteadyNetwork:
    """The connections of a match that has none: the slot of a player is its round trip."""

    def __init__(self, world: World) -> None:
        self._world = world

    def take(self) -> None:
        """Nothing happens between notes."""

    def note(self) -> dict[str, Any] | None:
        """Everybody who is there."""
        slots = self._world.players.live_slots
        if not len(slots):
            return None
        columns = {
            "entity": self._world.players.ids[slots], "rtt_ms": slots + 30, "loss": slots * 100,
            "kbps_out": 200 + slots, "rewind": np.full(len(slots), 5 * 256 + 128),
        }  # fmt: skip
        return {
            name: np.asarray(columns.get(name, np.zeros(len(slots)))).astype(dtype).tobytes()
            for name, dtype in NETWORK_COLUMNS.items()
        }


class SteadyStages:
    """Stage times that grow from stage to stage."""

    def take(self) -> None:
        """Nothing happens between notes."""

    def note(self) -> dict[str, Any] | None:
        """20 µs for the first stage, 40 µs for the second, …"""
        times = (np.arange(len(STAGES), dtype="<u4") + 1) * 20_000
        return {"mean_ns": times.tobytes(), "max_ns": (times * 2).astype("<u4").tobytes(), "ticks": 60}


@dataclass
class Recorded:
    """A recording, and what happened in the match while it was made."""

    path: Path
    positions: dict[int, dict[int, tuple[float, ...]]]  # by tick and entity
    shots: list[tuple[int, int]]  # tick and actor, in order
    kills: list[tuple[int, int, int]]


def record_match(directory: Path, *, players: int = 8, ticks: int = 600, map_source: str = "arena") -> Recorded:
    """Play and record; key frames every two seconds, somebody refused at tick 100, somebody gone at tick 150."""
    config = ServerConfig.model_validate(
        {"record_dir": str(directory), "record_keyframe_s": 2.0, "map": map_source, "game": GAME}
    )
    world_map = load_map(map_source)
    world = build_world(config, load_game(GAME), world_map, load_geometry(world_map))
    made = Recorded(directory, {}, [], [])
    with contextlib.closing(open_recorder(config, world, unix_ns=lambda: NOW_NS)) as recorder:
        recorder.stages = STAGES
        recorder.sources |= {"network": SteadyNetwork(world), "stages": SteadyStages(), "events": EventNotes(world)}
        for commands in _hunt(world, players, ticks):
            world.step(commands)
            if world.tick in {100, 150}:
                entity = int(world.players.ids[1])
                _tell(recorder, world.tick, entity)
            recorder.record(commands)
            _remember(made, world)
        recorder.drain()
        assert recorder.path is not None
        made.path = recorder.path
    return made


def name_of(slot: int) -> str:
    """What the player in a slot is called; one of them tries what names can do on a page."""
    return "Ann <b>" if slot == 1 else f"Player {slot}"


def _hunt(world: World, players: int, ticks: int) -> Iterator[Commands]:
    """Everybody runs at the nearest and shoots, seeing the others some ticks late."""
    commands = Commands(world.players.capacity)
    for tick in range(ticks):
        commands.clear()
        for number in range(players if tick == 0 else 0):
            commands.add(Join(number, name_of(number)))
        slots = world.players.live_slots
        feet = world.players[Motion].position[slots]
        for at, slot in enumerate(slots.tolist()):
            away = np.delete(feet - feet[at], at, axis=0)
            if not len(away):
                continue
            reach = np.linalg.norm(away, axis=1)
            x, y, z = away[np.argmin(reach)]
            commands.set_input(
                slot, buttons=int(Button.FIRE), move_forward=127, move_right=60 if tick // 30 % 2 else -60,
                yaw=round(math.atan2(y, x) / math.tau * 65536),
                pitch=round(math.atan2(z, math.hypot(x, y)) / math.tau * 65536), weapon=1, rewind=slot % 12 * 256 + 77,
            )  # fmt: skip
        yield commands


def _tell(recorder: Any, tick: int, entity: int) -> None:
    if tick == 100:
        recorder.note("connect", client=1, entity=entity, name=name_of(1), resumed=0)
        recorder.note("refusal", client=1, entity=entity, reason="turn", count=2, claimed=400.0, allowed=90.5)
    else:
        recorder.note("disconnect", client=1, entity=entity, name=name_of(1), reason="timeout")


def _remember(made: Recorded, world: World) -> None:
    table, events = world.players, world.events
    position = table[Motion].position
    made.positions[world.tick] = {
        int(table.ids[slot]): tuple(position[slot].tolist()) for slot in table.live_slots.tolist()
    }
    shot, kill = world.game.event("shot"), world.game.event("kill")
    for at in range(events.count):
        if events.kind[at] == shot:
            made.shots.append((world.tick, int(events.actor[at])))
        elif events.kind[at] == kill:
            made.kills.append((world.tick, int(events.actor[at]), int(events.target[at])))
