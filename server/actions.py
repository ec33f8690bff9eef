"""Clients' messages, checked: actions become commands of the world, the game's messages are passed on to everyone.

A message is passed on with its sender's entity in front (`net.messages`), so that nobody speaks for another, and only
of who plays. A client may send each action `per_second_max` times a second and each message
`MESSAGES_PER_SECOND_MAX` times, in windows of one second of ticks; what is beyond is refused and counted. What a client
is able to (`abilities`) it may say once; how often it wants snapshots (`rate`) and whom it follows (`watch`), as
often as a message.
"""

import numpy as np

from net.messages import GAME_NUMBERS, Message, MessageCodec
from server.sessions import Sessions
from sim.arrays import I32, I64, Bool
from sim.plugin import GameSpec
from sim.schema import Value

__all__ = ["ActionGate"]

MESSAGES_PER_SECOND_MAX = 5
BEYOND, MALFORMED = range(2)  # rows of `ActionGate.counts`
TOLD_MAX = 64  # messages passed on per tick; more are dropped and counted


class ActionGate:
    """Decodes and limits what clients say.

    Attributes:
        refused: Messages beyond a limit.
        malformed: Messages that are not as declared.
        counts: Of each client since it connected: messages beyond a limit, messages that are not as declared; int64
            (2, clients).
    """

    def __init__(self, game: GameSpec, *, clients: int, tick_hz: int) -> None:
        self._actions = len(game.actions)
        self._codec = MessageCodec.to_server(game.actions, game.messages)
        self._most = [spec.per_second_max for spec in game.actions] + [MESSAGES_PER_SECOND_MAX] * len(game.messages)
        self._most += [MESSAGES_PER_SECOND_MAX] * 2  # of `rate` and `watch`
        self._tick_hz = tick_hz
        self._used: I32 = np.zeros((clients, len(self._most)), np.int32)
        self._window: I64 = np.full(clients, -1, np.int64)
        self._told: list[tuple[str, tuple[Value, ...]]] = []
        self._able: list[tuple[int, tuple[int, ...]]] = []  # at most one per client
        self._rates: dict[int, int] = {}  # the newest of each client
        self._watches: dict[int, int] = {}  # likewise
        self._has_said: Bool = np.zeros(clients, np.bool_)
        self.refused = 0
        self.counts: I64 = np.zeros((2, clients), np.int64)

    @property
    def malformed(self) -> int:
        """Messages that were not as declared."""
        return self._codec.dropped

    def reset(self, client: int) -> None:
        """Make a client new."""
        self._has_said[client] = False
        self._rates.pop(client, None)
        self._watches.pop(client, None)
        self._able = [entry for entry in self._able if entry[0] != client]
        self._used[client] = 0
        self._window[client] = -1
        self.counts[:, client] = 0

    def _refuse(self, client: int) -> None:
        self.refused += 1
        self.counts[BEYOND, client] += 1

    def hear(self, client: int, payload: bytes, tick: int, sessions: Sessions) -> None:
        """Take one MESSAGE payload of a client."""
        message = self._codec.decode(payload)
        if message is None:
            self.counts[MALFORMED, client] += 1
            return
        if message.kind < GAME_NUMBERS:
            self._hear_core(client, message, tick)
            return
        if self._is_over(client, message.kind - GAME_NUMBERS, tick):
            self._refuse(client)
        elif message.kind - GAME_NUMBERS < self._actions:
            sessions.act(client, message.kind - GAME_NUMBERS, message.values)
        elif sessions.row[client] >= 0 and len(self._told) < TOLD_MAX:
            self._told.append((message.name, (int(sessions.entity[client]), *message.values)))
        else:
            self._refuse(client)

    def _is_over(self, client: int, number: int, tick: int) -> bool:
        """Count one message of a number; whether it is beyond what a second allows."""
        window = tick // self._tick_hz
        if self._window[client] != window:
            self._window[client] = window
            self._used[client] = 0
        self._used[client, number] += 1
        return bool(self._used[client, number] > self._most[number])

    def _hear_core(self, client: int, message: Message, tick: int) -> None:
        """What a client says of itself."""
        if message.name == "abilities":
            self._hear_abilities(client, message)
        elif message.name == "rate" and not self._is_over(client, len(self._most) - 2, tick):
            value = message.values[0]
            assert isinstance(value, int)
            self._rates[client] = value
        elif message.name == "watch" and not self._is_over(client, len(self._most) - 1, tick):
            entity = message.values[0]
            assert isinstance(entity, int)
            self._watches[client] = entity
        else:
            self._refuse(client)

    def _hear_abilities(self, client: int, message: Message) -> None:
        """What it can take; once."""
        ids = message.values[0]
        if self._has_said[client] or not isinstance(ids, tuple):
            self._refuse(client)
            return
        self._has_said[client] = True
        self._able.append((client, tuple(number for number in ids if isinstance(number, int))))

    def take_able(self) -> list[tuple[int, tuple[int, ...]]]:
        """Clients that said what they are able to, since the last call: (client, ids of dictionaries), oldest first."""
        able, self._able = self._able, []
        return able

    def take_rates(self) -> dict[int, int]:
        """Snapshots per second that clients asked for since the last call, the newest of each."""
        rates, self._rates = self._rates, {}
        return rates

    def take_watches(self) -> dict[int, int]:
        """Entities that clients asked to follow since the last call, the newest of each."""
        watches, self._watches = self._watches, {}
        return watches

    def take_told(self) -> list[tuple[str, tuple[Value, ...]]]:
        """Messages to be passed on, oldest first."""
        told, self._told = self._told, []
        return told
