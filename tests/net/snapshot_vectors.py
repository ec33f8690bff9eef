"""Makes the golden snapshots: `python -m tests.net.snapshot_vectors` writes tests/golden/snapshots.json.

They are written by the naive twin (tests/reference), from a table with all that records know: angles, levels, orders
of reckoning, narrow and wide fields. Each snapshot has its payload, and what a decoder has afterwards: header,
sections, events and every entity; or nothing, where it is to be refused.
"""

import json
import random
from pathlib import Path
from typing import Any

from net.records import Reckoning
from net.snapshots import FieldSpec, FieldTable
from tests.reference.records import RecordTwin
from tests.reference.snapshots import Record, snapshot_bytes

__all__ = ["GOLDEN", "TABLE", "make_vectors"]

GOLDEN = Path(__file__).parents[1] / "golden" / "snapshots.json"
COUNT = 60
SLOTS = 24
TABLE = FieldTable(
    [FieldSpec(f"position.{axis}", 22, signed=True, step=1 / 128) for axis in "xyz"]
    + [FieldSpec(f"velocity.{axis}", 14, signed=True, step=1 / 64) for axis in "xyz"]
    + [
        FieldSpec("kind", 2, signed=False),
        FieldSpec("yaw", 12, signed=False, wraps=True, angle=True),
        FieldSpec("pitch", 11, signed=True, angle=True),
        FieldSpec("flags", 9, signed=False),
        FieldSpec("alive", 1, signed=False),
        FieldSpec("points", 32, signed=True),
        FieldSpec("health", 9, signed=False, level=1),
        FieldSpec("ammo", 16, signed=False, level=2),
    ],
    tick_hz=60,
    reckoning=(Reckoning(2, (0, 0, -46603), field=9, mask=1, value=0), Reckoning(), Reckoning(0)),
)
EVENT = b"\x03\x0f\7\2\4\6\5\1\0\6\1\0\2\4\6\x54"
EVENT_READ = {
    "tick": -3, "kind": 7, "position": [1 / 64, 2 / 64, 3 / 64], "actor": str(5 | 1 << 24), "target": str(6 | 1 << 24),
    "vector": [1 / 256, 2 / 256, 3 / 256], "value": 42,
}  # fmt: skip


class World:
    """A client's slots as they should be, and the states that it holds."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.twin = RecordTwin(TABLE)
        self.slots: dict[int, dict[str, Any]] = {}
        self.tick = self.sequence = 65_520

    def value(self, field: int) -> int:
        """Any value of a field, small ones more often."""
        spec = TABLE.fields[field]
        bits = self.random.choice((1, 3, spec.bits - 1, spec.bits)) if spec.bits > 4 else spec.bits
        number = self.random.getrandbits(bits)
        return self.twin.wrapped(field, number if self.random.random() < 0.5 else -number)

    def told(self, level: int, values: list[int]) -> list[int]:
        """What a record of a level tells of a state."""
        return [
            0 if (f < 6 and level == 3) or f >= max(6, TABLE.count[level]) else value for f, value in enumerate(values)
        ]

    def enter(self, slot: int) -> Record:
        """A full state of a new entity, or of the same at another level."""
        level, entity = self.random.randrange(4), self.random.getrandbits(self.random.choice((20, 40, 64))) | 1
        values = self.told(level, [self.value(f) for f in range(len(TABLE))])
        self.slots[slot] = {"id": entity, "level": level, "tick": self.tick, "states": {self.tick: values}}
        return 0, self.twin.full(values, entity, level)

    def move(self, slot: int) -> Record:
        """A delta against a state that is held: some fields go on as foreseen, others change by little or much."""
        held = self.slots[slot]
        age = self.tick - self.random.choice(list(held["states"]))
        base, level = held["states"][self.tick - age], held["level"]
        values = [self.twin.expected(base, age, f) if f < 6 else base[f] for f in range(len(base))]
        for f in self.random.sample(range(len(base)), self.random.choice((0, 0, 1, 3, len(base)))):
            near = self.twin.wrapped(f, values[f] + self.random.randint(-40, 40))
            values[f] = near if self.random.random() < 0.8 else self.value(f)
        values = self.told(level, values)
        held["tick"] = self.tick
        held["states"][self.tick] = values
        return age, self.twin.delta(values, base, age, level)

    def step(self, number: int) -> dict[str, Any]:
        """One snapshot, and what is known after it."""
        pick = self.random
        self.tick += pick.choice((1, 2, 2, 5))
        self.sequence = (self.sequence + 1) % 65536
        left = [slot for slot in self.slots if pick.random() < 0.05]
        for slot in left:
            del self.slots[slot]
        for held in self.slots.values():
            held["states"] = {tick: state for tick, state in held["states"].items() if tick >= self.tick - 63}
        records: dict[int, Record] = {}
        for slot in pick.sample(range(SLOTS), pick.randrange(12)):
            stays = slot in self.slots and self.slots[slot]["states"] and pick.random() < 0.9
            records[slot] = self.move(slot) if stays else self.enter(slot)
        options = {
            "owner": bytes(pick.randbytes(pick.randrange(1, 129)) if pick.random() < 0.5 else b""),
            "zone": bytes(pick.randbytes(pick.randrange(1, 300)) if pick.random() < 0.2 else b""),
        }
        events = [EVENT] * pick.choice((0, 0, 1, 3))
        ages = [age for age, _ in records.values()] or [0]
        payload = snapshot_bytes(
            self.sequence, self.tick, records, common=pick.choice(ages), input_age=number % 256, lead_q4=-number,
            target_lead=2, leaves=bytes(left), events=events, **options,
        )  # fmt: skip
        return {
            "payload": payload.hex(),
            "tick": self.tick,
            "input_tick": self.tick - number,
            "lead_q4": -number,
            "owner": options["owner"].hex(),
            "zone": options["zone"].hex(),
            "events": [{**EVENT_READ, "tick": self.tick - 3}] * len(events),
            "entities": [
                [slot, str(held["id"]), held["level"], held["tick"], held["states"].get(held["tick"], [])]
                for slot, held in sorted(self.slots.items())
            ],
        }


def make_vectors() -> dict[str, Any]:
    """The schema and the snapshots, in order; some are followed by spoilt copies that must change nothing."""
    world, made = World(1), list[dict[str, Any]]()
    for number in range(COUNT):
        entry = world.step(number)
        payload = bytes.fromhex(entry["payload"])
        if number % 4 == 0:
            made += [{"payload": (payload + b"\0").hex()}, {"payload": payload[:-1].hex()}]
        made.append(entry)
    return {"schema": TABLE.describe(), "snapshots": made}


def main() -> None:
    """Write the file."""
    text = json.dumps(make_vectors(), separators=(",", ":"))
    GOLDEN.write_text(text.replace('{"payload"', '\n{"payload"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
