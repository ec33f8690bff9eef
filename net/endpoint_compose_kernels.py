"""Packets out: one for each application payload, filled up with what else is due, then what needs packets of its own.

The order within a packet: queued unreliable payloads, reliable items from the oldest on, then the application payload
to the end of the packet. Unreliable payloads always go at once. New items, repeats and chunks go while the peer has a
budget. An application that always spends it all must not starve the rest: without a budget, packets that go anyway take
small items along, up to 256 bytes, and one item of any size may go every 100 ms. (With the latter alone, ten messages a
second took up to 4.2 s at the 99th percentile on a network that loses 30 %; with both 1.1 s, as with any budget.)
"""

import numpy as np

from net.blocks_kernels import BLOCKS_TYPE, BlockArrays, next_chunk, write_chunk
from net.congestion_kernels import TOKENS, on_send, refill
from net.endpoint_acks_kernels import ACK_NONE, settle_lost
from net.endpoint_kernels import (
    ACK_OUT,
    ACTIVE,
    CHUNK,
    CHUNK_CARRIED,
    CLOSE_BYTES,
    CORE_TYPE,
    DUE,
    ELICITING,
    EVENTS,
    FIRST_SHIFT,
    FLIGHT,
    IN_FLIGHT,
    INFO,
    ITEM_BASE,
    ITEM_NEXT,
    ITEM_SENT_AT,
    ITEMS_DUE,
    LINK,
    LIVE,
    MARK_AT,
    MASK_IN,
    MORE_SLAB,
    NEWEST_AT,
    NEWEST_IN,
    NEXT_SEQ,
    NUMBER_OUT,
    OLDEST,
    PACKET_BYTES_MAX,
    PACKET_HEADER_BYTES,
    PENDING,
    PENDING_AT,
    PLAIN,
    PLAIN_BYTES_MAX,
    PLAIN_COUNT,
    PLAIN_HEAD,
    RELIABLE,
    SAVED,
    SAVED_FIRST,
    SAVED_MAX,
    SENT_BYTES,
    SENT_RING,
    SENT_SLAB,
    SEQUENCED,
    SEQUENCED_SLAB,
    SLAB_AT,
    SLAB_BYTES_MASK,
    STATUS_MASK,
    STATUS_SHIFT,
    WAIT_COUNT,
    WAIT_HEAD,
    WINDOW_ITEMS,
    Core,
    EndpointCount,
    copy_bytes,
    copy_from_slab,
    put_u16,
    slab_give,
)
from net.endpoint_receive_kernels import CLIENT, LENGTH, OFFSET, PLACES_TYPE, Places
from sim.arrays import F64, I32, I64, U8, U32
from sim.jit import kernel

__all__ = ["compose_chunks", "compose_closings", "compose_packets"]

ACKS_OWED_MAX = 16
ACK_DELAY_US_MAX = 50_000
EXTRA_PACKETS_MAX = 24  # per peer and call, beside those of its application payloads
CHUNKS_MAX = 16
CLOSE_REPEATS = 3
STARVING_US = 100_000
SMALL_BYTES = 256  # of items that a packet takes along where there is no budget
ITEMS_PER_PACKET_SPAN = 32  # items that one packet's record can name, from the first on

_PACKET, _HEADER, _RING, _WINDOW = PACKET_BYTES_MAX, PACKET_HEADER_BYTES, SENT_RING, WINDOW_ITEMS
_PLAIN_MAX = PLAIN_BYTES_MAX
_PLAIN, _SEQUENCED, _RELIABLE, _CHUNK = PLAIN, SEQUENCED, RELIABLE, CHUNK
_MORE, _LAST = 16, 128
_LOW_32 = 0xFFFFFFFF
_PACKETS_OUT, _BYTES_OUT = int(EndpointCount.PACKETS_OUT), int(EndpointCount.BYTES_OUT)
_BARE_OUT = int(EndpointCount.BARE_OUT)
_ITEMS_OUT, _ITEMS_RESENT = int(EndpointCount.ITEMS_OUT), int(EndpointCount.ITEMS_RESENT)
_CHUNKS_OUT, _OUTGOING_FULL = int(EndpointCount.CHUNKS_OUT), int(EndpointCount.OUTGOING_FULL)
_SEND_INACTIVE, _SEND_WRONG_SIZE = int(EndpointCount.SEND_INACTIVE), int(EndpointCount.SEND_WRONG_SIZE)


@kernel(counted=False, merge=True)
def _begin(own: I64, data: U8, at: int, now_us: int) -> None:
    """Write the header of a packet: its number, and what has arrived."""
    put_u16(data, at, own[NEXT_SEQ])
    newest, mask = own[NEWEST_IN], own[MASK_IN]
    put_u16(data, at + 2, newest if newest >= 0 else ACK_NONE)
    put_u16(data, at + 4, mask)
    put_u16(data, at + 6, mask >> 16)
    age = (now_us - own[NEWEST_AT]) // 250
    data[at + 8] = np.uint8(255 if newest < 0 else max(0, min(255, age)))
    own[PENDING], own[ACK_OUT] = 0, newest


@kernel(counted=False, merge=True)
def _end(
    own: I64,
    ring: U32,
    totals: I64,
    events: I64,
    control: F64,
    peer: int,
    size: int,
    flags: int,
    load: int,
    now_us: int,
) -> None:
    """Remember a packet as sent."""
    sequence = own[NEXT_SEQ]
    at = 3 * (sequence & (_RING - 1))
    if int(np.int64(ring[at + 1])) >> STATUS_SHIFT & STATUS_MASK == LIVE:
        settle_lost(own, ring, totals, events, peer, sequence - _RING)
    own[OLDEST] = max(own[OLDEST], sequence - _RING + 1)
    ring[at] = np.uint32(now_us & _LOW_32)
    ring[at + 1] = np.uint32(size | LIVE << STATUS_SHIFT | flags)
    ring[at + 2] = np.uint32(load)
    own[NEXT_SEQ] = sequence + 1
    own[SENT_BYTES] += size
    if flags & ELICITING:
        own[IN_FLIGHT] += size
    else:
        totals[_BARE_OUT] += 1
    totals[_PACKETS_OUT] += 1
    totals[_BYTES_OUT] += size
    on_send(control, peer, size, now_us)


@kernel(counted=False, merge=True)
def _list(packets: Places, count: int, peer: int, size: int) -> int:
    """List a packet that begins where the one before it ends; returns how many there are then."""
    packets[CLIENT][count] = np.int32(peer)
    packets[LENGTH][count] = np.int32(size)
    if count + 1 < packets[OFFSET].shape[0]:
        packets[OFFSET][count + 1] = packets[OFFSET][count] + size
    return count + 1


@kernel(counted=False, merge=True)
def _has_room(packets: Places, data: U8, count: int, totals: I64, events: I64) -> bool:
    """Whether another packet can be made."""
    return bool(
        count < packets[CLIENT].shape[0]
        and packets[OFFSET][count] + _PACKET <= data.shape[0]
        and totals[EVENTS] + 2 <= events.shape[0]
    )


@kernel(counted=False)
def _promote(own: I64, ring: U32, links: I32) -> None:
    """Number the items that wait, as far as the window goes."""
    while own[WAIT_COUNT] > 0 and own[ITEM_NEXT] - own[ITEM_BASE] < _WINDOW:
        slab, at = own[WAIT_HEAD], own[ITEM_NEXT] & (_WINDOW - 1)
        own[WAIT_HEAD] = links[slab, LINK]
        links[slab, LINK] = -1
        own[WAIT_COUNT] -= 1
        ring[SLAB_AT + at] = np.uint32(slab)
        ring[MARK_AT + at] = DUE
        own[ITEM_NEXT] += 1
        own[ITEMS_DUE] += 1


@kernel(counted=False)
def _write_payloads(own: I64, totals: I64, links: I32, slabs: U8, data: U8, at: int, end: int) -> int:
    """Write queued unreliable payloads while they fit; returns where the next section goes."""
    while own[PLAIN_COUNT] > 0:
        slab = own[PLAIN_HEAD]
        size, numbered = (
            int(np.int64(links[slab, INFO])) & SLAB_BYTES_MASK,
            int(np.int64(links[slab, INFO])) & SEQUENCED_SLAB,
        )
        if at + 3 + (2 if numbered else 0) + size > end:
            break
        data[at] = np.uint8(_SEQUENCED if numbered else _PLAIN)
        at += 1
        if numbered:
            put_u16(data, at, own[NUMBER_OUT])
            own[NUMBER_OUT] += 1
            at += 2
        put_u16(data, at, size)
        copy_from_slab(data, at + 2, slabs, slab, size)
        at += 2 + size
        own[PLAIN_HEAD] = links[slab, LINK]
        own[PLAIN_COUNT] -= 1
        slab_give(own, totals, links, slab)
    return at


@kernel(counted=False)
def _items_allowed(own: I64, tokens: float, now_us: int) -> bool:
    """Whether due items may go now."""
    return bool(own[ITEMS_DUE] > 0 and (tokens > 0.0 or now_us - own[ITEM_SENT_AT] >= STARVING_US))


@kernel(counted=False)
def _write_items(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    slabs: U8,
    room: bool,
    data: U8,
    at: int,
    end: int,
) -> tuple[int, int, int]:
    """Write due items while they fit: (where the next section goes, the first item's number, mask from it on).

    Args:
        room: Whether more than one may go.
    """
    first, mask = 0, 0
    item, last = own[ITEM_BASE], own[ITEM_NEXT]
    while item < last and own[ITEMS_DUE] > 0 and (mask == 0 or (room and item - first < ITEMS_PER_PACKET_SPAN)):
        place = item & (_WINDOW - 1)
        if ring[MARK_AT + place] == DUE:
            slab = int(np.int64(ring[SLAB_AT + place]))
            word = int(np.int64(links[slab, INFO]))
            size = word & SLAB_BYTES_MASK
            if at + 5 + size <= end:
                data[at] = np.uint8(_RELIABLE | (_MORE if word & MORE_SLAB else 0))
                put_u16(data, at + 1, item)
                put_u16(data, at + 3, size)
                copy_from_slab(data, at + 5, slabs, slab, size)
                at += 5 + size
                ring[MARK_AT + place] = FLIGHT
                own[ITEMS_DUE] -= 1
                totals[_ITEMS_RESENT if word & SENT_SLAB else _ITEMS_OUT] += 1
                links[slab, INFO] = np.int32(word | SENT_SLAB)
                first = item if mask == 0 else first
                mask |= 1 << (item - first)
        item += 1
    return at, first, mask


@kernel(counted=False)
def _fill(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    slabs: U8,
    tokens: float,
    data: U8,
    at: int,
    end: int,
    now_us: int,
) -> tuple[int, int, int]:
    """Fill a packet up: (where the next section goes, flags of the packet's record, its load)."""
    if own[PLAIN_COUNT] > 0:
        at = _write_payloads(own, totals, links, slabs, data, at, end)
    first, mask = 0, 0
    if own[ITEMS_DUE] > 0:
        room = tokens > 0.0
        small = not _items_allowed(own, tokens, now_us)
        if small:
            end = min(end, at + SMALL_BYTES)
        at, first, mask = _write_items(own, ring, totals, links, slabs, room or small, data, at, end)
        if mask != 0 and not small:
            own[ITEM_SENT_AT] = now_us
    return at, (first & 0xFFFF) << FIRST_SHIFT, mask


@kernel(counted=False)
def _saved_acks(
    core: Core, events: I64, control: F64, packets: Places, data: U8, count: int, peer: int, now_us: int
) -> int:
    """Send the acknowledgements that were kept, before any newer one; returns the packets then listed."""
    own, ring, totals = core[0][peer], core[1][peer], core[2]
    pending = own[PENDING]
    for index in range(own[SAVED]):
        if not _has_room(packets, data, count, totals, events):
            totals[_OUTGOING_FULL] += 1
            break
        at, saved = int(packets[OFFSET][count]), own[SAVED_FIRST + index]
        _begin(own, data, at, now_us)
        put_u16(data, at + 2, saved)
        put_u16(data, at + 4, saved >> 16)
        put_u16(data, at + 6, saved >> 32)
        data[at + 8] = 255
        _end(own, ring, totals, events, control, peer, _HEADER, 0, 0, now_us)
        count = _list(packets, count, peer, _HEADER)
    own[SAVED], own[PENDING] = 0, pending  # the newest is yet to be acknowledged
    return count


@kernel(counted=False)
def _extra_packets(
    core: Core, events: I64, control: F64, packets: Places, data: U8, count: int, peer: int, now_us: int
) -> int:
    """Compose packets for what is due to a peer and found no place in another; returns the packets then listed."""
    state, rings, totals, links, slabs = core
    own, ring = state[peer], rings[peer]
    for _ in range(EXTRA_PACKETS_MAX):
        owed = own[PENDING] >= ACKS_OWED_MAX or (own[PENDING] > 0 and now_us - own[PENDING_AT] >= ACK_DELAY_US_MAX)
        due = own[PLAIN_COUNT] > 0 or _items_allowed(own, control[peer, TOKENS], now_us)
        if not (owed or due):
            return count
        if not _has_room(packets, data, count, totals, events):
            totals[_OUTGOING_FULL] += 1
            return count
        start = int(packets[OFFSET][count])
        _begin(own, data, start, now_us)
        at, flags, load = start + _HEADER, 0, 0
        if due:
            at, flags, load = _fill(
                own, ring, totals, links, slabs, control[peer, TOKENS], data, at, start + _PACKET, now_us
            )
            flags |= ELICITING
        _end(own, ring, totals, events, control, peer, at - start, flags, load, now_us)
        count = _list(packets, count, peer, at - start)
    return count


@kernel(
    f"({CORE_TYPE}, i8[:,::1], f8[:,::1], u1[::1], {PLACES_TYPE}, i8, {PLACES_TYPE}, u1[::1], i8, i8)",
    counted=False,
)
def compose_packets(
    core: Core,
    events: I64,
    control: F64,
    buffer: U8,
    payloads: Places,
    given: int,
    packets: Places,
    data: U8,
    start: int,
    now_us: int,
) -> int:
    """Compose the packets that leave now, but those of chunks and closings; returns how many.

    Args:
        core: As in `net.endpoint_kernels`; `events` as in `net.endpoint_acks_kernels`, `control` congestion's columns.
        buffer: What `payloads` are in, one packet each, in this order; `given` says how many.
        packets: Output: where each packet is in `data`.
        start: The peer whose own packets come first, so that a full arena does not always meet the same.
        now_us: The present [µs].
    """
    state, rings, totals, links, slabs = core
    everyone, count = state.shape[0], 0
    packets[OFFSET][0] = 0
    for peer in range(everyone):
        if state[peer, ACTIVE] != 0:
            refill(control, peer, now_us)
            _promote(state[peer], rings[peer], links)
            # Not at the expense of payloads, when many peers at once send more than their masks reach.
            if state[peer, SAVED] > 0 and count + given + SAVED_MAX <= packets[CLIENT].shape[0]:
                count = _saved_acks(core, events, control, packets, data, count, peer, now_us)
    for index in range(given):
        peer = int(np.int64(payloads[CLIENT][index]))
        offset, size = int(payloads[OFFSET][index]), int(np.int64(payloads[LENGTH][index]))
        if peer < 0 or peer >= everyone or state[peer, ACTIVE] == 0:
            totals[_SEND_INACTIVE] += 1
            continue
        if size < 1 or size > _PLAIN_MAX or offset < 0 or offset > buffer.shape[0] - size:
            totals[_SEND_WRONG_SIZE] += 1
            continue
        if not _has_room(packets, data, count, totals, events):
            totals[_OUTGOING_FULL] += 1
            continue
        begin, own, ring = int(packets[OFFSET][count]), state[peer], rings[peer]
        _begin(own, data, begin, now_us)
        at, flags, load = begin + _HEADER, 0, 0
        if own[ITEMS_DUE] + own[PLAIN_COUNT] > 0:
            end = begin + _PACKET - 1 - size
            at, flags, load = _fill(own, ring, totals, links, slabs, control[peer, TOKENS], data, at, end, now_us)
        data[at] = np.uint8(_PLAIN | _LAST)
        copy_bytes(data, at + 1, buffer, offset, size)
        size += at + 1 - begin
        _end(own, ring, totals, events, control, peer, size, flags | ELICITING, load, now_us)
        count = _list(packets, count, peer, size)
    for step in range(everyone):
        peer = start + step - (everyone if start + step >= everyone else 0)
        if state[peer, ACTIVE] != 0:
            count = _extra_packets(core, events, control, packets, data, count, peer, now_us)
    return count


@kernel(f"({CORE_TYPE}, {BLOCKS_TYPE}, i8[:,::1], f8[:,::1], {PLACES_TYPE}, u1[::1], i8, i8, i8)", counted=False)
def compose_chunks(
    core: Core,
    blocks: BlockArrays,
    events: I64,
    control: F64,
    packets: Places,
    data: U8,
    count: int,
    start: int,
    now_us: int,
) -> int:
    """Add packets with chunks of blocks while there is a budget, at most 16 a peer; returns how many packets there are.

    Args as of `compose_packets`, which has made the first `count`.
    """
    state, rings, totals, _, _ = core
    everyone = state.shape[0]
    for step in range(everyone):
        peer = start + step - (everyone if start + step >= everyone else 0)
        if state[peer, ACTIVE] == 0:
            continue
        own, ring = state[peer], rings[peer]
        for _ in range(CHUNKS_MAX):
            if control[peer, TOKENS] <= 0.0:
                break
            if not _has_room(packets, data, count, totals, events):
                totals[_OUTGOING_FULL] += 1
                return count
            reference = next_chunk(blocks, peer)
            if reference < 0:
                break
            at = int(packets[OFFSET][count])
            _begin(own, data, at, now_us)
            data[at + _HEADER] = np.uint8(_CHUNK)
            size = _HEADER + 1 + write_chunk(blocks, reference, data, at + _HEADER + 1)
            _end(own, ring, totals, events, control, peer, size, ELICITING | CHUNK_CARRIED, reference + 1, now_us)
            totals[_CHUNKS_OUT] += 1
            count = _list(packets, count, peer, size)
    return count


@kernel(f"({CORE_TYPE}, u1[:,::1], i8[:,::1], f8[:,::1], {PLACES_TYPE}, u1[::1], i8, i8)", counted=False)
def compose_closings(
    core: Core, closings: U8, events: I64, control: F64, packets: Places, data: U8, count: int, now_us: int
) -> int:
    """Say to peers why their connections end, in three packets each, for one may get lost; returns how many there are.

    Where there is no room for three, all get one before any gets a second; who gets none is told the next time.

    Args:
        closings: The section for each peer, of CLOSE_BYTES bytes where there is one, uint8 (peers, 202).
        count: Of packets that are made already.
    """
    state, rings, totals, _, _ = core
    everyone, told = state.shape[0], 0
    for repeat in range(CLOSE_REPEATS):
        for peer in range(everyone):
            size = state[peer, CLOSE_BYTES]
            if size == 0:
                continue
            if not _has_room(packets, data, count, totals, events):
                totals[_OUTGOING_FULL] += 1
                break
            own, at = state[peer], int(packets[OFFSET][count])
            _begin(own, data, at, now_us)
            for index in range(size):
                data[at + _HEADER + index] = closings[peer, index]
            _end(own, rings[peer], totals, events, control, peer, _HEADER + size, ELICITING, 0, now_us)
            count = _list(packets, count, peer, _HEADER + size)
            told = peer + 1 if repeat == 0 else told
    for peer in range(told):
        state[peer, CLOSE_BYTES] = 0
    return count
