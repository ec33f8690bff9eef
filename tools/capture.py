"""Recordings of payloads: what compression is trained and measured on.

A capture file, little endian: 8 bytes `HRCAPT` and u16 version 1, then per payload u8 class (`PayloadClass`),
u32 length, and that many bytes. It is written in one go and read whole; what exceeds `CAPTURE_BYTES_MAX` or
`PAYLOAD_BYTES_MAX` is refused. `tools.match` makes payloads.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from net.dictionaries import PayloadClass
from tools.errors import ToolsError

__all__ = ["CAPTURE_BYTES_MAX", "PAYLOAD_BYTES_MAX", "Payload", "read_capture", "write_capture"]

MAGIC = b"HRCAPT\x01\x00"
CAPTURE_BYTES_MAX = 1 << 30
PAYLOAD_BYTES_MAX = 16 << 20
_HEAD = struct.Struct("<BI")
REMEDY = "record one with `hitreg dictionary capture`"


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload as it is handed to the compressor."""

    kind: PayloadClass
    content: bytes


def write_capture(path: Path, payloads: Iterable[Payload]) -> int:
    """Write a capture file; how many payloads it holds.

    Raises:
        ToolsError: The file cannot be written, or would exceed a limit.
    """
    count, size = 0, len(MAGIC)
    try:
        with path.open("wb") as file:
            file.write(MAGIC)
            for payload in payloads:
                size += _HEAD.size + len(payload.content)
                if size > CAPTURE_BYTES_MAX or len(payload.content) > PAYLOAD_BYTES_MAX:
                    raise ToolsError(f"{path}: more than {CAPTURE_BYTES_MAX:,} bytes; record fewer seconds")
                file.write(_HEAD.pack(payload.kind, len(payload.content)) + payload.content)
                count += 1
    except OSError as error:
        raise ToolsError(f"{path}: {error.strerror}; give a file in a directory you may write") from error
    return count


def read_capture(path: Path) -> list[Payload]:
    """All payloads of a capture file, in their order.

    Raises:
        ToolsError: It cannot be read, is no capture, is cut short, or exceeds a limit.
    """
    try:
        if path.stat().st_size > CAPTURE_BYTES_MAX:
            raise ToolsError(f"{path}: more than {CAPTURE_BYTES_MAX:,} bytes; {REMEDY}")
        data = path.read_bytes()
    except OSError as error:
        raise ToolsError(f"{path}: {error.strerror}; {REMEDY}") from error
    if data[: len(MAGIC)] != MAGIC:
        raise ToolsError(f"{path}: magic = {data[: len(MAGIC)]!r}: not a capture of version 1; {REMEDY}")
    payloads: list[Payload] = []
    at, kinds = len(MAGIC), {int(kind) for kind in PayloadClass}
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise ToolsError(f"{path}: cut short in the head of payload {len(payloads)}; {REMEDY}")
        kind, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if kind not in kinds or length > PAYLOAD_BYTES_MAX or at + length > len(data):
            raise ToolsError(f"{path}: payload {len(payloads)} has class {kind} and {length:,} bytes; {REMEDY}")
        payloads.append(Payload(PayloadClass(kind), data[at : at + length]))
        at += length
    return payloads
