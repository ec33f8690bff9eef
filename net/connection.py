"""The client side of netcode 1.02, without I/O or a clock: a group of clients as columns; a game client is one of one.

Per frame: `receive` a batch of datagrams, look at `state` and `payloads`, `send` payloads, `advance`; then hand
`outgoing` to the sockets. Datagrams carry the index of their client as `peer`.

State machine (STANDARD.md, "Client State Machine"); a failed attempt goes on to the next server of the token:

    REQUESTING -challenge-> RESPONDING -keep-alive-> CONNECTED -disconnect-> DISCONNECTED, -silence-> TIMED_OUT
    REQUESTING -silence-> REQUEST_TIMED_OUT    RESPONDING -silence-> RESPONSE_TIMED_OUT
    either of both: -denied-> DENIED, -life of the token over-> TOKEN_EXPIRED
"""

from enum import IntEnum

import numpy as np

from net.address import ADDRESS_WORDS, Address, address_of
from net.connection_kernels import (
    NO_VERDICT,
    GroupColumns,
    GroupOutputs,
    PeerArrays,
    group_advance,
    group_close,
    group_receive,
    group_send,
)
from net.datagrams import Datagrams, Payloads
from net.errors import NetError, TokenError
from net.packets import CHALLENGE_BODY_BYTES, REQUEST_BYTES, Drop, request_packet
from net.packets_kernels import new_scratch
from net.tokens import KEY_BYTES, SERVERS_MAX, read_token
from sim.arrays import I8, I32, I64, U8, U64

__all__ = ["RETRY_NS", "ClientGroup", "ClientState"]

RETRY_NS = 100_000_000
_NS = 1_000_000_000
_FOREVER_S = 2**32  # a token's life is cut to this, so that nanoseconds fit in 64 bits


class ClientState(IntEnum):
    """States of the standard; negative ones are errors."""

    TOKEN_EXPIRED = -6
    INVALID_TOKEN = -5
    TIMED_OUT = -4
    RESPONSE_TIMED_OUT = -3
    REQUEST_TIMED_OUT = -2
    DENIED = -1
    DISCONNECTED = 0
    REQUESTING = 1
    RESPONDING = 2
    CONNECTED = 3


class ClientGroup:
    """Connects `count` clients, each with a token of its own, and seals and opens their packets.

    Args:
        count: Number of clients.
        protocol_id: Of the game and its version, 64 bits.
        batch: Largest number of datagrams `receive` is given at once.

    Attributes:
        state: `ClientState` of each client, shape (count,), int8.
        client_index: Slot on the server, valid once connected, shape (count,), int32.
        payloads: Of the last `receive`.
        outgoing: Datagrams to be sent; the caller sends and clears them. Overflow is dropped and counted.
        drops: Counts by `net.packets.Drop`, int64.

    Raises:
        NetError: `count` is not positive.
    """

    def __init__(self, count: int, *, protocol_id: int, batch: int = 4096) -> None:
        if count < 1:
            raise NetError(f"clients: count is {count}; it must be at least 1")
        self.count, self.protocol_id = count, protocol_id
        self.state: I8 = np.zeros(count, dtype=np.int8)
        self._verdict: I8 = np.full(count, NO_VERDICT, dtype=np.int8)
        self._server: I32 = np.zeros((count, 2), dtype=np.int32)
        self._servers: U64 = np.zeros((count, SERVERS_MAX, ADDRESS_WORDS), dtype=np.uint64)
        self._send_key: U8 = np.zeros((count, KEY_BYTES), dtype=np.uint8)
        self._receive_key: U8 = np.zeros((count, KEY_BYTES), dtype=np.uint8)
        self._send_sequence: U64 = np.zeros(count, dtype=np.uint64)
        self._newest: U64 = np.zeros(count, dtype=np.uint64)
        self._window: U64 = np.zeros((count, 4), dtype=np.uint64)
        self._request: U8 = np.zeros((count, REQUEST_BYTES), dtype=np.uint8)
        self._challenge: U8 = np.zeros((count, CHALLENGE_BODY_BYTES), dtype=np.uint8)
        self._place: I32 = np.full((count, 2), -1, dtype=np.int32)
        self._times: I64 = np.zeros((count, 5), dtype=np.int64)
        self._columns: GroupColumns = (
            self.state,
            self._verdict,
            self._server,
            self._servers,
            self._send_key,
            self._receive_key,
            self._send_sequence,
            self._newest,
            self._window,
            self._request,
            self._challenge,
            self._place,
            self._times,
        )
        self._reported: I8 = self.state.copy()
        self._scratch = new_scratch(protocol_id)
        self.payloads = Payloads(batch)
        self.outgoing = Datagrams(12 * count + 16)  # a payload, a repeat and ten disconnects each
        out = self.outgoing
        self._outgoing: PeerArrays = (out.data, out.length, out.address, out.peer)
        self.drops: I64 = np.zeros(len(Drop), dtype=np.int64)
        self._counts: I64 = np.zeros(1, dtype=np.int64)
        self._outputs: GroupOutputs = (
            self.payloads.client,
            self.payloads.offset,
            self.payloads.length,
            self.drops,
            self._counts,
        )

    @property
    def client_index(self) -> I32:
        """Slot of each client on its server, -1 before it was ever connected; shape (count,), int32."""
        return self._place[:, 0]

    def server_address(self, client: int) -> Address:
        """The server that a client talks to or tried last."""
        return address_of(self._servers[client, self._server[client, 0]])

    def connect(self, client: int, token: bytes, now_ns: int) -> None:
        """Start to connect a client with a public connect token; one that is connected is dropped without a word.

        Raises:
            TokenError: The token is not valid, or for another protocol; the state is then `INVALID_TOKEN`.
        """
        try:
            public = read_token(token)
            if public.protocol_id != self.protocol_id:
                raise TokenError(
                    f"token: protocol_id is {public.protocol_id:#x}, this client's is {self.protocol_id:#x}"
                )
        except TokenError:
            self.state[client] = ClientState.INVALID_TOKEN
            raise
        request = np.frombuffer(request_packet(public), dtype=np.uint8)
        # With the same token, and so the same keys, sequences go on: a nonce is never used for two packets.
        if not np.array_equal(self._request[client], request):
            self._send_sequence[client] = 0
        self._request[client] = request
        for index, address in enumerate(public.addresses):
            self._servers[client, index] = address.words()
        self._server[client] = 0, len(public.addresses)
        self._send_key[client] = np.frombuffer(public.client_to_server_key, dtype=np.uint8)
        self._receive_key[client] = np.frombuffer(public.server_to_client_key, dtype=np.uint8)
        self._newest[client] = 0
        self._window[client] = 0
        life_s = min(public.expire_unix_s - public.create_unix_s, _FOREVER_S)
        timeout_ns = max(0, public.timeout_s) * _NS
        self._times[client] = now_ns, now_ns - RETRY_NS, now_ns, timeout_ns, life_s * _NS
        self._verdict[client] = NO_VERDICT
        self.state[client] = ClientState.REQUESTING

    def receive(self, datagrams: Datagrams, now_ns: int) -> int:
        """Take a batch, opened in place; returns the number of payloads. What is not valid is counted in `drops`.

        Raises:
            NetError: The batch is larger than this group was made for.
        """
        if datagrams.count > self.payloads.client.shape[0]:
            raise NetError(
                f"clients: {datagrams.count} datagrams at once; made for batch={self.payloads.client.shape[0]}"
            )
        arrays = (datagrams.data, datagrams.length, datagrams.address, datagrams.peer)
        group_receive(self._columns, arrays, self._outputs, self._scratch, datagrams.count, now_ns)
        self.payloads.count, self.payloads.buffer = int(self._counts[0]), datagrams.flat
        return self.payloads.count

    def send(self, clients: I32, buffer: U8, offsets: I64, lengths: I32, now_ns: int) -> int:
        """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, from `clients[i]` into `outgoing`.

        Args:
            clients: Which clients send, shape (n,), int32.
            buffer: Shape (bytes,), uint8.
            offsets: Shape (n,), int64.
            lengths: 1 to 1,200, shape (n,), int32.
            now_ns: Monotonic time [ns].

        Returns:
            How many datagrams `outgoing` then holds. What is out of range, or of a client that is not connected, is
            dropped and counted.

        Raises:
            NetError: The arrays are not of one length.
        """
        if not clients.shape == offsets.shape == lengths.shape:
            raise NetError(f"send: {clients.shape} clients, {offsets.shape} offsets, {lengths.shape} lengths")
        out = self.outgoing
        out.count = group_send(
            self._columns,
            buffer,
            clients,
            offsets,
            lengths,
            now_ns,
            self._outgoing,
            out.count,
            self._scratch,
            self.drops,
        )
        return out.count

    def advance(self, now_ns: int) -> None:
        """Move the state machines to `now_ns`, and queue requests, responses and keep-alives that are due (10 Hz)."""
        self.outgoing.count = group_advance(
            self._columns, now_ns, RETRY_NS, self._outgoing, self.outgoing.count, self._scratch, self.drops
        )

    def disconnect(self, client: int, now_ns: int) -> bool:
        """Leave: ten disconnect packets where it was connected; False where there was nothing to leave."""
        if self.state[client] <= ClientState.DISCONNECTED:
            return False
        if self.state[client] == ClientState.CONNECTED:
            self.outgoing.count = group_close(
                self._columns,
                client,
                now_ns,
                self._outgoing,
                self.outgoing.count,
                self._scratch,
                self.drops,
            )
        self.state[client] = ClientState.DISCONNECTED
        self._verdict[client] = NO_VERDICT
        return True

    def take_changes(self) -> I64:
        """Indices of clients whose state is not what it was at the last call, ascending, int64."""
        changed = np.flatnonzero(self.state != self._reported)
        self._reported[:] = self.state
        return changed

    def statistics(self) -> dict[str, int]:
        """Counts of clients by state, and of drops by reason (`drop_replayed` and so on)."""
        counts = {state.name.lower(): int(np.count_nonzero(self.state == state)) for state in ClientState}
        return counts | {f"drop_{reason.name.lower()}": int(self.drops[reason]) for reason in Drop}
