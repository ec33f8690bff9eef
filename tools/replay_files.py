"""Which recording a command means: a path, a part of a name among the recordings kept, or the newest."""

from pathlib import Path

from persistence.recording import SUFFIX
from server.config import load_config
from tools.errors import ToolsError

__all__ = ["find_recording", "recordings", "recordings_directory"]

NAMES_SHOWN_MAX = 5


def recordings_directory(directory: Path | None = None) -> Path:
    """Where recordings are kept: as given, or by the configuration and the environment.

    Raises:
        ConfigError: A setting of the environment is wrong.
        ToolsError: The server is configured to record nothing.
    """
    if directory is not None:
        return directory
    configured = load_config().record_dir
    if not configured:
        raise ToolsError("record_dir is empty, so nothing is recorded: give the path of a recording, or --dir")
    return Path(configured).expanduser()


def recordings(directory: Path) -> list[Path]:
    """The recordings of a directory, the newest first."""

    def moment(path: Path) -> int:
        try:
            return path.stat().st_mtime_ns
        except OSError:  # removed by a running server's retention
            return 0

    try:
        found = [path for path in directory.iterdir() if path.suffix == SUFFIX]
    except OSError:
        return []
    return sorted(found, key=lambda path: (-moment(path), path.name))


def find_recording(text: str | None, directory: Path | None = None) -> Path:
    """The recording that is meant.

    Args:
        text: A path, or a part of the file name of exactly one kept recording; None: the newest.
        directory: Where recordings are kept; as configured unless given.

    Raises:
        ToolsError: There is none, or several.
    """
    if text is not None and Path(text).is_file():
        return Path(text)
    home = recordings_directory(directory)
    kept = recordings(home)
    if text is None:
        if not kept:
            raise ToolsError(f"no recordings in {home}: run a server first (hitreg run), or give a path")
        return kept[0]
    found = [path for path in kept if text in path.name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ToolsError(f"recording {text}: no such file, and no recording in {home} has that in its name")
    names = ", ".join(path.name for path in found[:NAMES_SHOWN_MAX])
    more = f" and {len(found) - NAMES_SHOWN_MAX} more" if len(found) > NAMES_SHOWN_MAX else ""
    raise ToolsError(f"recording {text}: fits {names}{more}; give more of the name")
