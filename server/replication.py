"""What every client is told: relevance, baselines, budgets and packets, for all clients of a zone at once.

A tick, in this order:

    acknowledge(…)   the acknowledgements of the commands that came
    fields[…] = …    the quantised state (`quantise_vectors`, or plain assignment of integers), then commit(tick, ids)
    push_events(…)   what happened
    refresh(…)       choose what is relevant: for a share of the clients, and of what is new for all
    (told[…] = …     which of the candidates each client may be told of, where visibility decides)
    encode(…)        snapshots of the clients that are due, into `payload` and `length`

Payload layout and loss safety: net/snapshots.py; slots and columns: server/slots.py. The encode-once scheme
(server/replication_kernels.py): a record depends on entity, level, baseline tick and tick only, so it is encoded when
the first client needs it and copied for the others. When nothing needs to be said: server/history_kernels.py. Who
hears of what: server/hearing_kernels.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from net.records_kernels import RECORD_WORDS_MAX
from net.snapshots import (
    EVENT_POSITION_SCALE,
    EVENT_VECTOR_SCALE,
    OWNER_BYTES_MAX,
    PAYLOAD_BYTES,
    FieldTable,
)
from net.snapshots_kernels import quantise_scalars, quantise_vectors
from server.errors import ServerError
from server.hearing_kernels import EVENT_BYTES_MAX, IMPLIED, PUBLIC, SOUND, push_events
from server.history_kernels import commit
from server.join_kernels import DRAFT_COLUMNS
from server.relevance_kernels import build_cells, offer, refresh
from server.replication_kernels import BUDGET_MIN, acknowledge, assemble
from server.slots import (
    ACTIVE,
    AT_ONCE,
    BITSET_WORDS,
    BUDGET,
    BY_RANGE,
    CLIENT_COLUMNS,
    COUNTERS,
    ENTITY,
    EVERYONE,
    FACTOR,
    FREE,
    HEARD_MAX,
    HIDDEN,
    HIDDEN_SLOT,
    INPUT_TICK,
    INTERVAL,
    LAST_TICK,
    LEAD,
    LIVE,
    MARKS,
    OWN_ROW,
    OWNER_BYTES,
    OWNER_MARK,
    OWNER_ONLY,
    SLOT_COLUMNS,
    SLOT_COUNT,
    SLOT_FLAGS,
    STATE,
    TARGET_LEAD,
    TEAM_MARK,
    TOLD,
    ZONE_BYTES,
    ZONE_OFFSET,
)
from server.strings_kernels import SHARED_LEVELS
from sim.arrays import F64, I32, I64, U8, U16, U32, U64
from sim.plugin import EventSpec

__all__ = ["BY_RANGE", "EVERYONE", "HIDDEN", "OWNER_ONLY", "Replication", "ReplicationLimits"]

SENT_RING = 64  # one bit each in `OUTSTANDING`
CELLS_SIDE = 64
ARENA_MAX = 1 << 22
EVENT_KINDS_MAX = 1 << 16
OFFERED_MAX = 256  # new entities that are offered at once; of more at a time clients learn at their refresh


@dataclass(frozen=True, slots=True)
class ReplicationLimits:
    """The named limits of replication, and what happens beyond each (all counted in `Replication.counts`).

    Attributes:
        relevant: Entities a client is told of; beyond, the nearest (`relevant_cut`).
        range_enter_m, range_exit_m: An entity becomes relevant within the first, and ceases beyond the second.
        refresh_ticks: Each client's relevance is chosen anew every so many ticks; what is new is offered at once.
        interval_ticks: A snapshot every so many ticks, unless set otherwise per client.
        budget_bytes: Most bytes of a snapshot; beyond, the least urgent records wait (`records_deferred`).
        event_bytes: Most bytes of events in a snapshot; beyond, they wait (`events_deferred`), at most 63 ticks
            (`events_lost`).
        events: Events kept for clients that have not had a snapshot since; the oldest give way (`events_lost`).
        history_ticks: Ticks that can serve as baselines, a power of two up to 64; without an acknowledgement for so
            long, full records are sent.
        arena_words: Encoded records of one tick, in words of 8 bytes; beyond, further ones wait (`arena_full`).
    """

    relevant: int = 64
    range_enter_m: float = 120.0
    range_exit_m: float = 135.0
    refresh_ticks: int = 12
    interval_ticks: int = 2
    budget_bytes: int = 1150
    event_bytes: int = 96
    events: int = 4096
    history_ticks: int = 32
    arena_words: int = 1 << 18

    def __post_init__(self) -> None:
        """Refuses what the layouts cannot carry."""
        bounds = {
            "relevant": (self.relevant, 1, SLOT_COUNT),
            "refresh_ticks": (self.refresh_ticks, 1, 1000),
            "interval_ticks": (self.interval_ticks, 1, 1000),
            "budget_bytes": (self.budget_bytes, BUDGET_MIN, PAYLOAD_BYTES),
            "event_bytes": (self.event_bytes, 0, PAYLOAD_BYTES),
            "events": (self.events, 1, 1 << 20),
            "arena_words": (self.arena_words, RECORD_WORDS_MAX, ARENA_MAX),
        }
        for name, (value, low, high) in bounds.items():
            if not low <= value <= high:
                raise ServerError(f"replication: {name} = {value}: give it {low} to {high}")
        if self.history_ticks not in {8, 16, 32, 64}:
            raise ServerError(f"replication: history_ticks = {self.history_ticks}: give it 8, 16, 32 or 64")
        if not 0.0 < self.range_enter_m <= self.range_exit_m < 1e5:
            raise ServerError(
                f"replication: range_enter_m = {self.range_enter_m}, range_exit_m = {self.range_exit_m}: give them"
                " 0 < enter ≤ exit < 100,000"
            )


class Replication:
    """Snapshots for all clients of a zone; one instance lives on the tick thread.

    Attributes:
        fields: Quantised state to be filled before `commit`, shape (entities, fields), int32.
        rule: Who may be told of an entity: BY_RANGE, EVERYONE, OWNER_ONLY or HIDDEN, shape (entities,), uint8.
        owner: Client that owns it, −1 none, int32: it is told of columns for owners. team: its team, 0 none, uint8.
        importance: 1 to 255, uint8; 16 is usual.
        client_team: Whose team columns a client is told of, 0: nobody's; shape (clients,), uint8.
        view: Where each client listens and looks from [m], shape (clients, 3), float64.
        own_id: Each client's own entity, uint64; 0: none. Its motion goes by the owner section alone.
        interval: Ticks per snapshot, per client, int64.
        budget: Bytes of the next snapshot, `BUDGET_MIN` to 1,200, or 0: none now; per client, int64. See `pace`.
        input_tick, lead_q4, target_lead: Header values per client, int64; the newest input applied, and of the others
            the low 16 and 8 bits.
        owner_section, owner_bytes: Owner section per client, shape (clients, 128), uint8, and its length, int64; 0: no
            section, which tells the client that its prediction of this tick was right.
        zone_offset, zone_bytes: The section of zone-wide state per client within the array given to `encode`, int64.
        candidate: Row of the entity that each slot may be told of, −1: none, shape (clients, 128), int32. An entity
            keeps its slot as long as it is relevant.
        told: 1 where it may be told now, shape (clients, 128), uint8; the own entity is told in any case.
        factor: Times 16 of a slot's weight when the budget binds, shape (clients, 128), uint8.
        payload: The snapshots of this tick, shape (clients, 1200), uint8; length: their bytes, int32, 0: not due.
        counters: One per name of `COUNTERS`, int64; `counts()` names them.
    """

    def __init__(
        self,
        fields: FieldTable,
        *,
        clients: int,
        entities: int,
        events: Sequence[EventSpec] = (),
        limits: ReplicationLimits | None = None,
        share_records: bool = True,
    ) -> None:
        """Allocate all that replication will ever use.

        Args:
            fields: What is replicated of every entity.
            clients: Capacity.
            entities: Capacity; rows are the entity table's.
            events: How far each kind of event is heard, by its number; of further kinds, as `EventSpec` has it.
            limits: See `ReplicationLimits`.
            share_records: False encodes each record anew for each client: the reference of the benchmark.

        Raises:
            ServerError: A capacity is out of range.
        """
        if not 1 <= clients <= 16384 or not 1 <= entities < 1 << 20:
            raise ServerError(f"replication: {clients} clients and {entities} entities: at most 16,384 and 1,048,575")
        self.limits = limits or ReplicationLimits()
        self.table, self.clients, self.entities = fields, clients, entities
        self._allocate_entities(share_records=share_records)
        self._allocate_clients()
        self._allocate_events(events)
        self._allocate_scratch()
        self.counters: I64 = np.zeros(len(COUNTERS), dtype=np.int64)

    def _allocate_entities(self, *, share_records: bool) -> None:
        entities, count, ring = self.entities, len(self.table), self.limits.history_ticks
        self.fields: I32 = np.zeros((entities, count), dtype=np.int32)
        self.rule: U8 = np.zeros(entities, dtype=np.uint8)
        self.owner: I32 = np.full(entities, -1, dtype=np.int32)
        self.team: U8 = np.zeros(entities, dtype=np.uint8)
        self.importance: U8 = np.full(entities, 16, dtype=np.uint8)
        self._world = (
            np.zeros(entities, dtype=np.uint64),
            np.zeros((entities, MARKS), dtype=np.int32),
            np.zeros((ring, entities, count), dtype=np.int32),
            np.full(2, -1, dtype=np.int64),
        )
        self._records = (
            self.table.codec,
            np.zeros(self.limits.arena_words, dtype=np.int64),
            np.full((SHARED_LEVELS * ring * entities + SLOT_COUNT) * 2, -1, dtype=np.int64),
            np.array([0, ring - ring // 4, share_records], dtype=np.int64),
        )
        rows = [(int(f.bound / f.step), f.bits, int(f.wraps), f.level) for f in self.table.fields]
        self._bounds: I64 = np.array(rows, dtype=np.int64)
        self._fresh: I32 = np.zeros(entities, dtype=np.int32)
        self._fresh_count = 0

    def _allocate_clients(self) -> None:
        clients = self.clients
        columns: I64 = np.zeros((clients, CLIENT_COLUMNS), dtype=np.int64)
        columns[:, INTERVAL] = self.limits.interval_ticks
        columns[:, BUDGET] = self.limits.budget_bytes
        columns[:, LAST_TICK] = columns[:, OWN_ROW] = -1
        self._columns = columns
        self.interval: I64 = columns[:, INTERVAL]
        self.budget: I64 = columns[:, BUDGET]
        self.input_tick: I64 = columns[:, INPUT_TICK]
        self.lead_q4: I64 = columns[:, LEAD]
        self.target_lead: I64 = columns[:, TARGET_LEAD]
        self.owner_bytes: I64 = columns[:, OWNER_BYTES]
        self.zone_offset: I64 = columns[:, ZONE_OFFSET]
        self.zone_bytes: I64 = columns[:, ZONE_BYTES]
        self.client_team: U8 = np.zeros(clients, dtype=np.uint8)
        self.view: F64 = np.zeros((clients, 3))
        self.own_id: U64 = np.zeros(clients, dtype=np.uint64)
        self.owner_section: U8 = np.zeros((clients, OWNER_BYTES_MAX), dtype=np.uint8)
        self.payload: U8 = np.zeros((clients, PAYLOAD_BYTES), dtype=np.uint8)
        self.length: I32 = np.zeros(clients, dtype=np.int32)
        rows = (
            clients // 8 * 8 + 9
        )  # one more than a multiple of 8, or a slot's columns would lie 4 kB apart: see slots
        columns_of_slots: I32 = np.zeros((SLOT_COLUMNS, rows, SLOT_COUNT), dtype=np.int32)
        columns_of_slots[ENTITY] = -1
        flags: U8 = np.zeros((SLOT_FLAGS, rows, SLOT_COUNT), dtype=np.uint8)
        self.candidate: I32 = columns_of_slots[ENTITY, :clients]
        self.told: U8 = flags[TOLD, :clients]
        self.factor: U8 = flags[FACTOR, :clients]
        self._slots = (columns_of_slots, flags)
        self._sent = (
            np.zeros((clients, SENT_RING), dtype=np.int32),
            np.zeros((clients, SENT_RING, BITSET_WORDS), dtype=np.int64),
        )

    def _allocate_events(self, specs: Sequence[EventSpec]) -> None:
        usual = EventSpec("")
        self._event_range_2: F64 = np.full(EVENT_KINDS_MAX, usual.range_m**2)
        self._event_flags: U8 = np.zeros(EVENT_KINDS_MAX, dtype=np.uint8)
        for kind, spec in enumerate(specs):
            self._event_range_2[kind] = spec.range_m**2
            self._event_flags[kind] = SOUND * spec.sound | IMPLIED * spec.implied | PUBLIC * spec.public
        events = self.limits.events
        self._events = (
            np.zeros((events, 2, EVENT_BYTES_MAX), dtype=np.uint8),
            np.zeros((events, 4), dtype=np.int32),
            np.zeros((events, 2), dtype=np.uint64),
            np.zeros(1, dtype=np.int64),
            np.zeros((2, 3)),
            np.zeros(self.entities + 1, dtype=np.int32),
        )
        waiting: I32 = np.zeros((self.clients, 2, HEARD_MAX), dtype=np.int32)
        self._hearers = (self._columns, self.view, self.own_id, waiting)
        self._ears = (
            np.zeros((4, self.clients)),
            np.zeros(self.clients, dtype=np.int64),
            np.zeros(self.clients, dtype=np.uint64),
        )

    def _allocate_scratch(self) -> None:
        entities = self.entities
        self._viewers = (self._columns, self.view)
        self._no_zone: U8 = np.zeros(1, dtype=np.uint8)
        self._cells = (
            np.zeros(CELLS_SIDE * CELLS_SIDE + 1, dtype=np.int32),
            np.zeros(entities, dtype=np.int32),
            np.zeros(entities, dtype=np.int32),
            np.zeros(entities, dtype=np.int32),
            np.zeros((entities, 3)),
        )
        self._frame: F64 = np.array([0.0, 0.0, 1.0, CELLS_SIDE])
        self._choice = (
            np.zeros(entities, dtype=np.int32),
            np.zeros(entities, dtype=np.int64),
            np.zeros(SLOT_COUNT, dtype=np.uint8),
        )
        words: I64 = np.zeros(SLOT_COUNT * (RECORD_WORDS_MAX + 1) + 1, dtype=np.int64)
        spans: I32 = np.zeros((DRAFT_COLUMNS, SLOT_COUNT), dtype=np.int32)
        kept: I64 = np.zeros(PAYLOAD_BYTES // 8 + 2, dtype=np.int64)
        self._draft = (spans, words, words.view(np.uint8), np.zeros(SLOT_COUNT, dtype=np.int64), kept)

    def join(self, client: int, *, own_id: int = 0) -> None:
        """Begin to tell `client` of the world, from nothing; its relevance is chosen at the next `refresh`.

        Raises:
            ServerError: `client` is not a client number.
        """
        if not 0 <= client < self.clients:
            raise ServerError(f"replication: client {client} is not from 0 to {self.clients - 1}")
        self._forget(client)
        self.own_id[client] = own_id
        self._columns[client, ACTIVE] = self._columns[client, AT_ONCE] = 1

    def leave(self, client: int) -> None:
        """Forget `client`: no more snapshots for it, and it owns nothing."""
        self._forget(client)
        self.owner[self.owner == client] = -1

    def _forget(self, client: int) -> None:
        self._columns[client] = 0
        self._columns[client, LAST_TICK] = self._columns[client, OWN_ROW] = -1
        self.interval[client] = self.limits.interval_ticks
        self.budget[client] = self.limits.budget_bytes
        self.own_id[client] = self.length[client] = self.client_team[client] = 0
        self._slots[1][STATE, client], self.candidate[client] = FREE, -1

    def quantise_vectors(self, name: str, values: F64) -> int:
        """Quantise a column of vectors into `fields`, saturating.

        Args:
            name: First of the three fields.
            values: In the fields' unit, shape (entities, 3), float64.

        Returns:
            How many numbers were out of range.
        """
        first = self.table.index(name)
        return quantise_vectors(values, 1.0 / self.table.fields[first].step, first, self.table.table, self.fields)

    def quantise_scalars(self, name: str, values: F64) -> int:
        """As `quantise_vectors`, for one field; values of shape (entities,), float64."""
        field = self.table.index(name)
        return quantise_scalars(values, 1.0 / self.table.fields[field].step, field, self.table.table, self.fields)

    def commit(self, tick: int, entity_id: U64) -> None:
        """Make `fields` the state of `tick`, which is above all before; ids of shape (entities,), uint64, 0: absent.

        Raises:
            ServerError: `tick` does not come after the last one.
        """
        newest = int(self._world[3][0])
        if not newest < tick < 1 << 30 or tick < 1:
            raise ServerError(f"replication: tick {tick} does not follow {newest}")
        self._fresh_count = commit(
            tick, entity_id, self.fields, self._world, self._bounds, self.table.codec, self._fresh
        )
        self._find_own()

    def _find_own(self) -> None:
        """Note in which row each client's own entity is; the low 24 bits of an id are its row."""
        rows = (self.own_id & np.uint64((1 << 24) - 1)).astype(np.int64)
        known = self._world[0]
        alive = (self.own_id != 0) & (known[np.minimum(rows, self.entities - 1)] == self.own_id)
        self._columns[:, OWN_ROW] = np.where(alive, rows, -1)

    def acknowledge(self, client: I32, sequence: I32, mask: U32) -> int:
        """Take the acknowledgements of a batch of commands, off the wire: any values, at worst counted.

        Args:
            client: Whose each is, int32, each from 0 to clients − 1.
            sequence: Newest snapshot taken, 0 to 65,535, int32.
            mask: Bit i: snapshot sequence − 1 − i was taken too, uint32.

        Returns:
            How many packets were acknowledged for the first time.
        """
        return acknowledge(client, sequence, mask, self._columns, self._slots, self._sent, self.counters)

    def push_events(
        self, tick: int, kind: U16, actor: U64, target: U64, position: F64, vector: F64, value: I64
    ) -> None:
        """Hand over the events of a tick, in columns; each client that is to hear of one does in its next snapshot."""
        push_events(
            tick,
            (kind, actor, target, position, vector, value),
            self._event_range_2,
            self._event_flags,
            (EVENT_POSITION_SCALE, EVENT_VECTOR_SCALE),
            self._hearers,
            self._ears,
            self._events,
            self.counters,
        )

    def refresh(self, tick: int, position: F64) -> int:
        """Choose what is relevant to each client whose turn it is; after `commit`.

        Args:
            tick: Now.
            position: Of all entities [m], shape (entities, 3), float64.

        Returns:
            How many clients were refreshed.
        """
        limits = self.limits
        entities = (self._world[0], position, self.rule, self.owner, self.importance, self._world[1])
        enter_2, exit_2 = limits.range_enter_m**2, limits.range_exit_m**2
        fresh = min(self._fresh_count, OFFERED_MAX)
        offer(tick, fresh, enter_2, self._viewers, entities, self._slots, self._fresh, self.counters)
        others = build_cells(entities, limits.range_exit_m, self._cells, self._frame)
        return refresh(
            tick,
            limits.refresh_ticks,
            limits.relevant,
            (enter_2, exit_2),
            others,
            self._viewers,
            entities,
            self._cells,
            self._frame,
            self._choice,
            self._slots,
            self.counters,
        )

    def pace(self, budget_bytes: F64) -> None:
        """Let snapshots be as large as congestion control allows, and hold them back where it allows nothing.

        Args:
            budget_bytes: What may be sent to each client now, shape (clients,), float64. A debt of one packet holds
                nothing back: blocks, which take all that is left over, always leave one. What everyone must be told
                fits in `BUDGET_MIN` bytes, so no snapshot is smaller; its debt delays the next.
        """
        room = budget_bytes + PAYLOAD_BYTES
        self.budget[:] = np.where(room > 0.0, np.clip(room, BUDGET_MIN, self.limits.budget_bytes), 0.0)

    def due(self, tick: int) -> I32:
        """The clients that get a snapshot at `tick`, ascending."""
        columns = self._columns
        turn = (np.arange(self.clients) + tick) % np.maximum(self.interval, 1) == 0
        return np.flatnonzero(turn & (columns[:, ACTIVE] != 0) & (self.budget > 0)).astype(np.int32)

    def encode(self, tick: int, zone: U8 | None = None) -> int:
        """Write the snapshots of all clients that are due into `payload` and `length`; how many.

        A client is due when (client + tick) mod interval is 0, which spreads clients over ticks.

        Args:
            tick: Now.
            zone: What `zone_offset` and `zone_bytes` speak of, uint8; None: nothing.
        """
        marks = self._world[1]
        marks[:, OWNER_MARK], marks[:, TEAM_MARK] = self.owner, self.team
        return assemble(
            tick,
            self.limits.event_bytes,
            self._hearers,
            (self.owner_section, self._no_zone if zone is None else zone),
            (self._slots, self._sent),
            self._world,
            (self._records, self.client_team),
            self._events,
            self._draft,
            (self.payload, self.length),
            self.counters,
        )

    def counts(self) -> dict[str, int]:
        """The counters by name, since the start."""
        return {name: int(value) for name, value in zip(COUNTERS, self.counters, strict=True)}

    def relevant(self, client: int) -> U64:
        """The ids of the entities that `client` is told of now, ascending."""
        return self._held(client, LIVE)

    def hidden(self, client: int) -> U64:
        """The ids of the entities within range that `client` may not be told of, ascending."""
        return self._held(client, HIDDEN_SLOT)

    def _held(self, client: int, state: int) -> U64:
        rows = self.candidate[client][self._slots[1][STATE, client] == state]
        return np.sort(self._world[0][rows[rows >= 0]])
