"""Reliable blocks of up to 16 MiB in both directions: maps, recordings, whatever is too large for a message.

Control payloads, carried as messages of the reliable stream, little endian:

    3 OFFER    u8 type, u16 block, u32 size, u32 tag, u8 format (0), 16 bytes BLAKE2b digest of the content
    4 ANSWER   u8 type, u16 block, u8 answer (`Answer`): 0 go ahead, otherwise why not; also later, to end a transfer
    5 CANCEL   u8 type, u16 block: the sender gives up

The sender numbers its blocks to a peer from 0, modulo 2^16. It sends chunks (`net.blocks_kernels`) once the offer was
accepted, not before: a packet whose chunk cannot be stored would have to be dropped with all else it carries. The
receiver makes room when it accepts, and only then, so what a peer can make it hold is bounded by `BlockLimits`. A chunk
counts as delivered when the packet it was in is acknowledged; which packets carry chunks, and when, is decided by the
endpoint within the budget of congestion control.

Overflow. A block that exceeds a limit of the sender is refused at the call; one that exceeds a limit of the receiver is
refused by an answer. A transfer that makes no progress for `idle_ns` is ended on both sides, and so is one whose peer
leaves. All of it is counted.
"""

import hashlib
import struct
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from net.block_limits import CLIENT_BLOCK_LIMITS, BlockLimits
from net.blocks_kernels import (
    CHUNK_BYTES,
    COUNT_ARRIVED,
    COUNT_DELIVERED,
    COUNT_DUPLICATE,
    COUNT_LOST,
    COUNT_MALFORMED,
    COUNT_SENT,
    COUNT_STORED,
    COUNT_UNKNOWN,
    COUNTS,
    GENERATIONS,
    IN_ADDRESS,
    IN_BLOCK,
    IN_CHUNKS,
    IN_COLUMNS,
    IN_NEXT,
    IN_PEER,
    IN_SEEN,
    IN_SIZE,
    IN_STORED,
    OUT_ACKED,
    OUT_ADDRESS,
    OUT_BLOCK,
    OUT_CHUNKS,
    OUT_COLUMNS,
    OUT_GENERATION,
    OUT_NEXT,
    OUT_OPEN,
    OUT_PEER,
    OUT_SEEN,
    OUT_SIZE,
    WORD_BITS,
    BlockArrays,
)
from net.errors import NetError
from sim.arrays import I32, I64, U8, U32

__all__ = [
    "Answer",
    "BlockControl",
    "BlockProgress",
    "Blocks",
    "FinishedBlock",
    "Outcome",
    "ReceivedBlock",
    "block_digest",
]

DIGEST_BYTES = 16
_OFFER = struct.Struct("<BHIIB16s")
_ANSWER = struct.Struct("<BHB")
_CANCEL = struct.Struct("<BH")
_LOOK_NS = 500_000_000  # how often idle transfers are looked for
_OUT, _IN = 0, 1  # columns of `heads`


class BlockControl(IntEnum):
    """Type bytes of the control payloads."""

    OFFER = 3
    ANSWER = 4
    CANCEL = 5


class Answer(IntEnum):
    """What a receiver says to an offer, or later of a block it had accepted."""

    ACCEPTED = 0
    TOO_LARGE = 1
    TOO_MANY = 2
    NO_ROOM = 3
    BAD_OFFER = 4
    NOT_WHOLE = 5
    TIMED_OUT = 6


class Outcome(IntEnum):
    """How a transfer ended for its sender."""

    DELIVERED = 0
    REFUSED = 1
    CANCELLED = 2
    TIMED_OUT = 3
    PEER_LEFT = 4


@dataclass(frozen=True, slots=True)
class BlockProgress:
    """How far a transfer is; `transfer` is the number that `send` gave, −1 for blocks that are received."""

    transfer: int
    peer: int
    tag: int
    done_bytes: int
    size: int


@dataclass(frozen=True, slots=True)
class FinishedBlock:
    """How a transfer ended for its sender; `answer` says why where it was refused."""

    transfer: int
    peer: int
    tag: int
    outcome: Outcome
    answer: Answer = Answer.ACCEPTED


@dataclass(frozen=True, slots=True)
class ReceivedBlock:
    """A block that arrived whole: its digest is that of the offer."""

    peer: int
    tag: int
    content: bytes


@dataclass(slots=True)
class _Sending:
    number: int
    tag: int
    content: bytes
    active_ns: int


@dataclass(slots=True)
class _Receiving:
    tag: int
    digest: bytes
    content: U8 = field(repr=False)
    active_ns: int = 0


def block_digest(content: bytes) -> bytes:
    """The digest of a block: 16 bytes of BLAKE2b (RFC 7693)."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


class _Links:
    """The rows of each peer, oldest first, as the kernels walk them."""

    def __init__(self, heads: I32, side: int, table: I64, following: int) -> None:
        self._heads, self._side, self._table, self._following = heads, side, table, following

    def rows(self, peer: int) -> list[int]:
        """Of one peer."""
        found = []
        row = int(self._heads[peer, self._side])
        while row >= 0:
            found.append(row)
            row = int(self._table[row, self._following])
        return found

    def append(self, peer: int, row: int) -> None:
        """Put a row behind the peer's others."""
        rows = self.rows(peer)
        self._table[row, self._following] = -1
        if rows:
            self._table[rows[-1], self._following] = row
        else:
            self._heads[peer, self._side] = row

    def remove(self, peer: int, row: int) -> None:
        """Take a row out."""
        rows = self.rows(peer)
        at = rows.index(row)
        if at:
            self._table[rows[at - 1], self._following] = self._table[row, self._following]
        else:
            self._heads[peer, self._side] = self._table[row, self._following]


class Blocks:
    """The transfers of all peers.

    Attributes:
        limits: As given.
        arrays: For the kernels (`net.blocks_kernels`).
        counts: What happened on this side, by name.
    """

    def __init__(self, peers: int, *, limits: BlockLimits = CLIENT_BLOCK_LIMITS) -> None:
        """Makes room for the tables, not for contents.

        Raises:
            NetError: No peers, or a limit out of its range.
        """
        if peers < 1:
            raise NetError(f"blocks: peers is {peers}; it must be at least 1")
        limits.check()
        self.limits = limits
        self.arrays = _new_arrays(peers, limits)
        self._out, self._in, self._kernel_counts = self.arrays[0], self.arrays[3], self.arrays[6]
        self._out_links = _Links(self.arrays[5], _OUT, self._out, OUT_NEXT)
        self._in_links = _Links(self.arrays[5], _IN, self._in, IN_NEXT)
        # First in, first out, so that a row's generation comes round as late as can be.
        self._out_free = deque(range(limits.send_transfers))
        self._in_free = deque(range(limits.receive_transfers))
        self._sending: dict[int, _Sending] = {}  # by row
        self._receiving: dict[int, _Receiving] = {}  # by row
        self._rows: dict[int, int] = {}  # by number
        self._contents: dict[int, int] = {}  # users by id of a content that is being sent
        self._send_bytes, self._receive_bytes, self._numbers = 0, 0, 0
        self._next_block: I32 = np.zeros(peers, dtype=np.int32)
        self._controls: deque[tuple[int, bytes]] = deque()
        self._finished: list[FinishedBlock] = []
        self._seen_delivered, self._seen_arrived, self._looked_ns = 0, 0, 0
        names = (
            *(outcome.name.lower() for outcome in Outcome),
            "offered",
            "accepted",
            "not_accepted",
            "received",
            "not_whole",
        )
        self.counts = dict.fromkeys((*names, "malformed_controls", "stray_controls", "dropped_controls"), 0)

    # Sending.

    def send(self, peer: int, content: bytes, *, tag: int, now_ns: int, digest: bytes | None = None) -> int:
        """Queue a block for a peer, behind those it is being sent already.

        Args:
            peer: To whom.
            content: 1 byte to `send_bytes`; it is not copied.
            tag: What it is, a number of the application, 32 bits.
            now_ns: Monotonic time now [ns].
            digest: Of `block_digest`, where the caller has it: computing it takes 1 ms per MiB.

        Returns:
            The transfer's number, for `cancel`, `progress` and `take_finished`.

        Raises:
            NetError: The block is empty or too long, or as many are being sent as may be.
        """
        self._refuse(peer, content, tag)
        digest = block_digest(content) if digest is None else digest
        if len(digest) != DIGEST_BYTES:
            raise NetError(f"block for peer {peer}: a digest of {len(digest)} bytes; block_digest gives {DIGEST_BYTES}")
        row, number, block = self._out_free.popleft(), self._numbers, int(self._next_block[peer])
        self._numbers += 1
        self._next_block[peer] = (block + 1) & 0xFFFF
        generation = self._out[row, OUT_GENERATION]
        self._out[row] = 0
        self._out[row, OUT_GENERATION] = generation
        self._out[row, OUT_PEER], self._out[row, OUT_BLOCK] = peer, block
        self._out[row, OUT_ADDRESS] = np.frombuffer(content, dtype=np.uint8).ctypes.data
        self._out[row, OUT_SIZE], self._out[row, OUT_CHUNKS] = len(content), -(-len(content) // CHUNK_BYTES)
        self.arrays[1][row] = 0
        self.arrays[2][row] = 0
        self._out_links.append(peer, row)
        self._sending[row] = _Sending(number, tag, content, now_ns)
        self._rows[number] = row
        users = self._contents.get(id(content), 0)
        self._contents[id(content)] = users + 1
        self._send_bytes += 0 if users else len(content)
        self.counts["offered"] += 1
        self._control(peer, _OFFER.pack(BlockControl.OFFER, block, len(content), tag, 0, digest))
        return number

    def _refuse(self, peer: int, content: bytes, tag: int) -> None:
        """Raise where a block cannot be queued."""
        limits = self.limits
        if not 0 <= peer < self._next_block.shape[0]:
            raise NetError(f"block for peer {peer}: there are {self._next_block.shape[0]} peers, from 0")
        if not isinstance(content, bytes) or not 0 <= tag < 1 << 32:
            raise NetError(f"block for peer {peer}: give it content as bytes and a tag of 32 bits, not {tag}")
        if not 1 <= len(content) <= limits.send_bytes:
            raise NetError(
                f"block for peer {peer}: {len(content)} bytes, allowed are 1 to {limits.send_bytes} (send_bytes)"
            )
        self._collect_delivered()
        queued = len(self._out_links.rows(peer))
        if queued >= limits.send_per_peer:
            raise NetError(
                f"block for peer {peer}: {queued} are being sent to it already, allowed are {limits.send_per_peer} "
                "(send_per_peer); wait for one to finish"
            )
        if not self._out_free:
            raise NetError(
                f"block for peer {peer}: {limits.send_transfers} are being sent already (send_transfers); wait"
            )
        more = 0 if id(content) in self._contents else len(content)
        if self._send_bytes + more > limits.send_total_bytes:
            raise NetError(
                f"block for peer {peer}: {self._send_bytes} bytes are being sent already and {more} more make too "
                f"many, allowed are {limits.send_total_bytes} (send_total_bytes); wait"
            )

    def cancel(self, transfer: int) -> bool:
        """Give a transfer up and tell its receiver; False where it has ended already."""
        row = self._rows.get(transfer)
        if row is None:
            return False
        self._give_up(row, Outcome.CANCELLED)
        return True

    def _give_up(self, row: int, outcome: Outcome) -> None:
        peer, block = int(self._out[row, OUT_PEER]), int(self._out[row, OUT_BLOCK])
        self._finish(row, outcome)
        self._control(peer, _CANCEL.pack(BlockControl.CANCEL, block))

    def _finish(self, row: int, outcome: Outcome, answer: Answer = Answer.ACCEPTED) -> None:
        """End a transfer that is being sent, and free its row; its references are void from here on."""
        peer, entry = int(self._out[row, OUT_PEER]), self._sending.pop(row)
        self._out_links.remove(peer, row)
        self._out[row, OUT_PEER] = -1
        self._out[row, OUT_GENERATION] = (self._out[row, OUT_GENERATION] + 1) % GENERATIONS
        self._out_free.append(row)
        del self._rows[entry.number]
        self._contents[id(entry.content)] -= 1
        if not self._contents[id(entry.content)]:
            del self._contents[id(entry.content)]
            self._send_bytes -= len(entry.content)
        self.counts[outcome.name.lower()] += 1
        self._finished.append(FinishedBlock(entry.number, peer, entry.tag, outcome, answer))

    def _collect_delivered(self) -> None:
        """End the transfers of which every chunk was acknowledged."""
        delivered = int(self._kernel_counts[COUNT_DELIVERED])
        if delivered == self._seen_delivered:
            return
        self._seen_delivered = delivered
        done = (self._out[:, OUT_PEER] >= 0) & (self._out[:, OUT_ACKED] == self._out[:, OUT_CHUNKS])
        for row in np.flatnonzero(done):
            self._finish(int(row), Outcome.DELIVERED)

    # Receiving.

    def handle(self, peer: int, payload: bytes, now_ns: int) -> bool:
        """Take a control payload of a peer; whatever its bytes, it does not raise.

        Returns:
            False, with a count, where it is none that could be understood.
        """
        kind = payload[0] if payload else 0
        if kind == BlockControl.OFFER and len(payload) == _OFFER.size:
            _, block, size, tag, form, digest = _OFFER.unpack(payload)
            answer = self._judge(peer, block, size, form)
            if answer == Answer.ACCEPTED:
                self._accept(peer, block, size, _Receiving(tag, digest, np.empty(size, dtype=np.uint8), now_ns))
            self.counts["accepted" if answer == Answer.ACCEPTED else "not_accepted"] += 1
            self._control(peer, _ANSWER.pack(BlockControl.ANSWER, block, answer))
        elif kind == BlockControl.ANSWER and len(payload) == _ANSWER.size and payload[3] <= max(Answer):
            self._answered(peer, payload[1] | payload[2] << 8, Answer(payload[3]), now_ns)
        elif kind == BlockControl.CANCEL and len(payload) == _CANCEL.size:
            row = self._in_row(peer, payload[1] | payload[2] << 8)
            if row < 0:
                self.counts["stray_controls"] += 1
            else:
                self._drop(row)
        else:
            self.counts["malformed_controls"] += 1
            return False
        return True

    def _judge(self, peer: int, block: int, size: int, form: int) -> Answer:
        """Whether an offer is within the limits."""
        limits = self.limits
        if size < 1 or form != 0 or self._in_row(peer, block) >= 0:
            return Answer.BAD_OFFER
        if size > limits.receive_bytes:
            return Answer.TOO_LARGE
        if len(self._in_links.rows(peer)) >= limits.receive_per_peer:
            return Answer.TOO_MANY
        if not self._in_free or self._receive_bytes + size > limits.receive_total_bytes:
            return Answer.NO_ROOM
        return Answer.ACCEPTED

    def _accept(self, peer: int, block: int, size: int, entry: _Receiving) -> None:
        row = self._in_free.popleft()
        self._in[row] = 0
        self._in[row, IN_PEER], self._in[row, IN_BLOCK] = peer, block
        self._in[row, IN_ADDRESS] = entry.content.ctypes.data
        self._in[row, IN_SIZE], self._in[row, IN_CHUNKS] = size, -(-size // CHUNK_BYTES)
        self.arrays[4][row] = 0
        self._in_links.append(peer, row)
        self._receiving[row] = entry
        self._receive_bytes += size

    def _answered(self, peer: int, block: int, answer: Answer, now_ns: int) -> None:
        """The receiver of one of our blocks lets it begin, or ends it."""
        rows = [row for row in self._out_links.rows(peer) if self._out[row, OUT_BLOCK] == block]
        if not rows:
            self.counts["stray_controls"] += 1
        elif answer == Answer.ACCEPTED:
            self._out[rows[0], OUT_OPEN] = 1
            self._sending[rows[0]].active_ns = now_ns
        else:
            self._finish(rows[0], Outcome.REFUSED, answer)

    def _in_row(self, peer: int, block: int) -> int:
        return next((row for row in self._in_links.rows(peer) if self._in[row, IN_BLOCK] == block), -1)

    def _drop(self, row: int) -> _Receiving:
        """End a transfer that is being received, and free its row and its memory."""
        entry = self._receiving.pop(row)
        self._in_links.remove(int(self._in[row, IN_PEER]), row)
        self._in[row, IN_PEER] = -1
        self._in_free.append(row)
        self._receive_bytes -= entry.content.shape[0]
        return entry

    def take_received(self) -> list[ReceivedBlock]:
        """The blocks that arrived whole since the last call, in the order of their rows; checks their digests."""
        arrived = int(self._kernel_counts[COUNT_ARRIVED])
        if arrived == self._seen_arrived:
            return []
        self._seen_arrived = arrived
        received = []
        done = (self._in[:, IN_PEER] >= 0) & (self._in[:, IN_STORED] == self._in[:, IN_CHUNKS])
        for row in np.flatnonzero(done):
            peer, block = int(self._in[row, IN_PEER]), int(self._in[row, IN_BLOCK])
            entry = self._drop(int(row))
            content = entry.content.tobytes()
            if block_digest(content) == entry.digest:
                self.counts["received"] += 1
                received.append(ReceivedBlock(peer, entry.tag, content))
            else:
                self.counts["not_whole"] += 1
                self._control(peer, _ANSWER.pack(BlockControl.ANSWER, block, Answer.NOT_WHOLE))
        return received

    # Both.

    def _control(self, peer: int, payload: bytes) -> None:
        if len(self._controls) >= self.limits.controls:
            self.counts["dropped_controls"] += 1
        else:
            self._controls.append((peer, payload))

    def take_controls(self) -> list[tuple[int, bytes]]:
        """Control payloads that are to be sent reliably: (peer, payload), oldest first."""
        taken = list(self._controls)
        self._controls.clear()
        return taken

    def return_controls(self, controls: Iterable[tuple[int, bytes]]) -> None:
        """Put back, in front, what `take_controls` gave and could not be sent yet."""
        self._controls.extendleft(reversed(list(controls)))

    def take_finished(self) -> list[FinishedBlock]:
        """The transfers being sent that have ended since the last call."""
        self._collect_delivered()
        taken, self._finished = self._finished, []
        return taken

    def progress(self) -> list[BlockProgress]:
        """How far every transfer is, those being sent first; acknowledged or stored bytes."""
        out = [
            (entry.number, OUT_PEER, OUT_ACKED, OUT_SIZE, entry.tag, self._out[row])
            for row, entry in self._sending.items()
        ]
        taken = [(-1, IN_PEER, IN_STORED, IN_SIZE, entry.tag, self._in[row]) for row, entry in self._receiving.items()]
        return [
            BlockProgress(
                number, int(line[peer]), tag, min(int(line[done]) * CHUNK_BYTES, int(line[size])), int(line[size])
            )
            for number, peer, done, size, tag, line in out + taken
        ]

    def leave(self, peer: int) -> None:
        """End all transfers with a peer that went away, or that is new; nothing is sent to it for that."""
        self._collect_delivered()
        for row in self._out_links.rows(peer):
            self._finish(row, Outcome.PEER_LEFT)
        for row in self._in_links.rows(peer):
            self._drop(row)
            self.counts["peer_left"] += 1
        self._next_block[peer] = 0
        if self._controls:
            self._controls = deque(entry for entry in self._controls if entry[0] != peer)

    def advance(self, now_ns: int) -> None:
        """End what makes no progress; to be called once per tick, cheap where nothing is under way."""
        if now_ns - self._looked_ns < _LOOK_NS or not (self._sending or self._receiving):
            return
        self._looked_ns = now_ns
        self._collect_delivered()
        late = now_ns - self.limits.idle_ns
        sending, receiving = self._sending, self._receiving
        _mark_active(sending, self._out, (OUT_PEER, OUT_ACKED, OUT_SEEN), now_ns)
        _mark_active(receiving, self._in, (IN_PEER, IN_STORED, IN_SEEN), now_ns)
        for row in [row for row, entry in sending.items() if entry.active_ns <= late]:
            self._give_up(row, Outcome.TIMED_OUT)
        for row in [row for row, old in receiving.items() if old.active_ns <= late and not self._whole(row)]:
            peer, block = int(self._in[row, IN_PEER]), int(self._in[row, IN_BLOCK])
            self._drop(row)
            self.counts["timed_out"] += 1
            self._control(peer, _ANSWER.pack(BlockControl.ANSWER, block, Answer.TIMED_OUT))

    def _whole(self, row: int) -> bool:
        return bool(self._in[row, IN_STORED] == self._in[row, IN_CHUNKS])

    def statistics(self) -> dict[str, int]:
        """Counters, and what is under way."""
        names = {
            "chunks_sent": COUNT_SENT,
            "chunks_lost": COUNT_LOST,
            "chunks_stored": COUNT_STORED,
            "chunks_duplicate": COUNT_DUPLICATE,
            "chunks_unknown": COUNT_UNKNOWN,
            "chunks_malformed": COUNT_MALFORMED,
        }
        return {
            **self.counts,
            **{name: int(self._kernel_counts[index]) for name, index in names.items()},
            "sending": len(self._sending),
            "receiving": len(self._receiving),
            "send_bytes": self._send_bytes,
            "receive_bytes": self._receive_bytes,
        }


def _new_arrays(peers: int, limits: BlockLimits) -> BlockArrays:
    """Tables of free rows."""

    def words(size: int) -> int:
        return max(1, -(-size // (CHUNK_BYTES * WORD_BITS)))

    sending: I64 = np.zeros((limits.send_transfers, OUT_COLUMNS), dtype=np.int64)
    receiving: I64 = np.zeros((limits.receive_transfers, IN_COLUMNS), dtype=np.int64)
    sending[:, OUT_PEER] = receiving[:, IN_PEER] = -1
    acked: U32 = np.zeros((limits.send_transfers, words(limits.send_bytes)), dtype=np.uint32)
    got: U32 = np.zeros((limits.receive_transfers, words(limits.receive_bytes)), dtype=np.uint32)
    heads: I32 = np.full((peers, 2), -1, dtype=np.int32)
    return sending, acked, np.zeros_like(acked), receiving, got, heads, np.zeros(COUNTS, dtype=np.int64)


def _mark_active(
    entries: dict[int, _Sending] | dict[int, _Receiving], table: I64, columns: tuple[int, int, int], now_ns: int
) -> None:
    """Note the time for every transfer of a peer one of whose transfers went on since it was looked at last."""
    peer, done, seen = columns
    moved = {int(table[row, peer]) for row in entries if table[row, done] != table[row, seen]}
    for row, entry in entries.items():
        table[row, seen] = table[row, done]
        if int(table[row, peer]) in moved:
            entry.active_ns = now_ns
