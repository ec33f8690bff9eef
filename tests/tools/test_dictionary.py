"""Recording a match, training on it, and the commands that do so."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from net.compression import Compressor
from net.dictionaries import PayloadClass, read_dictionary
from net.messages import MessageCodec
from net.zone_replica import ZoneReplica
from server.zone_state import zone_layout
from sim.components import Motion
from tools.capture import Payload, read_capture, write_capture
from tools.cli import app
from tools.dictionary import train
from tools.errors import ToolsError
from tools.match import ScriptedMatch

PLAYERS = 6


@cache
def recorded() -> tuple[Payload, ...]:
    return tuple(ScriptedMatch(PLAYERS).payloads(4.0))


def of_class(kind: PayloadClass) -> list[bytes]:
    return [payload.content for payload in recorded() if payload.kind is kind]


def test_a_match_is_recorded_the_same_twice_and_another_seed_differently() -> None:
    again = tuple(ScriptedMatch(PLAYERS).payloads(0.5))
    assert again == recorded()[: len(again)]
    assert tuple(ScriptedMatch(PLAYERS, seed=2).payloads(0.5)) != again


def test_it_holds_what_every_client_is_sent() -> None:
    match = ScriptedMatch(PLAYERS)
    codec = MessageCodec.to_client(match.world.game.actions, match.world.game.messages)
    said = [codec.decode(payload) for payload in of_class(PayloadClass.MESSAGE)]
    names = [message.name for message in said if message is not None]
    assert names.count("welcome") == PLAYERS
    assert names.count("say") == len(said) - PLAYERS > 0
    snapshots = of_class(PayloadClass.SNAPSHOT)
    assert PLAYERS * 4 * 30 - 100 < len(snapshots) <= PLAYERS * 4 * 30
    assert len(of_class(PayloadClass.JOIN)) == 16


def test_rows_of_everything_hold_the_state_of_all_entities() -> None:
    match = ScriptedMatch(PLAYERS)
    for _ in match.play(30):
        pass
    rows = match.join_rows()
    fields = match.replication.table
    ids = rows[:, :2].copy().view(np.uint64)[:, 0]
    players = match.world.players
    live = players.live_slots
    assert set(players.ids[live].tolist()) <= set(ids.tolist())
    at = np.flatnonzero(np.isin(ids, players.ids[live]))
    step = fields.fields[0].step
    assert np.allclose(rows[at, 2] * step, players[Motion].position[live, 0], atol=step)


def test_a_recorded_join_is_what_a_newcomer_is_sent() -> None:
    match = ScriptedMatch(PLAYERS)
    for _ in match.play(30):
        pass
    replica, compressor = ZoneReplica(1, zone_layout(match.world.game)), Compressor()
    content = of_class(PayloadClass.JOIN)[1]  # the second one of a recording is that of tick 30
    assert replica.take_join(0, compressor.compress(content, PayloadClass.JOIN), compressor)
    assert int(replica.joined[0]) == 30
    players = match.world.players
    assert set(replica.ids[0][replica.ids[0] != 0].tolist()) == set(players.ids[players.live_slots].tolist())
    assert replica.text(0, "name.text", players.id_of(0)) == "player 0"


def test_a_zone_can_be_played_without_telling_anyone() -> None:
    told, untold = ScriptedMatch(PLAYERS), ScriptedMatch(PLAYERS)
    for _ in told.play(30):
        pass
    untold.advance(30)
    assert np.array_equal(told.join_rows(), untold.join_rows())


def test_a_capture_file_gives_back_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "match.capture"
    payloads = [Payload(PayloadClass.MESSAGE, b""), Payload(PayloadClass.BULK, bytes(70_000)), *recorded()[:50]]
    assert write_capture(file, payloads) == len(payloads)
    assert read_capture(file) == payloads


def test_a_capture_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.capture"
    write_capture(file, recorded()[:3])
    whole = file.read_bytes()
    cases = {
        b"PNG": "magic = b'PNG'",
        whole[:-1]: "payload 2 has class",
        whole + b"\1": "cut short in the head of payload 3",
        whole[:8] + b"\x09" + whole[9:]: "payload 0 has class 9",
        whole[:9] + b"\xff\xff\xff\xff" + whole[13:]: " and 4,294,967,295 bytes",
    }
    for data, told in cases.items():
        file.write_bytes(data)
        with pytest.raises(ToolsError, match="record one with `hitreg dictionary capture`") as caught:
            read_capture(file)
        assert f"{file}: " in str(caught.value)
        assert told in str(caught.value)
    with file.open("wb") as huge:
        huge.truncate((1 << 30) + 1)
    with pytest.raises(ToolsError, match="more than 1,073,741,824 bytes"):
        read_capture(file)
    with pytest.raises(ToolsError, match="No such file"):
        read_capture(tmp_path / "absent")
    with pytest.raises(ToolsError, match="directory you may write"):
        write_capture(tmp_path / "no" / "file", [])


def test_training_keeps_the_end_of_each_recording_to_test_on() -> None:
    dictionary = train([recorded(), recorded()], PayloadClass.SNAPSHOT, size=2048, revision=3)
    count = len(of_class(PayloadClass.SNAPSHOT))
    assert (dictionary.kind, dictionary.revision) == (PayloadClass.SNAPSHOT, 3)
    assert (dictionary.trained_count, dictionary.tested_count) == (2 * (count - count // 4), 2 * (count // 4))
    assert dictionary.tested_bytes == 2 * sum(map(len, of_class(PayloadClass.SNAPSHOT)[-(count // 4) :]))
    compressor = Compressor(dictionaries=[dictionary])
    after = [
        len(compressor.compress(each, PayloadClass.SNAPSHOT, agreed=compressor.ids))
        for each in of_class(PayloadClass.SNAPSHOT)[-(count // 4) :]
    ]
    assert dictionary.tested_compressed == 2 * sum(after) < 0.9 * dictionary.tested_bytes
    assert len(dictionary.content) <= 2048


def test_too_little_traffic_or_wrong_numbers_are_told() -> None:
    with pytest.raises(ToolsError, match="--class bulk: 0 payloads of it were recorded, at least 32"):
        train([recorded()], PayloadClass.BULK)
    with pytest.raises(ToolsError, match="--size 100, --revision 1: give 512 to 131,072"):
        train([recorded()], PayloadClass.SNAPSHOT, size=100)
    with pytest.raises(ToolsError, match="record for longer, or train a smaller one"):
        train([[Payload(PayloadClass.MESSAGE, b"")] * 40], PayloadClass.MESSAGE)


def hitreg(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["dictionary", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_the_commands_record_train_and_tell(tmp_path: Path) -> None:
    capture, file = str(tmp_path / "a.capture"), tmp_path / "a.hrdict"
    code, text, _ = hitreg("capture", "--out", capture, "--players", "4", "--seconds", "3", "--seed", "5")
    assert code == 0
    assert f"{len(read_capture(Path(capture)))} payloads" in text
    code, trained, _ = hitreg("train", "--from", capture, "--from", capture, "--out", str(file), "--size", "1024")
    assert code == 0
    dictionary = read_dictionary(file)
    assert f"{dictionary.id:016x}" in trained
    assert "class:    snapshot, revision 1" in trained
    assert hitreg("info", str(file)) == (0, trained, "")


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"nothing")
    for arguments, told in (
        (("info", str(file)), "magic = b'nothing'"),
        (("train", "--from", str(file), "--out", str(file)), "not a capture of version 1"),
        (("train", "--from", str(file), "--out", str(file), "--class", "maps"), "choose one of snapshot, message"),
        (("capture", "--out", str(file), "--players", "5000"), "players = 5000: the game takes 1 to 1024"),
        (("capture", "--out", str(file), "--map", str(tmp_path / "no.bsp")), "no.bsp"),
    ):
        code, text, error = hitreg(*arguments)
        assert (code, text) == (2, "")
        assert told in error
        assert error.count("\n") == 1
