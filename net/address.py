"""One form for every address: 16 bytes (IPv4 mapped into IPv6), port and scope, as three 64-bit words.

Kernels compare and hash addresses as rows of uint64[3]: the 16 bytes of the address in network order as two words
in memory order, then `port | scope << 32`. An IPv4 address is its IPv6-mapped form (RFC 4291, section 2.5.5.2), so
that a dual-stack socket and an IPv4 socket give the same key to the same peer.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

import numpy as np

from net.errors import AddressError
from sim.arrays import U64

__all__ = ["ADDRESS_WORDS", "MAPPED_PREFIX", "Address", "address_of", "parse_address"]

ADDRESS_WORDS = 3
MAPPED_PREFIX = bytes(10) + b"\xff\xff"


@dataclass(frozen=True, slots=True)
class Address:
    """An IP address and UDP port; equal exactly when the peer is the same."""

    ip: IPv4Address | IPv6Address
    port: int
    scope: int = 0

    def words(self) -> tuple[int, int, int]:
        """The three words by which kernels know this address."""
        packed = self.ip.packed if self.ip.version == 6 else MAPPED_PREFIX + self.ip.packed
        high, low = struct.unpack("<QQ", packed)
        return high, low, self.port | self.scope << 32

    def row(self) -> U64:
        """The same words as an array, shape (3,), uint64."""
        return np.array(self.words(), dtype=np.uint64)

    def __str__(self) -> str:
        """`127.0.0.1:40000` or `[::1]:40000`."""
        return f"{self.ip}:{self.port}" if self.ip.version == 4 else f"[{self.ip}]:{self.port}"


def address_of(row: U64) -> Address:
    """The address that a row of three words stands for; never raises.

    Args:
        row: Shape (3,), uint64.
    """
    high, low, rest = row.tolist()
    packed = struct.pack("<QQ", high, low)
    port, scope = rest & 0xFFFF, rest >> 32
    if packed.startswith(MAPPED_PREFIX):
        return Address(IPv4Address(packed[12:]), port, scope)
    return Address(IPv6Address(packed), port, scope)


def parse_address(text: str) -> Address:
    """Read `127.0.0.1:40000` or `[::1]:40000`; a mapped IPv4 address becomes the IPv4 address.

    Raises:
        AddressError: The text is not a numeric address with a port of 0 to 65,535.
    """
    host, colon, port_text = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    remedy = f"address {text!r}: write it as 203.0.113.5:40000 or [2001:db8::1]:40000"
    if not colon or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65_535:
        raise AddressError(remedy)
    try:
        ip = ip_address(host[1:-1] if bracketed else host)
    except ValueError as exc:
        raise AddressError(remedy) from exc
    if bracketed != (ip.version == 6):
        raise AddressError(remedy)
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return Address(ip.ipv4_mapped, int(port_text))
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise AddressError(f"{remedy}; a scope such as %eth0 has no meaning to other machines")
    return Address(ip, int(port_text))
