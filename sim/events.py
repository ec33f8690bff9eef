"""Bounded outputs of a tick: what happened, in order, in uniform columns.

Every event has the same columns, so that any part (clients, recordings, statistics) can carry kinds it does not know.
Beyond the capacity, further events of the tick are dropped and counted in `dropped`; the world itself never depends on
whether an event found room. Kernels append through `sim.events_kernels.emit` with `Events.arrays`.
"""

import numpy as np

from sim.arrays import F64, I64, U16, U64
from sim.events_kernels import EventArrays, emit

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
        arrays: All of these and the counters, as kernels take them.
    """

    def __init__(self, capacity: int = EVENTS_MAX) -> None:
        self.capacity = capacity
        self.kind: U16 = np.zeros(capacity, np.uint16)
        self.actor: U64 = np.zeros(capacity, np.uint64)
        self.target: U64 = np.zeros(capacity, np.uint64)
        self.position: F64 = np.zeros((capacity, 3))
        self.vector: F64 = np.zeros((capacity, 3))
        self.value: I64 = np.zeros(capacity, np.int64)
        self._counters: I64 = np.zeros(2, np.int64)
        self.arrays: EventArrays = (
            self.kind, self.actor, self.target, self.position, self.vector, self.value, self._counters,
        )  # fmt: skip

    @property
    def count(self) -> int:
        """How many events this tick has."""
        return int(self._counters[0])

    @property
    def dropped(self) -> int:
        """Events for which there was no room, since the world began."""
        return int(self._counters[1])

    def clear(self) -> None:
        """Forget the events of the last tick."""
        self._counters[0] = 0

    def emit(
        self,
        kind: int,
        *,
        actor: int = 0,
        target: int = 0,
        position: tuple[float, float, float] = (0.0, 0.0, 0.0),
        vector: tuple[float, float, float] = (0.0, 0.0, 0.0),
        value: int = 0,
    ) -> None:
        """Append one event, or count it as dropped where there is no room."""
        emit(self.arrays, kind, np.uint64(actor), np.uint64(target), position, vector, value)
