"""Doors and lifts of a Quake III map, played over the network by clients that predict."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from server.app import Server
from server.livemesh import live_mesh
from server.liverows import LiveRows, live_info
from server.maps import load_map
from sim.components import Motion, Stance
from sim.motion_kernels import ON_GROUND
from sim.movers import Movers, Turn
from sim.worldmap import MoverKind
from tests.server.bsp_writer import lift_hall
from tests.server.played import Clients, joined, play, playing

LIFT_M = 3.0


@contextmanager
def hall(tmp_path: Path, count: int = 1) -> Iterator[tuple[Server, Clients]]:
    path = tmp_path / "lift_hall.bsp"
    path.write_bytes(lift_hall().data())
    with playing(count, with_zone=True, map=str(path)) as (server, clients):
        joined(server, clients)
        yield server, clients


def test_a_plat_and_the_wings_of_a_door_are_read_with_what_sets_them_going(tmp_path: Path) -> None:
    path = tmp_path / "hall.bsp"
    path.write_bytes(lift_hall().data())
    lift, left, right = (mover.motion for mover in load_map(path).movers)
    assert lift is not None
    assert left is not None
    assert right is not None
    assert (lift.kind, lift.travel, lift.holds, lift.seconds) == (MoverKind.SLIDE, (0.0, 0.0, LIFT_M), True, 0.6)
    assert left.group == right.group > 0
    assert left.travel == (0.0, -1.4, 0.0)
    assert right.travel == (0.0, 1.4, 0.0)
    assert left.touch == right.touch == ((3.25, -1.6, 0.0, 9.55, 1.6, 2.4),)


def mispredicted(clients: Clients) -> int:
    return int(clients.clients.statistics()["mispredicted"])


def run_to(server: Server, clients: Clients, x: float, *, speed: int = 127, ticks_max: int = 240) -> None:
    """Let everybody run until the first player's X [m] is reached, and stop."""
    position = server.world.players[Motion].position
    clients.wishes["move_forward"] = speed
    for _ in range(ticks_max):
        play(server, clients, 1)
        if position[0, 0] > x:
            break
    else:
        pytest.fail(f"still at {position[0]}")
    clients.wishes.clear()


def test_a_lone_client_on_a_lift_predicts_it(tmp_path: Path) -> None:
    with hall(tmp_path) as (server, clients):
        world = server.world
        motion, stance = world.players[Motion], world.players[Stance]
        run_to(server, clients, -0.5)
        for _ in range(90):
            play(server, clients, 1)
        assert motion.position[0, 2] == pytest.approx(0.2 + LIFT_M, abs=1e-6)
        assert stance.flags[0] & ON_GROUND
        # It could not know the tick in which the lift would start; nothing else was a surprise.
        assert mispredicted(clients) <= 2
        # It rides up and down for as long as it likes.
        turn = world.table("mover")[Turn]
        for _ in range(3):
            motion.position[0] = (-4.0, 0.0, 0.0)
            play(server, clients, 90)
            assert not turn.opens[0]
            run_to(server, clients, -0.5)
            play(server, clients, 60)
            assert turn.opens[0]
        assert mispredicted(clients) <= 2 + 3 * 3  # put elsewhere, and taken up again, three times
        assert np.array_equal(clients.clients.state["position"][0], motion.position[0])


def test_movers_turn_at_once_for_every_client_and_newcomer(tmp_path: Path) -> None:
    with hall(tmp_path, 2) as (server, clients):
        zone = clients.zone
        assert zone is not None
        run_to(server, clients, -0.5)
        play(server, clients, 6)
        turn = server.world.table("mover")[Turn]
        first = zone.layout.row_of(server.world.table("mover").id_of(0))
        for client in range(2):
            for name, column in (("turn.opens", turn.opens), ("turn.since", turn.since)):
                known = zone.values(client, name)[first : first + 3]
                assert known.tolist() == column[:3].tolist()
        assert turn.opens[0] == 1


def test_pages_are_told_where_movers_are_and_which_triangles_they_have(tmp_path: Path) -> None:
    with hall(tmp_path) as (server, clients):
        world = server.world
        rows, info = LiveRows(world), live_info(world, ())
        run_to(server, clients, -0.5)
        play(server, clients, 12)
        shown = rows.movers()["offset"]
        assert np.array_equal(shown, world.services[Movers].offsets.astype(np.float32))
        assert 0.0 < shown[0, 2] < LIFT_M
        mesh = live_mesh(world.map)
        assert mesh is not None
        assert len(info.movers) == 3
        for (first, count), mover in zip(info.movers, world.map.moving, strict=True):
            drawn = mesh.vertices[mesh.triangles[first : first + count]]
            own = slice(mover.triangle_first, mover.triangle_first + mover.triangle_count)
            assert np.array_equal(drawn, world.map.vertices[world.map.triangles[own]].astype(np.float32))
        assert sum(mesh.class_counts) == len(mesh.triangles)
        assert info.movers[-1][0] + info.movers[-1][1] == len(mesh.triangles)
