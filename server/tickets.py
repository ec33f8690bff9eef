"""What a client must know to join a server, in one private file, and connect tokens made from it.

The running server writes `RUNTIME/hitreg-FEED.json` (mode 0600): its address, protocol id, private key, game, map and
rates. Whoever can read the file may issue tokens: the edge process, and bots on the same machine.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from net.address import parse_address
from net.errors import NetError
from net.tokens import issue_token
from server.errors import ServerError
from server.wire import field_table, owner_layout
from sim.plugin import GameSpec

__all__ = [
    "CARD_VARIABLE",
    "ServerCard",
    "card_path",
    "edge_token_issuer",
    "fresh_key",
    "protocol_id",
    "read_card",
    "write_card",
]

CARD_BYTES_MAX = 1 << 16
CARD_VARIABLE = "HITREG_CARD"


@dataclass(frozen=True, slots=True)
class ServerCard:
    """What clients need: where the server is, which game on which map at which rates, and the key for tokens."""

    address: str
    protocol_id: int
    private_key: str
    game: str
    map: str
    map_hash: str
    tick_hz: int
    snapshot_hz: int
    token_seconds: int
    client_timeout_s: int

    def token(self, client_id: int, *, name: str = "", team: int = 0) -> bytes:
        """A connect token of 2,048 bytes.

        Args:
            client_id: Unique to the client, 64 bits.
            name: What the player is called; at most 32 bytes of UTF-8 are kept.
            team: Team wished for, 0 for any.
        """
        user_data = bytes([team]) + name.encode()[:32]
        return issue_token(
            protocol_id=self.protocol_id,
            private_key=bytes.fromhex(self.private_key),
            client_id=client_id,
            addresses=[parse_address(self.address)],
            now_unix_s=int(time.time()),
            expire_s=self.token_seconds,
            timeout_s=self.client_timeout_s,
            user_data=user_data,
        )


def protocol_id(game: GameSpec, *, tick_hz: int, map_hash: str) -> int:
    """64 bits that differ whenever client and server would not understand each other."""
    table = field_table(game, tick_hz=tick_hz)
    lines = [game.name, game.version, str(tick_hz), map_hash, repr(table.fields), repr(owner_layout().fields)]
    lines += [repr(game.events), repr(game.messages), repr(game.actions), repr([kind.name for kind in game.kinds])]
    return int.from_bytes(hashlib.blake2b("\n".join(lines).encode(), digest_size=8).digest(), "little")


def card_path(feed: str) -> Path:
    """Where the card of the server with that feed name lies."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    return Path(runtime) / f"hitreg-{os.getuid()}-{feed}.json"


def write_card(path: Path, card: ServerCard) -> None:
    """Put a card in place, readable by this user only, in one step.

    Raises:
        ServerError: The file cannot be written.
    """
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(card), file)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ServerError(f"{path}: {error.strerror}; set XDG_RUNTIME_DIR to a directory you may write") from error


def read_card(path: Path) -> ServerCard:
    """A server's card.

    Raises:
        ServerError: There is none, or it is not a card.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > CARD_BYTES_MAX:
            raise ServerError(f"{path}: larger than {CARD_BYTES_MAX} bytes; is this a server's card?")
        return ServerCard(**json.loads(text))
    except FileNotFoundError as error:
        raise ServerError(f"{path}: not found; start a server first (make run, or hitreg serve)") from error
    except OSError as error:
        raise ServerError(f"{path}: {error.strerror}; run as the user who runs the server") from error
    except (ValueError, TypeError) as error:
        raise ServerError(f"{path}: not a server's card: {error}; restart the server") from error


def edge_token_issuer(name: str) -> bytes:
    """A token for a player of that name, from the card that the environment points to; for the edge process.

    Raises:
        ServerError: There is no card.
    """
    card = read_card(Path(os.environ.get(CARD_VARIABLE, "")))
    return card.token(int.from_bytes(os.urandom(8), "little"), name=name)


def fresh_key(source: str, entropy: Callable[[int], bytes] = os.urandom) -> bytes:
    """The private key in a file of 64 hexadecimal digits, or a new one where no file is named.

    Raises:
        NetError: The file does not hold a key.
        ServerError: The file cannot be read.
    """
    if not source:
        return entropy(32)
    try:
        text = Path(source).read_text(encoding="ascii").strip()
        key = bytes.fromhex(text)
    except OSError as error:
        raise ServerError(f"private_key_file = {source}: {error.strerror}; name a readable file") from error
    except ValueError as error:
        raise NetError(f"private_key_file = {source}: not hexadecimal; write 64 hexadecimal digits") from error
    if len(key) != 32:
        raise NetError(f"private_key_file = {source}: {len(key)} bytes; write 64 hexadecimal digits (32 bytes)")
    return key
