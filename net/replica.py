"""What a group of clients knows of the world: snapshots in, states, events and acknowledgements out.

One `ReplicaGroup` holds any number of clients, so that a process of a thousand bots decodes all its snapshots in one
call; a single client is a group of one.
"""

import numpy as np

from net.errors import NetError
from net.records_decode_kernels import PADDING
from net.replica_kernels import (
    ACCEPTED,
    BAD_BASELINE,
    EVENT_COUNT,
    HEAD_COLUMNS,
    INPUT_TICK,
    LEAD,
    MALFORMED,
    OWNER_BYTES,
    STALE,
    TARGET_LEAD,
    TICK,
    WRONG_TYPE,
    Events,
    Heads,
    Scratch,
    States,
    interpolate,
    receive,
)
from net.snapshots import (
    EVENT_POSITION_SCALE,
    EVENT_VECTOR_SCALE,
    OWNER_BYTES_MAX,
    PAYLOAD_BYTES,
    SLOTS,
    FieldTable,
)
from sim.arrays import F64, I32, I64, U8, U32, U64

__all__ = ["OUTCOMES", "ReplicaGroup"]

OUTCOMES = {
    ACCEPTED: "accepted",
    STALE: "stale",
    WRONG_TYPE: "wrong_type",
    MALFORMED: "malformed",
    BAD_BASELINE: "bad_baseline",
}
ROWS_MAX = 64


class ReplicaGroup:
    """The replicas of `clients` clients, kept in columns; a snapshot is applied whole or not at all.

    Attributes (rows are clients; all are to be read only):
        sequence: Newest snapshot taken, shape (clients,), int32; −1: none yet.
        ack_mask: Bit i: snapshot sequence − 1 − i was taken too, uint32. Both go into the next COMMAND.
        tick, lead_q4, target_lead: Of the newest snapshot's header, int64.
        input_tick: Newest input of the client that the server is known to have applied, int64.
        owner, owner_bytes: Its owner section, shape (clients, 128), uint8, and how much of it is used; 0: there was
            none, and the client's own prediction stands.
        entity_id: Entity in each slot, shape (clients, slots), uint64; 0: none.
        level: Of the newest full state in each slot, uint8: 0 everyone's fields, 1 the team's, 2 the owner's, 3 the
            client's own entity, whose motion comes in the owner section and is 0 here.
        record_age: Of the newest record in each slot: how many ticks older its baseline was, uint8; 0: a full state.
        state_tick: Tick of each slot's newest state, int32; −1: none.
        fields: That state, quantised, shape (clients, slots, fields), int32.
        event_count: Events received since `reset`, int64. The newest `events` of them are kept, number n at column
            n mod `events` of event_tick, event_kind, event_actor, event_target, event_position [m], event_vector,
            event_value; older ones give way.
        zone_offset, zone_length: Where in each payload of the last `receive` its zone section lies, and how long it is,
            shape (n,), int32; 0: it has none, or was not accepted.
        counters: How often each outcome of `receive` came (`OUTCOMES`), int64.
    """

    def __init__(
        self, clients: int, fields: FieldTable, *, slots: int = SLOTS, ring: int = 32, events: int = 256
    ) -> None:
        """Allocate all that the group will ever use.

        Args:
            clients: How many, at least 1.
            fields: The same table as the server's.
            slots: Interest slots per client, up to 128; a snapshot that names a higher one is malformed.
            ring: Snapshots kept as baselines, up to 64: at least as many as the server sends while its own ring of
                ticks lasts.
            events: Events kept per client.

        Raises:
            NetError: A number is out of its limits.
        """
        for name, value, most in (("slots", slots, SLOTS), ("ring", ring, ROWS_MAX), ("events", events, 65536)):
            if not 1 <= value <= most:
                raise NetError(f"replica: {name} is {value}; give it 1 to {most}")
        if clients < 1:
            raise NetError(f"replica: clients is {clients}; give it at least 1")
        self.clients, self.slots, self.ring, self.events, self.table = clients, slots, ring, events, fields
        self._allocate_heads()
        self._allocate_states()
        self._allocate_events()
        self.counters: I64 = np.zeros(len(OUTCOMES), dtype=np.int64)
        self._scratch: Scratch = (
            np.zeros((SLOTS, len(fields)), dtype=np.int32),
            np.zeros(SLOTS, dtype=np.uint64),
            np.zeros((SLOTS, 3), dtype=np.int32),
            np.zeros((2, 3)),
            np.zeros(PAYLOAD_BYTES + PADDING, dtype=np.uint8),
        )
        self.zone_offset: I32 = np.zeros(0, dtype=np.int32)
        self.zone_length: I32 = np.zeros(0, dtype=np.int32)
        self._position: F64 = np.zeros((clients, slots, 3))
        self._shown: U8 = np.zeros((clients, slots), dtype=np.uint8)

    def _allocate_heads(self) -> None:
        clients = self.clients
        self._head: I64 = np.zeros((clients, HEAD_COLUMNS), dtype=np.int64)
        self.sequence: I32 = np.full(clients, -1, dtype=np.int32)
        self.ack_mask: U32 = np.zeros(clients, dtype=np.uint32)
        self.owner: U8 = np.zeros((clients, OWNER_BYTES_MAX), dtype=np.uint8)
        self.tick: I64 = self._head[:, TICK]
        self.input_tick: I64 = self._head[:, INPUT_TICK]
        self.lead_q4: I64 = self._head[:, LEAD]
        self.target_lead: I64 = self._head[:, TARGET_LEAD]
        self.owner_bytes: I64 = self._head[:, OWNER_BYTES]
        self.event_count: I64 = self._head[:, EVENT_COUNT]
        self._heads: Heads = (self.sequence, self.ack_mask, self._head, self.owner)

    def _allocate_states(self) -> None:
        clients, slots, ring, count = self.clients, self.slots, self.ring, len(self.table)
        self.entity_id: U64 = np.zeros((clients, slots), dtype=np.uint64)
        self.state_tick: I32 = np.full((clients, slots), -1, dtype=np.int32)
        self.record_age: U8 = np.zeros((clients, slots), dtype=np.uint8)
        self.level: U8 = np.zeros((clients, slots), dtype=np.uint8)
        self.fields: I32 = np.zeros((clients, slots, count), dtype=np.int32)
        self._states: States = (
            self.entity_id,
            self.state_tick,
            self.fields,
            np.zeros((clients, ring, slots, count), dtype=np.int32),
            np.zeros((clients, slots), dtype=np.uint64),
            np.full((clients, ring), -1, dtype=np.int32),
            self.level,
            self.record_age,
        )

    def _allocate_events(self) -> None:
        shape = (self.clients, self.events)
        number: I64 = np.zeros((*shape, 3), dtype=np.int64)
        party: U64 = np.zeros((*shape, 2), dtype=np.uint64)
        place: F64 = np.zeros((*shape, 2, 3))
        self._events: Events = (number, party, place)
        self.event_tick, self.event_kind, self.event_value = number[..., 0], number[..., 1], number[..., 2]
        self.event_actor, self.event_target = party[..., 0], party[..., 1]
        self.event_position, self.event_vector = place[..., 0, :], place[..., 1, :]

    def reset(self, client: int) -> None:
        """Forget all that `client` received, as for a new connection."""
        self.sequence[client] = -1
        self.ack_mask[client] = 0
        self._head[client] = 0
        self.entity_id[client] = 0
        self.state_tick[client] = -1
        self._states[4][client] = 0
        self._states[5][client] = -1
        self.level[client] = 0

    def receive(self, client: I32, payload: U8, length: I32) -> I32:
        """Decode snapshots off the wire; hostile bytes are counted by reason and dropped, never raise.

        Args:
            client: Whose each is, shape (n,), int32.
            payload: One a row, shape (n, ≥ longest), uint8, C-contiguous.
            length: Bytes used of each row, shape (n,), int32.

        Returns:
            The outcome of each (a key of `OUTCOMES`), shape (n,), int32.

        Raises:
            NetError: The arrays do not fit together, or a client or length is out of range (the caller's mistake).
        """
        client, length = np.ascontiguousarray(client, dtype=np.int32), np.ascontiguousarray(length, dtype=np.int32)
        count = len(client)
        if payload.ndim != 2 or payload.dtype != np.uint8 or len(payload) != count or len(length) != count:
            raise NetError("replica: client, payload and length must have one row per snapshot, payload uint8")
        if count and not (client.min() >= 0 and client.max() < self.clients):
            raise NetError(f"replica: a client is not from 0 to {self.clients - 1}")
        if count and not (length.min() >= 0 and length.max() <= payload.shape[1]):
            raise NetError(f"replica: a length is not from 0 to {payload.shape[1]}")
        outcome = np.zeros(count, dtype=np.int32)
        zone = np.zeros((count, 2), dtype=np.int32)
        self.zone_offset, self.zone_length = zone[:, 0], zone[:, 1]
        receive(
            client,
            np.ascontiguousarray(payload),
            length,
            self._heads,
            self._states,
            self._events,
            self.table.codec,
            (EVENT_POSITION_SCALE, EVENT_VECTOR_SCALE),
            self._scratch,
            self.counters,
            (outcome, zone),
        )
        return outcome

    def receive_bytes(self, client: int, payload: bytes) -> int:
        """Decode one snapshot for one client; the outcome (a key of `OUTCOMES`)."""
        # A view of bytes is read-only, which is another type to the kernel: it would be compiled a second time.
        data = np.frombuffer(payload[: PAYLOAD_BYTES + 1], dtype=np.uint8).copy().reshape(1, -1)
        outcome = self.receive(np.array([client], dtype=np.int32), data, np.array([data.shape[1]], dtype=np.int32))
        return int(outcome[0])

    def view(self, moment: F64, *, limit_ticks: float = 15.0, gap_ticks: float = 8.0) -> tuple[F64, U8]:
        """Where every entity is shown at a fractional tick, for each client at its own moment.

        Between two received states the position is interpolated; after the newest one it is dead reckoned as the server
        does it, falls included, until `limit_ticks` after the newest snapshot. An entity that goes on as reckoned is
        not resent, so at most the last `gap_ticks` before a state are interpolated over.

        Args:
            moment: Tick to show, shape (clients,), float64.
            limit_ticks: Longest extrapolation after the newest snapshot [ticks].
            gap_ticks: Longest interpolation [ticks].

        Returns:
            Positions [m], shape (clients, slots, 3), float64, and which slots show something, shape (clients,
            slots), uint8. Both are overwritten by the next call.

        Raises:
            NetError: `moment` has another shape, or a limit is not positive.
        """
        if moment.shape != (self.clients,) or limit_ticks < 0 or gap_ticks <= 0:
            raise NetError(f"replica: view needs {self.clients} moments, limit_ticks ≥ 0 and gap_ticks > 0")
        options = (
            self.table.fields[0].step,
            float(limit_ticks),
            float(gap_ticks),
        )
        moments = np.ascontiguousarray(moment, dtype=np.float64)
        interpolate(
            moments, self._states, options, self.table.codec, self._position, self._shown, self._scratch[3][0]
        )  # fmt: skip
        return self._position, self._shown
