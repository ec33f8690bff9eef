"""What chosen clients are told, taken from replication and handed to pages (`server.livetold`).

Nothing is done while nobody is asked for. Then each tick keeps the snapshots that were sent to the clients watched, and
a published frame makes messages for `PER_FRAME` of them, in turn: one watched player is heard of in every frame, eight
in every fourth.
"""

from collections import deque
from dataclasses import dataclass, field

import numpy as np

from net.snapshots import PAYLOAD_BYTES
from server.livetold import KEY, KEYS_MAX, SLOT, SNAPSHOT_BYTES_MAX, TOLD, WATCHED_MAX, ToldWriter
from server.loop import Clock
from server.replication import Replication
from server.sessions import Sessions
from server.sight import HALF_CONE, TURN_PER_S, Sight
from server.slots import (
    BASELINE,
    BORN,
    ENTITY,
    HIDDEN_SLOT,
    LAST_TICK,
    LEVEL,
    LIVE,
    NEXT_SEQUENCE,
    OUTSTANDING,
    SENT,
    STATE,
)
from server.transport import Transport
from server.views import Views
from sim.arrays import I64, AnyArray
from sim.world import World

__all__ = ["PER_FRAME", "ToldFeed", "WatchParts"]

PER_FRAME = 2
NOT_DECIDED = 255
NEVER_TOLD = 65535
SELF_LEVEL = 3
MOTION_FIELDS = 6


@dataclass(slots=True)
class WatchParts:
    """Where the figures of a page come from.

    Attributes:
        sight: What decides visibility; None: everything in range is told.
    """

    world: World
    transport: Transport
    replication: Replication
    sessions: Sessions
    views: Views
    clock: Clock
    sight: Sight | None = None


@dataclass(slots=True)
class _Watched:
    """One client that pages look at."""

    entity: int
    client: int
    number: int = 0
    key_tick: int = -(1 << 30)
    kept: list[bytes] = field(default_factory=list)
    kept_bytes: int = 0
    second: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=128))  # tick and bytes of snapshots


class ToldFeed:
    """Collects and publishes.

    Args:
        name: Of the feed.
        parts: Where it comes from.
        started_ns: As the feed's.

    Attributes:
        watched: How many clients are looked at.

    Raises:
        FeedError: The file cannot be made.
    """

    def __init__(self, name: str, parts: WatchParts, *, started_ns: int) -> None:
        self._parts = parts
        self._writer = ToldWriter(name, started_ns=started_ns)
        self._places: list[_Watched | None] = [None] * WATCHED_MAX
        self._turn = 0
        self._head: AnyArray = np.zeros(1, TOLD)
        self.watched = 0
        table = parts.replication.table
        self._told_fields = np.zeros((len(table.count), len(table)), bool)  # by level: which a client knows
        for level, count in enumerate(table.count):
            self._told_fields[level, :count] = True
        self._told_fields[SELF_LEVEL, :MOTION_FIELDS] = False

    def close(self) -> None:
        """End it; harmless when repeated."""
        self._writer.close()

    def tick(self, tick: int) -> None:
        """Keep what was sent in this tick to those who are watched."""
        if self.watched == 0:
            return
        replication = self._parts.replication
        for one in self._places:
            if one is None:
                continue
            length = int(replication.length[one.client])
            if length == 0:
                continue
            one.second.append((tick, length))
            one.kept.append(length.to_bytes(2, "little") + replication.payload[one.client, :length].tobytes())
            one.kept_bytes += length + 2
            if one.kept_bytes > SNAPSHOT_BYTES_MAX - PAYLOAD_BYTES - 2:  # nothing was published for long: a gap
                one.kept.clear()
                one.kept_bytes, one.number, one.key_tick = 0, one.number + 1, -(1 << 30)

    def publish(self, tick: int, wall_ns: int) -> None:
        """Look who is asked for, and publish messages for the next ones."""
        self._follow(self._writer.asked(self._parts.clock.now_ns()))
        if self.watched == 0:
            return
        active = [one for one in self._places if one is not None]
        for step in range(min(PER_FRAME, len(active))):
            one = active[(self._turn + step) % len(active)]
            self._writer.publish(self._message(one, tick, wall_ns))
        self._turn = (self._turn + PER_FRAME) % WATCHED_MAX if len(active) > PER_FRAME else 0

    def _follow(self, asked: list[int]) -> None:
        """Begin and end watching; whoever is not asked for, not a player or not a client is not watched."""
        players, sessions = self._parts.world.players, self._parts.sessions
        for place, entity in enumerate(asked):
            row = players.find(entity) if entity else -1
            client = int(sessions.client_of_row[row]) if row >= 0 else -1
            now = self._places[place]
            if client < 0:
                self._places[place] = None
            elif now is None or now.entity != entity or now.client != client:
                self._places[place] = _Watched(entity, client)
        self.watched = sum(one is not None for one in self._places)

    def _message(self, one: _Watched, tick: int, wall_ns: int) -> bytes:
        head = self._head
        one.number += 1
        slots = self._slots(one.client, tick, head)
        head["kind"], head["version"], head["number"], head["entity"] = 2, 1, one.number, one.entity
        head["tick"], head["wall_ns"], head["slot_count"] = tick, wall_ns, len(slots)
        self._fill(one, tick, head)
        parts = [slots.tobytes()]
        head["key_count"], head["field_count"] = 0, len(self._parts.replication.table)
        if tick - one.key_tick >= self._parts.world.tick_hz:
            one.key_tick = tick
            rows, states = self._key(one.client)
            head["key_count"] = len(rows)
            parts += [rows.tobytes(), states.tobytes()]
        head["snapshot_bytes"] = one.kept_bytes
        parts += one.kept
        one.kept, one.kept_bytes = [], 0
        return b"".join([head.tobytes(), *parts])

    def _fill(self, one: _Watched, tick: int, head: AnyArray) -> None:
        """What is known of a client beside its slots."""
        parts, client = self._parts, one.client
        views, endpoint, columns = parts.views, parts.transport.endpoint, parts.replication._columns
        hz = parts.world.tick_hz
        recent = [length for at, length in one.second if tick - at < hz]
        head["snapshot_hz"] = hz / max(int(parts.replication.interval[client]), 1)
        head["snapshot_Bps"] = sum(recent)
        head["budget"] = max(int(parts.replication.budget[client]), 0)
        head["rtt_ms"], head["loss"] = endpoint.rtt_ns[client] * 1e-6, endpoint.loss[client]
        head["rate_Bps"] = endpoint.rate_Bps[client]
        head["watched"], head["mode"] = views.watched[client], views.mode[client]
        head["eye"], head["yaw"] = views.eye[client], views.yaw[client]
        head["sequence"] = (int(columns[client, NEXT_SEQUENCE]) - 1) & 0xFFFF
        head["snapshot_tick"] = max(int(columns[client, LAST_TICK]), 0)
        if parts.sight is not None:
            head["horizon_ms"], head["rays"] = parts.sight.horizon[client] * 1e3, parts.sight.rays[client]
            half = min(HALF_CONE + TURN_PER_S * float(parts.sight.horizon[client]), np.pi)
            head["half_cone"] = half if views.body[client] >= 0 else np.pi

    def _slots(self, client: int, tick: int, head: AnyArray) -> AnyArray:
        """The slots of a client that hold an entity."""
        replication, sight = self._parts.replication, self._parts.sight
        columns, flags = replication._slots
        used = np.flatnonzero(columns[ENTITY, client] >= 0)
        slots: AnyArray = np.zeros(len(used), SLOT)
        state, sent = flags[STATE, client, used], columns[SENT, client, used]
        slots["id"] = replication._world[0][columns[ENTITY, client, used]]
        slots["state"], slots["level"] = state, flags[LEVEL, client, used]
        slots["factor"] = replication.factor[client, used]
        slots["found"] = NOT_DECIDED if sight is None else sight.found[client, used]
        slots["age"] = np.where(sent < 0, NEVER_TOLD, np.minimum(tick - sent, NEVER_TOLD - 1))
        live = state == LIVE
        head["told"], head["hidden"] = np.count_nonzero(live), np.count_nonzero(state == HIDDEN_SLOT)
        head["waiting"] = np.count_nonzero(live & (sent < 0))
        return slots

    def _outstanding(self, client: int) -> I64:
        """Places of the packets that were sent to a client and not acknowledged yet."""
        columns, ring = self._parts.replication._columns, self._parts.replication._sent[0].shape[1]
        behind = np.flatnonzero(int(columns[client, OUTSTANDING]) >> np.arange(ring) & 1)
        return (int(columns[client, NEXT_SEQUENCE]) - 1 - behind) & (ring - 1)

    def _key(self, client: int) -> tuple[AnyArray, AnyArray]:
        """All states that the client has, or may have by now, of what it is told: rows, and integers of each.

        A later record rests on what was acknowledged last, or on a record that is under way now. What has needed no
        record for longer than the history goes back moves as foreseen: it is given as it is.
        """
        replication = self._parts.replication
        (columns, flags), (packets, bits), world = replication._slots, replication._sent, replication._world
        history, newest = world[2], int(world[3][0])
        oldest = max(int(world[3][1]), newest - history.shape[1] + 1)
        live = flags[STATE, client] == LIVE
        baseline, sent = columns[BASELINE, client].astype(np.int64), columns[SENT, client].astype(np.int64)
        acked = np.flatnonzero(live & (baseline >= oldest))
        old = np.flatnonzero(live & (sent >= 0) & (sent < oldest))
        out = self._outstanding(client)
        out = out[packets[client, out] >= oldest]
        ticks = packets[client, out].astype(np.int64)
        carried = np.unpackbits(bits[client, out, :2].view(np.uint8), axis=1, bitorder="little").astype(bool)
        carried &= live & (ticks[:, None] >= np.maximum(columns[BORN, client], baseline))
        packet, place = np.nonzero(carried)
        pairs: I64 = np.unique(
            np.concatenate(
                [acked << 32 | baseline[acked], old << 32 | newest, place << 32 | ticks[packet]], dtype=np.int64
            )
        )[:KEYS_MAX]
        slot, tick = pairs >> 32, pairs & 0xFFFFFFFF
        entity, level = columns[ENTITY, client, slot], flags[LEVEL, client, slot]
        rows: AnyArray = np.zeros(len(pairs), KEY)
        rows["slot"], rows["level"], rows["tick"], rows["id"] = slot, level, tick, world[0][entity]
        rows["newest"] = tick == np.where(sent[slot] < oldest, newest, sent[slot])
        return rows, np.where(self._told_fields[level], history[entity, tick % history.shape[1]], 0).astype("<i4")
