"""The layouts of the protocol's document are what the code writes and reads."""

import hashlib
import struct
from ipaddress import IPv4Address, IPv6Address

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.address import Address
from net.blocks import Blocks
from net.blocks_kernels import CHUNK_HEAD_BYTES
from net.datagrams import Payloads
from net.endpoint import Endpoint
from net.endpoint_kernels import CHUNK, CLOSE, PACKET_HEADER_BYTES, PLAIN, RELIABLE, SEQUENCED
from net.errors import NetError
from net.inputs import InputCount, InputQueues
from net.inputs_kernels import (
    CLAIM_BYTES,
    COMMAND_BYTES_MAX,
    COMMAND_HEADER_BYTES,
    INPUT_BYTES,
    INPUTS_MAX,
    VIEW_BYTES,
)
from net.packets import CHALLENGE_BODY_BYTES, REQUEST_BYTES, Kind, open_packet, request_packet, seal_packet
from net.replica import ReplicaGroup
from net.schema import LAYOUTS, Layout, Rest, Size, WireField, describe_layouts, layout
from net.snapshots import HEADER_BYTES, FieldSpec, FieldTable
from net.tokens import (
    CHALLENGE_TOKEN_BYTES,
    CONNECT_TOKEN_BYTES,
    MAC_BYTES,
    PRIVATE_TOKEN_BYTES,
    VERSION_INFO,
    PrivateToken,
    open_challenge,
    read_token,
    seal_challenge,
    seal_private,
)
from tests.net.virtual import PROTOCOL, one, token

EVERY = [entry for group in LAYOUTS for entry in group.layouts]


def test_names_are_unique_and_layouts_are_found_by_them() -> None:
    assert len({entry.name for entry in EVERY}) == len(EVERY)
    assert all(layout(entry.name) is entry for entry in EVERY)
    with pytest.raises(NetError, match="'nonsense': not declared"):
        layout("nonsense")


def test_the_sizes_that_kernels_hold_are_those_of_the_layouts() -> None:
    sizes = {
        "input": INPUT_BYTES,
        "request": REQUEST_BYTES,
        "body of challenge and response": CHALLENGE_BODY_BYTES,
        "challenge token": CHALLENGE_TOKEN_BYTES - MAC_BYTES,
        "body of keep-alive": 8,
        "packet header": 9,
    }
    assert {name: layout(name).size for name in sizes} == sizes
    assert layout("COMMAND").offsets["inputs"] == COMMAND_HEADER_BYTES
    assert layout("SNAPSHOT header").size == HEADER_BYTES
    assert COMMAND_HEADER_BYTES + INPUTS_MAX * INPUT_BYTES + CLAIM_BYTES + VIEW_BYTES == COMMAND_BYTES_MAX


def test_a_connect_token_is_read_as_its_layout_says() -> None:
    addresses = [Address(IPv4Address("203.0.113.7"), 4000), Address(IPv6Address("2001:db8::7"), 4001)]
    issued = token(7, addresses=addresses)
    read = layout("connect token").unpack(issued)
    assert read is not None and read[1] == CONNECT_TOKEN_BYTES
    values, public = read[0], read_token(issued)
    assert values["version"] == VERSION_INFO and values["protocol_id"] == PROTOCOL
    assert (values["nonce"], values["private"]) == (public.nonce, public.private)
    assert (values["expire_unix_s"], values["timeout_s"]) == (public.expire_unix_s, public.timeout_s)
    assert values["client_to_server_key"] == public.client_to_server_key
    first = layout("address IPv4").pack(type=1, ip=bytes([203, 0, 113, 7]), port=4000)
    groups = struct.pack("<8H", 0x2001, 0xDB8, 0, 0, 0, 0, 0, 7)
    assert values["addresses"] == first + layout("address IPv6").pack(type=2, ip=groups, port=4001)
    assert layout("connect token").pack(**values) == issued


def test_private_and_challenge_tokens_are_as_their_layouts_say() -> None:
    key, nonce = bytes(32), bytes(24)
    where = (Address(IPv4Address("10.0.0.1"), 9),)
    inner = PrivateToken(5, 10, where, b"a" * 32, b"b" * 32, b"u" * 256)
    sealed = seal_private(inner, protocol_id=1, expire_unix_s=2, nonce=nonce, private_key=key)
    address = layout("address IPv4").pack(type=1, ip=bytes([10, 0, 0, 1]), port=9)
    plain = layout("private token").pack(
        client_id=5, timeout_s=10, address_count=1, addresses=address, client_to_server_key=b"a" * 32,
        server_to_client_key=b"b" * 32, user_data=b"u" * 256, zeros=b"",
    )  # fmt: skip
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt as seal

    padded = plain.ljust(PRIVATE_TOKEN_BYTES - MAC_BYTES, b"\0")
    assert seal(padded, VERSION_INFO + struct.pack("<QQ", 1, 2), nonce, key) == sealed
    challenge = seal_challenge(5, b"u" * 256, sequence=3, key=key)
    opened = open_challenge(challenge, sequence=3, key=key)
    assert opened is not None and (opened.client_id, opened.user_data) == (5, b"u" * 256)


def test_requests_and_sealed_packets_are_read_as_their_layouts_say() -> None:
    public = read_token(token(7))
    read = layout("request").unpack(request_packet(public))
    assert read is not None and read[1] == REQUEST_BYTES
    assert (read[0]["type"], read[0]["private"]) == (0, public.private)
    packet = seal_packet(Kind.PAYLOAD, b"hello", sequence=0x1234, key=bytes(32), protocol_id=1)
    sealed = layout("sealed packet").unpack(packet)
    assert sealed is not None
    assert (sealed[0]["prefix"], sealed[0]["sequence"]) == (0x25, b"\x34\x12")
    assert (sealed[0]["body"], sealed[0]["mac"]) == (packet[3:-16], packet[-16:])
    opened = open_packet(packet, key=bytes(32), protocol_id=1, allowed={Kind.PAYLOAD}, replay=None)
    assert getattr(opened, "body", None) == b"hello"


def test_a_command_made_by_its_layout_is_taken() -> None:
    inputs = layout("input").pack(buttons=1, move_forward=-5, move_right=6, yaw=7, pitch=-8, weapon=9) * 2
    command = layout("COMMAND").pack(
        type=1, count=0xE2, snapshot=5, snapshot_mask=1, tick=12, inputs=inputs, claim=0xABCD, view=900
    )
    queues, payloads = InputQueues(1, tick_hz=60), Payloads(1)
    payloads.buffer = np.frombuffer(command, np.uint8)
    payloads.count, payloads.length[0] = 1, len(command)
    queues.receive(payloads, tick=10, early_ns=0, now_ns=0)
    assert queues.counters[InputCount.INPUTS, 0] == 2
    assert (queues.newest_tick[0], queues.ack_sequence[0], queues.ack_mask[0]) == (12, 5, 1)
    assert queues._inputs[0][0, 12].tolist() == [1, -5, 6, 7, -8, 9]
    assert queues._inputs[2][0, 12] == 0xABCD


def test_a_snapshot_made_by_its_layouts_is_taken() -> None:
    axes = [FieldSpec(f"p{a}", 22, signed=True, step=1 / 128) for a in "xyz"]
    axes += [FieldSpec(f"v{a}", 14, signed=True, step=1 / 64) for a in "xyz"]
    group = ReplicaGroup(1, FieldTable(axes, tick_hz=60))
    head = layout("SNAPSHOT header").pack(type=1, flags=15, sequence=9, tick=70, input_age=4, lead=-3, target_lead=2)
    event = layout("event").pack(age=1, parts=8, numbers=bytes([7, 0, 0, 0, 84]))
    body = layout("owner").pack(count=4, owner=b"mine") + layout("leave list").pack(count=1, slots=bytes([3 | 128]))
    body += layout("zone").pack(count=3, content=b"all") + layout("event list").pack(count=1, events=event)
    assert group.receive_bytes(0, head + body + b"\0") == 0
    assert group.owner[0, :4].tobytes() == b"mine"
    assert (int(group.tick[0]), int(group.input_tick[0]), int(group.lead_q4[0])) == (70, 66, -3)
    assert (int(group.event_count[0]), int(group.event_value[0, 0])) == (1, 42)


def test_sections_leave_out_their_length_where_they_run_to_the_end() -> None:
    section = layout("RELIABLE section")
    assert section.pack(head=3, item=7, length=2, content=b"hi") == b"\x03\x07\x00\x02\x00hi"
    assert section.pack(head=0x83, item=7, content=b"hi") == b"\x83\x07\x00hi"
    assert section.unpack(b"\x03\x07\x00\x02\x00hi+") == ({"head": 3, "item": 7, "length": 2, "content": b"hi"}, 7)
    assert section.unpack(b"\x03\x07\x00\x09\x00hi") is None
    assert section.unpack(b"\x83\x07\x00hi", without=("length",)) == ({"head": 131, "item": 7, "content": b"hi"}, 5)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"type": 256}, "256 is not a u8"),
        ({"digest": b"short"}, "is not 16 bytes"),
        ({"other": 1}, "no field other"),
        ({"size": b"x"}, "is not a u32"),
    ],
)
def test_what_does_not_fit_a_layout_is_named(values: dict[str, int | bytes], problem: str) -> None:
    with pytest.raises(NetError, match=problem):
        layout("BLOCK OFFER").pack(**values)


def test_a_layout_that_cannot_be_is_refused() -> None:
    with pytest.raises(NetError, match="unknown type 'u24'"):
        Layout("bad", (WireField("a", "u24"),))
    with pytest.raises(NetError, match="name twice"):
        Layout("bad", (WireField("a", "u8"), WireField("a", "u8")))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_layout_reads_back_what_it_wrote_and_nothing_that_is_cut_short(data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(EVERY))
    values: dict[str, int | bytes] = {}
    for field in entry.fields:
        bits = {"u8": 8, "u16": 16, "u32": 32, "u64": 64}.get(field.type, 0)
        signed = {"i8": 7, "i16": 15, "i32": 31}.get(field.type, 0)
        if bits:
            values[field.name] = data.draw(st.integers(0, min(2**bits, 300) - 1))
        elif signed:
            values[field.name] = data.draw(st.integers(-(2**signed), 2**signed - 1))
        elif isinstance(field.size, int):
            values[field.name] = data.draw(st.binary(min_size=field.size, max_size=field.size))
        elif isinstance(field.size, Rest):
            values[field.name] = data.draw(st.binary(max_size=40))
        elif field.type == "addresses":
            count = values[field.size.field] = data.draw(st.integers(0, 3))
            values[field.name] = b"".join(
                data.draw(st.sampled_from([b"\1" + bytes(6), b"\2" + bytes(18)])) for _ in range(count)
            )
        else:
            told = values[field.size.field]
            assert isinstance(told, int)
            wanted = (told >> field.size.shift & field.size.mask) * field.size.times
            values[field.name] = bytes(wanted)
    packed = entry.pack(**values)
    assert entry.unpack(packed) == (values, len(packed))
    behind = entry.unpack(b"++" + packed, 2)
    assert behind == (values, len(packed) + 2)
    ends_open = any(isinstance(field.size, Rest) for field in entry.fields)
    if packed and not ends_open:
        assert entry.unpack(packed[:-1]) is None


def test_the_canonical_text_tells_layouts_apart() -> None:
    text = describe_layouts()
    assert len(text.splitlines()) == len(EVERY)
    variants = [
        (WireField("a", "u8"),),
        (WireField("b", "u8"),),
        (WireField("a", "u16"),),
        (WireField("a", "u8"), WireField("b", "bytes", size=Rest())),
        (WireField("a", "u8"), WireField("b", "bytes", size=Rest(1))),
        (WireField("a", "u8"), WireField("b", "bytes", size=Size("a"))),
        (WireField("a", "u8"), WireField("b", "bytes", size=Size("a", times=9))),
        (WireField("a", "u8"), WireField("b", "bytes", size=Size("a", shift=1))),
        (WireField("a", "u8", optional="x"),),
    ]
    assert len({Layout("l", fields).describe() for fields in variants}) == len(variants)


def test_the_packets_of_the_endpoint_are_those_of_the_layouts() -> None:
    kinds = {"PLAIN": PLAIN, "SEQUENCED": SEQUENCED, "RELIABLE": RELIABLE, "CHUNK": CHUNK, "CLOSE": CLOSE}
    documented = {name: int(layout(f"{name} section").doc.split(".")[0].removeprefix("Kind ")) for name in kinds}
    assert documented == kinds
    assert layout("packet header").size == PACKET_HEADER_BYTES
    assert layout("CHUNK section").offsets["length"] + 2 == CHUNK_HEAD_BYTES + 1
    end, header = Endpoint(1, batch=8), layout("packet header").pack(sequence=7, ack=0xFFFF, ack_delay=255)
    end.open([0], 0)
    plain = layout("PLAIN section").pack(head=PLAIN, length=5, content=b"plain")
    reliable = layout("RELIABLE section").pack(head=RELIABLE | 0x80, item=0, content=b"reliable")
    payloads = Payloads(1)
    payloads.buffer = np.frombuffer(header + plain + reliable, np.uint8)
    payloads.count, payloads.length[0], payloads.received_ns[0] = 1, len(payloads.buffer), 1_000_000
    assert end.receive(payloads, 1_000_000) == 1
    assert (end.payloads.payload(0), end.messages.payload(0)) == (b"plain", b"reliable")
    assert end.tell(0, b"\2said") and end.compose(*one(0, b"\1told"), 2_000_000) == 1
    packet = end.packets.payload(0)
    head = layout("packet header").unpack(packet)
    assert head is not None and head[0] == {"sequence": 0, "ack": 7, "ack_mask": 0, "ack_delay": 4}
    names, at, found = {number: f"{name} section" for name, number in kinds.items()}, head[1], {}
    while at < len(packet):
        section = layout(names[packet[at] & 15]).unpack(packet, at, without=("length",) if packet[at] & 128 else ())
        assert section is not None
        found[packet[at] & 15] = section[0]["content"]
        at = section[1]
    assert found == {PLAIN: b"\1told", RELIABLE: b"\2said"}


def test_control_messages_of_blocks_are_those_of_the_layouts() -> None:
    sender, receiver = Blocks(1), Blocks(1)
    sender.send(0, b"content", tag=9, now_ns=0)
    ((_, offer),) = sender.take_controls()
    read = layout("BLOCK OFFER").unpack(offer)
    assert read is not None and read[1] == len(offer)
    digest = hashlib.blake2b(b"content", digest_size=16).digest()
    assert read[0] == {"type": 3, "block": 0, "size": 7, "tag": 9, "format": 0, "digest": digest}
    receiver.handle(0, offer, now_ns=0)
    ((_, answer),) = receiver.take_controls()
    assert layout("BLOCK ANSWER").unpack(answer) == ({"type": 4, "block": 0, "answer": 0}, len(answer))
