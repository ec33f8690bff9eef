"""`cubes`: state of rigid bodies in few bytes, each frame against the one six before it, whatever was lost between.

Value: mean bytes per frame, without packet headers, over all frames from the twelfth on. `shareable`: records that are
strings of bits made once for all clients, put one behind the other. `own-stream`: a range coder per client that learns
from acknowledged frames. Reference: linear prediction with static exp-Golomb codes, measured on the same file in the
same run. Every frame of both is decoded again and compared before a figure is printed. Further cases: microseconds of
processor time per frame to encode (find changes, predict, write) and to decode.

Data: `.npz` files with `state` as `tools.cubes.data` describes them; without any, a small set made from a seed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from sim.arrays import I32, I64, U8, U16, U32
from tools.bench.harness import Row, row
from tools.cubes.batch_kernels import decode_frames, encode_frames
from tools.cubes.codec import FIRST_FRAME, STRING_WORDS, Codec, Scratch, frame_words, load_codec, make_scratch
from tools.cubes.data import generate_cubes, load_cubes
from tools.cubes.describe_kernels import BASELINE, RING, WORD
from tools.cubes.golomb_kernels import golomb_frames
from tools.errors import ToolsError

__all__ = ["measure", "run"]

MODES = ("shareable", "own-stream")
REFERENCE = "static exp-Golomb"
ROUNDS = 5
SEED, FRAMES = 1, 600


class Pass:
    """One way to code a set of frames, with everything it writes to."""

    def __init__(self, frames: I32, codec: Codec, *, ranged: bool) -> None:
        self.frames, self.codec, self.ranged = frames, codec, int(ranged)
        count, cubes = frames.shape[:2]
        self.wide: I64 = frames.reshape(count, -1).view(np.int64)
        self.decoded: I32 = np.zeros_like(frames)
        self.decoded[:FIRST_FRAME] = frames[:FIRST_FRAME]
        self.decoded_wide: I64 = self.decoded.reshape(count, -1).view(np.int64)
        self.scratch: Scratch = make_scratch(cubes)
        self.moods: I64 = np.zeros(cubes + 1, np.int64)
        self.records: tuple[U32, I64] = (np.zeros((cubes, STRING_WORDS), np.uint32), np.zeros(cubes, np.int64))
        words: U32 = np.zeros((count, frame_words(cubes)), np.uint32)  # the system gives only pages written to
        self.out: tuple[U32, U8] = (words, words.view(np.uint8))
        self.sizes: I64 = np.zeros(count, np.int64)

    def _begin(self) -> tuple[I64, U16]:
        """Marks and chances of a chain that begins."""
        words = -(-self.frames.shape[1] // WORD)
        return np.zeros((RING, words), np.int64), np.stack([self.codec.chances] * BASELINE)

    def encode(self) -> int:
        """Encode all frames; how many records there were."""
        bits, chances = self._begin()
        return int(
            encode_frames(
                self.frames, self.wide, bits, self.codec.coder, self.scratch, self.moods, self.records, chances,
                self.ranged, self.out, self.sizes,
            )
        )  # fmt: skip

    def decode(self) -> int:
        """Decode all frames; how many records there were."""
        bits, chances = self._begin()
        return int(
            decode_frames(
                self.decoded, self.decoded_wide, bits, self.codec.coder, self.scratch, chances, self.ranged, self.out
            )
        )

    def check(self, name: str) -> None:
        """Encode, forget what lies behind each frame's last byte, decode, compare.

        Raises:
            ToolsError: A frame differs.
        """
        self.encode()
        if (self.sizes < 0).any():
            raise ToolsError(f"bench cubes: {name}: a frame takes more than {self.out[1].shape[1]} bytes")
        for frame in range(FIRST_FRAME, len(self.frames)):
            self.out[1][frame, self.sizes[frame] : self.sizes[frame] + 64] = 0
        self.decode()
        wrong = np.flatnonzero((self.decoded != self.frames).any((1, 2)))
        if len(wrong):
            raise ToolsError(f"bench cubes: {name}: frame {wrong[0]} was not decoded as it was encoded")


def processor_us(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median processor time of each function [µs], in turn: a pass takes longer than a slice of a busy machine."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.thread_time_ns()
            function()
            times[name].append((time.thread_time_ns() - start) / 1e3)
    return {name: median(values) for name, values in times.items()}


def measure(name: str, frames: I32, codec: Codec) -> list[Row]:
    """The rows of one set of frames."""
    coded = len(frames) - FIRST_FRAME
    wide, changed = frames.view(np.int64), np.zeros(frames.shape[1] + 1, np.int64)
    out = np.zeros(frames.shape[1] * 64 + 64, np.uint8)
    reference = golomb_frames(frames, wide, changed, out) / coded
    passes = {mode: Pass(frames, codec, ranged=mode == "own-stream") for mode in MODES}
    timed: dict[str, Callable[[], object]] = {REFERENCE: lambda: golomb_frames(frames, wide, changed, out)}
    for mode, each in passes.items():
        each.check(f"{mode} {name}")
        timed |= {mode: each.encode, f"{mode} decode": each.decode}
    us = {case: took / coded for case, took in processor_us(timed, ROUNDS).items()}
    rows = [
        row(
            f"{mode} {name}", float(each.sizes.sum()) / coded, unit="bytes/frame", reference=REFERENCE,
            reference_value=reference,
        )
        for mode, each in passes.items()
    ]  # fmt: skip
    for mode in MODES:
        rows.append(row(f"{mode} {name}, µs per frame", us[mode], reference=REFERENCE, reference_value=us[REFERENCE]))
        rows.append(row(f"{mode} {name}, decode, µs per frame", us[f"{mode} decode"]))
    return rows


def run(data: Sequence[Path]) -> list[Row]:
    """Measure each file, or a set made from a seed."""
    codec = load_codec()
    if not data:
        return measure(f"seed {SEED} (made)", generate_cubes(SEED, FRAMES), codec)
    return [entry for path in data for entry in measure(path.name, load_cubes(path), codec)]
