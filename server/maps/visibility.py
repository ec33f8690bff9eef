"""Which parts of a map see each other, worked out once and kept beside the geometry.

A visibility file holds `VisibilityMap.to_arrays()` and the digest of the code that made it. Apart from
`server.maps.store`, and with the kernels that make it imported late, so that a server that finds the file never loads
them.
"""

from pathlib import Path

from server.errors import MapError
from server.maps.arrayfile import read_arrays
from server.maps.store import ARRAYS_BYTES_MAX, cache_places, keep_arrays, load_geometry
from sim.geometry import Geometry
from sim.jit import source_digest
from sim.visibility import VisibilityError, VisibilityMap, sight_world
from sim.worldmap import WorldMap

__all__ = ["find_visibility", "load_visibility"]


def _read_visibility(path: Path, world: WorldMap, code: bytes) -> VisibilityMap | None:
    """A saved visibility, or None where it is missing, of another map or code, or damaged: it is then made again."""
    try:
        saved = read_arrays(path, None, bytes_max=ARRAYS_BYTES_MAX)
        if "code" not in saved or saved.pop("code").tobytes() != code:
            return None
        return VisibilityMap.from_arrays(saved, map_hash=world.content_hash())
    except (MapError, VisibilityError):
        return None


def _bake(world: WorldMap, sight: Geometry, beside: Path | None, *, cache: bool) -> VisibilityMap:
    from server.maps.walkways import load_navigation
    from sim.visibility_build import bake

    geometry = load_geometry(world, beside=beside, cache=cache)
    return bake(world, sight, load_navigation(world, geometry, beside=beside, cache=cache))


def _find(world: WorldMap, beside: Path | None) -> VisibilityMap | None:
    """What has been baked, of this map and by this code."""
    code = source_digest("sim.visibility_build").encode()
    for path in cache_places(world, beside, "visibility"):
        known = _read_visibility(path, world, code)
        if known is not None:
            return known
    return None


def find_visibility(world: WorldMap, *, beside: Path | None = None) -> tuple[VisibilityMap, Geometry] | None:
    """As `load_visibility` if the map has been baked, else None, at once."""
    known = _find(world, beside)
    return None if known is None else (known, load_geometry(sight_world(world)))


def load_visibility(
    world: WorldMap, *, beside: Path | None = None, cache: bool = True
) -> tuple[VisibilityMap, Geometry]:
    """What can be seen from where on a map, baked at most once per map and code version, and what stops sight on it.

    Args:
        world: The map.
        beside: As for `load_geometry`.
        cache: Whether to read and write saved files at all.

    Returns:
        What `Visibility` takes: the cells, and the geometry of `sight_world`.

    Raises:
        MapError: Nothing of the map is solid, nobody can walk on it, or it falls into too many parts.
    """
    try:
        sight = load_geometry(sight_world(world), cache=cache)
        found = _find(world, beside) if cache else None
        known = found or _bake(world, sight, beside, cache=cache)
    except VisibilityError as error:
        raise MapError(world.name, "visibility", error, "mend the map and import it again") from error
    if cache and found is None:
        code = source_digest("sim.visibility_build").encode()
        keep_arrays(known.to_arrays(), code, cache_places(world, beside, "visibility"))
    return known, sight
