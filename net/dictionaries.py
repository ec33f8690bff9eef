"""Dictionaries of compression: the file that holds one, and how two sides agree on those that both have.

A dictionary file, little endian, the same whichever side reads it:

    8 bytes   "HRDICT", u16 format version 1
    u8        class of the payloads it was trained on (`PayloadClass`)
    u8        0
    u32       revision: of two dictionaries of a class, the one with the greater is used
    u32       payloads it was trained on, and u64 their bytes
    u32       payloads it was tested on, u64 their bytes, and u64 their bytes when compressed with it
    u32       bytes of content, 8 to `DICTIONARY_BYTES_MAX`
    16 bytes  BLAKE2b digest of everything above and of the content
    content   a Zstandard dictionary (RFC 8878, section 5)

The id of a dictionary is the first eight bytes of the digest, so that two files with the same id are the same to the
last bit. On the wire its low 16 bits name it: a set in which two share them is refused when it is loaded, which for 32
dictionaries happens once in 130 sets.

Agreement. Payloads may be compressed with a dictionary only when the receiver has it. The client tells its ids in its
first message (`abilities`, up to `DICTIONARIES_MAX` u64); the server uses those of them that it has too, `agreed(own,
peer)`. Clients need not be told which: each payload names its dictionary, and what clients send is not compressed. To a
client that tells none, nothing is sent that needs a dictionary.

`net/trained` holds the dictionaries that are shipped with the package.
"""

import enum
import functools
import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from net.errors import NetError

__all__ = [
    "DICTIONARIES_MAX",
    "DICTIONARY_BYTES_MAX",
    "DICTIONARY_SUFFIX",
    "Dictionary",
    "PayloadClass",
    "agreed",
    "load_dictionaries",
    "read_dictionary",
    "shipped_dictionaries",
]

DICTIONARIES_MAX = 32
DICTIONARY_BYTES_MAX = 128 << 10
DICTIONARY_SUFFIX = ".hrdict"
_MAGIC = b"HRDICT\x01\x00"
_HEAD = struct.Struct("<8sBBIIQIQQI")
_DIGEST_BYTES = 16
_ZSTD_DICTIONARY = b"\x37\xa4\x30\xec"
_CONTENT_BYTES_MIN = 8
_REMEDY = "train one with `hitreg dictionary train`"


class PayloadClass(enum.IntEnum):
    """What a payload is, and so how much time compressing it may take."""

    SNAPSHOT = 1  # sent to each client at its snapshot rate
    MESSAGE = 2  # a message of the reliable or unreliable stream
    JOIN = 3  # the state of a zone for a newcomer, in packed columns
    BULK = 4  # what nobody waits for in this tick: recordings, maps, key frames


@dataclass(frozen=True, slots=True)
class Dictionary:
    """A trained dictionary and what is known of it.

    Attributes:
        kind: The payloads it is for.
        content: The Zstandard dictionary.
        revision: The greater is preferred; 0 to 2^32 − 1.
        trained_count, trained_bytes: What it was trained on.
        tested_count, tested_bytes, tested_compressed: What it was tested on, apart from that.
    """

    kind: PayloadClass
    content: bytes
    revision: int = 1
    trained_count: int = 0
    trained_bytes: int = 0
    tested_count: int = 0
    tested_bytes: int = 0
    tested_compressed: int = 0

    def __post_init__(self) -> None:
        """Refuses what the file cannot hold.

        Raises:
            NetError: A number is out of range, or the content is no dictionary.
        """
        fault = _content_fault(self.content)
        if fault:
            raise NetError(f"dictionary: content {fault}; {_REMEDY}")
        try:
            self._head()
        except struct.error as error:
            raise NetError(f"dictionary: a number does not fit its field: {error}") from error

    @property
    def id(self) -> int:
        """Its identity: the first eight bytes of its digest."""
        return int.from_bytes(self._digest()[:8], "little")

    @property
    def short(self) -> int:
        """How it is named in a compressed payload: the low 16 bits of its id."""
        return self.id & 0xFFFF

    def to_bytes(self) -> bytes:
        """The whole file."""
        return self._head() + self._digest() + self.content

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str) -> "Dictionary":
        """The dictionary of a file's bytes.

        Args:
            data: All of the file.
            source: How an error names it.

        Raises:
            NetError: The bytes are not a dictionary of this format, or not whole.
        """
        behind = _HEAD.size + _DIGEST_BYTES
        if data[: len(_MAGIC)] != _MAGIC:
            raise NetError(f"{source}: magic = {data[: len(_MAGIC)]!r}: not a dictionary of version 1; {_REMEDY}")
        if len(data) < behind:
            raise NetError(f"{source}: size = {len(data)} bytes, at least {behind} expected: cut short; {_REMEDY}")
        _, kind, zero, revision, *counts, size = _HEAD.unpack_from(data)
        if len(data) != behind + size:
            raise NetError(f"{source}: size = {len(data)} bytes, {behind + size} expected: cut short; {_REMEDY}")
        digest = hashlib.blake2b(data[: _HEAD.size] + data[behind:], digest_size=_DIGEST_BYTES).digest()
        if digest != data[_HEAD.size : behind]:
            raise NetError(
                f"{source}: digest = {data[_HEAD.size : behind].hex()}: damaged; copy it again, or {_REMEDY}"
            )
        if zero or kind not in {int(known) for known in PayloadClass}:
            raise NetError(f"{source}: class = {kind}: unknown here; {_REMEDY} of this version")
        fault = _content_fault(data[behind:])
        if fault:
            raise NetError(f"{source}: content {fault}; {_REMEDY}")
        return cls(PayloadClass(kind), data[behind:], revision, *counts)

    def _head(self) -> bytes:
        return _HEAD.pack(
            _MAGIC, self.kind, 0, self.revision, self.trained_count, self.trained_bytes,
            self.tested_count, self.tested_bytes, self.tested_compressed, len(self.content),
        )  # fmt: skip

    def _digest(self) -> bytes:
        return hashlib.blake2b(self._head() + self.content, digest_size=_DIGEST_BYTES).digest()


def _content_fault(content: bytes) -> str:
    """What is wrong with the content of a dictionary; empty where nothing is."""
    if not _CONTENT_BYTES_MIN <= len(content) <= DICTIONARY_BYTES_MAX:
        return f"has {len(content):,} bytes, allowed are {_CONTENT_BYTES_MIN} to {DICTIONARY_BYTES_MAX:,}"
    return "" if content[:4] == _ZSTD_DICTIONARY else f"begins with {content[:4].hex()}, not as a Zstandard dictionary"


def agreed(own: Iterable[int], peer: Iterable[int]) -> tuple[int, ...]:
    """The ids of the dictionaries that both sides have, ascending: the same on both sides.

    Args:
        own: Ids of the dictionaries here.
        peer: Ids that the peer told, in any order and number; any integers.
    """
    return tuple(sorted(set(own) & set(peer)))


def read_dictionary(path: Path) -> Dictionary:
    """The dictionary of a file.

    Raises:
        NetError: It cannot be read, is too large, or is not a dictionary.
    """
    try:
        size = path.stat().st_size
        if size > DICTIONARY_BYTES_MAX + 4096:
            raise NetError(f"{path}: size = {size:,} bytes: too large for a dictionary; {_REMEDY}")
        data = path.read_bytes()
    except OSError as error:
        raise NetError(f"{path}: {error.strerror}; {_REMEDY}") from error
    return Dictionary.from_bytes(data, source=str(path))


def load_dictionaries(directory: Path) -> tuple[Dictionary, ...]:
    """All dictionaries of a directory (`*.hrdict`), by ascending id.

    Raises:
        NetError: The directory or a file of it cannot be used, there are too many, or two cannot be told apart.
    """
    if not directory.is_dir():
        raise NetError(f"{directory}: no such directory; make it, and {_REMEDY}")
    paths = sorted(directory.glob(f"*{DICTIONARY_SUFFIX}"))
    if len(paths) > DICTIONARIES_MAX:
        raise NetError(f"{directory}: {len(paths)} dictionaries, at most {DICTIONARIES_MAX}: remove the oldest")
    found = [(read_dictionary(path), path) for path in paths]
    by_id = {dictionary.id: dictionary for dictionary, _ in found}  # a copy under another name is the same one
    fault = _clash(tuple(by_id.values()))
    if fault is not None:
        names = ", ".join(path.name for dictionary, path in found if dictionary.short == fault)
        raise NetError(f"{directory}: {names} share the short id {fault:#06x}: train one anew with another --revision")
    return tuple(by_id[number] for number in sorted(by_id))


@functools.cache
def shipped_dictionaries() -> tuple[Dictionary, ...]:
    """The dictionaries that come with the package, by ascending id; none where they were left out.

    Raises:
        NetError: One is damaged.
    """
    directory = Path(__file__).parent / "trained"
    return load_dictionaries(directory) if directory.is_dir() else ()


def _clash(dictionaries: Sequence[Dictionary]) -> int | None:
    """The short id that two of the dictionaries share, if any."""
    seen: set[int] = set()
    for dictionary in dictionaries:
        if dictionary.short in seen:
            return dictionary.short
        seen.add(dictionary.short)
    return None
