"""Load on a server: players without a mind, storms of newcomers, and floods of hostile datagrams. A process of its own.

    python -m tools.load --card CARD --players 500

It reads commands from its input, one a line, and answers each with a line of JSON:

    play            the players connect; answered once all are in
    storm N         from now on N newcomers a second connect and leave again; 0: none
    junk KIND N     from now on N hostile datagrams of a kind a second, spread over time; 0: none
    waste KIND N    the same datagrams, but to a socket of our own: what sending them costs the machine, and no more
    report          counts so far
    (end of input)  everybody leaves

Players send what a client sends: one command per tick with its inputs, and acknowledgements; they do not look at what
they are told. Kinds of junk are the keys of `JUNK`.
"""

import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from net.address import parse_address
from net.connection import ClientGroup, ClientState
from net.datagrams import Datagrams
from net.messages import MessageCodec
from net.packets import request_packet
from net.party import Party
from net.tokens import VERSION_INFO, issue_token, read_token
from net.udp import ServerSocket, SocketGroup
from server.game import load_game
from server.tickets import ServerCard, read_card
from server.wire import owner_layout
from sim.arrays import U8, U64
from sim.jit import set_threads

__all__ = ["JUNK", "Load"]

NS = 1_000_000_000
CONNECTS_PER_FRAME = 8
CLIENT_BASE, STORM_BASE = 1 << 41, 1 << 42
STORM_LANES = 256
TEMPLATES = 256
CATCH_UP_TICKS = 4
NOISE_BYTES_MAX = 1200


class _Junk:
    """One kind of hostile datagram: some templates, sent over and over at a rate."""

    def __init__(self, load: "Load", datagrams: list[bytes], *, as_player: bool, target: U64) -> None:
        self._load, self._as_player, self._target = load, as_player, target
        self._arena = Datagrams(4096)
        self._templates: U8 = np.zeros((len(datagrams), 1280), np.uint8)
        self._lengths = np.array([len(datagram) for datagram in datagrams], np.int32)
        for row, datagram in enumerate(datagrams):
            self._templates[row, : len(datagram)] = np.frombuffer(datagram, np.uint8)
        self._next = 0

    def send(self, count: int) -> None:
        """Send `count` datagrams: from a socket of their own, or each from a player's."""
        arena = self._arena
        while count > 0:
            rows = min(count, arena.capacity)
            which = (self._next + np.arange(rows)) % len(self._lengths)
            arena.data[:rows] = self._templates[which]
            arena.length[:rows] = self._lengths[which]
            arena.address[:rows] = self._target
            arena.peer[:rows] = which % self._load.players if self._as_player else -1
            arena.count = rows
            (self._load.party.sockets if self._as_player else self._load.attacker).send(arena)
            self._next += rows
            count -= rows


def _noise(load: "Load") -> list[bytes]:
    return [load.random.bytes(int(load.random.integers(1, NOISE_BYTES_MAX))) for _ in range(TEMPLATES)]


def _empty(_: "Load") -> list[bytes]:
    return [b""]


def _short(load: "Load") -> list[bytes]:
    return [b"\x15" + load.random.bytes(int(load.random.integers(1, 16))) for _ in range(TEMPLATES)]


def _stranger(load: "Load") -> list[bytes]:
    """Well-formed payload packets from an address that nobody has."""
    return [b"\x25" + load.random.bytes(2 + 100 + 16) for _ in range(TEMPLATES)]


def _forged(load: "Load") -> list[bytes]:
    """Payload packets from players' addresses that are not authentic."""
    return [b"\x45\xff\xff\xff\x7f" + load.random.bytes(100 + 16) for _ in range(load.players)]


def _request(load: "Load", private: bytes, expire_unix_s: int) -> bytes:
    head = b"\0" + VERSION_INFO + load.card.protocol_id.to_bytes(8, "little") + expire_unix_s.to_bytes(8, "little")
    return head + load.random.bytes(24) + private


def _forged_token(load: "Load") -> list[bytes]:
    soon = int(time.time()) + 30
    return [_request(load, load.random.bytes(1024), soon) for _ in range(TEMPLATES)]


def _expired_token(load: "Load") -> list[bytes]:
    return [_request(load, load.random.bytes(1024), 1_000_000_000) for _ in range(TEMPLATES)]


def _foreign_token(load: "Load") -> list[bytes]:
    other = load.card.protocol_id ^ 1
    return [
        request_packet(read_token(load.issue(STORM_BASE + number, protocol_id=other))) for number in range(TEMPLATES)
    ]


def _used_token(load: "Load") -> list[bytes]:
    """Requests with the genuine tokens of players that are connected."""
    return [request_packet(read_token(token)) for token in load.used_tokens]


JUNK: dict[str, tuple[Callable[["Load"], list[bytes]], bool]] = {
    "noise": (_noise, False),
    "empty": (_empty, False),
    "short": (_short, False),
    "stranger": (_stranger, False),
    "forged": (_forged, True),
    "forged-token": (_forged_token, False),
    "expired-token": (_expired_token, False),
    "foreign-token": (_foreign_token, False),
    "used-token": (_used_token, False),
}
"""Kinds of hostile datagrams, and whether they come from players' own addresses."""


class Load:
    """Players, newcomers and junk.

    Attributes:
        party: The players.
        attacker: The socket that junk comes from.
        used_tokens: Tokens with which players have connected.
    """

    def __init__(self, card: ServerCard, players: int, *, seed: int = 1) -> None:
        game = load_game(card.game)
        self.card, self.players = card, players
        self.random = np.random.default_rng(seed)
        self.used_tokens: list[bytes] = []
        self.server_row = parse_address(card.address).row()
        self.attacker = ServerSocket("127.0.0.1:0")
        self._sink = ServerSocket("127.0.0.1:0")
        self.party = Party(
            players, protocol_id=card.protocol_id, layout=owner_layout(), tick_hz=card.tick_hz, token=self._token,
            to_server=MessageCodec.to_server(game.actions, game.messages),
            to_client=MessageCodec.to_client(game.actions, game.messages),
        )  # fmt: skip
        self.storms = ClientGroup(STORM_LANES, protocol_id=card.protocol_id)
        self.storm_sockets = SocketGroup(STORM_LANES)
        self.storm_hz = self.junk_hz = 0
        self.stormed = self.junked = 0
        self._storm_replies = Datagrams(1024)
        self._junk: _Junk | None = None
        self._storm_tokens = 0
        self._asked = 0
        self._debt = [0.0, 0.0]

    def issue(self, client_id: int, *, protocol_id: int) -> bytes:
        """A token of this server, or of another game."""
        card = self.card
        return issue_token(
            protocol_id=protocol_id, private_key=bytes.fromhex(card.private_key), client_id=client_id,
            addresses=[parse_address(card.address)], now_unix_s=int(time.time()), expire_s=card.token_seconds,
        )  # fmt: skip

    def _token(self, client: int) -> bytes:
        token = self.card.token(CLIENT_BASE + client, name=f"load {client}")
        self.used_tokens.append(token)
        return token

    def set_junk(self, kind: str, per_second: int, *, wasted: bool) -> None:
        """Send junk of a kind from now on, to the server or to a socket that nobody reads."""
        make, as_player = JUNK[kind]
        self.junk_hz = per_second
        target = self._sink.address.row() if wasted else self.server_row
        self._junk = _Junk(self, make(self), as_player=as_player and not wasted, target=target) if per_second else None

    def frame(self, now_ns: int, seconds: float) -> None:
        """One tick: players, newcomers, junk."""
        party = self.party
        for client in range(self._asked, min(self.players, self._asked + CONNECTS_PER_FRAME)):
            party.join(client, now_ns)
            self._asked = client + 1
        party.receive(now_ns)
        while party.clients.advance(now_ns):
            self._press()
        party.send(now_ns)
        self._storm(now_ns, seconds)
        if self._junk is not None:
            self._debt[1] += self.junk_hz * seconds
            self._junk.send(int(self._debt[1]))
            self.junked += int(self._debt[1])
            self._debt[1] %= 1.0

    def _press(self) -> None:
        count, tick = self.players, int(self.party.clients.tick.max())
        phase = np.arange(count) * 37 + tick
        self.party.clients.set_inputs(
            buttons=np.where(phase % 60 < 8, 8, 0), move_forward=np.where(phase % 240 < 200, 127, -64),
            move_right=np.where(phase % 90 < 45, 96, -96), yaw=(phase * 211) % 65_536, pitch=np.zeros(count),
            weapon=np.zeros(count),
        )  # fmt: skip

    def _storm(self, now_ns: int, seconds: float) -> None:
        """Connect newcomers at their rate; whoever is in leaves at once."""
        group = self.storms
        while self.storm_sockets.receive(self._storm_replies, now_ns):
            group.receive(self._storm_replies, now_ns)
        for lane in group.take_changes().tolist():
            if group.state[lane] == ClientState.CONNECTED:
                self.stormed += 1
                group.disconnect(lane, now_ns)
        self._debt[0] += self.storm_hz * seconds
        for lane in np.flatnonzero(group.state <= ClientState.DISCONNECTED)[: int(self._debt[0])].tolist():
            self._debt[0] -= 1.0
            self._storm_tokens += 1
            token = self.issue(STORM_BASE + self._storm_tokens, protocol_id=self.card.protocol_id)
            group.connect(lane, token, now_ns)
        self._debt[0] = min(self._debt[0], self.storm_hz * 0.1)
        group.advance(now_ns)
        self.storm_sockets.send(group.outgoing)

    def report(self) -> dict[str, float]:
        """Counts so far."""
        return {
            "connected": self.party.connected,
            "rejoins": self.party.rejoins,
            "stormed": self.stormed,
            "junked": self.junked,
        }

    def close(self) -> None:
        """Everybody leaves."""
        self.party.close(time.monotonic_ns())
        self.attacker.close()
        self._sink.close()
        self.storm_sockets.close()

    def obey(self, line: str) -> bool:
        """Carry out one command; False where it is not done yet."""
        words = line.split()
        if words[0] == "storm":
            self.storm_hz = int(words[1])
        elif words[0] in ("junk", "waste"):
            self.set_junk(words[1], int(words[2]), wasted=words[0] == "waste")
        return words[0] != "play" or self.party.connected == self.players


def main(
    card: Annotated[Path, typer.Option(help="The server's card.")],
    players: Annotated[int, typer.Option(help="How many players.")] = 500,
) -> None:
    """Obey the commands on standard input until it ends."""
    set_threads(1)
    load = Load(read_card(card), players)
    tick_ns, parent = NS // load.card.tick_hz, os.getppid()
    due = last = time.monotonic_ns()
    waiting = ""
    try:
        while os.getppid() == parent:
            now = time.monotonic_ns()
            if now < due:
                time.sleep((due - now) / NS)
                now = time.monotonic_ns()
            due = max(due + tick_ns, now - CATCH_UP_TICKS * tick_ns)
            load.frame(now, (now - last) / NS)
            last = now
            if not waiting and select.select([sys.stdin], [], [], 0)[0]:
                waiting = sys.stdin.readline()
                if not waiting:
                    return
            if waiting and load.obey(waiting):
                typer.echo(json.dumps(load.report()))
                sys.stdout.flush()
                waiting = ""
    finally:
        load.close()


if __name__ == "__main__":
    typer.run(main)
