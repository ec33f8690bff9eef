"""The chapters of docs/protocol.md on zone-wide state and on compression (`tools.protocol_page`)."""

from collections.abc import Sequence

from net.dictionaries import shipped_dictionaries
from net.packing import PAYLOAD_PACKED, PAYLOAD_PACKED_SNAPSHOT
from net.zone import JOIN_TAG, SECTION_BYTES_MAX
from server.zone_state import SECTION_BYTES, zone_layout
from sim.plugin import GameSpec

__all__ = ["compression_chapter", "zone_chapter"]

ZONE = f"""\
Some fields are known to every client of the zone, of every entity, wherever that is: names, scores, doors. They are
not in the records of snapshots. A client gets them if it asks, by sending `abilities` as it connects; one that does
not ask never sees any of this.

They are *words* of 1 to 32 bits in *rows*. Each kind of entity that has such fields owns a range of rows, one for each
of its slots; the tables below say which, and which words a row has. Four bytes of a text are one word, the first byte
lowest.

**The join block.** The server offers a block with tag {JOIN_TAG}. Its content is compressed (see the next chapter), at
most 6 + 5 k + 4 k · rows bytes when it is unpacked, k being 3 + the number of words. Unpacked it is, little endian: u8
version, 1; u32 tick; then packed columns of every occupied row, in ascending order: the row's number, generation and
zone of its occupant's id, then each word. It replaces all that was known before.

**Packed columns**, little endian: u8 version, 1; u8 number of columns k; u32 number of rows n; for each column a u8
form: bits 0–2 planes p, 0 to 4, bit 3 differences, bit 4 it has a base; for each column that has one, an i32 base (the
others: 0); for each column p planes of n bytes, the lowest bytes first. A column is n numbers u of p bytes, of which
plane j holds byte j. Without differences a value is base + u. With them, each is that of the row above (the first: the
base) plus u unfolded. All modulo 2^32, and then two's complement.

**Sections.** What changes after the block's tick comes in the zone section of snapshots, up to {SECTION_BYTES_MAX}
bytes (this server: {SECTION_BYTES}). A section of a snapshot that is taken is applied whole. It is a bit stream, as
records are:

1. One bit. 0: the section ends, and zeros follow up to a whole byte. 1: an entry follows.
2. The row's number, in as many bits as the highest row needs. One bit: 1 where the row's occupant has changed.
3. If it has changed: one bit; 0: the row is empty now, and the entry ends. 1: 28 bits generation and 12 bits zone of
   the new occupant's id, whose slot is the row's. All its words are 0 but those that follow.
   If it has not: 4 bits, the low ones of the generation of the row's occupant. Where the client knows another occupant
   or none, it reads over the words: it has missed a section, and will be told of the row anew.
4. A mask, one bit per word, the first lowest; then each word that is in it, in its width, signed ones in two's
   complement.

Values are absolute, so it does no harm to be told twice. There is nothing to acknowledge but the snapshot."""

PACKED = f"""\
A client that sends `abilities` is also sent packed payloads: type {PAYLOAD_PACKED} (reliable) or
{PAYLOAD_PACKED_SNAPSHOT}, then a compressed payload, which unpacks to one MESSAGE or one SNAPSHOT with its type byte.
Any message or snapshot may come packed or plain. The join block is a compressed payload, too. A compressed payload is a
codec byte and what that codec needs, little endian:

| codec | name | what follows |
|---|---|---|
| 0 | stored | the payload itself |
| 1 | LZ4 | size, LZ4 block |
| 2 | zstd | Zstandard frame (RFC 8878) without its four bytes of magic number |
| 3 | zstd with a dictionary | u16 dictionary, Zstandard frame without its magic number |
| 4 | LZ4 with a dictionary | u16 dictionary, size, LZ4 block |

`size` is the size of the payload in LEB128, at most four bytes. A dictionary is named by the low 16 bits of its id; a
server uses those alone that the client has named in `abilities`, so a client may name none. LZ4 uses a dictionary's
whole content as the text before the payload. Whatever says that it is larger than it may be is refused unread.

Dictionaries that come with the server, ids as `abilities` takes them:"""


def zone_chapter(game: GameSpec) -> list[str]:
    """How zone-wide state travels, and which a game has."""
    layout = zone_layout(game)
    ranges, row, words, word = [], 0, [], 0
    for kind in layout.kinds:
        ranges.append(
            (kind.name, f"{row} … {row + kind.count - 1}", f"{kind.slot_base} … {kind.slot_base + kind.count - 1}")
        )
        row += kind.count
    for field in layout.fields:
        span = str(word) if field.words == 1 else f"{word} … {word + field.words - 1}"
        form = (32, "yes") if field.packed else (field.bits, "yes" if field.signed else "no")
        step = "four bytes of text each" if field.packed else f"{field.step:g}"
        words.append((span, f"`{field.name}`", *form, step))
        word += field.words
    bits = f"Of the arena: a row's number has {layout.tables[2]} bits, a mask {layout.words}."
    return [
        ZONE,
        bits,
        _table(("kind", "rows", "slots"), ranges),
        _table(("words", "field", "bits", "signed", "step"), words),
    ]


def compression_chapter() -> list[str]:
    """Codecs, and the dictionaries that are shipped."""
    rows = [
        (one.id, f"{one.short:#06x}", one.kind.name.lower(), one.revision, f"{len(one.content):,}")
        for one in shipped_dictionaries()
    ]
    return [PACKED, _table(("id", "in payloads", "class", "revision", "bytes"), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in cells)} |" for cells in rows)])
