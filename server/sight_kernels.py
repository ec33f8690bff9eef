"""What follows from visibility for each interest slot: whether it may be told, and its weight by the view cone."""

from typing import Final

from sim.arrays import F64, I32, U8
from sim.jit import kernel
from sim.visibility_kernels import DOUBTED

__all__ = ["BEHIND", "BESIDE_M", "IN_VIEW", "tell_views"]

IN_VIEW: Final = 16  # the usual weight of a slot
BEHIND: Final = 6  # outside the cone: a third of it, so that a turn finds nothing older than a few snapshots
BESIDE_M: Final = 4.0  # nearer than this nothing is behind: a step back brings it into view


@kernel(
    "(i4[::1], i4[:,::1], u1[:,::1], UniTuple(i8, 2), Tuple((f8[:,::1], f8[:,::1], i4[::1])), f8[:,::1], u1[:,::1], "
    "u1[:,::1], i4[:,::1])",
    counted=False,
)
def tell_views(
    due: I32,
    candidate: I32,
    found: U8,
    judged: tuple[int, int],
    views: tuple[F64, F64, I32],
    position: F64,
    out_told: U8,
    out_factor: U8,
    out_counts: I32,
) -> None:
    """Say for each slot of the clients that are due whether it may be told, and its weight.

    Args:
        due: Clients.
        candidate: Row of the entity in each slot, −1 for none, shape (clients, slots).
        found: What visibility found of each, shape (clients, slots).
        judged: First row that visibility decides on, and the one behind the last; others may always be told.
        views: Eyes [m], shape (clients, 3); cosine and sine of the yaw and cosine of the half of the view cone, shape
            (clients, 3); row of the body that a client sees through, −1 for none.
        position: Of all entities [m], shape (entities, 3).
        out_told: 1 where it may be told, else 0.
        out_factor: `IN_VIEW` or `BEHIND`.
        out_counts: Told and hidden entities of each client, shape (clients, 2).
    """
    eye, facing, body = views
    for at in range(len(due)):
        client = int(due[at])
        told, hidden = 0, 0
        for slot in range(candidate.shape[1]):
            row = int(candidate[client, slot])
            if row < 0:
                out_told[client, slot], out_factor[client, slot] = 0, IN_VIEW
                continue
            may = not judged[0] <= row < judged[1] or found[client, slot] >= DOUBTED or row == body[client]
            out_told[client, slot] = may
            told += may
            hidden += not may
            x, y = position[row, 0] - eye[client, 0], position[row, 1] - eye[client, 1]
            square = x * x + y * y
            along = x * facing[client, 0] + y * facing[client, 1]
            edge = facing[client, 2]
            # along ≥ edge · distance, without the root: squares keep their order by the signs.
            inside = along * abs(along) >= edge * abs(edge) * square or square < BESIDE_M * BESIDE_M
            out_factor[client, slot] = IN_VIEW if inside else BEHIND
        out_counts[client, 0], out_counts[client, 1] = told, hidden
