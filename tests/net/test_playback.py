"""What a client shows of the others runs on steadily, as little behind as its network allows."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.datagrams import Datagrams
from net.errors import NetError
from net.playback import DELAY_NS_MAX, JUMP_NS, STRETCH, Playback
from net.simulator import PROFILES, Link, NetworkProfile
from sim.arrays import F64, I64

MS = 1_000_000
TICK_NS = 16_666_667
NOBODY: I64 = np.full(1, -1, np.int64)


@dataclass
class Show:
    """Snapshots of one server to `clients` clients, each through the same profile, in frames of 60 Hz."""

    profile: NetworkProfile
    clients: int = 1
    seed: int = 1
    every: int = 2
    stall_every: int = 0  # of so many frames the server loses one
    offset_ns: int = 4 * MS

    def __post_init__(self) -> None:
        self.playback = Playback(self.clients, tick_hz=60)
        self.link = Link(self.profile, peers=self.clients, seed=self.seed)
        self.newest: I64 = np.full(self.clients, -1, np.int64)
        self.tick = self.frame = 1000
        self.moments: list[F64] = []
        self.newests: list[I64] = []
        self._sent, self._arrived = Datagrams(256 * self.clients), Datagrams(256 * self.clients)

    def run(self, seconds: float) -> "Show":
        for _ in range(round(seconds * 60)):
            self.frame += 1
            stalled = self.stall_every > 0 and self.frame % self.stall_every == 0
            self.tick += 0 if stalled else 1
            now = self.frame * TICK_NS
            self._sent.clear()
            if self.tick % self.every == 0 and not stalled:
                for client in range(self.clients):
                    self._sent.append(
                        self.tick.to_bytes(8, "little") + bytes(200), np.zeros(3, np.uint64), peer=client
                    )  # fmt: skip
                self.link.push(self._sent, now)
            self._take(now + self.offset_ns)
            self.playback.follow(self.newest, now + self.offset_ns)
            self.moments.append(self.playback.moment.copy())
            self.newests.append(self.newest.copy())
        return self

    def _take(self, now: int) -> None:
        while self.link.pull(self._arrived, now):
            for row in range(self._arrived.count):
                tick, client = int.from_bytes(self._arrived.datagram(row)[:8], "little"), self._arrived.peer[row]
                self.newest[client] = max(self.newest[client], tick)

    def steps(self, seconds: float) -> F64:
        steps: F64 = np.diff(np.array(self.moments[-round(seconds * 60) :]), axis=0)
        return steps

    def beyond(self, seconds: float) -> float:
        """Share of frames that were extrapolated."""
        frames = round(seconds * 60)
        return float((np.array(self.moments[-frames:]) > np.array(self.newests[-frames:])).mean())


@pytest.mark.parametrize(
    ("name", "share", "low_ms", "high_ms"),
    [
        ("perfect", 0.002, 16.0, 45.0),
        ("lan", 0.03, 16.0, 45.0),
        ("broadband", 0.03, 25.0, 60.0),
        ("wifi", 0.05, 30.0, 95.0),
        ("bad-wifi", 0.07, 60.0, 250.0),
        ("mobile", 0.07, 40.0, 170.0),
    ],
)
def test_the_delay_is_what_the_jitter_needs(name: str, share: float, low_ms: float, high_ms: float) -> None:
    show = Show(PROFILES[name], clients=8, seed=3).run(30.0)
    show.run(30.0)
    assert show.beyond(30.0) < share
    delay = show.playback.delay_ns() / MS
    assert low_ms < delay.mean() < high_ms
    assert show.playback.jumps.sum() == 0
    statistics = show.playback.statistics()
    assert statistics["playback_delay_ms"] == pytest.approx(delay.mean())
    assert statistics["frames_extrapolated"] / statistics["frames_shown"] < 2 * share + 0.02


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 2**31), st.floats(0.0, 60.0), st.floats(0.0, 0.2), st.sampled_from([1, 2, 3, 6]),
    st.floats(0.0, 200.0),
)  # fmt: skip
def test_time_never_goes_back_nor_runs_faster_than_the_stretch(
    seed: int, jitter: float, loss: float, every: int, latency: float
) -> None:
    profile = NetworkProfile(latency_ms=latency, jitter_ms=jitter, loss=loss, burst=2.0)
    show = Show(profile, seed=seed, every=every).run(12.0)
    started = np.flatnonzero(np.array(show.newests)[:, 0] >= 0)
    steps = np.diff(np.array(show.moments)[started], axis=0)
    if show.playback.jumps[0] == 0:
        assert steps.max() <= 1.0 + STRETCH + 1e-6
        assert steps.min() > 0.8
        lost = np.array(show.moments)[started][:-1] > np.array(show.newests)[started][1:] + 3.0
        assert np.mean(steps[~lost] < 1.0 - STRETCH - 1e-6) < 0.05, "but for what looks like a slow server for a while"
    assert (show.playback.delay_ns() <= DELAY_NS_MAX + 6.0 * jitter * MS + JUMP_NS).all()
    # In the end at most 2 % of snapshots find the client waiting; a wait lasts a few frames where bursts are lost.
    assert show.beyond(4.0) < 0.12 + max(2.0, every / 2.0) * loss


def test_the_delay_grows_at_once_and_shrinks_slowly() -> None:
    show = Show(NetworkProfile(latency_ms=20.0, jitter_ms=1.0)).run(20.0)
    calm = float(show.playback.wanted_delay_ns()[0])
    show.link = Link(NetworkProfile(latency_ms=20.0, jitter_ms=20.0), peers=1, seed=2)
    show.run(2.0)
    rough = float(show.playback.wanted_delay_ns()[0])
    assert rough > calm + 20 * MS
    show.run(8.0)
    assert show.beyond(6.0) < 0.08
    show.link = Link(NetworkProfile(latency_ms=20.0, jitter_ms=1.0), peers=1, seed=3)
    before = float(show.playback.wanted_delay_ns()[0])
    show.run(2.0)
    assert float(show.playback.wanted_delay_ns()[0]) > before - 25 * MS
    show.run(58.0)
    assert float(show.playback.wanted_delay_ns()[0]) < calm + 12 * MS


def test_a_longer_path_is_followed_by_stretching_and_a_much_longer_one_by_a_jump() -> None:
    show = Show(NetworkProfile(latency_ms=20.0)).run(10.0)
    show.link = Link(NetworkProfile(latency_ms=120.0), peers=1)
    show.run(6.0)
    assert show.playback.jumps[0] == 0 and show.beyond(1.0) == 0.0
    show.link = Link(NetworkProfile(latency_ms=620.0), peers=1)
    show.run(6.0)
    assert show.playback.jumps[0] >= 1 and show.beyond(1.0) == 0.0


def test_when_the_server_halves_its_rate_the_delay_follows() -> None:
    show = Show(NetworkProfile(latency_ms=20.0, jitter_ms=2.0)).run(15.0)
    before = float(show.playback.wanted_delay_ns()[0])
    show.every = 6
    show.run(5.0)
    assert float(show.playback.wanted_delay_ns()[0]) > before + 50 * MS
    assert show.beyond(2.0) < 0.05


@pytest.mark.parametrize("stall_every", [4, 6, 20])
def test_a_server_that_cannot_keep_its_rate_is_shown_as_slow_as_it_is(stall_every: int) -> None:
    show = Show(NetworkProfile(latency_ms=20.0, jitter_ms=2.0)).run(15.0)
    show.stall_every = stall_every
    show.run(20.0)
    assert show.beyond(5.0) < 0.1
    speed = float(show.steps(5.0).mean())
    assert speed == pytest.approx(1.0 - 1.0 / stall_every, abs=0.02)
    show.stall_every = 0
    show.run(25.0)
    assert float(show.steps(2.0).mean()) == pytest.approx(1.0, abs=0.02)


def test_silence_is_not_learned_from_and_another_server_begins_anew() -> None:
    show = Show(NetworkProfile(latency_ms=20.0, jitter_ms=2.0)).run(15.0)
    before = float(show.playback.wanted_delay_ns()[0])
    taken, show.every = show.every, 10**9
    show.run(3.0)
    assert show.beyond(2.0) == 1.0
    show.every = taken
    show.run(1.0)
    assert float(show.playback.wanted_delay_ns()[0]) < before + 12 * MS
    show.newest[:] = 5
    show.playback.follow(show.newest, (show.frame + 1) * TICK_NS)
    assert show.playback.moment[0] < 5.0


def test_before_the_first_snapshot_nothing_is_shown() -> None:
    playback = Playback(1, tick_hz=60)
    for frame in range(5):
        playback.follow(NOBODY, frame * TICK_NS)
    assert playback.frames[0] == 0 and "playback_delay_ms" not in playback.statistics()
    with pytest.raises(NetError, match="for 1 clients"):
        playback.follow(np.zeros(2, np.int64), 0)
    with pytest.raises(NetError, match="at least 1"):
        Playback(0, tick_hz=60)
