"""The client side of netcode 1.02 for a group of clients at once: open, decide, seal.

Columns of the group, one tuple (`GROUP_TYPE`), in this order; n clients; words, keys and times as in
`net.packets_kernels`, where the address is that of the server now talked to.

    status     i4[n, 6]         state (`net.connection.ClientState`) · verdict: state to end in, set by a denied or
                                disconnect packet, NO_VERDICT for none · index of the server being tried · number of
                                servers in the token · client index and number of slots, as the server said
    words      u8[n, 9]
    keys       u1[n, 64]
    times      i8[n, 5]         and two more: start of the attempt, life of the token [ns]
    servers    u8[n, 32, 3]     the token's server addresses (`net.address` words)
    handshake  u1[n, 1386]      the connection request, ready to send; from 1,078 the body of the last challenge,
                                which is the body of the response

Datagrams carry the index of their client in `peer`.
"""

from typing import Final

import numpy as np

from net.packets import CHALLENGE_BODY_BYTES, PAYLOAD_BYTES_MAX, REQUEST_BYTES, Drop, Kind
from net.packets_kernels import (
    DATAGRAMS_TYPE,
    LAST_RECEIVE,
    LAST_SEND,
    TIMEOUT,
    DatagramArrays,
    address_matches,
    emit,
    emit_keep_alive,
    open_from,
    parse_header,
    read_integer,
)
from net.replay_kernels import replay_reset
from net.tokens import MAC_BYTES
from sim.arrays import I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "CLIENT_INDEX",
    "GROUP_TYPE",
    "HANDSHAKE_BYTES",
    "LIFE",
    "NO_VERDICT",
    "PAYLOADS_TYPE",
    "SERVER_COUNT",
    "SERVER_INDEX",
    "SLOTS",
    "START",
    "STATE",
    "STATUS_COLUMNS",
    "TIMES_COLUMNS",
    "VERDICT",
    "GroupColumns",
    "PayloadArrays",
    "group_advance",
    "group_receive",
    "group_send",
]

GroupColumns = tuple[I32, U64, U8, I64, U64, U8]
PayloadArrays = tuple[I32, I64, I32, I64]  # of `net.datagrams.Payloads`: client, offset, length, received_ns
PAYLOADS_TYPE = "Tuple((i4[::1], i8[::1], i4[::1], i8[::1]))"
GROUP_TYPE = "Tuple((i4[:,::1], u8[:,::1], u1[:,::1], i8[:,::1], u8[:,:,::1], u1[:,::1]))"

# Final, so that the type of group[_STATUS] is known.
_STATUS: Final = 0
_WORDS: Final = 1
_KEYS: Final = 2
_TIMES: Final = 3
_SERVERS: Final = 4
_HANDSHAKE: Final = 5

STATE, VERDICT, SERVER_INDEX, SERVER_COUNT, CLIENT_INDEX, SLOTS = 0, 1, 2, 3, 4, 5
STATUS_COLUMNS, TIMES_COLUMNS, START, LIFE = 6, 5, 3, 4
HANDSHAKE_BYTES = REQUEST_BYTES + CHALLENGE_BODY_BYTES
NO_VERDICT = 1

_TOKEN_EXPIRED, _TIMED_OUT, _RESPONSE_TIMED_OUT, _REQUEST_TIMED_OUT, _DENIED_STATE = -6, -4, -3, -2, -1
_DISCONNECTED, _REQUESTING, _RESPONDING, _CONNECTED = 0, 1, 2, 3

_DENIED, _CHALLENGE, _RESPONSE = int(Kind.DENIED), int(Kind.CHALLENGE), int(Kind.RESPONSE)
_KEEP_ALIVE, _PAYLOAD, _DISCONNECT = int(Kind.KEEP_ALIVE), int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_ALLOWED = 1 << _DENIED | 1 << _CHALLENGE | 1 << _KEEP_ALIVE | 1 << _PAYLOAD | 1 << _DISCONNECT
_MAC, _PAYLOAD_MAX, _REQUEST, _BODY = MAC_BYTES, PAYLOAD_BYTES_MAX, REQUEST_BYTES, CHALLENGE_BODY_BYTES
_LONG_AGO = 1_000_000_000

_UNKNOWN_ADDRESS, _WRONG_STATE, _OUTGOING_FULL = (
    int(Drop.UNKNOWN_ADDRESS),
    int(Drop.WRONG_STATE),
    int(Drop.OUTGOING_FULL),
)
_SEND_NOT_CONNECTED, _SEND_WRONG_SIZE = int(Drop.SEND_NOT_CONNECTED), int(Drop.SEND_WRONG_SIZE)


@kernel(counted=False)
def _take(group: GroupColumns, data: U8, row: int, client: int, kind: int, header: int, now: int) -> bool:
    """Act on an authentic packet by the client state machine of the standard; False where it does not fit the state."""
    status = group[_STATUS]
    state = status[client, STATE]
    if kind == _DENIED and state in (_REQUESTING, _RESPONDING):
        status[client, VERDICT] = _DENIED_STATE
    elif kind == _CHALLENGE and state == _REQUESTING:
        for index in range(_BODY):
            group[_HANDSHAKE][client, _REQUEST + index] = data[row, header + index]
        status[client, STATE] = _RESPONDING
        group[_TIMES][client, LAST_SEND] = now - _LONG_AGO  # the response is due at once
    elif kind == _KEEP_ALIVE and state == _RESPONDING:
        status[client, CLIENT_INDEX] = np.int32(read_integer(data, row, header, 4))
        status[client, SLOTS] = np.int32(read_integer(data, row, header + 4, 4))
        status[client, STATE] = _CONNECTED
    elif kind == _DISCONNECT and state == _CONNECTED:
        status[client, VERDICT] = _DISCONNECTED
    elif kind < _KEEP_ALIVE or state != _CONNECTED:
        return False
    group[_TIMES][client, LAST_RECEIVE] = now
    return True


@kernel(f"({GROUP_TYPE}, {DATAGRAMS_TYPE}, i4[::1], i8[::1], {PAYLOADS_TYPE}, i8[::1], u1[::1], i8, i8)", counted=False)
def group_receive(
    group: GroupColumns,
    datagrams: DatagramArrays,
    peer: I32,
    received: I64,
    places: PayloadArrays,
    drops: I64,
    scratch: U8,
    count: int,
    now: int,
) -> int:
    """Open the first `count` datagrams in place, in order; payloads are listed, all else moves the state machines.

    Args:
        group: Columns, as listed at the top of the file.
        datagrams: What arrived; a negative length marks a row that is already dropped.
        peer: Which client each is for.
        received: When each arrived [ns]; 0: now.
        places: Output: client, offset, length and arrival of each payload.
        drops: Counts by reason, added to.
        scratch: Of `net.packets_kernels.new_scratch`.
        now: Monotonic time [ns].

    Returns:
        The number of payloads.
    """
    data, lengths, address = datagrams
    clients, offsets, sizes, arrivals = places
    status, payloads = group[_STATUS], 0
    for row in range(count):
        length, client = int(lengths[row]), int(peer[row])
        if length < 0:
            continue
        if client < 0 or client >= status.shape[0]:
            drops[_UNKNOWN_ADDRESS] += 1
            continue
        reason, kind, header, sequence = parse_header(data, row, length, _ALLOWED)
        if reason < 0 and (status[client, STATE] <= _DISCONNECTED or status[client, VERDICT] != NO_VERDICT):
            reason = _WRONG_STATE
        if reason < 0 and not address_matches(group[_WORDS], client, address, row):
            reason = _UNKNOWN_ADDRESS
        if reason < 0:
            reason = open_from(group[_WORDS], group[_KEYS], client, data, row, length, kind, header, sequence, scratch)
        if reason < 0 and not _take(group, data, row, client, kind, header, now):
            reason = _WRONG_STATE
        if reason >= 0:
            drops[reason] += 1
        elif kind == _PAYLOAD:
            clients[payloads], offsets[payloads] = client, row * data.shape[1] + header
            sizes[payloads] = length - header - _MAC
            arrivals[payloads] = min(received[row], now) if received[row] != 0 else now
            payloads += 1
    return payloads


@kernel(counted=False)
def _emit_due(group: GroupColumns, outgoing: DatagramArrays, at: int, client: int, now: int, scratch: U8) -> None:
    """Write what a client in its state repeats: request, response or keep-alive."""
    status, words, keys, times, _, handshake = group
    state = status[client, STATE]
    if state == _REQUESTING:
        for index in range(_REQUEST):
            outgoing[0][at, index] = handshake[client, index]
        outgoing[1][at] = _REQUEST
        for word in range(3):
            outgoing[2][at, word] = words[client, word]
        times[client, LAST_SEND] = now
    elif state == _RESPONDING:
        body = int(np.int64(handshake.ctypes.data)) + client * handshake.shape[1] + _REQUEST
        emit(words, keys, times, client, outgoing, at, _RESPONSE, body, _BODY, now, scratch)
    else:
        emit_keep_alive(words, keys, times, client, outgoing, at, 0, 0, now, scratch)


@kernel(counted=False)
def _fail(group: GroupColumns, client: int, state: int, now: int) -> None:
    """Try the next server of the token, or end in `state` where there is none."""
    status, times = group[_STATUS], group[_TIMES]
    following = status[client, SERVER_INDEX] + 1
    if following >= status[client, SERVER_COUNT]:
        status[client, STATE] = state
        return
    status[client, SERVER_INDEX] = following
    status[client, STATE] = _REQUESTING
    replay_reset(group[_WORDS], client)
    for word in range(3):
        group[_WORDS][client, word] = group[_SERVERS][client, following, word]
    times[client, LAST_SEND] = now - _LONG_AGO
    times[client, LAST_RECEIVE] = now


@kernel(counted=False)
def _judge(group: GroupColumns, client: int, now: int) -> None:
    """End or move on what was denied, disconnected, expired or silent for too long."""
    status, times = group[_STATUS], group[_TIMES]
    state, verdict = int(status[client, STATE]), int(status[client, VERDICT])
    silent = times[client, TIMEOUT] > 0 and times[client, LAST_RECEIVE] + times[client, TIMEOUT] < now
    status[client, VERDICT] = NO_VERDICT
    if state == _CONNECTED:
        if verdict != NO_VERDICT:
            status[client, STATE] = verdict
        elif silent:
            status[client, STATE] = _TIMED_OUT
    elif now - times[client, START] >= times[client, LIFE]:
        status[client, STATE] = _TOKEN_EXPIRED
    elif verdict != NO_VERDICT:
        _fail(group, client, verdict, now)
    elif silent:
        _fail(group, client, _REQUEST_TIMED_OUT if state == _REQUESTING else _RESPONSE_TIMED_OUT, now)


@kernel(f"({GROUP_TYPE}, i8, i8, {DATAGRAMS_TYPE}, i4[::1], i8, u1[::1], i8[::1])", counted=False)
def group_advance(
    group: GroupColumns,
    now: int,
    interval: int,
    outgoing: DatagramArrays,
    peer: I32,
    used: int,
    scratch: U8,
    drops: I64,
) -> int:
    """Judge every client, then write what is due; returns the rows of `outgoing` then used.

    Args:
        now: Monotonic time [ns].
        interval: Between repeats of requests and responses, and silence before a keep-alive [ns].
        peer: Of `outgoing`.
    """
    status, times = group[_STATUS], group[_TIMES]
    for client in range(status.shape[0]):
        if status[client, STATE] <= _DISCONNECTED:
            continue
        _judge(group, client, now)
        if status[client, STATE] <= _DISCONNECTED or times[client, LAST_SEND] + interval > now:
            continue
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            continue
        _emit_due(group, outgoing, used, client, now, scratch)
        peer[used] = client
        used += 1
    return used


@kernel(
    f"({GROUP_TYPE}, u1[::1], i4[::1], i8[::1], i4[::1], i8, {DATAGRAMS_TYPE}, i4[::1], i8, u1[::1], i8[::1])",
    counted=False,
)
def group_send(
    group: GroupColumns,
    buffer: U8,
    clients: I32,
    offsets: I64,
    lengths: I32,
    now: int,
    outgoing: DatagramArrays,
    peer: I32,
    used: int,
    scratch: U8,
    drops: I64,
) -> int:
    """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, from `clients[i]`; returns the rows then used.

    Anything out of range is dropped and counted.
    """
    status, words, keys, times, _, _ = group
    base = int(np.int64(buffer.ctypes.data))
    for index in range(clients.shape[0]):
        client, offset, size = int(clients[index]), int(offsets[index]), int(lengths[index])
        if client < 0 or client >= status.shape[0] or status[client, STATE] != _CONNECTED:
            drops[_SEND_NOT_CONNECTED] += 1
            continue
        if size < 1 or size > _PAYLOAD_MAX or offset < 0 or offset > buffer.shape[0] - size:
            drops[_SEND_WRONG_SIZE] += 1
            continue
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            continue
        emit(words, keys, times, client, outgoing, used, _PAYLOAD, base + offset, size, now, scratch)
        peer[used] = client
        used += 1
    return used
