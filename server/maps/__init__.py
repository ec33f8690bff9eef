"""Static worlds from real files: import, cache, pictures."""

from server.maps.load import load_map

__all__ = ["load_map"]
