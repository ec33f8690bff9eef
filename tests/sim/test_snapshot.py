"""Capture, restore, hash."""

import msgpack
import numpy as np
import pytest

from sim.arrays import AnyArray
from sim.commands import Action, Commands, Join, Leave
from sim.errors import CommandError, SnapshotError
from sim.hashing import hash_columns
from sim.plugin import Registration
from sim.snapshot import capture, layout_hash, restore, state_hash
from sim.world import World
from tests.sim.toy import Drift, Purse, commands_for, declare, toy_world


def play(world: World, ticks: int) -> None:
    commands = commands_for(world)
    for tick in range(ticks):
        commands.clear()
        if tick % 3 == 0 and world.players.live_count < 6:
            commands.add(Join(tick, f"p{tick}"))
        if tick % 7 == 6:
            commands.add(Leave(world.players.id_of(int(world.players.live_slots[0]))))
        for slot in world.players.live_slots:
            commands.set_input(int(slot), move_forward=tick % 50 - 20)
        if tick in {4, 5}:
            commands.add(Action(world.players.id_of(0), 0, (1,)))
        world.step(commands)


def test_restoring_gives_the_same_hash_and_the_same_future() -> None:
    world, other = toy_world(), toy_world()
    play(world, 10)
    restore(other, capture(world))
    assert state_hash(other) == state_hash(world)
    play(world, 9)
    play(other, 9)
    assert state_hash(other) == state_hash(world)
    assert other.players.live_slots.tolist() == world.players.live_slots.tolist()


def test_restoring_wipes_what_was_there_before() -> None:
    empty, world = toy_world(), toy_world()
    before = capture(empty)
    play(world, 12)
    restore(world, before)
    assert state_hash(world) == state_hash(empty)
    assert (world.players[Purse].coins == 5).all()
    assert world.players.allocate() == empty.players.allocate()


def test_every_bit_of_state_changes_the_hash() -> None:
    world = toy_world()
    play(world, 5)
    seen = {state_hash(world)}
    position = world.players[Drift].position
    position[0, 2] = np.nextafter(position[0, 2], 99.0)
    seen.add(state_hash(world))
    world.players[Purse].coins[1] += 1
    seen.add(state_hash(world))
    world.tick += 1
    seen.add(state_hash(world))
    world.players.generation[0] += 1
    seen.add(state_hash(world))
    assert len(seen) == 5


def test_the_hash_is_that_of_all_columns_one_after_another() -> None:
    world = toy_world()
    for ticks in (0, 5, 12):
        play(world, ticks)
        expected = hash_columns([np.array([world.tick, world.seed], np.int64)])
        for table in world.tables.values():
            rows = table.high_water
            columns: list[AnyArray] = [np.array([rows, table.free_head, table.live_count], np.int64)]
            columns += [table.ids[:rows], table.generation[:rows], table.free_queue]
            columns += [getattr(held, name)[:rows] for kind, held in table.components.items() for name in kind.columns]
            expected = hash_columns(columns, expected)
        assert state_hash(world) == expected


def test_layout_hash_tells_another_game_or_rate() -> None:
    def more(registration: Registration) -> None:
        declare(registration)
        registration.kind("crate", Drift, capacity=1)

    layouts = {
        layout_hash(toy_world()),
        layout_hash(toy_world(tick_hz=30)),
        layout_hash(toy_world(declare_game=more)),
    }
    assert len(layouts) == 3


def test_a_capture_of_another_seed_is_refused() -> None:
    with pytest.raises(SnapshotError, match="seed 1"):
        restore(toy_world(seed=2), capture(toy_world(seed=1)))


def test_damaged_captures_are_refused_and_leave_the_world_alone() -> None:
    world = toy_world()
    play(world, 5)
    data, before = capture(world), state_hash(world)
    parts = msgpack.unpackb(data)
    parts[4][0][2][0] = parts[4][0][2][0][:-1]
    for bad in (b"", b"\xc1", data[:-3], msgpack.packb([1, 2]), msgpack.packb(parts)):
        with pytest.raises(SnapshotError):
            restore(world, bad)
    assert state_hash(world) == before


@pytest.mark.parametrize("array", ["ids", "generation", "queue"])
def test_captures_with_ids_or_free_slots_that_cannot_be_are_refused(array: str) -> None:
    world = toy_world()
    play(world, 9)
    data, before = capture(world), state_hash(world)
    parts = msgpack.unpackb(data)
    bookkeeping = parts[4][0][1]
    number = ["ids", "generation", "queue"].index(array)
    held = np.frombuffer(bookkeeping[number], (np.uint64, np.uint32, np.int32)[number]).copy()
    place = parts[4][0][0][1] if array == "queue" else int(world.players.live_slots[0])  # the next slot to be given
    held[place] += 1 << 20
    bookkeeping[number] = held.tobytes()
    with pytest.raises(SnapshotError, match="contradict each other"):
        restore(world, msgpack.packb(parts))
    assert state_hash(world) == before


def test_commands_survive_encoding() -> None:
    commands, copy = Commands(8), Commands(8)
    commands.set_input(3, buttons=5, move_forward=-127, move_right=3, yaw=65535, pitch=-16000, weapon=4)
    commands.add(Join(7, "Ünal", 2))
    commands.add(Leave(2**63 + 5))
    commands.add(Action(9, 1, (4, "x", b"y")))
    copy.decode(commands.encode())
    assert copy.encode() == commands.encode()
    assert copy.has_input.tolist() == commands.has_input.tolist()
    assert (copy.joins, copy.leaves, copy.actions) == (commands.joins, commands.leaves, commands.actions)
    assert int(copy.pitch[3]) == -16000


@pytest.mark.parametrize("data", [b"", b"\x93\x01\x02", b"\xc0", Commands(8).encode()[:-1]])
def test_bytes_that_are_no_commands_are_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        Commands(8).decode(data)


def test_commands_for_more_players_than_the_world_has_are_refused() -> None:
    large = Commands(64)
    large.set_input(63)
    with pytest.raises(CommandError, match="slot 63"):
        Commands(8).decode(large.encode())
    world = toy_world()
    with pytest.raises(CommandError, match="for 64 players"):
        world.step(large)
    assert world.tick == 0
