"""An owner section is left out exactly where the client has said, rightly and in time, what it predicted."""

import math
import struct

import numpy as np
import pytest

from net.claims import CONFIRMED, CORRECTED, NO_CLAIM, TOLD, OwnerClaims, owner_claim
from net.errors import NetError
from net.owner import OwnerField, OwnerLayout
from sim.arrays import I32, I64, U8

BYTES = OwnerLayout([OwnerField("predicted", "u1", 6), OwnerField("health", "u1", predicted=False)])
ONE: I64 = np.ones(1, np.int64)


def fold(value: int) -> int:
    return value >> 16 ^ value & 0xFFFF


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"a", 0xE40C292C), (b"foobar", 0xBF9CF968), (b"chongo was here!\n", 0xD49930D5)],
)
def test_the_hash_is_fnv_1a_with_its_halves_combined(text: bytes, value: int) -> None:
    layout = OwnerLayout([OwnerField("text", "u1", len(text))])
    assert owner_claim(text, layout) == fold(value)


class One:
    """The claims of one client."""

    def __init__(self) -> None:
        self.claims = OwnerClaims(1, BYTES)

    def check(self, tick: int, section: bytes, claim: int | None, *, acked: int, interval: int = 1) -> tuple[int, int]:
        sections: U8 = np.zeros((1, 128), np.uint8)
        sections[0, : len(section)] = list(section)
        lengths: I32 = np.array([len(section)], np.int32)
        told = NO_CLAIM if claim is None else claim
        self.claims.check(tick, sections, lengths, claim=told * ONE, acked_tick=acked * ONE, interval=interval * ONE)
        return int(self.claims.outcome[0]), int(lengths[0])


STATE, OTHER = b"foobar\x64", b"foobaz\x64"
RIGHT = fold(0xBF9CF968)


def known() -> One:
    """A client that has acknowledged tick 11, and all that is in `STATE`."""
    one = One()
    assert one.check(10, STATE, RIGHT, acked=-1) == (TOLD, 7)  # nothing was acknowledged yet
    assert one.check(12, STATE, RIGHT, acked=11) == (CONFIRMED, 0)
    return one


def test_a_right_claim_spares_the_section_and_a_wrong_or_missing_one_does_not() -> None:
    one = known()
    assert one.check(13, OTHER, RIGHT, acked=11) == (CORRECTED, 7)
    assert one.check(14, STATE, None, acked=11) == (TOLD, 7)
    assert one.check(15, STATE, RIGHT ^ 0x8000, acked=11) == (CORRECTED, 7)
    assert one.check(16, STATE, RIGHT, acked=11) == (CONFIRMED, 0)


def test_what_is_not_predicted_is_sent_from_its_change_until_acknowledged() -> None:
    one = known()
    hurt = b"foobar\x32"
    assert one.check(13, hurt, RIGHT, acked=12) == (TOLD, 7)
    assert one.check(14, hurt, RIGHT, acked=12) == (TOLD, 7)
    assert one.check(15, STATE, RIGHT, acked=13) == (TOLD, 7)  # changed again: 13 no longer tells
    assert one.check(16, STATE, RIGHT, acked=14) == (TOLD, 7)
    assert one.check(17, STATE, RIGHT, acked=15) == (CONFIRMED, 0)


@pytest.mark.parametrize("value", [0.0, 0.25, 0.999, 1.0, 1.5, 2.0, 99.999, 100.0, 124.5, 2.0**40 + 0.5, 2.0**51])
def test_of_numbers_with_a_fraction_only_the_whole_part_is_told(value: float) -> None:
    claims = OwnerClaims(1, OwnerLayout([OwnerField("p", "u1"), OwnerField("health", "f8", predicted=False)]))

    def outcome(tick: int, health: float) -> int:
        sections: U8 = np.zeros((1, 128), np.uint8)
        sections[0, 1:9] = list(struct.pack("<d", health))
        claim = owner_claim(b"\0", claims.layout) * ONE
        lengths: I32 = np.full(1, 9, np.int32)
        claims.check(tick, sections, lengths, claim=claim, acked_tick=(tick - 1) * ONE, interval=ONE)
        return int(claims.outcome[0])

    outcome(10, value)
    assert outcome(12, value) == CONFIRMED
    whole = math.floor(value)
    assert outcome(13, float(np.nextafter(whole + 1.0, 0.0))) == CONFIRMED
    assert outcome(14, float(whole)) == CONFIRMED
    assert outcome(15, whole + 1.0) == TOLD


def test_a_change_between_two_snapshots_is_not_missed() -> None:
    one = known()
    hurt = b"foobar\x32"
    assert one.check(13, hurt, RIGHT, acked=12, interval=2)[0] == TOLD  # no snapshot at this tick
    assert one.check(14, hurt, RIGHT, acked=12, interval=2) == (TOLD, 7)
    assert one.check(16, hurt, RIGHT, acked=14, interval=2) == (CONFIRMED, 0)


def test_who_has_no_section_for_a_while_is_told_everything_afterwards() -> None:
    one = known()
    assert one.check(13, b"", RIGHT, acked=12) == (TOLD, 0)
    assert one.check(14, STATE, RIGHT, acked=12) == (TOLD, 7)
    assert one.check(15, STATE, RIGHT, acked=13) == (CONFIRMED, 0)


def test_only_snapshots_that_were_sent_are_counted() -> None:
    one = known()
    nobody: I32 = np.zeros(0, np.int32)
    one.claims.note_sent(nobody)
    one.claims.note_sent(np.zeros(1, np.int32))
    one.check(13, OTHER, RIGHT, acked=12)
    one.claims.note_sent(np.zeros(1, np.int32))
    assert one.claims.counts() == {"owner_confirmed": 1, "owner_corrected": 1, "owner_told": 0}


def test_arrays_of_another_size_are_refused() -> None:
    claims = OwnerClaims(2, BYTES)
    two: I64 = np.ones(2, np.int64)
    with pytest.raises(NetError, match="expected"):
        claims.check(
            1, np.zeros((2, 128), np.uint8), np.zeros(2, np.int32), claim=ONE, acked_tick=two, interval=two
        )  # fmt: skip
    with pytest.raises(NetError, match="at least 1"):
        OwnerClaims(0, BYTES)
