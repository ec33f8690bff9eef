"""Socket, host and endpoint of a server as one: batches of payloads in, snapshots and messages out, once per tick.

    receive  drain the socket; each batch is opened, acknowledged and handed over
    send     compose packets of snapshots, messages and acknowledgements, seal them, add keep-alives, send everything

A client is sent away in steps, so that it learns why: a CLOSE section goes into its packets for `CLOSE_TICKS` ticks,
then the connection ends. A client whose reliable queue stays full is sent away too: the tick never waits for anyone.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from net.blocks import FinishedBlock
from net.closing import CloseCode
from net.compression import Compressor
from net.datagrams import Datagrams, Payloads
from net.dictionaries import PayloadClass, agreed
from net.endpoint import Endpoint
from net.errors import NetError
from net.host import Connected, Disconnected, Host
from net.messages import MessageCodec
from net.packing import Packer
from net.udp import ServerSocket
from sim.arrays import I32, I64, U8
from sim.schema import Delivery, Value

__all__ = ["Transport"]

BATCHES_MAX = 8  # of datagrams per tick; the rest waits in the socket's buffer, where the system counts overflow
CLOSE_TICKS = 3
SNAPSHOTS_PACKED_MAX = 64  # in a tick; where more are due, their time is worth more than their bytes: 5 µs each
GROUPS_MAX = 16  # of clients with the same dictionaries; those of yet another set are sent none that needs one


class Transport:
    """Moves payloads between clients and a frame.

    Attributes:
        socket: The game's UDP socket.
        host: Connections.
        endpoint: Acknowledgements, channels, measurements.
        kicks: Clients sent away with a reason, so far.
        untold: Messages that found a client's queue full, so far.
        compressor: With the dictionaries of the server.
        packer: Of reliable messages, and of snapshots where few are due.
    """

    def __init__(
        self,
        socket: ServerSocket,
        host: Host,
        endpoint: Endpoint,
        *,
        to_client: MessageCodec,
        batch: int,
        compressor: Compressor | None = None,
    ) -> None:
        self.socket, self.host, self.endpoint = socket, host, endpoint
        self.kicks = self.untold = 0
        self.compressor = compressor or Compressor()
        self.packer = Packer(self.compressor)
        self._codec = to_client
        self._groups: list[tuple[int, ...]] = [()]
        self._group: I32 = np.full(host.clients_max, -1, np.int32)  # of each client; −1: it takes nothing packed
        self._datagrams = Datagrams(batch)
        self._messages: list[tuple[Sequence[int], bytes, Delivery]] = []  # of this tick
        self._closing: dict[int, int] = {}  # client -> ticks left, at most one per client

    def receive(self, now_ns: int, take: Callable[[Payloads, Payloads], None]) -> None:
        """Drain the socket.

        Args:
            now_ns: Monotonic time [ns].
            take: Called for each batch: (unreliable payloads, whole reliable messages).
        """
        for _ in range(BATCHES_MAX):
            if self.socket.receive(self._datagrams, now_ns) == 0:
                break
            full = self._datagrams.count == self._datagrams.capacity
            self.host.receive(self._datagrams, now_ns)
            self.endpoint.receive(self.host.payloads, now_ns)
            take(self.endpoint.payloads, self.endpoint.messages)
            if not full:
                break

    def admit(self, now_ns: int) -> tuple[list[Connected], list[Disconnected]]:
        """Begin with clients that were connected since the last call, and end with those that are gone.

        Returns:
            Both, each oldest first. A client may be in both: it has come and gone.
        """
        arrivals, departures = self.host.take_connected(), self.host.take_disconnected()
        if arrivals:
            self.endpoint.open([come.client for come in arrivals], now_ns)
        if departures:
            self.endpoint.reset([gone.client for gone in departures])
        for client in [come.client for come in arrivals] + [gone.client for gone in departures]:
            self._closing.pop(client, None)
            self._group[client] = -1
        return arrivals, departures

    def tell(self, clients: Sequence[int], name: str, *values: Value) -> None:
        """Send the same message to clients with the next `send`, by the delivery it is declared with.

        Whose queue is full goes without; these are counted in `untold`.
        """
        self._messages.append((clients, self._codec.encode(name, *values), self._codec.form(name).delivery))

    def say(self, client: int, name: str, *values: Value) -> None:
        """As `tell`, to one client."""
        self.tell((client,), name, *values)

    def agree(self, client: int, dictionaries: Sequence[int]) -> None:
        """Pack what a client is told reliably from now on, with the dictionaries that it and the server have."""
        both = agreed(self.compressor.ids, dictionaries)
        if both not in self._groups and len(self._groups) < GROUPS_MAX:
            self._groups.append(both)
        self._group[client] = self._groups.index(both) if both in self._groups else 0

    def _packed(self, clients: Sequence[int], payload: bytes) -> Iterator[tuple[Sequence[int], bytes]]:
        """A reliable message as each group of its receivers is sent it."""
        everyone = np.asarray(clients, np.int32)
        groups = self._group[everyone]
        for group in np.unique(groups).tolist():
            data = self.packer.pack(payload, PayloadClass.MESSAGE, agreed=self._groups[group]) if group >= 0 else None
            yield everyone[groups == group].tolist(), data or payload

    def _packed_snapshots(self, clients: I32, buffer: U8, offsets: I64, lengths: I32) -> tuple[U8, I64, I32]:
        """The snapshots of a tick as they travel: packed for those who take it, where it pays."""
        payloads = []
        for client, at, length in zip(clients.tolist(), offsets.tolist(), lengths.tolist(), strict=True):
            payload, group = buffer[at : at + length].tobytes(), int(self._group[client])
            agreed_on = self._groups[group] if group >= 0 else ()
            data = self.packer.pack(payload, PayloadClass.SNAPSHOT, agreed=agreed_on) if group >= 0 else None
            payloads.append(data or payload)
        sizes = np.array([len(payload) for payload in payloads])
        joined = np.frombuffer(bytearray().join(payloads), np.uint8)
        return joined, np.cumsum(sizes) - sizes, sizes.astype(np.int32)

    def _queue_messages(self) -> None:
        """Hand the messages of this tick to the endpoint, in one batch for each delivery."""
        messages, self._messages = self._messages, []
        for delivery in Delivery:
            chosen = [(clients, payload) for clients, payload, how in messages if how is delivery]
            if delivery is Delivery.RELIABLE:
                chosen = [part for clients, payload in chosen for part in self._packed(clients, payload)]
            if not chosen:
                continue
            sizes = np.array([len(payload) for _, payload in chosen])
            counts = [len(clients) for clients, _ in chosen]
            clients = np.concatenate([np.asarray(who, np.int32) for who, _ in chosen])
            # Of a bytearray: kernels take no arrays that are read only, as those of bytes are.
            buffer = np.frombuffer(bytearray().join(payload for _, payload in chosen), np.uint8)
            offsets, lengths = np.repeat(np.cumsum(sizes) - sizes, counts), np.repeat(sizes, counts).astype(np.int32)
            self.untold += len(clients) - self.endpoint.tell_batch(clients, buffer, offsets, lengths, delivery)

    def send_block(self, client: int, content: bytes, *, tag: int, now_ns: int) -> int:
        """Send a client up to 16 MiB beside everything else, paced; the transfer's number.

        Raises:
            NetError: It is too large, or too many are under way.
        """
        assert self.endpoint.blocks is not None
        return self.endpoint.blocks.send(client, content, tag=tag, now_ns=now_ns)

    def offer(self, client: int, content: bytes, *, tag: int, now_ns: int) -> int:
        """As `send_block`, but −1 where too many blocks are under way: offer it again later.

        The same bytes object offered to many clients is held once.
        """
        try:
            return self.send_block(client, content, tag=tag, now_ns=now_ns)
        except NetError:
            return -1

    def take_finished(self) -> list[FinishedBlock]:
        """How the blocks ended that did since the last call, in whatever way."""
        assert self.endpoint.blocks is not None
        return self.endpoint.blocks.take_finished()

    def kick(self, client: int, code: CloseCode, text: str) -> None:
        """Send a client away, telling it why; again, or for one that is not connected, is harmless."""
        if client not in self._closing and self.endpoint.active[client]:
            self.kicks += 1
            self._closing[client] = CLOSE_TICKS
            self.endpoint.close(client, int(code), text)

    def send(self, clients: I32, buffer: U8, offsets: I64, lengths: I32, now_ns: int) -> None:
        """Send the payloads of this tick, one to each of `clients`, and all else that is due."""
        self._queue_messages()
        for client in self.endpoint.stalled().tolist():
            self.kick(client, CloseCode.TOO_SLOW, "your connection takes less than the game needs")
        if 0 < len(clients) <= SNAPSHOTS_PACKED_MAX and (self._group[clients] >= 0).any():
            buffer, offsets, lengths = self._packed_snapshots(clients, buffer, offsets, lengths)
        self.endpoint.compose(clients, buffer, offsets, lengths, now_ns)
        self.host.send(*self.endpoint.outgoing(), now_ns)
        self._end_closing(now_ns)
        self.host.tick(now_ns)
        self.socket.send(self.host.outgoing)

    def _end_closing(self, now_ns: int) -> None:
        for client, left in list(self._closing.items()):
            self._closing[client] = left - 1
            if left == 1:
                self.host.disconnect(client, now_ns, detail="sent away")
                del self._closing[client]

    def close(self, now_ns: int) -> None:
        """Tell every client that the server stops, and end all connections."""
        nothing: I32 = np.zeros(0, np.int32)
        for client in self.host.connected_clients().tolist():
            self.endpoint.close(client, int(CloseCode.SERVER_STOPS), "the server stops")
        self.endpoint.compose(nothing, np.zeros(0, np.uint8), np.zeros(0, np.int64), nothing, now_ns)
        self.host.send(*self.endpoint.outgoing(), now_ns)
        self.socket.send(self.host.outgoing)
        self.host.disconnect_all(now_ns, detail="the server stops")
        self.socket.send(self.host.outgoing)

    def statistics(self) -> dict[str, float]:
        """Counts and measurements of socket, connections and channels."""
        values: dict[str, float] = {f"socket_{name}": value for name, value in self.socket.statistics().items()}
        values |= self.host.statistics()
        values |= {f"endpoint_{name}": value for name, value in self.endpoint.statistics().items()}
        values |= {"kicks": self.kicks, "untold": self.untold}
        values |= {f"packed_{kind.name.lower()}": count for kind, count in self.packer.packed.items()}
        values |= {"packed_not_tried": self.packer.rested}
        return values | {f"compression_{name}": value for name, value in self.compressor.counts().items()}
