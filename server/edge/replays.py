"""Recorded matches in the browser: which there are, and a worker process for each page that plays one.

The edge reads no more of a recording than its header and index, on a thread beside the event loop, and loads no kernel:
playing is the work of `server.replay_worker`, whose messages are handed on as they are.

Workers are few (`replays_max`). When one more is asked for, the one that has been idle longest is stopped, if it has
been for IDLE_S; otherwise the page is told to try later. While somebody looks at the list, one worker is kept warm: its
kernels are loaded before it is known what it will play.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from persistence.errors import PersistenceError
from persistence.recording import SUFFIX, ChunkKind, RecordingReader
from server.edge.settings import EdgeSettings
from server.replay_wire import MESSAGE, MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, Kind

__all__ = ["IDLE_S", "Recordings", "Replays", "Worker", "is_allowed"]

LISTED_MAX = 500  # newest first; older ones are counted
NAME_CHARS_MAX = 200
IDLE_S = 5.0
WARM_S = 300.0  # how long a spare waits for somebody
REQUESTS_PER_SECOND = 120
UNSENT_BYTES_MAX = 1 << 16  # requests that a worker has not read yet
STOP_S = 2.0
PROBLEM_LINES = 3


@dataclass(slots=True)
class Recordings:
    """The recordings of one directory.

    Attributes:
        directory: Where they lie; None: nowhere, there are none.
    """

    directory: Path | None
    _known: dict[str, tuple[tuple[int, int], dict[str, Any]]] = field(default_factory=dict)

    def path(self, name: str) -> Path | None:
        """The file of that name; None for what is no name of a recording here, whatever it is."""
        if self.directory is None or not name.endswith(SUFFIX) or not 0 < len(name) <= NAME_CHARS_MAX:
            return None
        if Path(name).name != name or "\0" in name or name.startswith("."):
            return None
        path = self.directory / name
        # A link could lead out of the directory.
        return path if path.is_file() and not path.is_symlink() else None

    def look(self) -> dict[str, Any]:
        """What `/api/replays` answers; reads files, so never on the event loop."""
        if self.directory is None:
            return {"recordings": [], "more": 0, "note": "This edge shows no recordings; start it with --record-dir."}
        try:
            found = [entry for entry in os.scandir(self.directory) if self.path(entry.name) is not None]
            stats = {entry.name: entry.stat() for entry in found}
        except FileNotFoundError:
            return {"recordings": [], "more": 0, "note": "There are no recordings yet."}
        except OSError as error:
            return {"recordings": [], "more": 0, "note": f"The recordings cannot be read: {error.strerror}."}
        names = sorted(stats, key=lambda name: (-stats[name].st_mtime_ns, name))
        shown = names[:LISTED_MAX]
        known, self._known = self._known, {}
        for name in shown:
            stamp = (stats[name].st_mtime_ns, stats[name].st_size)
            kept = known.get(name)
            self._known[name] = kept if kept and kept[0] == stamp else (stamp, _summary(self.directory / name))
        note = "" if shown else "There are no recordings yet."
        entries = [
            {"name": name, "bytes": stats[name].st_size, "changed_s": stats[name].st_mtime_ns // 10**9}
            | self._known[name][1]
            for name in shown
        ]
        return {"recordings": entries, "more": len(names) - len(shown), "note": note}


def _summary(path: Path) -> dict[str, Any]:
    """What the list says of one recording; what is wrong with it among that."""
    try:
        with RecordingReader(path) as reader:
            header = reader.header
            ticks = [chunk for chunk in reader.chunks if chunk.kind is ChunkKind.COMMANDS]
            first = min((chunk.first_tick for chunk in ticks), default=0)
            last = max((chunk.first_tick + chunk.tick_count for chunk in ticks), default=0)
            return {
                "map": str(header.get("map_name", "?"))[:NAME_CHARS_MAX],
                "game": str(header.get("game", "?"))[:NAME_CHARS_MAX],
                "build": str(header.get("kernel_digest", ""))[:NAME_CHARS_MAX],
                "started_s": int(header.get("started_unix_ns", 0)) // 10**9,
                "seconds": (last - first) / max(1, int(header.get("tick_hz", 60))),
                "complete": reader.complete,
                "problems": [line.replace(str(path), path.name) for line in reader.problems[:PROBLEM_LINES]],
            }
    except (PersistenceError, ValueError, TypeError) as error:
        text = " ".join(str(error).replace(str(path), path.name).split())
        return {"problems": [text], "complete": False, "unreadable": True}


class Worker:
    """One worker process; `open` gives it a recording."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.asked_at = time.monotonic()
        self.name = ""

    @classmethod
    async def start(cls) -> "Worker":
        """A new process, which begins to load its kernels."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "server.replay_worker",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, "NUMBA_NUM_THREADS": "1"},
        )  # fmt: skip
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.returncode is None

    def ask(self, request: str) -> bool:
        """Hand over one request; False where the worker does not keep up, or is gone."""
        pipe = self._process.stdin
        line = request.replace("\n", " ").encode()
        if pipe is None or not self.alive or len(line) > REQUEST_BYTES_MAX:
            return False
        if pipe.transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            return False
        self.asked_at = time.monotonic()
        pipe.write(line + b"\n")
        return True

    async def messages(self) -> AsyncIterator[tuple[Kind, bytes]]:
        """What the worker says, until it ends."""
        pipe = self._process.stdout
        assert pipe is not None
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, kind = MESSAGE.unpack(await pipe.readexactly(MESSAGE.size))
                if length > MESSAGE_BYTES_MAX:
                    return
                yield Kind(kind), await pipe.readexactly(length)

    async def stop(self) -> None:
        """End the process, by force where it does not listen."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            if self.alive:
                with contextlib.suppress(ProcessLookupError):
                    end()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), STOP_S)


class Replays:
    """Workers for pages, at most `replays_max` at once.

    Attributes:
        recordings: What there is to play.
        counts: Opened, refused for want of workers, stopped for others.
    """

    def __init__(self, settings: EdgeSettings) -> None:
        self.recordings = Recordings(Path(settings.record_dir) if settings.record_dir else None)
        self.counts = {"replays_opened": 0, "replays_refused": 0, "replays_stopped": 0}
        self._most = settings.replays_max
        self._busy: dict[Worker, None] = {}
        self._spare: Worker | None = None
        self._spare_until = 0.0
        self._lock = asyncio.Lock()

    def status(self) -> dict[str, int]:
        """Counters for `/api/status`."""
        return {**self.counts, "replays_open": len(self._busy)}

    async def look(self) -> dict[str, Any]:
        """The list of recordings; somebody who looks at it is going to open one, so a worker is made ready."""
        found = await asyncio.to_thread(self.recordings.look)
        if found["recordings"]:
            await self.warm()
        return found

    async def warm(self) -> None:
        """Keep one worker ready, as far as there may be one more and there is anything to play."""
        if self.recordings.directory is None:
            return
        async with self._lock:
            self._spare_until = time.monotonic() + WARM_S
            if (self._spare is None or not self._spare.alive) and len(self._busy) < self._most:
                self._spare = await Worker.start()

    async def run(self) -> None:
        """Let go of a spare that nobody wants, until cancelled; then stop all workers."""
        try:
            while True:
                await asyncio.sleep(1.0)
                if self._spare is not None and time.monotonic() > self._spare_until:
                    async with self._lock:
                        spare, self._spare = self._spare, None
                    if spare is not None:
                        await spare.stop()
        finally:
            spares = [self._spare] if self._spare is not None else []
            await asyncio.gather(*(worker.stop() for worker in (*self._busy, *spares)))

    async def take(self) -> Worker | None:
        """A worker: the spare, a new one, or one in place of the one idle longest; None when all are busy."""
        async with self._lock:
            if len(self._busy) >= self._most:
                idle = min(self._busy, key=lambda worker: worker.asked_at)
                if time.monotonic() - idle.asked_at < IDLE_S:
                    self.counts["replays_refused"] += 1
                    return None
                del self._busy[idle]
                self.counts["replays_stopped"] += 1
                await idle.stop()
            worker, self._spare = self._spare, None
            if worker is None or not worker.alive:
                worker = await Worker.start()
            self._busy[worker] = None
            worker.asked_at = time.monotonic()
            self.counts["replays_opened"] += 1
            return worker

    async def serve(self, socket: WebSocket) -> None:
        """Play one recording to a page, over the WebSocket that asked for it."""
        await socket.accept()
        path = self.recordings.path(socket.query_params.get("file", ""))
        if path is None:
            await _end(socket, "There is no recording of that name. Choose one from the list.")
            return
        worker = await self.take()
        if worker is None:
            await _end(socket, f"{self._most} recordings are being watched, which is the most. Try again in a while.")
            return
        tick = socket.query_params.get("tick", "")
        wanted = int(tick) if tick.isascii() and tick.isdigit() and len(tick) < 19 else None
        try:
            worker.ask(json.dumps({"op": "open", "file": str(path), "tick": wanted}))
            await self._relay(socket, worker)
        finally:
            self._busy.pop(worker, None)
            await worker.stop()

    async def _relay(self, socket: WebSocket, worker: Worker) -> None:
        """Carry messages both ways until either side ends."""
        sender = asyncio.create_task(_send(socket, worker))
        listener = asyncio.create_task(_hear(socket, worker))
        await asyncio.wait({sender, listener}, return_when=asyncio.FIRST_COMPLETED)
        if sender.done() and not listener.done():
            stopped = worker not in self._busy
            text = "It was stopped for another one." if stopped else "The process that plays it has ended."
            await _end(socket, f"{text} Reload the page to go on.")
        for task in (sender, listener):
            task.cancel()
        await asyncio.gather(sender, listener, return_exceptions=True)


async def _end(socket: WebSocket, text: str) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_text(json.dumps({"type": "failed", "text": text}))
        await socket.close()


async def _send(socket: WebSocket, worker: Worker) -> None:
    with contextlib.suppress(WebSocketDisconnect):
        async for kind, content in worker.messages():
            if kind is Kind.TEXT:
                await socket.send_text(content.decode())
            else:
                await socket.send_bytes(content)


async def _hear(socket: WebSocket, worker: Worker) -> None:
    """Hand on a page's requests. It may ask for frames, not for files: those are named when it connects."""
    left, at = float(REQUESTS_PER_SECOND), time.monotonic()
    while True:
        message = await socket.receive()
        if message["type"] != "websocket.receive":
            return
        now = time.monotonic()
        left, at = min(REQUESTS_PER_SECOND, left + (now - at) * REQUESTS_PER_SECOND) - 1, now
        text = message.get("text") or ""
        if left < 0 or not is_allowed(text) or not worker.ask(text):
            await _end(socket, "The page asked for too much, or for what makes no sense.")
            return


def is_allowed(text: str) -> bool:
    """Whether a page may send this: an object, and none that opens a file."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(request, dict) and request.get("op") != "open"
