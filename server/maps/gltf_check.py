"""Checks a glTF file's JSON before trimesh reads it, and finds the spawn points in its scene.

After the Khronos glTF 2.0 specification: nodes form strict trees (5.10), buffers are `data:` URIs, the GLB's own chunk
or files relative to the document (3.6.1). Stricter than the specification where a file could ask for memory it does
not bring: every accessor needs a buffer view, and buffers must lie in the document's own directory.
"""

import json
import math
import struct
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from server.errors import MapError
from server.maps.archive import read_file
from server.maps.limits import FILE_BYTES_MAX, NODES_MAX, VERTICES_MAX
from sim.arrays import F64

__all__ = ["SpawnNode", "read_gltf_header", "side_files", "spawn_nodes"]

JSON_BYTES_MAX = 64 << 20
NODE_DEPTH_MAX = 128
GLB_JSON = 0x4E4F534A

Document = dict[str, Any]
SpawnNode = tuple[str, F64]


def _glb_json(data: bytes, source: str) -> bytes:
    """The JSON chunk of a GLB container; every chunk must lie in the file."""
    if len(data) < 20:
        raise MapError(source, "file size", len(data), "shorter than a GLB header; the file is truncated")
    magic, version, length = struct.unpack_from("<4sII", data)
    if magic != b"glTF" or version != 2:
        raise MapError(source, "GLB magic and version", (magic, version), "only binary glTF 2.0 is read")
    if not 20 <= length <= len(data):
        raise MapError(source, "GLB length", length, f"the file has {len(data)} bytes; it is truncated")
    place = 12
    first: bytes | None = None
    while place < length:
        if place + 8 > length:
            raise MapError(source, "GLB chunk header", place, "the file is truncated")
        size, kind = struct.unpack_from("<II", data, place)
        if place + 8 + size > length:
            raise MapError(source, f"GLB chunk length at {place}", size, f"runs past {length} bytes; truncated file")
        if first is None:
            if kind != GLB_JSON:
                raise MapError(source, "first GLB chunk", hex(kind), "must be JSON")
            first = data[place + 8 : place + 8 + size]
        place += 8 + size
    return first or b""


def _list(document: Document, key: str, source: str) -> list[Document]:
    entries = document.get(key, [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MapError(source, key, type(entries).__name__, "must be a list of objects")
    return entries


def _index(value: object, size: int, source: str, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < size:
        raise MapError(source, field, value, f"must be an index 0 … {size - 1}")
    return value


def _check_accessors(document: Document, source: str) -> None:
    accessors, views = _list(document, "accessors", source), _list(document, "bufferViews", source)
    buffers = _list(document, "buffers", source)
    for number, view in enumerate(views):
        buffer = buffers[_index(view.get("buffer"), len(buffers), source, f"bufferViews[{number}].buffer")]
        offset, length = view.get("byteOffset", 0), view.get("byteLength", 0)
        size = buffer.get("byteLength", 0)
        numbers_ok = all(isinstance(value, int) and 0 <= value <= FILE_BYTES_MAX for value in (offset, length, size))
        if not numbers_ok or offset + length > size:
            raise MapError(source, f"bufferViews[{number}]", f"{offset} + {length} of {size}", "runs past its buffer")
    for number, accessor in enumerate(accessors):
        _index(accessor.get("bufferView"), len(views), source, f"accessors[{number}].bufferView")
        count = accessor.get("count")
        if not isinstance(count, int) or not 0 <= count <= 3 * VERTICES_MAX:
            raise MapError(source, f"accessors[{number}].count", count, f"must be 0 … {3 * VERTICES_MAX}")
        if "sparse" in accessor:
            raise MapError(source, f"accessors[{number}].sparse", "present", "sparse accessors are not read; bake them")


def _check_meshes(document: Document, source: str) -> None:
    accessors = _list(document, "accessors", source)
    total = 0
    for number, mesh in enumerate(_list(document, "meshes", source)):
        for primitive in _list(mesh, "primitives", source):
            attributes = primitive.get("attributes", {})
            if not isinstance(attributes, dict):
                raise MapError(source, f"meshes[{number}].attributes", attributes, "must be an object")
            for key in [*attributes.values(), *([primitive["indices"]] if "indices" in primitive else [])]:
                total += accessors[_index(key, len(accessors), source, f"meshes[{number}] accessor")]["count"]
    if total > 24 * VERTICES_MAX:
        raise MapError(source, "accessor entries of all meshes", total, f"at most {24 * VERTICES_MAX} are allowed")


def _check_nodes(document: Document, source: str) -> None:
    """Nodes are strict trees of bounded depth."""
    nodes, meshes = _list(document, "nodes", source), _list(document, "meshes", source)
    if len(nodes) > NODES_MAX:
        raise MapError(source, "nodes", len(nodes), f"at most {NODES_MAX} are allowed")
    parent = [-1] * len(nodes)
    for number, node in enumerate(nodes):
        if "mesh" in node:
            _index(node["mesh"], len(meshes), source, f"nodes[{number}].mesh")
        children = node.get("children", [])
        for child in children if isinstance(children, list) else [children]:
            index = _index(child, len(nodes), source, f"nodes[{number}].children")
            if parent[index] >= 0:
                raise MapError(source, f"parents of nodes[{index}]", "more than one", "nodes must form trees")
            parent[index] = number
    for number in range(len(nodes)):
        depth, above = 0, parent[number]
        while above >= 0:
            depth, above = depth + 1, parent[above]
            if depth > NODE_DEPTH_MAX:
                raise MapError(source, f"depth of nodes[{number}]", "too deep or a cycle", f"at most {NODE_DEPTH_MAX}")


def read_gltf_header(data: bytes, source: str, *, binary: bool) -> Document:
    """The JSON document of a glTF or GLB file, with every count and index that costs memory checked.

    Raises:
        MapError: Not glTF 2.0, or out of range.
    """
    text = _glb_json(data, source) if binary else data
    if len(text) > JSON_BYTES_MAX:
        raise MapError(source, "JSON size", len(text), f"at most {JSON_BYTES_MAX} bytes are read")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MapError(source, "JSON", error, "the file is damaged; export it again") from error
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise MapError(source, "asset", "missing", "not a glTF document")
    if not str(document["asset"].get("version", "")).startswith("2."):
        raise MapError(source, "asset.version", document["asset"].get("version"), "only glTF 2.0 is read")
    _check_accessors(document, source)
    _check_meshes(document, source)
    _check_nodes(document, source)
    return document


def side_files(document: Document, path: Path) -> dict[str, bytes]:
    """The external buffers of a document, by URI, read from its own directory or below.

    Raises:
        MapError: A URI leads elsewhere, or a file is missing or too large.
    """
    home = path.parent.resolve()
    files: dict[str, bytes] = {}
    left = FILE_BYTES_MAX
    for number, buffer in enumerate(_list(document, "buffers", str(path))):
        uri = buffer.get("uri")
        if uri is None or str(uri).startswith("data:"):
            continue
        field = f"buffers[{number}].uri"
        name = urllib.parse.unquote(str(uri))
        if not name or "\0" in name or "://" in name or Path(name).is_absolute():
            raise MapError(path, field, uri, "only files next to the document are read")
        file = (home / name).resolve()
        if not file.is_relative_to(home):
            raise MapError(path, field, uri, "leads out of the document's directory")
        files[str(uri)] = files[name] = read_file(file, limit=left)
        left -= len(files[name])
    return files


def _local(node: Document, source: str) -> F64:
    """A node's own transform, shape (4, 4)."""
    try:
        if "matrix" in node:
            matrix = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
        else:
            x, y, z, w = (float(value) for value in node.get("rotation", (0.0, 0.0, 0.0, 1.0)))
            turn = np.array(
                [
                    [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                    [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                    [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
                ]
            )
            matrix = np.eye(4)
            matrix[:3, :3] = turn * np.array(node.get("scale", (1.0, 1.0, 1.0)), dtype=np.float64).reshape(3)
            matrix[:3, 3] = np.array(node.get("translation", (0.0, 0.0, 0.0)), dtype=np.float64).reshape(3)
    except (ValueError, TypeError, OverflowError) as error:
        raise MapError(source, f"transform of node {node.get('name', '')!r}", error, "must be numbers") from error
    if not np.isfinite(matrix).all() or np.abs(matrix).max() > 1e6:
        raise MapError(source, f"transform of node {node.get('name', '')!r}", "not finite", "must be finite numbers")
    return matrix


def _walk(document: Document, source: str) -> Iterator[SpawnNode]:
    """(name, world transform) of every node of the scene shown by default, or of all scenes where none is."""
    nodes = _list(document, "nodes", source)
    scenes = _list(document, "scenes", source)
    if "scene" in document:
        scenes = [scenes[_index(document["scene"], len(scenes), source, "scene")]]
    if scenes:
        roots = [
            _index(root, len(nodes), source, "scenes.nodes") for scene in scenes for root in scene.get("nodes", [])
        ]
    else:
        children = {child for node in nodes for child in node.get("children", [])}
        roots = [number for number in range(len(nodes)) if number not in children]
    pending = [(root, np.eye(4)) for root in dict.fromkeys(roots)]
    while pending:
        number, above = pending.pop()
        world = above @ _local(nodes[number], source)
        yield str(nodes[number].get("name", "")), world
        pending.extend((child, world) for child in nodes[number].get("children", []))


def spawn_nodes(document: Document, source: str) -> list[SpawnNode]:
    """Name and world transform (Y up) of each node whose name starts with `spawn`, in a stable order.

    Raises:
        MapError: A transform or a scene index is unusable.
    """
    found = [entry for entry in _walk(document, source) if entry[0].lower().startswith("spawn")]
    return sorted(found, key=lambda entry: (entry[0], *entry[1].ravel().tolist()))


def heading_degrees(transform: F64) -> float:
    """The direction a node looks, as degrees about the Z axis of the map; glTF assets face +Z, which becomes −Y."""
    forward = transform[:3, 2]
    return math.degrees(math.atan2(-forward[2], forward[0]))
