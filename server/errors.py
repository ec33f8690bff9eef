"""What can go wrong in the server package: every error it raises on purpose derives from `ServerError`."""

__all__ = ["ConfigError", "GameError", "MapError", "MatchError", "ServerError"]

VALUE_SHOWN_MAX = 80


class ServerError(Exception):
    """Base of all errors of the server package; the message is one line for a person."""


class ConfigError(ServerError):
    """A setting is unknown, out of range, or contradicts another."""


class GameError(ServerError):
    """A game package cannot be found, raises, or declares what does not hold together."""


class MatchError(ServerError):
    """What a recording holds of a match cannot be used: its header, or a block of its commands."""


class MapError(ServerError):
    """A map that cannot be used: the message names the file, the field, its value and what to do about it.

    Args:
        source: The file, or the name under which the map was asked for.
        field: Which part of it is wrong.
        value: What was found there.
        remedy: What would be right, or what to do.
    """

    def __init__(self, source: object, field: str, value: object, remedy: str) -> None:
        shown = " ".join(str(value).split())
        if len(shown) > VALUE_SHOWN_MAX:
            shown = shown[:VALUE_SHOWN_MAX] + "…"
        super().__init__(f"{source}: {field} = {shown}: {remedy}")
        self.source = str(source)
        self.field = field
        self.value = value
        self.remedy = remedy


class ReplayError(ServerError):
    """A recording cannot be read, or not be played here."""


class WrongBuildError(ReplayError):
    """Another build recorded it than the one that is to play it; the message names both."""
