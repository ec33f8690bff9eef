"""What the endpoint's kernels share: the packet format, the columns over all peers, the pool of slabs, and telling.

A packet is the body of one netcode payload, 9 to 1,200 bytes, little endian:

| offset | type | field |
|---|---|---|
| 0 | u16 | sequence: +1 per packet sent to this peer, from 0 |
| 2 | u16 | ack: newest packet sequence received from the peer; 0xFFFF with mask 0 before the first |
| 4 | u32 | ack_mask: bit i: sequence ack − 1 − i was received as well |
| 8 | u8 | ack_delay: age of the packet `ack` when this one was composed, in ¼ ms; 255: older, gives no RTT sample |
| 9 | … | sections, one after the other, to the end of the packet; none: a bare acknowledgement |

A section begins with a head byte: bits 0–3 kind, bit 4 MORE (RELIABLE only), bit 7 LAST (no length: the section runs to
the end of the packet); bits 5 and 6 are zero. `[length]` is a u16, at least 1 but for CLOSE.

| kind | name | after the head |
|---|---|---|
| 1 | PLAIN | [length] bytes: an unreliable payload |
| 2 | SEQUENCED | u16 number, [length] bytes: unreliable; one not newer (RFC 1982) than the last delivered is dropped |
| 3 | RELIABLE | u16 item, [length] bytes, 1 to 1,024: one item of the reliable stream; MORE: its message goes on |
| 4 | CHUNK | u16 block, u16 index, [length] bytes: 1,024 bytes of a block (`net.blocks_kernels`) |
| 5 | CLOSE | u8 code, [length] UTF-8 text, at most 200 bytes: why the sender ends the connection |

Columns, one row a peer, one tuple (`PEERS_TYPE`); in the rows of `state` stand the numbers named below.

    state     i8[n, STATE_WORDS]   times are µs, sequences and item numbers extended to 64 bits
    rates     f8[n, RATES]         what is measured: times in ns, bandwidth in bytes per second
    active    u1[n]                1 while the peer is open
    sent      u4[n, 256, 3]        packets sent, at sequence mod 256: time [µs]; bytes | status << 11 | ELICITING |
                                   CHUNK_CARRIED | first item << 16; a mask of the items from the first on, or a chunk
    window    i4[n, 64]            slab of each item in the send window, at item mod 64
    marks     u1[n, 64]            its state: FREE, DUE, FLIGHT, DONE
    arrivals  i4[n, 128]           slab + 1 of each item received and not delivered, at item mod 128, or 0
    counts    i8[COUNTS]           `EndpointCount`

The pool, one tuple (`POOL_TYPE`): slabs of 1,024 bytes for what waits in either direction. Every peer can have one slab
at any time; more come from the surplus, so that peers who take all they can get never starve another.

    slabs     u1[s, 1024]
    info      i4[s]                bytes | MORE_SLAB | SEQUENCED_SLAB | SENT_SLAB: it went out at least once
    link      i4[s]                next of the free list or of a queue, −1 at the end
    words     i8[8]                head of the free list, slabs free, surplus left, peers with deferred messages,
                                   limits: queue bytes, queue items, plain items
"""

from enum import IntEnum
from typing import Final

import numpy as np

from net.congestion_kernels import reset_peer
from sim.arrays import F64, I32, I64, U8, U32
from sim.jit import external, kernel

__all__ = [
    "CHUNK",
    "CLOSE",
    "CLOSE_TEXT_BYTES_MAX",
    "COUNTS",
    "ITEMS_PER_MESSAGE_MAX",
    "ITEM_BYTES_MAX",
    "PACKET_BYTES_MAX",
    "PACKET_HEADER_BYTES",
    "PEERS_TYPE",
    "PLAIN",
    "PLAIN_BYTES_MAX",
    "POOL_TYPE",
    "RATES",
    "RECEIVE_RING",
    "RELIABLE",
    "SENT_RING",
    "SEQUENCED",
    "STATE_WORDS",
    "WINDOW_ITEMS",
    "EndpointCount",
    "Peers",
    "Pool",
    "copy_bytes",
    "get_u16",
    "put_u16",
    "reset_peers",
    "slab_give",
    "slab_room",
    "slab_take",
    "tell_batch",
]

PACKET_BYTES_MAX = 1200
PACKET_HEADER_BYTES = 9
ITEM_BYTES_MAX = 1024
ITEMS_PER_MESSAGE_MAX = 32
WINDOW_ITEMS = 64
RECEIVE_RING = 128  # a message of 32 items that waits for its first, and the window behind it
PLAIN_BYTES_MAX = PACKET_BYTES_MAX - PACKET_HEADER_BYTES - 1
SENT_RING = 256
CLOSE_TEXT_BYTES_MAX = 200
PLAIN, SEQUENCED, RELIABLE, CHUNK, CLOSE = 1, 2, 3, 4, 5

Peers = tuple[I64, F64, U8, U32, I32, U8, I32, I64]
PEERS_TYPE = "Tuple((i8[:,::1], f8[:,::1], u1[::1], u4[:,:,::1], i4[:,::1], u1[:,::1], i4[:,::1], i8[::1]))"
STATE: Final = 0
MEASURED: Final = 1
ACTIVE: Final = 2
SENT: Final = 3
WINDOW: Final = 4
MARKS: Final = 5
ARRIVALS: Final = 6
TALLY: Final = 7

Pool = tuple[U8, I32, I32, I64]
POOL_TYPE = "Tuple((u1[:,::1], i4[::1], i4[::1], i8[::1]))"
SLABS: Final = 0
INFO: Final = 1
LINK: Final = 2
WORDS: Final = 3
POOL_HEAD, POOL_FREE, POOL_SURPLUS, POOL_DEFERRED, QUEUE_BYTES_MAX, QUEUE_ITEMS_MAX, PLAIN_ITEMS_MAX = range(7)
POOL_WORDS = 8
MORE_SLAB, SEQUENCED_SLAB, SENT_SLAB, SLAB_BYTES_MASK = 1 << 16, 1 << 17, 1 << 18, (1 << 16) - 1

FREE, DUE, FLIGHT, DONE = 0, 1, 2, 3  # of items
LIVE, LOST, ACKED = 1, 2, 3  # of packets; 0: never sent
STATUS_SHIFT, STATUS_MASK, BYTES_MASK = 11, 3, (1 << 11) - 1
ELICITING, CHUNK_CARRIED, FIRST_SHIFT = 1 << 13, 1 << 14, 16

# fmt: off
(
    NEXT_SEQ, FIRST_SEQ, OLDEST, LARGEST_ACKED, LAST_LOST,  # packets out: next, first ever, oldest not settled, …
    NEWEST_IN, MASK_IN, NEWEST_AT, PENDING, PENDING_AT,  # packets in: newest, the 32 before, its time; acks owed
    BACKOFF, PROGRESS_AT, IN_FLIGHT,  # probes since anything was acknowledged, and when that or the last probe was
    ITEM_BASE, ITEM_NEXT, ITEMS_DUE, ITEM_SENT_AT,  # reliable stream out: oldest not done, next, how many are due
    WAIT_HEAD, WAIT_TAIL, WAIT_COUNT, QUEUED_BYTES, QUEUED_ITEMS, FULL_SINCE,
    PLAIN_HEAD, PLAIN_TAIL, PLAIN_COUNT, NUMBER_OUT, NUMBER_IN,
    IN_NEXT, IN_MISSING, IN_HELD, GAP_SINCE, DEFERRED,  # reliable stream in: next to deliver, oldest not received, …
    HELD, CLOSE_ROW, CLOSE_HEARD,
    SENT_BYTES, RECEIVED_BYTES, EPOCH_AT, EPOCH_OUT, EPOCH_IN, MINIMUM_AT,
) = range(42)
# fmt: on
STATE_WORDS = 42
RTT, RTT_VARIATION, RTT_LATEST, RTT_MINIMUM, MINIMUM_NOW, MINIMUM_BEFORE, JITTER, LOSS, RATE_OUT, RATE_IN = range(10)
RATES = 10


class EndpointCount(IntEnum):
    """What an endpoint counts over all peers."""

    PACKETS_IN = 0
    PACKETS_OUT = 1
    BYTES_IN = 2
    BYTES_OUT = 3
    BARE_OUT = 4  # packets that only acknowledge
    MESSAGES_IN = 5
    MESSAGES_OUT = 6  # taken by `tell` for reliable delivery
    ITEMS_IN = 7
    ITEMS_OUT = 8
    ITEMS_RESENT = 9
    ITEMS_DUPLICATE = 10
    CHUNKS_OUT = 11
    ACKED = 12
    LOST = 13
    SPURIOUS = 14  # declared lost, then acknowledged
    PROBES = 15  # probe time-outs
    MALFORMED = 16
    INACTIVE = 17  # packets of peers that are not open
    DUPLICATE = 18
    OLD = 19  # too old to be acknowledged
    BEYOND_WINDOW = 20  # an item further ahead than a sender may go
    NO_ROOM = 21  # content that could not be stored; not acknowledged, so that it comes again
    STALE = 22  # sequenced payloads that something newer has overtaken
    TOO_LONG = 23  # messages of more than 32 items
    DEFERRED = 24  # messages that wait for room in the inbox
    ACK_INVALID = 25  # acknowledgement of what was never sent
    ACK_OLD = 26
    QUEUE_FULL = 27
    POOL_EMPTY = 28
    SEND_INACTIVE = 29
    SEND_WRONG_SIZE = 30
    OUTGOING_FULL = 31
    ABANDONED = 32  # items and payloads that were not delivered when their peer went
    CLOSES_IN = 33
    CLOSES_DROPPED = 34


COUNTS = len(EndpointCount)
_MESSAGES_OUT, _ABANDONED = int(EndpointCount.MESSAGES_OUT), int(EndpointCount.ABANDONED)
_QUEUE_FULL, _POOL_EMPTY = int(EndpointCount.QUEUE_FULL), int(EndpointCount.POOL_EMPTY)
_SEND_INACTIVE, _SEND_WRONG_SIZE = int(EndpointCount.SEND_INACTIVE), int(EndpointCount.SEND_WRONG_SIZE)
_ITEM, _WINDOW, _RING, _MESSAGE_ITEMS = ITEM_BYTES_MAX, WINDOW_ITEMS, RECEIVE_RING, ITEMS_PER_MESSAGE_MAX
_SEQUENCED, _RELIABLE = SEQUENCED, RELIABLE

_memcpy = external("memcpy", "i8(i8, i8, i8)")


@kernel(counted=False)
def copy_bytes(target: U8, at: int, source: U8, start: int, size: int) -> None:
    """Copy `size` bytes between flat arrays; the caller has checked both ranges."""
    _memcpy(int(np.int64(target.ctypes.data)) + at, int(np.int64(source.ctypes.data)) + start, size)


@kernel(counted=False)
def copy_to_slab(slabs: U8, slab: int, source: U8, start: int, size: int) -> None:
    """Fill a slab with at most 1,024 bytes of a flat array; the caller has checked the range."""
    target = int(np.int64(slabs.ctypes.data)) + slab * slabs.shape[1]
    _memcpy(target, int(np.int64(source.ctypes.data)) + start, size)


@kernel(counted=False)
def copy_from_slab(target: U8, at: int, slabs: U8, slab: int, size: int) -> None:
    """Copy the first bytes of a slab into a flat array; the caller has checked the range."""
    source = int(np.int64(slabs.ctypes.data)) + slab * slabs.shape[1]
    _memcpy(int(np.int64(target.ctypes.data)) + at, source, size)


@kernel(counted=False)
def get_u16(data: U8, at: int) -> int:
    """Read an unsigned 16-bit integer, low byte first."""
    return int(np.int64(data[at])) | int(np.int64(data[at + 1])) << 8


@kernel(counted=False)
def put_u16(data: U8, at: int, value: int) -> None:
    """Write the low 16 bits of an integer, low byte first."""
    data[at] = np.uint8(value & 255)
    data[at + 1] = np.uint8(value >> 8 & 255)


@kernel(counted=False)
def slab_room(state: I64, words: I64, peer: int) -> int:
    """How many slabs a peer could take now."""
    return int(words[POOL_SURPLUS] + (1 if state[peer, HELD] == 0 else 0))


@kernel(counted=False)
def slab_take(state: I64, link: I32, words: I64, peer: int) -> int:
    """Take a slab for a peer; `slab_room` must have said that there is one."""
    slab = int(words[POOL_HEAD])
    words[POOL_HEAD] = link[slab]
    words[POOL_FREE] -= 1
    if state[peer, HELD] > 0:
        words[POOL_SURPLUS] -= 1
    state[peer, HELD] += 1
    link[slab] = -1
    return slab


@kernel(counted=False)
def slab_give(state: I64, link: I32, words: I64, peer: int, slab: int) -> None:
    """Give a peer's slab back."""
    link[slab] = np.int32(words[POOL_HEAD])
    words[POOL_HEAD] = slab
    words[POOL_FREE] += 1
    state[peer, HELD] -= 1
    if state[peer, HELD] > 0:
        words[POOL_SURPLUS] += 1


@kernel(counted=False)
def _give_list(state: I64, link: I32, words: I64, peer: int, slab: int) -> int:
    """Give back a queue of slabs from its head on; how many there were."""
    count = 0
    while slab >= 0:
        following = int(link[slab])
        slab_give(state, link, words, peer, slab)
        slab = following
        count += 1
    return count


@kernel(counted=False)
def _free_all(peers: Peers, pool: Pool, peer: int) -> int:
    """Give back every slab of a peer; returns how many items and payloads were not delivered."""
    state, window, marks, arrivals = peers[STATE], peers[WINDOW], peers[MARKS], peers[ARRIVALS]
    link, words = pool[LINK], pool[WORDS]
    count = _give_list(state, link, words, peer, int(state[peer, WAIT_HEAD]))
    count += _give_list(state, link, words, peer, int(state[peer, PLAIN_HEAD]))
    for at in range(_WINDOW):
        if marks[peer, at] == DUE or marks[peer, at] == FLIGHT:
            slab_give(state, link, words, peer, int(window[peer, at]))
            count += 1
        marks[peer, at] = FREE
    for at in range(_RING):
        if arrivals[peer, at] > 0:
            slab_give(state, link, words, peer, int(arrivals[peer, at]) - 1)
            arrivals[peer, at] = 0
            count += 1
    return count


@kernel(f"({PEERS_TYPE}, {POOL_TYPE}, f8[:,::1], i4[::1], i8, i8)", counted=False)
def reset_peers(peers: Peers, pool: Pool, control: F64, chosen: I32, active: int, now_us: int) -> None:
    """Make peers new, whatever they were: all their slabs become free, all numbers those of a connection's start."""
    state, rates, sent = peers[STATE], peers[MEASURED], peers[SENT]
    for index in range(chosen.shape[0]):
        peer = int(chosen[index])
        if peers[ACTIVE][peer] != 0:
            peers[TALLY][_ABANDONED] += _free_all(peers, pool, peer)
        if state[peer, DEFERRED] != 0:
            pool[WORDS][POOL_DEFERRED] -= 1
        state[peer, :] = 0
        rates[peer, :] = 0.0
        sent[peer, :, :] = 0
        for word in (LARGEST_ACKED, LAST_LOST, NEWEST_IN, WAIT_HEAD, WAIT_TAIL, PLAIN_HEAD, PLAIN_TAIL, NUMBER_IN):
            state[peer, word] = -1
        state[peer, EPOCH_AT] = state[peer, MINIMUM_AT] = now_us
        reset_peer(control, peer, now_us)
        peers[ACTIVE][peer] = active


@kernel(counted=False)
def _append(state: I64, link: I32, peer: int, head: int, tail: int, slab: int) -> None:
    """Put a slab at the end of one of a peer's queues."""
    if state[peer, head] < 0:
        state[peer, head] = slab
    else:
        link[state[peer, tail]] = np.int32(slab)
    state[peer, tail] = slab


@kernel(counted=False)
def _tell_one(peers: Peers, pool: Pool, peer: int, buffer: U8, offset: int, size: int, kind: int, now_us: int) -> int:
    """Queue one payload; 1, or 0 where it was refused and counted."""
    state, tally, words = peers[STATE], peers[TALLY], pool[WORDS]
    if peers[ACTIVE][peer] == 0:
        tally[_SEND_INACTIVE] += 1
        return 0
    needed = (size + _ITEM - 1) // _ITEM
    if kind == _RELIABLE:
        full = (
            state[peer, QUEUED_ITEMS] + needed > words[QUEUE_ITEMS_MAX]
            or state[peer, QUEUED_BYTES] + size > words[QUEUE_BYTES_MAX]
        )
        if full and state[peer, FULL_SINCE] == 0:
            state[peer, FULL_SINCE] = max(1, now_us)
    else:
        full = state[peer, PLAIN_COUNT] >= words[PLAIN_ITEMS_MAX]
    if full or slab_room(state, words, peer) < needed:
        tally[_QUEUE_FULL if full else _POOL_EMPTY] += 1
        return 0
    for part in range(needed):
        slab = slab_take(state, pool[LINK], words, peer)
        length = min(_ITEM, size - part * _ITEM)
        copy_to_slab(pool[SLABS], slab, buffer, offset + part * _ITEM, length)
        if kind == _RELIABLE:
            pool[INFO][slab] = np.int32(length | (MORE_SLAB if part + 1 < needed else 0))
            _append(state, pool[LINK], peer, WAIT_HEAD, WAIT_TAIL, slab)
        else:
            pool[INFO][slab] = np.int32(length | (SEQUENCED_SLAB if kind == _SEQUENCED else 0))
            _append(state, pool[LINK], peer, PLAIN_HEAD, PLAIN_TAIL, slab)
            state[peer, PLAIN_COUNT] += 1
    if kind == _RELIABLE:
        state[peer, WAIT_COUNT] += needed
        state[peer, QUEUED_ITEMS] += needed
        state[peer, QUEUED_BYTES] += size
        tally[_MESSAGES_OUT] += 1
    return 1


@kernel(f"({PEERS_TYPE}, {POOL_TYPE}, i4[::1], u1[::1], i8[::1], i4[::1], i8, i8)", counted=False)
def tell_batch(
    peers: Peers, pool: Pool, chosen: I32, buffer: U8, offsets: I64, lengths: I32, kind: int, now_us: int
) -> int:
    """Queue payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `chosen[i]`; returns how many were taken.

    What is out of range, for a peer that is not open, or for a full queue or pool is refused and counted.
    """
    taken = 0
    largest = _ITEM * _MESSAGE_ITEMS if kind == _RELIABLE else _ITEM
    for index in range(chosen.shape[0]):
        peer, offset, size = int(chosen[index]), int(offsets[index]), int(lengths[index])
        if size < 1 or size > largest or offset < 0 or offset > buffer.shape[0] - size:
            peers[TALLY][_SEND_WRONG_SIZE] += 1
        elif peer < 0 or peer >= peers[ACTIVE].shape[0]:
            peers[TALLY][_SEND_INACTIVE] += 1
        else:
            taken += _tell_one(peers, pool, peer, buffer, offset, size, kind, now_us)
    return taken
