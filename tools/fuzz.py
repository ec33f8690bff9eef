"""Floods a live server core with mangled datagrams and checks that nothing gives: `hitreg fuzz`.

A host with its endpoint, inputs and message codecs, and groups of clients, run without sockets in virtual time. What
they send is collected, mangled by the batch with numpy, and fed to the host among their genuine traffic:

    hostile   any datagram ever sent by anyone, in either direction, and requests with tokens that are expired, from
              the future, used, foreign or forged: truncated, extended, flipped, spliced, replayed, reordered,
              re-labelled, from the address of its sender, of another player, of nobody, over IPv4 and IPv6
    insiders  clients with valid tokens, whose packets are mangled before they are sealed, so that they are authentic

Some of the hostile ones go to the genuine clients, as if from the server. After every batch: nothing raised; every
datagram is accounted for; replies to the unauthenticated are fewer bytes than came, one by one and together; the
genuine clients are connected, and all they sent arrived once and in order. At the end: no memory and no Python objects
have come to stay.
"""

import gc
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from net.address import parse_address
from net.connection import ClientGroup, ClientState
from net.datagrams import DATAGRAM_BYTES, Datagrams, Payloads
from net.endpoint import Endpoint
from net.endpoint_kernels import EndpointCount
from net.host import DisconnectReason, Host
from net.inputs import InputCount, InputQueues
from net.messages import MessageCodec
from net.packets import REQUEST_BYTES, Drop, Kind, request_packet
from net.schema import layout
from net.tokens import issue_token, read_token
from sim.arrays import I32, I64, U8, U64, Bool
from sim.commands import Commands
from sim.schema import Delivery, Field, FieldType, MessageSpec
from tools.errors import ToolsError
from tools.mangler import Mangler

__all__ = ["FuzzReport", "fuzz"]

PROTOCOL, FOREIGN_PROTOCOL = 0x1122334455667788, 0x8877665544332211
KEY, FOREIGN_KEY = bytes(range(32)), bytes(range(1, 33))
SERVER = parse_address("203.0.113.7:40000")
OTHER_SERVER = parse_address("203.0.113.8:40000")
UNIX_S = 1_700_000_000
NS = 1_000_000_000
STEP_NS = 16_000_000
HONEST, INSIDERS, GUESTS = 64, 16, 48  # players, clients that send mangled packets, clients that come and go
BATCH, BATCHES = 2048, 4  # of hostile datagrams, between two steps; as much as stays in a cache
TICK_HZ = 60
INSIDER_BATCH, INSIDER_BATCHES = 190, 4  # as much as a group of 16 can send at once
CLIENT_BATCH = 512
SETTLE_STEPS = 40  # until everyone is connected, before anything is mangled
WARM_BATCHES = 24
BEHIND_MAX = 4  # messages that a genuine client may have under way
MEMORY_GROWTH_MAX = 64 << 20
OBJECT_GROWTH_MAX = 20_000
ACCOUNTS = (
    EndpointCount.PACKETS_IN, EndpointCount.MALFORMED, EndpointCount.INACTIVE, EndpointCount.DUPLICATE,
    EndpointCount.OLD, EndpointCount.BEYOND_WINDOW, EndpointCount.NO_ROOM,
)  # fmt: skip
NOT_OF_DATAGRAMS = {Drop.PENDING_DISPLACED, Drop.SEND_NOT_CONNECTED, Drop.SEND_WRONG_SIZE}
ARRIVED = [int(reason) for reason in Drop if reason not in NOT_OF_DATAGRAMS]
SAY = MessageSpec("say", (Field("number", FieldType.INTEGER, 0, 2**31 - 1), Field("text", FieldType.TEXT, 0, 200)))


@dataclass
class FuzzReport:
    """What a run did.

    Attributes:
        packets: Mangled datagrams that were fed in.
        seconds: In the host, the endpoint and what reads their output, for those.
        counts: What became of them, by reason.
        replies: Replies to unauthenticated bytes, and their bytes.
        genuine: Messages of genuine clients that arrived, every one of them.
    """

    packets: int = 0
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    replies: tuple[int, int] = (0, 0)
    genuine: int = 0

    @property
    def us_per_packet(self) -> float:
        """CPU and wait of the server's side per mangled datagram [µs]."""
        return 1e6 * self.seconds / max(1, self.packets)


class _Crowd:
    """A group of clients at addresses of their own, with an endpoint."""

    def __init__(self, count: int, *, net: int, first_id: int) -> None:
        self.count, self.first_id = count, first_id
        self.group = ClientGroup(count, protocol_id=PROTOCOL, batch=4096)
        self.endpoint = Endpoint(count, batch=4096)
        addresses = [parse_address(f"10.{net}.{index}.1:{50_000 + index}") for index in range(count)]
        self.address: U64 = np.array([address.words() for address in addresses], np.uint64)
        self.by_words = {address.words(): index for index, address in enumerate(addresses)}
        self.inbox = Datagrams(4096)
        self._open: Bool = np.zeros(count, np.bool_)

    def connect(self, client: int, token: bytes, now_ns: int) -> None:
        """Begin to connect, anew."""
        self.endpoint.reset([client])
        self._open[client] = False
        self.group.connect(client, token, now_ns)

    def receive(self, now_ns: int) -> None:
        """Take what came, and open the endpoints of clients that are now connected."""
        self.group.receive(self.inbox, now_ns)
        self.inbox.clear()
        connected = self.group.state == ClientState.CONNECTED
        come = np.flatnonzero(connected & ~self._open)
        if len(come):
            self.endpoint.open(come.astype(np.int32), now_ns)
            self._open[come] = True
        self.endpoint.receive(self.group.payloads, now_ns)

    def send(self, payloads: Sequence[bytes], clients: I32, now_ns: int) -> None:
        """Send a payload of each of `clients`, with what else is due, and what the handshake needs."""
        lengths = np.array([len(payload) for payload in payloads], np.int32)
        offsets = np.cumsum(lengths, dtype=np.int64) - lengths
        buffer = np.frombuffer(b"".join(payloads) or b"\0", np.uint8).copy()
        self.endpoint.compose(clients, buffer, offsets, lengths, now_ns)
        self.group.send(*self.endpoint.outgoing(), now_ns)
        self.group.advance(now_ns)


class _Rig:
    """A server core, the clients around it, and what is fed to it."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64([seed, 1]))
        self.now, self.step = 5_000 * NS, 0
        self.report = FuzzReport()
        self.clients_max = HONEST + INSIDERS + GUESTS
        self.host = Host(
            protocol_id=PROTOCOL, private_key=KEY, addresses=[SERVER], clients_max=self.clients_max, now_ns=self.now,
            unix_ns=UNIX_S * NS, batch=BATCH, takeover=True, entropy=self._rng.bytes,
        )  # fmt: skip
        self.endpoint = Endpoint(self.clients_max, batch=BATCH)
        self.inputs = InputQueues(self.clients_max, tick_hz=TICK_HZ, batch_max=BATCH)
        self._commands = Commands(self.clients_max)
        self._rows: I32 = np.arange(self.clients_max, dtype=np.int32)
        self._codec = MessageCodec.to_server((), (SAY,))
        self.honest = _Crowd(HONEST, net=1, first_id=1000)
        self.insiders = _Crowd(INSIDERS, net=2, first_id=2000)
        self.guests = _Crowd(GUESTS, net=3, first_id=3000)
        self.crowds = (self.honest, self.insiders, self.guests)
        self.hostile, self._genuine = Datagrams(BATCH), Datagrams(4096)
        self.datagrams, self.contents = Mangler(seed, shelves=len(Kind) + 1), Mangler(seed + 1)
        self._insider_sequence = 0
        self._sent: I64 = np.zeros(HONEST, np.int64)
        self._heard: I64 = np.zeros(HONEST, np.int64)
        self._begin()

    def _token(self, client_id: int, **options: Any) -> bytes:
        keywords: dict[str, Any] = {
            "protocol_id": PROTOCOL, "private_key": KEY, "client_id": client_id, "addresses": [SERVER],
            "now_unix_s": UNIX_S + self.now // NS - 5_000, "expire_s": 30, "timeout_s": 5, "entropy": self._rng.bytes,
        }  # fmt: skip
        return issue_token(**(keywords | options))

    def _begin(self) -> None:
        """Let everyone connect, and keep requests with tokens that are not what they should be."""
        for crowd in self.crowds:
            for client in range(crowd.count):
                crowd.connect(client, self._token(crowd.first_id + client), self.now)
        for _ in range(SETTLE_STEPS):
            self.genuine_step()
        lost = [crowd.first_id for crowd in self.crowds if not (crowd.group.state == ClientState.CONNECTED).all()]
        if lost:
            raise ToolsError(f"fuzz: clients from id {lost} did not connect before anything was mangled")
        strange: list[dict[str, Any]] = [
            {}, {"expire_s": 0}, {"now_unix_s": UNIX_S - 100}, {"now_unix_s": UNIX_S + 10**6}, {"expire_s": -1},
            {"protocol_id": FOREIGN_PROTOCOL}, {"private_key": FOREIGN_KEY}, {"addresses": [OTHER_SERVER]},
            {"client_id": 1000},
        ]  # fmt: skip
        data: U8 = np.zeros((len(strange) * 8, REQUEST_BYTES), np.uint8)
        for row in range(len(data)):
            options = {"client_id": 9000 + row} | strange[row % len(strange)]
            request = request_packet(read_token(self._token(**options)))
            data[row] = np.frombuffer(request, np.uint8)
        addresses = self.guests.address[np.arange(len(data)) % GUESTS]
        self.datagrams.keep(data, np.full(len(data), REQUEST_BYTES, np.int32), addresses, shelf=len(Kind))

    # -- genuine traffic ------------------------------------------------------------------------------------------

    def genuine_step(self) -> None:
        """A tick of the server and a frame of every client, all of it as it should be."""
        self.now, self.step = self.now + STEP_NS, self.step + 1
        self._clients_send()
        self.host.receive(self._genuine, self.now)
        self._serve()
        self._genuine.clear()
        self._come_and_go()
        if self.step > SETTLE_STEPS:
            self._cycle_guests()
        self._server_sends()
        for crowd in self.crowds:
            crowd.receive(self.now)
        self.inputs.take(self.step, self._rows, self._commands)

    def _clients_send(self) -> None:
        for crowd in self.crowds:
            clients = np.flatnonzero(crowd.endpoint.active).astype(np.int32)
            inputs = bytes(9 * 3)
            command = layout("COMMAND").pack(type=1, count=3, tick=self.step + 2, inputs=inputs)
            if crowd is self.honest and self.step % 4 == 0:
                for client in clients.tolist():
                    said = self._codec.encode("say", int(self._sent[client]), "x" * (self.step % 200))
                    self._sent[client] += crowd.endpoint.tell(client, said, Delivery.RELIABLE)
            crowd.send([command] * len(clients), clients, self.now)
            self._keep_contents(crowd.endpoint.packets)
            self._carry_up(crowd)

    def _keep_contents(self, packets: Payloads) -> None:
        """Keep some packets as they are before they are sealed, for insiders to mangle."""
        chosen = self._rng.integers(max(1, packets.count), size=min(packets.count, 4))
        data: U8 = np.zeros((len(chosen), DATAGRAM_BYTES), np.uint8)
        for row, index in enumerate(chosen.tolist()):
            content = packets.payload(index)
            data[row, : len(content)] = np.frombuffer(content, np.uint8)
        self.contents.keep(data, packets.length[chosen], np.zeros((len(chosen), 3), np.uint64))

    def _carry_up(self, crowd: _Crowd) -> None:
        out, to = crowd.group.outgoing, self._genuine
        rows = slice(to.count, to.count + out.count)
        to.data[rows], to.length[rows] = out.data[: out.count], out.length[: out.count]
        to.address[rows] = crowd.address[out.peer[: out.count]]
        self._keep_some(to.data[rows], to.length[rows], to.address[rows])
        to.count += out.count
        out.clear()

    def _keep_some(self, data: U8, length: I32, address: U64) -> None:
        """Keep whatever is rare, and some of the others, each type on a shelf of its own."""
        kinds = data[:, 0] & 15
        rare = (kinds != int(Kind.PAYLOAD)) | (self._rng.random(len(length)) < 0.1)
        for kind in Kind:
            chosen = np.flatnonzero(rare & (kinds == int(kind)))
            if len(chosen):
                self.datagrams.keep(data[chosen], length[chosen], address[chosen], shelf=int(kind))

    def _serve(self) -> None:
        """What a server does with a batch that its host has opened."""
        self.endpoint.receive(self.host.payloads, self.now)
        self.inputs.receive(self.endpoint.payloads, tick=self.step, early_ns=0, now_ns=self.now)
        messages = self.endpoint.messages
        for index in range(messages.count):
            message = self._codec.decode(messages.payload(index))
            client = int(self.host.client_id[messages.client[index]]) - self.honest.first_id
            if message is not None and 0 <= client < HONEST:
                if message.values[0] != self._heard[client]:
                    raise ToolsError(
                        f"fuzz: client {client} said {self._heard[client]}, heard was {message.values[0]!r}"
                    )
                self._heard[client] += 1

    def _come_and_go(self) -> int:
        """Follow who came and went; how many datagrams made them do so."""
        moved = 0
        for gone in self.host.take_disconnected():
            if not self.guests.first_id <= gone.client_id < self.guests.first_id + GUESTS:
                raise ToolsError(
                    f"fuzz: client id {gone.client_id} lost its connection ({DisconnectReason(gone.reason).name})"
                )
            self.endpoint.reset([gone.client])
            moved += gone.reason is DisconnectReason.BY_CLIENT
        for come in self.host.take_connected():
            self.endpoint.open([come.client], self.now)
            self.inputs.reset(np.array([come.client], np.int32), tick=self.step)
            moved += 1
        return moved

    def _cycle_guests(self) -> None:
        """One guest says goodbye, and another connects anew, or for a second time."""
        guest = self.step % GUESTS
        if self.guests.group.state[guest] == ClientState.CONNECTED:
            self.guests.group.disconnect(guest, self.now)
        token = self._token(self.guests.first_id + guest)
        self.guests.connect((guest + GUESTS // 2) % GUESTS, token, self.now)

    def _server_sends(self) -> None:
        clients = np.flatnonzero(self.endpoint.active).astype(np.int32)
        lengths = self._rng.integers(40, 400, size=len(clients)).astype(np.int32)
        buffer: U8 = np.ones(512, np.uint8)
        self.endpoint.compose(clients, buffer, np.zeros(len(clients), np.int64), lengths, self.now)
        self.host.send(*self.endpoint.outgoing(), self.now)
        self.host.tick(self.now)
        out = self.host.outgoing
        self._keep_some(out.data[: out.count], out.length[: out.count], out.address[: out.count])
        for row, words in enumerate(map(tuple, out.address[: out.count].tolist())):
            for crowd in self.crowds:
                if words in crowd.by_words:
                    crowd.inbox.append(out.datagram(row), SERVER, peer=crowd.by_words[words])
        out.clear()

    # -- mangled traffic ------------------------------------------------------------------------------------------

    def hostile_batch(self, count: int) -> None:
        """Feed mangled datagrams of nobody's, and account for each."""
        host, batch = self.host, self.hostile
        self.datagrams.bytes_of(count, to=batch)
        came, before = int(batch.length[:count].sum()), int(host.drops[ARRIVED].sum())
        begun = time.perf_counter()
        host.receive(batch, self.now)
        self._serve()
        self.report.seconds += time.perf_counter() - begun
        out = host.outgoing
        lengths, kinds = out.length[: out.count], out.data[: out.count, 0] & 15
        challenges = int(np.count_nonzero(kinds == Kind.CHALLENGE))
        # A genuine response that the handshake budget held back connects its guest when it is replayed, as it should.
        told = int(host.drops[ARRIVED].sum()) - before + challenges + host.payloads.count + self._come_and_go()
        if told != count or host.payloads.count:
            raise ToolsError(f"fuzz: {count} datagrams, {told} accounted for, {host.payloads.count} taken for payloads")
        if int(lengths.sum()) > came or (lengths >= REQUEST_BYTES).any():
            raise ToolsError(
                f"fuzz: {came} bytes were answered by {int(lengths.sum())}, the longest of {int(lengths.max())}"
            )
        self.report.packets += count
        self.report.replies = (self.report.replies[0] + out.count, self.report.replies[1] + int(lengths.sum()))
        out.clear()

    def client_batch(self, count: int) -> None:
        """Feed mangled datagrams to the genuine clients, most of them as if from the server."""
        group, batch = self.honest.group, self.hostile
        self.datagrams.bytes_of(count, to=batch)
        batch.peer[:count] = self._rng.integers(HONEST, size=count)
        batch.address[:count] = SERVER.words()
        before = int(group.drops[ARRIVED].sum())
        begun = time.perf_counter()
        taken = group.receive(batch, self.now)
        self.report.seconds += time.perf_counter() - begun
        told = int(group.drops[ARRIVED].sum()) - before
        if told != count or taken:
            raise ToolsError(f"fuzz: clients were given {count} datagrams, dropped {told} and took {taken}")
        self.report.packets += count

    def insider_batch(self, count: int) -> None:
        """Feed authentic packets whose content is mangled; the endpoint must account for each."""
        group = self.insiders.group
        scratch = Datagrams(count)
        self.contents.bytes_of(count, to=scratch)
        data, length = scratch.data, np.clip(scratch.length[:count], 1, 1200).astype(np.int32)
        clients = (np.arange(count) % INSIDERS).astype(np.int32)
        # Most of them with a sequence that is due, so that what follows the header is looked at.
        due = np.flatnonzero(self._rng.random(count) < 0.8)
        numbers = (self._insider_sequence + np.arange(count) // INSIDERS) & 0xFFFF
        self._insider_sequence = (self._insider_sequence + count // INSIDERS + 1) & 0xFFFF
        data[due, 0], data[due, 1] = numbers[due] & 255, numbers[due] >> 8
        offsets = np.arange(count, dtype=np.int64) * DATAGRAM_BYTES
        group.send(clients, data.reshape(-1), offsets, length, self.now)
        self._genuine.clear()
        self._carry_up(self.insiders)
        seen = self._seen()
        begun = time.perf_counter()
        self.host.receive(self._genuine, self.now)
        self._serve()
        self.report.seconds += time.perf_counter() - begun
        self._genuine.clear()
        if self._seen() - seen != count:
            raise ToolsError(f"fuzz: {count} packets of insiders, {self._seen() - seen} accounted for")
        self.report.packets += count

    def _seen(self) -> int:
        return int(self.endpoint.counts[list(ACCOUNTS)].sum())

    # -- at the end -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """All that genuine clients sent has arrived, and they are connected.

        Raises:
            ToolsError: Not so.
        """
        behind = int((self._sent - self._heard).max())
        if not (self.honest.group.state == ClientState.CONNECTED).all() or behind > BEHIND_MAX:
            raise ToolsError(f"fuzz: genuine clients lost their connection, or are {behind} messages behind")
        self.report.genuine = int(self._heard.sum())

    def totals(self) -> dict[str, int]:
        """Counts by reason, without zeros."""
        counts = {f"host {reason.name.lower()}": int(self.host.drops[reason]) for reason in Drop}
        counts |= {f"endpoint {reason.name.lower()}": int(self.endpoint.counts[reason]) for reason in EndpointCount}
        counts |= {f"inputs {reason.name.lower()}": int(self.inputs.counters[reason].sum()) for reason in InputCount}
        counts["messages malformed"] = self._codec.dropped
        return {name: count for name, count in counts.items() if count}


def fuzz(
    *, packets: int, seed: int, seconds_max: float = float("inf"), progress: Callable[[int], None] | None = None
) -> FuzzReport:
    """Feed so many mangled packets, and check after every batch that nothing gave.

    Args:
        packets: How many, at least; they come in batches.
        seed: Of everything random; the same seed mangles the same way.
        seconds_max: Ends earlier after so long.
        progress: Told how many packets were fed so far.

    Raises:
        ToolsError: A promise was broken, with the numbers; or a value is out of range.
    """
    if packets < 1 or seconds_max <= 0:
        raise ToolsError(f"fuzz: packets {packets}, seconds_max {seconds_max}: both must be positive")
    begun = time.perf_counter()
    rig = _Rig(seed)
    before = (0, 0)
    batches = 0
    while rig.report.packets < packets and time.perf_counter() - begun < seconds_max:
        for _ in range(BATCHES):
            rig.hostile_batch(min(BATCH, packets))
        rig.genuine_step()
        for _ in range(INSIDER_BATCHES):
            rig.insider_batch(INSIDER_BATCH)
        rig.client_batch(CLIENT_BATCH)
        rig.check()
        batches += 1
        if batches == WARM_BATCHES:
            before = _grown()
        if progress is not None:
            progress(rig.report.packets)
    for _ in range(30):
        rig.genuine_step()
    rig.check()
    objects, memory = _grown()
    if batches > WARM_BATCHES and (objects - before[0] > OBJECT_GROWTH_MAX or memory - before[1] > MEMORY_GROWTH_MAX):
        raise ToolsError(f"fuzz: {objects - before[0]} objects and {memory - before[1]} bytes came to stay")
    rig.report.counts = rig.totals()
    return rig.report


def _grown() -> tuple[int, int]:
    """Objects alive, and the most memory ever in use [bytes]."""
    gc.collect()
    return sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
