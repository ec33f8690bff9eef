"""Messages are packed where it pays, come back as they were, and cost nothing where it does not."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.compression import Compressor
from net.dictionaries import PayloadClass, shipped_dictionaries
from net.packing import MODES, PAYLOAD_PACKED, REST, TRIES, Mode, Packer, unpack_message
from sim.schema import MESSAGE_BYTES, Delivery
from tests.net.dictionaries import messages, small_dictionary

MESSAGE = PayloadClass.MESSAGE


def noise(size: int, seed: int = 1) -> bytes:
    return b"\x02" + random.Random(seed).randbytes(size - 1)


def with_dictionary() -> tuple[Packer, tuple[int, ...]]:
    compressor = Compressor(dictionaries=[small_dictionary()])
    return Packer(compressor), compressor.ids


def test_a_packed_message_comes_back_and_is_shorter() -> None:
    packer, ids = with_dictionary()
    texts = [b"\x02" + text for text in messages(5, 40)]
    packed = [packer.pack(text, MESSAGE, agreed=ids) for text in texts]
    assert sum(data is not None for data in packed) > 20
    for text, data in zip(texts, packed, strict=True):
        if data is not None:
            assert data[0] == PAYLOAD_PACKED
            assert len(data) < len(text)
            assert unpack_message(data, packer.compressor) == text


def test_what_does_not_become_shorter_travels_as_it_is() -> None:
    packer = Packer(Compressor())
    assert packer.pack(noise(100), MESSAGE) is None
    assert packer.pack(b"\x02abc", MESSAGE) is None
    assert packer.packed == 0


def test_a_class_that_saves_nothing_rests_and_is_tried_again_now_and_then() -> None:
    packer = Packer(Compressor())
    for seed in range(20 * TRIES):
        packer.pack(noise(100, seed), MESSAGE)
    rested = packer.rested
    assert rested > 10 * TRIES
    for seed in range(2 * REST):
        packer.pack(noise(100, seed), MESSAGE)
    assert 0 < 2 * REST - (packer.rested - rested) <= 3
    texts = [b"\x02" + b"all the same " * 8] * (40 * REST)
    assert sum(packer.pack(text, MESSAGE) is not None for text in texts) > REST, "it learns that it pays again"


def test_large_messages_are_judged_apart_from_small_ones() -> None:
    packer = Packer(Compressor())
    for seed in range(20 * TRIES):
        packer.pack(noise(100, seed), MESSAGE)
    assert packer.pack(b"\x02" + b"row of a table, " * 100, MESSAGE) is not None


def test_a_class_is_never_or_always_tried_where_its_mode_says_so() -> None:
    text = b"\x02" + b"all the same " * 20
    never = Packer(Compressor(), modes={**MODES, MESSAGE: Mode.NEVER})
    assert never.pack(text, MESSAGE) is None
    always = Packer(Compressor(), modes={**MODES, MESSAGE: Mode.ALWAYS})
    for seed in range(20 * TRIES):
        always.pack(noise(100, seed), MESSAGE)
    assert always.rested == 0


def test_snapshots_are_not_packed() -> None:
    assert Packer(Compressor()).pack(bytes(500), PayloadClass.SNAPSHOT) is None


@given(data=st.binary(max_size=60))
def test_hostile_bytes_never_raise(data: bytes) -> None:
    compressor = Compressor(dictionaries=shipped_dictionaries())
    out = unpack_message(bytes([PAYLOAD_PACKED]) + data, compressor)
    assert out is None or len(out) <= MESSAGE_BYTES[Delivery.RELIABLE]


def test_a_bomb_is_refused_and_counted() -> None:
    compressor = Compressor()
    bomb = bytes([PAYLOAD_PACKED]) + compressor.compress(bytes(1 << 20), PayloadClass.BULK)
    assert unpack_message(bomb, compressor) is None
    assert compressor.counts()["refused_too_large"] == 1


@pytest.mark.parametrize("payload", [b"", b"\x02plain", b"\x01"])
def test_what_is_not_packed_is_left_alone(payload: bytes) -> None:
    assert unpack_message(payload, Compressor()) == payload


def test_the_shipped_dictionaries_are_small_and_do_what_they_say() -> None:
    shipped = shipped_dictionaries()
    assert sum(len(dictionary.content) for dictionary in shipped) <= 64 << 10
    assert [dictionary.kind for dictionary in shipped] == [MESSAGE]
    assert shipped[0].tested_bytes > 1.2 * shipped[0].tested_compressed
    packer = Packer(Compressor(dictionaries=shipped))
    line = b"\x02\x93\x11\xcf\x00\x00\x00\x01\x00\x00\x00\x07" + b"\xb5armour is up, they come"
    packed = packer.pack(line, MESSAGE, agreed=packer.compressor.ids)
    assert packed is not None
    assert len(packed) < len(line)
