"""Fetches the maps of the Debian package openarena-081-maps, the real input of tests and benchmarks.

The package's content is under the GPL: it is kept in the cache directory and is never part of this project.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from server.maps.archive import extract_maps
from sim.jit import cache_root
from tools.errors import ToolsError

__all__ = ["PACKAGE", "fetch_maps", "map_names", "map_path", "maps_directory", "pk3_path"]

PACKAGE = "openarena-081-maps"
DOWNLOAD_SECONDS_MAX = 300


def _home() -> Path:
    return cache_root().parent / "openarena"


def maps_directory() -> Path:
    """Where the unpacked package lies, or would lie."""
    return _home() / PACKAGE


def _run(command: list[str], directory: Path) -> str | None:
    """Run one command; None where it worked, else the last line of what it complained about."""
    try:
        done = subprocess.run(
            command, cwd=directory, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    if done.returncode == 0:
        return None
    lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
    return f"{' '.join(command)}: {lines[-1]}"


def _download(directory: Path) -> Path:
    """The package file, in `directory`; the package lists are brought up to date if the first try fails."""
    command = ["apt-get", "download", PACKAGE]
    problem = _run(command, directory)
    if problem is not None:
        _run(["apt-get", "update"], directory)
        problem = _run(command, directory)
    found = sorted(directory.glob(f"{PACKAGE}_*.deb"))
    if problem is not None or not found:
        reason = problem or "nothing was downloaded"
        raise ToolsError(
            f"cannot fetch the Debian package {PACKAGE}: {reason}; it needs a Debian or Ubuntu system with "
            f"network access, or the package unpacked by hand into {_home() / PACKAGE}"
        )
    return found[0]


def fetch_maps() -> Path:
    """The directory that holds the package's maps as .bsp files, downloaded and unpacked on the first call.

    Everything is made in a temporary directory that is renamed into place, so that a broken download, or two
    processes at once, never leave half a package behind.

    Returns:
        A directory with one `NAME.bsp` per map.

    Raises:
        ToolsError: The package cannot be had here.
    """
    home = _home()
    target = home / PACKAGE
    maps = target / "maps"
    if maps.is_dir():
        return maps
    try:
        home.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=".fetch-", dir=home))
    except OSError as error:
        raise ToolsError(f"cannot write to the cache {home}: {error}; set HITREG_CACHE_DIR") from error
    try:
        unpacked = fresh / PACKAGE
        if target.is_dir():
            shutil.copytree(target, unpacked)
        else:
            problem = _run(["dpkg-deb", "-x", str(_download(fresh)), str(unpacked)], fresh)
            if problem is not None:
                raise ToolsError(f"cannot unpack {PACKAGE}: {problem}")
        (unpacked / "maps").mkdir()
        for archive in sorted(unpacked.rglob("*.pk3")):
            extract_maps(archive, unpacked / "maps")
        _install(unpacked, target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return maps


def _install(unpacked: Path, target: Path) -> None:
    """Move the finished directory into place, unless another process was faster."""
    if target.is_dir() and not (target / "maps").is_dir():
        shutil.rmtree(target)
    try:
        unpacked.rename(target)
    except OSError as error:
        if not (target / "maps").is_dir():
            raise ToolsError(f"cannot move {PACKAGE} into {target}: {error}") from error


def map_names() -> list[str]:
    """Names of the maps in the package, sorted."""
    return sorted(path.stem for path in fetch_maps().glob("*.bsp"))


def map_path(name: str) -> Path:
    """The .bsp file of the map called `name`.

    Raises:
        ToolsError: The package cannot be had, or has no such map.
    """
    names = map_names()
    if name not in names:
        raise ToolsError(f"{PACKAGE} has no map {name!r}; it has {', '.join(names)}")
    return fetch_maps() / f"{name}.bsp"


def pk3_path() -> Path:
    """The package's .pk3 archive, as the game itself reads it."""
    archives = sorted(fetch_maps().parent.rglob("*.pk3"))
    if not archives:
        raise ToolsError(f"{fetch_maps().parent} holds no .pk3; delete it to fetch it again")
    return archives[0]
