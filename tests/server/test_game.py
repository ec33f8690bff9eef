"""Finding games, and game packages that raise."""

import pytest

from server.app import build_world
from server.config import ServerConfig
from server.errors import GameError
from server.game import game_names, load_game
from server.maps import load_geometry
from tests.sim.toy import floor_map


def test_the_arena_is_installed_and_found_by_name_and_by_path() -> None:
    assert "arena" in game_names()
    assert load_game("arena").kinds == load_game("sim.games.arena:game").kinds


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("chess", "game 'chess': not installed; installed are .*arena"),
        ("no.such.module:game", "cannot be loaded: No module named 'no'"),
        ("tests.server.bad_games:missing", "cannot be loaded: .*missing"),
        ("tests.server.bad_games:NOT_A_FUNCTION", "5 is no function"),
        ("tests.server.bad_games:raises", r"raised RuntimeError: no licence for raises at .*bad_games\.py:\d+; mend"),
        ("tests.server.bad_games:without_players", "exactly one kind with controlled=True"),
    ],
)
def test_a_game_that_cannot_be_used_is_one_clear_line(name: str, message: str) -> None:
    with pytest.raises(GameError, match=message) as caught:
        load_game(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("raises_at_start", "raised ZeroDivisionError at start: 0"), ("reaches_too_far", "'thief' reaches for component")],
)
def test_a_game_that_fails_at_start_is_named(name: str, message: str) -> None:
    path = f"tests.server.bad_games:{name}"
    world_map = floor_map()
    with pytest.raises(GameError, match=message):
        build_world(ServerConfig(game=path), load_game(path), world_map, load_geometry(world_map, cache=False))
