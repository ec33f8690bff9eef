"""The payload layout of net/snapshots.py as plain bytes and strings of bits: what a server sends, written naively."""

from collections.abc import Mapping, Sequence
from functools import cache

from net.snapshots import FieldTable
from tests.reference.records import RecordTwin, raw

__all__ = ["Record", "delta_record", "full_record", "packed", "snapshot_bytes"]

Record = tuple[int, str]  # age, body


@cache
def _twin(table: FieldTable) -> RecordTwin:
    return RecordTwin(table)


def packed(stream: str) -> bytes:
    """The bits as whole bytes."""
    stream += "0" * (-len(stream) % 8)
    return bytes(int(stream[i : i + 8][::-1], 2) for i in range(0, len(stream), 8))


def delta_record(
    current: Sequence[int], baseline: Sequence[int], age: int, table: FieldTable, *, level: int = 0
) -> Record:
    """The record of `current` against `baseline`."""
    return age, _twin(table).delta(current, baseline, age, level)


def full_record(current: Sequence[int], entity_id: int, table: FieldTable, *, level: int = 0) -> Record:
    """The record that needs no baseline."""
    return 0, _twin(table).full(current, entity_id, level)


def records_bytes(records: Mapping[int, Record], common: int) -> bytes:
    """The records section: bitmap, common age, string of bits."""
    if not records:
        return b"\0"
    bitmap = sum(1 << slot for slot in records).to_bytes(16, "little").rstrip(b"\0")
    stream = "".join(("1" if age == common else "0" + raw(age, 6)) + body for _, (age, body) in sorted(records.items()))
    return bytes([len(bitmap)]) + bitmap + bytes([common]) + packed(stream)


def snapshot_bytes(
    sequence: int,
    tick: int,
    records: Mapping[int, Record],
    *,
    common: int = 6,
    input_age: int = 255,
    lead_q4: int = 0,
    target_lead: int = 0,
    owner: bytes = b"",
    leaves: bytes = b"",
    zone: bytes = b"",
    events: Sequence[bytes] = (),
) -> bytes:
    """A whole payload; sections without content are left out, with their flags."""
    flags = bool(owner) + 2 * bool(leaves) + 4 * bool(zone) + 8 * bool(events)
    head = bytes([1, flags]) + sequence.to_bytes(2, "little") + tick.to_bytes(4, "little")
    head += bytes([input_age]) + lead_q4.to_bytes(2, "little", signed=True) + bytes([target_lead])
    head += bytes([len(owner)]) + owner if owner else b""
    head += bytes([len(leaves)]) + leaves if leaves else b""
    head += len(zone).to_bytes(2, "little") + zone if zone else b""
    head += bytes([len(events)]) + b"".join(events) if events else b""
    return head + records_bytes(records, common)
