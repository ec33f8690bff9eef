"""A page in the terminal that steps through a recorded match, forwards and backwards, tick by tick."""

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.coordinate import Coordinate
from textual.widgets import DataTable, Footer, Input, Label, RichLog

from server.errors import ReplayError
from server.replay import Replay
from server.replay_words import EventWords, note_line, parse_moment, present_names
from sim.table import Table
from tools.replay_text import column_names, command_lines, event_lines, head_line, table_rows

__all__ = ["ReplayPage"]

LINES_SHOWN_MAX = 500


class ReplayPage(App[None]):
    """Shows a tick: the rows of a table above, what entered and what happened below.

    Attributes:
        replay: At the tick that is shown.
        follow: The entity that commands and events are limited to; 0: everyone.
        table: The table that is shown.
    """

    CSS = """
    #where { height: 1; background: $primary; color: $text; padding: 0 1; }
    #said { height: 1; color: $warning; padding: 0 1; }
    #rows { height: 3fr; }
    #below { height: 2fr; }
    .pane { width: 1fr; }
    .title { height: 1; background: $panel; padding: 0 1; }
    #moment { display: none; dock: bottom; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,l", "move(1)", "next", priority=True),
        Binding("left,h", "move(-1)", "previous", priority=True),
        Binding("pagedown", "second(1)", "+1 s", priority=True),
        Binding("pageup", "second(-1)", "−1 s", priority=True),
        Binding("home", "edge(-1)", "first", show=False, priority=True),
        Binding("end", "edge(1)", "last", show=False, priority=True),
        Binding("g", "ask", "goto"),
        Binding("t", "table", "table"),
        Binding("f", "follow", "follow"),
        Binding("q", "quit", "quit"),
        Binding("escape", "dismiss", "close", show=False),
    ]

    def __init__(self, replay: Replay, words: EventWords, *, follow: int = 0) -> None:
        super().__init__()
        self.replay = replay
        self.follow = follow
        self._words = words
        self._tables = list(replay.world.tables.values())
        self._shown = self._tables.index(replay.world.players)

    @property
    def table(self) -> Table:
        """The table that is shown."""
        return self._tables[self._shown]

    def compose(self) -> ComposeResult:
        """The widgets, from top to bottom."""
        yield Label("", id="where", markup=False)
        yield DataTable(id="rows", cursor_type="row", zebra_stripes=True, fixed_columns=2)
        with Horizontal(id="below"):
            with Vertical(classes="pane"):
                yield Label("commands", classes="title")
                yield RichLog(id="commands", wrap=False, auto_scroll=False)
            with Vertical(classes="pane"):
                yield Label("events and notes", classes="title")
                yield RichLog(id="events", wrap=False, auto_scroll=False)
        yield Label("", id="said", markup=False)
        yield Input(placeholder="tick, or time such as 12:34.567", id="moment")
        yield Footer()

    def on_mount(self) -> None:
        """Show the first tick."""
        self._show_columns()
        self._show()
        self.query_one("#rows", DataTable).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """While a moment is typed, its keys are the input's."""
        del parameters
        typing = self.query_one("#moment", Input).display
        return not (typing and action in {"move", "second", "edge", "table", "follow", "ask", "quit"})

    def action_move(self, ticks: int) -> None:
        """Step forwards or backwards."""
        self._go(self._beyond_gaps(self.replay.tick + ticks))

    def action_second(self, seconds: int) -> None:
        """Step by a second."""
        self._go(self._beyond_gaps(self.replay.tick + seconds * self.replay.header.tick_hz))

    def action_edge(self, side: int) -> None:
        """Go to the first or the last tick."""
        self._go(self.replay.first_tick if side < 0 else self.replay.last_tick)

    def action_table(self) -> None:
        """Show the next table."""
        self._shown = (self._shown + 1) % len(self._tables)
        self._show_columns()
        self._show()

    def action_follow(self) -> None:
        """Follow the entity of the row under the cursor, or everyone again."""
        rows = self.query_one("#rows", DataTable)
        if self.follow or not rows.row_count:
            self.follow = 0
        else:
            self.follow = int(str(rows.get_cell_at(Coordinate(rows.cursor_row, 1))), 16)
        self._show()

    def action_ask(self) -> None:
        """Ask for a tick or time to go to."""
        moment = self.query_one("#moment", Input)
        moment.value = ""
        moment.display = True
        moment.focus()

    def action_dismiss(self) -> None:
        """Close the question."""
        self.query_one("#moment", Input).display = False
        self.query_one("#rows", DataTable).focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go to the moment that was typed."""
        self.action_dismiss()
        try:
            self._go(parse_moment(event.value.strip(), self.replay.header.tick_hz))
        except ReplayError as error:
            self._say(str(error))

    def _beyond_gaps(self, tick: int) -> int:
        """The nearest tick that can be played, in the direction of the wish."""
        spans = self.replay.spans
        if tick > self.replay.tick:
            ahead = [max(tick, span.first) for span in spans if span.last >= tick]
            return ahead[0] if ahead else self.replay.last_tick
        behind = [min(tick, span.last) for span in spans if span.first <= tick]
        return behind[-1] if behind else self.replay.first_tick

    def _go(self, tick: int) -> None:
        """Show a tick; backwards means from the key frame before it."""
        try:
            self.replay.make(tick)
        except ReplayError as error:
            self._say(str(error))
            return
        self._say("")
        self._show()

    def _say(self, text: str) -> None:
        self.query_one("#said", Label).update(text)

    def _show_columns(self) -> None:
        rows = self.query_one("#rows", DataTable)
        rows.clear(columns=True)
        rows.add_columns("slot", "id", *column_names(self.table))

    def _show(self) -> None:
        """Fill every widget from the tick."""
        replay = self.replay
        self._words.names.update(present_names(replay))
        followed = f"   following {self._words.who(self.follow)}" if self.follow else ""
        self.query_one("#where", Label).update(f"{head_line(replay)}   table {self.table.name}{followed}")
        rows = self.query_one("#rows", DataTable)
        place = rows.cursor_row
        rows.clear()
        for row in table_rows(self.table, column_names(self.table)):
            rows.add_row(*row)
        rows.move_cursor(row=min(place, max(0, rows.row_count - 1)))
        commands = list(command_lines(replay, self._words, follow=self.follow))
        happened = list(event_lines(replay, self._words, follow=self.follow))
        happened += [note_line(note) for note in replay.notes(replay.tick, replay.tick)]
        for name, lines in (("#commands", commands), ("#events", happened)):
            log = self.query_one(name, RichLog)
            log.clear()
            for line in lines[:LINES_SHOWN_MAX]:
                log.write(line)
