"""The records of a packet, put one behind the other as one string of bits.

This loop runs sixty thousand times a tick of a thousand clients. Written in LLVM assembly it keeps the writer in
registers; as part of the function that also encodes what is missing, all of it went through the stack at each record.
"""

from server.slots import SLOT_COUNT
from sim.arrays import I32, I64
from sim.jit import llvm_function

__all__ = [
    "AGE", "AGE_BITS", "BITS_MASK", "DRAFT_COLUMNS", "END", "ENTRY", "ENTRY_BITS", "ENTRY_OFFSET", "JOINED_BITS",
    "JOINED_FULL", "JOINED_MASK", "ORDER", "PLACE", "join",
]  # fmt: skip

AGE_BITS = 6
ENTRY_BITS, ENTRY_OFFSET = 11, 22  # of a cache entry, from the lowest bit: length and place in the arena
BITS_MASK = (1 << ENTRY_BITS) - 1
PLACE, END, ORDER = 0, 1, 2  # rows of spans: of each record its slot and where it ends in the string; an order
ENTRY, AGE = 3, 4  # by slot, of those that need a record: its pair of words in the cache, the age of its baseline
DRAFT_COLUMNS = 5
JOINED_FULL, JOINED_BITS = 16, 32  # what `join` returns: how many records; how many of age 0; bits of the string
JOINED_MASK = (1 << 16) - 1


def _join_plain(cache: I64, arena: I64, words: I64, spans: I32, low: int, high: int, common: int) -> int:
    """Write the records of the slots that the mask (low, high) names, each behind its age, as one string of bits.

    Args:
        cache: Pairs of words: length and place of a record, and its first 64 bits.
        arena: Words of the records, unused high bits 0.
        words: Receives the string, unused high bits 0.
        spans: `ENTRY` and `AGE` are read by slot; `PLACE` and `END` are written by record.
        common: The age that is written as a single bit.

    Returns:
        How many records, from bit `JOINED_FULL` on how many of age 0, from `JOINED_BITS` on the bits of the string.
    """
    mask = (low & (1 << 64) - 1) | (high & (1 << 64) - 1) << 64
    text, at, full, count = 0, 0, 0, 0
    while mask != 0:
        place = (mask & -mask).bit_length() - 1
        mask &= mask - 1
        age, found = int(spans[AGE, place]), int(cache[2 * int(spans[ENTRY, place])])
        bits, source = found & BITS_MASK, found >> ENTRY_BITS & (1 << ENTRY_OFFSET) - 1
        body = sum((int(arena[source + word]) & (1 << 64) - 1) << 64 * word for word in range((bits + 63) // 64))
        prefix, width = (1, 1) if age == common else (age << 1, 1 + AGE_BITS)
        text |= (prefix | body << width) << at
        at += width + bits
        full += int(age == 0)
        spans[PLACE, count], spans[END, count] = place, at
        count += 1
    for word in range(at // 64 + 1):
        value = text >> 64 * word & (1 << 64) - 1
        words[word] = value - (1 << 64) if value >> 63 else value
    return count | full << JOINED_FULL | at << JOINED_BITS


def _put(value: str, count: str, before: str, after: str) -> str:
    """LLVM assembly that appends bits to the string: the writer to, word, fill of `before` becomes that of `after`."""
    return f"""
  %{after}.shifted = shl i64 {value}, %{before}.fill
  %{after}.pending = or i64 %{before}.word, %{after}.shifted
  %{after}.at = getelementptr i64, ptr %words, i64 %{before}.to
  store i64 %{after}.pending, ptr %{after}.at, align 8
  %{after}.total = add i64 %{before}.fill, {count}
  %{after}.full = lshr i64 %{after}.total, 6
  %{after}.half = lshr i64 {value}, 1
  %{after}.spare = sub i64 63, %{before}.fill
  %{after}.rest = lshr i64 %{after}.half, %{after}.spare
  %{after}.stays = icmp eq i64 %{after}.full, 0
  %{after}.word = select i1 %{after}.stays, i64 %{after}.pending, i64 %{after}.rest
  %{after}.fill = and i64 %{after}.total, 63
  %{after}.to = add i64 %{before}.to, %{after}.full"""


JOIN_LLVM = f"""
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.umin.i64(i64, i64)

define weak_odr i64 @hitreg_join(ptr %cache, ptr %arena, ptr %words, ptr %spans, i64 %low, i64 %high, i64 %common)
    alwaysinline {{
  %either = or i64 %low, %high
  %any = icmp ne i64 %either, 0
  br i1 %any, label %record, label %none
record:
  %lower = phi i64 [ %low, %0 ], [ %lower.left, %written ]
  %upper = phi i64 [ %high, %0 ], [ %upper.left, %written ]
  %old.to = phi i64 [ 0, %0 ], [ %new.to, %written ]
  %old.word = phi i64 [ 0, %0 ], [ %new.word, %written ]
  %old.fill = phi i64 [ 0, %0 ], [ %new.fill, %written ]
  %count = phi i64 [ 0, %0 ], [ %count.new, %written ]
  %full = phi i64 [ 0, %0 ], [ %full.new, %written ]
  %lower.done = icmp eq i64 %lower, 0
  %mask = select i1 %lower.done, i64 %upper, i64 %lower
  %offset = select i1 %lower.done, i64 64, i64 0
  %bit = call i64 @llvm.cttz.i64(i64 %mask, i1 true)
  %place = add i64 %bit, %offset
  %less = add i64 %mask, -1
  %left = and i64 %mask, %less
  %lower.left = select i1 %lower.done, i64 0, i64 %left
  %upper.left = select i1 %lower.done, i64 %left, i64 %upper
  %entry.index = add i64 %place, {ENTRY * SLOT_COUNT}
  %entry.at = getelementptr i32, ptr %spans, i64 %entry.index
  %entry.narrow = load i32, ptr %entry.at, align 4
  %entry = zext i32 %entry.narrow to i64
  %age.index = add i64 %place, {AGE * SLOT_COUNT}
  %age.at = getelementptr i32, ptr %spans, i64 %age.index
  %age.narrow = load i32, ptr %age.at, align 4
  %age = zext i32 %age.narrow to i64
  %pair = shl i64 %entry, 1
  %found.at = getelementptr i64, ptr %cache, i64 %pair
  %first.at = getelementptr i64, ptr %found.at, i64 1
  %found = load i64, ptr %found.at, align 8
  %first = load i64, ptr %first.at, align 8
  %bits = and i64 %found, {BITS_MASK}
  %same = icmp eq i64 %age, %common
  %width = select i1 %same, i64 1, i64 {1 + AGE_BITS}
  %twice = shl i64 %age, 1
  %prefix = select i1 %same, i64 1, i64 %twice
  %body = shl i64 %first, %width
  %value = or i64 %body, %prefix
  %size = add i64 %bits, %width
  %begun = call i64 @llvm.umin.i64(i64 %size, i64 64)
  {_put("%value", "%begun", "old", "one")}
  %is.full = icmp eq i64 %age, 0
  %is.full.one = zext i1 %is.full to i64
  %full.new = add i64 %full, %is.full.one
  %is.long = icmp ugt i64 %size, 64
  br i1 %is.long, label %long, label %written
long:
  %places = lshr i64 %found, {ENTRY_BITS}
  %source = and i64 %places, {(1 << ENTRY_OFFSET) - 1}
  %down = sub i64 64, %width
  br label %more
more:
  %at.to = phi i64 [ %one.to, %long ], [ %two.to, %more ]
  %at.word = phi i64 [ %one.word, %long ], [ %two.word, %more ]
  %at.fill = phi i64 [ %one.fill, %long ], [ %two.fill, %more ]
  %from = phi i64 [ %source, %long ], [ %from.next, %more ]
  %size.left = phi i64 [ %size, %long ], [ %rest, %more ]
  %rest = add i64 %size.left, -64
  %from.next = add i64 %from, 1
  %a.at = getelementptr i64, ptr %arena, i64 %from
  %b.at = getelementptr i64, ptr %arena, i64 %from.next
  %a = load i64, ptr %a.at, align 8
  %b = load i64, ptr %b.at, align 8
  %a.high = lshr i64 %a, %down
  %b.low = shl i64 %b, %width
  %both = or i64 %a.high, %b.low
  %taken = call i64 @llvm.umin.i64(i64 %rest, i64 64)
  %unused = sub i64 64, %taken
  %keep = lshr i64 -1, %unused
  %part = and i64 %both, %keep
  {_put("%part", "%taken", "at", "two")}
  %again = icmp ugt i64 %rest, 64
  br i1 %again, label %more, label %written
written:
  %new.to = phi i64 [ %one.to, %record ], [ %two.to, %more ]
  %new.word = phi i64 [ %one.word, %record ], [ %two.word, %more ]
  %new.fill = phi i64 [ %one.fill, %record ], [ %two.fill, %more ]
  %end.words = shl i64 %new.to, 6
  %end = or i64 %end.words, %new.fill
  %place.narrow = trunc i64 %place to i32
  %place.at = getelementptr i32, ptr %spans, i64 %count
  store i32 %place.narrow, ptr %place.at, align 4
  %end.narrow = trunc i64 %end to i32
  %end.index = add i64 %count, {END * SLOT_COUNT}
  %end.at = getelementptr i32, ptr %spans, i64 %end.index
  store i32 %end.narrow, ptr %end.at, align 4
  %count.new = add i64 %count, 1
  %pending = or i64 %lower.left, %upper.left
  %next = icmp ne i64 %pending, 0
  br i1 %next, label %record, label %done
done:
  %last.at = getelementptr i64, ptr %words, i64 %new.to
  store i64 %new.word, ptr %last.at, align 8
  %full.high = shl i64 %full.new, {JOINED_FULL}
  %bits.high = shl i64 %end, {JOINED_BITS}
  %counts = or i64 %count.new, %full.high
  %result = or i64 %counts, %bits.high
  ret i64 %result
none:
  store i64 0, ptr %words, align 8
  ret i64 0
}}
"""

join = llvm_function("hitreg_join", JOIN_LLVM, _join_plain, returns="i8")
