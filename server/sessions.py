"""Which client plays which entity, from connection to departure.

    free -> joining     the transport connected a client: a Join command waits for the next tick
    joining -> playing  the world told of `joined`: inputs flow, snapshots begin
    joining -> free     the world told of `refused`: the client is disconnected with that reason
    any -> free         the transport lost the client: a Leave command waits, if there is an entity

Commands that a tick has no room for wait in a queue of at most `QUEUE_MAX`; a Join beyond it is refused (the client is
disconnected), an Action is dropped and counted. A Leave always finds room: it takes the place of its client's Join.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np

from net.host import Connected, Disconnected
from sim.arrays import I32, U64
from sim.commands import Action, Commands, Join, Leave

__all__ = ["QUEUE_MAX", "Sessions"]

QUEUE_MAX = 20_000
TICKET_CLIENT_BITS = 17


class Sessions:
    """Sessions of all clients of a zone, in columns.

    Attributes:
        row: Row of each client's player, -1 while it has none, shape (clients,), int32.
        entity: Its id, 0 for none, shape (clients,), uint64.
        client_of_row: Client of each player row, -1 for none, shape (players,), int32.
        refused: Clients to be disconnected since they could not join; emptied by who does so.
        dropped: Commands dropped because the queue was full.
    """

    def __init__(self, *, clients: int, players: int) -> None:
        self.row: I32 = np.full(clients, -1, np.int32)
        self.entity: U64 = np.zeros(clients, np.uint64)
        self.client_of_row: I32 = np.full(players, -1, np.int32)
        self.names: list[str] = [""] * clients
        self.refused: list[int] = []
        self.dropped = 0
        self._serial = 0
        self._ticket: list[int] = [0] * clients
        self._queue: deque[Join | Leave | Action] = deque()

    @property
    def playing(self) -> int:
        """How many clients have an entity."""
        return int(np.count_nonzero(self.row >= 0))

    def connect(self, event: Connected) -> None:
        """A client has got a slot: let it join with the name and team of its token."""
        client = event.client
        team = event.user_data[0] if event.user_data else 0
        name = event.user_data[1:33].rstrip(b"\0").decode("utf-8", "replace") or f"player {client}"
        self._serial += 1
        self._ticket[client] = self._serial << TICKET_CLIENT_BITS | client
        self.names[client] = name
        if len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
            self.refused.append(client)
            return
        self._queue.append(Join(self._ticket[client], name, team))

    def disconnect(self, event: Disconnected) -> None:
        """A client's slot was reset: let its entity leave, or forget that it wanted to join."""
        client = event.client
        if self.row[client] >= 0:
            self._queue.append(Leave(int(self.entity[client])))
            self.client_of_row[self.row[client]] = -1
            self.row[client] = -1
            self.entity[client] = 0
        else:
            ticket = self._ticket[client]
            self._queue = deque(c for c in self._queue if not (isinstance(c, Join) and c.ticket == ticket))
        self._ticket[client] = 0

    def act(self, client: int, kind: int, values: tuple[int | str | bytes, ...]) -> bool:
        """Queue a player's action; False where it has no entity or the queue is full."""
        if self.row[client] < 0 or len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
            return False
        self._queue.append(Action(int(self.entity[client]), kind, values))
        return True

    def fill(self, commands: Commands) -> None:
        """Hand over what waits, as far as the tick takes it."""
        while self._queue and commands.add(self._queue[0]):
            self._queue.popleft()

    def joined(self, ticket: int, entity: int, row: int) -> int:
        """The world let a player in.

        Returns:
            Its client, or -1 if it has gone meanwhile: then the entity leaves again.
        """
        client = ticket & ((1 << TICKET_CLIENT_BITS) - 1)
        if client >= len(self._ticket) or self._ticket[client] != ticket:
            self._queue.append(Leave(entity))
            return -1
        self.row[client] = row
        self.entity[client] = entity
        self.client_of_row[row] = client
        return client

    def refuse(self, ticket: int) -> None:
        """The world had no room for a player."""
        client = ticket & ((1 << TICKET_CLIENT_BITS) - 1)
        if self._ticket[client] == ticket:
            self.refused.append(client)

    def clients(self) -> Sequence[int]:
        """Clients that have an entity, ascending."""
        return [int(client) for client in np.flatnonzero(self.row >= 0)]
