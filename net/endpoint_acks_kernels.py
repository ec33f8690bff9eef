"""What became of the packets sent: acknowledgements, round trips, losses and probe time-outs.

Loss detection, round trips and probes are those of RFC 9002 (sections 5, 6.1 and 6.2), with the packet threshold 3 and
the time threshold 9/8 both required, since a game's link reorders more than the web's. A packet also counts as lost
once the peer's acknowledgements, which reach 33 packets back, can no longer name it. What is lost is what the packet
carried, never the packet: its items and its chunk become due again, and only those.
"""

import numpy as np

from net.blocks_kernels import BlockArrays, chunk_settled
from net.congestion_kernels import on_ack, on_loss
from net.endpoint_kernels import (
    ACKED,
    BACKOFF,
    BYTES_MASK,
    CHUNK_CARRIED,
    DONE,
    DUE,
    ELICITING,
    EPOCH_OUT,
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
    LINK,
    LIVE,
    LOSS,
    LOST,
    MARKS,
    MEASURED,
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
    RTT,
    RTT_LATEST,
    RTT_MINIMUM,
    RTT_VARIATION,
    SENT,
    SENT_RING,
    SLAB_BYTES_MASK,
    STATE,
    STATUS_MASK,
    STATUS_SHIFT,
    TALLY,
    WINDOW,
    WINDOW_ITEMS,
    WORDS,
    EndpointCount,
    Peers,
    Pool,
    slab_give,
)
from sim.arrays import F64, I64
from sim.jit import kernel

__all__ = ["ACK_NONE", "settle_lost", "settle_old", "take_ack"]

ACK_NONE = 0xFFFF
ACK_REACH = 32  # packets before `ack` that its mask names
PACKET_THRESHOLD = 3
GRANULARITY_US = 1_000
RTT_FIRST_NS = 333_000_000.0
ACK_DELAY_MAX_NS = 50_000_000.0
PROBE_NS_MAX = 2_000_000_000.0
BACKOFF_MAX = 6
MINIMUM_WINDOW_US = 5_000_000  # the least of this window and of the one before it counts
LOSS_WEIGHT = 1.0 / 64.0

_RING, _WINDOW = SENT_RING, WINDOW_ITEMS
_ACKED, _LOST, _SPURIOUS = int(EndpointCount.ACKED), int(EndpointCount.LOST), int(EndpointCount.SPURIOUS)
_PROBES = int(EndpointCount.PROBES)
_ACK_INVALID, _ACK_OLD = int(EndpointCount.ACK_INVALID), int(EndpointCount.ACK_OLD)
_LOW_32 = 0xFFFFFFFF


@kernel(counted=False)
def _sample(rates: F64, state: I64, peer: int, sample: float, now_us: int) -> None:
    """Take in one round trip [ns]: RFC 9002 section 5.3, RFC 3550's jitter, and the least of the last windows."""
    before = rates[peer, RTT]
    if before == 0.0:
        rates[peer, RTT] = sample
        rates[peer, RTT_VARIATION] = sample / 2.0
    else:
        rates[peer, RTT_VARIATION] += (abs(before - sample) - rates[peer, RTT_VARIATION]) / 4.0
        rates[peer, RTT] += (sample - before) / 8.0
        rates[peer, JITTER] += (abs(sample - rates[peer, RTT_LATEST]) - rates[peer, JITTER]) / 16.0
    rates[peer, RTT_LATEST] = sample
    if now_us - state[peer, MINIMUM_AT] >= MINIMUM_WINDOW_US:
        state[peer, MINIMUM_AT] = now_us
        rates[peer, MINIMUM_BEFORE] = rates[peer, MINIMUM_NOW]
        rates[peer, MINIMUM_NOW] = 0.0
    if rates[peer, MINIMUM_NOW] == 0.0 or sample < rates[peer, MINIMUM_NOW]:
        rates[peer, MINIMUM_NOW] = sample
    least = rates[peer, MINIMUM_NOW]
    if rates[peer, MINIMUM_BEFORE] > 0.0 and rates[peer, MINIMUM_BEFORE] < least:
        least = rates[peer, MINIMUM_BEFORE]
    rates[peer, RTT_MINIMUM] = least


@kernel(counted=False)
def _items_acked(peers: Peers, pool: Pool, peer: int, first: int, mask: int) -> None:
    """Items arrived: their slabs are free, and the window moves on."""
    state, marks, window = peers[STATE], peers[MARKS], peers[WINDOW]
    base, end = int(state[peer, ITEM_BASE]), int(state[peer, ITEM_NEXT])
    item = base + ((first - base) & 0xFFFF)
    if item - base >= 0x8000:
        item -= 0x10000
    while mask != 0:
        at = item & (_WINDOW - 1)
        if mask & 1 and base <= item < end and marks[peer, at] in (DUE, FLIGHT):
            slab = int(window[peer, at])
            state[peer, ITEMS_DUE] -= 1 if marks[peer, at] == DUE else 0
            state[peer, QUEUED_BYTES] -= int(pool[INFO][slab]) & SLAB_BYTES_MASK
            state[peer, QUEUED_ITEMS] -= 1
            marks[peer, at] = DONE
            slab_give(state, pool[LINK], pool[WORDS], peer, slab)
        item += 1
        mask >>= 1
    while base < end and marks[peer, base & (_WINDOW - 1)] == DONE:
        marks[peer, base & (_WINDOW - 1)] = FREE
        base += 1
    state[peer, ITEM_BASE] = base
    half_empty = (
        2 * state[peer, QUEUED_BYTES] <= pool[WORDS][QUEUE_BYTES_MAX]
        and 2 * state[peer, QUEUED_ITEMS] <= pool[WORDS][QUEUE_ITEMS_MAX]
    )
    if half_empty:
        state[peer, FULL_SINCE] = 0


@kernel(counted=False)
def _items_lost(peers: Peers, peer: int, first: int, mask: int) -> None:
    """Items of a lost packet become due again, unless they have arrived otherwise."""
    state, marks = peers[STATE], peers[MARKS]
    base, end = int(state[peer, ITEM_BASE]), int(state[peer, ITEM_NEXT])
    item = base + ((first - base) & 0xFFFF)
    if item - base >= 0x8000:
        item -= 0x10000
    while mask != 0:
        at = item & (_WINDOW - 1)
        if mask & 1 and base <= item < end and marks[peer, at] == FLIGHT:
            marks[peer, at] = DUE
            state[peer, ITEMS_DUE] += 1
        item += 1
        mask >>= 1


@kernel(counted=False)
def _settle_acked(
    peers: Peers, pool: Pool, blocks: BlockArrays, control: F64, peer: int, sequence: int, now_us: int, rtt_us: int
) -> None:
    """A packet arrived, perhaps after it had counted as lost; again changes nothing."""
    state, rates, sent, at = peers[STATE], peers[MEASURED], peers[SENT], sequence & (_RING - 1)
    word, load = int(np.int64(sent[peer, at, 1])), int(np.int64(sent[peer, at, 2]))
    status, size = word >> STATUS_SHIFT & STATUS_MASK, word & BYTES_MASK
    if status not in (LIVE, LOST):
        return
    sent[peer, at, 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | ACKED << STATUS_SHIFT)
    peers[TALLY][_ACKED] += 1
    state[peer, EPOCH_OUT] += size
    state[peer, BACKOFF], state[peer, PROGRESS_AT] = 0, now_us
    if status == LOST:
        peers[TALLY][_SPURIOUS] += 1
    else:
        rates[peer, LOSS] -= rates[peer, LOSS] * LOSS_WEIGHT
        state[peer, IN_FLIGHT] -= size if word & ELICITING else 0
    if word & ELICITING:
        age = (now_us - int(np.int64(sent[peer, at, 0]))) & _LOW_32
        on_ack(control, peer, size, now_us - age, now_us, rtt_us)
    if load != 0:
        if word & CHUNK_CARRIED:
            chunk_settled(blocks, load - 1, True)
        else:
            _items_acked(peers, pool, peer, word >> FIRST_SHIFT, load)


@kernel(counted=False)
def settle_lost(peers: Peers, blocks: BlockArrays, control: F64, peer: int, sequence: int, now_us: int) -> None:
    """A packet that is still under way counts as lost: what it carried becomes due again."""
    state, rates, sent, at = peers[STATE], peers[MEASURED], peers[SENT], sequence & (_RING - 1)
    word, load = int(np.int64(sent[peer, at, 1])), int(np.int64(sent[peer, at, 2]))
    sent[peer, at, 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | LOST << STATUS_SHIFT)
    peers[TALLY][_LOST] += 1
    state[peer, LAST_LOST] = max(sequence, state[peer, LAST_LOST])
    rates[peer, LOSS] += (1.0 - rates[peer, LOSS]) * LOSS_WEIGHT
    if word & ELICITING:
        state[peer, IN_FLIGHT] -= word & BYTES_MASK
        on_loss(control, peer, word & BYTES_MASK, now_us)
    if load != 0:
        if word & CHUNK_CARRIED:
            chunk_settled(blocks, load - 1, False)
        else:
            _items_lost(peers, peer, word >> FIRST_SHIFT, load)


@kernel(counted=False)
def _detect(peers: Peers, blocks: BlockArrays, control: F64, peer: int, now_us: int) -> None:
    """Declare packets lost by what was acknowledged after them; OLDEST moves to the first one still under way."""
    state, rates, sent = peers[STATE], peers[MEASURED], peers[SENT]
    patience = int(max(rates[peer, RTT], rates[peer, RTT_LATEST]) * 1.125 / 1000.0)
    patience = max(patience, GRANULARITY_US)
    sequence, end, newest = int(state[peer, OLDEST]), int(state[peer, NEXT_SEQ]), int(state[peer, LARGEST_ACKED])
    while sequence < end:
        at = sequence & (_RING - 1)
        if int(np.int64(sent[peer, at, 1])) >> STATUS_SHIFT & STATUS_MASK == LIVE:
            age = (now_us - int(np.int64(sent[peer, at, 0]))) & _LOW_32
            overtaken = sequence <= newest - PACKET_THRESHOLD and age > patience
            if not overtaken and sequence >= newest - ACK_REACH:
                break
            settle_lost(peers, blocks, control, peer, sequence, now_us)
        sequence += 1
    state[peer, OLDEST] = sequence


@kernel(counted=False)
def settle_old(peers: Peers, blocks: BlockArrays, control: F64, peer: int, now_us: int) -> None:
    """What time alone decides: losses whose patience is over, and the probe time-out of a peer that is silent.

    A time-out begins with the oldest packet under way, and anew with whatever is acknowledged. At its end everything
    older than it counts as lost, and the next one is twice as long. Packets that ask for no acknowledgement are
    forgotten without being counted.
    """
    state, rates, sent = peers[STATE], peers[MEASURED], peers[SENT]
    if state[peer, OLDEST] == state[peer, NEXT_SEQ]:
        return
    if state[peer, LARGEST_ACKED] - PACKET_THRESHOLD >= state[peer, OLDEST]:
        _detect(peers, blocks, control, peer, now_us)
    smooth, variation = rates[peer, RTT], rates[peer, RTT_VARIATION]
    if smooth == 0.0:
        smooth, variation = RTT_FIRST_NS, RTT_FIRST_NS / 2.0
    probe = smooth + max(4.0 * variation, 1000.0 * GRANULARITY_US) + ACK_DELAY_MAX_NS
    limit = int(max(probe, min(probe * (1 << int(state[peer, BACKOFF])), PROBE_NS_MAX)) / 1000.0)
    # Not by the age of a packet alone: at 30 % loss three acknowledgements of later packets may well take longer.
    if now_us - state[peer, PROGRESS_AT] <= limit:
        return
    sequence, end, probed = int(state[peer, OLDEST]), int(state[peer, NEXT_SEQ]), 0
    while sequence < end:
        at = sequence & (_RING - 1)
        word = int(np.int64(sent[peer, at, 1]))
        if word >> STATUS_SHIFT & STATUS_MASK == LIVE:
            if (now_us - int(np.int64(sent[peer, at, 0]))) & _LOW_32 <= limit:
                break
            if word & ELICITING:
                settle_lost(peers, blocks, control, peer, sequence, now_us)
                probed = 1
            else:
                sent[peer, at, 1] = np.uint32(word & ~(STATUS_MASK << STATUS_SHIFT) | LOST << STATUS_SHIFT)
        sequence += 1
    state[peer, OLDEST] = sequence
    if probed:
        peers[TALLY][_PROBES] += 1
        state[peer, BACKOFF], state[peer, PROGRESS_AT] = min(BACKOFF_MAX, state[peer, BACKOFF] + 1), now_us


@kernel(counted=False)
def _round_trip(peers: Peers, peer: int, sequence: int, delay: int, at_us: int) -> int:
    """Measure the round trip of the packet an acknowledgement names [µs]; 0 where it says nothing new."""
    word = int(np.int64(peers[SENT][peer, sequence & (_RING - 1), 1]))
    if word >> STATUS_SHIFT & STATUS_MASK not in (LIVE, LOST) or delay == 255:
        return 0
    age = (at_us - int(np.int64(peers[SENT][peer, sequence & (_RING - 1), 0]))) & _LOW_32
    if age > 0x7FFFFFFF:  # received before it was sent, by clocks of two sources
        age = 0
    sample = max(1, age - 250 * delay)
    _sample(peers[MEASURED], peers[STATE], peer, sample * 1000.0, at_us)
    return sample


@kernel(counted=False)
def take_ack(
    peers: Peers,
    pool: Pool,
    blocks: BlockArrays,
    control: F64,
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
    state, tally = peers[STATE], peers[TALLY]
    end, first = int(state[peer, NEXT_SEQ]), int(state[peer, FIRST_SEQ])
    behind = (end - 1 - ack) & 0xFFFF
    newest = end - 1 - behind
    if newest < first or behind >= 0x8000:
        tally[_ACK_INVALID] += 1
        return
    if behind >= _RING:
        tally[_ACK_OLD] += 1
        return
    rtt_us = _round_trip(peers, peer, newest, delay, at_us)
    # All before OLDEST is settled. Only what was lost of late may still arrive and have to be looked for there.
    reach = newest - ACK_REACH
    lowest = reach if state[peer, LAST_LOST] >= reach else max(reach, int(state[peer, OLDEST]))
    lowest = max(lowest, first, end - _RING)
    if newest - ACK_REACH < first and mask >> max(0, newest - first) != 0:
        tally[_ACK_INVALID] += 1
    for sequence in range(lowest, newest):
        if mask >> (newest - 1 - sequence) & 1:
            _settle_acked(peers, pool, blocks, control, peer, sequence, now_us, 0)
    _settle_acked(peers, pool, blocks, control, peer, newest, now_us, rtt_us)
    state[peer, LARGEST_ACKED] = max(newest, state[peer, LARGEST_ACKED])
    _detect(peers, blocks, control, peer, now_us)
