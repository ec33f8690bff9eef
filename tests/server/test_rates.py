"""Snapshots come as often as a client asks and its path carries, and never more often than the server allows."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from net.client import ClientCount
from net.simulator import Link, NetworkProfile
from server.errors import ServerError
from server.rates import SnapshotRates
from server.rates_kernels import FACTOR_MAX, WAIT_MAX, WAIT_MIN
from sim.arrays import I32, I64
from tests.server.played import Clients, joined, play, playing

if TYPE_CHECKING:
    from server.app import Server

HZ = 60
HELD, PLENTY = 0, 1150


class Path:
    """One client, whose snapshots take 300 bytes and find the budget that they are given."""

    def __init__(self) -> None:
        self.rates = SnapshotRates(1, tick_hz=HZ, interval_ticks=2)
        self.interval: I64 = np.full(1, 2, np.int64)
        self.rows: I32 = np.zeros(1, np.int32)
        self.tick = 0

    def run(self, seconds: int, budget: int, *, carries: int = 30) -> "Path":
        """Let time pass; more than `carries` snapshots a second are held back."""
        for _ in range(seconds * HZ):
            self.tick += 1
            given = HELD if HZ // int(self.interval[0]) > carries and self.tick // 2 % 2 else budget
            length: I32 = np.array([300 if given > 0 else 0], np.int32)
            self.rates.adapt(
                self.tick, self.rows, budget=np.array([given], np.int64), length=length, interval=self.interval
            )
        return self

    @property
    def per_second(self) -> float:
        return HZ / float(self.interval[0])


def test_a_path_that_carries_everything_keeps_the_full_rate() -> None:
    assert Path().run(10, PLENTY).per_second == 30
    assert Path().run(10, 301).rates.counts()["rates_halved"] == 0


def test_snapshots_held_back_for_a_second_halve_the_rate_down_to_a_quarter() -> None:
    path = Path().run(3, PLENTY)
    assert path.run(1, HELD).per_second == 15
    assert path.run(10, HELD).per_second == 30 / FACTOR_MAX
    assert path.rates.counts()["rates_reduced"] == 1


def test_a_third_of_what_snapshots_usually_take_counts_as_held_back() -> None:
    path = Path().run(3, PLENTY)
    assert path.run(1, 101).per_second == 30
    assert path.run(1, 99).per_second == 15


def test_the_rate_comes_back_after_calm_seconds_and_not_before() -> None:
    path = Path().run(3, PLENTY).run(1, HELD)
    assert path.run(WAIT_MIN - 2, PLENTY).per_second == 15
    assert path.run(3, PLENTY).per_second == 30
    assert path.rates.counts() == {
        "rates_halved": 1, "rates_restored": 1, "rates_clamped": 0, "rates_reduced": 0,
    }  # fmt: skip


def test_a_path_that_never_carries_more_is_tried_ever_more_rarely() -> None:
    path = Path().run(60, PLENTY, carries=15)
    early = path.rates.counts()["rates_restored"]
    path.run(5 * WAIT_MAX, PLENTY, carries=15)
    later = path.rates.counts()["rates_restored"] - early
    assert 2 <= early <= 6 and 2 <= later <= 5


def test_after_a_try_that_held_the_next_trouble_is_mended_as_quickly_as_the_first() -> None:
    path = Path().run(100, PLENTY, carries=15)
    path.run(WAIT_MAX * 3, PLENTY)
    assert path.per_second == 30
    path.run(1, HELD)
    assert path.per_second == 15
    assert path.run(WAIT_MIN + 2, PLENTY).per_second == 30


@pytest.mark.parametrize(
    ("asked", "given", "clamped"),
    [(30, 30, 0), (29, 20, 0), (20, 20, 0), (7, 60 / 9, 0), (1, 1, 0), (0, 1, 1), (31, 30, 1), (65_535, 30, 1)],
)
def test_a_client_gets_what_it_asks_for_within_the_servers_range(asked: int, given: float, clamped: int) -> None:
    path = Path()
    path.rates.ask(0, asked)
    assert path.run(2, PLENTY).per_second == given
    assert path.rates.counts()["rates_clamped"] == clamped


def test_a_rate_is_never_below_one_a_second() -> None:
    path = Path()
    path.rates.ask(0, 2)
    assert path.run(20, HELD).per_second == 1


def test_a_newcomer_begins_with_the_servers_rate() -> None:
    path = Path()
    path.rates.ask(0, 5)
    path.run(10, HELD)
    path.rates.reset(np.zeros(1, np.int32))
    assert path.run(1, PLENTY).per_second == 30


def test_numbers_that_make_no_rate_are_refused() -> None:
    with pytest.raises(ServerError, match="at least 1"):
        SnapshotRates(1, tick_hz=60, interval_ticks=0)


def snapshots(clients: Clients, client: int) -> int:
    return int(clients.clients.counters[ClientCount.SNAPSHOTS, client])


def narrow(clients: Clients, kbps: float) -> None:
    """Put a narrow path with a long queue before the clients, each its own."""
    profile = NetworkProfile(latency_ms=20.0, rate_kbps=kbps, queue_ms=300.0)
    up = Link(NetworkProfile(latency_ms=20.0), peers=clients.count, seed=1)
    clients._links = (up, Link(profile, peers=clients.count, seed=2))


def told(server: "Server", clients: Clients, ticks: int) -> float:
    """Snapshots per second of client 0."""
    before = snapshots(clients, 0)
    play(server, clients, ticks)
    return (snapshots(clients, 0) - before) * HZ / ticks


def test_a_client_that_asks_for_fewer_snapshots_gets_them_and_plays_on() -> None:
    with playing(2) as (server, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127}
        assert clients.tell(0, "rate", 10)
        play(server, clients, 30)
        happened = clients.clients.counters.copy()
        other = snapshots(clients, 1)
        assert 9 <= told(server, clients, 120) <= 11
        assert snapshots(clients, 1) - other >= 58
        happened = clients.clients.counters - happened
        assert happened[ClientCount.MISPREDICTED, 0] == happened[ClientCount.JUMPS, 0] == 0
        assert happened[ClientCount.LATE_INPUTS, 0] == 0
        playback = clients.clients.playback
        extrapolated = int(playback.extrapolated[0])
        play(server, clients, 60)
        assert playback.extrapolated[0] - extrapolated <= 3, "it shows the others later, but smoothly"
        assert clients.tell(0, "rate", 60_000)
        play(server, clients, 30)
        assert 29 <= told(server, clients, 60) <= 31
        assert server.frame.rates.clamped == 1


def test_on_a_path_that_is_too_narrow_the_rate_falls_and_comes_back_when_it_widens() -> None:
    with playing(12) as (server, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127, "yaw": 9000, "buttons": 1}
        narrow(clients, 20.0)
        play(server, clients, 900)
        counts = server.frame.rates.counts()
        assert counts["rates_halved"] >= 6 and counts["rates_reduced"] >= 3
        assert told(server, clients, 120) < 20
        assert clients.connected == 12 and clients.rejoins == 0
        narrow(clients, 0.0)
        play(server, clients, 2400)
        assert server.frame.rates.counts()["rates_reduced"] == 0
        assert 28 <= told(server, clients, 60) <= 31
