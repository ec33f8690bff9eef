from dataclasses import dataclass, field

import numpy as np
import pytest

from net.replica import ReplicaGroup
from net.snapshots import FieldSpec, FieldTable
from server.errors import ServerError
from server.replication import EVERYONE, HIDDEN, OWNER_ONLY, Replication, ReplicationLimits
from sim.arrays import I64, U8

TABLE = FieldTable(
    [FieldSpec(f"p{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"]
    + [FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    + [FieldSpec("yaw", 16, signed=False), FieldSpec("health", 10, signed=False), FieldSpec("team", 3, signed=False)],
    tick_hz=60,
)


@dataclass
class World:
    """Entities that wander, rest, die and come back under the same row, and what each state was at each tick."""

    seed: int
    count: int
    span_m: float = 60.0
    states: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.position = self.random.uniform(-self.span_m, self.span_m, (self.count, 3))
        self.velocity = self.random.uniform(-8.0, 8.0, (self.count, 3))
        self.generation = np.ones(self.count, dtype=np.uint64)
        self.alive = np.ones(self.count, dtype=bool)

    def ids(self) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        rows = np.arange(self.count, dtype=np.uint64)
        return np.where(self.alive, self.generation << np.uint64(24) | rows, np.uint64(0))

    def step(self, server: Replication, tick: int, churn: float) -> None:
        random = self.random
        turns = random.random(self.count)
        self.velocity[turns < 0.1] = random.uniform(-8.0, 8.0, ((turns < 0.1).sum(), 3))
        self.velocity[turns > 0.95] = 0.0
        self.position += self.velocity / 60
        dies = random.random(self.count) < churn
        self.alive[dies] ^= True
        self.generation[dies & self.alive] += np.uint64(1)
        # half of the deaths come back within the tick: the same row under the next generation
        reborn = dies & ~self.alive & (random.random(self.count) < 0.5)
        self.alive[reborn] = True
        self.generation[reborn] += np.uint64(1)
        server.quantise_vectors("px", self.position)
        server.quantise_vectors("vx", self.velocity)
        server.fields[:, 6] = np.where(turns < 0.1, random.integers(0, 65536, self.count), server.fields[:, 6])
        server.fields[:, 7] = np.where(turns < 0.05, random.integers(0, 1024, self.count), server.fields[:, 7])
        ids = self.ids()
        server.commit(tick, ids)
        for i in np.flatnonzero(ids):
            self.states[tick, int(ids[i])] = server.fields[i].tolist()


@dataclass
class Path:
    """A seeded bad road for datagrams: loses, repeats and delays by whole ticks."""

    seed: int
    loss: float
    delay_max: int

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.flying: list[tuple[int, int, object]] = []
        self.sent = 0

    def send(self, tick: int, item: object) -> None:
        for _ in range(2 if self.random.random() < 0.1 else 1):
            if self.random.random() >= self.loss:
                self.sent += 1
                self.flying.append((tick + int(self.random.integers(0, self.delay_max + 1)), self.sent, item))

    def arrived(self, tick: int) -> list[object]:
        due = sorted(entry[:2] for entry in self.flying if entry[0] <= tick)
        items = {entry[:2]: entry[2] for entry in self.flying}
        self.flying = [entry for entry in self.flying if entry[0] > tick]
        return [items[key] for key in due]


def deliver(group: ReplicaGroup, packets: list[object]) -> None:
    for packet in packets:
        assert isinstance(packet, tuple)
        group.receive_bytes(packet[0], packet[1])


def acknowledge(server: Replication, acks: list[object]) -> None:
    rows = np.array(acks, dtype=np.int64).reshape(-1, 3)
    server.acknowledge(rows[:, 0].astype(np.int32), rows[:, 1].astype(np.int32), rows[:, 2].astype(np.uint32))


def check_told(group: ReplicaGroup, world: World) -> int:
    """Each state a client holds is, exactly, the server's state of that entity at that tick."""
    held = np.argwhere(group.entity_id)
    for client, slot in held:
        key = (int(group.state_tick[client, slot]), int(group.entity_id[client, slot]))
        assert group.fields[client, slot].tolist() == world.states[key], (client, slot, key)
    for client in range(group.clients):
        ids = group.entity_id[client][group.entity_id[client] != 0]
        assert len(set(ids.tolist())) == len(ids), "an entity in two slots"
    return len(held)


def run(
    seed: int, *, loss: float, delay_max: int, churn: float, budget: int = 1150, ticks: int = 240
) -> tuple[Replication, ReplicaGroup, World, int]:
    clients, limits = 3, ReplicationLimits(relevant=30, range_enter_m=50.0, range_exit_m=55.0, budget_bytes=budget)
    world = World(seed, 90)
    server = Replication(TABLE, clients=clients, entities=world.count, limits=limits)
    group = ReplicaGroup(clients, TABLE)
    down, up = Path(seed + 1, loss, delay_max), Path(seed + 2, loss, delay_max)
    for client in range(clients):
        server.join(client)
    checked = 0
    for tick in range(1, ticks + 1):
        acknowledge(server, up.arrived(tick))
        world.step(server, tick, churn)
        server.view[:] = world.position[:clients]
        server.refresh(tick, world.position)
        server.encode(tick)
        for client in range(clients):
            if server.length[client]:
                assert server.length[client] <= budget
                down.send(tick, (client, server.payload[client, : server.length[client]].tobytes()))
        deliver(group, down.arrived(tick))
        checked += check_told(group, world)
        for client in range(clients):
            if group.sequence[client] >= 0:
                up.send(tick, (client, int(group.sequence[client]), int(group.ack_mask[client])))
    return server, group, world, checked


@pytest.mark.parametrize("seed", range(5))
def test_every_state_told_is_the_servers_under_loss_duplication_reordering_and_reuse(seed: int) -> None:
    _, group, _, checked = run(100 * seed, loss=0.3, delay_max=12, churn=0.02)
    assert checked > 5000
    assert group.counters[0] > 50
    assert group.counters[1] > 0, "the road did reorder or repeat"
    assert group.counters[2:].tolist() == [0, 0, 0], "a sound server sends nothing that cannot be decoded"


@pytest.mark.parametrize("seed", [7, 8])
def test_states_are_exact_when_the_budget_binds(seed: int) -> None:
    server, group, _, checked = run(seed, loss=0.2, delay_max=6, churn=0.05, budget=768)
    assert checked > 3000
    assert group.counters[2:].tolist() == [0, 0, 0]
    assert server.counts()["snapshots"] > 300


def test_no_acknowledgement_ever_still_tells_exact_states_in_full() -> None:
    server, group, world, _ = run(5, loss=0.0, delay_max=0, churn=0.0)
    before = server.counts()
    for tick in range(241, 400):
        if tick == 241 + 32:
            before = server.counts()
        world.step(server, tick, 0.0)
        server.encode(tick)
        for client in np.flatnonzero(server.length):
            group.receive_bytes(int(client), server.payload[client, : server.length[client]].tobytes())
        check_told(group, world)
    after = server.counts()
    assert after["records_full"] - before["records_full"] == after["records_sent"] - before["records_sent"] > 1000


def settle(server: Replication, group: ReplicaGroup, world: World, ticks: range) -> None:
    """Ticks on a perfect road, each acknowledged at once."""
    for tick in ticks:
        server.commit(tick, world.ids())
        server.refresh(tick, world.position)
        server.encode(tick)
        due = np.flatnonzero(server.length).astype(np.int32)
        assert (group.receive(due, server.payload[due], server.length[due]) == 0).all()
        server.acknowledge(due, group.sequence[due], group.ack_mask[due])


def still_world(count: int) -> tuple[World, Replication]:
    world = World(1, count)
    world.position[:, 2] = 0.0
    server = Replication(TABLE, clients=2, entities=count, limits=ReplicationLimits(relevant=8))
    server.quantise_vectors("px", world.position)
    server.quantise_vectors("vx", np.zeros((count, 3)))
    return world, server


def nearest(world: World, view: np.ndarray[tuple[int], np.dtype[np.float64]], count: int) -> set[int]:
    order = np.argsort(((world.position - view) ** 2).sum(axis=1))
    return {int(world.ids()[i]) for i in order[:count]}


def test_the_nearest_are_told_and_those_left_behind_leave() -> None:
    world, server = still_world(40)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    settle(server, group, world, range(1, 30))
    assert set(server.relevant(0).tolist()) == nearest(world, server.view[0], 8)
    assert set(group.entity_id[0].tolist()) - {0} == nearest(world, server.view[0], 8)
    assert not group.entity_id[1].any(), "a client that has not joined is told nothing"
    server.view[0] = (500.0, 500.0, 0.0)
    settle(server, group, world, range(30, 50))
    assert not group.entity_id[0].any()
    server.view[0] = 0.0
    settle(server, group, world, range(50, 70))
    assert set(group.entity_id[0].tolist()) - {0} == nearest(world, server.view[0], 8)


def test_rules_everyone_owner_hidden_and_own_entity() -> None:
    world, server = still_world(12)
    world.position[:] = (1000.0, 0.0, 0.0)
    world.position[4:6] = 1.0
    server.rule[0], server.rule[1], server.rule[2], server.rule[4] = EVERYONE, OWNER_ONLY, OWNER_ONLY, HIDDEN
    server.owner[1], server.owner[2] = 0, 1
    ids = world.ids().tolist()
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    server.join(1, own_id=ids[5])
    settle(server, group, world, range(1, 20))
    assert set(group.entity_id[0].tolist()) - {0} == {ids[0], ids[1], ids[5]}
    assert set(group.entity_id[1].tolist()) - {0} == {ids[0], ids[2], ids[5]}


def test_what_rests_costs_nothing_once_acknowledged() -> None:
    world, server = still_world(8)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    settle(server, group, world, range(1, 11))
    before = server.counts()
    settle(server, group, world, range(11, 21))
    after = server.counts()
    assert after["records_sent"] == before["records_sent"]
    assert after["records_at_rest"] == before["records_at_rest"] + 40
    settle(server, group, world, range(21, 200))
    assert server.counts()["records_full"] == before["records_full"], "baselines are renewed before they expire"


def test_acknowledgements_of_what_was_never_sent_are_counted_and_change_nothing() -> None:
    world, server = still_world(8)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    client, mask = np.array([0, 1], np.int32), np.full(2, 0xFFFFFFFF, np.uint32)
    assert server.acknowledge(client, np.array([3, 0], np.int32), mask) == 0
    assert server.counts()["acks_unknown"] == 2
    server.commit(1, world.ids())
    server.refresh(1, world.position)
    server.encode(2)
    assert server.length[0] > 0
    assert server.acknowledge(client[:1], np.array([60000], np.int32), mask[:1]) == 0
    assert server.acknowledge(client[:1], np.array([0], np.int32), mask[:1]) == 1
    assert server.acknowledge(client[:1], np.array([0], np.int32), mask[:1]) == 0, "a repeated one says nothing new"
    assert group.sequence[0] == -1


def test_under_a_tight_budget_every_entity_is_sent_again_and_again() -> None:
    count = 100
    world = World(3, count, span_m=20.0)
    limits = ReplicationLimits(relevant=100, budget_bytes=768, interval_ticks=1)
    server = Replication(TABLE, clients=1, entities=count, limits=limits)
    group = ReplicaGroup(1, TABLE)
    server.join(0)
    server.importance[:] = np.where(np.arange(count) % 2, 255, 1)
    longest: dict[int, int] = {}
    for tick in range(1, 200):
        world.step(server, tick, 0.0)
        server.refresh(tick, world.position)
        server.encode(tick)
        assert server.length[0] <= 768
        group.receive_bytes(0, server.payload[0, : server.length[0]].tobytes())  # never acknowledged: always full
        for slot in np.flatnonzero(group.entity_id[0]):
            entity = int(group.entity_id[0, slot])
            longest[entity] = max(longest.get(entity, 0), tick - int(group.state_tick[0, slot]))
    assert len(longest) == count
    assert server.counts()["records_deferred"] > 1000
    assert max(longest.values()) < 150


def test_congestion_holds_snapshots_back_or_makes_them_smaller() -> None:
    world = World(3, 90)
    limits = ReplicationLimits(interval_ticks=1, range_enter_m=500.0, range_exit_m=600.0)
    server = Replication(TABLE, clients=3, entities=world.count, limits=limits)
    for client in range(3):
        server.join(client)
    sizes = []
    for tick in range(1, 5):
        world.step(server, tick, 0.0)
        server.refresh(tick, world.position)
        server.pace(np.array([-1250.0, -1150.0, 1e6]))
        server.encode(tick)
        sizes.append(server.length.tolist())
    held, small, large = np.array(sizes).T
    assert not held.any()
    assert small.all()
    assert small.max() <= 768 < large.max() <= 1150
    assert server.counts()["snapshots_held"] == 4


def one_event(
    server: Replication, tick: int, actor: int, target: int, at: tuple[float, float, float], value: int = -42
) -> None:
    server.push_events(
        tick,
        np.array([7], np.uint16),
        np.array([actor], np.uint64),
        np.array([target], np.uint64),
        np.array([at]),
        np.array([[0.5, 0.0, -1.0]]),
        np.array([value]),
    )


def test_events_reach_those_in_range_and_those_they_concern_once() -> None:
    world, server = still_world(4)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    server.join(1, own_id=99)
    server.commit(1, world.ids())
    actor = int(world.ids()[2])
    one_event(server, 1, actor, 0, (10.0, 0.25, 0.0))
    one_event(server, 1, 5, 99, (9000.0, 0.0, 0.0))
    one_event(server, 1, 5, 98, (9000.0, 0.0, 0.0))
    settle(server, group, world, range(2, 8))
    assert group.event_count.tolist() == [1, 2]
    assert group.event_tick[0, 0] == 1
    assert (group.event_kind[0, 0], group.event_actor[0, 0], group.event_value[0, 0]) == (7, actor, -42)
    assert group.event_position[0, 0].tolist() == [10.0, 0.25, 0.0]
    assert group.event_vector[0, 0].tolist() == [0.5, 0.0, -1.0]
    assert sorted(group.event_target[1, :2].tolist()) == [0, 99]


def test_events_beyond_the_budget_wait_in_order_and_are_counted() -> None:
    world, server = still_world(4)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    server.commit(1, world.ids())
    for number in range(60):
        one_event(server, 1, 0, 0, (0.0, 0.0, 0.0), number)
    settle(server, group, world, range(2, 30))
    assert group.event_value[0, :60].tolist() == list(range(60))
    assert server.counts()["events_deferred"] > 0
    assert server.counts()["events_lost"] == 0


def test_what_concerns_a_client_is_told_before_what_happened_around_it_and_once() -> None:
    world, server = still_world(4)
    group = ReplicaGroup(2, TABLE, events=1024)
    server.join(0, own_id=500)
    server.commit(1, world.ids())
    for number in range(200):
        one_event(server, 1, 0, 500 if number == 150 else 0, (0.0, 0.0, 0.0), number)
    settle(server, group, world, range(2, 4))
    first = group.event_value[0, : int(group.event_count[0])].tolist()
    assert 3 < len(first) < 65
    assert first[0] == 150
    settle(server, group, world, range(4, 60))
    told = group.event_value[0, : int(group.event_count[0])].tolist()
    assert sorted(told) == [*range(64), 150], "of the others as many as can wait"
    assert server.counts()["events_lost"] == 200 - 65


def test_header_and_owner_section_arrive_as_given() -> None:
    world, server = still_world(4)
    group = ReplicaGroup(2, TABLE)
    server.join(0)
    server.input_tick[0], server.lead_q4[0], server.target_lead[0] = 1, -33, 7
    owner: U8 = np.arange(128, dtype=np.uint8)
    server.owner_section[0], server.owner_bytes[0] = owner, 128
    settle(server, group, world, range(1, 3))
    heads: list[I64] = [group.lead_q4, group.target_lead, group.owner_bytes, group.tick]
    assert [int(column[0]) for column in heads] == [-33, 7, 128, 2]
    assert int(group.input_tick[0]) == 1
    assert group.owner[0].tolist() == owner.tolist()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"budget_bytes": 100}, "budget_bytes = 100"),
        ({"history_ticks": 33}, "history_ticks = 33"),
        ({"range_exit_m": 1.0}, "range_exit_m = 1.0"),
    ],
)
def test_limits_the_layout_cannot_carry_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ServerError, match=message):
        ReplicationLimits(**limits)


def test_a_tick_that_does_not_follow_is_refused() -> None:
    world, server = still_world(4)
    server.commit(5, world.ids())
    with pytest.raises(ServerError, match="tick 5 does not follow"):
        server.commit(5, world.ids())
