import asyncio
import json
import secrets
from typing import Any

import numpy as np
import pytest

from server.edge.app import Rate
from server.edge.hub import CHECK_S, Hub, Viewer
from server.edge.settings import EdgeError, EdgeSettings
from server.livefeed import PLAYER, RING_ENTRIES, FeedInfo, LiveFeedWriter
from server.livereader import LiveFrame
from server.livetold import TOLD, WATCHED_MAX, ToldWriter

INFO = FeedInfo(
    "arena", "box", 60, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), extra={"reasons": "turn,flood", "measures": "snap"}
)  # fmt: skip


class Clock:
    """Time that stands until it is moved."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A hub over a feed of its own, polled by hand."""

    def __init__(self, **settings: Any) -> None:
        self.feed = f"test-{secrets.token_hex(8)}"
        self.clock = Clock()
        self.hub = Hub(EdgeSettings(feed=self.feed, **settings), clock=self.clock)

    def writer(self, started: int = 1) -> LiveFeedWriter:
        return LiveFeedWriter(self.feed, INFO, now_ns=started)

    def poll(self, *, after_s: float = CHECK_S) -> str:
        self.clock.now += after_s
        self.hub.poll()
        return self.hub.state


def publish(writer: LiveFeedWriter, *ticks: int) -> None:
    for tick in ticks:
        writer.publish(tick=tick, wall_ns=tick, players=np.zeros(2, PLAYER))


def drain(viewer: Viewer) -> list[Any]:
    """All that waits for a viewer: dicts for texts, tick numbers for frames."""

    async def take() -> list[Any]:
        messages: list[Any] = []
        while viewer._texts or viewer._frames:
            message = await viewer.get()
            if isinstance(message, bytes):
                messages.append(int(LiveFrame.from_bytes(message).head["tick"]))
            else:
                messages.append(json.loads(message))
        return messages

    return asyncio.run(take())


def test_state_follows_the_server() -> None:
    watched = Watched(gone_after_s=2.0)
    assert watched.poll() == "waiting"
    with watched.writer() as writer:
        assert watched.poll() == "waiting"
        publish(writer, 1)
        assert watched.poll() == "live"
        assert watched.poll(after_s=1.9) == "live"
        assert watched.poll(after_s=0.2) == "gone"
        publish(writer, 2)
        assert watched.poll(after_s=0.01) == "live"
    assert watched.poll() == "gone"
    with watched.writer(started=2) as writer:
        publish(writer, 1)
        assert watched.poll() == "live"
        assert watched.hub.status()["run"] == "2"


def test_the_status_names_what_was_refused_and_flagged() -> None:
    watched = Watched()
    with watched.writer() as writer:
        writer.refused[:3] = (7, 2, 9)  # the third has no name
        writer.flagged[0] = 1
        publish(writer, 1)
        watched.poll()
        status = watched.hub.status()
        assert (status["refused"], status["flagged"]) == ({"turn": 7, "flood": 2}, {"snap": 1})


def test_a_viewer_hears_of_everything_in_order() -> None:
    watched = Watched()
    viewer = watched.hub.join()
    assert viewer is not None
    assert drain(viewer) == [{"type": "state", "state": "waiting", "feed": watched.feed}]
    with watched.writer() as writer:
        writer.set_names(["a", "b"])
        publish(writer, 1, 2, 3)
        watched.poll()
        info, names, state, *frames = drain(viewer)
        assert (info["type"], info["run"], info["info"]["map_name"]) == ("info", "1", "box")
        assert names == {"type": "names", "names": ["a", "b"]}
        assert state["state"] == "live"
        assert frames == [3]  # what was before is history
        publish(writer, 4, 5)
        watched.poll()
        assert drain(viewer) == [4, 5]
        writer.set_names(["c"])
        publish(writer, 6)
        watched.poll()
        assert drain(viewer) == [{"type": "names", "names": ["c"]}, 6]


def test_a_late_viewer_is_told_at_once() -> None:
    watched = Watched()
    with watched.writer() as writer:
        publish(writer, 7)
        watched.poll()
        viewer = watched.hub.join()
        assert viewer is not None
        kinds = [message if isinstance(message, int) else message["type"] for message in drain(viewer)]
    assert kinds == ["info", "names", "state", 7]


def test_a_slow_viewer_loses_the_oldest_frames_and_no_other_does() -> None:
    watched = Watched(viewer_frames_max=4)
    slow, quick = watched.hub.join(), watched.hub.join()
    assert slow is not None
    assert quick is not None
    seen: list[Any] = []
    with watched.writer() as writer:
        for tick in range(1, 11):
            publish(writer, tick)
            watched.poll()
            seen += [message for message in drain(quick) if isinstance(message, int)]
        assert seen == list(range(1, 11))
        assert [message for message in drain(slow) if isinstance(message, int)] == [7, 8, 9, 10]
    assert (slow.dropped, quick.dropped) == (6, 0)
    assert watched.hub.status()["frames_dropped"] == 6


def test_frames_that_the_ring_lost_are_counted() -> None:
    watched = Watched()
    viewer = watched.hub.join()
    assert viewer is not None
    with watched.writer() as writer:
        publish(writer, 1)
        watched.poll()
        drain(viewer)
        publish(writer, *range(2, 2 + RING_ENTRIES * 2))
        watched.poll()
        assert watched.hub.counts["frames_missed"] == RING_ENTRIES + 1
        assert watched.hub.counts["frames_read"] == RING_ENTRIES


def test_frames_of_a_former_run_do_not_follow_the_new_info() -> None:
    watched = Watched()
    viewer = watched.hub.join()
    assert viewer is not None
    with watched.writer() as writer:
        publish(writer, 1)
        watched.poll()
    with watched.writer(started=2):
        watched.poll()
        assert not [message for message in drain(viewer) if isinstance(message, int)]


def test_viewers_are_bounded() -> None:
    watched = Watched(viewers_max=1)
    viewer = watched.hub.join()
    assert viewer is not None
    assert watched.hub.join() is None
    assert watched.hub.counts["viewers_refused"] == 1
    watched.hub.leave(viewer)
    assert watched.hub.join() is not None


def test_rate_refills_with_time() -> None:
    clock = Clock()
    rate = Rate(2, clock=clock)
    assert [rate.take() for _ in range(3)] == [True, True, False]
    clock.now += 0.5
    assert [rate.take() for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("field", "value"), [("port", 70_000), ("port", -1), ("viewers_max", 0), ("gone_after_s", float("nan"))]
)
def test_settings_out_of_range_name_the_option(field: str, value: float) -> None:
    options: dict[str, Any] = {field: value}
    with pytest.raises(EdgeError, match="--" + field.replace("_", "-")):
        EdgeSettings(**options)


def told(entity: int, number: int) -> bytes:
    head = np.zeros(1, TOLD)
    head["kind"], head["entity"], head["number"] = 2, entity, number
    return head.tobytes()


def test_viewers_get_what_the_player_they_ask_for_is_told_and_no_other() -> None:
    watched = Watched()
    with watched.writer(started=3) as writer:
        board = ToldWriter(watched.feed, started_ns=3)
        publish(writer, 1)
        watched.poll()
        first, second = watched.hub.join(), watched.hub.join()
        assert first is not None
        assert second is not None
        drain(first)
        drain(second)
        assert watched.hub.hear(first, '{"watch": "41"}')
        assert 41 in board.asked(1_000_000_000)
        assert drain(first) == [{"type": "watching", "entity": "41", "granted": True}]
        board.publish(told(41, 1))
        board.publish(told(42, 1))
        watched.poll()
        assert list(first._told) == [told(41, 1)]
        assert not second._told
        assert watched.hub.hear(first, '{"watch": "0"}')
        assert not first._told
        board.publish(told(41, 2))
        watched.poll()
        assert not first._told
        board.close()


def test_an_ask_that_finds_no_place_is_refused_and_granted_when_one_is_free() -> None:
    watched = Watched()
    with watched.writer(started=3) as writer:
        board = ToldWriter(watched.feed, started_ns=3)
        publish(writer, 1)
        watched.poll()
        viewers = [watched.hub.join() for _ in range(WATCHED_MAX + 1)]
        for number, viewer in enumerate(viewers):
            assert viewer is not None
            watched.hub.hear(viewer, f'{{"watch": "{100 + number}"}}')
        last = viewers[-1]
        assert last is not None
        assert drain_texts(last)[-1] == {"type": "watching", "entity": str(100 + WATCHED_MAX), "granted": False}
        assert viewers[0] is not None
        watched.hub.leave(viewers[0])
        watched.poll(after_s=1.0)
        assert drain_texts(last)[-1] == {"type": "watching", "entity": str(100 + WATCHED_MAX), "granted": True}
        board.close()


def test_without_a_place_to_ask_in_every_ask_is_refused() -> None:
    watched = Watched()
    with watched.writer() as writer:
        publish(writer, 1)
        watched.poll()
        viewer = watched.hub.join()
        assert viewer is not None
        assert watched.hub.hear(viewer, '{"watch": "41"}')
        assert {"type": "watching", "entity": "41", "granted": False} in drain_texts(viewer)


def drain_texts(viewer: Viewer) -> list[Any]:
    return [message for message in drain(viewer) if isinstance(message, dict)]


@pytest.mark.parametrize(
    "message",
    [
        "",
        "hello",
        "[]",
        "7",
        '{"watch": 41}',
        '{"watch": "-1"}',
        '{"watch": "٣"}',
        '{"watch": "' + "9" * 21 + '"}',
        "{}",
    ],
)
def test_nonsense_from_a_browser_is_recognised(message: str) -> None:
    hub = Watched().hub
    viewer = hub.join()
    assert viewer is not None
    assert not hub.hear(viewer, message)
    assert viewer.watching == 0
