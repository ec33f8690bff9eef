"""The server's card, its key, and what of it makes two builds understand each other."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from net.errors import NetError
from net.tokens import read_token
from server.errors import ServerError
from server.game import load_game
from server.tickets import (
    CARD_VARIABLE,
    ServerCard,
    describe_protocol,
    edge_token_issuer,
    explain_mismatch,
    fresh_key,
    part_digests,
    protocol_id,
    protocol_parts,
    read_card,
    write_card,
)
from sim.schema import Delivery

CARD = ServerCard("127.0.0.1:4000", 7, "ab" * 32, "arena", "arena", "hash", 60, 30, 60, 10)


def test_a_card_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    write_card(path, CARD)
    assert read_card(path) == CARD
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"address": 1}', "\x00"])
def test_what_is_no_card_is_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "card.json"
    path.write_text(content)
    with pytest.raises(ServerError, match="not a server's card") as caught:
        read_card(path)
    assert "\n" not in str(caught.value)


def test_a_card_that_cannot_be_had_or_written_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="start a server first"):
        read_card(tmp_path / "absent")
    with pytest.raises(ServerError, match="XDG_RUNTIME_DIR"):
        write_card(tmp_path / "no" / "card.json", CARD)
    monkeypatch.delenv(CARD_VARIABLE, raising=False)
    with pytest.raises(ServerError, match="Is a directory"):
        edge_token_issuer("Anna")


def test_a_token_names_the_server_and_its_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "card.json"
    write_card(path, CARD)
    monkeypatch.setenv(CARD_VARIABLE, str(path))
    token = read_token(edge_token_issuer("Anna"))
    assert token.protocol_id == 7
    assert [str(address) for address in token.addresses] == ["127.0.0.1:4000"]
    assert token.expire_unix_s - token.create_unix_s == 60


def test_the_protocol_differs_with_game_map_and_rate() -> None:
    game = load_game("arena")
    same = protocol_id(game, tick_hz=60, map_hash="a")
    assert same == protocol_id(load_game("arena"), tick_hz=60, map_hash="a")
    others = {
        protocol_id(game, tick_hz=30, map_hash="a"),
        protocol_id(game, tick_hz=60, map_hash="b"),
        protocol_id(load_game("tests.server.bad_games:raises_at_start"), tick_hz=60, map_hash="a"),
    }
    assert len(others | {same}) == 4


def test_a_key_is_read_or_made_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    assert fresh_key("", lambda count: b"k" * count) == b"k" * 32
    good, short = tmp_path / "good", tmp_path / "short"
    good.write_text("0a" * 32 + "\n")
    short.write_text("0a")
    assert fresh_key(str(good)) == b"\n" * 32
    with pytest.raises(NetError, match="1 bytes; write 64"):
        fresh_key(str(short))
    with pytest.raises(ServerError, match="name a readable file"):
        fresh_key(str(tmp_path / "absent"))


def test_what_differs_is_named_with_its_remedy() -> None:
    game = load_game("arena")
    own = part_digests(protocol_parts(game, tick_hz=60, map_hash="a"))
    assert list(own) == ["wire format", "game", "map", "rate", "records"]
    assert explain_mismatch(replace(CARD, protocol_digests=own), own) == ""
    other = part_digests(protocol_parts(game, tick_hz=60, map_hash="b"))
    told = explain_mismatch(replace(CARD, protocol_digests=other), own)
    assert told == f"map differs (server {other['map']}, here {own['map']}): give both sides the same map file"
    slower = part_digests(protocol_parts(game, tick_hz=30, map_hash="a"))
    told = explain_mismatch(replace(CARD, protocol_digests=slower), own)
    assert "rate differs" in told and "game" not in told
    assert "same version" in explain_mismatch(CARD, own)


def test_documentation_is_no_part_of_the_protocol() -> None:
    game = load_game("arena")
    messages = tuple(replace(spec, doc="other words") for spec in game.messages)
    parts = protocol_parts(replace(game, messages=messages), tick_hz=60, map_hash="a")
    assert parts == protocol_parts(game, tick_hz=60, map_hash="a")
    louder = tuple(replace(spec, delivery=Delivery.UNRELIABLE) for spec in game.messages)
    changed = protocol_parts(replace(game, messages=louder), tick_hz=60, map_hash="a")
    assert changed["game"] != parts["game"] and changed["wire format"] == parts["wire format"]


def test_the_canonical_text_is_what_the_id_is_the_digest_of() -> None:
    parts = protocol_parts(load_game("arena"), tick_hz=60, map_hash="a")
    text = describe_protocol(parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    assert int.from_bytes(digest, "little") == protocol_id(load_game("arena"), tick_hz=60, map_hash="a")
    assert "packet header(sequence:u16" in text and "say(sender:entity, text:text 0..200)" in text
