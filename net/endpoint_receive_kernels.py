"""Packets in: checked whole, acknowledged, and sorted into payloads, reliable messages, chunks and closings.

A packet has an effect only once all of it is known to be well formed, new, and storable; otherwise it is counted by
reason, dropped and not acknowledged, so that its sender repeats what it must. Unreliable payloads are not copied: they
are named by their place in the arena they arrived in. An item that is a whole message and comes in order is copied
straight into the inbox; others wait in slabs.
"""

from typing import Final

import numpy as np

from net.blocks_kernels import BLOCKS_TYPE, BlockArrays, chunk_fits, take_chunk
from net.endpoint_acks_kernels import EVENTS_PER_PACKET, take_ack
from net.endpoint_kernels import (
    ACK_OUT,
    ACTIVE,
    ARRIVAL_AT,
    BATCH,
    BATCH_SEEN,
    CHUNK,
    CLOSE,
    CLOSE_HEARD,
    CLOSE_TEXT_BYTES_MAX,
    CORE_TYPE,
    DEFERRED,
    EPOCH_IN,
    EVENTS,
    GAP_SINCE,
    GIVEN,
    IN_HELD,
    IN_MISSING,
    IN_NEXT,
    INFO,
    ITEM_BYTES_MAX,
    ITEMS_PER_MESSAGE_MAX,
    MASK_IN,
    MORE_SLAB,
    NEWEST_AT,
    NEWEST_IN,
    NUMBER_IN,
    PACKET_HEADER_BYTES,
    PEER_MESSAGES_MAX,
    PENDING,
    PENDING_AT,
    PLAIN,
    POOL_DEFERRED,
    RECEIVE_RING,
    RECEIVED_BYTES,
    RELIABLE,
    SAVED,
    SAVED_FIRST,
    SAVED_MAX,
    SEQUENCED,
    SLAB_BYTES_MASK,
    WINDOW_ITEMS,
    Core,
    EndpointCount,
    copy_bytes,
    copy_from_slab,
    copy_to_slab,
    get_u16,
    slab_give,
    slab_room,
    slab_take,
)
from sim.arrays import I32, I64, U8, U32
from sim.jit import kernel

__all__ = [
    "CLOSES_PER_BATCH",
    "MADE_WORDS",
    "NOTE_WORDS",
    "PLACES_TYPE",
    "READY_TYPE",
    "Places",
    "Ready",
    "receive_packets",
]

# Where payloads are: client, offset, length, received [ns].
Places = tuple[I32, I64, I32, I64]
PLACES_TYPE = "Tuple((i4[::1], i8[::1], i4[::1], i8[::1]))"
CLIENT: Final = 0
OFFSET: Final = 1
LENGTH: Final = 2
AT_NS: Final = 3

# What is ready for the application: the inbox, its messages and closings (peer, offset, length, received [ns] or code),
# and how much there is of all.
Ready = tuple[U8, I64, I64, I64]
READY_TYPE = "Tuple((u1[::1], i8[:,::1], i8[:,::1], i8[::1]))"
INBOX: Final = 0
MESSAGES: Final = 1
CLOSES: Final = 2
MADE: Final = 3
NOTE_WORDS = 4
PAYLOAD_COUNT, MESSAGE_COUNT, CLOSE_COUNT, INBOX_BYTES = range(4)
MADE_WORDS = 4
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
def _check(own: I64, ring: U32, data: U8, at: int, end: int, entries: int, room: int) -> tuple[int, int, int, int]:
    """Go over all sections without an effect: (a reason or -1; payloads; slabs needed at most; chunks).

    Args:
        at: Where the sections begin; `end` where the packet ends.
        entries: Messages that the inbox still takes; `room` its bytes.
    """
    payloads, slabs, chunks, reason = 0, 0, 0, -1
    missing, following = own[IN_MISSING], own[IN_NEXT]
    direct = following  # the item that could go straight into the inbox
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
            elif ahead < _WINDOW and ring[ARRIVAL_AT + (item & (_RING - 1))] == 0:
                if item == direct and more == 0 and entries > 0 and room >= size:
                    direct, entries, room = direct + 1, entries - 1, room - size
                else:
                    direct, slabs = -1, slabs + 1
            elif _WINDOW <= ahead < 0x8000:
                reason = _BEYOND_WINDOW
        elif kind == _CHUNK:
            chunks += 1
        at = start + size
    return reason, payloads, slabs, chunks


@kernel(counted=False)
def _take_chunks(blocks: BlockArrays, peer: int, data: U8, begin: int, end: int) -> int:
    """Store the chunks of a packet that has some; -1, or why it is dropped: then none was stored unless room ended."""
    at = begin
    while at < end:
        kind, _, number, start, size = read_section(data, at, end)
        if kind == _CHUNK and not chunk_fits(blocks, peer, number & 0xFFFF, number >> 16, size):
            return _MALFORMED
        at = start + size
    at = begin
    while at < end:
        kind, _, number, start, size = read_section(data, at, end)
        if kind == _CHUNK and not take_chunk(blocks, peer, number & 0xFFFF, number >> 16, data, start, size):
            return _NO_ROOM
        at = start + size
    return -1


@kernel(counted=False, merge=True)
def _note_arrival(own: I64, sequence: int, size: int, at_us: int, now_us: int) -> None:
    """Put a packet that `_is_known` let pass into what is acknowledged."""
    own[RECEIVED_BYTES] += size
    own[EPOCH_IN] += size
    if size > _HEADER:
        if own[PENDING] == 0:
            own[PENDING_AT] = now_us
        own[PENDING] += 1
    newest = own[NEWEST_IN]
    ahead = (sequence - newest) & 0xFFFF
    if newest >= 0 and ahead >= 0x8000:
        own[MASK_IN] |= 1 << (0x10000 - ahead - 1)
        return
    if newest < 0:
        own[ACK_OUT] = sequence - 1
    elif (sequence - own[ACK_OUT]) & 0xFFFF > _ACK_REACH + 1 and own[SAVED] < SAVED_MAX:
        # Many packets between two of ours, as with blocks: the mask would lose sight of some. Their acknowledgement is
        # kept as it stands, to go in a packet of its own.
        own[SAVED_FIRST + own[SAVED]] = newest | own[MASK_IN] << 16
        own[SAVED] += 1
        own[ACK_OUT] = newest
    mask = 0
    if newest >= 0 and ahead <= _ACK_REACH:
        mask = (own[MASK_IN] << ahead | 1 << (ahead - 1)) & _LOW_32
    own[NEWEST_IN], own[MASK_IN], own[NEWEST_AT] = sequence, mask, at_us


@kernel(counted=False, merge=True)
def _is_known(own: I64, sequence: int) -> int:
    """Why a packet's sequence keeps it from being taken, or -1."""
    newest = own[NEWEST_IN]
    ahead = (sequence - newest) & 0xFFFF
    if newest < 0 or 0 < ahead < 0x8000:
        return -1
    bit = (0x10000 - ahead & 0xFFFF) - 1
    if bit >= _ACK_REACH:
        return _OLD
    return _DUPLICATE if bit < 0 or own[MASK_IN] >> bit & 1 else -1


@kernel(counted=False)
def _note_message(own: I64, totals: I64, ready: Ready, peer: int, size: int, at_ns: int) -> None:
    """List a message whose bytes have just been put at the end of the inbox."""
    own[GIVEN] = own[GIVEN] + 1 if own[BATCH_SEEN] == totals[BATCH] else 1
    own[BATCH_SEEN] = totals[BATCH]
    _, messages, _, made = ready
    at = int(made[MESSAGE_COUNT])
    messages[at, 0], messages[at, 1], messages[at, 2], messages[at, 3] = peer, made[INBOX_BYTES], size, at_ns
    made[MESSAGE_COUNT] = at + 1
    made[INBOX_BYTES] += size
    totals[_MESSAGES_IN] += 1


@kernel(counted=False)
def _entries(own: I64, totals: I64, ready: Ready) -> int:
    """How many messages the inbox still takes from a peer in this batch."""
    given = own[GIVEN] if own[BATCH_SEEN] == totals[BATCH] else 0
    return int(min(totals[PEER_MESSAGES_MAX] - given, ready[MESSAGES].shape[0] - ready[MADE][MESSAGE_COUNT]))


@kernel(counted=False)
def _inbox_takes(own: I64, totals: I64, ready: Ready, size: int) -> bool:
    """Whether a message of `size` bytes of a peer goes into the inbox now."""
    return bool(_entries(own, totals, ready) > 0 and ready[MADE][INBOX_BYTES] + size <= ready[INBOX].shape[0])


@kernel(counted=False)
def _whole_message(own: I64, ring: U32, links: I32) -> tuple[int, int]:
    """Items and bytes of the next message where all of it is there; items 0 where not, -1 where it is too long."""
    item, size = own[IN_NEXT], 0
    for count in range(1, _MESSAGE_ITEMS + 1):
        slab = int(np.int64(ring[ARRIVAL_AT + (item & (_RING - 1))])) - 1
        if slab < 0:
            return 0, 0
        info = int(np.int64(links[slab, INFO]))
        size += info & SLAB_BYTES_MASK
        if info & MORE_SLAB == 0:
            return count, size
        item += 1
    return -1, 0


@kernel(counted=False)
def _deliver(own: I64, ring: U32, totals: I64, links: I32, slabs: U8, ready: Ready, peer: int, at_ns: int) -> None:
    """Move all whole messages that are next into the inbox; what finds no room there is deferred to the next batch."""
    deferred = 0
    while own[IN_HELD] > 0:
        items, size = _whole_message(own, ring, links)
        if items == 0:
            break
        if items > 0 and not _inbox_takes(own, totals, ready, size):
            deferred = 1
            break
        at = int(ready[MADE][INBOX_BYTES])
        for _ in range(_MESSAGE_ITEMS if items < 0 else items):
            place = ARRIVAL_AT + (own[IN_NEXT] & (_RING - 1))
            slab = int(np.int64(ring[place])) - 1
            length = int(np.int64(links[slab, INFO])) & SLAB_BYTES_MASK
            if items > 0:
                copy_from_slab(ready[INBOX], at, slabs, slab, length)
                at += length
            slab_give(own, totals, links, slab)
            ring[place] = 0
            own[IN_NEXT] += 1
            own[IN_HELD] -= 1
        if items < 0:
            totals[_TOO_LONG] += 1
        else:
            _note_message(own, totals, ready, peer, size, at_ns)
    totals[_DEFERRED] += 1 if deferred and own[DEFERRED] == 0 else 0
    totals[POOL_DEFERRED] += deferred - own[DEFERRED]
    own[DEFERRED] = deferred


@kernel(counted=False)
def _take_item(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    slabs: U8,
    ready: Ready,
    peer: int,
    data: U8,
    number: int,
    start: int,
    size: int,
    at_ns: int,
) -> None:
    """One item of the reliable stream, for which there is room; its number with MORE in bit 16."""
    more = number >> 16
    missing = own[IN_MISSING]
    ahead = (number - missing) & 0xFFFF
    item = missing + ahead
    place = ARRIVAL_AT + (item & (_RING - 1))
    if ahead >= _WINDOW or ring[place] != 0:
        totals[_ITEMS_DUPLICATE] += 1
        return
    totals[_ITEMS_IN] += 1
    if item == own[IN_NEXT] and more == 0 and _inbox_takes(own, totals, ready, size):
        copy_bytes(ready[INBOX], int(ready[MADE][INBOX_BYTES]), data, start, size)
        _note_message(own, totals, ready, peer, size, at_ns)
        own[IN_NEXT] += 1
    else:
        slab = slab_take(own, totals, links)
        copy_to_slab(slabs, slab, data, start, size)
        links[slab, INFO] = np.int32(size | (MORE_SLAB if more else 0))
        ring[place] = np.uint32(slab + 1)
        own[IN_HELD] += 1
    if item == missing:
        missing, last = missing + 1, own[IN_NEXT] + _RING
        while missing < last and ring[ARRIVAL_AT + (missing & (_RING - 1))] != 0:
            missing += 1
        own[IN_MISSING], own[GAP_SINCE] = missing, 0
        if own[IN_HELD] > 0:
            _deliver(own, ring, totals, links, slabs, ready, peer, at_ns)
    if own[IN_HELD] > 0 and own[GAP_SINCE] == 0:
        own[GAP_SINCE] = max(1, at_ns // 1000)


@kernel(counted=False)
def _take_close(own: I64, totals: I64, ready: Ready, peer: int, code: int, start: int, size: int) -> None:
    """The first word that a peer ends the connection; its repeats say nothing new."""
    _, _, closes, made = ready
    if own[CLOSE_HEARD] != 0:
        return
    at = int(made[CLOSE_COUNT])
    if at == closes.shape[0]:
        totals[_CLOSES_DROPPED] += 1
        return
    closes[at, 0], closes[at, 1], closes[at, 2], closes[at, 3] = peer, start, size, code
    made[CLOSE_COUNT] += 1
    own[CLOSE_HEARD] = 1
    totals[_CLOSES_IN] += 1


@kernel(counted=False, merge=True)
def _add_payload(payloads: Places, made: I64, peer: int, start: int, size: int, at_ns: int) -> None:
    """List an unreliable payload, for which there is room."""
    row = int(made[PAYLOAD_COUNT])
    payloads[CLIENT][row], payloads[OFFSET][row] = np.int32(peer), start
    payloads[LENGTH][row], payloads[AT_NS][row] = np.int32(size), at_ns
    made[PAYLOAD_COUNT] = row + 1


@kernel(counted=False)
def _take_sections(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    slabs: U8,
    ready: Ready,
    payloads: Places,
    peer: int,
    data: U8,
    at: int,
    end: int,
    at_ns: int,
) -> None:
    """Apply all sections of a packet that is well formed and has room; its chunks are stored already."""
    made = ready[MADE]
    while at < end:
        kind, more, number, start, size = read_section(data, at, end)
        if kind == _SEQUENCED:
            newest = own[NUMBER_IN]
            if newest >= 0 and not 0 < (number - newest) & 0xFFFF < 0x8000:
                totals[_STALE] += 1
            else:
                own[NUMBER_IN] = number
                kind = _PLAIN
        if kind == _PLAIN:
            _add_payload(payloads, made, peer, start, size, at_ns)
        elif kind == _RELIABLE:
            _take_item(own, ring, totals, links, slabs, ready, peer, data, number | more << 12, start, size, at_ns)
        elif kind == _CLOSE:
            _take_close(own, totals, ready, peer, number, start, size)
        at = start + size


@kernel(counted=False)
def _refused(
    own: I64, ring: U32, totals: I64, ready: Ready, payload_room: int, data: U8, offset: int, size: int
) -> tuple[int, int]:
    """Why a packet is dropped before any effect, or -1; and how many chunks it carries."""
    inbox, _, _, made = ready
    entries, room = _entries(own, totals, ready), inbox.shape[0] - int(made[INBOX_BYTES])
    reason, payloads, slabs, chunks = _check(own, ring, data, offset + _HEADER, offset + size, entries, room)
    if reason == _MALFORMED:
        return reason, 0
    known = _is_known(own, get_u16(data, offset))
    if known >= 0:
        return known, 0
    if reason < 0 and (payloads > payload_room - made[PAYLOAD_COUNT] or (slabs > 0 and slabs > slab_room(own, totals))):
        reason = _NO_ROOM
    return reason, chunks


@kernel(
    f"({CORE_TYPE}, {BLOCKS_TYPE}, i8[:,::1], u1[::1], {PLACES_TYPE}, i8, i8, i8, {PLACES_TYPE}, {READY_TYPE})",
    counted=False,
)
def receive_packets(
    core: Core,
    blocks: BlockArrays,
    events: I64,
    data: U8,
    packets: Places,
    first: int,
    count: int,
    now_us: int,
    payloads: Places,
    ready: Ready,
) -> int:
    """Take the packets from `first` on, in order, after what found no room in the inbox before them.

    Args:
        core: As in `net.endpoint_kernels`; `blocks` as in `net.blocks_kernels`.
        events: As in `net.endpoint_acks_kernels`.
        data: The arena that the packets are in; `packets` says where, `count` how many.
        now_us: The present [µs].
        payloads: Output: unreliable payloads.
        ready: Output: messages, closings, and how many of all; the caller has set the counts to 0.

    Returns:
        Where to go on after the events have been told; `count` at the end.
    """
    state, rings, totals, links, slabs = core
    made = ready[MADE]
    totals[BATCH] += 1 if first == 0 else 0
    if first == 0 and totals[POOL_DEFERRED] > 0:
        for peer in range(state.shape[0]):
            if state[peer, DEFERRED] != 0:
                at_ns = now_us * 1000
                _deliver(state[peer], rings[peer], totals, links, slabs, ready, peer, at_ns)
    for index in range(first, count):
        if totals[EVENTS] + EVENTS_PER_PACKET > events.shape[0]:
            return index
        peer = int(np.int64(packets[CLIENT][index]))  # int() alone would keep 32 bits, and compile everything twice
        offset, size = int(packets[OFFSET][index]), int(np.int64(packets[LENGTH][index]))
        if peer < 0 or peer >= state.shape[0] or state[peer, ACTIVE] == 0:
            totals[_INACTIVE] += 1
            continue
        if size < _HEADER or offset < 0 or offset > data.shape[0] - size:
            totals[_MALFORMED] += 1
            continue
        own, ring, payload_room = state[peer], rings[peer], payloads[CLIENT].shape[0]
        # Most packets are one payload and nothing else; they skip what looks at sections.
        lone = size > _HEADER + 1 and data[offset + _HEADER] == _PLAIN | _LAST
        if lone:
            reason, chunks = _is_known(own, get_u16(data, offset)), 0
            if reason < 0 and made[PAYLOAD_COUNT] == payload_room:
                reason = _NO_ROOM
        else:
            reason, chunks = _refused(own, ring, totals, ready, payload_room, data, offset, size)
        if reason < 0 and chunks > 0:
            reason = _take_chunks(blocks, peer, data, offset + _HEADER, offset + size)
        if reason >= 0:
            totals[reason] += 1
            continue
        at_ns = int(packets[AT_NS][index])
        _note_arrival(own, get_u16(data, offset), size, at_ns // 1000, now_us)
        mask, delay = get_u16(data, offset + 4) | get_u16(data, offset + 6) << 16, int(np.int64(data[offset + 8]))
        take_ack(own, ring, totals, links, events, peer, get_u16(data, offset + 2), mask, delay, at_ns // 1000, now_us)
        totals[_PACKETS_IN] += 1
        totals[_BYTES_IN] += size
        begin, end = offset + _HEADER, offset + size
        if lone:
            _add_payload(payloads, made, peer, begin + 1, end - begin - 1, at_ns)
        else:
            _take_sections(own, ring, totals, links, slabs, ready, payloads, peer, data, begin, end, at_ns)
    return count
