"""Servers and bots of benchmarks in processes of their own, started as a user starts them."""

import os
import re
import subprocess
import sys

from tools.errors import ToolsError

__all__ = ["card_of", "start_hitreg"]


def start_hitreg(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`hitreg` with arguments, and with environment variables beside this process's own; stderr is dropped."""
    return subprocess.Popen(
        [sys.executable, "-m", "tools.cli", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **variables},
    )  # fmt: skip


def card_of(server: subprocess.Popen[str], bench: str) -> str:
    """Path of a server's card, once it says that it is ready.

    Raises:
        ToolsError: It ended before.
    """
    assert server.stdout is not None
    for line in server.stdout:
        found = re.match(r"card:\s+(\S+)", line)
        if found:
            return found[1]
    raise ToolsError(f"bench {bench}: the server did not start; run `hitreg serve` to see why")
