"""`hitreg replay shot` says which shot is meant in one line, explains it, and draws it."""

from pathlib import Path

import pytest
from PIL import Image

from server.errors import ReplayError
from server.replay import Replay
from server.shots import explain
from server.shots_plate import PLATE_SIZE
from tests.server.recorded_script import record_script
from tools.errors import ToolsError
from tools.replay_shot import explained_shots, write_plate


@pytest.fixture(scope="module")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return Replay.open(record_script(tmp_path_factory.mktemp("shots") / "match.hitrec", ticks=90))


def test_a_shot_is_meant_by_its_number_or_by_tick_and_player(replay: Replay) -> None:
    (first,) = explained_shots(replay, number=3, at=None, player="")
    assert first.lines() == explain(replay, 3).lines()
    assert first.number == 3
    (same,) = explained_shots(replay, number=None, at=str(first.tick), player=first.name)
    assert (same.tick, same.entity, same.ray) == (first.tick, first.entity, first.ray)
    (by_id,) = explained_shots(replay, number=None, at=str(first.tick), player=hex(first.entity))
    assert by_id.entity == first.entity
    everyone = explained_shots(replay, number=None, at=str(first.tick), player="")
    assert first.entity in {shot.entity for shot in everyone}


@pytest.mark.parametrize(
    ("number", "at", "player", "words"),
    [
        (None, None, "", "give the number of a shot, or --tick"),
        (1, "5", "", "give the number of a shot, or --tick"),
        (1, None, "Ann", "give --player with --tick"),
        (None, "40", "nobody like that", "--player nobody like that: is nobody; there are player 0, player 1"),
        (None, "40", "player", "--player player: is more than one; there are player 0"),
        (None, "soon", "", "moment 'soon'"),
        (None, "999999", "", "tick 999999 cannot be played"),
        (10**6, None, "", r"the recording holds \d+ shots; choose 1 to"),
    ],
)
def test_what_cannot_be_meant_is_one_line(
    replay: Replay, number: int | None, at: str | None, player: str, words: str
) -> None:
    with pytest.raises((ToolsError, ReplayError), match=words) as caught:
        explained_shots(replay, number=number, at=at, player=player)
    assert "\n" not in str(caught.value)


def test_shots_are_drawn_below_each_other(replay: Replay, tmp_path: Path) -> None:
    shots = [explain(replay, 1), explain(replay, 2)]
    write_plate(shots, replay, tmp_path / "shots.png")
    with Image.open(tmp_path / "shots.png") as picture:
        assert picture.size == (PLATE_SIZE[0], 2 * PLATE_SIZE[1])
    with pytest.raises(ToolsError, match=r"--picture .*cannot be written"):
        write_plate(shots, replay, tmp_path / "nowhere" / "shots.png")
    with pytest.raises(ReplayError, match="20 shots in one tick; give --player"):
        write_plate(shots * 10, replay, tmp_path / "shots.png")
