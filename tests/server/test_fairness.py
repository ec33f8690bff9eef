"""Whoever aims well at what it sees hits, whatever its latency; and nobody is hit long after it has found cover."""

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from net.inputs import InputCount
from net.playback import UNCAPPED
from net.simulator import NetworkProfile
from server.app import Server
from sim.commands import REWIND_STEPS, Button, Commands
from sim.components import Motion
from sim.games.arena.components import Arms
from sim.weapons_kernels import EYE
from sim.worldmap import SHOT_MASK
from tools.corner import HEIGHT, HOLDER, Corner, open_corner
from tools.fairness import TORSO, TURN, WEAPON, Clients, open_range

BAD = NetworkProfile(latency_ms=75.0, spread_ms=20.0, loss=0.05)  # each way: 150 ms ± 40 ms there and back
FAULTS = (InputCount.VIEW_FUTURE, InputCount.VIEW_PAST, InputCount.VIEW_JUMP)
CAP = 12  # ticks: 200 ms


def make(*arguments: Any, **options: Any) -> Server:
    """A server whose kernels are neither warmed up nor sealed, as in `tests.server.played`."""
    with patch("server.app.prepare", return_value=0), patch("server.app.seal"):
        return Server(*arguments, **options)


def test_perfect_aim_at_what_is_seen_hits_within_two_points_whatever_the_network() -> None:
    percents = []
    for network, settle_s, seconds in ((None, 4.0, 6.0), (BAD, 7.0, 12.0)):
        with open_range(8, network=network, make=make) as place:
            place.play(settle_s)
            figures = place.measure(seconds)
            counters = place.server.inputs.counters
            assert figures.shots > 850
            assert [int(counters[reason].sum()) for reason in FAULTS] == [0, 0, 0], "nobody lied"
            percents.append(figures.percent)
    assert percents[0] > 99.0
    assert percents[1] > percents[0] - 2.0


class Duel:
    """The holder shoots at every tick, by an oracle, at the last part of the peeker that goes behind the wall.

    The oracle knows where the peeker was at the very moment by which the server judges: no aim is better.
    """

    def __init__(self, corner: Corner) -> None:
        self.corner = corner
        self.edges: dict[int, Any] = {}
        self.shots: list[tuple[int, int, bool]] = []  # tick, rewind [1/256 tick], whether it hit
        self.since = 0
        self._weapon = dict(corner.server.world.game.settings)["weapons"].split(",").index(WEAPON)
        self._eye = HOLDER + np.array([0.0, 0.0, EYE * HEIGHT])
        self._take = corner.server.inputs.take
        corner.after_tick = self._note

    def edge(self, moment: float) -> Any:
        """Where that part was at a moment."""
        floor = int(moment)
        part = moment - floor
        return self.edges[floor] if part == 0.0 else self.edges[floor] * (1 - part) + self.edges[floor + 1] * part

    def visible(self, moment: float) -> bool:
        ends = self._eye[None], self.edge(moment)[None]
        return not bool(self.corner.server.world.geometry.any_hit(*ends, mask=SHOT_MASK)[0])

    def first_hidden(self) -> int:
        """The tick from which on it is behind cover."""
        hidden = [tick for tick in sorted(self.edges) if tick >= self.since and not self.visible(tick)]
        assert hidden and hidden == list(range(hidden[0], hidden[-1] + 1))
        return hidden[0]

    def _note(self, tick: int) -> None:
        world = self.corner.server.world
        holder, peeker = self.corner.row(self.corner.holder), self.corner.row(self.corner.peeker)
        place = world.players[Motion].position[peeker].copy()
        self.edges[tick] = place + np.array([0.0, -0.24, TORSO * HEIGHT])  # its torso is 0.266 m thick, either way
        arms, events = world.players[Arms], world.events
        shot = [i for i in range(events.count) if events.kind[i] == world.game.event("shot")]
        for index in shot:
            hit = int(events.target[index]) == int(self.corner.peeker.entity[0])
            self.shots.append((tick, int(self.corner.server.frame.commands.rewind[holder]), hit))
        arms.owned[holder] |= np.uint16(1 << self._weapon)
        arms.weapon[holder], arms.reserve[holder, self._weapon] = self._weapon, 100
        arms.cooldown_s[holder] = 0.0
        world.players[Motion].velocity[peeker, 0] = 0.0  # pushed back by nothing

    def take(self, tick: int, rows: Any, commands: Commands) -> None:
        """The inputs of a tick, the oracle's among them."""
        self._take(tick, rows, commands)
        row = self.corner.row(self.corner.holder)
        moment = tick - int(commands.rewind[row]) / REWIND_STEPS
        if int(moment) not in self.edges:
            return  # it begins with the tick that is made next
        way = self.edge(moment) - self._eye
        commands.buttons[row], commands.weapon[row] = int(Button.FIRE), self._weapon
        commands.yaw[row] = round(float(np.arctan2(way[1], way[0])) * TURN) & 0xFFFF
        commands.pitch[row] = round(float(np.arctan2(way[2], np.hypot(way[0], way[1]))) * TURN)

    def play(self) -> None:
        """The peeker stands in the open, then runs behind the wall and stays there."""
        corner = self.corner
        with patch.object(corner.server.inputs, "take", self.take):
            corner.place(HOLDER, np.array([0.0, -1.0, 0.01]))
            corner.play(0.7)
            self.shots.clear()
            self.since = corner.server.world.tick
            corner.direction = 1
            corner.play(1.0)
            corner.direction = 0
            corner.play(1.0)


def test_a_client_of_any_latency_hits_nobody_who_is_behind_cover_for_longer_than_the_cap() -> None:
    with open_corner(holder_network=NetworkProfile(latency_ms=200.0), make=make) as corner:
        corner.play(5.0)
        corner.holder.clients.playback.cap_ticks[0] = UNCAPPED  # it shows, and claims, what is 400 ms old and older
        corner.play(3.0)
        duel = Duel(corner)
        duel.play()
        hidden = duel.first_hidden()
        shots = [shot for shot in duel.shots if shot[0] - CAP >= duel.since]
        assert len(shots) > 80 and {rewind for _, rewind, _ in shots} == {CAP * REWIND_STEPS}
        hits = [tick for tick, _, hit in shots if hit]
        # Every single tick: hit while it could be seen 200 ms before, and never from then on.
        assert hits == list(range(shots[0][0], hidden + CAP))
        assert shots[-1][0] > hidden + CAP + 60
        assert corner.server.inputs.counters[InputCount.VIEW_CAPPED].sum() > 100


@pytest.mark.parametrize("latency_ms", [0.0, 40.0])
def test_shots_hit_exactly_who_could_be_seen_at_their_moment(latency_ms: float) -> None:
    with open_corner(holder_network=NetworkProfile(latency_ms=latency_ms), make=make) as corner:
        corner.play(5.0)
        duel = Duel(corner)
        duel.play()
        judged = [(tick - rewind / REWIND_STEPS, hit) for tick, rewind, hit in duel.shots]
        judged = [(moment, hit) for moment, hit in judged if moment >= duel.since]
        assert len(judged) > 80 and len({hit for _, hit in judged}) == 2
        assert [hit for _, hit in judged] == [duel.visible(moment) for moment, _ in judged]
        assert corner.server.inputs.counters[list(FAULTS)].sum() == 0


def test_a_liar_on_a_good_line_gains_nothing_behind_cover() -> None:
    with open_corner(make=make) as corner:
        corner.play(5.0)

        def lie(clients: Clients) -> None:
            if clients is corner.holder:
                clients.clients.playback.moment[0] -= CAP  # "I saw the others 200 ms earlier than that"

        corner.before_send = lie
        duel = Duel(corner)
        duel.play()
        hidden = duel.first_hidden()
        longest = max(rewind for _, rewind, _ in duel.shots) / REWIND_STEPS
        assert longest < 8.0
        assert max(tick for tick, _, hit in duel.shots if hit) < hidden + longest
        assert corner.server.inputs.counters[InputCount.VIEW_PAST].sum() > 100


def test_the_holder_sees_the_peeker_later_but_no_later_than_latencies_explain() -> None:
    means = []
    for latency_ms in (0.0, 50.0):
        network = NetworkProfile(latency_ms=latency_ms)
        with open_corner(network=network, holder_network=network, make=make) as corner:
            corner.play(4.0)
            means.append(float(corner.peeks(3).mean()))
    assert 30.0 < means[0] < 130.0
    assert means[0] + 30.0 < means[1] < means[0] + 130.0
