"""What an imported Quake III map contains, on a map written by the test."""

import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import MapError
from server.maps.bsp import import_bsp
from server.maps.entities import launch_velocity, parse_entities
from server.maps.patches import tessellate
from sim.arrays import F64
from sim.worldmap import Contents, TriggerKind, WorldMap
from tests.server.bsp_writer import BspWriter, small_room


def imported(writer: BspWriter) -> WorldMap:
    return import_bsp(writer.data(), name="Small Room", source="small.bsp")


@pytest.fixture(scope="module")
def room() -> WorldMap:
    return imported(small_room())


def surface(world: WorldMap, chosen: np.ndarray) -> tuple[F64, F64]:
    """Area vector and enclosed volume of some triangles."""
    corner = world.vertices[world.triangles[chosen]]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]) / 2.0
    return area.sum(axis=0), (corner[:, 0] * area).sum() / 3.0


def test_scale_is_a_fortieth_of_a_metre_and_the_name_is_short(room: WorldMap) -> None:
    low, high = room.bounds
    assert np.allclose(low, [-6.8, -6.8, -0.4]) and np.allclose(high, [6.8, 6.8, 6.8])
    assert room.name == "small_room"


def test_a_brush_becomes_a_closed_surface_facing_outward() -> None:
    writer = BspWriter()
    writer.box((0, 0, 0), (40, 80, 120))
    world = imported(writer)
    total, volume = surface(world, np.ones(len(world.triangles), dtype=bool))
    assert len(world.triangles) == 12
    assert np.allclose(total, 0.0)
    assert volume == pytest.approx(1.0 * 2.0 * 3.0)


def test_bevel_planes_and_repeated_planes_add_no_faces() -> None:
    writer = BspWriter()
    diagonal = 0.5**0.5
    box = [(1, 0, 0, 40), (-1, 0, 0, 0), (0, 1, 0, 40), (0, -1, 0, 0), (0, 0, 1, 40), (0, 0, -1, 0)]
    bevels = [(diagonal, diagonal, 0, 80 * diagonal), (diagonal, 0, -diagonal, 40 * diagonal), (1, 0, 0, 40.001)]
    writer.brush([tuple(map(float, plane)) for plane in box + bevels])  # type: ignore[misc]  # map() loses the length
    assert len(imported(writer).triangles) == 12


def test_a_cut_corner_is_kept_and_the_solid_stays_closed() -> None:
    writer = BspWriter()
    root = 3.0**-0.5
    box = [(1, 0, 0, 40), (-1, 0, 0, 0), (0, 1, 0, 40), (0, -1, 0, 0), (0, 0, 1, 40), (0, 0, -1, 0)]
    writer.brush([*[tuple(map(float, plane)) for plane in box], (root, root, root, 100 * root)])  # type: ignore[list-item]  # as above
    world = imported(writer)
    total, volume = surface(world, np.ones(len(world.triangles), dtype=bool))
    assert np.allclose(total, 0.0, atol=1e-12)
    assert volume == pytest.approx(1.0 - 0.5**3 / 6.0)


@pytest.mark.parametrize(
    ("shader", "bits"),
    [
        (0, Contents.SOLID),
        (1, Contents.PLAYER_CLIP),
        (2, Contents.WATER),
        (4, Contents.SOLID | Contents.SKY),
        (5, Contents.SOLID | Contents.SLICK),
    ],
)
def test_shader_flags_become_contents(shader: int, bits: Contents) -> None:
    writer = BspWriter()
    writer.box((0, 0, 0), (40, 40, 40))
    writer.box((80, 0, 0), (120, 40, 40), shader)
    world = imported(writer)
    beyond = world.vertices[world.triangles].min(axis=1)[:, 0] > 1.5
    assert set(world.contents[beyond].tolist()) == {int(bits)}


def test_fog_and_trigger_brushes_are_not_there(room: WorldMap) -> None:
    fog = (room.vertices[:, 0] < -3.7) & (room.vertices[:, 0] > -5.1) & (room.vertices[:, 2] > 2.4)
    assert not (fog & (room.vertices[:, 2] < 2.6)).any()


def test_doors_are_movers_with_their_travel(room: WorldMap) -> None:
    (door,) = room.movers
    own = room.contents[door.triangle_first : door.triangle_first + door.triangle_count]
    assert door.classname == "func_door" and door.triangle_count == 12
    assert (own == int(Contents.SOLID | Contents.MOVER)).all()
    assert (room.contents & int(Contents.MOVER) != 0).sum() == 12
    assert door.properties["travel"] == "0.8 0 0"  # 40 units wide, less a lip of 8


def test_a_lift_rests_lowered() -> None:
    writer = small_room()
    writer.entities = writer.entities.replace('"func_door"', '"func_plat"\n"height" "60"')
    (lift,) = imported(writer).movers
    world = imported(writer)
    corner = world.vertices[world.triangles[lift.triangle_first : lift.triangle_first + lift.triangle_count]]
    assert corner[..., 2].max() == pytest.approx((80 - 60) / 40)
    assert lift.properties["travel"] == "0 0 1.5"


def test_spawn_points_stand_on_the_floor_with_team_and_direction(room: WorldMap) -> None:
    free, red = room.spawns
    assert free.position == (0.0, -2.5, 0.0) and (free.yaw, free.team) == (16384, 0)
    assert red.position == (-5.0, -5.0, 0.0) and (red.yaw, red.team) == (32768, 1)


def test_items_fall_to_the_floor_unless_suspended(room: WorldMap) -> None:
    mega, railgun = room.items
    assert (mega.kind, mega.amount) == ("health", 100) and mega.position == (0.0, 2.5, 0.375)
    assert railgun.kind == "railgun" and railgun.position == (0.25, 0.25, 3.0)


def test_a_jump_pad_throws_to_its_target(room: WorldMap) -> None:
    (push,) = room.triggers
    assert push.kind == TriggerKind.PUSH
    start = (np.array(push.low) + np.array(push.high)) / 2.0
    time = push.vector[2] / 20.0
    apex = start + np.array(push.vector) * time - [0.0, 0.0, 10.0 * time**2]
    assert np.allclose(apex, [0.0, 2.0, 4.2])


def test_a_launch_needs_a_higher_apex() -> None:
    assert launch_velocity(np.zeros(3), np.array([1.0, 0.0, 0.0])) is None


def test_maps_without_spawn_points_get_some_on_the_floor() -> None:
    writer = small_room()
    writer.entities = '{\n"classname" "worldspawn"\n}\n'
    world = imported(writer)
    assert len(world.spawns) >= 8
    for spawn in world.spawns:
        x, y, z = spawn.position
        assert abs(x) < 6.4 and abs(y) < 6.4 and -1e-9 <= z <= 1.01


def test_a_patch_stays_within_tolerance_of_its_curve() -> None:
    x, y = np.meshgrid([-200.0, 0.0, 200.0], [0.0, 50.0, 100.0])
    control = np.stack([x, y, np.where(np.abs(x) < 1.0, 400.0, 0.0)], axis=-1)
    vertices, triangles = tessellate(control, vertices_max=10_000)
    s = np.linspace(0.0, 1.0, 1001)
    curve = np.stack([-200 * (1 - s) ** 2 + 200 * s**2, 800 * s * (1 - s)], axis=-1)
    edge = vertices[vertices[:, 1] == 0.0][:, [0, 2]]
    edge = edge[np.argsort(edge[:, 0])]
    below = np.interp(curve[:, 0], edge[:, 0], edge[:, 1])
    assert len(edge) > 8 and np.abs(below - curve[:, 1]).max() <= 1.0
    assert triangles.max() == len(vertices) - 1


def test_a_flat_patch_is_two_triangles() -> None:
    x, y = np.meshgrid([0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    vertices, triangles = tessellate(np.stack([x, y, x * 0.0], axis=-1), vertices_max=9)
    assert len(vertices) == 4 and len(triangles) == 2


def test_patches_face_as_their_normals_say() -> None:
    for normal in ((0.0, 0.0, 1.0), (0.0, 0.0, -1.0)):
        writer = BspWriter()
        writer.box((-100, -100, -50), (100, 100, -40))
        x, y = np.meshgrid([-40.0, 0.0, 40.0], [-40.0, 0.0, 40.0])
        writer.patch(np.stack([x, y, x * 0.0], axis=-1), normal=normal)
        world = imported(writer)
        flat = (world.vertices[world.triangles][:, :, 2] == 0.0).all(axis=1)
        total, _ = surface(world, flat)
        assert total[2] == pytest.approx(4.0 * normal[2])


def test_entity_text_is_read_with_comments_and_braces_in_values() -> None:
    text = '{ "a" "1" // note\n "b" "x {y}" }\n{\n}'
    assert parse_entities(text, "t") == [{"a": "1", "b": "x {y}"}, {}]


@pytest.mark.parametrize("text", ["{", "}", '{ "a" }', '{ "a" "1"', "{ { } }", "word", '{ a "1" }'])
def test_broken_entity_text_is_refused(text: str) -> None:
    with pytest.raises(MapError, match="entity"):
        parse_entities(text, "t")


def patched(lump: int, at: int, value: bytes) -> bytes:
    """The small room with some bytes of a lump overwritten."""
    data = bytearray(small_room().data())
    offset, _ = struct.unpack_from("<ii", data, 8 + 8 * lump)
    data[offset + at : offset + at + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("lump", "at", "value", "field"),
    [
        (2, 0, struct.pack("<f", math.nan), "plane normal"),
        (2, 12, struct.pack("<f", math.inf), "plane distance"),
        (2, 0, struct.pack("<3f", 0, 0, 0), "plane normal"),
        (8, 0, struct.pack("<i", -1), "brush sides"),
        (8, 4, struct.pack("<i", 1 << 30), "brush sides"),
        (8, 8, struct.pack("<i", 99), "brush shader"),
        (9, 0, struct.pack("<i", 1 << 20), "side plane"),
        (9, 4, struct.pack("<i", -7), "side shader"),
        (10, 0, struct.pack("<f", math.nan), "vertex position"),
        (10, 0, struct.pack("<f", 1e9), "vertex position"),
        (13, 12, struct.pack("<i", 1000), "face vertices"),
        (13, 96, struct.pack("<ii", 1 << 16, 1 << 16), "patch size"),
        (13, 96, struct.pack("<ii", 4, 4), "patch size"),
        (7, 36, struct.pack("<i", 5000), "model brushes"),
    ],
)
def test_hostile_records_are_refused_by_name(lump: int, at: int, value: bytes, field: str) -> None:
    with pytest.raises(MapError, match=field) as caught:
        import_bsp(patched(lump, at, value), name="x", source="hostile.bsp")
    assert str(caught.value).startswith("hostile.bsp: ") and "\n" not in str(caught.value)


def test_bad_magic_version_and_lump_places_are_refused() -> None:
    data = small_room().data()
    for bad, field in (
        (b"PK\3\4" + data[4:], "magic"),
        (data[:4] + struct.pack("<i", 47) + data[8:], "version"),
        (data[:100], "file size"),
        (data[:8] + struct.pack("<ii", -1, 100) + data[16:], "lump 0"),
        (data[:8] + struct.pack("<ii", 1 << 30, 1 << 30) + data[16:], "lump 0"),
        (data[:24] + struct.pack("<ii", 144, 17) + data[32:], "lump 2"),
    ):
        with pytest.raises(MapError, match=field):
            import_bsp(bad, name="x", source="x.bsp")


def test_an_open_brush_is_refused() -> None:
    writer = BspWriter()
    writer.brush([(0.0, 0.0, 1.0, 0.0), (1.0, 0.0, 0.0, 40.0), (-1.0, 0.0, 0.0, 40.0)])
    with pytest.raises(MapError, match=r"vertex position|brush"):
        imported(writer)


def test_a_map_without_solids_is_refused() -> None:
    with pytest.raises(MapError, match="triangles"):
        imported(BspWriter())


def valid_or_refused(data: bytes) -> None:
    try:
        world = import_bsp(data, name="x", source="x.bsp")
    except MapError as error:
        assert "\n" not in str(error)
        return
    assert np.isfinite(world.vertices).all() and len(world.spawns) > 0
    assert world.triangles.min() >= 0 and world.triangles.max() < len(world.vertices)
    assert len(world.contents) == len(world.triangles)


def test_truncation_at_and_around_every_lump_boundary_is_refused_or_harmless() -> None:
    data = small_room().data()
    cuts = {0, 3, 4, 8, 143, 144, len(data) - 1}
    for lump in range(17):
        offset, length = struct.unpack_from("<ii", data, 8 + 8 * lump)
        cuts |= {offset, offset + 1, offset + length - 1, offset + length, offset + length // 2}
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(data)):
        valid_or_refused(data[:cut])


@settings(max_examples=150)
@given(
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=12),
    header=st.booleans(),
)
def test_flipped_bytes_give_a_valid_map_or_a_clear_error(flips: list[tuple[int, int]], header: bool) -> None:
    data = bytearray(small_room().data())
    for place, value in flips:
        data[place % (144 if header else len(data))] = value
    valid_or_refused(bytes(data))
