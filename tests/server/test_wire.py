"""What clients are told of the world: which columns, quantised how."""

import numpy as np
import pytest

from net.snapshots import FieldTable
from server.app import build_world
from server.config import ServerConfig
from server.errors import GameError
from server.game import load_game
from server.maps import load_geometry
from server.replication import HIDDEN, Replication, ReplicationLimits
from server.wire import WireView, field_table, owner_columns, owner_layout
from sim.components import Motion
from sim.plugin import Registration
from sim.schema import Component, Wire, column
from sim.world import World
from tests.sim.toy import floor_map

GAME = load_game("arena")


@pytest.fixture(scope="module")
def world() -> World:
    world_map = floor_map()
    return build_world(ServerConfig(), GAME, world_map, load_geometry(world_map, cache=False))


def replication(world: World, table: FieldTable) -> Replication:
    limits = ReplicationLimits(relevant=8, interval_ticks=2, budget_bytes=1000)
    return Replication(table, clients=2, entities=world.slot_count, limits=limits)


def test_positions_velocities_and_kinds_come_first() -> None:
    names = [field.name for field in field_table(GAME, tick_hz=60).fields]
    assert names[:7] == [*(f"position.{axis}" for axis in "xyz"), *(f"velocity.{axis}" for axis in "xyz"), "kind"]
    assert len(set(names)) == len(names)


def test_columns_are_quantised_to_their_steps_and_unseen_kinds_are_hidden(world: World) -> None:
    table = field_table(GAME, tick_hz=60)
    told = replication(world, table)
    view = WireView(world, told)
    motion = world.players[Motion]
    slot = world.players.allocate()
    motion.position[slot], motion.velocity[slot] = (1.25, -3.5, 40.0), (8.0, 0.0, -20.0)
    view.take()
    row = told.fields[world.players.slot_base + slot]
    steps = np.array([field.step for field in table.fields[:6]])
    wanted = np.array([1.25, -3.5, 40.0, 8.0, 0.0, -20.0])
    assert np.all(np.abs(row[:6] * steps - wanted) <= steps / 2)
    assert view.ids[world.players.slot_base + slot] == world.players.ids[slot]
    match = world.tables["match"]
    assert np.all(told.rule[match.slot_base : match.slot_base + match.capacity] == HIDDEN)
    assert told.rule[world.players.slot_base + slot] == 0
    world.players.free(slot)


def test_the_owner_section_has_a_column_for_every_field(world: World) -> None:
    columns = owner_columns(world)
    layout = owner_layout()
    layout.bind(columns)
    assert layout.size <= 128
    assert columns["position"] is world.players[Motion].position


class Arrow(Component, name="arrow"):
    """A vector on the wire, which only motion may have."""

    tip = column(np.float64, shape=(3,), wire=Wire(bits=16, step=0.1))


def test_a_vector_other_than_motion_is_refused_by_name() -> None:
    registration = Registration("archers")
    registration.kind("player", Motion, Arrow, capacity=4, controlled=True)
    with pytest.raises(GameError, match=r"column arrow\.tip has shape \(3,\)"):
        field_table(registration.freeze(), tick_hz=60)
