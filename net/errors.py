"""What `net` raises. Only local misuse raises: bytes off the wire are counted by reason and dropped."""

__all__ = ["AddressError", "NetError", "SocketError", "TokenError"]


class NetError(Exception):
    """Base of every error that `net` raises."""


class AddressError(NetError):
    """A text that is not an `ip:port` address."""


class TokenError(NetError):
    """A connect token, or a field of one, that the standard does not allow."""


class SocketError(NetError):
    """A socket that could not be made or bound; names the address, the port and the remedy."""
