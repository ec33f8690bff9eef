"""What the edge process can be told, and the limits it keeps."""

from collections.abc import Callable
from dataclasses import dataclass

from server.errors import ServerError

__all__ = ["EdgeError", "EdgeSettings", "TokenIssuer"]

TokenIssuer = Callable[[str], bytes]


class EdgeError(ServerError):
    """The edge process cannot start as it was told to."""


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of one edge process.

    Attributes:
        feed: Name of the live feed to show.
        host: Address to listen on; only this machine unless told otherwise.
        port: TCP port; 0 lets the system choose.
        allowed_hosts: Host names, besides `host` and those of this machine, that a request may ask for. Others
            are refused, so that a page elsewhere cannot reach the edge under its own name (DNS rebinding).
        viewers_max: Browsers watching at once; more are refused with 503.
        viewer_frames_max: Frames waiting for one browser; beyond it the oldest is dropped and counted.
        tokens_per_second: Connect tokens issued, for all clients together; more are refused with 429.
        gone_after_s: How long without a frame until the server counts as gone.
        parent_pid: Exit when this is no longer the parent process; 0 = stay.
        record_dir: Directory of the recordings to show; empty: none.
        replays_max: Recordings played at once, each by a process of its own; beyond it the one idle longest is stopped.
    """

    feed: str = "main"
    host: str = "127.0.0.1"
    port: int = 8090
    allowed_hosts: tuple[str, ...] = ()
    viewers_max: int = 64
    viewer_frames_max: int = 8
    tokens_per_second: int = 50
    gone_after_s: float = 2.0
    parent_pid: int = 0
    record_dir: str = ""
    replays_max: int = 4

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            EdgeError: Names the value and its range.
        """
        ranges = {
            "port": (0, 65535),
            "viewers_max": (1, 10_000),
            "viewer_frames_max": (2, 64),
            "tokens_per_second": (1, 100_000),
            "gone_after_s": (0.1, 3600),
            "replays_max": (1, 64),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                option = "--" + name.replace("_", "-")
                raise EdgeError(f"{option} {value}: must be from {low} to {high}; choose a value in that range")
