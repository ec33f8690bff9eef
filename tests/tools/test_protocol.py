"""`hitreg protocol` says what the id is made of, and what differs from a running server."""

from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from net.connection import ClientGroup, ClientState
from net.errors import TokenError
from server.game import load_game
from server.maps import load_map
from server.tickets import ServerCard, card_path, part_digests, protocol_id, protocol_parts, write_card
from tools.cli import app

GAME, MAP_HASH = load_game("arena"), load_map("arena").content_hash()
DIGESTS = part_digests(protocol_parts(GAME, tick_hz=60, map_hash=MAP_HASH))
CARD = ServerCard(
    "127.0.0.1:4000", protocol_id(GAME, tick_hz=60, map_hash=MAP_HASH), "ab" * 32, "arena", "arena", MAP_HASH, 60, 30,
    60, 10, DIGESTS,
)  # fmt: skip


def told(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["protocol", *arguments])
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def test_the_id_and_its_parts_are_told() -> None:
    lines = told().splitlines()
    assert lines[0] == f"protocol id: {CARD.protocol_id:#018x}"
    assert lines[1:] == [f"{part}: {digest}" for part, digest in DIGESTS.items()]
    assert told("--text").startswith("== wire format\n")


def test_a_running_server_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    write_card(card_path("here"), CARD)
    assert told("--feed", "here").endswith("the same as here\n")
    other = part_digests(protocol_parts(replace(GAME, version="2"), tick_hz=60, map_hash=MAP_HASH))
    write_card(card_path("here"), replace(CARD, protocol_digests=other))
    last = told("--feed", "here").splitlines()[-1]
    assert "game differs" in last and "map differs" not in last and "rate differs" not in last
    result = CliRunner().invoke(app, ["protocol", "--feed", "nobody"])
    assert result.exit_code == 2 and "start a server first" in result.stderr


def test_a_client_with_a_token_of_another_protocol_is_told_both_ids_and_what_to_do() -> None:
    group = ClientGroup(1, protocol_id=5)
    with pytest.raises(TokenError, match=rf"{CARD.protocol_id:#x}, this client's is 0x5; .*hitreg protocol"):
        group.connect(0, CARD.token(1), 0)
    assert group.state[0] == ClientState.INVALID_TOKEN
