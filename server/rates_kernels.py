"""The kernel behind `server.rates`: whose snapshots come more rarely, because its path carries no more.

Judged once per window, by the snapshots that were due in it. One is poor if congestion control held it back, or left it
less than a third of what this client's snapshots usually take. More than a third of them poor: half the rate. None
poor, nor likely to be, for `WAIT` windows: twice the rate, up to what was asked for. Whoever falls back soon after
that waits twice as long before the next try, so that a path that never carries more is tried every half minute.
"""

from sim.arrays import I32, I64
from sim.jit import kernel

__all__ = [
    "CALM",
    "DUE",
    "FACTOR",
    "FACTOR_MAX",
    "HALVED",
    "NUMBERS",
    "POOR",
    "RESTORED",
    "SINCE",
    "USUAL",
    "WAIT",
    "WAIT_MAX",
    "WAIT_MIN",
    "adapt_rates",
    "start_rates",
]

# Rows of `numbers`, int64 (NUMBERS, clients).
FACTOR = 0  # how many times rarer than asked for snapshots come: 1, 2 or 4
DUE = 1  # snapshots in this window
POOR = 2  # of these
CALM = 3  # windows in a row without a poor one
WAIT = 4  # how many of them it takes to try more
SINCE = 5  # windows since the last try, NEVER where that has failed
USUAL = 6  # what snapshots take that are not bounded by the budget, smoothed [1/16 byte]
NUMBERS = 7

# Rows of `totals`.
HALVED = 0
RESTORED = 1

FACTOR_MAX = 4
WAIT_MIN = 4
WAIT_MAX = 32
NEVER = 2 * WAIT_MAX
POOR_SHARE = 3  # a third


@kernel("(i4[::1], i8[:,::1])")
def start_rates(clients: I32, numbers: I64) -> None:
    """Make clients new: the full rate, and nothing known."""
    for client in clients:
        for row in range(NUMBERS):
            numbers[row, client] = 0
        numbers[FACTOR, client] = 1
        numbers[WAIT, client] = WAIT_MIN
        numbers[SINCE, client] = NEVER


@kernel(counted=False)
def _note(client: int, budget: int, length: int, numbers: I64) -> None:
    """Take note of a snapshot that was due."""
    usual = numbers[USUAL, client]
    numbers[DUE, client] += 1
    if budget <= 0 or budget * POOR_SHARE * 16 < usual:
        numbers[POOR, client] += 1
    if 0 < length < budget:
        numbers[USUAL, client] += (16 * length - usual) // 8 if usual > 0 else 16 * length


@kernel(counted=False)
def _judge(client: int, numbers: I64, totals: I64) -> None:
    """End a window: half or double the rate, or neither."""
    due, poor = numbers[DUE, client], numbers[POOR, client]
    numbers[DUE, client] = 0
    numbers[POOR, client] = 0
    numbers[SINCE, client] = min(numbers[SINCE, client] + 1, NEVER)
    numbers[CALM, client] = numbers[CALM, client] + 1 if poor == 0 else 0
    if numbers[SINCE, client] == WAIT_MAX:
        numbers[WAIT, client] = WAIT_MIN  # the last try has held
    if poor * POOR_SHARE > due and numbers[FACTOR, client] < FACTOR_MAX:
        numbers[FACTOR, client] *= 2
        totals[HALVED] += 1
        if numbers[SINCE, client] < WAIT_MAX:
            numbers[WAIT, client] = min(2 * numbers[WAIT, client], WAIT_MAX)
        numbers[SINCE, client] = NEVER
    elif numbers[CALM, client] >= numbers[WAIT, client] and numbers[FACTOR, client] > 1:
        numbers[FACTOR, client] //= 2
        totals[RESTORED] += 1
        numbers[CALM, client] = 0
        numbers[SINCE, client] = 0


@kernel("(i8, i8, i8, i4[::1], i8[::1], i8[:], i4[::1], i8[:], i8[:,::1], i8[::1])")
def adapt_rates(
    tick: int, window: int, interval_max: int, rows: I32, asked: I64, budget: I64, length: I32, interval: I64,
    numbers: I64, totals: I64,
) -> None:  # fmt: skip
    """Learn from the snapshots of this tick, and say how many ticks lie between those to come.

    Args:
        tick: The tick just made.
        window: Ticks between two judgements of a client; clients take turns.
        interval_max: Most ticks between snapshots.
        rows: Player row of each client, −1 for none: these are left alone.
        asked: Ticks per snapshot that each client may have at best.
        budget: What each snapshot of this tick could take [bytes], 0 or less: it was held back.
        length: What it took [bytes].
        interval: Ticks per snapshot, as `Replication.encode` has used it; set for the next.
        numbers: Rows as named above.
        totals: Rows as named above.
    """
    for client in range(rows.shape[0]):
        if rows[client] < 0:
            continue
        if (client + tick) % max(int(interval[client]), 1) == 0:
            _note(client, int(budget[client]), int(length[client]), numbers)
        if (client + tick) % window == 0:
            _judge(client, numbers, totals)
        interval[client] = min(asked[client] * numbers[FACTOR, client], interval_max)
