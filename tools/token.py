"""`hitreg token issue|show|key`: make connect tokens, look into them, make the key that they are made with.

A token is 2,048 bytes (`net.tokens`): raw in a file, base64 on a terminal. Whoever holds one can connect as its client
until it expires, so files are written for their owner alone (mode 0600).
"""

import base64
import binascii
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from net.address import Address, parse_address
from net.errors import NetError
from net.tokens import (
    CONNECT_TOKEN_BYTES,
    KEY_BYTES,
    NEVER_EXPIRES,
    USER_DATA_BYTES,
    ConnectToken,
    issue_token,
    open_private,
    read_token,
)
from server.errors import ServerError
from server.tickets import card_path, fresh_key, read_card
from tools.errors import ToolsError

__all__ = ["app"]

app = typer.Typer(help="Make connect tokens, and look into them.", no_args_is_help=True)

STANDARD_STREAM = "-"
FILE_BYTES_MAX = 1 << 16
NAME_BYTES = 32
CREATE, REPLACE = os.O_EXCL, os.O_TRUNC
KeyOption = Annotated[Path | None, typer.Option("--key-file", help="The servers' private key: 64 hexadecimal digits.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


def _or_exit(work: Callable[[], None]) -> None:
    """Run a command; what is wrong with its input becomes one line on stderr and exit code 2."""
    try:
        work()
    except (NetError, ServerError, ToolsError) as error:
        typer.echo(f"hitreg token: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def _integer(option: str, text: str) -> int:
    """A number of 64 bits, decimal or with 0x."""
    try:
        value = int(text, 0)
    except ValueError as error:
        raise ToolsError(f"{option} {text!r}: not a number; write 1234 or 0x4d2") from error
    if not 0 <= value < 2**64:
        raise ToolsError(f"{option} {text}: does not fit in 64 bits; choose 0 to 0x{2**64 - 1:x}")
    return value


def _addresses(texts: list[str]) -> list[Address]:
    return [parse_address(text) for text in texts]


def _user_data(name: str | None, team: int, data: str | None) -> bytes:
    """What the server's application gets: bytes as given, or a player's team and name as `hitreg serve` reads them."""
    if data is None:
        return bytes([team]) + (name or "").encode()[:NAME_BYTES]
    if name is not None or team:
        raise ToolsError("--user-data and --name or --team: both make the user data; give one of them")
    try:
        plain = bytes.fromhex(data)
    except ValueError as error:
        raise ToolsError(f"--user-data {data[:40]!r}: not hexadecimal; write two digits per byte") from error
    if len(plain) > USER_DATA_BYTES:
        raise ToolsError(f"--user-data: {len(plain)} bytes; a token carries at most {USER_DATA_BYTES}")
    return plain


def _write(path: Path, content: bytes, how: int, remedy: str) -> None:
    """Write a file that its owner alone can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | how, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
    except OSError as error:
        raise ToolsError(f"{path}: {error.strerror}; {remedy}") from error


@app.command("issue")
def issue(
    server: Annotated[
        list[str] | None, typer.Option("--server", help="HOST:PORT that the client tries; repeat for more, in order.")
    ] = None,
    internal: Annotated[
        list[str] | None, typer.Option("--internal", help="What the servers call themselves, where that differs.")
    ] = None,
    feed: Annotated[
        str | None, typer.Option(help="Take all that is not given from the running server so named.")
    ] = None,
    key_file: KeyOption = None,
    protocol_id: Annotated[str | None, typer.Option(help="Of the game and its version, 64 bits.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Of the client, 64 bits; random unless given.")] = None,
    expire: Annotated[
        int | None, typer.Option(help="Seconds to connect in; negative for ever. 60 unless given.")
    ] = None,
    timeout: Annotated[
        int | None, typer.Option(help="Seconds of silence that end a connection; negative: none do. 10 unless given.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the player, as user data.")] = None,
    team: Annotated[int, typer.Option(min=0, max=255, help="Wished for, as user data; 0 for any.")] = 0,
    user_data: Annotated[str | None, typer.Option(help="Up to 256 bytes in hexadecimal, in place of a name.")] = None,
    out: Annotated[str, typer.Option(help="File for the raw token; - for base64 on stdout.")] = STANDARD_STREAM,
) -> None:
    """Issue a connect token, for any netcode 1.02 server or for one that runs here (--feed)."""

    def work() -> None:
        _check_given(server, internal, key_file, protocol_id, feed)
        given: dict[str, Any] = {
            "addresses": _addresses(server) if server else None,
            "private_key": fresh_key(str(key_file)) if key_file is not None else None,
            "protocol_id": _integer("--protocol-id", protocol_id) if protocol_id is not None else None,
            "expire_s": expire,
            "timeout_s": timeout,
        }
        settings = _settings(feed) | {option: value for option, value in given.items() if value is not None}
        token = issue_token(
            client_id=_integer("--client-id", client_id) if client_id is not None else _random_id(),
            internal_addresses=_addresses(internal) if internal else None,
            now_unix_s=int(time.time()),
            user_data=_user_data(name, team, user_data),
            **settings,
        )
        if out == STANDARD_STREAM:
            typer.echo(base64.b64encode(token).decode())
        else:
            _write(Path(out), token, REPLACE, "give --out a file in a directory you may write")

    _or_exit(work)


def _check_given(
    server: list[str] | None,
    internal: list[str] | None,
    key_file: Path | None,
    protocol_id: str | None,
    feed: str | None,
) -> None:
    """Refuse what is too little, or does not fit together."""
    options = (("--server", server), ("--key-file", key_file), ("--protocol-id", protocol_id))
    missing = [option for option, value in options if not value]
    if missing and feed is None:
        raise ToolsError(f"{', '.join(missing)} missing; give them, or --feed main for the server that runs here")
    if internal and len(internal) != len(server or []):
        raise ToolsError(f"--internal: {len(internal)} for {len(server or [])} --server; give one for each")


def _random_id() -> int:
    return int.from_bytes(os.urandom(8), "little")


def _settings(feed: str | None) -> dict[str, Any]:
    """What a running server's card says, or the defaults."""
    if feed is None:
        return {"expire_s": 60, "timeout_s": 10}
    card = read_card(card_path(feed))
    try:
        private_key = bytes.fromhex(card.private_key)
    except ValueError as error:
        raise ToolsError(f"{card_path(feed)}: private_key is not hexadecimal; restart the server") from error
    return {
        "addresses": [parse_address(card.address)],
        "private_key": private_key,
        "protocol_id": card.protocol_id,
        "expire_s": card.token_seconds,
        "timeout_s": card.client_timeout_s,
    }


def _load(source: str) -> bytes:
    """A token from a file or stdin, raw or in base64."""
    try:
        if source == STANDARD_STREAM:
            content = sys.stdin.buffer.read(FILE_BYTES_MAX)
        else:
            with Path(source).open("rb") as file:
                content = file.read(FILE_BYTES_MAX)
    except OSError as error:
        raise ToolsError(f"{source}: {error.strerror}; give a token's file, or - for stdin") from error
    if len(content) != CONNECT_TOKEN_BYTES:
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except binascii.Error as error:
            raise ToolsError(
                f"{source}: {len(content)} bytes, and not base64; a token has {CONNECT_TOKEN_BYTES} bytes, or is base64"
            ) from error
    try:
        read_token(content)
    except NetError as error:
        raise ToolsError(f"{source}: {error}") from error
    return content


def _when(unix_s: int) -> str:
    """A time of day for people."""
    try:
        return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{unix_s} s after 1970"


def _public(token: ConnectToken, now_unix_s: int) -> dict[str, Any]:
    left = token.expire_unix_s - now_unix_s
    state = "never" if token.expire_unix_s == NEVER_EXPIRES else f"in {left} s" if left > 0 else f"{-left} s ago"
    return {
        "protocol_id": f"0x{token.protocol_id:016x}",
        "created": _when(token.create_unix_s),
        "expires": state if state == "never" else f"{_when(token.expire_unix_s)}, {state}",
        "timeout_s": token.timeout_s,
        "servers": [str(address) for address in token.addresses],
    }


def _private(token: ConnectToken, key_file: Path) -> dict[str, Any]:
    private = open_private(
        token.private,
        protocol_id=token.protocol_id,
        expire_unix_s=token.expire_unix_s,
        nonce=token.nonce,
        private_key=fresh_key(str(key_file)),
    )
    if private is None:
        raise ToolsError(f"{key_file}: not the key this token was made with, or the token was changed")
    return {
        "client_id": f"0x{private.client_id:016x}",
        "internal_servers": [str(address) for address in private.addresses],
        "private_timeout_s": private.timeout_s,
        "user_data": private.user_data.rstrip(b"\0").hex(),
    }


@app.command("show")
def show(
    source: Annotated[str, typer.Argument(metavar="FILE", help="The token, raw or in base64; - for stdin.")],
    key_file: KeyOption = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="Print the connection's keys too; keep them to yourself.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print what a token says; with the servers' key also what it says to them."""

    def work() -> None:
        token = read_token(_load(source))
        fields = _public(token, int(time.time()))
        if key_file is not None:
            fields |= _private(token, key_file)
        if keys:
            fields["client_to_server_key"] = token.client_to_server_key.hex()
            fields["server_to_client_key"] = token.server_to_client_key.hex()
        if as_json:
            typer.echo(json.dumps(fields))
            return
        for name, value in fields.items():
            typer.echo(f"{name:<20} {', '.join(value) if isinstance(value, list) else value}")

    _or_exit(work)


@app.command("key")
def key(path: Annotated[Path, typer.Argument(metavar="FILE", help="A file that does not exist yet.")]) -> None:
    """Write a new private key, which servers (private_key_file) and whoever issues their tokens share."""
    content = os.urandom(KEY_BYTES).hex().encode() + b"\n"
    _or_exit(
        lambda: _write(path, content, CREATE, "give a new file in a directory you may write; keys are never replaced")
    )
