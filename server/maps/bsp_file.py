"""The Quake III BSP file (IBSP version 46) as checked arrays: nothing in here trusts a number of the file.

Layout (little endian), after id Software's published qfiles.h:

    header   char[4] "IBSP", i32 46, then 17 × (i32 offset, i32 length)
    lump 0   entities      text: { "key" "value" … } …
    lump 1   shaders       72 bytes: char[64] name, i32 surface flags, i32 contents
    lump 2   planes        16 bytes: f32[3] unit normal, f32 distance
    lump 7   models        40 bytes: f32[3] low, f32[3] high, i32 first face, faces, first brush, brushes
    lump 8   brushes       12 bytes: i32 first side, sides, shader
    lump 9   brush sides    8 bytes: i32 plane, shader
    lump 10  vertices      44 bytes: f32[3] position, f32[4] texture, f32[3] normal, u8[4] colour
    lump 11  mesh indices   4 bytes: i32, relative to the face's first vertex
    lump 13  faces        104 bytes: i32 shader, effect, type, first vertex, vertices, first index, indices, …
                                     f32[3] normal at 84, i32[2] patch width and height at 96

Model 0 is the world; brush models 1… belong to the entities whose `model` is `*1`, `*2`, … The other lumps
(tree, light, visibility) are for rendering and are not read.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from server.errors import MapError
from server.maps.limits import (
    BRUSH_SIDES_MAX,
    BRUSHES_MAX,
    COORDINATE_M_MAX,
    ENTITY_BYTES_MAX,
    FACES_MAX,
    MOVERS_MAX,
    PATCH_SIDE_MAX,
    VERTICES_MAX,
)
from server.maps.units import METRES_PER_UNIT

__all__ = [
    "FACE_MESH",
    "FACE_PATCH",
    "FACE_POLYGON",
    "LUMP_COUNT",
    "BspFile",
    "read_bsp",
]

MAGIC = b"IBSP"
VERSION = 46
LUMP_COUNT = 17
HEADER_BYTES = 8 + 8 * LUMP_COUNT
FACE_POLYGON, FACE_PATCH, FACE_MESH, FACE_FLARE = 1, 2, 3, 4
COORDINATE_MAX = COORDINATE_M_MAX / METRES_PER_UNIT

SHADER = np.dtype([("name", "S64"), ("surface", "<i4"), ("contents", "<i4")])
PLANE = np.dtype([("normal", "<f4", 3), ("distance", "<f4")])
MODEL = np.dtype(
    [
        ("low", "<f4", 3),
        ("high", "<f4", 3),
        ("face_first", "<i4"),
        ("face_count", "<i4"),
        ("brush_first", "<i4"),
        ("brush_count", "<i4"),
    ]
)
BRUSH = np.dtype([("side_first", "<i4"), ("side_count", "<i4"), ("shader", "<i4")])
SIDE = np.dtype([("plane", "<i4"), ("shader", "<i4")])
VERTEX = np.dtype([("position", "<f4", 3), ("texture", "<f4", 4), ("normal", "<f4", 3), ("colour", "u1", 4)])
INDEX = np.dtype("<i4")
FACE = np.dtype(
    {
        "names": [
            "shader",
            "type",
            "vertex_first",
            "vertex_count",
            "index_first",
            "index_count",
            "normal",
            "width",
            "height",
        ],
        "formats": ["<i4", "<i4", "<i4", "<i4", "<i4", "<i4", ("<f4", 3), "<i4", "<i4"],
        "offsets": [0, 8, 12, 16, 20, 24, 84, 96, 100],
        "itemsize": 104,
    }
)

Records = NDArray[Any]

LUMPS: dict[str, tuple[int, np.dtype[Any], int]] = {  # name: number, record, most records
    "shaders": (1, SHADER, 65_536),
    "planes": (2, PLANE, 2 * BRUSHES_MAX * 8),
    "models": (7, MODEL, MOVERS_MAX + 1),
    "brushes": (8, BRUSH, BRUSHES_MAX),
    "sides": (9, SIDE, BRUSHES_MAX * 16),
    "vertices": (10, VERTEX, VERTICES_MAX),
    "indices": (11, INDEX, VERTICES_MAX * 3),
    "faces": (13, FACE, FACES_MAX),
}


@dataclass(frozen=True, slots=True)
class BspFile:
    """The lumps of one map that the importer reads; every index in them is in range and every float finite."""

    source: str
    entities: str
    shaders: Records
    planes: Records
    models: Records
    brushes: Records
    sides: Records
    vertices: Records
    indices: Records
    faces: Records


def _lump_bytes(data: bytes, source: str, number: int, name: str) -> bytes:
    offset, length = struct.unpack_from("<ii", data, 8 + 8 * number)
    if length == 0:
        return b""
    if offset < HEADER_BYTES or length < 0 or offset + length > len(data):
        place = f"offset {offset} length {length} in {len(data)} bytes"
        raise MapError(source, f"lump {number} ({name})", place, "outside the file; it is truncated or damaged")
    return data[offset : offset + length]


def _records(data: bytes, source: str, name: str) -> Records:
    number, dtype, limit = LUMPS[name]
    lump = _lump_bytes(data, source, number, name)
    field = f"lump {number} ({name})"
    if len(lump) % dtype.itemsize:
        raise MapError(source, f"{field} length", len(lump), f"not a multiple of {dtype.itemsize}; the file is damaged")
    if len(lump) // dtype.itemsize > limit:
        raise MapError(source, f"{field} records", len(lump) // dtype.itemsize, f"at most {limit} are allowed")
    return np.frombuffer(lump, dtype)


def _check_index(source: str, field: str, column: Records, size: int) -> None:
    """Every entry lies in 0 … size − 1."""
    bad = np.flatnonzero((column < 0) | (column >= size))
    if bad.size:
        raise MapError(source, f"{field} of record {bad[0]}", int(column[bad[0]]), f"must be 0 … {size - 1}")


def _check_range(source: str, field: str, first: Records, count: Records, size: int) -> None:
    """Every run of `count` records from `first` lies in a table of `size` records."""
    start, length = first.astype(np.int64), count.astype(np.int64)
    bad = np.flatnonzero((length < 0) | ((length > 0) & ((start < 0) | (start + length > size))))
    if bad.size:
        value = f"{int(start[bad[0]])} + {int(length[bad[0]])}"
        raise MapError(source, f"{field} of record {bad[0]}", value, f"runs past the table of {size} records")


def _check_coordinates(source: str, field: str, values: Records) -> None:
    """Every row of `values`, shape (n, k), is finite and within the largest world."""
    with np.errstate(invalid="ignore"):
        bad = np.flatnonzero(~(np.abs(values) <= COORDINATE_MAX).all(axis=1))
    if bad.size:
        value = values[bad[0]].tolist()
        raise MapError(source, f"{field} of record {bad[0]}", value, f"must be finite and below {COORDINATE_MAX:g}")


def _check_planes(source: str, planes: Records) -> None:
    _check_coordinates(source, "plane distance", planes["distance"].reshape(-1, 1))
    with np.errstate(all="ignore"):
        length = np.sqrt((planes["normal"].astype(np.float64) ** 2).sum(axis=1))
        bad = np.flatnonzero(~(np.abs(length - 1.0) < 0.01))
    if bad.size:
        raise MapError(
            source, f"plane normal {bad[0]}", planes["normal"][bad[0]].tolist(), "must be a unit vector; damaged file"
        )


def _check_brushes(bsp: BspFile) -> None:
    source = bsp.source
    _check_range(source, "brush sides", bsp.brushes["side_first"], bsp.brushes["side_count"], len(bsp.sides))
    _check_index(source, "brush shader", bsp.brushes["shader"], len(bsp.shaders))
    most = int(bsp.brushes["side_count"].max(initial=0))
    if most > BRUSH_SIDES_MAX:
        raise MapError(source, "brush side count", most, f"at most {BRUSH_SIDES_MAX} are allowed")
    total = int(bsp.brushes["side_count"].sum(dtype=np.int64))
    if total > 2 * len(bsp.sides) + 16:
        raise MapError(source, "brush sides in all", total, f"brushes share the {len(bsp.sides)} sides; damaged file")
    _check_index(source, "side plane", bsp.sides["plane"], len(bsp.planes))
    _check_index(source, "side shader", bsp.sides["shader"], len(bsp.shaders))


def _check_faces(bsp: BspFile) -> None:
    source, faces = bsp.source, bsp.faces
    _check_index(source, "face shader", faces["shader"], len(bsp.shaders))
    _check_range(source, "face vertices", faces["vertex_first"], faces["vertex_count"], len(bsp.vertices))
    _check_range(source, "face indices", faces["index_first"], faces["index_count"], len(bsp.indices))
    for number in np.flatnonzero(faces["type"] == FACE_PATCH):
        width, height = int(faces["width"][number]), int(faces["height"][number])
        sizes_ok = all(3 <= size <= PATCH_SIDE_MAX and size % 2 == 1 for size in (width, height))
        if not sizes_ok or width * height != faces["vertex_count"][number]:
            raise MapError(
                source,
                f"patch size of face {number}",
                f"{width} × {height} with {int(faces['vertex_count'][number])} vertices",
                f"both must be odd, 3 … {PATCH_SIDE_MAX}, and multiply to the vertices",
            )


def _check_models(bsp: BspFile) -> None:
    source, models = bsp.source, bsp.models
    if not len(models):
        raise MapError(source, "lump 7 (models) records", 0, "a map needs the world model; the file is damaged")
    _check_range(source, "model faces", models["face_first"], models["face_count"], len(bsp.faces))
    _check_range(source, "model brushes", models["brush_first"], models["brush_count"], len(bsp.brushes))
    for table, column in (("faces", "face_count"), ("brushes", "brush_count")):
        total = int(models[column].sum(dtype=np.int64))
        size = len(getattr(bsp, table))
        if total > size:
            raise MapError(source, f"{table} of all models", total, f"models share the {size} records; damaged file")
    _check_coordinates(source, "model bounds", np.hstack([models["low"], models["high"]]))


def read_bsp(data: bytes, source: str) -> BspFile:
    """The lumps of a Quake III map, with every count, index and float checked.

    Args:
        data: The whole file.
        source: What to call it in messages.

    Raises:
        MapError: Not an IBSP 46 file, or anything in it is out of range.
    """
    if data[:4] != MAGIC:
        raise MapError(source, "magic", data[:4], "not a Quake III map, which starts with b'IBSP'")
    if len(data) < HEADER_BYTES:
        raise MapError(source, "file size", len(data), f"shorter than the header of {HEADER_BYTES} bytes; truncated")
    (version,) = struct.unpack_from("<i", data, 4)
    if version != VERSION:
        raise MapError(source, "version", version, f"only IBSP version {VERSION} (Quake III) is read")
    text = _lump_bytes(data, source, 0, "entities")
    if len(text) > ENTITY_BYTES_MAX:
        raise MapError(source, "lump 0 (entities) length", len(text), f"at most {ENTITY_BYTES_MAX} bytes are allowed")
    tables = {name: _records(data, source, name) for name in LUMPS}
    bsp = BspFile(source, text.split(b"\0", 1)[0].decode("latin-1"), **tables)
    _check_planes(source, bsp.planes)
    _check_coordinates(source, "vertex position", bsp.vertices["position"])
    _check_brushes(bsp)
    _check_faces(bsp)
    _check_models(bsp)
    return bsp
