"""One call that loads a map from any supported source."""

from pathlib import Path

from server.errors import MapError
from server.maps.archive import read_archived, read_file
from server.maps.bsp import import_bsp
from sim.worldmap import WorldMap

__all__ = ["load_map"]


def load_map(source: str | Path, *, cache: bool = True) -> WorldMap:
    """The map that `source` names.

    Args:
        source: A path to a .bsp, or `ARCHIVE.pk3#MAPNAME`.
        cache: Whether an import may be kept in the cache directory and found there again.

    Raises:
        MapError: There is no such map, or it cannot be used.
    """
    text = str(source)
    file, _, member = text.partition("#")
    path = Path(file)
    suffix = path.suffix.lower()
    if suffix == ".pk3":
        return import_bsp(read_archived(path, member), name=member, source=text)
    if suffix == ".bsp":
        return import_bsp(read_file(path), name=path.stem, source=text)
    raise MapError(text, "map format", suffix or "none", "give a .bsp, .pk3#MAPNAME")
