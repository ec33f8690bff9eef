"""Our bytes are those of the reference implementation, in both directions.

`tests/golden/netcode_vectors.json` holds what mas-bandwidth/netcode (netcode 1.02, July 2026) wrote for given keys,
nonces and fields: tokens, challenge tokens, packets of every type under sequences of every length, and which of a list
of sequences its replay protection refused. Byte i of a payload of n bytes is (31 i + n) mod 256.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from net.address import parse_address
from net.datagrams import Datagrams
from net.packets import (
    FROM_CLIENT,
    FROM_SERVER,
    Drop,
    Kind,
    Packet,
    ReplayWindow,
    open_packet,
    open_request,
    request_packet,
    seal_packet,
)
from net.packets_kernels import KEYS_BYTES, WORDS, emit, new_scratch, open_from, parse_header
from net.plain_packets import Window
from net.replay_kernels import replay_mark, replay_seen
from net.tokens import (
    PrivateToken,
    issue_token,
    open_challenge,
    open_private,
    read_private,
    read_token,
    seal_challenge,
    seal_private,
)

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "netcode_vectors.json").read_text())
PROTOCOL = int(VECTORS["protocol_id"])
EXPIRE = int(VECTORS["expire_unix_s"])
CREATE = int(VECTORS["create_unix_s"])


def value(name: str) -> bytes:
    return bytes.fromhex(VECTORS[name])


INNER = PrivateToken(
    client_id=VECTORS["client_id"],
    timeout_s=VECTORS["timeout_s"],
    addresses=tuple(parse_address(text) for text in VECTORS["internal_addresses"]),
    client_to_server_key=value("client_to_server_key"),
    server_to_client_key=value("server_to_client_key"),
    user_data=value("user_data"),
)
PUBLIC = tuple(parse_address(text) for text in VECTORS["public_addresses"])


def test_private_token() -> None:
    keywords: dict[str, Any] = {
        "protocol_id": PROTOCOL,
        "expire_unix_s": EXPIRE,
        "nonce": value("nonce"),
        "private_key": value("private_key"),
    }
    assert seal_private(INNER, **keywords) == value("private_token")
    assert open_private(value("private_token"), **keywords) == INNER
    assert read_private(value("private_token_plain")) == INNER


def test_public_token() -> None:
    drawn = iter([value("nonce"), value("client_to_server_key"), value("server_to_client_key")])
    ours = issue_token(
        protocol_id=PROTOCOL,
        private_key=value("private_key"),
        client_id=INNER.client_id,
        addresses=PUBLIC,
        internal_addresses=INNER.addresses,
        now_unix_s=CREATE,
        expire_s=EXPIRE - CREATE,
        timeout_s=INNER.timeout_s,
        user_data=INNER.user_data,
        entropy=lambda _count: next(drawn),
    )
    assert ours == value("public_token")
    token = read_token(value("public_token"))
    assert (token.protocol_id, token.create_unix_s, token.expire_unix_s) == (PROTOCOL, CREATE, EXPIRE)
    assert (token.timeout_s, token.addresses, token.nonce) == (INNER.timeout_s, PUBLIC, value("nonce"))
    assert token.private == value("private_token")
    assert token.client_to_server_key == INNER.client_to_server_key
    assert token.server_to_client_key == INNER.server_to_client_key


@pytest.mark.parametrize("vector", VECTORS["challenge_tokens"], ids=lambda vector: str(vector["sequence"]))
def test_challenge_token(vector: dict[str, Any]) -> None:
    key, sealed = value("challenge_key"), bytes.fromhex(vector["token"])
    user_data = value("challenge_user_data")
    assert seal_challenge(INNER.client_id, user_data, sequence=vector["sequence"], key=key) == sealed
    opened = open_challenge(sealed, sequence=vector["sequence"], key=key)
    assert opened is not None
    assert (opened.client_id, opened.user_data) == (INNER.client_id, user_data)


def test_request() -> None:
    assert request_packet(read_token(value("public_token"))) == value("request")
    opened = open_request(
        value("request"), protocol_id=PROTOCOL, private_key=value("private_key"), unix_s=CREATE, lifetime_s=60
    )
    assert opened == value("private_token_plain")[:1008]


def body_of(vector: dict[str, Any]) -> bytes:
    kind, size = Kind(vector["kind"]), int(vector["payload_bytes"])
    if kind in (Kind.CHALLENGE, Kind.RESPONSE):
        challenge = VECTORS["challenge_tokens"][1]
        return int(challenge["sequence"]).to_bytes(8, "little") + bytes.fromhex(challenge["token"])
    if kind == Kind.KEEP_ALIVE:
        return (37).to_bytes(4, "little") + (10_000).to_bytes(4, "little")
    return bytes((31 * index + size) % 256 for index in range(size))


def key_of(kind: Kind) -> bytes:
    ours = kind in (Kind.DENIED, Kind.CHALLENGE, Kind.KEEP_ALIVE)
    return INNER.server_to_client_key if ours else INNER.client_to_server_key


@pytest.mark.parametrize("vector", VECTORS["packets"], ids=lambda v: f"{Kind(v['kind']).name}-{v['sequence']:x}")
def test_packet_one_at_a_time(vector: dict[str, Any]) -> None:
    kind, sequence, packet = Kind(vector["kind"]), int(vector["sequence"]), bytes.fromhex(vector["packet"])
    key, body = key_of(kind), body_of(vector)
    assert seal_packet(kind, body, sequence=sequence, key=key, protocol_id=PROTOCOL) == packet
    allowed = FROM_CLIENT | FROM_SERVER
    opened = open_packet(packet, key=key, protocol_id=PROTOCOL, allowed=allowed, replay=ReplayWindow())
    assert opened == Packet(kind, sequence, body)
    changed = packet[:-1] + bytes([packet[-1] ^ 1])
    assert open_packet(changed, key=key, protocol_id=PROTOCOL, allowed=allowed, replay=None) == Drop.NOT_AUTHENTIC


@pytest.mark.parametrize("vector", VECTORS["packets"], ids=lambda v: f"{Kind(v['kind']).name}-{v['sequence']:x}")
def test_packet_in_kernels(vector: dict[str, Any]) -> None:
    kind, sequence, packet = Kind(vector["kind"]), int(vector["sequence"]), bytes.fromhex(vector["packet"])
    body = np.frombuffer(body_of(vector) or b"\0", dtype=np.uint8).copy()
    size = len(body_of(vector))
    words, keys = np.zeros((1, WORDS), dtype=np.uint64), np.zeros((1, KEYS_BYTES), dtype=np.uint8)
    keys[0] = np.frombuffer(key_of(kind) * 2, dtype=np.uint8)
    words[0, 3] = sequence
    times, arena, scratch = np.zeros((1, 3), dtype=np.int64), Datagrams(1), new_scratch(PROTOCOL)
    arrays = (arena.data, arena.length, arena.address)
    emit(words, keys, times, 0, arrays, 0, int(kind), int(body.ctypes.data), size, 5, scratch)
    arena.count = 1
    assert arena.datagram(0) == packet
    reason, read_kind, header, read_sequence = parse_header(arena.data, 0, len(packet), 0x7F)
    assert (reason, read_kind, int(read_sequence)) == (-1, kind, sequence)
    number = np.uint64(read_sequence)
    assert open_from(words, keys, 0, arena.data, 0, len(packet), read_kind, header, number, scratch) == -1
    assert arena.data[0, header : header + size].tobytes() == body_of(vector)


def test_replay_protection() -> None:
    window, words, words_plain = ReplayWindow(), *(np.zeros((1, WORDS), dtype=np.uint64) for _ in range(2))
    refused, by_kernel, by_plain = [], [], []
    for sequence in VECTORS["replay_sequences"]:
        seen = Window(words_plain, 0)
        refused.append(int(window.seen(sequence)))
        by_kernel.append(int(replay_seen(words, 0, np.uint64(sequence))))
        by_plain.append(int(seen.seen(sequence)))
        if not refused[-1]:
            window.mark(sequence)
            replay_mark(words, 0, np.uint64(sequence))
            seen.mark(sequence)
    assert refused == by_kernel == by_plain == VECTORS["replay_refused"]
    assert 20 < sum(refused) < 380
