"""What clients wanted that no honest one could, or that the rules forbid: refused, counted by player, kept as evidence.

Where each is refused is elsewhere; here it is counted and remembered, and what concerns the view is refused here:

| reason | where it is refused |
|---|---|
| FIRE_RATE, AMMUNITION, RELOAD | the game's weapons (event `no_shot`); honest players cause these too |
| TURN | `limit_turns`: the view turns on at the greatest speed instead |
| MOTION | nowhere: the server itself moves players; this tells of a mistake in it, and of who profits by it |
| VIEW_FUTURE, VIEW_PAST, VIEW_JUMP | `net.inputs`: a moment that cannot have been seen gives way to an estimate |
| FLOOD, FUTURE, OUT_OF_RANGE, MALFORMED | `net.inputs`: dropped, or brought into range |
| CLOCK | nowhere: inputs of three seconds in a row came faster than time passes; those beyond 60 ticks are FUTURE |
| MESSAGES | `server.actions`: more messages than a second allows |

Nothing here bans anybody. `counts` are for pages and metrics; evidence says what was claimed and what was allowed, and
goes into the recording as notes of the kind `refusal`.
"""

import enum
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from net.inputs import FLOOD_COMMANDS_MAX, FUTURE_TICKS_MAX, InputCount
from server.errors import ServerError
from server.livefeed import REASONS_MAX
from server.refusals_kernels import (
    E_NUMBERS,
    PLACE_AMOUNTS,
    PLACE_NUMBERS,
    VIEW_NUMBERS,
    BookArrays,
    check_motion,
    gather_counts,
    hear_refusals,
    limit_turns,
)
from sim.arrays import F64, I16, I32, I64, U16, U64, Bool
from sim.components import Motion, Stance, Vitals
from sim.motion import Motion as MotionKernel
from sim.motion import MotionParameters
from sim.weapons import NoShot
from sim.world import World

__all__ = [
    "EVIDENCE_MAX",
    "HONEST",
    "NOTES_PER_TICK_MAX",
    "Evidence",
    "InputCounters",
    "Reason",
    "Refusals",
    "ViewColumns",
]

EVIDENCE_MAX = 4096  # entries of all clients; the oldest are overwritten, which is counted
NOTES_PER_TICK_MAX = 32  # entries handed on per tick; the others wait for the next
FREE_TURN_S = 2.0  # after a new life or a teleport a view may turn anywhere once, within this
CLOCK_SHARE = 1.05  # more new inputs a second than this times the ticks: the client's clock is fast
CLOCK_SLACK = 4  # and so many more, for those that only came together
CLOCK_SECONDS = 3  # in a row
SEPARATION_M = 0.4  # being parted from others; in a crowd of 96 that and steps came to 0.48 m a tick, allowed is 0.99


class Reason(enum.IntEnum):
    """Why something was refused; rows of `Refusals.counts`."""

    FIRE_RATE = 0
    AMMUNITION = 1
    RELOAD = 2
    TURN = 3
    MOTION = 4
    VIEW_FUTURE = 5
    VIEW_PAST = 6
    VIEW_JUMP = 7
    FLOOD = 8
    FUTURE = 9
    CLOCK = 10
    OUT_OF_RANGE = 11
    MALFORMED = 12
    MESSAGES = 13

    @property
    def label(self) -> str:
        """As notes, pages and metrics have it."""
        return self.name.lower()


HONEST = frozenset({Reason.FIRE_RATE, Reason.AMMUNITION, Reason.RELOAD})
"""What players without any ill intent do every minute."""

DERIVED, POSSIBLE, GIVEN = 1, 2, 3
INPUT_REASONS: dict[InputCount, tuple[Reason, float, float, int]] = {
    # Counter: reason, what is allowed, how far beyond that each counted one is, or which figure of the view is allowed.
    InputCount.FUTURE: (Reason.FUTURE, FUTURE_TICKS_MAX, 0.0, 0),
    InputCount.CLAMPED: (Reason.OUT_OF_RANGE, 0.0, 1.0, 0),
    InputCount.BAD_LENGTH: (Reason.MALFORMED, 0.0, 1.0, 0),
    InputCount.BAD_HEADER: (Reason.MALFORMED, 0.0, 1.0, 0),
    InputCount.UNKNOWN_TYPE: (Reason.MALFORMED, 0.0, 1.0, 0),
    InputCount.FLOOD: (Reason.FLOOD, FLOOD_COMMANDS_MAX, 1.0, 0),
    InputCount.VIEW_FUTURE: (Reason.VIEW_FUTURE, 0.0, 0.0, DERIVED),
    InputCount.VIEW_PAST: (Reason.VIEW_PAST, 0.0, 0.0, POSSIBLE),
    InputCount.VIEW_JUMP: (Reason.VIEW_JUMP, 0.0, 0.0, GIVEN),
}
GATE_REASONS = ((Reason.MESSAGES, 0.0, 1.0, 0), (Reason.MALFORMED, 0.0, 1.0, 0))
"""Rows of `ActionGate.counts`."""

NO_SHOT = {NoShot.RATE: Reason.FIRE_RATE, NoShot.AMMO: Reason.AMMUNITION, NoShot.RELOAD: Reason.RELOAD}
"""Reasons by the value of the event `no_shot`."""


class ViewColumns(Protocol):
    """The columns of `sim.commands.Commands` that the guard of the views reads and corrects."""

    has_input: Bool
    yaw: U16
    pitch: I16


class InputCounters(Protocol):
    """The part of `net.inputs.InputQueues` that is read."""

    counters: I64
    view_claimed: F64
    view_estimate: F64
    view_bound: F64
    view_given: F64


@dataclass(frozen=True, slots=True)
class Evidence:
    """One thing that was refused, or several alike in one tick.

    Attributes:
        tick: When.
        client: Whose, −1 if nobody plays the entity.
        entity: Its entity, 0 before it has one.
        reason: Why.
        count: How many in this tick.
        claimed: What the client wanted; unit by reason (degrees, metres, ticks, or how many).
        allowed: What it may, in the same unit.
        left_out: Refusals of this client that were counted, but not kept, since its entry before.
    """

    tick: int
    client: int
    entity: int
    reason: Reason
    count: int
    claimed: float
    allowed: float
    left_out: int

    def note(self) -> dict[str, object]:
        """As the values of a recording's note."""
        return {
            "client": self.client,
            "entity": self.entity,
            "reason": self.reason.label,
            "count": self.count,
            "claimed": round(self.claimed, 3),
            "allowed": round(self.allowed, 3),
            "left_out": self.left_out,
        }


def _figures(entries: list[tuple[int, float, float, int]]) -> F64:
    """Rows as `gather_counts` takes them."""
    return np.array(entries, np.float64).reshape(len(entries), 4)


def _input_figures() -> F64:
    rows: list[tuple[int, float, float, int]] = [(-1, 0.0, 0.0, 0)] * len(InputCount)
    for counter, row in INPUT_REASONS.items():
        rows[counter] = row
    return _figures(rows)


class Refusals:
    """Counts and evidence of one zone. Allocates nothing per tick.

    Attributes:
        counts: `Reason` by client since it connected, int64 (reasons, clients).
        totals: By reason, since the start, int64.
    """

    def __init__(self, world: World, *, clients: int, turn_max_deg_per_s: float) -> None:
        """Makes room.

        Args:
            world: Of the players.
            clients: How many.
            turn_max_deg_per_s: Fastest turn of a view [°/s]; 0: any.

        Raises:
            ServerError: The greatest turn is below 0 or not finite.
        """
        if not 0.0 <= turn_max_deg_per_s < 1e9:
            raise ServerError(f"turn_max_deg_per_s = {turn_max_deg_per_s}: give 0 (any) or more")
        self._world, self._clients, self._hz = world, clients, world.tick_hz
        counts: I64 = np.zeros((len(Reason), clients + 1), np.int64)
        self.counts: I64 = counts[:, :clients]
        self.totals: I64 = np.zeros(len(Reason), np.int64)
        self._ring: I64 = np.zeros((EVIDENCE_MAX, E_NUMBERS), np.int64)
        self._amounts: F64 = np.zeros((EVIDENCE_MAX, 2))
        self._state: I64 = np.zeros(2, np.int64)
        self._books: BookArrays = (
            counts, self.totals, self._ring, self._amounts, self._state, np.zeros((clients + 1, 3), np.int64),
        )  # fmt: skip
        self._told = 0
        players = world.players
        self._players: tuple[U64, Bool, U16] = (players.ids, players[Vitals].alive, players[Stance].flags)
        self._position, self._velocity = players[Motion].position, players[Motion].velocity
        self._turn = round(turn_max_deg_per_s * 65536.0 / 360.0 / self._hz)
        self._view: I64 = np.zeros((players.capacity, VIEW_NUMBERS), np.int64)
        self._known: I64 = np.zeros((players.capacity, PLACE_NUMBERS), np.int64)
        self._place: F64 = np.zeros((players.capacity, PLACE_AMOUNTS))
        self._way = self._slack()
        self._no_shot = world.game.event("no_shot") if "no_shot" in world.game.events else -1
        self._no_shot_reasons: I64 = np.full(max(NO_SHOT) + 1, -1, np.int64)
        self._no_shot_reasons[list(NO_SHOT)] = list(NO_SHOT.values())
        self._inputs: tuple[F64, I64] = (_input_figures(), np.zeros((len(InputCount), clients), np.int64))
        self._gate: tuple[F64, I64] = (_figures(list(GATE_REASONS)), np.zeros((len(GATE_REASONS), clients), np.int64))
        clock = _figures([(Reason.CLOCK, CLOCK_SHARE * self._hz, 0.0, 0)])
        self._clock: tuple[F64, I64] = (clock, np.zeros((1, clients), np.int64))
        self._clock_count: I64 = np.zeros((1, clients), np.int64)
        self._fast: I64 = np.zeros(clients, np.int64)
        self._inputs_before: I64 = np.zeros(clients, np.int64)

    def _slack(self) -> tuple[float, float, float]:
        """What may come on top of a player's speed [m/s] and way [m] within a tick, of which it does not tell itself.

        Gaining speed and losing it again within a tick, as who jumps against a wall does; stepping up or down; being
        parted from others.
        """
        kernel = self._world.services.get(MotionKernel)
        body = kernel.parameters if kernel is not None else MotionParameters()
        dt = self._world.dt
        gained = body.jump_speed + (body.gravity + body.run_speed * body.ground_acceleration) * dt
        return dt, gained, body.step_height + SEPARATION_M

    @property
    def overwritten(self) -> int:
        """Entries of evidence that newer ones have taken the place of."""
        return max(0, int(self._state[0]) - EVIDENCE_MAX)

    @property
    def left_out(self) -> int:
        """Refusals that were counted but not kept as evidence, since their client had had its share of the second."""
        return int(self._state[1])

    def reset(self, clients: I32) -> None:
        """Make clients new, as they connect; int32."""
        self._books[0][:, clients] = 0
        self._books[5][clients] = 0
        for _, before in (self._inputs, self._gate, self._clock):
            before[:, clients] = 0
        self._clock_count[:, clients] = 0
        self._fast[clients] = 0
        self._inputs_before[clients] = 0

    def guard(self, tick: int, commands: ViewColumns, *, client_of_row: I32, input_tick: I64) -> int:
        """Hold back views that turn faster than a hand can; call it when the inputs have been taken.

        Args:
            tick: The tick about to be made.
            commands: Corrected in place, so that what is recorded is what the world sees.
            client_of_row: `Sessions.client_of_row`; input_tick: `InputQueues.input_tick`.

        Returns:
            How many views were held back.
        """
        if self._turn == 0:
            return 0
        figures = (self._turn, tick // self._hz, round(FREE_TURN_S * self._hz), int(Reason.TURN))
        columns = (commands.has_input, commands.yaw, commands.pitch)
        held: int = limit_turns(
            tick, figures, columns, self._players, (client_of_row, input_tick), self._view, self._books
        )
        return held

    def gather(self, tick: int, *, inputs: InputCounters, gate: I64, entity: U64, client_of_row: I32) -> None:
        """Take in what was refused since the last call; once per tick, after the world's step.

        Args:
            tick: The tick just made.
            inputs: Their counters.
            gate: `ActionGate.counts`.
            entity: Entity of each client, uint64.
            client_of_row: `Sessions.client_of_row`.
        """
        second = tick // self._hz
        when = (tick, second)
        views = (inputs.view_claimed, inputs.view_estimate, inputs.view_bound, inputs.view_given)
        if tick % self._hz == 0:
            self._watch_clocks(inputs.counters[InputCount.INPUTS])
            gather_counts(when, self._clock_count, self._clock[1], self._clock[0], views, entity, self._books)
        gather_counts(when, inputs.counters, self._inputs[1], self._inputs[0], views, entity, self._books)
        gather_counts(when, gate, self._gate[1], self._gate[0], views, entity, self._books)
        if self._no_shot >= 0:
            places = (tick, second, self._no_shot, self._world.players.slot_base)
            hear_refusals(places, self._world.events.arrays, self._no_shot_reasons, client_of_row, self._books)
        check_motion(
            (tick, second, int(Reason.MOTION)), self._way, self._players, self._position, self._velocity,
            client_of_row, self._known, self._place, self._books,
        )  # fmt: skip

    def _watch_clocks(self, received: I64) -> None:
        """Count who has sent inputs for more ticks than there were, three seconds in a row."""
        new = received - self._inputs_before
        self._inputs_before[:] = received
        fast = new > CLOCK_SHARE * self._hz + CLOCK_SLACK
        self._fast += 1
        self._fast[~fast] = 0
        self._clock_count[0, self._fast >= CLOCK_SECONDS] += 1

    def take(self) -> list[Evidence]:
        """Evidence since the last call, oldest first, at most `NOTES_PER_TICK_MAX` entries; the others wait.

        Those that were overwritten meanwhile are left out.
        """
        written = int(self._state[0])
        if written == self._told:
            return []
        first = max(self._told, written - EVIDENCE_MAX)
        last = min(written, first + NOTES_PER_TICK_MAX)
        self._told = last
        return [self._entry(number) for number in range(first, last)]

    def evidence(self, *, client: int | None = None) -> list[Evidence]:
        """All that is kept, of everyone or of one client, oldest first."""
        written = int(self._state[0])
        entries = (self._entry(number) for number in range(max(0, written - EVIDENCE_MAX), written))
        return [entry for entry in entries if client is None or entry.client == client]

    def _entry(self, number: int) -> Evidence:
        place = number % EVIDENCE_MAX
        tick, client, entity, reason, count, left_out = self._ring[place].tolist()
        claimed, allowed = self._amounts[place].tolist()
        return Evidence(tick, client, entity & (1 << 64) - 1, Reason(reason), count, claimed, allowed, left_out)

    def of_client(self, client: int) -> list[int]:
        """Counts of one client by reason, as many as a page has room for, each at most 65,535."""
        counts = np.minimum(self.counts[:, client], 65535).tolist()
        return [*counts, *[0] * (REASONS_MAX - len(counts))]

    def report(self) -> dict[str, int]:
        """Totals since the start by label of the reason, for status and metrics."""
        return {reason.label: int(self.totals[reason]) for reason in Reason}
