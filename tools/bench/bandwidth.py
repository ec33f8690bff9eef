"""How many bytes a match costs, against the same updates in msgpack, and over real sockets.

The arena match of `tools.match`: 64 players, 60 ticks and 30 snapshots a second, acknowledgements 100 ms late. Every
snapshot is decoded, and what it told is written once more with msgpack, as a program would that has no codec: tick and
sequence, a map of each entity's id and values by name (those fields that the client was told), a map of each event. In
the first row numbers are as msgpack packs them by itself, floats in 64 bits; another row has floats in 32 bits.

An entity-second is one entity that one client is kept informed of for a second, whether or not anything had to be
sent. The peer that sent 340 B for it is a published one. These rows count payloads, without owner sections: who
predicts right is sent none.

`on the wire` is another match: a server and 64 bots as processes of their own, on the same map; all bytes of datagrams
that the server sent, with seals, acknowledgements, messages and corrections of predictions, over `SECONDS`.
"""

from collections.abc import Sequence
from pathlib import Path

import msgpack
import numpy as np

from net.replica import ReplicaGroup
from net.snapshots import FieldTable
from tools.bench.frame import run_match
from tools.bench.harness import Row, row
from tools.match import ScriptedMatch

__all__ = ["run"]

PLAYERS = 64
SNAPSHOT_HZ = 30
WARM_TICKS, MEASURED_TICKS = 180, 600
PEER_BYTES = 340.0
SECONDS = 20.0


def _names(table: FieldTable) -> list[tuple[str, int, int, float]]:
    """Groups of fields as a program would name them: name, first, how many, step."""
    found = [("position", 0, 3, table.fields[0].step), ("velocity", 3, 3, table.fields[3].step)]
    for index, field in enumerate(table.fields[6:], 6):
        found.append((field.name.rpartition(".")[2], index, 1, field.step))
    return found


def _entities(group: ReplicaGroup, client: int, table: FieldTable) -> list[dict[str, object]]:
    """The entities that the newest snapshot of a client told of, as a program without a codec would have them."""
    told = np.flatnonzero((group.state_tick[client] == group.tick[client]) & (group.entity_id[client] != 0))
    found = []
    for slot in told.tolist():
        state = group.fields[client, slot].tolist()
        update: dict[str, object] = {"id": int(group.entity_id[client, slot])}
        for name, first, size, step in _names(table):
            if first < table.count[int(group.level[client, slot])]:
                values = [value * step for value in state[first : first + size]]
                update[name] = values if size > 1 else (values[0] if step != 1.0 else state[first])
        found.append(update)
    return found


def _events(group: ReplicaGroup, client: int, first: int) -> list[dict[str, object]]:
    """The events from number `first` on."""
    found = []
    for number in range(first, int(group.event_count[client])):
        place = number % group.events
        event: dict[str, object] = {
            "tick": int(group.event_tick[client, place]),
            "kind": int(group.event_kind[client, place]),
            "actor": int(group.event_actor[client, place]),
            "target": int(group.event_target[client, place]),
            "position": group.event_position[client, place].tolist(),
            "vector": group.event_vector[client, place].tolist(),
            "value": int(group.event_value[client, place]),
        }
        found.append({name: value for name, value in event.items() if value not in (0, [0.0, 0.0, 0.0])})
    return found


def _measure() -> list[Row]:
    match = ScriptedMatch(PLAYERS, owner=False)
    group, table = match.group, match.replication.table
    ours = plain = narrow = snapshots = updates = events = informed = 0
    heard = group.event_count.copy()
    for tick in match.play(WARM_TICKS + MEASURED_TICKS):
        for client in match.due.tolist() if tick > WARM_TICKS else ():
            entities, happened = _entities(group, client, table), _events(group, client, int(heard[client]))
            content = {
                "tick": tick, "sequence": int(group.sequence[client]), "input": int(group.input_tick[client]),
                "entities": entities, "events": happened,
            }  # fmt: skip
            ours += int(match.replication.length[client])
            plain += len(msgpack.packb(content))
            narrow += len(msgpack.packb(content, use_single_float=True))
            snapshots, updates, events = snapshots + 1, updates + len(entities), events + len(happened)
            informed += int(np.count_nonzero(group.entity_id[client]))
        heard = group.event_count.copy()
    label, bytes_each = f"{PLAYERS} players", ours / snapshots
    narrow_each, entity_second = narrow / snapshots, ours / informed * SNAPSHOT_HZ
    return [
        row(label, bytes_each, unit="B a snapshot", reference="msgpack", reference_value=plain / snapshots),
        row(f"{label}, 32-bit floats", bytes_each, unit="B", reference="msgpack", reference_value=narrow_each),
        row(f"{label}, entity-second", entity_second, unit="B", reference="a peer", reference_value=PEER_BYTES),
        row(f"{label}, updates", updates / snapshots, unit="a snapshot"),
        row(f"{label}, events", events / snapshots, unit="a snapshot"),
        row(f"{label}, entities told", informed / snapshots, unit="a client"),
        row(f"{label}, payload", bytes_each * SNAPSHOT_HZ * 8 / 1000, unit="kbit/s"),
    ]


def run(_: Sequence[Path]) -> list[Row]:
    """Measure both matches."""
    real = run_match("arena", PLAYERS, seconds=SECONDS)
    return [*_measure(), row(f"{PLAYERS} players, on the wire", real.kbps_out, unit="kbit/s")]
