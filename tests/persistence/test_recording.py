"""Recordings survive killed writers, full disks, damage and malice: what can be read is read, and the rest is told."""

import errno
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from persistence.errors import RecordingError
from persistence.recording import (
    PROBLEMS_MAX,
    Chunk,
    ChunkKind,
    RecordingReader,
    RecordingWriter,
    is_being_written,
)
from persistence.recording_format import (
    CHUNK_RAW_MAX,
    CODEC_STORED,
    CODEC_ZSTD,
    HEAD_BYTES,
    HEADER_BYTES_MAX,
    PROLOGUE_BYTES,
    Head,
    pack_trailer,
)

HEADER = {"game": "arena", "tick_hz": 60, "note": "ü"}
PAYLOADS = [bytes([n]) * 500 + os.urandom(8) for n in range(4)]


def write(path: Path, *, close: bool = True) -> list[tuple[int, int, int, bytes]]:
    """A recording of four seconds; what is in it."""
    entries: list[tuple[int, int, int, bytes]] = [(int(ChunkKind.KEYFRAME), 0, 0, b"state" * 100)]
    entries += [(int(ChunkKind.COMMANDS), 1 + 60 * n, 60, payload) for n, payload in enumerate(PAYLOADS)]
    entries += [(int(ChunkKind.NOTES), 60, 0, b"")]
    writer = RecordingWriter(path, HEADER)
    for entry in entries:
        writer.append(*entry)
    assert writer.bytes_written == path.stat().st_size
    if close:
        writer.close()
        writer.close()
    else:
        os.close(writer._descriptor)  # as the system does when a process is killed
    return entries


def contents(reader: RecordingReader) -> list[tuple[int, int, int, bytes]]:
    return [(int(c.kind), c.first_tick, c.tick_count, reader.read(c)) for c in reader.chunks]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.hitrec"
    entries = write(path)
    with RecordingReader(path) as reader:
        assert reader.header == HEADER
        assert contents(reader) == entries
        assert (reader.complete, reader.problems, reader.check()) == (True, [], [])
        assert [c.first_tick for c in reader.of_kind(ChunkKind.NOTES)] == [60]
        assert all(c.stored_bytes <= c.raw_bytes for c in reader.chunks)
        assert reader.chunks[1].stored_bytes < 60 < reader.chunks[1].raw_bytes


def test_a_recording_that_was_not_closed_has_all_that_was_appended(tmp_path: Path) -> None:
    path = tmp_path / "a.hitrec"
    entries = write(path, close=False)
    with RecordingReader(path) as reader:
        assert contents(reader) == entries
        assert not reader.complete
        assert len(reader.problems) == 1
        assert "was not closed" in reader.problems[0]


def test_a_killed_process_leaves_a_readable_file_which_was_locked_until_then(tmp_path: Path) -> None:
    path = tmp_path / "a.hitrec"
    program = (
        "import sys, pathlib; from persistence.recording import RecordingWriter\n"
        "w = RecordingWriter(pathlib.Path(sys.argv[1]), {'a': 1})\n"
        "[w.append(2, 1 + 60 * n, 60, bytes(1000)) for n in range(5)]\n"
        "print('there', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert is_being_written(path)
        with RecordingReader(path) as reader:
            assert reader.problems == ["is still being written"]
            assert len(reader.chunks) == 5
        process.kill()
        process.wait()
    assert not is_being_written(path)
    with RecordingReader(path) as reader:
        assert [c.first_tick for c in reader.chunks] == [1, 61, 121, 181, 241]


def test_a_file_cut_anywhere_gives_its_whole_chunks_and_says_so(tmp_path: Path) -> None:
    path, cut = tmp_path / "a.hitrec", tmp_path / "cut.hitrec"
    entries = write(path, close=False)
    whole = path.read_bytes()
    with RecordingReader(path) as reader:
        ends = [c.offset + HEAD_BYTES + c.stored_bytes for c in reader.chunks]
        first = reader.chunks[0].offset
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        if length < first:
            with pytest.raises(RecordingError):
                RecordingReader(cut)
            continue
        with RecordingReader(cut) as reader:
            assert contents(reader) == entries[: sum(end <= length for end in ends)]
            assert not reader.complete
            torn = length not in {first, *ends}
            assert len(reader.problems) == 1 + torn
            if torn:
                assert "left out" in reader.problems[1]


def test_every_flipped_byte_is_told_or_harmless_and_costs_one_chunk_at_most(tmp_path: Path) -> None:
    path, bad = tmp_path / "a.hitrec", tmp_path / "bad.hitrec"
    for close in (True, False):
        path.unlink(missing_ok=True)
        entries = write(path, close=close)
        whole = path.read_bytes()
        for at in range(len(whole)):
            changed = bytearray(whole)
            changed[at] ^= 1 + at % 255
            bad.write_bytes(changed)
            if at < 8 or (not close and at < PROLOGUE_BYTES + HEAD_BYTES + len(msgpack.packb(HEADER))):
                try:
                    RecordingReader(bad).close()
                except RecordingError as error:
                    assert "\n" not in str(error)
                continue
            with RecordingReader(bad) as reader:
                assert reader.header == HEADER
                read = []
                for chunk in reader.chunks:
                    try:
                        read.append((int(chunk.kind), chunk.first_tick, chunk.tick_count, reader.read(chunk)))
                    except RecordingError as error:
                        assert f"tick{'s' if chunk.tick_count else ''} {chunk.first_tick}" in str(error)
                assert len(read) >= len(entries) - 1
                assert [entry for entry in entries if entry in read] == read
                assert len(read) == len(entries) or reader.problems or reader.check()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(st.tuples(st.integers(0, 5000), st.binary(max_size=40), st.integers(0, 60)), max_size=6))
def test_any_damage_gives_lines_and_never_anything_else(tmp_path: Path, edits: list[tuple[int, bytes, int]]) -> None:
    path = tmp_path / "a.hitrec"
    path.unlink(missing_ok=True)
    write(path)
    content = path.read_bytes()
    for at, put, taken in edits:
        content = content[:at] + put + content[at + taken :]
    path.write_bytes(content)
    try:
        reader = RecordingReader(path)
    except RecordingError as error:
        assert "\n" not in str(error)
        return
    with reader:
        for chunk in reader.chunks:
            try:
                reader.read(chunk)
            except RecordingError as error:
                assert "\n" not in str(error)
        assert all("\n" not in line for line in reader.problems + reader.check())


def hostile(path: Path, chunks: list[tuple[Head, bytes]], *, listed: bool = True) -> None:
    """A file whose checksums all hold."""
    header = msgpack.packb(HEADER)
    content = struct.pack("<8sHH", b"\x89HRREC\r\n", 1, 0)
    content += struct.pack("<I", zlib.crc32(content))
    content += Head(0, CODEC_STORED, 0, 0, len(header), len(header), zlib.crc32(header)).pack() + header
    entries = b""
    for head, payload in chunks:
        entries += head.pack() + struct.pack("<Q", len(content))
        content += head.pack() + payload
    if listed:
        offset = len(content)
        index = Head(255, CODEC_STORED, 0, 0, len(entries), len(entries), zlib.crc32(entries))
        content += index.pack() + entries + pack_trailer(offset, len(chunks))
    path.write_bytes(content)


def chunk_of(payload: bytes, **changes: Any) -> tuple[Head, bytes]:
    values = {
        "kind": 2, "codec": CODEC_ZSTD, "tick_count": 60, "first_tick": 1, "stored_bytes": len(payload),
        "raw_bytes": 5000, "check": zlib.crc32(payload),
    }  # fmt: skip
    return Head(**(values | changes)), payload


def test_a_frame_that_grows_beyond_its_word_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.hitrec"
    bomb = zstandard.ZstdCompressor().compress(bytes(CHUNK_RAW_MAX * 2))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(5000))
    short = zstandard.ZstdCompressor().compress(bytes(4999))
    junk = b"no frame at all"
    cases = [chunk_of(bomb, raw_bytes=len(bomb)), chunk_of(unsized), chunk_of(short), chunk_of(junk)]
    hostile(path, [*cases, chunk_of(b"abc", codec=CODEC_STORED, raw_bytes=5)])
    with RecordingReader(path) as reader:
        assert len(reader.chunks) == 5
        for chunk in reader.chunks:
            with pytest.raises(RecordingError, match="ticks 1 to 60, at byte"):
                reader.read(chunk)
        assert len(reader.check()) == 5


def test_heads_that_claim_too_much_are_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.hitrec"
    good = chunk_of(b"x" * 40, codec=CODEC_STORED, raw_bytes=40)
    bad = [
        chunk_of(b"", raw_bytes=CHUNK_RAW_MAX + 1),
        chunk_of(b"", stored_bytes=4_000_000_000, raw_bytes=4_000_000_000),
        chunk_of(b"", tick_count=60_000),
        chunk_of(b"", first_tick=-1),
        chunk_of(b"", codec=9),
        chunk_of(b"y" * 10, codec=CODEC_STORED, raw_bytes=5),
    ]
    hostile(path, [*bad, good], listed=False)
    with RecordingReader(path) as reader:
        assert [reader.read(c) for c in reader.chunks] == [b"x" * 40]
    hostile(path, [*bad, good])
    with RecordingReader(path) as reader:
        assert [reader.read(c) for c in reader.chunks] == [b"x" * 40]
        assert "its index contradicts itself" in reader.problems[0]
    hostile(path, [chunk_of(b"", stored_bytes=4000), good], listed=False)
    with RecordingReader(path) as reader:
        assert [reader.read(c) for c in reader.chunks] == [b"x" * 40]


def test_a_kind_of_a_later_build_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.hitrec"
    hostile(path, [chunk_of(b"x", kind=77, codec=CODEC_STORED, raw_bytes=1)] * (PROBLEMS_MAX + 5))
    with RecordingReader(path) as reader:
        assert reader.chunks == ()
        assert "unknown to this build, 77" in reader.problems[0]
        assert len(reader.problems) == PROBLEMS_MAX + 1
        assert reader.problems[-1] == "and 5 more such lines"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no recording"),
        (b"PK\x03\x04" + bytes(100), "no recording"),
        (struct.pack("<8sHHI", b"\x89HRREC\r\n", 7, 0, zlib.crc32(struct.pack("<8sHH", b"\x89HRREC\r\n", 7, 0))),
         "version 7 of the format, this build reads 1"),
        (struct.pack("<8sHHI", b"\x89HRREC\r\n", 1, 0, zlib.crc32(struct.pack("<8sHH", b"\x89HRREC\r\n", 1, 0))),
         "header is damaged or missing"),
    ],
)  # fmt: skip
def test_what_is_no_recording_of_this_version_is_refused_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.hitrec"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=said) as caught:
        RecordingReader(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_cannot_be_opened_or_made_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="No such file"):
        RecordingReader(tmp_path / "none.hitrec")
    with pytest.raises(RecordingError, match="cannot be read"):
        RecordingReader(tmp_path)
    taken = tmp_path / "taken.hitrec"
    taken.touch()
    with pytest.raises(RecordingError, match="File exists"):
        RecordingWriter(taken, HEADER)
    assert taken.stat().st_size == 0


def test_a_full_disk_leaves_what_was_there_and_a_readable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.hitrec"
    writer = RecordingWriter(path, HEADER)
    writer.append(ChunkKind.COMMANDS, 1, 60, b"a" * 100)
    size = path.stat().st_size
    real = os.write
    calls = []

    def full(descriptor: int, content: bytes) -> int:
        calls.append(len(content))
        if len(calls) == 1:
            return real(descriptor, content[:7])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("persistence.recording.os.write", full)
    with pytest.raises(RecordingError, match="the disk is full"):
        writer.append(ChunkKind.COMMANDS, 61, 60, b"b" * 100)
    assert path.stat().st_size == size
    monkeypatch.setattr("persistence.recording.os.write", real)
    writer.append(ChunkKind.COMMANDS, 61, 60, b"c" * 100)
    writer.close()
    with RecordingReader(path) as reader:
        assert [content[3] for content in contents(reader)] == [b"a" * 100, b"c" * 100]
        assert reader.complete


def test_writers_refuse_what_readers_would_not_believe(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="header of"):
        RecordingWriter(tmp_path / "a.hitrec", {"x": "y" * HEADER_BYTES_MAX})
    with RecordingWriter(tmp_path / "b.hitrec", HEADER) as writer:
        for first, count in ((-1, 1), (0, 5000), (1 << 63, 1)):
            with pytest.raises(RecordingError, match="ticks"):
                writer.append(ChunkKind.COMMANDS, first, count, b"")
        with pytest.raises(RecordingError, match="at most"):
            writer.append(ChunkKind.KEYFRAME, 0, 0, bytes(CHUNK_RAW_MAX + 1))
    with pytest.raises(RecordingError, match="is closed"):
        writer.append(ChunkKind.COMMANDS, 1, 60, b"")
    assert str(Chunk(ChunkKind.KEYFRAME, 9, 0, 0, 0, 0, 0, 0)) == "keyframe of tick 9"
