"""A match told through the server's sight stage, and an oracle that says by dense rays what could be seen.

The players of a scripted match, everyone for itself, are clients and each other's candidates. In every tick half of the
clients are decided for, as in a server with snapshots at half of the tick rate. The oracle looks at whole bodies with
`RAYS` rays; who is not seen is looked for from wherever the eye could be within the client's horizon to wherever the
body could be, each going any way that is free, with `COULD_RAYS` more. What these do not find it calls unseeable, so
that share is an upper bound.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from server.app import build_world
from server.config import ServerConfig
from server.game import load_game
from server.maps import load_geometry
from server.sight import SLOTS, Sight
from server.views import OWN, Views
from sim.arrays import F64, I64, Bool
from sim.components import Motion, Stance, Vitals
from sim.geometry import Geometry
from sim.systems import body_heights
from sim.visibility import VisibilityMap, VisibilityRules
from sim.visibility_kernels import RISE_MAX_M, RUN_SPEED, SIGHT_MASK
from sim.worldmap import WorldMap
from tools.script import play_script

__all__ = ["SightOracle", "Verdict"]

GAME = "sim.games.arena:free_for_all"
INTERVAL = 2
WARM_TICKS, JUDGED_EVERY = 90, 5
LATE_TICKS = 9  # 150 ms: about when a client shows what was decided
RTT_NS = 150_000_000
HEIGHTS, SIDES = (0.03, 0.25, 0.5, 0.75, 0.97), (-0.95, 0.0, 0.95)  # of the body, where it is looked at
RAYS = len(HEIGHTS) * len(SIDES)
COULD_RAYS = 96
WAYS = 16
KEPT_M = 0.3  # from walls
RADIUS_M = 0.375


@dataclass(slots=True)
class Verdict:
    """Pairs of a viewer and another player, judged so far.

    Attributes:
        pairs: All.
        seen: Of which some part was seen.
        told: That were told.
        late_now: Seen, but not told.
        late: Seen, but not told `LATE_TICKS` before.
        unseeable: Told, but not to be seen within the horizon.
    """

    pairs: int = 0
    seen: int = 0
    told: int = 0
    late_now: int = 0
    late: int = 0
    unseeable: int = 0


class SightOracle:
    """Plays and judges.

    Args:
        world_map: The map.
        known: Its visibility.
        sight: Geometry of what stops sight on it.
        players: How many play, at most `SLOTS`.
        rules: Of visibility.
        seed: Of the match.
    """

    def __init__(
        self, world_map: WorldMap, known: VisibilityMap, sight: Geometry, *, players: int,
        rules: VisibilityRules | None = None, seed: int = 1,
    ) -> None:  # fmt: skip
        self.world = build_world(ServerConfig(seed=seed), load_game(GAME), world_map, load_geometry(world_map))
        table = self.world.players
        self.players, self._geometry = players, sight
        self._random = np.random.default_rng(seed)
        self._row = np.full(players, -1, np.int32)
        client_of_row = np.arange(table.capacity, dtype=np.int32)
        client_of_row[players:] = -1
        self.views = Views(self.world, row=self._row, client_of_row=client_of_row, killcam_s=0.0)
        self.sight = Sight(self.world, known, sight, clients=players, rules=rules)
        self._candidate = np.full((players, SLOTS), -1, np.int32)
        self._candidate[:, :players] = table.slot_base + np.arange(players)
        self._position: F64 = np.zeros((self.world.slot_count, 3))
        self._told, self._factor = np.zeros((players, SLOTS), np.uint8), np.zeros((players, SLOTS), np.uint8)
        self._rtt_ns: I64 = np.full(players, RTT_NS, np.int64)
        self._height: F64 = np.zeros(table.capacity)
        self._settled_at: I64 = np.zeros(players, np.int64)  # since when each lives without having been put elsewhere
        self._before: F64 = np.zeros((players, 3))

    def judge(self, ticks: int) -> Verdict:
        """Plays so many ticks, once, and judges every `JUDGED_EVERY`th of them, after some to warm up."""
        verdict = Verdict()
        told: deque[Bool] = deque(maxlen=LATE_TICKS + 1)
        for tick, _ in enumerate(play_script(self.world, players=self.players, ticks=ticks, step=self.world.step)):
            self._tell()
            told.append(self._told[:, : self.players] == 1)
            if tick >= WARM_TICKS and tick % JUDGED_EVERY == 0:
                self._judge(told, verdict)
        return verdict

    def _tell(self) -> None:
        """The stage, as a server runs it."""
        table, tick = self.world.players, self.world.tick
        live = table.live_slots[table.live_slots < self.players]
        self._row[live] = live
        self._position[table.slot_base : table.slot_base + table.capacity] = table[Motion].position
        self.views.update()
        due = np.flatnonzero((np.arange(self.players) + tick) % INTERVAL == 0).astype(np.int32)
        self.sight.run(
            tick, due=due, views=self.views, rtt_ns=self._rtt_ns, candidate=self._candidate,
            position=self._position, told=self._told, factor=self._factor,
        )  # fmt: skip
        feet = table[Motion].position[: self.players]
        jumped = np.linalg.norm(feet - self._before, axis=1) > 2.0
        self._settled_at[jumped | ~table[Vitals].alive[: self.players]] = tick
        self._before[:] = feet

    def _judge(self, told: deque[Bool], verdict: Verdict) -> None:
        # Nobody foresees who comes to life or out of a teleporter: they are judged when the next decision is told of.
        settled = (self.views.mode == OWN) & (self._row >= 0)
        settled &= self._settled_at <= self.world.tick - LATE_TICKS - INTERVAL
        viewer, other = np.nonzero(settled[:, None] & settled[None, :] & ~np.eye(self.players, dtype=np.bool_))
        body_heights(self.world.players[Stance].flags, self._height)
        eye, feet = self.views.eye[viewer], self.world.players[Motion].position[other]
        seen = self._sees(eye, feet, self._height[other])
        now, before = told[-1][viewer, other], told[0][viewer, other]
        verdict.pairs += len(viewer)
        verdict.seen += int(seen.sum())
        verdict.told += int(now.sum())
        verdict.late_now += int((seen & ~now).sum())
        verdict.late += int((seen & ~before).sum())
        doubtful = np.flatnonzero(now & ~seen)
        verdict.unseeable += int((~self._could(viewer[doubtful], other[doubtful])).sum())

    def _free(self, start: F64, end: F64) -> Bool:
        return np.asarray(~self._geometry.any_hit(start, end, mask=SIGHT_MASK))

    def _sees(self, eye: F64, feet: F64, height: F64) -> Bool:
        """Whether any part of each body is seen from each eye."""
        found = np.zeros(len(eye), np.bool_)
        for up in HEIGHTS:
            for side in SIDES:
                left = np.flatnonzero(~found)
                up_m, side_m = height[left] * up, np.full(len(left), side * RADIUS_M)
                found[left] = self._free(eye[left], _aimed(eye[left], feet[left], up_m, side_m))
        return found

    def _could(self, viewer: I64, other: I64) -> Bool:
        """Whether anything of each body could be seen within the viewer's horizon, wherever both go."""
        found = np.zeros(len(viewer), np.bool_)
        leads = self._leads()
        eyes, feet = self.views.eye, self.world.players[Motion].position
        for _ in range(COULD_RAYS):
            left = np.flatnonzero(~found)
            if not len(left):
                break
            draws = self._random.random((6, len(left)))
            ways = (draws[:2] * (WAYS + 3)).astype(np.int64)
            eye = eyes[viewer[left]] + leads[viewer[left], ways[0]] * np.sqrt(draws[2])[:, None]
            body = feet[other[left]] + leads[other[left], ways[1]] * np.sqrt(draws[3])[:, None]
            point = _aimed(eye, body, self._height[other[left]] * draws[4], RADIUS_M * (2.0 * draws[5] - 1.0))
            found[left] = self._free(eye, point)
        return found

    def _leads(self) -> F64:
        """How far each player may go: in `WAYS` level directions, up, as it goes, and not at all [m]."""
        motion, horizon = self.world.players[Motion], float(self.sight.horizon.max())
        turn = np.arange(WAYS) * (2.0 * np.pi / WAYS)
        ways: F64 = np.zeros((self.players, WAYS + 3, 3))
        ways[:, :WAYS, 0], ways[:, :WAYS, 1] = np.cos(turn) * RUN_SPEED * horizon, np.sin(turn) * RUN_SPEED * horizon
        ways[:, WAYS, 2] = RISE_MAX_M
        ways[:, WAYS + 1] = motion.velocity[: self.players] * horizon
        start = np.repeat(motion.position[: self.players], WAYS + 3, axis=0)
        start[:, 2] += 0.6 * np.repeat(self._height[: self.players], WAYS + 3)
        flat = ways.reshape(-1, 3)
        length = np.maximum(np.linalg.norm(flat, axis=1), 1e-9)
        free, _ = self._geometry.closest_hit(start, flat, t_max=1.0 + KEPT_M / length, mask=SIGHT_MASK)
        leads: F64 = flat * np.clip(free - KEPT_M / length, 0.0, 1.0)[:, None]
        return leads.reshape(ways.shape)


def _aimed(eye: F64, feet: F64, up_m: F64, side_m: F64) -> F64:
    """Points of bodies, so far above the feet, and to the side of the middle as the eye sees it."""
    away = feet - eye
    level = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-9)
    point = feet.copy()
    point[:, 0] -= away[:, 1] / level * side_m
    point[:, 1] += away[:, 0] / level * side_m
    point[:, 2] += up_m
    return point
