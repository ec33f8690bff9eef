"""Compiling all kernels before the first tick: on every core when the cache is cold, from the cache otherwise.

A marker file per kernel, named by a digest of all sources that it comes from, tells that the cache holds it. Kernels
without one are compiled into the shared cache by a process per core, heaviest first; then each process that needs them
only loads them.
"""

import importlib
import multiprocessing
import os
import platform
import signal
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from sim.jit import BOUNDS_CHECKED, cache_root, compile_declared, declared_kernels, source_digest

__all__ = ["CLIENTS_ONLY", "MODULES", "MOVING", "SIGHT", "prepare"]

Progress = Callable[[int, int, str], None]

MODULES = ("sim.games.arena", "server.app")
"""Importing these declares every kernel that a server uses."""

HEAVY = (
    "move_players", "hitscan_batch", "projectiles_fly", "assemble", "receive", "push_movers", "separate_players",
    "sweep_batch", "receive_packets", "refresh", "receive_batch", "build", "build_binary", "compose_packets",
    "tell_events", "find_pairs",
)  # fmt: skip
"""Kernels that take longest to compile, the longest first; beginning with them keeps the cores evenly busy."""

LATER = frozenset(
    {
        "sim.geometry_kernels.any_hit_batch",
        "sim.narrowphase_kernels.sweep_batch",
        "sim.broadphase_query_kernels.near_batch",
        "sim.broadphase_query_kernels.nearest_batch",
        "sim.broadphase_query_kernels.boxed_batch",
        "sim.broadphase_query_kernels.ray_batch",
    }
)
"""Batches of queries that no tick asks: compiled when first called, so that nobody waits for them at a start."""

CLIENTS_ONLY = frozenset(
    {
        "net.columns_kernels.join_planes",
        "net.udp_kernels.group_receive",
        "net.udp_kernels.group_send",
        "net.udp_kernels.poll_one",
        "net.zone_kernels.apply_sections",
    }
)
"""Kernels of modules that both sides import, which a server never calls."""

SIGHT = frozenset(
    {
        "server.sight_kernels.tell_views",
        "sim.visibility_kernels.aim_rays",
        "sim.visibility_kernels.cast_rays",
        "sim.visibility_kernels.cells_at",
        "sim.visibility_kernels.list_ways",
        "sim.visibility_kernels.sort_views",
    }
)
"""Kernels that decide about visibility: for a map that has not been baked nobody calls them."""

MOVING = frozenset(
    {
        "sim.movers_kernels.place_movers",
        "sim.movers_kernels.put_movers",
        "sim.movers_push_kernels.push_movers",
        "sim.movers_push_kernels.turn_movers",
    }
)
"""Kernels that move doors and lifts: for a map without any nobody calls them."""

MARKERS_MAX = 8192
PARENT_CHECK_S = 0.5


def _compile_one(name: str) -> str:
    compile_declared(name)
    return name


def _follow_parent(parent: int) -> None:
    """End this process when its parent has ended: a pool's worker would wait for work for ever."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()


def _marker(name: str) -> Path:
    """Where it is marked that the cache holds a kernel.

    The cache takes no kernel of a file with another time of change, as another checkout's is.
    """
    module = name.rpartition(".")[0]
    checked = "-checked" if BOUNDS_CHECKED else ""
    source = importlib.import_module(module).__file__
    changed = Path(source).stat().st_mtime_ns if source else 0
    return cache_root() / "ready" / f"{name}-{source_digest(module)}-{changed:x}-{platform.machine()}{checked}"


def _mark(names: Sequence[str]) -> None:
    """Remember that these kernels are in the cache; the oldest marks go first."""
    if not names:
        return
    (cache_root() / "ready").mkdir(parents=True, exist_ok=True)
    for name in names:
        _marker(name).touch()
    marks = sorted((cache_root() / "ready").iterdir(), key=lambda path: path.stat().st_mtime)
    for old in marks[: max(0, len(marks) - MARKERS_MAX)]:
        old.unlink(missing_ok=True)


def _weight(name: str) -> int:
    function = name.rpartition(".")[2]
    return HEAVY.index(function) if function in HEAVY else len(HEAVY)


def prepare(
    progress: Progress | None = None, modules: Sequence[str] = MODULES, *, without: Collection[str] = ()
) -> int:
    """Make every declared kernel ready to be called.

    Args:
        progress: Told of each kernel that is ready: (done, total, name).
        modules: What to import first.
        without: Kernels that will not be called.

    Returns:
        How many kernels were compiled because the cache did not have them.
    """
    for module in modules:
        importlib.import_module(module)
    names = [name for name in declared_kernels() if name not in LATER and name not in without]
    missing = sorted((name for name in names if not _marker(name).exists()), key=_weight)
    workers = len(os.sched_getaffinity(0))
    if missing and workers > 1:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, _start_worker, (os.getpid(),)) as pool:
            jobs = [pool.submit(_compile_one, name) for name in missing]
            for done, job in enumerate(as_completed(jobs), start=1):
                if progress is not None:
                    progress(done, len(missing), job.result())
    compiled = 0
    for done, name in enumerate(names):
        if progress is not None and not (missing and workers > 1):
            progress(done, len(names), name)
        compiled += compile_declared(name)
    _mark(missing)
    return len(missing) if workers > 1 else compiled
