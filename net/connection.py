"""The client side of netcode 1.02, without I/O or a clock: a group of clients as columns; a game client is one of one.

Per frame: `receive` a batch of datagrams, look at `state` and `payloads`, `send` payloads, `advance`; then hand
`outgoing` to the sockets. Datagrams carry the index of their client as `peer`.

State machine (STANDARD.md, "Client State Machine"); a failed attempt goes on to the next server of the token:

    REQUESTING -challenge-> RESPONDING -keep-alive-> CONNECTED -disconnect-> DISCONNECTED, -silence-> TIMED_OUT
    REQUESTING -silence-> REQUEST_TIMED_OUT    RESPONDING -silence-> RESPONSE_TIMED_OUT
    either of both: -denied-> DENIED, -life of the token over-> TOKEN_EXPIRED
"""

from enum import IntEnum
from types import ModuleType

import numpy as np

from net import connection_kernels, plain, plain_group
from net.address import ADDRESS_WORDS, Address, address_of
from net.connection_kernels import (
    CLIENT_INDEX,
    HANDSHAKE_BYTES,
    LIFE,
    NO_VERDICT,
    SERVER_COUNT,
    SERVER_INDEX,
    START,
    STATE,
    STATUS_COLUMNS,
    TIMES_COLUMNS,
    VERDICT,
    GroupColumns,
)
from net.datagrams import Datagrams, Payloads
from net.errors import NetError, TokenError
from net.host_kernels import DISCONNECTS, close_slot
from net.packets import REQUEST_BYTES, Drop, request_packet
from net.packets_kernels import (
    KEYS_BYTES,
    LAST_RECEIVE,
    LAST_SEND,
    SEND_SEQUENCE,
    TIMEOUT,
    WORDS,
    DatagramArrays,
    new_scratch,
)
from net.tokens import SERVERS_MAX, read_token
from sim.arrays import I32, I64, U8, U64

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
        batched: Whether whole batches run in kernels; otherwise packet by packet in Python
            (`net.plain_group`), with the same results.

    Attributes:
        state: `ClientState` of each client, shape (count,), int32.
        client_index: Slot of each client on its server, -1 before it was ever connected; shape (count,), int32.
        last_receive_ns: When each client last heard its server, int64 [ns]; shape (count,).
        payloads: Of the last `receive`.
        outgoing: Datagrams to be sent; the caller sends and clears them. Overflow is dropped and counted.
        drops: Counts by `net.packets.Drop`, int64.

    Raises:
        NetError: `count` is not positive.
    """

    def __init__(self, count: int, *, protocol_id: int, batch: int = 4096, batched: bool = True) -> None:
        if count < 1:
            raise NetError(f"clients: count is {count}; it must be at least 1")
        self.count, self.protocol_id = count, protocol_id
        self._path: ModuleType = connection_kernels if batched else plain_group
        self._close_slot = close_slot if batched else plain.close_slot
        self._status: I32 = np.zeros((count, STATUS_COLUMNS), dtype=np.int32)
        self._status[:, VERDICT] = NO_VERDICT
        self._status[:, CLIENT_INDEX] = -1
        self.state: I32 = self._status[:, STATE]
        self.client_index: I32 = self._status[:, CLIENT_INDEX]
        self._words: U64 = np.zeros((count, WORDS), dtype=np.uint64)
        self._keys: U8 = np.zeros((count, KEYS_BYTES), dtype=np.uint8)
        self._times: I64 = np.zeros((count, TIMES_COLUMNS), dtype=np.int64)
        self.last_receive_ns: I64 = self._times[:, LAST_RECEIVE]
        self._servers: U64 = np.zeros((count, SERVERS_MAX, ADDRESS_WORDS), dtype=np.uint64)
        self._handshake: U8 = np.zeros((count, HANDSHAKE_BYTES), dtype=np.uint8)
        self._columns: GroupColumns = (
            self._status,
            self._words,
            self._keys,
            self._times,
            self._servers,
            self._handshake,
        )
        self._reported: I32 = self.state.copy()
        self._scratch = new_scratch(protocol_id)
        self.payloads = Payloads(batch)
        self.outgoing = Datagrams(12 * count + 16)  # a payload, a repeat and ten disconnects each
        out = self.outgoing
        self._outgoing: DatagramArrays = (out.data, out.length, out.address)
        self.drops: I64 = np.zeros(len(Drop), dtype=np.int64)

    def server_address(self, client: int) -> Address:
        """The server that a client talks to or tried last."""
        return address_of(self._words[client, :ADDRESS_WORDS])

    def connect(self, client: int, token: bytes, now_ns: int) -> None:
        """Start to connect a client with a public connect token; one that is connected is dropped without a word.

        Raises:
            TokenError: The token is not valid, or for another protocol; the state is then `INVALID_TOKEN`.
        """
        try:
            public = read_token(token)
            if public.protocol_id != self.protocol_id:
                raise TokenError(
                    f"token: protocol_id is {public.protocol_id:#x}, this client's is {self.protocol_id:#x}; the "
                    "server has another game, map, tick rate or version: run the same on both (see hitreg protocol)"
                )
        except TokenError:
            self.state[client] = ClientState.INVALID_TOKEN
            raise
        request = np.frombuffer(request_packet(public), dtype=np.uint8)
        words, handshake = self._words[client], self._handshake[client]
        # With the same token, and so the same keys, sequences go on: a nonce is never used for two packets.
        sequence = words[SEND_SEQUENCE] if np.array_equal(handshake[:REQUEST_BYTES], request) else 0
        handshake[:REQUEST_BYTES] = request
        for index, address in enumerate(public.addresses):
            self._servers[client, index] = address.words()
        words[:] = 0
        words[:ADDRESS_WORDS] = self._servers[client, 0]
        words[SEND_SEQUENCE] = sequence
        keys = public.server_to_client_key + public.client_to_server_key
        self._keys[client] = np.frombuffer(keys, dtype=np.uint8)
        life_s = min(public.expire_unix_s - public.create_unix_s, _FOREVER_S)
        times = self._times[client]
        times[START] = times[LAST_RECEIVE] = now_ns
        times[LAST_SEND] = now_ns - RETRY_NS
        times[TIMEOUT], times[LIFE] = max(0, public.timeout_s) * _NS, life_s * _NS
        status = self._status[client]
        status[VERDICT], status[SERVER_INDEX], status[SERVER_COUNT] = NO_VERDICT, 0, len(public.addresses)
        status[STATE] = ClientState.REQUESTING

    def receive(self, datagrams: Datagrams, now_ns: int) -> int:
        """Take a batch, opened in place; returns the number of payloads. What is not valid is counted in `drops`.

        Raises:
            NetError: The batch is larger than this group was made for.
        """
        if datagrams.count > self.payloads.client.shape[0]:
            raise NetError(
                f"clients: {datagrams.count} datagrams at once; made for batch={self.payloads.client.shape[0]}"
            )
        payloads = self.payloads
        payloads.buffer = datagrams.flat
        payloads.count = self._path.group_receive(
            self._columns,
            (datagrams.data, datagrams.length, datagrams.address),
            datagrams.peer,
            datagrams.received_ns,
            (payloads.client, payloads.offset, payloads.length, payloads.received_ns),
            self.drops,
            self._scratch,
            datagrams.count,
            now_ns,
        )
        return payloads.count

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
        out.count = self._path.group_send(
            self._columns,
            buffer,
            clients,
            offsets,
            lengths,
            now_ns,
            self._outgoing,
            out.peer,
            out.count,
            self._scratch,
            self.drops,
        )
        return out.count

    def advance(self, now_ns: int) -> None:
        """Move the state machines to `now_ns`, and queue requests, responses and keep-alives that are due (10 Hz)."""
        out = self.outgoing
        out.count = self._path.group_advance(
            self._columns, now_ns, RETRY_NS, self._outgoing, out.peer, out.count, self._scratch, self.drops
        )

    def disconnect(self, client: int, now_ns: int) -> bool:
        """Leave: ten disconnect packets where it was connected; False where there was nothing to leave."""
        if self.state[client] <= ClientState.DISCONNECTED:
            return False
        if self.state[client] == ClientState.CONNECTED:
            out, first = self.outgoing, self.outgoing.count
            out.count = self._close_slot(
                self._words,
                self._keys,
                self._times,
                client,
                DISCONNECTS,
                now_ns,
                self._outgoing,
                out.count,
                self._scratch,
                self.drops,
            )
            out.peer[first : out.count] = client
        self.state[client] = ClientState.DISCONNECTED
        self._status[client, VERDICT] = NO_VERDICT
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
