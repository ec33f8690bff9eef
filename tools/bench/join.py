"""`join`: how long a newcomer waits for the state of a zone of 4,000 entities, at 1 Mbit/s with 50 ms of round trip.

Two endpoints (acknowledgements, congestion control, blocks) and a simulated line with a queue of 250 ms between them,
in virtual time at 60 ticks a second. Snapshots of 200 bytes go on at 30 Hz all the while, and the client acknowledges
at 60 Hz. The clock runs from the client's asking until every entity it knows is the server's. What packing and
compressing takes is not in the virtual time: it is a row of its own, and less than a tick.

Each entity has twelve varied fields: a place to the centimetre, a heading, kind, state, health, owner, team, flags,
amount, and a counter. Reference: the same rows as plain integers, the id in 8 bytes and each field in 4, in one block
that is not compressed; and rows with each field in its declared bits.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from net.blocks import Blocks, FinishedBlock
from net.compression import Compressor
from net.congestion import CongestionLimits
from net.datagrams import DATAGRAM_BYTES, Datagrams, Payloads
from net.dictionaries import PayloadClass
from net.endpoint import Endpoint
from net.simulator import Link, NetworkProfile
from net.zone import JOIN_TAG, ZoneField, ZoneKind, ZoneLayout
from net.zone_replica import ZoneReplica
from server.zone_join import ZoneJoins
from server.zone_state import ZoneState
from sim.arrays import I32, I64, U8, U64
from sim.table import make_id
from tools.bench.harness import Row, median_us, row
from tools.errors import ToolsError

__all__ = ["run"]

ENTITIES = 4000
TICK_NS = 1_000_000_000 // 60
LINE = NetworkProfile(latency_ms=25.0, rate_kbps=1000.0)
SNAPSHOT_BYTES, COMMAND_BYTES = 200, 40
SECONDS_MAX = 20
SEEDS = (1, 2, 3)
NOWHERE: U64 = np.zeros(3, np.uint64)
FIELDS = (
    ("place.x", 20, 1 << 20), ("place.y", 20, 1 << 20), ("place.z", 14, 1 << 12), ("look.yaw", 12, 1 << 12),
    ("what.kind", 6, 40), ("what.state", 2, 4), ("what.health", 9, 101), ("what.owner", 12, 900),
    ("what.team", 3, 5), ("what.flags", 8, 16), ("what.amount", 10, 60), ("what.counter", 16, 3000),
)  # fmt: skip


def _zone(seed: int) -> ZoneState:
    """A zone whose every row is occupied."""
    layout = ZoneLayout([ZoneField(name, bits) for name, bits, _ in FIELDS], [ZoneKind("thing", 0, ENTITIES)])
    random = np.random.default_rng(seed)
    state = ZoneState(layout, clients=1)
    state.ids[:] = [make_id(zone=1, generation=int(random.integers(1, 9)), slot=slot) for slot in range(ENTITIES)]
    for word, (_, _, values) in enumerate(FIELDS):
        state.words[word] = random.integers(0, values, ENTITIES)
    state.commit(1)
    return state


class _End:
    """An endpoint, its blocks, and what it sends down its link."""

    def __init__(self, now_ns: int, *, seed: int) -> None:
        self.blocks = Blocks(1)
        self.endpoint = Endpoint(1, batch=1024, congestion=CongestionLimits(), blocks=self.blocks)
        self.endpoint.open([0], now_ns)
        self.link = Link(LINE, seed=seed)
        self._datagrams = Datagrams(1024)

    def send(self, payload: bytes, now_ns: int) -> None:
        one: I32 = np.zeros(1 if payload else 0, np.int32)
        buffer: U8 = np.frombuffer(bytearray(payload or b"\0"), np.uint8)
        lengths: I32 = np.full(len(one), len(payload), np.int32)
        self.endpoint.compose(one, buffer, one.astype(np.int64), lengths, now_ns)
        out = Datagrams(max(1, self.endpoint.packets.count))
        for index in range(self.endpoint.packets.count):
            out.append(self.endpoint.packets.payload(index), NOWHERE, peer=0)
        self.link.push(out, now_ns)

    def receive(self, other: "_End", now_ns: int) -> int:
        """Take what came over the other's link; how many unreliable payloads."""
        arrived = self._datagrams
        other.link.pull(arrived, now_ns)
        batch = Payloads(max(1, arrived.count))
        batch.count, batch.buffer = arrived.count, arrived.flat
        starts: I64 = np.arange(arrived.count) * DATAGRAM_BYTES
        batch.offset[: arrived.count], batch.length[: arrived.count] = starts, arrived.length[: arrived.count]
        batch.client[: arrived.count], batch.received_ns[: arrived.count] = 0, now_ns
        return self.endpoint.receive(batch, now_ns)

    # What `ZoneJoins` sends blocks with.

    def offer(self, client: int, content: bytes, *, tag: int, now_ns: int) -> int:
        return self.blocks.send(client, content, tag=tag, now_ns=now_ns)

    def take_finished(self) -> list[FinishedBlock]:
        return self.blocks.take_finished()


def _wait(seed: int, ask: Callable[[_End, int], Callable[[int], None]], have: Callable[[bytes], bool]) -> float:
    """Virtual seconds from asking until `have` says that a block is the state.

    Args:
        seed: Of the line.
        ask: Called when the client's request arrives; what it gives is called every tick from then on.
        have: Told of each block that arrives.
    """
    begin = now = 10**12
    server, client = _End(now, seed=seed), _End(now, seed=seed + 100)
    client.endpoint.tell(0, b"\x02ask")
    advance: Callable[[int], None] | None = None
    for tick in range(round(SECONDS_MAX * 1e9 / TICK_NS)):
        now += TICK_NS
        server.receive(client, now)
        if server.endpoint.messages.count and advance is None:
            advance = ask(server, now)
        if advance is not None:
            advance(now)
        server.send(b"\1" * SNAPSHOT_BYTES if tick % 2 == 0 else b"", now)
        client.receive(server, now)
        if any(have(block.content) for block in client.blocks.take_received()):
            return (now - begin) / 1e9
        client.send(b"\1" * COMMAND_BYTES, now)
    raise ToolsError(f"join: the block did not arrive within {SECONDS_MAX} s")


def _joined(seed: int, compressor: Compressor) -> float:
    state = _zone(seed)
    replica = ZoneReplica(1, state.layout)

    def ask(server: _End, _now_ns: int) -> Callable[[int], None]:
        joins = ZoneJoins(state, server, compressor)
        joins.ask(0, ())
        return joins.advance

    def have(content: bytes) -> bool:
        ids, words = state.occupied()
        taken = replica.take_join(0, content, compressor)
        return taken and np.array_equal(ids, replica.ids[0]) and np.array_equal(words, replica.words[0])

    return _wait(seed, ask, have)


def _plain(state: ZoneState) -> bytes:
    ids, words = state.occupied()
    return ids.tobytes() + words.tobytes()


def _plainly(seed: int) -> float:
    state = _zone(seed)
    wanted = _plain(state)

    def ask(server: _End, now_ns: int) -> Callable[[int], None]:
        server.offer(0, wanted, tag=JOIN_TAG, now_ns=now_ns)
        return lambda _: None

    return _wait(seed, ask, lambda content: content == wanted)


def run(_data: Sequence[Path]) -> list[Row]:
    """The wait, the bytes, and what the block takes the server and the client."""
    compressor = Compressor()
    state = _zone(1)

    def make() -> bytes:
        content, rows = state.join_block()
        return compressor.compress(content, PayloadClass.JOIN, part_bytes=rows)

    packed = make()
    replica = ZoneReplica(1, state.layout)
    times = median_us(
        {
            "make": make,
            "take": lambda: replica.take_join(0, packed, compressor),
        }
    )
    plain, case = "plain integers in a block", f"{ENTITIES:,} entities"
    bits = ENTITIES * (64 + sum(bits for _, bits, _ in FIELDS)) / 8
    wait, plainly = median(_joined(seed, compressor) for seed in SEEDS), median(_plainly(seed) for seed in SEEDS)
    return [
        row(case, wait, unit="s", reference=plain, reference_value=plainly),
        row(f"{case}, bytes", len(packed), unit="B", reference=plain, reference_value=len(_plain(state))),
        row(f"{case}, bytes", len(packed), unit="B", reference="each field in its bits", reference_value=bits),
        row(f"{case}, made by the server", times["make"]),
        row(f"{case}, taken by the client", times["take"]),
    ]
