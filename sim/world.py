"""Tables, the tick and `step`: a whole zone's state and the only function that changes it."""

from typing import TYPE_CHECKING, Any

from sim.commands import REWIND_STEPS, Commands
from sim.errors import CommandError, DeclarationError
from sim.events import Events
from sim.pipeline import Memory, Pipeline, Probe, Step
from sim.plugin import GameSpec
from sim.table import Table
from sim.worldmap import WorldMap

if TYPE_CHECKING:
    from sim.geometry import Geometry

__all__ = ["REWIND_MS_MAX", "TICK_HZ_MAX", "TICK_HZ_MIN", "World"]

TICK_HZ_MIN = 20
TICK_HZ_MAX = 128
REWIND_MS_MAX = 1000


class World:
    """One zone.

    The state is what the tables hold, the tick and the seed: `sim.snapshot` captures these, and what the memories keep
    of former states. Everything else here (geometry, bound systems, scratch) is made anew from the map and the game.

    Attributes:
        game: What the game package declared.
        map: The static world.
        geometry: Its bounding-volume hierarchy.
        tables: Table of each entity kind, by name.
        tick: Number of the last tick made; 0 before the first.
        events: What happened in the last tick.
        services: Objects that systems share at run time and rebuild at start, such as a broadphase, by type.
        memories: What systems remember of former ticks, such as poses, by type; see `sim.pipeline.Memory`.
        max_rewind_ms: How far in the past a shot is judged at most [ms].
        rewind_max: The same in steps of 1/`REWIND_STEPS` tick.
        rewind_ticks_max: How many ticks before the one that is being made a shot can ask for.
    """

    def __init__(
        self,
        game: GameSpec,
        world_map: WorldMap,
        geometry: "Geometry",
        *,
        tick_hz: int = 60,
        seed: int = 1,
        zone: int = 0,
        max_rewind_ms: int = 200,
    ) -> None:
        """Make an empty world.

        Raises:
            DeclarationError: The tick rate or the rewind is out of range, or the tables do not fit.
            PipelineError: A system reaches for what it has not declared.
        """
        if not TICK_HZ_MIN <= tick_hz <= TICK_HZ_MAX:
            raise DeclarationError(f"tick rate {tick_hz} Hz: must be {TICK_HZ_MIN} to {TICK_HZ_MAX}")
        if not 0 <= seed < 1 << 63:
            raise DeclarationError(f"seed {seed}: must be 0 to 2**63 - 1")
        if not 0 <= max_rewind_ms <= REWIND_MS_MAX:
            raise DeclarationError(f"max_rewind_ms {max_rewind_ms}: must be 0 to {REWIND_MS_MAX}")
        self.game = game
        self.map = world_map
        self.geometry = geometry
        self.tick_hz = tick_hz
        self.dt = 1.0 / tick_hz
        self.seed = seed
        self.zone = zone
        self.tick = 0
        self.tables: dict[str, Table] = {}
        base = 0
        for kind in game.kinds:
            table = Table(kind.name, kind.components, capacity=kind.capacity, slot_base=base, zone=zone)
            self.tables[kind.name] = table
            base += kind.capacity
        self.slot_count = base
        self.players = self.tables[game.controlled.name]
        self.events = Events()
        self.services: dict[type[Any], Any] = {}
        self.memories: dict[type[Any], Memory] = {}
        self.max_rewind_ms = max_rewind_ms
        self.rewind_max = max_rewind_ms * tick_hz * REWIND_STEPS // 1000
        self.rewind_ticks_max = -(-self.rewind_max // REWIND_STEPS)
        self._step = Step(0, self.dt, seed, Commands(self.players.capacity), self.events)
        self.pipeline = Pipeline(self, game.systems)

    def table(self, name: str) -> Table:
        """Table of an entity kind.

        Raises:
            DeclarationError: The game has no such kind.
        """
        if name not in self.tables:
            raise DeclarationError(
                f"game {self.game.name!r} has no entity kind {name!r}; it has {', '.join(self.tables)}"
            )
        return self.tables[name]

    def step(self, commands: Commands, probe: Probe | None = None) -> None:
        """Make the next tick from the state and the commands, and from nothing else.

        Args:
            commands: What enters; of the capacity of the controlled table.
            probe: Told the number of each stage as it ends, for timing.

        Raises:
            CommandError: The commands are for a table of another size; nothing has changed.
        """
        self.pipeline.run(self._next(commands), probe)

    def audit(self, commands: Commands) -> None:
        """Make the next tick, checking that every system changes only what it declares.

        Raises:
            PipelineError: One does not.
        """
        self.pipeline.audit(self._next(commands))

    def _next(self, commands: Commands) -> Step:
        if commands.capacity != self.players.capacity:
            raise CommandError(
                f"commands are for {commands.capacity} players, the table {self.players.name!r} has "
                f"{self.players.capacity}: make them with Commands(world.players.capacity)"
            )
        self.tick += 1
        self.events.clear()
        self._step.tick = self.tick
        self._step.commands = commands
        return self._step
