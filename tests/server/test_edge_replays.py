"""Recordings over HTTP and WebSocket: the real edge, real workers, recordings whole, cut, foreign and hostile."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from persistence.recording import ChunkKind, RecordingReader, RecordingWriter
from server.edge.replays import IDLE_S, Recordings, Replays, Worker, is_allowed
from server.edge.settings import EdgeSettings
from server.livemesh import live_mesh
from server.livereader import LiveFrame
from server.maps import load_map
from server.replay import Replay
from server.replay_wire import CHUNK, Binary
from server.shots import explain
from tests.server.edge_process import ROOT, Edge, running_edge
from tests.server.recorded_hunt import GAME, STAGES, Recorded, record_match

WAIT_S = 120.0  # the first worker may have to compile kernels
TICKS = 300


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    return record_match(tmp_path_factory.mktemp("recordings"), players=10, ticks=TICKS)


@pytest.fixture(scope="module")
def directory(recorded: Recorded) -> Path:
    """The recording, and beside it what else can lie there."""
    place = recorded.path.parent
    whole = recorded.path.read_bytes()
    (place / "cut.hitrec").write_bytes(whole[: len(whole) * 2 // 3])
    (place / "nothing.hitrec").write_bytes(b"")
    (place / "notes.txt").write_text("not a recording")
    (place.parent / "outside.hitrec").write_bytes(whole)
    (place / "link.hitrec").symlink_to(place.parent / "outside.hitrec")
    (place / "deep.hitrec").mkdir()
    with RecordingReader(recorded.path) as reader:
        foreign = reader.header | {"kernel_digest": "f" * 32}
        with RecordingWriter(place / "foreign.hitrec", foreign) as writer:
            for chunk in reader.chunks:
                writer.append(chunk.kind, chunk.first_tick, chunk.tick_count, reader.read(chunk))
    return place


@pytest.fixture(scope="module")
def edge(directory: Path) -> Iterator[Edge]:
    with running_edge("no-feed", "--record-dir", str(directory), "--replays-max", "8") as running:
        yield running


class Page:
    """A page without a browser: what came, by type."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.asked = 100

    def ask(self, **request: Any) -> None:
        self.socket.send(json.dumps(request))

    def text(self, kind: str) -> dict[str, Any]:
        """The next text message of a type."""
        while True:
            content = self.socket.recv(timeout=WAIT_S)
            if isinstance(content, str):
                message: dict[str, Any] = json.loads(content)
                if message["type"] == kind:
                    return message
                assert message["type"] != "failed", message

    def binary(self, kind: int) -> bytes:
        """The next binary message of a kind."""
        while True:
            content = self.socket.recv(timeout=WAIT_S)
            if isinstance(content, bytes) and int.from_bytes(content[:2], "little") == kind:
                return content

    def frames(self, first: int, last: int, stride: int = 1) -> list[LiveFrame]:
        """The frames of an answer; the one that every recording opens with has the id 0."""
        self.asked += 1
        self.ask(op="frames", id=self.asked, turn=self.asked, first=first, last=last, stride=stride)
        return unpack(self.chunk(self.asked))

    def chunk(self, number: int) -> bytes:
        """The chunk of that id."""
        while True:
            chunk = self.binary(Binary.CHUNK)
            if CHUNK.unpack_from(chunk)[2] == number:
                return chunk


def unpack(chunk: bytes) -> list[LiveFrame]:
    _, _, _, _, count = CHUNK.unpack_from(chunk)
    frames, at = [], CHUNK.size
    for _ in range(count):
        length = int.from_bytes(chunk[at : at + 4], "little")
        frames.append(LiveFrame.from_bytes(chunk[at + 4 : at + 4 + length]))
        at += 4 + length
    assert at == len(chunk)
    return frames


@contextmanager
def watching(edge: Edge, name: str, **more: object) -> Iterator[Page]:
    query = "&".join(f"{key}={value}" for key, value in {"file": name, **more}.items())
    with connect(f"ws://{edge.host}/replay?{query}", proxy=None, max_size=1 << 26) as socket:
        yield Page(socket)


@pytest.fixture(scope="module")
def page(edge: Edge, recorded: Recorded) -> Iterator[Page]:
    """A page that plays the whole recording; what comes at its begin has been taken."""
    with watching(edge, recorded.path.name) as opened:
        opened.text("index")
        yield opened


def failure(edge: Edge, name: str) -> str:
    """The line that a page is told in place of a match."""
    with watching(edge, name) as page:
        while True:
            content = page.socket.recv(timeout=WAIT_S)
            message = json.loads(content)
            if message["type"] == "failed":
                return str(message["text"])
            assert message["type"] in {"ready", "preparing"}, message


def test_the_list_names_what_there_is_and_what_is_wrong_with_it(edge: Edge, recorded: Recorded) -> None:
    answer = edge.ask("api/replays").json
    found = {entry["name"]: entry for entry in answer["recordings"]}
    assert set(found) == {recorded.path.name, "cut.hitrec", "nothing.hitrec", "foreign.hitrec"}
    whole = found[recorded.path.name]
    assert (whole["map"], whole["game"], whole["complete"], whole["problems"]) == ("arena", GAME, True, [])
    assert whole["seconds"] == pytest.approx(TICKS / 60, abs=0.1)
    cut = found["cut.hitrec"]
    assert not cut["complete"]
    assert "cut short" in " ".join(cut["problems"]) or "not closed" in " ".join(cut["problems"])
    assert found["nothing.hitrec"]["unreadable"]
    assert str(recorded.path.parent) not in json.dumps(answer)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../outside.hitrec", "link.hitrec", "deep.hitrec", "notes.txt", "none.hitrec", "/etc/passwd",
        "%2e%2e%2foutside.hitrec", "a%00.hitrec", ".hitrec", "x" * 300 + ".hitrec",
    ],
)  # fmt: skip
def test_no_name_leaves_the_directory(edge: Edge, name: str) -> None:
    assert failure(edge, name) == "There is no recording of that name. Choose one from the list."


def test_names_are_checked_by_themselves_too(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in ("in/a.hitrec", "b.hitrec"):
        (tmp_path / place).write_bytes(b"x")
    recordings = Recordings(tmp_path / "in")
    assert recordings.path("a.hitrec") == tmp_path / "in" / "a.hitrec"
    for name in ("../b.hitrec", "in/a.hitrec", "./a.hitrec", str(tmp_path / "b.hitrec"), "a.hitrec\0", "a"):
        assert recordings.path(name) is None
    assert Recordings(None).path("a.hitrec") is None


def test_a_recording_is_opened_where_the_page_wishes(edge: Edge, recorded: Recorded) -> None:
    with watching(edge, recorded.path.name, tick=200) as page:
        opened = page.text("opened")
        assert (opened["first"], opened["last"], opened["complete"], opened["problems"]) == (0, TICKS, True, [])
        assert opened["file"] == recorded.path.name
        (frame,) = unpack(page.binary(Binary.CHUNK))
        assert int(frame.head["tick"]) == 200
        mesh = live_mesh(load_map("arena"))
        assert mesh is not None
        assert page.binary(Binary.MESH)[4:] == mesh.to_bytes()


def test_frames_are_the_match_that_was_recorded(page: Page, recorded: Recorded) -> None:
    for tick in (250, 131, 132, 40):
        (frame,) = page.frames(tick, tick)
        shown = {int(row["id"]): row["position"] for row in frame.players}
        assert set(shown) == set(recorded.positions[tick])
        for entity, position in recorded.positions[tick].items():
            assert shown[entity] == pytest.approx(position, abs=1e-4)


def test_no_event_is_missed_or_told_twice_at_any_stride(page: Page, recorded: Recorded) -> None:
    expected = [shot for shot in recorded.shots if 20 < shot[0] <= 180]
    assert len(expected) > 50
    for stride in (1, 4, 8):
        frames = page.frames(20 + stride, 100, stride) + page.frames(100 + stride, 180, stride)
        assert [int(frame.head["tick"]) for frame in frames] == list(range(20 + stride, 181, stride))
        shots = [(int(row["tick"]), int(row["actor"])) for frame in frames for row in frame.events if row["kind"] == 1]
        assert shots == expected


def test_the_index_tells_of_the_whole_match(edge: Edge, recorded: Recorded) -> None:
    with watching(edge, recorded.path.name) as page:
        page.text("opened")
        shots = page.binary(Binary.SHOTS)
        index = page.text("index")
        players = [int(entity) for entity, _ in index["players"]]
        count = int.from_bytes(shots[4:8], "little")
        assert (count, index["shots"]) == (len(recorded.shots),) * 2
        ticks = memoryview(shots[8 : 8 + 4 * count]).cast("I").tolist()
        rows = memoryview(shots[8 + 4 * count :]).cast("H").tolist()
        assert [(tick, players[row]) for tick, row in zip(ticks, rows, strict=True)] == recorded.shots
        kills = [(tick, players[actor], players[target]) for tick, actor, target, _ in index["marks"]["kill"]]
        assert kills == recorded.kills
        ((tick, actor, _, text),) = index["marks"]["refusal"]
        assert (tick, text) == (100, "turn, wanted 400, allowed 90.5")
        assert index["players"][actor][1] == "Ann <b>"
        assert [row[0] for row in index["marks"]["join"]] == [100]
        assert [(row[0], row[3]) for row in index["marks"]["leave"]] == [(150, "timeout")]
        assert index["stages"]["names"] == list(STAGES)
        assert [part[0] for part in index["stages"]["us"]] == [20.0, 40.0, 60.0, 80.0]
        assert len(index["stages"]["ticks"]) == TICKS // 60
        page.ask(op="network", entity=str(players[0]))
        network = page.text("network")
        slot = players[0] & 0xFFFFFF
        assert network["ticks"] == index["stages"]["ticks"]
        assert set(network["rtt"]) == {slot + 30.0}
        assert set(network["kbps"]) == {200.0 + slot}
        assert set(network["delay"]) == {round(5.5 / 60 * 1000, 1)}


def test_a_shot_is_explained_in_the_words_of_the_command(page: Page, recorded: Recorded) -> None:
    replay = Replay.open(recorded.path)
    for number in (1, 77, len(recorded.shots)):
        page.ask(op="shot", number=number)
        message = page.text("shot")
        shot = explain(replay, number)
        assert message["text"] == "\n".join(shot.lines())
        assert (message["tick"], int(message["entity"])) == recorded.shots[number - 1]
        assert [body["feet"] for body in message["drawing"]["bodies"]] == [list(t.feet) for t in shot.targets]
        assert message["drawing"]["rays"][shot.decider]["to"] == pytest.approx(shot.ray.end)
    page.ask(op="shot", number=len(recorded.shots) + 1)
    assert f"the recording holds {len(recorded.shots)} shots" in page.text("shot")["text"]
    (frame,) = page.frames(60, 60)
    assert int(frame.head["tick"]) == 60
    replay.close()


def test_frames_that_are_not_wanted_any_more_are_dropped(page: Page, recorded: Recorded) -> None:
    page.asked += 1
    for number in range(4):
        page.ask(op="frames", id=number, turn=page.asked, first=50, last=289, stride=1)
    page.ask(op="frames", id=9, turn=page.asked + 1, first=60, last=60, stride=1)
    page.asked += 1
    assert page.text("dropped")["id"] in range(4)
    assert [int(frame.head["tick"]) for frame in unpack(page.chunk(9))] == [60]


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "fly"},
        {"op": "frames"},
        {"op": "frames", "id": 1, "turn": 1, "first": -1, "last": 5, "stride": 1},
        {"op": "frames", "id": 1, "turn": 1, "first": 0, "last": 10_000, "stride": 1},
        {"op": "frames", "id": 1, "turn": 1, "first": 0, "last": 5, "stride": 0},
        {"op": "frames", "id": True, "turn": 1, "first": 0, "last": 5, "stride": 1},
        {"op": "network", "entity": 5},
        {"op": "network", "entity": "9" * 40},
        {"op": "shot", "number": 0},
        {"op": "shot", "number": "first"},
    ],
)
def test_requests_that_make_no_sense_are_refused(page: Page, request_: dict[str, Any]) -> None:
    page.ask(**request_)
    assert page.text("refused")["text"]
    assert len(page.frames(10, 12)) == 3


def test_a_page_that_talks_nonsense_is_shown_out(edge: Edge, recorded: Recorded) -> None:
    for text in ('{"op": "open", "file": "/etc/passwd"}', "no json"):
        with watching(edge, recorded.path.name) as other:
            other.socket.send(text)
            with pytest.raises(ConnectionClosed):
                while True:
                    other.socket.recv(timeout=WAIT_S)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ('{"op": "frames"}', True),
        ('{"op": "open", "file": "a.hitrec"}', False),
        ('{"op": "frames", "op": "open"}', False),
        ("[]", False),
        ("7", False),
        ("[" * 900, False),
        ("", False),
    ],
)
def test_only_objects_that_open_nothing_are_handed_on(text: str, allowed: bool) -> None:
    assert is_allowed(text) is allowed


def test_a_cut_recording_shows_what_is_left_with_one_clear_line(edge: Edge) -> None:
    with watching(edge, "cut.hitrec") as page:
        opened = page.text("opened")
        assert not opened["complete"]
        assert 60 <= opened["last"] < TICKS
        assert len(opened["problems"]) >= 1
        assert "\n" not in "".join(opened["problems"])
        (frame,) = page.frames(opened["last"], opened["last"])
        assert int(frame.head["tick"]) == opened["last"]


def test_a_foreign_build_is_refused_with_both_digests(edge: Edge, recorded: Recorded, directory: Path) -> None:
    text = failure(edge, "foreign.hitrec")
    assert "f" * 32 in text
    with RecordingReader(recorded.path) as reader:
        assert str(reader.header["kernel_digest"]) in text
    assert str(directory) not in text


def test_an_empty_file_is_one_line(edge: Edge) -> None:
    assert "nothing.hitrec" in failure(edge, "nothing.hitrec")


class FakeWorker:
    """A worker without a process."""

    def __init__(self) -> None:
        self.asked_at = time.monotonic()
        self.alive = True
        self.stops = 0

    async def stop(self) -> None:
        self.stops += 1
        self.alive = False


def test_the_worker_idle_longest_gives_way_and_busy_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def start() -> Any:
        return FakeWorker()

    async def scenario() -> None:
        replays = Replays(EdgeSettings(record_dir=str(tmp_path), replays_max=2))
        await replays.warm()
        first, second = await replays.take(), await replays.take()
        assert first is not None
        assert second is not None
        assert await replays.take() is None  # both have been asked this moment
        second.asked_at -= 2 * IDLE_S
        first.asked_at -= IDLE_S + 0.5
        third = await replays.take()
        assert third is not None
        assert (first.alive, second.alive, third.alive) == (True, False, True)
        first.asked_at = time.monotonic()
        assert await replays.take() is None
        assert replays.status() == {
            "replays_opened": 3, "replays_refused": 2, "replays_stopped": 1, "replays_open": 2,
        }  # fmt: skip

    monkeypatch.setattr(Worker, "start", start)
    asyncio.run(scenario())


def test_counters_tell_of_replays(edge: Edge, page: Page) -> None:
    assert len(page.frames(10, 12)) == 3
    deadline = time.monotonic() + WAIT_S
    while (status := edge.ask("api/status").json)["replays_open"] != 1:  # those of other tests end in their own time
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
    assert status["replays_opened"] > 0


def runs(pid: int) -> bool:
    try:  # one that has ended and that nobody has waited for yet has gone, too
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: set[int]) -> None:
    deadline = time.monotonic() + WAIT_S
    while any(map(runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: int) -> set[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False)
    return set(filter(runs, map(int, listed.stdout.split())))


def test_workers_end_with_the_page_and_with_the_edge(directory: Path, recorded: Recorded) -> None:
    with running_edge("no-feed", "--record-dir", str(directory)) as edge:
        with watching(edge, recorded.path.name) as page:
            page.text("opened")
            (worker,) = children(edge.process.pid)
        gone({worker})
        edge.ask("api/replays")  # somebody looks at the list: one worker is made ready
        (spare,) = children(edge.process.pid)
        edge.process.kill()  # no chance to say goodbye
        edge.process.wait(WAIT_S)
        gone({spare})


def test_the_edge_loads_no_kernel() -> None:
    code = "import server.edge.__main__, sys; print([n for n in ('numba', 'llvmlite', 'sim.jit') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_a_directory_there_are_none(tmp_path: Path) -> None:
    assert "--record-dir" in Recordings(None).look()["note"]
    assert Recordings(tmp_path / "missing").look()["recordings"] == []
    assert Recordings(tmp_path).look()["note"] == "There are no recordings yet."


def test_hostile_notes_are_left_out(directory: Path, recorded: Recorded, edge: Edge) -> None:
    entity = recorded.shots[0][1]
    notes: list[list[Any]] = [
        [5, "events", {"first": 1, "who": b"123", "shot": 7}],
        [6, "refusal", {"reason": "x" * 5000, "entity": entity}],
        [7, "connect", {"entity": "somebody"}],
        [8, "network", {"entity": b"12345678"}],
        [9, "stages", {"mean_ns": b"1234", "max_ns": b""}],
        [10, "nonsense", {"a": 1}],
        [11, "flag", {"client": 3, "entity": entity, "measure": "snap", "score": 9.5}],
    ]
    path = directory / "hostile.hitrec"
    with RecordingReader(recorded.path) as reader, RecordingWriter(path, reader.header) as writer:
        for chunk in reader.chunks:
            if chunk.kind is not ChunkKind.NOTES:
                writer.append(chunk.kind, chunk.first_tick, chunk.tick_count, reader.read(chunk))
        writer.append(ChunkKind.NOTES, 1, 60, msgpack.packb(notes))
    try:
        with watching(edge, "hostile.hitrec") as page:
            index = page.text("index")
            assert index["left_out"] >= 4
            assert len(index["marks"]["refusal"][0][3]) == 200
            assert [(row[0], row[3]) for row in index["marks"]["flag"]] == [(11, "measure snap, score 9.5")]
            assert index["shots"] == 0
    finally:
        path.unlink()
