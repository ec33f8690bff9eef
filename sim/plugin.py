"""What a game package declares, through one registration object.

A game is a function `game(registration: Registration) -> None`, found by the entry point group `hitreg.games` or named
as `package.module:function`. It may call `kind`, `system`, `event`, `message`, `action` and `setting`, in any order;
`freeze` then checks the whole and gives the `GameSpec` that a `World` is made of. Nothing here is private to the
sample games: they use these calls and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sim.errors import DeclarationError
from sim.events import EVENT_KINDS_MAX
from sim.pipeline import System, order_systems
from sim.schema import NAME_PATTERN, ActionSpec, Component, Direction, MessageSpec

__all__ = ["CORE_EVENTS", "EVERYWHERE_M", "EventSpec", "Falls", "Game", "GameSpec", "Kind", "Registration"]

KINDS_MAX = 64
MESSAGES_MAX = 256
EVERYWHERE_M = 1e5
"""A range of events that is greater than any zone [m]."""

CORE_EVENTS = ("joined", "left", "refused")
"""Kinds of events that the session layer understands. `joined`: actor = the player's entity, value = the ticket;
`left`: actor = the former entity; `refused`: value = the ticket of a join for which there was no room."""


@dataclass(frozen=True, slots=True)
class EventSpec:
    """A kind of events: who hears of one.

    Actor and target always do, and so does within `range_m` whoever is told of the actor, or everyone if there is none.
    Of those who are not told of the actor only a sound is heard: without actor and target, and with its place blurred.

    Attributes:
        name: Snake case.
        range_m: How far it is heard [m], from its position.
        sound: Whether it is heard by those who do not see its actor.
        implied: Whether a client that sees the actor finds out by itself, as it does of footsteps: such a client is not
            sent it.
        public: Whether it is told, without its place, to whoever is not told of its actor: of what a scoreboard says.
    """

    name: str
    range_m: float = 150.0
    sound: bool = False
    implied: bool = False
    public: bool = False


@dataclass(frozen=True, slots=True)
class Falls:
    """When entities of a kind fall, for dead reckoning of the second order: while `column` & `mask` == `value`.

    Attributes:
        gravity: Downwards [m/s²].
        column: A replicated integer column of the kind, as `component.column`.
        mask, value: The condition on the number that is sent of it.
    """

    gravity: float
    column: str
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity: a table of its own.

    Attributes:
        name: Name of the table.
        components: What each entity has.
        capacity: Greatest number alive at once; when full, a spawn is refused with TableFullError.
        controlled: Whether players control entities of this kind; exactly one kind of a game does.
        replicated: Whether clients are told of entities of this kind.
        falls: When they fall; None: they are reckoned to go on as they do.
        bounds: Least and greatest values of columns, as `component.column`, where narrower than the column's own.
    """

    name: str
    components: tuple[type[Component], ...]
    capacity: int
    controlled: bool = False
    replicated: bool = True
    falls: Falls | None = None
    bounds: tuple[tuple[str, tuple[float, float]], ...] = ()

    def bounds_of(self, component: type[Component], column: str) -> tuple[float, float]:
        """Least and greatest value of a column of this kind."""
        own = dict(self.bounds).get(f"{component.component_name}.{column}")
        return component.columns[column].bounds if own is None else own


@dataclass(frozen=True, slots=True)
class GameSpec:
    """A checked game: kinds and numbered events in the order of registration, systems in the order they run."""

    name: str
    version: str
    kinds: tuple[Kind, ...]
    systems: tuple[System, ...]
    events: tuple[str, ...]
    messages: tuple[MessageSpec, ...]
    actions: tuple[ActionSpec, ...]
    settings: tuple[tuple[str, str], ...]
    event_specs: tuple[EventSpec, ...] = ()
    """One per name of `events`: who hears of it."""

    @property
    def controlled(self) -> Kind:
        """The kind that players control."""
        return next(kind for kind in self.kinds if kind.controlled)

    def event(self, name: str) -> int:
        """Number of an event kind.

        Raises:
            DeclarationError: The game has not declared it.
        """
        if name not in self.events:
            raise DeclarationError(f"game {self.name!r} declares no event {name!r}; it has {', '.join(self.events)}")
        return self.events.index(name)

    def action(self, name: str) -> int:
        """Number of an action.

        Raises:
            DeclarationError: The game has not declared it.
        """
        for number, spec in enumerate(self.actions):
            if spec.name == name:
                return number
        raise DeclarationError(f"game {self.name!r} declares no action {name!r}")


class Registration:
    """Collects one game's declarations."""

    def __init__(self, name: str, version: str = "1") -> None:
        self.name = name
        self.version = version
        self._kinds: list[Kind] = []
        self._systems: list[System] = []
        self._events: list[EventSpec] = [EventSpec(name, EVERYWHERE_M, public=True) for name in CORE_EVENTS]
        self._messages: list[MessageSpec] = []
        self._actions: list[ActionSpec] = []
        self._settings: dict[str, str] = {}

    def kind(
        self,
        name: str,
        *components: type[Component],
        capacity: int,
        controlled: bool = False,
        replicated: bool = True,
        falls: Falls | None = None,
        bounds: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Declare a kind of entity; see `Kind`.

        Raises:
            DeclarationError: The name is taken, a component is given twice, or a bound is of no column of these.
        """
        self._new("kind", name, [kind.name for kind in self._kinds], KINDS_MAX)
        if len({component.component_name for component in components}) != len(components) or not components:
            raise DeclarationError(f"kind {name!r}: give each component once, and at least one")
        columns = {f"{kind.component_name}.{column}" for kind in components for column in kind.columns}
        if unknown := sorted(set(bounds or ()) - columns):
            raise DeclarationError(f"kind {name!r}: bounds of {unknown[0]!r}, which is no column of its components")
        self._kinds.append(
            Kind(
                name,
                components,
                capacity,
                controlled=controlled,
                replicated=replicated,
                falls=falls,
                bounds=tuple((bounds or {}).items()),
            )
        )

    def system(self, *systems: System) -> None:
        """Declare systems. Those of one call run in the order given; `after` and `before` place them among others."""
        for system in systems:
            if any(system.name == known.name for known in self._systems):
                raise DeclarationError(f"system {system.name!r} is declared twice")
            self._systems.append(system)

    def event(
        self, *names: str, range_m: float = 150.0, sound: bool = False, implied: bool = False, public: bool = False
    ) -> None:
        """Declare kinds of events, all heard alike; see `EventSpec`.

        Raises:
            DeclarationError: A name is taken, or the range is not 0 to `EVERYWHERE_M`.
        """
        for name in names:
            self._new("event", name, [known.name for known in self._events], EVENT_KINDS_MAX)
            if not 0.0 <= range_m <= EVERYWHERE_M:
                raise DeclarationError(
                    f"event {name!r}: range_m is {range_m}; give it 0 to {EVERYWHERE_M:g} (EVERYWHERE_M)"
                )
            self._events.append(EventSpec(name, float(range_m), sound=sound, implied=implied, public=public))

    def message(self, spec: MessageSpec) -> None:
        """Declare a message between server and clients.

        Raises:
            DeclarationError: It goes to the server alone, or its name is taken.
        """
        if spec.direction is Direction.TO_SERVER:
            raise DeclarationError(
                f"message {spec.name!r}: to the server alone nobody would hear it; declare an action"
            )
        self._new("message", spec.name, [known.name for known in self._messages], MESSAGES_MAX)
        self._messages.append(spec)

    def action(self, spec: ActionSpec) -> None:
        """Declare a request of clients that becomes a recorded command."""
        self._new("action", spec.name, [known.name for known in self._actions], MESSAGES_MAX)
        self._actions.append(spec)

    def setting(self, name: str, value: str) -> None:
        """Publish a fact about the game, such as its weapons' names, for tools and pages."""
        self._settings[name] = value

    def freeze(self) -> GameSpec:
        """Check everything and fix the order of the systems.

        Raises:
            DeclarationError: Not exactly one kind is controlled.
            PipelineError: The order of two systems that touch the same data is ambiguous, or names are unknown.
        """
        controlled = [kind.name for kind in self._kinds if kind.controlled]
        if len(controlled) != 1:
            raise DeclarationError(
                f"game {self.name!r} must have exactly one kind with controlled=True, it has {controlled or 'none'}"
            )
        return GameSpec(
            name=self.name,
            version=self.version,
            kinds=tuple(self._kinds),
            systems=order_systems(self._systems),
            events=tuple(spec.name for spec in self._events),
            event_specs=tuple(self._events),
            messages=tuple(self._messages),
            actions=tuple(self._actions),
            settings=tuple(sorted(self._settings.items())),
        )

    def _new(self, what: str, name: str, known: list[str], most: int) -> None:
        if not NAME_PATTERN.fullmatch(name):
            raise DeclarationError(f"{what} name {name!r}: use lower-case snake case, at most 32 letters")
        if name in known:
            raise DeclarationError(f"game {self.name!r} declares {what} {name!r} twice")
        if len(known) >= most:
            raise DeclarationError(f"game {self.name!r} declares more than {most} of {what}")


Game = Callable[[Registration], None]
