"""Every source `load_map` reads, what it keeps on the disk, and what it refuses."""

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.errors import MapError, ServerError
from server.maps import load_geometry, load_map
from server.maps.arrayfile import write_arrays
from server.maps.store import map_cache, read_map, write_map
from sim.worldmap import MOVEMENT_MASK, Contents, WorldMap
from tests.server.bsp_writer import small_room


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps are cached in a directory of the test; kernels stay where they are."""
    monkeypatch.setattr("server.maps.load.map_cache", lambda: tmp_path / "cache")
    monkeypatch.setattr("server.maps.store.map_cache", lambda: tmp_path / "cache")


def refused(source: str | Path, field: str) -> str:
    with pytest.raises(MapError) as caught:
        load_map(source)
    message = str(caught.value)
    assert "\n" not in message and field in message and message.startswith(str(source).split("#", maxsplit=1)[0])
    return message


def same(one: WorldMap, other: WorldMap) -> bool:
    return one.content_hash() == other.content_hash() and one.name == other.name and one.entities == other.entities


def test_map_errors_are_server_errors() -> None:
    assert issubclass(MapError, ServerError)


# The arena


def test_the_arena_is_deterministic_symmetrical_and_closed() -> None:
    world = load_map("arena")
    assert same(world, load_map("arena:60"))
    corner = world.vertices[world.triangles]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    assert np.allclose(area.sum(axis=0), 0.0, atol=1e-9)
    places = {spawn.position for spawn in world.spawns}
    assert len(places) == 64 and {(-y, x, z) for x, y, z in places} == places


@pytest.mark.parametrize(("size", "courts", "per_court"), [(60, 1, 64), (119, 1, 64), (120, 4, 64), (600, 100, 40)])
def test_larger_arenas_have_more_courts(size: int, courts: int, per_court: int) -> None:
    world = load_map(f"arena:{size}")
    assert len(world.spawns) == courts * per_court
    assert world.bounds[1][0] == pytest.approx(size / 2 + 1)


@pytest.mark.parametrize("size", ["", "0", "59", "1201", "-60", "6e1", "٦٠", "99999999999"])
def test_wrong_arena_sizes_are_refused(size: str) -> None:
    with pytest.raises(MapError, match="size"):
        load_map(f"arena:{size}")


def test_arena_spawn_points_stand_on_floor_with_room_for_a_body() -> None:
    world = load_map("arena")
    geometry = load_geometry(world, cache=False)
    for spawn in world.spawns:
        x, y, z = spawn.position
        t, _ = geometry.closest_hit([[x, y, z + 0.7]], [[0.0, 0.0, -1.0]], mask=MOVEMENT_MASK)
        assert t[0] == pytest.approx(0.7, abs=1e-6)
        angles = np.arange(16) * np.pi / 8.0
        around = np.column_stack([np.cos(angles), np.sin(angles), 0.0 * angles]) * 0.4
        for height in (0.3, 0.7, 1.4):
            start = np.tile([x, y, z + height], (16, 1))
            assert not geometry.any_hit(start, start + around, mask=MOVEMENT_MASK).any()


# Files


def test_bsp_and_pk3_give_the_same_map(tmp_path: Path) -> None:
    data = small_room().data()
    (tmp_path / "room.bsp").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "pak.pk3", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps/Room.bsp", data)
    assert same(load_map(tmp_path / "room.bsp"), load_map(f"{tmp_path / 'pak.pk3'}#room"))


def test_imports_are_cached_by_content_and_damage_to_the_cache_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "room.bsp"
    path.write_bytes(small_room().data())
    first = load_map(path)
    (kept,) = (tmp_path / "cache").glob("*.map.npz")
    assert same(load_map(path), first)
    kept.write_bytes(kept.read_bytes()[:200])
    assert same(load_map(path), first)
    other = small_room()
    other.entities = other.entities.replace("0 -100 24", "0 -90 24")
    path.write_bytes(other.data())
    assert load_map(path).content_hash() != first.content_hash()


def test_an_uncached_load_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "room.bsp").write_bytes(small_room().data())
    load_map(tmp_path / "room.bsp", cache=False)
    assert not (tmp_path / "cache").exists()


def test_a_written_map_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "room.bsp").write_bytes(small_room().data())
    world = load_map(tmp_path / "room.bsp")
    write_map(tmp_path / "kept.npz", world)
    assert same(load_map(tmp_path / "kept.npz"), world)
    assert load_map(tmp_path / "kept.npz").movers == world.movers


@pytest.mark.parametrize("name", ["gone.bsp", "gone.pk3#x", "gone.glb", "gone.obj", "gone.png", "gone.npz"])
def test_missing_files_are_refused(tmp_path: Path, name: str) -> None:
    refused(str(tmp_path / name), "file")


def test_directories_empty_files_and_unknown_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "dir.bsp").mkdir()
    refused(tmp_path / "dir.bsp", "regular file")
    (tmp_path / "empty.bsp").touch()
    refused(tmp_path / "empty.bsp", "size")
    refused(tmp_path / "map.wad", "map format")
    refused("arena2", "map format")


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "huge.bsp").open("wb") as stream:
        stream.truncate(1 << 40)
    refused(tmp_path / "huge.bsp", "file size")


def test_hostile_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pak.pk3"
    path.write_bytes(b"PK\3\4 no zip")
    refused(f"{path}#x", "archive")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("maps/../../evil.bsp", b"x")
        archive.writestr("/maps/evil.bsp", b"x")
        archive.writestr("maps/bomb.bsp", bytes(1 << 20))
    for name in ("evil", "../../evil", "", "x"):
        refused(f"{path}#{name}", "map name")
    monkeypatch.setattr("server.maps.archive.FILE_BYTES_MAX", 1 << 16)
    refused(f"{path}#bomb", "size")


# Map files


def arrays(world: WorldMap) -> dict[str, Any]:
    meta = {"format": 1, "name": "x", "spawns": [{"position": [0, 0, 0], "yaw": 0, "team": 0}]}
    meta |= {"items": [], "triggers": [], "movers": [], "entities": []}
    return {"vertices": world.vertices, "triangles": world.triangles, "contents": world.contents, "meta": meta}


def write_raw(path: Path, content: dict[str, Any]) -> None:
    text = np.frombuffer(json.dumps(content["meta"]).encode(), np.uint8)
    write_arrays(path, {**content, "meta": text}, compress=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vertices", np.full((8, 3), np.nan)),
        ("vertices", np.zeros((1, 3))),
        ("vertices", np.zeros((8, 2))),
        ("triangles", np.zeros((0, 3), np.int32)),
        ("triangles", np.full((4, 3), -1, np.int32)),
        ("contents", np.zeros(1, np.uint16)),
        ("meta", {}),
        ("meta", {"format": 2}),
        ("meta", []),
        ("meta", {"spawns": []}),
        ("meta", {"spawns": [{"position": [1e30, 0, 0], "yaw": 0, "team": 0}]}),
        ("meta", {"spawns": [{"position": [0, 0, 0], "yaw": 65536, "team": 0}]}),
        ("meta", {"items": "many"}),
        ("meta", {"movers": [{"classname": "x", "triangle_first": 0, "triangle_count": 1 << 40, "properties": {}}]}),
    ],
)
def test_damaged_map_files_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    content = arrays(load_map("arena"))
    if key == "meta" and isinstance(value, dict) and value and "format" not in value:
        value = {**content["meta"], **value}
    write_raw(tmp_path / "bad.npz", {**content, key: value})
    with pytest.raises(MapError):
        load_map(tmp_path / "bad.npz")


def test_an_array_header_cannot_ask_for_memory_it_does_not_bring(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    with zipfile.ZipFile(tmp_path / "bad.npz", "w") as archive:
        for name in ("vertices", "triangles", "contents", "meta"):
            archive.writestr(f"{name}.npy", member)
    refused(tmp_path / "bad.npz", "vertices")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 1 << 20), value=st.integers(0, 255))
def test_flipped_bytes_of_a_map_file_give_a_map_or_a_map_error(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "kept.npz"
    if not path.exists():
        write_map(path, load_map("arena"))
        (tmp_path / "good").write_bytes(path.read_bytes())
    data = bytearray((tmp_path / "good").read_bytes())
    data[place % len(data)] = value
    path.write_bytes(bytes(data))
    try:
        world = read_map(path)
    except MapError:
        return
    assert world.triangles.max() < len(world.vertices)


# Geometry


def test_geometry_is_built_once_and_rebuilt_when_stale_or_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim.geometry import Geometry

    built: list[str] = []
    build = Geometry.build

    def counted(world: WorldMap) -> Geometry:
        built.append(world.name)
        return build(world)

    monkeypatch.setattr("server.maps.store.Geometry.build", counted)
    beside = tmp_path / "room.bsp"
    world = load_map("arena")
    for _ in range(2):
        load_geometry(world, beside=beside)
    assert len(built) == 1 and (tmp_path / "room.bsp.geometry.npz").exists()
    load_geometry(load_map("arena:120"), beside=beside)  # another map at the same place
    assert len(built) == 2
    path = tmp_path / "room.bsp.geometry.npz"
    path.write_bytes(path.read_bytes()[:-100])
    load_geometry(world, beside=beside)
    assert len(built) == 3
    monkeypatch.setattr("server.maps.store.source_digest", lambda *_: "another version")
    load_geometry(world, beside=beside)
    assert len(built) == 4


def test_geometry_goes_to_the_cache_where_the_map_cannot_be_written_beside(tmp_path: Path) -> None:
    world = load_map("arena")
    load_geometry(world, beside=tmp_path / "missing" / "room.bsp")
    assert [path.name.split("-")[0] for path in (tmp_path / "cache").glob("*.geometry.npz")] == ["arena"]
    assert map_cache().name == "maps"


# Heightmaps


def png(width: int, height: int, depth: int, samples: bytes, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(samples)) + chunk(b"IEND", b"")


def slope(width: int, height: int) -> bytes:
    """White in the north-west corner, falling to the east and the south."""
    rows = b""
    for row in range(height):
        line = [65535 - 65535 * (row + column) // (width + height - 2) for column in range(width)]
        rows += b"\0" + struct.pack(f">{width}H", *line)
    return rows


def test_a_heightmap_is_placed_scaled_and_north_up(tmp_path: Path) -> None:
    (tmp_path / "hill.png").write_bytes(png(9, 5, 16, slope(9, 5)))
    (tmp_path / "hill.toml").write_text(
        "cell_m = 2.0\nlow_m = -1.0\nhigh_m = 7.0\norigin = [100, 0, 10]\nspawns = [[101.0, 1.0, 90.0]]\n"
    )
    world = load_map(tmp_path / "hill.png")
    ground = world.vertices[np.unique(world.triangles[world.contents == int(Contents.SOLID)])]
    assert np.allclose(ground.min(axis=0), [92.0, -4.0, 9.0]) and np.allclose(ground.max(axis=0), [108.0, 4.0, 17.0])
    assert np.allclose(ground[np.argmax(ground[:, 2])], [92.0, 4.0, 17.0])
    corner = world.vertices[world.triangles[world.contents == int(Contents.SOLID)]]
    assert (np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2] > 0.0).all()
    (spawn,) = world.spawns
    assert spawn.yaw == 16384 and spawn.position[2] == pytest.approx(13.0 - 8.0 * 0.0, abs=0.5)
    assert (world.contents == int(Contents.PLAYER_CLIP)).sum() == 8


def test_a_heightmap_without_description_gets_spawn_points(tmp_path: Path) -> None:
    flat = b"".join(b"\0" + b"\x80\x00" * 33 for _ in range(33))
    (tmp_path / "flat.png").write_bytes(png(33, 33, 16, flat))
    world = load_map(tmp_path / "flat.png")
    assert len(world.spawns) >= 16
    assert all(spawn.position[2] == pytest.approx(64.0 * 0x8000 / 65535) for spawn in world.spawns)


def test_bad_pictures_and_descriptions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    good = png(4, 4, 16, slope(4, 4))
    for data, field in (
        (b"GIF89a" + bytes(60), "signature"),
        (good[:20], "signature"),
        (good[:60], "PNG data"),
        (good[:-30], "PNG data"),
        (png(4, 4, 8, b"\0" * 60, colour=2), "colour type"),
        (png(100_000, 100_000, 16, b""), "picture size"),
        (png(1, 4, 16, b""), "picture size"),
        (png(4000, 4000, 16, b""), "picture size"),
        (png(4, 4, 16, b"\0"), "PNG data"),
    ):
        path.write_bytes(data)
        refused(path, field)
    path.write_bytes(good)
    for text, field in (
        ("cell_m = 0", "cell_m"),
        ("cell_m = nan", "cell_m"),
        ("cell_m = true", "cell_m"),
        ("low_m = 70", "high_m"),
        ("origin = [1, 2]", "origin"),
        ("spawns = [[900, 0, 0]]", "spawns"),
        ("spawns = 3", "spawns"),
        ("colour = 1", "colour"),
        ("cell_m =", "TOML"),
    ):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(MapError, match=field):
            load_map(path)


# glTF and OBJ


def gltf(**changes: Any) -> tuple[dict[str, Any], bytes]:
    """A floor of 20 × 20 m in the XZ plane, and a spawn node; as (document, buffer)."""
    points = np.array([[-10, 0, -10], [-10, 0, 10], [10, 0, 10], [10, 0, -10]], "<f4")
    indices = np.array([0, 1, 2, 0, 2, 3], "<u2")
    blob = points.tobytes() + indices.tobytes()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [
            {"name": "floor", "mesh": 0, "translation": [0, 2, 0]},
            {
                "name": "spawn_red",
                "translation": [3, 2, -4],
                "rotation": [0, 0.7071067811865476, 0, 0.7071067811865476],
            },
        ],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": 4,
                "type": "VEC3",
                "min": [-10, 0, -10],
                "max": [10, 0, 10],
            },
            {"bufferView": 1, "componentType": 5123, "count": 6, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 12},
        ],
        "buffers": [{"byteLength": 60}],
    }
    return {**document, **changes}, blob


def glb(document: dict[str, Any], blob: bytes) -> bytes:
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    blob += bytes(-len(blob) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def test_a_glb_scene_is_turned_to_z_up_with_its_spawn_node(tmp_path: Path) -> None:
    (tmp_path / "Flat Map.glb").write_bytes(glb(*gltf()))
    world = load_map(tmp_path / "Flat Map.glb")
    assert world.name == "flat_map"
    low, high = world.bounds
    assert np.allclose(low, [-10, -10, 2]) and np.allclose(high, [10, 10, 2])
    corner = world.vertices[world.triangles]
    assert (np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2] > 0.0).all()
    (spawn,) = world.spawns
    assert spawn.position == pytest.approx((3.0, 4.0, 2.0)) and spawn.team == 1
    assert spawn.yaw == 0  # +Z turned by 90 degrees about Y is +X


def test_a_gltf_reads_buffers_beside_it_only(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "map.gltf"
    for uri, found in (("data.bin", True), ("../data.bin", False), ("/etc/passwd", False), ("http://x/y", False)):
        document, blob = gltf(buffers=[{"byteLength": 60, "uri": uri}])
        (tmp_path / "data.bin").write_bytes(blob)
        (tmp_path / "in" / "data.bin").write_bytes(blob)
        path.write_text(json.dumps(document))
        if found:
            assert len(load_map(path).triangles) == 2
        else:
            refused(path, "uri")


def test_a_mirrored_node_keeps_faces_outward(tmp_path: Path) -> None:
    document, blob = gltf()
    document["nodes"][0]["scale"] = [-1, 1, 1]
    (tmp_path / "m.glb").write_bytes(glb(document, blob))
    world = load_map(tmp_path / "m.glb")
    corner = world.vertices[world.triangles]
    assert (np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2] > 0.0).all()


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"asset": {"version": "1.0"}}, "asset.version"),
    ({"accessors": [{"count": 1 << 40, "componentType": 5126, "type": "VEC3"}]}, "accessors"),
    ({"accessors": [{"bufferView": 0, "count": 1 << 40, "componentType": 5126, "type": "VEC3"}]}, "count"),
    ({"bufferViews": [{"buffer": 0, "byteOffset": 50, "byteLength": 48}]}, "bufferViews"),
    ({"bufferViews": [{"buffer": 7, "byteLength": 4}]}, "bufferViews"),
    ({"nodes": [{"mesh": 0, "children": [1]}, {"children": [0]}]}, "depth"),
    ({"nodes": [{"mesh": 9}, {}]}, "mesh"),
    ({"nodes": [{"mesh": 0, "children": [1, 1]}, {}]}, "parents"),
    ({"nodes": [{"mesh": 0}, {"name": "spawn", "translation": [1e300, 0, "x"]}]}, "transform"),
    ({"scene": 3}, "scene"),
    ({"meshes": []}, "mesh"),
    ({"meshes": [{"primitives": [{"attributes": {"POSITION": 55}}]}]}, "accessor"),
    ({"scenes": [{"nodes": []}]}, "triangles"),
]


@pytest.mark.parametrize(("changes", "field"), HOSTILE)
def test_hostile_gltf_is_refused(tmp_path: Path, changes: dict[str, Any], field: str) -> None:
    (tmp_path / "x.glb").write_bytes(glb(*gltf(**changes)))
    refused(tmp_path / "x.glb", field)


def test_truncated_and_nonsense_gltf_is_refused(tmp_path: Path) -> None:
    data = glb(*gltf())
    for number, cut in enumerate((1, 11, 12, 19, 20, 40, len(data) - 61, len(data) - 1)):
        path = tmp_path / f"{number}.glb"
        path.write_bytes(data[:cut])
        refused(path, str(path))
    for number, text in enumerate((b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000)):
        path = tmp_path / f"{number}.gltf"
        path.write_bytes(text)
        refused(path, str(path))


def test_nan_positions_are_refused(tmp_path: Path) -> None:
    document, blob = gltf()
    (tmp_path / "x.glb").write_bytes(glb(document, np.float32(np.nan).tobytes() + blob[4:]))
    refused(tmp_path / "x.glb", "vertex position")


OBJ = """o floor
v -10 1 -10
v -10 1 10
v 10 1 10
v 10 1 -10
f 1 2 3 4
o spawn_a
v 2 1 2
v 2 1 3
v 3 2 3
f 5 6 7
"""


def test_an_obj_model_with_a_spawn_object(tmp_path: Path) -> None:
    (tmp_path / "m.obj").write_text(OBJ)
    world = load_map(tmp_path / "m.obj")
    assert len(world.triangles) == 2 and np.allclose(world.bounds[0], [-10, -10, 1])
    (spawn,) = world.spawns
    assert spawn.position == pytest.approx((2.5, -2.5, 1.0))


@pytest.mark.parametrize(
    "text", ["f 1 2 3\n", "v 0 0 0\nv 1 0 0\nf 1 2 9\n", "nonsense", "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"]
)
def test_bad_obj_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.obj").write_text(text)
    refused(tmp_path / "m.obj", "m.obj")


def test_a_wall_without_floor_is_no_map(tmp_path: Path) -> None:
    (tmp_path / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    refused(tmp_path / "m.obj", "walkable floor")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_of_a_glb_give_a_map_or_a_map_error(tmp_path: Path, flips: list[tuple[int, int]]) -> None:
    data = bytearray(glb(*gltf()))
    for place, value in flips:
        data[place % len(data)] = value
    stream = io.BytesIO(bytes(data))
    (tmp_path / "x.glb").write_bytes(stream.read())
    try:
        world = load_map(tmp_path / "x.glb")
    except MapError:
        return
    assert np.isfinite(world.vertices).all()
