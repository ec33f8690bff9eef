"""The game client, for one player or a thousand bots: clocks, inputs, prediction, reconciliation. No socket, no clock.

`GameClients` holds N clients as columns; a single game client is N = 1. A frame is:

    clients.receive(connections.payloads, now_ns)
    while clients.advance(now_ns):                          # usually once; not at all if no tick is due
        clients.set_inputs(buttons=…, move_forward=…, …)    # columns; rows of `due` are read
    count = clients.commands()                              # command_clients, command_bytes, …
    connections.send(clients.command_clients[:count], clients.command_bytes, clients.command_offsets[:count],
                     clients.command_lengths[:count], now_ns)

The state of tick T is the state after the input of tick T, on both sides. Prediction runs ahead of the server by
RTT/2 + a margin (docs/adr/0004-run-ahead.md); when the owner section of a snapshot of tick T differs in any bit from
what was predicted for T, the state is rewound to it and the inputs since are played again (Bernier 2001, "Latency
Compensating Methods"; Fiedler 2004, "Networked Physics"). What the correction moved is shown as an error that fades.
Each command claims what was predicted (`net.claims`); a snapshot without owner section says that the claim was right.

Kernels, layouts and the clock's theory stand in `net.client_kernels` and `net.prediction_kernels`, the wire format of
commands in `net.inputs_kernels`, of snapshots in `net.snapshots`, of the owner section in `net.owner`.
"""

import enum
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from net.client_kernels import (
    CLOCK,
    CONFIRM_TICK,
    CORRECTION_MAX,
    CORRECTION_SUM,
    COUNTERS,
    ERROR_SUM,
    HISTORY_TICKS,
    INTERVAL,
    LEAD,
    LOSS,
    NUMBERS,
    OWNER_TICK,
    RATES,
    RTT,
    RUN_TICKS,
    SEQUENCE,
    SHIFT,
    SNAPSHOT_TICK,
    TARGET,
    TICK,
    copy_rows,
    find_due,
    read_payloads,
    run_clocks,
)
from net.datagrams import Payloads
from net.errors import NetError
from net.inputs_kernels import COMMAND_BYTES_MAX, FIELDS
from net.owner import OwnerLayout
from net.playback import Playback
from net.prediction_kernels import (
    add_errors,
    build_commands,
    compare_owners,
    load_inputs,
    mark_history,
    repeat_inputs,
    store_inputs,
)
from net.snapshots import OWNER_BYTES_MAX, PAYLOAD_BYTES
from sim.arrays import F64, I8, I16, I32, I64, U8, U16, U32, AnyArray, Bool

__all__ = ["ClientCount", "GameClients", "InputSet", "Predictor", "Replicas"]

BEGIN_AHEAD_NS = 100_000_000  # how far ahead of its first snapshot a clock begins, before anything is known
JUMP_NS = 100_000_000  # a clock further off than this jumps
ERROR_HALF_LIFE_NS = 40_000_000
SNAP_M = 2.0
MESSAGES_MAX = 1024  # of all clients in one batch; more are dropped and counted


class ClientCount(enum.IntEnum):
    """What happened to clients; rows of `GameClients.counters`."""

    SNAPSHOTS = 0
    LOST = 1
    OLD = 2  # snapshots overtaken by a newer one
    MALFORMED = 3
    MESSAGES_DROPPED = 4
    LATE_INPUTS = 5  # snapshots of a tick that the server made without our input
    STRANGE_LEADS = 6
    JUMPS = 7  # of the clock
    FILLED = 8  # ticks for which the last input was repeated, because the clock jumped or the process stalled
    SKIPPED = 9  # ticks left out altogether
    MISPREDICTED = 10
    ADOPTED = 11  # states taken over because there was no prediction for their tick
    REPLAYED = 12  # ticks predicted again
    COMPARED = 13
    SNAPPED = 14  # corrections longer than SNAP_M, such as a respawn: shown at once, left out of the metres
    CONFIRMED = 15  # of those compared: by a snapshot without owner section, because our claim for its tick was right


class InputSet:
    """One input per client: what `sim.commands.Commands` is to the server.

    Attributes:
        has_input: Whether the row holds an input, bool.
        buttons: Button bits, uint16.
        move_forward: Wish to move forward, −127..127, int8.
        move_right: Wish to move right, −127..127, int8.
        yaw: View direction, 65536 = one turn, uint16.
        pitch: View elevation, same unit, −16383..16383, int16.
        weapon: Weapon wished for, uint8.
    """

    def __init__(self, clients: int) -> None:
        self.has_input: Bool = np.zeros(clients, np.bool_)
        self.buttons: U16 = np.zeros(clients, np.uint16)
        self.move_forward: I8 = np.zeros(clients, np.int8)
        self.move_right: I8 = np.zeros(clients, np.int8)
        self.yaw: U16 = np.zeros(clients, np.uint16)
        self.pitch: I16 = np.zeros(clients, np.int16)
        self.weapon: U8 = np.zeros(clients, np.uint8)

    @property
    def columns(self) -> tuple[Bool, U16, I8, I8, U16, I16, U8]:
        """The arrays, in the order kernels take them."""
        return (
            self.has_input, self.buttons, self.move_forward, self.move_right, self.yaw, self.pitch, self.weapon,
        )  # fmt: skip


class Predictor(Protocol):
    """The motion of the game, as the server computes it."""

    def predict(self, state: Mapping[str, AnyArray], inputs: InputSet, active: U8, ticks: I64) -> None:
        """Advance the predicted columns of the active rows by one tick, in place, bit for bit as the server does.

        Args:
            state: The columns of the owner layout.
            inputs: One input per row.
            active: Which rows, uint8; the others must not change.
            ticks: The tick that each active row makes, int64.
        """


class Replicas(Protocol):
    """Where snapshots are decoded (`net.replica.ReplicaGroup`); says which have been taken, for acknowledgement."""

    sequence: I32
    ack_mask: U32

    def receive(self, client: I32, payload: U8, length: I32) -> I32:
        """Decode a batch, one payload a row."""

    def reset(self, client: int) -> None:
        """Forget what one client knows."""


class GameClients:
    """N game clients in columns. Nothing is allocated per snapshot, tick or command.

    Attributes:
        state: Predicted state, by owner field; (clients,) or (clients, count).
        inputs: The inputs of the last tick, after `set_inputs`.
        due: Clients for which `advance` wants an input now, uint8.
        predicts: Clients that predict; the others' state is the last owner section. uint8, may be written.
        tick: Newest tick an input was made for, −1 before the first snapshot; int64. The due tick is `tick + 1`.
        snapshot_tick: Tick of the newest snapshot, −1 before the first; int64.
        target_lead: How early the server wants commands [ticks], int64.
        lead_ticks: How early the last one came [ticks], float64.
        rtt_ns: Smoothed round trip without what the server's queue adds [ns], float64.
        loss: Share of snapshots lost of late, float64.
        snapshot_interval_ns: Mean time between snapshots [ns], float64.
        clock_shift_ticks: Sum of the clock's corrections [ticks], float64.
        correction_sum_m: Distance moved by corrections [m], float64; correction_max_m: the longest.
        error: What is shown less what is, (clients, 3) [m].
        playback: Which moment of the others each client shows.
        counters: `ClientCount` by client, int64 (reasons, clients).
        snapshots: Indices, in the last batch, of payloads that are snapshots, int32; valid to `snapshot_count`.
        messages: Likewise, of messages; valid to `message_count`.
        command_clients, command_offsets, command_lengths: The COMMAND payloads that `commands` made, in
            `command_bytes`; int32, int64, int32, uint8.
    """

    def __init__(
        self,
        clients: int,
        layout: OwnerLayout,
        *,
        tick_hz: int,
        predictor: Predictor | None = None,
        replicas: Replicas | None = None,
        position: str = "position",
        batch_max: int = 8192,
    ) -> None:
        """Makes room for all that the clients will ever need.

        Args:
            clients: How many.
            layout: The owner section, as the server packs it.
            tick_hz: The server's tick rate.
            predictor: The motion; None: nobody predicts, states are those of the owner sections.
            replicas: Where whole snapshots are decoded; None: every snapshot whose header can be read is
                acknowledged.
            position: Owner field of three float64 [m] whose corrections are smoothed; one that is not in the layout:
                none is.
            batch_max: Payloads in one `receive`.

        Raises:
            NetError: A size is out of range.
        """
        if clients < 1 or tick_hz < 1 or batch_max < 1:
            raise NetError(f"client: {clients} clients, {tick_hz} Hz, batches of {batch_max}: each must be at least 1")
        self.clients, self.layout, self.tick_ns = clients, layout, 1e9 / tick_hz
        self._predictor, self._replicas, self._batch_max = predictor, replicas, batch_max
        self._options = (layout.size, BEGIN_AHEAD_NS / self.tick_ns + 1.0)
        self._now_ns: int | None = None
        self.playback = Playback(clients, tick_hz=tick_hz)
        self.state = layout.allocate(clients)
        self._columns = layout.bind(self.state)
        place = self.state.get(position)
        self._position: F64 | None = place if place is not None and place.shape == (clients, 3) else None
        self._before: F64 = np.zeros((clients, 3))
        self._previous: F64 = np.zeros((clients, 3))
        self.error: F64 = np.zeros((clients, 3))
        self._allocate_columns(clients)
        self._allocate_rings(clients)
        self._heads = (self._owner, self._ack_sequence, self._ack_mask)
        self._allocate_lists(clients, batch_max)
        self.reset(np.arange(clients, dtype=np.int32))

    def _allocate_columns(self, clients: int) -> None:
        self._numbers: I64 = np.zeros((NUMBERS, clients), np.int64)
        self._rates: F64 = np.zeros((RATES, clients), np.float64)
        self.counters: I64 = np.zeros((COUNTERS, clients), np.int64)
        self.tick: I64 = self._numbers[TICK]
        self.snapshot_tick: I64 = self._numbers[SNAPSHOT_TICK]
        self.target_lead: I64 = self._numbers[TARGET]
        self.lead_ticks: F64 = self._rates[LEAD]
        self.rtt_ns: F64 = self._rates[RTT]
        self.loss: F64 = self._rates[LOSS]
        self.snapshot_interval_ns: F64 = self._rates[INTERVAL]
        self.clock_shift_ticks: F64 = self._rates[SHIFT]
        self.correction_sum_m: F64 = self._rates[CORRECTION_SUM]
        self.correction_max_m: F64 = self._rates[CORRECTION_MAX]
        self.inputs = InputSet(clients)
        self._replay = InputSet(clients)
        self.due: U8 = np.zeros(clients, np.uint8)
        self.predicts: U8 = np.full(clients, 1 if self._predictor is not None else 0, np.uint8)
        self._active: U8 = np.zeros(clients, np.uint8)
        self._fill: U8 = np.zeros(clients, np.uint8)
        self._fresh: U8 = np.zeros(clients, np.uint8)
        self._rewind: U8 = np.zeros(clients, np.uint8)
        self._cursor: I64 = np.zeros(clients, np.int64)

    def _allocate_rings(self, clients: int) -> None:
        self._ring: I32 = np.zeros((clients, HISTORY_TICKS, FIELDS), np.int32)
        self._ring_tick: I64 = np.zeros((clients, HISTORY_TICKS), np.int64)
        self._made_at: I64 = np.zeros((clients, HISTORY_TICKS), np.int64)
        self._shift_at: F64 = np.zeros((clients, HISTORY_TICKS), np.float64)
        self._stamps = (self._ring_tick, self._made_at, self._shift_at)
        self._history: U8 = np.zeros((clients, HISTORY_TICKS, self.layout.predicted_bytes), np.uint8)
        self._history_tick: I64 = np.zeros((clients, HISTORY_TICKS), np.int64)
        self._claims: I64 = np.zeros((clients, HISTORY_TICKS), np.int64)
        self._predicted = (self._history, self._history_tick, self._claims)
        self._ack_sequence: I32 = np.zeros(clients, np.int32)
        self._ack_mask: U32 = np.zeros(clients, np.uint32)
        self._owner: U8 = np.zeros((clients, OWNER_BYTES_MAX), np.uint8)

    def _allocate_lists(self, clients: int, batch_max: int) -> None:
        self.snapshots: I32 = np.zeros(batch_max, np.int32)
        self.snapshot_count = 0
        self.messages: I32 = np.zeros(MESSAGES_MAX, np.int32)
        self.message_count = 0
        self.command_clients: I32 = np.zeros(clients, np.int32)
        self._command_rows: U8 = np.zeros((clients, COMMAND_BYTES_MAX), np.uint8)
        self.command_bytes: U8 = self._command_rows.reshape(-1)
        self.command_offsets: I64 = np.arange(clients, dtype=np.int64) * COMMAND_BYTES_MAX
        self.command_lengths: I32 = np.zeros(clients, np.int32)
        self._made: I64 = np.zeros(2, np.int64)
        rows = batch_max if self._replicas is not None else 0
        self._rows: U8 = np.zeros((rows, PAYLOAD_BYTES), np.uint8)
        self._row_client: I32 = np.zeros(rows, np.int32)
        self._row_length: I32 = np.zeros(rows, np.int32)

    def reset(self, clients: I32) -> None:
        """Make these clients new, as for a new connection.

        Args:
            clients: Client numbers, int32.
        """
        self._ack_sequence[clients] = -1
        self._ack_mask[clients] = 0
        self._numbers[:, clients] = 0
        for row in (TICK, SNAPSHOT_TICK, SEQUENCE, OWNER_TICK, CONFIRM_TICK):
            self._numbers[row, clients] = -1
        self._rates[:, clients] = 0.0
        self.counters[:, clients] = 0
        self._ring_tick[clients] = -1
        self._history_tick[clients] = -1
        self._claims[clients] = -1
        self.error[clients] = 0.0
        self._fill[clients] = 0
        for array in self.state.values():
            array[clients] = 0
        if self._replicas is not None:
            for client in clients:
                self._replicas.reset(int(client))

    def receive(self, payloads: Payloads, now_ns: int) -> None:
        """Take in a batch of application payloads; malformed ones are counted and dropped.

        Args:
            payloads: The batch (`net.connection.ClientGroup.payloads`).
            now_ns: The present, monotonic.

        Raises:
            NetError: The batch is larger than `batch_max`.
        """
        if payloads.count > self._batch_max:
            raise NetError(f"client: {payloads.count} payloads, room for {self._batch_max}: raise batch_max")
        self._run_clocks(now_ns)
        places = (payloads.client, payloads.offset, payloads.length)
        read_payloads(
            payloads.buffer, places, payloads.count, (now_ns, self.tick_ns), self._options,
            (self._numbers, self._rates, self.counters), self._stamps, self._heads, self.snapshots, self.messages,
            self._made,
        )  # fmt: skip
        self.snapshot_count, self.message_count = int(self._made[0]), int(self._made[1])
        if self._replicas is not None and self.snapshot_count:
            count = self.snapshot_count
            copy_rows(
                payloads.buffer, places, self.snapshots, count, self._row_client, self._rows, self._row_length
            )  # fmt: skip
            self._replicas.receive(self._row_client[:count], self._rows[:count], self._row_length[:count])
        self._reconcile()

    def _run_clocks(self, now_ns: int) -> None:
        elapsed = 0 if self._now_ns is None else max(0, now_ns - self._now_ns)
        self._now_ns = now_ns if self._now_ns is None else max(now_ns, self._now_ns)
        if elapsed:
            fade = 0.5 ** (elapsed / ERROR_HALF_LIFE_NS)
            run_clocks(
                elapsed / self.tick_ns, JUMP_NS / self.tick_ns, fade, self._numbers, self._rates, self.counters,
                self.error,
            )  # fmt: skip

    def _reconcile(self) -> None:
        """Where authority and prediction differ: rewind, and play the inputs since again."""
        count = compare_owners(
            self._owner, self.layout.predicted_bytes, self._predicted, self.predicts, self._numbers, self.counters,
            self._fresh, self._rewind, self._cursor,
        )  # fmt: skip
        self._columns.unpack(self._owner, self._fresh, predicted=False)
        if not count:
            return
        if self._position is not None:
            self._before[:] = self._position
        self._columns.unpack(self._owner, self._rewind, predicted=True)
        self._record(self._rewind, self._cursor)
        # Bounded: a cursor is at most as old as the history is long.
        for _ in range(HISTORY_TICKS):
            np.less(self._cursor, self.tick, out=self._active, casting="unsafe")
            np.multiply(self._active, self._rewind, out=self._active)
            replayed = int(np.count_nonzero(self._active))
            if not replayed:
                break
            self._cursor += self._active
            self.counters[ClientCount.REPLAYED] += self._active
            load_inputs(self._active, self._cursor, self._ring, self._ring_tick, self._replay.columns)
            self._predict(self._replay, self._active, self._cursor)
        if self._position is not None:
            add_errors(
                self._rewind,
                self._before,
                self._position,
                SNAP_M,
                self._previous,
                self.error,
                self._rates,
                self.counters,
            )

    def _predict(self, inputs: InputSet, active: U8, ticks: I64) -> None:
        if self._predictor is not None:
            self._predictor.predict(self.state, inputs, active, ticks)
        self._record(active, ticks)

    def _record(self, active: U8, ticks: I64) -> None:
        self._columns.record(self._history, ticks, active)
        mark_history(active, ticks, self._history_tick)

    def advance(self, now_ns: int) -> int:
        """Let the clocks run to `now_ns`, and `playback` with them.

        Returns:
            How many clients want an input for their next tick (`due`); call `set_inputs`, then `advance` again until
            it returns 0.
        """
        self._run_clocks(now_ns)
        self.playback.follow(self.snapshot_tick, now_ns, self._rates[CLOCK])
        while True:
            find_due(self._numbers, self._rates, self.counters, self.due, self._fill, self._made)
            if not self._made[1]:
                return int(self._made[0])
            repeat_inputs(self._fill, self._numbers, self._ring, self._ring_tick, self._replay.columns)
            self._make_tick(self._replay, self._fill)

    def set_inputs(
        self, *, buttons: AnyArray, move_forward: AnyArray, move_right: AnyArray, yaw: AnyArray, pitch: AnyArray,
        weapon: AnyArray,
    ) -> None:  # fmt: skip
        """Give the inputs of all clients that are due, and predict their next tick.

        Args:
            buttons: Button bits; this and the others of shape (clients,), convertible to the column of `InputSet`.
            move_forward: −127..127.
            move_right: −127..127.
            yaw: 0..65535.
            pitch: −16383..16383.
            weapon: 0..255.
        """
        inputs = self.inputs
        inputs.has_input[:] = True
        inputs.buttons[:] = buttons
        inputs.move_forward[:] = move_forward
        inputs.move_right[:] = move_right
        inputs.yaw[:] = yaw
        inputs.pitch[:] = pitch
        inputs.weapon[:] = weapon
        self._make_tick(self.inputs, self.due)

    def _make_tick(self, inputs: InputSet, active: U8) -> None:
        """Keep the inputs of the active clients for their next tick, and predict it."""
        if self._now_ns is None:
            return
        store_inputs(
            active, self._now_ns, self._numbers, self._rates, inputs.columns, self._ring, self._stamps
        )  # fmt: skip
        np.multiply(active, self.predicts, out=self._active)
        if self._position is not None:
            self._previous[:] = self._position
        self._predict(inputs, self._active, self.tick)

    def commands(self) -> int:
        """Make a COMMAND for every client with an input not yet sent: last inputs, acknowledgements, a claim, the view.

        The view is that of `playback.moment`: call this in the frame in which the inputs were made.

        Returns:
            How many: as many entries of `command_clients`, `command_offsets` and `command_lengths` hold, for
            `ClientGroup.send` with `command_bytes`.
        """
        sequence, mask = self._ack_sequence, self._ack_mask
        if self._replicas is not None:
            sequence, mask = self._replicas.sequence, self._replicas.ack_mask
        count: int = build_commands(
            sequence, mask, self._numbers, self._rates, (self._ring, self._ring_tick), self.layout.predicted_bytes,
            self._predicted, (self.playback.moment, self.playback.limit_ticks), self.predicts, self.command_clients,
            self._command_rows, self.command_lengths,
        )  # fmt: skip
        return count

    def shown_position(self) -> F64:
        """Where each client's own player is shown between ticks [m]; a new array, float64 (clients, 3).

        Raises:
            NetError: The owner layout has no position.
        """
        if self._position is None:
            raise NetError("client: the owner layout has no position of three float64")
        part = np.clip(self._rates[CLOCK] - self.tick, 0.0, 1.0)[:, None]
        shown: F64 = self._previous + (self._position - self._previous) * part + self.error
        return shown

    def statistics(self) -> dict[str, float]:
        """Counts over all clients by `ClientCount`, and means of what is measured, for bots' reports."""
        counts: dict[str, float] = {reason.name.lower(): int(self.counters[reason].sum()) for reason in ClientCount}
        started = self.tick >= 0
        if not started.any():
            return counts
        return counts | {
            "rtt_ms": float(self.rtt_ns[started].mean()) / 1e6,
            "lead_ticks": float(self.lead_ticks[started].mean()),
            "target_lead_ticks": float(self.target_lead[started].mean()),
            "loss": float(self.loss[started].mean()),
            "snapshot_interval_ms": float(self.snapshot_interval_ns[started].mean()) / 1e6,
            "correction_m": float(self.correction_sum_m.sum()),
            "correction_max_m": float(self.correction_max_m.max()),
            "error_mean_m": float(self._rates[ERROR_SUM].sum() / max(1.0, self._rates[RUN_TICKS].sum())),
            **self.playback.statistics(),
        }
