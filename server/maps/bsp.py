"""Quake III BSP maps as `WorldMap`s: brushes, curved patches, brush models and entities.

Collision follows the engine (id Software, cm_load.c and cm_patch.c): what a brush stops is told by the contents of its
shader, never by its looks; drawn polygons are not solid, curved patches are where their shader is. Contents flags and
surface flags are those of the published surfaceflags.h.
"""

from dataclasses import dataclass

import numpy as np

from server.errors import MapError
from server.maps.brush_kernels import brush_windings
from server.maps.bsp_file import FACE_PATCH, BspFile, Records, read_bsp
from server.maps.builder import MeshBuilder
from server.maps.entities import brush_entities, parse_entities, place_entities
from server.maps.motions import motions
from server.maps.movers import rest_offset, travel
from server.maps.patches import tessellate
from server.maps.units import METRES_PER_UNIT, metres, slug
from sim.arrays import F64, I32, I64, U16
from sim.worldmap import Contents, WorldMap

__all__ = ["import_bsp"]

CONTENTS_SOLID = 0x1
CONTENTS_LAVA = 0x8
CONTENTS_SLIME = 0x10
CONTENTS_WATER = 0x20
CONTENTS_PLAYERCLIP = 0x10000
SURFACE_SLICK = 0x2
SURFACE_SKY = 0x4

BLOCKING = int(Contents.SOLID | Contents.PLAYER_CLIP)


@dataclass(frozen=True, slots=True)
class _Part:
    """Triangles of one BSP model [source units]."""

    vertices: F64
    triangles: I32
    contents: U16


def shader_contents(shaders: Records) -> U16:
    """`Contents` bits of each shader, 0 where it stops nothing (fog, hints, triggers, areas)."""
    flags = shaders["contents"]
    bits = np.zeros(len(shaders), dtype=np.uint16)
    for source, target in (
        (CONTENTS_SOLID, Contents.SOLID),
        (CONTENTS_PLAYERCLIP, Contents.PLAYER_CLIP),
        (CONTENTS_WATER, Contents.WATER),
        (CONTENTS_LAVA, Contents.LAVA),
        (CONTENTS_SLIME, Contents.SLIME),
    ):
        bits |= np.where(flags & source != 0, np.uint16(target), np.uint16(0))
    return bits


def _surface_bits(shaders: Records) -> U16:
    """`Contents` bits that a side's own shader adds to those of its brush."""
    flags = shaders["surface"]
    bits = np.zeros(len(shaders), dtype=np.uint16)
    for source, target in ((SURFACE_SKY, Contents.SKY), (SURFACE_SLICK, Contents.SLICK)):
        bits |= np.where(flags & source != 0, np.uint16(target), np.uint16(0))
    return bits


def _fans(point_count: I64) -> tuple[I32, I64]:
    """Triangle fans over consecutive polygons: point indices, shape (n, 3), and the polygon each belongs to."""
    fan_count = np.maximum(point_count - 2, 0)
    polygon = np.repeat(np.arange(len(point_count)), fan_count)
    start = np.repeat(np.cumsum(point_count) - point_count, fan_count)
    step = np.arange(len(polygon)) - np.repeat(np.cumsum(fan_count) - fan_count, fan_count)
    return np.stack([start, start + step + 1, start + step + 2], axis=1).astype(np.int32), polygon


def _brush_part(bsp: BspFile, first: int, count: int) -> _Part:
    """The faces of `count` brushes from `first`, those that stop or hold something."""
    brushes = bsp.brushes[first : first + count]
    meaning = shader_contents(bsp.shaders)[brushes["shader"]]
    brushes, meaning = brushes[meaning != 0], meaning[meaning != 0]
    side_count = brushes["side_count"].astype(np.int64)
    planes = np.column_stack([bsp.planes["normal"].astype(np.float64), bsp.planes["distance"].astype(np.float64)])
    planes /= np.linalg.norm(planes[:, :3], axis=1, keepdims=True)
    side = np.repeat(brushes["side_first"] - np.cumsum(side_count) + side_count, side_count) + np.arange(
        side_count.sum()
    )
    points = np.empty((max(1, 6 * len(side)), 3))
    point_count = np.zeros(len(side), dtype=np.int64)
    total = brush_windings(
        planes,
        bsp.sides["plane"][side].astype(np.int64),
        np.cumsum(side_count) - side_count,
        side_count,
        np.empty((2, int(side_count.max(initial=0)) + 8, 3)),
        points,
        point_count,
    )
    if total < 0:
        raise MapError(bsp.source, "brush sides", len(side), "a brush is not convex; the file is damaged")
    triangles, polygon = _fans(point_count)
    contents = np.repeat(meaning, side_count) | _surface_bits(bsp.shaders)[bsp.sides["shader"][side]]
    return _Part(points[:total], triangles, contents[polygon])


def _patch_part(bsp: BspFile, first: int, count: int, vertices_max: int) -> _Part:
    """The curved patches among `count` faces from `first` whose shader stops something."""
    meaning = shader_contents(bsp.shaders) & np.uint16(BLOCKING)
    extra = _surface_bits(bsp.shaders)
    vertices, triangles, contents = [np.empty((0, 3))], [np.empty((0, 3), np.int32)], [np.empty(0, np.uint16)]
    total = 0
    for number in range(first, first + count):
        face = bsp.faces[number]
        if face["type"] != FACE_PATCH or not meaning[face["shader"]]:
            continue
        start, height, width = int(face["vertex_first"]), int(face["height"]), int(face["width"])
        corners = bsp.vertices[start : start + width * height]
        control = corners["position"].astype(np.float64).reshape(height, width, 3)
        try:
            points, index = tessellate(control, vertices_max=vertices_max - total)
        except ValueError as error:
            raise MapError(bsp.source, f"patch of face {number}", error, "too finely curved; damaged file") from error
        if _faces_back(points, index, corners["normal"]):
            index = np.ascontiguousarray(index[:, ::-1])
        vertices.append(points)
        triangles.append(index + np.int32(total))
        contents.append(np.full(len(index), meaning[face["shader"]] | extra[face["shader"]], dtype=np.uint16))
        total += len(points)
    return _Part(np.concatenate(vertices), np.concatenate(triangles), np.concatenate(contents))


def _faces_back(points: F64, index: I32, normals: Records) -> bool:
    """Whether triangles face away from the stored vertex normals, taken over the whole patch."""
    corner = points[index]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).sum(axis=0)
    with np.errstate(all="ignore"):
        return bool(area @ normals.astype(np.float64).sum(axis=0) < 0.0)


def _add_model(builder: MeshBuilder, bsp: BspFile, number: int, offset: F64, extra: int, kept: int) -> None:
    """Add the brushes and patches of one BSP model, moved by `offset` [units]; only those with a bit of `kept`."""
    model = bsp.models[number]
    for part in (
        _brush_part(bsp, int(model["brush_first"]), int(model["brush_count"])),
        _patch_part(bsp, int(model["face_first"]), int(model["face_count"]), builder.vertices_left),
    ):
        keep = (part.contents & kept) != 0
        builder.add(metres(part.vertices + offset), part.triangles[keep], part.contents[keep] | np.uint16(extra))


def _add_movers(builder: MeshBuilder, bsp: BspFile, entities: list[dict[str, str]]) -> None:
    """Add all solid brush models in their resting places, and how they move."""
    models, runs = [], []
    for entity, number, origin in brush_entities(entities, bsp, solid=True):
        first = builder.triangle_count
        low, high = bsp.models["low"][number].astype(np.float64), bsp.models["high"][number].astype(np.float64)
        offset = origin + rest_offset(entity, entities, low, high)
        _add_model(builder, bsp, number, offset, int(Contents.MOVER), BLOCKING)
        way = travel(entity, low, high)
        moved = way * METRES_PER_UNIT + 0.0  # no negative zeros
        properties = dict(entity)
        if moved.any():
            properties["travel"] = " ".join(f"{value:.6g}" for value in moved)
        models.append((entity, low + offset, high + offset, way))
        runs.append((entity["classname"], first, builder.triangle_count - first, properties))
    touched = [
        (entity, bsp.models["low"][number] + origin, bsp.models["high"][number] + origin)
        for entity, number, origin in brush_entities(entities, bsp, solid=False)
    ]
    for run, motion in zip(runs, motions(models, touched, entities), strict=True):
        builder.mark_mover(*run, motion)


def import_bsp(data: bytes, *, name: str, source: str) -> WorldMap:
    """The map in a Quake III BSP file, scaled to metres.

    Args:
        data: The whole file.
        name: Short name of the map.
        source: What to call the file in messages.

    Raises:
        MapError: The file is damaged, hostile or holds no solid surface.
    """
    bsp = read_bsp(data, source)
    entities = parse_entities(bsp.entities, source)
    builder = MeshBuilder(source)
    _add_model(builder, bsp, 0, np.zeros(3), 0, 0xFFFF)
    _add_movers(builder, bsp, entities)
    vertices, triangles, contents, movers = builder.mesh()
    spawns, items, triggers = place_entities(entities, bsp, vertices, triangles, contents)
    return WorldMap(
        name=slug(name),
        vertices=vertices,
        triangles=triangles,
        contents=contents,
        spawns=spawns,
        items=items,
        triggers=triggers,
        movers=movers,
        entities=tuple(entities),
    )
