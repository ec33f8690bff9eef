"""Messages are packed where it pays, come back as they were, and cost nothing where it does not."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from net.compression import Compressor
from net.datagrams import Payloads
from net.dictionaries import PayloadClass, shipped_dictionaries
from net.packing import (
    MODES,
    PAYLOAD_PACKED,
    PAYLOAD_PACKED_SNAPSHOT,
    REST,
    TRIES,
    Mode,
    Packer,
    SnapshotUnpacker,
    unpack_message,
)
from net.snapshots import PAYLOAD_BYTES
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
    assert not any(packer.packed.values())


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


def batch_of(payloads: list[bytes], room: int = 8) -> Payloads:
    batch = Payloads(room)
    batch.buffer = np.frombuffer(bytearray().join(payloads), np.uint8)
    at = 0
    for row, payload in enumerate(payloads):
        batch.client[row], batch.offset[row], batch.length[row], batch.received_ns[row] = (
            row,
            at,
            len(payload),
            10 + row,
        )
        at += len(payload)
    batch.count = len(payloads)
    return batch


def test_packed_snapshots_are_taken_out_of_a_batch_and_unpacked() -> None:
    packer = Packer(Compressor())
    snapshot = b"\x01" + b"shot and hit, " * 30
    packed = packer.pack(snapshot, PayloadClass.SNAPSHOT)
    assert packed is not None
    assert packed[0] == PAYLOAD_PACKED_SNAPSHOT
    unpacker = SnapshotUnpacker(packer.compressor, batch=8)
    batch = batch_of([b"\x01plain", packed, b"\x02text", packed[:-3], packed])
    assert unpacker.take(batch) == 2
    assert [batch.payload(row) for row in range(batch.count)] == [b"\x01plain", b"\x02text"]
    assert batch.client[:2].tolist() == [0, 2]
    made = unpacker.payloads
    assert [made.payload(row) for row in range(made.count)] == [snapshot, snapshot]
    assert made.client[:2].tolist() == [1, 4]
    assert made.received_ns[:2].tolist() == [11, 14]
    assert packer.compressor.counts()["refused_malformed"] == 1
    assert unpacker.take(batch_of([b"\x01plain"])) == 0


@given(contents=st.lists(st.binary(max_size=60), max_size=8))
def test_hostile_packed_snapshots_never_raise(contents: list[bytes]) -> None:
    unpacker = SnapshotUnpacker(Compressor(dictionaries=shipped_dictionaries()), batch=8)
    batch = batch_of([bytes([PAYLOAD_PACKED_SNAPSHOT]) + content for content in contents])
    made = unpacker.take(batch)
    assert made <= len(contents)
    assert batch.count == 0
    assert (unpacker.payloads.length[:made] <= PAYLOAD_BYTES).all()


def test_a_snapshot_that_would_be_too_large_is_refused() -> None:
    compressor = Compressor()
    bomb = bytes([PAYLOAD_PACKED_SNAPSHOT]) + compressor.compress(bytes(PAYLOAD_BYTES + 1), PayloadClass.BULK)
    assert SnapshotUnpacker(compressor, batch=8).take(batch_of([bomb])) == 0
    assert compressor.counts()["refused_too_large"] == 1


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
    assert MESSAGE in {dictionary.kind for dictionary in shipped}
    assert all(dictionary.tested_bytes > 1.2 * dictionary.tested_compressed for dictionary in shipped)
    packer = Packer(Compressor(dictionaries=shipped))
    line = b"\x02\x93\x11\xcf\x00\x00\x00\x01\x00\x00\x00\x07" + b"\xb5armour is up, they come"
    packed = packer.pack(line, MESSAGE, agreed=packer.compressor.ids)
    assert packed is not None
    assert len(packed) < len(line)
