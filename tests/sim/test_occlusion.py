"""What stops shots: movers where the shooter saw them, in the past as now."""

from dataclasses import replace

import numpy as np
import pytest

from server.game import load_game
from sim.arrays import F64
from sim.commands import REWIND_STEPS, Button, Commands, Join
from sim.components import Look, Motion, Vitals
from sim.games.arena.components import Arms
from sim.games.arena.rules import ARMOURY
from sim.geometry import Geometry
from sim.movers import MoverSet, Turn
from sim.movers_kernels import hit_movers
from sim.occlusion import MoverHistory
from sim.snapshot import capture, restore, state_hash
from sim.world import World
from sim.worldmap import SHOT_MASK, MoverKind, MoverMotion, WorldMap
from tests.sim.boxes import box, floor, world_of
from tests.sim.test_movers import DOOR, DOOR_BOX, LIFT, LIFT_BOX, world_with

TRAIN = MoverMotion(MoverKind.PATH, path=((3.0, 1.0, 0.5, 0.5, 0.2), (0.0, 0.0, 0.0, 0.5, 0.0)))
BOB = MoverMotion(MoverKind.BOB, (0.0, 0.0, 0.7), seconds=0.9)
UNREACHED = ((900.0, 0.0, 0.0, 901.0, 1.0, 1.0),)


def moved_world(world: WorldMap, offsets: F64) -> Geometry:
    """The movers' triangles at these offsets, as triangles that rest."""
    corners = world.vertices[world.triangles].copy()
    keep = ~world.resting
    for mover, offset in zip(world.moving, offsets, strict=True):
        corners[mover.triangle_first : mover.triangle_first + mover.triangle_count] += offset
    return Geometry.build(world_of(corners[keep]))


def test_rays_into_the_past_meet_movers_exactly_where_they_were_at_every_tick_of_a_second() -> None:
    parts = (
        (LIFT_BOX, LIFT),
        (DOOR_BOX, DOOR),
        (box((5, 3, 0.2), (7, 5, 0.6)), BOB),
        (box((5, -6, 0), (7, -5, 2)), TRAIN),
    )
    world = world_with(*parts)
    movers = MoverSet(world, Geometry.build(world), tick_hz=60)
    history = MoverHistory(movers, tick_hz=60, kept_ticks=14)
    turns = (np.array([1, 1, 0, 0], np.uint8), np.array([31, 55, 0, 0], np.int32), np.zeros(4, np.int32))
    offsets = np.zeros((4, 3))
    for tick in range(1, 91):
        movers.offsets(turns, tick, offsets)
        history.record(tick, offsets)
    rng = np.random.default_rng(3)
    first = world.moving[0].triangle_first
    met = 0
    for rewind in [back * REWIND_STEPS for back in range(61)] + [int(step) for step in rng.integers(0, 15000, 40)]:
        back, part = rewind // REWIND_STEPS, rewind % REWIND_STEPS / REWIND_STEPS
        later, earlier = history.at(90 - back), history.at(89 - back)
        still = moved_world(world, later + part * (earlier - later))
        origins = rng.uniform((-6, -6, -1), (10, 6, 4), (30, 3))
        ways = rng.uniform((-4, -2, -1), (8, 6, 4), (30, 3)) - origins
        expected_t, expected = still.closest_hit(origins, ways, mask=SHOT_MASK, t_max=2.0)
        for origin, way, t, triangle in zip(origins, ways, expected_t, expected, strict=True):
            (x, y, z), (dx, dy, dz) = origin.tolist(), way.tolist()
            found = hit_movers(history.occluders, 90, rewind, x, y, z, dx, dy, dz, 2.0, SHOT_MASK)
            assert found[0] == pytest.approx(t, abs=1e-9)
            assert found[1] == (triangle + first if triangle >= 0 else -1)
            met += int(triangle >= 0)
    assert met > 300


class Duel:
    """Two players on both sides of a door, one of whom shoots; the door is moved by hand."""

    def __init__(self, motion: MoverMotion = DOOR) -> None:
        world_map = world_with((DOOR_BOX, replace(motion, touch=UNREACHED)), parts=[floor()])
        self.world = World(load_game("sim.games.arena:free_for_all"), world_map, Geometry.build(world_map), seed=5)
        self.commands = Commands(self.world.players.capacity)
        self.commands.add(Join(1, "left"))
        self.commands.add(Join(2, "right"))
        self.step()
        self.step(fire=True)
        players = self.world.players
        assert players[Vitals].alive[:2].all()
        self.turn = self.world.table("mover")[Turn]
        arms = players[Arms]
        arms.weapon[0] = arms.weapon[1] = ARMOURY.number("railgun")
        arms.owned[:2] |= 1 << ARMOURY.number("railgun")
        arms.reserve[:2, ARMOURY.number("railgun")] = 20
        self.stand()
        self.step(15)

    def stand(self) -> None:
        motion, look = self.world.players[Motion], self.world.players[Look]
        motion.position[0], motion.position[1] = (-6.0, 0.0, 0.0), (0.0, 0.0, 0.0)
        look.yaw[0], look.pitch[0] = 0, 0

    def step(self, ticks: int = 1, *, fire: bool = False, rewind: int = 0) -> None:
        for _ in range(ticks):
            for slot in (0, 1):
                self.commands.set_input(
                    slot, buttons=Button.FIRE if fire else 0, rewind=rewind, weapon=ARMOURY.number("railgun"),
                    yaw=0 if slot == 0 else 16384,
                )  # fmt: skip
            self.world.step(self.commands)
            self.commands.clear()

    def shot_hits(self, rewind: int) -> bool:
        vitals, arms = self.world.players[Vitals], self.world.players[Arms]
        vitals.health[:2], vitals.armour[:2] = 200.0, 0.0
        arms.cooldown_s[:2] = 0.0
        self.step(fire=True, rewind=rewind)
        return bool(vitals.health[1] < 150.0)


def test_a_door_that_has_closed_since_does_not_stop_the_shot_and_one_that_was_closed_then_does() -> None:
    for opens, expected in ((0, [False] * 3 + [True] * 6), (1, [True] * 3 + [False] * 6)):
        found = []
        for back in range(9):
            duel = Duel(replace(DOOR, seconds=1 / 60))
            # Long before it is the other way round; three ticks before the shot it turns.
            duel.turn.opens[0] = 1 - opens
            duel.turn.since[0] = duel.world.tick - 20
            duel.step(12)
            duel.turn.opens[0] = opens
            duel.turn.since[0] = duel.world.tick
            duel.step(2)
            found.append(duel.shot_hits(back * REWIND_STEPS))
        assert found == expected, opens


def test_a_world_restored_from_a_capture_remembers_where_movers_were() -> None:
    hits, hashes = [], []
    for restored in (False, True):
        duel = Duel(replace(DOOR, seconds=1 / 60))
        duel.turn.opens[0], duel.turn.since[0] = 1, duel.world.tick - 20
        duel.step(12)
        duel.turn.opens[0], duel.turn.since[0] = 0, duel.world.tick
        duel.step(3)
        if restored:
            other = Duel(replace(DOOR, seconds=1 / 60))
            restore(other.world, capture(duel.world))
            duel = other
        hits.append(duel.shot_hits(6 * REWIND_STEPS))
        hashes.append(state_hash(duel.world))
    assert hits == [True, True]
    assert hashes[0] == hashes[1]


def test_a_closed_door_stops_rockets_and_blasts() -> None:
    for offset, hurt in ((0, False), (1, True)):
        duel = Duel()
        duel.turn.opens[0], duel.turn.since[0] = offset, duel.world.tick - 90
        duel.world.players[Motion].position[1] = (-1.2, 0.0, 0.0)
        arms, vitals = duel.world.players[Arms], duel.world.players[Vitals]
        number = ARMOURY.number("rocket_launcher")
        arms.owned[0] |= 1 << number
        arms.weapon[0], arms.reserve[0, number], arms.cooldown_s[:2] = number, 5, 0.0
        vitals.health[:2] = 200.0
        duel.commands.set_input(0, buttons=Button.FIRE, weapon=number)
        duel.world.step(duel.commands)
        duel.commands.clear()
        for _ in range(60):
            duel.world.step(duel.commands)
        assert bool(vitals.health[1] < 150.0) == hurt
