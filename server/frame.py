"""One server tick, as a list of stages: receive, admit, command, step, account, select, encode, send, publish.

`Frame` owns what the stages share. Each stage is a method; `Frame.run` calls them in the order of `STAGES` and notes
the time at which each ended. Within `step` the systems of the world are timed one by one. Per client nothing runs in
Python but what is rare: connections, departures and messages.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from net.datagrams import Datagrams
from net.host import Host
from net.inputs import InputQueues
from net.messages import MessageCodec
from net.snapshots import PAYLOAD_BYTES
from net.udp import ServerSocket
from server.actions import ActionGate
from server.replication import Replication
from server.sessions import Sessions
from server.wire import WireView, owner_columns, owner_layout
from sim.arrays import I32, I64, U8, U16
from sim.commands import Commands
from sim.plugin import CORE_EVENTS
from sim.world import World

__all__ = ["STAGES", "Frame", "FrameParts"]

BEFORE_STEP = ("receive", "admit", "command")
AFTER_STEP = ("account", "select", "encode", "send", "publish")
STAGES = (*BEFORE_STEP, "step", *AFTER_STEP)
BATCHES_MAX = 8  # of datagrams per tick; the rest waits in the socket's buffer, where the system counts overflow


@dataclass(slots=True)
class FrameParts:
    """What a frame is made of; see `server.app` for how."""

    world: World
    host: Host
    socket: ServerSocket
    inputs: InputQueues
    replication: Replication
    sessions: Sessions
    publish: Callable[[int, int], None]
    clock_ns: Callable[[], int]


class Frame:
    """Runs one tick after another.

    Attributes:
        stages: Names of all timed stages, those of the world in place of `step`.
        stage_ns: Time each took in the last tick [ns], shape (stages,), int64.
        commands: What entered the last tick.
    """

    def __init__(self, parts: FrameParts, *, batch: int) -> None:
        self._parts = parts
        world = parts.world
        self.commands = Commands(world.players.capacity)
        self.stages = (*BEFORE_STEP, *world.pipeline.stages, *AFTER_STEP)
        self.stage_ns: I64 = np.zeros(len(self.stages), np.int64)
        self._datagrams = Datagrams(batch)
        self._view = WireView(world, parts.replication)
        self._owner = owner_layout().bind(owner_columns(world))
        clients = parts.host.clients_max
        self._owner_lengths: I32 = np.zeros(clients, np.int32)
        self._offsets: I64 = np.arange(clients, dtype=np.int64) * PAYLOAD_BYTES
        self._payload: U8 = parts.replication.payload.reshape(-1)
        self._sequences: U16 = parts.replication.payload.view(np.uint16)[:, 1]
        self._acked: I32 = np.zeros(parts.inputs.ack_sequence.shape[0], np.int32)
        self._gate = ActionGate(world.game, clients=clients, tick_hz=world.tick_hz)
        self._told = MessageCodec.to_client(world.game.actions, world.game.messages)
        self._kinds = {name: world.game.event(name) for name in CORE_EVENTS}
        self._mark_ns = 0
        self._mark_stage = 0

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
        self._select()
        self._end()
        self._encode()
        self._end()
        self._send()
        self._end()
        self._parts.publish(self._parts.world.tick, now_ns)
        self._end()

    def _end(self, _: int = 0) -> None:
        """Note the end of a stage."""
        now = self._parts.clock_ns()
        self.stage_ns[self._mark_stage] = now - self._mark_ns
        self._mark_ns = now
        self._mark_stage += 1

    def _receive(self, now_ns: int) -> None:
        """Drain the socket, open what is authentic, and take in commands, acknowledgements and messages."""
        parts = self._parts
        tick = parts.world.tick + 1
        for _ in range(BATCHES_MAX):
            if parts.socket.receive(self._datagrams, now_ns) == 0:
                break
            full = self._datagrams.count == self._datagrams.capacity
            if parts.host.receive(self._datagrams, now_ns):
                parts.inputs.receive(parts.host.payloads, tick=tick, early_ns=0, now_ns=now_ns)
                count = parts.inputs.ack_count
                self._acked[:count] = parts.inputs.ack_sequence[:count]
                parts.replication.acknowledge(
                    parts.inputs.ack_client[:count], self._acked[:count], parts.inputs.ack_mask[:count]
                )
                self._hear()
            if not full:
                break
        self._end()

    def _hear(self) -> None:
        """Messages of this batch: actions enter the world, the game's messages go to everyone."""
        parts = self._parts
        for index in parts.inputs.messages[: parts.inputs.message_count]:
            client = int(parts.host.payloads.client[index])
            self._gate.hear(client, parts.host.payloads.payload(int(index)), parts.world.tick, parts.sessions)

    def _admit(self, now_ns: int) -> None:
        """Clients come and go.

        Arrivals first: a client may come and go within one tick, but a slot is given anew only after its departure
        was taken here, so nobody goes and comes again within one.
        """
        parts = self._parts
        for come in parts.host.take_connected():
            parts.inputs.reset(np.array([come.client], np.int32), tick=parts.world.tick)
            self._gate.reset(come.client)
            parts.sessions.connect(come)
        for gone in parts.host.take_disconnected():
            parts.sessions.disconnect(gone)
            parts.replication.leave(gone.client)
        for client in parts.sessions.refused:
            parts.host.disconnect(client, now_ns, detail="the zone is full")
        parts.sessions.refused.clear()

    def _command(self) -> None:
        """Collect what enters the tick: one input per player, and the joins, leaves and actions that wait."""
        parts = self._parts
        self.commands.clear()
        parts.inputs.take(parts.world.tick + 1, parts.sessions.row, self.commands)
        parts.sessions.fill(self.commands)

    def _account(self) -> None:
        """Follow who joined, was refused or left."""
        parts = self._parts
        events = parts.world.events
        kinds = events.kind[: events.count]
        for index in np.flatnonzero(kinds < len(CORE_EVENTS)):
            if kinds[index] == self._kinds["joined"]:
                self._joined(int(events.value[index]), int(events.actor[index]))
            elif kinds[index] == self._kinds["refused"]:
                parts.sessions.refuse(int(events.value[index]))

    def _joined(self, ticket: int, entity: int) -> None:
        parts = self._parts
        row = parts.world.players.slot_of(entity)
        client = parts.sessions.joined(ticket, entity, row)
        if client >= 0:
            parts.replication.join(client, own_id=entity)
            parts.replication.owner[parts.world.players.slot_base + row] = client

    def _select(self) -> None:
        """Quantise the world, hand over its events and choose what each client is told of."""
        parts = self._parts
        world, replication = parts.world, parts.replication
        self._view.take()
        replication.commit(world.tick, self._view.ids)
        events, count = world.events, world.events.count
        if count:
            replication.push_events(
                world.tick, events.kind[:count], events.actor[:count], events.target[:count],
                events.position[:count], events.vector[:count], events.value[:count],
            )  # fmt: skip
        rows = parts.sessions.row
        playing = rows >= 0
        replication.view[playing] = self._view.position[world.players.slot_base + rows[playing]]
        replication.refresh(world.tick, self._view.position)

    def _encode(self) -> None:
        """Write the snapshots that are due."""
        parts = self._parts
        replication, inputs = parts.replication, parts.inputs
        self._owner.pack(parts.sessions.row, replication.owner_section, self._owner_lengths)
        replication.owner_bytes[:] = self._owner_lengths
        np.copyto(replication.input_tick, inputs.input_tick, casting="unsafe")
        np.copyto(replication.lead_q4, inputs.lead_q4, casting="unsafe")
        np.copyto(replication.target_lead, inputs.target_lead, casting="unsafe")
        replication.encode(parts.world.tick)

    def _send(self) -> None:
        """Seal the snapshots and messages, add keep-alives, and send everything."""
        parts = self._parts
        now_ns = parts.clock_ns()
        due = np.flatnonzero(parts.replication.length).astype(np.int32)
        if len(due):
            parts.host.send(due, self._payload, self._offsets[due], parts.replication.length[due], now_ns)
            parts.inputs.note_sent(due, self._sequences[due], len(due), now_ns)
        self._tell(now_ns)
        parts.host.tick(now_ns)
        parts.socket.send(parts.host.outgoing)

    def _tell(self, now_ns: int) -> None:
        """Send the messages of this tick to every client that plays."""
        parts = self._parts
        told = self._gate.take_told()
        if not told:
            return
        clients = np.array(parts.sessions.clients(), np.int32)
        for name, values in told:
            payload = np.frombuffer(self._told.encode(name, *values), np.uint8)
            offsets = np.zeros(len(clients), np.int64)
            lengths = np.full(len(clients), len(payload), np.int32)
            parts.host.send(clients, payload.copy(), offsets, lengths, now_ns)
