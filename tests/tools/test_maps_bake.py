"""`hitreg map bake`: what it prints, draws and keeps; a kept file is found again, and a damaged one is made again."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from server.errors import MapError
from server.maps import load_map
from server.maps.store import map_cache
from server.maps.visibility import load_visibility
from sim import visibility_build
from sim.visibility_build import BakeOptions
from sim.worldmap import WorldMap
from tests.server.bsp_writer import small_room
from tests.sim.sightlines import same
from tools.maps import app

runner = CliRunner()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, so that every test begins without baked files; kernels stay where they are."""
    monkeypatch.setattr("server.maps.store.cache_root", lambda: tmp_path / "cache" / "kernels")
    return tmp_path / "cache" / "maps"


@pytest.fixture
def room(tmp_path: Path) -> Path:
    path = tmp_path / "room.bsp"
    path.write_bytes(small_room().data())
    return path


def test_it_prints_what_is_hidden_and_draws_it(room: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sight.png"
    result = runner.invoke(app, ["bake", str(room), "--json", "--picture", str(picture), "--from", "-4,-4,1.2"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["name"] == "room" and facts["voxel_m"] == 0.5
    assert 20 < facts["cells"] < facts["voxels"]
    assert facts["pairs_seen"] + facts["pairs_left_to_rays"] + facts["pairs_hidden"] == pytest.approx(1.0, abs=2e-4)
    with Image.open(picture) as image:
        colours = {colour for _, colour in image.getcolors(1 << 16) or []}
        assert image.mode == "RGB" and abs(image.width - 1600) < 100
        assert (64, 220, 255) in colours and (250, 214, 96) in colours
    assert "pairs_hidden" in runner.invoke(app, ["bake", str(room)]).stdout


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["bake", "gone.bsp"], "gone.bsp: file = No such file"),
        (["bake", "arena", "--from", "1,2"], "--from = 1,2: must be three numbers of metres"),
        (["bake", "arena", "--from", "1,2,nan"], "--from = 1,2,nan: must be within"),
        (["bake", "arena", "--picture", "x.gif"], "--picture = x.gif: must end in .png"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: list[str], part: str) -> None:
    result = runner.invoke(app, arguments)
    assert result.exit_code == 2
    assert part in result.stderr and result.stderr.count("\n") == 1 and not result.stdout


def test_a_picture_that_cannot_be_written_is_one_line(room: Path) -> None:
    result = runner.invoke(app, ["bake", str(room), "--picture", "/nonexistent/x.png"])
    assert result.exit_code == 2 and "/nonexistent/x.png: No such file" in result.stderr


def test_it_is_baked_once_and_found_again(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = load_map(room)
    known, sight = load_visibility(world)
    monkeypatch.setattr(visibility_build, "bake", None)
    again, _ = load_visibility(world)
    assert same(known, again)
    assert known.map_hash == world.content_hash() and len(sight.corners) < len(world.triangles)


def test_a_damaged_or_stale_file_is_made_again(room: Path) -> None:
    world = load_map(room)
    first, _ = load_visibility(world)
    kept = next(map_cache().glob("*.visibility.npz"))
    sound = kept.read_bytes()
    kept.write_bytes(sound[: len(sound) // 2])
    second, _ = load_visibility(world)
    assert np.array_equal(first.arrays[2], second.arrays[2]) and kept.read_bytes() == sound
    kept.unlink()
    beside = room.with_name("room.bsp.visibility.npz")
    load_visibility(world, beside=room)
    assert beside.read_bytes() == sound


def test_a_map_that_cannot_be_baked_is_one_clear_error(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = load_map(room)
    clip = WorldMap("clip", world.vertices, world.triangles, np.full_like(world.contents, 2), world.spawns)
    with pytest.raises(MapError, match="clip: visibility = map clip: none of its"):
        load_visibility(clip)
    coarse = functools.partial(visibility_build.bake, options=BakeOptions(cells_max=16, reach_m=0.0))
    monkeypatch.setattr(visibility_build, "bake", coarse)
    known, _ = load_visibility(world, cache=False)
    assert len(known) <= 16 and not list(map_cache().glob("*.visibility.npz"))
