"""A match in miniature for tests: a server of input queues and a toy motion, clients, and a seeded bad network.

Time is virtual. The motion is a point with momentum in a box, computed by the same function on both sides.
"""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from net.claims import OwnerClaims
from net.client import GameClients, InputSet
from net.datagrams import Payloads
from net.inputs import InputQueues
from net.owner import OwnerField, OwnerLayout
from sim.arrays import I32, I64, U8, U16, AnyArray
from tests.reference.snapshots import snapshot_bytes

TICK_HZ = 60
TICK_NS = 1_000_000_000 // TICK_HZ
FRAME_S = (TICK_NS // 4) * 4e-9 - 1e-9  # plays exactly four of a match's steps
LAYOUT = OwnerLayout(
    [
        OwnerField("position", "f8", 3),
        OwnerField("velocity", "f8", 3),
        OwnerField("flags", "u2"),
        OwnerField("health", "i2", predicted=False),
    ]
)


class Toy:
    """Momentum, drag, walls and a jump: enough for any wrong or missing input to be visible for ever."""

    def __init__(self) -> None:
        self.ticks = 0

    def predict(self, state: Mapping[str, AnyArray], inputs: InputSet, active: U8, ticks: I64) -> None:
        assert ticks.shape == active.shape
        self.ticks += int(active.sum())
        rows = np.flatnonzero(active)
        position, velocity, flags = state["position"], state["velocity"], state["flags"]
        push = np.zeros((rows.size, 3))
        push[:, 0] = inputs.move_forward[rows] / 127.0
        push[:, 1] = inputs.move_right[rows] / 127.0
        push[:, 2] = np.where((inputs.buttons[rows] & 1) & ~flags[rows], 5.0, 0.0)
        velocity[rows] = velocity[rows] * 0.95 + push
        position[rows] += velocity[rows] / TICK_HZ
        velocity[rows] = np.where(np.abs(position[rows]) > 10.0, -velocity[rows], velocity[rows])
        flags[rows] = inputs.buttons[rows] & 1


@dataclass
class Path:
    """One direction of the network: delay uniform in `delay_ms` ± `jitter_ms`, independent loss."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0


class Wire:
    """Packets under way, handed over by time of arrival."""

    def __init__(self, path: Path, random: np.random.Generator) -> None:
        self.path, self._random = path, random
        self._queue: list[tuple[int, int, int, bytes]] = []
        self._count = 0

    def send(self, client: int, payload: bytes, now: int) -> None:
        self._count += 1
        if self._random.random() < self.path.loss:
            return
        delay = self.path.delay_ms + self._random.uniform(-1.0, 1.0) * self.path.jitter_ms
        heapq.heappush(self._queue, (now + int(delay * 1e6), self._count, client, payload))

    def receive(self, now: int) -> list[tuple[int, bytes]]:
        arrived = []
        while self._queue and self._queue[0][0] <= now:
            _, _, client, payload = heapq.heappop(self._queue)
            arrived.append((client, payload))
        return arrived


def batch(arrived: list[tuple[int, bytes]]) -> Payloads:
    """The payloads as a connection would hand them over."""
    payloads = Payloads(max(1, len(arrived)))
    payloads.buffer = np.frombuffer(b"".join(content for _, content in arrived), np.uint8).copy()
    payloads.count = len(arrived)
    at = 0
    for index, (client, content) in enumerate(arrived):
        payloads.client[index], payloads.offset[index], payloads.length[index] = client, at, len(content)
        at += len(content)
    return payloads


def snapshot(sequence: int, tick: int, input_tick: int, lead_q4: int, target: int, owner: bytes) -> bytes:
    """A snapshot of nothing but its header and owner section."""
    input_age = min(tick - input_tick, 255) if input_tick > 0 else 255
    return snapshot_bytes(
        sequence & 0xFFFF, tick, {}, input_age=input_age, lead_q4=lead_q4, target_lead=target, owner=owner
    )


class Taken(InputSet):
    """What the server takes of inputs: how far before the tick their players saw the others, too."""

    def __init__(self, clients: int) -> None:
        super().__init__(clients)
        self.rewind: U16 = np.zeros(clients, np.uint16)


class Match:
    """`count` clients on one server; `run` plays for a while, in steps of a quarter tick."""

    def __init__(
        self,
        count: int = 1,
        *,
        up: Path | None = None,
        down: Path | None = None,
        seed: int = 1,
        snapshot_every: int = 2,
    ) -> None:
        self.count, self.snapshot_every = count, snapshot_every
        self.random = np.random.default_rng(seed)
        self.up, self.down = Wire(up or Path(), self.random), Wire(down or Path(), self.random)
        self.queues = InputQueues(count, tick_hz=TICK_HZ)
        self.motion = Toy()
        self.client_motion = Toy()
        self.clients = GameClients(count, LAYOUT, tick_hz=TICK_HZ, predictor=self.client_motion)
        self.state = LAYOUT.allocate(count)
        self.owner = LAYOUT.bind(self.state)
        self.claims = OwnerClaims(count, LAYOUT)
        self.commands = Taken(count)
        self.rows: I32 = np.arange(count, dtype=np.int32)
        self.now = 7_000_000_000
        self.tick = 1000
        self.next_step = self.now + TICK_NS
        self.sequence = 65_000  # wraps soon
        self.no_ticks: I64 = np.zeros(count, np.int64)  # the toy goes the same way at all times
        self.client_offset = 3_141_592  # frames of clients do not coincide with ticks of the server
        self.next_frame = self.now + self.client_offset
        self.frame_ns = self.step_ns = TICK_NS
        self.acks: list[tuple[int, int, int]] = []
        self.paused = False

    def run(self, seconds: float) -> None:
        end = self.now + int(seconds * 1e9)
        while self.now < end:
            self.now += TICK_NS // 4
            self._ingest()
            if self.now >= self.next_step:
                self._step()
            if self.now >= self.next_frame:
                self.next_frame += self.frame_ns
                self._frame()

    def _ingest(self) -> None:
        payloads = batch(self.up.receive(self.now))
        self.queues.receive(payloads, tick=self.tick + 1, early_ns=max(0, self.next_step - self.now), now_ns=self.now)
        for index in range(self.queues.ack_count):
            entry = self.queues.ack_client[index], self.queues.ack_sequence[index], self.queues.ack_mask[index]
            self.acks.append((int(entry[0]), int(entry[1]), int(entry[2])))

    def _step(self) -> None:
        self.next_step += self.step_ns
        self.tick += 1
        self.commands.has_input[:] = False
        self.queues.take(self.tick, self.rows, self.commands)
        self.motion.predict(self.state, self.commands, self.commands.has_input.astype(np.uint8), self.no_ticks)
        self.state["health"][:] = self.tick // 97 % 100
        if self.tick % self.snapshot_every == 0:
            self._send_snapshots()

    def _send_snapshots(self) -> None:
        self.sequence += 1
        sections: U8 = np.zeros((self.count, 128), np.uint8)
        lengths: I32 = np.zeros(self.count, np.int32)
        self.owner.pack(self.rows, sections, lengths)
        self._spare(sections, lengths, np.ones(self.count, np.int64))
        for client in range(self.count):
            content = snapshot(
                self.sequence,
                self.tick,
                int(self.queues.input_tick[client]),
                int(self.queues.lead_q4[client]),
                int(self.queues.target_lead[client]),
                sections[client, : lengths[client]].tobytes(),
            )
            self.down.send(client, content, self.now)
        sequences = np.full(self.count, self.sequence & 0xFFFF, np.uint16)
        self.queues.note_sent(self.rows, sequences, self.count, self.now, tick=self.tick)
        self.claims.note_sent(self.rows)

    def _spare(self, sections: U8, lengths: I32, interval: I64) -> None:
        """Leave out the owner sections that clients predicted right."""
        queues = self.queues
        self.claims.check(
            self.tick, sections, lengths, claim=queues.claim, acked_tick=queues.acked_tick, interval=interval
        )

    def client_now(self) -> int:
        """The time that the clients are told."""
        return self.now

    def _frame(self) -> None:
        if self.paused:
            return
        now = self.client_now()
        self.clients.receive(batch(self.down.receive(self.now)), now)
        while self.clients.advance(now):
            self._press()
        for index in range(self.clients.commands()):
            at, size = self.clients.command_offsets[index], self.clients.command_lengths[index]
            self.up.send(
                int(self.clients.command_clients[index]), self.clients.command_bytes[at : at + size].tobytes(), self.now
            )

    def _press(self) -> None:
        count = self.count
        self.clients.set_inputs(
            buttons=self.random.integers(0, 128, count),
            move_forward=self.random.integers(-127, 128, count),
            move_right=self.random.integers(-127, 128, count),
            yaw=self.random.integers(0, 65536, count),
            pitch=self.random.integers(-16383, 16384, count),
            weapon=self.random.integers(0, 256, count),
        )
