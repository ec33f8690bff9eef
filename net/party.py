"""Game clients of one server, complete but for what they want: sockets, connections, endpoints, clocks and inputs.

A game client is a party of one; bots, load tests and tests are parties of a thousand. A frame is:

    party.receive(now_ns)                                   # then `messages`, `clients`, `replicas` are up to date
    while party.clients.advance(now_ns):
        party.clients.set_inputs(buttons=…, …)
    party.send(now_ns)

A client that was lost (nothing heard for `PATIENCE_NS`, or timed out) connects again by itself with a fresh token, at
first at once, then at growing intervals up to `RETRY_NS_MAX`; the server lets it go on with the entity it had. One that
was sent away, replaced by a connection from elsewhere, or refused, does not: it would only fight over its player.
"""

from collections.abc import Callable, Sequence

import numpy as np

from net.blocks import Blocks
from net.client import GameClients, Predictor, Replicas
from net.compression import Compressor
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.dictionaries import shipped_dictionaries
from net.endpoint import Endpoint
from net.errors import NetError
from net.messages import Message, MessageCodec
from net.owner import OwnerLayout
from net.packing import SnapshotUnpacker, unpack_message
from net.simulator import Link, NetworkProfile
from net.udp import SocketGroup
from net.zone import JOIN_TAG
from net.zone_replica import SectionedReplicas, ZonedReplicas, ZoneReplica
from sim.arrays import I32, I64, Bool
from sim.schema import Value

__all__ = ["Party"]

PATIENCE_NS = 2_000_000_000  # of silence, before a client takes its connection for lost
RETRY_NS = 250_000_000
RETRY_NS_MAX = 8_000_000_000
BATCHES_MAX = 4  # of datagrams per frame; the rest waits in the sockets
MESSAGES_MAX = 4096  # kept until they are taken; further ones are dropped and counted
DATAGRAMS_PER_CLIENT = 4


class Party:
    """`count` clients. Nothing is sent before `join`.

    Attributes:
        sockets: One per client.
        connections: The netcode clients.
        endpoint: Acknowledgements, channels and measurements.
        blocks: Blocks on their way, and those that have arrived; with a `zone`, joins are taken out of these.
        zone: What each client knows of the whole zone; None: nothing. Clients beyond its number do not ask for it.
        clients: Clocks, inputs, prediction.
        kicked: Why the server sent a client away, by client.
        rejoins: How often a lost client has connected again.
        messages_dropped: Messages that nobody took in time.
        blocks_dropped: Blocks that no client asked for.
    """

    def __init__(
        self,
        count: int,
        *,
        protocol_id: int,
        layout: OwnerLayout,
        tick_hz: int,
        token: Callable[[int], bytes],
        to_server: MessageCodec,
        to_client: MessageCodec,
        predictor: Predictor | None = None,
        replicas: SectionedReplicas | None = None,
        zone: ZoneReplica | None = None,
        compressor: Compressor | None = None,
        network: NetworkProfile | None = None,
        seed: int = 1,
    ) -> None:
        """Makes room for all that the clients will ever need.

        Args:
            count: How many clients.
            protocol_id: Of the game, as the server has it.
            layout: The owner section, as the server packs it.
            tick_hz: The server's tick rate.
            token: Gives a fresh connect token for a client, always of the same client id.
            to_server: The game's messages, as clients send them.
            to_client: As the server sends them.
            predictor: The motion; None: nobody predicts.
            replicas: Where snapshots are decoded; None: nowhere.
            zone: Where zone-wide state is kept, for as many of the clients as it has, the first ones; needs
                `replicas`, since snapshots carry what changes.
            compressor: With the dictionaries of the clients; None: one with those that are shipped.
            network: A bad network between sockets and connections, both ways; None: none.
            seed: Of what that network does.

        Raises:
            NetError: A size is out of range, or there is a `zone` without `replicas`.
        """
        batch = max(256, DATAGRAMS_PER_CLIENT * count)
        self.count, self.zone = count, zone
        self._compressor = compressor or Compressor(dictionaries=shipped_dictionaries())
        if zone is not None and replicas is None:
            raise NetError("party: zone needs replicas; give both, or neither")
        if zone is not None and replicas is not None:
            known: Replicas | None = ZonedReplicas(replicas, zone)
        else:
            known = replicas
        self.sockets = SocketGroup(count)
        self._unpacker = SnapshotUnpacker(self._compressor, batch=batch)
        self.connections = ClientGroup(count, protocol_id=protocol_id, batch=batch)
        self.blocks = Blocks(count)
        self.endpoint = Endpoint(count, batch=batch, blocks=self.blocks)
        self.clients = GameClients(count, layout, tick_hz=tick_hz, predictor=predictor, replicas=known, batch_max=batch)
        self.kicked: dict[int, str] = {}
        self.rejoins = 0
        self.messages_dropped = self.blocks_dropped = 0
        self._token, self._to_server, self._to_client = token, to_server, to_client
        self._datagrams = Datagrams(batch)
        self._arrived = Datagrams(batch)
        self._links: tuple[Link, Link] | None = None
        if network is not None:
            capacity = 256 * count + 1024
            up, down = (Link(network, peers=count, seed=2 * seed + way, capacity=capacity) for way in (0, 1))
            self._links = (up, down)
        self._joined: Bool = np.zeros(count, np.bool_)
        self._was_in: Bool = np.zeros(count, np.bool_)
        self._retry_ns: I64 = np.zeros(count, np.int64)
        self._wait_ns: I64 = np.full(count, RETRY_NS, np.int64)
        self._messages: list[tuple[int, Message]] = []

    @property
    def connected(self) -> int:
        """How many are connected."""
        return int(np.count_nonzero(self.connections.state == ClientState.CONNECTED))

    def join(self, client: int, now_ns: int) -> None:
        """Let a client connect, and connect again whenever it is lost."""
        self._joined[client] = True
        self._connect(client, now_ns)

    def leave(self, client: int, now_ns: int) -> None:
        """Let a client say goodbye, for good."""
        self._joined[client] = False
        self.connections.disconnect(client, now_ns)

    def tell(self, client: int, name: str, *values: Value) -> bool:
        """Send a message to the server by the delivery it is declared with; False where the queue is full.

        Raises:
            NetError: No such message, or a value is not as declared.
        """
        codec = self._to_server
        return self.endpoint.tell(client, codec.encode(name, *values), codec.form(name).delivery)

    def take_messages(self) -> Sequence[tuple[int, Message]]:
        """What the server has said since the last call: (client, message), oldest first."""
        messages, self._messages = self._messages, []
        return messages

    # -- the frame ----------------------------------------------------------------------------------------------

    def receive(self, now_ns: int) -> None:
        """Take in all that has arrived."""
        for _ in range(BATCHES_MAX):
            count = self._take(now_ns)
            if not count:
                break
            self.connections.receive(self._datagrams, now_ns)
            self._follow(now_ns)
            self.endpoint.receive(self.connections.payloads, now_ns)
            unpacked = self._unpacker.take(self.endpoint.payloads)
            self.clients.receive(self.endpoint.payloads, now_ns)
            self._hear()
            if unpacked:
                self.clients.receive(self._unpacker.payloads, now_ns)
            if count < self._datagrams.capacity:
                break
        if self.zone is not None:
            self._take_joins(self.zone)
        for client, code, text in self.endpoint.take_closes():
            self.kicked[client] = text or f"code {code}"
            self._joined[client] = False

    def send(self, now_ns: int) -> None:
        """Send the commands of all clients whose tick was made, and what connections and channels have to send."""
        clients = self.clients
        count = clients.commands()
        self.endpoint.compose(
            clients.command_clients[:count], clients.command_bytes, clients.command_offsets[:count],
            clients.command_lengths[:count], now_ns,
        )  # fmt: skip
        self.connections.send(*self.endpoint.outgoing(), now_ns)
        self.connections.advance(now_ns)
        self._follow(now_ns)
        self._put(now_ns)

    def carry(self, now_ns: int) -> None:
        """Let a simulated network hand over what is due by now: between frames, lest delays be rounded to them."""
        self._put(now_ns)

    def close(self, now_ns: int) -> None:
        """Say goodbye and close the sockets; again is harmless."""
        for client in np.flatnonzero(self.connections.state > ClientState.DISCONNECTED).tolist():
            self.leave(client, now_ns)
        self.sockets.send(self.connections.outgoing)
        self.sockets.close()

    def _take(self, now_ns: int) -> int:
        """Fill `_datagrams` with what has arrived, through the bad network where there is one."""
        if self._links is None:
            return self.sockets.receive(self._datagrams, now_ns)
        self.sockets.receive(self._arrived, now_ns)
        self._links[1].push(self._arrived, now_ns)
        return self._links[1].pull(self._datagrams, now_ns)

    def _put(self, now_ns: int) -> None:
        """Send what is outgoing, through the bad network where there is one."""
        outgoing = self.connections.outgoing
        if self._links is None:
            self.sockets.send(outgoing)
            return
        self._links[0].push(outgoing, now_ns)
        outgoing.clear()
        while self._links[0].pull(self._arrived, now_ns):
            self.sockets.send(self._arrived)

    def _hear(self) -> None:
        """Decode the messages of this batch, unreliable and reliable."""
        payloads, reliable = self.endpoint.payloads, self.endpoint.messages
        told = [(int(payloads.client[i]), payloads.payload(int(i))) for i in self._unreliable()]
        for index in range(reliable.count):
            unpacked = unpack_message(reliable.payload(index), self._compressor)
            if unpacked is not None:
                told.append((int(reliable.client[index]), unpacked))
        for client, payload in told:
            message = self._to_client.decode(payload)
            if message is None:
                continue
            if message.name == "welcome":
                self._welcome(client, message)
            if len(self._messages) >= MESSAGES_MAX:
                self.messages_dropped += 1
                continue
            self._messages.append((client, message))

    def _welcome(self, client: int, message: Message) -> None:
        """Show no moment older than the server looks back."""
        *_, max_rewind_ms = message.values
        if isinstance(max_rewind_ms, int):
            self.clients.playback.cap_ticks[client] = max_rewind_ms * 1e6 / self.clients.tick_ns

    def _take_joins(self, zone: ZoneReplica) -> None:
        """Take in the blocks that have arrived; those that are no joins are kept for nobody, and counted."""
        for block in self.blocks.take_received():
            if block.tag != JOIN_TAG or block.peer >= zone.clients:
                self.blocks_dropped += 1
            else:
                zone.take_join(block.peer, block.content, self._compressor)

    def _unreliable(self) -> I32:
        return self.clients.messages[: self.clients.message_count]

    # -- lost and found -----------------------------------------------------------------------------------------

    def _connect(self, client: int, now_ns: int) -> None:
        self._retry_ns[client] = 0
        self.connections.connect(client, self._token(client), now_ns)

    def _follow(self, now_ns: int) -> None:
        """Begin anew with who has just been connected; let who was lost try again."""
        states = self.connections.state
        for client in self.connections.take_changes().tolist():
            if states[client] == ClientState.CONNECTED:
                self._begin(client, now_ns)
            elif states[client] <= ClientState.DISCONNECTED:
                self._lose(client, ClientState(int(states[client])), now_ns)
        silent = now_ns - self.connections.last_receive_ns > PATIENCE_NS
        for client in np.flatnonzero(silent & (states == ClientState.CONNECTED)).tolist():
            self._connect(client, now_ns)
        for client in np.flatnonzero((self._retry_ns > 0) & (self._retry_ns <= now_ns)).tolist():
            self._connect(client, now_ns)

    def _begin(self, client: int, now_ns: int) -> None:
        one = np.array([client], np.int32)
        self.endpoint.open(one, now_ns)
        self.clients.reset(one)
        if self.zone is not None and client < self.zone.clients:
            self.tell(client, "abilities", self._compressor.ids)
        self._wait_ns[client] = RETRY_NS
        self.rejoins += int(self._was_in[client])
        self._was_in[client] = True

    def _lose(self, client: int, state: ClientState, now_ns: int) -> None:
        self.endpoint.reset(np.array([client], np.int32))
        if state is ClientState.DISCONNECTED and self._joined[client]:
            self.kicked.setdefault(client, "disconnected by the server")
            self._joined[client] = False
        if self._joined[client] and state is not ClientState.DENIED:
            self._retry_ns[client] = now_ns + int(self._wait_ns[client])
            self._wait_ns[client] = min(2 * int(self._wait_ns[client]), RETRY_NS_MAX)

    def statistics(self) -> dict[str, float]:
        """Counts and measurements of all layers, and of the simulated network where there is one."""
        values: dict[str, float] = {"connected": self.connected, "rejoins": self.rejoins, "kicked": len(self.kicked)}
        values |= self.clients.statistics()
        if self.zone is not None:
            values |= self.zone.statistics()
        values |= {f"socket_{name}": value for name, value in self.sockets.statistics().items()}
        values |= {f"endpoint_{name}": value for name, value in self.endpoint.statistics().items()}
        values |= self.connections.statistics()
        for way, link in zip(("up", "down"), self._links or (), strict=False):
            values |= {f"network_{way}_{name}": value for name, value in link.statistics().items()}
        return values
