"""Many datagrams per system call: recvmmsg and sendmmsg on preallocated headers, and one loop over many sockets.

Memory layouts of Linux on 64-bit machines (recvmmsg(2), ip(7), ipv6(7)), each row one datagram:

    header   i8[8], struct mmsghdr: name, name length (u32), iovec, iovec count, control, control length, flags (i32)
             and bytes transferred (u32), each in a word of its own
    vector   i8[2], struct iovec: base, length
    name     u8[4], struct sockaddr_in (family u16, port big-endian, 4 bytes, 8 zeros) or sockaddr_in6 (family u16,
             port big-endian, flow u32, 16 bytes, scope u32), written as 64-bit words: low bytes come first

Nothing here raises: errors are counted in `counts` by the indices below and the rest goes on.
"""

import numpy as np

from sim.arrays import I32, I64, U8, U64
from sim.jit import external, kernel

__all__ = [
    "COUNTERS",
    "EMPTY_RECEIVES",
    "OVERSIZE",
    "RECEIVED",
    "RECEIVED_BYTES",
    "RECEIVE_ERRORS",
    "SEND_ERRORS",
    "SEND_FULL",
    "SENT",
    "SENT_BYTES",
    "UNROUTABLE",
    "group_receive",
    "group_send",
    "poll_one",
    "socket_receive",
    "socket_send",
]

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
_recv = external("recv", "i8(i4, i8, i8, i4)")
_send = external("send", "i8(i4, i8, i8, i4)")
_poll = external("poll", "i4(i8, i8, i4)")
_ppoll = external("ppoll", "i4(i8, i8, i8, i8)")
_errno_location = external("__errno_location", "i8()")
_memcpy = external("memcpy", "i8(i8, i8, i8)")

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
def _collect(headers: I64, names: U64, data: U8, lengths: I32, address: U64, got: int, count: int, counts: I64) -> None:
    """Note lengths and senders of `got` received messages in the rows from `count` on."""
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


@kernel("(i8, i8[:,::1], i8[:,::1], u8[:,::1], u1[:,::1], i4[::1], u8[:,::1], i8[::1], i8[::1])", counted=False)
def socket_receive(
    descriptor: int,
    headers: I64,
    vectors: I64,
    names: U64,
    data: U8,
    lengths: I32,
    address: U64,
    counts: I64,
    scratch: I64,
) -> int:
    """Take everything a socket holds, up to the rows of `data`, without waiting; returns the rows filled.

    Args:
        descriptor: A UDP socket.
        headers: Shape (k, 8); k messages are asked for per call. `vectors` (k, 2) and `names` (k, 4) belong to them.
        data: Output arena, with `lengths` (-1: longer than a row, dropped) and `address`.
        counts: Counters, by the indices above.
        scratch: int64[1].
    """
    count, errors = 0, 0
    while count < data.shape[0] and errors < _ERRORS_MAX:
        wanted = min(headers.shape[0], data.shape[0] - count)
        base = int(np.int64(data.ctypes.data)) + count * data.shape[1]
        for index in range(wanted):
            _prepare(headers, vectors, names, index, _NAME_BYTES, base + index * data.shape[1], data.shape[1])
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
        _collect(headers, names, data, lengths, address, got, count, counts)
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


@kernel("(i8, i8, i8[:,::1], i8[:,::1], u8[:,::1], u1[:,::1], i4[::1], u8[:,::1], i8, i8[::1], i8[::1])", counted=False)
def socket_send(
    descriptor: int,
    family: int,
    headers: I64,
    vectors: I64,
    names: U64,
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
        headers: Shape (k, 8); k messages go per call. `vectors` (k, 2) and `names` (k, 4) belong to them.
        counts: Counters, by the indices above.
        scratch: int64[1].
    """
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
    data: U8,
    lengths: I32,
    address: U64,
    peer: I32,
    count: int,
    counts: I64,
    scratch: I64,
) -> int:
    """Receive one datagram of a readable socket into row `count`; returns the rows then used."""
    base = int(np.int64(data.ctypes.data)) + count * data.shape[1]
    size = _recv(descriptors[socket], base, data.shape[1], _DONTWAIT | _TRUNCATED)
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
    for word in range(3):
        address[count, word] = connected[socket, word]
    return count + 1


@kernel("(i4[::1], u8[:,::1], i4[:,::1], i8, u1[:,::1], i4[::1], u8[:,::1], i4[::1], i8[::1], i8[::1])", counted=False)
def group_receive(
    descriptors: I32,
    connected: U64,
    polls: I32,
    first: int,
    data: U8,
    lengths: I32,
    address: U64,
    peer: I32,
    counts: I64,
    scratch: I64,
) -> int:
    """Take what the sockets hold, one datagram each per round, without waiting; returns the rows filled.

    Args:
        descriptors: Connected UDP sockets, or -1; `connected` says to which address, shape (n, 3).
        polls: Shape (n, 2), struct pollfd: descriptor, and events asked for and returned.
        first: The socket to start with, so that a full arena is not always full of the same ones.
        counts: Counters, by the indices above.
        scratch: int64[1].
    """
    sockets, count, rounds = descriptors.shape[0], 0, 0
    for socket in range(sockets):
        polls[socket, 0] = descriptors[socket]
    while count < data.shape[0] and rounds < _ERRORS_MAX:
        for socket in range(sockets):
            polls[socket, 1] = _POLLIN
        if _poll(int(np.int64(polls.ctypes.data)), sockets, 0) <= 0:
            break
        for index in range(sockets):
            socket = (first + index) % sockets
            if polls[socket, 1] >> 16 and count < data.shape[0]:
                count = _drain(descriptors, connected, socket, data, lengths, address, peer, count, counts, scratch)
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
