"""What clients know of a whole zone: sections and join blocks in, columns out (layouts: net/zone.py).

Apart from the layouts, so that a server does not load what decodes snapshots.
"""

from typing import Protocol

import numpy as np

from net.client import Replicas
from net.columns import unpack_columns
from net.compression import Compressor
from net.errors import NetError
from net.replica_kernels import ACCEPTED
from net.zone import ID_COLUMNS, JOIN_HEAD, JOIN_VERSION, ZoneLayout
from net.zone_kernels import GENERATION_BITS, SLOT_BITS, ZONE_BITS, apply_sections
from sim.arrays import I32, I64, U8, U64, AnyArray

__all__ = ["SECTION_OUTCOMES", "SectionedReplicas", "ZoneReplica", "ZonedReplicas"]

SECTION_OUTCOMES = ("taken", "malformed")


class ZoneReplica:
    """What `clients` clients know of the zone, in columns; a section or block is applied whole or not at all.

    Attributes (all to be read only):
        layout: As given.
        ids: Occupant of each row, shape (clients, rows), uint64; 0: none.
        words: Its words, shape (clients, rows, words), int32.
        joined: Tick of the join block of each client, int64; −1: none yet.
        sections: Sections by outcome (`SECTION_OUTCOMES`), int64.
        blocks_taken, blocks_refused: Join blocks.
    """

    def __init__(self, clients: int, layout: ZoneLayout) -> None:
        """Allocate all that is ever needed: 4 bytes per word and 8 per row, for every client.

        Raises:
            NetError: No clients.
        """
        if clients < 1:
            raise NetError(f"zone: clients is {clients}; give it at least 1")
        self.clients, self.layout = clients, layout
        self.ids: U64 = np.zeros((clients, layout.rows), np.uint64)
        self.words: I32 = np.zeros((clients, layout.rows, layout.words), np.int32)
        self.joined: I64 = np.full(clients, -1, np.int64)
        self.sections: I64 = np.zeros(len(SECTION_OUTCOMES), np.int64)
        self.blocks_taken = self.blocks_refused = 0

    def reset(self, client: int) -> None:
        """Forget what a client knows, as for a new connection."""
        if self.ids[client].any():
            self.ids[client] = 0
            self.words[client] = 0
        self.joined[client] = -1

    def take_sections(self, client: I32, payload: U8, start: I32, length: I32) -> I32:
        """Apply sections off the wire; hostile bytes are counted by reason and dropped, never raise.

        Args:
            client: Whose each is, shape (n,), int32.
            payload: What each stands in, a row each, shape (n, bytes), uint8, C-contiguous.
            start: Where each begins in its row, shape (n,), int32.
            length: Bytes of each; 0: none, shape (n,), int32.

        Returns:
            The outcome of each (an index of `SECTION_OUTCOMES`), shape (n,), int32.

        Raises:
            NetError: The arrays do not fit together (the caller's mistake).
        """
        count = len(client)
        if payload.shape[0] != count or len(start) != count or len(length) != count:
            raise NetError("zone: client, payload, start and length must have one row per section")
        if count and not (
            client.min() >= 0 and client.max() < self.clients and start.min() >= 0 and length.min() >= 0
            and int((start + length).max()) <= payload.shape[1]
        ):  # fmt: skip
            raise NetError(f"zone: a client is not from 0 to {self.clients - 1}, or a section not within its row")
        outcome: I32 = np.zeros(count, np.int32)
        apply_sections(client, payload, start, length, self.layout.tables, (self.ids, self.words), outcome)
        self.sections += np.bincount(outcome[length > 0], minlength=len(SECTION_OUTCOMES))
        return outcome

    def take_join(self, client: int, content: bytes, compressor: Compressor) -> bool:
        """Take the block that a client was sent on joining; False, and a count, for bytes that are none."""
        plain = compressor.decompress(content, size_max=self.layout.join_bytes_max)
        taken = plain is not None and self._load(client, plain)
        self.blocks_taken += int(taken)
        self.blocks_refused += int(not taken)
        return taken

    def _load(self, client: int, plain: bytes) -> bool:
        layout = self.layout
        if len(plain) < JOIN_HEAD.size:
            return False
        version, tick = JOIN_HEAD.unpack_from(plain)
        columns = ID_COLUMNS + layout.words
        rows = unpack_columns(plain[JOIN_HEAD.size :], columns=columns, rows_max=layout.rows)
        if version != JOIN_VERSION or rows is None or tick >= 1 << 31:
            return False
        row, generation, zone = (rows[:, i].astype(np.int64) for i in range(ID_COLUMNS))
        low, high = -(1 << (layout.bits[:, 0] - 1)) * layout.bits[:, 1], 1 << (layout.bits[:, 0] - layout.bits[:, 1])
        words = rows[:, ID_COLUMNS:]
        if len(row) and not (
            row[0] >= 0 and row[-1] < layout.rows and (np.diff(row) > 0).all()
            and generation.min() > 0 and generation.max() < 1 << GENERATION_BITS
            and zone.min() >= 0 and zone.max() < 1 << ZONE_BITS
            and (words >= low).all() and (words < high).all()
        ):  # fmt: skip
            return False
        self.ids[client] = 0
        self.words[client] = 0
        identity = layout.slots[row] | generation << SLOT_BITS | zone << (SLOT_BITS + GENERATION_BITS)
        self.ids[client, row] = identity.astype(np.uint64)
        self.words[client, row] = words
        self.joined[client] = tick
        return True

    def values(self, client: int, name: str) -> AnyArray:
        """A column as a client knows it: a row each; integers, or numbers in the column's unit if its step is not 1.

        Raises:
            NetError: There is no such column.
        """
        first, field = self.layout.place(name)
        words = self.words[client, :, first : first + field.words]
        if field.packed:
            return np.ascontiguousarray(words).view(np.uint8)
        if field.bits == 32 and not field.signed:
            words = np.ascontiguousarray(words).view(np.uint32)
        plain = words if field.count > 1 else words[:, 0]
        return plain * field.step if field.step != 1.0 else plain

    def text(self, client: int, name: str, entity: int) -> str:
        """A column of bytes of one entity as text, up to the first zero; "" for an entity that is not known.

        Raises:
            NetError: There is no such column.
        """
        row = self.layout.row_of(entity)
        values = self.values(client, name)
        if row < 0 or int(self.ids[client, row]) != entity:
            return ""
        return bytes(values[row].astype(np.uint8)).split(b"\0", 1)[0].decode(errors="replace")

    def statistics(self) -> dict[str, int]:
        """Counts since the start."""
        told = {f"zone_sections_{name}": int(n) for name, n in zip(SECTION_OUTCOMES, self.sections, strict=True)}
        return told | {"zone_joins": self.blocks_taken, "zone_joins_refused": self.blocks_refused}


class SectionedReplicas(Replicas, Protocol):
    """Replicas that say where the zone section of each payload of the last `receive` was, and how long (0: none)."""

    zone_offset: I32
    zone_length: I32


class ZonedReplicas:
    """Replicas of snapshots and of the zone as one: `net.client.Replicas` for clients that take zone-wide state.

    Attributes:
        zone: The zone-wide part, of as many clients or fewer, the first ones.
        sequence, ack_mask: Of the snapshots, as `net.replica.ReplicaGroup` has them.
    """

    def __init__(self, replicas: SectionedReplicas, zone: ZoneReplica) -> None:
        self._replicas, self.zone = replicas, zone
        self.sequence, self.ack_mask = replicas.sequence, replicas.ack_mask

    def receive(self, client: I32, payload: U8, length: I32) -> I32:
        """Decode a batch of snapshots, one a row; the sections that those which are taken carry are applied."""
        outcome = self._replicas.receive(client, payload, length)
        start, section = self._replicas.zone_offset.copy(), self._replicas.zone_length.copy()
        if section.any():
            section[(outcome != ACCEPTED) | (client >= self.zone.clients)] = 0
            start[section == 0] = 0
            client = np.where(client < self.zone.clients, client, 0).astype(np.int32)
            self.zone.take_sections(client, payload, start, section)
        return outcome

    def reset(self, client: int) -> None:
        """Forget what one client knows."""
        self._replicas.reset(client)
        if client < self.zone.clients:
            self.zone.reset(client)
