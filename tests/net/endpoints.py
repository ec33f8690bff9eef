"""Two endpoints and a bad network between them, in virtual time: no host, no encryption, no sockets."""

import numpy as np

from net.blocks import Blocks
from net.congestion import CongestionLimits
from net.datagrams import DATAGRAM_BYTES, Datagrams, Payloads
from net.endpoint import Endpoint, EndpointLimits
from net.endpoint_kernels import (
    FIRST_SEQ,
    IN_MISSING,
    IN_NEXT,
    ITEM_BASE,
    ITEM_NEXT,
    NEXT_SEQ,
    NUMBER_OUT,
    OLDEST,
    EndpointCount,
)
from net.simulator import Link, NetworkProfile
from sim.arrays import I32, I64, U8

__all__ = ["MS", "NOWHERE", "SECOND", "Pair", "batch_of", "counted", "no_payloads", "one_payload", "start_numbers_at"]

MS, SECOND = 1_000_000, 1_000_000_000
NOWHERE = np.zeros(3, np.uint64)
FAST = CongestionLimits(rate_min=200_000.0, rate_start=500_000.0, rate_max=1_250_000.0)


def no_payloads() -> tuple[I32, U8, I64, I32]:
    """No application payload, as `compose` takes it."""
    return np.zeros(0, np.int32), np.zeros(1, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int32)


def one_payload(payload: bytes, peer: int = 0) -> tuple[I32, U8, I64, I32]:
    """One application payload."""
    return (
        np.array([peer], np.int32),
        np.frombuffer(payload, np.uint8),
        np.zeros(1, np.int64),
        np.array([len(payload)], np.int32),
    )


def batch_of(packets: list[bytes], now_ns: int, peer: int = 0) -> Payloads:
    """Packets that have just arrived from a peer."""
    batch = Payloads(max(1, len(packets)))
    batch.buffer = np.frombuffer(b"".join(packets) or b"\0", np.uint8).copy()
    batch.count, at = len(packets), 0
    for row, packet in enumerate(packets):
        batch.client[row], batch.offset[row], batch.length[row] = peer, at, len(packet)
        batch.received_ns[row] = now_ns
        at += len(packet)
    return batch


def counted(endpoint: Endpoint) -> dict[EndpointCount, int]:
    """What an endpoint has counted, without zeros."""
    return {reason: int(endpoint.counts[reason]) for reason in EndpointCount if endpoint.counts[reason]}


def start_numbers_at(endpoint: Endpoint, number: int) -> None:
    """Let an endpoint's streams begin close to where their 16-bit numbers wrap around, in both directions."""
    for word in (NEXT_SEQ, FIRST_SEQ, OLDEST, ITEM_BASE, ITEM_NEXT, NUMBER_OUT, IN_NEXT, IN_MISSING):
        endpoint._state[:, word] = number


class Pair:
    """An endpoint with one peer on either side, and a link each way.

    Attributes:
        ends: The two endpoints.
        messages: Reliable messages that have arrived at each.
        payloads: Unreliable ones.
        closes: What was said at the end.
        packets: Copies of all packets each has sent.
    """

    def __init__(
        self,
        profile: NetworkProfile,
        *,
        seed: int = 1,
        limits: EndpointLimits | None = None,
        congestion: CongestionLimits | None = FAST,
        blocks: tuple[Blocks | None, Blocks | None] = (None, None),
    ) -> None:
        self.now_ns = 1000 * SECOND
        self.ends = tuple(Endpoint(1, batch=2048, limits=limits, congestion=congestion, blocks=each) for each in blocks)
        self.links = tuple(Link(profile, seed=2 * seed + side) for side in (0, 1))
        self.messages: tuple[list[bytes], list[bytes]] = ([], [])
        self.payloads: tuple[list[bytes], list[bytes]] = ([], [])
        self.packets: tuple[list[bytes], list[bytes]] = ([], [])
        self.closes: tuple[list[tuple[int, int, str]], list[tuple[int, int, str]]] = ([], [])
        self._arrived = Datagrams(2048)
        for end in self.ends:
            end.open([0], self.now_ns)

    def step(self, elapsed_ns: int = 16 * MS, *, payloads: tuple[bytes | None, bytes | None] = (None, None)) -> None:
        """Let time pass, let both send, and deliver what has arrived."""
        self.now_ns += elapsed_ns
        for side, payload in enumerate(payloads):
            end = self.ends[side]
            end.compose(*(one_payload(payload) if payload else no_payloads()), self.now_ns)
            sent = Datagrams(max(1, end.packets.count))
            for row in range(end.packets.count):
                packet = end.packets.payload(row)
                self.packets[side].append(packet)
                sent.append(packet, NOWHERE, peer=0)
            self.links[side].push(sent, self.now_ns)
        for side in (0, 1):
            self.links[1 - side].pull(self._arrived, self.now_ns)
            self._take(side)

    def _take(self, side: int) -> None:
        arrived, end = self._arrived, self.ends[side]
        batch = Payloads(max(1, arrived.count))
        batch.count, batch.buffer = arrived.count, arrived.flat
        batch.offset[: arrived.count] = np.arange(arrived.count) * DATAGRAM_BYTES
        batch.length[: arrived.count] = arrived.length[: arrived.count]
        batch.received_ns[: arrived.count] = arrived.received_ns[: arrived.count]
        end.receive(batch, self.now_ns)
        self.messages[side].extend(end.messages.payload(row) for row in range(end.messages.count))
        self.payloads[side].extend(end.payloads.payload(row) for row in range(end.payloads.count))
        self.closes[side].extend(end.take_closes())

    def run(self, seconds: float, *, payloads: tuple[bytes | None, bytes | None] = (None, None)) -> None:
        """Step for a while."""
        for _ in range(round(seconds * SECOND / (16 * MS))):
            self.step(payloads=payloads)
