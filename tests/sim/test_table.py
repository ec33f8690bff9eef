"""Slots, generations, ids and typed columns."""

from typing import assert_type

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.errors import DeclarationError, StaleIdError, TableFullError
from sim.table import GENERATION_BITS, Table, Used, id_generation, id_slot, id_zone, make_id
from tests.sim.toy import Drift, Purse


def make_table(capacity: int = 4, *, slot_base: int = 100, zone: int = 3) -> Table:
    return Table("player", (Drift, Purse), capacity=capacity, slot_base=slot_base, zone=zone)


def test_columns_have_the_declared_type_shape_and_default() -> None:
    table = make_table()
    position = table[Drift].position
    assert_type(position, NDArray[np.float64])
    assert_type(table[Purse].coins, NDArray[np.int64])
    assert position.shape == (4, 3)
    assert (table[Purse].coins == 5).all()
    assert Drift.position.unit == "m"


def test_an_absent_component_is_refused_by_name() -> None:
    table = Table("spark", (Drift,), capacity=2)
    with pytest.raises(DeclarationError, match="'spark' has no component 'purse'"):
        table[Purse]


def test_ids_carry_zone_generation_and_global_slot() -> None:
    table = make_table()
    entity = table.id_of(table.allocate())
    assert (id_zone(entity), id_generation(entity), id_slot(entity)) == (3, 1, 100)


def test_slots_are_reused_first_in_first_out() -> None:
    table = make_table(3)
    for _ in range(3):
        table.allocate()
    for slot in (1, 0, 2):
        table.free(slot)
    assert [table.allocate() for _ in range(3)] == [1, 0, 2]


def test_a_freed_row_holds_its_defaults_again() -> None:
    table = make_table()
    slot = table.allocate()
    table[Drift].position[slot] = 9.0
    table[Purse].coins[slot] = 0
    table.free(slot)
    assert (table[Drift].position == 0.0).all()
    assert table[Purse].coins[slot] == 5


def test_a_stale_id_is_detected_by_every_look_up() -> None:
    table = make_table(1)
    old = table.id_of(table.allocate())
    table.free(0)
    new = table.id_of(table.allocate())
    assert old != new
    assert table.find(old) == -1
    with pytest.raises(StaleIdError, match="generation 1"):
        table.slot_of(old)
    assert table.resolve(np.array([old, new, 0], np.uint64)).tolist() == [-1, 0, -1]


@pytest.mark.parametrize("entity", [0, make_id(zone=3, generation=1, slot=99), make_id(zone=4, generation=1, slot=100)])
def test_null_foreign_and_other_zone_ids_are_not_found(entity: int) -> None:
    table = make_table()
    table.allocate()
    assert table.find(entity) == -1
    assert table.resolve(np.array([entity], np.uint64)).tolist() == [-1]


def test_a_full_table_refuses_and_stays_as_it_was() -> None:
    table = make_table(1)
    table.allocate()
    with pytest.raises(TableFullError, match="'player' has 0 of 1 slots free, 1 are wanted"):
        table.allocate()
    assert table.live_count == 1


def test_freeing_twice_is_refused() -> None:
    table = make_table()
    slot = table.allocate()
    table.free(slot)
    with pytest.raises(StaleIdError):
        table.free(slot)


def test_many_at_once_do_what_one_by_one_does() -> None:
    one, many = make_table(6), make_table(6)
    assert many.allocate_many(4).tolist() == [one.allocate() for _ in range(4)]
    for slot in (3, 1):
        one.free(slot)
    many.free_many(np.array([3, 1], np.int32))
    assert many.allocate_many(4).tolist() == [one.allocate() for _ in range(4)] == [4, 5, 3, 1]
    assert many.ids.tolist() == one.ids.tolist()
    with pytest.raises(TableFullError):
        many.allocate_many(1)


def test_freeing_a_slot_twice_in_one_call_is_refused_and_changes_nothing() -> None:
    table = make_table()
    table.allocate_many(2)
    with pytest.raises(StaleIdError, match="distinct"):
        table.free_many(np.array([0, 0], np.int32))
    assert table.live_count == 2


def test_generations_wrap_around_zero() -> None:
    table = make_table(1)
    table.generation[0] = (1 << GENERATION_BITS) - 1
    table.allocate()
    table.free(0)
    assert id_generation(table.id_of(table.allocate())) == 1


def test_capacity_beyond_the_slot_bits_is_refused() -> None:
    with pytest.raises(DeclarationError, match="out of range"):
        Table("big", (Drift,), capacity=1 << 24)


@given(st.lists(st.integers(0, 5), max_size=60))
def test_table_agrees_with_a_list_of_owners(script: list[int]) -> None:
    table = make_table(5)
    queue, owners = list(range(5)), {}
    for choice in script:
        if choice == 0 and queue:
            slot = table.allocate()
            assert slot == queue.pop(0)
            owners[slot] = table.id_of(slot)
        elif choice - 1 in owners:
            table.free(choice - 1)
            queue.append(choice - 1)
            stale = owners.pop(choice - 1)
            assert table.find(stale) == -1
        assert table.live_slots.tolist() == sorted(owners)
        assert all(table.find(entity) == slot for slot, entity in owners.items())


def test_views_of_the_rows_in_use_are_made_again_only_when_there_are_more() -> None:
    table = make_table()
    made: list[int] = []

    def coins(rows: int) -> NDArray[np.int64]:
        made.append(rows)
        return table[Purse].coins[:rows]

    used = Used(table, coins)
    assert used().shape == (0,)
    first, _ = table.allocate_many(2).tolist()
    table[Purse].coins[1] = 9
    assert used().tolist() == [5, 9]
    assert used() is used()
    table.free(first)
    assert used().tolist() == [5, 9]
    table.allocate_many(2)
    assert len(used()) == table.high_water
    assert made == [0, 2, table.high_water]
