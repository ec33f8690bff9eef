"""Why a connection ends: the codes of CLOSE sections. Numbers are part of the protocol; new ones go to the end."""

from enum import IntEnum

__all__ = ["CloseCode"]


class CloseCode(IntEnum):
    """Why a side ends a connection; the section's text says it for people."""

    KICKED = 1  # by whoever runs the server
    ZONE_FULL = 2  # there is no place in the world
    SERVER_STOPS = 3
    TOO_SLOW = 4  # the reliable queue stayed full: the client takes less than it is told
