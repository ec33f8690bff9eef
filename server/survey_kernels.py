"""What a client's slots need, eight slots at a time.

Of 64 slots almost all are alike: LIVE, told, of the level they had. For these the questions of a tick are a dozen
comparisons each, and what takes long is waiting for the marks of 64 entities and for 64 records. In vectors eight of
them are on the way at once. Slots that are not so are `ODD`, and are looked at one by one
(server/strings_kernels.py). Marks are loaded by rows and turned into columns: gathers of them by the processor's own
instruction took 700 ns for 64 slots, because of the guard against sampling of gathered data, and this takes 300.

Functions here are LLVM assembly in the operations of LLVM itself; the Python next to each is its specification. Rows
are those of one client in the columns of server/slots.py, so they have `SLOT_COUNT` elements, and slots from `TOP` on
are FREE. A mask of slots is two int64, slot 0 lowest: little-endian bytes, as all of this server's processors have.
"""

import numpy as np

from server.slots import (
    CHANGED,
    EXACT,
    FREE,
    LIVE,
    MARKS,
    OWNER_MARK,
    SLOT_COUNT,
    SPAWNED,
    STEADY,
    TEAM_MARK,
)
from sim.arrays import I32, I64, U8
from sim.jit import llvm_function

__all__ = [
    "ASKED",
    "ASK_BLOCKS",
    "ASK_CLIENT",
    "ASK_FLIGHT",
    "ASK_OLDEST",
    "ASK_OWN_ROW",
    "ASK_RENEWAL",
    "ASK_RING",
    "ASK_ROWS",
    "ASK_STAMP",
    "ASK_TEAM",
    "ASK_TICK",
    "COUNT_BITS",
    "COUNT_MASK",
    "LANES",
    "NEEDED",
    "ODD",
    "STALE",
    "SURVEYED",
    "fetch_ahead",
    "fetch_state",
    "promote_slots",
    "stamp_slots",
    "survey",
]

LANES = 8
# what a survey is told: tick; oldest tick that can be a baseline; age at which an unchanged baseline is renewed; ticks
# for which what was sent may be under way; stamp of fresh records, −1: none is shared; row of the client's own entity;
# client; its team, −1: none; ring of the history; rows of entities; blocks of `LANES` slots
(
    ASK_TICK, ASK_OLDEST, ASK_RENEWAL, ASK_FLIGHT, ASK_STAMP, ASK_OWN_ROW, ASK_CLIENT, ASK_TEAM, ASK_RING, ASK_ROWS,
    ASK_BLOCKS,
) = range(11)  # fmt: skip
ASKED = 11
# masks that a survey fills: slots that need a record; slots to be looked at one by one; those of the first whose
# record is not in the cache yet
NEEDED, ODD, STALE = 0, 2, 4
SURVEYED = 6
COUNT_BITS = 16
COUNT_MASK = (1 << COUNT_BITS) - 1
RECKONED, RESTING, FLYING = 0, 1, 2  # counts by COUNT_BITS


def _survey_plain(
    entity: I32,
    baseline: I32,
    born: I32,
    sent: I32,
    state: U8,
    level: U8,
    told: U8,
    marks: I32,
    cache: I64,
    asked: I64,
    entries: I32,
    ages: I32,
    masks: I64,
) -> int:
    """Sort a client's slots into those that need a record, odd ones, and others; name the record of each.

    Args:
        entity, baseline, born, sent, state, level, told: Rows of the client.
        marks: Of all entities.
        cache: Records by (level, age, entity), two words each, the stamp from bit 33 of the first one.
        asked: See `ASK_TICK`.
        entries: Place in the cache, in pairs of words; ages: of the baseline, 0: none. Of slots that need a record.
        masks: `NEEDED`, `ODD`, `STALE`; two words each.

    Returns:
        How many are passed over, by COUNT_BITS: as reckoned, of these at rest, as under way.
    """
    tick, oldest, renewal, flight, stamp, own_row, client, team, ring, rows, blocks = (int(a) for a in asked[:ASKED])
    counts = [0, 0, 0]
    bits = [0] * SURVEYED
    for place in range(LANES * blocks):
        row, base, last = max(int(entity[place]), 0), int(baseline[place]), int(sent[place])
        if state[place] == FREE:
            continue
        mark = marks[row]
        mate = int(mark[TEAM_MARK] == team)
        known = state[place] == LIVE and told[place] != 0 and mark[SPAWNED] <= born[place] and level[place] == mate
        word, bit = place >> 6, 1 << (place & 63)
        if not known or entity[place] == own_row or mark[OWNER_MARK] == client:
            bits[ODD + word] |= bit
            continue
        since = max(int(mark[EXACT + mate]), int(mark[STEADY]))
        if base >= since and tick - base < renewal:
            counts[RECKONED] += 1
            counts[RESTING] += int(mark[CHANGED] <= base)
            continue
        if last > base and last >= since and tick - last <= flight:
            counts[FLYING] += 1
            continue
        ages[place] = tick - base if base >= oldest else 0
        entries[place] = (mate * ring + ages[place]) * rows + row
        bits[NEEDED + word] |= bit
        if stamp < 0 or int(cache[2 * int(entries[place])]) >> 33 != stamp:
            bits[STALE + word] |= bit
    masks[:SURVEYED] = np.array([value & (1 << 64) - 1 for value in bits], dtype=np.uint64).view(np.int64)
    return counts[RECKONED] | counts[RESTING] << COUNT_BITS | counts[FLYING] << 2 * COUNT_BITS


def _asked(name: str, number: int) -> str:
    """LLVM assembly that copies an element of `asked` to all lanes, as `name`."""
    return f"""
  %{name}.at = getelementptr i64, ptr %asked, i64 {number}
  %{name}.wide = load i64, ptr %{name}.at, align 8
  %{name}.one = trunc i64 %{name}.wide to i32
  %{name}.first = insertelement <8 x i32> poison, i32 %{name}.one, i32 0
  %{name} = shufflevector <8 x i32> %{name}.first, <8 x i32> poison, <8 x i32> zeroinitializer"""


def _row(name: str) -> str:
    """LLVM assembly that loads int32 of this block of slots, as `name`.s."""
    return f"""
  %{name}.at = getelementptr i32, ptr %{name}, i64 %place
  %{name}.s = load <8 x i32>, ptr %{name}.at, align 4"""


def _flags(name: str) -> str:
    """LLVM assembly that loads uint8 of this block of slots, widened, as `name`.s."""
    return f"""
  %{name}.at = getelementptr i8, ptr %{name}, i64 %place
  %{name}.narrow = load <8 x i8>, ptr %{name}.at, align 1
  %{name}.s = zext <8 x i8> %{name}.narrow to <8 x i32>"""


def _load_marks(lane: int) -> str:
    """LLVM assembly that loads the marks of one entity of the block, as `m0`.`lane`."""
    return f"""
  %p{lane} = add i64 %place, {lane}
  %e{lane}.at = getelementptr i32, ptr %entity, i64 %p{lane}
  %e{lane} = load i32, ptr %e{lane}.at, align 4
  %r{lane} = call i32 @llvm.smax.i32(i32 %e{lane}, i32 0)
  %w{lane} = zext i32 %r{lane} to i64
  %f{lane} = mul i64 %w{lane}, {MARKS}
  %m{lane}.at = getelementptr i32, ptr %marks, i64 %f{lane}
  %m0.{lane} = load <8 x i32>, ptr %m{lane}.at, align 4"""


def _transpose() -> str:
    """LLVM assembly that turns eight rows of eight marks, `m0`.*, into eight columns, `m3`.*.

    A step swaps the off-diagonal quarters of all blocks of two, four and eight lanes.
    """
    lines = []
    for step, half in enumerate((1, 2, 4)):
        low = ", ".join(f"i32 {lane if lane & half == 0 else lane - half + 8}" for lane in range(8))
        high = ", ".join(f"i32 {lane + half if lane & half == 0 else lane + 8}" for lane in range(8))
        for row in (row for row in range(8) if row & half == 0):
            pair = f"<8 x i32> %m{step}.{row}, <8 x i32> %m{step}.{row + half}"
            lines.append(f"  %m{step + 1}.{row} = shufflevector {pair}, <8 x i32> <{low}>")
            lines.append(f"  %m{step + 1}.{row + half} = shufflevector {pair}, <8 x i32> <{high}>")
    return "\n".join(lines)


def _load_stamp(lane: int) -> str:
    """LLVM assembly that puts the upper half of the record of one slot into its lane of `kept`."""
    return f"""
  %k{lane}.place = add i64 %start, {lane}
  %k{lane}.from = getelementptr i32, ptr %entries, i64 %k{lane}.place
  %k{lane}.entry = load i32, ptr %k{lane}.from, align 4
  %k{lane}.wide = zext i32 %k{lane}.entry to i64
  %k{lane}.quad = shl i64 %k{lane}.wide, 2
  %k{lane}.upper = or i64 %k{lane}.quad, 1
  %k{lane}.at = getelementptr i32, ptr %cache, i64 %k{lane}.upper
  %k{lane} = load i32, ptr %k{lane}.at, align 4
  %kept.{lane + 1} = insertelement <8 x i32> %kept.{lane}, i32 %k{lane}, i32 {lane}"""


def _put_mask(name: str, first: int) -> str:
    """LLVM assembly that stores the mask `name` of this block as a byte."""
    return f"""
  %{name}.byte = bitcast <8 x i1> %{name} to i8
  %{name}.place = add i64 %block, {8 * first}
  %{name}.to = getelementptr i8, ptr %masks, i64 %{name}.place
  store i8 %{name}.byte, ptr %{name}.to, align 1"""


def _count(name: str, number: int) -> str:
    """LLVM assembly that counts the lanes of the mask `name`, shifted into their place, as `name`.count."""
    return f"""
  %{name}.bits = bitcast <8 x i1> %{name} to i8
  %{name}.ones = call i8 @llvm.ctpop.i8(i8 %{name}.bits)
  %{name}.wide = zext i8 %{name}.ones to i64
  %{name}.count = shl i64 %{name}.wide, {COUNT_BITS * number}"""


SURVEY_LLVM = f"""
declare i32 @llvm.smax.i32(i32, i32)
declare <8 x i32> @llvm.smax.v8i32(<8 x i32>, <8 x i32>)
declare i8 @llvm.ctpop.i8(i8)

define weak_odr i64 @hitreg_survey(ptr %entity, ptr %baseline, ptr %born, ptr %sent, ptr %state, ptr %level, ptr %told,
    ptr %marks, ptr %cache, ptr %asked, ptr %entries, ptr %ages, ptr %masks) alwaysinline {{
  {_asked("tick", ASK_TICK)} {_asked("oldest", ASK_OLDEST)} {_asked("renewal", ASK_RENEWAL)}
  {_asked("flight", ASK_FLIGHT)} {_asked("stamp", ASK_STAMP)} {_asked("own", ASK_OWN_ROW)}
  {_asked("client", ASK_CLIENT)} {_asked("team", ASK_TEAM)} {_asked("ring", ASK_RING)} {_asked("rows", ASK_ROWS)}
  %blocks.at = getelementptr i64, ptr %asked, i64 {ASK_BLOCKS}
  %blocks = load i64, ptr %blocks.at, align 8
  store <{SURVEYED} x i64> zeroinitializer, ptr %masks, align 8
  %any = icmp sgt i64 %blocks, 0
  br i1 %any, label %slots, label %none
slots:
  %block = phi i64 [ 0, %0 ], [ %next, %slots ]
  %so.far = phi i64 [ 0, %0 ], [ %sum, %slots ]
  %place = shl i64 %block, 3
  {_row("entity")} {_row("baseline")} {_row("born")} {_row("sent")} {_flags("state")} {_flags("level")} {_flags("told")}
  %row = call <8 x i32> @llvm.smax.v8i32(<8 x i32> %entity.s, <8 x i32> zeroinitializer)
  {"".join(map(_load_marks, range(8)))}
{_transpose()}
  %ours = icmp eq <8 x i32> %m3.{TEAM_MARK}, %team
  %mate = zext <8 x i1> %ours to <8 x i32>
  %exact = select <8 x i1> %ours, <8 x i32> %m3.{EXACT + 1}, <8 x i32> %m3.{EXACT}
  %taken = icmp ne <8 x i32> %state.s, splat (i32 {FREE})
  %live = icmp eq <8 x i32> %state.s, splat (i32 {LIVE})
  %shown = icmp ne <8 x i32> %told.s, zeroinitializer
  %same = icmp sle <8 x i32> %m3.{SPAWNED}, %born.s
  %stays = icmp eq <8 x i32> %level.s, %mate
  %other = icmp ne <8 x i32> %entity.s, %own
  %not.owned = icmp ne <8 x i32> %m3.{OWNER_MARK}, %client
  %a = and <8 x i1> %live, %shown
  %b = and <8 x i1> %same, %stays
  %c = and <8 x i1> %other, %not.owned
  %ab = and <8 x i1> %a, %b
  %known = and <8 x i1> %ab, %c
  %unknown = xor <8 x i1> %known, splat (i1 true)
  %odd = and <8 x i1> %taken, %unknown
  %since = call <8 x i32> @llvm.smax.v8i32(<8 x i32> %exact, <8 x i32> %m3.{STEADY})
  %age = sub <8 x i32> %tick, %baseline.s
  %within = icmp sge <8 x i32> %baseline.s, %since
  %recent = icmp slt <8 x i32> %age, %renewal
  %good = and <8 x i1> %within, %recent
  %reckoned = and <8 x i1> %known, %good
  %unmoved = icmp sle <8 x i32> %m3.{CHANGED}, %baseline.s
  %resting = and <8 x i1> %reckoned, %unmoved
  %newer = icmp sgt <8 x i32> %sent.s, %baseline.s
  %told.since = icmp sge <8 x i32> %sent.s, %since
  %ago = sub <8 x i32> %tick, %sent.s
  %aloft = icmp sle <8 x i32> %ago, %flight
  %d = and <8 x i1> %newer, %told.since
  %e = and <8 x i1> %d, %aloft
  %said = xor <8 x i1> %reckoned, %known
  %flying = and <8 x i1> %said, %e
  %needed = xor <8 x i1> %said, %flying
  %usable = icmp sge <8 x i32> %baseline.s, %oldest
  %aged = select <8 x i1> %usable, <8 x i32> %age, <8 x i32> zeroinitializer
  %part = mul <8 x i32> %mate, %ring
  %of.ring = add <8 x i32> %part, %aged
  %of.rows = mul <8 x i32> %of.ring, %rows
  %entry = add <8 x i32> %of.rows, %row
  %ages.to = getelementptr i32, ptr %ages, i64 %place
  store <8 x i32> %aged, ptr %ages.to, align 4
  %entries.to = getelementptr i32, ptr %entries, i64 %place
  store <8 x i32> %entry, ptr %entries.to, align 4
  {_put_mask("needed", NEEDED)} {_put_mask("odd", ODD)}
  {_count("reckoned", RECKONED)} {_count("resting", RESTING)} {_count("flying", FLYING)}
  %sum.a = add i64 %so.far, %reckoned.count
  %sum.b = add i64 %sum.a, %resting.count
  %sum = add i64 %sum.b, %flying.count
  %next = add i64 %block, 1
  %more = icmp slt i64 %next, %blocks
  br i1 %more, label %slots, label %surveyed
surveyed:
  %any.shared = icmp sge i32 %stamp.one, 0
  br i1 %any.shared, label %stamps, label %alone
alone:
  %all = load <2 x i64>, ptr %masks, align 8
  %alone.at = getelementptr i64, ptr %masks, i64 {STALE}
  store <2 x i64> %all, ptr %alone.at, align 8
  ret i64 %sum
stamps:
  %turn = phi i64 [ 0, %surveyed ], [ %turn.next, %stamps ]
  %start = shl i64 %turn, 3
  %kept.0 = freeze <8 x i32> poison
  {"".join(map(_load_stamp, range(8)))}
  %its.stamp = lshr <8 x i32> %kept.8, splat (i32 1)
  %differs = icmp ne <8 x i32> %its.stamp, %stamp
  %differing = bitcast <8 x i1> %differs to i8
  %due.at = getelementptr i8, ptr %masks, i64 %turn
  %due = load i8, ptr %due.at, align 1
  %stale = and i8 %due, %differing
  %stale.turn = add i64 %turn, {8 * STALE}
  %stale.at = getelementptr i8, ptr %masks, i64 %stale.turn
  store i8 %stale, ptr %stale.at, align 1
  %turn.next = add i64 %turn, 1
  %again = icmp slt i64 %turn.next, %blocks
  br i1 %again, label %stamps, label %done
done:
  ret i64 %sum
none:
  ret i64 0
}}
"""

survey = llvm_function("hitreg_survey", SURVEY_LLVM, _survey_plain, returns="i8")


def _fetch_ahead_plain(
    _entity: I32, _baseline: I32, _born: I32, _sent: I32, _state: U8, _level: U8, _told: U8, _ahead: int, _blocks: int
) -> int:
    """Have the rows of a client `_ahead` rows farther on fetched into the cache; changes nothing.

    The rows of a thousand clients do not stay in the cache from tick to tick, and each is too short for the processor
    to foresee: without this a survey waits for each of them in turn.
    """
    return 0


def _fetch(name: str, where: str) -> str:
    return f"""
  %{name}.at = getelementptr i8, ptr %{name}, i64 %{where}
  call void @llvm.prefetch.p0(ptr %{name}.at, i32 0, i32 3, i32 1)"""


FETCH_LLVM = f"""
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define weak_odr i64 @hitreg_fetch_ahead(ptr %entity, ptr %baseline, ptr %born, ptr %sent, ptr %state, ptr %level,
    ptr %told, i64 %ahead, i64 %blocks) alwaysinline {{
  %narrow = mul i64 %ahead, {SLOT_COUNT}
  %wide = shl i64 %narrow, 2
  %bytes = shl i64 %blocks, 5
  %end = add i64 %wide, %bytes
  {_fetch("state", "narrow")} {_fetch("level", "narrow")} {_fetch("told", "narrow")}
  br label %lines
lines:
  %line = phi i64 [ %wide, %0 ], [ %next, %lines ]
  {_fetch("entity", "line")} {_fetch("baseline", "line")} {_fetch("born", "line")} {_fetch("sent", "line")}
  %next = add i64 %line, 64
  %more = icmp slt i64 %next, %end
  br i1 %more, label %lines, label %done
done:
  ret i64 0
}}
"""

fetch_ahead = llvm_function("hitreg_fetch_ahead", FETCH_LLVM, _fetch_ahead_plain, returns="i8")


def _fetch_state_plain(_history: I32, _at: int, _count: int) -> int:
    """Have `_count` fields from element `_at` of the history on fetched into the cache; changes nothing."""
    return 0


STATE_LLVM = """
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)

define weak_odr i64 @hitreg_fetch_state(ptr %history, i64 %at, i64 %count) alwaysinline {
  %behind = add i64 %at, %count
  %last = add i64 %behind, -1
  %first.at = getelementptr i32, ptr %history, i64 %at
  %last.at = getelementptr i32, ptr %history, i64 %last
  call void @llvm.prefetch.p0(ptr %first.at, i32 0, i32 3, i32 1)
  call void @llvm.prefetch.p0(ptr %last.at, i32 0, i32 3, i32 1)
  ret i64 0
}
"""

fetch_state = llvm_function("hitreg_fetch_state", STATE_LLVM, _fetch_state_plain, returns="i8")


def _stamp_slots_plain(row: I32, tick: int, low: int, high: int) -> int:
    """Write `tick` into the elements of `row` that the mask (low, high) names."""
    for place in range(SLOT_COUNT):
        if (high if place >= 64 else low) >> (place & 63) & 1:
            row[place] = tick
    return 0


def _promote_slots_plain(baseline: I32, born: I32, tick: int, low: int, high: int) -> int:
    """Raise `baseline` to `tick` in the slots that the mask (low, high) names and that were born by then."""
    for place in range(SLOT_COUNT):
        if (high if place >= 64 else low) >> (place & 63) & 1 and born[place] <= tick:
            baseline[place] = max(int(baseline[place]), tick)
    return 0


def _by_mask(name: str, arrays: str, body: str) -> str:
    """LLVM assembly of a function over the slots of a mask: `body` has lanes `named` from `place` on, and `tick`."""
    return f"""
declare <8 x i32> @llvm.smax.v8i32(<8 x i32>, <8 x i32>)

define weak_odr i64 @{name}({arrays}, i64 %tick.wide, i64 %low, i64 %high) alwaysinline {{
  %tick.one = trunc i64 %tick.wide to i32
  %tick.first = insertelement <8 x i32> poison, i32 %tick.one, i32 0
  %tick = shufflevector <8 x i32> %tick.first, <8 x i32> poison, <8 x i32> zeroinitializer
  br label %ask
ask:
  %place = phi i64 [ 0, %0 ], [ %next, %after ]
  %bits = phi i64 [ %low, %0 ], [ %rest, %after ]
  %byte = trunc i64 %bits to i8
  %empty = icmp eq i8 %byte, 0
  br i1 %empty, label %after, label %slots
slots:
  %named = bitcast i8 %byte to <8 x i1>
  {body}
  br label %after
after:
  %next = add i64 %place, 8
  %shifted = lshr i64 %bits, 8
  %turned = icmp eq i64 %next, 64
  %rest = select i1 %turned, i64 %high, i64 %shifted
  %more = icmp slt i64 %next, {SLOT_COUNT}
  br i1 %more, label %ask, label %done
done:
  ret i64 0
}}
"""


STAMP_LLVM = _by_mask(
    "hitreg_stamp_slots",
    "ptr %row",
    """
  %at = getelementptr i32, ptr %row, i64 %place
  %old = load <8 x i32>, ptr %at, align 4
  %new = select <8 x i1> %named, <8 x i32> %tick, <8 x i32> %old
  store <8 x i32> %new, ptr %at, align 4""",
)
PROMOTE_LLVM = _by_mask(
    "hitreg_promote_slots",
    "ptr %baseline, ptr %born",
    """
  %at = getelementptr i32, ptr %baseline, i64 %place
  %old = load <8 x i32>, ptr %at, align 4
  %born.at = getelementptr i32, ptr %born, i64 %place
  %births = load <8 x i32>, ptr %born.at, align 4
  %lived = icmp sle <8 x i32> %births, %tick
  %raised = and <8 x i1> %named, %lived
  %higher = call <8 x i32> @llvm.smax.v8i32(<8 x i32> %old, <8 x i32> %tick)
  %new = select <8 x i1> %raised, <8 x i32> %higher, <8 x i32> %old
  store <8 x i32> %new, ptr %at, align 4""",
)

stamp_slots = llvm_function("hitreg_stamp_slots", STAMP_LLVM, _stamp_slots_plain, returns="i8")
promote_slots = llvm_function("hitreg_promote_slots", PROMOTE_LLVM, _promote_slots_plain, returns="i8")
