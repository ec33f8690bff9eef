"""What lies in the arena: who may take it, what it gives, when it is back; decay and power-ups."""

import pytest

from sim.games.arena.rules import ARMOURY, ITEM_NUMBERS, ITEMS, ArenaRules, Item
from sim.worldmap import ItemPoint
from tests.sim.arena_match import HZ, Arena, Happening


def with_item(kind: str, *, amount: int = 0, hz: int = 60, rules: ArenaRules | None = None) -> tuple[Arena, int]:
    """A living player far from one item at the zero point."""
    arena = Arena(hz=hz, rules=rules, items=(ItemPoint(kind, (0.0, 0.0, 0.0), amount),))
    return arena, arena.join()


def step_on(arena: Arena, slot: int) -> list[Happening]:
    arena.place(slot, 0.0, 0.0, 0.0)
    happened = arena.tick()
    arena.place(slot, 30.0, 30.0, 0.0)
    return [event for event in happened if event.kind == "picked_up"]


@pytest.mark.parametrize(
    ("kind", "amount", "before", "after"),
    [
        ("health", 0, 60.0, 85.0), ("health", 0, 90.0, 100.0), ("health", 0, 100.0, None), ("health", 0, 150.0, None),
        ("health", 5, 100.0, 105.0), ("health", 50, 30.0, 80.0), ("health", 100, 150.0, 200.0),
        ("health", 100, 200.0, None),
    ],
)  # fmt: skip
def test_health_is_taken_where_it_helps_and_only_so_far(
    kind: str, amount: int, before: float, after: float | None
) -> None:
    arena, slot = with_item(kind, amount=amount)
    arena.vitals.health[slot] = before
    taken = step_on(arena, slot)
    assert [(event.actor, event.value) for event in taken] == (
        [] if after is None else [(arena.id_of(slot), ITEM_NUMBERS[kind])]
    )
    assert arena.vitals.health[slot] == pytest.approx(before if after is None else after, abs=0.06)
    assert bool(arena.pickup.available[0]) is (after is None)


@pytest.mark.parametrize(("before", "after"), [(0.0, 50.0), (180.0, 200.0), (200.0, 200.0)])
def test_armour_goes_to_the_most(before: float, after: float) -> None:
    arena, slot = with_item("armour")
    arena.vitals.armour[slot] = before
    step_on(arena, slot)
    assert arena.vitals.armour[slot] == pytest.approx(after, abs=0.06)


def test_a_weapon_comes_with_rounds_and_later_gives_rounds_only_up_to_the_most() -> None:
    arena, slot = with_item("railgun")
    number = ARMOURY.number("railgun")
    for expected in (10, 20, 30):
        arena.pickup.away_s[0] = 0.0
        assert len(step_on(arena, slot)) == 1
        assert arena.arms.owned[slot] >> number & 1
        assert arena.arms.reserve[slot, number] == expected
    arena.pickup.away_s[0] = 0.0
    assert step_on(arena, slot) == []


def test_a_weapon_with_a_magazine_comes_loaded() -> None:
    arena, slot = with_item("shotgun")
    arena.arms.owned[slot], arena.arms.loaded[slot, 2] = 0b10, 0
    step_on(arena, slot)
    assert (arena.arms.loaded[slot, 2], arena.arms.owned[slot]) == (8, 0b110)


def test_ammunition_gives_no_weapon() -> None:
    arena, slot = with_item("ammo_plasma")
    step_on(arena, slot)
    number = ARMOURY.number("plasma")
    assert (arena.arms.reserve[slot, number], arena.arms.owned[slot] >> number & 1) == (50, 0)


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize(("power", "bit"), [("quad", 1), ("regeneration", 2), ("battle_suit", 4)])
def test_powers_run_out_after_their_time(power: str, bit: int, hz: int) -> None:
    arena, slot = with_item(power, hz=hz)
    assert len(step_on(arena, slot)) == 1
    left = getattr(arena.powers, f"{power}_s")
    assert arena.powers.active[slot] == bit
    assert left[slot] == pytest.approx(30.0, abs=1.5 / hz)
    left[slot] = 0.5
    arena.run(0.5 - 2.0 / hz)
    assert arena.powers.active[slot] == bit
    arena.tick(3)
    assert (arena.powers.active[slot], left[slot]) == (0, 0.0)


@pytest.mark.parametrize("hz", HZ)
def test_an_item_is_back_after_its_time(hz: int) -> None:
    arena, slot = with_item("rocket_launcher", hz=hz)
    arena.place(slot, 0.0, 0.0, 0.0, fixed=True)
    arena.tick()
    assert not arena.pickup.available[0]
    assert abs(arena.until("picked_up", within=6.0) - 5.0) <= 1.0 / hz + 1e-9


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.kind)
def test_every_item_can_be_taken_and_is_away_for_its_time(item: Item) -> None:
    arena, slot = with_item(item.kind)
    arena.vitals.health[slot] = 50.0
    assert len(step_on(arena, slot)) == 1
    assert arena.pickup.away_s[0] == item.respawn_s


def test_only_one_of_two_gets_it() -> None:
    arena, one = with_item("quad")
    two = arena.join()
    arena.place(one, -0.5, 0.0, 0.0)
    arena.place(two, 0.5, 0.0, 0.0)
    assert sum(event.kind == "picked_up" for event in arena.tick()) == 1
    assert sorted([arena.powers.quad_s[one] > 0.0, arena.powers.quad_s[two] > 0.0]) == [False, True]


def test_the_dead_take_nothing() -> None:
    arena, slot = with_item("quad")
    arena.vitals.alive[slot] = False
    arena.vitals.respawn_s[slot] = 1.0
    assert step_on(arena, slot) == []


@pytest.mark.parametrize("hz", HZ)
@pytest.mark.parametrize(("aside", "taken"), [(0.0, True), (1.0, True), (1.4, False)])
def test_passing_at_speed_takes_what_is_within_reach_at_any_rate(hz: int, aside: float, taken: bool) -> None:
    arena, slot = with_item("quad", hz=hz)
    arena.place(slot, -3.0, aside, 0.3)
    arena.motion.velocity[slot] = (40.0, 0.0, 2.0)  # 2 m a tick at 20 Hz
    arena.run(0.15)
    assert arena.motion.position[slot, 0] > 0.8
    assert any(event.kind == "picked_up" for event in arena.log) is taken


@pytest.mark.parametrize("hz", HZ)
def test_points_above_the_full_amount_decay_by_one_a_second(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.vitals.health[slot], arena.vitals.armour[slot] = 103.0, 101.5
    arena.run(2.0)
    assert arena.vitals.health[slot] == pytest.approx(101.0)
    assert arena.vitals.armour[slot] == 100.0
    arena.run(2.0)
    assert arena.vitals.health[slot] == 100.0


@pytest.mark.parametrize("hz", HZ)
def test_regeneration_heals_evenly_and_stops_at_the_most(hz: int) -> None:
    arena = Arena(hz=hz)
    slot = arena.join()
    arena.vitals.health[slot] = 50.0
    arena.powers.regeneration_s[slot] = 1.0
    arena.run(2.0)
    assert arena.vitals.health[slot] == pytest.approx(65.0)
    arena.vitals.health[slot] = 195.0
    arena.powers.regeneration_s[slot] = 1.0
    arena.run(0.9)
    assert arena.vitals.health[slot] == 200.0
