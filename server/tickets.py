"""What a client must know to join a server, in one private file, and connect tokens made from it.

The protocol id is the first 64 bits of BLAKE2b over a canonical text of everything that both sides must have alike:
the layouts on the wire, the game's declarations, the map, the tick rate. It is netcode's protocol id, so a client
that differs is refused with its first packet; the digests of the parts in the card say what it is that differs.

The running server writes `RUNTIME/hitreg-FEED.json` (mode 0600): its address, protocol id, private key, game, map and
rates. Whoever can read the file may issue tokens: the edge process, and bots on the same machine.
"""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from net.address import parse_address
from net.errors import NetError
from net.messages import message_forms
from net.schema import describe_layouts
from net.tokens import VERSION_INFO, issue_token
from server.errors import ServerError
from server.wire import field_table, owner_layout
from sim.plugin import GameSpec
from sim.schema import Direction

__all__ = [
    "CARD_VARIABLE",
    "ServerCard",
    "card_path",
    "describe_protocol",
    "edge_token_issuer",
    "explain_mismatch",
    "fresh_key",
    "part_digests",
    "protocol_id",
    "protocol_parts",
    "read_card",
    "write_card",
]

CARD_BYTES_MAX = 1 << 16
CARD_VARIABLE = "HITREG_CARD"
WIRE_VERSION = 4  # of what no layout shows: raise it where bytes stay the same and their meaning changes
REMEDY = "run the same version of hitreg on both sides"
REMEDIES = {
    "wire format": REMEDY,
    "game": "run the same version of the game package on both sides",
    "map": "give both sides the same map file",
    "rate": "read tick_hz from the server's card",
}


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
    protocol_digests: dict[str, str] = field(default_factory=dict)

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


def protocol_parts(game: GameSpec, *, tick_hz: int, map_hash: str) -> dict[str, str]:
    """Everything that client and server must have alike, as canonical text by part.

    Args:
        game: What the server plays.
        tick_hz: Ticks per second.
        map_hash: `WorldMap.content_hash` of the map.
    """
    table = field_table(game, tick_hz=tick_hz)
    forms = message_forms(game.actions, game.messages, Direction.TO_SERVER)
    forms += message_forms(game.actions, game.messages, Direction.TO_CLIENT)
    lines = [f"game {game.name} {game.version}"]
    lines += [f"field {f.name} {f.bits} {f.signed} {f.step!r} {f.level}" for f in table.fields]
    lines += [f"owner {f.name} {f.dtype} {f.count} {f.predicted}" for f in owner_layout().fields]
    lines += [f"kind {kind.name} {kind.replicated}" for kind in game.kinds]
    lines += [f"event {name}" for name in game.events]
    lines += [
        f"{form.number} {form.name}({', '.join(f.describe() for f in form.fields)}) {form.delivery.name}"
        for form in forms
    ]
    wire = f"hitreg {WIRE_VERSION}\n{VERSION_INFO[:-1].decode()}\n{describe_layouts()}"
    parts = {"wire format": wire, "game": "\n".join(lines), "map": map_hash, "rate": f"{tick_hz} Hz"}
    return {**parts, "records": table.digest()}


def describe_protocol(parts: Mapping[str, str]) -> str:
    """The text whose digest is the protocol id: what to compare where two ids differ."""
    return "".join(f"== {name}\n{text}\n" for name, text in parts.items())


def part_digests(parts: Mapping[str, str]) -> dict[str, str]:
    """A short digest of each part, in hexadecimal, as cards and logs have it."""
    return {name: hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for name, text in parts.items()}


def protocol_id(game: GameSpec, *, tick_hz: int, map_hash: str) -> int:
    """64 bits that differ whenever client and server would not understand each other."""
    text = describe_protocol(protocol_parts(game, tick_hz=tick_hz, map_hash=map_hash))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def explain_mismatch(card: ServerCard, own: Mapping[str, str]) -> str:
    """Which part of the protocol differs between a server and this build, and what to do; empty where none does.

    Args:
        card: The server's.
        own: This side's `part_digests`, of the game, map and rate that it has.
    """
    told = card.protocol_digests
    if not told:
        return "the server does not say what its protocol is made of; run the same version on both sides"
    differing = [name for name in {**own, **told} if own.get(name) != told.get(name)]
    return "; ".join(
        f"{name} differs (server {told.get(name, 'none')}, here {own.get(name, 'none')}): {REMEDIES.get(name, REMEDY)}"
        for name in differing
    )


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
