"""What clients know of a zone is what the server has, whatever the network does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.compression import Compressor
from net.dictionaries import PayloadClass
from net.zone import SECTION_BYTES_MAX, ZoneField, ZoneKind, ZoneLayout
from net.zone_replica import ZoneReplica
from server.errors import GameError, ServerError
from server.game import load_game
from server.zone_state import CANDIDATES_MAX, ZoneState, ZoneView, zone_layout
from sim.arrays import I32, U8
from sim.components import Motion
from sim.plugin import Registration
from sim.schema import Audience, Component, Wire, column
from sim.table import make_id
from sim.world import World
from tests.reference.zone import read_section
from tests.sim.toy import floor_map

FIELDS = (
    ZoneField("score.points", 12, signed=True),
    ZoneField("door.open", 1),
    ZoneField("flag.carrier", 32),
    ZoneField("name.text", 8, count=8, packed=True),
)


def small_layout(rows: int = 12) -> ZoneLayout:
    return ZoneLayout(FIELDS, [ZoneKind("player", 100, rows // 2), ZoneKind("door", 500, rows - rows // 2)])


class Link:
    """A server's zone state and clients that get its sections over a network that loses, repeats and reorders."""

    def __init__(self, layout: ZoneLayout, *, clients: int = 2, section_bytes: int = 60, seed: int = 1) -> None:
        self.random = np.random.default_rng(seed)
        self.state = ZoneState(layout, clients=clients, section_bytes=section_bytes)
        self.replica = ZoneReplica(clients, layout)
        self.newest = np.full(clients, -1, np.int64)
        self.taken: list[set[int]] = [set() for _ in range(clients)]
        self.air: list[tuple[int, int, int, bytes]] = []  # arrives at, client, sequence, section
        self.acks: list[tuple[int, int, int, int]] = []
        self.compressor = Compressor()
        self.clients, self.tick, self.sequence, self.sent_bytes = clients, 0, 0, 0

    def join(self, client: int) -> None:
        block = self.compressor.compress(self.state.join_block()[0], PayloadClass.JOIN)
        assert self.replica.take_join(client, block, self.compressor)
        self.state.begin(client, self.state.tick)

    def step(self, *, loss: float = 0.0, twice: float = 0.0, late: int = 0) -> None:
        """One tick, after words and ids were changed."""
        self.tick += 1
        self.state.commit(self.tick)
        arena, offset, length = self.state.sections(self.tick, np.arange(self.clients, dtype=np.int32))
        self.sequence += 1
        for client in range(self.clients):
            section = bytes(arena[offset[client] : offset[client] + length[client]])
            self.sent_bytes += len(section)
            for _ in range(2 if self.random.random() < twice else 1):
                if self.random.random() >= loss:
                    when = self.tick + 1 + int(self.random.integers(0, late + 1))
                    self.air.append((when, client, self.sequence & 0xFFFF, section))
        every = np.arange(self.clients, dtype=np.int32)
        self.state.note(every, np.full(self.clients, self.sequence & 0xFFFF))
        self._carry(loss, late)

    def _carry(self, loss: float, late: int) -> None:
        arrived = [entry for entry in self.air if entry[0] <= self.tick]
        self.air = [entry for entry in self.air if entry[0] > self.tick]
        self.random.shuffle(arrived)
        for _, client, sequence, section in arrived:
            if self.newest[client] >= 0 and ((sequence - int(self.newest[client])) & 0xFFFF) - 1 >= 0x7FFF:
                continue
            assert take(self.replica, client, section) == 0
            assert not section or read_section(section, self.state.layout) is not None
            self.newest[client] = sequence
            self.taken[client].add(sequence)
            mask = sum(1 << i for i in range(32) if (sequence - 1 - i) & 0xFFFF in self.taken[client])
            if self.random.random() >= loss:
                self.acks.append((self.tick + 1 + int(self.random.integers(0, late + 1)), client, sequence, mask))
        due = [ack for ack in self.acks if ack[0] <= self.tick]
        self.acks = [ack for ack in self.acks if ack[0] > self.tick]
        if due:
            columns = np.array([ack[1:] for ack in due], np.int64).T
            self.state.acknowledge(
                columns[0].astype(np.int32), columns[1].astype(np.int32), columns[2].astype(np.uint32)
            )

    def settle(self) -> None:
        """Let everything arrive, without loss."""
        for _ in range(40):
            self.step()

    def check(self, client: int) -> None:
        ids, words = self.state.occupied()
        assert np.array_equal(self.replica.ids[client], ids)
        assert np.array_equal(self.replica.words[client], words)


def take(replica: ZoneReplica, client: int, section: bytes) -> int:
    row: U8 = np.frombuffer(section or b"\0", np.uint8).copy().reshape(1, -1)
    zero: I32 = np.zeros(1, np.int32)
    length: I32 = np.array([len(section)], np.int32)
    return int(replica.take_sections(np.array([client], np.int32), row, zero, length)[0])


def spawn(state: ZoneState, row: int, generation: int) -> None:
    state.ids[row] = make_id(zone=3, generation=generation, slot=int(state.layout.slots[row]))


def disturb(link: Link, rng: np.random.Generator, generations: list[int], changes: int) -> None:
    """Some spawns, despawns, reuses and changes of words, some back and forth."""
    state = link.state
    for _ in range(changes):
        row, what = int(rng.integers(len(state.ids))), int(rng.integers(8))
        if what == 0:
            state.ids[row] = 0
        elif what == 1 or state.ids[row] == 0:
            generations[row] += 1
            spawn(state, row, generations[row])
            state.words[:, row] = 0
        else:
            word = int(rng.integers(len(state.words)))
            bits, signed = state.layout.bits[word].tolist()
            low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
            state.words[word, row] = rng.integers(low, high)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    loss=st.sampled_from([0.0, 0.1, 0.5]),
    late=st.integers(0, 9),
    rows=st.sampled_from([1, 2, 12, 40]),
    changes=st.sampled_from([1, 6]),
)
def test_clients_know_exactly_what_the_server_has_once_all_is_acknowledged(
    seed: int, loss: float, late: int, rows: int, changes: int
) -> None:
    link = Link(small_layout(rows), seed=seed)
    rng, generations = np.random.default_rng(seed + 1), [0] * rows
    for tick in range(60):
        disturb(link, rng, generations, changes)
        link.step(loss=loss, twice=0.2, late=late)
        if tick in {3, 9}:
            link.join(tick // 9)
    link.settle()
    for client in range(link.clients):
        link.check(client)
    assert link.replica.sections[1:].sum() == 0


def test_without_changes_nothing_is_sent() -> None:
    link = Link(small_layout())
    spawn(link.state, 0, 1)
    link.step()
    link.join(0)
    link.settle()
    assert link.sent_bytes == 0
    link.check(0)


def test_without_loss_a_change_is_sent_once() -> None:
    link = Link(small_layout())
    spawn(link.state, 2, 1)
    link.step()
    link.join(0)
    link.state.words[0, 2] = -7
    for _ in range(30):
        link.step(late=5)
    assert link.replica.values(0, "score.points")[2] == -7
    assert link.state.counts()["sections"] == 1


def test_clients_that_lack_the_same_share_one_section() -> None:
    link = Link(small_layout(), clients=50)
    spawn(link.state, 2, 1)
    link.step()
    for client in range(50):
        link.join(client)
    link.state.words[0, 2] = 5
    link.step()
    assert link.state.counts()["sections"] == 50
    assert link.state.counts()["sections_encoded"] == 1


def test_more_changes_than_a_section_holds_are_told_oldest_first_and_completely() -> None:
    link = Link(small_layout(300), clients=1)
    for row in range(300):
        spawn(link.state, row, 1)
    link.step()
    link.join(0)
    link.state.words[0, 200:300] = 9
    link.step()
    link.state.words[0, :200] = np.arange(200)
    link.step()
    assert link.state.counts()["sections_cut"] == 2
    told = [0]
    for _ in range(60):
        link.step()
        points = link.replica.words[0, :, 0]
        told.append(int((points != 0).sum()))
        assert (points[200:] == 9).all() or (points[:200] == 0).all()
    assert told == sorted(told)
    link.check(0)


def test_rows_that_change_in_every_tick_all_come_through_in_the_end() -> None:
    link = Link(small_layout(300), clients=1)
    for row in range(300):
        spawn(link.state, row, 1)
    link.step()
    link.join(0)
    seen = np.zeros(300, np.bool_)
    for turn in range(1, 400):
        link.state.words[0, :] = turn
        link.step()
        seen |= link.replica.words[0, :, 0] > 0
    assert seen.all()


def test_a_section_says_no_more_and_no_less_than_what_changed() -> None:
    link = Link(small_layout(), clients=1)
    spawn(link.state, 2, 17)
    link.step()
    link.join(0)
    spawn(link.state, 5, 3)
    link.state.words[:, 5] = (0, 1, -9, 0, 7)
    link.state.words[0, 2] = -2048
    link.state.commit(link.tick + 1)
    arena, offset, length = link.state.sections(link.tick + 1, np.zeros(1, np.int32))
    section = bytes(arena[offset[0] : offset[0] + length[0]])
    fresh = make_id(zone=3, generation=3, slot=int(link.state.layout.slots[5]))
    assert read_section(section, link.state.layout) == {
        2: (None, 17 & 15, {0: -2048}),
        5: (fresh, 0, {1: 1, 2: -9, 4: 7}),
    }


def test_a_reused_slot_carries_nothing_over() -> None:
    link = Link(small_layout())
    spawn(link.state, 4, 1)
    link.state.words[:, 4] = 1
    link.step()
    link.join(0)
    link.state.ids[4] = 0
    link.step()
    link.step()
    link.step()
    assert link.replica.ids[0, 4] == 0
    assert not link.replica.words[0, 4].any()
    spawn(link.state, 4, 2)
    link.state.words[:, 4] = 0
    link.state.words[1, 4] = 1
    link.settle()
    link.check(0)
    assert link.replica.words[0, 4].tolist() == [0, 1, 0, 0, 0]


def test_a_client_that_acknowledges_nothing_is_told_again_and_does_no_harm() -> None:
    link = Link(small_layout(), clients=1)
    spawn(link.state, 0, 1)
    link.step()
    link.join(0)
    for turn in range(200):
        link.state.words[0, 0] = turn + 1 & 1023
        link.tick += 1
        link.state.commit(link.tick)
        link.state.sections(link.tick, np.zeros(1, np.int32))
        assert link.state.lengths[0] > 0
        link.state.note(np.zeros(1, np.int32), np.array([turn]))
    assert link.state.counts()["sections_lost"] >= 2


@pytest.mark.parametrize(("sequence", "mask"), [(-1, 0), (0, 0xFFFFFFFF), (65_535, 0xFFFFFFFF), (40_000, 1)])
def test_acknowledgements_of_what_was_never_sent_change_nothing(sequence: int, mask: int) -> None:
    link = Link(small_layout(), clients=1)
    spawn(link.state, 0, 1)
    link.step()
    link.join(0)
    words = np.array([mask], np.uint32)
    assert link.state.acknowledge(np.zeros(1, np.int32), np.array([sequence], np.int32), words) == 0
    link.state.words[0, 0] = 3
    link.settle()
    link.check(0)


def test_who_is_hopelessly_behind_is_listed_for_a_block() -> None:
    rows = CANDIDATES_MAX + 10
    link = Link(small_layout(rows), clients=1)
    link.step()
    link.join(0)
    for row in range(rows):
        spawn(link.state, row, 1)
    link.step()
    assert link.state.behind().tolist() == [0]
    link.join(0)
    assert link.state.behind().tolist() == []
    link.settle()
    link.check(0)


def test_who_has_left_is_told_nothing() -> None:
    link = Link(small_layout(), clients=1)
    spawn(link.state, 0, 1)
    link.step()
    link.join(0)
    link.state.leave(0)
    link.state.words[0, 0] = 3
    link.step()
    assert link.sent_bytes == 0


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=80), known=st.booleans())
def test_hostile_sections_are_counted_and_change_nothing_unless_whole(data: bytes, known: bool) -> None:
    layout = small_layout()
    replica = ZoneReplica(1, layout)
    if known:
        replica.ids[0, ::2] = np.uint64(make_id(zone=0, generation=1, slot=7))
    before = replica.ids.copy(), replica.words.copy()
    outcome = take(replica, 0, data)
    read = read_section(data, layout) if data else {}
    assert (outcome == 0) == (read is not None)
    for row, (identity, _, words) in (read or {}).items():
        if identity is not None:
            assert int(replica.ids[0, row]) == identity
            assert replica.words[0, row].tolist() == [words.get(word, 0) for word in range(layout.words)]
    if outcome:
        assert np.array_equal(before[0], replica.ids)
        assert np.array_equal(before[1], replica.words)
    bits = layout.bits
    low, high = -(1 << (bits[:, 0] - 1)) * bits[:, 1], 1 << (bits[:, 0] - bits[:, 1])
    assert (replica.words[0] >= low).all() and (replica.words[0] < high).all()
    assert replica.sections.sum() == (1 if data else 0)


def test_join_blocks_that_are_none_are_counted_and_change_nothing() -> None:
    link = Link(small_layout(), clients=1)
    spawn(link.state, 0, 1)
    link.step()
    plain, compressor = link.state.join_block()[0], link.compressor
    bad = bytearray(plain)
    bad[0] = 9
    later = ZoneState(small_layout(40), clients=1)
    spawn(later, 30, 1)
    later.commit(1)
    for content in (b"", b"\0", plain[:4], plain[:-1], bytes(bad), later.join_block()[0]):
        packed = compressor.compress(content, PayloadClass.JOIN)
        assert not link.replica.take_join(0, packed, compressor)
    assert link.replica.blocks_refused == 6
    assert not link.replica.ids.any()
    bomb = compressor.compress(bytes(1 << 20), PayloadClass.JOIN)
    assert not link.replica.take_join(0, bomb, compressor)
    assert compressor.counts()["refused_too_large"] == 1


class Named(Component, name="named"):
    text = column(np.uint8, shape=(8,), wire=Wire(bits=8, zone=True))
    height = column(np.float64, unit="m", wire=Wire(bits=10, step=0.25, signed=True, zone=True))
    open = column(np.bool_, wire=Wire(bits=1, zone=True))
    big = column(np.int32, wire=Wire(bits=4, zone=True))
    hidden = column(np.int32)


def declare(registration: Registration) -> None:
    registration.kind("player", Motion, Named, capacity=4, controlled=True)
    registration.kind("secret", Motion, Named, capacity=4, replicated=False)
    registration.kind("tree", Motion, capacity=8)
    registration.kind("gate", Named, capacity=3)


def test_columns_are_quantised_saturated_and_read_back_by_the_client() -> None:
    registration = Registration("named")
    declare(registration)
    world_map = floor_map()
    from server.maps import load_geometry

    world = World(registration.freeze(), world_map, load_geometry(world_map, cache=False), zone=5)
    layout = zone_layout(world.game)
    assert [(kind.name, kind.slot_base, kind.count) for kind in layout.kinds] == [("player", 0, 4), ("gate", 16, 3)]
    assert layout.words == 2 + 3
    state = ZoneState(layout, clients=1)
    view = ZoneView(world, state)
    gates = world.tables["gate"]
    gate = gates.allocate()
    named = gates[Named]
    named.text[gate, :5] = np.frombuffer("Tür2".encode(), np.uint8)
    named.height[gate], named.open[gate], named.big[gate] = -1.3, True, 99
    view.take()
    state.commit(1)
    replica, compressor = ZoneReplica(1, layout), Compressor()
    assert replica.take_join(0, compressor.compress(state.join_block()[0], PayloadClass.JOIN), compressor)
    entity = gates.id_of(gate)
    row = layout.row_of(entity)
    assert row == 4
    assert int(replica.ids[0, row]) == entity
    assert replica.text(0, "named.text", entity) == "Tür2"
    assert replica.text(0, "named.text", entity + (1 << 24)) == ""
    assert replica.values(0, "named.height")[row] == -1.25
    assert replica.values(0, "named.open")[row] == 1
    assert replica.values(0, "named.big")[row] == 15
    assert layout.row_of(9) == -1


def test_too_much_zone_wide_is_refused_by_name() -> None:
    class Much(Component, name="much"):
        values = column(np.int32, shape=(60,), wire=Wire(bits=32, zone=True))

    registration = Registration("greedy")
    registration.kind("player", Motion, Much, capacity=4, controlled=True)
    with pytest.raises(GameError, match=r"'greedy'.*60 words"):
        zone_layout(registration.freeze())


def test_a_section_must_hold_any_row() -> None:
    layout = ZoneLayout([ZoneField("a", 32, count=40)], [ZoneKind("player", 0, 4)])
    with pytest.raises(ServerError, match="section_bytes = 150"):
        ZoneState(layout, clients=1, section_bytes=150)
    ZoneState(layout, clients=1, section_bytes=SECTION_BYTES_MAX)


def test_the_arena_tells_names_and_scores() -> None:
    names = {field.name for field in zone_layout(load_game("arena")).fields}
    assert {"name.text", "score.points", "score.kills", "score.deaths"} <= names


def test_zone_wide_is_for_everyone() -> None:
    from sim.errors import DeclarationError

    with pytest.raises(DeclarationError, match="zone=True"):
        Wire(bits=4, zone=True, audience=Audience.OWNER)
