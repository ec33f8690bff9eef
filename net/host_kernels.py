"""The server's hot path over whole batches: open what arrived, seal what leaves, sweep for silence.

Columns of the host, one tuple (`HOST_TYPE`), in this order. Slots 0 to clients_max − 1 are clients; those behind are
pending handshakes, which have keys but are not yet connected.

    table          i4[power of two]   open-addressing address table, linear probing: slot + 1, or 0 for none
    secret         u8[2]              seeds of its hash
    state          u1[slots]          FREE, PENDING, CONNECTED, CLOSING
    address        u8[slots, 3]       `net.address` words
    receive_key    u1[slots, 32]      client to server
    send_key       u1[slots, 32]      server to client
    send_sequence  u8[slots]          of the next packet
    newest         u8[slots]          replay window (`net.replay_kernels`)
    window         u8[slots, 4]
    last_receive   i8[slots]          ns, of the last authentic keep-alive or payload
    last_send      i8[slots]          ns
    timeout        i8[slots]          ns of silence allowed, 0 for no limit; of a pending slot: its deadline
    confirmed      u1[slots]          1 after the client's first packet since it was connected

Batches of datagrams are tuples (data, length, address) of `net.datagrams.Datagrams`. Everything that needs a decision
(requests, responses, disconnects) is only authenticated here and listed for Python, so that hostile bytes never cost
more than a kernel step: about 0.1 µs where the header is wrong, one AEAD pass where it is not.
"""

from typing import Final

import numpy as np

from net.crypto import xaead_decrypt
from net.packets import PAYLOAD_BYTES_MAX, REQUEST_BYTES, Drop, Kind
from net.packets_kernels import body_size_allowed, open_row, parse_header, read_integer, seal_row, write_integer
from net.replay_kernels import replay_mark, replay_seen
from net.tokens import MAC_BYTES, PRIVATE_TOKEN_BYTES, TOKEN_NONCE_BYTES
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "CLOSING",
    "CONNECTED",
    "DATAGRAMS_TYPE",
    "FREE",
    "HOST_TYPE",
    "OUTPUTS_TYPE",
    "PENDING",
    "close_batch",
    "find_address",
    "receive_batch",
    "send_batch",
    "sweep",
    "table_insert",
    "table_remove",
]

HostColumns = tuple[I32, U64, U8, U64, U8, U8, U64, U64, U64, I64, I64, I64, U8]
HOST_TYPE = (
    "Tuple((i4[::1], u8[::1], u1[::1], u8[:,::1], u1[:,::1], u1[:,::1], u8[::1], u8[::1], u8[:,::1], "
    "i8[::1], i8[::1], i8[::1], u1[::1]))"
)
DatagramArrays = tuple[U8, I32, U64]
DATAGRAMS_TYPE = "Tuple((u1[:,::1], i4[::1], u8[:,::1]))"
# payload client, offset, length; cold row, slot; closed slots; drops by reason; counts (payloads, cold, closed)
HostOutputs = tuple[I32, I64, I32, I32, I32, I32, I64, I64]
OUTPUTS_TYPE = "Tuple((i4[::1], i8[::1], i4[::1], i4[::1], i4[::1], i4[::1], i8[::1], i8[::1]))"

FREE, PENDING, CONNECTED, CLOSING = 0, 1, 2, 3

# Final, so that the type of host[_TABLE] is known.
_TABLE: Final = 0
_SECRET: Final = 1
_STATE: Final = 2
_ADDRESS: Final = 3
_RECEIVE_KEY: Final = 4
_SEND_KEY: Final = 5
_SEND_SEQUENCE: Final = 6
_NEWEST: Final = 7
_WINDOW: Final = 8
_LAST_RECEIVE: Final = 9
_LAST_SEND: Final = 10
_TIMEOUT: Final = 11
_CONFIRMED: Final = 12

_RESPONSE, _KEEP_ALIVE = int(Kind.RESPONSE), int(Kind.KEEP_ALIVE)
_PAYLOAD, _DISCONNECT = int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_ALLOWED = 1 << _RESPONSE | 1 << _KEEP_ALIVE | 1 << _PAYLOAD | 1 << _DISCONNECT
_MAC, _PAYLOAD_MAX = MAC_BYTES, PAYLOAD_BYTES_MAX
_REQUEST, _PRIVATE = REQUEST_BYTES, PRIVATE_TOKEN_BYTES
_ASSOCIATED_AT, _ASSOCIATED_BYTES, _EXPIRE_AT = 1, 29, 22  # version, protocol id and expiry stand as they are needed
_NONCE_AT = 30
_PRIVATE_AT = _NONCE_AT + TOKEN_NONCE_BYTES
_KEEP_ALIVE_AT = 48  # in scratch: the body of a keep-alive
_DISCONNECTS = 10

_TOO_SHORT, _TOO_LONG = int(Drop.TOO_SHORT), int(Drop.TOO_LONG)
_REPLAYED, _NOT_AUTHENTIC, _WRONG_SIZE = int(Drop.REPLAYED), int(Drop.NOT_AUTHENTIC), int(Drop.WRONG_SIZE)
_UNKNOWN_ADDRESS, _WRONG_STATE = int(Drop.UNKNOWN_ADDRESS), int(Drop.WRONG_STATE)
_WRONG_VERSION, _WRONG_PROTOCOL = int(Drop.WRONG_VERSION), int(Drop.WRONG_PROTOCOL)
_TOKEN_EXPIRED, _TOKEN_TOO_FAR = int(Drop.TOKEN_EXPIRED), int(Drop.TOKEN_TOO_FAR)
_TOKEN_NOT_AUTHENTIC, _ADDRESS_CONNECTED = int(Drop.TOKEN_NOT_AUTHENTIC), int(Drop.ADDRESS_CONNECTED)
_HANDSHAKE_BUDGET, _OUTGOING_FULL = int(Drop.HANDSHAKE_BUDGET), int(Drop.OUTGOING_FULL)
_SEND_NOT_CONNECTED, _SEND_WRONG_SIZE = int(Drop.SEND_NOT_CONNECTED), int(Drop.SEND_WRONG_SIZE)

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_MIX = np.uint64(0x9E3779B1)
_FOLD = np.uint64(29)
_ONE = np.uint64(1)


@kernel
def _hash(secret: U64, first: np.uint64, second: np.uint64, third: np.uint64) -> np.uint64:
    """Multiply-fold hash of an address, seeded; 32-bit factors, so that nothing overflows in plain Python either."""
    state: np.uint64 = secret[0]
    for word in (first, second, third):
        state = ((state ^ word) & _LOW) * _MIX
        state ^= state >> _FOLD
        state = ((state ^ (word >> _HALF)) & _LOW) * _MIX
        state ^= state >> _FOLD
    state = ((state ^ secret[1]) & _LOW) * _MIX
    return np.uint64(state ^ (state >> _FOLD))


@kernel
def _find(host: HostColumns, first: np.uint64, second: np.uint64, third: np.uint64) -> int:
    """The slot of an address, or -1. The table is at most a quarter full, so probes stay short."""
    table, address = host[_TABLE], host[_ADDRESS]
    mask = table.shape[0] - 1
    at = int(np.int64(_hash(host[_SECRET], first, second, third) & np.uint64(mask)))
    while table[at] != 0:
        slot = int(table[at]) - 1
        if address[slot, 1] == second and address[slot, 2] == third and address[slot, 0] == first:
            return slot
        at = (at + 1) & mask
    return -1


@kernel(f"({HOST_TYPE}, u8[::1])")
def find_address(host: HostColumns, address: U64) -> int:
    """The slot of an address of three words, or -1."""
    return _find(host, address[0], address[1], address[2])


@kernel
def _home(host: HostColumns, slot: int) -> int:
    """The table index at which the probe for a slot's address starts."""
    address = host[_ADDRESS]
    mixed = _hash(host[_SECRET], address[slot, 0], address[slot, 1], address[slot, 2])
    return int(np.int64(mixed & np.uint64(host[_TABLE].shape[0] - 1)))


@kernel(f"({HOST_TYPE}, i8)")
def table_insert(host: HostColumns, slot: int) -> None:
    """Make a slot findable by the address in its row; the address must not be in the table."""
    table = host[_TABLE]
    mask = table.shape[0] - 1
    at = _home(host, slot)
    while table[at] != 0:
        at = (at + 1) & mask
    table[at] = slot + 1


@kernel(f"({HOST_TYPE}, i8)")
def table_remove(host: HostColumns, slot: int) -> None:
    """Take a slot out of the table, closing the gap by moving later entries back (Knuth, 6.4 R), without tombstones.

    The row's address must still be what it was inserted by; a slot that is not in the table is left alone.
    """
    table = host[_TABLE]
    mask = table.shape[0] - 1
    at = _home(host, slot)
    while table[at] != slot + 1:
        if table[at] == 0:
            return
        at = (at + 1) & mask
    gap = at
    at = (at + 1) & mask
    while table[at] != 0:
        home = _home(host, table[at] - 1)
        if ((at - home) & mask) >= ((at - gap) & mask):
            table[gap] = table[at]
            gap = at
        at = (at + 1) & mask
    table[gap] = 0


@kernel
def _open_request(data: U8, row: int, private_key: U8, scratch: U8, unix_s: int, lifetime_s: int) -> int:
    """Check a request of the right length and decrypt its private token in place; a drop reason, or -1."""
    datagram = data[row]
    for index in range(21):
        if datagram[1 + index] != scratch[index]:
            return _WRONG_VERSION if index < 13 else _WRONG_PROTOCOL
    expire = read_integer(datagram, _EXPIRE_AT, 8)
    if expire <= np.uint64(unix_s):
        return _TOKEN_EXPIRED
    if expire - np.uint64(unix_s) > np.uint64(lifetime_s):
        return _TOKEN_TOO_FAR
    base = int(np.int64(data.ctypes.data)) + row * data.shape[1]
    inner = base + _PRIVATE_AT
    key = int(np.int64(private_key.ctypes.data))
    result = xaead_decrypt(
        inner, 0, 0, inner, _PRIVATE, base + _ASSOCIATED_AT, _ASSOCIATED_BYTES, base + _NONCE_AT, key
    )
    return -1 if result == 0 else _TOKEN_NOT_AUTHENTIC


@kernel
def _open_from(
    host: HostColumns,
    data: U8,
    row: int,
    length: int,
    slot: int,
    kind: int,
    header: int,
    sequence: np.uint64,
    scratch: U8,
) -> int:
    """Replay check, decryption, replay move and size check of a packet from a known slot; a drop reason, or -1."""
    replayable = kind >= _KEEP_ALIVE
    if replayable and replay_seen(host[_NEWEST], host[_WINDOW], slot, sequence):
        return _REPLAYED
    key = int(np.int64(host[_RECEIVE_KEY].ctypes.data)) + 32 * slot
    if not open_row(data, row, length, header, sequence, key, scratch):
        return _NOT_AUTHENTIC
    if replayable:
        replay_mark(host[_NEWEST], host[_WINDOW], slot, sequence)
    return -1 if body_size_allowed(kind, length - header - _MAC) else _WRONG_SIZE


@kernel
def _list_cold(outputs: HostOutputs, row: int, slot: int) -> int:
    """Put an authentic request or response on the list for Python; -1, or the drop reason where the list is full."""
    cold_row, cold_slot, counts = outputs[3], outputs[4], outputs[7]
    if counts[1] == cold_row.shape[0]:
        return _HANDSHAKE_BUDGET
    cold_row[counts[1]], cold_slot[counts[1]] = row, slot
    counts[1] += 1
    return -1


@kernel
def _accept(host: HostColumns, outputs: HostOutputs, kind: int, slot: int, offset: int, size: int, now: int) -> None:
    """Take an authentic packet of a connected client."""
    counts = outputs[7]
    if kind == _DISCONNECT:
        host[_STATE][slot] = CLOSING
        outputs[5][counts[2]] = slot
        counts[2] += 1
        return
    host[_LAST_RECEIVE][slot] = now
    host[_CONFIRMED][slot] = 1
    if kind == _PAYLOAD:
        at = counts[0]
        outputs[0][at], outputs[1][at], outputs[2][at] = slot, offset, size
        counts[0] += 1


@kernel
def _receive_one(
    host: HostColumns,
    datagrams: DatagramArrays,
    outputs: HostOutputs,
    private_key: U8,
    scratch: U8,
    row: int,
    now: int,
    unix_s: int,
    lifetime_s: int,
) -> int:
    """Take one datagram; a drop reason, or -1."""
    data, lengths, address = datagrams
    length = int(lengths[row])
    slot = -2
    if length > 0 and data[row, 0] == 0:
        if length != _REQUEST:
            return _TOO_SHORT if length < _REQUEST else _TOO_LONG
        slot = _find(host, address[row, 0], address[row, 1], address[row, 2])
        if slot >= 0 and host[_STATE][slot] >= CONNECTED:
            return _ADDRESS_CONNECTED
        reason = _open_request(data, row, private_key, scratch, unix_s, lifetime_s)
        return reason if reason >= 0 else _list_cold(outputs, row, slot)
    reason, kind, header, sequence = parse_header(data[row], length, _ALLOWED)
    if reason >= 0:
        return reason
    slot = _find(host, address[row, 0], address[row, 1], address[row, 2])
    if slot < 0:
        return _UNKNOWN_ADDRESS
    if host[_STATE][slot] != (PENDING if kind == _RESPONSE else CONNECTED):
        return _WRONG_STATE
    reason = _open_from(host, data, row, length, slot, kind, header, sequence, scratch)
    if reason >= 0:
        return reason
    if kind == _RESPONSE:
        return _list_cold(outputs, row, slot)
    _accept(host, outputs, kind, slot, row * data.shape[1] + header, length - header - _MAC, now)
    return -1


@kernel(f"({HOST_TYPE}, {DATAGRAMS_TYPE}, {OUTPUTS_TYPE}, u1[::1], u1[::1], i8, i8, i8, i8)")
def receive_batch(
    host: HostColumns,
    datagrams: DatagramArrays,
    outputs: HostOutputs,
    private_key: U8,
    scratch: U8,
    count: int,
    now: int,
    unix_s: int,
    lifetime_s: int,
) -> None:
    """Open the first `count` datagrams in place, in order, and sort them into outputs and drop counters.

    Args:
        host: Columns, as listed at the top of the file.
        datagrams: What arrived; a negative length marks a row that is already dropped.
        private_key: 32 bytes, of connect tokens.
        scratch: Of `net.packets_kernels.new_scratch`.
        now: Monotonic time [ns]; `unix_s` the time of day [s since 1970].
        lifetime_s: Requests whose token expires later than this from now are refused [s].
        outputs: Payloads, the cold list, the closed list, drops by reason, and the counts of the three lists.
    """
    outputs[7][:] = 0
    for row in range(count):
        if datagrams[1][row] < 0:
            continue
        reason = _receive_one(host, datagrams, outputs, private_key, scratch, row, now, unix_s, lifetime_s)
        if reason >= 0:
            outputs[6][reason] += 1


@kernel
def _emit(
    host: HostColumns,
    outgoing: DatagramArrays,
    at: int,
    slot: int,
    kind: int,
    body: int,
    size: int,
    now: int,
    scratch: U8,
) -> None:
    """Seal one packet for a slot into row `at`, which must exist."""
    data, lengths, address = outgoing
    sequence = host[_SEND_SEQUENCE][slot]
    key = int(np.int64(host[_SEND_KEY].ctypes.data)) + 32 * slot
    lengths[at] = seal_row(data, at, kind, sequence, body, size, key, scratch)
    for word in range(3):
        address[at, word] = host[_ADDRESS][slot, word]
    host[_SEND_SEQUENCE][slot] = sequence + _ONE
    host[_LAST_SEND][slot] = now


@kernel
def _emit_keep_alive(
    host: HostColumns, outgoing: DatagramArrays, at: int, slot: int, clients_max: int, now: int, scratch: U8
) -> None:
    """Seal a keep-alive, which tells the client its index and the number of slots."""
    write_integer(scratch, _KEEP_ALIVE_AT, 4, np.uint64(slot))
    write_integer(scratch, _KEEP_ALIVE_AT + 4, 4, np.uint64(clients_max))
    body = int(np.int64(scratch.ctypes.data)) + _KEEP_ALIVE_AT
    _emit(host, outgoing, at, slot, _KEEP_ALIVE, body, 8, now, scratch)


@kernel(f"({HOST_TYPE}, u1[::1], i4[::1], i8[::1], i4[::1], i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1])")
def send_batch(
    host: HostColumns,
    buffer: U8,
    clients: I32,
    offsets: I64,
    lengths: I32,
    clients_max: int,
    now: int,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
    drops: I64,
) -> int:
    """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `clients[i]`; returns the rows then used.

    A client that has not been heard since it was connected gets a keep-alive before each payload (STANDARD.md,
    "Connected Clients"). Anything out of range is dropped and counted.
    """
    capacity = outgoing[0].shape[0]
    for index in range(clients.shape[0]):
        slot, offset, size = int(clients[index]), int(offsets[index]), int(lengths[index])
        if slot < 0 or slot >= clients_max or host[_STATE][slot] != CONNECTED:
            drops[_SEND_NOT_CONNECTED] += 1
            continue
        if size < 1 or size > _PAYLOAD_MAX or offset < 0 or offset > buffer.shape[0] - size:
            drops[_SEND_WRONG_SIZE] += 1
            continue
        needed = 1 if host[_CONFIRMED][slot] else 2
        if used + needed > capacity:
            drops[_OUTGOING_FULL] += 1
            continue
        if needed == 2:
            _emit_keep_alive(host, outgoing, used, slot, clients_max, now, scratch)
        body = int(np.int64(buffer.ctypes.data)) + offset
        _emit(host, outgoing, used + needed - 1, slot, _PAYLOAD, body, size, now, scratch)
        used += needed
    return used


@kernel(f"({HOST_TYPE}, i8, i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1], i4[::1], i8[::1])")
def sweep(
    host: HostColumns,
    clients_max: int,
    now: int,
    interval: int,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
    drops: I64,
    expired: I32,
    counts: I64,
) -> int:
    """Send due keep-alives and list slots whose time is up; returns the rows of `outgoing` then used.

    Args:
        interval: Silence towards a client after which it gets a keep-alive [ns].
        expired: Output: slots, clients and pending ones; `counts[0]` says how many.
    """
    counts[0] = 0
    for slot in range(host[_STATE].shape[0]):
        state = host[_STATE][slot]
        if state == PENDING:
            over = host[_TIMEOUT][slot] <= now
        elif state == CONNECTED:
            over = host[_TIMEOUT][slot] > 0 and host[_LAST_RECEIVE][slot] + host[_TIMEOUT][slot] <= now
        else:
            continue
        if over:
            expired[counts[0]] = slot
            counts[0] += 1
        elif state == CONNECTED and host[_LAST_SEND][slot] + interval <= now:
            if used == outgoing[0].shape[0]:
                drops[_OUTGOING_FULL] += 1
                continue
            _emit_keep_alive(host, outgoing, used, slot, clients_max, now, scratch)
            used += 1
    return used


@kernel(f"({HOST_TYPE}, i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1])")
def close_batch(
    host: HostColumns, slot: int, now: int, outgoing: DatagramArrays, used: int, scratch: U8, drops: I64
) -> int:
    """Seal ten redundant disconnect packets for a slot; returns the rows of `outgoing` then used."""
    body = int(np.int64(scratch.ctypes.data))
    for _ in range(_DISCONNECTS):
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            break
        _emit(host, outgoing, used, slot, _DISCONNECT, body, 0, now, scratch)
        used += 1
    return used
