"""What became of the packets sent: acknowledgements, round trips, losses and probe time-outs.

Loss detection, round trips and probes are those of RFC 9002 (sections 5, 6.1 and 6.2), with the packet threshold 3 and
the time threshold 9/8 both required, since a game's link reorders more than the web's. What is lost is what the packet
carried, never the packet: its items and its chunk become due again, and only those.

What congestion control and blocks must hear is put on a list of events and told by `tell_events` after a batch, so
that their kernels are compiled once and not into every caller. A row is (kind, peer or reference, bytes, sent [µs],
round trip [µs]).
"""

import numpy as np

from net.blocks_kernels import BLOCKS_TYPE, BlockArrays, chunk_settled
from net.congestion_kernels import on_ack, on_loss
from net.endpoint_kernels import (
    ACKED,
    ACTIVE,
    BACKOFF,
    BYTES_MASK,
    CHUNK_CARRIED,
    CORE_TYPE,
    DONE,
    DUE,
    ELICITING,
    EPOCH_AT,
    EPOCH_IN,
    EPOCH_OUT,
    EVENTS,
    FIRST_SEQ,
    FIRST_SHIFT,
    FLIGHT,
    FREE,
    FULL_SINCE,
    IN_FLIGHT,
    INFO,
    ITEM_BASE,
    ITEM_NEXT,
    ITEMS_DUE,
    JITTER,
    LARGEST_ACKED,
    LAST_LOST,
    LIVE,
    LOSS,
    LOSS_ONE,
    LOST,
    MARK_AT,
    MINIMUM_AT,
    MINIMUM_BEFORE,
    MINIMUM_NOW,
    NEXT_SEQ,
    OLDEST,
    PROGRESS_AT,
    QUEUE_BYTES_MAX,
    QUEUE_ITEMS_MAX,
    QUEUED_BYTES,
    QUEUED_ITEMS,
    RATE_IN,
    RATE_OUT,
    RTT,
    RTT_LATEST,
    RTT_MINIMUM,
    RTT_VARIATION,
    SENT_RING,
    SLAB_AT,
    SLAB_BYTES_MASK,
    STATUS_MASK,
    STATUS_SHIFT,
    WINDOW_ITEMS,
    Core,
    EndpointCount,
    slab_give,
)
from sim.arrays import F64, I32, I64, U32
from sim.jit import kernel

__all__ = ["ACK_NONE", "EVENTS_PER_PACKET", "EVENT_WORDS", "settle_lost", "sweep_peers", "take_ack", "tell_events"]

ACK_NONE = 0xFFFF
ACK_REACH = 32  # packets before `ack` that its mask names
PACKET_THRESHOLD = 3
GRANULARITY_NS = 1_000_000
RTT_FIRST_NS = 333_000_000
ACK_DELAY_MAX_NS = 50_000_000
PROBE_NS_MAX = 2_000_000_000
BACKOFF_MAX = 6
MINIMUM_WINDOW_US = 5_000_000  # the least of this window and of the one before it counts
LOSS_SHIFT = 6
EPOCH_US = 250_000
EVENT_WORDS = 5
EVENTS_PER_PACKET = 2 * (SENT_RING + ACK_REACH + 1)  # at most, with a chunk in every packet

_RING, _WINDOW = SENT_RING, WINDOW_ITEMS
_ACKED, _LOST, _SPURIOUS = int(EndpointCount.ACKED), int(EndpointCount.LOST), int(EndpointCount.SPURIOUS)
_PROBES = int(EndpointCount.PROBES)
_ACK_INVALID, _ACK_OLD = int(EndpointCount.ACK_INVALID), int(EndpointCount.ACK_OLD)
_LOW_32 = 0xFFFFFFFF
_ON_ACK, _ON_LOSS, _CHUNK_ACKED, _CHUNK_LOST = 0, 1, 2, 3
_LOSS_ONE = LOSS_ONE


@kernel(counted=False, merge=True)
def _add_event(totals: I64, events: I64, kind: int, who: int, size: int, sent_us: int, rtt_us: int) -> None:
    """Put a row on the list, which the caller keeps from overflowing."""
    at = int(totals[EVENTS])
    events[at, 0], events[at, 1], events[at, 2], events[at, 3], events[at, 4] = kind, who, size, sent_us, rtt_us
    totals[EVENTS] = at + 1


@kernel(f"({BLOCKS_TYPE}, f8[:,::1], i8[:,::1], i8[::1], i8)", counted=False)
def tell_events(blocks: BlockArrays, control: F64, events: I64, totals: I64, now_us: int) -> None:
    """Tell congestion control and blocks what happened, in order, and empty the list."""
    for at in range(totals[EVENTS]):
        kind, who, size = int(events[at, 0]), int(events[at, 1]), int(events[at, 2])
        if kind == _ON_ACK:
            on_ack(control, who, size, int(events[at, 3]), now_us, int(events[at, 4]))
        elif kind == _ON_LOSS:
            on_loss(control, who, size, now_us)
        else:
            chunk_settled(blocks, who, kind == _CHUNK_ACKED)
    totals[EVENTS] = 0


@kernel(counted=False, merge=True)
def _sample(own: I64, sample: int, now_us: int) -> None:
    """Take in one round trip [ns]: RFC 9002 section 5.3, RFC 3550's jitter, and the least of the last windows."""
    before = own[RTT]
    if before == 0:
        own[RTT], own[RTT_VARIATION] = sample, sample >> 1
    else:
        own[RTT_VARIATION] += (abs(before - sample) - own[RTT_VARIATION]) >> 2
        own[RTT] += (sample - before) >> 3
        own[JITTER] += (abs(sample - own[RTT_LATEST]) - own[JITTER]) >> 4
    own[RTT_LATEST] = sample
    if now_us - own[MINIMUM_AT] >= MINIMUM_WINDOW_US:
        own[MINIMUM_AT] = now_us
        own[MINIMUM_BEFORE], own[MINIMUM_NOW] = own[MINIMUM_NOW], 0
    if own[MINIMUM_NOW] == 0 or sample < own[MINIMUM_NOW]:
        own[MINIMUM_NOW] = sample
    least = own[MINIMUM_NOW]
    if own[MINIMUM_BEFORE] > 0:
        least = min(least, own[MINIMUM_BEFORE])
    own[RTT_MINIMUM] = least


@kernel(counted=False)
def _items_acked(own: I64, ring: U32, totals: I64, links: I32, first: int, mask: int) -> None:
    """Items arrived: their slabs are free, and the window moves on."""
    base, end = own[ITEM_BASE], own[ITEM_NEXT]
    item = base + ((first - base + 0x8000) & 0xFFFF) - 0x8000
    while mask != 0:
        at = item & (_WINDOW - 1)
        mark = int(np.int64(ring[MARK_AT + at]))
        if mask & 1 and base <= item < end and mark in (DUE, FLIGHT):
            slab = int(np.int64(ring[SLAB_AT + at]))
            own[ITEMS_DUE] -= 1 if mark == DUE else 0
            own[QUEUED_BYTES] -= int(np.int64(links[slab, INFO])) & SLAB_BYTES_MASK
            own[QUEUED_ITEMS] -= 1
            ring[MARK_AT + at] = DONE
            slab_give(own, totals, links, slab)
        item += 1
        mask >>= 1
    while base < end and ring[MARK_AT + (base & (_WINDOW - 1))] == DONE:
        ring[MARK_AT + (base & (_WINDOW - 1))] = FREE
        base += 1
    own[ITEM_BASE] = base
    if 2 * own[QUEUED_BYTES] <= totals[QUEUE_BYTES_MAX] and 2 * own[QUEUED_ITEMS] <= totals[QUEUE_ITEMS_MAX]:
        own[FULL_SINCE] = 0


@kernel(counted=False)
def _items_lost(own: I64, ring: U32, first: int, mask: int) -> None:
    """Items of a lost packet become due again, unless they have arrived otherwise."""
    base, end = own[ITEM_BASE], own[ITEM_NEXT]
    item = base + ((first - base + 0x8000) & 0xFFFF) - 0x8000
    while mask != 0:
        at = MARK_AT + (item & (_WINDOW - 1))
        if mask & 1 and base <= item < end and ring[at] == FLIGHT:
            ring[at] = DUE
            own[ITEMS_DUE] += 1
        item += 1
        mask >>= 1


@kernel(counted=False, merge=True)
def _settle_acked(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    events: I64,
    peer: int,
    sequence: int,
    now_us: int,
    rtt_us: int,
) -> None:
    """A packet arrived, perhaps after it had counted as lost; again changes nothing."""
    at = 3 * (sequence & (_RING - 1))
    word, load = int(np.int64(ring[at + 1])), int(np.int64(ring[at + 2]))
    status, size = word >> STATUS_SHIFT & STATUS_MASK, word & BYTES_MASK
    if status not in (LIVE, LOST):
        return
    ring[at + 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | ACKED << STATUS_SHIFT)
    totals[_ACKED] += 1
    own[EPOCH_OUT] += size
    own[BACKOFF], own[PROGRESS_AT] = 0, now_us
    if status == LOST:
        totals[_SPURIOUS] += 1
    else:
        own[LOSS] -= own[LOSS] >> LOSS_SHIFT
        own[IN_FLIGHT] -= size if word & ELICITING else 0
    if word & ELICITING:
        age = (now_us - int(np.int64(ring[at]))) & _LOW_32
        mistaken = status == LOST and rtt_us == 0  # -1 tells congestion control to take the loss back
        _add_event(totals, events, _ON_ACK, peer, size, now_us - age, -1 if mistaken else rtt_us)
    if load != 0:
        if word & CHUNK_CARRIED:
            _add_event(totals, events, _CHUNK_ACKED, load - 1, 0, 0, 0)
        else:
            _items_acked(own, ring, totals, links, word >> FIRST_SHIFT, load)


@kernel(counted=False)
def settle_lost(own: I64, ring: U32, totals: I64, events: I64, peer: int, sequence: int) -> None:
    """A packet that is still under way counts as lost: what it carried becomes due again."""
    at = 3 * (sequence & (_RING - 1))
    word, load = int(np.int64(ring[at + 1])), int(np.int64(ring[at + 2]))
    ring[at + 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | LOST << STATUS_SHIFT)
    totals[_LOST] += 1
    own[LAST_LOST] = max(sequence, own[LAST_LOST])
    own[LOSS] += (_LOSS_ONE - own[LOSS]) >> LOSS_SHIFT
    if word & ELICITING:
        own[IN_FLIGHT] -= word & BYTES_MASK
        _add_event(totals, events, _ON_LOSS, peer, word & BYTES_MASK, 0, 0)
    if load != 0:
        if word & CHUNK_CARRIED:
            _add_event(totals, events, _CHUNK_LOST, load - 1, 0, 0, 0)
        else:
            _items_lost(own, ring, word >> FIRST_SHIFT, load)


@kernel(counted=False)
def _detect(own: I64, ring: U32, totals: I64, events: I64, peer: int, now_us: int) -> None:
    """Declare packets lost by what was acknowledged after them; OLDEST moves to the first one still under way."""
    slowest = max(own[RTT], own[RTT_LATEST])
    patience = max(slowest + (slowest >> 3), GRANULARITY_NS) // 1000
    sequence, end, newest = own[OLDEST], own[NEXT_SEQ], own[LARGEST_ACKED]
    while sequence < end:
        at = 3 * (sequence & (_RING - 1))
        if int(np.int64(ring[at + 1])) >> STATUS_SHIFT & STATUS_MASK == LIVE:
            age = (now_us - int(np.int64(ring[at]))) & _LOW_32
            if sequence > newest - PACKET_THRESHOLD or age <= patience:
                break
            settle_lost(own, ring, totals, events, peer, sequence)
        sequence += 1
    own[OLDEST] = sequence


@kernel(counted=False)
def _probe(own: I64, ring: U32, totals: I64, events: I64, peer: int, now_us: int) -> None:
    """The probe time-out of a peer that is silent.

    It begins with the oldest packet under way, and anew with whatever is acknowledged. At its end everything older
    than it counts as lost, and the next one is twice as long. Packets that ask for no acknowledgement are forgotten
    without being counted.
    """
    smooth, variation = own[RTT], own[RTT_VARIATION]
    if smooth == 0:
        smooth, variation = RTT_FIRST_NS, RTT_FIRST_NS >> 1
    probe = smooth + max(4 * variation, GRANULARITY_NS) + ACK_DELAY_MAX_NS
    limit = max(probe, min(probe << own[BACKOFF], PROBE_NS_MAX)) // 1000
    # Not by the age of a packet alone: at 30 % loss three acknowledgements of later packets may well take longer.
    if now_us - own[PROGRESS_AT] <= limit:
        return
    sequence, end, probed = own[OLDEST], own[NEXT_SEQ], 0
    while sequence < end:
        at = 3 * (sequence & (_RING - 1))
        word = int(np.int64(ring[at + 1]))
        if word >> STATUS_SHIFT & STATUS_MASK == LIVE:
            if (now_us - int(np.int64(ring[at]))) & _LOW_32 <= limit:
                break
            if word & ELICITING:
                settle_lost(own, ring, totals, events, peer, sequence)
                probed = 1
            else:
                ring[at + 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | LOST << STATUS_SHIFT)
        sequence += 1
    own[OLDEST] = sequence
    if probed:
        totals[_PROBES] += 1
        own[BACKOFF], own[PROGRESS_AT] = min(BACKOFF_MAX, own[BACKOFF] + 1), now_us


@kernel(f"({CORE_TYPE}, i8[:,::1], i8, i8)", counted=False)
def sweep_peers(core: Core, events: I64, first: int, now_us: int) -> int:
    """What time brings to the peers from `first` on: losses, probe time-outs, bandwidth.

    Returns:
        Where to go on after the events have been told; the number of peers at the end.
    """
    state, rings, totals = core[0], core[1], core[2]
    for peer in range(first, state.shape[0]):
        own, ring = state[peer], rings[peer]
        if own[ACTIVE] == 0:
            continue
        if totals[EVENTS] + EVENTS_PER_PACKET > events.shape[0]:
            return peer
        if own[OLDEST] != own[NEXT_SEQ]:
            if own[LARGEST_ACKED] - PACKET_THRESHOLD >= own[OLDEST]:
                _detect(own, ring, totals, events, peer, now_us)
            _probe(own, ring, totals, events, peer, now_us)
        elapsed = now_us - own[EPOCH_AT]
        if elapsed >= EPOCH_US:
            for count, rate in ((EPOCH_OUT, RATE_OUT), (EPOCH_IN, RATE_IN)):
                sample = int(own[count]) * 1_000_000 // elapsed
                before = int(own[rate])
                own[rate] = sample if before == 0 else before + ((sample - before) >> 2)
                own[count] = 0
            own[EPOCH_AT] = now_us
    return int(state.shape[0])


@kernel(counted=False, merge=True)
def _round_trip(own: I64, ring: U32, sequence: int, delay: int, at_us: int) -> int:
    """Measure the round trip of the packet an acknowledgement names [µs]; 0 where it says nothing new."""
    at = 3 * (sequence & (_RING - 1))
    status = int(np.int64(ring[at + 1])) >> STATUS_SHIFT & STATUS_MASK
    if status not in (LIVE, LOST) or delay == 255:
        return 0
    age = (at_us - int(np.int64(ring[at]))) & _LOW_32
    if age > 0x7FFFFFFF:  # received before it was sent, by clocks of two sources
        age = 0
    sample = max(1, age - 250 * delay)
    _sample(own, sample * 1000, at_us)
    return sample


@kernel(counted=False, merge=True)
def take_ack(
    own: I64,
    ring: U32,
    totals: I64,
    links: I32,
    events: I64,
    peer: int,
    ack: int,
    mask: int,
    delay: int,
    at_us: int,
    now_us: int,
) -> None:
    """Take in the acknowledgement in a packet's header; what it says of packets never sent is ignored and counted.

    Args:
        ack: Newest sequence the peer has received, 16 bits; `mask` the 32 before it.
        delay: How long the peer held it [¼ ms].
        at_us: When the packet arrived at the socket; `now_us` the present [µs].
    """
    if ack == ACK_NONE and mask == 0:
        return
    end, first = own[NEXT_SEQ], own[FIRST_SEQ]
    behind = (end - 1 - ack) & 0xFFFF
    newest = end - 1 - behind
    if newest < first or behind >= 0x8000:
        totals[_ACK_INVALID] += 1
        return
    if behind >= _RING:
        totals[_ACK_OLD] += 1
        return
    rtt_us = _round_trip(own, ring, newest, delay, at_us)
    # All before OLDEST is settled. Only what was lost of late may still arrive and have to be looked for there.
    reach = newest - ACK_REACH
    lowest = reach if own[LAST_LOST] >= reach else max(reach, own[OLDEST])
    lowest = max(lowest, first, end - _RING)
    if reach < first and mask >> (newest - first) != 0:
        totals[_ACK_INVALID] += 1
    named = mask << 1 | 1  # bit i: newest − i
    for sequence in range(lowest, newest + 1):
        if named >> (newest - sequence) & 1:
            sample = rtt_us if sequence == newest else 0
            _settle_acked(own, ring, totals, links, events, peer, sequence, now_us, sample)
    own[LARGEST_ACKED] = max(newest, own[LARGEST_ACKED])
    _detect(own, ring, totals, events, peer, now_us)
