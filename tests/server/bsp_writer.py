"""Writes small Quake III maps for tests: boxes as brushes, one curved patch, entities, and nothing that is drawn."""

import struct
from dataclasses import dataclass, field

import numpy as np

Point = tuple[float, float, float]

SOLID, PLAYERCLIP, WATER, FOG = 0x1, 0x10000, 0x20, 0x40
SKY, SLICK = 0x4, 0x2


@dataclass
class BspWriter:
    """Collects brushes and faces; `data` is the file. Shaders: 0 solid, 1 clip, 2 water, 3 fog, 4 sky, 5 slick."""

    shaders: list[tuple[bytes, int, int]] = field(
        default_factory=lambda: [
            (b"solid", 0, SOLID),
            (b"clip", 0, PLAYERCLIP),
            (b"water", 0, WATER),
            (b"fog", 0, FOG),
            (b"sky", SKY, SOLID),
            (b"slick", SLICK, SOLID),
        ]
    )
    planes: list[tuple[float, float, float, float]] = field(default_factory=list)
    sides: list[tuple[int, int]] = field(default_factory=list)
    brushes: list[tuple[int, int, int]] = field(default_factory=list)
    vertices: list[Point] = field(default_factory=list)
    faces: list[bytes] = field(default_factory=list)
    models: list[bytes] = field(default_factory=list)
    entities: str = '{\n"classname" "worldspawn"\n}\n'

    def brush(self, planes: list[tuple[float, float, float, float]], shader: int = 0) -> None:
        first = len(self.sides)
        for plane in planes:
            self.planes.append(plane)
            self.sides.append((len(self.planes) - 1, shader))
        self.brushes.append((first, len(planes), shader))

    def box(self, low: Point, high: Point, shader: int = 0) -> None:
        planes = []
        for axis in range(3):
            for sign, value in ((1.0, high[axis]), (-1.0, -low[axis])):
                normal = [0.0, 0.0, 0.0]
                normal[axis] = sign
                planes.append((normal[0], normal[1], normal[2], value))
        self.brush(planes, shader)

    def patch(self, control: np.ndarray, shader: int = 0, normal: Point = (0.0, 0.0, 1.0)) -> None:
        height, width, _ = control.shape
        face = [shader, -1, 2, len(self.vertices), width * height, 0, 0, 0, 0, 0, 0, 0]
        self.faces.append(struct.pack("<12i", *face) + bytes(48) + struct.pack("<2i", width, height))
        self.vertices += [tuple(point) for point in control.reshape(-1, 3).tolist()]
        self.normal = normal

    def model(self, low: Point, high: Point, *, faces: tuple[int, int], brushes: tuple[int, int]) -> None:
        self.models.append(struct.pack("<6f4i", *low, *high, *faces, *brushes))

    def entity(self, **pairs: str) -> None:
        self.entities += "{\n" + "".join(f'"{key}" "{value}"\n' for key, value in pairs.items()) + "}\n"

    normal: Point = (0.0, 0.0, 1.0)

    def lumps(self) -> list[bytes]:
        if not self.models:
            self.model((-4096,) * 3, (4096,) * 3, faces=(0, len(self.faces)), brushes=(0, len(self.brushes)))
        lumps = [b""] * 17
        lumps[0] = self.entities.encode() + b"\0"
        lumps[1] = b"".join(struct.pack("<64sii", *shader) for shader in self.shaders)
        lumps[2] = b"".join(struct.pack("<4f", *plane) for plane in self.planes)
        lumps[7] = b"".join(self.models)
        lumps[8] = b"".join(struct.pack("<3i", *brush) for brush in self.brushes)
        lumps[9] = b"".join(struct.pack("<2i", *side) for side in self.sides)
        lumps[10] = b"".join(struct.pack("<3f4f3f4B", *p, 0, 0, 0, 0, *self.normal, 0, 0, 0, 0) for p in self.vertices)
        lumps[13] = b"".join(self.faces)
        return lumps

    def data(self) -> bytes:
        header, body = b"IBSP" + struct.pack("<i", 46), b""
        for lump in self.lumps():
            header += struct.pack("<ii", 144 + len(body), len(lump))
            body += lump + bytes(-len(lump) % 4)
        return header + body


def small_room() -> BspWriter:
    """A closed room of 512 × 512 × 256 units with one of everything."""
    room = BspWriter()
    for low, high, shader in (
        ((-272, -272, -16), (272, 272, 0), 0),
        ((-272, -272, 256), (272, 272, 272), 4),
        ((-272, -272, 0), (-256, 272, 256), 0),
        ((256, -272, 0), (272, 272, 256), 0),
        ((-256, -272, 0), (256, -256, 256), 0),
        ((-256, 256, 0), (256, 272, 256), 5),
        ((64, 64, 0), (128, 128, 40), 1),
        ((-128, -128, 0), (-64, -64, 32), 2),
        ((-200, 100, 0), (-150, 150, 100), 3),
    ):
        room.box(low, high, shader)
    x, y = np.meshgrid([-64.0, 0.0, 64.0], [128.0, 160.0, 192.0])
    room.patch(np.stack([x, y, np.where(np.abs(x) < 1.0, 64.0, 0.0)], axis=-1))
    world_brushes = len(room.brushes)
    room.box((100, -200, 0), (140, -100, 80))  # a door
    room.box((-40, -40, 0), (40, 40, 16), 3)  # a trigger
    room.model((-272, -272, -16), (272, 272, 272), faces=(0, 1), brushes=(0, world_brushes))
    room.model((100, -200, 0), (140, -100, 80), faces=(1, 0), brushes=(world_brushes, 1))
    room.model((-40, -40, 0), (40, 40, 16), faces=(1, 0), brushes=(world_brushes + 1, 1))
    room.entity(classname="info_player_deathmatch", origin="0 -100 24", angle="90")
    room.entity(classname="team_CTF_redspawn", origin="-200 -200 24", angle="180")
    room.entity(classname="item_health_mega", origin="0 100 100")
    room.entity(classname="weapon_railgun", origin="10 10 120", spawnflags="1")
    room.entity(classname="func_door", model="*1", angle="0", lip="8")
    room.entity(classname="trigger_push", model="*2", target="up")
    room.entity(classname="target_position", targetname="up", origin="0 80 168")
    return room


def lift_hall() -> BspWriter:
    """A closed hall of 1024 × 512 × 512 units: a lift that rises by 120 in its middle, a door of two wings beyond."""
    hall = BspWriter()
    for low, high in (
        ((-528, -272, -16), (528, 272, 0)),
        ((-528, -272, 512), (528, 272, 528)),
        ((-528, -272, 0), (-512, 272, 512)),
        ((512, -272, 0), (528, 272, 512)),
        ((-512, -272, 0), (512, -256, 512)),
        ((-512, 256, 0), (512, 272, 512)),
        ((248, -256, 0), (264, -64, 512)),  # a wall with a gap
        ((248, 64, 0), (264, 256, 512)),
        ((248, -64, 96), (264, 64, 512)),
    ):
        hall.box(low, high)
    world_brushes = len(hall.brushes)
    models = (((-48, -48, 0), (48, 48, 128)), ((250, -64, 0), (262, 0, 96)), ((250, 0, 0), (262, 64, 96)))
    for low, high in models:
        hall.box(low, high)
    hall.model((-528, -272, -16), (528, 272, 528), faces=(0, 0), brushes=(0, world_brushes))
    for number, (low, high) in enumerate(models):
        hall.model(low, high, faces=(0, 0), brushes=(world_brushes + number, 1))
    hall.entity(classname="info_player_deathmatch", origin="-160 0 24", angle="0")
    hall.entity(classname="func_plat", model="*1", wait="0.5")
    hall.entity(classname="func_door", model="*2", angle="270", team="gate", speed="200", wait="0.5")
    hall.entity(classname="func_door", model="*3", angle="90", team="gate", speed="200", wait="0.5")
    return hall
