"""The simulated network does what its profile says, to the same datagrams for the same seed."""

import numpy as np
import pytest

from net.address import parse_address
from net.datagrams import Datagrams
from net.errors import NetError
from net.simulator import PROFILES, Link, NetworkProfile, profile_named

MS = 1_000_000
HOME = parse_address("192.0.2.1:4000")


def _batch(*datagrams: bytes, peer: int = 0) -> Datagrams:
    batch = Datagrams(max(1, len(datagrams)))
    for datagram in datagrams:
        assert batch.append(datagram, HOME, peer=peer)
    return batch


def _number(index: int) -> bytes:
    return index.to_bytes(4, "little") * 25


def _run(link: Link, count: int, *, gap_ns: int = MS) -> list[tuple[int, int]]:
    """Send numbered datagrams at intervals; (number, ns it took) in the order of arrival."""
    arrived, out, now = [], Datagrams(64), 0
    for step in range(count + 4000):
        now = step * gap_ns
        if step < count:
            link.push(_batch(_number(step)), now)
        while link.pull(out, now):
            for row in range(out.count):
                number = int.from_bytes(out.datagram(row)[:4], "little")
                arrived.append((number, int(out.received_ns[row]) - number * gap_ns))
        if step >= count and not link.on_the_way:
            break
    return arrived


def test_a_perfect_network_delivers_everything_at_once_and_in_order() -> None:
    assert _run(Link(PROFILES["perfect"]), 100) == [(number, 0) for number in range(100)]


def test_datagrams_arrive_unchanged_with_their_peer_and_address() -> None:
    link, out = Link(NetworkProfile(latency_ms=5), peers=3), Datagrams(4)
    link.push(_batch(b"", b"\0", b"\xff" * 1280, peer=2), 0)
    assert link.next_due_ns() == 5 * MS
    assert link.pull(out, 5 * MS - 1) == 0
    assert link.pull(out, 5 * MS) == 3
    assert [out.datagram(row) for row in range(3)] == [b"", b"\0", b"\xff" * 1280]
    assert out.address_at(2) == HOME
    assert out.peer[:3].tolist() == [2, 2, 2]
    assert link.next_due_ns() is None


def test_a_spread_is_even_about_the_latency() -> None:
    took = [ns / MS for _, ns in _run(Link(NetworkProfile(latency_ms=75, spread_ms=20)), 400, gap_ns=50 * MS)]
    assert 55.0 <= min(took) < 57.0 and 93.0 < max(took) <= 95.0
    assert np.mean(took) == pytest.approx(75.0, abs=2.0) and np.std(took) == pytest.approx(20.0 / 3**0.5, abs=1.0)
    assert min(ns for _, ns in _run(Link(NetworkProfile(latency_ms=1, spread_ms=5)), 50)) == 0, "never before it left"


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    runs = [_run(Link(PROFILES["hostile"], seed=seed), 400) for seed in (5, 5, 6)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize("burst", [1.0, 4.0])
def test_losses_have_the_share_and_the_burst_length_of_the_profile(burst: float) -> None:
    count = 20_000
    link = Link(NetworkProfile(loss=0.1, burst=burst), seed=3)
    got = {number for number, _ in _run(link, count)}
    missing = np.array([number not in got for number in range(count)])
    runs = np.count_nonzero(missing[1:] & ~missing[:-1])
    assert missing.mean() == pytest.approx(0.1, abs=0.015)
    assert missing.sum() / runs == pytest.approx(burst if burst > 1 else 1 / 0.9, rel=0.15)
    assert link.lost == missing.sum()


def test_latency_and_jitter_have_the_means_of_the_profile() -> None:
    took = np.array([ns for _, ns in _run(Link(NetworkProfile(latency_ms=40, jitter_ms=5)), 4000, gap_ns=50 * MS)])
    assert took.min() >= 40 * MS
    assert took.mean() / MS == pytest.approx(45, abs=0.5)


def test_jitter_alone_never_lets_datagrams_overtake_but_reordering_does() -> None:
    steady = [number for number, _ in _run(Link(NetworkProfile(latency_ms=5, jitter_ms=20)), 2000)]
    assert steady == sorted(steady)
    link = Link(NetworkProfile(latency_ms=5, reorder=0.1, reorder_ms=10))
    mixed = [number for number, _ in _run(link, 2000)]
    assert mixed != sorted(mixed)
    assert sorted(mixed) == list(range(2000))
    assert link.reordered == pytest.approx(200, abs=60)


def test_duplicates_arrive_twice() -> None:
    link = Link(NetworkProfile(duplicate=0.2, jitter_ms=1))
    numbers = [number for number, _ in _run(link, 5000)]
    assert len(numbers) == 5000 + link.duplicated
    assert link.duplicated == pytest.approx(1000, abs=150)


def test_corruption_flips_one_to_three_bits() -> None:
    link, out, flips = Link(NetworkProfile(corrupt=1.0)), Datagrams(1), []
    for _ in range(200):
        link.push(_batch(bytes(100)), 0)
        link.pull(out, 0)
        flips.append(int(np.unpackbits(out.data[0, :100]).sum()))
    assert set(flips) <= {0, 1, 2, 3}  # two flips of one bit undo each other
    assert flips.count(0) < 5


def test_bandwidth_is_shared_out_in_time_and_the_queue_drops_its_tail() -> None:
    # 1,000 bytes and 28 of headers at 822.4 kbit/s: 10 ms each.
    profile = NetworkProfile(rate_kbps=822.4, queue_ms=45)
    link, out = Link(profile, peers=2), Datagrams(16)
    link.push(_batch(*[bytes(1000)] * 8), 0)
    assert link.overflowed == 3
    link.push(_batch(bytes(1000), peer=1), 0)
    assert link.pull(out, 10 * MS) == 2  # each peer has its own line
    assert link.pull(out, 49 * MS) == 3
    assert link.pull(out, 50 * MS) == 1
    bottleneck = Link(profile, peers=2, shared=True)
    bottleneck.push(_batch(bytes(1000)), 0)
    bottleneck.push(_batch(bytes(1000), peer=1), 0)
    assert bottleneck.pull(out, 10 * MS) == 1
    assert bottleneck.pull(out, 20 * MS) == 1


def test_more_on_the_way_than_its_capacity_is_dropped_and_counted() -> None:
    link = Link(NetworkProfile(latency_ms=1), capacity=3)
    link.push(_batch(*[b"x"] * 5), 0)
    assert (link.on_the_way, link.overflowed) == (3, 2)
    assert link.statistics()["overflowed"] == 2


def test_rows_that_a_socket_dropped_are_passed_over() -> None:
    link, batch = Link(PROFILES["perfect"]), _batch(b"a", b"b")
    batch.length[0] = -1
    link.push(batch, 0)
    assert link.sent == 1


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"burst": 0.5}, {"latency_ms": -1}, {"corrupt": -0.1}])
def test_a_profile_that_is_no_network_is_refused_by_field(wrong: dict[str, float]) -> None:
    with pytest.raises(NetError, match=next(iter(wrong))):
        NetworkProfile(**wrong)


def test_unknown_names_and_peers_are_refused_with_what_there_is() -> None:
    with pytest.raises(NetError, match="bad-wifi"):
        profile_named("dial-up")
    with pytest.raises(NetError, match="peer 4"):
        Link(PROFILES["lan"], peers=4).push(_batch(b"x", peer=4), 0)
    with pytest.raises(NetError, match="0 peers"):
        Link(PROFILES["lan"], peers=0)
