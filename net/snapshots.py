"""The snapshot payload: its layout, and the table of the fields that are replicated.

All integers are little-endian. A payload travels in one netcode payload packet, at most `PAYLOAD_BYTES` long:

    header   u8 type = 1, u8 flags (1 OWNER, 2 LEAVES, 4 ZONE, 8 EVENTS: that section follows; no other bit), u16
             sequence, u32 tick, u8 input age (tick less the newest input tick of the client that is applied; 255: that
             or more, or none), i16 lead (how early the newest command arrived, 1/16 tick; negative: late), u8 target
             lead [ticks]
    owner    u8 n (1 to 128), n bytes: the client's own predicted state, not compressed
    leaves   u8 count ≥ 1, then that many u8: slot (low 7 bits); bit 7: the entity is gone from the world
    zone     u16 n ≥ 1, n bytes: what everybody is told (another decoder's)
    events   u8 count ≥ 1, then that many
    records  u8 m ≤ 16; 0: none, and the payload ends here. m bytes of bitmap, the last not 0: bit i of byte j set = a
             record for slot 8 j + i. u8 common age A, 0 to 63. Then one string of bits to the end of the payload: per
             record, in ascending order of slot, a bit that says whether its age is A; if not, 6 bits of age; then its
             body. Zero bits up to a whole byte, and nothing after

A record's body (net/records_kernels.py) is a full state where its age is 0, and else a delta against the state of this
slot in the snapshot `age` ticks older, which the client acknowledged. A full state says which level of fields it has;
deltas have that of the slot's newest full state, and rest on no state of another level or another entity. A body
depends on entity, level, age and tick only, so it is encoded once and shifted into the packets of all that need it.

An event: u8 age [ticks before the snapshot], u8 parts (1 actor, 2 target, 4 vector, 8 value), then LEB128 numbers:
kind; position x, y, z, folded, 1/`EVENT_POSITION_SCALE` m; actor and target as three numbers each (slot,
generation, zone); vector x, y, z, folded, 1/`EVENT_VECTOR_SCALE`; value, folded.

The client takes snapshots in ascending order of sequence only; an older or repeated one is dropped and never
acknowledged. So an acknowledged snapshot is one whose every record the client holds, and leaving and entering of a
slot cannot be seen in the wrong order. Quake III's snapshots (Book 2005, id's code/server/sv_snapshot.c) and
Tribes' scoped ghosts (Frohnmayer and Gift 2000) are the models.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from net.errors import NetError
from net.records import Reckoning, RecordFields, build_codec, build_lengths
from net.records_kernels import MOTION_FIELDS, SPEED_BASE, Codec
from sim.arrays import I64

__all__ = [
    "EVENT_POSITION_SCALE",
    "EVENT_VECTOR_SCALE",
    "FIELDS_MAX",
    "HEADER_BYTES",
    "OWNER_BYTES_MAX",
    "PAYLOAD_BYTES",
    "SLOTS",
    "FieldSpec",
    "FieldTable",
]

PAYLOAD_BYTES = 1200
HEADER_BYTES = 12
OWNER_BYTES_MAX = 128
SLOTS = 128
FIELDS_MAX = 32
FIELD_BITS_MAX = 32
EVENT_POSITION_SCALE = 64.0
EVENT_VECTOR_SCALE = 256.0
VELOCITY_SCALE_MAX = 1 << 24
KIND_NAME = "kind"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One replicated number: value = integer · `step`.

    Attributes:
        name: Unique in its table.
        bits: Width, 1 to 32.
        signed: Whether negative values occur.
        step: Size of one quantum, in the field's unit.
        level: Who is told: 0 everyone, 1 the team, 2 the owner.
        bound: Error that dead reckoning may make before clients are told anew, in the field's unit; 0: none.
        wraps: Whether it is an angle that goes round: 2^bits steps are one turn.
        angle: Whether it is an angle, which changes often and by little; records have better codes for the first two.
    """

    name: str
    bits: int
    signed: bool
    step: float = 1.0
    level: int = 0
    bound: float = 0.0
    wraps: bool = False
    angle: bool = False


class FieldTable:
    """The fields of every replicated entity: position x, y, z, velocity x, y, z, then up to 26 others.

    Attributes:
        fields: As given.
        table: Width and sign per field, shape (fields, 2), int64; what quantisation takes.
        velocity_scale: Position units per velocity unit and tick, times 65,536.
        count: How many fields a record of each level has: everyone, team, owner, self (which leaves out the motion).
        bound: Error bound of each field in steps, shape (fields,), int64; 0: exact.
        reckoning: How each kind goes on, by number.
        angles: The fields that records treat as angles, at most two.
        codec: What record kernels take (net/records_kernels.py); parts: what it is made of.
    """

    def __init__(self, fields: Sequence[FieldSpec], *, tick_hz: float, reckoning: Sequence[Reckoning] = ()) -> None:
        """Check the fields and derive what the kernels need.

        Args:
            fields: In wire order; position and velocity first, each axis with one step and signed; then by level.
            tick_hz: Simulation ticks per second.
            reckoning: Of each kind, as numbered by the field `kind`; empty: all go on from their velocity.

        Raises:
            NetError: A field is out of its limits, or the motion is not first.
        """
        _check(fields, tick_hz)
        self.fields = tuple(fields)
        rows = [(f.bits, int(f.signed)) for f in fields]
        self.table: I64 = np.array(rows, dtype=np.int64)
        scale = fields[MOTION_FIELDS - 1].step / fields[0].step / tick_hz
        self.velocity_scale = round(scale * 65536)
        if not 0 <= self.velocity_scale < VELOCITY_SCALE_MAX:
            raise NetError(
                f"fields: velocity step {fields[3].step} is {scale:g} position steps a tick; keep it below 256"
            )
        public, team = (sum(f.level <= level for f in fields) for level in (0, 1))
        self.count = (public, team, len(fields), len(fields))
        self.bound: I64 = np.array([int(f.bound / f.step) for f in fields], dtype=np.int64)
        self.reckoning = tuple(reckoning)
        self.parts = self._record_fields()
        self.angles = self.parts.angles
        self.codec: Codec = build_codec(self.parts, self.reckoning)

    def _record_fields(self) -> RecordFields:
        fields = self.fields
        angles = [i for i, f in enumerate(fields) if i >= MOTION_FIELDS and f.angle and f.level == 0]
        kinds = [i for i, f in enumerate(fields) if i >= MOTION_FIELDS and f.name == KIND_NAME]
        return RecordFields(
            bits=tuple(f.bits for f in fields),
            signed=tuple(f.signed for f in fields),
            count=self.count,
            steps=(fields[0].step, fields[3].step),
            angles=tuple(angles[:2]),
            kind=kinds[0] if kinds else -1,
            scale=self.velocity_scale,
        )

    def __len__(self) -> int:
        return len(self.fields)

    def index(self, name: str) -> int:
        """The place of the field called `name`.

        Raises:
            NetError: There is none.
        """
        for i, field in enumerate(self.fields):
            if field.name == name:
                return i
        raise NetError(f"fields: no field is called {name!r}; there are {', '.join(f.name for f in self.fields)}")

    def describe(self) -> dict[str, object]:
        """All that a client in another language needs to decode records, as JSON can carry it."""
        parts = self.parts
        return {
            "fields": [
                {"name": f.name, "bits": f.bits, "signed": f.signed, "step": f.step, "level": f.level}
                for f in self.fields
            ],
            "count": list(self.count),
            "angles": list(parts.angles),
            "kind": parts.kind,
            "scale": self.velocity_scale,
            "speed_base": int(self.codec[1][SPEED_BASE]),
            "reckoning": self.codec[2].tolist(),
            "lengths": [list(row) for row in build_lengths(parts)],
        }

    def digest(self) -> str:
        """32 hexadecimal digits that differ whenever records would not be understood."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _check(fields: Sequence[FieldSpec], tick_hz: float) -> None:
    """Refuse a table that the record layout cannot carry."""
    if not MOTION_FIELDS <= len(fields) <= FIELDS_MAX:
        raise NetError(f"fields: {len(fields)} given; position and velocity and up to 26 others are needed")
    if not 1.0 <= tick_hz <= 1000.0:
        raise NetError(f"fields: tick_hz {tick_hz} is not from 1 to 1000")
    for field in fields:
        if not 1 <= field.bits <= FIELD_BITS_MAX:
            raise NetError(f"fields: {field.name} has {field.bits} bits; give it 1 to {FIELD_BITS_MAX}")
        if not 0.0 < field.step < float("inf"):
            raise NetError(f"fields: {field.name} has step {field.step}; give it a positive number")
        if field.level not in {0, 1, 2} or not 0.0 <= field.bound < float("inf"):
            raise NetError(
                f"fields: {field.name} has level {field.level}, bound {field.bound}; give it 0 to 2, and ≥ 0"
            )
    levels = [field.level for field in fields]
    if levels != sorted(levels) or levels[MOTION_FIELDS - 1] != 0:
        raise NetError(f"fields: levels {levels} must not go down, and motion is for everyone (0); reorder the fields")
    for group in (fields[:3], fields[3:MOTION_FIELDS]):
        if len({field.step for field in group}) != 1 or not all(field.signed for field in group):
            raise NetError(f"fields: {', '.join(f.name for f in group)} must be signed and share one step")
