"""Many frames in one call, so that a benchmark times the coders and not the calls into them."""

from sim.arrays import I16, I32, I64, U8, U16, U32
from sim.jit import kernel
from tools.cubes.coder_kernels import TABLES, assemble_frame, write_stream, write_strings
from tools.cubes.decode_kernels import decode_frame
from tools.cubes.describe_kernels import BASELINE, SCRATCH, describe_frame, mark_changes

__all__ = ["decode_frames", "encode_frames"]

OUT = "Tuple((u4[:,::1], u1[:,::1]))"  # the same bytes as words and as bytes, one row a frame


@kernel(
    f"(i4[:,:,::1], i8[:,::1], i8[:,::1], {TABLES}, {SCRATCH}, i8[::1], Tuple((u4[:,::1], i8[::1])), u2[:,:,::1], i8,"
    f" {OUT}, i8[::1])",
    counted=False,
)
def encode_frames(
    frames: I32, wide: I64, bits: I64, tables: tuple[I16, I32, I16, I16], scratch: tuple[I64, I64, I64, I64],
    moods: I64, records: tuple[U32, I64], chances: U16, ranged: int, out: tuple[U32, U8], sizes: I64,
) -> int:  # fmt: skip
    """Encode every frame from the twelfth on into its row of `out`, sizes in bytes; how many records there were."""
    strings, lengths = records
    words, data = out
    total = 0
    for frame in range(BASELINE, frames.shape[0]):
        if frame < 2 * BASELINE:
            mark_changes(wide, frame, frame - BASELINE, bits)
            continue
        count, known = describe_frame(frames, wide, frame, bits, scratch, moods)
        total += count
        if ranged != 0:
            sizes[frame] = write_stream(
                tables, scratch, moods, count, known, chances[frame % BASELINE], data[frame]
            )  # fmt: skip
        else:
            write_strings(tables, scratch, count, known, strings, lengths)
            sizes[frame] = assemble_frame(tables, scratch, count, known, strings, lengths, words[frame])
    return total


@kernel(f"(i4[:,:,::1], i8[:,::1], i8[:,::1], {TABLES}, {SCRATCH}, u2[:,:,::1], i8, {OUT})", counted=False)
def decode_frames(
    frames: I32, wide: I64, bits: I64, tables: tuple[I16, I32, I16, I16], scratch: tuple[I64, I64, I64, I64],
    chances: U16, ranged: int, out: tuple[U32, U8],
) -> int:  # fmt: skip
    """Decode every frame from the twelfth on from its row of `out`; how many records there were."""
    words, data = out
    total = 0
    for frame in range(BASELINE, frames.shape[0]):
        if frame < 2 * BASELINE:
            mark_changes(wide, frame, frame - BASELINE, bits)
            continue
        total += decode_frame(
            frames, wide, frame, bits, tables, scratch, chances[frame % BASELINE], words[frame], data[frame], ranged
        )
    return total
