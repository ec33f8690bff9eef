"""A scripted match that is told to clients as a server tells it, in process: where recorded payloads come from.

The match is `tools.script` on a map, told to one client per player by `server.replication`: snapshots of everything
that is relevant with events and owner sections, decoded by a `ReplicaGroup` whose acknowledgements come `LATE_TICKS`
later. Messages are those that a server sends to its clients: a welcome each, and chat. Nobody chats in a scripted
match, so lines are drawn word by word, frequent words more often; a dictionary learns these words, and real players
will use others. A join is what a newcomer is sent of the zone: names and scores (`server.zone_state`).
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from net.dictionaries import PayloadClass
from net.messages import MessageCodec
from net.moments import REWIND_MS_DEFAULT
from net.replica import ReplicaGroup
from server.app import build_world
from server.config import ServerConfig
from server.game import load_game
from server.maps import load_geometry
from server.replication import Replication, ReplicationLimits
from server.wire import WireView, field_table, owner_columns, owner_layout
from server.zone_state import ZoneState, ZoneView, zone_layout
from sim.arrays import F64, I32, U32
from sim.rng import uniform
from tools.capture import Payload
from tools.errors import ToolsError
from tools.maps import open_map
from tools.script import play_script

__all__ = ["LATE_TICKS", "ScriptedMatch"]

LATE_TICKS = 6  # a round trip of 100 ms at 60 Hz
SNAPSHOT_HZ = 30
JOIN_EVERY_S = 0.25
LINE_EVERY_S = 4.0  # of each player, on average
LINE_WORDS_MAX = 14
CHAT_STREAM = 4096  # of random numbers; far from those of worlds and games
SPOKEN = (
    "the a to you is he i in on it go they me no we and red blue get his from up this at with not rocket base one lol"
    " he's rail left right quad armour need help gg nice low health middle where was that shot all stay flag wait mega"
    " who out top have them two stairs down coming enemy take good lag behind attack defend roof water bridge yes he"
    " dead almost hp ammo more sorry thanks my fault so close again team teams push hold back room shotgun spawn any"
    " him she green gold door tunnel window how did not see camper careful three bots watch next map vote kick ready"
)


class ScriptedMatch:
    """A match that plays itself, with a client per player that acknowledges what it is told.

    Attributes:
        world: The world that plays.
        replication: What tells the clients; `payload` and `length` are of the last tick.
        group: What the clients know; one row per client.
        due: Clients that were sent a snapshot in the last tick, int32.
        messages: Payloads of the messages that everybody was sent in the last tick.
    """

    def __init__(
        self, players: int, *, map_source: str = "arena", seed: int = 1, told: bool = True, owner: bool = True
    ) -> None:
        """Builds the world, where nobody has joined yet.

        Args:
            players: How many play.
            map_source: As `hitreg run --map` takes it.
            seed: Of the world and of what players do.
            told: Whether snapshots carry events and owner sections; without, they are records alone.
            owner: Whether they carry owner sections; a client that predicted right is sent none.

        Raises:
            ToolsError, ServerError: There is no such map, or too many players.
        """
        config = ServerConfig(seed=seed)
        world_map = open_map(map_source)
        self.world = build_world(config, load_game("arena"), world_map, load_geometry(world_map))
        if not 1 <= players <= self.world.players.capacity:
            raise ToolsError(f"players = {players}: the game takes 1 to {self.world.players.capacity}")
        self.players, self._told, self._tick_hz = players, told, config.tick_hz
        self._sections = told and owner
        interval = max(1, config.tick_hz // SNAPSHOT_HZ)
        limits = ReplicationLimits(interval_ticks=interval)
        if not told:
            limits = replace(limits, event_bytes=0)
        table = field_table(self.world.game, tick_hz=config.tick_hz)
        self.replication = Replication(
            table, clients=players, entities=self.world.slot_count, events=self.world.game.event_specs, limits=limits
        )
        self.group = ReplicaGroup(players, table)
        self.due: I32 = np.zeros(0, np.int32)
        self._view = WireView(self.world, self.replication)
        self._owner = owner_layout().bind(owner_columns(self.world))
        self._rows: I32 = np.full(players, -1, np.int32)
        self._lengths: I32 = np.zeros(players, np.int32)
        self._late: deque[tuple[int, I32, I32, U32]] = deque()
        self._codec = MessageCodec.to_client(self.world.game.actions, self.world.game.messages)
        self.messages: list[bytes] = []
        self._words = SPOKEN.split()

    def play(self, ticks: int) -> Iterator[int]:
        """Plays so many ticks, once; yields the number of each when its snapshots are written and decoded.

        Args:
            ticks: How long.
        """
        for _ in play_script(self.world, players=self.players, ticks=ticks, step=self.world.step):
            self._tell()
            yield self.world.tick

    def advance(self, ticks: int) -> None:
        """Plays so many ticks of which nobody is told, for the state of a large zone; once, and instead of `play`."""
        for _ in play_script(self.world, players=self.players, ticks=ticks, step=self.world.step):
            pass
        self._view.take()

    def payloads(self, seconds: float) -> Iterator[Payload]:
        """Plays for so long and yields everything that clients would be sent, joins four times a second.

        Args:
            seconds: Of the match.
        """
        every = round(JOIN_EVERY_S * self._tick_hz)
        zone = ZoneState(zone_layout(self.world.game), clients=1)
        view = ZoneView(self.world, zone)
        for tick in self.play(max(1, round(seconds * self._tick_hz))):
            for client in self.due.tolist():
                length = int(self.replication.length[client])
                yield Payload(PayloadClass.SNAPSHOT, self.replication.payload[client, :length].tobytes())
            yield from (Payload(PayloadClass.MESSAGE, content) for content in self.messages)
            if tick % every == 0:
                view.take()
                zone.commit(tick)
                yield Payload(PayloadClass.JOIN, zone.join_block()[0])

    def join_rows(self) -> I32:
        """The state of all replicated entities, as a join of everything would be: shape (n, 2 + fields), int32.

        The halves of each id, then the fields.
        """
        live = np.flatnonzero(self._view.ids)
        halves = self._view.ids[live].view(np.int32).reshape(-1, 2)
        return np.ascontiguousarray(np.hstack([halves, self.replication.fields[live]]))

    def _tell(self) -> None:
        """What a server does with the world after its step, and its clients' answers."""
        world, replication = self.world, self.replication
        tick = world.tick
        while self._late and self._late[0][0] <= tick:
            _, client, sequence, mask = self._late.popleft()
            replication.acknowledge(client, sequence, mask)
        self._view.take()
        replication.commit(tick, self._view.ids)
        self.messages = [*self._welcome(), *self._chat()]
        events, count = world.events, world.events.count
        if count and self._told:
            replication.push_events(
                tick, events.kind[:count], events.actor[:count], events.target[:count],
                events.position[:count], events.vector[:count], events.value[:count],
            )  # fmt: skip
        playing = self._rows >= 0
        rows = world.players.slot_base + self._rows[playing]
        replication.view[playing] = self._view.position[rows]
        replication.client_team[playing] = replication.team[rows]
        replication.refresh(tick, self._view.position)
        if self._sections:
            self._owner.pack(self._rows, replication.owner_section, self._lengths)
            replication.owner_bytes[:] = self._lengths
        replication.input_tick[:] = tick
        replication.encode(tick)
        self._decode(tick)

    def _decode(self, tick: int) -> None:
        replication, group = self.replication, self.group
        self.due = np.flatnonzero(replication.length).astype(np.int32)
        if len(self.due) == 0:
            return
        outcome = group.receive(self.due, replication.payload[self.due], replication.length[self.due])
        assert not outcome.any(), "a snapshot was not taken"
        self._late.append((tick + LATE_TICKS, self.due, group.sequence[self.due], group.ack_mask[self.due]))

    def _welcome(self) -> Iterator[bytes]:
        """Lets players be clients that have entered the world; a message for each."""
        table = self.world.players
        for slot in table.live_slots.tolist():
            if slot < self.players and self._rows[slot] < 0:
                self._rows[slot] = slot
                entity = int(table.ids[slot])
                self.replication.join(slot, own_id=entity)
                yield self._codec.encode("welcome", slot + 1, 0, entity, self.world.tick, REWIND_MS_DEFAULT)

    def _chat(self) -> Iterator[bytes]:
        """What players say in this tick, as everyone is told."""
        draws: F64 = np.zeros(LINE_WORDS_MAX + 2)
        table = self.world.players
        for slot in table.live_slots.tolist():
            uniform(self.world.seed, CHAT_STREAM, self.world.tick, slot, draws)
            if draws[0] * LINE_EVERY_S * self._tick_hz < 1.0:
                words = draws[2 : 3 + int(draws[1] * LINE_WORDS_MAX)]
                # The cube of a uniform number draws early words often and late ones seldom, as in a language.
                text = " ".join(self._words[int(draw**3 * len(self._words))] for draw in words.tolist())
                yield self._codec.encode("say", int(table.ids[slot]), text)
