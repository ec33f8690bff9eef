"""Which client plays which entity, from connection to departure.

    free -> joining     the transport connected a client: a Join command waits for the next tick
    joining -> playing  the world told of `joined`: inputs flow, snapshots begin
    joining -> free     the world told of `refused`: the client is disconnected with that reason
    playing -> away     the transport lost the client: its entity stays for `resume_ticks`, without inputs
    playing -> playing  the same client id connected from elsewhere: the entity is handed over at once
    away -> playing     the same client id connected again, with a fresh token: it goes on with its entity
    away -> free        nobody came back in time: a Leave command waits
    any -> free         the client said goodbye, or was sent away: a Leave command waits, if there is an entity

Who is away still has its place in the zone, so there are never more of them than players.

Commands that a tick has no room for wait in a queue of at most `QUEUE_MAX`; a Join beyond it is refused (the client is
disconnected), an Action is dropped and counted. A Leave always finds room: it takes the place of its client's Join.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from net.host import Connected, Disconnected, DisconnectReason
from sim.arrays import I32, U64
from sim.commands import Action, Commands, Join, Leave
from sim.schema import Value

__all__ = ["QUEUE_MAX", "Sessions"]

QUEUE_MAX = 20_000
REPLACED_TICKS = 256  # between the end of a connection and the new one that replaced it
TICKET_CLIENT_BITS = 17


@dataclass(frozen=True, slots=True)
class _Away:
    """A player whose client is gone, and until when its entity stays."""

    number: int
    entity: int
    row: int
    until_tick: int


class Sessions:
    """Sessions of all clients of a zone, in columns.

    Attributes:
        row: Row of each client's player, -1 while it has none, shape (clients,), int32.
        entity: Its id, 0 for none, shape (clients,), uint64.
        number: Of each client's session, the same after a resume.
        client_of_row: Client of each player row, -1 for none, shape (players,), int32.
        refused: Clients to be disconnected since they could not join; emptied by who does so.
        resumed: Clients that came back to their entity; emptied by who lets them play.
        resumes: How many have come back.
        dropped: Commands dropped because the queue was full.
    """

    def __init__(self, *, clients: int, players: int, resume_ticks: int = 0) -> None:
        """Makes room.

        Args:
            clients: Clients at once.
            players: Rows of the players' table.
            resume_ticks: How long the entity of a lost client stays for it to come back; 0: not at all.
        """
        self.row: I32 = np.full(clients, -1, np.int32)
        self.entity: U64 = np.zeros(clients, np.uint64)
        self.client_of_row: I32 = np.full(players, -1, np.int32)
        self.names: list[str] = [""] * clients
        self.number: list[int] = [0] * clients
        self.refused: list[int] = []
        self.resumed: list[int] = []
        self.resumes = 0
        self.dropped = 0
        self._resume_ticks = resume_ticks
        self._away: dict[int, _Away] = {}  # by client id
        self._serial = 0
        self._ticket: list[int] = [0] * clients
        self._queue: deque[Join | Leave | Action] = deque()

    @property
    def playing(self) -> int:
        """How many clients have an entity."""
        return int(np.count_nonzero(self.row >= 0))

    @property
    def away(self) -> int:
        """How many entities wait for their client to come back."""
        return len(self._away)

    def connect(self, event: Connected) -> None:
        """A client has got a slot: let it go on with its entity, or join with the name and team of its token."""
        client = event.client
        team = event.user_data[0] if event.user_data else 0
        name = event.user_data[1:33].rstrip(b"\0").decode("utf-8", "replace") or f"player {client}"
        self.names[client] = name
        self._serial += 1
        self._ticket[client] = self._serial << TICKET_CLIENT_BITS | client
        self.number[client] = self._serial
        if event.replaces >= 0 and self.row[event.replaces] >= 0:
            away: _Away | None = self._detach(event.replaces, until_tick=0)
        else:
            away = self._away.pop(event.client_id, None)
        if away is not None:
            self._attach(client, away.entity, away.row)
            self.number[client] = away.number
            self.resumed.append(client)
            self.resumes += 1
        elif len(self._queue) >= QUEUE_MAX:
            self.dropped += 1
            self.refused.append(client)
        else:
            self._queue.append(Join(self._ticket[client], name, team))

    def disconnect(self, event: Disconnected, tick: int) -> None:
        """A client's slot was reset: let its entity wait or leave, or forget that it wanted to join.

        Args:
            event: Who, and why: only who was lost may come back, not who said goodbye or was sent away.
            tick: Now.
        """
        client = event.client
        if self.row[client] >= 0:
            wait = self._patience(event.reason)
            away = self._detach(client, until_tick=tick + wait)
            if wait:
                self._away[event.client_id] = away
            else:
                self._queue.append(Leave(away.entity))
        else:
            ticket = self._ticket[client]
            self._queue = deque(c for c in self._queue if not (isinstance(c, Join) and c.ticket == ticket))
        self._ticket[client] = 0

    def _patience(self, reason: DisconnectReason) -> int:
        """How many ticks an entity waits for its client: none where that one left, or was sent away."""
        if reason is DisconnectReason.REPLACED:
            return max(self._resume_ticks, REPLACED_TICKS)
        return self._resume_ticks if reason is DisconnectReason.TIMED_OUT else 0

    def expire(self, tick: int) -> None:
        """Let the entities leave whose clients did not come back in time."""
        for client_id, away in [pair for pair in self._away.items() if pair[1].until_tick <= tick]:
            del self._away[client_id]
            self._queue.append(Leave(away.entity))

    def _attach(self, client: int, entity: int, row: int) -> None:
        self.row[client] = row
        self.entity[client] = entity
        self.client_of_row[row] = client

    def _detach(self, client: int, *, until_tick: int) -> _Away:
        away = _Away(self.number[client], int(self.entity[client]), int(self.row[client]), until_tick)
        self.client_of_row[away.row] = -1
        self.row[client] = -1
        self.entity[client] = 0
        return away

    def act(self, client: int, kind: int, values: tuple[Value, ...]) -> bool:
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
        self._attach(client, entity, row)
        return client

    def refuse(self, ticket: int) -> None:
        """The world had no room for a player."""
        client = ticket & ((1 << TICKET_CLIENT_BITS) - 1)
        if self._ticket[client] == ticket:
            self.refused.append(client)

    def roster(self) -> list[tuple[str, dict[str, object]]]:
        """Who plays, as the kind and the values of a note each."""
        return [
            ("present", {"client": client, "entity": int(self.entity[client]), "name": self.names[client]})
            for client in self.clients()
        ]

    def clients(self) -> Sequence[int]:
        """Clients that have an entity, ascending."""
        return [int(client) for client in np.flatnonzero(self.row >= 0)]
