"""Blocks through two endpoints and a bad network, beside live payloads."""

import numpy as np
import pytest

from net.block_limits import CLIENT_BLOCK_LIMITS, SERVER_BLOCK_LIMITS
from net.blocks import Answer, Blocks, FinishedBlock, Outcome, ReceivedBlock
from net.congestion import CongestionLimits
from net.simulator import PROFILES, Link, NetworkProfile
from tests.net.endpoints import MS, SECOND, Pair

TICK = 16 * MS
COMMAND = b"\x01" + bytes(40)
DSL = NetworkProfile(latency_ms=25, jitter_ms=2, loss=0.05, rate_kbps=2_000)


def content(size: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def pair_of(profile: NetworkProfile, seed: int = 1) -> tuple[Pair, Blocks, Blocks]:
    """A server, a client, the network between them, and the default rates."""
    server, client = Blocks(1, limits=SERVER_BLOCK_LIMITS), Blocks(1, limits=CLIENT_BLOCK_LIMITS)
    return Pair(profile, seed=seed, congestion=CongestionLimits(), blocks=(server, client)), server, client


def live(pair: Pair) -> bytes:
    """A snapshot of 200 bytes that says when it was made."""
    return b"\x01" + pair.now_ns.to_bytes(8, "little") + bytes(191)


def run_live(pair: Pair, blocks: Blocks, seconds: float) -> tuple[list[float], list[int]]:
    """Send snapshots at every tick until nothing is under way: their delays [ms], and the progress at each tick."""
    delays: list[float] = []
    progress: list[int] = []
    for _ in range(round(seconds * SECOND / TICK)):
        pair.step(payloads=(live(pair), COMMAND))
        arrived = pair.payloads[1]
        delays += [(pair.now_ns - int.from_bytes(payload[1:9], "little")) / MS for payload in arrived]
        arrived.clear()
        progress += [entry.done_bytes for entry in blocks.progress()]
        blocks.take_finished()
        if not blocks.progress():
            break
    return delays, progress


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_megabyte_arrives_over_a_thin_lossy_line_while_live_payloads_stay_fast(seed: int) -> None:
    """At best the line would take 5 s; alone, live payloads take 25 ms, and arrive at the third tick of 16 ms."""
    pair, server, client = pair_of(DSL, seed)
    data = content(1 << 20)
    begin = pair.now_ns
    server.send(0, data, tag=7, now_ns=pair.now_ns)
    delays, progress = run_live(pair, server, 40)
    assert client.take_received() == [ReceivedBlock(0, 7, data)]
    assert (pair.now_ns - begin) / SECOND <= 10
    assert progress == sorted(progress) and len(set(progress)) > 50
    assert len(delays) >= 0.9 * (pair.now_ns - begin) / TICK  # but for 5 % loss and the queue's overflow
    assert np.median(delays) <= 64
    assert np.percentile(delays, 95) <= 130
    assert server.statistics()["chunks_sent"] <= 1.15 * 1024


def test_blocks_pass_in_both_directions_over_bad_radio() -> None:
    pair, server, client = pair_of(PROFILES["bad-wifi"], 4)
    down, up = content(300_000, 1), content(65_536, 2)
    server.send(0, down, tag=1, now_ns=pair.now_ns)
    client.send(0, up, tag=2, now_ns=pair.now_ns)
    pair.run(30, payloads=(live(pair), COMMAND))
    assert client.take_received() == [ReceivedBlock(0, 1, down)]
    assert server.take_received() == [ReceivedBlock(0, 2, up)]
    assert [entry.outcome for entry in server.take_finished() + client.take_finished()] == [Outcome.DELIVERED] * 2
    assert pair.ends[0].messages.count == pair.ends[1].messages.count == 0


def test_blocks_arrive_over_a_hostile_network() -> None:
    harsh = NetworkProfile(latency_ms=50, jitter_ms=25, loss=0.3, burst=2, duplicate=0.2, reorder=0.1)
    pair, server, client = pair_of(harsh, 5)
    blocks = [content(size, size) for size in (1, 1024, 40_001)]
    for tag, data in enumerate(blocks):
        server.send(0, data, tag=tag, now_ns=pair.now_ns)
    pair.run(60)
    received = {block.tag: block.content for block in client.take_received()}
    assert received == dict(enumerate(blocks))


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_a_third_of_loss_does_not_starve_a_block_beside_live_payloads(seed: int) -> None:
    """Live payloads alone are more than the least rate: reducing to it shows that the loss is not of our making."""
    harsh = NetworkProfile(latency_ms=50, jitter_ms=25, loss=0.3, burst=2, duplicate=0.2, reorder=0.1)
    pair, server, client = pair_of(harsh, seed)
    data = content(200_000)
    server.send(0, data, tag=1, now_ns=pair.now_ns)
    delays, _ = run_live(pair, server, 60)
    assert client.take_received() == [ReceivedBlock(0, 1, data)]
    assert np.percentile(delays, 95) <= 200


def test_what_the_server_does_not_take_is_refused_over_the_wire() -> None:
    pair, server, client = pair_of(NetworkProfile(latency_ms=20))
    number = client.send(0, content((64 << 10) + 1), tag=3, now_ns=pair.now_ns)
    pair.run(1)
    assert client.take_finished() == [FinishedBlock(number, 0, 3, Outcome.REFUSED, Answer.TOO_LARGE)]
    assert server.statistics()["receive_bytes"] == 0
    assert client.statistics()["chunks_sent"] == 0


def test_a_block_that_is_cancelled_ends_at_the_receiver() -> None:
    pair, server, client = pair_of(DSL)
    number = server.send(0, content(2 << 20), tag=3, now_ns=pair.now_ns)
    pair.run(2)
    assert client.progress()[0].done_bytes > 0
    server.cancel(number)
    pair.run(1)
    assert client.progress() == [] and client.statistics()["receive_bytes"] == 0
    sent = server.statistics()["chunks_sent"]
    pair.run(1)
    assert server.statistics()["chunks_sent"] == sent


def test_a_block_takes_no_more_than_the_rate_allows() -> None:
    limits = CongestionLimits(rate_start=64_000, rate_max=64_000)
    server, client = Blocks(1), Blocks(1)
    pair = Pair(NetworkProfile(latency_ms=20), congestion=limits, blocks=(server, client))
    server.send(0, content(1 << 20), tag=0, now_ns=pair.now_ns)
    pair.run(10)
    stored = client.statistics()["chunks_stored"]
    assert 0.85 * 600 <= stored <= 600  # 64,000 bytes a second are 60 chunks with their headers


def test_a_peer_that_is_opened_anew_begins_without_the_old_transfers() -> None:
    pair, server, client = pair_of(DSL)
    number = server.send(0, content(1 << 20), tag=0, now_ns=pair.now_ns)
    pair.run(2)
    for end in pair.ends:
        end.open([0], pair.now_ns)
    pair.links = tuple(Link(DSL, seed=seed) for seed in (1, 2))  # a new session cannot read what is on the way
    assert server.take_finished() == [FinishedBlock(number, 0, 0, Outcome.PEER_LEFT)]
    assert client.statistics()["receive_bytes"] == 0
    data = content(5_000)
    server.send(0, data, tag=1, now_ns=pair.now_ns)
    pair.run(3)
    assert client.take_received() == [ReceivedBlock(0, 1, data)]
