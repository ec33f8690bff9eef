"""Golden matches play as they were recorded; what plays otherwise is named, and blessed on purpose."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from server.replay_tape import Tape
from sim.commands import Commands
from tools.golden import GOLDEN, bless_match, golden_files, open_golden
from tools.replay import app

BYTES_MAX = 300_000
FILES = golden_files()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_match_plays_as_recorded(path: Path) -> None:
    with open_golden(path) as replay:
        while replay.step():
            if replay.actual_hash != replay.expected_hash:
                changed = "\n".join(bless_match(path, write=False).lines())
                pytest.fail(
                    f"{path.name}: {changed}\nIf this change of behaviour is meant, accept it: hitreg replay bless",
                    pytrace=False,
                )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_match_has_everything_that_enters_a_world(path: Path) -> None:
    assert path.stat().st_size < BYTES_MAX
    joins = leaves = actions = 0
    rewinds: set[int] = set()
    with Tape.read(path) as tape:
        assert tape.complete
        commands = Commands(tape.header.players_capacity)
        for tick in range(1, tape.last_tick + 1):
            tape.commands_of(tick, commands)
            joins, leaves = joins + len(commands.joins), leaves + len(commands.leaves)
            actions += len(commands.actions)
            rewinds.update(np.unique(commands.rewind[commands.has_input]).tolist())
        assert tape.last_tick >= 15 * tape.header.tick_hz
        assert tape.header.map_source in {match.map for match in GOLDEN}
        assert {note.kind for note in tape.notes()} >= {"connect", "disconnect"}
    assert (joins, leaves, actions) >= (16, 4, 1)
    assert leaves >= 4
    assert actions >= 1
    assert len(rewinds) > 50


@pytest.fixture
def spoiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A golden match that was recorded when health decayed to another amount."""
    path = tmp_path / FILES[0].name
    shutil.copy(FILES[0], path)
    with monkeypatch.context() as patched:
        patched.setattr("sim.games.arena.rules.ArenaRules.__init__.__defaults__", _other_rules())
        assert bless_match(path).changed
    return path


def _other_rules() -> tuple[object, ...]:
    from dataclasses import fields

    from sim.games.arena.rules import ArenaRules

    return tuple(90.0 if field.name == "health_full" else field.default for field in fields(ArenaRules))


def test_a_change_of_behaviour_is_named_and_blessed(spoiled: Path) -> None:
    runner = CliRunner()
    before = spoiled.read_bytes()
    checked = runner.invoke(app, ["bless", str(spoiled), "--check"])
    assert checked.exit_code == 1
    assert "behaviour changed: " in checked.stdout
    assert "at the key frame of tick 600: table player, column " in checked.stdout
    assert spoiled.read_bytes() == before
    assert runner.invoke(app, ["bless", str(spoiled)]).exit_code == 0
    again = bless_match(spoiled)
    assert not again.changed
    with Tape.read(spoiled) as blessed, Tape.read(FILES[0]) as golden:
        assert [blessed.hash_of(tick) for tick in range(1, 100)] == [golden.hash_of(tick) for tick in range(1, 100)]
        assert blessed.header.map_source == golden.header.map_source
        assert len(blessed.notes()) == len(golden.notes())


def test_a_file_that_is_no_golden_match_is_not_recorded_over(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["bless", "--record", str(tmp_path / "mine.hitrec")])
    assert result.exit_code == 2
    assert "is no golden match" in result.stderr
