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

Five arrays hold everything (`CORE_TYPE`), few and wide, because every array that a kernel takes costs compile time:
with an array per column, passed on in tuples, `receive_packets` took twice as long to compile.

    state     i8[n, STATE_WORDS]   one row a peer, by the names below: times are µs, what is measured is ns or bytes per
                                   second, sequences and item numbers are extended to 64 bits
    rings     u4[n, RING_WORDS]    packets sent, three words at sequence mod 256: time [µs]; bytes | status << 11 |
                                   ELICITING | CHUNK_CARRIED | first item << 16; a mask of items from the first on, or a
                                   chunk's reference + 1.
                                   The send window at item mod 64: slab of each item; its mark FREE, DUE, FLIGHT, DONE.
                                   What arrived and is not delivered, at item mod 128: slab + 1, or 0
    totals    i8[TOTALS]           `EndpointCount`, then the words of the pool and limits, named below
    links     i4[s, 2]             of each slab: bytes | MORE_SLAB | SEQUENCED_SLAB | SENT_SLAB (it went out at least
                                   once); the next in the free list or in a queue, -1 at the end
    slabs     u1[s, 1024]          content of what waits in either direction

Every peer can have one slab at any time; more come from the surplus, so that peers who take all they can get never
starve another.
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
    "CORE_TYPE",
    "COUNTS",
    "ITEMS_PER_MESSAGE_MAX",
    "ITEM_BYTES_MAX",
    "PACKET_BYTES_MAX",
    "PACKET_HEADER_BYTES",
    "PLAIN",
    "PLAIN_BYTES_MAX",
    "RECEIVE_RING",
    "RELIABLE",
    "RING_WORDS",
    "SENT_RING",
    "SEQUENCED",
    "STATE_WORDS",
    "TOTALS",
    "WINDOW_ITEMS",
    "Core",
    "EndpointCount",
    "copy_bytes",
    "copy_from_slab",
    "copy_to_slab",
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

Core = tuple[I64, U32, I64, I32, U8]  # all peers; helpers take one peer's rows of the first two, `own` and `ring`
CORE_TYPE = "Tuple((i8[:,::1], u4[:,::1], i8[::1], i4[:,::1], u1[:,::1]))"
INFO: Final = 0  # columns of links
LINK: Final = 1
MORE_SLAB, SEQUENCED_SLAB, SENT_SLAB, SLAB_BYTES_MASK = 1 << 16, 1 << 17, 1 << 18, (1 << 16) - 1

FREE, DUE, FLIGHT, DONE = 0, 1, 2, 3  # of items
LIVE, LOST, ACKED = 1, 2, 3  # of packets; 0: never sent
STATUS_SHIFT, STATUS_MASK, BYTES_MASK = 11, 3, (1 << 11) - 1
ELICITING, CHUNK_CARRIED, FIRST_SHIFT = 1 << 13, 1 << 14, 16


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


# fmt: off
(
    ACTIVE,
    NEXT_SEQ, FIRST_SEQ, OLDEST, LARGEST_ACKED, LAST_LOST,  # packets out: next, first ever, oldest not settled, …
    NEWEST_IN, MASK_IN, NEWEST_AT, PENDING, PENDING_AT,  # packets in: newest, the 32 before, its time; acks owed
    BACKOFF, PROGRESS_AT, IN_FLIGHT,  # probes since anything was acknowledged, and when that or the last probe was
    ITEM_BASE, ITEM_NEXT, ITEMS_DUE, ITEM_SENT_AT,  # reliable stream out: oldest not done, next, how many are due
    WAIT_HEAD, WAIT_TAIL, WAIT_COUNT, QUEUED_BYTES, QUEUED_ITEMS, FULL_SINCE,
    PLAIN_HEAD, PLAIN_TAIL, PLAIN_COUNT, NUMBER_OUT, NUMBER_IN,
    IN_NEXT, IN_MISSING, IN_HELD, GAP_SINCE, DEFERRED,  # reliable stream in: next to deliver, oldest not received, …
    HELD, CLOSE_BYTES, CLOSE_HEARD,
    SENT_BYTES, RECEIVED_BYTES, EPOCH_AT, EPOCH_OUT, EPOCH_IN, RATE_OUT, RATE_IN,
    RTT, RTT_VARIATION, RTT_LATEST, RTT_MINIMUM, MINIMUM_AT, MINIMUM_NOW, MINIMUM_BEFORE, JITTER, LOSS,
    BATCH_SEEN, GIVEN,  # the last batch that gave messages to the application, and how many of this peer
    ACK_OUT, SAVED, SAVED_FIRST,  # newest acknowledged to the peer; acknowledgements that wait to be sent: see below
) = range(58)
# fmt: on
SAVED_MAX = 4  # acknowledgements (newest | mask << 16) of packets that the next mask does not reach any more
STATE_WORDS = 57 + SAVED_MAX
LOSS_ONE = 1 << 30  # LOSS of a peer that gets nothing

SLAB_AT = 3 * SENT_RING
MARK_AT = SLAB_AT + WINDOW_ITEMS
ARRIVAL_AT = MARK_AT + WINDOW_ITEMS
RING_WORDS = ARRIVAL_AT + RECEIVE_RING

COUNTS = len(EndpointCount)
(
    POOL_HEAD,
    POOL_FREE,
    POOL_SURPLUS,
    POOL_DEFERRED,  # peers with messages that wait for room in the inbox
    EVENTS,  # how many rows of the list of events are in use
    QUEUE_BYTES_MAX,
    QUEUE_ITEMS_MAX,
    PLAIN_ITEMS_MAX,
    PEER_MESSAGES_MAX,
    BATCH,  # number of the batch that is being received
) = range(COUNTS, COUNTS + 10)
TOTALS = COUNTS + 10
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
def slab_room(own: I64, totals: I64) -> int:
    """How many slabs a peer could take now."""
    return int(totals[POOL_SURPLUS] + (1 if own[HELD] == 0 else 0))


@kernel(counted=False)
def slab_take(own: I64, totals: I64, links: I32) -> int:
    """Take a slab for a peer; `slab_room` must have said that there is one."""
    slab = int(totals[POOL_HEAD])
    totals[POOL_HEAD] = links[slab, LINK]
    totals[POOL_FREE] -= 1
    if own[HELD] > 0:
        totals[POOL_SURPLUS] -= 1
    own[HELD] += 1
    links[slab, LINK] = -1
    return slab


@kernel(counted=False)
def slab_give(own: I64, totals: I64, links: I32, slab: int) -> None:
    """Give a peer's slab back."""
    links[slab, LINK] = np.int32(totals[POOL_HEAD])
    totals[POOL_HEAD] = slab
    totals[POOL_FREE] += 1
    own[HELD] -= 1
    if own[HELD] > 0:
        totals[POOL_SURPLUS] += 1


@kernel(counted=False)
def _give_list(own: I64, totals: I64, links: I32, slab: int) -> None:
    """Give back a queue of slabs from its head on."""
    while slab >= 0:
        following = int(np.int64(links[slab, LINK]))
        slab_give(own, totals, links, slab)
        totals[_ABANDONED] += 1
        slab = following


@kernel(counted=False)
def _free_all(own: I64, ring: U32, totals: I64, links: I32) -> None:
    """Give back every slab of a peer; each held an item or a payload that was not delivered."""
    _give_list(own, totals, links, own[WAIT_HEAD])
    _give_list(own, totals, links, own[PLAIN_HEAD])
    for at in range(_WINDOW):
        mark = int(np.int64(ring[MARK_AT + at]))
        if mark in (DUE, FLIGHT):
            slab_give(own, totals, links, int(np.int64(ring[SLAB_AT + at])))
            totals[_ABANDONED] += 1
    for at in range(_RING):
        slab = int(np.int64(ring[ARRIVAL_AT + at])) - 1
        if slab >= 0:
            slab_give(own, totals, links, slab)
            totals[_ABANDONED] += 1


@kernel(f"({CORE_TYPE}, f8[:,::1], u1[::1], i4[::1], i8, i8)", counted=False)
def reset_peers(core: Core, control: F64, active: U8, chosen: I32, opened: int, now_us: int) -> None:
    """Make peers new, whatever they were: all their slabs become free, all numbers those of a connection's start."""
    state, rings, totals, links, _ = core
    for index in range(chosen.shape[0]):
        peer = int(np.int64(chosen[index]))
        own, ring = state[peer], rings[peer]
        if own[ACTIVE] != 0:
            _free_all(own, ring, totals, links)
        totals[POOL_DEFERRED] -= own[DEFERRED]
        for word in range(own.shape[0]):
            own[word] = 0
        for word in range(ring.shape[0]):
            ring[word] = 0
        for word in (LARGEST_ACKED, LAST_LOST, NEWEST_IN, WAIT_HEAD, WAIT_TAIL, PLAIN_HEAD, PLAIN_TAIL, NUMBER_IN):
            own[word] = -1
        own[EPOCH_AT], own[MINIMUM_AT], own[PROGRESS_AT] = now_us, now_us, now_us
        reset_peer(control, peer, now_us)
        own[ACTIVE] = opened
        active[peer] = opened


@kernel(counted=False)
def _append(own: I64, links: I32, head: int, slab: int) -> None:
    """Put a slab at the end of one of a peer's queues, whose tail stands behind its head."""
    if own[head] < 0:
        own[head] = slab
    else:
        links[own[head + 1], LINK] = np.int32(slab)
    own[head + 1] = slab


@kernel(counted=False)
def _refused(own: I64, totals: I64, size: int, kind: int, now_us: int) -> int:
    """Why a payload cannot be queued, or -1."""
    if own[ACTIVE] == 0:
        return _SEND_INACTIVE
    needed = (size + _ITEM - 1) // _ITEM
    if kind == _RELIABLE:
        if own[QUEUED_ITEMS] + needed > totals[QUEUE_ITEMS_MAX] or own[QUEUED_BYTES] + size > totals[QUEUE_BYTES_MAX]:
            if own[FULL_SINCE] == 0:
                own[FULL_SINCE] = max(1, now_us)
            return _QUEUE_FULL
    elif own[PLAIN_COUNT] >= totals[PLAIN_ITEMS_MAX]:
        return _QUEUE_FULL
    return _POOL_EMPTY if slab_room(own, totals) < needed else -1


@kernel(counted=False)
def _tell_one(own: I64, totals: I64, links: I32, slabs: U8, buffer: U8, offset: int, size: int, kind: int) -> None:
    """Queue one payload, for which there is room."""
    reliable = kind == _RELIABLE
    for start in range(0, size, _ITEM):
        slab = slab_take(own, totals, links)
        length = min(_ITEM, size - start)
        copy_to_slab(slabs, slab, buffer, offset + start, length)
        flags = SEQUENCED_SLAB if kind == _SEQUENCED else 0
        if reliable and start + length < size:
            flags = MORE_SLAB
        links[slab, INFO] = np.int32(length | flags)
        _append(own, links, WAIT_HEAD if reliable else PLAIN_HEAD, slab)
        own[WAIT_COUNT if reliable else PLAIN_COUNT] += 1
        own[QUEUED_ITEMS] += 1 if reliable else 0
    if reliable:
        own[QUEUED_BYTES] += size
        totals[_MESSAGES_OUT] += 1


@kernel(f"({CORE_TYPE}, i4[::1], u1[::1], i8[::1], i4[::1], i8, i8)", counted=False)
def tell_batch(core: Core, chosen: I32, buffer: U8, offsets: I64, lengths: I32, kind: int, now_us: int) -> int:
    """Queue payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `chosen[i]`; returns how many were taken.

    What is out of range, for a peer that is not open, or for a full queue or pool is refused and counted.
    """
    state, _, totals, links, slabs = core
    taken = 0
    largest = _ITEM * _MESSAGE_ITEMS if kind == _RELIABLE else _ITEM
    for index in range(chosen.shape[0]):
        peer, offset, size = int(np.int64(chosen[index])), int(offsets[index]), int(np.int64(lengths[index]))
        if size < 1 or size > largest or offset < 0 or offset > buffer.shape[0] - size:
            reason = _SEND_WRONG_SIZE
        elif peer < 0 or peer >= state.shape[0]:
            reason = _SEND_INACTIVE
        else:
            reason = _refused(state[peer], totals, size, kind, now_us)
        if reason >= 0:
            totals[reason] += 1
        else:
            _tell_one(state[peer], totals, links, slabs, buffer, offset, size, kind)
            taken += 1
    return taken
