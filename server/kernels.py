"""Compiling all kernels before the first tick: on every core when the cache is cold, from the cache otherwise.

A marker file, named by a digest of all sources that kernels come from, tells that the cache holds them. Without it,
processes compile the kernels into the shared cache, heaviest first; then each process that needs them only loads them.
"""

import importlib
import multiprocessing
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from sim.jit import BOUNDS_CHECKED, cache_root, compile_declared, declared_kernels, source_digest, warm_up

__all__ = ["MODULES", "prepare"]

Progress = Callable[[int, int, str], None]

MODULES = ("sim.games.arena", "server.app", "net.client", "net.replica", "net.connection")
"""Importing these declares every kernel that a server or its bots use."""

HEAVY = ("move_players", "assemble", "receive", "refresh", "receive_batch", "build", "build_binary", "hitscan_batch")
"""Kernels that take longest to compile; beginning with them keeps the cores evenly busy."""


def _compile_one(name: str) -> str:
    compile_declared(name)
    return name


def _marker(names: Sequence[str]) -> str:
    digest = source_digest(*{name.rpartition(".")[0] for name in names})
    checked = "-checked" if BOUNDS_CHECKED else ""
    return f"ready-{digest}-{len(names)}-{platform.machine()}{checked}"


def prepare(progress: Progress | None = None, modules: Sequence[str] = MODULES) -> int:
    """Make every declared kernel ready to be called.

    Args:
        progress: Told of each kernel that is ready: (done, total, name).
        modules: What to import first.

    Returns:
        How many kernels were compiled because the cache did not have them.
    """
    for module in modules:
        importlib.import_module(module)
    names = declared_kernels()
    marker = cache_root() / _marker(names)
    compiled = 0
    workers = len(os.sched_getaffinity(0))
    if not marker.exists() and workers > 1:
        order = sorted(names, key=lambda name: name.rpartition(".")[2] not in HEAVY)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context) as pool:
            for job in as_completed([pool.submit(_compile_one, name) for name in order]):
                compiled += 1
                if progress is not None:
                    progress(compiled, len(names), job.result())
    loaded = warm_up(progress if compiled == 0 else None)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    return compiled or loaded
