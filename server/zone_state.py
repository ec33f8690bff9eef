"""Zone-wide state: what changed, and who has been told (layouts: net/zone.py, server/zone_state_kernels.py).

A tick, in this order:

    acknowledge(…)      the acknowledgements of the commands that came
    view.take()         the columns as words (`ZoneView`), then commit(tick)
    sections(tick, …)   a section for every client that lacks something; shared by all who lack the same
    attach(…)           behind the snapshots that were written; note(…) with their sequences

A client begins with a join block of the state at a tick (`join_block`, `begin`) and gets sections of what changed after
it. Not before it has the block: until then it knows no names, and what came early would have to be kept apart from the
block, word by word. What was sent counts as told at once, so that a change is sent to most clients only once; when the
acknowledgements show that a section was lost, the client is told anew from what it is known to have.
"""

from dataclasses import dataclass

import numpy as np

from net.errors import NetError
from net.zone import SECTION_BYTES_MAX, ZoneField, ZoneKind, ZoneLayout, pack_join
from net.zone_kernels import FRESH_BITS
from server.errors import GameError, ServerError
from server.zone_state_kernels import (
    BEHIND,
    KNOWN,
    NOT_TOLD,
    SENT_RING,
    SERIES,
    TOLD,
    TOLD_COLUMNS,
    acknowledge_sections,
    write_section,
)
from sim.arrays import I32, I64, U8, U32, U64, AnyArray
from sim.plugin import GameSpec
from sim.schema import Column, Component
from sim.table import Table
from sim.world import World

__all__ = ["ZoneState", "ZoneView", "zone_layout"]

SECTION_BYTES = 200
COUNTERS = ("sections", "sections_encoded", "sections_cut", "sections_lost", "sections_deferred", "clients_behind")
SECTIONS, ENCODED, CUT, LOST, DEFERRED, MADE_BEHIND = range(len(COUNTERS))
CANDIDATES_MAX = 4096  # changed rows that a section chooses from; beyond, the client needs a block
WALKED_MAX = 16_384  # changed rows looked at in a tick, for all clients together
SHARED_MAX = 64  # different sections in a tick
STAMP_BITS = 20
END = (1 << STAMP_BITS) - 1  # behind every rank
RANK_STEP = 40_503  # how far ranks turn per tick; odd and large, so that neighbouring ticks begin far apart
ENTRY_HEAD_BITS = 20 + 2 + FRESH_BITS + 1  # row, flags, id, and the section's end


def _declared(game: GameSpec) -> dict[str, Column[np.generic]]:
    """The zone-wide columns of a game by name, in the order of declaration."""
    found: dict[str, Column[np.generic]] = {}
    for kind in game.kinds:
        for component in kind.components if kind.replicated else ():
            for declared in component.columns.values():
                if declared.wire is not None and declared.wire.zone:
                    found[f"{component.component_name}.{declared.name}"] = declared
    return found


def _packs(declared: Column[np.generic]) -> bool:
    """Whether four numbers of a column are one word: bytes, as in texts."""
    wire = declared.wire
    whole = wire is not None and wire.bits == 8 and wire.step == 1.0
    return whole and declared.dtype == np.uint8 and len(declared.shape) > 0 and declared.shape[-1] % 4 == 0


def zone_layout(game: GameSpec) -> ZoneLayout:
    """Rows and words of the zone-wide state of a game; the same for server and clients.

    Raises:
        GameError: More is declared zone-wide than a row can hold.
    """
    columns = _declared(game)
    fields, kinds, base = [], [], 0
    for name, declared in columns.items():
        wire = declared.wire
        assert wire is not None
        count = int(np.prod(declared.shape, dtype=np.int64)) if declared.shape else 1
        fields.append(ZoneField(name, wire.bits, wire.signed, wire.step, count, _packs(declared)))
    for kind in game.kinds:
        if kind.replicated and any(_names(component) & columns.keys() for component in kind.components):
            kinds.append(ZoneKind(kind.name, base, kind.capacity))
        base += kind.capacity
    try:
        return ZoneLayout(fields, kinds)
    except NetError as error:
        raise GameError(f"game {game.name!r}: {error}") from error


def _names(component: type[Component]) -> set[str]:
    return {f"{component.component_name}.{name}" for name in component.columns}


class ZoneState:
    """The zone-wide state and what each client has of it; one instance lives on the tick thread.

    Attributes:
        layout: Of rows and words.
        ids: Occupants, to be filled before `commit`, shape (rows,), uint64; 0: none.
        words: Their words, to be filled before `commit`, shape (words, rows), int32.
        tick: Of the last commit.
        counters: One per name of `COUNTERS`, int64; `counts()` names them.
        lengths: Bytes of each client's section of this tick, shape (clients,), int64; 0: none.
    """

    def __init__(self, layout: ZoneLayout, *, clients: int, section_bytes: int = SECTION_BYTES) -> None:
        """Allocate all that will ever be used.

        Args:
            layout: See `zone_layout`.
            clients: Capacity.
            section_bytes: Most bytes of a section; beyond, the newest changes wait (`sections_cut`).

        Raises:
            ServerError: A number is out of range, or one row alone may not fit into a section.
        """
        least = (ENTRY_HEAD_BITS + layout.words + int(layout.bits[:, 0].sum()) + 7) // 8
        if not least <= section_bytes <= SECTION_BYTES_MAX or clients < 1:
            raise ServerError(
                f"zone: section_bytes = {section_bytes} for {clients} clients: give it {least} to {SECTION_BYTES_MAX};"
                " if that is impossible, declare fewer or smaller columns zone-wide"
            )
        rows, words = layout.rows, layout.words
        self.layout, self.clients, self._budget = layout, clients, section_bytes
        self.ids: U64 = np.zeros(rows, np.uint64)
        self.words: I32 = np.zeros((words, rows), np.int32)
        self.tick = 0
        stamps: I64 = np.zeros((words + 1, rows), np.int64)
        self._state = (np.zeros(rows, np.uint64), np.zeros((words, rows), np.int32), stamps)
        self._newest: I64 = np.zeros(rows, np.int64)  # the greatest stamp of each row
        self._rows: I64 = np.arange(rows)
        self._last = 0  # the greatest of all
        self._told: I64 = np.zeros((clients, TOLD_COLUMNS), np.int64)
        self._told[:, TOLD] = NOT_TOLD
        ring: I32 = np.full((clients, SENT_RING), -1, np.int32)
        self._clients = (self._told, ring, np.zeros((clients, SENT_RING, 2), np.int64))
        self.counters: I64 = np.zeros(len(COUNTERS), np.int64)
        self._parts: I64 = np.zeros((words + 3, 2), np.int64)
        self._end: I64 = np.zeros(1, np.int64)
        self._arena: U8 = np.zeros(clients * section_bytes, np.uint8)
        self._sections: I64 = np.zeros((clients, 3), np.int64)
        self.lengths: I64 = self._sections[:, 1]

    def commit(self, tick: int) -> int:
        """Make `ids` and `words` the state of `tick`, which is above all before; how many rows changed.

        Raises:
            ServerError: `tick` does not come after the last one.
        """
        if not self.tick < tick < 1 << 31:
            raise ServerError(f"zone: tick {tick} does not follow {self.tick}")
        self.tick = tick
        ids, words, stamps = self._state
        differs = self.words != words
        dirty = differs.any(axis=0)
        # What columns hold where nobody is, nobody is told.
        dirty &= self.ids != 0
        dirty |= self.ids != ids
        rows = np.flatnonzero(dirty)
        if len(rows) == 0:
            return 0
        stamp = tick << STAMP_BITS | (rows + tick * RANK_STEP) % len(ids)
        fresh = self.ids[rows] != ids[rows]
        changed = differs[:, rows] | fresh
        stamps[:-1, rows] = np.where(changed, stamp, stamps[:-1, rows])
        stamps[-1, rows[fresh]] = stamp[fresh]
        ids[rows], words[:, rows] = self.ids[rows], self.words[:, rows]
        self._newest[rows] = stamp
        self._last = int(stamp.max())
        return len(rows)

    def acknowledge(self, client: I32, sequence: I32, mask: U32) -> int:
        """Take the acknowledgements of a batch of commands, as `Replication.acknowledge` does; how many sections came.

        Args:
            client: Whose each is, int32, each from 0 to clients − 1.
            sequence: Newest snapshot taken, 0 to 65,535, int32.
            mask: Bit i: snapshot sequence − 1 − i was taken too, uint32.
        """
        return acknowledge_sections(client, sequence, mask, self._clients, self.counters[LOST : LOST + 1])

    def sections(self, tick: int, due: I32) -> tuple[U8, I64, I64]:
        """Write what clients lack, oldest changes first; the same for all who lack the same.

        Args:
            tick: Of the last commit.
            due: Clients whose snapshot is written in this tick, or more of them, int32.

        Returns:
            An arena, and each client's offset and length in it, shape (clients,), int64; overwritten by the next call.
            Who is not due has no section.
        """
        self.lengths[:] = 0
        bases = self._told[due, TOLD]
        asked = (bases != NOT_TOLD) & (self._told[due, BEHIND] == 0)
        lacking = asked & (bases < self._last)
        self._told[due[asked & ~lacking], TOLD] = tick << STAMP_BITS | END
        if lacking.any():
            self._write(tick, due[lacking], bases[lacking])
        return self._arena, self._sections[:, 0], self.lengths

    def _write(self, tick: int, clients: I32, bases: I64) -> None:
        """Write a section for each base, and give it to the clients that have been told so much."""
        different, group = np.unique(bases, return_inverse=True)
        made: I64 = np.zeros((len(different), 3), np.int64)
        at, walked = 0, 0
        # Which come first turns with the tick, so that the limits meet everyone alike.
        first = tick * RANK_STEP % len(different)
        for turn in range(min(len(different), SHARED_MAX)):
            which = (first + turn) % len(different)
            base = int(different[which])
            rows = self._rows[self._newest > base]
            walked += len(rows)
            if len(rows) > CANDIDATES_MAX:
                late = clients[group == which]
                self._told[late, BEHIND] = 1
                self.counters[MADE_BEHIND] += len(late)
                continue
            if walked > WALKED_MAX or at + self._budget > len(self._arena):
                break
            made[which] = self._write_one(tick, base, rows, at)
            at += int(made[which, 1])
        self.counters[DEFERRED] += int(np.count_nonzero(made[group, 1] == 0))
        self._sections[clients] = made[group]

    def _write_one(self, tick: int, base: int, rows: I64, at: int) -> tuple[int, int, int]:
        """Write the section of rows that changed after a stamp: its offset, length and how far it tells."""
        stamps = self._state[2][:, rows]
        oldest = np.where(stamps > base, stamps, 1 << 62).min(axis=0)
        order = np.argsort(oldest)
        written = write_section(
            base, self._budget, rows[order], at, self._state, self.layout.tables, self._parts, self._arena, self._end
        )
        self.counters[ENCODED] += 1
        upto = tick << STAMP_BITS | END
        if written < len(rows):
            self.counters[CUT] += 1
            upto = int(oldest[order[written]]) - 1
        return at, int(self._end[0]) - at, upto

    def note(self, client: I32, sequence: AnyArray) -> None:
        """Remember which snapshots carry the sections of this tick.

        Args:
            client: Those that were sent a snapshot, each once, int32.
            sequence: Of that snapshot.
        """
        carry = self.lengths[client] > 0
        rows = client[carry]
        if len(rows) == 0:
            return
        told, sent, carried = self._clients
        number = sequence[carry].astype(np.int64) & 0xFFFF
        place = number % SENT_RING
        # Not settled in 64 snapshots: what follows repeats from what is known.
        stuck = (sent[rows, place] >= 0) & (carried[rows, place, 1] == told[rows, SERIES])
        lost = rows[stuck]
        told[lost, TOLD] = told[lost, KNOWN]
        told[lost, SERIES] += 1
        sent[lost, place[stuck]] = -1
        rows, number, place = rows[~stuck], number[~stuck], place[~stuck]
        told[rows, TOLD] = self._sections[rows, 2]
        sent[rows, place] = number
        carried[rows, place, 0], carried[rows, place, 1] = self._sections[rows, 2], told[rows, SERIES]
        self.counters[SECTIONS] += len(rows)
        self.counters[LOST] += len(lost)

    def told(self) -> I32:
        """The clients that are told of changes, ascending, int32."""
        return np.flatnonzero(self._told[:, TOLD] != NOT_TOLD).astype(np.int32)

    def behind(self) -> I32:
        """Clients for which so much has changed that they need a new block, ascending, int32."""
        return np.flatnonzero(self._told[:, BEHIND]).astype(np.int32)

    def begin(self, client: int, tick: int) -> None:
        """From now on tell a client what changes after `tick`, whose join block it has; begins anew if it was told."""
        self.leave(client)
        self._told[client, (TOLD, KNOWN)] = tick << STAMP_BITS | END

    def leave(self, client: int) -> None:
        """Tell a client nothing more."""
        self._told[client] = 0
        self._told[client, TOLD] = NOT_TOLD
        self._clients[1][client] = -1
        self._sections[client] = 0

    def join_block(self) -> tuple[bytes, int]:
        """The whole state of the last commit, before compression (`net.zone.pack_join`), and how many rows it has.

        So long are the parts that it ends with, one for each plane of bytes.
        """
        ids, words = self._state[0], self._state[1]
        row = np.flatnonzero(ids)
        content = pack_join(self.tick, row, ids[row], np.ascontiguousarray(words[:, row].T))
        return content, len(row)

    def occupied(self) -> tuple[U64, I32]:
        """Occupants and words of the last commit, a row each: what every client is told of; (rows,), (rows, words)."""
        ids = self._state[0].copy()
        words = np.ascontiguousarray(self._state[1].T)
        words[ids == 0] = 0
        return ids, words

    def counts(self) -> dict[str, int]:
        """The counters by name, since the start."""
        return {name: int(value) for name, value in zip(COUNTERS, self.counters, strict=True)}


@dataclass(slots=True)
class _Copy:
    """One column on its way into the words of one kind; of one that is packed, what was copied last."""

    table: Table
    source: AnyArray
    row: int
    word: int
    field: ZoneField
    seen: bytes = b""


class ZoneView:
    """Copies the world's zone-wide columns into a `ZoneState`, quantised, once per commit."""

    def __init__(self, world: World, state: ZoneState) -> None:
        self._state = state
        self._tables: list[tuple[int, Table]] = []
        self._copies: list[_Copy] = []
        components = {kind.name: kind.components for kind in world.game.kinds}
        row = 0
        for kind in state.layout.kinds:
            table = world.tables[kind.name]
            self._tables.append((row, table))
            for component in components[kind.name]:
                for name in component.columns:
                    full = f"{component.component_name}.{name}"
                    if any(field.name == full for field in state.layout.fields):
                        word, field = state.layout.place(full)
                        self._copies.append(_Copy(table, getattr(table[component], name), row, word, field))
            row += kind.count

    def take(self) -> None:
        """Quantise every zone-wide column, as of now."""
        for row, table in self._tables:
            self._state.ids[row : row + table.high_water] = table.ids[: table.high_water]
        for copy in self._copies:
            count, field = copy.table.high_water, copy.field
            if count:
                source = copy.source[:count].reshape(count, field.count)
                if field.packed:
                    # Texts hardly ever change, and take twenty times as long to be turned as to be compared.
                    now = source.tobytes()
                    if now == copy.seen:
                        continue
                    copy.seen = now
                out = self._state.words[copy.word : copy.word + field.words, copy.row : copy.row + count]
                _quantise(source, field, out)


def _quantise(source: AnyArray, field: ZoneField, out: I32) -> None:
    """Words of one column, shape (words, rows), from its values, shape (rows, count); saturating."""
    if field.packed:
        np.copyto(out, np.ascontiguousarray(source).view(np.int32).T)
        return
    low, high = (-(1 << field.bits - 1), (1 << field.bits - 1) - 1) if field.signed else (0, (1 << field.bits) - 1)
    if source.dtype.kind == "f":
        values = np.clip(np.rint(source * (1.0 / field.step)), low, high).astype(np.int64)
    elif field.step != 1.0:
        values = np.clip(source.astype(np.int64) // int(field.step), low, high)
    elif source.dtype.kind == "b" or (np.iinfo(source.dtype).min >= low and np.iinfo(source.dtype).max <= high):
        values = source
    elif source.dtype == np.int32 and field.bits < 32:
        # np.clip takes three times as long, most of it to see whether the bounds fit the type.
        np.minimum(source.T, high, out=out)
        np.maximum(out, low, out=out)
        return
    else:
        values = np.clip(source.astype(np.int64), low, high)
    np.copyto(out, values.T, casting="unsafe")
