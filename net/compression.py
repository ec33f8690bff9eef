"""One compressor for every payload: it tries what its class can afford and keeps what is smallest.

A compressed payload is a codec byte and what that codec needs, little endian:

    0  STORED           the payload itself
    1  LZ4              size, LZ4 block
    2  ZSTD             Zstandard frame without its magic number
    3  ZSTD_DICTIONARY  u16 dictionary, Zstandard frame without its magic number
    4  LZ4_DICTIONARY   u16 dictionary, size, LZ4 block

`size` is the payload's as LEB128 of at most four bytes. A dictionary is named by the low 16 bits of its id
(`net.dictionaries`). A Zstandard frame (RFC 8878) must tell its content's size, and must not carry a dictionary id or
a window beyond `window_bytes_max`; a checksum is allowed and checked, but not sent, as packets are authenticated.

What a class tries stands in `POLICIES`, with the figures that decided in docs/compression.md. Below its floor, and
where nothing is smaller, a payload is stored: it never grows by more than the codec byte.

Decompression trusts nothing: sizes are read and held against `size_max` before anything is allocated, and what is
malformed, too large or not agreed upon gives None and is counted by reason (`REASONS`). So a bomb costs a look at its
first bytes. Bytes that the formats allow but nobody sent (a flipped bit in a literal) cannot be told here.

Not used for records of snapshots one by one: they are shared among clients, and compressing each gains nothing.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import lz4.block
import zstandard

from net.dictionaries import DICTIONARIES_MAX, Dictionary, PayloadClass
from net.errors import NetError

__all__ = ["PART_BYTES_MIN", "POLICIES", "REASONS", "ClassPolicy", "Codec", "CompressionLimits", "Compressor"]


class Codec(IntEnum):
    """The codec byte."""

    STORED = 0
    LZ4 = 1
    ZSTD = 2
    ZSTD_DICTIONARY = 3
    LZ4_DICTIONARY = 4


REASONS = (
    "cut_short",
    "unknown_codec",
    "unknown_dictionary",
    "no_size",
    "too_large",
    "window_too_large",
    "malformed",
)
"""Why a compressed payload was refused."""

PART_BYTES_MIN = 512
"""Parts from here on are worth codes of their own. Joins of the arena with zstd 1, whole and plane by plane: of 250
entities 3,288 and 3,303 bytes, 500: 6,323 and 6,058, 1,250: 13,151 and 12,006, 3,750: 38,305 and 33,762 (in 222 and
379 µs; zstd 3 makes 35,326 of these planes)."""

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# Plain numbers: comparing with members of an enumeration costs more than the header does.
_STORED, _, _ZSTD, _ZSTD_DICTIONARY, _LZ4_DICTIONARY = (int(codec) for codec in Codec)
_NEED_DICTIONARY = frozenset({Codec.ZSTD_DICTIONARY, Codec.LZ4_DICTIONARY})
_SHORT = struct.Struct("<H")
_SIZE_BYTES_MAX = 4
_LZ4_RATIO_MAX = 255  # a byte of an LZ4 block stands for at most so many
_WINDOW_MIN = 1 << 10
_LEVEL_MIN, _LEVEL_MAX = 1, 19


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """How payloads of a class are compressed.

    Attributes:
        floor_bytes: Shorter ones are stored.
        codecs: What is tried where no dictionary is agreed on.
        with_dictionary: What is tried where one is.
        level: Of Zstandard, 1 to 19.
    """

    floor_bytes: int
    codecs: tuple[Codec, ...]
    with_dictionary: tuple[Codec, ...]
    level: int

    def __post_init__(self) -> None:
        """Refuses what cannot be done.

        Raises:
            NetError: A number is out of range, or a dictionary is used where there is none.
        """
        if self.floor_bytes < 0 or not _LEVEL_MIN <= self.level <= _LEVEL_MAX:
            raise NetError(
                f"compression: floor_bytes = {self.floor_bytes}, level = {self.level}: give a floor of 0 or more and"
                f" a level from {_LEVEL_MIN} to {_LEVEL_MAX}"
            )
        if _NEED_DICTIONARY & set(self.codecs):
            raise NetError("compression: codecs names one that needs a dictionary; move it to with_dictionary")


POLICIES: Mapping[PayloadClass, ClassPolicy] = {
    PayloadClass.SNAPSHOT: ClassPolicy(64, (Codec.LZ4,), (Codec.ZSTD_DICTIONARY,), 1),
    PayloadClass.MESSAGE: ClassPolicy(16, (Codec.LZ4,), (Codec.LZ4_DICTIONARY,), 3),
    PayloadClass.JOIN: ClassPolicy(64, (Codec.ZSTD,), (Codec.ZSTD, Codec.ZSTD_DICTIONARY), 1),
    PayloadClass.BULK: ClassPolicy(64, (Codec.ZSTD,), (Codec.ZSTD, Codec.ZSTD_DICTIONARY), 6),
}


@dataclass(frozen=True, slots=True)
class CompressionLimits:
    """The named limits of compression.

    Attributes:
        payload_bytes_max: Largest payload that is taken; a larger one is refused at the call.
        window_bytes_max: Largest window of a Zstandard frame, and so most memory that decompressing one takes beside
            its content; a frame that asks for more is refused (`window_too_large`).
        policies: What is tried, for every class.
    """

    payload_bytes_max: int = 16 << 20
    window_bytes_max: int = 8 << 20
    policies: Mapping[PayloadClass, ClassPolicy] = field(default_factory=lambda: POLICIES)

    def __post_init__(self) -> None:
        """Refuses what the layout cannot carry.

        Raises:
            NetError: A limit is out of range, or a class has no policy.
        """
        if not 1 <= self.payload_bytes_max < 1 << 28:
            raise NetError(f"compression: payload_bytes_max = {self.payload_bytes_max}: give it 1 to {(1 << 28) - 1:,}")
        if not _WINDOW_MIN <= self.window_bytes_max <= 1 << 27:
            raise NetError(f"compression: window_bytes_max = {self.window_bytes_max}: give it 1,024 to {1 << 27:,}")
        lacking = [kind.name for kind in PayloadClass if kind not in self.policies]
        if lacking:
            raise NetError(f"compression: no policy for {', '.join(lacking)}; give one for every class")


_Attempt: TypeAlias = Callable[[bytes | memoryview, int, int], bytes]
"""A payload, its size and that of its parts (0: it has none); the compressed payload."""


class _Loaded:
    """A dictionary made ready for both ways, once."""

    def __init__(self, dictionary: Dictionary, *, policy: ClassPolicy, window_bytes_max: int) -> None:
        self.id = dictionary.id
        self.name = _SHORT.pack(dictionary.short)
        self.content = dictionary.content
        try:
            digested = zstandard.ZstdCompressionDict(dictionary.content, dict_type=zstandard.DICT_TYPE_FULLDICT)
            digested.precompute_compress(level=policy.level)
            self.compressor = zstandard.ZstdCompressor(
                level=policy.level, dict_data=digested, write_dict_id=False, write_checksum=False
            )
            self.decompressor = zstandard.ZstdDecompressor(dict_data=digested, max_window_size=window_bytes_max)
            self.compressor.compress(b"")  # entropy tables that do not fit together are found only now
        except zstandard.ZstdError as error:
            raise NetError(f"dictionary {dictionary.id:#018x}: {error}; train another") from error
        self.attempts = _attempts(policy.with_dictionary, policy.level, self)


def _attempts(codecs: Sequence[Codec], level: int, loaded: _Loaded | None) -> tuple[_Attempt, ...]:
    """A function for each codec but that which stores."""
    made: list[_Attempt] = []
    for codec in codecs:
        head = bytes([codec]) + (loaded.name if loaded is not None and codec in _NEED_DICTIONARY else b"")
        if codec is Codec.ZSTD:
            made.append(_zstd_attempt(head, zstandard.ZstdCompressor(level=level, write_checksum=False)))
        elif codec is Codec.LZ4:
            made.append(_lz4_attempt(head, b""))
        elif codec is Codec.ZSTD_DICTIONARY and loaded is not None:
            made.append(_zstd_attempt(head, loaded.compressor))
        elif codec is Codec.LZ4_DICTIONARY and loaded is not None:
            made.append(_lz4_attempt(head, loaded.content))
    return tuple(made)


def _zstd_attempt(head: bytes, compressor: zstandard.ZstdCompressor) -> _Attempt:
    def attempt(payload: bytes | memoryview, size: int, part: int) -> bytes:
        whole = _compress_parts(compressor, payload, size, part) if part else compressor.compress(payload)
        return head + whole[len(_ZSTD_MAGIC) :]

    return attempt


def _compress_parts(compressor: zstandard.ZstdCompressor, payload: bytes | memoryview, size: int, part: int) -> bytes:
    """A frame in which a block ends where a part does, so that each part has entropy codes of its own."""
    made = compressor.compressobj(size=size)
    view, first = memoryview(payload), size % part
    out = [made.compress(view[:first]), made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)] if first else []
    for at in range(first, size, part):
        out.append(made.compress(view[at : at + part]))
        if at + part < size:
            out.append(made.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join((*out, made.flush()))


def _lz4_attempt(head: bytes, content: bytes) -> _Attempt:
    def attempt(payload: bytes | memoryview, size: int, _: int) -> bytes:
        block: bytes = lz4.block.compress(payload, store_size=False, dict=content)
        return head + _put_size(size) + block

    return attempt


class _Plan:
    """What is tried for a class: without a dictionary, and with each, the preferred ones first."""

    def __init__(self, policy: ClassPolicy) -> None:
        self.floor_bytes = max(policy.floor_bytes, 1)
        self.loaded: list[_Loaded] = []
        self.attempts = _attempts(policy.codecs, policy.level, None)

    def choose(self, agreed: Collection[int]) -> tuple[_Attempt, ...]:
        """What is tried with a peer that has the dictionaries `agreed`."""
        for loaded in self.loaded:
            if loaded.id in agreed:
                return loaded.attempts
        return self.attempts


class Compressor:
    """Compresses and decompresses payloads for one thread.

    Attributes:
        ids: Ids of the dictionaries here, ascending: what is told to the peer (`net.dictionaries.agreed`).
        limits: As given.
    """

    def __init__(self, *, limits: CompressionLimits | None = None, dictionaries: Sequence[Dictionary] = ()) -> None:
        """Prepares every dictionary for use.

        Args:
            limits: See `CompressionLimits`.
            dictionaries: At most `DICTIONARIES_MAX`, as `load_dictionaries` gives them.

        Raises:
            NetError: There are too many dictionaries, two share a short id, or one is not usable.
        """
        self.limits = limits or CompressionLimits()
        if len(dictionaries) > DICTIONARIES_MAX:
            raise NetError(f"compression: {len(dictionaries)} dictionaries, at most {DICTIONARIES_MAX}")
        if len({dictionary.short for dictionary in dictionaries}) != len(dictionaries):
            raise NetError("compression: two dictionaries share a short id; train one anew with another --revision")
        self.ids = tuple(sorted(dictionary.id for dictionary in dictionaries))
        self._by_name: dict[bytes, _Loaded] = {}
        policies, window = self.limits.policies, self.limits.window_bytes_max
        # By class number in a list, as hashing a member of an enumeration is a call in Python; there is no class 0.
        self._plans = [_Plan(policies[PayloadClass(max(number, 1))]) for number in range(max(PayloadClass) + 1)]
        for dictionary in sorted(dictionaries, key=lambda one: (-one.revision, one.id)):
            loaded = _Loaded(dictionary, policy=policies[dictionary.kind], window_bytes_max=window)
            self._by_name[loaded.name] = loaded
            self._plans[dictionary.kind].loaded.append(loaded)
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        self._refused = dict.fromkeys(REASONS, 0)
        self._used = [0] * len(Codec)
        self._bytes_before = self._bytes_after = 0

    def counts(self) -> dict[str, int]:
        """Payloads by codec, bytes before and after, and refused ones by reason, since the start."""
        used = {f"compressed_{codec.name.lower()}": self._used[codec] for codec in Codec}
        refused = {f"refused_{reason}": count for reason, count in self._refused.items()}
        return used | {"bytes_before": self._bytes_before, "bytes_after": self._bytes_after} | refused

    def compress(
        self, payload: bytes | memoryview, kind: PayloadClass, *, agreed: Collection[int] = (), part_bytes: int = 0
    ) -> bytes:
        """A payload in the smallest form that its class tries; at most one byte longer than it was.

        Args:
            payload: Up to `payload_bytes_max` bytes; a view must be contiguous.
            kind: Its class.
            agreed: Ids of the dictionaries that the receiver has too (`net.dictionaries.agreed`).
            part_bytes: Length of the parts that it ends with, such as byte planes, whose bytes are unlike each other's:
                from `PART_BYTES_MIN` on each gets codes of its own. 0: it has none.

        Raises:
            NetError: The payload is too large.
        """
        size = payload.nbytes if isinstance(payload, memoryview) else len(payload)
        if size > self.limits.payload_bytes_max:
            raise NetError(f"compression: {size:,} bytes, at most {self.limits.payload_bytes_max:,}: send less at once")
        plan = self._plans[kind]
        best = b""
        part = part_bytes if part_bytes >= PART_BYTES_MIN else 0
        if size >= plan.floor_bytes:
            for attempt in plan.choose(agreed):
                made = attempt(payload, size, part)
                if len(made) <= size and (not best or len(made) < len(best)):
                    best = made
        if not best:
            best = b"\x00" + bytes(payload)
        self._used[best[0]] += 1
        self._bytes_before += size
        self._bytes_after += len(best)
        return best

    def decompress(self, data: bytes | memoryview, *, size_max: int) -> bytes | None:
        """The payload that was compressed, or None for bytes that are none, which are counted by reason.

        Args:
            data: What `compress` of a peer made, or any bytes.
            size_max: A payload of more bytes is refused before it is made.

        Raises:
            NetError: `size_max` is negative (the caller's mistake).
        """
        if size_max < 0:
            raise NetError(f"compression: size_max = {size_max}: give it 0 or more")
        try:
            return self._decode(bytes(data), min(size_max, self.limits.payload_bytes_max))
        except _RefusedError as refused:
            self._refused[refused.reason] += 1
            return None

    def _decode(self, data: bytes, size_max: int) -> bytes:
        if not data:
            raise _RefusedError("cut_short")
        codec = data[0]
        if codec == _STORED:
            if len(data) - 1 > size_max:
                raise _RefusedError("too_large")
            return data[1:]
        if codec > _LZ4_DICTIONARY:
            raise _RefusedError("unknown_codec")
        loaded, at = None, 1
        if codec >= _ZSTD_DICTIONARY:
            if len(data) < 3:
                raise _RefusedError("cut_short")
            loaded, at = self._by_name.get(data[1:3]), 3
            if loaded is None:
                raise _RefusedError("unknown_dictionary")
        if codec == _ZSTD or codec == _ZSTD_DICTIONARY:
            return self._decode_zstd(data, at, size_max, loaded)
        return _decode_lz4(data, at, size_max, loaded)

    def _decode_zstd(self, data: bytes, at: int, size_max: int, loaded: _Loaded | None) -> bytes:
        size, window = _frame_sizes(data, at)
        if size < 0:
            raise _RefusedError("no_size")
        if size > size_max:
            raise _RefusedError("too_large")
        if window > self.limits.window_bytes_max:
            raise _RefusedError("window_too_large")
        decompressor = self._decompressor if loaded is None else loaded.decompressor
        try:
            content = decompressor.decompress(_ZSTD_MAGIC + data[at:], allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise _RefusedError("malformed") from error
        if len(content) != size:
            raise _RefusedError("malformed")
        return content


class _RefusedError(Exception):
    """Bytes that are no compressed payload; it never leaves this module."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _decode_lz4(data: bytes, at: int, size_max: int, loaded: _Loaded | None) -> bytes:
    size, at = _get_size(data, at)
    if size < 0:
        raise _RefusedError("no_size")
    if size > size_max:
        raise _RefusedError("too_large")
    if size > _LZ4_RATIO_MAX * (len(data) - at):
        raise _RefusedError("malformed")
    block = memoryview(data)[at:]
    try:
        if loaded is None:
            content: bytes = lz4.block.decompress(block, uncompressed_size=size)
        else:
            content = lz4.block.decompress(block, uncompressed_size=size, dict=loaded.content)
    except lz4.block.LZ4BlockError as error:
        raise _RefusedError("malformed") from error
    if len(content) != size:
        raise _RefusedError("malformed")
    return content


def _put_size(size: int) -> bytes:
    """LEB128: seven bits a byte, low ones first, the high bit set on all but the last."""
    out = bytearray()
    while size > 0x7F:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)


def _get_size(data: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number of at most four bytes and the offset behind it; −1 where there is none."""
    size = 0
    for i in range(_SIZE_BYTES_MAX):
        if at + i >= len(data):
            break
        size |= (data[at + i] & 0x7F) << 7 * i
        if data[at + i] < 0x80:
            return size, at + i + 1
    return -1, at


def _frame_sizes(data: bytes, at: int) -> tuple[int, int]:
    """Content size and window of the Zstandard frame whose header, without magic number, begins at `at`.

    RFC 8878, section 3.1.1.1. A content size of −1: the header is cut short, tells none, names a dictionary, or has
    the reserved bit set.
    """
    if at >= len(data):
        return -1, 0
    descriptor = data[at]
    single = descriptor >> 5 & 1
    flag = descriptor >> 6
    if descriptor & 0b1011 or (flag == 0 and not single):
        return -1, 0
    at += 1
    window = 0
    if not single:
        if at >= len(data):
            return -1, 0
        base = 1 << 10 + (data[at] >> 3)
        window = base + (base >> 3) * (data[at] & 7)
        at += 1
    width = 1 << flag
    if at + width > len(data):
        return -1, 0
    size = int.from_bytes(data[at : at + width], "little") + (256 if flag == 1 else 0)
    return size, max(window, size if single else 0)
