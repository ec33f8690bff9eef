"""Congestion control of every peer: how fast to send, decided once per round from what acknowledgements tell.

One row per peer of `CongestionColumns`, float64 (peers, COLUMNS), by the indices below; bytes, microseconds and bytes
per second. Times are int64 microseconds of one monotonic clock, which float64 holds exactly for 285 years.

The structure is that of Google congestion control (draft-ietf-rmcat-gcc-02): a delay part and a loss part each say
over-use or not; over-use sets the rate to 0.85 × what was delivered, otherwise it grows, fast until the first over-use
and then additively. Its signals are others, because a game sends few packets over bad radio links (docs/adr/0005):

- Queueing delay is the *least* round-trip time of a round above the least of ten seconds (Copa's standing delay, Arun
  and Balakrishnan 2018), since the least of several samples is deaf to jitter. What a burst of our own adds, half of it
  on average, is allowed for.
- Loss counts by how much it exceeds what is lost whatever the rate. That much is known when loss stays although the
  rate was reduced, several times, to less than half of what was delivered: an overflow would have gone away.
- A delay that stays likewise is no queue of ours: it is the new least.
- Below a quarter of the start rate delay says nothing, loss alone does: a game beside a download that fills the queue
  must not yield to it for ever, as LEDBAT does (RFC 6817).

Rounds in which the application uses less than 70 % of its rate never raise the rate.
"""

from typing import Final, TypeAlias

import numpy as np

from sim.arrays import F64, U8
from sim.jit import kernel

__all__ = [
    "BANDWIDTH",
    "BASE_RTT",
    "CAP",
    "COLUMNS",
    "DELAY_DECREASES",
    "FORGIVEN",
    "LOSS",
    "LOSS_BASE",
    "LOSS_DECREASES",
    "LOST_BYTES",
    "QUEUE",
    "RATE",
    "RATE_MAX",
    "RATE_MIN",
    "RATE_START",
    "TOKENS",
    "CongestionColumns",
    "on_ack",
    "on_loss",
    "on_send",
    "refill",
    "reset_peer",
    "share",
]

CongestionColumns: TypeAlias = F64

# Limits of the peer, which `reset_peer` keeps [bytes/s].
RATE_MIN: Final = 0
RATE_START: Final = 1
RATE_MAX: Final = 2
# What is decided.
RATE: Final = 3  # of the controller [bytes/s]
CAP: Final = 4  # of `share` [bytes/s]; infinite until it is called
TOKENS: Final = 5  # budget [bytes]; negative where more was sent than allowed
# What is known of the path.
BASE_RTT: Final = 6  # least round-trip time of the last 5–10 s [µs]; infinite before the first sample
QUEUE: Final = 7  # least round-trip time of the last round above that [µs]
BANDWIDTH: Final = 8  # acknowledged bytes per second, smoothed
LOSS: Final = 9  # share of packets lost in the last loss window
LOSS_BASE: Final = 10  # share of packets that is lost whatever the rate
# Counters.
DELAY_DECREASES: Final = 11
LOSS_DECREASES: Final = 12
FORGIVEN: Final = 13  # delays and losses that were taken for the path's own
LOST_BYTES: Final = 14
# The bucket and the sender.
_FILLED_AT: Final = 15
_SENT_AT: Final = 16
_BURST: Final = 17  # bytes sent at that moment
_USED_BYTES: Final = 18  # sent since `share` last looked
_USED: Final = 19  # bytes per second, smoothed
_DEMAND: Final = 20  # what `share` takes the peer to want [bytes/s]
_SHARED_AT: Final = 21
# Round-trip times [µs].
_SRTT: Final = 22
_RTT_BEFORE: Final = 23  # the last sample
_JITTER: Final = 24  # mean change from sample to sample
_BASE_NOW: Final = 25  # least of the present window
_BASE_BEFORE: Final = 26  # least of the one before
_BASE_AT: Final = 27  # when the present one began
_FLOOR: Final = 28  # least of the last round
_NOISE: Final = 29  # mean change of that from round to round
_CROWDED: Final = 30  # the queue as a share of the queue that is allowed
# The round.
_ROUND_AT: Final = 31  # when it began; in the future while the effect of a decision is awaited
_ROUND_SENT: Final = 32
_ROUND_ACKS: Final = 33
_ROUND_SAMPLES: Final = 34
_ROUND_FLOOR: Final = 35
_ROUND_BURST: Final = 36  # most bytes sent at one moment
# Loss windows and delivered bytes.
_LOSS_ACKED: Final = 37
_LOSS_LOST: Final = 38
_LOSS_AT: Final = 39  # when the last window ended
_FLOW_AT: Final = 40  # when the bandwidth's interval began
_FLOW_BYTES: Final = 41
_PEAK: Final = 42  # the bandwidth, slow to forget
# Decisions.
_STARTUP: Final = 43  # 1 before the first decrease
_REDUCED_AT: Final = 44
_REDUCED_BY: Final = 45  # the least delay [µs] or loss of a series of decreases for one reason
_REDUCED_TIMES: Final = 46  # how many they are; negative while they are for loss
_REDUCED_FROM: Final = 47  # what was delivered before the first of them
_PAUSED_UNTIL: Final = 48
_PAUSE_PERIOD: Final = 49  # the last period that was looked at
_CONFIRMED_AT: Final = 50  # when a queue of our own was last seen to go away
_ACKED_AT: Final = 51  # when anything was acknowledged last
_SILENT_LOST: Final = 52  # packets lost since
COLUMNS: Final = 53

_SECOND: Final = 1e6
_BURST_MIN, _BURST_MAX, _BURST_US = 2_400.0, 65_536.0, 60_000.0  # a tick at 20 Hz, and a little
_BASE_US = 5e6
# A round lasts half a round trip and 50 ms, until it has samples enough: more of them the more they jump.
_ROUND_US, _ROUND_US_LONG, _WAIT_US_MAX = 50_000.0, 300_000.0, 1e6
_SAMPLES, _SAMPLES_MOST, _SAMPLE_US = 3.0, 10.0, 4_000.0
# The queue that is allowed; less than half of it leaves room for more.
_QUEUE_US, _NOISE_TIMES, _NOISE_US_MAX, _ROOM = 12_000.0, 1.5, 20_000.0, 0.5
_FLOW_US, _FLOW_SMOOTH_US, _PEAK_US = 100_000.0, 250_000.0, 3e6
_LOSS_PACKETS, _LOSS_PACKETS_LEAST, _LOSS_SMOOTH_US = 40.0, 16.0, 10e6
_LOSS_MARGIN, _LOSS_MARGIN_QUEUED = 0.10, 0.03  # the latter where the delay says queue as well
_USED_SHARE = 0.7
_BETA, _REDUCE_MOST, _REDUCE_IDLE = 0.85, 0.5, 0.75
_STARTUP_GAIN = 1.5
# Additive: bytes per second, per second; but no larger a share of the rate per second, where a queue stands less.
_GROWTH, _GROWTH_MOST, _GROWTH_CROWDED = 15_000.0, 0.5, 0.2
_IDLE_US = 1e6
_STANDING_TIMES, _DELAY_STANDS, _LOSS_STANDS = 3.0, 0.8, 0.5
_YIELD_SHARE = 0.25
_SILENT_PACKETS, _SILENT_US = 3.0, 400_000.0
_SHARE_SMOOTH_US = 200_000.0
_SHARE_ROUNDS = 32
_PAUSE_EVERY_US, _PAUSE_US, _PAUSE_SHARE = 5e6, 250_000.0, 0.2


@kernel(counted=False)
def reset_peer(c: CongestionColumns, peer: int, now_us: int) -> None:
    """Make a peer new: the start rate, a full bucket, nothing known of the path; its limits and its cap stay."""
    for column in range(RATE, COLUMNS):
        if column != CAP:
            c[peer, column] = 0.0
    c[peer, RATE] = c[peer, RATE_START]
    c[peer, TOKENS] = _BURST_MIN
    c[peer, _FILLED_AT] = now_us
    c[peer, _SENT_AT] = now_us
    c[peer, _ROUND_AT] = now_us
    c[peer, _FLOW_AT] = now_us
    c[peer, _BASE_AT] = now_us
    c[peer, _REDUCED_AT] = now_us
    c[peer, _SHARED_AT] = now_us
    c[peer, _LOSS_AT] = now_us
    c[peer, _ACKED_AT] = now_us
    for column in (BASE_RTT, _BASE_NOW, _BASE_BEFORE, _FLOOR, _ROUND_FLOOR):
        c[peer, column] = np.inf
    c[peer, _STARTUP] = 1.0
    c[peer, _PAUSE_PERIOD] = np.floor(now_us / _PAUSE_EVERY_US)
    c[peer, _CONFIRMED_AT] = -_SECOND * _SECOND


@kernel(counted=False)
def _begin_round(c: CongestionColumns, peer: int, begin_us: float) -> None:
    """Start measuring at a time, now or later."""
    c[peer, _ROUND_AT] = begin_us
    c[peer, _ROUND_SENT] = 0.0
    c[peer, _ROUND_ACKS] = 0.0
    c[peer, _ROUND_SAMPLES] = 0.0
    c[peer, _ROUND_FLOOR] = np.inf
    c[peer, _ROUND_BURST] = 0.0


@kernel(counted=False)
def refill(c: CongestionColumns, peer: int, now_us: int) -> float:
    """Let the token bucket fill up to now.

    Returns:
        Budget [bytes]: what may be sent at once. 0 or negative: nothing but what must not wait.
    """
    rate = min(c[peer, RATE], c[peer, CAP])
    if now_us < c[peer, _PAUSED_UNTIL]:
        rate = max(_PAUSE_SHARE * rate, c[peer, RATE_MIN])
    burst = min(max(rate * (_BURST_US / _SECOND), _BURST_MIN), _BURST_MAX)
    elapsed = max(0.0, now_us - c[peer, _FILLED_AT])
    c[peer, TOKENS] = min(burst, c[peer, TOKENS] + rate * elapsed / _SECOND)
    c[peer, _FILLED_AT] = now_us
    return float(c[peer, TOKENS])


@kernel(counted=False)
def on_send(c: CongestionColumns, peer: int, size: int, now_us: int) -> None:
    """Note one packet of `size` bytes that leaves now, and take it from the bucket.

    The bucket goes into debt where the caller sends without budget, by no more than the largest burst.
    """
    idle = now_us - c[peer, _SENT_AT]
    if idle > _IDLE_US:
        kept = c[peer, RATE] * 0.5 ** (idle / (2.0 * _SECOND))
        c[peer, RATE] = max(min(c[peer, RATE], c[peer, RATE_START]), kept)
        _begin_round(c, peer, float(now_us))
    c[peer, TOKENS] = max(c[peer, TOKENS] - size, -_BURST_MAX)
    c[peer, _USED_BYTES] += size
    c[peer, _BURST] = size + (c[peer, _BURST] if now_us == c[peer, _SENT_AT] else 0.0)
    c[peer, _SENT_AT] = now_us
    if now_us >= c[peer, _ROUND_AT]:
        c[peer, _ROUND_SENT] += size
        c[peer, _ROUND_BURST] = max(c[peer, _ROUND_BURST], c[peer, _BURST])


@kernel(counted=False)
def _note_rtt(c: CongestionColumns, peer: int, rtt: float, fresh: bool, now: float) -> None:
    """Take one sample into the smoothed and the least round-trip time, and where it is fresh into the round's."""
    if c[peer, _RTT_BEFORE] > 0.0:
        c[peer, _JITTER] += (abs(rtt - c[peer, _RTT_BEFORE]) - c[peer, _JITTER]) * 0.0625
    c[peer, _RTT_BEFORE] = rtt
    c[peer, _SRTT] += (rtt - c[peer, _SRTT]) * (0.125 if c[peer, _SRTT] > 0.0 else 1.0)
    if now - c[peer, _BASE_AT] > _BASE_US:
        c[peer, _BASE_AT] = now
        c[peer, _BASE_BEFORE] = c[peer, _BASE_NOW]
        c[peer, _BASE_NOW] = np.inf
    c[peer, _BASE_NOW] = min(c[peer, _BASE_NOW], rtt)
    c[peer, BASE_RTT] = min(c[peer, _BASE_NOW], c[peer, _BASE_BEFORE])
    if fresh:
        c[peer, _ROUND_SAMPLES] += 1.0
        c[peer, _ROUND_FLOOR] = min(c[peer, _ROUND_FLOOR], rtt)


@kernel(counted=False)
def _note_flow(c: CongestionColumns, peer: int, now: float) -> None:
    """Smooth the delivered bytes per second, over intervals long enough to hold several acknowledgements."""
    elapsed = now - c[peer, _FLOW_AT]
    if elapsed >= _FLOW_US:
        sample = c[peer, _FLOW_BYTES] * _SECOND / elapsed
        weight = elapsed / (_FLOW_SMOOTH_US + elapsed) if c[peer, BANDWIDTH] > 0.0 else 1.0
        c[peer, BANDWIDTH] += (sample - c[peer, BANDWIDTH]) * weight
        c[peer, _PEAK] *= max(0.0, 1.0 - elapsed / _PEAK_US)
        c[peer, _PEAK] = max(c[peer, _PEAK], c[peer, BANDWIDTH])
        c[peer, _FLOW_AT] = now
        c[peer, _FLOW_BYTES] = 0.0


@kernel(counted=False)
def _reduce(c: CongestionColumns, peer: int, now: float, strength: float, sign: float) -> None:
    """Reduce the rate to what the path delivered, and note why.

    Args:
        strength: The delay [µs] or the loss that this is for.
        sign: +1 for delay, −1 for loss.
    """
    rate = c[peer, RATE]
    series = c[peer, _REDUCED_TIMES] * sign
    crowded = sign > 0.0 or c[peer, _CROWDED] > _ROOM
    bandwidth = c[peer, BANDWIDTH] if crowded else c[peer, _PEAK]
    if series <= 0.0 or strength < (_DELAY_STANDS if sign > 0.0 else _LOSS_STANDS) * c[peer, _REDUCED_BY]:
        series = 0.0
        c[peer, _REDUCED_BY] = strength
        c[peer, _REDUCED_FROM] = min(rate, bandwidth)
    c[peer, _REDUCED_BY] = min(c[peer, _REDUCED_BY], strength)
    c[peer, _REDUCED_TIMES] = (series + 1.0) * sign
    used = c[peer, _ROUND_SENT] >= _USED_SHARE * rate * (now - c[peer, _ROUND_AT]) / _SECOND
    least = _REDUCE_MOST if used else _REDUCE_IDLE
    least_rate = _YIELD_SHARE * c[peer, RATE_START] if sign > 0.0 else 0.0
    c[peer, RATE] = max(c[peer, RATE_MIN], least_rate, rate * min(_BETA, max(least, _BETA * bandwidth / rate)))
    c[peer, _STARTUP] = 0.0
    c[peer, _REDUCED_AT] = now
    c[peer, _LOSS_ACKED] = 0.0
    c[peer, _LOSS_LOST] = 0.0


@kernel(counted=False)
def _stands(c: CongestionColumns, peer: int, strength: float, sign: float) -> bool:
    """Whether a delay or a loss did not change although the rate was reduced well below what was delivered before.

    At the least rate that is as far as reducing goes, and what must not wait may be more than that: enough evidence.
    """
    return bool(
        c[peer, _REDUCED_TIMES] * sign >= _STANDING_TIMES
        and strength >= (_DELAY_STANDS if sign > 0.0 else _LOSS_STANDS) * c[peer, _REDUCED_BY]
        and c[peer, RATE] <= max(0.5 * c[peer, _REDUCED_FROM], c[peer, RATE_MIN])
    )


@kernel(counted=False)
def _judge_loss(c: CongestionColumns, peer: int, now: float) -> bool:
    """Whether the loss window is full and says over-use; the rate is then reduced already."""
    packets, base = c[peer, _LOSS_ACKED] + c[peer, _LOSS_LOST], c[peer, LOSS_BASE]
    modest = c[peer, RATE] <= _YIELD_SHARE * c[peer, RATE_START]
    margin = _LOSS_MARGIN if modest or c[peer, _CROWDED] <= _ROOM else _LOSS_MARGIN_QUEUED
    limit = base + margin + 2.0 * np.sqrt(base * (1.0 - base) / _LOSS_PACKETS)
    if packets < _LOSS_PACKETS_LEAST or (packets < _LOSS_PACKETS and c[peer, _LOSS_LOST] <= limit * _LOSS_PACKETS):
        return False
    loss = c[peer, _LOSS_LOST] / packets
    c[peer, LOSS] = loss
    c[peer, _LOSS_ACKED] = 0.0
    c[peer, _LOSS_LOST] = 0.0
    elapsed = now - c[peer, _LOSS_AT]
    c[peer, _LOSS_AT] = now
    standing = _stands(c, peer, float(loss), -1.0)
    if standing:
        c[peer, FORGIVEN] += 1.0
        c[peer, LOSS_BASE] = loss
    if standing or loss <= limit:
        c[peer, LOSS_BASE] += (loss - c[peer, LOSS_BASE]) * elapsed / (_LOSS_SMOOTH_US + elapsed)
        c[peer, _REDUCED_TIMES] = max(c[peer, _REDUCED_TIMES], 0.0)
        return False
    c[peer, LOSS_DECREASES] += 1.0
    _reduce(c, peer, now, float(loss), -1.0)
    return True


@kernel(counted=False)
def _judge_delay(c: CongestionColumns, peer: int, now: float) -> int:
    """What the round's least delay says: 1 over-use, the rate is reduced already; 0 hold; −1 there is room."""
    floor = c[peer, _ROUND_FLOOR]
    if floor == np.inf:
        return 0
    if c[peer, _FLOOR] != np.inf:
        c[peer, _NOISE] += (abs(floor - c[peer, _FLOOR]) - c[peer, _NOISE]) * 0.125
    c[peer, _FLOOR] = floor
    before = c[peer, QUEUE]
    queue = floor - c[peer, BASE_RTT]
    c[peer, QUEUE] = queue
    burst = min(c[peer, _ROUND_BURST] * _SECOND / max(c[peer, BANDWIDTH], c[peer, RATE_MIN]), _BURST_US)
    limit = _QUEUE_US + 0.5 * burst + min(_NOISE_TIMES * c[peer, _NOISE], _NOISE_US_MAX)
    c[peer, _CROWDED] = queue / limit
    if queue <= limit:
        if c[peer, _REDUCED_TIMES] > 0.0:
            c[peer, _REDUCED_TIMES] = 0.0
            c[peer, _CONFIRMED_AT] = now
        return -1 if queue <= _ROOM * limit else 0
    if c[peer, RATE] <= max(_YIELD_SHARE * c[peer, RATE_START], c[peer, RATE_MIN]):
        return -1
    if c[peer, _REDUCED_TIMES] > 0.0 and queue < 0.8 * before:
        return 0  # it drains
    if _stands(c, peer, float(queue), 1.0):
        c[peer, FORGIVEN] += 1.0
        c[peer, _REDUCED_TIMES] = 0.0
        c[peer, _BASE_NOW] = floor
        c[peer, _BASE_BEFORE] = np.inf
        c[peer, BASE_RTT] = floor
        return 0
    c[peer, DELAY_DECREASES] += 1.0
    _reduce(c, peer, now, float(queue), 1.0)
    return 1


@kernel(counted=False)
def _increase(c: CongestionColumns, peer: int, elapsed: float, now: float) -> float:
    """Raise the rate where it was used; returns how long its effect takes to be seen [µs]."""
    rate = c[peer, RATE]
    if c[peer, _ROUND_SENT] < _USED_SHARE * rate * elapsed / _SECOND:
        return 0.0
    if c[peer, _STARTUP] > 0.0:
        most = max(rate, 2.0 * c[peer, BANDWIDTH])
        c[peer, RATE] = min(rate * _STARTUP_GAIN, most, c[peer, RATE_MAX])
        return float(c[peer, _SRTT])
    packets = c[peer, _LOSS_ACKED] + c[peer, _LOSS_LOST]
    if c[peer, _REDUCED_TIMES] < 0.0:
        return 0.0  # whether that helped must be known first
    if c[peer, _LOSS_LOST] > 2.0 + 1.5 * c[peer, LOSS_BASE] * packets:
        return 0.0
    since = min((now - c[peer, _REDUCED_AT]) / _SECOND, 8.0)
    most = _GROWTH_MOST if c[peer, _CROWDED] <= 1.0 else _GROWTH_CROWDED
    growth = min(_GROWTH / rate * (1.0 + since), most) * elapsed / _SECOND
    c[peer, RATE] = min(rate * (1.0 + growth), c[peer, RATE_MAX])
    return 0.0


@kernel(counted=False)
def _pause_due(c: CongestionColumns, peer: int, used: bool, now: float) -> bool:
    """Whether to send little for a moment, so that the path shows its delay without a queue.

    A flow that joins when a queue is full takes the full queue for the path. It never sees itself make a queue that
    goes away again; a flow that has seen that needs no pause (as BBR's ProbeRTT, and LEDBAT++'s slowdown). Pauses begin
    at the same moments for all flows of this process, which are the ones most likely to share a bottleneck.
    """
    period = np.floor(now / _PAUSE_EVERY_US)
    due = period > c[peer, _PAUSE_PERIOD] and used and now - c[peer, _CONFIRMED_AT] > 2.0 * _PAUSE_EVERY_US
    c[peer, _PAUSE_PERIOD] = max(c[peer, _PAUSE_PERIOD], period)
    return bool(due)


@kernel(counted=False)
def _decide(c: CongestionColumns, peer: int, now: float) -> None:
    """End the round where it has told enough, and set the rate."""
    elapsed = now - c[peer, _ROUND_AT]
    if elapsed < max(_ROUND_US, 0.5 * c[peer, _SRTT]):
        return
    needed = min(_SAMPLES + c[peer, _JITTER] / _SAMPLE_US, _SAMPLES_MOST)
    if c[peer, _ROUND_SAMPLES] < needed and elapsed < max(_ROUND_US_LONG, 1.5 * c[peer, _SRTT]):
        return
    wait = 0.0
    used = c[peer, _ROUND_SENT] >= _USED_SHARE * c[peer, RATE] * elapsed / _SECOND
    if _pause_due(c, peer, bool(used), now):
        wait = _PAUSE_US + min(c[peer, _SRTT], _PAUSE_US)
        c[peer, _PAUSED_UNTIL] = now + wait
        wait += c[peer, _SRTT]
    else:
        loss_over = _judge_loss(c, peer, now)
        delay = 0 if loss_over else _judge_delay(c, peer, now)
        if loss_over or delay > 0:
            wait = 1.25 * c[peer, _SRTT]
        elif delay < 0:
            wait = _increase(c, peer, float(elapsed), now)
    _begin_round(c, peer, now + min(wait, _WAIT_US_MAX))


@kernel(counted=False)
def on_ack(c: CongestionColumns, peer: int, size: int, sent_us: int, now_us: int, rtt_us: int) -> None:
    """Note one packet that was newly acknowledged, once per packet.

    Args:
        c: Columns.
        peer: Whose.
        size: Bytes of the packet.
        sent_us: When it was sent, on the clock of `now_us`.
        now_us: When the acknowledgement arrived.
        rtt_us: Round-trip time without the peer's delay, for the newest packet of an acknowledgement; 0 where there is
            no sample; −1 where the packet had been declared lost by mistake, which is then taken back.
    """
    now = float(now_us)
    c[peer, _FLOW_BYTES] += size
    if rtt_us < 0:
        c[peer, _LOSS_LOST] = max(0.0, c[peer, _LOSS_LOST] - 1.0)
    # What was sent before the last decrease says nothing of its effect.
    fresh = now >= c[peer, _ROUND_AT] and sent_us >= c[peer, _REDUCED_AT]
    c[peer, _ACKED_AT] = now
    c[peer, _SILENT_LOST] = 0.0
    if rtt_us > 0:
        _note_rtt(c, peer, float(rtt_us), bool(fresh), now)
    _note_flow(c, peer, now)
    if fresh:
        c[peer, _ROUND_ACKS] += 1.0
        c[peer, _LOSS_ACKED] += 1.0
        _decide(c, peer, now)


@kernel(counted=False)
def on_loss(c: CongestionColumns, peer: int, size: int, now_us: int) -> None:
    """Note one packet of `size` bytes that was declared lost; a late acknowledgement of it may still follow."""
    now = float(now_us)
    c[peer, LOST_BYTES] += size
    c[peer, _SILENT_LOST] += 1.0
    if c[peer, _ROUND_ACKS] > 0.0:
        c[peer, _LOSS_LOST] += 1.0
        _decide(c, peer, now)
    elif c[peer, _SILENT_LOST] >= _SILENT_PACKETS and now - c[peer, _ACKED_AT] > max(_SILENT_US, 3.0 * c[peer, _SRTT]):
        c[peer, LOSS] = 1.0
        c[peer, _ACKED_AT] = now
        c[peer, LOSS_DECREASES] += 1.0
        _reduce(c, peer, now, 1.0, -1.0)
        _begin_round(c, peer, now)


@kernel(counted=False)
def _water_level(c: CongestionColumns, active: U8, total: float, count: int) -> float:
    """The level to which everybody's demand can be met out of `total`, raised from below; infinite where all can."""
    level = total / count
    for _ in range(_SHARE_ROUNDS):
        met, over = 0.0, 0
        for peer in range(active.shape[0]):
            if active[peer]:
                if c[peer, _DEMAND] > level:
                    over += 1
                else:
                    met += c[peer, _DEMAND]
        if over == 0:
            return np.inf
        raised = (total - met) / over
        if raised <= level * 1.000001:
            break
        level = raised
    return level


@kernel("(f8[:,::1], u1[::1], f8, i8)", counted=False)
def share(c: CongestionColumns, active: U8, total: float, now_us: int) -> float:
    """Set the cap of every active peer so that all together stay below `total`, max-min fair by what they use.

    Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): who wants less than an equal part gets what it
    wants, the others share the rest equally. Nothing is capped while all rates together fit. A peer is taken to want
    twice what it used of late; what nobody wants is spread, so that one that begins to use its cap finds room at once.

    Args:
        c: Columns.
        active: 1 where a peer counts, uint8 (peers,).
        total: Of all peers [bytes/s].
        now_us: Time now.

    Returns:
        The level at which caps are cut [bytes/s]; infinite where none is.
    """
    wanted, demanded, count = 0.0, 0.0, 0
    for peer in range(active.shape[0]):
        if active[peer]:
            elapsed = now_us - c[peer, _SHARED_AT]
            if elapsed > 0.0:
                used = c[peer, _USED_BYTES] * _SECOND / elapsed
                c[peer, _USED] += (used - c[peer, _USED]) * (elapsed / (_SHARE_SMOOTH_US + elapsed))
                c[peer, _USED_BYTES] = 0.0
                c[peer, _SHARED_AT] = now_us
            c[peer, _DEMAND] = min(c[peer, RATE], 2.0 * c[peer, _USED] + c[peer, RATE_MIN])
            wanted += c[peer, RATE]
            demanded += c[peer, _DEMAND]
            count += 1
    level = np.inf if wanted <= total else _water_level(c, active, total, count)
    spare = np.inf if wanted <= total else max(0.0, total - demanded) / count
    for peer in range(active.shape[0]):
        if active[peer]:
            c[peer, CAP] = min(c[peer, _DEMAND], level) + spare
    return float(level)
