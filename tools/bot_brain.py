"""What a group of bots knows, wants and does: the face of `tools.bots_kernels`.

A `Brain` reads columns that a client has (its own predicted state, what it was told of others) and writes inputs; it
knows neither sockets nor clocks, so a test can let bots play in a bare world.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from net.snapshots import FieldTable
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U64, AnyArray
from sim.games.arena.rules import ARMOURY, ITEMS, START_WEAPONS
from sim.geometry import Geometry
from sim.navigation import Navigation
from sim.plugin import GameSpec
from sim.trig import SINE_TABLE
from sim.worldmap import WorldMap
from tools.bots_kernels import (
    DEATHS,
    FIGURES,
    KILLS,
    LAYOUT_WORDS,
    MEMORY_NUMBERS,
    MEMORY_WORDS,
    OWN_ID,
    hear,
    think,
)
from tools.errors import ToolsError

__all__ = ["GOALS_MAX", "Brain", "Events", "Hands", "Seen", "bot_names", "team_count"]

GOALS_MAX = 64
DECISIONS_HZ = 20
FIELD_BYTES_MAX = 1 << 30

FIRST = (
    "Sleepy", "Rusty", "Turbo", "Grumpy", "Velvet", "Cosmic", "Sneaky", "Quantum", "Fuzzy", "Atomic", "Crispy",
    "Lucky", "Salty", "Nimble", "Wobbly", "Mighty", "Spicy", "Polite", "Hollow", "Jolly", "Electric", "Feral", "Golden",
    "Humble", "Icy", "Brave", "Dizzy", "Lazy", "Magic", "Noble", "Plucky", "Zesty",
)  # fmt: skip
SECOND = (
    "Badger", "Waffle", "Falcon", "Noodle", "Goblin", "Pickle", "Walrus", "Comet", "Biscuit", "Raccoon", "Turnip",
    "Wizard", "Otter", "Teapot", "Gecko", "Muffin", "Yeti", "Lobster", "Hamster", "Cactus", "Pigeon", "Kraken",
    "Dumpling", "Moose", "Penguin", "Radish", "Ferret", "Mantis", "Puffin", "Shrimp", "Weasel", "Zebra",
)  # fmt: skip

# How much a weapon of the arena is liked near (below 7 m), at middling range and far off (above 18 m).
PREFERENCE = {
    "machinegun": (3.0, 4.5, 5.0), "shotgun": (8.0, 4.0, 1.0), "grenade_launcher": (1.0, 2.0, 0.0),
    "rocket_launcher": (2.0, 8.0, 4.0), "lightning": (9.0, 7.0, 0.0), "railgun": (4.0, 6.0, 9.0),
    "plasma": (7.0, 7.0, 5.0), "bfg": (5.0, 9.0, 8.0),
}  # fmt: skip
WORTH = {"quad": 6.0, "regeneration": 5.0, "battle_suit": 4.0, "health": 2.0, "armour": 2.0}
WORTH_WEAPON, WORTH_PLACE = 3.0, 1.0


def bot_names(count: int, seed: int) -> list[str]:
    """`count` different names that are a pleasure to be shot by; the same for the same seed."""
    total = len(FIRST) * len(SECOND)
    order = np.random.default_rng(seed).permutation(total)
    names = []
    for number in range(count):
        pair = int(order[number % total])
        suffix = f" {number // total + 1}" if number >= total else ""
        names.append(f"{FIRST[pair // len(SECOND)]} {SECOND[pair % len(SECOND)]}{suffix}")
    return names


def team_count(game: GameSpec) -> int:
    """How many teams a game has, by its setting `teams` (of which the first is everyone); 0: each for itself."""
    return max(0, len(dict(game.settings).get("teams", "everyone").split(",")) - 1)


@dataclass(frozen=True, slots=True)
class Hands:
    """One input per bot.

    Attributes:
        buttons: Button bits, uint16.
        move_forward: −127 … 127, int8.
        move_right: −127 … 127, int8.
        yaw: 65536ths of a turn, uint16.
        pitch: Likewise, up positive, int16.
        weapon: Weapon wished for, uint8.
    """

    buttons: U16
    move_forward: I8
    move_right: I8
    yaw: U16
    pitch: I16
    weapon: U8

    @classmethod
    def empty(cls, count: int) -> "Hands":
        """Inputs that do nothing."""
        return cls(
            np.zeros(count, np.uint16), np.zeros(count, np.int8), np.zeros(count, np.int8),
            np.zeros(count, np.uint16), np.zeros(count, np.int16), np.zeros(count, np.uint8),
        )  # fmt: skip

    @property
    def columns(self) -> tuple[U16, I8, I8, U16, I16, U8]:
        """As kernels take them."""
        return self.buttons, self.move_forward, self.move_right, self.yaw, self.pitch, self.weapon


@dataclass(frozen=True, slots=True)
class Seen:
    """What the clients know of others; of `net.replica.ReplicaGroup`.

    Attributes:
        entity_id: Shape (n, slots), uint64, 0: nothing.
        state_tick: Tick of each state, int32.
        fields: Quantised, shape (n, slots, fields), int32.
    """

    entity_id: U64
    state_tick: I32
    fields: I32


@dataclass(frozen=True, slots=True)
class Events:
    """Rings of the newest events of each client; of `net.replica.ReplicaGroup`.

    Attributes:
        count: Events ever received, shape (n,), int64.
        kind: Shape (n, ring), int64; the others alike.
        actor: uint64.
        target: uint64.
    """

    count: I64
    kind: I64
    actor: U64
    target: U64


class Brain:
    """`count` bots.

    Attributes:
        hands: Their inputs.
        team: Team of each, int64; 0 where everyone plays alone.
        events_lost: Events overwritten before they were read.
    """

    def __init__(
        self,
        count: int,
        *,
        game: GameSpec,
        world_map: WorldMap,
        geometry: Geometry,
        navigation: Navigation,
        table: FieldTable,
        tick_hz: int,
        seed: int,
        skill: float = 0.6,
        armed: bool = True,
    ) -> None:
        """Makes the goals' distance fields and room for all that bots remember.

        Args:
            count: How many bots.
            game: The game, for its teams, events and kinds.
            world_map: The map.
            geometry: Its hierarchy, for lines of sight.
            navigation: Where to walk.
            table: The replicated fields.
            tick_hz: Ticks a second.
            seed: All that bots do at random follows from it.
            skill: 0 … 1: how steady and quick they are.
            armed: Whether they shoot.

        Raises:
            ToolsError: A number is out of range, or the game has no players as bots know them.
        """
        if count < 1 or not 0.0 <= skill <= 1.0 or not 0 <= seed < 1 << 62:
            raise ToolsError(f"bots: count {count} ≥ 1, skill {skill} 0 … 1, seed {seed} ≥ 0: correct the one outside")
        self.hands = Hands.empty(count)
        teams = team_count(game)
        self.team: I64 = np.arange(count, dtype=np.int64) % teams + 1 if teams else np.zeros(count, np.int64)
        self.events_lost = 0
        self._layout = _layout(game, table)
        every = max(1, round(tick_hz / DECISIONS_HZ))
        self._figures: F64 = np.zeros(FIGURES)
        self._figures[:] = tick_hz, every, skill, table.fields[0].step, table.fields[3].step, seed, armed
        goals, worth = _goals(world_map, navigation, seed)
        self._world = (
            geometry.arrays, navigation.arrays, SINE_TABLE, ARMOURY.table, _preference(), navigation.fields(goals),
            worth, *_items(), _start_rounds(),
        )  # fmt: skip
        self._memory = (
            np.zeros((count, MEMORY_WORDS), np.int64), np.zeros((count, MEMORY_NUMBERS)),
            np.zeros((count, len(ARMOURY))),
        )  # fmt: skip
        self._kill = game.event("kill") if "kill" in game.events else -1

    @property
    def kills(self) -> I64:
        """Kills of each bot that its client was told of; in a crowd not all of them are."""
        return self._memory[0][:, KILLS]

    @property
    def deaths(self) -> I64:
        """Deaths of each bot."""
        return self._memory[0][:, DEATHS]

    def think(self, due: U8, state: Mapping[str, AnyArray], ticks: I64, moment: F64, seen: Seen) -> int:
        """Set `hands` for the bots that are due.

        Args:
            due: Which, shape (n,), uint8.
            state: Columns of the owner layout, as predicted.
            ticks: Tick that each input is for, int64.
            moment: Moment at which each client shows the others [ticks], float64.
            seen: What is known of others.

        Returns:
            How many decided anew; the others only moved their hands.
        """
        own = (
            state["position"], state["velocity"], state["flags"], state["health"], state["alive"], self.team, ticks,
            moment,
        )  # fmt: skip
        others = (seen.entity_id, seen.state_tick, seen.fields)
        decided: int = think(
            due, self._world, own, others, self._layout, self._figures, self._memory, self.hands.columns
        )  # fmt: skip
        return decided

    def meet(self, bot: int, entity: int) -> None:
        """Tell a bot which entity is its own."""
        self._memory[0][bot, OWN_ID] = entity

    def hear(self, events: Events) -> None:
        """Read the events that came since the last call, in the clients' rings."""
        self.events_lost += hear(
            events.count, events.kind, events.actor, events.target, self._kill, self._memory[0]
        )  # fmt: skip


def _layout(game: GameSpec, table: FieldTable) -> I64:
    """Where in a row of fields stands what bots look at; −1 for what the game does not tell."""
    names = [field.name for field in table.fields]
    kinds = [kind.name for kind in game.kinds]
    found = [
        names.index(name) if name in names else -1
        for name in ("kind", "vitals.alive", "vitals.team", "pickup.available", "pickup.item")
    ]
    found += [kinds.index(name) if name in kinds else -1 for name in (game.controlled.name, "pickup")]
    layout: I64 = np.array(found, np.int64)
    if len(layout) != LAYOUT_WORDS or layout[0] < 0:
        raise ToolsError(f"bots: game {game.name!r} tells of no kinds of entities; bots would not know a player")
    return layout


def _goals(world_map: WorldMap, navigation: Navigation, seed: int) -> tuple[I64, F64]:
    """Cells worth going to, and how much: items first, then spawn points, then places anywhere."""
    most = max(8, min(GOALS_MAX, FIELD_BYTES_MAX // (4 * len(navigation))))
    home = navigation.region == 0
    cells: list[int] = []
    worth: list[float] = []

    def add(cell: int, value: float) -> None:
        if cell >= 0 and home[cell] and cell not in cells and len(cells) < most:
            cells.append(cell)
            worth.append(value)

    items = sorted(world_map.items, key=lambda item: -_worth(item.kind))
    located = navigation.locate([item.position for item in items]).tolist() if items else []
    for item, cell in zip(items[: GOALS_MAX * 3 // 4], located, strict=False):
        add(cell, _worth(item.kind))
    random = np.random.default_rng(seed)
    spawns = navigation.locate([spawn.position for spawn in world_map.spawns])
    for cell in random.permutation(spawns)[: GOALS_MAX // 8].tolist():
        add(cell, WORTH_PLACE)
    anywhere = np.flatnonzero(home)
    for cell in anywhere[random.integers(0, len(anywhere), GOALS_MAX)].tolist():
        add(cell, WORTH_PLACE)
    return np.array(cells, np.int64), np.array(worth, np.float64)


def _worth(kind: str) -> float:
    return WORTH.get(kind, WORTH_WEAPON if kind in ARMOURY.names else WORTH_PLACE)


def _preference() -> F64:
    table = np.zeros((len(ARMOURY), 3))
    for number, name in enumerate(ARMOURY.names):
        table[number] = PREFERENCE.get(name, (1.0, 1.0, 1.0)) if number else 0.0
    return table


def _items() -> tuple[I64, F64]:
    """Weapon of each item, negative where only rounds come with it, and how many rounds."""
    weapon, rounds = np.zeros(len(ITEMS), np.int64), np.zeros(len(ITEMS))
    for number, item in enumerate(ITEMS):
        if item.weapon:
            weapon[number] = ARMOURY.number(item.weapon) * (1 if item.gives_weapon else -1)
            rounds[number] = item.rounds
    return weapon, rounds


def _start_rounds() -> F64:
    rounds = np.zeros(len(ARMOURY))
    for name, loaded, reserve in START_WEAPONS:
        rounds[ARMOURY.number(name)] = loaded + reserve
    return rounds
