"""What the arena adds to a player."""

import numpy as np

from sim.schema import Audience, Component, Wire, column
from sim.weapons import WEAPONS_MAX

__all__ = ["Arms", "Gait", "Match", "Name", "Powers", "Score"]

COUNT_MAX = 1 << 30  # kills, points, matches: more than any zone lives to see


class Arms(Component, name="arms"):
    """Weapons and ammunition; arrays by weapon are indexed by its number. `pressed`: FIRE was held in the last tick."""

    weapon = column(np.uint8, wire=Wire(bits=4))
    owned = column(np.uint16, wire=Wire(bits=16, audience=Audience.OWNER))
    cooldown_s = column(np.float64, unit="s")
    reloading_s = column(np.float64, unit="s")
    pressed = column(np.bool_)
    loaded = column(np.int16, shape=(WEAPONS_MAX,), unit="rounds", bounds=(0, 32767))
    reserve = column(np.int16, shape=(WEAPONS_MAX,), unit="rounds", bounds=(0, 32767))


class Powers(Component, name="powers"):
    """Time left of each power-up, 0 for none."""

    quad_s = column(np.float64, unit="s")
    regeneration_s = column(np.float64, unit="s")
    battle_suit_s = column(np.float64, unit="s")
    active = column(np.uint8, wire=Wire(bits=3))


class Gait(Component, name="gait"):
    """What makes footsteps regular; see `sim.games.arena.steps_kernels`."""

    # Half a stride: who sets off is heard soon.
    walked_m = column(np.float64, unit="m", default=1.2, bounds=(0.0, 100.0))


class Score(Component, name="score"):
    """What the scoreboard shows."""

    points = column(np.int32, wire=Wire(bits=12, signed=True, zone=True), bounds=(-COUNT_MAX, COUNT_MAX))
    kills = column(np.int32, wire=Wire(bits=12, zone=True), bounds=(0, COUNT_MAX))
    deaths = column(np.int32, wire=Wire(bits=12, zone=True), bounds=(0, COUNT_MAX))


class Name(Component, name="name"):
    """A player's name in UTF-8, zero-filled."""

    text = column(np.uint8, shape=(32,), wire=Wire(bits=8, zone=True))


class Match(Component, name="match"):
    """The one row that says how the match stands; team scores by team number, 0 where there are no teams."""

    left_s = column(np.float64, unit="s")
    number = column(np.int32, bounds=(0, COUNT_MAX))
    team_points = column(np.int32, shape=(5,), bounds=(-COUNT_MAX, COUNT_MAX))
