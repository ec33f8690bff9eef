"""Ending processes that were started."""

import subprocess
from typing import Any

__all__ = ["end_processes"]

END_S = 20.0  # for a process to end by itself once it is asked to


def end_processes(*processes: "subprocess.Popen[Any] | None", within_s: float = END_S) -> None:
    """Ask processes to end, one after another; who does not in time is killed, so that none is left behind."""
    for process in processes:
        if process is None:
            continue
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
