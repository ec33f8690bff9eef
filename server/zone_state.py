"""Zone-wide state: what changed, and who has been told (layouts: net/zone.py, server/zone_state_kernels.py).

A tick, in this order:

    acknowledge(…)      the acknowledgements of the commands that came
    view.take()         the columns as words (`ZoneView`), then commit(tick)
    sections(tick, …)   a section for every client that lacks something; shared by all who lack the same
    note(…)             the sequences of the snapshots that carry them; `lengths` of what none carries set to 0

A client begins with a join block of the state at a tick (`join_block`, `begin`) and gets sections of what changed after
it. Not before it has the block: until then it knows no names, and what came early would have to be kept apart from the
block, word by word. What was sent counts as told at once, so that a change is sent to most clients only once; when the
acknowledgements show that a section was lost, the client is told anew from what it is known to have.
"""

from dataclasses import dataclass

import numpy as np

from net.errors import NetError
from net.zone import SECTION_BYTES_MAX, ZoneField, ZoneKind, ZoneLayout, pack_join
from server.errors import GameError, ServerError
from server.zone_state_kernels import (
    BEHIND,
    CACHED,
    CANDIDATES_MAX,
    COUNTERS,
    END,
    KNOWN,
    NOT_TOLD,
    SENT_RING,
    STAMP_BITS,
    TOLD,
    TOLD_COLUMNS,
    acknowledge_sections,
    commit_words,
    note_sections,
    write_sections,
)
from sim.arrays import I32, I64, U8, U32, U64, AnyArray
from sim.plugin import GameSpec
from sim.schema import Column, Component
from sim.table import Table
from sim.world import World

__all__ = ["ZoneState", "ZoneView", "zone_layout"]

SECTION_BYTES = 200
ENTRY_HEAD_BITS = 20 + 2 + 56 + 24 + 2 * 13  # row, flags, generation and zone of an id, and the count of entries


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
        links: I32 = np.full((rows + 1, 2), -1, np.int32)
        links[rows] = rows
        stamps: I64 = np.zeros((words + 1, rows), np.int64)
        self._state = (
            np.zeros(rows, np.uint64),
            np.zeros((words, rows), np.int32),
            stamps,
            np.zeros(rows, np.int64),
            links,
        )
        self._told: I64 = np.zeros((clients, TOLD_COLUMNS), np.int64)
        self._told[:, TOLD] = NOT_TOLD
        ring: I32 = np.full((clients, SENT_RING), -1, np.int32)
        self._clients = (self._told, ring, np.zeros((clients, SENT_RING, 2), np.int64))
        self.counters: I64 = np.zeros(len(COUNTERS), np.int64)
        most = min(rows, CANDIDATES_MAX)
        self._heap = (np.zeros(most, np.int64), np.zeros(most, np.int32))
        self._cache: I64 = np.zeros((CACHED, 4), np.int64)
        self._arena: U8 = np.zeros(clients * section_bytes, np.uint8)
        self._sections: I64 = np.zeros((clients, 3), np.int64)
        self._dirty: U8 = np.zeros(rows, np.uint8)
        self.lengths: I64 = self._sections[:, 1]

    def commit(self, tick: int) -> int:
        """Make `ids` and `words` the state of `tick`, which is above all before; how many rows changed.

        Raises:
            ServerError: `tick` does not come after the last one.
        """
        if not self.tick < tick < 1 << 31:
            raise ServerError(f"zone: tick {tick} does not follow {self.tick}")
        self.tick = tick
        return commit_words(tick, self.ids, self.words, self._state, self._dirty)

    def acknowledge(self, client: I32, sequence: I32, mask: U32) -> int:
        """Take the acknowledgements of a batch of commands, as `Replication.acknowledge` does; how many sections came.

        Args:
            client: Whose each is, int32, each from 0 to clients − 1.
            sequence: Newest snapshot taken, 0 to 65,535, int32.
            mask: Bit i: snapshot sequence − 1 − i was taken too, uint32.
        """
        return acknowledge_sections(client, sequence, mask, self._clients, self.counters)

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
        write_sections(
            tick, self._budget, due, self._told, self._state, self.layout.tables, self._heap, self._cache,
            self._arena, self._sections, self.counters,
        )  # fmt: skip
        return self._arena, self._sections[:, 0], self.lengths

    def note(self, client: I32, sequence: AnyArray) -> None:
        """Remember which snapshots carry the sections of this tick.

        Args:
            client: Those that were sent a snapshot, int32.
            sequence: Of that snapshot.
        """
        numbers = sequence.astype(np.int32)
        note_sections(client, numbers, self._sections, self._clients, self.counters)

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


@dataclass(frozen=True, slots=True)
class _Copy:
    """One column on its way into the words of one kind."""

    table: Table
    source: AnyArray
    row: int
    word: int
    field: ZoneField


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
        np.clip(source.T, np.int32(low), np.int32(high), out=out)
        return
    else:
        values = np.clip(source.astype(np.int64), low, high)
    np.copyto(out, values.T, casting="unsafe")
