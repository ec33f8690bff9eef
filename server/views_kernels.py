"""The kernel behind `server.views`: from where each client sees, in one pass over the clients."""

from typing import TypeAlias

import numpy as np

from sim.arrays import F64, I32, I64, U8, U16, U64, Bool
from sim.jit import kernel
from sim.motion_kernels import CROUCHING
from sim.weapons_kernels import EYE

__all__ = [
    "CAMERA", "DEAD", "FOLLOW", "KILLCAM", "OWN", "BodyArrays", "FollowArrays", "ToldArrays", "ViewArrays",
    "renew_views",
]  # fmt: skip

OWN, KILLCAM, DEAD, FOLLOW, CAMERA = 0, 1, 2, 3, 4

# of the players: ids, alive, team, seconds until they live again, yaw, stance flags, positions
BODY_TYPE = "Tuple((u8[::1], b1[::1], u1[::1], f8[::1], u2[::1], u2[::1], f8[:,::1]))"
BodyArrays: TypeAlias = tuple[U64, Bool, U8, F64, U16, U16, F64]
# whom clients follow: row (−1: nobody), its entity, tick at which a killcam ends (0: none)
FOLLOW_TYPE = "Tuple((i4[::1], u8[::1], i8[::1]))"
FollowArrays: TypeAlias = tuple[I32, U64, I64]
# what comes of it: eye, yaw, body, watched entity, mode
VIEW_TYPE = "Tuple((f8[:,::1], u2[::1], i4[::1], u8[::1], u1[::1]))"
ViewArrays: TypeAlias = tuple[F64, U16, I32, U64, U8]
TOLD_TYPE = "Tuple((u1[::1], u8[::1]))"
ToldArrays: TypeAlias = tuple[U8, U64]


@kernel
def _follows(tick: int, own: int, target: int, until: int, body: BodyArrays) -> bool:
    """Whether the dead player in a row sees through a living one: its killer while that lasts, or whom it may."""
    _, alive, teams, respawn_s, _, _, _ = body
    if not alive[target]:
        return False
    if until > 0:
        return tick < until
    if teams[own] == 0:
        return bool(np.isinf(respawn_s[own]))
    return bool(teams[own] == teams[target])


@kernel(f"(i8, i8, UniTuple(f8, 2), f8[::1], i4[::1], {BODY_TYPE}, {FOLLOW_TYPE}, {VIEW_TYPE}, {TOLD_TYPE}, i4[::1])")
def renew_views(
    tick: int, slot_base: int, heights: tuple[float, float], camera: F64, rows: I32, body: BodyArrays,
    follow: FollowArrays, view: ViewArrays, told: ToldArrays, changed: I32,
) -> int:  # fmt: skip
    """Renew what clients see from; how many are to be told that it has changed.

    Args:
        tick: The tick made last.
        slot_base: Of the players among all entities.
        heights: Of who stands and of who crouches [m].
        camera: Where who only watches sees from [m].
        rows: Row of each client's player, −1 while it has none.
        body: Columns of the players, by row.
        follow: Whom each client asks to follow; who cannot be followed any more is forgotten.
        view: Columns by client, set.
        told: Mode and watched entity that each client was told of last; set for those in `changed`.
        changed: Set: the clients to be told; no more than fit, the others wait for the next call.
    """
    ids, alive, _, respawn_s, yaws, flags, position = body
    targets, target_ids, until = follow
    eye, yaw, bodies, watched, modes = view
    count = 0
    for client in range(rows.shape[0]):
        row = rows[client]
        if row < 0:
            targets[client] = -1
            bodies[client], watched[client], modes[client] = -1, np.uint64(0), OWN
            continue
        source = row
        mode = OWN
        if alive[row]:
            targets[client] = -1
        else:
            target = targets[client]
            mode = CAMERA if np.isinf(respawn_s[row]) else DEAD
            if target >= 0 and ids[target] == target_ids[client] and _follows(tick, row, target, until[client], body):
                source = target
                mode = KILLCAM if until[client] > 0 else FOLLOW
            else:
                targets[client] = -1
        modes[client] = mode
        bodies[client] = -1 if mode in (CAMERA, DEAD) else source + slot_base
        watched[client] = np.uint64(0) if mode == CAMERA else ids[source]
        yaw[client] = yaws[source]
        for axis in range(3):
            eye[client, axis] = camera[axis] if mode == CAMERA else position[source, axis]
        if mode != CAMERA:
            eye[client, 2] += EYE * (heights[1] if flags[source] & CROUCHING else heights[0])
        if (told[0][client] != mode or told[1][client] != watched[client]) and count < changed.shape[0]:
            told[0][client], told[1][client] = mode, watched[client]
            changed[count] = client
            count += 1
    return count
