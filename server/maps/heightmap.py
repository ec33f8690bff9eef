"""Greyscale PNG heightmaps (16 bits, or 8) as `WorldMap`s, with an optional description beside the picture.

`NAME.toml` beside `NAME.png` may hold

    cell_m = 1.0              # distance of neighbouring samples [m]
    low_m = 0.0               # height of black [m]
    high_m = 64.0             # height of white [m]
    origin = [0.0, 0.0, 0.0]  # added to every position [m]; the map's middle is at the origin
    spawns = [[10.0, 20.0, 90.0]]   # x, y [m] and direction [degrees]; the height is the terrain's

The picture's upper edge is north (+Y). An invisible wall keeps players on the terrain.
"""

import io
import struct
import tomllib
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import MapError
from server.maps.archive import read_file
from server.maps.builder import MeshBuilder
from server.maps.floors import FloorFinder
from server.maps.limits import COORDINATE_M_MAX, HEIGHTMAP_CELLS_MAX, HEIGHTMAP_SIDE_MAX, SPAWNS_MAX
from server.maps.spawning import generate_spawns
from server.maps.units import slug, yaw_from_degrees
from sim.arrays import F64, I32
from sim.worldmap import Contents, SpawnPoint, WorldMap

__all__ = ["import_heightmap"]

SIGNATURE = b"\x89PNG\r\n\x1a\n"
FENCE_M = 50.0
SIDECAR_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class _Options:
    cell_m: float = 1.0
    low_m: float = 0.0
    high_m: float = 64.0
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spawns: tuple[tuple[float, float, float], ...] = ()


def _numbers(value: Any, path: Path, field: str) -> tuple[float, float, float]:
    good = isinstance(value, list) and len(value) == 3
    if not good or not all(isinstance(entry, int | float) and abs(entry) <= COORDINATE_M_MAX for entry in value):
        raise MapError(path, field, value, f"must be three numbers within ±{COORDINATE_M_MAX:g}")
    return float(value[0]), float(value[1]), float(value[2])


def _read_options(path: Path) -> _Options:
    """The description beside a picture, or the defaults where there is none."""
    if not path.is_file():
        return _Options()
    try:
        table = tomllib.loads(read_file(path, limit=SIDECAR_BYTES_MAX).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise MapError(path, "TOML", error, "mend the file") from error
    values: dict[str, Any] = {}
    limits = {"cell_m": (0.01, 1000.0), "low_m": (-8192.0, 8192.0), "high_m": (-8192.0, 8192.0)}
    for key, value in table.items():
        if key in limits:
            low, high = limits[key]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise MapError(path, key, value, f"must be a number {low:g} … {high:g}")
            values[key] = float(value)
        elif key == "origin":
            values[key] = _numbers(value, path, key)
        elif key == "spawns":
            if not isinstance(value, list) or len(value) > SPAWNS_MAX:
                raise MapError(path, key, value, f"must be a list of at most {SPAWNS_MAX} [x, y, degrees]")
            values[key] = tuple(_numbers(entry, path, "spawns") for entry in value)
        else:
            raise MapError(path, "key", key, "known are cell_m, low_m, high_m, origin, spawns")
    options = _Options(**values)
    if options.high_m <= options.low_m:
        raise MapError(path, "high_m", options.high_m, f"must be above low_m = {options.low_m:g}")
    return options


def _read_png(data: bytes, source: str) -> F64:
    """Samples from 0 to 1, shape (rows, columns); the size is checked before anything is unpacked."""
    from PIL import Image

    if data[:8] != SIGNATURE or data[12:16] != b"IHDR" or len(data) < 33:
        raise MapError(source, "PNG signature", data[:8], "not a PNG picture")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    if depth not in (8, 16) or colour != 0:
        raise MapError(
            source, "PNG depth and colour type", (depth, colour), "must be greyscale without alpha, 16 or 8 bits"
        )
    sides_ok = all(2 <= side <= HEIGHTMAP_SIDE_MAX for side in (width, height))
    if not sides_ok or (width - 1) * (height - 1) > HEIGHTMAP_CELLS_MAX:
        remedy = f"sides must be 2 … {HEIGHTMAP_SIDE_MAX} with at most {HEIGHTMAP_CELLS_MAX} cells; scale it down"
        raise MapError(source, "picture size", f"{width} × {height}", remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
                samples = np.asarray(image, dtype=np.float64)
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ) as error:
        raise MapError(source, "PNG data", error, "the picture is damaged; save it again") from error
    if samples.shape != (height, width):
        raise MapError(source, "PNG data", samples.shape, f"expected {(height, width)} greyscale samples")
    return samples / (65535.0 if depth == 16 else 255.0)


def _terrain(samples: F64, options: _Options) -> tuple[F64, I32]:
    """Vertices of a height field and its triangles, facing up."""
    rows, columns = samples.shape
    x = (np.arange(columns) - (columns - 1) / 2.0) * options.cell_m + options.origin[0]
    y = ((rows - 1) / 2.0 - np.arange(rows)) * options.cell_m + options.origin[1]
    z = options.low_m + samples * (options.high_m - options.low_m) + options.origin[2]
    vertices = np.column_stack([np.tile(x, rows), np.repeat(y, columns), z.ravel()])
    number = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    return vertices, np.stack([np.stack([a, d, c], -1), np.stack([a, c, b], -1)], 2).reshape(-1, 3)


def _fence(vertices: F64) -> tuple[F64, I32]:
    """Four walls around the terrain, facing inward."""
    (x0, y0, low), (x1, y1, high) = vertices.min(axis=0), vertices.max(axis=0)
    ring = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    points = np.array([(x, y, z) for z in (low, high + FENCE_M) for x, y in ring])
    walls = []
    for side in range(4):
        after = (side + 1) % 4
        walls += [(after, side, side + 4), (after, side + 4, after + 4)]
    return points, np.array(walls, dtype=np.int32)


def import_heightmap(path: Path, data: bytes) -> WorldMap:
    """The terrain in a greyscale PNG.

    Args:
        path: Where the file is; `NAME.toml` beside it is read.
        data: The file's content.

    Raises:
        MapError: The picture or its description is damaged, hostile or out of range.
    """
    options = _read_options(path.with_suffix(".toml"))
    samples = _read_png(data, str(path))
    vertices, triangles = _terrain(samples, options)
    builder = MeshBuilder(str(path))
    builder.add(vertices, triangles, np.full(len(triangles), int(Contents.SOLID), np.uint16))
    fence, walls = _fence(vertices)
    builder.add(fence, walls, np.full(len(walls), int(Contents.PLAYER_CLIP), np.uint16))
    mesh_vertices, mesh_triangles, contents, _ = builder.mesh()
    floors = FloorFinder(mesh_vertices, mesh_triangles, contents)
    spawns = []
    for x, y, degrees in options.spawns:
        top = float(vertices[:, 2].max()) + 1.0
        floor = floors.below(np.array([x, y, top]), reach=2.0 * COORDINATE_M_MAX)
        if floor is None:
            raise MapError(path.with_suffix(".toml"), "spawns", (x, y), "lies outside the terrain")
        spawns.append(SpawnPoint((x, y, floor), yaw_from_degrees(degrees)))
    spawns = spawns or generate_spawns(mesh_vertices, mesh_triangles, contents, source=str(path))
    return WorldMap(slug(path.stem), mesh_vertices, mesh_triangles, contents, tuple(spawns))
