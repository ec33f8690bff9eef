"""The picture of a map from above as PNG, drawn once per map and kept in the cache."""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from server.errors import MapError
from server.maps.arrayfile import read_arrays
from server.maps.store import cache_places, keep_arrays
from server.maps.topdown import topdown
from sim.arrays import F64
from sim.jit import source_digest
from sim.worldmap import WorldMap

__all__ = ["MapPicture", "map_picture"]

PICTURE_BYTES_MAX = 64 << 20
PARTS = ("png", "low", "high", "code")


@dataclass(frozen=True, slots=True)
class MapPicture:
    """A PNG and the places of its corners [m], each shape (2,)."""

    png: bytes
    low: F64
    high: F64


def map_picture(world: WorldMap, *, width_px: int = 1024) -> MapPicture:
    """The map from above, north up; drawing takes seconds, finding it in the cache milliseconds.

    Args:
        world: The map.
        width_px: Width of the picture.
    """
    code = f"{source_digest('server.maps.topdown')}-{width_px}".encode()
    places = cache_places(world, None, "picture")
    for path in places:
        try:
            saved = read_arrays(path, PARTS, bytes_max=PICTURE_BYTES_MAX)
        except MapError:
            continue  # not there, or damaged: drawn again
        if saved["code"].tobytes() == code:
            return MapPicture(saved["png"].tobytes(), saved["low"], saved["high"])
    image, low, high = topdown(world, width_px=width_px)
    packed = io.BytesIO()
    Image.fromarray(image, "RGBA").save(packed, "PNG")
    png = packed.getvalue()
    keep_arrays({"png": np.frombuffer(png, np.uint8), "low": low, "high": high}, code, places)
    return MapPicture(png, low, high)
