"""Zone-wide state: what every client of a zone knows of every entity, such as names, scores and doors.

A game declares such columns with `Wire(..., zone=True)`. They are kept as *words* of up to 32 bits, a *row* of words
for each slot of the kinds that have any; four bytes of a column of bytes are one word. A client gets the whole as one
block when it joins, and afterwards what has changed, in sections of its snapshots.

A section is a bit stream (net/bits_kernels.py), padded with zeros to whole bytes, at most `SECTION_BYTES_MAX` long:

    entries  each: a bit, 1; row: `row_bits` raw; a bit: 1 where the row's occupant has changed
             changed: a bit, 0: the row is empty, and nothing follows; 1: 28 bits generation and 12 bits zone of its
             id (the slot follows from the row), and all words are 0 but those that follow
             unchanged: the low 4 bits of the generation. Where they are not those of the occupant that the client
             knows, it passes over the words: it missed a section, and will be told of the row anew
             then a mask, a bit per word, and each word of the mask raw in its declared bits, two's complement if signed
    end      a bit, 0

It travels as the zone section of a snapshot (net/snapshots.py). Values are absolute: a section may come twice, and a
later one repairs what a lost one would have said. What is acknowledged is the snapshot (`server.zone_state`).

A join block is compressed (`net.compression`, class JOIN); its content, little endian:

    u8   version, 1
    u32  tick
    packed columns (net/columns.py): row, generation, zone of the id, then each word, of every row that is occupied

Tribes' data blocks (Frohnmayer and Gift 2000) and Quake III's configuration strings are the models, with the state
sent instead of its changes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from net.client import Replicas
from net.columns import pack_columns, unpack_columns
from net.compression import Compressor
from net.errors import NetError
from net.replica_kernels import ACCEPTED
from net.zone_kernels import (
    GENERATION_BITS,
    SLOT_BITS,
    WORDS_MAX,
    ZONE_BITS,
    ZoneTables,
    apply_sections,
)
from sim.arrays import I32, I64, U8, U64, AnyArray

__all__ = [
    "JOIN_TAG",
    "ROWS_MAX",
    "SECTION_BYTES_MAX",
    "SECTION_OUTCOMES",
    "ZoneField",
    "ZoneKind",
    "ZoneLayout",
    "ZoneReplica",
    "ZonedReplicas",
    "pack_join",
]

ROWS_MAX = 1 << 20
SECTION_BYTES_MAX = 255
JOIN_TAG = 1  # of the block that holds the state of a zone (`net.blocks`)
JOIN_VERSION = 1
_JOIN_HEAD = struct.Struct("<BI")
_ID_COLUMNS = 3  # of a join block: row, generation, zone
SECTION_OUTCOMES = ("taken", "malformed")


@dataclass(frozen=True, slots=True)
class ZoneField:
    """One zone-wide column.

    Attributes:
        name: `component.column`.
        bits: Of each value, 1 to 32.
        signed: Whether values may be negative.
        step: Value = integer · step.
        count: Values in a row.
        packed: Whether four bytes of it make a word; `count` is then a multiple of four, and `bits` 8.
    """

    name: str
    bits: int
    signed: bool = False
    step: float = 1.0
    count: int = 1
    packed: bool = False

    @property
    def words(self) -> int:
        """How many words a row of it takes."""
        return self.count // 4 if self.packed else self.count


@dataclass(frozen=True, slots=True)
class ZoneKind:
    """A kind of entity with zone-wide columns: `count` rows, whose occupants have the slots from `slot_base` on."""

    name: str
    slot_base: int
    count: int


class ZoneLayout:
    """Which rows and words there are; the same on both sides.

    Attributes:
        fields: The columns.
        kinds: In the order of their rows.
        rows: How many.
        words: How many a row has.
        tables: For kernels.
    """

    def __init__(self, fields: Sequence[ZoneField], kinds: Sequence[ZoneKind]) -> None:
        """Gives every value its word, and every row its slot.

        Raises:
            NetError: There are too many words or rows, or a field cannot be carried.
        """
        self.fields, self.kinds = tuple(fields), tuple(kinds)
        self.rows, self.words = sum(kind.count for kind in kinds), sum(field.words for field in fields)
        if self.words > WORDS_MAX or not 0 <= self.rows <= ROWS_MAX:
            raise NetError(
                f"zone: {self.words} words of {self.rows:,} rows are declared zone-wide; at most {WORDS_MAX} and"
                f" {ROWS_MAX:,}: leave columns out, or make them smaller"
            )
        widths: list[tuple[int, int]] = []
        self._first: dict[str, int] = {}
        for field in fields:
            if not 1 <= field.bits <= 32 or field.count < 1 or (field.packed and (field.count % 4 or field.bits != 8)):
                raise NetError(
                    f"zone: field {field.name} has {field.count} values of {field.bits} bits: give it 1 to 32"
                )
            self._first[field.name] = len(widths)
            whole = field.packed or field.bits == 32
            widths += [(32, 1) if whole else (field.bits, int(field.signed))] * field.words
        slots = [np.arange(kind.slot_base, kind.slot_base + kind.count, dtype=np.int64) for kind in kinds]
        self.slots: I64 = np.concatenate(slots) if slots else np.zeros(0, np.int64)
        self.bits: I64 = np.array(widths, np.int64).reshape(-1, 2)
        self.tables: ZoneTables = (self.bits, self.slots, max(self.rows - 1, 1).bit_length())
        self._named = {field.name: field for field in fields}

    @property
    def join_bytes_max(self) -> int:
        """The largest content of a join block, before compression."""
        columns = _ID_COLUMNS + self.words
        return _JOIN_HEAD.size + 6 + 5 * columns + 4 * columns * self.rows

    def place(self, name: str) -> tuple[int, ZoneField]:
        """The first word of a field, and the field.

        Raises:
            NetError: There is none of that name.
        """
        if name not in self._first:
            raise NetError(f"zone: no field is called {name!r}; there are {', '.join(self._first) or 'none'}")
        return self._first[name], self._named[name]

    def row_of(self, entity: int) -> int:
        """The row of an entity's slot, or −1 where entities of its kind have none."""
        slot, row = entity & (1 << SLOT_BITS) - 1, 0
        for kind in self.kinds:
            if kind.slot_base <= slot < kind.slot_base + kind.count:
                return row + slot - kind.slot_base
            row += kind.count
        return -1


def pack_join(tick: int, row: I64, ids: U64, words: I32) -> bytes:
    """The content of a join block.

    Args:
        tick: Whose state it is.
        row: Rows that are occupied, shape (n,), int64.
        ids: Their occupants, shape (n,), uint64.
        words: Their words, shape (n, words), int32.
    """
    generation = ids >> np.uint64(SLOT_BITS) & np.uint64((1 << GENERATION_BITS) - 1)
    columns: I32 = np.empty((len(row), _ID_COLUMNS + words.shape[1]), np.int32)
    columns[:, 0], columns[:, 1], columns[:, 2] = row, generation, ids >> np.uint64(SLOT_BITS + GENERATION_BITS)
    columns[:, _ID_COLUMNS:] = words
    return _JOIN_HEAD.pack(JOIN_VERSION, tick) + pack_columns(columns)


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
        if len(plain) < _JOIN_HEAD.size:
            return False
        version, tick = _JOIN_HEAD.unpack_from(plain)
        columns = _ID_COLUMNS + layout.words
        rows = unpack_columns(plain[_JOIN_HEAD.size :], columns=columns, rows_max=layout.rows)
        if version != JOIN_VERSION or rows is None or tick >= 1 << 31:
            return False
        row, generation, zone = (rows[:, i].astype(np.int64) for i in range(_ID_COLUMNS))
        low, high = -(1 << (layout.bits[:, 0] - 1)) * layout.bits[:, 1], 1 << (layout.bits[:, 0] - layout.bits[:, 1])
        words = rows[:, _ID_COLUMNS:]
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
