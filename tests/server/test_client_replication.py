"""Inputs, replication, replicas and prediction together: what the parts agree on is tried in one piece."""

import numpy as np

from net.client import ClientCount, GameClients
from net.replica import ReplicaGroup
from net.snapshots import FieldSpec, FieldTable
from server.replication import Replication
from sim.arrays import F64, I32, U64
from tests.net.play import LAYOUT, TICK_HZ, Match, Path

FIELDS = FieldTable(
    [FieldSpec(f"position_{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"]
    + [FieldSpec(f"velocity_{axis}", 16, signed=True, step=1 / 64) for axis in "xyz"],
    tick_hz=TICK_HZ,
)


class FullMatch(Match):
    """A match whose snapshots are those of the real replication: every client sees every other."""

    def __init__(self, count: int, *, up: Path, down: Path, seed: int) -> None:
        super().__init__(count, up=up, down=down, seed=seed)
        self.snapshot_every = 1  # replication itself sends to every other client at each tick
        self.replication = Replication(FIELDS, clients=count, entities=count)
        self.replicas = ReplicaGroup(count, FIELDS)
        self.clients = GameClients(count, LAYOUT, tick_hz=TICK_HZ, predictor=self.client_motion, replicas=self.replicas)
        self.ids: U64 = np.arange(count, dtype=np.uint64) | np.uint64(1 << 24)
        for client in range(count):
            self.replication.join(client, own_id=int(self.ids[client]))
        self.sent_fields: dict[int, I32] = {}

    def _ingest(self) -> None:
        super()._ingest()
        queues = self.queues
        count = queues.ack_count
        self.replication.acknowledge(queues.ack_client[:count], queues.ack_sequence[:count], queues.ack_mask[:count])

    def _send_snapshots(self) -> None:
        replication, position = self.replication, self.state["position"]
        replication.quantise_vectors("position_x", position)
        replication.quantise_vectors("velocity_x", self.state["velocity"])
        replication.commit(self.tick, self.ids)
        self.sent_fields[self.tick] = replication.fields.copy()
        replication.view[:] = position
        replication.refresh(self.tick, position)
        lengths: I32 = np.zeros(self.count, np.int32)
        self.owner.pack(self.rows, replication.owner_section, lengths)
        self._spare(replication.owner_section, lengths, replication.interval)
        replication.owner_bytes[:] = lengths
        np.copyto(replication.input_tick, self.queues.input_tick, casting="unsafe")
        np.copyto(replication.lead_q4, self.queues.lead_q4, casting="unsafe")
        np.copyto(replication.target_lead, self.queues.target_lead, casting="unsafe")
        replication.encode(self.tick)
        due = np.flatnonzero(replication.length).astype(np.int32)
        for client in due:
            content = replication.payload[client, : replication.length[client]].tobytes()
            self.down.send(int(client), content, self.now)
        sequences = replication.payload.view(np.uint16)[:, 1]
        self.queues.note_sent(due, sequences[due], len(due), self.now, tick=self.tick)


def test_over_a_lossy_network_everyone_is_told_the_truth_and_predicts_itself() -> None:
    match = FullMatch(4, up=Path(40.0, 10.0, 0.05), down=Path(40.0, 10.0, 0.05), seed=3)
    match.run(6.0)
    replicas = match.replicas
    for client in range(4):
        told = {int(entity) for entity in replicas.entity_id[client] if entity}
        assert told == {int(entity) for entity in match.ids}
        for slot in np.flatnonzero(replicas.entity_id[client]):
            row = int(replicas.entity_id[client, slot] & np.uint64(0xFFFFFF))
            expected = match.sent_fields[int(replicas.state_tick[client, slot])][row]
            if row == client:
                expected[:6] = 0  # its motion is in the owner section
            assert replicas.fields[client, slot].tolist() == expected.tolist()
    counters = match.clients.counters.sum(axis=1)
    assert counters[ClientCount.MISPREDICTED] < 0.02 * counters[ClientCount.COMPARED]
    assert counters[ClientCount.JUMPS] <= 3 * 4
    # Acknowledgements arrive: records are deltas, a fraction of the 26 bytes of a full one.
    assert match.replication.length.max() < 16 + LAYOUT.size + 3 + 3 * 20
    assert replicas.counters[0] > 0 and replicas.counters[2:].sum() == 0


def test_what_is_shown_of_the_others_follows_them() -> None:
    match = FullMatch(2, up=Path(30.0, 5.0), down=Path(30.0, 5.0), seed=5)
    match.run(4.0)
    playback = match.clients.playback
    moments: F64 = playback.moment
    position, shown = match.replicas.view(moments, limit_ticks=playback.limit_ticks)
    assert moments[0] < match.replicas.tick[0], "between two snapshots, not beyond the newest"
    slot = int(np.flatnonzero(match.replicas.entity_id[0] == match.ids[1])[0])
    assert shown[0, slot]
    low, high = int(moments[0]) // 2 * 2, int(moments[0]) // 2 * 2 + 2
    before, after = (match.sent_fields[tick][1, :3] / 512 for tick in (low, high))
    part = (moments[0] - low) / 2
    assert np.abs(position[0, slot] - (before + (after - before) * part)).max() < 1e-3
