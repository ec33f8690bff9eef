"""What chosen clients are told, taken from replication and handed to pages (`server.livetold`).

Nothing is done while nobody is asked for. Then each tick keeps the snapshots that were sent to the clients watched, and
a published frame makes the message of one of them, in turn: with eight, each is heard of in every eighth frame.
"""

import struct
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from net.snapshots import PAYLOAD_BYTES
from server.aim import AimMonitor
from server.livefeed import REASONS_MAX
from server.livetold import KEY, KEYS_MAX, SNAPSHOT_BYTES_MAX, WATCHED_MAX, ToldWriter
from server.loop import Clock
from server.refusals import Refusals
from server.replication import Replication
from server.sessions import Sessions
from server.sight import HALF_CONE, TURN_PER_S, Sight
from server.slots import (
    BASELINE,
    BORN,
    BUDGET,
    ENTITY,
    FACTOR,
    HIDDEN_SLOT,
    INTERVAL,
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
from sim.arrays import I64, U64, AnyArray
from sim.world import World

__all__ = ["ToldFeed", "WatchParts"]

NOT_DECIDED = 255
NEVER_TOLD = 65535
SELF_LEVEL = 3
NOTHING_REFUSED = [0] * REASONS_MAX
HEAD = struct.Struct("<4H2I4Q5fI3fH2B2fI4H5I16H")  # TOLD
MOTION_FIELDS = 6


@dataclass(slots=True)
class WatchParts:
    """Where the figures of a page come from.

    Attributes:
        sight: What decides visibility; None: everything in range is told.
        refusals: What was refused of whom; None: nothing is said of it.
        aim: Whose aim was flagged; None: likewise.
    """

    world: World
    transport: Transport
    replication: Replication
    sessions: Sessions
    views: Views
    clock: Clock
    sight: Sight | None = None
    refusals: Refusals | None = None
    aim: AimMonitor | None = None


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
        """Look who is asked for, and publish the message of the next one."""
        self._follow(self._writer.asked(self._parts.clock.now_ns()))
        if self.watched == 0:
            return
        active = [one for one in self._places if one is not None]
        self._turn = (self._turn + 1) % len(active)
        self._writer.publish(self._message(active[self._turn], tick, wall_ns))

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
        one.number += 1
        slots, counts = self._slots(one.client, tick)
        keys = 0
        parts = [b"", slots.tobytes()]
        if tick - one.key_tick >= self._parts.world.tick_hz:
            one.key_tick = tick
            rows, states = self._key(one.client)
            keys = len(rows)
            parts += [rows.tobytes(), states.tobytes()]
        parts += one.kept
        parts[0] = self._head(one, (tick, wall_ns), (len(slots), keys), counts)
        one.kept, one.kept_bytes = [], 0
        return b"".join(parts)

    def _head(
        self, one: _Watched, when: tuple[int, int], sizes: tuple[int, int], counts: tuple[int, int, int]
    ) -> bytes:
        """The TOLD record. Packed by `struct`: numpy takes a third of a microsecond for each of its 30 fields."""
        parts, client = self._parts, one.client
        views, endpoint, columns = parts.views, parts.transport.endpoint, parts.replication._columns[client].tolist()
        hz = parts.world.tick_hz
        recent = sum(length for at, length in one.second if when[0] - at < hz)
        half, horizon, rays = 0.0, 0.0, 0
        if parts.sight is not None:
            horizon, rays = float(parts.sight.horizon[client]), int(parts.sight.rays[client])
            half = min(HALF_CONE + TURN_PER_S * horizon, np.pi) if views.body[client] >= 0 else np.pi
        return HEAD.pack(
            2, 2, *sizes, one.number & 0xFFFFFFFF, one.kept_bytes, one.entity, *when, int(views.watched[client]),
            endpoint.rtt_ns[client] * 1e-6, endpoint.loss[client], hz / max(columns[INTERVAL], 1),
            endpoint.rate_Bps[client], recent, max(columns[BUDGET], 0), *views.eye[client].tolist(),
            int(views.yaw[client]), int(views.mode[client]), 0, half, horizon * 1e3, max(rays, 0), *counts,
            len(parts.replication.table), columns[NEXT_SEQUENCE] - 1 & 0xFFFF, max(columns[LAST_TICK], 0), 0, 0, 0,
            *(NOTHING_REFUSED if parts.refusals is None else parts.refusals.of_client(client)),
        )  # fmt: skip

    def _slots(self, client: int, tick: int) -> tuple[AnyArray, tuple[int, int, int]]:
        """The slots of a client that hold an entity, 16 bytes each as SLOT has them; how many of them are told, hidden,
        and to be told but never were.
        """
        replication, sight = self._parts.replication, self._parts.sight
        columns, flags = replication._slots
        used = np.flatnonzero(columns[ENTITY, client] >= 0)
        held, sent = flags[:, client].take(used, axis=1), columns[SENT, client].take(used)
        words: U64 = np.zeros((len(used), 2), np.uint64)
        octets, halves = words.view(np.uint8), words.view(np.uint16)
        words[:, 0] = replication._world[0].take(columns[ENTITY, client].take(used))
        octets[:, 8], octets[:, 10], octets[:, 11] = held[STATE], held[LEVEL], held[FACTOR]
        octets[:, 9] = NOT_DECIDED if sight is None else sight.found[client].take(used)
        never = sent < 0
        halves[:, 6] = np.minimum(tick - sent, NEVER_TOLD - 1)
        halves[never, 6] = NEVER_TOLD
        states = held[STATE].tobytes()
        told, hidden = states.count(LIVE), states.count(HIDDEN_SLOT)
        waiting = int(np.count_nonzero((held[STATE] == LIVE) & never)) if never.any() else 0
        return words, (told, hidden, waiting)

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
        oldest = max(int(world[3][1]), newest - history.shape[0] + 1)
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
        return rows, np.where(self._told_fields[level], history[tick % history.shape[0], entity], 0).astype("<i4")
