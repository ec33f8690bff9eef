"""Starts the real edge as a process of its own, for the tests of the web side."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WAIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Edge:
    """A running edge; `url` ends with a slash."""

    process: subprocess.Popen[str]
    url: str

    @property
    def host(self) -> str:
        return self.url.split("/")[2]

    def ask(self, path: str, *, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
        request = urllib.request.Request(self.url + path, method=method, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as response:
                return Answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as exc:
            with exc:
                return Answer(exc.code, exc.headers, exc.read())


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "server.edge", *arguments]


@contextmanager
def running_edge(feed: str, *arguments: str) -> Iterator[Edge]:
    """An edge on a free port, stopped at the end."""
    with subprocess.Popen(
        command("--feed", feed, "--port", "0", *arguments), stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        try:
            yield Edge(process, process.stdout.readline().split()[1])
        finally:
            process.terminate()
            process.wait(WAIT_S)
