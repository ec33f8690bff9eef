"""A whole server with players, for benchmarks of what a tick takes while something else goes on.

The server runs in this process, tick by tick, as `TickLoop` would; players, newcomers and junk come from a process of
their own (`tools.load`) over loopback UDP. What is compared is measured in windows by turns, with the same players, so
that a slow moment of the machine meets both.
"""

import contextlib
import gc
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from server.app import Server
from server.config import ServerConfig
from sim.arrays import F64
from tools.errors import ToolsError

__all__ = ["Rig", "Window"]

START_S = 120.0
SETTLE_TICKS = 10
NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Window:
    """Some seconds of ticks: how long each took [µs], processor time of each [µs], and datagrams received."""

    took_us: F64
    cpu_us: F64
    received: int


class Rig:
    """A server on a generated map with `players` connected."""

    def __init__(self, players: int, *, tick_hz: int, map_source: str = "arena:160") -> None:
        self.players, self._tick_ns = players, NS // tick_hz
        config = ServerConfig(
            map=map_source, tick_hz=tick_hz, snapshot_hz=30, clients_max=players + 512, feed=f"bench-{os.getpid()}",
            feed_hz=0, record_dir="",
        )  # fmt: skip
        self.server = Server(config)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.server)
        command = [sys.executable, "-m", "tools.load", "--card", str(self.server.card_file), "--players", str(players)]
        self._load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self._stack.callback(self._end_load)
        self._due = time.monotonic_ns()
        self.command("play")
        self.window(2.0)

    def command(self, line: str) -> dict[str, float]:
        """Give the load a command and tick until it answers.

        Raises:
            ToolsError: It did not answer in time.
        """
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        self._load.stdin.write(line + "\n")
        self._load.stdin.flush()
        deadline = time.monotonic() + START_S
        while not select.select([self._load.stdout], [], [], 0)[0]:
            if time.monotonic() > deadline or self._load.poll() is not None:
                raise ToolsError(f"bench: the load did not carry out {line!r} in {START_S:g} s")
            self.window(0.25)
        answer: dict[str, float] = json.loads(self._load.stdout.readline())
        return answer

    def window(self, seconds: float) -> Window:
        """Make ticks for some seconds, at their times; a tick that is late is made at once.

        The first few, which find what arrived since the last window, are made and not counted.
        """
        ticks = max(1, round(seconds * NS / self._tick_ns))
        took, cpu = np.zeros(ticks + SETTLE_TICKS), np.zeros(ticks + SETTLE_TICKS)
        gc.collect()
        gc.disable()
        before = 0
        self._due = max(self._due, time.monotonic_ns())
        try:
            for tick in range(len(took)):
                if tick == SETTLE_TICKS:
                    before = self.server.socket.statistics()["received"]
                time.sleep(max(0.0, (self._due - time.monotonic_ns()) / NS))
                start, start_cpu = time.monotonic_ns(), time.thread_time_ns()
                self.server.frame.run(start)
                took[tick] = (time.monotonic_ns() - start) / 1e3
                cpu[tick] = (time.thread_time_ns() - start_cpu) / 1e3
                self._due = max(self._due + self._tick_ns, start)
        finally:
            gc.enable()
        received = self.server.socket.statistics()["received"] - before
        return Window(took[SETTLE_TICKS:], cpu[SETTLE_TICKS:], received)

    def _end_load(self) -> None:
        assert self._load.stdin is not None
        self._load.stdin.close()
        try:
            self._load.wait(10.0)
        except subprocess.TimeoutExpired:
            self._load.kill()
            self._load.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
