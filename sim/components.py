"""Components that the core's own systems understand. Games add their own beside them."""

import numpy as np

from sim.schema import VALUE_MAX, Audience, Component, Wire, column

__all__ = ["Look", "Motion", "Pickup", "Projectile", "Stance", "Vitals"]


class Motion(Component, name="motion"):
    """Where something is and how it moves. For players the position is that of the feet."""

    position = column(
        np.float64,
        shape=(3,),
        unit="m",
        wire=Wire(bits=22, step=1 / 128, signed=True, role="position", bound=0.05),
        persist=True,
        bounds=(-1e6, 1e6),
    )
    velocity = column(
        np.float64,
        shape=(3,),
        unit="m/s",
        wire=Wire(bits=14, step=1 / 64, signed=True, role="velocity"),
        bounds=(-1e5, 1e5),
    )


class Look(Component, name="look"):
    """Where something looks: 65536 is one turn, yaw counter-clockwise from +X, pitch up positive."""

    yaw = column(np.uint16, unit="turn/65536", wire=Wire(bits=12, step=16, bound=512, wraps=True))
    pitch = column(np.int16, unit="turn/65536", wire=Wire(bits=11, step=32, signed=True, bound=512))


class Stance(Component, name="stance"):
    """What the motion of a player remembers from tick to tick; see `sim.motion`."""

    flags = column(np.uint16, wire=Wire(bits=9))
    ground_normal = column(np.float64, shape=(3,), bounds=(-1.001, 1.001))


class Vitals(Component, name="vitals"):
    """Life. Amounts are points; fractions are kept so that damage over time does not depend on the tick rate.

    `born` is the first tick of the present life: before it, nobody can be hit.
    """

    health = column(np.float64, unit="points", default=0.0, wire=Wire(bits=9, audience=Audience.TEAM), persist=True)
    armour = column(np.float64, unit="points", default=0.0, wire=Wire(bits=9, audience=Audience.TEAM))
    alive = column(np.bool_, wire=Wire(bits=1))
    team = column(np.uint8, wire=Wire(bits=3))
    respawn_s = column(np.float64, unit="s", bounds=(-VALUE_MAX, np.inf))
    born = column(np.int64, unit="tick", bounds=(0, 1 << 62))


class Projectile(Component, name="projectile"):
    """A thing in flight. `owner` is the entity that fired it, `weapon` the number of what fired it."""

    owner = column(np.uint64)
    weapon = column(np.uint8, wire=Wire(bits=5))
    team = column(np.uint8)
    left_s = column(np.float64, unit="s")


class Pickup(Component, name="pickup"):
    """A thing to take. `item` is its number in the game's list; `away_s` is how long until it is back."""

    item = column(np.uint8, wire=Wire(bits=6))
    amount = column(np.int32)
    available = column(np.bool_, default=True, wire=Wire(bits=1))
    away_s = column(np.float64, unit="s")
