"""The endpoint's kernels and the plain endpoint do the same, byte for byte, on any network."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from net.congestion import CongestionLimits
from net.datagrams import Payloads
from net.endpoint import Endpoint, EndpointLimits
from net.endpoint_kernels import LOSS as LOSS_WORD
from net.endpoint_kernels import EndpointCount
from sim.schema import Delivery
from tests.net.endpoints import MS, batch_of, no_payloads, one_payload, start_numbers_at
from tests.reference.endpoint import EndpointTwin

LIMITS = (CongestionLimits(), CongestionLimits(rate_min=3_000.0, rate_start=6_000.0, rate_max=20_000.0))


class Side:
    """An endpoint and its twin, fed and compared step by step."""

    def __init__(self, limits: CongestionLimits, now_ns: int, start: int) -> None:
        self.end = Endpoint(1, batch=512, limits=EndpointLimits(peer_messages=8192), congestion=limits)
        self.end.open([0], now_ns)
        start_numbers_at(self.end, start)
        self.twin = EndpointTwin(limits, now_ns // 1000, first=start)

    def tell(self, payload: bytes, delivery: Delivery) -> None:
        assert self.end.tell(0, payload, delivery) == self.twin.tell(payload, delivery)

    def compose(self, payload: bytes | None, now_ns: int) -> list[bytes]:
        self.end.compose(*(one_payload(payload) if payload else no_payloads()), now_ns)
        packets = [self.end.packets.payload(row) for row in range(self.end.packets.count)]
        assert packets == self.twin.compose([payload] if payload else [], now_ns)
        return packets

    def receive(self, packets: list[tuple[bytes, int]], now_ns: int) -> None:
        batch = batch_of([packet for packet, _ in packets], now_ns)
        for row, (_, at_ns) in enumerate(packets):
            batch.received_ns[row] = at_ns
        self.end.receive(batch, now_ns)
        self.twin.receive(packets, now_ns)
        assert _contents(self.end.payloads) == self.twin.payloads
        assert _contents(self.end.messages) == self.twin.messages
        assert [(code, text) for _, code, text in self.end.take_closes()] == self.twin.closes
        self.twin.closes.clear()

    def check(self) -> None:
        """Whether counters, measurements and congestion control agree."""
        end, twin = self.end, self.twin
        assert {reason: int(end.counts[reason]) for reason in EndpointCount} == {
            reason: twin.counts[reason] for reason in EndpointCount
        }
        measured = end.rtt_ns[0], end.rtt_latest_ns[0], end.rtt_min_ns[0], end.jitter_ns[0]
        assert measured == (twin.rtt, twin.latest, twin.rtt_min, twin.jitter)
        assert end._state[0, LOSS_WORD] == twin.loss
        live = [sent.size for sent in twin.sent.values() if sent.status == "live" and sent.eliciting]
        assert end.in_flight_bytes[0] == sum(live)
        assert (end.congestion.columns[0] == twin.control[0]).all()


def _contents(payloads: Payloads) -> list[bytes]:
    return [payloads.payload(row) for row in range(payloads.count)]


def _mangle(packet: bytes, chance: random.Random) -> bytes:
    """A packet of which an authentic but hostile peer has changed a few bytes, or its length."""
    changed = bytearray(packet)
    for _ in range(chance.randrange(1, 4)):
        changed[chance.randrange(min(len(changed), 24))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(1, len(changed) + 1)]) if chance.random() < 0.3 else bytes(changed)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 1 << 30),
    loss=st.sampled_from([0.0, 0.05, 0.3, 0.7]),
    start=st.sampled_from([0, 65_450]),
    limits=st.sampled_from(LIMITS),
    hostile=st.sampled_from([0.0, 0.0, 0.1]),
)
def test_kernels_and_twin_agree(seed: int, loss: float, start: int, limits: CongestionLimits, hostile: float) -> None:
    chance = random.Random(seed)
    now, wire = 1_000_000 * MS, list[tuple[int, int, bytes]]()
    sides = [Side(limits, now, start) for _ in range(2)]
    for _ in range(150):
        now += chance.choice((1, 8, 16, 16, 16, 60, 400)) * MS + chance.randrange(1000) * 1000
        for number, side in enumerate(sides):
            for _ in range(chance.choice((0, 0, 1, 3))):
                delivery = chance.choice(list(Delivery))
                largest = 1024 if delivery != Delivery.RELIABLE else chance.choice((40, 1024, 6000))
                side.tell(chance.randbytes(chance.randrange(1, largest + 1)), delivery)
            payload = chance.randbytes(chance.choice((20, 300, 1190))) if chance.random() < 0.7 else None
            for packet in side.compose(payload, now):
                for _ in range(chance.choice((1, 1, 1, 2))):
                    if chance.random() >= loss:
                        late = chance.randrange(20, 60) * MS if chance.random() < 0.9 else 200 * MS
                        sent = _mangle(packet, chance) if chance.random() < hostile else packet
                        wire.append((now + late, 1 - number, sent))
        wire.sort(key=lambda entry: entry[0])
        for number, side in enumerate(sides):
            arrived = [(packet, at) for at, taker, packet in wire if taker == number and at <= now]
            side.receive(arrived, now)
        wire = [entry for entry in wire if entry[0] > now]
        for side in sides:
            side.check()
