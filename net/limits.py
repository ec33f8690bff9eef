"""How much one address may ask of a host: connections, new connections per second, handshakes under way.

An address is what one subscriber has: an IPv4 address, or the /64 network of an IPv6 address. Nobody can use up what
belongs to somebody else's address: connections are counted, and new ones charged to a bucket, only when a response is
authentic, which proves that the sender receives what is sent there. Handshakes under way do not prove that; so of those
the oldest makes way for the next, and none is refused because of them.

The table cannot be grown from outside: an entry needs an authentic token, and goes when the address has neither
connections nor handshakes left and its bucket is full again, after a second at most. Beyond `table_max` entries further
addresses are refused.
"""

import struct
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from net.errors import NetError

__all__ = ["ADDRESS_CONNECTIONS_MAX", "ADDRESS_CONNECTS_PER_S", "EXEMPT", "LOOPBACK", "AddressLimits", "Crowds"]

ADDRESS_CONNECTIONS_MAX = 10
ADDRESS_CONNECTS_PER_S = 5
PENDING_PER_CONNECTION = 4  # handshakes under way for each connection that an address may have
EXEMPT = -1  # the key of addresses without limits
LOOPBACK: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
_NS = 1_000_000_000
_MAPPED_LOW = 0xFFFF0000  # of the second word of a mapped IPv4 address (`net.address`)
_IPV4 = 1 << 64


class Crowds:
    """Slots in order of arrival by key, at most `most` of one key (0: any number)."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots: dict[int, list[int]] = {}

    def __contains__(self, key: int) -> bool:
        """Whether there is any slot of this key."""
        return key in self._slots

    def crowded(self, key: int) -> int:
        """The oldest slot of a key that has as many as it may, else -1."""
        slots = self._slots.get(key, [])
        return slots[0] if self._most and len(slots) >= self._most else -1

    def add(self, key: int, slot: int) -> None:
        """Note a slot, which must not be there, as the newest of its key."""
        self._slots.setdefault(key, []).append(slot)

    def remove(self, key: int, slot: int) -> None:
        """Forget a slot that is there."""
        slots = self._slots[key]
        slots.remove(slot)
        if not slots:
            del self._slots[key]


@dataclass(slots=True)
class _Entry:
    """What is known of one address; the credit is that of its bucket at `stamp_ns`."""

    credit_ns: int
    stamp_ns: int
    connections: int = 0
    leaving: bool = False


def _bits(network: IPv4Network | IPv6Network) -> tuple[int, int]:
    """(address bits above the network, shift to get there) of a network, IPv4 as mapped into IPv6."""
    base = int(network.network_address) | (0xFFFF << 32 if network.version == 4 else 0)
    shift = network.max_prefixlen - network.prefixlen
    return base >> shift, shift


class AddressLimits:
    """Counts connections by address, and says which are too many.

    Args:
        connections_max: Connections of one address; 0: any number. Four times as many handshakes may be under way, so
            that those beyond are told that they are denied.
        connects_per_s: New connections per second of one address, and how many at once after a pause; 0: any number.
        table_max: Addresses known at a time.
        exempt: Networks without limits.

    Attributes:
        pending: Handshakes under way, by key; edit it through `begin` and `end`.

    Raises:
        NetError: A limit is out of range.
    """

    def __init__(
        self,
        *,
        connections_max: int = ADDRESS_CONNECTIONS_MAX,
        connects_per_s: int = ADDRESS_CONNECTS_PER_S,
        table_max: int,
        exempt: Sequence[IPv4Network | IPv6Network] = LOOPBACK,
    ) -> None:
        for name, value in (("connections_max", connections_max), ("connects_per_s", connects_per_s)):
            if not 0 <= value <= _NS:
                raise NetError(f"host: address_{name} is {value}; choose 1 or more, or 0 for no limit")
        self._connections_max = connections_max
        self._cost_ns = _NS // connects_per_s if connects_per_s else 0
        self._full_ns = self._cost_ns * connects_per_s
        self._table_max = table_max
        self._exempt = [_bits(network) for network in exempt]
        self._entries: dict[int, _Entry] = {}
        self._leaving: deque[tuple[int, int]] = deque()
        self.pending = Crowds(PENDING_PER_CONNECTION * connections_max)

    def __len__(self) -> int:
        """Number of addresses in the table."""
        return len(self._entries)

    def key(self, high: int, low: int) -> int:
        """The key of an address by its first two words (`net.address`), or `EXEMPT`."""
        whole = int.from_bytes(struct.pack("<QQ", high, low), "big")
        if any(whole >> shift == prefix for prefix, shift in self._exempt):
            return EXEMPT
        return _IPV4 | low >> 32 if high == 0 and low & 0xFFFFFFFF == _MAPPED_LOW else high

    def has_room(self, key: int, now_ns: int) -> bool:
        """Whether the table holds an address, or can take it."""
        while self._leaving and self._leaving[0][0] <= now_ns:
            gone = self._leaving.popleft()[1]
            entry = self._entries[gone]
            entry.leaving = False
            self._leave(gone, entry, now_ns)
        return key == EXEMPT or key in self._entries or len(self._entries) < self._table_max

    def begin(self, key: int, slot: int, now_ns: int) -> None:
        """Note a handshake, after `has_room` and after the one that `pending.crowded` names was ended."""
        if key != EXEMPT:
            self._entries.setdefault(key, _Entry(self._full_ns, now_ns))
            self.pending.add(key, slot)

    def end(self, key: int, slot: int, now_ns: int) -> None:
        """Forget a handshake."""
        if key != EXEMPT:
            self.pending.remove(key, slot)
            self._leave(key, self._entries[key], now_ns)

    def is_full(self, key: int, *, leaving: int = 0) -> bool:
        """Whether an address has all the connections it may, not counting `leaving` of them."""
        entry = self._entries.get(key)
        return bool(
            entry is not None and self._connections_max and entry.connections - leaving >= self._connections_max
        )

    def charge(self, key: int, now_ns: int) -> bool:
        """Take one new connection from an address's bucket; False, and nothing changes, where it is empty.

        The bucket is a leaky one in whole nanoseconds of credit: full at `connects_per_s` connections.
        """
        if key == EXEMPT or not self._cost_ns:
            return True
        entry = self._entries[key]
        credit = min(self._full_ns, entry.credit_ns + now_ns - entry.stamp_ns)
        if credit < self._cost_ns:
            return False
        entry.credit_ns, entry.stamp_ns = credit - self._cost_ns, now_ns
        return True

    def connect(self, key: int) -> None:
        """Count a connection of an address that has a handshake."""
        if key != EXEMPT:
            self._entries[key].connections += 1

    def disconnect(self, key: int, now_ns: int) -> None:
        """Count a connection no more."""
        if key != EXEMPT:
            entry = self._entries[key]
            entry.connections -= 1
            self._leave(key, entry, now_ns)

    def _leave(self, key: int, entry: _Entry, now_ns: int) -> None:
        """Forget an address that is not in use, at once or when its bucket is full."""
        if entry.connections or key in self.pending or entry.leaving:
            return
        missing = self._full_ns - entry.credit_ns - (now_ns - entry.stamp_ns)
        if missing <= 0:
            del self._entries[key]
            return
        entry.leaving = True
        self._leaving.append((now_ns + self._full_ns, key))  # full by then, and in order of time
