"""Congestion control: what each peer may be sent, fair within one path and between all peers (docs/adr/0005)."""

from dataclasses import dataclass

import numpy as np

from net.congestion_kernels import (
    CAP,
    COLUMNS,
    DELAY_DECREASES,
    FORGIVEN,
    LOSS_DECREASES,
    LOST_BYTES,
    RATE,
    RATE_MAX,
    RATE_MIN,
    RATE_START,
    CongestionColumns,
    reset_peer,
    share,
)
from net.errors import NetError
from sim.arrays import F64, U8

__all__ = ["Congestion", "CongestionLimits"]


@dataclass(frozen=True, slots=True)
class CongestionLimits:
    """Between what rates the controller chooses.

    Attributes:
        rate_min: Never less to a peer, however bad its path [bytes/s].
        rate_start: For a new peer [bytes/s].
        rate_max: Never more to a peer [bytes/s].
        total: Never more to all peers together [bytes/s]: rates are cut, the highest first.
    """

    rate_min: float = 4_000.0
    rate_start: float = 64_000.0
    rate_max: float = 1_250_000.0
    total: float = 125_000_000.0

    def check(self) -> None:
        """Raises NetError where the limits contradict each other."""
        if not 0 < self.rate_min <= self.rate_start <= self.rate_max < np.inf:
            raise NetError(
                f"congestion limits: rate_min {self.rate_min}, rate_start {self.rate_start}, rate_max {self.rate_max} "
                "[bytes/s]; they must be above 0, finite and in this order"
            )
        if not self.total >= self.rate_min:
            raise NetError(
                f"congestion limits: total is {self.total} [bytes/s], below rate_min {self.rate_min}; raise the total"
            )


class Congestion:
    """The controllers of all peers, one row each, and how the total is shared.

    Attributes:
        limits: As given.
        columns: For the kernels (`net.congestion_kernels`), float64 (peers, COLUMNS).
        active: 1 where a peer takes part in the sharing, uint8 (peers,); the caller clears it.
        level: Where `share` cut the rates last [bytes/s]; infinite where it did not.
    """

    def __init__(self, peers: int, *, limits: CongestionLimits | None = None) -> None:
        """Makes room. A peer may send nothing until it is made new by `reset`, or by its kernel.

        Raises:
            NetError: No peers, or limits that contradict each other.
        """
        self.limits = limits if limits is not None else CongestionLimits()
        self.limits.check()
        if peers < 1:
            raise NetError(f"congestion: peers is {peers}; it must be at least 1")
        self.columns: CongestionColumns = np.zeros((peers, COLUMNS))
        self.columns[:, RATE_MIN] = self.limits.rate_min
        self.columns[:, RATE_START] = self.limits.rate_start
        self.columns[:, RATE_MAX] = self.limits.rate_max
        self.columns[:, CAP] = np.inf
        self.active: U8 = np.zeros(peers, dtype=np.uint8)
        self.level = np.inf

    def reset(self, peer: int, now_ns: int) -> None:
        """Make a peer new and active: the start rate, and nothing known of its path."""
        reset_peer(self.columns, peer, now_ns // 1000)
        self.active[peer] = 1

    def share(self, now_ns: int) -> None:
        """Share the total among the active peers; to be called once per tick, before packets are composed."""
        self.level = float(share(self.columns, self.active, self.limits.total, now_ns // 1000))

    @property
    def rate(self) -> F64:
        """What each peer may be sent now [bytes/s], float64 (peers,)."""
        return np.minimum(self.columns[:, RATE], self.columns[:, CAP])

    def statistics(self) -> dict[str, float]:
        """Totals over all peers since they were made new, for metrics."""
        columns = self.columns
        return {
            "decreases_for_delay": float(columns[:, DELAY_DECREASES].sum()),
            "decreases_for_loss": float(columns[:, LOSS_DECREASES].sum()),
            "forgiven": float(columns[:, FORGIVEN].sum()),
            "lost_bytes": float(columns[:, LOST_BYTES].sum()),
        }
