"""Recordings hold each match from before somebody joins, replay to the same hashes, and never hold up a tick."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from net.closing import CloseCode
from persistence.errors import RecordingError
from persistence.recording import Chunk, ChunkKind, RecordingReader, RecordingWriter, is_being_written
from server.config import ServerConfig
from server.errors import ServerError
from server.event_notes import read_events
from server.livereader import LiveFeedReader, LiveFrame
from server.match import CommandBlock, MatchHeader, encode_block
from server.recorder import EMPTY_S, NOTES_PER_SECOND_MAX, RETRY_S, Recorder, RecorderLimits, match_header
from server.recorder_notes import NetworkNotes, read_network, read_stages
from server.recorder_thread import NOTE_BYTES_MAX
from server.retention import Retention, recordings_in, retire
from sim.commands import Commands, Join, Leave
from sim.components import Vitals
from sim.games.arena.rules import ArenaRules
from sim.snapshot import restore, state_hash
from sim.world import World
from tests.server.played import joined, play, playing
from tests.sim.arena import arena_world
from tools.script import script_inputs

HZ = 20
START_NS = 1_700_000_000 * 10**9
Notes = list[tuple[int, str, dict[str, Any]]]


class Match:
    """A world whose ticks are recorded, and the hash after each."""

    def __init__(self, directory: Path, *, rules: ArenaRules | None = None, **limits: Any) -> None:
        self.world = arena_world(tick_hz=HZ, rules=rules)
        self.commands = Commands(self.world.players.capacity)
        self.draws = np.zeros(8)
        self.hashes: dict[int, int] = {0: state_hash(self.world)}
        self.warnings: list[str] = []
        header = match_header(ServerConfig(record_keyframe_s=3.0, record_dir=""), self.world)
        self.recorder = Recorder(
            self.world, header, directory, unix_ns=lambda: START_NS + self.world.tick * 10**9 // HZ,
            limits=RecorderLimits(**limits), warn=self.warnings.append,
        )  # fmt: skip

    def play(self, seconds: float, *, join: int = 0, leave: int = 0) -> None:
        """Make ticks; so many join, or leave, in the first."""
        for number in range(round(seconds * HZ)):
            self.commands.clear()
            if number == 0:
                for ticket in range(join):
                    self.commands.add(Join(ticket, f"player {ticket}"))
                for slot in self.world.players.live_slots[:leave].tolist():
                    self.commands.add(Leave(self.world.players.id_of(slot)))
            script_inputs(self.world, self.commands, self.draws)
            self.world.step(self.commands)
            self.hashes[self.world.tick] = state_hash(self.world)
            self.recorder.record(self.commands)
        self.recorder.drain()

    def __enter__(self) -> "Match":
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close()


def is_recording(match: Match) -> bool:
    return match.recorder.recording


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir(), key=lambda path: (len(path.name), path.name))


def notes_of(reader: RecordingReader) -> Notes:
    return [tuple(note) for chunk in reader.of_kind(ChunkKind.NOTES) for note in msgpack.unpackb(reader.read(chunk))]


def kinds_of(path: Path, kind: str) -> Notes:
    with RecordingReader(path) as reader:
        return [note for note in notes_of(reader) if note[1] == kind]


def span(path: Path) -> tuple[int, int]:
    """Tick of the first state, and last tick."""
    with RecordingReader(path) as reader:
        blocks = list(reader.of_kind(ChunkKind.COMMANDS))
        return next(reader.of_kind(ChunkKind.KEYFRAME)).first_tick, blocks[-1].first_tick + blocks[-1].tick_count - 1


def replay(path: Path, fresh: World, hashes: dict[int, int]) -> int:
    """Simulate a recording from each of its key frames to its end; ticks made."""
    made = 0
    commands = Commands(fresh.players.capacity)
    with RecordingReader(path) as reader:
        blocks = [CommandBlock(reader.read(c), fresh.players.capacity) for c in reader.of_kind(ChunkKind.COMMANDS)]
        ticks = {tick: b for b in blocks for tick in range(b.first_tick, b.first_tick + b.tick_count)}
        for keyframe in reader.of_kind(ChunkKind.KEYFRAME):
            restore(fresh, reader.read(keyframe))
            assert fresh.tick == keyframe.first_tick
            assert state_hash(fresh) == hashes[fresh.tick]
            for tick in range(fresh.tick + 1, max(ticks) + 1):
                ticks[tick].fill(tick, commands)
                fresh.step(commands)
                assert ticks[tick].state_hash(tick) == hashes[tick] == state_hash(fresh), f"tick {tick}"
                made += 1
    return made


def test_a_recorded_match_replays_from_every_key_frame_to_the_same_hashes(tmp_path: Path) -> None:
    with Match(tmp_path) as match:
        match.play(2.5)
        assert not files(tmp_path)
        match.play(7.25, join=8)
        assert match.recorder.recording
        assert is_being_written(files(tmp_path)[0])
        assert match.recorder.path == files(tmp_path)[0]
    match.recorder.close()
    (path,) = files(tmp_path)
    assert not is_being_written(path)
    assert span(path) == (2 * HZ, match.world.tick)
    with RecordingReader(path) as reader:
        header = MatchHeader.from_dict(reader.header)
        assert (header.tick_hz, header.keyframe_ticks, header.players_capacity) == (HZ, 3 * HZ, 1024)
        assert header.started_unix_ns == START_NS + 2 * 10**9
        assert (reader.complete, reader.check()) == (True, [])
        assert [c.first_tick for c in reader.of_kind(ChunkKind.KEYFRAME)] == [2 * HZ, 5 * HZ, 8 * HZ]
    assert path.name == "20231114T221322Z-arena-arena.hitrec"
    assert replay(path, arena_world(tick_hz=HZ), match.hashes) > 200
    stats = match.recorder.stats
    assert (stats.files, stats.failures, stats.overflows) == (1, 0, 0)
    assert stats.bytes == path.stat().st_size
    assert not match.warnings


def test_a_file_ends_when_nobody_is_left_and_another_begins_with_the_next_player(tmp_path: Path) -> None:
    with Match(tmp_path) as match:
        match.play(3, join=2)
        match.play(EMPTY_S + 3, leave=2)
        assert not match.recorder.recording
        ended = match.world.tick
        match.play(5)
        assert len(files(tmp_path)) == 1
        match.play(2, join=1)
    first, second = files(tmp_path)
    assert kinds_of(first, "end")[0][2] == {"reason": "nobody is left"}
    assert span(first)[1] < ended <= span(second)[0]
    assert kinds_of(second, "end")[0][2] == {"reason": "the server stopped"}
    for path in (first, second):
        assert replay(path, arena_world(tick_hz=HZ), match.hashes) >= 2 * HZ


def test_each_match_has_a_file_of_its_own_and_not_a_tick_is_lost_between(tmp_path: Path) -> None:
    rules = ArenaRules(match_s=4.4)
    with Match(tmp_path, rules=rules) as match:
        match.play(12, join=4)
    paths = files(tmp_path)
    spans = [span(path) for path in paths]
    assert len(paths) == 3
    assert spans[0][0] == 0
    assert [begin for begin, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert spans[-1][1] == match.world.tick
    for path in paths:
        assert replay(path, arena_world(tick_hz=HZ, rules=rules), match.hashes) > 30
    for path in paths[1:]:
        assert kinds_of(path, "begin")[0][2]["reason"] == "match started"
    assert all(kinds_of(path, "end")[0][2] == {"reason": "match started"} for path in paths[:-1])


def test_a_long_match_goes_on_in_another_file(tmp_path: Path) -> None:
    with Match(tmp_path, minutes_max=3 / 60) as match:
        match.recorder.roster = lambda: [("present", {"name": "Ann"})]
        match.play(7.5, join=2)
    spans = [span(path) for path in files(tmp_path)]
    assert spans == [(0, 3 * HZ), (3 * HZ, 6 * HZ), (6 * HZ, 150)]
    assert not kinds_of(files(tmp_path)[0], "present")
    assert kinds_of(files(tmp_path)[1], "present") == [(3 * HZ, "present", {"name": "Ann"})]


def test_a_full_disk_ends_the_recording_in_one_line_and_the_match_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RecordingWriter.append
    full: list[bool] = []

    def append(self: RecordingWriter, kind: int, *rest: Any) -> None:
        if full:
            raise RecordingError(f"{self.path}: cannot be written: the disk is full")
        real(self, kind, *rest)

    monkeypatch.setattr(RecordingWriter, "append", append)
    with Match(tmp_path) as match:
        match.play(3, join=2)
        full.append(True)
        match.play(4)
        full.clear()
        match.play(1)
        assert len(match.warnings) == match.recorder.stats.failures == 1
        assert match.warnings[0].endswith("the disk is full; recording stops here, the match goes on")
        assert not is_recording(match)
        match.play(RETRY_S - 5)
        assert len(files(tmp_path)) == 1
        match.play(8)
        assert is_recording(match)
    first, second = files(tmp_path)
    assert span(first) == (0, 3 * HZ)
    assert replay(first, arena_world(tick_hz=HZ), match.hashes) >= 3 * HZ
    assert span(second)[1] == match.world.tick
    replay(second, arena_world(tick_hz=HZ), match.hashes)


def test_a_thread_that_cannot_keep_up_costs_ticks_of_the_recording_and_none_of_the_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = threading.Event()
    stuck.set()

    def slow(tape: Any) -> bytes:
        assert stuck.wait(600.0)
        return encode_block(tape)

    monkeypatch.setattr("server.recorder_thread.encode_block", slow)
    with Match(tmp_path, seconds_waiting_max=3) as match:
        match.play(3, join=2)
        stuck.clear()
        monkeypatch.setattr(match.recorder, "drain", lambda: None)
        match.play(20)
        assert match.recorder.stats.overflows == 1
        assert not match.recorder.recording
        stuck.set()
        match.recorder._thread.drain()
        match.play(4)
    first, second = files(tmp_path)
    assert kinds_of(first, "end")[0][2] == {"reason": "overflow"}
    assert 3 * HZ < span(first)[1] < 23 * HZ <= span(second)[0]
    assert span(second)[1] == match.world.tick
    for path in (first, second):
        with RecordingReader(path) as reader:
            assert reader.complete
        replay(path, arena_world(tick_hz=HZ), match.hashes)


def test_notes_are_dated_bounded_and_left_out_where_they_cannot_be_kept(tmp_path: Path) -> None:
    with Match(tmp_path) as match:
        match.play(1, join=1)
        match.play(0.5)
        match.recorder.note("refusal", kind="odd", values=[1, b"x"])
        match.recorder.note("bad", value=object())
        match.recorder.note("large", value=bytes(NOTE_BYTES_MAX))
        match.play(0.5)
        assert match.recorder.stats.notes_dropped == 2
        for number in range(NOTES_PER_SECOND_MAX + 3):
            match.recorder.note("many", number=number)
        assert match.recorder.stats.notes_dropped == 5
        match.play(1)
    (path,) = files(tmp_path)
    assert kinds_of(path, "refusal") == [(30, "refusal", {"kind": "odd", "values": [1, b"x"]})]
    assert not kinds_of(path, "bad")
    assert not kinds_of(path, "large")
    assert len(kinds_of(path, "many")) == NOTES_PER_SECOND_MAX


def test_a_directory_that_cannot_be_written_is_told_once_and_the_server_plays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ServerError, match=r"record_dir = .*: cannot be made"):
        Match(blocked / "in")
    with playing(1, record_dir=str(blocked / "in")) as (server, clients):
        assert server.recorder is None
        joined(server, clients)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"warning: record_dir = {blocked / 'in'}: cannot be made")


def test_a_server_notes_who_comes_and_goes_the_network_and_its_stages(tmp_path: Path) -> None:
    with playing(3, record_dir=str(tmp_path), record_keyframe_s=1.0) as (server, clients):
        joined(server, clients)
        me = int(clients.connections.client_index[0])
        entity = int(server.sessions.entity[me])
        clients.wishes = {"buttons": 8, "yaw": 900}
        play(server, clients, 130)
        server.transport.kick(me, CloseCode.KICKED, "enough")
        play(server, clients, 70)
        stages = server.frame.stages
        hashes = {server.world.tick: state_hash(server.world)}
        alive = int(server.world.players[Vitals].alive.sum())
        server.inputs.lead_ticks[:] = -1.5
        behind = NetworkNotes(server.transport.endpoint, server.inputs, server.sessions, server.frame.commands).note()
    (path,) = files(tmp_path)
    assert np.frombuffer((behind or {})["lead"], "<i2").tolist() == [-384, -384]  # inputs that come too late
    assert alive
    with RecordingReader(path) as reader:
        assert reader.complete
        notes = notes_of(reader)
        last = [c for c in reader.chunks if c.kind is ChunkKind.COMMANDS][-1]
        block = CommandBlock(reader.read(last), 1024)
    final = last.first_tick + last.tick_count - 1
    assert hashes == {final: block.state_hash(final)}
    assert [tick for tick, *_ in notes] == sorted(tick for tick, *_ in notes)
    by_kind = {kind: [note for note in notes if note[1] == kind] for kind in {note[1] for note in notes}}
    assert set(by_kind) == {"begin", "connect", "disconnect", "network", "stages", "events", "end"}
    assert by_kind["begin"][0][2]["stages"] == list(stages)
    connects = {note[2]["name"]: note[2]["entity"] for note in by_kind["connect"]}
    assert sorted(connects) == ["Player 0", "Player 1", "Player 2"]
    assert by_kind["disconnect"][0][2] == {"client": me, "entity": entity, "name": "Player 0", "reason": "by_server"}
    network = read_network(by_kind["network"][-1][2])
    assert network is not None
    assert len(network["entity"]) == 2
    assert set(network["entity"].tolist()) == set(connects.values()) - {entity}
    assert (network["kbps_out"] > 10).all()
    assert (network["kbps_in"] > 1).all()
    assert (network["loss"] == 0).all()
    times = read_stages(by_kind["stages"][0][2])
    assert times is not None
    assert len(times[0]) == len(stages)
    shots = [read_events(note[2], "shot") for note in by_kind["events"]]
    assert any(found is not None and len(found[0]) for found in shots)
    for bad in ({}, {"entity": b"1"}, by_kind["network"][-1][2] | {"rtt_ms": b""}):
        assert read_network(bad) is None
    for bad in ({}, {"mean_ns": b"1234", "max_ns": b""}, {"mean_ns": 5, "max_ns": b""}):
        assert read_stages(bad) is None


def recording(directory: Path, name: str, *, size: int, age_days: float, now_ns: int) -> Path:
    path = directory / f"{name}.hitrec"
    with RecordingWriter(path, {"a": 1}) as writer:
        writer.append(ChunkKind.NOTES, 0, 0, os.urandom(size))
    moment = now_ns - round(age_days * 86_400 * 10**9)
    os.utime(path, ns=(moment, moment))
    return path


def test_retention_removes_the_oldest_recordings_and_nothing_else(tmp_path: Path) -> None:
    now = time.time_ns()
    ages = {"a": 40.0, "b": 20.0, "c": 10.0, "d": 5.0}
    made = {name: recording(tmp_path, name, size=1000, age_days=age, now_ns=now) for name, age in ages.items()}
    (tmp_path / "notes.txt").write_bytes(bytes(5000))
    (tmp_path / "other.hitrec").write_bytes(b"not a recording")
    elsewhere = tmp_path / "else"
    elsewhere.mkdir()
    outside = recording(elsewhere, "z", size=1000, age_days=99.0, now_ns=now)
    (tmp_path / "link.hitrec").symlink_to(outside)
    os.mkfifo(tmp_path / "pipe.hitrec")
    for name in ("notes.txt", "other.hitrec"):
        os.utime(tmp_path / name, ns=(0, 0))
    assert [path for path, _ in recordings_in(tmp_path)] == list(made.values())
    assert retire(tmp_path, Retention(), now_unix_ns=now) == []
    assert retire(tmp_path, Retention(keep_days=30.0), now_unix_ns=now) == [made["a"]]
    size = made["d"].stat().st_size
    assert retire(tmp_path, Retention(keep_bytes=2 * size + 10), now_unix_ns=now) == [made["b"]]
    with RecordingWriter(tmp_path / "w.hitrec", {"a": 1}) as writer:
        os.utime(writer.path, ns=(0, 0))
        assert retire(tmp_path, Retention(keep_bytes=1, keep_days=1.0), now_unix_ns=now) == [made["c"], made["d"]]
        assert writer.path.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "notes.txt", "other.hitrec", "else", "link.hitrec", "pipe.hitrec", "w.hitrec",
    }  # fmt: skip
    assert outside.exists()
    assert retire(tmp_path / "none", Retention(keep_bytes=1), now_unix_ns=now) == []


def test_a_new_file_makes_old_ones_give_way(tmp_path: Path) -> None:
    now = START_NS
    old = [recording(tmp_path, name, size=50_000, age_days=1.0 + n, now_ns=now) for n, name in enumerate("xy")]
    with Match(tmp_path, retention=Retention(keep_bytes=60_000)) as match:
        match.play(2, join=1)
        assert match.recorder.stats.removed == 1
    assert old[0].exists()
    assert not old[1].exists()


def last_tick(path: Path) -> int:
    with RecordingReader(path) as reader:
        blocks: list[Chunk] = list(reader.of_kind(ChunkKind.COMMANDS))
        return blocks[-1].first_tick + blocks[-1].tick_count - 1 if blocks else -1


def wait_for(condition: Any, what: str, *, process: "subprocess.Popen[str]") -> None:
    for _ in range(2400):
        if condition():
            return
        assert process.poll() is None, f"{what}: the process ended"
        time.sleep(0.1)
    pytest.fail(what)


@pytest.mark.slow
def test_a_killed_server_leaves_its_match_up_to_the_last_second(tmp_path: Path) -> None:
    feed, records = f"killed-{os.getpid()}", tmp_path / "recordings"
    environment = {**os.environ, "HITREG_RECORD_DIR": str(records), "XDG_RUNTIME_DIR": str(tmp_path)}

    def start(*arguments: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "tools.cli", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)

    server = start("serve", "--no-edge", "--feed", feed)
    bots = None
    try:
        assert server.stdout is not None
        card = next(line.split()[1] for line in server.stdout if line.startswith("card:"))
        bots = start("bots", "--count", "4", "--card", card, "--quiet")
        wait_for(lambda: bool(records.exists() and files(records)), "a recording begins", process=server)
        (path,) = files(records)
        wait_for(lambda: last_tick(path) > 240, "four seconds are recorded", process=server)
        reader, ticks = LiveFeedReader(feed), [0]

        def up_to_date() -> bool:
            """Whether the file holds all but the second under way, and the one that the thread may have in hand."""
            content = reader.read(reader.newest)
            if content is None:  # it was being written
                return False
            ticks[0] = int(LiveFrame.from_bytes(content).head["tick"])
            return last_tick(path) >= ticks[0] - 2 * 60

        wait_for(up_to_date, "the file follows the match", process=server)  # a starved thread may be behind for a while
        server.send_signal(signal.SIGKILL)
        server.wait()
    finally:
        for process in (bots, server):
            if process is not None:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
    with RecordingReader(path) as found:
        assert found.header["tick_hz"] == 60
        assert not found.complete
        assert "was not closed" in found.problems[0]
        assert found.check() == []
    assert last_tick(path) >= ticks[0] - 2 * 60
