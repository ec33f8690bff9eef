"""What can go wrong in the command-line tools: every error they raise on purpose derives from `ToolsError`."""

__all__ = ["ToolsError"]


class ToolsError(Exception):
    """Base of all errors of the tools package; the message is one line for a person."""
