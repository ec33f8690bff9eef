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

import numpy as np

from net.columns import pack_columns
from net.errors import NetError
from net.zone_kernels import (
    GENERATION_BITS,
    SLOT_BITS,
    WORDS_MAX,
    ZoneTables,
)
from sim.arrays import I32, I64, U64

__all__ = [
    "ID_COLUMNS",
    "JOIN_HEAD",
    "JOIN_TAG",
    "JOIN_VERSION",
    "ROWS_MAX",
    "SECTION_BYTES_MAX",
    "ZoneField",
    "ZoneKind",
    "ZoneLayout",
    "pack_join",
]

ROWS_MAX = 1 << 20
SECTION_BYTES_MAX = 255
JOIN_TAG = 1  # of the block that holds the state of a zone (`net.blocks`)
JOIN_VERSION = 1
JOIN_HEAD = struct.Struct("<BI")
ID_COLUMNS = 3  # of a join block: row, generation, zone


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
        columns = ID_COLUMNS + self.words
        return JOIN_HEAD.size + 6 + 5 * columns + 4 * columns * self.rows

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
    columns: I32 = np.empty((len(row), ID_COLUMNS + words.shape[1]), np.int32)
    columns[:, 0], columns[:, 1], columns[:, 2] = row, generation, ids >> np.uint64(SLOT_BITS + GENERATION_BITS)
    columns[:, ID_COLUMNS:] = words
    return JOIN_HEAD.pack(JOIN_VERSION, tick) + pack_columns(columns)
