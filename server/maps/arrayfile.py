"""Named arrays in one .npz file, read without trusting it: sizes are checked before anything is allocated.

`numpy.load` believes the shape in a member's header and allocates it at once; here a member's declared size is held
against a limit, its bytes are read, and the header must then describe exactly those bytes.
"""

import contextlib
import io
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from server.errors import MapError
from sim.arrays import AnyArray

__all__ = ["read_arrays", "write_arrays", "write_atomically"]

MEMBERS_MAX = 64
HEADER_BYTES_MAX = 4_096
KINDS = frozenset("biuf")


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` at `path` so that no reader ever sees half of it.

    Raises:
        OSError: The directory cannot be written to.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def write_arrays(path: Path, arrays: Mapping[str, AnyArray], *, compress: bool) -> None:
    """Save arrays, atomically.

    Raises:
        OSError: The directory cannot be written to.
    """
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=6) as archive:
        for name, array in arrays.items():
            # A fixed date, so that the same arrays give the same file.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = method
            with archive.open(entry, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    write_atomically(path, buffer.getvalue())


def _parse(source: str, name: str, data: bytes) -> AnyArray:
    """An array from the bytes of one .npy member."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, fortran, dtype = read_header[version](stream, max_header_size=HEADER_BYTES_MAX)
    except (ValueError, KeyError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError) as error:
        raise MapError(source, f"array {name!r} header", error, "the file is damaged; import the map again") from error
    body = data[stream.tell() :]
    wanted = dtype.itemsize
    for size in shape:
        wanted *= int(size)
    if dtype.kind not in KINDS or fortran or min(shape, default=0) < 0 or wanted != len(body):
        place = f"{dtype} {shape} in {len(body)} bytes"
        raise MapError(source, f"array {name!r}", place, "the file is damaged; import the map again")
    return np.frombuffer(body, dtype).reshape(shape).copy()


def read_arrays(path: Path, names: Iterable[str] | None, *, bytes_max: int) -> dict[str, AnyArray]:
    """The named arrays of an .npz file.

    Args:
        path: The file.
        names: Which arrays it must have; others are not read. None: all there are.
        bytes_max: How large all of them may be together.

    Raises:
        MapError: The file or an array is missing, damaged or too large.
    """
    source = str(path)
    found: dict[str, AnyArray] = {}
    left = bytes_max
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename: entry for entry in archive.infolist()[:MEMBERS_MAX]}
            wanted = [name.removesuffix(".npy") for name in members] if names is None else names
            for name in wanted:
                entry = members.get(f"{name}.npy")
                if entry is None:
                    raise MapError(source, f"array {name!r}", "missing", "not a file of this project; import again")
                left -= entry.file_size
                if left < 0:
                    raise MapError(source, f"array {name!r} size", entry.file_size, f"at most {bytes_max} bytes in all")
                with archive.open(entry) as stream:
                    data = stream.read(entry.file_size)
                found[name] = _parse(source, name, data)
    except (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise MapError(source, "file", reason, "not a readable .npz file; import the map again") from error
    return found
