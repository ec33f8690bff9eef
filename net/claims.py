"""Owner claims, the server's side: whose owner section need not be sent, because the client predicted it bit by bit.

A COMMAND may carry a claim: 16 bits of a hash over the predicted fields of the owner section as the client has them
after the input of the command's tick (`net.claims_kernels.claim_of`, docs/protocol.md). When the server has made that
tick with that input, in time, it compares. Equal: the client needs no correction, and the snapshot goes without the
section (95 bytes for the arena, of some 440; docs/adr/0009-owner-claims.md). Different, or no claim (late or lost
command, a client that does not predict): the section goes whole. A wrong state passes with a chance of 1 in 65,536 for
one snapshot, and its next claims are wrong as well.

The fields that are not predicted (health) are sent from their change until a snapshot since is acknowledged. Of float64
fields only the whole part counts: health above 100 ebbs away by 1/60 at every tick, and with each of these changes told
no section was spared for the first half minute of a life.

A client that lies about what it predicted harms itself only: it gets no corrections, or some that it does not need.
Nothing of a claim enters the world.
"""

import numpy as np

from net.claims_kernels import CONFIRMED, CORRECTED, NO_CLAIM, OUTCOMES, TOLD, check_claims, claim_of
from net.errors import NetError
from net.owner import OwnerLayout
from net.snapshots import OWNER_BYTES_MAX
from sim.arrays import I32, I64, U8

__all__ = ["CONFIRMED", "CORRECTED", "NO_CLAIM", "TOLD", "OwnerClaims", "owner_claim"]


def owner_claim(section: bytes, layout: OwnerLayout) -> int:
    """The claim for an owner section, 0 … 65,535."""
    return claim_of(np.frombuffer(section, np.uint8).copy(), layout.predicted_bytes)


class OwnerClaims:
    """Compares the claims of all clients of a host with what the server has made.

    Attributes:
        outcome: Of the last `check`, by client: `CONFIRMED` (no section needed), `CORRECTED` or `TOLD`, uint8.
        totals: Snapshots sent so far by outcome, int64 (3,).
    """

    def __init__(self, clients: int, layout: OwnerLayout) -> None:
        """Makes room for `clients` clients.

        Raises:
            NetError: There is not at least one.
        """
        if clients < 1:
            raise NetError(f"claims: {clients} clients: at least 1")
        self.clients, self.layout = clients, layout
        self.outcome: U8 = np.full(clients, TOLD, np.uint8)
        self.totals: I64 = np.zeros(OUTCOMES, np.int64)
        self._state: I64 = np.zeros((1, clients), np.int64)
        rest = [field for field in layout.fields if not field.predicted]
        self._rest: I64 = np.array(
            [(layout.offsets[field.name], field.size, field.dtype == "f8" and field.count == 1) for field in rest],
            np.int64,
        ).reshape(-1, 3)
        self._told: U8 = np.zeros((clients, OWNER_BYTES_MAX), np.uint8)

    def check(
        self, tick: int, sections: U8, lengths: I32, *, claim: I64, acked_tick: I64, interval: I64
    ) -> None:  # fmt: skip
        """Set `outcome`, and the lengths of sections that need not be sent to 0.

        Args:
            tick: The tick just made.
            sections: Owner sections, uint8 (clients, 128), C-contiguous.
            lengths: Bytes of each, 0 for none; int32 (clients,).
            claim: `InputQueues.claim`; acked_tick: `InputQueues.acked_tick`.
            interval: Ticks per snapshot, int64 (clients,): who is not due is not compared.

        Raises:
            NetError: The arrays are not of this many clients.
        """
        shape = (self.clients,)
        if sections.shape != (self.clients, OWNER_BYTES_MAX) or any(
            array.shape != shape for array in (lengths, claim, acked_tick, interval)
        ):
            raise NetError(f"claims: sections of shape {sections.shape}; expected ({self.clients}, {OWNER_BYTES_MAX})")
        columns = (claim, acked_tick, interval)
        check_claims(
            tick, self.layout.predicted_bytes, self._rest, sections, lengths, columns, self._state, self._told,
            self.outcome,
        )  # fmt: skip
        lengths[self.outcome == CONFIRMED] = 0

    def note_sent(self, clients: I32) -> None:
        """Count the snapshots that went out after the last `check`.

        Args:
            clients: Their clients, int32.
        """
        self.totals += np.bincount(self.outcome[clients], minlength=OUTCOMES)

    def counts(self) -> dict[str, int]:
        """Totals by name: `owner_confirmed`, `owner_corrected`, `owner_told`."""
        return {
            "owner_confirmed": int(self.totals[CONFIRMED]),
            "owner_corrected": int(self.totals[CORRECTED]),
            "owner_told": int(self.totals[TOLD]),
        }
