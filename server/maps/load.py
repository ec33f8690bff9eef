"""One call that loads a map from any supported source."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from server.errors import MapError
from server.maps.archive import read_archived, read_file
from server.maps.arena import ARENA_SIZE_MAX_M, ARENA_SIZE_MIN_M, make_arena
from server.maps.store import map_cache, prune_cache, read_map, write_map
from sim.jit import source_digest
from sim.worldmap import WorldMap

__all__ = ["load_map"]

FORMATS = ".bsp, .pk3#MAPNAME, .glb, .gltf, .obj, .png, .npz, or the name arena or arena:SIZE"


def _arena(text: str) -> WorldMap:
    """`arena` or `arena:SIZE`."""
    _, colon, size = text.partition(":")
    if not colon:
        return make_arena()
    if not (size.isascii() and size.isdecimal() and len(size) < 8):
        raise MapError(text, "size", size or "(none)", f"write arena:N, N {ARENA_SIZE_MIN_M} … {ARENA_SIZE_MAX_M}")
    return make_arena(int(size))


def _cached(data: bytes, name: str, make: Callable[[], WorldMap], *, cache: bool) -> WorldMap:
    """What `make` returns for a one-file source, kept under a digest of the file, its name and the importer's code."""
    if not cache:
        return make()
    digest = hashlib.blake2b(data, digest_size=12)
    digest.update(f"\0{name}\0{source_digest('server.maps.bsp', 'server.maps.mesh')}".encode())
    path = map_cache() / f"{digest.hexdigest()}.map.npz"
    with contextlib.suppress(MapError):  # missing or damaged: import again
        return read_map(path)
    world = make()
    with contextlib.suppress(MapError, OSError):  # a cache that cannot be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        prune_cache(path.parent)
        write_map(path, world)
    return world


def _load_bsp(data: bytes, name: str, source: str) -> WorldMap:
    from server.maps.bsp import import_bsp  # late, so that servers on other maps never load its kernel

    return import_bsp(data, name=name, source=source)


def _load_mesh(path: Path, data: bytes, kind: str, *, cache: bool) -> WorldMap:
    from server.maps.mesh import import_mesh

    # Only OBJ is one file for certain: glTF may bring its buffers in others.
    return _cached(data, path.stem, lambda: import_mesh(path, data, kind=kind), cache=cache and kind == "obj")


def load_map(source: str | Path, *, cache: bool = True) -> WorldMap:
    """The map that `source` names.

    Args:
        source: A path to a .bsp, .glb, .gltf, .obj, .png (heightmap) or .npz (imported map), `ARCHIVE.pk3#MAPNAME`,
            or `arena`, `arena:SIZE`.
        cache: Whether an import may be kept in the cache directory and found there again.

    Raises:
        MapError: There is no such map, or it cannot be used.
    """
    text = str(source)
    if text == "arena" or text.startswith("arena:"):
        return _arena(text)
    file, _, member = text.partition("#")
    if Path(file).suffix.lower() == ".pk3":
        data = read_archived(Path(file), member)
        return _cached(data, member, lambda: _load_bsp(data, member, text), cache=cache)
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix not in (".bsp", ".npz", ".glb", ".gltf", ".obj", ".png"):
        raise MapError(text, "map format", suffix or "(none)", f"give {FORMATS}")
    if suffix == ".npz":
        return read_map(path)
    data = read_file(path)
    if suffix == ".bsp":
        return _cached(data, path.stem, lambda: _load_bsp(data, path.stem, text), cache=cache)
    if suffix == ".png":
        from server.maps.heightmap import import_heightmap

        return import_heightmap(path, data)
    return _load_mesh(path, data, suffix[1:], cache=cache)
