"""One tick of a recorded match as text: head line, commands, events, notes and the tables' rows.

The terminal page (`tools.replay_tui`) and `hitreg replay goto --print` show the same pieces.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from server.replay import Replay
from server.replay_words import EventWords, clock_text, note_line
from sim.arrays import AnyArray
from sim.commands import REWIND_STEPS, Button, Commands
from sim.table import Table
from tools.errors import ToolsError

__all__ = [
    "column_names",
    "command_lines",
    "event_lines",
    "find_column",
    "find_player",
    "head_line",
    "table_rows",
    "tick_text",
]

ROWS_PRINTED_MAX = 256
NAMES_SHOWN_MAX = 8
FULL_TURN = 65536.0


def find_player(text: str, words: EventWords) -> int:
    """The entity of the player who is meant by a name, a part of exactly one name, or an entity id.

    Raises:
        ToolsError: Nobody is, or several are.
    """
    try:
        return int(text, 0)
    except ValueError:
        pass
    wanted = text.casefold()
    found = {entity: name for entity, name in words.names.items() if wanted in name.casefold()}
    exact = [entity for entity, name in found.items() if name.casefold() == wanted]
    if len(exact) == 1 or len(found) == 1:
        return exact[0] if len(exact) == 1 else next(iter(found))
    known = ", ".join(list(found.values() or words.names.values())[:NAMES_SHOWN_MAX])
    raise ToolsError(f"--follow {text}: {'several are' if found else 'nobody is'} called so; there are {known}")


def head_line(replay: Replay) -> str:
    """Where the replay is, and whether its state is the recorded one."""
    expected, actual = replay.expected_hash, replay.actual_hash
    if expected is None:
        state = "key frame, no hash recorded"
    else:
        state = "as recorded" if expected == actual else f"DIFFERS from the recorded {expected:016x}"
    hz = replay.header.tick_hz
    return (
        f"tick {replay.tick} ({clock_text(replay.tick, hz)}) of {replay.first_tick} … {replay.last_tick}   "
        f"hash {actual:016x}, {state}"
    )


def command_lines(replay: Replay, words: EventWords, *, follow: int = 0) -> Iterator[str]:
    """What entered the tick; with `follow`, of inputs only those of that entity."""
    commands, players = replay.commands, replay.world.players
    for join in commands.joins:
        yield f"join         {join.name!r} team {join.team}, ticket {join.ticket}"
    for leave in commands.leaves:
        yield f"leave        {words.who(leave.entity)}"
    for action in commands.actions:
        actions = replay.world.game.actions
        name = actions[action.kind].name if 0 <= action.kind < len(actions) else str(action.kind)
        yield f"{name:<12} {words.who(action.entity)} {' '.join(str(value) for value in action.values)}"
    for slot in np.flatnonzero(commands.has_input).tolist():
        entity = players.id_of(slot)
        if not follow or entity == follow:
            yield f"input        {words.who(entity)}  {_input_text(commands, slot)}"


def _input_text(commands: Commands, slot: int) -> str:
    buttons = Button(int(commands.buttons[slot]))
    pressed = "+".join(str(button.name).lower() for button in buttons) or "-"
    yaw, pitch = commands.yaw[slot] * 360.0 / FULL_TURN, commands.pitch[slot] * 360.0 / FULL_TURN
    return (
        f"move {commands.move_forward[slot]:+d} {commands.move_right[slot]:+d}  look {yaw:.2f}° {pitch:+.2f}°  "
        f"{pressed}  weapon {commands.weapon[slot]}  rewind {commands.rewind[slot] / REWIND_STEPS:.3f} ticks"
    )


def event_lines(replay: Replay, words: EventWords, *, follow: int = 0) -> Iterator[str]:
    """The events of the tick; with `follow`, those in which that entity takes part."""
    for event in replay.events():
        if not follow or follow in (event.actor, event.target):
            x, y, z = event.position
            yield f"{words.line(event)}  at {x:.2f} {y:.2f} {z:.2f}"


def column_names(table: Table) -> list[str]:
    """All columns of a table, as `component.column`."""
    return [f"{kind.component_name}.{name}" for kind in table.components for name in kind.columns]


def find_column(table: Table, name: str) -> AnyArray | None:
    """The array of `component.column`, or None."""
    component_name, _, column_name = name.partition(".")
    for kind, component in table.components.items():
        if kind.component_name == component_name and column_name in kind.columns:
            found: AnyArray = getattr(component, column_name)
            return found
    return None


def _cell(row: AnyArray, *, text: bool) -> str:
    if text:
        return row.tobytes().rstrip(b"\0").decode("utf-8", "replace")
    if row.dtype.kind == "f":
        return " ".join(f"{value:.3f}" for value in np.atleast_1d(row))
    if row.dtype == np.uint64:
        return " ".join(f"{int(value):#x}" for value in np.atleast_1d(row))
    return " ".join(str(value) for value in np.atleast_1d(row).tolist())


def table_rows(
    table: Table, columns: Sequence[str], *, slots: Sequence[int] | None = None
) -> Iterator[tuple[str, ...]]:
    """The live rows as text: slot, id, then the columns in the order given."""
    arrays = [(name, find_column(table, name)) for name in columns]
    for slot in table.live_slots.tolist() if slots is None else slots:
        # A column of 32 bytes called `text` is one.
        cells = [_cell(array[slot], text=name.endswith(".text")) for name, array in arrays if array is not None]
        yield (str(slot), f"{table.id_of(slot):#x}", *cells)


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else [f"{title}: none"]


def tick_text(
    replay: Replay, words: EventWords, *, tables: Sequence[str] = (), columns: Sequence[str] = (), follow: int = 0
) -> str:
    """The whole tick as text.

    Args:
        replay: At the tick; made by `Replay.make` where events are wanted.
        words: For events and names.
        tables: Which tables; all unless given.
        columns: Which columns, as `component.column`; all unless given.
        follow: Only what concerns this entity; 0: everything.
    """
    lines = [head_line(replay)]
    lines += _section("commands", list(command_lines(replay, words, follow=follow)))
    lines += _section("events", list(event_lines(replay, words, follow=follow)))
    lines += _section("notes", [note_line(note) for note in replay.notes(replay.tick, replay.tick)])
    for table in replay.world.tables.values():
        if tables and table.name not in tables:
            continue
        chosen = [name for name in column_names(table) if not columns or name in columns]
        followed = table.find(follow)
        if follow and followed < 0:
            continue
        lines.append(f"table {table.name}: {table.live_count} of {table.capacity} live")
        slots = [followed] if follow else table.live_slots.tolist()
        for slot, entity, *cells in table_rows(table, chosen, slots=slots[:ROWS_PRINTED_MAX]):
            named = f" {words.names[int(entity, 16)]}" if int(entity, 16) in words.names else ""
            lines.append(f"  slot {slot} id {entity}{named}")
            lines += [f"    {name} = {cell}" for name, cell in zip(chosen, cells, strict=True)]
        if len(slots) > ROWS_PRINTED_MAX:
            lines.append(f"  and {len(slots) - ROWS_PRINTED_MAX} more rows; choose some with --follow")
    return "\n".join(lines)
