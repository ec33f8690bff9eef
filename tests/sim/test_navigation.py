"""Cells are where bodies stand, links are ways bodies go, and everything that lies about can be walked to."""

from pathlib import Path

import numpy as np
import pytest

from server.maps import load_geometry, load_map
from server.maps.builder import MeshBuilder
from server.maps.solids import Solids
from server.maps.walkways import load_navigation
from sim.geometry import Geometry
from sim.motion import Motion
from sim.motion_kernels import STUCK
from sim.navigation import Navigation, NavigationError, NavigationOptions
from sim.navigation_kernels import DROP, FAR, FLIGHT, JUMP, WALK
from sim.trig import yaw_towards
from sim.worldmap import SpawnPoint, Trigger, TriggerKind, WorldMap
from tests.reference.navigation import distance_to

ROOM_M = 10.0


def room(solids: Solids, *, triggers: tuple[Trigger, ...] = (), spawn: tuple[float, float, float]) -> WorldMap:
    """A walled floor of 20 × 20 m with `solids` in it."""
    solids.box((-ROOM_M - 1, -ROOM_M - 1, -1.0), (ROOM_M + 1, ROOM_M + 1, 0.0))
    for quarter in range(4):
        solids.quarter_turns = quarter
        solids.box((ROOM_M, -ROOM_M, 0.0), (ROOM_M + 1, ROOM_M + 1, 9.0))
    builder = MeshBuilder("room")
    builder.add(*solids.mesh())
    vertices, triangles, contents, _ = builder.mesh()
    return WorldMap("room", vertices, triangles, contents, (SpawnPoint(spawn, 0),), triggers=triggers)


def explore(world: WorldMap, options: NavigationOptions | None = None) -> Navigation:
    return Navigation.build(Geometry.build(world), world, options=options)


@pytest.fixture(scope="module")
def arena() -> tuple[WorldMap, Geometry, Navigation]:
    world = load_map("arena")
    geometry = load_geometry(world)
    return world, geometry, Navigation.build(geometry, world)


def test_every_item_of_the_arena_can_be_reached_from_every_spawn_point(
    arena: tuple[WorldMap, Geometry, Navigation],
) -> None:
    world, _, navigation = arena
    items = np.array([item.position for item in world.items])
    goals = navigation.locate(items)
    assert (goals >= 0).all()
    away = navigation.position[goals] - items
    assert np.hypot(away[:, 0], away[:, 1]).max() < 0.75
    assert np.abs(away[:, 2]).max() < 0.8
    spawns = navigation.locate([spawn.position for spawn in world.spawns])
    assert navigation.fields(goals)[:, spawns].max() < FAR
    assert navigation.refused == 0


def test_a_flat_room_is_covered_up_to_a_bodys_radius_from_the_walls() -> None:
    navigation = explore(room(Solids(), spawn=(0.3, 0.2, 0.01)))
    position = navigation.position
    assert np.abs(position[:, :2]).max() <= ROOM_M - 0.375
    assert np.abs(position[:, :2]).max() > ROOM_M - 0.375 - 0.5
    assert np.abs(position[:, 2]).max() < 0.01
    assert 36**2 <= len(navigation) <= 39**2
    assert set(np.unique(navigation.kinds)) <= {0, WALK}
    assert (navigation.region == 0).all()


def test_steps_are_walked_crates_are_jumped_and_towers_are_only_left() -> None:
    solids = Solids()
    solids.box((2.0, -2.0, 0.0), (6.0, 2.0, 0.44))
    solids.box((-6.0, -2.0, 0.0), (-2.0, 2.0, 0.9))
    solids.box((-2.0, 4.0, 0.0), (2.0, 8.0, 3.0))
    world = room(solids, spawn=(0.0, 6.0, 3.01))
    navigation = explore(world)
    floor, step, crate, tower = navigation.locate([(0.0, 0.0, 0), (4.0, 0, 0.44), (-4.0, 0, 0.9), (0.0, 6.0, 3.0)])
    fields = navigation.fields([floor, step, crate, tower])
    assert (fields[:3, [floor, step, crate, tower]] < FAR).all()
    assert fields[3, floor] == FAR
    assert fields[3, step] == FAR
    # A body may hang on the crate's edge, a little below its top, and walk up from there.
    low = navigation.position[:, 2] < 0.1
    onto = (navigation.position[navigation.links, 2] > 0.5) & low[:, None]
    assert ((navigation.kinds == JUMP) & onto).any()
    assert not ((navigation.kinds == WALK) & onto).any()
    assert (navigation.kinds == DROP).any()
    assert np.unique(navigation.region).size >= 2


def test_without_jumps_a_crate_is_out_of_reach() -> None:
    solids = Solids()
    solids.box((-6.0, -2.0, 0.0), (-2.0, 2.0, 0.9))
    navigation = explore(room(solids, spawn=(0.0, 6.0, 0.01)), NavigationOptions(jump_m=0.0))
    assert navigation.position[:, 2].max() < 0.1


def test_low_ceilings_are_not_walked_under_and_deep_falls_not_taken() -> None:
    solids = Solids()
    solids.box((2.0, -10.0, 1.3), (6.0, 10.0, 3.0))
    navigation = explore(room(solids, spawn=(-5.0, 0.0, 0.01)))
    assert not (navigation.position[:, 0] > 2.0 - 0.3).any()
    solids = Solids()
    solids.box((-2.0, 4.0, 0.0), (2.0, 8.0, 8.0))
    world = room(solids, spawn=(0.0, 6.0, 8.01))
    assert explore(world, NavigationOptions(drop_m=6.0)).position[:, 2].min() > 7.5
    assert explore(world, NavigationOptions(drop_m=9.0)).position[:, 2].min() < 0.1


def test_jump_pads_and_teleporters_lead_where_they_throw_and_pain_is_shunned() -> None:
    solids = Solids()
    solids.box((4.0, 4.0, 0.0), (9.0, 9.0, 4.0))
    solids.box((-9.0, -9.0, 0.0), (-6.0, -6.0, 4.0))
    triggers = (
        Trigger(TriggerKind.PUSH, (0.0, 5.5, 0.0), (1.0, 6.5, 0.5), vector=(4.2, 0.0, 15.0)),
        Trigger(TriggerKind.TELEPORT, (-1.0, -6.0, 0.0), (1.0, -5.0, 0.5), vector=(-7.5, -7.5, 4.05)),
        Trigger(TriggerKind.HURT, (-8.0, 3.0, 0.0), (-5.0, 6.0, 1.0), amount=20.0),
    )
    navigation = explore(room(solids, triggers=triggers, spawn=(0.0, 0.0, 0.01)))
    floor, roof, ledge = navigation.locate([(0.0, 0.0, 0.0), (6.5, 6.5, 4.0), (-7.5, -7.5, 4.0)])
    assert navigation.position[[roof, ledge], 2].min() > 3.9
    assert (navigation.fields([roof, ledge])[:, floor] < FAR).all()
    assert (navigation.kinds == FLIGHT).any()
    x, y = navigation.position[:, 0], navigation.position[:, 1]
    assert not ((x > -8.0) & (x < -5.0) & (y > 3.0) & (y < 6.0)).any()


def test_bodies_that_walk_along_links_arrive(arena: tuple[WorldMap, Geometry, Navigation]) -> None:
    world, geometry, navigation = arena
    cells, columns = np.nonzero(navigation.kinds == WALK)
    chosen = np.random.default_rng(5).choice(len(cells), 400, replace=False)
    cells, targets = cells[chosen], navigation.links[cells[chosen], columns[chosen]]
    start, end = navigation.position[cells].copy(), navigation.position[targets]
    count = len(cells)
    away = end - start
    yaw = np.array([yaw_towards(x, y) for x, y in away[:, :2]], np.uint16)
    pitch, flags = np.zeros(count, np.int16), np.ones(count, np.uint16)
    normal = np.tile([0.0, 0.0, 1.0], (count, 1))
    state = (start, np.zeros((count, 3)), normal, yaw.copy(), pitch, flags)
    keys = (np.zeros(count, np.uint16), np.full(count, 64, np.int8), np.zeros(count, np.int8), yaw, pitch)
    motion = Motion(geometry, world.triggers)
    best = np.full(count, np.inf)
    for _ in range(40):
        motion.move(state, keys, active=np.ones(count, np.bool_), dt=1 / 60)
        best = np.minimum(best, np.abs(state[0] - end).max(axis=1))
    assert not (flags & STUCK).any()
    assert (best < 0.15).mean() > 0.97
    assert (best < 0.4).all()


def test_fields_agree_with_relaxing_every_link_until_nothing_changes(
    arena: tuple[WorldMap, Geometry, Navigation],
) -> None:
    _, _, navigation = arena
    goals = [0, len(navigation) // 2, len(navigation) - 1]
    fields = navigation.fields(goals)
    for goal, field in zip(goals, fields, strict=True):
        assert np.array_equal(field, distance_to(goal, navigation.links, navigation.arrays[6]))


def test_building_again_and_saving_give_the_same_arrays(arena: tuple[WorldMap, Geometry, Navigation]) -> None:
    world, geometry, navigation = arena
    saved = navigation.to_arrays()
    again = Navigation.build(geometry, world).to_arrays()
    read = Navigation.from_arrays(saved, map_hash=world.content_hash())
    for name, array in saved.items():
        assert np.array_equal(array, again[name]), name
        assert np.array_equal(array, read.to_arrays()[name]), name
    assert np.array_equal(read.fields([5]), navigation.fields([5]))


@pytest.mark.parametrize("name", ["links", "position", "heads", "following", "figures"])
def test_damaged_arrays_are_refused(arena: tuple[WorldMap, Geometry, Navigation], name: str) -> None:
    world, _, navigation = arena
    saved = navigation.to_arrays()
    damaged = saved[name].copy()
    damaged[0] = np.nan if damaged.dtype == np.float64 else len(navigation)
    if name == "figures":
        damaged[3] += 1.0
    with pytest.raises(NavigationError, match="build it again"):
        Navigation.from_arrays({**saved, name: damaged}, map_hash=world.content_hash())


def test_another_map_is_refused(arena: tuple[WorldMap, Geometry, Navigation]) -> None:
    with pytest.raises(NavigationError, match="needed is"):
        Navigation.from_arrays(arena[2].to_arrays(), map_hash="0" * 32)


def test_a_full_table_keeps_the_cells_nearest_to_the_spawn_and_counts_the_rest() -> None:
    navigation = explore(room(Solids(), spawn=(0.25, 0.25, 0.01)), NavigationOptions(cells_max=100))
    assert len(navigation) == 100
    assert navigation.refused > 0
    assert np.abs(navigation.position[:, :2]).max() < 5.0


def test_a_spawn_in_a_wall_is_an_error_of_one_line() -> None:
    with pytest.raises(NavigationError, match="nobody can walk") as caught:
        explore(room(Solids(), spawn=(0.0, 0.0, 500.0)))
    assert "\n" not in str(caught.value)


def test_a_navigation_is_kept_and_found_again(
    tmp_path: Path, arena: tuple[WorldMap, Geometry, Navigation], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, geometry, navigation = arena
    monkeypatch.setattr("server.maps.store.map_cache", lambda: tmp_path / "maps")
    beside = tmp_path / "arena.npz"
    first = load_navigation(world, geometry, beside=beside)
    kept = tmp_path / "arena.npz.navigation.npz"
    written = kept.stat().st_mtime_ns
    second = load_navigation(world, geometry, beside=beside)
    assert kept.stat().st_mtime_ns == written
    assert np.array_equal(first.links, navigation.links)
    assert np.array_equal(second.links, navigation.links)
