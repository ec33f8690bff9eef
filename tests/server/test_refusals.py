"""What no honest client does is refused, counted by player and kept as evidence; what honest ones do is not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.inputs import InputCount
from server.actions import ActionGate
from server.aim import Measure
from server.errors import ServerError
from server.livefeed import MEASURES_MAX, REASONS_MAX
from server.refusals import (
    CLOCK_SECONDS,
    EVIDENCE_MAX,
    FREE_TURN_S,
    HONEST,
    NOTES_PER_TICK_MAX,
    Evidence,
    Reason,
    Refusals,
)
from server.refusals_kernels import EVIDENCE_PER_SECOND
from server.sessions import Sessions
from sim.arrays import F64, I32, I64, U64
from sim.commands import Commands
from sim.components import Motion, Stance, Vitals
from sim.motion_kernels import TELEPORTED
from sim.weapons import NoShot
from sim.world import World
from tests.server.played import joined, play, playing
from tests.sim.arena import arena_world

HZ = 60
CLIENTS = 4
DEGREE = 65536 / 360
MOST = 7200 / HZ  # degrees a tick


class Counters:
    """The part of `InputQueues` that refusals read."""

    def __init__(self) -> None:
        self.counters: I64 = np.zeros((len(InputCount), CLIENTS), np.int64)
        self.view_claimed: F64 = np.full(CLIENTS, 11.0)
        self.view_estimate: F64 = np.full(CLIENTS, 12.0)
        self.view_bound: F64 = np.full(CLIENTS, 13.0)
        self.view_given: F64 = np.full(CLIENTS, 14.0)


class Zone:
    """A world in which client n plays row n, and what is asked of its refusals."""

    def __init__(self, turn_max: float = 7200.0) -> None:
        self.world: World = arena_world(tick_hz=HZ)
        self.players = self.world.players
        self.players.allocate_many(CLIENTS)
        self.players[Vitals].alive[:CLIENTS] = True
        self.refusals = Refusals(self.world, clients=CLIENTS, turn_max_deg_per_s=turn_max)
        self.commands = Commands(self.players.capacity)
        self.client_of_row: I32 = np.full(self.players.capacity, -1, np.int32)
        self.client_of_row[:CLIENTS] = np.arange(CLIENTS)
        self.entity: U64 = self.players.ids[:CLIENTS].copy()
        self.inputs = Counters()
        self.gate: I64 = np.zeros((2, CLIENTS), np.int64)
        self.input_tick: I64 = np.zeros(CLIENTS, np.int64)
        self.tick = 100

    def look(self, degrees: float, pitch: float = 0.0, *, row: int = 0, came: bool = True) -> tuple[float, float]:
        """One tick in which a player wishes to look somewhere; where it then looks, in degrees."""
        self.tick += 1
        self.commands.clear()
        self.commands.set_input(row, yaw=round(degrees * DEGREE), pitch=round(pitch * DEGREE))
        if came:
            self.input_tick[row] = self.tick
        self.refusals.guard(self.tick, self.commands, client_of_row=self.client_of_row, input_tick=self.input_tick)
        return float(self.commands.yaw[row]) / DEGREE, float(self.commands.pitch[row]) / DEGREE

    def gather(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.tick += 1
            self.refusals.gather(
                self.tick, inputs=self.inputs, gate=self.gate, entity=self.entity, client_of_row=self.client_of_row
            )

    def settle(self) -> None:
        """Let everybody have looked once, long enough ago that no view may turn freely any more."""
        self.look(0.0)
        self.tick += round(FREE_TURN_S * HZ) + 1
        self.look(0.0)

    def count(self, reason: Reason, client: int = 0) -> int:
        return int(self.refusals.counts[reason, client])


def test_reasons_fit_where_a_page_keeps_them_and_have_labels() -> None:
    assert list(Reason) == list(range(len(Reason)))
    assert len(Reason) <= REASONS_MAX
    assert len(Measure) <= MEASURES_MAX
    assert Reason.VIEW_PAST.label == "view_past"
    assert {Reason.FIRE_RATE, Reason.AMMUNITION, Reason.RELOAD} == HONEST


def test_a_flick_of_half_a_turn_in_two_ticks_is_let_through() -> None:
    zone = Zone()
    zone.settle()
    assert zone.look(90.0)[0] == pytest.approx(90.0, abs=0.01)
    assert zone.look(180.0)[0] == pytest.approx(180.0, abs=0.01)
    assert zone.count(Reason.TURN) == 0


def test_a_view_that_turns_faster_goes_as_far_as_it_may_and_on_in_the_next_ticks() -> None:
    zone = Zone()
    zone.settle()
    assert zone.look(175.0)[0] == pytest.approx(MOST, abs=0.01)
    assert zone.look(175.0)[0] == pytest.approx(175.0, abs=0.01)
    assert zone.count(Reason.TURN) == 1
    entry = zone.refusals.evidence(client=0)[-1]
    assert (entry.tick, entry.entity, entry.reason) == (zone.tick - 1, int(zone.entity[0]), Reason.TURN)
    assert entry.claimed == pytest.approx(175.0, abs=0.01)
    assert entry.allowed == pytest.approx(MOST, abs=0.01)


def test_a_turn_goes_the_short_way_round_and_elevation_is_bounded_alike() -> None:
    zone = Zone(turn_max=600.0)
    zone.settle()
    assert zone.look(350.0)[0] == pytest.approx(350.0, abs=0.01)
    assert zone.look(330.0)[0] == pytest.approx(340.0, abs=0.01)
    assert zone.look(330.0, 80.0)[1] == pytest.approx(10.0, abs=0.01)
    assert zone.look(330.0, 80.0)[1] == pytest.approx(20.0, abs=0.01)
    assert zone.look(330.0, -80.0)[1] == pytest.approx(10.0, abs=0.01)
    assert zone.count(Reason.TURN) == 4


def test_the_turn_of_inputs_that_were_lost_counts_as_time_that_passed() -> None:
    zone = Zone(turn_max=600.0)
    zone.settle()
    for _ in range(4):
        assert zone.look(0.0, came=False)[0] == 0.0
    assert zone.look(49.0)[0] == pytest.approx(49.0, abs=0.01)
    assert zone.count(Reason.TURN) == 0
    assert zone.look(70.0)[0] == pytest.approx(59.0, abs=0.01)
    # The rest of a turn that was held back goes on while inputs are missing, no faster.
    assert zone.look(79.0, came=False)[0] == pytest.approx(69.0, abs=0.02)
    assert zone.look(79.0, came=False)[0] == pytest.approx(79.0, abs=0.02)


@pytest.mark.parametrize("event", ["teleport", "new life", "new player"])
def test_what_sets_the_view_lets_it_turn_anywhere_once(event: str) -> None:
    zone = Zone()
    zone.settle()
    if event == "teleport":
        zone.players[Stance].flags[0] ^= TELEPORTED
    elif event == "new life":
        zone.players[Vitals].alive[0] = False
        zone.look(0.0)
        zone.players[Vitals].alive[0] = True
    else:
        zone.players.ids[0] += np.uint64(1 << 24)
    zone.look(0.0)
    assert zone.look(179.0)[0] == pytest.approx(179.0, abs=0.01)
    assert zone.count(Reason.TURN) == 0
    assert zone.look(0.0)[0] == pytest.approx(179.0 - MOST, abs=0.01)
    assert zone.count(Reason.TURN) == 1


def test_the_free_turn_after_a_teleport_lapses() -> None:
    zone = Zone()
    zone.settle()
    zone.players[Stance].flags[0] ^= TELEPORTED
    zone.look(0.0)
    for _ in range(round(FREE_TURN_S * HZ)):
        zone.look(0.0)
    zone.look(179.0)
    assert zone.count(Reason.TURN) == 1


def test_the_dead_look_where_they_like_and_zero_lets_everybody() -> None:
    zone = Zone()
    zone.settle()
    zone.players[Vitals].alive[0] = False
    assert zone.look(179.0)[0] == pytest.approx(179.0, abs=0.01)
    free = Zone(turn_max=0.0)
    free.settle()
    assert free.look(179.0)[0] == pytest.approx(179.0, abs=0.01)
    assert zone.count(Reason.TURN) == free.count(Reason.TURN) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(-16383, 16383), st.booleans()), min_size=1, max_size=40))
def test_no_view_ever_turns_faster_than_allowed(wishes: list[tuple[int, int, bool]]) -> None:
    zone = ZONES.setdefault("turns", Zone(turn_max=900.0))
    zone.settle()
    for _ in range(40):
        zone.look(0.0)
    before, since = (0.0, 0.0), 1
    for yaw, pitch, came in wishes:
        after = zone.look(yaw / DEGREE, pitch / DEGREE, came=came)
        way = abs((after[0] - before[0] + 180.0) % 360.0 - 180.0)
        assert way <= 15.0 * since + 0.02
        assert abs(after[1] - before[1]) <= 15.0 * since + 0.02
        since = 1 if came or after != before else since + 1
        before = after


ZONES: dict[str, Zone] = {}


@pytest.mark.parametrize(
    ("counter", "reason", "claimed"),
    [
        (InputCount.FLOOD, Reason.FLOOD, 19.0),
        (InputCount.FUTURE, Reason.FUTURE, 60.0),
        (InputCount.CLAMPED, Reason.OUT_OF_RANGE, 3.0),
        (InputCount.BAD_LENGTH, Reason.MALFORMED, 3.0),
        (InputCount.BAD_HEADER, Reason.MALFORMED, 3.0),
        (InputCount.UNKNOWN_TYPE, Reason.MALFORMED, 3.0),
    ],
)
def test_what_inputs_refuse_is_counted_by_player_and_kept(counter: InputCount, reason: Reason, claimed: float) -> None:
    zone = Zone()
    zone.inputs.counters[counter, 2] += 3
    zone.gather()
    assert zone.count(reason, 2) == zone.refusals.totals[reason] == 3
    assert zone.refusals.counts.sum() == 3
    assert zone.refusals.report()[reason.label] == 3
    assert zone.refusals.of_client(2) == [3 * (number == reason) for number in range(REASONS_MAX)]
    (entry,) = zone.refusals.take()
    assert entry == Evidence(zone.tick, 2, int(zone.entity[2]), reason, 3, claimed, entry.allowed, 0)
    zone.gather()
    assert zone.count(reason, 2) == 3
    assert zone.refusals.take() == []


@pytest.mark.parametrize(
    ("counter", "reason", "allowed"),
    [
        (InputCount.VIEW_FUTURE, Reason.VIEW_FUTURE, 12.0),
        (InputCount.VIEW_PAST, Reason.VIEW_PAST, 13.0),
        (InputCount.VIEW_JUMP, Reason.VIEW_JUMP, 14.0),
    ],
)
def test_refused_moments_are_kept_with_what_was_claimed_and_what_is_possible(
    counter: InputCount, reason: Reason, allowed: float
) -> None:
    zone = Zone()
    zone.inputs.counters[counter, 1] += 1
    zone.gather()
    (entry,) = zone.refusals.take()
    assert (entry.client, entry.reason, entry.claimed, entry.allowed) == (1, reason, 11.0, allowed)


def test_normal_counters_are_no_refusals() -> None:
    zone = Zone()
    for counter in ("COMMANDS", "INPUTS", "DUPLICATE", "LATE", "EXTRAPOLATED", "ABSENT", "VIEW_CAPPED"):
        zone.inputs.counters[InputCount[counter]] += 5
    zone.gather()
    assert zone.refusals.totals.sum() == 0


def test_messages_beyond_their_rate_and_malformed_ones_are_counted_by_client() -> None:
    gate = ActionGate(arena_world().game, clients=2, tick_hz=HZ)
    gate.hear(1, b"\xff\xff\xff", 1, Sessions(clients=2, players=2))
    assert gate.counts.tolist() == [[0, 0], [0, 1]]
    zone = Zone()
    zone.gate[:, 3] = (2, 1)
    zone.gather()
    assert (zone.count(Reason.MESSAGES, 3), zone.count(Reason.MALFORMED, 3)) == (2, 1)
    gate.reset(1)
    assert not gate.counts.any()


def test_a_client_that_connects_anew_begins_at_nothing_and_totals_stay() -> None:
    zone = Zone()
    zone.inputs.counters[InputCount.FLOOD] += 2
    zone.gather()
    zone.refusals.reset(np.array([1], np.int32))
    zone.inputs.counters[:, 1] = 0
    zone.gather()
    assert zone.refusals.counts[Reason.FLOOD].tolist() == [2, 0, 2, 2]
    assert zone.refusals.totals[Reason.FLOOD] == 8


def test_a_flood_of_refusals_keeps_a_few_entries_a_second_and_says_how_many_it_left_out() -> None:
    zone = Zone()
    zone.tick = 10 * HZ - 1
    for _ in range(HZ):
        zone.inputs.counters[InputCount.CLAMPED, 0] += 2
        zone.gather()
    entries = zone.refusals.take()
    assert len(entries) == EVIDENCE_PER_SECOND
    zone.inputs.counters[InputCount.CLAMPED, 0] += 2
    zone.gather()
    (entry,) = zone.refusals.take()
    assert entry.left_out == 2 * (HZ - EVIDENCE_PER_SECOND) == zone.refusals.left_out
    assert zone.count(Reason.OUT_OF_RANGE) == 2 * (HZ + 1)


def test_notes_come_a_few_per_tick_and_old_evidence_is_overwritten_and_counted() -> None:
    zone = Zone()
    written = EVIDENCE_MAX + 40
    for _ in range(written // CLIENTS):
        zone.tick += HZ
        zone.inputs.counters[InputCount.CLAMPED] += 1
        zone.gather()
    assert len(zone.refusals.evidence()) == EVIDENCE_MAX
    assert zone.refusals.overwritten == 40
    taken: list[Evidence] = []
    while entries := zone.refusals.take():
        assert len(entries) <= NOTES_PER_TICK_MAX
        taken += entries
    assert taken == zone.refusals.evidence()
    assert taken[-1].note() == {
        "client": 3, "entity": int(zone.entity[3]), "reason": "out_of_range", "count": 1, "claimed": 1.0,
        "allowed": 0.0, "left_out": 0,
    }  # fmt: skip


def test_a_clock_that_stays_fast_is_told_of_and_a_burst_is_not() -> None:
    zone = Zone()
    received = zone.inputs.counters[InputCount.INPUTS]
    zone.tick = 10 * HZ - 1
    for second in range(8):
        received[0] += round(HZ * 1.2)  # fast
        received[1] += 2 * HZ if second % 3 == 0 else HZ  # what was held up comes at once
        received[2] += HZ
        zone.gather(HZ)
    assert zone.count(Reason.CLOCK) >= 8 - CLOCK_SECONDS
    assert zone.count(Reason.CLOCK, 1) == zone.count(Reason.CLOCK, 2) == 0


def test_who_goes_farther_than_its_speed_allows_is_told_of() -> None:
    zone = Zone()
    motion, dt = zone.players[Motion], 1.0 / HZ
    motion.velocity[0] = (30.0, 0.0, 0.0)
    zone.gather()
    motion.position[0, 0] += 30.0 * dt + 0.4
    zone.gather()
    assert zone.count(Reason.MOTION) == 0
    motion.position[0, 1] += 3.0
    zone.gather()
    assert zone.count(Reason.MOTION) == 1
    entry = zone.refusals.evidence()[-1]
    assert entry.claimed == pytest.approx(3.0)
    assert entry.allowed < 2.0
    motion.position[0, 2] = math.nan
    zone.gather()
    assert zone.count(Reason.MOTION) == 2


def _teleport(zone: Zone) -> None:
    zone.players[Stance].flags[0] ^= TELEPORTED


def _die(zone: Zone) -> None:
    zone.players[Vitals].alive[0] = False
    zone.gather()
    zone.players[Vitals].alive[0] = True


def _another(zone: Zone) -> None:
    zone.players.ids[0] += np.uint64(1 << 24)


@pytest.mark.parametrize("event", [_teleport, _die, _another])
def test_teleports_new_lives_and_new_players_may_be_anywhere(event: Callable[[Zone], None]) -> None:
    zone = Zone()
    zone.gather()
    zone.players[Motion].position[0] += 50.0
    event(zone)
    zone.gather()
    assert zone.count(Reason.MOTION) == 0


def test_impossible_limits_are_refused() -> None:
    for limit in (-1.0, math.nan, math.inf):
        with pytest.raises(ServerError, match="turn_max_deg_per_s"):
            Refusals(arena_world(), clients=1, turn_max_deg_per_s=limit)


def test_triggers_pressed_in_vain_are_counted_by_reason() -> None:
    zone = Zone()
    kind = zone.world.game.event("no_shot")
    for value in (NoShot.RATE, NoShot.AMMO, NoShot.AMMO, NoShot.RELOAD, 77, 0):
        zone.world.events.emit(kind, actor=int(zone.players.ids[1]), value=int(value))
    zone.world.events.emit(zone.world.game.event("shot"), actor=int(zone.players.ids[1]), value=1)
    zone.gather()
    found = {reason: zone.count(reason, 1) for reason in Reason if zone.count(reason, 1)}
    assert found == {Reason.FIRE_RATE: 1, Reason.AMMUNITION: 2, Reason.RELOAD: 1}
    entry = zone.refusals.evidence(client=1)[0]
    assert (entry.entity, entry.claimed, entry.allowed) == (int(zone.players.ids[1]), 1.0, 0.0)


def test_a_whole_server_refuses_nothing_of_honest_clients_and_tells_of_a_spinning_one() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        clients.wishes = {"buttons": 1, "move_forward": 127}
        play(server, clients, 120)
        assert server.frame.refusals.report() == dict.fromkeys((reason.label for reason in Reason), 0)
        spins = [0]

        def spin() -> None:
            spins[0] += 1
            clients.wishes["yaw"] = 32768 * (spins[0] % 2)

        for _ in range(60):
            spin()
            play(server, clients, 1)
        assert (server.frame.refusals.counts[Reason.TURN, :2] > 20).all()
        assert server.frame.refusals.evidence(client=1)[-1].reason is Reason.TURN
