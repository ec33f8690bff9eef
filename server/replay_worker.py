"""`python -m server.replay_worker [FILE]`: makes a recorded match again for one page; messages in `server.replay_wire`.

The edge starts it and speaks with it through its standard input and output; without FILE it loads its kernels and waits
for `open`, so that one can be kept warm. It ends when its standard input does, that is with the edge at the latest, and
lowers its own priority: a server on the same machine comes first.

A request for frames is answered in one message. Between frames it looks whether the user has gone elsewhere meanwhile;
then what was asked for before is dropped.
"""

import contextlib
import json
import os
import select
import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from persistence.errors import PersistenceError
from server.errors import ServerError
from server.kernels import MOVING, prepare
from server.livemesh import live_mesh
from server.liverows import live_info
from server.replay import Replay
from server.replay_frames import ReplayFrames, pack_chunk
from server.replay_index import ReplayIndex
from server.replay_shots import shot_message
from server.replay_wire import (
    FRAMES_PER_CHUNK_MAX,
    MESSAGE,
    MESSAGE_BYTES_MAX,
    REQUEST_BYTES_MAX,
    REQUESTS_WAITING_MAX,
    STRIDE_MAX,
    Binary,
    Kind,
)
from server.shots import explain
from sim.errors import SimError

__all__ = ["Inbox", "Worker", "main"]

NICE = 5
SPANS_MAX = 1000
DIGITS_MAX = 20
PREPARED_PER_MESSAGE = 8
READ_BYTES = 1 << 16
INTEGER_MAX = 1 << 62
MODULES = ("sim.games.arena",)
Send = Callable[[Kind, bytes], None]


class Inbox:
    """Requests that arrive on a file descriptor, a line of JSON each.

    More than `REQUESTS_WAITING_MAX` at once, or a line that is too long or no JSON object, are dropped and counted.

    Attributes:
        ended: Whether the other side has closed.
        dropped: Requests that were dropped.
        turn: The greatest `turn` of any request seen.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: deque[dict[str, Any]] = deque()
        self._rest = b""
        self.ended = False
        self.dropped = 0
        self.turn = 0
        os.set_blocking(descriptor, False)

    def poll(self, timeout_s: float | None = 0.0) -> None:
        """Take in what has arrived, waiting up to `timeout_s` for it; None: until something has."""
        if self.ended or not select.select([self._descriptor], [], [], timeout_s)[0]:
            return
        with contextlib.suppress(BlockingIOError):
            content = os.read(self._descriptor, READ_BYTES)
            self.ended = not content
            *lines, self._rest = (self._rest + content).split(b"\n")
            for line in lines:
                self._add(line)
        if len(self._rest) > REQUEST_BYTES_MAX:
            self._rest = self._rest[:REQUEST_BYTES_MAX] + b"\0"  # no JSON: dropped when its end comes

    def _add(self, line: bytes) -> None:
        request: Any = None
        if len(line) <= REQUEST_BYTES_MAX and len(self._waiting) < REQUESTS_WAITING_MAX:
            with contextlib.suppress(ValueError, RecursionError):
                request = json.loads(line)
        if not isinstance(request, dict):
            self.dropped += 1
            return
        turn = request.get("turn")
        if isinstance(turn, int):
            self.turn = max(self.turn, turn)
        self._waiting.append(request)

    def next(self) -> dict[str, Any] | None:
        """The next request, waiting for it; None when no more will come."""
        while not self._waiting and not self.ended:
            self.poll(None)
        return self._waiting.popleft() if self._waiting else None


def _integer(request: dict[str, Any], name: str, low: int, high: int) -> int:
    value = request.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ServerError(f"{name} = {str(value)[:40]}: must be {low} to {high}")
    return value


class Worker:
    """Answers requests about one recording after another."""

    def __init__(self, inbox: Inbox, send: Send) -> None:
        """Requests come from `inbox`, messages go to `send`."""
        self._inbox = inbox
        self._send = send
        self._replay: Replay | None = None
        self._frames: ReplayFrames | None = None
        self._index: ReplayIndex | None = None
        self._has_differed = False
        self._problem_count = 0
        self._operations: dict[str, Callable[[dict[str, Any]], None]] = {
            "open": self._open,
            "frames": self._answer_frames,
            "network": self._answer_network,
            "shot": self._answer_shot,
        }

    def tell(self, kind: str, **values: Any) -> None:
        """Send a text message."""
        self._send(Kind.TEXT, json.dumps({"type": kind, **values}, ensure_ascii=False, allow_nan=False).encode())

    def run(self) -> None:
        """Load the kernels, then answer until the inbox ends."""
        if not self._prepare():
            return
        self.tell("ready")
        while (request := self._inbox.next()) is not None:
            self.answer(request)

    def _prepare(self) -> bool:
        def told(done: int, total: int, _: str) -> None:
            if done % PREPARED_PER_MESSAGE == 0:
                self.tell("preparing", done=done, total=total)

        try:
            prepare(told, MODULES, without=MOVING)
        except OSError as error:
            self.tell("failed", text=f"the kernels cannot be prepared: {error}")
            return False
        return True

    def answer(self, request: dict[str, Any]) -> None:
        """Do what one request asks for; one that makes no sense is refused."""
        operation = self._operations.get(str(request.get("op")))
        if operation is None:
            self.tell("refused", text=f"op = {str(request.get('op'))[:40]}: not one of {', '.join(self._operations)}")
            return
        try:
            operation(request)
        except (ServerError, SimError, PersistenceError) as error:
            self.tell("refused", text=self._plain(str(error)), id=request.get("id"))

    def _plain(self, text: str, path: Path | None = None) -> str:
        """One line, without the directory of the recording: who watches need not know it."""
        path = path or (self._replay.path if self._replay is not None else None)
        return " ".join((text.replace(str(path), path.name) if path is not None else text).split())

    # Opening

    def _open(self, request: dict[str, Any]) -> None:
        path = Path(str(request.get("file")))
        self._replay = self._frames = self._index = None
        try:
            replay = Replay.open(path)
        except (ServerError, SimError, PersistenceError) as error:
            self.tell("failed", text=self._plain(str(error), path))
            return
        self._replay, self._has_differed = replay, False
        self._problem_count = len(replay.problems)
        self._frames = ReplayFrames(replay)
        self.tell("opened", **self._description(replay))
        wanted = request.get("tick")
        tick = wanted if isinstance(wanted, int) and not isinstance(wanted, bool) else replay.first_tick
        self._first_frame(replay, tick)
        mesh = live_mesh(replay.world.map)
        if mesh is not None:
            self._send(Kind.BINARY, int(Binary.MESH).to_bytes(4, "little") + mesh.to_bytes())
        self._tell_index(replay)

    def _description(self, replay: Replay) -> dict[str, Any]:
        header = replay.header
        return {
            "file": replay.path.name,
            "info": asdict(live_info(replay.world, ())),
            "complete": replay.complete,
            **self._extent(replay),
            "started_unix_s": header.started_unix_ns // 1_000_000_000,
            "build": header.kernel_digest,
            "server": header.server_version,
            "max_rewind_ms": header.max_rewind_ms,
        }

    def _extent(self, replay: Replay) -> dict[str, Any]:
        """What can be played, and what is wrong; less of it, and more, when damage comes to light on the way."""
        return {
            "first": replay.first_tick,
            "last": replay.last_tick,
            "spans": [[span.first, span.last] for span in replay.spans[:SPANS_MAX]],
            "problems": [self._plain(line) for line in replay.problems],
        }

    def _first_frame(self, replay: Replay, tick: int) -> None:
        """The frame that the page begins with, before anything that it can wait for."""
        held = [span for span in replay.spans if span.first <= tick] or list(replay.spans[:1])
        tick = max(held[-1].first, min(tick, held[-1].last))
        self._send_frames(0, tick, tick, 1)

    def _tell_index(self, replay: Replay) -> None:
        index = self._index = ReplayIndex(replay.notes())
        if self._frames is not None:
            self._frames.figures = index.figures
        self._send(Kind.BINARY, index.shots())
        self.tell("index", **index.document(), problems=[self._plain(line) for line in replay.problems])

    def _answer_network(self, request: dict[str, Any]) -> None:
        entity = request.get("entity")
        if not isinstance(entity, str) or not (entity.isascii() and entity.isdigit()) or len(entity) > DIGITS_MAX:
            raise ServerError(f"entity = {str(entity)[:40]}: must be an entity's number as text")
        if self._index is None or self._replay is None:
            raise ServerError("no recording is open")
        number = min(int(entity), (1 << 64) - 1)
        message = self._index.connection(number, tick_hz=self._replay.header.tick_hz)
        self.tell(message.pop("type"), **message)

    def _answer_shot(self, request: dict[str, Any]) -> None:
        number = _integer(request, "number", 1, INTEGER_MAX)
        if self._replay is None:
            raise ServerError("no recording is open")
        try:
            self.tell("shot", **shot_message(explain(self._replay, number)))
        except (ServerError, SimError, PersistenceError) as error:
            self.tell("shot", number=number, text=self._plain(str(error)), verdict="", drawing=None, tick=0, entity="0")

    # Frames

    def _answer_frames(self, request: dict[str, Any]) -> None:
        identity = _integer(request, "id", 0, INTEGER_MAX)
        turn = _integer(request, "turn", 0, INTEGER_MAX)
        stride = _integer(request, "stride", 1, STRIDE_MAX)
        first = _integer(request, "first", 0, INTEGER_MAX)
        last = _integer(request, "last", first, first + stride * FRAMES_PER_CHUNK_MAX - 1)
        self._send_frames(identity, first, last, stride, turn)

    def _send_frames(self, identity: int, first: int, last: int, stride: int, turn: int | None = None) -> None:
        maker = self._frames
        if maker is None:
            raise ServerError("no recording is open")
        made: list[bytes] = []
        names: dict[str, str] = {}
        for frame in maker.frames(first, last, stride):
            made.append(frame)
            names |= maker.new_names()
            self._inbox.poll()
            if self._inbox.ended or (turn is not None and turn < self._inbox.turn):
                self.tell("dropped", id=identity)
                return
        if names:
            self.tell("names", names=names)
        self._send(Kind.BINARY, pack_chunk(identity, first, made, stride=stride))
        if maker.differs is not None and not self._has_differed:
            self._has_differed = True
            self.tell("differs", tick=maker.differs)
        if self._replay is not None and len(self._replay.problems) > self._problem_count:
            self._problem_count = len(self._replay.problems)
            self.tell("damaged", **self._extent(self._replay))


def _sender() -> Send:
    """Writes messages to what was standard output; what anybody prints goes to standard error from now on."""
    descriptor = os.dup(1)
    os.dup2(2, 1)

    def send(kind: Kind, content: bytes) -> None:
        if len(content) > MESSAGE_BYTES_MAX:
            kind, content = Kind.TEXT, json.dumps({"type": "refused", "text": "an answer is too large"}).encode()
        view = memoryview(MESSAGE.pack(len(content), kind) + content)
        while view:
            view = view[os.write(descriptor, view) :]

    return send


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) > 1:
        sys.stderr.write("replay worker: give one recording, or none to wait for one\n")
        return 2
    send = _sender()
    with contextlib.suppress(OSError):
        os.nice(NICE)
    worker = Worker(Inbox(0), send)
    try:
        if arguments:
            worker.answer({"op": "open", "file": arguments[0]})
        worker.run()
    except BrokenPipeError:
        return 0
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
