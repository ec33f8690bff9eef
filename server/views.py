"""From where each client sees: its own eyes, its killer's, those of a team mate, or a camera that stands still.

    OWN      the player lives and sees for itself
    KILLCAM  after its death, for up to `killcam_s`: through the eyes of who killed it, while that one lives
    DEAD     then, until the next life: from where it died
    FOLLOW   the dead, and who only watches (an infinite `respawn_s`), follow whom they ask for with the message `watch`
    CAMERA   who only watches and follows nobody: from the map's first spawn point

Only one's own team can be followed; who watches without a team follows anyone. A client is told of what can be seen
from where it sees, and of nothing else: whoever follows a player learns what that player could see. It hears by the
message `watching` what it looks through, whenever that changes.

All columns are by client and renewed once per tick, by `update`; only deaths, requests and changes are looked at one by
one.
"""

from typing import Final

import numpy as np

from server.views_kernels import (
    CAMERA,
    DEAD,
    FOLLOW,
    KILLCAM,
    OWN,
    BodyArrays,
    ToldArrays,
    ViewArrays,
    renew_views,
)
from sim.arrays import F64, I32, I64, U8, U16, U64
from sim.components import Look, Motion, Stance, Vitals
from sim.motion import MotionParameters
from sim.world import World

__all__ = ["CAMERA", "CHANGES_MAX", "DEAD", "FOLLOW", "KILLCAM", "OWN", "Views"]

CHANGES_MAX = 64  # told of in one tick; the others wait for the next ones
CAMERA_M: Final = 1.2  # above the spawn point


class Views:
    """Where the clients of a zone see from.

    Attributes:
        eye: Place of the eye [m], shape (clients, 3), float64.
        yaw: Where it looks, shape (clients,), uint16.
        body: Row of the body that it sees through, among all entities, −1 for none, int32.
        watched: Entity that it sees through or, dead, its own; 0 for none, uint64.
        mode: OWN and the following, uint8.
        refused: Requests to watch whom one may not, or while alive.
    """

    def __init__(self, world: World, *, row: I32, client_of_row: I32, killcam_s: float) -> None:
        """Makes room.

        Args:
            world: The world.
            row: Row of each client's player, −1 while it has none, shape (clients,); read at each `update`.
            client_of_row: Client of each player row, −1 for none.
            killcam_s: How long the dead see through their killer's eyes [s]; 0: not at all.
        """
        clients = len(row)
        self._world, self._row, self._client_of_row = world, row, client_of_row
        self._killcam_ticks = round(killcam_s * world.tick_hz)
        self._kill = world.game.event("kill") if "kill" in world.game.events else -1
        self._camera: F64 = np.array(world.map.spawns[0].position)
        self._camera[2] += CAMERA_M
        vitals, motion, look = world.players[Vitals], world.players[Motion], world.players[Look]
        self._bodies: BodyArrays = (
            world.players.ids, vitals.alive, vitals.team, vitals.respawn_s, look.yaw, world.players[Stance].flags,
            motion.position,
        )  # fmt: skip
        figures = MotionParameters()
        self._heights = (figures.height_standing, figures.height_crouched)
        self.eye: F64 = np.tile(self._camera, (clients, 1))
        self.yaw: U16 = np.zeros(clients, np.uint16)
        self.body: I32 = np.full(clients, -1, np.int32)
        self.watched: U64 = np.zeros(clients, np.uint64)
        self.mode: U8 = np.zeros(clients, np.uint8)
        self.refused = 0
        self._target: I32 = np.full(clients, -1, np.int32)  # player row that is asked for
        self._target_id: U64 = np.zeros(clients, np.uint64)
        self._until: I64 = np.zeros(clients, np.int64)  # tick at which a killcam ends; 0: it follows
        self._told: ToldArrays = (np.zeros(clients, np.uint8), np.zeros(clients, np.uint64))
        self._views: ViewArrays = (self.eye, self.yaw, self.body, self.watched, self.mode)
        self._changed: I32 = np.zeros(CHANGES_MAX, np.int32)

    def reset(self, client: int) -> None:
        """Make a client new: it follows nobody, and has been told nothing."""
        self._target[client] = -1
        self._told[0][client] = self._told[1][client] = 0

    def watch(self, client: int, entity: int) -> bool:
        """Let a client follow an entity, or none for 0; False, and counted, where it may not.

        Args:
            client: Who asks; it must be dead or only watch.
            entity: Id of a living player, off the wire: any value.
        """
        players, vitals = self._world.players, self._world.players[Vitals]
        row = int(self._row[client])
        target = players.find(entity) if entity else -1
        allowed = row >= 0 and not vitals.alive[row]
        if allowed and entity:
            allowed = target >= 0 and bool(vitals.alive[target]) and bool(self._may_follow(row, target))
        if not allowed:
            self.refused += 1
            return False
        self._target[client], self._target_id[client], self._until[client] = target, entity, 0
        return True

    def _may_follow(self, row: I32 | int, target: I32 | int) -> np.bool_:
        """Whether the players at some rows may follow those at others."""
        vitals = self._world.players[Vitals]
        team = vitals.team[row]
        friends = (team != 0) & (team == vitals.team[target])
        found: np.bool_ = friends | ((team == 0) & np.isinf(vitals.respawn_s[row]))
        return found

    def update(self) -> list[tuple[int, int, int]]:
        """Renew all columns after a step.

        Returns:
            What has changed, as (client, watched entity, mode) for those to be told, at most `CHANGES_MAX`.
        """
        self._follow_killers()
        count = renew_views(
            self._world.tick, self._world.players.slot_base, self._heights, self._camera, self._row, self._bodies,
            (self._target, self._target_id, self._until), self._views, self._told, self._changed,
        )  # fmt: skip
        return [(c, int(self.watched[c]), int(self.mode[c])) for c in self._changed[:count].tolist()]

    def _follow_killers(self) -> None:
        """Give those who died in this tick the eyes of their killers."""
        events, players = self._world.events, self._world.players
        if self._kill < 0 or self._killcam_ticks == 0:
            return
        for index in np.flatnonzero(events.kind[: events.count] == self._kill):
            killer, victim = int(events.actor[index]), int(events.target[index])
            row, target = players.find(victim), players.find(killer) if killer else -1
            client = int(self._client_of_row[row]) if row >= 0 else -1
            if client >= 0 and target >= 0 and target != row:
                self._target[client], self._target_id[client] = target, killer
                self._until[client] = self._world.tick + self._killcam_ticks
