"""Recorded matches are played again from any tick, and what differs is found and named."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from persistence.recording import ChunkKind, RecordingReader, RecordingWriter
from persistence.recording_format import HEAD_BYTES
from server.errors import MapError, ReplayError, WrongBuildError
from server.replay import Replay, find_map
from server.replay_state import changed_keys, copy_columns, fingerprints, first_difference, state_columns
from server.replay_verify import verify
from sim.commands import Commands
from sim.components import Motion, Vitals
from sim.snapshot import capture
from sim.world import World
from tests.server.recorded_script import match_header, record_script
from tests.sim.arena import arena_world

TICKS = 200


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    notes: list[tuple[int, str, dict[str, Any]]] = [
        (3, "connect", {"entity": 0x1000000, "name": "Ann"}),
        (90, "refusal", {"reason": "RATE"}),
    ]
    return record_script(tmp_path_factory.mktemp("recorded") / "match.hitrec", ticks=TICKS, notes=notes)


@pytest.fixture
def replay(recorded: Path) -> Replay:
    return Replay.open(recorded)


def test_every_tick_comes_out_again(replay: Replay) -> None:
    assert (replay.first_tick, replay.last_tick, replay.tick) == (0, TICKS, 0)
    assert replay.expected_hash is None
    made = 0
    while replay.step():
        made += 1
        assert replay.tick == made
        assert replay.actual_hash == replay.expected_hash
    assert made == TICKS


def test_seeking_gives_the_state_that_playing_gives(replay: Replay) -> None:
    captures = {}
    while replay.step():
        if replay.tick in (7, 50, 51, 99, 149, 200):
            captures[replay.tick] = capture(replay.world)
    for tick in (149, 7, 200, 51, 50, 99):  # forward, back, onto key frames, within the decoded block and out of it
        replay.seek(tick)
        assert replay.tick == tick
        assert capture(replay.world) == captures[tick]


def test_making_a_tick_has_its_events_and_commands(replay: Replay) -> None:
    replay.make(1)
    assert [join.name for join in replay.commands.joins] == [f"player {number}" for number in range(4)]
    assert [event.kind for event in replay.events()].count("joined") == 4
    replay.seek(50)  # a key frame: nothing was made
    assert replay.events() == []
    assert not replay.commands.has_input.any()


@pytest.mark.parametrize("tick", [-1, TICKS + 1, 10**9])
def test_a_tick_outside_is_refused_in_one_line(replay: Replay, tick: int) -> None:
    with pytest.raises(ReplayError, match=f"tick {tick} cannot be played: choose one of 0 … {TICKS}"):
        replay.seek(tick)


def test_notes_are_found_by_tick(replay: Replay) -> None:
    assert [note.kind for note in replay.notes()] == ["connect", "refusal"]
    assert [note.tick for note in replay.notes(4, 90)] == [90]
    assert replay.notes(91) == []


def test_another_build_is_refused_with_both_digests(tmp_path: Path) -> None:
    path = record_script(tmp_path / "old.hitrec", ticks=20, kernel_digest="0" * 32)
    with pytest.raises(WrongBuildError, match=r"recorded by build 0{32} .*, this is build [0-9a-f]{32}"):
        Replay.open(path)
    assert verify(Replay.open(path, any_build=True)).same


def test_a_state_of_another_layout_is_refused_even_for_any_build(tmp_path: Path) -> None:
    path = record_script(tmp_path / "old.hitrec", ticks=20, layout_hash="f" * 32)
    with pytest.raises(WrongBuildError, match=r"layout f{32}, this build's is"):
        Replay.open(path, any_build=True)


def test_a_map_of_other_content_is_refused() -> None:
    header = replace(match_header(arena_world(), keyframe_ticks=10), map_hash="0" * 32)
    with pytest.raises(MapError, match=r"the match was played on 0{32}"):
        find_map(header)


def test_a_damaged_hash_is_told_from_a_different_state(tmp_path: Path) -> None:
    path = record_script(tmp_path / "damaged.hitrec", spoil_hash=60)
    found = verify(Replay.open(path)).mismatch
    assert found is not None
    assert (found.tick, found.compared_tick, found.difference) == (60, 100, None)
    assert "the recorded hash is damaged" in found.lines()[-1]


def test_a_different_state_names_table_column_slot_and_values(tmp_path: Path) -> None:
    def lift(world: World, _: Commands) -> None:
        if world.tick == 119:  # behind the simulation's back: no replay can know
            world.players[Vitals].health[2] = 77.5

    path = record_script(tmp_path / "changed.hitrec", change=lift, ticks=130, keyframe_ticks=120)
    found = verify(Replay.open(path)).mismatch
    assert found is not None
    assert (found.tick, found.compared_tick) == (120, 120)
    difference = found.difference
    assert difference is not None
    assert (difference.table, difference.column, difference.slot) == ("player", "vitals.health", 2)
    assert float(difference.first) != float(difference.second)
    assert "table player, column vitals.health, slot 2: " in found.lines()[1]


def test_a_difference_after_the_last_key_frame_says_that_values_are_unknown(tmp_path: Path) -> None:
    path = record_script(tmp_path / "late.hitrec", ticks=60, spoil_hash=55)
    found = verify(Replay.open(path)).mismatch
    assert found is not None
    assert "no key frame follows" in found.lines()[-1]


def test_verifying_compares_key_frames_and_can_begin_at_each(replay: Replay) -> None:
    told: list[tuple[int, int]] = []
    through = verify(replay, progress=lambda done, total: told.append((done, total)))
    each = verify(replay, each_key_frame=True)
    assert through.same
    assert each.same
    assert (through.ticks, through.key_frames) == (each.ticks, each.key_frames) == (TICKS, 4)
    assert told[-1] == (TICKS, TICKS)


def test_a_file_cut_short_is_played_up_to_its_end(recorded: Path, tmp_path: Path) -> None:
    whole = recorded.read_bytes()
    cut = tmp_path / "cut.hitrec"
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    replay = Replay.open(cut)
    assert not replay.complete
    assert replay.problems
    verdict = verify(replay)
    assert verdict.same
    assert 0 < verdict.last_tick < TICKS
    assert verdict.problems == replay.problems


def damage(recorded: Path, tmp_path: Path, kind: ChunkKind, number: int) -> Path:
    """The recording with a byte changed in the payload of one chunk."""
    chunk = [chunk for chunk in RecordingReader(recorded).chunks if chunk.kind == kind][number]
    content = bytearray(recorded.read_bytes())
    content[chunk.offset + HEAD_BYTES + chunk.stored_bytes // 2] ^= 0xFF
    damaged = tmp_path / "damaged.hitrec"
    damaged.write_bytes(content)
    return damaged


def test_a_damaged_block_is_left_out_and_the_rest_is_verified(recorded: Path, tmp_path: Path) -> None:
    replay = Replay.open(damage(recorded, tmp_path, ChunkKind.COMMANDS, 3))  # ticks 61 to 80
    with pytest.raises(ReplayError, match="tick 70 cannot be played: choose one of 0 … 60, 100 … 200"):
        replay.seek(70)
    assert [(span.first, span.last) for span in replay.spans] == [(0, 60), (100, TICKS)]
    replay.seek(60)
    assert replay.step()
    assert (replay.tick, replay.made) == (100, False)
    verdict = verify(Replay.open(replay.path))
    assert verdict.same
    assert (verdict.ticks, verdict.key_frames, verdict.last_tick) == (160, 3, TICKS)
    assert len(verdict.problems) == 1
    assert "commands of ticks 61 to 80" in verdict.problems[0]


def test_a_damaged_key_frame_is_gone_round(recorded: Path, tmp_path: Path) -> None:
    replay = Replay.open(damage(recorded, tmp_path, ChunkKind.KEYFRAME, 1))  # of tick 50
    replay.seek(70)
    assert replay.actual_hash == replay.expected_hash
    assert replay.key_frames == (0, 100, 150, 200)
    assert "keyframe of tick 50" in replay.problems[0]
    verdict = verify(Replay.open(replay.path))
    assert verdict.same
    assert (verdict.ticks, verdict.key_frames) == (TICKS, 3)
    assert len(verdict.problems) == 1


def test_a_hostile_key_frame_is_gone_round_and_named_by_what_it_holds(recorded: Path, tmp_path: Path) -> None:
    path = tmp_path / "hostile.hitrec"
    with RecordingReader(recorded) as reader, RecordingWriter(path, reader.header) as writer:
        for chunk in reader.chunks:
            content = reader.read(chunk)
            if chunk.kind is ChunkKind.KEYFRAME and chunk.first_tick == 100:
                parts = msgpack.unpackb(content)
                position = np.frombuffer(parts[4][0][2][0], np.float64).copy()
                position[3 * 2 + 1] = np.nan
                parts[4][0][2][0] = position.tobytes()
                content = msgpack.packb(parts)
            writer.append(chunk.kind, chunk.first_tick, chunk.tick_count, content)
    verdict = verify(Replay.open(path))
    assert verdict.same
    assert verdict.ticks == TICKS
    (problem,) = verdict.problems
    assert "table 'player': column motion.position of slot 2 holds nan; must be -1e+06 to 1e+06" in problem
    assert "\n" not in problem
    replay = Replay.open(path)
    replay.seek(120)
    assert replay.actual_hash == replay.expected_hash
    assert 100 not in replay.key_frames


def test_a_damaged_first_key_frame_begins_at_the_next(recorded: Path, tmp_path: Path) -> None:
    replay = Replay.open(damage(recorded, tmp_path, ChunkKind.KEYFRAME, 0))
    assert (replay.first_tick, replay.tick) == (50, 50)
    assert verify(replay).same


def test_damaged_notes_are_a_problem_of_their_own(recorded: Path, tmp_path: Path) -> None:
    replay = Replay.open(damage(recorded, tmp_path, ChunkKind.NOTES, 0))
    assert replay.notes() == []
    assert "notes" in replay.problems[0]
    assert verify(replay).same


@pytest.mark.parametrize("content", [b"", b"not a recording", b"\0" * 5000])
def test_what_is_no_recording_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.hitrec"
    path.write_bytes(content)
    with pytest.raises(ReplayError) as caught:
        Replay.open(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_key_frame_is_one_line(tmp_path: Path) -> None:
    whole = record_script(tmp_path / "whole.hitrec", ticks=20)
    with pytest.raises(ReplayError, match="no key frame that can be read"):
        Replay.open(damage(whole, tmp_path, ChunkKind.KEYFRAME, 0))


def test_states_differ_by_their_bits() -> None:
    one, other = arena_world(), arena_world()
    for world in (one, other):
        world.players.allocate_many(3)
    assert first_difference(state_columns(one), state_columns(other)) is None
    one.players[Motion].velocity[1, 2] = 0.0
    other.players[Motion].velocity[1, 2] = -0.0
    found = first_difference(state_columns(one), state_columns(other))
    assert found is not None
    assert (found.column, found.slot, found.element, found.first, found.second) == (
        "motion.velocity", 1, 2, "0.0", "-0.0",
    )  # fmt: skip
    prints = [fingerprints(state_columns(world)) for world in (one, other)]
    assert changed_keys(*prints) == [("player", "motion.velocity")]


def test_nans_of_different_bits_differ_visibly() -> None:
    world = arena_world()
    world.players.allocate()
    world.players[Vitals].health[0] = np.nan
    first = copy_columns(state_columns(world))
    world.players[Vitals].health.view(np.uint64)[0] ^= np.uint64(1)
    found = first_difference(first, state_columns(world))
    assert found is not None
    assert found.first != found.second


def test_a_column_that_one_state_lacks_is_named() -> None:
    world = arena_world()
    whole = state_columns(world)
    less = {key: value for key, value in whole.items() if key != ("player", "look.yaw")}
    found = first_difference(less, whole)
    assert found is not None
    assert (found.column, found.slot, found.first) == ("look.yaw", -1, "no such column")
