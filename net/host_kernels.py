"""The server's hot path over whole batches: open what arrived, seal what leaves, sweep for silence.

Columns of the host, one tuple (`HOST_TYPE`), in this order; words, keys and times as in `net.packets_kernels`. Slots 0
to clients_max − 1 are clients; those behind are pending handshakes, which have keys but are not yet connected.

    table    i4[power of two]   open-addressing address table, linear probing: slot + 1, or 0 for none
    secret   u8[2]              seeds of its hash
    flags    u1[slots, 2]       state (FREE to CLOSING); 1 once the client was heard since it was connected
    words    u8[slots, 9]
    keys     u1[slots, 64]
    times    i8[slots, 3]       the time-out of a pending slot is its deadline
    rival    i4[slots]          of a connected slot: the pending slot of the same address, or 0 for none
    spent    u8[power of two]   64 bits of the MACs of consumed tokens, each at itself mod the size; the newest stay

Take-over. A client that lost its connection comes back with a fresh token while its old slot is still connected: from
another address, or from the same one (the same socket after a stall, or the same port of a NAT after a restart). The
table holds one slot per address, and while a client is connected that is its slot. So a handshake from the address of a
connected slot is not in the table but is that slot's *rival*, and packets from the address are opened as follows:

    request                          with the server's private key; its token must be authentic, never consumed, and for
                                     the very client that is connected there, else it is dropped
    response                         with the keys of the rival, where there is one
    keep-alive, payload, disconnect  with the keys of the connected slot, and its replay window

Until a response is authentic under the new keys and carries an authentic challenge, nothing of the connected slot is
written: requests, however many, make at most a pending slot. Then the old slot is closed and the new one connected. A
connected slot that ends before that puts its rival into the table in its place.

What needs a decision (requests, responses, disconnects) is only authenticated here and listed for Python: no
cryptography where header, address or sequence is wrong, the token spent or the tick's budget used up; else one pass.
"""

from typing import Final

import numpy as np

from net.crypto import aead_decrypt, aead_encrypt, xaead_decrypt
from net.host_table_kernels import find_slot, home_of, insert_slot
from net.packets import CHALLENGE_BODY_BYTES, PAYLOAD_BYTES_MAX, REQUEST_BYTES, Drop, Kind
from net.packets_kernels import (
    CHALLENGE_AT,
    CHALLENGE_KEY_AT,
    DATAGRAMS_TYPE,
    LAST_RECEIVE,
    LAST_SEND,
    NONCE_AT,
    PRIVATE_KEY_AT,
    SEND_KEY_AT,
    SEND_SEQUENCE,
    TIMEOUT,
    WORDS,
    DatagramArrays,
    emit,
    emit_keep_alive,
    open_from,
    parse_header,
    read_integer,
    seal_row,
    set_nonce,
)
from net.tokens import CHALLENGE_TOKEN_BYTES, MAC_BYTES, PRIVATE_TOKEN_BYTES, TOKEN_NONCE_BYTES, USER_DATA_BYTES
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "CHECKS",
    "CHECKS_MAX",
    "CLOSING",
    "CONNECTED",
    "COUNTS",
    "DISCONNECTS",
    "FREE",
    "HOST_TYPE",
    "OUTPUTS_TYPE",
    "PENDING",
    "REQUESTS",
    "RESPONSES",
    "TALLY",
    "HostColumns",
    "HostOutputs",
    "begin_slot",
    "close_slot",
    "connect_slot",
    "receive_batch",
    "send_batch",
    "sweep",
]

HostColumns = tuple[I32, U64, U8, U64, U8, I64, I32, U64]
HOST_TYPE = "Tuple((i4[::1], u8[::1], u1[:,::1], u8[:,::1], u1[:,::1], i8[:,::1], i4[::1], u8[::1]))"
# payload client, offset, length, arrival; cold rows and slots (k, 2); closed slots; tally: drops by reason, counts
HostOutputs = tuple[I32, I64, I32, I64, I32, I32, I64]
OUTPUTS_TYPE = "Tuple((i4[::1], i8[::1], i4[::1], i8[::1], i4[:,::1], i4[::1], i8[::1]))"

DISCONNECTS = 10  # redundant packets that end a connection
FREE, PENDING, CONNECTED, CLOSING = 0, 1, 2, 3
# Where in the tally the counts start: payloads, cold, closed; since the last tick: requests and responses listed, and
# private tokens decrypted.
COUNTS = len(Drop)
REQUESTS, RESPONSES, CHECKS = COUNTS + 3, COUNTS + 4, COUNTS + 5
TALLY = COUNTS + 6
CHECKS_MAX = 256  # private tokens decrypted per tick, or twice the room of the cold list where that is more

# Final, so that the type of host[_TABLE] is known.
_TABLE: Final = 0
_SECRET: Final = 1
_FLAGS: Final = 2
_WORDS: Final = 3
_KEYS: Final = 4
_TIMES: Final = 5
_RIVAL: Final = 6
_SPENT: Final = 7

_CHALLENGE, _RESPONSE, _KEEP_ALIVE = int(Kind.CHALLENGE), int(Kind.RESPONSE), int(Kind.KEEP_ALIVE)
_PAYLOAD, _DISCONNECT = int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_ALLOWED = 1 << _RESPONSE | 1 << _KEEP_ALIVE | 1 << _PAYLOAD | 1 << _DISCONNECT
_MAC, _PAYLOAD_MAX = MAC_BYTES, PAYLOAD_BYTES_MAX
_REQUEST, _PRIVATE = REQUEST_BYTES, PRIVATE_TOKEN_BYTES
_HEAD_BYTES, _VERSION_BYTES = 21, 13
_ASSOCIATED_AT, _ASSOCIATED_BYTES, _EXPIRE_AT = 1, 29, 22  # version, protocol id and expiry stand as they are needed
_TOKEN_NONCE_AT = 30
_PRIVATE_AT = _TOKEN_NONCE_AT + TOKEN_NONCE_BYTES
_CHALLENGE_PLAIN, _CHALLENGE_TOKEN = CHALLENGE_TOKEN_BYTES - MAC_BYTES, CHALLENGE_TOKEN_BYTES
_CHALLENGE_BODY, _USER_DATA = CHALLENGE_BODY_BYTES, USER_DATA_BYTES
_WORD_COUNT = WORDS

_TOO_SHORT, _TOO_LONG = int(Drop.TOO_SHORT), int(Drop.TOO_LONG)
_UNKNOWN_ADDRESS, _WRONG_STATE = int(Drop.UNKNOWN_ADDRESS), int(Drop.WRONG_STATE)
_WRONG_VERSION, _WRONG_PROTOCOL = int(Drop.WRONG_VERSION), int(Drop.WRONG_PROTOCOL)
_TOKEN_EXPIRED, _TOKEN_TOO_FAR = int(Drop.TOKEN_EXPIRED), int(Drop.TOKEN_TOO_FAR)
_TOKEN_NOT_AUTHENTIC, _ADDRESS_CONNECTED = int(Drop.TOKEN_NOT_AUTHENTIC), int(Drop.ADDRESS_CONNECTED)
_CHALLENGE_NOT_AUTHENTIC, _TOKEN_REUSED = int(Drop.CHALLENGE_NOT_AUTHENTIC), int(Drop.TOKEN_REUSED)
_HANDSHAKE_BUDGET, _OUTGOING_FULL = int(Drop.HANDSHAKE_BUDGET), int(Drop.OUTGOING_FULL)
_SEND_NOT_CONNECTED, _SEND_WRONG_SIZE = int(Drop.SEND_NOT_CONNECTED), int(Drop.SEND_WRONG_SIZE)

_BYTE = np.uint64(0xFF)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)


@kernel(counted=False)
def _open_request(data: U8, row: int, scratch: U8, unix_s: int, lifetime_s: int) -> int:
    """Check a request of the right length and decrypt its private token in place; a drop reason, or -1."""
    for index in range(_HEAD_BYTES):
        if data[row, 1 + index] != scratch[index]:
            return _WRONG_VERSION if index < _VERSION_BYTES else _WRONG_PROTOCOL
    expire = read_integer(data, row, _EXPIRE_AT, 8)
    if expire <= np.uint64(unix_s):
        return _TOKEN_EXPIRED
    if expire - np.uint64(unix_s) > np.uint64(lifetime_s):
        return _TOKEN_TOO_FAR
    base = int(np.int64(data.ctypes.data)) + row * data.shape[1]
    inner, key = base + _PRIVATE_AT, int(np.int64(scratch.ctypes.data)) + PRIVATE_KEY_AT
    result = xaead_decrypt(
        inner, 0, 0, inner, _PRIVATE, base + _ASSOCIATED_AT, _ASSOCIATED_BYTES, base + _TOKEN_NONCE_AT, key
    )
    return -1 if result == 0 else _TOKEN_NOT_AUTHENTIC


@kernel(counted=False)
def _open_challenge(data: U8, row: int, header: int, scratch: U8) -> bool:
    """Decrypt the challenge token of an authentic response in place; False where it is not authentic."""
    set_nonce(scratch, np.uint8(0), read_integer(data, row, header, 8))
    base, token = int(np.int64(scratch.ctypes.data)), int(np.int64(data.ctypes.data)) + row * data.shape[1] + header + 8
    key = base + CHALLENGE_KEY_AT
    return bool(aead_decrypt(token, 0, 0, token, _CHALLENGE_TOKEN, 0, 0, base + NONCE_AT, key) == 0)


@kernel(counted=False)
def _is_listed(data: U8, cold: I32, tally: I64, row: int, slot: int) -> bool:
    """Whether the list for Python has a request with the same token, or a response to the same slot (not -1).

    So that whoever holds one token cannot fill the list with copies, from however many addresses. What is listed is
    authentic, so that forged copies keep nobody out.
    """
    for index in range(tally[COUNTS + 1]):
        other = int(cold[index, 0])
        if slot >= 0:
            if data[other, 0] != 0 and cold[index, 1] == slot:
                return True
        elif data[other, 0] == 0:
            same = 0
            while same < _MAC and data[other, _REQUEST - 1 - same] == data[row, _REQUEST - 1 - same]:
                same += 1
            if same == _MAC:
                return True
    return False


@kernel(counted=False)
def _is_spent(spent: U64, data: U8, row: int) -> bool:
    """Whether the token of a request is known to be consumed, by 64 bits of its MAC; some that are, are not known."""
    mac = read_integer(data, row, _REQUEST - _MAC, 8)
    return bool(spent[np.int64(mac & np.uint64(spent.shape[0] - 1))] == mac)


@kernel(counted=False)
def _list_cold(cold: I32, tally: I64, row: int, slot: int, which: int) -> None:
    """Put an authentic request or response on the list for Python, on which there is room."""
    cold[tally[COUNTS + 1], 0], cold[tally[COUNTS + 1], 1] = row, slot
    tally[COUNTS + 1] += 1
    tally[which] += 1


@kernel(counted=False)
def _receive_one(
    host: HostColumns,
    datagrams: DatagramArrays,
    cold: I32,
    tally: I64,
    scratch: U8,
    row: int,
    unix_s: int,
    lifetime_s: int,
    takeover: int,
) -> tuple[int, int, int, int]:
    """Open one datagram: (a drop reason, or -1; type, or -1 where it is on the cold list; slot; header bytes)."""
    data, lengths, address = datagrams
    words, flags = host[_WORDS], host[_FLAGS]
    length = int(lengths[row])
    if length > 0 and data[row, 0] == 0:
        if length != _REQUEST:
            return (_TOO_SHORT if length < _REQUEST else _TOO_LONG), -1, -1, 0
        slot = find_slot(host[_TABLE], host[_SECRET], words, address, row)
        if slot >= 0 and flags[slot, 0] >= CONNECTED and (takeover == 0 or flags[slot, 0] == CLOSING):
            return _ADDRESS_CONNECTED, -1, slot, 0
        if _is_spent(host[_SPENT], data, row):
            return _TOKEN_REUSED, -1, slot, 0
        full = tally[REQUESTS] >= cold.shape[0] // 2 or tally[CHECKS] >= max(CHECKS_MAX, 2 * cold.shape[0])
        if full or _is_listed(data, cold, tally, row, -1):
            return _HANDSHAKE_BUDGET, -1, slot, 0
        reason = _open_request(data, row, scratch, unix_s, lifetime_s)
        if reason < 0 or reason == _TOKEN_NOT_AUTHENTIC:
            tally[CHECKS] += 1
        if reason < 0:
            _list_cold(cold, tally, row, slot, REQUESTS)
        return reason, -1, slot, 0
    reason, kind, header, sequence = parse_header(data, row, length, _ALLOWED)
    if reason >= 0:
        return reason, -1, -1, 0
    slot = find_slot(host[_TABLE], host[_SECRET], words, address, row)
    if slot < 0:
        return _UNKNOWN_ADDRESS, -1, -1, 0
    if kind == _RESPONSE and host[_RIVAL][slot] > 0:
        slot = int(host[_RIVAL][slot])
    if flags[slot, 0] != (PENDING if kind == _RESPONSE else CONNECTED):
        return _WRONG_STATE, -1, slot, 0
    if kind == _RESPONSE and (tally[RESPONSES] >= cold.shape[0] // 2 or _is_listed(data, cold, tally, row, slot)):
        return _HANDSHAKE_BUDGET, -1, slot, 0
    reason = open_from(words, host[_KEYS], slot, data, row, length, kind, header, sequence, scratch)
    if kind == _RESPONSE:
        if reason < 0 and not _open_challenge(data, row, header, scratch):
            reason = _CHALLENGE_NOT_AUTHENTIC
        if reason < 0:
            _list_cold(cold, tally, row, slot, RESPONSES)
        return reason, -1, slot, 0
    return reason, kind, slot, header


@kernel(f"({HOST_TYPE}, {DATAGRAMS_TYPE}, i8[::1], {OUTPUTS_TYPE}, u1[::1], i8, i8, i8, i8, i8)", counted=False)
def receive_batch(
    host: HostColumns,
    datagrams: DatagramArrays,
    received: I64,
    outputs: HostOutputs,
    scratch: U8,
    count: int,
    now: int,
    unix_s: int,
    lifetime_s: int,
    takeover: int,
) -> None:
    """Open the first `count` datagrams in place, in order, and sort them into outputs and drop counters.

    Args:
        host: Columns, as listed at the top of the file.
        datagrams: What arrived; a negative length marks a row that is already dropped.
        received: When each arrived [ns]; 0: now.
        scratch: Of `net.packets_kernels.new_scratch`, with the private key of connect tokens.
        now: Monotonic time [ns]; `unix_s` the time of day [s since 1970].
        lifetime_s: Requests whose token expires later than this from now are refused [s].
        takeover: 1 where requests from the address of a connected slot are looked at, else 0.
        outputs: Payloads, the cold list, the closed list, and the tally.
    """
    clients, offsets, sizes, arrivals, cold, closed, tally = outputs
    lengths, row_bytes = datagrams[1], datagrams[0].shape[1]
    payloads, closing = 0, 0
    tally[COUNTS + 1] = 0
    for row in range(count):
        if lengths[row] < 0:
            continue
        reason, kind, slot, header = _receive_one(
            host, datagrams, cold, tally, scratch, row, unix_s, lifetime_s, takeover
        )
        if reason >= 0:
            tally[reason] += 1
        elif kind == _DISCONNECT:
            host[_FLAGS][slot, 0] = CLOSING
            closed[closing] = slot
            closing += 1
        elif kind >= 0:
            host[_TIMES][slot, LAST_RECEIVE] = now
            host[_FLAGS][slot, 1] = 1
            if kind == _PAYLOAD:
                clients[payloads], offsets[payloads] = slot, row * row_bytes + header
                sizes[payloads] = lengths[row] - header - _MAC
                arrivals[payloads] = min(received[row], now) if received[row] != 0 else now
                payloads += 1
    tally[COUNTS], tally[COUNTS + 2] = payloads, closing


@kernel(
    f"({HOST_TYPE}, {DATAGRAMS_TYPE}, Tuple((i8, i8, i8, i8)), i8, u8[::1], {DATAGRAMS_TYPE}, i8, u1[::1])",
    counted=False,
)
def begin_slot(
    host: HostColumns,
    datagrams: DatagramArrays,
    where: tuple[int, int, int, int],
    deadline: int,
    sequences: U64,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
) -> int:
    """Make a pending slot of a request and queue a challenge; returns the rows of `outgoing` then used.

    Args:
        host: Columns, as listed at the top of the file.
        datagrams: Where the request stands, its private token decrypted.
        where: Its row; the pending slot; where in the row the token's keys begin; 1 to map the address to the slot, 0
            where something maps it already.
        deadline: Until when the response must have come [ns].
        sequences: Of the next challenge token, and of the next packet to somebody without a slot; each goes on by one.
            In an array, because an integer of 2⁶³ or more costs the call 400 µs.
        outgoing: Datagrams to be sent; where it is full there is no challenge, and the client repeats its request.
    """
    row, slot, keys_at, mapped = where
    data, words, keys = datagrams[0], host[_WORDS], host[_KEYS]
    for word in range(3):
        words[slot, word] = datagrams[2][row, word]
    for index in range(keys.shape[1]):
        keys[slot, index] = data[row, keys_at + index]
    host[_FLAGS][slot, 0] = PENDING
    host[_TIMES][slot, TIMEOUT] = deadline
    if mapped:
        insert_slot(host[_TABLE], host[_SECRET], words, slot)
    if used == outgoing[0].shape[0]:
        return used
    challenge, sequence = sequences[0], sequences[1]
    sequences[0], sequences[1] = challenge + _ONE, sequence + _ONE
    for index in range(8):
        scratch[CHALLENGE_AT + index] = np.uint8(challenge >> np.uint64(8 * index) & _BYTE)
        scratch[CHALLENGE_AT + 8 + index] = data[row, _PRIVATE_AT + index]
    user_at = keys_at + keys.shape[1]
    for index in range(_USER_DATA):
        scratch[CHALLENGE_AT + 16 + index] = data[row, user_at + index]
    for index in range(16 + _USER_DATA, 8 + _CHALLENGE_PLAIN):
        scratch[CHALLENGE_AT + index] = 0
    set_nonce(scratch, np.uint8(0), challenge)
    base = int(np.int64(scratch.ctypes.data))
    body = base + CHALLENGE_AT
    aead_encrypt(body + 8, 0, body + 8, _CHALLENGE_PLAIN, 0, 0, 0, base + NONCE_AT, base + CHALLENGE_KEY_AT)
    key = int(np.int64(keys.ctypes.data)) + slot * keys.shape[1] + SEND_KEY_AT
    outgoing[1][used] = seal_row(outgoing[0], used, _CHALLENGE, sequence, body, _CHALLENGE_BODY, key, scratch)
    for word in range(3):
        outgoing[2][used, word] = words[slot, word]
    return used + 1


@kernel(f"({HOST_TYPE}, i8, i8, u8, i8, i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1])", counted=False)
def connect_slot(
    host: HostColumns,
    pending: int,
    client: int,
    sequence: np.uint64,
    timeout: int,
    clients_max: int,
    now: int,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
) -> int:
    """Move a pending slot that the table maps to a client's slot, and queue a keep-alive that tells its index.

    Args:
        host: Columns, as listed at the top of the file.
        pending: From where; its columns are left for the caller to clear.
        client: To where.
        sequence: First of this connection towards the client.
        timeout: Of this connection [ns], 0 for none.
        clients_max: Number of client slots.
        now: Monotonic time [ns].
        outgoing: Datagrams to be sent; where it is full there is no keep-alive.

    Returns:
        The rows of `outgoing` then used.
    """
    table, words, keys, times = host[_TABLE], host[_WORDS], host[_KEYS], host[_TIMES]
    mask = table.shape[0] - 1
    at = home_of(host[_SECRET], mask, words, pending)
    while table[at] != 0 and table[at] != pending + 1:
        at = (at + 1) & mask
    table[at] = client + 1
    for word in range(_WORD_COUNT):
        words[client, word] = words[pending, word] if word < 3 else _ZERO
    words[client, SEND_SEQUENCE] = sequence
    for index in range(keys.shape[1]):
        keys[client, index] = keys[pending, index]
    host[_FLAGS][client, 0], host[_FLAGS][client, 1] = CONNECTED, 0
    times[client, LAST_RECEIVE], times[client, LAST_SEND], times[client, TIMEOUT] = now, now, timeout
    if used == outgoing[0].shape[0]:
        return used
    emit_keep_alive(words, keys, times, client, outgoing, used, client, clients_max, now, scratch)
    return used + 1


@kernel(
    f"({HOST_TYPE}, u1[::1], i4[::1], i8[::1], i4[::1], i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1])", counted=False
)
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
    tally: I64,
) -> int:
    """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `clients[i]`; returns the rows then used.

    A client that has not been heard since it was connected gets a keep-alive before each payload (STANDARD.md,
    "Connected Clients"). Anything out of range is dropped and counted.
    """
    flags, words, keys, times = host[_FLAGS], host[_WORDS], host[_KEYS], host[_TIMES]
    base, capacity = int(np.int64(buffer.ctypes.data)), outgoing[0].shape[0]
    for index in range(clients.shape[0]):
        slot, offset, size = int(clients[index]), int(offsets[index]), int(lengths[index])
        if slot < 0 or slot >= clients_max or flags[slot, 0] != CONNECTED:
            tally[_SEND_NOT_CONNECTED] += 1
            continue
        if size < 1 or size > _PAYLOAD_MAX or offset < 0 or offset > buffer.shape[0] - size:
            tally[_SEND_WRONG_SIZE] += 1
            continue
        needed = 1 if flags[slot, 1] else 2
        if used + needed > capacity:
            tally[_OUTGOING_FULL] += 1
            continue
        if needed == 2:
            emit_keep_alive(words, keys, times, slot, outgoing, used, slot, clients_max, now, scratch)
        emit(words, keys, times, slot, outgoing, used + needed - 1, _PAYLOAD, base + offset, size, now, scratch)
        used += needed
    return used


@kernel(f"({HOST_TYPE}, i8, i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1], i4[::1])", counted=False)
def sweep(
    host: HostColumns,
    clients_max: int,
    now: int,
    interval: int,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
    tally: I64,
    expired: I32,
) -> int:
    """Send due keep-alives and list slots whose time is up; returns the rows of `outgoing` then used.

    Args:
        interval: Silence towards a client after which it gets a keep-alive [ns].
        expired: Output: slots, clients and pending ones; the first count of the tally says how many.
    """
    flags, words, keys, times = host[_FLAGS], host[_WORDS], host[_KEYS], host[_TIMES]
    over = 0
    for slot in range(flags.shape[0]):
        state, limit = flags[slot, 0], times[slot, TIMEOUT]
        silent = limit > 0 and times[slot, LAST_RECEIVE] + limit <= now
        if (state == PENDING and limit <= now) or (state == CONNECTED and silent):
            expired[over] = slot
            over += 1
        elif state == CONNECTED and times[slot, LAST_SEND] + interval <= now:
            if used == outgoing[0].shape[0]:
                tally[_OUTGOING_FULL] += 1
                continue
            emit_keep_alive(words, keys, times, slot, outgoing, used, slot, clients_max, now, scratch)
            used += 1
    tally[COUNTS] = over
    return used


@kernel(f"(u8[:,::1], u1[:,::1], i8[:,::1], i8, i8, i8, {DATAGRAMS_TYPE}, i8, u1[::1], i8[::1])", counted=False)
def close_slot(
    words: U64,
    keys: U8,
    times: I64,
    slot: int,
    copies: int,
    now: int,
    outgoing: DatagramArrays,
    used: int,
    scratch: U8,
    tally: I64,
) -> int:
    """Seal redundant disconnect packets of a connection; returns the rows of `outgoing` then used."""
    body = int(np.int64(scratch.ctypes.data))
    for _ in range(copies):
        if used == outgoing[0].shape[0]:
            tally[_OUTGOING_FULL] += 1
            break
        emit(words, keys, times, slot, outgoing, used, _DISCONNECT, body, 0, now, scratch)
        used += 1
    return used
