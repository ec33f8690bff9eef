"""`hitreg token`: tokens that servers take, keys that nobody else reads, one line for what is wrong."""

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from net.address import parse_address
from net.connection import ClientGroup
from net.datagrams import Datagrams
from net.host import Host
from net.tokens import open_private, read_token
from server.tickets import ServerCard, card_path, write_card
from tools.token import app

SERVER, KEY = "203.0.113.5:40000", bytes(range(32))


def hitreg(*arguments: object, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def refused(*arguments: object) -> str:
    """The one line that a refused command prints."""
    done = hitreg(*arguments)
    assert done.exit_code == 2, done.output
    (line,) = done.stderr.splitlines()
    assert line.startswith("hitreg token: ")
    assert done.stdout == ""
    return line


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(KEY.hex() + "\n")
    return path


def issue(key_file: Path, *more: object) -> Result:
    return hitreg("issue", "--server", SERVER, "--key-file", key_file, "--protocol-id", "0x1234", *more)


def private(token: bytes) -> Any:
    public = read_token(token)
    return open_private(
        public.private,
        protocol_id=public.protocol_id,
        expire_unix_s=public.expire_unix_s,
        nonce=public.nonce,
        private_key=KEY,
    )


def test_an_issued_token_says_what_was_asked_for(key_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "token"
    done = issue(
        key_file, "--server", "[2001:db8::1]:7", "--internal", "10.0.0.1:1", "--internal", "10.0.0.2:2",
        "--client-id", "77", "--expire", 90, "--timeout", 5, "--name", "Ann", "--team", 2, "--out", out,
    )  # fmt: skip
    assert done.exit_code == 0 and done.output == ""
    token = out.read_bytes()
    public, inner = read_token(token), private(token)
    assert [str(address) for address in public.addresses] == [SERVER, "[2001:db8::1]:7"]
    assert [str(address) for address in inner.addresses] == ["10.0.0.1:1", "10.0.0.2:2"]
    assert public.expire_unix_s - public.create_unix_s == 90
    assert public.timeout_s == inner.timeout_s == 5
    assert (public.protocol_id, inner.client_id) == (0x1234, 77)
    assert inner.user_data.rstrip(b"\0") == b"\2Ann"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_token_on_stdout_is_base64_and_connects(key_file: Path) -> None:
    done = issue(key_file)
    token = base64.b64decode(done.stdout)
    public = read_token(token)
    host = Host(
        protocol_id=0x1234, private_key=KEY, addresses=[parse_address(SERVER)], clients_max=2, now_ns=0,
        unix_ns=public.create_unix_s * 10**9,
    )  # fmt: skip
    group, arena, here = ClientGroup(1, protocol_id=0x1234), Datagrams(8), parse_address("192.0.2.1:9")
    group.connect(0, token, 0)
    for turn in range(1, 4):
        now = turn * 100_000_000
        group.advance(now)
        for row in range(group.outgoing.count):
            arena.append(group.outgoing.datagram(row), here)
        host.receive(arena, now)
        arena.clear()
        for row in range(host.outgoing.count):
            arena.append(host.outgoing.datagram(row), parse_address(SERVER), peer=0)
        group.receive(arena, now)
        for datagrams in (arena, host.outgoing, group.outgoing):
            datagrams.clear()
    assert host.connected_clients().tolist() == [0]


def test_two_tokens_have_nothing_in_common(key_file: Path) -> None:
    one, two = (read_token(base64.b64decode(issue(key_file).stdout)) for _ in range(2))
    assert one.nonce != two.nonce and one.client_to_server_key != two.client_to_server_key
    first, second = (private(base64.b64decode(issue(key_file).stdout)) for _ in range(2))
    assert first.client_id != second.client_id


def test_the_card_of_a_running_server_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    card = ServerCard(
        address="127.0.0.1:4242", protocol_id=99, private_key=KEY.hex(), game="arena", map="arena", map_hash="",
        tick_hz=60, snapshot_hz=30, token_seconds=300, client_timeout_s=7,
    )  # fmt: skip
    write_card(card_path("token-test"), card)
    token = base64.b64decode(hitreg("issue", "--feed", "token-test", "--name", "Bo").stdout)
    public = read_token(token)
    assert (public.protocol_id, public.timeout_s, str(public.addresses[0])) == (99, 7, "127.0.0.1:4242")
    assert public.expire_unix_s - public.create_unix_s == 300
    assert private(token).user_data[:3] == b"\0Bo"
    other = base64.b64decode(hitreg("issue", "--feed", "token-test", "--server", SERVER, "--expire", 5).stdout)
    assert str(read_token(other).addresses[0]) == SERVER
    assert read_token(other).expire_unix_s - read_token(other).create_unix_s == 5
    assert "start a server first" in refused("issue", "--feed", "no-such-feed")


def test_show_prints_public_fields_and_no_keys(key_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "token"
    issue(key_file, "--client-id", "0xabc", "--user-data", "00ff", "--out", out)
    shown = hitreg("show", out)
    token = read_token(out.read_bytes())
    assert shown.exit_code == 0
    assert SERVER in shown.stdout and "0x0000000000001234" in shown.stdout and "in 60 s" in shown.stdout
    assert token.client_to_server_key.hex() not in shown.stdout and "client_id" not in shown.stdout
    fields = json.loads(hitreg("show", out, "--json", "--keys", "--key-file", key_file).stdout)
    assert fields["client_to_server_key"] == token.client_to_server_key.hex()
    assert (fields["client_id"], fields["user_data"]) == ("0x0000000000000abc", "00ff")
    text = base64.b64encode(out.read_bytes())
    assert hitreg("show", "-", stdin=text).stdout == hitreg("show", "-", stdin=out.read_bytes()).stdout == shown.stdout


def test_show_tells_expired_and_endless_tokens(key_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "token"
    issue(key_file, "--expire", 0, "--out", out)
    assert " s ago" in hitreg("show", out).stdout
    issue(key_file, "--expire", -1, "--out", out)
    assert "never" in hitreg("show", out).stdout


def test_a_new_key_is_private_never_replaced_and_usable(tmp_path: Path) -> None:
    path = tmp_path / "fresh"
    assert hitreg("key", path).exit_code == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    assert len(bytes.fromhex(before)) == 32
    assert "keys are never replaced" in refused("key", path)
    assert path.read_text() == before
    assert issue(path).exit_code == 0
    assert "directory you may write" in refused("key", tmp_path / "none" / "key")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--server", "example.org:1"], "address 'example.org:1': write it as"),
        (["--client-id", "ann"], "--client-id 'ann': not a number; write 1234 or 0x4d2"),
        (["--client-id", str(2**64)], "does not fit in 64 bits"),
        (["--user-data", "xyz"], "--user-data 'xyz': not hexadecimal"),
        (["--user-data", "00" * 257], "257 bytes; a token carries at most 256"),
        (["--user-data", "00", "--name", "x"], "give one of them"),
        (["--internal", "10.0.0.1:1", "--internal", "10.0.0.1:2"], "--internal: 2 for 1 --server; give one for each"),
        (["--key-file", "/no/such/file"], "name a readable file"),
        (["--out", "/no/such/directory/token"], "give --out a file in a directory you may write"),
        (["--timeout", str(2**31)], "timeout_s is 2147483648; it must fit in 32 bits"),
    ],
)
def test_what_is_wrong_is_one_line_with_a_remedy(key_file: Path, options: list[str], reason: str) -> None:
    base = ["--server", SERVER, "--key-file", str(key_file), "--protocol-id", "1"]
    assert reason in refused("issue", *base, *options)


def test_what_is_missing_is_named() -> None:
    assert "--server, --key-file, --protocol-id missing; give them, or --feed main" in refused("issue")


def test_what_is_not_a_token_is_refused(tmp_path: Path, key_file: Path) -> None:
    path = tmp_path / "file"
    assert "give a token's file" in refused("show", path)
    path.write_bytes(bytes(100))
    assert "100 bytes, and not base64" in refused("show", path)
    path.write_bytes(bytes(2048))
    assert "version" in refused("show", path)
    path.write_bytes(base64.b64encode(b"short"))
    assert "5 bytes; a connect token has 2048" in refused("show", path)
    issue(key_file, "--out", path)
    other = tmp_path / "other"
    hitreg("key", other)
    assert "not the key this token was made with" in refused("show", path, "--key-file", other)
