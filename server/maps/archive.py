"""Bytes of map files, from the disk or from inside a .pk3 (zip) archive, never more than the limits allow."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from server.errors import MapError
from server.maps.limits import ARCHIVE_ENTRIES_MAX, FILE_BYTES_MAX

__all__ = ["archive_maps", "extract_maps", "read_archived", "read_file"]

CHUNK_BYTES = 1 << 20


def read_file(path: Path, *, limit: int = FILE_BYTES_MAX) -> bytes:
    """The whole content of a regular file of at most `limit` bytes.

    Raises:
        MapError: Missing, unreadable, not a regular file, empty or too large.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MapError(path, "file", "not a regular file", "give the path of a map file")
        if status.st_size > limit:
            raise MapError(path, "file size", status.st_size, f"at most {limit} bytes are read")
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MapError(path, "file", reason, "check the path and its permissions") from error
    if not data:
        raise MapError(path, "file size", 0, "the file is empty; copy it again")
    if len(data) > limit:
        raise MapError(path, "file size", len(data), f"at most {limit} bytes are read")
    return data


def _open(path: Path) -> zipfile.ZipFile:
    if not path.is_file():
        raise MapError(path, "file", "no such file", "check the path")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise MapError(path, "archive", error, "not a readable .pk3 (zip) file; copy it again") from error
    if len(archive.infolist()) > ARCHIVE_ENTRIES_MAX:
        count = len(archive.infolist())
        archive.close()
        raise MapError(path, "archive entries", count, f"at most {ARCHIVE_ENTRIES_MAX} are allowed")
    return archive


def _maps(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The .bsp members directly under `maps/`, by lower-case stem; any other place is ignored, `..` included."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        parts = PurePosixPath(entry.filename.replace("\\", "/").lower()).parts
        if len(parts) == 2 and parts[0] == "maps" and parts[1].endswith(".bsp"):
            found.setdefault(parts[1].removesuffix(".bsp"), entry)
    return dict(sorted(found.items()))


def archive_maps(path: Path) -> list[str]:
    """Names of the maps in a .pk3 archive, sorted.

    Raises:
        MapError: The archive cannot be read.
    """
    with _open(path) as archive:
        return list(_maps(archive))


def _read_member(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> bytes:
    """One member's content. The declared size is checked first, the real one while unpacking (zip bombs lie)."""
    field = f"member {entry.filename!r} size"
    if entry.file_size > FILE_BYTES_MAX:
        raise MapError(path, field, entry.file_size, f"at most {FILE_BYTES_MAX} bytes are unpacked")
    pieces: list[bytes] = []
    total = 0
    try:
        with archive.open(entry) as stream:
            while piece := stream.read(CHUNK_BYTES):
                total += len(piece)
                if total > FILE_BYTES_MAX:
                    raise MapError(path, field, total, f"at most {FILE_BYTES_MAX} bytes are unpacked")
                pieces.append(piece)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise MapError(path, f"member {entry.filename!r}", error, "the archive is damaged; copy it again") from error
    return b"".join(pieces)


def read_archived(path: Path, name: str) -> bytes:
    """The bytes of `maps/NAME.bsp` inside a .pk3 archive.

    Raises:
        MapError: The archive is damaged, has no such map, or the map is too large.
    """
    with _open(path) as archive:
        maps = _maps(archive)
        if name.lower() not in maps:
            known = ", ".join(list(maps)[:12]) or "none"
            raise MapError(path, "map name", name or "(none)", f"write archive.pk3#NAME with one of: {known}")
        return _read_member(archive, maps[name.lower()], path)


def extract_maps(path: Path, directory: Path) -> list[Path]:
    """Write every map of a .pk3 archive into `directory` as NAME.bsp.

    Raises:
        MapError: The archive is damaged or a map in it is too large.
    """
    written: list[Path] = []
    with _open(path) as archive:
        for name, entry in _maps(archive).items():
            target = directory / f"{name}.bsp"
            target.write_bytes(_read_member(archive, entry, path))
            written.append(target)
    return written
