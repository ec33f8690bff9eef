"""Packets of netcode 1.02, one at a time: the cold path, and the oracle of the kernels (STANDARD.md, "Packets").

request      0 u8 · version 13 · protocol id u64 · expire unix s u64 · nonce 24 · private token 1,024    = 1,078
all others   prefix u8 (sequence bytes << 4 | type) · sequence 1 to 8 bytes, low byte first, high zeros left out ·
             body, sealed with ChaCha20-Poly1305 (IETF) · MAC 16
             nonce 4 zero bytes · sequence u64; associated: version 13 · protocol id u64 · prefix u8

type  name         body                                      from
0     request      (see above)                               client
1     denied       empty                                     server
2     challenge    sequence u64 · challenge token 300        server
3     response     sequence u64 · challenge token 300        client
4     keep-alive   client index u32 · clients max u32        both
5     payload      1 to 1,200 bytes of the application       both
6     disconnect   empty                                     both
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt, crypto_aead_chacha20poly1305_ietf_encrypt
from nacl.exceptions import CryptoError

from net.errors import NetError
from net.tokens import (
    CHALLENGE_TOKEN_BYTES,
    MAC_BYTES,
    PRIVATE_TOKEN_BYTES,
    TOKEN_NONCE_BYTES,
    VERSION_INFO,
    ConnectToken,
    decrypt_private,
)

__all__ = [
    "BODY_BYTES",
    "CHALLENGE_BODY_BYTES",
    "FROM_CLIENT",
    "FROM_SERVER",
    "PACKET_BYTES_MAX",
    "PAYLOAD_BYTES_MAX",
    "REPLAY_WINDOW",
    "REQUEST_BYTES",
    "Drop",
    "Kind",
    "Packet",
    "ReplayWindow",
    "open_packet",
    "open_request",
    "read_header",
    "request_packet",
    "seal_packet",
]

PAYLOAD_BYTES_MAX = 1200
PACKET_BYTES_MAX = 1 + 8 + PAYLOAD_BYTES_MAX + MAC_BYTES
REQUEST_BYTES = 1 + len(VERSION_INFO) + 8 + 8 + TOKEN_NONCE_BYTES + PRIVATE_TOKEN_BYTES
CHALLENGE_BODY_BYTES = 8 + CHALLENGE_TOKEN_BYTES
ENCRYPTED_BYTES_MIN = 18
REPLAY_WINDOW = 256


class Kind(IntEnum):
    """Packet types of the standard."""

    REQUEST = 0
    DENIED = 1
    CHALLENGE = 2
    RESPONSE = 3
    KEEP_ALIVE = 4
    PAYLOAD = 5
    DISCONNECT = 6


BODY_BYTES = {
    Kind.DENIED: (0, 0),
    Kind.CHALLENGE: (CHALLENGE_BODY_BYTES, CHALLENGE_BODY_BYTES),
    Kind.RESPONSE: (CHALLENGE_BODY_BYTES, CHALLENGE_BODY_BYTES),
    Kind.KEEP_ALIVE: (8, 8),
    Kind.PAYLOAD: (1, PAYLOAD_BYTES_MAX),
    Kind.DISCONNECT: (0, 0),
}
FROM_CLIENT = frozenset({Kind.RESPONSE, Kind.KEEP_ALIVE, Kind.PAYLOAD, Kind.DISCONNECT})
FROM_SERVER = frozenset({Kind.DENIED, Kind.CHALLENGE, Kind.KEEP_ALIVE, Kind.PAYLOAD, Kind.DISCONNECT})


class Drop(IntEnum):
    """Why a datagram, or something to be sent, was dropped; each is an index into the drop counters."""

    EMPTY = 0
    TOO_SHORT = 1
    TOO_LONG = 2
    BAD_TYPE = 3
    NOT_ALLOWED = 4  # a type that the other side never sends
    BAD_SEQUENCE = 5  # number of sequence bytes not in 1 to 8
    REPLAYED = 6
    NOT_AUTHENTIC = 7
    WRONG_SIZE = 8
    UNKNOWN_ADDRESS = 9
    WRONG_STATE = 10  # authentic, or from a known address, but not for this state of the connection
    WRONG_VERSION = 11
    WRONG_PROTOCOL = 12
    TOKEN_EXPIRED = 13
    TOKEN_TOO_FAR = 14  # expires later than any token the server accepts
    TOKEN_NOT_AUTHENTIC = 15
    TOKEN_MALFORMED = 16
    WRONG_SERVER = 17  # the token does not name this server
    ADDRESS_CONNECTED = 18
    CLIENT_ID_CONNECTED = 19
    TOKEN_REUSED = 20
    HISTORY_FULL = 21
    PENDING_FULL = 22
    CHALLENGE_NOT_AUTHENTIC = 23
    SERVER_FULL = 24  # answered with a denied packet
    HANDSHAKE_BUDGET = 25  # more handshake packets in one batch than it may handle, or a copy; the client repeats
    OUTGOING_FULL = 26
    SEND_NOT_CONNECTED = 27
    SEND_WRONG_SIZE = 28
    ADDRESS_FULL = 29  # as many connections of this address as it may have; answered with a denied packet
    ADDRESS_RATE = 30  # too many new connections of this address lately; the client repeats
    ADDRESS_TABLE_FULL = 31  # more addresses than the table of limits takes; the client repeats
    PENDING_DISPLACED = 32  # a handshake that made way for a newer one of the same address or client


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet, opened."""

    kind: Kind
    sequence: int
    body: bytes


class ReplayWindow:
    """Accepts each sequence once, and none that is 256 or more behind the newest; looking moves nothing."""

    def __init__(self) -> None:
        self.newest = 0
        self._seen: set[int] = set()

    def seen(self, sequence: int) -> bool:
        """Whether a sequence was received before, or is too old to tell."""
        # By subtraction: sequence + 256 would wrap for sequences near 2**64 in other languages.
        return (self.newest >= REPLAY_WINDOW and sequence <= self.newest - REPLAY_WINDOW) or (sequence in self._seen)

    def mark(self, sequence: int) -> None:
        """Remember a sequence whose packet was authentic."""
        self.newest = max(self.newest, sequence)
        self._seen.add(sequence)
        self._seen = {old for old in self._seen if old > self.newest - REPLAY_WINDOW}


def _associated(protocol_id: int, prefix: int) -> bytes:
    return VERSION_INFO + struct.pack("<QB", protocol_id, prefix)


def request_packet(token: ConnectToken) -> bytes:
    """The connection request for a connect token."""
    head = struct.pack("<B13sQQ", Kind.REQUEST, VERSION_INFO, token.protocol_id, token.expire_unix_s)
    return head + token.nonce + token.private


def seal_packet(kind: Kind, body: bytes, *, sequence: int, key: bytes, protocol_id: int) -> bytes:
    """One sealed packet of any type but request.

    Raises:
        NetError: The body is not of the size that the type has.
    """
    smallest, largest = BODY_BYTES[kind]
    if not smallest <= len(body) <= largest:
        raise NetError(f"{kind.name}: a body of {len(body)} bytes; it must have {smallest} to {largest}")
    sequence_bytes = max(1, (sequence.bit_length() + 7) // 8)
    prefix = sequence_bytes << 4 | kind
    nonce = struct.pack("<IQ", 0, sequence)
    sealed: bytes = crypto_aead_chacha20poly1305_ietf_encrypt(body, _associated(protocol_id, prefix), nonce, key)
    return bytes([prefix]) + sequence.to_bytes(sequence_bytes, "little") + sealed


def open_request(
    datagram: bytes, *, protocol_id: int, private_key: bytes, unix_s: int, lifetime_s: int
) -> bytes | Drop:
    """The private token in a request, decrypted, by the steps of the standard; why not, where it is not valid.

    Args:
        datagram: What was received, 1,078 bytes that begin with a zero.
        protocol_id: The game's 64-bit id.
        private_key: Shared with whoever issues tokens.
        unix_s: The time of day [s since 1970].
        lifetime_s: Tokens that expire later than this from now are refused [s].
    """
    version, theirs, expire_unix_s, nonce = struct.unpack_from("<13sQQ24s", datagram, 1)
    if version != VERSION_INFO:
        return Drop.WRONG_VERSION
    if theirs != protocol_id:
        return Drop.WRONG_PROTOCOL
    if expire_unix_s <= unix_s:
        return Drop.TOKEN_EXPIRED
    if expire_unix_s - unix_s > lifetime_s:
        return Drop.TOKEN_TOO_FAR
    sealed = datagram[REQUEST_BYTES - PRIVATE_TOKEN_BYTES :]
    plain = decrypt_private(
        sealed, protocol_id=protocol_id, expire_unix_s=expire_unix_s, nonce=nonce, private_key=private_key
    )
    return plain if plain is not None else Drop.TOKEN_NOT_AUTHENTIC


def read_header(datagram: bytes, *, allowed: Collection[Kind]) -> tuple[Kind, int, int] | Drop:
    """Type, bytes of the header and sequence of a packet, by the steps that need no key; why not, where they fail."""
    if len(datagram) < ENCRYPTED_BYTES_MIN:
        return Drop.TOO_SHORT if datagram else Drop.EMPTY
    prefix = datagram[0]
    if prefix & 15 > Kind.DISCONNECT:
        return Drop.BAD_TYPE
    kind, sequence_bytes = Kind(prefix & 15), prefix >> 4
    if kind not in allowed:
        return Drop.NOT_ALLOWED
    if not 1 <= sequence_bytes <= 8:
        return Drop.BAD_SEQUENCE
    head = 1 + sequence_bytes
    if len(datagram) < head + MAC_BYTES:
        return Drop.TOO_SHORT
    return kind, head, int.from_bytes(datagram[1:head], "little")


def open_packet(
    datagram: bytes, *, key: bytes, protocol_id: int, allowed: Collection[Kind], replay: ReplayWindow | None
) -> Packet | Drop:
    """One packet opened, by the steps of the standard in its order; why not, where it is not valid; never raises.

    Args:
        datagram: What was received.
        key: The 32 bytes with which the sender seals.
        protocol_id: The game's 64-bit id.
        allowed: Types that this side takes (`FROM_CLIENT` or `FROM_SERVER`).
        replay: Checked before decryption and moved after it, for keep-alive, payload and disconnect.
    """
    header = read_header(datagram, allowed=allowed)
    if isinstance(header, Drop):
        return header
    kind, head, sequence = header
    prefix = datagram[0]
    if replay is not None and kind >= Kind.KEEP_ALIVE and replay.seen(sequence):
        return Drop.REPLAYED
    nonce = struct.pack("<IQ", 0, sequence)
    try:
        body = crypto_aead_chacha20poly1305_ietf_decrypt(datagram[head:], _associated(protocol_id, prefix), nonce, key)
    except CryptoError:
        return Drop.NOT_AUTHENTIC
    if replay is not None and kind >= Kind.KEEP_ALIVE:
        replay.mark(sequence)
    smallest, largest = BODY_BYTES[kind]
    if not smallest <= len(body) <= largest:
        return Drop.WRONG_SIZE
    return Packet(kind, sequence, body)
