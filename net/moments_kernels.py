"""Which moment of the others a client showed: what it says, against what the server derives by itself.

A command says how far before its newest input the client showed the others: its age, in ticks; the moment is input
tick − age. The server trusts it no further than what it has measured:

    lead      how early the command came (`net.inputs_kernels`)
    lag       how far before the arrival of its commands a client must show the others to have a snapshot on either
              side: the 98 % quantile of the need, as clients find it themselves (`net.playback_kernels`), taken here
              from acknowledgements. While snapshot A was the newest acknowledged, nothing later could be interpolated;
              so the need is the time from A's tick to the last command before one that acknowledged a newer snapshot.
              A need beyond round trip + 4 deviations + NEED_INTERVALS snapshots + 1 tick is taken for just that: who
              withholds acknowledgements gains no more. The round trip is the smaller one of what acknowledged
              snapshots show and what the endpoint has measured of all packets.
    estimate  lead + lag: the age of a client that says nothing
    bound     max(lead, mean lead) + lag + SLACK_TICKS: no honest age is greater. The mean, because a command that was
              delayed says little about when it was made. At first more, as long as both sides still learn.

A claim is taken as it is when it is within the bound (else it is of the PAST), not later than the present, nor than the
newest acknowledged snapshot and the longest extrapolation (else of the FUTURE), and near the client's own recent age
(else a JUMP), which may change by FOLLOW per tick, as stretched time does, and by JUMP_TICKS at once. A moment that is
as late as the cap on rewinding demands is never of the future. Whose claim is refused, or who makes none, is judged by
its recent age where that is within the bounds, else by the estimate. A new age that is held for SETTLE_CLAIMS is
believed: clocks do jump, once, and more often before the first FIRST_SNAPSHOTS. What all this prevents is to choose
the age by the shot.
"""

import math

from sim.arrays import F64
from sim.jit import kernel

__all__ = [
    "BOUND",
    "CLAIMED",
    "ESTIMATE",
    "FINE",
    "FUTURE",
    "GIVEN",
    "JUMP",
    "LAG",
    "NO_VIEW",
    "OTHER",
    "PAST",
    "PATH_RTT",
    "RECENT",
    "SETTLE_CLAIMS",
    "VIEWS",
    "VIEW_STEPS",
    "judge_view",
    "note_need",
]

NO_VIEW = 65535  # on the wire: shows nothing that it knows
VIEW_STEPS = 256  # of a tick: the unit on the wire, and in the world
AGE_MAX = NO_VIEW - 1

# Rows of `views`, float64 (VIEWS, clients); ages in ticks.
LAG = 0  # 0 before the first acknowledgement
SHORT = 1  # snapshots in a row that needed more lag
HEARD = 2  # snapshots learned from, up to FIRST_SNAPSHOTS
RECENT = 3  # the client's recent age, −1 for none
OTHER = 4  # an age far from it that the client claims now, −1 for none
OTHER_CLAIMS = 5  # how often in a row
LAST_INPUT = 6  # newest input tick of a command with a claim
CLAIMED = 7  # what was claimed last, −1: nothing was
ESTIMATE = 8  # what was derived then
BOUND = 9  # the greatest age that was thought possible then
GIVEN = 10  # the age that the inputs of that command got
PATH_RTT = 11  # round trip as the endpoint has it [ns], 0: not known
VIEWS = 12

# What becomes of a claim.
FINE, FUTURE, PAST, JUMP = -1, 0, 1, 2

QUANTILE = 0.98
FIRST_SNAPSHOTS = 64
FIRST_FACTOR = 8.0
NEED_INTERVALS = 3.0
SLACK_TICKS = 2.5
DELAYED_TICKS_MAX = 6.0  # by which a command may have come later than usual
PRESENT_SLACK = 0.5
JUMP_TICKS = 2.0  # whole ticks of input against frames of any length: one tick; and as much again
FOLLOW = 0.2  # ticks of age per tick: 12 % of stretched time where nothing comes, 3 % of the client's clock, and room
FOLLOW_TICKS_MAX = 15.0
SETTLE_CLAIMS = 15.0


@kernel(counted=False)
def note_need(
    client: int, need: float, passed: float, trip: float, interval: float, options: tuple[float, float, float, float],
    views: F64,
) -> None:  # fmt: skip
    """Learn a client's lag from a newly acknowledged snapshot.

    Args:
        client: Whose.
        need: From the tick of the newest snapshot acknowledged until now to the last command [ticks].
        passed: From that tick to the newly acknowledged one's [ticks].
        trip: Round trip and four deviations [ticks].
        interval: Between snapshots [ticks].
        options: Delay that clients begin with, gain of the quantile, longest extrapolation, cap [ticks each].
        views: Rows as named above.
    """
    need = max(0.0, min(need, trip + NEED_INTERVALS * interval + 1.0))
    gain = options[1]
    if views[LAG, client] <= 0.0:
        views[LAG, client] = need + options[0]
        return
    if views[HEARD, client] < FIRST_SNAPSHOTS:
        views[HEARD, client] += 1.0
        gain *= FIRST_FACTOR
    short = need - views[LAG, client]
    if short > 0.0:
        views[SHORT, client] += 1.0
        views[LAG, client] += QUANTILE * gain + (0.25 * short if views[SHORT, client] > 1.0 else 0.0)
    else:
        views[SHORT, client] = 0.0
        # For each snapshot that was sent meanwhile: acknowledging fewer must not keep what was learned for longer.
        views[LAG, client] = max(1.0, views[LAG, client] - (1.0 - QUANTILE) * gain * max(1.0, passed / interval))


@kernel(counted=False)
def _near(client: int, claimed: float, elapsed: float, views: F64) -> bool:
    """Whether an age goes on from the client's recent one, or has been held for long enough to be its new one."""
    recent = views[RECENT, client]
    follow = FOLLOW * min(max(elapsed, 0.0), FOLLOW_TICKS_MAX)
    if recent < 0.0 or views[HEARD, client] < FIRST_SNAPSHOTS:
        # Clocks find their place within the first second, and jump for it.
        views[RECENT, client] = claimed
    elif abs(claimed - recent) <= JUMP_TICKS + follow:
        views[RECENT, client] += min(max(claimed - recent, -follow), follow)
    else:
        if views[OTHER, client] < 0.0 or abs(claimed - views[OTHER, client]) > JUMP_TICKS:
            views[OTHER, client] = claimed
            views[OTHER_CLAIMS, client] = 0.0
        elif elapsed > 0.0:
            views[OTHER_CLAIMS, client] += 1.0
        if views[OTHER_CLAIMS, client] < SETTLE_CLAIMS:
            return False
        views[RECENT, client] = claimed
    views[OTHER, client] = -1.0
    return True


@kernel(counted=False)
def judge_view(
    client: int, newest: int, view: int, lead: float, mean_lead: float, acked: int,
    options: tuple[float, float, float, float], views: F64,
) -> tuple[int, int]:  # fmt: skip
    """The age at which the inputs of a command are judged, and what becomes of its claim.

    Args:
        client: Whose.
        newest: Tick of the newest input; not late, and not further ahead than inputs may be.
        view: What it claims [1/256 tick], or `NO_VIEW`.
        lead: How early it came [ticks].
        mean_lead: How early its commands come [ticks].
        acked: Tick of the newest snapshot acknowledged, −1 before the first.
        options: As for `note_need`.
        views: Rows as named above.

    Returns:
        Age [1/256 tick], 0 before anything was acknowledged; FINE, FUTURE, PAST or JUMP.
    """
    limit, cap = options[2], options[3]
    views[CLAIMED, client] = view / VIEW_STEPS if view != NO_VIEW else -1.0
    if acked < 0 or views[LAG, client] <= 0.0:
        views[ESTIMATE, client] = views[BOUND, client] = views[GIVEN, client] = 0.0
        return 0, FINE
    delayed = min(max(mean_lead - lead, 0.0), DELAYED_TICKS_MAX)
    slack = SLACK_TICKS + (options[0] if views[HEARD, client] < FIRST_SNAPSHOTS else 0.0)
    bound = max(lead + delayed + views[LAG, client] + slack, 0.0)
    latest = max(min(acked + limit, newest - lead) + PRESENT_SLACK, newest - cap)
    least = max(newest - latest, 0.0)
    estimate = min(max(lead + views[LAG, client], least), bound)
    age, verdict = views[CLAIMED, client], FINE
    if view != NO_VIEW:
        elapsed = newest - views[LAST_INPUT, client]
        if age < least:
            verdict = FUTURE
        elif age > bound:
            verdict = PAST
        elif not _near(client, age, elapsed, views):
            verdict = JUMP
        views[LAST_INPUT, client] = max(views[LAST_INPUT, client], float(newest))
    if view == NO_VIEW or verdict != FINE:
        recent = views[RECENT, client]
        age = recent if least <= recent <= bound else estimate
    views[ESTIMATE, client] = estimate
    views[BOUND, client] = bound
    views[GIVEN, client] = age
    return min(math.floor(age * VIEW_STEPS), AGE_MAX), verdict
