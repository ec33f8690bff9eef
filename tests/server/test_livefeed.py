import secrets
import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.livefeed import (
    ENTRY_BYTES,
    EVENT,
    EVENTS_MAX,
    HEADER,
    MOVER,
    NAME_BYTES,
    PICKUP,
    PLAYER,
    PLAYERS_MAX,
    PROJECTILE,
    RING_ENTRIES,
    STAGE,
    STAGES_MAX,
    FeedError,
    FeedInfo,
    LiveFeedWriter,
    feed_path,
)
from server.livemesh import LiveMesh, floor_levels, live_mesh
from server.livereader import LiveFeedReader, LiveFrame
from server.livetimes import TimingWindow
from server.maps import load_map
from sim.arrays import AnyArray
from sim.worldmap import Contents, SpawnPoint, WorldMap

INFO = FeedInfo("arena", "box", 60, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), stages=("motion", "hits"))


@pytest.fixture
def name() -> str:
    return fresh_name()


def fresh_name() -> str:
    """A feed of our own: several test runs may share a machine."""
    return f"test-{secrets.token_hex(8)}"


def filled(dtype: np.dtype[np.void], count: int, seed: int) -> AnyArray:
    """Records of random bytes, so that any field that is lost or moved shows."""
    content = np.random.default_rng(seed).integers(0, 256, count * dtype.itemsize, np.uint8)
    return content.view(dtype)


def test_a_frame_comes_out_as_it_went_in(name: str) -> None:
    kinds = {
        "players": (PLAYER, 200), "projectiles": (PROJECTILE, 31), "pickups": (PICKUP, 40), "events": (EVENT, 9),
        "movers": (MOVER, 7),
    }  # fmt: skip
    given_arrays = {key: filled(dtype, count, 3) for key, (dtype, count) in kinds.items()}
    stages = filled(STAGE, 2, 5)
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader = LiveFeedReader(name)
        assert reader.newest == 0
        writer.metrics["overruns"] = 7
        writer.publish(tick=41, wall_ns=99, stages=stages, **given_arrays)
        content = reader.read(reader.newest)
    assert content is not None
    frame = LiveFrame.from_bytes(content)
    assert (int(frame.head["tick"]), int(frame.head["wall_ns"]), int(frame.head["sequence"])) == (41, 99, 1)
    assert int(frame.head["metrics"]["overruns"]) == 7
    assert int(frame.head["metrics"]["budget_ns"]) == 16_666_666
    assert frame.stages.tobytes() == stages.tobytes()
    for key, array in given_arrays.items():
        assert getattr(frame, key).tobytes() == array.tobytes()


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=RING_ENTRIES * 2))
def test_the_ring_holds_the_newest_frames_and_only_those(counts: list[tuple[int, int]]) -> None:
    name = fresh_name()
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader = LiveFeedReader(name)
        for tick, (players, events) in enumerate(counts, start=1):
            writer.publish(
                tick=tick, wall_ns=tick, players=filled(PLAYER, players, tick), events=filled(EVENT, events, tick)
            )
        for sequence, (players, events) in enumerate(counts, start=1):
            content = reader.read(sequence)
            assert (content is not None) == (sequence > len(counts) - RING_ENTRIES)
            if content is not None:
                frame = LiveFrame.from_bytes(content)
                assert int(frame.head["tick"]) == sequence
                assert frame.players.tobytes() == filled(PLAYER, players, sequence).tobytes()
                assert frame.events.tobytes() == filled(EVENT, events, sequence).tobytes()
        assert reader.read(len(counts) + 1) is None
        assert reader.read(0) is None


def test_a_frame_being_written_is_never_handed_out(name: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader = LiveFeedReader(name)
        writer.publish(tick=1, wall_ns=1, players=filled(PLAYER, 1, 1))
        lock = writer._locks[1]
        lock[0] = 2 * (RING_ENTRIES + 1) + 1  # the writer has come round and is in the middle of this entry
        assert reader.read(1) is None
        assert reader.read(RING_ENTRIES + 1) is None


def test_a_frame_that_changes_during_the_copy_is_thrown_away(name: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader: Any = LiveFeedReader(name)
        writer.publish(tick=1, wall_ns=1, players=filled(PLAYER, 1, 1))

        class Overtaken:
            """A lock that was fine at the first look and has moved on at the second."""

            looks = 0

            def __getitem__(self, _: int) -> int:
                self.looks += 1
                return 4 if self.looks == 1 else 2 * RING_ENTRIES + 3

        reader._locks[1] = Overtaken()
        assert reader.read(1) is None
        assert reader.torn == 1


def test_what_does_not_fit_is_cut_off_and_counted(name: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader = LiveFeedReader(name)
        players, events = filled(PLAYER, PLAYERS_MAX + 3, 1), filled(EVENT, EVENTS_MAX + 2, 2)
        writer.publish(tick=1, wall_ns=1, players=players, events=events)
        content = reader.read(1)
    assert content is not None
    frame = LiveFrame.from_bytes(content)
    assert frame.players.tobytes() == players[:PLAYERS_MAX].tobytes()
    assert len(frame.events) == EVENTS_MAX
    assert int(frame.head["metrics"]["truncated"]) == 5


def test_records_of_another_type_are_refused(name: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=5) as writer, pytest.raises(TypeError, match="player"):
        writer.publish(tick=1, wall_ns=1, players=filled(EVENT, 1, 1))


def test_names_are_cut_at_a_character_and_follow_their_version(name: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=5) as writer:
        reader = LiveFeedReader(name)
        assert reader.names() == (0, [])
        writer.set_names(["Zoë", "x" * 40, "", "é" * 20, "a\0b"])
        version, names = reader.names()
        assert version == 1
        assert names == ["Zoë", "x" * NAME_BYTES, "", "é" * (NAME_BYTES // 2), "ab"]
        writer.set_names(["one"])
        assert reader.names() == (2, ["one"])
        writer.publish(tick=1, wall_ns=1, players=filled(PLAYER, 0, 1))
        content = reader.read(1)
    assert content is not None
    assert int(LiveFrame.from_bytes(content).head["names_version"]) == 2


def test_unchanging_parts_are_served_whole(name: str) -> None:
    mesh = LiveMesh(
        np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.uint32), np.array([1, 0, 0, 0, 0], np.uint32)
    )
    with LiveFeedWriter(name, INFO, now_ns=77, picture_png=b"png bytes", mesh=mesh):
        reader = LiveFeedReader(name)
        assert reader.info["map_name"] == "box"
        assert reader.info["stages"] == ["motion", "hits"]
        assert reader.picture_png == b"png bytes"
        assert reader.mesh_bytes == mesh.to_bytes()
        assert reader.started_ns == 77


def test_a_living_writer_keeps_its_feed_and_a_dead_one_is_replaced(name: str) -> None:
    first = LiveFeedWriter(name, INFO, now_ns=1)
    with pytest.raises(FeedError, match="another server writes it"):
        LiveFeedWriter(name, INFO, now_ns=2)
    reader = LiveFeedReader(name)
    assert not reader.replaced()
    content = feed_path(name).read_bytes()
    first.close()
    assert reader.closed
    assert reader.replaced()
    assert not feed_path(name).exists()
    feed_path(name).write_bytes(content)  # what a killed server leaves behind: a file without a lock
    with LiveFeedWriter(name, INFO, now_ns=3):
        assert LiveFeedReader(name).started_ns == 3
    assert not list(feed_path(name).parent.glob(feed_path(name).name + "*"))


@pytest.mark.parametrize("bad", ["", "A", "a/b", "../x", "x" * 65, "a b"])
def test_a_malformed_name_is_refused(bad: str) -> None:
    with pytest.raises(FeedError, match="a-z"):
        feed_path(bad)


def test_a_missing_feed_is_told(name: str) -> None:
    with pytest.raises(FeedError, match="is the server running"):
        LiveFeedReader(name)


@pytest.mark.parametrize("damage", ["empty", "short", "magic", "version", "offset", "entry", "cut"])
def test_a_file_that_is_no_feed_is_refused(name: str, damage: str) -> None:
    with LiveFeedWriter(name, INFO, now_ns=1):
        content = bytearray(feed_path(name).read_bytes())
    fields = HEADER.fields
    assert fields is not None

    def poke(field: str, value: int) -> None:
        struct.pack_into("<Q" if HEADER[field].itemsize == 8 else "<I", content, fields[field][1], value)

    if damage in {"magic", "version"}:
        poke(damage, 99)
    elif damage == "offset":
        poke("ring_offset", len(content))
    elif damage == "entry":
        poke("entry_bytes", ENTRY_BYTES + 64)
    size = {"empty": 0, "short": 50, "cut": len(content) - 1}.get(damage, len(content))
    feed_path(name).write_bytes(content[:size])
    try:
        with pytest.raises(FeedError, match="feed"):
            LiveFeedReader(name)
    finally:
        feed_path(name).unlink()


def test_too_many_stages_are_refused(name: str) -> None:
    info = FeedInfo("a", "b", 60, (0, 0, 0), (1, 1, 1), stages=("x",) * (STAGES_MAX + 1))
    with pytest.raises(FeedError, match="stages"):
        LiveFeedWriter(name, info, now_ns=1)
    assert not feed_path(name).exists()


def test_the_mesh_has_no_sky_and_keeps_every_other_triangle_in_place() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5], [6, 5, 5], [5, 6, 5], [9, 9, 9.0]])
    triangles = np.array([[0, 1, 2], [3, 4, 5], [2, 1, 0], [3, 5, 4], [6, 0, 1]], np.int32)
    solid, water = int(Contents.SOLID), int(Contents.WATER)
    contents = np.array([water, solid, int(Contents.PLAYER_CLIP), solid, solid | int(Contents.SKY)], np.uint16)
    mesh = live_mesh(WorldMap("m", vertices, triangles, contents, (SpawnPoint((0, 0, 0), 0),)))
    assert mesh is not None
    assert mesh.class_counts.tolist() == [2, 1, 0, 0, 0]
    expected = [vertices[triangles[number]] for number in (1, 3, 0)]
    assert np.array_equal(mesh.vertices[mesh.triangles], np.array(expected, np.float32))
    assert len(mesh.vertices) == 6


def test_floors_are_two_metres_apart() -> None:
    levels = floor_levels(load_map("arena"))
    assert levels
    assert all(high - low >= 2.0 for low, high in pairwise(levels))


def test_percentiles_are_those_of_the_window() -> None:
    window = TimingWindow(2, ticks=100)
    metrics: AnyArray = np.zeros((), [("tick_p50_ns", "<u4"), ("tick_p95_ns", "<u4"), ("tick_p99_ns", "<u4")])
    window.summarise(metrics)
    assert int(metrics["tick_p50_ns"]) == 0
    for tick in range(250):  # only the last hundred, 150 … 249, count
        window.record(np.array([tick, 1000]))
    window.summarise(metrics)
    assert window.stages["last_ns"].tolist() == [249, 1000]
    assert window.stages["p50_ns"].tolist() == [200, 1000]
    assert window.stages["p99_ns"].tolist() == [249, 1000]
    figures = [int(metrics[field]) for field in ("tick_p50_ns", "tick_p95_ns", "tick_p99_ns")]
    assert figures == [1200, 1245, 1249]
