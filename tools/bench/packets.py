"""Server CPU per packet at 60 Hz over loopback: 100 bytes in from and 200 bytes out to each client, every tick.

Measured: thread CPU time of receive + open + acknowledge + compose + seal + send + keep-alives and time-outs of the
server alone; the clients run in between. Value: that time by the number of packets, in and out. Reference: the same
duties on the same traffic, with the acknowledgements, a socket call and `cryptography`'s ChaCha20Poly1305 packet by
packet, as a plain Python server has it. Bytes are those of netcode payloads, the header of acknowledgements included.
"""

import socket
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.endpoint import Endpoint
from net.endpoint_kernels import PACKET_HEADER_BYTES, PLAIN
from net.host import KEEP_ALIVE_NS, Host
from net.packets import Kind
from net.tokens import VERSION_INFO, issue_token
from net.udp import ServerSocket, SocketGroup
from sim.arrays import I32, I64, U8
from tools.bench.harness import Row, row

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = ["run"]

CLIENTS = (64, 256, 1_000)
IN_BYTES, OUT_BYTES = 100, 200
HEAD_BYTES = PACKET_HEADER_BYTES + 1  # and the head of one section
TICK_NS = 1_000_000_000 // 60
TIMEOUT_NS = 10_000_000_000
ROUNDS, WARM_ROUNDS = 60, 5
PROTOCOL, KEY = 0xBE7C, bytes(32)


class _Rig:
    """A host and its clients, connected over loopback, under a virtual clock."""

    def __init__(self, clients: int) -> None:
        self.now = 10**12
        self.server, self.sockets = ServerSocket("127.0.0.1:0"), SocketGroup(clients)
        self.host = Host(
            protocol_id=PROTOCOL,
            private_key=KEY,
            addresses=[self.server.address],
            clients_max=clients,
            now_ns=self.now,
            unix_ns=10**18,
        )
        self.group = ClientGroup(clients, protocol_id=PROTOCOL)
        self.endpoints = Endpoint(clients, batch=4096), Endpoint(clients, batch=4096)  # the server's, the clients'
        self.arena = Datagrams(4096)
        self.replies = Datagrams(4096)
        for client in range(clients):
            token = issue_token(
                protocol_id=PROTOCOL,
                private_key=KEY,
                client_id=client + 1,
                addresses=[self.server.address],
                now_unix_s=10**9,
            )
            self.group.connect(client, token, self.now)
        self.everyone: I32 = np.arange(clients, dtype=np.int32)
        self.zeros: I64 = np.zeros(clients, dtype=np.int64)
        self.buffer: U8 = np.zeros(1200, dtype=np.uint8)
        self.in_lengths: I32 = np.full(clients, IN_BYTES - HEAD_BYTES, dtype=np.int32)
        self.out_lengths: I32 = np.full(clients, OUT_BYTES - HEAD_BYTES, dtype=np.int32)
        while (self.group.state != ClientState.CONNECTED).any():
            self.clients_step()
            self.server_step()
        for endpoint in self.endpoints:
            endpoint.open(range(clients), self.now)

    def clients_step(self) -> None:
        """The clients take what came and send one payload each."""
        self.now += TICK_NS
        while self.sockets.receive(self.replies, self.now):
            self.group.receive(self.replies, self.now)
        self.group.send(self.everyone, self.buffer, self.zeros, self.in_lengths, self.now)
        self.group.advance(self.now)
        self.sockets.send(self.group.outgoing)

    def server_step(self) -> int:
        """One tick of the server; returns payloads received."""
        self.server.receive(self.arena, self.now)
        received = self.host.receive(self.arena, self.now)
        self.host.send(self.everyone, self.buffer, self.zeros, self.out_lengths, self.now)
        self.host.tick(self.now)
        self.server.send(self.host.outgoing)
        return received

    def close(self) -> None:
        """Give the sockets back."""
        self.server.close()
        self.sockets.close()


_HEAD = struct.Struct("<HHIBB")


class _Peer:
    """What a per-packet server keeps of a client."""

    __slots__ = (
        "ack", "ack_mask", "acked", "cipher", "heard", "newest", "packet", "round_trip", "send_sequence", "sent",
        "under_way", "window",
    )  # fmt: skip

    def __init__(self, cipher: "ChaCha20Poly1305") -> None:
        self.cipher = cipher
        self.newest = self.window = self.send_sequence = self.heard = self.sent = 0
        self.packet, self.ack, self.ack_mask, self.acked, self.round_trip = 0, 0xFFFF, 0, 0xFFFF, 0.0
        self.under_way: dict[int, int] = {}

    def wrap(self, content: bytes, now: int) -> bytes:
        """A packet around a payload: sequence, acknowledgements, one section."""
        head = _HEAD.pack(self.packet, self.ack, self.ack_mask, 0, 0x80 | PLAIN)
        self.under_way[self.packet] = now
        self.packet = (self.packet + 1) & 0xFFFF
        return head + content

    def unwrap(self, packet: bytes, now: int) -> bytes | None:
        """The payload of a packet, after its acknowledgements were taken."""
        if len(packet) <= HEAD_BYTES:
            return None
        sequence, ack, mask, _, head = _HEAD.unpack_from(packet)
        ahead = (sequence - self.ack) & 0xFFFF
        if ahead < 0x8000:
            self.ack_mask = (self.ack_mask << ahead | 1 << ahead - 1) & 0xFFFFFFFF if 0 < ahead <= 32 else 0
            self.ack = sequence
        else:
            self.ack_mask |= 1 << (0xFFFF - ahead) & 0xFFFFFFFF
        fresh = (ack - self.acked) & 0xFFFF
        if fresh < 0x8000:
            for back in range(min(fresh, 33)):
                if back == 0 or mask >> back - 1 & 1:
                    sent = self.under_way.pop((ack - back) & 0xFFFF, None)
                    if sent is not None and back == 0:
                        self.round_trip += (now - sent - self.round_trip) / 8
            self.acked = ack
        return packet[HEAD_BYTES:] if head == 0x80 | PLAIN else None

    def fresh(self, sequence: int) -> bool:
        """Replay check: a window of 256 as the bits of an integer."""
        behind = self.newest - sequence
        return behind < 0 or (behind < 256 and not self.window >> behind & 1)

    def mark(self, sequence: int) -> None:
        """Replay move, after authentication."""
        ahead = sequence - self.newest
        if ahead > 0:
            self.window = (self.window << ahead | 1) & (1 << 256) - 1
            self.newest = sequence
        else:
            self.window |= 1 << -ahead


class _Reference:
    """The same duties packet by packet: the steps of the standard, recvfrom, decrypt, encrypt, sendto, time-outs."""

    def __init__(self, clients: int) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        self.now = 0
        self.server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.server.bind(("127.0.0.1", 0))
        self.server.setblocking(False)
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(clients)]
        self.peers: dict[tuple[str, int], _Peer] = {}
        self.clients: list[tuple[socket.socket, _Peer]] = []
        for index, handle in enumerate(self.sockets):
            handle.connect(self.server.getsockname())
            handle.setblocking(False)
            cipher = ChaCha20Poly1305(index.to_bytes(32, "little"))
            self.peers[handle.getsockname()] = _Peer(cipher)
            self.clients.append((handle, _Peer(cipher)))
        self.associated = VERSION_INFO + struct.pack("<Q", PROTOCOL)

    def _seal(self, peer: _Peer, kind: int, body: bytes) -> bytes:
        """The next packet to a peer."""
        peer.send_sequence += 1
        sequence = peer.send_sequence
        size = max(1, (sequence.bit_length() + 7) // 8)
        prefix = bytes([size << 4 | kind])
        sealed = peer.cipher.encrypt(struct.pack("<IQ", 0, sequence), body, self.associated + prefix)
        peer.sent = self.now
        return prefix + sequence.to_bytes(size, "little") + sealed

    def _open(self, datagram: bytes, sender: tuple[str, int]) -> bytes | None:
        """The payload of a datagram, by the steps of the standard."""
        from cryptography.exceptions import InvalidTag

        if len(datagram) < 18:
            return None
        kind, size = datagram[0] & 15, datagram[0] >> 4
        if kind not in (Kind.KEEP_ALIVE, Kind.PAYLOAD) or not 1 <= size <= 8 or len(datagram) < 17 + size:
            return None
        peer = self.peers.get(sender)
        sequence = int.from_bytes(datagram[1 : 1 + size], "little")
        if peer is None or not peer.fresh(sequence):
            return None
        nonce = struct.pack("<IQ", 0, sequence)
        try:
            body = peer.cipher.decrypt(nonce, datagram[1 + size :], self.associated + datagram[:1])
        except InvalidTag:
            return None
        peer.mark(sequence)
        peer.heard = self.now
        return peer.unwrap(body, self.now) if kind == Kind.PAYLOAD and 1 <= len(body) <= 1200 else None

    def clients_step(self) -> None:
        """The clients acknowledge what came, without a look inside, and send one packet each."""
        self.now += TICK_NS
        for handle, peer in self.clients:
            try:
                while True:
                    handle.recv(2048)
                    peer.ack, peer.ack_mask = (peer.ack + 1) & 0xFFFF, 0xFFFFFFFF
            except BlockingIOError:
                handle.send(self._seal(peer, Kind.PAYLOAD, peer.wrap(bytes(IN_BYTES - HEAD_BYTES), self.now)))

    def server_step(self) -> int:
        """One tick of the server; returns payloads received."""
        payloads: list[tuple[tuple[str, int], bytes]] = []
        while True:
            try:
                datagram, sender = self.server.recvfrom(2048)
            except BlockingIOError:
                break
            body = self._open(datagram, sender)
            if body is not None:
                payloads.append((sender, body))
        out = bytes(OUT_BYTES - HEAD_BYTES)
        for address, peer in self.peers.items():
            self.server.sendto(self._seal(peer, Kind.PAYLOAD, peer.wrap(out, self.now)), address)
        for address, peer in self.peers.items():
            if self.now - peer.heard > TIMEOUT_NS and peer.heard:
                peer.heard = 0
            elif self.now - peer.sent >= KEEP_ALIVE_NS:
                self.server.sendto(self._seal(peer, Kind.KEEP_ALIVE, bytes(8)), address)
        return len(payloads)

    def close(self) -> None:
        """Give the sockets back."""
        for handle in (self.server, *self.sockets):
            handle.close()


def _measure(rigs: Sequence[_Rig | _Reference], clients: int) -> list[float]:
    """Server CPU per packet of each rig [µs], in turn, median over ticks."""
    times: list[list[float]] = [[] for _ in rigs]
    for turn in range(WARM_ROUNDS + ROUNDS):
        for index, rig in enumerate(rigs):
            rig.clients_step()
            start = time.thread_time_ns()
            received = rig.server_step()
            spent = time.thread_time_ns() - start
            if turn >= WARM_ROUNDS:
                times[index].append(spent / 1e3 / (received + clients))
    return [median(values) for values in times]


def run(_data: Sequence[Path]) -> list[Row]:
    """Server CPU per packet for 64, 256 and 1,000 clients, beside the per-packet path."""
    rows = []
    for clients in CLIENTS:
        ours, theirs = _Rig(clients), _Reference(clients)
        try:
            value, reference = _measure([ours, theirs], clients)
        finally:
            ours.close()
            theirs.close()
        rows.append(row(f"{clients:,} clients", value, reference="per packet, cryptography", reference_value=reference))
    return rows
