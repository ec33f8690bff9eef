"""`hitreg replay`: what it prints, writes, finds and refuses; and its page in the terminal."""

import asyncio
import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pyarrow.parquet
import pytest
from textual.widgets import DataTable, Input, Label, RichLog
from typer.testing import CliRunner, Result

from server.game import load_game
from server.maps import load_geometry, load_map
from server.replay import Replay
from server.replay_tape import Tape
from server.replay_words import EventWords, clock_text, parse_moment, player_names
from sim.commands import Commands
from sim.world import World
from tests.server.recorded_script import record_script
from tools.golden_record import BotParty, record_apart
from tools.replay import app
from tools.replay_builds import Build, bisect_builds
from tools.replay_compare import compare
from tools.replay_export import ROWS_PER_GROUP
from tools.replay_tui import ReplayPage

runner = CliRunner()
ROOT = Path(__file__).parents[2]
TICKS = 240
CHANGED = 150


def change_one_button(world: World, commands: Commands) -> None:
    if world.tick == CHANGED - 1:
        commands.buttons[5] ^= 1


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings: a match, the same with one button otherwise, and one with a damaged hash."""
    home = tmp_path_factory.mktemp("recordings")
    notes: list[tuple[int, str, dict[str, Any]]] = [
        (1, "connect", {"client": 3, "entity": 0x1000000, "name": "player 0", "resumed": 0}),
        (90, "refusal", {"reason": "RATE", "entity": 0x1000000}),
        (120, "disconnect", {"client": 4, "entity": 0x1000001, "name": "Bob", "reason": "timeout"}),
    ]
    record_script(home / "match-one.hitrec", players=8, ticks=TICKS, keyframe_ticks=60, notes=notes)
    record_script(home / "match-two.hitrec", players=8, ticks=TICKS, keyframe_ticks=60, change=change_one_button)
    record_script(home / "spoiled.hitrec", players=8, ticks=100, keyframe_ticks=60, spoil_hash=33)
    return home


@pytest.fixture
def replay(home: Path) -> Iterator[Replay]:
    with Replay.open(home / "match-one.hitrec") as replay:
        yield replay


def call(home: Path, *words: str) -> Result:
    return runner.invoke(app, [words[0], *words[1:], "--dir", str(home)])


def good(home: Path, *words: str) -> str:
    result = call(home, *words)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(home: Path, *words: str) -> str:
    result = call(home, *words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("hitreg replay: ")
    assert len(result.stderr.splitlines()) == 1
    return result.stderr


def test_list_names_each_recording(home: Path) -> None:
    lines = good(home, "list").splitlines()
    assert {line.split()[0] for line in lines} == {"match-one.hitrec", "match-two.hitrec", "spoiled.hitrec"}
    assert all("arena on arena" in line for line in lines)


def test_info_tells_ticks_players_chunks_and_cost(home: Path) -> None:
    facts = json.loads(good(home, "info", "match-one", "--json"))
    assert (facts["first_tick"], facts["last_tick"], facts["length"]) == (0, TICKS, "00:04.000")
    assert (facts["players_most"], facts["joins"], facts["complete"], facts["build"]) == (8, 8, True, "this build")
    assert facts["chunks"] == {"keyframe": 5, "commands": 12, "notes": 1}
    assert facts["mb_per_player_hour"] == pytest.approx(facts["bytes"] / 1e6 / facts["player_hours"], rel=0.01)
    assert "players_most         8" in good(home, "info", "match-one")


def test_info_of_a_cut_file_says_what_is_wrong(home: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.hitrec"
    whole = (home / "match-one.hitrec").read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    facts = json.loads(good(home, "info", str(cut), "--json"))
    assert not facts["complete"]
    assert facts["problems"]
    assert 0 < facts["last_tick"] < TICKS


def test_verify_says_that_all_came_out_again(home: Path) -> None:
    said = good(home, "verify", "match-one")
    assert f"{TICKS} ticks (00:04.000) and 4 key frames came out again, bit for bit" in said
    again = json.loads(good(home, "verify", "match-one", "--from-key-frames", "--json"))
    assert (again["same"], again["ticks"], again["key_frames"]) == (True, TICKS, 4)


def test_verify_of_a_damaged_hash_exits_with_1(home: Path) -> None:
    result = call(home, "verify", "spoiled")
    assert result.exit_code == 1
    assert "tick 33: recorded hash" in result.stdout
    assert "the recorded hash is damaged" in result.stdout


def test_another_build_is_refused_with_both_digests(home: Path, tmp_path: Path) -> None:
    path = record_script(tmp_path / "old.hitrec", ticks=10, kernel_digest="a" * 32)
    assert f"recorded by build {'a' * 32}" in refused(home, "verify", str(path))
    assert "10 ticks" in good(home, "verify", str(path), "--any-build")


def test_diff_names_the_first_command_and_the_first_value(home: Path) -> None:
    result = call(home, "diff", "match-one", "match-two")
    assert result.exit_code == 1
    assert f"tick {CHANGED}: command buttons, slot 5: " in result.stdout
    assert f"tick {CHANGED}: table player, column " in result.stdout
    assert "first differs after system input, in table player, column intent.buttons" in result.stdout
    same = good(home, "diff", "match-one", str(home / "match-one.hitrec"))
    assert "commands and states are the same" in same


def test_bisect_of_two_recordings_names_tick_and_system(home: Path) -> None:
    with Replay.open(home / "match-one.hitrec") as one, Replay.open(home / "match-two.hitrec") as two:
        found = compare(one, two).state
    assert found is not None
    assert (found.tick, found.strays) == (CHANGED, "")
    assert found.difference is not None
    assert found.system.startswith("after system input")
    assert call(home, "bisect", "match-one", "match-two").exit_code == 1


def test_bisect_needs_one_of_two_things(home: Path) -> None:
    assert "--other" in refused(home, "bisect", "match-one")
    assert "no checkout" in refused(home, "bisect", "match-one", "--other", str(home))


def changed_checkout(path: Path) -> Path:
    """The project as it is, but that in the toy game tick 30 lasts twice as long."""
    for name in ("sim", "net", "server", "persistence", "tools"):
        (path / name).symlink_to(ROOT / name)
    toy = path / "tests" / "sim"
    toy.mkdir(parents=True)
    (path / "tests" / "__init__.py").touch()
    (toy / "__init__.py").touch()
    source = (ROOT / "tests" / "sim" / "toy.py").read_text(encoding="utf-8")
    longer = source.replace("[slots] * step.dt", "[slots] * step.dt * (1 + (step.tick == 30))")
    assert longer != source
    (toy / "toy.py").write_text(longer, encoding="utf-8")
    return path


@pytest.mark.slow
def test_bisect_of_two_builds_names_tick_value_and_system(tmp_path: Path) -> None:
    other = changed_checkout(tmp_path)
    name, arena = "tests.sim.toy:declare", load_map("arena")
    world = World(load_game(name), arena, load_geometry(arena))
    path = record_script(
        tmp_path / "toy.hitrec", ticks=60, players=4, keyframe_ticks=50, world=world, game=name, game_version="1"
    )  # fmt: skip
    with Tape.read(path) as tape, Build(ROOT) as own, Build(ROOT) as again, Build(other) as theirs:
        same = bisect_builds(tape, "arena", own, again)
        report = bisect_builds(tape, "arena", own, theirs)  # opened anew, both begin again
    assert (same.tick, same.ticks, same.builds[0]) == (-1, 60, same.builds[1])
    assert (report.tick, report.ticks) == (30, 29)
    assert report.builds[0] != report.builds[1]
    assert report.difference is not None
    assert (report.difference.table, report.difference.column) == ("player", "drift.position")
    assert report.system == "after system drift, in table player, column drift.position"


def test_find_reads_notes_whatever_the_build(home: Path, tmp_path: Path) -> None:
    assert "00:01.500  refusal" in good(home, "find", "refusals", "match-one")
    found = json.loads(good(home, "find", "disconnects", "match-one", "--player", "bob", "--json"))
    assert [(entry["tick"], entry["who"]) for entry in found] == [(120, "Bob")]
    assert good(home, "find", "disconnects", "match-one", "--player", "Ann") == ""
    assert good(home, "find", "refusals", "match-one", "--from", "0:02") == ""
    notes: list[tuple[int, str, dict[str, Any]]] = [(5, "flag", {"entity": 7})]
    old = record_script(tmp_path / "old.hitrec", ticks=10, kernel_digest="a" * 32, notes=notes)
    assert "flag" in good(home, "find", "notes", str(old))


def test_find_plays_for_what_was_not_noted(home: Path, replay: Replay) -> None:
    told = [json.loads(good(home, "find", what, "match-one", "--json")) for what in ("joins", "shots")]
    assert [entry["who"] for entry in told[0]] == [f"player {number}" for number in range(8)]
    shots = []
    while replay.step():
        shots += [event for event in replay.events() if event.kind == "shot"]
    assert [entry["tick"] for entry in told[1]] == [event.tick for event in shots]
    shooter = shots[0].actor
    mine = json.loads(good(home, "find", "shots", "match-one", "--player", hex(shooter), "--json"))
    assert len(mine) == sum(shooter in (event.actor, event.target) for event in shots)
    assert "choose one of kills" in refused(home, "find", "dragons", "match-one")


def test_export_writes_the_columns_that_were(home: Path, replay: Replay, tmp_path: Path) -> None:
    parquet, text = tmp_path / "a.parquet", tmp_path / "a.csv"
    columns = "player.motion.position,player.vitals,player.name"
    for target in (parquet, text):
        good(home, "export", "match-one", "-o", str(target), "--columns", columns, "--every", "7", "--from", "50")
    table = pyarrow.parquet.read_table(parquet).to_pydict()
    ticks = list(range(50, TICKS + 1, 7))
    assert sorted(set(table["tick"])) == ticks
    replay.seek(ticks[3])
    rows = [row for row, tick in enumerate(table["tick"]) if tick == ticks[3]]
    slots = replay.world.players.live_slots.tolist()
    assert [table["slot"][row] for row in rows] == slots
    motion = next(held for kind, held in replay.world.players.components.items() if kind.component_name == "motion")
    exported = [[table[f"motion.position_{axis}"][row] for axis in "xyz"] for row in rows]
    assert exported == motion.__dict__["position"][slots].tolist()
    assert table["name.text"][rows[2]] == "player 2"
    with text.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [int(line["tick"]) for line in lines] == table["tick"]
    assert [float(line["motion.position_x"]) for line in lines] == table["motion.position_x"]


def test_export_of_a_table_without_rows_is_a_table(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "empty.parquet"
    good(home, "export", "match-one", "-o", str(target), "--columns", "projectile", "--to", "0")
    assert pyarrow.parquet.read_table(target).num_rows == 0


def test_export_writes_in_groups(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.replay_export.ROWS_PER_GROUP", 100)
    target = tmp_path / "groups.parquet"
    good(home, "export", "match-one", "-o", str(target), "--columns", "player.look")
    assert pyarrow.parquet.ParquetFile(target).metadata.num_row_groups > 10
    assert ROWS_PER_GROUP > 100


def test_export_writes_all_events(home: Path, replay: Replay, tmp_path: Path) -> None:
    packed, text = tmp_path / "e.msgpack", tmp_path / "e.csv"
    for target in (packed, text):
        good(home, "export", "match-one", "--events", str(target))
    events = []
    while replay.step():
        events += replay.events()
    with packed.open("rb") as file:
        read = list(msgpack.Unpacker(file))
    assert [(entry["tick"], entry["kind"], entry["actor"], entry["value"]) for entry in read] == [
        (event.tick, event.kind, event.actor, event.value) for event in events
    ]
    with text.open(newline="", encoding="utf-8") as lines:
        assert len(list(csv.reader(lines))) == len(events) + 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["verify", "nothing-of-that-name"], "no such file"),
        (["verify", "match"], "give more of the name"),
        (["export", "match-one"], "give --output"),
        (["export", "match-one", "-o", "x.xlsx"], "must end in .csv or .parquet"),
        (["export", "match-one", "-o", "x.csv", "--columns", "dragon.look"], "there is no table 'dragon'"),
        (["export", "match-one", "-o", "x.csv", "--columns", "player.wings"], "has no such column"),
        (["export", "match-one", "-o", "x.csv", "--columns", "player,pickup"], "of one table at a time"),
        (["export", "match-one", "--events", "x.txt"], "must end in .msgpack or .csv"),
        (["find", "kills", "match-one", "--from", "0:03", "--to", "0:02"], "the end is before the begin"),
        (["find", "kills", "match-one", "--from", "soon"], "moment 'soon'"),
        (["goto", "9:59", "match-one", "--print"], "tick 35940 cannot be played"),
        (["goto", "5", "match-one", "--print", "--follow", "Zoe"], "nobody is called so"),
        (["goto", "5", "match-one", "--print", "--follow", "player"], "several are called so"),
    ],
)
def test_wrong_input_is_one_line(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in refused(home, *words)
    assert not list(tmp_path.iterdir())


def test_no_recordings_is_one_line(tmp_path: Path) -> None:
    assert "run a server first" in refused(tmp_path, "verify")
    assert "no recordings" in call(tmp_path, "list").stderr


def test_the_newest_is_meant_without_a_name(home: Path) -> None:
    assert json.loads(good(home, "info", "--json"))["file"].endswith("spoiled.hitrec")


def test_goto_prints_commands_events_and_rows(home: Path) -> None:
    text = good(home, "goto", "0:00.017", "match-one", "--print", "--table", "player", "--columns", "vitals.health")
    assert text.startswith("tick 1 (00:00.017) of 0 … 240   hash ")
    assert "join         'player 0' team 0, ticket 0" in text
    assert "  joined       player 0" in text
    assert "table player: 4 of 1024 live" in text
    assert "    vitals.health = 124.983" in text
    assert "motion.position" not in text
    one = good(home, "step", "match-one", "--at", "100", "--print", "--follow", "player 3")
    assert one.count("  input        player 3  move ") == 1
    assert "player 4" not in one


@pytest.mark.parametrize(
    ("text", "tick"), [("1234", 1234), ("0:01", 60), ("12:34.567", 45274), ("1:00:00", 216000), ("00:00.017", 1)]
)
def test_moments_are_ticks_or_times(text: str, tick: int) -> None:
    assert parse_moment(text, 60) == tick


@pytest.mark.parametrize("hz", [20, 60, 128])
def test_every_tick_is_found_by_its_own_time(hz: int) -> None:
    assert all(parse_moment(clock_text(tick, hz), hz) == tick for tick in range(0, 100_000, 37))


def test_the_page_steps_seeks_follows_and_says_what_is_wrong(replay: Replay) -> None:
    async def use() -> None:
        page = ReplayPage(replay, EventWords(replay.world.game, player_names(replay)))
        async with page.run_test(size=(160, 48)) as pilot:
            where, rows = page.query_one("#where", Label), page.query_one("#rows", DataTable)

            async def press(*keys: str) -> str:
                await pilot.press(*keys)
                await pilot.pause()
                return str(where.render())

            assert "tick 0 " in await press()
            assert "tick 2 " in await press("right", "right")
            assert rows.row_count == 8
            assert "tick 62 " in await press("pagedown")
            assert "tick 61 " in await press("left")
            assert f"tick {TICKS} " in await press("end")
            assert f"tick {TICKS} " in await press("right")
            assert "tick 1 " in await press("g", *"00:00.017", "enter")
            assert any("join" in line.text for line in page.query_one("#commands", RichLog).lines)
            assert any("joined" in line.text for line in page.query_one("#events", RichLog).lines)
            assert "following player 0" in await press("f")
            assert page.follow == 0x1000000
            assert "following" not in await press("f")
            assert "table projectile" in await press("t")
            assert "tick 1 " in await press("g", *"9:59", "enter")
            assert "cannot be played" in str(page.query_one("#said", Label).render())
            await press("g", "q")  # typed, not quit
            assert page.query_one("#moment", Input).value == "q"
            await press("escape", "q")
        assert page.return_code == 0

    asyncio.run(use())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short match of bots over UDP, recorded by a server."""
    parties = [BotParty(5, network="bad-wifi", end_s=3.0), BotParty(3, network="mobile", begin_s=1.0)]
    return record_apart(tmp_path_factory.mktemp("played"), parties=parties, seconds=5.0)


@pytest.mark.slow
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_server_s_recording_is_verified_in_a_fresh_process_with_any_thread_count(played: Path, threads: str) -> None:
    command = [sys.executable, "-m", "tools.cli", "replay", "verify", str(played), "--threads", threads, "--json"]
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [*command, "--from-key-frames"], capture_output=True, text=True, check=False, timeout=900, cwd=ROOT,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert (verdict["same"], verdict["ticks"], verdict["problems"]) == (True, 300, [])


@pytest.mark.slow
def test_kills_and_shots_of_a_server_s_recording_are_found_without_playing(played: Path) -> None:
    found = json.loads(good(played.parent, "find", "shots", "--json"))
    assert [entry["number"] for entry in found] == list(range(1, len(found) + 1))
    with Replay.open(played) as replay:
        shots = []
        while replay.step():
            shots += [(event.tick, event.actor) for event in replay.events() if event.kind == "shot"]
    assert [(entry["tick"], entry["entities"][0]) for entry in found] == shots
