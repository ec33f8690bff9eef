"""What `persistence` raises on purpose; the message is one line for a person."""

__all__ = ["PersistenceError", "RecordingError"]


class PersistenceError(Exception):
    """Base of every error that `persistence` raises."""


class RecordingError(PersistenceError):
    """A recording cannot be written, or it or a part of it cannot be read."""
