"""A wall that stopped a shot is named, and drawn where it stood: doors and lifts as they were, not as they rest."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from server.replay import events_of
from server.replay_shots import shot_message
from server.shots import Shot, shots_of_tick
from server.shots_plate import _Frame, shot_plate
from sim.arrays import F64
from sim.commands import REWIND_STEPS, Button, Commands, Join
from sim.components import Motion
from sim.games.arena.components import Arms
from sim.games.arena.rules import ARMOURY
from sim.movers import Turn
from tests.server.bsp_writer import lift_hall
from tests.sim.arena import arena_world

EYE_M = 0.857 * 1.4
DOOR_M = 6.4  # where the face of the door is, beyond the origin
RAILGUN = ARMOURY.number("railgun")


class Hall:
    """Ann stands in a hall with a lift and a door of two wings, and fires a railgun wherever she is told to."""

    def __init__(self, directory: Path) -> None:
        path = directory / "hall.bsp"
        path.write_bytes(lift_hall().data())
        self.world = arena_world(source=path)
        self.commands = Commands(self.world.players.capacity)
        self.commands.add(Join(1, "Ann", 1))
        self.step()
        self.commands.clear()
        players = self.world.players
        self.motion = players[Motion]
        self.turn = self.world.tables["mover"][Turn]
        players[Arms].owned[0] |= 1 << RAILGUN
        for _ in range(60):
            self.aim((-4.0, -6.0, 0.0), (-4.0, -6.0, 3.0))
            self.step()

    def step(self) -> None:
        self.world.step(self.commands)

    def aim(self, feet: tuple[float, float, float], at: tuple[float, float, float], *, rewind: int = -1) -> None:
        """Stand at a place and look at another; fire where a rewind is given."""
        self.motion.position[0], self.motion.velocity[0] = feet, 0.0
        way = np.subtract(at, feet) - (0.0, 0.0, EYE_M)
        self.commands.set_input(
            0, yaw=round(math.atan2(way[1], way[0]) * 32768 / math.pi), weapon=RAILGUN, rewind=max(rewind, 0),
            pitch=round(math.atan2(way[2], math.hypot(way[0], way[1])) * 32768 / math.pi),
            buttons=int(Button.FIRE) if rewind >= 0 else 0,
        )  # fmt: skip

    def fire(self, feet: tuple[float, float, float], at: tuple[float, float, float], *, rewind: int = 0) -> Shot:
        arms = self.world.players[Arms]
        arms.cooldown_s[0], arms.reserve[0, RAILGUN], arms.loaded[0, RAILGUN] = 0.0, 10, 5
        self.aim(feet, at, rewind=rewind)
        self.step()
        (shot,) = shots_of_tick(self.world, events_of(self.world), {self.world.players.id_of(0): "Ann"})
        return shot

    def open_door(self, ticks: int) -> None:
        """The door begins to open, and so many ticks pass."""
        self.turn.opens[1:3], self.turn.since[1:3] = 1, self.world.tick
        self.turn.until[1:3] = self.world.tick + 10_000
        for _ in range(ticks):
            self.aim((0.0, -6.0, 0.0), (0.0, -6.0, 3.0))
            self.step()


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


def test_a_door_that_stopped_a_shot_is_named_with_where_it_stood_then_and_stands_now(hall: Hall) -> None:
    hall.open_door(6)
    shot = hall.fire((2.0, -0.9, 0.0), (DOOR_M, -0.9, 1.2), rewind=4 * REWIND_STEPS + 128)
    mover = shot.ray.mover
    assert mover is not None
    assert (mover.number, mover.kind, mover.name) == (2, "func_door", "mover 2 (func_door)")
    assert shot.ray.is_wall
    # 200 units a second: the wing goes 1.4 m in 17 ticks (`MoverSet`), and is where it was at that moment.
    history = [hall.world.tick - back for back in (4, 5)]
    per_tick = 1.4 / round(1.4 / (200 * 0.025) * 60)
    went = [min(per_tick * max(tick - int(hall.turn.since[1]), 0), 1.4) for tick in history]
    assert -mover.offset[1] == pytest.approx(sum(went) / 2, abs=1e-6)
    assert -mover.offset_now[1] > -mover.offset[1] > 0.05
    assert mover.moved
    text = "\n".join(shot.lines())
    assert f"mover 2 (func_door) after {shot.ray.wall_m:.2f} m" in text
    then, now = -mover.offset[1], -mover.offset_now[1]
    assert (
        f"wall     mover 2 (func_door) stood {then:.2f} m (+0.00 -{then:.2f} +0.00) from rest, now {now:.2f} m" in text
    )
    assert "the ray ended at mover 2 (func_door)" in shot.verdict()
    assert shot.to_dict()["pellets"][0]["mover"]["number"] == 2


def test_the_same_ray_later_goes_through_where_the_door_was(hall: Hall) -> None:
    hall.open_door(40)
    shot = hall.fire((2.0, -0.4, 0.0), (DOOR_M, -0.4, 1.2))
    assert shot.ray.mover is None
    assert shot.ray.is_wall  # that of the hall
    assert shot.ray.wall_m > 10.0
    assert "  wall " not in "\n".join(shot.lines())


def test_a_lift_at_rest_is_a_mover_too_and_a_plain_wall_is_none(hall: Hall) -> None:
    shot = hall.fire((-4.0, 0.0, 0.0), (-1.0, 0.0, 0.1))
    assert shot.ray.mover is not None
    assert shot.ray.mover.kind == "func_plat"
    assert "mover 1 (func_plat) stood at rest" in "\n".join(shot.lines())
    shot = hall.fire((-4.0, -5.0, 0.0), (-4.0, -9.0, 1.0))
    assert shot.ray.is_wall
    assert (shot.ray.mover, shot.ray.wall) == (None, "a wall")
    assert len(shot.movers) == 3


def spans(frame: _Frame, lines: F64) -> list[tuple[float, float]]:
    """Extents to the right of the lines that are cut at the height of the ray within 0.3 m of the door's plane."""
    near = lines[(np.abs(lines[:, :, 0].mean(axis=1) - (DOOR_M - 2.0)) < 0.4)]
    return sorted((float(min(a, b)), float(max(a, b))) for a, b in near[:, :, 1].tolist())


def test_pictures_show_movers_where_they_stood_and_as_ghosts_where_they_stand(hall: Hall) -> None:
    hall.open_door(6)
    shot = hall.fire((2.0, -0.9, 0.0), (DOOR_M, -0.9, 0.857 * 1.4), rewind=5 * REWIND_STEPS)
    frame = _Frame(shot)
    places = {place.number: place for place in shot.movers}
    wing = places[2]
    cut, cut_now = frame.cut(hall.world.map, 2, shot.movers), frame.cut_now(hall.world.map, 2, shot.movers)
    # Along x, the axis to the right is −y: the wing's near edge, at y = 0 in rest, is so far to the right.
    own_y = shot.ray.origin[1]
    edges = {round(edge, 4) for span in spans(frame, cut) for edge in span}
    assert round(own_y - wing.offset[1], 4) in edges
    assert round(own_y - wing.offset_now[1], 4) not in edges
    edges = {round(edge, 4) for span in spans(frame, cut_now) for edge in span}
    assert round(own_y - wing.offset_now[1], 4) in edges
    assert len(cut_now) < len(cut)
    picture = shot_plate(shot, hall.world.map)
    still = replace(shot, movers=tuple(replace(place, offset_now=place.offset) for place in shot.movers))
    assert shot_plate(still, hall.world.map) != picture
    assert len(frame.cut_now(hall.world.map, 2, still.movers)) == 0


def test_the_page_is_told_of_the_mover_that_stopped_a_shot_and_of_those_that_moved_since(hall: Hall) -> None:
    hall.open_door(6)
    shot = hall.fire((2.0, -0.9, 0.0), (DOOR_M, -0.9, 1.2), rewind=5 * REWIND_STEPS)
    message = shot_message(shot)
    assert message["text"] == "\n".join(shot.lines())
    movers = {entry["name"]: entry for entry in message["drawing"]["movers"]}
    assert set(movers) == {"mover 2 (func_door)", "mover 3 (func_door)"}
    assert [entry["stops"] for entry in message["drawing"]["movers"]] == [True, False]
    wing = shot.movers[1]
    assert movers[wing.name]["low"][1] == pytest.approx(-1.6 + wing.offset[1], abs=1e-6)
    assert movers[wing.name]["high"][1] == pytest.approx(wing.offset[1], abs=1e-6)
