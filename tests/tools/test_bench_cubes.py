"""The codecs of cubes: exact round trips, records that stand alone, loss, hostile bytes, and the benchmark's rows."""

import heapq
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.arrays import I32, AnyArray
from tests.reference.cubes import golomb_frame_bytes, string_text
from tools.bench import cubes as bench
from tools.cubes import codec as coding
from tools.cubes.codec import FIRST_FRAME, HIGH, LOW, Codec, FrameDecoder, FrameEncoder, load_codec, make_codec
from tools.cubes.data import generate_cubes, load_cubes
from tools.cubes.golomb_kernels import golomb_frames
from tools.cubes.model_kernels import FIRST, TOKEN_AT, residual_of, symbol_of
from tools.cubes.prefix import code_lengths, tree_edges, words_of
from tools.cubes.train import list_symbols, train_tables
from tools.errors import ToolsError

CUBES = 90


shipped = cache(load_codec)


@pytest.fixture(scope="module")
def codec() -> Codec:
    return shipped()


@pytest.fixture(scope="module")
def lively() -> I32:
    return generate_cubes(5, 90, CUBES)


def wild(seed: int, frames: int = 30, cubes: int = 40) -> I32:
    """Rows anywhere in their ranges; at every frame a third of the cubes stay as they were six frames before."""
    random = np.random.default_rng(seed)
    made = random.integers(LOW, HIGH + 1, (frames, cubes, 8)).astype(np.int32)
    for frame in range(6, frames):
        kept = random.random(cubes) < 0.33
        made[frame, kept] = made[frame - 6, kept]
    return made


def encode(encoder: FrameEncoder, frame: int, *, own: bool) -> bytes:
    return encoder.own(frame) if own else encoder.shareable(frame)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("seed", [None, 1, 2])
def test_every_frame_comes_back_exactly(codec: Codec, lively: I32, seed: int | None, own: bool) -> None:
    frames = lively if seed is None else wild(seed)
    encoder, decoder = FrameEncoder(frames, codec), FrameDecoder(frames[:FIRST_FRAME], len(frames), codec)
    for frame in range(FIRST_FRAME, len(frames)):
        payload = encode(encoder, frame, own=own)
        np.testing.assert_array_equal(decoder.decode(frame, payload, own=own), frames[frame])


@pytest.mark.parametrize("own", [False, True])
def test_only_frames_of_the_same_phase_matter_to_a_frame(codec: Codec, lively: I32, own: bool) -> None:
    changed = lively.copy()
    others = np.arange(len(lively)) % 6 != 3
    changed[others, :, 4] += 77
    first, second = FrameEncoder(lively, codec), FrameEncoder(changed, codec)
    for frame in range(FIRST_FRAME, len(lively)):
        same = encode(first, frame, own=own) == encode(second, frame, own=own)
        assert same or frame % 6 != 3


def test_a_record_depends_on_its_cube_alone(codec: Codec, lively: I32) -> None:
    mine = int((lively[12:] != lively[6:-6]).any(2).sum(0).argmax())
    other = wild(3, len(lively), CUBES)
    other[:, mine] = lively[:, mine]
    first, second = FrameEncoder(lively, codec), FrameEncoder(other, codec)
    seen = set()
    for frame in range(FIRST_FRAME, len(lively)):
        for encoder in (first, second):
            encoder.lengths[:] = 0
            encoder.shareable(frame)
        bits = int(first.lengths[mine])
        assert bits == second.lengths[mine]
        assert string_text(first.strings[mine], bits) == string_text(second.strings[mine], bits)
        seen.add(bits)
    assert len(seen) > 3


def test_a_frame_is_its_records_strings_one_behind_the_other(codec: Codec, lively: I32) -> None:
    encoder = FrameEncoder(lively, codec)
    for frame in range(FIRST_FRAME, 40):
        encoder.lengths[:] = 0
        payload = encoder.shareable(frame)
        text = string_text(np.frombuffer(payload.ljust(4 * len(payload), b"\0"), np.uint32), 8 * len(payload))
        recent = (lively[frame - 6] != lively[frame - 12]).any(1)
        at = 0
        for cube in np.flatnonzero(recent):
            string = string_text(encoder.strings[cube], int(encoder.lengths[cube]))
            assert string
            at = text.index(string, at) + len(string)
        assert len(text) < int(encoder.lengths.sum()) + 64 + 16 * int((encoder.lengths > 0).sum())


def test_a_cube_at_rest_costs_nothing_and_a_free_fall_next_to_nothing(codec: Codec) -> None:
    frames = np.zeros((60, 2, 8), np.int32)
    frames[:, :, 0], frames[:, :, 1:4] = 3, 255
    steps = np.arange(60)
    frames[:, 1, 6] = np.rint(9000 + 200 * steps / 6 - 102 / 72 * steps**2)
    frames[:, 1, 4] = 13 * steps
    encoder = FrameEncoder(frames, codec)
    for frame in range(FIRST_FRAME, 60):
        encoder.lengths[:] = 0
        size = len(encoder.shareable(frame))
        assert encoder.lengths[0] == 0
        if frame >= 24:
            assert size <= 5


def test_a_stream_of_ones_own_learns_what_the_static_tables_do_not_know(codec: Codec) -> None:
    frames = wild(4, 150)
    encoder, fresh = FrameEncoder(frames, codec), FrameEncoder(frames, codec)
    own = [len(encoder.own(frame)) for frame in range(FIRST_FRAME, len(frames))]
    shared = [len(fresh.shareable(frame)) for frame in range(FIRST_FRAME, len(frames))]
    assert sum(own[-30:]) < 0.97 * sum(shared[-30:])
    assert sum(own[-30:]) < sum(own[6:36])


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=60, deadline=None)
def test_hostile_bytes_are_decoded_to_something(payload: bytes, own: bool) -> None:
    frames = wild(6, 13)
    decoder = FrameDecoder(frames[:FIRST_FRAME], 32, shipped())
    for frame in range(FIRST_FRAME, 32):
        decoded = decoder.decode(frame, payload, own=own)
        assert ((decoded[:, :4] >= LOW[:4]) & (decoded[:, :4] <= HIGH[:4])).all()


@given(st.integers(-(2**23), 2**23))
def test_a_residual_is_its_token_and_plain_bits(residual: int) -> None:
    symbol = symbol_of(residual)
    token, plain = (symbol >> TOKEN_AT) & 127, symbol >> (TOKEN_AT + 12)
    assert residual_of(token, plain) == residual
    assert symbol & ((1 << TOKEN_AT) - 1) == 0


def test_raw_contexts_fit_beside_the_token() -> None:
    assert FIRST[-1] < 1 << TOKEN_AT


@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=60))
def test_prefix_codes_are_complete_and_as_short_as_huffmans_where_the_limit_allows(weights: list[float]) -> None:
    lengths = code_lengths(np.array(weights), 40)
    heap, cost = sorted(weights), 0.0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    assert float((lengths * weights).sum()) == pytest.approx(cost)
    limited = code_lengths(np.array(weights), 7)
    assert limited.max() <= 7
    assert sum(2.0 ** -int(length) for length in limited) == 1.0


def test_words_are_prefix_free_and_the_tree_leads_to_their_symbols() -> None:
    lengths = code_lengths(np.array([40.0, 1.0, 0.0, 3.0, 9.0, 1.0]))
    words = sorted(
        format(word, f"0{length}b") for word, length in zip(words_of(lengths), lengths, strict=True) if length
    )
    assert not any(after.startswith(before) for before, after in pairwise(words))
    tree = {(node, bit): child for _, node, bit, child in tree_edges(lengths)}
    for symbol in np.flatnonzero(lengths):
        node = 0
        for bit in format(words_of(lengths)[symbol], f"0{lengths[symbol]}b"):
            node = tree[node, int(bit)]
        assert node == ~symbol


def test_the_reference_counts_every_bit(lively: I32) -> None:
    for frames in (lively, wild(8)):
        wide, changed, out = frames.view(np.int64), np.zeros(CUBES + 1, np.int64), np.zeros(1 << 14, np.uint8)
        expected = sum(golomb_frame_bytes(frames[f], frames[f - 6], frames[f - 12]) for f in range(12, len(frames)))
        assert golomb_frames(frames, wide, changed, out) == expected


def test_training_makes_what_it_was_trained_on_smaller(codec: Codec, lively: I32) -> None:
    trained = make_codec(*train_tables([list_symbols(lively)]))
    sizes = []
    for each in (codec, trained):
        encoder = FrameEncoder(lively, each)
        sizes.append(sum(len(encoder.shareable(frame)) for frame in range(FIRST_FRAME, len(lively))))
    assert sizes[1] < sizes[0]


def test_a_frame_that_has_no_room_is_refused(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = wild(9)
    monkeypatch.setattr(coding, "frame_words", lambda _cubes: 100)
    with pytest.raises(ToolsError, match="frame 12 takes more than 400 bytes"):
        FrameEncoder(frames, codec).own(FIRST_FRAME)


def test_without_data_the_bench_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "FRAMES", 40)
    cases = [entry.case for entry in bench.run([])]
    assert {"shareable seed 1 (made)", "own-stream seed 1 (made)"} <= set(cases)


def test_generated_frames_follow_from_the_seed_and_stay_in_range(lively: I32) -> None:
    np.testing.assert_array_equal(generate_cubes(5, 90, CUBES), lively)
    assert (generate_cubes(6, 90, CUBES) != lively).any()
    assert ((lively >= LOW) & (lively <= HIGH)).all()
    moving = (lively[12:] != lively[6:-6]).any(2).mean()
    assert 0.05 < moving < 0.95


def test_the_bench_names_mode_and_file_and_beats_the_reference(tmp_path: Path, lively: I32) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, state=lively)
    rows = {entry.case: entry for entry in bench.run([path])}
    for mode in ("shareable", "own-stream"):
        entry = rows[f"{mode} some.npz"]
        assert (entry.unit, entry.reference) == ("bytes/frame", "static exp-Golomb")
        assert entry.ratio is not None
        assert entry.ratio > 1.0
        assert rows[f"{mode} some.npz, µs per frame"].unit == "µs"
    assert rows["shareable some.npz"].reference_value == rows["own-stream some.npz"].reference_value


def test_the_bench_refuses_figures_of_a_coder_that_loses_something(
    codec: Codec, lively: I32, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = bench.Pass(lively, codec, ranged=False)
    decode = each.decode

    def spoil() -> int:
        count = decode()
        each.decoded[40, 3, 4] += 1
        return count

    monkeypatch.setattr(each, "decode", spoil)
    with pytest.raises(ToolsError, match="x: frame 40 was not decoded"):
        each.check("x")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (np.zeros((20, 4, 7), np.int32), "give integers, .frames, cubes, 8."),
        (np.zeros((20, 4, 8), np.float64), "state is float64"),
        (np.zeros((12, 4, 8), np.int32), "give more than 12"),
        (np.full((20, 4, 8), 512, np.int32), "column 0 is out of range; give values of 0 to 3"),
    ],
)
def test_a_file_of_another_kind_is_told_in_one_line(tmp_path: Path, state: AnyArray, message: str) -> None:
    path = tmp_path / "some.npz"
    np.savez(path, state=state)
    with pytest.raises(ToolsError, match=message):
        load_cubes(path)


@pytest.mark.parametrize("content", [b"", b"PK\3\4", b"text"])
def test_a_file_that_is_no_archive_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with pytest.raises(ToolsError, match=r"some.npz: no frames of cubes"):
        load_cubes(path)


def test_frames_of_another_type_are_refused(codec: Codec, lively: I32) -> None:
    with pytest.raises(ToolsError, match="state is int64; give int32"):
        FrameEncoder(lively.astype(np.int64), codec)
    with pytest.raises(ToolsError, match="give more than 12"):
        FrameEncoder(lively[:12].copy(), codec)
    beyond = lively.copy()
    beyond[20, 0, 4] = 1 << 17
    with pytest.raises(ToolsError, match="column 4 is out of range; give values of -131072 to 131071"):
        FrameEncoder(beyond, codec)
