"""Kernels behind `net.claims`: the hash by which a client says what it predicted, and the server's comparison."""

import numpy as np

from net.bytes_kernels import copy_bytes
from sim.arrays import I32, I64, U8
from sim.jit import kernel

__all__ = ["CHANGED", "CONFIRMED", "CORRECTED", "NO_CLAIM", "OUTCOMES", "TOLD", "check_claims", "claim_of"]

NO_CLAIM = -1

# Outcomes of a check; anything but CONFIRMED means that the owner section must be sent.
CONFIRMED = 0
CORRECTED = 1  # the claim is wrong
TOLD = 2  # no claim for this tick, or something else in the section changed that the client may not know yet
OUTCOMES = 3

CHANGED = 0  # row of `state`: tick from which on the fields that are not predicted are as they are now
FNV_BASIS = 2166136261
FNV_PRIME = 16777619
LOW_32 = 0xFFFFFFFF
MANTISSA = (1 << 52) - 1


@kernel(counted=False)
def claim_of(state: U8, size: int) -> int:
    """FNV-1a of 32 bits over the first `size` bytes, its halves combined by exclusive or (FNV: "xor-folding").

    One multiplication modulo 2^32 a byte, which every language has (`Math.imul` in JavaScript).
    """
    value = FNV_BASIS
    for byte in range(size):
        value = ((value ^ int(state[byte])) * FNV_PRIME) & LOW_32
    return (value >> 16) ^ (value & 0xFFFF)


@kernel(counted=False)
def _whole(section: U8, at: int) -> int:
    """The whole part of a little-endian float64 that is not negative and below 2^52; of others any number."""
    bits = 0
    for byte in range(8):
        bits |= int(section[at + byte]) << (8 * byte)
    exponent = ((bits >> 52) & 0x7FF) - 1023
    return ((bits & MANTISSA) | (1 << 52)) >> (52 - min(exponent, 52)) if exponent >= 0 else 0


@kernel(counted=False)
def _changed(rest: I64, section: U8, told: U8) -> bool:
    """Whether a field that is not predicted has changed, of float64 the whole part."""
    for field in range(rest.shape[0]):
        at, size = int(rest[field, 0]), int(rest[field, 1])
        if rest[field, 2]:
            if _whole(section, at) != _whole(told, at):
                return True
        else:
            for byte in range(at, at + size):
                if section[byte] != told[byte]:
                    return True
    return False


@kernel(counted=False)
def _follow(rest: I64, first: int, size: int, section: U8, told: U8) -> bool:
    """Remember the fields that are not predicted; whether one has changed, of float64 the whole part."""
    start = np.uint64(first)
    same = True
    for byte in range(np.uint64(max(size - first, 0))):
        same &= section[start + byte] == told[start + byte]
    if same:  # nearly always, and quickly seen
        return False
    changed = _changed(rest, section, told)
    copy_bytes(told, first, section, first, size - first)
    return changed


@kernel("(i8, i8, i8[:,::1], u1[:,::1], i4[::1], Tuple((i8[::1], i8[::1], i8[:])), i8[:,::1], u1[:,::1], u1[::1])")
def check_claims(
    tick: int, predicted_bytes: int, rest: I64, sections: U8, lengths: I32, clients: tuple[I64, I64, I64], state: I64,
    told: U8, outcome: U8,
) -> None:  # fmt: skip
    """Say of every client whether the owner section of this tick must be sent.

    Every snapshot since a change carries the section until one of them is acknowledged, so that the newest
    acknowledgement alone tells whether the client knows of it.

    Args:
        tick: The tick just made.
        predicted_bytes: How much of a section is predicted.
        rest: Offset and bytes of each other field, and 1 for float64, int64 (fields, 3).
        sections: Owner sections of this tick, uint8 (clients, ≥ longest).
        lengths: Bytes of each, 0 for none.
        clients: Claim for this tick or `NO_CLAIM`; tick of the newest snapshot acknowledged, −1 for none; ticks per
            snapshot.
        state: Rows as named above, int64 (1, clients).
        told: The sections' other fields as they were last, uint8 (clients, ≥ longest).
        outcome: `CONFIRMED`, `CORRECTED` or `TOLD` for each client, uint8.
    """
    claim, acked, interval = clients
    for client in range(lengths.shape[0]):
        outcome[client] = TOLD
        size = int(lengths[client])
        if size == 0 or _follow(rest, predicted_bytes, size, sections[client], told[client]):
            state[CHANGED, client] = tick
        # Clients without a snapshot in this tick (as `Replication.encode` has it) are not worth a hash.
        skipped = (client + tick) % max(int(interval[client]), 1) != 0
        if skipped or claim[client] < 0 or state[CHANGED, client] > acked[client]:
            continue
        right = claim[client] == claim_of(sections[client], predicted_bytes)
        outcome[client] = CONFIRMED if right else CORRECTED
