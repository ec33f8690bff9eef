"""Bad networks, from a seed: latency, jitter, loss, bursts, duplicates, reordering, corruption, bandwidth. No clock.

A `Link` is one direction of one network. Push datagrams in at a time, pull out what has arrived by another:

    link = Link(PROFILES["bad-wifi"], peers=1, seed=7)
    link.push(outgoing, now_ns)
    link.pull(arrived, now_ns)

What happens to a datagram, in this order: it may be lost (alone, or in bursts: the two-state model of Gilbert, 1960);
it waits for its turn on a link of limited bandwidth, or is dropped where the queue is full (drop-tail); it travels for
the latency and a jitter drawn for it, not overtaking what went before unless it is one of the reordered; a bit of it
may be flipped; a copy of it may follow. The same seed and the same pushes give the same arrivals.
"""

from dataclasses import dataclass, fields

import numpy as np

from net.datagrams import DATAGRAM_BYTES, Datagrams
from net.errors import NetError
from sim.arrays import I32, I64, U8, U64, Bool

__all__ = ["PROFILES", "Link", "NetworkProfile", "profile_named"]

MS = 1_000_000
OVERHEAD_BYTES = 28  # of IPv4 and UDP, which a link's bandwidth has to carry as well
FLIPS_MAX = 3


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """One direction of a network.

    Attributes:
        latency_ms: Least time on the way [ms].
        jitter_ms: Mean of what comes on top, drawn anew for each datagram from an exponential distribution cut at six
            times its mean, as queues make it [ms].
        spread_ms: Half the width of a uniform distribution about `latency_ms`, which is then the mean; as `netem` means
            "75ms 20ms" [ms].
        loss: Share of datagrams lost, 0 … 1.
        burst: Mean number of datagrams lost in a row; 1: each is lost for itself.
        duplicate: Share that arrive twice.
        reorder: Share that take `reorder_ms` longer and let later ones overtake.
        corrupt: Share in which one to three bits flip.
        rate_kbps: Bandwidth [kbit/s], 0 for none; each peer's own, unless the link is shared.
        queue_ms: Longest wait for a turn, beyond which datagrams are dropped [ms].
    """

    latency_ms: float = 0.0
    jitter_ms: float = 0.0
    spread_ms: float = 0.0
    loss: float = 0.0
    burst: float = 1.0
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 30.0
    corrupt: float = 0.0
    rate_kbps: float = 0.0
    queue_ms: float = 250.0

    def __post_init__(self) -> None:
        """Refuses what is no network.

        Raises:
            NetError: A share is not in 0 … 1, a burst below 1, or anything negative.
        """
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise NetError(f"network: {name} is {getattr(self, name)}; give a share of 0 to 1")
        if self.burst < 1.0:
            raise NetError(f"network: burst is {self.burst}; give a mean number of datagrams, 1 or more")
        for field in fields(self):
            if getattr(self, field.name) < 0.0:
                raise NetError(f"network: {field.name} is {getattr(self, field.name)}; it cannot be negative")


PROFILES = {
    "perfect": NetworkProfile(),
    "lan": NetworkProfile(latency_ms=0.3, jitter_ms=0.1),
    "broadband": NetworkProfile(latency_ms=15, jitter_ms=2, loss=0.001),
    "wifi": NetworkProfile(latency_ms=18, jitter_ms=5, loss=0.01, burst=2, reorder=0.002),
    "bad-wifi": NetworkProfile(
        latency_ms=30, jitter_ms=18, loss=0.05, burst=3, duplicate=0.01, reorder=0.02, rate_kbps=6_000
    ),
    "mobile": NetworkProfile(latency_ms=45, jitter_ms=12, loss=0.02, burst=4, reorder=0.005, rate_kbps=4_000),
    "satellite": NetworkProfile(latency_ms=280, jitter_ms=8, loss=0.01, burst=5, rate_kbps=2_000, queue_ms=600),
    "congested": NetworkProfile(latency_ms=25, jitter_ms=3, rate_kbps=400, queue_ms=400),
    "hostile": NetworkProfile(latency_ms=50, jitter_ms=25, loss=0.3, burst=2, duplicate=0.2, reorder=0.1, corrupt=0.02),
}
"""Named networks, each the way there; the way back is another link of the same profile."""


def profile_named(name: str) -> NetworkProfile:
    """A profile by its name.

    Raises:
        NetError: There is none of that name; says which there are.
    """
    if name not in PROFILES:
        raise NetError(f"network {name!r}: not known; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


class Link:
    """One direction between any number of peers, who are told apart by `Datagrams.peer` (−1 counts as peer 0).

    Attributes:
        sent: Datagrams pushed.
        lost: Of these, lost on the way.
        overflowed: Dropped because the queue of a limited bandwidth was full, or `capacity` datagrams were on the way.
        duplicated, reordered, corrupted: How many were.
        on_the_way: Datagrams that have not been pulled.
    """

    def __init__(
        self, profile: NetworkProfile, *, peers: int = 1, seed: int = 1, capacity: int = 16_384, shared: bool = False
    ) -> None:
        """Makes an idle link.

        Args:
            profile: What it does.
            peers: How many peers send through it.
            seed: What it does to which datagram follows from it.
            capacity: Most datagrams on the way at once; further ones are dropped and counted.
            shared: Whether all peers share its bandwidth, as at a bottleneck, instead of having it each.

        Raises:
            NetError: `peers` or `capacity` is not positive.
        """
        if peers < 1 or capacity < 1:
            raise NetError(f"link: {peers} peers, capacity {capacity}; each must be at least 1")
        self.profile, self.peers, self.shared = profile, peers, shared
        self._random = np.random.Generator(np.random.Philox(seed))
        self._bad: Bool = np.zeros(peers, np.bool_)
        self._busy_ns: I64 = np.zeros(peers, np.int64)
        self._last_due_ns: I64 = np.zeros(peers, np.int64)
        self._data: U8 = np.zeros((capacity, DATAGRAM_BYTES), np.uint8)
        self._length: I32 = np.zeros(capacity, np.int32)
        self._address: U64 = np.zeros((capacity, 3), np.uint64)
        self._peer: I32 = np.zeros(capacity, np.int32)
        self._due_ns: I64 = np.full(capacity, -1, np.int64)  # -1: free
        self._order: I64 = np.zeros(capacity, np.int64)
        self._free = list(range(capacity - 1, -1, -1))
        self._pushed = 0
        self.sent = self.lost = self.overflowed = self.duplicated = self.reordered = self.corrupted = 0

    @property
    def on_the_way(self) -> int:
        """Datagrams that have been pushed, not lost, and not pulled yet."""
        return len(self._length) - len(self._free)

    def next_due_ns(self) -> int | None:
        """When the next datagram arrives, or None where none is on the way."""
        waiting = self._due_ns[self._due_ns >= 0]
        return int(waiting.min()) if len(waiting) else None

    def push(self, datagrams: Datagrams, now_ns: int) -> None:
        """Send all datagrams of a batch, which is left as it is; rows of negative length are passed over.

        Raises:
            NetError: A datagram is of a peer that the link was not made for.
        """
        profile, count = self.profile, datagrams.count
        if count and int(datagrams.peer[:count].max()) >= self.peers:
            raise NetError(f"link: a datagram of peer {int(datagrams.peer[:count].max())}; made for {self.peers} peers")
        chances = self._random.random((count, 6))
        delays = np.minimum(self._random.exponential(1.0, (count, 2)), 6.0) * profile.jitter_ms + profile.latency_ms
        for row in np.flatnonzero(datagrams.length[:count] >= 0).tolist():
            peer = max(0, int(datagrams.peer[row]))
            self.sent += 1
            lose, repeat, overtake, flip = chances[row, 0], chances[row, 1], chances[row, 2], chances[row, 3]
            if self._lose(peer, lose, chances[row, 4]):
                self.lost += 1
                continue
            start_ns = self._turn(peer, int(datagrams.length[row]), now_ns)
            if start_ns < 0:
                self.overflowed += 1
                continue
            due_ns = start_ns + int(max(0.0, delays[row, 0] + (2.0 * chances[row, 5] - 1.0) * profile.spread_ms) * MS)
            if overtake < profile.reorder:
                due_ns += int(profile.reorder_ms * MS)
                self.reordered += 1
            else:
                due_ns = self._last_due_ns[peer] = max(due_ns, int(self._last_due_ns[peer]))
            self._store(datagrams, row, due_ns, corrupt=flip < profile.corrupt)
            if repeat < profile.duplicate:
                self.duplicated += 1
                self._store(datagrams, row, start_ns + int(delays[row, 1] * MS), corrupt=False)

    def pull(self, datagrams: Datagrams, now_ns: int) -> int:
        """Replace the content of a batch by what has arrived by `now_ns`, as far as it fits, in order of arrival.

        Returns:
            How many datagrams it then holds; `received_ns` says when each arrived.
        """
        arrived = np.flatnonzero((self._due_ns >= 0) & (self._due_ns <= now_ns))
        arrived = arrived[np.lexsort((self._order[arrived], self._due_ns[arrived]))][: datagrams.capacity]
        count = datagrams.count = len(arrived)
        datagrams.data[:count] = self._data[arrived]
        datagrams.length[:count] = self._length[arrived]
        datagrams.address[:count] = self._address[arrived]
        datagrams.peer[:count] = self._peer[arrived]
        datagrams.received_ns[:count] = self._due_ns[arrived]
        self._due_ns[arrived] = -1
        self._free.extend(arrived.tolist())
        return count

    def _lose(self, peer: int, chance: float, change: float) -> bool:
        """Whether the next datagram of a peer is lost; with bursts, whether the peer's link is in its bad state."""
        profile = self.profile
        if profile.loss >= 1.0 or profile.burst <= 1.0:
            return chance < profile.loss
        leave = 1.0 / profile.burst
        enter = leave * profile.loss / (1.0 - profile.loss)
        self._bad[peer] = change >= leave if self._bad[peer] else change < enter
        return bool(self._bad[peer])

    def _turn(self, peer: int, size: int, now_ns: int) -> int:
        """When a datagram has left the sender's end, or −1 where the queue is full."""
        if self.profile.rate_kbps == 0.0:
            return now_ns
        line = 0 if self.shared else peer
        start_ns = max(now_ns, int(self._busy_ns[line]))
        if start_ns - now_ns > self.profile.queue_ms * MS:
            return -1
        self._busy_ns[line] = start_ns + int((size + OVERHEAD_BYTES) * 8 * MS / self.profile.rate_kbps)
        return int(self._busy_ns[line])

    def _store(self, datagrams: Datagrams, row: int, due_ns: int, *, corrupt: bool) -> None:
        """Put one datagram on its way."""
        if not self._free:
            self.overflowed += 1
            return
        at, size = self._free.pop(), int(datagrams.length[row])
        self._data[at, :size] = datagrams.data[row, :size]
        self._length[at], self._peer[at] = size, datagrams.peer[row]
        self._address[at] = datagrams.address[row]
        self._due_ns[at], self._order[at] = due_ns, self._pushed
        self._pushed += 1
        if corrupt and size:
            self.corrupted += 1
            for bit in self._random.integers(0, size * 8, self._random.integers(1, FLIPS_MAX + 1)).tolist():
                self._data[at, bit >> 3] ^= np.uint8(1 << (bit & 7))

    def statistics(self) -> dict[str, int]:
        """Counts of what has happened to datagrams so far."""
        names = ("sent", "lost", "overflowed", "duplicated", "reordered", "corrupted", "on_the_way")
        return {name: int(getattr(self, name)) for name in names}
