"""Flows that share one bottleneck, in virtual time: what congestion control is judged by.

A sender composes at ticks: what its game makes, always, and as much bulk as its budget allows. Packets pass a queue of
`rate` bytes per second that drops what would wait longer than `queue_s`, then a path of its own.
The receiver answers at its own ticks with the newest sequence and the 32 before it. As in the endpoint, a packet is
lost when one sent three later is acknowledged and 9/8 of a round trip have passed, or when none was for long.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from net.congestion import Congestion, CongestionLimits
from net.congestion_kernels import on_ack, on_loss, on_send, refill

__all__ = ["Bottleneck", "Controller", "Download", "Flow", "Kernels", "Mixed", "Path", "jain"]

SECOND = 1_000_000
PACKET = 1_050
OVERHEAD = 28 + 33  # of UDP, IP and netcode


class Controller(Protocol):
    """What is tested, for all flows."""

    def on_send(self, peer: int, size: int, now: int) -> None: ...
    def on_ack(self, peer: int, size: int, sent: int, now: int, rtt: int) -> None: ...
    def on_loss(self, peer: int, size: int, now: int) -> None: ...
    def refill(self, peer: int, now: int) -> float: ...
    def rate(self, peer: int) -> float: ...
    def share(self, now: int) -> None: ...


class Kernels:
    """The kernels of `net.congestion_kernels`; `clocks` says how far each flow's clock is ahead [µs]."""

    def __init__(self, peers: int, limits: CongestionLimits | None = None, clocks: Sequence[int] | None = None) -> None:
        self.congestion = Congestion(peers, limits=limits)
        self.clocks = clocks or [0] * peers
        for peer in range(peers):
            self.congestion.reset(peer, self.clocks[peer] * 1000)
        self.columns = self.congestion.columns

    def on_send(self, peer: int, size: int, now: int) -> None:
        on_send(self.columns, peer, size, now + self.clocks[peer])

    def on_ack(self, peer: int, size: int, sent: int, now: int, rtt: int) -> None:
        ahead = self.clocks[peer]
        on_ack(self.columns, peer, size, sent + ahead, now + ahead, rtt)

    def on_loss(self, peer: int, size: int, now: int) -> None:
        on_loss(self.columns, peer, size, now + self.clocks[peer])

    def refill(self, peer: int, now: int) -> float:
        return refill(self.columns, peer, now + self.clocks[peer])

    def rate(self, peer: int) -> float:
        return float(self.congestion.rate[peer])

    def share(self, now: int) -> None:
        if not any(self.clocks):  # otherwise they are senders that know nothing of each other
            self.congestion.share(now * 1000)


class Download:
    """Additive increase, multiplicative decrease on loss alone, as a TCP download; fills whatever queue there is."""

    def __init__(self, peers: int) -> None:
        self.rates, self.tokens, self.srtt = [64_000.0] * peers, [0.0] * peers, [0.0] * peers
        self.filled, self.halved, self.slow_start = [0] * peers, [0] * peers, [True] * peers
        self.sent_at = 0

    def on_send(self, peer: int, size: int, now: int) -> None:
        self.tokens[peer] -= size
        self.sent_at = now

    def on_ack(self, peer: int, size: int, sent: int, now: int, rtt: int) -> None:
        assert sent <= now
        if rtt > 0:
            self.srtt[peer] += (rtt - self.srtt[peer]) * (0.125 if self.srtt[peer] else 1.0)
        round_trip = max(self.srtt[peer], 1_000.0) / SECOND
        additive = size * PACKET / (self.rates[peer] * round_trip**2)  # a packet more per round trip
        self.rates[peer] += size / round_trip / 2 if self.slow_start[peer] else additive

    def on_loss(self, peer: int, size: int, now: int) -> None:
        assert size > 0
        if now - self.halved[peer] > 1.25 * self.srtt[peer]:
            self.rates[peer] = max(4_000.0, self.rates[peer] / 2)
            self.halved[peer], self.slow_start[peer] = now, False

    def refill(self, peer: int, now: int) -> float:
        more = self.rates[peer] * (now - self.filled[peer]) / SECOND
        self.tokens[peer] = min(max(self.rates[peer] * 0.06, 2_400.0), self.tokens[peer] + more)
        self.filled[peer] = now
        return self.tokens[peer]

    def rate(self, peer: int) -> float:
        return self.rates[peer]

    def share(self, now: int) -> None:
        pass


class Mixed:
    """The kernels for the first flow, downloads for the others."""

    def __init__(self, peers: int) -> None:
        self.game, self.others = Kernels(1), Download(peers)

    def _of(self, peer: int) -> "Controller":
        return self.others if peer else self.game

    def on_send(self, peer: int, size: int, now: int) -> None:
        self._of(peer).on_send(peer, size, now)

    def on_ack(self, peer: int, size: int, sent: int, now: int, rtt: int) -> None:
        self._of(peer).on_ack(peer, size, sent, now, rtt)

    def on_loss(self, peer: int, size: int, now: int) -> None:
        self._of(peer).on_loss(peer, size, now)

    def refill(self, peer: int, now: int) -> float:
        return self._of(peer).refill(peer, now)

    def rate(self, peer: int) -> float:
        return self._of(peer).rate(peer)

    def share(self, now: int) -> None:
        pass


@dataclass
class Path:
    """What one flow's packets meet besides the queue, times in µs; `jitter` is uniform around `delay`, both ways."""

    delay: int = 25_000
    jitter: int = 0
    loss: float = 0.0
    burst: tuple[int, int] = (0, 1)  # nothing passes for the first [µs] of each second [µs]
    step: tuple[int, int] = (0, 0)  # at a time, the delay grows by so much


@dataclass
class Flow:
    """One sender and its receiver, and what happened to it."""

    path: Path = field(default_factory=Path)
    start: int = 0
    stop: int = 10**12
    game: int = 0  # bytes per tick that are always sent
    bulk: bool = True
    tick: int = 16_667
    sequence: int = 0
    flying: dict[int, tuple[int, int]] = field(default_factory=dict)  # by sequence: when, bytes
    seen: list[tuple[int, int]] = field(default_factory=list)  # of the receiver: sequence, when
    newest: int = -1
    srtt: float = 200_000.0
    acked_at: int = 0
    lost: list[int] = field(default_factory=list)  # when
    departed: list[int] = field(default_factory=list)  # when
    delivered: list[tuple[int, int]] = field(default_factory=list)  # when, bytes
    game_delays: list[tuple[int, int]] = field(default_factory=list)  # when sent, one way


class Bottleneck:
    """Runs flows through one queue; the outcome stands in the flows and in `queued`."""

    def __init__(
        self, flows: Sequence[Flow], controller: Controller, *, rate: float, queue_s: float, seed: int
    ) -> None:
        self.flows, self.controller = list(flows), controller
        self.rate, self.queue_s = rate, queue_s
        self.random = random.Random(seed)
        self.free_at = 0.0
        self.events: list[tuple[int, int, Callable[[int], None]]] = []
        self.serial = 0
        self.queued: list[tuple[int, float]] = []
        for index, flow in enumerate(self.flows):
            offset = self.random.randrange(flow.tick)
            self._at(flow.start + offset, partial(self._tick, index))
            self._at(flow.start + self.random.randrange(flow.tick), partial(self._answer, index))

    def _at(self, when: int, what: Callable[[int], None]) -> None:
        self.serial += 1
        heapq.heappush(self.events, (when, self.serial, what))

    def run(self, seconds: float) -> None:
        """Until that time."""
        end = round(seconds * SECOND)
        while self.events and self.events[0][0] <= end:
            now, _, what = heapq.heappop(self.events)
            what(now)

    def _tick(self, index: int, now: int) -> None:
        flow = self.flows[index]
        if now >= flow.stop:
            return
        self.controller.share(now)
        self._probe(index, now)
        budget = self.controller.refill(index, now)
        if flow.game:
            self._send(index, flow.game, now, game=True)
            budget -= flow.game
        for _ in range(16 if flow.bulk else 0):
            if budget <= 0:
                break
            self._send(index, PACKET, now)
            budget -= PACKET
        self._at(now + flow.tick + self.random.randrange(-1000, 1000), partial(self._tick, index))

    def _delay(self, flow: Flow, now: int) -> int | None:
        path = flow.path
        if self.random.random() < path.loss or now % path.burst[1] < path.burst[0]:
            return None
        more = path.step[1] if path.step[1] and now >= path.step[0] else 0
        return max(1_000, path.delay + more + round(self.random.uniform(-path.jitter, path.jitter)))

    def _send(self, index: int, size: int, now: int, *, game: bool = False) -> None:
        flow = self.flows[index]
        sequence, flow.sequence = flow.sequence, flow.sequence + 1
        flow.flying[sequence] = now, size
        flow.departed.append(now)
        self.controller.on_send(index, size, now)
        begin = max(float(now), self.free_at)
        self.queued.append((now, begin - now))
        if (begin - now) / SECOND > self.queue_s:
            return
        self.free_at = begin + (size + OVERHEAD) * SECOND / self.rate
        delay = self._delay(flow, now)
        if delay is not None:
            self._at(round(self.free_at) + delay, lambda later: self._arrive(index, sequence, size, now, game, later))

    def _arrive(self, index: int, sequence: int, size: int, sent: int, game: bool, now: int) -> None:
        flow = self.flows[index]
        flow.delivered.append((now, size))
        if game:
            flow.game_delays.append((sent, now - sent))
        flow.seen.append((sequence, now))
        flow.newest = max(flow.newest, sequence)
        flow.seen = [entry for entry in flow.seen if entry[0] >= flow.newest - 32]
        if len(flow.seen) % 16 == 0:
            self._reply(index, now)

    def _answer(self, index: int, now: int) -> None:
        flow = self.flows[index]
        self._reply(index, now)
        if now < flow.stop:
            self._at(now + flow.tick, partial(self._answer, index))

    def _reply(self, index: int, now: int) -> None:
        flow = self.flows[index]
        delay = self._delay(flow, now)
        if delay is not None and flow.seen:
            age = next(now - when for sequence, when in flow.seen if sequence == flow.newest)
            newest, seen = flow.newest, [sequence for sequence, _ in flow.seen]
            self._at(now + delay, lambda later: self._acks(index, newest, seen, age, later))

    def _acks(self, index: int, newest: int, seen: list[int], age: int, now: int) -> None:
        flow = self.flows[index]
        if newest in flow.flying:
            rtt = max(1, now - flow.flying[newest][0] - age)
            flow.srtt += (rtt - flow.srtt) * 0.125
        flow.acked_at = now
        for sequence in sorted(seen):
            if sequence in flow.flying:
                sent, size = flow.flying.pop(sequence)
                rtt = max(1, now - sent - age) if sequence == newest and age < 64_000 else 0
                self.controller.on_ack(index, size, sent, now, rtt)
        self._lose(index, newest, now)

    def _lose(self, index: int, newest: int, now: int) -> None:
        flow = self.flows[index]
        gone = [
            sequence
            for sequence, (sent, _) in flow.flying.items()
            if (sequence <= newest - 3 and now - sent > 1.125 * flow.srtt) or sequence < newest - 32
        ]
        for sequence in gone:
            _, size = flow.flying.pop(sequence)
            flow.lost.append(now)
            self.controller.on_loss(index, size, now)

    def _probe(self, index: int, now: int) -> None:
        flow = self.flows[index]
        late = 2 * flow.srtt + 100_000
        gone = [sequence for sequence, (sent, _) in flow.flying.items() if now - max(sent, flow.acked_at) > late]
        for sequence in gone:
            _, size = flow.flying.pop(sequence)
            flow.lost.append(now)
            self.controller.on_loss(index, size, now)

    def goodput(self, since: float, until: float) -> list[float]:
        """Bytes per second that arrived, by flow."""
        return [
            sum(size for when, size in flow.delivered if since * SECOND <= when < until * SECOND) / (until - since)
            for flow in self.flows
        ]

    def loss(self, since: float) -> float:
        """Share of packets that were lost."""
        lost = sum(when >= since * SECOND for flow in self.flows for when in flow.lost)
        return lost / max(1, sum(when >= since * SECOND for flow in self.flows for when in flow.departed))

    def utilisation(self, since: float, until: float) -> float:
        """Share of the bottleneck's rate that carried packets which arrived."""
        packets = sum(since * SECOND <= when < until * SECOND for flow in self.flows for when, _ in flow.delivered)
        return (sum(self.goodput(since, until)) + packets * OVERHEAD / (until - since)) / self.rate

    def queue_ms(self, since: float, share: float, until: float = 1e9) -> float:
        """A percentile of the queueing delay that packets met [ms]."""
        waits = [wait for when, wait in self.queued if since * SECOND <= when < until * SECOND]
        return float(np.percentile(waits, share)) / 1000


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 where all are equal, 1/n where one has everything."""
    return sum(values) ** 2 / (len(values) * sum(value * value for value in values))
