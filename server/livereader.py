"""Reads the live feed of a server (layout in `server.livefeed`) without ever disturbing it."""

import json
import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from server.livefeed import (
    ARRAYS,
    ENTRY_BYTES,
    FILE_BYTES_MAX,
    FRAME,
    HEADER,
    MAGIC,
    NAME_BYTES,
    NAMES_BYTES,
    OFFSETS,
    PLAYERS_MAX,
    RING_ENTRIES,
    VERSION,
    FeedError,
    feed_path,
)
from sim.arrays import U64, AnyArray

__all__ = ["LiveFeedReader", "LiveFrame"]

READ_TRIES = 8  # of the names table, which a writer rewrites at most a few times a second


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """One frame taken apart: `head` is a FRAME record, the others arrays of records."""

    head: AnyArray
    stages: AnyArray
    players: AnyArray
    projectiles: AnyArray
    pickups: AnyArray
    events: AnyArray
    movers: AnyArray

    @classmethod
    def from_bytes(cls, content: bytes) -> "LiveFrame":
        """Take apart what `LiveFeedReader.read` returned."""
        head = np.frombuffer(content, FRAME, 1)[0]
        arrays = []
        at = FRAME.itemsize
        for name, dtype, _ in ARRAYS:
            count = int(head[f"{name}_count"])
            arrays.append(np.frombuffer(content, dtype, count, at))
            at += count * dtype.itemsize
        return cls(head, *arrays)


class LiveFeedReader:
    """Reads the feed of a server; never disturbs it.

    Args:
        name: Of the feed.

    Attributes:
        started_ns: Tells one run of the server from the next.
        info: `FeedInfo` as parsed JSON.
        torn: Frames that changed while they were being copied.

    Raises:
        FeedError: There is no such feed, or the file is not one.
    """

    def __init__(self, name: str) -> None:
        self.path = feed_path(name)
        self.torn = 0
        try:
            with self.path.open("rb") as file:
                status = os.fstat(file.fileno())
                self._inode = (status.st_dev, status.st_ino)
                if not HEADER.itemsize <= status.st_size <= FILE_BYTES_MAX:
                    raise FeedError(f"feed {self.path}: {status.st_size} bytes is no feed; remove the file")
                self._memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError as exc:
            raise FeedError(f"feed {self.path}: {exc.strerror}; is the server running?") from exc
        self._header: AnyArray = np.frombuffer(self._memory, HEADER, 1)[0]
        self._check()
        self._newest: U64 = np.frombuffer(self._memory, np.uint64, 1, _field_offset("newest"))
        self._closed: U64 = np.frombuffer(self._memory, np.uint64, 1, _field_offset("closed"))
        self.started_ns = int(self._header["started_ns"])
        self.info: dict[str, Any] = json.loads(self._part("info"))
        ring = int(self._header["ring_offset"])
        self._entries = [ring + number * ENTRY_BYTES for number in range(RING_ENTRIES)]
        self._locks: list[U64] = [np.frombuffer(self._memory, np.uint64, 1, at) for at in self._entries]

    def _check(self) -> None:
        """Refuse a file that is not a feed of this version, whole, before anything in it is believed."""
        header = self._header
        if int(header["magic"]) != MAGIC or int(header["version"]) != VERSION:
            raise FeedError(f"feed {self.path}: not a feed of version {VERSION}; restart the server with this version")
        ends = [int(header[f"{part}_offset"]) + int(header[f"{part}_bytes"]) for part in ("info", "picture", "mesh")]
        ends += [int(header["names_offset"]) + NAMES_BYTES]
        ends += [int(header["ring_offset"]) + RING_ENTRIES * ENTRY_BYTES]
        if max(ends) > len(self._memory) or int(header["entry_bytes"]) != ENTRY_BYTES:
            raise FeedError(f"feed {self.path}: damaged header; restart the server")

    def _part(self, part: str) -> bytes:
        start = int(self._header[f"{part}_offset"])
        return self._memory[start : start + int(self._header[f"{part}_bytes"])]

    @property
    def picture_png(self) -> bytes:
        """The map from above, or nothing."""
        return self._part("picture")

    @property
    def mesh_bytes(self) -> bytes:
        """The map's triangles as `LiveMesh.to_bytes` wrote them, or nothing."""
        return self._part("mesh")

    @property
    def newest(self) -> int:
        """Sequence of the newest frame, 0 = none yet."""
        return int(self._newest[0])

    @property
    def closed(self) -> bool:
        """Whether the writer said goodbye."""
        return bool(self._closed[0])

    def replaced(self) -> bool:
        """Whether another file, or none, stands where this feed was opened."""
        try:
            status = self.path.stat()
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._inode

    def read(self, sequence: int) -> bytes | None:
        """Copy one frame without its gaps; None when it is not there (any more)."""
        at = self._entries[sequence % RING_ENTRIES]
        lock = self._locks[sequence % RING_ENTRIES]
        if sequence <= 0 or int(lock[0]) != 2 * sequence + 2:
            return None
        memory = self._memory
        head = memory[at + 8 : at + 8 + FRAME.itemsize]
        fields = np.frombuffer(head, FRAME)[0]
        parts = [head]
        for name, dtype, most in ARRAYS:
            start = at + OFFSETS[name]
            parts.append(memory[start : start + min(int(fields[f"{name}_count"]), most) * dtype.itemsize])
        if int(lock[0]) != 2 * sequence + 2:
            self.torn += 1
            return None
        return b"".join(parts)

    def names(self) -> tuple[int, list[str]]:
        """The version of the names table, and its names up to the last that is not empty."""
        start = int(self._header["names_offset"])
        lock = np.frombuffer(self._memory, np.uint64, 1, start)
        for _ in range(READ_TRIES):
            before = int(lock[0])
            table = self._memory[start + 8 : start + 8 + NAME_BYTES * PLAYERS_MAX]
            if before == int(lock[0]) and before % 2 == 0:
                rows = (table[at : at + NAME_BYTES] for at in range(0, len(table.rstrip(b"\0")), NAME_BYTES))
                return before // 2, [row.rstrip(b"\0").decode(errors="replace") for row in rows]
        self.torn += 1
        return 0, []


def _field_offset(name: str) -> int:
    fields = HEADER.fields
    assert fields is not None
    return int(fields[name][1])
