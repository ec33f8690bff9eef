"""Old recordings make room for new ones: by age, and by what all of them take together.

Only regular files in the directory itself that end in `.hitrec` and begin as recordings do are ever removed, and none
that somebody is writing (`persistence.recording.is_being_written`), be it this process or another. The oldest go first,
by the time they were last written.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from persistence.recording import SUFFIX, is_being_written
from persistence.recording_format import PROLOGUE_BYTES, unpack_prologue

__all__ = ["FILES_MAX", "Retention", "recordings_in", "retire"]

FILES_MAX = 100_000  # looked at in one directory
DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Retention:
    """What is kept: at most so many bytes in all, and for so many days; 0: without limit."""

    keep_bytes: int = 0
    keep_days: float = 0.0


def _is_recording(path: Path) -> bool:
    """Whether a file begins as recordings do."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and (
            unpack_prologue(os.read(descriptor, PROLOGUE_BYTES)) is not None
        )
    except OSError:
        return False
    finally:
        os.close(descriptor)


def recordings_in(directory: Path) -> list[tuple[Path, os.stat_result]]:
    """The recordings of a directory with what the system says of them, the least recently written first.

    Returns:
        At most `FILES_MAX`; none where the directory cannot be read.
    """
    found: list[tuple[Path, os.stat_result]] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if len(found) >= FILES_MAX:
                    break
                if entry.name.endswith(SUFFIX) and entry.is_file(follow_symlinks=False):
                    found.append((Path(entry.path), entry.stat(follow_symlinks=False)))
    except OSError:
        return []
    return sorted(
        ((path, status) for path, status in found if _is_recording(path)),
        key=lambda pair: (pair[1].st_mtime_ns, pair[0].name),
    )


def retire(directory: Path, retention: Retention, *, now_unix_ns: int) -> list[Path]:
    """Remove recordings that are too old, and then the oldest until the others fit.

    What cannot be removed stays, and counts.

    Args:
        directory: Where recordings are.
        retention: What is kept.
        now_unix_ns: Time of day [ns since 1970].

    Returns:
        What was removed, in that order.
    """
    held = recordings_in(directory)
    total = sum(status.st_size for _, status in held)
    removed: list[Path] = []
    for path, status in held:
        is_old = retention.keep_days > 0 and now_unix_ns - status.st_mtime_ns > retention.keep_days * DAY_NS
        is_beyond = retention.keep_bytes > 0 and total > retention.keep_bytes
        if not (is_old or is_beyond) or is_being_written(path):
            continue
        try:
            path.unlink()
        except OSError:
            continue
        total -= status.st_size
        removed.append(path)
    return removed
