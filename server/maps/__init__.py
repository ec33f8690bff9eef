"""Static worlds from real files: import, cache, pictures."""

from server.maps.load import load_map
from server.maps.store import load_geometry

__all__ = ["load_geometry", "load_map"]
