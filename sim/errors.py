"""Errors of the simulation. Each message is one line saying what was wrong, with its value, and the remedy."""

__all__ = [
    "CommandError",
    "DeclarationError",
    "PipelineError",
    "SimError",
    "SnapshotError",
    "StaleIdError",
    "TableFullError",
]


class SimError(Exception):
    """Base of every error that `sim` raises on purpose."""


class DeclarationError(SimError):
    """A component, message, action, entity kind or system is declared wrongly."""


class PipelineError(SimError):
    """The systems' order is ambiguous, or a system reaches for what it has not declared."""


class StaleIdError(SimError):
    """An entity id names an entity that is gone, or of another table or zone."""


class TableFullError(SimError):
    """A table has no free slot."""


class SnapshotError(SimError):
    """A captured state cannot be restored here."""


class CommandError(SimError):
    """A command does not fit the world it is meant for."""
