"""Recordings: files of chunks that survive a killed writer and tell what is damaged; what is in them is others' matter.

`RecordingWriter` appends chunks, each with one system call, so that a process that is killed leaves all chunks it has
appended and at most one torn one; what a machine that loses power keeps is up to its file system. It holds an advisory
lock on its file until it is closed or its process ends, by which others tell a recording that is being written
(`is_being_written`). `RecordingReader` gives what can be read and one line for each thing that cannot. The bytes are
described in `persistence.recording_format`.
"""

import contextlib
import errno
import fcntl
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack
import zstandard

from persistence.errors import RecordingError
from persistence.recording_format import (
    CHUNK_RAW_MAX,
    CHUNKS_MAX,
    HEAD_BYTES,
    HEADER_BYTES_MAX,
    INDEX_ENTRY_BYTES,
    KIND_HEADER,
    KIND_INDEX,
    MARK,
    PROLOGUE_BYTES,
    TICK_MAX,
    TICKS_MAX,
    TRAILER_BYTES,
    VERSION,
    Head,
    compress,
    decompress,
    pack_prologue,
    pack_trailer,
    unpack_head,
    unpack_prologue,
    unpack_trailer,
)

__all__ = ["PROBLEMS_MAX", "SUFFIX", "Chunk", "ChunkKind", "RecordingReader", "RecordingWriter", "is_being_written"]

SUFFIX = ".hitrec"
PROBLEMS_MAX = 64  # lines; what is beyond is counted in a last one
SEARCH_BYTES = 1 << 20
LEVEL = 6  # of Zstandard


class ChunkKind(IntEnum):
    """What a chunk holds."""

    KEYFRAME = 1
    COMMANDS = 2
    NOTES = 3


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of a recording.

    Attributes:
        kind: What it holds.
        first_tick: First tick that it covers, or the tick it belongs to.
        tick_count: How many it covers; 0 for what belongs to one moment.
        offset: Where its head stands in the file.
        stored_bytes: Bytes of its payload in the file.
        raw_bytes: Bytes of its payload when decompressed.
        codec: How the payload is stored.
        check: CRC-32 of the payload as stored.
    """

    kind: ChunkKind
    first_tick: int
    tick_count: int
    offset: int
    stored_bytes: int
    raw_bytes: int
    codec: int
    check: int

    def head(self) -> Head:
        """Its head, as in the file."""
        return Head(
            self.kind, self.codec, self.tick_count, self.first_tick, self.stored_bytes, self.raw_bytes, self.check
        )

    def __str__(self) -> str:
        """What it is, for messages."""
        last = self.first_tick + max(0, self.tick_count - 1)
        ticks = f"ticks {self.first_tick} to {last}" if self.tick_count else f"tick {self.first_tick}"
        return f"{self.kind.name.lower()} of {ticks}"


def _reason(error: OSError) -> str:
    return "the disk is full" if error.errno in {errno.ENOSPC, errno.EDQUOT} else (error.strerror or str(error))


def is_being_written(path: Path) -> bool:
    """Whether a process, of this machine, has the recording open for writing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


class RecordingWriter:
    """Writes one recording. A file that could not be finished stays readable up to its last whole chunk.

    Attributes:
        path: The file.
        bytes_written: Its size so far.
    """

    def __init__(self, path: Path, header: dict[str, Any], *, level: int = LEVEL) -> None:
        """Makes the file and writes its header.

        Args:
            path: A file that does not exist.
            header: What msgpack can hold, with text as keys; at most `HEADER_BYTES_MAX` packed.
            level: How hard Zstandard tries.

        Raises:
            RecordingError: The file cannot be made, or the header is too large.
        """
        self.path = path
        self.bytes_written = 0
        self._compressor = zstandard.ZstdCompressor(level=level, write_content_size=True, write_checksum=False)
        self._header = msgpack.packb(header)
        if len(self._header) > HEADER_BYTES_MAX:
            raise RecordingError(f"{path}: a header of {len(self._header)} bytes; at most {HEADER_BYTES_MAX} are kept")
        self._entries: list[bytes] = []
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be made: {_reason(error)}") from error
        try:
            # Some network file systems have no locks; there a recording being written looks like one that is done.
            with contextlib.suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(pack_prologue())
            self._chunk(KIND_HEADER, 0, 0, self._header)
        except BaseException:
            os.close(self._descriptor)
            self._descriptor = -1
            raise

    def append(self, kind: int, first_tick: int, tick_count: int, payload: bytes) -> None:
        """Compress and write one chunk.

        Raises:
            RecordingError: It could not be written (disk full, …) or is beyond a maximum; the file is as before.
        """
        if self._descriptor < 0:
            raise RecordingError(f"{self.path}: is closed")
        if len(self._entries) >= CHUNKS_MAX or len(payload) > CHUNK_RAW_MAX:
            raise RecordingError(
                f"{self.path}: chunk {len(self._entries)} of {len(payload)} bytes: at most {CHUNKS_MAX} chunks of "
                f"{CHUNK_RAW_MAX} bytes fit; begin another recording"
            )
        if not (0 <= first_tick <= TICK_MAX and 0 <= tick_count <= TICKS_MAX):
            raise RecordingError(f"{self.path}: ticks {first_tick} + {tick_count}: at most {TICKS_MAX} from 0 on")
        offset = self.bytes_written
        head = self._chunk(ChunkKind(kind), first_tick, tick_count, payload)
        self._entries.append(head + offset.to_bytes(8, "little"))

    def _chunk(self, kind: int, first_tick: int, tick_count: int, payload: bytes) -> bytes:
        codec, stored = compress(payload, self._compressor)
        head = Head(kind, codec, tick_count, first_tick, len(stored), len(payload), zlib.crc32(stored)).pack()
        self._write(head + stored)
        return head

    def _write(self, content: bytes) -> None:
        """Append all of it, or nothing."""
        written = 0
        try:
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.bytes_written)
                os.lseek(self._descriptor, self.bytes_written, os.SEEK_SET)
            raise RecordingError(f"{self.path}: cannot be written: {_reason(error)}") from error
        self.bytes_written += len(content)

    def close(self) -> None:
        """Write the index and close the file; again is harmless.

        Raises:
            RecordingError: The index could not be written; all chunks are in the file.
        """
        if self._descriptor < 0:
            return
        try:
            self._chunk(KIND_HEADER, 0, 0, self._header)
            offset = self.bytes_written
            self._chunk(KIND_INDEX, 0, 0, b"".join(self._entries))
            self._write(pack_trailer(offset, len(self._entries)))
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordingReader:
    """Reads one recording, as far as it can be read; may be of one that is still being written.

    Attributes:
        path: The file.
        header: What the writer was given.
        chunks: All readable chunks in the order of the file, but headers and index.
        problems: What is wrong with the file, one line each, at most `PROBLEMS_MAX` and a last one that counts.
        complete: Whether it was closed properly and nothing is known to be damaged.
        size_bytes: Of the file, when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file and finds its chunks.

        Raises:
            RecordingError: It cannot be read at all: not there, no recording, of another version, or without a header.
        """
        self.path = path
        self.header: dict[str, Any] = {}
        self.chunks: tuple[Chunk, ...] = ()
        self.problems: list[str] = []
        self.complete = False
        self._more = 0
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise RecordingError(f"{path}: {error.strerror}; give the path of a recording") from error
        try:
            self._open()
        except OSError as error:
            self.close()
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.size_bytes = os.fstat(self._descriptor).st_size
        prologue = unpack_prologue(self._at(0, PROLOGUE_BYTES))
        if prologue is None:
            raise RecordingError(f"{self.path}: no recording; files ending in {SUFFIX} are")
        if prologue.version != VERSION and prologue.intact:
            raise RecordingError(
                f"{self.path}: version {prologue.version} of the format, this build reads {VERSION}; use the build "
                "that made it"
            )
        if not prologue.intact:
            self._problem("its first bytes are damaged")
        found = self._indexed()
        if found is None:
            found = self._scanned()
        self.chunks = tuple(found)
        if not self.header:
            raise RecordingError(f"{self.path}: its header is damaged or missing, nothing can be made of the rest")
        self.complete = not self.problems
        if self._more:
            self.problems.append(f"and {self._more} more such lines")

    def _problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)
        else:
            self._more += 1

    def _at(self, offset: int, count: int) -> bytes:
        return os.pread(self._descriptor, count, offset)

    def _payload(self, head: Head, offset: int) -> bytes:
        """The payload of a chunk whose head stands at `offset`; raises RecordingError with the reason alone."""
        try:
            stored = self._at(offset + HEAD_BYTES, head.stored_bytes)
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}") from error
        if len(stored) != head.stored_bytes:
            raise RecordingError(f"{head.stored_bytes} bytes promised, {len(stored)} are there")
        return decompress(head, stored)

    def _take_header(self, head: Head, offset: int) -> None:
        """Use this header if there is none yet."""
        if self.header:
            return
        try:
            header = msgpack.unpackb(self._payload(head, offset))
        except (RecordingError, ValueError, TypeError, msgpack.UnpackException) as error:
            self._problem(f"the header at byte {offset} is damaged: {' '.join(str(error).split())}")
            return
        if isinstance(header, dict) and header and all(isinstance(key, str) for key in header):
            self.header = header
        else:
            self._problem(f"the header at byte {offset} is no map of names")

    def _head_at(self, offset: int) -> Head | None:
        return unpack_head(self._at(offset, HEAD_BYTES))

    def _indexed(self) -> list[Chunk] | None:
        """The chunks as the index lists them, or None where there is none that can be used."""
        trailer = unpack_trailer(self._at(max(0, self.size_bytes - TRAILER_BYTES), TRAILER_BYTES))
        if trailer is None:
            return None
        index_offset, count = trailer
        head = self._head_at(index_offset) if index_offset < self.size_bytes else None
        if head is None or head.kind != KIND_INDEX or head.raw_bytes != count * INDEX_ENTRY_BYTES:
            self._problem("its index is damaged; its chunks were found by reading through it")
            return None
        try:
            payload = self._payload(head, index_offset)
        except RecordingError as error:
            self._problem(f"its index is damaged ({error}); its chunks were found by reading through it")
            return None
        chunks = self._listed(payload, index_offset)
        if chunks is not None:
            self._take_headers(index_offset)
        return chunks

    def _listed(self, payload: bytes, index_offset: int) -> list[Chunk] | None:
        chunks: list[Chunk] = []
        end = PROLOGUE_BYTES
        for at in range(0, len(payload), INDEX_ENTRY_BYTES):
            head = unpack_head(payload[at : at + HEAD_BYTES])
            offset = int.from_bytes(payload[at + HEAD_BYTES : at + INDEX_ENTRY_BYTES], "little")
            if head is None or offset < end or offset + HEAD_BYTES + head.stored_bytes > index_offset:
                self._problem("its index contradicts itself; its chunks were found by reading through it")
                return None
            end = offset + HEAD_BYTES + head.stored_bytes
            self._list(head, offset, chunks)
        return chunks

    def _list(self, head: Head, offset: int, chunks: list[Chunk]) -> None:
        """Append a chunk, if it is of a kind that this build knows."""
        try:
            kind = ChunkKind(head.kind)
        except ValueError:
            self._problem(f"the chunk at byte {offset} is of a kind unknown to this build, {head.kind}; left out")
            return
        sizes = (head.stored_bytes, head.raw_bytes)
        chunks.append(Chunk(kind, head.first_tick, head.tick_count, offset, *sizes, head.codec, head.check))

    def _take_headers(self, index_offset: int) -> None:
        """The header at the begin, or its copy that ends where the index begins."""
        head = self._head_at(PROLOGUE_BYTES)
        if head is not None and head.kind == KIND_HEADER:
            self._take_header(head, PROLOGUE_BYTES)
        else:
            self._problem("the header at its begin is damaged")
        if self.header:
            return
        begin = max(PROLOGUE_BYTES, index_offset - HEAD_BYTES - HEADER_BYTES_MAX)
        tail = self._at(begin, index_offset - begin)
        at = tail.rfind(MARK)
        copy = unpack_head(tail[at : at + HEAD_BYTES]) if at >= 0 else None
        if copy is not None and copy.kind == KIND_HEADER:
            self._take_header(copy, begin + at)

    def _scanned(self) -> list[Chunk]:
        """The chunks found by going through the file, each checked, what is damaged or torn left out."""
        if not self.problems:
            being_written = is_being_written(self.path)
            self._problem(
                "is still being written" if being_written else "was not closed: its server was killed, or the file cut"
            )
        chunks: list[Chunk] = []
        offset = PROLOGUE_BYTES
        while offset < self.size_bytes and len(chunks) < CHUNKS_MAX:
            head = self._head_at(offset)
            if head is None:
                offset = self._skip(offset)
                continue
            end = offset + HEAD_BYTES + head.stored_bytes
            if end > self.size_bytes:
                self._problem(
                    f"the last chunk, at byte {offset}, is cut short by {end - self.size_bytes} bytes: left out"
                )
                offset = self._find(offset + 1)
                continue
            self._scan_one(head, offset, chunks)
            offset = end
        return chunks

    def _scan_one(self, head: Head, offset: int, chunks: list[Chunk]) -> None:
        if head.kind == KIND_HEADER:
            self._take_header(head, offset)
        elif head.kind != KIND_INDEX:
            stored = self._at(offset + HEAD_BYTES, head.stored_bytes)
            if zlib.crc32(stored) == head.check:
                self._list(head, offset, chunks)
            else:
                self._problem(f"the chunk at byte {offset} (tick {head.first_tick}) is damaged: left out")

    def _skip(self, offset: int) -> int:
        """Where to go on after bytes that are no head."""
        rest = self._at(offset, TRAILER_BYTES)
        if offset + TRAILER_BYTES == self.size_bytes and unpack_trailer(rest) is not None:
            return self.size_bytes
        resumed = self._find(offset + 1)
        if resumed >= self.size_bytes and self.size_bytes - offset < HEAD_BYTES:
            self._problem(f"the last {self.size_bytes - offset} bytes are no whole chunk: left out")
        else:
            self._problem(f"bytes {offset} to {resumed} are damaged: left out")
        return resumed

    def _find(self, offset: int) -> int:
        """Where the next head stands, or the end of the file."""
        while offset < self.size_bytes:
            block = self._at(offset, SEARCH_BYTES + HEAD_BYTES)
            at = block.find(MARK)
            while 0 <= at < SEARCH_BYTES:
                if unpack_head(block[at : at + HEAD_BYTES]) is not None:
                    return offset + at
                at = block.find(MARK, at + 1)
            offset += SEARCH_BYTES
        return self.size_bytes

    def read(self, chunk: Chunk) -> bytes:
        """The payload of a chunk.

        Raises:
            RecordingError: It is damaged; names the file, the chunk's ticks and what is wrong.
        """
        try:
            return self._payload(chunk.head(), chunk.offset)
        except RecordingError as error:
            raise RecordingError(f"{self.path}: {chunk}, at byte {chunk.offset}: {error}") from error

    def of_kind(self, kind: ChunkKind) -> Iterator[Chunk]:
        """The chunks of one kind, in the order of the file."""
        return (chunk for chunk in self.chunks if chunk.kind is kind)

    def check(self) -> list[str]:
        """Read every chunk; one line for each that is damaged, at most `PROBLEMS_MAX`."""
        lines: list[str] = []
        for chunk in self.chunks:
            try:
                self._payload(chunk.head(), chunk.offset)
            except RecordingError as error:
                lines.append(f"{chunk}, at byte {chunk.offset}: {error}")
            if len(lines) >= PROBLEMS_MAX:
                break
        return lines

    def close(self) -> None:
        """Close the file; again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
