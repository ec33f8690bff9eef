"""The live feed: what is going on in a match, published by the tick thread through shared memory.

One writer (the server) and any number of readers (`server.livereader`, in the edge process) share a
memory-mapped file, `hitreg-NAME.feed` in `/dev/shm`. The writer never blocks, readers never write.

Layout of the file, little endian, offsets in the header, every part aligned to 64 bytes:

    HEADER      magic, sizes, `newest` (sequence of the newest complete frame, 0 = none yet), `closed`
    info        UTF-8 JSON of `FeedInfo`; written once
    picture     PNG of the map from above, or nothing; written once
    mesh        `LiveMesh.to_bytes`, or nothing; written once
    names       `lock` u64, then NAME_BYTES bytes of UTF-8 per player, zero padded; rewritten on change
    ring        RING_ENTRIES entries; the frame with sequence s (from 1) stands in entry s % RING_ENTRIES:
                  `lock` u64 | FRAME | STAGE[STAGES_MAX] | PLAYER[n] | PROJECTILE[n] | PICKUP[n] | EVENT[n] | MOVER[n]
                  each array at the offset of its full capacity

Locks are sequence locks (Lameter 2005, as in Linux): 2s + 1 while frame s is being written, 2s + 2 when
it is complete; a reader copies, looks again, and throws away a copy that changed meanwhile. This relies on
stores being seen in order, as x86-64 guarantees; elsewhere a torn frame may show for 50 ms on a page, and
nothing rests on its content.

A frame handed to a browser (`LiveFeedReader.read`) is the same records without the gaps: FRAME,
STAGE[stage_count], PLAYER[player_count], PROJECTILE[projectile_count], PICKUP[pickup_count],
EVENT[event_count] and MOVER[mover_count].

What does not fit is cut off and counted in `METRICS.truncated`: watching never slows a tick.
"""

import fcntl
import json
import mmap
import os
import re
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from server.errors import ServerError
from server.livemesh import LiveMesh
from sim.arrays import U8, U64, AnyArray
from sim.worldmap import MOVING_MAX

__all__ = [
    "ARRAYS",
    "ENTRY_BYTES",
    "EVENT",
    "EVENTS_MAX",
    "FILE_BYTES_MAX",
    "FRAME",
    "HEADER",
    "MAGIC",
    "MEASURES_MAX",
    "METRICS",
    "MOVER",
    "NAMES_BYTES",
    "NAME_BYTES",
    "OFFSETS",
    "PICKUP",
    "PICKUPS_MAX",
    "PLAYER",
    "PLAYERS_MAX",
    "PROJECTILE",
    "PROJECTILES_MAX",
    "REASONS_MAX",
    "RING_ENTRIES",
    "STAGE",
    "STAGES_MAX",
    "TELLING",
    "VERSION",
    "FeedError",
    "FeedInfo",
    "LiveEvent",
    "LiveFeedWriter",
    "LiveFlag",
    "TeamInfo",
    "create_shared",
    "feed_path",
]

VERSION = 3
MAGIC = 0x4645454456495248  # "HRIVDEEF" read as bytes
RING_ENTRIES = 16
PLAYERS_MAX = 1024
PROJECTILES_MAX = 2048
PICKUPS_MAX = 1024
EVENTS_MAX = 1024
STAGES_MAX = 32
REASONS_MAX = 16
MEASURES_MAX = 8
NAME_BYTES = 24
PICTURE_BYTES_MAX = 16 << 20
INFO_BYTES_MAX = 1 << 20
FILE_BYTES_MAX = 128 << 20
ALIGN = 64

PLAYER = np.dtype(
    [
        ("id", "<u8"),
        ("position", "<f4", (3,)),  # feet [m]
        ("velocity", "<f4", (3,)),  # [m/s]
        ("yaw", "<u2"),  # 65536 = one turn, counter-clockwise from +X
        ("pitch", "<i2"),  # same unit, up positive
        ("health", "<i2"),
        ("armour", "<i2"),
        ("team", "u1"),
        ("weapon", "u1"),
        ("flags", "u1"),  # LiveFlag
        ("reserved", "u1"),
        ("kills", "<i4"),
        ("deaths", "<i4"),
        ("score", "<i4"),
        ("ping_ms", "<u2"),
        ("name", "<u2"),  # index into the names table
        ("bytes_out", "<u4"),  # sent to this player in the last second
    ]
)
PROJECTILE = np.dtype([("id", "<u8"), ("position", "<f4", (3,)), ("kind", "u1"), ("reserved", "u1", (3,))])
PICKUP = np.dtype([("position", "<f4", (3,)), ("kind", "u1"), ("available", "u1"), ("reserved", "<u2")])
EVENT = np.dtype(
    [
        ("kind", "<u2"),  # LiveEvent
        ("tick", "<u2"),  # the tick in which it happened, its low 16 bits
        ("value", "<i4"),
        ("actor", "<u8"),
        ("target", "<u8"),
        ("position", "<f4", (3,)),
        ("end", "<f4", (3,)),
    ]
)
MOVER = np.dtype([("offset", "<f4", (3,))])  # from its place in the mesh [m], in the order of `FeedInfo.movers`
STAGE = np.dtype([("last_ns", "<u4"), ("p50_ns", "<u4"), ("p99_ns", "<u4")])
METRICS = np.dtype(
    [
        ("tick_ns", "<u4"),  # the newest tick
        ("tick_p50_ns", "<u4"),  # over the last second
        ("tick_p95_ns", "<u4"),
        ("tick_p99_ns", "<u4"),
        ("budget_ns", "<u4"),  # 1e9 / tick rate
        ("connected", "<u4"),
        ("overruns", "<u8"),  # totals since start, from here on
        ("bytes_in", "<u8"),
        ("bytes_out", "<u8"),
        ("packets_in", "<u8"),
        ("packets_out", "<u8"),
        ("drops", "<u8"),
        ("truncated", "<u8"),  # records that did not fit into the feed
    ]
)
TELLING = np.dtype(  # what clients are told, all together, over the last second
    [
        ("p50_Bps", "<f4"),  # snapshots to a client [bytes/s]
        ("p95_Bps", "<f4"),
        ("max_Bps", "<f4"),
        ("snapshot_hz", "<f4"),  # of a client, on average
        ("records", "<f4"),  # in a snapshot, on average
        ("events", "<f4"),  # likewise
        ("sent", "<f4"),  # of all told pairs at a snapshot, the share that had a record,
        ("at_rest", "<f4"),  # that stood still,
        ("steady", "<f4"),  # that went on as the client foresees,
        ("in_flight", "<f4"),  # whose record was under way,
        ("deferred", "<f4"),  # and that had to wait for want of room
        ("told_pairs", "<f4"),  # of a client and an entity, at present
        ("hidden_pairs", "<f4"),
        ("rays", "<f4"),  # cast per tick, -1: visibility is not decided
        ("watched", "<f4"),  # clients that pages have asked for (`server.livetold`)
        ("reserved", "<f4"),
    ]
)
FRAME = np.dtype(
    [
        ("kind", "<u2"),  # 1, tells a frame from other binary messages
        ("version", "<u2"),
        ("names_version", "<u4"),
        ("sequence", "<u8"),
        ("tick", "<u8"),
        ("wall_ns", "<u8"),
        ("player_count", "<u2"),
        ("projectile_count", "<u2"),
        ("pickup_count", "<u2"),
        ("event_count", "<u2"),
        ("stage_count", "<u2"),
        ("mover_count", "<u2"),
        ("reserved", "<u2", (2,)),
        ("metrics", METRICS),
        ("telling", TELLING),
        ("refused", "<u4", (REASONS_MAX,)),  # since the start, by reason, as `FeedInfo.extra` names them
        ("flagged", "<u4", (MEASURES_MAX,)),  # players whose aim should be looked at, by measure, likewise
    ]
)
HEADER = np.dtype(
    [
        ("magic", "<u8"),
        ("version", "<u4"),
        ("writer_pid", "<u4"),
        ("started_ns", "<u8"),  # tells one run of the server from the next
        ("info_offset", "<u8"),
        ("info_bytes", "<u8"),
        ("picture_offset", "<u8"),
        ("picture_bytes", "<u8"),
        ("mesh_offset", "<u8"),
        ("mesh_bytes", "<u8"),
        ("names_offset", "<u8"),
        ("ring_offset", "<u8"),
        ("entry_bytes", "<u8"),
        ("newest", "<u8"),
        ("closed", "<u8"),
    ]
)
ARRAYS = (  # of an entry, in order: name, record type, capacity
    ("stage", STAGE, STAGES_MAX),
    ("player", PLAYER, PLAYERS_MAX),
    ("projectile", PROJECTILE, PROJECTILES_MAX),
    ("pickup", PICKUP, PICKUPS_MAX),
    ("event", EVENT, EVENTS_MAX),
    ("mover", MOVER, MOVING_MAX),
)


class FeedError(ServerError):
    """A live feed cannot be made or read."""


class LiveFlag:
    """Bits of `PLAYER.flags`."""

    ALIVE = 1
    CROUCHED = 2
    ON_GROUND = 4
    BOT = 8


class LiveEvent:
    """Kinds of `EVENT`; `actor` and `target` are entity ids, 0 = none."""

    SHOT = 1  # a line from `position` to `end`; value = weapon
    HIT = 2  # actor hurt target at `position`; value = damage
    KILL = 3  # actor killed target at `position`; value = weapon, plus 256 for a head shot
    EXPLOSION = 4  # at `position`; value = radius [mm]
    PICKUP = 5  # actor took the pickup at `position`; value = its kind
    SPAWN = 6  # actor appeared at `position`
    JOIN = 7
    LEAVE = 8


@dataclass(frozen=True, slots=True)
class TeamInfo:
    """A team by its index in `FeedInfo.teams`; `colour` is `#rrggbb`."""

    name: str
    colour: str


@dataclass(frozen=True, slots=True)
class FeedInfo:
    """What stays the same for a run of the server. Lists are indexed by the numbers in the records."""

    game: str
    map_name: str
    tick_rate: int
    bounds_low: tuple[float, float, float]  # of the map [m]
    bounds_high: tuple[float, float, float]
    stages: tuple[str, ...] = ()
    weapons: tuple[str, ...] = ()
    projectiles: tuple[str, ...] = ()
    pickups: tuple[str, ...] = ()
    teams: tuple[TeamInfo, ...] = (TeamInfo("players", "#7cc4ff"),)
    floors: tuple[float, ...] = ()  # heights people play at [m]; the map is cut above the highest
    picture_low: tuple[float, float] = (0.0, 0.0)  # where the picture lies [m]
    picture_high: tuple[float, float] = (0.0, 0.0)
    player_radius: float = 0.375
    player_height: float = 1.4
    crouch_height: float = 1.0
    extra: dict[str, str] = field(default_factory=dict)
    movers: tuple[tuple[int, int], ...] = ()  # of what moves: first triangle in the mesh, and how many
    records: dict[str, object] = field(default_factory=dict)  # `FieldTable.describe`: what decodes snapshots


def feed_path(name: str) -> Path:
    """Where the feed of that name lies.

    Raises:
        FeedError: The name is not 1 to 64 of `a-z 0-9 _ -`.
    """
    if not re.fullmatch(r"[a-z0-9_-]{1,64}", name):
        raise FeedError(f"feed name {name!r}: use 1 to 64 characters of a-z, 0-9, _ and -")
    shared = Path("/dev") / "shm"
    directory = shared if shared.is_dir() else Path(tempfile.gettempdir())
    return directory / f"hitreg-{name}.feed"


def _up(offset: int) -> int:
    return -(-offset // ALIGN) * ALIGN


def _entry_offsets() -> tuple[dict[str, int], int]:
    """Offset of each array in an entry, and the size of an entry."""
    offsets = {"frame": 8}
    end = _up(8 + FRAME.itemsize)
    for name, dtype, capacity in ARRAYS:
        offsets[name] = end
        end = _up(end + dtype.itemsize * capacity)
    return offsets, end


OFFSETS, ENTRY_BYTES = _entry_offsets()
NAMES_BYTES = _up(8 + NAME_BYTES * PLAYERS_MAX)


class LiveFeedWriter:
    """Publishes frames; every call returns at once.

    Fill `metrics`, `telling`, `refused` and `flagged` in place before `publish`; they go into the frame as they stand.

    Args:
        name: Of the feed; one writer at a time.
        info: What stays the same.
        now_ns: Wall clock [ns since 1970]; also tells this run from the last.
        picture_png: The map from above, at `info.picture_low` to `info.picture_high`.
        mesh: The map's triangles, for the three-dimensional view.

    Raises:
        FeedError: The name is malformed or taken, a part is too large, or the file cannot be made.
    """

    def __init__(
        self,
        name: str,
        info: FeedInfo,
        *,
        now_ns: int,
        picture_png: bytes = b"",
        mesh: LiveMesh | None = None,
    ) -> None:
        self.path = feed_path(name)
        self._head: AnyArray = np.zeros(1, FRAME)
        self._head["kind"], self._head["version"] = 1, VERSION
        self.metrics: AnyArray = self._head["metrics"].reshape(())
        self.telling: AnyArray = self._head["telling"].reshape(())
        self.refused: AnyArray = self._head["refused"][0]
        self.flagged: AnyArray = self._head["flagged"][0]
        self.metrics["budget_ns"] = 1_000_000_000 // info.tick_rate
        self._sequence = 0
        self._names_version = 0
        parts = (_info_bytes(info), picture_png, mesh.to_bytes() if mesh is not None else b"")
        if len(picture_png) > PICTURE_BYTES_MAX:
            raise FeedError(f"feed {name}: picture has {len(picture_png)} bytes, at most {PICTURE_BYTES_MAX}")
        header = _header(parts, now_ns)
        size = int(header["ring_offset"]) + RING_ENTRIES * ENTRY_BYTES
        self._descriptor, self._memory, made = create_shared(self.path, size)
        self._map_arrays(header, parts)
        self._offer(made)

    def _map_arrays(self, header: AnyArray, parts: tuple[bytes, ...]) -> None:
        """Write what stays, and make the views that `publish` copies into."""
        whole: U8 = np.frombuffer(self._memory, np.uint8)
        for part, content in zip(("info", "picture", "mesh"), parts, strict=True):
            start = int(header[f"{part}_offset"])
            whole[start : start + len(content)] = np.frombuffer(content, np.uint8)
        self._header: AnyArray = whole[: HEADER.itemsize].view(HEADER)
        self._header[0] = header
        self._newest: U64 = self._header["newest"]
        names = int(header["names_offset"])
        self._names_lock: U64 = whole[names : names + 8].view(np.uint64)
        self._names: U8 = whole[names + 8 : names + 8 + NAME_BYTES * PLAYERS_MAX]
        ring = int(header["ring_offset"])
        entries = [whole[at : at + ENTRY_BYTES] for at in range(ring, ring + RING_ENTRIES * ENTRY_BYTES, ENTRY_BYTES)]
        self._locks: list[U64] = [entry[:8].view(np.uint64) for entry in entries]
        self._frames: list[U8] = [entry[8 : 8 + FRAME.itemsize] for entry in entries]
        self._arrays: list[tuple[U8, ...]] = [
            tuple(entry[OFFSETS[kind] : OFFSETS[kind] + dtype.itemsize * most] for kind, dtype, most in ARRAYS)
            for entry in entries
        ]
        self._head_bytes: U8 = self._head.view(np.uint8)
        self._head_words: U64 = self._head.view(np.uint64)

    def _offer(self, made: Path) -> None:
        """Put the finished file in its place in one step, so that no reader sees half a header."""
        try:
            made.replace(self.path)
        except OSError as exc:
            made.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise FeedError(f"feed {self.path}: {exc.strerror}; choose another feed name") from exc

    def publish(
        self,
        *,
        tick: int,
        wall_ns: int,
        players: AnyArray,
        projectiles: AnyArray | None = None,
        pickups: AnyArray | None = None,
        events: AnyArray | None = None,
        stages: AnyArray | None = None,
        movers: AnyArray | None = None,
    ) -> None:
        """Make one frame the newest.

        Args:
            tick: Of the simulation.
            wall_ns: Wall clock [ns since 1970].
            players: PLAYER records, shape (n,), contiguous.
            projectiles: PROJECTILE records.
            pickups: PICKUP records.
            events: EVENT records since the last frame.
            stages: STAGE records.
            movers: MOVER records.

        Raises:
            TypeError: An array has another record type.
        """
        self._sequence += 1
        entry = self._sequence % RING_ENTRIES
        lock = self._locks[entry]
        lock[0] = 2 * self._sequence + 1
        given = (stages, players, projectiles, pickups, events, movers)
        counts = [self._put(entry, number, records) for number, records in enumerate(given)]
        words = self._head_words  # sequence, tick, wall_ns, counts: words are three times as fast as fields
        words[1], words[2], words[3] = self._sequence, tick, wall_ns
        words[4] = counts[1] | counts[2] << 16 | counts[3] << 32 | counts[4] << 48
        words[5] = counts[0] | counts[5] << 16
        self._frames[entry][:] = self._head_bytes
        lock[0] = 2 * self._sequence + 2
        self._newest[0] = self._sequence

    def _put(self, entry: int, number: int, records: AnyArray | None) -> int:
        """Copy one array into an entry and return how many records went in."""
        if records is None:
            return 0
        _, dtype, most = ARRAYS[number]
        if records.dtype is not dtype and records.dtype != dtype:
            raise TypeError(f"{ARRAYS[number][0]} records have dtype {records.dtype}")
        count = len(records)
        if count > most:
            self.metrics["truncated"] += count - most
            count = most
        if count:
            # Bytes, because numpy copies records with array fields one field at a time, ten times slower.
            self._arrays[entry][number][: count * dtype.itemsize] = records[:count].view(np.uint8)
        return count

    def set_names(self, names: list[str]) -> None:
        """Replace the table that `PLAYER.name` points into; names are cut to NAME_BYTES bytes of UTF-8.

        Entries beyond PLAYERS_MAX are left out and counted as truncated.
        """
        if len(names) > PLAYERS_MAX:
            self.metrics["truncated"] += len(names) - PLAYERS_MAX
        table = b"".join(_name_bytes(name) for name in names[:PLAYERS_MAX])
        self._names_version += 1
        self._head["names_version"] = self._names_version
        self._names_lock[0] = 2 * self._names_version - 1
        self._names[: len(table)] = np.frombuffer(table, np.uint8)
        self._names[len(table) :] = 0
        self._names_lock[0] = 2 * self._names_version

    def close(self) -> None:
        """Tell readers that the feed has ended, and remove it. May be called twice."""
        if self._descriptor < 0:
            return
        self._header["closed"] = 1
        if self._is_ours():
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = -1

    def _is_ours(self) -> bool:
        try:
            return self.path.stat().st_ino == os.fstat(self._descriptor).st_ino
        except OSError:
            return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _info_bytes(info: FeedInfo) -> bytes:
    content = json.dumps(asdict(info), ensure_ascii=False, allow_nan=False).encode()
    if len(content) > INFO_BYTES_MAX or len(info.stages) > STAGES_MAX:
        raise FeedError(
            f"feed: {len(info.stages)} stages (at most {STAGES_MAX}), "
            f"{len(content)} bytes of names (at most {INFO_BYTES_MAX}); use fewer or shorter names"
        )
    return content


def _name_bytes(name: str) -> bytes:
    """UTF-8, cut at a character's border, zero padded to NAME_BYTES."""
    cut = name.encode(errors="replace")[:NAME_BYTES].decode(errors="ignore")
    return cut.replace("\0", "").encode().ljust(NAME_BYTES, b"\0")


def _header(parts: tuple[bytes, ...], now_ns: int) -> AnyArray:
    """The header of a feed whose unchanging parts are info, picture and mesh."""
    header: AnyArray = np.zeros((), HEADER)
    header["magic"], header["version"], header["writer_pid"] = MAGIC, VERSION, os.getpid()
    header["started_ns"], header["entry_bytes"] = now_ns, ENTRY_BYTES
    end = _up(HEADER.itemsize)
    for part, content in zip(("info", "picture", "mesh"), parts, strict=True):
        header[f"{part}_offset"], header[f"{part}_bytes"] = end, len(content)
        end = _up(end + len(content))
    header["names_offset"] = end
    header["ring_offset"] = end + NAMES_BYTES
    return header


def create_shared(path: Path, size: int) -> tuple[int, mmap.mmap, Path]:
    """A new private, locked file of `size` bytes beside `path`, to be moved there: descriptor, memory and its name.

    Raises:
        FeedError: A living writer holds `path`, or the file cannot be made.
    """
    try:
        with path.open("rb") as existing:
            fcntl.flock(existing, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        pass
    except BlockingIOError as exc:
        raise FeedError(f"feed {path}: another server writes it; stop it or choose another name") from exc
    except OSError as exc:
        raise FeedError(f"feed {path}: {exc.strerror}; remove the file or choose another feed name") from exc
    try:
        descriptor, made = tempfile.mkstemp(dir=path.parent, prefix=path.name + ".")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Not ftruncate: a memory file system that is full must say so here, not by SIGBUS in a tick.
            os.posix_fallocate(descriptor, 0, size)
            return descriptor, mmap.mmap(descriptor, size), Path(made)
        except OSError:
            Path(made).unlink()
            os.close(descriptor)
            raise
    except OSError as exc:
        raise FeedError(f"feed {path}: {size} bytes: {exc.strerror}; free space in {path.parent}") from exc
