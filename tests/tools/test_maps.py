"""`hitreg map`: what it prints, writes and refuses; and the fetching of the OpenArena package."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from server.maps import load_map
from server.maps.columns import cut_columns
from server.maps.topdown import topdown
from tests.server.bsp_writer import small_room
from tools.errors import ToolsError
from tools.maps import app
from tools.openarena import fetch_maps, map_names, map_path, pk3_path

runner = CliRunner()


@pytest.fixture
def room(tmp_path: Path) -> Path:
    path = tmp_path / "room.bsp"
    path.write_bytes(small_room().data())
    return path


def test_info_prints_the_facts_of_a_map(room: Path) -> None:
    result = runner.invoke(app, ["info", str(room), "--json"])
    facts = json.loads(result.stdout)
    assert result.exit_code == 0
    assert facts["name"] == "room" and facts["spawns"] == {"0": 1, "1": 1}
    assert facts["items"] == {"health": 1, "railgun": 1} and facts["triggers"] == {"push": 1}
    assert facts["size_m"] == [13.6, 13.6, 7.2] and facts["movers"] == {"func_door": 1}
    table = runner.invoke(app, ["info", str(room)]).stdout
    assert "func_door" in table and "13.6" in table


def test_import_writes_a_map_that_loads_again(room: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["import", str(room), "-o", str(tmp_path / "out.npz")])
    assert result.exit_code == 0
    assert load_map(tmp_path / "out.npz").content_hash() == load_map(room).content_hash()


def test_view_draws_two_pictures(room: Path, tmp_path: Path) -> None:
    result = runner.invoke(app, ["view", str(room), "-o", str(tmp_path / "views"), "--width", "256"])
    assert result.exit_code == 0
    for kind in ("topdown", "perspective"):
        with Image.open(tmp_path / "views" / f"room-{kind}.png") as image:
            assert image.width in range(254, 260)
            assert len(set(image.convert("RGB").get_flattened_data())) > 200


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["info", "gone.bsp"], "gone.bsp: file = No such file"),
        (["info", "arena:1"], "size = 1"),
        (["info", "map.xyz"], "map format = .xyz"),
        (["import", "arena", "-o", "x.bsp"], "--output = x.bsp"),
        (["import", "arena", "-o", "/nonexistent/x.npz"], "/nonexistent/x.npz: output"),
        (["view", "arena:0"], "size = 0"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], part: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert part in result.stderr and result.stderr.count("\n") == 1 and not result.stdout


def test_topdown_shows_floor_under_the_roof_and_north_up(room: Path) -> None:
    image, low, high = topdown(load_map(room), width_px=200)
    height, width, _ = image.shape
    assert image.dtype == np.uint8 and abs(width - 200) <= 1

    def pixel(x: float, y: float) -> tuple[int, int]:
        column = int((x - low[0]) / (high[0] - low[0]) * width)
        return height - 1 - int((y - low[1]) / (high[1] - low[1]) * height), column

    assert image[pixel(0.0, -4.0)][3] == 255  # floor, though the sky brush lies above
    assert image[0, 0, 3] == 0
    pool, floor = image[pixel(-2.4, -2.4)], image[pixel(-2.4, 2.4)]
    assert int(pool[2]) - int(pool[0]) > 60 > int(floor[2]) - int(floor[0])  # water is blue
    assert np.allclose(high - low, [12.8 + 3.0, 12.8 + 3.0], atol=0.3)


def test_columns_tell_walkable_from_reachable_space() -> None:
    world = load_map("arena")
    columns = cut_columns(world, cell_m=0.5)
    walked, reached = columns.top(columns.walked), columns.top(columns.reached)
    column = int((11.5 - columns.low[0]) / 0.5), int((11.5 - columns.low[1]) / 0.5)
    assert reached[column[1], column[0]] >= 0 and walked[column[1], column[0]] == -1  # nobody gets onto a pillar
    middle = int((0.0 - columns.low[0]) / 0.5)
    assert columns.floor[walked[middle, middle]] == pytest.approx(3.9, abs=0.005)
    assert columns.cell_of(np.array([[np.nan, 0.0, 0.0], [1e9, 0.0, 0.0]]))[1].tolist() == [False, False]


def test_the_package_is_fetched_once_and_gives_maps_by_name(openarena: Path) -> None:
    assert fetch_maps() == openarena
    assert len(map_names()) == 50 and map_names() == sorted(map_names())
    assert map_path("oa_dm2").is_file()
    with pytest.raises(ToolsError, match="oa_dm99"):
        map_path("oa_dm99")
    assert load_map(f"{pk3_path()}#oa_dm2").content_hash() == load_map(map_path("oa_dm2")).content_hash()


def test_a_failed_download_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.openarena.cache_root", lambda: tmp_path / "kernels")
    monkeypatch.setattr("tools.openarena._run", lambda command, _: f"{command[0]}: no network")
    with pytest.raises(ToolsError, match="openarena-081-maps: apt-get: no network") as caught:
        fetch_maps()
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "openarena").iterdir()) == []
    result = runner.invoke(app, ["openarena"])
    assert result.exit_code == 2 and "no network" in result.stderr
