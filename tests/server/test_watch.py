"""What pages see of a running server: its players, its figures, and nothing once it has ended."""

from server.livefeed import feed_path
from server.livereader import LiveFeedReader, LiveFrame
from server.tickets import card_path
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
