"""The bytes of a recording file: prologue, chunks, trailer; little endian, nothing aligned.

    prologue   8 bytes   magic 89 "HRREC" 0D 0A: a transfer that changes line ends shows in it
               u16       version of this format, 1
               u16       0
               u32       CRC-32 of the 12 bytes before
    chunk      4 bytes   mark "HRCK", by which a reader finds its way again after damage
               u8        kind (`persistence.recording.ChunkKind`; 0: header, 255: index)
               u8        codec of the payload: 0 stored, 1 one Zstandard frame (RFC 8878) that tells its content's size
               u16       ticks that the chunk covers, 0 for what belongs to one moment
               i64       first of them, or the moment
               u32       bytes of the payload as it lies here
               u32       bytes of the payload when decompressed
               u32       CRC-32 of the payload as it lies here
               u32       CRC-32 of the 28 bytes before
               payload
    trailer    8 bytes   magic "HRINDEX" 0A
               u64       offset of the index chunk
               u32       how many chunks it lists
               u32       CRC-32 of the 20 bytes before

The first chunk is the header (a msgpack map), which is repeated before the index, so that no single damaged place costs
it. The index is a chunk whose payload lists all others but headers, 40 bytes each: the 32 bytes of its head, and u64
its offset. Index and trailer are written when a recording is closed; without them a reader goes from chunk to chunk.

Checksums tell damage, not malice: whoever makes a file makes its checksums too. So all sizes are held against the
maxima below and against the file's own size before anything is allocated, and a frame that would grow beyond what its
chunk says is refused by its first bytes.
"""

import struct
import zlib
from dataclasses import dataclass

import zstandard

from persistence.errors import RecordingError

__all__ = [
    "CHUNKS_MAX",
    "CHUNK_RAW_MAX",
    "CODEC_STORED",
    "CODEC_ZSTD",
    "HEADER_BYTES_MAX",
    "HEAD_BYTES",
    "INDEX_ENTRY_BYTES",
    "KIND_HEADER",
    "KIND_INDEX",
    "MARK",
    "PROLOGUE_BYTES",
    "TICKS_MAX",
    "TICK_MAX",
    "TRAILER_BYTES",
    "VERSION",
    "Head",
    "Prologue",
    "compress",
    "decompress",
    "pack_prologue",
    "pack_trailer",
    "unpack_head",
    "unpack_prologue",
    "unpack_trailer",
]

VERSION = 1
MAGIC = b"\x89HRREC\r\n"
MARK = b"HRCK"
END = b"HRINDEX\n"
KIND_HEADER, KIND_INDEX = 0, 255
CODEC_STORED, CODEC_ZSTD = 0, 1
CHUNK_RAW_MAX = 256 << 20  # a key frame of 100,000 entities takes some 30 MB
HEADER_BYTES_MAX = 64 << 10
CHUNKS_MAX = 1 << 20  # of one file: four days of three chunks a second
TICKS_MAX = 4096  # of one chunk
TICK_MAX = 1 << 62
WINDOW_BYTES_MAX = 1 << 27

_PROLOGUE = struct.Struct("<8sHH")
_HEAD = struct.Struct("<4sBBHqIII")
_TRAILER = struct.Struct("<8sQI")
_CHECK = struct.Struct("<I")
PROLOGUE_BYTES = _PROLOGUE.size + _CHECK.size
HEAD_BYTES = _HEAD.size + _CHECK.size
TRAILER_BYTES = _TRAILER.size + _CHECK.size
INDEX_ENTRY_BYTES = HEAD_BYTES + 8


def _sealed(content: bytes) -> bytes:
    """Content and its CRC-32."""
    return content + _CHECK.pack(zlib.crc32(content))


def _holds(content: bytes) -> bool:
    """Whether the last four bytes are the CRC-32 of those before."""
    return zlib.crc32(content[:-4]) == int.from_bytes(content[-4:], "little")


@dataclass(frozen=True, slots=True)
class Prologue:
    """What the first 16 bytes say; `intact`: whether their checksum holds."""

    version: int
    intact: bool


def pack_prologue() -> bytes:
    """The first bytes of a recording."""
    return _sealed(_PROLOGUE.pack(MAGIC, VERSION, 0))


def unpack_prologue(content: bytes) -> Prologue | None:
    """The first bytes of a file, or None where it is no recording."""
    if len(content) < PROLOGUE_BYTES or not content.startswith(MAGIC):
        return None
    return Prologue(_PROLOGUE.unpack(content[: _PROLOGUE.size])[1], _holds(content[:PROLOGUE_BYTES]))


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a chunk; see the top of this module."""

    kind: int
    codec: int
    tick_count: int
    first_tick: int
    stored_bytes: int
    raw_bytes: int
    check: int

    def pack(self) -> bytes:
        """Its 32 bytes."""
        return _sealed(
            _HEAD.pack(
                MARK, self.kind, self.codec, self.tick_count, self.first_tick, self.stored_bytes, self.raw_bytes,
                self.check,
            )
        )  # fmt: skip


def unpack_head(content: bytes) -> Head | None:
    """A head, or None where the bytes are not one, or claim what no chunk may have."""
    if len(content) != HEAD_BYTES or not content.startswith(MARK) or not _holds(content):
        return None
    head = Head(*_HEAD.unpack(content[: _HEAD.size])[1:])
    most = HEADER_BYTES_MAX if head.kind == KIND_HEADER else CHUNK_RAW_MAX
    sized = head.raw_bytes <= most and head.stored_bytes <= head.raw_bytes
    timed = 0 <= head.first_tick <= TICK_MAX and head.tick_count <= TICKS_MAX
    return head if sized and timed and head.codec in {CODEC_STORED, CODEC_ZSTD} else None


def pack_trailer(index_offset: int, count: int) -> bytes:
    """The last bytes of a recording that was closed."""
    return _sealed(_TRAILER.pack(END, index_offset, count))


def unpack_trailer(content: bytes) -> tuple[int, int] | None:
    """Offset of the index and its number of chunks, or None where the bytes are no trailer."""
    if len(content) != TRAILER_BYTES or not content.startswith(END) or not _holds(content):
        return None
    _, offset, count = _TRAILER.unpack(content[: _TRAILER.size])
    return (offset, count) if count <= CHUNKS_MAX else None


def compress(payload: bytes, compressor: zstandard.ZstdCompressor) -> tuple[int, bytes]:
    """Codec and bytes of a payload as it is stored: compressed where that makes it smaller."""
    packed = compressor.compress(payload)
    return (CODEC_ZSTD, packed) if len(packed) < len(payload) else (CODEC_STORED, payload)


def decompress(head: Head, stored: bytes) -> bytes:
    """The payload of a chunk.

    Raises:
        RecordingError: The checksum does not hold, or the bytes are not what the head says; names what is wrong.
    """
    if zlib.crc32(stored) != head.check:
        raise RecordingError("its checksum does not hold")
    if head.codec == CODEC_STORED:
        if len(stored) != head.raw_bytes:
            raise RecordingError(f"{len(stored)} bytes stored as they are, {head.raw_bytes} promised")
        return stored
    try:
        promised = zstandard.get_frame_parameters(stored).content_size
        if promised != head.raw_bytes:
            raise RecordingError(f"its frame holds {promised} bytes, {head.raw_bytes} were promised")
        content = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES_MAX).decompress(
            stored, allow_extra_data=False
        )  # fmt: skip
    except zstandard.ZstdError as error:
        raise RecordingError(f"not a Zstandard frame: {error}") from error
    if len(content) != head.raw_bytes:
        raise RecordingError(f"its frame gave {len(content)} bytes, {head.raw_bytes} were promised")
    return content
