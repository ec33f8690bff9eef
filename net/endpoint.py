"""Reliability over netcode payloads, the same on both sides: acknowledgements, measurements and channels of many peers.

An endpoint stands between a host (or a client group) and the application; all per-packet work is one kernel each way:

    host.receive(datagrams, now)              endpoint.tell(peer, message)
    endpoint.receive(host.payloads, now)      endpoint.compose(clients, buffer, offsets, lengths, now)
    endpoint.payloads, .messages, closes      host.send(*endpoint.outgoing(), now)

The packet format stands in `net.endpoint_kernels`. What is sent reliably arrives once and in order, or the peer goes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from net.congestion import Congestion, CongestionLimits
from net.congestion_kernels import TOKENS
from net.datagrams import Payloads
from net.endpoint_compose_kernels import Closings, compose_packets
from net.endpoint_kernels import (
    CLOSE_ROW,
    CLOSE_TEXT_BYTES_MAX,
    COUNTS,
    FULL_SINCE,
    GAP_SINCE,
    IN_FLIGHT,
    ITEM_BYTES_MAX,
    ITEMS_PER_MESSAGE_MAX,
    JITTER,
    LOSS,
    PACKET_BYTES_MAX,
    PLAIN_ITEMS_MAX,
    POOL_FREE,
    POOL_SURPLUS,
    POOL_WORDS,
    QUEUE_BYTES_MAX,
    QUEUE_ITEMS_MAX,
    RATE_IN,
    RATE_OUT,
    RATES,
    RECEIVE_RING,
    RECEIVED_BYTES,
    RTT,
    RTT_LATEST,
    RTT_MINIMUM,
    SENT_BYTES,
    SENT_RING,
    STATE_WORDS,
    WINDOW_ITEMS,
    EndpointCount,
    Peers,
    Pool,
    reset_peers,
    tell_batch,
)
from net.endpoint_receive_kernels import CLOSES_PER_BATCH, Places, Received, receive_packets
from net.errors import NetError
from sim.arrays import F64, I32, I64, U8, U32
from sim.schema import Delivery

__all__ = ["Endpoint", "EndpointLimits"]

_CLOSINGS = 256


@dataclass(frozen=True, slots=True)
class EndpointLimits:
    """What an endpoint holds at most; more is refused at the call, or dropped without acknowledgement, and counted.

    Attributes:
        queue_bytes: Reliable bytes of one peer that wait or are under way; `tell` refuses beyond.
        queue_items: Likewise, items of up to 1,024 bytes.
        plain_items: Unreliable payloads of one peer that wait for the next `compose`; `tell` refuses beyond.
        slabs: Of 1,024 bytes, shared by all peers, for what waits in either direction; 0: 4,096, or two per peer. Each
            peer can always have one. `tell` refuses, and arriving packets are dropped, where there is none.
        inbox_bytes: Reliable messages handed over by one `receive`; the rest comes with the next.
        inbox_messages: Likewise, their number.
        stall_ns: How long a queue may stay full, or a gap in what arrives open, before `stalled` lists the peer [ns].
    """

    queue_bytes: int = 65_536
    queue_items: int = 128
    plain_items: int = 16
    slabs: int = 0
    inbox_bytes: int = 1_048_576
    inbox_messages: int = 8_192
    stall_ns: int = 5_000_000_000

    def check(self) -> None:
        """Refuses limits that no message could pass.

        Raises:
            NetError: One is too small; names it.
        """
        message = ITEM_BYTES_MAX * ITEMS_PER_MESSAGE_MAX
        least = {
            "queue_bytes": message, "queue_items": ITEMS_PER_MESSAGE_MAX, "plain_items": 1, "slabs": 0,
            "inbox_bytes": message, "inbox_messages": 1, "stall_ns": 1,
        }  # fmt: skip
        for field in fields(self):
            if getattr(self, field.name) < least[field.name]:
                raise NetError(
                    f"endpoint limits: {field.name} is {getattr(self, field.name)}; give at least {least[field.name]}"
                )


class Endpoint:
    """Acknowledges, measures, repeats and orders the packets of `peers` connections.

    Attributes:
        payloads: Unreliable payloads of the last `receive`, in order of arrival: slices of the arena they came in.
        messages: Whole reliable messages of the last `receive`, in order for each peer, in an arena of its own.
        packets: What the last `compose` made; see `outgoing`.
        active: 1 while a peer is open, uint8 (peers,).
        rtt_ns, rtt_min_ns, rtt_latest_ns: Round trip without the peer's delay, 0 before the first sample: smoothed
            (RFC 6298), the least of the last 5 to 10 s, the last; float64 (peers,) [ns].
        jitter_ns: Mean change from one round trip to the next (RFC 3550), float64 (peers,) [ns].
        loss: Share of our packets lost of late, 0 … 1, float64 (peers,).
        bandwidth_out_Bps, bandwidth_in_Bps: Bytes per second that arrived of late at the peer, and from it; float64.
        sent_bytes, received_bytes: In packets, since the peer was opened, int64 (peers,).
        in_flight_bytes: Sent, and neither acknowledged nor lost, int64 (peers,).
        budget_bytes: What congestion control lets go now; application payloads should stay within it. float64 (peers,).
        congestion: The controllers.
        counts: By `net.endpoint_kernels.EndpointCount`, int64.
    """

    def __init__(
        self,
        peers: int,
        *,
        batch: int,
        limits: EndpointLimits | None = None,
        congestion: CongestionLimits | None = None,
    ) -> None:
        """Makes room for everything; nothing is allocated later, and no peer is open yet.

        Args:
            peers: How many.
            batch: Largest number of packets in one `receive`, and of unreliable payloads that it hands over.
            limits: Of queues and pools.
            congestion: Of sending rates.

        Raises:
            NetError: A size is out of range.
        """
        if peers < 1 or batch < 1:
            raise NetError(f"endpoint: {peers} peers, batches of {batch}: each must be at least 1")
        self.peers = peers
        self.limits = limits or EndpointLimits()
        self.limits.check()
        self.congestion = Congestion(peers, limits=congestion)
        self._now_us = 0
        self._start = 0
        self._make_columns(peers)
        self._make_pool(peers)
        self._make_buffers(peers, batch)
        self.reset(range(peers))

    def _make_columns(self, peers: int) -> None:
        state: I64 = np.zeros((peers, STATE_WORDS), np.int64)
        rates: F64 = np.zeros((peers, RATES), np.float64)
        sent: U32 = np.zeros((peers, SENT_RING, 3), np.uint32)
        self._state = state
        self.active: U8 = np.zeros(peers, np.uint8)
        self.congestion.active = self.active
        self.counts: I64 = np.zeros(COUNTS, np.int64)
        self._columns: Peers = (
            state, rates, self.active, sent, np.zeros((peers, WINDOW_ITEMS), np.int32),
            np.zeros((peers, WINDOW_ITEMS), np.uint8), np.zeros((peers, RECEIVE_RING), np.int32), self.counts,
        )  # fmt: skip
        self.rtt_ns: F64 = rates[:, RTT]
        self.rtt_min_ns: F64 = rates[:, RTT_MINIMUM]
        self.rtt_latest_ns: F64 = rates[:, RTT_LATEST]
        self.jitter_ns: F64 = rates[:, JITTER]
        self.loss: F64 = rates[:, LOSS]
        self.bandwidth_out_Bps: F64 = rates[:, RATE_OUT]
        self.bandwidth_in_Bps: F64 = rates[:, RATE_IN]
        self.sent_bytes: I64 = state[:, SENT_BYTES]
        self.received_bytes: I64 = state[:, RECEIVED_BYTES]
        self.in_flight_bytes: I64 = state[:, IN_FLIGHT]
        self.budget_bytes: F64 = self.congestion.columns[:, TOKENS]
        heads: I32 = np.full((peers, 2), -1, np.int32)
        none: U32 = np.zeros((1, 1), np.uint32)
        self._blocks = (
            np.zeros((1, 13), np.int64), none, none.copy(), np.zeros((1, 8), np.int64), none.copy(), heads,
            np.zeros(8, np.int64),
        )  # fmt: skip

    def _make_pool(self, peers: int) -> None:
        limits = self.limits
        slabs = limits.slabs or max(4096, 2 * peers)
        if slabs < peers:
            raise NetError(f"endpoint limits: slabs is {slabs} for {peers} peers; give at least one per peer")
        self._slab_count = slabs
        link: I32 = np.arange(1, slabs + 1, dtype=np.int32)
        link[-1] = -1
        words: I64 = np.zeros(POOL_WORDS, np.int64)
        words[POOL_FREE], words[POOL_SURPLUS] = slabs, slabs - peers
        words[QUEUE_BYTES_MAX], words[QUEUE_ITEMS_MAX] = limits.queue_bytes, limits.queue_items
        words[PLAIN_ITEMS_MAX] = limits.plain_items
        self._words = words
        # zeros, not empty: the pages stay unmapped until they are written, here and below.
        self._pool: Pool = (np.zeros((slabs, ITEM_BYTES_MAX), np.uint8), np.zeros(slabs, np.int32), link, words)

    def _make_buffers(self, peers: int, batch: int) -> None:
        limits = self.limits
        self.payloads = Payloads(batch)
        self.messages = Payloads(limits.inbox_messages)
        self.messages.buffer = np.zeros(limits.inbox_bytes, np.uint8)
        self.packets = Payloads(2 * peers + 1024)
        self.packets.buffer = np.zeros(len(self.packets.client) * PACKET_BYTES_MAX, np.uint8)
        closes: I64 = np.zeros((CLOSES_PER_BATCH, 4), np.int64)
        self._made: I64 = np.zeros(4, np.int64)
        self._received: Received = (_places(self.payloads), _places(self.messages), closes, self._made)
        self._out = _places(self.packets)
        self._closes: list[tuple[int, int, str]] = []
        info: I64 = np.full((_CLOSINGS, 2), -1, np.int64)
        self._closings: Closings = (np.zeros((_CLOSINGS, CLOSE_TEXT_BYTES_MAX), np.uint8), info)
        self._one = (np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros(1, np.int32))

    # -- peers --------------------------------------------------------------------------------------------------

    def _rows(self, peers: Iterable[int] | I32) -> I32:
        rows: I32 = np.unique(np.asarray(list(peers), np.int64)).astype(np.int32)
        if len(rows) and not (rows[0] >= 0 and rows[-1] < self.peers):
            raise NetError(f"endpoint: peers {rows[0]} to {rows[-1]}; there are 0 to {self.peers - 1}")
        return rows

    def open(self, peers: Iterable[int] | I32, now_ns: int) -> None:
        """Make peers new and open them: as a client connects, before its first packet, on both sides.

        Args:
            peers: Their numbers.
            now_ns: The present, monotonic.

        Raises:
            NetError: There is no such peer.
        """
        reset_peers(self._columns, self._pool, self.congestion.columns, self._rows(peers), 1, now_ns // 1000)

    def reset(self, peers: Iterable[int] | I32) -> None:
        """Close peers at once and free all they hold; what was not delivered is counted as abandoned.

        Raises:
            NetError: There is no such peer.
        """
        reset_peers(self._columns, self._pool, self.congestion.columns, self._rows(peers), 0, self._now_us)

    def close(self, peer: int, code: int, text: str) -> bool:
        """Tell a peer why the connection ends, in three packets of the next `compose`; then disconnect it.

        Args:
            peer: Whom.
            code: A reason, 0 … 255.
            text: For people; beyond 200 bytes of UTF-8 it is cut.

        Returns:
            False where the peer is not open, or too many are being closed at once, which is counted.

        Raises:
            NetError: The code is out of range.
        """
        if not 0 <= code <= 255:
            raise NetError(f"close: code is {code}; give 0 to 255")
        if not 0 <= peer < self.peers or not self.active[peer]:
            return False
        texts, info = self._closings
        row = int(self._state[peer, CLOSE_ROW]) - 1
        if row < 0:
            free = np.flatnonzero(info[:, 1] < 0)
            if not len(free):
                self.counts[EndpointCount.CLOSES_DROPPED] += 1
                return False
            row = int(free[0])
        content = text.encode()[:CLOSE_TEXT_BYTES_MAX].decode(errors="ignore").encode()
        texts[row, : len(content)] = np.frombuffer(content, np.uint8)
        info[row] = code, len(content)
        self._state[peer, CLOSE_ROW] = row + 1
        return True

    # -- in -----------------------------------------------------------------------------------------------------

    def receive(self, payloads: Payloads, now_ns: int) -> int:
        """Take in a batch of netcode payloads; what is wrong with them is counted and never raises.

        Args:
            payloads: Of the host or client group.
            now_ns: The present, monotonic.

        Returns:
            The number of unreliable payloads; see also `messages` and `take_closes`.

        Raises:
            NetError: The batch is larger than this endpoint was made for.
        """
        if payloads.count > len(self.payloads.client):
            raise NetError(f"endpoint: {payloads.count} packets at once; made for batch={len(self.payloads.client)}")
        self._now_us = now_ns // 1000
        receive_packets(
            self._columns, self._pool, self._blocks, self.congestion.columns, _places(payloads), payloads.count,
            self._now_us, self._received,
        )  # fmt: skip
        made, messages, closes = self._made.tolist(), self.messages, self._received[2]
        self.payloads.count, self.payloads.buffer = made[0], payloads.buffer
        messages.count = made[1]
        for peer, code, start, size in closes[: made[2]].tolist():
            text = payloads.buffer[start : start + size].tobytes().decode(errors="replace")
            self._closes.append((peer, code, text))
        return self.payloads.count

    def take_closes(self) -> list[tuple[int, int, str]]:
        """(peer, code, text) of peers that said why they end the connection, since the last call; once per peer."""
        closes, self._closes = self._closes, []
        return closes

    # -- out ----------------------------------------------------------------------------------------------------

    def tell(self, peer: int, payload: bytes, delivery: Delivery = Delivery.RELIABLE) -> bool:
        """Queue one payload for a peer; it leaves with the next `compose`, as far as window and budget allow.

        Returns:
            False, and a count, where the peer is not open or its queue or the pool is full.

        Raises:
            NetError: The payload is empty, or so long that it can never be sent.
        """
        largest = ITEM_BYTES_MAX * (ITEMS_PER_MESSAGE_MAX if delivery == Delivery.RELIABLE else 1)
        if not 1 <= len(payload) <= largest:
            raise NetError(
                f"tell: payload has {len(payload)} bytes; {delivery.name.lower()} takes 1 to {largest}"
                + (", send it as a block or in parts" if delivery == Delivery.RELIABLE else ", send it reliably")
            )
        peers, offsets, lengths = self._one
        peers[0], lengths[0] = peer, len(payload)
        return self.tell_batch(peers, np.frombuffer(payload, np.uint8), offsets, lengths, delivery) == 1

    def tell_batch(self, peers: I32, buffer: U8, offsets: I64, lengths: I32, delivery: Delivery) -> int:
        """Queue payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `peers[i]`.

        Args:
            peers: Their numbers, shape (n,), int32.
            buffer: Shape (bytes,), uint8.
            offsets: Shape (n,), int64.
            lengths: Shape (n,), int32.
            delivery: How they travel.

        Returns:
            How many were taken; the others were refused as by `tell`, or out of range, and counted.

        Raises:
            NetError: The arrays are not of one length.
        """
        if not peers.shape == offsets.shape == lengths.shape:
            raise NetError(f"tell: {peers.shape} peers, {offsets.shape} offsets, {lengths.shape} lengths")
        return int(tell_batch(self._columns, self._pool, peers, buffer, offsets, lengths, int(delivery), self._now_us))

    def compose(self, clients: I32, buffer: U8, offsets: I64, lengths: I32, now_ns: int) -> int:
        """Make the packets that leave now: one for each given payload, filled up, then those for what else is due.

        Args:
            clients: Whom application payloads (snapshots, commands) are for, shape (n,), int32.
            buffer: Shape (bytes,), uint8.
            offsets: Shape (n,), int64.
            lengths: 1 to 1,190, shape (n,), int32.
            now_ns: The present, monotonic.

        Returns:
            How many packets there are; see `outgoing`. Payloads out of range or for peers that are not open are
            dropped and counted.

        Raises:
            NetError: The arrays are not of one length.
        """
        if not clients.shape == offsets.shape == lengths.shape:
            raise NetError(f"compose: {clients.shape} clients, {offsets.shape} offsets, {lengths.shape} lengths")
        self._now_us = now_ns // 1000
        self.congestion.share(now_ns)
        full = int(self.counts[EndpointCount.OUTGOING_FULL])
        given: Places = (buffer, clients, offsets, lengths, self._out[4])
        self.packets.count = int(
            compose_packets(
                self._columns, self._pool, self._blocks, self.congestion.columns, given, len(clients), self._out,
                self._closings, self._start, self._now_us,
            )
        )  # fmt: skip
        if self.counts[EndpointCount.OUTGOING_FULL] != full:
            self._start = (self._start + self.peers // 4 + 1) % self.peers
        return self.packets.count

    def outgoing(self) -> tuple[I32, U8, I64, I32]:
        """The packets of the last `compose` as the arrays that `send` of a host or client group takes; views."""
        packets = self.packets
        count = packets.count
        return packets.client[:count], packets.buffer, packets.offset[:count], packets.length[:count]

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def rate_Bps(self) -> F64:  # noqa: N802 # the unit's own spelling
        """What congestion control allows each peer [bytes/s], a new array, float64 (peers,)."""
        return self.congestion.rate

    def stalled(self) -> I64:
        """Peers whose reliable queue stayed full, or whose stream stayed broken, for longer than `stall_ns`; int64."""
        since = self._state[:, [FULL_SINCE, GAP_SINCE]]
        late = (since > 0) & (self._now_us - since >= self.limits.stall_ns // 1000)
        return np.flatnonzero(late.any(axis=1) & (self.active != 0))

    def statistics(self) -> dict[str, float]:
        """Counts by reason, slabs free, and means over the open peers of what is measured."""
        values: dict[str, float] = {reason.name.lower(): int(self.counts[reason]) for reason in EndpointCount}
        open_peers = self.active != 0
        values["peers_open"] = int(np.count_nonzero(open_peers))
        values["slabs_free"] = int(self._words[POOL_FREE])
        values["slabs"] = self._slab_count
        for name in ("rtt_ns", "rtt_min_ns", "jitter_ns", "loss", "bandwidth_out_Bps", "bandwidth_in_Bps", "rate_Bps"):
            column: F64 = getattr(self, name)[open_peers]
            values[f"mean_{name}"] = float(column.mean()) if len(column) else 0.0
        return values


def _places(payloads: Payloads) -> Places:
    """The arrays of a batch as the kernels take them."""
    return payloads.buffer, payloads.client, payloads.offset, payloads.length, payloads.received_ns
