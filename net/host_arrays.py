"""The arrays of a host: columns of its slots, buffers of its batches."""

from collections.abc import Callable
from types import ModuleType

import numpy as np

from net.address import ADDRESS_WORDS
from net.datagrams import Datagrams, Payloads
from net.host_kernels import COUNTS, TALLY, HostColumns, HostOutputs
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
from sim.arrays import I32, I64, U8, U64

__all__ = ["HostArrays"]


class HostArrays:
    """Columns and buffers, all of which are allocated here, and the code that works on them.

    Args:
        path: `net.host_kernels`, or `net.plain` to do the same packet by packet.
        table_edit: Of `net.host_table_kernels`, or of `net.plain`.
        clients_max: Slots of clients; further `pending` slots are handshakes under way.
        pending: How many.
        batch: Largest number of datagrams received at once.
        handshakes_max: Requests, and as many responses, handled per tick.
        protocol_id: Of the game and its version.
        private_key: Of connect tokens.
        challenge_key: Of challenge tokens.
        seed: 16 random bytes.

    Attributes:
        clients_max: Slots of clients.
        payloads: Of the last `receive`.
        outgoing: Datagrams to be sent; the caller sends and clears them. Overflow is dropped and counted.
        drops: Counts by `net.packets.Drop`, int64.
        state: `CONNECTED` for connected clients, shape (slots,), uint8. Of the columns the first clients_max rows are
            the clients': client_id (uint64), address (uint64[3]), last_receive_ns and
            last_send_ns (int64), timeout_ns (int64, 0: none), confirmed (uint8), send_sequence (uint64).
    """

    def __init__(
        self,
        path: ModuleType,
        table_edit: Callable[..., int],
        *,
        clients_max: int,
        pending: int,
        batch: int,
        handshakes_max: int,
        protocol_id: int,
        private_key: bytes,
        challenge_key: bytes,
        seed: bytes,
    ) -> None:
        self._path, self._table_edit = path, table_edit
        self.clients_max = clients_max
        self._scratch = new_scratch(protocol_id, private_key, challenge_key)
        self._make_columns(clients_max + pending, seed)
        self._make_buffers(batch, handshakes_max)

    def _make_columns(self, slots: int, seed: bytes) -> None:
        size = 1 << (4 * slots - 1).bit_length()
        self._table: I32 = np.zeros(size, dtype=np.int32)
        self._secret: U64 = np.frombuffer(seed, dtype=np.uint64).copy()
        flags: U8 = np.zeros((slots, 2), dtype=np.uint8)
        self._words: U64 = np.zeros((slots, WORDS), dtype=np.uint64)
        self._keys: U8 = np.zeros((slots, KEYS_BYTES), dtype=np.uint8)
        self._times: I64 = np.zeros((slots, 3), dtype=np.int64)
        self._rival: I32 = np.zeros(slots, dtype=np.int32)
        self._spent: U64 = np.zeros(1 << (4 * self.clients_max + 4095).bit_length(), dtype=np.uint64)
        self.client_id: U64 = np.zeros(self.clients_max, dtype=np.uint64)
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
            self._rival,
            self._spent,
        )

    def _make_buffers(self, batch: int, handshakes_max: int) -> None:
        self.payloads = Payloads(batch)
        self.outgoing = Datagrams(2 * self.clients_max + handshakes_max + 1024)
        self._outgoing: DatagramArrays = (self.outgoing.data, self.outgoing.length, self.outgoing.address)
        self._tally: I64 = np.zeros(TALLY, dtype=np.int64)
        self.drops: I64 = self._tally[:COUNTS]
        self._slots: I32 = np.zeros(self.state.shape[0], dtype=np.int32)
        self._cold: I32 = np.zeros((2 * handshakes_max, 2), dtype=np.int32)
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
        """Edit the address table; see `net.host_table_kernels.table_edit`."""
        return int(self._table_edit(self._table, self._secret, self._words, self._probe, slot, edit))

    def _spend(self, mac: bytes) -> None:
        """Let the kernel know a consumed token, so that its copies cost no cryptography and none of the budget."""
        low = int.from_bytes(mac[:8], "little")
        self._spent[low & len(self._spent) - 1] = low
