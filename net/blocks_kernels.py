"""The hot path of block transfers: the next chunk, its bytes, what became of it, and where one that arrived goes.

Columns, one tuple (`BLOCKS_TYPE`), in this order. A *row* is a transfer; rows of one peer are linked, oldest first.

    sending       i8[rows, 13]      the OUT_ columns below
    acked         u4[rows, words]   bit c: chunk c was acknowledged
    due           u4[rows, words]   bit c: chunk c was lost and is to be sent again
    receiving     i8[rows, 8]       the IN_ columns below
    got           u4[rows, words]   bit c: chunk c is stored
    heads         i4[peers, 2]      the first row sent to a peer and the first received from it, or -1
    counts        i8[COUNTS]        the COUNT_ indices below

The content of a transfer is addressed by a pointer in its row; `net.blocks` keeps the memory alive as long as the row.

A *reference* names one chunk that was sent, in an int32 that the endpoint keeps beside the packet: bits 0–13 chunk,
14–21 row, 22–30 generation of the row. A reference to a transfer that has ended has another generation and is void, so
that packets which are settled late touch nothing of the transfer that has the row by then.

Chunk section on the wire, behind its head byte: u16 block, u16 index, u16 length, content. All chunks of a block but
the last have 1,024 bytes.
"""

from typing import Final

import numpy as np

from sim.arrays import I32, I64, U8, U32
from sim.jit import external, kernel, lowest_bit

__all__ = [
    "BLOCKS_TYPE",
    "CHUNKS_MAX",
    "CHUNK_BITS",
    "CHUNK_BYTES",
    "CHUNK_HEAD_BYTES",
    "COUNTS",
    "COUNT_ARRIVED",
    "COUNT_DELIVERED",
    "COUNT_DUPLICATE",
    "COUNT_LOST",
    "COUNT_MALFORMED",
    "COUNT_SENT",
    "COUNT_STORED",
    "COUNT_UNKNOWN",
    "GENERATIONS",
    "IN_ADDRESS",
    "IN_BLOCK",
    "IN_CHUNKS",
    "IN_COLUMNS",
    "IN_NEXT",
    "IN_PEER",
    "IN_SEEN",
    "IN_SIZE",
    "IN_STORED",
    "OUT_ACKED",
    "OUT_ADDRESS",
    "OUT_BLOCK",
    "OUT_CHUNKS",
    "OUT_COLUMNS",
    "OUT_DUE",
    "OUT_DUE_WORD",
    "OUT_FRESH",
    "OUT_GENERATION",
    "OUT_NEXT",
    "OUT_OPEN",
    "OUT_PEER",
    "OUT_SEEN",
    "OUT_SIZE",
    "REFERENCE_ROWS_MAX",
    "WORD_BITS",
    "BlockArrays",
    "chunk_bytes",
    "chunk_fits",
    "chunk_settled",
    "has_chunk",
    "next_chunk",
    "take_chunk",
    "write_chunk",
]

BlockArrays = tuple[I64, U32, U32, I64, U32, I32, I64]
BLOCKS_TYPE = "Tuple((i8[:,::1], u4[:,::1], u4[:,::1], i8[:,::1], u4[:,::1], i4[:,::1], i8[::1]))"

CHUNK_BYTES: Final = 1024
CHUNK_HEAD_BYTES: Final = 6  # block, index, length
WORD_BITS: Final = 32
CHUNK_BITS: Final = 14
CHUNKS_MAX: Final = 1 << CHUNK_BITS  # 16 MiB
REFERENCE_ROWS_MAX: Final = 256
GENERATIONS: Final = 512

OUT_PEER: Final = 0  # -1: the row is free
OUT_BLOCK: Final = 1
OUT_ADDRESS: Final = 2
OUT_SIZE: Final = 3
OUT_CHUNKS: Final = 4
OUT_OPEN: Final = 5  # 1 once the receiver has accepted the block: chunks may go
OUT_FRESH: Final = 6  # the first chunk that was never sent
OUT_ACKED: Final = 7  # how many are acknowledged
OUT_DUE: Final = 8  # how many are lost and to be sent again
OUT_DUE_WORD: Final = 9  # no word below this one has a due bit
OUT_GENERATION: Final = 10
OUT_NEXT: Final = 11  # the peer's next row, or -1
OUT_SEEN: Final = 12  # of `net.blocks`: acknowledged chunks when the row was last looked at
OUT_COLUMNS: Final = 13

IN_PEER: Final = 0  # -1: the row is free
IN_BLOCK: Final = 1
IN_ADDRESS: Final = 2
IN_SIZE: Final = 3
IN_CHUNKS: Final = 4
IN_STORED: Final = 5  # how many chunks are stored
IN_NEXT: Final = 6
IN_SEEN: Final = 7  # of `net.blocks`: stored chunks when the row was last looked at
IN_COLUMNS: Final = 8

COUNT_SENT: Final = 0  # chunks handed out, repeats included
COUNT_LOST: Final = 1  # chunks that became due again
COUNT_STORED: Final = 2
COUNT_DUPLICATE: Final = 3  # chunks that were stored already
COUNT_UNKNOWN: Final = 4  # chunks of a block that has ended, or never was
COUNT_MALFORMED: Final = 5  # chunks whose index or length the offered block does not have
COUNT_DELIVERED: Final = 6  # transfers of which every chunk is acknowledged
COUNT_ARRIVED: Final = 7  # transfers of which every chunk is stored
COUNTS: Final = 8

_SENDING: Final = 0
_ACKED: Final = 1
_DUE: Final = 2
_RECEIVING: Final = 3
_GOT: Final = 4
_HEADS: Final = 5
_COUNTS: Final = 6

_CHUNK_MASK, _ROW_MASK = CHUNKS_MAX - 1, REFERENCE_ROWS_MAX - 1
_GENERATION_SHIFT: Final = 22
_memcpy = external("memcpy", "i8(i8, i8, i8)")


@kernel(counted=False)
def _bit(words: U32, row: int, chunk: int) -> bool:
    """Whether a chunk's bit is set."""
    return bool((int(np.int64(words[row, chunk >> 5])) >> (chunk & 31)) & 1)


@kernel(counted=False)
def _flip(words: U32, row: int, chunk: int) -> None:
    """Change a chunk's bit."""
    words[row, chunk >> 5] = np.uint32(int(np.int64(words[row, chunk >> 5])) ^ (1 << (chunk & 31)))


@kernel(counted=False)
def _size_of(size: int, chunk: int) -> int:
    """Content bytes of one chunk of a block of `size` bytes."""
    return min(CHUNK_BYTES, size - chunk * CHUNK_BYTES)


@kernel(counted=False)
def has_chunk(blocks: BlockArrays, peer: int) -> bool:
    """Whether `next_chunk` has something for a peer; changes nothing."""
    sending = blocks[_SENDING]
    row = int(blocks[_HEADS][peer, 0])
    while row >= 0:
        if sending[row, OUT_OPEN] and (sending[row, OUT_DUE] > 0 or sending[row, OUT_FRESH] < sending[row, OUT_CHUNKS]):
            return True
        row = int(sending[row, OUT_NEXT])
    return False


@kernel(counted=False)
def _take_due(blocks: BlockArrays, row: int) -> int:
    """The first lost chunk of a row that has one, which is lost no longer."""
    sending, due = blocks[_SENDING], blocks[_DUE]
    word = int(sending[row, OUT_DUE_WORD])
    while due[row, word] == 0:
        word += 1
    sending[row, OUT_DUE_WORD] = word
    chunk = word * WORD_BITS + int(lowest_bit(np.int64(due[row, word])))
    _flip(due, row, chunk)
    sending[row, OUT_DUE] -= 1
    return chunk


@kernel(counted=False)
def next_chunk(blocks: BlockArrays, peer: int) -> int:
    """Hand out the chunk that goes next to a peer: lost ones before new ones, older transfers before younger ones.

    The chunk counts as in flight from here on: it must be given to `chunk_settled` once; as lost, where it is not sent
    after all.

    Returns:
        Its reference (not negative), or -1 where nothing is to be sent.
    """
    sending = blocks[_SENDING]
    row = int(blocks[_HEADS][peer, 0])
    while row >= 0:
        if sending[row, OUT_OPEN]:
            chunk = -1
            if sending[row, OUT_DUE] > 0:
                chunk = _take_due(blocks, row)
            elif sending[row, OUT_FRESH] < sending[row, OUT_CHUNKS]:
                chunk = int(sending[row, OUT_FRESH])
                sending[row, OUT_FRESH] += 1
            if chunk >= 0:
                blocks[_COUNTS][COUNT_SENT] += 1
                return int(sending[row, OUT_GENERATION] << _GENERATION_SHIFT | row << CHUNK_BITS | chunk)
        row = int(sending[row, OUT_NEXT])
    return -1


@kernel(counted=False)
def chunk_bytes(blocks: BlockArrays, reference: int) -> int:
    """Bytes that `write_chunk` will write for a reference just handed out: head fields and content."""
    row, chunk = (reference >> CHUNK_BITS) & _ROW_MASK, reference & _CHUNK_MASK
    return CHUNK_HEAD_BYTES + _size_of(int(blocks[_SENDING][row, OUT_SIZE]), chunk)


@kernel(counted=False)
def write_chunk(blocks: BlockArrays, reference: int, data: U8, at: int) -> int:
    """Write block, index, length and content of a chunk just handed out, behind the section's head byte.

    Args:
        blocks: Columns, as listed at the top of the file.
        reference: Of `next_chunk`.
        data: The packet's arena, uint8, 1-D.
        at: Where block stands.

    Returns:
        Bytes written; 0, and nothing is written, where they do not fit into `data`.
    """
    sending = blocks[_SENDING]
    row, chunk = (reference >> CHUNK_BITS) & _ROW_MASK, reference & _CHUNK_MASK
    size = _size_of(int(sending[row, OUT_SIZE]), chunk)
    if at < 0 or at + CHUNK_HEAD_BYTES + size > data.shape[0]:
        return 0
    block = int(sending[row, OUT_BLOCK])
    data[at], data[at + 1] = np.uint8(block & 255), np.uint8(block >> 8)
    data[at + 2], data[at + 3] = np.uint8(chunk & 255), np.uint8(chunk >> 8)
    data[at + 4], data[at + 5] = np.uint8(size & 255), np.uint8(size >> 8)
    source = int(sending[row, OUT_ADDRESS]) + chunk * CHUNK_BYTES
    _memcpy(int(np.int64(data.ctypes.data)) + at + CHUNK_HEAD_BYTES, source, size)
    return CHUNK_HEAD_BYTES + size


@kernel(counted=False)
def chunk_settled(blocks: BlockArrays, reference: int, acked: bool) -> None:
    """Note what became of a chunk: its packet was acknowledged, also after it had counted as lost; or it is lost.

    A reference of a transfer that has ended is void. Safe to call in any order and repeatedly.
    """
    sending, counts = blocks[_SENDING], blocks[_COUNTS]
    row, chunk = (reference >> CHUNK_BITS) & _ROW_MASK, reference & _CHUNK_MASK
    if (
        reference < 0
        or row >= sending.shape[0]
        or sending[row, OUT_PEER] < 0
        or sending[row, OUT_GENERATION] != reference >> _GENERATION_SHIFT
        or chunk >= sending[row, OUT_FRESH]
        or _bit(blocks[_ACKED], row, chunk)
    ):
        return
    waiting = _bit(blocks[_DUE], row, chunk)
    if acked:
        _flip(blocks[_ACKED], row, chunk)
        sending[row, OUT_ACKED] += 1
        if sending[row, OUT_ACKED] == sending[row, OUT_CHUNKS]:
            counts[COUNT_DELIVERED] += 1
    if waiting == acked:
        _flip(blocks[_DUE], row, chunk)
        sending[row, OUT_DUE] += -1 if acked else 1
        if not acked:
            counts[COUNT_LOST] += 1
            sending[row, OUT_DUE_WORD] = min(sending[row, OUT_DUE_WORD], chunk >> 5)


@kernel(counted=False)
def _row_of(blocks: BlockArrays, peer: int, block: int) -> int:
    """The row of a block that is being received from a peer, or -1."""
    receiving = blocks[_RECEIVING]
    row = int(blocks[_HEADS][peer, 1])
    while row >= 0 and receiving[row, IN_BLOCK] != block:
        row = int(receiving[row, IN_NEXT])
    return row


@kernel(counted=False)
def chunk_fits(blocks: BlockArrays, peer: int, block: int, index: int, length: int) -> bool:
    """Whether a chunk that arrived is well formed: it has the length that this chunk of this block must have.

    To be asked before any effect of a packet. Blocks that are not known are judged by the fixed limits alone.
    """
    if index < 0 or index >= CHUNKS_MAX or length < 1 or length > CHUNK_BYTES:
        return False
    row = _row_of(blocks, peer, block)
    if row < 0:
        return True
    receiving = blocks[_RECEIVING]
    return bool(index < receiving[row, IN_CHUNKS] and length == _size_of(int(receiving[row, IN_SIZE]), index))


@kernel(counted=False)
def take_chunk(blocks: BlockArrays, peer: int, block: int, index: int, data: U8, at: int, length: int) -> bool:
    """Store a chunk that arrived; duplicates, and chunks of blocks that have ended, change nothing.

    A sender sends no chunk before its block was accepted, so a block that is not known has ended: its chunks are
    acknowledged, or they would be repeated for ever.

    Args:
        blocks: Columns, as listed at the top of the file.
        peer: Who sent it; `block`, `index` and `length` as they stand in the section.
        data: Where it arrived, uint8, 1-D; its content at `at`.

    Returns:
        False, with a count and no effect, where it is malformed: the packet must be dropped.
    """
    counts = blocks[_COUNTS]
    if at < 0 or at + length > data.shape[0] or not chunk_fits(blocks, peer, block, index, length):
        counts[COUNT_MALFORMED] += 1
        return False
    row = _row_of(blocks, peer, block)
    if row < 0:
        counts[COUNT_UNKNOWN] += 1
        return True
    if _bit(blocks[_GOT], row, index):
        counts[COUNT_DUPLICATE] += 1
        return True
    receiving = blocks[_RECEIVING]
    target = int(receiving[row, IN_ADDRESS]) + index * CHUNK_BYTES
    _memcpy(target, int(np.int64(data.ctypes.data)) + at, length)
    _flip(blocks[_GOT], row, index)
    receiving[row, IN_STORED] += 1
    counts[COUNT_STORED] += 1
    if receiving[row, IN_STORED] == receiving[row, IN_CHUNKS]:
        counts[COUNT_ARRIVED] += 1
    return True
