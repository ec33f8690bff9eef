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

from net.block_limits import BlockLimits
from net.blocks import BlockControl, Blocks
from net.congestion import Congestion, CongestionLimits
from net.congestion_kernels import TOKENS
from net.datagrams import Payloads
from net.endpoint_acks_kernels import EVENT_WORDS, EVENTS_PER_PACKET, sweep_peers, tell_events
from net.endpoint_compose_kernels import compose_chunks, compose_closings, compose_packets
from net.endpoint_kernels import (
    CLOSE,
    CLOSE_BYTES,
    CLOSE_TEXT_BYTES_MAX,
    COUNTS,
    EVENTS,
    FULL_SINCE,
    GAP_SINCE,
    IN_FLIGHT,
    ITEM_BYTES_MAX,
    ITEMS_PER_MESSAGE_MAX,
    JITTER,
    LINK,
    LOSS,
    LOSS_ONE,
    PACKET_BYTES_MAX,
    PEER_MESSAGES_MAX,
    PLAIN_ITEMS_MAX,
    POOL_FREE,
    POOL_SURPLUS,
    QUEUE_BYTES_MAX,
    QUEUE_ITEMS_MAX,
    RATE_IN,
    RATE_OUT,
    RECEIVED_BYTES,
    RING_WORDS,
    RTT,
    RTT_LATEST,
    RTT_MINIMUM,
    SENT_BYTES,
    STATE_WORDS,
    TOTALS,
    Core,
    EndpointCount,
    reset_peers,
    tell_batch,
)
from net.endpoint_receive_kernels import (
    CLOSES_PER_BATCH,
    MADE_WORDS,
    NOTE_WORDS,
    Places,
    Ready,
    receive_packets,
)
from net.errors import NetError
from sim.arrays import F64, I32, I64, U8, U32
from sim.schema import Delivery

__all__ = ["Endpoint", "EndpointLimits"]

_LAST = 128
_NO_BLOCKS = BlockLimits(send_bytes=1, send_transfers=1, receive_bytes=0, receive_transfers=1)
_CONTROL_TYPES = [int(kind) for kind in BlockControl]


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
        peer_messages: Likewise, those of one peer: what a client makes the application do at once. A peer that sends
            more is slowed down: what waits here fills its window.
        stall_ns: How long a queue may stay full, or a gap in what arrives open, before `stalled` lists the peer [ns].
    """

    queue_bytes: int = 65_536
    queue_items: int = 128
    plain_items: int = 16
    slabs: int = 0
    inbox_bytes: int = 1_048_576
    inbox_messages: int = 8_192
    peer_messages: int = 32
    stall_ns: int = 5_000_000_000

    def check(self) -> None:
        """Refuses limits that no message could pass.

        Raises:
            NetError: One is too small; names it.
        """
        message = ITEM_BYTES_MAX * ITEMS_PER_MESSAGE_MAX
        least = {
            "queue_bytes": message, "queue_items": ITEMS_PER_MESSAGE_MAX, "plain_items": 1, "slabs": 0,
            "inbox_bytes": message, "inbox_messages": 1, "peer_messages": 1, "stall_ns": 1,
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
            (RFC 6298), the least of the last 5 to 10 s, the last; int64 (peers,) [ns].
        jitter_ns: Mean change from one round trip to the next (RFC 3550), int64 (peers,) [ns].
        bandwidth_out_Bps, bandwidth_in_Bps: Bytes per second that arrived of late at the peer, and from it; int64.
        sent_bytes, received_bytes: In packets, since the peer was opened, int64 (peers,).
        in_flight_bytes: Sent, and neither acknowledged nor lost, int64 (peers,).
        budget_bytes: What congestion control lets go now; application payloads should stay within it. float64 (peers,).
        congestion: The controllers.
        blocks: As given.
        counts: By `net.endpoint_kernels.EndpointCount`, int64.
    """

    def __init__(
        self,
        peers: int,
        *,
        batch: int,
        limits: EndpointLimits | None = None,
        congestion: CongestionLimits | None = None,
        blocks: Blocks | None = None,
    ) -> None:
        """Makes room for everything; nothing is allocated later, and no peer is open yet.

        Args:
            peers: How many.
            batch: Largest number of packets in one `receive`, and of unreliable payloads that it hands over.
            limits: Of queues and pools.
            congestion: Of sending rates.
            blocks: Transfers of blocks with as many peers. The endpoint moves their chunks and control messages; None:
                offers of blocks are handed over like other messages, and chunks are ignored.

        Raises:
            NetError: A size is out of range.
        """
        if peers < 1 or batch < 1:
            raise NetError(f"endpoint: {peers} peers, batches of {batch}: each must be at least 1")
        self.peers = peers
        self.limits = limits or EndpointLimits()
        self.limits.check()
        self.congestion = Congestion(peers, limits=congestion)
        self.blocks = blocks
        self._blocks = (blocks or Blocks(peers, limits=_NO_BLOCKS)).arrays
        self._now_us = 0
        self._start = 0
        self._make_columns(peers)
        self._make_buffers(peers, batch)
        self.reset(range(peers))

    def _make_columns(self, peers: int) -> None:
        limits = self.limits
        slabs = limits.slabs or max(4096, 2 * peers)
        if slabs < peers:
            raise NetError(f"endpoint limits: slabs is {slabs} for {peers} peers; give at least one per peer")
        state: I64 = np.zeros((peers, STATE_WORDS), np.int64)
        rings: U32 = np.zeros((peers, RING_WORDS), np.uint32)
        totals: I64 = np.zeros(TOTALS, np.int64)
        totals[POOL_FREE], totals[POOL_SURPLUS] = slabs, slabs - peers
        totals[QUEUE_BYTES_MAX], totals[QUEUE_ITEMS_MAX] = limits.queue_bytes, limits.queue_items
        totals[PLAIN_ITEMS_MAX], totals[PEER_MESSAGES_MAX] = limits.plain_items, limits.peer_messages
        links: I32 = np.zeros((slabs, 2), np.int32)
        links[:-1, LINK] = np.arange(1, slabs)
        links[-1, LINK] = -1
        # zeros, not empty: the pages stay unmapped until they are written, here and below.
        self._core: Core = (state, rings, totals, links, np.zeros((slabs, ITEM_BYTES_MAX), np.uint8))
        self._state, self._totals = state, totals
        self.counts: I64 = totals[:COUNTS]
        self.active: U8 = np.zeros(peers, np.uint8)
        self.congestion.active = self.active
        self.rtt_ns: I64 = state[:, RTT]
        self.rtt_min_ns: I64 = state[:, RTT_MINIMUM]
        self.rtt_latest_ns: I64 = state[:, RTT_LATEST]
        self.jitter_ns: I64 = state[:, JITTER]
        self.bandwidth_out_Bps: I64 = state[:, RATE_OUT]
        self.bandwidth_in_Bps: I64 = state[:, RATE_IN]
        self.sent_bytes: I64 = state[:, SENT_BYTES]
        self.received_bytes: I64 = state[:, RECEIVED_BYTES]
        self.in_flight_bytes: I64 = state[:, IN_FLIGHT]
        self.budget_bytes: F64 = self.congestion.columns[:, TOKENS]

    def _make_buffers(self, peers: int, batch: int) -> None:
        limits = self.limits
        self.payloads = Payloads(batch)
        self.messages = Payloads(limits.inbox_messages)
        self.messages.buffer = np.zeros(limits.inbox_bytes, np.uint8)
        packets = 2 * peers + 1024
        self.packets = Payloads(packets)
        self.packets.buffer = np.zeros(packets * PACKET_BYTES_MAX, np.uint8)
        self._events: I64 = np.zeros((2 * packets + 4 * EVENTS_PER_PACKET, EVENT_WORDS), np.int64)
        self._made: I64 = np.zeros(MADE_WORDS, np.int64)
        self._ready: Ready = (
            self.messages.buffer, np.zeros((limits.inbox_messages, NOTE_WORDS), np.int64),
            np.zeros((CLOSES_PER_BATCH, NOTE_WORDS), np.int64), self._made,
        )  # fmt: skip
        self._closes: list[tuple[int, int, str]] = []
        self._closings: U8 = np.zeros((peers, 2 + CLOSE_TEXT_BYTES_MAX), np.uint8)
        self._closing = False
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
        self._now_us = max(self._now_us, now_ns // 1000)
        self._reset(peers, 1)

    def reset(self, peers: Iterable[int] | I32) -> None:
        """Close peers at once and free all they hold; what was not delivered is counted as abandoned.

        Raises:
            NetError: There is no such peer.
        """
        self._reset(peers, 0)

    def _reset(self, peers: Iterable[int] | I32, opened: int) -> None:
        self._tell_events()
        rows = self._rows(peers)
        reset_peers(self._core, self.congestion.columns, self.active, rows, opened, self._now_us)
        if self.blocks is not None:
            for peer in rows.tolist():
                self.blocks.leave(peer)

    def _tell_events(self) -> None:
        if self._totals[EVENTS]:
            tell_events(self._blocks, self.congestion.columns, self._events, self._totals, self._now_us)

    def close(self, peer: int, code: int, text: str) -> bool:
        """Tell a peer why the connection ends, in three packets of the next `compose`; then disconnect it.

        Args:
            peer: Whom.
            code: A reason, 0 … 255.
            text: For people; beyond 200 bytes of UTF-8 it is cut.

        Returns:
            False where the peer is not open.

        Raises:
            NetError: The code is out of range.
        """
        if not 0 <= code <= 255:
            raise NetError(f"close: code is {code}; give 0 to 255")
        if not 0 <= peer < self.peers or not self.active[peer]:
            return False
        section = bytes([CLOSE | _LAST, code]) + _cut(text)
        self._closings[peer, : len(section)] = np.frombuffer(section, np.uint8)
        self._state[peer, CLOSE_BYTES] = len(section)
        self._closing = True
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
        self._made[:] = 0
        done = -1
        while done < payloads.count:
            done = receive_packets(
                self._core, self._blocks, self._events, payloads.buffer, _places(payloads), max(0, done),
                payloads.count, self._now_us, _places(self.payloads), self._ready,
            )  # fmt: skip
            self._tell_events()
        count, messages, closes, _ = self._made.tolist()
        self.payloads.count, self.payloads.buffer = count, payloads.buffer
        notes, said = self._ready[1][:messages], self._ready[2][:closes]
        self.messages.count = messages
        self.messages.client[:messages], self.messages.offset[:messages] = notes[:, 0], notes[:, 1]
        self.messages.length[:messages], self.messages.received_ns[:messages] = notes[:, 2], notes[:, 3]
        if self.blocks is not None and messages:
            self._hear_blocks(self.blocks, now_ns)
        for peer, start, size, code in said.tolist():
            text = payloads.buffer[start : start + size].tobytes().decode(errors="replace")
            self._closes.append((peer, code, text))
        return self.payloads.count

    def _hear_blocks(self, blocks: Blocks, now_ns: int) -> None:
        """Hand over what concerns blocks, and take it out of the messages."""
        messages = self.messages
        count = messages.count
        concerned = np.isin(messages.buffer[messages.offset[:count]], _CONTROL_TYPES)
        if not concerned.any():
            return
        for row in np.flatnonzero(concerned).tolist():
            blocks.handle(int(messages.client[row]), messages.payload(row), now_ns)
        rest = np.flatnonzero(~concerned)
        for column in (messages.client, messages.offset, messages.length, messages.received_ns):
            column[: len(rest)] = column[rest]
        messages.count = len(rest)

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
        return self.tell_batch(peers, np.frombuffer(bytearray(payload), np.uint8), offsets, lengths, delivery) == 1

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
        return int(tell_batch(self._core, peers, buffer, offsets, lengths, int(delivery), self._now_us))

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
        if self.blocks is not None:
            self._tell_blocks(self.blocks, now_ns)
        peer = 0
        while peer < self.peers:
            peer = sweep_peers(self._core, self._events, peer, self._now_us)
            self._tell_events()
        full, control = int(self.counts[EndpointCount.OUTGOING_FULL]), self.congestion.columns
        given: Places = (clients, offsets, lengths, self.packets.received_ns)
        out, data = _places(self.packets), self.packets.buffer
        count = compose_packets(
            self._core, self._events, control, buffer, given, len(clients), out, data, self._start,
            self._now_us,
        )  # fmt: skip
        if self._closing:
            count = compose_closings(self._core, self._closings, self._events, control, out, data, count, self._now_us)
            self._closing = bool(self._state[:, CLOSE_BYTES].any())
        if self.blocks is not None and (self._blocks[5][:, 0] >= 0).any():
            count = compose_chunks(
                self._core, self._blocks, self._events, control, out, data, count, self._start, self._now_us
            )
        self._tell_events()
        self.packets.count = int(count)
        if self.counts[EndpointCount.OUTGOING_FULL] != full:
            self._start = (self._start + self.peers // 4 + 1) % self.peers
        return self.packets.count

    def _tell_blocks(self, blocks: Blocks, now_ns: int) -> None:
        """Queue what blocks have to say; what finds no room waits, and what is for nobody is dropped."""
        blocks.advance(now_ns)
        waiting: list[tuple[int, bytes]] = []
        full: set[int] = set()
        for peer, payload in blocks.take_controls():
            if self.active[peer] and (peer in full or not self.tell(peer, payload)):
                waiting.append((peer, payload))
                full.add(peer)
        blocks.return_controls(waiting)

    def outgoing(self) -> tuple[I32, U8, I64, I32]:
        """The packets of the last `compose` as the arrays that `send` of a host or client group takes; views."""
        packets = self.packets
        count = packets.count
        return packets.client[:count], packets.buffer, packets.offset[:count], packets.length[:count]

    # -- what is known --------------------------------------------------------------------------------------------

    @property
    def loss(self) -> F64:
        """Share of our packets to each peer that were lost of late, 0 … 1; a new array, float64 (peers,)."""
        return self._state[:, LOSS] / LOSS_ONE

    @property
    def rate_Bps(self) -> F64:  # noqa: N802 # the unit's own spelling
        """What congestion control allows each peer [bytes/s], a new array, float64 (peers,)."""
        return self.congestion.rate

    def stalled(self) -> I64:
        """Peers whose reliable queue stayed full, or whose stream stayed broken, for longer than `stall_ns`; int64."""
        full, gap = self._state[:, FULL_SINCE], self._state[:, GAP_SINCE]
        # Hardly ever is there one: comparing 1,000 peers' times took 60 µs of each tick.
        waiting: I64 = np.flatnonzero(full | gap)
        if not len(waiting):
            return waiting
        since: I64 = np.stack((full[waiting], gap[waiting]))
        late = (since > 0) & (self._now_us - since >= self.limits.stall_ns // 1000)
        stalled: I64 = waiting[late.any(axis=0) & (self.active[waiting] != 0)]
        return stalled

    def statistics(self) -> dict[str, float]:
        """Counts by reason, slabs free, and means over the open peers of what is measured."""
        values: dict[str, float] = {reason.name.lower(): int(self.counts[reason]) for reason in EndpointCount}
        open_peers = self.active != 0
        values["peers_open"] = int(np.count_nonzero(open_peers))
        values["slabs_free"], values["slabs"] = int(self._totals[POOL_FREE]), len(self._core[3])
        for name in ("rtt_ns", "rtt_min_ns", "jitter_ns", "loss", "bandwidth_out_Bps", "bandwidth_in_Bps", "rate_Bps"):
            column: F64 | I64 = getattr(self, name)[open_peers]
            values[f"mean_{name}"] = float(column.mean()) if len(column) else 0.0
        return values


def _places(payloads: Payloads) -> Places:
    """Where the payloads of a batch are, as the kernels take it."""
    return payloads.client, payloads.offset, payloads.length, payloads.received_ns


def _cut(text: str) -> bytes:
    """As much of a text as a closing can say, in UTF-8."""
    return text.encode(errors="replace")[:CLOSE_TEXT_BYTES_MAX].decode(errors="ignore").encode()
