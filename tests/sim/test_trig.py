import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.trig import SINE_TABLE, TURN, view_direction, yaw_towards
from tests.reference.trig import quarter_wave


def test_every_entry_is_the_nearest_float64() -> None:
    assert SINE_TABLE.tolist() == quarter_wave(16384)


@pytest.mark.parametrize(
    ("yaw", "expected"), [(0, (1, 0, 0)), (16384, (0, 1, 0)), (32768, (-1, 0, 0)), (49152, (0, -1, 0))]
)
def test_quarter_turns_are_exact(yaw: int, expected: tuple[int, int, int]) -> None:
    assert view_direction(yaw, 0) == expected


def test_the_other_quarters_mirror_the_first_bit_for_bit() -> None:
    for angle in range(0, TURN, 97):
        x, y, _ = view_direction(angle, 0)
        assert view_direction((TURN - angle) % TURN, 0) == (x, -y, 0.0)
        assert view_direction((angle + TURN // 2) % TURN, 0) == (-x, -y, 0.0)
        assert abs(x - math.cos(angle * math.tau / TURN)) < 1e-15


def test_direction_is_of_unit_length_and_pitch_points_up() -> None:
    for yaw, pitch in [(123, 4567), (40000, -16383), (65535, 16383)]:
        x, y, z = view_direction(yaw, pitch)
        assert abs(x * x + y * y + z * z - 1.0) < 1e-15
        assert (z > 0) == (pitch > 0)


@given(st.integers(0, TURN - 1), st.floats(0.001, 1e6))
def test_bearing_finds_the_yaw_back(yaw: int, length: float) -> None:
    x, y, _ = view_direction(yaw, 0)
    off = (yaw_towards(x * length, y * length) - yaw) % TURN
    assert off in {0, 1, TURN - 1}


def test_bearing_of_nothing_is_zero() -> None:
    assert yaw_towards(0.0, 0.0) == 0
    assert yaw_towards(float(np.nan), 1.0) == 0
