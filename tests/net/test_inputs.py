"""Commands of clients, whatever they hold, become one input per player and tick."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net import inputs_kernels
from net.errors import NetError
from net.inputs import FLOOD_COMMANDS_MAX, FUTURE_TICKS_MAX, TARGET_LEAD_MAX, InputCount, InputQueues
from sim.arrays import F64, I32
from sim.commands import Button, Commands
from tests.net.play import TICK_HZ, TICK_NS, batch
from tests.reference.inputs import Fields, ReferenceQueue, encode_command

ROWS: I32 = np.zeros(1, np.int32)
HOLD, STILL, ABSENT = 3, 15, 60  # 50 ms, 250 ms and 1 s at 60 Hz
RUN: Fields = (int(Button.FIRE | Button.CROUCH), 120, -127, 40_000, -300, 2)


def taken(commands: Commands) -> Fields:
    return (
        int(commands.buttons[0]),
        int(commands.move_forward[0]),
        int(commands.move_right[0]),
        int(commands.yaw[0]),
        int(commands.pitch[0]),
        int(commands.weapon[0]),
    )


def make(clients: int = 1) -> SimpleNamespace:
    return SimpleNamespace(queues=InputQueues(clients, tick_hz=TICK_HZ), commands=Commands(clients))


def receive(setup: SimpleNamespace, *payloads: bytes, tick: int, early: float = 0.0, now: int = 0) -> None:
    early_ns = round(early * TICK_NS)
    setup.queues.receive(batch([(0, entry) for entry in payloads]), tick=tick, early_ns=early_ns, now_ns=now)


def count(setup: SimpleNamespace, reason: InputCount) -> int:
    return int(setup.queues.counters[reason].sum())


def test_counter_names_are_those_of_the_kernels() -> None:
    rows = {
        name.removeprefix("COUNT_"): value for name, value in vars(inputs_kernels).items() if name.startswith("COUNT_")
    }
    assert rows == {entry.name: entry.value for entry in InputCount}
    assert len(rows) == inputs_kernels.COUNTERS


FIELDS = st.tuples(
    st.integers(0, 65535),
    st.integers(-128, 127),
    st.integers(-128, 127),
    st.integers(0, 65535),
    st.integers(-32768, 32767),
    st.integers(0, 255),
)
ACK = st.none() | st.tuples(st.integers(0, 65535), st.integers(0, 2**32 - 1))
CLAIM = st.none() | st.integers(0, 65535)
Good = tuple[int, list[Fields], tuple[int, int] | None, int | None, int | None]
GOOD = st.tuples(
    st.integers(-90, 90) | st.integers(-2, 4), st.lists(FIELDS, min_size=1, max_size=8), ACK, CLAIM, CLAIM
)  # fmt: skip
STEP = st.tuples(st.lists(GOOD | st.binary(max_size=90), max_size=4), st.booleans())


@settings(max_examples=40, deadline=None)
@given(st.lists(STEP, max_size=16), st.integers(1, 200))
def test_any_traffic_gives_what_the_naive_twin_gives(steps: list[tuple[list[Good | bytes], bool]], start: int) -> None:
    setup = make()
    twin = ReferenceQueue(HOLD, STILL, ABSENT)
    tick = start
    for traffic, step in steps:
        payloads = []
        for entry in traffic:
            if isinstance(entry, bytes):
                # A message is none of the queue's business.
                payloads.append(b"\x01" + entry[1:] if entry[:1] == b"\x02" else entry)
            else:
                offset, inputs, ack, claim, view = entry
                payloads.append(encode_command(max(0, tick + offset), inputs, ack, claim, view))
        twin.acks.clear()
        payloads = [entry for entry in payloads if entry]  # netcode has no empty payloads
        receive(setup, *payloads, tick=tick)
        for entry in payloads:
            twin.receive(entry, tick)
        queues = setup.queues
        acked = zip(queues.ack_sequence[: queues.ack_count], queues.ack_mask[: queues.ack_count], strict=True)
        assert [(int(a), int(b)) for a, b in acked] == twin.acks
        if step:
            setup.commands.clear()
            setup.queues.take(tick, ROWS, setup.commands)
            expected = twin.take(tick)
            assert bool(setup.commands.has_input[0]) == (expected is not None)
            if expected is not None:
                assert taken(setup.commands) == expected
            assert (setup.queues.input_tick[0], setup.queues.claim[0]) == (twin.applied, twin.claim)
            tick += 1
    assert {reason: count(setup, reason) for reason in InputCount} == twin.counts


def test_every_truncation_and_extension_of_a_command_is_dropped() -> None:
    setup = make()
    whole = encode_command(10, [RUN] * 3, (7, 1))
    for length in range(1, len(whole)):
        receive(setup, whole[:length], tick=10)
    receive(setup, whole + b"\0", tick=10)
    assert count(setup, InputCount.BAD_LENGTH) == len(whole)
    assert count(setup, InputCount.COMMANDS) == 0
    assert setup.queues.newest_tick[0] == -1


def test_a_command_at_the_end_of_the_arena_is_not_read_beyond() -> None:
    setup = make()
    payloads = batch([(0, encode_command(10, [RUN] * 8))])
    payloads.length[0] += 9  # what a broken transport might say
    setup.queues.receive(payloads, tick=10, early_ns=0, now_ns=0)
    payloads.length[0] -= 9
    payloads.client[0] = 7
    setup.queues.receive(payloads, tick=10, early_ns=0, now_ns=0)
    assert setup.queues.counters.sum() == 0


def test_redundant_inputs_fill_the_gap_of_a_lost_command() -> None:
    setup = make()
    other: Fields = (0, 5, 6, 7, 8, 9)
    receive(setup, encode_command(10, [RUN]), tick=10)
    receive(setup, encode_command(12, [RUN, other, RUN]), tick=10)
    seen = []
    for tick in (10, 11, 12):
        setup.queues.take(tick, ROWS, setup.commands)
        seen.append(taken(setup.commands))
    assert seen == [RUN, other, RUN]
    assert count(setup, InputCount.EXTRAPOLATED) == 0
    assert count(setup, InputCount.DUPLICATE) == 1


def test_a_claim_holds_for_the_newest_input_of_its_command_and_for_one_tick() -> None:
    setup = make()
    receive(setup, encode_command(12, [RUN] * 3, claim=7), encode_command(11, [RUN] * 2, claim=0), tick=10)
    claims = []
    for tick in range(10, 14):
        setup.queues.take(tick, ROWS, setup.commands)
        claims.append(int(setup.queues.claim[0]))
    assert claims == [-1, 0, 7, -1]  # only a copy came of 10, nothing at all of 13


def test_a_late_claim_is_none() -> None:
    setup = make()
    receive(setup, encode_command(10, [RUN], claim=5), tick=11)
    setup.queues.take(11, ROWS, setup.commands)
    assert setup.queues.claim[0] == -1


def test_the_first_copy_of_an_input_stands() -> None:
    setup = make()
    receive(setup, encode_command(10, [RUN]), encode_command(10, [(0, 0, 0, 0, 0, 0)]), tick=10)
    setup.queues.take(10, ROWS, setup.commands)
    assert taken(setup.commands) == RUN


def test_inputs_too_far_ahead_are_refused_but_their_lead_is_told() -> None:
    setup = make()
    receive(setup, encode_command(10 + FUTURE_TICKS_MAX + 1, [RUN]), tick=10)
    assert count(setup, InputCount.FUTURE) == 1
    assert setup.queues.newest_tick[0] == -1
    assert setup.queues.lead_q4[0] == (FUTURE_TICKS_MAX + 1) * 16


def test_hostile_values_are_brought_into_range() -> None:
    setup = make()
    receive(setup, encode_command(10, [(0xFFFF, -128, -128, 65535, -32768, 255)]), tick=10)
    setup.queues.take(10, ROWS, setup.commands)
    assert taken(setup.commands) == (0x7F, -127, -127, 65535, -16383, 255)
    assert count(setup, InputCount.CLAMPED) == 1


def test_a_flood_is_cut_off_until_the_next_tick() -> None:
    setup = make()
    flood = [encode_command(10, [RUN])] * (FLOOD_COMMANDS_MAX + 5)
    receive(setup, *flood, tick=10)
    assert count(setup, InputCount.FLOOD) == 5
    setup.queues.take(10, ROWS, setup.commands)
    receive(setup, flood[0], tick=11)
    assert count(setup, InputCount.COMMANDS) == FLOOD_COMMANDS_MAX + 1


def test_a_missing_input_keeps_buttons_for_a_moment_and_movement_fades() -> None:
    setup = make()
    receive(setup, encode_command(10, [RUN]), tick=10)
    setup.queues.take(10, ROWS, setup.commands)
    forward = []
    for tick in range(11, 11 + ABSENT + 5):
        setup.queues.take(tick, ROWS, setup.commands)
        fields = taken(setup.commands)
        run = tick - 10
        assert fields[0] == (RUN[0] if run <= HOLD else Button.CROUCH)
        assert fields[3:] == RUN[3:]
        forward.append(fields[1])
    assert forward[0] == 120 * (STILL - 1) // STILL
    assert forward == sorted(forward, reverse=True)
    assert forward[STILL - 2] > 0 and forward[STILL - 1] == 0
    assert count(setup, InputCount.EXTRAPOLATED) == ABSENT
    assert count(setup, InputCount.ABSENT) == 5


def test_clients_that_never_sent_and_players_without_a_row_are_left_alone() -> None:
    setup = make(3)
    setup.queues.receive(batch([(1, encode_command(10, [RUN]))]), tick=10, early_ns=0, now_ns=0)
    setup.queues.take(10, np.array([0, -1, 2], np.int32), setup.commands)
    assert not setup.commands.has_input.any()
    setup.queues.take(10, np.array([0, 2, -1], np.int32), setup.commands)
    assert setup.commands.has_input.tolist() == [False, False, True]
    with pytest.raises(NetError, match="rows has shape"):
        setup.queues.take(11, np.zeros(2, np.int32), setup.commands)


def test_messages_are_listed_and_unknown_kinds_counted() -> None:
    setup = make()
    receive(setup, b"\x02abc", b"\x07", encode_command(10, [RUN]), b"\x02", tick=10)
    assert setup.queues.messages[: setup.queues.message_count].tolist() == [0, 3]
    assert count(setup, InputCount.UNKNOWN_TYPE) == 1


def test_round_trip_is_measured_at_the_first_ack_of_what_was_sent() -> None:
    setup = make()
    queues = setup.queues
    for sequence in (65_534, 65_535, 0):
        queues.note_sent(ROWS, np.array([sequence], np.uint16), 1, 1_000_000, tick=sequence + 7)
    receive(setup, encode_command(10, [RUN], (65_535, 0)), tick=10, now=41_000_000)
    assert queues.rtt_ns[0] == 40e6 and queues.rtt_variation_ns[0] == 20e6
    # Repeated, older and invented acknowledgements say nothing.
    for sequence in (65_535, 65_534, 300):
        receive(setup, encode_command(10, [RUN], (sequence, 0)), tick=10, now=900_000_000)
    assert queues.rtt_ns[0] == 40e6
    receive(setup, encode_command(10, [RUN], (0, 3)), tick=10, now=49_000_000)
    assert queues.rtt_ns[0] == 41e6  # RFC 6298: 7/8 · 40 + 1/8 · 48
    assert (queues.acked_sequence[0], queues.acked_tick[0]) == (0, 7)


def test_the_lead_is_that_of_the_last_command_until_it_was_reported() -> None:
    setup = make()
    assert setup.queues.lead_q4[0] == -32768
    receive(setup, encode_command(14, [RUN]), tick=10, early=0.501)
    assert setup.queues.lead_q4[0] == 72
    receive(setup, encode_command(8, [RUN]), tick=10, early=0.251)
    assert setup.queues.lead_q4[0] == -28
    setup.queues.note_sent(ROWS, np.zeros(1, np.uint16), 1, 0, tick=0)
    assert setup.queues.lead_q4[0] == -32768


def test_a_server_that_reads_once_per_tick_measures_what_one_that_reads_at_once_does() -> None:
    at_once, per_tick = make(), make()
    queues = per_tick.queues
    for tick in range(100, 400):
        begin = tick * TICK_NS
        arrivals = [begin - TICK_NS + (tick * 7919 % 97) * TICK_NS // 100, begin - tick * 31 % 1000 * 1000]
        commands = [encode_command(tick + 1, [RUN], (tick & 0xFFFF, 0)), encode_command(tick + 2, [RUN] * 2)]
        for setup in (at_once, per_tick):
            setup.queues.note_sent(ROWS, np.array([tick & 0xFFFF], np.uint16), 1, begin - 3 * TICK_NS, tick=tick)
        for arrival, command in zip(arrivals, commands, strict=True):
            at_once.queues.receive(batch([(0, command)]), tick=tick, early_ns=begin - arrival, now_ns=arrival)
        both = batch([(0, command) for command in commands])
        both.received_ns[:2] = arrivals
        queues.receive(both, tick=tick, early_ns=0, now_ns=begin)
        for setup in (at_once, per_tick):
            setup.queues.take(tick, ROWS, setup.commands)
    assert queues.rtt_ns[0] == at_once.queues.rtt_ns[0] > 0
    assert queues.lead_ticks[0] == at_once.queues.lead_ticks[0]
    assert queues.jitter_ns()[0] == at_once.queues.jitter_ns()[0] > 0
    assert queues.lead_q4[0] == at_once.queues.lead_q4[0]


def test_an_arrival_in_the_future_counts_as_now() -> None:
    setup = make()
    payloads = batch([(0, encode_command(14, [RUN]))])
    payloads.received_ns[0] = 9 * 10**18
    setup.queues.receive(payloads, tick=10, early_ns=0, now_ns=10**9)
    assert setup.queues.lead_q4[0] == 64


def drive(setup: SimpleNamespace, ticks: range, leads: F64) -> None:
    """Each tick's input arrives `leads` ticks before it is needed, as a command of its own."""
    arrivals: dict[int, list[tuple[float, int]]] = {}
    for tick, lead in zip(ticks, leads, strict=True):
        moment = tick - float(lead)
        arrivals.setdefault(max(ticks.start, int(np.ceil(moment))), []).append((moment, tick))
    for tick in ticks:
        for moment, wanted in sorted(arrivals.get(tick, [])):
            receive(setup, encode_command(wanted, [RUN]), tick=tick, early=tick - moment)
        setup.queues.take(tick, ROWS, setup.commands)


def test_the_target_follows_three_sigma_of_jitter_and_stays_there() -> None:
    random = np.random.default_rng(5)
    setup = make()
    for start in range(0, 6000, 3000):
        ticks = range(1000 + start, 4000 + start)
        changes = int(setup.queues.target_changes[0])
        drive(setup, ticks, 8.0 + random.normal(0.0, 1.5, 3000))
    sigma_ticks = float(setup.queues.jitter_ns()[0]) / TICK_NS
    assert abs(sigma_ticks - 1.5) < 0.25
    assert setup.queues.target_lead[0] in {5, 6, 7}
    assert setup.queues.target_changes[0] - changes <= 3


def test_late_inputs_raise_the_target_at_once_and_surplus_lowers_it_slowly() -> None:
    setup = make()
    drive(setup, range(100, 1600), np.full(1500, 2.5))
    settled = int(setup.queues.target_lead[0])
    assert settled == 1
    leads = np.full(60, 2.5)
    leads[40:46] = -0.5
    drive(setup, range(1600, 1660), leads)
    assert setup.queues.counters[InputCount.EXTRAPOLATED].sum() == 6
    assert setup.queues.target_lead[0] > settled
    raised = int(setup.queues.target_lead[0])
    drive(setup, range(1660, 1660 + 9 * TICK_HZ), np.full(9 * TICK_HZ, 6.0))
    assert setup.queues.target_lead[0] == raised
    drive(setup, range(2200, 2200 + 60 * TICK_HZ), np.full(60 * TICK_HZ, 6.0))
    assert setup.queues.target_lead[0] == 1


def test_the_target_is_bounded_however_bad_the_network() -> None:
    random = np.random.default_rng(7)
    setup = make()
    drive(setup, range(1000, 3000), random.uniform(-50.0, 50.0, 2000))
    assert 1 <= setup.queues.target_lead[0] <= TARGET_LEAD_MAX


def test_reset_makes_one_client_new_and_leaves_the_others() -> None:
    setup = make(2)
    payload = encode_command(10, [RUN])
    setup.queues.receive(batch([(0, payload), (1, payload)]), tick=10, early_ns=0, now_ns=0)
    setup.queues.reset(np.array([0], np.int32), tick=10)
    assert setup.queues.newest_tick.tolist() == [-1, 10]
    setup.queues.take(10, np.arange(2, dtype=np.int32), setup.commands)
    assert setup.commands.has_input.tolist() == [False, True]


def test_local_misuse_raises() -> None:
    with pytest.raises(NetError, match="at least 1"):
        InputQueues(0, tick_hz=60)
    queues = InputQueues(1, tick_hz=60, batch_max=1)
    with pytest.raises(NetError, match="batch_max"):
        queues.receive(batch([(0, b"\x01"), (0, b"\x01")]), tick=1, early_ns=0, now_ns=0)
