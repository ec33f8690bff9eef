"""What the arena adds to a player."""

import numpy as np

from sim.schema import Audience, Component, Wire, column
from sim.weapons import WEAPONS_MAX

__all__ = ["Arms", "Gait", "Match", "Name", "Powers", "Score"]


class Arms(Component, name="arms"):
    """Weapons and ammunition; arrays by weapon are indexed by its number. `pressed`: FIRE was held in the last tick."""

    weapon = column(np.uint8, wire=Wire(bits=4))
    owned = column(np.uint16, wire=Wire(bits=16, audience=Audience.OWNER))
    cooldown_s = column(np.float64, unit="s")
    reloading_s = column(np.float64, unit="s")
    pressed = column(np.bool_)
    loaded = column(np.int16, shape=(WEAPONS_MAX,), unit="rounds")
    reserve = column(np.int16, shape=(WEAPONS_MAX,), unit="rounds")


class Powers(Component, name="powers"):
    """Time left of each power-up, 0 for none."""

    quad_s = column(np.float64, unit="s")
    regeneration_s = column(np.float64, unit="s")
    battle_suit_s = column(np.float64, unit="s")
    active = column(np.uint8, wire=Wire(bits=3))


class Gait(Component, name="gait"):
    """What makes footsteps regular; see `sim.games.arena.steps_kernels`."""

    walked_m = column(np.float64, unit="m", default=1.2)  # half a stride: who sets off is heard soon


class Score(Component, name="score"):
    """What the scoreboard shows."""

    points = column(np.int32, wire=Wire(bits=12, signed=True, zone=True))
    kills = column(np.int32, wire=Wire(bits=12, zone=True))
    deaths = column(np.int32, wire=Wire(bits=12, zone=True))


class Name(Component, name="name"):
    """A player's name in UTF-8, zero-filled."""

    text = column(np.uint8, shape=(32,), wire=Wire(bits=8, zone=True))


class Match(Component, name="match"):
    """The one row that says how the match stands; team scores by team number, 0 where there are no teams."""

    left_s = column(np.float64, unit="s")
    number = column(np.int32)
    team_points = column(np.int32, shape=(5,))
