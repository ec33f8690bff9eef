"""What a recording holds of a match comes back as it was; damaged headers and blocks are refused in one line."""

import struct
from dataclasses import replace

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import MatchError
from server.game import load_game
from server.match import BLOCK_TICKS_MAX, CommandBlock, CommandTape, MatchHeader, encode_block, kernel_digest
from sim.commands import Action, Commands, Join, Leave

HEADER = MatchHeader(
    game="arena", game_version="1", layout_hash="ab", kernel_digest="cd", map_source="arena", map_name="arena",
    map_hash="ef", tick_hz=60, seed=2**63 - 1, zone=3, max_rewind_ms=200, keyframe_ticks=600, players_capacity=64,
    server_version="0.1.0", started_unix_ns=1_700_000_000_000_000_000,
)  # fmt: skip
CAPACITY = 12
COLUMNS = {
    "buttons": 0xFFFF, "yaw": 0xFFFF, "pitch": 0xFFFF, "rewind": 0xFFFF, "move_forward": 0xFF, "move_right": 0xFF,
    "weapon": 0xFF,
}  # fmt: skip


def test_a_header_survives_its_dictionary() -> None:
    assert MatchHeader.from_dict(msgpack.unpackb(msgpack.packb(HEADER.to_dict()))) == HEADER


@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", -1), ("seed", "1"), ("tick_hz", 0), ("tick_hz", True), ("map_hash", None), ("game", "x" * 5000),
     ("zone", 4096), ("players_capacity", 1 << 30), ("keyframe_ticks", 0), ("format", 2), ("format", None)],
)  # fmt: skip
def test_a_header_with_a_wrong_field_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(MatchError, match=f"{field} = ") as caught:
        MatchHeader.from_dict(HEADER.to_dict() | {field: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000
    content = HEADER.to_dict()
    del content[field]
    with pytest.raises(MatchError, match=field):
        MatchHeader.from_dict(content)


def test_the_digest_of_kernels_is_of_the_game_and_of_all_that_it_rests_on() -> None:
    game = load_game("arena")
    digest = kernel_digest(game)
    assert len(digest) == 32
    assert digest == kernel_digest(load_game("sim.games.arena:game"))
    assert digest != kernel_digest(replace(game, systems=()))


def random_commands(seed: int, *, steady: bool) -> Commands:
    random = np.random.default_rng(seed)
    commands = Commands(CAPACITY)
    for name, top in COLUMNS.items():
        column = getattr(commands, name)
        column[:] = random.integers(0, top + 1, CAPACITY, dtype=np.uint32).astype(np.uint64).astype(column.dtype)
    commands.has_input[:] = True if steady else random.random(CAPACITY) < 0.6
    commands.has_input[3] = False
    return commands


def assert_same(one: Commands, other: Commands) -> None:
    assert one.has_input.tolist() == other.has_input.tolist()
    assert one.encode() == other.encode()


@settings(max_examples=40)
@given(
    ticks=st.integers(1, 70), first=st.integers(0, 2**40), seed=st.integers(0, 2**32), steady=st.booleans(),
    rows=st.integers(4, CAPACITY),
)  # fmt: skip
def test_any_block_gives_the_same_commands_and_hashes(
    ticks: int, first: int, seed: int, *, steady: bool, rows: int
) -> None:
    tape = CommandTape(CAPACITY, ticks_max=BLOCK_TICKS_MAX)
    recorded = []
    for number in range(ticks):
        commands = random_commands(seed + number, steady=steady)
        commands.has_input[rows:] = False
        if number % 7 == 2:
            commands.add(Join(2**40 + number, "Ünal", 2))
            commands.add(Leave(2**64 - 1))
            commands.add(Action(5, 1, (4, -3, 0.5, "x", b"y", (1, 2))))
        recorded.append(commands)
        tape.append(first + number, commands, 2**64 - 1 - number)
    block = CommandBlock(encode_block(tape), CAPACITY)
    assert (block.first_tick, block.tick_count) == (first, ticks)
    out = random_commands(seed - 1, steady=True) if seed else Commands(CAPACITY)
    for number in reversed(range(ticks)):
        block.fill(first + number, out)
        assert_same(out, recorded[number])
        assert block.state_hash(first + number) == 2**64 - 1 - number


def test_a_tape_can_be_used_again_and_forgets_what_was_on_it() -> None:
    tape = CommandTape(CAPACITY, ticks_max=2)
    full = random_commands(1, steady=True)
    full.add(Join(1, "a"))
    tape.append(5, full, 1)
    tape.append(6, full, 2)
    assert tape.full
    with pytest.raises(MatchError, match="tick 7 does not fit"):
        tape.append(7, full, 3)
    tape.clear()
    tape.append(7, Commands(CAPACITY), 3)
    with pytest.raises(MatchError, match="tick 9 does not fit"):
        tape.append(9, full, 3)
    block = CommandBlock(encode_block(tape), CAPACITY)
    commands = Commands(CAPACITY)
    block.fill(7, commands)
    assert not commands.has_input.any()
    assert not commands.joins
    for tick in (6, 8):
        with pytest.raises(MatchError, match="the block holds 7 to 7"):
            block.state_hash(tick)
    with pytest.raises(MatchError, match="for 3 players"):
        block.fill(7, Commands(3))
    with pytest.raises(MatchError, match="no ticks"):
        encode_block(CommandTape(CAPACITY, ticks_max=2))


def test_steady_players_take_few_bytes() -> None:
    """Turning at a constant rate leaves the same number each tick, which the chunk's compression takes away."""
    tape = CommandTape(CAPACITY, ticks_max=60)
    for tick in range(60):
        commands = Commands(CAPACITY)
        for slot in range(CAPACITY):
            commands.set_input(slot, yaw=40_000 + 700 * tick + slot, pitch=-tick, move_forward=127, rewind=2000)
        tape.append(tick, commands, 0)
    packed = zstandard.ZstdCompressor().compress(encode_block(tape))
    assert len(packed) < 60 * CAPACITY // 4


def block_bytes(discrete: object = ()) -> bytes:
    tape = CommandTape(CAPACITY, ticks_max=4)
    for tick in range(4):
        tape.append(tick, random_commands(tick, steady=False), tick)
    content = encode_block(tape)
    packed: bytes = msgpack.packb(discrete)
    return content[:8] + struct.pack("<I", len(packed)) + content[12:-1] + packed


@pytest.mark.parametrize(
    "discrete",
    [
        3, [3], [[0, [], []]], [[9, [], [], []]], [[0, [], [], []]] * 2, [[0, [[1, "a"]], [], []]],
        [[0, [[1, "a" * 33, 0]], [], []]], [[0, [["a", "a", 0]], [], []]], [[0, [[1, "a", 256]], [], []]],
        [[0, [], [-1], []]], [[0, [], ["x"], []]], [[0, [], [], [[1, 70_000, []]]]], [[0, [], [], [[1, 0, 5]]]],
        [[0, [], [1] * 1025, []]], [["0", [], [], []]], [[0, 1, 2, 3]],
    ],
)  # fmt: skip
def test_hostile_joins_leaves_and_actions_are_refused_in_one_line(discrete: object) -> None:
    with pytest.raises(MatchError, match="joins, leaves and actions are damaged") as caught:
        CommandBlock(block_bytes(discrete), CAPACITY)
    assert "\n" not in str(caught.value)
    CommandBlock(block_bytes(), CAPACITY)


def test_actions_are_held_against_the_game_where_it_is_given() -> None:
    actions = load_game("arena").actions
    number = next(n for n, spec in enumerate(actions) if spec.name == "choose_team")
    CommandBlock(block_bytes([[0, [], [], [[1, number, [1]]]]]), CAPACITY, actions=actions)
    for action in ([1, number, [99]], [1, number, []], [1, number, ["x"]], [1, len(actions), [1]]):
        content = block_bytes([[0, [], [], [action]]])
        CommandBlock(content, CAPACITY)
        with pytest.raises(MatchError, match="action"):
            CommandBlock(content, CAPACITY, actions=actions)


def test_blocks_of_larger_tables_and_damaged_sizes_are_refused() -> None:
    content = block_bytes()
    with pytest.raises(MatchError, match="do not fit"):
        CommandBlock(content, 5)
    for at, value in ((0, 9), (2, 0), (2, 255), (4, 255), (7, 255), (8, 2), (19, 255), (20, 200)):
        changed = bytearray(content)
        changed[at] = value
        with pytest.raises(MatchError):
            CommandBlock(bytes(changed), CAPACITY)
    for length in range(len(content)):
        with pytest.raises(MatchError):
            CommandBlock(content[:length], CAPACITY)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=8))
def test_flipped_bytes_give_a_block_or_one_line(changes: list[tuple[int, int]]) -> None:
    content = bytearray(block_bytes([[0, [[1, "a", 0]], [7], [[1, 0, [1]]]]]))
    for at, value in changes:
        content[at % len(content)] = value
    commands = Commands(CAPACITY)
    try:
        block = CommandBlock(bytes(content), CAPACITY)
    except MatchError as error:
        assert "\n" not in str(error)
        return
    for tick in range(block.first_tick, block.first_tick + block.tick_count):
        block.fill(tick, commands)
