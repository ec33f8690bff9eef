"""Newcomers over real endpoints and a thin line: soon up to date, and live snapshots do not notice."""

import numpy as np
import zstandard

from net.block_limits import BlockLimits
from net.blocks import Blocks, FinishedBlock, Outcome
from net.compression import Compressor
from net.congestion import CongestionLimits
from net.dictionaries import Dictionary, PayloadClass
from net.simulator import NetworkProfile
from net.snapshots import PAYLOAD_BYTES
from net.zone import JOIN_TAG, ZoneField, ZoneKind, ZoneLayout
from net.zone_replica import ZoneReplica
from server.zone_join import ATTEMPTS_MAX, BLOCK_TICKS, BLOCKS_MAX, OFFERS_MAX, ZoneJoins
from server.zone_state import ZoneState
from sim.table import make_id
from tests.net.endpoints import MS, SECOND, Pair

TICK = 1_000 * MS // 60
THIN = NetworkProfile(latency_ms=25, rate_kbps=1_000)
COMMAND = b"\x01" + bytes(40)


def zone(rows: int, *, clients: int = 1, seed: int = 1) -> ZoneState:
    """Every row occupied, with 56 bits that no compressor shortens, and 8 words more."""
    fields = [ZoneField("a.b", 28, count=2), ZoneField("c.d", 6, count=8)]
    state = ZoneState(ZoneLayout(fields, [ZoneKind("thing", 0, rows)]), clients=clients)
    random = np.random.default_rng(seed)
    state.ids[:] = [make_id(zone=0, generation=1, slot=slot) for slot in range(rows)]
    state.words[:2] = random.integers(0, 1 << 28, (2, rows))
    state.words[2:] = random.integers(0, 3, (8, rows))
    state.commit(1)
    return state


class Sender:
    """Sends blocks through an endpoint's blocks, as a transport does; or notes them, without one."""

    def __init__(self, blocks: Blocks | None = None, *, room: int = 1 << 20) -> None:
        self.blocks, self.room = blocks, room
        self.offers: list[tuple[int, bytes]] = []
        self.finished: list[FinishedBlock] = []

    def offer(self, client: int, content: bytes, *, tag: int, now_ns: int) -> int:
        if len(self.offers) >= self.room:
            return -1
        self.offers.append((client, content))
        if self.blocks is not None:
            return self.blocks.send(client, content, tag=tag, now_ns=now_ns)
        return len(self.offers) - 1

    def take_finished(self) -> list[FinishedBlock]:
        if self.blocks is not None:
            return self.blocks.take_finished()
        finished, self.finished = self.finished, []
        return finished

    def end(self, number: int, outcome: Outcome) -> None:
        self.finished.append(FinishedBlock(number, self.offers[number][0], JOIN_TAG, outcome))


class Play:
    """A server and a client over a thin line: snapshots at 30 Hz, and a join where it is wanted."""

    def __init__(self, *, join: bool) -> None:
        self.server, self.client = Blocks(1, limits=BlockLimits(receive_bytes=0)), Blocks(1)
        self.pair = Pair(THIN, congestion=CongestionLimits(), blocks=(self.server, self.client))
        self.state, self.compressor = zone(4000), Compressor()
        self.joins = ZoneJoins(self.state, Sender(self.server), self.compressor)
        self.replica = ZoneReplica(1, self.state.layout)
        self.delays: list[float] = []
        self.room: list[float] = []
        self.joined_s = 0.0
        for tick in range(150):
            if join and tick == 6:  # the client asked at tick 0
                self.joins.ask(0, ())
            self.step(tick)

    def step(self, tick: int) -> None:
        pair = self.pair
        self.joins.advance(pair.now_ns)
        self.room.append(float(pair.ends[0].budget_bytes[0]) + PAYLOAD_BYTES)
        snapshot = b"\x01" + pair.now_ns.to_bytes(8, "little") + bytes(191)
        pair.step(TICK, payloads=(snapshot if tick % 2 == 0 else None, COMMAND))
        arrived = pair.payloads[1]
        self.delays += [(pair.now_ns - int.from_bytes(payload[1:9], "little")) / MS for payload in arrived]
        arrived.clear()
        for block in self.client.take_received():
            assert self.replica.take_join(0, block.content, self.compressor)
            self.joined_s = tick * TICK / SECOND


def test_a_join_of_a_large_zone_takes_less_than_a_second_and_leaves_snapshots_as_they_were() -> None:
    alone, beside = Play(join=False), Play(join=True)
    assert 0.3 < beside.joined_s < 1.0
    ids, words = beside.state.occupied()
    assert np.array_equal(ids, beside.replica.ids[0])
    assert np.array_equal(words, beside.replica.words[0])
    assert beside.state.told().tolist() == [0]
    assert len(beside.delays) >= len(alone.delays) - 1 >= 70
    # Every snapshot may be as large as ever: what is left of the budget never falls below one packet's debt.
    assert min(beside.room) > 0.0
    # A packet of 1,100 bytes is 9 ms on this line; the queue of a block may hold a snapshot up for a few of them.
    assert np.median(beside.delays) <= np.median(alone.delays) + 1.1 * TICK / MS
    assert max(beside.delays) <= max(alone.delays) + 100.0


def test_who_joins_within_a_moment_shares_one_block() -> None:
    sender, compressor = Sender(), Compressor()
    state = zone(20, clients=10)
    joins = ZoneJoins(state, sender, compressor)
    for client in range(10):
        joins.ask(client, ())
    joins.advance(0)
    assert joins.built == 1
    assert len({id(content) for _, content in sender.offers}) == 1
    state.commit(1 + BLOCK_TICKS - 1)
    joins.ask(0, ())
    joins.advance(0)
    assert joins.built == 1
    state.commit(1 + BLOCK_TICKS)
    joins.ask(0, ())
    joins.advance(0)
    assert joins.built == 2


def test_what_changes_while_a_block_is_under_way_is_told_after_it() -> None:
    sender, compressor = Sender(), Compressor()
    state = zone(20)
    joins = ZoneJoins(state, sender, compressor)
    joins.ask(0, ())
    joins.advance(0)
    state.words[0, 3] = 77
    state.commit(2)
    assert state.told().tolist() == []
    sender.end(0, Outcome.DELIVERED)
    joins.advance(0)
    assert state.told().tolist() == [0]
    state.sections(2, np.zeros(1, np.int32))
    assert state.lengths[0] > 0


def test_a_block_that_fails_is_offered_again_and_then_no_more() -> None:
    sender = Sender()
    joins = ZoneJoins(zone(20), sender, Compressor())
    joins.ask(0, ())
    for attempt in range(ATTEMPTS_MAX):
        joins.advance(0)
        assert len(sender.offers) == attempt + 1
        sender.end(attempt, Outcome.REFUSED)
    joins.advance(0)
    joins.advance(0)
    assert len(sender.offers) == ATTEMPTS_MAX
    assert (joins.failed, joins.delivered) == (1, 0)


def test_who_leaves_in_between_is_forgotten_and_a_successor_is_not_taken_for_it() -> None:
    sender = Sender()
    state = zone(20)
    joins = ZoneJoins(state, sender, Compressor())
    joins.ask(0, ())
    joins.advance(0)
    joins.leave(0)
    sender.end(0, Outcome.DELIVERED)
    joins.advance(0)
    assert state.told().tolist() == []
    joins.ask(0, ())
    joins.leave(0)
    joins.advance(0)
    assert len(sender.offers) == 1


def test_a_crowd_of_newcomers_is_served_in_turn() -> None:
    sender = Sender()
    state = zone(5, clients=OFFERS_MAX + 5)
    joins = ZoneJoins(state, sender, Compressor())
    for client in range(OFFERS_MAX + 5):
        joins.ask(client, ())
    joins.advance(0)
    assert len(sender.offers) == OFFERS_MAX
    for number in range(OFFERS_MAX):
        sender.end(number, Outcome.DELIVERED)
    joins.advance(0)
    assert [client for client, _ in sender.offers] == list(range(OFFERS_MAX + 5))


def test_where_blocks_have_no_room_newcomers_wait() -> None:
    sender = Sender(room=1)
    joins = ZoneJoins(zone(5, clients=2), sender, Compressor())
    joins.ask(0, ())
    joins.ask(1, ())
    joins.advance(0)
    assert joins.statistics()["joins_waiting"] == 1
    sender.room = 2
    joins.advance(0)
    assert joins.statistics()["joins_waiting"] == 0


def join_dictionary() -> Dictionary:
    """Trained on blocks like those of the tests."""
    blocks = [zone(40, seed=seed).join_block()[0] for seed in range(2, 200)]
    content = zstandard.train_dictionary(4096, [*blocks], level=1).as_bytes()
    return Dictionary(PayloadClass.JOIN, content)


def test_a_dictionary_is_used_with_those_who_have_it_alone() -> None:
    dictionary = join_dictionary()
    compressor, sender = Compressor(dictionaries=[dictionary]), Sender()
    state = zone(40, clients=2 + BLOCKS_MAX)
    joins = ZoneJoins(state, sender, compressor)
    joins.ask(0, (dictionary.id, 99))
    joins.ask(1, (98,))
    joins.advance(0)
    assert joins.built == 2
    with_it, without = (content for _, content in sender.offers)
    assert (with_it[0], without[0]) == (3, 2)
    plain = Compressor()
    assert ZoneReplica(1, state.layout).take_join(0, without, plain)
    assert not ZoneReplica(1, state.layout).take_join(0, with_it, plain)
    assert ZoneReplica(1, state.layout).take_join(0, with_it, compressor)
