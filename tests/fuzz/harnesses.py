"""What is fuzzed: functions of bytes that raise where the code breaks a promise, and nothing else.

Each takes any bytes. Where a naive twin exists, both are given the same and compared, so that the coverage of the twin,
which is plain Python, leads the search into what the kernels do.
"""

import struct
from collections.abc import Callable

import numpy as np

from net.congestion import CongestionLimits
from net.datagrams import DATAGRAM_BYTES, Payloads
from net.errors import TokenError
from net.inputs import InputCount, InputQueues
from net.messages import MessageCodec, MessageForm, message_forms
from net.packets import BODY_BYTES, FROM_CLIENT, FROM_SERVER, Drop, Kind, Packet, open_packet, seal_packet
from net.packets_kernels import KEYS_BYTES, SEND_KEY_AT, WORDS, new_scratch, open_from, parse_header
from net.replica import ReplicaGroup
from net.schema import layout
from net.snapshots import FieldSpec, FieldTable
from net.tokens import CONNECT_TOKEN_BYTES, ConnectToken, PrivateToken, open_challenge, read_private, read_token
from sim.arrays import AnyArray
from sim.schema import ActionSpec, Delivery, Direction, Field, FieldType, MessageSpec
from tests.net.endpoints import MS
from tests.net.test_endpoint_twin import Side
from tests.reference.inputs import ReferenceQueue

PROTOCOL, KEY = 0x0123456789ABCDEF, bytes(range(7, 39))
_LIST = Field("numbers", FieldType.LIST, 0, 9, items=Field("n", FieldType.INTEGER, -5, 300))
MESSAGES = (
    MessageSpec("say", (Field("text", FieldType.TEXT, 0, 200),)),
    MessageSpec("aim", (Field("x", FieldType.FLOAT, -1, 1), _LIST), delivery=Delivery.SEQUENCED),
    MessageSpec("blob", (Field("data", FieldType.BYTES, 1, 64), Field("at", FieldType.ENTITY))),
)
ACTIONS = (ActionSpec("spend", (Field("amount", FieldType.INTEGER, 1, 9),)),)
TABLE = FieldTable(
    [FieldSpec(f"p{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"]
    + [FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    + [FieldSpec("health", 10, signed=False), FieldSpec("alive", 1, signed=False)],
    tick_hz=60,
)


def forms(direction: Direction) -> tuple[MessageForm, ...]:
    """The messages that are fuzzed."""
    return message_forms(ACTIONS, MESSAGES, direction)


def fuzz_tokens(data: bytes) -> None:
    """Public tokens are read or refused with one error, private and challenge tokens read or refused without."""
    public = data[:CONNECT_TOKEN_BYTES].ljust(CONNECT_TOKEN_BYTES, b"\0") if data[:1] != b"\xff" else data[1:]
    try:
        token: ConnectToken | None = read_token(public)
    except TokenError as error:
        assert "\n" not in str(error)
        token = None
    if token is not None:
        read = layout("connect token").unpack(public)
        assert read is not None
        assert (read[0]["nonce"], read[0]["private"]) == (token.nonce, token.private)
        assert read[0]["server_to_client_key"] == token.server_to_client_key
    for inner in (data[:1008].ljust(1008, b"\0"), data[1:1009].ljust(1008, b"\0")):
        private = read_private(inner)
        assert private is None or isinstance(private, PrivateToken)
        assert private is None or 1 <= len(private.addresses) <= 32
    assert open_challenge(data[:300].ljust(300, b"\0"), sequence=0, key=KEY) is None


def fuzz_packets(data: bytes) -> None:
    """Kernel and Python open the same packets, and refuse the others for the same reason."""
    for allowed in (FROM_CLIENT, FROM_SERVER):
        for datagram in (data[:1225], _sealed(data)):
            if not datagram:
                continue
            plain = open_packet(datagram, key=KEY, protocol_id=PROTOCOL, allowed=allowed, replay=None)
            assert kernel_open(datagram, allowed) == plain
            if isinstance(plain, Packet):
                assert BODY_BYTES[plain.kind][0] <= len(plain.body) <= BODY_BYTES[plain.kind][1]


def kernel_open(datagram: bytes, allowed: frozenset[Kind]) -> Packet | Drop:
    """What the kernels make of one datagram, in an arena whose other row must stay as it is."""
    data = np.full((2, DATAGRAM_BYTES), 0xEE, dtype=np.uint8)
    data[1, : len(datagram)] = np.frombuffer(datagram, dtype=np.uint8)
    words, keys = np.zeros((1, WORDS), dtype=np.uint64), np.zeros((1, KEYS_BYTES), dtype=np.uint8)
    keys[0, :SEND_KEY_AT] = np.frombuffer(KEY, dtype=np.uint8)
    mask = sum(1 << kind for kind in allowed)
    reason, kind, header, sequence = parse_header(data, 1, len(datagram), mask)
    if reason < 0:
        number, scratch = np.uint64(sequence), new_scratch(PROTOCOL)
        reason = open_from(words, keys, 0, data, 1, len(datagram), kind, header, number, scratch)
    assert (data[0] == 0xEE).all(), "a neighbouring row was written"
    if reason >= 0:
        return Drop(reason)
    return Packet(Kind(kind), int(sequence), data[1, header : len(datagram) - 16].tobytes())


def _sealed(data: bytes) -> bytes:
    """A packet that is authentic, then mangled where the data says so: byte 0 type, 1 where, 2 how, 3–10 sequence."""
    kind = Kind(1 + (data[0] if data else 0) % 6)
    smallest, largest = BODY_BYTES[kind]
    body = data[11:][:largest].ljust(smallest, b"\0")
    sequence = int.from_bytes(data[3:11], "little")
    datagram = bytearray(seal_packet(kind, body, sequence=sequence, key=KEY, protocol_id=PROTOCOL))
    if len(data) > 2 and data[2]:
        datagram[data[1] % len(datagram)] ^= data[2]
    return bytes(datagram)


def fuzz_messages(data: bytes) -> None:
    """What is decoded is as declared and encodes to a message that is equal; the rest is counted."""
    for direction in (Direction.TO_SERVER, Direction.TO_CLIENT):
        codec = MessageCodec(forms(direction))
        message = codec.decode(data)
        assert (message is None) == (codec.dropped == 1)
        again = codec.decode(b"\x02" + data[:8191])
        for known in (message, again):
            if known is not None:
                fields = codec.forms[known.kind].fields
                assert all(field.accepts(value) for field, value in zip(fields, known.values, strict=True))
                assert codec.decode(codec.encode(known.name, *known.values)) == known


def pieces(data: bytes, most: int) -> list[bytes]:
    """Cut the data: a length byte or two before each piece."""
    found: list[bytes] = []
    at = 0
    while at < len(data) and len(found) < most:
        size, at = data[at], at + 1
        if size >= 0xF0 and at < len(data):
            size, at = (size & 7) << 8 | data[at], at + 1
        found.append(data[at : at + size])
        at += size
    return found


def _batch(payloads: list[bytes]) -> Payloads:
    batch = Payloads(len(payloads))
    batch.buffer = np.frombuffer(b"".join(payloads) or b"\0", np.uint8)
    at = 0
    for index, payload in enumerate(payloads):
        batch.offset[index], batch.length[index] = at, len(payload)
        at += len(payload)
    batch.count = len(payloads)
    return batch


def fuzz_commands(data: bytes) -> None:
    """Any payloads give the counts and acknowledgements that the naive twin gives."""
    queues, twin = InputQueues(1, tick_hz=60), ReferenceQueue(3, 15, 60)
    for tick in range(1000, 1000 + 8):
        payloads = [piece for piece in pieces(data, 12) if piece and piece[0] != 2]
        data = data[sum(len(piece) + 1 for piece in payloads) + 1 :]
        twin.acks.clear()
        for payload in payloads:
            twin.receive(payload, tick)
        if payloads:
            queues.receive(_batch(payloads), tick=tick, early_ns=0, now_ns=tick)
            told = zip(queues.ack_sequence[: queues.ack_count], queues.ack_mask[: queues.ack_count], strict=True)
            assert [(int(a), int(b)) for a, b in told] == twin.acks
    compared = [reason for reason in InputCount if reason is not InputCount.MESSAGE_OVERFLOW]
    assert [int(queues.counters[reason, 0]) for reason in compared] == [twin.counts[reason] for reason in compared]


def fuzz_snapshots(data: bytes) -> None:
    """A snapshot is applied whole or not at all, and none that is older than the newest."""
    group = ReplicaGroup(1, TABLE, ring=8, events=8)
    newest = -1
    for piece in pieces(data, 8):
        columns: list[AnyArray] = [*group._heads, *group._states, *group._events]
        before = [column.tobytes() for column in columns]
        outcome = group.receive_bytes(0, piece[:1200])
        changed = [column.tobytes() for column in columns] != before
        assert outcome in range(5) and changed == (outcome == 0)
        assert not changed or int(group.tick[0]) > newest
        newest = max(newest, int(group.tick[0]))


def fuzz_sections(data: bytes) -> None:
    """An endpoint does with any packets, messages and times what its naive twin does; `Side` compares at each step."""
    start = 65_500 if data[:1] > b"\x7f" else 0
    now_ns, sequence = 1_000_000 * MS, start
    side = Side(CongestionLimits(), now_ns, start)
    for piece in pieces(data[1:], 24):
        what, rest = piece[0] if piece else 7, piece[1:1201]
        now_ns += (1 + (what >> 4)) * MS
        if what & 7 < 5 and rest:
            if what & 7 < 4:  # with the sequence that is due, or a little ahead of it
                sequence = (sequence + (what >> 4 & 1)) % 65536
                rest = struct.pack("<H", sequence) + rest[2:]
                sequence = (sequence + 1) % 65536
            side.receive([(rest, now_ns - (what >> 6) * MS)], now_ns)
        elif what & 7 == 5 and rest:
            largest = 1024 if what >> 4 & 3 else 4096
            side.tell(rest[:largest] * (1 if what >> 4 & 3 else 3), Delivery((what >> 4 & 3) or 3))
        elif what & 7 == 6:
            side.compose(rest[:1190] or None, now_ns)
        else:
            now_ns += sum(rest[:2]) * MS
    side.check()


HARNESSES: dict[str, Callable[[bytes], None]] = {
    "tokens": fuzz_tokens,
    "packets": fuzz_packets,
    "messages": fuzz_messages,
    "commands": fuzz_commands,
    "snapshots": fuzz_snapshots,
    "sections": fuzz_sections,
}
"""By name, in a fixed order: the first byte of an input to all of them chooses one."""
