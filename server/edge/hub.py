"""Carries frames from the live feed to the browsers; the only place in the edge process that touches the feed.

The state of the feed as browsers see it:

    waiting    no server has been seen yet
    live       frames arrive
    gone       the server said goodbye, was replaced, or has been silent for `gone_after_s`

Messages to a browser, over one WebSocket; text is JSON, binary is a frame (layout in `server.livefeed`):

    {"type": "state", "state": …}                    on connecting and on every change
    {"type": "info", "run", "picture", "mesh", "info"}   on connecting and when another run of the server begins
    {"type": "names", "names": […]}                  on connecting and when names change
    {"type": "watching", "entity": "…", "granted": …}    when it asks for what a player is told, and when that changes
    binary                                           every frame, and what the player asked for is told

A browser sends one kind of message, `{"watch": "ENTITY"}`: it wants to know what that player is told (layout in
`server.livetold`), nobody for "0". Each has one slot per kind of text message (the newest wins) and bounded queues of
binary messages (the oldest goes): a slow browser costs its own picture, never memory, and never another browser.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from server.edge.settings import EdgeSettings
from server.livefeed import RING_ENTRIES, FeedError
from server.livereader import LiveFeedReader, LiveFrame
from server.livetold import AskBoard
from sim.arrays import AnyArray

__all__ = ["Hub", "Viewer"]

POLL_WATCHED_S = 0.008
POLL_IDLE_S = 0.1
ASK_EVERY_S = 0.5
ENTITY_DIGITS_MAX = 20
CHECK_S = 0.25  # how often to look whether the feed was replaced, and to try to open one
METRIC_NAMES = ("tick_ns", "tick_p50_ns", "tick_p95_ns", "tick_p99_ns", "budget_ns", "connected", "overruns", "drops")


class Viewer:
    """One browser's bounded mailbox.

    Args:
        frames_max: Frames that wait at most; beyond it the oldest is dropped and counted.
    """

    def __init__(self, frames_max: int) -> None:
        self.dropped = 0
        self.watching = 0  # the player it asked for, 0: none
        self.granted: bool | None = None  # as it was told last
        self._texts: dict[str, str] = {}
        self._frames: deque[bytes] = deque(maxlen=frames_max)
        self._told: deque[bytes] = deque(maxlen=frames_max)
        self._ready = asyncio.Event()

    def put_text(self, kind: str, text: str) -> None:
        """Post a text message in place of an older one of the same kind."""
        if kind == "info":
            self._frames.clear()  # frames of the former run mean nothing under the new names
        self._texts[kind] = text
        self._ready.set()

    def put_frame(self, frame: bytes) -> int:
        """Post a frame; returns how many had to be dropped for it."""
        dropped = int(len(self._frames) == self._frames.maxlen)
        self.dropped += dropped
        self._frames.append(frame)
        self._ready.set()
        return dropped

    def forget_told(self) -> None:
        """Drop what waits of a player that is no longer asked for."""
        self._told.clear()

    def put_told(self, message: bytes) -> int:
        """Post what a player is told; returns how many had to be dropped for it."""
        dropped = int(len(self._told) == self._told.maxlen)
        self.dropped += dropped
        self._told.append(message)
        self._ready.set()
        return dropped

    async def get(self) -> str | bytes:
        """Wait for the next message: texts first, then what a player is told, then frames, both in order."""
        while True:
            if self._texts:
                return self._texts.pop(next(iter(self._texts)))
            if self._told:
                return self._told.popleft()
            if self._frames:
                return self._frames.popleft()
            self._ready.clear()
            await self._ready.wait()


class Hub:
    """Reads one feed for all viewers.

    Args:
        settings: Which feed, and the limits.
        clock: Monotonic time [s].
    """

    def __init__(self, settings: EdgeSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.state = "waiting"
        self.reader: LiveFeedReader | None = None
        self.viewers: dict[Viewer, None] = {}  # in the order in which they came
        self.counts = {"frames_read": 0, "frames_missed": 0, "frames_dropped": 0, "viewers_refused": 0}
        self._clock = clock
        self._sequence = 0
        self._names_version = 0
        self._last_frame: bytes | None = None
        self._last_frame_at = 0.0
        self._check_at = 0.0
        self._board: AskBoard | None = None
        self._ask_at = 0.0

    # Viewers

    def join(self) -> Viewer | None:
        """A new viewer, told at once what there is to know; None when there are too many."""
        if len(self.viewers) >= self.settings.viewers_max:
            self.counts["viewers_refused"] += 1
            return None
        viewer = Viewer(self.settings.viewer_frames_max)
        self.viewers[viewer] = None
        if self.reader is not None:
            viewer.put_text("info", self._info_text(self.reader))
            viewer.put_text("names", self._names_text(self.reader))
        viewer.put_text("state", self._state_text())
        if self._last_frame is not None:
            viewer.put_frame(self._last_frame)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self.viewers.pop(viewer, None)

    def hear(self, viewer: Viewer, text: str) -> bool:
        """Take a message of a browser; False where it makes no sense, and the browser is to go."""
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            return False
        entity = message.get("watch") if isinstance(message, dict) else None
        if (
            not isinstance(entity, str)
            or not (entity.isascii() and entity.isdigit())
            or len(entity) > ENTITY_DIGITS_MAX
        ):
            return False
        viewer.watching = int(entity) & ((1 << 64) - 1)
        viewer.granted = None
        viewer.forget_told()
        self._ask()
        return True

    def _ask(self) -> None:
        """Ask the server for the players that viewers want to know of, those of who came first before others."""
        self._ask_at = self._clock() + ASK_EVERY_S
        wanted = list(dict.fromkeys(viewer.watching for viewer in self.viewers if viewer.watching))
        granted = self._board.ask(wanted, self._clock()) if self._board is not None else set()
        for viewer in self.viewers:
            now = viewer.watching in granted
            if viewer.watching and viewer.granted is not now:
                viewer.granted = now
                text = {"type": "watching", "entity": str(viewer.watching), "granted": now}
                viewer.put_text("watching", json.dumps(text))

    def _tell(self, kind: str, text: str) -> None:
        for viewer in self.viewers:
            viewer.put_text(kind, text)

    def _state_text(self) -> str:
        return json.dumps({"type": "state", "state": self.state, "feed": self.settings.feed})

    def _info_text(self, reader: LiveFeedReader) -> str:
        message = {
            "type": "info",
            "run": str(reader.started_ns),  # a string: JavaScript numbers end at 2**53
            "picture": bool(reader.picture_png),
            "mesh": bool(reader.mesh_bytes),
            "info": reader.info,
        }
        return json.dumps(message, ensure_ascii=False)

    def _names_text(self, reader: LiveFeedReader) -> str:
        self._names_version, names = reader.names()
        return json.dumps({"type": "names", "names": names}, ensure_ascii=False)

    # The feed

    async def run(self) -> None:
        """Poll the feed until cancelled.

        Polling, because nothing can wake a process through plain memory without a call by the writer, and the
        writer is the tick thread: 8 ms of waiting here are hidden by the page's 100 ms of interpolation.
        """
        while True:
            self.poll()
            await asyncio.sleep(POLL_WATCHED_S if self.viewers and self.reader is not None else POLL_IDLE_S)

    def poll(self) -> None:
        """Take what is new in the feed and hand it on."""
        now = self._clock()
        if now >= self._check_at:
            self._check_at = now + CHECK_S
            self._check_feed()
        if self.reader is None:
            return
        if now >= self._ask_at:
            self._ask()
        self._take_told()
        newest = self.reader.newest
        if newest == self._sequence:
            if self.state == "live" and now - self._last_frame_at > self.settings.gone_after_s:
                self._set_state("gone")
            return
        self._last_frame_at = now
        self._set_state("live")
        self._take(self.reader, newest)

    def _take_told(self) -> None:
        """Hand on what players are told to who asked for it."""
        for message in self._board.take() if self._board is not None else []:
            entity = int.from_bytes(message[16:24], "little")
            for viewer in self.viewers:
                if viewer.watching == entity:
                    self.counts["frames_dropped"] += viewer.put_told(message)

    def _check_feed(self) -> None:
        """Let go of a feed that has ended, and look for a new one."""
        if self.reader is not None and (self.reader.closed or self.reader.replaced()):
            self.reader = self._board = None
            self._set_state("gone")
        if self.reader is None:
            try:
                reader = LiveFeedReader(self.settings.feed)
            except FeedError:
                return  # none yet; the page says so, and the next look is in CHECK_S
            if not reader.closed:
                self._open(reader)

    def _open(self, reader: LiveFeedReader) -> None:
        self.reader = reader
        self._sequence = 0
        self._last_frame = None
        try:
            self._board = AskBoard(self.settings.feed, started_ns=reader.started_ns)
        except FeedError:
            self._board = None  # a writer that has none; every ask is refused then
        self._tell("info", self._info_text(reader))
        self._tell("names", self._names_text(reader))

    def _set_state(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._tell("state", self._state_text())

    def _take(self, reader: LiveFeedReader, newest: int) -> None:
        """Hand on the frames after the last one seen, as far as the ring still has them."""
        first = self._sequence + 1 if self._sequence else newest
        oldest = max(first, newest - RING_ENTRIES + 2)  # the entry after the newest may be being written
        self.counts["frames_missed"] += oldest - first
        self._sequence = newest
        for sequence in range(oldest, newest + 1):
            frame = reader.read(sequence)
            if frame is None:
                self.counts["frames_missed"] += 1
                continue
            self.counts["frames_read"] += 1
            self._last_frame = frame
            for viewer in self.viewers:
                self.counts["frames_dropped"] += viewer.put_frame(frame)
        if self._last_frame is not None:
            names_version = int.from_bytes(self._last_frame[4:8], "little")
            if names_version != self._names_version:
                self._tell("names", self._names_text(reader))

    def _named(self, names: str, counts: AnyArray) -> dict[str, int]:
        """Counts of a frame by the names that the feed's `extra` lists; those without a name are left out."""
        extra = self.reader.info.get("extra", {}) if self.reader is not None else {}
        listed = [name for name in str(extra.get(names, "")).split(",") if name]
        return dict(zip(listed, counts.tolist(), strict=False))

    def status(self) -> dict[str, Any]:
        """What `/api/status` answers."""
        document: dict[str, Any] = {
            "state": self.state,
            "feed": self.settings.feed,
            "viewers": len(self.viewers),
            "viewers_max": self.settings.viewers_max,
            **self.counts,
        }
        if self.reader is not None:
            names = ("game", "map_name", "tick_rate")
            document |= {name: self.reader.info.get(name) for name in names}
            document |= {"run": str(self.reader.started_ns), "frames_torn": self.reader.torn}
        if self._last_frame is not None:
            head = LiveFrame.from_bytes(self._last_frame).head
            document |= {name: int(head["metrics"][name]) for name in METRIC_NAMES}
            document |= {"tick": int(head["tick"]), "players": int(head["player_count"])}
            document["refused"] = self._named("reasons", head["refused"])
            document["flagged"] = self._named("measures", head["flagged"])
            document["frame_age_s"] = round(self._clock() - self._last_frame_at, 3)
        return document
