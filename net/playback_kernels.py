"""The kernel behind `net.playback`: how far behind the present each client shows the others, from when snapshots come.

Times here are ticks of the client's own clock, from any origin. A snapshot of tick T that comes at t has the path
t − T; a moment m is shown at the lag t − m. While snapshot T is the newest, nothing can be interpolated beyond T; so
what the lag would have had to be, for a client that got its next snapshot now and made its last frame at p, is p − T.
The lag follows the `QUANTILE` of this need, whatever it consists of: the time between snapshots, jitter, lost
snapshots, a server that halves their rate, a client's own slow frames.

The quantile is followed by stochastic approximation (Robbins and Monro 1951): up by QUANTILE · gain where the need is
greater, else down by (1 − QUANTILE) · gain. From the second in a row on, the lag goes a quarter of the way up, so that
a path that has become longer is followed within a few snapshots and not within seconds.

A server that cannot keep its tick rate gives time up; then the path grows steadily. The moment runs as much slower as
ticks come: at nominal speed less 4 %, clients of a server at 50 instead of 60 ticks showed nothing but dead reckoning.

Rejected: mean and three standard deviations of the need. With jitter uniform in ± 30 ms it lags 25 ms more than any
snapshot needs, and with exponential jitter it is exceeded twice as often as with uniform.
"""

import math

from sim.arrays import F64, I64
from sim.jit import kernel

__all__ = [
    "CAPPED",
    "EXTRAPOLATED",
    "FRAMES",
    "JITTER",
    "JUMPS",
    "LAG",
    "MOMENT",
    "NEWEST",
    "NUMBERS",
    "PATH",
    "RATES",
    "SHOWN",
    "follow_snapshots",
]

# Rows of `numbers`, int64 (NUMBERS, clients).
NEWEST = 0  # tick of the newest snapshot, −1 before the first
SHORT = 1  # snapshots in a row that needed more lag than there was
FRAMES = 2  # shown since the first snapshot
EXTRAPOLATED = 3  # of these, later than the newest snapshot
JUMPS = 4
HEARD = 5  # snapshots learned from, up to FIRST_SNAPSHOTS
CAPPED = 6  # frames that showed a later moment, for the cap
NUMBERS = 7

# Rows of `rates`, float64 (RATES, clients).
MOMENT = 0  # what is to be shown [ticks of the server]
LAG = 1  # how far behind the client's clock it is to be [ticks]
PATH = 2  # mean of t − T [ticks]
JITTER = 3  # its variance, by differences of neighbours [ticks²]
LAST_PATH = 4
FRESH_PATH = 5  # as PATH, over a shorter time
SHOWN = 6  # what is shown: MOMENT, or as much later as the cap demands
RATES = 7

QUANTILE = 0.98
PATH_TICKS = 128.0  # over which the mean path is taken
FRESH_TICKS = 32.0
DRIFT_FREE = 0.03  # less of a drift is taken for none
DRIFT_MAX = 1.0
LOST_TICKS = 3.0  # so far beyond the newest snapshot all is dead reckoning, and better slow than wrong:
LOST_FACTOR = 3.0  # of the stretch, slower
JITTER_GAIN = 1.0 / 128.0
FIRST_SNAPSHOTS = 64  # are learned from FIRST_FACTOR times as quickly
FIRST_FACTOR = 8.0
FOLLOW = 1.0 / 15.0  # of an error per tick, up to the greatest stretch


@kernel(counted=False)
def _begin(client: int, time: float, tick: int, first_delay: float, numbers: I64, rates: F64) -> None:
    """Begin with a client's first snapshot; with one of an earlier tick (another server), begin anew."""
    rates[PATH, client] = rates[LAST_PATH, client] = rates[FRESH_PATH, client] = time - tick
    rates[JITTER, client] = 0.0
    rates[LAG, client] = time - tick + first_delay
    rates[MOMENT, client] = tick - first_delay
    numbers[NEWEST, client] = tick
    numbers[SHORT, client] = 0
    numbers[HEARD, client] = 0


@kernel(counted=False)
def _drift(client: int, rates: F64) -> float:
    """By how much each tick of the server takes longer than it should, because it is overloaded.

    A mean lags a steady drift by its time constant, two of them differ by the difference of theirs.
    """
    drift = (rates[FRESH_PATH, client] - rates[PATH, client]) / (PATH_TICKS - FRESH_TICKS)
    return min(drift, DRIFT_MAX) if drift > DRIFT_FREE else 0.0


@kernel(counted=False)
def _hear(
    client: int, time: float, before: float, tick: int, gain: float, delay_max: float, numbers: I64, rates: F64
) -> None:
    """Learn from the arrival of a snapshot."""
    path = time - tick
    step = path - rates[LAST_PATH, client]
    rates[LAST_PATH, client] = path
    rates[JITTER, client] += JITTER_GAIN * (0.5 * step * step - rates[JITTER, client])
    passed = float(tick - numbers[NEWEST, client])
    rates[PATH, client] += min(1.0, passed / PATH_TICKS) * (path - rates[PATH, client])
    rates[FRESH_PATH, client] += min(1.0, passed / FRESH_TICKS) * (path - rates[FRESH_PATH, client])
    if numbers[HEARD, client] < FIRST_SNAPSHOTS:
        numbers[HEARD, client] += 1
        gain *= FIRST_FACTOR
    rates[LAG, client] += passed * _drift(client, rates)
    short = before - numbers[NEWEST, client] - rates[LAG, client]
    if short > 0.0:
        numbers[SHORT, client] += 1
        rates[LAG, client] += QUANTILE * gain + (0.25 * short if numbers[SHORT, client] > 1 else 0.0)
    else:
        numbers[SHORT, client] = 0
        rates[LAG, client] -= (1.0 - QUANTILE) * gain
    rates[LAG, client] = min(rates[LAG, client], rates[FRESH_PATH, client] + delay_max)
    numbers[NEWEST, client] = tick


@kernel(counted=False)
def _show(client: int, tick: int, caps: tuple[F64, F64], numbers: I64, rates: F64) -> None:
    """Show the moment, or a later one that is not more than the cap before the client's clock."""
    earliest = caps[0][client] - caps[1][client]
    numbers[CAPPED, client] += 1 if earliest > rates[MOMENT, client] else 0
    rates[SHOWN, client] = max(rates[MOMENT, client], earliest)
    numbers[FRAMES, client] += 1
    numbers[EXTRAPOLATED, client] += 1 if rates[SHOWN, client] > tick else 0


@kernel("(f8, f8, UniTuple(f8, 5), i8[::1], UniTuple(f8[::1], 2), i8[:,::1], f8[:,::1])")
def follow_snapshots(
    time: float, elapsed: float, options: tuple[float, float, float, float, float], snapshot_tick: I64,
    caps: tuple[F64, F64], numbers: I64, rates: F64,
) -> None:  # fmt: skip
    """Take note of the snapshots that have come since the last frame, and move on what is shown.

    Args:
        time: Now [ticks of the client's clock].
        elapsed: Since the last call [ticks].
        options: Delay before anything is known; gain of the quantile; error from which the moment jumps; longest delay
            [ticks each]; greatest stretch of time [share].
        snapshot_tick: Tick of each client's newest snapshot, −1 for none.
        caps: Each client's clock; how far before it a moment may be [ticks each].
        numbers: Rows as named above.
        rates: Rows as named above.
    """
    first_delay, gain, jump, delay_max, stretch = options
    for client in range(numbers.shape[1]):
        tick = snapshot_tick[client]
        if tick < 0:
            numbers[NEWEST, client] = -1
            continue
        if numbers[NEWEST, client] < 0 or tick < numbers[NEWEST, client]:
            _begin(client, time, tick, first_delay, numbers, rates)
            rates[SHOWN, client] = max(rates[MOMENT, client], caps[0][client] - caps[1][client])
            continue
        if tick > numbers[NEWEST, client]:
            _hear(client, time, time - elapsed, tick, gain, delay_max, numbers, rates)
        speed = 1.0 / (1.0 + _drift(client, rates))
        error = time - rates[LAG, client] - rates[MOMENT, client] - speed * elapsed
        # While the lag still grows by the snapshot, a jump would only be the first of several.
        settled = numbers[SHORT, client] == 0 or math.fabs(error) > 2.0 * jump
        if math.fabs(error) > jump and settled:
            rates[MOMENT, client] += speed * elapsed + error
            numbers[JUMPS, client] += 1
        else:
            slower = stretch * (LOST_FACTOR if rates[MOMENT, client] > tick + LOST_TICKS else 1.0)
            follow = min(max(FOLLOW * error, -slower), stretch)
            rates[MOMENT, client] += elapsed * speed * (1.0 + follow)
        _show(client, tick, caps, numbers, rates)
