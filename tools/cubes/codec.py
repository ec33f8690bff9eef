"""Frames of cubes to bytes and back: shareable records, or a stream of one's own.

A frame is coded against the one six before it, as over a round trip of 100 ms, and against what its receiver decoded
six and twelve frames before that: nothing newer, so that a lost frame spoils nothing but itself. Shareable frames are
strings of bits, one per cube, each made once from acknowledged rows and static tables, put one behind the other. A
stream of one's own codes the same symbols by a range coder that learns from the acknowledged frames of its chain (f −
6, f − 12, …), so there are six sets of chances.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sim.arrays import I16, I32, I64, U8, U16, U32, AnyArray
from tools.cubes.coder_kernels import LENGTH_AT, assemble_frame, write_stream, write_strings
from tools.cubes.decode_kernels import QUICK, decode_frame
from tools.cubes.describe_kernels import BASELINE, MOODS, RING, SYMBOLS_MAX, WORD, describe_frame, mark_changes
from tools.cubes.model_kernels import COLUMNS, FEATURES, FIRST, SYMBOLS
from tools.cubes.prefix import tree_edges, words_of
from tools.errors import ToolsError

__all__ = [
    "FIRST_FRAME",
    "HIGH",
    "LOW",
    "STRING_WORDS",
    "TABLES_FILE",
    "Codec",
    "Coder",
    "FrameDecoder",
    "FrameEncoder",
    "Scratch",
    "check_frames",
    "frame_words",
    "load_codec",
    "make_codec",
    "make_scratch",
]

TABLES_FILE = Path(__file__).with_name("tables.npz")
FIRST_FRAME = 2 * BASELINE  # the first that is coded; those before it are what the receiver has
LOW = np.array([0, 0, 0, 0, -(1 << 17), -(1 << 17), 0, 0])  # by column
HIGH = np.array([3, 511, 511, 511, (1 << 17) - 1, (1 << 17) - 1, (1 << 14) - 1, 1])
FRAME_SLACK = 64  # words that a frame may take beyond STRING_WORDS a cube
STRING_WORDS = 16  # a record is at most 7 · (15 + 22) + 15 bits
Coder = tuple[I16, I32, I16, I16]  # maps, codes, tree, quick
Scratch = tuple[I64, I64, I64, I64]  # cubes, ends, symbols, features


@dataclass(frozen=True, slots=True)
class Codec:
    """Static tables, as `coder_kernels.py` describes them, and the chances that streams begin with."""

    coder: Coder
    chances: U16


def _tree(lengths: U8) -> tuple[I32, I16, I16]:
    """Words, tree and quick look-up of one prefix code."""
    codes, tree, quick = np.zeros(SYMBOLS, np.int32), np.zeros(2 * SYMBOLS, np.int16), np.zeros(1 << QUICK, np.int16)
    for _, node, bit, child in tree_edges(lengths):
        tree[2 * node + bit] = child
    for token, word in enumerate(words_of(lengths)):
        length = int(lengths[token])
        if length == 0:
            continue
        turned = int(format(word, f"0{length}b")[::-1], 2)
        codes[token] = turned | length << LENGTH_AT
        if length <= QUICK:
            quick[turned :: 1 << length] = length << 7 | token
    for start in range(1 << QUICK):
        node = 0
        for place in range(QUICK):
            node = int(tree[2 * node + ((start >> place) & 1)]) if node >= 0 else node
        if node > 0:
            quick[start] = ~node
    return codes, tree, quick


def make_codec(maps: I16, lengths: U8, chances: U16) -> Codec:
    """A codec of trained tables (`train.train_tables`).

    Args:
        maps: Code of each raw context, shape (contexts,).
        lengths: Word lengths of each code [bits], shape (codes, `SYMBOLS`).
        chances: Chance of a 0 at each node in 1/65536, by mood, shape (MOODS · codes, `SYMBOLS`).
    """
    assert chances.shape == (MOODS * len(lengths), SYMBOLS)
    assert len(maps) == FIRST[-1]
    codes, trees, quick = (np.ascontiguousarray(part) for part in zip(*(_tree(row) for row in lengths), strict=True))
    return Codec((np.ascontiguousarray(maps), codes, trees, quick), chances)


def load_codec() -> Codec:
    """The codec with the tables that are shipped."""
    with np.load(TABLES_FILE) as stored:
        return make_codec(stored["maps"], stored["lengths"], stored["chances"])


def frame_words(cubes: int) -> int:
    """The longest frame [32-bit words]: records that take more make `FrameEncoder.own` refuse."""
    return cubes * STRING_WORDS + FRAME_SLACK


def make_scratch(cubes: int) -> Scratch:
    """What the kernels write to while they code a frame of `cubes` cubes."""
    ends, symbols, features = (np.zeros(size, np.int64) for size in (cubes, cubes * SYMBOLS_MAX + 2, FEATURES))
    return np.zeros(max(cubes, 8), np.int64), ends, symbols, features


def check_frames(name: str, state: AnyArray) -> None:
    """Make sure that an array holds frames of cubes.

    Raises:
        ToolsError: It is of another kind or shape, or a value is out of its column's range; begins with `name`.
    """
    if state.ndim != 3 or state.shape[2] != COLUMNS or state.dtype.kind not in "iu" or state.shape[1] == 0:
        raise ToolsError(f"{name}: state is {state.dtype}, {state.shape}; give integers, (frames, cubes, {COLUMNS})")
    if len(state) <= FIRST_FRAME:
        raise ToolsError(f"{name}: state has {len(state)} frames; give more than {FIRST_FRAME}")
    wrong = ((state < LOW) | (state > HIGH)).any((0, 1))
    if wrong.any():
        column = int(np.flatnonzero(wrong)[0])
        allowed = f"{LOW[column]} to {HIGH[column]}"
        raise ToolsError(f"{name}: state column {column} is out of range; give values of {allowed}")


class _Chain:
    """What sender and receiver both have: changes marked so far, scratch, and chances by phase."""

    def __init__(self, frames: I32, codec: Codec) -> None:
        check_frames("cubes", frames)
        if frames.dtype != np.int32 or not frames.flags.c_contiguous:
            raise ToolsError(f"cubes: state is {frames.dtype}; give int32, C-contiguous")
        cubes = frames.shape[1]
        self.frames, self.codec = frames, codec
        self._wide: I64 = frames.reshape(len(frames), -1).view(np.int64)
        self._bits: I64 = np.zeros((RING, -(-cubes // WORD)), np.int64)
        self._scratch = make_scratch(cubes)
        self._chances: list[U16] = [codec.chances.copy() for _ in range(BASELINE)]
        for frame in range(BASELINE, FIRST_FRAME):
            mark_changes(self._wide, frame, frame - BASELINE, self._bits)


class FrameEncoder(_Chain):
    """The sender's side of one chain of frames."""

    def __init__(self, frames: I32, codec: Codec) -> None:
        """Begin behind the first twelve frames.

        Args:
            frames: All frames, int32, shape (frames, cubes, 8), C-contiguous.
            codec: Static tables.

        Raises:
            ToolsError: `frames` is of another type or shape, out of range, or has no frame to code.
        """
        super().__init__(frames, codec)
        cubes = frames.shape[1]
        self.strings: U32 = np.zeros((cubes, STRING_WORDS), np.uint32)
        self.lengths: I64 = np.zeros(cubes, np.int64)
        self._moods: I64 = np.zeros(cubes + 1, np.int64)
        self._words: U32 = np.zeros(frame_words(cubes), np.uint32)
        self._out: U8 = self._words.view(np.uint8)

    def describe(self, frame: int) -> tuple[int, int]:
        """Find what changed and describe it; how many records there are, and how many were foretold.

        Frames are described in order, from the twelfth on, each once.
        """
        return describe_frame(self.frames, self._wide, frame, self._bits, self._scratch, self._moods)

    def make_strings(self, count: int, known: int) -> None:
        """Write the record of each cube of the described frame to `strings` and its length in bits to `lengths`."""
        write_strings(self.codec.coder, self._scratch, count, known, self.strings, self.lengths)

    def assemble(self, count: int, known: int) -> int:
        """Put the described frame together from `strings`; its size in bytes."""
        return int(
            assemble_frame(
                self.codec.coder, self._scratch, count, known, self.strings, self.lengths, self._words
            )
        )  # fmt: skip

    def stream(self, frame: int, count: int, known: int) -> int:
        """Write the described frame by the range coder, which learns; its size in bytes, below 0 if it has no room."""
        chances = self._chances[frame % BASELINE]
        return int(write_stream(self.codec.coder, self._scratch, self._moods, count, known, chances, self._out))

    def shareable(self, frame: int) -> bytes:
        """A frame of shareable records."""
        count, known = self.describe(frame)
        self.make_strings(count, known)
        return self._out[: self.assemble(count, known)].tobytes()

    def own(self, frame: int) -> bytes:
        """A frame of a stream of one's own.

        Raises:
            ToolsError: It is longer than `frame_words` allows; the stream is of no use from then on.
        """
        count, known = self.describe(frame)
        size = self.stream(frame, count, known)
        if size < 0:
            raise ToolsError(f"cubes: frame {frame} takes more than {len(self._out)} bytes; code fewer cubes")
        return self._out[:size].tobytes()


class FrameDecoder(_Chain):
    """The receiver's side of one chain of frames."""

    def __init__(self, first: I32, count: int, codec: Codec) -> None:
        """Begin with the first twelve frames.

        Args:
            first: Those, int32, shape (12, cubes, 8).
            count: How many frames there will be in all.
            codec: Static tables.
        """
        frames = np.zeros((count, *first.shape[1:]), np.int32)
        frames[:FIRST_FRAME] = first
        super().__init__(frames, codec)
        self._words: U32 = np.zeros(frame_words(frames.shape[1]), np.uint32)
        self._data: U8 = self._words.view(np.uint8)

    def decode(self, frame: int, payload: bytes, *, own: bool) -> I32:
        """Decode a frame, in order, each once.

        Args:
            frame: Its number.
            payload: What `FrameEncoder.shareable` or `.own` returned.
            own: Which of them.

        Returns:
            The frame, shape (cubes, 8), a view.
        """
        size = min(len(payload), len(self._data))
        self._data[:size] = np.frombuffer(payload, np.uint8, size)
        self._data[size:] = 0
        decode_frame(
            self.frames, self._wide, frame, self._bits, self.codec.coder, self._scratch,
            self._chances[frame % BASELINE], self._words, self._data, int(own),
        )  # fmt: skip
        decoded: I32 = self.frames[frame]
        return decoded
