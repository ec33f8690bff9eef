"""Colours of map pictures: heights, liquids, markers and the light that makes shapes readable."""

import numpy as np

from sim.arrays import F64, AnyArray

__all__ = ["BACKGROUND", "ITEM_COLOURS", "SPAWN_COLOURS", "TRIGGER_COLOURS", "height_colours", "item_colour", "lambert"]

BACKGROUND = (16, 20, 27)
# From low to high: dark slate, teal, sage, sand, pale. Lightness rises all the way, so it also reads in grey.
RAMP = np.array([[52, 66, 94], [54, 104, 122], [96, 142, 120], [176, 176, 120], [222, 196, 148], [244, 234, 214]])
LIGHT = np.array([-0.45, -0.35, 0.82]) / np.linalg.norm([-0.45, -0.35, 0.82])
SPAWN_COLOURS = {0: (255, 255, 255), 1: (255, 84, 72), 2: (84, 150, 255)}
TRIGGER_COLOURS = {1: (90, 255, 160), 2: (214, 120, 255), 3: (255, 110, 40)}
ITEM_COLOURS = {
    "health": (110, 235, 110),
    "armour": (255, 214, 64),
    "weapon": (255, 140, 60),
    "ammo": (186, 150, 110),
    "powerup": (120, 220, 255),
    "flag_red": (255, 84, 72),
    "flag_blue": (84, 150, 255),
}
POWERUPS = frozenset({"quad", "haste", "invisibility", "regeneration", "flight", "battle_suit"})


def item_colour(kind: str) -> tuple[str, tuple[int, int, int]]:
    """The group of an item kind, and its colour."""
    group = "weapon"
    if kind in ITEM_COLOURS:
        group = kind
    elif kind in POWERUPS:
        group = "powerup"
    elif kind.startswith("ammo_"):
        group = "ammo"
    return group, ITEM_COLOURS[group]


def height_colours(height: AnyArray, low: float, high: float) -> F64:
    """Colours 0 … 255 for heights [m], shape (…, 3): `low` is the darkest and `high` the lightest."""
    share = np.clip((np.asarray(height, dtype=np.float64) - low) / max(high - low, 1e-6), 0.0, 1.0) * (len(RAMP) - 1)
    step = np.minimum(share.astype(np.int64), len(RAMP) - 2)
    part = (share - step)[..., None]
    return np.asarray(RAMP[step] * (1.0 - part) + RAMP[step + 1] * part, dtype=np.float64)


def lambert(normals: F64) -> F64:
    """Brightness of surfaces, shape (…,): soft light from the south-west above, never quite dark."""
    return np.asarray(0.42 + 0.58 * np.clip(0.5 + 0.5 * (normals @ LIGHT), 0.0, 1.0) ** 1.2, dtype=np.float64)
