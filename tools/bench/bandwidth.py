"""How many bytes a match costs, against the same updates in msgpack, and over real sockets.

The arena match of `tools.match`: 64 players, 60 ticks and 30 snapshots a second, acknowledgements 100 ms late. Every
snapshot is decoded, and what it told is written once more as msgpack: a map of each entity's id and its values by
name, those fields that the client was told, floats in 32 bits. The rows count payloads; an entity-second is one
entity that one client is kept informed of for a second, whether or not anything had to be sent. The peer that sent
340 B for it is a published one.

`on the wire` is another match: a server and 64 bots as processes of their own, on the same map; all bytes of datagrams
that the server sent, with seals, acknowledgements, events, messages and corrections of predictions, over `SECONDS`.
"""

from collections.abc import Sequence
from pathlib import Path

import msgpack
import numpy as np

from net.snapshots import FieldTable
from sim.arrays import I32
from tools.bench.frame import run_match
from tools.bench.harness import Row, row
from tools.match import ScriptedMatch

__all__ = ["run"]

PLAYERS = 64
SNAPSHOT_HZ = 30
TICK_HZ = 60
WARM_TICKS, MEASURED_TICKS = 180, 600
PEER_BYTES = 340.0
SECONDS = 20.0


def _names(table: FieldTable) -> list[tuple[str, int, int, float]]:
    """Groups of fields as a program would name them: name, first, how many, step."""
    found = [("position", 0, 3, table.fields[0].step), ("velocity", 3, 3, table.fields[3].step)]
    for index, field in enumerate(table.fields[6:], 6):
        found.append((field.name.rpartition(".")[2], index, 1, field.step))
    return found


def _as_msgpack(tick: int, ids: Sequence[int], states: I32, counts: Sequence[int], table: FieldTable) -> int:
    """Bytes of the same updates as a msgpack message."""
    names = _names(table)
    entities = []
    for entity, state, fields in zip(ids, states.tolist(), counts, strict=True):
        update: dict[str, object] = {"id": entity}
        for name, first, size, step in names:
            if first < fields:
                values = [value * step for value in state[first : first + size]]
                plain = values[0] if step != 1.0 else state[first]
                update[name] = values if size > 1 else plain
        entities.append(update)
    return len(msgpack.packb({"tick": tick, "entities": entities}, use_single_float=True))


def _measure() -> list[Row]:
    match = ScriptedMatch(PLAYERS, owner=False)
    group, table = match.group, match.replication.table
    ours = theirs = snapshots = updates = informed = 0
    for tick in match.play(WARM_TICKS + MEASURED_TICKS):
        if tick <= WARM_TICKS:
            continue
        for client in match.due.tolist():
            told = np.flatnonzero((group.state_tick[client] == tick) & (group.entity_id[client] != 0))
            counts = [table.count[level] for level in group.level[client, told].tolist()]
            ours += int(match.replication.length[client])
            theirs += _as_msgpack(
                tick, group.entity_id[client, told].tolist(), group.fields[client, told], counts, table
            )
            snapshots += 1
            updates += len(told)
            informed += int(np.count_nonzero(group.entity_id[client]))
    label = f"{PLAYERS} players"
    entity_seconds = informed / SNAPSHOT_HZ
    return [
        row(label, ours / snapshots, unit="B a snapshot", reference="msgpack", reference_value=theirs / snapshots),
        row(
            f"{label}, an entity for a second", ours / entity_seconds, unit="B",
            reference="a published peer", reference_value=PEER_BYTES,
        ),
        row(f"{label}, updates a snapshot", updates / snapshots, unit="updates"),
        row(f"{label}, entities told", informed / snapshots, unit="entities"),
        row(f"{label}, payload", ours / snapshots * SNAPSHOT_HZ * 8 / 1000, unit="kbit/s"),
    ]  # fmt: skip


def run(_: Sequence[Path]) -> list[Row]:
    """Measure both matches."""
    real = run_match("arena", PLAYERS, seconds=SECONDS)
    return [*_measure(), row(f"{PLAYERS} players, on the wire", real.kbps_out, unit="kbit/s")]
