"""A whole server that hides players behind walls, and what its clients hold of them."""

from pathlib import Path

import pytest

from server import sight as sight_module
from server.app import Server
from server.maps.store import write_map
from server.sight import open_sight
from sim.components import Motion
from sim.visibility import VisibilityMap
from sim.world import World
from sim.worldmap import WorldMap
from tests.server.played import Clients, joined, play, playing
from tests.server.test_sight import ROUND, SOUTH, WEST
from tests.sim.arena_match import Arena
from tests.sim.sightlines import bake_map, corner


@pytest.fixture
def baked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps are baked coarsely, and not kept."""
    monkeypatch.setattr(sight_module, "load_visibility", lambda world, **_: bake_map(world))


@pytest.fixture
def bent(tmp_path: Path) -> str:
    """The file of a map with two arms round a corner."""
    path = tmp_path / "corner.npz"
    write_map(path, corner())
    return str(path)


def stand(server: Server, clients: Clients, ticks: int, *places: tuple[float, float, float]) -> list[set[int]]:
    """Keep the players at places; which of them each client then holds."""
    table = server.world.players
    slots = [int(server.sessions.row[index]) for index in clients.connections.client_index.tolist()]
    for _ in range(ticks):
        table[Motion].position[slots], table[Motion].velocity[slots] = places, 0.0
        play(server, clients, 1)
    ids = [table.id_of(slot) for slot in slots]
    held = [set(clients.replicas.entity_id[client].tolist()) for client in range(len(slots))]
    return [{number for number, entity in enumerate(ids) if entity in known} for known in held]


@pytest.mark.usefixtures("baked")
@pytest.mark.parametrize("mode", ["on", "strict"])
def test_a_client_holds_nobody_behind_a_wall_and_everybody_in_sight(bent: str, mode: str) -> None:
    with playing(2, map=bent, visibility=mode) as (server, clients):
        joined(server, clients)
        apart = stand(server, clients, 60, WEST, SOUTH)
        assert apart[0].isdisjoint({1})
        assert apart[1].isdisjoint({0})
        met = stand(server, clients, 20, WEST, ROUND)
        assert 1 in met[0]
        assert 0 in met[1]
        assert server.sight is not None
        assert server.sight.counts["hidden_by_cells"] > 0


def test_without_visibility_all_within_range_are_told(bent: str) -> None:
    with playing(2, map=bent, visibility="off") as (server, clients):
        joined(server, clients)
        assert 1 in stand(server, clients, 30, WEST, SOUTH)[0]
        assert server.sight is None


def test_auto_uses_what_has_been_baked_and_bakes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    world: World = Arena().world

    def refuse(_: WorldMap, **__: object) -> VisibilityMap:
        raise AssertionError("auto must not bake")

    monkeypatch.setattr(sight_module, "load_visibility", refuse)
    monkeypatch.setattr(sight_module, "find_visibility", lambda *_, **__: None)
    assert open_sight("auto", world, clients=4) is None
    monkeypatch.setattr(sight_module, "find_visibility", lambda *_, **__: bake_map(corner()))
    found = open_sight("auto", world, clients=4)
    assert found is not None
    assert not found.visibility.rules.strict
