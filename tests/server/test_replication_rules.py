"""Who is told what and when nothing needs to be said: bounds, audience levels, visibility, newcomers, hearing."""

from dataclasses import dataclass, field

import numpy as np

from net.replica import ReplicaGroup
from net.snapshots import FieldSpec, FieldTable
from server.replication import Replication, ReplicationLimits
from sim.arrays import F64, I32, U64
from sim.plugin import EventSpec

BOUND_M, STEP_M, YAW_BOUND = 0.25, 1 / 128, 8
TABLE = FieldTable(
    [FieldSpec(f"p{axis}", 22, signed=True, step=STEP_M, bound=BOUND_M) for axis in "xyz"]
    + [FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    + [
        FieldSpec("yaw", 12, signed=False, bound=YAW_BOUND, wraps=True),
        FieldSpec("team", 3, signed=False),
        FieldSpec("health", 9, signed=False, level=1),
        FieldSpec("ammo", 8, signed=False, level=2),
    ],
    tick_hz=60,
)
YAW, TEAM, HEALTH, AMMO = 6, 7, 8, 9
SHOT, STEP, KILL = 0, 1, 2
EVENTS = (
    EventSpec("shot", 100.0, sound=True),
    EventSpec("step", 20.0, sound=True, implied=True),
    EventSpec("kill", 1e5, public=True),
)


@dataclass
class Stage:
    """Entities that a test moves by hand, told to clients that acknowledge `late` ticks later."""

    count: int
    clients: int = 1
    late: int = 0
    interval: int = 1
    relevant: int = 64
    tick: int = 0
    flying: list[tuple[int, I32, I32, np.ndarray[tuple[int], np.dtype[np.uint32]]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = ReplicationLimits(relevant=self.relevant, interval_ticks=self.interval)
        self.server = Replication(TABLE, clients=self.clients, entities=self.count, events=EVENTS, limits=limits)
        self.group = ReplicaGroup(self.clients, TABLE)
        self.position: F64 = np.zeros((self.count, 3))
        self.position[:, 0] = np.arange(self.count)
        self.velocity: F64 = np.zeros((self.count, 3))
        self.ids: U64 = np.arange(self.count, dtype=np.uint64) | np.uint64(1 << 24)
        for client in range(self.clients):
            self.server.join(client)

    def step(self, *, lose: bool = False) -> None:
        server, group = self.server, self.group
        self.tick += 1
        while self.flying and self.flying[0][0] <= self.tick:
            _, client, sequence, mask = self.flying.pop(0)
            server.acknowledge(client, sequence, mask)
        server.quantise_vectors("px", self.position)
        server.quantise_vectors("vx", self.velocity)
        server.commit(self.tick, self.ids)
        server.refresh(self.tick, self.position)
        server.encode(self.tick)
        due = np.flatnonzero(server.length).astype(np.int32)
        if not lose and len(due):
            assert (group.receive(due, server.payload[due], server.length[due]) == 0).all()
            self.flying.append((self.tick + self.late, due, group.sequence[due].copy(), group.ack_mask[due].copy()))

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.step()

    def slot(self, entity: int, client: int = 0) -> int:
        found = np.flatnonzero(self.group.entity_id[client] == self.ids[entity])
        assert len(found) <= 1
        return int(found[0]) if len(found) else -1

    def event(self, kind: int, actor: int, place: tuple[float, float, float]) -> None:
        identity = 0 if actor < 0 else int(self.ids[actor])
        self.server.push_events(
            self.tick, np.array([kind], np.uint16), np.array([identity], np.uint64), np.zeros(1, np.uint64),
            np.array([place]), np.zeros((1, 3)), np.array([5]),
        )  # fmt: skip


def reckoned(group: ReplicaGroup, slot: int, tick: int) -> F64:
    """Where a client takes an entity to be, from its newest state [m]."""
    state = group.fields[0, slot]
    age = tick - int(group.state_tick[0, slot])
    return np.array(state[:3] * STEP_M + state[3:6] / 64 * age / 60)


def test_updates_are_left_out_while_what_clients_reckon_is_within_the_bound() -> None:
    stage = Stage(8, late=6, interval=2)
    random = np.random.default_rng(1)
    worst = 0.0
    for _ in range(400):
        turning = random.random(8) < 0.02
        stage.velocity[turning] = random.uniform(-6.0, 6.0, (int(turning.sum()), 3))
        stage.position += stage.velocity / 60
        stage.step()
        if stage.tick > 20 and stage.server.length[0]:
            for entity in range(8):
                away = np.abs(reckoned(stage.group, stage.slot(entity), stage.tick) - stage.position[entity])
                worst = max(worst, float(away.max()))
    counts = stage.server.counts()
    assert worst <= BOUND_M + 2 * STEP_M, "after every snapshot every client's own reckoning is within the bound"
    assert worst > BOUND_M / 4, "and the bound is made use of"
    assert counts["records_sent"] < 0.35 * 8 * counts["snapshots"]


def test_who_comes_to_rest_is_told_exactly() -> None:
    stage = Stage(3, late=4, interval=2)
    stage.velocity[1] = (5.0, 0.0, 0.0)
    for _ in range(60):
        stage.position += stage.velocity / 60
        stage.step()
    stage.velocity[1] = 0.0
    stage.run(40)
    state = stage.group.fields[0, stage.slot(1)]
    assert state.tolist() == stage.server.fields[1].tolist()
    before = stage.server.counts()["records_sent"]
    stage.run(12)
    assert stage.server.counts()["records_sent"] <= before + 3, "nothing but the renewal of old baselines"


def test_an_angle_is_bounded_the_short_way_round_and_other_fields_are_exact() -> None:
    stage = Stage(2)
    stage.server.fields[1, YAW] = 4094
    stage.run(12)
    sent = stage.server.counts()["records_sent"]
    stage.server.fields[1, YAW] = 3
    stage.run(1)
    assert stage.server.counts()["records_sent"] == sent, "5 steps away is within 8"
    stage.server.fields[1, YAW] = 20
    stage.run(1)
    assert stage.server.counts()["records_sent"] == sent + 1
    stage.server.fields[1, TEAM] = 1
    stage.run(1)
    assert stage.group.fields[0, stage.slot(1), TEAM] == 1


def test_what_is_under_way_is_not_sent_again_until_it_counts_as_lost() -> None:
    stage = Stage(2, late=6)
    stage.run(30)
    before = stage.server.counts()["records_sent"]
    stage.server.fields[1, TEAM] = 2
    stage.run(6)
    assert stage.server.counts()["records_sent"] == before + 1
    stage.server.fields[1, TEAM] = 3
    stage.step(lose=True)
    stage.run(20)
    assert stage.group.fields[0, stage.slot(1), TEAM] == 3
    assert stage.server.counts()["records_sent"] <= before + 4


def test_team_mates_and_owners_are_told_more_and_strangers_less() -> None:
    stage = Stage(4, clients=3)
    server, group = stage.server, stage.group
    for client in range(3):
        server.join(client, own_id=int(stage.ids[client]))
        server.owner[client] = client
    server.owner[3] = 0
    server.team[:3] = server.client_team[:] = (1, 1, 2)
    server.fields[:, HEALTH], server.fields[:, AMMO] = 100, 30
    stage.run(5)
    told = {c: {e: group.fields[c, stage.slot(e, c), HEALTH:].tolist() for e in range(4)} for c in range(3)}
    assert told[0] == {0: [100, 30], 1: [100, 0], 2: [0, 0], 3: [100, 30]}
    assert told[2] == {0: [0, 0], 1: [0, 0], 2: [100, 30], 3: [0, 0]}
    server.team[1] = server.client_team[1] = 2
    server.fields[:, HEALTH] = 50
    stage.run(3)
    assert group.fields[0, stage.slot(1, 0), HEALTH] == 0, "a former team mate's health is not told any more"
    assert group.fields[2, stage.slot(1, 2), HEALTH] == 50


def test_the_own_players_record_leaves_motion_to_the_owner_section() -> None:
    stage = Stage(2)
    stage.server.join(0, own_id=int(stage.ids[0]))
    stage.server.fields[0, AMMO] = 9
    stage.velocity[0] = (3.0, 0.0, 0.0)
    for _ in range(30):
        stage.position += stage.velocity / 60
        stage.step()
    assert stage.group.fields[0, stage.slot(0), :6].tolist() == [0] * 6
    assert stage.group.fields[0, stage.slot(0), AMMO] == 9
    assert stage.server.counts()["records_sent"] <= 6


def test_what_may_not_be_told_leaves_and_comes_back_in_full() -> None:
    stage = Stage(5, late=3)
    server = stage.server
    stage.run(12)
    place = int(np.flatnonzero(server.candidate[0] == 3)[0])
    server.told[0, place] = 0
    stage.run(2)
    assert stage.slot(3) == -1
    stage.run(10)
    assert server.hidden(0).tolist() == [int(stage.ids[3])]
    assert server.candidate[0, place] == 3, "a hidden entity keeps its slot"
    stage.position[3] = (3.0, 7.0, 0.0)
    server.told[0, place] = 1
    stage.run(2)
    assert stage.group.fields[0, stage.slot(3), :3].tolist() == server.fields[3, :3].tolist()
    server.told[0, place] = 0
    stage.step(lose=True)
    server.told[0, place] = 1
    stage.run(4)
    assert stage.slot(3) >= 0, "hidden and told again before the client could leave it"
    assert stage.group.counters[2:].tolist() == [0, 0, 0]


def test_what_comes_to_life_nearby_is_told_with_the_next_snapshot() -> None:
    stage = Stage(6, late=2)
    born = stage.ids[5]
    stage.ids[5] = 0
    stage.run(25)
    stage.ids[5] = born
    stage.run(1)
    assert stage.slot(5) >= 0
    stage.ids[5] = born + np.uint64(1 << 24)
    stage.run(1)
    assert stage.slot(5) >= 0, "another entity in the same row"
    assert born not in stage.group.entity_id[0]


def test_sounds_of_the_hidden_are_heard_without_who_and_only_roughly_where() -> None:
    stage = Stage(3)
    server, group = stage.server, stage.group
    stage.run(3)
    server.told[0, int(np.flatnonzero(server.candidate[0] == 2)[0])] = 0
    stage.run(3)
    stage.event(SHOT, 2, (9.0, 1.0, 0.5))
    stage.event(SHOT, 1, (9.0, 1.0, 0.5))
    stage.event(STEP, 2, (3.0, 1.0, 0.5))
    stage.event(STEP, 1, (3.0, 1.0, 0.5))
    stage.event(STEP, 2, (30.0, 1.0, 0.5))
    stage.event(KILL, 2, (9.0, 1.0, 0.5))
    stage.event(SHOT, -1, (200.0, 1.0, 0.5))
    stage.run(1)
    count = int(group.event_count[0])
    heard = [
        (int(group.event_kind[0, n]), int(group.event_actor[0, n]), group.event_position[0, n].tolist())
        for n in range(count)
    ]
    assert heard == [
        (SHOT, 0, [10.0, 2.0, 2.0]),
        (SHOT, int(stage.ids[1]), [9.0, 1.0, 0.5]),
        (STEP, 0, [2.0, 2.0, 2.0]),
        (KILL, int(stage.ids[2]), [0.0, 0.0, 0.0]),
    ]


def test_a_crowd_of_events_is_bounded_and_what_is_lost_is_counted() -> None:
    stage = Stage(2)
    stage.run(2)
    for _ in range(100):
        stage.event(SHOT, 1, (1.0, 0.0, 0.0))
    stage.run(40)
    assert int(stage.group.event_count[0]) == 64
    assert stage.server.counts()["events_lost"] == 36


def test_a_zone_section_travels_whole_or_not_at_all() -> None:
    stage = Stage(2)
    server, group = stage.server, stage.group
    stage.run(2)
    zone = np.arange(1, 251, dtype=np.uint8)
    cases = ((250, 1150, True), (250, 768, True), (700, 768, False))
    for tick, (length, budget, carried) in enumerate(cases, 3):
        server.commit(tick, stage.ids)
        server.zone_offset[0], server.zone_bytes[0], server.budget[0] = 0, length, budget
        server.encode(tick, np.resize(zone, 700))
        payload = server.payload[:1, : server.length[0]].copy()
        assert group.receive(np.zeros(1, np.int32), payload, server.length[:1].copy())[0] == 0
        at, size = int(group.zone_offset[0]), int(group.zone_length[0])
        assert payload[0, at : at + size].tolist() == (np.resize(zone, 700)[:length].tolist() if carried else [])
    assert server.counts()["zone_deferred"] == 1


def test_states_are_exact_where_records_of_few_bits_have_to_wait() -> None:
    stage = Stage(300, interval=2, relevant=128)
    random = np.random.default_rng(5)
    stage.position[:] = random.uniform(-30.0, 30.0, (300, 3))
    stage.position[150:, :2] += 100.0
    stage.server.budget[0] = 768
    states: dict[tuple[int, int], list[int]] = {}
    for tick in range(1, 200):
        turning = random.random(300) < 0.3
        stage.velocity[turning] = random.uniform(-6.0, 6.0, (int(turning.sum()), 3))
        stage.position += stage.velocity / 60
        stage.server.fields[random.random(300) < 0.2, TEAM] ^= 1
        stage.server.view[0, :2] = 100.0 if tick // 20 % 2 else 0.0
        stage.step(lose=bool(random.random() < 0.2))
        for row in range(300):
            states[tick, int(stage.ids[row])] = stage.server.fields[row].tolist()
        for slot in np.flatnonzero(stage.group.entity_id[0]):
            key = int(stage.group.state_tick[0, slot]), int(stage.group.entity_id[0, slot])
            assert stage.group.fields[0, slot, :HEALTH].tolist() == states[key][:HEALTH]
    assert stage.server.counts()["records_deferred"] > 1000
    assert stage.group.counters[2:].tolist() == [0, 0, 0]
