"""Two ways to write the same symbols: prefix codes that make a record a string of bits, and an adaptive range coder.

Prefix codes. `codes[code, token]` is the word, first bit lowest, and its length above bit 20. Bits fill 32-bit
little-endian words from the lowest up. A record's string depends on nothing but the record's acknowledged and new rows,
so it is made once and shifted into every packet that carries it.

Range coder. The same words, each bit coded with the chance of a 0, in 1/65536, that its node of the code's tree has
learnt (the coder is LZMA's, with the carry walked back: Martin 1979; Schindler 1998). `tree[code, 2·node + bit]` is the
next node, or ~token. Trailing zero bytes are left out; a reader finds zeros after the end. State: low, range, bytes
written.
"""

from sim.arrays import I16, I32, I64, U8, U16, U32
from sim.jit import kernel
from tools.cubes.describe_kernels import MISSING, SCRATCH
from tools.cubes.model_kernels import COUNT_AT, PLAIN_AT, TOKEN_AT

__all__ = ["FULL", "LENGTH_AT", "TABLES", "TOP", "assemble_frame", "learn", "write_stream", "write_strings"]

TABLES = "Tuple((i2[::1], i4[:,::1], i2[:,::1], i2[:,::1]))"  # maps, codes, tree, quick
LENGTH_AT = 20
WORD_MASK = (1 << LENGTH_AT) - 1
CONTEXT_MASK = (1 << TOKEN_AT) - 1
TOKEN_MASK = (1 << (COUNT_AT - TOKEN_AT)) - 1
COUNT_MASK = (1 << (PLAIN_AT - COUNT_AT)) - 1
LOW32 = (1 << 32) - 1
RATE = 6  # a chance moves by 1/64 of what it was wrong
TOP = 1 << 24
RECORD_BYTES_MAX = 192  # nine words of 15 bits, each bit at its dearest, 10 bits, and plain ones
FULL = (1 << 32) - 1


@kernel(counted=False, merge=True)
def write_words(
    symbols: I64, start: int, end: int, maps: I16, codes: I32, out: U32, state: I64
) -> None:  # fmt: skip
    """Append symbols to a string: the state is pending bits, how many of them, and whole words written."""
    pending, fill, at = state[0], state[1], state[2]
    for i in range(start, end):
        symbol = symbols[i]
        entry = int(codes[maps[symbol & CONTEXT_MASK], (symbol >> TOKEN_AT) & TOKEN_MASK])
        pending |= (entry & WORD_MASK) << fill
        fill += entry >> LENGTH_AT
        if fill >= 32:
            out[at] = pending & LOW32
            at += 1
            pending >>= 32
            fill -= 32
        pending |= (symbol >> PLAIN_AT) << fill
        fill += (symbol >> COUNT_AT) & COUNT_MASK
        if fill >= 32:
            out[at] = pending & LOW32
            at += 1
            pending >>= 32
            fill -= 32
    state[0], state[1], state[2] = pending, fill, at


@kernel(f"({TABLES}, {SCRATCH}, i8, i8, u4[:,::1], i8[::1])", counted=False)
def write_strings(
    tables: tuple[I16, I32, I16, I16], scratch: tuple[I64, I64, I64, I64], count: int, known: int,
    strings: U32, lengths: I64,
) -> None:  # fmt: skip
    """Write each described record as a string of bits of its own, by cube, and its length in bits."""
    maps, codes, _, _ = tables
    cubes, ends, symbols, state = scratch
    start = 0
    for index in range(count):
        if index >= known:
            start += 2 if index == known else 1  # the number of further cubes, and the index difference
        state[0], state[1], state[2] = 0, 0, 0
        out = strings[cubes[index]]
        write_words(symbols, start, ends[index], maps, codes, out, state)
        out[state[2]] = state[0] & LOW32
        lengths[cubes[index]] = 32 * state[2] + state[1]
        start = ends[index]


@kernel(counted=False, merge=True)
def append_string(string: U32, bits: int, out: U32, state: I64) -> None:
    """Append a string of bits, wherever the writer stands; bits above its length are zero."""
    pending, fill, at = state[0], state[1], state[2]
    word = 0
    while bits > 0:
        pending |= int(string[word]) << fill
        word += 1
        fill += min(bits, 32)
        bits -= 32
        if fill >= 32:
            out[at] = pending & LOW32
            at += 1
            pending >>= 32
            fill -= 32
    state[0], state[1], state[2] = pending, fill, at


@kernel(f"({TABLES}, {SCRATCH}, i8, i8, u4[:,::1], i8[::1], u4[::1])", counted=False)
def assemble_frame(
    tables: tuple[I16, I32, I16, I16], scratch: tuple[I64, I64, I64, I64], count: int, known: int,
    strings: U32, lengths: I64, out: U32,
) -> int:  # fmt: skip
    """Put a frame together from strings that were written before; its size in bytes."""
    maps, codes, _, _ = tables
    cubes, ends, symbols, state = scratch
    state[0], state[1], state[2] = 0, 0, 0
    for index in range(count + 1):
        between = (1 if index == known else 0) + (1 if known <= index < count else 0)
        if between != 0:
            start = ends[index - 1] if index > 0 else 0
            write_words(symbols, start, start + between, maps, codes, out, state)
        if index < count:
            append_string(strings[cubes[index]], lengths[cubes[index]], out, state)
    out[state[2]] = state[0] & LOW32
    return int(4 * state[2] + ((state[1] + 7) >> 3))


@kernel(counted=False)
def carry(out: U8, at: int) -> None:
    """Add one to the number that out[:at] is."""
    at -= 1
    while at >= 0 and out[at] == 255:
        out[at] = 0
        at -= 1
    out[at] += 1


@kernel(counted=False, merge=True)
def normalise(out: U8, state: I64) -> None:
    """Write bytes until the range is at least 2^24 again."""
    low, size = state[0], state[1]
    if low > FULL:
        carry(out, state[2])
        low &= FULL
    while size < TOP:
        out[state[2]] = low >> 24
        state[2] += 1
        low = (low & (TOP - 1)) << 8
        size <<= 8
    state[0], state[1] = low, size


@kernel(counted=False, merge=True)
def learn(chances: U16, row: int, node: int, bit: int) -> None:
    """Move a node's chance towards the bit that was coded."""
    chance = int(chances[row, node])
    chances[row, node] = chance - (chance >> RATE) if bit else chance + ((65536 - chance) >> RATE)


@kernel(counted=False, merge=True)
def put_word(word: int, length: int, code: int, tree: I16, chances: U16, row: int, out: U8, state: I64) -> None:
    """Code the bits of a word, and learn from them."""
    node = 0
    for _ in range(length):
        bit = word & 1
        word >>= 1
        bound = (state[1] >> 16) * int(chances[row, node])
        if bit:
            state[0] += bound
            state[1] -= bound
        else:
            state[1] = bound
        learn(chances, row, node, bit)
        node = int(tree[code, 2 * node + bit])
        normalise(out, state)


@kernel(counted=False, merge=True)
def put_plain(value: int, count: int, out: U8, state: I64) -> None:
    """Code `count` bits that are as likely 0 as 1, eight at a time."""
    while count > 0:
        part = min(count, 8)
        count -= part
        size = state[1] >> part
        state[0] += size * ((value >> count) & ((1 << part) - 1))
        state[1] = size
        normalise(out, state)


@kernel(counted=False)
def finish_range(out: U8, state: I64) -> int:
    """End with as few bytes as name a number of the last range; how many bytes there are in all."""
    low, high = state[0], state[0] + state[1] - 1
    value, shift = high, 24
    while shift >= 0:
        value = (high >> shift) << shift
        if value >= low:
            break
        shift -= 8
    if value > FULL:
        carry(out, state[2])
        value &= FULL
    at = state[2]
    for place in range(4):
        out[at + place] = (value >> (24 - 8 * place)) & 255
    at += 4
    while at > 0 and out[at - 1] == 0:
        at -= 1
    return int(at)


@kernel(f"({TABLES}, {SCRATCH}, i8[::1], i8, i8, u2[:,::1], u1[::1])", counted=False)
def write_stream(
    tables: tuple[I16, I32, I16, I16], scratch: tuple[I64, I64, I64, I64], moods: I64, count: int, known: int,
    chances: U16, out: U8,
) -> int:  # fmt: skip
    """Write a described frame by the range coder, and let `chances` learn from it; its size, or `MISSING`: no room."""
    maps, codes, tree, _ = tables
    _, ends, symbols, state = scratch
    state[0], state[1], state[2] = 0, FULL, 0
    at = 0
    for index in range(max(count, known + 1)):
        if state[2] + RECORD_BYTES_MAX > out.shape[0]:
            return MISSING
        end = ends[index] if index < count else at + 1  # with no further cubes their number, 0, comes last
        while at < end:
            symbol = symbols[at]
            code = int(maps[symbol & CONTEXT_MASK])
            entry = int(codes[code, (symbol >> TOKEN_AT) & TOKEN_MASK])
            row = moods[index] * codes.shape[0] + code
            put_word(entry & WORD_MASK, entry >> LENGTH_AT, code, tree, chances, row, out, state)
            put_plain(symbol >> PLAIN_AT, (symbol >> COUNT_AT) & COUNT_MASK, out, state)
            at += 1
    return finish_range(out, state)
