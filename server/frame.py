"""One server tick, as a list of stages: receive, admit, command, step, account, record, select, encode, send, publish.

`Frame` owns what the stages share. Each stage is a method; `Frame.run` calls them in the order of `STAGES` and notes
the time at which each ended. Within `step` the systems of the world are timed one by one. Per client nothing runs in
Python but what is rare: connections, departures and messages.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from net.claims import OwnerClaims
from net.closing import CloseCode
from net.datagrams import Payloads
from net.inputs import InputQueues
from net.snapshots import PAYLOAD_BYTES
from server.actions import ActionGate
from server.aim import AimMonitor
from server.event_notes import EventNotes
from server.rates import SnapshotRates
from server.recorder import Recorder
from server.recorder_notes import NetworkNotes, StageNotes
from server.refusals import Refusals
from server.replication import Replication
from server.sessions import Sessions
from server.sight import Sight
from server.transport import Transport
from server.views import Views
from server.wire import WireView, owner_columns, owner_layout
from server.zone_feed import ZoneFeed
from sim.arrays import I32, I64, U8, U16
from sim.commands import Commands
from sim.plugin import CORE_EVENTS
from sim.world import World

__all__ = ["STAGES", "Frame", "FrameParts"]

BEFORE_STEP = ("receive", "admit", "command")
AFTER_STEP = ("account", "record", "select", "encode", "send", "publish")
STAGES = (*BEFORE_STEP, "step", *AFTER_STEP)


@dataclass(slots=True)
class FrameParts:
    """What a frame is made of; see `server.app` for how."""

    world: World
    transport: Transport
    inputs: InputQueues
    replication: Replication
    sessions: Sessions
    publish: Callable[[int, int], None]
    clock_ns: Callable[[], int]
    killcam_s: float = 0.0
    sight: Sight | None = None
    recorder: Recorder | None = None
    turn_max_deg_per_s: float = 0.0


class Frame:
    """Runs one tick after another.

    Attributes:
        stages: Names of all timed stages, those of the world in place of `step`.
        stage_ns: Time each took in the last tick [ns], shape (stages,), int64.
        commands: What entered the last tick.
        claims: Whose owner section could be left out; its counts.
        rates: How often each client gets snapshots.
        refusals: What was refused of whom.
        aim: Statistics of how players aim.
        views: From where each client sees.
        zone: What everyone in the zone knows.
    """

    def __init__(self, parts: FrameParts) -> None:
        self._parts = parts
        world = parts.world
        self.commands = Commands(world.players.capacity)
        self.stages = (*BEFORE_STEP, *world.pipeline.stages, *AFTER_STEP)
        self.stage_ns: I64 = np.zeros(len(self.stages), np.int64)
        self._view = WireView(world, parts.replication)
        self._owner = owner_layout().bind(owner_columns(world))
        clients = parts.transport.host.clients_max
        self.claims = OwnerClaims(clients, owner_layout())
        self.rates = SnapshotRates(
            clients, tick_hz=world.tick_hz, interval_ticks=parts.replication.limits.interval_ticks
        )  # fmt: skip
        self._owner_lengths: I32 = np.zeros(clients, np.int32)
        self._offsets: I64 = np.arange(clients, dtype=np.int64) * PAYLOAD_BYTES
        self._payload: U8 = parts.replication.payload.reshape(-1)
        self._sequences: U16 = parts.replication.payload.view(np.uint16)[:, 1]
        self._acked: I32 = np.zeros(parts.inputs.ack_sequence.shape[0], np.int32)
        self.refusals = Refusals(world, clients=clients, turn_max_deg_per_s=parts.turn_max_deg_per_s)
        self.aim = AimMonitor(world)
        self._gate = ActionGate(world.game, clients=clients, tick_hz=world.tick_hz)
        self.zone = ZoneFeed(world, parts.transport, parts.transport.compressor, clients=clients)
        self.views = Views(
            world, row=parts.sessions.row, client_of_row=parts.sessions.client_of_row, killcam_s=parts.killcam_s
        )  # fmt: skip
        self._kinds = {name: world.game.event(name) for name in CORE_EVENTS}
        self._now_ns = self._mark_ns = 0
        self._mark_stage = 0
        if parts.recorder is not None:
            self._describe(parts.recorder)

    def _describe(self, recorder: Recorder) -> None:
        """Tell a recorder who is there and what to note each second."""
        parts = self._parts
        recorder.stages = self.stages
        recorder.roster = parts.sessions.roster
        recorder.sources["network"] = NetworkNotes(
            parts.transport.endpoint, parts.inputs, parts.sessions, self.commands
        )  # fmt: skip
        recorder.sources["stages"] = StageNotes(self.stage_ns)
        recorder.sources["events"] = EventNotes(parts.world)

    @property
    def gate(self) -> ActionGate:
        """Where clients' messages are checked; its counters say what was refused."""
        return self._gate

    def run(self, now_ns: int) -> None:
        """Make one tick that begins at `now_ns`, monotonic."""
        self._mark_ns, self._mark_stage = now_ns, 0
        self._receive(now_ns)
        self._admit(now_ns)
        self._end()
        self._command()
        self._end()
        self._parts.world.step(self.commands, self._end)
        self._account()
        self._end()
        if self._parts.recorder is not None:
            self._parts.recorder.record(self.commands)
        self._end()
        self._select()
        self._end()
        self._encode()
        self._end()
        self._send()
        self._end()
        self._parts.publish(self._parts.world.tick, now_ns)
        self._end()
        if self._parts.recorder is not None:
            self._parts.recorder.release()

    def _end(self, _: int = 0) -> None:
        """Note the end of a stage."""
        now = self._parts.clock_ns()
        self.stage_ns[self._mark_stage] = now - self._mark_ns
        self._mark_ns = now
        self._mark_stage += 1

    def _receive(self, now_ns: int) -> None:
        """Drain the socket, open what is authentic, and take in commands, acknowledgements and messages."""
        self._now_ns = now_ns
        self._parts.transport.receive(now_ns, self._take)
        self._end()

    def _take(self, payloads: Payloads, messages: Payloads) -> None:
        """Take in one batch: commands and messages that came unreliably, and whole reliable messages."""
        parts = self._parts
        inputs = parts.inputs
        inputs.receive(
            payloads, tick=parts.world.tick + 1, early_ns=0, now_ns=self._now_ns,
            path_rtt_ns=parts.transport.endpoint.rtt_ns,
        )  # fmt: skip
        count = inputs.ack_count
        self._acked[:count] = inputs.ack_sequence[:count]
        parts.replication.acknowledge(inputs.ack_client[:count], self._acked[:count], inputs.ack_mask[:count])
        self.zone.acknowledge(inputs.ack_client[:count], self._acked[:count], inputs.ack_mask[:count])
        for index in inputs.messages[: inputs.message_count].tolist():
            self._hear(int(payloads.client[index]), payloads.payload(index))
        for index in range(messages.count):
            self._hear(int(messages.client[index]), messages.payload(index))

    def _hear(self, client: int, payload: bytes) -> None:
        """One message: actions enter the world, the game's messages go to everyone."""
        self._gate.hear(client, payload, self._parts.world.tick, self._parts.sessions)

    def _admit(self, now_ns: int) -> None:
        """Clients come and go.

        Arrivals first: a client may come and go within one tick, but a slot is given anew only after its departure
        was taken here, so nobody goes and comes again within one.
        """
        parts, tick = self._parts, self._parts.world.tick
        sessions = parts.sessions
        arrivals, departures = parts.transport.admit(now_ns)
        if arrivals:
            newcomers = np.array([come.client for come in arrivals], np.int32)
            parts.inputs.reset(newcomers, tick=tick)
            self.rates.reset(newcomers)
            self.refusals.reset(newcomers)
        for come in arrivals:
            self._gate.reset(come.client)
            self.zone.leave(come.client)
            sessions.connect(come)
        for gone in departures:
            self._note("disconnect", gone.client, reason=gone.reason.name.lower())
            sessions.disconnect(gone, tick)
            parts.replication.leave(gone.client)
            self.zone.leave(gone.client)
        for client in sessions.resumed:
            self._play(client, resumed=1)
        sessions.resumed.clear()
        for client in sessions.refused:
            parts.transport.kick(client, CloseCode.ZONE_FULL, "the zone is full")
        sessions.refused.clear()
        sessions.expire(tick)

    def _note(self, kind: str, client: int, **values: object) -> None:
        """Let the recording know of a client that has an entity."""
        sessions, recorder = self._parts.sessions, self._parts.recorder
        if recorder is not None and sessions.entity[client]:
            known = {"client": client, "entity": int(sessions.entity[client]), "name": sessions.names[client]}
            recorder.note(kind, **known, **values)

    def _command(self) -> None:
        """Collect what enters the tick: one input per player, and the joins, leaves and actions that wait."""
        parts = self._parts
        for client, dictionaries in self._gate.take_able():
            parts.transport.agree(client, dictionaries)
            self.zone.hear(client, dictionaries)
        for client, per_second in self._gate.take_rates().items():
            self.rates.ask(client, per_second)
        for client, entity in self._gate.take_watches().items():
            self.views.watch(client, entity)
        self.commands.clear()
        parts.inputs.take(parts.world.tick + 1, parts.sessions.row, self.commands)
        self.refusals.guard(
            parts.world.tick + 1, self.commands, client_of_row=parts.sessions.client_of_row,
            input_tick=parts.inputs.input_tick,
        )  # fmt: skip
        parts.sessions.fill(self.commands)

    def _account(self) -> None:
        """Follow who joined, was refused or left, and what was refused of whom."""
        parts = self._parts
        events = parts.world.events
        kinds = events.kind[: events.count]
        for index in np.flatnonzero(kinds < len(CORE_EVENTS)):
            if kinds[index] == self._kinds["joined"]:
                self._joined(int(events.value[index]), int(events.actor[index]))
            elif kinds[index] == self._kinds["refused"]:
                parts.sessions.refuse(int(events.value[index]))
        self.refusals.gather(
            parts.world.tick, inputs=parts.inputs, gate=self._gate.counts, entity=parts.sessions.entity,
            client_of_row=parts.sessions.client_of_row,
        )  # fmt: skip
        self.aim.take(parts.world.tick, parts.sessions.client_of_row)
        self._note_evidence()

    def _note_evidence(self) -> None:
        """Let the recording tell what was refused, and whose aim should be looked at."""
        recorder = self._parts.recorder
        if recorder is None:
            return
        for entry in self.refusals.take():
            recorder.note("refusal", **entry.note())
        for flag in self.aim.take_flags():
            recorder.note("flag", **flag.note())

    def _joined(self, ticket: int, entity: int) -> None:
        parts = self._parts
        client = parts.sessions.joined(ticket, entity, parts.world.players.slot_of(entity))
        if client >= 0:
            self._play(client, resumed=0)

    def _play(self, client: int, *, resumed: int) -> None:
        """Let a client play its entity: tell it so, and send it snapshots."""
        parts = self._parts
        sessions, entity = parts.sessions, int(parts.sessions.entity[client])
        parts.replication.join(client, own_id=entity)
        self._note("connect", client, resumed=resumed)
        self.views.reset(client)
        if parts.sight is not None:
            parts.sight.forget(client)
        parts.replication.owner[parts.world.players.slot_base + int(sessions.row[client])] = client
        parts.transport.say(
            client, "welcome", sessions.number[client], resumed, entity, parts.world.tick, parts.inputs.max_rewind_ms
        )  # fmt: skip

    def _select(self) -> None:
        """Quantise the world, hand over its events and choose what each client is told of."""
        parts = self._parts
        world, replication = parts.world, parts.replication
        self._view.take()
        replication.commit(world.tick, self._view.ids)
        self.zone.take(world.tick)
        events, count = world.events, world.events.count
        if count:
            replication.push_events(
                world.tick, events.kind[:count], events.actor[:count], events.target[:count],
                events.position[:count], events.vector[:count], events.value[:count],
            )  # fmt: skip
        for client, entity, mode in self.views.update():
            parts.transport.say(client, "watching", entity, mode)
        row = parts.sessions.row
        playing = row >= 0
        np.copyto(replication.view, self.views.eye, where=playing[:, None])
        teams = replication.team[world.players.slot_base + np.maximum(row, 0)]
        np.copyto(replication.client_team, teams, where=playing)
        replication.refresh(world.tick, self._view.position)
        if parts.sight is not None:
            self._see(parts.sight, world.tick)

    def _see(self, sight: Sight, tick: int) -> None:
        """Let the clients that are due be told of whom they could see."""
        parts, replication = self._parts, self._parts.replication
        clients = np.arange(len(parts.sessions.row), dtype=np.int32)
        turn = (clients + tick) % np.maximum(replication.interval, 1) == 0
        sight.run(
            tick, due=clients[turn & (parts.sessions.row >= 0)], views=self.views,
            rtt_ns=parts.transport.endpoint.rtt_ns, candidate=replication.candidate, position=self._view.position,
            told=replication.told, factor=replication.factor,
        )  # fmt: skip

    def _encode(self) -> None:
        """Write the snapshots that are due."""
        parts = self._parts
        replication, inputs = parts.replication, parts.inputs
        self._owner.pack(parts.sessions.row, replication.owner_section, self._owner_lengths)
        self.claims.check(
            parts.world.tick, replication.owner_section, self._owner_lengths, claim=inputs.claim,
            acked_tick=inputs.acked_tick, interval=replication.interval,
        )  # fmt: skip
        replication.owner_bytes[:] = self._owner_lengths
        np.copyto(replication.input_tick, inputs.input_tick, casting="unsafe")
        np.copyto(replication.lead_q4, inputs.lead_q4, casting="unsafe")
        np.copyto(replication.target_lead, inputs.target_lead, casting="unsafe")
        replication.pace(parts.transport.endpoint.budget_bytes)
        zone = self.zone.write(parts.world.tick, replication.zone_offset, replication.zone_bytes)
        replication.encode(parts.world.tick, zone)
        self.rates.adapt(
            parts.world.tick, parts.sessions.row, budget=replication.budget, length=replication.length,
            interval=replication.interval,
        )  # fmt: skip
        self.zone.settle(replication.payload, replication.length)

    def _send(self) -> None:
        """Compose and seal the packets of snapshots, messages and acknowledgements, and send everything."""
        parts = self._parts
        now_ns = parts.clock_ns()
        for name, values in self._gate.take_told():
            parts.transport.tell(parts.sessions.clients(), name, *values)
        due = np.flatnonzero(parts.replication.length).astype(np.int32)
        self.zone.sent(due, self._sequences[due], now_ns)
        parts.transport.send(due, self._payload, self._offsets[due], parts.replication.length[due], now_ns)
        parts.inputs.note_sent(due, self._sequences[due], len(due), now_ns, tick=parts.world.tick)
        self.claims.note_sent(due)
