"""Which connect tokens were seen, and from where, until they expire.

STANDARD.md, "Processing Connection Requests", with netcode's later hardening: a token is consumed when its client gets
a slot, and the history, when full, refuses new tokens instead of forgetting old ones.
"""

import heapq

from net.packets import Drop

__all__ = ["TokenHistory"]


class TokenHistory:
    """Remembers at most `size` tokens by the MAC of their private part; 0.3 KB each."""

    def __init__(self, size: int) -> None:
        self._size = size
        # Where each was first seen; None once its client has got a slot, when that no longer matters.
        self._tokens: dict[bytes, tuple[int, ...] | None] = {}
        self._expiry: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        """Number of tokens remembered."""
        return len(self._tokens)

    def admit(self, mac: bytes, words: tuple[int, ...], *, expire_unix_s: int, unix_s: int) -> Drop | None:
        """Remember a token from an address; why not, where it was consumed, is from elsewhere, or there is no room."""
        if mac in self._tokens:
            return Drop.TOKEN_REUSED if self._tokens[mac] != words else None
        while self._expiry and self._expiry[0][0] <= unix_s:
            del self._tokens[heapq.heappop(self._expiry)[1]]
        if len(self._tokens) >= self._size:
            return Drop.HISTORY_FULL
        self._tokens[mac] = words
        heapq.heappush(self._expiry, (expire_unix_s, mac))
        return None

    def is_consumed(self, mac: bytes) -> bool:
        """Whether a client got a slot with this token; one that has expired meanwhile was forgotten, and was not."""
        return self._tokens.get(mac, ()) is None

    def consume(self, mac: bytes) -> None:
        """Let nobody connect with this token again."""
        if mac in self._tokens:
            self._tokens[mac] = None
