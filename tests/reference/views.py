"""From where each client sees, one client at a time: the twin of `server.views_kernels.renew_views`."""

import math
from dataclasses import dataclass

from server.views_kernels import CAMERA, DEAD, FOLLOW, KILLCAM, OWN

__all__ = ["Body", "Sight", "Wish", "sight_of"]


@dataclass
class Body:
    """A player: its entity, whether it lives, its team, seconds until it lives again."""

    entity: int
    alive: bool
    team: int
    respawn_s: float


@dataclass
class Wish:
    """Whom a client follows: a row (−1: nobody), the entity that it was, and until which tick a killcam shows it."""

    row: int
    entity: int
    until: int


@dataclass
class Sight:
    """What a client sees through: row of the eyes, −1 for none, its mode, and the entity it is told that it watches."""

    row: int
    mode: int
    watched: int


def sight_of(row: int, wish: Wish, bodies: list[Body], tick: int) -> Sight:
    """What the client of the player in `row` sees through after a tick."""
    if row < 0:
        return Sight(-1, OWN, 0)
    own = bodies[row]
    if own.alive:
        return Sight(row, OWN, own.entity)
    if wish.row >= 0:
        other = bodies[wish.row]
        there = other.alive and other.entity == wish.entity
        if there and wish.until > 0 and tick < wish.until:
            return Sight(wish.row, KILLCAM, other.entity)
        friends = own.team == other.team if own.team else math.isinf(own.respawn_s)
        if there and wish.until <= 0 and friends:
            return Sight(wish.row, FOLLOW, other.entity)
    if math.isinf(own.respawn_s):
        return Sight(-1, CAMERA, 0)
    return Sight(-1, DEAD, own.entity)
