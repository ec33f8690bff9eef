"""Sections of zone-wide state, read from a string of bits: what net/zone_kernels.py must agree with."""

from net.zone import ZoneLayout

__all__ = ["read_section"]


def read_section(data: bytes, layout: ZoneLayout) -> dict[int, tuple[int | None, int, dict[int, int]]] | None:
    """The entries of a section by row, or None for bytes that are none.

    Each is (id of the new occupant, 0: the row is empty, None: as it was; low bits of the generation of an occupant
    that is as it was; words by number).
    """
    bits = "".join(f"{byte:08b}"[::-1] for byte in data)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        text, at = bits[at : at + count].ljust(count, "0"), at + count
        return int(text[::-1], 2)

    entries: dict[int, tuple[int | None, int, dict[int, int]]] = {}
    while take(1):
        row, fresh = take(layout.tables[2]), take(1)
        if row >= layout.rows or at > len(bits):
            return None
        identity, tag = None, 0
        if fresh:
            if not take(1):
                entries[row] = 0, 0, {}
                continue
            generation, zone = take(28), take(12)
            if generation == 0:
                return None
            identity = int(layout.slots[row]) | generation << 24 | zone << 52
        else:
            tag = take(4)
        mask = take(layout.words)
        words: dict[int, int] = {}
        for word in range(layout.words):
            if mask >> word & 1:
                width, signed = layout.bits[word].tolist()
                value = take(width)
                words[word] = value - (1 << width) if signed and value >> width - 1 else value
        if at > len(bits):
            return None
        entries[row] = identity, tag, words
    return entries if at <= len(bits) and len(bits) - at < 8 else None
