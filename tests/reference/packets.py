"""Tokens and packets of netcode 1.02 built straight from STANDARD.md, with another cryptography library.

Nothing here uses `net`: ChaCha20-Poly1305 is OpenSSL's, and XChaCha20 is HChaCha20 written out (draft-irtf-cfrg-
xchacha-03, section 2.2) in front of it.
"""

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = [
    "ReplayArray",
    "address_bytes",
    "challenge_token",
    "connect_token",
    "open_sealed",
    "packet",
    "private_token",
]

VERSION = b"NETCODE 1.02\0"


def _rotate(value: int, count: int) -> int:
    return (value << count | value >> (32 - count)) & 0xFFFFFFFF


def _quarter(state: list[int], a: int, b: int, c: int, d: int) -> None:
    for first, second, third, count in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
        state[first] = (state[first] + state[second]) & 0xFFFFFFFF
        state[third] = _rotate(state[third] ^ state[first], count)


def _hchacha20(key: bytes, nonce: bytes) -> bytes:
    state = [0x61707865, 0x3320646E, 0x79622D32, 0x6B206574, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)]
    for _ in range(10):
        for column in range(4):
            _quarter(state, column, column + 4, column + 8, column + 12)
        for a, b, c, d in ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)):
            _quarter(state, a, b, c, d)
    return struct.pack("<8I", *state[:4], *state[12:])


def _xseal(plain: bytes, associated: bytes, nonce: bytes, key: bytes) -> bytes:
    subkey = _hchacha20(key, nonce[:16])
    return ChaCha20Poly1305(subkey).encrypt(bytes(4) + nonce[16:], plain, associated)


def address_bytes(host: str, port: int) -> bytes:
    """An address as tokens hold it; IPv6 written out in full, eight groups."""
    if "." in host:
        return bytes([1, *(int(part) for part in host.split("."))]) + struct.pack("<H", port)
    return b"\x02" + b"".join(struct.pack("<H", int(part, 16)) for part in host.split(":")) + struct.pack("<H", port)


def private_token(
    *,
    client_id: int,
    timeout_s: int,
    addresses: list[tuple[str, int]],
    to_server: bytes,
    to_client: bytes,
    user_data: bytes,
    protocol_id: int,
    expire: int,
    nonce: bytes,
    key: bytes,
) -> bytes:
    """The sealed private part, 1,024 bytes."""
    plain = bytearray(1008)
    packed = b"".join(address_bytes(*address) for address in addresses)
    content = struct.pack("<QiI", client_id, timeout_s, len(addresses)) + packed + to_server + to_client + user_data
    plain[: len(content)] = content
    return _xseal(bytes(plain), VERSION + struct.pack("<QQ", protocol_id, expire), nonce, key)


def connect_token(
    private: bytes,
    *,
    protocol_id: int,
    create: int,
    expire: int,
    nonce: bytes,
    timeout_s: int,
    addresses: list[tuple[str, int]],
    to_server: bytes,
    to_client: bytes,
) -> bytes:
    """The public token, 2,048 bytes."""
    content = VERSION + struct.pack("<QQQ", protocol_id, create, expire) + nonce + private
    content += struct.pack("<iI", timeout_s, len(addresses))
    content += b"".join(address_bytes(*address) for address in addresses) + to_server + to_client
    return content + bytes(2048 - len(content))


def challenge_token(client_id: int, user_data: bytes, *, sequence: int, key: bytes) -> bytes:
    """The sealed challenge token, 300 bytes."""
    plain = struct.pack("<Q", client_id) + user_data
    return ChaCha20Poly1305(key).encrypt(struct.pack("<IQ", 0, sequence), plain + bytes(284 - len(plain)), None)


def packet(kind: int, body: bytes, *, sequence: int, key: bytes, protocol_id: int) -> bytes:
    """One sealed packet of types 1 to 6."""
    digits = bytearray()
    rest = sequence
    while True:
        digits.append(rest & 0xFF)
        rest >>= 8
        if rest == 0:
            break
    prefix = len(digits) << 4 | kind
    associated = VERSION + struct.pack("<Q", protocol_id) + bytes([prefix])
    sealed = ChaCha20Poly1305(key).encrypt(struct.pack("<IQ", 0, sequence), body, associated)
    return bytes([prefix]) + bytes(digits) + sealed


def open_sealed(datagram: bytes, *, key: bytes, protocol_id: int) -> tuple[int, int, bytes] | None:
    """(type, sequence, body) of a packet, or None where it is not authentic."""
    count = datagram[0] >> 4
    sequence = int.from_bytes(datagram[1 : 1 + count], "little")
    associated = VERSION + struct.pack("<Q", protocol_id) + datagram[:1]
    try:
        body = ChaCha20Poly1305(key).decrypt(struct.pack("<IQ", 0, sequence), datagram[1 + count :], associated)
    except InvalidTag:
        return None
    return datagram[0] & 15, sequence, body


class ReplayArray:
    """The replay window as STANDARD.md states it, over all sequences ever received."""

    def __init__(self) -> None:
        self.newest = 0
        self.received: set[int] = set()

    def accepts(self, sequence: int) -> bool:
        """Whether a packet of this sequence is new and not 256 or more behind the newest; if so, it is received."""
        if sequence + 256 <= self.newest or sequence in self.received:
            return False
        self.received.add(sequence)
        self.newest = max(self.newest, sequence)
        return True
