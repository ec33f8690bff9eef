"""Maps and their hierarchies on the disk: the .npz map file, and the geometry that is built once and kept.

A map file is an .npz archive of

    vertices   f8 (n, 3)   positions [m]
    triangles  i4 (m, 3)   vertex indices
    contents   u2 (m,)     `Contents` bits
    meta       u1 (k,)     UTF-8 JSON: format, name, spawns, items, triggers, movers, entities

A geometry file holds `Geometry.to_arrays()`, plus the digest of the code that built it; so does a
navigation file (`server.maps.walkways`).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import MapError
from server.maps.arrayfile import read_arrays, write_arrays
from server.maps.limits import (
    COORDINATE_M_MAX,
    ENTITIES_MAX,
    ITEMS_MAX,
    MOVERS_MAX,
    SPAWNS_MAX,
    TRIGGERS_MAX,
    VERTICES_MAX,
)
from server.maps.units import slug
from sim.arrays import AnyArray
from sim.geometry import Geometry, GeometryError
from sim.jit import cache_root, source_digest
from sim.worldmap import (
    TRIANGLES_MAX,
    ItemPoint,
    Mover,
    MoverKind,
    MoverMotion,
    SpawnPoint,
    Trigger,
    TriggerKind,
    WorldMap,
)

__all__ = [
    "ARRAYS_BYTES_MAX",
    "cache_places",
    "keep_arrays",
    "load_geometry",
    "map_cache",
    "prune_cache",
    "read_map",
    "write_map",
]

FORMAT = 1
META_BYTES_MAX = 32 << 20
MAP_BYTES_MAX = VERTICES_MAX * 24 + TRIANGLES_MAX * 14 + META_BYTES_MAX
ARRAYS_BYTES_MAX = 4 << 30  # a geometry of TRIANGLES_MAX triangles, with its nodes
NUMBER_MAX = 1e7
TOUCH_MAX, PATH_MAX = 64, 1024  # boxes and points of one mover
CACHE_FILES_MAX = 256  # the oldest go first


def map_cache() -> Path:
    """The directory for imported maps and geometries that cannot be kept beside their source; it need not exist."""
    return cache_root().parent / "maps"


def write_map(path: Path, world: WorldMap) -> None:
    """Save a map as one file, atomically.

    Raises:
        MapError: The file cannot be written.
    """
    meta = {
        "format": FORMAT,
        "name": world.name,
        "spawns": [asdict(spawn) for spawn in world.spawns],
        "items": [asdict(item) for item in world.items],
        "triggers": [asdict(trigger) for trigger in world.triggers],
        "movers": [asdict(mover) for mover in world.movers],
        "entities": list(world.entities),
    }
    text = np.frombuffer(json.dumps(meta, ensure_ascii=False).encode(), np.uint8)
    arrays: dict[str, AnyArray] = {
        "vertices": world.vertices,
        "triangles": world.triangles,
        "contents": world.contents,
        "meta": text,
    }
    try:
        write_arrays(path, arrays, compress=True)
    except OSError as error:
        raise MapError(path, "output", error.strerror or error, "check the directory and its permissions") from error


def _point(value: Any) -> tuple[float, float, float]:
    """Three finite coordinates; ValueError otherwise."""
    x, y, z = (float(entry) for entry in value)
    if not all(abs(entry) <= COORDINATE_M_MAX for entry in (x, y, z)):
        raise ValueError(f"position {value} is out of range")
    return x, y, z


def _angle(value: Any) -> int:
    if not 0 <= int(value) < 65536:
        raise ValueError(f"yaw {value} is not 0 … 65535")
    return int(value)


def _limited(meta: dict[str, Any], key: str, limit: int) -> list[Any]:
    entries = meta[key]
    if not isinstance(entries, list) or len(entries) > limit:
        raise ValueError(f"{key} is not a list of at most {limit}")
    return entries


def _strings(value: Any) -> dict[str, str]:
    return {str(key): str(entry) for key, entry in dict(value).items()}


def _finite(value: Any) -> float:
    """A finite number; ValueError otherwise."""
    number = float(value)
    if not abs(number) <= NUMBER_MAX:
        raise ValueError(f"{value} is out of range")
    return number


def _motion(entry: Any) -> MoverMotion | None:
    """How a mover moves; ValueError, TypeError or KeyError where that is malformed."""
    if entry is None:
        return None
    touch = [tuple(_finite(number) for number in box) for box in _limited(entry, "touch", TOUCH_MAX)]
    path = [tuple(_finite(number) for number in point) for point in _limited(entry, "path", PATH_MAX)]
    motion = MoverMotion(
        MoverKind(entry["kind"]), _point(entry["travel"]), _finite(entry["seconds"]), _finite(entry["wait_s"]),
        _finite(entry["phase"]), _finite(entry["damage"]), bool(entry["crushes"]), bool(entry["holds"]),
        int(entry["group"]), tuple((a, b, c, d, e, f) for a, b, c, d, e, f in touch),
        tuple((a, b, c, d, e) for a, b, c, d, e in path),
    )  # fmt: skip
    if not motion.seconds > 0.0 or (motion.kind is MoverKind.PATH) != bool(path):
        raise ValueError(f"a mover takes {motion.seconds} s and has {len(path)} points on its path")
    return motion


def _from_meta(meta: dict[str, Any], triangle_count: int) -> dict[str, Any]:
    """The parts of a map that are not arrays; KeyError, TypeError or ValueError where they are malformed."""
    if meta["format"] != FORMAT:
        raise ValueError(f"format {meta['format']}, this version reads {FORMAT}")
    spawns = tuple(
        SpawnPoint(_point(entry["position"]), _angle(entry["yaw"]), int(entry["team"]))
        for entry in _limited(meta, "spawns", SPAWNS_MAX)
    )
    items = tuple(
        ItemPoint(str(entry["kind"]), _point(entry["position"]), int(entry["amount"]))
        for entry in _limited(meta, "items", ITEMS_MAX)
    )
    triggers = tuple(
        Trigger(
            TriggerKind(entry["kind"]),
            _point(entry["low"]),
            _point(entry["high"]),
            _point(entry["vector"]),
            _angle(entry["yaw"]),
            float(entry["amount"]),
        )
        for entry in _limited(meta, "triggers", TRIGGERS_MAX)
    )
    movers = tuple(
        Mover(
            str(entry["classname"]),
            int(entry["triangle_first"]),
            int(entry["triangle_count"]),
            _strings(entry["properties"]),
            _motion(entry.get("motion")),
        )
        for entry in _limited(meta, "movers", MOVERS_MAX)
    )
    if any(not 0 <= mover.triangle_first <= triangle_count - mover.triangle_count for mover in movers):
        raise ValueError("a mover's triangles are out of range")
    if not spawns:
        raise ValueError("no spawn point")
    entities = tuple(_strings(entry) for entry in _limited(meta, "entities", ENTITIES_MAX))
    name = slug(str(meta["name"]))
    return {
        "name": name, "spawns": spawns, "items": items, "triggers": triggers, "movers": movers, "entities": entities,
    }  # fmt: skip


def read_map(path: Path) -> WorldMap:
    """The map that `write_map` saved.

    Raises:
        MapError: The file is missing, damaged, of another format or out of range.
    """
    arrays = read_arrays(path, ("vertices", "triangles", "contents", "meta"), bytes_max=MAP_BYTES_MAX)
    vertices, triangles, contents = arrays["vertices"], arrays["triangles"], arrays["contents"]
    shapes = (vertices.dtype.str, vertices.shape[1:], triangles.dtype.str, triangles.shape[1:], contents.dtype.str)
    if shapes != ("<f8", (3,), "<i4", (3,), "<u2") or contents.shape != triangles.shape[:1] or not len(triangles):
        raise MapError(path, "arrays", shapes, "not a map file of this version; import the map again")
    if len(triangles) > TRIANGLES_MAX or len(vertices) > VERTICES_MAX:
        raise MapError(path, "triangles", len(triangles), f"at most {TRIANGLES_MAX} are allowed")
    if int(triangles.min()) < 0 or int(triangles.max()) >= len(vertices):
        raise MapError(path, "triangles", "index out of range", "the file is damaged; import the map again")
    with np.errstate(invalid="ignore"):
        if not (np.abs(vertices) <= COORDINATE_M_MAX).all():
            raise MapError(path, "vertices", "not finite", f"must be within {COORDINATE_M_MAX:g} m of the origin")
    try:
        meta = json.loads(arrays["meta"].tobytes())
        parts = _from_meta(meta, len(triangles))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MapError(path, "meta", error, "the file is damaged; import the map again") from error
    return WorldMap(vertices=vertices, triangles=triangles, contents=contents, **parts)


def prune_cache(directory: Path) -> None:
    """Bounds the cache: the files least recently written go first."""
    files = sorted(directory.glob("*.npz"), key=lambda path: path.stat().st_mtime)
    for path in files[: max(0, len(files) - CACHE_FILES_MAX)]:
        path.unlink(missing_ok=True)


def cache_places(world: WorldMap, beside: Path | None, what: str) -> list[Path]:
    """Where a geometry or navigation may be kept, best first."""
    places = [beside.with_name(f"{beside.name}.{what}.npz")] if beside is not None else []
    return [*places, map_cache() / f"{world.name}-{world.content_hash()[:16]}.{what}.npz"]


def _read_geometry(path: Path, world: WorldMap, code: bytes) -> Geometry | None:
    """A saved geometry, or None where it is missing, of another map or code, or damaged: it is then built again."""
    try:
        saved = read_arrays(path, None, bytes_max=ARRAYS_BYTES_MAX)
        if "code" not in saved or saved.pop("code").tobytes() != code:
            return None
        return Geometry.from_arrays(saved, map_hash=world.content_hash())
    except (MapError, GeometryError):
        return None


def load_geometry(world: WorldMap, *, beside: Path | None = None, cache: bool = True) -> Geometry:
    """The hierarchy over a map, built at most once per map and code version.

    Args:
        world: The map.
        beside: The map's own file: the geometry is kept next to it, or in the cache directory where that
            cannot be written to.
        cache: Whether to read and write saved geometries at all.

    Raises:
        MapError: The map cannot be made into a geometry.
    """
    code = source_digest("sim.geometry").encode()
    places = cache_places(world, beside, "geometry") if cache else []
    for path in places:
        geometry = _read_geometry(path, world, code)
        if geometry is not None:
            return geometry
    try:
        geometry = Geometry.build(world)
    except GeometryError as error:
        raise MapError(world.name, "geometry", error, "mend the map and import it again") from error
    keep_arrays(geometry.to_arrays(), code, places)
    return geometry


def keep_arrays(saved: dict[str, AnyArray], code: bytes, places: list[Path]) -> None:
    """Save arrays in the first place that can be written to."""
    arrays = {**saved, "code": np.frombuffer(code, np.uint8)}
    for path in places:
        try:
            if path.parent == map_cache():
                path.parent.mkdir(parents=True, exist_ok=True)
                prune_cache(path.parent)
            write_arrays(path, arrays, compress=False)
        except OSError:
            continue  # the next place; a read-only disk only costs building again at the next start
        break
