import lz4.block
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from net.compression import POLICIES, REASONS, ClassPolicy, Codec, CompressionLimits, Compressor
from net.dictionaries import DICTIONARIES_MAX, Dictionary, PayloadClass, agreed
from net.errors import NetError
from tests.net.dictionaries import messages, small_dictionary

MAGIC = b"\x28\xb5\x2f\xfd"
KINDS = list(PayloadClass)
DICTIONARIES = [small_dictionary(kind, seed=int(kind)) for kind in KINDS]
TEXTUAL = b"the server says: the red team takes the red flag from the red base again and again. " * 8
PAYLOADS = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(messages(9)), max_size=8).map(b" ".join),
    st.tuples(st.binary(min_size=1, max_size=3), st.integers(0, 2000)).map(lambda pair: pair[0] * pair[1]),
)


def refusals(compressor: Compressor) -> dict[str, int]:
    counts = compressor.counts()
    return {reason: counts[f"refused_{reason}"] for reason in REASONS if counts[f"refused_{reason}"]}


def refused(data: bytes, *, size_max: int = 10_000, compressor: Compressor | None = None) -> str:
    """Why bytes were refused."""
    compressor = compressor or Compressor()
    assert compressor.decompress(data, size_max=size_max) is None
    (reason,) = refusals(compressor)
    assert refusals(compressor)[reason] == 1
    return reason


def frame(payload: bytes, *, level: int = 3) -> bytes:
    """A Zstandard frame without its magic number."""
    return zstandard.ZstdCompressor(level=level, write_checksum=False).compress(payload)[4:]


@settings(max_examples=150, deadline=None)
@given(PAYLOADS, st.sampled_from(KINDS), st.booleans())
def test_any_payload_comes_back_and_never_grows_by_more_than_the_codec_byte(
    payload: bytes, kind: PayloadClass, told: bool
) -> None:
    sender, receiver = Compressor(dictionaries=DICTIONARIES), Compressor(dictionaries=DICTIONARIES[::-1])
    data = sender.compress(payload, kind, agreed=agreed(sender.ids, receiver.ids) if told else ())
    assert len(data) <= len(payload) + 1
    assert receiver.decompress(data, size_max=len(payload)) == payload
    assert sender.compress(memoryview(payload), kind, agreed=sender.ids if told else ()) == data
    assert receiver.decompress(memoryview(data), size_max=len(payload)) == payload
    assert not refusals(receiver)


@pytest.mark.parametrize("kind", KINDS)
def test_each_class_uses_what_its_policy_says(kind: PayloadClass) -> None:
    compressor = Compressor(dictionaries=DICTIONARIES)
    policy = POLICIES[kind]
    assert Codec(compressor.compress(TEXTUAL, kind)[0]) in policy.codecs
    known = messages(int(kind))[0] * 4
    assert Codec(compressor.compress(known, kind, agreed=compressor.ids)[0]) in policy.with_dictionary
    assert compressor.compress(bytes(policy.floor_bytes - 1), kind)[0] == Codec.STORED
    assert compressor.compress(bytes(policy.floor_bytes), kind)[0] != Codec.STORED


def test_what_does_not_shrink_is_stored() -> None:
    noise = bytes((i * i * 7919 + i * 104729) >> 3 & 255 for i in range(60))
    compressor = Compressor()
    assert compressor.compress(noise, PayloadClass.MESSAGE) == b"\0" + noise
    assert compressor.compress(b"", PayloadClass.MESSAGE) == b"\0"
    assert compressor.counts()["compressed_stored"] == 2


def test_the_smallest_of_what_is_tried_is_kept() -> None:
    policies = {kind: ClassPolicy(0, (Codec.LZ4, Codec.ZSTD), (), 9) for kind in KINDS}
    compressor = Compressor(limits=CompressionLimits(policies=policies))
    cases = [TEXTUAL, bytes(2000), *(message * 2 for message in messages(4, 20))]
    for payload in cases:
        lz4_size = len(lz4.block.compress(payload, store_size=False)) + 1 + (1 if len(payload) < 128 else 2)
        zstd_size = len(frame(payload, level=9)) + 1
        data = compressor.compress(payload, PayloadClass.BULK)
        assert len(data) == min(lz4_size, zstd_size, len(payload) + 1)
    assert compressor.counts()["compressed_lz4"] > 0
    assert compressor.counts()["compressed_zstd"] > 0


def test_a_dictionary_makes_small_payloads_smaller() -> None:
    compressor = Compressor(dictionaries=[small_dictionary()])
    fresh = messages(3, 50)
    without = sum(len(compressor.compress(each, PayloadClass.MESSAGE)) for each in fresh)
    given_one = sum(len(compressor.compress(each, PayloadClass.MESSAGE, agreed=compressor.ids)) for each in fresh)
    assert given_one < 0.8 * without


def test_no_dictionary_is_used_that_the_peer_does_not_have_or_of_another_class() -> None:
    mine = [small_dictionary(seed=1), small_dictionary(PayloadClass.JOIN, seed=2)]
    compressor = Compressor(dictionaries=mine)
    payload = messages(1)[0] * 3
    for told in ((), (mine[1].id,), (123,)):
        assert compressor.compress(payload, PayloadClass.MESSAGE, agreed=told)[0] in {Codec.STORED, Codec.LZ4}
    assert compressor.compress(payload, PayloadClass.MESSAGE, agreed=(mine[0].id,))[0] == Codec.LZ4_DICTIONARY


def test_the_newest_agreed_revision_is_preferred() -> None:
    old, new = small_dictionary(revision=1), small_dictionary(revision=2)
    compressor = Compressor(dictionaries=[old, new])
    payload = messages(1)[0]
    names = [
        int.from_bytes(compressor.compress(payload, PayloadClass.MESSAGE, agreed=told)[1:3], "little")
        for told in ((old.id, new.id), (old.id,))
    ]
    assert names == [new.short, old.short]


def test_counts_tell_codecs_and_bytes() -> None:
    compressor = Compressor()
    data = compressor.compress(TEXTUAL, PayloadClass.BULK)
    compressor.compress(b"x", PayloadClass.BULK)
    counts = compressor.counts()
    assert (counts["compressed_zstd"], counts["compressed_stored"]) == (1, 1)
    assert (counts["bytes_before"], counts["bytes_after"]) == (len(TEXTUAL) + 1, len(data) + 2)


ZEROS = bytes(1 << 20)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "cut_short"),
        (b"\0" + bytes(10_001), "too_large"),
        (b"\5abc", "unknown_codec"),
        (b"\xff", "unknown_codec"),
        (b"\3\1", "cut_short"),
        (b"\4", "cut_short"),
        (b"\3\1\2abcdef", "unknown_dictionary"),
        (b"\4\1\2abcdef", "unknown_dictionary"),
        (b"\1", "no_size"),
        (b"\1\xff\xff\xff\xff\1abc", "no_size"),
        (b"\1\x91\x4e" + lz4.block.compress(bytes(10_001), store_size=False), "too_large"),
        (b"\1\xff\xff\xff\x7f" + lz4.block.compress(ZEROS, store_size=False), "too_large"),
        (b"\1\x80\x10\x1f\x01", "malformed"),
        (b"\1\x05\x50abc", "malformed"),
        (b"\1\x04\x50abcde", "malformed"),
        (b"\1\x06\x50abcde", "malformed"),
        (b"\1\x00", "malformed"),
        (b"\2", "no_size"),
        (b"\2" + frame(ZEROS), "too_large"),
        (b"\2" + frame(bytes(10_001)), "too_large"),
        (b"\2" + zstandard.ZstdCompressor(write_content_size=False).compress(TEXTUAL)[4:], "no_size"),
        (b"\2" + frame(TEXTUAL)[:-1], "malformed"),
        (b"\2" + frame(TEXTUAL) + b"\0", "malformed"),
        (b"\2" + frame(TEXTUAL) + MAGIC + frame(TEXTUAL), "malformed"),
        (b"\2" + b"\x60\x10\x01" + frame(TEXTUAL)[3:], "malformed"),
        (b"\2" + b"\x68" + frame(TEXTUAL)[1:], "no_size"),
        (b"\2" + b"\x61" + frame(TEXTUAL)[1:], "no_size"),
        (b"\2" + b"\x80\xff\x10\x00\x00\x00" + b"\x01\x00\x00", "window_too_large"),
    ],
)
def test_bytes_that_are_no_payload_are_refused_by_reason(data: bytes, reason: str) -> None:
    assert refused(data) == reason


def test_a_bomb_is_refused_before_anything_is_made_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both libraries are taken away: only the header may have been looked at."""
    bombs = [
        b"\2" + frame(ZEROS),
        b"\1\x80\x80\x40" + lz4.block.compress(ZEROS, store_size=False),
        b"\1\xff\x7f\x10ab",
    ]
    compressor = Compressor()
    assert compressor.decompress(bombs[0], size_max=len(ZEROS)) == ZEROS
    assert compressor.decompress(bombs[1], size_max=len(ZEROS)) == ZEROS
    monkeypatch.setattr(compressor, "_decompressor", None)
    monkeypatch.setattr(lz4.block, "decompress", None)
    for bomb in bombs:
        assert compressor.decompress(bomb, size_max=len(ZEROS) - 1) is None
    assert refusals(compressor) == {"too_large": 2, "malformed": 1}


def test_the_size_limit_of_the_configuration_holds_too() -> None:
    small = Compressor(limits=CompressionLimits(payload_bytes_max=100))
    assert refused(b"\2" + frame(bytes(101)), size_max=1000, compressor=small) == "too_large"
    with pytest.raises(NetError, match="101 bytes, at most 100"):
        small.compress(bytes(101), PayloadClass.BULK)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from([TEXTUAL, *messages(5, 4), bytes(300)]),
    st.integers(0, 10**6),
    st.integers(0, 7),
    st.integers(0, 60),
)
def test_flipped_and_cut_bytes_never_raise_or_exceed_the_size(
    kind: PayloadClass, payload: bytes, at: int, bit: int, cut: int
) -> None:
    compressor = Compressor(dictionaries=DICTIONARIES)
    data = bytearray(compressor.compress(payload, kind, agreed=compressor.ids))
    data[at % len(data)] ^= 1 << bit
    for hostile in (bytes(data), bytes(data[: max(0, len(data) - cut)])):
        found = compressor.decompress(hostile, size_max=len(payload))
        assert found is None or len(found) <= len(payload)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 5), st.sampled_from(DICTIONARIES))
def test_hostile_bytes_never_raise(tail: bytes, codec: int, dictionary: Dictionary) -> None:
    compressor = Compressor(dictionaries=DICTIONARIES)
    name = dictionary.short.to_bytes(2, "little")
    for data in (bytes([codec]) + tail, bytes([codec]) + name + tail):
        found = compressor.decompress(data, size_max=4096)
        assert found is None or len(found) <= 4096


def test_a_receiver_with_another_dictionary_refuses() -> None:
    ours, theirs = small_dictionary(seed=1), small_dictionary(seed=2)
    data = Compressor(dictionaries=[ours]).compress(messages(1)[0], PayloadClass.MESSAGE, agreed=(ours.id,))
    assert data[0] == Codec.LZ4_DICTIONARY
    assert refused(data, compressor=Compressor(dictionaries=[theirs])) == "unknown_dictionary"
    # As if the ids had been exchanged wrongly: the bytes come out as something else, or not at all.
    found = Compressor(dictionaries=[theirs]).decompress(
        data[:1] + theirs.short.to_bytes(2, "little") + data[3:], size_max=1000
    )
    assert found != messages(1)[0]


def test_a_dictionary_that_zstd_cannot_use_is_told_when_it_is_loaded() -> None:
    broken = Dictionary(PayloadClass.SNAPSHOT, small_dictionary().content[:40])
    with pytest.raises(NetError, match=r"dictionary 0x[0-9a-f]{16}: .*; train another"):
        Compressor(dictionaries=[broken])


def test_misuse_is_told() -> None:
    with pytest.raises(NetError, match="size_max = -1"):
        Compressor().decompress(b"\0", size_max=-1)
    with pytest.raises(NetError, match="33 dictionaries, at most 32"):
        Compressor(dictionaries=[small_dictionary()] * (DICTIONARIES_MAX + 1))
    with pytest.raises(NetError, match="share a short id"):
        Compressor(dictionaries=[small_dictionary()] * 2)
    with pytest.raises(NetError, match="payload_bytes_max = 0"):
        CompressionLimits(payload_bytes_max=0)
    with pytest.raises(NetError, match="window_bytes_max = 5"):
        CompressionLimits(window_bytes_max=5)
    with pytest.raises(NetError, match="no policy for SNAPSHOT, MESSAGE, JOIN, BULK"):
        CompressionLimits(policies={})
    with pytest.raises(NetError, match="level = 30"):
        ClassPolicy(0, (), (), 30)
    with pytest.raises(NetError, match="move it to with_dictionary"):
        ClassPolicy(0, (Codec.LZ4_DICTIONARY,), (), 3)


@pytest.mark.parametrize("size", [0, 1, 511, 512, 1023, 1024, 5000])
@pytest.mark.parametrize("part", [0, 1, 512, 600])
def test_parts_come_back_as_one(size: int, part: int) -> None:
    compressor = Compressor(dictionaries=[small_dictionary(PayloadClass.JOIN)])
    payload = np.random.default_rng(size).integers(0, 9, size).astype(np.uint8).tobytes()
    for known in ((), compressor.ids):
        packed = compressor.compress(payload, PayloadClass.JOIN, agreed=known, part_bytes=part)
        assert compressor.decompress(packed, size_max=size) == payload


def test_parts_unlike_each_other_become_smaller_apart() -> None:
    random = np.random.default_rng(1)
    payload = b"".join(random.integers(0, most, 4000).astype(np.uint8).tobytes() for most in (4, 256, 16, 256, 2))
    compressor = Compressor()
    whole, apart = (len(compressor.compress(payload, PayloadClass.JOIN, part_bytes=part)) for part in (0, 4000))
    assert apart < 0.9 * whole
