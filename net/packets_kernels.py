"""Seal and open packets in arenas: what `net.packets` does, without an allocation or the interpreter.

Helpers of the host and client-group kernels. Both sides keep a connection in one row of three arrays, few and wide
because every array that a kernel takes costs compile time, and because a row is what one packet touches:

    words    u8[n, 9]     remote address 3 (`net.address`), next send sequence, replay window 5 (`net.replay_kernels`)
    keys     u1[n, 64]    receive key 32, send key 32
    times    i8[n, ≥ 3]   ns: last receive (of a keep-alive or payload), last send, time-out (0: none)

Batches of datagrams are tuples (data, length, address) of `net.datagrams.Datagrams`. `scratch` is uint8[436]:
associated data at 0 (version 13, protocol id 8, prefix 1), nonce at 32, body of a keep-alive at 48, private key of
connect tokens at 64, key of challenge tokens at 96, body of a challenge at 128.
"""

import numpy as np

from net.crypto import aead_decrypt, aead_encrypt
from net.packets import CHALLENGE_BODY_BYTES, ENCRYPTED_BYTES_MIN, PAYLOAD_BYTES_MAX, Drop, Kind
from net.replay_kernels import replay_mark, replay_seen
from net.tokens import KEY_BYTES, MAC_BYTES, VERSION_INFO
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "CHALLENGE_AT",
    "CHALLENGE_KEY_AT",
    "DATAGRAMS_TYPE",
    "KEYS_BYTES",
    "LAST_RECEIVE",
    "LAST_SEND",
    "NONCE_AT",
    "PRIVATE_KEY_AT",
    "SEND_KEY_AT",
    "SEND_SEQUENCE",
    "TIMEOUT",
    "WORDS",
    "DatagramArrays",
    "address_matches",
    "emit",
    "emit_keep_alive",
    "new_scratch",
    "open_from",
    "open_row",
    "parse_header",
    "read_integer",
    "seal_row",
    "set_nonce",
    "write_integer",
]

DatagramArrays = tuple[U8, I32, U64]
DATAGRAMS_TYPE = "Tuple((u1[:,::1], i4[::1], u8[:,::1]))"

WORDS, SEND_SEQUENCE = 9, 3
KEYS_BYTES, SEND_KEY_AT = 2 * KEY_BYTES, KEY_BYTES
LAST_RECEIVE, LAST_SEND, TIMEOUT = 0, 1, 2
PRIVATE_KEY_AT = 64
CHALLENGE_KEY_AT = 96
CHALLENGE_AT = 128
SCRATCH_BYTES = CHALLENGE_AT + CHALLENGE_BODY_BYTES

_ASSOCIATED_BYTES = len(VERSION_INFO) + 8 + 1
_PREFIX_AT = _ASSOCIATED_BYTES - 1
NONCE_AT = 32
_KEEP_ALIVE_AT = 48
_MAC = MAC_BYTES
_MINIMUM = ENCRYPTED_BYTES_MIN
_CHALLENGE_BODY = CHALLENGE_BODY_BYTES
_PAYLOAD_MAX = PAYLOAD_BYTES_MAX
_BYTE = np.uint64(0xFF)
_EIGHT = np.uint64(8)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)

_CHALLENGE, _RESPONSE, _KEEP_ALIVE = int(Kind.CHALLENGE), int(Kind.RESPONSE), int(Kind.KEEP_ALIVE)
_PAYLOAD, _DISCONNECT = int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_EMPTY, _TOO_SHORT, _BAD_TYPE = int(Drop.EMPTY), int(Drop.TOO_SHORT), int(Drop.BAD_TYPE)
_NOT_ALLOWED, _BAD_SEQUENCE = int(Drop.NOT_ALLOWED), int(Drop.BAD_SEQUENCE)
_REPLAYED, _NOT_AUTHENTIC, _WRONG_SIZE = int(Drop.REPLAYED), int(Drop.NOT_AUTHENTIC), int(Drop.WRONG_SIZE)


def new_scratch(protocol_id: int, private_key: bytes = bytes(KEY_BYTES), challenge_key: bytes = bytes(KEY_BYTES)) -> U8:
    """Scratch for the kernels of one endpoint, with what never changes in place."""
    scratch = np.zeros(SCRATCH_BYTES, dtype=np.uint8)
    scratch[:_PREFIX_AT] = np.frombuffer(VERSION_INFO + protocol_id.to_bytes(8, "little"), dtype=np.uint8)
    scratch[PRIVATE_KEY_AT:CHALLENGE_AT] = np.frombuffer(private_key + challenge_key, dtype=np.uint8)
    return scratch


@kernel(counted=False)
def write_integer(target: U8, row: int, offset: int, size: int, value: np.uint64) -> None:
    """Write the low `size` bytes of an unsigned integer into a row, low byte first."""
    for index in range(size):
        target[row, offset + index] = np.uint8(value & _BYTE)
        value >>= _EIGHT


@kernel(counted=False)
def read_integer(source: U8, row: int, offset: int, size: int) -> np.uint64:
    """Read an unsigned integer of `size` bytes from a row, low byte first."""
    value = _ZERO
    for index in range(size):
        value |= np.uint64(source[row, offset + index]) << np.uint64(8 * index)
    return value


@kernel(counted=False)
def set_nonce(scratch: U8, prefix: np.uint8, sequence: np.uint64) -> None:
    """Put a packet's prefix and sequence where associated data and nonce are taken from."""
    scratch[_PREFIX_AT] = prefix
    for index in range(8):
        scratch[NONCE_AT + 4 + index] = np.uint8(sequence & _BYTE)
        sequence >>= _EIGHT


@kernel(counted=False)
def parse_header(data: U8, row: int, length: int, allowed: int) -> tuple[int, int, int, np.uint64]:
    """Read prefix and sequence of a datagram, by the steps of the standard that need no key.

    Args:
        data: Arena, shape (n, row bytes).
        length: Bytes received.
        allowed: Bit k is set where this side takes packets of type k.

    Returns:
        (drop reason or -1, type, header bytes, sequence).
    """
    if length < _MINIMUM:
        return (_EMPTY if length == 0 else _TOO_SHORT), 0, 0, _ZERO
    kind = int(np.int64(data[row, 0])) & 15
    size = int(np.int64(data[row, 0])) >> 4
    if kind > _DISCONNECT:
        return _BAD_TYPE, kind, 0, _ZERO
    if (allowed >> kind) & 1 == 0:
        return _NOT_ALLOWED, kind, 0, _ZERO
    if size < 1 or size > 8:
        return _BAD_SEQUENCE, kind, 0, _ZERO
    if length < 1 + size + _MAC:
        return _TOO_SHORT, kind, 0, _ZERO
    return -1, kind, 1 + size, read_integer(data, row, 1, size)


@kernel(counted=False)
def open_row(data: U8, row: int, length: int, header: int, sequence: np.uint64, key: int, scratch: U8) -> bool:
    """Decrypt one datagram in place; the body then stands behind its header. False where it is not authentic.

    Args:
        data: Arena, shape (n, row bytes).
        row: Which datagram; `length` and `header` are its sizes, as `parse_header` accepted them.
        key: Address of 32 bytes.
    """
    set_nonce(scratch, data[row, 0], sequence)
    base = int(np.int64(scratch.ctypes.data))
    body = int(np.int64(data.ctypes.data)) + row * data.shape[1] + header
    result = aead_decrypt(body, 0, 0, body, length - header, base, _ASSOCIATED_BYTES, base + NONCE_AT, key)
    return bool(result == 0)


@kernel(counted=False)
def _body_size_allowed(kind: int, size: int) -> bool:
    """Whether a decrypted body has the size that its type has."""
    if kind == _PAYLOAD:
        return 1 <= size <= _PAYLOAD_MAX
    if kind == _KEEP_ALIVE:
        return size == 8
    if kind in (_CHALLENGE, _RESPONSE):
        return size == _CHALLENGE_BODY
    return size == 0


@kernel(counted=False)
def open_from(
    words: U64,
    keys: U8,
    slot: int,
    data: U8,
    row: int,
    length: int,
    kind: int,
    header: int,
    sequence: np.uint64,
    scratch: U8,
) -> int:
    """Replay check, decryption, replay move and size check of a connection's packet; a drop reason, or -1."""
    if kind >= _KEEP_ALIVE and replay_seen(words, slot, sequence):
        return _REPLAYED
    key = int(np.int64(keys.ctypes.data)) + slot * keys.shape[1]
    if not open_row(data, row, length, header, sequence, key, scratch):
        return _NOT_AUTHENTIC
    if kind >= _KEEP_ALIVE:
        replay_mark(words, slot, sequence)
    return -1 if _body_size_allowed(kind, length - header - _MAC) else _WRONG_SIZE


@kernel(counted=False)
def seal_row(data: U8, row: int, kind: int, sequence: np.uint64, body: int, size: int, key: int, scratch: U8) -> int:
    """Write one sealed packet into a row of an arena and return its length.

    Args:
        data: Arena, shape (n, row bytes).
        row: Where.
        body: Address of the body; `size` its bytes, which the caller has checked.
        key: Address of 32 bytes.
    """
    count, rest = 1, sequence >> _EIGHT
    while rest != _ZERO:
        count += 1
        rest >>= _EIGHT
    prefix = np.uint8(count << 4 | kind)
    data[row, 0] = prefix
    write_integer(data, row, 1, count, sequence)
    set_nonce(scratch, prefix, sequence)
    base = int(np.int64(scratch.ctypes.data))
    target = int(np.int64(data.ctypes.data)) + row * data.shape[1] + 1 + count
    aead_encrypt(target, 0, body, size, base, _ASSOCIATED_BYTES, 0, base + NONCE_AT, key)
    return 1 + count + size + _MAC


@kernel(counted=False)
def address_matches(words: U64, slot: int, address: U64, row: int) -> bool:
    """Whether a datagram's address is that of a connection."""
    return bool(
        words[slot, 0] == address[row, 0] and words[slot, 1] == address[row, 1] and words[slot, 2] == address[row, 2]
    )


@kernel(counted=False)
def emit(
    words: U64,
    keys: U8,
    times: I64,
    slot: int,
    outgoing: DatagramArrays,
    at: int,
    kind: int,
    body: int,
    size: int,
    now: int,
    scratch: U8,
) -> None:
    """Seal one packet of a connection into row `at` of `outgoing`, which must exist, under its next sequence."""
    data, lengths, address = outgoing
    sequence = words[slot, SEND_SEQUENCE]
    key = int(np.int64(keys.ctypes.data)) + slot * keys.shape[1] + SEND_KEY_AT
    lengths[at] = seal_row(data, at, kind, sequence, body, size, key, scratch)
    for word in range(3):
        address[at, word] = words[slot, word]
    words[slot, SEND_SEQUENCE] = sequence + _ONE
    times[slot, LAST_SEND] = now


@kernel(counted=False)
def emit_keep_alive(
    words: U64,
    keys: U8,
    times: I64,
    slot: int,
    outgoing: DatagramArrays,
    at: int,
    index: int,
    clients_max: int,
    now: int,
    scratch: U8,
) -> None:
    """Seal a keep-alive, which tells a client its index and the number of slots."""
    body = np.uint64(index) | np.uint64(clients_max) << np.uint64(32)
    for offset in range(8):
        scratch[_KEEP_ALIVE_AT + offset] = np.uint8(body & _BYTE)
        body >>= _EIGHT
    where = int(np.int64(scratch.ctypes.data)) + _KEEP_ALIVE_AT
    emit(words, keys, times, slot, outgoing, at, _KEEP_ALIVE, where, 8, now, scratch)
