import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.datagrams import DATAGRAM_BYTES
from net.errors import NetError
from net.packets import (
    BODY_BYTES,
    FROM_CLIENT,
    FROM_SERVER,
    PACKET_BYTES_MAX,
    REQUEST_BYTES,
    Drop,
    Kind,
    Packet,
    ReplayWindow,
    open_packet,
    request_packet,
    seal_packet,
)
from net.packets_kernels import (
    KEYS_BYTES,
    SEND_KEY_AT,
    WORDS,
    new_scratch,
    open_from,
    parse_header,
    seal_row,
)
from net.replay_kernels import replay_mark, replay_seen
from net.tokens import read_token
from sim.arrays import U8
from tests.net.virtual import token
from tests.reference import packets as reference

PROTOCOL, KEY = 0x0123456789ABCDEF, bytes(range(7, 39))
SEALED_KINDS = [kind for kind in Kind if kind != Kind.REQUEST]

sequences = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1), st.sampled_from([0, 255, 256, 2**63, 2**64 - 1]))
kinds = st.sampled_from(SEALED_KINDS)


@st.composite
def bodies(draw: st.DrawFn, kind: Kind) -> bytes:
    smallest, largest = BODY_BYTES[kind]
    size = draw(st.one_of(st.integers(smallest, min(largest, smallest + 40)), st.integers(smallest, largest)))
    return draw(st.binary(min_size=1, max_size=8)).ljust(size, b"\x5a")[:size]


@st.composite
def packets(draw: st.DrawFn) -> tuple[Kind, int, bytes]:
    kind = draw(kinds)
    return kind, draw(sequences), draw(bodies(kind))


def seal(kind: Kind, body: bytes, sequence: int) -> bytes:
    return seal_packet(kind, body, sequence=sequence, key=KEY, protocol_id=PROTOCOL)


def kernel_seal(kind: Kind, body: bytes, sequence: int) -> bytes:
    data = np.full((3, DATAGRAM_BYTES), 0xEE, dtype=np.uint8)
    content, key = np.frombuffer(body or b"\0", dtype=np.uint8), np.frombuffer(KEY, dtype=np.uint8)
    length = seal_row(
        data, 1, int(kind), np.uint64(sequence), content.ctypes.data, len(body), key.ctypes.data, new_scratch(PROTOCOL)
    )
    assert (data[[0, 2]] == 0xEE).all(), "a neighbouring row was written"
    assert (data[1, length:] == 0xEE).all(), "bytes behind the packet were written"
    return data[1, :length].tobytes()


def arena(datagram: bytes) -> U8:
    data = np.full((2, DATAGRAM_BYTES), 0xEE, dtype=np.uint8)
    data[1, : len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
    return data


def kernel_open(datagram: bytes, allowed: frozenset[Kind]) -> Packet | Drop:
    data, mask = arena(datagram), sum(1 << kind for kind in allowed)
    words, keys = np.zeros((1, WORDS), dtype=np.uint64), np.zeros((1, KEYS_BYTES), dtype=np.uint8)
    keys[0, :SEND_KEY_AT] = np.frombuffer(KEY, dtype=np.uint8)
    reason, kind, header, sequence = parse_header(data, 1, len(datagram), mask)
    if reason < 0:
        scratch = new_scratch(PROTOCOL)
        reason = open_from(words, keys, 0, data, 1, len(datagram), kind, header, np.uint64(sequence), scratch)
    assert (data[0] == 0xEE).all(), "a neighbouring row was written"
    if reason >= 0:
        return Drop(reason)
    return Packet(Kind(kind), int(sequence), data[1, header : len(datagram) - 16].tobytes())


@settings(max_examples=150, deadline=None)
@given(packets())
def test_packet_has_the_bytes_of_the_standard(case: tuple[Kind, int, bytes]) -> None:
    kind, sequence, body = case
    assert seal(kind, body, sequence) == reference.packet(kind, body, sequence=sequence, key=KEY, protocol_id=PROTOCOL)


@settings(max_examples=150, deadline=None)
@given(packets())
def test_kernel_seals_the_same_bytes(case: tuple[Kind, int, bytes]) -> None:
    kind, sequence, body = case
    assert kernel_seal(kind, body, sequence) == seal(kind, body, sequence)


@settings(max_examples=100, deadline=None)
@given(packets())
def test_both_paths_open_what_the_standard_describes(case: tuple[Kind, int, bytes]) -> None:
    kind, sequence, body = case
    datagram = reference.packet(kind, body, sequence=sequence, key=KEY, protocol_id=PROTOCOL)
    expected = Packet(kind, sequence, body)
    allowed = frozenset(SEALED_KINDS)
    assert open_packet(datagram, key=KEY, protocol_id=PROTOCOL, allowed=allowed, replay=None) == expected
    assert kernel_open(datagram, allowed) == expected


@settings(max_examples=300, deadline=None)
@given(packets(), st.sampled_from([FROM_CLIENT, FROM_SERVER]), st.data())
def test_both_paths_give_the_same_reason_for_bad_bytes(
    case: tuple[Kind, int, bytes], allowed: frozenset[Kind], data: st.DataObject
) -> None:
    kind, sequence, body = case
    datagram = bytearray(seal(kind, body, sequence))
    match data.draw(st.sampled_from(["flip", "cut", "extend", "junk"])):
        case "flip":
            datagram[data.draw(st.integers(0, len(datagram) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del datagram[data.draw(st.integers(0, len(datagram) - 1)) :]
        case "extend":
            datagram += data.draw(st.binary(min_size=1, max_size=20))
        case _:
            datagram = bytearray(data.draw(st.binary(max_size=80)))
    replay = ReplayWindow()
    result = open_packet(bytes(datagram), key=KEY, protocol_id=PROTOCOL, allowed=allowed, replay=replay)
    assert isinstance(result, Drop)
    assert kernel_open(bytes(datagram), allowed) == result
    if result != Drop.WRONG_SIZE:
        assert replay.newest == 0


@pytest.mark.parametrize("kind", SEALED_KINDS)
def test_every_truncation_and_bit_flip_is_dropped(kind: Kind) -> None:
    datagram = seal(kind, bytes(BODY_BYTES[kind][0] + (kind == Kind.PAYLOAD) * 30), 77_777)
    everything = frozenset(SEALED_KINDS)
    for size in range(len(datagram)):
        assert isinstance(kernel_open(datagram[:size], everything), Drop)
    for at in range(len(datagram)):
        for bit in range(8):
            changed = bytearray(datagram)
            changed[at] ^= 1 << bit
            assert isinstance(kernel_open(bytes(changed), everything), Drop)


@pytest.mark.parametrize(
    ("datagram", "reason"),
    [
        (b"", Drop.EMPTY),
        (b"\x15" * 17, Drop.TOO_SHORT),
        (b"\x17" * 40, Drop.BAD_TYPE),
        (b"\x12" * 40, Drop.NOT_ALLOWED),
        (b"\x10" * 40, Drop.NOT_ALLOWED),
        (b"\x05" * 40, Drop.BAD_SEQUENCE),
        (b"\x95" * 40, Drop.BAD_SEQUENCE),
        (b"\x85" * 24, Drop.TOO_SHORT),
        (b"\x85" * 25, Drop.NOT_AUTHENTIC),
    ],
)
def test_headers_are_refused_by_the_steps_of_the_standard(datagram: bytes, reason: Drop) -> None:
    replay = ReplayWindow()
    assert open_packet(datagram, key=KEY, protocol_id=PROTOCOL, allowed=FROM_CLIENT, replay=replay) == reason
    assert kernel_open(datagram, FROM_CLIENT) == reason


@pytest.mark.parametrize("kind", SEALED_KINDS)
def test_authentic_body_of_the_wrong_size_is_dropped(kind: Kind) -> None:
    smallest, largest = BODY_BYTES[kind]
    for size in {smallest - 1, largest + 1} - {-1}:
        datagram = reference.packet(kind, bytes(size), sequence=5, key=KEY, protocol_id=PROTOCOL)
        everything = frozenset(SEALED_KINDS)
        replay = ReplayWindow()
        result = open_packet(datagram, key=KEY, protocol_id=PROTOCOL, allowed=everything, replay=replay)
        assert result == kernel_open(datagram, everything) == Drop.WRONG_SIZE


@pytest.mark.parametrize(("kind", "size"), [(Kind.PAYLOAD, 0), (Kind.PAYLOAD, 1201), (Kind.KEEP_ALIVE, 7)])
def test_sealing_a_body_of_the_wrong_size_is_refused(kind: Kind, size: int) -> None:
    with pytest.raises(NetError, match=f"a body of {size} bytes"):
        seal(kind, bytes(size), 1)


def test_wrong_key_or_protocol_does_not_open() -> None:
    datagram = seal(Kind.PAYLOAD, b"abc", 9)
    for key, protocol_id in ((bytes(32), PROTOCOL), (KEY, PROTOCOL + 1)):
        result = open_packet(datagram, key=key, protocol_id=protocol_id, allowed=FROM_CLIENT, replay=None)
        assert result == Drop.NOT_AUTHENTIC


def test_request_carries_the_token_and_is_1078_bytes() -> None:
    public = read_token(token(5))
    request = request_packet(public)
    assert len(request) == REQUEST_BYTES == 1078 < DATAGRAM_BYTES
    assert request[0] == 0
    assert request[1:14] == b"NETCODE 1.02\0"
    assert request[14:22] == public.protocol_id.to_bytes(8, "little")
    assert request[22:30] == public.expire_unix_s.to_bytes(8, "little")
    assert request[30:54] + request[54:] == public.nonce + public.private


def test_longest_packet_fits_a_row() -> None:
    assert len(seal(Kind.PAYLOAD, bytes(1200), 2**64 - 1)) == PACKET_BYTES_MAX <= DATAGRAM_BYTES


near = st.integers(0, 700)
replay_sequences = st.lists(
    st.one_of(near, st.integers(2**64 - 600, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=60
)


@settings(max_examples=200, deadline=None)
@given(st.one_of(replay_sequences, st.lists(near, min_size=50, max_size=300)))
def test_replay_windows_accept_each_sequence_once(received: list[int]) -> None:
    naive, window, words = reference.ReplayArray(), ReplayWindow(), np.zeros((2, WORDS), dtype=np.uint64)
    for sequence in received:
        expected = naive.accepts(sequence)
        assert window.seen(sequence) is not expected
        assert replay_seen(words, 1, np.uint64(sequence)) is not expected
        if expected:
            window.mark(sequence)
            replay_mark(words, 1, np.uint64(sequence))
    assert not words[0].any(), "another connection's window moved"
    assert not words[1, :4].any()


def test_replay_window_is_exactly_256_long() -> None:
    words = np.zeros((1, WORDS), dtype=np.uint64)
    replay_mark(words, 0, np.uint64(1_000))
    assert replay_seen(words, 0, np.uint64(744))
    assert not replay_seen(words, 0, np.uint64(745))
    assert replay_seen(words, 0, np.uint64(1_000))
