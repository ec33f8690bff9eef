"""Who touches whom, against trying all pairs."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import F64, I32
from sim.components import Motion
from sim.contacts import Contacts
from sim.geometry import Geometry
from sim.pipeline import Access, Step, System
from sim.plugin import Registration
from sim.world import World
from tests.reference.arena import gaps
from tests.sim.boxes import floor, world_of

RADII = {"player": 0.75, "pickup": 0.5, "vehicle": 6.0}
BOUNDARY = 1e-9


def idle_world() -> World:
    registration = Registration("idle")
    registration.kind("player", Motion, capacity=24, controlled=True)
    registration.kind("pickup", Motion, capacity=16)
    registration.kind("rock", Motion, capacity=4)
    registration.kind("vehicle", Motion, capacity=4)

    def bind(access: Access) -> Callable[[Step], None]:
        def run(step: Step) -> None:
            assert step.dt > 0.0

        return run

    registration.system(System("idle", bind))
    world_map = world_of(floor())
    return World(registration.freeze(), world_map, Geometry.build(world_map))


def spheres(world: World, name: str, previous: F64, *, bounding: bool) -> tuple[F64, F64, F64]:
    """Starts, ends and radii of the live things; or of the spheres that bound their ways, at rest."""
    slots = world.table(name).live_slots
    up = np.array([0.0, 0.0, RADII[name]])
    start, end = previous[slots] + up, world.table(name)[Motion].position[slots] + up
    way = np.linalg.norm(end - start, axis=1)
    start = np.where((way > 8.0)[:, None], end, start)
    way[way > 8.0] = 0.0
    if bounding:
        start = end = 0.5 * (start + end)
    return start, end, RADII[name] + (0.5 * way if bounding else 0.0 * way)


def pairs_of(rows: I32) -> list[tuple[int, int]]:
    return sorted((int(a), int(b)) for a, b in rows)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32), spread=st.sampled_from([2.0, 10.0, 100.0]), speed=st.sampled_from([0.0, 1.0, 7.0, 30.0])
)
def test_touching_and_met_agree_with_trying_all_pairs(seed: int, spread: float, speed: float) -> None:
    world, rng = WORLD, np.random.default_rng(seed)
    contacts, previous = Contacts(world), {}
    for name in ("player", "pickup", "vehicle"):
        table = world.table(name)
        table.free_many(table.live_slots.copy())
        slots = table.allocate_many(int(rng.integers(0, table.capacity + 1)))
        table[Motion].position[slots] = rng.uniform(-spread, spread, (len(slots), 3))
        previous[name] = table[Motion].position.copy()
        if name != "pickup":
            previous[name][slots] += rng.normal(0.0, 0.3 * speed, (len(slots), 3))
    contacts.update(RADII, {}, previous)
    for first, second in itertools.product(RADII, RADII):
        check_pairs(contacts.touching(first, second), world, (first, second), previous, bounding=True)
        check_pairs(contacts.met(first, second), world, (first, second), previous, bounding=False)


def check_pairs(rows: I32, world: World, names: tuple[str, str], previous: dict[str, F64], *, bounding: bool) -> None:
    first, second = (world.table(name).live_slots for name in names)
    gap = gaps(*(spheres(world, name, previous[name], bounding=bounding) for name in names))
    meets = gap <= 0.0
    found = np.zeros((64, 64), np.int64)
    np.add.at(found, (rows[:, 0], rows[:, 1]), 1)
    if names[0] == names[1]:
        meets &= first[:, None] < second[None]
    assert found.sum() == found[np.ix_(first, second)].sum()
    sure = np.abs(gap) > BOUNDARY
    assert (found[np.ix_(first, second)][sure] == meets[sure]).all()
    assert found.max() <= 1


WORLD = idle_world()


def test_who_is_not_present_touches_nobody() -> None:
    world = idle_world()
    slots = world.players.allocate_many(3)
    contacts = Contacts(world)
    present = world.players.live.copy()
    present[slots[1]] = False
    contacts.update(RADII, {"player": present}, {})
    assert pairs_of(contacts.touching("player", "player")) == [(0, 2)]


@pytest.mark.parametrize(("way", "expected"), [(7.9, True), (8.1, False)])
def test_a_teleport_is_not_a_way(way: float, expected: bool) -> None:
    world = idle_world()
    world.players.allocate()
    item = world.table("pickup").allocate()
    world.table("pickup")[Motion].position[item] = (way / 2.0, 0.0, 0.0)
    previous = world.players[Motion].position.copy()
    world.players[Motion].position[0, 0] = way
    contacts = Contacts(world)
    contacts.update(RADII, {}, {"player": previous})
    assert bool(len(contacts.met("player", "pickup"))) is expected
