"""The server's side of inputs: every client's commands in, exactly one input per player and tick out, never waited for.

`InputQueues` holds the columns of all clients; layouts and the wire format stand in `net.inputs_kernels`. A frame is:

    queues.receive(host.payloads, tick=…, early_ns=…, now_ns=…)
    # queues.ack_* to replication, queues.messages to the game
    queues.take(tick, player_rows, commands)      # then the world steps
    # input_tick, lead_q4 and target_lead go into the headers of the snapshots
    queues.note_sent(clients, sequences, count, now_ns, tick=tick)
"""

import enum
from typing import Protocol

import numpy as np

from net.datagrams import Payloads
from net.errors import NetError
from net.inputs_kernels import (
    ACK_NEWEST,
    ACK_TICK,
    APPLIED,
    CHANGES,
    CLAIM,
    COUNTERS,
    FIELDS,
    JITTER,
    LEAD_MEAN,
    LEAD_Q4,
    NEWEST,
    NUMBERS,
    RATES,
    RING_TICKS,
    RTT,
    RTT_VARIATION,
    SENT_RING,
    TARGET,
    decode_commands,
    note_sent,
    reset_rows,
)
from net.inputs_take_kernels import take_inputs
from net.moments import EXTRAPOLATION_NS_MAX, FIRST_DELAY_NS, LAG_GAIN_NS, REWIND_MS_DEFAULT, rewind_steps
from net.moments_kernels import BOUND, CLAIMED, ESTIMATE, GIVEN, PATH_RTT, VIEW_STEPS, VIEWS
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U32, Bool

__all__ = ["FLOOD_COMMANDS_MAX", "FUTURE_TICKS_MAX", "TARGET_LEAD_MAX", "InputColumns", "InputCount", "InputQueues"]

FUTURE_TICKS_MAX = 60  # how far ahead of the next tick an input may be; further ones are refused and counted
FLOOD_COMMANDS_MAX = 16  # commands of one client between two ticks; more are refused and counted
MESSAGES_MAX = 4096  # messages of all clients in one batch; more are dropped and counted
TARGET_LEAD_MAX = 30  # ticks
TARGET_LEAD_FIRST = 2
BUTTONS_REPEAT_NS = 50_000_000  # how long missing inputs repeat fire, jump and the like
MOVEMENT_STILL_NS = 250_000_000  # until a player without inputs no longer wishes to move
ABSENT_NS = 1_000_000_000  # without inputs for longer: absent, and no longer counted as late
TARGET_DOWN_NS = 10_000_000_000  # surplus for this long before a target goes down by a tick
TARGET_SETTLE_NS = 1_000_000_000  # between two raises for late inputs


class InputCount(enum.IntEnum):
    """What happened to commands and inputs; rows of `InputQueues.counters`."""

    COMMANDS = 0
    INPUTS = 1
    DUPLICATE = 2  # a redundant copy of an input already known: the normal case
    LATE = 3  # an input that came after its tick, for the first time
    FUTURE = 4  # refused: more than FUTURE_TICKS_MAX ahead
    CLAMPED = 5  # brought into range: unknown buttons, −128, pitch beyond straight up or down
    EXTRAPOLATED = 6  # ticks made with an extrapolated input
    ABSENT = 7  # ticks of clients that have sent nothing for ABSENT_NS, or nothing in time yet
    BAD_LENGTH = 8
    BAD_HEADER = 9
    FLOOD = 10
    UNKNOWN_TYPE = 11
    MESSAGE_OVERFLOW = 12
    VIEW_FUTURE = 13  # a view of a moment that the client cannot know yet: replaced
    VIEW_PAST = 14  # one older than round trip, jitter and snapshots explain: replaced
    VIEW_JUMP = 15  # one that does not go on from the client's last: replaced
    VIEW_CAPPED = 16  # ticks made with a rewind cut to `max_rewind_ms`; no fault


class InputColumns(Protocol):
    """One input per player row, as `sim.commands.Commands` holds them."""

    has_input: Bool
    buttons: U16
    move_forward: I8
    move_right: I8
    yaw: U16
    pitch: I16
    weapon: U8
    rewind: U16


def _ticks(duration_ns: int, tick_hz: int) -> int:
    return max(1, round(duration_ns * tick_hz / 1e9))


class InputQueues:
    """Inputs of all clients of a host. Nothing is allocated after construction.

    Attributes:
        ack_client: Client of each snapshot acknowledgement of the last `receive`, int32; valid to `ack_count`.
        ack_sequence: Newest snapshot sequence it has received, int32.
        ack_mask: Bit i: it has received sequence − 1 − i too, uint32.
        ack_count: How many.
        messages: Indices, in the last batch, of the payloads that are messages, int32; valid to `message_count`.
        message_count: How many.
        counters: `InputCount` by client, int64 (reasons, clients); for metrics, sum along the clients.
        input_tick: Newest received input that a tick has read, 0 before the first; int64 (clients,).
        newest_tick: Newest input received, −1 before the first; int64 (clients,).
        lead_q4: How early the last command came [1/16 tick], −32768 if none since the last snapshot; int64 (clients,).
        target_lead: How early commands should come [ticks], 1..`TARGET_LEAD_MAX`; int64 (clients,).
        target_changes: How often that has changed; int64 (clients,).
        acked_sequence: Newest snapshot sequence acknowledged, −1 before the first; int64 (clients,).
        acked_tick: Its tick, −1 before the first; int64 (clients,).
        claim: What each client claims to have predicted for the tick taken last (`net.claims`), or `NO_CLAIM`: it made
            none, or the tick was made without its input; int64 (clients,).
        rtt_ns: Smoothed round trip [ns], 0 before the first sample; float64 (clients,).
        rtt_variation_ns: Mean deviation of the round trip [ns]; float64 (clients,).
        lead_ticks: Mean earliness of commands [ticks], negative when late; float64 (clients,).
        max_rewind_ms: The cap on rewinding, for `welcome`.
        view_claimed: How far before the newest input of its last command each client said to have shown the others
            [ticks], −1 where it said nothing; float64 (clients,).
        view_estimate: What the server derived for that command, float64 (clients,).
        view_bound: The most that it thought possible, float64 (clients,).
        view_given: By what the inputs of that command are judged, before the cap, float64 (clients,).
    """

    def __init__(
        self, clients: int, *, tick_hz: int, batch_max: int = 16_384, max_rewind_ms: int = REWIND_MS_DEFAULT
    ) -> None:
        """Makes room for `clients` clients and batches of `batch_max` payloads.

        Args:
            clients: How many.
            tick_hz: Ticks a second.
            batch_max: Payloads in one `receive`.
            max_rewind_ms: Cap on how far before a tick its shots are judged.

        Raises:
            NetError: A size is out of range.
        """
        if clients < 1 or batch_max < 1 or tick_hz < 1:
            raise NetError(f"inputs: {clients} clients, batches of {batch_max}, {tick_hz} Hz: each must be at least 1")
        self.clients = clients
        self.tick_ns = 1e9 / tick_hz
        self.max_rewind_ms = max_rewind_ms
        self._batch_max = batch_max
        self._patience = (
            _ticks(BUTTONS_REPEAT_NS, tick_hz),
            _ticks(MOVEMENT_STILL_NS, tick_hz),
            _ticks(ABSENT_NS, tick_hz),
            rewind_steps(max_rewind_ms, tick_hz),
        )
        delays = [value / self.tick_ns for value in (FIRST_DELAY_NS, LAG_GAIN_NS, EXTRAPOLATION_NS_MAX)]
        self._view_options = (delays[0], delays[1], delays[2], self._patience[3] / VIEW_STEPS)
        self._windows = (_ticks(TARGET_DOWN_NS, tick_hz), _ticks(TARGET_SETTLE_NS, tick_hz), TARGET_LEAD_MAX)
        self._inputs: tuple[I32, I64, I32, I32] = (
            np.zeros((clients, RING_TICKS, FIELDS), np.int32),
            np.zeros((clients, RING_TICKS), np.int64),
            np.zeros((clients, RING_TICKS), np.int32),
            np.zeros((clients, RING_TICKS), np.int32),
        )
        self._last: I32 = np.zeros((clients, FIELDS + 1), np.int32)
        self._sent: I64 = np.zeros((clients, SENT_RING, 3), np.int64)
        self._numbers: I64 = np.zeros((NUMBERS, clients), np.int64)
        self._rates: F64 = np.zeros((RATES, clients), np.float64)
        self._views: F64 = np.zeros((VIEWS, clients), np.float64)
        self.counters: I64 = np.zeros((COUNTERS, clients), np.int64)
        self.ack_client: I32 = np.zeros(batch_max, np.int32)
        self.ack_sequence: I32 = np.zeros(batch_max, np.int32)
        self.ack_mask: U32 = np.zeros(batch_max, np.uint32)
        self.ack_count = 0
        self.messages: I32 = np.zeros(MESSAGES_MAX, np.int32)
        self.message_count = 0
        self.input_tick: I64 = self._numbers[APPLIED]
        self.newest_tick: I64 = self._numbers[NEWEST]
        self.lead_q4: I64 = self._numbers[LEAD_Q4]
        self.target_lead: I64 = self._numbers[TARGET]
        self.target_changes: I64 = self._numbers[CHANGES]
        self.acked_sequence: I64 = self._numbers[ACK_NEWEST]
        self.acked_tick: I64 = self._numbers[ACK_TICK]
        self.claim: I64 = self._numbers[CLAIM]
        self.rtt_ns: F64 = self._rates[RTT]
        self.rtt_variation_ns: F64 = self._rates[RTT_VARIATION]
        self.lead_ticks: F64 = self._rates[LEAD_MEAN]
        self.view_claimed: F64 = self._views[CLAIMED]
        self.view_estimate: F64 = self._views[ESTIMATE]
        self.view_bound: F64 = self._views[BOUND]
        self.view_given: F64 = self._views[GIVEN]
        self._made: I64 = np.zeros(2, np.int64)
        self.reset(np.arange(clients, dtype=np.int32), tick=0)

    def reset(self, clients: I32, *, tick: int) -> None:
        """Make these clients new: called as a client connects, before its first payload.

        Args:
            clients: Client numbers, int32.
            tick: The tick made last.
        """
        reset_rows(
            clients, tick, TARGET_LEAD_FIRST, self._inputs[1], self._last, self._sent, self._numbers,
            (self._rates, self._views), self.counters,
        )  # fmt: skip

    def receive(
        self, payloads: Payloads, *, tick: int, early_ns: int, now_ns: int, path_rtt_ns: F64 | I64 | None = None
    ) -> None:
        """Take in a batch of application payloads of authenticated clients; malformed ones are counted and dropped.

        Args:
            payloads: The batch (`net.host.Host.payloads`).
            tick: The tick that will be made next.
            early_ns: How long after `now_ns` it is made. What a payload waited before this call counts as well
                (`Payloads.received_ns`), so that a server that reads once per tick tells arrivals apart too.
            now_ns: The present, monotonic.
            path_rtt_ns: Each client's round trip as it was measured without its commands (`net.endpoint`) [ns], 0 for
                not yet, (clients,): who withholds acknowledgements in its commands then gains nothing.

        Raises:
            NetError: The batch is larger than `batch_max`.
        """
        if payloads.count > self._batch_max:
            raise NetError(f"inputs: {payloads.count} payloads, room for {self._batch_max}: raise batch_max")
        if path_rtt_ns is not None:
            self._views[PATH_RTT] = path_rtt_ns
        moment = (
            tick, float(early_ns), self.tick_ns, now_ns, FUTURE_TICKS_MAX, FLOOD_COMMANDS_MAX, self._view_options,
        )  # fmt: skip
        places = (payloads.client, payloads.offset, payloads.length, payloads.received_ns)
        decode_commands(
            payloads.buffer, places, payloads.count, moment, self._inputs, self._sent, self._numbers,
            (self._rates, self._views), self.counters, (self.ack_client, self.ack_sequence, self.ack_mask),
            self.messages, self._made,
        )  # fmt: skip
        self.ack_count = int(self._made[0])
        self.message_count = int(self._made[1])

    def take(self, tick: int, rows: I32, commands: InputColumns) -> None:
        """Fill the inputs of one tick, by player row: what came for it, else an extrapolation, which is counted.

        Args:
            tick: The tick about to be made; call once per tick, in order.
            rows: Row of each client's player in the columns, −1 for none; int32 (clients,).
            commands: The columns; rows of clients that have never sent an input are left alone.

        Raises:
            NetError: `rows` has the wrong length.
        """
        if rows.shape != (self.clients,):
            raise NetError(f"inputs: rows has shape {rows.shape}, expected ({self.clients},)")
        columns = (
            commands.has_input, commands.buttons, commands.move_forward, commands.move_right, commands.yaw,
            commands.pitch, commands.weapon, commands.rewind,
        )  # fmt: skip
        take_inputs(
            tick, rows, self._patience, self._windows, self._inputs, self._last, self._numbers, self._rates,
            self.counters, columns,
        )  # fmt: skip

    def note_sent(self, clients: I32, sequences: U16, count: int, now_ns: int, *, tick: int) -> None:
        """Remember that snapshots went out, with the leads in their headers: the round trip is measured by their acks.

        Args:
            clients: Client of each, int32.
            sequences: Snapshot sequence of each, uint16.
            count: How many.
            now_ns: The present, monotonic.
            tick: Of the state they tell of.
        """
        # A strided view, such as one of the sequences within payloads, is copied: the kernel takes them in a row.
        rows = np.ascontiguousarray(sequences)
        note_sent(clients, rows, min(count, len(clients), len(rows)), now_ns, tick, self._sent, self._numbers)

    def jitter_ns(self) -> F64:
        """Standard deviation of the one-way delay [ns]; a new array, float64 (clients,)."""
        jitter: F64 = np.sqrt(self._rates[JITTER]) * self.tick_ns
        return jitter

    def run_ahead_ticks(self) -> F64:
        """How far ahead of the server's tick each client must run, RTT/2 + target; a new array, float64 (clients,)."""
        ahead: F64 = self.rtt_ns / (2.0 * self.tick_ns) + self.target_lead
        return ahead
