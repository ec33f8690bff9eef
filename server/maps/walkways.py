"""Where players can walk on a map, explored once and kept beside the geometry.

Apart from `server.maps.store`, so that a server, which does not walk, never loads the kernels.
"""

from pathlib import Path

from server.errors import MapError
from server.maps.arrayfile import read_arrays
from server.maps.store import ARRAYS_BYTES_MAX, cache_places, keep_arrays
from sim.geometry import Geometry
from sim.jit import source_digest
from sim.navigation import Navigation, NavigationError
from sim.worldmap import WorldMap

__all__ = ["load_navigation"]


def _read_navigation(path: Path, world: WorldMap, code: bytes) -> Navigation | None:
    """A saved navigation, or None where it is missing, of another map or code, or damaged: it is then built again."""
    try:
        saved = read_arrays(path, None, bytes_max=ARRAYS_BYTES_MAX)
        if "code" not in saved or saved.pop("code").tobytes() != code:
            return None
        return Navigation.from_arrays(saved, map_hash=world.content_hash())
    except (MapError, NavigationError):
        return None


def load_navigation(
    world: WorldMap, geometry: Geometry, *, beside: Path | None = None, cache: bool = True
) -> Navigation:
    """Where players can walk on a map, explored at most once per map and code version.

    Args:
        world: The map.
        geometry: Its hierarchy.
        beside: As for `load_geometry`.
        cache: Whether to read and write saved navigations at all.

    Raises:
        MapError: Nobody can walk on the map.
    """
    code = source_digest("sim.navigation").encode()
    places = cache_places(world, beside, "navigation") if cache else []
    for path in places:
        navigation = _read_navigation(path, world, code)
        if navigation is not None:
            return navigation
    try:
        navigation = Navigation.build(geometry, world)
    except NavigationError as error:
        raise MapError(world.name, "navigation", error, "mend the map and import it again") from error
    keep_arrays(navigation.to_arrays(), code, places)
    return navigation
