"""`compression`: what payloads of each class become, in bytes and microseconds, by each way of compressing them.

Payloads come from scripted matches of the arena (`tools.match`); dictionaries are trained on one match and everything
is measured on another, of another seed. Cases:

    N players snapshot   whole snapshots as a client is sent them, bit-packed
    N players records    their records alone, bit-packed, against the same updates as byte planes: residuals to the
                         state that was acknowledged, dead reckoned, in folded integers, a column per field
    N players section    sections of zone-wide state (net/zone.py), bit-packed: scores as they change, and names
    N players message    welcomes and lines of chat, in msgpack as they are sent
    N entities join      the state of all entities: raw is int32 rows, ours packed columns
    N KiB bulk           snapshots one after the other, as a recording holds them

Ways: zlib 6; the same content as plain msgpack (names for messages, integers for entities) and LZ4; LZ4; zstd 3; zstd
with a dictionary, for joins on byte planes; byte planes and LZ4 or zstd 3, for joins also without differences; and
ours, `net.compression` with the policy of the class. Each way's time is that of all it does from the same start: planes
and msgpack are made within it. Ratios are against zlib 6.
"""

import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import lz4.block
import msgpack
import numpy as np
import zstandard

from net.columns import pack_columns, unpack_columns
from net.compression import POLICIES, Compressor
from net.dictionaries import Dictionary, PayloadClass
from net.messages import MessageCodec
from net.replica_kernels import HAS_LEAVES
from net.snapshots import HEADER_BYTES
from server.zone_state import ZoneState, ZoneView, zone_layout
from sim.arrays import I32, I64, U64
from tools.bench.harness import Row, median_us, row
from tools.capture import Payload
from tools.dictionary import train
from tools.errors import ToolsError
from tools.match import LATE_TICKS, ScriptedMatch

__all__ = ["run"]

TRAIN_S, TEST_S, WARM_S = 8.0, 8.0, 3.0
SECTIONS_S = 40.0
JOIN_EVERY = 15  # ticks between joins that a dictionary is trained on
SAMPLES = 150  # of each case
TICK_HZ = 60
ZONE_PLAYERS, ZONE_TICKS, ZONE_MAP = 1000, 300, "arena:160"
ZONES = 4  # matches side by side make a zone of 4,000 entities and more
ZONE_SLOTS = 4096
ZONE_SIZES = (500, 4000)
BULK_BYTES = 256 << 10
SIZE_MAX = 16 << 20
BASE = "zlib 6"
NAMED = "msgpack+LZ4"

Make = Callable[[Any], bytes]
Take = Callable[[bytes], Any]


@dataclass(slots=True)
class Case:
    """One case: its payloads, the same as values for msgpack, and as rows of integers where they have such a form."""

    name: str
    kind: PayloadClass
    payloads: list[bytes] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    rows: list[I32] = field(default_factory=list)
    dictionary: Dictionary | None = None
    ours_are_rows: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """One way of compressing: from the case's payloads, values or rows to bytes, and back."""

    name: str
    inputs: Sequence[Any]
    make: Make
    take: Take


def _thinned(entries: Sequence[Any], count: int = SAMPLES) -> list[Any]:
    return list(entries[:: max(1, len(entries) // count)][:count])


def _lz4(data: bytes) -> bytes:
    made: bytes = lz4.block.compress(data)
    return made


def _unlz4(data: bytes) -> bytes:
    taken: bytes = lz4.block.decompress(data)
    return taken


def _ways(case: Case) -> list[Way]:
    """Every way that a case can go."""
    plain, back = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    ways = [
        Way(BASE, case.payloads, partial(zlib.compress, level=6), zlib.decompress),
        Way("LZ4", case.payloads, _lz4, _unlz4),
        Way("zstd 3", case.payloads, plain.compress, back.decompress),
    ]
    if case.values:
        named = Way(
            NAMED, case.values, lambda value: _lz4(msgpack.packb(value)), lambda data: msgpack.unpackb(_unlz4(data))
        )
        ways.insert(1, named)
    if case.dictionary is not None:
        given = zstandard.ZstdCompressionDict(case.dictionary.content)
        given.precompute_compress(level=POLICIES[case.kind].level)
        with_dictionary = zstandard.ZstdCompressor(
            level=POLICIES[case.kind].level, dict_data=given, write_dict_id=False
        )
        taking = zstandard.ZstdDecompressor(dict_data=given)
        way = Way("zstd+dictionary", case.payloads, with_dictionary.compress, taking.decompress)
        if case.ours_are_rows:
            unpack = _unpack(case)
            way = Way(
                way.name,
                case.rows,
                lambda rows: with_dictionary.compress(pack_columns(rows)),
                lambda data: unpack(taking.decompress(data)),
            )
        ways.append(way)
    if case.rows:
        unpack = _unpack(case)
        ways += [
            Way("planes+LZ4", case.rows, lambda rows: _lz4(pack_columns(rows)), lambda data: unpack(_unlz4(data))),
            Way(
                "planes+zstd 3",
                case.rows,
                lambda rows: plain.compress(pack_columns(rows)),
                lambda data: unpack(back.decompress(data)),
            ),
        ]
    if case.ours_are_rows:
        plain_planes = partial(pack_columns, differences=False)
        back_again = _unpack(case)
        ways.append(
            Way(
                "plain planes+zstd 3",
                case.rows,
                lambda rows: plain.compress(plain_planes(rows)),
                lambda data: back_again(back.decompress(data)),
            )
        )
    return [*ways, _ours(case)]


def _unpack(case: Case) -> Take:
    """Packed columns of a case to rows."""
    return partial(unpack_columns, columns=case.rows[0].shape[1], rows_max=1 << 20)


def _ours(case: Case) -> Way:
    compressor = Compressor(dictionaries=[] if case.dictionary is None else [case.dictionary])
    compress = partial(compressor.compress, kind=case.kind, agreed=compressor.ids)
    decompress = partial(compressor.decompress, size_max=SIZE_MAX)
    if not case.ours_are_rows:
        return Way("ours", case.payloads, compress, decompress)
    unpack = _unpack(case)
    return Way(
        "ours",
        case.rows,
        lambda rows: compress(pack_columns(rows), part_bytes=len(rows)),
        lambda data: unpack(decompress(data) or b""),
    )


def _all(function: Callable[[Any], Any], inputs: Sequence[Any]) -> None:
    for each in inputs:
        function(each)


def _measure(case: Case) -> list[Row]:
    """The rows of one case: bytes, and microseconds each way, of every way."""
    ways = _ways(case)
    made = {way.name: [way.make(each) for each in way.inputs] for way in ways}
    for way in ways:
        for each, data in zip(way.inputs, made[way.name], strict=True):
            if not np.array_equal(way.take(data), each) and msgpack.packb(way.take(data)) != msgpack.packb(each):
                raise ToolsError(f"bench compression: {case.name}, {way.name}: what comes back is not what went in")
    count = len(case.payloads)
    calls: dict[str, Callable[[], object]] = {}
    for way in ways:
        calls[f"{way.name} compress"] = partial(_all, way.make, way.inputs)
        calls[f"{way.name} decompress"] = partial(_all, way.take, made[way.name])
    times = {name: us / count for name, us in median_us(calls, rounds=5).items()}
    sizes = {way.name: sum(map(len, made[way.name])) / count for way in ways}
    raw = sum(map(len, case.payloads)) / count
    rows = [row(f"{case.name}, raw", raw, unit="B", reference=BASE, reference_value=sizes[BASE])]
    for way in ways:
        rows.append(
            row(f"{case.name}, {way.name}", sizes[way.name], unit="B", reference=BASE, reference_value=sizes[BASE])
        )
        rows += [
            row(
                f"{case.name}, {way.name} {step}", times[f"{way.name} {step}"], reference=BASE,
                reference_value=times[f"{BASE} {step}"],
            )
            for step in ("compress", "decompress")
        ]  # fmt: skip
    if NAMED in sizes:
        rows.append(
            row(f"{case.name}, ours again", sizes["ours"], unit="B", reference=NAMED, reference_value=sizes[NAMED])
        )
    return rows


def _updated(match: ScriptedMatch, client: int) -> I64:
    """Slots of which the client's newest snapshot had records."""
    group = match.group
    told = (group.state_tick[client] == match.world.tick) & (group.entity_id[client] != 0)
    return np.flatnonzero(told)


def _snapshot(match: ScriptedMatch, client: int) -> bytes:
    return match.replication.payload[client, : int(match.replication.length[client])].tobytes()


def _snapshot_value(match: ScriptedMatch, client: int) -> list[Any]:
    """A snapshot as one would send it in msgpack: header, own state, and the fields of every updated entity."""
    group, slots = match.group, _updated(match, client)
    updates = [[slot, *group.fields[client, slot].tolist()] for slot in slots.tolist()]
    owner = group.owner[client, : int(group.owner_bytes[client])].tobytes()
    return [int(group.sequence[client]), int(group.tick[client]), owner, updates]


def _match_cases(players: int) -> tuple[Case, Case, Case, Case]:
    """Snapshots, messages, joins and bulk of a match, which dictionaries are not trained on."""
    snapshots = Case(f"{players} players snapshot", PayloadClass.SNAPSHOT)
    messages = Case(f"{players} players message", PayloadClass.MESSAGE)
    joins = Case(f"{players} players join", PayloadClass.JOIN, ours_are_rows=True)
    bulk = Case(f"{BULK_BYTES >> 10} KiB bulk", PayloadClass.BULK)
    match = ScriptedMatch(players, seed=2)
    codec = MessageCodec.to_client(match.world.game.actions, match.world.game.messages)
    found: list[tuple[bytes, list[Any]]] = []
    told: list[bytes] = []
    for tick in match.play(round(TEST_S * TICK_HZ)):
        told += match.messages
        if tick >= WARM_S * TICK_HZ:
            found += [(_snapshot(match, client), _snapshot_value(match, client)) for client in match.due.tolist()]
            if tick % (TICK_HZ // 2) == 0:
                joins.rows.append(match.join_rows())
    for payload, value in _thinned(found):
        snapshots.payloads.append(payload)
        snapshots.values.append(value)
    for payload in _thinned(told):
        messages.payloads.append(payload)
        messages.values.append(_message_value(codec, payload))
    _finish_joins(joins)
    bulk.payloads = [b"".join(payload for payload, _ in found)[:BULK_BYTES]]
    return snapshots, messages, joins, bulk


def _message_value(codec: MessageCodec, payload: bytes) -> dict[str, Any]:
    """A message as one would send it without numbers agreed upon: its name, and its values by name."""
    message = codec.decode(payload)
    assert message is not None
    names = [each.name for each in codec.form(message.name).fields]
    return {"kind": message.name, **dict(zip(names, message.values, strict=True))}


def _finish_joins(case: Case) -> None:
    """Raw rows and values of a case that has rows."""
    case.payloads = [rows.tobytes() for rows in case.rows]
    case.values = [rows.tolist() for rows in case.rows]


@dataclass(frozen=True, slots=True)
class _Moment:
    """What all clients knew at a tick."""

    entity_id: U64
    fields: I32
    state_tick: I32


def _residuals(match: ScriptedMatch, client: int, known: _Moment) -> I32:
    """The updates of a client's newest snapshot against what it had acknowledged: age, then folded residuals."""
    group, slots = match.group, _updated(match, client)
    current = group.fields[client, slots].astype(np.int64)
    same = known.entity_id[client, slots] == group.entity_id[client, slots]
    base = np.where(same[:, None], known.fields[client, slots], 0).astype(np.int64)
    age = np.where(same, match.world.tick - known.state_tick[client, slots], 0)
    base[:, :3] += (base[:, 3:6] * age[:, None] * match.replication.table.velocity_scale + 32768) >> 16
    difference = current - base
    folded = (difference << 1) ^ (difference >> 63)
    return np.ascontiguousarray(np.hstack([age[:, None], folded]).astype(np.int32))


def _records(snapshot: bytes) -> bytes:
    """The records of a snapshot that has nothing else but leaves (layout: net/snapshots.py)."""
    leaves = snapshot[HEADER_BYTES] + 1 if snapshot[1] & HAS_LEAVES else 0
    return snapshot[HEADER_BYTES + leaves :]


def _record_moments(players: int, seed: int) -> Iterator[tuple[bytes, list[Any], I32]]:
    """Records, values and residuals of every snapshot of a match whose snapshots are records alone."""
    match = ScriptedMatch(players, seed=seed, told=False)
    history: deque[_Moment] = deque(maxlen=LATE_TICKS + 1)
    for tick in match.play(round(TEST_S * TICK_HZ)):
        group = match.group
        history.append(_Moment(group.entity_id.copy(), group.fields.copy(), group.state_tick.copy()))
        if tick < WARM_S * TICK_HZ:
            continue
        for client in match.due.tolist():
            records = _records(_snapshot(match, client))
            if records:
                updates = _snapshot_value(match, client)[3]
                yield records, updates, _residuals(match, client, history[0])


def _records_case(players: int) -> Case:
    case = Case(f"{players} players records", PayloadClass.SNAPSHOT)
    training = [Payload(PayloadClass.SNAPSHOT, records) for records, _, _ in _record_moments(players, 1)]
    case.dictionary = train([training], case.kind)
    for records, values, rows in _thinned(list(_record_moments(players, 2))):
        case.payloads.append(records)
        case.values.append(values)
        case.rows.append(rows)
    return case


def _sections(players: int, seed: int) -> list[bytes]:
    """What a client is told at 30 Hz of a zone's names and scores, but for the join."""
    match = ScriptedMatch(players, seed=seed)
    state = ZoneState(zone_layout(match.world.game), clients=1)
    view, client, found = ZoneView(match.world, state), np.zeros(1, np.int32), []
    for tick in match.play(round(SECTIONS_S * TICK_HZ)):
        if tick % 2:
            continue
        view.take()
        state.begin(0, state.tick)
        state.commit(tick)
        arena, offset, length = state.sections(tick, client)
        if length[0]:
            found.append(arena[offset[0] : offset[0] + length[0]].tobytes())
    return found


def _sections_case(players: int) -> Case:
    # No dictionary: a match has one such section in two seconds, too few to train on, or to matter.
    return Case(f"{players} players section", PayloadClass.SNAPSHOT, payloads=_sections(players, 2))


def _joins(players: int, seed: int) -> list[Payload]:
    """Joins of everything, four times a second, to train on."""
    match = ScriptedMatch(players, seed=seed)
    return [
        Payload(PayloadClass.JOIN, pack_columns(match.join_rows()))
        for tick in match.play(round(TRAIN_S * TICK_HZ))
        if tick % JOIN_EVERY == 0
    ]


def _zones() -> list[Case]:
    """Joins of zones of hundreds and thousands of entities: matches of a thousand players side by side."""
    worlds = []
    for seed in range(1, ZONES + 1):
        match = ScriptedMatch(ZONE_PLAYERS, map_source=ZONE_MAP, seed=seed)
        match.advance(ZONE_TICKS)
        rows = match.join_rows()
        rows[:, 0] += ZONE_SLOTS * (seed - 1)  # other slots; rows stay as they are but for that
        worlds.append(rows)
    everything = np.ascontiguousarray(np.vstack(worlds))
    cases = []
    for size in ZONE_SIZES:
        case = Case(f"{size:,} entities join", PayloadClass.JOIN, ours_are_rows=True)
        parts = len(everything) // size
        case.rows = [np.ascontiguousarray(everything[size * part : size * (part + 1)]) for part in range(parts)]
        _finish_joins(case)
        cases.append(case)
    return cases


def run(_data: Sequence[Path]) -> list[Row]:
    """Measure every case."""
    few = _match_cases(16)[0]
    few.dictionary = train([list(ScriptedMatch(16, seed=1).payloads(TRAIN_S))], few.kind)
    snapshots, messages, joins, bulk = _match_cases(64)
    training = list(ScriptedMatch(64, seed=1).payloads(TRAIN_S))
    for case in (snapshots, messages):
        case.dictionary = train([training], case.kind)
    joins.dictionary = train([_joins(64, 1)], joins.kind)
    large = _zones()
    for case in large:
        case.dictionary = joins.dictionary
    cases = (few, snapshots, _records_case(64), _sections_case(64), messages, joins, *large, bulk)
    return [entry for case in cases for entry in _measure(case)]
