"""Upper bounds on what an imported map may contain; each is checked before anything of that size is allocated."""

__all__ = [
    "ARCHIVE_ENTRIES_MAX",
    "BRUSHES_MAX",
    "BRUSH_SIDES_MAX",
    "COORDINATE_M_MAX",
    "ENTITIES_MAX",
    "ENTITY_BYTES_MAX",
    "ENTITY_KEYS_MAX",
    "FACES_MAX",
    "FILE_BYTES_MAX",
    "HEIGHTMAP_CELLS_MAX",
    "HEIGHTMAP_SIDE_MAX",
    "ITEMS_MAX",
    "MOVERS_MAX",
    "NODES_MAX",
    "PATCH_SIDE_MAX",
    "SPAWNS_MAX",
    "TRIGGERS_MAX",
    "VERTICES_MAX",
]

FILE_BYTES_MAX = 256 << 20  # the largest map of the OpenArena package is 8 MB
ARCHIVE_ENTRIES_MAX = 65_536
COORDINATE_M_MAX = 16_384.0  # 655,360 Quake units, ten times what Quake III maps can reach
VERTICES_MAX = 8_000_000
BRUSHES_MAX = 131_072  # the largest map of the package has 9,384
BRUSH_SIDES_MAX = 256  # bevel planes included
FACES_MAX = 524_288
PATCH_SIDE_MAX = 129  # control points along one side; Quake III's own limit is 64
ENTITY_BYTES_MAX = 4 << 20
ENTITIES_MAX = 16_384
ENTITY_KEYS_MAX = 256
SPAWNS_MAX = 4_096
ITEMS_MAX = 8_192
TRIGGERS_MAX = 4_096
MOVERS_MAX = 4_096
NODES_MAX = 65_536  # scene nodes of a glTF file
HEIGHTMAP_SIDE_MAX = 4_097
HEIGHTMAP_CELLS_MAX = 1_900_000  # two triangles each, below the simulation's TRIANGLES_MAX
