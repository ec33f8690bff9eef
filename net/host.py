"""The server side of netcode 1.02 for up to tens of thousands of clients, without I/O or a clock.

Per tick: `receive` a batch of datagrams, take the events and payloads, `send` payloads, `tick`; then hand `outgoing`
to the socket. Payloads, keep-alives and every check of hostile bytes run in `net.host_kernels`; only authentic
requests, responses and disconnects reach the Python below, at most `handshakes_max` per batch.

Beyond the standard (netcode's later hardening, and limits of our own):
- a token is consumed when its client gets a slot, and refused from then on, even from the same address;
- the history of used tokens lives until they expire and, when full, refuses new tokens instead of forgetting;
- sequences start at a figure made from the time of day, so that a server that is restarted within the life of a
  token, whose keys it would use again, never repeats a nonce;
- a slot is used again only after its `Disconnected` event was taken, so that indices never change meaning unseen.
"""

import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from net.address import ADDRESS_WORDS, Address, address_of
from net.datagrams import Datagrams, Payloads
from net.errors import NetError
from net.host_kernels import (
    CONNECTED,
    COUNTS,
    FREE,
    PENDING,
    HostColumns,
    HostOutputs,
    close_slot,
    receive_batch,
    send_batch,
    sweep,
    table_edit,
)
from net.packets import REQUEST_BYTES, Drop, Kind, seal_packet
from net.packets_kernels import (
    KEYS_BYTES,
    LAST_RECEIVE,
    LAST_SEND,
    SEND_KEY_AT,
    SEND_SEQUENCE,
    TIMEOUT,
    WORDS,
    DatagramArrays,
    new_scratch,
)
from net.tokens import (
    CHALLENGE_TOKEN_BYTES,
    KEY_BYTES,
    MAC_BYTES,
    PRIVATE_TOKEN_BYTES,
    USER_DATA_BYTES,
    PrivateToken,
    open_challenge,
    read_private,
    seal_challenge,
)
from sim.arrays import I32, I64, U8, U64

__all__ = ["KEEP_ALIVE_NS", "Connected", "DisconnectReason", "Disconnected", "Host"]

KEEP_ALIVE_NS = 100_000_000
CLIENTS_MAX = 65_536
PENDING_NS_MAX = 60_000_000_000  # of tokens that allow silence for longer, or for ever
HANDSHAKES_PER_BATCH = 64
TOKEN_LIFETIME_S = 86_400
GLOBAL_SEQUENCE = 2**63
RESTART_SECONDS, SEQUENCES_PER_SECOND = 2**17, 2**10  # client sequences of one start: 36 h apart, 1,024 a second
_NS = 1_000_000_000


class DisconnectReason(IntEnum):
    """Why a client's slot was reset; the numbers are the reference implementation's."""

    TIMED_OUT = 1
    BY_CLIENT = 2
    BY_SERVER = 3


@dataclass(frozen=True, slots=True)
class Connected:
    """A client got a slot."""

    client: int
    client_id: int
    user_data: bytes
    address: Address


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A client's slot was reset; `detail` is what the application said."""

    client: int
    client_id: int
    reason: DisconnectReason
    detail: str = ""


@dataclass(slots=True)
class _Used:
    """A token that was seen, and from where; consumed once its client got a slot."""

    words: tuple[int, int, int]
    consumed: bool = False


@dataclass(slots=True)
class _Handshake:
    """What Python knows of a pending slot."""

    client_id: int
    mac: bytes
    timeout_ns: int


class Host:
    """Connects clients that hold a valid token, and seals and opens their packets.

    Args:
        protocol_id: Of the game and its version, 64 bits.
        private_key: Shared with whoever issues tokens, 32 bytes.
        addresses: What this server is called in tokens; may differ from what its socket is bound to.
        clients_max: Number of slots, up to 65,536.
        now_ns: Monotonic time now [ns]; later calls must not go back.
        unix_ns: Time of day at that moment [ns since 1970]; tokens expire by it.
        batch: Largest number of datagrams `receive` is given at once.
        handshakes_max: Requests and responses handled per batch; more are dropped, and clients repeat them at 10 Hz.
        pending_max: Handshakes under way; further requests are dropped.
        history_max: Tokens remembered until they expire; further tokens are dropped.
        token_lifetime_s: Tokens that expire later than this from now are dropped.
        entropy: Source of random bytes.

    Attributes:
        payloads: Of the last `receive`.
        outgoing: Datagrams to be sent; the caller sends and clears them. Overflow is dropped and counted.
        drops: Counts by `net.packets.Drop`, int64.
        state: `CONNECTED` for connected clients, shape (slots,), uint8. Of the columns the first clients_max rows are
            the clients': client_id (uint64), user_data (uint8[256]), address (uint64[3]), last_receive_ns and
            last_send_ns (int64), timeout_ns (int64, 0: none), confirmed (uint8), send_sequence (uint64).

    Raises:
        NetError: A value is out of range.
    """

    def __init__(
        self,
        *,
        protocol_id: int,
        private_key: bytes,
        addresses: Sequence[Address],
        clients_max: int,
        now_ns: int,
        unix_ns: int,
        batch: int = 4096,
        handshakes_max: int = HANDSHAKES_PER_BATCH,
        pending_max: int | None = None,
        history_max: int | None = None,
        token_lifetime_s: int = TOKEN_LIFETIME_S,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not 1 <= clients_max <= CLIENTS_MAX:
            raise NetError(f"host: clients_max is {clients_max}; choose 1 to {CLIENTS_MAX}")
        if len(private_key) != KEY_BYTES:
            raise NetError(f"host: private_key has {len(private_key)} bytes; it must have {KEY_BYTES}")
        if not addresses:
            raise NetError("host: addresses is empty; name at least one address that tokens are issued for")
        self.clients_max, self.protocol_id = clients_max, protocol_id
        self.token_lifetime_s = token_lifetime_s
        self._servers = frozenset(address.words() for address in addresses)
        self._unix_offset_ns = unix_ns - now_ns
        pending = pending_max if pending_max is not None else max(64, clients_max)
        self._history_max = history_max if history_max is not None else max(4096, 8 * clients_max)
        self._make_columns(clients_max + pending, entropy(16))
        self._make_buffers(batch, handshakes_max)
        self._scratch = new_scratch(protocol_id, private_key)
        self._challenge_key = entropy(KEY_BYTES)
        self._challenge_sequence = 0
        self._global_sequence = GLOBAL_SEQUENCE + unix_ns
        self._first_sequence = unix_ns // _NS % RESTART_SECONDS * SEQUENCES_PER_SECOND
        self._free = list(range(clients_max))
        self._free_pending = list(range(clients_max + pending - 1, clients_max - 1, -1))
        self._handshakes: dict[int, _Handshake] = {}
        self._slot_of_id: dict[int, int] = {}
        self._history: dict[bytes, _Used] = {}
        self._history_expiry: list[tuple[int, bytes]] = []
        self._connected: list[Connected] = []
        self._disconnected: list[Disconnected] = []

    def _make_columns(self, slots: int, seed: bytes) -> None:
        size = 1 << (4 * slots - 1).bit_length()
        self._table: I32 = np.zeros(size, dtype=np.int32)
        self._secret: U64 = np.frombuffer(seed, dtype=np.uint64).copy()
        flags: U8 = np.zeros((slots, 2), dtype=np.uint8)
        self._words: U64 = np.zeros((slots, WORDS), dtype=np.uint64)
        self._keys: U8 = np.zeros((slots, KEYS_BYTES), dtype=np.uint8)
        self._times: I64 = np.zeros((slots, 3), dtype=np.int64)
        self.client_id: U64 = np.zeros(self.clients_max, dtype=np.uint64)
        self.user_data: U8 = np.zeros((self.clients_max, USER_DATA_BYTES), dtype=np.uint8)
        self.state, self.confirmed = flags[:, 0], flags[:, 1]
        self.address: U64 = self._words[:, :ADDRESS_WORDS]
        self.send_sequence: U64 = self._words[:, SEND_SEQUENCE]
        self.last_receive_ns: I64 = self._times[:, LAST_RECEIVE]
        self.last_send_ns: I64 = self._times[:, LAST_SEND]
        self.timeout_ns: I64 = self._times[:, TIMEOUT]
        self._columns: HostColumns = (
            self._table,
            self._secret,
            flags,
            self._words,
            self._keys,
            self._times,
        )

    def _make_buffers(self, batch: int, handshakes_max: int) -> None:
        self.payloads = Payloads(batch)
        self.outgoing = Datagrams(2 * self.clients_max + handshakes_max + 1024)
        self._outgoing: DatagramArrays = (self.outgoing.data, self.outgoing.length, self.outgoing.address)
        self._tally: I64 = np.zeros(COUNTS + 3, dtype=np.int64)
        self.drops: I64 = self._tally[:COUNTS]
        self._slots: I32 = np.zeros(self.state.shape[0], dtype=np.int32)
        self._cold: I32 = np.zeros((handshakes_max, 2), dtype=np.int32)
        self._probe: U64 = np.zeros((1, ADDRESS_WORDS), dtype=np.uint64)
        payloads = self.payloads
        self._outputs: HostOutputs = (
            payloads.client,
            payloads.offset,
            payloads.length,
            payloads.received_ns,
            self._cold,
            self._slots,
            self._tally,
        )

    def _edit(self, slot: int, edit: int) -> int:
        """Edit the address table; see `table_edit`."""
        return int(table_edit(self._table, self._secret, self._words, self._probe, slot, edit))

    # -- the tick -----------------------------------------------------------------------------------------------

    def receive(self, datagrams: Datagrams, now_ns: int) -> int:
        """Take a batch: payloads go to `payloads`, handshakes are answered into `outgoing`; returns the payload count.

        Datagrams are opened in place. Nothing in them raises; what is not valid is counted in `drops`.

        Raises:
            NetError: The batch is larger than this host was made for.
        """
        count = datagrams.count
        if count > self.payloads.client.shape[0]:
            raise NetError(f"host: {count} datagrams at once; made for batch={self.payloads.client.shape[0]}")
        unix_s = (now_ns + self._unix_offset_ns) // _NS
        arrays = (datagrams.data, datagrams.length, datagrams.address)
        receive_batch(
            self._columns,
            arrays,
            datagrams.received_ns,
            self._outputs,
            self._scratch,
            count,
            now_ns,
            unix_s,
            self.token_lifetime_s,
        )
        payloads, cold, closed = (int(value) for value in self._tally[COUNTS:])
        self.payloads.count, self.payloads.buffer = payloads, datagrams.flat
        for slot in self._slots[:closed].tolist():
            self._reset(slot, DisconnectReason.BY_CLIENT, "")
        for row, slot in self._cold[:cold].tolist():
            datagram = datagrams.datagram(row)
            reason = (
                self._on_response(datagram, slot, datagrams.address[row], now_ns)
                if datagram[0]
                else self._on_request(datagram, datagrams.address[row], now_ns)
            )
            if reason is not None:
                self.drops[reason] += 1
        return payloads

    def send(self, clients: I32, buffer: U8, offsets: I64, lengths: I32, now_ns: int) -> int:
        """Seal payload i, `lengths[i]` bytes at `offsets[i]` of `buffer`, for `clients[i]` into `outgoing`.

        Args:
            clients: Client indices, shape (n,), int32.
            buffer: Shape (bytes,), uint8.
            offsets: Shape (n,), int64.
            lengths: 1 to 1,200, shape (n,), int32.
            now_ns: Monotonic time [ns].

        Returns:
            How many datagrams `outgoing` then holds. Payloads that are too long, outside the buffer, for a client that
            is not connected, or for which `outgoing` has no room are dropped and counted.

        Raises:
            NetError: The arrays are not of one length.
        """
        if not clients.shape == offsets.shape == lengths.shape:
            raise NetError(f"send: {clients.shape} clients, {offsets.shape} offsets, {lengths.shape} lengths")
        self.outgoing.count = send_batch(
            self._columns,
            buffer,
            clients,
            offsets,
            lengths,
            self.clients_max,
            now_ns,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
            self._tally,
        )
        return self.outgoing.count

    def tick(self, now_ns: int) -> None:
        """Send keep-alives that are due (10 Hz), reset clients that were silent for too long, forget old handshakes."""
        self.outgoing.count = sweep(
            self._columns,
            self.clients_max,
            now_ns,
            KEEP_ALIVE_NS,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
            self._tally,
            self._slots,
        )
        for slot in self._slots[: int(self._tally[COUNTS])].tolist():
            if slot < self.clients_max:
                self._reset(slot, DisconnectReason.TIMED_OUT, "")
            else:
                self._forget(slot)

    def disconnect(self, client: int, now_ns: int, *, detail: str = "") -> bool:
        """Send a client ten disconnect packets and reset its slot; False where it is not connected."""
        if not 0 <= client < self.clients_max or self.state[client] != CONNECTED:
            return False
        self.outgoing.count = close_slot(
            self._words,
            self._keys,
            self._times,
            client,
            now_ns,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
            self._tally,
        )
        self._reset(client, DisconnectReason.BY_SERVER, detail)
        return True

    def disconnect_all(self, now_ns: int, *, detail: str = "") -> int:
        """Disconnect every client; returns how many. Send `outgoing` in between where it is small."""
        clients = self.connected_clients().tolist()
        for client in clients:
            self.disconnect(client, now_ns, detail=detail)
        return len(clients)

    def take_disconnected(self) -> list[Disconnected]:
        """Events since the last call, oldest first; from now on their slots may be used again.

        Take these before `take_connected`: a slot never gets a new client before this call.
        """
        events, self._disconnected = self._disconnected, []
        for event in events:
            heapq.heappush(self._free, event.client)
        return events

    def take_connected(self) -> list[Connected]:
        """Clients connected since the last call, oldest first."""
        events, self._connected = self._connected, []
        return events

    def connected_clients(self) -> I64:
        """Indices of connected clients, ascending, int64."""
        return np.flatnonzero(self.state[: self.clients_max] == CONNECTED)

    def statistics(self) -> dict[str, int]:
        """Counts of clients, handshakes and tokens, and of drops by reason (`drop_replayed` and so on)."""
        counts = {
            "clients": int(np.count_nonzero(self.state[: self.clients_max] == CONNECTED)),
            "pending": len(self._handshakes),
            "tokens_remembered": len(self._history),
        }
        return counts | {f"drop_{reason.name.lower()}": int(self.drops[reason]) for reason in Drop}

    # -- handshakes, one at a time ------------------------------------------------------------------------------

    def _answer(self, kind: Kind, body: bytes, address: U64, key: bytes) -> None:
        """Queue a packet to someone without a slot, under the global sequence."""
        packet = seal_packet(kind, body, sequence=self._global_sequence, key=key, protocol_id=self.protocol_id)
        self._global_sequence += 1
        if not self.outgoing.append(packet, address):
            self.drops[Drop.OUTGOING_FULL] += 1

    def _remember(self, mac: bytes, words: tuple[int, int, int], expire_unix_s: int, now_ns: int) -> Drop | None:
        """Admit a token from an address once: the history of used tokens (STANDARD.md, and hardening above)."""
        used = self._history.get(mac)
        if used is not None:
            return Drop.TOKEN_REUSED if used.consumed or used.words != words else None
        unix_s = (now_ns + self._unix_offset_ns) // _NS
        while self._history_expiry and self._history_expiry[0][0] <= unix_s:
            del self._history[heapq.heappop(self._history_expiry)[1]]
        if len(self._history) >= self._history_max:
            return Drop.HISTORY_FULL
        self._history[mac] = _Used(words)
        heapq.heappush(self._history_expiry, (expire_unix_s, mac))
        return None

    def _on_request(self, datagram: bytes, address: U64, now_ns: int) -> Drop | None:
        """A request whose private token is authentic and stands decrypted in the datagram; the standard's order."""
        plain_at = REQUEST_BYTES - PRIVATE_TOKEN_BYTES
        token = read_private(datagram[plain_at : REQUEST_BYTES - MAC_BYTES])
        if token is None:
            return Drop.TOKEN_MALFORMED
        if not any(server.words() in self._servers for server in token.addresses):
            return Drop.WRONG_SERVER
        self._probe[0] = address
        slot = self._edit(0, 0)
        if 0 <= slot < self.clients_max:
            return Drop.ADDRESS_CONNECTED
        if token.client_id in self._slot_of_id:
            return Drop.CLIENT_ID_CONNECTED
        mac = datagram[-MAC_BYTES:]
        words = (int(address[0]), int(address[1]), int(address[2]))
        reason = self._remember(mac, words, int.from_bytes(datagram[22:30], "little"), now_ns)
        if reason is not None:
            return reason
        if not self._free:
            self._answer(Kind.DENIED, b"", address, token.server_to_client_key)
            return Drop.SERVER_FULL
        if not self._begin(token, mac, slot, address, now_ns):
            return Drop.PENDING_FULL
        sequence = self._challenge_sequence
        self._challenge_sequence += 1
        challenge = seal_challenge(token.client_id, token.user_data, sequence=sequence, key=self._challenge_key)
        body = sequence.to_bytes(8, "little") + challenge
        self._answer(Kind.CHALLENGE, body, address, token.server_to_client_key)
        return None

    def _begin(self, token: PrivateToken, mac: bytes, slot: int, address: U64, now_ns: int) -> bool:
        """Map an address to the keys of its token, in its own pending slot or a new one; False where all are taken."""
        if slot < 0:
            if not self._free_pending:
                return False
            slot = self._free_pending.pop()
            self.address[slot] = address
            self._edit(slot, 1)
        timeout_ns = max(0, token.timeout_s) * _NS
        self.state[slot] = PENDING
        keys = token.client_to_server_key + token.server_to_client_key
        self._keys[slot] = np.frombuffer(keys, dtype=np.uint8)
        self.timeout_ns[slot] = now_ns + min(timeout_ns or PENDING_NS_MAX, PENDING_NS_MAX)
        self._handshakes[slot] = _Handshake(token.client_id, mac, timeout_ns)
        return True

    def _on_response(self, datagram: bytes, slot: int, address: U64, now_ns: int) -> Drop | None:
        """An authentic response from the address of a pending slot; the standard's order."""
        handshake = self._handshakes.get(slot)
        if handshake is None or not np.array_equal(self.address[slot], address):
            return Drop.WRONG_STATE  # a twin in the same batch came first
        head = 1 + (datagram[0] >> 4)
        sequence = int.from_bytes(datagram[head : head + 8], "little")
        sealed = datagram[head + 8 : head + 8 + CHALLENGE_TOKEN_BYTES]
        challenge = open_challenge(sealed, sequence=sequence, key=self._challenge_key)
        if challenge is None or challenge.client_id != handshake.client_id:
            return Drop.CHALLENGE_NOT_AUTHENTIC
        if challenge.client_id in self._slot_of_id:
            return Drop.CLIENT_ID_CONNECTED
        used = self._history.get(handshake.mac)
        if used is not None and used.consumed:
            return Drop.TOKEN_REUSED
        if not self._free:
            self._answer(Kind.DENIED, b"", address, self._keys[slot, SEND_KEY_AT:].tobytes())
            return Drop.SERVER_FULL
        if used is not None:
            used.consumed = True
        self._connect(slot, handshake, challenge.user_data, now_ns)
        return None

    def _connect(self, pending: int, handshake: _Handshake, user_data: bytes, now_ns: int) -> None:
        """Move a pending slot to a client slot, and tell the client its index."""
        client = heapq.heappop(self._free)
        self._words[client] = 0
        self.address[client] = self.address[pending]
        self._keys[client] = self._keys[pending]
        self._forget(pending)
        self.state[client] = CONNECTED
        self.send_sequence[client] = self._first_sequence
        self.last_receive_ns[client] = self.last_send_ns[client] = now_ns
        self.timeout_ns[client] = handshake.timeout_ns
        self.confirmed[client] = 0
        self.client_id[client] = handshake.client_id
        self.user_data[client] = np.frombuffer(user_data, dtype=np.uint8)
        self._edit(client, 1)
        self._slot_of_id[handshake.client_id] = client
        self._connected.append(Connected(client, handshake.client_id, user_data, address_of(self.address[client])))
        body = client.to_bytes(4, "little") + self.clients_max.to_bytes(4, "little")
        packet = seal_packet(
            Kind.KEEP_ALIVE,
            body,
            sequence=self._first_sequence,
            key=self._keys[client, SEND_KEY_AT:].tobytes(),
            protocol_id=self.protocol_id,
        )
        self.send_sequence[client] += np.uint64(1)
        if not self.outgoing.append(packet, self.address[client]):
            self.drops[Drop.OUTGOING_FULL] += 1

    def _forget(self, slot: int) -> None:
        """End a pending handshake."""
        self._edit(slot, -1)
        self.state[slot] = FREE
        self._keys[slot] = 0
        self._handshakes.pop(slot, None)
        self._free_pending.append(slot)

    def _reset(self, client: int, reason: DisconnectReason, detail: str) -> None:
        """Empty a client's slot, which stays out of use until its event is taken."""
        self._edit(client, -1)
        client_id = int(self.client_id[client])
        self._slot_of_id.pop(client_id, None)
        self.state[client] = FREE
        self._keys[client] = 0
        self._disconnected.append(Disconnected(client, client_id, reason, detail))
