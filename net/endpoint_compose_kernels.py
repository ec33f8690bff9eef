"""Packets out: one for each application payload, filled up with what else is due, then what needs packets of its own.

The order within a packet: queued unreliable payloads, reliable items from the oldest on, then the application payload
to the end of the packet. Unreliable payloads always go at once. New items, repeats and chunks go while the peer has a
budget; without one, one item may go every 100 ms, so that an application which always spends it all starves nobody.
"""

import numpy as np

from net.blocks_kernels import BLOCKS_TYPE, BlockArrays, next_chunk, write_chunk
from net.congestion_kernels import TOKENS, on_send, refill
from net.endpoint_acks_kernels import ACK_NONE, settle_lost, settle_old
from net.endpoint_kernels import (
    ACTIVE,
    CHUNK,
    CHUNK_CARRIED,
    CLOSE,
    CLOSE_ROW,
    CLOSE_TEXT_BYTES_MAX,
    DUE,
    ELICITING,
    EPOCH_AT,
    EPOCH_IN,
    EPOCH_OUT,
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
    MARKS,
    MASK_IN,
    MEASURED,
    MORE_SLAB,
    NEWEST_AT,
    NEWEST_IN,
    NEXT_SEQ,
    NUMBER_OUT,
    OLDEST,
    PACKET_BYTES_MAX,
    PACKET_HEADER_BYTES,
    PEERS_TYPE,
    PENDING,
    PENDING_AT,
    PLAIN,
    PLAIN_BYTES_MAX,
    PLAIN_COUNT,
    PLAIN_HEAD,
    POOL_TYPE,
    RATE_IN,
    RATE_OUT,
    RELIABLE,
    SENT,
    SENT_BYTES,
    SENT_RING,
    SENT_SLAB,
    SEQUENCED,
    SEQUENCED_SLAB,
    SLAB_BYTES_MASK,
    SLABS,
    STATE,
    STATUS_MASK,
    STATUS_SHIFT,
    TALLY,
    WAIT_COUNT,
    WAIT_HEAD,
    WINDOW,
    WINDOW_ITEMS,
    WORDS,
    EndpointCount,
    Peers,
    Pool,
    copy_bytes,
    copy_from_slab,
    put_u16,
    slab_give,
)
from net.endpoint_receive_kernels import BUFFER, CLIENT, LENGTH, OFFSET, PLACES_TYPE, Places
from sim.arrays import F64, I64, U8
from sim.jit import kernel

__all__ = ["CLOSINGS_TYPE", "Closings", "compose_packets"]

Closings = tuple[U8, I64]  # text of each, (rows, 200); code and length (rows, 2), a length of -1 for a free row
CLOSINGS_TYPE = "Tuple((u1[:,::1], i8[:,::1]))"

ACKS_OWED_MAX = 16
ACK_DELAY_US_MAX = 50_000
EXTRA_PACKETS_MAX = 24  # per peer and call, beside those of its application payloads
CHUNKS_MAX = 16
CLOSE_REPEATS = 3
STARVING_US = 100_000
EPOCH_US = 250_000
ITEMS_PER_PACKET_SPAN = 32  # items that one packet's record can name, from the first on

_PACKET, _HEADER, _RING, _WINDOW = PACKET_BYTES_MAX, PACKET_HEADER_BYTES, SENT_RING, WINDOW_ITEMS
_PLAIN_MAX, _TEXT_MAX = PLAIN_BYTES_MAX, CLOSE_TEXT_BYTES_MAX
_PLAIN, _SEQUENCED, _RELIABLE, _CHUNK, _CLOSE = PLAIN, SEQUENCED, RELIABLE, CHUNK, CLOSE
_MORE, _LAST = 16, 128
_LOW_32 = 0xFFFFFFFF
_PACKETS_OUT, _BYTES_OUT, _BARE_OUT = (
    int(EndpointCount.PACKETS_OUT),
    int(EndpointCount.BYTES_OUT),
    int(EndpointCount.BARE_OUT),
)
_ITEMS_OUT, _ITEMS_RESENT = int(EndpointCount.ITEMS_OUT), int(EndpointCount.ITEMS_RESENT)
_CHUNKS_OUT, _OUTGOING_FULL = int(EndpointCount.CHUNKS_OUT), int(EndpointCount.OUTGOING_FULL)
_SEND_INACTIVE, _SEND_WRONG_SIZE = int(EndpointCount.SEND_INACTIVE), int(EndpointCount.SEND_WRONG_SIZE)


@kernel(counted=False)
def _begin(state: I64, peer: int, data: U8, at: int, now_us: int) -> None:
    """Write the header of a packet: its number, and what has arrived."""
    put_u16(data, at, int(state[peer, NEXT_SEQ]))
    newest, mask = int(state[peer, NEWEST_IN]), int(state[peer, MASK_IN])
    put_u16(data, at + 2, newest if newest >= 0 else ACK_NONE)
    put_u16(data, at + 4, mask)
    put_u16(data, at + 6, mask >> 16)
    age = (now_us - int(state[peer, NEWEST_AT])) // 250
    data[at + 8] = np.uint8(255 if newest < 0 else max(0, min(255, age)))
    state[peer, PENDING] = 0


@kernel(counted=False)
def _end(
    peers: Peers,
    blocks: BlockArrays,
    control: F64,
    packets: Places,
    count: int,
    peer: int,
    size: int,
    flags: int,
    load: int,
    now_us: int,
) -> None:
    """Remember a packet as sent, and list it."""
    state, sent, tally = peers[STATE], peers[SENT], peers[TALLY]
    sequence = int(state[peer, NEXT_SEQ])
    slot = sequence & (_RING - 1)
    if int(np.int64(sent[peer, slot, 1])) >> STATUS_SHIFT & STATUS_MASK == LIVE:
        settle_lost(peers, blocks, control, peer, sequence - _RING, now_us)
    state[peer, OLDEST] = max(int(state[peer, OLDEST]), sequence - _RING + 1)
    sent[peer, slot, 0] = np.uint32(now_us & _LOW_32)
    sent[peer, slot, 1] = np.uint32(size | LIVE << STATUS_SHIFT | flags)
    sent[peer, slot, 2] = np.uint32(load)
    state[peer, NEXT_SEQ] = sequence + 1
    state[peer, SENT_BYTES] += size
    if flags & ELICITING:
        state[peer, IN_FLIGHT] += size
    else:
        tally[_BARE_OUT] += 1
    tally[_PACKETS_OUT] += 1
    tally[_BYTES_OUT] += size
    on_send(control, peer, size, now_us)
    packets[CLIENT][count] = np.int32(peer)
    packets[LENGTH][count] = np.int32(size)
    if count + 1 < packets[OFFSET].shape[0]:
        packets[OFFSET][count + 1] = packets[OFFSET][count] + size


@kernel(counted=False)
def _promote(peers: Peers, pool: Pool, peer: int) -> None:
    """Number the items that wait, as far as the window goes."""
    state, link = peers[STATE], pool[LINK]
    while state[peer, WAIT_COUNT] > 0 and state[peer, ITEM_NEXT] - state[peer, ITEM_BASE] < _WINDOW:
        slab, at = int(state[peer, WAIT_HEAD]), int(state[peer, ITEM_NEXT]) & (_WINDOW - 1)
        state[peer, WAIT_HEAD] = link[slab]
        link[slab] = -1
        state[peer, WAIT_COUNT] -= 1
        peers[WINDOW][peer, at] = np.int32(slab)
        peers[MARKS][peer, at] = DUE
        state[peer, ITEM_NEXT] += 1
        state[peer, ITEMS_DUE] += 1


@kernel(counted=False)
def _write_payloads(peers: Peers, pool: Pool, peer: int, data: U8, at: int, end: int) -> int:
    """Write queued unreliable payloads while they fit; returns where the next section goes."""
    state, info = peers[STATE], pool[INFO]
    while state[peer, PLAIN_COUNT] > 0:
        slab = int(state[peer, PLAIN_HEAD])
        size, numbered = int(info[slab]) & SLAB_BYTES_MASK, int(info[slab]) & SEQUENCED_SLAB
        if at + 3 + (2 if numbered else 0) + size > end:
            break
        data[at] = np.uint8(_SEQUENCED if numbered else _PLAIN)
        at += 1
        if numbered:
            put_u16(data, at, int(state[peer, NUMBER_OUT]))
            state[peer, NUMBER_OUT] += 1
            at += 2
        put_u16(data, at, size)
        copy_from_slab(data, at + 2, pool[SLABS], slab, size)
        at += 2 + size
        state[peer, PLAIN_HEAD] = pool[LINK][slab]
        state[peer, PLAIN_COUNT] -= 1
        slab_give(state, pool[LINK], pool[WORDS], peer, slab)
    return at


@kernel(counted=False)
def _items_allowed(state: I64, control: F64, peer: int, now_us: int) -> bool:
    """Whether due items may go now."""
    return bool(
        state[peer, ITEMS_DUE] > 0
        and (control[peer, TOKENS] > 0.0 or now_us - state[peer, ITEM_SENT_AT] >= STARVING_US)
    )


@kernel(counted=False)
def _write_items(
    peers: Peers, pool: Pool, control: F64, peer: int, data: U8, at: int, end: int, now_us: int
) -> tuple[int, int, int]:
    """Write due items while they fit: (where the next section goes, the first item's number, mask from it on)."""
    state, marks, info = peers[STATE], peers[MARKS], pool[INFO]
    first, mask, room = 0, 0, control[peer, TOKENS] > 0.0
    item, last = int(state[peer, ITEM_BASE]), int(state[peer, ITEM_NEXT])
    while item < last and state[peer, ITEMS_DUE] > 0 and (mask == 0 or room):
        place = item & (_WINDOW - 1)
        slab = int(peers[WINDOW][peer, place])
        if mask != 0 and item - first >= ITEMS_PER_PACKET_SPAN:
            break
        if marks[peer, place] == DUE:
            word = int(info[slab])
            size = word & SLAB_BYTES_MASK
            if at + 5 + size <= end:
                data[at] = np.uint8(_RELIABLE | (_MORE if word & MORE_SLAB else 0))
                put_u16(data, at + 1, item)
                put_u16(data, at + 3, size)
                copy_from_slab(data, at + 5, pool[SLABS], slab, size)
                at += 5 + size
                marks[peer, place] = FLIGHT
                state[peer, ITEMS_DUE] -= 1
                peers[TALLY][_ITEMS_RESENT if word & SENT_SLAB else _ITEMS_OUT] += 1
                info[slab] = np.int32(word | SENT_SLAB)
                first = item if mask == 0 else first
                mask |= 1 << (item - first)
        item += 1
    if mask != 0:
        state[peer, ITEM_SENT_AT] = now_us
    return at, first, mask


@kernel(counted=False)
def _fill(
    peers: Peers, pool: Pool, control: F64, peer: int, data: U8, at: int, end: int, now_us: int
) -> tuple[int, int, int]:
    """Fill a packet up: (where the next section goes, flags of the packet's record, its load)."""
    state = peers[STATE]
    if state[peer, PLAIN_COUNT] > 0:
        at = _write_payloads(peers, pool, peer, data, at, end)
    first, mask = 0, 0
    if _items_allowed(state, control, peer, now_us):
        at, first, mask = _write_items(peers, pool, control, peer, data, at, end, now_us)
    return at, (first & 0xFFFF) << FIRST_SHIFT, mask


@kernel(counted=False)
def _has_room(packets: Places, count: int) -> bool:
    """Whether another packet can be listed."""
    return bool(count < packets[CLIENT].shape[0] and packets[OFFSET][count] + _PACKET <= packets[BUFFER].shape[0])


@kernel(counted=False)
def _payload_packet(
    peers: Peers,
    pool: Pool,
    blocks: BlockArrays,
    control: F64,
    payloads: Places,
    index: int,
    packets: Places,
    count: int,
    now_us: int,
) -> int:
    """Compose the packet of one application payload; returns the packets then listed."""
    peer, offset, size = int(payloads[CLIENT][index]), int(payloads[OFFSET][index]), int(payloads[LENGTH][index])
    tally, data = peers[TALLY], packets[BUFFER]
    if peer < 0 or peer >= peers[ACTIVE].shape[0] or peers[ACTIVE][peer] == 0:
        tally[_SEND_INACTIVE] += 1
        return count
    if size < 1 or size > _PLAIN_MAX or offset < 0 or offset > payloads[BUFFER].shape[0] - size:
        tally[_SEND_WRONG_SIZE] += 1
        return count
    if not _has_room(packets, count):
        tally[_OUTGOING_FULL] += 1
        return count
    start = int(packets[OFFSET][count])
    _begin(peers[STATE], peer, data, start, now_us)
    at, flags, load = start + _HEADER, 0, 0
    if peers[STATE][peer, ITEMS_DUE] + peers[STATE][peer, PLAIN_COUNT] > 0:
        at, flags, load = _fill(peers, pool, control, peer, data, at, start + _PACKET - 1 - size, now_us)
    data[at] = np.uint8(_PLAIN | _LAST)
    copy_bytes(data, at + 1, payloads[BUFFER], offset, size)
    size += at + 1 - start
    _end(peers, blocks, control, packets, count, peer, size, flags | ELICITING, load, now_us)
    return count + 1


@kernel(counted=False)
def _close_packets(
    peers: Peers,
    blocks: BlockArrays,
    control: F64,
    closings: Closings,
    packets: Places,
    count: int,
    peer: int,
    now_us: int,
) -> int:
    """Say in a few packets, for one may get lost, why the connection ends; returns the packets then listed."""
    text, info = closings
    row = int(peers[STATE][peer, CLOSE_ROW]) - 1
    size, data = int(info[row, 1]), packets[BUFFER]
    for _ in range(CLOSE_REPEATS):
        if not _has_room(packets, count):
            peers[TALLY][_OUTGOING_FULL] += 1
            return count
        at = int(packets[OFFSET][count])
        _begin(peers[STATE], peer, data, at, now_us)
        data[at + _HEADER] = np.uint8(_CLOSE | _LAST)
        data[at + _HEADER + 1] = np.uint8(info[row, 0])
        for index in range(size):
            data[at + _HEADER + 2 + index] = text[row, index]
        _end(peers, blocks, control, packets, count, peer, _HEADER + 2 + size, ELICITING, 0, now_us)
        count += 1
    peers[STATE][peer, CLOSE_ROW] = 0
    info[row, 1] = -1
    return count


@kernel(counted=False)
def _extra_packets(
    peers: Peers, pool: Pool, blocks: BlockArrays, control: F64, packets: Places, count: int, peer: int, now_us: int
) -> int:
    """Compose packets for what is due to a peer and found no place in another; returns the packets then listed."""
    state, data, chunks = peers[STATE], packets[BUFFER], 0
    for _ in range(EXTRA_PACKETS_MAX):
        owed = state[peer, PENDING] >= ACKS_OWED_MAX or (
            state[peer, PENDING] > 0 and now_us - state[peer, PENDING_AT] >= ACK_DELAY_US_MAX
        )
        due = state[peer, PLAIN_COUNT] > 0 or _items_allowed(state, control, peer, now_us)
        chunk_room = control[peer, TOKENS] > 0.0 and chunks < CHUNKS_MAX
        if not (owed or due or chunk_room):
            return count
        if not _has_room(packets, count):
            peers[TALLY][_OUTGOING_FULL] += 1 if due or owed else 0
            return count
        reference = -1
        if chunk_room and not due:
            reference = next_chunk(blocks, peer)
            if reference < 0 and not owed:
                return count
        start = int(packets[OFFSET][count])
        _begin(state, peer, data, start, now_us)
        at, flags, load = start + _HEADER, 0, 0
        if due:
            at, flags, load = _fill(peers, pool, control, peer, data, at, start + _PACKET, now_us)
        elif reference >= 0:
            data[at] = np.uint8(_CHUNK)
            at += 1 + write_chunk(blocks, reference, data, at + 1)
            flags, load, chunks = CHUNK_CARRIED, reference + 1, chunks + 1
            peers[TALLY][_CHUNKS_OUT] += 1
        if at > start + _HEADER:
            flags |= ELICITING
        _end(peers, blocks, control, packets, count, peer, at - start, flags, load, now_us)
        count += 1
    return count


@kernel(counted=False)
def _sweep(peers: Peers, pool: Pool, blocks: BlockArrays, control: F64, peer: int, now_us: int) -> None:
    """What time brings to a peer: losses, probes, budget, bandwidth, and items that come into the window."""
    state, rates = peers[STATE], peers[MEASURED]
    settle_old(peers, blocks, control, peer, now_us)
    refill(control, peer, now_us)
    if state[peer, WAIT_COUNT] > 0:
        _promote(peers, pool, peer)
    elapsed = now_us - int(state[peer, EPOCH_AT])
    if elapsed >= EPOCH_US:
        for word, rate in ((EPOCH_OUT, RATE_OUT), (EPOCH_IN, RATE_IN)):
            sample = state[peer, word] * 1e6 / elapsed
            before = rates[peer, rate]
            rates[peer, rate] = sample if before == 0.0 else before + (sample - before) / 4.0
            state[peer, word] = 0
        state[peer, EPOCH_AT] = now_us


@kernel(
    f"({PEERS_TYPE}, {POOL_TYPE}, {BLOCKS_TYPE}, f8[:,::1], {PLACES_TYPE}, i8, {PLACES_TYPE}, {CLOSINGS_TYPE}, i8, i8)",
    counted=False,
)
def compose_packets(
    peers: Peers,
    pool: Pool,
    blocks: BlockArrays,
    control: F64,
    payloads: Places,
    given: int,
    packets: Places,
    closings: Closings,
    start: int,
    now_us: int,
) -> int:
    """Compose the packets that leave now; returns how many.

    Args:
        payloads: Application payloads, one packet each, in this order; `given` says how many.
        packets: Output: where each packet is, in an arena of its own.
        closings: Why connections end; rows that have been sent become free.
        start: The peer whose own packets come first, so that a full arena does not always meet the same.
        now_us: The present [µs].
    """
    active = peers[ACTIVE]
    everyone = active.shape[0]
    for peer in range(everyone):
        if active[peer] != 0:
            _sweep(peers, pool, blocks, control, peer, now_us)
    packets[OFFSET][0] = 0
    count = 0
    for index in range(given):
        count = _payload_packet(peers, pool, blocks, control, payloads, index, packets, count, now_us)
    for step in range(everyone):
        peer = start + step
        if peer >= everyone:
            peer -= everyone
        if active[peer] != 0:
            if peers[STATE][peer, CLOSE_ROW] > 0:
                count = _close_packets(peers, blocks, control, closings, packets, count, peer, now_us)
            count = _extra_packets(peers, pool, blocks, control, packets, count, peer, now_us)
    return count
