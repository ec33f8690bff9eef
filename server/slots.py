"""What replication keeps of clients, entities and packets: columns, states and the types that kernels take.

Interest slots are as the ghosts of Tribes (Frohnmayer and Gift 2000): small numbers, reused, left and freed only by
acknowledgement. A slot goes through these states:

    FREE ──▶ HIDDEN ⇄ LIVE ──▶ LEAVING ──▶ HIDDEN or FREE        LIVE, LEAVING ──▶ DESPAWNED ──▶ FREE

LIVE: the client is told of the entity. HIDDEN: it is a candidate, but may not be told of now, and the client holds
nothing in the slot. LEAVING, DESPAWNED: the client is to empty the slot, until a packet that said so is acknowledged.

Per client and slot, (columns, clients, `SLOT_COUNT`), int32: `ENTITY` row (−1: none wanted), `BASELINE` tick that was
acknowledged last (`NO_BASELINE`), `BORN` tick from which packets speak of what the slot holds now (older ones are not
promoted), `SENT` tick of the newest record, `WEIGHT`; and uint8: `STATE`, `LEVEL` of the records, `TOLD` (1 where the
client may be told), `FACTOR` of the weight (16: once). That a row still
holds the slot's entity is seen by the tick at which the entity came to life (`SPAWNED`), which must not be after
`BORN`. A packet in flight remembers its tick and four words of bits: slots with a record, and slots told to leave.

An event waits per client as its number, in a ring of `HEARD_MAX` for those that concern it and another for the rest.
"""

from sim.arrays import I32, I64, U8, U64

__all__ = [
    "ACKED_TICK",
    "ACTIVE",
    "AT_ONCE",
    "BASELINE",
    "BITSET_WORDS",
    "BORN",
    "BUDGET",
    "BY_RANGE",
    "CHANGED",
    "CLIENT_COLUMNS",
    "COUNTERS",
    "COUNTS",
    "DESPAWNED",
    "ENTITY",
    "EVERYONE",
    "EXACT",
    "FACTOR",
    "FREE",
    "HEARD_MAX",
    "HIDDEN",
    "HIDDEN_SLOT",
    "INPUT_TICK",
    "INTERVAL",
    "LAST_TICK",
    "LEAD",
    "LEAVING",
    "LEVEL",
    "LEVELS",
    "LIVE",
    "MARKS",
    "NEVER",
    "NEXT_SEQUENCE",
    "NO_BASELINE",
    "OUTSTANDING",
    "OWNER_BYTES",
    "OWNER_MARK",
    "OWNER_ONLY",
    "OWN_HEARD",
    "OWN_READ",
    "OWN_ROW",
    "REACH",
    "READ",
    "SENT",
    "SENT_TYPE",
    "SLOTS_TYPE",
    "SLOT_COLUMNS",
    "SLOT_COUNT",
    "SLOT_FLAGS",
    "SPAWNED",
    "STATE",
    "STEADY",
    "TARGET_LEAD",
    "TEAM_MARK",
    "TOLD",
    "TOP",
    "WEIGHT",
    "WORLD_TYPE",
    "WRITTEN",
    "ZONE_BYTES",
    "ZONE_OFFSET",
    "Sent",
    "Slots",
    "World",
]  # fmt: skip

BY_RANGE, EVERYONE, OWNER_ONLY, HIDDEN = 0, 1, 2, 3  # rule of an entity
SLOT_COUNT = 128
FREE, LIVE, HIDDEN_SLOT, LEAVING, DESPAWNED = 0, 1, 2, 3, 4  # state of a slot
NO_BASELINE = -1
ENTITY, BASELINE, BORN, SENT, WEIGHT = 0, 1, 2, 3, 4
SLOT_COLUMNS = 5
STATE, LEVEL, TOLD, FACTOR = 0, 1, 2, 3
SLOT_FLAGS = 4
SLOTS_TYPE = "Tuple((i4[:,:,::1], u1[:,:,::1]))"
Slots = tuple[I32, U8]

# sent packets, a ring of 64 per client: tick; bits
BITSET_WORDS = 4
SENT_TYPE = "Tuple((i4[:,::1], i8[:,:,::1]))"
Sent = tuple[I32, I64]

ACTIVE, AT_ONCE, INTERVAL, BUDGET, NEXT_SEQUENCE, LAST_TICK, ACKED_TICK, TOP = 0, 1, 2, 3, 4, 5, 6, 7
INPUT_TICK, LEAD, TARGET_LEAD, OWNER_BYTES, OWN_ROW = 8, 9, 10, 11, 12
WRITTEN, READ, OWN_HEARD, OWN_READ = 13, 14, 15, 16  # events heard so far and taken so far, of both rings
ZONE_OFFSET, ZONE_BYTES = 17, 18
OUTSTANDING = 19  # bit i: the snapshot i before the newest is not acknowledged yet
REACH = 20  # how far relevance is looked for [cm], 0: as far as the limits allow
CLIENT_COLUMNS = 21
HEARD_MAX = 64

# world: entity id; marks; history of fields by (tick mod ring, entity); state: tick of the newest, and of the oldest
# in an unbroken sequence
LEVELS = 3
SPAWNED, CHANGED, STEADY, EXACT = 0, 1, 2, 3  # marks, ticks; EXACT: one for each of the LEVELS
NEVER = (1 << 31) - 1  # `SPAWNED` of what does not live
OWNER_MARK, TEAM_MARK = EXACT + LEVELS, EXACT + LEVELS + 1  # not ticks: what is read together lies together
MARKS = TEAM_MARK + 1
WORLD_TYPE = "Tuple((u8[::1], i4[:,::1], i4[:,:,::1], i8[::1]))"
World = tuple[U64, I32, I32, I64]

COUNTERS = (
    "slots_full", "relevant_cut", "snapshots", "payload_bytes", "records_sent", "records_full", "records_encoded",
    "records_deferred", "records_at_rest", "records_steady", "records_in_flight", "arena_full", "leaves_sent",
    "events_sent", "events_deferred", "events_lost", "events_hidden", "acks", "acks_unknown", "snapshots_held",
    "record_bytes", "zone_deferred",
)  # fmt: skip
COUNTS = {name: number for number, name in enumerate(COUNTERS)}
