"""What the endpoint costs per packet, each way: acknowledgements, measurements, congestion control, payloads.

Each peer sends a packet of 60 bytes and gets one of 200 per tick, as in a match; nothing is encrypted and no socket is
used. Medians over ticks; `with a message` each peer is also told a reliable message of 40 bytes per tick. The reference
is no more than slicing the packets' bytes out of their arena in Python, one by one.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from net.endpoint import Endpoint
from sim.arrays import I32, I64, U8
from sim.schema import Delivery
from tools.bench.harness import Row, row

__all__ = ["run"]

PEERS = (64, 256, 1000, 10_000)
OUT_BYTES, IN_BYTES, MESSAGE_BYTES = 200, 60, 40
TICK_NS, MS = 16_666_667, 1_000_000
TICKS_FIRST, TICKS = 40, 60
REFERENCE = "a slice per packet in Python"


class _Match:
    """A server's endpoint and, in another, the other ends of all its peers."""

    def __init__(self, peers: int) -> None:
        self.now_ns = 1_000_000_000
        self.server, self.clients = Endpoint(peers, batch=2 * peers + 1024), Endpoint(peers, batch=2 * peers + 1024)
        for end in (self.server, self.clients):
            end.open(range(peers), self.now_ns)
        self._who: I32 = np.arange(peers, dtype=np.int32)
        self._bytes: U8 = np.ones(peers * OUT_BYTES, np.uint8)
        self._offsets: I64 = np.arange(peers, dtype=np.int64) * OUT_BYTES
        self._lengths = {size: np.full(peers, size, np.int32) for size in (OUT_BYTES, IN_BYTES, MESSAGE_BYTES)}

    def send(self) -> int:
        """The server's packets of a tick."""
        lengths = self._lengths[OUT_BYTES]
        return self.server.compose(self._who, self._bytes, self._offsets, lengths, self.now_ns)

    def answer(self) -> None:
        """The clients take them, and send theirs."""
        self.server.packets.received_ns[:] = self.now_ns + MS
        self.clients.receive(self.server.packets, self.now_ns + 2 * MS)
        self.clients.compose(self._who, self._bytes, self._offsets, self._lengths[IN_BYTES], self.now_ns + 3 * MS)
        self.clients.packets.received_ns[:] = self.now_ns + 4 * MS

    def receive(self) -> int:
        """The server takes the clients'."""
        self.server.receive(self.clients.packets, self.now_ns + 5 * MS)
        return self.clients.packets.count

    def slices(self) -> int:
        """The reference."""
        packets = self.server.packets
        buffer = packets.buffer
        for at, size in zip(packets.offset[: packets.count].tolist(), packets.length.tolist(), strict=False):
            buffer[at : at + size].tobytes()
        return packets.count

    def tick(self, *, told: bool) -> dict[str, float]:
        """One tick; microseconds per packet."""
        self.now_ns += TICK_NS
        if told:
            self.server.tell_batch(
                self._who, self._bytes, self._offsets, self._lengths[MESSAGE_BYTES], Delivery.RELIABLE
            )
        spent = {"out": _timed(self.send), "slices": _timed(self.slices)}
        self.answer()
        return spent | {"in": _timed(self.receive)}


def _timed(function: Callable[[], int]) -> float:
    start = time.perf_counter_ns()
    count = function()
    return (time.perf_counter_ns() - start) / 1e3 / max(1, count)


def run(_data: Sequence[Path]) -> list[Row]:
    """Measure all cases."""
    rows = []
    for peers in PEERS:
        match = _Match(peers)
        for _ in range(TICKS_FIRST):
            match.tick(told=False)
        for told, suffix in ((False, ""), (True, ", with a message")):
            ticks = [match.tick(told=told) for _ in range(TICKS)]
            spent = {name: statistics.median(tick[name] for tick in ticks) for name in ticks[0]}
            rows += [
                row(
                    f"{peers:,} peers: packet {way}{suffix}",
                    spent[way],
                    reference=REFERENCE,
                    reference_value=spent["slices"],
                )
                for way in (("out",) if told else ("out", "in"))
            ]
    return rows
