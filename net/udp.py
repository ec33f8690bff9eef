"""The only sockets of `net`: one for a server, or one per client for a group of clients; never waits but in `wait`.

On 64-bit Linux whole batches go through recvmmsg and sendmmsg in a kernel (`net.udp_kernels`); elsewhere, or with
`batched=False`, through Python's socket methods, with the same results and counters. The system's receive times are
known to the kernel path alone; on the other each datagram counts as arrived when it is read.
"""

import contextlib
import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np

from net.address import ADDRESS_WORDS, Address, address_of, parse_address
from net.datagrams import DATAGRAM_BYTES, DATAGRAM_DROPPED, Datagrams
from net.errors import SocketError
from net.udp_kernels import (
    COUNTERS,
    EMPTY_RECEIVES,
    OVERSIZE,
    RECEIVE_ERRORS,
    RECEIVED,
    RECEIVED_BYTES,
    SEND_ERRORS,
    SEND_FULL,
    SENT,
    SENT_BYTES,
    UNROUTABLE,
    MessageArrays,
    group_receive,
    group_send,
    poll_one,
    socket_receive,
    socket_send,
)
from sim.arrays import I32, I64, U64

__all__ = ["BATCHED", "ServerSocket", "SocketGroup"]

# The kernels assume the memory layout of 64-bit Linux, and need the compiler: plain Python would not see C's errno.
BATCHED = (
    sys.platform == "linux"
    and struct.calcsize("P") == 8
    and sys.byteorder == "little"
    and os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
)
MESSAGES_PER_CALL = 256  # headers and names of that many stay in the second-level cache
BUFFER_BYTES = 4 << 20
SOCKETS_MAX = 65_536
_SO_MEMINFO = 55  # socket(7): nine u32, the last of which counts datagrams the kernel dropped
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_SO_TIMESTAMPNS = 35
_REMEDIES = {
    errno.EADDRINUSE: "the port is in use; stop the program that has it or choose another port (0 takes a free one)",
    errno.EACCES: "not permitted; choose a port of 1,024 or above",
    errno.EADDRNOTAVAIL: "this machine has no such address; use 0.0.0.0 or [::] to take all of its addresses",
    errno.EMFILE: "too many open files; raise the limit with ulimit -n or use fewer sockets",
    errno.EAFNOSUPPORT: "this machine has no such address family; use an IPv4 address",
}


def _failure(what: str, exc: OSError) -> SocketError:
    remedy = _REMEDIES.get(exc.errno or 0, exc.strerror or "unknown error")
    return SocketError(f"{what}: {remedy}")


def _enlarge(handle: socket.socket, buffer_bytes: int) -> None:
    """Ask for big buffers; with privilege beyond the system's limit, otherwise up to it."""
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            handle.setsockopt(socket.SOL_SOCKET, forced, buffer_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                handle.setsockopt(socket.SOL_SOCKET, plain, buffer_bytes)


def _stamp(handle: socket.socket) -> None:
    """Have datagrams stamped as they arrive; where the system refuses, they count as arrived when read."""
    with contextlib.suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


def _messages(count: int) -> MessageArrays:
    """Headers for so many messages per call."""
    headers: I64 = np.zeros((count, 8), dtype=np.int64)
    vectors: I64 = np.zeros((count, 2), dtype=np.int64)
    names: U64 = np.zeros((count, 4), dtype=np.uint64)
    stamps: I64 = np.zeros((count, 4), dtype=np.int64)
    return headers, vectors, names, stamps


def _sockaddr(address: Address, family: int) -> tuple[str, int] | tuple[str, int, int, int] | None:
    """The address as Python's sockets want it; None where a socket of this family cannot reach it."""
    if family == socket.AF_INET:
        return (str(address.ip), address.port) if address.ip.version == 4 else None
    host = str(address.ip) if address.ip.version == 6 else f"::ffff:{address.ip}"
    return host, address.port, 0, address.scope


def _from_sockaddr(sockaddr: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """The address that Python's sockets return."""
    host, port, scope = sockaddr[0].partition("%")[0], sockaddr[1], sockaddr[3] if len(sockaddr) == 4 else 0
    plain = parse_address(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    return Address(plain.ip, plain.port, scope)


class _Socket:
    """What both kinds share: counters and their names."""

    def __init__(self) -> None:
        self._counts: I64 = np.zeros(len(COUNTERS), dtype=np.int64)
        self._scratch: I64 = np.zeros(2, dtype=np.int64)
        self._plain = memoryview(bytearray(65_536))

    def _count_send(self, size: int, send: Callable[[], object]) -> None:
        """Send one datagram the plain way, counting what becomes of it."""
        try:
            send()
        except BlockingIOError:
            self._counts[SEND_FULL] += 1
        except OSError:
            self._counts[SEND_ERRORS] += 1
        else:
            self._counts[SENT] += 1
            self._counts[SENT_BYTES] += size

    def _store(self, datagrams: Datagrams, size: int, address: U64, peer: int, now_ns: int) -> None:
        """Note a datagram that was received the plain way into the next row."""
        view = self._plain
        row = datagrams.count
        self._counts[RECEIVED] += 1
        self._counts[RECEIVED_BYTES] += size
        if size > DATAGRAM_BYTES:
            self._counts[OVERSIZE] += 1
        datagrams.data[row, : min(size, DATAGRAM_BYTES)] = np.frombuffer(view[: min(size, DATAGRAM_BYTES)], np.uint8)
        datagrams.length[row] = size if size <= DATAGRAM_BYTES else DATAGRAM_DROPPED
        datagrams.address[row] = address
        datagrams.peer[row] = peer
        datagrams.received_ns[row] = now_ns
        datagrams.count += 1

    def statistics(self) -> dict[str, int]:
        """Datagrams and bytes, both ways, and drops by reason, since the socket was made."""
        return {name: int(value) for name, value in zip(COUNTERS, self._counts, strict=True)}


class ServerSocket(_Socket):
    """A bound UDP socket that sends and receives whole batches.

    Args:
        address: Where to bind: an `Address`, or its text. Port 0 takes a free one; `[::]` takes IPv4 as well.
        buffer_bytes: Wanted size of the kernel's buffers, each way; the system may give less.
        batched: Whether to use recvmmsg and sendmmsg; refused quietly where the system has none (`BATCHED`).
        stamped: Whether the system says when each datagram arrived; without, it counts as arrived when it was read.

    Raises:
        SocketError: It cannot be bound; names the address, the port and the remedy.
    """

    def __init__(
        self,
        address: Address | str,
        *,
        buffer_bytes: int = BUFFER_BYTES,
        batched: bool = BATCHED,
        stamped: bool = True,
    ) -> None:
        super().__init__()
        wanted = parse_address(address) if isinstance(address, str) else address
        family = socket.AF_INET if wanted.ip.version == 4 else socket.AF_INET6
        try:
            handle = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as exc:
            raise _failure(f"cannot open UDP {wanted}", exc) from exc
        try:
            if family == socket.AF_INET6:
                handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            _enlarge(handle, buffer_bytes)
            handle.bind(_sockaddr(wanted, family) or ("", 0))
            handle.setblocking(False)
        except OSError as exc:
            handle.close()
            raise _failure(f"cannot bind UDP {wanted}", exc) from exc
        self._socket, self._family = handle, int(family)
        self.address = _from_sockaddr(handle.getsockname())
        self.batched = batched and BATCHED
        if self.batched and stamped:
            _stamp(handle)
        self._messages = _messages(MESSAGES_PER_CALL)
        self._poll: I32 = np.zeros(2, dtype=np.int32)

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._socket.fileno()

    def receive(self, datagrams: Datagrams, now_ns: int = 0) -> int:
        """Replace the content of `datagrams` by what the socket holds, as far as it fits; returns the count.

        A datagram longer than 1,280 bytes is counted and left as a dropped row; an empty one as a row of length 0.

        Args:
            datagrams: To be filled.
            now_ns: Monotonic time [ns]; `received_ns` becomes this less the time that each datagram waited in the
                socket, at most a second. Without it, `received_ns` is 0: not known.
        """
        datagrams.count = 0
        if not self.batched:
            return self._receive_plain(datagrams, now_ns)
        datagrams.count = socket_receive(
            self._socket.fileno(),
            self._messages,
            datagrams.data,
            datagrams.length,
            datagrams.address,
            datagrams.received_ns,
            now_ns,
            self._counts,
            self._scratch,
        )
        return datagrams.count

    def send(self, datagrams: Datagrams) -> None:
        """Send all of `datagrams` and clear it; what cannot be sent now is dropped and counted."""
        if self.batched:
            socket_send(
                self._socket.fileno(),
                self._family,
                self._messages,
                datagrams.data,
                datagrams.length,
                datagrams.address,
                datagrams.count,
                self._counts,
                self._scratch,
            )
        else:
            self._send_plain(datagrams)
        datagrams.count = 0

    def _receive_plain(self, datagrams: Datagrams, now_ns: int) -> int:
        while datagrams.count < datagrams.capacity:
            try:
                size, sender = self._socket.recvfrom_into(self._plain)
            except BlockingIOError:
                self._counts[EMPTY_RECEIVES] += 1
                break
            except OSError:
                self._counts[RECEIVE_ERRORS] += 1
                break
            self._store(datagrams, size, _from_sockaddr(sender).row(), -1, now_ns)
        return datagrams.count

    def _send_plain(self, datagrams: Datagrams) -> None:
        for row in range(datagrams.count):
            target = _sockaddr(datagrams.address_at(row), self._family)
            if target is None or datagrams.length[row] < 0:
                self._counts[UNROUTABLE] += 1
                continue
            datagram = datagrams.datagram(row)
            self._count_send(len(datagram), partial(self._socket.sendto, datagram, target))

    def wait(self, timeout_ns: int) -> bool:
        """Wait until something arrived, at most `timeout_ns`, to the nanosecond; True where something did."""
        timeout_ns = max(0, timeout_ns)
        if self.batched:
            return bool(poll_one(self._socket.fileno(), timeout_ns, self._poll, self._scratch) > 0)
        ready, _, _ = select.select([self._socket], [], [], timeout_ns / 1e9)
        return bool(ready)

    def statistics(self) -> dict[str, int]:
        """Counters, and what the kernel says: its drops (`dropped_kernel`) and the size of its receive buffer."""
        counts = super().statistics()
        counts["receive_buffer_bytes"] = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        with contextlib.suppress(OSError, struct.error):
            memory = self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36)
            counts["dropped_kernel"] = struct.unpack("=9I", memory)[8]
        return counts

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SocketGroup(_Socket):
    """One UDP socket per client, opened and connected on first use and again when the client's server changes.

    Args:
        count: Number of clients, up to 65,536; datagrams name theirs in `peer`.
        batched: Whether to send and receive in a kernel; refused quietly where the system cannot (`BATCHED`).

    Raises:
        SocketError: `count` is out of range.
    """

    def __init__(self, count: int, *, batched: bool = BATCHED) -> None:
        super().__init__()
        if not 1 <= count <= SOCKETS_MAX:
            raise SocketError(f"sockets: count is {count}; choose 1 to {SOCKETS_MAX}")
        self.count, self.batched = count, batched and BATCHED
        self._sockets: list[socket.socket | None] = [None] * count
        self._descriptors: I32 = np.full(count, -1, dtype=np.int32)
        self._connected: U64 = np.zeros((count, ADDRESS_WORDS), dtype=np.uint64)
        self._polls: I32 = np.zeros((count, 2), dtype=np.int32)
        self._elsewhere: I32 = np.zeros(1, dtype=np.int32)
        self._message = _messages(1)
        self._first = 0

    def _open(self, client: int, address: U64) -> socket.socket:
        """A fresh socket, connected to the address: nothing of an earlier server can still arrive on it."""
        target = address_of(address)
        family = socket.AF_INET if target.ip.version == 4 else socket.AF_INET6
        try:
            handle = socket.socket(family, socket.SOCK_DGRAM)
        except OSError as exc:
            raise _failure(f"cannot open UDP socket {client} of {self.count}", exc) from exc
        handle.setblocking(False)
        if self.batched:
            _stamp(handle)
        with contextlib.suppress(OSError):  # no route: sending fails too, and is counted there
            handle.connect(_sockaddr(target, family) or ("", 0))
        old = self._sockets[client]
        if old is not None:
            old.close()
        self._sockets[client], self._descriptors[client] = handle, handle.fileno()
        self._connected[client] = address
        return handle

    def rebind(self, client: int) -> None:
        """Give up a client's socket; its next datagram leaves from another port, as after a change of network."""
        handle = self._sockets[client]
        if handle is not None:
            handle.close()
        self._sockets[client], self._descriptors[client] = None, -1

    def _send_row(self, datagrams: Datagrams, row: int) -> None:
        client = int(datagrams.peer[row])
        handle = self._sockets[client]
        if handle is None or not np.array_equal(self._connected[client], datagrams.address[row]):
            handle = self._open(client, datagrams.address[row])
        datagram = datagrams.datagram(row)
        self._count_send(len(datagram), partial(handle.send, datagram))

    def send(self, datagrams: Datagrams) -> None:
        """Send all of `datagrams`, each from the socket of its client, and clear it.

        Raises:
            SocketError: A new socket was needed and could not be had.
        """
        if self._elsewhere.shape[0] < datagrams.capacity:
            self._elsewhere = np.zeros(datagrams.capacity, dtype=np.int32)
        rows = range(datagrams.count)
        if self.batched:
            missed = group_send(
                self._descriptors,
                self._connected,
                datagrams.data,
                datagrams.length,
                datagrams.address,
                datagrams.peer,
                datagrams.count,
                self._elsewhere,
                self._counts,
                self._scratch,
            )
            for row in self._elsewhere[:missed].tolist():
                self._send_row(datagrams, row)
        else:
            for row in rows:
                if 0 <= datagrams.peer[row] < self.count and datagrams.length[row] >= 0:
                    self._send_row(datagrams, row)
                else:
                    self._counts[UNROUTABLE] += 1
        datagrams.count = 0

    def receive(self, datagrams: Datagrams, now_ns: int = 0) -> int:
        """Replace the content of `datagrams` by what the sockets hold, as far as it fits; returns the count.

        Args:
            datagrams: To be filled.
            now_ns: Monotonic time [ns], for `received_ns`, as `ServerSocket.receive` has it.
        """
        datagrams.count = 0
        if not self.batched:
            return self._receive_plain(datagrams, now_ns)
        arena = (datagrams.data, datagrams.length, datagrams.address, datagrams.peer, datagrams.received_ns)
        datagrams.count = group_receive(
            self._descriptors,
            self._connected,
            self._polls,
            self._first,
            self._message,
            arena,
            now_ns,
            self._counts,
            self._scratch,
        )
        self._turn(datagrams)
        return datagrams.count

    def _turn(self, datagrams: Datagrams) -> None:
        """Where the arena was full, start with another socket next time."""
        if datagrams.count == datagrams.capacity:
            self._first = (int(datagrams.peer[datagrams.count - 1]) + 1) % self.count

    def _receive_plain(self, datagrams: Datagrams, now_ns: int) -> int:
        for index in range(self.count):
            client = (self._first + index) % self.count
            handle = self._sockets[client]
            while handle is not None and datagrams.count < datagrams.capacity:
                try:
                    size = handle.recv_into(self._plain)
                except BlockingIOError:
                    self._counts[EMPTY_RECEIVES] += 1
                    break
                except OSError:
                    self._counts[RECEIVE_ERRORS] += 1
                    break
                self._store(datagrams, size, self._connected[client], client, now_ns)
        self._turn(datagrams)
        return datagrams.count

    def close(self) -> None:
        """Close all sockets; again is harmless."""
        for handle in self._sockets:
            if handle is not None:
                handle.close()
        self._sockets = [None] * self.count
        self._descriptors[:] = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
