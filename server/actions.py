"""Clients' messages, checked: actions become commands of the world, the game's messages are passed on to everyone.

A message is passed on with its sender's entity in front (`net.messages`), so that nobody speaks for another, and only
of who plays. A client may send each action `per_second_max` times a second and each message
`MESSAGES_PER_SECOND_MAX` times, in windows of one second of ticks; what is beyond is refused and counted. What a client
is able to (`abilities`) it may say once.
"""

import numpy as np

from net.messages import GAME_NUMBERS, Message, MessageCodec
from server.sessions import Sessions
from sim.arrays import I32, I64, Bool
from sim.plugin import GameSpec
from sim.schema import Value

__all__ = ["ActionGate"]

MESSAGES_PER_SECOND_MAX = 5
TOLD_MAX = 64  # messages passed on per tick; more are dropped and counted


class ActionGate:
    """Decodes and limits what clients say.

    Attributes:
        refused: Messages beyond a limit.
        malformed: Messages that are not as declared.
    """

    def __init__(self, game: GameSpec, *, clients: int, tick_hz: int) -> None:
        self._actions = len(game.actions)
        self._codec = MessageCodec.to_server(game.actions, game.messages)
        self._most = [spec.per_second_max for spec in game.actions] + [MESSAGES_PER_SECOND_MAX] * len(game.messages)
        self._tick_hz = tick_hz
        self._used: I32 = np.zeros((clients, max(len(self._most), 1)), np.int32)
        self._window: I64 = np.full(clients, -1, np.int64)
        self._told: list[tuple[str, tuple[Value, ...]]] = []
        self._able: list[tuple[int, tuple[Value, ...]]] = []  # at most one per client
        self._has_said: Bool = np.zeros(clients, np.bool_)
        self.refused = 0

    @property
    def malformed(self) -> int:
        """Messages that were not as declared."""
        return self._codec.dropped

    def reset(self, client: int) -> None:
        """Make a client new."""
        self._has_said[client] = False
        self._able = [entry for entry in self._able if entry[0] != client]
        self._used[client] = 0
        self._window[client] = -1

    def hear(self, client: int, payload: bytes, tick: int, sessions: Sessions) -> None:
        """Take one MESSAGE payload of a client."""
        message = self._codec.decode(payload)
        if message is None:
            return
        if message.kind < GAME_NUMBERS:
            self._hear_abilities(client, message)
            return
        window = tick // self._tick_hz
        if self._window[client] != window:
            self._window[client] = window
            self._used[client] = 0
        number = message.kind - GAME_NUMBERS
        self._used[client, number] += 1
        if self._used[client, number] > self._most[number]:
            self.refused += 1
        elif number < self._actions:
            sessions.act(client, number, message.values)
        elif sessions.row[client] >= 0 and len(self._told) < TOLD_MAX:
            self._told.append((message.name, (int(sessions.entity[client]), *message.values)))
        else:
            self.refused += 1

    def _hear_abilities(self, client: int, message: Message) -> None:
        """The core's only message to the server."""
        ids = message.values[0]
        if self._has_said[client] or not isinstance(ids, tuple):
            self.refused += 1
            return
        self._has_said[client] = True
        self._able.append((client, ids))

    def take_able(self) -> list[tuple[int, tuple[Value, ...]]]:
        """Clients that said what they are able to, since the last call: (client, ids of dictionaries), oldest first."""
        able, self._able = self._able, []
        return able

    def take_told(self) -> list[tuple[str, tuple[Value, ...]]]:
        """Messages to be passed on, oldest first."""
        told, self._told = self._told, []
        return told
