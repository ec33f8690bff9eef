"""A client group packet by packet in Python, as `net.plain` has it for a host.

Every function has the name, arguments and results of the one in `net.connection_kernels`, where its arguments are
described.
"""

import numpy as np

from net.connection_kernels import (
    CLIENT_INDEX,
    LIFE,
    NO_VERDICT,
    SERVER_COUNT,
    SERVER_INDEX,
    SLOTS,
    START,
    STATE,
    VERDICT,
    GroupColumns,
    PayloadArrays,
)
from net.packets import (
    CHALLENGE_BODY_BYTES,
    FROM_SERVER,
    PAYLOAD_BYTES_MAX,
    REQUEST_BYTES,
    Drop,
    Kind,
    open_packet,
    read_header,
)
from net.packets_kernels import LAST_RECEIVE, LAST_SEND, TIMEOUT, DatagramArrays
from net.plain_packets import Window, emit, keep_alive_body, protocol_id_of, store
from net.replay_kernels import NEWEST_AT, WINDOW_AT
from net.tokens import KEY_BYTES
from sim.arrays import I32, I64, U8

__all__ = ["group_advance", "group_receive", "group_send"]

_LONG_AGO = 1_000_000_000
_TOKEN_EXPIRED, _TIMED_OUT, _RESPONSE_TIMED_OUT, _REQUEST_TIMED_OUT, _DENIED = -6, -4, -3, -2, -1
_DISCONNECTED, _REQUESTING, _RESPONDING, _IN = 0, 1, 2, 3


def _take(group: GroupColumns, client: int, kind: Kind, body: bytes, now: int) -> bool:
    """Act on an authentic packet by the client state machine of the standard; False where it does not fit the state."""
    status, _, _, times, _, handshake = group
    state = int(status[client, STATE])
    if kind == Kind.DENIED and state in (_REQUESTING, _RESPONDING):
        status[client, VERDICT] = _DENIED
    elif kind == Kind.CHALLENGE and state == _REQUESTING:
        handshake[client, REQUEST_BYTES:] = np.frombuffer(body, dtype=np.uint8)
        status[client, STATE] = _RESPONDING
        times[client, LAST_SEND] = now - _LONG_AGO
    elif kind == Kind.KEEP_ALIVE and state == _RESPONDING:
        status[client, CLIENT_INDEX] = int.from_bytes(body[:4], "little", signed=True)
        status[client, SLOTS] = int.from_bytes(body[4:], "little", signed=True)
        status[client, STATE] = _IN
    elif kind == Kind.DISCONNECT and state == _IN:
        status[client, VERDICT] = _DISCONNECTED
    elif kind < Kind.KEEP_ALIVE or state != _IN:
        return False
    times[client, LAST_RECEIVE] = now
    return True


def _group_open(
    group: GroupColumns, datagrams: DatagramArrays, scratch: U8, row: int, client: int
) -> tuple[Kind, int, bytes] | Drop:
    """Open one packet in place: type, header bytes and body."""
    data, lengths, address = datagrams
    status, words, keys = group[:3]
    datagram = data[row, : lengths[row]].tobytes()
    header = read_header(datagram, allowed=FROM_SERVER)
    if isinstance(header, Drop):
        return header
    if status[client, STATE] <= _DISCONNECTED or status[client, VERDICT] != NO_VERDICT:
        return Drop.WRONG_STATE
    if not np.array_equal(words[client, :3], address[row]):
        return Drop.UNKNOWN_ADDRESS
    packet = open_packet(
        datagram,
        key=keys[client, :KEY_BYTES].tobytes(),
        protocol_id=protocol_id_of(scratch),
        allowed=FROM_SERVER,
        replay=Window(words, client),
    )
    if isinstance(packet, Drop):
        return packet
    store(data, row, header[1], packet.body)
    return packet.kind, header[1], packet.body


def group_receive(
    group: GroupColumns, datagrams: DatagramArrays, peer: I32, received: I64, places: PayloadArrays, drops: I64,
    scratch: U8, count: int, now: int,
) -> int:  # fmt: skip
    """Open the first `count` datagrams in place, in order; payloads are listed, all else moves the state machines."""
    clients, offsets, sizes, arrivals = places
    row_bytes, payloads = datagrams[0].shape[1], 0
    for row in range(count):
        if datagrams[1][row] < 0:
            continue
        client = int(peer[row])
        if not 0 <= client < len(group[0]):
            drops[Drop.UNKNOWN_ADDRESS] += 1
            continue
        opened = _group_open(group, datagrams, scratch, row, client)
        if isinstance(opened, Drop):
            drops[opened] += 1
            continue
        kind, header, body = opened
        if not _take(group, client, kind, body, now):
            drops[Drop.WRONG_STATE] += 1
        elif kind == Kind.PAYLOAD:
            clients[payloads], offsets[payloads], sizes[payloads] = client, row * row_bytes + header, len(body)
            arrivals[payloads] = min(int(received[row]), now) if received[row] else now
            payloads += 1
    return payloads


def _emit_due(group: GroupColumns, outgoing: DatagramArrays, at: int, client: int, now: int, scratch: U8) -> None:
    """Write what a client in its state repeats: request, response or keep-alive."""
    status, words, keys, times, _, handshake = group
    state = status[client, STATE]
    if state == _REQUESTING:
        outgoing[0][at, :REQUEST_BYTES] = handshake[client, :REQUEST_BYTES]
        outgoing[1][at] = REQUEST_BYTES
        outgoing[2][at] = words[client, :3]
        times[client, LAST_SEND] = now
        return
    kind, body = Kind.KEEP_ALIVE, keep_alive_body(0, 0)
    if state == _RESPONDING:
        kind, body = Kind.RESPONSE, handshake[client, REQUEST_BYTES:][:CHALLENGE_BODY_BYTES].tobytes()
    emit(words, keys, times, client, outgoing, at, kind, body, now, scratch)


def _fail(group: GroupColumns, client: int, state: int, now: int) -> None:
    """Try the next server of the token, or end in `state` where there is none."""
    status, words, _, times, servers, _ = group
    following = int(status[client, SERVER_INDEX]) + 1
    if following >= status[client, SERVER_COUNT]:
        status[client, STATE] = state
        return
    status[client, SERVER_INDEX], status[client, STATE] = following, _REQUESTING
    words[client, NEWEST_AT : WINDOW_AT + 4] = 0
    words[client, :3] = servers[client, following]
    times[client, LAST_SEND], times[client, LAST_RECEIVE] = now - _LONG_AGO, now


def _judge(group: GroupColumns, client: int, now: int) -> None:
    """End or move on what was denied, disconnected, expired or silent for too long."""
    status, times = group[0], group[3]
    state, verdict = int(status[client, STATE]), int(status[client, VERDICT])
    limit = int(times[client, TIMEOUT])
    silent = limit > 0 and int(times[client, LAST_RECEIVE]) + limit < now
    status[client, VERDICT] = NO_VERDICT
    if state == _IN:
        if verdict != NO_VERDICT:
            status[client, STATE] = verdict
        elif silent:
            status[client, STATE] = _TIMED_OUT
    elif now - int(times[client, START]) >= int(times[client, LIFE]):
        status[client, STATE] = _TOKEN_EXPIRED
    elif verdict != NO_VERDICT:
        _fail(group, client, verdict, now)
    elif silent:
        _fail(group, client, _REQUEST_TIMED_OUT if state == _REQUESTING else _RESPONSE_TIMED_OUT, now)


def group_advance(
    group: GroupColumns, now: int, interval: int, outgoing: DatagramArrays, peer: I32, used: int, scratch: U8,
    drops: I64,
) -> int:  # fmt: skip
    """Judge every client, then write what is due; returns the rows of `outgoing` then used."""
    status, times = group[0], group[3]
    for client in range(len(status)):
        if status[client, STATE] <= _DISCONNECTED:
            continue
        _judge(group, client, now)
        if status[client, STATE] <= _DISCONNECTED or times[client, LAST_SEND] + interval > now:
            continue
        if used == len(outgoing[0]):
            drops[Drop.OUTGOING_FULL] += 1
            continue
        _emit_due(group, outgoing, used, client, now, scratch)
        peer[used] = client
        used += 1
    return used


def group_send(
    group: GroupColumns, buffer: U8, clients: I32, offsets: I64, lengths: I32, now: int, outgoing: DatagramArrays,
    peer: I32, used: int, scratch: U8, drops: I64,
) -> int:  # fmt: skip
    """Seal payloads of clients; returns the rows of `outgoing` then used."""
    status, words, keys, times, _, _ = group
    for client, offset, size in zip(clients.tolist(), offsets.tolist(), lengths.tolist(), strict=True):
        if not 0 <= client < len(status) or status[client, STATE] != _IN:
            drops[Drop.SEND_NOT_CONNECTED] += 1
            continue
        if not 1 <= size <= PAYLOAD_BYTES_MAX or not 0 <= offset <= len(buffer) - size:
            drops[Drop.SEND_WRONG_SIZE] += 1
            continue
        if used == len(outgoing[0]):
            drops[Drop.OUTGOING_FULL] += 1
            continue
        body = buffer[offset : offset + size].tobytes()
        emit(words, keys, times, client, outgoing, used, Kind.PAYLOAD, body, now, scratch)
        peer[used] = client
        used += 1
    return used
