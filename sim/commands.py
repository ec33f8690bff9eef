"""Commands: the only way into the world. One `Commands` object holds all that enters one tick.

Inputs are dense: one row per slot of the controlled table; `has_input` says whether a row holds one. Joins, leaves and
actions are few and kept as lists, bounded by `DISCRETE_MAX` per tick: the caller keeps the rest for the next tick.

`encode` gives the bytes that a recording keeps (msgpack; rows of absent inputs are left out) and `decode` the same
commands again, so that a recorded match replays exactly.
"""

import enum
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

from sim.arrays import I8, I16, U8, U16, Bool
from sim.errors import CommandError
from sim.schema import Value

__all__ = [
    "DISCRETE_MAX",
    "NAME_BYTES_MAX",
    "NARROW",
    "REWIND_STEPS",
    "WIDE",
    "Action",
    "Button",
    "Commands",
    "Join",
    "Leave",
]

DISCRETE_MAX = 1024
NAME_BYTES_MAX = 32
REWIND_STEPS = 256  # of a tick: the unit of `Commands.rewind`
WIDE = ("buttons", "yaw", "pitch", "rewind")
"""Columns of 16 bits, in the order of `Commands.wide`."""
NARROW = ("move_forward", "move_right", "weapon", "has_input")
"""Columns of 8 bits, in the order of `Commands.narrow`."""


class Button(enum.IntFlag):
    """Bits of an input's `buttons`."""

    JUMP = 1
    CROUCH = 2
    WALK = 4
    FIRE = 8
    ALT_FIRE = 16
    RELOAD = 32
    USE = 64


@dataclass(frozen=True, slots=True)
class Join:
    """A player enters. `ticket` comes back as the value of the `joined` event, so that the caller can match them."""

    ticket: int
    name: str
    team: int = 0


@dataclass(frozen=True, slots=True)
class Leave:
    """The entity of a player leaves."""

    entity: int


@dataclass(frozen=True, slots=True)
class Action:
    """A player's request that a game declared: its number in the game's list and its field values."""

    entity: int
    kind: int
    values: tuple[Value, ...]


class Commands:
    """All that enters one tick.

    Attributes:
        has_input: Whether a row holds an input for this tick, shape (capacity,), bool.
        buttons: `Button` bits, shape (capacity,), uint16.
        move_forward: Wish to move forward, -127..127, shape (capacity,), int8.
        move_right: Wish to move right, -127..127, shape (capacity,), int8.
        yaw: View direction, 65536 = one turn, shape (capacity,), uint16.
        pitch: View elevation in the same unit, up positive, shape (capacity,), int16.
        weapon: Weapon wished for, shape (capacity,), uint8.
        rewind: How far before this tick the player saw the others, checked and capped by the caller [1/`REWIND_STEPS`
            tick], shape (capacity,), uint16.
        wide: The memory of the columns of `WIDE`, shape (columns, capacity), uint16.
        narrow: That of the columns of `NARROW`, shape (columns, capacity), uint8.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        # Two blocks, so that the inputs of a tick are copied in two pieces: column by column took 30 µs.
        self.wide: U16 = np.zeros((len(WIDE), capacity), np.uint16)
        self.narrow: U8 = np.zeros((len(NARROW), capacity), np.uint8)
        self.has_input: Bool = self.narrow[3].view(np.bool_)
        self.buttons: U16 = self.wide[0]
        self.move_forward: I8 = self.narrow[0].view(np.int8)
        self.move_right: I8 = self.narrow[1].view(np.int8)
        self.yaw: U16 = self.wide[1]
        self.pitch: I16 = self.wide[2].view(np.int16)
        self.weapon: U8 = self.narrow[2]
        self.rewind: U16 = self.wide[3]
        self.joins: list[Join] = []
        self.leaves: list[Leave] = []
        self.actions: list[Action] = []

    def clear(self) -> None:
        """Make ready for the next tick."""
        self.has_input[:] = False
        self.joins.clear()
        self.leaves.clear()
        self.actions.clear()

    def set_input(
        self,
        slot: int,
        *,
        buttons: int = 0,
        move_forward: int = 0,
        move_right: int = 0,
        yaw: int = 0,
        pitch: int = 0,
        weapon: int = 0,
        rewind: int = 0,
    ) -> None:
        """Set one row's input; for tests and tools, the server fills the columns at once."""
        self.has_input[slot] = True
        self.buttons[slot] = buttons
        self.move_forward[slot] = move_forward
        self.move_right[slot] = move_right
        self.yaw[slot] = yaw & 0xFFFF
        self.pitch[slot] = pitch
        self.weapon[slot] = weapon
        self.rewind[slot] = rewind

    def add(self, command: Join | Leave | Action) -> bool:
        """Add a discrete command.

        Returns:
            False if the tick already holds `DISCRETE_MAX` of them: offer it again at the next tick.
        """
        if len(self.joins) + len(self.leaves) + len(self.actions) >= DISCRETE_MAX:
            return False
        if isinstance(command, Join):
            self.joins.append(command)
        elif isinstance(command, Leave):
            self.leaves.append(command)
        else:
            self.actions.append(command)
        return True

    def _columns(self) -> list[np.ndarray[Any, Any]]:
        return [self.buttons, self.move_forward, self.move_right, self.yaw, self.pitch, self.weapon, self.rewind]

    def encode(self) -> bytes:
        """The commands as bytes, from which `decode` makes the same commands again."""
        slots = np.flatnonzero(self.has_input).astype(np.uint32)
        packed: bytes = msgpack.packb(
            [
                slots.tobytes(),
                [array[slots].tobytes() for array in self._columns()],
                [(entry.ticket, entry.name, entry.team) for entry in self.joins],
                [entry.entity for entry in self.leaves],
                [(entry.entity, entry.kind, entry.values) for entry in self.actions],
            ]
        )
        return packed

    def decode(self, data: bytes) -> None:
        """Replace the content by encoded commands.

        Raises:
            CommandError: The bytes are not such commands, or are for a larger table; the content is then empty.
        """
        self.clear()
        try:
            slot_bytes, columns, joins, leaves, actions = msgpack.unpackb(data, use_list=False)
            slots = np.frombuffer(slot_bytes, np.uint32)
            if slots.size and int(slots.max()) >= self.capacity:
                raise CommandError(f"an input is for slot {slots.max()}, the table has {self.capacity}")
            for array, content in zip(self._columns(), columns, strict=True):
                array[slots] = np.frombuffer(content, array.dtype)
            self.has_input[slots] = True
            self.joins.extend(Join(*entry) for entry in joins)
            self.leaves.extend(Leave(entry) for entry in leaves)
            self.actions.extend(Action(entity, kind, values) for entity, kind, values in actions)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            self.clear()
            raise CommandError(f"these {len(data)} bytes are not commands: {error}") from error
