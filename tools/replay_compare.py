"""Where two recordings part: in what they are, in what entered them, and in the state, down to the system.

Recorded hashes say at which tick two matches part. What differs there is found by playing both up to that tick with
this build, side by side, and looking after each system of it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np

from server.match import MatchHeader
from server.replay import Replay
from server.replay_state import Difference, StateKey, changed_keys, fingerprints, first_difference, state_columns
from sim.commands import Commands

__all__ = ["CommandDifference", "Comparison", "StateParting", "compare", "system_of"]

COLUMNS = ("has_input", "buttons", "move_forward", "move_right", "yaw", "pitch", "weapon", "rewind")
LISTS = ("joins", "leaves", "actions")
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class CommandDifference:
    """The first command that two recordings do not share."""

    tick: int
    column: str
    slot: int
    first: str
    second: str

    def __str__(self) -> str:
        """One line for a person."""
        where = f", slot {self.slot}" if self.slot >= 0 else ""
        return f"tick {self.tick}: command {self.column}{where}: {self.first} ≠ {self.second}"


@dataclass(frozen=True, slots=True)
class StateParting:
    """The first tick after which two recordings' state hashes differ.

    Attributes:
        tick: That tick.
        first, second: The recorded hashes.
        difference: What this build finds when it plays both; None where it makes the same state of both.
        system: After which system of the tick they differ; "before the tick" or empty if it cannot be told.
        strays: Which of the two this build does not reproduce: empty, "first", "second" or "both".
    """

    tick: int
    first: int
    second: int
    difference: Difference | None
    system: str
    strays: str

    def lines(self) -> list[str]:
        """What a person should know, a line each."""
        lines = [f"tick {self.tick}: state hash {self.first:016x} ≠ {self.second:016x}"]
        if self.difference is not None:
            lines.append(f"tick {self.tick}: {self.difference}")
        if self.system:
            lines.append(f"first differs {self.system}")
        if self.strays:
            lines.append(
                f"this build does not reproduce {self.strays} of the two at tick {self.tick}: "
                "compare builds with hitreg replay bisect FILE --other CHECKOUT"
            )
        return lines


@dataclass(slots=True)
class Comparison:
    """All that differs between two recordings."""

    header: list[str]
    ticks: tuple[int, int]
    commands: CommandDifference | None
    state: StateParting | None

    @property
    def same(self) -> bool:
        """Whether commands and states are the same over the ticks that both hold."""
        return self.commands is None and self.state is None


def _header_lines(first: MatchHeader, second: MatchHeader) -> list[str]:
    lines = []
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if one != other:
            lines.append(f"{field.name}: {one} ≠ {other}")
    return lines


def _ticks(first: Replay, second: Replay) -> Iterator[int]:
    """Ticks of which both have commands and hashes."""
    low = max(first.first_tick, second.first_tick)
    for tick in range(low, min(first.last_tick, second.last_tick) + 1):
        if first.hash_of(tick) is not None and second.hash_of(tick) is not None:
            yield tick


def _command_difference(tick: int, one: Commands, other: Commands) -> CommandDifference | None:
    for name in LISTS:
        first, second = getattr(one, name), getattr(other, name)
        if first != second:
            return CommandDifference(tick, name, -1, str(first), str(second))
    shared = one.has_input & other.has_input
    for name in COLUMNS:
        differs = getattr(one, name) != getattr(other, name)
        if name != "has_input":
            differs &= shared  # without an input a row means nothing
        if differs.any():
            slot = int(np.argmax(differs))
            first, second = (str(getattr(commands, name)[slot]) for commands in (one, other))
            return CommandDifference(tick, name, slot, first, second)
    return None


def compare(first: Replay, second: Replay, *, progress: Progress | None = None) -> Comparison:
    """What differs between two recordings; of commands and states the first difference each.

    Args:
        first: Moved about.
        second: Likewise; of a world of its own.
        progress: Told (ticks compared, ticks in all) now and then.

    Raises:
        ReplayError: One cannot be read.
    """
    low = max(first.first_tick, second.first_tick)
    high = min(first.last_tick, second.last_tick)
    found = Comparison(_header_lines(first.header, second.header), (low, high), None, None)
    one, other = (Commands(replay.world.players.capacity) for replay in (first, second))
    parted = -1
    for tick in _ticks(first, second):
        if progress is not None and tick % 256 == 0:
            progress(tick - low, max(1, high - low))
        if parted < 0 and first.hash_of(tick) != second.hash_of(tick):
            parted = tick
        if found.commands is None and one.capacity == other.capacity:
            first.commands_of(tick, one)
            second.commands_of(tick, other)
            found.commands = _command_difference(tick, one, other)
        if parted >= 0 and (found.commands is not None or tick > parted):
            break
    if parted >= 0:
        found.state = _parting(first, second, parted)
    return found


def _parting(first: Replay, second: Replay, tick: int) -> StateParting:
    """Play both to the tick after which they differ, and look for what does."""
    both = (first, second)
    hashes = first.hash_of(tick) or 0, second.hash_of(tick) or 0
    if tick > max(replay.first_tick for replay in both):
        for replay in both:
            replay.seek(tick - 1)
        system = system_of(first, second)
    else:
        for replay in both:
            replay.seek(tick)
        system = ""
    strays = [replay.actual_hash != replay.hash_of(tick) for replay in both]
    names = {(True, False): "the first", (False, True): "the second", (True, True): "either"}
    difference = first_difference(state_columns(first.world), state_columns(second.world))
    return StateParting(tick, *hashes, difference, system, names.get((strays[0], strays[1]), ""))


def system_of(first: Replay, second: Replay) -> str:
    """Make one tick of both and say after which system the states first differ; empty if after none."""
    parted = bool(changed_keys(_prints(first), _prints(second)))
    one, other = _trail(first), _trail(second)
    if parted:
        return "before the tick"
    for stage, mine, theirs in zip(first.world.pipeline.stages, one, other, strict=False):
        if changed := changed_keys(mine, theirs):
            table, column = changed[0]
            return f"after system {stage}, in table {table}, column {column}"
    return ""


def _trail(replay: Replay) -> list[dict[StateKey, int]]:
    """Make one tick; the fingerprints of all columns after each of its systems."""
    trail: list[dict[StateKey, int]] = []
    replay.step(lambda _: trail.append(_prints(replay)))
    return trail


def _prints(replay: Replay) -> dict[StateKey, int]:
    return fingerprints(state_columns(replay.world))
