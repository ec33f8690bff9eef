"""What chosen clients are told, published beside the live feed: for pages that look at the match as a player gets it.

Nobody can afford to publish this of every client, so that pages ask for a few. The server makes `hitreg-NAME.told` and
removes it; the edge opens it for writing, but writes nothing except `ask`. Little endian:

    HEADER
    ASK[WATCHED_MAX]   who is asked for; whoever asks adds to `beat` at least every `ASK_S`, or it is forgotten
    ring               RING entries of ENTRY_BYTES; the message with number n (from 1) stands in entry n % RING:
                         `lock` u64, length u64, message

Locks are as in `server.livefeed`. An ask can hold anything: it is looked up among the players, and not found. Of more
than `WATCHED_MAX` players at a time those asked for last are refused by the edge, which tells the page. Two edges that
take the same place at once overwrite each other; who lost takes another one half a second later.

A message, also as browsers get it:

    TOLD
    SLOT[slot_count]                                          what the client has been told of, and may not be
    KEY[key_count], i4[key_count, field_count]                once a second: states that later records may rest on
    u2 length, snapshot; …                                    snapshot_bytes in all: sent to it since the last message

A page that missed a message (`number` is not the next one) waits for the next key: what snapshots are decoded against
is in there, and it replaces all that the page has. What finds no room in an entry is left out, with a gap in the
numbers.
"""

import mmap
import os
from pathlib import Path

import numpy as np

from server.livefeed import REASONS_MAX, FeedError, create_shared, feed_path
from sim.arrays import U8, U64, AnyArray

__all__ = [
    "ASK",
    "ASK_S",
    "HEADER",
    "KEY",
    "KEYS_MAX",
    "MESSAGE_BYTES_MAX",
    "RING",
    "SLOT",
    "SNAPSHOT_BYTES_MAX",
    "TOLD",
    "WATCHED_MAX",
    "AskBoard",
    "ToldWriter",
    "told_path",
]

VERSION = 2
MAGIC = 0x444C4F5456495248
WATCHED_MAX = 8
RING = 32
ASK_S = 3.0
SLOTS_MAX = 128
KEYS_MAX = 1024
# As in `net.snapshots`, which the edge does not import: it would load kernels. A test holds both to the same.
PAYLOAD_BYTES = 1200
FIELDS_MAX = 32
SNAPSHOT_BYTES_MAX = 16 * (PAYLOAD_BYTES + 2)

HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("entry_bytes", "<u4"),
        ("started_ns", "<u8"),  # of the feed that it belongs to
        ("newest", "<u8"),  # number of the newest message in the ring, 0: none yet
        ("reserved", "<u8", (4,)),
    ]
)
ASK = np.dtype([("entity", "<u8"), ("beat", "<u8")])
TOLD = np.dtype(
    [
        ("kind", "<u2"),  # 2, tells it from a frame
        ("version", "<u2"),
        ("slot_count", "<u2"),
        ("key_count", "<u2"),
        ("number", "<u4"),  # of this player's messages
        ("snapshot_bytes", "<u4"),
        ("entity", "<u8"),
        ("tick", "<u8"),
        ("wall_ns", "<u8"),
        ("watched", "<u8"),  # through whose eyes it sees, 0: a camera
        ("rtt_ms", "<f4"),
        ("loss", "<f4"),  # share of the packets to it, 0 to 1
        ("snapshot_hz", "<f4"),
        ("rate_Bps", "<f4"),  # what congestion control allows [bytes/s]
        ("snapshot_Bps", "<f4"),  # snapshots of the last second [bytes/s]
        ("budget", "<u4"),  # of its next snapshot [bytes]
        ("eye", "<f4", (3,)),  # [m]
        ("yaw", "<u2"),  # 65536 = one turn
        ("mode", "u1"),  # as `server.views` numbers them
        ("reserved", "u1"),
        ("half_cone", "<f4"),  # of the view cone [rad]
        ("horizon_ms", "<f4"),  # how far visibility leads it, 0: visibility is not decided
        ("rays", "<u4"),  # cast for its last snapshot
        ("told", "<u2"),  # entities that it is told of
        ("hidden", "<u2"),  # within range, but not to be told
        ("waiting", "<u2"),  # to be told, but not in a snapshot yet
        ("field_count", "<u2"),
        ("sequence", "<u4"),  # of its newest snapshot
        ("snapshot_tick", "<u4"),
        ("reserved2", "<u4", (3,)),
        ("refused", "<u2", (REASONS_MAX,)),  # of it since it connected, by reason, as `FeedInfo.extra` names them
    ]
)
SLOT = np.dtype(
    [
        ("id", "<u8"),
        ("state", "u1"),  # as `server.slots` numbers them
        ("found", "u1"),  # as `sim.visibility_kernels` numbers it, 255: visibility does not decide
        ("level", "u1"),
        ("factor", "u1"),  # 16 times the weight by the view cone
        ("age", "<u2"),  # ticks since its newest record, 65535: none yet
        ("reserved", "<u2"),
    ]
)
KEY = np.dtype(
    [("slot", "u1"), ("level", "u1"), ("newest", "<u2"), ("tick", "<u4"), ("id", "<u8")]
)  # newest: 1 where this is the state of the slot's newest record
MESSAGE_BYTES_MAX = (
    TOLD.itemsize + SLOTS_MAX * SLOT.itemsize + KEYS_MAX * (KEY.itemsize + 4 * FIELDS_MAX) + SNAPSHOT_BYTES_MAX
)
ENTRY_BYTES = -(-(16 + MESSAGE_BYTES_MAX) // 64) * 64
ASKS_AT = HEADER.itemsize
RING_AT = -(-(ASKS_AT + WATCHED_MAX * ASK.itemsize) // 64) * 64
FILE_BYTES = RING_AT + RING * ENTRY_BYTES


def told_path(name: str) -> Path:
    """Where it lies beside the feed of that name.

    Raises:
        FeedError: The name is malformed.
    """
    return feed_path(name).with_suffix(".told")


class ToldWriter:
    """The server's end: hears who is asked for, and publishes.

    Args:
        name: Of the feed.
        started_ns: As the feed's.

    Raises:
        FeedError: The file cannot be made.
    """

    def __init__(self, name: str, *, started_ns: int) -> None:
        self.path = told_path(name)
        self._descriptor, memory, made = create_shared(self.path, FILE_BYTES)
        whole: U8 = np.frombuffer(memory, np.uint8)
        header: AnyArray = whole[: HEADER.itemsize].view(HEADER)
        header["magic"], header["version"], header["entry_bytes"] = MAGIC, VERSION, ENTRY_BYTES
        header["started_ns"] = started_ns
        self._newest: U64 = header["newest"]
        self._asks: U64 = whole[ASKS_AT : ASKS_AT + WATCHED_MAX * ASK.itemsize].view(np.uint64)
        self._entries = [whole[at : at + ENTRY_BYTES] for at in range(RING_AT, FILE_BYTES, ENTRY_BYTES)]
        self._words: list[U64] = [entry[:16].view(np.uint64) for entry in self._entries]
        self._last = [0] * (2 * WATCHED_MAX)
        self._heard_ns = [0] * WATCHED_MAX
        self._number = 0
        made.replace(self.path)

    def asked(self, now_ns: int) -> list[int]:
        """Ids of the players asked for, in `WATCHED_MAX` places: 0 where nobody is.

        Args:
            now_ns: Monotonic time.
        """
        words = self._asks.tolist()
        if words != self._last:
            for place in range(WATCHED_MAX):
                if words[2 * place : 2 * place + 2] != self._last[2 * place : 2 * place + 2]:
                    self._heard_ns[place] = now_ns
            self._last = words
        since = now_ns - int(ASK_S * 1e9)
        return [words[2 * p] if self._heard_ns[p] > since and self._heard_ns[p] else 0 for p in range(WATCHED_MAX)]

    def publish(self, message: bytes) -> None:
        """Make one message the newest.

        Args:
            message: At most `MESSAGE_BYTES_MAX` bytes.
        """
        self._number += 1
        place = self._number % RING
        words = self._words[place]
        words[0] = 2 * self._number + 1
        self._entries[place][16 : 16 + len(message)] = np.frombuffer(message, np.uint8)
        words[1] = len(message)
        words[0] = 2 * self._number + 2
        self._newest[0] = self._number

    def close(self) -> None:
        """Remove it. May be called twice."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = -1


class AskBoard:
    """The edge's end: asks for players, and reads what comes of them.

    Args:
        name: Of the feed.
        started_ns: Of the feed; a file of another run is refused.

    Raises:
        FeedError: There is none, or the file is not one.
    """

    def __init__(self, name: str, *, started_ns: int) -> None:
        path = told_path(name)
        try:
            with path.open("r+b") as file:
                if os.fstat(file.fileno()).st_size != FILE_BYTES:
                    raise FeedError(f"{path}: of another version; restart the server with this one")
                self._memory = mmap.mmap(file.fileno(), FILE_BYTES)
        except OSError as exc:
            raise FeedError(f"{path}: {exc.strerror}; restart the server") from exc
        header = np.frombuffer(self._memory, HEADER, 1)[0]
        if (
            int(header["magic"]) != MAGIC
            or int(header["version"]) != VERSION
            or int(header["started_ns"]) != started_ns
        ):
            raise FeedError(f"{path}: not of this run; restart the server")
        self._newest: U64 = np.frombuffer(self._memory, np.uint64, 1, 24)
        self._asks: U64 = np.frombuffer(self._memory, np.uint64, 2 * WATCHED_MAX, ASKS_AT)
        self._read = int(self._newest[0])
        self._beats = [0] * WATCHED_MAX
        self._moved_s = [-ASK_S] * WATCHED_MAX
        self._own: dict[int, int] = {}  # places that we asked in, and for whom
        self.torn = 0

    def ask(self, wanted: list[int], now_s: float) -> set[int]:
        """Ask for players; call again within `ASK_S`.

        Args:
            wanted: Ids, the most important first.
            now_s: Monotonic time [s].

        Returns:
            For whom there was a place.
        """
        words = self._asks.tolist()
        for place in range(WATCHED_MAX):
            if words[2 * place + 1] != self._beats[place]:
                self._beats[place], self._moved_s[place] = words[2 * place + 1], now_s
        held = {words[2 * place]: place for place in range(WATCHED_MAX) if now_s - self._moved_s[place] < ASK_S}
        for place, entity in self._own.items():
            if entity not in wanted and words[2 * place] == entity:
                self._asks[2 * place] = 0
                held.pop(entity, None)
        self._own.clear()
        free = [place for place in range(WATCHED_MAX) if place not in held.values()]
        granted: set[int] = set()
        for entity in wanted:
            place = held[entity] if entity in held else (free.pop() if free else -1)
            if place >= 0:
                granted.add(entity)
                self._own[place] = entity
                self._asks[2 * place] = entity
                self._beats[place] = (words[2 * place + 1] + 1) % (1 << 63)
                self._asks[2 * place + 1] = self._beats[place]
                self._moved_s[place] = now_s
        return granted

    def take(self) -> list[bytes]:
        """The messages since the last call, oldest first; at most the ring's."""
        newest = int(self._newest[0])
        first = max(self._read + 1, newest - RING + 2)
        self._read = newest
        found = []
        for number in range(first, newest + 1):
            at = RING_AT + number % RING * ENTRY_BYTES
            lock, length = np.frombuffer(self._memory, np.uint64, 2, at).tolist()
            message = self._memory[at + 16 : at + 16 + min(length, MESSAGE_BYTES_MAX)]
            if lock == 2 * number + 2 == int(np.frombuffer(self._memory, np.uint64, 1, at)[0]):
                found.append(message)
            else:
                self.torn += 1
        return found
