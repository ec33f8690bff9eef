"""Systems as an explicit ordered list with declared reads and writes, checked at start and timed stage by stage.

A system is a name, a `bind` function and what it touches. `bind(access)` is called once at start: it takes the arrays
it needs through `access`, which refuses anything undeclared, and returns the function that runs each tick. Hot code
therefore holds its arrays and looks nothing up.

Order. `order_systems` sorts topologically: systems keep the order of registration except where `after` and `before` say
otherwise, and two systems that touch the same data (one of them writing) must be ordered by a chain of such relations;
an ambiguous pair is refused. `chain` links a list of systems so that each comes after the one before it.

`Pipeline.audit` runs one tick with a hash of every component before and after each system and names a system that wrote
what it had declared as read or not at all: slow, for tests and `hitreg doctor`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from sim.arrays import AnyArray
from sim.commands import Commands
from sim.errors import PipelineError
from sim.events import Events
from sim.hashing import hash_columns
from sim.schema import Component
from sim.table import Table

if TYPE_CHECKING:
    from sim.world import World

__all__ = ["Access", "Memory", "Pipeline", "Probe", "Step", "System", "chain", "order_systems"]

ComponentT = TypeVar("ComponentT", bound=Component)

ServiceT = TypeVar("ServiceT")

Resource = type[Component] | str
"""A component (its columns in every table), or a table's name (which of its slots are occupied)."""

EVENTS = "events"
"""The resource that every system which emits events writes; only their order could be ambiguous."""

Probe = Callable[[int], None]
"""Called with the number of each stage as it ends; the caller reads its own clock."""


@dataclass(slots=True)
class Step:
    """What a system is given each tick. One object serves all ticks; systems must not keep values from it.

    Attributes:
        tick: Number of the tick that is being made, from 1 on.
        dt: Length of a tick [s].
        seed: Seed of the world.
        commands: What enters the tick.
        events: Where happenings are emitted.
    """

    tick: int
    dt: float
    seed: int
    commands: Commands
    events: Events


Run = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class System:
    """One stage of a tick.

    Attributes:
        name: Unique, snake case; also the name of its timing.
        bind: Called once at start with an `Access`; returns the function that runs each tick.
        reads: Components whose columns it reads.
        writes: Components whose columns it writes, and names of tables in which it spawns or frees.
        emits: Names of the events it emits.
        after: Names of systems that must have run before it.
        before: Names of systems that must run after it.
    """

    name: str
    bind: Callable[["Access"], Run]
    reads: tuple[type[Component], ...] = ()
    writes: tuple[Resource, ...] = ()
    emits: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()

    def touches(self) -> tuple[frozenset[Resource], frozenset[Resource]]:
        """What it reads and what it writes, with events as a resource."""
        events: frozenset[Resource] = frozenset({EVENTS} if self.emits else ())
        return frozenset(self.reads), frozenset(self.writes) | events


class Memory(Protocol):
    """What systems remember of former ticks, such as poses: captured and restored with the world, but not hashed.

    It must follow from the states of the last ticks alone, and be zero where nothing has been remembered.
    """

    def views(self, tick: int, rows: int) -> list[AnyArray]:
        """Views of all that a capture after `tick` keeps, in a fixed order and of sizes that follow from the arguments.

        Args:
            tick: Last tick made.
            rows: High-water mark of the controlled table.
        """

    def clear(self) -> None:
        """Forget everything; a restore then fills the views."""

    def restored(self, tick: int) -> None:
        """Take what now is in the views as what was remembered at `tick`."""


MemoryT = TypeVar("MemoryT", bound=Memory)


class Access:
    """What one system may reach. Anything undeclared is refused, at start."""

    def __init__(self, world: "World", system: System) -> None:
        self.world = world
        self._system = system

    def _refuse(self, what: str, remedy: str) -> PipelineError:
        return PipelineError(f"system {self._system.name!r} reaches for {what}, undeclared: add it to its {remedy}")

    def read(self, table: str, component: type[ComponentT]) -> ComponentT:
        """Arrays of a declared component, to be read only."""
        if component not in self._system.reads and component not in self._system.writes:
            raise self._refuse(f"component {component.component_name!r}", "reads")
        return self.world.table(table)[component]

    def write(self, table: str, component: type[ComponentT]) -> ComponentT:
        """Arrays of a component that is declared as written."""
        if component not in self._system.writes:
            raise self._refuse(f"component {component.component_name!r} for writing", "writes")
        return self.world.table(table)[component]

    def slots(self, table: str) -> Table:
        """A table, to see which slots are occupied."""
        return self.world.table(table)

    def spawner(self, table: str) -> Table:
        """A table in which the system spawns and frees."""
        if table not in self._system.writes:
            raise self._refuse(f"spawning in table {table!r}", "writes")
        return self.world.table(table)

    def service(self, kind: type[ServiceT], make: Callable[[], ServiceT]) -> ServiceT:
        """An object that systems share, such as a broadphase or a queue that lives within a tick; made on first use.

        It is not part of the state: what is in it at the end of a tick must not matter to the next.
        """
        services = self.world.services
        if kind not in services:
            services[kind] = make()
        found = services[kind]
        assert isinstance(found, kind)
        return found

    def memory(self, kind: type[MemoryT], make: Callable[[], MemoryT]) -> MemoryT:
        """What systems remember from tick to tick, shared like a service and captured with the world; see `Memory`."""
        memories = self.world.memories
        if kind not in memories:
            memories[kind] = make()
        found = memories[kind]
        assert isinstance(found, kind)
        return found

    def event(self, name: str) -> int:
        """Number of an event that the system declares to emit."""
        if name not in self._system.emits:
            raise self._refuse(f"event {name!r}", "emits")
        return self.world.game.event(name)


def chain(*systems: System, after: tuple[str, ...] = ()) -> tuple[System, ...]:
    """The same systems, each declared to come after the one before it."""
    linked: list[System] = []
    for system in systems:
        previous = (linked[-1].name,) if linked else after
        linked.append(replace(system, after=system.after + previous))
    return tuple(linked)


def _relations(systems: Sequence[System]) -> list[set[int]]:
    """For each system, the numbers of those that must come directly before it."""
    numbers = {system.name: number for number, system in enumerate(systems)}
    earlier: list[set[int]] = [set() for _ in systems]
    for number, system in enumerate(systems):
        for name in (*system.after, *system.before):
            if name not in numbers:
                raise PipelineError(f"system {system.name!r} is placed by {name!r}, which no system is called")
        earlier[number].update(numbers[name] for name in system.after)
        for name in system.before:
            earlier[numbers[name]].add(number)
    return earlier


def order_systems(systems: Iterable[System]) -> tuple[System, ...]:
    """The order in which the systems run.

    Raises:
        PipelineError: A name is unknown, the relations go in a circle, or two systems that touch the same data, one
            of them writing, are not ordered.
    """
    listed = list(systems)
    earlier = _relations(listed)
    placed: list[int] = []
    reach: list[set[int]] = [set() for _ in listed]
    while len(placed) < len(listed):
        ready = [n for n in range(len(listed)) if n not in placed and earlier[n] <= set(placed)]
        if not ready:
            stuck = sorted(listed[n].name for n in range(len(listed)) if n not in placed)
            raise PipelineError(f"systems {', '.join(stuck)} wait for each other: remove one 'after' or 'before'")
        number = ready[0]
        reach[number] = set().union(*(reach[n] | {n} for n in earlier[number]))
        placed.append(number)
    for position, later in enumerate(placed):
        for sooner in placed[:position]:
            if sooner not in reach[later]:
                _check_independent(listed[sooner], listed[later])
    return tuple(listed[number] for number in placed)


def _check_independent(first: System, second: System) -> None:
    first_reads, first_writes = first.touches()
    second_reads, second_writes = second.touches()
    shared = (first_writes & (second_reads | second_writes)) | (second_writes & first_reads)
    if shared:
        names = sorted(item if isinstance(item, str) else item.component_name for item in shared)
        raise PipelineError(
            f"the order of systems {first.name!r} and {second.name!r} is ambiguous, both touch {', '.join(names)}: "
            f"give one of them after= or before= the other"
        )


class Pipeline:
    """The bound systems of one world, in order."""

    def __init__(self, world: "World", systems: Sequence[System]) -> None:
        self.systems = tuple(systems)
        self.stages = tuple(system.name for system in systems)
        self._world = world
        self._runs: list[Run] = []
        for system in systems:
            self._runs.append(system.bind(Access(world, system)))

    def run(self, step: Step, probe: Probe | None) -> None:
        """Run every system once; `probe` is told the number of each as it ends."""
        if probe is None:
            for run in self._runs:
                run(step)
            return
        for number, run in enumerate(self._runs):
            run(step)
            probe(number)

    def audit(self, step: Step) -> None:
        """Run one tick, checking that each system changes only what it declares.

        Raises:
            PipelineError: A system wrote undeclared data; the world has been changed by the systems up to it.
        """
        for system, run in zip(self.systems, self._runs, strict=True):
            before = self._fingerprints()
            run(step)
            changed = {key for key, value in self._fingerprints().items() if before[key] != value}
            structural = {item for item in system.writes if isinstance(item, str)}
            for table, resource in sorted(changed, key=str):
                component = None if resource is None else resource
                if table in structural or (component is not None and component in system.writes):
                    continue
                name = "its occupied slots" if component is None else f"component {component.component_name!r}"
                raise PipelineError(f"system {system.name!r} changed {name} of table {table!r} without declaring it")

    def _fingerprints(self) -> dict[tuple[str, type[Component] | None], int]:
        prints: dict[tuple[str, type[Component] | None], int] = {}
        for table in self._world.tables.values():
            prints[table.name, None] = hash_columns([table.ids, table.live.view(np.uint8)])
            for kind, held in table.components.items():
                prints[table.name, kind] = hash_columns([getattr(held, name) for name in kind.columns])
        return prints
