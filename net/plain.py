"""The host packet by packet in Python, through `net.packets`: the kernels' results without the kernels.

Every function has the name, arguments and results of the one in `net.host_kernels` (where its arguments are described),
works on the same columns and leaves the same bytes, states and counters; `net.plain_group` has those of the clients.
They serve systems on which kernels cannot be compiled, and are what the kernels are tested against, so they share none
of their code: packets, the replay window, the address table, the state machine are written once more, the plain way.
"""

import numpy as np

from net.host_kernels import (
    CHECKS,
    CHECKS_MAX,
    CLOSING,
    CONNECTED,
    COUNTS,
    PENDING,
    REQUESTS,
    RESPONSES,
    HostColumns,
    HostOutputs,
)
from net.packets import (
    FROM_CLIENT,
    PAYLOAD_BYTES_MAX,
    REQUEST_BYTES,
    Drop,
    Kind,
    open_packet,
    open_request,
    read_header,
    seal_packet,
)
from net.packets_kernels import (
    CHALLENGE_KEY_AT,
    LAST_RECEIVE,
    LAST_SEND,
    PRIVATE_KEY_AT,
    SEND_KEY_AT,
    SEND_SEQUENCE,
    TIMEOUT,
    DatagramArrays,
)
from net.plain_packets import Window, emit, keep_alive_body, protocol_id_of, store
from net.tokens import (
    KEY_BYTES,
    MAC_BYTES,
    PRIVATE_TOKEN_BYTES,
    USER_DATA_BYTES,
    open_challenge,
    seal_challenge,
)
from sim.arrays import I32, I64, U8, U64

__all__ = [
    "begin_slot",
    "close_slot",
    "connect_slot",
    "receive_batch",
    "send_batch",
    "sweep",
    "table_edit",
]

_MIX, _LOW = 0x9E3779B1, 0xFFFFFFFF
_TOKEN_AT = REQUEST_BYTES - PRIVATE_TOKEN_BYTES


def _home(secret: U64, mask: int, address: U64) -> int:
    """Where the search for an address starts: multiply and fold, 32 bits at a time."""
    first, last = (int(seed) for seed in secret)
    state = first
    for word in (int(word) for word in address[:3]):
        for half in (word, word >> 32):
            state = ((state ^ half) & _LOW) * _MIX
            state ^= state >> 29
    state = ((state ^ last) & _LOW) * _MIX
    return (state ^ state >> 29) & mask


def _find(table: I32, secret: U64, words: U64, address: U64) -> int:
    mask = len(table) - 1
    at = _home(secret, mask, address)
    while table[at]:
        slot = int(table[at]) - 1
        if np.array_equal(words[slot, :3], address[:3]):
            return slot
        at = (at + 1) & mask
    return -1


def table_edit(table: I32, secret: U64, words: U64, address: U64, slot: int, edit: int) -> int:
    """Find an address, insert a slot, or remove one."""
    if edit == 0:
        return _find(table, secret, words, address[0])
    mask = len(table) - 1
    at = _home(secret, mask, words[slot])
    while table[at] not in (0, slot + 1):
        at = (at + 1) & mask
    if edit > 0:
        table[at] = slot + 1
    elif table[at]:
        # Take out everything behind the gap and put it in again, in order: the simplest way to leave no hole.
        following = [at]
        while table[(following[-1] + 1) & mask]:
            following.append((following[-1] + 1) & mask)
        rest = [int(table[index]) for index in following[1:]]
        table[following] = 0
        for entry in rest:
            table_edit(table, secret, words, address, entry - 1, 1)
    return -1


def _is_listed(data: U8, listed: I32, row: int, slot: int) -> bool:
    """Whether the list has a request with the same token, or a response to the same slot (not -1)."""
    requests = data[listed[:, 0], 0] == Kind.REQUEST
    if slot >= 0:
        return bool((~requests & (listed[:, 1] == slot)).any())
    mac = slice(REQUEST_BYTES - MAC_BYTES, REQUEST_BYTES)
    return bool((data[listed[requests, 0], mac] == data[row, mac]).all(axis=1).any())


def _is_spent(spent: U64, mac: bytes) -> bool:
    """Whether a token is known to be consumed, by 64 bits of its MAC."""
    low = int.from_bytes(mac[:8], "little")
    return int(spent[low % len(spent)]) == low


def _request(
    host: HostColumns,
    datagrams: DatagramArrays,
    scratch: U8,
    row: int,
    times: tuple[int, int, int],
    listed: I32,
    left: int,
) -> Drop | None:
    """Check a request and put its private token, decrypted, in the place of the sealed one; `left`: of the budget."""
    data, lengths, address = datagrams
    table, secret, flags, words = host[:4]
    unix_s, lifetime_s, takeover = times
    if lengths[row] != REQUEST_BYTES:
        return Drop.TOO_SHORT if lengths[row] < REQUEST_BYTES else Drop.TOO_LONG
    slot = _find(table, secret, words, address[row])
    if slot >= 0 and (flags[slot, 0] == CLOSING or (flags[slot, 0] == CONNECTED and not takeover)):
        return Drop.ADDRESS_CONNECTED
    if _is_spent(host[7], data[row, REQUEST_BYTES - MAC_BYTES : REQUEST_BYTES].tobytes()):
        return Drop.TOKEN_REUSED
    if left <= 0 or _is_listed(data, listed, row, -1):
        return Drop.HANDSHAKE_BUDGET
    plain = open_request(
        data[row, :REQUEST_BYTES].tobytes(),
        protocol_id=protocol_id_of(scratch),
        private_key=scratch[PRIVATE_KEY_AT : PRIVATE_KEY_AT + KEY_BYTES].tobytes(),
        unix_s=unix_s,
        lifetime_s=lifetime_s,
    )
    if isinstance(plain, Drop):
        return plain
    store(data, row, REQUEST_BYTES - PRIVATE_TOKEN_BYTES, plain)
    return None


def _host_open(
    host: HostColumns, datagrams: DatagramArrays, scratch: U8, row: int, listed: I32, left: int
) -> tuple[Kind, int, int, int] | Drop:
    """Open any other packet in place: type, slot, header bytes and bytes of its body; `left`: of the budget."""
    data, lengths, address = datagrams
    table, secret, flags, words, keys, _, rival, _ = host
    datagram = data[row, : lengths[row]].tobytes()
    header = read_header(datagram, allowed=FROM_CLIENT)
    if isinstance(header, Drop):
        return header
    slot = _find(table, secret, words, address[row])
    if slot < 0:
        return Drop.UNKNOWN_ADDRESS
    if header[0] == Kind.RESPONSE and rival[slot]:
        slot = int(rival[slot])
    if flags[slot, 0] != (PENDING if header[0] == Kind.RESPONSE else CONNECTED):
        return Drop.WRONG_STATE
    if header[0] == Kind.RESPONSE and (left <= 0 or _is_listed(data, listed, row, slot)):
        return Drop.HANDSHAKE_BUDGET
    packet = open_packet(
        datagram,
        key=keys[slot, :KEY_BYTES].tobytes(),
        protocol_id=protocol_id_of(scratch),
        allowed=FROM_CLIENT,
        replay=Window(words, slot),
    )
    if isinstance(packet, Drop):
        return packet
    body = packet.body
    if packet.kind == Kind.RESPONSE:
        key = scratch[CHALLENGE_KEY_AT : CHALLENGE_KEY_AT + KEY_BYTES].tobytes()
        challenge = open_challenge(body[8:], sequence=int.from_bytes(body[:8], "little"), key=key)
        if challenge is None:
            return Drop.CHALLENGE_NOT_AUTHENTIC
        body = body[:8] + challenge.client_id.to_bytes(8, "little") + challenge.user_data
    store(data, row, header[1], body)
    return packet.kind, slot, header[1], len(body)


def receive_batch(
    host: HostColumns, datagrams: DatagramArrays, received: I64, outputs: HostOutputs, scratch: U8, count: int,
    now: int, unix_s: int, lifetime_s: int, takeover: int,
) -> None:  # fmt: skip
    """Open the first `count` datagrams in place, in order, and sort them into outputs and drop counters."""
    clients, offsets, sizes, arrivals, cold, closed, tally = outputs
    data, lengths, address = datagrams
    table, secret, flags, words, _, times, _, _ = host
    payloads, waiting, closing, most = 0, 0, 0, len(cold) // 2
    for row in range(count):
        if lengths[row] < 0:
            continue
        if lengths[row] > 0 and data[row, 0] == Kind.REQUEST:
            checked = int(tally[CHECKS]) >= max(CHECKS_MAX, 4 * most)
            left = 0 if checked else most - int(tally[REQUESTS])
            refused = _request(host, datagrams, scratch, row, (unix_s, lifetime_s, takeover), cold[:waiting], left)
            tally[CHECKS] += int(refused in (None, Drop.TOKEN_NOT_AUTHENTIC))
            opened: tuple[Kind, int, int, int] | Drop = (
                (Kind.REQUEST, _find(table, secret, words, address[row]), 0, 0) if refused is None else refused
            )
        else:
            opened = _host_open(host, datagrams, scratch, row, cold[:waiting], most - int(tally[RESPONSES]))
        if isinstance(opened, Drop):
            tally[opened] += 1
            continue
        kind, slot, header, size = opened
        if kind in (Kind.REQUEST, Kind.RESPONSE):
            cold[waiting] = row, slot
            tally[REQUESTS if kind == Kind.REQUEST else RESPONSES] += 1
            waiting += 1
        elif kind == Kind.DISCONNECT:
            flags[slot, 0] = CLOSING
            closed[closing] = slot
            closing += 1
        else:
            times[slot, LAST_RECEIVE] = now
            flags[slot, 1] = 1
            if kind == Kind.PAYLOAD:
                clients[payloads], offsets[payloads], sizes[payloads] = slot, row * data.shape[1] + header, size
                arrivals[payloads] = min(int(received[row]), now) if received[row] else now
                payloads += 1
    tally[COUNTS:REQUESTS] = payloads, waiting, closing


def begin_slot(
    host: HostColumns, datagrams: DatagramArrays, where: tuple[int, int, int, int], deadline: int,
    sequences: U64, outgoing: DatagramArrays, used: int, scratch: U8,
) -> int:  # fmt: skip
    """Make a pending slot of a request and queue a challenge; returns the rows of `outgoing` then used."""
    table, secret, flags, words, keys, times, _, _ = host
    row, slot, keys_at, mapped = where
    request = datagrams[0][row]
    words[slot, :3] = datagrams[2][row]
    keys[slot] = request[keys_at : keys_at + 2 * KEY_BYTES]
    flags[slot, 0], times[slot, TIMEOUT] = PENDING, deadline
    if mapped:
        table_edit(table, secret, words, words[:1, :3], slot, 1)
    if used == len(outgoing[0]):
        return used
    challenge, sequence = (int(number) for number in sequences)
    sequences += np.uint64(1)
    client_id = int.from_bytes(request[_TOKEN_AT : _TOKEN_AT + 8].tobytes(), "little")
    user_data = request[keys_at + 2 * KEY_BYTES :][:USER_DATA_BYTES].tobytes()
    key = scratch[CHALLENGE_KEY_AT : CHALLENGE_KEY_AT + KEY_BYTES].tobytes()
    body = challenge.to_bytes(8, "little") + seal_challenge(client_id, user_data, sequence=challenge, key=key)
    packet = seal_packet(
        Kind.CHALLENGE,
        body,
        sequence=sequence,
        key=keys[slot, SEND_KEY_AT:].tobytes(),
        protocol_id=protocol_id_of(scratch),
    )
    store(outgoing[0], used, 0, packet)
    outgoing[1][used], outgoing[2][used] = len(packet), words[slot, :3]
    return used + 1


def connect_slot(
    host: HostColumns, pending: int, client: int, sequence: int, timeout: int, clients_max: int, now: int,
    outgoing: DatagramArrays, used: int, scratch: U8,
) -> int:  # fmt: skip
    """Move a pending slot that the table maps to a client's slot, and queue a keep-alive that tells its index."""
    table, _, flags, words, keys, times, _, _ = host
    table[np.flatnonzero(table == pending + 1)] = client + 1
    words[client] = 0
    words[client, :3], words[client, SEND_SEQUENCE] = words[pending, :3], sequence
    keys[client] = keys[pending]
    flags[client] = CONNECTED, 0
    times[client, LAST_RECEIVE] = times[client, LAST_SEND] = now
    times[client, TIMEOUT] = timeout
    if used == len(outgoing[0]):
        return used
    body = keep_alive_body(client, clients_max)
    emit(words, keys, times, client, outgoing, used, Kind.KEEP_ALIVE, body, now, scratch)
    return used + 1


def send_batch(
    host: HostColumns, buffer: U8, clients: I32, offsets: I64, lengths: I32, clients_max: int, now: int,
    outgoing: DatagramArrays, used: int, scratch: U8, tally: I64,
) -> int:  # fmt: skip
    """Seal payloads; returns the rows of `outgoing` then used."""
    _, _, flags, words, keys, times, _, _ = host
    for slot, offset, size in zip(clients.tolist(), offsets.tolist(), lengths.tolist(), strict=True):
        if not 0 <= slot < clients_max or flags[slot, 0] != CONNECTED:
            tally[Drop.SEND_NOT_CONNECTED] += 1
            continue
        if not 1 <= size <= PAYLOAD_BYTES_MAX or not 0 <= offset <= len(buffer) - size:
            tally[Drop.SEND_WRONG_SIZE] += 1
            continue
        bodies = [(Kind.PAYLOAD, buffer[offset : offset + size].tobytes())]
        if not flags[slot, 1]:
            bodies.insert(0, (Kind.KEEP_ALIVE, keep_alive_body(slot, clients_max)))
        if used + len(bodies) > len(outgoing[0]):
            tally[Drop.OUTGOING_FULL] += 1
            continue
        for kind, body in bodies:
            emit(words, keys, times, slot, outgoing, used, kind, body, now, scratch)
            used += 1
    return used


def sweep(
    host: HostColumns, clients_max: int, now: int, interval: int, outgoing: DatagramArrays, used: int, scratch: U8,
    tally: I64, expired: I32,
) -> int:  # fmt: skip
    """Send due keep-alives and list slots whose time is up; returns the rows of `outgoing` then used."""
    _, _, flags, words, keys, times, _, _ = host
    over = 0
    for slot, state in enumerate(flags[:, 0].tolist()):
        limit = int(times[slot, TIMEOUT])
        if state == PENDING:
            due = limit <= now
        else:
            due = state == CONNECTED and limit > 0 and times[slot, LAST_RECEIVE] + limit <= now
        if due:
            expired[over] = slot
            over += 1
        elif state == CONNECTED and times[slot, LAST_SEND] + interval <= now:
            if used == len(outgoing[0]):
                tally[Drop.OUTGOING_FULL] += 1
                continue
            body = keep_alive_body(slot, clients_max)
            emit(words, keys, times, slot, outgoing, used, Kind.KEEP_ALIVE, body, now, scratch)
            used += 1
    tally[COUNTS] = over
    return used


def close_slot(
    words: U64, keys: U8, times: I64, slot: int, copies: int, now: int, outgoing: DatagramArrays, used: int,
    scratch: U8, tally: I64,
) -> int:  # fmt: skip
    """Seal redundant disconnect packets of a connection; returns the rows of `outgoing` then used."""
    for _ in range(copies):
        if used == len(outgoing[0]):
            tally[Drop.OUTGOING_FULL] += 1
            break
        emit(words, keys, times, slot, outgoing, used, Kind.DISCONNECT, b"", now, scratch)
        used += 1
    return used
