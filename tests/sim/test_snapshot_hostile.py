"""A hostile capture: whatever its columns hold, it is refused in one line, or plays on without harm.

`make checked` runs this with every array access of every kernel checked.
"""

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from sim.arrays import AnyArray
from sim.commands import Button, Commands, Join
from sim.components import Motion, Pickup, Projectile, Vitals
from sim.errors import DeclarationError, SnapshotError
from sim.games.arena.components import Arms, Gait, Match
from sim.movers import Turn
from sim.plugin import Registration
from sim.schema import VALUE_MAX, Component
from sim.snapshot import capture, restore, state_hash
from sim.systems import Intent
from sim.world import World
from tests.server.bsp_writer import lift_hall
from tests.sim.arena import arena_world
from tests.sim.toy import Drift

PLAYERS = 8
STEPS = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world with a lift, a door and things to take, in which players run and fire."""
    path = tmp_path_factory.mktemp("maps") / "hall.bsp"
    hall = lift_hall()
    for number in range(3):
        hall.entity(classname="item_health", origin=f"{-80 * number} 160 24")
    path.write_bytes(hall.data())
    return arena_world(source=path)


@pytest.fixture(scope="module")
def taken(world: World) -> bytes:
    """A capture of it with things in flight."""
    commands = Commands(world.players.capacity)
    for number in range(PLAYERS):
        commands.add(Join(number, f"P{number}"))
    world.step(commands)
    arms = world.players[Arms]
    while world.tables["projectile"].live_count < 3:
        assert world.tick < 600
        press(world, commands)
        arms.owned[:PLAYERS], arms.loaded[:PLAYERS], arms.reserve[:PLAYERS] = 0xFFFF, 5, 20
        world.step(commands)
    return capture(world)


def tables(world: World) -> list[tuple[str, int, type[Component], str]]:
    """Table, its place in a capture, component and name of every column."""
    return [
        (table.name, number, component, name)
        for number, table in enumerate(world.tables.values())
        for component in table.components
        for name in component.columns
    ]


def changed(
    world: World, data: bytes, table: str, component: type[Component], name: str, change: Callable[[AnyArray], None]
) -> bytes:
    """A capture with one column changed in place; it comes as an array (rows, ...)."""
    parts = msgpack.unpackb(data)
    number = list(world.tables).index(table)
    columns = [(kind, column) for kind in world.tables[table].components for column in kind.columns]
    place = columns.index((component, name))
    declared = component.columns[name]
    kept = parts[4][number][2]
    held = np.frombuffer(kept[place], declared.dtype).reshape(-1, *declared.shape).copy()
    change(held)
    kept[place] = held.tobytes()
    return bytes(msgpack.packb(parts))


def put(slot: int, value: Any) -> Callable[[AnyArray], None]:
    """Put a value into a row, the last where there are not so many, none where there is none."""

    def change(held: AnyArray) -> None:
        raw = held.view(np.uint8) if held.dtype == np.bool_ else held
        if len(raw):
            raw[min(slot, len(raw) - 1)] = value

    return change


@pytest.mark.parametrize(
    ("table", "component", "name", "value", "words"),
    [
        ("player", Motion, "position", math.nan, "holds nan; must be -1e+06 to 1e+06"),
        ("player", Motion, "position", 1e300, "holds 1e+300; must be"),
        ("player", Motion, "velocity", -math.inf, "holds -inf; must be"),
        ("player", Vitals, "health", math.nan, "holds nan"),
        ("player", Vitals, "alive", 7, "holds 7; must be 0 to 1"),
        ("player", Vitals, "team", 9, "holds 9; must be 0 to 4"),
        ("player", Vitals, "born", -5, "holds -5; must be 0 to"),
        ("player", Arms, "weapon", 200, "holds 200; must be 0 to"),
        ("player", Arms, "loaded", -1, "holds -1; must be 0 to 32767"),
        ("player", Gait, "walked_m", 1e9, "holds 1000000000.0; must be 0 to 100"),
        ("projectile", Projectile, "weapon", 255, "holds 255; must be 0 to"),
        ("pickup", Pickup, "item", 99, "holds 99; must be 0 to"),
        ("mover", Turn, "opens", 2, "holds 2; must be 0 to 1"),
        ("match", Match, "number", 2**31 - 1, "holds 2147483647; must be 0 to"),
    ],
)
def test_a_value_that_cannot_be_is_named_by_table_column_and_slot(
    world: World, taken: bytes, table: str, component: type[Component], name: str, value: Any, words: str
) -> None:
    restore(world, taken)
    before = state_hash(world)
    slot = world.tables[table].high_water - 1
    if slot < 0:
        pytest.fail(f"the capture has no {table}")
    bad = changed(world, taken, table, component, name, put(slot, value))
    with pytest.raises(SnapshotError) as caught:
        restore(world, bad)
    text = str(caught.value)
    assert text.startswith(f"table '{table}': column {component.component_name}.{name} of slot {slot} {words}")
    assert "\n" not in text
    assert state_hash(world) == before
    assert capture(world) == taken


def test_who_only_watches_waits_for_ever_and_is_let_in(world: World, taken: bytes) -> None:
    watching = changed(world, taken, "player", Vitals, "respawn_s", put(0, math.inf))
    restore(world, watching)
    assert world.players[Vitals].respawn_s[0] == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e300])
def test_memories_hold_numbers(world: World, taken: bytes, value: float) -> None:
    restore(world, taken)
    before = capture(world)
    for number, memory in enumerate(world.memories.values()):
        views = memory.views(world.tick, world.players.high_water)
        part = next(place for place, view in enumerate(views) if view.dtype == np.float64 and view.size)
        parts = msgpack.unpackb(taken)
        held = np.frombuffer(parts[5][number][part], np.float64).copy()
        held[1] = value
        parts[5][number][part] = held.tobytes()
        with pytest.raises(SnapshotError, match=rf"memory {type(memory).__name__}: part {part}, value 1, holds"):
            restore(world, msgpack.packb(parts))
    assert capture(world) == before


def interesting(dice: random.Random, dtype: np.dtype[Any]) -> Any:
    """A value that is likely to do harm."""
    if dtype.kind == "f":
        return dice.choice([math.nan, math.inf, -math.inf, 1e300, VALUE_MAX, -VALUE_MAX, 1e6, -1e6, 5e-324, 0.0])
    if dtype.kind == "b":
        return dice.choice([0, 1, 2, 255])
    info = np.iinfo(dtype)
    return dice.choice([int(info.min), int(info.max), 0, 1, dice.randint(int(info.min), int(info.max))])


def press(world: World, commands: Commands) -> None:
    """Everybody runs and fires, at moments of the past."""
    commands.clear()
    for slot in range(world.players.high_water):
        commands.set_input(
            slot, buttons=int(Button.FIRE | Button.JUMP), move_forward=127, yaw=slot * 9000 + world.tick * 500,
            pitch=-500 * (world.tick % 5), weapon=1 + (slot + world.tick // 40) % 9, rewind=900 * (slot % 6),
        )  # fmt: skip


# Harmless in a float, but numpy and Python say so: a capture may hold what overflows a float32 or a square.
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_capture_holds_is_refused_or_plays_on(world: World, taken: bytes, seed: int) -> None:
    dice = random.Random(seed)
    columns = tables(world)
    commands = Commands(world.players.capacity)
    refused = played = 0
    for _ in range(40):
        bad = taken
        for _ in range(dice.choice((1, 1, 3))):
            table, _, component, name = dice.choice(columns)
            slot = dice.randrange(max(world.tables[table].high_water, 1))
            value = interesting(dice, component.columns[name].dtype)
            bad = changed(world, bad, table, component, name, put(slot, value))
        restore(world, taken)
        try:
            restore(world, bad)
        except SnapshotError as error:
            refused += 1
            assert "\n" not in str(error)
            assert capture(world) == taken
            continue
        played += 1
        for _ in range(STEPS):
            press(world, commands)
            world.step(commands)
    assert refused >= 5
    assert played >= 5


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("extreme", ["low", "high"])
def test_the_bounds_of_every_column_play_on(world: World, taken: bytes, extreme: str) -> None:
    """Every row of each column in turn holds the least, or the greatest, of what is let in."""
    commands = Commands(world.players.capacity)
    for table, number, component, name in tables(world):
        low, high = world.game.kinds[number].bounds_of(component, name)
        value = low if extreme == "low" else high

        def fill(held: AnyArray, value: float = value) -> None:
            held[...] = value

        restore(world, changed(world, taken, table, component, name, fill))
        for _ in range(3):
            press(world, commands)
            world.step(commands)


@pytest.mark.parametrize("spoil", [lambda parts: parts[4].pop(), lambda parts: parts.__setitem__(4, 5)])
def test_other_tables_are_refused(world: World, taken: bytes, spoil: Callable[[list[Any]], object]) -> None:
    parts = msgpack.unpackb(taken)
    spoil(parts)
    with pytest.raises(SnapshotError, match="does not have 5 tables"):
        restore(world, msgpack.packb(parts))


@pytest.mark.parametrize("number", [1.5, "3", None, True, -1, 2**63])
def test_numbers_that_are_none_are_refused(world: World, taken: bytes, number: object) -> None:
    for place in range(3):
        parts = msgpack.unpackb(taken)
        parts[4][0][0][place] = number
        with pytest.raises(SnapshotError, match="table 'player'"):
            restore(world, msgpack.packb(parts))


def test_a_bound_of_no_column_is_a_mistake_of_the_game() -> None:
    registration = Registration("toy")
    with pytest.raises(DeclarationError, match=r"kind 'crate': bounds of 'drift\.weight', which is no column"):
        registration.kind("crate", Drift, capacity=1, bounds={"drift.weight": (0, 1)})
    registration.kind("crate", Drift, capacity=1, controlled=True, bounds={"drift.position": (-5.0, 5.0)})
    (kind,) = registration.freeze().kinds
    assert kind.bounds_of(Drift, "position") == (-5.0, 5.0)
    found = [Intent.columns["move_forward"].bounds, Arms.columns["pressed"].bounds]
    assert found == [(-128, 127), (0, 1)]


def test_recorded_matches_stay_within_the_bounds(tmp_path: Path) -> None:
    """Every capture of a match that was really played is let in, on maps with and without movers."""
    from tools.golden import golden_files, open_golden

    for path in golden_files():
        with open_golden(path) as replay:
            while replay.step():
                if replay.tick % 30 == 0:
                    restore(replay.world, capture(replay.world))
