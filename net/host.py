"""The server side of netcode 1.02 for up to tens of thousands of clients, without I/O or a clock.

Per tick: `receive` a batch of datagrams, take the events and payloads, `send` payloads, `tick`; then hand `outgoing`
to the socket. Payloads, keep-alives and every check of hostile bytes run in `net.host_kernels`; only authentic
requests, responses and disconnects reach the Python below, at most `handshakes_max` of each per tick.

Beyond the standard (netcode's later hardening, and limits of our own):
- a token is consumed when its client gets a slot, and refused from then on, even from the same address;
- the history of used tokens lives until they expire and, when full, refuses new tokens instead of forgetting;
- sequences start at a figure made from the time of day, so that a server that is restarted within the life of a
  token, whose keys it would use again, never repeats a nonce;
- addresses have limits of their own (`net.limits`), and a client has few handshakes under way;
- with `takeover`, a client may come back before its old connection has ended, which then ends (`net.host_kernels`);
- a slot is used again only after its `Disconnected` event was taken, so that indices never change meaning unseen.
"""

import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

import numpy as np

from net import host_kernels, host_table_kernels, plain
from net.address import Address, address_of
from net.datagrams import Datagrams
from net.errors import NetError
from net.history import TokenHistory
from net.host_arrays import HostArrays
from net.host_kernels import CONNECTED, COUNTS, DISCONNECTS, FREE, REQUESTS, TALLY
from net.limits import ADDRESS_CONNECTIONS_MAX, ADDRESS_CONNECTS_PER_S, LOOPBACK, AddressLimits, Crowds
from net.packets import REQUEST_BYTES, Drop, Kind, seal_packet
from net.packets_kernels import SEND_KEY_AT
from net.tokens import (
    KEY_BYTES,
    MAC_BYTES,
    PRIVATE_TOKEN_BYTES,
    USER_DATA_BYTES,
    address_forms,
    scan_private,
)
from sim.arrays import I32, I64, U8, U64

__all__ = ["KEEP_ALIVE_NS", "Connected", "DisconnectReason", "Disconnected", "Host"]

KEEP_ALIVE_NS = 100_000_000
CLIENTS_MAX = 65_536
PENDING_NS_MAX = 60_000_000_000  # of tokens that allow silence for longer, or for ever
PENDING_PER_CLIENT_MAX = 4  # of one client id; the oldest makes way
HANDSHAKES_PER_TICK = 64
TOKEN_LIFETIME_S = 86_400
GLOBAL_SEQUENCE = 2**63
RESTART_SECONDS, SEQUENCES_PER_SECOND = 2**17, 2**10  # client sequences of one start: 36 h apart, 1,024 a second
_NS = 1_000_000_000
_TOKEN_AT = REQUEST_BYTES - PRIVATE_TOKEN_BYTES


class DisconnectReason(IntEnum):
    """Why a client's slot was reset; the first three numbers are the reference implementation's."""

    TIMED_OUT = 1
    BY_CLIENT = 2
    BY_SERVER = 3
    REPLACED = 4  # by a new connection of the same client


@dataclass(frozen=True, slots=True)
class Connected:
    """A client got a slot.

    `replaces` is the slot that the same client held until its response, -1 where it held none. The `Disconnected` event
    of that, with `REPLACED`, comes with this one; on a full server an earlier call had it, and the slot is the same.
    """

    client: int
    client_id: int
    user_data: bytes
    address: Address
    replaces: int = -1


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A client's slot was reset; `detail` is what the application said."""

    client: int
    client_id: int
    reason: DisconnectReason
    detail: str = ""


@dataclass(slots=True)
class _Handshake:
    """What Python knows of a pending slot: `beside` is whose rival it is, `batch` when it began,
    `reserved` which slot is kept for it.
    """

    client_id: int
    mac: bytes
    timeout_ns: int
    key: int
    beside: int
    batch: int
    replaces: int = -1
    reserved: int = -1


class Host(HostArrays):
    """Connects clients that hold a valid token, and seals and opens their packets.

    Its arrays are those of `HostArrays`.

    Args:
        protocol_id: Of the game and its version, 64 bits.
        private_key: Shared with whoever issues tokens, 32 bytes.
        addresses: What this server is called in tokens; may differ from what its socket is bound to.
        clients_max: Number of slots, up to 65,536.
        now_ns: Monotonic time now [ns]; later calls must not go back.
        unix_ns: Time of day at that moment [ns since 1970]; tokens expire by it.
        batch: Largest number of datagrams `receive` is given at once.
        handshakes_max: Requests, and as many responses, handled between two calls of `tick`, so that no storm of
            newcomers moves a tick; more are dropped before any cryptography, and clients repeat them at 10 Hz. At most
            256 private tokens, or four times as many as that, are decrypted between two ticks.
        pending_max: Handshakes under way; further requests are dropped.
        history_max: Tokens remembered until they expire; further tokens are dropped.
        token_lifetime_s: Tokens that expire later than this from now are dropped.
        takeover: Whether a client that is connected may connect again, with a token of its own, which ends its old
            connection; otherwise it is ignored until that has ended, as the standard has it.
        address_connections_max: Connections of one IPv4 address, or one IPv6 /64 network; 0: any number.
        address_connects_per_s: New ones per second, and how many at once after a pause; 0: any number.
        exempt: Networks without these two limits.
        batched: Whether whole batches run in kernels; otherwise packet by packet in Python (`net.plain`), with the same
            results.
        entropy: Source of random bytes.

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
        handshakes_max: int = HANDSHAKES_PER_TICK,
        pending_max: int | None = None,
        history_max: int | None = None,
        token_lifetime_s: int = TOKEN_LIFETIME_S,
        takeover: bool = False,
        address_connections_max: int = ADDRESS_CONNECTIONS_MAX,
        address_connects_per_s: int = ADDRESS_CONNECTS_PER_S,
        exempt: Sequence[IPv4Network | IPv6Network] = LOOPBACK,
        batched: bool = True,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if not 1 <= clients_max <= CLIENTS_MAX:
            raise NetError(f"host: clients_max is {clients_max}; choose 1 to {CLIENTS_MAX}")
        if len(private_key) != KEY_BYTES:
            raise NetError(f"host: private_key has {len(private_key)} bytes; it must have {KEY_BYTES}")
        if not addresses:
            raise NetError("host: addresses is empty; name at least one address that tokens are issued for")
        pending = pending_max if pending_max is not None else max(64, clients_max)
        super().__init__(
            host_kernels if batched else plain,
            host_table_kernels.table_edit if batched else plain.table_edit,
            clients_max=clients_max,
            pending=pending,
            batch=batch,
            handshakes_max=handshakes_max,
            protocol_id=protocol_id,
            private_key=private_key,
            challenge_key=entropy(KEY_BYTES),
            seed=entropy(16),
        )
        self.protocol_id = protocol_id
        self.token_lifetime_s, self.takeover = token_lifetime_s, takeover
        self._servers = address_forms(addresses)
        self._unix_offset_ns = unix_ns - now_ns
        self._limits = AddressLimits(
            connections_max=address_connections_max,
            connects_per_s=address_connects_per_s,
            table_max=2 * (clients_max + pending),
            exempt=exempt,
        )
        self._batch = 0
        self._sequences: U64 = np.array([0, GLOBAL_SEQUENCE + unix_ns], dtype=np.uint64)  # challenges, global
        self._first_sequence = unix_ns // _NS % RESTART_SECONDS * SEQUENCES_PER_SECOND
        self._free = list(range(clients_max))
        self._free_pending = list(range(clients_max + pending - 1, clients_max - 1, -1))
        self._handshakes: dict[int, _Handshake] = {}
        self._pending_of_id = Crowds(PENDING_PER_CLIENT_MAX)
        self._kept: dict[int, bool] = {}  # slots kept for a handshake, and whether the event of their end was taken
        self._slot_of_id: dict[int, int] = {}
        self._history = TokenHistory(history_max if history_max is not None else max(16_384, 32 * clients_max))
        self._connected: list[Connected] = []
        self._disconnected: list[Disconnected] = []

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
        self._batch += 1
        unix_s = (now_ns + self._unix_offset_ns) // _NS
        arrays = (datagrams.data, datagrams.length, datagrams.address)
        self._path.receive_batch(
            self._columns,
            arrays,
            datagrams.received_ns,
            self._outputs,
            self._scratch,
            count,
            now_ns,
            unix_s,
            self.token_lifetime_s,
            int(self.takeover),
        )
        payloads, cold, closed = (int(value) for value in self._tally[COUNTS:REQUESTS])
        self.payloads.count, self.payloads.buffer = payloads, datagrams.flat
        for slot in self._slots[:closed].tolist():
            self._reset(slot, DisconnectReason.BY_CLIENT, "", now_ns)
        for row, slot in self._cold[:cold].tolist():
            reason = (
                self._on_response(datagrams, row, slot, now_ns)
                if datagrams.data[row, 0]
                else self._on_request(datagrams, row, now_ns)
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
        self.outgoing.count = self._path.send_batch(
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
        self._tally[REQUESTS:TALLY] = 0
        self.outgoing.count = self._path.sweep(
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
                self._reset(slot, DisconnectReason.TIMED_OUT, "", now_ns)
            else:
                self._forget(slot, now_ns)

    def disconnect(self, client: int, now_ns: int, *, detail: str = "") -> bool:
        """Send a client ten disconnect packets and reset its slot; False where it is not connected."""
        if not 0 <= client < self.clients_max or self.state[client] != CONNECTED:
            return False
        self._close(client, DisconnectReason.BY_SERVER, detail, now_ns)
        return True

    def disconnect_all(self, now_ns: int, *, detail: str = "") -> int:
        """Disconnect every client; returns how many.

        Where `outgoing` has no room for ten packets to each, each gets as many as there is room for, at least one.
        """
        clients = self.connected_clients().tolist()
        room = self.outgoing.capacity - self.outgoing.count
        copies = max(1, min(DISCONNECTS, room // max(1, len(clients))))
        for client in clients:
            self._close(client, DisconnectReason.BY_SERVER, detail, now_ns, copies=copies)
        return len(clients)

    def take_disconnected(self) -> list[Disconnected]:
        """Events since the last call, oldest first; from now on their slots may be used again.

        Take these before `take_connected`: a slot never gets a new client before this call.
        """
        events, self._disconnected = self._disconnected, []
        for event in events:
            if event.client in self._kept:
                self._kept[event.client] = True
            else:
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
            "addresses": len(self._limits),
        }
        return counts | {f"drop_{reason.name.lower()}": int(self.drops[reason]) for reason in Drop}

    # -- handshakes, one at a time ------------------------------------------------------------------------------

    def _answer(self, kind: Kind, body: bytes, address: U64, key: bytes) -> None:
        """Queue a packet to someone without a slot, under the global sequence."""
        sequence = int(self._sequences[1])
        packet = seal_packet(kind, body, sequence=sequence, key=key, protocol_id=self.protocol_id)
        self._sequences[1] = sequence + 1
        if not self.outgoing.append(packet, address):
            self.drops[Drop.OUTGOING_FULL] += 1

    def _deny(self, holder: int, key: int, address: U64, send_key: bytes, *, reserved: bool = False) -> Drop | None:
        """Tell a client that there is no room for it, on the server or for its address; None where there is.

        Args:
            holder: The slot that the same client holds and would give up, or -1.
            key: Of its address (`net.limits`).
            address: Where it is.
            send_key: To it.
            reserved: Whether a slot is kept for it.
        """
        reason = None
        if not self._free and holder < 0 and not reserved:
            reason = Drop.SERVER_FULL
        elif self._limits.is_full(key, leaving=int(holder >= 0 and self._key(self.address[holder]) == key)):
            reason = Drop.ADDRESS_FULL
        if reason is not None:
            self._answer(Kind.DENIED, b"", address, send_key)
        return reason

    def _key(self, address: U64) -> int:
        return self._limits.key(int(address[0]), int(address[1]))

    def _on_request(self, datagrams: Datagrams, row: int, now_ns: int) -> Drop | None:
        """A request whose private token is authentic and stands decrypted in the datagram; the standard's order."""
        datagram, address = datagrams.datagram(row), datagrams.address[row]
        token = scan_private(datagram[_TOKEN_AT:], self._servers)
        if token is None:
            return Drop.TOKEN_MALFORMED
        client_id, timeout_s, keys_at, named = token
        if not named:
            return Drop.WRONG_SERVER
        self._probe[0] = address
        slot = self._edit(0, 0)
        beside = slot if 0 <= slot < self.clients_max else -1
        holder = self._slot_of_id.get(client_id, -1)
        if beside >= 0 and (beside != holder or not self.takeover):
            return Drop.ADDRESS_CONNECTED
        if holder >= 0 and not self.takeover:
            return Drop.CLIENT_ID_CONNECTED
        mac, words = datagram[-MAC_BYTES:], tuple(address.tolist())
        expire_unix_s = int.from_bytes(datagram[22:30], "little")
        unix_s = (now_ns + self._unix_offset_ns) // _NS
        reason = self._history.admit(mac, words, expire_unix_s=expire_unix_s, unix_s=unix_s)
        if reason is not None:
            if self._history.is_consumed(mac):
                self._spend(mac)
            return reason
        key, keys_at = self._limits.key(words[0], words[1]), _TOKEN_AT + keys_at
        reason = self._deny(holder, key, address, datagram[keys_at + KEY_BYTES : keys_at + 2 * KEY_BYTES])
        if reason is not None:
            return reason
        if beside >= 0:
            slot = int(self._rival[beside]) or -1
        handshake = _Handshake(client_id, mac, max(0, timeout_s) * _NS, key, beside, self._batch)
        return self._begin(handshake, slot, datagrams, row, keys_at, now_ns)

    def _begin(
        self, handshake: _Handshake, slot: int, datagrams: Datagrams, row: int, keys_at: int, now_ns: int
    ) -> Drop | None:
        """Map the address of a request to the keys of its token, and answer it; why not, where that fails.

        Args:
            handshake: What is known of it; forgotten where `slot` has one with the same token.
            slot: The pending slot that the address has, or -1.
            datagrams: Where the request stands, in `row`.
            row: Which datagram it is.
            keys_at: Where in the datagram the keys begin.
            now_ns: Monotonic time [ns].
        """
        mapped = 0
        if slot >= 0 and self._handshakes[slot].mac != handshake.mac:
            self._forget(slot, now_ns)
            slot = -1
        if slot < 0:
            reason = self._make_room(handshake, now_ns)
            if reason is not None:
                return reason
            slot = self._free_pending.pop()
            self._handshakes[slot] = handshake
            self._limits.begin(handshake.key, slot, now_ns)
            self._pending_of_id.add(handshake.client_id, slot)
            if handshake.beside >= 0:
                self._rival[handshake.beside] = slot
            else:
                mapped = 1
        deadline = now_ns + min(handshake.timeout_ns or PENDING_NS_MAX, PENDING_NS_MAX)
        used = self._path.begin_slot(
            self._columns,
            (datagrams.data, datagrams.length, datagrams.address),
            (row, slot, keys_at, mapped),
            deadline,
            self._sequences,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
        )
        self._queued(used)
        return None

    def _make_room(self, handshake: _Handshake, now_ns: int) -> Drop | None:
        """Let the oldest handshakes go where a client or its address has many; why not, where there is no room."""
        if not self._limits.has_room(handshake.key, now_ns):
            return Drop.ADDRESS_TABLE_FULL
        crowded = self._limits.pending.crowded(handshake.key), self._pending_of_id.crowded(handshake.client_id)
        for oldest in crowded:
            if oldest in self._handshakes:  # it may be the same one twice
                self._forget(oldest, now_ns)
                self.drops[Drop.PENDING_DISPLACED] += 1
        return None if self._free_pending else Drop.PENDING_FULL

    def _queued(self, used: int) -> None:
        """Note that a kernel was to queue one datagram."""
        if used == self.outgoing.count:
            self.drops[Drop.OUTGOING_FULL] += 1
        self.outgoing.count = used

    def _on_response(self, datagrams: Datagrams, row: int, slot: int, now_ns: int) -> Drop | None:
        """An authentic response to a pending slot, with an authentic challenge, decrypted; the standard's order."""
        datagram, address = datagrams.datagram(row), datagrams.address[row]
        handshake = self._handshakes.get(slot)
        if handshake is None or self.address[slot].tolist() != address.tolist():
            return Drop.WRONG_STATE  # a twin in the same batch came first
        if handshake.batch == self._batch:
            return Drop.WRONG_STATE  # it was opened with the keys of another, which had this slot when the batch began
        challenge_at = 1 + (datagram[0] >> 4) + 8
        client_id = int.from_bytes(datagram[challenge_at : challenge_at + 8], "little")
        if client_id != handshake.client_id:
            return Drop.CHALLENGE_NOT_AUTHENTIC
        holder = self._slot_of_id.get(client_id, -1)
        if holder >= 0 and not self.takeover:
            return Drop.CLIENT_ID_CONNECTED
        if self._history.is_consumed(handshake.mac):
            return Drop.TOKEN_REUSED
        reserved = handshake.reserved >= 0
        send_key = self._keys[slot, SEND_KEY_AT:].tobytes()
        reason = self._deny(holder, handshake.key, address, send_key, reserved=reserved)
        if reason is None and not reserved and not self._limits.charge(handshake.key, now_ns):
            reason = Drop.ADDRESS_RATE
        if reason is not None:
            return reason
        user_data = datagram[challenge_at + 8 : challenge_at + 8 + USER_DATA_BYTES]
        return self._enter(slot, handshake, holder, user_data, now_ns)

    def _enter(self, slot: int, handshake: _Handshake, holder: int, user_data: bytes, now_ns: int) -> Drop | None:
        """Give a proven client a slot, after taking the one it holds from it.

        Where the server is full, the slot it held is kept for it until the event of that was taken; the next repetition
        of its response, 100 ms later, then finds it.
        """
        if holder >= 0:
            self._close(holder, DisconnectReason.REPLACED, "connected again", now_ns)
            handshake.replaces = holder
            if not self._free and handshake.reserved < 0:
                handshake.reserved = holder
                self._kept[holder] = False
                return None
        client = handshake.reserved
        if client < 0:
            client = heapq.heappop(self._free)
        elif not self._kept[client]:
            return Drop.WRONG_STATE
        else:
            del self._kept[client]
            handshake.reserved = -1
        self._history.consume(handshake.mac)
        self._spend(handshake.mac)
        self._connect(client, slot, handshake, user_data, now_ns)
        return None

    def _connect(self, client: int, pending: int, handshake: _Handshake, user_data: bytes, now_ns: int) -> None:
        """Move a pending slot to a client slot, and tell the client its index."""
        used = self._path.connect_slot(
            self._columns,
            pending,
            client,
            self._first_sequence,
            handshake.timeout_ns,
            self.clients_max,
            now_ns,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
        )
        self._queued(used)
        self._limits.connect(handshake.key)
        self._forget(pending, now_ns, mapped=False)
        self.client_id[client] = handshake.client_id
        self._slot_of_id[handshake.client_id] = client
        address = address_of(self.address[client])
        self._connected.append(Connected(client, handshake.client_id, user_data, address, handshake.replaces))

    def _forget(self, slot: int, now_ns: int, *, mapped: bool = True) -> None:
        """End a pending handshake; the table maps it still, unless it is a rival or was connected."""
        handshake = self._handshakes.pop(slot)
        if handshake.beside >= 0:
            self._rival[handshake.beside] = 0
        elif mapped:
            self._edit(slot, -1)
        if handshake.reserved >= 0 and self._kept.pop(handshake.reserved):
            heapq.heappush(self._free, handshake.reserved)
        self._limits.end(handshake.key, slot, now_ns)
        self._pending_of_id.remove(handshake.client_id, slot)
        self.state[slot] = FREE
        self._keys[slot] = 0
        self._free_pending.append(slot)

    def _close(
        self, client: int, reason: DisconnectReason, detail: str, now_ns: int, *, copies: int = DISCONNECTS
    ) -> None:
        """Send a client redundant disconnect packets and empty its slot."""
        self.outgoing.count = self._path.close_slot(
            self._words,
            self._keys,
            self._times,
            client,
            copies,
            now_ns,
            self._outgoing,
            self.outgoing.count,
            self._scratch,
            self._tally,
        )
        self._reset(client, reason, detail, now_ns)

    def _reset(self, client: int, reason: DisconnectReason, detail: str, now_ns: int) -> None:
        """Empty a client's slot, which stays out of use until its event is taken."""
        self._edit(client, -1)
        rival = int(self._rival[client])
        if rival:
            self._rival[client] = 0
            self._handshakes[rival].beside = -1
            self._edit(rival, 1)
        self._limits.disconnect(self._key(self.address[client]), now_ns)
        client_id = int(self.client_id[client])
        self._slot_of_id.pop(client_id, None)
        self.state[client] = FREE
        self._keys[client] = 0
        self._disconnected.append(Disconnected(client, client_id, reason, detail))
