"""What pages see of a running server: its players, its figures, and nothing once it has ended."""

import numpy as np

from net.snapshots import FIELDS_MAX
from server.aim import Measure
from server.livefeed import MEASURES_MAX, REASONS_MAX, feed_path
from server.livereader import LiveFeedReader, LiveFrame
from server.livetold import KEY, SLOT, TOLD, AskBoard
from server.refusals import Reason
from server.slots import LIVE
from server.tickets import card_path
from server.views import OWN
from sim.arrays import AnyArray
from sim.components import Motion
from tests.server.played import joined, play, playing


def test_frames_show_the_players_of_their_tick_and_the_feed_ends_with_the_server() -> None:
    with playing(3, feed="watch-test", feed_hz=60) as (server, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127}
        play(server, clients, 90)
        reader = LiveFeedReader("watch-test")
        content = reader.read(reader.newest)
        assert content is not None
        frame = LiveFrame.from_bytes(content)
        assert int(frame.head["tick"]) == server.world.tick
        assert int(frame.head["metrics"]["connected"]) == 3
        players = server.world.players
        assert sorted(frame.players["id"].tolist()) == sorted(players.ids[players.live_slots].tolist())
        for row in frame.players:
            slot = players.slot_of(int(row["id"]))
            assert abs(players[Motion].position[slot] - row["position"]).max() < 1e-3
        assert card_path("watch-test").exists()
    assert not feed_path("watch-test").exists()
    assert not card_path("watch-test").exists()


def parts(message: bytes) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray, list[bytes]]:
    """A message taken apart, by its layout: head, slots, key rows, their states, snapshots."""
    head = np.frombuffer(message, TOLD, 1)[0]
    at = TOLD.itemsize
    slots = np.frombuffer(message, SLOT, int(head["slot_count"]), at)
    at += slots.nbytes
    keys = np.frombuffer(message, KEY, int(head["key_count"]), at)
    at += keys.nbytes
    fields = int(head["field_count"])
    assert 7 <= fields <= FIELDS_MAX
    states = np.frombuffer(message, "<i4", len(keys) * fields, at).reshape(-1, fields)
    at += states.nbytes
    assert len(message) == at + int(head["snapshot_bytes"])
    snapshots = []
    while at < len(message):
        length = int.from_bytes(message[at : at + 2], "little")
        snapshots.append(message[at + 2 : at + 2 + length])
        at += 2 + length
    return head, slots, keys, states, snapshots


def test_pages_are_told_of_a_client_as_it_is_told_itself() -> None:
    with playing(3, feed="told-test", feed_hz=20) as (server, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127}
        reader = LiveFeedReader("told-test")
        board = AskBoard("told-test", started_ns=reader.started_ns)
        assert board.take() == []
        client = 1
        entity = int(server.sessions.entity[client])
        server.frame.refusals.counts[Reason.TURN, client] = 70_000
        server.frame.refusals.totals[Reason.FLOOD] = 5
        server.frame.aim.counts[Measure.SNAP] = 2
        nobody = (1 << 63) + 5  # neither a player nor anything else
        board.ask([entity, nobody], 0.0)
        watch = server._watch
        assert watch is not None
        heads, sent, keyed, pairs, recent = [], [], 0, 0, 0
        for _ in range(90):
            play(server, clients, 1)
            length = int(server.replication.length[client])
            sent.append(server.replication.payload[client, :length].tobytes())
            if server.world.tick % server.world.tick_hz == watch.second_at:
                pairs = sum(len(server.replication.relevant(number)) for number in range(3))
            for message in board.take():
                head, slots, keys, states, snapshots = parts(message)
                heads.append(head)
                recent = sum(map(len, sent[-60:]))
                keyed += len(keys) > 0
                if len(heads) > 1:  # whole from the first message on
                    assert b"".join(snapshots) == b"".join(since := sent[-3:]), (len(snapshots), len(since))
                assert (
                    sorted(slots["id"][slots["state"] == LIVE].tolist()) == server.replication.relevant(client).tolist()
                )
                assert int(head["told"]) == len(server.replication.relevant(client))
                told = set(slots["id"].tolist())
                assert set(keys["id"].tolist()) <= told
                assert (keys["tick"] <= head["tick"]).all()
                own = keys["id"] == entity
                assert not states[own][:, :6].any()  # its own motion goes by the owner section
            board.ask([entity, nobody], 0.0)
        assert 25 <= len(heads) <= 31
        assert [int(head["number"]) for head in heads] == list(range(1, len(heads) + 1))
        assert {int(head["entity"]) for head in heads} == {entity}
        assert keyed == 2
        assert heads[-1]["snapshot_hz"] == server.config.snapshot_hz
        views = server.frame.views
        assert (int(heads[-1]["mode"]), int(heads[-1]["watched"])) == (OWN, entity) == (views.mode[client], entity)
        assert np.allclose(heads[-1]["eye"], views.eye[client], atol=0.5)
        assert heads[-1]["snapshot_Bps"] == recent
        content = reader.read(reader.newest)
        assert content is not None
        telling = LiveFrame.from_bytes(content).head["telling"]
        assert telling["watched"] == 1
        assert heads[-1]["refused"].tolist() == [65535 * (number == Reason.TURN) for number in range(REASONS_MAX)]
        frame = LiveFrame.from_bytes(content).head
        assert frame["refused"].tolist() == [5 * (number == Reason.FLOOD) for number in range(REASONS_MAX)]
        assert frame["flagged"].tolist() == [2 * (number == Measure.SNAP) for number in range(MEASURES_MAX)]
        names = {key: value.split(",") for key, value in reader.info["extra"].items()}
        assert names["reasons"][Reason.VIEW_PAST] == "view_past"
        assert names["measures"][Measure.FOLLOWS] == "follows"
        assert telling["told_pairs"] == pairs
        shares = [float(telling[name]) for name in ("sent", "at_rest", "steady", "in_flight", "deferred")]
        assert abs(sum(shares) - 1.0) < 1e-5
        board.ask([], 1.0)
        play(server, clients, 6)
        board.take()
        play(server, clients, 6)
        assert board.take() == []
