"""Clients predict what the server will compute, send their inputs in time, and mend what went wrong."""

import struct
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net import client_kernels
from net.client import SNAP_M, ClientCount, GameClients
from net.errors import NetError
from net.inputs import InputCount
from net.playback import STRETCH
from sim.arrays import I32, U8, U32
from tests.net.play import FRAME_S, LAYOUT, TICK_HZ, TICK_NS, Match, Path, batch, snapshot
from tests.reference.inputs import Fields, encode_command

SECOND = 1_000_000_000
STILL = dict.fromkeys(("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon"), np.zeros(1, np.int64))


def count(match: Match, reason: ClientCount) -> int:
    return int(match.clients.counters[reason].sum())


def late_rate(match: Match, seconds: float) -> float:
    before = match.queues.counters[InputCount.EXTRAPOLATED].sum()
    match.run(seconds)
    late = match.queues.counters[InputCount.EXTRAPOLATED].sum() - before
    return float(late) / (seconds * TICK_HZ * match.count)


def client(clients: int = 1, **options: object) -> GameClients:
    return GameClients(clients, LAYOUT, tick_hz=TICK_HZ, **options)  # type: ignore[arg-type]  # options of one test


def owner(x: float = 0.0, health: int = 0) -> bytes:
    return struct.pack("<6dHh", x, 0, 0, 0, 0, 0, 0, health)


def test_counter_names_are_those_of_the_kernels() -> None:
    rows = {
        name.removeprefix("COUNT_"): value for name, value in vars(client_kernels).items() if name.startswith("COUNT_")
    }
    assert rows == {entry.name: entry.value for entry in ClientCount}
    assert len(rows) == client_kernels.COUNTERS


def test_without_loss_an_exact_model_never_mispredicts() -> None:
    match = Match(3, up=Path(40.0, 8.0), down=Path(60.0, 8.0))
    match.run(3.0)
    wrong = count(match, ClientCount.MISPREDICTED), count(match, ClientCount.ADOPTED)
    match.run(5.0)
    assert (count(match, ClientCount.MISPREDICTED), count(match, ClientCount.ADOPTED)) == wrong
    assert count(match, ClientCount.COMPARED) > 3 * 7 * TICK_HZ // 2
    assert np.abs(match.state["position"]).max() > 1.0  # they did move
    assert match.clients.state["health"].any()  # what is not predicted arrives too


def test_predicted_state_equals_the_servers_bit_for_bit_when_it_gets_there() -> None:
    match = Match(1, up=Path(30.0), down=Path(30.0))
    match.run(4.0)
    tick = int(match.clients.tick[0])
    predicted = match.clients.state["position"][0].tobytes()
    assert tick > match.tick
    match.paused = True  # later frames would predict on
    while match.tick < tick:
        match.run(0.005)
    assert match.state["position"][0].tobytes() == predicted


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (Path(50.0, 15.0, 0.05), Path(50.0, 15.0, 0.05)),
        (Path(100.0, 30.0, 0.05), Path(100.0, 30.0, 0.05)),
        (Path(20.0, 2.0, 0.15), Path(140.0, 30.0, 0.05)),
    ],
    ids=["100 ms ± 30 ms there and back", "100 ms ± 30 ms each way", "lopsided"],
)
def test_on_a_bad_network_inputs_come_in_time_and_the_run_ahead_changes_rarely(up: Path, down: Path) -> None:
    match = Match(4, up=up, down=down, seed=11)
    match.run(6.0)
    changes = match.queues.target_changes.copy()
    jumps = count(match, ClientCount.JUMPS)
    assert late_rate(match, 15.0) < 0.01
    assert (match.queues.target_changes - changes).max() <= 3
    assert count(match, ClientCount.JUMPS) == jumps
    # It does not run further ahead than it must.
    assert match.queues.lead_ticks.max() < 8.0
    sent = 2.0 * (up.delay_ms + down.delay_ms) * 1e6
    assert 0.4 * sent < match.queues.rtt_ns.mean() < 0.8 * sent + 2 * TICK_NS


def test_after_loss_made_the_server_guess_the_client_is_corrected_to_its_state() -> None:
    match = Match(3, up=Path(50.0, 5.0, 0.3), down=Path(50.0, 5.0, 0.1), seed=4)
    match.run(8.0)
    assert count(match, ClientCount.MISPREDICTED) > 0
    assert match.clients.correction_max_m.max() > 0.0
    match.up.path.loss = match.down.path.loss = 0.0
    match.run(2.0)
    wrong = count(match, ClientCount.MISPREDICTED)
    match.run(2.0)
    assert count(match, ClientCount.MISPREDICTED) == wrong


def test_a_forced_divergence_is_mended_in_a_round_trip_and_shown_smoothly() -> None:
    match = Match(2, up=Path(40.0), down=Path(40.0))
    match.run(3.0)
    assert not match.clients.error.any()
    match.clients.state["position"][0] += [0.5, 0.0, 0.0]
    match.clients.state["flags"][0] ^= 1
    shown = match.clients.shown_position().copy()
    largest = 0.0
    for _ in range(20):
        match.run(FRAME_S)
        now = match.clients.shown_position()
        largest = max(largest, float(np.abs(now - shown).max()))
        shown = now
    assert match.clients.counters[ClientCount.MISPREDICTED, 0] > 0
    assert match.clients.counters[ClientCount.MISPREDICTED, 1] == 0
    assert match.clients.correction_max_m[0] >= 0.4
    assert largest < 0.45  # of half a metre, no frame showed all
    wrong = count(match, ClientCount.MISPREDICTED)
    match.run(1.0)
    assert count(match, ClientCount.MISPREDICTED) == wrong
    assert np.abs(match.clients.error).max() < 1e-4


def test_a_right_prediction_spares_the_owner_section_and_is_counted_as_compared() -> None:
    match = Match(3, up=Path(40.0, 8.0), down=Path(60.0, 8.0))
    match.run(3.0)
    match.claims.totals[:] = 0
    confirmed, compared = count(match, ClientCount.CONFIRMED), count(match, ClientCount.COMPARED)
    match.run(5.0)
    counts = match.claims.counts()
    assert counts["owner_corrected"] == 0
    assert counts["owner_confirmed"] > 0.8 * 3 * 5 * TICK_HZ / 2  # but for a round trip after each change of health
    assert count(match, ClientCount.CONFIRMED) - confirmed > 0.8 * (count(match, ClientCount.COMPARED) - compared)
    assert (match.clients.state["health"] == match.tick // 97 % 100).all()


def test_without_loss_but_with_overtaking_commands_claims_still_find_their_inputs() -> None:
    match = Match(4, up=Path(60.0, 40.0), down=Path(20.0), seed=3)
    match.run(8.0)
    match.claims.totals[:] = 0
    match.run(4.0)
    assert match.claims.counts()["owner_confirmed"] > 0.7 * match.claims.totals.sum()


def test_a_client_that_does_not_predict_claims_nothing_and_gets_every_section() -> None:
    match = Match(2, up=Path(20.0), down=Path(20.0))
    match.clients.predicts[1] = 0
    match.run(3.0)
    assert match.clients.counters[ClientCount.CONFIRMED].tolist()[1] == 0
    assert match.clients.counters[ClientCount.CONFIRMED, 0] > 40
    tick = int(match.clients.snapshot_tick[1])
    assert match.tick - tick <= 4
    match.paused = True
    assert match.clients.state["health"][1] == tick // 97 % 100


def test_a_confirmation_of_what_was_corrected_since_asks_for_the_section() -> None:
    match = Match(1, up=Path(40.0), down=Path(40.0))
    match.run(3.0)
    clients = match.clients
    unsure = clients._numbers[client_kernels.UNSURE]
    clients._history[0, :, 0] ^= 1  # as if replayed wrongly after it was claimed; the state itself is right
    claimed: list[int] = []
    for _ in range(30):
        match.run(FRAME_S)
        claimed.append(1 - int(unsure[0]))
    # Right, until the first confirmation comes; then no claims until a section comes, a round trip and a half later.
    first, last = claimed.index(0), len(claimed) - claimed[::-1].index(0)
    assert 0 <= first < 4 and 5 < last - first < 12 and not any(claimed[first:last])
    assert match.claims.counts()["owner_corrected"] == 0
    assert clients.correction_sum_m[0] < 1e-9


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.0, 0.3), st.floats(0.0, 0.3), st.floats(0.0, 20.0))
def test_with_sections_spared_every_client_still_ends_at_the_servers_state(
    seed: int, up: float, down: float, jitter: float
) -> None:
    match = Match(3, up=Path(30.0, jitter, up), down=Path(30.0, jitter, down), seed=seed)
    match.run(3.0)
    match.up.path.loss = match.down.path.loss = 0.0
    match.run(2.0)
    tick = match.clients.tick.copy()
    states = [match.clients.state["position"][c].tobytes() for c in range(3)]
    match.paused = True
    ended = [False] * 3
    while not all(ended):
        for c in range(3):
            if match.tick == tick[c] and not ended[c]:
                ended[c] = True
                assert match.state["position"][c].tobytes() == states[c]
        match.run(TICK_NS / 4e9)
        assert match.tick <= tick.max()


def test_corrections_in_a_row_are_shown_continuously_and_never_lag_far_behind() -> None:
    match = Match(1, up=Path(20.0), down=Path(20.0))
    match.run(2.0)
    clients = match.clients
    match.state["position"][0, 2] = 0.0
    match.run(0.5)
    snapped, start = clients.counters[ClientCount.SNAPPED, 0], float(match.state["position"][0, 2])
    shown = clients.shown_position()[0].copy()
    longest = 0.0
    for frame in range(40):
        match.state["position"][0, 2] = start + 0.1 * frame  # an elevator that nobody could predict
        match.run(FRAME_S)
        now = clients.shown_position()[0].copy()
        longest = max(longest, float(np.linalg.norm(now - shown)))
        shown = now
        assert np.linalg.norm(clients.error[0]) <= SNAP_M + 1e-9
    assert clients.counters[ClientCount.MISPREDICTED, 0] > 10
    assert clients.counters[ClientCount.SNAPPED, 0] == snapped
    assert longest < 1.0
    statistics = clients.statistics()
    assert 0.0 < statistics["error_mean_m"] < 1.0


def test_a_respawn_is_shown_at_once_and_not_summed_as_correction() -> None:
    match = Match(1, up=Path(20.0), down=Path(20.0))
    match.run(2.0)
    match.state["position"][0] = [-9.0, 9.0, 9.0] * np.sign(-match.state["position"][0])
    match.run(0.2)
    assert count(match, ClientCount.SNAPPED) == 1
    assert match.clients.correction_sum_m[0] < 2.0
    assert np.abs(match.clients.error).max() < 0.5


def test_a_fast_server_clock_is_followed_by_slewing_not_jumping() -> None:
    match = Match(2, up=Path(30.0, 3.0), down=Path(30.0, 3.0))
    match.run(3.0)
    jumps, shift = count(match, ClientCount.JUMPS), match.clients.clock_shift_ticks.copy()
    match.step_ns = round(TICK_NS / 1.004)
    assert late_rate(match, 15.0) < 0.01
    assert count(match, ClientCount.JUMPS) == jumps
    assert ((match.clients.clock_shift_ticks - shift) > 2.5).all()


def test_a_jump_of_latency_is_followed_at_once() -> None:
    match = Match(1, up=Path(20.0), down=Path(20.0))
    match.run(3.0)
    match.up.path.delay_ms = 250.0
    match.run(2.0)
    assert count(match, ClientCount.JUMPS) >= 1
    assert late_rate(match, 3.0) == 0.0


def test_a_stalled_process_catches_up_by_repeating_inputs_and_agrees_again() -> None:
    match = Match(2, up=Path(20.0), down=Path(20.0))
    match.run(2.0)
    for stall, reason in ((0.3, ClientCount.FILLED), (3.0, ClientCount.ADOPTED)):
        before = count(match, reason)
        match.paused = True
        match.run(stall)
        match.paused = False
        match.run(1.5)
        assert count(match, reason) > before
        wrong = count(match, ClientCount.MISPREDICTED)
        match.run(1.0)
        assert count(match, ClientCount.MISPREDICTED) == wrong
        assert late_rate(match, 1.0) == 0.0


def test_without_any_news_a_long_stall_leaves_ticks_out() -> None:
    clients = client()
    clients.receive(batch([(0, snapshot(9, 500, 0, -32768, 2, owner()))]), 0)
    clients.advance(0)
    clients.set_inputs(**STILL)
    assert clients.advance(SECOND) == 1  # 60 ticks: filled
    clients.set_inputs(**STILL)
    assert clients.counters[ClientCount.SKIPPED, 0] == 0
    assert clients.advance(5 * SECOND) == 1
    assert clients.counters[ClientCount.SKIPPED, 0] >= 4 * TICK_HZ - 2
    clients.set_inputs(**STILL)
    clients.commands()
    assert clients.command_bytes[1] & 15 == 1  # nothing is invented for the ticks between


def test_clients_that_do_not_predict_take_the_servers_state() -> None:
    match = Match(2, up=Path(20.0), down=Path(20.0))
    match.clients.predicts[:] = 0
    match.run(2.0)
    assert match.client_motion.ticks == 0
    assert match.clients.state["position"].any()
    match.down.path.delay_ms = 0.0
    match.paused = True
    section = owner(3.25, 77)
    match.clients.receive(batch([(1, snapshot(match.sequence + 1, match.tick + 1, 5, 0, 2, section))]), match.now)
    assert match.clients.state["position"][1, 0] == 3.25 and match.clients.state["health"][1] == 77
    assert match.clients.state["position"][0, 0] != 3.25


def test_commands_are_the_bytes_of_the_protocol() -> None:
    clients = client()
    assert clients.commands() == 0
    clients.receive(batch([(0, snapshot(9, 500, 0, -32768, 2, owner()))]), SECOND)
    assert clients.advance(SECOND) == 1
    clients.set_inputs(**STILL)
    assert clients.commands() == 1
    made: list[Fields] = []
    for step in range(1, 4):
        now = SECOND + step * TICK_NS + 1000
        assert clients.advance(now) == 1 and clients.due[0]
        fields = (step * 3, -step, step, 60_000 + step, -16_000 - step, 200 + step)
        names = ("buttons", "move_forward", "move_right", "yaw", "pitch", "weapon")
        clients.set_inputs(**{name: np.array([value]) for name, value in zip(names, fields, strict=True)})
        made.insert(0, fields)
        assert clients.advance(now) == 0
    assert clients.commands() == 1
    payload = clients.command_bytes[: clients.command_lengths[0]].tobytes()
    tick = int(clients.tick[0])
    age = tick - float(clients.playback.moment[0])
    assert 12.9 < age < 13.9  # 100 ms behind the snapshot, and as much ahead of it, at first
    assert payload == encode_command(tick, made, (9, 0), view=int(age * 256))
    assert clients.commands() == 0  # nothing new


def test_what_stands_still_for_want_of_snapshots_is_of_no_moment_and_a_cap_is_kept() -> None:
    clients = client()
    clients.playback.cap_ticks[0] = 7.5
    clients.receive(batch([(0, snapshot(9, 500, 0, -32768, 2, owner()))]), SECOND)
    views: list[int] = []
    for step in range(60):
        while clients.advance(SECOND + step * TICK_NS + 1000):
            clients.set_inputs(**STILL)
        assert clients.commands() == 1
        views.append(int.from_bytes(clients.command_bytes[clients.command_lengths[0] - 2 :][:2].tobytes(), "little"))
        assert clients.tick[0] - clients.playback.moment[0] <= 7.5
    known = views.index(65535)
    assert 7 * 256 <= min(views[:known]) <= max(views[:known]) <= 7.5 * 256
    assert set(views[known:]) == {65535} and 15 <= known <= 18
    assert clients.playback.capped[0] > 40


@pytest.mark.parametrize(("loss", "inputs"), [(0.0, 3), (0.03, 4), (0.1, 5), (0.18, 6), (0.5, 8)])
def test_redundancy_grows_with_loss(loss: float, inputs: int) -> None:
    match = Match(1)
    match.run(1.0)
    match.clients.loss[0] = loss
    match.clients.advance(match.now + 2 * TICK_NS)
    match.clients.set_inputs(**STILL)
    match.clients.commands()
    assert match.clients.command_lengths[0] == 12 + 9 * inputs + 2 + 2  # claim and view


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-5, 40), max_size=40))
def test_acknowledgements_say_what_came(steps: list[int]) -> None:
    clients = client()
    newest, seen = 65_500, set()
    clients.receive(batch([(0, snapshot(newest, 100, 0, -32768, 2, b""))]), 0)
    seen.add(newest)
    for step in steps:
        sequence = newest + step
        clients.receive(batch([(0, snapshot(sequence, 100 + sequence, 0, -32768, 2, b""))]), 0)
        if step > 0:  # what comes late is not read, and so not acknowledged
            seen.add(sequence)
            newest = sequence
    clients.advance(10 * TICK_NS)
    clients.set_inputs(**STILL)
    assert clients.commands() == 1
    sequence, mask = struct.unpack_from("<HI", clients.command_bytes.tobytes(), 2)
    assert sequence == newest & 0xFFFF
    assert mask == sum(1 << bit for bit in range(32) if newest - 1 - bit in seen)


def test_loss_is_counted_by_gaps_and_taken_back_when_a_snapshot_was_only_late() -> None:
    clients = client()
    for sequence in (10, 11, 14, 13):
        clients.receive(batch([(0, snapshot(sequence, sequence, 0, -32768, 2, b""))]), 0)
    counters = clients.counters[:, 0]
    assert counters[ClientCount.SNAPSHOTS] == 3
    assert counters[ClientCount.LOST] == 1
    assert counters[ClientCount.OLD] == 1


@given(st.binary(min_size=1, max_size=90), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_hostile_payloads_never_raise(content: bytes, kind: int) -> None:
    clients = client()
    clients.receive(batch([(0, bytes([kind]) + content[1:])]), 0)
    clients.advance(TICK_NS)
    counters = clients.counters[:, 0]
    assert counters[ClientCount.MALFORMED] + clients.snapshot_count + clients.message_count == 1


def test_every_truncation_of_a_snapshot_head_is_malformed() -> None:
    clients = client()
    whole = snapshot(1, 100, 0, 0, 2, owner())
    for length in range(1, 13 + LAYOUT.size):
        clients.receive(batch([(0, whole[:length])]), 0)
    clients.receive(batch([(0, snapshot(1, 100, 0, 0, 2, owner() + b"\0"))]), 0)
    assert clients.counters[ClientCount.MALFORMED, 0] == 13 + LAYOUT.size
    assert clients.tick[0] == -1


def test_reset_makes_one_client_new_and_leaves_the_others() -> None:
    match = Match(2)
    match.run(1.0)
    tick = int(match.clients.tick[1])
    match.clients.reset(np.array([0], np.int32))
    assert match.clients.tick.tolist() == [-1, tick]
    assert not match.clients.state["position"][0].any() and match.clients.state["position"][1].any()
    match.queues.reset(np.array([0], np.int32), tick=match.tick)
    match.run(2.0)
    wrong = count(match, ClientCount.MISPREDICTED)
    match.run(1.0)
    assert count(match, ClientCount.MISPREDICTED) == wrong
    assert late_rate(match, 1.0) == 0.0


@dataclass
class FakeReplicas:
    """Takes what it is given and acknowledges what it likes."""

    sequence: I32 = field(default_factory=lambda: np.array([-1, 77], np.int32))
    ack_mask: U32 = field(default_factory=lambda: np.array([0, 5], np.uint32))
    received: list[tuple[int, bytes]] = field(default_factory=list)
    forgotten: list[int] = field(default_factory=list)

    def receive(self, client: I32, payload: U8, length: I32) -> I32:
        for index in range(len(client)):
            self.received.append((int(client[index]), payload[index, : length[index]].tobytes()))
        return np.zeros(len(client), np.int32)

    def reset(self, client: int) -> None:
        self.forgotten.append(client)


def test_snapshots_go_to_the_replicas_which_decide_what_is_acknowledged() -> None:
    replicas = FakeReplicas()
    clients = client(2, replicas=replicas)
    first, second = snapshot(3, 50, 0, -32768, 2, b""), snapshot(4, 51, 0, -32768, 2, owner())
    clients.receive(batch([(1, first), (0, b"\x02hello"), (0, second), (1, second)]), 0)
    assert replicas.received == [(1, first), (0, second), (1, second)]
    assert clients.messages[: clients.message_count].tolist() == [1]
    clients.advance(10 * TICK_NS)
    clients.set_inputs(**{name: np.zeros(2) for name in STILL})
    assert clients.commands() == 2
    rows = clients.command_bytes.reshape(2, -1)
    assert rows[0, 1] & 0x80 == 0 and rows[0, 2:8].tobytes() == bytes(6)
    assert rows[1, 1] & 0x80 and struct.unpack_from("<HI", rows[1].tobytes(), 2) == (77, 5)
    replicas.forgotten.clear()
    clients.reset(np.array([1], np.int32))
    assert replicas.forgotten == [1]


def test_the_moment_shown_runs_steadily_behind_the_snapshots() -> None:
    match = Match(1, up=Path(50.0, 5.0), down=Path(50.0, 20.0))
    match.run(6.0)
    playback = match.clients.playback
    moments: list[float] = []
    for _ in range(30):
        match.run(FRAME_S)
        moments.append(float(playback.moment[0]))
    assert float(np.abs(np.diff(moments) - 1.0).max()) < STRETCH + 0.01
    assert 3.0 < match.tick - moments[-1] < 10.0  # 50 ms ± 20 ms of way, the time between snapshots and of a frame


def test_statistics_name_every_count_and_measure() -> None:
    match = Match(2)
    assert match.clients.statistics()["snapshots"] == 0
    match.run(1.0)
    statistics = match.clients.statistics()
    assert set(statistics) >= {reason.name.lower() for reason in ClientCount} | {"rtt_ms", "loss", "correction_m"}
    assert statistics["snapshots"] > 50 and 25.0 < statistics["snapshot_interval_ms"] < 45.0


def test_local_misuse_raises() -> None:
    with pytest.raises(NetError, match="at least 1"):
        client(0)
    with pytest.raises(NetError, match="batch_max"):
        client(batch_max=1).receive(batch([(0, b"\x01"), (0, b"\x01")]), 0)
