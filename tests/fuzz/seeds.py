"""Writes the corpora: `python -m tests.fuzz.seeds`. What a run finds is added beside them by hand, with a name."""

from pathlib import Path

import msgpack

from net.address import parse_address
from net.schema import layout
from net.tokens import issue_token
from tests.reference.inputs import encode_command
from tests.reference.snapshots import delta_record, full_record, snapshot_bytes

CORPUS = Path(__file__).parent / "corpus"
START = [1000, 2000, 300, 64, 0, 0, 100, 1]
ENTITY = 3 << 24 | 17


def piece(data: bytes) -> bytes:
    """Data with its length before it, as `tests.fuzz.harnesses.pieces` cuts it."""
    return (bytes([len(data)]) if len(data) < 0xF0 else bytes([0xF0 | len(data) >> 8, len(data) & 255])) + data


def _snapshots() -> dict[str, bytes]:
    from tests.fuzz.harnesses import TABLE

    first = snapshot_bytes(0, 10, {5: full_record(START, ENTITY, TABLE)}, owner=b"mine")
    later = [1100, 2001, 300, 60, 1, 0, 90, 0]
    second = snapshot_bytes(1, 16, {5: delta_record(later, START, 6, TABLE)}, owner=b"mine", zone=b"all")
    event = b"\0\x0f\7\2\4\6\5\1\0\6\1\0\2\4\6\x54"
    third = snapshot_bytes(2, 17, {}, leaves=b"\x85", events=[event])
    return {
        "full": piece(first),
        "delta": piece(first) + piece(second),
        "leave": b"".join(map(piece, (first, second, third))),
    }


def _sections() -> dict[str, bytes]:
    header = layout("packet header").pack(sequence=0, ack=0xFFFF, ack_delay=255)
    plain = header + layout("PLAIN section").pack(head=0x81, content=b"\1payload")
    both = header + layout("PLAIN section").pack(head=1, length=3, content=b"abc")
    reliable = layout("RELIABLE section")
    both += reliable.pack(head=0x13, item=0, length=2, content=b"he") + reliable.pack(head=0x83, item=1, content=b"y")
    sequenced = header + layout("SEQUENCED section").pack(head=0x82, number=4, content=b"\2now")
    close = header + layout("CLOSE section").pack(head=0x85, code=1, content=b"too rude")
    chunk = header + layout("CHUNK section").pack(head=0x84, block=1, index=0, content=b"chunk")
    acks = layout("packet header").pack(sequence=0, ack=1, ack_mask=1, ack_delay=8)
    told = piece(b"\x35reliable") + piece(b"\x16plain") + piece(b"\x26") + piece(b"\x07\x40")
    return {
        "plain": b"\0" + piece(b"\0" + plain),
        "reliable": b"\0" + piece(b"\0" + both) + piece(b"\x04" + both),
        "sequenced": b"\xff" + piece(b"\0" + sequenced) + piece(b"\0" + sequenced),
        "close": b"\0" + piece(b"\0" + close),
        "chunk": b"\0" + piece(b"\0" + chunk),
        "acknowledged": b"\0"
        + told
        + piece(b"\0" + acks)
        + piece(b"\x06\x01")
        + piece(b"\x07\xff\xff")
        + piece(b"\x06"),
    }


def corpora() -> dict[str, dict[str, bytes]]:
    """Seeds by harness and name."""
    where = [parse_address("203.0.113.7:40000"), parse_address("[2001:db8::7]:40001")]
    fixed, two = (
        issue_token(
            protocol_id=7,
            private_key=bytes(32),
            client_id=7,
            addresses=addresses,
            now_unix_s=1_700_000_000,
            entropy=bytes,
        )
        for addresses in (where[:1], where)
    )
    address = layout("address IPv4").pack(type=1, ip=bytes([203, 0, 113, 7]), port=40000)
    inner = layout("private token").pack(client_id=7, timeout_s=5, address_count=1, addresses=address)
    run = [(9, 120, -127, 40_000, -300, 2)] * 3
    commands = encode_command(1001, run, (5, 7), claim=3, view=1500), encode_command(1003, run[:1], view=65535)
    texts = {
        "say": [17, "hello"],
        "say-to-client": [17, 77, "hello"],
        "aim": [18, 77, 0.5, [1, 2, 300]],
        "blob": [19, b"abc", 2**64 - 1],
        "spend": [16, 5],
        "welcome": [0, 2**63, 0, 50331665, 12, 200],
        "notice": [1, "the server stops in a minute"],
    }
    return {
        "tokens": {"public": fixed, "two-servers": two, "private": b"\xff" + inner, "short": b"\xff" + fixed[:100]},
        "packets": {
            "keep-alive": bytes([3, 0, 0, 5]) + bytes(15),
            "payload": bytes([4, 0, 0, 0, 1]) + bytes(6) + b"payload",
            "challenge": bytes([1, 0, 0, 7]) + bytes(315),
            "mangled": bytes([4, 9, 1, 200]) + bytes(7) + b"payload",
            "raw": b"\x15\0" + bytes(17),
        },
        "messages": {name: b"\x02" + msgpack.packb(content) for name, content in texts.items()},
        "commands": {
            "one": piece(commands[0]),
            "many": b"".join(map(piece, commands * 3)),
            "short": piece(commands[0][:20]),
        },
        "snapshots": _snapshots(),
        "sections": _sections(),
    }


def main() -> None:
    """Write every seed that is not there yet."""
    for name, seeds in corpora().items():
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for seed, content in seeds.items():
            (CORPUS / name / seed).write_bytes(content)


if __name__ == "__main__":
    main()
