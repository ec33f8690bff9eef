"""Many datagrams per system call: recvmmsg and sendmmsg on preallocated headers, and one loop over many sockets.

Memory layouts of Linux on 64-bit machines (recvmmsg(2), ip(7), ipv6(7)), each row one datagram:

    header   i8[8], struct mmsghdr: name, name length (u32), iovec, iovec count, control, control length, flags (i32)
             and bytes transferred (u32), each in a word of its own
    vector   i8[2], struct iovec: base, length
    name     u8[4], struct sockaddr_in (family u16, port big-endian, 4 bytes, 8 zeros) or sockaddr_in6 (family u16,
             port big-endian, flow u32, 16 bytes, scope u32), written as 64-bit words: low bytes come first
    stamp    i8[4], control buffer of one message: struct cmsghdr (length 32, level SOL_SOCKET i32, type
             SCM_TIMESTAMPNS i32) and struct timespec, the time of day at which the datagram reached the machine

Receive times. The system stamps datagrams with the time of day; a call reads that clock once at its start, and a
datagram's age by it, from 0 to one second, is taken from the `now` of the caller. So nothing depends on how the two
clocks relate, a step of the clock spoils one batch by a second at most, and virtual time works as well.

Nothing here raises: errors are counted in `counts` by the indices below and the rest goes on.
"""

import numpy as np

from sim.arrays import I32, I64, U8, U64
from sim.jit import external, kernel

__all__ = [
    "COUNTERS",
    "EMPTY_RECEIVES",
    "MESSAGES_TYPE",
    "OVERSIZE",
    "RECEIVED",
    "RECEIVED_BYTES",
    "RECEIVE_ERRORS",
    "SEND_ERRORS",
    "SEND_FULL",
    "SENT",
    "SENT_BYTES",
    "UNROUTABLE",
    "MessageArrays",
    "group_receive",
    "group_send",
    "poll_one",
    "socket_receive",
    "socket_send",
]

MessageArrays = tuple[I64, I64, U64, I64]  # headers, vectors, names, stamps
MESSAGES_TYPE = "Tuple((i8[:,::1], i8[:,::1], u8[:,::1], i8[:,::1]))"
ArenaArrays = tuple[U8, I32, U64, I32, I64]  # of `net.datagrams.Datagrams`: data, length, address, peer, received_ns
ARENA_TYPE = "Tuple((u1[:,::1], i4[::1], u8[:,::1], i4[::1], i8[::1]))"

RECEIVED, RECEIVED_BYTES, SENT, SENT_BYTES = 0, 1, 2, 3
OVERSIZE, RECEIVE_ERRORS, SEND_FULL, SEND_ERRORS, UNROUTABLE, EMPTY_RECEIVES = 4, 5, 6, 7, 8, 9
COUNTERS = (
    "received",
    "received_bytes",
    "sent",
    "sent_bytes",
    "dropped_oversize",
    "receive_errors",
    "dropped_send_full",
    "dropped_send_errors",
    "dropped_unroutable",
    "empty_receives",
)

_recvmmsg = external("recvmmsg", "i4(i4, i8, u4, i4, i8)")
_sendmmsg = external("sendmmsg", "i4(i4, i8, u4, i4)")
_send = external("send", "i8(i4, i8, i8, i4)")
_poll = external("poll", "i4(i8, i8, i4)")
_ppoll = external("ppoll", "i4(i8, i8, i8, i8)")
_recvmsg = external("recvmsg", "i8(i4, i8, i4)")
_clock_gettime = external("clock_gettime", "i4(i4, i8)")
_errno_location = external("__errno_location", "i8()")
_memcpy = external("memcpy", "i8(i8, i8, i8)")

_CLOCK_REALTIME, _SECOND_NS = 0, 1_000_000_000
_STAMP_BYTES, _STAMP_HEADER = 32, 35 << 32 | 1  # SCM_TIMESTAMPNS, SOL_SOCKET
_AGE_MAX_NS = 1_000_000_000
_DONTWAIT, _TRUNCATED, _NOSIGNAL = 0x40, 0x20, 0x4000
_EINTR, _EAGAIN = 4, 11
_POLLIN = 1
_NAME_BYTES = 28
_ERRORS_MAX = 64  # consecutive errors after which a call gives up until the next
_MAPPED = np.uint64(0xFFFF0000)  # bytes 8 to 15 of a mapped IPv4 address, low word, in memory order
_AF_INET, _AF_INET6 = np.uint64(2), np.uint64(10)
_ZERO, _EIGHT, _SIXTEEN, _HALF = np.uint64(0), np.uint64(8), np.uint64(16), np.uint64(32)
_BYTE, _LOW_16, _LOW_32 = np.uint64(0xFF), np.uint64(0xFFFF), np.uint64(0xFFFFFFFF)


@kernel(counted=False)
def _errno(scratch: I64) -> int:
    """The error of the last failed call of this thread."""
    scratch[0] = 0
    _memcpy(int(np.int64(scratch.ctypes.data)), _errno_location(), 4)
    return int(scratch[0])


@kernel(counted=False)
def _swapped(port: np.uint64) -> np.uint64:
    """A port's two bytes the other way round."""
    return (port & _BYTE) << _EIGHT | (port >> _EIGHT & _BYTE)


@kernel(counted=False)
def _read_name(names: U64, index: int, address: U64, row: int) -> None:
    """Turn a socket address into three words (`net.address`)."""
    first = names[index, 0]
    port = _swapped(first >> _SIXTEEN)
    if first & _LOW_16 == _AF_INET:
        address[row, 0] = _ZERO
        address[row, 1] = _MAPPED | first >> _HALF << _HALF
        address[row, 2] = port
    else:
        address[row, 0] = names[index, 1]
        address[row, 1] = names[index, 2]
        address[row, 2] = port | (names[index, 3] & _LOW_32) << _HALF


@kernel(counted=False)
def _write_name(names: U64, index: int, address: U64, row: int, family: int) -> int:
    """Turn three words into a socket address; its length, or 0 where a socket of this family cannot reach it."""
    port = _swapped(address[row, 2]) << _SIXTEEN
    if family == np.int64(_AF_INET):
        if address[row, 0] != _ZERO or address[row, 1] & _LOW_32 != _MAPPED:
            return 0
        names[index, 0] = _AF_INET | port | address[row, 1] >> _HALF << _HALF
        names[index, 1] = _ZERO
        return 16
    names[index, 0] = _AF_INET6 | port
    names[index, 1] = address[row, 0]
    names[index, 2] = address[row, 1]
    names[index, 3] = address[row, 2] >> _HALF
    return _NAME_BYTES


@kernel(counted=False)
def _time_of_day(scratch: I64) -> int:
    """The clock that datagrams are stamped with [ns]."""
    _clock_gettime(_CLOCK_REALTIME, int(np.int64(scratch.ctypes.data)))
    return int(scratch[0] * _SECOND_NS + scratch[1])


@kernel(counted=False)
def _arrival(headers: I64, stamps: I64, index: int, now: int, today: int) -> int:
    """When a received message reached the machine, by its stamp; `now` where it has none, or is 0."""
    if now == 0 or headers[index, 5] < _STAMP_BYTES or stamps[index, 1] != _STAMP_HEADER:
        return now
    age = today - (stamps[index, 2] * _SECOND_NS + stamps[index, 3])
    return int(now - min(max(age, 0), _AGE_MAX_NS))


@kernel(counted=False)
def _want_stamp(headers: I64, stamps: I64, index: int) -> None:
    """Ask for the stamp of the message that is to be received into a header."""
    headers[index, 4] = int(np.int64(stamps.ctypes.data)) + index * _STAMP_BYTES
    headers[index, 5] = _STAMP_BYTES


@kernel(counted=False)
def _prepare(headers: I64, vectors: I64, names: U64, index: int, name_bytes: int, base: int, size: int) -> None:
    """Fill the header of one message."""
    vectors[index, 0] = base
    vectors[index, 1] = size
    headers[index, 0] = int(np.int64(names.ctypes.data)) + index * 32
    headers[index, 1] = name_bytes
    headers[index, 2] = int(np.int64(vectors.ctypes.data)) + index * 16
    headers[index, 3] = 1
    for word in range(4, 8):
        headers[index, word] = 0


@kernel(counted=False)
def _collect(
    messages: MessageArrays,
    data: U8,
    lengths: I32,
    address: U64,
    received: I64,
    got: int,
    count: int,
    now: int,
    today: int,
    counts: I64,
) -> None:
    """Note lengths, senders and arrivals of `got` received messages in the rows from `count` on."""
    headers, _, names, stamps = messages
    for index in range(got):
        row = count + index
        size = headers[index, 7] & 0xFFFFFFFF
        counts[RECEIVED] += 1
        counts[RECEIVED_BYTES] += size
        if headers[index, 6] & _TRUNCATED or size > data.shape[1]:
            counts[OVERSIZE] += 1
            lengths[row] = -1
        else:
            lengths[row] = np.int32(size)
        _read_name(names, index, address, row)
        received[row] = _arrival(headers, stamps, index, now, today)


@kernel(
    f"(i8, {MESSAGES_TYPE}, u1[:,::1], i4[::1], u8[:,::1], i8[::1], i8, i8[::1], i8[::1])",
    counted=False,
)
def socket_receive(
    descriptor: int,
    messages: MessageArrays,
    data: U8,
    lengths: I32,
    address: U64,
    received: I64,
    now: int,
    counts: I64,
    scratch: I64,
) -> int:
    """Take everything a socket holds, up to the rows of `data`, without waiting; returns the rows filled.

    Args:
        descriptor: A UDP socket.
        messages: Headers, vectors, names and stamps of k messages: so many are asked for per call.
        data: Output arena, with `lengths` (-1: longer than a row, dropped), `address` and `received` (arrival [ns]).
        now: Monotonic time [ns], from which ages are taken.
        counts: Counters, by the indices above.
        scratch: int64[2].
    """
    headers, vectors, names, stamps = messages
    count, errors, today = 0, 0, _time_of_day(scratch)
    while count < data.shape[0] and errors < _ERRORS_MAX:
        wanted = min(headers.shape[0], data.shape[0] - count)
        base = int(np.int64(data.ctypes.data)) + count * data.shape[1]
        for index in range(wanted):
            _prepare(headers, vectors, names, index, _NAME_BYTES, base + index * data.shape[1], data.shape[1])
            _want_stamp(headers, stamps, index)
        got = _recvmmsg(descriptor, int(np.int64(headers.ctypes.data)), wanted, _DONTWAIT, 0)
        if got < 0:
            error = _errno(scratch)
            if error == _EAGAIN:
                counts[EMPTY_RECEIVES] += 1
                break
            errors += 1
            if error != _EINTR:
                counts[RECEIVE_ERRORS] += 1
            continue
        _collect(messages, data, lengths, address, received, got, count, now, today, counts)
        count += got
        if got < wanted:
            break
    return count


@kernel(counted=False)
def _send_chunk(descriptor: int, headers: I64, vectors: I64, ready: int, counts: I64, scratch: I64) -> bool:
    """Send the first `ready` messages; False where the socket's buffer is full, which drops the rest of them."""
    sent, interrupted = 0, 0
    while sent < ready:
        done = _sendmmsg(
            descriptor, int(np.int64(headers.ctypes.data)) + sent * 64, ready - sent, _DONTWAIT | _NOSIGNAL
        )
        if done < 0:
            error = _errno(scratch)
            if error == _EINTR and interrupted < _ERRORS_MAX:
                interrupted += 1
                continue
            if error == _EAGAIN:
                counts[SEND_FULL] += ready - sent
                return False
            counts[SEND_ERRORS] += 1  # of the first message alone: no route, refused, no buffers, not permitted
            sent += 1
            continue
        for index in range(sent, sent + done):
            counts[SENT_BYTES] += vectors[index, 1]
        counts[SENT] += done
        sent += done
    return True


@kernel(f"(i8, i8, {MESSAGES_TYPE}, u1[:,::1], i4[::1], u8[:,::1], i8, i8[::1], i8[::1])", counted=False)
def socket_send(
    descriptor: int,
    family: int,
    messages: MessageArrays,
    data: U8,
    lengths: I32,
    address: U64,
    count: int,
    counts: I64,
    scratch: I64,
) -> None:
    """Send the first `count` datagrams to their addresses, without waiting; what cannot be sent is dropped and counted.

    Args:
        descriptor: A UDP socket of `family` 2 (IPv4) or 10 (IPv6).
        messages: Headers, vectors, names and stamps of k messages: so many go per call.
        counts: Counters, by the indices above.
        scratch: int64[2].
    """
    headers, vectors, names, _ = messages
    base = int(np.int64(data.ctypes.data))
    row = 0
    while row < count:
        ready = 0
        while row < count and ready < headers.shape[0]:
            name_bytes = _write_name(names, ready, address, row, family)
            if name_bytes == 0 or lengths[row] < 0:
                counts[UNROUTABLE] += 1
            else:
                _prepare(headers, vectors, names, ready, name_bytes, base + row * data.shape[1], int(lengths[row]))
                ready += 1
            row += 1
        if not _send_chunk(descriptor, headers, vectors, ready, counts, scratch):
            counts[SEND_FULL] += count - row
            return


@kernel("(i4[::1], u8[:,::1], u1[:,::1], i4[::1], u8[:,::1], i4[::1], i8, i4[::1], i8[::1], i8[::1])", counted=False)
def group_send(
    descriptors: I32,
    connected: U64,
    data: U8,
    lengths: I32,
    address: U64,
    peer: I32,
    count: int,
    elsewhere: I32,
    counts: I64,
    scratch: I64,
) -> int:
    """Send datagram i from socket `peer[i]`; lists those whose socket is not connected to where they go.

    Args:
        descriptors: Connected UDP sockets, or -1; `connected` says to which address, shape (n, 3).
        elsewhere: Output: rows that were not sent, for the caller to connect and send.
        counts: Counters, by the indices above.
        scratch: int64[1].

    Returns:
        How many rows are in `elsewhere`.
    """
    base, missed = int(np.int64(data.ctypes.data)), 0
    for row in range(count):
        socket = int(peer[row])
        if socket < 0 or socket >= descriptors.shape[0] or lengths[row] < 0:
            counts[UNROUTABLE] += 1
            continue
        same = connected[socket, 0] == address[row, 0] and connected[socket, 1] == address[row, 1]
        if descriptors[socket] < 0 or not same or connected[socket, 2] != address[row, 2]:
            elsewhere[missed] = row
            missed += 1
            continue
        size = int(lengths[row])
        done = _send(descriptors[socket], base + row * data.shape[1], size, _DONTWAIT | _NOSIGNAL)
        if done < 0:
            counts[SEND_FULL if _errno(scratch) == _EAGAIN else SEND_ERRORS] += 1
        else:
            counts[SENT] += 1
            counts[SENT_BYTES] += size
    return missed


@kernel(counted=False)
def _drain(
    descriptors: I32,
    connected: U64,
    socket: int,
    message: MessageArrays,
    arena: ArenaArrays,
    count: int,
    now: int,
    today: int,
    counts: I64,
    scratch: I64,
) -> int:
    """Receive one datagram of a readable socket into row `count`; returns the rows then used."""
    headers, vectors, names, stamps = message
    data, lengths, address, peer, received = arena
    base = int(np.int64(data.ctypes.data)) + count * data.shape[1]
    _prepare(headers, vectors, names, 0, 0, base, data.shape[1])
    _want_stamp(headers, stamps, 0)
    size = _recvmsg(descriptors[socket], int(np.int64(headers.ctypes.data)), _DONTWAIT | _TRUNCATED)
    if size < 0:
        counts[EMPTY_RECEIVES if _errno(scratch) == _EAGAIN else RECEIVE_ERRORS] += 1
        return count
    counts[RECEIVED] += 1
    counts[RECEIVED_BYTES] += size
    lengths[count] = np.int32(size)
    if size > data.shape[1]:
        counts[OVERSIZE] += 1
        lengths[count] = -1
    peer[count] = socket
    received[count] = _arrival(headers, stamps, 0, now, today)
    for word in range(3):
        address[count, word] = connected[socket, word]
    return count + 1


@kernel(
    f"(i4[::1], u8[:,::1], i4[:,::1], i8, {MESSAGES_TYPE}, {ARENA_TYPE}, i8, i8[::1], i8[::1])",
    counted=False,
)
def group_receive(
    descriptors: I32,
    connected: U64,
    polls: I32,
    first: int,
    message: MessageArrays,
    arena: ArenaArrays,
    now: int,
    counts: I64,
    scratch: I64,
) -> int:
    """Take what the sockets hold, one datagram each per round, without waiting; returns the rows filled.

    Args:
        descriptors: Connected UDP sockets, or -1; `connected` says to which address, shape (n, 3).
        polls: Shape (n, 2), struct pollfd: descriptor, and events asked for and returned.
        first: The socket to start with, so that a full arena is not always full of the same ones.
        message: Header, vector, name and stamp of one message.
        arena: Output: data, lengths (-1: longer than a row, dropped), address, peer and arrival [ns].
        now: Monotonic time [ns], from which ages are taken.
        counts: Counters, by the indices above.
        scratch: int64[2].
    """
    sockets, count, rounds, today = descriptors.shape[0], 0, 0, _time_of_day(scratch)
    capacity = arena[0].shape[0]
    for socket in range(sockets):
        polls[socket, 0] = descriptors[socket]
    while count < capacity and rounds < _ERRORS_MAX:
        for socket in range(sockets):
            polls[socket, 1] = _POLLIN
        if _poll(int(np.int64(polls.ctypes.data)), sockets, 0) <= 0:
            break
        for index in range(sockets):
            socket = (first + index) % sockets
            if polls[socket, 1] >> 16 and count < capacity:
                count = _drain(descriptors, connected, socket, message, arena, count, now, today, counts, scratch)
        rounds += 1
    return count


@kernel("(i8, i8, i4[::1], i8[::1])", counted=False)
def poll_one(descriptor: int, timeout: int, poll: I32, timespec: I64) -> int:
    """Wait until a socket is readable, at most `timeout` ns; above 0 where it is. Ends early on a signal.

    Args:
        poll: int32[2], struct pollfd.
        timespec: int64[2], struct timespec.
    """
    poll[0], poll[1] = descriptor, _POLLIN
    timespec[0], timespec[1] = timeout // 1_000_000_000, timeout % 1_000_000_000
    return int(_ppoll(int(np.int64(poll.ctypes.data)), 1, int(np.int64(timespec.ctypes.data)), 0))
