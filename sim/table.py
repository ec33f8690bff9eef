"""Tables of separate numpy columns with fixed capacity, first-in-first-out slots and 64-bit ids.

An id is `zone (12 bits) << 52 | generation (28 bits) << 24 | global slot (24 bits)`; 0 names nothing. Each table owns a
range of global slots from `slot_base` on, so that a global slot names its table. A slot that is freed goes to the end
of the queue of free slots and its generation grows by one, so an id of a former occupant is told from the present
one's until the same slot has been reused 2**28 - 1 times.

The design follows the id pools of Box2D v3 (src/id_pool.c), with a queue in place of its stack so that a slot rests
as long as possible before it is reused.
"""

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import numpy as np

from sim.arrays import I32, I64, U32, U64, Bool
from sim.errors import DeclarationError, StaleIdError, TableFullError
from sim.schema import Component

__all__ = [
    "GENERATION_BITS",
    "GENERATION_MAX",
    "NO_ENTITY",
    "SLOT_BITS",
    "Table",
    "Used",
    "id_generation",
    "id_slot",
    "id_zone",
    "make_id",
]

SLOT_BITS = 24
GENERATION_BITS = 28
ZONE_MAX = (1 << (64 - SLOT_BITS - GENERATION_BITS)) - 1
GENERATION_MAX = (1 << GENERATION_BITS) - 1
SLOT_MAX = (1 << SLOT_BITS) - 1
NO_ENTITY = 0

ComponentT = TypeVar("ComponentT", bound=Component)
MadeT = TypeVar("MadeT")


def make_id(*, zone: int, generation: int, slot: int) -> int:
    """The id of an entity from its zone, its slot's generation and its global slot."""
    return zone << (SLOT_BITS + GENERATION_BITS) | generation << SLOT_BITS | slot


def id_slot(entity: int) -> int:
    """Global slot of an id."""
    return entity & SLOT_MAX


def id_generation(entity: int) -> int:
    """Generation of an id."""
    return entity >> SLOT_BITS & GENERATION_MAX


def id_zone(entity: int) -> int:
    """Zone of an id."""
    return entity >> (SLOT_BITS + GENERATION_BITS)


class Table:
    """All entities of one kind: one array per column, and the book-keeping of slots.

    Attributes:
        ids: Id of each slot's occupant, 0 where free, shape (capacity,), uint64.
        live: Whether a slot is occupied, shape (capacity,), bool.
        generation: Generation of the present or next occupant, shape (capacity,), uint32.
        high_water: One more than the highest slot ever used; rows from there on hold their defaults.
    """

    def __init__(
        self,
        name: str,
        components: Iterable[type[Component]],
        *,
        capacity: int,
        slot_base: int = 0,
        zone: int = 0,
    ) -> None:
        if not 0 < capacity <= SLOT_MAX or slot_base + capacity > SLOT_MAX or not 0 <= zone <= ZONE_MAX:
            raise DeclarationError(
                f"table {name!r}: capacity {capacity} at slot {slot_base} in zone {zone} is out of range; "
                f"all tables together hold at most {SLOT_MAX} rows, and zones go to {ZONE_MAX}"
            )
        self.name = name
        self.capacity = capacity
        self.slot_base = slot_base
        self.zone = zone
        self.components: dict[type[Component], Component] = {kind: kind(capacity) for kind in components}
        self.ids: U64 = np.zeros(capacity, np.uint64)
        self.live: Bool = np.zeros(capacity, np.bool_)
        self.generation: U32 = np.ones(capacity, np.uint32)
        self.high_water = 0
        self.free_queue: I32 = np.arange(capacity, dtype=np.int32)
        self.free_head = 0
        self.live_count = 0
        self._live_slots: I32 | None = None

    def __getitem__(self, component: type[ComponentT]) -> ComponentT:
        """The arrays of one component.

        Raises:
            DeclarationError: Entities of this kind do not have the component.
        """
        held = self.components.get(component)
        if not isinstance(held, component):
            raise DeclarationError(f"table {self.name!r} has no component {component.component_name!r}")
        return held

    def __contains__(self, component: type[Component]) -> bool:
        """Whether entities of this kind have a component."""
        return component in self.components

    @property
    def live_slots(self) -> I32:
        """Occupied slots in ascending order, int32, read-only; recomputed only after a change."""
        if self._live_slots is None:
            self._live_slots = np.flatnonzero(self.live).astype(np.int32)
            self._live_slots.flags.writeable = False
        return self._live_slots

    def allocate_many(self, count: int) -> I32:
        """Take the slots that have been free for the longest, their columns filled with their defaults.

        Returns:
            The slots within this table in the order they were taken, shape (count,), int32.

        Raises:
            TableFullError: Fewer than `count` slots are free; nothing has changed.
        """
        if count > self.capacity - self.live_count:
            raise TableFullError(
                f"table {self.name!r} has {self.capacity - self.live_count} of {self.capacity} slots free, {count} "
                f"are wanted; raise the capacity of the kind"
            )
        slots: I32 = self.free_queue[(self.free_head + np.arange(count)) % self.capacity]
        self.free_head = (self.free_head + count) % self.capacity
        self.live_count += count
        self.live[slots] = True
        if count:
            self.high_water = max(self.high_water, int(slots.max()) + 1)
        self.ids[slots] = self.ids_of(slots, self.generation[slots])
        self._live_slots = None
        return slots

    def ids_of(self, slots: I32 | I64, generation: U32) -> U64:
        """Ids of occupants of slots, by their generations, shape (n,), uint64; whether they live or not."""
        generations = generation.astype(np.uint64) << np.uint64(SLOT_BITS)
        zone = np.uint64(self.zone << (SLOT_BITS + GENERATION_BITS))
        ids: U64 = zone | generations | (slots + self.slot_base).astype(np.uint64)
        return ids

    def free_many(self, slots: I32) -> None:
        """Give slots back: their ids are stale from now on and their columns hold their defaults.

        Raises:
            StaleIdError: One is not occupied or named twice; nothing has changed.
        """
        inside = (slots >= 0) & (slots < self.capacity)
        if not inside.all() or not self.live[slots].all() or len(np.unique(slots)) != len(slots):
            raise StaleIdError(f"table {self.name!r}: slots {slots.tolist()} are not all occupied, or not distinct")
        self.live[slots] = False
        self.ids[slots] = NO_ENTITY
        self.generation[slots] = self.generation[slots] % GENERATION_MAX + 1
        for component in self.components.values():
            for name, declared in component.columns.items():
                getattr(component, name)[slots] = declared.default
        tail = self.free_head + self.capacity - self.live_count
        self.free_queue[(tail + np.arange(len(slots))) % self.capacity] = slots
        self.live_count -= len(slots)
        self._live_slots = None

    def allocate(self) -> int:
        """Take one slot; see `allocate_many`."""
        return int(self.allocate_many(1)[0])

    def free(self, slot: int) -> None:
        """Give one slot back; see `free_many`."""
        self.free_many(np.array([slot], np.int32))

    def touch(self) -> None:
        """Forget what was derived from the columns, after they were replaced as a whole."""
        self._live_slots = None

    def id_of(self, slot: int) -> int:
        """Id of a slot's occupant; 0 where the slot is free."""
        return int(self.ids[slot])

    def find(self, entity: int) -> int:
        """Slot of an entity, or -1 if the id is stale, foreign or 0."""
        slot = id_slot(entity) - self.slot_base
        if entity == NO_ENTITY or not 0 <= slot < self.capacity or int(self.ids[slot]) != entity:
            return -1
        return slot

    def slot_of(self, entity: int) -> int:
        """Slot of an entity that is alive.

        Raises:
            StaleIdError: The entity is gone, or belongs to another table or zone.
        """
        slot = self.find(entity)
        if slot < 0:
            raise StaleIdError(
                f"table {self.name!r}: id {entity:#x} (zone {id_zone(entity)}, generation {id_generation(entity)}, "
                f"slot {id_slot(entity)}) is stale or foreign; look the entity up again"
            )
        return slot

    def resolve(self, entities: U64) -> I64:
        """Slots of many entities at once.

        Args:
            entities: Ids, shape (n,), uint64.

        Returns:
            Slots, shape (n,), int64; -1 where an id is stale, foreign or 0.
        """
        slots = (entities & np.uint64(SLOT_MAX)).astype(np.int64) - self.slot_base
        inside = (slots >= 0) & (slots < self.capacity)
        held = self.ids[np.where(inside, slots, 0)]
        return np.where(inside & (held == entities) & (entities != NO_ENTITY), slots, -1)

    def describe(self) -> str:
        """One canonical text of the layout."""
        components = " | ".join(kind.describe() for kind in self.components)
        return f"{self.name}[{self.capacity}]@{self.slot_base}: {components}"


class Used(Generic[MadeT]):
    """Views of the rows in use, made again only when there are more: a tick then looks at no row that is not.

        columns = Used(table, lambda rows: (alive[:rows], health[:rows]))
        a_kernel(columns())

    Rows from the table's high-water mark on hold their defaults, so that what is done to all may pass them over. A
    match of 64 fills a sixteenth of its table.
    """

    def __init__(self, table: Table, make: Callable[[int], MadeT]) -> None:
        self._table, self._make = table, make
        self._rows = table.high_water
        self._made = make(self._rows)

    def __call__(self) -> MadeT:
        """The views of the rows that are in use now."""
        rows = self._table.high_water
        if rows != self._rows:
            self._rows, self._made = rows, self._make(rows)
        return self._made
