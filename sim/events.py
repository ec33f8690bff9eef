"""Bounded outputs of a tick: what happened, in order, in uniform columns.

Every event has the same columns, so that any part (clients, recordings, statistics) can carry kinds it does not know.
Beyond the capacity, further events of the tick are dropped and counted in `dropped`; the world itself never depends on
whether an event found room.
"""

import numpy as np

from sim.arrays import F64, I64, U16, U64

__all__ = ["EVENTS_MAX", "EVENT_KINDS_MAX", "Events"]

EVENTS_MAX = 4096  # per tick
EVENT_KINDS_MAX = 256


class Events:
    """The events of the present tick.

    Attributes:
        kind: Number of the event's kind, shape (capacity,), uint16.
        actor: Entity that caused it, 0 for none, shape (capacity,), uint64.
        target: Entity it happened to, 0 for none, shape (capacity,), uint64.
        position: Where [m], shape (capacity, 3), float64.
        vector: Second point or direction, by kind [m], shape (capacity, 3), float64.
        value: Amount, by kind, shape (capacity,), int64.
        dropped: Events for which there was no room, since the world began.
    """

    def __init__(self, capacity: int = EVENTS_MAX) -> None:
        self.capacity = capacity
        self.kind: U16 = np.zeros(capacity, np.uint16)
        self.actor: U64 = np.zeros(capacity, np.uint64)
        self.target: U64 = np.zeros(capacity, np.uint64)
        self.position: F64 = np.zeros((capacity, 3))
        self.vector: F64 = np.zeros((capacity, 3))
        self.value: I64 = np.zeros(capacity, np.int64)
        self.count = 0
        self.dropped = 0

    def clear(self) -> None:
        """Forget the events of the last tick."""
        self.count = 0

    def emit(
        self,
        kind: int,
        *,
        actor: int = 0,
        target: int = 0,
        position: F64 | tuple[float, float, float] = (0.0, 0.0, 0.0),
        vector: F64 | tuple[float, float, float] = (0.0, 0.0, 0.0),
        value: int = 0,
    ) -> None:
        """Append one event, or count it as dropped where there is no room."""
        index = self.count
        if index >= self.capacity:
            self.dropped += 1
            return
        self.kind[index] = kind
        self.actor[index] = actor
        self.target[index] = target
        self.position[index] = position
        self.vector[index] = vector
        self.value[index] = value
        self.count = index + 1
