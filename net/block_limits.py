"""How many blocks, and how large, are sent and taken at most (`net.blocks`)."""

from dataclasses import dataclass

from net.blocks_kernels import CHUNK_BYTES, CHUNKS_MAX, REFERENCE_ROWS_MAX
from net.errors import NetError

__all__ = ["BLOCK_BYTES_MAX", "CLIENT_BLOCK_LIMITS", "SERVER_BLOCK_LIMITS", "BlockLimits"]

BLOCK_BYTES_MAX = CHUNKS_MAX * CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """What is sent and taken at most.

    Attributes:
        send_bytes: One block that is sent; at most 16 MiB.
        send_transfers: Blocks being sent, to all peers; at most 256.
        send_per_peer: Blocks being sent to one peer, the waiting ones included.
        send_total_bytes: Content of all blocks being sent; one bytes object sent to many peers counts once.
        receive_bytes: One block that is received; at most 16 MiB, 0: none is accepted.
        receive_transfers: Blocks being received, from all peers.
        receive_per_peer: Blocks being received from one peer.
        receive_total_bytes: Of all blocks being received or not yet taken.
        controls: Control payloads waiting to be taken; what exceeds it is dropped, and its transfer ends by idling.
        idle_ns: A transfer ends when its peer made no progress with any for so long [ns].
    """

    send_bytes: int = BLOCK_BYTES_MAX
    send_transfers: int = REFERENCE_ROWS_MAX
    send_per_peer: int = 4
    send_total_bytes: int = 256 << 20
    receive_bytes: int = BLOCK_BYTES_MAX
    receive_transfers: int = 64
    receive_per_peer: int = 4
    receive_total_bytes: int = 64 << 20
    controls: int = 4096
    idle_ns: int = 60_000_000_000

    def check(self) -> None:
        """Raises NetError where a limit is out of its range."""
        ranges = {
            "send_bytes": (1, BLOCK_BYTES_MAX),
            "send_transfers": (1, REFERENCE_ROWS_MAX),
            "send_per_peer": (1, 64),
            "send_total_bytes": (1, 1 << 40),
            "receive_bytes": (0, BLOCK_BYTES_MAX),
            "receive_transfers": (1, 65_536),
            "receive_per_peer": (1, 64),
            "receive_total_bytes": (0, 1 << 40),
            "controls": (1, 1 << 20),
            "idle_ns": (1, 1 << 62),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise NetError(f"block limits: {name} is {value}; it must be from {least} to {most}")


CLIENT_BLOCK_LIMITS = BlockLimits()
# 1,024 blocks of 64 KiB, such as sprays and settings; no client can make the server hold more than 256 KiB.
SERVER_BLOCK_LIMITS = BlockLimits(receive_bytes=64 << 10, receive_transfers=1024)
