"""What clients may be told of by where they see from, and what loses weight."""

import math

import numpy as np
import pytest

from server.sight import HORIZON_MAX_S, REACTION_S, SLOTS, Sight
from server.sight_kernels import BEHIND, IN_VIEW
from server.views import FOLLOW, Views
from sim.arrays import F64, I64
from sim.components import Look, Motion, Stance, Vitals
from sim.geometry import Geometry
from sim.plugin import Registration
from sim.systems import Intent
from sim.trig import ANGLE_PER_RADIAN
from sim.visibility import VisibilityMap, VisibilityRules
from sim.world import World
from sim.worldmap import WorldMap
from tests.sim.sightlines import bake_map, blind, corner

WEST, SOUTH, ROUND = (-1.5, 10.0, 0.0), (10.0, -1.5, 0.0), (-8.0, -8.0, 0.0)
THINGS = 4


@pytest.fixture(scope="module")
def bent() -> tuple[WorldMap, VisibilityMap, Geometry]:
    """Two arms round a corner: WEST and SOUTH do not see each other, ROUND sees both."""
    world = corner()
    return world, *bake_map(world)


class Stage:
    """Players of a bare game, each the client of its row, who may all be told of everything that there is."""

    def __init__(
        self, bent: tuple[WorldMap, VisibilityMap, Geometry], *feet: tuple[float, float, float],
        rules: VisibilityRules | None = None, known: VisibilityMap | None = None,
    ) -> None:  # fmt: skip
        registration = Registration("bare")
        registration.kind("thing", Motion, capacity=THINGS)
        registration.kind("player", Motion, Look, Stance, Intent, Vitals, capacity=8, controlled=True)
        self.world = World(registration.freeze(), bent[0], Geometry.build(bent[0]), tick_hz=60, seed=1)
        table = self.world.players
        self.base, self.slots = table.slot_base, table.allocate_many(len(feet))
        self.motion, self.look, self.vitals = table[Motion], table[Look], table[Vitals]
        self.motion.position[: len(feet)] = feet
        self.vitals.alive[: len(feet)] = True
        count = len(feet)
        self.row = np.arange(count, dtype=np.int32)
        self.views = Views(self.world, row=self.row, client_of_row=self.row.copy(), killcam_s=0.0)
        self.sight = Sight(self.world, known or bent[1], bent[2], clients=count, rules=rules)
        self.candidate = np.full((count, SLOTS), -1, np.int32)
        self.candidate[:, : THINGS + 8] = np.arange(THINGS + 8)
        self.position: F64 = np.zeros((self.world.slot_count, 3))
        self.told, self.factor = (np.full((count, SLOTS), 99, np.uint8) for _ in range(2))
        self.rtt_ns: I64 = np.full(count, 100_000_000, np.int64)
        self.tick = 0

    def run(self, ticks: int = 1, *, due: list[int] | None = None) -> None:
        for _ in range(ticks):
            self.tick += 1
            self.position[self.base : self.base + 8] = self.motion.position
            self.views.update()
            self.sight.run(
                self.tick, due=self.row if due is None else np.array(due, np.int32), views=self.views,
                rtt_ns=self.rtt_ns, candidate=self.candidate, position=self.position, told=self.told,
                factor=self.factor,
            )  # fmt: skip

    def tells(self, client: int, player: int) -> bool:
        return bool(self.told[client, THINGS + player] == 1)


@pytest.mark.parametrize("strict", [False, True])
def test_players_round_the_corner_are_hidden_and_those_in_sight_told(
    bent: tuple[WorldMap, VisibilityMap, Geometry], strict: bool
) -> None:
    stage = Stage(bent, WEST, SOUTH, ROUND, rules=VisibilityRules(strict=strict))
    stage.run(3)
    assert stage.base == THINGS
    assert not stage.tells(0, 1)
    assert not stage.tells(1, 0)
    assert stage.tells(0, 2)
    assert stage.tells(2, 0)
    assert stage.tells(2, 1)
    assert all(stage.tells(client, client) for client in range(3))
    assert stage.sight.per_client[2].tolist() == [THINGS + 3, 5]  # five rows of the table are empty
    assert stage.sight.counts["told"] == stage.sight.per_client[:, 0].sum()


def test_what_is_no_player_is_always_told_and_an_empty_slot_never(
    bent: tuple[WorldMap, VisibilityMap, Geometry],
) -> None:
    stage = Stage(bent, WEST, SOUTH)
    stage.position[:THINGS] = SOUTH
    stage.run()
    assert stage.told[0, :THINGS].all()
    assert not stage.told[0, THINGS + 8 :].any()


def test_only_rows_of_clients_that_are_due_are_written(bent: tuple[WorldMap, VisibilityMap, Geometry]) -> None:
    stage = Stage(bent, WEST, SOUTH)
    stage.run(due=[1])
    assert (stage.told[0] == 99).all()
    assert (stage.factor[0] == 99).all()
    assert (stage.told[1] != 99).all()


def test_who_only_watches_is_told_to_nobody_and_sees_through_whom_it_follows(
    bent: tuple[WorldMap, VisibilityMap, Geometry],
) -> None:
    stage = Stage(bent, ROUND, SOUTH, WEST)
    stage.vitals.alive[0], stage.vitals.respawn_s[0] = False, math.inf
    stage.run()
    assert not stage.tells(1, 0)
    for target, hidden in ((1, 2), (2, 1)):
        assert stage.views.watch(0, stage.world.players.id_of(target))
        stage.run(2)
        assert stage.views.mode[0] == FOLLOW
        assert stage.tells(0, target)
        assert not stage.tells(0, hidden)


def test_what_was_seen_by_other_eyes_is_not_remembered(bent: tuple[WorldMap, VisibilityMap, Geometry]) -> None:
    # Where the map knows nothing rays decide, whose answers are remembered for a fifth of a second.
    stage = Stage(bent, ROUND, SOUTH, WEST, rules=VisibilityRules(strict=True), known=blind())
    stage.vitals.alive[0], stage.vitals.respawn_s[0] = False, math.inf
    assert stage.views.watch(0, stage.world.players.id_of(1))
    stage.run(6)
    assert stage.tells(0, 1)
    assert not stage.tells(0, 2)
    assert stage.views.watch(0, stage.world.players.id_of(2))
    stage.run()
    assert stage.tells(0, 2)
    assert not stage.tells(0, 1)


def test_a_forgotten_client_begins_anew(bent: tuple[WorldMap, VisibilityMap, Geometry]) -> None:
    stage = Stage(bent, WEST, ROUND)
    stage.run()
    stage.sight.forget(0)
    assert stage.sight.per_client[0].tolist() == [0, 0]
    assert not stage.sight.found[0].any()


@pytest.mark.parametrize(
    ("rtt_s", "horizon_s"), [(0.0, REACTION_S), (0.1, REACTION_S + 0.1), (9.0, HORIZON_MAX_S), (-1.0, REACTION_S)]
)
def test_a_client_is_led_by_its_round_trip_within_bounds(
    bent: tuple[WorldMap, VisibilityMap, Geometry], rtt_s: float, horizon_s: float
) -> None:
    stage = Stage(bent, WEST)
    stage.rtt_ns[:] = round(rtt_s * 1e9)
    stage.run()
    assert stage.sight.horizon[0] == pytest.approx(horizon_s)


@pytest.mark.parametrize("turned", [0.0, 1.0, 2.5, -2.0, 3.1])
def test_what_is_outside_of_the_view_cone_weighs_less_and_is_told_nevertheless(
    bent: tuple[WorldMap, VisibilityMap, Geometry], turned: float
) -> None:
    stage = Stage(bent, (-10.0, -10.0, 0.0), (-4.0, -10.0, 0.0), (-10.0, -7.0, 0.0))
    stage.rtt_ns[:] = 0
    half = math.pi / 3 + math.pi * REACTION_S
    stage.look.yaw[0] = round(turned * ANGLE_PER_RADIAN) % 65536
    stage.run()
    ahead, beside = stage.factor[0, THINGS + 1], stage.factor[0, THINGS + 2]
    assert ahead == (IN_VIEW if abs(turned) < half else BEHIND)
    assert beside == IN_VIEW  # within arm's reach nothing is behind
    assert stage.tells(0, 1)


def test_a_camera_that_stands_still_looks_everywhere(bent: tuple[WorldMap, VisibilityMap, Geometry]) -> None:
    stage = Stage(bent, WEST, SOUTH, (6.0, -2.0, 0.0))
    stage.vitals.alive[0], stage.vitals.respawn_s[0] = False, math.inf
    for yaw in (0, 16384, 32768):
        stage.look.yaw[0] = yaw
        stage.run()
        assert (stage.factor[0] == IN_VIEW).all()
