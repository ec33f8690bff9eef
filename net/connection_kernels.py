"""The client side of netcode 1.02 for a group of clients at once: open, decide, seal.

Columns of the group, one tuple (`GROUP_TYPE`), in this order; n clients.

    state          i1[n]            of the standard, -6 to 3 (`net.connection.ClientState`)
    verdict        i1[n]            state to end in, set by a denied or disconnect packet; NO_VERDICT for none
    server         i4[n, 2]         index of the server being tried, number of servers in the token
    servers        u8[n, 32, 3]     their addresses (`net.address` words)
    send_key       u1[n, 32]        client to server
    receive_key    u1[n, 32]        server to client
    send_sequence  u8[n]            of the next packet
    newest         u8[n]            replay window (`net.replay_kernels`)
    window         u8[n, 4]
    request        u1[n, 1078]      the connection request of the token, ready to send
    challenge      u1[n, 308]       body of the last challenge, which is the body of the response
    place          i4[n, 2]         client index and number of slots, as the server said
    times          i8[n, 5]         ns: start, last send, last receive, time-out (0: none), life of the token

Datagrams carry the index of their client in `peer`; a batch is the tuple (data, length, address, peer).
"""

from typing import Final

import numpy as np

from net.packets import CHALLENGE_BODY_BYTES, PAYLOAD_BYTES_MAX, REQUEST_BYTES, Drop, Kind
from net.packets_kernels import (
    body_size_allowed,
    copy_bytes,
    open_row,
    parse_header,
    read_integer,
    seal_row,
    write_integer,
)
from net.replay_kernels import replay_mark, replay_seen
from net.tokens import MAC_BYTES
from sim.arrays import I8, I32, I64, U8, U64
from sim.jit import kernel

__all__ = [
    "GROUP_TYPE",
    "NO_VERDICT",
    "group_advance",
    "group_close",
    "group_receive",
    "group_send",
]

GroupColumns = tuple[I8, I8, I32, U64, U8, U8, U64, U64, U64, U8, U8, I32, I64]
GROUP_TYPE = (
    "Tuple((i1[::1], i1[::1], i4[:,::1], u8[:,:,::1], u1[:,::1], u1[:,::1], u8[::1], u8[::1], u8[:,::1], "
    "u1[:,::1], u1[:,::1], i4[:,::1], i8[:,::1]))"
)
PeerArrays = tuple[U8, I32, U64, I32]
PEERS_TYPE = "Tuple((u1[:,::1], i4[::1], u8[:,::1], i4[::1]))"
# payload client, offset, length; drops by reason; counts (payloads)
GroupOutputs = tuple[I32, I64, I32, I64, I64]
OUTPUTS_TYPE = "Tuple((i4[::1], i8[::1], i4[::1], i8[::1], i8[::1]))"

# Final, so that the type of group[_STATE] is known.
_STATE: Final = 0
_VERDICT: Final = 1
_SERVER: Final = 2
_SERVERS: Final = 3
_SEND_KEY: Final = 4
_RECEIVE_KEY: Final = 5
_SEND_SEQUENCE: Final = 6
_NEWEST: Final = 7
_WINDOW: Final = 8
_REQUEST: Final = 9
_CHALLENGE: Final = 10
_PLACE: Final = 11
_TIMES: Final = 12
_START, _LAST_SEND, _LAST_RECEIVE, _TIMEOUT, _LIFE = 0, 1, 2, 3, 4

NO_VERDICT = 1
_TOKEN_EXPIRED, _TIMED_OUT, _RESPONSE_TIMED_OUT, _REQUEST_TIMED_OUT, _DENIED_STATE = -6, -4, -3, -2, -1
_DISCONNECTED, _REQUESTING, _RESPONDING, _CONNECTED = 0, 1, 2, 3

_DENIED, _CHALLENGED, _RESPONSE = int(Kind.DENIED), int(Kind.CHALLENGE), int(Kind.RESPONSE)
_KEEP_ALIVE, _PAYLOAD, _DISCONNECT = int(Kind.KEEP_ALIVE), int(Kind.PAYLOAD), int(Kind.DISCONNECT)
_ALLOWED = 1 << _DENIED | 1 << _CHALLENGED | 1 << _KEEP_ALIVE | 1 << _PAYLOAD | 1 << _DISCONNECT
_MAC, _PAYLOAD_MAX, _REQUEST_BYTES, _BODY = MAC_BYTES, PAYLOAD_BYTES_MAX, REQUEST_BYTES, CHALLENGE_BODY_BYTES
_KEEP_ALIVE_AT = 48  # in scratch: the body of a keep-alive
_DISCONNECTS = 10
_LONG_AGO = 1_000_000_000

_UNKNOWN_ADDRESS, _WRONG_STATE = int(Drop.UNKNOWN_ADDRESS), int(Drop.WRONG_STATE)
_REPLAYED, _NOT_AUTHENTIC, _WRONG_SIZE = int(Drop.REPLAYED), int(Drop.NOT_AUTHENTIC), int(Drop.WRONG_SIZE)
_OUTGOING_FULL = int(Drop.OUTGOING_FULL)
_SEND_NOT_CONNECTED, _SEND_WRONG_SIZE = int(Drop.SEND_NOT_CONNECTED), int(Drop.SEND_WRONG_SIZE)
_ONE = np.uint64(1)


@kernel
def _from_server(group: GroupColumns, address: U64, row: int, client: int) -> bool:
    """Whether a datagram came from the server that its client talks to."""
    server = group[_SERVERS][client, group[_SERVER][client, 0]]
    return bool(address[row, 0] == server[0] and address[row, 1] == server[1] and address[row, 2] == server[2])


@kernel
def _take(
    group: GroupColumns,
    outputs: GroupOutputs,
    data: U8,
    row: int,
    client: int,
    kind: int,
    header: int,
    size: int,
    now: int,
) -> int:
    """Act on an authentic packet by the client state machine of the standard; a drop reason, or -1."""
    state = group[_STATE]
    if kind == _DENIED and state[client] in (_REQUESTING, _RESPONDING):
        group[_VERDICT][client] = _DENIED_STATE
    elif kind == _CHALLENGED and state[client] == _REQUESTING:
        copy_bytes(group[_CHALLENGE][client], 0, data[row], header, _BODY)
        state[client] = _RESPONDING
        group[_TIMES][client, _LAST_SEND] = now - _LONG_AGO  # the response is due at once
    elif kind == _KEEP_ALIVE and state[client] == _RESPONDING:
        group[_PLACE][client, 0] = np.int32(read_integer(data[row], header, 4))
        group[_PLACE][client, 1] = np.int32(read_integer(data[row], header + 4, 4))
        state[client] = _CONNECTED
    elif state[client] == _CONNECTED and kind >= _KEEP_ALIVE:
        if kind == _PAYLOAD:
            at = outputs[4][0]
            outputs[0][at], outputs[1][at], outputs[2][at] = client, row * data.shape[1] + header, size
            outputs[4][0] += 1
        elif kind == _DISCONNECT:
            group[_VERDICT][client] = _DISCONNECTED
    else:
        return _WRONG_STATE
    group[_TIMES][client, _LAST_RECEIVE] = now
    return -1


@kernel
def _receive_one(
    group: GroupColumns, datagrams: PeerArrays, outputs: GroupOutputs, scratch: U8, row: int, now: int
) -> int:
    """Take one datagram; a drop reason, or -1."""
    data, lengths, address, peer = datagrams
    length, client = int(lengths[row]), int(peer[row])
    if client < 0 or client >= group[_STATE].shape[0]:
        return _UNKNOWN_ADDRESS
    reason, kind, header, sequence = parse_header(data[row], length, _ALLOWED)
    if reason >= 0:
        return reason
    if group[_STATE][client] <= _DISCONNECTED or group[_VERDICT][client] != NO_VERDICT:
        return _WRONG_STATE
    if not _from_server(group, address, row, client):
        return _UNKNOWN_ADDRESS
    if kind >= _KEEP_ALIVE and replay_seen(group[_NEWEST], group[_WINDOW], client, sequence):
        return _REPLAYED
    key = int(np.int64(group[_RECEIVE_KEY].ctypes.data)) + 32 * client
    if not open_row(data, row, length, header, sequence, key, scratch):
        return _NOT_AUTHENTIC
    if kind >= _KEEP_ALIVE:
        replay_mark(group[_NEWEST], group[_WINDOW], client, sequence)
    size = length - header - _MAC
    if not body_size_allowed(kind, size):
        return _WRONG_SIZE
    return _take(group, outputs, data, row, client, kind, header, size, now)


@kernel(f"({GROUP_TYPE}, {PEERS_TYPE}, {OUTPUTS_TYPE}, u1[::1], i8, i8)")
def group_receive(
    group: GroupColumns, datagrams: PeerArrays, outputs: GroupOutputs, scratch: U8, count: int, now: int
) -> None:
    """Open the first `count` datagrams in place, in order; payloads are listed, all else moves the state machines.

    Args:
        group: Columns, as listed at the top of the file.
        datagrams: What arrived; a negative length marks a row that is already dropped.
        scratch: Of `net.packets_kernels.new_scratch`.
        now: Monotonic time [ns].
        outputs: Payloads, drops by reason, and the count of payloads.
    """
    outputs[4][0] = 0
    for row in range(count):
        if datagrams[1][row] < 0:
            continue
        reason = _receive_one(group, datagrams, outputs, scratch, row, now)
        if reason >= 0:
            outputs[3][reason] += 1


@kernel
def _address_row(group: GroupColumns, outgoing: PeerArrays, at: int, client: int, now: int) -> None:
    """Address a datagram to the client's server, and note the time."""
    server = group[_SERVERS][client, group[_SERVER][client, 0]]
    for word in range(3):
        outgoing[2][at, word] = server[word]
    outgoing[3][at] = client
    group[_TIMES][client, _LAST_SEND] = now


@kernel
def _emit(
    group: GroupColumns,
    outgoing: PeerArrays,
    at: int,
    client: int,
    kind: int,
    body: int,
    size: int,
    now: int,
    scratch: U8,
) -> None:
    """Seal one packet of a client into row `at`, which must exist."""
    key = int(np.int64(group[_SEND_KEY].ctypes.data)) + 32 * client
    sequence = group[_SEND_SEQUENCE][client]
    outgoing[1][at] = seal_row(outgoing[0], at, kind, sequence, body, size, key, scratch)
    group[_SEND_SEQUENCE][client] = sequence + _ONE
    _address_row(group, outgoing, at, client, now)


@kernel
def _emit_due(group: GroupColumns, outgoing: PeerArrays, at: int, client: int, now: int, scratch: U8) -> None:
    """Write what a client in its state repeats: request, response or keep-alive."""
    state = group[_STATE][client]
    if state == _REQUESTING:
        copy_bytes(outgoing[0][at], 0, group[_REQUEST][client], 0, _REQUEST_BYTES)
        outgoing[1][at] = _REQUEST_BYTES
        _address_row(group, outgoing, at, client, now)
    elif state == _RESPONDING:
        body = int(np.int64(group[_CHALLENGE].ctypes.data)) + client * _BODY
        _emit(group, outgoing, at, client, _RESPONSE, body, _BODY, now, scratch)
    else:
        write_integer(scratch, _KEEP_ALIVE_AT, 8, np.uint64(0))
        body = int(np.int64(scratch.ctypes.data)) + _KEEP_ALIVE_AT
        _emit(group, outgoing, at, client, _KEEP_ALIVE, body, 8, now, scratch)


@kernel
def _fail(group: GroupColumns, client: int, state: int, now: int, interval: int) -> None:
    """Try the next server of the token, or end in `state` where there is none."""
    server, times = group[_SERVER], group[_TIMES]
    group[_VERDICT][client] = NO_VERDICT
    if server[client, 0] + 1 >= server[client, 1]:
        group[_STATE][client] = state
        return
    server[client, 0] += 1
    group[_STATE][client] = _REQUESTING
    group[_NEWEST][client] = np.uint64(0)
    for word in range(4):
        group[_WINDOW][client, word] = np.uint64(0)
    times[client, _LAST_SEND] = now - interval
    times[client, _LAST_RECEIVE] = now


@kernel
def _judge(group: GroupColumns, client: int, now: int, interval: int) -> None:
    """End or move on what was denied, disconnected, expired or silent for too long."""
    state, times = int(group[_STATE][client]), group[_TIMES]
    verdict = int(group[_VERDICT][client])
    silent = times[client, _TIMEOUT] > 0 and times[client, _LAST_RECEIVE] + times[client, _TIMEOUT] < now
    if state == _CONNECTED:
        if verdict != NO_VERDICT or silent:
            group[_STATE][client] = verdict if verdict != NO_VERDICT else _TIMED_OUT
            group[_VERDICT][client] = NO_VERDICT
    elif now - times[client, _START] >= times[client, _LIFE]:
        group[_STATE][client] = _TOKEN_EXPIRED
        group[_VERDICT][client] = NO_VERDICT
    elif verdict != NO_VERDICT:
        _fail(group, client, verdict, now, interval)
    elif silent:
        _fail(group, client, _REQUEST_TIMED_OUT if state == _REQUESTING else _RESPONSE_TIMED_OUT, now, interval)


@kernel(f"({GROUP_TYPE}, i8, i8, {PEERS_TYPE}, i8, u1[::1], i8[::1])")
def group_advance(
    group: GroupColumns, now: int, interval: int, outgoing: PeerArrays, used: int, scratch: U8, drops: I64
) -> int:
    """Judge every client, then write what is due; returns the rows of `outgoing` then used.

    Args:
        now: Monotonic time [ns].
        interval: Between repeats of requests and responses, and silence before a keep-alive [ns].
    """
    for client in range(group[_STATE].shape[0]):
        if group[_STATE][client] <= _DISCONNECTED:
            continue
        _judge(group, client, now, interval)
        if group[_STATE][client] <= _DISCONNECTED or group[_TIMES][client, _LAST_SEND] + interval > now:
            continue
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            continue
        _emit_due(group, outgoing, used, client, now, scratch)
        used += 1
    return used


@kernel(f"({GROUP_TYPE}, u1[::1], i4[::1], i8[::1], i4[::1], i8, {PEERS_TYPE}, i8, u1[::1], i8[::1])")
def group_send(
    group: GroupColumns,
    buffer: U8,
    clients: I32,
    offsets: I64,
    lengths: I32,
    now: int,
    outgoing: PeerArrays,
    used: int,
    scratch: U8,
    drops: I64,
) -> int:
    """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, from `clients[i]`; returns the rows then used.

    Anything out of range is dropped and counted.
    """
    for index in range(clients.shape[0]):
        client, offset, size = int(clients[index]), int(offsets[index]), int(lengths[index])
        if client < 0 or client >= group[_STATE].shape[0] or group[_STATE][client] != _CONNECTED:
            drops[_SEND_NOT_CONNECTED] += 1
            continue
        if size < 1 or size > _PAYLOAD_MAX or offset < 0 or offset > buffer.shape[0] - size:
            drops[_SEND_WRONG_SIZE] += 1
            continue
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            continue
        body = int(np.int64(buffer.ctypes.data)) + offset
        _emit(group, outgoing, used, client, _PAYLOAD, body, size, now, scratch)
        used += 1
    return used


@kernel(f"({GROUP_TYPE}, i8, i8, {PEERS_TYPE}, i8, u1[::1], i8[::1])")
def group_close(
    group: GroupColumns, client: int, now: int, outgoing: PeerArrays, used: int, scratch: U8, drops: I64
) -> int:
    """Seal ten redundant disconnect packets of a client and end it; returns the rows of `outgoing` then used."""
    body = int(np.int64(scratch.ctypes.data))
    for _ in range(_DISCONNECTS):
        if used == outgoing[0].shape[0]:
            drops[_OUTGOING_FULL] += 1
            break
        _emit(group, outgoing, used, client, _DISCONNECT, body, 0, now, scratch)
        used += 1
    group[_STATE][client] = _DISCONNECTED
    group[_VERDICT][client] = NO_VERDICT
    return used
