"""Packets in: checked whole, acknowledged, and sorted into payloads, reliable messages, chunks and closings.

A packet has an effect only once all of it is known to be well formed, new, and storable; otherwise it is counted by
reason, dropped and not acknowledged, so that its sender repeats what it must. Unreliable payloads are not copied: they
are named by their place in the arena they arrived in. An item that is a whole message and comes in order is copied
straight into the inbox; others wait in slabs.
"""

from typing import Final

import numpy as np

from net.blocks_kernels import BLOCKS_TYPE, BlockArrays, chunk_fits, take_chunk
from net.endpoint_acks_kernels import take_ack
from net.endpoint_kernels import (
    ACTIVE,
    ARRIVALS,
    CHUNK,
    CLOSE,
    CLOSE_HEARD,
    CLOSE_TEXT_BYTES_MAX,
    DEFERRED,
    EPOCH_IN,
    GAP_SINCE,
    IN_HELD,
    IN_MISSING,
    IN_NEXT,
    INFO,
    ITEM_BYTES_MAX,
    ITEMS_PER_MESSAGE_MAX,
    LINK,
    MASK_IN,
    MORE_SLAB,
    NEWEST_AT,
    NEWEST_IN,
    NUMBER_IN,
    PACKET_HEADER_BYTES,
    PEERS_TYPE,
    PENDING,
    PENDING_AT,
    PLAIN,
    POOL_DEFERRED,
    POOL_TYPE,
    RECEIVE_RING,
    RECEIVED_BYTES,
    RELIABLE,
    SEQUENCED,
    SLAB_BYTES_MASK,
    SLABS,
    STATE,
    TALLY,
    WINDOW_ITEMS,
    WORDS,
    EndpointCount,
    Peers,
    Pool,
    copy_bytes,
    copy_from_slab,
    copy_to_slab,
    get_u16,
    slab_give,
    slab_room,
    slab_take,
)
from sim.arrays import F64, I32, I64, U8
from sim.jit import kernel

__all__ = ["CLOSES_PER_BATCH", "PLACES_TYPE", "RECEIVED_TYPE", "Places", "Received", "receive_packets"]

# Where payloads are: buffer, client, offset, length, received [ns].
Places = tuple[U8, I32, I64, I32, I64]
PLACES_TYPE = "Tuple((u1[::1], i4[::1], i8[::1], i4[::1], i8[::1]))"
BUFFER: Final = 0
CLIENT: Final = 1
OFFSET: Final = 2
LENGTH: Final = 3
AT_NS: Final = 4

# What a batch gave: payloads, messages, closings (peer, code, offset, length), and how many of each; then inbox bytes.
Received = tuple[Places, Places, I64, I64]
RECEIVED_TYPE = f"Tuple(({PLACES_TYPE}, {PLACES_TYPE}, i8[:,::1], i8[::1]))"
PAYLOADS: Final = 0
MESSAGES: Final = 1
CLOSES: Final = 2
MADE: Final = 3
PAYLOAD_COUNT, MESSAGE_COUNT, CLOSE_COUNT, INBOX_BYTES = range(4)
CLOSES_PER_BATCH = 64

_HEADER, _ITEM, _WINDOW, _RING = PACKET_HEADER_BYTES, ITEM_BYTES_MAX, WINDOW_ITEMS, RECEIVE_RING
_MESSAGE_ITEMS, _TEXT_MAX = ITEMS_PER_MESSAGE_MAX, CLOSE_TEXT_BYTES_MAX
_PLAIN, _SEQUENCED, _RELIABLE, _CHUNK, _CLOSE = PLAIN, SEQUENCED, RELIABLE, CHUNK, CLOSE
_MORE, _LAST, _RESERVED = 16, 128, 96
_ACK_REACH = 32
_LOW_32 = 0xFFFFFFFF
_PACKETS_IN, _BYTES_IN = int(EndpointCount.PACKETS_IN), int(EndpointCount.BYTES_IN)
_MESSAGES_IN, _ITEMS_IN = int(EndpointCount.MESSAGES_IN), int(EndpointCount.ITEMS_IN)
_ITEMS_DUPLICATE, _MALFORMED = int(EndpointCount.ITEMS_DUPLICATE), int(EndpointCount.MALFORMED)
_INACTIVE, _DUPLICATE = int(EndpointCount.INACTIVE), int(EndpointCount.DUPLICATE)
_OLD, _BEYOND_WINDOW = int(EndpointCount.OLD), int(EndpointCount.BEYOND_WINDOW)
_NO_ROOM, _STALE = int(EndpointCount.NO_ROOM), int(EndpointCount.STALE)
_TOO_LONG, _DEFERRED = int(EndpointCount.TOO_LONG), int(EndpointCount.DEFERRED)
_CLOSES_IN, _CLOSES_DROPPED = int(EndpointCount.CLOSES_IN), int(EndpointCount.CLOSES_DROPPED)


@kernel(counted=False)
def read_section(data: U8, at: int, end: int) -> tuple[int, int, int, int, int]:
    """Read the head of a section: (kind, or -1 where it is malformed; MORE; number; where its content is; its bytes).

    The number is that of a sequenced payload or item, block | index << 16 of a chunk, or a closing's code.
    """
    head = int(np.int64(data[at]))
    kind, more = head & 15, head & _MORE
    fixed = 3
    if kind == _PLAIN:
        fixed = 1
    elif kind == _CHUNK:
        fixed = 5
    elif kind == _CLOSE:
        fixed = 2
    start = at + fixed + (0 if head & _LAST else 2)
    if kind < _PLAIN or kind > _CLOSE or head & _RESERVED or (more and kind != _RELIABLE) or start > end:
        return -1, 0, 0, 0, 0
    number = 0
    if kind == _CLOSE:
        number = int(np.int64(data[at + 1]))
    elif kind == _CHUNK:
        number = get_u16(data, at + 1) | get_u16(data, at + 3) << 16
    elif kind != _PLAIN:
        number = get_u16(data, at + 1)
    size = end - start if head & _LAST else get_u16(data, start - 2)
    largest = _TEXT_MAX if kind == _CLOSE else (end - start if kind < _RELIABLE else _ITEM)
    if size > largest or size > end - start or (size == 0 and kind != _CLOSE):
        return -1, 0, 0, 0, 0
    return kind, more, number, start, size


@kernel(counted=False)
def _check(
    peers: Peers, received: Received, blocks: BlockArrays, peer: int, data: U8, at: int, end: int
) -> tuple[int, int, int, int]:
    """Go over all sections without an effect: (a reason or -1; payloads; slabs needed at most; chunks)."""
    state, arrivals, made = peers[STATE], peers[ARRIVALS], received[MADE]
    payloads, slabs, chunks, reason = 0, 0, 0, -1
    missing, following = int(state[peer, IN_MISSING]), int(state[peer, IN_NEXT])
    direct = following  # the item that could go straight into the inbox
    entries = received[MESSAGES][CLIENT].shape[0] - int(made[MESSAGE_COUNT])
    room = received[MESSAGES][BUFFER].shape[0] - int(made[INBOX_BYTES])
    while at < end:
        kind, more, number, start, size = read_section(data, at, end)
        if kind < 0:
            return _MALFORMED, 0, 0, 0
        if kind <= _SEQUENCED:
            payloads += 1
        elif kind == _RELIABLE:
            ahead = (number - missing) & 0xFFFF
            item = missing + ahead
            if ahead < _WINDOW and item - following >= _RING:
                reason = max(reason, _NO_ROOM)
            elif ahead < _WINDOW and arrivals[peer, item & (_RING - 1)] == 0:
                if item == direct and more == 0 and entries > 0 and room >= size:
                    direct, entries, room = direct + 1, entries - 1, room - size
                else:
                    direct, slabs = -1, slabs + 1
            elif ahead < 0x8000:
                reason, direct = (reason if ahead < _WINDOW else _BEYOND_WINDOW), -1
        elif kind == _CHUNK:
            chunks += 1
            if not chunk_fits(blocks, peer, number & 0xFFFF, number >> 16, size):
                return _MALFORMED, 0, 0, 0
        at = start + size
    return reason, payloads, slabs, chunks


@kernel(counted=False)
def _take_chunks(blocks: BlockArrays, peer: int, data: U8, at: int, end: int) -> bool:
    """Store all chunks of a packet; False where one cannot be stored."""
    while at < end:
        kind, _, number, start, size = read_section(data, at, end)
        if kind == _CHUNK and not take_chunk(blocks, peer, number & 0xFFFF, number >> 16, data, start, size):
            return False
        at = start + size
    return True


@kernel(counted=False)
def _note_arrival(state: I64, peer: int, sequence: int, at_us: int) -> None:
    """Put a packet that `_is_known` let pass into what is acknowledged."""
    newest = int(state[peer, NEWEST_IN])
    ahead = (sequence - newest) & 0xFFFF
    if newest >= 0 and ahead >= 0x8000:
        state[peer, MASK_IN] |= 1 << (0x10000 - ahead - 1)
        return
    mask = 0
    if newest >= 0 and ahead <= _ACK_REACH:
        mask = (int(state[peer, MASK_IN]) << ahead | 1 << (ahead - 1)) & _LOW_32
    state[peer, NEWEST_IN], state[peer, MASK_IN], state[peer, NEWEST_AT] = sequence, mask, at_us


@kernel(counted=False)
def _is_known(state: I64, peer: int, sequence: int) -> int:
    """Why a packet's sequence keeps it from being taken, or -1; changes nothing."""
    newest = int(state[peer, NEWEST_IN])
    ahead = (sequence - newest) & 0xFFFF
    if newest < 0 or 0 < ahead < 0x8000:
        return -1
    bit = (0x10000 - ahead & 0xFFFF) - 1
    if bit >= _ACK_REACH:
        return _OLD
    return _DUPLICATE if bit < 0 or int(state[peer, MASK_IN]) >> bit & 1 else -1


@kernel(counted=False)
def _add(places: Places, at: int, peer: int, offset: int, size: int, at_ns: int) -> None:
    """Note where a payload or a message is."""
    places[CLIENT][at] = np.int32(peer)
    places[OFFSET][at] = offset
    places[LENGTH][at] = np.int32(size)
    places[AT_NS][at] = at_ns


@kernel(counted=False)
def _inbox_takes(received: Received, size: int) -> bool:
    """Whether a message of `size` bytes fits into the inbox now."""
    made, messages = received[MADE], received[MESSAGES]
    return bool(
        made[MESSAGE_COUNT] < messages[CLIENT].shape[0] and made[INBOX_BYTES] + size <= messages[BUFFER].shape[0]
    )


@kernel(counted=False)
def _whole_message(peers: Peers, pool: Pool, peer: int) -> tuple[int, int]:
    """Items and bytes of the next message where all of it is there; items 0 where not, -1 where it is too long."""
    arrivals, item, size = peers[ARRIVALS], int(peers[STATE][peer, IN_NEXT]), 0
    for count in range(1, _MESSAGE_ITEMS + 1):
        slab = int(arrivals[peer, item & (_RING - 1)]) - 1
        if slab < 0:
            return 0, 0
        info = int(pool[INFO][slab])
        size += info & SLAB_BYTES_MASK
        if info & MORE_SLAB == 0:
            return count, size
        item += 1
    return -1, 0


@kernel(counted=False)
def _deliver(peers: Peers, pool: Pool, received: Received, peer: int, at_ns: int) -> None:
    """Move all whole messages that are next into the inbox; what finds no room there is deferred to the next batch."""
    state, arrivals, made = peers[STATE], peers[ARRIVALS], received[MADE]
    deferred = 0
    while state[peer, IN_HELD] > 0:
        items, size = _whole_message(peers, pool, peer)
        if items == 0:
            break
        if items > 0 and not _inbox_takes(received, size):
            deferred = 1
            break
        start = int(made[INBOX_BYTES])
        at = start
        for _ in range(_MESSAGE_ITEMS if items < 0 else items):
            place = int(state[peer, IN_NEXT]) & (_RING - 1)
            slab = int(arrivals[peer, place]) - 1
            length = int(pool[INFO][slab]) & SLAB_BYTES_MASK
            if items > 0:
                copy_from_slab(received[MESSAGES][BUFFER], at, pool[SLABS], slab, length)
                at += length
            slab_give(state, pool[LINK], pool[WORDS], peer, slab)
            arrivals[peer, place] = 0
            state[peer, IN_NEXT] += 1
            state[peer, IN_HELD] -= 1
        if items < 0:
            peers[TALLY][_TOO_LONG] += 1
            continue
        _add(received[MESSAGES], int(made[MESSAGE_COUNT]), peer, start, size, at_ns)
        made[MESSAGE_COUNT] += 1
        made[INBOX_BYTES] = at
        peers[TALLY][_MESSAGES_IN] += 1
    peers[TALLY][_DEFERRED] += 1 if deferred and state[peer, DEFERRED] == 0 else 0
    pool[WORDS][POOL_DEFERRED] += deferred - state[peer, DEFERRED]
    state[peer, DEFERRED] = deferred


@kernel(counted=False)
def _take_item(
    peers: Peers,
    pool: Pool,
    received: Received,
    peer: int,
    data: U8,
    number: int,
    more: int,
    start: int,
    size: int,
    at_ns: int,
) -> None:
    """One item of the reliable stream, for which there is room."""
    state, arrivals, tally, made = peers[STATE], peers[ARRIVALS], peers[TALLY], received[MADE]
    missing, following = int(state[peer, IN_MISSING]), int(state[peer, IN_NEXT])
    ahead = (number - missing) & 0xFFFF
    item = missing + ahead
    place = item & (_RING - 1)
    if ahead >= _WINDOW or arrivals[peer, place] != 0:
        tally[_ITEMS_DUPLICATE] += 1
        return
    tally[_ITEMS_IN] += 1
    if item == following and more == 0 and _inbox_takes(received, size):
        at = int(made[INBOX_BYTES])
        copy_bytes(received[MESSAGES][BUFFER], at, data, start, size)
        _add(received[MESSAGES], int(made[MESSAGE_COUNT]), peer, at, size, at_ns)
        made[MESSAGE_COUNT] += 1
        made[INBOX_BYTES] += size
        tally[_MESSAGES_IN] += 1
        state[peer, IN_NEXT] += 1
    else:
        slab = slab_take(state, pool[LINK], pool[WORDS], peer)
        copy_to_slab(pool[SLABS], slab, data, start, size)
        pool[INFO][slab] = np.int32(size | (MORE_SLAB if more else 0))
        arrivals[peer, place] = np.int32(slab + 1)
        state[peer, IN_HELD] += 1
    if item == missing:
        missing += 1
        while arrivals[peer, missing & (_RING - 1)] != 0 and missing - int(state[peer, IN_NEXT]) < _RING:
            missing += 1
        state[peer, IN_MISSING] = missing
        state[peer, GAP_SINCE] = 0
        _deliver(peers, pool, received, peer, at_ns)
    if state[peer, IN_HELD] > 0 and state[peer, GAP_SINCE] == 0:
        state[peer, GAP_SINCE] = max(1, at_ns // 1000)


@kernel(counted=False)
def _take_close(peers: Peers, received: Received, peer: int, code: int, start: int, size: int) -> None:
    """The first word that a peer ends the connection; its repeats say nothing new."""
    state, tally, made, closes = peers[STATE], peers[TALLY], received[MADE], received[CLOSES]
    if state[peer, CLOSE_HEARD] != 0:
        return
    at = int(made[CLOSE_COUNT])
    if at == closes.shape[0]:
        tally[_CLOSES_DROPPED] += 1
        return
    closes[at, 0], closes[at, 1], closes[at, 2], closes[at, 3] = peer, code, start, size
    made[CLOSE_COUNT] += 1
    state[peer, CLOSE_HEARD] = 1
    tally[_CLOSES_IN] += 1


@kernel(counted=False)
def _take_sections(
    peers: Peers, pool: Pool, received: Received, peer: int, data: U8, at: int, end: int, at_ns: int
) -> None:
    """Apply all sections of a packet that is well formed and has room; its chunks are stored already."""
    state, made = peers[STATE], received[MADE]
    while at < end:
        kind, more, number, start, size = read_section(data, at, end)
        if kind == _SEQUENCED:
            newest = int(state[peer, NUMBER_IN])
            if newest >= 0 and not 0 < (number - newest) & 0xFFFF < 0x8000:
                peers[TALLY][_STALE] += 1
            else:
                state[peer, NUMBER_IN] = number
                kind = _PLAIN
        if kind == _PLAIN:
            _add(received[PAYLOADS], int(made[PAYLOAD_COUNT]), peer, start, size, at_ns)
            made[PAYLOAD_COUNT] += 1
        elif kind == _RELIABLE:
            _take_item(peers, pool, received, peer, data, number, more, start, size, at_ns)
        elif kind == _CLOSE:
            _take_close(peers, received, peer, number, start, size)
        at = start + size


@kernel(counted=False)
def _take_packet(
    peers: Peers,
    pool: Pool,
    blocks: BlockArrays,
    control: F64,
    received: Received,
    peer: int,
    data: U8,
    offset: int,
    size: int,
    at_ns: int,
    now_us: int,
) -> int:
    """Take one packet; -1, or the reason why it was dropped."""
    state, made = peers[STATE], received[MADE]
    if size < _HEADER or offset < 0 or offset > data.shape[0] - size:
        return _MALFORMED
    start, end = offset + _HEADER, offset + size
    reason, payloads, slabs, chunks = _check(peers, received, blocks, peer, data, start, end)
    if reason == _MALFORMED:
        return reason
    sequence = get_u16(data, offset)
    known = _is_known(state, peer, sequence)
    if known >= 0 or reason >= 0:
        return known if known >= 0 else reason
    if payloads > received[PAYLOADS][CLIENT].shape[0] - made[PAYLOAD_COUNT] or (
        slabs > 0 and slabs > slab_room(state, pool[WORDS], peer)
    ):
        return _NO_ROOM
    if chunks > 0 and not _take_chunks(blocks, peer, data, start, end):
        return _NO_ROOM
    _note_arrival(state, peer, sequence, at_ns // 1000)
    if start < end:
        if state[peer, PENDING] == 0:
            state[peer, PENDING_AT] = now_us
        state[peer, PENDING] += 1
    mask = get_u16(data, offset + 4) | get_u16(data, offset + 6) << 16
    delay = int(np.int64(data[offset + 8]))
    take_ack(peers, pool, blocks, control, peer, get_u16(data, offset + 2), mask, delay, at_ns // 1000, now_us)
    state[peer, RECEIVED_BYTES] += size
    state[peer, EPOCH_IN] += size
    peers[TALLY][_PACKETS_IN] += 1
    peers[TALLY][_BYTES_IN] += size
    _take_sections(peers, pool, received, peer, data, start, end, at_ns)
    return -1


@kernel(f"({PEERS_TYPE}, {POOL_TYPE}, {BLOCKS_TYPE}, f8[:,::1], {PLACES_TYPE}, i8, i8, {RECEIVED_TYPE})", counted=False)
def receive_packets(
    peers: Peers,
    pool: Pool,
    blocks: BlockArrays,
    control: F64,
    packets: Places,
    count: int,
    now_us: int,
    received: Received,
) -> None:
    """Take the first `count` packets in order, after what found no room in the inbox before them.

    Args:
        peers: Columns, as in `net.endpoint_kernels`, like `pool`; `control` are those of `net.congestion_kernels`.
        packets: Where the packets are.
        now_us: The present [µs].
        received: Output: payloads, messages, closings, and how many of each.
    """
    received[MADE][:] = 0
    tally, active = peers[TALLY], peers[ACTIVE]
    if pool[WORDS][POOL_DEFERRED] > 0:
        for peer in range(active.shape[0]):
            if peers[STATE][peer, DEFERRED] != 0:
                _deliver(peers, pool, received, peer, now_us * 1000)
    for index in range(count):
        peer = int(packets[CLIENT][index])
        if peer < 0 or peer >= active.shape[0] or active[peer] == 0:
            tally[_INACTIVE] += 1
            continue
        reason = _take_packet(
            peers, pool, blocks, control, received, peer, packets[BUFFER], int(packets[OFFSET][index]),
            int(packets[LENGTH][index]), int(packets[AT_NS][index]), now_us,
        )  # fmt: skip
        if reason >= 0:
            tally[reason] += 1
