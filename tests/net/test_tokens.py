import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.address import Address, parse_address
from net.errors import TokenError
from net.tokens import (
    ConnectToken,
    PrivateToken,
    issue_token,
    open_challenge,
    open_private,
    read_token,
    seal_challenge,
)
from tests.reference import packets as reference

PROTOCOL, KEY = 0xFEDCBA9876543210, bytes(range(100, 132))
PLACES = [("192.0.2.1", 40_000), ("2001:db8:0:0:0:0:abcd:1", 513)]
ADDRESSES = [parse_address("192.0.2.1:40000"), parse_address("[2001:db8::abcd:1]:513")]


def counting() -> Callable[[int], bytes]:
    """Entropy that is different each time and known."""
    taken = 0

    def entropy(size: int) -> bytes:
        nonlocal taken
        taken += 1
        return bytes((taken * 16 + index) & 0xFF for index in range(size))

    return entropy


def issue(**options: Any) -> bytes:
    keywords: dict[str, Any] = {
        "protocol_id": PROTOCOL,
        "private_key": KEY,
        "client_id": 77,
        "addresses": ADDRESSES,
        "now_unix_s": 1_000,
        "expire_s": 30,
        "timeout_s": 5,
        "user_data": b"hello",
    }
    return issue_token(**(keywords | options))


def opened(token: ConnectToken) -> PrivateToken | None:
    return open_private(
        token.private,
        protocol_id=token.protocol_id,
        expire_unix_s=token.expire_unix_s,
        nonce=token.nonce,
        private_key=KEY,
    )


def test_token_has_the_bytes_of_the_standard() -> None:
    entropy = counting()
    nonce, to_server, to_client = entropy(24), entropy(32), entropy(32)
    private = reference.private_token(
        client_id=77,
        timeout_s=5,
        addresses=PLACES,
        to_server=to_server,
        to_client=to_client,
        user_data=b"hello".ljust(256, b"\0"),
        protocol_id=PROTOCOL,
        expire=1_030,
        nonce=nonce,
        key=KEY,
    )
    public = reference.connect_token(
        private,
        protocol_id=PROTOCOL,
        create=1_000,
        expire=1_030,
        nonce=nonce,
        timeout_s=5,
        addresses=PLACES,
        to_server=to_server,
        to_client=to_client,
    )
    assert issue(entropy=counting()) == public


def test_challenge_has_the_bytes_of_the_standard() -> None:
    user_data = bytes(range(256))
    sealed = reference.challenge_token(2**64 - 1, user_data, sequence=2**40 + 3, key=KEY)
    assert seal_challenge(2**64 - 1, user_data, sequence=2**40 + 3, key=KEY) == sealed
    challenge = open_challenge(sealed, sequence=2**40 + 3, key=KEY)
    assert challenge is not None
    assert (challenge.client_id, challenge.user_data) == (2**64 - 1, user_data)
    assert open_challenge(sealed, sequence=2**40 + 4, key=KEY) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.builds(Address, st.ip_addresses(), st.integers(0, 65_535)), min_size=1, max_size=32),
    st.integers(0, 2**64 - 1),
    st.binary(max_size=256),
    st.integers(-1, 2**31 - 1),
)
def test_token_gives_back_what_was_put_in(
    addresses: list[Address], client_id: int, user_data: bytes, timeout_s: int
) -> None:
    token = read_token(issue(addresses=addresses, client_id=client_id, user_data=user_data, timeout_s=timeout_s))
    private = opened(token)
    assert private is not None
    assert [address.words() for address in private.addresses] == [address.words() for address in addresses]
    assert private.addresses == token.addresses
    assert (private.client_id, private.timeout_s) == (client_id, timeout_s)
    assert private.user_data == user_data.ljust(256, b"\0")
    assert private.client_to_server_key == token.client_to_server_key != token.server_to_client_key


def test_servers_can_be_named_differently_inside() -> None:
    token = read_token(issue(internal_addresses=[parse_address("10.0.0.1:1")]))
    private = opened(token)
    assert token.addresses == tuple(ADDRESSES)
    assert private is not None
    assert private.addresses == (parse_address("10.0.0.1:1"),)


def test_no_two_tokens_share_keys_or_nonce() -> None:
    first, second = read_token(issue()), read_token(issue())
    assert first.nonce != second.nonce
    assert first.client_to_server_key != second.client_to_server_key
    assert first.server_to_client_key != second.server_to_client_key


def test_private_part_with_any_bit_changed_does_not_open() -> None:
    token = read_token(issue())
    fields: dict[str, Any] = {"protocol_id": PROTOCOL, "expire_unix_s": 1_030, "nonce": token.nonce, "private_key": KEY}
    assert open_private(token.private, **fields) is not None
    for at in range(len(token.private)):
        changed = bytearray(token.private)
        changed[at] ^= 1 << at % 8
        assert open_private(bytes(changed), **fields) is None
    for name, value in (("protocol_id", 1), ("expire_unix_s", 1_031), ("nonce", bytes(24)), ("private_key", bytes(32))):
        assert open_private(token.private, **(fields | {name: value})) is None


@pytest.mark.parametrize("size", [0, 1, 13, 1024, 2047, 2049])
def test_token_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(TokenError, match=f"{size} bytes; a connect token has 2048"):
        read_token(issue().ljust(2049, b"\0")[:size])


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (0, b"NETCODE 1.03\0", "version"),
        (21, struct.pack("<Q", 2_000), "created at 2000, after it expires"),
        (13 + 24 + 24 + 1024 + 4, struct.pack("<I", 0), "0 server addresses"),
        (13 + 24 + 24 + 1024 + 4, struct.pack("<I", 33), "33 server addresses"),
        (13 + 24 + 24 + 1024 + 8, b"\3", "address type 3"),
        (13 + 24 + 24 + 1024 + 8, b"\0", "address type 0"),
    ],
)
def test_token_with_a_bad_field_is_refused(offset: int, value: bytes, reason: str) -> None:
    token = issue()
    with pytest.raises(TokenError, match=reason):
        read_token(token[:offset] + value + token[offset + len(value) :])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"addresses": []}, "0 server addresses; give 1 to 32"),
        ({"addresses": ADDRESSES * 17}, "34 server addresses"),
        ({"user_data": bytes(257)}, "user_data has 257 bytes"),
        ({"private_key": bytes(31)}, "private_key has 31 bytes"),
        ({"client_id": -1}, "client_id is -1"),
        ({"client_id": 2**64}, "client_id is"),
        ({"protocol_id": 2**64}, "protocol_id is"),
        ({"timeout_s": 2**31}, "timeout_s is"),
    ],
)
def test_token_that_cannot_be_issued_says_why(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(TokenError, match=reason):
        issue(**options)


def test_negative_expiry_means_never() -> None:
    assert read_token(issue(expire_s=-1)).expire_unix_s == 2**64 - 1
