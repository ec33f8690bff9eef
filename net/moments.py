"""What client and server agree on about the moments that clients show: limits, and the unit on the wire.

The server judges a shot by what its player saw, but never further back than the cap, `max_rewind_ms`, which it tells
each client in `welcome`. So that whoever is further away hits what it sees nevertheless, a client shows no moment older
than the tick of its own input less the cap, and dead reckons the rest (`net.playback`). `net.moments_kernels` says how
the server checks what clients say.
"""

from net.errors import NetError
from net.moments_kernels import NO_VIEW, VIEW_STEPS

__all__ = [
    "EXTRAPOLATION_NS_MAX",
    "FIRST_DELAY_NS",
    "LAG_GAIN_NS",
    "NO_VIEW",
    "REWIND_MS_DEFAULT",
    "REWIND_MS_MAX",
    "VIEW_STEPS",
    "rewind_steps",
]

REWIND_MS_DEFAULT = 200
REWIND_MS_MAX = 1000
FIRST_DELAY_NS = 100_000_000  # by which clients show the others late before anything is known
LAG_GAIN_NS = 4_000_000  # of that delay, per snapshot; ± 1 ms in the steady state
EXTRAPOLATION_NS_MAX = 250_000_000  # after the newest snapshot; then everything stands


def rewind_steps(max_rewind_ms: int, tick_hz: int) -> int:
    """The cap on rewinding in units of 1/256 tick.

    Raises:
        NetError: It is not within 0 and `REWIND_MS_MAX`.
    """
    if not 0 <= max_rewind_ms <= REWIND_MS_MAX:
        raise NetError(f"max_rewind_ms is {max_rewind_ms}; give it 0 to {REWIND_MS_MAX}")
    return max_rewind_ms * tick_hz * VIEW_STEPS // 1000
