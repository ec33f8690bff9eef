"""Which connect tokens were seen, and from where, until they expire.

STANDARD.md, "Processing Connection Requests", with netcode's later hardening: a token is consumed when its client gets
a slot, and the history, when full, refuses new tokens instead of forgetting old ones.
"""

import heapq
from dataclasses import dataclass

from net.packets import Drop

__all__ = ["TokenHistory"]


@dataclass(slots=True)
class _Seen:
    """Where a token was first seen, and whether its client has got a slot."""

    words: tuple[int, int, int]
    consumed: bool = False


class TokenHistory:
    """Remembers at most `size` tokens by the MAC of their private part."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tokens: dict[bytes, _Seen] = {}
        self._expiry: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        """Number of tokens remembered."""
        return len(self._tokens)

    def admit(self, mac: bytes, words: tuple[int, int, int], *, expire_unix_s: int, unix_s: int) -> Drop | None:
        """Remember a token from an address; why not, where it was consumed, is from elsewhere, or there is no room."""
        seen = self._tokens.get(mac)
        if seen is not None:
            return Drop.TOKEN_REUSED if seen.consumed or seen.words != words else None
        while self._expiry and self._expiry[0][0] <= unix_s:
            del self._tokens[heapq.heappop(self._expiry)[1]]
        if len(self._tokens) >= self._size:
            return Drop.HISTORY_FULL
        self._tokens[mac] = _Seen(words)
        heapq.heappush(self._expiry, (expire_unix_s, mac))
        return None

    def is_consumed(self, mac: bytes) -> bool:
        """Whether a client got a slot with this token; one that has expired meanwhile was forgotten, and was not."""
        seen = self._tokens.get(mac)
        return seen is not None and seen.consumed

    def consume(self, mac: bytes) -> None:
        """Let nobody connect with this token again."""
        seen = self._tokens.get(mac)
        if seen is not None:
            seen.consumed = True
