"""docs/protocol.md is enough to write a client from: one written from it alone plays on a real server."""

import ast
import random
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from net.closing import CloseCode
from server.app import Server
from sim.components import Motion
from sim.geometry import Geometry
from sim.movers import Movers, MoverSet, Turn
from sim.trig import SINE_TABLE
from sim.worldmap import MoverKind, MoverMotion
from tests.net import document_client
from tests.net.document_client import Bits, Document, DocumentClient, Token, read_sections
from tests.net.document_movers import mover_offset, sine
from tests.server.bsp_writer import lift_hall
from tests.server.played import TICK_NS, Clients, joined, play, playing
from tests.sim.boxes import box
from tests.sim.test_movers import world_with
from tools.hand_clock import HandClock
from tools.protocol_page import example

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
DOCUMENT = Document(PAGE)


class Seat:
    """A document's client at a socket, over a link that may lose datagrams."""

    def __init__(self, server: Server, *, client_id: int, loss: float = 0.0) -> None:
        self.server = server
        self.client = DocumentClient(server.card.token(client_id, name="Doc", team=1), DOCUMENT)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self._random, self._loss = random.Random(7), loss

    def step(self, now_ns: int) -> None:
        """Take what came, and send what is due."""
        while True:
            try:
                datagram = self.socket.recv(2048)
            except BlockingIOError:
                break
            if self._random.random() >= self._loss:
                self.client.receive(datagram, now_ns)
        self.client.advance(now_ns)
        for datagram in self.client.outbox:
            if self._random.random() >= self._loss:
                self.socket.sendto(datagram, self.client.token.addresses[0])
        self.client.outbox.clear()


@contextmanager
def seated(*, loss: float = 0.0, others: int = 1) -> Iterator[tuple[Server, Seat, Clients]]:
    """A server, a document's client that has not connected yet, and others that play."""
    with playing(others) as (server, clients):
        seat = Seat(server, client_id=77, loss=loss)
        try:
            yield server, seat, clients
        finally:
            seat.socket.close()


def run(server: Server, seat: Seat, clients: Clients, ticks: int) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    for _ in range(ticks):
        clock.now += TICK_NS
        server.frame.run(clock.now)
        clients.frame(clock.now)
        seat.step(clock.now)


def run_to_snapshot(server: Server, seat: Seat, clients: Clients) -> None:
    """Go on until the newest snapshot is of the newest tick; not every tick has one for every client."""
    for _ in range(4):
        if seat.client.snapshots.tick == server.world.tick:
            return
        run(server, seat, clients, 1)
    raise AssertionError("no snapshot of the newest tick")


def test_the_client_knows_nothing_but_the_document() -> None:
    tree = ast.parse(Path(str(document_client.__file__)).read_text(encoding="utf-8"))
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in names} == {
        "re", "struct", "collections", "dataclasses", "pathlib", "typing", "msgpack", "nacl",
    }  # fmt: skip


def test_it_connects_is_welcomed_moves_and_knows_where_it_is() -> None:
    with seated() as (server, seat, clients):
        joined(server, clients)
        run(server, seat, clients, 90)
        client, world = seat.client, server.world
        assert client.state == "connected" and client.index >= 0
        name, (_, resumed, entity, tick, max_rewind_ms) = client.messages[0]
        assert (name, resumed, max_rewind_ms) == ("welcome", 0, 200) and 0 < tick <= world.tick
        row = world.players.slot_of(entity)
        before = world.players[Motion].position[row].copy()
        client.wish = (0, 127, 0, int(client.own("yaw")[0]), 0, 0)
        run(server, seat, clients, 60)
        run_to_snapshot(server, seat, clients)
        assert client.snapshots.input_tick > tick
        position = world.players[Motion].position[row]
        assert client.own("position") == tuple(position.tolist()), "to the last bit"
        assert float(np.hypot(*(position - before)[:2])) > 1.0, "its inputs moved it"
        assert client.own("alive") == (1,)


def test_by_claiming_that_nothing_changed_it_is_spared_the_owner_section_while_it_stands_still() -> None:
    with seated() as (server, seat, clients):
        joined(server, clients)
        client, world = seat.client, server.world
        client.predicts = True
        run(server, seat, clients, 90)
        told = client.snapshots.sections
        run(server, seat, clients, 60)
        # A new life's surplus of health ebbs away, a point a second: each is told until it is acknowledged.
        assert client.snapshots.sections <= told + 6
        told = client.snapshots.sections
        client.wish = (0, 127, 0, int(client.own("yaw")[0]), 0, 0)
        run(server, seat, clients, 60)
        assert client.snapshots.sections > told + 20, "its claims are wrong now"
        run_to_snapshot(server, seat, clients)
        row = world.players.slot_of(next(values[2] for name, values in client.messages if name == "welcome"))
        assert client.own("position") == tuple(world.players[Motion].position[row].tolist())


def test_it_decodes_what_the_others_do() -> None:
    with seated(others=4) as (server, seat, clients):
        joined(server, clients)
        clients.wishes = {"move_forward": 127, "buttons": 8}
        run(server, seat, clients, 150)
        run_to_snapshot(server, seat, clients)
        snapshots, world = seat.client.snapshots, server.world
        assert snapshots.deltas > 100
        assert check_slots(seat.client, server) >= 4, "the other players at least"
        kinds = {world.game.events[kind] for _, kind in snapshots.events}
        assert "shot" in kinds


def check_slots(client: DocumentClient, server: Server) -> int:
    """Compare every entity that a client was told of in this tick; how many players there are in its slots."""
    ids, fields = server.frame._view.ids, server.frame._parts.replication.fields
    players = 0
    for slot, entity in client.snapshots.entities.items():
        rows = np.flatnonzero(ids == entity)
        assert len(rows) == 1
        if (slot, client.snapshots.tick) in client.snapshots._history:
            level, values = client.snapshots.levels[slot], fields[rows[0]].tolist()
            told = [number < 6 or field[3] <= level for number, field in enumerate(client.document.fields)]
            told[:6] = [level < 3] * 6
            assert client.snapshots.values[slot] == [value * on for value, on in zip(values, told, strict=True)]
        players += int(rows[0]) < server.world.players.capacity
    return players


def test_what_it_says_reaches_everyone_under_its_name_in_spite_of_loss() -> None:
    with seated(loss=0.25) as (server, seat, clients):
        joined(server, clients)
        run(server, seat, clients, 150)
        client = seat.client
        assert client.state == "connected"
        entity = next(values[2] for name, values in client.messages if name == "welcome")
        lines = [f"line {number}" for number in range(4)]
        for line in lines:
            client.say("say", line)
        run(server, seat, clients, 90)
        assert [values for name, values in client.messages if name == "say"] == [[entity, line] for line in lines]
        assert [text for _, text in clients.heard] == lines
        assert client.snapshots.deltas > 20, "lost snapshots do not spoil later ones"


def test_it_leaves_with_a_goodbye_and_is_told_when_it_is_sent_away() -> None:
    with seated() as (server, seat, clients):
        joined(server, clients)
        run(server, seat, clients, 60)
        assert server.sessions.playing == 2
        seat.client.leave()
        run(server, seat, clients, 5)
        assert server.sessions.playing == 1
    with seated() as (server, seat, clients):
        run(server, seat, clients, 60)
        server.frame._parts.transport.kick(seat.client.index, CloseCode.KICKED, "too rude")
        run(server, seat, clients, 10)
        assert (seat.client.state, seat.client.closed) == ("over", (CloseCode.KICKED, "too rude"))


def hexadecimal(after: str) -> bytes:
    """The bytes of the page's next block behind a text."""
    block = re.search(r"\n((?:    (?:[0-9a-f]{2} ?)+\n)+)", PAGE.read_text(encoding="utf-8").split(after, 1)[1])
    assert block is not None
    return bytes.fromhex(block[1])


def test_the_example_reads_as_the_page_says() -> None:
    made = example()
    token = Token(made["token"])
    assert hexadecimal("Its private key is") == made["token"][:61]
    assert hexadecimal("time-out, one address") == made["token"][1085:1164]
    assert token.addresses == [("203.0.113.7", 40000)] and token.protocol_id == 0x1122334455667788
    assert token.request() == made["request"]
    assert token.request()[:54] == hexadecimal("Its request begins with")
    packet, datagram = hexadecimal("A packet of that client"), hexadecimal("with sequence 300")
    assert token.open(datagram, key=token.send_key) == (5, 300, packet)
    assert token.seal(5, packet, 300) == datagram
    sections = read_sections(packet)
    assert sections is not None
    assert [(kind, number) for kind, _, number, _ in sections] == [(1, 0), (3, 0)]
    assert sections[1][3] == b"\2\x92\x11\xa2hi" and packet[:9].hex() == "050009000300000010"


def mover_rows() -> list[tuple[str, int, int, int, tuple[float, ...]]]:
    """The page's table of movers: motion, opens, since, tick, offset."""
    found = re.findall(
        r"^\| ((?:SLIDE|BOB|PATH), .*?) \| ([01]) \| (-?\d+) \| (\d+) \| (\S+) \| (\S+) \| (\S+) \|$",
        DOCUMENT.chapter("Movers"), re.M,
    )  # fmt: skip
    return [(row[0], int(row[1]), int(row[2]), int(row[3]), tuple(map(float, row[4:]))) for row in found]


def motion_of(words: str) -> dict[str, Any]:
    """A motion as the page's table writes it."""
    kind, rest = words.split(", ", 1)
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", rest)]
    if kind == "PATH":
        path = [numbers[at : at + 5] for at in range(0, len(numbers), 5)]
        return {"kind": 3, "travel": [0.0, 0.0, 0.0], "seconds": 1.0, "phase": 0.0, "path": path}
    phase = numbers[4] if kind == "BOB" else 0.0
    return {
        "kind": 1 if kind == "SLIDE" else 2,
        "travel": numbers[:3],
        "seconds": numbers[3],
        "phase": phase,
        "path": [],
    }


def test_movers_are_where_the_page_says_to_the_last_bit() -> None:
    rows = mover_rows()
    assert {row[0].split(",")[0] for row in rows} == {"SLIDE", "BOB", "PATH"}
    assert len(rows) >= 14
    for words, opens, since, tick, offset in rows:
        assert mover_offset(motion_of(words), opens, since, tick, 60) == offset, words
    for angle in (0, 1, 5000, 16384, 16385, 30000, 40000, 65535):
        own = float(SINE_TABLE[angle % 16384 if angle // 16384 % 2 == 0 else 16384 - angle % 16384])
        assert sine(angle) == (own if angle < 32768 else -own)


@pytest.mark.parametrize("rate", [20, 60, 128])
def test_the_servers_movers_are_where_the_page_says(rate: int) -> None:
    motions = list(dict.fromkeys(row[0] for row in mover_rows()))
    figures = [motion_of(words) for words in motions]
    parts = [box((3.0 * n, 0.0, 0.0), (3.0 * n + 1.0, 1.0, 1.0)) for n in range(len(figures))]
    made = [
        MoverMotion(
            MoverKind(figure["kind"]), tuple(figure["travel"]), figure["seconds"], phase=figure["phase"],
            path=tuple(tuple(point) for point in figure["path"]),
        )
        for figure in figures
    ]  # fmt: skip
    world = world_with(*zip(parts, made, strict=True))
    movers = MoverSet(world, Geometry.build(world), tick_hz=rate)
    dice, offsets = random.Random(rate), np.zeros((len(made), 3))
    for _ in range(300):
        opens, since = dice.getrandbits(1), dice.randint(-5000, 5000)
        tick = since + dice.choice((dice.randint(0, 400), dice.randint(0, 10**6)))
        turns = (np.full(3, opens, np.uint8), np.full(3, since, np.int32), np.zeros(3, np.int32))
        movers.offsets(turns, tick, offsets)
        for row, figure in enumerate(figures):
            assert mover_offset(figure, opens, since, tick, rate) == tuple(offsets[row].tolist()), (row, since, tick)


def test_a_client_finds_doors_in_what_every_client_is_told_of_the_zone(tmp_path: Path) -> None:
    """By the page: words turn.opens and turn.since of the kind's rows, in the order of the map."""
    path = tmp_path / "hall.bsp"
    path.write_bytes(lift_hall().data())
    with playing(1, with_zone=True, map=str(path)) as (server, clients):
        joined(server, clients)
        zone, world = clients.zone, server.world
        assert zone is not None
        clients.wishes["move_forward"] = 127  # onto the lift
        turn = world.table("mover")[Turn]
        while not turn.opens[0]:
            assert world.tick < 600
            play(server, clients, 1)
        play(server, clients, 6)  # until it has been told
        (first, last) = map(
            int, re.findall(r"^\| mover \| (\d+) … (\d+) \|", DOCUMENT.chapter("Zone-wide state"), re.M)[0]
        )
        assert last - first + 1 == world.table("mover").capacity
        opens, since = (zone.values(0, name)[first : first + 3].tolist() for name in ("turn.opens", "turn.since"))
        for row, mover in enumerate(world.map.moving):
            assert mover.motion is not None
            offset = mover_offset(asdict(mover.motion), opens[row], since[row], world.tick, 60)
            assert offset == tuple(world.services[Movers].offsets[row].tolist())


@pytest.mark.parametrize(("order", "value"), [(0, 0), (0, 5), (3, 100), (8, 1), (16, 2**33 - 1)])
def test_numbers_in_the_documents_code_are_those_of_the_kernels(order: int, value: int) -> None:
    from net.bits_kernels import put_golomb

    out = np.zeros(16, np.uint8)
    at, word, _ = put_golomb(out, 0, 0, 0, value, order)
    out[at] = word
    assert Bits(out.tobytes()).golomb(order) == value
