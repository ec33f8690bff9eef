"""Blocks over a transport that loses, repeats and reorders their chunks."""

import random
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.block_limits import BLOCK_BYTES_MAX, SERVER_BLOCK_LIMITS, BlockLimits
from net.blocks import Answer, BlockControl, Blocks, FinishedBlock, Outcome, ReceivedBlock, block_digest
from net.blocks_kernels import (
    CHUNK_BYTES,
    CHUNK_HEAD_BYTES,
    GENERATIONS,
    chunk_bytes,
    chunk_fits,
    chunk_settled,
    has_chunk,
    next_chunk,
    take_chunk,
    write_chunk,
)
from net.errors import NetError

SECOND = 1_000_000_000


def content(size: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


class Wire:
    """Two sides, A and B, that know each other as peer 1 and peer 2; chunk packets go astray by the shares given."""

    def __init__(
        self, seed: int = 0, *, lose: float = 0.0, mistake: float = 0.0, repeat: float = 0.0, shuffle: bool = False
    ) -> None:
        self.random = random.Random(seed)
        self.lose, self.mistake, self.repeat, self.shuffle = lose, mistake, repeat, shuffle
        self.a, self.b = Blocks(3), Blocks(3)
        self.now = SECOND
        self.received: dict[str, list[ReceivedBlock]] = {"a": [], "b": []}
        self.finished: dict[str, list[FinishedBlock]] = {"a": [], "b": []}
        self.chunks_sent = 0
        self.late: list[tuple[Blocks, int]] = []

    def sides(self) -> Iterator[tuple[str, Blocks, int, Blocks, int]]:
        """Sender, the receiver's number at the sender, receiver, the sender's number at the receiver."""
        yield "a", self.a, 2, self.b, 1
        yield "b", self.b, 1, self.a, 2

    def controls(self) -> None:
        for _, sender, _, receiver, number in self.sides():
            for _, payload in sender.take_controls():
                assert receiver.handle(number, payload, self.now)

    def chunks(self, packets: int = 16) -> None:
        for _, sender, peer, receiver, number in self.sides():
            flying = []
            for _ in range(packets):
                announced = has_chunk(sender.arrays, peer)
                reference = next_chunk(sender.arrays, peer)
                assert announced == (reference >= 0)
                if reference < 0:
                    break
                packet = np.zeros(1100, dtype=np.uint8)
                length = write_chunk(sender.arrays, reference, packet, 10)
                assert length == chunk_bytes(sender.arrays, reference)
                self.chunks_sent += 1
                flying += [(reference, packet, length)] * (2 if self.random.random() < self.repeat else 1)
            if self.shuffle:
                self.random.shuffle(flying)
            for reference, packet, length in flying:
                self._carry(sender, receiver, number, reference, packet, length)
        # Packets that counted as lost are acknowledged after all.
        while self.late and self.random.random() < 0.5:
            sender, reference = self.late.pop(0)
            chunk_settled(sender.arrays, reference, True)

    def _carry(
        self, sender: Blocks, receiver: Blocks, number: int, reference: int, packet: np.ndarray, length: int
    ) -> None:
        fate = self.random.random()
        if fate < self.lose:
            chunk_settled(sender.arrays, reference, False)
            return
        block, index, size = (int(packet[at]) | int(packet[at + 1]) << 8 for at in (10, 12, 14))
        assert size == length - CHUNK_HEAD_BYTES
        assert take_chunk(receiver.arrays, number, block, index, packet, 16, size)
        if fate < self.lose + self.mistake:
            chunk_settled(sender.arrays, reference, False)
            self.late.append((sender, reference))
        else:
            chunk_settled(sender.arrays, reference, True)

    def step(self, packets: int = 16) -> None:
        self.now += SECOND // 60
        self.controls()
        self.chunks(packets)
        for name, blocks in (("a", self.a), ("b", self.b)):
            self.received[name] += blocks.take_received()
            self.finished[name] += blocks.take_finished()
            blocks.advance(self.now)

    def run(self, steps: int = 20_000) -> None:
        """Until nothing is under way."""
        for _ in range(steps):
            self.step()
            if not (self.a.progress() or self.b.progress()):
                return
        raise AssertionError("blocks never arrived")


def test_a_block_arrives_and_both_sides_know() -> None:
    wire = Wire()
    data = content(3000)
    number = wire.a.send(2, data, tag=77, now_ns=wire.now)
    wire.run()
    assert wire.received == {"a": [], "b": [ReceivedBlock(1, 77, data)]}
    assert wire.finished["a"] == [FinishedBlock(number, 2, 77, Outcome.DELIVERED)]
    assert wire.chunks_sent == 3
    assert wire.a.statistics()["send_bytes"] == wire.b.statistics()["receive_bytes"] == 0


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    sizes=st.lists(st.integers(1, 80_000) | st.sampled_from([1, 1023, 1024, 1025, 32_768, 32_769]), max_size=4),
    back=st.integers(1, 50_000),
    lose=st.floats(0, 0.4),
)
def test_blocks_arrive_exact_and_once_whatever_the_transport_does(
    seed: int, sizes: list[int], back: int, lose: float
) -> None:
    wire = Wire(seed, lose=lose, mistake=0.2, repeat=0.2, shuffle=True)
    sent = [content(size, index) for index, size in enumerate(sizes)]
    for index, data in enumerate(sent):
        wire.a.send(2, data, tag=index, now_ns=wire.now)
    answer = content(back, 99)
    wire.b.send(1, answer, tag=9, now_ns=wire.now)
    wire.run()
    assert sorted((block.tag, block.content) for block in wire.received["b"]) == list(enumerate(sent))
    assert wire.received["a"] == [ReceivedBlock(2, 9, answer)]
    assert all(entry.outcome == Outcome.DELIVERED for entry in wire.finished["a"] + wire.finished["b"])


def test_only_what_was_lost_is_sent_again() -> None:
    wire = Wire(3, lose=0.3)
    wire.a.send(2, content(1000 * CHUNK_BYTES), tag=0, now_ns=wire.now)
    wire.run()
    assert wire.chunks_sent == 1000 + wire.a.statistics()["chunks_lost"]
    assert wire.b.statistics()["chunks_stored"] == 1000


def test_sixteen_mebibytes_arrive() -> None:
    wire = Wire(5, lose=0.02, shuffle=True)
    data = content(BLOCK_BYTES_MAX)
    wire.a.send(2, data, tag=1, now_ns=wire.now, digest=block_digest(data))
    for _ in range(400):
        wire.step(packets=64)
    assert wire.received["b"] == [ReceivedBlock(1, 1, data)]


def test_progress_only_grows_and_ends_at_the_size() -> None:
    wire = Wire(7, lose=0.2)
    size = 100_500
    number = wire.a.send(2, content(size), tag=4, now_ns=wire.now)
    seen = []
    while progress := wire.a.progress():
        assert [(entry.transfer, entry.peer, entry.tag, entry.size) for entry in progress] == [(number, 2, 4, size)]
        seen.append(progress[0].done_bytes)
        wire.now += SECOND // 60
        wire.controls()
        wire.chunks(5)
        wire.a.take_finished()
    assert seen == sorted(seen) and seen[0] == 0 and len(set(seen)) > 10
    assert wire.b.progress()[0].done_bytes == size
    assert wire.b.take_received()[0].content == content(size)


def test_no_chunk_goes_before_the_offer_was_accepted() -> None:
    wire = Wire()
    wire.a.send(2, content(10), tag=0, now_ns=wire.now)
    assert next_chunk(wire.a.arrays, 2) == -1
    ((_, offer),) = wire.a.take_controls()
    wire.b.handle(1, offer, wire.now)
    assert next_chunk(wire.a.arrays, 2) == -1
    ((_, answer),) = wire.b.take_controls()
    wire.a.handle(2, answer, wire.now)
    assert next_chunk(wire.a.arrays, 1) == -1
    assert next_chunk(wire.a.arrays, 2) == 0


@pytest.mark.parametrize(
    ("limits", "sizes", "answer"),
    [
        (BlockLimits(receive_bytes=2000), [2000, 2001], Answer.TOO_LARGE),
        (BlockLimits(receive_bytes=0), [1], Answer.TOO_LARGE),
        (BlockLimits(receive_per_peer=2), [5000] * 3, Answer.TOO_MANY),
        (BlockLimits(receive_total_bytes=10_000), [6000, 6000], Answer.NO_ROOM),
        (BlockLimits(receive_transfers=1), [6000, 6000], Answer.NO_ROOM),
    ],
)
def test_a_receiver_refuses_what_its_limits_do_not_allow(limits: BlockLimits, sizes: list[int], answer: Answer) -> None:
    wire = Wire()
    wire.b = Blocks(3, limits=limits)
    numbers = [wire.a.send(2, content(size), tag=0, now_ns=wire.now) for size in sizes]
    wire.run()
    *delivered, refused = sorted(wire.finished["a"], key=lambda entry: entry.transfer)
    assert refused == FinishedBlock(numbers[-1], 2, 0, Outcome.REFUSED, answer)
    assert [len(block.content) for block in wire.received["b"]] == sizes[:-1]
    assert all(entry.outcome == Outcome.DELIVERED for entry in delivered)
    assert wire.b.statistics()["receive_bytes"] == 0


def test_a_server_holds_little_for_a_client_that_offers_much() -> None:
    server = Blocks(2, limits=SERVER_BLOCK_LIMITS)
    for block in range(5000):
        for size in (64 << 10, 1 << 30, 0, 2**32 - 1):
            offer = bytes([BlockControl.OFFER]) + block.to_bytes(2, "little") + size.to_bytes(4, "little") + bytes(21)
            assert server.handle(0, offer, SECOND)
    statistics = server.statistics()
    assert statistics["receiving"] == SERVER_BLOCK_LIMITS.receive_per_peer
    assert statistics["receive_bytes"] == SERVER_BLOCK_LIMITS.receive_per_peer * (64 << 10)
    assert len(server.take_controls()) == SERVER_BLOCK_LIMITS.controls
    assert statistics["dropped_controls"] == 20_000 - SERVER_BLOCK_LIMITS.controls


@pytest.mark.parametrize(
    ("data", "limits", "says"),
    [
        (b"", {}, "0 bytes, allowed are 1 to 16777216"),
        (bytes(BLOCK_BYTES_MAX + 1), {}, "16777217 bytes, allowed are 1 to 16777216"),
        (bytes(11), {"send_bytes": 10}, "11 bytes, allowed are 1 to 10"),
        (bytes(11), {"send_per_peer": 1}, "1 are being sent to it already, allowed are 1"),
        (bytes(11), {"send_transfers": 1}, "1 are being sent already"),
        (bytes(11), {"send_total_bytes": 20}, "10 bytes are being sent already and 11 more"),
    ],
)
def test_a_block_that_cannot_go_is_refused_at_the_call_with_the_numbers(
    data: bytes, limits: dict[str, int], says: str
) -> None:
    blocks = Blocks(2, limits=BlockLimits(**limits))
    blocks.send(0, bytes(10), tag=0, now_ns=0)
    with pytest.raises(NetError, match=says):
        blocks.send(0, data, tag=0, now_ns=0)
    assert blocks.statistics()["offered"] == 1


def test_one_content_for_many_peers_counts_once() -> None:
    blocks = Blocks(9, limits=BlockLimits(send_total_bytes=5000))
    data = content(5000)
    numbers = [blocks.send(peer, data, tag=0, now_ns=0) for peer in range(8)]
    assert blocks.statistics()["send_bytes"] == 5000
    for number in numbers:
        blocks.cancel(number)
    assert blocks.statistics()["send_bytes"] == 0


@pytest.mark.parametrize(
    "arguments", [{"peer": -1}, {"peer": 2}, {"tag": -1}, {"tag": 2**32}, {"content": bytearray(3)}, {"digest": b"x"}]
)
def test_a_wrong_call_is_refused(arguments: dict[str, object]) -> None:
    blocks = Blocks(2)
    options: dict[str, object] = {"peer": 0, "content": b"x", "tag": 0, "now_ns": 0}
    with pytest.raises(NetError):
        blocks.send(**(options | arguments))  # type: ignore[arg-type]  # the wrong types are the point
    assert blocks.take_controls() == []


@pytest.mark.parametrize("limits", [{"send_bytes": 0}, {"send_transfers": 257}, {"receive_bytes": 1 << 25}])
def test_a_limit_out_of_its_range_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(NetError, match=next(iter(limits))):
        Blocks(2, limits=BlockLimits(**limits))
    with pytest.raises(NetError, match="peers"):
        Blocks(0)


def test_a_cancelled_block_is_forgotten_on_both_sides() -> None:
    wire = Wire()
    number = wire.a.send(2, content(50_000), tag=6, now_ns=wire.now)
    wire.step(1)
    wire.step(1)
    assert wire.b.progress()
    assert wire.a.cancel(number)
    assert not wire.a.cancel(number)
    wire.step()
    assert wire.finished["a"] == [FinishedBlock(number, 2, 6, Outcome.CANCELLED)]
    assert not wire.a.progress() and not wire.b.progress()
    assert wire.b.statistics()["receive_bytes"] == 0


def test_chunks_of_a_block_that_has_ended_are_acknowledged_and_change_nothing() -> None:
    blocks = Blocks(2)
    data = np.zeros(100, dtype=np.uint8)
    assert take_chunk(blocks.arrays, 1, 5, 0, data, 0, 100)
    assert blocks.statistics()["chunks_unknown"] == 1


def test_a_reference_of_an_ended_transfer_is_void() -> None:
    blocks = Blocks(2, limits=BlockLimits(send_transfers=1))
    old: list[int] = []
    for turn in range(GENERATIONS):
        number = blocks.send(1, content(3000), tag=0, now_ns=0)
        blocks.handle(1, bytes([BlockControl.ANSWER, turn & 255, turn >> 8, Answer.ACCEPTED]), 0)
        for reference in old:
            chunk_settled(blocks.arrays, reference, True)
            chunk_settled(blocks.arrays, reference, False)
        assert blocks.progress()[0].done_bytes == 0
        assert next_chunk(blocks.arrays, 1) & 0x3FFF == 0
        old.append(next_chunk(blocks.arrays, 1))
        assert 0 <= old[-1] < 2**31
        blocks.cancel(number)
    assert len(set(old)) == GENERATIONS


def test_a_peer_that_leaves_takes_its_transfers_along() -> None:
    wire = Wire()
    number = wire.a.send(2, content(50_000), tag=0, now_ns=wire.now)
    wire.b.send(1, content(60_000), tag=1, now_ns=wire.now)
    wire.step(1)
    wire.step(1)
    reference = next_chunk(wire.a.arrays, 2)
    assert reference >= 0
    wire.a.leave(2)
    wire.a.send(1, content(70_000), tag=2, now_ns=wire.now)
    assert wire.a.take_finished() == [FinishedBlock(number, 2, 0, Outcome.PEER_LEFT)]
    chunk_settled(wire.a.arrays, reference, True)
    assert [entry.done_bytes for entry in wire.a.progress()] == [0]
    statistics = wire.a.statistics()
    assert statistics["receiving"] == statistics["receive_bytes"] == 0
    assert all(peer == 1 for peer, _ in wire.a.take_controls())


def test_a_block_with_another_digest_is_not_delivered() -> None:
    wire = Wire()
    wire.a.send(2, content(5000), tag=0, now_ns=wire.now, digest=bytes(16))
    for _ in range(4):
        wire.step()
    assert wire.received["b"] == []
    assert wire.b.statistics()["not_whole"] == 1 and wire.b.statistics()["receive_bytes"] == 0
    assert wire.a.statistics()["stray_controls"] == 1


def test_a_transfer_without_progress_ends_on_both_sides() -> None:
    wire = Wire()
    wire.a = Blocks(3, limits=BlockLimits(idle_ns=10 * SECOND))
    wire.b = Blocks(3, limits=BlockLimits(idle_ns=5 * SECOND))
    first = wire.a.send(2, content(50_000), tag=0, now_ns=wire.now)
    second = wire.a.send(2, content(50_000), tag=1, now_ns=wire.now)
    for _ in range(9):  # one chunk a second keeps both alive, the one that waits too
        wire.now += SECOND
        wire.step(1)
    assert len(wire.a.progress()) == len(wire.b.progress()) == 2
    for _ in range(5):
        wire.now += SECOND
        wire.b.advance(wire.now)
    assert not wire.b.progress() and wire.b.statistics()["timed_out"] == 2
    wire.step(0)
    assert [(entry.transfer, entry.outcome, entry.answer) for entry in wire.finished["a"]] == [
        (first, Outcome.REFUSED, Answer.TIMED_OUT),
        (second, Outcome.REFUSED, Answer.TIMED_OUT),
    ]
    third = wire.a.send(2, content(10), tag=2, now_ns=wire.now)
    wire.a.take_controls()  # the offer goes astray
    wire.now += 10 * SECOND
    wire.a.advance(wire.now)
    assert wire.a.take_finished() == [FinishedBlock(third, 2, 2, Outcome.TIMED_OUT)]
    assert wire.a.take_controls()[0][1][0] == BlockControl.CANCEL


def test_a_chunk_of_a_size_or_place_that_its_block_has_not_is_malformed() -> None:
    wire = Wire()
    wire.a.send(2, content(2500), tag=0, now_ns=wire.now)
    wire.controls()
    wire.controls()
    data = np.zeros(2000, dtype=np.uint8)
    wrong = [(3, 452), (2, 1024), (2, 451), (0, 1023), (0, 1025), (-1, 1024), (0, 0), (16_384, 1), (65_535, 1024)]
    for index, length in wrong:
        assert not chunk_fits(wire.b.arrays, 1, 0, index, length)
        assert not take_chunk(wire.b.arrays, 1, 0, index, data, 0, length)
    assert not take_chunk(wire.b.arrays, 1, 0, 0, data, 1000, 1024)
    assert wire.b.statistics()["chunks_malformed"] == len(wrong) + 1
    assert wire.b.progress()[0].done_bytes == 0
    assert take_chunk(wire.b.arrays, 1, 0, 2, data, 1548, 452)


def test_a_chunk_is_not_written_beyond_the_packet() -> None:
    wire = Wire()
    wire.a.send(2, content(2500), tag=0, now_ns=wire.now)
    wire.controls()
    wire.controls()
    reference = next_chunk(wire.a.arrays, 2)
    packet = np.full(1200, 7, dtype=np.uint8)
    assert write_chunk(wire.a.arrays, reference, packet, 1200 - 1029) == 0
    assert write_chunk(wire.a.arrays, reference, packet, -1) == 0
    assert (packet == 7).all()
    assert write_chunk(wire.a.arrays, reference, packet, 1200 - 1030) == 1030


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=40)
    | st.builds(lambda kind, rest: bytes([kind]) + rest, st.integers(3, 5), st.binary(max_size=30))
)
def test_no_control_payload_raises(payload: bytes) -> None:
    blocks = Blocks(1, limits=SERVER_BLOCK_LIMITS)
    blocks.send(0, b"x", tag=0, now_ns=0)
    taken = blocks.handle(0, payload, SECOND)
    assert taken == (blocks.statistics()["malformed_controls"] == 0)
    blocks.advance(2 * SECOND)
    blocks.leave(0)
    assert blocks.statistics()["receive_bytes"] == 0


def test_controls_that_could_not_be_sent_come_again_first() -> None:
    blocks = Blocks(3)
    blocks.send(0, b"x", tag=0, now_ns=0)
    blocks.send(1, b"y", tag=0, now_ns=0)
    taken = blocks.take_controls()
    blocks.send(2, b"z", tag=0, now_ns=0)
    blocks.return_controls(taken)
    assert [peer for peer, _ in blocks.take_controls()] == [0, 1, 2]
