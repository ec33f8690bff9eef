"""Congestion control, judged in virtual time by what flows through a bottleneck get, and by how long packets wait."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.congestion import Congestion, CongestionLimits
from net.congestion_kernels import CAP, LOSS_DECREASES, RATE, TOKENS, on_ack, on_loss, on_send, refill
from net.errors import NetError
from tests.net.bottleneck import SECOND, Bottleneck, Flow, Kernels, Mixed, Path, jain

RATE_2_MBIT = 250_000.0


def run(
    flows: list[Flow], seconds: float, *, rate: float = RATE_2_MBIT, queue_s: float = 0.2, seed: int = 1
) -> Bottleneck:
    bottleneck = Bottleneck(flows, Kernels(len(flows)), rate=rate, queue_s=queue_s, seed=seed)
    bottleneck.run(seconds)
    return bottleneck


@pytest.mark.parametrize(
    ("flows", "rate", "fairness"),
    [
        ([Flow()], RATE_2_MBIT, 1.0),
        ([Flow(), Flow(start=3 * SECOND)], RATE_2_MBIT, 0.95),
        ([Flow(start=i * SECOND) for i in range(4)], RATE_2_MBIT, 0.95),
        ([Flow(start=i * SECOND // 2) for i in range(10)], 1_000_000.0, 0.95),
        ([Flow(path=Path(delay=delay)) for delay in (10_000, 25_000, 50_000, 100_000)], RATE_2_MBIT, 0.9),
    ],
    ids=["one", "two", "four", "ten", "four round trips"],
)
def test_flows_share_a_bottleneck_fairly_and_keep_its_queue_short(
    flows: list[Flow], rate: float, fairness: float
) -> None:
    bottleneck = run(flows, 30, rate=rate)
    assert jain(bottleneck.goodput(10, 30)) >= fairness - 1e-9
    assert bottleneck.utilisation(10, 30) >= 0.85
    assert bottleneck.queue_ms(10, 50) <= 25
    assert bottleneck.queue_ms(10, 95) <= 100
    assert bottleneck.loss(10) <= 0.01


def test_a_queue_too_short_to_be_seen_is_shared_by_its_losses() -> None:
    bottleneck = run([Flow() for _ in range(10)], 30, rate=1_000_000.0, queue_s=0.02)
    assert jain(bottleneck.goodput(10, 30)) >= 0.9
    assert bottleneck.utilisation(10, 30) >= 0.85
    assert bottleneck.loss(10) <= 0.06


def test_a_flow_that_joins_has_its_share_within_seconds() -> None:
    bottleneck = run([Flow(), Flow(start=15 * SECOND)], 30)
    assert bottleneck.goodput(10, 15)[0] >= 0.75 * RATE_2_MBIT
    assert bottleneck.goodput(18, 20)[1] >= 0.5 * RATE_2_MBIT / 2
    assert bottleneck.goodput(20, 30)[1] >= 0.65 * RATE_2_MBIT / 2


def test_flows_that_join_a_full_queue_do_not_take_it_for_the_path() -> None:
    """Four starts fill the link: who comes late has never seen it empty."""
    bottleneck = run([Flow(start=i * SECOND) for i in range(4)], 30)
    assert bottleneck.queue_ms(1, 90, until=6) > 150
    assert bottleneck.queue_ms(15, 99) <= 100


@pytest.mark.parametrize(("flows", "share"), [(4, 0.95), (10, 0.9)])
def test_flows_of_different_processes_are_fair_too(flows: int, share: float) -> None:
    clocks = [i * 1_234_567 % (5 * SECOND) for i in range(flows)]
    senders = [Flow(start=i * SECOND // 2) for i in range(flows)]
    bottleneck = Bottleneck(senders, Kernels(flows, clocks=clocks), rate=RATE_2_MBIT, queue_s=0.2, seed=2)
    bottleneck.run(30)
    assert jain(bottleneck.goodput(10, 30)) >= share
    assert bottleneck.utilisation(10, 30) >= 0.85
    assert bottleneck.loss(10) <= 0.02


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_loss_of_a_third_leaves_useful_progress(seed: int) -> None:
    bottleneck = run([Flow(path=Path(loss=0.3))], 30, seed=seed)
    assert bottleneck.goodput(20, 30)[0] >= 0.4 * RATE_2_MBIT
    assert bottleneck.goodput(0, 10)[0] >= 15_000


def test_loss_in_bursts_does_not_starve() -> None:
    bottleneck = run([Flow(path=Path(burst=(100_000, 2 * SECOND)))], 30)
    assert bottleneck.goodput(10, 30)[0] >= 0.3 * RATE_2_MBIT


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_and_loss_of_bad_radio_do_not_starve_a_game_stream(seed: int) -> None:
    flow = Flow(path=Path(delay=50_000, jitter=40_000, loss=0.05), game=500, bulk=False)
    bottleneck = Bottleneck([flow], Kernels(1), rate=RATE_2_MBIT, queue_s=0.2, seed=seed)
    rates = []
    for second in range(1, 31):
        bottleneck.run(second)
        rates.append(bottleneck.controller.rate(0))
    assert min(rates) >= 500 * 60  # what it sends


@pytest.mark.parametrize("queue_s", [0.1, 0.3])
def test_a_game_beside_a_download_that_fills_the_queue_keeps_its_rate(queue_s: float) -> None:
    flows = [Flow(game=200, bulk=False), Flow(start=3 * SECOND)]  # 12 kB/s
    bottleneck = Bottleneck(flows, Mixed(2), rate=RATE_2_MBIT, queue_s=queue_s, seed=1)
    rates = []
    for second in range(1, 41):
        bottleneck.run(second)
        rates.append(bottleneck.controller.rate(0))
    assert bottleneck.queue_ms(10, 90) >= 0.6 * queue_s * 1000  # the download does fill it
    assert np.median(rates[5:]) >= 200 * 60
    assert min(rates[5:]) >= 6_000


def test_an_application_that_uses_little_does_not_grow_without_bound() -> None:
    bottleneck = run([Flow(game=500, bulk=False)], 30, rate=10_000_000.0)
    assert bottleneck.controller.rate(0) == CongestionLimits().rate_start


def test_a_rate_that_is_used_grows_to_its_limit_and_no_further() -> None:
    kernels = Kernels(1, CongestionLimits(rate_max=800_000))
    bottleneck = Bottleneck([Flow()], kernels, rate=10_000_000.0, queue_s=0.2, seed=1)
    bottleneck.run(14)
    assert kernels.rate(0) == 800_000
    assert 0.85 * 800_000 <= bottleneck.goodput(6, 14)[0] <= 800_000  # with a pause or two


def test_an_idle_sender_begins_again_near_the_start_rate() -> None:
    kernels = Kernels(1)
    bottleneck = Bottleneck([Flow(stop=10 * SECOND)], kernels, rate=10_000_000.0, queue_s=0.2, seed=1)
    bottleneck.run(11)
    assert kernels.rate(0) == CongestionLimits().rate_max
    kernels.on_send(0, 100, 30 * SECOND)
    assert kernels.rate(0) == CongestionLimits().rate_start


def test_a_longer_route_is_not_taken_for_a_queue_for_ever() -> None:
    bottleneck = run([Flow(path=Path(step=(12 * SECOND, 80_000)))], 40)
    assert bottleneck.goodput(5, 12)[0] >= 0.7 * RATE_2_MBIT
    assert bottleneck.goodput(25, 40)[0] >= 0.7 * RATE_2_MBIT


def test_a_sender_recovers_from_an_outage() -> None:
    bottleneck = run([Flow(path=Path(burst=(3 * SECOND, 20 * SECOND)))], 40)  # 0–3, 20–23, 40 s
    rate = bottleneck.controller.rate(0)
    assert rate >= CongestionLimits().rate_min
    assert bottleneck.goodput(32, 40)[0] >= 0.6 * RATE_2_MBIT


def test_losses_that_were_a_mistake_are_taken_back() -> None:
    """A receiver that acknowledges late: every other packet counts as lost, and is acknowledged after all."""
    decreases = []
    for verdict in (-1, 0):
        congestion = Congestion(1)
        congestion.reset(0, 0)
        columns, now = congestion.columns, 0
        for _ in range(3000):
            now += 10_000
            on_send(columns, 0, 1000, now)
            on_ack(columns, 0, 1000, now - 50_000, now, 50_000)
            on_loss(columns, 0, 1000, now)
            on_ack(columns, 0, 1000, now - 100_000, now, verdict)
        decreases.append(columns[0, LOSS_DECREASES])
    assert decreases[0] == 0
    assert decreases[1] >= 3


def test_the_bucket_holds_a_burst_and_a_debt_at_most() -> None:
    congestion = Congestion(1)
    congestion.reset(0, 0)
    columns = congestion.columns
    assert refill(columns, 0, 0) == 2400
    for second in range(1, 4):
        assert refill(columns, 0, second * SECOND) == pytest.approx(64_000 * 0.06)
    for _ in range(1000):
        on_send(columns, 0, 1200, 3 * SECOND)
    assert columns[0, TOKENS] == -65_536
    assert refill(columns, 0, 3 * SECOND + 100_000) == pytest.approx(-65_536 + 6_400)


operations = st.lists(
    st.tuples(
        st.sampled_from(["send", "ack", "loss", "refill", "share"]), st.integers(1, 1200), st.integers(0, 400_000)
    ),
    max_size=300,
)


@settings(max_examples=60, deadline=None)
@given(operations=operations, rtt=st.integers(-5, 10**9))
def test_rates_stay_in_their_limits_whatever_comes(operations: list[tuple[str, int, int]], rtt: int) -> None:
    limits = CongestionLimits(total=50_000)
    congestion = Congestion(2, limits=limits)
    congestion.reset(0, 0)
    congestion.reset(1, 0)
    columns, now = congestion.columns, 0
    for what, size, elapsed in operations:
        now += elapsed
        if what == "send":
            on_send(columns, 0, size, now)
        elif what == "ack":
            on_ack(columns, 0, size, max(0, now - 100_000), now, rtt % (size * 1000) - 5)
        elif what == "loss":
            on_loss(columns, 0, size, now)
        elif what == "refill":
            assert -65_536 <= refill(columns, 0, now) <= 75_000
        else:
            congestion.share(now * 1000)
            assert congestion.rate.sum() <= limits.total * (1 + 1e-9)
        assert limits.rate_min <= columns[0, RATE] <= limits.rate_max
        assert math.isfinite(columns[0, TOKENS]) and not np.isnan(columns).any()


def filled(demands: list[float], total: float) -> list[float]:
    """Progressive filling, one demand at a time from the smallest."""
    granted, left = [0.0] * len(demands), total
    order = sorted(range(len(demands)), key=demands.__getitem__)
    for done, peer in enumerate(order):
        granted[peer] = min(demands[peer], left / (len(demands) - done))
        left -= granted[peer]
    return granted


@settings(max_examples=100, deadline=None)
@given(used=st.lists(st.integers(0, 400), min_size=1, max_size=40), total=st.floats(4_000, 3_000_000))
def test_the_total_is_shared_max_min_fair_by_what_is_used(used: list[int], total: float) -> None:
    congestion = Congestion(len(used) + 1, limits=CongestionLimits(rate_start=200_000, total=total))
    for peer, packets in enumerate(used):
        congestion.reset(peer, 0)
        for _ in range(packets):
            on_send(congestion.columns, peer, 1000, 1000)
    congestion.share(10 * 10**9)  # long since the last, so that the smoothed use is nearly the use
    columns = congestion.columns
    if 200_000 * len(used) <= total:
        assert (columns[:, CAP] == np.inf).all()
        assert congestion.level == np.inf
        return
    smoothing = 10.0 / (10.0 + 0.2)
    demands = [min(200_000.0, 2 * packets * 100 * smoothing + 4_000) for packets in used]
    spare = max(0.0, total - sum(demands)) / len(used)
    expected = [grant + spare for grant in filled(demands, total)]
    assert columns[: len(used), CAP] == pytest.approx(expected, rel=1e-6)
    assert columns[: len(used), CAP].sum() == pytest.approx(total, rel=1e-6)
    assert columns[-1, CAP] == np.inf  # not active


def test_the_total_cap_holds_over_many_flows() -> None:
    flows = [Flow(path=Path(delay=10_000 + 3_000 * i)) for i in range(8)]
    kernels = Kernels(8, CongestionLimits(total=300_000))
    bottleneck = Bottleneck(flows, kernels, rate=10_000_000.0, queue_s=0.2, seed=4)
    bottleneck.run(10)
    goodput = bottleneck.goodput(2, 10)
    assert 0.9 * 300_000 <= sum(goodput) <= 1.001 * 300_000  # what was in the buckets comes on top
    assert jain(goodput) >= 0.98


@pytest.mark.parametrize(
    "limits",
    [
        {"rate_min": 0.0},
        {"rate_min": 70_000.0},
        {"rate_max": 10_000.0},
        {"rate_max": math.inf},
        {"rate_start": math.nan},
        {"total": 3_999.0},
        {"total": math.nan},
    ],
)
def test_limits_that_contradict_each_other_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(NetError, match=next(iter(limits))):
        Congestion(1, limits=CongestionLimits(**limits))
    with pytest.raises(NetError, match="peers"):
        Congestion(0)


def test_statistics_count_what_was_decided() -> None:
    bottleneck = run([Flow(path=Path(loss=0.01))], 20)
    controller = bottleneck.controller
    assert isinstance(controller, Kernels)
    statistics = controller.congestion.statistics()
    assert statistics["decreases_for_delay"] >= 3
    assert statistics["lost_bytes"] > 0
