from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from net.errors import NetError
from net.records import Reckoning
from net.replica import ReplicaGroup
from net.snapshots import FieldSpec, FieldTable
from sim.arrays import AnyArray
from tests.reference.snapshots import Record, delta_record, full_record, snapshot_bytes

TABLE = FieldTable(
    [FieldSpec(f"p{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"]
    + [FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    + [FieldSpec("health", 10, signed=False), FieldSpec("ammo", 8, signed=False, level=2)],
    tick_hz=60,
)
ENTITY = 3 << 24 | 17
START = [1000, 2000, 300, 64, 0, 0, 100, 0]
OK, STALE, WRONG, MALFORMED, BASELINE = range(5)


def snapshot(
    sequence: int, tick: int, records: dict[int, Record], *, leaves: bytes = b"", events: Sequence[bytes] = ()
) -> bytes:
    return snapshot_bytes(sequence, tick, records, leaves=leaves, events=events)


def full(values: list[int] = START, entity: int = ENTITY, level: int = 0) -> Record:
    return full_record(values, entity, TABLE, level=level)


def digest(group: ReplicaGroup) -> list[bytes]:
    columns: list[AnyArray] = [*group._heads, *group._states, *group._events]
    return [column.tobytes() for column in columns]


def test_full_then_delta_then_leave() -> None:
    group = ReplicaGroup(1, TABLE)
    assert group.receive_bytes(0, snapshot(0, 10, {5: full()})) == OK
    assert int(group.entity_id[0, 5]) == ENTITY
    assert group.fields[0, 5].tolist() == START
    later = [1100, 2001, 300, 60, 1, 0, 90, 0]
    assert group.receive_bytes(0, snapshot(1, 16, {5: delta_record(later, START, 6, TABLE)})) == OK
    assert group.fields[0, 5].tolist() == later
    assert int(group.state_tick[0, 5]) == 16
    assert (int(group.sequence[0]), int(group.ack_mask[0])) == (1, 1)
    assert group.receive_bytes(0, snapshot(2, 17, {}, leaves=bytes([5 | 128]))) == OK
    assert not group.entity_id.any()


def test_the_header_and_the_other_sections_are_told() -> None:
    group = ReplicaGroup(2, TABLE)
    payload = snapshot_bytes(
        9, 70, {}, input_age=4, lead_q4=-3, target_lead=2, owner=b"mine", zone=b"everybody", leaves=bytes([3])
    )
    assert group.receive_bytes(1, payload) == OK
    assert (int(group.tick[1]), int(group.input_tick[1]), int(group.lead_q4[1])) == (70, 66, -3)
    assert (int(group.target_lead[1]), int(group.owner_bytes[1])) == (2, 4)
    assert group.owner[1, :4].tobytes() == b"mine"
    begin = int(group.zone_offset[0])
    assert payload[begin : begin + int(group.zone_length[0])] == b"everybody"
    assert group.receive_bytes(1, snapshot_bytes(10, 71, {}, input_age=255)) == OK
    assert (int(group.owner_bytes[1]), int(group.zone_length[0])) == (0, 0)
    assert int(group.input_tick[1]) == 66, "no news of inputs is no loss of them"


def test_the_level_of_a_full_state_says_what_deltas_hold() -> None:
    group = ReplicaGroup(1, TABLE)
    mine = [0, 0, 0, 0, 0, 0, 100, 30]
    assert group.receive_bytes(0, snapshot(0, 10, {5: full(level=3), 6: full([*START[:7], 9], 9)})) == OK
    assert group.level[0, 5:7].tolist() == [3, 0]
    assert group.fields[0, 5].tolist() == [0, 0, 0, 0, 0, 0, 100, 0], "motion is left to the owner section"
    assert group.fields[0, 6].tolist() == START, "everyone is not told of ammo"
    own = delta_record(mine, group.fields[0, 5].tolist(), 6, TABLE, level=3)
    assert group.receive_bytes(0, snapshot(1, 16, {5: own})) == OK
    assert group.fields[0, 5].tolist() == mine
    assert group.receive_bytes(0, snapshot(2, 18, {5: full(level=1)})) == OK
    assert int(group.level[0, 5]) == 1
    assert group.receive_bytes(0, snapshot(3, 20, {5: own[:1] + own[1:]})) == BASELINE, "of another level"


def test_older_and_repeated_snapshots_are_dropped_and_not_acknowledged() -> None:
    group = ReplicaGroup(1, TABLE)
    assert group.receive_bytes(0, snapshot(65535, 10, {})) == OK
    assert group.receive_bytes(0, snapshot(2, 13, {})) == OK
    assert int(group.ack_mask[0]) == 0b100, "two were skipped across the wrap of the sequence"
    before = digest(group)
    assert group.receive_bytes(0, snapshot(1, 12, {5: full()})) == STALE
    assert group.receive_bytes(0, snapshot(2, 13, {5: full()})) == STALE
    assert digest(group) == before
    assert group.receive_bytes(0, snapshot(40, 60, {})) == OK
    assert int(group.ack_mask[0]) == 0, "what is older than the mask falls out of it"


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (b"", MALFORMED),
        (b"\2" + snapshot(1, 20, {})[1:], WRONG),
        (b"\1\x10" + snapshot(1, 20, {})[2:], MALFORMED),
        (snapshot(1, 10, {}), MALFORMED),
        (snapshot(1, 20, {})[:-1], MALFORMED),
        (snapshot(1, 20, {}) + b"\0", MALFORMED),
        (snapshot(1, 20, {})[:-1] + b"\1\0\6", MALFORMED),
        (snapshot(1, 20, {})[:-1] + b"\x11" + bytes([0] * 16 + [1, 6, 1]), MALFORMED),
        (snapshot(1, 20, {6: full()}) + b"\0", MALFORMED),
        (snapshot(1, 20, {6: full()})[:-1], MALFORMED),
        (snapshot(1, 20, {6: full([0] * 8)})[:-1] + b"\x80", MALFORMED),
        (snapshot(1, 20, {6: full()}).replace(b"\1\x40\6", b"\1\x40\x40"), MALFORMED),
        (snapshot(1, 20, {6: full(entity=0)}), MALFORMED),
        (snapshot(1, 20, {}, leaves=bytes([100])), MALFORMED),
        (snapshot(1, 20, {}, leaves=bytes(20))[:16], MALFORMED),
        (b"\1\2" + snapshot(1, 20, {})[2:-1] + b"\0\0", MALFORMED),
        (b"\1\1" + snapshot(1, 20, {})[2:-1] + b"\0\0", MALFORMED),
        (b"\1\1" + snapshot(1, 20, {})[2:-1] + b"\x81" + bytes(130), MALFORMED),
        (b"\1\4" + snapshot(1, 20, {})[2:-1] + b"\0\0\0", MALFORMED),
        (b"\1\4" + snapshot(1, 20, {})[2:-1] + b"\2\0\0", MALFORMED),
        (snapshot(1, 20, {70: full()}), MALFORMED),
        (snapshot(1, 20, {5: delta_record(START, START, 9, TABLE)}), BASELINE),
        (snapshot(1, 20, {6: delta_record(START, START, 10, TABLE)}), BASELINE),
        (snapshot(1, 20, {5: delta_record(START, START, 10, TABLE)}, leaves=bytes([5])), BASELINE),
        (b"\1\x08" + snapshot(1, 20, {6: full()})[2:12] + b"\0" + snapshot(1, 20, {6: full()})[12:], MALFORMED),
        (snapshot(1, 20, {6: full()}, events=[b"\0\x10\0\0\0\0"]), MALFORMED),
        (snapshot(1, 20, {}, events=[bytes(95)] * 14), MALFORMED),
    ],
)
def test_what_is_wrong_is_counted_by_reason_and_changes_nothing(payload: bytes, outcome: int) -> None:
    group = ReplicaGroup(1, TABLE, slots=64)
    assert group.receive_bytes(0, snapshot(0, 10, {5: full()})) == OK
    before = digest(group)
    assert group.receive_bytes(0, payload) == outcome
    assert group.counters[outcome] == 1
    assert digest(group) == before


GOOD = snapshot(
    1,
    16,
    {5: delta_record([1100, 2001, 300, 60, 1, 0, 90, 0], START, 6, TABLE), 9: full(entity=ENTITY + 1)},
    leaves=bytes([30]),
    events=[b"\0\x0f\7\2\4\6\5\1\0\6\1\0\2\4\6\x54"],
)


def test_the_sample_that_is_mangled_below_is_good() -> None:
    group = ReplicaGroup(1, TABLE)
    group.receive_bytes(0, snapshot(0, 10, {5: full()}))
    assert group.receive_bytes(0, GOOD) == OK
    assert int(group.event_count[0]) == 1
    assert int(group.event_value[0, 0]) == 42


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mangled_snapshots_never_raise_and_are_applied_whole_or_not_at_all(data: st.DataObject) -> None:
    group = ReplicaGroup(1, TABLE, ring=4, events=8)
    group.receive_bytes(0, snapshot(0, 10, {5: full()}))
    payload = bytearray(GOOD[: data.draw(st.integers(0, len(GOOD)))] if data.draw(st.booleans()) else GOOD)
    for _ in range(data.draw(st.integers(0, 4))):
        if payload:
            payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    before = digest(group)
    outcome = group.receive_bytes(0, bytes(payload))
    assert outcome in range(5)
    assert (outcome == OK) == (digest(group) != before)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_noise_never_raises(payload: bytes) -> None:
    group = ReplicaGroup(1, TABLE, ring=4, events=8)
    group.receive_bytes(0, b"\1\0" + payload)


def test_clients_of_a_group_do_not_touch_each_other() -> None:
    group = ReplicaGroup(3, TABLE)
    payload = np.zeros((2, 200), dtype=np.uint8)
    one, two = snapshot(0, 10, {5: full()}), snapshot(8, 11, {6: full(entity=ENTITY + 1)})
    payload[0, : len(one)], payload[1, : len(two)] = list(one), list(two)
    outcome = group.receive(np.array([2, 0], np.int32), payload, np.array([len(one), len(two)], np.int32))
    assert outcome.tolist() == [OK, OK]
    assert [int(group.entity_id[client].max()) for client in range(3)] == [ENTITY + 1, 0, ENTITY]
    group.reset(2)
    assert group.sequence.tolist() == [8, -1, -1]
    assert not group.entity_id[2].any()


def test_view_interpolates_extrapolates_and_holds_what_rested() -> None:
    group = ReplicaGroup(1, TABLE)
    fast = [512, 0, 0, 640, 0, 0, 1, 0]  # 1 m, 10 m/s
    there = [1536, 0, 0, 640, 0, 0, 1, 0]  # 3 m
    rest, moved = [0, 512, 0, 0, 0, 0, 1, 0], [0, 1024, 0, 0, 0, 0, 1, 0]
    group.receive_bytes(0, snapshot(0, 100, {1: full(fast), 2: full(rest, 9)}))
    group.receive_bytes(0, snapshot(1, 104, {1: full(there)}))
    group.receive_bytes(0, snapshot(2, 140, {2: full(moved, 9)}))

    def at(moment: float, slot: int) -> list[float]:
        position, shown = group.view(np.array([moment]), limit_ticks=6.0, gap_ticks=8.0)
        assert shown[0, slot] == 1
        return [round(float(value), 4) for value in position[0, slot]]

    assert at(102.0, 1) == [2.0, 0.0, 0.0]
    assert at(107.0, 1) == [3.5, 0.0, 0.0]
    assert at(200.0, 1) == [9.9999, 0.0, 0.0], "no farther than the limit after the newest snapshot"
    assert at(120.0, 2) == [0.0, 1.0, 0.0], "held, not drawn out over the time of rest"
    assert at(136.0, 2) == [0.0, 1.5, 0.0]
    assert at(150.0, 2) == [0.0, 2.0, 0.0]
    assert group.view(np.array([99.0]))[1].sum() == 0, "nothing is shown before it came"


def test_what_falls_is_shown_on_the_parabola_by_which_the_server_reckons() -> None:
    fields = [
        *(FieldSpec(f"p{axis}", 24, signed=True, step=1 / 512) for axis in "xyz"),
        *(FieldSpec(f"v{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"),
        FieldSpec("grounded", 1, signed=False),
    ]
    gravity = round(-20.0 * 512 / 3600 * 65536)  # [1/512 m per tick²], in 65,536ths
    table = FieldTable(fields, tick_hz=60, reckoning=(Reckoning(2, (0, 0, gravity), field=6, mask=1, value=0),))
    group = ReplicaGroup(1, table)
    flying, standing = [0, 0, 512, 64, 0, 384, 0], [0, 0, 512, 64, 0, 384, 1]  # 1 m high, 6 m/s upwards
    records = {1: full_record(flying, ENTITY, table), 2: full_record(standing, ENTITY + 1, table)}
    group.receive_bytes(0, snapshot(0, 100, records))
    position, _ = group.view(np.array([112.0]))
    time = 12 / 60
    assert position[0, 1, 2] == pytest.approx(1.0 + 6.0 * time - 10.0 * time * time, abs=0.002)
    assert position[0, 1, 0] == pytest.approx(time, abs=0.001)
    assert position[0, 2, 2] == pytest.approx(1.0 + 6.0 * time, abs=0.002)
    # Nothing more is sent of it while that holds: a newer snapshot says so, and what is shown goes on.
    group.receive_bytes(0, snapshot(1, 124, {3: full_record(standing, ENTITY + 2, table)}))
    position, _ = group.view(np.array([124.0]))
    assert position[0, 1, 2] == pytest.approx(1.0 + 6.0 * 0.4 - 10.0 * 0.16, abs=0.004)


def test_wrong_use_is_refused() -> None:
    with pytest.raises(NetError, match="slots is 129"):
        ReplicaGroup(1, TABLE, slots=129)
    group = ReplicaGroup(1, TABLE)
    with pytest.raises(NetError, match="client is not"):
        group.receive_bytes(1, b"")
    with pytest.raises(NetError, match="moments"):
        group.view(np.zeros(2))
