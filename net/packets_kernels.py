"""Seal and open packets in arenas: what `net.packets` does, without an allocation or the interpreter.

Helpers of the host and client-group kernels, and `seal_batch`/`open_batch`, which do nothing else, so that tests can
hold them against the per-packet path byte for byte. Rows of arenas are `net.datagrams.DATAGRAM_BYTES` long. `scratch`
is uint8[64]: associated data at 0 (version 13, protocol id 8, prefix 1), nonce at 32.
"""

import numpy as np

from net.crypto import aead_decrypt, aead_encrypt
from net.packets import CHALLENGE_BODY_BYTES, ENCRYPTED_BYTES_MIN, PAYLOAD_BYTES_MAX, Drop, Kind
from net.tokens import MAC_BYTES, VERSION_INFO
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "SCRATCH_BYTES",
    "body_size_allowed",
    "copy_bytes",
    "new_scratch",
    "open_batch",
    "open_row",
    "parse_header",
    "read_integer",
    "seal_batch",
    "seal_row",
    "write_integer",
]

SCRATCH_BYTES = 64
_ASSOCIATED_BYTES = len(VERSION_INFO) + 8 + 1
_PREFIX_AT = _ASSOCIATED_BYTES - 1
_NONCE_AT = 32
_MAC = MAC_BYTES
_MINIMUM = ENCRYPTED_BYTES_MIN
_CHALLENGE_BODY = CHALLENGE_BODY_BYTES
_PAYLOAD_MAX = PAYLOAD_BYTES_MAX
_BYTE = np.uint64(0xFF)
_EIGHT = np.uint64(8)
_ZERO = np.uint64(0)

_DENIED, _CHALLENGE, _RESPONSE = int(Kind.DENIED), int(Kind.CHALLENGE), int(Kind.RESPONSE)
_KEEP_ALIVE, _PAYLOAD, _DISCONNECT = int(Kind.KEEP_ALIVE), int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_EMPTY, _TOO_SHORT, _BAD_TYPE = int(Drop.EMPTY), int(Drop.TOO_SHORT), int(Drop.BAD_TYPE)
_NOT_ALLOWED, _BAD_SEQUENCE = int(Drop.NOT_ALLOWED), int(Drop.BAD_SEQUENCE)
_NOT_AUTHENTIC, _WRONG_SIZE = int(Drop.NOT_AUTHENTIC), int(Drop.WRONG_SIZE)


def new_scratch(protocol_id: int) -> U8:
    """Scratch for the kernels of one endpoint, with the associated data of its protocol in place."""
    scratch = np.zeros(SCRATCH_BYTES, dtype=np.uint8)
    scratch[: len(VERSION_INFO)] = np.frombuffer(VERSION_INFO, dtype=np.uint8)
    protocol = np.frombuffer(protocol_id.to_bytes(8, "little"), dtype=np.uint8)
    scratch[len(VERSION_INFO) : _PREFIX_AT] = protocol
    return scratch


@kernel
def write_integer(target: U8, offset: int, size: int, value: np.uint64) -> None:
    """Write the low `size` bytes of an unsigned integer, low byte first."""
    for index in range(size):
        target[offset + index] = np.uint8(value & _BYTE)
        value >>= _EIGHT


@kernel
def read_integer(source: U8, offset: int, size: int) -> np.uint64:
    """Read an unsigned integer of `size` bytes, low byte first."""
    value = _ZERO
    for index in range(size - 1, -1, -1):
        value = (value << _EIGHT) | np.uint64(source[offset + index])
    return value


@kernel
def copy_bytes(target: U8, target_offset: int, source: U8, source_offset: int, size: int) -> None:
    """Copy a run of bytes between arrays that do not overlap."""
    for index in range(size):
        target[target_offset + index] = source[source_offset + index]


@kernel
def parse_header(datagram: U8, length: int, allowed: int) -> tuple[int, int, int, np.uint64]:
    """Read prefix and sequence, by the steps of the standard that need no key.

    Args:
        datagram: One row of an arena.
        length: Bytes received.
        allowed: Bit k is set where this side takes packets of type k.

    Returns:
        (drop reason or -1, type, header bytes, sequence).
    """
    if length < _MINIMUM:
        return (_EMPTY if length == 0 else _TOO_SHORT), 0, 0, _ZERO
    kind = int(np.int64(datagram[0])) & 15
    size = int(np.int64(datagram[0])) >> 4
    if kind > _DISCONNECT:
        return _BAD_TYPE, kind, 0, _ZERO
    if (allowed >> kind) & 1 == 0:
        return _NOT_ALLOWED, kind, 0, _ZERO
    if size < 1 or size > 8:
        return _BAD_SEQUENCE, kind, 0, _ZERO
    if length < 1 + size + _MAC:
        return _TOO_SHORT, kind, 0, _ZERO
    return -1, kind, 1 + size, read_integer(datagram, 1, size)


@kernel
def open_row(data: U8, row: int, length: int, header: int, sequence: np.uint64, key: int, scratch: U8) -> bool:
    """Decrypt one datagram in place; the body then stands behind its header. False where it is not authentic.

    Args:
        data: Arena, shape (n, row bytes).
        row: Which datagram; `length` and `header` are its sizes, as `parse_header` accepted them.
        key: Address of 32 bytes.
    """
    scratch[_PREFIX_AT] = data[row, 0]
    write_integer(scratch, _NONCE_AT + 4, 8, sequence)
    base = np.int64(scratch.ctypes.data)
    body = np.int64(data.ctypes.data) + row * data.shape[1] + header
    result = aead_decrypt(body, 0, 0, body, length - header, base, _ASSOCIATED_BYTES, base + _NONCE_AT, key)
    return bool(result == 0)


@kernel
def body_size_allowed(kind: int, size: int) -> bool:
    """Whether a decrypted body has the size that its type has."""
    if kind == _PAYLOAD:
        return 1 <= size <= _PAYLOAD_MAX
    if kind == _KEEP_ALIVE:
        return size == 8
    if kind in (_CHALLENGE, _RESPONSE):
        return size == _CHALLENGE_BODY
    return size == 0


@kernel
def seal_row(data: U8, row: int, kind: int, sequence: np.uint64, body: int, size: int, key: int, scratch: U8) -> int:
    """Write one sealed packet into a row of an arena and return its length.

    Args:
        data: Arena, shape (n, row bytes).
        row: Where.
        body: Address of the body; `size` its bytes, which the caller has checked.
        key: Address of 32 bytes.
    """
    count = 1
    while count < 8 and sequence >> np.uint64(8 * count) != _ZERO:
        count += 1
    datagram = data[row]
    datagram[0] = np.uint8(count << 4 | kind)
    write_integer(datagram, 1, count, sequence)
    scratch[_PREFIX_AT] = datagram[0]
    write_integer(scratch, _NONCE_AT + 4, 8, sequence)
    base = np.int64(scratch.ctypes.data)
    target = np.int64(data.ctypes.data) + row * data.shape[1] + 1 + count
    aead_encrypt(target, 0, body, size, base, _ASSOCIATED_BYTES, 0, base + _NONCE_AT, key)
    return 1 + count + size + _MAC


@kernel("(u1[::1], i4[::1], i8[::1], i4[::1], u8[::1], u1[:,::1], u1[::1], u1[:,::1], i4[::1])")
def seal_batch(
    buffer: U8, kinds: I32, offsets: I64, sizes: I32, sequences: U64, keys: U8, scratch: U8, data: U8, lengths: I32
) -> None:
    """Seal packet i from body i into row i; the oracle test's entry to `seal_row`.

    Args:
        buffer: Bodies; body i is `sizes[i]` bytes at `offsets[i]`, and must lie inside.
        keys: Shape (n, 32).
        data: Output arena, shape (n, row bytes); `lengths` gets the sizes of the packets.
    """
    for row in range(kinds.shape[0]):
        body = int(np.int64(buffer.ctypes.data)) + offsets[row]
        key = int(np.int64(keys.ctypes.data)) + 32 * row
        lengths[row] = seal_row(data, row, kinds[row], sequences[row], body, sizes[row], key, scratch)


@kernel("(u1[:,::1], i4[::1], i8, u1[:,::1], u1[::1], i4[::1], i4[::1], u8[::1], i4[::1])")
def open_batch(
    data: U8,
    lengths: I32,
    allowed: int,
    keys: U8,
    scratch: U8,
    reasons: I32,
    kinds: I32,
    sequences: U64,
    sizes: I32,
) -> None:
    """Open each datagram in place, without replay protection; the oracle test's entry to `open_row`.

    Args:
        data: Arena, shape (n, row bytes), with `lengths` of what is in it.
        allowed: Bit k is set where packets of type k are taken.
        keys: Shape (n, 32).
        reasons: Output: a `Drop`, or -1 for a packet that is good; then `kinds`, `sequences` and body `sizes` hold.
    """
    for row in range(lengths.shape[0]):
        reason, kind, header, sequence = parse_header(data[row], lengths[row], allowed)
        sizes[row] = 0
        if reason < 0:
            key = int(np.int64(keys.ctypes.data)) + 32 * row
            size = lengths[row] - header - _MAC
            if not open_row(data, row, lengths[row], header, sequence, key, scratch):
                reason = _NOT_AUTHENTIC
            elif not body_size_allowed(kind, size):
                reason = _WRONG_SIZE
            sizes[row] = size
        reasons[row], kinds[row], sequences[row] = reason, kind, sequence
