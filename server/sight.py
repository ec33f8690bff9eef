"""What each client may be told of, by what could be seen from where it sees: the stage between selecting and encoding.

    sight = Sight(world, known, geometry, clients=…)          # server.maps.visibility gives both
    …
    sight.run(tick, due=…, views=views, rtt_ns=…, candidate=…, position=…, told=…, factor=…)

Players are judged, by `sim.visibility`. Everything else may always be told: what lies on the map is known to everybody,
and a projectile that comes round a corner at 20 to 50 m/s would pop up out of nothing if it had to be seen first; who
fired it is not told. Who only watches has no body on the field and is told to nobody.

How far a viewer is led is its measured round trip and `REACTION_S`, `HORIZON_MAX_S` at most: a client that answers late
on purpose gets no more than that. What is outside of the view cone loses weight, but is never hidden: the cone is 120°,
and on both sides what somebody who turns at `TURN_PER_S` turns within the horizon.
"""

from pathlib import Path
from typing import Final

import numpy as np

from server.errors import ServerError
from server.maps.visibility import find_visibility, load_visibility
from server.sight_kernels import tell_views
from server.views import Views
from sim.arrays import F64, I32, I64, U8, U64
from sim.components import Motion, Stance, Vitals
from sim.geometry import Geometry
from sim.motion import MotionParameters
from sim.systems import body_heights
from sim.visibility import Visibility, VisibilityError, VisibilityMap, VisibilityRules
from sim.world import World

__all__ = ["HORIZON_MAX_S", "REACTION_S", "SLOTS", "Sight", "open_sight", "sight_rules"]

SLOTS = 128
REACTION_S: Final = 0.2
HORIZON_MAX_S: Final = 0.5
HALF_CONE: Final = np.pi / 3.0
TURN_PER_S: Final = np.pi  # [rad/s]


class Sight:
    """Visibility of a zone's players for its clients. Everything large is allocated here.

    Attributes:
        visibility: What decides; its `counts` are since the start.
        horizon: How far each client was led when it was last due [s], shape (clients,), float64.
        per_client: Told and hidden candidates of each client when it was last due, shape (clients, 2), int32.
    """

    def __init__(
        self,
        world: World,
        known: VisibilityMap,
        geometry: Geometry,
        *,
        clients: int,
        rules: VisibilityRules | None = None,
        slots: int = SLOTS,
    ) -> None:
        """Makes room.

        Args:
            world: The world, whose players are judged.
            known: Visibility of its map.
            geometry: Of the map's `sight_world`.
            clients: How many there can be.
            rules: What happens to pairs that cells leave open.
            slots: Interest slots of each.

        Raises:
            VisibilityError: There are too many clients, slots or players.
        """
        table = world.players
        self._world = world
        bodies = table.slot_base + table.capacity
        self.visibility = Visibility(known, geometry, viewers=clients, slots=slots, bodies=bodies, rules=rules)
        self.per_client: I32 = np.zeros((clients, 2), np.int32)
        self._feet: F64 = np.zeros((bodies, 3))
        self._velocity: F64 = np.zeros((bodies, 3))
        self._size: F64 = np.full((bodies, 2), MotionParameters().radius)
        self._height: F64 = np.zeros(table.capacity)
        self._identity: U64 = np.zeros(bodies, np.uint64)
        self._facing: F64 = np.zeros((clients, 3))
        self._seen_as: I32 = np.full((clients, 2), -1, np.int32)  # body and mode when it was last due
        self.horizon: F64 = np.zeros(clients)

    @property
    def found(self) -> U8:
        """What each slot was last found to be, shape (clients, slots): see `sim.visibility_kernels`."""
        return self.visibility.found

    @property
    def counts(self) -> dict[str, int]:
        """Candidates told and hidden at present, and the counts of visibility since the start."""
        told, hidden = self.per_client.sum(axis=0).tolist()
        return {"told": told, "hidden": hidden, **self.visibility.counts}

    @property
    def rays(self) -> I32:
        """Rays that were cast for each client when it was last due, shape (clients,), int32."""
        return self.visibility.rays_cast

    def forget(self, client: int) -> None:
        """Make a client new: nothing is remembered of who had its number before."""
        self.visibility.forget(client)
        self.per_client[client] = 0

    def run(
        self,
        tick: int,
        *,
        due: I32,
        views: Views,
        rtt_ns: I64,
        candidate: I32,
        position: F64,
        told: U8,
        factor: U8,
    ) -> None:
        """Decide for the clients that get a snapshot in this tick, after the step and `views.update`.

        Args:
            tick: Now.
            due: These clients, int32.
            views: From where clients see.
            rtt_ns: Measured round trip of each client [ns], shape (clients,), int64; 0 where it is not known yet.
            candidate: Row of the entity in each slot, −1 for none, shape (clients, slots), int32. An entity keeps its
                slot, because what is remembered of the two is there.
            position: Of all entities [m], shape (entities, 3), float64.
            told: Receives 1 where the entity may be told, else 0, shape (clients, slots), uint8; rows of `due` only.
            factor: Receives 16 times the weight that it has by the view cone, likewise.

        Raises:
            VisibilityError: An array has another shape or type.
        """
        count = self._place(tick)
        np.clip(rtt_ns * 1e-9 + REACTION_S, REACTION_S, HORIZON_MAX_S, out=self.horizon)
        body = np.where(views.body < count, views.body, -1).astype(np.int32)
        self._forget_views(due, body, views.mode)
        self.visibility.refresh(
            eyes=views.eye, horizon=self.horizon, own=body, candidates=candidate, due=due, tick=tick
        )  # fmt: skip
        self._face(due, views)
        base = self._world.players.slot_base
        tell_views(
            due, candidate, self.found, (base, base + self._world.players.capacity), (views.eye, self._facing, body),
            position, told, factor, self.per_client,
        )  # fmt: skip

    def _forget_views(self, due: I32, body: I32, mode: U8) -> None:
        """Let nothing be remembered of what clients saw from elsewhere: by other eyes, or in another life."""
        changed = due[(self._seen_as[due, 0] != body[due]) | (self._seen_as[due, 1] != mode[due])]
        if len(changed):
            self._seen_as[changed, 0], self._seen_as[changed, 1] = body[changed], mode[changed]
            self.visibility.forget(changed)

    def _place(self, tick: int) -> int:
        """Tell visibility where the players are; how many rows there are."""
        table = self._world.players
        base, count = table.slot_base, table.slot_base + table.high_water
        motion, high = table[Motion], table.high_water
        self._feet[base:count], self._velocity[base:count] = motion.position[:high], motion.velocity[:high]
        body_heights(table[Stance].flags, self._height)
        self._size[base:count, 1] = self._height[:high]
        watching = np.isinf(table[Vitals].respawn_s[:high])
        self._identity[base:count] = np.where(watching, 0, table.ids[:high])
        self.visibility.place(
            feet=self._feet[:count], velocity=self._velocity[:count], size=self._size[:count],
            identity=self._identity[:count], tick=tick,
        )  # fmt: skip
        return count

    def _face(self, due: I32, views: Views) -> None:
        """The view cones of the clients that are due; a camera that stands still looks everywhere."""
        yaw = views.yaw[due] * (np.pi / 32768.0)
        half = np.minimum(HALF_CONE + TURN_PER_S * self.horizon[due], np.pi)
        half[views.body[due] < 0] = np.pi
        self._facing[due] = np.column_stack([np.cos(yaw), np.sin(yaw), np.where(half < np.pi, np.cos(half), -2.0)])


def sight_rules(mode: str, *, interval_ticks: int = 2) -> VisibilityRules:
    """The rules of a mode.

    Strict ones believe a free ray for three snapshots instead of a fifth of a second: then 4.5 instead of 5.6 % of all
    pairs on aggressor, and 1.3 instead of 1.6 % on oa_dm2, are told though they could not be seen, and 0.009 instead of
    0.003 % and 0.014 instead of 0.009 % of what is seen is not told. With half of that: 3.7 and 1.0 %, but 0.019 and
    0.042 %.

    Args:
        mode: As for `open_sight`.
        interval_ticks: Ticks between two snapshots of a client.
    """
    if mode != "strict":
        return VisibilityRules()
    return VisibilityRules(strict=True, memory_ticks=max(6, 3 * interval_ticks), confirm_ticks=max(2, interval_ticks))


def open_sight(
    mode: str, world: World, *, clients: int, interval_ticks: int = 2, beside: Path | None = None
) -> Sight | None:
    """The sight stage that a configuration asks for, or None where clients are told of all within range.

    Args:
        mode: `off`; `on`; `strict`: with strict rules; `auto`: as `on` if the map has been baked, else as `off`.
        world: The world; its map is baked for `on` and `strict` where that has not been done.
        clients: How many there can be.
        interval_ticks: Ticks between two snapshots of a client.
        beside: The map's file, if it has one.

    Raises:
        ServerError: The map cannot be baked, or there are too many clients.
    """
    if mode == "off":
        return None
    baked = find_visibility(world.map, beside=beside) if mode == "auto" else load_visibility(world.map, beside=beside)
    if baked is None:
        return None
    try:
        return Sight(world, *baked, clients=clients, rules=sight_rules(mode, interval_ticks=interval_ticks))
    except VisibilityError as error:
        raise ServerError(f"visibility = {mode}: {error}") from error
