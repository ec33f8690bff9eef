"""What this machine lacks for hitreg, and how to mend it."""

import importlib.util
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from net.errors import NetError
from net.udp import BATCHED, ServerSocket
from sim.jit import cache_root
from tools.openarena import maps_directory

__all__ = ["Finding", "examine"]

DISK_BYTES_NEEDED = 1 << 30
FILES_NEEDED = 4096
BUFFER_BYTES_WANTED = 4 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    ok: bool
    detail: str
    remedy: str
    needed: bool = True


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("Python", ok, platform.python_version(), "install python3 of version 3.11 or later")


def _system() -> Finding:
    detail = f"{platform.system()} {platform.machine()}, batched system calls {'on' if BATCHED else 'off'}"
    return Finding("system", BATCHED, detail, "64-bit Linux is fastest; others use plain sockets", needed=False)


def _packages() -> list[Finding]:
    needed = ("numpy", "numba", "scipy", "nacl", "msgpack", "trimesh", "starlette", "uvicorn", "websockets")
    tests = ("pytest", "hypothesis", "embreex", "playwright", "mypy")
    return [
        Finding(f"package {name}", found, "installed" if found else "not installed", "run make setup", name in needed)
        for name in (*needed, *tests)
        for found in [importlib.util.find_spec(name) is not None]
    ]


def _browser() -> Finding:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    remedy = "apt-get install chromium (only the page's tests need it)"
    return Finding("Chromium", path is not None, path or "not found", remedy, needed=False)


def _maps() -> Finding:
    found = maps_directory().exists()
    detail = str(maps_directory()) if found else "not fetched yet"
    remedy = "hitreg map info openarena:oa_dm1 fetches them (needs apt-get)"
    return Finding("OpenArena maps", found, detail, remedy, needed=False)


def _cache() -> Finding:
    root = cache_root()
    parent = next(path for path in (root, *root.parents) if path.exists())
    if not os.access(parent, os.W_OK):
        return Finding("kernel cache", False, f"{root} is not writable", "set HITREG_CACHE_DIR to a writable directory")
    free = shutil.disk_usage(parent).free
    detail = f"{root}, {free >> 30} GiB free"
    return Finding("kernel cache", free > DISK_BYTES_NEEDED, detail, "free a gigabyte, or set HITREG_CACHE_DIR")


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    remedy = f"ulimit -n {min(hard, FILES_NEEDED)} before starting a thousand bots"
    return Finding("open files", soft >= FILES_NEEDED, f"limit {soft}", remedy, needed=False)


def _socket() -> list[Finding]:
    try:
        with ServerSocket("127.0.0.1:0") as server:
            size = server.statistics()["receive_buffer_bytes"]
    except NetError as error:
        return [Finding("UDP on 127.0.0.1", False, str(error), "allow loopback sockets")]
    detail = f"{size >> 10} KiB receive buffer"
    remedy = f"sysctl -w net.core.rmem_max={BUFFER_BYTES_WANTED} keeps bursts of a thousand clients"
    return [
        Finding("UDP on 127.0.0.1", True, "works", ""),
        Finding("socket buffers", size >= BUFFER_BYTES_WANTED, detail, remedy, needed=False),
    ]


def _memory() -> Finding:
    shared = Path("/dev") / "shm"
    detail = str(shared) if shared.is_dir() else "missing"
    return Finding(
        "shared memory", shared.is_dir(), detail, "mount a tmpfs on /dev/shm; the feed uses /tmp without it", False
    )


def examine() -> list[Finding]:
    """Look at everything hitreg rests on."""
    return [
        _python(), _system(), *_packages(), _cache(), *_socket(), _files(), _memory(), _browser(), _maps(),
    ]  # fmt: skip
