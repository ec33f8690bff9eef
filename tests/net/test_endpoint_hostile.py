"""What authentic peers may send that is wrong: counted by reason, dropped whole, never raised."""

import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.datagrams import Payloads
from net.endpoint import Endpoint, EndpointLimits
from net.endpoint_kernels import BATCH, IN_NEXT, EndpointCount
from tests.net.endpoints import MS, batch_of, counted, no_payloads, one_payload

HEADER = struct.Struct("<HHIB")
NONE = 0xFFFF
Count = EndpointCount


def packet(sequence: int, body: bytes = b"", *, ack: int = NONE, mask: int = 0, delay: int = 255) -> bytes:
    """A packet, its sections as given."""
    return HEADER.pack(sequence, ack, mask, delay) + body


def item(number: int, content: bytes, *, more: bool = False) -> bytes:
    """A RELIABLE section."""
    return bytes([19 if more else 3]) + struct.pack("<HH", number & 0xFFFF, len(content)) + content


def opened(**limits: int) -> Endpoint:
    """An endpoint with one open peer."""
    end = Endpoint(1, batch=512, limits=EndpointLimits(**limits))
    end.open([0], 0)
    return end


def give(end: Endpoint, *packets: bytes, now_ns: int = MS) -> None:
    """Let packets arrive."""
    end.receive(batch_of(list(packets), now_ns), now_ns)


def contents(payloads: Payloads) -> list[bytes]:
    """Copies of all payloads of a batch."""
    return [payloads.payload(row) for row in range(payloads.count)]


def unharmed(end: Endpoint) -> tuple[bytes, ...]:
    """Everything that a dropped packet must leave as it was: columns, rings, links, and what was handed over."""
    return (
        end._state.tobytes(),
        end._core[1].tobytes(),
        end._core[3].tobytes(),
        end._totals[len(EndpointCount) : BATCH].tobytes(),
        end.congestion.columns.tobytes(),
    )


MALFORMED = {
    "nothing": b"",
    "a header cut short": packet(0)[:8],
    "kind 0": packet(0, b"\x80"),
    "kind 6": packet(0, b"\x86x"),
    "kind 15": packet(0, b"\x8fx"),
    "bit 5": packet(0, b"\xa1x"),
    "bit 6": packet(0, b"\xc1x"),
    "MORE on PLAIN": packet(0, b"\x91x"),
    "MORE on CHUNK": packet(0, b"\x94\x00\x00\x00\x00x"),
    "an empty PLAIN": packet(0, b"\x81"),
    "an empty PLAIN with its length": packet(0, b"\x01\x00\x00"),
    "half a length": packet(0, b"\x01\x05"),
    "a length beyond the end": packet(0, b"\x01\x05\x00abcd"),
    "an empty item": packet(0, item(0, b"")),
    "half a number": packet(0, b"\x83\x00"),
    "an item too long": packet(0, item(0, bytes(1025))),
    "a chunk too long": packet(0, b"\x84\x00\x00\x00\x00" + bytes(1025)),
    "a chunk of index 16,384": packet(0, b"\x84\x00\x00\x00\x40x"),
    "half a chunk's index": packet(0, b"\x84\x00\x00\x00"),
    "a closing text too long": packet(0, b"\x85\x01" + bytes(201)),
    "a closing without its code": packet(0, b"\x85"),
    "rubbish behind a good section": packet(0, item(0, b"hello") + b"\x00"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_packets_are_dropped_whole(name: str) -> None:
    end = opened()
    before = unharmed(end)
    give(end, MALFORMED[name])
    assert counted(end) == {Count.MALFORMED: 1}
    assert unharmed(end) == before
    assert not end.messages.count
    assert not end.payloads.count
    end.compose(*one_payload(b"x"), 2 * MS)
    assert HEADER.unpack(end.packets.payload(0)[:9])[1:3] == (NONE, 0)  # not acknowledged


GOOD = packet(
    3,
    b"\x01\x03\x00abc" + b"\x02\x07\x00\x02\x00de" + item(1, b"fgh", more=True) + item(0, b"i") + b"\x05\x09\x02\x00hi"
    b"\x04\x01\x00\x02\x00\x02\x00zz" + b"\x83\x02\x00jkl",
    ack=1,
    mask=1,
    delay=4,
)  # fmt: skip


def test_the_good_packet_is_good() -> None:
    end = opened()
    for _ in range(2):
        end.compose(*one_payload(b"x"), 0)
    give(end, GOOD)
    assert contents(end.payloads) == [b"abc", b"de"]
    assert contents(end.messages) == [b"i", b"fghjkl"]
    assert end.take_closes() == [(0, 9, "hi")]
    assert end.counts[Count.ACKED] == 2


def check_mutant(mutant: bytes) -> None:
    """A mutant is taken or dropped as a whole, and the endpoint goes on."""
    end = opened()
    for _ in range(2):
        end.compose(*one_payload(b"x"), 0)
    end.tell(0, b"\x02later")
    before, counts = unharmed(end), counted(end)
    give(end, mutant)
    if not end.counts[Count.PACKETS_IN]:
        dropped = {Count.MALFORMED, Count.BEYOND_WINDOW, Count.NO_ROOM, Count.OLD, Count.DUPLICATE}
        assert len([reason for reason in dropped if end.counts[reason]]) == 1
        assert unharmed(end) == before
        assert end.messages.count + end.payloads.count == 0
        assert {reason: count for reason, count in counted(end).items() if reason not in dropped} == counts
    end.compose(*no_payloads(), 2 * MS)
    end.reset([0])
    assert end.statistics()["slabs_free"] == end.statistics()["slabs"]


def test_every_truncation_and_extension_is_taken_or_dropped_whole() -> None:
    for size in range(len(GOOD)):
        check_mutant(GOOD[:size])
    for extra in (b"\x00", b"\x81", b"\x81x", b"\xff" * 9, bytes(1100)):
        check_mutant(GOOD + extra)


def test_every_bit_flip_is_taken_or_dropped_whole() -> None:
    for bit in range(8 * len(GOOD)):
        mutant = bytearray(GOOD)
        mutant[bit // 8] ^= 1 << bit % 8
        check_mutant(bytes(mutant))


@settings(max_examples=100)
@given(body=st.binary(max_size=1191), sequence=st.integers(0, 0xFFFF), ack=st.integers(0, 0xFFFF), mask=st.integers(0))
def test_any_bytes_are_taken_or_dropped_whole(body: bytes, sequence: int, ack: int, mask: int) -> None:
    check_mutant(packet(sequence, body, ack=ack, mask=mask & 0xFFFFFFFF, delay=0))


def test_packets_outside_their_arena_are_never_read() -> None:
    end = opened()
    batch = batch_of([packet(0, b"\x81x")] * 5, 0)
    size = len(batch.buffer)
    batch.offset[:5] = -1, size - 5, size, 2**62, -(2**62)
    batch.length[4] = -5
    end.receive(batch, 0)
    assert counted(end) == {Count.MALFORMED: 5}
    batch.client[:5] = -1, 1, 2**31 - 1, -(2**31), 7
    end.receive(batch, 0)
    assert end.counts[Count.INACTIVE] == 5


def test_repeated_and_old_packets_are_dropped() -> None:
    end = opened()
    give(end, packet(100, b"\x81a"), packet(100, b"\x81b"), packet(99, b"\x81c"), packet(99, b"\x81d"))
    assert contents(end.payloads) == [b"a", b"c"]
    give(end, packet(68, b"\x81e"), packet(67, b"\x81f"), packet(100 + 0x8001, b"\x81g"))
    assert contents(end.payloads) == [b"e"]
    assert (end.counts[Count.DUPLICATE], end.counts[Count.OLD]) == (2, 2)


def test_acknowledgements_of_what_was_never_sent_are_ignored_and_counted() -> None:
    end = opened()
    for _ in range(3):
        end.compose(*one_payload(b"x"), 0)
    give(end, packet(0, ack=3), packet(1, ack=0xFFFE), packet(2, ack=0x8000))
    assert end.counts[Count.ACK_INVALID] == 3
    assert end.counts[Count.ACKED] == 0
    assert end.rtt_ns[0] == 0
    give(end, packet(3, ack=NONE))  # says that nothing has arrived
    give(end, packet(4, ack=2, mask=0xFFFFFFFF, delay=255))  # the mask names 30 that never were
    assert end.counts[Count.ACK_INVALID] == 4
    assert end.counts[Count.ACKED] == 3
    assert end.rtt_ns[0] == 0  # 255 gives no sample


def test_an_acknowledgement_from_long_ago_is_counted() -> None:
    end = opened()
    for _ in range(300):
        end.compose(*one_payload(b"x"), 0)
    assert end.counts[Count.LOST] == 300 - 256  # nothing was acknowledged, and the ring remembers 256
    give(end, packet(0, ack=43), packet(1, ack=44))
    assert (end.counts[Count.ACK_OLD], end.counts[Count.ACKED]) == (1, 1)


def test_a_lying_delay_cannot_make_a_round_trip_negative() -> None:
    end = opened()
    end.compose(*one_payload(b"x"), 0)
    give(end, packet(0, ack=0, delay=254), now_ns=MS)
    assert end.rtt_ns[0] == 1000


def test_an_item_beyond_the_window_drops_its_packet() -> None:
    end = opened()
    give(end, packet(0, item(0, b"a") + item(64, b"b")))
    assert counted(end) == {Count.BEYOND_WINDOW: 1}
    assert end.messages.count == 0
    give(end, packet(0, item(63, b"b")))
    give(end, packet(1, item(0, b"a")))
    assert contents(end.messages) == [b"a"]


def test_a_message_longer_than_any_may_be_is_dropped_and_the_stream_goes_on() -> None:
    end = opened()
    for number in range(40):
        give(end, packet(number, item(number, b"x", more=number < 32)))
    assert end.counts[Count.TOO_LONG] == 1
    assert end.counts[Count.MESSAGES_IN] == 8
    assert end.statistics()["slabs_free"] == end.statistics()["slabs"]


def test_who_leaves_a_gap_for_ever_is_listed() -> None:
    end = opened(stall_ns=1_000 * MS)
    for sequence, number in enumerate(range(1, 30)):
        give(end, packet(sequence, item(number, b"x")), now_ns=sequence * MS + MS)
    assert end.statistics()["slabs_free"] == end.statistics()["slabs"] - 29
    end.compose(*no_payloads(), 900 * MS)
    assert not len(end.stalled())
    end.compose(*no_payloads(), 1_100 * MS)
    assert end.stalled().tolist() == [0]
    end.reset([0])
    assert end.statistics()["slabs_free"] == end.statistics()["slabs"]


def test_what_cannot_be_stored_is_not_acknowledged_and_comes_again() -> None:
    end = Endpoint(2, batch=4, limits=EndpointLimits(slabs=6))
    end.open([0, 1], 0)
    greedy = [packet(sequence, item(sequence + 1, b"x")) for sequence in range(8)]
    for one in greedy:
        give(end, one)
    assert (end.counts[Count.PACKETS_IN], end.counts[Count.NO_ROOM]) == (5, 3)
    honest = batch_of([packet(0, item(0, b"a", more=True))], 0, peer=1)
    end.receive(honest, 0)  # its own slab is still there
    assert end.counts[Count.NO_ROOM] == 3
    give(end, packet(50, item(0, b"first")))  # a whole message in order needs none
    assert contents(end.messages) == [b"first"] + [b"x"] * 5
    give(end, greedy[7])
    assert end.counts[Count.OLD] == 1
    give(end, packet(51, greedy[5][9:]))
    assert contents(end.messages) == [b"x"]


def test_more_payloads_than_there_is_room_for_drop_their_packets() -> None:
    end = Endpoint(1, batch=4)
    end.open([0], 0)
    give(end, packet(0, b"\x01\x01\x00a" * 3), packet(1, b"\x01\x01\x00b" * 2), packet(2, b"\x81c"))
    assert contents(end.payloads) == [b"a", b"a", b"a", b"c"]
    assert end.counts[Count.NO_ROOM] == 1


def test_closings_of_more_peers_than_one_batch_hands_over_come_with_their_repeats() -> None:
    end = Endpoint(100, batch=512)
    end.open(range(100), 0)
    for sequence in range(2):
        batch = batch_of([packet(sequence, b"\x85\x01\xff")] * 100, 0)
        batch.client[:100] = np.arange(100)
        end.receive(batch, 0)
    said = end.take_closes()
    assert sorted(peer for peer, _, _ in said) == list(range(100))
    assert said[0] == (0, 1, "�")
    assert end.counts[Count.CLOSES_DROPPED] == 36


def test_long_random_hostility_leaks_nothing() -> None:
    chance = random.Random(17)
    end = Endpoint(3, batch=64, limits=EndpointLimits(slabs=64, inbox_messages=4))
    end.open(range(3), 0)
    for step in range(1500):
        bodies = [
            b"".join(
                item(
                    int(end._state[peer, IN_NEXT]) + chance.randrange(-2, 6) ** 3,
                    chance.randbytes(chance.choice((1, 30, 900))),
                    more=chance.random() < 0.4,
                )
                for _ in range(chance.randrange(3))
            )[: chance.choice((9999, 9999, 9999, 20))]
            for peer in range(3)
        ]
        batch = batch_of(
            [packet(step & 0xFFFF, body, ack=chance.randrange(3 * step + 9) & 0xFFFF) for body in bodies], 0
        )
        batch.client[:3] = range(3)
        end.receive(batch, step * MS)
        if chance.random() < 0.3:
            end.tell(chance.randrange(3), chance.randbytes(chance.choice((1, 3000))))
        end.compose(*no_payloads(), step * MS)
        if chance.random() < 0.02:
            end.open([chance.randrange(3)], step * MS)
    assert end.counts[Count.MALFORMED] > 100
    assert end.counts[Count.MESSAGES_IN] > 100
    end.reset(range(3))
    assert end.statistics()["slabs_free"] == 64


def test_one_peer_cannot_flood_the_application_with_messages() -> None:
    end = Endpoint(2, batch=64, limits=EndpointLimits(peer_messages=10))
    end.open([0, 1], 0)
    flood = [packet(0, b"".join(item(number, bytes([number])) for number in range(40)))]
    batch = batch_of([*flood, packet(0, item(0, b"other"))], 0)
    batch.client[1] = 1
    end.receive(batch, 0)
    assert contents(end.messages) == [*(bytes([number]) for number in range(10)), b"other"]
    assert end.counts[Count.DEFERRED] == 1
    for first in (10, 20, 30):
        give(end)
        assert contents(end.messages) == [bytes([number]) for number in range(first, first + 10)]
    give(end)
    assert end.messages.count == 0
    assert end.statistics()["slabs_free"] == end.statistics()["slabs"]
    before = end.counts[Count.DEFERRED]
    for sequence in range(1, 8):  # what is not taken fills the window, and then nothing more is acknowledged
        more = b"".join(item(number, b"x") for number in range(40 * sequence, 40 * sequence + 40))
        give(end, packet(sequence, more))
    assert end.counts[Count.NO_ROOM] + end.counts[Count.BEYOND_WINDOW] > 0
    assert end.counts[Count.DEFERRED] == before + 1
